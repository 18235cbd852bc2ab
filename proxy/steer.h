/* Which of its database's hosts a client is on: looked at when a transaction begins, and when what
 * is known of the hosts has changed (hosts.c), for those that wait as well.
 *
 *       transaction begins --right host?--> ask its pool ----> [granted]
 *               |  no: another is        ^     | queued
 *               +--> move to its route --+ <---+ hosts changed: out of the queue, look again
 *               |  no: none is                 | refused: nobody answers there
 *               +--> STRAYS, in no queue <-----+
 *                        | hosts changed, or now and then: look again
 *                        +--> its deadline: refused, and told what each host is
 *
 * proxy->standing_n counts the changes, so that a transaction costs one load and one comparison
 * here while nothing happens. A client moves only while it holds no server: with a transaction, a
 * session (pool_mode session) or a running statement it stays where it is. What it takes along is
 * its own: settings, prepared statements, cancel key.
 *
 * Only a client's own class sends it to a replica (class_i). A transaction that was demoted for a
 * COPY or a cursor stays: it may want to read what its client has just written. */
#ifndef PROXY_STEER_H
#define PROXY_STEER_H

#include "proxy/client.h"
#include "proxy/route.h"

/* The present count of changes. Whoever has read it sees what the changes were. */
static inline uint32_t steer_standing(const struct proxy *p)
{
    return atomic_load_explicit(&p->standing_n, memory_order_acquire);
}
/* What a client was placed by is what holds still. */
static inline bool steer_is_placed(const struct client *c)
{
    return c->placed_n == steer_standing(c->hub->proxy);
}
/* What is known of the hosts has changed: any thread. */
void steer_changed(struct proxy *p);

/* The host for a client that logs in, of whom only the database is known. */
uint32_t steer_first(struct hub *h, const struct config_database *db);
/* Places a client that holds no server and is in no queue. False: nobody is what it wants, and it
 * waits for that (it strays) in state QUEUED or WELCOME. */
MUST_USE bool steer_place(struct client *c);
/* Whether a client that is to be given a server here still belongs here. */
MUST_USE bool steer_stays(struct client *c);
/* It was refused because nobody answers where it waited. True: it strays instead. */
MUST_USE bool steer_waits_on(struct client *c);
/* It strays no more. */
void steer_forget(struct client *c);
/* When it has waited long enough; 0: never. */
uint64_t steer_deadline(struct client *c);
/* For the sweep of a loop. */
void steer_sweep(struct hub *h, uint64_t now_us);
/* What a server said of itself at login, before its pool is told. */
void steer_note_role(struct hub *h, const struct route *r, enum upstream_role role, bool read_only);

/* Why clients changed hosts. */
#define STEER_REASONS(X)                                                                           \
    X(ROLE, "role")     /* the host is not what they want any more */                              \
    X(DOWN, "down")     /* it does not answer */                                                   \
    X(LAG, "lag")       /* it lags more than their class bears */                                  \
    X(BETTER, "better") /* another is their first choice */                                        \
    X(CONFIG, "config") /* its line, or their class, has changed */
enum steer_reason {
#define X(reason, name) STEER_##reason,
    STEER_REASONS(X)
#undef X
        STEER_REASONS_N
};
const char *steer_reason_name(enum steer_reason reason);

#endif
