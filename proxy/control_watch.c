/* After each tick: what the breakers of one upstream have done goes to the log. */
#include "proxy/control_watch.h"

#include <stdlib.h>

#include "pool/show.h"
#include "proxy/baselines.h"
#include "proxy/control_lines.h"
#include "proxy/log.h"

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

static void name_classes(struct upstream *u, uint32_t classes_n, struct control_place *place)
{
    place->host = upstream_host(u);
    place->port = upstream_port(u);
    for (uint32_t i = 0; i < classes_n; i++)
        show_breaker_class(u, i, place->classes[i]);
}

static void log_transition(struct upstream *u, const struct breaker_transition *t)
{
    struct control_place place;
    char line[CONTROL_LINE_BYTES];
    name_classes(u, t->classes_n, &place);
    control_line_transition(&place, t, line);
    log_info("%s", line);
}

static void log_tick(struct upstream *u, const struct tick_stats *t)
{
    struct control_place place;
    char line[CONTROL_LINE_BYTES];
    name_classes(u, t->classes_n, &place);
    control_line_tick(&place, t, line);
    log_info("%s", line);
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
