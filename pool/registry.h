/* All upstreams and pools of the process, found by name. One mutex, taken at login, by the control
 * loop and by the console; never on the data path.
 *
 * A pool lives while somebody holds it (pool_get() at login, pool_unhold() at the client's end), or
 * it has servers; after that it is reaped. An upstream lives as long as the registry.
 */
#ifndef POOL_REGISTRY_H
#define POOL_REGISTRY_H

#include "breaker/base.h"
#include "pool/class.h"
#include "pool/pool.h"
#include "pool/upstream.h"

struct pool_registry;

struct registry_opts {
    uint32_t worker_n;       /* all worker indices are below this */
    uint32_t worker_first_i; /* loops below this one own no servers (the control loop) */
    uint32_t pools_max;      /* more than that and a login is refused */
    uint32_t upstreams_max;
    uint64_t seed; /* for jitter; any number */
};
void registry_opts_defaults(struct registry_opts *opts);

/* classes are copied; NULL with err when out of memory or opts make no sense. */
struct pool_registry *registry_new(const struct registry_opts *opts,
                                   const struct class_table *classes, struct err *err);
/* All servers must be closed and all clients gone; clears the pointer. Pools' owner_data is the
 * owner's: walk the pools first. */
void registry_free(struct pool_registry **registry);

/* The upstream of this host and port, made if new. NULL with err: too many, out of memory. */
struct upstream *upstream_get(struct pool_registry *registry, const char *host, uint16_t port,
                              const struct upstream_opts *opts, struct err *err);

enum pool_replication { POOL_REPLICATION_NO, POOL_REPLICATION_DATABASE, POOL_REPLICATION_PHYSICAL };
struct pool_key {
    const char *database; /* the name in [databases] */
    const char *user;     /* who logs in to the server */
    struct upstream *upstream;
    enum pool_replication replication; /* such a server is never used twice */
};
/* The pool of this key, made if new (opts are only used then), and held: pool_unhold() it. NULL
 * with err (SQLSTATE 53300 or 53200): too many pools, or out of memory. */
struct pool *pool_get(struct pool_registry *registry, const struct pool_key *key,
                      const struct pool_opts *opts, struct err *err);
/* One more holder of a pool somebody holds. */
void pool_hold(struct pool *p);
/* Gives a hold back and clears the pointer. */
void pool_unhold(struct pool **p);

/* New classes after a reload, aligned with the former ones (class_table_align). False: out of
 * memory, nothing changed. */
MUST_USE bool registry_set_classes(struct pool_registry *registry,
                                   const struct class_table *classes, struct err *err);

/* Walks, under the registry's mutex: the callback must not call back into the registry, and may
 * call what takes the upstream's lock. Returning false ends the walk. */
typedef bool (*registry_upstream_fn)(struct upstream *u, void *arg);
typedef bool (*registry_pool_fn)(struct pool *p, void *arg);
void registry_each_upstream(struct pool_registry *registry, registry_upstream_fn fn, void *arg);
void registry_each_pool(struct pool_registry *registry, registry_pool_fn fn, void *arg);

/* Frees pools that nobody holds, that have no server, and that were last used before
 * idle_before_us. `gone` is called with each pool just before it is freed, for its owner_data. */
typedef void (*registry_gone_fn)(struct pool *p, void *arg);
uint32_t registry_reap(struct pool_registry *registry, uint64_t idle_before_us,
                       registry_gone_fn gone, void *arg);

uint32_t registry_pools_n(struct pool_registry *registry);

#endif
