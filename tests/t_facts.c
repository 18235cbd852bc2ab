/* What follows from what the probe tells: budget, locks, stalls, and the error breaker's login. */
#include "pool/facts.h"

#include <stdio.h>

#include "tests/pool_world.h"

#include "pool/state.h"

enum { OUTSIDE = 9000, RUNS_US = 10 * US_PER_MS };

/* A lease of this class with a statement under way; its backend is 100 + i. */
static struct pool_server *lease(uint32_t i, uint8_t class_i)
{
    (void)ask(t.pool, i, class_i);
    assert_true(has(i));
    struct pool_server *s = t.waiters[i].server;
    s->backend_pid = 100 + i;
    atomic_store(&s->stmt_started_us, t.now_us + 1);
    return s;
}

static void larger_pool(uint32_t size_n)
{
    struct pool_opts opts;
    pool_opts_defaults(&opts);
    opts.size_n = size_n;
    set_opts(t.pool, &opts);
}

static void set_class(uint8_t class_i, enum class_inversion wish, enum class_breaker breaker)
{
    struct err err;
    t.classes.at[class_i].on_lock_inversion = wish;
    t.classes.at[class_i].breaker = breaker;
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
}

static uint32_t tell(const struct upstream_block *edges, uint32_t n)
{
    t.now_us += RUNS_US;
    return upstream_tell_blocks(t.upstream, edges, n, t.now_us);
}
#define TELL(...)                                                                                  \
    tell((const struct upstream_block[]){__VA_ARGS__},                                             \
         sizeof((const struct upstream_block[]){__VA_ARGS__}) / sizeof(struct upstream_block))

static struct facts_stats stats(void)
{
    struct facts_stats s;
    upstream_facts_stats(t.upstream, &s);
    return s;
}

/* ---- locks ----------------------------------------------------------------------------------- */

static void test_a_dump_that_users_wait_for_is_not_paced(void **state)
{
    (void)state;
    struct upstream_inversion inversion;
    uint32_t cursor = 0;
    (void)lease(0, INTERACTIVE);
    (void)lease(1, INTERACTIVE);
    struct pool_server *dump = lease(2, BACKUP);
    /* users -> somebody's ALTER TABLE -> the dump */
    assert_int_equal(TELL({100, OUTSIDE}, {101, OUTSIDE}, {OUTSIDE, 102}), 1);
    assert_true(atomic_load(&dump->unpaced));
    assert_true(upstream_inversion(t.upstream, &cursor, &inversion));
    assert_int_equal(inversion.act, INVERSION_UNPACE);
    assert_string_equal(inversion.blocker_class, "backup");
    assert_string_equal(inversion.waiter_class, "interactive");
    assert_string_equal(inversion.blocker, "shop/web");
    assert_int_equal(inversion.blocker_pid, 102);
    assert_int_equal(inversion.waiters_n, 2);
    assert_int_equal(stats().inverted_n, 1);
    /* for however long: a backup is not cancelled, and it is said once */
    for (int i = 0; i < 20; i++) {
        t.now_us += US_PER_S;
        assert_int_equal(TELL({100, OUTSIDE}, {OUTSIDE, 102}), 0);
    }
    assert_int_equal(atomic_load(&dump->cancel_stmt_us), 0);
    assert_false(upstream_inversion(t.upstream, &cursor, &inversion));
    /* nobody waits any more */
    assert_int_equal(tell(NULL, 0), 0);
    assert_false(atomic_load(&dump->unpaced));
    assert_int_equal(stats().inverted_n, 0);
    /* and again */
    assert_int_equal(TELL({100, 102}), 1);
    assert_int_equal(stats().inversions_n[BACKUP][INVERSION_UNPACE], 2);
}

static void test_bulk_is_cancelled_after_a_while(void **state)
{
    (void)state;
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    uint64_t stmt_us = atomic_load(&bulk->stmt_started_us);
    assert_int_equal(TELL({100, 101}), 1);
    assert_true(atomic_load(&bulk->unpaced));
    t.now_us += FACTS_CANCEL_US - 2 * RUNS_US;
    assert_int_equal(TELL({100, 101}), 0);
    assert_int_equal(atomic_load(&bulk->cancel_stmt_us), 0); /* a moment is no reason */
    t.now_us += RUNS_US;
    assert_int_equal(TELL({100, 101}), 0);
    assert_int_equal(atomic_load(&bulk->cancel_stmt_us), stmt_us);
    assert_int_equal(atomic_load(&bulk->cancel_why), POOL_CULL_LOCKS);
    assert_int_equal(TELL({100, 101}), 0);
    assert_int_equal(stats().inversions_n[BULK][INVERSION_CANCEL], 1); /* once a statement */
    atomic_store(&bulk->stmt_started_us, t.now_us);
    assert_int_equal(TELL({100, 101}), 0);
    assert_int_equal(stats().inversions_n[BULK][INVERSION_CANCEL], 2);
}

static void test_short_waits_for_different_statements_do_not_add_up(void **state)
{
    (void)state;
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(TELL({100, 101}), 1);
        t.now_us += US_PER_S;
        assert_int_equal(tell(NULL, 0), 0); /* it was let go in between */
        t.now_us += US_PER_S;
    }
    assert_int_equal(atomic_load(&bulk->cancel_stmt_us), 0);
}

static void test_an_idle_transaction_cannot_be_cancelled(void **state)
{
    (void)state;
    struct upstream_inversion inversion;
    uint32_t cursor = 0;
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    atomic_store(&bulk->stmt_started_us, 0);
    for (int i = 0; i < 8; i++) {
        t.now_us += US_PER_S;
        (void)TELL({100, 101});
    }
    assert_int_equal(atomic_load(&bulk->cancel_stmt_us), 0);
    assert_true(upstream_inversion(t.upstream, &cursor, &inversion));
    assert_true(upstream_inversion(t.upstream, &cursor, &inversion));
    assert_int_equal(inversion.act, INVERSION_IDLE);
    assert_false(upstream_inversion(t.upstream, &cursor, &inversion)); /* said once */
}

static void test_a_class_that_observes_or_alerts_is_left_alone(void **state)
{
    static const struct {
        enum class_inversion wish;
        enum class_breaker breaker;
        bool observed;
    } cases[] = {{CLASS_INVERSION_CANCEL, CLASS_BREAKER_OBSERVE, true},
                 {CLASS_INVERSION_UNPACE, CLASS_BREAKER_OFF, true},
                 {CLASS_INVERSION_ALERT, CLASS_BREAKER_ENFORCE, false}};
    (void)state;
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    uint32_t cursor = 0;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct upstream_inversion inversion;
        set_class(BULK, cases[i].wish, cases[i].breaker);
        (void)tell(NULL, 0);
        assert_int_equal(TELL({100, 101}), 1);
        t.now_us += 2ull * FACTS_CANCEL_US;
        assert_int_equal(TELL({100, 101}), 0);
        assert_false(atomic_load(&bulk->unpaced));
        assert_int_equal(atomic_load(&bulk->cancel_stmt_us), 0);
        assert_true(upstream_inversion(t.upstream, &cursor, &inversion));
        assert_int_equal(inversion.act, INVERSION_ALERT);
        assert_int_equal(inversion.observed, cases[i].observed);
        assert_false(upstream_inversion(t.upstream, &cursor, &inversion));
    }
}

static void test_only_roots_of_ours_are_guilty(void **state)
{
    (void)state;
    larger_pool(8);
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    struct pool_server *user = lease(2, INTERACTIVE);
    /* the bulk one waits itself, for somebody outside */
    assert_int_equal(TELL({100, 101}, {101, OUTSIDE}), 0);
    /* a user's own transaction is the root; then a prepared one, which has no backend */
    assert_int_equal(TELL({100, 102}), 0);
    assert_int_equal(TELL({100, 0}), 0);
    assert_int_equal(TELL({0, 101}), 0);
    /* a cycle is for PostgreSQL's own deadlock check */
    assert_int_equal(TELL({100, 101}, {101, 100}), 0);
    assert_int_equal(TELL({100, 100}), 0);
    /* bulk waits for bulk: no user does */
    (void)lease(3, BULK);
    assert_int_equal(TELL({101, 103}), 0);
    assert_false(atomic_load(&bulk->unpaced) || atomic_load(&user->unpaced));
    assert_int_equal(stats().inverted_n, 0);
}

static void test_a_new_lease_starts_afresh(void **state)
{
    (void)state;
    (void)lease(0, INTERACTIVE);
    struct pool_server *s = lease(1, BULK);
    assert_int_equal(TELL({100, 101}), 1);
    t.now_us += FACTS_CANCEL_US;
    release(1);
    assert_ptr_equal(lease(1, BULK), s);
    assert_false(atomic_load(&s->unpaced));
    assert_int_equal(TELL({100, 101}), 1); /* newly found: the time of the former does not count */
    assert_int_equal(atomic_load(&s->cancel_stmt_us), 0);
}

static void test_any_number_of_edges_is_bounded(void **state)
{
    static struct upstream_block edges[3 * FACTS_EDGES_MAX];
    (void)state;
    (void)lease(0, INTERACTIVE);
    struct pool_server *bulk = lease(1, BULK);
    for (uint32_t i = 0; i < COUNT_OF(edges); i++)
        edges[i] = (struct upstream_block){10000 + i, 10001 + i};
    edges[0] = (struct upstream_block){100, 10001};
    assert_int_equal(tell(edges, COUNT_OF(edges)), 0);
    /* a chain of the greatest length ends at its root */
    edges[FACTS_EDGES_MAX - 1].blocker_pid = 101;
    assert_int_equal(tell(edges, COUNT_OF(edges)), 1);
    assert_true(atomic_load(&bulk->unpaced));
}

/* The walk against the definition, on random graphs. */
enum { PIDS = 12, ROUNDS = 3000 };

static bool waits_for(const bool edge[PIDS][PIDS], uint32_t from, uint32_t to)
{
    bool reached[PIDS] = {false};
    reached[from] = true;
    for (uint32_t round = 0; round < PIDS; round++)
        for (uint32_t a = 0; a < PIDS; a++)
            for (uint32_t b = 0; b < PIDS; b++)
                reached[b] |= reached[a] && edge[a][b];
    return reached[to];
}

static bool is_inverted(const bool edge[PIDS][PIDS], uint32_t i)
{
    bool found = false;
    for (uint32_t b = 0; b < PIDS; b++)
        if (edge[i][b])
            return false;
    for (uint32_t user = 0; user < 4; user++)
        found |= waits_for(edge, user, i);
    return found;
}

static void test_random_graphs(void **state)
{
    uint64_t random = 20260301;
    uint32_t inverted_n = 0;
    (void)state;
    larger_pool(40);
    struct pool_server *bulk[4];
    for (uint32_t i = 0; i < 4; i++)
        (void)lease(i, INTERACTIVE);
    for (uint32_t i = 0; i < 4; i++)
        bulk[i] = lease(4 + i, BACKUP);
    for (int round = 0; round < ROUNDS; round++) {
        bool edge[PIDS][PIDS] = {{false}};
        struct upstream_block edges[PIDS * 2];
        uint32_t n = 0;
        while (n < COUNT_OF(edges) && (random >> 60) != 0) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint32_t a = (uint32_t)(random >> 33) % PIDS, b = (uint32_t)(random >> 45) % PIDS;
            edge[a][b] = true;
            edges[n++] = (struct upstream_block){100 + a, 100 + b};
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        (void)tell(edges, n);
        for (uint32_t i = 0; i < 4; i++) {
            bool wanted = is_inverted(edge, 4 + i);
            inverted_n += wanted;
            if (atomic_load(&bulk[i]->unpaced) != wanted)
                fail_msg("round %d: backend %u is %sinverted", round, 104 + i,
                         wanted ? "not " : "");
        }
    }
    assert_true(inverted_n > ROUNDS / 10); /* else nothing was tried */
}

/* ---- what is not judged ---------------------------------------------------------------------- */

static double pressure(void)
{
    struct upstream_stats s;
    show_upstream(t.upstream, &s);
    return s.pressure.p;
}

/* Ten seconds of calm: statements of 1 ms, of one kind. */
static void learn(void)
{
    for (int i = 0; i < 100; i++) {
        for (uint64_t k = 0; k < 20; k++) {
            (void)ask(t.pool, 0, INTERACTIVE);
            assert_true(has(0));
            struct pool_observation obs = {7, t.now_us, US_PER_MS};
            pool_release(t.waiters[0].server, &obs, t.now_us + US_PER_MS, &t.actions);
            t.waiters[0].server = NULL;
            settle();
        }
        pass(100 * US_PER_MS);
    }
}

static void stuck(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        atomic_store(&lease(i, INTERACTIVE)->stmt_fingerprint, 7);
}

static void test_waits_for_locks_are_no_load(void **state)
{
    (void)state;
    larger_pool(40);
    learn();
    stuck(36);
    struct upstream_block edges[36];
    for (uint32_t i = 0; i < 36; i++)
        edges[i] = (struct upstream_block){100 + i, OUTSIDE};
    pass(US_PER_S);
    assert_true(pressure() >= 1); /* nobody has said yet what they wait for */
    (void)tell(edges, 36);
    pass(200 * US_PER_MS);
    assert_true(pressure() < 0.7);
    assert_int_equal(stats().lock_waiters_n, 36);
    /* nor when they are through, at last */
    t.now_us += 5ull * US_PER_S;
    for (uint32_t i = 0; i < 36; i++) {
        struct pool_observation obs = {7, atomic_load(&t.waiters[i].server->stmt_started_us), 0};
        obs.service_us = t.now_us - obs.dispatched_us;
        pool_release(t.waiters[i].server, &obs, t.now_us, &t.actions);
        t.waiters[i].server = NULL;
        settle();
    }
    pass(300 * US_PER_MS);
    assert_true(pressure() < 0.7);
}

/* Whose clients read slowly take long, and the database has no part in it. */
static void test_slow_readers_are_no_load(void **state)
{
    (void)state;
    larger_pool(40);
    learn();
    stuck(36);
    for (uint32_t i = 0; i < 36; i++)
        atomic_store(&t.waiters[i].server->unread_since_us, t.now_us);
    pass(US_PER_S);
    assert_true(pressure() < 0.7);
    for (uint32_t i = 0; i < 36; i++) { /* they read again, and nothing comes */
        atomic_store(&t.waiters[i].server->unread_since_us, 0);
        atomic_store(&t.waiters[i].server->unread_us, US_PER_S);
    }
    pass(US_PER_S);
    assert_true(pressure() >= 1);
}

/* Everybody waits for somebody's lock for 3 s, whose backend is the same at each look or another;
 * then users who have queued up are slow for 2 s, while a backup runs. Returns whether that is
 * pressure to the breaker. */
static bool is_blamed(bool same_outsider)
{
    struct upstream_stats s;
    (void)lease(39, BACKUP);
    for (uint32_t i = 0; i < 30; i++) {
        struct upstream_block edges[36];
        for (uint32_t k = 0; k < 36; k++)
            edges[k] = (struct upstream_block){100 + k, OUTSIDE + (same_outsider ? 0 : i)};
        if (i % 5 == 0)
            (void)tell(edges, 36);
        pass(100 * US_PER_MS);
    }
    (void)tell(NULL, 0);
    for (uint32_t i = 0; i < 20; i++) {
        for (uint32_t k = 0; k < 36; k++) {
            struct pool_observation obs = {7, t.now_us, 60 * US_PER_MS};
            pool_release(t.waiters[k].server, &obs, t.now_us, &t.actions);
            t.waiters[k].server = NULL;
            settle();
            atomic_store(&lease(k, INTERACTIVE)->stmt_fingerprint, 7);
        }
        pass(100 * US_PER_MS);
    }
    show_upstream(t.upstream, &s);
    return s.tests_n > 0;
}

static void test_what_queued_up_behind_an_outsiders_lock_is_no_load(void **state)
{
    (void)state;
    larger_pool(40);
    learn();
    stuck(36);
    assert_false(is_blamed(true));
    pass(20ull * US_PER_S); /* and no longer than that */
    assert_false(stats().stalled);
}

/* One waits for a forgotten psql, the others for a row of ours: that row is what is slow. */
static void test_one_behind_an_outsider_excuses_no_hot_row(void **state)
{
    (void)state;
    struct upstream_block edges[35];
    larger_pool(40);
    learn();
    stuck(36);
    edges[0] = (struct upstream_block){100, OUTSIDE};
    for (uint32_t i = 1; i < 35; i++)
        edges[i] = (struct upstream_block){100 + i, 135};
    for (uint32_t i = 0; i < 4; i++) {
        (void)tell(edges, 35);
        pass(500 * US_PER_MS);
    }
    assert_false(t.upstream->facts.forgiven_us > t.now_us);
    for (uint32_t i = 1; i < 35; i++)
        edges[i].blocker_pid = 100; /* who waits for the psql, all of them after all */
    for (uint32_t i = 0; i < 4; i++) {
        (void)tell(edges, 35);
        pass(500 * US_PER_MS);
    }
    assert_true(t.upstream->facts.forgiven_us > t.now_us);
}

/* The lock lasts: who does not wait is judged again, and when it ends all are forgiven once more.
 */
static void test_a_long_lock_is_forgiven_at_its_ends(void **state)
{
    (void)state;
    struct upstream_block edges[36];
    larger_pool(40);
    learn();
    stuck(36);
    for (uint32_t i = 0; i < 36; i++)
        edges[i] = (struct upstream_block){100 + i, OUTSIDE};
    for (uint32_t i = 0; i < 60; i++) {
        (void)tell(edges, 36);
        pass(500 * US_PER_MS);
        if (i == 2)
            assert_true(t.upstream->facts.forgiven_us > t.now_us);
    }
    assert_false(t.upstream->facts.forgiven_us > t.now_us);
    (void)tell(NULL, 0);
    pass(200 * US_PER_MS);
    assert_true(t.upstream->facts.forgiven_us > t.now_us);
    pass(6ull * US_PER_S);
    assert_false(t.upstream->facts.forgiven_us > t.now_us);
}

static void test_behind_a_hot_row_load_tells(void **state)
{
    (void)state;
    larger_pool(40);
    learn();
    stuck(36);
    assert_true(is_blamed(false));
}

static void test_a_queue_behind_locks_is_no_load(void **state)
{
    (void)state;
    stuck(4);
    (void)tell((const struct upstream_block[]){{100, 9}, {101, 9}, {102, 9}, {103, 9}}, 4);
    assert_int_equal(ask(t.pool, 9, INTERACTIVE), POOL_QUEUED);
    pass(3ull * US_PER_S);
    assert_true(pressure() < 0.7);
    (void)tell(NULL, 0);
    pass(3ull * US_PER_S);
    assert_true(pressure() >= 1);
}

/* Clients of a database that an operator has paused wait for him; those of the others do not. */
static void test_a_paused_pool_hides_no_queue(void **state)
{
    (void)state;
    struct pool *other = make_pool("paused", "web", 4);
    pool_set_run(other, POOL_PAUSED, t.now_us, &t.actions);
    settle();
    assert_int_equal(ask(other, 20, INTERACTIVE), POOL_QUEUED);
    pass(3ull * US_PER_S);
    assert_true(pressure() < 0.7);
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    assert_int_equal(ask(t.pool, 4, INTERACTIVE), POOL_QUEUED);
    pass(3ull * US_PER_S);
    assert_true(pressure() >= 1);
}

/* ---- budget ---------------------------------------------------------------------------------- */

static void tell_connections(uint32_t n)
{
    struct upstream_facts facts = {.role = UPSTREAM_PRIMARY, .connections_max = n, .told_us = 1};
    upstream_tell_facts(t.upstream, &facts);
}

static void test_the_server_says_how_many(void **state)
{
    (void)state;
    struct upstream_opts opts;
    upstream_opts_defaults(&opts);
    assert_int_equal(stats().places_n, 0);
    assert_int_equal(upstream_role(t.upstream), UPSTREAM_ROLE_UNKNOWN);
    tell_connections(97);
    assert_int_equal(upstream_role(t.upstream), UPSTREAM_PRIMARY);
    assert_int_equal(stats().places_n, 96);
    assert_int_equal(stats().shared_n, 87);
    tell_connections(0); /* gone: it will come back */
    assert_int_equal(stats().places_n, 96);
    opts.instances_n = 4;
    upstream_set_opts(t.upstream, &opts);
    assert_int_equal(stats().places_n, 23);
    opts.budget_n = 200;
    upstream_set_opts(t.upstream, &opts);
    assert_int_equal(stats().places_n, 200); /* what is written rules */
    opts.budget_n = 0;
    opts.instances_n = 100;
    upstream_set_opts(t.upstream, &opts);
    assert_int_equal(stats().places_n, 1); /* never none */
}

static void test_users_get_all_places_and_bulk_leaves_some(void **state)
{
    (void)state;
    larger_pool(0);
    tell_connections(21); /* 20 places, 18 of them for bulk */
    for (uint32_t i = 0; i < 30; i++)
        (void)ask(t.pool, i, INTERACTIVE);
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(has(i), i < 20);
    for (uint32_t i = 0; i < 30; i++) {
        if (has(i))
            release(i);
        else if (pool_cancel(&t.waiters[i], t.now_us, &t.actions))
            settle();
    }
    uint32_t bulk_n = 0;
    for (uint32_t i = 40; i < 70; i++) {
        (void)ask(t.pool, i, BULK);
        bulk_n += has(i);
    }
    assert_true(bulk_n > 0 && bulk_n <= 18);
}

/* ---- stalled --------------------------------------------------------------------------------- */

static void freeze(uint32_t n, bool accepted)
{
    stuck(n);
    upstream_tell_hanging(t.upstream, t.now_us, accepted);
}

static void test_a_mute_server_is_stalled(void **state)
{
    (void)state;
    larger_pool(8);
    freeze(3, true);
    pass(4900ull * US_PER_MS);
    assert_false(stats().stalled);
    pass(300ull * US_PER_MS);
    assert_true(stats().stalled);
    assert_int_equal(stats().stalls_n, 1);
    /* nothing new is sent, opened or refused */
    forget();
    release(0);
    pass(200ull * US_PER_MS); /* which was a byte */
    assert_false(stats().stalled);
    upstream_tell_hanging(t.upstream, t.now_us, true);
    (void)lease(0, INTERACTIVE);
    pass(5500ull * US_PER_MS);
    assert_true(stats().stalled);
    forget();
    assert_int_equal(ask(t.pool, 5, INTERACTIVE), POOL_QUEUED);
    pass(20ull * US_PER_S);
    assert_false(has(5));
    assert_int_equal(t.opens_n + t.refusals_n, 0);
    /* the first byte ends it */
    atomic_store(&t.waiters[1].server->last_byte_us, t.now_us);
    pass(200ull * US_PER_MS);
    assert_false(stats().stalled);
    assert_true(has(5));
}

static void test_the_probes_answer_ends_it(void **state)
{
    (void)state;
    freeze(3, true);
    pass(6ull * US_PER_S);
    assert_true(stats().stalled);
    upstream_tell_hanging(t.upstream, 0, false);
    pass(100ull * US_PER_MS);
    assert_false(stats().stalled);
}

static void test_what_is_not_a_stall(void **state)
{
    (void)state;
    freeze(3, false); /* nobody accepts: that is the error breaker's */
    pass(8ull * US_PER_S);
    assert_false(stats().stalled);
    release(2);
    upstream_tell_hanging(t.upstream, t.now_us, true); /* two statements are no evidence */
    pass(8ull * US_PER_S);
    assert_false(stats().stalled);
    (void)lease(2, INTERACTIVE);
    for (int i = 0; i < 80; i++) { /* bytes come */
        atomic_store(&t.waiters[1].server->last_byte_us, t.now_us);
        pass(100ull * US_PER_MS);
    }
    assert_false(stats().stalled);
}

static void test_silence_blames_nobody(void **state)
{
    (void)state;
    struct upstream_stats s;
    larger_pool(40);
    learn();
    stuck(30);
    (void)lease(33, BULK);
    upstream_tell_hanging(t.upstream, t.now_us, true);
    pass(20ull * US_PER_S);
    show_upstream(t.upstream, &s);
    assert_true(stats().stalled);
    assert_int_equal(s.tests_n, 0);
    assert_int_equal(s.breaker, BREAKER_CLOSED);
}

/* ---- the error breaker's login --------------------------------------------------------------- */

static enum error_breaker_state error_state(void)
{
    struct upstream_stats s;
    show_upstream(t.upstream, &s);
    return s.error_breaker;
}

static bool login_wanted(void)
{
    struct upstream_probe_view view;
    upstream_probe_view(t.upstream, &view);
    return view.login_wanted;
}

static void open_it(void)
{
    for (int i = 0; i < 6; i++) {
        upstream_tell_unreachable(t.upstream, t.now_us);
        t.now_us += 60ull * US_PER_MS;
    }
    assert_int_equal(error_state(), ERROR_BREAKER_OPEN);
}

static void test_the_probe_logs_in_for_the_error_breaker(void **state)
{
    (void)state;
    pool_client_add(t.pool, INTERACTIVE);
    upstream_tell_prober(t.upstream, true);
    open_it();
    forget();
    pass(500ull * US_PER_MS);
    assert_true(login_wanted());
    assert_int_equal(t.opens_n, 0); /* no pool opens one for it */
    upstream_probe_done(t.upstream, false, t.now_us);
    assert_false(login_wanted());
    assert_int_equal(error_state(), ERROR_BREAKER_OPEN);
    pass(2ull * US_PER_S);
    assert_true(login_wanted());
    upstream_probe_done(t.upstream, true, t.now_us);
    assert_int_equal(error_state(), ERROR_BREAKER_RAMP);
    pool_client_remove(t.pool, INTERACTIVE, t.now_us, &t.actions);
    settle();
}

static void test_without_a_probe_a_pool_asks(void **state)
{
    (void)state;
    pool_client_add(t.pool, INTERACTIVE);
    open_it();
    forget();
    pass(500ull * US_PER_MS);
    assert_false(login_wanted());
    assert_int_equal(t.opens_n, 1);
    assert_int_equal(error_state(), ERROR_BREAKER_RAMP);
    pool_client_remove(t.pool, INTERACTIVE, t.now_us, &t.actions);
    settle();
}

/* Every place is taken by a statement that does not end: nobody has been asked. */
static void test_a_probe_without_a_place_has_not_failed(void **state)
{
    (void)state;
    stuck(4); /* of four */
    pass(2ull * US_PER_S);
    open_it();
    pass(US_PER_S);
    for (int i = 0; i < 100; i++) {
        pass(100ull * US_PER_MS);
        assert_int_equal(error_state(), ERROR_BREAKER_HALF_OPEN);
    }
    release(2);
    pass(100ull * US_PER_MS);
    assert_int_equal(error_state(), ERROR_BREAKER_RAMP);
}

static void test_a_probe_that_may_not_log_in_hands_over(void **state)
{
    (void)state;
    pool_client_add(t.pool, INTERACTIVE);
    upstream_tell_prober(t.upstream, true);
    open_it();
    pass(500ull * US_PER_MS);
    assert_true(login_wanted());
    forget();
    upstream_tell_prober(t.upstream, false);
    pass(500ull * US_PER_MS);
    assert_false(login_wanted());
    assert_int_equal(t.opens_n, 1);
    pool_client_remove(t.pool, INTERACTIVE, t.now_us, &t.actions);
    settle();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_a_dump_that_users_wait_for_is_not_paced),
        SCENE(test_bulk_is_cancelled_after_a_while),
        SCENE(test_short_waits_for_different_statements_do_not_add_up),
        SCENE(test_an_idle_transaction_cannot_be_cancelled),
        SCENE(test_a_class_that_observes_or_alerts_is_left_alone),
        SCENE(test_only_roots_of_ours_are_guilty),
        SCENE(test_a_new_lease_starts_afresh),
        SCENE(test_any_number_of_edges_is_bounded),
        SCENE(test_random_graphs),
        SCENE(test_waits_for_locks_are_no_load),
        SCENE(test_slow_readers_are_no_load),
        SCENE(test_what_queued_up_behind_an_outsiders_lock_is_no_load),
        SCENE(test_one_behind_an_outsider_excuses_no_hot_row),
        SCENE(test_a_long_lock_is_forgiven_at_its_ends),
        SCENE(test_behind_a_hot_row_load_tells),
        SCENE(test_a_queue_behind_locks_is_no_load),
        SCENE(test_a_paused_pool_hides_no_queue),
        SCENE(test_the_server_says_how_many),
        SCENE(test_users_get_all_places_and_bulk_leaves_some),
        SCENE(test_a_mute_server_is_stalled),
        SCENE(test_the_probes_answer_ends_it),
        SCENE(test_what_is_not_a_stall),
        SCENE(test_silence_blames_nobody),
        SCENE(test_the_probe_logs_in_for_the_error_breaker),
        SCENE(test_without_a_probe_a_pool_asks),
        SCENE(test_a_probe_without_a_place_has_not_failed),
        SCENE(test_a_probe_that_may_not_log_in_hands_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
