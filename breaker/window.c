#include "breaker/window.h"

#include <math.h>
#include <string.h>

#define SLOWDOWN_LOWEST (-4.0) /* octaves: a sixteenth of the norm */
#define SLOWDOWN_BUCKETS_OCTAVE 4.0
#define LATENCY_BUCKETS_OCTAVE 2.5 /* 64 of them reach 50 s */

static void hist_add(struct window_hist *h, double bucket)
{
    int i = 0;
    if (bucket >= WINDOW_BUCKETS)
        i = WINDOW_BUCKETS - 1;
    else if (bucket > 0)
        i = (int)bucket;
    h->at[i]++;
    h->n++;
}

void window_hist_add_slowdown(struct window_hist *h, double slowdown_log2)
{
    hist_add(h, (slowdown_log2 - SLOWDOWN_LOWEST) * SLOWDOWN_BUCKETS_OCTAVE);
}

void window_hist_add_latency(struct window_hist *h, double us_log2)
{
    hist_add(h, us_log2 * LATENCY_BUCKETS_OCTAVE);
}

void window_hist_merge(struct window_hist *into, const struct window_hist *from)
{
    if (from->n == 0)
        return;
    for (int i = 0; i < WINDOW_BUCKETS; i++)
        into->at[i] += from->at[i];
    into->n += from->n;
}

/* Finds the bucket that holds the quantile. *above is the share of that bucket's samples that lie
 * above it: evenly spread within a bucket is the best guess there is. */
static int hist_find(const struct window_hist *h, double quantile, double *above)
{
    must(quantile > 0 && quantile <= 1);
    double rank = quantile * h->n;
    uint64_t sum = 0;
    for (int i = 0; i < WINDOW_BUCKETS; i++) {
        sum += h->at[i];
        if (h->at[i] > 0 && (double)sum >= rank) {
            *above = ((double)sum - rank) / h->at[i];
            return i;
        }
    }
    *above = 0; /* rounding of rank at quantile 1 */
    return WINDOW_BUCKETS - 1;
}

double window_hist_slowdown(const struct window_hist *h, double quantile)
{
    if (h->n == 0)
        return 0;
    double above;
    int i = hist_find(h, quantile, &above);
    return i / SLOWDOWN_BUCKETS_OCTAVE + SLOWDOWN_LOWEST + (1 - above) / SLOWDOWN_BUCKETS_OCTAVE;
}

double window_hist_latency_us(const struct window_hist *h, double quantile)
{
    if (h->n == 0)
        return 0;
    double above;
    int i = hist_find(h, quantile, &above);
    return exp2((i + 1 - above) / LATENCY_BUCKETS_OCTAVE);
}

void window_init(struct window *w)
{
    memset(w, 0, sizeof *w);
}

struct window_slice *window_slice(struct window *w, uint32_t age_i)
{
    must(age_i < WINDOW_SLICES);
    return &w->slices[(w->newest_i + WINDOW_SLICES - age_i) % WINDOW_SLICES];
}

void window_drop_newest(struct window *w)
{
    memset(window_slice(w, 0), 0, sizeof(struct window_slice));
}

void window_turn(struct window *w)
{
    w->newest_i = (w->newest_i + 1) % WINDOW_SLICES;
    window_drop_newest(w);
}

void window_forget_latencies(struct window *w)
{
    for (int i = 0; i < WINDOW_SLICES; i++) {
        memset(&w->slices[i].slowdown, 0, sizeof w->slices[i].slowdown);
        memset(&w->slices[i].latency, 0, sizeof w->slices[i].latency);
    }
}
