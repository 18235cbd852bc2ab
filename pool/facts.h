/* What the probe has found out about one PostgreSQL instance, told to its upstream: how many
 * connections it allows, whether it takes writes, who waits there for whose locks.
 *
 * The upstream draws the conclusions (budget, pacing inversion, stalled); the probe only looks. */
#ifndef POOL_FACTS_H
#define POOL_FACTS_H

#include "breaker/base.h"

struct upstream;
struct pool_actions;

enum upstream_role {
    UPSTREAM_ROLE_UNKNOWN,
    UPSTREAM_PRIMARY,
    UPSTREAM_STANDBY,
    UPSTREAM_GONE, /* asked, and nobody answers */
};

struct upstream_facts {
    enum upstream_role role;
    bool read_only;  /* default_transaction_read_only of a primary */
    uint64_t lag_us; /* of a standby: age of what it replayed last, 0 when it has all;
                      * UINT64_MAX: not known */
    uint32_t
        connections_max; /* max_connections less superuser_reserved_connections; 0: not known */
    uint64_t rtt_us;     /* of the probe's own question */
    uint64_t told_us;    /* when; 0: never */
};
/* From the control loop. */
void upstream_tell_facts(struct upstream *u, const struct upstream_facts *facts);
/* Any thread. */
void upstream_facts(struct upstream *u, struct upstream_facts *out);
/* The role alone, without the lock: for the data path. */
enum upstream_role upstream_role(const struct upstream *u);

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

#endif
