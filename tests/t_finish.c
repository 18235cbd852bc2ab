/* Runs that will not be done in time. */
#include "pool/finish.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MB = 1000000 };

static struct finish f;
static uint64_t now_us, bytes_n;
static uint32_t said_n;

static int fresh(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    now_us = 1000ull * US_PER_S;
    bytes_n = 77;
    said_n = 0;
    return 0;
}

/* Seconds with so many leases, at so many bytes a second; a new run is due in an hour. */
static void lives(uint32_t seconds, uint32_t leased_n, uint64_t speed)
{
    for (uint32_t i = 0; i < seconds; i++) {
        now_us += US_PER_S;
        bytes_n += speed;
        said_n += finish_tick(&f, leased_n, bytes_n, now_us, now_us + 3600ull * US_PER_S);
    }
}

static void test_nothing_is_known_of_the_first(void **state)
{
    (void)state;
    lives(3500, 1, MB);
    assert_false(f.late);
    lives(200, 2, MB);
    assert_true(f.late);
    assert_int_equal(said_n, 1);
    assert_int_equal(f.needed_bytes_per_s, 0);
    lives(61, 0, 0);
    assert_false(f.late);
    assert_false(f.runs);
    assert_int_equal(f.last_bytes_n, 3700ull * MB - MB); /* counted from its first look */
}

static void test_the_next_is_compared_with_the_last(void **state)
{
    (void)state;
    lives(1000, 1, 3 * MB);
    lives(100, 0, 0);
    lives(59, 1, MB / 2); /* 3 GB at 0.5 MB/s: 6000 s; too early to say */
    assert_false(f.late);
    lives(10, 1, MB / 2);
    assert_true(f.late);
    assert_int_equal(said_n, 1);
    assert_in_range(f.needed_bytes_per_s, 800000, 900000);
    lives(600, 1, 3 * MB); /* it is let on, and makes up for it */
    assert_false(f.late);
    lives(100, 0, 0);
    assert_int_equal(said_n, 1);
}

/* Now just in time and now just not: that is one alert, not one a second. */
static void test_a_close_thing_is_told_once(void **state)
{
    (void)state;
    lives(3500, 1, MB);
    lives(100, 0, 0);
    said_n = 0;
    lives(70, 1, MB * 9 / 10);
    assert_true(f.late);
    lives(60, 1, 3 * MB);
    assert_false(f.late);
    lives(200, 1, 0);
    assert_true(f.late);
    assert_int_equal(said_n, 1);
}

static void test_short_pauses_are_of_the_run(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 30; i++) {
        lives(10, 1, MB);
        lives(50, 0, 0);
    }
    assert_true(f.runs);
    lives(20, 0, 0);
    assert_false(f.runs);
    assert_int_equal(f.last_bytes_n, 299ull * MB);
    /* One that came to nothing says nothing of the next. */
    lives(5, 1, MB);
    lives(70, 0, 0);
    assert_int_equal(f.last_bytes_n, 299ull * MB);
    assert_int_equal(said_n, 0);
}

static void test_one_that_stands_is_late(void **state)
{
    (void)state;
    lives(100, 1, MB);
    lives(100, 0, 0);
    lives(70, 1, 0);
    assert_true(f.late);
    assert_int_equal(said_n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_is_known_of_the_first, fresh),
        cmocka_unit_test_setup(test_the_next_is_compared_with_the_last, fresh),
        cmocka_unit_test_setup(test_a_close_thing_is_told_once, fresh),
        cmocka_unit_test_setup(test_short_pauses_are_of_the_run, fresh),
        cmocka_unit_test_setup(test_one_that_stands_is_late, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
