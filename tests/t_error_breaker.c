/* The error breaker: what opens it, what must never, probing, the ramp back. */
#include "breaker/error_breaker.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct error_breaker eb;
static uint64_t now_us;

static void fresh(void)
{
    struct error_breaker_opts opts;
    error_breaker_opts_defaults(&opts);
    assert_true(error_breaker_opts_check(&opts, NULL));
    now_us = 1000ull * US_PER_S;
    error_breaker_init(&eb, &opts, 7, now_us);
}

static void report(enum error_breaker_event event)
{
    error_breaker_report(&eb, event, 20, now_us);
}

static void wait_ms(uint64_t ms)
{
    now_us += ms * US_PER_MS;
}

static void knock_down(void)
{
    wait_ms(2000);
    for (int i = 0; i < 5; i++, wait_ms(100))
        report(ERROR_BREAKER_CONNECT_REFUSED);
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

/* Ticks until a probe is asked for; returns how long that took. */
static uint64_t until_probe_ms(void)
{
    uint64_t from_us = now_us;
    while (!error_breaker_tick(&eb, now_us)) {
        assert_true(now_us - from_us < 10ull * US_PER_S);
        wait_ms(1);
    }
    return (now_us - from_us) / US_PER_MS;
}

static void into_ramp(void)
{
    fresh();
    knock_down();
    until_probe_ms();
    error_breaker_probe_done(&eb, true, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_RAMP);
}

/* ---- what opens it --------------------------------------------------------------------------- */

static void test_every_sign_of_death_opens(void **state)
{
    (void)state;
    for (size_t event = 0; event < COUNT_OF(events); event++) {
        if (events[event].says != DEAD)
            continue;
        fresh();
        for (int i = 0; i < 4; i++, wait_ms(60))
            report(event);
        assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
        report(event);
        assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
        assert_string_equal(eb.why, events[event].text);
        assert_int_equal(error_breaker_connects_max(&eb), 0);
    }
}

/* Saturated is never dead: (j) a wrong password or missing database of one user, (k) a full server,
 * (l) a statement timeout, and all that we or the clients do ourselves. Any number, at any rate. */
static void test_saturated_is_never_dead(void **state)
{
    (void)state;
    for (size_t event = 0; event < COUNT_OF(events); event++) {
        if (events[event].says == DEAD || events[event].says == DIED)
            continue;
        fresh();
        for (int i = 0; i < 20000; i++, wait_ms(1 + (uint64_t)i % 97)) {
            report(event);
            assert_false(error_breaker_tick(&eb, now_us));
        }
        assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
        assert_int_equal(eb.opened_n, 0);
        assert_true(error_breaker_passes(&eb, false, now_us));
        assert_true(error_breaker_connects_max(&eb) == UINT32_MAX);
    }
}

/* They do not help others to open it either: nine failures and a hundred refusals are no ten. */
static void test_what_does_not_count_adds_nothing(void **state)
{
    (void)state;
    static const enum error_breaker_event innocent[] = {
        ERROR_BREAKER_STATEMENT_ERROR, ERROR_BREAKER_STATEMENT_TIMEOUT,
        ERROR_BREAKER_QUEUE_TIMEOUT,   ERROR_BREAKER_SHED,
        ERROR_BREAKER_CLIENT_GONE,
    };
    fresh();
    for (int i = 0; i < 4; i++, wait_ms(60)) {
        report(ERROR_BREAKER_CONNECT_TIMEOUT);
        for (size_t j = 0; j < 100 * COUNT_OF(innocent); j++)
            report(innocent[j % COUNT_OF(innocent)]);
    }
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
}

static void test_an_answer_breaks_the_row(void **state)
{
    (void)state;
    static const enum error_breaker_event answers[] = {
        ERROR_BREAKER_LOGIN_OK, ERROR_BREAKER_SERVER_FULL, ERROR_BREAKER_LOGIN_REFUSED};
    for (size_t a = 0; a < COUNT_OF(answers); a++) {
        fresh();
        for (int i = 0; i < 100; i++, wait_ms(700)) {
            report(i % 5 == 4 ? answers[a] : ERROR_BREAKER_CONNECT_TIMEOUT);
            assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
        }
    }
}

static void test_failures_together_are_one(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 9; i++)
        report(ERROR_BREAKER_CONNECT_REFUSED); /* nine workers, one moment */
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    assert_int_equal(eb.failed_in_row_n, 1);
    report(ERROR_BREAKER_CONNECT_REFUSED); /* ten in five seconds, none came through */
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

static void test_share_of_failures(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 40; i++, wait_ms(30)) { /* 30 % fail */
        report(i % 10 < 3 ? ERROR_BREAKER_STARTUP_EOF : ERROR_BREAKER_LOGIN_OK);
        eb.alive_us = 0;
    }
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    fresh();
    for (int i = 0; i < 40; i++, wait_ms(30)) { /* 60 % fail */
        report(i % 5 < 3 ? ERROR_BREAKER_STARTUP_EOF : ERROR_BREAKER_LOGIN_OK);
        eb.alive_us = 0;
    }
    assert_int_equal(eb.opened_n, 1);
}

static void test_old_failures_are_forgotten(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 9; i++)
        report(ERROR_BREAKER_CONNECT_REFUSED);
    wait_ms(6000);
    report(ERROR_BREAKER_CONNECT_REFUSED);
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
}

/* New connections fail while old ones work: a listen queue, a firewall, a pg_hba. Not down. */
static void test_a_living_session_keeps_it_closed(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 100; i++, wait_ms(100)) {
        report(ERROR_BREAKER_READY);
        report(ERROR_BREAKER_CONNECT_TIMEOUT);
    }
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    wait_ms(1001);
    report(ERROR_BREAKER_CONNECT_TIMEOUT);
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

/* Two loops read the clock, and take the lock in the other order. */
static void test_a_clock_read_a_moment_early_changes_nothing(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 100; i++, wait_ms(100)) {
        error_breaker_report(&eb, ERROR_BREAKER_READY, 20, now_us + 300);
        report(ERROR_BREAKER_CONNECT_TIMEOUT); /* alive in 300 us from now */
        assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    }
    knock_down();
    assert_false(error_breaker_refuses(&eb, eb.down_since_us - 1));
    until_probe_ms();
    error_breaker_probe_done(&eb, true, now_us);
    assert_false(error_breaker_passes(&eb, false, now_us - 1));
}

/* ---- suspicion ------------------------------------------------------------------------------- */

static void test_sessions_dying_in_numbers_are_looked_into(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 2; i++)
        error_breaker_report(&eb, ERROR_BREAKER_SESSION_DIED, (uint32_t)(4 - i), now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    error_breaker_report(&eb, ERROR_BREAKER_SESSION_DIED, 2, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_SUSPECT);
    assert_true(error_breaker_passes(&eb, false, now_us)); /* no harm done on suspicion */
    assert_true(error_breaker_tick(&eb, now_us));
    assert_false(error_breaker_tick(&eb, now_us)); /* one probe, not two */
    error_breaker_probe_done(&eb, true, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    for (uint32_t i = 0; i < 3; i++)
        error_breaker_report(&eb, ERROR_BREAKER_SESSION_DIED, 3 - i, now_us);
    assert_true(error_breaker_tick(&eb, now_us));
    error_breaker_probe_done(&eb, false, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

static void test_few_of_many_deaths_are_no_suspicion(void **state)
{
    (void)state;
    fresh();
    for (uint32_t i = 0; i < 40; i++) /* 40 of 100, at once */
        error_breaker_report(&eb, ERROR_BREAKER_SESSION_DIED, 100 - i, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    fresh();
    for (uint32_t i = 0; i < 20; i++, wait_ms(600)) /* all, but one by one */
        error_breaker_report(&eb, ERROR_BREAKER_SESSION_DIED, 20 - i, now_us);
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
}

/* ---- probing --------------------------------------------------------------------------------- */

static void test_probe_delay_doubles_with_jitter_up_to_its_cap(void **state)
{
    (void)state;
    fresh();
    knock_down();
    now_us = eb.since_us;
    uint64_t want_ms = 100;
    for (int i = 0; i < 10; i++) {
        uint64_t took_ms = until_probe_ms();
        assert_int_equal(eb.state, ERROR_BREAKER_HALF_OPEN);
        assert_true(took_ms >= want_ms / 2 && took_ms <= want_ms + 1);
        error_breaker_probe_done(&eb, false, now_us);
        assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
        want_ms = want_ms * 2 < 1000 ? want_ms * 2 : 1000;
    }
    assert_int_equal(eb.opened_n, 1); /* one outage, however many probes */
}

static void test_probe_without_an_answer_has_failed(void **state)
{
    (void)state;
    fresh();
    knock_down();
    until_probe_ms();
    for (int i = 0; i < 30; i++, wait_ms(100))
        assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_HALF_OPEN);
    wait_ms(100);
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
    error_breaker_probe_done(&eb, true, now_us); /* too late to be believed */
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

static void test_a_sign_of_life_hastens_the_probe(void **state)
{
    (void)state;
    fresh();
    knock_down();
    for (int i = 0; i < 8; i++) {
        until_probe_ms();
        error_breaker_probe_done(&eb, false, now_us);
    }
    report(ERROR_BREAKER_READY); /* but not ten times a second */
    assert_in_range(until_probe_ms(), 249, 251);
    error_breaker_probe_done(&eb, false, now_us);
    wait_ms(260);
    report(ERROR_BREAKER_READY);
    assert_int_equal(until_probe_ms(), 0);
}

static void test_clients_wait_for_the_grace_then_are_refused(void **state)
{
    (void)state;
    fresh();
    assert_false(error_breaker_refuses(&eb, now_us));
    knock_down();
    uint64_t down_us = eb.down_since_us;
    for (now_us = down_us; now_us <= down_us + eb.opts.grace_us; wait_ms(100)) {
        assert_false(error_breaker_refuses(&eb, now_us));
        assert_false(error_breaker_passes(&eb, true, now_us));
        if (error_breaker_tick(&eb, now_us))
            error_breaker_probe_done(&eb, false, now_us);
    }
    assert_true(error_breaker_refuses(&eb, now_us));
    report(ERROR_BREAKER_READY); /* an old session that works serves whoever waits for it */
    assert_false(error_breaker_refuses(&eb, now_us));
    now_us += 2ull * US_PER_S;
    assert_true(error_breaker_refuses(&eb, now_us));
    until_probe_ms();
    error_breaker_probe_done(&eb, true, now_us);
    assert_false(error_breaker_refuses(&eb, now_us));
}

/* ---- ramp ------------------------------------------------------------------------------------ */

static void test_ramp_doubles_with_clean_batches_and_closes(void **state)
{
    (void)state;
    into_ramp();
    static const uint32_t wants[] = {2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16};
    for (size_t i = 0; i < COUNT_OF(wants); i++) {
        assert_int_equal(error_breaker_connects_max(&eb), wants[i]);
        report(ERROR_BREAKER_LOGIN_OK);
        assert_false(error_breaker_tick(&eb, now_us));
    }
    wait_ms(2000);
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_RAMP); /* 19 logins */
    report(ERROR_BREAKER_LOGIN_OK);
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
}

static void test_ramp_serves_the_protected_first(void **state)
{
    (void)state;
    into_ramp();
    uint64_t from_us = now_us;
    for (int i = 0; i < 60; i++) /* closes within the settling time */
        report(ERROR_BREAKER_LOGIN_OK);
    for (; now_us < from_us + 10ull * US_PER_S; wait_ms(100)) {
        assert_false(error_breaker_tick(&eb, now_us));
        assert_true(error_breaker_passes(&eb, true, now_us));
        assert_false(error_breaker_passes(&eb, false, now_us));
    }
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
    assert_true(error_breaker_passes(&eb, false, now_us));
}

static void test_failure_in_the_ramp_halves_it_and_many_open_it(void **state)
{
    (void)state;
    into_ramp();
    for (int i = 0; i < 14; i++)
        report(ERROR_BREAKER_LOGIN_OK);
    assert_int_equal(error_breaker_connects_max(&eb), 16);
    wait_ms(1500);
    report(ERROR_BREAKER_CONNECT_TIMEOUT);
    assert_int_equal(error_breaker_connects_max(&eb), 8);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(eb.state, ERROR_BREAKER_RAMP);
        wait_ms(100);
        report(ERROR_BREAKER_CONNECT_TIMEOUT);
    }
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
    assert_int_equal(eb.opened_n, 2);
    assert_true(eb.down_since_us == now_us); /* a new outage, a new grace */
}

static void test_small_pool_closes_by_time(void **state)
{
    (void)state;
    into_ramp();
    report(ERROR_BREAKER_LOGIN_OK);
    wait_ms(29000);
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_RAMP);
    wait_ms(1000);
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_CLOSED);
}

/* ---- anything at all ------------------------------------------------------------------------- */

/* Random events, ticks and probe answers: illegal moves abort, and these hold throughout. */
static void test_invariants_under_random_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        fresh();
        uint64_t r = seed * 0x9e3779b97f4a7c15u;
        for (int i = 0; i < 4000; i++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            wait_ms((r >> 40) % 200);
            if ((r >> 33) % 5 == 0)
                assert_true(!error_breaker_tick(&eb, now_us) || eb.probing);
            else if ((r >> 33) % 5 == 1)
                error_breaker_probe_done(&eb, (r >> 50) & 1, now_us);
            else
                error_breaker_report(&eb, (r >> 36) % COUNT_OF(events), (r >> 45) % 30, now_us);
            bool down = eb.state == ERROR_BREAKER_OPEN || eb.state == ERROR_BREAKER_HALF_OPEN;
            assert_true(down == (eb.down_since_us > 0));
            assert_true(down == (error_breaker_connects_max(&eb) == 0));
            assert_true(!down || !error_breaker_passes(&eb, true, now_us));
            assert_true(down || !error_breaker_refuses(&eb, now_us));
            assert_true(!eb.probing || eb.state == ERROR_BREAKER_HALF_OPEN ||
                        eb.state == ERROR_BREAKER_SUSPECT);
        }
    }
}

static void test_options_that_make_no_sense(void **state)
{
    (void)state;
    struct error_breaker_opts good, bad;
    error_breaker_opts_defaults(&good);
    struct err err;
#define REFUSED(field, value)                                                                      \
    bad = good;                                                                                    \
    bad.field = value;                                                                             \
    assert_false(error_breaker_opts_check(&bad, &err))
    REFUSED(consecutive_n, 0);
    REFUSED(died_n, 0);
    REFUSED(died_n, ERROR_BREAKER_DEATHS_MAX + 1);
    REFUSED(window_share, 0);
    REFUSED(died_share, 1.5);
    REFUSED(window_us, 5);
    REFUSED(probe_us_min, 0);
    REFUSED(probe_us_max, 1);
    REFUSED(ramp_n_min, 0);
    REFUSED(ramp_n_max, 1);
#undef REFUSED
}

/* Old sessions work on while no new one gets in: each answer is a reason to look, not each a probe.
 */
static void test_old_sessions_do_not_multiply_probes(void **state)
{
    (void)state;
    fresh();
    knock_down();
    uint64_t probes_n = eb.probes_n;
    for (int i = 0; i < 1000; i++, wait_ms(10)) {
        report(ERROR_BREAKER_READY);
        if (i % 10 == 0 && error_breaker_tick(&eb, now_us))
            error_breaker_probe_done(&eb, false, now_us);
    }
    assert_in_range(eb.probes_n - probes_n, 5, 41); /* in ten seconds */
}

/* All places are taken, and nobody is asked: that is no answer. */
static void test_a_probe_that_waits_for_a_place_does_not_fail(void **state)
{
    (void)state;
    fresh();
    for (int i = 0; i < 20; i++)
        report(ERROR_BREAKER_SESSION_DIED);
    assert_int_equal(eb.state, ERROR_BREAKER_SUSPECT);
    assert_true(error_breaker_tick(&eb, now_us));
    for (int i = 0; i < 100; i++, wait_ms(100)) {
        assert_false(error_breaker_tick(&eb, now_us));
        error_breaker_probe_waits(&eb, now_us);
    }
    assert_int_equal(eb.state, ERROR_BREAKER_SUSPECT);
    wait_ms(3100); /* now it is tried, and gets no answer */
    assert_false(error_breaker_tick(&eb, now_us));
    assert_int_equal(eb.state, ERROR_BREAKER_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sign_of_death_opens),
        cmocka_unit_test(test_saturated_is_never_dead),
        cmocka_unit_test(test_what_does_not_count_adds_nothing),
        cmocka_unit_test(test_an_answer_breaks_the_row),
        cmocka_unit_test(test_failures_together_are_one),
        cmocka_unit_test(test_share_of_failures),
        cmocka_unit_test(test_old_failures_are_forgotten),
        cmocka_unit_test(test_a_living_session_keeps_it_closed),
        cmocka_unit_test(test_a_clock_read_a_moment_early_changes_nothing),
        cmocka_unit_test(test_sessions_dying_in_numbers_are_looked_into),
        cmocka_unit_test(test_few_of_many_deaths_are_no_suspicion),
        cmocka_unit_test(test_probe_delay_doubles_with_jitter_up_to_its_cap),
        cmocka_unit_test(test_probe_without_an_answer_has_failed),
        cmocka_unit_test(test_a_sign_of_life_hastens_the_probe),
        cmocka_unit_test(test_clients_wait_for_the_grace_then_are_refused),
        cmocka_unit_test(test_ramp_doubles_with_clean_batches_and_closes),
        cmocka_unit_test(test_ramp_serves_the_protected_first),
        cmocka_unit_test(test_failure_in_the_ramp_halves_it_and_many_open_it),
        cmocka_unit_test(test_small_pool_closes_by_time),
        cmocka_unit_test(test_invariants_under_random_events),
        cmocka_unit_test(test_options_that_make_no_sense),
        cmocka_unit_test(test_old_sessions_do_not_multiply_probes),
        cmocka_unit_test(test_a_probe_that_waits_for_a_place_does_not_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
