#include "breaker/breaker.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "breaker/breaker_inside.h"

#define TRIAL_WEIGHT 0.2 /* of a tick */
#define TO_FLOOR 0.02    /* share left to a class found guilty by a way that cannot be taken back */

enum {
    EFFECT_US = BREAKER_EFFECT_US,
    EFFECT_BACK_US = 100 * US_PER_MS, /* ... from giving back; cancels */
    JUDGE_ALL_US = 500 * US_PER_MS,   /* after so long older statements count again */
    BEFORE_US = 300 * US_PER_MS,      /* into a test: pressure that still stems from before it */
    RETRIP_US = 600 * US_PER_MS, /* into probation: earlier pressure is the release's own jolt */
    PROBATION_RAMP_US = US_PER_S,
    EXONERATED_CALM_US = 5ull * US_PER_S,
    ROUND_US = US_PER_S, /* between two rounds of cancels */
    EXONERATED_ROW_MAX = 5,
    LOST_US_MAX = US_PER_S, /* of a trial: what is seen after an outage is the outage's */
};

static const uint32_t may_follow[] = {
#define X(state, name, next) [BREAKER_##state] = next,
    BREAKER_STATES(X)
#undef X
};

/* What one tick's helpers need; lives for that tick. */
struct tick {
    struct breaker *b;
    struct estimator *e;
    double p;
    uint64_t in_us; /* time in the state */
};

/* ---- records ------------------------------------------------------------------------------- */

static struct breaker_transition *record(struct breaker *b, enum breaker_state to, int class_i)
{
    struct breaker_transition *t = &b->transitions[b->transitions_n++ % BREAKER_TRANSITIONS];
    *t = (struct breaker_transition){
        .at_us = b->now_us,
        .from = b->state,
        .to = to,
        .class_i = class_i,
        .pressure = b->pressure,
        .p_before = b->p_before,
        .p_smooth = b->p_smooth,
        .high_ticks_n = b->high_ticks_n,
        .classes_n = b->classes_n,
    };
    for (uint32_t i = 0; i < b->classes_n; i++) {
        t->classes[i].g = b->classes[i].limit.g;
        t->classes[i].g_bad = b->classes[i].limit.g_bad;
        t->classes[i].use = b->classes[i].use;
    }
    return t;
}

static struct breaker_transition *last_transition(struct breaker *b)
{
    must(b->transitions_n > 0);
    return &b->transitions[(b->transitions_n - 1) % BREAKER_TRANSITIONS];
}

/* The one way to change state. */
PRINTF_LIKE(4, 5)
static void move(struct breaker *b, enum breaker_state to, int class_i, const char *fmt, ...)
{
    must(may_follow[b->state] & BIT(to));
    struct breaker_transition *t = record(b, to, class_i);
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->why, sizeof t->why, fmt, args);
    va_end(args);
    if (b->state != to)
        b->state_us = b->now_us;
    b->state = to;
    b->since_us = b->now_us;
}

/* ---- classes ------------------------------------------------------------------------------- */

/* A candidate for a test or a cut. A class that is only observed is one only if no class we may act
 * on has work: pausing it would be pretence, and prove nothing while the protected ones wait. */
static bool has_demand(const struct breaker *b, uint32_t class_i)
{
    const struct breaker_class *c = &b->classes[class_i];
    if (c->opts.mode == BREAKER_OFF || !breaker_has_work(c))
        return false;
    if (c->opts.mode == BREAKER_ENFORCE)
        return true;
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].opts.mode == BREAKER_ENFORCE && breaker_has_work(&b->classes[i]))
            return false;
    return true;
}

/* The lowest class with demand from class_i on; classes_n if there is none. */
static uint32_t next_candidate(const struct breaker *b, uint32_t class_i)
{
    while (class_i < b->classes_n && !has_demand(b, class_i))
        class_i++;
    return class_i;
}

/* Running work that neither a hold nor a pace reaches. */
static uint32_t unreachable_n(const struct breaker *b, const struct breaker_class *c)
{
    return b->opts.drain_unpaced && breaker_is_unpaced(c) ? c->use.active_n : c->use.nonstreaming_n;
}

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

static uint32_t cancel(struct breaker *b, struct breaker_class *c, uint32_t n)
{
    if (n > c->use.nonstreaming_n)
        n = c->use.nonstreaming_n;
    c->would.cancel_n += n;
    c->asked_cancels_n += n;
    b->cancels_n += n;
    return n;
}

/* A limit that nobody feels: such a class gets no more, or it would come out of a rest all at once.
 */
static bool content(const struct breaker *b, const struct breaker_class *c)
{
    return breaker_eases_in(b, c) && (c->use.queued_n == 0 || c->use.active_n < c->would.limit_n);
}

static bool all_back(const struct breaker *b)
{
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].limit.g < 1 && !content(b, &b->classes[i]))
            return false;
    return true;
}

/* Highest class first; the lower ones wait until it is back. */
static void raise_one(const struct tick *t)
{
    const struct breaker *b = t->b;
    bool unseen = b->pressure.n < b->opts.rise_n && t->in_us < b->opts.rise_wait_us;
    if (t->p >= b->opts.p_low || unseen)
        return;
    for (uint32_t i = b->classes_n; i-- > 0;) {
        struct breaker_class *c = &t->b->classes[i];
        if (c->limit.g >= 1 || content(b, c) || (b->pressure.learning && breaker_eases_in(b, c)))
            continue;
        if (breaker_eases_in(b, c) && t->p >= b->opts.p_ease)
            return;
        limit_raise(&c->limit, &b->opts.limit,
                    &(struct limit_use){
                        .cap_n = c->use.cap_n,
                        .active_n = c->use.active_n,
                        .queued_n = c->use.queued_n,
                        .bytes_per_s = (double)c->use.bytes_per_s,
                        .trickle_bytes_per_s = (double)c->opts.trickle_bytes_per_s,
                    });
        return;
    }
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
static void unjudge(struct breaker *b)
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
    move(b, BREAKER_TEST, (int)class_i, "P=%.2f: holding %s to see whether it helps", t->p,
         c->opts.name);
    estimator_slowest(t->e, last_transition(b)->slowest);
}

static void trip(const struct tick *t)
{
    struct breaker *b = t->b;
    uint32_t class_i = next_candidate(b, 0);
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

static void tick_closed(const struct tick *t)
{
    struct breaker *b = t->b;
    enum breaker_state was = b->state;
    /* What flows in a clean probe, and in the second after it, is not what would flow. */
    bool flows = b->clean_since_us == 0 && b->now_us >= b->clean_flows_us;
    for (uint32_t i = 0; i < b->classes_n && flows; i++)
        limit_note_rate(&b->classes[i].limit, (double)b->classes[i].use.bytes_per_s,
                        (double)b->classes[i].opts.trickle_bytes_per_s);
    if (was == BREAKER_EXONERATED && t->p < b->opts.p_low && t->in_us > EXONERATED_CALM_US) {
        move(b, BREAKER_CLOSED, -1, "P=%.2f: the pressure is gone", t->p);
        b->no_test_until_us = b->now_us + EXONERATED_CALM_US;
    }
    for (uint32_t i = 0; i < b->classes_n && b->state == BREAKER_CLOSED; i++)
        if (breaker_eases_in(b, &b->classes[i]))
            ease_in(t, &b->classes[i]);
    bool worse = t->p >= 2 * b->p_exonerated;
    bool wait = b->now_us < b->no_test_until_us;
    if (was == BREAKER_EXONERATED && wait && !worse) {
        raise_one(t);
        return;
    }
    if (was == BREAKER_EXONERATED && worse && b->opts.early_retest)
        wait = false;
    if (b->high_ticks_n >= b->opts.trip_ticks_n && !wait)
        trip(t);
    else if (was == BREAKER_CLOSED)
        raise_one(t);
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
        move(b, BREAKER_THROTTLED, (int)b->suspect_i, "%s is the cause (%s): P %.2f->%.2f",
             c->opts.name, b->test_cancelled_n > 0 ? "cancelled" : "drained", b->p_before, t->p);
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
    move(b, BREAKER_PROBATION, (int)b->suspect_i,
         "holding %s helped, P %.2f->%.2f: half of it back", c->opts.name, b->p_before, t->p);
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
            b->test_cancelled_n += cancel(b, &b->classes[i], n > 1 ? n : 1);
    if (b->cancel_quarters_n < 1u << 16)
        b->cancel_quarters_n *= 2;
    b->next_cancel_us = b->now_us + ROUND_US;
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
    move(b, BREAKER_EXONERATED, -1, "latency is not caused by sheddable classes: P %.2f->%.2f%s",
         b->p_before, t->p, name_slowest(slowest, names, sizeof names));
    memcpy(last_transition(b)->slowest, slowest, sizeof slowest);
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
        move(b, BREAKER_THROTTLED, (int)b->suspect_i,
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

static void tick_test(const struct tick *t)
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
    } else if (b->last_cancel_us > 0 && b->now_us - b->last_cancel_us < ROUND_US) {
        return;
    }
    uint32_t class_i = next_candidate(b, b->suspect_i + 1);
    if (class_i < b->classes_n)
        begin_test(t, class_i);
    else
        test_exhausted(t);
}

/* ---- probation ----------------------------------------------------------------------------- */

static void draw_jitter(struct breaker *b, struct limit *l)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    l->jitter = (double)(b->random >> 11) * 0x1p-52 - 1; /* 53 bits over [-1, 1) */
}

static void tick_probation(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    struct breaker_class *c = &b->classes[b->suspect_i];
    if (t->in_us > JUDGE_ALL_US)
        estimator_resume(t->e);
    if (b->high_ticks_n >= o->retrip_ticks_n && t->in_us >= RETRIP_US) {
        draw_jitter(b, &c->limit);
        limit_convict(&c->limit, &o->limit, t->p);
        b->exonerated_in_row_n = 0;
        b->confirmed_n++;
        judge_suspect(b, BREAKER_IS_CULPRIT);
        absolve_tried(b);
        estimator_intervene(t->e, b->now_us, EFFECT_US);
        move(b, BREAKER_THROTTLED, (int)b->suspect_i,
             "%s is the cause: back at half, P=%.2f; now %.1f %%", c->opts.name, t->p,
             100 * c->limit.g);
        b->high_ticks_n = 0;
        return;
    }
    if (t->in_us > PROBATION_RAMP_US)
        raise_one(t);
    if (t->in_us <= o->probation_us)
        return;
    if (all_back(b)) {
        judge_suspect(b, BREAKER_IS_FALSE_ALARM);
        move(b, BREAKER_CLOSED, (int)b->suspect_i, "false alarm: all of %s is back", c->opts.name);
    } else if (t->p < o->p_low && c->limit.g >= 0.85 * c->limit.g_trip) {
        limit_forget_bad(&c->limit);
        judge_suspect(b, BREAKER_IS_FALSE_ALARM);
        move(b, BREAKER_THROTTLED, (int)b->suspect_i, "not confirmed: %s goes on rising",
             c->opts.name);
    }
}

/* ---- throttled, open ----------------------------------------------------------------------- */

enum cut_verdict {
    CUT_DONE,
    CUT_PENDING, /* an earlier limit has not arrived yet: more of it would only wind up */
    CUT_NOTHING, /* no class with work is above its floor */
};

static void cut_class(const struct tick *t, struct breaker_class *c)
{
    struct breaker *b = t->b;
    limit_note_rate(&c->limit, (double)c->use.bytes_per_s, (double)c->opts.trickle_bytes_per_s);
    draw_jitter(b, &c->limit);
    limit_cut(&c->limit, &b->opts.limit, t->p);
    b->cuts_n++;
    c->cuts_n++;
    struct breaker_transition *r = record(b, b->state, (int)(c - b->classes));
    snprintf(r->why, sizeof r->why, "P=%.2f: %s cut from %.1f to %.1f %%", t->p, c->opts.name,
             100 * c->limit.g_bad, 100 * c->limit.g);
}

/* The classes up to this one move next to nothing of what all of them move: to cut them and nobody
 * else takes nothing off the database, and what they leave the others fill. In a drill one class
 * went from 100 % to 6 in eight cuts while the next one moved 130 MB/s at full speed. */
static bool is_minor(const struct breaker *b, uint32_t class_i)
{
    double part = 0, whole = 0;
    for (uint32_t i = 0; i < b->classes_n; i++) {
        whole += (double)b->classes[i].use.bytes_per_s;
        part += i <= class_i ? (double)b->classes[i].use.bytes_per_s : 0;
    }
    return part < b->opts.minor_share * whole;
}

/* An earlier limit has not arrived, nor will it, as what runs cannot be cancelled; and there is
 * another class to cut. */
static bool is_passed_over(const struct tick *t, uint32_t class_i)
{
    const struct breaker *b = t->b;
    if (b->classes[class_i].opts.cancelled || b->opts.pending_us == 0 ||
        t->in_us < b->opts.pending_us)
        return false;
    for (uint32_t i = class_i + 1; i < b->classes_n; i++)
        if (has_demand(b, i) && !limit_at_floor(&b->classes[i].limit))
            return true;
    return false;
}

static enum cut_verdict cut_classes(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    enum cut_verdict verdict = CUT_NOTHING;
    for (uint32_t i = 0; i < b->classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        if (limit_at_floor(&c->limit) || !has_demand(b, i))
            continue;
        uint32_t limit_n = limit_statements(&c->limit, c->use.cap_n);
        if (unreachable_n(b, c) > 0 && c->use.active_n > limit_n) {
            if (is_passed_over(t, i))
                continue;
            if (c->opts.cancelled && t->p >= o->p_cancel && t->in_us >= o->cancel_after_us &&
                b->now_us >= b->next_cancel_us) {
                cancel(b, c, (c->use.active_n - limit_n + 1) / 2);
                b->next_cancel_us = b->now_us + ROUND_US;
            }
            return verdict == CUT_DONE ? CUT_DONE : CUT_PENDING;
        }
        cut_class(t, c);
        verdict = CUT_DONE;
        if (t->p < o->p_severe && !is_minor(b, i))
            break;
    }
    return verdict;
}

static void cancel_in_open(const struct tick *t)
{
    struct breaker *b = t->b;
    if (t->in_us <= b->opts.open_cancel_us || t->p < b->opts.p_cancel ||
        b->now_us < b->next_cancel_us)
        return;
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].opts.cancelled)
            cancel(b, &b->classes[i], b->cancel_quarters_n);
    if (b->cancel_quarters_n < 1u << 16)
        b->cancel_quarters_n *= 2;
    b->next_cancel_us = b->now_us + ROUND_US;
}

static void cut_or_open(const struct tick *t)
{
    struct breaker *b = t->b;
    switch (cut_classes(t)) {
    case CUT_DONE:
        estimator_intervene(t->e, b->now_us, EFFECT_US);
        b->since_us = b->now_us;
        b->high_ticks_n = 0;
        return;
    case CUT_PENDING:
        return;
    case CUT_NOTHING:
        break;
    }
    if (b->state == BREAKER_OPEN) {
        cancel_in_open(t);
        return;
    }
    b->cancel_quarters_n = 1;
    move(b, BREAKER_OPEN, -1, "P=%.2f with every sheddable class at its floor", t->p);
}

static void convict_late(struct breaker *b)
{
    b->undecided = false;
    b->confirmed_n++;
    judge_tested(b, BREAKER_IS_CULPRIT);
}

/* Throttled without a verdict: once what could not be held has drained, pressure that is still
 * there is not its work. */
static bool decide_late(const struct tick *t)
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

static void tick_throttled(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    if (decide_late(t))
        return;
    if (b->high_ticks_n >= o->retrip_ticks_n && t->in_us >= o->settle_us &&
        (b->p_smooth >= o->p_high || t->p >= 2)) {
        cut_or_open(t);
        return;
    }
    if (t->in_us > JUDGE_ALL_US)
        estimator_resume(t->e);
    if (b->state == BREAKER_OPEN && t->p < o->p_low) {
        b->cancel_quarters_n = 1;
        move(b, BREAKER_THROTTLED, -1, "P=%.2f: recovered", t->p);
    }
    if (b->now_us - b->since_us >= o->settle_us)
        raise_one(t);
    if (!all_back(b)) {
        b->all_back_since_us = 0;
        return;
    }
    if (b->all_back_since_us == 0)
        b->all_back_since_us = b->now_us;
    if (b->now_us - b->all_back_since_us > o->close_us) {
        b->all_back_since_us = 0;
        move(b, BREAKER_CLOSED, -1, "all classes are back");
    }
}

/* ---- calls --------------------------------------------------------------------------------- */

void breaker_init(struct breaker *b, const struct breaker_opts *opts,
                  const struct breaker_class_opts *classes, uint32_t classes_n, uint64_t seed)
{
    must(classes_n <= CLASSES_MAX);
    must(breaker_opts_check(opts, NULL));
    memset(b, 0, sizeof *b);
    b->opts = *opts;
    b->classes_n = classes_n;
    b->cancel_quarters_n = 1;
    b->random = seed;
    for (uint32_t i = 0; i < classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        c->opts = classes[i];
        limit_init(&c->limit, &opts->limit);
        c->use.cap_n =
            breaker_eases_in(b, c) ? opts->start_n : UINT32_MAX; /* until the first tick */
        breaker_ask(b, c);
    }
}

static void close_by_hand(struct breaker *b, const char *why)
{
    for (uint32_t i = 0; i < b->classes_n; i++)
        limit_init(&b->classes[i].limit, &b->opts.limit);
    b->high_ticks_n = 0;
    b->all_back_since_us = 0;
    b->undecided = false;
    b->mistrial = false;
    b->lost_us = 0;
    unjudge(b);
    if (b->state != BREAKER_CLOSED)
        move(b, BREAKER_CLOSED, -1, "%s", why);
}

/* The clock is monotonic, but the console may have read it a moment after the tick that follows. */
static void set_now(struct breaker *b, uint64_t now_us)
{
    if (now_us > b->now_us)
        b->now_us = now_us;
}

/* ---- one of a fleet ------------------------------------------------------------------------ */

/* What neither a hold nor a pace reaches, as everywhere: half of the excess a second. */
static void cancel_excess(const struct tick *t)
{
    struct breaker *b = t->b;
    if (b->state != BREAKER_THROTTLED || t->p < b->opts.p_cancel ||
        b->now_us - b->state_us < b->opts.cancel_after_us || b->now_us < b->next_cancel_us)
        return;
    for (uint32_t i = 0; i < b->classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        uint32_t limit_n = limit_statements(&c->limit, c->use.cap_n);
        if (c->opts.cancelled && c->use.nonstreaming_n > 0 && c->use.active_n > limit_n)
            cancel(b, c, (c->use.active_n - limit_n + 1) / 2);
    }
    b->next_cancel_us = b->now_us + ROUND_US;
}

static void tick_share(const struct tick *t)
{
    struct breaker *b = t->b;
    if (b->state != BREAKER_CLOSED && b->state != BREAKER_THROTTLED)
        close_by_hand(b, "there are other instances now");
    switch (breaker_tick_share(b, t->p)) {
    case BREAKER_SHARE_BEGINS:
        b->confirmed_n++;
        b->high_ticks_n = 0;
        estimator_intervene(t->e, b->now_us, BREAKER_EFFECT_US);
        move(b, BREAKER_THROTTLED, -1, "P=%.2f: what %u instances may read is shared", t->p,
             b->opts.instances_n);
        break;
    case BREAKER_SHARE_HALVED:
        b->cuts_n++;
        b->high_ticks_n = 0;
        b->since_us = b->now_us;
        break;
    case BREAKER_SHARE_ENDS:
        move(b, BREAKER_CLOSED, -1, "P=%.2f: all classes are back", t->p);
        break;
    case BREAKER_SHARE_GOES_ON:
        if (t->in_us > JUDGE_ALL_US)
            estimator_resume(t->e);
        break;
    }
    cancel_excess(t);
}

static void tick_state(const struct tick *t)
{
    if (t->b->opts.instances_n > 1) {
        tick_share(t);
        return;
    }
    switch (t->b->state) {
    case BREAKER_CLOSED:
    case BREAKER_EXONERATED:
        tick_closed(t);
        return;
    case BREAKER_TEST:
        tick_test(t);
        return;
    case BREAKER_PROBATION:
        tick_probation(t);
        return;
    case BREAKER_THROTTLED:
    case BREAKER_OPEN:
        tick_throttled(t);
        return;
    }
    must(!"a state");
}

/* The database was down, or we slept: a trial that missed much of that proves nothing. */
static void note_lost(struct breaker *b, uint64_t tick_us)
{
    b->high_ticks_n = 0;
    if (b->state == BREAKER_TEST || b->state == BREAKER_PROBATION)
        b->lost_us += tick_us;
}

void breaker_tick(struct breaker *b, struct estimator *e, const struct pressure *p,
                  const struct breaker_use *use, uint64_t now_us)
{
    must(b->classes_n == 0 || use);
    uint64_t tick_us = us_since(b->now_us, now_us);
    set_now(b, now_us);
    breaker_note_use(b, use);
    b->pressure = *p;
    if (p->lagging) {
        note_lost(b, tick_us);
    } else if (b->lost_us >= LOST_US_MAX) {
        close_by_hand(b, "nobody was there to be judged: a class was on trial");
    } else if (b->mistrial) {
        close_by_hand(b, "the mode of a class on trial was changed");
    } else {
        b->high_ticks_n = p->p >= b->opts.p_high ? b->high_ticks_n + 1 : 0;
        b->p_smooth += (p->p - b->p_smooth) * 0.1;
        e->testing = b->state == BREAKER_TEST;
        tick_state(&(struct tick){
            .b = b,
            .e = e,
            .p = p->p,
            .in_us = b->now_us - b->since_us,
        });
    }
    breaker_tick_clean(b, e);
    for (uint32_t i = 0; i < b->classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        if (b->opts.instances_n == 1)
            limit_age_floor(&c->limit, &b->opts.limit, p->p, b->now_us);
        breaker_ask(b, c);
        c->held_us += c->would.held ? BREAKER_TICK_US : 0;
        c->limited_us += c->would.limited ? BREAKER_TICK_US : 0;
    }
}

enum estimator_calm breaker_calm(const struct breaker *b, const struct pressure *p)
{
    if (b->state != BREAKER_CLOSED || p->lagging || p->p >= b->opts.p_low)
        return ESTIMATOR_DISTURBED;
    if (!breaker_is_busy(b) || breaker_in_clean_window(b))
        return ESTIMATOR_CALM;
    return breaker_learns_busy(b) ? ESTIMATOR_BUSY : ESTIMATOR_DISTURBED;
}

void breaker_set_class(struct breaker *b, uint32_t class_i, const struct breaker_class_opts *opts)
{
    must(class_i < b->classes_n);
    struct breaker_class *c = &b->classes[class_i];
    bool switched = c->opts.mode != opts->mode;
    c->opts = *opts;
    if (!switched)
        return;
    limit_init(&c->limit, &b->opts.limit);
    c->rested_us = 0;
    bool on_trial = b->state == BREAKER_TEST || b->state == BREAKER_PROBATION;
    b->mistrial |= on_trial && class_i <= b->suspect_i;
    breaker_ask(b, c);
}

void breaker_trip(struct breaker *b, uint32_t class_i, uint64_t now_us)
{
    must(class_i < b->classes_n);
    set_now(b, now_us);
    struct limit *l = &b->classes[class_i].limit;
    if (b->state == BREAKER_TEST || b->state == BREAKER_PROBATION)
        close_by_hand(b, "a class was tripped by hand");
    l->g_bad = l->g;
    l->bad_n = 1;
    l->g = l->floor;
    b->high_ticks_n = 0;
    b->undecided = false; /* now it is decided */
    b->classes[class_i].verdict = BREAKER_IS_BY_HAND;
    move(b, BREAKER_THROTTLED, (int)class_i, "%s tripped by hand", b->classes[class_i].opts.name);
    breaker_ask(b, &b->classes[class_i]);
}

void breaker_release(struct breaker *b, struct estimator *e, uint64_t now_us)
{
    set_now(b, now_us);
    close_by_hand(b, "released by hand");
    estimator_resume(e);
    for (uint32_t i = 0; i < b->classes_n; i++)
        breaker_ask(b, &b->classes[i]);
}
