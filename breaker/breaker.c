#include "breaker/breaker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "breaker/breaker_inside.h"

enum {
    EFFECT_US = BREAKER_EFFECT_US,
    LOST_US_MAX = US_PER_S, /* of a trial: what is seen after an outage is the outage's */
};

static const uint32_t may_follow[] = {
#define X(state, name, next) [BREAKER_##state] = next,
    BREAKER_STATES(X)
#undef X
};

/* ---- records ------------------------------------------------------------------------------- */

struct breaker_transition *breaker_record(struct breaker *b, enum breaker_state to, int class_i)
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

struct breaker_transition *breaker_last_transition(struct breaker *b)
{
    must(b->transitions_n > 0);
    return &b->transitions[(b->transitions_n - 1) % BREAKER_TRANSITIONS];
}

void breaker_move(struct breaker *b, enum breaker_state to, int class_i, const char *fmt, ...)
{
    must(may_follow[b->state] & BIT(to));
    struct breaker_transition *t = breaker_record(b, to, class_i);
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
bool breaker_has_demand(const struct breaker *b, uint32_t class_i)
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
uint32_t breaker_next_candidate(const struct breaker *b, uint32_t class_i)
{
    while (class_i < b->classes_n && !breaker_has_demand(b, class_i))
        class_i++;
    return class_i;
}

/* Running work that neither a hold nor a pace reaches. */
static uint32_t unreachable_n(const struct breaker *b, const struct breaker_class *c)
{
    return b->opts.drain_unpaced && breaker_is_unpaced(c) ? c->use.active_n : c->use.nonstreaming_n;
}

uint32_t breaker_cancel(struct breaker *b, struct breaker_class *c, uint32_t n)
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

bool breaker_all_back(const struct breaker *b)
{
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (b->classes[i].limit.g < 1 && !content(b, &b->classes[i]))
            return false;
    return true;
}

/* Too little was seen since the actuator moved to call it well. */
static bool is_doubtful(const struct tick *t)
{
    const struct breaker_opts *o = &t->b->opts;
    uint32_t n = t->b->pressure.n;
    bool thin = n > 0 && n < 2 * o->rise_n;
    return (n < o->rise_n && t->in_us < o->rise_wait_us) || (thin && t->p >= o->p_thin);
}

/* Highest class first; the lower ones wait until it is back. */
void breaker_raise_one(const struct tick *t)
{
    const struct breaker *b = t->b;
    if (t->p >= b->opts.p_low || is_doubtful(t))
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

/* ---- throttled, open ----------------------------------------------------------------------- */

void breaker_draw_jitter(struct breaker *b, struct limit *l)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    l->jitter = (double)(b->random >> 11) * 0x1p-52 - 1; /* 53 bits over [-1, 1) */
}

enum cut_verdict {
    CUT_DONE,
    CUT_PENDING, /* an earlier limit has not arrived yet: more of it would only wind up */
    CUT_NOTHING, /* no class with work is above its floor */
};

static void cut_class(const struct tick *t, struct breaker_class *c)
{
    struct breaker *b = t->b;
    limit_note_rate(&c->limit, (double)c->use.bytes_per_s, (double)c->opts.trickle_bytes_per_s);
    breaker_draw_jitter(b, &c->limit);
    limit_cut(&c->limit, &b->opts.limit, t->p);
    b->cuts_n++;
    c->cuts_n++;
    struct breaker_transition *r = breaker_record(b, b->state, (int)(c - b->classes));
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
        if (breaker_has_demand(b, i) && !limit_at_floor(&b->classes[i].limit))
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
        if (limit_at_floor(&c->limit) || !breaker_has_demand(b, i))
            continue;
        uint32_t limit_n = limit_statements(&c->limit, c->use.cap_n);
        if (unreachable_n(b, c) > 0 && c->use.active_n > limit_n) {
            if (is_passed_over(t, i))
                continue;
            if (c->opts.cancelled && t->p >= o->p_cancel && t->in_us >= o->cancel_after_us &&
                b->now_us >= b->next_cancel_us) {
                breaker_cancel(b, c, (c->use.active_n - limit_n + 1) / 2);
                b->next_cancel_us = b->now_us + BREAKER_ROUND_US;
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
            breaker_cancel(b, &b->classes[i], b->cancel_quarters_n);
    if (b->cancel_quarters_n < 1u << 16)
        b->cancel_quarters_n *= 2;
    b->next_cancel_us = b->now_us + BREAKER_ROUND_US;
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
    breaker_move(b, BREAKER_OPEN, -1, "P=%.2f with every sheddable class at its floor", t->p);
}

static void tick_throttled(const struct tick *t)
{
    struct breaker *b = t->b;
    const struct breaker_opts *o = &b->opts;
    if (breaker_decide_late(t))
        return;
    if (b->high_ticks_n >= o->retrip_ticks_n && t->in_us >= o->settle_us &&
        (b->p_smooth >= o->p_high || t->p >= 2)) {
        cut_or_open(t);
        return;
    }
    if (t->in_us > BREAKER_JUDGE_ALL_US)
        estimator_resume(t->e);
    if (b->state == BREAKER_OPEN && t->p < o->p_low) {
        b->cancel_quarters_n = 1;
        breaker_move(b, BREAKER_THROTTLED, -1, "P=%.2f: recovered", t->p);
    }
    if (b->now_us - b->since_us >= o->settle_us)
        breaker_raise_one(t);
    if (!breaker_all_back(b)) {
        b->all_back_since_us = 0;
        return;
    }
    if (b->all_back_since_us == 0)
        b->all_back_since_us = b->now_us;
    if (b->now_us - b->all_back_since_us > o->close_us) {
        b->all_back_since_us = 0;
        breaker_move(b, BREAKER_CLOSED, -1, "all classes are back");
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
    breaker_unjudge(b);
    if (b->state != BREAKER_CLOSED)
        breaker_move(b, BREAKER_CLOSED, -1, "%s", why);
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
            breaker_cancel(b, c, (c->use.active_n - limit_n + 1) / 2);
    }
    b->next_cancel_us = b->now_us + BREAKER_ROUND_US;
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
        breaker_move(b, BREAKER_THROTTLED, -1, "P=%.2f: what %u instances may read is shared", t->p,
                     b->opts.instances_n);
        break;
    case BREAKER_SHARE_HALVED:
        b->cuts_n++;
        b->high_ticks_n = 0;
        b->since_us = b->now_us;
        break;
    case BREAKER_SHARE_ENDS:
        breaker_move(b, BREAKER_CLOSED, -1, "P=%.2f: all classes are back", t->p);
        break;
    case BREAKER_SHARE_GOES_ON:
        if (t->in_us > BREAKER_JUDGE_ALL_US)
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
        breaker_tick_closed(t);
        return;
    case BREAKER_TEST:
        breaker_tick_test(t);
        return;
    case BREAKER_PROBATION:
        breaker_tick_probation(t);
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
    breaker_move(b, BREAKER_THROTTLED, (int)class_i, "%s tripped by hand",
                 b->classes[class_i].opts.name);
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
