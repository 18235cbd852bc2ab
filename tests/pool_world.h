/* One upstream, some pools, loops that carry out what the pool asks for: what the tests of the pool
 * stand on. Servers come when settle() opens them; `reachable` says what logins end in. */
#ifndef TESTS_POOL_WORLD_H
#define TESTS_POOL_WORLD_H

#include "pool/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INTERACTIVE, BULK, BACKUP, SERVERS = 256, WAITERS = 256, LOOPS = 4 };

static struct {
    struct class_table classes;
    struct pool_registry *registry;
    struct upstream *upstream;
    struct pool *pool;
    uint64_t now_us;
    struct pool_server servers[SERVERS];
    uint32_t servers_n;
    struct pool_waiter waiters[WAITERS];
    struct pool_actions actions;
    bool reachable;
    enum pool_failure failure;
    uint32_t opens_n, closes_n, grants_n, refusals_n; /* since forget() */
    struct pool_server *closed;                       /* the last one */
} t;

static inline struct pool *make_pool(const char *database, const char *user, uint32_t size_n)
{
    struct pool_opts opts;
    struct err err;

    pool_opts_defaults(&opts);
    opts.size_n = size_n;
    struct pool *p = pool_get(
        t.registry, &(struct pool_key){.database = database, .user = user, .upstream = t.upstream},
        &opts, &err);
    assert_non_null(p);
    return p;
}

static inline int setup(void **state)
{
    struct registry_opts opts;
    struct upstream_opts upstream;
    struct err err;

    (void)state;
    memset(&t, 0, sizeof(t));
    t.now_us = 1000ull * US_PER_S;
    t.reachable = true;
    t.failure = POOL_FAILED_CONNECT;
    class_table_init(&t.classes);
    registry_opts_defaults(&opts);
    opts.worker_n = LOOPS;
    opts.worker_first_i = 1;
    t.registry = registry_new(&opts, &t.classes, &err);
    upstream_opts_defaults(&upstream);
    t.upstream = upstream_get(t.registry, "db", 5432, &upstream, &err);
    t.pool = make_pool("shop", "web", 4);
    pool_tick(t.upstream, t.now_us, &t.actions);
    return 0;
}

static inline void forget(void)
{
    t.opens_n = t.closes_n = t.grants_n = t.refusals_n = 0;
    t.closed = NULL;
}

static inline void carry_out(const struct pool_action *a);

/* Carries out what the last call asked for, and what follows from that. */
static inline void settle(void)
{
    do {
        struct pool_actions now = t.actions;
        t.actions.n = 0;
        t.actions.more = false;
        for (uint32_t i = 0; i < now.n; i++)
            carry_out(&now.at[i]);
        if (now.more) {
            pool_dispatch(t.upstream, t.now_us, &t.actions);
            t.actions.more |= t.actions.n > 0;
        }
    } while (t.actions.n > 0 || t.actions.more);
}

static inline void carry_out(const struct pool_action *a)
{
    switch (a->act) {
    case POOL_GRANT:
        a->server->worker = a->waiter->worker;
        t.grants_n++;
        return;
    case POOL_REFUSE:
        t.refusals_n++;
        return;
    case POOL_OPEN:
        assert_true(a->worker > 0); /* never the control loop */
        t.opens_n++;
        if (t.reachable) {
            assert_true(t.servers_n < SERVERS);
            pool_opened(a->pool, &t.servers[t.servers_n++], a->worker, t.now_us, &t.actions);
        } else {
            struct err err;
            (void)err_set(&err, "28P01", "password authentication failed");
            pool_open_failed(a->pool, t.failure, &err, t.now_us, &t.actions);
        }
        settle();
        return;
    case POOL_CLOSE:
        t.closes_n++;
        t.closed = a->server;
        assert_true(pool_closed(a->server, true, t.now_us, &t.actions));
        settle();
        return;
    }
}

static inline enum pool_verdict ask_at(struct pool *p, uint32_t i, uint8_t class_i, uint16_t worker)
{
    struct pool_waiter *w = &t.waiters[i];
    uint64_t deadline_us = w->deadline_us;
    struct pool_addr *addr = w->addr;

    memset(w, 0, sizeof(*w));
    w->worker = worker;
    w->class_i = class_i;
    w->key_i = i;
    w->deadline_us = deadline_us;
    w->addr = addr;
    return pool_acquire(p, w, t.now_us, &t.actions);
}

static inline enum pool_verdict ask(struct pool *p, uint32_t i, uint8_t class_i)
{
    enum pool_verdict verdict = ask_at(p, i, class_i, 1);

    settle();
    return verdict;
}

static inline bool has(uint32_t i)
{
    return t.waiters[i].server != NULL && !t.waiters[i].queued;
}

static inline void release(uint32_t i)
{
    struct pool_server *s = t.waiters[i].server;

    assert_non_null(s);
    t.waiters[i].server = NULL;
    pool_release(s, NULL, t.now_us, &t.actions);
    settle();
}

/* Lets time pass, with its ticks and sweeps. */
static inline void pass(uint64_t us)
{
    for (uint64_t end_us = t.now_us + us; t.now_us < end_us;) {
        t.now_us += 100 * US_PER_MS;
        pool_tick(t.upstream, t.now_us, &t.actions);
        settle();
        if (t.now_us / (100 * US_PER_MS) % 3 == 0) {
            pool_sweep(t.upstream, t.now_us, &t.actions);
            settle();
        }
    }
}

static inline struct pool_stats stats_of(struct pool *p)
{
    struct pool_stats s;

    show_pool(p, t.now_us, &s);
    return s;
}

static inline void set_opts(struct pool *p, const struct pool_opts *opts)
{
    pool_set_opts(p, opts, t.now_us, &t.actions);
    settle();
}

/* Whatever a test did: all comes back, and nothing is left. */
static inline bool clear_pool(struct pool *p, void *arg)
{
    (void)arg;
    pool_set_run(p, POOL_KILLED, t.now_us, &t.actions);
    settle();
    return true;
}

static inline int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WAITERS; i++) {
        if (t.waiters[i].queued && pool_cancel(&t.waiters[i], t.now_us, &t.actions))
            settle();
    }
    for (uint32_t i = 0; i < t.servers_n; i++) {
        if (t.servers[i].state == POOL_SERVER_LEASED &&
            pool_closed(&t.servers[i], true, t.now_us, &t.actions))
            settle();
    }
    registry_each_pool(t.registry, clear_pool, NULL);
    struct upstream_stats u;
    show_upstream(t.upstream, &u);
    if (u.servers_n > 0 || u.waiting_n > 0)
        return -1;
    registry_free(&t.registry);
    return 0;
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
