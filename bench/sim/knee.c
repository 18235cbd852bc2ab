#include "bench/sim/knee.h"

#include <stdio.h>

#include "bench/sim/policy.h"
#include "bench/sim/run.h"

#define MB ((double)(1 << 20))
#define SHARE 0.85 /* of the best fixed rate, from a minute into the event */
#define OVER 0.02  /* of the time pressure may be 1 or more */

static double moved_mb(const struct result *r)
{
    return r->rate_late / MB;
}

/* The largest rate at which there is no pressure, as this preset has it. */
static double best_fixed(const struct scenario *s, const struct policy *policy, uint64_t seed)
{
    static const uint32_t rates_mb[] = {80,  120, 140, 160, 180, 200, 240, 280,
                                        320, 340, 360, 400, 450, 500, 600};
    double best_mb = 0;

    for (uint32_t i = 0; i < COUNT_OF(rates_mb); i++) {
        struct result r;
        run(&(struct world_opts){.scenario = s,
                                 .policy = policy,
                                 .seed = seed,
                                 .byte_rate = (uint64_t)rates_mb[i] << 20},
            &r);
        bool well = r.over_s <= OVER * r.outcome.event_s;
        printf("  %4u MB/s: p99 %.2f times calm, pressure for %.0f of %u s, %.0f MB/s moved%s\n",
               rates_mb[i], r.outcome.settled_p99_ms / r.outcome.calm_p99_ms, r.over_s,
               r.outcome.event_s, moved_mb(&r), well ? "" : ": too much");
        if (well && moved_mb(&r) > best_mb)
            best_mb = moved_mb(&r);
    }
    return best_mb;
}

static uint32_t judge(const struct scenario *s, const struct policy *policy, uint64_t seed)
{
    struct result r;

    printf("%s, %s:\n", s->name, policy->name);
    double best_mb = best_fixed(s, policy, seed);
    run(&(struct world_opts){.scenario = s, .policy = policy, .seed = seed}, &r);
    bool met = moved_mb(&r) >= SHARE * best_mb;
    printf("%s %s %s moves %.0f MB/s, %.0f %% of the best fixed rate (p99 %.2f times calm, "
           "pressure for %.0f s)\n",
           met ? "PASS" : "FAIL", s->name, policy->name, moved_mb(&r),
           best_mb > 0 ? 100 * moved_mb(&r) / best_mb : 100,
           r.outcome.settled_p99_ms / r.outcome.calm_p99_ms, r.over_s);
    return !met;
}

uint32_t knee_run(const struct scenario *s, uint64_t seed)
{
    return judge(s, &policy_weir, seed) + judge(s, &policy_weir_strict, seed);
}
