/* Copies of what is counted, for SHOW and for metrics. Each call takes the upstream's lock once for
 * the time of a copy; nothing points back into a pool but names, which live as long as it does.
 */
#ifndef POOL_SHOW_H
#define POOL_SHOW_H

#include "breaker/breaker.h"
#include "breaker/error_breaker.h"
#include "pool/finish.h"
#include "pool/pool.h"
#include "pool/registry.h"

enum {
    POOL_REFUSALS_N = POOL_REFUSED_SHUTDOWN + 1,
    SHOW_WAIT_BUCKETS = 32, /* bucket i: waits below 2^i us; the last one: all longer */
};

struct pool_stats {
    const char *database, *user;
    struct upstream *upstream;
    enum pool_replication replication;
    enum pool_run run;
    struct pool_opts opts;
    uint32_t clients_n, waiting_n;
    uint32_t leased_n, idle_n, opening_n, closing_n; /* sv_active, sv_idle, sv_login */
    uint64_t maxwait_us;                             /* of who waits now */
    uint32_t db_used_n, user_used_n;                 /* servers under its database's, user's cap */
    bool down;                                       /* its last attempt to open a server failed */
    uint64_t retry_at_us;                            /* when the next attempt is due */
    bool reserve_open;                               /* the reserve pool is in use */
    struct {
        uint32_t clients_n, waiting_n, leased_n, reserved_n, max_n; /* max_n UINT32_MAX: none */
    } classes[CLASSES_MAX];
};

struct class_stats {
    struct class_opts opts;
    uint32_t clients_n, queued_n, active_n, opening_n;
    uint32_t reserved_n; /* places kept for it now; 0 without a budget */
    uint32_t max_n;      /* its own cap; UINT32_MAX: none */
    uint32_t limit_n;    /* what it may lease now, the breaker's word included; UINT32_MAX: any */
    bool held, limited;  /* the breaker's */
    bool closed;         /* outside its hours */
    struct finish finish;
    double g, g_bad; /* 1 and 0 for a protected class */
    enum breaker_verdict verdict;
    /* totals of the breaker; in observe mode what it would have done */
    uint64_t held_us, limited_us, cuts_n, cancels_n;
    uint64_t would_wait_n, would_refuse_n; /* leases; observe mode only */
    uint64_t bytes_per_s;
    uint64_t rate_bytes_per_s;           /* what it may read: the breaker's word and byte_rate; else
                                          * PACE_RATE_NONE */
    uint32_t paced_n;                    /* results held back by that now */
    uint64_t paced_age_us;               /* of the oldest transaction among them */
    uint64_t paced_bytes, paced_held_us; /* totals */
    uint32_t resting_n;                  /* leases whose next statement is held back now */
    uint64_t rests_n, rested_us;         /* totals */
    uint64_t oldest_wait_us;
    bool lifo;
    /* totals */
    uint64_t granted_n, granted_at_once_n, left_n, bytes_n, lease_us, wait_us, wait_us_max;
    uint64_t refused_n[POOL_REFUSALS_N];
    uint64_t wait_n[SHOW_WAIT_BUCKETS]; /* of the granted, those at once in bucket 0 */
};

struct upstream_stats {
    const char *host;
    uint16_t port;
    struct upstream_opts opts;
    uint32_t pools_n, servers_n, leased_n, opening_n, waiting_n;
    uint32_t budget_now_n; /* lowered for a while after 53300; 0: none */
    struct pressure pressure;
    enum breaker_state breaker;
    uint64_t breaker_since_us;
    char breaker_why[BREAKER_WHY_BYTES];
    uint64_t tests_n, confirmed_n, exonerated_n, cuts_n, cancels_n, cleans_n;
    uint64_t verdicts_n[BREAKER_VERDICTS_N];
    struct estimator_drift drift;
    uint32_t norms_n; /* statements with a place in the table of norms */
    enum error_breaker_state error_breaker;
    uint64_t error_since_us, down_since_us; /* 0: not down */
    char error_why[96];
    uint64_t opened_n, open_failed_n, died_n, evicted_n, ticks_n;
    uint64_t tick_late_n; /* ticks that came too late to judge by */
};

void show_pool(struct pool *p, uint64_t now_us, struct pool_stats *out);
void show_class(struct upstream *u, uint8_t class_i, uint64_t now_us, struct class_stats *out);
void show_upstream(struct upstream *u, struct upstream_stats *out);
/* The next transition of the latency breaker after *cursor (0 at first), for the log. False: none.
 * Those that were overwritten meanwhile are skipped. */
MUST_USE bool show_transition(struct upstream *u, uint32_t *cursor, struct breaker_transition *out);
/* The same walk for people: the ones still remembered, oldest first; their number. */
uint32_t show_transitions(struct upstream *u, struct breaker_transition out[BREAKER_TRANSITIONS]);
/* A transition speaks of classes by the breaker's index: the name of one of them. */
void show_breaker_class(struct upstream *u, uint32_t breaker_i, char name[CLASS_NAME_BYTES]);

/* One statement, as the estimator knows it. */
struct fingerprint_stats {
    uint64_t fingerprint;
    uint32_t learnt_n; /* samples its norm is of */
    double now_n;      /* samples of the last seconds */
    double norm_us;    /* 0: not learnt */
    double now_us;     /* mean of the last seconds; 0: none */
    double share;      /* of the time spent in all statements, of the last minute or so */
    double anchor_us;  /* 0: none yet */
    bool held;         /* its norm would be higher, and its anchor does not let it */
    double free_us;    /* what it would be then */
};
enum { SHOW_FINGERPRINTS_CHUNK = 256 };
/* Those from *cursor (0 at first) on, at most a chunk of them, and moves it. False: there are no
 * more (*n may be 0 before that). */
MUST_USE bool show_fingerprints(struct upstream *u, uint32_t *cursor,
                                struct fingerprint_stats out[SHOW_FINGERPRINTS_CHUNK], uint32_t *n);

/* The last tick of the latency breaker, with all it went by: what a replay needs. */
struct tick_stats {
    uint64_t at_us;
    enum breaker_state state;
    struct pressure pressure;
    double p_smooth, p_before;
    uint32_t high_ticks_n, classes_n;
    bool limited; /* any class is */
    struct {
        enum breaker_mode mode;
        bool paced, cancelled;
        uint64_t trickle_bytes_per_s;
        struct breaker_use use;
        double g, g_bad, floor, jitter;
        uint32_t cancel_n;
    } classes[CLASSES_MAX];
};
void show_tick(struct upstream *u, struct tick_stats *out);
void show_tick_of(const struct breaker *b, struct tick_stats *out);
const char *show_refusal_name(enum pool_refusal refusal);

#endif
