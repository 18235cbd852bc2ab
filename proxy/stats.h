/* Counters with one writer (a loop) and any reader (the control loop), and latency histograms of
 * them. A relaxed load and store: no locked instruction, and a reader sees a whole value. */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include <stdatomic.h>

#include "breaker/base.h"

typedef _Atomic uint64_t counter; /* a typedef, as C gives an atomic type no tag */

static inline void count_add(counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline uint64_t count_get(const counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* Log-linear: four buckets an octave, from 1 microsecond to about 19 hours. */
enum { STATS_BUCKETS = 144 };
struct stats_histogram {
    counter n[STATS_BUCKETS];
    counter sum_us;
};
void stats_observe(struct stats_histogram *h, uint64_t us);
/* Upper bound of a bucket in microseconds. */
uint64_t stats_bucket_us(uint32_t bucket_i);
uint64_t stats_count(const struct stats_histogram *h);
/* The value below which a share q (0..1) of the observations lie; 0 when there are none. */
uint64_t stats_quantile_us(const struct stats_histogram *h, double q);
/* into += from; for a reader's own copy. */
void stats_merge(struct stats_histogram *into, const struct stats_histogram *from);

#endif
