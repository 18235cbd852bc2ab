/* A line is one object: nothing of it is left when another file has a line of the same name,
 * because half of an old connect string and half of a new one is a third database that nobody asked
 * for. */
#include "config/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/connstr.h"

#if !HASH_NONFATAL_OOM
#error "config/table.h must come before uthash.h"
#endif

static bool line_error(struct lines *l, const struct ini_statement *s, const char *what)
{
    return report_error(l->report, s->at, "[%s] %.64s: %s", s->section, s->key, what);
}

/* All pairs of a line into the scope's struct, over its defaults. */
static bool fill(struct lines *l, const struct ini_statement *s, enum key_scope scope, void *base)
{
    struct connstr_pair pair;
    struct err err;
    const char *rest = s->value;
    bool ok = true;
    keys_defaults(scope, base);
    for (;;) {
        if (!connstr_next(&rest, &pair, &l->cfg->own->arena, &err))
            return line_error(l, s, err.text);
        if (!pair.key)
            return ok;
        const struct key *key = keys_find(scope, pair.key);
        if (!key) {
            keys_explain_unknown(scope, pair.key, &err);
            ok = line_error(l, s, err.text);
        } else if (!keys_parse(key, pair.value, base, &err)) {
            bool secret = key->flags & KEY_SECRET;
            ok = report_error(l->report, s->at, "[%s] %.64s: %s = %.60s: %s", s->section, s->key,
                              pair.key, secret ? "****" : pair.value, err.text);
        } else {
            l->seen(l->arg, key, pair.value, s->at);
        }
    }
}

static bool name_ok(struct lines *l, const struct ini_statement *s, size_t bytes_max)
{
    if (strlen(s->key) <= bytes_max)
        return true;
    char what[64];
    snprintf(what, sizeof what, "the name is longer than %zu bytes", bytes_max);
    return line_error(l, s, what);
}

/* ---- [databases] ---------------------------------------------------------------------------- */

/* Takes "a, b" apart. */
static bool split_hosts(struct lines *l, const struct ini_statement *s, struct config_database *db)
{
    size_t n = 1;
    db->hosts_n = 0;
    db->hosts = NULL;
    if (!db->host)
        return true;
    for (const char *p = db->host; *p; p++)
        n += *p == ',';
    const char **hosts = arena_take(&l->cfg->own->arena, n * sizeof *hosts);
    const char *p = db->host;
    for (size_t i = 0; hosts && i < n; i++) {
        p += strspn(p, " \t");
        size_t bytes = strcspn(p, ",");
        const char *next = p + bytes + (p[bytes] == ',');
        while (bytes > 0 && (p[bytes - 1] == ' ' || p[bytes - 1] == '\t'))
            bytes--;
        if (bytes == 0)
            return line_error(l, s, "host: nothing between two commas");
        hosts[i] = arena_copy(&l->cfg->own->arena, p, bytes);
        if (!hosts[i])
            hosts = NULL;
        p = next;
    }
    db->hosts = hosts;
    db->hosts_n = n;
    return hosts || line_error(l, s, "out of memory");
}

/* One port for all, or one for each host. */
static bool split_ports(struct lines *l, const struct ini_statement *s, struct config_database *db)
{
    size_t n = db->hosts_n ? db->hosts_n : 1, given_n = 0;
    int *ports = arena_take(&l->cfg->own->arena, n * sizeof *ports);
    const char *p = db->port_list;
    if (!ports)
        return line_error(l, s, "out of memory");
    for (;;) {
        char *end;
        errno = 0;
        long port = strtol(p, &end, 0);
        end += strspn(end, " \t");
        if (end == p || errno || port < 1 || port > 65535 || (*end && *end != ','))
            return line_error(l, s, "port: expected numbers from 1 to 65535, comma separated");
        if (given_n < n)
            ports[given_n] = (int)port;
        given_n++;
        if (!*end)
            break;
        p = end + 1;
    }
    if (given_n != 1 && given_n != n)
        return line_error(l, s, "port: one for all hosts, or as many as there are hosts");
    for (size_t i = given_n; i < n; i++)
        ports[i] = ports[0];
    db->ports = ports;
    db->port = ports[0];
    return true;
}

static bool is_console(const char *name)
{
    return strcmp(name, "pgbouncer") == 0 || strcmp(name, "pgweir") == 0;
}

bool lines_database(struct lines *l, const struct ini_statement *s)
{
    struct config_database *db;
    if (is_console(s->key))
        return line_error(l, s, "the name is reserved for the console");
    if (!name_ok(l, s, CONFIG_DB_NAME_MAX))
        return false;
    HASH_FIND_STR(l->cfg->databases, s->key, db);
    if (!db) {
        db = arena_take(&l->cfg->own->arena, sizeof *db);
        if (!db)
            return line_error(l, s, "out of memory");
        db->name = s->key;
        HASH_ADD_KEYPTR(hh, l->cfg->databases, db->name, strlen(db->name), db);
        if (!db->hh.tbl)
            return line_error(l, s, "out of memory");
    }
    struct config_database fresh = {.name = db->name, .hh = db->hh};
    *db = fresh;
    bool ok = fill(l, s, KEY_DATABASE, db) && split_hosts(l, s, db) && split_ports(l, s, db);
    if (ok && db->auth_dbname && is_console(db->auth_dbname))
        return line_error(l, s, "cannot use the reserved console database as an auth_dbname");
    return ok;
}

/* ---- [users], [peers] ----------------------------------------------------------------------- */

bool lines_user(struct lines *l, const struct ini_statement *s)
{
    struct config_user *user;
    if (!name_ok(l, s, CONFIG_USER_NAME_MAX))
        return false;
    HASH_FIND_STR(l->cfg->users, s->key, user);
    if (!user) {
        user = arena_take(&l->cfg->own->arena, sizeof *user);
        if (!user)
            return line_error(l, s, "out of memory");
        user->name = s->key;
        HASH_ADD_KEYPTR(hh, l->cfg->users, user->name, strlen(user->name), user);
        if (!user->hh.tbl)
            return line_error(l, s, "out of memory");
    }
    struct config_user fresh = {.name = user->name, .hh = user->hh};
    *user = fresh;
    return fill(l, s, KEY_USER, user);
}

bool lines_peer(struct lines *l, const struct ini_statement *s)
{
    char *end;
    errno = 0;
    long id = strtol(s->key, &end, 10);
    if (*end || errno || id < 1 || id > 16383)
        return line_error(l, s, "expected a peer_id, 1 to 16383");
    int key = (int)id;
    struct config_peer *peer;
    HASH_FIND_INT(l->cfg->peers, &key, peer);
    if (!peer) {
        peer = arena_take(&l->cfg->own->arena, sizeof *peer);
        if (!peer)
            return line_error(l, s, "out of memory");
        peer->id = key;
        HASH_ADD_INT(l->cfg->peers, id, peer);
        if (!peer->hh.tbl)
            return line_error(l, s, "out of memory");
    }
    struct config_peer fresh = {.id = peer->id, .hh = peer->hh};
    *peer = fresh;
    return fill(l, s, KEY_PEER, peer) && (peer->host || line_error(l, s, "host is missing"));
}
