/* Settings together: contradictions, files over files, RELOAD, SET, auth_file, whole files.
 *
 * The tests run in a folder of their own; each writes the files it loads. */
#include "config/config.c"

#include "tests/config_files.h"

/* ---- settings together -------------------------------------------------------------------------
 */

static void contradictions_are_errors(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[pgbouncer]\nclient_tls_sslmode = require\n", "main.ini:2: client_tls_sslmode needs"},
        {"[pgbouncer]\nclient_tls_sslmode = allow\nclient_tls_key_file = k\n",
         "main.ini:2: client_tls_sslmode needs"},
        {"[pgbouncer]\nclient_tls_key_file = k\nclient_tls_cert_file = c\n"
         "client_tls_sslmode = verify-full\n",
         "main.ini:4: client_tls_sslmode = verify-*"},
        {"[pgbouncer]\nserver_tls_key_file = k\n", "main.ini:2: server_tls_key_file and"},
        {"[pgbouncer]\nunix_socket_dir =\n", "main.ini:2: nowhere to listen"},
        {"[pgbouncer]\nauth_dbname = pgbouncer\n", "main.ini:2: cannot use the reserved"},
        {"[pgbouncer]\nunix_socket_dir = "
         "/a/very/long/path/a/very/long/path/a/very/long/path/a/very/"
         "long/path/a/very/long/path/a/very/long/path/a/very/long\n",
         "main.ini:2: unix_socket_dir is longer"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (load(cases[i][0]))
            fail_msg("%s is accepted", cases[i][0]);
        if (!told(true, cases[i][1]))
            fail_msg("\"%s\", not \"%s\"", report.notes[0].text, cases[i][1]);
    }
    drop(load_good("[pgbouncer]\nclient_tls_sslmode = verify-full\nclient_tls_key_file = k\n"
                   "client_tls_cert_file = c\nclient_tls_ca_file = a\n"));
    drop(load_good("[pgbouncer]\nunix_socket_dir =\nlisten_addr = *\n"));
}

static void what_is_hardly_meant_is_a_warning(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[pgbouncer]\n", "[databases] is empty"},
        {"[pgbouncer]\nunix_socket_mode = 777\n", "main.ini:2: unix_socket_mode = 777 is decimal"},
        {"[pgbouncer]\nmin_pool_size = 30\n", "main.ini:2: min_pool_size is above"},
        {"[pgbouncer]\nmax_upstream_connections = 10\n", "main.ini:2: max_upstream_connections is"},
        {"[pgbouncer]\nserver_reset_query = DISCARD ALL ; all\n", "main.ini:2: what follows the ;"},
        {"[databases]\nd = host=x\n[pgbouncer]\nauth_type = any\n", "main.ini:4: auth_type = any"},
        {"[pgbouncer]\nauth_file = none.txt\n",
         "main.ini:2: auth_file \"none.txt\" does not exist"},
        {"[pgbouncer]\n", "auth_file is not set: nobody"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        drop(load_good(cases[i][0]));
        if (!told(false, cases[i][1]))
            fail_msg("no warning \"%s\"", cases[i][1]);
    }
    write_file("list.txt", "\"u\" \"x\"\n");
    drop(load_good("[databases]\nd = user=u\n[pgbouncer]\nauth_file=list.txt\n"
                   "server_reset_query = a; b\nunix_socket_mode = 0700\n"));
    assert_int_equal(report.notes_n, 0);
}

static void all_errors_are_told_up_to_a_limit(void **state)
{
    (void)state;
    char text[4000];
    size_t used = (size_t)snprintf(text, sizeof text, "[pgbouncer]\n");
    for (int i = 0; i < 30; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "nope = 1\n");
    assert_null(load(text));
    assert_int_equal(report.errors_n, 30);
    uint32_t kept_n = 0;
    for (uint32_t i = 0; i < report.notes_n; i++)
        kept_n += report.notes[i].fatal;
    assert_int_equal(kept_n, REPORT_ERRORS_MAX);
    assert_true(told(true, "main.ini:2: "));
    assert_true(told(true, "main.ini:21: "));
}

/* ---- files over files, RELOAD, SET -------------------------------------------------------------
 */

static void later_files_add_and_override(void **state)
{
    (void)state;
    static const char *const files[] = {"one.ini", "two.ini"};
    write_file("one.ini", "[pgbouncer]\nverbose = 1\nlog_stats = 0\n[databases]\n"
                          "a = host=x pool_size=3\nb = host=y\n");
    write_file("two.ini", "[databases]\na = host=z\nc = host=w\n[pgweir]\nverbose = 2\n");
    struct config *cfg;
    assert_true(config_load(files, 2, NULL, &cfg, &report));
    assert_int_equal(cfg->globals.verbose, 2);
    assert_false(cfg->globals.log_stats);
    assert_string_equal(config_database(cfg, "a")->host, "z");
    assert_int_equal(config_database(cfg, "a")->pool_size, CONFIG_UNSET); /* the whole line */
    assert_string_equal(config_database(cfg, "b")->host, "y");
    assert_non_null(config_database(cfg, "c"));
    assert_int_equal(HASH_COUNT(cfg->databases), 3);
    assert_string_equal(cfg->globals.conffile, "one.ini");
    drop(cfg);
    static const char *const missing[] = {"one.ini", "three.ini"};
    assert_false(config_load(missing, 2, NULL, &cfg, &report));
    assert_null(cfg);
    assert_true(told(true, "cannot open \"three.ini\""));
}

static void a_reload_keeps_what_needs_a_restart(void **state)
{
    (void)state;
    struct config *a = load_good("[pgbouncer]\nlisten_port = 1000\nlisten_addr = a\nverbose = 1\n");
    struct config *b = load_over("[pgbouncer]\nverbose = 2\nlisten_port = 2000\n", a);
    assert_non_null(b);
    assert_int_equal(b->globals.listen_port, 1000);
    assert_string_equal(b->globals.listen_addr, "a");
    assert_int_equal(b->globals.verbose, 2);
    assert_true(told(false, "main.ini:3: listen_port needs a restart to become \"2000\""));
    assert_true(told(false, "listen_addr needs a restart"));
    drop(a); /* b's strings are b's own */
    assert_string_equal(b->globals.listen_addr, "a");
    struct config *c = load_over("[pgbouncer]\nlisten_port = 1000\nlisten_addr = a\n", b);
    assert_non_null(c);
    assert_false(told(false, "main.ini:2: listen_port"));
    assert_int_equal(c->globals.verbose, 0); /* gone from the file: its default again */
    drop(b);
    drop(c);
}

static void set_makes_a_new_snapshot(void **state)
{
    (void)state;
    struct err err;
    struct config *b, *c;
    struct config *a = load_good("[databases]\nd = host=x\n[users]\nu = pool_size=1\n"
                                 "[pgbouncer]\nverbose = 1\n[class k]\nmatch = user:k\n");
    assert_true(config_set(a, "verbose", "3", &b, &err));
    assert_int_equal(a->globals.verbose, 1);
    assert_int_equal(b->globals.verbose, 3);
    assert_string_equal(value_of(b, "verbose"), "3");
    drop(a);
    assert_string_equal(config_database(b, "d")->host, "x");
    assert_int_equal(config_user(b, "u")->pool_size, 1);
    assert_true(class_find(b->classes, "k") >= 0);
    assert_true(config_set(b, "query_timeout", "1.5", &c, &err));
    assert_int_equal(c->globals.verbose, 3); /* the SET before it stays */
    assert_int_equal(c->globals.query_timeout_us, 1500000);
    drop(b);
    static const char *const wrong[][3] = {
        {"verbose", "x", "whole number"},
        {"verbos", "1", "did you mean \"verbose\"?"},
        {"listen_port", "1", "restart"},
        {"client_tls_sslmode", "require", "client_tls_key_file"},
        {"auth_file", "none.txt", "none.txt"},
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        b = c;
        assert_false(config_set(c, wrong[i][0], wrong[i][1], &b, &err));
        assert_null(b);
        assert_non_null(strstr(err.text, wrong[i][2]));
        assert_int_equal(c->globals.verbose, 3);
    }
    struct config *d = load_over("[pgbouncer]\nverbose = 1\n", c);
    assert_int_equal(d->globals.verbose, 1); /* RELOAD forgets what was SET */
    assert_int_equal(d->globals.query_timeout_us, 0);
    drop(c);
    drop(d);
}

static void a_snapshot_lives_as_long_as_its_last_reference(void **state)
{
    (void)state;
    const struct config *a = load_good("[databases]\nd = host=x\n");
    const struct config *b = config_ref(a);
    assert_ptr_equal(a, b);
    config_unref(&a);
    assert_null(a);
    assert_string_equal(config_database(b, "d")->host, "x");
    config_unref(&b);
    config_unref(&b); /* nothing there: nothing happens */
}

/* ---- auth_file ---------------------------------------------------------------------------------
 */

static const char with_list[] = "[databases]\nd = host=x\n[pgbouncer]\nauth_file = list.txt\n";

static void an_unchanged_auth_file_is_not_read_again(void **state)
{
    (void)state;
    struct err err;
    write_file("list.txt", "\"u\" \"one\"\n");
    struct config *a = load_good(with_list);
    assert_string_equal(users_secret(a->auth, "u"), "one");
    assert_false(config_auth_file_changed(a));
    struct config *b = load_over(with_list, a);
    assert_ptr_equal(b->auth, a->auth);
    struct config *c;
    assert_true(config_set(b, "verbose", "1", &c, &err));
    assert_ptr_equal(c->auth, a->auth);
    drop(a);
    drop(b);
    assert_string_equal(users_secret(c->auth, "u"), "one"); /* kept alive by c */
    assert_false(config_auth_file_changed(c));
    write_file("list.txt", "\"u\" \"three\"\n"); /* another size: no clock is needed */
    assert_true(config_auth_file_changed(c));
    struct config *d;
    assert_true(config_set(c, "verbose", "2", &d, &err));
    assert_string_equal(users_secret(d->auth, "u"), "one"); /* SET is not RELOAD */
    drop(d);
    assert_true(config_reread_auth_file(c, &d, &err));
    assert_string_equal(users_secret(d->auth, "u"), "three");
    assert_int_equal(d->globals.verbose, 1);
    drop(c);
    struct config *e = load_over(with_list, d);
    assert_ptr_equal(e->auth, d->auth);
    drop(d);
    drop(e);
}

static void a_broken_auth_file_changes_nothing(void **state)
{
    (void)state;
    struct err err;
    write_file("list.txt", "\"u\" \"one\"\n");
    struct config *a = load_good(with_list);
    write_file("list.txt", "\"u\" \"two\"\n\"v\n");
    struct config *b;
    assert_false(config_reread_auth_file(a, &b, &err));
    assert_null(b);
    assert_non_null(strstr(err.text, "list.txt:2:"));
    assert_null(load_over(with_list, a));
    assert_int_equal(unlink("list.txt"), 0);
    assert_false(config_auth_file_changed(a)); /* perhaps being replaced just now */
    assert_null(load_over(with_list, a));
    assert_true(told(true, "main.ini:4: cannot open auth_file"));
    assert_string_equal(users_secret(a->auth, "u"), "one");
    write_file("list.txt", "\"u\" \"four\"\n");
    b = load_over(with_list, a);
    assert_string_equal(users_secret(b->auth, "u"), "four");
    drop(a);
    drop(b);
}

/* ---- whole files -------------------------------------------------------------------------------
 */

static void pgbouncers_own_ini_is_understood(void **state)
{
    (void)state;
    static const char *const files[] = {"/etc/pgbouncer/pgbouncer.ini"};
    struct config *cfg;
    if (access(files[0], R_OK) != 0 || access("/etc/pgbouncer/userlist.txt", R_OK) != 0)
        skip(); /* not installed, or not for us to read */
    if (!config_load(files, 1, NULL, &cfg, &report))
        fail_msg("%s", report.notes[0].text);
    assert_int_equal(cfg->globals.listen_port, 6432);
    drop(cfg);
}

/* In the manner of an installation that has grown: every section, odd blanks, commented-out lines.
 */
static const char grown[] =
    ";;; pgbouncer.ini\n\n[databases]\n"
    "  app = host=10.0.0.5 port=5432 dbname=app_production\n"
    ";old = host=10.0.0.4\n\n"
    "reports=host=/var/run/postgresql auth_user=lookup connect_query='SET work_mem TO ''64MB'''\n"
    "* = host=10.0.0.5\n\n[users]\nreporter = pool_mode=session max_user_connections=5\n\n"
    "[pgbouncer]\nlogfile = /var/log/postgresql/pgbouncer.log\n"
    "pidfile = /var/run/postgresql/pgbouncer.pid\nlisten_addr = 127.0.0.1, ::1\n"
    "listen_port = 6432\nunix_socket_dir = /var/run/postgresql\nunix_socket_mode = 0770\n"
    "auth_type = scram-sha-256\nauth_user = lookup\nadmin_users = postgres, ops\n"
    "stats_users = monitor\npool_mode = transaction\nmax_client_conn = 2000\n"
    "default_pool_size = 25\nreserve_pool_size = 5\nreserve_pool_timeout = 3\n"
    "ignore_startup_parameters = extra_float_digits,options\nserver_reset_query = DISCARD ALL\n"
    "server_check_query = select 1;\nserver_idle_timeout = 60.0\nquery_wait_timeout = 30\n"
    "tcp_keepalive = 1\ntcp_keepidle = 60\nverbose = 0\nstats_period = 60\n";

static void a_grown_ini_is_understood(void **state)
{
    (void)state;
    struct config *cfg = load_good(grown);
    assert_string_equal(config_database(cfg, "reports")->connect_query, "SET work_mem TO '64MB'");
    assert_int_equal(cfg->globals.max_client_conn, 2000);
    assert_true(config_list_has(cfg->globals.admin_users, "ops", true));
    assert_int_equal(cfg->globals.unix_socket_mode, 0770);
    assert_true(told(false, "main.ini:7: auth_user is understood"));
    drop(cfg);
}

static void the_shipped_ini_works_as_it_is(void **state)
{
    (void)state;
    const char *files[] = {shipped_ini};
    struct config *cfg;
    if (!config_load(files, 1, NULL, &cfg, &report))
        fail_msg("%s", report.notes[0].text);
    assert_non_null(config_database(cfg, "anything"));
    assert_int_equal(cfg->globals.pool_mode, POOL_MODE_TRANSACTION);
    struct config *with_users;
    struct err err;
    assert_true(config_set(cfg, "auth_file", example_list, &with_users, &err));
    assert_int_equal(users_kind_of(users_secret(with_users->auth, "app")), USERS_SCRAM);
    assert_int_equal(users_kind_of(users_secret(with_users->auth, "report")), USERS_MD5);
    assert_int_equal(users_kind_of(users_secret(with_users->auth, "etl")), USERS_PLAIN);
    drop(cfg);
    drop(with_users);
}

/* Its commented-out settings are advice: they must be right too. */
static void the_shipped_inis_advice_is_valid(void **state)
{
    (void)state;
    char line[400], text[16000];
    size_t used = 0;
    FILE *file = fopen(shipped_ini, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        const char *from = line;
        if (strncmp(line, "; ", 2) == 0 && (strstr(line, " = ") || line[2] == '['))
            from = line + 2;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", from);
        assert_true(used < sizeof text);
    }
    fclose(file);
    struct config *cfg = load_good(text);
    assert_true(class_find(cfg->classes, "nightly") >= 0);
    assert_non_null(config_user(cfg, "etl"));
    assert_string_equal(config_database(cfg, "my app")->host, "/var/run/postgresql");
    drop(cfg);
}

static char *printed(const struct config *cfg)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    if (cfg || report.errors_n)
        config_check_report(cfg, &report, out);
    else
        config_help(out);
    fclose(out);
    return text;
}

static void the_check_report_says_all(void **state)
{
    (void)state;
    struct config *cfg = load_good("[databases]\na = host=x\n* = host=y\n[pgbouncer]\n"
                                   "dns_zone_check_period = 1\n");
    char *text = printed(cfg);
    assert_non_null(strstr(text, "warning: main.ini:5: dns_zone_check_period"));
    assert_non_null(strstr(text, "configuration is good: 2 databases, 3 classes, 0 users"));
    free(text);
    drop(cfg);
    assert_null(load("[pgbouncer]\nnope = 1\n"));
    text = printed(NULL);
    assert_non_null(strstr(text, "error: main.ini:2: unknown setting \"nope\""));
    assert_non_null(strstr(text, "NOT usable: 1 error"));
    free(text);
}

static void the_manual_has_every_key(void **state)
{
    (void)state;
    report = (struct config_report){0};
    char *text = printed(NULL);
    for (size_t t = 0; t < keys_tables_n; t++) {
        for (size_t i = 0; i < keys_tables[t].keys_n; i++) {
            char row[64];
            snprintf(row, sizeof row, "\n  %s", keys_tables[t].keys[i].name);
            assert_non_null(strstr(text, row));
            assert_non_null(keys_tables[t].keys[i].help);
        }
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_errors),
        cmocka_unit_test(what_is_hardly_meant_is_a_warning),
        cmocka_unit_test(all_errors_are_told_up_to_a_limit),
        cmocka_unit_test(later_files_add_and_override),
        cmocka_unit_test(a_reload_keeps_what_needs_a_restart),
        cmocka_unit_test(set_makes_a_new_snapshot),
        cmocka_unit_test(a_snapshot_lives_as_long_as_its_last_reference),
        cmocka_unit_test(an_unchanged_auth_file_is_not_read_again),
        cmocka_unit_test(a_broken_auth_file_changes_nothing),
        cmocka_unit_test(pgbouncers_own_ini_is_understood),
        cmocka_unit_test(a_grown_ini_is_understood),
        cmocka_unit_test(the_shipped_ini_works_as_it_is),
        cmocka_unit_test(the_shipped_inis_advice_is_valid),
        cmocka_unit_test(the_check_report_says_all),
        cmocka_unit_test(the_manual_has_every_key),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
