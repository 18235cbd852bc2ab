#include "proxy/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/hash.h" /* names of databases are the clients' to choose */

struct samples_db *samples_db(struct samples *s, const char *name)
{
    struct samples_db *db;
    HASH_FIND_STR(s->dbs, name, db);
    if (db)
        return db;
    db = calloc(1, sizeof *db);
    if (!db)
        return NULL;
    snprintf(db->name, sizeof db->name, "%s", name);
    HASH_ADD_STR(s->dbs, name, db);
    if (db->hh.tbl)
        return db;
    free(db);
    return NULL;
}

static void add(struct route_totals *into, const struct route_totals *from)
{
#define X(name) into->name += from->name;
    ROUTE_COUNTERS(X)
#undef X
}

static bool add_pool(struct pool *p, void *arg)
{
    const struct route *r = pool_owner(p); /* NULL: its first login is not through yet */
    struct route_totals t;
    struct samples_db *db = r ? samples_db(arg, r->database) : NULL;
    if (!db)
        return true;
    route_totals(r, &t);
    add(&db->total, &t);
    return true;
}

void samples_add_up(struct samples *s, struct pool_registry *registry)
{
    for (struct samples_db *db = s->dbs; db; db = db->hh.next)
        db->total = db->gone;
    registry_each_pool(registry, add_pool, s);
    struct samples_db *console = samples_db(s, "pgbouncer");
    if (console)
        console->total = s->console;
}

void samples_retire(struct samples *s, const struct route *r)
{
    struct route_totals t;
    struct samples_db *db = samples_db(s, r->database);
    if (!db)
        return;
    route_totals(r, &t);
    add(&db->gone, &t);
}

static uint64_t per_second(uint64_t n, uint64_t period_us)
{
    return (uint64_t)((double)n * US_PER_S / (double)period_us + 0.5);
}

static void average(struct samples_db *db, uint64_t period_us)
{
    struct route_totals d, *a = &db->average;
#define X(name) d.name = db->total.name - db->before.name;
    ROUTE_COUNTERS(X)
#undef X
#define X(name) a->name = per_second(d.name, period_us);
    ROUTE_COUNTERS(X)
#undef X
    a->xact_time = d.xact_count ? d.xact_time / d.xact_count : 0;
    a->query_time = d.query_count ? d.query_time / d.query_count : 0;
}

void samples_take(struct samples *s, struct pool_registry *registry, uint64_t now_us)
{
    uint64_t period_us = now_us - s->sampled_us;
    samples_add_up(s, registry);
    for (struct samples_db *db = s->dbs; db; db = db->hh.next) {
        if (period_us > 0)
            average(db, period_us);
        db->before = db->total;
    }
    s->sampled_us = now_us;
}

void samples_sum(const struct samples *s, struct route_totals *total,
                 struct route_totals *average_out)
{
    uint64_t xact_us = 0, query_us = 0;
    memset(total, 0, sizeof *total);
    memset(average_out, 0, sizeof *average_out);
    for (const struct samples_db *db = s->dbs; db; db = db->hh.next) {
        add(total, &db->total);
        add(average_out, &db->average);
        xact_us += db->average.xact_time * db->average.xact_count;
        query_us += db->average.query_time * db->average.query_count;
    }
    /* a mean of means needs their weights */
    average_out->xact_time = average_out->xact_count ? xact_us / average_out->xact_count : 0;
    average_out->query_time = average_out->query_count ? query_us / average_out->query_count : 0;
}

void samples_free(struct samples *s)
{
    struct samples_db *db, *next;
    HASH_ITER(hh, s->dbs, db, next)
    {
        HASH_DEL(s->dbs, db);
        free(db);
    }
}
