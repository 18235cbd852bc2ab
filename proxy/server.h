/* A connection to PostgreSQL: how it comes up, what it owes, when it may be used again.
 *
 *   RESOLVING -> CONNECTING -> ASKED_TLS -> TLS -> LOGIN -> IDLE <-----------------------+
 *                                                            |                           |
 *        (moves between two loops: in nobody's loop)      LEASED --> PREPARING --> LINKED |
 *                                                                        |          |    |
 *   any state -> DEAD                                                    +-> CLEANING <-+ +
 *                                                                        DRAINING -^
 *
 * PREPARING: settings of the client are applied before its first byte. LINKED: relays for a client.
 * DRAINING: its client went away in mid-statement; a cancel is under way, or the statement is let
 * finish. CLEANING: what its client left behind is reset. Only a server that is idle, in sync, owes
 * no reply and has no cancel in flight is given back to the pool (server_is_clean()). */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include "pool/pool.h"
#include "proxy/dns.h"
#include "proxy/hub.h"
#include "proxy/net.h"
#include "proxy/owed.h"
#include "proxy/prep.h"
#include "proxy/wire.h"

#define SERVER_STATES(X)                                                                           \
    X(RESOLVING, "new", BIT(SERVER_CONNECTING))                                                    \
    X(CONNECTING, "new", BIT(SERVER_CONNECTING) | BIT(SERVER_ASKED_TLS) | BIT(SERVER_LOGIN))       \
    X(ASKED_TLS, "new", BIT(SERVER_TLS) | BIT(SERVER_LOGIN) | BIT(SERVER_CONNECTING))              \
    X(TLS, "new", BIT(SERVER_LOGIN) | BIT(SERVER_CONNECTING))                                      \
    X(LOGIN, "new", BIT(SERVER_IDLE))                                                              \
    X(IDLE, "idle", BIT(SERVER_PREPARING) | BIT(SERVER_LINKED))                                    \
    X(PREPARING, "tested",                                                                         \
      BIT(SERVER_IDLE) | BIT(SERVER_LINKED) | BIT(SERVER_DRAINING) | BIT(SERVER_CLEANING))         \
    X(LINKED, "active", BIT(SERVER_DRAINING) | BIT(SERVER_CLEANING) | BIT(SERVER_IDLE))            \
    X(DRAINING, "active_cancel", BIT(SERVER_CLEANING) | BIT(SERVER_IDLE))                          \
    X(CLEANING, "tested", BIT(SERVER_CLEANING) | BIT(SERVER_DRAINING) | BIT(SERVER_IDLE))          \
    X(DEAD, "dead", 0)
enum server_state {
#define X(state, name, next) SERVER_##state,
    SERVER_STATES(X)
#undef X
};

/* What a client may have left on a server, by how much it takes to undo it. */
enum server_dirt {
    SERVER_DIRT_SETTINGS = BIT(0), /* RESET ALL */
    SERVER_DIRT_SESSION =
        BIT(1), /* DISCARD ALL: temp tables, SQL PREPARE, LISTEN, locks, unknown */
};

enum {
    SERVER_PART_BYTES_MAX = 1 << 20
}; /* what is kept of an unfinished message; and a query of ours */

/* Why it is not read. */
enum server_hold {
    SERVER_HOLD_CLIENT = BIT(0), /* its client does not take what it was sent */
    SERVER_HOLD_PACE = BIT(1),   /* its class has read enough for now: pacer.h */
};

/* pacer.h's own. */
struct server_pacing {
    struct pace *pace;          /* whose tokens it needs; NULL: it is not paced */
    struct server *prev, *next; /* of hub->paced */
    uint32_t granted_bytes;     /* that may be read, and have not been */
    uint64_t ticket;            /* its place in the class's queue for turns; 0: none */
    uint64_t read_us;           /* when those were granted, or when pacing began */
    uint64_t held_since_us;
    bool freed;       /* the statement that runs is not paced any more */
    bool timeout_set; /* its statement_timeout was changed since it was linked, to: */
    uint64_t timeout_us;
    bool local_set; /* ... and for this transaction alone, to: */
    uint64_t local_us;
};

/* brake.h's own. */
struct server_brake {
    bool works;        /* its lease's class may be held between two statements */
    bool passed;       /* what comes next has rested, or need not */
    bool warned;       /* its last transaction was demoted: the next one may be, too */
    bool advisory;     /* it may hold advisory locks of the session */
    uint64_t since_us; /* its client's next statement is held back since; 0: it is not */
    uint64_t owes_us;  /* of rest */
};

struct server_login; /* exists until it has logged in */

struct server {
    struct conn net;
    struct pool_server lease; /* the pool's view; lease.worker is the loop it sits in */
    enum server_state state;
    struct hub *hub; /* NULL while it moves */
    struct route *route;
    struct client *client;                    /* PREPARING and LINKED */
    struct server *stream_prev, *stream_next; /* of hub->streams */
    bool streams;                             /* it is in there */
    struct server *prev, *next;               /* of hub->servers */
    struct letter letter;                     /* moves, grants, closing: one at a time */
    struct letter burial;                     /* frees it when the turn is over */
    struct pool_waiter *moves_to;             /* in a letter: who was granted it */
    struct server_login *login;
    const struct vars *vars; /* its settings, as it reports them and as we set them */
    const struct vars
        *captured; /* CLEANING: the settings its client made, as they come in; else NULL */
    struct prep_cache *prep;
    struct owed owed;   /* replies it owes */
    struct buf part;    /* the beginning of a message whose rest has not come */
    uint32_t body_left; /* bytes still to come of a message that is streamed */
    bool body_passes;   /* ... to the client; else they are dropped */
    uint8_t tx;         /* 'I', 'T' or 'E', as last told */
    bool skipping;      /* it ignores everything up to a Sync that has not been sent yet */
    bool copy_in;       /* it takes CopyData; a Sync in between is ignored by it */
    bool unsynced;      /* extended messages were sent that no Sync covers yet */
    bool barrier;       /* nothing more may be sent before all is answered */
    bool tainted; /* something may still come that was meant for its last client: it is closed */
    uint32_t syncs_ahead;  /* sent before a COPY took data: mostly not answered */
    bool fatal;            /* it said FATAL: the end comes */
    bool up_cut;           /* a client's message to it was begun and never finished */
    bool failed;           /* an ErrorResponse came while PREPARING or CLEANING */
    uint8_t dirt;          /* enum server_dirt */
    uint32_t sql_flags;    /* of what was sent in this transaction */
    bool in_doubt;         /* tx_writes for no more than an EXECUTE: its tag will tell */
    uint16_t cancels_n;    /* cancel requests in flight: no other client gets it before they end */
    uint16_t culls_n;      /* of them, ours: its own client's next statement waits for those too */
    enum pool_cull culled; /* why we cancelled the statement that runs: it is read to its end, and
                            * held back no more. POOL_CULL_NOT: we did not, or it has ended */
    uint64_t culled_us;
    bool cull_sent;         /* our request for it has gone out: what ends it now may be our doing */
    uint64_t cull_tried_us; /* ... when it was tried last */
    bool cancel_asked; /* its client has asked to cancel it: the answer is the client's own doing */
    bool cancel_wanted;  /* ... before it was sent: to be asked of PostgreSQL when it is */
    uint64_t unnamed_of; /* id of the client whose unnamed statement it holds; 0: none */
    uint64_t id, connected_us, drain_until_us;
    uint8_t holds; /* enum server_hold */
    struct server_pacing pacing;
    struct server_brake brake;
    bool bounded;          /* its receive buffer does not grow */
    bool base_backup;      /* it is a walsender, and runs BASE_BACKUP */
    uint64_t bytes_untold; /* passed on, and not told to the pool yet */
    uint64_t tx_bytes;     /* passed on in this transaction */
    uint64_t tx_rows;      /* ... of results, COPY included */
    uint32_t pid;          /* cancel key */
    uint8_t key[WIRE_KEY_MAX];
    uint16_t key_bytes;
    struct sockaddr_storage address;
    uint32_t address_bytes;
    struct err last_words; /* its last FATAL, or the last error of a query of ours */
};

void server_goto(struct server *s, enum server_state next);
const char *server_state_name(enum server_state state);

/* A server of h's loop in state RESOLVING, with no descriptor yet. NULL: out of memory. */
struct server *server_new(struct hub *h, struct route *r);
/* Out of its loop, and into another. */
void server_detach(struct server *s);
MUST_USE bool server_attach(struct server *s, struct hub *h, net_callback on_event);
/* Not to be read for this reason; the time counts as ours, not the database's. */
void server_hold(struct server *s, enum server_hold why);
/* Not for these reasons any more (bits of enum server_hold); read again where none is left. */
void server_unhold(struct server *s, uint8_t whys);
/* What it is used for has changed: small messages, or a large result, read in large pieces or
 * paced.
 */
void server_settle(struct server *s);
/* Closes the connection (politely where it is idle) and takes it out of its hub; DEAD afterwards.
 * The pool is told by the caller. */
void server_shut(struct server *s);
/* Frees a dead one, and clears the pointer. */
void server_free(struct server **s);

/* Idle, in sync, nothing owed, nothing half sent or received, no cancel in flight. */
bool server_is_clean(const struct server *s);
/* Sends a simple query of our own whose replies go to nobody. */
MUST_USE enum net_verdict server_ask(struct server *s, const char *sql);

#endif
