/* Sliding windows: histograms of latency in a ring of slices of 100 ms.
 *
 * Two scales, both with 64 buckets, so that a merge is 64 additions:
 *   slowdown  log2(latency / norm), quarter octaves from -4 to +12: error at most an eighth octave
 *             either way (9 %), and interpolation usually does better;
 *   latency   log2(us), 2.5 buckets an octave from 1 us to 50 s: 15 % either way.
 * Both take the logarithm, not the number: the caller has it already, and it is the dear part.
 * What falls off an end is counted in the last bucket there: a quantile may be clipped, never lost.
 * Nothing here knows the clock: whoever owns the window turns it once a tick.
 */
#ifndef BREAKER_WINDOW_H
#define BREAKER_WINDOW_H

#include "breaker/base.h"

enum {
    WINDOW_BUCKETS = 64,
    WINDOW_SLICES = 50, /* of 100 ms: 5 s, the longest run that still counts as "now" */
};

struct window_hist {
    uint32_t n;
    uint32_t at[WINDOW_BUCKETS];
};

struct window_slice {
    struct window_hist slowdown;
    struct window_hist latency;
    uint64_t wait_us_min; /* valid when waits_n > 0 */
    uint32_t waits_n;
    bool queue_was_empty;
};

struct window {
    struct window_slice slices[WINDOW_SLICES];
    uint32_t newest_i;
};

void window_hist_add_slowdown(struct window_hist *h, double slowdown_log2);
void window_hist_add_latency(struct window_hist *h, double us_log2);
void window_hist_merge(struct window_hist *into, const struct window_hist *from);
/* Quantiles; 0 of an empty histogram. The first in octaves, the second in microseconds. */
double window_hist_slowdown(const struct window_hist *h, double quantile);
double window_hist_latency_us(const struct window_hist *h, double quantile);

void window_init(struct window *w);
/* The slice age_i turns back; 0 is the one being filled. */
struct window_slice *window_slice(struct window *w, uint32_t age_i);
/* Opens an empty slice in the place of the oldest. */
void window_turn(struct window *w);
/* Empties the slice being filled. */
void window_drop_newest(struct window *w);
/* Empties the histograms of all slices; what is known of queues stays. */
void window_forget_latencies(struct window *w);

#endif
