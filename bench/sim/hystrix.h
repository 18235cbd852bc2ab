/* A breaker that knows one thing: calls were slow. Open for 5 s when more than 5 % of the calls of
 * the last 10 s (20 at least) took over 100 ms or were given up. */
#ifndef SIM_HYSTRIX_H
#define SIM_HYSTRIX_H

#include "breaker/base.h"

enum { HYSTRIX_SLOW_US = 100 * US_PER_MS };

struct hystrix_call {
    uint64_t at_us;
    bool bad;
};
struct hystrix {
    struct hystrix_call *calls; /* ring */
    uint32_t cap_n;             /* a power of two */
    uint32_t head, tail;        /* free-running */
    uint32_t bad_n;
    uint64_t open_until_us; /* 0: closed */
};

void hystrix_note(struct hystrix *h, bool bad, uint64_t now_us);
MUST_USE bool hystrix_refuses(struct hystrix *h, uint64_t now_us);
void hystrix_free(struct hystrix *h);

#endif
