#include "bench/sim/goals.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/sim/policy.h"

/* The goals; each has its reason in the design's list of them. */
#define ACTION_S 1.6      /* a second of evidence, and half a window */
#define ACTION_SLOW_S 5.0 /* ... where only 8 statements a second speak */
#define BAD_STREAMS_S 3.0
#define BAD_SCANS_S 8.0
#define SLOW_STRICT 2.0 /* p99 over that of calm */
#define SLOW_BALANCED 3.0
#define FEW_SAMPLES 1.25 /* the p99 of 900 statements is the ninth worst: half of it is luck */
#define CUTS_PER_MINUTE 1.0
#define STEADY_S 240.0 /* a shorter event has no steady state */
#define CLOSED_S 60.0
#define GAP_S 2.2       /* each stream moves once in 2 s, and a pump's beat */
#define BULK_LOSS 2.0   /* percent, where nobody is to blame */
#define SURGE_LOST 27.0 /* percent: 1 - 4500/6000, and 2 */
#define SURGE_RECOVERY_S 1.0
#define TESTS_PER_HOUR 1.0
#define HOUR_S 3600.0
#define INVERTED_S 20.0 /* the probe sees it, 3 s of patience, and what has piled up */
#define INVERTED_LOST 0.1
#define BENIGN_LOST 1.0 /* percent more than with caps by hand: a run more or less unlucky */

void goals_init(struct goals *g, const struct scenario *s, const struct policy *policy)
{
    *g = (struct goals){.scenario = s, .policy = policy};
}

static bool is_met(const struct goal *goal)
{
    return goal->at_least ? goal->value >= goal->bound : goal->value <= goal->bound;
}

/* Keeps the worst: as far above, or below, the bound as any seed came. */
static void add(struct goals *g, const struct goal *goal)
{
    for (uint32_t i = 0; i < g->n; i++) {
        struct goal *known = &g->at[i];
        if (strcmp(known->what, goal->what) != 0)
            continue;
        double is = goal->value - goal->bound, was = known->value - known->bound;
        if (goal->at_least ? is < was : is > was)
            *known = *goal;
        return;
    }
    must(g->n < GOALS_MAX);
    g->at[g->n++] = *goal;
}

static void at_most(struct goals *g, const char *what, double value, double bound, const char *unit)
{
    add(g, &(struct goal){.what = what, .unit = unit, .value = value, .bound = bound});
}

/* With the event everything ends that could hold a breaker open. */
static bool cause_ends(const struct scenario *s)
{
    for (uint32_t i = 0; i < SCENARIO_BULK_MAX; i++)
        if (s->bulk[i].to_s > s->event_to_s)
            return false;
    return s->event_to_s + CLOSED_S < s->length_s;
}

static void add_culprit(struct goals *g, const struct result *r)
{
    const struct scenario *s = g->scenario;
    const struct outcome *o = &r->outcome;
    bool scans = s->kind == SCENARIO_SCANS;

    if (s->sudden)
        at_most(g, "first action", r->first_action_s < 0 ? INFINITY : r->first_action_s,
                s->slow_sample ? ACTION_SLOW_S : ACTION_S, "s");
    at_most(g, "bad seconds", o->bad_s, scans ? BAD_SCANS_S : BAD_STREAMS_S, "s");
    at_most(g, "p99 over calm, settled", o->settled_p99_ms / o->calm_p99_ms,
            (g->policy->strict ? SLOW_STRICT : SLOW_BALANCED) * (s->slow_sample ? FEW_SAMPLES : 1),
            "times");
    at_most(g, "lost", o->lost_percent, 0, "%");
    if (s->event_to_s - s->event_from_s >= STEADY_S)
        at_most(g, "cuts in steady state", r->cuts_per_minute, CUTS_PER_MINUTE, "a minute");
    if (cause_ends(s))
        at_most(g, "closed again after", r->closed_s < 0 ? INFINITY : r->closed_s, CLOSED_S, "s");
    at_most(g, "stream not read for", r->stream_gap_s, GAP_S, "s");
}

static double bulk_of(const struct result *r)
{
    return r->outcome.bytes_per_s[MEASURE_BULK] + r->outcome.bytes_per_s[MEASURE_BACKUP];
}

static void add_blameless(struct goals *g, const struct result *r, const struct result *capped)
{
    at_most(g, "wrongly convicted", (double)r->confirmed_n, 0, "times");
    at_most(g, "lost beyond caps by hand", r->outcome.lost_percent - capped->outcome.lost_percent,
            BENIGN_LOST, "%");
    if (g->scenario->lossless)
        at_most(g, "lost", r->outcome.lost_percent, 0, "%");
    if (g->scenario->kind == SCENARIO_BENIGN && r->virtual_s >= HOUR_S)
        at_most(g, "tests an hour", (double)r->tests_n * HOUR_S / r->virtual_s, TESTS_PER_HOUR, "");
    if (g->scenario->kind == SCENARIO_BENIGN)
        at_most(g, "bulk loses", 100 * (1 - bulk_of(r) / bulk_of(capped)), BULK_LOSS, "%");
    at_most(g, "statements cancelled", (double)r->cancels_n, 0, "");
}

void goals_add(struct goals *g, const struct result *r, const struct result *capped)
{
    const struct outcome *o = &r->outcome;

    if (r->broken != NULL)
        g->broken = r->broken;
    switch (g->scenario->kind) {
    case SCENARIO_STREAMS:
    case SCENARIO_SCANS:
        add_culprit(g, r);
        break;
    case SCENARIO_BENIGN:
    case SCENARIO_INNOCENT:
        add_blameless(g, r, capped);
        break;
    case SCENARIO_SICK:
        at_most(g, "bad seconds beyond caps", (double)r->outcome.bad_s - capped->outcome.bad_s, 0,
                "s");
        at_most(g, "lost beyond caps by hand",
                r->outcome.lost_percent - capped->outcome.lost_percent, BENIGN_LOST, "%");
        at_most(g, "statements cancelled", (double)r->cancels_n, 0, "");
        break;
    case SCENARIO_SURGE:
        at_most(g, "lost", r->outcome.lost_percent, SURGE_LOST, "%");
        at_most(g, "recovered after", r->outcome.recovery_s, SURGE_RECOVERY_S, "s");
        break;
    case SCENARIO_INVERSION:
        at_most(g, "bad seconds", o->bad_s, INVERTED_S, "s");
        at_most(g, "lost", o->lost_percent, INVERTED_LOST, "%");
        at_most(g, "statements cancelled", (double)r->cancels_n, 0, "");
        break;
    case SCENARIO_OPEN:
        at_most(g, "lost beyond caps by hand", o->lost_percent - capped->outcome.lost_percent,
                BENIGN_LOST, "%");
        break;
    }
    if (g->scenario->jobs_n > 0)
        add(g, &(struct goal){.what = "jobs that ended well",
                              .unit = "",
                              .value = r->jobs_done_n,
                              .bound = g->scenario->jobs_n,
                              .at_least = true});
}

uint32_t goals_failed_n(const struct goals *g)
{
    uint32_t n = g->broken != NULL;

    for (uint32_t i = 0; i < g->n; i++)
        n += !is_met(&g->at[i]);
    return n;
}

uint32_t goals_print(const struct goals *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        const struct goal *goal = &g->at[i];
        printf("%s %-9s %-13s %-26s %8.2f %s %.2f %s\n", is_met(goal) ? "PASS" : "FAIL",
               g->scenario->name, g->policy->name, goal->what, goal->value,
               goal->at_least ? ">=" : "<=", goal->bound, goal->unit);
    }
    if (g->broken != NULL)
        printf("FAIL %-9s %-13s %s\n", g->scenario->name, g->policy->name, g->broken);
    return goals_failed_n(g);
}
