/* The best that a fixed byte rate could do for bulk while users stay well, found by trying: what
 * the breaker, which does not know it, is measured by. */
#ifndef SIM_KNEE_H
#define SIM_KNEE_H

#include "bench/sim/world.h"

/* Of one scenario with streams; prints the sweep. How many goals were not met. */
uint32_t knee_run(const struct scenario *s, uint64_t seed, uint32_t seeds_n);

#endif
