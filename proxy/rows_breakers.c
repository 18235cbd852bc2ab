/* SHOW BREAKERS, VERDICTS, TRANSITIONS, FINGERPRINTS: what the latency breakers know, and why they
 * did what they did. */
#include "proxy/rows.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/texts.h"

/* ---- BREAKERS -------------------------------------------------------------------------------- */

struct breaker_row {
    const char *host;
    uint32_t port;
    char class[CLASS_NAME_BYTES];
    const char *mode, *state;
    double since_s;
    double p, p_lat, p_q, p_slo, s50, s90;
    uint32_t n;
    double g, g_bad;
    double limit, rate; /* L and R: leases at once, bytes a second; NaN: any */
    const char *verdict;
    char reason[BREAKER_WHY_BYTES];
    bool held;
    uint64_t held_us, limited_us, cuts, cancels, would_wait, would_refuse;
    const char *error_state;
    double error_since_s;
    char error_reason[96];
};

/* Of the pressure only its height is per class: the rest is in UPSTREAMS. */
#define ROW struct breaker_row
static const struct table_column breakers_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(class, CHARS), .role = TABLE_LABEL},
    {COL(mode, TEXT)},
    {COL(state, TEXT)},
    {COL(since_s, F64)},
    {COL(p, F64)},
    {COL(p_lat, F64)},
    {COL(p_q, F64)},
    {COL(p_slo, F64)},
    {COL(s50, F64)},
    {COL(s90, F64)},
    {COL(n, U32)},
    {COL(g, F64), .role = TABLE_GAUGE, .metric = "level",
     .help = "Share of its cap and rate the class may use: g."},
    {COL(g_bad, F64), .role = TABLE_GAUGE, .metric = "level_bad",
     .help = "The level that hurt last; 0: none is known."},
    {COL(limit, F64)},
    {COL(rate, F64)},
    {COL(verdict, TEXT)},
    {COL(reason, CHARS)},
    {COL(held, BOOL)},
    {COL(held_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "held",
     .help = "Time the class was paused; in observe mode, would have been."},
    {COL(limited_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "limited",
     .help = "Time it was limited; in observe mode, would have been."},
    {COL(cuts, U64), .role = TABLE_COUNTER, .help = "Times it was cut."},
    {COL(cancels, U64), .role = TABLE_COUNTER, .metric = "cancels_wanted",
     .help = "Its statements the breaker wanted cancelled."},
    {COL(would_wait, U64), .role = TABLE_COUNTER, .metric = "would_wait",
     .help = "Leases enforcing would have made wait; observe mode only."},
    {COL(would_refuse, U64), .role = TABLE_COUNTER, .metric = "would_refuse",
     .help = "Leases enforcing would have refused; observe mode only."},
    {COL(error_state, TEXT)},
    {COL(error_since_s, F64)},
    {COL(error_reason, CHARS)},
};
const struct table rows_breakers_table = {
    .name = "BREAKERS",
    .prefix = "breaker",
    TABLE_OF(breakers_columns),
    .help = "what the breakers know and do, per class that can be shed"};
#undef ROW

static const char *mode_name(enum class_breaker mode)
{
    switch (mode) {
    case CLASS_BREAKER_OFF:
        return "off";
    case CLASS_BREAKER_OBSERVE:
        return "observe";
    case CLASS_BREAKER_ENFORCE:
        return "enforce";
    }
    return NULL;
}

static void fill_breaker(const struct rows_from *from, const struct upstream_stats *u,
                         const struct class_stats *s, struct breaker_row *row)
{
    row->host = u->host;
    row->port = u->port;
    memcpy(row->class, s->opts.name, sizeof row->class);
    row->mode = mode_name(s->opts.breaker);
    row->state = breaker_state_name(u->breaker);
    row->since_s = rows_seconds_since(from, u->breaker_since_us);
    row->p = u->pressure.p;
    row->p_lat = u->pressure.p_lat;
    row->p_q = u->pressure.p_q;
    row->p_slo = u->pressure.p_slo;
    row->s50 = u->pressure.s50;
    row->s90 = u->pressure.s90;
    row->n = u->pressure.n;
    row->g = s->g;
    row->g_bad = s->g_bad;
    row->limit = s->limit_n == UINT32_MAX ? NAN : s->limit_n;
    row->rate = s->rate_bytes_per_s == PACE_RATE_NONE ? NAN : (double)s->rate_bytes_per_s;
    row->verdict = breaker_verdict_name(s->verdict);
    row->held = s->held;
    row->held_us = s->held_us;
    row->limited_us = s->limited_us;
    row->cuts = s->cuts_n;
    row->cancels = s->cancels_n;
    row->would_wait = s->would_wait_n;
    row->would_refuse = s->would_refuse_n;
    row->error_state = error_breaker_state_name(u->error_breaker);
    row->error_since_s = rows_seconds_since(from, u->error_since_us);
    memcpy(row->reason, u->breaker_why, sizeof row->reason);
    memcpy(row->error_reason, u->error_why, sizeof row->error_reason);
}

void rows_fill_breakers(const struct rows_from *from, struct rows *out)
{
    const struct class_table *classes = rows_classes(from);
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n; i++) {
        for (uint8_t c = 0; c < classes->class_n; c++) {
            struct class_stats s;
            if (classes->at[c].retired || classes->at[c].priority == 0)
                continue;
            show_class(upstreams[i].upstream, c, from->now_us, &s);
            fill_breaker(from, &upstreams[i].stats, &s, rows_add(out, &rows_breakers_table));
        }
    }
    free(upstreams);
}

/* ---- VERDICTS -------------------------------------------------------------------------------- */

struct verdict_row {
    const char *host;
    uint32_t port;
    const char *verdict;
    uint64_t count;
};

#define ROW struct verdict_row
static const struct table_column verdicts_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(verdict, TEXT), .role = TABLE_LABEL},
    {COL(count, U64), .role = TABLE_COUNTER, .metric = "tests",
     .help = "Experiments of the latency breaker, by what came out."},
};
const struct table rows_verdicts_table = {.name = "VERDICTS",
                                          .prefix = "breaker",
                                          TABLE_OF(verdicts_columns),
                                          .help = "what the breakers' experiments said so far"};
#undef ROW

void rows_fill_verdicts(const struct rows_from *from, struct rows *out)
{
    static const enum breaker_verdict ends[] = {BREAKER_IS_CULPRIT, BREAKER_IS_PARTIAL,
                                                BREAKER_IS_UNDECIDED, BREAKER_IS_EXONERATED,
                                                BREAKER_IS_FALSE_ALARM};
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n * COUNT_OF(ends); i++) {
        const struct upstream_stats *u = &upstreams[i / COUNT_OF(ends)].stats;
        struct verdict_row *row = rows_add(out, &rows_verdicts_table);
        row->host = u->host;
        row->port = u->port;
        row->verdict = breaker_verdict_name(ends[i % COUNT_OF(ends)]);
        row->count = u->verdicts_n[ends[i % COUNT_OF(ends)]];
    }
    free(upstreams);
}

/* ---- TRANSITIONS ----------------------------------------------------------------------------- */

struct transition_row {
    const char *host;
    uint32_t port;
    double ago_s;
    const char *from, *to;
    char class[CLASS_NAME_BYTES];
    char reason[BREAKER_WHY_BYTES];
    double p, p_lat, p_q, p_slo, s50, s90;
    uint32_t n;
    double p_before, p_smooth;
    uint32_t high_ticks;
    char classes[768];
    char slowest[384];
};

#define ROW struct transition_row
static const struct table_column transitions_columns[] = {
    {COL(host, TEXT)},      {COL(port, U32)},      {COL(ago_s, F64)},     {COL(from, TEXT)},
    {COL(to, TEXT)},        {COL(class, CHARS)},   {COL(reason, CHARS)},  {COL(p, F64)},
    {COL(p_lat, F64)},      {COL(p_q, F64)},       {COL(p_slo, F64)},     {COL(s50, F64)},
    {COL(s90, F64)},        {COL(n, U32)},         {COL(p_before, F64)},  {COL(p_smooth, F64)},
    {COL(high_ticks, U32)}, {COL(classes, CHARS)}, {COL(slowest, CHARS)},
};
const struct table rows_transitions_table = {
    .name = "TRANSITIONS",
    TABLE_OF(transitions_columns),
    .help = "the breakers' last moves, and all that led to them"};
#undef ROW

PRINTF_LIKE(4, 5)
static size_t append(char *buf, size_t buf_bytes, size_t n, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int more_n = vsnprintf(buf + n, buf_bytes - n, fmt, args);
    va_end(args);
    if (more_n < 0)
        return n;
    return n + (size_t)more_n < buf_bytes ? n + (size_t)more_n : buf_bytes - 1;
}

static void put_classes(struct upstream *u, const struct breaker_transition *t,
                        struct transition_row *row)
{
    size_t n = 0;
    for (uint32_t i = 0; i < t->classes_n; i++) {
        char name[CLASS_NAME_BYTES];
        const struct breaker_use *use = &t->classes[i].use;
        show_breaker_class(u, i, name);
        n = append(row->classes, sizeof row->classes, n,
                   "%s%s g=%.3g g_bad=%.3g active=%u nonstreaming=%u queued=%u cap=%u bytes/s=%llu",
                   i ? "; " : "", name, t->classes[i].g, t->classes[i].g_bad, use->active_n,
                   use->nonstreaming_n, use->queued_n, use->cap_n,
                   (unsigned long long)use->bytes_per_s);
    }
    n = 0;
    for (uint32_t i = 0; i < ESTIMATOR_SLOWEST && t->slowest[i].fingerprint != 0; i++) {
        char text[TEXTS_BYTES];
        texts_get(t->slowest[i].fingerprint, text);
        n = append(row->slowest, sizeof row->slowest, n, "%s%016llx %.1fx n=%u %s", i ? "; " : "",
                   (unsigned long long)t->slowest[i].fingerprint, t->slowest[i].slowdown,
                   t->slowest[i].n, text);
    }
}

static void fill_transition(const struct rows_from *from, const struct rows_upstream *u,
                            const struct breaker_transition *t, struct transition_row *row)
{
    row->host = u->stats.host;
    row->port = u->stats.port;
    row->ago_s = rows_seconds_since(from, t->at_us);
    row->from = breaker_state_name(t->from);
    row->to = breaker_state_name(t->to);
    if (t->class_i >= 0)
        show_breaker_class(u->upstream, (uint32_t)t->class_i, row->class);
    memcpy(row->reason, t->why, sizeof row->reason);
    row->p = t->pressure.p;
    row->p_lat = t->pressure.p_lat;
    row->p_q = t->pressure.p_q;
    row->p_slo = t->pressure.p_slo;
    row->s50 = t->pressure.s50;
    row->s90 = t->pressure.s90;
    row->n = t->pressure.n;
    row->p_before = t->p_before;
    row->p_smooth = t->p_smooth;
    row->high_ticks = t->high_ticks_n;
    put_classes(u->upstream, t, row);
}

void rows_fill_transitions(const struct rows_from *from, struct rows *out)
{
    static struct breaker_transition transitions[BREAKER_TRANSITIONS]; /* of the control loop */
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n; i++) {
        uint32_t transitions_n = show_transitions(upstreams[i].upstream, transitions);
        for (uint32_t k = 0; k < transitions_n; k++)
            fill_transition(from, &upstreams[i], &transitions[k],
                            rows_add(out, &rows_transitions_table));
    }
    free(upstreams);
}

/* ---- FINGERPRINTS ---------------------------------------------------------------------------- */

enum { SLOWEST_N = 32, BUSIEST_N = 32 }; /* of each upstream */

struct fingerprint_row {
    const char *host;
    uint32_t port;
    char fingerprint[20];
    char text[TEXTS_BYTES];
    uint32_t n; /* samples its norm is of */
    double norm_us, now_us, slowdown, share, anchor_us, drift;
    bool held;
};

#define ROW struct fingerprint_row
static const struct table_column fingerprints_columns[] = {
    {COL(host, TEXT)}, {COL(port, U32)},      {COL(fingerprint, CHARS)}, {COL(text, CHARS)},
    {COL(n, U32)},     {COL(norm_us, F64)},   {COL(now_us, F64)},        {COL(slowdown, F64)},
    {COL(share, F64)}, {COL(anchor_us, F64)}, {COL(drift, F64)},         {COL(held, BOOL)},
};
const struct table rows_fingerprints_table = {
    .name = "FINGERPRINTS",
    TABLE_OF(fingerprints_columns),
    .help = "protected statements: the slowest against their norms, and the busiest"};
#undef ROW

/* Times its norm, now; 0 where one of the two is not known. */
static double slowdown(const struct fingerprint_stats *f)
{
    return f->learnt_n >= BASELINE_TRUSTED_N && f->norm_us > 0 ? f->now_us / f->norm_us : 0;
}

static int descending(double a, double b)
{
    return a < b ? 1 : a > b ? -1 : 0;
}

static int by_share(const void *a, const void *b)
{
    return descending(((const struct fingerprint_stats *)a)->share,
                      ((const struct fingerprint_stats *)b)->share);
}

static int by_slowdown(const void *a, const void *b)
{
    int order = descending(slowdown(a), slowdown(b));
    return order ? order : by_share(a, b);
}

static void fill_fingerprint(const struct upstream_stats *u, const struct fingerprint_stats *f,
                             struct fingerprint_row *row)
{
    row->host = u->host;
    row->port = u->port;
    snprintf(row->fingerprint, sizeof row->fingerprint, "%016llx",
             (unsigned long long)f->fingerprint);
    texts_get(f->fingerprint, row->text);
    row->n = f->learnt_n;
    row->norm_us = f->norm_us > 0 ? round(f->norm_us) : NAN;
    row->now_us = f->now_us > 0 ? round(f->now_us) : NAN;
    row->slowdown = slowdown(f) > 0 ? slowdown(f) : NAN;
    row->share = f->share;
    row->anchor_us = f->anchor_us > 0 ? round(f->anchor_us) : NAN;
    row->drift = f->anchor_us > 0 ? (f->held ? f->free_us : f->norm_us) / f->anchor_us : NAN;
    row->held = f->held;
}

/* All of one upstream's; the array is the caller's, for BASELINE_ENTRIES of them. */
static size_t copy_fingerprints(struct upstream *u, struct fingerprint_stats *all)
{
    uint32_t cursor = 0, n;
    size_t all_n = 0;
    while (show_fingerprints(u, &cursor, all + all_n, &n))
        all_n += n;
    return all_n;
}

/* The slowest first; then of the others those that keep the database busy. */
void rows_fill_fingerprints(const struct rows_from *from, struct rows *out)
{
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    struct fingerprint_stats *all = calloc(BASELINE_ENTRIES, sizeof *all);
    for (size_t i = 0; all && i < n; i++) {
        size_t all_n = copy_fingerprints(upstreams[i].upstream, all);
        size_t slowest_n = all_n < SLOWEST_N ? all_n : SLOWEST_N;
        size_t rest_n = all_n - slowest_n;
        qsort(all, all_n, sizeof *all, by_slowdown);
        qsort(all + slowest_n, rest_n, sizeof *all, by_share);
        for (size_t k = 0; k < slowest_n + (rest_n < BUSIEST_N ? rest_n : BUSIEST_N); k++)
            fill_fingerprint(&upstreams[i].stats, &all[k], rows_add(out, &rows_fingerprints_table));
    }
    out->failed |= !all && n > 0;
    free(all);
    free(upstreams);
}
