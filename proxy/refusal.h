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
/* The ErrorResponse of a statement that we cancelled, in place of PostgreSQL's own: 57014 as well,
 * with the cause and the time to come again. */
MUST_USE bool refusal_put_cancelled(const struct client *c, enum pool_cull why, struct buf *b);
/* The last words to a client whose server connection had to be closed: FATAL 57P01. */
MUST_USE bool refusal_put_terminated(const struct client *c, enum pool_cull why, struct buf *b);
/* One of REFUSAL_CODES. */
const char *refusal_code(uint32_t i);

#endif
