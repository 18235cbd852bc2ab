/* The pool as its callers see it, one scene for each promise: leases, classes, deadlines, places.
 */
#include "tests/pool_world.h"

/* ---- leases --------------------------------------------------------------------------------- */

static void test_a_cold_pool_opens_what_is_needed(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(ask_at(t.pool, i, INTERACTIVE, 1), POOL_QUEUED);
    assert_int_equal(stats_of(t.pool).opening_n, 3); /* in parallel, one each */
    for (uint32_t i = 3; i < 50; i++)
        assert_int_equal(ask_at(t.pool, i, INTERACTIVE, 1), POOL_QUEUED);
    assert_int_equal(stats_of(t.pool).opening_n, 4); /* pool_size */
    struct pool *big = make_pool("big", "web", 100);
    for (uint32_t i = 50; i < 100; i++)
        assert_int_equal(ask_at(big, i, INTERACTIVE, 1), POOL_QUEUED);
    assert_int_equal(stats_of(big).opening_n, 12); /* 16 logins at once, 4 are there */
    /* One that is not needed any more comes all the same, and idles. */
    for (uint32_t i = 0; i < 50; i++)
        assert_true(pool_cancel(&t.waiters[i], t.now_us, &t.actions));
    t.actions.n = 0;
    for (uint32_t i = 0; i < 4; i++)
        pool_opened(t.pool, &t.servers[t.servers_n++], 1, t.now_us, &t.actions);
    assert_int_equal(stats_of(t.pool).idle_n, 4);
    /* The logins that ended made room for others. */
    assert_int_equal(stats_of(big).opening_n, 16);
    for (uint32_t i = 0; i < 16; i++)
        pool_open_failed(big, POOL_FAILED_LOGIN, NULL, t.now_us, &t.actions);
}

static void test_a_lease_at_home_asks_for_nothing(void **state)
{
    (void)state;
    assert_int_equal(ask(t.pool, 0, INTERACTIVE), POOL_QUEUED);
    release(0);
    forget();
    assert_int_equal(ask_at(t.pool, 1, INTERACTIVE, 1), POOL_GRANTED);
    assert_int_equal(t.actions.n, 0);
    assert_int_equal(t.waiters[1].server->worker, 1);
    release(1);
    /* From another loop: by letter. */
    assert_int_equal(ask_at(t.pool, 2, INTERACTIVE, 2), POOL_QUEUED);
    assert_int_equal(t.actions.n, 1);
    assert_int_equal(t.actions.at[0].act, POOL_GRANT);
    assert_int_equal(t.actions.at[0].worker, 1);
    /* Too late to leave: the grant is in the mail. */
    struct pool_actions kept = t.actions;
    assert_false(pool_cancel(&t.waiters[2], t.now_us, &t.actions));
    t.actions = kept;
    settle();
    release(2);
    assert_int_equal(t.servers_n, 1);
}

static void test_newest_or_oldest_server_first(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    struct pool_server *first = t.waiters[0].server, *last = t.waiters[2].server;
    for (uint32_t i = 0; i < 3; i++)
        release(i);
    assert_int_equal(ask(t.pool, 5, INTERACTIVE), POOL_GRANTED);
    assert_ptr_equal(t.waiters[5].server, last);
    release(5);
    struct pool_opts opts = stats_of(t.pool).opts;
    opts.round_robin = true;
    set_opts(t.pool, &opts);
    assert_int_equal(ask(t.pool, 6, INTERACTIVE), POOL_GRANTED);
    assert_ptr_equal(t.waiters[6].server, first);
}

static void test_a_release_serves_who_waits(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    assert_false(has(4));
    t.now_us += 1000;
    release(0);
    assert_true(has(4) && !has(5));
    struct class_stats s;
    show_class(t.upstream, INTERACTIVE, t.now_us, &s);
    assert_int_equal(s.granted_n, 5);
    assert_int_equal(s.wait_us_max, 1000);
    assert_int_equal(s.queued_n, 1);
    assert_true(pool_cancel(&t.waiters[5], t.now_us, &t.actions));
    show_class(t.upstream, INTERACTIVE, t.now_us, &s);
    assert_int_equal(s.queued_n, 0);
    assert_int_equal(s.left_n, 1);
}

/* Loops read the clock before they take the lock: another's `now` may lie before who waits. */
static void test_clocks_of_two_loops_need_not_agree(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    t.now_us -= 30;
    release(0);
    assert_true(has(4));
    struct class_stats s;
    show_class(t.upstream, INTERACTIVE, t.now_us, &s);
    assert_int_equal(s.wait_us_max, 0);
    t.now_us += 30;
}

/* ---- classes -------------------------------------------------------------------------------- */

static void test_bulk_leaves_room_for_users(void **state)
{
    (void)state;
    struct pool *p = make_pool("big", "web", 20);
    pool_client_add(p, INTERACTIVE);
    pool_client_add(p, BULK);
    pool_client_add(p, BACKUP);
    for (uint32_t i = 0; i < 30; i++)
        (void)ask(p, i, BULK);
    assert_int_equal(stats_of(p).leased_n, 6); /* 30 % */
    for (uint32_t i = 30; i < 60; i++)
        (void)ask(p, i, INTERACTIVE);
    struct pool_stats s = stats_of(p);
    assert_int_equal(s.classes[INTERACTIVE].leased_n, 13); /* all but bulk's, and one kept */
    assert_int_equal(ask(p, 60, BACKUP), POOL_QUEUED);
    assert_true(has(60)); /* ... for this */
    pool_client_remove(p, BACKUP, t.now_us, &t.actions);
    settle();
    release(60);
    assert_int_equal(stats_of(p).classes[INTERACTIVE].leased_n, 14); /* no backup: not kept */
}

static void test_users_alone_have_it_all(void **state)
{
    (void)state;
    pool_client_add(t.pool, INTERACTIVE);
    for (uint32_t i = 0; i < 8; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    assert_int_equal(stats_of(t.pool).leased_n, 4);
}

static void test_demotion_frees_the_better_place(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    for (uint32_t i = 0; i < 3; i++) {
        pool_demote(t.waiters[i].server, BULK, t.now_us, &t.actions);
        settle();
    }
    struct pool_stats s = stats_of(t.pool);
    assert_int_equal(s.classes[BULK].leased_n, 3); /* over its two: never blocked */
    assert_int_equal(s.classes[INTERACTIVE].leased_n, 1);
    (void)ask(t.pool, 10, BULK);
    release(3);
    assert_false(has(10)); /* but nobody new gets in */
    release(0);
    assert_false(has(10));
    release(1);
    assert_true(has(10));
}

/* One place, and users who never leave it idle: backup gets its turn within ten seconds. */
static void test_nobody_is_starved(void **state)
{
    (void)state;
    struct pool *p = make_pool("tiny", "web", 1);
    pool_client_add(p, INTERACTIVE);
    pool_client_add(p, BACKUP);
    (void)ask(p, 0, INTERACTIVE);
    (void)ask(p, 1, INTERACTIVE);
    (void)ask(p, 9, BACKUP);
    uint64_t asked_us = t.now_us;
    for (uint32_t turn = 0; !has(9); turn++) {
        assert_true(t.now_us < asked_us + 11ull * US_PER_S);
        pass(100 * US_PER_MS);
        release(turn % 2);
        (void)ask(p, turn % 2, INTERACTIVE);
    }
    assert_true(t.now_us >= asked_us + 9ull * US_PER_S); /* not before: it is the last in rank */
}

static void test_full_queue_refuses_the_greedy(void **state)
{
    (void)state;
    t.classes.at[INTERACTIVE].queue_limit_n = 3;
    struct err err;
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    forget();
    for (uint32_t i = 4; i < 7; i++) {
        t.waiters[i].key_i = i;
        (void)ask(t.pool, i, INTERACTIVE);
    }
    assert_int_equal(t.refusals_n, 0);
    /* Three keys with one each: the newcomer with a key of its own is one of four. */
    struct pool_waiter *w = &t.waiters[70];
    *w = (struct pool_waiter){.worker = 1, .key_i = 5};
    assert_int_equal(pool_acquire(t.pool, w, t.now_us, &t.actions), POOL_REFUSED);
    assert_int_equal(w->refusal, POOL_REFUSED_QUEUE_FULL); /* key 5 has two: its newest */
    assert_true(t.waiters[5].queued);
}

/* ---- deadlines and breakers ----------------------------------------------------------------- */

static void test_deadlines(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    t.waiters[4].deadline_us = t.now_us + 2ull * US_PER_S;
    (void)ask(t.pool, 4, INTERACTIVE);
    (void)ask(t.pool, 5, INTERACTIVE);
    (void)ask(t.pool, 6, BULK); /* its class gives up after 60 s */
    pass(1800 * US_PER_MS);
    assert_true(t.waiters[4].queued);
    pass(500 * US_PER_MS);
    assert_false(t.waiters[4].queued);
    assert_int_equal(t.waiters[4].refusal, POOL_REFUSED_DEADLINE);
    pass(61ull * US_PER_S);
    assert_int_equal(t.waiters[6].refusal, POOL_REFUSED_DEADLINE);
    assert_true(t.waiters[5].queued); /* no deadline, no end */
    /* Between ticks a late one is not served either. */
    t.waiters[7].deadline_us = t.now_us + 10;
    (void)ask(t.pool, 7, INTERACTIVE);
    t.now_us += 11;
    release(0);
    release(1);
    assert_true(has(5) && !has(7));
    assert_int_equal(t.waiters[7].refusal, POOL_REFUSED_DEADLINE);
}

static void test_a_tripped_class_is_held_and_told(void **state)
{
    (void)state;
    struct pool *p = make_pool("big", "web", 20);
    pool_client_add(p, BULK);
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(p, i, BULK);
    assert_int_equal(stats_of(p).leased_n, 4);
    upstream_trip(t.upstream, BULK, t.now_us);
    pass(100 * US_PER_MS);
    struct class_stats s;
    show_class(t.upstream, BULK, t.now_us, &s);
    assert_true(s.limited);
    assert_int_equal(s.limit_n, 1);
    (void)ask(p, 5, BULK);
    for (uint32_t i = 0; i < 3; i++)
        release(i);
    assert_false(has(5)); /* one runs, and one is all it may */
    (void)ask(p, 6, INTERACTIVE);
    assert_true(has(6)); /* users do not notice */
    char why[400];
    assert_true(strlen(upstream_explain(t.upstream, BULK, t.now_us, why, sizeof(why))) > 0);
    for (uint32_t i = 0; i < 70 && t.waiters[5].queued; i++) {
        pass(US_PER_S);
        upstream_trip(t.upstream, BULK, t.now_us);
    }
    assert_int_equal(t.waiters[5].refusal, POOL_REFUSED_SHED);
    (void)ask(p, 7, BULK);
    assert_false(has(7));
    release(3); /* the one that ran: the next may */
    assert_true(has(7));
}

/* on_overload without hold: what runs may be slowed, and nobody is kept waiting. */
static void test_a_class_that_must_not_be_held_gets_in(void **state)
{
    (void)state;
    struct err err;
    t.classes.at[BULK].on_overload = CLASS_PACE;
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
    struct pool *p = make_pool("big", "web", 20);
    pool_client_add(p, BULK);
    upstream_trip(t.upstream, BULK, t.now_us);
    pass(100 * US_PER_MS);
    for (uint32_t i = 0; i < 4; i++) {
        (void)ask(p, i, BULK);
        assert_true(has(i));
    }
    struct class_stats s;
    show_class(t.upstream, BULK, t.now_us, &s);
    assert_false(s.limited);
}

/* What a lease of bulk rests after a statement of 100 ms, where six run and one may. */
static uint64_t rest_of_six(void)
{
    struct upstream_opts opts;
    struct err err;
    upstream_opts_defaults(&opts);
    opts.can_pace = true;
    upstream_set_opts(t.upstream, &opts);
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
    struct pool *p = make_pool("big", "web", 20);
    pool_client_add(p, BULK);
    for (uint32_t i = 0; i < 6; i++) {
        (void)ask(p, i, BULK);
        assert_true(has(i));
        atomic_store_explicit(&t.waiters[i].server->stmt_started_us, t.now_us,
                              memory_order_relaxed);
    }
    pass(3ull * US_PER_S);
    assert_int_equal(brake_share_us(pool_brake(t.waiters[0].server), 100 * US_PER_MS), 0);
    upstream_trip(t.upstream, BULK, t.now_us);
    pass(300 * US_PER_MS);
    return brake_share_us(pool_brake(t.waiters[0].server), 100 * US_PER_MS);
}

static void test_leases_that_go_on_rest(void **state)
{
    (void)state;
    uint64_t rest_us = rest_of_six();
    assert_true(rest_us > 480 * US_PER_MS && rest_us < 510 * US_PER_MS);
    /* Those that rest want to run as much as those that do: or the rests would come in waves. */
    for (uint32_t i = 1; i < 6; i++) {
        atomic_store_explicit(&t.waiters[i].server->stmt_started_us, 0, memory_order_relaxed);
        atomic_store_explicit(&t.waiters[i].server->rests, true, memory_order_relaxed);
    }
    pass(300 * US_PER_MS);
    assert_int_equal(brake_share_us(pool_brake(t.waiters[0].server), 100 * US_PER_MS), rest_us);
    struct class_stats s;
    show_class(t.upstream, BULK, t.now_us, &s);
    assert_int_equal(s.resting_n, 5);
    struct tick_stats tick; /* what the breaker sees: they wait, and hurt nobody */
    show_tick(t.upstream, &tick);
    assert_int_equal(tick.classes[1].use.active_n, 1);
    assert_int_equal(tick.classes[1].use.queued_n, 5);
    upstream_release(t.upstream, t.now_us);
    pass(100 * US_PER_MS);
    assert_false(brake_crowded(pool_brake(t.waiters[0].server)));
}

static void test_leases_that_must_not_be_held_do_not_rest(void **state)
{
    (void)state;
    t.classes.at[BULK].on_overload = CLASS_PACE;
    assert_int_equal(rest_of_six(), 0);
}

static void test_leases_of_a_class_that_is_observed_do_not_rest(void **state)
{
    (void)state;
    t.classes.at[BULK].breaker = CLASS_BREAKER_OBSERVE;
    assert_int_equal(rest_of_six(), 0);
}

static void test_a_wrong_password_is_told_at_once(void **state)
{
    (void)state;
    struct err why;

    t.reachable = false;
    t.failure = POOL_FAILED_LOGIN;
    (void)ask(t.pool, 0, INTERACTIVE);
    assert_int_equal(t.waiters[0].refusal, POOL_REFUSED_DOWN);
    pool_down_reason(t.pool, &why);
    assert_string_equal(why.text, "password authentication failed");
    forget();
    assert_int_equal(ask(t.pool, 1, INTERACTIVE), POOL_REFUSED);
    assert_int_equal(t.opens_n, 0); /* no attempt in the pause */
    /* Nobody else suffers, and the breaker of the upstream is not impressed. */
    t.reachable = true;
    struct pool *other = make_pool("bank", "web", 2);
    (void)ask(other, 2, INTERACTIVE);
    assert_true(has(2));
    struct upstream_stats u;
    show_upstream(t.upstream, &u);
    assert_int_equal(u.error_breaker, ERROR_BREAKER_CLOSED);
    /* The pauses grow, and the next client after one tries again. */
    pass(200 * US_PER_MS);
    (void)ask(t.pool, 3, INTERACTIVE);
    assert_true(has(3));
    pool_down_reason(t.pool, &why);
    assert_string_equal(why.text, "");
}

/* A database that is away for three seconds costs waits, for ten it costs errors; either way all is
 * well within two seconds of its return. */
static void test_restarts(void **state)
{
    (void)state;
    pool_client_add(t.pool, INTERACTIVE);
    t.reachable = false;
    forget();
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    pass(3ull * US_PER_S);
    assert_int_equal(t.refusals_n, 0);
    assert_true(t.opens_n > 5 && t.opens_n < 120); /* asked again and again, no storm */
    t.reachable = true;
    pass(2ull * US_PER_S);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(has(i));
        release(i);
    }
    /* Now for long. All sessions die with it. */
    t.reachable = false;
    for (uint32_t i = 0; i < t.servers_n; i++) {
        if (t.servers[i].state != POOL_SERVER_IDLE)
            continue;
        t.servers[i].died = true;
        assert_true(pool_closed(&t.servers[i], false, t.now_us, &t.actions));
        settle();
    }
    (void)ask(t.pool, 5, INTERACTIVE);
    pass(12ull * US_PER_S);
    assert_int_equal(t.waiters[5].refusal, POOL_REFUSED_DOWN);
    assert_int_equal(ask(t.pool, 6, INTERACTIVE), POOL_REFUSED); /* at once */
    struct upstream_stats u;
    show_upstream(t.upstream, &u);
    assert_true(u.down_since_us != 0);
    t.reachable = true;
    uint64_t back_us = t.now_us;
    while (ask(t.pool, 7, INTERACTIVE) == POOL_REFUSED || !has(7)) {
        if (t.waiters[7].queued)
            assert_true(pool_cancel(&t.waiters[7], t.now_us, &t.actions));
        settle();
        pass(100 * US_PER_MS);
        assert_true(t.now_us < back_us + 6ull * US_PER_S);
    }
}

static void test_a_full_server_lowers_the_budget(void **state)
{
    (void)state;
    struct pool *p = make_pool("big", "web", 20);
    for (uint32_t i = 0; i < 10; i++)
        (void)ask(p, i, INTERACTIVE);
    t.reachable = false;
    t.failure = POOL_FAILED_FULL;
    (void)ask(p, 10, INTERACTIVE);
    assert_true(t.waiters[10].queued); /* full is not down: he waits for a lease to end */
    struct upstream_stats u;
    show_upstream(t.upstream, &u);
    assert_int_equal(u.budget_now_n, 9);
    assert_int_equal(u.error_breaker, ERROR_BREAKER_CLOSED);
    release(0); /* over the new budget: closed, not given on */
    assert_int_equal(stats_of(p).leased_n, 9);
    release(1);
    assert_true(has(10));
    t.reachable = true;
    pass(200ull * US_PER_S);
    show_upstream(t.upstream, &u);
    assert_int_equal(u.budget_now_n, 0);
}

/* ---- places
 * -------------------------------------------------------------------------------------- */

static void test_the_longest_idle_makes_room(void **state)
{
    (void)state;
    struct pool_opts opts = stats_of(t.pool).opts;
    struct pool *other = make_pool("shop", "batch", 4);
    opts.max_db_n = 3;
    set_opts(t.pool, &opts);
    set_opts(other, &opts);
    for (uint32_t i = 0; i < 3; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    struct pool_server *oldest = t.waiters[1].server;
    release(1);
    t.now_us += 1000;
    release(0);
    forget();
    (void)ask(other, 9, INTERACTIVE);
    assert_true(has(9));
    assert_int_equal(t.closes_n, 1);
    assert_ptr_equal(t.closed, oldest);
    struct pool_stats s = stats_of(other);
    assert_int_equal(s.db_used_n, 3);
}

static void test_a_busy_pool_gives_a_place_up(void **state)
{
    (void)state;
    struct pool *other = make_pool("bank", "web", 4);
    struct upstream_opts opts;
    upstream_opts_defaults(&opts);
    opts.budget_n = 4;
    upstream_set_opts(t.upstream, &opts);
    for (uint32_t i = 0; i < 8; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    (void)ask(other, 20, INTERACTIVE);
    /* Releases every 10 ms, each taken at once by the next; nothing is ever idle. */
    uint32_t turns = 0;
    while (!has(20)) {
        assert_true(turns < 200); /* two seconds */
        t.now_us += 10 * US_PER_MS;
        for (uint32_t i = 0; i < 8; i++) {
            if (!has(i))
                continue;
            release(i);
            (void)ask(t.pool, i, INTERACTIVE);
            break;
        }
        turns++;
    }
    assert_true(turns >= 100); /* but not lightly */
}

/* Two pools that are never idle share a budget: places move now and then, not with every release.
 */
static void test_busy_pools_do_not_take_turns_at_logins(void **state)
{
    (void)state;
    struct pool *pools[2] = {t.pool, make_pool("bank", "web", 4)};
    struct upstream_opts opts;
    upstream_opts_defaults(&opts);
    opts.budget_n = 4;
    upstream_set_opts(t.upstream, &opts);
    for (uint32_t i = 0; i < 16; i++)
        (void)ask(pools[i % 2], i, INTERACTIVE);
    forget();
    uint32_t served[2] = {0};
    for (uint32_t turn = 0; turn < 3000; turn++) { /* half a minute */
        t.now_us += 10 * US_PER_MS;
        for (uint32_t k = 0; k < 16; k++) {
            uint32_t i = (turn + k) % 16;
            if (!has(i))
                continue;
            release(i);
            (void)ask(pools[i % 2], i, INTERACTIVE);
            served[i % 2]++;
            break;
        }
    }
    assert_true(t.opens_n < 100);
    assert_true(served[0] > 500 && served[1] > 500);
}

static void test_reserve_pool(void **state)
{
    (void)state;
    struct pool_opts opts = stats_of(t.pool).opts;
    opts.reserve_n = 2;
    opts.reserve_after_us = 3ull * US_PER_S;
    set_opts(t.pool, &opts);
    for (uint32_t i = 0; i < 8; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    pass(2800 * US_PER_MS);
    assert_int_equal(stats_of(t.pool).leased_n, 4);
    pass(400 * US_PER_MS);
    assert_int_equal(stats_of(t.pool).leased_n, 6);
    assert_true(stats_of(t.pool).reserve_open);
}

static void test_least_and_idle_and_old_servers(void **state)
{
    (void)state;
    struct pool_opts opts = stats_of(t.pool).opts;
    opts.min_n = 2;
    opts.idle_us = 10ull * US_PER_S;
    set_opts(t.pool, &opts);
    pass(2ull * US_PER_S);
    assert_int_equal(t.servers_n, 0); /* nobody is there */
    pool_client_add(t.pool, INTERACTIVE);
    pass(US_PER_S);
    assert_int_equal(stats_of(t.pool).idle_n, 2);
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    for (uint32_t i = 0; i < 4; i++)
        release(i);
    pass(9ull * US_PER_S);
    assert_int_equal(stats_of(t.pool).idle_n, 4);
    pass(2ull * US_PER_S);
    assert_int_equal(stats_of(t.pool).idle_n, 2);
    /* Lifetime: replaced one by one, not all at once. */
    opts.idle_us = 0;
    opts.lifetime_us = 60ull * US_PER_S;
    set_opts(t.pool, &opts);
    pass(40ull * US_PER_S);
    forget();
    pass(14ull * US_PER_S);
    assert_int_equal(t.closes_n, 1);
    pass(16ull * US_PER_S);
    assert_int_equal(t.closes_n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_a_cold_pool_opens_what_is_needed),
        SCENE(test_a_lease_at_home_asks_for_nothing),
        SCENE(test_newest_or_oldest_server_first),
        SCENE(test_a_release_serves_who_waits),
        SCENE(test_clocks_of_two_loops_need_not_agree),
        SCENE(test_bulk_leaves_room_for_users),
        SCENE(test_users_alone_have_it_all),
        SCENE(test_demotion_frees_the_better_place),
        SCENE(test_nobody_is_starved),
        SCENE(test_full_queue_refuses_the_greedy),
        SCENE(test_deadlines),
        SCENE(test_a_tripped_class_is_held_and_told),
        SCENE(test_a_class_that_must_not_be_held_gets_in),
        SCENE(test_leases_that_go_on_rest),
        SCENE(test_leases_that_must_not_be_held_do_not_rest),
        SCENE(test_leases_of_a_class_that_is_observed_do_not_rest),
        SCENE(test_a_wrong_password_is_told_at_once),
        SCENE(test_restarts),
        SCENE(test_a_full_server_lowers_the_budget),
        SCENE(test_the_longest_idle_makes_room),
        SCENE(test_a_busy_pool_gives_a_place_up),
        SCENE(test_busy_pools_do_not_take_turns_at_logins),
        SCENE(test_reserve_pool),
        SCENE(test_least_and_idle_and_old_servers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
