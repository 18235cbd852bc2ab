/* What is promised, judged by figures: one line a promise, over all seeds by the worst. */
#ifndef SIM_GOALS_H
#define SIM_GOALS_H

#include "bench/sim/run.h"

enum { GOALS_MAX = 12 };

struct goal {
    const char *what, *unit;
    double value, bound;
    bool at_least; /* else at most */
};
struct goals {
    const struct scenario *scenario;
    const struct policy *policy;
    uint32_t n;
    struct goal at[GOALS_MAX];
    const char *broken;
};

void goals_init(struct goals *g, const struct scenario *s, const struct policy *policy);
/* One more seed; capped is what caps set by hand did from the same seed. */
void goals_add(struct goals *g, const struct result *r, const struct result *capped);
/* Prints them; how many are not met. */
uint32_t goals_print(const struct goals *g);
uint32_t goals_failed_n(const struct goals *g);

#endif
