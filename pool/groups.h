/* Sessions that need servers together: the connections of one parallel job.
 *
 * `pg_dump -j 4` takes five: its leader exports a snapshot and then sits in its transaction, and
 * each worker holds one transaction to the very end. None of them can end before all of them have a
 * server. `pg_basebackup -X stream` takes two, and reads nothing from the first before it has the
 * second. A dispatcher that does not know this lets the leaders of two dumps and half of their
 * workers in, and there they stand, for ever.
 *
 * The proxy marks the sessions of a job with the same number (class_group_of()). In a pool, a group
 * is *admitted* while it holds a lease there; its first session gets in like anybody else. From
 * then on its sessions are *members*:
 *
 *   - they go before newcomers of their class (as if they had come a minute earlier: not for ever);
 *   - they are not refused because a queue is full, their class is being shed, or their class's
 *     queue_deadline has passed; query_wait_timeout counts where the operator wrote it;
 *   - for them, leases of groups that run nothing do not count against what their class may have,
 *     be that `max` or the breaker's word. What runs does: a job that is let in under a breaker
 *     gets on one table at a time, but it gets on;
 *   - when nothing of their group has run for a second, one of them a second gets in whatever its
 *     class may have, also on places that are reserved for others and not used, up to pool_size;
 *     but where protected clients use the pool, one place stays theirs;
 *   - in a replication pool only places count: a stream of WAL belongs to its base backup.
 *
 * What cannot be helped is told: where a pool is full of leases that all stand still, the youngest
 * group that waits there is refused after ten seconds, so that the others can go on; and a group
 * that stands because others sit on its places, after five minutes.
 *
 * What runs is looked at by the tick; so a right is at most a tenth of a second old when it is
 * used. Everything here needs the upstream's lock.
 */
#ifndef POOL_GROUPS_H
#define POOL_GROUPS_H

#include "pool/pool.h"

struct lane;
struct turn;

enum {
    POOL_GROUPS_MAX = 16,            /* admitted in one pool; further ones are no groups */
    GROUPS_STILL_US = US_PER_S,      /* nothing ran for so long: one more gets in */
    GROUPS_STUCK_US = 10 * US_PER_S, /* ... and there is no place at all: somebody has to give up */
    GROUPS_USED_US = 5 * US_PER_S, /* protected clients that had a server so lately use the pool */
    GROUPS_PATIENCE_US = 300 * US_PER_S, /* ... and others do not give theirs back: a dump that
                                          * stands holds its snapshot, and VACUUM with it */
};

struct pool_group {
    uint64_t id;                /* 0: free */
    struct pool_server *leases; /* list; never empty in a group that is not free */
    uint32_t leased_n;
    uint64_t since_us;       /* its first lease */
    uint64_t still_since_us; /* no lease of it has run anything since, nor was another let in
                              * because of that; 0: something runs */
};

/* The admitted group a waiter is of, or NULL. */
struct pool_group *groups_find(struct pool *p, uint64_t id);
/* A lease begins (s->group is set, perhaps to a group that is new here), or ends. */
void groups_lease(struct turn *t, struct pool_server *s);
void groups_unlease(struct turn *t, struct pool_server *s);
/* A waiter has entered its lane: a member, if its group is admitted. */
void groups_enter(struct turn *t, struct pool_waiter *w);
/* Looks at what runs. */
void groups_tick(struct turn *t);
/* Whether a member may have one more server, and one more than coming to its class if `opening`. */
MUST_USE bool groups_may(const struct turn *t, const struct pool_waiter *w, bool opening);
/* It was let in by groups_may(). */
void groups_helped(struct turn *t, const struct pool_waiter *w);
/* A member of p that waits in vain, with group_n set; or NULL. */
struct pool_waiter *groups_victim(struct turn *t, struct pool *p);

#endif
