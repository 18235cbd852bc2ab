/* Where the clients of one (database, user) go: a pool, and what the proxy keeps for it.
 *
 * The pool's owner_data. Made at the first login, freed when the pool is reaped. Each loop has its
 * own cell in it: counters, and the settings that hold here, computed anew when the loop's
 * configuration has changed, so that the data path compares one number and follows no pointer.
 *
 * A route leads to one upstream. Where the hosts of a database line are upstreams each of their own
 * (it is steered: config_is_steered()), there is a route to each that is in use, and clients change
 * routes between two transactions: steer.c. */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include <pthread.h>

#include "pool/pool.h"
#include "pool/target.h"
#include "proxy/buf.h"
#include "proxy/hub.h"
#include "proxy/scram.h"

/* What the first server of a pool said at login, for clients to be welcomed with. Immutable. */
struct welcome {
    const struct vars *tracked; /* the settings we follow, as a server has them */
    uint32_t bytes_n;
    uint8_t bytes[]; /* ParameterStatus messages of all the others */
};

/* Names as in SHOW TOTALS. A server that is handed from loop to loop for its new client moves. */
#define ROUTE_COUNTERS(X)                                                                          \
    X(server_assignment_count)                                                                     \
    X(xact_count)                                                                                  \
    X(query_count)                                                                                 \
    X(client_bytes)                                                                                \
    X(server_bytes)                                                                                \
    X(xact_time)                                                                                   \
    X(query_time)                                                                                  \
    X(wait_time)                                                                                   \
    X(ps_client_parse_count)                                                                       \
    X(ps_server_parse_count) X(ps_bind_count) X(client_login_count) X(server_move_count)

struct route_cell {
    uint32_t config_version; /* of `settings`; 0: never computed */
    struct config_pool settings;
    bool known; /* the database (still) stands in the configuration */
#define X(name) counter name;
    ROUTE_COUNTERS(X)
#undef X
} __attribute__((aligned(64)));

struct route {
    /* read-only */
    struct pool *pool;
    char *database; /* as clients call it */
    char *user;     /* who logs in to the server */
    enum pool_replication replication;
    uint16_t cells_n;
    /* atomics */
    _Atomic uint32_t clients_n;
    _Atomic uint32_t host_next; /* round robin over the hosts of the database */
    _Atomic bool disabled;
    /* lock guards all below; taken at logins only */
    pthread_mutex_t lock;
    struct welcome *welcome; /* NULL until a server has logged in; never changes after */
    struct scram_keys keys;  /* of the user, for logging in: derived once, or a client's */
    struct route_cell cells[];
};

enum { ROUTE_HOSTS_MAX = CONFIG_HOSTS_MAX };

struct route_key {
    const char *database, *user; /* as the client called them */
    enum pool_replication replication;
    uint32_t host_i; /* of the line's hosts, where it is steered */
};
/* Finds or makes the route for a client; the pool is held until route_leave(). The database line
 * must be of h's configuration. NULL with err. */
struct route *route_join(struct hub *h, const struct config_database *db,
                         const struct route_key *wanted, struct err *err);
void route_leave(struct route **r);
struct route *route_of(struct pool *p);
/* For registry_reap() and the end of the process. */
void route_free(struct pool *p);

/* The hosts of a steered line, as upstreams. */
struct route_hosts {
    uint32_t n;
    int present_i; /* the one asked for, or TARGET_NONE */
    struct upstream *upstreams[ROUTE_HOSTS_MAX];
    struct target_host at[ROUTE_HOSTS_MAX]; /* what is known of each */
};
/* present may be NULL. False with err: an upstream could not be made. */
MUST_USE bool route_hosts(struct hub *h, const struct config_database *db,
                          const struct upstream *present, struct route_hosts *out, struct err *err);
/* What clients of this class want of the hosts of this line. */
struct target_want route_want(const struct config *cfg, const struct config_database *db,
                              uint8_t class_i);
/* Which host of a line an upstream is; TARGET_NONE: none of them. */
int route_host_i(const struct config *cfg, const struct config_database *db,
                 const struct upstream *u);
/* Whether a line whose hosts are not told apart leads to this upstream. */
bool route_leads_to(const struct config *cfg, const struct config_database *db,
                    const struct upstream *u);

/* What a loop's configuration says for this route. */
const struct route_cell *route_cell(struct route *r, struct hub *h);
static inline struct route_cell *route_counters(struct route *r, struct hub *h)
{
    return &r->cells[h->worker->index];
}
/* The database line, or NULL when it has gone from the configuration. */
const struct config_database *route_database(const struct route *r, const struct hub *h);
/* After a reload, in the control loop: new limits to pool and upstream; carry out the actions. */
enum route_change {
    ROUTE_KEPT,
    ROUTE_DIRTY, /* servers were logged in with what has changed: pool_mark_dirty() */
    ROUTE_GONE,  /* its database is not configured any more */
};
enum route_change route_reconfigure(struct route *r, struct hub *h, const struct config *before,
                                    uint64_t now_us, struct pool_actions *actions);

/* The welcome, or NULL; lives as long as the route. */
const struct welcome *route_welcome(struct route *r);
/* The first one stays. Takes over w. */
void route_set_welcome(struct route *r, struct welcome **w);
void route_get_keys(struct route *r, struct scram_keys *keys);
void route_set_keys(struct route *r, const struct scram_keys *keys);

/* All loops' counters. */
struct route_totals {
#define X(name) uint64_t name;
    ROUTE_COUNTERS(X)
#undef X
};
void route_totals(const struct route *r, struct route_totals *out);

#endif
