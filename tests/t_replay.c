/* Logs of simulated breakers, played through the reference model by tests/model/replay.py: what we
 * log is enough to say whether we did what the design says, and a log that lies is found out.
 *
 * Without the model this says so, and skips what needs it; t_model then stands in. */
#include "breaker/breaker.h"
#include "proxy/control_lines.h"

#include "tests/breaker_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static char path[] = "/tmp/t_replay.XXXXXX";
static FILE *out;
static const struct control_place place = {
    .host = "simulated", .port = 5432, .classes = {[BACKUP] = "backup", [BULK] = "bulk"}};
static uint32_t logged_n;

/* As the control loop does after each tick. */
static void log_it(void)
{
    char line[CONTROL_LINE_BYTES];
    struct tick_stats tick;
    for (; logged_n != breaker.transitions_n; logged_n++) {
        control_line_transition(&place, &breaker.transitions[logged_n % BREAKER_TRANSITIONS], line);
        fprintf(out, "2026-01-01 00:00:00.000 LOG %s\n", line);
    }
    show_tick_of(&breaker, &tick);
    control_line_tick(&place, &tick, line);
    fprintf(out, "2026-01-01 00:00:00.000 LOG %s\n", line);
}

static void begin(void)
{
    memcpy(path, "/tmp/t_replay.XXXXXX", sizeof path);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    out = fdopen(fd, "w");
    assert_non_null(out);
    logged_n = 0;
}

/* The exit status of the replay, with the log put through sed first. */
static int replay(const char *edit)
{
    char command[400];
    fclose(out);
    snprintf(command, sizeof command, "sed -i -e '%s' %s && python3 tests/model/replay.py %s%s",
             edit, path, path, *edit ? " >/dev/null" : "");
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    unlink(path);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    return WEXITSTATUS(status);
}

/* Users suffer from what runs; who is guilty, and what else disturbs, is drawn by lot. */
static void live(uint64_t seed, uint32_t ticks_n)
{
    struct breaker_opts opts = breaker_defaults();
    fresh(true, true);
    breaker.opts.limit.jitter = opts.limit.jitter;
    random_state = seed;
    double guilt[CLASSES] = {uniform() < 0.5, uniform() < 0.4 ? 0 : 1 + 4 * uniform()}, other = 0.3,
           demand[CLASSES] = {0};
    bool streams = uniform() < 0.6;
    for (uint32_t i = 0; i < ticks_n; i++) {
        if (uniform() < 0.01) {
            other = uniform() < 0.7 ? 0.3 : 0.6 + 3 * uniform();
            for (int c = 0; c < CLASSES; c++)
                demand[c] = uniform() < 0.3 ? 0 : uniform();
        }
        double load = 0;
        for (int c = 0; c < CLASSES; c++) {
            const struct breaker_ask *ask = &breaker.classes[c].ask;
            uint32_t wanted_n = (uint32_t)(demand[c] * use[c].cap_n);
            uint32_t runs_n = wanted_n < ask->limit_n ? wanted_n : ask->limit_n;
            uint32_t ended_n = ask->cancel_n + (uniform() < 0.05);
            if (!streams && use[c].active_n > runs_n + ended_n)
                runs_n = use[c].active_n - ended_n; /* what runs goes on until it is cancelled */
            works(c, runs_n, streams || c == BACKUP ? 0 : runs_n);
            use[c].queued_n = wanted_n > runs_n;
            double share = breaker.classes[c].limit.g * runs_n / use[c].cap_n;
            load += guilt[c] * (streams ? share : (double)runs_n / use[c].cap_n);
        }
        step((other + load) * (0.9 + 0.2 * uniform()));
        log_it();
    }
}

static void test_a_life_replays_through_the_model(void **state)
{
    (void)state;
    uint64_t tests_n = 0, confirmed_n = 0, cuts_n = 0, cancels_n = 0, exonerated_n = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        begin();
        live(seed, 3000);
        tests_n += breaker.tests_n;
        confirmed_n += breaker.confirmed_n;
        cuts_n += breaker.cuts_n;
        cancels_n += breaker.cancels_n;
        exonerated_n += breaker.exonerated_n;
        assert_int_equal(replay(""), 0);
    }
    printf("%d tests, %d confirmed, %d exonerated, %d cuts, %d cancels\n", (int)tests_n,
           (int)confirmed_n, (int)exonerated_n, (int)cuts_n, (int)cancels_n);
    /* lives in which something happened */
    assert_true(tests_n > 10 && confirmed_n > 3 && cuts_n > 5 && cancels_n > 5 && exonerated_n > 2);
}

static void ticks(double p, uint32_t n)
{
    for (; n > 0; n--) {
        step(p);
        log_it();
    }
}

/* Where we know better than the model, it is told. */
static void test_a_class_that_moves_little_is_not_cut_alone(void **state)
{
    (void)state;
    begin();
    fresh(true, false);
    works(BULK, 24, 0);
    ticks(4, 11);
    works(BULK, 0, 0);
    ticks(0.3, 6);
    works(BULK, 15, 0);
    works(BACKUP, 1, 0);
    ticks(1.5, 60);
    assert_true(g(BACKUP) < 1 && g(BULK) < 0.3);
    assert_int_equal(breaker.transitions[(breaker.transitions_n - 2) % BREAKER_TRANSITIONS].at_us,
                     last()->at_us);
    assert_int_equal(replay(""), 0);
}

static void test_what_never_ends_is_passed_over(void **state)
{
    (void)state;
    begin();
    fresh(true, false);
    works(BULK, 24, 0);
    ticks(4, 11);
    works(BULK, 0, 0);
    ticks(0.3, 6);
    works(BULK, 30, 0);
    works(BACKUP, 8, 8);
    ticks(1.5, 30);
    double backup = g(BACKUP), bulk = g(BULK);
    ticks(1.5, 60);
    assert_true(g(BACKUP) == backup && g(BULK) < bulk);
    assert_int_equal(replay(""), 0);
}

static void test_a_rise_waits_and_a_drift_is_no_help(void **state)
{
    (void)state;
    begin();
    struct breaker_opts opts = breaker_defaults();
    fresh(true, false);
    breaker.opts.limit.jitter = opts.limit.jitter;
    works(BULK, 24, 0);
    ticks(4, 11);
    ticks(0.3, 6);
    ticks(1.5, 12);
    seen_n = 5;
    ticks(0.1, 80);
    ticks(0.6, 20);
    assert_true(breaker.state == BREAKER_THROTTLED && g(BULK) < 1);
    seen_n = 100;
    ticks(0.1, 600);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    ticks(1.3, 11);
    ticks(1.2, 12);
    ticks(0.8, 12);
    assert_int_equal(breaker.state, BREAKER_EXONERATED);
    assert_int_equal(replay(""), 0);
}

static void test_what_an_operator_does_is_no_contradiction(void **state)
{
    (void)state;
    begin();
    fresh(true, false);
    for (int i = 0; i < 300; i++) {
        works(BULK, 5, 0);
        step(i % 7 ? 0.8 : 0.75);
        log_it();
        if (i == 100)
            breaker_trip(&breaker, BULK, now_us);
        if (i == 200)
            breaker_release(&breaker, &estimator, now_us);
    }
    assert_int_equal(replay(""), 0);
}

static void test_a_log_that_lies_is_found_out(void **state)
{
    (void)state;
    begin();
    live(1, 2000);
    assert_int_equal(replay("s/ state=throttled p=\\([0-9]\\)/ state=throttled p=7\\1/"), 1);
    begin();
    live(1, 2000);
    assert_int_equal(replay("s/from=closed to=test/from=closed to=throttled/"), 1);
    begin();
    live(1, 2000); /* moves alone: one that came too early */
    assert_int_equal(replay("/breaker_tick/d"), 0);
    begin();
    live(1, 2000);
    assert_int_equal(replay("/breaker_tick/d; s/high_ticks=10/high_ticks=3/"), 1);
    begin();
    assert_int_equal(replay("s/x/y/"), 2); /* an empty log proves nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_life_replays_through_the_model),
        cmocka_unit_test(test_a_class_that_moves_little_is_not_cut_alone),
        cmocka_unit_test(test_what_never_ends_is_passed_over),
        cmocka_unit_test(test_a_rise_waits_and_a_drift_is_no_help),
        cmocka_unit_test(test_what_an_operator_does_is_no_contradiction),
        cmocka_unit_test(test_a_log_that_lies_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
