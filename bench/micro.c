/* What the small pieces of the hot path cost, in nanoseconds: an estimator's observation, a lease
 * from the pool (one thread, and two that contend), a message header, a byte of a statement.
 *
 * Each figure is the best of several short runs: what is asked is the cost of the code, and all a
 * shared machine can do is add to it. The thread's own CPU clock is read where one thread works,
 * the wall clock where two contend. */
#include "breaker/estimator.h"
#include "pool/registry.h"
#include "proxy/sql.h"
#include "proxy/wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RUNS_N = 7,
    OBSERVATIONS_N = 2000000,
    OBSERVATIONS_PER_TICK = 10000,
    MESSAGES_N = 4096,
    WALKS_N = 200,
    SCANS_N = 20000,
    LEASES_N = 500000,
    SERVERS_N = 4, /* idle at home of each thread */
    THREADS_MAX = 2,
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Something the compiler has to compute what was measured for. */
static volatile uint64_t sink;

static void report(const char *what, double ns, const char *unit)
{
    printf("%-44s %8.2f ns/%s\n", what, ns, unit);
}

/* ---- estimator ---------------------------------------------------------------------------- */

static double observe_ns(struct estimator *e, uint32_t statements_n)
{
    uint64_t now_us = 1000 * (uint64_t)US_PER_S;
    uint64_t ns = 0;
    struct estimator_opts opts;
    estimator_opts_defaults(&opts);
    estimator_init(e, &opts, now_us);
    for (uint32_t i = 0; i < OBSERVATIONS_N; i += OBSERVATIONS_PER_TICK) {
        uint64_t begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t k = i; k < i + OBSERVATIONS_PER_TICK; k++) {
            uint64_t fingerprint = 0x9e3779b97f4a7c15ull * (1 + k % statements_n);
            estimator_observe(e, fingerprint, now_us - 300, 100 + (k * 7919u) % 900);
        }
        ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns;
        now_us += US_PER_S / 10;
        estimator_queue_empty(e);
        struct pressure p = estimator_pressure(e, now_us, NULL, 0, 0);
        estimator_tick_end(e, now_us, p.p < 0.7 ? ESTIMATOR_CALM : ESTIMATOR_DISTURBED);
    }
    return (double)ns / OBSERVATIONS_N;
}

static void measure_estimator(void)
{
    struct estimator *e = calloc(1, sizeof *e);
    must(e);
    static const uint32_t statements[] = {1, 200, 3000};
    for (uint32_t s = 0; s < COUNT_OF(statements); s++) {
        char what[64];
        double best = 1e9;
        for (uint32_t run = 0; run < RUNS_N; run++) {
            double ns = observe_ns(e, statements[s]);
            best = ns < best ? ns : best;
        }
        snprintf(what, sizeof what, "estimator, %u different statements", statements[s]);
        report(what, best, "observation");
    }
    free(e);
}

/* ---- wire and sql ------------------------------------------------------------------------- */

/* Headers of one kind of result row, as a worker walks them in its scratch buffer. */
static double walk_ns(uint32_t body_bytes)
{
    uint32_t message_bytes = WIRE_HEADER_BYTES + body_bytes;
    uint8_t *bytes = calloc(MESSAGES_N, message_bytes);
    double best = 1e9;
    must(bytes);
    for (uint32_t i = 0; i < MESSAGES_N; i++) {
        uint32_t length = __builtin_bswap32(body_bytes + 4);
        bytes[i * message_bytes] = 'd';
        memcpy(bytes + i * message_bytes + 1, &length, sizeof length);
    }
    for (uint32_t run = 0; run < RUNS_N; run++) {
        uint64_t begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        uint64_t seen_bytes = 0;
        for (uint32_t walk = 0; walk < WALKS_N; walk++) {
            struct view left = view_of(bytes, (size_t)MESSAGES_N * message_bytes);
            struct wire_msg msg;
            while (wire_next(left, wire_from_server, UINT32_MAX, &msg) == WIRE_OK) {
                seen_bytes += msg.body_n;
                (void)view_take_bytes(&left, WIRE_HEADER_BYTES + msg.body_n);
            }
        }
        double ns = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns);
        must(seen_bytes == (uint64_t)WALKS_N * MESSAGES_N * body_bytes);
        best = ns < best ? ns : best;
    }
    free(bytes);
    return best / ((double)WALKS_N * MESSAGES_N);
}

static void measure_wire(void)
{
    static const uint32_t bodies[] = {8, 230, 8000};
    for (uint32_t i = 0; i < COUNT_OF(bodies); i++) {
        char what[64];
        snprintf(what, sizeof what, "wire, CopyData of %u bytes", bodies[i]);
        report(what, walk_ns(bodies[i]), "header");
    }
}

static void measure_sql(void)
{
    static const struct {
        const char *what, *text;
    } cases[] = {
        {"sql, pgbench's SELECT", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"},
        {"sql, a report with a join",
         "SELECT o.id, o.booked, sum(l.amount * l.price) AS total FROM orders o JOIN lines l ON "
         "l.order_id = o.id WHERE o.customer = 'Dr. O''Reilly' AND o.booked BETWEEN '2024-01-01' "
         "AND '2024-12-31' AND o.state IN ('open', 'sent', 'paid', 'late') GROUP BY o.id, "
         "o.booked HAVING sum(l.amount * l.price) > 100.50 ORDER BY total DESC LIMIT 50"},
    };
    for (uint32_t c = 0; c < COUNT_OF(cases); c++) {
        size_t bytes_n = strlen(cases[c].text);
        double best = 1e18;
        for (uint32_t run = 0; run < RUNS_N; run++) {
            struct sql_info info;
            uint64_t begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
            for (uint32_t i = 0; i < SCANS_N; i++) {
                sql_scan(cases[c].text, bytes_n, false, &info);
                sink += info.fingerprint;
            }
            double ns = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns) / SCANS_N;
            best = ns < best ? ns : best;
        }
        report(cases[c].what, best, "statement");
        report("", best / (double)bytes_n, "byte");
    }
}

/* ---- pool --------------------------------------------------------------------------------- */

/* One thread as a worker: its own servers are idle at home, so that a lease moves no server. */
struct leaser {
    pthread_t thread;
    struct pool *pool;
    uint16_t worker;
    uint8_t class_i;
    pthread_barrier_t *barrier;
    struct pool_server servers[SERVERS_N];
    uint64_t ns;
};

static void *leaser_run(void *arg)
{
    struct leaser *l = arg;
    struct pool_actions actions;
    uint64_t now_us = US_PER_S;
    pthread_barrier_wait(l->barrier);
    uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < LEASES_N; i++) {
        struct pool_waiter w = {.pool = l->pool, .worker = l->worker, .class_i = l->class_i};
        struct pool_observation obs = {.fingerprint = 42, .dispatched_us = now_us};
        enum pool_verdict verdict = pool_acquire(l->pool, &w, now_us, &actions);
        must(verdict == POOL_GRANTED && actions.n == 0);
        obs.service_us = 200 + i % 64;
        now_us += i % 4 == 0;
        pool_release(w.server, &obs, now_us, &actions);
        must(actions.n == 0);
    }
    l->ns = clock_ns(CLOCK_MONOTONIC) - begun_ns;
    return NULL;
}

/* Servers as if they had been opened and logged in, and granted: nobody else gets one meanwhile. */
static void leaser_open(struct leaser *l)
{
    struct pool_actions actions;
    for (uint32_t i = 0; i < COUNT_OF(l->servers); i++) {
        struct pool_waiter w = {.pool = l->pool, .worker = l->worker, .class_i = l->class_i};
        must(pool_acquire(l->pool, &w, US_PER_S / 2, &actions) == POOL_QUEUED);
        must(actions.n == 1 && actions.at[0].act == POOL_OPEN);
        pool_opened(l->pool, &l->servers[i], l->worker, US_PER_S / 2, &actions);
        must(actions.n == 1 && actions.at[0].act == POOL_GRANT);
    }
}

static void leaser_idle(struct leaser *l)
{
    struct pool_actions actions;
    for (uint32_t i = 0; i < COUNT_OF(l->servers); i++)
        pool_release(&l->servers[i], NULL, US_PER_S / 2, &actions);
}

static void leaser_close(struct leaser *l)
{
    struct pool_actions actions;
    for (uint32_t i = 0; i < COUNT_OF(l->servers); i++)
        must(pool_closed(&l->servers[i], false, 2 * (uint64_t)US_PER_S, &actions));
}

static double lease_ns(uint32_t threads_n)
{
    static struct leaser leasers[THREADS_MAX];
    struct registry_opts registry_opts;
    struct upstream_opts upstream_opts;
    struct pool_opts pool_opts;
    struct class_table classes;
    pthread_barrier_t barrier;
    struct err err;
    registry_opts_defaults(&registry_opts);
    registry_opts.worker_n = THREADS_MAX + 1;
    upstream_opts_defaults(&upstream_opts);
    upstream_opts.connecting_n = SERVERS_N * THREADS_MAX;
    pool_opts_defaults(&pool_opts);
    class_table_init(&classes);
    struct pool_registry *registry = registry_new(&registry_opts, &classes, &err);
    must(registry);
    struct upstream *u = upstream_get(registry, "127.0.0.1", 5432, &upstream_opts, &err);
    must(u);
    struct pool *pool =
        pool_get(registry, &(struct pool_key){.database = "d", .user = "u", .upstream = u},
                 &pool_opts, &err);
    must(pool);
    must(!pthread_barrier_init(&barrier, NULL, threads_n));
    for (uint32_t i = 0; i < threads_n; i++) {
        leasers[i] = (struct leaser){.pool = pool,
                                     .worker = (uint16_t)(i + registry_opts.worker_first_i),
                                     .class_i = classes.interactive_i,
                                     .barrier = &barrier};
        leaser_open(&leasers[i]);
    }
    for (uint32_t i = 0; i < threads_n; i++)
        leaser_idle(&leasers[i]);
    for (uint32_t i = 0; i < threads_n; i++)
        must(!pthread_create(&leasers[i].thread, NULL, leaser_run, &leasers[i]));
    double ns = 0;
    for (uint32_t i = 0; i < threads_n; i++) {
        pthread_join(leasers[i].thread, NULL);
        ns += (double)leasers[i].ns / LEASES_N / threads_n;
        leaser_close(&leasers[i]);
    }
    pthread_barrier_destroy(&barrier);
    pool_unhold(&pool);
    registry_free(&registry);
    return ns;
}

static void measure_pool(void)
{
    for (uint32_t threads_n = 1; threads_n <= THREADS_MAX; threads_n++) {
        char what[64];
        double best = 1e9;
        for (uint32_t run = 0; run < RUNS_N; run++) {
            double ns = lease_ns(threads_n);
            best = ns < best ? ns : best;
        }
        snprintf(what, sizeof what, "pool, acquire and release, %u thread%s", threads_n,
                 threads_n > 1 ? "s" : "");
        report(what, best, "lease");
    }
}

int main(void)
{
    measure_estimator();
    measure_wire();
    measure_sql();
    measure_pool();
    return 0;
}
