/* Connections of one parallel job: who gets in, when, and who is told that he cannot. */
#include "tests/pool_world.h"

#include "pool/state.h"

enum { LEADER = 0, WORKER = 1, SECOND = 100, OTHER = 200 };

/* One session of a job asks. */
static enum pool_verdict ask_of(struct pool *p, uint32_t i, uint64_t group)
{
    struct pool_waiter *w = &t.waiters[i];

    memset(w, 0, sizeof(*w));
    w->worker = 1;
    w->class_i = BACKUP;
    w->key_i = 7;
    w->group = group;
    enum pool_verdict verdict = pool_acquire(p, w, t.now_us, &t.actions);
    settle();
    return verdict;
}

static void runs(uint32_t i, bool runs)
{
    /* COPY: what can be held back is not let in by and by (breaker.h). */
    atomic_store(&t.waiters[i].server->stmt_copy_out, runs);
    atomic_store(&t.waiters[i].server->stmt_started_us, runs ? t.now_us : 0);
}

static uint32_t served_n(uint32_t first, uint32_t n)
{
    uint32_t served = 0;

    for (uint32_t i = 0; i < n; i++)
        served += has(first + i);
    return served;
}

/* Whoever has a server works on it, but the leaders. */
static void work(void)
{
    for (uint32_t i = 0; i < 4; i++) {
        if (has(WORKER + i))
            runs(WORKER + i, true);
        if (has(SECOND + 1 + i))
            runs(SECOND + 1 + i, true);
    }
}

/* Else sheddable classes are let in little by little (breaker.h), and that is not the matter here.
 */
static void can_pace(void)
{
    struct upstream_opts opts;
    struct err err;

    upstream_opts_defaults(&opts);
    opts.can_pace = true;
    upstream_set_opts(t.upstream, &opts);
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
}

static void test_leaders_that_stand_still_do_not_count(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 20); /* 30 %: six */

    can_pace();
    assert_int_equal(ask_of(p, LEADER, 1), POOL_QUEUED);
    assert_int_equal(ask_of(p, SECOND, 2), POOL_QUEUED);
    assert_true(has(LEADER) && has(SECOND));
    for (uint32_t i = 0; i < 4; i++) {
        (void)ask_of(p, WORKER + i, 1);
        (void)ask_of(p, SECOND + 1 + i, 2);
        work();
    }
    for (uint32_t i = 0; i < 20; i++) {
        pass(100 * US_PER_MS);
        work();
    }
    /* Six that run, and the two leaders. */
    assert_int_equal(served_n(LEADER, 5) + served_n(SECOND, 5), 8);
    runs(WORKER, false); /* has done its tables */
    pass(100 * US_PER_MS);
    assert_int_equal(served_n(LEADER, 5) + served_n(SECOND, 5), 9);
}

static void test_one_a_second_when_nothing_runs(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 5);

    pool_client_add(p, INTERACTIVE); /* three of the five are kept for him */
    (void)ask_of(p, LEADER, 1);
    for (uint32_t i = 0; i < 4; i++)
        (void)ask_of(p, WORKER + i, 1);
    uint32_t before = served_n(LEADER, 5);
    assert_in_range(before, 1, 2);
    pass(800 * US_PER_MS);
    assert_true(served_n(LEADER, 5) <= 2);
    pass(8 * US_PER_S);
    assert_int_equal(served_n(LEADER, 5), 5);
    pool_client_remove(p, INTERACTIVE, t.now_us, &t.actions);
}

/* Else a dump that needs all places would shut them out for hours. */
static void test_a_place_stays_for_who_uses_the_pool(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 5);

    pool_client_add(p, INTERACTIVE);
    (void)ask_of(p, LEADER, 1);
    for (uint32_t i = 0; i < 4; i++)
        (void)ask_of(p, WORKER + i, 1);
    for (uint32_t i = 0; i < 5; i++) {
        (void)ask(p, OTHER, INTERACTIVE);
        pass(500 * US_PER_MS);
        assert_true(has(OTHER));
        release(OTHER);
        pass(500 * US_PER_MS);
    }
    assert_int_equal(served_n(LEADER, 5), 4);
    pass(8 * US_PER_S); /* they have gone home */
    assert_int_equal(served_n(LEADER, 5), 5);
    pool_client_remove(p, INTERACTIVE, t.now_us, &t.actions);
}

static void test_members_are_not_refused(void **state)
{
    (void)state;
    struct err err;

    t.classes.at[BACKUP].queue_limit_n = 2;
    t.classes.at[BACKUP].queue_deadline_us = US_PER_S;
    t.classes.at[BACKUP].max = (struct class_share){.n = 100, .percent = true};
    assert_true(registry_set_classes(t.registry, &t.classes, &err));
    struct pool *p = make_pool("shop", "dump", 2);
    (void)ask(p, OTHER, BACKUP); /* of no group, and it stays */
    (void)ask_of(p, LEADER, 1);
    assert_true(has(OTHER) && has(LEADER));
    runs(OTHER, true);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(ask_of(p, WORKER + i, 1), POOL_QUEUED);
    /* Newcomers have neither the room nor the time. */
    assert_int_equal(ask(p, OTHER + 1, BACKUP), POOL_REFUSED);
    assert_int_equal(t.waiters[OTHER + 1].refusal, POOL_REFUSED_QUEUE_FULL);
    pass(30 * US_PER_S);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(t.waiters[WORKER + i].queued);
    /* Five minutes of nothing are enough. */
    pass(300 * US_PER_S);
    uint32_t refused_n = 0;
    for (uint32_t i = 0; i < 4; i++)
        refused_n += t.waiters[WORKER + i].refusal == POOL_REFUSED_GROUP;
    assert_int_equal(refused_n, 1);
    for (uint32_t i = 0; i < 4; i++)
        if (t.waiters[WORKER + i].queued)
            assert_true(pool_cancel(&t.waiters[WORKER + i], t.now_us, &t.actions));
    release(LEADER);
    release(OTHER);
}

static void test_members_go_first_but_not_for_ever(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 1);

    (void)ask_of(p, LEADER, 1);
    runs(LEADER, true);
    (void)ask(p, OTHER, BACKUP);
    pass(US_PER_S);
    (void)ask_of(p, WORKER, 1);
    release(LEADER);
    assert_true(has(OTHER)); /* the group went with its lease: first come, first served */
    release(OTHER);
    assert_true(has(WORKER));
    runs(WORKER, true);
    (void)ask(p, OTHER, BACKUP);
    pass(50 * US_PER_S);
    assert_int_equal(ask_of(p, WORKER + 1, 1), POOL_QUEUED);
    assert_true(t.waiters[WORKER + 1].member);
    assert_int_equal(t.waiters[WORKER + 1].due_us, 0);
    struct lane *l = p->lanes[BACKUP];
    assert_ptr_equal(queue_next(&t.upstream->queues[BACKUP], l, 0), &t.waiters[WORKER + 1]);
    assert_true(pool_cancel(&t.waiters[WORKER + 1], t.now_us, &t.actions));
    pass(15 * US_PER_S);
    (void)ask_of(p, WORKER + 1, 1); /* a minute and more behind him */
    assert_ptr_equal(queue_next(&t.upstream->queues[BACKUP], l, 0), &t.waiters[OTHER]);
    release(WORKER);
    assert_false(t.waiters[WORKER + 1].member);
    assert_true(t.waiters[WORKER + 1].due_us > t.now_us);
}

static void test_the_youngest_gives_up_where_no_place_is_left(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 4);

    (void)ask_of(p, LEADER, 1);
    pass(US_PER_S);
    (void)ask_of(p, SECOND, 2);
    for (uint32_t i = 0; i < 2; i++) {
        (void)ask_of(p, WORKER + i, 1);
        (void)ask_of(p, SECOND + 1 + i, 2);
    }
    pass(5 * US_PER_S);
    assert_int_equal(served_n(LEADER, 3) + served_n(SECOND, 3), 4);
    pass(11 * US_PER_S);
    uint32_t refused_n = 0;
    for (uint32_t i = SECOND; i < SECOND + 3; i++) {
        if (t.waiters[i].refusal != POOL_REFUSED_GROUP)
            continue;
        refused_n++;
        assert_int_equal(t.waiters[i].group_n, 3);
    }
    assert_int_equal(refused_n, 1);
    for (uint32_t i = WORKER; i < WORKER + 2; i++)
        assert_int_equal(t.waiters[i].refusal, POOL_REFUSED_NOT);
    /* Its dump ends; the other one goes on. */
    for (uint32_t i = SECOND; i < SECOND + 3; i++) {
        if (t.waiters[i].queued)
            assert_true(pool_cancel(&t.waiters[i], t.now_us, &t.actions));
        else if (has(i))
            release(i);
    }
    pass(5 * US_PER_S);
    assert_int_equal(served_n(LEADER, 3), 3);
}

/* What a breaker allows counts what runs, and nothing else. */
static void test_a_breaker_that_limits_is_obeyed(void **state)
{
    (void)state;
    struct pool *p = make_pool("shop", "dump", 20);

    (void)ask_of(p, LEADER, 1);
    runs(LEADER, false);
    for (uint32_t i = 0; i < 60; i++) { /* down to the floor: one */
        upstream_trip(t.upstream, BACKUP, t.now_us);
        pass(100 * US_PER_MS);
        if (t.upstream->tiers[BACKUP].limited)
            break;
    }
    assert_true(t.upstream->tiers[BACKUP].limited);
    uint32_t limit_n = t.upstream->shares.at[BACKUP].max_n;
    for (uint32_t i = 0; i < 10; i++)
        (void)ask_of(p, WORKER + i, 1);
    for (uint32_t step = 0; step < 20; step++) {
        for (uint32_t i = 0; i < 10; i++)
            if (has(WORKER + i))
                runs(WORKER + i, true);
        pass(100 * US_PER_MS);
        limit_n = t.upstream->shares.at[BACKUP].max_n;
        if (!t.upstream->tiers[BACKUP].limited)
            break;
        assert_true(served_n(WORKER, 10) <= limit_n + 1);
    }
    upstream_release(t.upstream, t.now_us);
}

static void test_a_base_backup_may_have_its_stream(void **state)
{
    (void)state;
    struct pool_opts opts;
    struct err err;

    pool_opts_defaults(&opts);
    opts.size_n = 2;
    struct pool *p = pool_get(t.registry,
                              &(struct pool_key){.database = "shop",
                                                 .user = "backup",
                                                 .upstream = t.upstream,
                                                 .replication = POOL_REPLICATION_PHYSICAL},
                              &opts, &err);
    (void)ask_of(p, LEADER, 1);
    runs(LEADER, true);
    (void)ask_of(p, WORKER, 1);
    assert_int_equal(served_n(LEADER, 2), 2);
}

static void test_whose_job_it_is(void **state)
{
    (void)state;
    uint8_t here[4] = {10, 0, 0, 1}, there[4] = {10, 0, 0, 2};
    struct class_facts a = {.application_name = "pg_dump",
                            .user = "u",
                            .database = "d",
                            .address = here,
                            .address_bytes = 4};
    struct class_facts b = a;

    assert_true(class_group_of(&a) != 0);
    assert_true(class_group_of(&a) == class_group_of(&b));
    b.address = there;
    assert_true(class_group_of(&a) != class_group_of(&b));
    b = a;
    b.user = "ud";
    b.database = "";
    assert_true(class_group_of(&a) != class_group_of(&b));
    b = a;
    b.application_name = "pg_restore";
    assert_true(class_group_of(&b) != 0 && class_group_of(&a) != class_group_of(&b));
    b.application_name = "psql";
    assert_true(class_group_of(&b) == 0);
    b.application_name = NULL;
    assert_true(class_group_of(&b) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_leaders_that_stand_still_do_not_count),
        SCENE(test_one_a_second_when_nothing_runs),
        SCENE(test_a_place_stays_for_who_uses_the_pool),
        SCENE(test_members_are_not_refused),
        SCENE(test_members_go_first_but_not_for_ever),
        SCENE(test_the_youngest_gives_up_where_no_place_is_left),
        SCENE(test_a_breaker_that_limits_is_obeyed),
        SCENE(test_a_base_backup_may_have_its_stream),
        cmocka_unit_test(test_whose_job_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
