/* Many proxies before one database, each with breakers of its own that know nothing of the others:
 * do they oscillate together, and do they share fairly? */
#ifndef SIM_FLEET_H
#define SIM_FLEET_H

#include "bench/sim/world.h"

struct fleet_opts {
    uint32_t proxies_n;
    uint64_t seed;
    const struct policy *policy;
    double users_per_proxy; /* requests a second */
    bool trace;             /* a line every ten seconds */
};
/* Prints what came of it; how many goals were not met. */
uint32_t fleet_run(const struct fleet_opts *opts);

#endif
