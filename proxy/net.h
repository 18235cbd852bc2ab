/* A connection: a descriptor, perhaps TLS on it, its one event, and what could not be sent yet.
 *
 * Reading goes into the caller's scratch, never into a buffer of the connection. Writing sends at
 * once and keeps only what the kernel would not take; while something is kept (net_stuck) the
 * caller stops reading from the source of those bytes. All arming and disarming of events in the
 * program happens in this file. In steady state nothing here calls epoll_ctl: an event stays armed
 * for reading until back-pressure, a move to another loop, or the end.
 *
 * Owner: the loop it is attached to; between net_detach() and net_attach() the letter it travels
 * by. */
#ifndef PROXY_NET_H
#define PROXY_NET_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <sys/uio.h>

#include "breaker/base.h"
#include "proxy/buf.h"
#include "proxy/ring.h"

struct worker;

enum net_verdict {
    NET_OK,
    NET_AGAIN, /* nothing now (reading), or something was kept (writing) */
    NET_EOF,   /* orderly end of what the peer sends */
    NET_ERROR, /* the connection is of no use any more */
};

enum {
    NET_KEEP_BYTES_MAX = 4 << 20, /* unsent bytes; one scratch and the replies of one batch fit */
    NET_PIECES_MAX = 64,          /* pieces of one gathered send; below the kernel's UIO_MAXIOV */
};

struct conn {
    union {
        struct event event;     /* ring == NULL */
        struct ring_conn uring; /* else; and while it is in no loop */
    };
    struct ring *ring; /* of the loop it is attached to; NULL: that one waits by libevent */
    SSL *ssl;          /* NULL: plain */
    struct buf out;    /* kept */
    int fd;            /* -1: closed */
    short armed;       /* EV_READ | EV_WRITE as the loop has it */
    bool attached;
    bool peeked;  /* TLS layer holds bytes epoll does not know of */
    bool dry;     /* the last receive got less than it had room for: another one would be in vain */
    bool ended;   /* the peer's end was seen beneath TLS */
    bool settled; /* small messages are what it is used for now */
};

/* Takes over fd, which is non-blocking. */
void net_open(struct conn *c, int fd);
/* Puts the connection into w's loop, armed for reading. False: out of memory or descriptors. */
MUST_USE bool net_attach(struct conn *c, struct worker *w, net_callback on_event, void *arg);
/* Takes it out, for another loop to attach. */
void net_detach(struct conn *c);
/* Arms for reading or not; writing is armed by net itself while something is kept. */
void net_read_wanted(struct conn *c, bool wanted);
/* Armed for writing although nothing is kept: a connect() is under way. */
void net_connect_wanted(struct conn *c, bool wanted);
/* Not armed for reading, but told when the peer has gone (EV_CLOSED). */
void net_watch_end(struct conn *c);
/* Logged in, and no large result under way: its messages may be received by standing order. The
 * opposite takes effect with what comes next. */
void net_settle(struct conn *c, bool settled);
/* Closes and frees everything; fd is -1 afterwards. Safe to repeat. */
void net_close(struct conn *c);

/* One receive (with TLS: as many records as fit). *n > 0 with NET_OK. */
MUST_USE enum net_verdict net_read(struct conn *c, uint8_t *at, size_t room, size_t *n);
/* Sends the pieces in order; keeps what does not go. NET_OK: all sent. NET_AGAIN: kept. */
MUST_USE enum net_verdict net_write(struct conn *c, struct iovec *pieces, int pieces_n);
MUST_USE enum net_verdict net_send(struct conn *c, const void *at, size_t n);
/* Sends b's bytes and empties it. */
MUST_USE enum net_verdict net_send_buf(struct conn *c, struct buf *b);
/* On EV_WRITE. NET_OK: nothing is kept any more. */
MUST_USE enum net_verdict net_flush(struct conn *c);
static inline bool net_stuck(const struct conn *c)
{
    return buf_used(&c->out) > 0;
}

/* TLS on this connection from now on; takes over ssl. Then net_handshake() until it says NET_OK. */
MUST_USE bool net_secure(struct conn *c, SSL *ssl, bool as_server);
MUST_USE enum net_verdict net_handshake(struct conn *c);

#endif
