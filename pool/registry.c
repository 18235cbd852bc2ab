/* Birth and death of upstreams, pools, lanes and named caps. See registry.h. All allocation of this
 * folder is here and in address.c, and none of it under an upstream's lock. */
#include "pool/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "pool/address.h"
#include "pool/places.h"
#include "pool/rights.h"
#include "pool/state.h"

/* The places of a database or a user over all upstreams. */
struct named_cap {
    struct cap cap;
    uint32_t refs_n;
    UT_hash_handle hh;
    char name[];
};

struct pool_registry {
    struct registry_opts opts; /* read-only */
    pthread_mutex_t mutex;     /* guards all below */
    struct class_table classes;
    struct upstream *upstreams;
    struct pool *pools;
    struct named_cap *databases, *users;
};

static bool no_memory(struct err *err)
{
    return err_set(err, "53200", "out of memory");
}

void registry_opts_defaults(struct registry_opts *opts)
{
    *opts = (struct registry_opts){.worker_n = 1, .pools_max = 20000, .upstreams_max = 1000};
}

struct pool_registry *registry_new(const struct registry_opts *opts,
                                   const struct class_table *classes, struct err *err)
{
    if (opts->worker_n == 0 || opts->worker_n > WORKERS_MAX ||
        opts->worker_first_i >= opts->worker_n) {
        (void)err_set(err, "F0000", "%u workers, the first %u", opts->worker_n,
                      opts->worker_first_i);
        return NULL;
    }
    struct pool_registry *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        (void)no_memory(err);
        return NULL;
    }
    r->opts = *opts;
    r->classes = *classes;
    must(pthread_mutex_init(&r->mutex, NULL) == 0);
    return r;
}

static void registry_lock(struct pool_registry *r)
{
    must(pthread_mutex_lock(&r->mutex) == 0);
}

static void registry_unlock(struct pool_registry *r)
{
    must(pthread_mutex_unlock(&r->mutex) == 0);
}

/* ---- upstreams ----------------------------------------------------------------------------- */

static enum breaker_mode mode_of(enum class_breaker breaker)
{
    switch (breaker) {
    case CLASS_BREAKER_OFF:
        return BREAKER_OFF;
    case CLASS_BREAKER_OBSERVE:
        return BREAKER_OBSERVE;
    case CLASS_BREAKER_ENFORCE:
        return BREAKER_ENFORCE;
    }
    must(!"a mode of enum class_breaker");
    return BREAKER_OFF;
}

/* Sheddable classes, lowest first; classes of one priority in the order of their table. */
static uint32_t order_classes(const struct upstream *u, uint32_t *order)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < u->class_n; i++) {
        if (u->classes[i].priority == 0)
            continue;
        uint32_t at = n++;
        for (; at > 0 && u->classes[order[at - 1]].priority < u->classes[i].priority; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    return n;
}

/* One estimator serves all classes: the strictest of those that may be shed says when it hurts,
 * and the strictest promise to the protected ones counts. */
static void set_estimator(struct upstream *u)
{
    struct estimator_opts opts;
    enum class_protect protect = CLASS_PROTECT_LENIENT;
    uint64_t slo_us = 0;
    bool any = false;

    for (uint32_t i = 0; i < u->class_n; i++) {
        const struct class_opts *o = &u->classes[i];
        if (o->retired)
            continue;
        if (o->priority > 0 && o->breaker != CLASS_BREAKER_OFF) {
            any = true;
            protect = o->protect < protect ? o->protect : protect;
        } else if (o->priority == 0 && o->slo_p99_us > 0 &&
                   (slo_us == 0 || o->slo_p99_us < slo_us)) {
            slo_us = o->slo_p99_us;
        }
    }
    if (!any)
        protect = CLASS_PROTECT_BALANCED;
    estimator_opts_defaults(&opts);
    estimator_opts_preset(&opts, protect == CLASS_PROTECT_STRICT    ? ESTIMATOR_STRICT
                                 : protect == CLASS_PROTECT_LENIENT ? ESTIMATOR_LENIENT
                                                                    : ESTIMATOR_BALANCED);
    opts.slo_p99_us = slo_us;
    estimator_set_opts(&u->estimator, &opts);
}

static struct breaker_class_opts breaker_class(const struct upstream *u, uint32_t class_i)
{
    const struct class_opts *o = &u->classes[class_i];
    struct breaker_class_opts b = {
        .mode = o->retired ? BREAKER_OFF : mode_of(o->breaker),
        .paced = u->opts.can_pace && (o->on_overload & CLASS_PACE) != 0,
        .cancelled = u->opts.can_cancel && (o->on_overload & CLASS_CANCEL) != 0,
        .trickle_bytes_per_s = o->min_rate,
        .deadline_us = o->queue_deadline_us,
    };

    snprintf(b.name, sizeof(b.name), "%s", o->name);
    return b;
}

/* Classes are new, or other than they were. The breaker keeps what it knows where its classes are
 * the same ones in the same order. */
static void set_classes(struct upstream *u, const struct class_table *classes, uint64_t seed)
{
    struct breaker_class_opts opts[CLASSES_MAX];
    uint32_t order[CLASSES_MAX];

    u->class_n = classes->class_n;
    memcpy(u->classes, classes->at, sizeof(u->classes));
    uint32_t n = order_classes(u, order);
    bool same =
        n == u->breaker.classes_n && memcmp(order, u->breaker_order, n * sizeof(order[0])) == 0;
    for (uint32_t i = 0; i < u->class_n; i++)
        u->tiers[i].breaker_i = -1;
    for (uint32_t i = 0; i < n; i++) {
        opts[i] = breaker_class(u, order[i]);
        u->tiers[order[i]].breaker_i = (int)i;
        u->breaker_order[i] = order[i];
        if (same)
            breaker_set_class(&u->breaker, i, &opts[i]);
    }
    if (!same) {
        struct breaker_opts breaker;
        breaker_opts_defaults(&breaker);
        breaker.instances_n = u->opts.instances_n > 0 ? u->opts.instances_n : 1;
        breaker.clean_us = u->opts.clean_probe_us;
        breaker_init(&u->breaker, &breaker, opts, n, seed);
        for (uint32_t i = 0; i < u->class_n; i++) {
            u->tiers[i].held = u->tiers[i].limited = false;
            brake_lift(&u->tiers[i].brake);
        }
    }
    set_estimator(u);
    rights_rates(u);
    rights_upstream_all(u);
}

static struct upstream *upstream_new(struct pool_registry *r, const char *host, uint16_t port,
                                     const struct upstream_opts *opts)
{
    struct upstream *u = calloc(1, sizeof(*u));
    struct estimator_opts estimator;
    struct error_breaker_opts error_breaker;

    if (u == NULL)
        return NULL;
    /* "host\0port" in one string is the key of the hash. */
    size_t host_n = strlen(host) + 1;
    u->host = malloc(host_n + sizeof(port));
    if (u->host == NULL) {
        free(u);
        return NULL;
    }
    memcpy(u->host, host, host_n);
    memcpy(u->host + host_n, &port, sizeof(port));
    u->port = port;
    u->worker_n = (uint16_t)r->opts.worker_n;
    u->worker_first_i = (uint16_t)r->opts.worker_first_i;
    lock_init(&u->addresses_lock);
    lock_init(&u->lock);
    lock_take(&u->lock);
    u->opts = *opts;
    u->cap.max_n = opts->budget_n;
    u->scope = (struct scope){.cap = &u->cap, .kind = SCOPE_UPSTREAM};
    u->passes_sheddable = u->serving = true;
    estimator_opts_defaults(&estimator);
    estimator_init(&u->estimator, &estimator, 0);
    error_breaker_opts_defaults(&error_breaker);
    error_breaker_init(&u->error_breaker, &error_breaker, r->opts.seed ^ port, 0);
    for (uint32_t i = 0; i < CLASSES_MAX; i++) {
        pace_init(&u->tiers[i].pace);
        brake_init(&u->tiers[i].brake);
    }
    set_classes(u, &r->classes, r->opts.seed + port);
    lock_drop(&u->lock);
    HASH_ADD_KEYPTR(hh, r->upstreams, u->host, host_n + sizeof(port), u);
    return u;
}

static void upstream_free(struct upstream *u)
{
    must(u->pools == NULL && u->server_n == 0 && u->waiting_n == 0);
    address_free_all(u);
    lock_free(&u->lock);
    lock_free(&u->addresses_lock);
    free(u->host);
    free(u);
}

struct upstream *upstream_get(struct pool_registry *r, const char *host, uint16_t port,
                              const struct upstream_opts *opts, struct err *err)
{
    size_t host_n = strlen(host) + 1;
    char key[512];
    struct upstream *u = NULL;

    must(opts->connecting_n > 0);
    if (host_n + sizeof(port) > sizeof(key)) {
        (void)err_set(err, "F0000", "a host name of %zu bytes is too long", host_n - 1);
        return NULL;
    }
    memcpy(key, host, host_n);
    memcpy(key + host_n, &port, sizeof(port));
    registry_lock(r);
    HASH_FIND(hh, r->upstreams, key, host_n + sizeof(port), u);
    if (u == NULL && HASH_COUNT(r->upstreams) >= r->opts.upstreams_max)
        (void)err_set(err, "53300", "more than %u servers (host and port) are in use",
                      r->opts.upstreams_max);
    else if (u == NULL && (u = upstream_new(r, host, port, opts)) == NULL)
        (void)no_memory(err);
    registry_unlock(r);
    return u;
}

/* ---- scopes -------------------------------------------------------------------------------- */

static struct named_cap *cap_get(struct named_cap **table, const char *name, uint32_t max_n)
{
    size_t n = strlen(name);
    struct named_cap *c = NULL;

    HASH_FIND(hh, *table, name, n, c);
    if (c == NULL) {
        c = calloc(1, sizeof(*c) + n + 1);
        if (c == NULL)
            return NULL;
        memcpy(c->name, name, n + 1);
        HASH_ADD_KEYPTR(hh, *table, c->name, n, c);
    }
    atomic_store_explicit(&c->cap.max_n, max_n, memory_order_relaxed);
    c->refs_n++;
    return c;
}

static void cap_put(struct named_cap **table, struct named_cap *c)
{
    must(c->refs_n > 0);
    if (--c->refs_n > 0)
        return;
    must(cap_used(&c->cap) == 0);
    HASH_DEL(*table, c);
    free(c);
}

/* An upstream's view of a named cap; one reference of the cap is kept by each of its users. */
static struct scope *scope_get(struct scope **table, struct named_cap *cap, enum scope_kind kind)
{
    struct scope *scope = NULL;

    HASH_FIND_PTR(*table, &cap, scope);
    if (scope == NULL) {
        scope = calloc(1, sizeof(*scope));
        if (scope == NULL)
            return NULL;
        scope->cap = &cap->cap;
        scope->named = cap;
        scope->kind = kind;
        HASH_ADD_PTR(*table, named, scope);
    }
    scope->refs_n++;
    return scope;
}

static void scope_put(struct scope **table, struct scope *scope)
{
    must(scope->refs_n > 0);
    if (--scope->refs_n > 0)
        return;
    must(scope->blocked_n == 0 && scope->evicting_n == 0 && scope->idle_first == NULL);
    HASH_DEL(*table, scope);
    free(scope);
}

/* ---- pools --------------------------------------------------------------------------------- */

static size_t pool_key_bytes(const struct pool_key *key)
{
    return sizeof(key->upstream) + 1 + strlen(key->database) + 1 + strlen(key->user) + 1;
}

static void pool_key_write(const struct pool_key *key, char *to)
{
    size_t database_n = strlen(key->database) + 1, user_n = strlen(key->user) + 1;

    memcpy(to, &key->upstream, sizeof(key->upstream));
    to += sizeof(key->upstream);
    *to++ = (char)key->replication;
    memcpy(to, key->database, database_n);
    memcpy(to + database_n, key->user, user_n);
}

static struct lane *lane_new(struct pool *p, uint8_t class_i)
{
    struct lane *l = calloc(1, sizeof(*l));

    if (l != NULL)
        *l = (struct lane){.pool = p, .class_i = class_i, .served = true};
    return l;
}

static void pool_free(struct pool_registry *r, struct pool *p)
{
    struct upstream *u = p->upstream;

    for (uint32_t i = 0; i < CLASSES_MAX; i++)
        free(p->lanes[i]);
    if (p->scopes[SCOPE_DATABASE] != NULL) {
        struct named_cap *c = p->scopes[SCOPE_DATABASE]->named;
        scope_put(&u->databases, p->scopes[SCOPE_DATABASE]);
        cap_put(&r->databases, c);
    }
    if (p->scopes[SCOPE_USER] != NULL) {
        struct named_cap *c = p->scopes[SCOPE_USER]->named;
        scope_put(&u->users, p->scopes[SCOPE_USER]);
        cap_put(&r->users, c);
    }
    free(p->key);
    free(p->database);
    free(p->user);
    free(p);
}

static bool pool_join_scopes(struct pool_registry *r, struct pool *p)
{
    struct upstream *u = p->upstream;
    struct named_cap *c = cap_get(&r->databases, p->database, p->opts.max_db_n);

    p->scopes[SCOPE_UPSTREAM] = &u->scope;
    if (c == NULL)
        return false;
    p->scopes[SCOPE_DATABASE] = scope_get(&u->databases, c, SCOPE_DATABASE);
    if (p->scopes[SCOPE_DATABASE] == NULL) {
        cap_put(&r->databases, c);
        return false;
    }
    c = cap_get(&r->users, p->user, p->opts.max_user_n);
    if (c == NULL)
        return false;
    p->scopes[SCOPE_USER] = scope_get(&u->users, c, SCOPE_USER);
    if (p->scopes[SCOPE_USER] == NULL) {
        cap_put(&r->users, c);
        return false;
    }
    for (uint32_t k = 0; k < POOL_SCOPES; k++)
        p->caps[k] = p->scopes[k]->cap;
    return true;
}

static struct pool *pool_new(struct pool_registry *r, const struct pool_key *key,
                             const struct pool_opts *opts)
{
    struct upstream *u = key->upstream;
    struct pool *p = calloc(1, sizeof(*p) + r->opts.worker_n * sizeof(p->idle[0]));

    if (p == NULL)
        return NULL;
    p->upstream = u;
    p->registry = r;
    p->replication = key->replication;
    p->worker_n = r->opts.worker_n;
    p->opts = *opts;
    p->database = strdup(key->database);
    p->user = strdup(key->user);
    p->key = malloc(pool_key_bytes(key));
    bool made = p->database != NULL && p->user != NULL && p->key != NULL && pool_join_scopes(r, p);
    for (uint32_t i = 0; i < r->classes.class_n && made; i++) {
        p->lanes[i] = lane_new(p, (uint8_t)i);
        made = p->lanes[i] != NULL;
    }
    if (!made) {
        pool_free(r, p);
        return NULL;
    }
    pool_key_write(key, p->key);
    lock_take(&u->lock);
    rights_pool_all(p);
    DL_APPEND(u->pools, p);
    u->pools_n++;
    lock_drop(&u->lock);
    HASH_ADD_KEYPTR(hh, r->pools, p->key, pool_key_bytes(key), p);
    return p;
}

struct pool *pool_get(struct pool_registry *r, const struct pool_key *key,
                      const struct pool_opts *opts, struct err *err)
{
    char buf[512];
    size_t n = pool_key_bytes(key);
    struct pool *p = NULL;

    if (n > sizeof(buf)) {
        (void)err_set(err, "08P01", "names of database and user are too long");
        return NULL;
    }
    pool_key_write(key, buf);
    registry_lock(r);
    HASH_FIND(hh, r->pools, buf, n, p);
    if (p == NULL && HASH_COUNT(r->pools) >= r->opts.pools_max)
        (void)err_set(err, "53300", "more than %u pools are in use", r->opts.pools_max);
    else if (p == NULL && (p = pool_new(r, key, opts)) == NULL)
        (void)no_memory(err);
    if (p != NULL)
        pool_hold(p);
    registry_unlock(r);
    return p;
}

void pool_hold(struct pool *p)
{
    atomic_fetch_add_explicit(&p->holds_n, 1, memory_order_relaxed);
}

void pool_unhold(struct pool **p)
{
    uint32_t before = atomic_fetch_sub_explicit(&(*p)->holds_n, 1, memory_order_acq_rel);

    must(before > 0);
    *p = NULL;
}

/* ---- reload, walks, reaping ---------------------------------------------------------------- */

/* Lanes for classes the pools do not know yet. What was made before memory ran out stays: it is
 * found there the next time. */
static bool make_lanes(struct pool_registry *r, uint32_t class_n)
{
    for (struct pool *p = r->pools; p != NULL; p = p->hh.next) {
        for (uint32_t i = 0; i < class_n; i++) {
            if (p->lanes[i] != NULL)
                continue;
            struct lane *l = lane_new(p, (uint8_t)i);
            if (l == NULL)
                return false;
            lock_take(&p->upstream->lock);
            p->lanes[i] = l;
            lock_drop(&p->upstream->lock);
        }
    }
    return true;
}

bool registry_set_classes(struct pool_registry *r, const struct class_table *classes,
                          struct err *err)
{
    registry_lock(r);
    must(classes->class_n >= r->classes.class_n);
    bool made = make_lanes(r, classes->class_n);
    if (made) {
        r->classes = *classes;
        for (struct upstream *u = r->upstreams; u != NULL; u = u->hh.next) {
            lock_take(&u->lock);
            set_classes(u, classes, r->opts.seed + u->port);
            struct pool *p;
            DL_FOREACH(u->pools, p)
            {
                rights_pool_all(p);
                places_wake_pool(p); /* served by the next tick */
            }
            lock_drop(&u->lock);
        }
    }
    registry_unlock(r);
    return made || no_memory(err);
}

void registry_each_upstream(struct pool_registry *r, registry_upstream_fn fn, void *arg)
{
    registry_lock(r);
    for (struct upstream *u = r->upstreams; u != NULL && fn(u, arg); u = u->hh.next)
        continue;
    registry_unlock(r);
}

void registry_each_pool(struct pool_registry *r, registry_pool_fn fn, void *arg)
{
    registry_lock(r);
    for (struct pool *p = r->pools; p != NULL && fn(p, arg); p = p->hh.next)
        continue;
    registry_unlock(r);
}

static void forget_pool(struct upstream *u, struct pool *p)
{
    if (u->sweep_at == p)
        u->sweep_at = p->next;
    if (u->opening_last == p)
        u->opening_last = NULL;
    if (p->choring)
        DL_DELETE2(u->choring, p, chore_prev, chore_next);
    if (p->down)
        DL_DELETE2(u->down, p, down_prev, down_next);
    if (p->spare)
        DL_DELETE2(u->spare, p, spare_prev, spare_next);
    for (uint32_t i = 0; i < u->class_n; i++)
        u->tiers[i].reference_n -= p->lanes[i]->reference_n;
    DL_DELETE(u->pools, p);
    u->pools_n--;
}

/* Nobody can come to hold it meanwhile: that takes the registry's mutex, which is ours. */
static bool take_pool(struct pool *p, uint64_t idle_before_us)
{
    struct upstream *u = p->upstream;

    if (atomic_load_explicit(&p->holds_n, memory_order_acquire) > 0)
        return false;
    lock_take(&u->lock);
    bool unused = p->server_n == 0 && p->waiting_n == 0 && p->clients_all_n == 0 &&
                  !p->opts.min_always && p->used_us < idle_before_us;
    if (unused)
        forget_pool(u, p);
    lock_drop(&u->lock);
    return unused;
}

uint32_t registry_reap(struct pool_registry *r, uint64_t idle_before_us, registry_gone_fn gone,
                       void *arg)
{
    uint32_t n = 0;
    struct pool *p, *next;

    registry_lock(r);
    HASH_ITER(hh, r->pools, p, next)
    {
        if (!take_pool(p, idle_before_us))
            continue;
        if (gone != NULL)
            gone(p, arg);
        HASH_DEL(r->pools, p);
        pool_free(r, p);
        n++;
    }
    registry_unlock(r);
    return n;
}

uint32_t registry_pools_n(struct pool_registry *r)
{
    registry_lock(r);
    uint32_t n = HASH_COUNT(r->pools);
    registry_unlock(r);
    return n;
}

void registry_free(struct pool_registry **registry)
{
    struct pool_registry *r = *registry;
    struct pool *p, *next_pool;
    struct upstream *u, *next_upstream;

    if (r == NULL)
        return;
    *registry = NULL;
    HASH_ITER(hh, r->pools, p, next_pool)
    {
        must(p->server_n == 0 && p->waiting_n == 0);
        lock_take(&p->upstream->lock);
        forget_pool(p->upstream, p);
        lock_drop(&p->upstream->lock);
        HASH_DEL(r->pools, p);
        pool_free(r, p);
    }
    HASH_ITER(hh, r->upstreams, u, next_upstream)
    {
        HASH_DEL(r->upstreams, u);
        upstream_free(u);
    }
    must(pthread_mutex_destroy(&r->mutex) == 0);
    free(r);
}
