/* Sets of settings: equal ones are one, SQL turns one into another, nothing of a set can be forged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/vars.c"

static const struct vars *set_of(const char *k1, const char *v1, const char *k2, const char *v2)
{
    const struct vars *v = vars_none();
    assert_true(vars_set(&v, k1, v1));
    if (k2)
        assert_true(vars_set(&v, k2, v2));
    return v;
}

static void sql_is(const struct vars *has, const struct vars *wants, const char *expected)
{
    struct buf sql = {.max = 1 << 16};
    assert_true(vars_put_sql(has, wants, &sql));
    assert_int_equal(vars_differ(has, wants), *expected != '\0');
    assert_int_equal(buf_used(&sql), strlen(expected));
    if (*expected)
        assert_memory_equal(buf_view(&sql).at, expected, strlen(expected));
    buf_free(&sql);
}

static void equal_sets_are_one(void **state)
{
    (void)state;
    const struct vars *a = set_of("TimeZone", "UTC", "search_path", "x");
    const struct vars *b = set_of("search_path", "x", "timezone", "UTC");
    assert_ptr_equal(a, b);
    assert_true(vars_set(&b, "search_path", "y"));
    assert_ptr_not_equal(a, b);
    assert_string_equal(vars_get(b, "SEARCH_PATH"), "y");
    assert_true(vars_set(&b, "search_path", "x"));
    assert_ptr_equal(a, b);
    assert_true(vars_set(&b, "search_path", NULL));
    assert_null(vars_get(b, "search_path"));
    vars_unref(&a);
    vars_unref(&b);
    assert_null(b);
}

static void sql_of_a_difference(void **state)
{
    (void)state;
    const struct vars *none = vars_none();
    const struct vars *a = set_of("TimeZone", "UTC", "search_path", "a, b");
    const struct vars *b = set_of("TimeZone", "Europe/Berlin", NULL, NULL);
    sql_is(a, a, "");
    sql_is(none, a,
           "SELECT pg_catalog.set_config(E'search_path',E'a, b',false),"
           "pg_catalog.set_config(E'TimeZone',E'UTC',false);");
    /* tracked settings stay where nobody asks for another value; others are undone */
    sql_is(a, none, "RESET \"search_path\";");
    sql_is(
        a, b,
        "RESET \"search_path\";SELECT pg_catalog.set_config(E'TimeZone',E'Europe/Berlin',false);");
    vars_unref(&none);
    vars_unref(&a);
    vars_unref(&b);
}

static void values_cannot_break_out(void **state)
{
    (void)state;
    const struct vars *none = vars_none();
    const struct vars *evil = set_of("app.x\"; DROP", "\\'; DROP TABLE t; --", NULL, NULL);
    sql_is(none, evil,
           "SELECT pg_catalog.set_config(E'app.x\"; DROP',E'\\\\''; DROP TABLE t; --',false);");
    sql_is(evil, none, "RESET \"app\".\"x\"\"; DROP\";");
    vars_unref(&none);
    vars_unref(&evil);
}

static void too_large_a_set_changes_nothing(void **state)
{
    (void)state;
    static char large[VARS_BYTES_MAX + 1];
    memset(large, 'x', sizeof large - 1);
    const struct vars *v = set_of("search_path", "x", NULL, NULL), *before = v;
    assert_false(vars_set(&v, "work_mem", large));
    assert_ptr_equal(v, before);
    vars_unref(&v);
}

static void only_the_reported_ones_stay(void **state)
{
    (void)state;
    const struct vars *v = set_of("application_name", "psql", "work_mem", "1MB");
    const struct vars *kept = set_of("application_name", "psql", NULL, NULL);
    assert_true(vars_keep_tracked(&v));
    assert_ptr_equal(v, kept);
    vars_track("IntervalStyle, search_path");
    assert_string_equal(vars_tracked("intervalstyle"), "IntervalStyle");
    assert_non_null(vars_tracked("search_path"));
    assert_null(vars_tracked("work_mem"));
    vars_unref(&v);
    vars_unref(&kept);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    assert_null(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sets_are_one),
        cmocka_unit_test(sql_of_a_difference),
        cmocka_unit_test(values_cannot_break_out),
        cmocka_unit_test(too_large_a_set_changes_nothing),
        cmocka_unit_test(only_the_reported_ones_stay),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
