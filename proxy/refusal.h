/* What a client is told that does not get a server: class, reason, when to come again.
 *
 * SQLSTATEs are chosen by what drivers do with them: connection pools throw a connection away on
 * 08xxx and 57P01-57P03, which would turn a shed statement into a storm of logins, and object
 * mappers repeat 40xxx at once; 53xxx is taken for "not now" and keeps the connection. At login
 * 57P03 sends libpq to the next host of its list. */
#ifndef PROXY_REFUSAL_H
#define PROXY_REFUSAL_H

#include "proxy/client.h"

/* Writes the ErrorResponse for c->waiter.refusal; FATAL at login. */
MUST_USE bool refusal_put(const struct client *c, bool at_login, struct buf *b);

#endif
