#include "bench/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "bench/sim/policy.h"

enum { RESET_US = 200 }; /* until a dead connection says so */

double world_s(const struct world *w)
{
    return (double)w->engine.now_us / US_PER_S;
}

void world_trace(const struct world *w, const char *fmt, ...)
{
    va_list args;

    if (!w->opts.trace)
        return;
    printf("%10.3f  ", world_s(w));
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

void world_broken(struct world *w, const char *what)
{
    if (w->broken == NULL)
        w->broken = what;
    world_trace(w, "BROKEN: %s", what);
}

/* ---- from the client to the policy --------------------------------------------------------- */

static bool is_frozen(const struct proxy *p)
{
    return p->frozen_until_us > p->world->engine.now_us;
}

static void ask_thawed(struct engine *e, struct event *ev)
{
    struct tx *tx = OWNER_OF(struct tx, event, ev);

    if (is_frozen(tx->proxy))
        engine_at(e, ev, tx->proxy->frozen_until_us, ask_thawed);
    else
        tx->proxy->policy->ask(tx->proxy, tx);
}

void tx_ask(struct tx *tx)
{
    struct engine *e = &tx->proxy->world->engine;

    must(tx->state == TX_OUT);
    tx->state = TX_WAITING;
    tx->asked_us = e->now_us;
    tx->call = NULL;
    if (is_frozen(tx->proxy))
        engine_at(e, &tx->event, tx->proxy->frozen_until_us, ask_thawed);
    else
        tx->proxy->policy->ask(tx->proxy, tx);
}

void tx_abandon(struct tx *tx)
{
    struct proxy *p = tx->proxy;
    struct call *c = tx->call;
    enum tx_state was = tx->state;

    must(was != TX_OUT);
    tx->state = TX_OUT;
    tx->call = NULL;
    if (was == TX_RUNNING) {
        c->tx = NULL;
        p->world->orphans_n++;
        p->policy->orphaned(p, c);
    } else if (engine_is_set(&tx->event)) {
        engine_off(&p->world->engine, &tx->event); /* a frozen proxy never saw it */
    } else {
        p->policy->leave(p, tx);
    }
}

void proxy_refuse(struct tx *tx)
{
    struct world *w = tx->proxy->world;

    must(tx->state == TX_WAITING);
    tx->state = TX_OUT;
    w->refused_n[tx->class]++;
    if (tx->class == SIM_USERS)
        measure_refused(&w->measure, w->engine.now_us);
    tx->ended(tx, TX_REFUSED);
}

/* ---- calls --------------------------------------------------------------------------------- */

static enum tx_end end_of(enum statement_end how)
{
    switch (how) {
    case STATEMENT_DONE:
        return TX_DONE;
    case STATEMENT_CANCELLED:
        return TX_CANCELLED;
    case STATEMENT_LOST:
        return TX_LOST;
    }
    must(!"an end of a statement");
}

static void count_end(struct call *c, enum statement_end how)
{
    struct proxy *p = c->proxy;

    if (how != STATEMENT_DONE || c->st.kind != STATEMENT_SCAN || c->class == SIM_USERS)
        return;
    uint64_t bytes_n = c->st.scanned_n * DATABASE_CHUNK_BYTES;
    p->bytes_n[c->class] += bytes_n;
    measure_bytes(&p->world->measure, c->class - SIM_BULK, bytes_n, p->world->engine.now_us);
}

static void finish(struct call *c)
{
    struct proxy *p = c->proxy;
    struct tx *tx = c->tx;
    enum tx_end how = end_of(c->how);

    DL_DELETE(p->calls[c->class], c);
    p->calls_n[c->class]--;
    count_end(c, c->how);
    if (tx != NULL)
        tx->state = TX_OUT;
    p->policy->ended(p, c, c->how);
    engine_off(&p->world->engine, &c->event);
    free(c);
    if (tx == NULL)
        return;
    tx->call = NULL;
    tx->ended(tx, how);
}

static void finish_thawed(struct engine *e, struct event *ev)
{
    struct call *c = OWNER_OF(struct call, event, ev);

    if (is_frozen(c->proxy))
        engine_at(e, ev, c->proxy->frozen_until_us + 1, finish_thawed);
    else
        finish(c);
}

static void call_ended(struct statement *st, enum statement_end how)
{
    struct call *c = st->owner;
    struct engine *e = &c->proxy->world->engine;
    uint64_t slow_us = how == STATEMENT_DONE ? c->client_reads_us : 0;

    c->how = how;
    c->answered_us = e->now_us;
    engine_off(e, &c->event);
    if (slow_us > 0 || is_frozen(c->proxy))
        engine_in(e, &c->event, slow_us, finish_thawed);
    else
        finish(c);
}

static void lose(struct engine *e, struct event *ev)
{
    struct call *c = OWNER_OF(struct call, event, ev);

    (void)e;
    c->how = STATEMENT_LOST;
    finish(c);
}

static void call_produced(struct statement *st)
{
    struct call *c = st->owner;

    if (st->buf_bytes <= DATABASE_CHUNK_BYTES)
        c->unread_since_us = c->proxy->world->engine.now_us;
    c->proxy->policy->produced(c->proxy, c);
}

struct call *proxy_launch(struct tx *tx, void *server)
{
    struct proxy *p = tx->proxy;
    struct call *c = calloc(1, sizeof(*c));

    must(c != NULL);
    must(tx->state == TX_WAITING);
    tx->state = TX_RUNNING;
    tx->call = c;
    c->st = tx->request;
    c->st.owner = c;
    c->st.ended = call_ended;
    c->st.produced = call_produced;
    c->st.scanned_n = c->st.chunks_n;
    c->proxy = p;
    c->tx = tx;
    c->class = tx->class;
    c->type_i = tx->type_i;
    c->client_reads_us = tx->client_reads_us;
    c->server = server;
    c->launched_us = c->unread_since_us = p->world->engine.now_us;
    DL_APPEND(p->calls[c->class], c);
    p->calls_n[c->class]++;
    if (p->database->up)
        database_run(p->database, &c->st);
    else
        engine_in(&p->world->engine, &c->event, RESET_US, lose);
    return c;
}

void proxy_cancel(struct call *c)
{
    if (c->cancelled || c->st.database == NULL)
        return; /* on a dead connection: it ends by itself */
    c->cancelled = true;
    if (c->answered_us == 0)
        database_cancel(&c->st);
}

void proxy_read(struct call *c, uint64_t bytes_n)
{
    struct proxy *p = c->proxy;
    struct world *w = p->world;
    uint64_t gap_us = us_since(c->unread_since_us, w->engine.now_us);

    if (bytes_n == 0)
        return;
    if (gap_us > w->stream_gap_us_max)
        w->stream_gap_us_max = gap_us;
    c->unread_since_us = w->engine.now_us;
    p->bytes_n[c->class] += bytes_n;
    measure_bytes(&w->measure, c->class - SIM_BULK, bytes_n, w->engine.now_us);
    database_read(&c->st, bytes_n);
}

/* ---- time ---------------------------------------------------------------------------------- */

void proxy_freeze(struct proxy *p, uint64_t for_us)
{
    p->frozen_until_us = p->world->engine.now_us + for_us;
}

static void tick(struct engine *e, struct event *ev)
{
    struct proxy *p = OWNER_OF(struct proxy, tick, ev);

    if (is_frozen(p)) {
        engine_at(e, ev, p->frozen_until_us + 1, tick);
        return;
    }
    engine_in(e, ev, WORLD_TICK_US, tick);
    p->policy->tick(p);
}

void proxy_open(struct proxy *p, uint64_t first_tick_us)
{
    p->policy->open(p);
    engine_at(&p->world->engine, &p->tick, first_tick_us, tick);
}

void proxy_close(struct proxy *p)
{
    engine_off(&p->world->engine, &p->tick);
    for (uint32_t i = 0; i < SIM_CLASSES; i++)
        while (p->calls[i] != NULL) { /* answered long ago, and its client still reads */
            p->calls[i]->how = STATEMENT_LOST;
            finish(p->calls[i]);
        }
    p->policy->close(p);
}

void world_kill(struct world *w, struct database *d)
{
    database_kill(d);
    for (uint32_t i = 0; i < w->proxies_n; i++)
        if (w->proxies[i].database == d)
            w->proxies[i].policy->lost(&w->proxies[i]);
}

void world_restore(struct world *w, struct database *d, double cold)
{
    database_back(d, cold);
    for (uint32_t i = 0; i < w->proxies_n; i++)
        if (w->proxies[i].database == d)
            w->proxies[i].policy->restored(&w->proxies[i]);
}
