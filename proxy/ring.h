/* The kernel's newer way to wait: an io_uring for each loop, in the place of epoll.
 *
 * With epoll a message costs two system calls before it is sent on: one that says that there is
 * something, and one that fetches it. Here the kernel has a standing order for each connection (a
 * multishot receive) and puts what comes into a buffer of ours; one call per turn hands out all
 * that has come since the last one, and waits if that is nothing. Sending stays a plain send(): its
 * outcome has to be known at once, and putting it into the ring was no cheaper.
 *
 *     connection      standing order                        read by
 *     settled         receive into one of our buffers       net_read() copies it out of there
 *     any other       poll, once, anew after each event     net_read() receives
 *
 * "Settled" is one that exchanges small messages: logged in, and no large result under way
 * (net_settle()). Handshakes need every byte in its place, and large results are moved by receives
 * of a scratch's size; both are polled.
 *
 * What was ordered may still come after we have changed our mind. So: what a cancelled receive
 * brings is kept with the connection until it is read; a connection that leaves the loop waits for
 * the last word of its orders; and each completion names a slot and a generation, which are
 * nobody's once the connection is closed.
 *
 * Where there is no io_uring (an older kernel, a container that forbids it, `io_uring = 0`) the
 * loop waits by libevent. Owner: the loop; made in its own thread, as the kernel wants it. */
#ifndef PROXY_RING_H
#define PROXY_RING_H

#include <event2/util.h>

#include "proxy/buf.h"

struct conn;
struct ring;

typedef void (*net_callback)(evutil_socket_t fd, short what, void *arg);

enum {
    RING_BUFFERS_N = 128,        /* power of two; more arrive in one turn only from many clients */
    RING_BUFFER_BYTES = 8 << 10, /* what PostgreSQL sends at a time */
};

/* A connection's part. In no loop it has nothing but what is kept, and whether more will come. */
struct ring_conn {
    net_callback on_event;
    void *arg;
    struct buf kept;    /* received, and not read yet */
    uint32_t slot;      /* its number in the ring */
    uint16_t poll_mask; /* of the poll under way; 0: none */
    uint8_t poll_n;     /* which one that is */
    bool receives;      /* a standing receive is under way */
    bool cancelled;     /* ... but not for long */
    bool over;          /* nothing more will come: the end, or an error */
    bool failed;        /* it was an error */
    bool ready;         /* stands in the list of those who have something without the kernel */
    struct conn *ready_prev, *ready_next;
};

/* NULL and a text: this kernel, or who runs it, does not allow it. In the loop's own thread.
 * on_mail is called when mail_fd becomes readable. */
MUST_USE struct ring *ring_open(int mail_fd, net_callback on_mail, void *arg, struct err *err);
void ring_close(struct ring **r);
/* Tells the kernel what has been ordered, and waits until something happens or the clock says
 * until_us (0: not at all). */
void ring_wait(struct ring *r, uint64_t until_us);
/* Calls whoever something has happened to. */
void ring_serve(struct ring *r);

/* Takes c in: c->ring is r, c->uring what ring_want() goes by. False: out of memory. */
MUST_USE bool ring_attach(struct ring *r, struct conn *c);
/* c->armed or what kind of connection it is has changed. */
void ring_want(struct conn *c);
/* It is to be called although the kernel knows of nothing. */
void ring_wake(struct conn *c);
/* Waits for the last word of all that was ordered; c->uring.kept has what came. */
void ring_detach(struct conn *c);
/* The same for one that is closed: whatever still comes is dropped. */
void ring_forget(struct conn *c);

enum ring_verdict { RING_OK, RING_AGAIN, RING_EOF, RING_ERROR, RING_READ_YOURSELF };
/* What has been received for c. RING_READ_YOURSELF: it is polled. */
MUST_USE enum ring_verdict ring_read(struct conn *c, uint8_t *at, size_t room, size_t *n);

#endif
