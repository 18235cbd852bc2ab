/* When the probe does what. See probe.h. */
#include "proxy/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool.h"
#include "proxy/control.h"
#include "proxy/log.h"
#include "proxy/probe_state.h"
#include "proxy/route.h"

static const struct {
    const char *name;
    uint32_t next;
} states[] = {
#define X(state, name, next) [PROBE_##state] = {name, next},
    PROBE_STATES(X)
#undef X
};

void probe_goto(struct probe *p, enum probe_state state)
{
    if (state == p->state)
        return;
    must(states[p->state].next & BIT(state));
    p->state = state;
    p->state_us = clock_us();
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct probe *p = arg;
    (void)fd, (void)what;
    if (p->state == PROBE_LOGS_IN)
        probe_login_step(p);
    else if (p->state == PROBE_ASKS || p->state == PROBE_IDLES)
        probe_ask_step(p);
}

/* One-shot: libpq may close its socket and open another of the same number whenever it is called,
 * and epoll would not notice. */
void probe_watch(struct probe *p, short what)
{
    probe_unwatch(p);
    event_assign(&p->io, p->all->hub->worker->base, PQsocket(p->conn), what, on_io, p);
    p->io_made = true;
    if (event_add(&p->io, NULL) < 0)
        p->io_made = false; /* out of memory: its time-out comes */
}

void probe_unwatch(struct probe *p)
{
    if (p->io_made)
        event_del(&p->io);
    p->io_made = false;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void disconnect(struct probe *p)
{
    probe_unwatch(p);
    if (p->ask)
        dns_ask_drop(&p->ask);
    if (p->conn)
        PQfinish(p->conn);
    p->conn = NULL;
    p->accepted = false;
    upstream_tell_blocks(p->upstream, NULL, 0, clock_us()); /* nothing is known any more */
}

/* A first failure is said, those that follow are counted. */
void probe_note_error(struct probe *p, const char *text)
{
    snprintf(p->error, sizeof p->error, "%s", text);
    p->failed_n++;
    if (p->said_failed)
        return;
    p->said_failed = true;
    log_warning("probe upstream=%s:%u failed: %s", upstream_host(p->upstream),
                upstream_port(p->upstream), p->error);
}

void probe_retry(struct probe *p, uint64_t delay_us)
{
    disconnect(p);
    p->random = p->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t half_us = delay_us / 2;
    p->due_us = clock_us() + half_us + (p->random >> 33) * half_us / (UINT32_MAX >> 1);
    probe_goto(p, PROBE_WAITS);
}

void probe_off(struct probe *p, const char *why)
{
    disconnect(p);
    p->hanging_us = 0;
    upstream_tell_hanging(p->upstream, 0, false);
    upstream_tell_prober(p->upstream, false);
    snprintf(p->error, sizeof p->error, "%s", why);
    if (p->state == PROBE_OFF)
        return;
    p->able = false;
    if (p->state != PROBE_WAITS)
        probe_goto(p, PROBE_WAITS);
    probe_goto(p, PROBE_OFF);
}

/* ---- whether --------------------------------------------------------------------------------- */

/* Why there is nothing to ask for; NULL: there is. */
static const char *why_off(struct probe *p, const struct upstream_probe_view *view, uint64_t now_us)
{
    const struct proxy *proxy = p->all->hub->proxy;
    if (p->all->stopped)
        return "the process ends";
    if (p->all->hub->config->globals.probe_interval_us == 0)
        return "probe_interval is 0";
    if (atomic_load_explicit(&proxy->paused, memory_order_relaxed) || (view->wanted && !view->runs))
        return "paused";
    if (view->wanted)
        p->wanted_us = now_us;
    if (p->wanted_us == 0 || us_since(p->wanted_us, now_us) > PROBE_UNASKED_US)
        return "no clients";
    return NULL;
}

static struct probe *probe_of(struct probes *all, struct upstream *u)
{
    struct probe *p;
    HASH_FIND_PTR(all->probes, &u, p);
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->all = all;
    p->upstream = u;
    p->state_us = clock_us();
    p->random = p->state_us ^ (uint64_t)(uintptr_t)p;
    p->facts.lag_us = UINT64_MAX;
    HASH_ADD_PTR(all->probes, upstream, p);
    return p;
}

/* ---- several hosts of one database ----------------------------------------------------------- */

/* Where clients go depends on all hosts of their database's line, so all of them are looked at. */
static void look_at_spread(struct probes *all, uint64_t now_us)
{
    const struct hub *h = all->hub;
    size_t n;
    struct pool **pools = control_pools(h->proxy->control, &n);
    for (size_t i = 0; i < n; i++) {
        struct route_hosts hosts;
        struct err err;
        const struct route *r = pool_owner(pools[i]);
        const struct config_database *db = r ? route_database(r, h) : NULL;
        if (!db || !config_is_steered(h->config, db) ||
            !atomic_load_explicit(&r->clients_n, memory_order_relaxed) ||
            !route_hosts(all->hub, db, pool_upstream(pools[i]), &hosts, &err))
            continue;
        for (uint32_t k = 0; k < hosts.n; k++) {
            struct probe *p = probe_of(all, hosts.upstreams[k]);
            if (p)
                p->wanted_us = now_us;
        }
    }
    free(pools);
}

/* ---- what is said ---------------------------------------------------------------------------- */

static void log_inversions(struct probe *p)
{
    struct upstream_inversion i;
    while (upstream_inversion(p->upstream, &p->inversions_said, &i))
        log_warning("pacing inversion upstream=%s:%u action=%s%s class=%s (%s, pid %u) is waited "
                    "for by class=%s (%s, pid %u) waiters=%u for_us=%llu%s",
                    upstream_host(p->upstream), upstream_port(p->upstream),
                    upstream_inversion_act_name(i.act), i.observed ? " (only observed)" : "",
                    i.blocker_class, i.blocker, i.blocker_pid, i.waiter_class, i.waiter,
                    i.waiter_pid, i.waiters_n, (unsigned long long)us_since(i.since_us, i.at_us),
                    i.act == INVERSION_IDLE ? ": it is idle in its transaction, there is nothing "
                                              "to cancel; idle_transaction_timeout would end it"
                                            : "");
}

static void log_stalled(struct probe *p, bool stalled)
{
    if (p->said_stalled == stalled)
        return;
    p->said_stalled = stalled;
    if (stalled)
        log_error("upstream=%s:%u is stalled: it accepts connections and answers nothing; "
                  "sessions are kept, nothing new is sent",
                  upstream_host(p->upstream), upstream_port(p->upstream));
    else
        log_warning("upstream=%s:%u is not stalled any more", upstream_host(p->upstream),
                    upstream_port(p->upstream));
}

/* What is seen twice in a row: a lock pile-up of a moment is not worth a line. */
static void log_pile_up(struct probe *p, bool piled_up, uint64_t now_us)
{
    if (!piled_up)
        p->piled_up_us = 0;
    else if (p->piled_up_us == 0)
        p->piled_up_us = now_us;
    bool worth = piled_up && us_since(p->piled_up_us, now_us) >= US_PER_S;
    if (worth && !p->said_piled_up)
        log_warning("lock pile-up upstream=%s:%u: most protected statements wait for locks; that "
                    "is no overload, and no class is held back for it",
                    upstream_host(p->upstream), upstream_port(p->upstream));
    else if (!piled_up && p->said_piled_up)
        log_info("lock pile-up upstream=%s:%u is over", upstream_host(p->upstream),
                 upstream_port(p->upstream));
    p->said_piled_up = worth || (piled_up && p->said_piled_up);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* New settings: what was refused may be good now, and what is connected may be no more. */
static void take_config(struct probes *all)
{
    if (all->config_version == all->hub->config_version)
        return;
    all->config_version = all->hub->config_version;
    struct probe *p, *next;
    HASH_ITER(hh, all->probes, p, next)
    {
        p->refused_n = 0;
        p->said_failed = false;
        if (p->state != PROBE_OFF)
            probe_retry(p, 0);
    }
}

/* The error breaker wants a login, not an answer of a session that has been there for long. */
static void hurry(struct probe *p)
{
    if (p->fresh)
        return;
    p->fresh = true;
    if (p->state != PROBE_LOGS_IN && p->state != PROBE_RESOLVES)
        probe_retry(p, 0);
}

static void go_on(struct probe *p, const struct upstream_probe_view *view, uint64_t now_us)
{
    if (view->login_wanted)
        hurry(p);
    else
        p->fresh = false;
    switch (p->state) {
    case PROBE_OFF:
        p->error[0] = '\0';
        probe_goto(p, PROBE_WAITS);
        p->due_us = now_us;
        break;
    case PROBE_WAITS:
        if (now_us >= p->due_us)
            probe_login_begin(p);
        break;
    case PROBE_RESOLVES:
    case PROBE_LOGS_IN:
        probe_login_late(p, now_us);
        break;
    case PROBE_ASKS:
        if (us_since(p->asked_us, now_us) < PROBE_HANGS_US) {
            if (!p->hanging_us && us_since(p->asked_us, now_us) >= PROBE_SLOW_US)
                upstream_tell_hanging(p->upstream, p->asked_us, false);
            break;
        }
        p->hanging_us = p->hanging_us ? p->hanging_us : p->asked_us;
        probe_note_error(p, "the server does not answer");
        probe_retry(p, 0); /* at once: is it still there at all? */
        break;
    case PROBE_IDLES:
        probe_ask_next(p, view, now_us);
        break;
    }
}

void probe_tick(struct probes *all, struct upstream *u, uint64_t now_us)
{
    struct upstream_probe_view view;
    struct probe *p = probe_of(all, u);
    take_config(all);
    if (now_us - all->spread_us >= US_PER_S) {
        all->spread_us = now_us;
        look_at_spread(all, now_us);
    }
    if (!p)
        return;
    upstream_probe_view(u, &view);
    log_inversions(p);
    log_stalled(p, view.stalled);
    log_pile_up(p, view.piled_up, now_us);
    const char *why = why_off(p, &view, now_us);
    if (!why)
        go_on(p, &view, now_us);
    else if (p->state != PROBE_OFF || strcmp(p->error, why) != 0)
        probe_off(p, why);
}

/* ---- open, close, show ------------------------------------------------------------------------
 */

struct probes *probe_open(struct hub *control)
{
    /* libpq asks the environment for whatever it is not told; ours is none of its business. */
    static const char *const heard[] = {"PGOPTIONS",     "PGSERVICE",    "PGSERVICEFILE",
                                        "PGPASSWORD",    "PGPASSFILE",   "PGREQUIREPEER",
                                        "PGSSLCRL",      "PGSSLCRLDIR",  "PGCHANNELBINDING",
                                        "PGREQUIREAUTH", "PGREQUIRESSL", "PGCLIENTENCODING"};
    struct probes *all = calloc(1, sizeof *all);
    for (size_t i = 0; i < COUNT_OF(heard); i++)
        unsetenv(heard[i]);
    if (!all)
        return NULL;
    all->hub = control;
    all->config_version = control->config_version;
    return all;
}

void probe_stop(struct probes *all)
{
    struct probe *p, *next;
    all->stopped = true;
    HASH_ITER(hh, all->probes, p, next)
    {
        probe_off(p, "the process ends");
    }
}

void probe_close(struct probes **probes)
{
    struct probes *all = *probes;
    struct probe *p, *next;
    *probes = NULL;
    if (!all)
        return;
    HASH_ITER(hh, all->probes, p, next)
    {
        HASH_DEL(all->probes, p);
        probe_unwatch(p);
        dns_ask_drop(&p->ask);
        PQfinish(p->conn);
        free(p);
    }
    free(all);
}

bool probe_show(const struct probes *all, const struct upstream *u, struct probe_show *out)
{
    struct probe *p;
    HASH_FIND_PTR(all->probes, &u, p);
    if (!p)
        return false;
    *out = (struct probe_show){.state = states[p->state].name,
                               .up = p->state == PROBE_ASKS || p->state == PROBE_IDLES,
                               .error = p->error,
                               .user = p->user,
                               .database = p->database,
                               .since_us = p->state_us,
                               .asked_n = p->asked_n,
                               .failed_n = p->failed_n,
                               .version = p->conn ? (uint32_t)PQserverVersion(p->conn) : 0};
    return true;
}
