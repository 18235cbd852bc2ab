/* What the latency breaker says to leases that go on: between two statements of a session, or of a
 * long transaction. The pool's queue holds back only what has no server yet.
 *
 * Two words, left here by the tick for the loops to read without a lock:
 *
 *   held    nothing new for now: an experiment, or a clean probe
 *   crowd   statements that run or would like to, in percent of what may run at once. Each lease
 *           then rests after a statement, so long that together they are no more than may be: after
 *           one of 100 ms for 300 ms where four want what one may
 *
 * The second needs no count of what runs, no queue and no turns, and nobody starves: a lease that
 * has rested goes on, whatever the others do. How long a rest may be, and who is exempt, is the
 * proxy's to say (proxy/brake.h). */
#ifndef POOL_BRAKE_H
#define POOL_BRAKE_H

#include <stdatomic.h>

#include "breaker/base.h"

enum {
    BRAKE_CROWD_NONE = 100,  /* no more than may run */
    BRAKE_CROWD_MAX = 10000, /* a hundred for each place: all of them rest as long as they may */
};

struct brake {
    _Atomic bool held;
    _Atomic uint32_t crowd_percent;
    /* for people */
    _Atomic uint64_t rests_n, rested_us; /* statements that had to wait so, and how long in all */
};

static inline void brake_init(struct brake *b)
{
    *b = (struct brake){.crowd_percent = BRAKE_CROWD_NONE};
}
static inline void brake_lift(struct brake *b)
{
    atomic_store_explicit(&b->held, false, memory_order_relaxed);
    atomic_store_explicit(&b->crowd_percent, BRAKE_CROWD_NONE, memory_order_relaxed);
}
/* wanted: statements that run or rest, a mean; limit_n: how many may run. */
static inline void brake_set_crowd(struct brake *b, double wanted, uint32_t limit_n)
{
    uint32_t percent = BRAKE_CROWD_NONE;
    if (limit_n > 0 && wanted > limit_n)
        percent = wanted / limit_n < BRAKE_CROWD_MAX / 100
                      ? (uint32_t)(wanted / limit_n * BRAKE_CROWD_NONE)
                      : BRAKE_CROWD_MAX;
    atomic_store_explicit(&b->crowd_percent, percent, memory_order_relaxed);
}
/* How long a lease owes to rest after a statement that took so long. */
static inline uint64_t brake_share_us(const struct brake *b, uint64_t took_us)
{
    uint32_t percent = atomic_load_explicit(&b->crowd_percent, memory_order_relaxed);
    return took_us / BRAKE_CROWD_NONE * (percent - BRAKE_CROWD_NONE);
}
static inline bool brake_crowded(const struct brake *b)
{
    return atomic_load_explicit(&b->crowd_percent, memory_order_relaxed) > BRAKE_CROWD_NONE;
}
static inline bool brake_held(const struct brake *b)
{
    return atomic_load_explicit(&b->held, memory_order_relaxed);
}

#endif
