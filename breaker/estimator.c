#include "breaker/estimator.h"

#include <math.h>
#include <string.h>

enum {
    TICK_US = 100 * US_PER_MS,         /* one slice */
    QUEUE_SLICES = 10,                 /* standing queue: the last second */
    CALM_SLICES = 10,                  /* calm quantiles are taken over at least a second */
    CALM_PLAIN_TICKS = 100,            /* the first so many calm ticks weigh the same */
    DRIFT_TICKS = 600,                 /* of calm, in which the quantiles are held back: a minute */
    SLOW_N_MIN = 3,                    /* of a statement: one slow run is no slowdown */
    SLO_N_MIN = 100,                   /* a p99 of fewer samples is one sample's mood */
    OLD_INFLIGHT_US = 500 * US_PER_MS, /* after an intervention older statements count again */
};
#define LEARNING_US_MAX (120ull * US_PER_S) /* then too few pass to ever learn much of them */
#define HOUR_US (3600ull * US_PER_S)
#define OVERDUE_LOG2 3.0 /* 8 times its norm, and still running */
#define SLOW_LOG2 0.5    /* nobody is told of less */
#define DRIFT_SHARE 0.1  /* of the busy time: less is some report's own business */

void estimator_opts_defaults(struct estimator_opts *opts)
{
    *opts = (struct estimator_opts){
        .lat_floor_us = 5ull * US_PER_MS,
        .q_target_us = 20ull * US_PER_MS,
        .slices_n_min = 4,
        .n_min = 30,
        .n_min_test = 12,
        .slo_waits = true,
        .warmup_us = 40ull * US_PER_S,
        .warmup_n = 1000,
        .quick_us = 8ull * US_PER_S,
        .quick_n = 1000,
        .rise_us = 1800ull * US_PER_S,
        .fall_us = 120ull * US_PER_S,
        .anchor_cap = 1.25,
        .anchor_cap_log2 = 0.3,
        .lag_us = 250ull * US_PER_MS,
        .settle_us = 30ull * US_PER_S,
    };
    estimator_opts_preset(opts, ESTIMATOR_BALANCED);
}

void estimator_opts_preset(struct estimator_opts *opts, enum estimator_preset preset)
{
    switch (preset) {
    case ESTIMATOR_STRICT:
        opts->slow50 = 2;
        opts->slow90 = 3;
        return;
    case ESTIMATOR_BALANCED:
        opts->slow50 = 3;
        opts->slow90 = 4.5;
        return;
    case ESTIMATOR_LENIENT:
        opts->slow50 = 4;
        opts->slow90 = 6;
        return;
    }
    must(!"a preset");
}

bool estimator_opts_check(const struct estimator_opts *o, struct err *err)
{
    if (!(o->slow50 > 1) || !(o->slow90 > 1))
        return err_set(err, "22023", "thresholds of slowdown must be above 1");
    if (o->lat_floor_us == 0 || o->q_target_us == 0)
        return err_set(err, "22023", "lat_floor and q_target must be above 0");
    if (o->slices_n_min == 0 || o->slices_n_min > WINDOW_SLICES)
        return err_set(err, "22023", "a window has 1 to %d slices", WINDOW_SLICES);
    if (o->n_min == 0 || o->n_min_test == 0)
        return err_set(err, "22023", "a window must hold at least one sample");
    if (o->rise_us == 0 || o->fall_us == 0)
        return err_set(err, "22023", "time constants of the norm must be above 0");
    if (o->anchor_cap != 0 && !(o->anchor_cap >= 1 && o->anchor_cap_log2 >= 0))
        return err_set(err, "22023", "a norm cannot be capped below its anchor");
    if (o->lag_us <= TICK_US)
        return err_set(err, "22023", "a tick is late after more than one tick, not before");
    return true;
}

void estimator_init(struct estimator *e, const struct estimator_opts *opts, uint64_t now_us)
{
    must(estimator_opts_check(opts, NULL));
    memset(e, 0, sizeof *e);
    e->opts = *opts;
    e->started_us = now_us;
    e->last_tick_us = now_us;
    window_init(&e->window);
    baseline_init(&e->baseline);
}

void estimator_set_opts(struct estimator *e, const struct estimator_opts *opts)
{
    must(estimator_opts_check(opts, NULL));
    e->opts = *opts;
}

static double log2_us(uint64_t us)
{
    return us > 1 ? log2((double)us) : 0;
}

void estimator_observe(struct estimator *e, uint64_t fingerprint, uint64_t dispatched_us,
                       uint64_t service_us)
{
    if (dispatched_us < e->cut_us)
        return; /* belongs to the time before the last intervention took effect */
    struct window_slice *slice = window_slice(&e->window, 0);
    double us_log2 = log2_us(service_us);
    window_hist_add_latency(&slice->latency, us_log2);
    const struct baseline_entry *norm =
        dispatched_us < e->learn_from_us
            ? baseline_find(&e->baseline, fingerprint)
            : baseline_note(&e->baseline, fingerprint, us_log2, service_us);
    if (norm && norm->n >= BASELINE_TRUSTED_N)
        window_hist_add_slowdown(&slice->slowdown, us_log2 - norm->mean_log2);
}

void estimator_observe_wait(struct estimator *e, uint64_t wait_us)
{
    struct window_slice *slice = window_slice(&e->window, 0);
    if (slice->waits_n == 0 || wait_us < slice->wait_us_min)
        slice->wait_us_min = wait_us;
    slice->waits_n++;
}

void estimator_queue_empty(struct estimator *e)
{
    window_slice(&e->window, 0)->queue_was_empty = true;
}

void estimator_intervene(struct estimator *e, uint64_t now_us, uint64_t effect_us)
{
    e->cut_us = now_us + effect_us;
    window_forget_latencies(&e->window);
}

void estimator_resume(struct estimator *e)
{
    e->cut_us = 0;
}

void estimator_settle(struct estimator *e, uint64_t now_us)
{
    e->settled_us = now_us + e->opts.settle_us;
}

void estimator_reset_baseline(struct estimator *e, uint64_t now_us)
{
    struct estimator_opts opts = e->opts;
    estimator_init(e, &opts, now_us);
}

/* ---- pressure ------------------------------------------------------------------------------ */

/* Keeps the slowest, each statement once. */
static void keep_slowest(struct estimator_slow *slowest, const struct estimator_slow *s)
{
    size_t at = ESTIMATOR_SLOWEST;
    for (size_t i = 0; i < ESTIMATOR_SLOWEST && at == ESTIMATOR_SLOWEST; i++)
        if (slowest[i].fingerprint == s->fingerprint)
            at = i;
    if (at == ESTIMATOR_SLOWEST)
        at--; /* its place, if it is slower at all */
    if (slowest[at].slowdown >= s->slowdown)
        return;
    for (; at > 0 && slowest[at - 1].slowdown < s->slowdown; at--)
        slowest[at] = slowest[at - 1];
    slowest[at] = *s;
}

static void add_overdue(struct estimator *e, uint64_t now_us,
                        const struct estimator_inflight *inflight, struct window_slice *sum)
{
    /* What was dispatched before an intervention is not judged by it at first, but what still does
     * not end half a second later is: ignoring it made tests look like successes. */
    bool old_count = us_since(e->cut_us, now_us) > OLD_INFLIGHT_US;
    if (inflight->dispatched_us < e->cut_us && !old_count)
        return;
    const struct baseline_entry *norm = baseline_find(&e->baseline, inflight->fingerprint);
    if (!norm || norm->n < BASELINE_TRUSTED_N)
        return;
    uint64_t age_us = us_since(inflight->dispatched_us, now_us);
    double age_log2 = log2_us(us_since(inflight->unread_us, age_us));
    if (age_log2 - norm->mean_log2 < OVERDUE_LOG2)
        return;
    window_hist_add_slowdown(&sum->slowdown, age_log2 - norm->mean_log2);
    window_hist_add_latency(&sum->latency, age_log2);
    keep_slowest(e->overdue,
                 &(struct estimator_slow){.fingerprint = inflight->fingerprint,
                                          .slowdown = exp2(age_log2 - norm->mean_log2)});
}

/* The newest run of slices of at least slices_n that holds n samples; its length. */
static uint32_t merge_newest(struct estimator *e, uint32_t slices_n, uint32_t n,
                             struct window_slice *sum)
{
    for (uint32_t i = 0; i < WINDOW_SLICES; i++) {
        const struct window_slice *slice = window_slice(&e->window, i);
        window_hist_merge(&sum->slowdown, &slice->slowdown);
        window_hist_merge(&sum->latency, &slice->latency);
        if (i + 1 >= slices_n && sum->slowdown.n >= n)
            return i + 1;
    }
    return WINDOW_SLICES;
}

/* A queue stands if in a whole second nobody got through without waiting: the least wait, not the
 * mean, or a burst that drains would count. */
static double queue_pressure(struct estimator *e, uint64_t head_wait_us)
{
    if (head_wait_us == 0)
        return 0;
    uint64_t wait_us = head_wait_us;
    bool waited = false;
    for (uint32_t i = 0; i < QUEUE_SLICES; i++) {
        const struct window_slice *slice = window_slice(&e->window, i);
        if (slice->queue_was_empty)
            return 0;
        if (slice->waits_n > 0 && (!waited || slice->wait_us_min < wait_us))
            wait_us = slice->wait_us_min;
        waited |= slice->waits_n > 0;
    }
    return ((double)wait_us / US_PER_S) / ((double)e->opts.q_target_us / US_PER_S);
}

static void judge_latency(const struct estimator *e, const struct window_slice *sum,
                          struct pressure *p)
{
    const struct estimator_opts *o = &e->opts;
    p->n = sum->slowdown.n;
    p->p90_us = window_hist_latency_us(&sum->latency, 0.9);
    p->blind = !e->usable || e->calm_ticks_n == 0;
    p->learning = p->blind && sum->latency.n > 0 &&
                  us_since(e->started_us, e->last_tick_us) < LEARNING_US_MAX;
    if (p->blind || p->n < (e->testing ? o->n_min_test : o->n_min))
        return;
    p->s50 = exp2(window_hist_slowdown(&sum->slowdown, 0.5) - e->calm50_log2);
    p->s90 = exp2(window_hist_slowdown(&sum->slowdown, 0.9) - e->calm90_log2);
    double relative = fmax(p->s50 / o->slow50, p->s90 / o->slow90);
    p->p_lat = fmin(relative, p->p90_us / (double)o->lat_floor_us);
}

/* The latencies of so many slices, and of as many more as hold enough for a p99. */
static void judge_slo(struct estimator *e, uint32_t slices_n, struct window_hist *latency,
                      struct pressure *p)
{
    const struct estimator_opts *o = &e->opts;
    if (o->slo_p99_us > 0 && o->slo_waits)
        for (; slices_n < WINDOW_SLICES && latency->n < SLO_N_MIN; slices_n++)
            window_hist_merge(latency, &window_slice(&e->window, slices_n)->latency);
    p->p99_us = window_hist_latency_us(latency, 0.99);
    if (o->slo_p99_us > 0 && latency->n >= SLO_N_MIN)
        p->p_slo = p->p99_us / (double)o->slo_p99_us;
    else if (e->testing && e->slo_tested && o->slo_waits)
        p->n = 0; /* no verdict yet: silence is not health */
}

struct pressure estimator_pressure(struct estimator *e, uint64_t now_us,
                                   const struct estimator_inflight *inflight, size_t inflight_n,
                                   uint64_t head_wait_us)
{
    struct pressure p = {.s50 = 1, .s90 = 1};
    p.lagging = us_since(e->last_tick_us, now_us) > e->opts.lag_us;
    e->last_tick_us = now_us;
    if (p.lagging) { /* we slept, not the database: whatever was under way looks slow, and is not */
        window_drop_newest(&e->window);
        baseline_drop(&e->baseline);
        e->cut_us = now_us;
    }
    struct window_slice sum = {0};
    const struct estimator_opts *o = &e->opts;
    memset(e->overdue, 0, sizeof e->overdue);
    uint32_t slices_n = merge_newest(e, o->slices_n_min, o->n_min, &sum);
    for (size_t i = 0; i < inflight_n && !p.lagging; i++)
        add_overdue(e, now_us, &inflight[i], &sum);
    judge_latency(e, &sum, &p);
    judge_slo(e, slices_n, &sum.latency, &p);
    p.p_q = queue_pressure(e, head_wait_us);
    p.p = fmax(p.p_lat, fmax(p.p_q, p.p_slo));
    return p;
}

/* ---- learning ------------------------------------------------------------------------------ */

static bool warming(const struct estimator *e, uint64_t now_us)
{
    const struct estimator_opts *o = &e->opts;
    return (o->learn_blind ? now_us - e->started_us : e->busy_us) < o->warmup_us;
}

static double weight_of_tick(uint64_t time_constant_us)
{
    return 1 - exp(-((double)TICK_US / US_PER_S) / ((double)time_constant_us / US_PER_S));
}

static void learn_quantiles(struct estimator *e, bool plain, uint32_t hour_i)
{
    struct window_slice sum = {0};
    (void)merge_newest(e, CALM_SLICES, e->opts.n_min, &sum);
    if (sum.slowdown.n < e->opts.n_min)
        return;
    double now50 = window_hist_slowdown(&sum.slowdown, 0.5);
    double now90 = window_hist_slowdown(&sum.slowdown, 0.9);
    if (e->calm_ticks_n < UINT32_MAX)
        e->calm_ticks_n++;
    if (e->calm_ticks_n == 1) {
        e->calm50_log2 = now50;
        e->calm90_log2 = now90;
        return;
    }
    double weight = plain || e->calm_ticks_n < CALM_PLAIN_TICKS ? 1.0 / e->calm_ticks_n
                                                                : weight_of_tick(e->opts.rise_us);
    e->calm50_log2 += (now50 - e->calm50_log2) * weight;
    e->calm90_log2 += (now90 - e->calm90_log2) * weight;
    if (!e->anchored || e->opts.anchor_cap == 0)
        return;
    anchor_note(&e->anchor50, now50, hour_i);
    anchor_note(&e->anchor90, now90, hour_i);
    double highest50 = e->anchor50.low_log2 + e->opts.anchor_cap_log2;
    double highest90 = e->anchor90.low_log2 + e->opts.anchor_cap_log2;
    bool held = e->calm50_log2 > highest50 || e->calm90_log2 > highest90;
    e->quantiles_held_n = held ? e->quantiles_held_n + 1 : 0;
    e->calm50_log2 = fmin(e->calm50_log2, highest50);
    e->calm90_log2 = fmin(e->calm90_log2, highest90);
}

static void anchor(struct estimator *e, uint32_t hour_i)
{
    if (e->calm_ticks_n == 0)
        return;
    e->anchored = true;
    anchor_set(&e->anchor50, e->calm50_log2, hour_i);
    anchor_set(&e->anchor90, e->calm90_log2, hour_i);
    /* The mean of a few samples is no anchor: such a norm gets its own once it is learnt. */
    baseline_anchor(&e->baseline, e->opts.learn_blind ? 1 : BASELINE_LEARNT_N, hour_i);
}

/* Decides when what was learnt may be acted upon; see the head of estimator.h. */
static void count_learnt(struct estimator *e, enum estimator_calm calm, uint32_t samples_n)
{
    const struct estimator_opts *o = &e->opts;
    if (samples_n == 0)
        return; /* nobody was there: time alone teaches nothing */
    e->busy_us += TICK_US;
    e->busy_n += samples_n;
    if (calm == ESTIMATOR_CALM) {
        e->clean_us += TICK_US;
        e->clean_n += samples_n;
    }
    if (e->busy_us >= o->warmup_us && e->busy_n >= o->warmup_n)
        e->usable = true;
    if (e->clean || o->quick_us == 0 || e->clean_us < o->quick_us || e->clean_n < o->quick_n)
        return;
    e->clean = true;
    e->usable = true;
    if (e->clean_us == e->busy_us)
        return;
    /* Some was learnt beside sheddable work: what comes now, clean, shall outvote it. */
    baseline_lighten(&e->baseline, BASELINE_TRUSTED_N);
    e->calm_ticks_n = e->calm_ticks_n > 0;
    e->anchored = false;
    e->busy_us = e->clean_us;
}

void estimator_tick_end(struct estimator *e, uint64_t now_us, enum estimator_calm calm)
{
    const struct estimator_opts *o = &e->opts;
    bool plain = warming(e, now_us);
    uint32_t hour_i = e->hours_before + (uint32_t)(us_since(e->started_us, now_us) / HOUR_US);
    bool learn =
        (calm != ESTIMATOR_DISTURBED && now_us >= e->settled_us) || (plain && o->learn_blind);
    if (!plain && !e->anchored)
        anchor(e, hour_i);
    if (learn) {
        uint32_t samples_n =
            baseline_fold(&e->baseline, &(struct baseline_pace){
                                            .plain = plain,
                                            .up = weight_of_tick(o->rise_us),
                                            .down = weight_of_tick(o->fall_us),
                                            .cap_log2 = o->anchor_cap > 0 ? log2(o->anchor_cap) : 0,
                                            .hour_i = hour_i,
                                        });
        learn_quantiles(e, plain, hour_i);
        count_learnt(e, calm, samples_n);
        e->usable |= o->learn_blind;
    } else {
        baseline_drop(&e->baseline);
    }
    baseline_walk(&e->baseline);
    window_turn(&e->window);
}

/* ---- for people ---------------------------------------------------------------------------- */

void estimator_slowest(const struct estimator *e, struct estimator_slow out[ESTIMATOR_SLOWEST])
{
    const struct baseline *b = &e->baseline;
    memcpy(out, e->overdue, sizeof e->overdue);
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++) {
        const struct baseline_entry *norm = &b->entries[i];
        double slow_log2 = (double)norm->now_log2 - norm->mean_log2;
        if (norm->n < BASELINE_TRUSTED_N || slow_log2 < SLOW_LOG2 ||
            baseline_now_n(b, norm) < SLOW_N_MIN)
            continue;
        keep_slowest(out, &(struct estimator_slow){.fingerprint = norm->fingerprint,
                                                   .slowdown = exp2(slow_log2),
                                                   .n = (uint32_t)baseline_now_n(b, norm)});
    }
}

struct estimator_drift estimator_drift(const struct estimator *e)
{
    struct estimator_drift d = {.held_n = e->baseline.held_n,
                                .held_share = e->baseline.held_share,
                                .quantiles = e->quantiles_held_n >= DRIFT_TICKS};
    d.alert = d.quantiles || d.held_share >= DRIFT_SHARE;
    return d;
}
