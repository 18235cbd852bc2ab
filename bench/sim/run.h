/* One scenario under one policy from one seed, from the birth of its world to its end. */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "bench/sim/policy_weir.h"
#include "bench/sim/scenarios.h"

struct result {
    struct outcome outcome;
    const char *broken; /* a promise that was not kept; NULL: all were */
    /* of the real breakers, all proxies together */
    uint64_t tests_n, confirmed_n, exonerated_n, cuts_n, cancels_n, inversions_n;
    double first_action_s;  /* after the event began; below 0: none */
    double cuts_per_minute; /* in steady state: from 60 s into the event to its end */
    double over_s;          /* seconds with pressure of 1 or more, worst proxy */
    double closed_s;        /* after the event ended; below 0: was not closed at the end */
    double rate_late;       /* bulk and backup, bytes a second, from 60 s into the event */
    double stream_gap_s;
    uint32_t jobs_done_n;
    /* of a fleet: how evenly bulk is shared */
    double share_spread; /* greatest deviation of a proxy's bytes from the mean, less one in 50 */
    /* the simulator itself */
    uint64_t events_n;
    double virtual_s, cpu_s;
};

/* A world in which the scenario is about to begin; for those who look on while it runs. */
struct world *run_begin(const struct world_opts *opts);
/* Ends it and frees it. */
void run_end(struct world **w, struct result *out);
/* Both, and all between. */
void run(const struct world_opts *opts, struct result *out);

#endif
