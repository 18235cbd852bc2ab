/* What the breaker says of its classes, what observing counts, and the clean probe. */
#include "breaker/breaker.h"

#include "tests/breaker_world.h"

static enum breaker_verdict verdict(int class_i)
{
    return breaker.classes[class_i].verdict;
}

static void set_mode(int class_i, enum breaker_mode mode)
{
    struct breaker_class_opts opts = breaker.classes[class_i].opts;
    opts.mode = mode;
    breaker_set_class(&breaker, (uint32_t)class_i, &opts);
}

/* ---- verdicts ---------------------------------------------------------------------------------
 */

static void test_verdicts_of_a_culprit(void **state)
{
    (void)state;
    fresh(true, false);
    assert_int_equal(verdict(BULK), BREAKER_IS_NONE);
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(verdict(BULK), BREAKER_IS_TESTING);
    works(BULK, 0, 0);
    steps(0.3, 5);
    assert_int_equal(verdict(BULK), BREAKER_IS_SUSPECT);
    works(BULK, 15, 0);
    steps(1.5, 7);
    assert_int_equal(verdict(BULK), BREAKER_IS_CULPRIT);
    assert_int_equal(verdict(BACKUP), BREAKER_IS_NONE);
    assert_int_equal(breaker.verdicts_n[BREAKER_IS_CULPRIT], 1);
    assert_true(breaker.classes[BULK].held_us >= 500 * US_PER_MS);
    assert_true(breaker.classes[BULK].held_us <= 600 * US_PER_MS);
    assert_true(breaker.classes[BULK].limited_us > breaker.classes[BULK].held_us);
}

static void test_verdicts_of_the_innocent(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    works(BACKUP, 1, 0);
    while (breaker.state != BREAKER_EXONERATED)
        step(4);
    assert_int_equal(verdict(BULK), BREAKER_IS_EXONERATED);
    assert_int_equal(verdict(BACKUP), BREAKER_IS_EXONERATED);
    assert_int_equal(breaker.verdicts_n[BREAKER_IS_EXONERATED], 1);
}

static void test_a_class_held_beside_the_suspect_is_undecided(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    works(BACKUP, 1, 0);
    while (breaker.suspect_i != BULK)
        step(4);
    steps(0.2, 5);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
    assert_int_equal(verdict(BACKUP), BREAKER_IS_UNDECIDED);
    assert_int_equal(verdict(BULK), BREAKER_IS_SUSPECT);
}

static void test_verdict_by_hand_and_of_a_trial_broken_off(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(4, 10);
    breaker_release(&breaker, &estimator, now_us);
    assert_int_equal(verdict(BULK), BREAKER_IS_NONE);
    breaker_trip(&breaker, BULK, now_us);
    assert_int_equal(verdict(BULK), BREAKER_IS_BY_HAND);
}

static void test_every_verdict_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < BREAKER_VERDICTS_N; i++)
        assert_true(strlen(breaker_verdict_name((enum breaker_verdict)i)) > 0);
    assert_string_equal(breaker_verdict_name(BREAKER_IS_FALSE_ALARM), "false_alarm");
}

/* ---- an alert that helps --------------------------------------------------------------------- */

static void test_exonerated_names_who_is_slow(void **state)
{
    (void)state;
    fresh(true, false);
    run(60, 30, 1000);
    works(BULK, 24, 0);
    for (int i = 0; i < 200 && breaker.state != BREAKER_EXONERATED; i++) {
        for (int k = 0; k < 20; k++) /* statement 2 alone waits for something */
            estimator_observe(&estimator, 2, now_us + 100 * US_PER_MS, 80000);
        run_tick(3, 1000);
    }
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
    assert_int_equal(last()->slowest[0].fingerprint, 2);
    assert_true(last()->slowest[0].slowdown > 8);
    assert_non_null(strstr(last()->why, "not caused by sheddable classes"));
    assert_non_null(strstr(last()->why, "slowest: 0000000000000002 "));
}

/* ---- observing ------------------------------------------------------------------------------- */

static void test_observing_counts_what_enforcing_would_do(void **state)
{
    (void)state;
    fresh(true, true);
    struct breaker_class_opts opts = breaker.classes[BULK].opts;
    opts.mode = BREAKER_OBSERVE;
    opts.deadline_us = 5ull * US_PER_S;
    breaker_set_class(&breaker, BULK, &opts);
    works(BULK, 24, 24);
    const struct breaker_class *c = &breaker.classes[BULK];
    for (int i = 0; i < 60; i++) {
        use[BULK].granted_n += 2;
        step(5);
        assert_false(c->ask.limited);
    }
    assert_true(c->would_wait_n > 0 && c->would_refuse_n == 0);
    assert_true(c->asked_cancels_n > 0 && c->held_us > US_PER_S);
    uint64_t waited_n = c->would_wait_n;
    for (int i = 0; i < 100; i++) {
        use[BULK].granted_n += 2;
        step(5);
    }
    assert_true(c->would_refuse_n > 100);
    assert_true(c->would_wait_n >= waited_n);
    uint64_t all_n = c->would_wait_n + c->would_refuse_n;
    set_mode(BULK, BREAKER_ENFORCE);
    for (int i = 0; i < 50; i++) {
        use[BULK].granted_n += 2;
        step(5);
    }
    assert_int_equal(c->would_wait_n + c->would_refuse_n, all_n); /* it does, then */
}

/* ---- clean probe ----------------------------------------------------------------------------- */

static void fresh_with_probe(void)
{
    fresh(true, false);
    breaker.opts.clean_us = 60ull * US_PER_S;
    assert_true(breaker_opts_check(&breaker.opts, NULL));
}

/* Statements take so long while bulk runs, and so long while it is held. */
static struct pressure live(uint32_t ticks_n, uint64_t beside_us, uint64_t alone_us)
{
    struct pressure p = {0};
    for (uint32_t i = 0; i < ticks_n; i++) {
        bool alone = breaker.clean_since_us > 0 && now_us - breaker.clean_since_us > 50 * US_PER_MS;
        p = run_tick(30, alone ? alone_us : beside_us);
    }
    return p;
}

static void test_clean_probe_learns_from_its_window_alone(void **state)
{
    (void)state;
    fresh_with_probe();
    works(BULK, 5, 0);
    live(6000, 1500, 1000);
    assert_true(breaker.cleans_n >= 20);
    assert_true(estimator.clean && estimator.usable);
    double norm = exp2(baseline_find(&estimator.baseline, 1)->mean_log2);
    assert_true(norm > 850 && norm < 1150);
    uint64_t cleans_n = breaker.cleans_n;
    live(6000, 1500, 1000);
    assert_in_range(breaker.cleans_n - cleans_n, 9, 11); /* a minute apart from now on */
    fresh(true, false); /* without it the norm is what there is beside the bulk */
    works(BULK, 5, 0);
    live(6000, 1500, 1000);
    assert_true(exp2(baseline_find(&estimator.baseline, 1)->mean_log2) > 1300);
}

static void test_clean_probe_holds_for_half_a_second(void **state)
{
    (void)state;
    fresh_with_probe();
    works(BULK, 5, 0);
    uint32_t held_n = 0;
    for (int i = 0; i < 600; i++) {
        run_tick(30, 1000);
        held_n += breaker.classes[BULK].ask.held;
        assert_int_equal(breaker.state, BREAKER_CLOSED);
        assert_true(g(BULK) == 1);
    }
    assert_int_equal(held_n, 5 * breaker.cleans_n);
    assert_int_equal(breaker.classes[BULK].held_us, held_n * 100 * US_PER_MS);
}

static void test_clean_probe_needs_work_it_can_stop(void **state)
{
    (void)state;
    fresh_with_probe();
    works(BULK, 5, 5); /* no bytes to hold back */
    live(1000, 1000, 1000);
    assert_int_equal(breaker.cleans_n, 0);
    works(BULK, 0, 0); /* nothing to stop at all */
    live(1000, 1000, 1000);
    assert_int_equal(breaker.cleans_n, 0);
    works(BULK, 5, 0);
    set_mode(BULK, BREAKER_OBSERVE);
    live(1000, 1000, 1000);
    assert_int_equal(breaker.cleans_n, 0);
}

/* What never pauses and cannot be held leaves no window: then norms are learnt as without one. */
static void test_clean_probe_without_a_window_stops_no_learning(void **state)
{
    (void)state;
    fresh_with_probe();
    live(600, 1000, 1000);
    works(BULK, 5, 5);
    live(600, 1000, 1000);
    double norm_log2 = baseline_find(&estimator.baseline, 1)->mean_log2;
    live(2000, 1100, 1100); /* not yet: a window may still come */
    assert_true(baseline_find(&estimator.baseline, 1)->mean_log2 == norm_log2);
    live(6000, 1100, 1100);
    assert_true(baseline_find(&estimator.baseline, 1)->mean_log2 > norm_log2);
    works(BULK, 5, 0); /* it can be held again */
    live(700, 1100, 1000);
    norm_log2 = baseline_find(&estimator.baseline, 1)->mean_log2;
    struct pressure p = run_tick(30, 1300);
    assert_int_equal(breaker_calm(&breaker, &p), ESTIMATOR_DISTURBED);
}

static void test_clean_probe_gives_way_to_pressure(void **state)
{
    (void)state;
    fresh_with_probe();
    works(BULK, 5, 0);
    while (breaker.clean_since_us == 0)
        run_tick(30, 1000);
    step(2);
    assert_false(breaker.classes[BULK].ask.held);
    steps(2, 9);
    assert_int_equal(breaker.state, BREAKER_TEST);
    assert_true(breaker.classes[BULK].limit.rref_bytes_per_s == 50000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts_of_a_culprit),
        cmocka_unit_test(test_verdicts_of_the_innocent),
        cmocka_unit_test(test_a_class_held_beside_the_suspect_is_undecided),
        cmocka_unit_test(test_verdict_by_hand_and_of_a_trial_broken_off),
        cmocka_unit_test(test_every_verdict_has_a_name),
        cmocka_unit_test(test_exonerated_names_who_is_slow),
        cmocka_unit_test(test_observing_counts_what_enforcing_would_do),
        cmocka_unit_test(test_clean_probe_learns_from_its_window_alone),
        cmocka_unit_test(test_clean_probe_holds_for_half_a_second),
        cmocka_unit_test(test_clean_probe_needs_work_it_can_stop),
        cmocka_unit_test(test_clean_probe_without_a_window_stops_no_learning),
        cmocka_unit_test(test_clean_probe_gives_way_to_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
