/* The log between its writers and the loop that writes it out: what calls that loop, and that a
 * call which was answered is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "proxy/log.c"

enum { ROUNDS_N = 20000 };

static int open_log(void **state)
{
    struct err err;
    struct log_opts opts = {.file = "/dev/null", .quiet = true};
    (void)state;
    return log_open(&opts, &err) ? 0 : -1;
}

static bool is_called(void)
{
    struct pollfd p = {.fd = log_fd(), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void what_is_usual_waits_for_a_tick(void **state)
{
    (void)state;
    log_info("a login");
    assert_false(is_called());
    log_warning("a server that is gone");
    assert_true(is_called());
    log_flush();
    assert_false(is_called());
}

static void much_does_not_wait(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < RING_BYTES / 4 / 100 && !is_called(); i++)
        log_info("%0100d", 0);
    assert_true(is_called());
    log_flush();
    assert_int_equal(log_dropped_n(), 0);
}

static _Atomic uint32_t round_n, done_n;

static void *warn_each_round(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= ROUNDS_N; i++) {
        while (atomic_load(&round_n) < i)
            continue;
        log_warning("round %u", i);
        atomic_store(&done_n, i);
    }
    return NULL;
}

/* A line that comes in the middle of a flush must neither be forgotten nor call for ever. */
static void a_call_ends_with_the_next_flush(void **state)
{
    pthread_t writer;
    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, warn_each_round, NULL), 0);
    for (uint32_t i = 1; i <= ROUNDS_N; i++) {
        atomic_store(&round_n, i);
        log_flush();
        while (atomic_load(&done_n) < i)
            continue;
        assert_true(is_called() || the_log.head == the_log.tail);
        log_flush();
        assert_false(is_called());
        assert_true(the_log.head == the_log.tail);
    }
    pthread_join(writer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_usual_waits_for_a_tick),
        cmocka_unit_test(much_does_not_wait),
        cmocka_unit_test(a_call_ends_with_the_next_flush),
    };
    return cmocka_run_group_tests_name("log", tests, open_log, NULL);
}
