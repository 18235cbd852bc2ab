/* What there is to SHOW: which tables, and where their rows come from.
 *
 * rows.c is the catalogue and the small tables; rows_pools.c pools, databases, users; rows_stats.c
 * statistics; rows_classes.c classes, upstreams, ends; rows_breakers.c what the breakers know;
 * rows_peers.c clients and servers. Rows are made in the control loop, from copies (pool/show.h,
 * copyout.h), counters and the configuration.
 */
#ifndef PROXY_ROWS_H
#define PROXY_ROWS_H

#include "config/table.h" /* before all that includes uthash */

#include "pool/show.h"
#include "proxy/copyout.h"
#include "proxy/hub.h"
#include "proxy/table.h"

struct samples;

struct rows_from {
    struct proxy *proxy;
    struct samples *samples;
    uint64_t now_us;
    bool suspended;
};

/* Where the rows of a table come from. */
enum rows_source {
    ROWS_HERE,    /* fill() */
    ROWS_CLIENTS, /* copyout, rows_put_peer() each */
    ROWS_SERVERS,
    ROWS_SOCKETS,        /* clients, then servers */
    ROWS_ACTIVE_SOCKETS, /* of them those that are at work */
    ROWS_HELP,           /* no rows: a notice */
};

struct rows_show {
    const char *name;
    enum rows_source source;
    const struct table *table; /* NULL for ROWS_HELP */
    void (*fill)(const struct rows_from *from, struct rows *out);
};

/* The table of this name (letter case ignored), or NULL. */
const struct rows_show *rows_find(const char *name);
/* All of them. */
extern const struct rows_show rows_shows[];
extern const size_t rows_shows_n;

/* One row of CLIENTS, SERVERS or SOCKETS; none where ACTIVE_SOCKETS does not want it. */
void rows_put_peer(const struct rows_from *from, const struct rows_show *show,
                   const struct copyout_peer *peer, struct rows *out);
/* Whether the server is to be replaced (RECONNECT). */
bool rows_server_is_old(struct proxy *p, const struct copyout_peer *server);

/* Copies of all pools, upstreams. The array is the caller's to free; NULL when there are none, or
 * out of memory. */
struct pool_stats *rows_pools_copy(const struct rows_from *from, size_t *n);
struct rows_upstream {
    struct upstream *upstream;
    struct upstream_stats stats;
};
struct rows_upstream *rows_upstreams_copy(struct pool_registry *registry, size_t *n);

/* ---- the larger tables and their rows -------------------------------------------------------- */

extern const struct table rows_pools_table, rows_databases_table, rows_users_table;
void rows_fill_pools(const struct rows_from *from, struct rows *out);
void rows_fill_databases(const struct rows_from *from, struct rows *out);
void rows_fill_users(const struct rows_from *from, struct rows *out);

extern const struct table rows_stats_table, rows_stats_totals_table, rows_stats_averages_table,
    rows_totals_table;
void rows_fill_stats(const struct rows_from *from, struct rows *out);
void rows_fill_totals(const struct rows_from *from, struct rows *out);

extern const struct table rows_classes_table, rows_upstreams_table, rows_ends_table,
    rows_refusals_table, rows_inversions_table;
void rows_fill_classes(const struct rows_from *from, struct rows *out);
void rows_fill_upstreams(const struct rows_from *from, struct rows *out);
void rows_fill_inversions(const struct rows_from *from, struct rows *out);
void rows_fill_ends(const struct rows_from *from, struct rows *out);
void rows_fill_refusals(const struct rows_from *from, struct rows *out);

extern const struct table rows_hosts_table, rows_reroutes_table;
void rows_fill_hosts(const struct rows_from *from, struct rows *out);
void rows_fill_reroutes(const struct rows_from *from, struct rows *out);

extern const struct table rows_lists_table, rows_peers_table, rows_sockets_table;
void rows_fill_lists(const struct rows_from *from, struct rows *out);

extern const struct table rows_breakers_table, rows_verdicts_table, rows_transitions_table,
    rows_fingerprints_table;
void rows_fill_breakers(const struct rows_from *from, struct rows *out);
void rows_fill_verdicts(const struct rows_from *from, struct rows *out);
void rows_fill_transitions(const struct rows_from *from, struct rows *out);
void rows_fill_fingerprints(const struct rows_from *from, struct rows *out);

static inline double rows_seconds_since(const struct rows_from *from, uint64_t since_us)
{
    return since_us && since_us < from->now_us ? (double)(from->now_us - since_us) / US_PER_S : 0;
}
static inline const struct class_table *rows_classes(const struct rows_from *from)
{
    return from->proxy->hubs[0]->config->classes;
}

/* A column of ROW, a macro each file defines: COL(field, U32), .role = ... */
#define COL(field, kind) .name = #field, .type = TABLE_##kind, .offset = offsetof(ROW, field)
#define TABLE_OF(columns_of)                                                                       \
    .columns = columns_of, .columns_n = COUNT_OF(columns_of), .row_bytes = sizeof(ROW)

#endif
