#include "proxy/hosts.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/gates.h"
#include "proxy/log.h"
#include "proxy/server_login.h"
#include "proxy/session.h"
#include "proxy/steer.h"

enum {
    SCOUT_CALM_US = 2 * US_PER_S,      /* what is older than that is looked at again ... */
    SCOUT_URGENT_US = 300 * US_PER_MS, /* ... and than that, while a host is missing */
    SCOUT_ENDS_US = 3 * US_PER_S,      /* a host that takes longer does not answer */
    SCOUT_FAILURES = 2,                /* in a row: one lost packet is no outage */
    SCOUT_PATIENCE = 12,               /* in a row: from here on there is no hurry */
};

struct host {
    struct upstream *upstream;
    size_t number;          /* in the order of the configuration, at first */
    bool wanted;            /* a line of the present configuration names it */
    struct target_host was; /* as last logged */
    uint64_t primary_us;    /* it has been a primary since; 0: it is none */
    /* the scout that is out */
    struct server *server; /* NULL: none is */
    struct server_scout scout;
    struct pool *held;
    uint64_t begun_us; /* the last one */
    uint32_t begun_n;
    uint32_t failures_n; /* in a row */
    struct err said;     /* the last one's words, to be logged once */
};

struct hosts {
    struct hub *hub;
    uint32_t config_version;
    struct host **at;
    size_t n;
};

/* ---- which there are ---------------------------------------------------------------------------
 */

static struct host *host_of(const struct hosts *hosts, const struct upstream *u)
{
    for (size_t i = 0; i < hosts->n; i++)
        if (hosts->at[i]->upstream == u)
            return hosts->at[i];
    return NULL;
}

static void want(struct hosts *hosts, struct upstream *u)
{
    struct host *host = host_of(hosts, u);
    if (!host) {
        struct host **at = reallocarray(hosts->at, hosts->n + 1, sizeof *at);
        if (at)
            hosts->at = at;
        host = at ? calloc(1, sizeof *host) : NULL;
        if (!host)
            return; /* clients publish what they find; nobody is sent to look */
        host->upstream = u;
        host->number = hosts->n;
        hosts->at[hosts->n++] = host;
    }
    host->wanted = true;
}

/* No line leads there, and nobody looks. Should one lead there again, what it was does not count:
 * a primary whose place was taken meanwhile is not the elder one. */
static void retire(struct hosts *hosts, struct host *host)
{
    host->primary_us = 0;
    if (target_judge_rival(host->upstream, true))
        steer_changed(hosts->hub->proxy);
}

static void take_config(struct hosts *hosts)
{
    struct hub *h = hosts->hub;
    struct route_hosts line;
    struct err err;
    for (size_t i = 0; i < hosts->n; i++)
        hosts->at[i]->wanted = false;
    for (const struct config_database *db = h->config->databases; db; db = db->hh.next) {
        if (!config_is_steered(h->config, db))
            continue;
        if (!route_hosts(h, db, NULL, &line, &err)) {
            log_warning("%s: %s", db->name, err.text);
            continue;
        }
        for (uint32_t k = 0; k < line.n; k++)
            want(hosts, line.upstreams[k]);
    }
    for (size_t i = 0; i < hosts->n; i++)
        if (!hosts->at[i]->wanted)
            retire(hosts, hosts->at[i]);
    hosts->config_version = h->config_version;
}

/* ---- what they are -----------------------------------------------------------------------------
 */

/* Servers that logged in when it was the primary. */
static void make_dirty(struct control *k, const struct host *host)
{
    size_t n;
    struct pool **pools = control_pools(k, &n);
    for (size_t i = 0; i < n; i++) {
        struct pool_actions actions;
        if (pool_upstream(pools[i]) != host->upstream)
            continue;
        pool_mark_dirty(pools[i], control_now(k), &actions);
        session_carry_out(k->hub, &actions);
    }
    free(pools);
}

static void note_change(struct control *k, struct host *host)
{
    struct target_host now;
    struct upstream_facts facts;
    struct target_host *was = &host->was;
    target_standing(host->upstream, &now);
    if (now.role == was->role && now.read_only == was->read_only && now.down == was->down &&
        now.rival == was->rival && now.late_mask == was->late_mask)
        return;
    upstream_facts(host->upstream, &facts);
    log_info("host %s:%u role=%s was=%s read_only=%d down=%d late_classes=%#x lag_us=%lld",
             upstream_host(host->upstream), upstream_port(host->upstream),
             upstream_role_name(now.role), upstream_role_name(was->role), now.read_only, now.down,
             now.late_mask, facts.lag_us == UINT64_MAX ? -1LL : (long long)facts.lag_us);
    if (now.role == UPSTREAM_PRIMARY && now.rival)
        log_warning("host %s:%u is a primary beside another one that was there before: nobody "
                    "writes to it",
                    upstream_host(host->upstream), upstream_port(host->upstream));
    if (now.role == UPSTREAM_STANDBY && was->role != UPSTREAM_STANDBY)
        make_dirty(k, host);
    *was = now;
}

static void publish(struct control *k, struct host *host, uint64_t now_us)
{
    struct target_host now;
    if (target_publish(host->upstream, k->hub->config->classes, now_us))
        steer_changed(k->proxy);
    target_standing(host->upstream, &now);
    if (now.role != UPSTREAM_PRIMARY)
        host->primary_us = 0;
    else if (!host->primary_us)
        host->primary_us = now_us;
}

/* ---- two primaries -----------------------------------------------------------------------------
 */

static bool was_before(const struct host *a, const struct host *b)
{
    if (!a || !b || !a->primary_us)
        return false;
    return a->primary_us < b->primary_us ||
           (a->primary_us == b->primary_us && a->number < b->number);
}

/* Of the primaries of one line, the one that has been it for the longest is written to: an old
 * primary that comes back as if nothing had happened gets nobody. */
static bool has_elder(const struct hosts *hosts, const struct host *host)
{
    struct hub *h = hosts->hub;
    struct route_hosts line;
    struct err err;
    for (const struct config_database *db = h->config->databases; db; db = db->hh.next) {
        if (!config_is_steered(h->config, db) || !route_hosts(h, db, host->upstream, &line, &err) ||
            line.present_i < 0)
            continue;
        for (uint32_t i = 0; i < line.n; i++)
            if (was_before(host_of(hosts, line.upstreams[i]), host))
                return true;
    }
    return false;
}

static void judge_rivals(struct control *k)
{
    const struct hosts *hosts = k->hosts;
    uint32_t primaries_n = 0;
    for (size_t i = 0; i < hosts->n; i++)
        primaries_n += hosts->at[i]->primary_us != 0;
    for (size_t i = 0; i < hosts->n; i++) {
        const struct host *host = hosts->at[i];
        if (host->primary_us &&
            target_judge_rival(host->upstream, primaries_n > 1 && has_elder(hosts, host)))
            steer_changed(k->proxy);
    }
}

static void tell(struct host *host, enum upstream_role role, const struct server_scout *found,
                 uint64_t now_us)
{
    struct upstream_facts facts;
    upstream_facts(host->upstream, &facts);
    facts.role = role;
    facts.read_only = found && found->read_only;
    facts.lag_us = found ? found->lag_us : UINT64_MAX;
    facts.told_us = now_us;
    upstream_tell_facts(host->upstream, &facts);
}

/* ---- scouts ------------------------------------------------------------------------------------
 */

struct search {
    struct hub *hub;
    const struct host *host;
    uint32_t turn_i, n; /* which of those that will do; how many there are */
    struct pool *found;
};

/* A route whose line names the host: its user and password. Not of a database that is paused: who
 * paused it wants nobody there. */
static bool look_at_pool(struct pool *p, void *arg)
{
    struct search *s = arg;
    const struct route *r = pool_owner(p);
    const struct config *cfg = s->hub->config;
    const struct config_database *db = r ? route_database(r, s->hub) : NULL;
    if (!db || !config_is_steered(cfg, db) || route_host_i(cfg, db, s->host->upstream) < 0)
        return true;
    if (!atomic_load_explicit(&r->clients_n, memory_order_relaxed) && !db->user)
        return true;
    if (gates_of(s->hub->proxy->gates, r->database).paused)
        return true;
    if (s->n++ == s->turn_i || !s->found)
        s->found = p;
    return true;
}

static struct pool *find_pool(struct control *k, const struct host *host)
{
    struct search s = {.hub = k->hub, .host = host, .turn_i = UINT32_MAX};
    registry_each_pool(k->proxy->registry, look_at_pool, &s);
    if (s.n < 2)
        return s.found;
    s = (struct search){.hub = k->hub, .host = host, .turn_i = host->begun_n % s.n};
    registry_each_pool(k->proxy->registry, look_at_pool, &s);
    return s.found;
}

static void bury(struct worker *w, struct letter *l)
{
    struct server *s = OWNER_OF(struct server, burial, l);
    (void)w;
    server_free(&s);
}

/* Takes the scout back; it is freed when nothing leads to it any more. */
static void end_scout(struct host *host)
{
    struct server *s = host->server;
    struct hub *h = s->hub;
    host->server = NULL;
    server_login_end(s);
    server_shut(s);
    s->burial.open = bury;
    worker_defer(h->worker, &s->burial);
    pool_unhold(&host->held);
}

static void scout_failed(struct control *k, struct host *host, enum pool_failure why,
                         const struct err *err)
{
    bool nobody = why == POOL_FAILED_CONNECT || why == POOL_FAILED_STARTING;
    if (strcmp(host->said.text, err->text) != 0)
        log_info("host %s:%u could not be asked what it is: %s", upstream_host(host->upstream),
                 upstream_port(host->upstream), err->text);
    host->said = *err;
    host->failures_n = nobody ? host->failures_n + 1 : 0;
    if (host->failures_n >= SCOUT_FAILURES)
        tell(host, UPSTREAM_GONE, NULL, control_now(k));
    else if (!nobody && upstream_role(host->upstream) == UPSTREAM_GONE)
        tell(host, UPSTREAM_ROLE_UNKNOWN, NULL, control_now(k)); /* somebody is there again */
    publish(k, host, control_now(k));
}

static void scout_found(struct control *k, struct host *host)
{
    host->failures_n = 0;
    host->said.text[0] = '\0';
    tell(host, host->scout.role, &host->scout, control_now(k));
    publish(k, host, control_now(k));
}

static void scout_step(struct control *k, struct host *host, short what)
{
    enum pool_failure failure = POOL_FAILED_LOGIN;
    struct err err = {.text = ""};
    switch (server_login_step(host->server, what, &failure, &err)) {
    case SERVER_LOGIN_MORE:
        return;
    case SERVER_LOGIN_DONE:
        server_goto(host->server, SERVER_IDLE); /* so that it takes its leave */
        end_scout(host);
        scout_found(k, host);
        return;
    case SERVER_LOGIN_FAILED:
        end_scout(host);
        scout_failed(k, host, failure, &err);
        return;
    }
}

static void on_scout(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    struct control *k = s->hub->proxy->control;
    (void)fd;
    for (size_t i = 0; i < k->hosts->n; i++) {
        if (k->hosts->at[i]->server == s) {
            scout_step(k, k->hosts->at[i], what);
            return;
        }
    }
    must(!"a scout of a host");
}

static void send_scout(struct control *k, struct host *host, uint64_t now_us)
{
    host->begun_us = now_us;
    struct pool *p = find_pool(k, host);
    if (!p)
        return; /* nobody wants to know */
    host->scout = (struct server_scout){.upstream = host->upstream};
    host->server = server_login_scout(k->hub, route_of(p), &host->scout, on_scout);
    if (!host->server)
        return;
    host->begun_n++;
    host->held = p;
    pool_hold(p); /* only this loop reaps pools */
    scout_step(k, host, 0);
}

static bool is_missed(const struct control *k, const struct host *host)
{
    const struct target_host *now = &host->was;
    uint32_t strays_n = 0;
    if (host->failures_n > SCOUT_PATIENCE)
        return false; /* it has been away for long: a fleet that knocks does not bring it back */
    if (now->role == UPSTREAM_ROLE_UNKNOWN || now->role == UPSTREAM_GONE || now->down)
        return true;
    for (uint16_t i = 1; i < k->proxy->worker_n; i++)
        strays_n += atomic_load_explicit(&k->proxy->hubs[i]->strays_n, memory_order_relaxed);
    return strays_n > 0;
}

static void scout(struct control *k, struct host *host, uint64_t now_us)
{
    struct upstream_facts facts;
    struct err err;
    if (host->server && us_since(host->begun_us, now_us) > SCOUT_ENDS_US) {
        err_set(&err, "08001", "connect timeout");
        end_scout(host);
        scout_failed(k, host, POOL_FAILED_CONNECT, &err);
    }
    if (host->server)
        return;
    upstream_facts(host->upstream, &facts);
    uint64_t after_us = is_missed(k, host) ? SCOUT_URGENT_US : SCOUT_CALM_US;
    if (us_since(host->begun_us, now_us) >= after_us && us_since(facts.told_us, now_us) >= after_us)
        send_scout(k, host, now_us);
}

/* ---- the tick ----------------------------------------------------------------------------------
 */

void hosts_tick(struct control *k, uint64_t now_us)
{
    if (!k->hosts) {
        k->hosts = calloc(1, sizeof *k->hosts);
        if (!k->hosts)
            return; /* at the next tick, then */
        k->hosts->hub = k->hub;
    }
    if (k->hosts->config_version != k->hub->config_version)
        take_config(k->hosts);
    for (size_t i = 0; i < k->hosts->n; i++) {
        struct host *host = k->hosts->at[i];
        if (!host->wanted)
            continue;
        publish(k, host, now_us);
        scout(k, host, now_us);
    }
    judge_rivals(k);
    for (size_t i = 0; i < k->hosts->n; i++)
        note_change(k, k->hosts->at[i]);
}

void hosts_close(struct control *k)
{
    struct hosts *hosts = k->hosts;
    k->hosts = NULL;
    if (!hosts)
        return;
    for (size_t i = 0; i < hosts->n; i++) {
        struct server *s = hosts->at[i]->server;
        if (s) {
            server_login_end(s);
            server_shut(s);
            server_free(&s);
            pool_unhold(&hosts->at[i]->held);
        }
        free(hosts->at[i]);
    }
    free(hosts->at);
    free(hosts);
}
