/* What the peers share: the process, and one loop's part of it.
 *
 * `struct proxy` is made at boot and read-only but for its atomics. `struct hub` belongs to one
 * loop: its clients, its servers, its view of the configuration. A reload hands each hub a new
 * snapshot by letter; until it comes the loop goes on with the former one. */
#ifndef PROXY_HUB_H
#define PROXY_HUB_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "config/config.h"
#include "pool/class.h"
#include "pool/registry.h"
#include "pool/retry.h"
#include "proxy/sql.h"
#include "proxy/stats.h"
#include "proxy/worker.h"

struct client;
struct server;
struct cancel;
struct control;
struct dns;
struct door_queue;
struct gates;

enum { HUB_REASONS_MAX = 8 }; /* at least STEER_REASONS_N */

enum end_reason {
#define END(name, who, text) END_##name,
#include "proxy/ends.h"
#undef END
    END_REASONS_N
};
struct end_row {
    const char *name, *who, *text;
};
extern const struct end_row end_rows[END_REASONS_N];

/* SQLSTATEs of refusals, as they are counted. What each stands for: refusal.h. */
#define REFUSAL_CODES(X) X("53000") X("53300") X("57P03") X("57P01") X("57014") X("other")
#define X(code) +1
enum { REFUSAL_CODES_N = REFUSAL_CODES(X) };
#undef X

struct proxy {
    /* read-only after boot */
    uint16_t worker_n; /* loops, the control loop (0) included */
    struct hub *hubs[WORKERS_MAX];
    struct pool_registry *registry;
    struct dns *dns;
    struct control *control; /* the control loop's: proxy/control.h */
    struct gates *gates;     /* which databases are paused or disabled; made by control_open() */
    uint8_t secret[32];      /* of this process: cancel keys, salts for users we do not know */
    uint64_t started_us;
    /* atomics */
    _Atomic uint32_t clients_n;  /* every client socket but the console's */
    _Atomic uint64_t next_id;    /* ids of sockets, clients and servers alike */
    _Atomic bool draining;       /* SHUTDOWN WAIT_FOR_*: no new clients */
    _Atomic bool paused;         /* PAUSE of everything */
    _Atomic uint32_t standing_n; /* changes of what is known of hosts: steer.h */
};

/* A slot outlives its client: the generation makes a cancel key of a former one worthless. */
struct hub_slot {
    struct client *client;
    uint32_t generation;
    uint32_t next_free;
};

struct hub {
    struct worker *worker;
    struct proxy *proxy;
    const struct config *config;      /* one reference */
    uint32_t config_version;          /* counts reloads; from 1 */
    SSL_CTX *client_tls, *server_tls; /* one reference each; NULL: off */
    /* the loop's own */
    struct client *clients, *logins; /* lists: logged in; not yet */
    struct server *servers;
    struct server *streams; /* those read in large pieces; see stream.h */
    void (*stream_fetch)(struct server *s);
    struct ticker stream_ticker;
    struct server *paced; /* whose results are held back; see pacer.h */
    struct ticker paced_ticker;
    struct cancel *cancels; /* requests on their way to servers */
    uint32_t clients_n, logins_n, servers_n, cancels_n;
    struct hub_slot *slots;
    uint32_t slots_n, slot_free;
    uint64_t swept_us;
    /* What the text of `peeked_bytes` at `peeked_at` says, while it is not moved; NULL: none. Set
     * by relay_peek(), forgotten by whoever fed it the text. */
    const char *peeked_at;
    size_t peeked_bytes;
    struct sql_info peeked;
    struct client *held; /* refused, and to be told later; see hold.h */
    uint32_t held_n;
    struct retry_table retries;
    struct {                               /* see door.h */
        struct door_queue *queues, *turns; /* by whose they are; in the order of their turns */
        struct client *inside;
        uint32_t inside_n, sheddable_n;
        uint32_t waiting_n[CLASSES_MAX + 1];
        uint64_t empty_us[CLASSES_MAX];
        bool called;
        struct letter letter;
    } door;
    uint32_t steered_n;  /* proxy->standing_n when clients were last looked at */
    uint32_t steer_turn; /* the next one goes to the next of several hosts that are alike */
    uint64_t strays_us;  /* strays were last looked at */
    /* one writer, any reader */
    struct {
        counter ended[END_REASONS_N];
        counter shed;
        counter demoted;
        counter orphans;                  /* statements cancelled because their client had gone */
        counter cancelled[POOL_CULLS_N];  /* statements we cancelled, by reason */
        counter terminated;               /* server connections closed, as that had no effect */
        counter refused[REFUSAL_CODES_N]; /* refusals sent, by SQLSTATE */
        struct stats_histogram service, wait;
    } classes[CLASSES_MAX];
    counter reroutes[HUB_REASONS_MAX]; /* enum steer_reason */
    counter strays;                    /* clients for which no host would do */
    _Atomic uint32_t strays_n;         /* ... now */
    _Atomic uint32_t load;             /* clients in this loop, for who hands out new ones */
};

static inline uint64_t hub_now(struct hub *h)
{
    return worker_now(h->worker);
}

/* Registers a client and yields the pid of its cancel key; UINT32_MAX: out of memory. */
uint32_t hub_slot_take(struct hub *h, struct client *c);
void hub_slot_give(struct hub *h, uint32_t pid);
/* The client of this cancel key's pid in this hub, or NULL. */
struct client *hub_slot_find(const struct hub *h, uint32_t pid);
/* The loop a cancel key's pid leads to; WORKERS_MAX: none. */
uint16_t hub_pid_worker(uint32_t pid);
/* The secret part of the key of this pid, key_n bytes of at most 32: HMAC under the process's
 * secret, so that none needs to be stored. */
void hub_cancel_key(const struct hub *h, uint32_t pid, uint8_t *key, size_t key_n);

#endif
