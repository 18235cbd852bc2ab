/* What a proxy with the real breakers says of itself. */
#ifndef SIM_POLICY_WEIR_H
#define SIM_POLICY_WEIR_H

#include "bench/sim/policy.h"
#include "breaker/breaker.h"

enum { WEIR_TESTS = 64, WEIR_CUTS = 256 };

struct weir_stats {
    uint64_t tests_n, confirmed_n, exonerated_n, cuts_n, inversions_n;
    enum breaker_state state;
    double g[SIM_CLASSES];
    uint64_t refused_n[SIM_CLASSES];
    double over_s;   /* with pressure of 1 or more, since the event began */
    double closed_s; /* last return to CLOSED */
    uint32_t tests_kept_n, cuts_kept_n;
    double tests_s[WEIR_TESTS], cuts_s[WEIR_CUTS]; /* when they were */
};
void weir_stats(const struct proxy *p, struct weir_stats *out);

#endif
