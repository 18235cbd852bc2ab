/* Who holds which server connection, who waits, and who is next.
 *
 * One `struct upstream` per PostgreSQL instance (host:port) with one lock; below it one `struct
 * pool` per (database, user, replication mode). This folder knows no sockets: the proxy embeds
 * `struct pool_server` in its server connection and `struct pool_waiter` in its session, calls in,
 * and carries out the actions it is handed back after the lock has been dropped.
 *
 *      session --pool_acquire--> [granted] ------------------> relay -> pool_release
 *                 |                                                        |
 *                 +--> queued ...... POOL_GRANT / POOL_REFUSE in actions <-+ (of anyone's call)
 *
 * A lease belongs to the server, not to the waiter: after a grant the waiter is free again, and the
 * client may vanish while its server is still being cancelled or cleaned.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "breaker/base.h"
#include "pool/brake.h"
#include "pool/class.h"
#include "pool/pace.h"

struct upstream;
struct pool;
struct pool_waiter;
struct pool_addr; /* pool/upstream.h: the leases of one client address */

/* ---- what a pool may have ---------------------------------------------------------------- */

struct pool_opts {
    uint32_t size_n;           /* pool_size; 0: no limit of its own */
    uint32_t min_n;            /* min_pool_size, kept while the pool has clients ... */
    bool min_always;           /* ... or always (the database has a forced user) */
    uint32_t reserve_n;        /* reserve_pool_size, on top of size_n ... */
    uint64_t reserve_after_us; /* ... once its oldest waiter has waited so long */
    uint64_t lifetime_us;      /* server_lifetime; 0: used once */
    uint64_t idle_us;          /* server_idle_timeout; 0: never */
    uint64_t login_retry_us;   /* server_login_retry: the longest pause between two attempts */
    bool round_robin;          /* server_round_robin: the longest idle server first */
    uint32_t max_db_n;         /* max_db_connections; 0: none. The last pool set decides for all */
    uint32_t max_user_n;       /* max_user_connections, likewise */
};
void pool_opts_defaults(struct pool_opts *opts);
MUST_USE bool pool_opts_check(const struct pool_opts *opts, struct err *err);

/* ---- servers ---------------------------------------------------------------------------- */

enum pool_server_state {
    POOL_SERVER_NONE,    /* not known to a pool */
    POOL_SERVER_OPENING, /* its place is counted; connecting or logging in */
    POOL_SERVER_IDLE,    /* clean, in its home loop's idle list */
    POOL_SERVER_LEASED,  /* granted; perhaps still in the mail between two loops */
    POOL_SERVER_CLOSING, /* told to close; its place is counted until pool_closed() */
};

/* Why a running statement is to be cancelled. */
enum pool_cull {
    POOL_CULL_NOT,
    POOL_CULL_OVERLOAD, /* the latency breaker's wish */
    POOL_CULL_LOCKS,    /* protected statements wait for its locks (on_lock_inversion = cancel) */
    POOL_CULL_OPERATOR, /* CANCEL on the console */
};
enum { POOL_CULLS_N = POOL_CULL_OPERATOR + 1 };

enum { POOL_SCOPES = 3 }; /* what an idle server may be evicted for: upstream, database, user */

/* Embedded in the proxy's server connection, which owns it. Starts zeroed. */
struct pool_server {
    /* written by the loop that owns the server, read by the tick (relaxed) */
    _Atomic uint64_t stmt_started_us; /* 0: no statement is running */
    _Atomic uint64_t stmt_fingerprint;
    /* of it: how long we did not read for its client's sake, or held it back; and since when we do
     * not now, 0: we read. Not the database's time */
    _Atomic uint64_t unread_us, unread_since_us;
    _Atomic uint64_t last_byte_us; /* last result byte passed on to the client */
    _Atomic uint64_t stmt_bytes;   /* result bytes of the running statement */
    _Atomic bool stmt_copy_out;    /* CopyOutResponse seen: streams from the first byte */
    _Atomic uint64_t paced_tx_us;  /* start of the transaction whose result is paced; 0: none is */
    _Atomic bool rests;            /* nothing of it runs: its next statement is held back */
    _Atomic bool tx_writes;        /* its transaction may have changed something, or may yet */
    uint16_t worker;               /* the loop it sits in, or is in the mail to */
    /* written under upstream's lock, read by the loop that leases it (relaxed); cleared by each
     * new lease */
    _Atomic uint64_t cancel_stmt_us; /* the statement that started then is to be cancelled; 0: none.
                                      * Written by cull_mark() (pool/cull.h) alone, after: */
    _Atomic uint8_t cancel_why;      /* enum pool_cull */
    _Atomic bool unpaced;            /* others wait for its locks: its stream is not held back */
    /* set before pool_opened() */
    uint32_t backend_pid; /* of its cancel key, to find it among those who block; 0: not told */
    /* under upstream's lock */
    uint64_t group; /* of the lease: from its waiter; 0: none */
    enum pool_server_state state;
    struct pool *pool;
    struct pool_server *prev, *next; /* idle list of (pool, worker) | leased list of upstream */
    struct pool_server *group_prev, *group_next; /* the leases of its group */
    uint64_t opened_us, idle_since_us, leased_us;
    uint8_t class_i; /* of the lease: whose counts it is in */
    uint32_t key_i;  /* of the lease: fairness key */
    struct pool_addr *addr;
    uint32_t charged_us;   /* what its lease was expected to cost its lane and key */
    uint32_t epoch_n;      /* of the pool when it was opened: older ones are closed (RECONNECT) */
    uint64_t lock_wait_us; /* when it was last seen waiting for a lock */
    uint64_t inverted_us;  /* protected ones wait for its locks since; older than leased_us: no */
    uint64_t inverted_seen_us; /* ... at the last look */
    bool inverted_cancelled;   /* ... and its statement was marked for it */
    uint8_t lru_scopes;        /* bits: in the eviction lists of these scopes */
    uint8_t evicted_for;       /* 1 + scope it is being closed for; 0: for nobody */
    struct pool_server *lru_prev[POOL_SCOPES], *lru_next[POOL_SCOPES];
    /* set by the caller before pool_closed(): the connection ended without being asked to */
    bool died;
};

/* ---- waiters ---------------------------------------------------------------------------- */

enum pool_refusal {
    POOL_REFUSED_NOT,
    POOL_REFUSED_QUEUE_FULL, /* class's queue_limit: newest of the key with the longest backlog */
    POOL_REFUSED_DEADLINE,   /* waited past deadline_us (query_wait_timeout or queue_deadline) */
    POOL_REFUSED_SHED,       /* latency breaker: this class does not get in for now */
    POOL_REFUSED_EXPIRED,    /* standing queue: too old to be of use */
    POOL_REFUSED_DOWN,    /* error breaker open for longer than the grace; see pool_down_reason() */
    POOL_REFUSED_ADDRESS, /* cap per client address */
    POOL_REFUSED_GROUP,   /* its parallel job cannot have all the servers it needs: group_n */
    POOL_REFUSED_CLOSED,  /* outside the hours of its class */
    POOL_REFUSED_SHUTDOWN, /* database disabled, killed or removed, or process shutting down */
};

/* Embedded in the session. Must stay put from pool_acquire() until granted, refused or cancelled.
 */
struct pool_waiter {
    /* set by the caller before pool_acquire() */
    uint16_t worker;        /* whose loop the session lives in */
    uint8_t class_i;        /* what pool/class says of this transaction */
    uint32_t key_i;         /* fairness key within the class: hash of user and address, any value */
    uint64_t deadline_us;   /* absolute; 0: the class's own queue_deadline only. Else the earlier of
                             * both, but: */
    bool deadline_rules;    /* the operator wrote it: the class's own does not count */
    uint64_t group;         /* sessions of one parallel job (pg_dump -j) share it, and none can end
                             * before all have a server; 0: on its own */
    struct pool_addr *addr; /* cap per client address, from pool_addr_get(); may be NULL */
    /* set by the pool */
    struct pool *pool;
    struct pool_server *server; /* granted */
    enum pool_refusal refusal;
    uint64_t since_us; /* joined the queue */
    bool queued;       /* under upstream's lock, like all below */
    bool member;       /* of a group that is admitted (pool/groups.h) */
    bool over_budget;  /* refused, as too many of its class are: it is to be told later */
    uint32_t group_n;  /* refused with POOL_REFUSED_GROUP: servers its group has and wants */
    bool parked;       /* its address has all it may have: in that one's list, not in the pool's */
    uint64_t due_us;   /* when it is refused; 0: never */
    uint16_t due_slot_i;
    struct pool_waiter *prev, *next;         /* lane, or address */
    struct pool_waiter *all_prev, *all_next; /* class and key, in order of arrival */
    struct pool_waiter *due_prev, *due_next; /* by deadline */
};

enum pool_verdict { POOL_GRANTED, POOL_QUEUED, POOL_REFUSED };

/* ---- what the caller has to do after a call, in order ------------------------------------ */

enum pool_act {
    POOL_GRANT,  /* waiter now holds server; deliver to waiter->worker, moving the server from
                  * server->worker first where they differ (set server->worker when it is posted) */
    POOL_REFUSE, /* waiter left the queue for waiter->refusal; deliver to waiter->worker */
    POOL_OPEN,   /* open a connection for pool in loop worker; ends in pool_opened() or
                    pool_open_failed() */
    POOL_CLOSE,  /* server (state CLOSING) must be closed by the loop it sits in; ends in
                    pool_closed() */
};
struct pool_action {
    enum pool_act act;
    uint16_t worker; /* whose loop carries it out */
    struct pool_waiter *waiter;
    struct pool_server *server;
    struct pool *pool;
    uint8_t class_i; /* POOL_OPEN: of who waits for it; CLASSES_MAX: nobody in particular */
};
enum {
    POOL_ACTIONS_MAX = 32
}; /* what one call may hand back; the rest follows from pool_dispatch() */
struct pool_actions {
    uint32_t n;
    bool more;                 /* call pool_dispatch() once these are carried out */
    struct upstream *upstream; /* whose they are; for that */
    struct pool_action at[POOL_ACTIONS_MAX];
};
/* For a POOL_GRANT whose server sits in another loop than its waiter, action.worker is the
 * server's: it goes there first. */

/* One finished statement, for the estimator. Times in microseconds of the monotonic clock. */
struct pool_observation {
    uint64_t fingerprint;
    uint64_t dispatched_us;
    uint64_t service_us; /* less the time the proxy itself did not read */
};

/* ---- the data path, in the order of the flow. All take upstream's lock once. -------------- */

/* Leases a clean server or joins the queue. POOL_GRANTED: w->server is set and its worker is
 * w->worker (a grant from another loop's list is POOL_QUEUED plus a POOL_GRANT action).
 * POOL_REFUSED: w->refusal says why. `actions` is reset by the call. */
MUST_USE enum pool_verdict pool_acquire(struct pool *p, struct pool_waiter *w, uint64_t now_us,
                                        struct pool_actions *actions);
/* Takes a waiter out of the queue. False: it is not in the queue any more; a POOL_GRANT or
 * POOL_REFUSE for it is already in somebody's hands and must be awaited. */
MUST_USE bool pool_cancel(struct pool_waiter *w, uint64_t now_us, struct pool_actions *actions);
/* A statement ended while the lease goes on. obs may be NULL (then only counts). */
void pool_observe(struct pool_server *s, const struct pool_observation *obs);
/* The lease moves to another class: a lower one for its rest, or for a transaction, and back. May
 * take that class over its cap, never blocks. */
void pool_demote(struct pool_server *s, uint8_t class_i, uint64_t now_us,
                 struct pool_actions *actions);
/* Result bytes passed to a client, added up per class; callers batch up to 64 KiB. */
void pool_bytes(struct pool_server *s, uint64_t bytes_n);
/* What the lease's class may read from this upstream; another one after pool_demote(). No lock:
 * only the loop that holds the lease changes its class. */
struct pace *pool_pace(const struct pool_server *s);
/* What the breaker says to it between two statements; likewise. */
struct brake *pool_brake(const struct pool_server *s);
/* Ends the lease of a provably clean server: it is idle, or a waiter's, afterwards. obs may be
 * NULL. The pool may answer POOL_CLOSE for this server (lifetime, dirty pool). */
void pool_release(struct pool_server *s, const struct pool_observation *obs, uint64_t now_us,
                  struct pool_actions *actions);

/* ---- the life of a server ------------------------------------------------------------------ */

/* Login done: s (state NONE) is the answer to one POOL_OPEN of p; goes to a waiter or idle. */
void pool_opened(struct pool *p, struct pool_server *s, uint16_t worker, uint64_t now_us,
                 struct pool_actions *actions);
enum pool_failure {
    POOL_FAILED_CONNECT,  /* refused, unreachable, timed out, EOF, TLS: counts for the error breaker
                           */
    POOL_FAILED_STARTING, /* 57P01-57P03, 58xxx at login: counts for the error breaker */
    POOL_FAILED_FULL,  /* 53300: capacity, not health; lowers the upstream's budget for a while */
    POOL_FAILED_LOGIN, /* any other refusal: this pool backs off, nobody else */
};
/* The answer to one POOL_OPEN that came to nothing: frees its place. text is kept (copied) for
 * clients refused while the pool backs off (server_login_retry). */
void pool_open_failed(struct pool *p, enum pool_failure why, const struct err *text,
                      uint64_t now_us, struct pool_actions *actions);
/* s was closed, or died. In state LEASED or CLOSING: frees the lease and the place. In state IDLE:
 * takes it off the list and frees the place. Returns true when the caller may free s now; false
 * when somebody else was granted s, or told to close it, a moment ago, and the letter that says so
 * is on its way to this loop: keep the dead shell, and call pool_closed() again when the letter
 * comes. `leased_here` says that the caller holds the lease, or is carrying out the POOL_CLOSE: no
 * letter is under way. Set s->died when nobody asked for the end. */
MUST_USE bool pool_closed(struct pool_server *s, bool leased_here, uint64_t now_us,
                          struct pool_actions *actions);

/* ---- control loop ---------------------------------------------------------------------------- */

/* Every 100 ms per upstream: pressure, breakers, deadlines, ageing, budget. */
void pool_tick(struct upstream *u, uint64_t now_us, struct pool_actions *actions);
/* About 3 times a second: server_lifetime, server_idle_timeout, min_pool_size. */
void pool_sweep(struct upstream *u, uint64_t now_us, struct pool_actions *actions);
/* Grants what can be granted, and goes on with what did not fit: for actions->more. */
void pool_dispatch(struct upstream *u, uint64_t now_us, struct pool_actions *actions);

/* ---- one pool: login, reload, console ------------------------------------------------------ */

/* A client of this class logged in to the pool, left it. What a class has reserved is kept free
 * only while it has clients. pool_client_moved(): its class has changed (SET application_name). */
void pool_client_add(struct pool *p, uint8_t class_i);
void pool_client_remove(struct pool *p, uint8_t class_i, uint64_t now_us,
                        struct pool_actions *actions);
void pool_client_moved(struct pool *p, uint8_t from_i, uint8_t to_i, uint64_t now_us,
                       struct pool_actions *actions);

void pool_set_opts(struct pool *p, const struct pool_opts *opts, uint64_t now_us,
                   struct pool_actions *actions);
enum pool_run {
    POOL_RUNS,
    POOL_PAUSED,   /* PAUSE: waiters wait, leases end in their time, servers are closed then */
    POOL_DISABLED, /* nobody new: waiters and newcomers are refused, leases end in their time */
    POOL_KILLED,   /* KILL: as DISABLED; the caller also ends the leases */
};
void pool_set_run(struct pool *p, enum pool_run run, uint64_t now_us, struct pool_actions *actions);
/* Nothing is leased or being opened: a PAUSE of this pool is complete. */
MUST_USE bool pool_drained(struct pool *p);
/* RECONNECT: idle servers are closed now, leased ones when they are released. */
void pool_mark_dirty(struct pool *p, uint64_t now_us, struct pool_actions *actions);

struct upstream *pool_upstream(const struct pool *p);
const char *pool_database(const struct pool *p);
const char *pool_user(const struct pool *p);
/* What the proxy keeps for a pool: set once after pool_get(), freed in registry_reap()'s callback.
 * pool_set_owner() is a compare-and-swap: the owner that stands after it comes back. */
void *pool_owner(struct pool *p);
void *pool_set_owner(struct pool *p, void *owner);
/* Its last attempt to open a server failed, or its upstream is not served. */
bool pool_is_down(struct pool *p);
/* Why the pool's last attempt to open a server failed; empty when the last one succeeded. */
void pool_down_reason(struct pool *p, struct err *out);

#endif
