/* The pool in the hands of the operator, and of chance: PAUSE, KILL, RECONNECT, reload, races,
 * addresses, reaping. */
#include "pool/state.h"
#include "tests/pool_world.h"

/* ---- the operator's hand
 * --------------------------------------------------------------------------- */

static void test_pause_and_resume(void **state)
{
    (void)state;
    (void)ask(t.pool, 0, INTERACTIVE);
    (void)ask(t.pool, 1, INTERACTIVE);
    release(1);
    pool_set_run(t.pool, POOL_PAUSED, t.now_us, &t.actions);
    settle();
    assert_int_equal(stats_of(t.pool).idle_n, 0);
    assert_false(pool_drained(t.pool));
    (void)ask(t.pool, 2, INTERACTIVE);
    assert_true(t.waiters[2].queued);
    release(0);
    assert_true(pool_drained(t.pool));
    assert_int_equal(stats_of(t.pool).idle_n, 0);
    pool_set_run(t.pool, POOL_RUNS, t.now_us, &t.actions);
    settle();
    assert_true(has(2));
    pool_set_run(t.pool, POOL_DISABLED, t.now_us, &t.actions);
    assert_int_equal(ask(t.pool, 3, INTERACTIVE), POOL_REFUSED);
    assert_int_equal(t.waiters[3].refusal, POOL_REFUSED_SHUTDOWN);
}

static void test_kill_refuses_everybody(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 104; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    forget();
    pool_set_run(t.pool, POOL_KILLED, t.now_us, &t.actions);
    assert_int_equal(t.actions.n, POOL_ACTIONS_MAX); /* and so on */
    assert_true(t.actions.more);
    settle();
    assert_int_equal(t.refusals_n, 100);
    assert_int_equal(stats_of(t.pool).waiting_n, 0);
}

static void test_reconnect(void **state)
{
    (void)state;
    (void)ask(t.pool, 0, INTERACTIVE);
    (void)ask(t.pool, 1, INTERACTIVE);
    struct pool_server *leased = t.waiters[0].server, *idle = t.waiters[1].server;
    assert_int_equal(ask_at(t.pool, 2, INTERACTIVE, 1), POOL_QUEUED);
    struct pool_actions open = t.actions; /* a login is under way */
    assert_int_equal(open.at[0].act, POOL_OPEN);
    assert_true(pool_cancel(&t.waiters[2], t.now_us, &t.actions));
    release(1);
    forget();
    pool_mark_dirty(t.pool, t.now_us, &t.actions);
    settle();
    assert_int_equal(t.closes_n, 1);
    assert_ptr_equal(t.closed, idle);
    assert_int_equal(ask_at(t.pool, 3, INTERACTIVE, 1), POOL_QUEUED);
    forget();
    t.actions = open;
    settle(); /* it was begun before: closed, and another one opened for him */
    assert_int_equal(t.closes_n, 1);
    assert_true(has(3));
    assert_ptr_not_equal(t.waiters[3].server, t.closed);
    forget();
    release(0);
    assert_ptr_equal(t.closed, leased);
    forget();
    release(3);
    assert_int_equal(t.closes_n, 0);
}

static void test_replication_servers_are_used_once(void **state)
{
    (void)state;
    struct pool_opts opts;
    struct err err;

    pool_opts_defaults(&opts);
    struct pool *p = pool_get(t.registry,
                              &(struct pool_key){.database = "shop",
                                                 .user = "web",
                                                 .upstream = t.upstream,
                                                 .replication = POOL_REPLICATION_PHYSICAL},
                              &opts, &err);
    assert_ptr_not_equal(p, t.pool);
    (void)ask(p, 0, BACKUP);
    forget();
    release(0);
    assert_int_equal(t.closes_n, 1);
}

static void test_reload_brings_classes(void **state)
{
    (void)state;
    struct err err;
    struct class_table next = t.classes;

    (void)ask(t.pool, 0, BULK);
    struct class_opts *c = class_add(&next, "reports", &err);
    c->max = (struct class_share){.n = 1};
    assert_true(class_table_align(&next, &t.classes, &err));
    assert_true(registry_set_classes(t.registry, &next, &err));
    uint8_t reports = (uint8_t)class_find(&next, "reports");
    (void)ask(t.pool, 1, reports);
    (void)ask(t.pool, 2, reports);
    assert_true(has(1) && t.waiters[2].queued);
    release(0);
    release(1);
    assert_true(has(2));
}

/* ---- races and addresses -------------------------------------------------------------------- */

static void test_a_server_dies_in_the_mail(void **state)
{
    (void)state;
    (void)ask(t.pool, 0, INTERACTIVE);
    struct pool_server *s = t.waiters[0].server;
    release(0);
    assert_int_equal(ask_at(t.pool, 1, INTERACTIVE, 2), POOL_QUEUED); /* a letter to loop 1 */
    assert_int_equal(t.actions.n, 1);
    s->died = true;
    assert_false(pool_closed(s, false, t.now_us, &t.actions)); /* keep the shell */
    assert_int_equal(stats_of(t.pool).leased_n, 1);
    assert_true(pool_closed(s, true, t.now_us, &t.actions)); /* the letter has come */
    assert_int_equal(stats_of(t.pool).leased_n, 0);
    /* The same for an order to close. */
    (void)ask(t.pool, 2, INTERACTIVE);
    s = t.waiters[2].server;
    release(2);
    pool_mark_dirty(t.pool, t.now_us, &t.actions);
    assert_int_equal(t.actions.at[0].act, POOL_CLOSE);
    s->died = true;
    assert_false(pool_closed(s, false, t.now_us, &t.actions));
    assert_true(pool_closed(s, true, t.now_us, &t.actions));
    settle();
    struct pool_stats st = stats_of(t.pool);
    assert_int_equal(st.leased_n + st.idle_n + st.closing_n + st.opening_n, 0);
    struct upstream_stats u;
    show_upstream(t.upstream, &u);
    assert_int_equal(u.died_n, 1); /* the second was to end anyway */
}

static void test_a_reload_reaches_the_breaker(void **state)
{
    (void)state;
    struct upstream_opts opts;

    upstream_opts_defaults(&opts);
    opts.instances_n = 3;
    opts.clean_probe_us = 300ull * US_PER_S;
    upstream_set_opts(t.upstream, &opts);
    assert_int_equal(t.upstream->breaker.opts.instances_n, 3);
    assert_int_equal(t.upstream->breaker.opts.clean_us, 300ull * US_PER_S);
}

static void test_addresses_have_a_cap(void **state)
{
    (void)state;
    uint8_t here[4] = {10, 0, 0, 1}, there[4] = {10, 0, 0, 2};
    struct upstream_opts opts;

    upstream_opts_defaults(&opts);
    opts.address_max_n = 2;
    upstream_set_opts(t.upstream, &opts);
    struct pool_addr *a = pool_addr_get(t.upstream, here, 4);
    struct pool_addr *b = pool_addr_get(t.upstream, there, 4);
    assert_ptr_equal(pool_addr_get(t.upstream, here, 4), a);
    for (uint32_t i = 0; i < 4; i++) {
        t.waiters[i].addr = a;
        (void)ask(t.pool, i, INTERACTIVE);
    }
    assert_true(has(1) && !has(2));
    t.waiters[5].addr = b;
    (void)ask(t.pool, 5, INTERACTIVE);
    assert_true(has(5)); /* nobody waits behind the greedy */
    release(0);
    assert_true(has(2) && !has(3));
    /* The address outlives its sessions while it has leases. */
    struct pool_addr *again = a;
    pool_addr_put(t.upstream, &again);
    assert_true(pool_cancel(&t.waiters[3], t.now_us, &t.actions));
    again = a;
    pool_addr_put(t.upstream, &again);
    assert_null(again);
    release(1);
    release(2);
    pass(US_PER_S); /* swept */
    release(5);
    pool_addr_put(t.upstream, &b);
}

static void count_gone(struct pool *p, void *arg)
{
    assert_non_null(pool_owner(p));
    ++*(int *)arg;
}

static void test_unused_pools_are_reaped(void **state)
{
    (void)state;
    int gone = 0;
    struct pool *p = make_pool("old", "web", 4), *held = p;

    assert_ptr_equal(pool_set_owner(p, &gone), &gone);
    assert_ptr_equal(pool_set_owner(p, &t), &gone); /* the first one stays */
    (void)ask(p, 0, INTERACTIVE);
    assert_int_equal(registry_pools_n(t.registry), 2);
    assert_int_equal(registry_reap(t.registry, UINT64_MAX, count_gone, &gone), 0);
    pool_unhold(&held);
    assert_int_equal(registry_reap(t.registry, UINT64_MAX, count_gone, &gone), 0); /* a server */
    assert_true(pool_closed(t.waiters[0].server, true, t.now_us, &t.actions));
    assert_int_equal(registry_reap(t.registry, t.now_us, count_gone, &gone), 0); /* too fresh */
    assert_int_equal(registry_reap(t.registry, t.now_us + 1, count_gone, &gone), 1);
    assert_int_equal(gone, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_pause_and_resume),
        SCENE(test_kill_refuses_everybody),
        SCENE(test_reconnect),
        SCENE(test_replication_servers_are_used_once),
        SCENE(test_reload_brings_classes),
        SCENE(test_a_server_dies_in_the_mail),
        SCENE(test_a_reload_reaches_the_breaker),
        SCENE(test_addresses_have_a_cap),
        SCENE(test_unused_pools_are_reaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
