#include "proxy/stats.h"

static uint32_t bucket_of(uint64_t us)
{
    if (us < 4)
        return (uint32_t)us;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t i = ((octave - 1) << 2) + (uint32_t)((us >> (octave - 2)) & 3);
    return i < STATS_BUCKETS ? i : STATS_BUCKETS - 1;
}

uint64_t stats_bucket_us(uint32_t bucket_i)
{
    must(bucket_i < STATS_BUCKETS);
    if (bucket_i < 4)
        return bucket_i;
    uint32_t octave = (bucket_i >> 2) + 1;
    return ((uint64_t)(4 + (bucket_i & 3) + 1) << (octave - 2)) - 1;
}

void stats_observe(struct stats_histogram *h, uint64_t us)
{
    count_add(&h->n[bucket_of(us)], 1);
    count_add(&h->sum_us, us);
}

uint64_t stats_count(const struct stats_histogram *h)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < STATS_BUCKETS; i++)
        n += count_get(&h->n[i]);
    return n;
}

uint64_t stats_quantile_us(const struct stats_histogram *h, double q)
{
    must(q >= 0 && q <= 1);
    uint64_t all_n = stats_count(h), seen_n = 0;
    for (uint32_t i = 0; all_n && i < STATS_BUCKETS; i++) {
        seen_n += count_get(&h->n[i]);
        if (seen_n && (double)seen_n >= q * (double)all_n)
            return stats_bucket_us(i);
    }
    return 0;
}

void stats_merge(struct stats_histogram *into, const struct stats_histogram *from)
{
    for (uint32_t i = 0; i < STATS_BUCKETS; i++)
        count_add(&into->n[i], count_get(&from->n[i]));
    count_add(&into->sum_us, count_get(&from->sum_us));
}
