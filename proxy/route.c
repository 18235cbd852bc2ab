#include "proxy/route.h"

#include <stdlib.h>
#include <string.h>

#include "pool/pool.h"
#include "proxy/vars.h"

enum { CLEAN_PROBE_US_MIN = 10 * US_PER_S }; /* half a second of it is 5 % of the bulk */

static uint32_t limit_of(int n)
{
    return n > 0 ? (uint32_t)n : 0;
}

/* Settings of the configuration as the pool layer wants them. */
static void pool_opts_of(const struct hub *h, const struct config_database *db, const char *user,
                         struct pool_opts *out)
{
    const struct config_globals *g = &h->config->globals;
    struct config_pool set;
    config_pool(h->config, db, config_user(h->config, user), &set);
    pool_opts_defaults(out);
    out->size_n = limit_of(set.pool_size);
    out->min_n = limit_of(set.min_pool_size);
    out->min_always = db && db->user;
    out->reserve_n = limit_of(set.reserve_pool_size);
    out->reserve_after_us = set.reserve_pool_timeout_us;
    out->lifetime_us = set.server_lifetime_us;
    out->idle_us = g->server_idle_timeout_us;
    out->login_retry_us = g->server_login_retry_us;
    out->round_robin = g->server_round_robin;
    out->max_db_n = limit_of(set.max_db_connections);
    out->max_user_n = limit_of(set.max_user_connections);
}

static void upstream_opts_of(const struct hub *h, struct upstream_opts *out)
{
    const struct config_globals *g = &h->config->globals;
    upstream_opts_defaults(out);
    out->budget_n = limit_of(g->max_upstream_connections);
    out->instances_n = (uint32_t)g->instances;
    out->address_max_n = limit_of(g->max_address_connections);
    out->can_pace = out->can_cancel = true;
    out->clean_probe_us = g->clean_probe_us;
    if (out->clean_probe_us > 0 && out->clean_probe_us < CLEAN_PROBE_US_MIN)
        out->clean_probe_us = CLEAN_PROBE_US_MIN;
    if (g->max_server_logins > 0)
        out->connecting_n = (uint32_t)g->max_server_logins;
}

/* ---- hosts ------------------------------------------------------------------------------------
 */

/* All of them in one, where they are not told apart. */
static const char *host_of(const struct config *cfg, const struct config_database *db)
{
    return db->host ? db->host : cfg->globals.unix_socket_dir;
}

static uint32_t hosts_n(const struct config_database *db)
{
    size_t n = db->hosts_n ? db->hosts_n : 1;
    return n > ROUTE_HOSTS_MAX ? ROUTE_HOSTS_MAX : (uint32_t)n;
}

static const char *host_at(const struct config *cfg, const struct config_database *db, uint32_t i)
{
    return db->hosts_n ? db->hosts[i] : host_of(cfg, db);
}

static struct upstream *upstream_at(struct hub *h, const struct config_database *db, uint32_t i,
                                    struct err *err)
{
    struct upstream_opts opts;
    upstream_opts_of(h, &opts);
    if (!config_is_steered(h->config, db))
        return upstream_get(h->proxy->registry, host_of(h->config, db), (uint16_t)db->port, &opts,
                            err);
    return upstream_get(h->proxy->registry, host_at(h->config, db, i), (uint16_t)db->ports[i],
                        &opts, err);
}

bool route_hosts(struct hub *h, const struct config_database *db, const struct upstream *present,
                 struct route_hosts *out, struct err *err)
{
    must(config_is_steered(h->config, db));
    out->n = hosts_n(db);
    out->present_i = TARGET_NONE;
    for (uint32_t i = 0; i < out->n; i++) {
        out->upstreams[i] = upstream_at(h, db, i, err);
        if (!out->upstreams[i])
            return false;
        if (out->upstreams[i] == present && out->present_i < 0)
            out->present_i = (int)i;
        target_standing(out->upstreams[i], &out->at[i]);
    }
    return true;
}

struct target_want route_want(const struct config *cfg, const struct config_database *db,
                              uint8_t class_i)
{
    const struct class_opts *class = &cfg->classes->at[class_i];
    return (struct target_want){.attrs = db->target_session_attrs,
                                .replica = class->route == CLASS_ROUTE_REPLICA && db->hosts_n > 1,
                                .fallback = class->route_fallback == CLASS_FALLBACK_PRIMARY,
                                .class_i = class_i};
}

int route_host_i(const struct config *cfg, const struct config_database *db,
                 const struct upstream *u)
{
    for (uint32_t i = 0; i < hosts_n(db); i++)
        if (!strcmp(host_at(cfg, db, i), upstream_host(u)) && db->ports[i] == upstream_port(u))
            return (int)i;
    return TARGET_NONE;
}

bool route_leads_to(const struct config *cfg, const struct config_database *db,
                    const struct upstream *u)
{
    return !strcmp(host_of(cfg, db), upstream_host(u)) && db->port == upstream_port(u);
}

/* ---- routes ------------------------------------------------------------------------------------
 */

static struct route *make(struct hub *h, struct pool *p, const struct pool_key *key)
{
    uint16_t cells_n = h->proxy->worker_n;
    struct route *r = aligned_alloc(64, sizeof *r + cells_n * sizeof r->cells[0]);
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r + cells_n * sizeof r->cells[0]);
    r->pool = p;
    r->database = strdup(key->database);
    r->user = strdup(key->user);
    r->replication = key->replication;
    r->cells_n = cells_n;
    pthread_mutex_init(&r->lock, NULL);
    if (r->database && r->user)
        return r;
    free(r->database);
    free(r->user);
    free(r);
    return NULL;
}

static void destroy(struct route *r)
{
    if (r->welcome)
        vars_unref(&r->welcome->tracked);
    free(r->welcome);
    free(r->database);
    free(r->user);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

struct route *route_join(struct hub *h, const struct config_database *db,
                         const struct route_key *wanted, struct err *err)
{
    struct pool_opts pool_opts;
    const char *login_as = db->user ? db->user : wanted->user;
    pool_opts_of(h, db, login_as, &pool_opts);
    struct upstream *u = upstream_at(h, db, wanted->host_i, err);
    if (!u)
        return NULL;
    struct pool_key key = {.database = wanted->database,
                           .user = login_as,
                           .upstream = u,
                           .replication = wanted->replication};
    struct pool *p = pool_get(h->proxy->registry, &key, &pool_opts, err);
    if (!p)
        return NULL;
    struct route *r = pool_owner(p);
    if (!r) {
        struct route *mine = make(h, p, &key);
        if (!mine) {
            err_set(err, "53200", "out of memory");
            pool_unhold(&p);
            return NULL;
        }
        r = pool_set_owner(p, mine);
        if (r != mine)
            destroy(mine);
    }
    atomic_fetch_add_explicit(&r->clients_n, 1, memory_order_relaxed);
    return r;
}

void route_leave(struct route **route)
{
    struct pool *p = (*route)->pool;
    atomic_fetch_sub_explicit(&(*route)->clients_n, 1, memory_order_relaxed);
    *route = NULL;
    pool_unhold(&p);
}

struct route *route_of(struct pool *p)
{
    struct route *r = pool_owner(p);
    must(r);
    return r;
}

void route_free(struct pool *p)
{
    struct route *r = pool_owner(p);
    if (r)
        destroy(r);
}

const struct config_database *route_database(const struct route *r, const struct hub *h)
{
    return config_database(h->config, r->database);
}

const struct route_cell *route_cell(struct route *r, struct hub *h)
{
    struct route_cell *cell = &r->cells[h->worker->index];
    if (cell->config_version == h->config_version)
        return cell;
    const struct config_database *db = route_database(r, h);
    config_pool(h->config, db, config_user(h->config, r->user), &cell->settings);
    if (r->replication != POOL_REPLICATION_NO)
        cell->settings.pool_mode = POOL_MODE_SESSION;
    cell->known = db != NULL;
    cell->config_version = h->config_version;
    return cell;
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* What a server was logged in with: other values make servers of the former ones dirty. */
static bool same_target(const struct config_database *a, const struct config_database *b)
{
    return same(a->dbname, b->dbname) && same(a->host, b->host) &&
           same(a->port_list, b->port_list) && same(a->user, b->user) &&
           same(a->password, b->password) && same(a->connect_query, b->connect_query) &&
           same(a->auth_user, b->auth_user) && same(a->client_encoding, b->client_encoding) &&
           same(a->datestyle, b->datestyle) && same(a->timezone, b->timezone) &&
           same(a->application_name, b->application_name) &&
           a->load_balance_hosts == b->load_balance_hosts;
}

static bool same_server_tls(const struct config_globals *a, const struct config_globals *b)
{
    return a->server_tls_sslmode == b->server_tls_sslmode &&
           same(a->server_tls_ca_file, b->server_tls_ca_file) &&
           same(a->server_tls_key_file, b->server_tls_key_file) &&
           same(a->server_tls_cert_file, b->server_tls_cert_file) &&
           same(a->server_tls_protocols, b->server_tls_protocols) &&
           same(a->server_tls_ciphers, b->server_tls_ciphers) &&
           same(a->server_tls13_ciphers, b->server_tls13_ciphers);
}

/* Nobody will come here any more: its host is not one of the database's, or all are one now. */
static bool is_left(const struct route *r, const struct config *cfg,
                    const struct config_database *db)
{
    const struct upstream *u = pool_upstream(r->pool);
    return config_is_steered(cfg, db) ? route_host_i(cfg, db, u) < 0 : !route_leads_to(cfg, db, u);
}

enum route_change route_reconfigure(struct route *r, struct hub *h, const struct config *before,
                                    uint64_t now_us, struct pool_actions *actions)
{
    const struct config_database *db = route_database(r, h);
    const struct config_database *was = config_database(before, r->database);
    struct upstream_opts upstream_opts;
    struct pool_opts pool_opts;
    actions->n = 0;
    actions->more = false;
    if (!db)
        return ROUTE_GONE;
    upstream_opts_of(h, &upstream_opts);
    upstream_set_opts(pool_upstream(r->pool), &upstream_opts);
    pool_opts_of(h, db, r->user, &pool_opts);
    if (is_left(r, h->config, db)) {
        pool_opts.min_n = 0;
        pool_opts.min_always = false;
    }
    pool_set_opts(r->pool, &pool_opts, now_us, actions);
    bool kept =
        was && same_target(db, was) && same_server_tls(&h->config->globals, &before->globals);
    return kept ? ROUTE_KEPT : ROUTE_DIRTY;
}

/* ---- what logins share ------------------------------------------------------------------------
 */

const struct welcome *route_welcome(struct route *r)
{
    pthread_mutex_lock(&r->lock);
    const struct welcome *w = r->welcome;
    pthread_mutex_unlock(&r->lock);
    return w;
}

void route_set_welcome(struct route *r, struct welcome **w)
{
    struct welcome *spare = *w;
    *w = NULL;
    pthread_mutex_lock(&r->lock);
    if (!r->welcome) {
        r->welcome = spare;
        spare = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    if (spare)
        vars_unref(&spare->tracked);
    free(spare);
}

void route_get_keys(struct route *r, struct scram_keys *keys)
{
    pthread_mutex_lock(&r->lock);
    *keys = r->keys;
    pthread_mutex_unlock(&r->lock);
}

void route_set_keys(struct route *r, const struct scram_keys *keys)
{
    pthread_mutex_lock(&r->lock);
    r->keys = *keys;
    pthread_mutex_unlock(&r->lock);
}

void route_totals(const struct route *r, struct route_totals *out)
{
    memset(out, 0, sizeof *out);
    for (uint16_t i = 0; i < r->cells_n; i++) {
#define X(name) out->name += count_get(&r->cells[i].name);
        ROUTE_COUNTERS(X)
#undef X
    }
}
