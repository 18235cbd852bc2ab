/* Classes whose running work nothing reaches, and estimator and breaker in a closed loop.
 *
 * The loop is closed by a database in a nutshell: the latency of the users
 * follows the readers the breaker lets in, the readers come in a storm, and each runs for a while.
 * What is asked is what an operator would ask: how long did users suffer, and did the readers get
 * on? The database: eight readers fit, more slow everyone down by the square. */
#include "tests/breaker_world.h"

#include <stdio.h>

/* ---- classes that cannot be paced
 * ---------------------------------------------------------------- */

static void test_unpaced_work_is_given_time_to_drain(void **state)
{
    (void)state;
    fresh(false, false);
    breaker.opts.start_n = 0;
    works(BULK, 24, 0);
    steps(4, 10);
    for (uint32_t n = 24; n > 0; n--) { /* three a second */
        works(BULK, n, 0);
        steps(4, 3);
        assert_int_equal(breaker.state, BREAKER_TEST);
    }
    works(BULK, 0, 0);
    steps(0.3, 3);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_true(g(BULK) == 0.02); /* half at once could not be taken back */
    assert_int_equal(breaker.confirmed_n, 1);
}

static void test_unpaced_work_that_outlasts_us_is_judged_later(void **state)
{
    (void)state;
    for (int guilty = 0; guilty < 2; guilty++) {
        fresh(false, false);
        breaker.opts.start_n = 0;
        works(BULK, 24, 0);
        steps(4, 10);
        while (breaker.state == BREAKER_TEST)
            step(4);
        assert_int_equal(breaker.state, BREAKER_THROTTLED);
        assert_non_null(strstr(breaker_last_reason(&breaker), "no verdict"));
        assert_true(g(BULK) == 0.01 && breaker.classes[BULK].ask.limit_n == 1);
        steps(4, 300);
        assert_int_equal(breaker.exonerated_n, 0);
        works(BULK, 1, 0);
        steps(4, 14); /* its end is too fresh to show */
        assert_int_equal(breaker.exonerated_n, 0);
        steps(guilty ? 0.3 : 4, 10);
        assert_int_equal(breaker.exonerated_n, !guilty);
        assert_int_equal(breaker.confirmed_n, guilty);
    }
}

static void test_unpaced_work_whose_end_helps_in_part_stays_down(void **state)
{
    (void)state;
    fresh(false, false);
    breaker.opts.start_n = 0;
    works(BULK, 24, 0);
    steps(4, 10);
    while (breaker.state == BREAKER_TEST)
        step(4);
    works(BULK, 1, 0);
    steps(1.5, 100);
    assert_int_equal(breaker.exonerated_n, 0);
    assert_int_equal(breaker.confirmed_n, 1);
    assert_true(g(BULK) == 0.01);
}

/* The class asks for 24 and gets what it may. */
static void press(double p, uint32_t ticks_n)
{
    while (ticks_n-- > 0) {
        uint32_t limit_n = breaker.classes[BULK].ask.limit_n;
        works(BULK, limit_n < 24 ? limit_n : 24, 0);
        use[BULK].queued_n = 24 - use[BULK].active_n;
        step(p);
    }
}

static void test_unpaced_class_eases_in_while_all_is_well(void **state)
{
    (void)state;
    fresh(false, false);
    steps(0.1, 10);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 1);
    steps(0.1, 600); /* nobody asks: it stays */
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 1);
    press(0.1, 30);
    uint32_t after_3_s = breaker.classes[BULK].ask.limit_n;
    assert_true(after_3_s >= 3 && after_3_s <= 5);
    press(0.5, 100); /* they feel it, though it is tolerated: no more */
    assert_int_equal(breaker.classes[BULK].ask.limit_n, after_3_s);
    char text[120];
    assert_non_null(
        strstr(breaker_explain(&breaker, BULK, now_us, text, sizeof text), "little by"));
    press(0.1, 120);
    assert_true(breaker.classes[BULK].ask.limit_n >= 24);
    assert_int_equal(breaker.transitions_n, 0);
}

static void test_unpaced_class_forgets_its_level_as_it_rests(void **state)
{
    (void)state;
    fresh(false, false);
    press(0.1, 300);
    assert_true(g(BULK) > 0.7);
    works(BULK, 0, 0);
    use[BULK].queued_n = 0;
    steps(0.1, 99);
    double level = g(BULK);
    steps(0.1, 1);
    assert_true(g(BULK) == level / 2);
    steps(0.1, 500);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 1);
}

static void test_unpaced_class_waits_for_the_norm_to_be_known(void **state)
{
    (void)state;
    fresh(false, false);
    struct pressure blind = {.blind = true, .learning = true};
    for (int i = 0; i < 100; i++) {
        works(BULK, 2, 0);
        use[BULK].queued_n = 22;
        now_us += 100 * US_PER_MS;
        breaker_tick(&breaker, &estimator, &blind, use, now_us);
        assert_int_equal(breaker.classes[BULK].ask.limit_n, 1);
    }
    blind.learning = false; /* nobody there who could be hurt */
    now_us += 100 * US_PER_MS;
    breaker_tick(&breaker, &estimator, &blind, use, now_us);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 2);
}

static void test_contented_class_does_not_keep_the_breaker_from_closing(void **state)
{
    (void)state;
    fresh(false, false);
    breaker_trip(&breaker, BULK, now_us);
    steps(0.1, 120);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_true(g(BULK) < 0.1);
}

static void test_short_unpaced_statements_go_through_probation(void **state)
{
    (void)state;
    fresh(false, false);
    breaker.opts.start_n = 0;
    works(BULK, 24, 0);
    steps(4, 10);
    works(BULK, 0, 0);
    steps(0.3, 5);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
}

/* ---- the closed loop ----------------------------------------------------------------------- */

enum { READERS_MAX = 64, FIT_N = 8 };
#define READER_BYTES_PER_S 50e6

struct storm {
    uint32_t readers_n;
    uint64_t reader_us; /* each runs so long when alone */
    bool paced, cancelled, guilty;
    uint32_t seconds;
};

struct outcome {
    uint32_t bad_ticks_n; /* users at more than three times their norm */
    double read_share;    /* of what eight readers would have got done */
};

static double left_us[READERS_MAX]; /* of running readers; 0: waits */

static void let_in(const struct storm *storm)
{
    uint32_t active_n = 0;
    for (uint32_t i = 0; i < storm->readers_n; i++)
        active_n += left_us[i] > 0;
    for (uint32_t i = 0; i < storm->readers_n; i++)
        if (left_us[i] <= 0 && active_n < breaker.classes[BULK].ask.limit_n) {
            left_us[i] = (double)storm->reader_us * (0.5 + uniform());
            active_n++;
        }
}

/* Readers run for a tick; returns the load they are, in readers at full speed. */
static double read_on(const struct storm *storm)
{
    const struct breaker_ask *ask_bulk = &breaker.classes[BULK].ask;
    double running_n = 0;
    for (uint32_t i = 0; i < storm->readers_n; i++)
        running_n += left_us[i] > 0;
    double allowed = 1;
    if (storm->paced && ask_bulk->rate_bytes_per_s != LIMIT_RATE_NONE)
        allowed =
            fmin(1, (double)ask_bulk->rate_bytes_per_s / READER_BYTES_PER_S / fmax(1, running_n));
    double load = running_n * allowed;
    double speed = load > FIT_N ? allowed * FIT_N / load : allowed;
    for (uint32_t i = 0; i < storm->readers_n; i++)
        if (left_us[i] > 0)
            left_us[i] = fmax(0, left_us[i] - speed * 100 * US_PER_MS);
    use[BULK].active_n = (uint32_t)running_n;
    use[BULK].queued_n = storm->readers_n - use[BULK].active_n;
    use[BULK].bytes_per_s = (uint64_t)(running_n * speed * READER_BYTES_PER_S);
    return load;
}

static struct outcome play(const struct storm *storm)
{
    fresh(storm->paced, storm->cancelled);
    memset(left_us, 0, sizeof left_us);
    run(20, 30, 2000);
    struct outcome outcome = {0};
    for (uint32_t i = 0; i < storm->seconds * 10; i++) {
        let_in(storm);
        double load = read_on(storm);
        outcome.read_share +=
            (double)use[BULK].bytes_per_s / (FIT_N * READER_BYTES_PER_S * storm->seconds * 10);
        double slow = storm->guilty ? 1 + (load / FIT_N) * (load / FIT_N) : 10;
        run_tick(30, (uint64_t)(2000 * slow));
        outcome.bad_ticks_n += slow > 3;
    }
    printf("readers of %.0f s, %s, %s: %u bad ticks of %u, %.0f %% read, %s\n",
           (double)storm->reader_us / US_PER_S, storm->paced ? "paced" : "held only",
           storm->guilty ? "guilty" : "innocent", outcome.bad_ticks_n, storm->seconds * 10,
           100 * outcome.read_share, breaker_state_name(breaker.state));
    return outcome;
}

static void test_hold_alone_protects_from_readers_of_any_length(void **state)
{
    (void)state;
    for (uint64_t reader_s = 1; reader_s <= 64; reader_s *= 4) {
        struct outcome o = play(&(struct storm){
            .readers_n = 24, .reader_us = reader_s * US_PER_S, .guilty = true, .seconds = 120});
        assert_true(o.bad_ticks_n <= 30);
        assert_true(o.read_share > 0.3);
    }
}

static void test_pace_protects_and_lets_more_through(void **state)
{
    (void)state;
    for (uint64_t reader_s = 1; reader_s <= 64; reader_s *= 4) {
        struct outcome o = play(&(struct storm){.readers_n = 24,
                                                .reader_us = reader_s * US_PER_S,
                                                .paced = true,
                                                .guilty = true,
                                                .seconds = 120});
        assert_true(o.bad_ticks_n <= 30);
        assert_true(o.read_share > 0.3);
    }
}

static void test_innocent_readers_go_on(void **state)
{
    (void)state;
    for (int paced = 0; paced < 2; paced++) {
        struct outcome o = play(&(struct storm){
            .readers_n = 8, .reader_us = 2ull * US_PER_S, .paced = paced, .seconds = 120});
        assert_true(breaker.exonerated_n > 0 && breaker.confirmed_n == 0);
        assert_true(o.read_share > 0.1); /* half of half of half: three tests in two minutes */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpaced_work_is_given_time_to_drain),
        cmocka_unit_test(test_unpaced_work_that_outlasts_us_is_judged_later),
        cmocka_unit_test(test_unpaced_work_whose_end_helps_in_part_stays_down),
        cmocka_unit_test(test_unpaced_class_eases_in_while_all_is_well),
        cmocka_unit_test(test_unpaced_class_forgets_its_level_as_it_rests),
        cmocka_unit_test(test_unpaced_class_waits_for_the_norm_to_be_known),
        cmocka_unit_test(test_contented_class_does_not_keep_the_breaker_from_closing),
        cmocka_unit_test(test_short_unpaced_statements_go_through_probation),
        cmocka_unit_test(test_hold_alone_protects_from_readers_of_any_length),
        cmocka_unit_test(test_pace_protects_and_lets_more_through),
        cmocka_unit_test(test_innocent_readers_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
