/* Who holds which server connection, who waits, and who is next.
 *
 * One `struct upstream` per PostgreSQL instance (host:port) with one lock; below it one `struct pool`
 * per (database, user, replication mode). This folder knows no sockets: the proxy embeds
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
#include "pool/class.h"

struct upstream;
struct pool;
struct pool_waiter;

/* ---- servers ---------------------------------------------------------------------------- */

enum pool_server_state {
    POOL_SERVER_NONE,    /* not known to a pool */
    POOL_SERVER_OPENING, /* its place is counted; connecting or logging in */
    POOL_SERVER_IDLE,    /* clean, in its home loop's idle list */
    POOL_SERVER_LEASED,  /* granted; perhaps still in the mail between two loops */
    POOL_SERVER_CLOSING, /* told to close; its place is counted until pool_closed() */
};

/* Embedded in the proxy's server connection, which owns it. */
struct pool_server {
    /* written by the loop that owns the server, read by the tick (relaxed) */
    _Atomic uint64_t stmt_started_us; /* 0: no statement is running */
    _Atomic uint64_t stmt_fingerprint;
    _Atomic uint64_t last_byte_us; /* last result byte passed on to the client */
    _Atomic uint64_t stmt_bytes;   /* result bytes of the running statement */
    _Atomic bool stmt_copy_out;    /* CopyOutResponse seen: streams from the first byte */
    uint16_t worker;               /* the loop it sits in, or is in the mail to */
    /* under upstream's lock */
    enum pool_server_state state;
    struct pool *pool;
    struct pool_server *prev, *next; /* idle list of (pool, worker) | leased list of upstream */
    uint64_t opened_us, idle_since_us, leased_us;
    uint8_t class_i; /* of the lease: whose counts it is in */
    uint32_t key_i;  /* of the lease: fairness key */
    struct pool_addr *addr;
};

/* ---- waiters ---------------------------------------------------------------------------- */

enum pool_refusal {
    POOL_REFUSED_NOT,
    POOL_REFUSED_QUEUE_FULL,   /* class's queue_limit: newest of the key with the longest backlog */
    POOL_REFUSED_DEADLINE,     /* waited past deadline_us (query_wait_timeout or queue_deadline) */
    POOL_REFUSED_SHED,         /* latency breaker: this class does not get in for now */
    POOL_REFUSED_EXPIRED,      /* standing queue: too old to be of use */
    POOL_REFUSED_DOWN,         /* error breaker open for longer than the grace; see pool_down_reason() */
    POOL_REFUSED_ADDRESS,      /* cap per client address */
    POOL_REFUSED_SHUTDOWN,     /* database disabled, killed or removed, or process shutting down */
};

/* Embedded in the session. Must stay put from pool_acquire() until granted, refused or cancelled. */
struct pool_waiter {
    /* set by the caller before pool_acquire() */
    uint16_t worker;       /* whose loop the session lives in */
    uint8_t class_i;       /* what pool/class says of this transaction */
    uint32_t key_i;        /* fairness key within the class: hash of user and address, any value */
    uint64_t deadline_us;  /* absolute; 0: the class's own queue_deadline only */
    struct pool_addr *addr; /* cap per client address, from pool_addr_get(); may be NULL */
    /* set by the pool */
    struct pool *pool;
    struct pool_server *server;  /* granted */
    enum pool_refusal refusal;
    uint64_t since_us;           /* joined the queue */
    struct pool_waiter *prev, *next;
    bool queued; /* under upstream's lock */
};

enum pool_verdict { POOL_GRANTED, POOL_QUEUED, POOL_REFUSED };

/* ---- what the caller has to do after a call, in order ------------------------------------ */

enum pool_act {
    POOL_GRANT,  /* waiter now holds server; deliver to waiter->worker, moving the server from
                  * server->worker first where they differ (set server->worker when it is posted) */
    POOL_REFUSE, /* waiter left the queue for waiter->refusal; deliver to waiter->worker */
    POOL_OPEN,   /* open a connection for pool in loop worker; ends in pool_opened() or pool_open_failed() */
    POOL_CLOSE,  /* server (state CLOSING) must be closed by the loop it sits in; ends in pool_closed() */
};
struct pool_action {
    enum pool_act act;
    uint16_t worker; /* whose loop carries it out */
    struct pool_waiter *waiter;
    struct pool_server *server;
    struct pool *pool;
};
enum { POOL_ACTIONS_MAX = 32 }; /* what one call may hand back; the rest follows from pool_dispatch() */
struct pool_actions {
    uint32_t n;
    bool more; /* call pool_dispatch() once these are carried out */
    struct pool_action at[POOL_ACTIONS_MAX];
};

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
/* The lease moves to a lower class for its rest; may take that class over its cap, never blocks. */
void pool_demote(struct pool_server *s, uint8_t class_i, uint64_t now_us, struct pool_actions *actions);
/* Result bytes passed to a client, added up per class; callers batch up to 64 KiB. */
void pool_bytes(struct pool_server *s, uint64_t bytes_n);
/* Ends the lease of a provably clean server: it is idle, or a waiter's, afterwards. obs may be NULL.
 * The pool may answer POOL_CLOSE for this server (lifetime, dirty pool). */
void pool_release(struct pool_server *s, const struct pool_observation *obs, uint64_t now_us,
                  struct pool_actions *actions);

/* ---- the life of a server ------------------------------------------------------------------ */

/* Login done: s (state NONE) is the answer to one POOL_OPEN of p; goes to a waiter or idle. */
void pool_opened(struct pool *p, struct pool_server *s, uint16_t worker, uint64_t now_us,
                 struct pool_actions *actions);
enum pool_failure {
    POOL_FAILED_CONNECT,  /* refused, unreachable, timed out, EOF, TLS: counts for the error breaker */
    POOL_FAILED_STARTING, /* 57P01-57P03, 58xxx at login: counts for the error breaker */
    POOL_FAILED_FULL,     /* 53300: capacity, not health; lowers the upstream's budget for a while */
    POOL_FAILED_LOGIN,    /* any other refusal: this pool backs off, nobody else */
};
/* The answer to one POOL_OPEN that came to nothing: frees its place. text is kept (copied) for
 * clients refused while the pool backs off (server_login_retry). */
void pool_open_failed(struct pool *p, enum pool_failure why, const struct err *text, uint64_t now_us,
                      struct pool_actions *actions);
/* s was closed, or died. In state LEASED or CLOSING: frees the lease and the place. In state IDLE:
 * takes it off the list and frees the place. Returns true when the caller may free s now; false when
 * somebody else was granted s a moment ago and a hand-over letter for it is on its way to this loop:
 * keep the dead shell, and call pool_closed() again when the letter comes. `leased_here` says that
 * the caller's loop is the one that holds the lease. */
MUST_USE bool pool_closed(struct pool_server *s, bool leased_here, uint64_t now_us,
                          struct pool_actions *actions);

/* ---- control loop ---------------------------------------------------------------------------- */

/* Every 100 ms per upstream: pressure, breakers, deadlines, ageing, budget. */
void pool_tick(struct upstream *u, uint64_t now_us, struct pool_actions *actions);
/* About 3 times a second: server_lifetime, server_idle_timeout, min_pool_size, login back-off. */
void pool_sweep(struct upstream *u, uint64_t now_us, struct pool_actions *actions);
/* Grants what can be granted; for actions->more. */
void pool_dispatch(struct upstream *u, uint64_t now_us, struct pool_actions *actions);

#endif
