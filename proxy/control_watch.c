#include "proxy/control_watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pool/show.h"
#include "proxy/baselines.h"
#include "proxy/log.h"
#include "proxy/texts.h"

enum { LINE_BYTES = 1800 }; /* the log cuts at 2,048 */

#define TICKS_FROM_P 0.7 /* below it nothing is counted that a replay needs */

struct control_watch {
    struct upstream *upstream;
    uint32_t cursor; /* of show_transition() */
    enum error_breaker_state error_state;
    bool ticking; /* the last tick was worth a line */
    bool drifts;  /* it has been said */
};

static struct control_watch *watch_of(struct control *k, struct upstream *u)
{
    for (size_t i = 0; i < k->watches_n; i++)
        if (k->watches[i].upstream == u)
            return &k->watches[i];
    struct control_watch *all = reallocarray(k->watches, k->watches_n + 1, sizeof *k->watches);
    if (!all)
        return NULL;
    k->watches = all;
    if (k->baselines)
        baselines_apply(k->baselines, u, control_now(k));
    k->watches[k->watches_n] =
        (struct control_watch){.upstream = u, .error_state = ERROR_BREAKER_CLOSED};
    return &k->watches[k->watches_n++];
}

struct line {
    char text[LINE_BYTES];
    size_t n;
};

static void add(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct line *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, args);
    va_end(args);
    size_t room = sizeof l->text - 1 - l->n;
    if (n > 0)
        l->n += (size_t)n < room ? (size_t)n : room;
}

static void add_classes(struct line *l, struct upstream *u, const struct breaker_transition *t)
{
    char name[CLASS_NAME_BYTES];
    for (uint32_t i = 0; i < t->classes_n; i++) {
        const struct breaker_use *use = &t->classes[i].use;
        show_breaker_class(u, i, name);
        add(l, " %s=g:%.4g,g_bad:%.4g,active:%u,nonstreaming:%u,queued:%u,cap:%u,bytes_per_s:%llu",
            name, t->classes[i].g, t->classes[i].g_bad, use->active_n, use->nonstreaming_n,
            use->queued_n, use->cap_n, (unsigned long long)use->bytes_per_s);
    }
}

static void add_slowest(struct line *l, const struct breaker_transition *t)
{
    for (uint32_t i = 0; i < ESTIMATOR_SLOWEST && t->slowest[i].fingerprint != 0; i++) {
        char text[TEXTS_BYTES];
        texts_get(t->slowest[i].fingerprint, text);
        add(l, " slow=%016llx,%.1fx,n:%u,\"%s\"", (unsigned long long)t->slowest[i].fingerprint,
            t->slowest[i].slowdown, t->slowest[i].n, text);
    }
}

static void log_transition(struct upstream *u, const struct breaker_transition *t)
{
    const struct pressure *p = &t->pressure;
    struct line l = {.n = 0};
    char suspect[CLASS_NAME_BYTES] = "none";
    if (t->class_i >= 0)
        show_breaker_class(u, (uint32_t)t->class_i, suspect);
    add(&l, "breaker upstream=%s:%u at_us=%llu from=%s to=%s class=%s why=\"%s\"", upstream_host(u),
        upstream_port(u), (unsigned long long)t->at_us, breaker_state_name(t->from),
        breaker_state_name(t->to), suspect, t->why);
    add(&l, " p=%.4g p_lat=%.4g p_q=%.4g p_slo=%.4g s50=%.4g s90=%.4g p90_us=%.0f p99_us=%.0f",
        p->p, p->p_lat, p->p_q, p->p_slo, p->s50, p->s90, p->p90_us, p->p99_us);
    add(&l, " n=%u blind=%d lagging=%d p_before=%.4g p_smooth=%.4g high_ticks=%u", p->n, p->blind,
        p->lagging, t->p_before, t->p_smooth, t->high_ticks_n);
    add_classes(&l, u, t);
    add_slowest(&l, t);
    log_info("%s", l.text);
}

/* A tick as a replay needs it: see tests/model/replay.py. */
static void log_tick(struct upstream *u, const struct tick_stats *t)
{
    struct line l = {.n = 0};
    add(&l,
        "breaker_tick upstream=%s:%u at_us=%llu state=%s p=%.9g n=%u lagging=%d p_smooth=%.9g "
        "high_ticks=%u",
        upstream_host(u), upstream_port(u), (unsigned long long)t->at_us,
        breaker_state_name(t->state), t->pressure.p, t->pressure.n, t->pressure.lagging,
        t->p_smooth, t->high_ticks_n);
    for (uint32_t i = 0; i < t->classes_n; i++) {
        const struct breaker_use *use = &t->classes[i].use;
        char name[CLASS_NAME_BYTES];
        show_breaker_class(u, i, name);
        add(&l, " class=%s,%s,%d,%d,%llu,%.9g,%.9g,%.9g,%.9g,%u,%u,%u,%u,%llu,%u", name,
            breaker_mode_name(t->classes[i].mode), t->classes[i].paced, t->classes[i].cancelled,
            (unsigned long long)t->classes[i].trickle_bytes_per_s, t->classes[i].g,
            t->classes[i].g_bad, t->classes[i].floor, t->classes[i].jitter, use->active_n,
            use->nonstreaming_n, use->queued_n, use->cap_n, (unsigned long long)use->bytes_per_s,
            t->classes[i].cancel_n);
    }
    log_info("%s", l.text);
}

static void watch_tick(struct control_watch *w, struct upstream *u)
{
    struct tick_stats t;
    show_tick(u, &t);
    bool ticks = t.state != BREAKER_CLOSED || t.limited || t.pressure.p >= TICKS_FROM_P;
    if (ticks || w->ticking)
        log_tick(u, &t);
    w->ticking = ticks;
}

/* Norms that would go on rising, and may not. Said once: it is the operator's turn. */
static void watch_drift(struct control_watch *w, const struct upstream_stats *s)
{
    if (s->drift.held_n == 0 && !s->drift.quantiles)
        w->drifts = false;
    if (!s->drift.alert || w->drifts)
        return;
    w->drifts = true;
    log_warning("baseline drift upstream=%s:%u statements=%u share=%.2f: protected statements are "
                "slower than in the best hours of the last week, by more than norms may follow; "
                "SHOW FINGERPRINTS tells which, RESET BASELINE takes it for normal",
                s->host, s->port, s->drift.held_n, s->drift.held_share);
}

static void watch_state(struct control_watch *w, struct upstream *u)
{
    struct upstream_stats s;
    show_upstream(u, &s);
    watch_drift(w, &s);
    if (s.error_breaker == w->error_state)
        return;
    log_warning("error breaker upstream=%s:%u from=%s to=%s why=\"%s\" servers=%u opening=%u "
                "waiting=%u opened=%llu failed=%llu died=%llu",
                s.host, s.port, error_breaker_state_name(w->error_state),
                error_breaker_state_name(s.error_breaker), s.error_why, s.servers_n, s.opening_n,
                s.waiting_n, (unsigned long long)s.opened_n, (unsigned long long)s.open_failed_n,
                (unsigned long long)s.died_n);
    w->error_state = s.error_breaker;
}

void control_watch_upstream(struct control *k, struct upstream *u)
{
    struct control_watch *w = watch_of(k, u);
    struct breaker_transition t;
    if (!w)
        return;
    while (show_transition(u, &w->cursor, &t))
        log_transition(u, &t);
    if (k->hub->config->globals.log_breaker_ticks)
        watch_tick(w, u);
    watch_state(w, u);
}

void control_watch_free(struct control *k)
{
    free(k->watches);
    k->watches = NULL;
    k->watches_n = 0;
}
