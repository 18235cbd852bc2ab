/* The first packet of a connection, its parameters, and the switches in its `options`: whole, cut
 * at each byte, and with the end of the bytes at a guard page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/wire.h"
#include "tests/guard.h"

static struct buf *fresh(void)
{
    static struct buf b;

    buf_free(&b);
    b.max = 1 << 20;
    return &b;
}

static void assert_view(struct view v, const void *bytes, size_t n)
{
    assert_false(v.bad);
    assert_int_equal(v.n, n);
    if (n > 0)
        assert_memory_equal(v.at, bytes, n);
}

static void first_packets_come_back(void **state)
{
    static const struct wire_param params[] = {{"user", "alice"}, {"database", ""}, {"a", "b c"}};
    struct buf *b = fresh();
    struct wire_startup s;
    struct wire_param p;

    (void)state;
    for (uint16_t minor = 0; minor <= 2; minor += 2) {
        b = fresh();
        assert_true(wire_put_startup(b, minor, params, 3));
        assert_int_equal(wire_startup(buf_view(b), &s), WIRE_OK);
        assert_int_equal(s.hello, WIRE_HELLO_STARTUP);
        assert_int_equal(s.packet_n, buf_used(b));
        assert_int_equal(s.minor, minor);
        for (size_t i = 0; i < 3; i++) {
            assert_true(wire_param_next(&s.params, &p));
            assert_string_equal(p.name, params[i].name);
            assert_string_equal(p.value, params[i].value);
        }
        assert_false(wire_param_next(&s.params, &p));
        assert_false(wire_param_next(&s.params, &p));
        assert_false(s.params.bad);
    }
    b = fresh();
    assert_true(wire_put_ssl_request(b));
    assert_int_equal(wire_startup(buf_view(b), &s), WIRE_OK);
    assert_int_equal(s.hello, WIRE_HELLO_SSL);
    assert_int_equal(s.packet_n, 8);
    b = fresh();
    assert_true(wire_put_cancel(b, 77, view_of("12345678901234567890123456789012", 32)));
    assert_int_equal(wire_startup(buf_view(b), &s), WIRE_OK);
    assert_int_equal(s.hello, WIRE_HELLO_CANCEL);
    assert_int_equal(s.pid, 77);
    assert_view(s.key, "12345678901234567890123456789012", 32);
}

static void first_packets_are_told_apart(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum wire_verdict verdict;
        enum wire_hello hello;
        uint32_t packet_n;
    } cases[] = {
        {"", 0, WIRE_MORE, WIRE_HELLO_ALIEN, 0},
        {"\0\0\0\10\4\322\26\57", 8, WIRE_OK, WIRE_HELLO_SSL, 8},
        {"\0\0\0\10\4\322\26\57X", 9, WIRE_OK, WIRE_HELLO_SSL,
         8}, /* the caller sees packet_n < n */
        {"\0\0\0\10\4\322\26\60", 8, WIRE_OK, WIRE_HELLO_GSS, 8},
        {"\0\0\0\11\4\322\26\57X", 9, WIRE_BAD, WIRE_HELLO_SSL, 9},
        {"\0\0\0\20\4\322\26\56\0\0\0\1abcd", 16, WIRE_OK, WIRE_HELLO_CANCEL, 16},
        {"\0\0\0\17\4\322\26\56\0\0\0\1abc", 15, WIRE_BAD, WIRE_HELLO_CANCEL, 15},
        {"\0\0\0\12\4\322\26\56\0\0", 10, WIRE_BAD, WIRE_HELLO_CANCEL, 10},
        {"\0\0\0\11\0\3\0\0\0", 9, WIRE_OK, WIRE_HELLO_STARTUP, 9},
        {"\0\0\0\11\0\3\0\2\0", 9, WIRE_OK, WIRE_HELLO_STARTUP, 9},
        {"\0\0\0\11\0\3\47\17\0", 9, WIRE_OK, WIRE_HELLO_STARTUP, 9}, /* 3.9999: GREASE */
        {"\0\0\0\10\0\3\0\0", 8, WIRE_BAD, WIRE_HELLO_STARTUP, 8},    /* no terminator */
        {"\0\0\0\12\0\3\0\0ab", 10, WIRE_BAD, WIRE_HELLO_STARTUP, 10},
        {"\0\0\0\11\0\2\0\0x", 9, WIRE_OK, WIRE_HELLO_ALIEN, 9},
        {"\0\0\0\10\0\4\0\0", 8, WIRE_OK, WIRE_HELLO_ALIEN, 8},
        {"\0\0\0\7", 4, WIRE_BAD, WIRE_HELLO_ALIEN, 0},
        {"\0\0\47\20", 4, WIRE_MORE, WIRE_HELLO_ALIEN, 10000},
        {"\0\0\47\21", 4, WIRE_BAD, WIRE_HELLO_ALIEN, 0},
        {"\0\1", 2, WIRE_BAD, WIRE_HELLO_ALIEN, 0},
        {"GET / HTTP", 10, WIRE_BAD, WIRE_HELLO_ALIEN, 0},
        {"\26\3\1", 3, WIRE_OK, WIRE_HELLO_TLS, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct wire_startup s;
        enum wire_verdict verdict =
            wire_startup(view_of(guard_copy(cases[i].bytes, cases[i].n), cases[i].n), &s);
        if (verdict != cases[i].verdict || s.hello != cases[i].hello ||
            s.packet_n != cases[i].packet_n)
            fail_msg("case %zu: verdict %d hello %d packet_n %u", i, verdict, s.hello, s.packet_n);
        for (size_t cut = 0; cut < cases[i].packet_n && verdict == WIRE_OK; cut++) {
            struct view v = view_of(guard_copy(cases[i].bytes, cut), cut);
            assert_int_equal(wire_startup(v, &s), WIRE_MORE);
        }
    }
}

static void parameter_lists_are_strict(void **state)
{
    static const struct {
        const char *bytes;
        size_t n, params_n;
        bool bad;
    } cases[] = {
        {"\0", 1, 0, false},
        {"user\0a\0\0", 8, 1, false},
        {"user\0\0\0", 7, 1, false},
        {"user\0a\0", 7, 1, true},     /* no terminator */
        {"user\0a\0\0\0", 9, 1, true}, /* two */
        {"user\0a\0\0x\0y\0\0", 13, 1, true},
        {"user\0a", 6, 0, true},
        {"user\0", 5, 0, true},
        {"user\0\0", 6, 1, true}, /* the terminator was the value's */
        {"", 0, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct view v = view_of(guard_copy(cases[i].bytes, cases[i].n), cases[i].n);
        struct wire_param p;
        size_t n = 0;
        while (wire_param_next(&v, &p))
            n++;
        if (n != cases[i].params_n || v.bad != cases[i].bad)
            fail_msg("case %zu: %zu parameters, bad %d", i, n, v.bad);
    }
}

static void options_are_split_as_postgresql_does(void **state)
{
    static const struct {
        const char *text;
        const char *expected; /* name=value; ...  or a ! where it breaks */
    } cases[] = {
        {"", ""},
        {"  \t ", ""},
        {"-c a=b", "a=b;"},
        {"-ca=b", "a=b;"},
        {"--a=b", "a=b;"},
        {" -c  a=b\n--c-d=e ", "a=b;c_d=e;"},
        {"-c search_path=a,\\ b", "search_path=a, b;"},
        {"-c a=\\\\", "a=\\;"},
        {"-c a=b\\", "a=b;"},
        {"-c a=", "a=;"},
        {"-c a=b=c", "a=b=c;"},
        {"-c geqo=off -c statement_timeout=5min", "geqo=off;statement_timeout=5min;"},
        {"-c\\ a=b", " a=b;"}, /* one word: the blank belongs to the name, and nobody knows it */
        {"-c", "!"},
        {"-c ", "!"},
        {"-c a", "!"},
        {"-c =b", "!"},
        {"--", "!"},
        {"--a", "!"},
        {"-d 5", "!"},
        {"a=b", "!"},
        {"-", "!"},
        {"-c a=b -x", "a=b;!"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t n = strlen(cases[i].text);
        struct view v = view_of(guard_copy(cases[i].text, n), n);
        struct wire_option option;
        char got[256] = "";
        size_t got_n = 0;
        while (wire_option_next(&v, &option))
            got_n += (size_t)snprintf(got + got_n, sizeof(got) - got_n, "%s=%s;", option.name,
                                      option.value);
        if (v.bad)
            (void)snprintf(got + got_n, sizeof(got) - got_n, "!");
        assert_string_equal(got, cases[i].expected);
    }
}

static void long_options_are_refused_not_cut(void **state)
{
    static char text[WIRE_OPTION_VALUE_MAX + 100];
    struct wire_option option;

    (void)state;
    for (size_t n = WIRE_OPTION_VALUE_MAX - 1; n <= WIRE_OPTION_VALUE_MAX + 80; n++) {
        memset(text, 'v', n + 5);
        memcpy(text, "-c a=", 5);
        struct view v = view_of(guard_copy(text, n + 5), n + 5);
        assert_int_equal(wire_option_next(&v, &option), n <= WIRE_OPTION_VALUE_MAX);
        assert_int_equal(v.bad, n > WIRE_OPTION_VALUE_MAX);
    }
    for (size_t n = 62; n <= 65; n++) {
        memset(text, 'n', n + 4);
        memcpy(text, "--", 2);
        memcpy(text + n + 2, "=v", 2);
        struct view v = view_of(guard_copy(text, n + 4), n + 4);
        assert_int_equal(wire_option_next(&v, &option), n < sizeof(option.name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_packets_come_back),
        cmocka_unit_test(first_packets_are_told_apart),
        cmocka_unit_test(parameter_lists_are_strict),
        cmocka_unit_test(options_are_split_as_postgresql_does),
        cmocka_unit_test(long_options_are_refused_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
