/* The latency breaker: each row of the state table, the defects that simulation found in earlier
 * designs, so that none comes back, modes, words, and random lives. */
#include "breaker/breaker.c"

#include "tests/breaker_world.h"

static void into_throttled(void)
{
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    works(BULK, 0, 0);
    steps(0.3, 5);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
    works(BULK, 15, 0);
    steps(1.5, 7);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
}

/* ---- the state table ---------------------------------------------------------------------------
 */

static void test_trips_after_a_second_of_pressure(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    for (int i = 0; i < 20; i++) { /* never ten in a row */
        steps(5, 9);
        step(0.99);
    }
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    steps(1, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    assert_int_equal(breaker.suspect_i, BULK);
    const struct breaker_ask *ask_bulk = &breaker.classes[BULK].ask;
    assert_true(ask_bulk->held && ask_bulk->limited && ask_bulk->limit_n == 0);
    assert_int_equal(ask_bulk->rate_bytes_per_s, (1 << 20) / 4);
    assert_false(breaker.classes[BACKUP].ask.limited);
    assert_int_equal(breaker.classes[BACKUP].ask.limit_n, 8);
    assert_non_null(strstr(last()->why, "holding bulk"));
}

static void test_nothing_to_shed_is_not_ours(void **state)
{
    (void)state;
    fresh(true, false);
    steps(50, 600);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_int_equal(breaker.transitions_n, 0);
}

static void test_lowest_class_is_tested_first_then_the_next(void **state)
{
    (void)state;
    fresh(true, false);
    works(BACKUP, 1, 0);
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(breaker.suspect_i, BACKUP);
    steps(4, 15);
    assert_int_equal(breaker.state, BREAKER_TEST);
    assert_int_equal(breaker.suspect_i, BULK);
    assert_true(g(BACKUP) == 0 && g(BULK) == 0);
    works(BULK, 0, 0);
    works(BACKUP, 0, 0);
    steps(0.2, 5);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
    assert_true(g(BULK) == 0.5 && g(BACKUP) == 0.01);
}

static void test_return_of_pressure_convicts(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    assert_int_equal(breaker.confirmed_n, 1);
    assert_true(fabs(g(BULK) - 0.3) < 1e-9 && breaker.classes[BULK].limit.g_bad == 0.5);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 9);
    assert_int_equal(breaker.exonerated_n, 0);
}

static void test_calm_probation_is_a_false_alarm(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 3, 0);
    steps(4, 10);
    steps(0.2, 5);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
    for (int i = 0; i < 700 && breaker.state != BREAKER_CLOSED; i++)
        step(0.2);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_true(g(BULK) == 1);
    assert_int_equal(breaker.confirmed_n, 0);
}

static void test_no_effect_exonerates_and_waits_longer_each_time(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    uint64_t hold_us = 30ull * US_PER_S;
    for (int i = 0; i < 7; i++) {
        while (breaker.state != BREAKER_EXONERATED)
            step(4);
        assert_true(g(BULK) >= breaker.opts.limit.floor);
        assert_int_equal(breaker.no_test_until_us - now_us, hold_us);
        if (hold_us < 480ull * US_PER_S)
            hold_us *= 2;
        uint64_t from_us = now_us;
        while (breaker.state == BREAKER_EXONERATED)
            step(4);
        assert_int_equal(breaker.state, BREAKER_TEST);
        assert_true(now_us - from_us >= breaker.no_test_until_us - from_us);
    }
}

static void test_exonerated_is_tested_early_if_much_worse(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    while (breaker.state != BREAKER_EXONERATED)
        step(4);
    steps(7.9, 20);
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
    steps(8, 1);
    assert_int_equal(breaker.state, BREAKER_TEST);
}

static void test_exonerated_closes_when_pressure_goes(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    while (breaker.state != BREAKER_EXONERATED)
        step(4);
    assert_true(g(BULK) == 0.5);
    steps(0.2, 51);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    steps(0.2, 100);
    assert_true(g(BULK) == 1);
}

static void test_some_effect_throttles_in_part(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(30, 10);
    steps(30, 3);
    while (breaker.state == BREAKER_TEST)
        step(4); /* 30^0.6 = 7.7: it helped, and not enough */
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_true(g(BULK) == 0.01);
    steps(4, 30);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    step(0.6);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
}

static void test_everything_back_for_ten_seconds_closes(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    while (g(BULK) < 1) {
        works(BULK, breaker.classes[BULK].ask.limit_n, 0);
        step(0.5);
    }
    uint64_t from_us = now_us;
    while (breaker.state == BREAKER_THROTTLED)
        step(0.5);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_int_equal((now_us - from_us) / US_PER_MS, 10100);
}

static void test_between_healthy_and_overloaded_nothing_moves(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    double before = g(BULK);
    steps(0.85, 3000);
    assert_true(g(BULK) == before);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
}

/* ---- the nine defects
 * ---------------------------------------------------------------------------- */

static void learn_calm(uint32_t seconds, uint32_t n_per_tick)
{
    for (uint32_t i = 0; i < seconds * 10; i++) {
        now_us += 100 * US_PER_MS;
        feed(n_per_tick, 1000, 0, 0);
        struct pressure p = judge(NULL, 0);
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
    }
    assert_true(estimator.usable);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

/* 1: a p99 objective nobody set blamed the bulk class for one hot row. */
static void test_defect_1_hot_row_is_no_pressure(void **state)
{
    (void)state;
    fresh(true, false);
    learn_calm(20, 50);
    works(BULK, 24, 0);
    for (int i = 0; i < 100; i++) {
        now_us += 100 * US_PER_MS;
        feed(50, 1000, 0.05, 2000000);
        struct pressure p = judge(NULL, 0);
        assert_true(p.p < 0.7 && p.p_slo == 0);
        assert_true(i < 10 || p.p99_us > 500000);
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
    }
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

/* 2: at 8 statements a second the verdict was given on samples from before the intervention. */
static void test_defect_2_verdict_needs_samples_of_its_own(void **state)
{
    (void)state;
    fresh(true, false);
    learn_calm(30, 10);
    works(BULK, 24, 0);
    for (int i = 0; i < 20; i++) { /* slow, and well filled */
        now_us += 100 * US_PER_MS;
        feed(10, 50000, 0, 0);
        struct pressure p = judge(NULL, 0);
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
        if (breaker.state == BREAKER_TEST)
            break;
    }
    assert_int_equal(breaker.state, BREAKER_TEST);
    uint64_t test_us = now_us;
    while (breaker.state == BREAKER_TEST) { /* healed at once; a statement a tick */
        now_us += 100 * US_PER_MS;
        /* a straggler dispatched before the pause ends now, and must not be taken for its effect */
        estimator_observe(&estimator, 1, test_us - 1000, now_us - test_us + 1000);
        if (now_us > test_us + 200 * US_PER_MS)
            estimator_observe(&estimator, 1, now_us - 2000, 1000);
        struct pressure p = judge(NULL, 0);
        assert_true(p.p < 1);
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
        if (breaker.state != BREAKER_TEST)
            assert_true(p.n >= breaker.opts.verdict_n);
    }
    assert_int_equal(breaker.state, BREAKER_PROBATION);
    assert_true(now_us - test_us > US_PER_S);
}

/* An SLO is heard at a hundred statements a second, and a test it has led to waits for its word:
 * the database is slow whatever bulk does, and no statement that slow is far from its norm. */
static void test_an_slo_needs_a_p99_of_its_own(void **state)
{
    (void)state;
    fresh(true, false);
    estimator.opts.slo_p99_us = 20000;
    learn_calm(30, 10);
    works(BULK, 24, 0);
    for (int i = 0; i < 200 && breaker.state != BREAKER_EXONERATED; i++) {
        now_us += 100 * US_PER_MS;
        feed(10, 1000, 0.05, 50000);
        struct pressure p = judge(NULL, 0);
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
        assert_int_not_equal(breaker.state, BREAKER_PROBATION);
        assert_int_not_equal(breaker.state, BREAKER_THROTTLED);
    }
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
}

/* 3: statements that hang since before the pause were ignored, and their silence taken for health.
 */
static void test_defect_3_silence_is_not_health(void **state)
{
    (void)state;
    fresh(true, false);
    learn_calm(20, 50);
    works(BULK, 24, 0);
    struct estimator_inflight stuck[40];
    for (size_t i = 0; i < COUNT_OF(stuck); i++)
        stuck[i] = (struct estimator_inflight){1 + i % 3, now_us, 0};
    bool tested = false;
    for (int i = 0; i < 100 && breaker.state != BREAKER_EXONERATED; i++) { /* nothing completes */
        now_us += 100 * US_PER_MS;
        struct pressure p = judge(stuck, COUNT_OF(stuck));
        breaker_tick(&breaker, &estimator, &p, use, now_us);
        estimator_tick_end(&estimator, now_us, breaker_calm(&breaker, &p));
        tested |= breaker.state == BREAKER_TEST;
        assert_int_not_equal(breaker.state, BREAKER_PROBATION);
    }
    assert_true(tested);
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
}

/* 4: limits were cut again while what they should stop was still running, down to the floor. */
static void test_defect_4_no_cut_before_the_last_arrived(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    double before = g(BULK);
    works(BULK, 20, 20); /* limit 9, and none of them streams */
    steps(2.5, 100);
    assert_true(g(BULK) == before);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    works(BULK, 9, 9);
    steps(2.5, 1);
    assert_true(g(BULK) < before);
}

/* 5: after a test that took cancels, half came back at once, and with it the scans. */
static void test_defect_5_no_optimism_after_cancels(void **state)
{
    (void)state;
    fresh(true, true);
    works(BULK, 24, 24);
    steps(5, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    uint32_t cancelled_n = 0;
    uint32_t rounds_n = 0;
    uint64_t from_us = now_us;
    while (use[BULK].active_n > 0) {
        step(5);
        assert_int_equal(breaker.state, BREAKER_TEST);
        uint32_t n = breaker.classes[BULK].ask.cancel_n;
        if (n > 0 && rounds_n++ == 0) {
            assert_int_equal(n, 6); /* a quarter, and not before 3 s */
            assert_true(now_us - from_us >= 3ull * US_PER_S);
        }
        cancelled_n += n;
        works(BULK, use[BULK].active_n - n, use[BULK].active_n - n);
    }
    assert_int_equal(cancelled_n, 24);
    assert_int_equal(rounds_n, 3); /* a quarter, a half, all of the rest */
    steps(0.3, 5);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_true(g(BULK) == 0.02);
}

/* 6 is the queue's: LIFO and expiry come after 5 and 10 s; see the tests of the queue. */

/* 7: "40 % better" means nothing at P = 131. */
static void test_defect_7_help_is_measured_in_octaves(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(131, 13);
    while (breaker.state == BREAKER_TEST)
        step(65); /* half as bad: no help */
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
    fresh(true, false);
    works(BULK, 24, 0);
    steps(131, 13);
    while (breaker.state == BREAKER_TEST)
        step(18); /* 131^0.6 = 18.6 */
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
}

/* 8: one class at a time under severe pressure cost five bad seconds. */
static void test_defect_8_severe_pressure_cuts_all_at_once(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    works(BACKUP, 8, 0);
    double bulk = g(BULK);
    steps(4, 10);
    assert_true(g(BACKUP) < 1 && g(BULK) < bulk);
    fresh(true, false);
    into_throttled();
    works(BACKUP, 8, 0);
    steps(2, 10);
    assert_true(g(BACKUP) < 1 && g(BULK) == bulk); /* moderate: the lowest only */
}

/* Statements of a backup that nothing ends are no shield for the bulk readers above it. */
static void test_what_never_ends_shields_nobody(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    steps(0.5, 100);
    works(BACKUP, 8, 2);
    works(BULK, 30, 0);
    breaker.classes[BACKUP].limit.g = 0.5;
    double bulk = g(BULK);
    assert_true(bulk > 0.1);
    steps(2.5, 60);
    assert_true(g(BACKUP) == 0.5 && g(BULK) < bulk / 4);
}

/* Cutting a class that moves nothing changes nothing. */
static void test_a_minor_class_is_not_cut_alone(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    works(BACKUP, 8, 0);
    works(BULK, 30, 0);
    use[BACKUP].bytes_per_s = use[BULK].bytes_per_s / 10;
    double backup = g(BACKUP), bulk = g(BULK);
    steps(2, 10);
    assert_true(g(BACKUP) < backup && g(BULK) < bulk);
    use[BACKUP].bytes_per_s = use[BULK].bytes_per_s;
    backup = g(BACKUP), bulk = g(BULK);
    steps(2, 10);
    assert_true(g(BACKUP) < backup && g(BULK) == bulk);
}

/* The level that hurt is remembered for the load that hurt: twenty-four readers, not the last. */
static void test_a_level_is_forgotten_with_its_load(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    into_throttled();
    works(BULK, 24, 0);
    steps(0.9, 40);
    assert_true(breaker.classes[BULK].limit.g_bad > 0);
    works(BULK, 13, 0);
    steps(0.9, 40);
    assert_true(breaker.classes[BULK].limit.g_bad > 0);
    works(BULK, 1, 0);
    steps(0.9, 20);
    works(BULK, 20, 0); /* it was a pause */
    steps(0.9, 20);
    works(BULK, 1, 0);
    steps(0.9, 29);
    assert_true(breaker.classes[BULK].limit.g_bad > 0);
    steps(0.9, 2);
    assert_true(breaker.classes[BULK].limit.g_bad == 0);
    steps(0.2, 80);
    assert_true(g(BULK) == 1);
}

/* Held first and to no effect, while the next was the cause: it has no part in the sentence. */
static void test_who_was_tried_in_vain_is_absolved(void **state)
{
    (void)state;
    fresh(true, false);
    works(BACKUP, 4, 0);
    works(BULK, 24, 0);
    while (breaker.suspect_i != BULK || breaker.state != BREAKER_TEST)
        step(4);
    while (breaker.state != BREAKER_PROBATION)
        step(0.2);
    assert_true(g(BACKUP) == breaker.opts.limit.floor);
    while (breaker.state == BREAKER_PROBATION)
        step(1.5);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_true(g(BACKUP) == 0.5 && g(BULK) < 0.5);
    assert_int_equal(breaker.classes[BACKUP].verdict, BREAKER_IS_EXONERATED);
    assert_int_equal(breaker.classes[BULK].verdict, BREAKER_IS_CULPRIT);
    steps(1.5, 20); /* and if it had one, it is the next to be cut */
    assert_true(g(BACKUP) < 0.5);
}

/* Few statements: what nobody has looked at since the last cut is not well. */
static void test_a_rise_waits_for_somebody_to_look(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    while (breaker.cuts_n == 0)
        step(1.2);
    seen_n = 5;
    double cut = g(BULK);
    steps(0, 49); /* silence, not health */
    assert_true(g(BULK) == cut);
    steps(0, 2); /* but nobody may ever come */
    assert_true(g(BULK) > cut);
    seen_n = 40; /* few speak for pressure that is tolerated, not for more of it */
    cut = g(BULK);
    steps(0.6, 100);
    assert_true(g(BULK) == cut);
    steps(0.5, 1);
    assert_true(g(BULK) > cut);
    seen_n = 100;
    while (breaker.cuts_n == 1)
        step(1.2);
    cut = g(BULK);
    steps(0.2, 12);
    assert_true(g(BULK) > cut);
}

/* A cache that warms: single windows of what falls by itself are below 1, some by a quarter. */
static void test_a_drift_is_no_help(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(1.3, 20);
    while (breaker.state == BREAKER_TEST)
        step(now_us - breaker.since_us < 1300 * US_PER_MS ? 1.2 : 0.8);
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
    assert_int_equal(breaker.classes[BULK].verdict, BREAKER_IS_EXONERATED);
}

/* What falls as far as a culprit's need not be healthy. */
static void test_a_clear_fall_is_help(void **state)
{
    (void)state;
    fresh(true, false);
    steps(1.3, 20);
    works(BULK, 24, 0);
    steps(1.3, 1);
    while (breaker.state == BREAKER_TEST)
        step(0.8);
    assert_int_equal(breaker.state, BREAKER_PROBATION);
}

/* 9: noise around P = 0.95 cut again and again. */
static void test_defect_9_noise_near_one_does_not_cut(void **state)
{
    (void)state;
    fresh(true, false);
    into_throttled();
    steps(0.8, 100);
    uint64_t cuts_n = breaker.cuts_n;
    for (int i = 0; i < 100; i++) {
        steps(0.8, 12);
        steps(1.1, 5);
    }
    assert_int_equal(breaker.cuts_n, cuts_n);
    steps(1.1, 12);
    assert_int_equal(breaker.cuts_n, cuts_n + 1); /* lasting: no noise */
}

/* ---- modes
 * --------------------------------------------------------------------------------------- */

static void set_mode(int class_i, enum breaker_mode mode)
{
    struct breaker_class_opts opts = breaker.classes[class_i].opts;
    opts.mode = mode;
    breaker_set_class(&breaker, (uint32_t)class_i, &opts);
}

static void test_off_is_off(void **state)
{
    (void)state;
    fresh(true, true);
    set_mode(BULK, BREAKER_OFF);
    works(BULK, 24, 24);
    steps(10, 300);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_false(breaker.classes[BULK].ask.limited);
}

static void test_observe_does_all_but_act(void **state)
{
    (void)state;
    fresh(true, true);
    set_mode(BULK, BREAKER_OBSERVE);
    works(BULK, 24, 24);
    bool would_hold = false, would_cancel = false;
    for (int i = 0; i < 300; i++) {
        step(10);
        const struct breaker_class *c = &breaker.classes[BULK];
        would_hold |= c->would.held;
        would_cancel |= c->would.cancel_n > 0;
        assert_false(c->ask.limited || c->ask.held || c->ask.cancel_n > 0);
        assert_int_equal(c->ask.limit_n, 30);
        assert_true(c->ask.rate_bytes_per_s == LIMIT_RATE_NONE);
    }
    assert_true(would_hold && would_cancel);
}

static void test_observed_class_does_not_delay_an_enforced_one(void **state)
{
    (void)state;
    fresh(true, false);
    set_mode(BACKUP, BREAKER_OBSERVE);
    works(BACKUP, 4, 0);
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    assert_int_equal(breaker.suspect_i, BULK);
}

static void test_switching_a_class_on_trial_ends_the_trial(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    set_mode(BULK, BREAKER_OFF);
    assert_false(breaker.classes[BULK].ask.held);
    step(4);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

static void test_by_hand(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    step(0.1);
    breaker_trip(&breaker, BULK, now_us);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 1);
    breaker_release(&breaker, &estimator, now_us);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_int_equal(breaker.classes[BULK].ask.limit_n, 30);
    steps(4, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    breaker_trip(&breaker, BACKUP, now_us);
    assert_int_equal(breaker.state, BREAKER_THROTTLED);
    assert_true(g(BULK) == 1 && g(BACKUP) == 0.01);
}

/* The database went down in a trial: what comes after says nothing about who was held before. */
static void test_an_outage_ends_the_trial(void **state)
{
    (void)state;
    fresh(true, false);
    works(BULK, 24, 0);
    steps(4, 10);
    assert_int_equal(breaker.state, BREAKER_TEST);
    for (int i = 0; i < 30; i++) {
        now_us += 100 * US_PER_MS;
        struct pressure p = {.lagging = true};
        breaker_tick(&breaker, &estimator, &p, use, now_us);
    }
    assert_int_equal(breaker.state, BREAKER_TEST);
    step(0.1);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_int_equal(breaker.classes[BULK].verdict, BREAKER_IS_NONE);
    assert_true(g(BULK) == 1 && !breaker.classes[BULK].ask.limited);
    steps(4, 10); /* and the next one is a trial of its own */
    steps(4, 1);
    assert_int_equal(breaker.state, BREAKER_TEST);
}

/* A verdict that is still to come does not overrule the operator, nor the next trial. */
static void test_what_was_undecided_is_decided_by_hand(void **state)
{
    (void)state;
    fresh(false, false);
    breaker.opts.start_n = 0;
    works(BULK, 24, 0);
    for (int i = 0; i < 200 && breaker.state != BREAKER_THROTTLED; i++)
        step(4);
    assert_true(breaker.state == BREAKER_THROTTLED && breaker.undecided);
    breaker_trip(&breaker, BULK, now_us);
    works(BULK, 1, 0);
    steps(4, 100);
    assert_int_not_equal(breaker.state, BREAKER_EXONERATED);
    assert_true(g(BULK) == 0.01);
    assert_int_equal(breaker.classes[BULK].verdict, BREAKER_IS_BY_HAND);
}

/* ---- words
 * --------------------------------------------------------------------------------------- */

static void test_transition_carries_all_its_inputs(void **state)
{
    (void)state;
    fresh(true, false);
    works(BACKUP, 2, 1);
    works(BULK, 24, 0);
    use[BULK].queued_n = 5;
    steps(2.5, 10);
    const struct breaker_transition *t = last();
    assert_int_equal(t->at_us, now_us);
    assert_int_equal(t->from, BREAKER_CLOSED);
    assert_int_equal(t->to, BREAKER_TEST);
    assert_int_equal(t->class_i, BACKUP);
    assert_true(t->pressure.p == 2.5 && t->pressure.n == 100 && t->p_before == 2.5);
    assert_int_equal(t->high_ticks_n, 10);
    assert_int_equal(t->classes_n, CLASSES);
    assert_memory_equal(&t->classes[BULK].use, &use[BULK], sizeof use[BULK]);
    assert_true(t->classes[BACKUP].g == 0 && t->classes[BULK].g == 1);
}

static void test_ring_keeps_the_last_sixteen(void **state)
{
    (void)state;
    fresh(true, false);
    for (int i = 0; i < 40; i++) {
        now_us += US_PER_S;
        breaker_trip(&breaker, BULK, now_us);
    }
    assert_int_equal(breaker.transitions_n, 40);
    assert_int_equal(last()->at_us, now_us);
}

static void test_words_for_operators_and_clients(void **state)
{
    (void)state;
    fresh(true, false);
    char text[200];
    assert_string_equal(breaker_last_reason(&breaker), "");
    into_throttled();
    steps(1.5, 50);
    breaker_explain(&breaker, BULK, now_us, text, sizeof text);
    assert_non_null(strstr(text, breaker_state_name(breaker.state)));
    assert_non_null(strstr(text, "norm"));
    assert_non_null(strstr(text, "bulk at "));
    breaker_explain(&breaker, BULK, now_us, text, 10); /* cut, never overrun */
    assert_int_equal(strlen(text), 9);
    assert_string_equal(breaker_mode_name(BREAKER_OBSERVE), "observe");
}

static void test_retry_after_grows_within_bounds(void **state)
{
    (void)state;
    fresh(true, false);
    breaker_trip(&breaker, BULK, now_us);
    assert_int_equal(breaker_retry_after_us(&breaker, now_us, 0), 4 * US_PER_S);
    assert_int_equal(breaker_retry_after_us(&breaker, now_us, UINT32_MAX), 6 * US_PER_S);
    now_us += 60ull * US_PER_S;
    assert_int_equal(breaker_retry_after_us(&breaker, now_us, 0), 96 * US_PER_S);
    now_us += 3600ull * US_PER_S;
    assert_int_equal(breaker_retry_after_us(&breaker, now_us, UINT32_MAX), 360ull * US_PER_S);
}

/* ---- anything at all
 * ------------------------------------------------------------------------------- */

/* Random pressure and use: illegal moves abort, and after every tick: g stays within its floor and
 * 1, nothing is at 0 but in a test, a test ends, every enforced class keeps one statement and its
 * trickle outside of tests, and a class that is off (as the protected one is: it has no place here
 * at all) is never touched. */
static void check_invariants(uint64_t test_since_us)
{
    for (uint32_t i = 0; i < breaker.classes_n; i++) {
        const struct breaker_class *c = &breaker.classes[i];
        bool paused = c->limit.g == 0;
        assert_true(paused || (c->limit.g >= breaker.opts.limit.floor && c->limit.g <= 1));
        assert_true(!paused || breaker.state == BREAKER_TEST);
        assert_true(paused == c->would.held);
        assert_true(c->would.limit_n >= 1 || paused || c->use.cap_n == 0);
        assert_true(paused || c->would.rate_bytes_per_s >= c->opts.trickle_bytes_per_s);
        assert_true(c->ask.cancel_n <= c->use.nonstreaming_n);
        assert_true(c->opts.cancelled || c->ask.cancel_n == 0);
        if (c->opts.mode == BREAKER_OFF)
            assert_true(c->limit.g == 1 && !c->ask.limited);
    }
    assert_true(breaker.state != BREAKER_TEST || now_us - test_since_us < 60ull * US_PER_S);
}

static void random_life(uint64_t seed)
{
    fresh(seed % 2, seed % 3 == 0);
    random_state = seed * 0x9e3779b97f4a7c15u;
    if (seed % 5 == 0)
        set_mode(BACKUP, BREAKER_OFF);
    if (seed % 7 == 0)
        set_mode(BULK, BREAKER_OBSERVE);
    double level = 0.5;
    uint64_t test_since_us = now_us;
    for (int i = 0; i < 3000; i++) {
        if (uniform() < 0.02)
            level = exp2(uniform() * 12 - 4);
        for (int c = 0; c < CLASSES && uniform() < 0.1; c++) {
            uint32_t active_n = (uint32_t)(uniform() * 1.3 * use[c].cap_n);
            works(c, active_n, (uint32_t)(uniform() * (active_n + 1)));
            use[c].queued_n = uniform() < 0.5;
        }
        step(level * (0.8 + 0.4 * uniform()));
        if (breaker.state != BREAKER_TEST)
            test_since_us = now_us;
        check_invariants(test_since_us);
    }
}

static void test_invariants_under_random_pressure(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        random_life(seed);
}

static void test_options_that_make_no_sense(void **state)
{
    (void)state;
    struct err err;
    struct breaker_opts good = breaker_defaults(), bad;
#define REFUSED(field, value)                                                                      \
    bad = good;                                                                                    \
    bad.field = value;                                                                             \
    assert_false(breaker_opts_check(&bad, &err))
    REFUSED(p_low, 1);
    REFUSED(p_severe, 0.5);
    REFUSED(minor_share, 1);
    REFUSED(forget_share, 1);
    REFUSED(improve, 1);
    REFUSED(trip_ticks_n, 0);
    REFUSED(test_us_min, 9 * US_PER_S);
    REFUSED(limit.floor, 0);
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trips_after_a_second_of_pressure),
        cmocka_unit_test(test_nothing_to_shed_is_not_ours),
        cmocka_unit_test(test_lowest_class_is_tested_first_then_the_next),
        cmocka_unit_test(test_return_of_pressure_convicts),
        cmocka_unit_test(test_calm_probation_is_a_false_alarm),
        cmocka_unit_test(test_no_effect_exonerates_and_waits_longer_each_time),
        cmocka_unit_test(test_exonerated_is_tested_early_if_much_worse),
        cmocka_unit_test(test_exonerated_closes_when_pressure_goes),
        cmocka_unit_test(test_some_effect_throttles_in_part),
        cmocka_unit_test(test_everything_back_for_ten_seconds_closes),
        cmocka_unit_test(test_between_healthy_and_overloaded_nothing_moves),
        cmocka_unit_test(test_defect_1_hot_row_is_no_pressure),
        cmocka_unit_test(test_defect_2_verdict_needs_samples_of_its_own),
        cmocka_unit_test(test_an_slo_needs_a_p99_of_its_own),
        cmocka_unit_test(test_defect_3_silence_is_not_health),
        cmocka_unit_test(test_defect_4_no_cut_before_the_last_arrived),
        cmocka_unit_test(test_defect_5_no_optimism_after_cancels),
        cmocka_unit_test(test_defect_7_help_is_measured_in_octaves),
        cmocka_unit_test(test_what_never_ends_shields_nobody),
        cmocka_unit_test(test_a_minor_class_is_not_cut_alone),
        cmocka_unit_test(test_a_level_is_forgotten_with_its_load),
        cmocka_unit_test(test_who_was_tried_in_vain_is_absolved),
        cmocka_unit_test(test_defect_8_severe_pressure_cuts_all_at_once),
        cmocka_unit_test(test_a_rise_waits_for_somebody_to_look),
        cmocka_unit_test(test_a_drift_is_no_help),
        cmocka_unit_test(test_a_clear_fall_is_help),
        cmocka_unit_test(test_defect_9_noise_near_one_does_not_cut),
        cmocka_unit_test(test_off_is_off),
        cmocka_unit_test(test_observe_does_all_but_act),
        cmocka_unit_test(test_observed_class_does_not_delay_an_enforced_one),
        cmocka_unit_test(test_switching_a_class_on_trial_ends_the_trial),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_an_outage_ends_the_trial),
        cmocka_unit_test(test_what_was_undecided_is_decided_by_hand),
        cmocka_unit_test(test_transition_carries_all_its_inputs),
        cmocka_unit_test(test_ring_keeps_the_last_sixteen),
        cmocka_unit_test(test_words_for_operators_and_clients),
        cmocka_unit_test(test_retry_after_grows_within_bounds),
        cmocka_unit_test(test_invariants_under_random_pressure),
        cmocka_unit_test(test_options_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
