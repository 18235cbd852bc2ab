#include "bench/sim/users.h"

#include <stdlib.h>
#include <utlist.h>

enum {
    PATIENCE_US = US_PER_S,
    ATTEMPTS = 3,
    REFUSED_US = 100 * US_PER_MS,
    KEYS = 50, /* application users and addresses */
};

const struct mix users_mix = {
    .n = 5,
    .at = {{.60, 300, 4}, {.25, 800, 12}, {.10, 2000, 40}, {.04, 4000, 100}, {.01, 15000, 400}},
};

struct request {
    struct tx tx;
    struct users *users;
    uint64_t wanted_us;
    uint32_t attempts_n;
    struct event event; /* its patience, or until it tries again, or thinks */
    struct request *prev, *next;
};

struct users {
    struct world *world;
    struct users_opts opts;
    struct event arrival;
    struct request *all, *spare;
    struct request *crowd; /* an array */
    double think_us;
    struct users *next;
};

static void try_once(struct request *r);
static void think(struct request *r);

/* ---- what it asks for ---------------------------------------------------------------------- */

static const struct mix *mix_now(const struct users *u)
{
    return u->opts.mix != NULL ? u->opts.mix(world_s(u->world)) : &users_mix;
}

static void choose(struct users *u, struct tx *tx)
{
    struct engine *e = &u->world->engine;
    const struct mix *m = mix_now(u);
    double at = engine_uniform(e);
    uint32_t i = 0;

    while (i + 1 < m->n && at >= m->at[i].share)
        at -= m->at[i++].share;
    tx->type_i = i;
    tx->key_i = (uint32_t)(engine_random(e) % KEYS);
}

/* Each attempt meets the database as it is then. */
static void fill_in(struct request *r)
{
    struct users *u = r->users;
    struct tx *tx = &r->tx;
    const struct kind *kind = &mix_now(u)->at[tx->type_i];

    tx->client_reads_us = 0;
    tx->writes = false;
    tx->request = (struct statement){
        .kind = STATEMENT_USER,
        .cpu_us = (uint64_t)engine_exponential(&u->world->engine, kind->cpu_us),
        .pages_n = kind->pages_n,
    };
    if (u->opts.shape != NULL)
        u->opts.shape(u->world, tx);
}

/* ---- one request --------------------------------------------------------------------------- */

static void done_with(struct request *r)
{
    struct users *u = r->users;

    if (u->crowd != NULL) {
        think(r);
        return;
    }
    DL_DELETE(u->all, r);
    LL_PREPEND(u->spare, r);
}

static void try_again(struct engine *e, struct event *ev)
{
    struct request *r = OWNER_OF(struct request, event, ev);

    if (r->attempts_n < ATTEMPTS) {
        try_once(r);
        return;
    }
    measure_lost(&r->users->world->measure, e->now_us);
    done_with(r);
}

static void out_of_patience(struct engine *e, struct event *ev)
{
    struct request *r = OWNER_OF(struct request, event, ev);

    tx_abandon(&r->tx);
    try_again(e, ev);
}

static void ended(struct tx *tx, enum tx_end how)
{
    struct request *r = OWNER_OF(struct request, tx, tx);
    struct world *w = r->users->world;

    engine_off(&w->engine, &r->event);
    switch (how) {
    case TX_DONE:
        measure_served(&w->measure, w->engine.now_us - r->wanted_us, w->engine.now_us);
        done_with(r);
        return;
    case TX_CANCELLED:
        world_broken(w, "a user's statement was cancelled");
        break;
    case TX_REFUSED:
    case TX_LOST:
        break;
    }
    engine_in(&w->engine, &r->event, REFUSED_US, try_again);
}

static void try_once(struct request *r)
{
    struct world *w = r->users->world;

    r->attempts_n++;
    fill_in(r);
    double patience_s = r->users->opts.patience_s;
    uint64_t patience_us = patience_s > 0 ? (uint64_t)(patience_s * US_PER_S) : PATIENCE_US;
    /* Who reads slowly is not in a hurry. */
    engine_in(&w->engine, &r->event, patience_us + r->tx.client_reads_us, out_of_patience);
    tx_ask(&r->tx);
}

static struct proxy *some_proxy(struct users *u)
{
    uint32_t n = u->opts.proxies_n;
    uint64_t i = n == 1 ? 0 : engine_random(&u->world->engine) % n;

    return &u->world->proxies[u->opts.proxy_first_i + i];
}

static void begin(struct users *u, struct request *r)
{
    r->users = u;
    r->wanted_us = u->world->engine.now_us;
    r->attempts_n = 0;
    r->tx.class = SIM_USERS;
    r->tx.ended = ended;
    choose(u, &r->tx);
    try_once(r);
}

/* ---- open loop ----------------------------------------------------------------------------- */

static void arrive(struct engine *e, struct event *ev)
{
    struct users *u = OWNER_OF(struct users, arrival, ev);
    double rate = u->opts.rate(world_s(u->world)) * u->opts.scale;
    struct request *r = u->spare;

    engine_in(e, ev, (uint64_t)(engine_exponential(e, 1 / rate) * US_PER_S), arrive);
    if (r != NULL) {
        LL_DELETE(u->spare, r);
    } else {
        r = calloc(1, sizeof(*r));
        must(r != NULL);
    }
    DL_APPEND(u->all, r);
    r->tx.proxy = some_proxy(u);
    begin(u, r);
}

/* ---- closed loop --------------------------------------------------------------------------- */

static void thought(struct engine *e, struct event *ev)
{
    struct request *r = OWNER_OF(struct request, event, ev);

    (void)e;
    begin(r->users, r);
}

static void think(struct request *r)
{
    struct engine *e = &r->users->world->engine;

    if (!r->users->world->ending)
        engine_in(e, &r->event, (uint64_t)engine_exponential(e, r->users->think_us), thought);
}

static void start_crowd(struct users *u)
{
    u->crowd = calloc(u->opts.crowd_n, sizeof(struct request));
    must(u->crowd != NULL);
    u->think_us = u->opts.crowd_n / (u->opts.rate(0) * u->opts.scale) * US_PER_S;
    for (uint32_t i = 0; i < u->opts.crowd_n; i++) {
        u->crowd[i].users = u;
        u->crowd[i].tx.proxy = some_proxy(u);
        think(&u->crowd[i]);
    }
}

/* ---- all of them --------------------------------------------------------------------------- */

void users_start(struct world *w, const struct users_opts *opts)
{
    struct users *u = calloc(1, sizeof(*u));

    must(u != NULL);
    must(opts->proxies_n > 0);
    u->world = w;
    u->opts = *opts;
    LL_PREPEND(w->users, u);
    if (opts->crowd_n > 0)
        start_crowd(u);
    else
        engine_in(&w->engine, &u->arrival, 0, arrive);
}

static void leave(struct engine *e, struct request *r)
{
    engine_off(e, &r->event);
    if (r->tx.state != TX_OUT)
        tx_abandon(&r->tx);
}

void users_stop(struct world *w)
{
    struct users *u;
    struct request *r;

    w->ending = true;
    LL_FOREACH(w->users, u)
    {
        engine_off(&w->engine, &u->arrival);
        DL_FOREACH(u->all, r)
        {
            leave(&w->engine, r);
        }
        for (uint32_t i = 0; i < u->opts.crowd_n; i++)
            leave(&w->engine, &u->crowd[i]);
    }
}

void users_free(struct world *w)
{
    struct users *u, *next;
    struct request *r, *r_next;

    LL_FOREACH_SAFE(w->users, u, next)
    {
        DL_FOREACH_SAFE(u->all, r, r_next)
        {
            free(r);
        }
        LL_FOREACH_SAFE(u->spare, r, r_next)
        {
            free(r);
        }
        free(u->crowd);
        free(u);
    }
    w->users = NULL;
}
