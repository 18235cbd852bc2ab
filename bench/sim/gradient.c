#include "bench/sim/gradient.h"

#include <math.h>

enum { SAMPLES_MIN = 10, WARMUP = 10, LONG_WINDOW = 600 };
#define LIMIT_MIN 20.0
#define LIMIT_MAX 100.0
#define TOLERANCE 1.5
#define QUEUE 4.0
#define SMOOTHING 0.2

void gradient_init(struct gradient *g)
{
    *g = (struct gradient){.limit = LIMIT_MIN};
}

static void update(struct gradient *g)
{
    double mean_us = g->sum_us / g->sum_n;
    uint32_t most_n = g->active_most_n;

    g->sum_us = 0;
    g->sum_n = g->active_most_n = 0;
    if (g->long_us == 0)
        g->long_us = mean_us;
    g->updates_n++;
    double weight = g->updates_n < WARMUP ? 1.0 / g->updates_n : 2.0 / (LONG_WINDOW + 1);
    g->long_us += (mean_us - g->long_us) * weight;
    if (g->long_us > 2 * mean_us)
        g->long_us *= 0.95;
    if (most_n < g->limit / 2)
        return; /* the limit was not what held anybody back */
    double slope = fmax(0.5, fmin(1, TOLERANCE * g->long_us / mean_us));
    double next = g->limit * slope + QUEUE;
    g->limit = g->limit * (1 - SMOOTHING) + next * SMOOTHING;
    g->limit = fmax(LIMIT_MIN, fmin(LIMIT_MAX, g->limit));
}

void gradient_note(struct gradient *g, uint64_t took_us, uint32_t active_n, uint64_t now_us)
{
    g->sum_us += (double)took_us;
    g->sum_n++;
    if (active_n > g->active_most_n)
        g->active_most_n = active_n;
    if (now_us < g->next_us || g->sum_n < SAMPLES_MIN)
        return;
    g->next_us = now_us + US_PER_S;
    update(g);
}
