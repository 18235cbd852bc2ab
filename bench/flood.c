/* The cheapest clients there can be: each sends one simple Query, waits for ReadyForQuery and sends
 * it again, without a library between it and its socket, so that the load leaves the machine to the
 * proxy. pgbench takes more CPU than any pooler.
 *
 * All log in first (trust only), then run for a while that does not count; "ready" on standard
 * error begins what counts. At the end a JSON object tells how many answers there were, how long
 * clients waited for them, and how many the luckiest and the unluckiest client got. Then all stay
 * for a moment, so that whoever reads the proxy's clock does not read their farewell.
 */
#include "bench/hist.h"
#include "bench/opt.h"
#include "bench/stop.h"
#include "proxy/wire.h"
#include "proxy/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CONNS_MAX = 16384,
    EVENTS_MAX = 256,
    READ_BYTES = 16384,
    LOGIN_S_MAX = 20,
    FAREWELL_US = 100 * US_PER_MS,
};

struct opts {
    const char *conninfo, *sql;
    uint32_t conns_n;
    double warm_s, seconds;
};

struct conn {
    int fd;
    uint8_t head[WIRE_HEADER_BYTES]; /* of a message that came in pieces */
    uint32_t head_bytes, body_bytes; /* there; still to come */
    bool ready, failed;              /* what the bytes walked so far said */
    uint64_t asked_us;
    uint32_t answers_n;
};

struct flood {
    struct opts opts;
    int epoll_fd;
    struct conn *conns;
    struct sockaddr_storage to;
    socklen_t to_bytes;
    struct buf startup, query;
    bool counts;
    uint64_t answers_n, errors_n;
    struct hist latency;
};

/* ---- where to, and as whom ------------------------------------------------------------------ */

static const char *option_of(const PQconninfoOption *options, const char *name)
{
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (!strcmp(o->keyword, name))
            return o->val ? o->val : "";
    return "";
}

static bool set_address(struct flood *f, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (host[0] == '/') {
        struct sockaddr_un *to = (struct sockaddr_un *)&f->to;
        int n = snprintf(to->sun_path, sizeof to->sun_path, "%s/.s.PGSQL.%s", host, port);
        to->sun_family = AF_UNIX;
        f->to_bytes = sizeof *to;
        return n > 0 && (size_t)n < sizeof to->sun_path;
    }
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return false;
    memcpy(&f->to, found->ai_addr, found->ai_addrlen);
    f->to_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool put_startup(struct buf *b, const char *user, const char *database)
{
    bool put = buf_put_u32(b, 0) && buf_put_u32(b, 3 << 16) && buf_put_cstr(b, "user") &&
               buf_put_cstr(b, user) && buf_put_cstr(b, "database") && buf_put_cstr(b, database) &&
               buf_put_u8(b, 0);
    if (put)
        buf_set_u32(b, 0, buf_used(b));
    return put;
}

static bool flood_prepare(struct flood *f)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(f->opts.conninfo, &why);
    if (!options) {
        fprintf(stderr, "flood: %s\n", why ? why : "out of memory");
        PQfreemem(why);
        return false;
    }
    f->startup.max = f->query.max = 1 << 16;
    bool good = set_address(f, option_of(options, "host"), option_of(options, "port")) &&
                put_startup(&f->startup, option_of(options, "user"), option_of(options, "dbname"));
    PQconninfoFree(options);
    return good && buf_put_u8(&f->query, 'Q') &&
           buf_put_u32(&f->query, (uint32_t)strlen(f->opts.sql) + 5) &&
           buf_put_cstr(&f->query, f->opts.sql);
}

/* ---- one client ------------------------------------------------------------------------------ */

/* Steps over the messages; false: that is not PostgreSQL. */
static bool conn_walk(struct conn *c, struct view v)
{
    while (v.n) {
        if (c->body_bytes) {
            size_t n = c->body_bytes < v.n ? c->body_bytes : v.n;
            (void)view_take_bytes(&v, n);
            c->body_bytes -= (uint32_t)n;
            continue;
        }
        c->head[c->head_bytes++] = view_take_u8(&v);
        if (c->head_bytes < WIRE_HEADER_BYTES)
            continue;
        struct view head = view_of(c->head, WIRE_HEADER_BYTES);
        uint8_t type = view_take_u8(&head);
        uint32_t length = view_take_u32(&head);
        if (length < 4)
            return false;
        c->head_bytes = 0;
        c->body_bytes = length - 4;
        c->ready |= type == 'Z';
        c->failed |= type == 'E';
    }
    return true;
}

static bool conn_send(const struct conn *c, const struct buf *what)
{
    struct view v = buf_view(what);
    return send(c->fd, v.at, v.n, MSG_NOSIGNAL) == (ssize_t)v.n;
}

/* False: the connection is over. */
static bool conn_read(struct conn *c)
{
    uint8_t bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    return n > 0 && conn_walk(c, view_of(bytes, (size_t)n));
}

static bool conn_login(struct flood *f, struct conn *c)
{
    int on = 1;
    struct timeval patience = {.tv_sec = LOGIN_S_MAX};
    c->fd = socket(f->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        return false;
    if (f->to.ss_family == AF_INET)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&f->to, f->to_bytes) != 0 || !conn_send(c, &f->startup))
        return false;
    uint64_t until_us = clock_us() + LOGIN_S_MAX * (uint64_t)US_PER_S;
    while (!c->ready && !c->failed && clock_us() < until_us)
        if (!conn_read(c))
            return false;
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    return c->ready && !c->failed && fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0 &&
           epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, c->fd, &want) == 0;
}

static bool conn_ask(struct flood *f, struct conn *c, uint64_t now_us)
{
    c->ready = c->failed = false;
    c->asked_us = now_us;
    return conn_send(c, &f->query);
}

static bool conn_event(struct flood *f, struct conn *c, uint64_t now_us)
{
    if (!conn_read(c))
        return false;
    if (!c->ready)
        return true;
    if (f->counts) {
        f->answers_n++;
        f->errors_n += c->failed;
        c->answers_n++;
        hist_add(&f->latency, now_us - c->asked_us);
    }
    return conn_ask(f, c, now_us);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool flood_open(struct flood *f)
{
    f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    f->conns = calloc(f->opts.conns_n, sizeof *f->conns);
    must(f->epoll_fd >= 0 && f->conns);
    for (uint32_t i = 0; i < f->opts.conns_n; i++)
        if (!conn_login(f, &f->conns[i])) {
            fprintf(stderr, "flood: client %u of %u was not let in\n", i + 1, f->opts.conns_n);
            return false;
        }
    for (uint32_t i = 0; i < f->opts.conns_n; i++)
        if (!conn_ask(f, &f->conns[i], clock_us()))
            return false;
    return true;
}

static bool flood_run(struct flood *f, double seconds)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_us = clock_us(), end_us = now_us + (uint64_t)(seconds * US_PER_S);
    while (!stop_asked && now_us < end_us) {
        int n = epoll_wait(f->epoll_fd, events, EVENTS_MAX, 20);
        now_us = clock_us();
        for (int i = 0; i < n; i++)
            if (!conn_event(f, events[i].data.ptr, now_us)) {
                fputs("flood: a connection was lost\n", stderr);
                return false;
            }
    }
    return true;
}

static void flood_print(const struct flood *f, double seconds)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < f->opts.conns_n; i++) {
        uint32_t n = f->conns[i].answers_n;
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    printf("{\"seconds\": %.6f, \"answers\": %llu, \"errors\": %llu, \"least\": %u, \"most\": %u",
           seconds, (unsigned long long)f->answers_n, (unsigned long long)f->errors_n, least, most);
    printf(", \"p50_us\": %llu, \"p99_us\": %llu, \"max_us\": %llu}\n",
           (unsigned long long)hist_quantile(&f->latency, 0.5),
           (unsigned long long)hist_quantile(&f->latency, 0.99),
           (unsigned long long)f->latency.us_max);
    fflush(stdout);
}

static bool parse_opts(struct opts *o, int argc, char **argv)
{
    *o = (struct opts){.sql = "SELECT 1", .conns_n = 16, .warm_s = 0.5, .seconds = 2};
    const struct opt table[] = {
        {"conns", OPT_COUNT, &o->conns_n, .min = 1, .max = CONNS_MAX},
        {"sql", OPT_TEXT, .into = &o->sql},
        {"warm", OPT_REAL, &o->warm_s, .min = 0, .max = 60},
        {"seconds", OPT_REAL, &o->seconds, .min = 0.01, .max = 600},
    };
    if (opt_parse(table, COUNT_OF(table), argc, argv, &o->conninfo))
        return true;
    fputs("flood CONNINFO [--conns=N] [--sql=TEXT] [--warm=SECONDS] [--seconds=N]\n", stderr);
    return false;
}

int main(int argc, char **argv)
{
    static struct flood flood;
    if (!parse_opts(&flood.opts, argc, argv))
        return 2;
    stop_on_signals();
    if (!flood_prepare(&flood) || !flood_open(&flood) || !flood_run(&flood, flood.opts.warm_s))
        return 1;
    fputs("ready\n", stderr);
    uint64_t begun_us = clock_us();
    flood.counts = true;
    if (!flood_run(&flood, flood.opts.seconds))
        return 1;
    flood_print(&flood, (double)(clock_us() - begun_us) / US_PER_S);
    usleep(FAREWELL_US);
    return 0; /* the kernel closes what is left */
}
