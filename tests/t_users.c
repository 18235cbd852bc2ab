/* auth_file: PgBouncer's format, its errors with their lines, and its size in memory. */
#include "config/users.c"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

static struct config_report report;
static struct arena arena;
static struct users users;

static bool read_bytes(const char *text, size_t bytes)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    rewind(file);
    arena_drop(&arena);
    report = (struct config_report){0};
    bool ok = users_read(file, "list.txt", &arena, &users, &report);
    fclose(file);
    return ok;
}

static bool read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

static int teardown(void **state)
{
    (void)state;
    arena_drop(&arena);
    return 0;
}

static const struct {
    const char *text, *user, *secret;
} good[] = {
    {"\"a\" \"b\"\n", "a", "b"},
    {"\"a\" \"b\"", "a", "b"},
    {"\"a\" \"b\"\r\n", "a", "b"},
    {" \t\"a\"\t\"b\" anything \"goes\n", "a", "b"},
    {"\"a\"\"b\"\n", NULL, NULL}, /* one string, with a quote in it */
    {"\"a\"x\"b\"\n", "a", "b"},
    {"; \"a\" \"c\"\n  ;x\n\n\"a\" \"b\"\n", "a", "b"},
    {"\"a\"\"\" \"b\"\"\"\"c\"\n", "a\"", "b\"\"c"},
    {"\"a\" \"\"\n", "a", ""},
    {"\"a b;\" \"c ; d\"\n", "a b;", "c ; d"},
    {"\"a\" \"1\"\n\"b\" \"2\"\n\"a\" \"3\"\n", "a", "3"},
    {"\"b\" \"2\"\n\"a\" \"1\"\n\"c\" \"3\"\n", "c", "3"},
    {"\"\xc3\xa4\" \"\xff\"\n", "\xc3\xa4", "\xff"},
};

static void lines_are_read_as_pgbouncer_reads_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        bool ok = read_text(good[i].text);
        assert_int_equal(ok, good[i].user != NULL);
        if (!ok)
            continue;
        assert_int_equal(report.notes_n, 0);
        assert_non_null(users_secret(&users, good[i].user));
        assert_string_equal(users_secret(&users, good[i].user), good[i].secret);
        assert_null(users_secret(&users, "nobody"));
        assert_null(users_secret(&users, ""));
    }
}

static const struct {
    const char *text;
    unsigned line;
} bad[] = {
    {"a b\n", 1},
    {"\"a\" b\n", 1},
    {"\"a\"\n\"b\"\n", 1},
    {"\"a\" \"b\n\"c\" \"d\"\n", 1},
    {"\"a\" \"b\"\n\"c\n", 2},
    {"# no comment here\n", 1},
    {"\"\" \"b\"\n", 1},
};

static void a_broken_line_is_an_error_with_its_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char place[32];
        assert_false(read_text(bad[i].text));
        snprintf(place, sizeof place, "list.txt:%u: ", bad[i].line);
        assert_int_equal(strncmp(report.notes[0].text, place, strlen(place)), 0);
        /* never the secret */
        assert_null(strstr(report.notes[0].text, "\"d\""));
    }
    assert_false(read_bytes("\"a\" \"b\0c\"\n", 10));
    assert_non_null(strstr(report.notes[0].text, "NUL"));
}

static void names_and_secrets_have_limits(void **state)
{
    (void)state;
    char text[2400];
    for (int n = 126; n < 130; n++) {
        snprintf(text, sizeof text, "\"%0*d\" \"x\"\n", n, 0);
        assert_int_equal(read_text(text), n <= USERS_NAME_MAX);
    }
    for (int n = 2046; n < 2050; n++) {
        snprintf(text, sizeof text, "\"a\" \"%0*d\"\n", n, 0);
        assert_int_equal(read_text(text), n <= USERS_SECRET_MAX);
    }
}

static void a_secret_is_told_by_its_form(void **state)
{
    (void)state;
    static const struct {
        const char *secret;
        enum users_kind kind;
    } secrets[] = {
        {"", USERS_NONE},
        {"x", USERS_PLAIN},
        {"md5", USERS_PLAIN},
        {"md50123456789abcdef0123456789abcdef", USERS_MD5},
        {"md50123456789ABCDEF0123456789abcdef", USERS_MD5},
        {"md50123456789abcdef0123456789abcde", USERS_PLAIN},
        {"md50123456789abcdef0123456789abcdefa", USERS_PLAIN},
        {"md50123456789abcdef0123456789abcdeg", USERS_PLAIN},
        {"MD50123456789abcdef0123456789abcdef", USERS_PLAIN},
        {"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy", USERS_SCRAM},
        {"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:", USERS_PLAIN},
        {"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk", USERS_PLAIN},
        {"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy:", USERS_PLAIN},
        {"SCRAM-SHA-256$:c2FsdA==$c3RvcmVk:c2VydmVy", USERS_PLAIN},
        {"SCRAM-SHA-256$4096:$c3RvcmVk:c2VydmVy", USERS_PLAIN},
        {"SCRAM-SHA-256$", USERS_PLAIN},
    };
    for (size_t i = 0; i < COUNT_OF(secrets); i++)
        assert_int_equal(users_kind_of(secrets[i].secret), secrets[i].kind);
}

static void a_broken_scram_secret_is_told(void **state)
{
    (void)state;
    assert_true(read_text("\"a\" \"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk\"\n"));
    assert_int_equal(report.warnings_n, 1);
    assert_null(strstr(report.notes[0].text, "c2FsdA"));
}

static void every_cut_of_a_file_is_read_or_refused(void **state)
{
    (void)state;
    static const char whole[] = "; c\n\"a\"\"\" \"b\"\"c\" x\n \"d\" \"md5\"\r\n\"d\" \"e\"";
    for (size_t n = 0; n < sizeof whole; n++) {
        bool ok = read_bytes(whole, n);
        assert_int_equal(ok, report.errors_n == 0);
    }
    assert_int_equal(users_n(&users), 2);
}

static void an_empty_file_has_nobody(void **state)
{
    (void)state;
    assert_true(read_text(""));
    assert_int_equal(users_n(&users), 0);
    assert_null(users_secret(&users, "a"));
    static const struct users none;
    assert_null(users_secret(&none, "a"));
}

/* Names in an order that is neither sorted nor reversed. */
static unsigned scattered(unsigned i)
{
    return i * 7919u % 20000u;
}

static void twenty_thousand_users_are_small_and_quick(void **state)
{
    (void)state;
    static char text[20000 * 180];
    char name[32];
    size_t used = 0;
    for (unsigned i = 0; i < 20000; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "\"tenant_role_%u\" \"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
                                 "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                                 "wfPLwE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU%02u\"\n",
                                 scattered(i), i % 100);
    assert_true(used < sizeof text);
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    assert_true(read_bytes(text, used));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    assert_int_equal(users_n(&users), 20000);
    for (unsigned i = 0; i < 20000; i += 61) {
        snprintf(name, sizeof name, "tenant_role_%u", scattered(i));
        const char *secret = users_secret(&users, name);
        assert_non_null(secret);
        assert_int_equal(strtol(secret + strlen(secret) - 2, NULL, 10), i % 100);
    }
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    print_message("20,000 users: %.0f ms, %zu KiB\n", seconds * 1e3, arena.taken_bytes / 1024);
    assert_true(arena.taken_bytes < 5u << 20);
    /* 0.2 s is the aim; what grows with the square of the users takes minutes here. Sanitizers and
     * busy machines need room. */
    assert_true(seconds < 20.0);
}

static void a_stamp_tells_files_apart(void **state)
{
    (void)state;
    struct stat file = {.st_dev = 1, .st_ino = 2, .st_size = 3, .st_mtim = {4, 5}};
    struct users_stamp before = users_stamp_of(&file), after = before;
    assert_true(users_stamp_same(&before, &after));
    file.st_mtim.tv_nsec++;
    after = users_stamp_of(&file);
    assert_false(users_stamp_same(&before, &after));
    file.st_mtim.tv_nsec--;
    file.st_ino++;
    after = users_stamp_of(&file);
    assert_false(users_stamp_same(&before, &after));
    file.st_ino--;
    file.st_size++;
    after = users_stamp_of(&file);
    assert_false(users_stamp_same(&before, &after));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_as_pgbouncer_reads_them),
        cmocka_unit_test(a_broken_line_is_an_error_with_its_number),
        cmocka_unit_test(names_and_secrets_have_limits),
        cmocka_unit_test(a_secret_is_told_by_its_form),
        cmocka_unit_test(a_broken_scram_secret_is_told),
        cmocka_unit_test(every_cut_of_a_file_is_read_or_refused),
        cmocka_unit_test(an_empty_file_has_nobody),
        cmocka_unit_test(twenty_thousand_users_are_small_and_quick),
        cmocka_unit_test(a_stamp_tells_files_apart),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
