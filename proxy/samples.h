/* Statistics per database: totals over all its pools, and averages over the last stats_period.
 *
 * The routes count; this adds up. What a pool had counted when it was reaped is kept here, so that
 * totals never go back. A sample is taken every stats_period; averages are those of the last whole
 * period, as PgBouncer's are. Owner: the control loop. */
#ifndef PROXY_SAMPLES_H
#define PROXY_SAMPLES_H

#include "config/table.h" /* before all that includes uthash */

#include "proxy/route.h"

struct samples_db {
    char name[CONFIG_DB_NAME_MAX + 1];
    struct route_totals total;   /* as of the last samples_add_up() */
    struct route_totals average; /* per second; of times: per transaction, query, second */
    struct route_totals gone;    /* of pools that were reaped */
    struct route_totals before;  /* at the last sample */
    UT_hash_handle hh;
};

struct samples {
    struct samples_db *dbs; /* uthash by name */
    uint64_t sampled_us;
    struct route_totals console; /* what was asked of and sent by the console itself */
};

/* The database of this name, made if new. NULL: out of memory. */
struct samples_db *samples_db(struct samples *s, const char *name);
/* Brings all totals up to date. */
void samples_add_up(struct samples *s, struct pool_registry *registry);
/* A route is about to be freed. */
void samples_retire(struct samples *s, const struct route *r);
/* The end of a period: averages anew. */
void samples_take(struct samples *s, struct pool_registry *registry, uint64_t now_us);
/* Over all databases. */
void samples_sum(const struct samples *s, struct route_totals *total, struct route_totals *average);
void samples_free(struct samples *s);

#endif
