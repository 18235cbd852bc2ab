/* How a connection to PostgreSQL comes up: name, address, TLS, password, greeting. Never blocks. */
#ifndef PROXY_SERVER_LOGIN_H
#define PROXY_SERVER_LOGIN_H

#include "pool/facts.h"
#include "proxy/server.h"

/* Begins a connection for a route in this loop. Progress comes through on_event(s), which must call
 * server_login_step(); also when there was no event but an address was found. NULL: out of memory.
 */
struct server *server_login_open(struct hub *h, struct route *r, net_callback on_event);

/* What it sends ahead of us is to be little: before the first step. */
void server_login_bound(struct server *s);

/* A login that only looks what the server is, in no pool. */
struct server_scout {
    struct upstream *upstream; /* where to, instead of the route's own: its line must name it */
    /* set when it is DONE */
    enum upstream_role role;
    bool read_only;
    uint64_t lag_us;
};
/* The same for a scout, with the route's user and password. Its owner, not the sweep, sees to it
 * that it ends; and it is told to no pool. scout must stay put until then. */
struct server *server_login_scout(struct hub *h, struct route *r, struct server_scout *scout,
                                  net_callback on_event);

enum server_login_verdict {
    SERVER_LOGIN_MORE,   /* wait */
    SERVER_LOGIN_DONE,   /* logged in, state still LOGIN: the pool is to be told */
    SERVER_LOGIN_FAILED, /* err and failure say why; shut it, and tell the pool */
};
MUST_USE enum server_login_verdict server_login_step(struct server *s, short what,
                                                     enum pool_failure *failure, struct err *err);
/* For the sweep: past server_connect_timeout. */
bool server_login_late(const struct server *s, uint64_t now_us);
/* What a server that is DONE said it is (UNKNOWN: it does not say, before PostgreSQL 14). */
enum upstream_role server_login_role(const struct server *s, bool *read_only);
/* Frees what only the login needed. */
void server_login_end(struct server *s);

#endif
