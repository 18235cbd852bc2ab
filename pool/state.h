/* What the files of this folder share: the upstream and its pools from the inside.
 *
 * Locks: `lock` of the upstream guards everything in it and in its pools that is not marked
 * otherwise. Files, each calling only those below it:
 *
 *     pool.c  pool_control.c  upstream.c     what callers ask; the tick
 *     cull.c                                 whom a cancel hits
 *     dispatch.c  facts.c                    who gets the next server; what the probe found out
 *     places.c                               idle servers, opening, closing, lanes on the move
 *     groups.c                               sessions that need servers together
 *     rights.c  address.c                    what a class may lease; who shares an address
 *     queue.c  due.c  caps.c                 plain containers
 *
 * registry.c is birth and death, show.c copies for people.
 */
#ifndef POOL_STATE_H
#define POOL_STATE_H

#include "breaker/breaker.h"
#include "breaker/error_breaker.h"
#include "pool/brake.h"
#include "pool/caps.h"
#include "pool/due.h"
#include "pool/facts.h"
#include "pool/finish.h"
#include "pool/groups.h"
#include "pool/hash.h"
#include "pool/lock.h"
#include "pool/pace.h"
#include "pool/pool.h"
#include "pool/queue.h"
#include "pool/registry.h"
#include "pool/retry.h"
#include "pool/show.h"
#include "pool/upstream.h"

enum {
    POOL_FLOOR_WAIT_US = 10 * US_PER_S, /* a class that holds nothing here goes first after that */
    POOL_AGEING_US = 2 * US_PER_S,      /* of waiting weigh as much as one priority */
    POOL_MOVE_US = US_PER_S, /* a place moves to another pool for a claim so much stronger: less,
                              * and two busy pools would take turns closing and opening */
    POOL_GRACE_US =
        8 * US_PER_S, /* a restart takes 3 to 5 s, and whoever is refused just as it ends
                       * is lost for nothing: simulated, 8 % of users instead of 5 */
    POOL_RETRY_US_MIN = 100 * US_PER_MS,
    POOL_RETRY_US_DOWN = US_PER_S, /* nobody there: ask often, so that recovery is seen at once */
    POOL_INFLIGHT_MAX = 256,       /* statements looked at by the estimator; any part will do */
    POOL_RATE_TICKS = 10,          /* bytes per second are of the last second */
    POOL_STEPS_MAX = 512,          /* lanes tried in one call; the rest follows by `more` */
    POOL_SCOPES_WOKEN = 64,        /* scopes looked at in one tick */
    POOL_SWEEP_MAX = 256,          /* pools looked at in one sweep */
};

enum scope_kind { SCOPE_UPSTREAM, SCOPE_DATABASE, SCOPE_USER };
_Static_assert(POOL_SCOPES == SCOPE_USER + 1, "idle servers have a link for each scope");

/* One upstream's view of a cap: which of its idle servers could make room, which lanes want it. */
struct scope {
    struct cap *cap;
    enum scope_kind kind;
    struct pool_server *idle_first, *idle_last; /* longest idle first; kept only while cap is set */
    struct lane *blocked[CLASSES_MAX];
    uint32_t blocked_mask;
    uint32_t blocked_n;        /* lanes */
    uint32_t server_n;         /* of this upstream, opening and closing ones included */
    uint32_t closing_n;        /* servers on their way out, for whatever reason */
    uint32_t evicting_n;       /* servers being closed for them */
    struct scope *prev, *next; /* upstream's list of scopes with blocked lanes */
    /* registry's mutex */
    struct named_cap *named; /* NULL for the upstream's own */
    uint32_t refs_n;
    UT_hash_handle hh;
};

struct idle_list {
    struct pool_server *first, *last; /* newest first */
};

enum pool_chore {
    POOL_CHORE_CLOSE = BIT(0),  /* idle servers that must not be used any more */
    POOL_CHORE_REFUSE = BIT(1), /* waiters that will not be served here */
};

struct pool {
    /* read-only */
    struct upstream *upstream;
    struct pool_registry *registry;
    char *database, *user;
    enum pool_replication replication;
    uint32_t worker_n;
    struct scope *scopes[POOL_SCOPES];
    struct cap *caps[POOL_SCOPES];
    /* atomics */
    _Atomic(void *) owner;
    _Atomic uint32_t holds_n;
    /* registry's mutex */
    UT_hash_handle hh;
    char *key; /* of the hash */
    /* upstream's lock guards all below */
    struct pool_opts opts;
    enum pool_run run;
    struct shares shares;
    uint32_t clients_n[CLASSES_MAX];
    uint32_t clients_all_n;
    struct lane *lanes[CLASSES_MAX]; /* made with the classes, never moved */
    uint32_t lanes_mask;             /* with waiters */
    uint32_t waiting_n;              /* in lanes; the parked are not in them */
    uint32_t server_n;               /* opening + idle + leased + closing */
    uint32_t opening_n, idle_n, closing_n;
    uint32_t opening_min_n; /* of them for min_pool_size: for no class */
    uint32_t opening_old_n; /* begun before the pool was marked dirty */
    uint32_t epoch_n;       /* counts RECONNECTs */
    uint64_t lifetime_closed_us;
    uint64_t used_us; /* last time somebody came */
    /* failures of logins */
    uint32_t failed_n; /* in a row */
    enum pool_failure failed_why;
    uint64_t failed_since_us, retry_at_us;
    bool wanted; /* somebody was refused since: go on trying */
    struct err failed;
    bool reserve_open;
    uint32_t chores;                          /* bits of enum pool_chore */
    struct pool *prev, *next;                 /* upstream's pools */
    struct pool *chore_prev, *chore_next;     /* ... with chores */
    struct pool *down_prev, *down_next;       /* ... that failed to open a server */
    struct pool *spare_prev, *spare_next;     /* ... that may need their reserve */
    struct pool *grouped_prev, *grouped_next; /* ... with admitted groups */
    uint32_t groups_n;
    struct pool_group groups[POOL_GROUPS_MAX];
    bool choring, down, spare;
    uint64_t idle_mask; /* workers with idle servers */
    struct idle_list idle[];
};

/* A class as one upstream sees it, beside its queue and its shares. */
struct tier {
    uint32_t clients_n;
    uint64_t vtime_us;
    int breaker_i;      /* -1: protected */
    bool held, limited; /* by the breaker, at the last tick */
    bool closed;        /* outside its hours */
    struct finish finish;
    uint32_t reference_n; /* sum of what pools with clients of it would let it lease */
    _Atomic uint64_t bytes_n;
    uint64_t bytes_seen_n; /* at the last tick */
    uint64_t rate_ring[POOL_RATE_TICKS];
    uint64_t bytes_per_s;
    struct pace pace;   /* of its running results; taken from without the lock */
    struct brake brake; /* of its next statements; read without the lock */
    double wanted;      /* its leases that run a statement, or rest before one: a mean of 0.5 s */
    uint32_t resting_n; /* of them, at the last tick */
    /* totals */
    uint64_t granted_n, granted_at_once_n, left_n, lease_us, wait_us, wait_us_max;
    uint64_t refused_n[POOL_REFUSALS_N];
    struct retry_budget retry;
    uint64_t culled_n; /* statements marked to be cancelled */
    uint64_t wait_n[SHOW_WAIT_BUCKETS];
};

/* What the probe told, and what follows from it. See facts.c. */
struct facts {
    struct upstream_facts told;
    uint32_t places_n;        /* servers PostgreSQL has room for; 0: not known */
    uint32_t shared_n;        /* of them, those that percentages are of: less headroom for others */
    bool prober, login_asked; /* the probe does the error breaker's logins; one is wanted */
    uint64_t hanging_us;      /* the probe hangs since; 0: it does not */
    bool accepted, frozen;    /* its connection was accepted all the same; nobody hears anything */
    uint64_t byte_us;         /* last sign of life of any lease */
    bool stalled;
    uint64_t stalled_us, stalls_n;
    uint64_t protected_n;      /* observations of protected statements */
    uint32_t lock_waiters_n;   /* protected leases that waited for locks at the last look */
    uint32_t inverted_n;       /* leases they waited for */
    uint32_t outsider_pid;     /* whom some of them waited for, and is no lease of ours ... */
    uint32_t outsider_looks_n; /* ... at so many looks in a row; 0: nobody */
    uint64_t outsider_us;      /* most of them do since; 0: they do not */
    uint64_t forgiven_us; /* until then no class is blamed for it, nor for what has queued up */
    uint64_t inversions_n[CLASSES_MAX][INVERSION_ACTS_N];
    struct upstream_inversion inversions[FACTS_INVERSIONS]; /* ring */
    uint32_t inversions_all_n;                              /* free-running */
};

struct upstream {
    /* read-only */
    char *host;
    uint16_t port;
    uint16_t worker_first_i, worker_n;
    /* atomics */
    _Atomic uint32_t shed_mask;    /* classes whose clients do not get in: the breaker is open */
    _Atomic uint32_t cancelling_n; /* cancel requests under way */
    _Atomic uint64_t standing;     /* target.c's */
    /* registry's mutex */
    UT_hash_handle hh;
    struct scope *databases, *users; /* uthash by cap */
    /* addresses_lock guards these two */
    struct lock addresses_lock;
    struct pool_addr *addresses, *addresses_left; /* left: nobody's any more, but still leasing */
    /* atomic */
    _Atomic uint32_t role; /* enum upstream_role */
    /* lock guards all below */
    struct lock lock;
    struct upstream_opts opts;
    uint32_t class_n;
    struct class_opts classes[CLASSES_MAX];
    struct cap cap;
    struct scope scope;
    struct scope *blocked_scopes;
    uint32_t blocked_scopes_n;
    struct shares shares;
    struct tier tiers[CLASSES_MAX];
    struct queue queues[CLASSES_MAX];
    uint64_t vclock_us;
    uint32_t ready_mask, stalled_mask; /* classes with such lanes */
    uint32_t waiting_n;
    uint32_t pools_n, server_n, connecting_n;
    uint16_t open_worker; /* whose turn it is to open for min_pool_size */
    struct due due;
    struct pool_server *leased;
    struct pool *pools, *sweep_at, *choring, *down, *spare, *grouped;
    struct pool_waiter *asking; /* pool_acquire()'s own, while it runs */
    bool asking_granted;
    struct pool *probing; /* its next answer is the error breaker's probe's */
    struct pool *opening_last;
    bool probe_wanted;
    bool passes_sheddable;
    bool serving; /* the error breaker is closed or ramping */
    uint64_t serving_since_us;
    uint32_t full_n; /* budget after 53300; 0: as configured */
    uint64_t full_until_us;
    uint32_t breaker_order[CLASSES_MAX]; /* the breaker's index -> class */
    uint32_t retries_n;                  /* clients told when to come again */
    struct facts facts;
    uint64_t opened_n, open_failed_n, died_n, evicted_n, ticks_n, tick_late_n;
    struct estimator estimator;
    struct breaker breaker;
    struct error_breaker error_breaker;
    struct estimator_inflight inflight[POOL_INFLIGHT_MAX];
};

/* Leases, and waiters in lanes, of one client address. */
struct pool_addr {
    /* read-only */
    struct upstream *upstream;
    uint8_t bytes[16];
    uint32_t bytes_n;
    /* addresses_lock */
    uint32_t refs_n;
    struct pool_addr *prev, *next; /* addresses_left */
    UT_hash_handle hh;
    /* upstream's lock */
    uint32_t admitted_n;
    struct pool_waiter *parked;
};

enum { TURN_SCOPES_MAX = 8 };

/* What one call carries along. */
struct turn {
    struct upstream *u;
    uint64_t now_us;
    struct pool_actions *actions;
    struct scope *asked[TURN_SCOPES_MAX]; /* where lanes were blocked in this turn */
    uint32_t asked_n;
};

#endif
