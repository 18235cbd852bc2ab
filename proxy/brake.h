/* The next statement of a lease that goes on, held back: between two transactions of a session, or
 * two statements of a transaction that only reads. What has no server yet waits in the pool's
 * queue; this is the same for those who would never come there again.
 *
 *   answered --> its client's next statement --[class held, or it owes a rest]--> rests --> sent
 *                                         \--> sent         the reason is gone, or its time is up
 *
 * Why is pool/brake.h's. Its time: BRAKE_TX_US inside a transaction, because it keeps a snapshot
 * and may be under an idle_in_transaction_session_timeout that is not known here; BRAKE_US between
 * two. Then one statement passes, whatever the breaker says.
 *
 * Never: what ends a transaction or the connection; a transaction that may have written, or has
 * failed; a lease that others wait for, or that may hold advisory locks; anything but the beginning
 * of a statement with nothing owed (so no COPY IN, and no batch that has begun); replication; and
 * in a transaction a Bind of a statement whose text is not known, as it may be a COMMIT.
 *
 * A client that rests stays LINKED, its statement kept in client->in like one that waits for a
 * cancel of ours (cull.h); the sweep lets it go on. A protected class pays one load of its
 * server's. */
#ifndef PROXY_BRAKE_H
#define PROXY_BRAKE_H

#include "proxy/client.h"
#include "proxy/server.h"

/* s is linked, or its lease has changed its class. */
void brake_begin(struct server *s);
void brake_set_class(struct server *s, uint8_t class_i);
/* A demotion has ended. What comes next is looked at before it is sent: of a session that does one
 * COPY after the other each would begin as a user's, and none be held. */
void brake_warn(struct server *s);
/* Its lease ends, or its client leaves it. */
void brake_end(struct server *s);
/* A statement of its has been answered, that took PostgreSQL so long. */
void brake_owe(struct server *s, uint64_t took_us);
bool brake_look(struct client *c, struct view in);
/* `in`, what c sends next, has to wait: until flow_go_on(), which the sweep calls. */
static inline bool brake_holds(struct client *c, struct view in)
{
    return c->server->brake.works && brake_look(c, in);
}

#endif
