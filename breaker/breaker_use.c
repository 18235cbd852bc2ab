/* What the breaker sees of its classes and asks of the caller, each tick; and the clean probe,
 * which asks for a pause of its own. */
#include "breaker/breaker_inside.h"

#include <string.h>

bool breaker_has_work(const struct breaker_class *c)
{
    return c->use.active_n > 0 || c->use.bytes_per_s > 0;
}

bool breaker_is_unpaced(const struct breaker_class *c)
{
    return !c->opts.paced && c->opts.mode == BREAKER_ENFORCE;
}

bool breaker_eases_in(const struct breaker *b, const struct breaker_class *c)
{
    return b->opts.start_n > 0 && breaker_is_unpaced(c);
}

/* What enforcing would have done to the leases since the last tick. */
static void note_observed(const struct breaker *b, struct breaker_class *c, uint64_t granted_n)
{
    if (c->opts.mode != BREAKER_OBSERVE || !c->would.limited ||
        c->use.active_n <= c->would.limit_n) {
        c->full_since_us = 0;
        return;
    }
    if (c->full_since_us == 0)
        c->full_since_us = b->now_us;
    bool late = c->opts.deadline_us > 0 && b->now_us - c->full_since_us > c->opts.deadline_us;
    if (late)
        c->would_refuse_n += granted_n;
    else
        c->would_wait_n += granted_n;
}

static uint32_t load_of(const struct breaker_class *c)
{
    return c->use.active_n + c->use.queued_n;
}

/* The level that hurt belongs to the load that hurt. */
static void note_load(const struct breaker *b, struct breaker_class *c)
{
    if (c->limit.g_bad != c->hurt_level) {
        c->hurt_level = c->limit.g_bad;
        c->hurt_load_n = load_of(c);
        c->light_since_us = 0;
    }
    if (c->limit.g_bad == 0 || load_of(c) >= b->opts.forget_share * c->hurt_load_n) {
        c->light_since_us = 0;
        return;
    }
    if (c->light_since_us == 0)
        c->light_since_us = b->now_us;
    if (b->now_us - c->light_since_us >= b->opts.forget_us)
        limit_forget_bad(&c->limit);
}

void breaker_note_use(struct breaker *b, const struct breaker_use *use)
{
    for (uint32_t i = 0; i < b->classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        uint64_t granted_n = use[i].granted_n - c->use.granted_n;
        c->use = use[i];
        note_observed(b, c, granted_n);
        note_load(b, c);
        c->would.cancel_n = 0;
        if (c->rested_us > 0 && (breaker_has_work(c) || c->use.queued_n > 0))
            c->rested_us = b->now_us;
    }
}

void breaker_ask(const struct breaker *b, struct breaker_class *c)
{
    static const struct limit paused = {.g = 0};
    const struct limit *l = b->clean_since_us > 0 ? &paused : &c->limit;
    c->would.held = l->g == 0;
    c->would.limited = l->g < 1;
    c->would.limit_n = limit_statements(l, c->use.cap_n);
    c->would.rate_bytes_per_s = limit_rate(l, (double)c->opts.trickle_bytes_per_s);
    if (c->opts.mode == BREAKER_ENFORCE)
        c->ask = c->would;
    else
        c->ask = (struct breaker_ask){.limit_n = c->use.cap_n, .rate_bytes_per_s = LIMIT_RATE_NONE};
    if (!c->opts.cancelled)
        c->ask.cancel_n = 0;
}

enum { CLEAN_MISSED_MAX = 5 }; /* windows: then norms are learnt beside the work again */

/* ---- clean probe ------------------------------------------------------------------------- */

/* Running work that a clean probe does not stop: beside it nothing clean can be learnt. */
static bool clean_is_possible(const struct breaker *b)
{
    bool any = false;
    for (uint32_t i = 0; i < b->classes_n; i++) {
        const struct breaker_class *c = &b->classes[i];
        if (!breaker_has_work(c) && c->use.queued_n == 0)
            continue;
        if (c->opts.mode != BREAKER_ENFORCE || c->use.nonstreaming_n > 0 ||
            (!c->opts.paced && c->use.active_n > 0))
            return false;
        any = true;
    }
    return any;
}

static void end_clean(struct breaker *b, struct estimator *e)
{
    if (b->clean_since_us == 0)
        return;
    uint64_t wait_us = e->clean ? b->opts.clean_us : b->opts.clean_eager_us;
    b->clean_since_us = 0;
    b->clean_due_us = b->now_us + wait_us;
    b->clean_flows_us = b->now_us + US_PER_S + US_PER_S / 2;
    e->learn_from_us = 0;
}

bool breaker_is_busy(const struct breaker *b)
{
    for (uint32_t i = 0; i < b->classes_n; i++)
        if (breaker_has_work(&b->classes[i]) || b->classes[i].use.queued_n > 0)
            return true;
    return false;
}

bool breaker_learns_busy(const struct breaker *b)
{
    return b->opts.clean_us == 0 || b->pressure.blind ||
           b->now_us - b->clean_seen_us > CLEAN_MISSED_MAX * b->opts.clean_us;
}

void breaker_tick_clean(struct breaker *b, struct estimator *e)
{
    const struct breaker_opts *o = &b->opts;
    bool calm = b->state == BREAKER_CLOSED && !b->pressure.lagging && b->pressure.p < o->p_low;
    if (b->clean_seen_us == 0 || breaker_in_clean_window(b) || !breaker_is_busy(b))
        b->clean_seen_us = b->now_us;
    if (b->clean_since_us > 0) {
        if (!calm || b->now_us - b->clean_since_us >= o->clean_hold_us)
            end_clean(b, e);
        return;
    }
    if (o->clean_us == 0 || !calm || b->now_us < b->clean_due_us || !clean_is_possible(b))
        return;
    b->clean_since_us = b->now_us;
    b->cleans_n++;
    e->learn_from_us = b->now_us + BREAKER_EFFECT_US;
}

bool breaker_in_clean_window(const struct breaker *b)
{
    return b->clean_since_us > 0 && b->now_us - b->clean_since_us > BREAKER_EFFECT_US &&
           clean_is_possible(b);
}
