/* The scanner of statements: a long table of statements, and what must and must not change a
 * fingerprint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/sql.c"
#include "proxy/sql_words.c"

#include "tests/guard.h"
#include "tests/sql_cases.h"

static struct sql_info scan_bytes(const void *text, size_t n, bool truncated)
{
    struct sql_info info;

    sql_scan((const char *)guard_copy(text, n), n, truncated, &info);
    return info;
}

static struct sql_info scan_text(const char *text)
{
    return scan_bytes(text, strlen(text), false);
}

/* ---- flags ---- */

static void flags_of_statements(void **state)
{
    (void)state;
    assert_true(COUNT_OF(sql_cases) >= 150);
    for (size_t i = 0; i < COUNT_OF(sql_cases); i++) {
        struct sql_info info = scan_text(sql_cases[i].text);
        if (info.flags != sql_cases[i].flags)
            fail_msg("\"%s\": %x, expected %x", sql_cases[i].text, info.flags, sql_cases[i].flags);
        assert_int_equal(info.fingerprint == 0, info.statements_n == 0);
        assert_int_equal(info.statements_n > 1, (info.flags & SQL_MULTI) != 0);
        assert_int_equal(info.statements_n == 0, (info.flags & SQL_EMPTY) != 0);
    }
}

static void a_truncated_text_says_so_and_is_in_doubt(void **state)
{
    struct sql_info info = scan_bytes("SELECT 1", 8, true);

    (void)state;
    assert_int_equal(info.flags, SQL_TRUNCATED | SQL_READ);
    assert_true(info.flags & SQL_LEAVES_STATE);
    assert_int_equal(scan_text("SELECT 1").flags & SQL_LEAVES_STATE, 0);
    assert_int_equal(scan_text("SET timezone = 'UTC'").flags & SQL_LEAVES_STATE, 0);
    assert_int_not_equal(scan_text("SET search_path = ''").flags & SQL_LEAVES_STATE, 0);
}

static void locks_of_very_many_tables_are_a_dumps(void **state)
{
    static const char cut[] = "LOCK TABLE a, b, c", more[] = "SELECT 1; LOCK TABLE a, b";

    (void)state;
    assert_int_equal(scan_bytes(cut, sizeof cut - 1, true).flags, SQL_READ);
    assert_int_equal(scan_bytes(cut, sizeof cut - 1, false).flags, SQL_WRITE);
    assert_true(scan_bytes(more, sizeof more - 1, true).flags & SQL_TRUNCATED);
}

static void the_first_statement_is_told_apart(void **state)
{
    struct sql_info info = scan_text("BEGIN; INSERT INTO t VALUES (1); SET x = 1");

    (void)state;
    assert_int_equal(info.first, SQL_BEGIN);
    assert_int_equal(info.statements_n, 3);
    assert_int_equal(info.flags, SQL_MULTI | SQL_BEGIN | SQL_WRITE | SQL_SET);
}

static void names_are_folded_and_cut_as_postgresql_does(void **state)
{
    static const struct {
        const char *text, *name;
    } names[] = {
        {"DEALLOCATE Stmt_1", "stmt_1"},
        {"DEALLOCATE PREPARE s", "s"},
        {"DEALLOCATE PREPARE", "prepare"},
        {"DEALLOCATE \"Stmt\"", "Stmt"},
        {"DEALLOCATE \"a \"\"b\"\" c\"", "a \"b\" c"},
        {"DEALLOCATE \"all\"", "all"},
        {"DEALLOCATE ALL", ""},
        {"DEALLOCATE", ""},
        {"PREPARE plan (int) AS SELECT $1", "plan"},
        {"EXECUTE Plan(1)", "plan"},
        {"EXPLAIN EXECUTE plan", "plan"},
        {"EXPLAIN (VERBOSE, COSTS) EXECUTE plan", "plan"},
        {"DEALLOCATE a1234567890123456789012345678901234567890123456789012345678901234567890",
         "a12345678901234567890123456789012345678901234567890123456789012"},
        {"DEALLOCATE \303\204b", "\303\204b"},
        {"SELECT 1", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_string_equal(scan_text(names[i].text).name, names[i].name);
}

static void flags_of_tags(void **state)
{
    static const struct {
        const char *tag;
        uint32_t flags;
    } tag_cases[] = {
        {"SELECT 1", SQL_READ},
        {"INSERT 0 1", SQL_WRITE},
        {"UPDATE 3", SQL_WRITE},
        {"COPY 5", 0},
        {"BEGIN", SQL_BEGIN},
        {"START TRANSACTION", SQL_BEGIN},
        {"COMMIT", SQL_COMMIT},
        {"COMMIT PREPARED", SQL_WRITE},
        {"ROLLBACK", SQL_ROLLBACK},
        {"PREPARE TRANSACTION", SQL_COMMIT},
        {"SAVEPOINT", 0},
        {"SET", SQL_SET},
        {"SET CONSTRAINTS", 0},
        {"RESET", SQL_SET},
        {"PREPARE", SQL_PREPARE},
        {"DEALLOCATE", SQL_DEALLOCATE},
        {"DEALLOCATE ALL", SQL_DEALLOCATE_ALL},
        {"DISCARD ALL", SQL_DISCARD_ALL},
        {"DISCARD PLANS", SQL_DISCARD},
        {"LISTEN", SQL_LISTEN},
        {"UNLISTEN", SQL_UNLISTEN},
        {"LOAD", SQL_LOAD},
        {"DO", SQL_DO | SQL_WRITE},
        {"CALL", SQL_DO | SQL_WRITE},
        {"DECLARE CURSOR", SQL_CURSOR | SQL_READ},
        {"CLOSE CURSOR", 0},
        {"CREATE TABLE", SQL_WRITE | SQL_DDL},
        {"CREATE TABLE AS", SQL_WRITE | SQL_DDL},
        {"CREATE INDEX", SQL_WRITE | SQL_DDL | SQL_UTILITY_LONG},
        {"DROP TABLE", SQL_WRITE | SQL_DDL},
        {"ALTER ROLE", SQL_WRITE | SQL_DDL},
        {"VACUUM", SQL_WRITE | SQL_UTILITY_LONG},
        {"SELECTED", SQL_WRITE},
        {"", SQL_WRITE},
        {"NEW COMMAND OF VERSION 30", SQL_WRITE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(tag_cases); i++) {
        if (sql_tag_flags(tag_cases[i].tag) != tag_cases[i].flags)
            fail_msg("\"%s\": %x", tag_cases[i].tag, sql_tag_flags(tag_cases[i].tag));
    }
}

/* ---- fingerprints ---- */

static void literals_do_not_count(void **state)
{
    static const char *const alike[][2] = {
        {"SELECT 1", "SELECT 2"},
        {"SELECT 1", "SELECT -2.5e-10"},
        {"SELECT 1", "select 'one'"},
        {"SELECT 1", "SELECT $1"},
        {"SELECT 1", "SELECT $$one$$"},
        {"SELECT 1", "SELECT E'o\\'ne'"},
        {"SELECT 1", "SELECT U&'o\\006ee'"},
        {"SELECT 1", "SELECT x'1F'"},
        {"SELECT 1", "SELECT 0xFF"},
        {"SELECT 1", "SELECT .5"},
        {"SELECT 1", "SELECT NULL"},
        {"SELECT 1", "SELECT true"},
        {"SELECT 1", "SELECT 'it''s'"},
        {"SELECT 1;", " /* x */ Select  1 -- y"},
        {"SELECT 1", ";;SELECT 1;;;"},
        {"SELECT a FROM t WHERE b = 5", "select A from T where B=-5"},
        {"SELECT a FROM t WHERE b = 5", "SELECT a\nFROM\tt WHERE b/**/=/**/'x y z'"},
        {"SELECT \"a\" FROM \"t\"", "select a from t"},
        {"SELECT * FROM t WHERE a IN (1)", "SELECT * FROM t WHERE a IN (1,2, 3 ,'x',$5,-6)"},
        {"SELECT ARRAY[1]", "SELECT ARRAY[1,2,3]"},
        {"INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)"},
        {"INSERT INTO t (a, b) VALUES ($1, $2)", "INSERT INTO t (a,b) VALUES ($1,$2),($3,$4)"},
        {"VALUES (1), f", "VALUES (1), (2), f"},
        {"SELECT a - 1", "SELECT a -2"},
        {"SELECT f(1, a)", "SELECT f(-1, a)"},
        {"SELECT 1; SELECT a", "SELECT 2;;SELECT a;"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(alike); i++) {
        if (scan_text(alike[i][0]).fingerprint != scan_text(alike[i][1]).fingerprint)
            fail_msg("\"%s\" and \"%s\" differ", alike[i][0], alike[i][1]);
    }
}

static void all_else_counts(void **state)
{
    static const char *const unlike[][2] = {
        {"SELECT a", "SELECT b"},
        {"SELECT ab", "SELECT a b"},
        {"SELECT abcdefgh", "SELECT abcdefg h"},
        {"SELECT abcdefghi", "SELECT abcdefgh i"},
        {"SELECT a1234567890123456", "SELECT a1234567890123457"},
        {"SELECT a1234567b1234567", "SELECT b1234567a1234567"},
        {"SELECT a < 1", "SELECT a > 1"},
        {"SELECT a - 1", "SELECT a + 1"},
        {"SELECT a FROM t", "SELECT a FROM t LIMIT 5"},
        {"SELECT a, b", "SELECT a b"},
        {"SELECT (a)", "SELECT a"},
        {"SELECT f(a, 1)", "SELECT f(1, a)"},
        {"SELECT f(1, 2, a)", "SELECT f(1, a, 2)"},
        {"SELECT a IS NULL", "SELECT a IS NOT NULL"},
        {"SELECT 1; SELECT a", "SELECT 1 SELECT a"},
        {"SELECT \"a b\"", "SELECT a b"},
        {"SELECT \"a b\"", "SELECT \"a c\""},
        {"SELECT \303\244", "SELECT \303\266"},
        {"INSERT INTO t VALUES (1, a)", "INSERT INTO t VALUES (1, a), (1, a)"},
        {"SELECT 1, (2)", "SELECT 1"},
        {"SELECT (1), f", "SELECT (1), (f)"},
        {"SELECT 'a' FROM t", "SELECT 'a''' FROM u"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(unlike); i++) {
        if (scan_text(unlike[i][0]).fingerprint == scan_text(unlike[i][1]).fingerprint)
            fail_msg("\"%s\" and \"%s\"", unlike[i][0], unlike[i][1]);
    }
}

/* All statements of the table have their own fingerprint. */
static void no_two_of_the_table_meet(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sql_cases); i++) {
        struct sql_info a = scan_text(sql_cases[i].text);
        for (size_t j = 0; j < i && a.statements_n > 0; j++) {
            if (scan_text(sql_cases[j].text).fingerprint == a.fingerprint)
                fail_msg("\"%s\" and \"%s\" meet", sql_cases[i].text, sql_cases[j].text);
        }
    }
}

/* The same statement in other clothes: other numbers, other case, white space and comments between
 * tokens. Quoted things are left as they are. */
static size_t disguise(const char *text, uint32_t seed, char *out)
{
    size_t n = 0;
    bool quoted = strpbrk(text, "'\"$\\-/") != NULL;

    for (const char *c = text; *c; c++) {
        bool inside = c > text && (is_word_byte((uint8_t)c[-1]) || strchr("_.&<>:", c[-1]));
        seed = seed * 1664525 + 1013904223;
        if (*c >= '0' && *c <= '9' && !inside && !quoted)
            out[n++] = (char)('1' + (seed >> 24) % 9);
        else if (*c >= 'a' && *c <= 'z' && !quoted && (seed >> 30) == 0)
            out[n++] = (char)(*c - ('a' - 'A'));
        else
            out[n++] = *c;
        if (*c == ' ' && !quoted && (seed >> 28) < 4) {
            static const char *const gaps[] = {"\n", "  ", "/* ; 'x */", "-- \"\n"};
            size_t gap_n = strlen(gaps[seed >> 28]);
            memcpy(out + n, gaps[seed >> 28], gap_n);
            n += gap_n;
        }
    }
    return n;
}

static void clothes_do_not_count(void **state)
{
    char dressed[2000];
    size_t changed = 0;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sql_cases); i++) {
        struct sql_info plain = scan_text(sql_cases[i].text);
        for (uint32_t seed = 0; seed < 20; seed++) {
            size_t n = disguise(sql_cases[i].text, seed * 7919 + (uint32_t)i, dressed);
            struct sql_info info = scan_bytes(dressed, n, false);
            changed += n != strlen(sql_cases[i].text);
            if (info.fingerprint != plain.fingerprint || info.flags != plain.flags)
                fail_msg("\"%s\" became \"%.*s\"", sql_cases[i].text, (int)n, dressed);
        }
    }
    assert_true(changed > 500);
}

/* Whatever is cut off or changed, nothing is read behind the end; and a scan says the same twice.
 */
static void any_bytes_are_survived(void **state)
{
    static const char bad[] = {'\'', '"', '$', '/', '-', '(', ';', '\\', 0, '\377'};
    char text[512];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sql_cases); i++) {
        size_t n = strlen(sql_cases[i].text);
        for (size_t cut = 0; cut <= n; cut++) {
            struct sql_info a = scan_bytes(sql_cases[i].text, cut, true);
            struct sql_info b = scan_bytes(sql_cases[i].text, cut, true);
            assert_memory_equal(&a, &b, sizeof(a));
            assert_true(a.flags & SQL_TRUNCATED || !strncmp(sql_cases[i].text, "LOCK", 4));
            if (cut == n)
                continue;
            memcpy(text, sql_cases[i].text, n);
            text[cut] = bad[cut % sizeof(bad)];
            (void)scan_bytes(text, n, false);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_of_statements),
        cmocka_unit_test(a_truncated_text_says_so_and_is_in_doubt),
        cmocka_unit_test(locks_of_very_many_tables_are_a_dumps),
        cmocka_unit_test(the_first_statement_is_told_apart),
        cmocka_unit_test(names_are_folded_and_cut_as_postgresql_does),
        cmocka_unit_test(flags_of_tags),
        cmocka_unit_test(literals_do_not_count),
        cmocka_unit_test(all_else_counts),
        cmocka_unit_test(no_two_of_the_table_meet),
        cmocka_unit_test(clothes_do_not_count),
        cmocka_unit_test(any_bytes_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
