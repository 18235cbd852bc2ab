/* What a run is made of: databases, proxies before them, users and bulk jobs behind those.
 *
 *      users (users.c)  ──tx_ask──>  proxy: its policy decides  ──proxy_launch──>  database
 *      bulk  (bulk.c)   <──ended──   (policy.h)                 <──statement.ended──
 *
 * A `struct tx` is one transaction of one client, of one statement. Its owner (users, bulk) asks
 * for a server and is told how it ended; between the two the policy has it, first waiting, then
 * with a `struct call`: the statement in the database, which outlives its client where that one
 * gives up. One proxy has one database behind it; a database may have many proxies before it. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "bench/sim/database.h"
#include "bench/sim/measure.h"
#include "pool/pool.h"

enum {
    WORLD_TICK_US = 100 * US_PER_MS,
    WORLD_FINGERPRINTS = 8, /* kinds of statements of users */
};

enum sim_class { SIM_USERS, SIM_BULK, SIM_BACKUP, SIM_CLASSES };

struct world;
struct proxy;
struct policy;
struct call;
struct scenario;

enum tx_state { TX_OUT, TX_WAITING, TX_RUNNING };
enum tx_end {
    TX_DONE,
    TX_REFUSED,   /* nothing of it was begun */
    TX_CANCELLED, /* by the policy */
    TX_LOST,      /* the server died under it */
};

struct tx {
    /* set by the owner before tx_ask() */
    struct proxy *proxy;
    enum sim_class class;
    uint32_t type_i;          /* of users' statements: their fingerprint */
    struct statement request; /* what the statement shall be; copied into the call */
    uint64_t group;           /* sessions of one parallel job; 0: none */
    uint32_t key_i;           /* who asks, for fairness */
    bool disguised;           /* bulk that says it is a user */
    bool writes;              /* its statement changes something */
    uint64_t client_reads_us; /* users: the client takes so long to read its result */
    void (*ended)(struct tx *tx, enum tx_end how);
    /* the proxy's */
    enum tx_state state;
    uint64_t asked_us;
    struct call *call; /* RUNNING */
    struct pool_waiter waiter;
    struct event event;     /* a frozen proxy sees it later */
    struct tx *prev, *next; /* queue of a simple policy */
};

/* A statement on its way through the database. */
struct call {
    struct statement st;
    struct proxy *proxy;
    struct tx *tx; /* NULL: its client has gone */
    enum sim_class class;
    uint32_t type_i;
    uint64_t client_reads_us;
    void *server; /* the policy's */
    uint64_t launched_us;
    uint64_t answered_us;     /* the database has done its part; 0: not yet */
    uint64_t unread_since_us; /* STREAM: bytes wait in the sockets since */
    enum statement_end how;
    bool cancelled;
    struct event event;
    struct call *prev, *next; /* the proxy's of this class, oldest first */
};

struct proxy {
    struct world *world;
    struct database *database;
    uint32_t proxy_i;
    const struct policy *policy;
    void *own;                       /* the policy's */
    struct call *calls[SIM_CLASSES]; /* that still have a client, or wait for their cancel */
    uint32_t calls_n[SIM_CLASSES];
    uint64_t frozen_until_us;
    uint64_t bytes_n[SIM_CLASSES];
    uint64_t bytes_before_n; /* of bulk, when the event began */
    struct event tick;
};

struct world_opts {
    const struct scenario *scenario;
    const struct policy *policy;
    uint64_t seed;
    bool trace;
    uint64_t byte_rate; /* pgweir: a fixed rate of all bulk, and no breaker; 0: breakers */
};

struct users;
struct bulk;

struct world {
    struct world_opts opts;
    struct engine engine;
    struct measure measure;
    struct database *databases;
    uint32_t databases_n;
    struct proxy *proxies;
    uint32_t proxies_n;
    struct users *users; /* linked */
    struct bulk *bulk;
    struct sleeper *sleepers; /* of acts: sessions that are no users */
    struct plan *plan;        /* the scenario's own events */
    uint64_t length_us;
    double size; /* of each database and its users; 1: as everywhere */
    bool ending; /* nobody begins anything new */
    /* totals of the policies */
    uint64_t cancels_n, orphans_n, refused_n[SIM_CLASSES];
    uint32_t pids_n;            /* backends ever started */
    uint64_t stream_gap_us_max; /* longest time a running stream was not read */
    const char *broken;         /* a promise that was not kept, in words */
};

double world_s(const struct world *w);

/* ---- for owners of transactions ---- */

/* tx is OUT, and is until ended() is called back: perhaps from inside. */
void tx_ask(struct tx *tx);
/* Its client gives up: nothing will be called back. */
void tx_abandon(struct tx *tx);

/* ---- for policies ---- */

/* Begins the statement of a waiting transaction. */
struct call *proxy_launch(struct tx *tx, void *server);
void proxy_refuse(struct tx *tx);
/* Cancels a statement, whoever it belongs to. */
void proxy_cancel(struct call *c);
/* The proxy passes bytes of a stream on. */
void proxy_read(struct call *c, uint64_t bytes_n);

/* ---- for runs and scenarios ---- */

void proxy_open(struct proxy *p, uint64_t first_tick_us);
void proxy_close(struct proxy *p);
/* The database dies, and comes back. */
void world_kill(struct world *w, struct database *d);
void world_restore(struct world *w, struct database *d, double cold);
void proxy_freeze(struct proxy *p, uint64_t for_us);
PRINTF_LIKE(2, 3) void world_trace(const struct world *w, const char *fmt, ...);
/* A promise is broken: remembered, and said at the end. */
void world_broken(struct world *w, const char *what);

#endif
