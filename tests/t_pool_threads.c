/* Loops on threads of their own over one upstream: leases, letters, deaths, ticks, all at once. The
 * order of things is the scheduler's; what must hold holds in any order. Made for the thread
 * sanitizer, and quick enough to run without it.
 */
#include "pool/show.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LOOPS = 3, CLIENTS = 12, LEASES = 4000, LETTERS = 1024, SIZE = 5, CONTROL = 0 };

struct test_server {
    struct pool_server s;
    _Atomic int holders;
    bool dead; /* its loop's own */
};

struct test_client {
    struct pool_waiter w;
    struct test_server *server;
    bool waits, gone;
    uint32_t leases_n;
};

struct test_letter {
    struct pool_action action;
    bool moved; /* the server has left its loop */
};

/* A loop with its mailbox. */
struct loop {
    uint16_t i;
    pthread_t thread;
    uint64_t random;
    struct test_client clients[CLIENTS];
    uint32_t out_of_turn;
    pthread_mutex_t lock; /* guards all below */
    struct test_letter mail[LETTERS];
    uint32_t mail_n;
};

static struct {
    struct pool_registry *registry;
    struct upstream *upstream;
    struct pool *pools[2];
    struct loop loops[LOOPS];
    _Atomic uint64_t now_us;
    _Atomic uint32_t done_n, servers_n, too_many_n, granted_twice_n;
    _Atomic bool stop;
} t;

static uint64_t now(void)
{
    return atomic_fetch_add(&t.now_us, 3);
}

static uint32_t some(struct loop *l, uint32_t below)
{
    l->random = l->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(l->random >> 33) % below;
}

static void post(uint16_t to, const struct test_letter *letter)
{
    struct loop *l = &t.loops[to];

    assert_int_equal(pthread_mutex_lock(&l->lock), 0);
    if (l->mail_n == LETTERS)
        abort();
    l->mail[l->mail_n++] = *letter;
    assert_int_equal(pthread_mutex_unlock(&l->lock), 0);
}

static void carry_out(struct loop *l, struct pool_actions *actions);

static struct test_server *test_server(struct pool_server *s)
{
    return (struct test_server *)(void *)((char *)s - offsetof(struct test_server, s));
}

static void drop(struct loop *l, struct test_server *s, bool died)
{
    struct pool_actions actions;

    s->s.died = died;
    if (!pool_closed(&s->s, true, now(), &actions))
        abort();
    free(s);
    atomic_fetch_sub(&t.servers_n, 1);
    carry_out(l, &actions);
}

static void release(struct loop *l, struct test_client *c)
{
    struct pool_actions actions;
    struct test_server *s = c->server;
    struct pool_observation obs = {.fingerprint = 1, .dispatched_us = s->s.leased_us};

    c->server = NULL;
    if (atomic_fetch_sub(&s->holders, 1) != 1)
        atomic_fetch_add(&t.granted_twice_n, 1);
    if (some(l, 50) == 0) {
        drop(l, s, true);
        return;
    }
    obs.service_us = 1 + some(l, 1000);
    pool_release(&s->s, &obs, now(), &actions);
    carry_out(l, &actions);
}

static void granted(struct loop *l, struct test_client *c, struct test_server *s)
{
    c->waits = false;
    if (s->dead) {
        c->gone = false;
        drop(l, s, false);
        return;
    }
    if (atomic_fetch_add(&s->holders, 1) != 0)
        atomic_fetch_add(&t.granted_twice_n, 1);
    c->server = s;
    c->leases_n++;
    if (c->gone) {
        c->gone = false;
        release(l, c);
    }
}

static void open_letter(struct loop *l, const struct test_letter *letter)
{
    const struct pool_action *a = &letter->action;
    struct pool_actions actions;
    struct test_client *c = (struct test_client *)(void *)a->waiter; /* its first member */

    switch (a->act) {
    case POOL_GRANT: {
        struct test_server *s = test_server(a->server);
        if (a->waiter->worker == l->i) {
            granted(l, c, s);
            return;
        }
        s->s.worker = a->waiter->worker;
        post(a->waiter->worker, &(struct test_letter){.action = *a, .moved = true});
        return;
    }
    case POOL_REFUSE:
        c->waits = c->gone = false;
        return;
    case POOL_OPEN: {
        struct test_server *s = some(l, 20) == 0 ? NULL : calloc(1, sizeof(*s));
        if (s == NULL) {
            pool_open_failed(a->pool, POOL_FAILED_CONNECT, NULL, now(), &actions);
        } else {
            if (atomic_fetch_add(&t.servers_n, 1) >= 2 * SIZE)
                atomic_fetch_add(&t.too_many_n, 1);
            pool_opened(a->pool, &s->s, l->i, now(), &actions);
        }
        carry_out(l, &actions);
        return;
    }
    case POOL_CLOSE:
        drop(l, test_server(a->server), false);
        return;
    }
}

static void carry_out(struct loop *l, struct pool_actions *actions)
{
    bool more = actions->more;

    for (uint32_t i = 0; i < actions->n; i++) {
        struct test_letter letter = {.action = actions->at[i]};
        if (letter.action.worker == l->i && letter.action.act != POOL_OPEN)
            open_letter(l, &letter);
        else
            post(letter.action.worker, &letter);
    }
    if (!more)
        return;
    struct pool_actions next;
    pool_dispatch(t.upstream, now(), &next);
    carry_out(l, &next);
}

static void read_mail(struct loop *l)
{
    static _Thread_local struct test_letter mail[LETTERS];

    assert_int_equal(pthread_mutex_lock(&l->lock), 0);
    uint32_t n = l->mail_n;
    memcpy(mail, l->mail, n * sizeof(mail[0]));
    l->mail_n = 0;
    assert_int_equal(pthread_mutex_unlock(&l->lock), 0);
    for (uint32_t i = 0; i < n; i++)
        open_letter(l, &mail[i]);
}

static void client_turn(struct loop *l, struct test_client *c)
{
    struct pool_actions actions;

    if (c->server != NULL) {
        if (some(l, 3) == 0)
            release(l, c);
        return;
    }
    if (c->waits) {
        if (some(l, 40) > 0 || c->gone)
            return;
        if (pool_cancel(&c->w, now(), &actions))
            c->waits = false;
        else
            c->gone = true;
        carry_out(l, &actions);
        return;
    }
    memset(&c->w, 0, sizeof(c->w));
    c->w.worker = l->i;
    c->w.class_i = some(l, 4) == 0;
    c->w.key_i = some(l, 100);
    c->waits = true;
    switch (pool_acquire(t.pools[some(l, 2)], &c->w, now(), &actions)) {
    case POOL_GRANTED:
        granted(l, c, test_server(c->w.server));
        break;
    case POOL_REFUSED:
        c->waits = false;
        break;
    case POOL_QUEUED:
        break;
    }
    carry_out(l, &actions);
}

/* All give back what they have, also those behind one that waits for it. */
static bool quiet(struct loop *l)
{
    bool quiet = true;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (l->clients[i].server != NULL)
            release(l, &l->clients[i]);
        quiet &= !l->clients[i].waits;
    }
    return quiet;
}

static void *run_loop(void *arg)
{
    struct loop *l = arg;
    uint32_t leases_n = 0;

    while (leases_n < LEASES) {
        read_mail(l);
        leases_n = 0;
        for (uint32_t i = 0; i < CLIENTS; i++) {
            client_turn(l, &l->clients[i]);
            leases_n += l->clients[i].leases_n;
        }
        if (some(l, 4) == 0)
            sched_yield();
    }
    bool said = false;
    while (!atomic_load(&t.stop)) {
        read_mail(l);
        if (quiet(l) && !said) {
            said = true;
            atomic_fetch_add(&t.done_n, 1);
        }
        sched_yield();
    }
    read_mail(l);
    return NULL;
}

static void *run_control(void *arg)
{
    struct loop *l = arg;
    struct pool_actions actions;

    for (uint32_t round = 0; !atomic_load(&t.stop); round++) {
        atomic_fetch_add(&t.now_us, 1000);
        pool_tick(t.upstream, now(), &actions);
        carry_out(l, &actions);
        if (round % 4 == 0) {
            pool_sweep(t.upstream, now(), &actions);
            carry_out(l, &actions);
        }
        if (round % 64 == 0) {
            pool_mark_dirty(t.pools[0], now(), &actions);
            carry_out(l, &actions);
        }
        struct pool_stats stats;
        struct upstream_stats upstream;
        show_pool(t.pools[round % 2], now(), &stats);
        show_upstream(t.upstream, &upstream);
        read_mail(l);
        sched_yield();
    }
    return NULL;
}

static void build(void)
{
    static struct class_table classes;
    struct registry_opts opts;
    struct upstream_opts upstream;
    struct pool_opts pool;
    struct err err;

    t.now_us = 1000ull * US_PER_S;
    class_table_init(&classes);
    registry_opts_defaults(&opts);
    opts.worker_n = LOOPS;
    opts.worker_first_i = 1;
    t.registry = registry_new(&opts, &classes, &err);
    upstream_opts_defaults(&upstream);
    t.upstream = upstream_get(t.registry, "db", 5432, &upstream, &err);
    pool_opts_defaults(&pool);
    pool.size_n = SIZE;
    for (uint32_t i = 0; i < 2; i++) {
        struct pool_key key = {.database = i == 0 ? "a" : "b", .user = "u", .upstream = t.upstream};
        t.pools[i] = pool_get(t.registry, &key, &pool, &err);
        assert_non_null(t.pools[i]);
    }
    for (uint16_t i = 0; i < LOOPS; i++) {
        t.loops[i].i = i;
        t.loops[i].random = i + 1;
        assert_int_equal(pthread_mutex_init(&t.loops[i].lock, NULL), 0);
    }
}

static void test_loops_share_an_upstream(void **state)
{
    (void)state;
    build();
    for (uint32_t i = 0; i < LOOPS; i++)
        assert_int_equal(pthread_create(&t.loops[i].thread, NULL,
                                        i == CONTROL ? run_control : run_loop, &t.loops[i]),
                         0);
    while (atomic_load(&t.done_n) < LOOPS - 1)
        sched_yield();
    struct pool_actions actions;
    struct loop here = {.i = CONTROL, .random = 99};
    for (uint32_t i = 0; i < 2; i++) {
        pool_set_run(t.pools[i], POOL_KILLED, now(), &actions);
        carry_out(&here, &actions);
    }
    struct upstream_stats s;
    do {
        show_upstream(t.upstream, &s);
        sched_yield();
    } while (s.servers_n > 0 || s.waiting_n > 0);
    atomic_store(&t.stop, true);
    for (uint32_t i = 0; i < LOOPS; i++)
        assert_int_equal(pthread_join(t.loops[i].thread, NULL), 0);
    assert_int_equal(t.granted_twice_n, 0);
    assert_int_equal(t.too_many_n, 0);
    assert_int_equal(t.servers_n, 0);
    registry_free(&t.registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loops_share_an_upstream)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
