/* A PostgreSQL that does no work: it lets everybody in and answers every simple Query with the same
 * row, so that a pooler is the limit and not the database. One thread, one epoll set, bounded in
 * connections, in bytes kept for each, and in lifetime. It listens on 127.0.0.1 and knows nothing
 * but Query and Terminate: whoever says anything else is hung up on.
 */
#include "bench/opt.h"
#include "bench/stop.h"
#include "proxy/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PEERS_MAX = 8192,      /* the idle servers of thousands of pools; beyond: closed at once */
    IN_BYTES_MAX = 8192,   /* a pooler's batch of short statements */
    OUT_BYTES_MAX = 65536, /* the answers to it */
    EVENTS_MAX = 256,
    BACKLOG_N = 1024,
};

struct peer {
    int fd;
    bool welcome; /* logged in */
    uint32_t in_bytes;
    uint8_t in[IN_BYTES_MAX];
};

struct stub {
    int epoll_fd, listen_fd;
    uint32_t peers_n;
    struct buf login, answer, out;
};

/* ---- what it says ------------------------------------------------------------------------- */

static void put_setting(struct buf *b, const char *name, const char *value)
{
    must(buf_put_u8(b, 'S') && buf_put_u32(b, (uint32_t)(strlen(name) + strlen(value) + 6)) &&
         buf_put_cstr(b, name) && buf_put_cstr(b, value));
}

static void put_ready(struct buf *b)
{
    must(buf_put_u8(b, 'Z') && buf_put_u32(b, 5) && buf_put_u8(b, 'I'));
}

static void make_login(struct buf *b)
{
    static const char *const settings[][2] = {{"server_version", "15.0 (stub)"},
                                              {"server_encoding", "UTF8"},
                                              {"client_encoding", "UTF8"},
                                              {"DateStyle", "ISO, MDY"},
                                              {"TimeZone", "Etc/UTC"},
                                              {"IntervalStyle", "postgres"},
                                              {"integer_datetimes", "on"},
                                              {"is_superuser", "off"},
                                              {"in_hot_standby", "off"},
                                              {"application_name", ""},
                                              {"standard_conforming_strings", "on"}};
    must(buf_put_u8(b, 'R') && buf_put_u32(b, 8) && buf_put_u32(b, 0));
    for (uint32_t i = 0; i < COUNT_OF(settings); i++)
        put_setting(b, settings[i][0], settings[i][1]);
    must(buf_put_u8(b, 'K') && buf_put_u32(b, 12) && buf_put_u32(b, 1) && buf_put_u32(b, 1));
    put_ready(b);
}

/* One row of one int4: what a read by key looks like. */
static void make_answer(struct buf *b)
{
    must(buf_put_u8(b, 'T') && buf_put_u32(b, 33) && buf_put_u16(b, 1) &&
         buf_put_cstr(b, "abalance") && buf_put_u32(b, 0) && buf_put_u16(b, 0) &&
         buf_put_u32(b, 23) && buf_put_u16(b, 4) && buf_put_u32(b, UINT32_MAX) &&
         buf_put_u16(b, 0));
    must(buf_put_u8(b, 'D') && buf_put_u32(b, 11) && buf_put_u16(b, 1) && buf_put_u32(b, 1) &&
         buf_put_u8(b, '0'));
    must(buf_put_u8(b, 'C') && buf_put_u32(b, 13) && buf_put_cstr(b, "SELECT 1"));
    put_ready(b);
}

/* ---- what it hears ------------------------------------------------------------------------ */

/* False: the peer is done with, or not understood. */
static bool hear_hello(struct stub *s, struct peer *p, struct view *in)
{
    struct wire_startup hello;
    enum wire_verdict verdict = wire_startup(*in, &hello);
    if (verdict != WIRE_OK)
        return verdict == WIRE_MORE;
    (void)view_take_bytes(in, hello.packet_n);
    if (hello.hello == WIRE_HELLO_SSL || hello.hello == WIRE_HELLO_GSS)
        return buf_put_u8(&s->out, 'N');
    if (hello.hello != WIRE_HELLO_STARTUP)
        return false;
    p->welcome = true;
    return buf_put_view(&s->out, buf_view(&s->login));
}

static bool hear(struct stub *s, struct peer *p, struct view *in)
{
    struct wire_msg msg = {.type = 0}; /* some compilers cannot see that WIRE_OK fills it */
    while (in->n) {
        size_t before = in->n;
        if (!p->welcome) {
            if (!hear_hello(s, p, in))
                return false;
            if (in->n == before)
                return true;
            continue;
        }
        enum wire_verdict verdict = wire_next(*in, wire_from_client, IN_BYTES_MAX, &msg);
        if (verdict == WIRE_BAD || (verdict == WIRE_OK && msg.type != 'Q'))
            return false;
        if (verdict == WIRE_MORE || !wire_is_whole(&msg))
            return true;
        (void)view_take_bytes(in, WIRE_HEADER_BYTES + msg.body_n);
        if (!buf_put_view(&s->out, buf_view(&s->answer)))
            return false;
    }
    return true;
}

/* ---- peers -------------------------------------------------------------------------------- */

static void peer_close(struct stub *s, struct peer **p)
{
    close((*p)->fd);
    free(*p);
    *p = NULL;
    s->peers_n--;
}

static void accept_all(struct stub *s)
{
    int fd, on = 1;
    while ((fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *p = s->peers_n < PEERS_MAX ? calloc(1, sizeof *p) : NULL;
        if (!p) {
            close(fd);
            continue;
        }
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = p};
        p->fd = fd;
        s->peers_n++;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &want) != 0)
            peer_close(s, &p);
    }
}

/* A peer asks again only when it was answered, so that what is sent always fits its socket. */
static bool flush(struct stub *s, const struct peer *p)
{
    struct view v = buf_view(&s->out);
    bool sent = !v.n || send(p->fd, v.at, v.n, MSG_NOSIGNAL) == (ssize_t)v.n;
    buf_truncate(&s->out, 0);
    return sent;
}

static void peer_event(struct stub *s, struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->in_bytes, IN_BYTES_MAX - p->in_bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* gone, or a statement longer than any of ours */
        peer_close(s, &p);
        return;
    }
    struct view in = view_of(p->in, p->in_bytes + (size_t)n);
    if (!hear(s, p, &in) || !flush(s, p)) {
        buf_truncate(&s->out, 0);
        peer_close(s, &p);
        return;
    }
    memmove(p->in, in.at, in.n);
    p->in_bytes = (uint32_t)in.n;
}

/* ---- the loop ----------------------------------------------------------------------------- */

static bool stub_open(struct stub *s, uint16_t port)
{
    int on = 1;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL};
    s->login.max = s->answer.max = 1024;
    s->out.max = OUT_BYTES_MAX;
    make_login(&s->login);
    make_answer(&s->answer);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return s->epoll_fd >= 0 && s->listen_fd >= 0 &&
           setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           bind(s->listen_fd, (struct sockaddr *)&at, sizeof at) == 0 &&
           listen(s->listen_fd, BACKLOG_N) == 0 &&
           epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &want) == 0;
}

static void stub_run(struct stub *s, double seconds)
{
    struct epoll_event events[EVENTS_MAX];
    time_t end_s = time(NULL) + (time_t)seconds + 1;
    while (!stop_asked && time(NULL) < end_s) {
        int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, 1000);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                peer_event(s, events[i].data.ptr);
            else
                accept_all(s);
    }
}

int main(int argc, char **argv)
{
    static struct stub stub;
    const char *port = NULL;
    double seconds = 60;
    const struct opt table[] = {{"seconds", OPT_REAL, &seconds, .min = 1, .max = 3600}};
    long number = 0;
    if (opt_parse(table, COUNT_OF(table), argc, argv, &port))
        number = strtol(port, NULL, 10);
    if (number < 1 || number > UINT16_MAX) {
        fputs("stub PORT [--seconds=N]\n", stderr);
        return 2;
    }
    stop_on_signals();
    if (!stub_open(&stub, (uint16_t)number)) {
        perror("stub");
        return 1;
    }
    stub_run(&stub, seconds);
    return 0; /* the kernel closes what is left */
}
