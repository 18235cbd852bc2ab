#include "proxy/control_lines.h"

#include <stdarg.h>
#include <stdio.h>

#include "proxy/texts.h"

struct line {
    char *text;
    size_t n;
};

static void add(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct line *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->n, CONTROL_LINE_BYTES - l->n, fmt, args);
    va_end(args);
    size_t room = CONTROL_LINE_BYTES - 1 - l->n;
    if (n > 0)
        l->n += (size_t)n < room ? (size_t)n : room;
}

static void add_use(struct line *l, const struct control_place *place,
                    const struct breaker_transition *t)
{
    for (uint32_t i = 0; i < t->classes_n; i++) {
        const struct breaker_use *use = &t->classes[i].use;
        add(l, " %s=g:%.4g,g_bad:%.4g,active:%u,nonstreaming:%u,queued:%u,cap:%u,bytes_per_s:%llu",
            place->classes[i], t->classes[i].g, t->classes[i].g_bad, use->active_n,
            use->nonstreaming_n, use->queued_n, use->cap_n, (unsigned long long)use->bytes_per_s);
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

void control_line_transition(const struct control_place *place, const struct breaker_transition *t,
                             char out[CONTROL_LINE_BYTES])
{
    const struct pressure *p = &t->pressure;
    struct line l = {.text = out};
    add(&l, "breaker upstream=%s:%u at_us=%llu from=%s to=%s class=%s why=\"%s\"", place->host,
        place->port, (unsigned long long)t->at_us, breaker_state_name(t->from),
        breaker_state_name(t->to), t->class_i >= 0 ? place->classes[t->class_i] : "none", t->why);
    add(&l, " p=%.4g p_lat=%.4g p_q=%.4g p_slo=%.4g s50=%.4g s90=%.4g p90_us=%.0f p99_us=%.0f",
        p->p, p->p_lat, p->p_q, p->p_slo, p->s50, p->s90, p->p90_us, p->p99_us);
    add(&l, " n=%u blind=%d lagging=%d p_before=%.4g p_smooth=%.4g high_ticks=%u", p->n, p->blind,
        p->lagging, t->p_before, t->p_smooth, t->high_ticks_n);
    add_use(&l, place, t);
    add_slowest(&l, t);
}

void control_line_tick(const struct control_place *place, const struct tick_stats *t,
                       char out[CONTROL_LINE_BYTES])
{
    struct line l = {.text = out};
    add(&l,
        "breaker_tick upstream=%s:%u at_us=%llu state=%s p=%.9g n=%u lagging=%d p_smooth=%.9g "
        "high_ticks=%u",
        place->host, place->port, (unsigned long long)t->at_us, breaker_state_name(t->state),
        t->pressure.p, t->pressure.n, t->pressure.lagging, t->p_smooth, t->high_ticks_n);
    for (uint32_t i = 0; i < t->classes_n; i++) {
        const struct breaker_use *use = &t->classes[i].use;
        add(&l, " class=%s,%s,%d,%d,%llu,%.9g,%.9g,%.9g,%.9g,%u,%u,%u,%u,%llu,%u",
            place->classes[i], breaker_mode_name(t->classes[i].mode), t->classes[i].paced,
            t->classes[i].cancelled, (unsigned long long)t->classes[i].trickle_bytes_per_s,
            t->classes[i].g, t->classes[i].g_bad, t->classes[i].floor, t->classes[i].jitter,
            use->active_n, use->nonstreaming_n, use->queued_n, use->cap_n,
            (unsigned long long)use->bytes_per_s, t->classes[i].cancel_n);
    }
}
