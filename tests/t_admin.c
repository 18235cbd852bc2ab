/* The console's language, the gates of databases, and statistics per database. */
#include "config/table.h" /* before all that includes uthash */

#include "proxy/command.c"
#include "proxy/gates.c"
#include "proxy/samples.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/guard.h"

/* ---- commands ----------------------------------------------------------------------------------
 */

static enum command_verdict next(const char *text, struct command *cmd, struct err *err)
{
    size_t n = strlen(text);
    return command_next((const char *)guard_copy(text, n), n, cmd, err);
}

static const struct {
    const char *text;
    enum command_verb verb;
    const char *name, *value;
    size_t rest_n; /* not taken */
} good[] = {
    {"SHOW VERSION", COMMAND_SHOW, "VERSION", "", 0},
    {"show version;", COMMAND_SHOW, "version", "", 0},
    {" \n\tShOw\vversion ; ", COMMAND_SHOW, "version", "", 1},
    {"select pools", COMMAND_SHOW, "pools", "", 0},
    {"SHOW a; SHOW b", COMMAND_SHOW, "a", "", 7},
    {"SHOW a -- ; rest", COMMAND_SHOW, "a", "", 0},
    {"-- first\nSHOW a", COMMAND_SHOW, "a", "", 0},
    {"/* ; */SHOW/**/a", COMMAND_SHOW, "a", "", 0},
    {"SET x = 1", COMMAND_SET, "x", "1", 0},
    {"SET x=1;", COMMAND_SET, "x", "1", 0},
    {"set x to on", COMMAND_SET, "x", "on", 0},
    {"set x TO 'a b ; -- ''c'''", COMMAND_SET, "x", "a b ; -- 'c'", 0},
    {"set x = ''", COMMAND_SET, "x", "", 0},
    {"set x = -1", COMMAND_SET, "x", "-1", 0},
    {"set to to to", COMMAND_SET, "to", "to", 0},
    {"set breaker = 3", COMMAND_SET, "breaker", "3", 0},
    {"set breaker bulk off", COMMAND_SET_BREAKER, "bulk", "off", 0},
    {"PAUSE", COMMAND_PAUSE, "", "", 0},
    {"PAUSE \"my db\"", COMMAND_PAUSE, "my db", "", 0},
    {"pause 'a\"b'", COMMAND_PAUSE, "a\"b", "", 0},
    {"RESUME db-1.x", COMMAND_RESUME, "db-1.x", "", 0},
    {"RESUME \xc3\xa4", COMMAND_RESUME, "\xc3\xa4", "", 0},
    {"kill_client 0x1f", COMMAND_KILL_CLIENT, "0x1f", "", 0},
    {"SHUTDOWN wait_for_clients", COMMAND_SHUTDOWN, "wait_for_clients", "", 0},
    {"TRIP bulk", COMMAND_TRIP, "bulk", "", 0},
    {"CANCEL bulk", COMMAND_CANCEL, "bulk", "", 0},
    {"reset baseline;", COMMAND_RESET_BASELINE, "", "", 0},
};

static void good_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct command cmd;
        struct err err;
        assert_int_equal(next(good[i].text, &cmd, &err), COMMAND_OK);
        assert_int_equal(cmd.verb, good[i].verb);
        assert_string_equal(cmd.name, good[i].name);
        assert_string_equal(cmd.value, good[i].value);
        assert_int_equal(strlen(good[i].text) - cmd.used_bytes, good[i].rest_n);
    }
}

static void bad_commands(void **state)
{
    static const char *const bad_texts[] = {"SHOW",
                                            "SHOW a b",
                                            "SET",
                                            "SET x",
                                            "SET x 1",
                                            "SET x = ",
                                            "SET x = a b",
                                            "SET x = a = b",
                                            "SET = 1",
                                            "SET x == 1",
                                            "SHOW = x",
                                            "PAUSE = x",
                                            "PAUSE a b",
                                            "RELOAD now",
                                            "DISABLE",
                                            "KILL_CLIENT",
                                            "'SHOW' a",
                                            "\"SHOW\" a",
                                            "SHOW 'a",
                                            "SHOW a'",
                                            "SHOW $1",
                                            "SHOW (a)",
                                            "=",
                                            "set breaker bulk",
                                            "set breaker bulk off on",
                                            "reset",
                                            "reset nothing",
                                            "SELECT 1, 2",
                                            "\x01",
                                            "SHOW \"",
                                            "DROP TABLE x",
                                            "RELEASE bulk",
                                            "SET BREAKER bulk = off"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_texts); i++) {
        struct command cmd;
        struct err err = {.text = ""};
        assert_int_equal(next(bad_texts[i], &cmd, &err), COMMAND_BAD);
        assert_string_equal(err.sqlstate, "08P01");
        assert_non_null(strstr(err.text, "SHOW HELP"));
    }
}

static void empty_commands(void **state)
{
    static const char *const texts[] = {"", " ", ";", "\n;", "-- x", "/* x", "/* x */ ;"};
    struct command cmd;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        assert_int_equal(next(texts[i], &cmd, NULL), COMMAND_EMPTY);
        assert_int_equal(cmd.used_bytes, strlen(texts[i]));
    }
    assert_int_equal(next(";;", &cmd, NULL), COMMAND_EMPTY);
    assert_int_equal(cmd.used_bytes, 1);
}

/* A name or value of n bytes, quoted or not. */
static enum command_verdict of_length(const char *before, size_t n, bool quote)
{
    static char text[1000];
    struct command cmd;
    struct err err;
    int start = snprintf(text, sizeof text, "%s%s", before, quote ? "'" : "");
    memset(text + start, 'x', n);
    snprintf(text + start + n, sizeof text - (size_t)start - n, "%s", quote ? "'" : "");
    return next(text, &cmd, &err);
}

static void limits_are_exact(void **state)
{
    (void)state;
    for (int quote = 0; quote < 2; quote++) {
        assert_int_equal(of_length("SHOW ", COMMAND_NAME_MAX, quote), COMMAND_OK);
        assert_int_equal(of_length("SHOW ", COMMAND_NAME_MAX + 1, quote), COMMAND_BAD);
        assert_int_equal(of_length("SET a = ", COMMAND_VALUE_MAX, quote), COMMAND_OK);
        assert_int_equal(of_length("SET a = ", COMMAND_VALUE_MAX + 1, quote), COMMAND_BAD);
        assert_int_equal(of_length("", 900, quote), COMMAND_BAD);
    }
}

/* Whatever comes, each call takes something, and reads no byte too far. */
static void run_through(const char *text, size_t n)
{
    const char *at = (const char *)guard_copy(text, n);
    struct command cmd;
    struct err err;
    while (n > 0) {
        enum command_verdict v = command_next(at, n, &cmd, &err);
        assert_true(cmd.used_bytes > 0 && cmd.used_bytes <= n);
        if (v == COMMAND_BAD)
            return;
        if (v == COMMAND_OK)
            assert_non_null(command_tag(cmd.verb));
        at += cmd.used_bytes;
        n -= cmd.used_bytes;
    }
}

static void any_bytes_are_survived(void **state)
{
    static const char alphabet[] = "SHOW x;='\"-/*\n\0\xff";
    uint32_t random = 1;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        for (size_t n = 0; n <= strlen(good[i].text); n++)
            run_through(good[i].text, n);
    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t n = 0;
        for (; n < sizeof text; n++) {
            random = random * 1664525 + 1013904223;
            text[n] = alphabet[(random >> 16) % (sizeof alphabet - 1)];
        }
        run_through(text, n);
    }
}

static void rights_and_tags(void **state)
{
    (void)state;
    for (size_t i = 0; i < COMMAND_VERBS_N; i++)
        assert_int_equal(command_for_anybody((enum command_verb)i), i == COMMAND_SHOW);
    assert_string_equal(command_tag(COMMAND_SET_BREAKER), "SET");
    assert_string_equal(command_tag(COMMAND_KILL_CLIENT), "KILL_CLIENT");
}

/* ---- gates ----------------------------------------------------------------------------------- */

static void gates_keep_what_was_said(void **state)
{
    struct gates *g = gates_new();
    (void)state;
    assert_false(gates_of(g, "a").paused);
    assert_true(gates_set(g, "a", &(struct gate){.paused = true}));
    assert_true(gates_set(g, "b", &(struct gate){.disabled = true, .reconnect_us = 7}));
    assert_true(gates_of(g, "a").paused);
    assert_false(gates_of(g, "a").disabled);
    assert_false(gates_of(g, "b").paused);
    assert_true(gates_of(g, "b").disabled);
    assert_int_equal(gates_own(g, "b").reconnect_us, 7);
    assert_true(gates_set(g, "a", &(struct gate){.paused = false}));
    assert_false(gates_of(g, "a").paused);
    assert_null(find_locked(g, "a")); /* nothing said: nothing kept */
    assert_non_null(find_locked(g, "b"));
    gates_free(&g);
    assert_null(g);
}

static void pausing_all_is_apart_from_pausing_one(void **state)
{
    struct gates *g = gates_new();
    (void)state;
    assert_true(gates_set(g, "a", &(struct gate){.paused = true}));
    gates_pause_all(g, true);
    assert_true(gates_all_paused(g));
    assert_true(gates_of(g, "any").paused);
    assert_false(gates_own(g, "any").paused);
    gates_pause_all(g, false);
    assert_true(gates_of(g, "a").paused);
    assert_false(gates_of(g, "any").paused);
    gates_free(&g);
}

/* ---- samples --------------------------------------------------------------------------------- */

static struct route *route_with(char *database, uint64_t xacts)
{
    static union {
        struct route route;
        uint8_t bytes[sizeof(struct route) + 2 * sizeof(struct route_cell)];
    } room __attribute__((aligned(64)));
    memset(&room, 0, sizeof room);
    room.route.database = database;
    room.route.cells_n = 2;
    count_add(&room.route.cells[0].xact_count, xacts);
    count_add(&room.route.cells[1].xact_count, xacts);
    count_add(&room.route.cells[1].xact_time, 10 * xacts);
    count_add(&room.route.cells[0].client_bytes, 1000);
    return &room.route;
}

static struct pool_registry *no_pools(void)
{
    static struct class_table classes;
    struct registry_opts opts;
    struct err err;
    class_table_init(&classes);
    registry_opts_defaults(&opts);
    return registry_new(&opts, &classes, &err);
}

static void averages_are_of_the_last_period(void **state)
{
    struct pool_registry *none = no_pools();
    struct samples s = {.sampled_us = 1};
    struct route_totals total, average_all;
    (void)state;
    char name[] = "db";
    samples_retire(&s, route_with(name, 500));
    samples_take(&s, none, 1 + 10ull * US_PER_S);
    const struct samples_db *db = samples_db(&s, "db");
    assert_int_equal(db->total.xact_count, 1000);
    assert_int_equal(db->average.xact_count, 100);   /* a second */
    assert_int_equal(db->average.client_bytes, 100); /* a second */
    assert_int_equal(db->average.xact_time, 5);      /* each */
    s.console.query_count = 30;
    samples_take(&s, none, 1 + 20ull * US_PER_S);
    assert_int_equal(db->total.xact_count, 1000);
    assert_int_equal(db->average.xact_count, 0);
    assert_int_equal(db->average.xact_time, 0);
    samples_sum(&s, &total, &average_all);
    assert_int_equal(total.xact_count, 1000);
    assert_int_equal(total.query_count, 30);
    assert_int_equal(average_all.query_count, 3);
    samples_free(&s);
    registry_free(&none);
}

static void the_mean_over_databases_is_weighted(void **state)
{
    struct samples s = {.sampled_us = 0};
    struct route_totals total, mean;
    (void)state;
    struct samples_db *a = samples_db(&s, "a"), *b = samples_db(&s, "b");
    a->average = (struct route_totals){.xact_count = 9, .xact_time = 10};
    b->average = (struct route_totals){.xact_count = 1, .xact_time = 110};
    samples_sum(&s, &total, &mean);
    assert_int_equal(mean.xact_count, 10);
    assert_int_equal(mean.xact_time, 20);
    assert_ptr_equal(samples_db(&s, "a"), a);
    samples_free(&s);
    assert_null(s.dbs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_commands),
        cmocka_unit_test(bad_commands),
        cmocka_unit_test(empty_commands),
        cmocka_unit_test(limits_are_exact),
        cmocka_unit_test(any_bytes_are_survived),
        cmocka_unit_test(rights_and_tags),
        cmocka_unit_test(gates_keep_what_was_said),
        cmocka_unit_test(pausing_all_is_apart_from_pausing_one),
        cmocka_unit_test(averages_are_of_the_last_period),
        cmocka_unit_test(the_mean_over_databases_is_weighted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
