/* What the probe has found out about one PostgreSQL instance, told to its upstream: how many
 * connections it allows, whether it takes writes, who waits there for whose locks.
 *
 * The upstream draws the conclusions (budget, pacing inversion, stalled); the probe only looks. */
#ifndef POOL_FACTS_H
#define POOL_FACTS_H

#include "breaker/base.h"
#include "pool/class.h"

struct upstream;

enum upstream_role {
    UPSTREAM_ROLE_UNKNOWN,
    UPSTREAM_PRIMARY,
    UPSTREAM_STANDBY,
    UPSTREAM_GONE, /* asked, and nobody answers */
};

struct upstream_facts {
    enum upstream_role role;
    bool read_only;           /* default_transaction_read_only of a primary */
    uint64_t lag_us;          /* of a standby: age of what it replayed last, 0 when it has all;
                               * UINT64_MAX: not known */
    uint32_t connections_max; /* max_connections less what is reserved for superusers and others;
                               * 0: not known */
    uint64_t rtt_us;          /* of the probe's own question */
    uint64_t told_us;         /* when; 0: never */
};
/* From the control loop. */
void upstream_tell_facts(struct upstream *u, const struct upstream_facts *facts);
/* Any thread. */
void upstream_facts(struct upstream *u, struct upstream_facts *out);
/* The role alone, without the lock: for the data path. */
enum upstream_role upstream_role(const struct upstream *u);
const char *upstream_role_name(enum upstream_role role);

/* ---- locks ------------------------------------------------------------------------------------
 */

enum {
    FACTS_EDGES_MAX = 1024, /* of one answer; more are left out */
    FACTS_INVERSIONS = 16,  /* remembered for the log */
    FACTS_WHO_BYTES = 160,
    FACTS_CANCEL_US = 3 * US_PER_S, /* waited for so long before a statement is cancelled: a row
                                     * lock of a moment is no reason, a page that hangs is */
};

/* One backend waits for another's lock (pg_blocking_pids()); both are process ids of PostgreSQL. */
struct upstream_block {
    uint32_t waiter_pid, blocker_pid;
};
/* All that wait at this moment; edges_n 0: nobody. Where a protected class's backend waits,
 * directly or through others, for a lease of a sheddable class, that lease is no longer paced, or
 * its statement is marked for cancelling, as its class's on_lock_inversion says. Returns how many
 * leases were newly found so. */
uint32_t upstream_tell_blocks(struct upstream *u, const struct upstream_block *edges,
                              uint32_t edges_n, uint64_t now_us);

enum upstream_inversion_act {
    INVERSION_ALERT,  /* nothing was done: so configured, or the breaker only observes */
    INVERSION_UNPACE, /* its stream is not held back until nobody waits for it any more */
    INVERSION_CANCEL, /* its running statement is to be cancelled */
    INVERSION_IDLE,   /* to be cancelled, but it is idle in its transaction */
    INVERSION_ACTS_N,
};
/* A lease of a sheddable class that protected ones wait for. */
struct upstream_inversion {
    uint64_t at_us, since_us;
    enum upstream_inversion_act act;
    bool observed; /* the class's breaker only observes: it would have been done */
    char blocker_class[CLASS_NAME_BYTES], waiter_class[CLASS_NAME_BYTES];
    char blocker[FACTS_WHO_BYTES], waiter[FACTS_WHO_BYTES]; /* database/user */
    uint32_t blocker_pid, waiter_pid;
    uint32_t waiters_n; /* protected leases that wait for any lock */
};
/* The next one after *cursor (0 at first), for the log. False: none. */
MUST_USE bool upstream_inversion(struct upstream *u, uint32_t *cursor,
                                 struct upstream_inversion *out);
const char *upstream_inversion_act_name(enum upstream_inversion_act act);

/* For people. */
struct facts_stats {
    struct upstream_facts told;
    uint32_t places_n; /* servers we may have: as configured, or told; 0: not known */
    uint32_t shared_n; /* of them, what percentages are of */
    bool stalled;
    uint64_t stalls_n;
    uint32_t lock_waiters_n, inverted_n;
    uint64_t inversions_n[CLASSES_MAX][INVERSION_ACTS_N];
};
void upstream_facts_stats(struct upstream *u, struct facts_stats *out);

/* ---- what the probe is asked for, and how it fares --------------------------------------------
 */

struct upstream_probe_view {
    bool wanted;       /* there are clients */
    bool runs;         /* some pool is not paused */
    bool suspicious;   /* pressure, or the latency breaker is not CLOSED: look at locks often */
    bool locked;       /* protected leases were waiting for locks at the last look ... */
    bool piled_up;     /* ... most of them: nobody is blamed for what queues behind them */
    bool login_wanted; /* the error breaker waits for a login: upstream_probe_done() */
    bool stalled;
    uint64_t protected_n; /* observations of protected statements so far */
};
void upstream_probe_view(struct upstream *u, struct upstream_probe_view *out);
/* Whether there is a probe that can log in: then the error breaker's question is its, and no
 * pool's. */
void upstream_tell_prober(struct upstream *u, bool able);
/* The answer to login_wanted: a login and a question were answered, or refused by somebody alive;
 * or nobody was there. */
void upstream_probe_done(struct upstream *u, bool alive, uint64_t now_us);
/* A connection of the probe's was refused or never accepted: evidence like any other. */
void upstream_tell_unreachable(struct upstream *u, uint64_t now_us);
/* The probe's questions are not answered since then; 0: they are. accepted: and a connection it has
 * begun since was accepted, so that somebody is there. */
void upstream_tell_hanging(struct upstream *u, uint64_t since_us, bool accepted);
/* The probe's own statement, as one more of the protected. */
void upstream_tell_sample(struct upstream *u, uint64_t fingerprint, uint64_t dispatched_us,
                          uint64_t service_us);

/* ---- for upstream.c, under the lock -----------------------------------------------------------
 */

/* The places that follow from what was told, or from new options. */
void facts_learn(struct upstream *u);
/* Once a tick: running_n statements in flight, the last byte of any of them. */
void facts_tick(struct upstream *u, uint32_t running_n, uint64_t byte_us, uint64_t now_us);
/* Most protected leases wait for locks: what queues behind them is no sign of load. */
MUST_USE bool facts_locked(const struct upstream *u);
/* Once a tick. Most protected leases wait for one outsider's lock, or did a moment ago: users who
 * have queued up meanwhile are slow for as long again, and holding bulk would seem to help. What
 * is in flight is not judged then, for 5 s at the beginning of a long one, and again
 * after it; in between only those count that do not wait, and nobody stays held for a lock's sake.
 * A hot row, where who waits for whom changes with every look, is none of that: there load tells.
 */
MUST_USE bool facts_forgives(struct upstream *u, uint64_t now_us);

#endif
