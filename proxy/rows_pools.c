/* SHOW POOLS, DATABASES, USERS. */
#include "proxy/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/users.h"
#include "proxy/census.h"
#include "proxy/gates.h"
#include "proxy/hash.h" /* names of databases are the clients' to choose */
#include "proxy/route.h"

/* ---- copies ------------------------------------------------------------------------------------
 */

struct pools_copy {
    struct pool_stats *at;
    size_t n, cap;
    uint64_t now_us;
};

static bool copy_pool(struct pool *p, void *arg)
{
    struct pools_copy *c = arg;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct pool_stats *at = reallocarray(c->at, cap, sizeof *at);
        if (!at)
            return false;
        c->at = at;
        c->cap = cap;
    }
    show_pool(p, c->now_us, &c->at[c->n++]);
    return true;
}

struct pool_stats *rows_pools_copy(const struct rows_from *from, size_t *n)
{
    struct pools_copy c = {.now_us = from->now_us};
    registry_each_pool(from->proxy->registry, copy_pool, &c);
    *n = c.n;
    return c.at;
}

static const struct config *config_of(const struct rows_from *from)
{
    return from->proxy->hubs[0]->config;
}

static uint32_t shown(int n)
{
    return n > 0 ? (uint32_t)n : 0;
}

/* Said only where there is something to balance, as PgBouncer does. */
static const char *balance_name(const struct config_database *db)
{
    if (!db || db->hosts_n < 2)
        return NULL;
    return db->load_balance_hosts == LOAD_BALANCE_DISABLE ? "disable" : "round-robin";
}

/* ---- POOLS ----------------------------------------------------------------------------------- */

struct pool_row {
    const char *database, *user;
    uint32_t cl_active, cl_waiting, cl_active_cancel_req, cl_waiting_cancel_req;
    uint32_t sv_active, sv_active_cancel, sv_being_canceled, sv_idle, sv_used, sv_tested, sv_login;
    uint32_t maxwait, maxwait_us;
    const char *pool_mode, *load_balance_hosts;
    /* ours */
    const char *upstream_host;
    uint32_t upstream_port, pool_size, sv_closing;
    const char *replication, *run;
    bool down;
    uint64_t waited_us; /* for /metrics: maxwait and maxwait_us in one */
};

/* A server that is prepared for its client, cancelled or cleaned is leased all that time: it is in
 * sv_active. SHOW SERVERS has the states; cancel requests are in SHOW CLIENTS. */
#define ROW struct pool_row
static const struct table_column pools_columns[] = {
    {COL(database, TEXT), .role = TABLE_LABEL},
    {COL(user, TEXT), .role = TABLE_LABEL},
    {COL(cl_active, U32), .role = TABLE_GAUGE, .metric = "clients_active",
     .help = "Clients that hold a server, or want none."},
    {COL(cl_waiting, U32), .role = TABLE_GAUGE, .metric = "clients_waiting",
     .help = "Clients that wait for a server."},
    {COL(cl_active_cancel_req, U32)},
    {COL(cl_waiting_cancel_req, U32)},
    {COL(sv_active, U32), .role = TABLE_GAUGE, .metric = "servers_active",
     .help = "Server connections in use by a client."},
    {COL(sv_active_cancel, U32)},
    {COL(sv_being_canceled, U32)},
    {COL(sv_idle, U32), .role = TABLE_GAUGE, .metric = "servers_idle",
     .help = "Server connections ready for a client."},
    {COL(sv_used, U32)},
    {COL(sv_tested, U32)},
    {COL(sv_login, U32), .role = TABLE_GAUGE, .metric = "servers_login",
     .help = "Server connections connecting or logging in."},
    {COL(maxwait, U32)},
    {COL(maxwait_us, U32)},
    {COL(pool_mode, TEXT)},
    {COL(load_balance_hosts, TEXT)},
    {COL(upstream_host, TEXT), .role = TABLE_LABEL, .metric = "host"},
    {COL(upstream_port, U32), .role = TABLE_LABEL, .metric = "port"},
    {COL(pool_size, U32), .role = TABLE_GAUGE, .metric = "size",
     .help = "Server connections the pool may have; 0: no limit of its own."},
    {COL(sv_closing, U32), .role = TABLE_GAUGE, .metric = "servers_closing",
     .help = "Server connections on their way out."},
    {COL(replication, TEXT), .role = TABLE_LABEL},
    {COL(run, TEXT)},
    {COL(down, BOOL), .role = TABLE_GAUGE,
     .help = "1 when the last attempt to open a server connection failed."},
    {COL(waited_us, U64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "maxwait",
     .help = "How long the client waits that waits longest now."},
};
const struct table rows_pools_table = {
    .name = "POOLS", .prefix = "pool", TABLE_OF(pools_columns), .help = "pools of servers"};
#undef ROW

static const char *run_name(enum pool_run run)
{
    switch (run) {
    case POOL_RUNS:
        return "active";
    case POOL_PAUSED:
        return "paused";
    case POOL_DISABLED:
        return "disabled";
    case POOL_KILLED:
        return "killed";
    }
    return NULL;
}

static const char *replication_name(enum pool_replication replication)
{
    switch (replication) {
    case POOL_REPLICATION_NO:
        return "none";
    case POOL_REPLICATION_DATABASE:
        return "logical";
    case POOL_REPLICATION_PHYSICAL:
        return "physical";
    }
    return NULL;
}

static void fill_pool(const struct rows_from *from, const struct pool_stats *s,
                      struct pool_row *row)
{
    const struct config *cfg = config_of(from);
    const struct config_database *db = config_database(cfg, s->database);
    struct config_pool set;
    config_pool(cfg, db, config_user(cfg, s->user), &set);
    row->database = s->database;
    row->user = s->user;
    row->cl_active = s->clients_n > s->waiting_n ? s->clients_n - s->waiting_n : 0;
    row->cl_waiting = s->waiting_n;
    row->sv_active = s->leased_n;
    row->sv_idle = s->idle_n;
    row->sv_login = s->opening_n;
    row->sv_closing = s->closing_n;
    row->maxwait = (uint32_t)(s->maxwait_us / US_PER_S);
    row->maxwait_us = (uint32_t)(s->maxwait_us % US_PER_S);
    row->waited_us = s->maxwait_us;
    row->pool_mode = s->replication == POOL_REPLICATION_NO
                         ? config_pool_mode_name(set.pool_mode)
                         : config_pool_mode_name(POOL_MODE_SESSION);
    row->load_balance_hosts = balance_name(db);
    row->upstream_host = upstream_host(s->upstream);
    row->upstream_port = upstream_port(s->upstream);
    row->pool_size = s->opts.size_n;
    row->replication = replication_name(s->replication);
    row->run = run_name(s->run);
    row->down = s->down;
}

void rows_fill_pools(const struct rows_from *from, struct rows *out)
{
    size_t n;
    struct pool_stats *pools = rows_pools_copy(from, &n);
    for (size_t i = 0; i < n; i++)
        fill_pool(from, &pools[i], rows_add(out, &rows_pools_table));
    free(pools);
    struct pool_row *console = rows_add(out, &rows_pools_table);
    console->database = console->user = "pgbouncer";
    console->cl_active = from->proxy->hubs[0]->clients_n; /* this loop's own */
    console->pool_mode = "statement";
    console->upstream_host = console->replication = "none";
    console->run = "active";
}

/* ---- who uses how much --------------------------------------------------------------------------
 */

/* Servers of all pools of one database, or user. */
struct usage {
    const char *name;
    uint32_t servers_n;
    UT_hash_handle hh;
};

static struct usage *usage_of(struct usage **all, const char *name)
{
    struct usage *u;
    HASH_FIND_STR(*all, name, u);
    if (u)
        return u;
    u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->name = name;
    HASH_ADD_KEYPTR(hh, *all, u->name, strlen(u->name), u);
    if (u->hh.tbl)
        return u;
    free(u);
    return NULL;
}

static void usage_free(struct usage **all)
{
    struct usage *u, *next;
    HASH_ITER(hh, *all, u, next)
    {
        HASH_DEL(*all, u);
        free(u);
    }
}

/* ---- DATABASES ------------------------------------------------------------------------------- */

struct database_row {
    const char *name, *host;
    uint32_t port;
    const char *database, *force_user;
    uint32_t pool_size, min_pool_size, reserve_pool_size;
    uint32_t server_lifetime;
    const char *pool_mode, *load_balance_hosts;
    uint32_t max_connections, current_connections;
    uint32_t max_client_connections, current_client_connections;
    bool paused, disabled;
};

#define ROW struct database_row
static const struct table_column databases_columns[] = {
    {COL(name, TEXT), .role = TABLE_LABEL, .metric = "database"},
    {COL(host, TEXT)},
    {COL(port, U32)},
    {COL(database, TEXT)},
    {COL(force_user, TEXT)},
    {COL(pool_size, U32)},
    {COL(min_pool_size, U32)},
    {COL(reserve_pool_size, U32)},
    {COL(server_lifetime, U32)},
    {COL(pool_mode, TEXT)},
    {COL(load_balance_hosts, TEXT)},
    {COL(max_connections, U32), .role = TABLE_GAUGE, .metric = "servers_max",
     .help = "max_db_connections; 0: no limit."},
    {COL(current_connections, U32), .role = TABLE_GAUGE, .metric = "servers",
     .help = "Server connections of all pools of the database."},
    {COL(max_client_connections, U32)},
    {COL(current_client_connections, U32), .role = TABLE_GAUGE, .metric = "clients",
     .help = "Clients of all pools of the database."},
    {COL(paused, BOOL), .role = TABLE_GAUGE, .help = "1 after PAUSE or KILL."},
    {COL(disabled, BOOL), .role = TABLE_GAUGE, .help = "1 after DISABLE."},
};
const struct table rows_databases_table = {
    .name = "DATABASES",
    .prefix = "database",
    TABLE_OF(databases_columns),
    .help = "configured databases, and those of the `*` line in use"};
#undef ROW

static void fill_database(const struct rows_from *from, const struct config_database *db,
                          const char *name, const struct usage *used, struct database_row *row)
{
    struct config_pool set;
    struct gate gate = gates_of(from->proxy->gates, name);
    config_pool(config_of(from), db, NULL, &set);
    row->name = name;
    row->host = db->host;
    row->port = shown(db->port);
    row->database = db->dbname ? db->dbname : name;
    row->force_user = db->user;
    row->pool_size = shown(set.pool_size);
    row->min_pool_size = shown(set.min_pool_size);
    row->reserve_pool_size = shown(set.reserve_pool_size);
    row->server_lifetime = (uint32_t)(set.server_lifetime_us / US_PER_S);
    row->pool_mode = config_pool_mode_name(set.pool_mode);
    row->load_balance_hosts = balance_name(db);
    row->max_connections = shown(set.max_db_connections);
    row->max_client_connections = shown(set.max_db_client_connections);
    row->current_connections = used ? used->servers_n : 0;
    row->current_client_connections = census_n(CENSUS_DATABASE, name);
    row->paused = gate.paused;
    row->disabled = gate.disabled;
}

static struct usage *usage_by_database(struct pool_stats *pools, size_t n)
{
    struct usage *all = NULL;
    for (size_t i = 0; i < n; i++) {
        struct usage *u = usage_of(&all, pools[i].database);
        if (!u)
            break;
        u->servers_n = pools[i].db_used_n; /* one counter for all its pools */
    }
    return all;
}

void rows_fill_databases(const struct rows_from *from, struct rows *out)
{
    size_t n;
    struct pool_stats *pools = rows_pools_copy(from, &n);
    struct usage *all = usage_by_database(pools, n), *u;
    const struct config *cfg = config_of(from);
    const struct config_database *db;
    for (db = cfg->databases; db; db = db->hh.next) {
        if (!strcmp(db->name, "*"))
            continue;
        HASH_FIND_STR(all, db->name, u);
        fill_database(from, db, db->name, u, rows_add(out, &rows_databases_table));
    }
    for (u = all; u; u = u->hh.next) { /* databases of the `*` line */
        db = config_database(cfg, u->name);
        if (db && !strcmp(db->name, "*"))
            fill_database(from, db, u->name, u, rows_add(out, &rows_databases_table));
    }
    struct database_row *console = rows_add(out, &rows_databases_table);
    console->name = console->database = console->force_user = "pgbouncer";
    console->port = shown(cfg->globals.listen_port);
    console->pool_mode = "statement";
    console->current_client_connections = from->proxy->hubs[0]->clients_n;
    usage_free(&all);
    free(pools);
}

/* ---- USERS ----------------------------------------------------------------------------------- */

struct user_row {
    const char *name;
    char pool_size[12], reserve_pool_size[12]; /* text in PgBouncer, where unset is NULL */
    const char *pool_mode;
    uint32_t max_user_connections, current_connections;
    uint32_t max_user_client_connections, current_client_connections;
};

#define ROW struct user_row
static const struct table_column users_columns[] = {
    {COL(name, TEXT)},
    {COL(pool_size, CHARS)},
    {COL(reserve_pool_size, CHARS)},
    {COL(pool_mode, TEXT)},
    {COL(max_user_connections, U32)},
    {COL(current_connections, U32)},
    {COL(max_user_client_connections, U32)},
    {COL(current_client_connections, U32)},
};
const struct table rows_users_table = {
    .name = "USERS", TABLE_OF(users_columns), .help = "users of auth_file, [users] and pools"};
#undef ROW

static void fill_user(const struct rows_from *from, const struct usage *u, struct user_row *row)
{
    const struct config *cfg = config_of(from);
    const struct config_user *user = config_user(cfg, u->name);
    struct config_pool set;
    config_pool(cfg, NULL, user, &set);
    row->name = u->name;
    if (user && user->pool_size != CONFIG_UNSET)
        snprintf(row->pool_size, sizeof row->pool_size, "%d", user->pool_size);
    if (user && user->reserve_pool_size != CONFIG_UNSET)
        snprintf(row->reserve_pool_size, sizeof row->reserve_pool_size, "%d",
                 user->reserve_pool_size);
    if (user && user->pool_mode != POOL_MODE_UNSET)
        row->pool_mode = config_pool_mode_name(user->pool_mode);
    row->max_user_connections = shown(set.max_user_connections);
    row->max_user_client_connections = shown(set.max_user_client_connections);
    row->current_connections = u->servers_n;
    row->current_client_connections = census_n(CENSUS_USER, u->name);
}

/* Every name there is, with what its pools use. */
static struct usage *usage_by_user(const struct config *cfg, const struct pool_stats *pools,
                                   size_t n)
{
    struct usage *all = NULL;
    bool fits = true;
    for (size_t i = 0; fits && i < cfg->auth->entries_n; i++)
        fits = usage_of(&all, cfg->auth->entries[i].name) != NULL;
    for (const struct config_user *user = cfg->users; fits && user; user = user->hh.next)
        fits = usage_of(&all, user->name) != NULL;
    for (size_t i = 0; fits && i < n; i++) {
        struct usage *u = usage_of(&all, pools[i].user);
        fits = u != NULL;
        if (!fits)
            break;
        u->servers_n = pools[i].user_used_n; /* one counter for all its pools */
    }
    return all;
}

void rows_fill_users(const struct rows_from *from, struct rows *out)
{
    size_t n;
    struct pool_stats *pools = rows_pools_copy(from, &n);
    struct usage *all = usage_by_user(config_of(from), pools, n);
    for (struct usage *u = all; u; u = u->hh.next)
        fill_user(from, u, rows_add(out, &rows_users_table));
    usage_free(&all);
    free(pools);
}
