/* SHOW CLASSES, UPSTREAMS, ENDS, REFUSALS: what PgBouncer has not. */
#include "proxy/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/facts.h"
#include "proxy/control.h"
#include "proxy/probe.h"

/* ---- copies ------------------------------------------------------------------------------------
 */

struct upstreams_copy {
    struct rows_upstream *at;
    size_t n, cap;
};

static bool copy_upstream(struct upstream *u, void *arg)
{
    struct upstreams_copy *c = arg;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 8;
        struct rows_upstream *at = reallocarray(c->at, cap, sizeof *at);
        if (!at)
            return false;
        c->at = at;
        c->cap = cap;
    }
    c->at[c->n].upstream = u;
    show_upstream(u, &c->at[c->n++].stats);
    return true;
}

struct rows_upstream *rows_upstreams_copy(struct pool_registry *registry, size_t *n)
{
    struct upstreams_copy c = {.n = 0};
    registry_each_upstream(registry, copy_upstream, &c);
    *n = c.n;
    return c.at;
}

/* ---- CLASSES --------------------------------------------------------------------------------- */

enum { SHARE_BYTES = 16 };

struct class_row {
    const char *host;
    uint32_t port;
    char class[CLASS_NAME_BYTES];
    uint32_t priority, weight;
    char reserved[SHARE_BYTES], max[SHARE_BYTES];
    uint32_t clients, active, waiting, opening;
    double limit; /* what it may lease now; NaN: any number */
    bool held, limited, closed, late;
    double needed; /* bytes per second to be done in time; NaN: not known */
    uint64_t bytes_per_s;
    double rate; /* bytes per second it may read; NaN: any number */
    uint32_t paced;
    uint64_t paced_age_us, paced_bytes, paced_held_us;
    uint32_t resting;
    uint64_t rests, rested_us;
    uint64_t oldest_wait_us;
    uint64_t granted, granted_at_once, left, refused, bytes, lease_us, wait_us, wait_us_max;
    uint64_t demoted, shed, cancelled, terminated, orphans; /* over all upstreams */
    uint64_t queue_limit, queue_deadline_us;
};

#define ROW struct class_row
static const struct table_column classes_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(class, CHARS), .role = TABLE_LABEL},
    {COL(priority, U32)},
    {COL(weight, U32)},
    {COL(reserved, CHARS)},
    {COL(max, CHARS)},
    {COL(clients, U32), .role = TABLE_GAUGE, .help = "Clients of the class."},
    {COL(active, U32), .role = TABLE_GAUGE, .help = "Server connections it holds."},
    {COL(waiting, U32), .role = TABLE_GAUGE, .help = "Its transactions that wait."},
    {COL(opening, U32)},
    {COL(limit, F64), .role = TABLE_GAUGE,
     .help = "Server connections it may hold now, the breaker's word included."},
    {COL(held, BOOL), .role = TABLE_GAUGE, .help = "1 while the breaker holds all of it back."},
    {COL(limited, BOOL), .role = TABLE_GAUGE, .help = "1 while the breaker limits it."},
    {COL(bytes_per_s, U64), .role = TABLE_GAUGE, .metric = "bytes_per_second",
     .help = "Result bytes of the last second."},
    {COL(rate, F64), .role = TABLE_GAUGE, .metric = "bytes_per_second_allowed",
     .help = "Result bytes a second it may read: byte_rate, or what the breaker allows."},
    {COL(paced, U32), .role = TABLE_GAUGE, .help = "Its results that are held back by that."},
    {COL(paced_age_us, U64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "paced_oldest",
     .help = "Age of the oldest transaction among them."},
    {COL(paced_bytes, U64), .role = TABLE_COUNTER, .metric = "paced_bytes",
     .help = "Result bytes read while a rate was set."},
    {COL(paced_held_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "paced_held",
     .help = "Time results were not read because of it, added up."},
    {COL(resting, U32), .role = TABLE_GAUGE,
     .help = "Its sessions and transactions whose next statement is held back."},
    {COL(rests, U64), .role = TABLE_COUNTER, .help = "Statements that were held back so."},
    {COL(rested_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "rested",
     .help = "Time they were held back, added up."},
    {COL(closed, BOOL), .role = TABLE_GAUGE, .help = "1 outside its schedule."},
    {COL(late, BOOL), .role = TABLE_GAUGE,
     .help = "1 while its work will not be done by finish_by."},
    {COL(needed, F64), .role = TABLE_GAUGE, .metric = "bytes_per_second_needed",
     .help = "Result bytes a second it would need to be done in time."},
    {COL(oldest_wait_us, U64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "oldest_wait",
     .help = "How long its oldest waiter has waited."},
    {COL(granted, U64), .role = TABLE_COUNTER, .metric = "grants", .help = "Leases."},
    {COL(granted_at_once, U64), .role = TABLE_COUNTER, .metric = "grants_at_once",
     .help = "Leases that did not wait."},
    {COL(left, U64), .role = TABLE_COUNTER, .metric = "waiters_gone",
     .help = "Waiters that left the queue by themselves."},
    {COL(refused, U64)},
    {COL(bytes, U64), .role = TABLE_COUNTER, .metric = "result_bytes", .help = "Result bytes."},
    {COL(lease_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "lease",
     .help = "Time server connections were held."},
    {COL(wait_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "wait",
     .help = "Time the granted had waited."},
    {COL(wait_us_max, U64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "wait_max",
     .help = "Longest wait of a granted one since the start."},
    {COL(demoted, U64)},
    {COL(shed, U64)},
    {COL(cancelled, U64)},
    {COL(terminated, U64)},
    {COL(orphans, U64)},
    {COL(queue_limit, U64)},
    {COL(queue_deadline_us, U64)},
};
const struct table rows_classes_table = {.name = "CLASSES",
                                         .prefix = "class",
                                         TABLE_OF(classes_columns),
                                         .help = "classes on each upstream"};
#undef ROW

static void put_share(char at[SHARE_BYTES], struct class_share share)
{
    snprintf(at, SHARE_BYTES, "%u%s", share.n, share.percent ? "%" : "");
}

static void fill_class_opts(const struct class_opts *o, struct class_row *row)
{
    memcpy(row->class, o->name, sizeof row->class);
    row->priority = o->priority;
    row->weight = o->weight;
    put_share(row->reserved, o->reserved);
    put_share(row->max, o->max);
    row->queue_limit = o->queue_limit_n;
    row->queue_deadline_us = o->queue_deadline_us;
    row->limit = row->rate = row->needed = NAN;
}

static void fill_class_loops(const struct rows_from *from, uint8_t class_i, struct class_row *row)
{
    for (uint16_t i = 0; i < from->proxy->worker_n; i++) {
        const struct hub *h = from->proxy->hubs[i];
        row->demoted += count_get(&h->classes[class_i].demoted);
        row->shed += count_get(&h->classes[class_i].shed);
        row->orphans += count_get(&h->classes[class_i].orphans);
        row->terminated += count_get(&h->classes[class_i].terminated);
        for (size_t why = 0; why < POOL_CULLS_N; why++)
            row->cancelled += count_get(&h->classes[class_i].cancelled[why]);
    }
}

static uint64_t refused_all(const struct class_stats *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < POOL_REFUSALS_N; i++)
        n += s->refused_n[i];
    return n;
}

static void fill_class(const struct rows_from *from, const struct rows_upstream *u, uint8_t class_i,
                       struct class_row *row)
{
    struct class_stats s;
    show_class(u->upstream, class_i, from->now_us, &s);
    fill_class_opts(&s.opts, row);
    fill_class_loops(from, class_i, row);
    row->host = u->stats.host;
    row->port = u->stats.port;
    row->clients = s.clients_n;
    row->active = s.active_n;
    row->waiting = s.queued_n;
    row->opening = s.opening_n;
    if (s.limit_n != UINT32_MAX)
        row->limit = s.limit_n;
    if (s.rate_bytes_per_s != PACE_RATE_NONE)
        row->rate = (double)s.rate_bytes_per_s;
    row->paced = s.paced_n;
    row->paced_age_us = s.paced_age_us;
    row->paced_bytes = s.paced_bytes;
    row->paced_held_us = s.paced_held_us;
    row->resting = s.resting_n;
    row->rests = s.rests_n;
    row->rested_us = s.rested_us;
    row->held = s.held;
    row->limited = s.limited;
    row->closed = s.closed;
    row->late = s.finish.late;
    if (s.finish.needed_bytes_per_s > 0)
        row->needed = (double)s.finish.needed_bytes_per_s;
    row->bytes_per_s = s.bytes_per_s;
    row->oldest_wait_us = s.oldest_wait_us;
    row->granted = s.granted_n;
    row->granted_at_once = s.granted_at_once_n;
    row->left = s.left_n;
    row->refused = refused_all(&s);
    row->bytes = s.bytes_n;
    row->lease_us = s.lease_us;
    row->wait_us = s.wait_us;
    row->wait_us_max = s.wait_us_max;
}

void rows_fill_classes(const struct rows_from *from, struct rows *out)
{
    const struct class_table *classes = rows_classes(from);
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n; i++)
        for (uint8_t c = 0; c < classes->class_n; c++)
            if (!classes->at[c].retired)
                fill_class(from, &upstreams[i], c, rows_add(out, &rows_classes_table));
    for (uint8_t c = 0; n == 0 && c < classes->class_n; c++) { /* nobody has logged in yet */
        struct class_row *row = rows_add(out, &rows_classes_table);
        fill_class_opts(&classes->at[c], row);
        row->host = "none";
    }
    free(upstreams);
}

/* ---- UPSTREAMS ------------------------------------------------------------------------------- */

struct upstream_row {
    const char *host;
    uint32_t port;
    uint32_t budget, budget_now, pools, servers, leased, opening, waiting;
    double p, p_lat, p_q, p_slo, s50, s90, p90_us, p99_us;
    uint32_t n;
    bool blind;
    const char *breaker, *error_breaker;
    uint32_t breaker_state, error_breaker_state;
    bool down;
    double down_s;
    uint64_t opened, open_failed, died, evicted;
    uint64_t tests, confirmed, exonerated, cuts, cancels, cleans, ticks, ticks_late;
    uint32_t norms, norms_held;
    double norms_held_share;
    bool drift;
    const char *role;
    uint32_t role_number;
    bool read_only;
    double lag_us, rtt_us;
    uint32_t connections_max;
    bool stalled;
    uint64_t stalls;
    uint32_t lock_waiters, inverted;
    const char *probe;
    bool probe_up;
    double probe_s;
    const char *probe_user, *probe_database, *probe_error;
    uint64_t probe_asked, probe_failed;
};

#define ROW struct upstream_row
static const struct table_column upstreams_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(budget, U32), .role = TABLE_GAUGE, .metric = "servers_max",
     .help = "max_upstream_connections, or what the probe found; 0: no limit."},
    {COL(budget_now, U32), .role = TABLE_GAUGE, .metric = "servers_max_now",
     .help = "The same, lowered for a while after the server said that it was full."},
    {COL(pools, U32), .role = TABLE_GAUGE, .help = "Pools."},
    {COL(servers, U32), .role = TABLE_GAUGE, .help = "Server connections over all pools."},
    {COL(leased, U32), .role = TABLE_GAUGE, .metric = "servers_leased",
     .help = "Server connections in use."},
    {COL(opening, U32), .role = TABLE_GAUGE, .metric = "servers_opening",
     .help = "Server connections being opened."},
    {COL(waiting, U32), .role = TABLE_GAUGE, .metric = "clients_waiting",
     .help = "Clients that wait, over all pools and classes."},
    {COL(p, F64), .role = TABLE_GAUGE, .metric = "pressure",
     .help = "Pressure on the protected classes: 1 and more is overload."},
    {COL(p_lat, F64), .role = TABLE_GAUGE, .metric = "pressure_latency",
     .help = "Of it: latency over its norm."},
    {COL(p_q, F64), .role = TABLE_GAUGE, .metric = "pressure_queue",
     .help = "Of it: a standing queue."},
    {COL(p_slo, F64), .role = TABLE_GAUGE, .metric = "pressure_slo",
     .help = "Of it: slo_p99, where one is set."},
    {COL(s50, F64), .role = TABLE_GAUGE, .metric = "slowdown_p50",
     .help = "Median of latency over each statement's norm."},
    {COL(s90, F64), .role = TABLE_GAUGE, .metric = "slowdown_p90",
     .help = "90th percentile of latency over each statement's norm."},
    {COL(p90_us, F64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "protected_p90",
     .help = "90th percentile of the protected classes' latency."},
    {COL(p99_us, F64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "protected_p99",
     .help = "99th percentile of the protected classes' latency."},
    {COL(n, U32), .role = TABLE_GAUGE, .metric = "samples", .help = "Samples it is judged by."},
    {COL(blind, BOOL), .role = TABLE_GAUGE,
     .help = "1 while no norm of latency has been learnt yet."},
    {COL(breaker, TEXT)},
    {COL(error_breaker, TEXT)},
    {COL(breaker_state, U32), .role = TABLE_GAUGE,
     .help = "Latency breaker: 0 closed, 1 test, 2 probation, 3 throttled, 4 open, 5 exonerated."},
    {COL(error_breaker_state, U32), .role = TABLE_GAUGE,
     .help = "Error breaker: 0 closed, 1 suspect, 2 open, 3 half_open, 4 ramp."},
    {COL(down, BOOL), .role = TABLE_GAUGE, .help = "1 while the server is down."},
    {COL(down_s, F64)},
    {COL(opened, U64), .role = TABLE_COUNTER, .metric = "logins",
     .help = "Server connections opened."},
    {COL(open_failed, U64), .role = TABLE_COUNTER, .metric = "logins_failed",
     .help = "Server connections that could not be opened."},
    {COL(died, U64), .role = TABLE_COUNTER, .metric = "servers_lost",
     .help = "Server connections that ended without being asked to."},
    {COL(evicted, U64), .role = TABLE_COUNTER, .metric = "servers_evicted",
     .help = "Idle server connections closed to make room for another pool."},
    {COL(tests, U64), .role = TABLE_COUNTER, .metric = "breaker_tests",
     .help = "Experiments of the latency breaker."},
    {COL(confirmed, U64), .role = TABLE_COUNTER, .metric = "breaker_tests_confirmed",
     .help = "Experiments that found a culprit."},
    {COL(exonerated, U64), .role = TABLE_COUNTER, .metric = "breaker_tests_exonerated",
     .help = "Experiments that found none."},
    {COL(cuts, U64), .role = TABLE_COUNTER, .metric = "breaker_cuts",
     .help = "Times a class was cut further."},
    {COL(cancels, U64), .role = TABLE_COUNTER, .metric = "breaker_cancels",
     .help = "Statements the breaker wanted cancelled."},
    {COL(cleans, U64), .role = TABLE_COUNTER, .metric = "clean_probes",
     .help = "Times sheddable classes were held to learn what is normal."},
    {COL(norms, U32), .role = TABLE_GAUGE, .help = "Statements whose norm is known or learnt."},
    {COL(norms_held, U32), .role = TABLE_GAUGE,
     .help = "Of them those that would be slower by now, and their anchor does not let them."},
    {COL(norms_held_share, F64), .role = TABLE_GAUGE,
     .help = "Share of the time in statements that is spent in these."},
    {COL(drift, BOOL), .role = TABLE_GAUGE, .metric = "baseline_drift",
     .help = "1 while norms are held back for so much of the time that somebody should look."},
    {COL(ticks, U64), .role = TABLE_COUNTER, .help = "Ticks of the breakers."},
    {COL(ticks_late, U64), .role = TABLE_COUNTER, .help = "Ticks that came too late to judge by."},
    {COL(role, TEXT)},
    {COL(role_number, U32), .role = TABLE_GAUGE, .metric = "role",
     .help = "0 unknown, 1 primary, 2 standby, 3 gone."},
    {COL(read_only, BOOL), .role = TABLE_GAUGE, .help = "1: transactions there only read."},
    {COL(lag_us, F64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "replay_lag",
     .help = "Of a standby: age of what it has replayed last."},
    {COL(rtt_us, F64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "probe_rtt",
     .help = "Time the probe's last question took."},
    {COL(connections_max, U32), .role = TABLE_GAUGE, .metric = "connections_max",
     .help = "Connections it allows to ordinary users; 0: not known."},
    {COL(stalled, BOOL), .role = TABLE_GAUGE,
     .help = "1 while it accepts connections and answers nothing."},
    {COL(stalls, U64), .role = TABLE_COUNTER, .help = "Times it was found stalled."},
    {COL(lock_waiters, U32), .role = TABLE_GAUGE,
     .help = "Server connections of protected classes that wait for locks."},
    {COL(inverted, U32), .role = TABLE_GAUGE,
     .help = "Server connections of other classes that they wait for."},
    {COL(probe, TEXT)},
    {COL(probe_up, BOOL), .role = TABLE_GAUGE, .help = "1 while the probe is logged in."},
    {COL(probe_s, F64)},
    {COL(probe_user, TEXT)},
    {COL(probe_database, TEXT)},
    {COL(probe_error, TEXT)},
    {COL(probe_asked, U64), .role = TABLE_COUNTER, .metric = "probe_questions",
     .help = "Questions of the probe."},
    {COL(probe_failed, U64), .role = TABLE_COUNTER, .metric = "probe_failures",
     .help = "Its logins and questions that failed."},
};
const struct table rows_upstreams_table = {.name = "UPSTREAMS",
                                           .prefix = "upstream",
                                           TABLE_OF(upstreams_columns),
                                           .help =
                                               "PostgreSQL instances: budget, pressure, breakers"};
#undef ROW

static void fill_pressure(const struct pressure *p, struct upstream_row *row)
{
    row->p = p->p;
    row->p_lat = p->p_lat;
    row->p_q = p->p_q;
    row->p_slo = p->p_slo;
    row->s50 = p->s50;
    row->s90 = p->s90;
    row->p90_us = p->p90_us;
    row->p99_us = p->p99_us;
    row->n = p->n;
    row->blind = p->blind;
}

static void fill_facts(const struct facts_stats *f, struct upstream_row *row)
{
    row->budget = f->places_n;
    row->role = upstream_role_name(f->told.role);
    row->role_number = f->told.role;
    row->read_only = f->told.read_only;
    row->lag_us = f->told.role != UPSTREAM_STANDBY || f->told.lag_us == UINT64_MAX
                      ? NAN
                      : (double)f->told.lag_us;
    row->rtt_us = f->told.rtt_us == 0 ? NAN : (double)f->told.rtt_us;
    row->connections_max = f->told.connections_max;
    row->stalled = f->stalled;
    row->stalls = f->stalls_n;
    row->lock_waiters = f->lock_waiters_n;
    row->inverted = f->inverted_n;
}

static void fill_probe(const struct rows_from *from, struct upstream *u, struct upstream_row *row)
{
    struct probe_show probe;
    struct facts_stats facts;
    upstream_facts_stats(u, &facts);
    fill_facts(&facts, row);
    if (!probe_show(from->proxy->control->probes, u, &probe))
        return;
    row->probe = probe.state;
    row->probe_up = probe.up;
    row->probe_s = rows_seconds_since(from, probe.since_us);
    row->probe_user = probe.user;
    row->probe_database = probe.database;
    row->probe_error = *probe.error ? probe.error : NULL;
    row->probe_asked = probe.asked_n;
    row->probe_failed = probe.failed_n;
}

static void fill_upstream(const struct rows_from *from, const struct rows_upstream *u,
                          struct upstream_row *row)
{
    const struct upstream_stats *s = &u->stats;
    fill_probe(from, u->upstream, row);
    fill_pressure(&s->pressure, row);
    row->host = s->host;
    row->port = s->port;
    row->budget_now = s->budget_now_n;
    row->pools = s->pools_n;
    row->servers = s->servers_n;
    row->leased = s->leased_n;
    row->opening = s->opening_n;
    row->waiting = s->waiting_n;
    row->breaker = breaker_state_name(s->breaker);
    row->breaker_state = s->breaker;
    row->error_breaker = error_breaker_state_name(s->error_breaker);
    row->error_breaker_state = s->error_breaker;
    row->down = s->down_since_us > 0;
    row->down_s = rows_seconds_since(from, s->down_since_us);
    row->opened = s->opened_n;
    row->open_failed = s->open_failed_n;
    row->died = s->died_n;
    row->evicted = s->evicted_n;
    row->tests = s->tests_n;
    row->confirmed = s->confirmed_n;
    row->exonerated = s->exonerated_n;
    row->cuts = s->cuts_n;
    row->cancels = s->cancels_n;
    row->cleans = s->cleans_n;
    row->norms = s->norms_n;
    row->norms_held = s->drift.held_n;
    row->norms_held_share = s->drift.held_share;
    row->drift = s->drift.alert;
    row->ticks = s->ticks_n;
    row->ticks_late = s->tick_late_n;
}

void rows_fill_upstreams(const struct rows_from *from, struct rows *out)
{
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n; i++)
        fill_upstream(from, &upstreams[i], rows_add(out, &rows_upstreams_table));
    free(upstreams);
}

/* ---- INVERSIONS ------------------------------------------------------------------------------ */

struct inversion_row {
    const char *host;
    uint32_t port;
    char class[CLASS_NAME_BYTES];
    const char *action;
    uint64_t total;
};

#define ROW struct inversion_row
static const struct table_column inversions_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(class, CHARS), .role = TABLE_LABEL},
    {COL(action, TEXT), .role = TABLE_LABEL},
    {COL(total, U64), .role = TABLE_COUNTER, .metric = "inversions",
     .help = "Times protected classes waited for locks of this one, by what was done about it."},
};
const struct table rows_inversions_table = {
    .name = "INVERSIONS",
    .prefix = "",
    TABLE_OF(inversions_columns),
    .help = "what was done where protected classes waited for locks of others"};
#undef ROW

void rows_fill_inversions(const struct rows_from *from, struct rows *out)
{
    const struct class_table *classes = rows_classes(from);
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n; i++) {
        struct facts_stats facts;
        upstream_facts_stats(upstreams[i].upstream, &facts);
        for (uint8_t c = 0; c < classes->class_n; c++) {
            for (int act = 0; act < INVERSION_ACTS_N && classes->at[c].priority > 0; act++) {
                struct inversion_row *row = rows_add(out, &rows_inversions_table);
                row->host = upstreams[i].stats.host;
                row->port = upstreams[i].stats.port;
                memcpy(row->class, classes->at[c].name, sizeof row->class);
                row->action = upstream_inversion_act_name((enum upstream_inversion_act)act);
                row->total = facts.inversions_n[c][act];
            }
        }
    }
    free(upstreams);
}

/* ---- ENDS ------------------------------------------------------------------------------------ */

struct end_count_row {
    const char *class, *reason, *who;
    uint64_t count;
    const char *text;
};

#define ROW struct end_count_row
static const struct table_column ends_columns[] = {
    {COL(class, TEXT), .role = TABLE_LABEL},
    {COL(reason, TEXT), .role = TABLE_LABEL},
    {COL(who, TEXT), .role = TABLE_LABEL},
    {COL(count, U64), .role = TABLE_COUNTER, .metric = "session_ends",
     .help = "Sessions of clients that ended, by reason and by who caused it."},
    {COL(text, TEXT)},
};
const struct table rows_ends_table = {
    .name = "ENDS", .prefix = "", TABLE_OF(ends_columns), .help = "why sessions ended, per class"};
#undef ROW

void rows_fill_ends(const struct rows_from *from, struct rows *out)
{
    const struct class_table *classes = rows_classes(from);
    for (uint8_t c = 0; c < classes->class_n; c++) {
        for (size_t reason = 0; reason < END_REASONS_N; reason++) {
            uint64_t n = 0;
            for (uint16_t i = 0; i < from->proxy->worker_n; i++)
                n += count_get(&from->proxy->hubs[i]->classes[c].ended[reason]);
            if (n == 0)
                continue;
            struct end_count_row *row = rows_add(out, &rows_ends_table);
            row->class = classes->at[c].name;
            row->reason = end_rows[reason].name;
            row->who = end_rows[reason].who;
            row->count = n;
            row->text = end_rows[reason].text;
        }
    }
}

/* ---- REFUSALS -------------------------------------------------------------------------------- */

struct refusal_row {
    const char *host;
    uint32_t port;
    char class[CLASS_NAME_BYTES];
    const char *reason;
    uint64_t count;
};

#define ROW struct refusal_row
static const struct table_column refusals_columns[] = {
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(class, CHARS), .role = TABLE_LABEL},
    {COL(reason, TEXT), .role = TABLE_LABEL},
    {COL(count, U64), .role = TABLE_COUNTER, .metric = "refused",
     .help = "Transactions that were refused a server, by reason."},
};
const struct table rows_refusals_table = {.name = "REFUSALS",
                                          .prefix = "",
                                          TABLE_OF(refusals_columns),
                                          .help = "transactions refused, per class and reason"};
#undef ROW

void rows_fill_refusals(const struct rows_from *from, struct rows *out)
{
    const struct class_table *classes = rows_classes(from);
    size_t n;
    struct rows_upstream *upstreams = rows_upstreams_copy(from->proxy->registry, &n);
    for (size_t i = 0; i < n * classes->class_n; i++) {
        const struct rows_upstream *u = &upstreams[i / classes->class_n];
        struct class_stats s;
        show_class(u->upstream, (uint8_t)(i % classes->class_n), from->now_us, &s);
        for (size_t why = POOL_REFUSED_NOT + 1; why < POOL_REFUSALS_N; why++) {
            if (s.refused_n[why] == 0)
                continue;
            struct refusal_row *row = rows_add(out, &rows_refusals_table);
            row->host = u->stats.host;
            row->port = u->stats.port;
            memcpy(row->class, s.opts.name, sizeof row->class);
            row->reason = show_refusal_name((enum pool_refusal)why);
            row->count = s.refused_n[why];
        }
    }
    free(upstreams);
}
