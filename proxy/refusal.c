#include "proxy/refusal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "pool/show.h"
#include "proxy/route.h"
#include "proxy/wire.h"

enum {
    RETRY_S_MIN = 5,
    RETRY_S_MAX = 300
}; /* OVERLOAD: twice the time the breaker has been open */

struct text {
    char sqlstate[6], message[520], detail[400], hint[120];
};

static void because_shed(const struct client *c, struct text *t, uint64_t now_us)
{
    struct upstream *u = pool_upstream(c->route->pool);
    struct upstream_stats stats;
    show_upstream(u, &stats);
    uint64_t open_s = (now_us - stats.breaker_since_us) / US_PER_S;
    uint64_t retry_s = 2 * open_s < RETRY_S_MIN   ? RETRY_S_MIN
                       : 2 * open_s > RETRY_S_MAX ? RETRY_S_MAX
                                                  : 2 * open_s;
    snprintf(t->message, sizeof t->message,
             "pgweir: class \"%s\" is being shed on server \"%s:%u\"",
             c->hub->config->classes->at[c->waiter.class_i].name, stats.host, stats.port);
    if (stats.breaker == BREAKER_CLOSED)
        snprintf(
            t->detail, sizeof t->detail,
            "Few of its statements may begin at a time, as they cannot be slowed once they run.");
    else
        snprintf(
            t->detail, sizeof t->detail,
            "Latency breaker %s for %llu s: %s. The protected classes' latency is at %.1f times "
            "what is tolerated.",
            breaker_state_name(stats.breaker), (unsigned long long)open_s, stats.breaker_why,
            stats.pressure.p);
    snprintf(t->hint, sizeof t->hint, "retry_after=%llus. Admin: SHOW BREAKERS",
             (unsigned long long)retry_s);
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

static void describe(const struct client *c, bool at_login, struct text *t)
{
    const char *class_name = c->hub->config->classes->at[c->waiter.class_i].name;
    struct err down;
    const char *sqlstate = "53000";
    switch (c->waiter.refusal) {
    case POOL_REFUSED_NOT:
        must(!"a client that was not refused");
        break;
    case POOL_REFUSED_QUEUE_FULL:
        sqlstate = "53300";
        snprintf(t->message, sizeof t->message, "pgweir: the queue of class \"%s\" is full",
                 class_name);
        snprintf(t->hint, sizeof t->hint, "retry_after=1s. Admin: SHOW CLASSES");
        break;
    case POOL_REFUSED_DEADLINE:
        sqlstate = "57014";
        snprintf(t->message, sizeof t->message, "query_wait_timeout");
        snprintf(t->detail, sizeof t->detail, "No server became free for class \"%s\" in time.",
                 class_name);
        break;
    case POOL_REFUSED_SHED:
        sqlstate = at_login ? "53300" : "53000";
        because_shed(c, t, hub_now(c->hub));
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
        sqlstate = "53300";
        snprintf(t->message, sizeof t->message,
                 "pgweir: too many statements at once from this client address");
        break;
    case POOL_REFUSED_GROUP:
        because_group(c, t);
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

bool refusal_put(const struct client *c, bool at_login, struct buf *b)
{
    struct text t = {.sqlstate = ""};
    describe(c, at_login, &t);
    struct wire_error e = {.severity = at_login ? "FATAL" : "ERROR",
                           .sqlstate = t.sqlstate,
                           .message = t.message,
                           .detail = *t.detail ? t.detail : NULL,
                           .hint = *t.hint ? t.hint : NULL};
    return wire_put_error(b, 'E', &e);
}
