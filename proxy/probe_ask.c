/* What the probe asks, and what it makes of the answers. One question at a time, each one statement
 * that needs no rights, changes nothing, and is answered from memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/probe_state.h"

enum {
    BLOCKS_CALM_US = 5 * US_PER_S, /* pg_blocking_pids() stops the lock manager for a moment */
    BLOCKS_SUSPICIOUS_US = US_PER_S,
    BLOCKS_LOCKED_US = 500 * US_PER_MS,
    QUERY_US = 100 * US_PER_MS,
    QUERY_BELOW_N = 10, /* organic statements a second: enough of them tell more than ours */
    VERSION_LSN = 100000,
    VERSION_WAITSTART = 140000,
};
static const uint64_t query_fingerprint =
    0x70726f62655f7131; /* no statement's own: it has no text */

/* What this connection may count on, and whether it takes a place that others count on. */
static const char limits_sql[] =
    "SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections'), "
    "coalesce(current_setting('reserved_connections', true), '0'), r.rolconnlimit, "
    "d.datconnlimit, r.rolsuper, pg_catalog.pg_is_in_recovery() "
    "FROM pg_catalog.pg_roles r, pg_catalog.pg_database d "
    "WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()";

/* A standby that has replayed all it has received has no lag, as long as it receives: the age of
 * the last transaction alone would grow while the primary is idle. */
static const char facts_sql[] =
    "SELECT s, current_setting('default_transaction_read_only'), "
    "CASE WHEN NOT s THEN 0 "
    "WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() "
    "AND EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver) THEN 0 "
    "ELSE greatest(0, (extract(epoch FROM pg_catalog.clock_timestamp() - "
    "pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint) END "
    "FROM pg_catalog.pg_is_in_recovery() s";
static const char facts_old_sql[] =
    "SELECT s, current_setting('default_transaction_read_only'), CASE WHEN NOT s THEN 0 END "
    "FROM pg_catalog.pg_is_in_recovery() s";

/* Those who wait longest: behind the first of them the others stand. */
static const char blocks_sql[] =
    "SELECT w.pid, b FROM (SELECT pid FROM pg_catalog.pg_locks WHERE NOT granted AND pid IS NOT "
    "NULL GROUP BY pid ORDER BY min(waitstart) LIMIT 100) w, "
    "LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) b";
static const char blocks_old_sql[] =
    "SELECT w.pid, b FROM (SELECT pid FROM pg_catalog.pg_locks WHERE NOT granted AND pid IS NOT "
    "NULL GROUP BY pid LIMIT 100) w, LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) b";

/* ---- asking ---------------------------------------------------------------------------------- */

static const char *sql_of(const struct probe *p, enum probe_question question)
{
    int version = PQserverVersion(p->conn);
    switch (question) {
    case PROBE_ASK_LIMITS:
        return limits_sql;
    case PROBE_ASK_FACTS:
        return version < VERSION_LSN ? facts_old_sql : facts_sql;
    case PROBE_ASK_BLOCKS:
        return version < VERSION_WAITSTART ? blocks_old_sql : blocks_sql;
    case PROBE_ASK_QUERY:
        return p->all->hub->config->globals.probe_query;
    case PROBE_QUESTIONS_N:
        break;
    }
    must(!"a question of enum probe_question");
    return "";
}

static void lost(struct probe *p)
{
    char text[PROBE_TEXT_BYTES];
    const char *said = PQerrorMessage(p->conn);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(said, "\n"), said);
    probe_note_error(p, *text ? text : "the server closed the connection");
    probe_retry(p, 0); /* at once: is it still there? */
}

void probe_ask(struct probe *p, enum probe_question question)
{
    p->asking = question;
    p->answered_well = true;
    p->asked_us = clock_us();
    p->asked_n++;
    probe_goto(p, PROBE_ASKS);
    if (!PQsendQuery(p->conn, sql_of(p, question)))
        lost(p);
    else
        probe_ask_step(p);
}

/* How long until the locks are looked at again. */
static uint64_t blocks_every_us(const struct probe *p, const struct upstream_probe_view *view)
{
    uint64_t interval_us = p->all->hub->config->globals.probe_interval_us;
    if (view->locked)
        return BLOCKS_LOCKED_US;
    if (view->suspicious)
        return BLOCKS_SUSPICIOUS_US;
    return interval_us > BLOCKS_CALM_US ? interval_us : BLOCKS_CALM_US;
}

/* Whether clients' own statements are too few to judge by. */
static bool query_is_wanted(struct probe *p, const struct upstream_probe_view *view,
                            uint64_t now_us)
{
    if (!*p->all->hub->config->globals.probe_query)
        return false;
    if (us_since(p->organic_us, now_us) >= US_PER_S) {
        p->organic_few = view->protected_n - p->protected_n < QUERY_BELOW_N;
        p->protected_n = view->protected_n;
        p->organic_us = now_us;
    }
    return p->organic_few;
}

/* due_at_us is when a question was asked last, or until when it is not to be asked again. */
static bool is_due(const struct probe *p, enum probe_question q, uint64_t every_us, uint64_t now_us)
{
    return now_us >= p->due_at_us[q] && now_us - p->due_at_us[q] >= every_us;
}

void probe_ask_next(struct probe *p, const struct upstream_probe_view *view, uint64_t now_us)
{
    /* In this order: a busy lock table must not wait for a slow interval. */
    if (is_due(p, PROBE_ASK_BLOCKS, blocks_every_us(p, view), now_us))
        probe_ask(p, PROBE_ASK_BLOCKS);
    else if (is_due(p, PROBE_ASK_FACTS, p->all->hub->config->globals.probe_interval_us, now_us))
        probe_ask(p, PROBE_ASK_FACTS);
    else if (query_is_wanted(p, view, now_us) && is_due(p, PROBE_ASK_QUERY, QUERY_US, now_us))
        probe_ask(p, PROBE_ASK_QUERY);
}

/* ---- answers --------------------------------------------------------------------------------- */

static uint64_t number(const PGresult *res, int row, int column)
{
    if (PQgetisnull(res, row, column))
        return UINT64_MAX;
    return strtoull(PQgetvalue(res, row, column), NULL, 10);
}

static bool is_true(const PGresult *res, int column)
{
    return PQgetvalue(res, 0, column)[0] == 't';
}

static enum upstream_role role_of(const PGresult *res, int column)
{
    return is_true(res, column) ? UPSTREAM_STANDBY : UPSTREAM_PRIMARY;
}

/* The user's, or the database's, connections are counted: a pool would miss ours. */
static bool is_counted(const struct probe *p, const PGresult *res)
{
    return p->borrowed && !is_true(res, 5) &&
           (PQgetvalue(res, 0, 3)[0] != '-' || PQgetvalue(res, 0, 4)[0] != '-');
}

static bool read_limits(struct probe *p, const PGresult *res)
{
    if (PQntuples(res) != 1 || PQnfields(res) != 7)
        return true; /* a server of another kind: its limits are not known, it may still answer */
    uint64_t max_n = number(res, 0, 0), kept_n = number(res, 0, 1) + number(res, 0, 2);
    p->facts.connections_max =
        max_n < UINT32_MAX && kept_n < max_n ? (uint32_t)(max_n - kept_n) : 0;
    if (!is_counted(p, res))
        return true;
    p->facts.role = role_of(res, 6);
    p->facts.told_us = clock_us();
    upstream_tell_facts(p->upstream, &p->facts);
    return false;
}

static void note_role(struct probe *p, enum upstream_role role)
{
    if (role == p->facts.role)
        return;
    if (p->facts.role != UPSTREAM_ROLE_UNKNOWN)
        log_warning("upstream=%s:%u role from=%s to=%s", upstream_host(p->upstream),
                    upstream_port(p->upstream), upstream_role_name(p->facts.role),
                    upstream_role_name(role));
    p->facts.role = role;
}

static void read_facts(struct probe *p, const PGresult *res)
{
    if (PQntuples(res) != 1 || PQnfields(res) != 3)
        return;
    note_role(p, role_of(res, 0));
    p->facts.read_only = !strcmp(PQgetvalue(res, 0, 1), "on");
    p->facts.lag_us = number(res, 0, 2);
    p->facts.told_us = clock_us();
    p->facts.rtt_us = us_since(p->asked_us, p->facts.told_us);
    upstream_tell_facts(p->upstream, &p->facts);
}

static void read_blocks(struct probe *p, const PGresult *res)
{
    struct upstream_block edges[FACTS_EDGES_MAX];
    uint32_t n = 0;
    for (int row = 0; PQnfields(res) == 2 && row < PQntuples(res) && n < FACTS_EDGES_MAX; row++)
        edges[n++] = (struct upstream_block){.waiter_pid = (uint32_t)number(res, row, 0),
                                             .blocker_pid = (uint32_t)number(res, row, 1)};
    upstream_tell_blocks(p->upstream, edges, n, clock_us());
}

/* False: the connection is not to be kept. */
static bool read_result(struct probe *p, const PGresult *res)
{
    switch (p->asking) {
    case PROBE_ASK_LIMITS:
        return read_limits(p, res);
    case PROBE_ASK_FACTS:
        read_facts(p, res);
        return true;
    case PROBE_ASK_BLOCKS:
        read_blocks(p, res);
        return true;
    case PROBE_ASK_QUERY:
    case PROBE_QUESTIONS_N:
        break;
    }
    return true;
}

static void note_bad_answer(struct probe *p, const PGresult *res)
{
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    char text[PROBE_TEXT_BYTES];
    snprintf(text, sizeof text, "%s: %s",
             p->asking == PROBE_ASK_QUERY ? "probe_query" : "a question was refused",
             primary ? primary : "an answer of a kind that was not expected");
    p->answered_well = false;
    if (p->asking == PROBE_ASK_BLOCKS)
        upstream_tell_blocks(p->upstream, NULL, 0, clock_us()); /* nothing is known any more */
    probe_note_error(p, text);
}

/* Login and first question are through: the server is as well as it can be. */
static void got_in(struct probe *p)
{
    uint64_t now_us = clock_us();
    if (!p->able || p->said_failed)
        log_info("probe upstream=%s:%u user=%s database=%s is in, server_version=%d connections=%u",
                 upstream_host(p->upstream), upstream_port(p->upstream), p->user, p->database,
                 PQserverVersion(p->conn), p->facts.connections_max);
    p->able = true;
    p->said_failed = false;
    p->attempts_n = 0;
    p->error[0] = '\0';
    memset(p->due_at_us, 0, sizeof p->due_at_us);
    upstream_tell_prober(p->upstream, true);
    upstream_probe_done(p->upstream, true, now_us);
}

/* The whole answer is there. */
static void answered(struct probe *p)
{
    uint64_t now_us = clock_us();
    enum probe_question asked = p->asking;
    if (us_since(p->asked_us, now_us) >= PROBE_SLOW_US)
        upstream_tell_hanging(p->upstream, 0, false);
    probe_goto(p, PROBE_IDLES);
    if (asked == PROBE_ASK_LIMITS) {
        got_in(p);
        probe_ask(p, PROBE_ASK_FACTS); /* the role, before anybody relies on it */
        return;
    }
    p->due_at_us[asked] = p->answered_well ? p->asked_us : now_us + PROBE_UNASKED_US;
    if (asked == PROBE_ASK_QUERY && p->answered_well)
        upstream_tell_sample(p->upstream, query_fingerprint, p->asked_us,
                             us_since(p->asked_us, now_us));
    probe_watch(p, EV_READ); /* its end is noticed */
}

/* True: one more result may follow. */
static bool take_result(struct probe *p)
{
    PGresult *res = PQgetResult(p->conn);
    if (!res)
        return false;
    ExecStatusType status = PQresultStatus(res);
    bool kept = true;
    if (status == PGRES_TUPLES_OK)
        kept = read_result(p, res);
    else if (status != PGRES_COMMAND_OK && PQstatus(p->conn) == CONNECTION_OK)
        note_bad_answer(p, res);
    PQclear(res);
    if (kept)
        return true;
    probe_note_error(p, "its user's or database's connections are counted: set probe_user");
    upstream_tell_prober(p->upstream, false);
    p->able = false;
    if (p->refused_n < PROBE_REFUSED_MAX)
        p->refused[p->refused_n++] = p->login_hash;
    p->refused_us = clock_us();
    probe_retry(p, PROBE_RETRY_US_MIN);
    return false;
}

void probe_ask_step(struct probe *p)
{
    probe_unwatch(p);
    int unsent = PQflush(p->conn);
    if (unsent < 0 || !PQconsumeInput(p->conn)) {
        lost(p);
        return;
    }
    if (p->state == PROBE_IDLES && PQstatus(p->conn) == CONNECTION_OK) {
        probe_watch(p, EV_READ); /* a notice, or a setting that was reloaded */
        return;
    }
    while (p->state == PROBE_ASKS && !PQisBusy(p->conn))
        if (!take_result(p))
            break;
    if (p->state != PROBE_ASKS)
        return;
    if (PQstatus(p->conn) != CONNECTION_OK)
        lost(p);
    else if (PQisBusy(p->conn))
        probe_watch(p, unsent > 0 ? EV_READ | EV_WRITE : EV_READ);
    else
        answered(p);
}
