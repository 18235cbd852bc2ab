/* Settings: each key by itself, keys together, files over files, SET and RELOAD.
 *
 * The tests run in a folder of their own; each writes the files it loads. */
#include "config/config.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct config_report report;
static char shipped_ini[4096], example_list[4096];

/* ---- helpers ----------------------------------------------------------------------------------
 */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct config *load_over(const char *text, const struct config *old)
{
    static const char *const files[] = {"main.ini"};
    struct config *cfg;
    write_file(files[0], text);
    bool ok = config_load(files, 1, old, &cfg, &report);
    assert_int_equal(ok, cfg != NULL);
    assert_int_equal(ok, report.errors_n == 0);
    return cfg;
}

static struct config *load(const char *text)
{
    return load_over(text, NULL);
}

static struct config *load_good(const char *text)
{
    struct config *cfg = load(text);
    if (!cfg)
        fail_msg("%s\nis refused: %s", text, report.notes[0].text);
    return cfg;
}

static void drop(const struct config *cfg)
{
    config_unref(&cfg);
    assert_null(cfg);
}

/* Whether a note of this kind begins so. */
static bool told(bool fatal, const char *begins)
{
    for (uint32_t i = 0; i < report.notes_n; i++) {
        if (report.notes[i].fatal == fatal &&
            strncmp(report.notes[i].text, begins, strlen(begins)) == 0)
            return true;
    }
    return false;
}

static const char *first_error(void)
{
    static struct err err;
    err.text[0] = '\0';
    report_first_error(&report, &err);
    return err.text;
}

static const char *value_of(const struct config *cfg, const char *key)
{
    static struct config_row row;
    for (size_t i = 0; i < config_rows_n(); i++) {
        config_row(cfg, i, &row);
        if (strcmp(row.key, key) == 0)
            return row.value;
    }
    fail_msg("SHOW CONFIG has no %s", key);
    return NULL;
}

/* The first error of one line in [pgbouncer], without its place; NULL when it is fine. */
static const char *refusal(const char *key, const char *value)
{
    char text[512];
    snprintf(text, sizeof text, "[pgbouncer]\n%s = %s\n", key, value);
    struct config *cfg = load(text);
    if (cfg) {
        drop(cfg);
        return NULL;
    }
    assert_int_equal(strncmp(report.notes[0].text, "main.ini:2: ", 12), 0);
    return report.notes[0].text + 12;
}

/* ---- each key -----------------------------------------------------------------------------------
 */

/* PgBouncer's own defaults, from its manual: our table must not drift from them. */
static const struct {
    const char *key, *value;
} defaults[] = {
    {"auth_dbname", ""},
    {"auth_file", ""},
    {"auth_hba_file", ""},
    {"auth_type", "md5"},
    {"auth_user", ""},
    {"admin_users", ""},
    {"application_name_add_host", "0"},
    {"autodb_idle_timeout", "3600"},
    {"cancel_wait_timeout", "10"},
    {"client_idle_timeout", "0"},
    {"client_login_timeout", "60"},
    {"client_tls_ciphers", "default"},
    {"client_tls_dheparams", "auto"},
    {"client_tls_ecdhcurve", "auto"},
    {"client_tls_protocols", "secure"},
    {"client_tls_sslmode", "disable"},
    {"default_pool_size", "20"},
    {"disable_pqexec", "0"},
    {"dns_max_ttl", "15"},
    {"dns_nxdomain_ttl", "15"},
    {"dns_zone_check_period", "0"},
    {"idle_transaction_timeout", "0"},
    {"ignore_startup_parameters", ""},
    {"job_name", "pgbouncer"},
    {"listen_addr", ""},
    {"listen_backlog", "128"},
    {"listen_port", "6432"},
    {"log_connections", "1"},
    {"log_disconnections", "1"},
    {"log_pooler_errors", "1"},
    {"log_stats", "1"},
    {"logfile", ""},
    {"max_client_conn", "100"},
    {"max_db_client_connections", "0"},
    {"max_db_connections", "0"},
    {"max_packet_size", "2147483647"},
    {"max_prepared_statements", "200"},
    {"max_user_client_connections", "0"},
    {"max_user_connections", "0"},
    {"min_pool_size", "0"},
    {"peer_id", "0"},
    {"pidfile", ""},
    {"pkt_buf", "4096"},
    {"pool_idle_timeout", "0"},
    {"pool_mode", "session"},
    {"query_timeout", "0"},
    {"query_wait_notify", "5"},
    {"query_wait_timeout", "120"},
    {"reserve_pool_size", "0"},
    {"reserve_pool_timeout", "5"},
    {"resolv_conf", ""},
    {"sbuf_loopcnt", "5"},
    {"scram_iterations", "4096"},
    {"server_check_delay", "30"},
    {"server_check_query", "<empty>"},
    {"server_connect_timeout", "15"},
    {"server_fast_close", "0"},
    {"server_idle_timeout", "600"},
    {"server_lifetime", "3600"},
    {"server_login_retry", "15"},
    {"server_reset_query", "DISCARD ALL"},
    {"server_reset_query_always", "0"},
    {"server_round_robin", "0"},
    {"server_tls_sslmode", "prefer"},
    {"so_reuseport", "0"},
    {"stats_period", "60"},
    {"stats_users", ""},
    {"suspend_timeout", "10"},
    {"syslog", "0"},
    {"syslog_facility", "daemon"},
    {"syslog_ident", "pgbouncer"},
    {"tcp_defer_accept", "1"},
    {"tcp_keepalive", "1"},
    {"tcp_keepcnt", "0"},
    {"tcp_keepidle", "0"},
    {"tcp_keepintvl", "0"},
    {"tcp_socket_buffer", "0"},
    {"tcp_user_timeout", "0"},
    {"track_extra_parameters", "IntervalStyle"},
    {"transaction_timeout", "0"},
    {"unix_socket_dir", "/tmp"},
    {"unix_socket_group", ""},
    {"unix_socket_mode", "0777"},
    {"user", ""},
    {"verbose", "0"},
};

static void defaults_are_pgbouncers(void **state)
{
    (void)state;
    struct config *cfg = load_good("");
    for (size_t i = 0; i < COUNT_OF(defaults); i++) {
        if (strcmp(value_of(cfg, defaults[i].key), defaults[i].value) != 0)
            fail_msg("%s is \"%s\", not \"%s\"", defaults[i].key, value_of(cfg, defaults[i].key),
                     defaults[i].value);
    }
    drop(cfg);
}

static void show_config_is_sorted_and_whole(void **state)
{
    (void)state;
    struct config *cfg = load_good("");
    struct config_row row, former = {.key = ""};
    assert_true(config_rows_n() > COUNT_OF(defaults));
    for (size_t i = 0; i < config_rows_n(); i++) {
        config_row(cfg, i, &row);
        assert_true(strcmp(former.key, row.key) < 0);
        if (strcmp(row.key, "conffile") != 0) /* made from the command line */
            assert_string_equal(row.value, row.default_value);
        former = row;
    }
    config_row(cfg, 0, &row);
    assert_string_equal(value_of(cfg, "conffile"), "main.ini");
    drop(cfg);
}

static const char *valid_text(const struct key *key, char *buf, size_t bytes)
{
    switch (key->type) {
    case KEY_BOOL:
        return "1";
    case KEY_INT:
    case KEY_OCTAL:
    case KEY_BYTES:
    case KEY_MS:
        snprintf(buf, bytes, "%lld", (long long)key->max);
        return buf;
    case KEY_TIME:
        return "1.5";
    case KEY_TEXT:
    case KEY_LIST:
        return "x";
    case KEY_CHOICE:
        return key->choices[0].text;
    case KEY_FLAGS:
        return "hold,cancel";
    case KEY_SHARE:
        return "30%"; /* at most a new class's max */
    case KEY_SQLSTATE:
        return "57P03";
    case KEY_SPECIAL:
        return strcmp(key->name, "match") == 0 ? "user:x" : "bulk";
    }
    return NULL;
}

/* Texts this type refuses; NULL ends. Text keys refuse nothing. */
static size_t invalid_texts(const struct key *key, char bufs[2][32], const char *texts[8])
{
    static const char *const junk[] = {"x", "1x", "1 1"};
    size_t n = 0;
    if (key->type == KEY_TEXT || key->type == KEY_LIST)
        return 0;
    for (size_t i = 0; i < COUNT_OF(junk); i++)
        texts[n++] = junk[i];
    if (key->type == KEY_BOOL)
        texts[n++] = "2";
    if (key->type == KEY_INT || key->type == KEY_OCTAL || key->type == KEY_BYTES ||
        key->type == KEY_MS) {
        snprintf(bufs[0], 32, "%lld", (long long)key->max + 1);
        snprintf(bufs[1], 32, "%lld", (long long)key->min - 2);
        texts[n++] = bufs[0];
        texts[n++] = bufs[1];
        texts[n++] = "99999999999999999999";
    }
    if (key->type == KEY_TIME) {
        texts[n++] = "-2";
        texts[n++] = "nan";
        texts[n++] = "inf";
        texts[n++] = "1e30";
    }
    return n;
}

static void text_with(enum key_scope scope, const struct key *key, const char *value, char *text,
                      size_t bytes)
{
    static const char *const forms[KEY_SCOPES] = {
        [KEY_GLOBAL] = "[pgbouncer]\n%s = %s\n", [KEY_DATABASE] = "[databases]\nd = %s='%s'\n",
        [KEY_USER] = "[users]\nu = %s='%s'\n",   [KEY_PEER] = "[peers]\n1 = host=x %s='%s'\n",
        [KEY_CLASS] = "[class new]\n%s = %s\n",
    };
    snprintf(text, bytes, forms[scope], key->name, value);
}

/* Valid, invalid, and valid turning invalid: the good one stays what it was. */
static void try_key(enum key_scope scope, const struct key *key)
{
    char text[400], buf[64], bufs[2][32];
    const char *texts[8];
    text_with(scope, key, valid_text(key, buf, sizeof buf), text, sizeof text);
    if (strcmp(key->name, "server_tls_key_file") == 0)
        strcat(text, "server_tls_cert_file = y\n");
    if (strcmp(key->name, "server_tls_cert_file") == 0)
        strcat(text, "server_tls_key_file = y\n");
    struct config *good = load_good(text);
    struct config_globals before = good->globals;
    size_t n = invalid_texts(key, bufs, texts);
    for (size_t i = 0; i < n; i++) {
        text_with(scope, key, texts[i], text, sizeof text);
        struct config *none = load_over(text, good);
        if (none)
            fail_msg("%s is accepted", text);
        assert_true(told(true, "main.ini:2: "));
        assert_non_null(strstr(first_error(), key->name));
    }
    assert_memory_equal(&before, &good->globals, sizeof before);
    drop(good);
}

static void every_key_takes_good_values_and_refuses_bad_ones(void **state)
{
    (void)state;
    size_t tried_n = 0;
    for (size_t t = 0; t < keys_tables_n; t++) {
        for (size_t i = 0; i < keys_tables[t].keys_n; i++, tried_n++)
            try_key(keys_tables[t].scope, &keys_tables[t].keys[i]);
    }
    assert_true(tried_n > 150);
}

static void texts_of_values_parse_back(void **state)
{
    (void)state;
    static const char *const pairs[][3] = {
        {"query_timeout", "0.25", "0.25"},
        {"query_timeout", "1e1", "10"},
        {"query_timeout", ".000001", "0.000001"},
        {"listen_backlog", "0x10", "16"},
        {"listen_backlog", "010", "8"},
        {"unix_socket_mode", "0770", "0770"},
        {"pool_mode", "TransACTION", "transaction"},
        {"tcp_user_timeout", "1500", "1500"},
        {"service_name", "other", "other"},
        {"max_packet_size", "4096", "4096"},
        {"server_check_query", "", ""},
        {"server_reset_query", "a; b;c", "a; b;c"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        char text[200];
        const char *key = strcmp(pairs[i][0], "service_name") == 0 ? "job_name" : pairs[i][0];
        snprintf(text, sizeof text, "[pgbouncer]\n%s = %s\n", pairs[i][0], pairs[i][1]);
        struct config *cfg = load_good(text);
        assert_string_equal(value_of(cfg, key), pairs[i][2]);
        drop(cfg);
    }
}

static void units_are_for_our_own_keys(void **state)
{
    (void)state;
    assert_non_null(refusal("query_timeout", "5s"));
    assert_non_null(refusal("max_packet_size", "1MiB"));
    struct config *cfg =
        load_good("[class a]\nqueue_deadline = 200ms\nslo_p99 = 1.5 min\ndemote_after=2h\n"
                  "byte_rate = 3MiB\nmin_rate=4 kB\ndemote_bytes=5\n");
    const struct class_opts *class = &cfg->classes->at[class_find(cfg->classes, "a")];
    assert_int_equal(class->queue_deadline_us, 200000);
    assert_int_equal(class->slo_p99_us, 90000000);
    assert_int_equal(class->demote_after_us, UINT64_C(7200000000));
    assert_int_equal(class->byte_rate, 3 << 20);
    assert_int_equal(class->min_rate, 4096);
    assert_int_equal(class->demote_after_bytes, 5);
    drop(cfg);
    assert_null(load("[class a]\nbyte_rate = 3MX\n"));
    assert_null(load("[class a]\nbyte_rate = 9000000TB\n"));
    assert_null(load("[class a]\nqueue_deadline = 3 weeks\n"));
}

static void unknown_names_get_a_hint(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[pgbouncer]\npol_mode = x\n", "main.ini:2: unknown setting \"pol_mode\"; did you mean "
                                        "\"pool_mode\"?"},
        {"[pgbouncer]\nPOOL_MODE = session\n", "main.ini:2: unknown setting \"POOL_MODE\"; did you "
                                               "mean \"pool_mode\"?"},
        {"[pgbouncer]\nmax_clinet_con = 1\n", "main.ini:2: unknown setting \"max_clinet_con\"; did "
                                              "you mean \"max_client_conn\"?"},
        {"[pgbouncer]\nsomething_else_entirely = 1\n",
         "main.ini:2: unknown setting \"something_else_entirely\"; --help-config"},
        {"[pgbouncer]\npool_size = 1\n", "main.ini:2: \"pool_size\" cannot stand here; it is a key "
                                         "of a [databases] line"},
        {"[databases]\nd = pool_sise=1\n", "main.ini:2: [databases] d: unknown setting "
                                           "\"pool_sise\"; did you mean \"pool_size\"?"},
        {"[users]\nu = host=1\n", "main.ini:2: [users] u: \"host\" cannot stand here; it is a key "
                                  "of a [databases] line"},
        {"[class a]\nprority = 1\n", "main.ini:2: [class a] unknown setting \"prority\"; did you "
                                     "mean \"priority\"?"},
        {"[class a]\nmatch = usr:x\n", "main.ini:2: match = usr:x: no condition is called \"usr\"; "
                                       "did you mean \"user\"?"},
        {"[databses]\n", "main.ini:1: there is no section [databses]; did you mean [databases]?"},
        {"[clas a]\n", "main.ini:1: there is no section [clas a]"},
        {"[class]\n", "main.ini:1: there is no section [class]; did you mean"},
        {"x = 1\n", "main.ini:1: a setting before the first [section]"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (load(cases[i][0]))
            fail_msg("%s is accepted", cases[i][0]);
        if (!told(true, cases[i][1]))
            fail_msg("\"%s\", not \"%s\"", report.notes[0].text, cases[i][1]);
    }
}

static void what_does_not_act_is_told_once(void **state)
{
    (void)state;
    struct config *cfg = load_good("[databases]\na = host=x auth_user=u\nb = host=x auth_user=u\n"
                                   "[pgbouncer]\ndns_zone_check_period = 1\nsbuf_loopcnt = 5\n");
    assert_true(told(false, "main.ini:2: auth_user is understood, but does not act yet"));
    assert_false(told(false, "main.ini:3: auth_user"));
    assert_true(told(false, "main.ini:5: dns_zone_check_period is understood"));
    assert_false(told(false, "main.ini:6: ")); /* its default */
    drop(cfg);
}

static void what_we_do_not_have_is_refused_where_it_matters(void **state)
{
    (void)state;
    static const char *const types[] = {"hba", "cert", "ldap", "pam"};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        assert_non_null(strstr(refusal("auth_type", types[i]), "does not have it yet"));
    assert_null(refusal("auth_type", "SCRAM-SHA-256"));
}

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

/* ---- classes ------------------------------------------------------------------------------------
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

/* ---- settings together --------------------------------------------------------------------------
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
    char text[4000] = "[pgbouncer]\n";
    for (int i = 0; i < 30; i++)
        strcat(text, "nope = 1\n");
    assert_null(load(text));
    assert_int_equal(report.errors_n, 30);
    uint32_t kept_n = 0;
    for (uint32_t i = 0; i < report.notes_n; i++)
        kept_n += report.notes[i].fatal;
    assert_int_equal(kept_n, REPORT_ERRORS_MAX);
    assert_true(told(true, "main.ini:2: "));
    assert_true(told(true, "main.ini:21: "));
}

/* ---- files over files, RELOAD, SET --------------------------------------------------------------
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

/* ---- auth_file ----------------------------------------------------------------------------------
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

/* ---- whole files --------------------------------------------------------------------------------
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
    char line[400], text[16000] = "";
    FILE *file = fopen(shipped_ini, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        const char *from = line;
        if (strncmp(line, "; ", 2) == 0 && (strstr(line, " = ") || line[2] == '['))
            from = line + 2;
        assert_true(strlen(text) + strlen(from) < sizeof text);
        strcat(text, from);
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

/* ----
 * ---------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    static char folder[] = "/tmp/t_config.XXXXXX";
    *state = folder;
    return !(realpath("config/pgweir.ini", shipped_ini) &&
             realpath("config/userlist.example.txt", example_list) && mkdtemp(folder) &&
             chdir(folder) == 0);
}

static int teardown(void **state)
{
    static const char *const files[] = {"main.ini", "list.txt", "one.ini", "two.ini"};
    for (size_t i = 0; i < COUNT_OF(files); i++)
        unlink(files[i]);
    return chdir("/") || rmdir(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_pgbouncers),
        cmocka_unit_test(show_config_is_sorted_and_whole),
        cmocka_unit_test(every_key_takes_good_values_and_refuses_bad_ones),
        cmocka_unit_test(texts_of_values_parse_back),
        cmocka_unit_test(units_are_for_our_own_keys),
        cmocka_unit_test(unknown_names_get_a_hint),
        cmocka_unit_test(what_does_not_act_is_told_once),
        cmocka_unit_test(what_we_do_not_have_is_refused_where_it_matters),
        cmocka_unit_test(a_database_line_is_taken_apart),
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
