/* Who waits, class by class. Below a class: the pools with waiters of it (lanes), in turns by the
 * time their leases took; below a lane: 64 hashed fairness keys, likewise; below a key: first come,
 * first served.
 *
 *     queue (class) --> lane (pool) --> key --> waiters
 *                   \-> key (over all pools): how much it has leased, who waits, in order of
 * arrival
 *
 * A lane is in exactly one of these places, and all of them are O(1) to enter and leave:
 *
 *   EMPTY    nobody waits
 *   READY    in its class's ring: may be served as soon as its class may lease
 *   HELD     its pool must change first: a server comes free, a login ends, the pool is resumed
 *   STALLED  it needs a new server, but its class has as many to come as it may lease
 *   BLOCKED  it needs a new server, and a scope (upstream, database, user) has no place for it
 *
 * So what cannot be served costs nothing: an event wakes the lanes of its own pool, and one lane
 * per class of a scope in which a place came free.
 *
 * Time, not turns, is what is shared: a key or a lane is charged the median lease when it is
 * served, and what the lease really took when that ends, as far as it may owe that. A key holds at
 * most half of its class while others wait.
 *
 * First come, first served, unless the queue has stood for 5 s *and* its clients give up: then the
 * newest first, since whoever waited longest is next to leave, and serving him is wasted; after
 * 10 s of it the old ones are refused. Clients that wait patiently keep their order for ever: a
 * benchmark of 1,000 clients on 20 servers has a standing queue too, and nobody there is in a
 * hurry.
 */
#ifndef POOL_QUEUE_H
#define POOL_QUEUE_H

#include "pool/pool.h"

enum {
    QUEUE_KEYS = 64,
    QUEUE_LIFO_US = 5 * US_PER_S,
    QUEUE_EXPIRE_US = 10 * US_PER_S,
    QUEUE_EXPIRE_AGE_US_MIN = 300 * US_PER_MS,
    QUEUE_EXPIRE_LEASES = 10, /* older than so many median leases, that is */
    QUEUE_GONE_MIN = 10,      /* so many gave up in the last seconds ... */
    QUEUE_GONE_SHARE = 10,    /* ... and one in so many: they are in a hurry */
    QUEUE_LANE_TRIES = 8,     /* lanes in debt passed over before the next is served anyway */
    QUEUE_LANE_DEBT = 64,     /* median leases a lane may owe: what it took beyond is forgiven */
    QUEUE_KEY_DEBT_US = 10 * US_PER_S, /* a key may owe: nobody is last for an hour because of an
                                        * hour's statement */
    QUEUE_LOCAL_US = US_PER_MS, /* a waiter of the server's own loop may be so much younger: moving
                                 * between loops costs tens of microseconds, a millisecond is less
                                 * than any client notices */
    QUEUE_LOCAL_TRIES = 8,
    QUEUE_MEMBER_US = 60 * US_PER_S, /* a member of an admitted group (pool/groups.h) goes before
                                      * whoever has not waited so much longer */
};

#define LANE_STATES(X) X(EMPTY) X(READY) X(HELD) X(STALLED) X(BLOCKED)
enum lane_state {
#define X(state) LANE_##state,
    LANE_STATES(X)
#undef X
};

/* One pool's waiters of one class. Lives as long as its pool. */
struct lane {
    struct pool *pool;
    enum lane_state state;
    uint8_t class_i;
    uint8_t scope_i; /* BLOCKED: of which scope of the pool */
    bool served;     /* since it was last BLOCKED: then it queues up at the end */
    bool called;     /* READY because a place came free: it need not queue up for one */
    struct lane *prev, *next;
    uint64_t left_us; /* when its last lease ended */
    int64_t credit_us;
    uint32_t reference_n; /* what it adds to its class's reference (pool/rights.c) */
    uint32_t waiting_n;
    uint64_t keys_mask; /* keys with waiters */
    struct pool_waiter *keys[QUEUE_KEYS];
    struct pool_waiter *members; /* of admitted groups, oldest first: in no key */
};

struct queue_key {
    uint64_t served_us; /* virtual time */
    uint32_t leased_n, waiting_n;
    struct pool_waiter *all; /* its waiters in all pools, parked ones included, oldest first */
};

struct queue {
    struct lane *ready;   /* ring */
    struct lane *stalled; /* list */
    uint32_t waiting_n;   /* parked ones included */
    uint32_t leased_n;
    uint64_t keys_mask;
    uint64_t key_clock_us;
    struct queue_key keys[QUEUE_KEYS];
    struct pool_waiter *members; /* of admitted groups, in all pools */
    uint64_t standing_since_us;  /* somebody has waited at every moment since */
    uint64_t lease_us;           /* about the median: steps of a sixteenth up or down */
    double gone_n, served_n;     /* of those who waited; recent ones weigh more */
    bool lifo;
};

/* Joins the class; the lane only unless parked. w->since_us and w->key_i are set. */
void queue_join(struct queue *q, struct pool_waiter *w, uint64_t now_us);
void queue_leave(struct queue *q, struct pool_waiter *w, bool served, uint64_t now_us);
void queue_lane_add(struct lane *l, struct pool_waiter *w);
void queue_lane_remove(struct lane *l, struct pool_waiter *w);
/* A waiter in its lane becomes a member of an admitted group, or is one no more. */
void queue_promote(struct queue *q, struct lane *l, struct pool_waiter *w);
void queue_demote(struct queue *q, struct lane *l, struct pool_waiter *w);
/* When it is refused: when its patience, or its class's, ends; 0: never. */
MUST_USE uint64_t queue_due(const struct class_opts *o, const struct pool_waiter *w,
                            uint64_t now_us);

/* READY lanes are in the ring, STALLED ones in the list; the other places are the caller's. */
void queue_ready_add(struct queue *q, struct lane *l);
void queue_ready_remove(struct queue *q, struct lane *l);
void queue_stalled_add(struct queue *q, struct lane *l);
void queue_stalled_remove(struct queue *q, struct lane *l);

/* The lane whose turn it is, or NULL. */
struct lane *queue_next_lane(struct queue *q);
/* Whose turn it is in this lane, which is not empty. workers: loops that have an idle server; a
 * waiter of one of them is preferred where that is fair enough. 0: no preference. */
struct pool_waiter *queue_next(const struct queue *q, const struct lane *l, uint64_t workers);
/* When the one who has waited longest in this lane joined. The lane is not empty. */
uint64_t queue_lane_since(const struct lane *l);
/* When the one who has waited longest in the class joined; UINT64_MAX: nobody waits. */
uint64_t queue_since(const struct queue *q);
/* The newest waiter of the key with the longest backlog; a member of a group only where nobody else
 * waits. NULL: nobody waits. */
struct pool_waiter *queue_victim(const struct queue *q);
/* Somebody too old to be of use (newest-first standing for long), or NULL. */
struct pool_waiter *queue_expired(const struct queue *q, uint64_t now_us);

/* A lease begins: charges the median, returns the charge. It ends after lease_us: settles. l may be
 * NULL at the end (a lease that was moved here). */
uint32_t queue_charge(struct queue *q, struct lane *l, uint32_t key_i);
void queue_settle(struct queue *q, struct lane *l, uint32_t key_i, uint32_t charged_us,
                  uint64_t lease_us);

/* Once a tick: order of service, ageing of what was counted. serving_since_us: the upstream has
 * been there since then. */
void queue_tick(struct queue *q, uint64_t serving_since_us, uint64_t now_us);

#endif
