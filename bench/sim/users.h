/* Users: they ask when they please, whatever became of the last one (open loop), wait a second for
 * the answer, then hang up and try again, three times in all; who is refused tries again after
 * 100 ms. Or a crowd: so many clients who each think between two requests (closed loop). */
#ifndef SIM_USERS_H
#define SIM_USERS_H

#include "bench/sim/world.h"

/* One kind of statement. */
struct kind {
    double share; /* of all requests; they add up to 1 */
    uint32_t cpu_us, pages_n;
};
enum { USERS_KINDS_MAX = WORLD_FINGERPRINTS };
struct mix {
    uint32_t n;
    struct kind at[USERS_KINDS_MAX];
};
extern const struct mix users_mix; /* point reads to reports: 0.3 to 15 ms, 4 to 400 pages */

/* How a scenario shapes them. */
typedef double (*users_rate_fn)(double t_s);                    /* requests a second */
typedef const struct mix *(*users_mix_fn)(double t_s);          /* NULL: users_mix */
typedef void (*users_shape_fn)(struct world *w, struct tx *tx); /* last touch; NULL: none */

struct users_opts {
    users_rate_fn rate;
    double scale; /* of the rate */
    users_mix_fn mix;
    users_shape_fn shape;
    uint32_t proxy_first_i, proxies_n; /* whose clients they are, evenly */
    double patience_s;                 /* 0: a second */
    uint32_t crowd_n;                  /* closed loop of so many; rate is the first second's */
};
void users_start(struct world *w, const struct users_opts *opts);
/* Nobody comes any more, and those who are there leave. */
void users_stop(struct world *w);
void users_free(struct world *w);

#endif
