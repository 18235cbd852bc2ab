/* Cancels by the breaker's and by the operator's word, checked against the promises of pool/cull.h.
 */
#ifndef SIM_CULLS_H
#define SIM_CULLS_H

#include "tests/sim/world.h"

/* Leases get statements that stream, write, or do neither; then some class of u is culled. */
void culls_act(struct world *w, struct upstream *u);

#endif
