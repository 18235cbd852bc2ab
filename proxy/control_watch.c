#include "proxy/control_watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pool/show.h"
#include "proxy/baselines.h"
#include "proxy/log.h"

enum { LINE_BYTES = 1800 }; /* the log cuts at 2,048 */

struct control_watch {
    struct upstream *upstream;
    uint32_t cursor; /* of show_transition() */
    enum error_breaker_state error_state;
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
    log_info("%s", l.text);
}

static void watch_errors(struct control_watch *w, struct upstream *u)
{
    struct upstream_stats s;
    show_upstream(u, &s);
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
    watch_errors(w, u);
}

void control_watch_free(struct control *k)
{
    free(k->watches);
    k->watches = NULL;
    k->watches_n = 0;
}
