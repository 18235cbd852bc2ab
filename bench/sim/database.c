#include "bench/sim/database.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "bench/sim/locks.h"

enum {
    CHUNK_DISK_US = 4000,
    CHUNK_CPU_US = 3000,
    PAGE_US = 400,
    VISITS_MAX = 6, /* to the disk of one statement: neighbouring pages are read together */
    POLLUTION_US = 21600000, /* e-folding time: a half-life of 15 s */
    COLD_US = 20 * US_PER_S,
};
#define MISS_LEAST 0.02
#define MISS_POLLUTED 0.25
#define MISS_MOST 0.6

static double decay(uint64_t since_us, uint64_t now_us, double period_us)
{
    return exp(-(double)us_since(since_us, now_us) / period_us);
}

static double miss_share(const struct database *d)
{
    uint64_t now_us = d->engine->now_us;
    double mb = d->bulk_mb * decay(d->bulk_at_us, now_us, POLLUTION_US);
    double miss = MISS_LEAST + (MISS_POLLUTED - MISS_LEAST) * (1 - exp(-mb / d->opts.cache_mb));

    if (d->cold > 0)
        miss += d->cold * decay(d->cold_at_us, now_us, COLD_US);
    return fmin(miss, MISS_MOST);
}

static void pollute(struct database *d)
{
    uint64_t now_us = d->engine->now_us;

    d->bulk_mb = d->bulk_mb * decay(d->bulk_at_us, now_us, POLLUTION_US) +
                 (double)DATABASE_CHUNK_BYTES / (1 << 20);
    d->bulk_at_us = now_us;
}

/* ---- stations ------------------------------------------------------------------------------ */

static void step(struct statement *st);

static void serve(struct station *s, struct statement *st);

static void served(struct engine *e, struct event *ev)
{
    struct statement *st = OWNER_OF(struct statement, event, ev);
    struct station *s = st->at;

    if (e->now_us < s->stalled_until_us) {
        engine_at(e, ev, s->stalled_until_us + 1, served);
        return;
    }
    must(s->busy_n > 0);
    s->busy_n--;
    st->at = NULL;
    st->in_service = false;
    struct statement *next = s->queue;
    if (next != NULL) {
        DL_DELETE(s->queue, next);
        serve(s, next);
    }
    step(st);
}

static void serve(struct station *s, struct statement *st)
{
    struct engine *e = s->database->engine;
    uint64_t us = (uint64_t)((double)st->service_us * s->slower);
    uint64_t from_us = e->now_us > s->stalled_until_us ? e->now_us : s->stalled_until_us;

    st->in_service = true;
    s->busy_n++;
    s->busy_us += us;
    engine_at(e, &st->event, from_us + us, served);
}

static void visit(struct station *s, struct statement *st, uint64_t us)
{
    must(st->at == NULL);
    st->at = s;
    st->service_us = us;
    if (s->busy_n < s->channels_n)
        serve(s, st);
    else
        DL_APPEND(s->queue, st);
}

static void leave_station(struct statement *st)
{
    struct station *s = st->at;

    engine_off(s->database->engine, &st->event);
    if (st->in_service)
        s->busy_n--;
    else
        DL_DELETE(s->queue, st);
    st->at = NULL;
    st->in_service = false;
}

/* ---- statements ---------------------------------------------------------------------------- */

static void end(struct statement *st, enum statement_end how)
{
    struct database *d = st->database;

    engine_off(d->engine, &st->event);
    if (st->at != NULL)
        leave_station(st);
    DL_DELETE2(d->live, st, live_prev, live_next);
    d->live_n--;
    locks_release(d->locks, st);
    st->ended(st, how);
}

static void go_on(struct engine *e, struct event *ev)
{
    (void)e;
    step(OWNER_OF(struct statement, event, ev));
}

/* Holds what it locked for the rest of its transaction. */
static void linger(struct engine *e, struct event *ev)
{
    (void)e;
    end(OWNER_OF(struct statement, event, ev), STATEMENT_DONE);
}

static void plan_reads(struct statement *st)
{
    struct database *d = st->database;
    uint32_t pages_n = engine_poisson(d->engine, st->pages_n * miss_share(d));

    st->ios_n = pages_n < VISITS_MAX ? pages_n : VISITS_MAX;
    st->io_us = st->ios_n == 0 ? 0 : (uint64_t)pages_n * PAGE_US / st->ios_n;
}

static void finish(struct statement *st)
{
    if (st->lock_held_us > 0 && st->locked)
        engine_in(st->database->engine, &st->event, st->lock_held_us, linger);
    else
        end(st, STATEMENT_DONE);
}

static void step_user(struct statement *st)
{
    struct database *d = st->database;

    if (st->wait_until_us > d->engine->now_us) {
        engine_at(d->engine, &st->event, st->wait_until_us, go_on);
        return;
    }
    if (st->lock_i > 0 && !st->locked && !locks_take(d->locks, st))
        return;
    if (st->ios_n > 0) {
        st->ios_n--;
        visit(&d->disk, st, st->io_us);
    } else if (!st->served) {
        st->served = true;
        visit(&d->cpu, st, st->cpu_us / 2);
    } else {
        finish(st);
    }
}

/* For another chunk; or, after the last one, all of it was read. */
static bool has_room(const struct statement *st)
{
    if (st->kind != STATEMENT_STREAM)
        return true;
    return st->chunks_n == 0 ? st->buf_bytes == 0
                             : st->buf_bytes + DATABASE_CHUNK_BYTES <= DATABASE_SLACK_BYTES;
}

/* disk, core, and round again; `served` says that the disk's part of the chunk is done. */
static void step_bulk(struct statement *st)
{
    struct database *d = st->database;

    if (st->served) {
        if (st->io_us == 0) { /* off the disk */
            st->io_us = 1;
            pollute(d);
            visit(&d->cpu, st, CHUNK_CPU_US);
            return;
        }
        st->served = false;
        st->io_us = 0;
        st->chunks_n--;
        if (st->kind == STATEMENT_STREAM) {
            st->buf_bytes += DATABASE_CHUNK_BYTES;
            st->produced(st);
        }
    }
    if (!has_room(st)) {
        st->gated = true;
    } else if (st->chunks_n == 0) {
        finish(st);
    } else {
        st->served = true;
        visit(&d->disk, st, CHUNK_DISK_US);
    }
}

static void step(struct statement *st)
{
    if (st->cancelled) {
        end(st, STATEMENT_CANCELLED);
        return;
    }
    switch (st->kind) {
    case STATEMENT_USER:
        step_user(st);
        return;
    case STATEMENT_STREAM:
    case STATEMENT_SCAN:
        if (st->lock_i > 0 && !st->locked && !locks_take(st->database->locks, st))
            return;
        step_bulk(st);
        return;
    case STATEMENT_SLEEP:
        finish(st);
        return;
    }
    must(!"a kind of statement");
}

void database_go_on(struct statement *st)
{
    engine_in(st->database->engine, &st->event, 0, go_on);
}

void database_run(struct database *d, struct statement *st)
{
    must(d->up);
    st->database = d;
    st->started_us = d->engine->now_us;
    st->buf_bytes = 0;
    st->cancelled = st->gated = st->locked = st->waits_for_lock = st->served = false;
    st->at = NULL;
    st->ios_n = 0;
    st->io_us = 0;
    DL_APPEND2(d->live, st, live_prev, live_next);
    d->live_n++;
    switch (st->kind) {
    case STATEMENT_USER:
        plan_reads(st);
        visit(&d->cpu, st, st->cpu_us / 2);
        return;
    case STATEMENT_STREAM:
    case STATEMENT_SCAN:
        database_go_on(st);
        return;
    case STATEMENT_SLEEP:
        engine_in(d->engine, &st->event, st->cpu_us, go_on);
        return;
    }
    must(!"a kind of statement");
}

void database_cancel(struct statement *st)
{
    struct engine *e = st->database->engine;

    st->cancelled = true;
    if (st->at != NULL)
        return;
    /* It waits for a socket, a lock, or nothing: interrupts are served there at once. */
    if (st->waits_for_lock)
        locks_forget(st->database->locks, st);
    st->gated = false;
    engine_off(e, &st->event);
    engine_in(e, &st->event, 0, go_on);
}

void database_read(struct statement *st, uint64_t bytes_n)
{
    must(bytes_n <= st->buf_bytes);
    st->buf_bytes -= bytes_n;
    if (!st->gated || !has_room(st))
        return;
    st->gated = false;
    database_go_on(st);
}

/* ---- the whole ----------------------------------------------------------------------------- */

void database_opts_defaults(struct database_opts *opts)
{
    *opts = (struct database_opts){.cores_n = 4, .disks_n = 4, .cache_mb = 20000};
}

void database_init(struct database *d, struct engine *e, const struct database_opts *opts)
{
    memset(d, 0, sizeof(*d));
    d->engine = e;
    d->opts = *opts;
    d->cpu = (struct station){.database = d, .channels_n = opts->cores_n, .slower = 1};
    d->disk = (struct station){.database = d, .channels_n = opts->disks_n, .slower = 1};
    d->up = true;
    d->locks = locks_new();
}

void database_free(struct database *d)
{
    must(d->live == NULL);
    locks_free(&d->locks);
}

void database_kill(struct database *d)
{
    d->up = false;
    while (d->live != NULL)
        end(d->live, STATEMENT_LOST);
    must(d->cpu.busy_n == 0 && d->disk.busy_n == 0);
}

void database_back(struct database *d, double cold)
{
    d->up = true;
    d->cold = cold;
    d->cold_at_us = d->engine->now_us;
}

void database_stall(struct database *d, uint64_t for_us)
{
    d->cpu.stalled_until_us = d->disk.stalled_until_us = d->engine->now_us + for_us;
}
