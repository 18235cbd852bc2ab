/* Copies of all clients or servers, made by the loops that own them.
 *
 *   console --letter--> loop: copies up to COPYOUT_CHUNK_N plain rows --letter--> console ... again
 *
 * All loops copy at the same time, each a bounded piece a turn, so that 10,000 clients stall
 * nobody; every piece is true for its moment, the whole is not one moment. Nothing is formatted in
 * the loops, and nothing allocated: the letters bring their own room. Names point into routes,
 * which are not reaped while copies are under way (copyouts_n()). Control loop only. */
#ifndef PROXY_COPYOUT_H
#define PROXY_COPYOUT_H

#include <sys/socket.h>

#include "config/config.h"
#include "pool/registry.h"
#include "proxy/listen_peer.h"
#include "proxy/tls.h"

struct copyout;
struct proxy;
struct route;

enum {
    COPYOUT_CHUNK_N = 128, /* rows in one turn: some 50 us */
    COPYOUT_APPLICATION_BYTES = 64,
};

enum copyout_what { COPYOUT_CLIENTS, COPYOUT_SERVERS };

/* A client or a server. */
struct copyout_peer {
    bool is_client;
    uint64_t id, link_id;                /* link_id: of its other half; 0: none */
    const char *state;                   /* static */
    const struct route *route;           /* NULL: a client of the console */
    char user[CONFIG_USER_NAME_MAX + 1]; /* clients: who logged in; servers: as whom we did */
    uint16_t worker;
    uint8_t class_i;         /* UINT8_MAX: none */
    uint32_t pid;            /* clients: peer's process on a Unix socket; servers: theirs */
    struct listen_peer peer; /* clients */
    struct sockaddr_storage remote, local; /* servers */
    uint64_t connected_us, request_us;     /* monotonic; 0: never */
    uint64_t wait_us;                      /* clients that wait */
    uint64_t opened_us;                    /* servers, as the pool has it; 0: still logging in */
    uint32_t prepared_n;
    uint32_t in_bytes, out_bytes, left_bytes; /* kept, not sent yet, of a message still to come */
    char tls[TLS_NAME_BYTES];
    char application_name[COPYOUT_APPLICATION_BYTES];
};

struct copyout_opts {
    enum copyout_what what;
    /* A piece; the rows are gone after the call. */
    void (*rows)(void *arg, const struct copyout_peer *rows, size_t n);
    /* All loops are through; the copyout is freed after the call. */
    void (*done)(void *arg);
    void *arg;
};

/* NULL: out of memory. */
struct copyout *copyout_start(struct proxy *p, const struct copyout_opts *opts);
/* Its owner goes: neither function is called any more. Clears the pointer. */
void copyout_abandon(struct copyout **c);
/* Under way, the abandoned ones included. */
uint32_t copyouts_n(void);

#endif
