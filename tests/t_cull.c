/* Whom a cancel hits: the youngest that neither stream nor have written, a group as one. */
#include "pool/cull.c"

#include "tests/pool_world.h"

enum { CLIENTS = 12 };

static void set_u64(_Atomic uint64_t *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_relaxed);
}

static struct pool_server *server(uint32_t i)
{
    return t.waiters[i].server;
}

/* n clients of bulk with a statement each, the first one the oldest. */
static void run_bulk(uint32_t n)
{
    struct pool *p = make_pool("shop", "etl", 4 * CLIENTS);

    for (uint32_t i = 0; i < n; i++) {
        assert_int_not_equal(ask(p, i, BULK), POOL_REFUSED);
        pass(100 * US_PER_MS);
        assert_true(has(i));
        set_u64(&server(i)->stmt_started_us, t.now_us);
    }
}

static bool is_marked(uint32_t i)
{
    const struct pool_server *s = server(i);
    uint64_t started_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed);
    return started_us != 0 &&
           atomic_load_explicit(&s->cancel_stmt_us, memory_order_relaxed) == started_us;
}

/* Bit i: client i's statement is marked. */
static uint32_t marks(void)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (server(i) != NULL && is_marked(i))
            mask |= BIT(i);
    return mask;
}

static uint32_t cull(uint32_t n)
{
    lock_take(&t.upstream->lock);
    uint32_t marked_n = cull_class(t.upstream, BULK, n, t.now_us);
    lock_drop(&t.upstream->lock);
    return marked_n;
}

static void test_the_youngest_go_first(void **state)
{
    (void)state;
    run_bulk(6);
    assert_int_equal(cull(1), 1);
    assert_int_equal(marks(), BIT(5));
    assert_int_equal(atomic_load(&server(5)->cancel_why), POOL_CULL_OVERLOAD);
    assert_int_equal(cull(2), 2); /* never the same one twice */
    assert_int_equal(marks(), BIT(3) | BIT(4) | BIT(5));
    assert_int_equal(cull(100), 3);
    assert_int_equal(marks(), 0x3f);
    assert_int_equal(cull(100), 0);
}

static void test_a_new_statement_is_another_one(void **state)
{
    (void)state;
    run_bulk(2);
    assert_int_equal(cull(2), 2);
    set_u64(&server(0)->stmt_started_us, t.now_us + 1);
    assert_int_equal(marks(), BIT(1));
    assert_int_equal(cull(2), 1);
    set_u64(&server(1)->stmt_started_us, 0); /* idle in its transaction */
    assert_int_equal(cull(2), 0);
}

static void test_marks_end_with_the_lease(void **state)
{
    (void)state;
    run_bulk(1);
    uint64_t started_us = atomic_load(&server(0)->stmt_started_us);
    assert_int_equal(cull(1), 1);
    struct pool_server *s = server(0);
    struct pool *p = s->pool;
    set_u64(&s->stmt_started_us, 0);
    release(0);
    assert_int_not_equal(ask(p, 1, BULK), POOL_REFUSED);
    assert_ptr_equal(server(1), s);
    set_u64(&s->stmt_started_us, started_us); /* the clock of a loop stands still in its turn */
    assert_int_equal(marks(), 0);
}

static void test_who_streams_or_has_written_is_spared(void **state)
{
    (void)state;
    run_bulk(6);
    atomic_store(&server(5)->tx_writes, true);
    atomic_store(&server(4)->stmt_copy_out, true);
    set_u64(&server(3)->stmt_bytes, 2 << 20);
    set_u64(&server(3)->last_byte_us, t.now_us);
    set_u64(&server(2)->stmt_bytes, 2 << 20); /* streamed, and has been silent for long */
    set_u64(&server(2)->last_byte_us, t.now_us - 2 * US_PER_S);
    assert_int_equal(cull(100), 3);
    assert_int_equal(marks(), BIT(0) | BIT(1) | BIT(2));
}

static void test_other_classes_and_replication_are_spared(void **state)
{
    struct pool_opts opts;
    struct err err;

    (void)state;
    run_bulk(2);
    assert_int_not_equal(ask(t.pool, 2, INTERACTIVE), POOL_REFUSED);
    assert_int_not_equal(ask(t.pool, 3, BACKUP), POOL_REFUSED);
    pool_opts_defaults(&opts);
    struct pool *wal = pool_get(t.registry,
                                &(struct pool_key){.database = "shop",
                                                   .user = "copy",
                                                   .upstream = t.upstream,
                                                   .replication = POOL_REPLICATION_PHYSICAL},
                                &opts, &err);
    assert_int_not_equal(ask(wal, 4, BULK), POOL_REFUSED);
    pass(200 * US_PER_MS);
    for (uint32_t i = 2; i < 5; i++) {
        assert_true(has(i));
        set_u64(&server(i)->stmt_started_us, t.now_us);
    }
    assert_int_equal(cull(100), 2);
    assert_int_equal(marks(), BIT(0) | BIT(1));
    assert_int_equal(cull_all(t.upstream, INTERACTIVE), 0);
    assert_int_equal(cull_all(t.upstream, BULK), 0); /* marked, or replication */
}

static void group_of(uint32_t first_i, uint32_t last_i, uint64_t id)
{
    for (uint32_t i = first_i; i <= last_i; i++)
        server(i)->group = id;
}

/* A group is as old as its oldest lease, and counts as one. */
static void test_a_group_is_one_victim(void **state)
{
    (void)state;
    run_bulk(8);
    group_of(4, 6, 99);
    server(4)->leased_us = server(1)->leased_us + 1; /* its leader came early */
    assert_int_equal(cull(1), 1);
    assert_int_equal(marks(), BIT(7));
    assert_int_equal(cull(3), 3); /* those that began after the group's leader */
    assert_int_equal(marks(), BIT(7) | BIT(3) | BIT(2) | BIT(1));
    assert_int_equal(cull(1), 3); /* all of it, or none of it */
    assert_int_equal(marks() & (BIT(4) | BIT(5) | BIT(6)), BIT(4) | BIT(5) | BIT(6));
    assert_int_equal(marks() & BIT(0), 0);
}

static void test_an_idle_leader_lends_its_age(void **state)
{
    (void)state;
    run_bulk(4);
    group_of(0, 0, 7);
    group_of(3, 3, 7);
    set_u64(&server(0)->stmt_started_us, 0); /* it holds the snapshot, and waits for its workers */
    assert_int_equal(cull(2), 2);
    assert_int_equal(marks(), BIT(1) | BIT(2));
    assert_int_equal(cull(2), 1);
    assert_int_equal(marks(), BIT(1) | BIT(2) | BIT(3));
}

static void test_a_group_of_which_one_is_spared_is_spared(void **state)
{
    (void)state;
    run_bulk(6);
    group_of(0, 1, 1);
    group_of(2, 3, 2);
    atomic_store(&server(0)->stmt_copy_out, true);
    atomic_store(&server(2)->tx_writes, true);
    assert_int_equal(cull(100), 2);
    assert_int_equal(marks(), BIT(4) | BIT(5));
}

static void test_the_operator_takes_all_but_writers(void **state)
{
    (void)state;
    run_bulk(4);
    atomic_store(&server(0)->stmt_copy_out, true);
    atomic_store(&server(1)->tx_writes, true);
    assert_int_equal(cull_all(t.upstream, BULK), 3);
    assert_int_equal(marks(), BIT(0) | BIT(2) | BIT(3));
    assert_int_equal(atomic_load(&server(0)->cancel_why), POOL_CULL_OPERATOR);
}

/* The breaker's own word reaches the marks; a class it may not cancel is left alone. */
static void test_the_tick_obeys_the_breaker(void **state)
{
    struct turn turn = {.u = t.upstream, .now_us = t.now_us, .actions = &t.actions};

    (void)state;
    run_bulk(4);
    uint32_t breaker_i = (uint32_t)t.upstream->tiers[BULK].breaker_i;
    lock_take(&t.upstream->lock);
    t.upstream->breaker.classes[breaker_i].ask.cancel_n = 2;
    cull_tick(&turn);
    t.upstream->breaker.classes[breaker_i].ask.cancel_n = 0;
    cull_tick(&turn);
    lock_drop(&t.upstream->lock);
    assert_int_equal(marks(), BIT(2) | BIT(3));
}

static void test_cancels_under_way_are_few(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < UPSTREAM_CANCELS_MAX; i++)
        assert_true(upstream_cancel_begin(t.upstream));
    assert_false(upstream_cancel_begin(t.upstream));
    upstream_cancel_end(t.upstream);
    assert_true(upstream_cancel_begin(t.upstream));
    for (uint32_t i = 0; i < UPSTREAM_CANCELS_MAX; i++)
        upstream_cancel_end(t.upstream);
}

static void test_only_an_open_breaker_turns_logins_away(void **state)
{
    (void)state;
    run_bulk(2);
    upstream_trip(t.upstream, BULK, t.now_us);
    assert_false(upstream_sheds_logins(t.upstream, BULK)); /* throttled */
    t.upstream->breaker.state = BREAKER_OPEN;
    t.now_us += US_PER_S; /* a tick so late judges nothing: the state stands */
    pool_tick(t.upstream, t.now_us, &t.actions);
    settle();
    assert_true(upstream_sheds_logins(t.upstream, BULK));
    assert_false(upstream_sheds_logins(t.upstream, BACKUP)); /* it is not limited */
    assert_false(upstream_sheds_logins(t.upstream, INTERACTIVE));
    pass(300 * US_PER_MS); /* no pressure */
    assert_false(upstream_sheds_logins(t.upstream, BULK));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_the_youngest_go_first),
        SCENE(test_a_new_statement_is_another_one),
        SCENE(test_marks_end_with_the_lease),
        SCENE(test_who_streams_or_has_written_is_spared),
        SCENE(test_other_classes_and_replication_are_spared),
        SCENE(test_a_group_is_one_victim),
        SCENE(test_an_idle_leader_lends_its_age),
        SCENE(test_a_group_of_which_one_is_spared_is_spared),
        SCENE(test_the_operator_takes_all_but_writers),
        SCENE(test_the_tick_obeys_the_breaker),
        SCENE(test_cancels_under_way_are_few),
        SCENE(test_only_an_open_breaker_turns_logins_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
