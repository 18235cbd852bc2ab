/* One asynchronous libpq connection watched by an epoll set: what the load generators share.
 * The owner's struct embeds it; events carry the pointer given to link_open(). An event may come
 * for a connection that was closed a moment before: owners look at their own state first. */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include "breaker/base.h"

#include <libpq-fe.h>

struct link {
    PGconn *pg;
    void *owner;
    int epoll_fd;
    int fd; /* as registered; libpq changes its socket while it connects */
    uint32_t events;
};

enum link_verdict {
    LINK_MORE, /* wait for the next event */
    LINK_READY,
    LINK_LOST, /* refused, broken or ended: link_sqlstate(), then link_close() */
};

/* Starts connecting; conninfo must name hosts by number, for libpq would block on a name. */
MUST_USE enum link_verdict link_open(struct link *l, int epoll_fd, void *owner,
                                     const char *conninfo);
/* After an event while it connects. */
MUST_USE enum link_verdict link_connecting(struct link *l);
/* After an event once it is connected: READY when a result can be fetched without blocking. */
MUST_USE enum link_verdict link_read(struct link *l);
/* Sends what libpq still holds back and arms for it where the socket would not take all. */
MUST_USE enum link_verdict link_flush(struct link *l);
/* SQLSTATE of a result, or of the connection's end (res NULL); "lost" where the server gave none.
 */
void link_sqlstate(const struct link *l, const PGresult *res, char sqlstate[8]);
void link_close(struct link *l);

#endif
