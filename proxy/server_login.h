/* How a connection to PostgreSQL comes up: name, address, TLS, password, greeting. Never blocks. */
#ifndef PROXY_SERVER_LOGIN_H
#define PROXY_SERVER_LOGIN_H

#include "proxy/server.h"

/* Begins a connection for a route in this loop. Progress comes through on_event(s), which must call
 * server_login_step(); also when there was no event but an address was found. NULL: out of memory.
 */
struct server *server_login_open(struct hub *h, struct route *r, net_callback on_event);

enum server_login_verdict {
    SERVER_LOGIN_MORE,   /* wait */
    SERVER_LOGIN_DONE,   /* logged in, state still LOGIN: the pool is to be told */
    SERVER_LOGIN_FAILED, /* err and failure say why; shut it, and tell the pool */
};
MUST_USE enum server_login_verdict server_login_step(struct server *s, short what,
                                                     enum pool_failure *failure, struct err *err);
/* For the sweep: past server_connect_timeout. */
bool server_login_late(const struct server *s, uint64_t now_us);
/* Frees what only the login needed. */
void server_login_end(struct server *s);

#endif
