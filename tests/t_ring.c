/* Connections in loops of both kinds, over socket pairs: what is sent arrives whole, in order and
 * once, whatever the reader does meanwhile: not read, read little, move to another loop, close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "breaker/base.h"
#include "proxy/net.h"
#include "proxy/ring.h"
#include "proxy/worker.h"

enum { STREAM_BYTES = 1 << 20, CONNS_N = 300, TURNS_N = 20000 };

struct world {
    struct worker w;
    bool ringed;
};

/* One end is a connection of a loop, the other a plain descriptor of the test's. */
struct end {
    struct conn net;
    int peer;
    uint64_t seen_bytes;
    uint32_t calls_n;
    size_t room; /* read at a time; 0: not at all */
    bool eof, failed, wrong;
    bool shakes; /* TLS begins: who plays this reads */
    struct world *world;
};

/* The byte that stands at this place of what the peer sends. */
static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 31 + (i >> 8));
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct end *e = arg;
    static uint8_t room[256 << 10];
    size_t n;
    (void)fd;
    e->calls_n++;
    if (!(what & EV_READ) || !e->room || e->shakes)
        return;
    switch (net_read(&e->net, room, e->room, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
        e->eof = true;
        net_read_wanted(&e->net, false);
        return;
    case NET_ERROR:
        e->failed = true;
        net_read_wanted(&e->net, false);
        return;
    case NET_OK:
        break;
    }
    for (size_t i = 0; i < n; i++)
        e->wrong |= room[i] != byte_at(e->seen_bytes + i);
    e->seen_bytes += n;
}

/* One turn that does not wait. */
static void turn(struct world *world)
{
    if (!world->ringed) {
        event_base_loop(world->w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        return;
    }
    ring_wait(world->w.ring, 0);
    ring_serve(world->w.ring);
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

static bool world_open(struct world *world, uint16_t index, bool ringed)
{
    struct err err;
    assert_true(worker_init(&world->w, index, &err));
    world->ringed = ringed;
    if (!ringed)
        return true;
    world->w.ring = ring_open(world->w.mail_fd, on_mail, NULL, &err);
    if (!world->w.ring)
        print_message("no io_uring here: %s\n", err.text);
    return world->w.ring != NULL;
}

static void end_open(struct end *e, struct world *world, bool settled)
{
    int fds[2];
    memset(e, 0, sizeof *e);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    net_open(&e->net, fds[0]);
    e->peer = fds[1];
    e->room = 64 << 10;
    e->world = world;
    assert_true(net_attach(&e->net, &world->w, on_event, e));
    net_settle(&e->net, settled);
}

static void end_close(struct end *e)
{
    net_close(&e->net);
    if (e->peer >= 0)
        close(e->peer);
}

/* Sends bytes [from, to) of the pattern, as far as they go; returns where it stopped. */
static uint64_t send_some(struct end *e, uint64_t from, uint64_t to)
{
    uint8_t bytes[4096];
    while (from < to) {
        size_t n = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_at(from + i);
        ssize_t k = send(e->peer, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            break;
        from += (uint64_t)k;
    }
    return from;
}

static void arrives(struct world *world, struct end *e, uint64_t upto)
{
    for (uint32_t i = 0; i < TURNS_N && e->seen_bytes < upto && !e->failed; i++)
        turn(world);
    assert_false(e->wrong);
    assert_int_equal(e->seen_bytes, upto);
}

/* ---- what must hold for both kinds ---------------------------------------------------------- */

static void messages_arrive(struct world *world, bool settled)
{
    struct end e;
    end_open(&e, world, settled);
    uint64_t sent = 0;
    for (uint32_t i = 1; i < 500; i++) {
        sent = send_some(&e, sent, sent + i);
        arrives(world, &e, sent);
    }
    assert_true(sent > 100000);
    end_close(&e);
}

static void a_stream_arrives(struct world *world, bool settled)
{
    struct end e;
    end_open(&e, world, settled);
    uint64_t sent = 0;
    for (uint32_t i = 0; i < TURNS_N && e.seen_bytes < STREAM_BYTES; i++) {
        e.room = 1 + i % 7 * 9001; /* now a byte, now more than a buffer */
        sent = send_some(&e, sent, STREAM_BYTES);
        turn(world);
        if (i % 50 == 7)
            net_settle(&e.net, !e.net.settled);
    }
    arrives(world, &e, STREAM_BYTES);
    end_close(&e);
}

static void who_is_held_loses_nothing(struct world *world, bool settled)
{
    struct end e;
    end_open(&e, world, settled);
    uint64_t sent = send_some(&e, 0, 10000);
    arrives(world, &e, sent);
    net_read_wanted(&e.net, false);
    sent = send_some(&e, sent, sent + 20000);
    uint64_t before_bytes = e.seen_bytes;
    for (uint32_t i = 0; i < 10; i++)
        turn(world);
    assert_int_equal(e.seen_bytes, before_bytes);
    /* nor does it take in more than a little while nobody wants it */
    for (uint32_t i = 0; i < 200; i++) {
        sent = send_some(&e, sent, sent + (1 << 20));
        turn(world);
    }
    assert_true(sent < 16 << 20);
    net_read_wanted(&e.net, true);
    arrives(world, &e, sent);
    end_close(&e);
}

/* ---- TLS: nothing rests in OpenSSL's own buffer ---------------------------------------------- */

/* Without certificates, and read ahead as ours are. */
static SSL *anonymous(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    assert_non_null(ctx);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, "ADH-AES128-GCM-SHA256:@SECLEVEL=0"), 1);
    SSL_CTX_set_dh_auto(ctx, 1);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL *ssl = SSL_new(ctx);
    assert_non_null(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

static SSL *secure(struct end *e)
{
    SSL *peer = anonymous();
    SSL_set_fd(peer, e->peer);
    SSL_set_accept_state(peer);
    e->shakes = true;
    assert_true(net_secure(&e->net, anonymous(), false));
    for (uint32_t i = 0; i < TURNS_N && (e->shakes || !SSL_is_init_finished(peer)); i++) {
        e->shakes = e->shakes && net_handshake(&e->net) == NET_AGAIN;
        (void)SSL_do_handshake(peer);
        turn(e->world);
    }
    assert_false(e->shakes);
    return peer;
}

/* Records that come in one receive: there is room for some of them and not for all. */
static void records_that_find_no_room_come_next(struct world *world, bool settled)
{
    static const int records[] = {500, 15900, 100};
    uint8_t bytes[16384];
    struct end e;
    end_open(&e, world, false);
    e.room = 32000;
    SSL *peer = secure(&e);
    net_settle(&e.net, settled);
    uint64_t sent = 0;
    for (uint32_t round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < COUNT_OF(records); i++) {
            for (int k = 0; k < records[i]; k++)
                bytes[k] = byte_at(sent + (uint64_t)k);
            assert_int_equal(SSL_write(peer, bytes, records[i]), records[i]);
            sent += (uint64_t)records[i];
        }
        arrives(world, &e, sent);
    }
    SSL_free(peer);
    end_close(&e);
}

/* What could not be kept is missing: nothing that came behind it may be taken for its sequel. */
static void behind_a_gap_comes_the_end(struct world *world, bool settled)
{
    struct end e;
    if (!settled)
        return; /* then the kernel keeps it */
    end_open(&e, world, settled);
    e.net.uring.kept.max = RING_BUFFER_BYTES + 1000;
    e.room = 0;
    turn(world);
    assert_int_equal(send_some(&e, 0, 2 * RING_BUFFER_BYTES + 300), 2 * RING_BUFFER_BYTES + 300);
    turn(world);
    e.room = 64 << 10;
    for (uint32_t i = 0; i < 10; i++)
        turn(world);
    assert_false(e.wrong);
    assert_int_equal(e.seen_bytes, RING_BUFFER_BYTES);
    assert_true(e.failed);
    end_close(&e);
}

static void the_end_is_told_behind_the_last_byte(struct world *world, bool settled)
{
    struct end e;
    end_open(&e, world, settled);
    turn(world);
    uint64_t sent = send_some(&e, 0, 30000);
    shutdown(e.peer, SHUT_WR);
    e.room = 4000;
    arrives(world, &e, sent);
    for (uint32_t i = 0; i < 10; i++)
        turn(world);
    assert_true(e.eof);
    assert_false(e.failed);
    end_close(&e);
}

/* The peer must see the end although an order was standing. */
static void a_closed_one_is_closed(struct world *world, bool settled)
{
    struct end e;
    uint8_t byte;
    end_open(&e, world, settled);
    turn(world);
    net_close(&e.net);
    turn(world);
    struct pollfd p = {.fd = e.peer, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 1000), 1);
    assert_int_equal(recv(e.peer, &byte, 1, 0), 0);
    uint32_t calls_n = e.calls_n;
    for (uint32_t i = 0; i < 5; i++)
        turn(world);
    assert_int_equal(e.calls_n, calls_n);
    end_close(&e);
}

static void closing_drops_what_has_come(struct world *world, bool settled)
{
    static struct end ends[CONNS_N];
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < CONNS_N; i++)
            end_open(&ends[i], world, settled);
        turn(world);
        for (uint32_t i = 0; i < CONNS_N; i++)
            assert_int_equal(send_some(&ends[i], 0, 5000), 5000);
        for (uint32_t i = 0; i < CONNS_N; i += 2)
            net_close(&ends[i].net); /* a later one may be given its slot */
        for (uint32_t i = 1; i < CONNS_N; i += 2)
            arrives(world, &ends[i], 5000);
        for (uint32_t i = 0; i < CONNS_N; i++) {
            assert_int_equal(ends[i].seen_bytes, i % 2 ? 5000 : 0);
            end_close(&ends[i]);
        }
    }
}

static void stuck_bytes_are_flushed(struct world *world, bool settled)
{
    static uint8_t much[1 << 20];
    struct end e;
    uint8_t room[65536];
    size_t got = 0;
    end_open(&e, world, settled);
    assert_int_equal(net_send(&e.net, much, sizeof much), NET_AGAIN);
    assert_true(e.net.armed & EV_WRITE);
    for (uint32_t i = 0; i < TURNS_N && got < sizeof much; i++) {
        ssize_t k = recv(e.peer, room, sizeof room, 0);
        got += k > 0 ? (size_t)k : 0;
        uint32_t calls_n = e.calls_n;
        turn(world);
        if (e.calls_n > calls_n && net_stuck(&e.net))
            assert_int_not_equal(net_flush(&e.net), NET_ERROR);
    }
    assert_int_equal(got, sizeof much);
    assert_false(e.net.armed & EV_WRITE);
    end_close(&e);
}

static void between_two_loops(bool ringed)
{
    struct world here, there;
    if (!world_open(&here, 1, ringed) || !world_open(&there, 2, ringed)) {
        skip();
        return;
    }
    struct end e;
    end_open(&e, &here, true);
    uint64_t sent = 0;
    for (uint32_t i = 0; i < 200; i++) {
        struct world *from = i % 2 ? &there : &here, *to = i % 2 ? &here : &there;
        sent = send_some(&e, sent, sent + 100 + i * 50);
        if (i % 3 == 0)
            turn(from);
        net_detach(&e.net);
        sent = send_some(&e, sent, sent + 100);
        assert_true(net_attach(&e.net, &to->w, on_event, &e));
        if (i % 5 == 0)
            arrives(to, &e, sent);
    }
    arrives(&here, &e, sent);
    end_close(&e);
    worker_free(&here.w);
    worker_free(&there.w);
}

/* ---- by ring, and by libevent --------------------------------------------------------------- */

typedef void (*scene)(struct world *world, bool settled);

static void play(scene play_it)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct world world;
        if (world_open(&world, 1, i > 0)) {
            play_it(&world, i == 2);
            worker_free(&world.w);
        }
    }
}

#define SCENE(name)                                                                                \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        play(name);                                                                                \
    }
SCENE(messages_arrive)
SCENE(a_stream_arrives)
SCENE(who_is_held_loses_nothing)
SCENE(records_that_find_no_room_come_next)
SCENE(behind_a_gap_comes_the_end)
SCENE(the_end_is_told_behind_the_last_byte)
SCENE(a_closed_one_is_closed)
SCENE(closing_drops_what_has_come)
SCENE(stuck_bytes_are_flushed)

static void test_between_two_rings(void **state)
{
    (void)state;
    between_two_loops(true);
}

static void test_between_two_bases(void **state)
{
    (void)state;
    between_two_loops(false);
}

/* A whole worker: ticks, deferred letters and mail come in time by either kind of loop. */
struct count {
    struct worker w;
    struct ticker fast;
    struct letter deferred, posted;
    uint32_t fast_n, slow_n, deferred_n, posted_n;
};

static void fast_ticks(void *arg)
{
    struct count *c = arg;
    if (++c->fast_n == 40)
        worker_tick_stop(&c->w, &c->fast);
}

static void open_deferred(struct worker *w, struct letter *l)
{
    struct count *c = OWNER_OF(struct count, deferred, l);
    if (++c->deferred_n < 100)
        worker_defer(w, l);
}

static void open_posted(struct worker *w, struct letter *l)
{
    struct count *c = OWNER_OF(struct count, posted, l);
    c->posted_n++;
    c->deferred.open = open_deferred;
    worker_defer(w, &c->deferred);
}

static void slow_ticks(struct worker *w, uint64_t now_us)
{
    struct count *c = OWNER_OF(struct count, w, w);
    (void)now_us;
    if (++c->slow_n == 1) {
        c->fast = (struct ticker){.tick = fast_ticks, .arg = c, .every_us = 2 * US_PER_MS};
        assert_true(worker_tick_start(w, &c->fast));
        c->posted.open = open_posted;
        worker_post(w, &c->posted);
    }
    if (c->slow_n == 3)
        worker_stop(w);
}

static void test_ticks_and_letters(void **state)
{
    (void)state;
    for (uint32_t ringed = 0; ringed < 2; ringed++) {
        struct count c = {.fast_n = 0};
        struct err err;
        assert_true(worker_init(&c.w, 1, &err));
        c.w.on_timer = slow_ticks;
        c.w.wants_ring = ringed > 0;
        uint64_t begun_us = clock_us();
        worker_run(&c.w);
        assert_true(clock_us() - begun_us >= 250 * US_PER_MS);
        assert_int_equal(c.fast_n, 40);
        assert_int_equal(c.deferred_n, 100);
        assert_int_equal(c.posted_n, 1);
        worker_free(&c.w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_arrive),
        cmocka_unit_test(test_a_stream_arrives),
        cmocka_unit_test(test_who_is_held_loses_nothing),
        cmocka_unit_test(test_records_that_find_no_room_come_next),
        cmocka_unit_test(test_behind_a_gap_comes_the_end),
        cmocka_unit_test(test_the_end_is_told_behind_the_last_byte),
        cmocka_unit_test(test_a_closed_one_is_closed),
        cmocka_unit_test(test_closing_drops_what_has_come),
        cmocka_unit_test(test_stuck_bytes_are_flushed),
        cmocka_unit_test(test_between_two_rings),
        cmocka_unit_test(test_between_two_bases),
        cmocka_unit_test(test_ticks_and_letters),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
