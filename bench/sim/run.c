#include "bench/sim/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/sim/acts.h"
#include "bench/sim/policy.h"

enum {
    STEADY_S = 60, /* into the event: by then what had to be found is found */
    CALM_S = 45,
    CALM_LONG_S = 15,
    CALM_SLOW_S = 150,               /* where few come */
    SETTLED_US = 3 * US_PER_S,       /* into the event: users are well again ... */
    SETTLED_SCANS_US = 8 * US_PER_S, /* ... or where only cancels help */
};

/* ---- building ------------------------------------------------------------------------------ */

static void build_databases(struct world *w)
{
    struct database_opts opts;

    database_opts_defaults(&opts);
    opts.cores_n = (uint32_t)ceil(opts.cores_n * w->size);
    opts.disks_n = (uint32_t)ceil(opts.disks_n * w->size);
    opts.cache_mb *= w->size;
    w->databases = calloc(w->databases_n, sizeof(struct database));
    must(w->databases != NULL);
    for (uint32_t i = 0; i < w->databases_n; i++)
        database_init(&w->databases[i], &w->engine, &opts);
}

static void build_proxies(struct world *w)
{
    uint64_t phase_us = w->proxies_n > 1 ? WORLD_TICK_US : 1;

    w->proxies = calloc(w->proxies_n, sizeof(struct proxy));
    must(w->proxies != NULL);
    for (uint32_t i = 0; i < w->proxies_n; i++) {
        struct proxy *p = &w->proxies[i];
        p->world = w;
        p->proxy_i = i;
        p->database = &w->databases[i % w->databases_n];
        p->policy = w->opts.policy;
        proxy_open(p, WORLD_TICK_US + engine_random(&w->engine) % phase_us);
    }
}

static void build_users(struct world *w)
{
    const struct scenario *s = w->opts.scenario;
    struct users_opts opts = {
        .rate = s->rate != NULL ? s->rate : rate_800,
        .scale = w->size * w->databases_n,
        .mix = s->mix,
        .shape = s->shape,
        .proxies_n = s->users_on > 0 ? s->users_on : w->proxies_n,
        .crowd_n = s->crowd_n,
        .patience_s = s->patience_s,
    };

    users_start(w, &opts);
}

struct plan {
    struct event event;
    const struct act *act;
    uint32_t done_n;
    struct world *world;
};

static void happen(struct engine *e, struct event *ev)
{
    struct plan *p = OWNER_OF(struct plan, event, ev);

    p->act->fn(p->world);
    if (++p->done_n < p->act->times)
        engine_in(e, ev, (uint64_t)(p->act->every_s * US_PER_S), happen);
}

static void build_plan(struct world *w)
{
    const struct scenario *s = w->opts.scenario;

    w->plan = calloc(SCENARIO_ACTS_MAX, sizeof(struct plan));
    must(w->plan != NULL);
    for (uint32_t i = 0; i < SCENARIO_ACTS_MAX && s->acts[i].fn != NULL; i++) {
        struct plan *p = &w->plan[i];
        *p = (struct plan){.act = &s->acts[i], .world = w};
        engine_at(&w->engine, &p->event, (uint64_t)(s->acts[i].at_s * US_PER_S), happen);
    }
    for (uint32_t i = 0; i < SCENARIO_BULK_MAX && s->bulk[i].n > 0; i++)
        bulk_start(w, &s->bulk[i]);
}

struct world *run_begin(const struct world_opts *opts)
{
    const struct scenario *s = opts->scenario;
    struct world *w = calloc(1, sizeof(*w));
    double calm_s = s->calm_from_s > 0 ? s->calm_from_s : CALM_S;
    double calm_long_s = s->slow_sample ? CALM_SLOW_S : CALM_LONG_S;

    must(w != NULL);
    w->opts = *opts;
    w->databases_n = s->databases_n > 0 ? s->databases_n : 1;
    w->proxies_n = (s->proxies_n > 0 ? s->proxies_n : 1) * w->databases_n;
    w->size = s->size > 0 ? s->size : 1;
    w->length_us = (uint64_t)(s->length_s * US_PER_S);
    engine_init(&w->engine, opts->seed);
    measure_init(&w->measure,
                 &(struct measure_times){
                     .length_us = w->length_us,
                     .calm_from_us = (uint64_t)(calm_s * US_PER_S),
                     .calm_to_us = (uint64_t)((calm_s + calm_long_s) * US_PER_S),
                     .event_from_us = (uint64_t)(s->event_from_s * US_PER_S),
                     .event_to_us = (uint64_t)(s->event_to_s * US_PER_S),
                     .settled_us = s->kind == SCENARIO_SCANS ? SETTLED_SCANS_US : SETTLED_US,
                 });
    build_databases(w);
    build_proxies(w);
    build_users(w);
    build_plan(w);
    return w;
}

/* ---- what came of it ----------------------------------------------------------------------- */

static void add_stats(const struct world *w, const struct proxy *p, struct result *out)
{
    const struct scenario *s = w->opts.scenario;
    struct weir_stats stats;

    weir_stats(p, &stats);
    out->tests_n += stats.tests_n;
    out->confirmed_n += stats.confirmed_n;
    out->exonerated_n += stats.exonerated_n;
    out->cuts_n += stats.cuts_n;
    out->inversions_n += stats.inversions_n;
    out->over_s = fmax(out->over_s, stats.over_s);
    for (uint32_t i = 0; i < stats.tests_kept_n; i++) {
        double at_s = stats.tests_s[i] - s->event_from_s;
        if (at_s >= 0 && (out->first_action_s < 0 || at_s < out->first_action_s))
            out->first_action_s = at_s;
    }
    for (uint32_t i = 0; i < stats.cuts_kept_n; i++)
        if (stats.cuts_s[i] > s->event_from_s + STEADY_S && stats.cuts_s[i] < s->event_to_s)
            out->cuts_per_minute += 60 / (s->event_to_s - s->event_from_s - STEADY_S);
    if (stats.state != BREAKER_CLOSED)
        out->closed_s = -1;
    else if (out->closed_s >= 0)
        out->closed_s = fmax(out->closed_s, stats.closed_s - s->event_to_s);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static bool has_bulk(const struct world *w, uint32_t proxy_i)
{
    const struct scenario *s = w->opts.scenario;

    for (uint32_t i = 0; i < SCENARIO_BULK_MAX && s->bulk[i].n > 0; i++) {
        uint32_t n = s->bulk[i].proxies_n > 0 ? s->bulk[i].proxies_n : 1;
        if (proxy_i >= s->bulk[i].proxy_first_i && proxy_i < s->bulk[i].proxy_first_i + n)
            return true;
    }
    return false;
}

/* Of the proxies whose clients are bulk: also of those where it moved nothing. */
static double share_spread(const struct world *w)
{
    double *shares = calloc(w->proxies_n, sizeof(double)), sum = 0, worst = 0;
    uint32_t n = 0;

    must(shares != NULL);
    for (uint32_t i = 0; i < w->proxies_n; i++) {
        uint64_t bytes_n = w->proxies[i].bytes_n[SIM_BULK] - w->proxies[i].bytes_before_n;
        if (!has_bulk(w, i))
            continue;
        shares[n++] = (double)bytes_n;
        sum += (double)bytes_n;
    }
    qsort(shares, n, sizeof(double), by_size);
    uint32_t left_out_n = n / 100; /* at either end */
    for (uint32_t i = left_out_n; i + left_out_n < n && sum > 0; i++)
        worst = fmax(worst, fabs(shares[i] * n / sum - 1));
    free(shares);
    return worst;
}

static void collect(struct world *w, struct result *out)
{
    const struct scenario *s = w->opts.scenario;

    measure_end(&w->measure, w->engine.now_us);
    measure_outcome(&w->measure, &out->outcome);
    out->first_action_s = -1;
    for (uint32_t i = 0; i < w->proxies_n && w->opts.policy->real; i++)
        add_stats(w, &w->proxies[i], out);
    uint64_t late_us = (uint64_t)((s->event_from_s + STEADY_S) * US_PER_S);
    for (uint32_t k = 0; k < MEASURE_STREAMS_N; k++)
        out->rate_late +=
            measure_rate(&w->measure, k, late_us, (uint64_t)(s->event_to_s * US_PER_S));
    out->cancels_n = w->cancels_n;
    out->stream_gap_s = (double)w->stream_gap_us_max / US_PER_S;
    out->jobs_done_n = bulk_done_n(w);
    if (w->proxies_n > 1)
        out->share_spread = share_spread(w);
    out->events_n = w->engine.events_n;
    out->virtual_s = world_s(w);
}

void run_end(struct world **world, struct result *out)
{
    struct world *w = *world;

    memset(out, 0, sizeof(*out));
    collect(w, out);
    users_stop(w);
    bulk_stop(w);
    acts_end(w);
    for (uint32_t i = 0; i < w->databases_n; i++)
        if (w->databases[i].up)
            world_kill(w, &w->databases[i]);
    engine_run(&w->engine, w->engine.now_us + US_PER_S);
    for (uint32_t i = 0; i < w->proxies_n; i++)
        proxy_close(&w->proxies[i]);
    out->broken = w->broken;
    users_free(w);
    bulk_free(w);
    for (uint32_t i = 0; i < w->databases_n; i++)
        database_free(&w->databases[i]);
    free(w->databases);
    free(w->proxies);
    free(w->plan);
    measure_free(&w->measure);
    engine_free(&w->engine);
    free(w);
    *world = NULL;
}

void run(const struct world_opts *opts, struct result *out)
{
    clock_t began = clock();
    struct world *w = run_begin(opts);

    engine_run(&w->engine, w->length_us);
    run_end(&w, out);
    out->cpu_s = (double)(clock() - began) / CLOCKS_PER_SEC;
}
