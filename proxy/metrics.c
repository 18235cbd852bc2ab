#include "proxy/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/control.h"
#include "proxy/cull.h"
#include "proxy/listen.h"
#include "proxy/log.h"
#include "proxy/prep.h"
#include "proxy/refusal.h"
#include "proxy/version.h"

/* ---- the process ----------------------------------------------------------------------------- */

struct process_row {
    uint32_t workers, clients, paused, draining, hostless;
    uint64_t hostless_all, up_us, log_dropped, no_descriptor, prepared_statements;
};

#define ROW struct process_row
static const struct table_column process_columns[] = {
    {COL(workers, U32), .role = TABLE_GAUGE, .help = "Loops that relay."},
    {COL(clients, U32), .role = TABLE_GAUGE, .metric = "client_connections",
     .help = "Sockets of clients, those that log in included."},
    {COL(paused, U32), .role = TABLE_GAUGE, .help = "1 after PAUSE of everything."},
    {COL(draining, U32), .role = TABLE_GAUGE, .help = "1 while a SHUTDOWN waits."},
    {COL(hostless, U32), .role = TABLE_GAUGE, .metric = "clients_without_host",
     .help = "Clients that wait because no host of their database is what they want."},
    {COL(hostless_all, U64), .role = TABLE_COUNTER, .metric = "clients_without_host_ever",
     .help = "Times a client began to wait for that."},
    {COL(up_us, U64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "up",
     .help = "Time since the start."},
    {COL(log_dropped, U64), .role = TABLE_COUNTER, .metric = "log_lines_dropped",
     .help = "Log lines that came faster than they could be written."},
    {COL(no_descriptor, U64), .role = TABLE_COUNTER, .metric = "clients_refused_no_descriptor",
     .help = "Clients turned away because the process was out of descriptors."},
    {COL(prepared_statements, U64), .role = TABLE_GAUGE,
     .help = "Different prepared statements known to the process."},
};
static const struct table process_table = {
    .name = "PROCESS", .prefix = "", TABLE_OF(process_columns)};
#undef ROW

static bool put_process(struct buf *b, const struct rows_from *from)
{
    const struct proxy *p = from->proxy;
    struct rows rows = {.at = NULL};
    struct process_row *row = rows_add(&rows, &process_table);
    row->workers = p->worker_n - 1u;
    row->clients = atomic_load_explicit(&p->clients_n, memory_order_relaxed);
    row->paused = atomic_load_explicit(&p->paused, memory_order_relaxed);
    row->draining = atomic_load_explicit(&p->draining, memory_order_relaxed);
    for (uint16_t i = 0; i < p->worker_n; i++) {
        row->hostless += atomic_load_explicit(&p->hubs[i]->strays_n, memory_order_relaxed);
        row->hostless_all += count_get(&p->hubs[i]->strays);
    }
    row->up_us = from->now_us - p->started_us;
    row->log_dropped = log_dropped_n();
    if (*p->control->reload.listen)
        row->no_descriptor = listen_refused_n(*p->control->reload.listen);
    row->prepared_statements = prep_statements_n();
    bool fits = table_put_metric_head(b, "pgweir_info", "gauge", "Version of pgweir.") &&
                table_putf(b, "pgweir_info{version=\"%s\"} 1\n", VERSION_NUMBER) &&
                table_put_metrics(b, &process_table, &rows) && !rows.failed;
    rows_free(&rows);
    return fits;
}

/* ---- per class, over all upstreams ----------------------------------------------------------- */

struct class_totals_row {
    const char *class;
    uint64_t demoted, shed, orphans, terminated;
};

#define ROW struct class_totals_row
static const struct table_column class_totals_columns[] = {
    {COL(class, TEXT), .role = TABLE_LABEL},
    {COL(demoted, U64), .role = TABLE_COUNTER,
     .help = "Transactions that left the class for a lower one."},
    {COL(shed, U64), .role = TABLE_COUNTER, .help = "Transactions refused a server."},
    {COL(orphans, U64), .role = TABLE_COUNTER, .metric = "orphans_cancelled",
     .help = "Statements cancelled because their client had gone."},
    {COL(terminated, U64), .role = TABLE_COUNTER,
     .help = "Server connections closed because a cancel had no effect."},
};
static const struct table class_totals_table = {
    .name = "CLASS_TOTALS", .prefix = "class", TABLE_OF(class_totals_columns)};
#undef ROW

static bool put_class_totals(struct buf *b, const struct rows_from *from)
{
    const struct class_table *classes = from->proxy->hubs[0]->config->classes;
    struct rows rows = {.at = NULL};
    for (uint32_t c = 0; c < classes->class_n; c++) {
        struct class_totals_row *row = rows_add(&rows, &class_totals_table);
        row->class = classes->at[c].name;
        for (uint16_t i = 0; i < from->proxy->worker_n; i++) {
            const struct hub *h = from->proxy->hubs[i];
            row->demoted += count_get(&h->classes[c].demoted);
            row->shed += count_get(&h->classes[c].shed);
            row->orphans += count_get(&h->classes[c].orphans);
            row->terminated += count_get(&h->classes[c].terminated);
        }
    }
    bool fits = table_put_metrics(b, &class_totals_table, &rows) && !rows.failed;
    rows_free(&rows);
    return fits;
}

/* ---- per class and reason -------------------------------------------------------------------- */

struct reason_row {
    const char *class, *label;
    uint64_t count;
};

#define ROW struct reason_row
static const struct table_column cancelled_columns[] = {
    {COL(class, TEXT), .role = TABLE_LABEL},
    {.name = "reason",
     .type = TABLE_TEXT,
     .offset = offsetof(struct reason_row, label),
     .role = TABLE_LABEL},
    {COL(count, U64), .role = TABLE_COUNTER, .metric = "cancelled",
     .help = "Statements that pgweir cancelled, by reason."},
};
static const struct table_column refused_columns[] = {
    {COL(class, TEXT), .role = TABLE_LABEL},
    {.name = "sqlstate",
     .type = TABLE_TEXT,
     .offset = offsetof(struct reason_row, label),
     .role = TABLE_LABEL},
    {COL(count, U64), .role = TABLE_COUNTER, .metric = "refused",
     .help = "Refusals sent to clients, by SQLSTATE."},
};
static const struct table cancelled_table = {
    .name = "CANCELLED", .prefix = "class", TABLE_OF(cancelled_columns)};
static const struct table refused_table = {
    .name = "REFUSED", .prefix = "class", TABLE_OF(refused_columns)};
#undef ROW

/* The sum over all loops. */
static void put_reason(struct rows *rows, const struct rows_from *from, uint32_t c, bool refusal,
                       uint32_t i)
{
    struct reason_row *row = rows_add(rows, refusal ? &refused_table : &cancelled_table);
    row->class = from->proxy->hubs[0]->config->classes->at[c].name;
    row->label = refusal ? refusal_code(i) : cull_name((enum pool_cull)i);
    for (uint16_t w = 0; w < from->proxy->worker_n; w++) {
        const struct hub *h = from->proxy->hubs[w];
        row->count += count_get(refusal ? &h->classes[c].refused[i] : &h->classes[c].cancelled[i]);
    }
}

static bool put_reasons(struct buf *b, const struct rows_from *from)
{
    const struct class_table *classes = from->proxy->hubs[0]->config->classes;
    struct rows cancelled = {.at = NULL}, refused = {.at = NULL};
    for (uint32_t c = 0; c < classes->class_n; c++) {
        for (uint32_t i = POOL_CULL_NOT + 1; i < POOL_CULLS_N; i++)
            put_reason(&cancelled, from, c, false, i);
        for (uint32_t i = 0; i < REFUSAL_CODES_N; i++)
            put_reason(&refused, from, c, true, i);
    }
    bool fits = table_put_metrics(b, &cancelled_table, &cancelled) &&
                table_put_metrics(b, &refused_table, &refused) && !cancelled.failed &&
                !refused.failed;
    rows_free(&cancelled);
    rows_free(&refused);
    return fits;
}

/* ---- latency histograms ---------------------------------------------------------------------- */

enum {
    BUCKETS_PER_OCTAVE = 4,
    FIRST_OCTAVE = 6, /* 64 us: less is the network's business */
    LAST_OCTAVE = 26, /* 67 s */
};
_Static_assert((LAST_OCTAVE - 1) * BUCKETS_PER_OCTAVE <= STATS_BUCKETS, "buckets there are");

enum which { SERVICE, WAIT };

static bool put_histogram(struct buf *b, const char *name, const char *class,
                          const struct stats_histogram *h)
{
    uint64_t below_n = 0, sum_us = count_get(&h->sum_us), all_n = stats_count(h);
    uint32_t i = 0;
    bool fits = true;
    for (uint32_t octave = FIRST_OCTAVE; fits && octave <= LAST_OCTAVE; octave++) {
        uint32_t last_i = (octave - 1) * BUCKETS_PER_OCTAVE - 1; /* all below 2^octave us */
        for (; i <= last_i; i++)
            below_n += count_get(&h->n[i]);
        fits = table_putf(b, "%s_bucket{class=\"%s\",le=\"%.6g\"} %llu\n", name, class,
                          (double)(stats_bucket_us(last_i) + 1) / US_PER_S,
                          (unsigned long long)below_n);
    }
    return fits &&
           table_putf(b, "%s_bucket{class=\"%s\",le=\"+Inf\"} %llu\n", name, class,
                      (unsigned long long)all_n) &&
           table_putf(b, "%s_sum{class=\"%s\"} %llu.%06llu\n%s_count{class=\"%s\"} %llu\n", name,
                      class, (unsigned long long)(sum_us / US_PER_S),
                      (unsigned long long)(sum_us % US_PER_S), name, class,
                      (unsigned long long)all_n);
}

/* One histogram a class, summed over the loops in a copy of ours. */
static bool put_histograms(struct buf *b, const struct rows_from *from, enum which which,
                           const char *name, const char *help)
{
    const struct class_table *classes = from->proxy->hubs[0]->config->classes;
    bool fits = table_put_metric_head(b, name, "histogram", help);
    for (uint32_t c = 0; fits && c < classes->class_n; c++) {
        struct stats_histogram all;
        memset(&all, 0, sizeof all);
        for (uint16_t i = 0; i < from->proxy->worker_n; i++) {
            const struct hub *h = from->proxy->hubs[i];
            stats_merge(&all, which == SERVICE ? &h->classes[c].service : &h->classes[c].wait);
        }
        fits = put_histogram(b, name, classes->at[c].name, &all);
    }
    return fits;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static bool put_table(struct buf *b, const struct rows_from *from, const struct rows_show *show)
{
    struct rows rows = {.at = NULL};
    show->fill(from, &rows);
    bool fits = table_put_metrics(b, show->table, &rows) && !rows.failed;
    rows_free(&rows);
    return fits;
}

bool metrics_put(struct buf *b, const struct rows_from *from)
{
    bool fits = put_process(b, from) && put_class_totals(b, from) && put_reasons(b, from);
    for (size_t i = 0; fits && i < rows_shows_n; i++)
        if (rows_shows[i].source == ROWS_HERE && rows_shows[i].table->prefix)
            fits = put_table(b, from, &rows_shows[i]);
    return fits &&
           put_histograms(b, from, SERVICE, "pgweir_query_duration_seconds",
                          "Time servers took for statements, by the class they ran in.") &&
           put_histograms(b, from, WAIT, "pgweir_wait_duration_seconds",
                          "Time transactions waited for a server, by class.");
}
