#include "proxy/refusal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "pool/show.h"
#include "proxy/route.h"
#include "proxy/wire.h"

struct text {
    char sqlstate[6], message[520], detail[400], hint[120];
};

/* By name and port, as clients and operators know it. */
static void put_upstream(char *at, size_t n, struct upstream *u)
{
    snprintf(at, n, "%s:%u", upstream_host(u), upstream_port(u));
}

/* State and cause go into the detail, the time to come again into the hint: both are printed by
 * psql and pg_dump, and found by scripts. */
static void put_state(const struct client *c, struct text *t)
{
    struct upstream *u = pool_upstream(c->route->pool);
    uint64_t now_us = hub_now(c->hub), retry_us = upstream_retry_after_us(u, now_us);
    (void)upstream_explain(u, c->waiter.class_i, now_us, t->detail, sizeof t->detail);
    snprintf(t->hint, sizeof t->hint, "retry_after=%llus. Admin: SHOW BREAKERS",
             (unsigned long long)((retry_us + US_PER_S - 1) / US_PER_S));
}

static const char *class_name_of(const struct client *c)
{
    return c->hub->config->classes->at[c->waiter.class_i].name;
}

static void because_shed(const struct client *c, struct text *t)
{
    char at[300];
    put_upstream(at, sizeof at, pool_upstream(c->route->pool));
    snprintf(t->message, sizeof t->message, "pgweir: class \"%s\" is being shed on backend \"%s\"",
             class_name_of(c), at);
    put_state(c, t);
}

/* Who set the time decides what it is called: PgBouncer's word for the operator's own. */
static const char *because_late(const struct client *c, struct text *t)
{
    const struct class_opts *opts = &c->hub->config->classes->at[c->waiter.class_i];
    uint64_t operators_us = c->waiter.deadline_us;
    if (operators_us && hub_now(c->hub) >= operators_us) {
        snprintf(t->message, sizeof t->message, "query_wait_timeout");
        snprintf(t->detail, sizeof t->detail, "No server became free for class \"%s\" in time.",
                 opts->name);
        return "57014";
    }
    snprintf(t->message, sizeof t->message,
             "pgweir: no server became free for class \"%s\" within %.6g s", opts->name,
             (double)opts->queue_deadline_us / US_PER_S);
    snprintf(t->hint, sizeof t->hint, "retry_after=5s. Admin: SHOW CLASSES");
    return "53000";
}

/* The operator reads this at the end of a night's dump: who, what, where, what to do. */
static void because_group(const struct client *c, struct text *t)
{
    struct pool_stats stats;
    uint32_t wanted_n = c->waiter.group_n;
    show_pool(c->route->pool, hub_now(c->hub), &stats);
    snprintf(t->message, sizeof t->message,
             "pgweir: a parallel job of user \"%s\" needs %u servers of database \"%s\" at once, "
             "and cannot have them",
             c->route->user, wanted_n, c->route->database);
    snprintf(
        t->detail, sizeof t->detail,
        "Each of its connections holds a transaction until all have one, and nothing of it has "
        "run for a while. pool_size is %u, of which %u are taken.",
        stats.opts.size_n, stats.leased_n);
    snprintf(t->hint, sizeof t->hint,
             "pg_dump -j N needs N + 1 servers: a smaller N, a larger pool_size, or one job at a "
             "time.");
}

/* What a class that is not let in hears at login. */
static const char *login_code(const struct client *c)
{
    const char *own = c->hub->config->classes->at[c->waiter.class_i].shed_sqlstate;
    return *own ? own : "53300";
}

static const char *wanted(const struct target_want *want)
{
    switch (want->replica ? TARGET_STANDBY : want->attrs) {
    case TARGET_READ_WRITE:
        return "a primary that takes writes";
    case TARGET_PRIMARY:
        return "the primary";
    case TARGET_READ_ONLY:
        return "a server that is read-only";
    case TARGET_STANDBY:
        return want->replica ? "a replica near enough" : "a standby";
    case TARGET_UNSET:
    case TARGET_ANY:
    case TARGET_PREFER_STANDBY:
        break;
    }
    return "there";
}

/* What was looked for, and what each host is instead. */
static void because_no_host(const struct client *c, struct text *t, uint64_t now_us)
{
    struct hub *h = c->hub;
    const struct config_database *db = route_database(c->route, h);
    struct route_hosts hosts;
    struct err err;
    size_t n = 0;
    snprintf(t->message, sizeof t->message, "pgweir: no host of database \"%s\" will do",
             c->route->database);
    if (!db || !config_is_steered(h->config, db) || !route_hosts(h, db, NULL, &hosts, &err))
        return;
    struct target_want want = route_want(h->config, db, c->class_i);
    snprintf(t->message, sizeof t->message, "pgweir: no host of database \"%s\" is %s",
             c->route->database, wanted(&want));
    for (uint32_t i = 0; i < hosts.n && n < sizeof t->detail; i++) {
        const char *why = target_unfit_why(&want, &hosts.at[i]);
        int more = snprintf(t->detail + n, sizeof t->detail - n, "%s%s:%u: %s", i ? "; " : "",
                            upstream_host(hosts.upstreams[i]), upstream_port(hosts.upstreams[i]),
                            why ? why : "a candidate, but its pool refuses");
        n += more > 0 ? (size_t)more : 0;
    }
    snprintf(t->hint, sizeof t->hint, "Waited %llu s for class \"%s\". Admin: SHOW HOSTS",
             (unsigned long long)(us_since(c->request_us, now_us) / US_PER_S),
             h->config->classes->at[c->class_i].name);
}

static void describe(const struct client *c, bool at_login, struct text *t)
{
    const char *class_name = class_name_of(c);
    struct err down;
    const char *sqlstate = at_login ? login_code(c) : "53000";
    if (c->hostless) {
        because_no_host(c, t, hub_now(c->hub));
        snprintf(t->sqlstate, sizeof t->sqlstate, "57P03"); /* libpq tries its next host */
        return;
    }
    switch (c->waiter.refusal) {
    case POOL_REFUSED_NOT:
        must(!"a client that was not refused");
        break;
    case POOL_REFUSED_QUEUE_FULL:
        snprintf(t->message, sizeof t->message, "pgweir: the queue of class \"%s\" is full",
                 class_name);
        snprintf(t->hint, sizeof t->hint, "retry_after=1s. Admin: SHOW CLASSES");
        break;
    case POOL_REFUSED_DEADLINE:
        if (strcmp(because_late(c, t), "57014") == 0)
            sqlstate = "57014";
        break;
    case POOL_REFUSED_SHED:
        because_shed(c, t);
        break;
    case POOL_REFUSED_EXPIRED:
        snprintf(t->message, sizeof t->message,
                 "pgweir: waited too long in the standing queue of class \"%s\"", class_name);
        snprintf(t->hint, sizeof t->hint, "retry_after=1s");
        break;
    case POOL_REFUSED_DOWN:
        sqlstate = "57P03";
        pool_down_reason(c->route->pool, &down);
        snprintf(t->message, sizeof t->message, "server login failed: %s",
                 *down.text ? down.text : "server is not available");
        snprintf(t->hint, sizeof t->hint, "retry_after=1s");
        if (*down.sqlstate && strncmp(down.sqlstate, "08", 2) != 0)
            sqlstate = down.sqlstate;
        break;
    case POOL_REFUSED_ADDRESS:
        snprintf(t->message, sizeof t->message,
                 "pgweir: too many statements at once from this client address");
        snprintf(t->hint, sizeof t->hint, "retry_after=1s. Admin: SHOW CLASSES");
        break;
    case POOL_REFUSED_GROUP:
        because_group(c, t);
        break;
    case POOL_REFUSED_CLOSED:
        snprintf(t->message, sizeof t->message, "pgweir: class \"%s\" may not work at this hour",
                 class_name);
        snprintf(t->hint, sizeof t->hint, "See schedule of [class %s]. Admin: SHOW CLASSES",
                 class_name);
        break;
    case POOL_REFUSED_SHUTDOWN:
        sqlstate = "57P01";
        if (atomic_load_explicit(&c->hub->proxy->draining, memory_order_relaxed))
            snprintf(t->message, sizeof t->message, "pooler is shutting down");
        else
            snprintf(t->message, sizeof t->message, "database \"%s\" is disabled",
                     c->route->database);
        break;
    }
    snprintf(t->sqlstate, sizeof t->sqlstate, "%.5s", sqlstate);
}

static bool put(struct buf *b, const struct text *t, const char *severity)
{
    struct wire_error e = {.severity = severity,
                           .sqlstate = t->sqlstate,
                           .message = t->message,
                           .detail = *t->detail ? t->detail : NULL,
                           .hint = *t->hint ? t->hint : NULL};
    return wire_put_error(b, 'E', &e);
}

const char *refusal_code(uint32_t i)
{
#define X(code) code,
    static const char *const codes[] = {REFUSAL_CODES(X)};
#undef X
    must(i < COUNT_OF(codes));
    return codes[i];
}

static void count(const struct client *c, const char *sqlstate)
{
    uint32_t i = 0;
    while (i < REFUSAL_CODES_N - 1 && strcmp(refusal_code(i), sqlstate) != 0)
        i++;
    count_add(&c->hub->classes[c->waiter.class_i].refused[i], 1);
}

bool refusal_put(const struct client *c, bool at_login, struct buf *b)
{
    struct text t = {.sqlstate = ""};
    describe(c, at_login, &t);
    count(c, t.sqlstate);
    return put(b, &t, at_login ? "FATAL" : "ERROR");
}

/* ---- statements that were running ----------------------------------------------------------- */

static void because_culled(const struct client *c, enum pool_cull why, struct text *t)
{
    put_state(c, t);
    switch (why) {
    case POOL_CULL_NOT:
        must(!"a statement we left alone");
        break;
    case POOL_CULL_OVERLOAD:
        break;
    case POOL_CULL_LOCKS:
        snprintf(t->detail, sizeof t->detail,
                 "Statements of protected classes waited for locks of its transaction.");
        break;
    case POOL_CULL_OPERATOR:
        snprintf(t->detail, sizeof t->detail,
                 "An administrator cancelled all that ran of this class.");
        break;
    }
}

static void put_message(const struct client *c, const char *what, struct text *t)
{
    char at[300];
    put_upstream(at, sizeof at, pool_upstream(c->route->pool));
    snprintf(t->message, sizeof t->message,
             "pgweir: statement of class \"%s\" was %s on backend \"%s\"", class_name_of(c), what,
             at);
}

bool refusal_put_cancelled(const struct client *c, enum pool_cull why, struct buf *b)
{
    struct text t = {.sqlstate = "57014"};
    because_culled(c, why, &t);
    put_message(c, "cancelled", &t);
    return put(b, &t, "ERROR");
}

bool refusal_put_terminated(const struct client *c, enum pool_cull why, struct buf *b)
{
    struct text t = {.sqlstate = "57P01"};
    because_culled(c, why, &t);
    put_message(c, "terminated, as it went on after it had been cancelled,", &t);
    return put(b, &t, "FATAL");
}
