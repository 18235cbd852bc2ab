/* Each rule is one function with its own text, and points to the line of the key it is about. */
#include "config/check.h"

#include <string.h>
#include <sys/un.h>

#include "config/keys.h"
#include "pool/class.h"

enum {
    UNIX_NAME_BYTES = 16, /* /.s.PGSQL.65535 and its NUL */
};

struct checker {
    const struct config *cfg;
    const struct config_globals *g;
    struct config_report *report;
};

struct report_place check_place_of(const struct config *cfg, const char *key)
{
    struct report_place at = {0};
    for (const struct ini_statement *s = cfg->own->statements.first; s; s = s->next) {
        bool global = s->section && s->key &&
                      (strcmp(s->section, "pgbouncer") == 0 || strcmp(s->section, "pgweir") == 0);
        if (global && strcmp(s->key, key) == 0)
            at = s->at;
    }
    return at;
}

static struct report_place place_of(const struct checker *c, const char *key)
{
    return check_place_of(c->cfg, key);
}

/* ---- errors --------------------------------------------------------------------------------- */

static bool check_client_tls(struct checker *c)
{
    const struct config_globals *g = c->g;
    struct report_place at = place_of(c, "client_tls_sslmode");
    if (g->client_tls_sslmode == SSLMODE_DISABLE)
        return true;
    if (!*g->client_tls_key_file || !*g->client_tls_cert_file)
        return report_error(c->report, at,
                            "client_tls_sslmode needs client_tls_key_file and "
                            "client_tls_cert_file; set both, or set it to disable");
    if (g->client_tls_sslmode >= SSLMODE_VERIFY_CA && !*g->client_tls_ca_file)
        return report_error(c->report, at,
                            "client_tls_sslmode = verify-* needs client_tls_ca_file: whose "
                            "signatures are to be verified?");
    return true;
}

static bool check_server_tls(struct checker *c)
{
    const struct config_globals *g = c->g;
    if (!*g->server_tls_key_file == !*g->server_tls_cert_file)
        return true;
    return report_error(c->report, place_of(c, "server_tls_key_file"),
                        "server_tls_key_file and server_tls_cert_file are one thing; set both or "
                        "neither");
}

static bool check_cert_auth(struct checker *c)
{
    if (c->g->auth_type != AUTH_TYPE_CERT || c->g->client_tls_sslmode == SSLMODE_VERIFY_FULL)
        return true;
    return report_error(c->report, place_of(c, "auth_type"),
                        "auth_type = cert needs client_tls_sslmode = verify-full");
}

static bool check_listening(struct checker *c)
{
    const struct config_globals *g = c->g;
    size_t room = sizeof((struct sockaddr_un *)0)->sun_path - UNIX_NAME_BYTES;
    if (!*g->listen_addr && !*g->unix_socket_dir)
        return report_error(c->report, place_of(c, "unix_socket_dir"),
                            "nowhere to listen: set listen_addr, or unix_socket_dir");
    if (strlen(g->unix_socket_dir) > room)
        return report_error(c->report, place_of(c, "unix_socket_dir"),
                            "unix_socket_dir is longer than %zu bytes, more than a socket's name "
                            "may have",
                            room);
    return true;
}

static bool check_console(struct checker *c)
{
    if (strcmp(c->g->auth_dbname, "pgbouncer") != 0 && strcmp(c->g->auth_dbname, "pgweir") != 0)
        return true;
    return report_error(c->report, place_of(c, "auth_dbname"),
                        "cannot use the reserved \"%s\" database as an auth_dbname",
                        c->g->auth_dbname);
}

static bool check_classes(struct checker *c)
{
    struct err err;
    return class_table_check(c->cfg->classes, &err) ||
           report_error(c->report, (struct report_place){0}, "classes: %s", err.text);
}

static bool check_hosts(struct checker *c)
{
    bool ok = true;
    for (const struct config_database *db = c->cfg->databases; db; db = db->hh.next)
        if (db->hosts_n > CONFIG_HOSTS_MAX && config_is_steered(c->cfg, db))
            ok = report_error(c->report, (struct report_place){0},
                              "database \"%s\" has more than %d hosts to be told apart", db->name,
                              (int)CONFIG_HOSTS_MAX);
    return ok;
}

/* ---- warnings ------------------------------------------------------------------------------- */

static void warn_databases(struct checker *c)
{
    if (!c->cfg->databases)
        report_warning(c->report, (struct report_place){0},
                       "[databases] is empty: only the console can be reached; `* = host=NAME` "
                       "lets every name through");
}

/* What asks for replicas and finds none, or asks for hosts of a kind and names them twice. */
static void warn_routes(struct checker *c)
{
    const struct class_opts *asks = NULL;
    const struct config_database *db;
    bool several = false;
    for (uint32_t i = 0; i < c->cfg->classes->class_n; i++) {
        const struct class_opts *class = &c->cfg->classes->at[i];
        if (!class->retired && class->route == CLASS_ROUTE_REPLICA)
            asks = class;
    }
    for (db = c->cfg->databases; db; db = db->hh.next) {
        several |= db->hosts_n > 1;
        if (asks && db->hosts_n > 1 && db->target_session_attrs <= TARGET_ANY)
            report_warning(c->report, (struct report_place){0},
                           "database \"%s\" has several hosts and no target_session_attrs: clients "
                           "of classes without route = replica may land on any of them; "
                           "target_session_attrs=read-write sends them to the primary",
                           db->name);
    }
    if (asks && !several)
        report_warning(c->report, (struct report_place){0},
                       "[class %s] route = replica has no effect: no database has several hosts "
                       "(host=a,b)",
                       asks->name);
}

static void warn_passwords(struct checker *c)
{
    const struct config_globals *g = c->g;
    if (g->auth_type == AUTH_TYPE_ANY || users_n(c->cfg->auth) > 0)
        return;
    report_warning(c->report, place_of(c, "auth_file"),
                   "%s: nobody can log in but over the console's own Unix socket",
                   *g->auth_file ? "auth_file has no users" : "auth_file is not set");
}

static void warn_any(struct checker *c)
{
    if (c->g->auth_type != AUTH_TYPE_ANY)
        return;
    for (const struct config_database *db = c->cfg->databases; db; db = db->hh.next) {
        if (!db->user)
            report_warning(c->report, place_of(c, "auth_type"),
                           "auth_type = any does not know who a client is, and database \"%s\" has "
                           "no user= to log in with",
                           db->name);
    }
}

static void warn_octal(struct checker *c)
{
    int mode = c->g->unix_socket_mode;
    /* 777 is 01411: no permissions anybody means. */
    if (mode == 777 || mode == 770 || mode == 700 || mode == 775 || mode == 666 || mode == 660)
        report_warning(c->report, place_of(c, "unix_socket_mode"),
                       "unix_socket_mode = %d is decimal; write 0%d for the octal number", mode,
                       mode);
}

static void warn_sizes(struct checker *c)
{
    const struct config_globals *g = c->g;
    if (g->default_pool_size > 0 && g->min_pool_size > g->default_pool_size)
        report_warning(c->report, place_of(c, "min_pool_size"),
                       "min_pool_size is above default_pool_size, which limits it");
    if (g->max_upstream_connections > 0 && g->default_pool_size > g->max_upstream_connections)
        report_warning(c->report, place_of(c, "max_upstream_connections"),
                       "max_upstream_connections is below default_pool_size: a single pool can "
                       "never be as large as it says");
}

/* "DISCARD ALL ; a comment" is sent to the server as it stands. */
static void warn_comments(struct checker *c)
{
    for (const struct ini_statement *s = c->cfg->own->statements.first; s; s = s->next) {
        const struct key *key = s->key ? keys_find(KEY_GLOBAL, s->key) : NULL;
        bool text = key && (key->type == KEY_TEXT || key->type == KEY_LIST);
        if (text && (strstr(s->value, " ;") || strstr(s->value, " #")))
            report_warning(c->report, s->at,
                           "what follows the ; or # is part of %s: a comment needs a line of its "
                           "own",
                           s->key);
    }
}

bool check_snapshot(const struct config *cfg, struct config_report *report)
{
    struct checker c = {.cfg = cfg, .g = &cfg->globals, .report = report};
    bool ok = check_client_tls(&c);
    ok = check_server_tls(&c) && ok;
    ok = check_cert_auth(&c) && ok;
    ok = check_listening(&c) && ok;
    ok = check_console(&c) && ok;
    ok = check_classes(&c) && ok;
    ok = ok && check_hosts(&c);
    warn_databases(&c);
    warn_routes(&c);
    warn_passwords(&c);
    warn_any(&c);
    warn_octal(&c);
    warn_sizes(&c);
    warn_comments(&c);
    return ok;
}
