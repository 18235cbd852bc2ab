/* Prepared statements: one per text, names per client, the least recently used leaves a server; and
 * the list of what a server owes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/owed.c"
#include "proxy/prep.c"

static struct prep_stmt *stmt_of(const char *text)
{
    struct sql_info info = {.fingerprint = 7};
    struct prep_stmt *s = prep_intern(view_of(text, strlen(text) + 1), &info);
    assert_non_null(s);
    return s;
}

static void one_text_is_one_statement(void **state)
{
    (void)state;
    struct prep_stmt *a = stmt_of("select 1"), *b = stmt_of("select 1"), *c = stmt_of("select 2");
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_string_not_equal(a->name, c->name);
    assert_int_equal(prep_statements_n(), 2);
    prep_unref(&a);
    assert_int_equal(prep_statements_n(), 2);
    prep_unref(&b);
    prep_unref(&c);
    assert_int_equal(prep_statements_n(), 0);
}

static void names_are_a_clients_own(void **state)
{
    (void)state;
    struct prep_names *names = NULL;
    struct prep_stmt *a = stmt_of("select 1"), *b = stmt_of("select 2");
    uint64_t first = prep_names_add(&names, "s1", 2, a);
    uint64_t second = prep_names_add(&names, "s2", 2, a);
    assert_true(first && second && first != second);
    assert_ptr_equal(prep_names_find(names, "s1", 2), a);
    assert_null(prep_names_find(names, "s", 1));
    prep_names_forget(&names, second); /* the Parse of s2 failed: s1 stays */
    assert_non_null(prep_names_find(names, "s1", 2));
    assert_null(prep_names_find(names, "s2", 2));
    assert_true(prep_names_add(&names, "s2", 2, b));
    prep_names_remove(&names, "s1", 2);
    prep_names_remove(&names, "unknown", 7);
    assert_int_equal(prep_names_n(names), 1);
    prep_names_free(&names);
    assert_null(names);
    prep_unref(&a);
    prep_unref(&b);
    assert_int_equal(prep_statements_n(), 0);
}

static void the_least_recently_used_leaves(void **state)
{
    (void)state;
    struct prep_cache *cache = NULL;
    struct prep_stmt *s[3] = {stmt_of("a"), stmt_of("b"), stmt_of("c")};
    char name[PREP_NAME_BYTES];
    for (int i = 0; i < 3; i++)
        assert_true(prep_cache_add(&cache, s[i]));
    assert_int_equal(prep_cache_find(cache, s[0]), PREP_PRESENT);
    assert_false(prep_cache_evict(&cache, 3, name));
    assert_true(prep_cache_evict(&cache, 2, name));
    assert_string_equal(name, s[1]->name);
    assert_int_equal(prep_cache_find(cache, s[1]), PREP_ABSENT);
    prep_outdate(s[0]);
    assert_int_equal(prep_cache_find(cache, s[0]), PREP_OUTDATED);
    prep_cache_remove(&cache, s[0]->number);
    assert_true(prep_cache_add(&cache, s[0]));
    assert_int_equal(prep_cache_find(cache, s[0]), PREP_PRESENT);
    assert_ptr_equal(prep_cache_stmt(cache, s[2]->number), s[2]);
    prep_cache_free(&cache);
    for (int i = 0; i < 3; i++)
        prep_unref(&s[i]);
    assert_int_equal(prep_statements_n(), 0);
}

static void what_is_owed_comes_in_order(void **state)
{
    (void)state;
    struct owed o = {.head = 0};
    uint64_t pushed = 0, popped = 0;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 7 + round; i++) {
            struct owed_entry e = {.kind = i % 3 ? OWED_BIND : OWED_SYNC, .stmt_number = pushed++};
            assert_true(owed_push(&o, e));
        }
        for (int i = 0; i < 5 + round; i++)
            assert_int_equal(owed_pop(&o).stmt_number, popped++);
        assert_int_equal(owed_n(&o), pushed - popped);
    }
    owed_drop_syncs(&o);
    for (uint32_t i = 0; i < owed_n(&o); i++)
        assert_int_equal(owed_at(&o, i)->kind, OWED_BIND);
    owed_clear(&o);
    assert_null(owed_head(&o));
}

static void what_is_owed_is_bounded(void **state)
{
    (void)state;
    struct owed o = {.head = 0};
    uint32_t n = 0;
    while (owed_push(&o, (struct owed_entry){.kind = OWED_QUERY}))
        n++;
    assert_int_equal(n, OWED_MAX);
    owed_clear(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_text_is_one_statement),
        cmocka_unit_test(names_are_a_clients_own),
        cmocka_unit_test(the_least_recently_used_leaves),
        cmocka_unit_test(what_is_owed_comes_in_order),
        cmocka_unit_test(what_is_owed_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
