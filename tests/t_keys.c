/* Each setting by itself: defaults, good and bad values, units, hints for misspelt names. */
#include "config/keys.c"
#include "config/keys_table.c"

#include "tests/config_files.h"

/* ---- each key ----------------------------------------------------------------------------------
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

static const char *valid_special(const char *name)
{
    static const char *const texts[][2] = {
        {"match", "user:x"},
        {"schedule", "Mon-Fri 01:00-05:00 UTC"},
        {"finish_by", "06:00 UTC"},
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (strcmp(name, texts[i][0]) == 0)
            return texts[i][1];
    return "bulk";
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
    case KEY_LIST:
        return strcmp(key->name, "port") == 0 ? "5433" : "x"; /* one for each host */
    case KEY_TEXT:
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
        return valid_special(key->name);
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
    size_t used = strlen(text);
    if (strcmp(key->name, "server_tls_key_file") == 0)
        snprintf(text + used, sizeof text - used, "server_tls_cert_file = y\n");
    if (strcmp(key->name, "server_tls_cert_file") == 0)
        snprintf(text + used, sizeof text - used, "server_tls_key_file = y\n");
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
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
