/* The real pool and breakers as the proxy drives them, with one loop: every action is carried out
 * at once. Logins take their time, servers die with the database, cancels travel, streams are read
 * at the pace they are given, a probe looks at locks and places. Nothing is configured but the
 * preset: classes are the built-in ones. */
#include "bench/sim/policy_weir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "bench/sim/locks.h"
#include "bench/sim/scenarios.h"
#include "pool/facts.h"
#include "pool/registry.h"
#include "pool/show.h"
#include "pool/upstream.h"

enum {
    LOGIN_US = 5 * US_PER_MS,
    REFUSED_US = US_PER_MS,    /* a port nobody listens on says so at once */
    CANCEL_US = 3 * US_PER_MS, /* a connection of its own, and a process there */
    PLACES = 100,              /* what the database lets us have, all proxies together */
    SWEEP_TICKS = 3,
    PROBE_US = US_PER_S,
    PROBE_LOCKS = 5, /* looks at locks once in so many, or each time where something is wrong */
    EDGES_MAX = 512,
};

struct weir_server {
    struct pool_server s;
    struct proxy *proxy;
    struct pool *pool;
    struct call *call;
    struct event event;     /* its login, or the cancel on its way */
    uint32_t granted_bytes; /* that it may read; as in proxy/pacer ... */
    uint64_t ticket;        /* ... and its place among those who want to */
    bool counted;           /* among the database's connections */
    struct weir_server *prev, *next;
};

struct weir {
    struct proxy *proxy;
    struct pool_registry *registry;
    struct upstream *upstream;
    struct pool *pools[SIM_CLASSES];
    uint8_t class_i[SIM_CLASSES];
    struct weir_server *servers;
    bool alone; /* before its database */
    struct event probe, pump;
    uint32_t places_n, budget_n; /* of the database, and of us */
    uint32_t ticks_n, probes_n, seen_n;
    struct weir_stats stats;
};

static uint64_t now_of(const struct proxy *p)
{
    return p->world->engine.now_us;
}

static struct weir_server *server_of(struct pool_server *s)
{
    return OWNER_OF(struct weir_server, s, s);
}

/* ---- actions ------------------------------------------------------------------------------- */

static void carry_out(struct proxy *p, struct pool_actions *actions);

static void server_free(struct weir_server *s)
{
    struct weir *w = s->proxy->own;

    engine_off(&s->proxy->world->engine, &s->event);
    if (s->counted)
        s->proxy->database->connections_n--;
    DL_DELETE(w->servers, s);
    free(s);
}

static void close_server(struct weir_server *s, bool died)
{
    struct proxy *p = s->proxy;
    struct pool_actions actions;

    s->s.died = died;
    bool gone = pool_closed(&s->s, true, now_of(p), &actions);
    must(gone); /* one loop: no letter is ever under way */
    server_free(s);
    carry_out(p, &actions);
}

static void opened(struct engine *e, struct event *ev)
{
    struct weir_server *s = OWNER_OF(struct weir_server, event, ev);
    struct proxy *p = s->proxy;
    struct database *d = p->database;
    struct pool *pool = s->pool;
    struct pool_actions actions;
    enum pool_failure why = POOL_FAILED_CONNECT;

    bool denied = d->up && d->bulk_denied && pool == ((struct weir *)p->own)->pools[SIM_BULK];
    if (d->up && !denied && (d->connections_max == 0 || d->connections_n < d->connections_max)) {
        d->connections_n++;
        s->counted = true;
        pool_opened(pool, &s->s, 0, e->now_us, &actions);
        carry_out(p, &actions);
        return;
    }
    if (d->up)
        why = denied ? POOL_FAILED_LOGIN : POOL_FAILED_FULL;
    struct err text;
    (void)err_set(&text, denied ? "28P01" : d->up ? "53300" : "08006", "no connection");
    server_free(s);
    pool_open_failed(pool, why, &text, e->now_us, &actions);
    carry_out(p, &actions);
}

static void open_server(struct proxy *p, struct pool *pool)
{
    struct weir *w = p->own;
    struct weir_server *s = calloc(1, sizeof(*s));

    must(s != NULL);
    s->proxy = p;
    s->pool = pool;
    s->s.backend_pid = ++p->world->pids_n;
    DL_APPEND(w->servers, s);
    engine_in(&p->world->engine, &s->event, p->database->up ? LOGIN_US : REFUSED_US, opened);
}

static void launch(struct tx *tx, struct pool_server *lease)
{
    struct weir_server *s = server_of(lease);
    uint64_t now_us = now_of(tx->proxy);

    must(s->call == NULL);
    tx->request.pid = lease->backend_pid;
    atomic_store_explicit(&lease->stmt_started_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&lease->stmt_fingerprint, tx->type_i + 1, memory_order_relaxed);
    atomic_store_explicit(&lease->stmt_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&lease->last_byte_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&lease->stmt_copy_out, tx->request.kind == STATEMENT_STREAM,
                          memory_order_relaxed);
    atomic_store_explicit(&lease->tx_writes, tx->writes, memory_order_relaxed);
    s->call = proxy_launch(tx, s);
}

static void carry_out_one(struct proxy *p, const struct pool_action *a)
{
    switch (a->act) {
    case POOL_GRANT:
        launch(OWNER_OF(struct tx, waiter, a->waiter), a->server);
        return;
    case POOL_REFUSE:
        proxy_refuse(OWNER_OF(struct tx, waiter, a->waiter));
        return;
    case POOL_OPEN:
        open_server(p, a->pool);
        return;
    case POOL_CLOSE:
        close_server(server_of(a->server), false);
        return;
    }
    must(!"an action");
}

/* A grant may lead to the next call: each has a list of its own. */
static void carry_out(struct proxy *p, struct pool_actions *actions)
{
    struct weir *w = p->own;

    for (;;) {
        for (uint32_t i = 0; i < actions->n; i++)
            carry_out_one(p, &actions->at[i]);
        if (!actions->more)
            return;
        pool_dispatch(w->upstream, now_of(p), actions);
    }
}

/* ---- clients ------------------------------------------------------------------------------- */

static void ask(struct proxy *p, struct tx *tx)
{
    struct weir *w = p->own;
    struct pool_actions actions;
    enum sim_class as = tx->disguised ? SIM_USERS : tx->class;

    tx->waiter =
        (struct pool_waiter){.class_i = w->class_i[as], .key_i = tx->key_i, .group = tx->group};
    switch (pool_acquire(w->pools[as], &tx->waiter, now_of(p), &actions)) {
    case POOL_GRANTED:
        launch(tx, tx->waiter.server);
        break;
    case POOL_REFUSED:
        proxy_refuse(tx);
        break;
    case POOL_QUEUED:
        break;
    }
    carry_out(p, &actions);
}

static void leave(struct proxy *p, struct tx *tx)
{
    struct pool_actions actions;

    bool was_queued = pool_cancel(&tx->waiter, now_of(p), &actions);
    must(was_queued);
    carry_out(p, &actions);
}

static void cancel_arrives(struct engine *e, struct event *ev)
{
    struct weir_server *s = OWNER_OF(struct weir_server, event, ev);

    (void)e;
    if (s->call != NULL)
        proxy_cancel(s->call);
}

static void cancel(struct weir_server *s)
{
    if (!engine_is_set(&s->event))
        engine_in(&s->proxy->world->engine, &s->event, CANCEL_US, cancel_arrives);
}

static void orphaned(struct proxy *p, struct call *c)
{
    (void)p;
    cancel(c->server);
}

static void ended(struct proxy *p, struct call *c, enum statement_end how)
{
    struct weir_server *s = c->server;
    struct pool_actions actions;
    struct pool_observation obs = {
        .fingerprint = c->type_i + 1,
        .dispatched_us = c->launched_us,
        .service_us = (c->answered_us > 0 ? c->answered_us : now_of(p)) - c->launched_us,
    };

    s->call = NULL;
    pace_give(pool_pace(&s->s), s->granted_bytes);
    pace_turn_over(pool_pace(&s->s), &s->ticket);
    s->granted_bytes = 0;
    engine_off(&p->world->engine, &s->event);
    atomic_store_explicit(&s->s.stmt_started_us, 0, memory_order_relaxed);
    if (how == STATEMENT_LOST) {
        close_server(s, true);
        return;
    }
    pool_release(&s->s, how == STATEMENT_DONE ? &obs : NULL, now_of(p), &actions);
    carry_out(p, &actions);
}

/* ---- streams ------------------------------------------------------------------------------- */

/* The operator, the breaker, or nobody says how fast. */
static bool is_paced(const struct weir_server *s)
{
    return pace_limited(pool_pace(&s->s)) &&
           !atomic_load_explicit(&s->s.unpaced, memory_order_relaxed) &&
           !atomic_load_explicit(&s->s.tx_writes, memory_order_relaxed);
}

static void read_bytes(struct call *c, uint64_t bytes_n, uint64_t now_us)
{
    struct weir_server *s = c->server;

    atomic_store_explicit(&s->s.last_byte_us, now_us, memory_order_relaxed);
    pool_bytes(&s->s, bytes_n);
    proxy_read(c, bytes_n);
}

/* What it was granted, and a portion more where it has none left. */
static bool read_portion(struct call *c, uint64_t now_us)
{
    struct weir_server *s = c->server;
    struct pace *pace = pool_pace(&s->s);

    if (c->st.buf_bytes == 0)
        return false;
    if (!is_paced(s)) {
        read_bytes(c, c->st.buf_bytes, now_us);
        return true;
    }
    if (s->granted_bytes == 0) {
        uint32_t portion_bytes = pace_portion_bytes(pace);
        if (!pace_turn(pace, &s->ticket, now_us) || !pace_take(pace, portion_bytes, now_us)) {
            if (!pace_starves(pace, us_since(c->unread_since_us, now_us), now_us))
                return false;
            portion_bytes = PACE_PIECE_BYTES;
            pace_trickle(pace, portion_bytes);
        }
        s->granted_bytes = portion_bytes;
    }
    uint64_t bytes_n = c->st.buf_bytes < s->granted_bytes ? c->st.buf_bytes : s->granted_bytes;
    s->granted_bytes -= (uint32_t)bytes_n;
    read_bytes(c, bytes_n, now_us);
    return true;
}

/* Round robin until the bucket is empty: who was read goes to the end. True: bytes are left. */
static bool read_class(struct proxy *p, enum sim_class class)
{
    uint32_t waits_n = 0;
    bool left = false;

    while (p->calls[class] != NULL && waits_n < p->calls_n[class]) {
        struct call *c = p->calls[class];
        bool mine = c->answered_us == 0 && c->st.kind == STATEMENT_STREAM && c->st.database != NULL;
        bool read = mine && read_portion(c, now_of(p));
        left |= mine && c->st.buf_bytes > 0;
        waits_n = read ? 0 : waits_n + 1;
        DL_DELETE(p->calls[class], c);
        DL_APPEND(p->calls[class], c);
    }
    return left;
}

static void pump(struct engine *e, struct event *ev)
{
    struct weir *w = OWNER_OF(struct weir, pump, ev);
    struct proxy *p = w->proxy;
    bool left = false;

    if (p->frozen_until_us > e->now_us) {
        engine_at(e, ev, p->frozen_until_us, pump);
        return;
    }
    for (uint32_t i = SIM_BULK; i < SIM_CLASSES; i++)
        left |= read_class(p, (enum sim_class)i);
    if (left)
        engine_in(e, ev, PACE_FILL_US, pump);
}

static void produced(struct proxy *p, struct call *c)
{
    struct weir_server *s = c->server;
    struct weir *w = p->own;

    if ((!is_paced(s) || s->granted_bytes > 0) && p->frozen_until_us <= now_of(p))
        (void)read_portion(c, now_of(p));
    if (c->st.buf_bytes > 0 && !engine_is_set(&w->pump))
        engine_in(&p->world->engine, &w->pump, PACE_FILL_US, pump);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void trace_transitions(struct proxy *p)
{
    struct weir *w = p->own;
    struct breaker_transition t;

    while (show_transition(w->upstream, &w->seen_n, &t)) {
        double at_s = (double)t.at_us / US_PER_S;
        if (t.to == BREAKER_TEST && t.from != BREAKER_TEST && w->stats.tests_kept_n < WEIR_TESTS)
            w->stats.tests_s[w->stats.tests_kept_n++] = at_s;
        if (t.from == t.to && w->stats.cuts_kept_n < WEIR_CUTS)
            w->stats.cuts_s[w->stats.cuts_kept_n++] = at_s;
        if (t.to == BREAKER_CLOSED)
            w->stats.closed_s = at_s;
        world_trace(p->world, "%u: %s -> %s: %s", p->proxy_i, breaker_state_name(t.from),
                    breaker_state_name(t.to), t.why);
    }
}

static void send_cancels(struct proxy *p)
{
    struct weir *w = p->own;
    struct weir_server *s;

    DL_FOREACH(w->servers, s)
    {
        uint64_t marked_us = atomic_load_explicit(&s->s.cancel_stmt_us, memory_order_relaxed);
        uint64_t runs_us = atomic_load_explicit(&s->s.stmt_started_us, memory_order_relaxed);
        if (marked_us == 0 || marked_us != runs_us || s->call == NULL || s->call->cancelled ||
            engine_is_set(&s->event))
            continue;
        p->world->cancels_n++;
        cancel(s);
    }
}

/* What must hold whatever happens; looked at once a second. */
static void check_promises(struct proxy *p)
{
    struct weir *w = p->own;
    struct class_stats c;
    uint32_t sheddable_n = 0;

    show_class(w->upstream, w->class_i[SIM_USERS], now_of(p), &c);
    if (c.held || c.limited || c.g < 1)
        world_broken(p->world, "the protected class was limited");
    uint32_t reserved_n = c.reserved_n;
    for (uint32_t i = SIM_BULK; i < SIM_CLASSES; i++) {
        show_class(w->upstream, w->class_i[i], now_of(p), &c);
        sheddable_n += c.active_n;
        if (!c.held && c.g < (w->alone ? 0.0099 : 0.0039))
            world_broken(p->world, "a class was cut below its floor");
    }
    struct upstream_stats u;
    show_upstream(w->upstream, &u);
    if (u.pressure.p >= 1 && world_s(p->world) >= p->world->opts.scenario->event_from_s)
        w->stats.over_s += 1; /* one look a second will do */
    if (u.budget_now_n > 0 && u.budget_now_n >= w->budget_n &&
        sheddable_n > u.budget_now_n - (reserved_n < u.budget_now_n ? reserved_n : 0))
        world_broken(p->world, "bulk sits in places kept for users");
}

static void tick(struct proxy *p)
{
    struct weir *w = p->own;
    struct pool_actions actions;

    pool_tick(w->upstream, now_of(p), &actions);
    carry_out(p, &actions);
    send_cancels(p);
    trace_transitions(p);
    if (w->ticks_n++ % SWEEP_TICKS == 0) {
        pool_sweep(w->upstream, now_of(p), &actions);
        carry_out(p, &actions);
    }
    if (w->ticks_n % 10 == 0)
        check_promises(p);
}

/* ---- the probe ----------------------------------------------------------------------------- */

struct edges {
    uint32_t n;
    struct upstream_block at[EDGES_MAX];
};

static void add_edge(struct statement *waiter, struct statement *blocker, void *arg)
{
    struct edges *edges = arg;

    if (edges->n < EDGES_MAX)
        edges->at[edges->n++] =
            (struct upstream_block){.waiter_pid = waiter->pid, .blocker_pid = blocker->pid};
}

static void tell_facts(struct proxy *p)
{
    struct weir *w = p->own;

    upstream_tell_facts(w->upstream, &(struct upstream_facts){
                                         .role = UPSTREAM_PRIMARY,
                                         .connections_max = w->places_n,
                                         .rtt_us = 500,
                                         .told_us = now_of(p) + 1,
                                     });
}

static void probe(struct engine *e, struct event *ev)
{
    struct weir *w = OWNER_OF(struct weir, probe, ev);
    struct proxy *p = w->proxy;
    struct upstream_probe_view view;
    static struct edges edges;

    engine_in(e, ev, PROBE_US, probe);
    if (!p->database->up || p->frozen_until_us > e->now_us ||
        p->database->cpu.stalled_until_us > e->now_us)
        return;
    upstream_probe_view(w->upstream, &view);
    if (w->probes_n++ % PROBE_LOCKS != 0 && !view.suspicious && !view.locked)
        return;
    edges.n = 0;
    locks_each_edge(p->database->locks, add_edge, &edges);
    w->stats.inversions_n += upstream_tell_blocks(w->upstream, edges.at, edges.n, e->now_us);
}

/* ---- birth and death ----------------------------------------------------------------------- */

static void open_pools(struct weir *w)
{
    static const char *const users[SIM_CLASSES] = {"app", "etl", "backup"};
    struct pool_opts opts;
    struct err err;

    pool_opts_defaults(&opts);
    opts.size_n = w->places_n;
    for (uint32_t i = 0; i < SIM_CLASSES; i++) {
        struct pool_key key = {.database = "shop", .user = users[i], .upstream = w->upstream};
        w->pools[i] = pool_get(w->registry, &key, &opts, &err);
        must(w->pools[i] != NULL);
        pool_client_add(w->pools[i], w->class_i[i]);
    }
}

static struct pool_registry *new_registry(const struct world *w, const struct class_table *classes,
                                          uint32_t proxy_i)
{
    struct registry_opts opts;
    struct err err;

    registry_opts_defaults(&opts);
    opts.worker_n = 1;
    opts.seed = w->opts.seed * 1000003 + proxy_i;
    struct pool_registry *r = registry_new(&opts, classes, &err);
    must(r != NULL);
    return r;
}

/* What an operator could have set by hand, had he known it. */
static void fix_rate(struct class_table *classes, uint64_t byte_rate)
{
    for (uint32_t i = 0; i < classes->class_n && byte_rate > 0; i++) {
        struct class_opts *c = &classes->at[i];
        if (c->priority == 0)
            continue;
        c->byte_rate = byte_rate;
        c->breaker = CLASS_BREAKER_OBSERVE; /* pressure as the preset has it */
    }
}

static void open_weir(struct proxy *p)
{
    struct world *world = p->world;
    struct weir *w = calloc(1, sizeof(*w));
    struct class_table classes;
    struct upstream_opts opts;
    struct err err;

    must(w != NULL);
    w->proxy = p;
    p->own = w;
    class_table_init(&classes);
    w->class_i[SIM_USERS] = classes.interactive_i;
    w->class_i[SIM_BULK] = classes.bulk_i;
    w->class_i[SIM_BACKUP] = classes.backup_i;
    for (uint32_t i = 0; i < classes.class_n && p->policy->strict; i++)
        classes.at[i].protect = CLASS_PROTECT_STRICT;
    fix_rate(&classes, world->opts.byte_rate);
    bool shares = world->databases_n > 1 && p->proxy_i > 0;
    w->registry = shares ? ((struct weir *)world->proxies[0].own)->registry
                         : new_registry(world, &classes, p->proxy_i);
    upstream_opts_defaults(&opts);
    opts.instances_n = world->proxies_n / world->databases_n;
    w->alone = opts.instances_n == 1;
    opts.can_cancel = true;
    opts.can_pace = true;
    w->upstream = upstream_get(w->registry, "db", (uint16_t)(1 + p->proxy_i), &opts, &err);
    must(w->upstream != NULL);
    w->places_n = world->opts.scenario->places_n;
    if (w->places_n == 0)
        w->places_n = (uint32_t)(PLACES * world->size);
    w->budget_n = w->places_n / opts.instances_n;
    tell_facts(p);
    open_pools(w);
    engine_in(&world->engine, &w->probe, PROBE_US, probe);
}

static void close_weir(struct proxy *p)
{
    struct weir *w = p->own;
    struct pool_actions actions;

    engine_off(&p->world->engine, &w->probe);
    engine_off(&p->world->engine, &w->pump);
    for (uint32_t i = 0; i < SIM_CLASSES; i++) {
        pool_set_run(w->pools[i], POOL_KILLED, now_of(p), &actions);
        carry_out(p, &actions);
        pool_client_remove(w->pools[i], w->class_i[i], now_of(p), &actions);
        carry_out(p, &actions);
    }
    while (w->servers != NULL) { /* still logging in */
        engine_off(&p->world->engine, &w->servers->event);
        opened(&p->world->engine, &w->servers->event);
    }
    for (uint32_t i = 0; i < SIM_CLASSES; i++)
        pool_unhold(&w->pools[i]);
    bool last = p->proxy_i + 1 == p->world->proxies_n;
    if (last || p->world->databases_n == 1) {
        (void)registry_reap(w->registry, UINT64_MAX, NULL, NULL);
        registry_free(&w->registry);
    }
    free(w);
    p->own = NULL;
}

static struct weir_server *idle_server(struct weir *w)
{
    struct weir_server *s;

    DL_FOREACH(w->servers, s)
    {
        if (s->s.state == POOL_SERVER_IDLE)
            return s;
    }
    return NULL;
}

static void lost(struct proxy *p)
{
    struct weir *w = p->own;
    struct weir_server *s;
    struct pool_actions actions;

    while ((s = idle_server(w)) != NULL) {
        s->s.died = true;
        bool gone = pool_closed(&s->s, false, now_of(p), &actions);
        must(gone);
        server_free(s);
        carry_out(p, &actions);
    }
}

static void restored(struct proxy *p)
{
    (void)p; /* finds out for itself */
}

void weir_stats(const struct proxy *p, struct weir_stats *out)
{
    const struct weir *w = p->own;
    struct upstream_stats u;

    *out = w->stats;
    show_upstream(w->upstream, &u);
    out->tests_n = u.tests_n;
    out->confirmed_n = u.confirmed_n;
    out->exonerated_n = u.exonerated_n;
    out->cuts_n = u.cuts_n;
    out->state = u.breaker;
    for (uint32_t i = 0; i < SIM_CLASSES; i++) {
        struct class_stats c;
        show_class(w->upstream, w->class_i[i], now_of(p), &c);
        out->g[i] = c.g;
        for (uint32_t k = 0; k < POOL_REFUSALS_N; k++)
            out->refused_n[i] += c.refused_n[k];
    }
}

#define WEIR                                                                                       \
    .real = true, .open = open_weir, .close = close_weir, .ask = ask, .leave = leave,              \
    .ended = ended, .orphaned = orphaned, .produced = produced, .tick = tick, .lost = lost,        \
    .restored = restored

const struct policy policy_weir = {
    .name = "pgweir", .title = "the tree's own pool and breakers, as shipped", WEIR};
const struct policy policy_weir_strict = {
    .name = "pgweir-strict", .title = "the same with protect = strict", .strict = true, WEIR};
