/* Refusals that are held back: how long, and of whom. */
#include "pool/retry.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct retry_table table;
static struct retry_budget budget;

static int fresh(void **state)
{
    (void)state;
    memset(&table, 0, sizeof(table));
    memset(&budget, 0, sizeof(budget));
    return 0;
}

static void test_each_refusal_is_held_longer(void **state)
{
    (void)state;
    uint64_t most_us = 0, least_us = UINT64_MAX;

    for (uint64_t random = 0; random < 3 * US_PER_S; random += 997) {
        uint64_t us = retry_delay_us(0, false, random);
        most_us = us > most_us ? us : most_us;
        least_us = us < least_us ? us : least_us;
        assert_in_range(us, RETRY_US_MIN, US_PER_S);
        for (uint32_t n = 0; n < 3; n++)
            assert_int_equal(retry_delay_us(n + 1, false, random),
                             2 * retry_delay_us(n, false, random) < RETRY_US_MAX
                                 ? 2 * retry_delay_us(n, false, random)
                                 : retry_delay_us(n + 1, false, random));
        assert_int_equal(retry_delay_us(1, false, random), retry_delay_us(0, true, random));
        assert_in_range(retry_delay_us(UINT32_MAX - 1, false, random), RETRY_US_MAX - US_PER_S,
                        RETRY_US_MAX);
    }
    assert_true(least_us < 2 * RETRY_US_MIN && most_us > 900 * US_PER_MS);
}

static void test_a_minute_forgives(void **state)
{
    (void)state;
    uint64_t now_us = 1000ull * US_PER_S;

    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(retry_note(&table, 7, now_us += 59ull * US_PER_S), i);
    assert_int_equal(retry_note(&table, 8, now_us), 0); /* somebody else */
    assert_int_equal(retry_note(&table, 7, now_us += 60ull * US_PER_S), 0);
    assert_int_equal(retry_note(&table, 0, now_us), 0); /* an address like any other */
    assert_int_equal(retry_note(&table, 0, now_us), 1);
}

/* Whoever hammers is not forgotten because many others are refused once. */
static void test_many_addresses(void **state)
{
    (void)state;
    uint64_t now_us = 1000ull * US_PER_S, random = 1;
    uint32_t n = 0;

    for (uint32_t i = 0; i < 100000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        (void)retry_note(&table, random >> 11, now_us += 100);
        if (i % 10 == 0)
            n = retry_note(&table, 42, now_us);
    }
    assert_int_equal(n, 9999);
}

static void ticks(uint32_t n, uint64_t arrive_n, uint64_t refuse_n, uint64_t *now_us)
{
    for (uint32_t i = 0; i < n; i++)
        retry_tick(&budget, budget.arrived_n + arrive_n, budget.refused_n + refuse_n,
                   *now_us += 100 * US_PER_MS);
}

static void test_a_budget_takes_ten_seconds(void **state)
{
    (void)state;
    uint64_t now_us = 1000ull * US_PER_S;

    ticks(600, 100, 9, &now_us);
    assert_false(budget.over);
    ticks(95, 100, 12, &now_us);
    assert_false(budget.over);
    ticks(20, 100, 12, &now_us);
    assert_true(budget.over);
    ticks(20, 100, 5, &now_us);
    assert_false(budget.over);
    /* A burst of refusals is not the rule. */
    for (uint32_t i = 0; i < 20; i++) {
        ticks(50, 100, 30, &now_us);
        assert_false(budget.over);
        ticks(30, 100, 0, &now_us);
    }
    ticks(1000, 0, 0, &now_us);
    assert_false(budget.over);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_each_refusal_is_held_longer, fresh),
        cmocka_unit_test_setup(test_a_minute_forgives, fresh),
        cmocka_unit_test_setup(test_many_addresses, fresh),
        cmocka_unit_test_setup(test_a_budget_takes_ten_seconds, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
