/* Texts of statements without their literals: what is left, what never is, and the table. */
#include "proxy/texts.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *blanked(const char *text)
{
    static char out[TEXTS_BYTES];
    blank(text, strlen(text), out);
    return out;
}

static void test_literals_are_blanked(void **state)
{
    (void)state;
    assert_string_equal(blanked("SELECT  *\n FROM t1 WHERE id = 4711 and b='x'"),
                        "SELECT * FROM t1 WHERE id = ? and b=?");
    assert_string_equal(blanked("SELECT 'it''s', E'a\nb', 1.5e10, .5, $1, x'ff', 0x1F"),
                        "SELECT ?, E?, ?, ?, $1, x?, ?");
    assert_string_equal(blanked("select $$a$$ , $t$ x $u$ y $t$, a$b$c from \"T 1\""),
                        "select ? , ?, a$b$c from \"T 1\"");
    assert_string_equal(blanked("/* app /* nested */ secret */select 1 -- more\n+2"),
                        "select ? +?");
    assert_string_equal(blanked("select '\xc3\xa4', \xc3\xa4"), "select ?, ..");
}

static void test_in_doubt_the_text_ends(void **state)
{
    (void)state;
    assert_string_equal(blanked("SELECT 'C:\\' , 'secret'"), "SELECT ?");
    assert_string_equal(blanked("SELECT E'a\\' secret ' , 1"), "SELECT E?");
    assert_string_equal(blanked("SELECT 'secret"), "SELECT ?");
    assert_string_equal(blanked("SELECT $x$ secret"), "SELECT ?");
    assert_string_equal(blanked("SELECT /* secret"), "SELECT");
}

/* Whatever stands between quotes does not come out, in any mixture. */
static void test_nothing_of_a_literal_gets_through(void **state)
{
    (void)state;
    static const char *const pieces[] = {"SELECT ", "'Z'",         "'Z''Z'", "E'Z\\'Z'",
                                         "$$Z$$",   "$a$Z$b$Z$a$", "--Z\n",  "/*Z*/",
                                         " t.c ",   ", ",          "'Z\\'",  "\"n\""};
    uint64_t random = 1;
    for (int round = 0; round < 20000; round++) {
        char text[400] = "";
        size_t n = 0;
        for (int i = 0; i < 8; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            const char *piece = pieces[(random >> 33) % COUNT_OF(pieces)];
            memcpy(text + n, piece, strlen(piece) + 1);
            n += strlen(piece);
        }
        const char *out = blanked(text);
        if (strchr(out, 'Z'))
            fail_msg("\"%s\" became \"%s\"", text, out);
    }
}

static void test_nothing_is_read_behind_the_end(void **state)
{
    (void)state;
    static const char text[] = "SELECT 'a', $x$ b $x$, \"c\", 1.5, $1 /* d */ -- e\n FROM t";
    char out[TEXTS_BYTES];
    for (size_t n = 0; n < sizeof text; n++) {
        char *exact = malloc(n ? n : 1);
        memcpy(exact, text, n);
        blank(exact, n, out);
        assert_true(strlen(out) < TEXTS_BYTES);
        free(exact);
    }
    char wide[300];
    memset(wide, 'w', sizeof wide);
    blank(wide, sizeof wide, out);
    assert_int_equal(strlen(out), TEXTS_BYTES - 1);
}

static void test_table_keeps_one_a_place_and_is_bounded(void **state)
{
    (void)state;
    char out[TEXTS_BYTES];
    texts_tick();
    texts_note(5, "select 5", 8);
    texts_get(5, out);
    assert_string_equal(out, "select ?");
    texts_note(5 + TEXTS_N, "update t", 8);
    texts_get(5, out);
    assert_string_equal(out, "");
    texts_get(5 + TEXTS_N, out);
    assert_string_equal(out, "update t");
    int known_n = 0;
    for (uint64_t i = 100; i < 200; i++)
        texts_note(i, "x", 1);
    for (uint64_t i = 100; i < 200; i++) {
        texts_get(i, out);
        known_n += *out != '\0';
    }
    assert_int_equal(known_n, TEXTS_A_TICK - 2);
    texts_note(0, "x", 1);
    texts_get(0, out);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals_are_blanked),
        cmocka_unit_test(test_in_doubt_the_text_ends),
        cmocka_unit_test(test_nothing_of_a_literal_gets_through),
        cmocka_unit_test(test_nothing_is_read_behind_the_end),
        cmocka_unit_test(test_table_keeps_one_a_place_and_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
