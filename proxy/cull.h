/* Statements that pgweir itself ends: marked by the pool (pool/cull.h), cancelled by the loop they
 * run in, and, where that has no effect and their class says so, terminated.
 *
 *   marked --CancelRequest--> culled --its answer, rewritten if it is 57014--> over
 *                               \--10 s, on_overload has terminate--> connection closed
 *
 * A request that cannot be sent (no descriptor, refused, too many under way) is tried again, for as
 * long as the statement runs.
 *
 * A culled statement is read to its end without pacing: PostgreSQL looks for a cancel only where it
 * does not wait for a full socket. */
#ifndef PROXY_CULL_H
#define PROXY_CULL_H

#include "proxy/client.h"
#include "proxy/server.h"

const char *cull_name(enum pool_cull why);
/* The sweep's look at a server with a client. The client may have ended afterwards. */
void cull_look(struct server *s, uint64_t now_us);
/* A statement ends, or another one begins: what was decided about it has no meaning any more. */
static inline void cull_over(struct server *s)
{
    s->culled = POOL_CULL_NOT;
    s->cancel_asked = s->cancel_wanted = s->cull_sent = false;
}
/* A request of ours is on its way, and must not hit what the client sends next. */
static inline bool cull_holds(const struct server *s)
{
    return s->culls_n > 0;
}

#endif
