/* Gradient2 of Netflix's concurrency-limits: the ratio of long-term to present latency moves one
 * limit up or down. */
#ifndef SIM_GRADIENT_H
#define SIM_GRADIENT_H

#include "breaker/base.h"

struct gradient {
    double limit;
    double long_us; /* long-term mean; 0: none yet */
    double sum_us;
    uint32_t sum_n, updates_n, active_most_n;
    uint64_t next_us;
};

void gradient_init(struct gradient *g);
void gradient_note(struct gradient *g, uint64_t took_us, uint32_t active_n, uint64_t now_us);

#endif
