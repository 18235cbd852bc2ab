/* The catalogue of SHOW, and its small tables. */
#include "proxy/rows.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/users.h"
#include "proxy/client.h"
#include "proxy/dns.h"
#include "proxy/gates.h"
#include "proxy/prep.h"
#include "proxy/route.h"
#include "proxy/samples.h"
#include "proxy/server.h"
#include "proxy/version.h"

/* ---- VERSION, STATE, CONFIG ------------------------------------------------------------------ */

struct pair_row {
    const char *key, *value;
};

#define ROW struct pair_row
static const struct table_column version_columns[] = {
    {.name = "version", .type = TABLE_TEXT, .offset = offsetof(ROW, value)}};
static const struct table version_table = {.name = "VERSION", TABLE_OF(version_columns)};
static const struct table_column state_columns[] = {{COL(key, TEXT)}, {COL(value, TEXT)}};
static const struct table state_table = {.name = "STATE", TABLE_OF(state_columns)};
#undef ROW

static void fill_version(const struct rows_from *from, struct rows *out)
{
    struct pair_row *row = rows_add(out, &version_table);
    (void)from;
    row->value = VERSION_TEXT;
}

static void put_state(struct rows *out, const char *key, bool yes)
{
    struct pair_row *row = rows_add(out, &state_table);
    row->key = key;
    row->value = yes ? "yes" : "no";
}

static void fill_state(const struct rows_from *from, struct rows *out)
{
    bool paused = gates_all_paused(from->proxy->gates);
    put_state(out, "active", !paused);
    put_state(out, "paused", paused && !from->suspended);
    put_state(out, "suspended", from->suspended);
}

#define ROW struct config_row
static const struct table_column config_columns[] = {
    {COL(key, TEXT)},
    {COL(value, TEXT)},
    {.name = "default", .type = TABLE_TEXT, .offset = offsetof(ROW, default_value)},
    {.name = "changeable", .type = TABLE_TEXT, .offset = sizeof(ROW)}};
#undef ROW
/* config's row, and its flag as PgBouncer's word for it. */
struct setting_row {
    struct config_row row;
    const char *changeable;
};
_Static_assert(offsetof(struct setting_row, changeable) == sizeof(struct config_row),
               "the word follows the row");
static const struct table config_table = {.name = "CONFIG",
                                          .columns = config_columns,
                                          .columns_n = COUNT_OF(config_columns),
                                          .row_bytes = sizeof(struct setting_row)};

static void fill_config(const struct rows_from *from, struct rows *out)
{
    for (size_t i = 0; i < config_rows_n(); i++) {
        struct setting_row *row = rows_add(out, &config_table);
        config_row(from->proxy->hubs[0]->config, i, &row->row);
        row->changeable = row->row.changeable ? "yes" : "no";
    }
}

/* ---- LISTS, MEM ------------------------------------------------------------------------------ */

struct list_row {
    const char *list;
    uint32_t items;
};

#define ROW struct list_row
static const struct table_column lists_columns[] = {{COL(list, TEXT)}, {COL(items, U32)}};
const struct table rows_lists_table = {.name = "LISTS", TABLE_OF(lists_columns)};
#undef ROW

static void put_list(struct rows *out, const char *list, size_t items)
{
    struct list_row *row = rows_add(out, &rows_lists_table);
    row->list = list;
    row->items = (uint32_t)items;
}

struct counts {
    size_t databases, users, pools, clients, logins, servers;
};

static struct counts count(const struct rows_from *from)
{
    const struct config *cfg = from->proxy->hubs[0]->config;
    struct counts c = {.databases = HASH_COUNT(cfg->databases) + 1u, .users = users_n(cfg->auth)};
    size_t all = atomic_load_explicit(&from->proxy->clients_n, memory_order_relaxed);
    struct pool_stats *pools = rows_pools_copy(from, &c.pools);
    for (size_t i = 0; i < c.pools; i++) {
        const struct pool_stats *s = &pools[i];
        c.clients += s->clients_n;
        c.servers += s->leased_n + s->idle_n + s->opening_n + s->closing_n;
    }
    free(pools);
    c.logins = all > c.clients ? all - c.clients : 0;
    c.clients += from->proxy->hubs[0]->clients_n; /* of the console */
    return c;
}

/* Nothing here keeps freed objects for later, so nothing is ever "free". */
void rows_fill_lists(const struct rows_from *from, struct rows *out)
{
    struct counts c = count(from);
    struct dns_counts dns;
    dns_counts(from->proxy->dns, &dns);
    put_list(out, "databases", c.databases);
    put_list(out, "users", c.users);
    put_list(out, "peers", HASH_COUNT(from->proxy->hubs[0]->config->peers));
    put_list(out, "pools", c.pools);
    put_list(out, "peer_pools", 0);
    put_list(out, "free_clients", 0);
    put_list(out, "used_clients", c.clients);
    put_list(out, "login_clients", c.logins);
    put_list(out, "free_servers", 0);
    put_list(out, "used_servers", c.servers);
    put_list(out, "dns_names", dns.names_n);
    put_list(out, "dns_zones", 0);
    put_list(out, "dns_queries", 0);
    put_list(out, "dns_pending", dns.pending_n);
}

struct memory_row {
    const char *name;
    uint32_t size, used, free;
    uint64_t memtotal;
};

#define ROW struct memory_row
static const struct table_column memory_columns[] = {
    {COL(name, TEXT)}, {COL(size, U32)}, {COL(used, U32)}, {COL(free, U32)}, {COL(memtotal, U64)}};
static const struct table memory_table = {.name = "MEM", TABLE_OF(memory_columns)};
#undef ROW

static void put_memory(struct rows *out, const char *name, size_t size, size_t used)
{
    struct memory_row *row = rows_add(out, &memory_table);
    row->name = name;
    row->size = (uint32_t)size;
    row->used = (uint32_t)used;
    row->memtotal = (uint64_t)size * used;
}

static void fill_memory(const struct rows_from *from, struct rows *out)
{
    struct counts c = count(from);
    size_t route_bytes = sizeof(struct route) + from->proxy->worker_n * sizeof(struct route_cell);
    put_memory(out, "user_cache", sizeof(struct users_entry), c.users);
    put_memory(out, "db_cache", sizeof(struct config_database), c.databases);
    put_memory(out, "pool_cache", route_bytes, c.pools);
    put_memory(out, "client_cache", sizeof(struct client), c.clients + c.logins);
    put_memory(out, "server_cache", sizeof(struct server), c.servers);
    put_memory(out, "loop_scratch", SCRATCH_BYTES, from->proxy->worker_n);
    put_memory(out, "prepared_statements", sizeof(struct prep_stmt), prep_statements_n());
}

/* ---- PEERS, DNS ------------------------------------------------------------------------------ */

struct config_peer_row {
    uint32_t peer_id;
    const char *host;
    uint32_t port, pool_size;
};

#define ROW struct config_peer_row
static const struct table_column config_peers_columns[] = {
    {COL(peer_id, U32)}, {COL(host, TEXT)}, {COL(port, U32)}, {COL(pool_size, U32)}};
static const struct table config_peers_table = {.name = "PEERS", TABLE_OF(config_peers_columns)};
#undef ROW

static void fill_config_peers(const struct rows_from *from, struct rows *out)
{
    const struct config_peer *p = from->proxy->hubs[0]->config->peers;
    for (; p; p = p->hh.next) {
        struct config_peer_row *row = rows_add(out, &config_peers_table);
        row->peer_id = (uint32_t)p->id;
        row->host = p->host;
        row->port = (uint32_t)p->port;
        row->pool_size = p->pool_size > 0 ? (uint32_t)p->pool_size : 0;
    }
}

struct dns_row {
    char hostname[DNS_HOST_MAX + 1];
    uint64_t ttl;
    char addrs[DNS_ADDRS_MAX * (INET6_ADDRSTRLEN + 1)];
};

#define ROW struct dns_row
static const struct table_column dns_columns[] = {
    {COL(hostname, CHARS)}, {COL(ttl, U64)}, {COL(addrs, CHARS)}};
static const struct table dns_table = {.name = "DNS_HOSTS", TABLE_OF(dns_columns)};
#undef ROW

static void put_dns(void *arg, const char *host, uint64_t ttl_us, const struct dns_addr *addrs,
                    uint32_t addrs_n)
{
    struct dns_row *row = rows_add(arg, &dns_table);
    size_t used = 0;
    snprintf(row->hostname, sizeof row->hostname, "%s", host);
    row->ttl = ttl_us / US_PER_S;
    for (uint32_t i = 0; i < addrs_n; i++) {
        char text[INET6_ADDRSTRLEN] = "";
        const struct sockaddr_storage *sa = &addrs[i].sa;
        const void *at = sa->ss_family == AF_INET6
                             ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
                             : (const void *)&((const struct sockaddr_in *)sa)->sin_addr;
        inet_ntop(sa->ss_family, at, text, sizeof text);
        used += (size_t)snprintf(row->addrs + used, sizeof row->addrs - used, "%s%s",
                                 i > 0 ? "," : "", text);
    }
}

static void fill_dns(const struct rows_from *from, struct rows *out)
{
    dns_rows(from->proxy->dns, put_dns, out);
}

struct peer_pool_row {
    uint32_t peer_id, cl_active_cancel_req, cl_waiting_cancel_req, sv_active_cancel, sv_login;
};
struct zone_row {
    const char *zonename;
    uint32_t serial, count;
};

#define ROW struct peer_pool_row
static const struct table_column peer_pools_columns[] = {{COL(peer_id, U32)},
                                                         {COL(cl_active_cancel_req, U32)},
                                                         {COL(cl_waiting_cancel_req, U32)},
                                                         {COL(sv_active_cancel, U32)},
                                                         {COL(sv_login, U32)}};
static const struct table peer_pools_table = {.name = "PEER_POOLS", TABLE_OF(peer_pools_columns)};
#undef ROW
#define ROW struct zone_row
static const struct table_column zones_columns[] = {
    {COL(zonename, TEXT)}, {COL(serial, U32)}, {COL(count, U32)}};
static const struct table zones_table = {.name = "DNS_ZONES", TABLE_OF(zones_columns)};
#undef ROW

/* Connections to peers and watched DNS zones: we have neither, and who asks gets an empty table. */
static void fill_none(const struct rows_from *from, struct rows *out)
{
    (void)from, (void)out;
}

/* ---- the catalogue --------------------------------------------------------------------------- */

const struct rows_show rows_shows[] = {
    {"HELP", ROWS_HELP, NULL, NULL},
    {"VERSION", ROWS_HERE, &version_table, fill_version},
    {"STATE", ROWS_HERE, &state_table, fill_state},
    {"CONFIG", ROWS_HERE, &config_table, fill_config},
    {"DATABASES", ROWS_HERE, &rows_databases_table, rows_fill_databases},
    {"POOLS", ROWS_HERE, &rows_pools_table, rows_fill_pools},
    {"CLIENTS", ROWS_CLIENTS, &rows_peers_table, NULL},
    {"SERVERS", ROWS_SERVERS, &rows_peers_table, NULL},
    {"SOCKETS", ROWS_SOCKETS, &rows_sockets_table, NULL},
    {"ACTIVE_SOCKETS", ROWS_ACTIVE_SOCKETS, &rows_sockets_table, NULL},
    {"LISTS", ROWS_HERE, &rows_lists_table, rows_fill_lists},
    {"USERS", ROWS_HERE, &rows_users_table, rows_fill_users},
    {"STATS", ROWS_HERE, &rows_stats_table, rows_fill_stats},
    {"STATS_TOTALS", ROWS_HERE, &rows_stats_totals_table, rows_fill_stats},
    {"STATS_AVERAGES", ROWS_HERE, &rows_stats_averages_table, rows_fill_stats},
    {"TOTALS", ROWS_HERE, &rows_totals_table, rows_fill_totals},
    {"MEM", ROWS_HERE, &memory_table, fill_memory},
    {"PEERS", ROWS_HERE, &config_peers_table, fill_config_peers},
    {"PEER_POOLS", ROWS_HERE, &peer_pools_table, fill_none},
    {"DNS_HOSTS", ROWS_HERE, &dns_table, fill_dns},
    {"DNS_ZONES", ROWS_HERE, &zones_table, fill_none},
    {"CLASSES", ROWS_HERE, &rows_classes_table, rows_fill_classes},
    {"BREAKERS", ROWS_HERE, &rows_breakers_table, rows_fill_breakers},
    {"VERDICTS", ROWS_HERE, &rows_verdicts_table, rows_fill_verdicts},
    {"TRANSITIONS", ROWS_HERE, &rows_transitions_table, rows_fill_transitions},
    {"FINGERPRINTS", ROWS_HERE, &rows_fingerprints_table, rows_fill_fingerprints},
    {"UPSTREAMS", ROWS_HERE, &rows_upstreams_table, rows_fill_upstreams},
    {"INVERSIONS", ROWS_HERE, &rows_inversions_table, rows_fill_inversions},
    {"HOSTS", ROWS_HERE, &rows_hosts_table, rows_fill_hosts},
    {"REROUTES", ROWS_HERE, &rows_reroutes_table, rows_fill_reroutes},
    {"ENDS", ROWS_HERE, &rows_ends_table, rows_fill_ends},
    {"REFUSALS", ROWS_HERE, &rows_refusals_table, rows_fill_refusals},
};
const size_t rows_shows_n = COUNT_OF(rows_shows);

const struct rows_show *rows_find(const char *name)
{
    for (size_t i = 0; i < rows_shows_n; i++)
        if (!strcasecmp(rows_shows[i].name, name))
            return &rows_shows[i];
    return NULL;
}
