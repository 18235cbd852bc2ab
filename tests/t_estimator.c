/* The estimator: when it may speak, what it learns, what it must not, and what it takes for
 * pressure.
 */
#include "breaker/estimator.c"

#include "tests/breaker_world.h"

/* ---- warm-up
 * ------------------------------------------------------------------------------------- */

static void test_eight_seconds_of_clean_calm_are_enough(void **state)
{
    (void)state;
    fresh(true, false);
    assert_true(run(7, 30, 1000).blind);
    assert_false(run(2, 30, 1000).blind);
    works(BULK, 24, 0);
    struct pressure p = run(2, 30, 50000);
    assert_true(p.p_lat > 1);
    assert_int_equal(breaker.state, BREAKER_TEST);
}

static void test_few_samples_are_not_enough(void **state)
{
    (void)state;
    fresh(true, false);
    assert_true(run(30, 2, 1000).blind); /* 600 */
    assert_false(run(30, 2, 1000).blind);
}

static void test_learning_means_that_somebody_is_there_and_ends(void **state)
{
    (void)state;
    fresh(true, false);
    assert_false(run(5, 0, 0).learning);
    assert_true(run(5, 1, 1000).learning);
    assert_true(run(105, 0, 0).blind);
    assert_true(run(4, 1, 1000).learning);
    struct pressure p = run(4, 1, 1000);
    assert_true(p.blind && !p.learning);
    fresh(true, false);
    assert_false(run(10, 30, 1000).learning);
}

static void test_overload_from_the_first_second_is_not_the_norm(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    assert_true(run(39, 30, 50000).blind); /* not clean, and not long enough */
    works(BULK, 0, 0);
    run(9, 30, 1000);
    assert_true(estimator.clean);
    run(5, 30, 1000);
    works(BULK, 24, 0);
    run(2, 30, 50000);
    assert_int_equal(breaker.state, BREAKER_TEST);
}

static void test_work_that_never_pauses_gets_the_slow_way(void **state)
{
    (void)state;
    fresh(true, false);
    works(BACKUP, 1, 0);
    assert_true(run(39, 30, 1000).blind);
    assert_false(run(2, 30, 1000).blind);
    works(BULK, 24, 0);
    run(2, 30, 50000);
    assert_int_equal(breaker.state, BREAKER_TEST);
}

static void test_idle_time_teaches_nothing(void **state)
{
    (void)state;
    fresh(true, false);
    run(100, 0, 0);
    assert_true(run(5, 300, 1000).blind); /* 15,000 samples, of five seconds */
}

static void test_floor_keeps_fast_noise_out(void **state)
{
    (void)state;
    fresh(true, false);
    run(20, 50, 100);
    struct pressure p = run(2, 50, 1500); /* 15 times the norm, and still 2 ms */
    assert_true(p.s50 > 8 && p.p < 0.7);
}

static void test_own_pause_is_not_the_database(void **state)
{
    (void)state;
    fresh(true, false);
    run(20, 50, 1000);
    struct estimator_inflight inflight = {1, now_us, 0};
    feed(50, 900000, 0, 0);
    now_us += 900 * US_PER_MS;
    struct pressure p = judge(&inflight, 1);
    assert_true(p.lagging && p.p < 0.7);
    assert_int_equal(breaker_calm(&breaker, &p), ESTIMATOR_DISTURBED);
    estimator_tick_end(&estimator, now_us, ESTIMATOR_DISTURBED);
    estimator_observe(&estimator, 1, now_us - 900000, 900000); /* from before: not judged */
    assert_int_equal(window_slice(&estimator.window, 0)->latency.n, 0);
}

static void test_standing_queue_is_pressure_without_any_norm(void **state)
{
    (void)state;
    fresh(true, false);
    struct pressure p = {0};
    for (int i = 0; i < 12; i++) {
        now_us += 100 * US_PER_MS;
        estimator_observe_wait(&estimator, 30 * US_PER_MS);
        p = estimator_pressure(&estimator, now_us, NULL, 0, 45 * US_PER_MS);
        estimator_tick_end(&estimator, now_us, ESTIMATOR_DISTURBED);
    }
    assert_true(p.blind && p.p == 1.5 && p.p_q == 1.5);
    estimator_observe_wait(&estimator, 0); /* one got through without waiting */
    now_us += 100 * US_PER_MS;
    p = estimator_pressure(&estimator, now_us, NULL, 0, 45 * US_PER_MS);
    assert_true(p.p == 0);
}

static void test_restart_teaches_nothing_for_a_while(void **state)
{
    (void)state;
    fresh(true, false);
    run(20, 50, 1000);
    double norm = baseline_find(&estimator.baseline, 1)->mean_log2;
    estimator_settle(&estimator, now_us);
    run(29, 50, 1300);
    assert_true(baseline_find(&estimator.baseline, 1)->mean_log2 == norm);
    run(3, 50, 1300);
    assert_true(baseline_find(&estimator.baseline, 1)->mean_log2 > norm);
}

static void test_boiling_frog_is_stopped_by_the_anchor(void **state)
{
    (void)state;
    fresh(true, false);
    run(60, 30, 2000);
    for (double us = 2000; us < 40000; us *= 1.0003)
        run(1, 30, (uint64_t)us);
    struct estimator_drift drift = estimator_drift(&estimator);
    assert_int_equal(drift.held_n, 3);
    assert_true(drift.alert && drift.held_share > 0.9);
    assert_true(run(1, 30, 40000).p > 1);
}

static void test_reset_takes_today_for_normal(void **state)
{
    (void)state;
    fresh(true, false);
    run(20, 30, 1000);
    assert_true(run(3, 30, 30000).p > 1);
    estimator_reset_baseline(&estimator, now_us);
    run(20, 30, 30000);
    struct pressure p = run(1, 30, 30000);
    assert_true(!p.blind && p.p < 0.7);
}

/* ---- anchors --------------------------------------------------------------------------------- */

static void note_hour(struct anchor *a, uint32_t hour_i, double log2)
{
    for (uint32_t i = 0; i < ANCHOR_HOUR_N; i++)
        anchor_note(a, log2, hour_i);
}

static void test_anchor_is_the_best_hour_of_a_week(void **state)
{
    (void)state;
    struct anchor a = {.is_set = false};
    anchor_set(&a, 10, 0);
    note_hour(&a, 1, 9);
    assert_true(a.low_log2 == 10); /* an hour counts when it is over */
    note_hour(&a, 2, 12);
    assert_true(a.low_log2 == 9);
    for (uint32_t hour = 3; hour < 7 * 24; hour++)
        note_hour(&a, hour, 12);
    assert_true(a.low_log2 == 9);
    note_hour(&a, 7 * 24, 12); /* the day of the good hour is a week ago */
    note_hour(&a, 7 * 24 + 1, 12);
    assert_true(a.low_log2 == 12);
}

static void test_anchor_waits_for_hours_that_tell_something(void **state)
{
    (void)state;
    struct anchor a = {.is_set = false};
    anchor_set(&a, 10, 100);
    for (uint32_t hour = 101; hour < 1000; hour++)
        for (uint32_t i = 0; i < ANCHOR_HOUR_N - 1; i++)
            anchor_note(&a, 3, hour);
    assert_true(a.low_log2 == 10); /* and a week without such hours does not move it */
    note_hour(&a, 1000, 11);
    note_hour(&a, 1001, 11);
    assert_true(a.low_log2 == 11);
}

static void test_hourly_median_ignores_what_a_mean_would_not(void **state)
{
    (void)state;
    struct anchor a = {.is_set = false};
    random_state = 7;
    anchor_set(&a, 20, 0);
    for (uint32_t i = 0; i < 36000; i++) /* four in ten are 16 times slower */
        anchor_note(&a, uniform() < 0.4 ? 14 + uniform() : 9.5 + uniform(), 1);
    anchor_note(&a, 10, 2);
    assert_true(a.low_log2 > 10.2 && a.low_log2 < 10.45); /* 5/6 of the quick ones are below */
}

/* ---- norms as bytes -------------------------------------------------------------------------- */

static uint8_t saved[ESTIMATOR_BYTES_MAX];

static size_t save(void)
{
    return estimator_save(&estimator, now_us, saved, sizeof saved);
}

static bool load(size_t n, uint64_t away_us, struct err *err)
{
    return estimator_load(&estimator, now_us, away_us, saved, n, err);
}

static void test_restart_in_an_overload_does_not_learn_it(void **state)
{
    (void)state;
    struct err err;
    fresh(true, false);
    run(60, 30, 1000);
    double norm = baseline_find(&estimator.baseline, 2)->mean_log2;
    size_t n = save();
    fresh(true, false);
    works(BULK, 24, 0);
    assert_true(load(n, 60ull * US_PER_S, &err));
    assert_true(fabs(baseline_find(&estimator.baseline, 2)->mean_log2 - norm) < 1e-5);
    struct pressure p = run(1, 30, 50000);
    assert_true(!p.blind && p.p_lat > 1);
    run(1, 30, 50000);
    assert_int_equal(breaker.state, BREAKER_TEST);
    fresh(true, false); /* without a file it is blind, and learns nothing either */
    works(BULK, 24, 0);
    assert_true(run(20, 30, 50000).blind);
}

static void test_saved_is_loaded_is_saved(void **state)
{
    (void)state;
    static uint8_t first[ESTIMATOR_BYTES_MAX];
    struct err err;
    fresh(true, false);
    run(60, 30, 1000);
    for (uint64_t i = 0; i < 9000; i++) { /* the table full, and overfull */
        for (int k = 0; k < 40; k++)
            estimator_observe(&estimator, 1000 + i * 977, now_us, 700 + i);
        if (i % 100 == 0)
            run_tick(0, 0);
    }
    run_tick(0, 0);
    size_t n = save();
    assert_true(n > 100000 && n <= ESTIMATOR_BYTES_MAX);
    memcpy(first, saved, n);
    assert_true(load(n, 0, &err));
    assert_int_equal(save(), n);
    uint32_t missed_n = estimator.baseline.missed_n;
    assert_int_equal(missed_n, 0);
    assert_true(estimator.anchored && estimator.usable && estimator.clean);
    assert_memory_equal(first, saved, 64);
}

static void test_time_away_counts_for_anchors(void **state)
{
    (void)state;
    struct err err;
    fresh(true, false);
    run(60, 30, 1000);
    size_t n = save();
    assert_true(load(n, 50ull * 3600 * US_PER_S, &err));
    assert_int_equal(estimator.hours_before, 50);
}

static void test_no_byte_may_be_wrong(void **state)
{
    (void)state;
    struct err err;
    fresh(true, false);
    run(60, 30, 1000);
    size_t n = save();
    estimator_reset_baseline(&estimator, now_us);
    for (size_t i = 0; i < n; i++) {
        saved[i] ^= 0x40;
        assert_false(load(n, 0, &err));
        assert_false(load(i, 0, &err));
        saved[i] ^= 0x40;
    }
    assert_false(estimator.usable); /* and nothing was taken over */
    assert_int_equal(estimator.baseline.used_n, 0);
    assert_true(load(n, 0, &err));
}

/* As a file may say, whoever wrote it. */
static void test_a_full_count_stays_full(void **state)
{
    (void)state;
    fresh(true, false);
    run(60, 30, 1000);
    estimator.calm_ticks_n = UINT32_MAX - 1;
    run(5, 30, 1000);
    assert_int_equal(estimator.calm_ticks_n, UINT32_MAX);
    assert_true(isfinite(estimator.calm50_log2) && isfinite(estimator.calm90_log2));
}

/* ---- who is slow ----------------------------------------------------------------------------- */

static void test_the_slowest_are_named(void **state)
{
    (void)state;
    struct estimator_slow slow[ESTIMATOR_SLOWEST];
    fresh(true, false);
    run(60, 30, 1000);
    estimator_slowest(&estimator, slow);
    assert_int_equal(slow[0].fingerprint, 0);
    for (int i = 0; i < 100; i++) {
        run_tick(30, 1000);
        for (int k = 0; k < 5; k++)
            estimator_observe(&estimator, 2, now_us, 64000);
    }
    struct estimator_inflight stuck = {3, now_us - 1000000, 0};
    (void)judge(&stuck, 1);
    estimator_slowest(&estimator, slow);
    assert_true(slow[0].fingerprint == 3 && slow[0].slowdown > 500 && slow[0].n == 0);
    assert_true(slow[1].fingerprint == 2 && slow[1].slowdown > 3 && slow[1].n > 3);
    assert_int_equal(slow[2].fingerprint, 0);
    assert_true(baseline_share(&estimator.baseline, baseline_find(&estimator.baseline, 2)) > 0.5);
}

/* ---- anything at all ---------------------------------------------------------------------- */

static void test_pressure_is_a_number_whatever_comes(void **state)
{
    (void)state;
    fresh(true, false);
    for (int i = 0; i < 3000; i++) {
        now_us += (uint64_t)(uniform() * 150) * US_PER_MS;
        for (int j = 0; j < 20; j++) {
            uint64_t service_us = (uint64_t)exp2(uniform() * 63);
            estimator_observe(&estimator, (uint64_t)(uniform() * 6),
                              (uint64_t)(uniform() * 2 * (double)now_us), service_us);
        }
        struct estimator_inflight inflight = {(uint64_t)(uniform() * 6),
                                              (uint64_t)(uniform() * 2 * (double)now_us),
                                              (uint64_t)(uniform() * (double)now_us)};
        struct pressure p =
            estimator_pressure(&estimator, now_us, &inflight, 1, (uint64_t)exp2(uniform() * 50));
        assert_true(p.p >= 0 && isfinite(p.p));
        assert_true(isfinite(p.s50) && isfinite(p.s90) && isfinite(p.p99_us));
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, (enum estimator_calm)(uniform() * 3));
    }
}

static void test_options_that_make_no_sense(void **state)
{
    (void)state;
    struct err err;
    struct estimator_opts good = estimator_defaults(), bad;
#define REFUSED(field, value)                                                                      \
    bad = good;                                                                                    \
    bad.field = value;                                                                             \
    assert_false(estimator_opts_check(&bad, &err))
    REFUSED(slow50, 1);
    REFUSED(lat_floor_us, 0);
    REFUSED(slices_n_min, WINDOW_SLICES + 1);
    REFUSED(n_min, 0);
    REFUSED(rise_us, 0);
    REFUSED(anchor_cap, 0.9);
    REFUSED(lag_us, 1000);
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eight_seconds_of_clean_calm_are_enough),
        cmocka_unit_test(test_few_samples_are_not_enough),
        cmocka_unit_test(test_learning_means_that_somebody_is_there_and_ends),
        cmocka_unit_test(test_overload_from_the_first_second_is_not_the_norm),
        cmocka_unit_test(test_work_that_never_pauses_gets_the_slow_way),
        cmocka_unit_test(test_idle_time_teaches_nothing),
        cmocka_unit_test(test_floor_keeps_fast_noise_out),
        cmocka_unit_test(test_own_pause_is_not_the_database),
        cmocka_unit_test(test_standing_queue_is_pressure_without_any_norm),
        cmocka_unit_test(test_restart_teaches_nothing_for_a_while),
        cmocka_unit_test(test_boiling_frog_is_stopped_by_the_anchor),
        cmocka_unit_test(test_anchor_is_the_best_hour_of_a_week),
        cmocka_unit_test(test_anchor_waits_for_hours_that_tell_something),
        cmocka_unit_test(test_hourly_median_ignores_what_a_mean_would_not),
        cmocka_unit_test(test_restart_in_an_overload_does_not_learn_it),
        cmocka_unit_test(test_saved_is_loaded_is_saved),
        cmocka_unit_test(test_time_away_counts_for_anchors),
        cmocka_unit_test(test_no_byte_may_be_wrong),
        cmocka_unit_test(test_a_full_count_stays_full),
        cmocka_unit_test(test_the_slowest_are_named),
        cmocka_unit_test(test_reset_takes_today_for_normal),
        cmocka_unit_test(test_pressure_is_a_number_whatever_comes),
        cmocka_unit_test(test_options_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
