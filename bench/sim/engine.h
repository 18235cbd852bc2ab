/* Virtual time: a heap of events and one stream of random numbers, both out of one seed.
 *
 * An event is embedded in whoever it happens to and knows its place in the heap, so what is called
 * off costs nothing later. Events of the same microsecond happen in the order they were set. Time
 * is in microseconds from 0. */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

#include "breaker/base.h"

struct engine;
struct event;
typedef void (*event_fn)(struct engine *e, struct event *ev);

/* Zeroed: not set. Its owner must call it off before it goes. */
struct event {
    uint64_t at_us;
    uint64_t order_n;
    event_fn fn;
    uint32_t heap_i; /* 1 + place in the heap; 0: not set */
};

struct engine {
    uint64_t now_us;
    uint64_t random;
    uint64_t order_n;
    uint64_t events_n; /* that happened */
    struct event **heap;
    uint32_t heap_n, heap_cap_n;
};

void engine_init(struct engine *e, uint64_t seed);
/* Events that are still set are forgotten. */
void engine_free(struct engine *e);

static inline bool engine_is_set(const struct event *ev)
{
    return ev->heap_i > 0;
}
/* Not yet set. Times that are past mean now, after what is due already. */
void engine_at(struct engine *e, struct event *ev, uint64_t at_us, event_fn fn);
static inline void engine_in(struct engine *e, struct event *ev, uint64_t in_us, event_fn fn)
{
    engine_at(e, ev, e->now_us + in_us, fn);
}
/* Set or not. */
void engine_off(struct engine *e, struct event *ev);
/* Lets everything happen that is due until then. */
void engine_run(struct engine *e, uint64_t until_us);

/* ---- chance -------------------------------------------------------------------------------- */

uint64_t engine_random(struct engine *e);
/* In [0, 1). */
static inline double engine_uniform(struct engine *e)
{
    return (double)(engine_random(e) >> 11) * 0x1p-53;
}
double engine_exponential(struct engine *e, double mean);
uint32_t engine_poisson(struct engine *e, double mean);

#endif
