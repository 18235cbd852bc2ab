/* A client connection: what it is, and where it stands.
 *
 *   HELLO -> TLS -> HELLO -> AUTH -> WELCOME -> IDLE <--> QUEUED
 *     |                                          ^ |         |
 *     +-> CANCEL (serves a cancel request)       | +-> PREPARING
 *     +-> (console: handed to the control loop)  +--- LINKED <-+   (LINKED -> SETTLING -> IDLE)
 *
 * WELCOME: authenticated, waits for its pool's first server, to know what to greet it with.
 * IDLE holds no server. QUEUED waits for one, its statement kept in `in`. PREPARING: has one that
 * is being given its settings. LINKED: relays. SETTLING: its
 * transaction changed settings of the session, which are read back before anything else. A client
 * costs this struct, and nothing else, while it is idle. */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "pool/pool.h"
#include "proxy/auth.h"
#include "proxy/hub.h"
#include "proxy/listen_peer.h"
#include "proxy/net.h"
#include "proxy/prep.h"
#include "proxy/view.h"

#define CLIENT_STATES(X)                                                                           \
    X(HELLO, "login",                                                                              \
      BIT(CLIENT_TLS) | BIT(CLIENT_AUTH) | BIT(CLIENT_CANCEL) | BIT(CLIENT_WELCOME) |              \
          BIT(CLIENT_IDLE))                                                                        \
    X(TLS, "login", BIT(CLIENT_HELLO))                                                             \
    X(AUTH, "login", BIT(CLIENT_WELCOME) | BIT(CLIENT_IDLE))                                       \
    X(WELCOME, "waiting", BIT(CLIENT_IDLE))                                                        \
    X(CANCEL, "active_cancel_req", 0)                                                              \
    X(IDLE, "idle", BIT(CLIENT_QUEUED) | BIT(CLIENT_PREPARING) | BIT(CLIENT_LINKED))               \
    X(QUEUED, "waiting", BIT(CLIENT_IDLE) | BIT(CLIENT_PREPARING) | BIT(CLIENT_LINKED))            \
    X(PREPARING, "waiting", BIT(CLIENT_IDLE) | BIT(CLIENT_QUEUED) | BIT(CLIENT_LINKED))            \
    X(LINKED, "active", BIT(CLIENT_IDLE) | BIT(CLIENT_SETTLING))                                   \
    X(SETTLING, "active", BIT(CLIENT_IDLE))
enum client_state {
#define X(state, name, next) CLIENT_##state,
    CLIENT_STATES(X)
#undef X
};

enum client_refusal { CLIENT_REFUSAL_NONE, CLIENT_REFUSAL_POOL, CLIENT_REFUSAL_CANCELLED };

enum {
    CLIENT_NAME_BYTES = 320,
    CANCEL_KEY_BYTES_30 = 4,  /* of protocol 3.0 */
    CANCEL_KEY_BYTES_32 = 32, /* of 3.2, where it may be long */
};

enum client_door { CLIENT_DOOR_OUTSIDE, CLIENT_DOOR_WAITS, CLIENT_DOOR_INSIDE };

/* Needed until the client has logged in, then freed. */
struct client_login {
    struct auth *auth; /* NULL before AUTH */
    char database[CONFIG_DB_NAME_MAX + 1], user[CONFIG_USER_NAME_MAX + 1];
    bool to_console; /* its database is the console's */
    bool done;       /* it may go there */
    enum pool_replication replication;
    const struct vars *asked; /* settings of the startup packet */
    uint16_t minor;           /* of the protocol it asked for */
    bool gss_answered, ssl_answered;
    enum client_door door; /* door.h */
    uint8_t door_class_i;  /* CLASSES_MAX: not known */
    bool door_sheddable;
    uint64_t door_us;              /* came, then: let in */
    struct door_queue *door_queue; /* WAITS */
};

struct census_entry;

struct client {
    struct conn net;
    enum client_state state;
    struct hub *hub;
    struct client *prev, *next; /* of hub->logins or hub->clients */
    struct client_login *login;
    struct route *route;   /* from login on */
    struct server *server; /* PREPARING, LINKED */
    struct pool_waiter waiter;
    struct letter letter;       /* a grant, a refusal, a move to the console: one at a time */
    struct letter burial;       /* frees it when the turn is over */
    const struct vars *vars;    /* the settings it wants on its servers */
    const struct vars *classed; /* what vars was when its class was found; only compared */
    struct prep_names *names;
    struct buf in;      /* read and not handled yet: part of a message, or a statement that waits */
    struct buf unnamed; /* end of a Parse of "" that a Sync separated from its Bind */
    uint32_t unnamed_flags; /* of its text: enum sql_flag */
    uint64_t unnamed_fingerprint;
    struct view unnamed_at; /* the same, while it lies in what was just received */
    bool renames;           /* its statements get names of ours on servers */
    uint32_t body_left;     /* bytes still to come of a message that is streamed */
    bool body_passes;       /* ... to the server; else they are dropped */
    bool refusing;          /* its batch was refused: everything up to a Sync is dropped */
    bool tx_lost;           /* its transaction died with its server: it has to roll back */
    bool gone;              /* its socket is closed; it stays for a letter that is on its way */
    bool logged_in;         /* it is in hub->clients, and counted with its pool */
    bool waits;             /* the pool has its waiter, or a grant for it is in the mail */
    bool cancelled;         /* a cancel request came while that grant was in the mail */
    bool feeding;           /* its bytes are being handled further up the stack */
    bool late;              /* its answer is complete, and the rest of its message still to come */
    enum client_refusal refusal; /* what its first kept message is to be answered with */
    bool secure;
    uint8_t key_bytes; /* of its cancel key */
    uint8_t class_i;   /* the client's; waiter.class_i is the transaction's */
    uint32_t pid;      /* of its cancel key */
    uint64_t id, connected_us, request_us, tx_started_us, stmt_started_us, idle_since_us;
    uint64_t stmt_fingerprint;
    bool notified;          /* it has been told that it waits */
    uint64_t held_until_us; /* its refusal is told then; 0: it is not held (hold.h) */
    struct client *held_prev, *held_next;
    struct client *door_prev, *door_next; /* while it logs in */
    uint32_t refused_n;                   /* in a row, none a minute after the one before */
    uint64_t refused_us;
    uint32_t placed_n; /* proxy->standing_n when its host was chosen; 0: look again */
    bool strays;       /* waits for a host to be what it wants: in no queue */
    bool rerouted;     /* it has changed queues: its class's deadline began with the first one */
    bool hostless;     /* its refusal: no host was what it wants */
    struct pool_addr *addr;
    struct census_entry *of_database, *of_user; /* where it is counted */
    struct listen_peer peer;
};

void client_goto(struct client *c, enum client_state next);
const char *client_state_name(enum client_state state);
/* "db/user@address:port", as PgBouncer's log has it. */
const char *client_name(const struct client *c, char *at, size_t n);

#endif
