#include "proxy/status.h"

#include "config/table.h" /* before all that includes uthash */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/control.h"
#include "proxy/log.h"
#include "proxy/metrics.h"
#include "proxy/net.h"

enum { SEND_MAX = 256 << 10, BACKLOG_N = 64, ACCEPT_BATCH = 16 };

/*   READS --a whole request--> ANSWERS --all sent--> LINGERS --the peer closed--> gone
 * LINGERS: closing at once would reset a peer that is still sending, and take our answer from it.
 */
enum visitor_state { VISITOR_READS, VISITOR_ANSWERS, VISITOR_LINGERS };

struct visitor {
    struct conn net;
    struct status *status;
    struct visitor *prev, *next; /* oldest first */
    enum visitor_state state;
    struct buf in, out;
    uint64_t since_us;
    bool gone;
    struct letter burial;
};

struct status {
    struct control *control;
    int fd;
    struct event *accepting;
    struct visitor *visitors;
    uint32_t visitors_n;
};

/* ---- the end of one -------------------------------------------------------------------------- */

static void bury(struct worker *w, struct letter *l)
{
    (void)w;
    free((char *)l - offsetof(struct visitor, burial));
}

static void end(struct visitor *v)
{
    struct status *s = v->status;
    if (v->gone)
        return;
    v->gone = true;
    net_close(&v->net);
    buf_free(&v->in);
    buf_free(&v->out);
    DL_DELETE(s->visitors, v);
    s->visitors_n--;
    v->burial.open = bury;
    worker_defer(s->control->hub->worker, &v->burial);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void pump(struct visitor *v)
{
    while (buf_used(&v->out) > 0 && !net_stuck(&v->net)) {
        struct view rest = buf_view(&v->out);
        size_t n = rest.n < SEND_MAX ? rest.n : SEND_MAX;
        if (net_send(&v->net, rest.at, n) == NET_ERROR) {
            end(v);
            return;
        }
        buf_take(&v->out, n);
    }
    if (buf_used(&v->out) > 0 || net_stuck(&v->net))
        return;
    v->state = VISITOR_LINGERS;
    if (shutdown(v->net.fd, SHUT_WR) < 0)
        end(v);
}

struct answer {
    int code;
    const char *reason, *type;
    struct buf body;
};

static void answer_text(struct answer *a, int code, const char *reason, const char *text)
{
    a->code = code;
    a->reason = reason;
    a->type = "text/plain; charset=utf-8";
    buf_free(&a->body);
    if (!buf_put(&a->body, text, strlen(text)))
        a->code = 500;
}

static void answer_body(struct answer *a, const char *type, bool fits)
{
    a->code = 200;
    a->reason = "OK";
    a->type = type;
    if (!fits)
        answer_text(a, 500, "Internal Server Error", "too large, or out of memory\n");
}

static struct rows_from rows_from(struct status *s)
{
    struct control *k = s->control;
    return (struct rows_from){.proxy = k->proxy,
                              .samples = &k->samples,
                              .now_us = control_now(k),
                              .suspended = k->suspended};
}

/* Only what /metrics tells as well: this port asks nobody who he is. */
static bool is_public(const struct rows_show *show)
{
    return show && show->source == ROWS_HERE && show->table->prefix;
}

static void show(struct status *s, const char *name, struct answer *a)
{
    const struct rows_show *what = rows_find(name);
    struct rows_from from = rows_from(s);
    struct rows rows = {.at = NULL};
    if (!is_public(what)) {
        answer_text(a, 404, "Not Found", "no such table here\n");
        return;
    }
    what->fill(&from, &rows);
    answer_body(a, "application/json",
                !rows.failed && table_put_json(&a->body, what->table, &rows));
    rows_free(&rows);
}

static void index_page(struct answer *a)
{
    bool fits = table_putf(&a->body, "/metrics\n/healthz\n/readyz\n");
    for (size_t i = 0; fits && i < rows_shows_n; i++)
        if (is_public(&rows_shows[i]))
            fits = table_putf(&a->body, "/show/%s  %s\n", rows_shows[i].name,
                              rows_shows[i].table->help);
    answer_body(a, "text/plain; charset=utf-8", fits);
}

static void answer_path(struct status *s, const char *path, struct answer *a)
{
    struct rows_from from = rows_from(s);
    if (!strcmp(path, "/metrics"))
        answer_body(a, "text/plain; version=0.0.4; charset=utf-8", metrics_put(&a->body, &from));
    else if (!strcmp(path, "/healthz") && control_is_alive(s->control))
        answer_text(a, 200, "OK", "ok\n");
    else if (!strcmp(path, "/healthz"))
        answer_text(a, 503, "Service Unavailable", "a loop does not answer\n");
    else if (!strcmp(path, "/readyz") && control_is_ready(s->control))
        answer_text(a, 200, "OK", "ready\n");
    else if (!strcmp(path, "/readyz"))
        answer_text(a, 503, "Service Unavailable", "paused, draining, or not listening\n");
    else if (!strcmp(path, "/"))
        index_page(a);
    else if (!strncmp(path, "/show/", 6))
        show(s, path + 6, a);
    else
        answer_text(a, 404, "Not Found", "no such page; see /\n");
}

static void send_answer(struct visitor *v, struct answer *a, bool with_body)
{
    struct view body = buf_view(&a->body);
    bool fits = table_putf(&v->out,
                           "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                           a->code, a->reason, a->type, body.n) &&
                (!with_body || buf_put_view(&v->out, body));
    v->state = VISITOR_ANSWERS;
    buf_free(&a->body);
    buf_free(&v->in);
    if (fits)
        pump(v);
    else
        end(v);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* "GET /path?query HTTP/1.1": the path, NUL in the place of what follows it. NULL: not HTTP. */
static char *path_of(char *line)
{
    char *path = strchr(line, ' ');
    char *version = path ? strchr(path + 1, ' ') : NULL;
    if (!version || strncmp(version, " HTTP/1.", 8) != 0 || path[1] != '/')
        return NULL;
    *path++ = '\0';
    *version = '\0';
    path[strcspn(path, "?#")] = '\0';
    return path;
}

static void answer_request(struct visitor *v, char *line)
{
    struct answer a = {.body.max = STATUS_ANSWER_MAX};
    const char *path = path_of(line);
    bool head = path && !strcmp(line, "HEAD");
    if (!path)
        answer_text(&a, 400, "Bad Request", "this is not HTTP/1.x\n");
    else if (!head && strcmp(line, "GET") != 0)
        answer_text(&a, 405, "Method Not Allowed", "only GET and HEAD\n");
    else
        answer_path(v->status, path, &a);
    send_answer(v, &a, !head);
}

/* The request line as text, once all headers are there. False: not yet. */
static bool whole_request(const struct visitor *v, char line[STATUS_REQUEST_MAX + 1])
{
    struct view in = buf_view(&v->in);
    if (!memmem(in.at, in.n, "\r\n\r\n", 4) && !memmem(in.at, in.n, "\n\n", 2))
        return false;
    size_t n = 0;
    while (n < in.n && n < STATUS_REQUEST_MAX && in.at[n] != '\r' && in.at[n] != '\n')
        n++;
    memcpy(line, in.at, n);
    line[n] = '\0';
    return true;
}

static void take_in(struct visitor *v)
{
    char line[STATUS_REQUEST_MAX + 1];
    uint8_t *scratch = v->status->control->hub->worker->scratch;
    struct answer a = {.body.max = STATUS_ANSWER_MAX};
    size_t n;
    switch (net_read(&v->net, scratch, STATUS_REQUEST_MAX, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        end(v);
        return;
    case NET_OK:
        break;
    }
    if (v->state != VISITOR_READS)
        return; /* it may send what it likes, it has been answered */
    if (!buf_put(&v->in, scratch, n)) {
        answer_text(&a, 431, "Request Header Fields Too Large", "too large\n");
        send_answer(v, &a, true);
    } else if (whole_request(v, line)) {
        answer_request(v, line);
    }
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct visitor *v = arg;
    (void)fd;
    if (v->gone)
        return;
    if (what & EV_READ)
        take_in(v);
    if (v->gone || !(what & EV_WRITE))
        return;
    if (net_flush(&v->net) == NET_ERROR)
        end(v);
    else if (v->state == VISITOR_ANSWERS)
        pump(v);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void welcome(struct status *s, int fd)
{
    struct visitor *v = calloc(1, sizeof *v);
    if (!v) {
        close(fd);
        return;
    }
    net_open(&v->net, fd);
    if (!net_attach(&v->net, s->control->hub->worker, on_event, v)) {
        net_close(&v->net);
        free(v);
        return;
    }
    if (s->visitors_n >= STATUS_CONNECTIONS_MAX)
        end(s->visitors);
    v->status = s;
    v->in.max = STATUS_REQUEST_MAX;
    v->out.max = STATUS_ANSWER_MAX + STATUS_REQUEST_MAX;
    v->since_us = control_now(s->control);
    DL_APPEND(s->visitors, v);
    s->visitors_n++;
}

static void accept_some(evutil_socket_t listener, short what, void *arg)
{
    struct status *s = arg;
    (void)what;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4((int)listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) { /* none is left, or one has gone already; but out of descriptors, we pause */
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                event_del(s->accepting);
            return;
        }
        welcome(s, fd);
    }
}

void status_tick(struct status *s, uint64_t now_us)
{
    if (!s)
        return;
    while (s->visitors && now_us - s->visitors->since_us > STATUS_TIME_US)
        end(s->visitors);
    if (event_add(s->accepting, NULL) < 0)
        log_debug("status port: accepts again later");
}

static int listen_at(const struct addrinfo *ai)
{
    int yes = 1, no = 0;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG_N) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* The first address that works; "*" and "" mean all. */
static int listen_on(const char *host, int port, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *all, *ai;
    char service[12];
    int fd = -1;
    bool any = !*host || !strcmp(host, "*");
    snprintf(service, sizeof service, "%d", port);
    int bad = getaddrinfo(any ? "::" : host, service, &hints, &all);
    if (bad) {
        err_set(err, "08001", "status_listen_addr \"%s\": %s", host, gai_strerror(bad));
        return -1;
    }
    for (ai = all; ai && fd < 0; ai = ai->ai_next)
        fd = listen_at(ai);
    if (fd < 0)
        err_set(err, "08001", "status port %s:%d: %s", host, port, strerror(errno));
    freeaddrinfo(all);
    return fd;
}

bool status_open(struct status **out, struct control *k, struct err *err)
{
    const struct config_globals *g = &k->hub->config->globals;
    *out = NULL;
    if (g->status_port == 0)
        return true;
    struct status *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, "53200", "out of memory");
    s->control = k;
    s->fd = listen_on(g->status_listen_addr, g->status_port, err);
    if (s->fd < 0) {
        free(s);
        return false;
    }
    s->accepting = event_new(k->hub->worker->base, s->fd, EV_READ | EV_PERSIST, accept_some, s);
    if (!s->accepting || event_add(s->accepting, NULL) < 0) {
        status_close(&s);
        return err_set(err, "53200", "out of memory");
    }
    *out = s;
    return true;
}

void status_close(struct status **status)
{
    struct status *s = *status;
    *status = NULL;
    if (!s)
        return;
    while (s->visitors)
        end(s->visitors);
    if (s->accepting)
        event_free(s->accepting);
    close(s->fd);
    free(s);
}
