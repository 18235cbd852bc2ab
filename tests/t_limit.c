/* The knob of a class: what g means, cuts, memory of what hurt, the rise, the floor. */
#include "breaker/limit.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TRICKLE 1e6

static struct limit_opts opts;

static struct limit fresh(void)
{
    struct limit l;
    limit_opts_defaults(&opts);
    assert_true(limit_opts_check(&opts, NULL));
    limit_init(&l, &opts);
    return l;
}

static const struct limit_use busy = {
    .cap_n = 30, .active_n = 30, .queued_n = 5, .bytes_per_s = 1e9, .trickle_bytes_per_s = TRICKLE};

static void test_g_means_statements_and_bytes(void **state)
{
    (void)state;
    struct limit l = fresh();
    limit_note_rate(&l, 200e6, TRICKLE);
    assert_int_equal(limit_statements(&l, 30), 30);
    assert_true(limit_rate(&l, TRICKLE) == LIMIT_RATE_NONE);
    static const struct {
        double g;
        uint32_t statements_n;
        uint64_t rate;
    } rows[] = {
        {0.99, 30, 198000000}, {0.5, 15, 100000000}, {0.34, 11, 68000000}, {0.05, 2, 10000000},
        {0.01, 1, 2000000},    {0.001, 1, 1000000},  {0, 0, 250000},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        l.g = rows[i].g;
        assert_int_equal(limit_statements(&l, 30), rows[i].statements_n);
        assert_int_equal(limit_rate(&l, TRICKLE), rows[i].rate);
    }
    l.g = 0.5;
    limit_note_rate(&l, 1, TRICKLE); /* limited: this rate is our own doing, no reference */
    assert_true(l.rref_bytes_per_s == 200e6);
}

static void test_cut_follows_pressure_within_bounds(void **state)
{
    (void)state;
    struct limit l = fresh();
    limit_cut(&l, &opts, 1.0);
    assert_true(l.g == 0.8); /* 0.9 would be no cut worth the wait */
    limit_cut(&l, &opts, 1.8);
    assert_true(fabs(l.g - 0.4) < 1e-12);
    limit_cut(&l, &opts, 100);
    assert_true(fabs(l.g - 0.1) < 1e-12);
    for (int i = 0; i < 10; i++)
        limit_cut(&l, &opts, 1e9);
    assert_true(l.g == opts.floor);
    assert_true(limit_at_floor(&l));
}

static void test_same_level_hurting_again_is_remembered(void **state)
{
    (void)state;
    struct limit l = fresh();
    l.g = 0.40;
    limit_cut(&l, &opts, 2);
    assert_int_equal(l.bad_n, 1);
    l.g = 0.42;
    limit_cut(&l, &opts, 2);
    assert_int_equal(l.bad_n, 2);
    assert_true(l.g_bad == 0.42);
    l.g = 0.9;
    limit_cut(&l, &opts, 2);
    assert_int_equal(l.bad_n, 1);
}

static double seconds_to(struct limit *l, double g)
{
    uint32_t ticks_n = 0;
    for (; l->g < g && l->g < 1; ticks_n++) {
        assert_true(ticks_n < 100000);
        limit_raise(l, &opts, &busy);
    }
    return ticks_n / 10.0;
}

static void test_rise_is_fast_below_what_hurt_and_slow_near_it(void **state)
{
    (void)state;
    struct limit l = fresh();
    l.g = 0.1;
    l.g_bad = 0.4;
    l.bad_n = 1;
    double fast_s = seconds_to(&l, 0.34);
    assert_true(fast_s > 4 && fast_s < 6); /* ln(3.4) / ln(1.025) ticks */
    double creep_s = seconds_to(&l, 0.46);
    assert_true(fabs(creep_s - 30) < 1.5); /* 0.30 g_bad in 30 s */
    l.g = 0.34;
    l.bad_n = 3;
    creep_s = seconds_to(&l, 0.46);
    assert_true(fabs(creep_s - 120) < 5);
    l.g = 0.34;
    l.bad_n = 50;
    creep_s = seconds_to(&l, 0.46);
    assert_true(fabs(creep_s - 600) < 25);
    seconds_to(&l, 0.53);
    assert_true(l.g_bad == 0); /* 1.3 times what hurt, and unhurt */
    seconds_to(&l, 1);
    assert_true(l.g == 1);
}

static void test_unused_limit_rises_fast(void **state)
{
    (void)state;
    struct limit l = fresh();
    l.g = 0.4;
    l.g_bad = 0.4;
    l.bad_n = 10;
    l.rref_bytes_per_s = 100e6;
    struct limit_use idle = {.cap_n = 30, .active_n = 2, .trickle_bytes_per_s = TRICKLE};
    limit_raise(&l, &opts, &idle);
    assert_true(fabs(l.g - 0.41) < 1e-12);
    idle.queued_n = 1; /* somebody waits: the limit is what holds it */
    double g = l.g;
    limit_raise(&l, &opts, &idle);
    assert_true(l.g - g < 0.001);
}

static void test_jitter_stays_in_its_bounds(void **state)
{
    (void)state;
    struct limit l = fresh();
    for (double jitter = -1; jitter <= 1; jitter += 0.5) {
        l.g = 0.34;
        l.g_bad = 0.4;
        l.bad_n = 1;
        l.jitter = jitter;
        assert_true(fabs(seconds_to(&l, 0.46) - 30 * (1 + 0.2 * jitter)) < 1.5);
    }
}

static void test_conviction_at_high_pressure_takes_nearly_all(void **state)
{
    (void)state;
    struct limit l = fresh();
    l.g = 0.5;
    limit_convict(&l, &opts, 2);
    assert_true(fabs(l.g - 0.02) < 1e-12 && l.g_bad == 0.5);
    l.g = 0.5;
    limit_convict(&l, &opts, 1.8);
    assert_true(fabs(l.g - 0.25) < 1e-12);
}

static void test_pause_and_what_follows_it(void **state)
{
    (void)state;
    struct limit l = fresh();
    limit_pause(&l);
    assert_int_equal(limit_statements(&l, 30), 0);
    limit_give_back(&l, 0.5, 0);
    assert_true(l.g == 0.5 && l.g_bad == 1);
    limit_pause(&l);
    limit_absolve(&l);
    assert_true(l.g == 0.25 && l.g_bad == 0);
    l.g = opts.floor;
    limit_pause(&l);
    limit_absolve(&l);
    assert_true(l.g == opts.floor);
}

static void test_starving_class_gets_a_higher_floor(void **state)
{
    (void)state;
    struct limit l = fresh();
    l.g = opts.floor;
    uint64_t now_us = US_PER_S, minute_us = 60ull * US_PER_S;
    for (int minutes = 0; minutes <= 60; minutes++, now_us += minute_us) {
        limit_age_floor(&l, &opts, 1.2, now_us);
        double want = minutes < 10 ? 0.01 : minutes < 20 ? 0.02 : minutes < 30 ? 0.04 : 0.05;
        assert_true(l.g == want && l.floor == want);
    }
    l.g = 1;
    limit_age_floor(&l, &opts, 0, now_us);
    assert_true(l.floor == opts.floor);
    l.g = opts.floor;
    for (int minutes = 0; minutes < 60; minutes++, now_us += minute_us)
        limit_age_floor(&l, &opts, 1.6, now_us);
    assert_true(l.g == opts.floor); /* too hot for presents */
}

static void test_options_that_make_no_sense(void **state)
{
    (void)state;
    struct err err;
    static const struct limit_opts bad[] = {
        {.floor = 0, .floor_max = 0.1, .cut_min = 0.2, .cut_max = 0.8, .ramp = 1, .probe_us = 1},
        {.floor = 0.2, .floor_max = 0.1, .cut_min = 0.2, .cut_max = 0.8, .ramp = 1, .probe_us = 1},
        {.floor = 0.01, .floor_max = 0.1, .cut_min = 0.9, .cut_max = 0.8, .ramp = 1, .probe_us = 1},
        {.floor = 0.01, .floor_max = 0.1, .cut_min = 0.2, .cut_max = 1, .ramp = 1, .probe_us = 1},
        {.floor = 0.01, .floor_max = 0.1, .cut_min = 0.2, .cut_max = 0.8, .ramp = 0, .probe_us = 1},
        {.floor = 0.01, .floor_max = 0.1, .cut_min = 0.2, .cut_max = 0.8, .ramp = 1},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        err.text[0] = '\0';
        assert_false(limit_opts_check(&bad[i], &err));
        assert_true(err.text[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_g_means_statements_and_bytes),
        cmocka_unit_test(test_cut_follows_pressure_within_bounds),
        cmocka_unit_test(test_same_level_hurting_again_is_remembered),
        cmocka_unit_test(test_rise_is_fast_below_what_hurt_and_slow_near_it),
        cmocka_unit_test(test_unused_limit_rises_fast),
        cmocka_unit_test(test_jitter_stays_in_its_bounds),
        cmocka_unit_test(test_conviction_at_high_pressure_takes_nearly_all),
        cmocka_unit_test(test_pause_and_what_follows_it),
        cmocka_unit_test(test_starving_class_gets_a_higher_floor),
        cmocka_unit_test(test_options_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
