/* What follows from what the probe has seen.
 *
 * Budget. Where the operator has set no limit, there are as many places as PostgreSQL has, less the
 * probe's own, shared among the instances of us. So nobody is refused a server that PostgreSQL
 * would have given; only who would have been refused there waits here. Percentages, and what any
 * sheddable class may have, are of a tenth less: that tenth is for connections past us.
 *
 * Locks. The answer of pg_blocking_pids() is a graph: waiter -> blocker. From each protected lease
 * that waits, all it waits for is walked once (so cycles end); a backend on the way that waits for
 * nobody is a root. A root that is a sheddable class's lease is an inversion: the class is
 * expendable, and the protected ones wait for it. At once its stream is no longer held back, for
 * pacing would prolong the lock; after FACTS_CANCEL_US its statement is cancelled, where its class
 * says so. Roots that are somebody else's (an operator's psql, a user's own transaction) are
 * nobody's guilt here. Either way the time of a protected statement that was seen waiting says
 * nothing about load, and is not judged: a lock pile-up blames nobody. Nor is anything judged while
 * most of them wait for one outsider, and for as long again: what has queued up has to pass first.
 *
 * Stalled. The probe's connection is accepted and its question not answered, three statements or
 * more are in flight, and no server has sent a byte, all for 5 s: the machine below is frozen (a
 * snapshot, a hung disk, a stopped process). Nothing new is sent there, nobody is refused or blamed
 * for it, and sessions stay; the first byte ends it. Half a second of such silence is enough for
 * the latency breaker to wait: load makes a server slow, not mute. Where connects fail instead, the
 * error breaker has the word. */
#include "pool/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/cull.h"
#include "pool/places.h"
#include "pool/rights.h"
#include "pool/state.h"

enum {
    STALLED_US = 5 * US_PER_S,
    STALLED_RUNNING_N = 3,
    PILED_UP_N = 3,            /* fewer waiters are everyday life */
    OUTSIDER_LOOKS_N = 2,      /* one may be chance */
    OUTSIDERS_MAX = 16,        /* of one look: under so many different ones no lock is the cause */
    LOOKED_LATE_US = US_PER_S, /* before the first of them they waited already */
    FORGIVEN_US_MAX = 5 * US_PER_S,
    FROZEN_US = 500 * US_PER_MS, /* silence that is no measure of load: nothing is judged by it */
    HEADROOM_SHARE = 10,         /* one part of so many is for connections past us */
    NODES_MAX = 2 * FACTS_EDGES_MAX,
    NOBODY = UINT16_MAX,
};
_Static_assert(NODES_MAX < NOBODY, "indices of nodes are 16 bits");

/* ---- facts --------------------------------------------------------------------------------- */

void facts_learn(struct upstream *u)
{
    uint32_t instances_n = u->opts.instances_n > 0 ? u->opts.instances_n : 1;
    uint32_t mine_n = u->facts.told.connections_max / instances_n;
    uint32_t places_n = mine_n > 1 ? mine_n - 1 : 1;

    must(lock_mine(&u->lock));
    if (u->facts.told.connections_max == 0 || places_n == u->facts.places_n)
        return;
    u->facts.places_n = places_n;
    u->facts.shared_n = places_n - places_n / HEADROOM_SHARE;
    places_set_budget(u);
}

void upstream_tell_facts(struct upstream *u, const struct upstream_facts *facts)
{
    lock_take(&u->lock);
    uint32_t known_n = u->facts.told.connections_max;
    u->facts.told = *facts;
    if (facts->connections_max == 0)
        u->facts.told.connections_max = known_n; /* a server that is gone will come back */
    facts_learn(u);
    lock_drop(&u->lock);
    atomic_store_explicit(&u->role, facts->role, memory_order_relaxed);
}

void upstream_facts(struct upstream *u, struct upstream_facts *out)
{
    lock_take(&u->lock);
    *out = u->facts.told;
    lock_drop(&u->lock);
}

enum upstream_role upstream_role(const struct upstream *u)
{
    return atomic_load_explicit(&u->role, memory_order_relaxed);
}

const char *upstream_role_name(enum upstream_role role)
{
    switch (role) {
    case UPSTREAM_ROLE_UNKNOWN:
        return "unknown";
    case UPSTREAM_PRIMARY:
        return "primary";
    case UPSTREAM_STANDBY:
        return "standby";
    case UPSTREAM_GONE:
        return "gone";
    }
    must(!"a role of enum upstream_role");
    return "";
}

static uint32_t protected_n(const struct upstream *u)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->class_n; i++)
        if (u->classes[i].priority == 0)
            n += u->shares.at[i].leased_n;
    return n;
}

/* ---- locks: the graph ------------------------------------------------------------------------ */

struct node {
    uint32_t pid;
    uint32_t edges_i, edges_n;  /* whom it waits for */
    struct pool_server *server; /* NULL: not one of our leases */
    uint16_t origin_i;          /* the protected waiter it was reached from; NOBODY: not reached */
    bool reaches;               /* waits for the root that is looked at, or is it */
};

struct graph {
    uint32_t nodes_n, edges_n;
    struct node nodes[NODES_MAX];
    struct upstream_block edges[FACTS_EDGES_MAX]; /* by waiter */
    uint16_t todo[NODES_MAX];                     /* to be walked on from */
};

static int by_waiter(const void *a, const void *b)
{
    const struct upstream_block *x = a, *y = b;

    return (x->waiter_pid > y->waiter_pid) - (x->waiter_pid < y->waiter_pid);
}

static int by_pid(const void *a, const void *b)
{
    const struct node *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct node *node_of(struct graph *g, uint32_t pid)
{
    struct node key = {.pid = pid};

    return bsearch(&key, g->nodes, g->nodes_n, sizeof(g->nodes[0]), by_pid);
}

/* Prepared transactions have the pid 0: theirs are locks without a backend. */
static void add_edges(struct graph *g, const struct upstream_block *edges, uint32_t edges_n)
{
    for (uint32_t i = 0; i < edges_n && g->edges_n < FACTS_EDGES_MAX; i++) {
        if (edges[i].waiter_pid == 0)
            continue;
        g->edges[g->edges_n++] = edges[i];
        g->nodes[g->nodes_n++].pid = edges[i].waiter_pid;
        g->nodes[g->nodes_n++].pid = edges[i].blocker_pid;
    }
}

static void graph_make(struct graph *g, const struct upstream_block *edges, uint32_t edges_n)
{
    uint32_t n = 0;

    memset(g->nodes, 0, sizeof(g->nodes));
    g->nodes_n = g->edges_n = 0;
    add_edges(g, edges, edges_n);
    qsort(g->edges, g->edges_n, sizeof(g->edges[0]), by_waiter);
    qsort(g->nodes, g->nodes_n, sizeof(g->nodes[0]), by_pid);
    for (uint32_t i = 0; i < g->nodes_n; i++) {
        if (n > 0 && g->nodes[n - 1].pid == g->nodes[i].pid)
            continue;
        g->nodes[n++] = (struct node){.pid = g->nodes[i].pid, .origin_i = NOBODY};
    }
    g->nodes_n = n;
    for (uint32_t i = 0; i < g->edges_n; i++) {
        struct node *waiter = node_of(g, g->edges[i].waiter_pid);
        if (waiter->edges_n++ == 0)
            waiter->edges_i = i;
    }
}

/* Gives the nodes their leases. */
static void find_leases(struct upstream *u, struct graph *g)
{
    struct pool_server *s = u->leased, *first = s;

    if (s == NULL || g->nodes_n == 0)
        return;
    do {
        struct node *node = s->backend_pid != 0 ? node_of(g, s->backend_pid) : NULL;
        if (node != NULL)
            node->server = s;
        s = s->next;
    } while (s != first);
}

/* Reaches everybody the origin waits for, each node once however many wait for it. */
static void walk_from(struct graph *g, uint16_t origin_i)
{
    uint32_t todo_n = 0;

    if (g->nodes[origin_i].origin_i != NOBODY)
        return;
    g->nodes[origin_i].origin_i = origin_i;
    g->todo[todo_n++] = origin_i;
    while (todo_n > 0) {
        const struct node *at = &g->nodes[g->todo[--todo_n]];
        for (uint32_t i = 0; i < at->edges_n; i++) {
            struct node *to = node_of(g, g->edges[at->edges_i + i].blocker_pid);
            if (to->origin_i != NOBODY)
                continue;
            to->origin_i = origin_i;
            g->todo[todo_n++] = (uint16_t)(to - g->nodes);
        }
    }
}

/* ---- locks: what is done about it ------------------------------------------------------------ */

static void who(const struct pool_server *s, char buf[FACTS_WHO_BYTES])
{
    snprintf(buf, FACTS_WHO_BYTES, "%s/%s", s->pool->database, s->pool->user);
}

static void note_inversion(struct upstream *u, const struct node *root, const struct node *waiter,
                           enum upstream_inversion_act act, uint64_t now_us)
{
    struct facts *f = &u->facts;
    const struct pool_server *s = root->server;
    const struct class_opts *o = &u->classes[s->class_i];
    struct upstream_inversion *to = &f->inversions[f->inversions_all_n++ % FACTS_INVERSIONS];

    f->inversions_n[s->class_i][act]++;
    *to = (struct upstream_inversion){.at_us = now_us,
                                      .since_us = s->inverted_us,
                                      .act = act,
                                      .observed = act == INVERSION_ALERT &&
                                                  o->on_lock_inversion != CLASS_INVERSION_ALERT,
                                      .blocker_pid = root->pid,
                                      .waiter_pid = waiter->pid,
                                      .waiters_n = f->lock_waiters_n};
    memcpy(to->blocker_class, o->name, sizeof(to->blocker_class));
    memcpy(to->waiter_class, u->classes[waiter->server->class_i].name, sizeof(to->waiter_class));
    who(s, to->blocker);
    who(waiter->server, to->waiter);
}

/* The statement that runs now is marked once; a later one of the same lease again. */
static void cancel_root(struct upstream *u, const struct node *root, const struct node *waiter,
                        uint64_t now_us)
{
    struct pool_server *s = root->server;
    uint64_t stmt_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed);

    if (stmt_us != 0) {
        if (!cull_mark(s, POOL_CULL_LOCKS))
            return;
        note_inversion(u, root, waiter, INVERSION_CANCEL, now_us);
    } else if (!s->inverted_cancelled) {
        note_inversion(u, root, waiter, INVERSION_IDLE, now_us);
    }
    s->inverted_cancelled = true;
}

/* True: it was not one before. */
static bool act_on_root(struct upstream *u, const struct node *root, const struct node *waiter,
                        uint64_t now_us)
{
    struct pool_server *s = root->server;
    const struct class_opts *o = &u->classes[s->class_i];
    enum class_inversion wish =
        o->breaker == CLASS_BREAKER_ENFORCE ? o->on_lock_inversion : CLASS_INVERSION_ALERT;
    bool is_new = s->inverted_us == 0;

    s->inverted_seen_us = now_us;
    if (is_new) {
        s->inverted_us = now_us;
        s->inverted_cancelled = false;
        atomic_store_explicit(&s->unpaced, wish != CLASS_INVERSION_ALERT, memory_order_relaxed);
        note_inversion(u, root, waiter,
                       wish == CLASS_INVERSION_ALERT ? INVERSION_ALERT : INVERSION_UNPACE, now_us);
    }
    if (wish == CLASS_INVERSION_CANCEL && us_since(s->inverted_us, now_us) >= FACTS_CANCEL_US)
        cancel_root(u, root, waiter, now_us);
    return is_new;
}

/* Leases nobody protected waits for any more. */
static void forgive(struct upstream *u, uint64_t now_us)
{
    struct pool_server *s = u->leased, *first = s;

    if (s == NULL)
        return;
    do {
        if (s->inverted_us != 0 && s->inverted_seen_us != now_us) {
            s->inverted_us = 0;
            atomic_store_explicit(&s->unpaced, false, memory_order_relaxed);
        }
        s = s->next;
    } while (s != first);
}

/* Notes who waits; the protected ones are the origins. */
static void look_at_waiters(struct upstream *u, struct graph *g, uint64_t now_us)
{
    for (uint32_t i = 0; i < g->nodes_n; i++) {
        struct pool_server *s = g->nodes[i].server;
        if (s == NULL || g->nodes[i].edges_n == 0)
            continue;
        s->lock_wait_us = now_us;
        if (u->classes[s->class_i].priority > 0)
            continue;
        u->facts.lock_waiters_n++;
        walk_from(g, (uint16_t)i);
    }
}

/* Protected leases that wait for this root, directly or through others. */
static uint32_t waiters_for(const struct upstream *u, struct graph *g, struct node *root)
{
    uint32_t n = 0;
    bool more = true;

    for (uint32_t i = 0; i < g->nodes_n; i++)
        g->nodes[i].reaches = &g->nodes[i] == root;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < g->edges_n; i++) {
            struct node *waiter = node_of(g, g->edges[i].waiter_pid);
            if (waiter->reaches || !node_of(g, g->edges[i].blocker_pid)->reaches)
                continue;
            waiter->reaches = more = true;
            n += waiter->server != NULL && u->classes[waiter->server->class_i].priority == 0;
        }
    }
    return n;
}

/* The root that is no lease of ours and that most protected leases wait for: the one of the last
 * look, or another. */
static void look_at_outsiders(struct upstream *u, struct graph *g)
{
    struct facts *f = &u->facts;
    struct node *found = NULL;
    uint32_t counted_n = 0;

    for (uint32_t i = 0; i < g->nodes_n && facts_locked(u); i++) {
        struct node *root = &g->nodes[i];
        if (root->origin_i == NOBODY || root->edges_n > 0 || root->server != NULL)
            continue;
        if (counted_n++ >= OUTSIDERS_MAX && root->pid != f->outsider_pid)
            continue;
        if (2 * waiters_for(u, g, root) < protected_n(u))
            continue;
        if (found == NULL || root->pid == f->outsider_pid)
            found = root;
    }
    if (found == NULL)
        f->outsider_looks_n = 0;
    else if (f->outsider_looks_n > 0 && found->pid == f->outsider_pid)
        f->outsider_looks_n++;
    else
        f->outsider_looks_n = 1;
    if (found != NULL)
        f->outsider_pid = found->pid;
}

static uint32_t judge(struct upstream *u, struct graph *g, uint64_t now_us)
{
    uint32_t new_n = 0, inverted_n = 0;

    u->facts.lock_waiters_n = 0;
    find_leases(u, g);
    look_at_waiters(u, g, now_us);
    look_at_outsiders(u, g);
    for (uint32_t i = 0; i < g->nodes_n; i++) {
        const struct node *root = &g->nodes[i];
        if (root->origin_i == NOBODY || root->edges_n > 0 || root->server == NULL ||
            u->classes[root->server->class_i].priority == 0)
            continue;
        if (root->server->inverted_us < root->server->leased_us)
            root->server->inverted_us = 0; /* of a former lease */
        inverted_n++;
        new_n += act_on_root(u, root, &g->nodes[root->origin_i], now_us);
    }
    if (inverted_n > 0 || u->facts.inverted_n > 0)
        forgive(u, now_us);
    u->facts.inverted_n = inverted_n;
    return new_n;
}

uint32_t upstream_tell_blocks(struct upstream *u, const struct upstream_block *edges,
                              uint32_t edges_n, uint64_t now_us)
{
    struct graph g; /* 90 KiB: the control loop's stack has room, and nobody else calls */

    graph_make(&g, edges, edges_n);
    lock_take(&u->lock);
    uint32_t new_n = judge(u, &g, now_us);
    lock_drop(&u->lock);
    return new_n;
}

bool upstream_inversion(struct upstream *u, uint32_t *cursor, struct upstream_inversion *out)
{
    struct facts *f = &u->facts;

    lock_take(&u->lock);
    uint32_t behind_n = f->inversions_all_n - *cursor;
    if (behind_n > FACTS_INVERSIONS)
        *cursor = f->inversions_all_n - FACTS_INVERSIONS;
    if (behind_n > 0)
        *out = f->inversions[(*cursor)++ % FACTS_INVERSIONS];
    lock_drop(&u->lock);
    return behind_n > 0;
}

const char *upstream_inversion_act_name(enum upstream_inversion_act act)
{
    static const char *const names[INVERSION_ACTS_N] = {
        [INVERSION_ALERT] = "alert",
        [INVERSION_UNPACE] = "unpace",
        [INVERSION_CANCEL] = "cancel",
        [INVERSION_IDLE] = "idle",
    };

    must(act < INVERSION_ACTS_N);
    return names[act];
}

bool facts_locked(const struct upstream *u)
{
    uint32_t waiters_n = u->facts.lock_waiters_n;

    return waiters_n > 0 && 2 * waiters_n >= protected_n(u);
}

bool facts_forgives(struct upstream *u, uint64_t now_us)
{
    struct facts *f = &u->facts;
    bool locked = f->outsider_looks_n >= OUTSIDER_LOOKS_N;

    if (locked && f->outsider_us == 0)
        f->outsider_us = now_us;
    if (f->outsider_us != 0) {
        uint64_t since_us = us_since(f->outsider_us, now_us);
        uint64_t queued_us = since_us + LOOKED_LATE_US;
        if (!locked || since_us < FORGIVEN_US_MAX)
            f->forgiven_us = now_us + (queued_us < FORGIVEN_US_MAX ? queued_us : FORGIVEN_US_MAX);
    }
    if (!locked)
        f->outsider_us = 0;
    if (now_us >= f->forgiven_us)
        return false;
    estimator_intervene(&u->estimator, now_us, 0);
    return true;
}

/* ---- the probe ---------------------------------------------------------------------------------
 */

void upstream_probe_view(struct upstream *u, struct upstream_probe_view *out)
{
    const struct pool *p;

    *out = (struct upstream_probe_view){.wanted = false};
    lock_take(&u->lock);
    out->wanted = u->connecting_n > 0; /* for one who logs in and is not a client yet */
    for (uint32_t i = 0; i < u->class_n; i++)
        out->wanted |= u->tiers[i].clients_n > 0 || u->queues[i].waiting_n > 0;
    for (p = out->wanted ? u->pools : NULL; p != NULL && !out->runs; p = p->next)
        out->runs = p->run == POOL_RUNS;
    out->suspicious = u->breaker.state != BREAKER_CLOSED || u->breaker.pressure.p >= 1;
    out->locked = u->facts.lock_waiters_n > 0;
    out->piled_up = u->facts.lock_waiters_n >= PILED_UP_N && facts_locked(u);
    out->login_wanted = u->facts.login_asked;
    out->stalled = u->facts.stalled;
    out->protected_n = u->facts.protected_n;
    lock_drop(&u->lock);
}

void upstream_tell_prober(struct upstream *u, bool able)
{
    lock_take(&u->lock);
    u->facts.prober = able;
    if (!able && u->facts.login_asked) {
        u->facts.login_asked = false;
        u->probe_wanted = true; /* a pool's turn */
    }
    lock_drop(&u->lock);
}

void upstream_probe_done(struct upstream *u, bool alive, uint64_t now_us)
{
    lock_take(&u->lock);
    if (u->facts.login_asked) {
        u->facts.login_asked = false;
        error_breaker_probe_done(&u->error_breaker, alive, now_us);
    }
    lock_drop(&u->lock);
}

void upstream_tell_unreachable(struct upstream *u, uint64_t now_us)
{
    lock_take(&u->lock);
    error_breaker_report(&u->error_breaker, ERROR_BREAKER_CONNECT_REFUSED, u->server_n, now_us);
    lock_drop(&u->lock);
}

void upstream_tell_hanging(struct upstream *u, uint64_t since_us, bool accepted)
{
    lock_take(&u->lock);
    u->facts.hanging_us = since_us;
    u->facts.accepted = since_us != 0 && accepted;
    lock_drop(&u->lock);
}

void upstream_tell_sample(struct upstream *u, uint64_t fingerprint, uint64_t dispatched_us,
                          uint64_t service_us)
{
    lock_take(&u->lock);
    estimator_observe(&u->estimator, fingerprint, dispatched_us, service_us);
    lock_drop(&u->lock);
}

void upstream_facts_stats(struct upstream *u, struct facts_stats *out)
{
    const struct facts *f = &u->facts;

    lock_take(&u->lock);
    *out = (struct facts_stats){.told = f->told,
                                .places_n = rights_places(u),
                                .shared_n = rights_shared(u),
                                .stalled = f->stalled,
                                .stalls_n = f->stalls_n,
                                .lock_waiters_n = f->lock_waiters_n,
                                .inverted_n = f->inverted_n};
    memcpy(out->inversions_n, f->inversions_n, sizeof(out->inversions_n));
    lock_drop(&u->lock);
}

/* ---- stalled -----------------------------------------------------------------------------------
 */

static void stall_ends(struct upstream *u, uint64_t now_us)
{
    u->facts.stalled = false;
    /* What was on its way during the stall took long for no fault of anybody's. */
    estimator_intervene(&u->estimator, now_us, 0);
    estimator_settle(&u->estimator, now_us);
    rights_upstream_all(u);
}

void facts_tick(struct upstream *u, uint32_t running_n, uint64_t byte_us, uint64_t now_us)
{
    struct facts *f = &u->facts;

    must(lock_mine(&u->lock));
    if (byte_us > f->byte_us)
        f->byte_us = byte_us;
    if (u->error_breaker.alive_us > f->byte_us)
        f->byte_us = u->error_breaker.alive_us;
    uint64_t hangs_us = f->hanging_us != 0 ? us_since(f->hanging_us, now_us) : 0;
    uint64_t silent_us = us_since(f->byte_us, now_us);
    /* Logins are in flight, too. */
    bool asked = running_n + u->connecting_n >= STALLED_RUNNING_N;
    f->frozen = f->stalled || (asked && hangs_us >= FROZEN_US && silent_us >= FROZEN_US);
    if (f->stalled) {
        if (f->byte_us > f->stalled_us || f->hanging_us == 0 || !u->serving)
            stall_ends(u, now_us);
    } else if (f->frozen && f->accepted && u->serving && hangs_us >= STALLED_US &&
               silent_us >= STALLED_US) {
        f->stalled = true;
        f->stalled_us = now_us;
        f->stalls_n++;
        rights_upstream_all(u);
    }
}
