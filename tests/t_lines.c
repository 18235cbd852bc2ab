/* The lines of [databases], [users] and [peers], and the [class NAME] sections. */
#include "config/lines.c"

#include "config/classes.c"

#include "tests/config_files.h"

/* ---- [databases], [users], [peers] -------------------------------------------------------------
 */

static void a_database_line_is_taken_apart(void **state)
{
    (void)state;
    struct config *cfg = load_good(
        "[databases]\n"
        "d = host=a,::1,/run/pg,@abstract port = 0x1538 dbname='my ''db''' user=u password='p w' "
        "connect_query='select 1; select ''x''' pool_mode=statement pool_size=3 reserve_pool=2 "
        "server_lifetime=0.5 load_balance_hosts=disable timezone=UTC\n"
        "e =\n"
        "'odd name' = host='h1, h2'\n");
    const struct config_database *d = config_database(cfg, "d");
    assert_int_equal(d->hosts_n, 4);
    assert_string_equal(d->hosts[0], "a");
    assert_string_equal(d->hosts[1], "::1");
    assert_string_equal(d->hosts[2], "/run/pg");
    assert_string_equal(d->hosts[3], "@abstract");
    assert_int_equal(d->port, 5432);
    assert_string_equal(d->dbname, "my 'db'");
    assert_string_equal(d->password, "p w");
    assert_string_equal(d->connect_query, "select 1; select 'x'");
    assert_int_equal(d->pool_mode, POOL_MODE_STATEMENT);
    assert_int_equal(d->pool_size, 3);
    assert_int_equal(d->reserve_pool_size, 2);
    assert_int_equal(d->server_lifetime_us, 500000);
    assert_int_equal(d->load_balance_hosts, LOAD_BALANCE_DISABLE);
    assert_string_equal(d->timezone, "UTC");
    const struct config_database *e = config_database(cfg, "e");
    assert_null(e->dbname);
    assert_null(e->host);
    assert_int_equal(e->hosts_n, 0);
    assert_int_equal(e->port, 5432);
    assert_int_equal(e->pool_size, CONFIG_UNSET);
    assert_true(e->query_wait_timeout_us == CONFIG_UNSET_US);
    assert_int_equal(e->pool_mode, POOL_MODE_UNSET);
    assert_int_equal(config_database(cfg, "odd name")->hosts_n, 2);
    assert_string_equal(config_database(cfg, "odd name")->hosts[1], "h2");
    assert_null(config_database(cfg, "other"));
    drop(cfg);
}

static void hosts_may_have_ports_and_roles(void **state)
{
    (void)state;
    struct config *cfg = load_good("[databases]\n"
                                   "one = host=a,b,c port=5433\n"
                                   "each = host='a, b,c' port='1, 0x10 ,65535' "
                                   "target_session_attrs=prefer-standby\n"
                                   "plain = host=a,b target_session_attrs=any\n"
                                   "single = host=a target_session_attrs=primary\n");
    const struct config_database *d = config_database(cfg, "one");
    assert_int_equal(d->ports[0], 5433);
    assert_int_equal(d->ports[2], 5433);
    assert_int_equal(d->target_session_attrs, TARGET_UNSET);
    assert_false(config_is_steered(cfg, d));
    d = config_database(cfg, "each");
    assert_int_equal(d->ports[0], 1);
    assert_int_equal(d->ports[1], 16);
    assert_int_equal(d->ports[2], 65535);
    assert_int_equal(d->port, 1);
    assert_int_equal(d->target_session_attrs, TARGET_PREFER_STANDBY);
    assert_true(config_is_steered(cfg, d));
    assert_false(config_is_steered(cfg, config_database(cfg, "plain")));
    assert_true(config_is_steered(cfg, config_database(cfg, "single")));
    drop(cfg);
    cfg = load_good("[databases]\nplain = host=a,b\nsingle = host=a\n"
                    "[class bulk]\nroute = replica\nmax_lag = 5s\nroute_fallback = primary\n");
    assert_true(config_is_steered(cfg, config_database(cfg, "plain")));
    assert_false(config_is_steered(cfg, config_database(cfg, "single")));
    const struct class_opts *bulk = &cfg->classes->at[cfg->classes->bulk_i];
    assert_int_equal(bulk->route, CLASS_ROUTE_REPLICA);
    assert_int_equal(bulk->route_fallback, CLASS_FALLBACK_PRIMARY);
    assert_int_equal(bulk->max_lag_us, 5 * US_PER_S);
    const struct class_opts *backup = &cfg->classes->at[cfg->classes->backup_i];
    assert_int_equal(backup->route, CLASS_ROUTE_DATABASE);
    assert_int_equal(backup->route_fallback, CLASS_FALLBACK_NONE);
    assert_int_equal(backup->max_lag_us, 30 * US_PER_S);
    drop(cfg);
}

static void bad_database_lines_are_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "d = host",
        "d = host=",
        "d = host=''",
        "d = host='x",
        "d = host='x'y=1",
        "d = =x",
        "d = host=x =",
        "d = host=a,,b",
        "d = host=a,",
        "d = host=,",
        "d = port=0",
        "d = port=99999",
        "d = port=x",
        "d = host=a,b,c port=1,2",
        "d = host=a port=1,2",
        "d = port=1,2",
        "d = host=a,b port=1,",
        "d = host=a,b port=,1",
        "d = host=a,b port=1,x",
        "d = host=a,b port=1,70000",
        "d = host=a,b port=1;2",
        "d = target_session_attrs=writer",
        "d = pool_size=-2",
        "d = nope=1",
        "pgbouncer = host=x",
        "pgweir = host=x",
        "d = auth_dbname=pgbouncer",
        "d = load_balance_hosts=random",
        "d = host=x ; dbname=y",
        "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwxyz_abcdefghij = host=x",
    };
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char text[200];
        snprintf(text, sizeof text, "[databases]\n%s\n", lines[i]);
        if (load(text))
            fail_msg("%s is accepted", lines[i]);
        assert_true(told(true, "main.ini:2: [databases] "));
    }
}

static void a_password_is_in_no_error(void **state)
{
    (void)state;
    assert_null(load("[databases]\nd = password='geheim' host=x port=y\n"));
    for (uint32_t i = 0; i < report.notes_n; i++)
        assert_null(strstr(report.notes[i].text, "geheim"));
}

static void the_star_is_for_other_names(void **state)
{
    (void)state;
    struct config *cfg = load_good("[databases]\na = host=x\n* = host=y\n");
    assert_string_equal(config_database(cfg, "a")->host, "x");
    assert_string_equal(config_database(cfg, "b")->host, "y");
    assert_string_equal(config_database(cfg, "b")->name, "*");
    drop(cfg);
}

static void user_before_database_before_global(void **state)
{
    (void)state;
    struct config *cfg = load_good(
        "[pgbouncer]\npool_mode=session\ndefault_pool_size=1\nmin_pool_size=2\nquery_timeout=3\n"
        "query_wait_timeout=4\nserver_lifetime=5\nmax_user_connections=6\n"
        "[databases]\nd = pool_mode=transaction pool_size=10 query_wait_timeout=11 "
        "max_db_connections=12 min_pool_size=0\nplain = host=x\n"
        "[users]\nu = pool_mode=statement pool_size=20 query_wait_timeout=0 "
        "max_user_connections=21 query_timeout=-1\nplain = query_timeout=22\n");
    const struct config_database *d = config_database(cfg, "d");
    struct config_pool p;
    config_pool(cfg, NULL, NULL, &p);
    assert_int_equal(p.pool_mode, POOL_MODE_SESSION);
    assert_int_equal(p.pool_size, 1);
    assert_int_equal(p.query_wait_timeout_us, 4000000);
    config_pool(cfg, d, NULL, &p);
    assert_int_equal(p.pool_mode, POOL_MODE_TRANSACTION);
    assert_int_equal(p.pool_size, 10);
    assert_int_equal(p.min_pool_size, 0);
    assert_int_equal(p.query_wait_timeout_us, 11000000);
    assert_int_equal(p.max_db_connections, 12);
    assert_int_equal(p.server_lifetime_us, 5000000);
    assert_int_equal(p.max_user_connections, 6);
    config_pool(cfg, d, config_user(cfg, "u"), &p);
    assert_int_equal(p.pool_mode, POOL_MODE_STATEMENT);
    assert_int_equal(p.pool_size, 20);
    assert_int_equal(p.query_wait_timeout_us, 0); /* off, not unset */
    assert_int_equal(p.max_user_connections, 21);
    assert_int_equal(p.query_timeout_us, 3000000);
    config_pool(cfg, config_database(cfg, "plain"), config_user(cfg, "plain"), &p);
    assert_int_equal(p.pool_mode, POOL_MODE_SESSION);
    assert_int_equal(p.query_timeout_us, 22000000);
    assert_null(config_user(cfg, "nobody"));
    drop(cfg);
}

static void peers_have_numbers(void **state)
{
    (void)state;
    struct config *cfg =
        load_good("[peers]\n1 = host=/tmp port=6433\n16383 = host=h pool_size=2\n");
    assert_string_equal(config_peer(cfg, 1)->host, "/tmp");
    assert_int_equal(config_peer(cfg, 1)->port, 6433);
    assert_int_equal(config_peer(cfg, 16383)->port, 6432);
    assert_null(config_peer(cfg, 2));
    drop(cfg);
    assert_null(load("[peers]\n0 = host=x\n"));
    assert_null(load("[peers]\n16384 = host=x\n"));
    assert_null(load("[peers]\nx = host=x\n"));
    assert_null(load("[peers]\n1 = port=1\n"));
}

static void lists_are_searched_word_by_word(void **state)
{
    (void)state;
    assert_true(config_list_has("a,b", "a", true));
    assert_true(config_list_has(" a , b ", "b", true));
    assert_true(config_list_has("a,,b,", "b", true));
    assert_false(config_list_has("ab, ba", "a", true));
    assert_false(config_list_has("", "a", true));
    assert_false(config_list_has("a", "", true));
    assert_false(config_list_has("IntervalStyle", "intervalstyle", true));
    assert_true(config_list_has("IntervalStyle", "intervalstyle", false));
}

/* ---- classes -----------------------------------------------------------------------------------
 */

static uint8_t class_for(const struct config *cfg, const char *application_name, const char *user,
                         const char *database)
{
    struct class_facts facts = {.application_name = application_name,
                                .user = user,
                                .database = database,
                                .address = (const uint8_t[]){10, 1, 2, 3},
                                .address_bytes = 4};
    return class_of(cfg->classes, &facts);
}

static void a_class_has_its_fields_and_rules(void **state)
{
    (void)state;
    struct config *cfg =
        load_good("[class nightly]\n"
                  "match = user:batch,etl* database:warehouse\n"
                  "match = application_name:'my tool' address:10.0.0.0/8,::1\n"
                  "priority = 7\nweight = 3\nreserved = 2\nmax = 25%\nqueue_limit = 5\n"
                  "breaker = observe\nprotect = strict\non_overload = hold, cancel\n"
                  "shed_sqlstate = 57P03\ndemote_to = later\ndemote_copy_out = 1\n"
                  "[class later]\npriority = 9\n"
                  "[class bulk]\nmax = 4\n");
    int i = class_find(cfg->classes, "nightly");
    assert_true(i >= 0);
    const struct class_opts *class = &cfg->classes->at[i];
    assert_int_equal(class->priority, 7);
    assert_int_equal(class->weight, 3);
    assert_int_equal(class->reserved.n, 2);
    assert_false(class->reserved.percent);
    assert_int_equal(class->max.n, 25);
    assert_true(class->max.percent);
    assert_int_equal(class->queue_limit_n, 5);
    assert_int_equal(class->breaker, CLASS_BREAKER_OBSERVE);
    assert_int_equal(class->protect, CLASS_PROTECT_STRICT);
    assert_int_equal(class->on_overload, CLASS_HOLD | CLASS_CANCEL);
    assert_string_equal(class->shed_sqlstate, "57P03");
    assert_int_equal(class->demote_to_i, class_find(cfg->classes, "later"));
    assert_true(class->demote_copy_out);
    const struct class_opts *bulk = &cfg->classes->at[cfg->classes->bulk_i];
    assert_int_equal(bulk->max.n, 4);
    assert_false(bulk->max.percent);
    assert_true(bulk->priority > 0); /* the rest of a built-in class stays */
    assert_int_equal(class_for(cfg, "", "batch", "warehouse"), i);
    assert_int_equal(class_for(cfg, "", "etl7", "warehouse"), i);
    assert_int_equal(class_for(cfg, "", "batch", "shop"), cfg->classes->interactive_i);
    assert_int_equal(class_for(cfg, "my tool", "x", "shop"), i);
    assert_int_equal(class_for(cfg, "pg_dump", "x", "shop"), cfg->classes->backup_i);
    drop(cfg);
}

static void bad_class_lines_are_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "match =",
        "match = user",
        "match = user:",
        "match = user:a, database:b",
        "match = user:,a",
        "match = user:a user:b",
        "match = tcp:1",
        "match = tcp unix",
        "match = unix address:::1",
        "match = replication not-replication",
        "match = unix:me",
        "match = unix:-1",
        "match = unix:99999999999",
        "match = address:10.0.0.0/33",
        "match = address:host",
        "match = address:1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9",
        "match = user:'a",
        "match = everything",
        "demote_to = nobody",
        "on_overload = hold,pase",
        "shed_sqlstate = 5330",
        "shed_sqlstate = 533000",
        "shed_sqlstate = 5330x",
        "max = 101%",
        "max = some",
        "weight = 0",
    };
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char text[200];
        snprintf(text, sizeof text, "[class a]\n%s\n", lines[i]);
        if (load(text))
            fail_msg("%s is accepted", lines[i]);
        assert_true(told(true, "main.ini:2: "));
    }
    assert_null(load("[class a/b]\n"));
    assert_null(load("[class a23456789012345678901234567890123]\n"));
}

static void defaults_for_all_classes_reach_all(void **state)
{
    (void)state;
    struct config *cfg = load_good("[class own]\nbreaker = enforce\n[class new]\n"
                                   "[pgweir]\nbreaker = observe\nprotect = lenient\n");
    const struct class_table *t = cfg->classes;
    assert_int_equal(t->at[t->backup_i].breaker, CLASS_BREAKER_OBSERVE);
    assert_int_equal(t->at[t->interactive_i].protect, CLASS_PROTECT_LENIENT);
    assert_int_equal(t->at[class_find(t, "new")].breaker, CLASS_BREAKER_OBSERVE);
    assert_int_equal(t->at[class_find(t, "own")].breaker, CLASS_BREAKER_ENFORCE);
    drop(cfg);
}

static void classes_keep_their_numbers_over_reloads(void **state)
{
    (void)state;
    struct config *a = load_good("[class one]\n[class two]\n");
    struct config *b = load_over("[class three]\n[class two]\n", a);
    assert_non_null(b);
    assert_int_equal(class_find(b->classes, "two"), class_find(a->classes, "two"));
    assert_true(class_find(b->classes, "three") > class_find(a->classes, "two"));
    drop(a);
    drop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_database_line_is_taken_apart),
        cmocka_unit_test(hosts_may_have_ports_and_roles),
        cmocka_unit_test(bad_database_lines_are_refused),
        cmocka_unit_test(a_password_is_in_no_error),
        cmocka_unit_test(the_star_is_for_other_names),
        cmocka_unit_test(user_before_database_before_global),
        cmocka_unit_test(peers_have_numbers),
        cmocka_unit_test(lists_are_searched_word_by_word),
        cmocka_unit_test(a_class_has_its_fields_and_rules),
        cmocka_unit_test(bad_class_lines_are_refused),
        cmocka_unit_test(defaults_for_all_classes_reach_all),
        cmocka_unit_test(classes_keep_their_numbers_over_reloads),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
