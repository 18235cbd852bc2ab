/* The listening sockets: TCP on every address of listen_addr, the Unix socket, or what systemd
 * hands over; accepting in the control loop.
 *
 * A turn of the loop takes a bounded number of connections from one socket. Options are set on the
 * listening sockets, and Linux lets accepted ones inherit them: accepting costs accept4() and, for
 * the peer's identity, one call more at most. One descriptor is kept in reserve: when the process
 * has run out of them, a new client is still taken, told so (53300), and closed; then the sockets
 * rest for LISTEN_PAUSE_US. Owner: the control loop. */
#ifndef PROXY_LISTEN_H
#define PROXY_LISTEN_H

#include "breaker/base.h"
#include "proxy/listen_peer.h"

struct config_globals;
struct listen;
struct worker;

enum {
    LISTEN_SOCKETS_MAX = 64,
    LISTEN_CROWD_US = 200, /* clients that come closer together are accepted in batches */
    LISTEN_BATCH = 64, /* accepted in one turn from one socket; a batch takes a fraction of 1 ms */
    LISTEN_PAUSE_US = 100 * US_PER_MS,
};

/* Takes over fd: non-blocking, close-on-exec, its options set. */
typedef void (*listen_accepted)(void *arg, int fd, const struct listen_peer *peer);

/* Opens all sockets of the configuration. An address that fails is logged; false when every one
 * failed, when the Unix socket is somebody else's, or when there is nothing to listen on. */
MUST_USE bool listen_open(struct listen **out, const struct config_globals *g, struct err *err);
/* Begins to accept in this loop. */
MUST_USE bool listen_start(struct listen *l, struct worker *control, listen_accepted on_accept,
                           void *arg);
/* After a reload: what is accepted from now on has the options of g. */
void listen_retune(struct listen *l, const struct config_globals *g);
/* Not accepting for now (SUSPEND), and again. Connections wait in the kernel's backlog. */
void listen_suspend(struct listen *l);
void listen_resume(struct listen *l);
/* Closes the sockets; the Unix socket's file goes unless systemd made it. */
void listen_close(struct listen **l);

/* For the log and tests. */
size_t listen_sockets_n(const struct listen *l);
/* "127.0.0.1:6432", "unix:/tmp/.s.PGSQL.6432". */
const char *listen_name(const struct listen *l, size_t i);
/* Clients turned away for want of descriptors. */
uint64_t listen_refused_n(const struct listen *l);

#endif
