#include "proxy/ring.h"

#include <errno.h>
#include <event2/event.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "proxy/net.h"

enum {
    ENTRIES_N = 512,      /* orders told at once; more are told in two calls */
    COMPLETIONS_N = 4096, /* before the kernel keeps a list of its own */
    KEPT_BYTES_MAX = 4 << 20,
    LAST_WORDS_N = 10000, /* calls until a cancelled order has ended: it takes one */
    BUFFER_GROUP = 0,
};

/* What a completion is of. */
enum kind { KIND_NONE, KIND_RECEIVE, KIND_POLL, KIND_MAIL, KIND_ALARM };

/* A slot outlives its connection: what comes late for a former one has another generation. */
struct slot {
    struct conn *conn; /* NULL: free */
    uint32_t next_free;
    uint16_t generation;
};

struct ring {
    struct io_uring io;
    struct io_uring_buf_ring *buffers;
    uint8_t *bytes; /* of the buffers */
    struct slot *slots;
    uint32_t slots_n, slot_free;
    /* the completion being handled: what it has brought, and for whom */
    const struct conn *now_of;
    const uint8_t *now_at;
    uint32_t now_bytes;
    struct conn *ready; /* who has something without the kernel */
    uint32_t ready_n;
    /* A time-out of each wait would be set and cleared with each message; an alarm is set ten times
     * a second. */
    struct __kernel_timespec alarm;
    uint64_t alarm_us; /* when it rings; 0: none is set */
    int mail_fd;
    net_callback on_mail;
    void *mail_arg;
};

#define SLOT_NONE UINT32_MAX

static uint64_t data_of(enum kind kind, uint32_t slot, uint16_t generation, uint8_t n)
{
    return (uint64_t)slot << 32 | (uint64_t)generation << 16 | (uint64_t)n << 8 | (uint64_t)kind;
}

static uint64_t conn_data(const struct conn *c, enum kind kind)
{
    const struct slot *slot = &c->ring->slots[c->uring.slot];
    return data_of(kind, c->uring.slot, slot->generation, kind == KIND_POLL ? c->uring.poll_n : 0);
}

/* Never NULL: a full queue is told to the kernel first. */
static struct io_uring_sqe *order(struct ring *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->io);
    while (!sqe) {
        int told = io_uring_submit_and_get_events(&r->io);
        must(told >= 0 || told == -EINTR || told == -EAGAIN || told == -EBUSY);
        sqe = io_uring_get_sqe(&r->io);
    }
    return sqe;
}

/* ---- buffers ------------------------------------------------------------------------------- */

static void give_buffer(struct ring *r, uint32_t i)
{
    io_uring_buf_ring_add(r->buffers, r->bytes + (size_t)i * RING_BUFFER_BYTES, RING_BUFFER_BYTES,
                          (unsigned short)i, io_uring_buf_ring_mask(RING_BUFFERS_N), 0);
    io_uring_buf_ring_advance(r->buffers, 1);
}

static bool register_buffers(struct ring *r, struct err *err)
{
    size_t ring_bytes = RING_BUFFERS_N * sizeof(struct io_uring_buf);
    r->buffers = aligned_alloc(4096, (ring_bytes + 4095) / 4096 * 4096);
    r->bytes = malloc((size_t)RING_BUFFERS_N * RING_BUFFER_BYTES);
    if (!r->buffers || !r->bytes)
        return err_set(err, "53200", "out of memory");
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)r->buffers,
                                   .ring_entries = RING_BUFFERS_N,
                                   .bgid = BUFFER_GROUP};
    int failed = io_uring_register_buf_ring(&r->io, &reg, 0);
    if (failed)
        return err_set(err, "58000", "io_uring without buffer rings: %s", strerror(-failed));
    io_uring_buf_ring_init(r->buffers);
    for (uint32_t i = 0; i < RING_BUFFERS_N; i++)
        give_buffer(r, i);
    return true;
}

/* ---- a ring --------------------------------------------------------------------------------- */

static void watch_mail(struct ring *r)
{
    struct io_uring_sqe *sqe = order(r);
    io_uring_prep_poll_multishot(sqe, r->mail_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, data_of(KIND_MAIL, 0, 0, 0));
}

/* What we need is there together or not at all (Linux 6.1); a kernel that has the flags of the
 * set-up has multishot receives too. */
static bool set_up(struct ring *r, struct err *err)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                                              IORING_SETUP_CLAMP,
                                     .cq_entries = COMPLETIONS_N};
    int failed = io_uring_queue_init_params(ENTRIES_N, &r->io, &params);
    if (failed) {
        r->io.ring_fd = -1;
        return err_set(err, "58000", "%s", strerror(-failed));
    }
    (void)io_uring_register_ring_fd(&r->io); /* spares a look-up in each call, where it works */
    return register_buffers(r, err);
}

struct ring *ring_open(int mail_fd, net_callback on_mail, void *arg, struct err *err)
{
    struct ring *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(err, "53200", "out of memory");
        return NULL;
    }
    r->slot_free = SLOT_NONE;
    r->mail_fd = mail_fd;
    r->on_mail = on_mail;
    r->mail_arg = arg;
    if (set_up(r, err)) {
        watch_mail(r);
        return r;
    }
    ring_close(&r);
    return NULL;
}

void ring_close(struct ring **ring)
{
    struct ring *r = *ring;
    *ring = NULL;
    if (!r)
        return;
    if (r->io.ring_fd >= 0)
        io_uring_queue_exit(&r->io);
    free(r->buffers);
    free(r->bytes);
    free(r->slots);
    free(r);
}

/* ---- slots ---------------------------------------------------------------------------------- */

static bool more_slots(struct ring *r)
{
    uint32_t n = r->slots_n ? 2 * r->slots_n : 64;
    struct slot *slots = realloc(r->slots, n * sizeof *slots);
    if (!slots)
        return false;
    r->slots = slots;
    for (uint32_t i = n; i-- > r->slots_n;) {
        r->slots[i] = (struct slot){.next_free = r->slot_free};
        r->slot_free = i;
    }
    r->slots_n = n;
    return true;
}

static struct conn *conn_at(struct ring *r, uint64_t data)
{
    uint32_t i = (uint32_t)(data >> 32);
    if (i >= r->slots_n || r->slots[i].generation != (uint16_t)(data >> 16))
        return NULL;
    return r->slots[i].conn;
}

bool ring_attach(struct ring *r, struct conn *c)
{
    if (r->slot_free == SLOT_NONE && !more_slots(r))
        return false;
    struct ring_conn *u = &c->uring;
    u->slot = r->slot_free;
    r->slot_free = r->slots[u->slot].next_free;
    r->slots[u->slot].conn = c;
    u->kept.max = KEPT_BYTES_MAX;
    c->ring = r;
    return true;
}

static void unready(struct conn *c)
{
    if (!c->uring.ready)
        return;
    c->uring.ready = false;
    c->ring->ready_n--;
    DL_DELETE2(c->ring->ready, c, uring.ready_prev, uring.ready_next);
}

static void leave_slot(struct conn *c)
{
    struct ring *r = c->ring;
    struct slot *slot = &r->slots[c->uring.slot];
    must(slot->conn == c);
    slot->conn = NULL;
    slot->generation++;
    slot->next_free = r->slot_free;
    r->slot_free = c->uring.slot;
    unready(c);
    if (r->now_of == c)
        r->now_of = NULL;
    c->ring = NULL;
}

/* ---- orders --------------------------------------------------------------------------------- */

static void cancel(struct ring *r, uint64_t data)
{
    struct io_uring_sqe *sqe = order(r);
    io_uring_prep_cancel64(sqe, data, 0);
    io_uring_sqe_set_data64(sqe, data_of(KIND_NONE, 0, 0, 0));
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void receive(struct conn *c)
{
    struct io_uring_sqe *sqe = order(c->ring);
    io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
    io_uring_sqe_set_data64(sqe, conn_data(c, KIND_RECEIVE));
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    c->uring.receives = true;
    c->uring.cancelled = false;
}

static void poll_for(struct conn *c, uint16_t mask)
{
    c->uring.poll_n++;
    c->uring.poll_mask = mask;
    struct io_uring_sqe *sqe = order(c->ring);
    io_uring_prep_poll_add(sqe, c->fd, mask);
    io_uring_sqe_set_data64(sqe, conn_data(c, KIND_POLL));
}

void ring_want(struct conn *c)
{
    struct ring_conn *u = &c->uring;
    bool reads = c->armed & EV_READ;
    bool receives = reads && c->settled && !u->over;
    uint16_t mask = 0;
    if (receives && !u->receives)
        receive(c);
    else if (!receives && u->receives && !u->cancelled) {
        u->cancelled = true;
        cancel(c->ring, conn_data(c, KIND_RECEIVE));
    }
    if (reads && !u->receives && !u->over)
        mask |= POLLIN;
    if (c->armed & EV_WRITE)
        mask |= POLLOUT;
    if (c->armed & EV_CLOSED)
        mask |= POLLRDHUP;
    if (mask != u->poll_mask) {
        if (u->poll_mask)
            cancel(c->ring, conn_data(c, KIND_POLL));
        u->poll_mask = 0;
        if (mask)
            poll_for(c, mask);
    }
    if (reads && (buf_used(&u->kept) || u->over))
        ring_wake(c);
}

void ring_wake(struct conn *c)
{
    struct ring *r = c->ring;
    if (c->uring.ready)
        return;
    c->uring.ready = true;
    r->ready_n++;
    DL_APPEND2(r->ready, c, uring.ready_prev, uring.ready_next);
}

/* ---- what has come -------------------------------------------------------------------------- */

static void keep(struct conn *c, const uint8_t *at, size_t n)
{
    if (c->uring.failed || !n) /* what comes behind a gap is no sequel */
        return;
    if (!buf_put(&c->uring.kept, at, n))
        c->uring.over = c->uring.failed = true;
}

static const uint8_t *buffer_of(const struct ring *r, const struct io_uring_cqe *cqe)
{
    return r->bytes + (size_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) * RING_BUFFER_BYTES;
}

static void give_back(struct ring *r, const struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_BUFFER)
        give_buffer(r, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
}

/* Whether the standing receive has ended with this, and the stream with it. */
static void note_end(struct conn *c, const struct io_uring_cqe *cqe)
{
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    c->uring.receives = c->uring.cancelled = false;
    if (c->uring.over || cqe->res > 0 || cqe->res == -ENOBUFS || cqe->res == -ECANCELED ||
        cqe->res == -EINTR || cqe->res == -EAGAIN)
        return;
    c->uring.over = true;
    c->uring.failed = cqe->res < 0;
}

struct room {
    uint8_t *at;
    size_t left;
};

/* Takes what has been received for c out of the completions that wait to be handled, in their
 * order: into the room, as far as they fit there whole; without one, to what is kept. */
static void take_waiting(struct conn *c, struct room *room)
{
    struct ring *r = c->ring;
    uint64_t data = conn_data(c, KIND_RECEIVE);
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&r->io, head, cqe)
    {
        if (cqe->user_data != data)
            continue;
        size_t n = cqe->res > 0 ? (size_t)cqe->res : 0;
        if (!room) {
            keep(c, buffer_of(r, cqe), n);
        } else if (n <= room->left) {
            memcpy(room->at, buffer_of(r, cqe), n);
            room->at += n;
            room->left -= n;
        } else {
            return;
        }
        note_end(c, cqe);
        give_back(r, cqe);
        cqe->user_data = data_of(KIND_NONE, 0, 0, 0);
    }
}

enum ring_verdict ring_read(struct conn *c, uint8_t *at, size_t room_n, size_t *n)
{
    struct ring *r = c->ring;
    struct ring_conn *u = &c->uring;
    if (buf_used(&u->kept)) {
        struct view kept = buf_view(&u->kept);
        *n = kept.n < room_n ? kept.n : room_n;
        memcpy(at, kept.at, *n);
        buf_take(&u->kept, *n);
        if (buf_used(&u->kept) || u->over)
            ring_wake(c);
        return RING_OK;
    }
    if (r->now_of == c && r->now_bytes) {
        bool full = r->now_bytes == RING_BUFFER_BYTES;
        *n = r->now_bytes < room_n ? r->now_bytes : room_n;
        memcpy(at, r->now_at, *n);
        r->now_at += *n;
        r->now_bytes -= (uint32_t)*n;
        if (full && *n == RING_BUFFER_BYTES) { /* the rest of a larger piece is there as well */
            struct room room = {at + *n, room_n - *n};
            take_waiting(c, &room);
            *n = room_n - room.left;
        }
        return RING_OK;
    }
    if (u->over)
        return u->failed ? RING_ERROR : RING_EOF;
    return u->receives || c->settled ? RING_AGAIN : RING_READ_YOURSELF;
}

/* ---- handing out ---------------------------------------------------------------------------- */

static void call(struct conn *c, short what)
{
    what &= c->armed;
    if (what)
        c->uring.on_event(c->fd, what, c->uring.arg);
}

static void on_receive(struct ring *r, const struct io_uring_cqe *cqe)
{
    struct conn *c = conn_at(r, cqe->user_data);
    uint32_t n = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    if (c)
        note_end(c, cqe);
    if (c && n && (!(c->armed & EV_READ) || buf_used(&c->uring.kept) || c->uring.ready)) {
        keep(c, buffer_of(r, cqe), n); /* behind what came before, or until it is wanted */
    } else if (c && (n || c->uring.over)) {
        r->now_of = c;
        r->now_at = buffer_of(r, cqe);
        r->now_bytes = c->uring.failed ? 0 : n;
        call(c, EV_READ);
        c = conn_at(r, cqe->user_data);
        if (c && r->now_of == c)
            keep(c, r->now_at, r->now_bytes);
        r->now_of = NULL;
    }
    give_back(r, cqe);
    if (c && (!c->uring.receives || buf_used(&c->uring.kept)))
        ring_want(c);
}

static void on_poll(struct ring *r, const struct io_uring_cqe *cqe)
{
    struct conn *c = conn_at(r, cqe->user_data);
    if (!c || !c->uring.poll_mask || (uint8_t)(cqe->user_data >> 8) != c->uring.poll_n)
        return; /* of an order that was replaced */
    c->uring.poll_mask = 0;
    short what = 0;
    if (cqe->res < 0 || cqe->res & (POLLERR | POLLHUP | POLLNVAL))
        what = EV_READ | EV_WRITE | EV_CLOSED;
    if (cqe->res > 0 && cqe->res & POLLIN)
        what |= EV_READ;
    if (cqe->res > 0 && cqe->res & POLLOUT)
        what |= EV_WRITE;
    if (cqe->res > 0 && cqe->res & POLLRDHUP)
        what |= EV_CLOSED;
    call(c, what);
    c = conn_at(r, cqe->user_data);
    if (c)
        ring_want(c);
}

static void handle(struct ring *r, const struct io_uring_cqe *cqe)
{
    switch ((enum kind)(cqe->user_data & 0xff)) {
    case KIND_NONE:
        return;
    case KIND_RECEIVE:
        on_receive(r, cqe);
        return;
    case KIND_POLL:
        on_poll(r, cqe);
        return;
    case KIND_ALARM: /* of an earlier time, if it was set twice: that does no harm */
        r->alarm_us = 0;
        return;
    case KIND_MAIL:
        if (!(cqe->flags & IORING_CQE_F_MORE))
            watch_mail(r);
        r->on_mail(r->mail_fd, EV_READ, r->mail_arg);
        return;
    }
    must(!"a completion of ours");
}

/* Those who were in the list when it began; who comes back in has its turn in the next one. */
static void call_ready(struct ring *r)
{
    for (uint32_t n = r->ready_n; n && r->ready; n--) {
        struct conn *c = r->ready;
        uint64_t data = conn_data(c, KIND_NONE);
        unready(c);
        call(c, EV_READ);
        c = conn_at(r, data);
        if (c)
            ring_want(c);
    }
}

static void set_alarm(struct ring *r, uint64_t at_us)
{
    if (r->alarm_us && r->alarm_us <= at_us)
        return;
    struct io_uring_sqe *sqe = order(r);
    r->alarm_us = at_us;
    r->alarm = (struct __kernel_timespec){.tv_sec = (int64_t)(at_us / US_PER_S),
                                          .tv_nsec = (int64_t)(at_us % US_PER_S) * 1000};
    io_uring_prep_timeout(sqe, &r->alarm, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, data_of(KIND_ALARM, 0, 0, 0));
}

void ring_wait(struct ring *r, uint64_t until_us)
{
    bool waits = until_us && !r->ready_n;
    if (waits)
        set_alarm(r, until_us);
    int done = waits ? io_uring_submit_and_wait(&r->io, 1) : io_uring_submit_and_get_events(&r->io);
    must(done >= 0 || done == -EINTR || done == -EAGAIN || done == -EBUSY);
}

void ring_serve(struct ring *r)
{
    /* As many as are there now: what comes meanwhile is the next turn's. */
    for (unsigned n = io_uring_cq_ready(&r->io); n; n--) {
        struct io_uring_cqe *first;
        must(io_uring_peek_cqe(&r->io, &first) == 0);
        struct io_uring_cqe cqe = *first;
        io_uring_cqe_seen(&r->io, first);
        handle(r, &cqe);
    }
    if (r->ready_n)
        call_ready(r);
}

/* ---- leaving -------------------------------------------------------------------------------- */

static void cancel_all(struct conn *c)
{
    struct ring_conn *u = &c->uring;
    if (u->receives && !u->cancelled)
        cancel(c->ring, conn_data(c, KIND_RECEIVE));
    u->cancelled = u->receives;
    if (u->poll_mask)
        cancel(c->ring, conn_data(c, KIND_POLL));
    u->poll_mask = 0;
}

void ring_detach(struct conn *c)
{
    struct ring *r = c->ring;
    if (r->now_of == c)
        keep(c, r->now_at, r->now_bytes);
    cancel_all(c);
    for (uint32_t i = 0; c->uring.receives; i++) {
        must(i < LAST_WORDS_N);
        take_waiting(c, NULL);
        if (c->uring.receives)
            (void)io_uring_submit_and_get_events(&r->io);
    }
    leave_slot(c);
}

void ring_forget(struct conn *c)
{
    cancel_all(c);
    buf_free(&c->uring.kept);
    leave_slot(c);
}
