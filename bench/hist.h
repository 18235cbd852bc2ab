/* Log-linear histogram of microseconds: 64 buckets an octave, so a quantile is at most 1.6 % high.
 * Fixed size, no allocation, merges by addition. Values of 2^32 us (71 minutes) and more share the
 * last bucket. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

enum {
    HIST_SUB_BITS = 6,
    HIST_BUCKETS_N = (32 - HIST_SUB_BITS + 1) << HIST_SUB_BITS,
};

struct hist {
    uint64_t n;
    uint64_t us_max;
    uint32_t at[HIST_BUCKETS_N];
};

static inline uint32_t hist_bucket_i(uint64_t us)
{
    if (us > UINT32_MAX)
        us = UINT32_MAX;
    if (us < 1u << HIST_SUB_BITS)
        return (uint32_t)us;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(us) - HIST_SUB_BITS;
    return (shift << HIST_SUB_BITS) + (uint32_t)(us >> shift);
}

/* Upper end of the bucket, so that a quantile never flatters. */
static inline uint64_t hist_bucket_us(uint32_t bucket_i)
{
    if (bucket_i < 2u << HIST_SUB_BITS)
        return bucket_i;
    uint32_t shift = (bucket_i >> HIST_SUB_BITS) - 1;
    uint64_t mantissa = bucket_i - (shift << HIST_SUB_BITS);
    return ((mantissa + 1) << shift) - 1;
}

static inline void hist_add(struct hist *h, uint64_t us)
{
    h->n++;
    h->at[hist_bucket_i(us)]++;
    if (us > h->us_max)
        h->us_max = us;
}

static inline void hist_merge(struct hist *into, const struct hist *from)
{
    into->n += from->n;
    if (from->us_max > into->us_max)
        into->us_max = from->us_max;
    for (uint32_t i = 0; i < HIST_BUCKETS_N; i++)
        into->at[i] += from->at[i];
}

/* The smallest value that at least q of all values do not exceed; 0 of an empty histogram. */
static inline uint64_t hist_quantile(const struct hist *h, double q)
{
    uint64_t seen = 0;
    uint64_t wanted = (uint64_t)(q * (double)h->n + 0.9999999);
    if (!h->n)
        return 0;
    for (uint32_t i = 0; i < HIST_BUCKETS_N; i++) {
        seen += h->at[i];
        if (seen >= wanted && seen)
            return hist_bucket_us(i) < h->us_max ? hist_bucket_us(i) : h->us_max;
    }
    return h->us_max;
}

#endif
