/* The world's events. See world.h. */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench/random.h"
#include "tests/sim/acts.h"
#include "tests/sim/check.h"
#include "tests/sim/culls.h"

/* ---- chance -------------------------------------------------------------------------------- */

uint32_t world_random(struct world *w, uint32_t below)
{
    return below == 0 ? 0 : (uint32_t)(random_next(&w->random) % below);
}

bool world_chance(struct world *w, uint32_t pct)
{
    return world_random(w, 100) < pct;
}

/* Mostly near the mean, sometimes far beyond it. */
uint64_t world_some_us(struct world *w, uint32_t mean_us)
{
    uint64_t us = 1 + world_random(w, 2 * mean_us + 1);

    return world_chance(w, 5) ? us * 10 : us;
}

void world_fail(const struct world *w, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "seed %llu, event %llu (%s), at %.6f s: ", (unsigned long long)w->seed,
            (unsigned long long)w->event_n, w->event, (double)w->now_us / US_PER_S);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    abort();
}

uint32_t world_pool_i(const struct world *w, const struct pool *p)
{
    struct pool *const *at = atomic_load_explicit(&p->owner, memory_order_relaxed);

    return (uint32_t)(at - w->pools);
}

int world_upstream_i(const struct world *w, const struct upstream *u)
{
    for (uint32_t i = 0; i < w->upstream_n; i++)
        if (w->upstreams[i] == u)
            return (int)i;
    world_fail(w, "an upstream that is not of this world");
}

/* ---- time and administration --------------------------------------------------------------- */

static void tick(struct world *w)
{
    struct pool_actions actions;

    w->event = "tick";
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        check_before(w);
        pool_tick(w->upstreams[i], w->now_us, &actions);
        acts_finish(w, w->upstreams[i], &actions, 0);
        w->ticked = w->upstreams[i];
        w->stale[i] = false;
        check_all(w);
    }
    w->ticked = NULL;
    if (w->now_us < w->swept_us + 333 * US_PER_MS)
        return;
    w->event = "sweep";
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        check_before(w);
        pool_sweep(w->upstreams[i], w->now_us, &actions);
        acts_finish(w, w->upstreams[i], &actions, 0);
    }
    w->swept_us = w->now_us;
    check_all(w);
}

static struct pool_opts some_pool_opts(struct world *w)
{
    struct pool_opts o;

    pool_opts_defaults(&o);
    o.size_n = world_chance(w, 10) ? 0 : 1 + world_random(w, world_chance(w, 15) ? 60 : 10);
    o.min_n = world_chance(w, 70) ? 0 : world_random(w, o.size_n);
    o.min_always = world_chance(w, 20);
    o.reserve_n = world_chance(w, 70) ? 0 : 1 + world_random(w, 3);
    o.reserve_after_us = world_some_us(w, US_PER_S);
    o.lifetime_us = world_chance(w, 10)   ? 0
                    : world_chance(w, 50) ? world_some_us(w, 5 * US_PER_S)
                                          : 3600ull * US_PER_S;
    o.idle_us = world_chance(w, 50) ? 0 : world_some_us(w, 3 * US_PER_S);
    o.login_retry_us = world_some_us(w, 5 * US_PER_S);
    o.round_robin = world_chance(w, 30);
    return o;
}

/* What the probe may say: how many places there are, and who waits for whom. */
static void probe(struct world *w, struct upstream *u)
{
    struct upstream_block edges[16];
    uint32_t n = world_random(w, COUNT_OF(edges));
    struct upstream_facts facts = {.role = UPSTREAM_PRIMARY,
                                   .connections_max = 3 + world_random(w, 60)};

    if (w->climate.jobs)
        return; /* they must have room */
    upstream_tell_facts(u, &facts);
    for (uint32_t i = 0; i < n; i++)
        edges[i] = (struct upstream_block){1 + world_random(w, 20), 1 + world_random(w, 20)};
    (void)upstream_tell_blocks(u, edges, n, w->now_us);
}

static struct upstream_opts some_upstream_opts(struct world *w)
{
    struct upstream_opts o;

    upstream_opts_defaults(&o);
    o.budget_n = world_chance(w, 40) ? 0 : 2 + world_random(w, world_chance(w, 20) ? 100 : 20);
    o.connecting_n = 1 + world_random(w, 16);
    o.address_max_n = world_chance(w, 60) ? 0 : 1 + world_random(w, 5);
    o.can_pace = world_chance(w, 50);
    if (w->climate.jobs) {
        o.budget_n = o.address_max_n = 0;
        o.can_pace = true; /* or its class is let in little by little */
    }
    return o;
}

/* The caps of a database or user are those of its last pool: the same for all, as config has it. */
static void set_pool(struct world *w, uint32_t i)
{
    struct pool_actions actions;
    struct pool_opts o = some_pool_opts(w);
    struct pool *p = w->pools[i];

    o.max_db_n = p->opts.max_db_n;
    o.max_user_n = p->opts.max_user_n;
    check_before(w);
    pool_set_opts(p, &o, w->now_us, &actions);
    acts_finish(w, p->upstream, &actions, 0);
}

static void set_caps(struct world *w)
{
    uint32_t db = world_random(w, w->pool_n), n = world_chance(w, 30) ? 0 : 1 + world_random(w, 10);
    bool of_user = world_chance(w, 50);
    const char *name = of_user ? w->pools[db]->user : w->pools[db]->database;

    for (uint32_t i = 0; i < w->pool_n; i++) {
        struct pool *p = w->pools[i];
        struct pool_opts o = p->opts;
        struct pool_actions actions;
        if (strcmp(of_user ? p->user : p->database, name) != 0)
            continue;
        if (of_user)
            o.max_user_n = n;
        else
            o.max_db_n = n;
        check_before(w);
        pool_set_opts(p, &o, w->now_us, &actions);
        acts_finish(w, p->upstream, &actions, 0);
    }
}

static void set_run(struct world *w, uint32_t i)
{
    static const enum pool_run runs[] = {POOL_RUNS,   POOL_RUNS,     POOL_RUNS,
                                         POOL_PAUSED, POOL_DISABLED, POOL_KILLED};
    struct pool_actions actions;

    check_before(w);
    pool_set_run(w->pools[i], runs[world_random(w, COUNT_OF(runs))], w->now_us, &actions);
    acts_finish(w, w->pools[i]->upstream, &actions, 0);
}

static void some_class(struct world *w, struct class_opts *c)
{
    c->weight = 1 + world_random(w, 100);
    c->reserved = (struct class_share){.n = world_random(w, 30), .percent = true};
    if (world_chance(w, 30))
        c->reserved = (struct class_share){.n = world_random(w, 3)};
    c->max = (struct class_share){.n = 30 + world_random(w, 71), .percent = true};
    if (world_chance(w, 30))
        c->max = (struct class_share){.n = 3 + world_random(w, 6)};
    c->queue_limit_n = 1 + world_random(w, world_chance(w, 50) ? 10 : 200);
    c->queue_deadline_us = world_chance(w, 50) ? 0 : world_some_us(w, 20 * US_PER_S);
}

static void some_classes(struct world *w)
{
    struct err err;

    for (uint32_t i = 0; i < w->classes.class_n; i++)
        some_class(w, &w->classes.at[i]);
    if (world_chance(w, 30) && w->classes.class_n < 6) {
        char name[16];
        snprintf(name, sizeof(name), "more%u", w->classes.class_n);
        struct class_opts *c = class_add(&w->classes, name, &err);
        must(c != NULL);
        some_class(w, c);
        c->priority = world_random(w, 10);
    }
}

static void set_classes(struct world *w)
{
    struct err err;

    some_classes(w);
    if (!registry_set_classes(w->registry, &w->classes, &err))
        world_fail(w, "%s", err.text);
}

static void administer(struct world *w)
{
    struct pool_actions actions;
    uint32_t i = world_random(w, w->pool_n);
    struct upstream *u = w->upstreams[world_random(w, w->upstream_n)];

    w->totals.reloads_n++;
    for (uint32_t k = 0; k < w->upstream_n; k++)
        w->stale[k] = true;
    switch (world_random(w, 8)) {
    case 0:
        set_pool(w, i);
        break;
    case 1:
        set_caps(w);
        break;
    case 2:
        set_run(w, i);
        break;
    case 3:
        for (uint32_t k = 0; k < w->servers_n; k++)
            w->servers[k].stale |= w->servers[k].used && w->servers[k].s.pool == w->pools[i];
        check_before(w);
        pool_mark_dirty(w->pools[i], w->now_us, &actions);
        acts_finish(w, w->pools[i]->upstream, &actions, 0);
        break;
    case 4: {
        struct upstream_opts o = some_upstream_opts(w);
        upstream_set_opts(u, &o);
        probe(w, u);
        break;
    }
    case 5:
        set_classes(w);
        break;
    case 6:
        w->totals.held_n++;
        upstream_trip(u, (uint8_t)world_random(w, w->classes.class_n), w->now_us);
        break;
    default:
        upstream_release(u, w->now_us);
        break;
    }
    /* What changed for a whole upstream takes effect with its next tick. */
    tick(w);
}

/* ---- a life -------------------------------------------------------------------------------- */

static void some_climate(struct world *w)
{
    static const uint32_t gaps_us[] = {20, 200, 2000, 2000, 20000, 20000, 60000, 250000};
    uint32_t gap_us = gaps_us[world_random(w, COUNT_OF(gaps_us))];

    w->climate = (struct sim_climate){
        .gap_us = gap_us,
        .mail_us = 1 + world_random(w, world_chance(w, 20) ? 100000 : 200),
        .login_us = 100 + world_random(w, 50000),
        .lease_us = 1 + gap_us * (1 + world_random(w, 30)),
        .fail_pct = world_chance(w, 60) ? 0 : world_random(w, 60),
        .death_pct = world_chance(w, 40) ? 0 : world_random(w, 10),
        .leave_pct = world_chance(w, 40) ? 0 : world_random(w, 30),
        .reload_pct = world_chance(w, 40) ? 0 : world_random(w, 4),
        .outage_pct = world_chance(w, 70) ? 0 : 1,
        .patient = world_chance(w, 30),
    };
    if (!world_chance(w, 5))
        return;
    w->climate.steady = w->climate.patient = true;
    w->climate.gap_us = 10000 + world_random(w, 50000);
    w->climate.lease_us = 1 + world_random(w, 2 * US_PER_S);
    w->climate.fail_pct = w->climate.death_pct = w->climate.leave_pct = 0;
    w->climate.reload_pct = w->climate.outage_pct = 0;
    w->climate.jobs = world_chance(w, 50);
    w->totals.steady_n++;
}

static void some_jobs(struct world *w)
{
    uint32_t client_i = 0;

    if (!world_chance(w, 30) && !w->climate.jobs)
        return;
    for (uint32_t n = 1 + world_random(w, SIM_JOBS_MAX); w->job_n < n; w->job_n++) {
        struct sim_job *j = &w->jobs[w->job_n];
        j->pool_i = world_random(w, w->pool_n);
        j->first_i = client_i;
        j->client_n = 2 + world_random(w, 5);
        client_i += j->client_n;
        if (w->client_n < client_i)
            w->client_n = client_i;
        for (uint32_t i = j->first_i; i < client_i; i++)
            w->clients[i].job = j;
    }
}

static void build(struct world *w)
{
    struct registry_opts opts;
    struct err err;

    registry_opts_defaults(&opts);
    w->worker_n = (uint16_t)(1 + world_random(w, SIM_WORKERS_MAX));
    w->worker_first_i = w->worker_n > 1 && world_chance(w, 50);
    opts.worker_n = w->worker_n;
    opts.worker_first_i = w->worker_first_i;
    opts.seed = w->seed;
    class_table_init(&w->classes);
    if (world_chance(w, 60))
        some_classes(w);
    w->registry = registry_new(&opts, &w->classes, &err);
    must(w->registry != NULL);
    w->upstream_n = 1 + world_random(w, SIM_UPSTREAMS_MAX);
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        struct upstream_opts o = some_upstream_opts(w);
        w->upstreams[i] = upstream_get(w->registry, "db", (uint16_t)(5432 + i), &o, &err);
        must(w->upstreams[i] != NULL);
    }
    w->pool_n = 1 + world_random(w, SIM_POOLS_MAX);
    uint32_t db_caps[3], user_caps[3];
    for (uint32_t i = 0; i < 3; i++) {
        db_caps[i] = world_chance(w, 70) || w->climate.jobs ? 0 : 1 + world_random(w, 10);
        user_caps[i] = world_chance(w, 70) || w->climate.jobs ? 0 : 1 + world_random(w, 10);
    }
    for (uint32_t i = 0; i < w->pool_n; i++) {
        static const char *const dbs[] = {"shop", "bank", "blog"}, *const users[] = {"a", "b", "c"};
        struct pool_key key = {
            .database = dbs[i % 3],
            .user = users[i / 3 % 3],
            .upstream = w->upstreams[world_random(w, w->upstream_n)],
            .replication = world_chance(w, 5) ? POOL_REPLICATION_PHYSICAL : POOL_REPLICATION_NO,
        };
        struct pool_opts o = some_pool_opts(w);
        o.max_db_n = db_caps[i % 3];
        o.max_user_n = user_caps[i / 3 % 3];
        if (w->climate.jobs && o.size_n > 0)
            o.size_n += 4 + world_random(w, 15);
        w->pools[i] = pool_get(w->registry, &key, &o, &err);
        must(w->pools[i] != NULL);
        must(pool_set_owner(w->pools[i], &w->pools[i]) == &w->pools[i]);
    }
    w->client_n = 1 + world_random(w, world_chance(w, 10) ? SIM_CLIENTS_MAX : 48);
    some_jobs(w);
    for (uint32_t i = 0; i < w->client_n; i++)
        w->clients[i].worker =
            (uint16_t)(w->worker_first_i +
                       world_random(w, (uint32_t)w->worker_n - w->worker_first_i));
}

static struct sim_server *some_server(struct world *w)
{
    uint32_t from = world_random(w, w->servers_n);

    for (uint32_t i = 0; i < w->servers_n; i++) {
        struct sim_server *s = &w->servers[(from + i) % w->servers_n];
        if (s->used)
            return s;
    }
    return NULL;
}

static void client_event(struct world *w, struct sim_client *c)
{
    if (c->job != NULL && c->state != SIM_CLIENT_OUT) {
        w->event = "job";
        acts_job(w, c);
        return;
    }
    switch (c->state) {
    case SIM_CLIENT_OUT:
        w->event = "login";
        acts_login(w, c);
        return;
    case SIM_CLIENT_IDLE:
        w->event = world_chance(w, 3) ? "logout" : "acquire";
        if (w->event[0] == 'l')
            acts_logout(w, c);
        else
            acts_ask(w, c);
        return;
    case SIM_CLIENT_WAITING:
        if (!world_chance(w, w->climate.leave_pct))
            return;
        w->event = "cancel";
        acts_leave_queue(w, c);
        return;
    case SIM_CLIENT_HOLDING:
        w->event = "work";
        if (world_chance(w, 20)) {
            acts_work(w, c);
            return;
        }
        if (w->now_us - c->server->s.leased_us < world_random(w, 2 * w->climate.lease_us))
            return;
        w->event = "release";
        acts_release(w, c);
        return;
    }
}

/* Preferably one that was given away by a letter that has not come yet. */
static struct sim_server *some_victim(struct world *w)
{
    for (uint32_t i = 0; i < w->letter_n && world_chance(w, 50); i++)
        if (w->letters[i].server != NULL)
            return w->letters[i].server;
    return some_server(w);
}

static void event(struct world *w)
{
    if (world_chance(w, w->climate.death_pct)) {
        struct sim_server *s = some_victim(w);
        w->event = "death";
        if (s != NULL)
            acts_server_dies(w, s);
    } else if (world_chance(w, w->climate.reload_pct)) {
        w->event = "administration";
        administer(w);
    } else if (world_chance(w, w->climate.outage_pct)) {
        uint32_t i = world_random(w, w->upstream_n);
        w->event = "outage";
        w->outage[i] = !w->outage[i];
        w->totals.outages_n += w->outage[i];
    } else {
        client_event(w, &w->clients[world_random(w, w->client_n)]);
    }
    if (!w->climate.steady && w->event_n % CULL_EVENTS == 0)
        culls_act(w, w->upstreams[w->event_n / CULL_EVENTS % w->upstream_n]);
}

/* In a steady world no lease is longer than twice the mean. */
static void end_long_leases(struct world *w)
{
    for (uint32_t i = 0; i < w->client_n; i++) {
        struct sim_client *c = &w->clients[i];
        if (c->state == SIM_CLIENT_HOLDING && c->job == NULL &&
            w->now_us - c->server->s.leased_us > 2 * w->climate.lease_us)
            acts_release(w, c);
    }
}

static void advance(struct world *w, uint64_t to_us)
{
    uint64_t next_us = w->now_us / (100 * US_PER_MS) * (100 * US_PER_MS);

    while ((next_us += 100 * US_PER_MS) <= to_us) {
        w->now_us = next_us;
        acts_deliver_due(w);
        tick(w);
        if (w->climate.steady)
            end_long_leases(w);
    }
    w->now_us = to_us;
    acts_deliver_due(w);
}

/* Everything heals, nobody comes any more, and leases end: all must come to rest by itself. */
static void drain(struct world *w)
{
    struct pool_actions actions;

    w->draining = true;
    w->event = "drain";
    memset(w->outage, 0, sizeof(w->outage));
    for (uint32_t i = 0; i < w->pool_n; i++) {
        check_before(w);
        pool_set_run(w->pools[i], POOL_RUNS, w->now_us, &actions);
        acts_finish(w, w->pools[i]->upstream, &actions, 0);
    }
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        w->stale[i] = true;
        upstream_release(w->upstreams[i], w->now_us);
    }
    tick(w);
    for (uint32_t step = 0; step < 1200; step++) {
        bool busy = w->letter_n > 0;
        advance(w, w->now_us + 100 * US_PER_MS);
        for (uint32_t i = 0; i < w->client_n; i++) {
            struct sim_client *c = &w->clients[i];
            busy |= c->state == SIM_CLIENT_WAITING || c->state == SIM_CLIENT_HOLDING;
            if (c->state == SIM_CLIENT_HOLDING)
                acts_release(w, c);
        }
        w->event = "drain";
        check_all(w);
        if (!busy && w->letter_n == 0)
            return;
    }
    for (uint32_t i = 0; i < w->client_n; i++)
        if (w->clients[i].state != SIM_CLIENT_IDLE && w->clients[i].state != SIM_CLIENT_OUT)
            world_fail(w, "client %u is in state %d two minutes after all was well again", i,
                       w->clients[i].state);
    world_fail(w, "mail is still under way");
}

static void take_down(struct world *w)
{
    struct pool_actions actions;

    w->event = "take down";
    for (uint32_t i = 0; i < w->client_n; i++)
        if (w->clients[i].state == SIM_CLIENT_IDLE)
            acts_logout(w, &w->clients[i]);
    for (uint32_t i = 0; i < w->pool_n; i++) {
        check_before(w);
        pool_set_run(w->pools[i], POOL_KILLED, w->now_us, &actions);
        acts_finish(w, w->pools[i]->upstream, &actions, 0);
    }
    for (uint32_t step = 0; step < 100 && w->letter_n > 0; step++)
        advance(w, w->now_us + US_PER_S);
    check_rest(w);
    for (uint32_t i = 0; i < w->pool_n; i++) {
        struct pool_opts o = w->pools[i]->opts;
        o.min_always = false;
        check_before(w);
        pool_set_opts(w->pools[i], &o, w->now_us, &actions);
        acts_finish(w, w->pools[i]->upstream, &actions, 0);
    }
    for (uint32_t i = 0; i < w->upstream_n; i++)
        w->totals.evicted_n += w->upstreams[i]->evicted_n;
    for (uint32_t i = 0; i < w->upstream_n; i++)
        w->totals.probes_n += w->upstreams[i]->error_breaker.probes_n;
    uint32_t n = w->pool_n;
    for (uint32_t i = 0; i < n; i++) {
        struct pool *p = w->pools[i];
        pool_unhold(&p);
    }
    uint32_t gone_n = registry_reap(w->registry, UINT64_MAX, NULL, NULL);
    if (registry_pools_n(w->registry) != 0)
        world_fail(w, "%u of %u pools were reaped", gone_n, n);
    registry_free(&w->registry);
}

void world_run(struct world *w, uint64_t seed, uint32_t events_n)
{
    struct sim_totals totals = w->totals;
    bool verbose = w->verbose;

    memset(w, 0, sizeof(*w));
    w->seed = w->random = seed;
    w->totals = totals;
    w->verbose = verbose;
    w->event = "build";
    w->now_us = 1000ull * US_PER_S;
    w->swept_us = w->now_us;
    some_climate(w);
    build(w);
    tick(w);
    if (w->climate.gap_us > 20000)
        events_n /= 3; /* most of the time would go into ticks */
    if (w->climate.steady)
        events_n *= 10; /* famine takes its time */
    for (w->event_n = 0; w->event_n < events_n; w->event_n++) {
        w->event = "time";
        advance(w, w->now_us + world_some_us(w, w->climate.gap_us));
        event(w);
        check_all(w);
        w->totals.events_n++;
    }
    drain(w);
    take_down(w);
}
