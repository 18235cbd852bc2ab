/* Each proxy has its share of the users and one stream that never ends; the database is as much
 * larger than elsewhere as there are more users. Twelve places a proxy, or a fleet of a thousand
 * would have one each.
 *
 * Watched once a second: how many breakers are in which state, what all bulk together moves, and
 * from the second minute on each proxy's share of it. */
#include "bench/sim/fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/sim/goals.h"
#include "bench/sim/policy.h"

enum {
    FROM_S = 1200, /* norms have settled: what they are wrong by is what shares differ by */
    TO_S = 1620,
    STEADY_S = 1300, /* from here on shares are compared and cuts counted */
    PLACES_EACH = 12,
    STATES = BREAKER_EXONERATED + 1,
};
#define USERS_PER_SIZE 800.0 /* requests a second of a database of size 1 */
#define FAIR 0.20
#define CUTS_PER_MINUTE 1.0
#define SLOW 3.0
#define SWING 0.25 /* of aggregate bulk around its mean: no oscillation of all together */

struct watch {
    struct world *world;
    struct event event;
    uint64_t bytes_before_n;
    uint32_t steady_n;
    double mean, square; /* of aggregate bulk in the steady part, MB/s: Welford */
    uint64_t cuts_before_n, cuts_n;
    bool trace;
};

static uint64_t bytes_of_all(const struct world *w)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < w->proxies_n; i++)
        n += w->proxies[i].bytes_n[SIM_BULK];
    return n;
}

static void count_states(const struct world *w, uint32_t states[STATES], double *g_sum,
                         uint64_t *cuts_n)
{
    struct weir_stats stats;

    *g_sum = 0;
    *cuts_n = 0;
    for (uint32_t i = 0; i < STATES; i++)
        states[i] = 0;
    for (uint32_t i = 0; i < w->proxies_n && w->opts.policy->real; i++) {
        weir_stats(&w->proxies[i], &stats);
        states[stats.state]++;
        *g_sum += stats.g[SIM_BULK];
        *cuts_n += stats.cuts_n;
    }
}

static void begin_steady(struct watch *watch, uint64_t cuts_n)
{
    struct world *w = watch->world;

    watch->cuts_before_n = cuts_n;
    for (uint32_t i = 0; i < w->proxies_n; i++)
        w->proxies[i].bytes_before_n = w->proxies[i].bytes_n[SIM_BULK];
}

static void look(struct engine *e, struct event *ev)
{
    struct watch *watch = OWNER_OF(struct watch, event, ev);
    struct world *w = watch->world;
    uint64_t bytes_n = bytes_of_all(w), second = e->now_us / US_PER_S, cuts_n;
    double mb = (double)(bytes_n - watch->bytes_before_n) / (1 << 20), g_sum;
    uint32_t states[STATES];

    engine_in(e, ev, US_PER_S, look);
    watch->bytes_before_n = bytes_n;
    if (second == STEADY_S || second == TO_S || (watch->trace && second % 10 == 0)) {
        count_states(w, states, &g_sum, &cuts_n);
        if (second == STEADY_S)
            begin_steady(watch, cuts_n);
        if (second == TO_S)
            watch->cuts_n = cuts_n - watch->cuts_before_n;
        if (watch->trace)
            printf("%5llu s: closed %u, test %u, probation %u, throttled %u, open %u, exonerated "
                   "%u; sum g %.2f, %.0f MB/s, %llu cuts, p99 %.1f ms\n",
                   (unsigned long long)second, states[BREAKER_CLOSED], states[BREAKER_TEST],
                   states[BREAKER_PROBATION], states[BREAKER_THROTTLED], states[BREAKER_OPEN],
                   states[BREAKER_EXONERATED], g_sum, mb, (unsigned long long)cuts_n,
                   (double)w->measure.seconds[second - 1].p99_us / US_PER_MS);
    }
    if (second <= STEADY_S || second > TO_S)
        return;
    double from_mean = mb - watch->mean;
    watch->mean += from_mean / ++watch->steady_n;
    watch->square += from_mean * (mb - watch->mean);
}

static uint32_t judge(const char *what, double value, double bound)
{
    bool met = value <= bound;

    printf("%s fleet     %-40s %8.3f <= %.2f\n", met ? "PASS" : "FAIL", what, value, bound);
    return !met;
}

uint32_t fleet_run(const struct fleet_opts *opts)
{
    struct scenario s = {
        .name = "fleet",
        .title = "many proxies, one database",
        .kind = SCENARIO_OPEN,
        .length_s = 1640,
        .event_from_s = FROM_S,
        .event_to_s = TO_S,
        .slow_sample = true,
        .proxies_n = opts->proxies_n,
        .places_n = opts->proxies_n * PLACES_EACH,
        .size = opts->proxies_n * opts->users_per_proxy / USERS_PER_SIZE,
        .bulk = {{.class = SIM_BULK,
                  .n = opts->proxies_n,
                  .from_s = FROM_S,
                  .to_s = TO_S,
                  .proxies_n = opts->proxies_n}},
    };
    struct world_opts world_opts = {.scenario = &s, .policy = opts->policy, .seed = opts->seed};
    struct watch watch = {.trace = opts->trace};
    struct result r;
    clock_t began = clock();
    uint32_t failed_n = 0;

    watch.world = run_begin(&world_opts);
    engine_in(&watch.world->engine, &watch.event, US_PER_S, look);
    engine_run(&watch.world->engine, watch.world->length_us);
    engine_off(&watch.world->engine, &watch.event);
    run_end(&watch.world, &r);
    double cpu_s = (double)(clock() - began) / CLOCKS_PER_SEC;
    printf("%u proxies, %s: users p50 %.1f p99 %.1f ms (calm %.1f), lost %.3f %%, bad %u of %u s; "
           "bulk %.0f MB/s, %llu tests, %llu confirmed, %llu exonerated, %llu cuts; %.1f s CPU\n",
           opts->proxies_n, opts->policy->name, r.outcome.p50_ms, r.outcome.p99_ms,
           r.outcome.calm_p99_ms, r.outcome.lost_percent, r.outcome.bad_s, r.outcome.event_s,
           watch.mean, (unsigned long long)r.tests_n, (unsigned long long)r.confirmed_n,
           (unsigned long long)r.exonerated_n, (unsigned long long)r.cuts_n, cpu_s);
    double minutes = (TO_S - STEADY_S) / 60.0;
    failed_n +=
        judge("p99 over calm, settled", r.outcome.settled_p99_ms / r.outcome.calm_p99_ms, SLOW);
    failed_n += judge("bulk of one proxy off the mean by", r.share_spread, FAIR);
    failed_n += judge("cuts a minute and proxy, steady",
                      (double)watch.cuts_n / minutes / opts->proxies_n, CUTS_PER_MINUTE);
    failed_n += judge("aggregate bulk, deviation over mean",
                      sqrt(watch.square / watch.steady_n) / watch.mean, SWING);
    return failed_n;
}
