/* SHOW HOSTS: the hosts of databases that tell them apart, what each is, and whom it serves. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/route.h"
#include "proxy/rows.h"
#include "proxy/steer.h"

enum { SERVES_BYTES = 160 };

struct pools {
    struct pool_stats *at;
    size_t n;
};

struct host_row {
    const char *database, *host;
    uint32_t port;
    const char *target_session_attrs, *role;
    bool read_only, down;
    double lag_us;
    uint32_t clients;
    char serves[SERVES_BYTES]; /* "users" by target_session_attrs, and classes with a route */
    const char *not_users;     /* why it does not serve those */
    double told_s;             /* how long ago somebody said what it is */
};

#define ROW struct host_row
static const struct table_column hosts_columns[] = {
    {COL(database, TEXT), .role = TABLE_LABEL},
    {COL(host, TEXT), .role = TABLE_LABEL},
    {COL(port, U32), .role = TABLE_LABEL},
    {COL(target_session_attrs, TEXT)},
    {COL(role, TEXT), .role = TABLE_LABEL},
    {COL(read_only, BOOL), .role = TABLE_GAUGE,
     .help = "1 for a primary with default_transaction_read_only."},
    {COL(down, BOOL), .role = TABLE_GAUGE, .help = "1 while nobody answers there."},
    {COL(lag_us, F64), .role = TABLE_GAUGE, .unit = TABLE_US, .metric = "lag",
     .help = "How far a standby is behind."},
    {COL(clients, U32), .role = TABLE_GAUGE, .help = "Clients of the database on this host."},
    {COL(serves, CHARS)},
    {COL(not_users, TEXT)},
    {COL(told_s, F64)},
};
const struct table rows_hosts_table = {.name = "HOSTS",
                                       .prefix = "host",
                                       TABLE_OF(hosts_columns),
                                       .help = "hosts of databases that name several, by role"};
#undef ROW

static void add_word(char *at, size_t bytes, const char *word)
{
    size_t n = strlen(at);
    snprintf(at + n, bytes - n, "%s%s", n ? "," : "", word);
}

static void put_serves(const struct config *cfg, const struct config_database *db,
                       const struct target_host *host, struct host_row *row)
{
    struct target_want users = {.attrs = db->target_session_attrs};
    if (target_fit(&users, host) == TARGET_FIT)
        add_word(row->serves, sizeof row->serves, "users");
    else if (target_fit(&users, host) == TARGET_SECOND_CHOICE)
        add_word(row->serves, sizeof row->serves, "users (second choice)");
    row->not_users = target_unfit_why(&users, host);
    for (uint32_t i = 0; i < cfg->classes->class_n; i++) {
        const struct class_opts *class = &cfg->classes->at[i];
        struct target_want want = route_want(cfg, db, (uint8_t)i);
        if (!class->retired && want.replica && target_fit(&want, host) != TARGET_UNFIT)
            add_word(row->serves, sizeof row->serves, class->name);
    }
}

static uint32_t clients_of(const struct config *cfg, const struct config_database *db,
                           const struct upstream *u, const struct pools *pools)
{
    uint32_t n = 0;
    for (size_t i = 0; i < pools->n; i++)
        if (pools->at[i].upstream == u && config_database(cfg, pools->at[i].database) == db)
            n += pools->at[i].clients_n;
    return n;
}

static void fill_host(const struct rows_from *from, const struct config_database *db,
                      const struct route_hosts *hosts, uint32_t i, struct host_row *row)
{
    const struct config *cfg = from->proxy->hubs[0]->config;
    const struct upstream *u = hosts->upstreams[i];
    struct upstream_facts facts;
    upstream_facts(hosts->upstreams[i], &facts);
    row->database = db->name;
    row->host = upstream_host(u);
    row->port = upstream_port(u);
    row->target_session_attrs = target_attrs_name(db->target_session_attrs);
    row->role = upstream_role_name(hosts->at[i].role);
    row->read_only = hosts->at[i].read_only;
    row->down = hosts->at[i].down || hosts->at[i].role == UPSTREAM_GONE;
    row->lag_us = facts.role == UPSTREAM_STANDBY && facts.lag_us != UINT64_MAX
                      ? (double)facts.lag_us
                      : (double)NAN;
    row->told_s =
        facts.told_us ? (double)us_since(facts.told_us, from->now_us) / US_PER_S : (double)NAN;
    put_serves(cfg, db, &hosts->at[i], row);
}

void rows_fill_hosts(const struct rows_from *from, struct rows *out)
{
    struct hub *h = from->proxy->hubs[0];
    struct pools pools = {.at = NULL};
    struct route_hosts hosts;
    struct err err;
    pools.at = rows_pools_copy(from, &pools.n);
    for (const struct config_database *db = h->config->databases; db; db = db->hh.next) {
        if (!config_is_steered(h->config, db) || !route_hosts(h, db, NULL, &hosts, &err))
            continue;
        for (uint32_t i = 0; i < hosts.n; i++) {
            struct host_row *row = rows_add(out, &rows_hosts_table);
            fill_host(from, db, &hosts, i, row);
            row->clients = clients_of(h->config, db, hosts.upstreams[i], &pools);
        }
    }
    free(pools.at);
}

/* ---- REROUTES ----------------------------------------------------------------------------------
 */

struct reroute_row {
    const char *reason;
    uint64_t reroutes;
};

#define ROW struct reroute_row
static const struct table_column reroutes_columns[] = {
    {COL(reason, TEXT), .role = TABLE_LABEL},
    {COL(reroutes, U64), .role = TABLE_COUNTER, .metric = "reroutes",
     .help = "Clients that changed to another host of their database."},
};
const struct table rows_reroutes_table = {.name = "REROUTES",
                                          .prefix = "",
                                          TABLE_OF(reroutes_columns),
                                          .help = "why clients changed hosts"};
#undef ROW

void rows_fill_reroutes(const struct rows_from *from, struct rows *out)
{
    for (size_t reason = 0; reason < STEER_REASONS_N; reason++) {
        struct reroute_row *row = rows_add(out, &rows_reroutes_table);
        row->reason = steer_reason_name((enum steer_reason)reason);
        for (uint16_t i = 0; i < from->proxy->worker_n; i++)
            row->reroutes += count_get(&from->proxy->hubs[i]->reroutes[reason]);
    }
}
