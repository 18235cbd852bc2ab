/* A protected class, two sheddable ones, and a clock: what the tests of estimator and breaker
 * share.
 *
 * Two ways to drive them: step() hands the breaker a pressure of the test's choice; run() feeds
 * statements, and lets the estimator judge. */
#ifndef TESTS_BREAKER_WORLD_H
#define TESTS_BREAKER_WORLD_H

#include "breaker/breaker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { BACKUP, BULK, CLASSES };

static struct estimator estimator;
static struct breaker breaker;
static struct breaker_use use[CLASSES];
static uint64_t now_us;
static uint64_t random_state;
static uint32_t seen_n; /* samples that step()'s pressure stands on */

static inline double uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static inline struct breaker_opts breaker_defaults(void)
{
    struct breaker_opts opts;
    breaker_opts_defaults(&opts);
    assert_true(breaker_opts_check(&opts, NULL));
    return opts;
}

static inline struct estimator_opts estimator_defaults(void)
{
    struct estimator_opts opts;
    estimator_opts_defaults(&opts);
    assert_true(estimator_opts_check(&opts, NULL));
    return opts;
}

/* Both classes enforced; paced and cancelled as asked. */
static inline void fresh(bool paced, bool cancelled)
{
    struct breaker_opts opts = breaker_defaults();
    struct estimator_opts eopts = estimator_defaults();
    opts.limit.jitter = 0;
    struct breaker_class_opts classes[CLASSES] = {
        {.name = "backup", .mode = BREAKER_ENFORCE, .trickle_bytes_per_s = 1 << 20},
        {.name = "bulk", .mode = BREAKER_ENFORCE, .trickle_bytes_per_s = 1 << 20},
    };
    for (int i = 0; i < CLASSES; i++)
        classes[i].paced = paced;
    classes[BULK].cancelled = cancelled;
    now_us = 500ull * US_PER_S;
    random_state = 1;
    seen_n = 100;
    estimator_init(&estimator, &eopts, now_us);
    breaker_init(&breaker, &opts, classes, CLASSES, 99);
    memset(use, 0, sizeof use);
    use[BACKUP].cap_n = 8;
    use[BULK].cap_n = 30;
}

static inline void works(int class_i, uint32_t active_n, uint32_t nonstreaming_n)
{
    use[class_i].active_n = active_n;
    use[class_i].nonstreaming_n = nonstreaming_n;
    use[class_i].bytes_per_s = (active_n - nonstreaming_n) * 10000000ull;
}

/* One tick at pressure p. */
static inline void step(double p)
{
    now_us += 100 * US_PER_MS;
    struct pressure pressure = {.p = p, .p_lat = p, .s50 = p, .s90 = p, .n = seen_n};
    breaker_tick(&breaker, &estimator, &pressure, use, now_us);
}

static inline void steps(double p, uint32_t n)
{
    while (n-- > 0)
        step(p);
}

static inline double g(int class_i)
{
    return breaker.classes[class_i].limit.g;
}

static inline const struct breaker_transition *last(void)
{
    assert_true(breaker.transitions_n > 0);
    return &breaker.transitions[(breaker.transitions_n - 1) % BREAKER_TRANSITIONS];
}

/* Feeds one tick of protected statements: n of them, share of which are slow_us instead of us. */
static inline void feed(uint32_t n, uint64_t us, double share, uint64_t slow_us)
{
    for (uint32_t i = 0; i < n; i++) {
        double noise = exp2(uniform() - 0.5);
        uint64_t service_us =
            (uint64_t)((uniform() < share ? (double)slow_us : (double)us) * noise);
        estimator_observe(&estimator, 1 + i % 3, now_us - 1 - service_us % US_PER_MS, service_us);
    }
}

static inline struct pressure judge(const struct estimator_inflight *inflight, size_t inflight_n)
{
    estimator_queue_empty(&estimator);
    return estimator_pressure(&estimator, now_us, inflight, inflight_n, 0);
}

/* One tick with n statements of about `us`; the breaker sees what is in use. */
static inline struct pressure run_tick(uint32_t n, uint64_t us)
{
    now_us += 100 * US_PER_MS;
    feed(n, us, 0, 0);
    struct pressure p = judge(NULL, 0);
    breaker_tick(&breaker, &estimator, &p, use, now_us);
    estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
    return p;
}

static inline struct pressure run(uint32_t seconds, uint32_t n_per_tick, uint64_t us)
{
    struct pressure p = {0};
    for (uint32_t i = 0; i < seconds * 10; i++)
        p = run_tick(n_per_tick, us);
    return p;
}

#endif
