/* PostgreSQL as a queueing model: cores and disk channels, both first come first served, and a
 * cache that bulk reading pollutes.
 *
 * A user's statement computes half of its time, reads the pages it does not find in the cache (at
 * most six visits to the disk, 0.4 ms a page), and computes the rest. Bulk works in chunks of a
 * megabyte: 4 ms of a disk channel and 3 ms of a core each, for ever. One that streams stops when
 * its sockets are full and goes on when the proxy has read; one that scans sends nothing until it
 * ends. Each megabyte of bulk in the last seconds (half-life 15 s) drives users' pages out: the
 * share they miss goes from 2 % to 25 %.
 *
 * Statements may have to wait for row or table locks (locks.h) between their two halves. What is
 * cancelled ends at its next step, as PostgreSQL looks for interrupts.
 *
 * A struct statement belongs to whoever called database_run() until ended() is called back. */
#ifndef SIM_DATABASE_H
#define SIM_DATABASE_H

#include "bench/sim/engine.h"

enum {
    DATABASE_CHUNK_BYTES = 1 << 20,
    DATABASE_SLACK_BYTES = 4 << 20, /* of the sockets between it and the proxy */
};

struct database;
struct statement;
struct lock_table;

enum statement_kind {
    STATEMENT_USER,   /* short, reads pages */
    STATEMENT_STREAM, /* bulk that sends as it goes */
    STATEMENT_SCAN,   /* bulk that sends nothing before its end */
    STATEMENT_SLEEP,  /* holds its place and does nothing: idle in transaction, a slow reader */
};
enum statement_end {
    STATEMENT_DONE,
    STATEMENT_CANCELLED,
    STATEMENT_LOST, /* the server died under it */
};

struct statement {
    /* set by the caller */
    enum statement_kind kind;
    uint64_t cpu_us;        /* USER; SLEEP: how long */
    uint32_t pages_n;       /* USER: looked at */
    uint64_t chunks_n;      /* bulk: still to do */
    uint64_t scanned_n;     /* ... and from the beginning: its owner's note */
    uint64_t wait_until_us; /* USER: something else than our resources holds it until then */
    uint32_t lock_i;        /* 1 + table or row it needs a lock on; 0: none */
    bool lock_exclusive;
    uint64_t lock_held_us; /* goes on holding it for so long after its work (same transaction) */
    void (*ended)(struct statement *st, enum statement_end how);
    void (*produced)(struct statement *st); /* STREAM: a chunk more in buf_bytes */
    void *owner;
    uint32_t pid; /* of its backend, for those who ask who blocks whom */
    /* the database's */
    struct database *database;
    uint64_t started_us;
    uint64_t buf_bytes; /* STREAM: in the sockets */
    bool cancelled, gated, locked, waits_for_lock;
    bool served; /* its first half is done */
    uint32_t ios_n;
    uint64_t io_us;
    uint64_t service_us; /* of the visit that is queued */
    struct station *at;  /* where it is served or queued; NULL: nowhere */
    bool in_service;
    struct event event;
    struct statement *prev, *next;           /* queue of the station */
    struct statement *live_prev, *live_next; /* all of the database */
    struct statement *lock_prev, *lock_next; /* holders, or queue, of the lock */
};

struct station {
    struct database *database;
    uint32_t channels_n, busy_n;
    double slower; /* service times are multiplied by it */
    uint64_t stalled_until_us;
    struct statement *queue; /* utlist */
    uint64_t busy_us;
};

struct database_opts {
    uint32_t cores_n, disks_n;
    double cache_mb; /* of bulk that fill the cache by 63 % */
};

struct database {
    struct engine *engine;
    struct database_opts opts;
    struct station cpu, disk;
    double bulk_mb; /* in the cache at bulk_at_us, decaying */
    uint64_t bulk_at_us;
    double cold; /* share missed on top after a restart, decaying from cold_at_us */
    uint64_t cold_at_us;
    bool up;
    uint32_t connections_n, connections_max; /* of the policies that open some; 0: no limit */
    bool bulk_denied;                        /* bulk's password is wrong */
    struct statement *live;
    uint32_t live_n;
    struct lock_table *locks;
};

void database_opts_defaults(struct database_opts *opts);
void database_init(struct database *d, struct engine *e, const struct database_opts *opts);
/* Nothing may be running: database_kill() it first. */
void database_free(struct database *d);

void database_run(struct database *d, struct statement *st);
/* It ends at its next step. */
void database_cancel(struct statement *st);
/* The proxy took bytes out of the sockets. */
void database_read(struct statement *st, uint64_t bytes_n);
/* Everything that runs is lost; nothing may be run until it is back, with a cold cache. */
void database_kill(struct database *d);
void database_back(struct database *d, double cold);
void database_stall(struct database *d, uint64_t for_us);

/* Another step of a statement that was given its lock: locks.c calls it. */
void database_go_on(struct statement *st);

#endif
