#include "proxy/net.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/worker.h"

enum { TLS_JOINED_BYTES_MAX = 4 << 10 }; /* beyond it, copying costs more than a record */

void net_open(struct conn *c, int fd)
{
    must(fd >= 0);
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->out.max = NET_KEEP_BYTES_MAX;
}

/* To be called for what the kernel does not know of; in no loop, by the next one's net_attach(). */
static void wake(struct conn *c)
{
    if (!c->attached)
        return;
    if (c->ring)
        ring_wake(c);
    else
        event_active(&c->event, EV_READ, 1);
}

static void arm_event(struct conn *c)
{
    event_del(&c->event); /* also where it is not armed, but active */
    if (!c->armed)
        return;
    event_assign(&c->event, event_get_base(&c->event), c->fd, (short)(c->armed | EV_PERSIST),
                 event_get_callback(&c->event), event_get_callback_arg(&c->event));
    if (event_add(&c->event, NULL) == 0)
        return;
    /* The kernel is out of memory or watches. A connection nobody watches must not linger: its
     * owner is called once more, and reads its end. */
    c->armed = 0;
    shutdown(c->fd, SHUT_RDWR);
    wake(c);
}

/* The one place that tells the kernel what we wait for. */
static void arm(struct conn *c, short wanted)
{
    if (wanted == c->armed || !c->attached)
        return;
    c->armed = wanted;
    if (c->ring)
        ring_want(c);
    else
        arm_event(c);
    if (c->peeked && wanted & EV_READ)
        wake(c);
}

static bool attach_event(struct conn *c, struct worker *w, net_callback on_event, void *arg)
{
    must(!buf_used(&c->uring.kept)); /* loops of both kinds meet only in who has not settled */
    if (event_assign(&c->event, w->base, c->fd, (short)(c->armed | EV_PERSIST), on_event, arg) ==
            0 &&
        event_add(&c->event, NULL) == 0)
        return true;
    memset(&c->uring, 0, sizeof c->uring);
    return false;
}

static bool attach_ring(struct conn *c, struct worker *w, net_callback on_event, void *arg)
{
    if (!ring_attach(w->ring, c))
        return false;
    c->uring.on_event = on_event;
    c->uring.arg = arg;
    ring_want(c);
    return true;
}

bool net_attach(struct conn *c, struct worker *w, net_callback on_event, void *arg)
{
    must(c->fd >= 0 && !c->attached);
    c->armed = (short)(EV_READ | (net_stuck(c) ? EV_WRITE : 0));
    c->attached = w->ring ? attach_ring(c, w, on_event, arg) : attach_event(c, w, on_event, arg);
    if (!c->attached)
        c->armed = 0;
    else if (c->peeked)
        wake(c);
    return c->attached;
}

void net_detach(struct conn *c)
{
    must(c->attached);
    if (c->ring) {
        ring_detach(c);
    } else {
        event_del(&c->event);
        memset(&c->uring, 0, sizeof c->uring);
    }
    c->attached = false;
    c->armed = 0;
}

void net_read_wanted(struct conn *c, bool wanted)
{
    arm(c, (short)((c->armed & EV_WRITE) | (wanted ? EV_READ : 0)));
}

void net_watch_end(struct conn *c)
{
    arm(c, (short)((c->armed & EV_WRITE) | EV_CLOSED));
}

static void write_wanted(struct conn *c, bool wanted)
{
    arm(c, (short)((c->armed & (EV_READ | EV_CLOSED)) | (wanted ? EV_WRITE : 0)));
}

void net_connect_wanted(struct conn *c, bool wanted)
{
    write_wanted(c, wanted);
}

void net_settle(struct conn *c, bool settled)
{
    if (c->settled == settled)
        return;
    c->settled = settled;
    if (c->ring)
        ring_want(c);
}

void net_close(struct conn *c)
{
    if (c->fd < 0)
        return;
    if (c->ssl) {
        /* One close_notify, as far as it goes; then the descriptor is gone anyway. */
        ERR_clear_error();
        if (SSL_is_init_finished(c->ssl) && SSL_shutdown(c->ssl) < 0)
            ERR_clear_error();
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    if (c->ring) {
        ring_forget(c);
        c->attached = false;
        c->armed = 0;
    } else if (c->attached) {
        net_detach(c);
    }
    buf_free(&c->uring.kept);
    buf_free(&c->out);
    close(c->fd);
    c->fd = -1;
}

/* ---- reading ------------------------------------------------------------------------------ */

static enum net_verdict receive(struct conn *c, uint8_t *at, size_t room, size_t *n)
{
    for (;;) {
        ssize_t k = recv(c->fd, at, room, 0);
        if (k > 0) {
            *n = (size_t)k;
            c->dry = *n < room;
            return NET_OK;
        }
        if (k == 0)
            return NET_EOF;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return NET_AGAIN;
        if (errno != EINTR)
            return NET_ERROR;
    }
}

/* Bytes as they came, TLS or not. */
static enum net_verdict raw_read(struct conn *c, uint8_t *at, size_t room, size_t *n)
{
    *n = 0;
    if (!c->ring)
        return receive(c, at, room, n);
    switch (ring_read(c, at, room, n)) {
    case RING_OK:
        return NET_OK;
    case RING_AGAIN:
        return NET_AGAIN;
    case RING_EOF:
        return NET_EOF;
    case RING_ERROR:
        return NET_ERROR;
    case RING_READ_YOURSELF:
        break;
    }
    return receive(c, at, room, n);
}

static enum net_verdict tls_read(struct conn *c, uint8_t *at, size_t room, size_t *n)
{
    size_t got = 0;
    bool drained = false;
    c->peeked = false;
    while (got < room) {
        size_t k;
        ERR_clear_error();
        if (SSL_read_ex(c->ssl, at + got, room - got, &k) == 1) {
            got += k;
            if (room - got < SSL3_RT_MAX_PLAIN_LENGTH && got > SSL3_RT_MAX_PLAIN_LENGTH)
                break; /* whole records only: a half one would have to be kept */
            continue;
        }
        int why = SSL_get_error(c->ssl, 0);
        drained = true;
        if (got)
            break; /* hand out what there is; the reason comes again with the next read */
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
            return NET_AGAIN;
        return why == SSL_ERROR_ZERO_RETURN ? NET_EOF : NET_ERROR;
    }
    *n = got;
    if (!drained && SSL_has_pending(c->ssl)) {
        c->peeked = true;
        wake(c);
    }
    return NET_OK;
}

enum net_verdict net_read(struct conn *c, uint8_t *at, size_t room, size_t *n)
{
    must(room > 0);
    *n = 0;
    c->dry = false;
    return c->ssl ? tls_read(c, at, room, n) : raw_read(c, at, room, n);
}

/* ---- writing ------------------------------------------------------------------------------ */

/* Sends as much as goes. *n: bytes that went. NET_OK also when they are not all. */
static enum net_verdict tls_send_each(struct conn *c, const struct iovec *pieces, int pieces_n,
                                      size_t *n)
{
    for (int i = 0; i < pieces_n; i++)
        for (size_t done = 0; done < pieces[i].iov_len;) {
            size_t k;
            ERR_clear_error();
            if (SSL_write_ex(c->ssl, (const uint8_t *)pieces[i].iov_base + done,
                             pieces[i].iov_len - done, &k) != 1) {
                int why = SSL_get_error(c->ssl, 0);
                return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? NET_OK
                                                                                 : NET_ERROR;
            }
            done += k;
            *n += k;
        }
    return NET_OK;
}

/* Small pieces go in one record, which is one system call and one tag. */
static enum net_verdict tls_send(struct conn *c, const struct iovec *pieces, int pieces_n,
                                 size_t *n)
{
    uint8_t whole[TLS_JOINED_BYTES_MAX];
    size_t bytes = 0;
    for (int i = 0; i < pieces_n && bytes <= sizeof whole; i++)
        bytes += pieces[i].iov_len;
    if (pieces_n == 1 || bytes > sizeof whole)
        return tls_send_each(c, pieces, pieces_n, n);
    bytes = 0;
    for (int i = 0; i < pieces_n; i++) {
        memcpy(whole + bytes, pieces[i].iov_base, pieces[i].iov_len);
        bytes += pieces[i].iov_len;
    }
    struct iovec joined = {.iov_base = whole, .iov_len = bytes};
    return tls_send_each(c, &joined, 1, n);
}

static enum net_verdict plain_send(struct conn *c, struct iovec *pieces, int pieces_n, size_t *n)
{
    struct msghdr msg = {.msg_iov = pieces, .msg_iovlen = (size_t)pieces_n};
    for (;;) {
        ssize_t k = pieces_n == 1 ? send(c->fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL)
                                  : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
        if (k >= 0) {
            *n = (size_t)k;
            return NET_OK;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return NET_OK;
        if (errno != EINTR)
            return NET_ERROR;
    }
}

/* Keeps what is behind the first `sent` bytes. */
static enum net_verdict keep(struct conn *c, const struct iovec *pieces, int pieces_n, size_t sent)
{
    for (int i = 0; i < pieces_n; i++) {
        size_t len = pieces[i].iov_len;
        size_t skip = sent < len ? sent : len;
        sent -= skip;
        if (skip < len && !buf_put(&c->out, (const uint8_t *)pieces[i].iov_base + skip, len - skip))
            return NET_ERROR;
    }
    if (!net_stuck(c))
        return NET_OK;
    write_wanted(c, true);
    return NET_AGAIN;
}

enum net_verdict net_write(struct conn *c, struct iovec *pieces, int pieces_n)
{
    size_t sent = 0;
    must(pieces_n <= NET_PIECES_MAX);
    if (c->fd < 0)
        return NET_ERROR;
    if (!net_stuck(c)) {
        enum net_verdict v =
            c->ssl ? tls_send(c, pieces, pieces_n, &sent) : plain_send(c, pieces, pieces_n, &sent);
        if (v != NET_OK)
            return v;
    }
    return keep(c, pieces, pieces_n, sent);
}

enum net_verdict net_send(struct conn *c, const void *at, size_t n)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)at, .iov_len = n};
    return n ? net_write(c, &piece, 1) : NET_OK;
}

enum net_verdict net_send_buf(struct conn *c, struct buf *b)
{
    struct view v = buf_view(b);
    enum net_verdict verdict = net_send(c, v.at, v.n);
    buf_free(b);
    return verdict;
}

enum net_verdict net_flush(struct conn *c)
{
    size_t sent = 0;
    struct view v = buf_view(&c->out);
    if (v.n) {
        struct iovec piece = {.iov_base = (void *)(uintptr_t)v.at, .iov_len = v.n};
        enum net_verdict verdict =
            c->ssl ? tls_send(c, &piece, 1, &sent) : plain_send(c, &piece, 1, &sent);
        if (verdict != NET_OK)
            return verdict;
        buf_take(&c->out, sent);
    }
    write_wanted(c, net_stuck(c));
    return net_stuck(c) ? NET_AGAIN : NET_OK;
}

/* ---- TLS ----------------------------------------------------------------------------------
 *
 * OpenSSL reads and writes through a BIO of ours: so that a loop's ring may have received for it,
 * and so that it does not ask the kernel once more for what is known not to be there. */

static int bio_read(BIO *b, char *at, int room)
{
    struct conn *c = BIO_get_data(b);
    size_t n = 0;
    BIO_clear_retry_flags(b);
    enum net_verdict v = c->dry ? NET_AGAIN : raw_read(c, (uint8_t *)at, (size_t)room, &n);
    switch (v) {
    case NET_OK:
        return (int)n;
    case NET_AGAIN:
        BIO_set_retry_read(b);
        return -1;
    case NET_EOF:
        c->ended = true;
        return 0;
    case NET_ERROR:
        break;
    }
    return -1;
}

static int bio_write(BIO *b, const char *at, int n)
{
    const struct conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    for (;;) {
        ssize_t k = send(c->fd, at, (size_t)n, MSG_NOSIGNAL);
        if (k >= 0)
            return (int)k;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            BIO_set_retry_write(b);
        if (errno != EINTR)
            return -1;
    }
}

static long bio_ctrl(BIO *b, int what, long number, void *arg)
{
    const struct conn *c = BIO_get_data(b);
    (void)number, (void)arg;
    switch (what) {
    case BIO_CTRL_EOF:
        return c->ended;
    case BIO_CTRL_FLUSH: /* nothing is held back here */
        return 1;
    default:
        return 0;
    }
}

static BIO_METHOD *bio_method;
static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection of a loop");
    if (!bio_method)
        return;
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *bio_new(struct conn *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    BIO *b = bio_method ? BIO_new(bio_method) : NULL;
    if (b) {
        BIO_set_data(b, c);
        BIO_set_init(b, 1);
    }
    return b;
}

bool net_secure(struct conn *c, SSL *ssl, bool as_server)
{
    must(!c->ssl && !net_stuck(c) && !c->settled);
    BIO *bio = bio_new(c);
    if (!bio) {
        SSL_free(ssl);
        return false;
    }
    SSL_set_bio(ssl, bio, bio);
    /* Kept bytes move between two tries, and idle connections give their record buffers back. */
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    if (as_server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    c->ssl = ssl;
    return true;
}

enum net_verdict net_handshake(struct conn *c)
{
    ERR_clear_error();
    c->dry = false;
    int k = SSL_do_handshake(c->ssl);
    if (k == 1) {
        write_wanted(c, net_stuck(c));
        if (SSL_has_pending(c->ssl)) {
            c->peeked = true;
            wake(c);
        }
        return NET_OK;
    }
    switch (SSL_get_error(c->ssl, k)) {
    case SSL_ERROR_WANT_READ:
        write_wanted(c, false);
        return NET_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        write_wanted(c, true);
        return NET_AGAIN;
    default:
        return NET_ERROR;
    }
}
