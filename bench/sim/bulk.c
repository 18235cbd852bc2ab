#include "bench/sim/bulk.h"

#include <stdlib.h>
#include <utlist.h>

enum {
    MB = 2000,
    APART_US = 50 * US_PER_MS,
    NEXT_US = 10 * US_PER_MS,
    RETRY_US = 2 * US_PER_S,
    SCANS_TYPE = WORLD_FINGERPRINTS, /* fingerprint of what bulk asks for */
};

struct job {
    struct tx tx;
    struct bulk *bulk;
    struct event event;
    bool stopped, done;
};

struct bulk {
    struct world *world;
    struct bulk_opts opts;
    struct job *jobs;
    struct event stop;
    struct bulk *next;
};

static void begin(struct engine *e, struct event *ev)
{
    struct job *j = OWNER_OF(struct job, event, ev);
    const struct bulk_opts *o = &j->bulk->opts;

    (void)e;
    j->tx.request = (struct statement){
        .kind = o->scans ? STATEMENT_SCAN : STATEMENT_STREAM,
        .chunks_n = o->mb > 0 ? o->mb : MB,
        .lock_i = o->lock_i,
        .lock_exclusive = o->lock_exclusive,
    };
    tx_ask(&j->tx);
}

static void ended(struct tx *tx, enum tx_end how)
{
    struct job *j = OWNER_OF(struct job, tx, tx);
    struct engine *e = &j->bulk->world->engine;
    double retry_s = j->bulk->opts.retry_s;

    if (j->stopped)
        return;
    if (how == TX_DONE) {
        j->done = true;
        if (!j->bulk->opts.once)
            engine_in(e, &j->event, NEXT_US, begin);
        return;
    }
    engine_in(e, &j->event, retry_s > 0 ? (uint64_t)(retry_s * US_PER_S) : RETRY_US, begin);
}

/* Its client cancels what runs, and leaves. */
static void stop_job(struct job *j)
{
    j->stopped = true;
    engine_off(&j->bulk->world->engine, &j->event);
    if (j->tx.state == TX_WAITING)
        tx_abandon(&j->tx);
    else if (j->tx.state == TX_RUNNING)
        proxy_cancel(j->tx.call);
}

static void stop(struct engine *e, struct event *ev)
{
    struct bulk *b = OWNER_OF(struct bulk, stop, ev);

    engine_off(e, ev);
    for (uint32_t i = 0; i < b->opts.n; i++)
        stop_job(&b->jobs[i]);
}

static void init_job(struct bulk *b, uint32_t i)
{
    const struct bulk_opts *o = &b->opts;
    struct engine *e = &b->world->engine;
    struct job *j = &b->jobs[i];
    uint32_t proxies_n = o->proxies_n > 0 ? o->proxies_n : 1;
    uint64_t apart_us = o->apart_s > 0 ? (uint64_t)(o->apart_s * US_PER_S) : APART_US;

    j->bulk = b;
    j->tx.proxy = &b->world->proxies[o->proxy_first_i + i % proxies_n];
    j->tx.class = o->class;
    j->tx.disguised = o->disguised;
    j->tx.writes = o->writes;
    j->tx.type_i = SCANS_TYPE;
    j->tx.key_i = (uint32_t)(1000 + o->class * 16 + i % 7);
    j->tx.ended = ended;
    if (o->group_n > 0)
        j->tx.group = 1 + i / o->group_n;
    engine_at(e, &j->event, (uint64_t)(o->from_s * US_PER_S) + i / proxies_n * apart_us, begin);
}

void bulk_start(struct world *w, const struct bulk_opts *opts)
{
    struct bulk *b = calloc(1, sizeof(*b));

    must(b != NULL);
    b->world = w;
    b->opts = *opts;
    b->jobs = calloc(opts->n, sizeof(struct job));
    must(b->jobs != NULL);
    LL_PREPEND(w->bulk, b);
    for (uint32_t i = 0; i < opts->n; i++)
        init_job(b, i);
    engine_at(&w->engine, &b->stop, (uint64_t)(opts->to_s * US_PER_S), stop);
}

void bulk_stop(struct world *w)
{
    struct bulk *b;

    LL_FOREACH(w->bulk, b)
    {
        stop(&w->engine, &b->stop);
    }
}

void bulk_free(struct world *w)
{
    struct bulk *b, *next;

    LL_FOREACH_SAFE(w->bulk, b, next)
    {
        free(b->jobs);
        free(b);
    }
    w->bulk = NULL;
}

uint32_t bulk_done_n(const struct world *w)
{
    const struct bulk *b;
    uint32_t n = 0;

    LL_FOREACH(w->bulk, b)
    {
        for (uint32_t i = 0; i < b->opts.n; i++)
            n += b->jobs[i].done;
    }
    return n;
}
