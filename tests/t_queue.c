/* Order of service: keys, lanes, newest first, and deadlines. */
#include "pool/due.c"
#include "pool/queue.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct queue q;
static struct lane lane;
static struct pool_waiter ws[64];

static int fresh(void **state)
{
    (void)state;
    memset(&q, 0, sizeof(q));
    memset(&lane, 0, sizeof(lane));
    memset(ws, 0, sizeof(ws));
    q.lease_us = 1000;
    return 0;
}

static struct pool_waiter *join(uint32_t i, uint32_t key_i, uint64_t now_us)
{
    struct pool_waiter *w = &ws[i];

    w->key_i = key_i;
    w->since_us = now_us;
    queue_join(&q, w, now_us);
    queue_lane_add(&lane, w);
    return w;
}

static void leave(struct pool_waiter *w, bool served, uint64_t now_us)
{
    queue_lane_remove(&lane, w);
    queue_leave(&q, w, served, now_us);
}

/* Serves one: the lease begins, and ends after lease_us. Returns the key. */
static uint32_t serve(uint64_t lease_us)
{
    struct pool_waiter *w = queue_next(&q, &lane, 0);
    uint32_t key_i = w->key_i;

    leave(w, true, 0);
    uint32_t charged_us = queue_charge(&q, &lane, key_i);
    queue_settle(&q, &lane, key_i, charged_us, lease_us);
    return key_i;
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        (void)join(i, 3, 100 + i);
    assert_int_equal(queue_lane_since(&lane), 100);
    for (uint32_t i = 0; i < 10; i++) {
        struct pool_waiter *w = queue_next(&q, &lane, 0);
        assert_ptr_equal(w, &ws[i]);
        leave(w, true, 200);
    }
    assert_int_equal(lane.waiting_n, 0);
    assert_int_equal(q.waiting_n, 0);
    assert_int_equal(queue_since(&q), UINT64_MAX);
}

/* One key's leases take ten times as long: it gets a tenth of the turns, not half of them. */
static void test_keys_share_time_not_turns(void **state)
{
    (void)state;
    uint32_t turns[2] = {0};

    for (uint32_t i = 0; i < 40; i++)
        (void)join(i, i % 2, i);
    for (uint32_t round = 0; round < 2000; round++) {
        struct pool_waiter *w = queue_next(&q, &lane, 0);
        uint32_t key_i = serve(w->key_i == 0 ? 10000 : 1000);
        turns[key_i]++;
        (void)join((uint32_t)(w - ws), key_i, 1000 + round);
    }
    double share = (double)turns[1] / turns[0];
    assert_true(share > 8 && share < 12);
}

static void test_who_was_away_has_saved_nothing(void **state)
{
    (void)state;
    (void)join(0, 0, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(serve(1000), 0);
        (void)join(0, 0, i);
    }
    /* A newcomer takes turns with the old hand; it does not get a thousand in a row. */
    (void)join(1, 1, 2000);
    uint32_t turns[2] = {0};
    for (uint32_t i = 0; i < 20; i++) {
        struct pool_waiter *w = queue_next(&q, &lane, 0);
        uint32_t key_i = serve(1000);
        turns[key_i]++;
        (void)join((uint32_t)(w - ws), key_i, 3000 + i);
    }
    assert_true(turns[0] >= 8 && turns[1] >= 8);
}

/* An hour's statement of one key makes it the last for seconds, not for an hour. */
static void test_a_key_owes_no_hour(void **state)
{
    (void)state;
    uint64_t others_us = 0;

    (void)join(0, 0, 0);
    (void)join(1, 1, 1);
    assert_int_equal(serve(3600ull * US_PER_S), 0);
    (void)join(0, 0, 2);
    while (queue_next(&q, &lane, 0)->key_i == 1 && others_us < 60ull * US_PER_S) {
        (void)serve(10000);
        others_us += 10000;
        (void)join(1, 1, 3);
    }
    assert_true(others_us > 9ull * US_PER_S && others_us < 11ull * US_PER_S);
}

static void test_a_key_holds_half_at_most(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        (void)join(i, i < 8 ? 0 : 1, i);
    q.keys[1].served_us = 1000000; /* key 0 is far behind and would get all */
    uint32_t held[2] = {0};
    for (uint32_t i = 0; i < 4; i++) {
        struct pool_waiter *w = queue_next(&q, &lane, 0);
        held[w->key_i]++;
        leave(w, true, 0);
        (void)queue_charge(&q, &lane, w->key_i);
    }
    assert_int_equal(held[0], 2);
    assert_int_equal(held[1], 2);
    /* When nobody else waits it may have more. */
    assert_int_equal(queue_next(&q, &lane, 0)->key_i, 0);
}

static void test_own_loop_is_preferred_within_a_millisecond(void **state)
{
    (void)state;
    join(0, 0, 1000)->worker = 1;
    join(1, 0, 1500)->worker = 2;
    join(2, 0, 2500)->worker = 3;
    assert_ptr_equal(queue_next(&q, &lane, 0), &ws[0]);
    assert_ptr_equal(queue_next(&q, &lane, BIT(2)), &ws[1]);
    assert_ptr_equal(queue_next(&q, &lane, BIT(3)), &ws[0]); /* 1.5 ms younger: no */
    assert_ptr_equal(queue_next(&q, &lane, BIT(1) | BIT(2)), &ws[0]);
}

/* A standing queue alone changes nothing; with clients that give up it turns round. */
static void test_newest_first_only_in_a_hurry(void **state)
{
    (void)state;
    uint64_t now_us = 0;

    for (uint32_t i = 0; i < 20; i++)
        (void)join(i, 0, i);
    for (; now_us < 60ull * US_PER_S; now_us += 100 * US_PER_MS) {
        q.served_n += 10;
        queue_tick(&q, 0, now_us);
        assert_false(q.lifo);
        assert_null(queue_expired(&q, now_us));
    }
    for (uint32_t i = 0; i < 10; i++) { /* clients begin to leave, nobody is served */
        q.gone_n += 40;
        queue_tick(&q, 0, now_us += 100 * US_PER_MS);
    }
    assert_true(q.lifo);
    assert_ptr_equal(queue_next(&q, &lane, 0), &ws[19]);
    assert_ptr_equal(queue_expired(&q, now_us), &ws[0]);
    (void)join(20, 0, now_us);
    assert_ptr_equal(queue_next(&q, &lane, 0), &ws[20]);
    /* A database that was away is given time: the queue stands since it is back. */
    queue_tick(&q, now_us, now_us);
    assert_false(q.lifo);
    assert_ptr_equal(queue_next(&q, &lane, 0), &ws[0]);
}

/* Clients that gave up an hour ago are no reason to turn away the patient ones of today. */
static void test_a_hurry_is_forgotten(void **state)
{
    (void)state;
    uint64_t now_us = 0;

    for (uint32_t i = 0; i < 20; i++)
        (void)join(i, 0, now_us);
    for (uint32_t i = 0; i < 19; i++)
        leave(&ws[i], false, now_us);
    for (uint32_t i = 0; i < 300; i++)
        queue_tick(&q, 0, now_us += 100 * US_PER_MS);
    assert_false(q.lifo);
    assert_null(queue_expired(&q, now_us));
}

static void test_young_queues_expire_nobody(void **state)
{
    (void)state;
    (void)join(0, 0, 0);
    q.gone_n = 100;
    queue_tick(&q, 0, 6 * US_PER_S);
    assert_true(q.lifo);
    assert_null(queue_expired(&q, 6 * US_PER_S));
    q.gone_n = 100;
    queue_tick(&q, 0, 11 * US_PER_S);
    assert_ptr_equal(queue_expired(&q, 11 * US_PER_S), &ws[0]);
    q.lease_us = 2 * US_PER_S; /* ten of them are 20 s: he is not old yet */
    assert_null(queue_expired(&q, 11 * US_PER_S));
}

static void test_the_longest_backlog_loses(void **state)
{
    (void)state;
    (void)join(0, 0, 0);
    (void)join(1, 1, 1);
    (void)join(2, 1, 2);
    (void)join(3, 1, 3);
    (void)join(4, 2, 4);
    (void)join(5, 2, 5);
    assert_ptr_equal(queue_victim(&q), &ws[3]); /* key 1's newest */
    leave(&ws[3], false, 6);
    leave(&ws[2], false, 6);
    assert_ptr_equal(queue_victim(&q), &ws[5]);
}

static void test_lanes_take_turns_by_time(void **state)
{
    (void)state;
    static struct lane lanes[3];
    uint32_t turns[3] = {0};

    memset(lanes, 0, sizeof(lanes));
    for (uint32_t i = 0; i < 3; i++)
        queue_ready_add(&q, &lanes[i]);
    for (uint32_t round = 0; round < 3000; round++) {
        struct lane *l = queue_next_lane(&q);
        uint32_t i = (uint32_t)(l - lanes);
        turns[i]++;
        uint32_t charged_us = queue_charge(&q, l, 0);
        queue_settle(&q, l, 0, charged_us, i == 0 ? 5000 : 1000);
    }
    assert_true(turns[1] + turns[2] > 7 * turns[0]);
    assert_true(turns[0] > 100); /* less, not nothing */
    double share = (double)turns[1] / turns[2];
    assert_true(share > 0.8 && share < 1.25);
    queue_ready_remove(&q, &lanes[1]);
    queue_ready_remove(&q, &lanes[0]);
    assert_ptr_equal(queue_next_lane(&q), &lanes[2]);
    queue_ready_remove(&q, &lanes[2]);
    assert_null(queue_next_lane(&q));
}

static void test_the_median_is_not_moved_by_one_long_lease(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t charged_us = queue_charge(&q, &lane, 0);
        queue_settle(&q, &lane, 0, charged_us, i % 50 == 7 ? 600ull * US_PER_S : 2000);
    }
    assert_true(q.lease_us > 1500 && q.lease_us < 2600);
}

/* ---- deadlines ----------------------------------------------------------------------------- */

static struct due due;

static void test_deadlines_come_in_time(void **state)
{
    (void)state;
    uint64_t random = 3, start_us = 5000ull * US_PER_S;

    memset(&due, 0, sizeof(due));
    assert_null(due_first(&due, start_us));
    for (uint32_t i = 0; i < 64; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        /* Up to ten minutes: beyond the horizon of the wheel. */
        ws[i].due_us = i == 5 ? 0 : start_us + 1 + (random >> 33) % (600ull * US_PER_S);
        due_add(&due, &ws[i]);
    }
    due_remove(&due, &ws[9]);
    assert_int_equal(due.waiters_n, 62);
    uint32_t found_n = 0;
    for (uint64_t now_us = start_us; now_us < start_us + 700ull * US_PER_S;
         now_us += 100 * US_PER_MS) {
        struct pool_waiter *w;
        while ((w = due_first(&due, now_us)) != NULL) {
            assert_true(w->due_us <= now_us);
            assert_true(now_us <= w->due_us + 2 * DUE_SLOT_US);
            due_remove(&due, w);
            found_n++;
        }
    }
    assert_int_equal(found_n, 62);
    assert_int_equal(due.waiters_n, 0);
}

static void test_a_late_clock_finds_all(void **state)
{
    (void)state;
    memset(&due, 0, sizeof(due));
    for (uint32_t i = 0; i < 10; i++) {
        ws[i].due_us = 1000000 + i * 50000000ull;
        due_add(&due, &ws[i]);
    }
    uint32_t found_n = 0;
    for (struct pool_waiter *w; (w = due_first(&due, 3600ull * US_PER_S)) != NULL; found_n++)
        due_remove(&due, w);
    assert_int_equal(found_n, 10);
    /* And one that was late when it came. */
    ws[0].due_us = 1;
    due_add(&due, &ws[0]);
    assert_ptr_equal(due_first(&due, 3601ull * US_PER_S), &ws[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first_come_first_served, fresh),
        cmocka_unit_test_setup(test_keys_share_time_not_turns, fresh),
        cmocka_unit_test_setup(test_who_was_away_has_saved_nothing, fresh),
        cmocka_unit_test_setup(test_a_key_owes_no_hour, fresh),
        cmocka_unit_test_setup(test_a_key_holds_half_at_most, fresh),
        cmocka_unit_test_setup(test_own_loop_is_preferred_within_a_millisecond, fresh),
        cmocka_unit_test_setup(test_newest_first_only_in_a_hurry, fresh),
        cmocka_unit_test_setup(test_a_hurry_is_forgotten, fresh),
        cmocka_unit_test_setup(test_young_queues_expire_nobody, fresh),
        cmocka_unit_test_setup(test_the_longest_backlog_loses, fresh),
        cmocka_unit_test_setup(test_lanes_take_turns_by_time, fresh),
        cmocka_unit_test_setup(test_the_median_is_not_moved_by_one_long_lease, fresh),
        cmocka_unit_test_setup(test_deadlines_come_in_time, fresh),
        cmocka_unit_test_setup(test_a_late_clock_finds_all, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
