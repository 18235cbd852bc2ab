/* The sockets listen.c accepts from: made from addresses, the Unix socket's path, or by systemd. */
#ifndef PROXY_LISTEN_SOCKETS_H
#define PROXY_LISTEN_SOCKETS_H

#include <event2/event_struct.h>

#include "proxy/listen.h"
#include "proxy/listen_unix.h"

struct listen_socket {
    struct event event; /* listen.c's, as the next one */
    struct listen *listen;
    int fd;
    uint64_t accepted_us;     /* the last one came */
    bool is_wild;             /* bound to all addresses: the one a client came to must be asked */
    struct listen_peer local; /* what all who come here have in common */
    struct listen_file file;
    char name[160];
};

struct listen_set {
    struct listen_socket sockets[LISTEN_SOCKETS_MAX];
    size_t n;
};

/* See listen_open(). The set is empty before, and after a failure. */
MUST_USE bool listen_set_open(struct listen_set *set, const struct config_globals *g,
                              struct err *err);
void listen_set_tune(struct listen_set *set, const struct config_globals *g);
void listen_set_close(struct listen_set *set);

#endif
