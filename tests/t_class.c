/* Who belongs where, and what a class may do about it. */
#include "pool/class.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct class_table table;

static int fresh_table(void **state)
{
    (void)state;
    class_table_init(&table);
    return 0;
}

static const char *class_name_of(const struct class_facts *facts)
{
    return table.at[class_of(&table, facts)].name;
}

static const char *tool_class(const char *application_name)
{
    return class_name_of(&(struct class_facts){.application_name = application_name});
}

static struct class_rule *rule_for(const char *class_name, uint32_t priority)
{
    struct err err;
    struct class_opts *c = class_add(&table, class_name, &err);

    assert_non_null(c);
    if (!c->builtin)
        c->priority = priority;
    struct class_rule *r = class_rule_add(&table, (uint8_t)(c - table.at), &err);
    assert_non_null(r);
    return r;
}

static void set(char *pattern, const char *text)
{
    snprintf(pattern, CLASS_PATTERN_BYTES, "%s", text);
}

static void test_globs(void **state)
{
    static const struct {
        const char *list, *text;
        bool matches;
    } cases[] = {
        {"pg_dump", "pg_dump", true},
        {"pg_dump", "PG_DUMP", true},
        {"pg_dump", "pg_dumpall", false},
        {"pg_dump*", "pg_dumpall", true},
        {"*", "", true},
        {"*", NULL, true},
        {"?", "", false},
        {"a?c", "abc", true},
        {"a*c", "ac", true},
        {"a*b*c", "a1b2b3c", true},
        {"a*b*c", "a1b2b3", false},
        {"x, y ,z", "y", true},
        {"x,,y", "", false},
        {",", "", false},
        {"*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (list_match(cases[i].list, cases[i].text) != cases[i].matches)
            fail_msg("%s against %s", cases[i].list, cases[i].text);
}

static void test_tools_have_their_classes_unconfigured(void **state)
{
    (void)state;
    static const char *const backups[] = {
        "pg_dump",       "pg_dumpall",          "pg_restore",
        "pg_basebackup", "pgBackRest [backup]", "barman_receive_wal",
        "wal-g"};
    static const char *const bulks[] = {"vacuumdb", "reindexdb", "pg_amcheck", "Airbyte Source"};
    static const char *const users[] = {"psql", "", "pgbench", "PostgreSQL JDBC Driver", "puma"};

    for (size_t i = 0; i < COUNT_OF(backups); i++)
        assert_string_equal(tool_class(backups[i]), "backup");
    for (size_t i = 0; i < COUNT_OF(bulks); i++)
        assert_string_equal(tool_class(bulks[i]), "bulk");
    for (size_t i = 0; i < COUNT_OF(users); i++)
        assert_string_equal(tool_class(users[i]), "interactive");
    assert_string_equal(tool_class(NULL), "interactive");
    struct class_facts walsender = {.application_name = "walreceiver", .replication = true};
    assert_string_equal(class_name_of(&walsender), "backup");
}

static void test_first_rule_wins(void **state)
{
    (void)state;
    set(rule_for("reports", 3)->user, "anna,berta");
    set(rule_for("bulk", 0)->user, "berta");
    assert_string_equal(class_name_of(&(struct class_facts){.user = "anna"}), "reports");
    assert_string_equal(class_name_of(&(struct class_facts){.user = "berta"}), "reports");
    assert_string_equal(class_name_of(&(struct class_facts){.user = "clara"}), "interactive");
}

static void test_all_conditions_must_hold(void **state)
{
    (void)state;
    struct class_rule *r = rule_for("reports", 3);
    struct err err;
    uint8_t inside[4] = {10, 1, 2, 3}, outside[4] = {11, 1, 2, 3};

    set(r->user, "anna");
    set(r->database, "shop*");
    assert_true(class_net_parse(&r->nets[r->nets_n++], "192.168.0.0/16", &err));
    assert_true(class_net_parse(&r->nets[r->nets_n++], "10.0.0.0/8", &err));
    struct class_facts f = {
        .user = "anna", .database = "shop_eu", .address = inside, .address_bytes = 4};
    assert_string_equal(class_name_of(&f), "reports");
    f.database = "bank";
    assert_string_equal(class_name_of(&f), "interactive");
    f.database = "shop";
    f.address = outside;
    assert_string_equal(class_name_of(&f), "interactive");
    f.address_bytes = 0;
    f.is_unix = true;
    assert_string_equal(class_name_of(&f), "interactive");
}

static void test_what_a_client_says_only_lowers(void **state)
{
    (void)state;
    set(rule_for("bulk", 0)->user, "etl");
    set(rule_for("vip", 0)->application_name, "boss");
    set(rule_for("slow", 8)->application_name, "crawler");
    struct class_facts f = {.user = "etl", .application_name = "boss"};

    assert_string_equal(class_name_of(&f), "bulk"); /* not raised */
    f.application_name = "crawler";
    assert_string_equal(class_name_of(&f), "slow"); /* lowered */
    f.user = "anna";
    f.application_name = "boss";
    assert_string_equal(class_name_of(&f), "vip"); /* nobody decided; of the same rank */
    /* Even where the default is no longer protected, a name alone raises nobody. */
    table.at[table.interactive_i].priority = 2;
    assert_string_equal(class_name_of(&f), "interactive");
}

static void test_operator_outweighs_builtin(void **state)
{
    (void)state;
    struct class_rule *r = rule_for("interactive", 0);
    set(r->application_name, "pg_dump");
    set(r->user, "dba");
    set(rule_for("reports", 3)->user, "nightly");
    set(rule_for("interactive", 0)->user, "app");

    /* A rule that names the tool decides; */
    assert_string_equal(
        class_name_of(&(struct class_facts){.user = "dba", .application_name = "pg_dump"}),
        "interactive");
    /* so does a class below the protected ones; */
    assert_string_equal(
        class_name_of(&(struct class_facts){.user = "nightly", .application_name = "pg_dump"}),
        "reports");
    /* but to be protected does not make a dump of a user. */
    assert_string_equal(
        class_name_of(&(struct class_facts){.user = "app", .application_name = "pg_dump"}),
        "backup");
}

static void test_unix_peers(void **state)
{
    (void)state;
    struct class_rule *r = rule_for("reports", 3);
    r->peer_uid_set = true;
    r->peer_uid = 1000;
    struct class_facts f = {.is_unix = true, .peer_uid = 1000};

    assert_string_equal(class_name_of(&f), "reports");
    f.peer_uid = 0;
    assert_string_equal(class_name_of(&f), "interactive");
    f.peer_uid = 1000;
    f.is_unix = false; /* a TCP client has no uid, whatever the field says */
    assert_string_equal(class_name_of(&f), "interactive");
    r->peer_uid_set = false;
    r->unix_socket = CLASS_NO;
    assert_string_equal(class_name_of(&f), "reports");
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *net, *address;
        bool holds;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.0.0.0/9", "10.128.0.1", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "::1", false},
        {"1.2.3.4", "1.2.3.4", true},
        {"1.2.3.4", "1.2.3.5", false},
        {"::/0", "fe80::1", true},
        {"fe80::/10", "febf::1", true},
        {"fe80::/10", "fec0::1", false},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true},
        {"10.0.0.0/8", "::ffff:11.1.1.1", false},
    };
    static const char *const bad[] = {"",       "/8",          "10.0.0.0/33", "10.0.0.0/",
                                      "10.0/8", "::1/129",     "host",        "10.0.0.0/8x",
                                      "::1/-1", "10.0.0.0/ 8x"};
    struct class_net net;
    struct err err;
    uint8_t bytes[16];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool v6 = strchr(cases[i].address, ':') != NULL;
        assert_true(class_net_parse(&net, cases[i].net, &err));
        assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, cases[i].address, bytes), 1);
        if (net_holds(&net, bytes, v6 ? 16 : 4) != cases[i].holds)
            fail_msg("%s in %s", cases[i].address, cases[i].net);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (class_net_parse(&net, bad[i], &err))
            fail_msg("\"%s\" is taken for a network", bad[i]);
}

static void test_shares(void **state)
{
    (void)state;
    struct class_share s;
    struct err err;

    assert_true(class_share_parse(&s, "30%", &err));
    assert_true(s.percent && s.n == 30);
    assert_true(class_share_parse(&s, "8", &err));
    assert_true(!s.percent && s.n == 8);
    assert_true(class_share_parse(&s, "100 %", &err));
    assert_false(class_share_parse(&s, "101%", &err));
    assert_false(class_share_parse(&s, "-1", &err));
    assert_false(class_share_parse(&s, "", &err));
    assert_false(class_share_parse(&s, "3x", &err));
    assert_int_equal(class_share_of((struct class_share){30, true}, 20), 6);
    assert_int_equal(class_share_of((struct class_share){30, true}, 1), 1);
    assert_int_equal(class_share_of((struct class_share){30, true}, 0), UINT32_MAX);
    assert_int_equal(class_share_of((struct class_share){0, true}, 20), 0);
    assert_int_equal(class_share_of((struct class_share){8, false}, 0), 8);
}

static void test_tables_are_checked(void **state)
{
    (void)state;
    struct err err;
    assert_true(class_table_check(&table, &err));
    struct class_table good = table;

    table.at[0].priority = 1;
    assert_false(class_table_check(&table, &err)); /* nobody protected */
    table = good;
    table.at[1].weight = 0;
    assert_false(class_table_check(&table, &err));
    table = good;
    table.at[1].max.n = 0;
    assert_false(class_table_check(&table, &err));
    table = good;
    table.at[1].reserved = (struct class_share){50, true};
    assert_false(class_table_check(&table, &err)); /* more than its max, and 110 % in all */
    table = good;
    table.at[1].demote_to_i = 0;
    assert_false(class_table_check(&table, &err)); /* demoted upwards */
    table = good;
    table.at[0].schedule.windows_n = 1;
    assert_false(class_table_check(&table, &err)); /* protected, and shut at night */
    table = good;
    table.at[1].schedule.windows_n = 1;
    assert_true(class_table_check(&table, &err));
    table = good;
    assert_null(class_add(&table, "no spaces", &err));
    assert_null(class_add(&table, "", &err));
    assert_ptr_equal(class_add(&table, "BULK", &err), &table.at[1]);
    for (uint32_t i = table.class_n; i < CLASSES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "c%u", i);
        assert_non_null(class_add(&table, name, &err));
    }
    assert_null(class_add(&table, "one_too_many", &err));
}

static void test_demotion_goes_down(void **state)
{
    (void)state;
    uint8_t users = table.interactive_i;

    assert_int_equal(class_demoted(&table, users, CLASS_WHY_COPY_OUT), table.bulk_i);
    assert_int_equal(class_demoted(&table, users, CLASS_WHY_CURSOR), table.bulk_i);
    assert_int_equal(class_demoted(&table, users, CLASS_WHY_BYTES), table.bulk_i);
    assert_int_equal(class_demoted(&table, table.backup_i, CLASS_WHY_COPY_OUT), table.backup_i);
    table.at[users].demote_after_us = 0;
    assert_int_equal(class_demoted(&table, users, CLASS_WHY_TIME), users);
}

static void test_reload_keeps_indices(void **state)
{
    (void)state;
    struct err err;
    struct class_table before = table, next;

    assert_non_null(class_add(&before, "a", &err)); /* 3 */
    assert_non_null(class_add(&before, "b", &err)); /* 4 */
    class_table_init(&next);
    struct class_opts *c = class_add(&next, "c", &err);
    struct class_opts *b = class_add(&next, "b", &err);
    assert_non_null(b);
    assert_non_null(c);
    b->demote_to_i = (uint8_t)(c - next.at);
    c->priority = 7;
    struct class_rule *r = class_rule_add(&next, (uint8_t)(b - next.at), &err);
    set(r->user, "anna");
    assert_true(class_table_align(&next, &before, &err));
    assert_int_equal(class_find(&next, "b"), 4);
    assert_int_equal(class_find(&next, "c"), 5);
    assert_true(next.at[3].retired);
    assert_string_equal(next.at[3].name, "a");
    assert_int_equal(next.at[4].demote_to_i, 5);
    assert_int_equal(class_of(&next, &(struct class_facts){.user = "anna"}), 4);
    assert_true(class_table_check(&next, &err));
    /* And it comes back. */
    struct class_table again = before;
    assert_true(class_table_align(&again, &next, &err));
    assert_false(again.at[3].retired);
    assert_true(again.at[5].retired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_globs, fresh_table),
        cmocka_unit_test_setup(test_tools_have_their_classes_unconfigured, fresh_table),
        cmocka_unit_test_setup(test_first_rule_wins, fresh_table),
        cmocka_unit_test_setup(test_all_conditions_must_hold, fresh_table),
        cmocka_unit_test_setup(test_what_a_client_says_only_lowers, fresh_table),
        cmocka_unit_test_setup(test_operator_outweighs_builtin, fresh_table),
        cmocka_unit_test_setup(test_unix_peers, fresh_table),
        cmocka_unit_test_setup(test_networks, fresh_table),
        cmocka_unit_test_setup(test_shares, fresh_table),
        cmocka_unit_test_setup(test_tables_are_checked, fresh_table),
        cmocka_unit_test_setup(test_demotion_goes_down, fresh_table),
        cmocka_unit_test_setup(test_reload_keeps_indices, fresh_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
