#include "proxy/reload.h"

#include "config/table.h" /* before all that includes uthash */

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/dns.h"
#include "proxy/gates.h"
#include "proxy/listen.h"
#include "proxy/log.h"
#include "proxy/session.h"
#include "proxy/tls.h"

/* ---- routes ---------------------------------------------------------------------------------- */

struct walk {
    struct pool **pools;
    size_t n, cap;
};

static bool collect(struct pool *p, void *arg)
{
    struct walk *w = arg;
    if (w->n < w->cap)
        w->pools[w->n++] = p;
    return true;
}

static void reconfigure_route(struct reload *r, struct route *route, const struct config *before)
{
    struct hub *h = r->proxy->hubs[0];
    uint64_t now_us = hub_now(h);
    struct pool_actions actions;
    struct gate gate;
    enum route_change change = route_reconfigure(route, h, before, now_us, &actions);
    session_carry_out(h, &actions);
    switch (change) {
    case ROUTE_KEPT:
        break;
    case ROUTE_DIRTY:
        pool_mark_dirty(route->pool, now_us, &actions);
        session_carry_out(h, &actions);
        gate = gates_own(r->proxy->gates, route->database);
        gate.reconnect_us = now_us;
        if (!gates_set(r->proxy->gates, route->database, &gate))
            log_warning("%s: WAIT_CLOSE will not know of this RELOAD", route->database);
        log_info("%s/%s: database configuration changed", route->database, route->user);
        break;
    case ROUTE_GONE:
        log_info("%s/%s: database removed", route->database, route->user);
        pool_set_run(route->pool, POOL_KILLED, now_us, &actions);
        session_carry_out(h, &actions);
        session_kill_route(r->proxy, route);
        break;
    }
}

/* Only the control loop reaps, so pools stay while this runs. */
static bool reconfigure_routes(struct reload *r, const struct config *before)
{
    struct walk w = {.cap = registry_pools_n(r->proxy->registry) + 16u};
    w.pools = calloc(w.cap, sizeof(struct pool *));
    if (!w.pools)
        return false;
    registry_each_pool(r->proxy->registry, collect, &w);
    for (size_t i = 0; i < w.n; i++)
        if (pool_owner(w.pools[i]))
            reconfigure_route(r, route_of(w.pools[i]), before);
    free(w.pools);
    return true;
}

/* ---- classes --------------------------------------------------------------------------------- */

static bool set_classes(struct reload *r, const struct class_table *classes, struct err *err)
{
    struct class_table *mine = malloc(sizeof *mine);
    if (!mine)
        return err_set(err, "53200", "out of memory");
    *mine = *classes;
    for (uint32_t i = 0; i < mine->class_n; i++)
        if (r->breaker_is_set[i])
            mine->at[i].breaker = r->breaker[i];
    bool good = registry_set_classes(r->proxy->registry, mine, err);
    free(mine);
    return good;
}

/* ---- one snapshot after another -------------------------------------------------------------- */

static bool open_log(const struct reload *r, const struct config_globals *g, struct err *err)
{
    struct log_opts opts = {.file = g->logfile,
                            .quiet = r->quiet,
                            .syslog = g->syslog,
                            .syslog_ident = g->syslog_ident,
                            .syslog_facility = g->syslog_facility,
                            .verbose = g->verbose > r->verbose ? g->verbose : r->verbose};
    return log_open(&opts, err);
}

/* Nothing fails any more: everything that obeys the configuration is told. */
static void take_effect(struct reload *r, const struct session_setup *setup)
{
    struct proxy *p = r->proxy;
    const struct config_globals *g = &setup->config->globals;
    const struct config *before = config_ref(p->hubs[0]->config);
    session_reconfigure(p, setup);
    dns_set_ttl(p->dns, &(struct dns_opts){g->dns_max_ttl_us, g->dns_nxdomain_ttl_us});
    if (*r->listen)
        listen_retune(*r->listen, g);
    if (!reconfigure_routes(r, before))
        log_error("out of memory: pools keep their former limits until the next RELOAD");
    config_unref(&before);
}

/* What can fail comes first; next is only borrowed. */
static bool switch_to(struct reload *r, const struct config *next, struct err *err)
{
    struct session_setup setup = {.config = next};
    bool good = tls_client_ctx(&next->globals, &setup.client_tls, err) &&
                tls_server_ctx(&next->globals, &setup.server_tls, err) &&
                open_log(r, &next->globals, err) && set_classes(r, next->classes, err);
    if (good)
        take_effect(r, &setup);
    SSL_CTX_free(setup.client_tls);
    SSL_CTX_free(setup.server_tls);
    return good;
}

static void log_notes(const struct config_report *report)
{
    for (uint32_t i = 0; i < report->notes_n; i++) {
        if (report->notes[i].fatal)
            log_error("%s", report->notes[i].text);
        else
            log_warning("%s", report->notes[i].text);
    }
}

bool reload_files(struct reload *r, struct err *err)
{
    static struct config_report report; /* large, and of the control loop alone */
    struct config *next = NULL;
    memset(&report, 0, sizeof report);
    bool good = config_load(r->files, r->files_n, r->proxy->hubs[0]->config, &next, &report);
    log_notes(&report);
    if (good) {
        bool was_set[CLASSES_MAX];
        memcpy(was_set, r->breaker_is_set, sizeof was_set);
        memset(r->breaker_is_set, 0, sizeof r->breaker_is_set);
        struct err why = {.text = ""};
        good = switch_to(r, next, &why);
        if (!good) {
            log_error("%s", why.text);
            memcpy(r->breaker_is_set, was_set, sizeof was_set);
        }
        const struct config *mine = next;
        config_unref(&mine);
    }
    if (!good)
        return err_set(err, "F0000", "RELOAD failed, see logs for additional details");
    log_info("RELOAD complete");
    return true;
}

bool reload_users(struct reload *r, struct err *err)
{
    const struct hub *h = r->proxy->hubs[0];
    struct config *next = NULL;
    if (!config_auth_file_changed(h->config))
        return true;
    if (!config_reread_auth_file(h->config, &next, err))
        return false;
    struct session_setup setup = {next, h->client_tls, h->server_tls};
    session_reconfigure(r->proxy, &setup);
    const struct config *mine = next;
    config_unref(&mine);
    log_info("auth_file read again");
    return true;
}

bool reload_set(struct reload *r, const char *key, const char *value, struct err *err)
{
    struct config *next = NULL;
    if (!config_set(r->proxy->hubs[0]->config, key, value, &next, err))
        return false;
    bool good = switch_to(r, next, err);
    const struct config *mine = next;
    config_unref(&mine);
    return good;
}

bool reload_set_breaker(struct reload *r, const char *class_name, const char *mode, struct err *err)
{
    static const char *const modes[] = {[CLASS_BREAKER_OFF] = "off",
                                        [CLASS_BREAKER_OBSERVE] = "observe",
                                        [CLASS_BREAKER_ENFORCE] = "enforce"};
    const struct class_table *classes = r->proxy->hubs[0]->config->classes;
    int class_i = class_find(classes, class_name);
    if (class_i < 0)
        return err_set(err, "08P01", "no such class: %s", class_name);
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (strcasecmp(mode, modes[i]) != 0)
            continue;
        r->breaker_is_set[class_i] = true;
        r->breaker[class_i] = (enum class_breaker)i;
        return set_classes(r, classes, err);
    }
    return err_set(err, "08P01", "a breaker is off, observe or enforce, not \"%s\"", mode);
}
