/* What the pacer makes of statement_timeout as it passes by. */
#include "proxy/pacer.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct server server;

static uint64_t ms_of(const char *text)
{
    return duration_us(text) / US_PER_MS;
}

static void note(const char *sql)
{
    pacer_note_set(&server, view_of(sql, strlen(sql)));
}

/* What it is after these, in milliseconds; -1: nothing is known. */
static int64_t after(const char *sql)
{
    note(sql);
    const struct server_pacing *p = &server.pacing;
    if (p->local_set)
        return (int64_t)(p->local_us / US_PER_MS);
    return p->timeout_set ? (int64_t)(p->timeout_us / US_PER_MS) : -1;
}

static int64_t first(const char *sql)
{
    server.pacing = (struct server_pacing){0};
    return after(sql);
}

static void test_values(void **state)
{
    (void)state;
    assert_int_equal(ms_of("300000"), 300000);
    assert_int_equal(ms_of("5s"), 5000);
    assert_int_equal(ms_of("1.5s"), 1500);
    assert_int_equal(ms_of(" 1.5 s "), 1500);
    assert_int_equal(ms_of("0.25min"), 15000);
    assert_int_equal(ms_of(".5h"), 1800000);
    assert_int_equal(ms_of("1d"), 86400000);
    assert_int_equal(ms_of("2500us"), 2);
    assert_int_equal(ms_of("1.6"), 2);
    assert_int_equal(ms_of("1e3"), 1000);
    assert_int_equal(ms_of("0x10"), 16);
    assert_int_equal(ms_of("1.5e1 ms"), 15);
    assert_int_equal(ms_of("0"), 0);
    /* what PostgreSQL does not take changes nothing */
    assert_int_equal(ms_of("5S"), 0);
    assert_int_equal(ms_of("5 parsecs"), 0);
    assert_int_equal(ms_of("-1"), 0);
    assert_int_equal(ms_of("inf"), 0);
    assert_int_equal(ms_of("1e30"), 0);
    assert_int_equal(ms_of(""), 0);
}

static void test_statements(void **state)
{
    (void)state;
    assert_int_equal(first("SET statement_timeout = '1.5s'"), 1500);
    assert_int_equal(first("set session STATEMENT_TIMEOUT to 6000"), 6000);
    assert_int_equal(first("SET \"statement_timeout\" TO '2 min'"), 120000);
    assert_int_equal(first("SET statement_timeout=7000;SELECT 1"), 7000);
    assert_int_equal(first("SELECT set_config('statement_timeout', '0.5h', false)"), 1800000);
    assert_int_equal(first("SHOW statement_timeout"), -1);
    assert_int_equal(first("SELECT current_setting('statement_timeout', true)"), -1);
    assert_int_equal(first("SET statement_timeout = '5 parsecs'"), -1);
    assert_int_equal(first("SET statement_timeout"), -1);
    assert_int_equal(first("SET statement_timeout = "), -1);
    assert_int_equal(first("SET work_mem = 5"), -1);
    assert_int_equal(first("SET statement_timeout = 5; SET statement_timeout = '9s'"), 9000);
}

static void test_back_again(void **state)
{
    (void)state;
    assert_int_equal(first("SET statement_timeout = '5s'"), 5000);
    assert_int_equal(after("RESET statement_timeout"), 0);
    assert_int_equal(after("SET statement_timeout = '5s'"), 5000);
    assert_int_equal(after("SET statement_timeout TO DEFAULT"), 0);
    assert_int_equal(after("SET statement_timeout = '5s'"), 5000);
    assert_int_equal(after("RESET  ALL"), 0);
    assert_int_equal(after("SET statement_timeout = '5s'"), 5000);
    assert_int_equal(after("DISCARD ALL"), 0);
    assert_int_equal(after("SET statement_timeout = '5s'"), 5000);
    assert_int_equal(after("SELECT preset all"), 5000);
}

static void test_local(void **state)
{
    static const char *const locals[] = {
        "SET LOCAL statement_timeout = '1.5s'",
        "BEGIN; set  local  statement_timeout to 1500",
        "SELECT set_config('statement_timeout', '1500ms', true)",
        "SELECT pg_catalog.set_config('statement_timeout','1500', 't')",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(locals); i++) {
        assert_int_equal(first("SET statement_timeout = '5s'"), 5000);
        assert_int_equal(after(locals[i]), 1500);
        server.tx = 'T';
        pacer_end(&server);
        assert_int_equal(after(""), 1500);
        server.tx = 'I'; /* the transaction is over */
        pacer_end(&server);
        assert_int_equal(after(""), 5000);
    }
    assert_int_equal(after("SET LOCAL statement_timeout TO DEFAULT"), 0);
    assert_int_equal(after("SET statement_timeout = 8000"), 8000); /* at once, also there */
}

/* No byte behind the text is looked at, and no text is too odd. */
static void test_cut_anywhere(void **state)
{
    static const char sql[] = "SELECT set_config('statement_timeout', '1.5 min', true); RESET ALL";
    (void)state;
    for (size_t n = 0; n < sizeof sql; n++) {
        char *copy = malloc(n > 0 ? n : 1);
        memcpy(copy, sql, n);
        pacer_note_set(&server, view_of(copy, n));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),       cmocka_unit_test(test_statements),
        cmocka_unit_test(test_back_again),   cmocka_unit_test(test_local),
        cmocka_unit_test(test_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
