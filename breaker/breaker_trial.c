/* The experiment: a class is held, pressure falls or does not, half of it is given back, pressure
 * returns or does not; and what is said of the class then. From the trip (tick_closed) to the
 * verdict, also the late one of work that outlasted our patience. */
#include "breaker/breaker_inside.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TRIAL_WEIGHT 0.2 /* of a tick */
#define TO_FLOOR 0.02    /* share left to a class found guilty by a way that cannot be taken back */

enum {
    EFFECT_US = BREAKER_EFFECT_US,
    EFFECT_BACK_US = 100 * US_PER_MS, /* ... from giving back; cancels */
    BEFORE_US = 300 * US_PER_MS,      /* into a test: pressure that still stems from before it */
    RETRIP_US = 600 * US_PER_MS, /* into probation: earlier pressure is the release's own jolt */
    PROBATION_RAMP_US = US_PER_S,
    EXONERATED_CALM_US = 5ull * US_PER_S,
    EXONERATED_ROW_MAX = 5,
};

/* Of the classes held by this series of tests: what has to drain, as nothing else ends it. */
static uint32_t draining_n(const struct breaker *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= b->suspect_i && b->opts.drain_unpaced; i++)
        if (breaker_is_unpaced(&b->classes[i]))
            n += b->classes[i].use.active_n;
    return n;
}

static uint32_t cancellable_n(const struct breaker *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= b->suspect_i; i++)
        if (b->classes[i].opts.cancelled)
            n += b->classes[i].use.nonstreaming_n;
    return n;
}

/* ---- verdicts -------------------------------------------------------------------------------- */

/* Of all classes this series of tests has held so far. */
static void judge_tested(struct breaker *b, enum breaker_verdict verdict)
{
    for (uint32_t i = 0; i <= b->suspect_i; i++)
        if (b->classes[i].verdict == BREAKER_IS_TESTING ||
            b->classes[i].verdict == BREAKER_IS_UNDECIDED)
            b->classes[i].verdict = verdict;
    b->verdicts_n[verdict]++;
}

/* Of the one on probation. */
static void judge_suspect(struct breaker *b, enum breaker_verdict verdict)
{
    b->classes[b->suspect_i].verdict = verdict;
    b->verdicts_n[verdict]++;
}

/* A trial that was broken off says nothing. */
void breaker_unjudge(struct breaker *b)
{
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].verdict == BREAKER_IS_TESTING ||
            b->classes[i].verdict == BREAKER_IS_SUSPECT)
            b->classes[i].verdict = BREAKER_IS_NONE;
}

/* ---- closed, exonerated -------------------------------------------------------------------- */

static void begin_test(const struct tick *t, uint32_t class_i)
{
    struct breaker *b = t->b;
    struct breaker_class *c = &b->classes[class_i];
    b->suspect_i = class_i;
    c->verdict = BREAKER_IS_TESTING;
    b->p_trial = 0;
    limit_pause(&c->limit);
    estimator_intervene(t->e, b->now_us, EFFECT_US);
    breaker_move(b, BREAKER_TEST, (int)class_i, "P=%.2f: holding %s to see whether it helps", t->p,
                 c->opts.name);
    estimator_slowest(t->e, breaker_last_transition(b)->slowest);
}

static void trip(const struct tick *t)
{
    struct breaker *b = t->b;
    uint32_t class_i = breaker_next_candidate(b, 0);
    if (class_i == b->classes_n)
        return; /* nothing sheddable runs: not ours to heal */
    b->tests_n++;
    b->undecided = false;
    b->lost_us = 0;
    b->test_cancelled_n = 0;
    b->test_drained = false;
    b->p_before = t->p;
    b->p_steady = b->p_smooth;
    t->e->slo_tested = fmax(b->pressure.p_lat, b->pressure.p_q) < b->opts.p_high;
    b->cancel_quarters_n = 1;
    b->next_cancel_us = b->now_us + b->opts.cancel_after_us;
    b->first_test_us = b->now_us;
    begin_test(t, class_i);
}

/* What cannot be slowed once it runs is let in little by little. Each rest halves what a class may
 * begin with, down to a few statements. */
static void ease_in(const struct tick *t, struct breaker_class *c)
{
    const struct breaker *b = t->b;
    double start = fmin(1, (double)b->opts.start_n / fmax(1, c->use.cap_n));
    start = fmax(start, c->limit.floor);
    if (c->rested_us == 0)
        c->limit.g = start;
    else if (b->now_us - c->rested_us >= b->opts.start_rest_us)
        c->limit.g = fmax(start, c->limit.g / 2);
    else
        return;
    c->rested_us = b->now_us;
    if (c->limit.g <= start)
        limit_forget_bad(&c->limit);
}

void breaker_tick_closed(const struct tick *t)
{
    struct breaker *b = t->b;
    enum breaker_state was = b->state;
    /* What flows in a clean probe, and in the second after it, is not what would flow. */
    bool flows = b->clean_since_us == 0 && b->now_us >= b->clean_flows_us;
    for (uint32_t i = 0; i < b->classes_n && flows; i++)
        limit_note_rate(&b->classes[i].limit, (double)b->classes[i].use.bytes_per_s,
                        (double)b->classes[i].opts.trickle_bytes_per_s);
    if (was == BREAKER_EXONERATED && t->p < b->opts.p_low && t->in_us > EXONERATED_CALM_US) {
        breaker_move(b, BREAKER_CLOSED, -1, "P=%.2f: the pressure is gone", t->p);
        b->no_test_until_us = b->now_us + EXONERATED_CALM_US;
    }
    for (uint32_t i = 0; i < b->classes_n && b->state == BREAKER_CLOSED; i++)
        if (breaker_eases_in(b, &b->classes[i]))
            ease_in(t, &b->classes[i]);
    bool worse = t->p >= 2 * b->p_exonerated;
    bool wait = b->now_us < b->no_test_until_us;
    if (was == BREAKER_EXONERATED && wait && !worse) {
        breaker_raise_one(t);
        return;
    }
    if (was == BREAKER_EXONERATED && worse && b->opts.early_retest)
        wait = false;
    if (b->high_ticks_n >= b->opts.trip_ticks_n && !wait)
        trip(t);
    else if (was == BREAKER_CLOSED)
        breaker_raise_one(t);
}

/* ---- test ---------------------------------------------------------------------------------- */

static bool helped(const struct tick *t)
{
    /* A share of P, not a difference: from 131 to 80 is no help, from 2 to 1.2 is. */
    return t->p <= pow(fmax(1.0, t->b->p_before), t->b->opts.improve);
}

/* In a test: by more than it does by itself. */
static bool fell(const struct tick *t)
{
    const struct breaker *b = t->b;
    return b->opts.fall == 0 || t->p < b->opts.p_low || b->p_trial <= b->opts.fall * b->p_steady;
}

static void give_back_held(struct breaker *b, double share, bool fresh)
{
    for (uint32_t i = 0; i <= b->suspect_i; i++) {
        struct limit *l = &b->classes[i].limit;
        if (l->g == 0)
            limit_give_back(l, share, fresh ? 1 : l->bad_n);
    }
}

static bool was_tried_in_vain(const struct breaker *b, uint32_t class_i)
{
    const struct breaker_class *c = &b->classes[class_i];
    return b->opts.absolve_tried && class_i < b->suspect_i && c->opts.paced &&
           limit_at_floor(&c->limit);
}

/* The suspect is the cause: those that were held before it were not. */
static void absolve_tried(struct breaker *b)
{
    for (uint32_t i = 0; i < b->suspect_i; i++) {
        if (!was_tried_in_vain(b, i))
            continue;
        limit_absolve(&b->classes[i].limit);
        b->classes[i].verdict = BREAKER_IS_EXONERATED;
    }
}

/* Pressure fell: the suspect is guilty, or lucky; probation will tell. */
static void test_passed(const struct tick *t)
{
    struct breaker *b = t->b;
    struct breaker_class *c = &b->classes[b->suspect_i];
    if (b->test_cancelled_n > 0 || b->test_drained) {
        /* The verdict cost what no release can take back: half at once would only re-admit it. */
        absolve_tried(b);
        give_back_held(b, TO_FLOOR, true);
        estimator_resume(t->e);
        b->exonerated_in_row_n = 0;
        b->confirmed_n++;
        judge_tested(b, BREAKER_IS_CULPRIT);
        b->high_ticks_n = 0;
        breaker_move(b, BREAKER_THROTTLED, (int)b->suspect_i, "%s is the cause (%s): P %.2f->%.2f",
                     c->opts.name, b->test_cancelled_n > 0 ? "cancelled" : "drained", b->p_before,
                     t->p);
        return;
    }
    limit_give_back(&c->limit, 0.5, 0);
    c->verdict = BREAKER_IS_SUSPECT;
    for (uint32_t i = 0; i < b->suspect_i; i++) {
        if (b->classes[i].limit.g > 0)
            continue;
        b->classes[i].limit.g = b->classes[i].limit.floor;
        b->classes[i].verdict = BREAKER_IS_UNDECIDED;
    }
    estimator_intervene(t->e, b->now_us, EFFECT_BACK_US);
    b->high_ticks_n = 0;
    breaker_move(b, BREAKER_PROBATION, (int)b->suspect_i,
                 "holding %s helped, P %.2f->%.2f: half of it back", c->opts.name, b->p_before,
                 t->p);
}

/* A quarter, a half, all of what only a cancel ends, a round a second. */
static void cancel_round(const struct tick *t, uint32_t all_n)
{
    struct breaker *b = t->b;
    if (b->now_us < b->next_cancel_us || t->p < b->opts.p_cancel)
        return;
    uint32_t n = (uint32_t)(((uint64_t)all_n * b->cancel_quarters_n + 3) / 4);
    for (uint32_t i = 0; i <= b->suspect_i; i++)
        if (b->classes[i].opts.cancelled)
            b->test_cancelled_n += breaker_cancel(b, &b->classes[i], n > 1 ? n : 1);
    if (b->cancel_quarters_n < 1u << 16)
        b->cancel_quarters_n *= 2;
    b->next_cancel_us = b->now_us + BREAKER_ROUND_US;
    b->last_cancel_us = b->now_us;
    estimator_intervene(t->e, b->now_us, EFFECT_BACK_US);
}

/* "; slowest: 00ab..ef 7.4x, ..." or nothing. */
static const char *name_slowest(const struct estimator_slow *slowest, char *buf, size_t buf_bytes)
{
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < ESTIMATOR_SLOWEST && slowest[i].fingerprint != 0; i++) {
        int more_n =
            snprintf(buf + n, buf_bytes - n, "%s%016llx %.1fx", i == 0 ? "; slowest: " : ", ",
                     (unsigned long long)slowest[i].fingerprint, slowest[i].slowdown);
        if (more_n < 0 || n + (size_t)more_n >= buf_bytes) {
            buf[n] = '\0'; /* a whole one or none */
            break;
        }
        n += (size_t)more_n;
    }
    return buf;
}

static void exonerate(const struct tick *t)
{
    struct breaker *b = t->b;
    b->exonerated_n++;
    if (b->exonerated_in_row_n < EXONERATED_ROW_MAX)
        b->exonerated_in_row_n++;
    b->p_exonerated = t->p;
    b->no_test_until_us = b->now_us + (b->opts.exonerated_us << (b->exonerated_in_row_n - 1));
    estimator_resume(t->e);
    judge_tested(b, BREAKER_IS_EXONERATED);
    struct estimator_slow slowest[ESTIMATOR_SLOWEST];
    char names[BREAKER_WHY_BYTES / 2];
    estimator_slowest(t->e, slowest);
    breaker_move(b, BREAKER_EXONERATED, -1,
                 "latency is not caused by sheddable classes: P %.2f->%.2f%s", b->p_before, t->p,
                 name_slowest(slowest, names, sizeof names));
    memcpy(breaker_last_transition(b)->slowest, slowest, sizeof slowest);
}

/* All candidates are held and pressure is still there. */
static void test_exhausted(const struct tick *t)
{
    struct breaker *b = t->b;
    uint32_t running_n = draining_n(b);
    if (running_n > 0 &&
        b->now_us - b->first_test_us < b->opts.cancel_after_us + b->opts.cancel_patience_us)
        return;
    bool helps = helped(t) && fell(t);
    if (running_n > 0 || helps) {
        b->undecided = !helps;
        b->drained_us = b->now_us;
        judge_tested(b, b->undecided ? BREAKER_IS_UNDECIDED : BREAKER_IS_PARTIAL);
        give_back_held(b, 0, false);
        estimator_resume(t->e);
        breaker_move(b, BREAKER_THROTTLED, (int)b->suspect_i,
                     b->undecided ? "P %.2f->%.2f: no verdict while %u statements run on"
                                  : "holding helped in part, P %.2f->%.2f",
                     b->p_before, t->p, running_n);
        return;
    }
    for (uint32_t i = 0; i <= b->suspect_i; i++)
        if (b->classes[i].limit.g == 0)
            limit_absolve(&b->classes[i].limit);
    exonerate(t);
}

void breaker_tick_test(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    if (t->in_us < BEFORE_US)
        b->p_before = fmax(b->p_before, t->p);
    else
        b->p_trial += (t->p - b->p_trial) * (b->p_trial == 0 ? 1 : TRIAL_WEIGHT);
    bool seen = b->pressure.n >= o->verdict_n || t->p >= o->p_high;
    if (t->in_us < o->test_us_min || (!seen && t->in_us < o->test_slow_us))
        return;
    b->test_drained |= draining_n(b) > 0; /* short statements have ended by now */
    if (t->p < o->p_low || (t->in_us >= o->test_us && t->p < o->p_high && fell(t))) {
        test_passed(t);
        return;
    }
    if (t->in_us < o->test_us || (helped(t) && fell(t) && t->in_us < o->test_us_max))
        return; /* give it time to drain */
    uint32_t all_n = cancellable_n(b);
    if (all_n > 0) {
        cancel_round(t, all_n);
        if (b->now_us - b->first_test_us < o->cancel_after_us + o->cancel_patience_us)
            return;
    } else if (b->last_cancel_us > 0 && b->now_us - b->last_cancel_us < BREAKER_ROUND_US) {
        return;
    }
    uint32_t class_i = breaker_next_candidate(b, b->suspect_i + 1);
    if (class_i < b->classes_n)
        begin_test(t, class_i);
    else
        test_exhausted(t);
}

/* ---- probation ----------------------------------------------------------------------------- */

void breaker_tick_probation(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    struct breaker_class *c = &b->classes[b->suspect_i];
    if (t->in_us > BREAKER_JUDGE_ALL_US)
        estimator_resume(t->e);
    if (b->high_ticks_n >= o->retrip_ticks_n && t->in_us >= RETRIP_US) {
        breaker_draw_jitter(b, &c->limit);
        limit_convict(&c->limit, &o->limit, t->p);
        b->exonerated_in_row_n = 0;
        b->confirmed_n++;
        judge_suspect(b, BREAKER_IS_CULPRIT);
        absolve_tried(b);
        estimator_intervene(t->e, b->now_us, EFFECT_US);
        breaker_move(b, BREAKER_THROTTLED, (int)b->suspect_i,
                     "%s is the cause: back at half, P=%.2f; now %.1f %%", c->opts.name, t->p,
                     100 * c->limit.g);
        b->high_ticks_n = 0;
        return;
    }
    if (t->in_us > PROBATION_RAMP_US)
        breaker_raise_one(t);
    if (t->in_us <= o->probation_us)
        return;
    if (breaker_all_back(b)) {
        judge_suspect(b, BREAKER_IS_FALSE_ALARM);
        breaker_move(b, BREAKER_CLOSED, (int)b->suspect_i, "false alarm: all of %s is back",
                     c->opts.name);
    } else if (t->p < o->p_low && c->limit.g >= 0.85 * c->limit.g_trip) {
        limit_forget_bad(&c->limit);
        judge_suspect(b, BREAKER_IS_FALSE_ALARM);
        breaker_move(b, BREAKER_THROTTLED, (int)b->suspect_i, "not confirmed: %s goes on rising",
                     c->opts.name);
    }
}

/* ---- late ---------------------------------------------------------------------------------- */

static void convict_late(struct breaker *b)
{
    b->undecided = false;
    b->confirmed_n++;
    judge_tested(b, BREAKER_IS_CULPRIT);
}

/* Throttled without a verdict: once what could not be held has drained, pressure that is still
 * there is not its work. */
bool breaker_decide_late(const struct tick *t)
{
    struct breaker *b = t->b;
    if (!b->undecided)
        return false;
    if (t->p < b->opts.p_low) {
        convict_late(b);
        return false;
    }
    for (uint32_t i = 0; i < b->classes_n; i++) {
        const struct breaker_class *c = &b->classes[i];
        if (c->limit.g < 1 && c->use.active_n > limit_statements(&c->limit, c->use.cap_n))
            b->drained_us = b->now_us;
    }
    if (b->now_us - b->drained_us < b->opts.test_us || t->p < b->opts.p_high)
        return false;
    if (helped(t)) {
        convict_late(b);
        return false;
    }
    b->undecided = false;
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].limit.g < 1)
            limit_absolve(&b->classes[i].limit);
    exonerate(t);
    return true;
}
