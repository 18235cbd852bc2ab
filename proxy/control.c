#include "proxy/control.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/show.h"
#include "proxy/admin.h"
#include "proxy/baselines.h"
#include "proxy/console.h"
#include "proxy/control_watch.h"
#include "proxy/copyout.h"
#include "proxy/gates.h"
#include "proxy/hosts.h"
#include "proxy/hours.h"
#include "proxy/listen.h"
#include "proxy/log.h"
#include "proxy/notify.h"
#include "proxy/probe.h"
#include "proxy/session.h"
#include "proxy/status.h"
#include "proxy/texts.h"

enum {
    TICKS_PER_SWEEP = 3, /* of pools: PgBouncer's janitor comes three times a second, too */
    TICKS_PER_SECOND = US_PER_S / CONTROL_TICK_US,
};

/* ---- pools, upstreams ------------------------------------------------------------------------ */

struct walk {
    void **at;
    size_t n, cap;
};

static void keep(struct walk *w, void *what)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        void **at = reallocarray(w->at, cap, sizeof *at);
        if (!at)
            return; /* it has its turn at the next tick, if there is memory then */
        w->at = at;
        w->cap = cap;
    }
    w->at[w->n++] = what;
}

static bool keep_pool(struct pool *p, void *arg)
{
    keep(arg, p);
    return true;
}

static bool keep_upstream(struct upstream *u, void *arg)
{
    keep(arg, u);
    return true;
}

struct pool **control_pools(struct control *k, size_t *n)
{
    struct walk w = {.n = 0};
    registry_each_pool(k->proxy->registry, keep_pool, &w);
    *n = w.n;
    return (struct pool **)w.at;
}

/* What one call asks for is carried out before the next: an upstream's turn is short. */
static void tick_upstreams(struct control *k, uint64_t now_us)
{
    struct walk w = {.n = 0};
    struct upstream_hours hours = {.closed_mask = 0};
    bool is_second = k->ticks_n % TICKS_PER_SECOND == 0;
    if (is_second)
        hours_look(k->hub->config->classes, now_us, &hours);
    struct pool_actions actions;
    registry_each_upstream(k->proxy->registry, keep_upstream, &w);
    for (size_t i = 0; i < w.n; i++) {
        if (is_second)
            hours_tell(w.at[i], &hours, now_us);
        pool_tick(w.at[i], now_us, &actions);
        session_carry_out(k->hub, &actions);
        control_watch_upstream(k, w.at[i]);
        probe_tick(k->probes, w.at[i], now_us);
        if (k->ticks_n % TICKS_PER_SWEEP != 0)
            continue;
        pool_sweep(w.at[i], now_us, &actions);
        session_carry_out(k->hub, &actions);
    }
    free(w.at);
}

static void forget_route(struct pool *p, void *arg)
{
    struct control *k = arg;
    if (!pool_owner(p))
        return;
    samples_retire(&k->samples, route_of(p));
    route_free(p);
}

/* Pools nobody has used for long; not while somebody copies their names. */
static void reap(struct control *k, uint64_t now_us)
{
    const struct config_globals *g = &k->hub->config->globals;
    uint64_t idle_us =
        g->pool_idle_timeout_us ? g->pool_idle_timeout_us : g->autodb_idle_timeout_us;
    if (idle_us && now_us > idle_us && copyouts_n() == 0)
        registry_reap(k->proxy->registry, now_us - idle_us, forget_route, k);
}

/* ---- loops ----------------------------------------------------------------------------------- */

struct control_ping {
    struct letter letter;
    struct control *control;
    uint16_t worker;
    bool out;
    uint64_t sent_us;
};

static struct control_ping *ping_of(struct letter *l)
{
    return OWNER_OF(struct control_ping, letter, l);
}

static void open_pong(struct worker *w, struct letter *l)
{
    (void)w;
    ping_of(l)->out = false;
}

static void open_ping(struct worker *w, struct letter *l)
{
    (void)w;
    l->open = open_pong;
    worker_post(ping_of(l)->control->hub->worker, l);
}

static void ping(struct control *k, uint64_t now_us)
{
    for (uint16_t i = 1; i < k->proxy->worker_n; i++) {
        struct control_ping *p = &k->pings[i];
        if (p->out)
            continue;
        p->out = true;
        p->sent_us = now_us;
        p->letter.open = open_ping;
        worker_post(k->proxy->hubs[i]->worker, &p->letter);
    }
}

bool control_is_alive(const struct control *k)
{
    bool alive = true;
    for (uint16_t i = 1; i < k->proxy->worker_n; i++)
        alive &= !k->pings[i].out || control_now(k) - k->pings[i].sent_us < CONTROL_ANSWER_US;
    return alive;
}

bool control_is_ready(const struct control *k)
{
    return k->state == CONTROL_RUNS && *k->reload.listen && !gates_all_paused(k->proxy->gates);
}

/* ---- the end --------------------------------------------------------------------------------- */

void control_shut_down(struct control *k, enum control_state how)
{
    static const char *const said[] = {
        [CONTROL_WAITS_FOR_CLIENTS] = "shutting down, waiting for all clients to disconnect",
        [CONTROL_WAITS_FOR_SERVERS] = "shutting down, waiting for all servers to be released",
        [CONTROL_ENDS] = "shutting down immediately"};
    must(how != CONTROL_RUNS);
    if (how <= k->state)
        return;
    k->state = how;
    log_info("%s", said[how]);
    notify_send("STOPPING=1\nSTATUS=shutting down\n");
    atomic_store_explicit(&k->proxy->draining, true, memory_order_relaxed);
    if (*k->reload.listen)
        listen_close(k->reload.listen); /* whoever takes over can have the port */
    if (how == CONTROL_WAITS_FOR_SERVERS)
        admin_reconcile(k, "");
    if (how != CONTROL_WAITS_FOR_CLIENTS)
        probe_stop(k->probes);
}

static bool is_over(struct control *k)
{
    switch (k->state) {
    case CONTROL_RUNS:
        return false;
    case CONTROL_WAITS_FOR_CLIENTS:
        return atomic_load_explicit(&k->proxy->clients_n, memory_order_relaxed) == 0;
    case CONTROL_WAITS_FOR_SERVERS:
        return admin_is_drained(k, "");
    case CONTROL_ENDS:
        break;
    }
    return true;
}

static void progress(struct control *k)
{
    if (!is_over(k))
        return;
    k->state = CONTROL_ENDS;
    console_close_all(k);
    worker_stop(k->hub->worker);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void reload(struct control *k)
{
    struct err err;
    log_info("got SIGHUP, re-reading config");
    if (!admin_reload(k, &err))
        log_error("%s", err.text);
}

/* TERM and INT: gently at first, at once the second time. */
static void end_by_signal(struct control *k, const char *name, enum control_state how)
{
    log_info("got %s", name);
    control_shut_down(k, k->state == CONTROL_RUNS ? how : CONTROL_ENDS);
}

static void pause_by_signal(struct control *k, bool pause)
{
    struct err err;
    const char *name = pause ? "SIGUSR1" : "SIGUSR2";
    if (k->state != CONTROL_RUNS) {
        log_info("got %s while shutting down, ignoring", name);
        return;
    }
    log_info("got %s, %s all activity", name, pause ? "pausing" : "continuing");
    if (!(pause ? admin_pause(k, "", &err) : admin_resume(k, "", &err)))
        log_info("%s", err.text);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct control *k = arg;
    (void)what;
    switch ((int)number) {
    case SIGHUP:
        reload(k);
        break;
    case SIGTERM:
        end_by_signal(k, "SIGTERM", CONTROL_WAITS_FOR_CLIENTS);
        break;
    case SIGINT:
        end_by_signal(k, "SIGINT", CONTROL_WAITS_FOR_SERVERS);
        break;
    case SIGQUIT:
        end_by_signal(k, "SIGQUIT", CONTROL_ENDS);
        break;
    case SIGUSR1:
    case SIGUSR2:
        pause_by_signal(k, number == SIGUSR1);
        break;
    default:
        must(!"a signal we asked for");
    }
}

/* ---- the tick -------------------------------------------------------------------------------- */

static void take_sample(struct control *k, uint64_t now_us)
{
    const struct config_globals *g = &k->hub->config->globals;
    struct route_totals total, a;
    if (now_us - k->samples.sampled_us < g->stats_period_us)
        return;
    samples_take(&k->samples, k->proxy->registry, now_us);
    if (!g->log_stats)
        return;
    samples_sum(&k->samples, &total, &a);
    log_info(
        "stats: %" PRIu64 " xacts/s, %" PRIu64 " queries/s, %" PRIu64 " client parses/s, %" PRIu64
        " server parses/s, %" PRIu64 " binds/s, in %" PRIu64 " B/s, out %" PRIu64
        " B/s, xact %" PRIu64 " us, query %" PRIu64 " us, wait %" PRIu64 " us",
        a.xact_count, a.query_count, a.ps_client_parse_count, a.ps_server_parse_count,
        a.ps_bind_count, a.client_bytes, a.server_bytes, a.xact_time, a.query_time, a.wait_time);
}

/* Once said is enough: it is tried again every second. */
static void reread_users(struct control *k)
{
    struct err err;
    bool good = reload_users(&k->reload, &err);
    if (!good && !k->users_unread)
        log_error("auth_file has changed, and the former users stay: %s", err.text);
    k->users_unread = !good;
}

static void each_second(struct control *k, uint64_t now_us)
{
    reread_users(k);
    ping(k, now_us);
    reap(k, now_us);
    status_tick(k->status, now_us);
    if (k->baselines)
        baselines_tick(k->baselines, k->proxy->registry, now_us);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct control *k = arg;
    uint64_t now_us = control_now(k);
    (void)fd, (void)what;
    if (k->ticks_n++ == 0)
        notify_send("READY=1\nSTATUS=serving\n");
    tick_upstreams(k, now_us);
    hosts_tick(k, now_us);
    if (k->reconcile_n > 0 || k->state == CONTROL_WAITS_FOR_SERVERS) {
        admin_reconcile(k, "");
        k->reconcile_n -= k->reconcile_n > 0;
    }
    console_tick(k);
    texts_tick();
    if (k->ticks_n % TICKS_PER_SECOND == 0)
        each_second(k, now_us);
    take_sample(k, now_us);
    progress(k);
    log_flush();
}

/* ---- open, close ----------------------------------------------------------------------------- */

static bool arm(struct control *k, struct err *err)
{
    static const int numbers[COUNT_OF(k->signals)] = {SIGHUP,  SIGTERM, SIGINT,
                                                      SIGQUIT, SIGUSR1, SIGUSR2};
    struct event_base *base = k->hub->worker->base;
    struct timeval every = {.tv_usec = CONTROL_TICK_US};
    k->tick = event_new(base, -1, EV_PERSIST, on_tick, k);
    bool good = k->tick && event_add(k->tick, &every) == 0;
    for (size_t i = 0; good && i < COUNT_OF(numbers); i++) {
        k->signals[i] = evsignal_new(base, numbers[i], on_signal, k);
        good = k->signals[i] && event_add(k->signals[i], NULL) == 0;
    }
    return good || err_set(err, "53200", "cannot watch signals: out of memory");
}

static void fill(struct control *k, const struct control_opts *opts)
{
    k->proxy = opts->proxy;
    k->hub = opts->proxy->hubs[0];
    k->reload = (struct reload){.proxy = opts->proxy,
                                .listen = opts->listen,
                                .files = opts->files,
                                .files_n = opts->files_n,
                                .quiet = opts->quiet,
                                .verbose = opts->verbose};
    k->samples.sampled_us = clock_us();
    for (uint16_t i = 0; i < opts->proxy->worker_n; i++) {
        k->pings[i].control = k;
        k->pings[i].worker = i;
    }
}

bool control_open(struct control **out, const struct control_opts *opts, struct err *err)
{
    struct control *k = calloc(1, sizeof *k);
    *out = k;
    if (!k)
        return err_set(err, "53200", "out of memory");
    opts->proxy->control = k;
    opts->proxy->gates = gates_new();
    k->pings = calloc(opts->proxy->worker_n, sizeof *k->pings);
    k->probes = probe_open(opts->proxy->hubs[0]);
    if (!opts->proxy->gates || !k->pings || !k->probes) {
        k->proxy = opts->proxy;
        control_close(out);
        return err_set(err, "53200", "out of memory");
    }
    fill(k, opts);
    k->baselines = baselines_open(&k->hub->config->globals);
    if (status_open(&k->status, k, err) && arm(k, err))
        return true;
    control_close(out);
    return false;
}

void control_close(struct control **control)
{
    struct control *k = *control;
    *control = NULL;
    if (!k)
        return;
    status_close(&k->status);
    if (k->baselines)
        baselines_close(&k->baselines, k->proxy->registry, control_now(k));
    if (k->tick)
        event_free(k->tick);
    for (size_t i = 0; i < COUNT_OF(k->signals); i++)
        if (k->signals[i])
            event_free(k->signals[i]);
    probe_close(&k->probes);
    samples_free(&k->samples);
    k->proxy->control = NULL;
    gates_free(&k->proxy->gates);
    free(k->pings);
    hosts_close(k);
    control_watch_free(k);
    free(k);
}
