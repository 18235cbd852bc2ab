/* What the small pieces cost, in nanoseconds, as a table: an estimator's observation and its tick,
 * a lease from the pool (one thread, and two that contend), the tick of an upstream, a take from
 * the bucket that paces a stream, a message header, a byte of a statement and its fingerprint.
 *
 * Each figure is the best of several short runs: what is asked is the cost of the code, and all a
 * shared machine can do is add to it. The thread's own CPU clock is read where one thread works,
 * the wall clock where two contend. */
#include "breaker/estimator.h"
#include "pool/pace.h"
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
    SERVERS_N = 16, /* idle at home of each thread */
    BATCHES_N = 20000,
    TICKS_N = 2000,
    TAKES_N = 2000000,
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
    printf("| %-40s | %9.2f | %-11s |\n", what, ns, unit);
}

/* ---- estimator ---------------------------------------------------------------------------- */

static double observe_ns(struct estimator *e, uint32_t statements_n, double *tick_ns)
{
    uint64_t now_us = 1000 * (uint64_t)US_PER_S;
    uint64_t ns = 0, ticks_ns = 0;
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
        begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        estimator_queue_empty(e);
        struct pressure p = estimator_pressure(e, now_us, NULL, 0, 0);
        estimator_tick_end(e, now_us, p.p < 0.7 ? ESTIMATOR_CALM : ESTIMATOR_DISTURBED);
        ticks_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns;
    }
    *tick_ns = (double)ticks_ns * OBSERVATIONS_PER_TICK / OBSERVATIONS_N;
    return (double)ns / OBSERVATIONS_N;
}

static void measure_estimator(void)
{
    struct estimator *e = calloc(1, sizeof *e);
    must(e);
    static const uint32_t statements[] = {1, 200, 3000};
    for (uint32_t s = 0; s < COUNT_OF(statements); s++) {
        char what[64];
        double best = 1e9, best_tick = 1e9;
        for (uint32_t run = 0; run < RUNS_N; run++) {
            double tick_ns, ns = observe_ns(e, statements[s], &tick_ns);
            best = ns < best ? ns : best;
            best_tick = tick_ns < best_tick ? tick_ns : best_tick;
        }
        snprintf(what, sizeof what, "estimator, %u different statements", statements[s]);
        report(what, best, "observation");
        report(what, best_tick, "tick");
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
        {"fingerprint, pgbench's SELECT",
         "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"},
        {"fingerprint, a report with a join",
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

/* A registry with one pool, and what leads to it. */
struct bed {
    struct pool_registry *registry;
    struct upstream *upstream;
    struct pool *pool;
    uint16_t worker_first_i;
    uint8_t class_i;
};

static void bed_open(struct bed *bed)
{
    struct registry_opts registry_opts;
    struct upstream_opts upstream_opts;
    struct pool_opts pool_opts;
    struct class_table classes;
    struct err err;
    registry_opts_defaults(&registry_opts);
    registry_opts.worker_n = THREADS_MAX + 1;
    upstream_opts_defaults(&upstream_opts);
    upstream_opts.connecting_n = SERVERS_N * THREADS_MAX;
    pool_opts_defaults(&pool_opts);
    pool_opts.size_n = SERVERS_N * THREADS_MAX;
    class_table_init(&classes);
    bed->registry = registry_new(&registry_opts, &classes, &err);
    must(bed->registry);
    bed->upstream = upstream_get(bed->registry, "127.0.0.1", 5432, &upstream_opts, &err);
    must(bed->upstream);
    bed->pool = pool_get(
        bed->registry, &(struct pool_key){.database = "d", .user = "u", .upstream = bed->upstream},
        &pool_opts, &err);
    must(bed->pool);
    bed->worker_first_i = registry_opts.worker_first_i;
    bed->class_i = classes.interactive_i;
}

static void bed_close(struct bed *bed)
{
    pool_unhold(&bed->pool);
    registry_free(&bed->registry);
}

static double lease_ns(uint32_t threads_n)
{
    static struct leaser leasers[THREADS_MAX];
    pthread_barrier_t barrier;
    struct bed bed;
    bed_open(&bed);
    must(!pthread_barrier_init(&barrier, NULL, threads_n));
    for (uint32_t i = 0; i < threads_n; i++) {
        leasers[i] = (struct leaser){.pool = bed.pool,
                                     .worker = (uint16_t)(i + bed.worker_first_i),
                                     .class_i = bed.class_i,
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
    bed_close(&bed);
    return ns;
}

struct halves {
    double acquire_ns, release_ns, tick_ns;
};

/* All servers of one thread are leased, then given back, so that the clock is read once for many;
 * and the ticks of the upstream while all of them are out. */
static struct halves halves_ns(void)
{
    static struct leaser l;
    struct pool_waiter waiters[SERVERS_N];
    struct pool_actions actions;
    struct bed bed;
    uint64_t now_us = US_PER_S, acquire_ns = 0, release_ns = 0, ticks_ns = 0;
    bed_open(&bed);
    l = (struct leaser){.pool = bed.pool, .worker = bed.worker_first_i, .class_i = bed.class_i};
    leaser_open(&l);
    leaser_idle(&l);
    for (uint32_t batch = 0; batch < BATCHES_N; batch++) {
        uint64_t a_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < SERVERS_N; i++) {
            waiters[i] =
                (struct pool_waiter){.pool = l.pool, .worker = l.worker, .class_i = l.class_i};
            must(pool_acquire(l.pool, &waiters[i], now_us, &actions) == POOL_GRANTED);
        }
        uint64_t b_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        if (batch % (BATCHES_N / TICKS_N) == 0) {
            now_us += US_PER_S / 10;
            pool_tick(bed.upstream, now_us, &actions);
            must(actions.n == 0);
            ticks_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - b_ns;
        }
        uint64_t c_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < SERVERS_N; i++) {
            struct pool_observation obs = {
                .fingerprint = 42, .dispatched_us = now_us, .service_us = 200 + i};
            pool_release(waiters[i].server, &obs, now_us, &actions);
        }
        acquire_ns += b_ns - a_ns;
        release_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - c_ns;
    }
    leaser_close(&l);
    bed_close(&bed);
    return (struct halves){(double)acquire_ns / BATCHES_N / SERVERS_N,
                           (double)release_ns / BATCHES_N / SERVERS_N, (double)ticks_ns / TICKS_N};
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
    struct halves best = {1e9, 1e9, 1e9};
    for (uint32_t run = 0; run < RUNS_N; run++) {
        struct halves ns = halves_ns();
        best.acquire_ns = ns.acquire_ns < best.acquire_ns ? ns.acquire_ns : best.acquire_ns;
        best.release_ns = ns.release_ns < best.release_ns ? ns.release_ns : best.release_ns;
        best.tick_ns = ns.tick_ns < best.tick_ns ? ns.tick_ns : best.tick_ns;
    }
    report("pool, acquire", best.acquire_ns, "acquire");
    report("pool, release with an observation", best.release_ns, "release");
    report("pool, one upstream, 16 leases out", best.tick_ns, "tick");
}

/* ---- pacing ------------------------------------------------------------------------------- */

static void measure_pace(void)
{
    struct pace p;
    double best = 1e9, best_open = 1e9;
    for (uint32_t run = 0; run < RUNS_N; run++) {
        uint64_t now_us = US_PER_S, granted_n = 0;
        pace_init(&p);
        uint64_t begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < TAKES_N; i++)
            granted_n += pace_limited(&p);
        uint64_t open_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns;
        pace_set_rate(&p, 100 << 20);
        begun_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < TAKES_N; i++)
            granted_n += pace_limited(&p) && pace_take(&p, PACE_PIECE_BYTES, now_us += i % 2000);
        double ns = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun_ns) / TAKES_N;
        best = ns < best ? ns : best;
        best_open = (double)open_ns / TAKES_N < best_open ? (double)open_ns / TAKES_N : best_open;
        sink += granted_n;
    }
    report("pace, a class that is not limited", best_open, "read");
    report("pace, take", best, "read");
}

int main(void)
{
    printf("| %-40s | %9s | %-11s |\n|%.42s|%.11s|%.13s|\n", "piece", "ns", "for each",
           "-------------------------------------------", "-------------", "--------------");
    measure_estimator();
    measure_wire();
    measure_sql();
    measure_pool();
    measure_pace();
    return 0;
}
