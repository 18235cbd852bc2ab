#include "proxy/copyout.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/census.h"
#include "proxy/client.h"
#include "proxy/route.h"
#include "proxy/server.h"
#include "proxy/vars.h"

/* What travels between the console and one loop. */
struct part {
    struct letter letter;
    struct copyout *copyout;
    uint16_t worker;
    uint32_t slot_i;           /* clients: where to go on */
    const struct server *last; /* servers: the last one copied, compared and never followed */
    uint64_t last_id;
    bool finished;
    size_t n;
    struct copyout_peer rows[COPYOUT_CHUNK_N];
};

struct copyout {
    struct copyout_opts opts;
    struct proxy *proxy;
    bool abandoned;
    uint16_t parts_n; /* still under way */
};

static uint32_t the_copyouts_n; /* the control loop's */

/* ---- in the loop that owns the rows ---------------------------------------------------------- */

static const char *user_of(const struct client *c)
{
    if (c->of_user)
        return census_name(c->of_user);
    return c->login ? c->login->user : "";
}

static void copy_client(const struct hub *h, const struct client *c, struct copyout_peer *out)
{
    const char *application = c->vars ? vars_get(c->vars, "application_name") : NULL;
    uint64_t now_us = worker_now(h->worker);
    memset(out, 0, sizeof *out);
    out->is_client = true;
    out->id = c->id;
    out->link_id = c->server ? c->server->id : 0;
    out->state = client_state_name(c->state);
    out->route = c->route;
    snprintf(out->user, sizeof out->user, "%s", user_of(c));
    out->worker = h->worker->index;
    out->class_i = c->route && c->state != CLIENT_IDLE ? c->waiter.class_i : c->class_i;
    out->pid = c->peer.is_unix ? (uint32_t)c->peer.pid : 0;
    out->peer = c->peer;
    out->connected_us = c->connected_us;
    out->request_us = c->request_us;
    if (c->state == CLIENT_QUEUED && now_us > c->request_us)
        out->wait_us = now_us - c->request_us;
    out->prepared_n = prep_names_n(c->names);
    out->in_bytes = buf_used(&c->in);
    out->out_bytes = buf_used(&c->net.out);
    out->left_bytes = c->body_left;
    if (c->net.ssl)
        tls_describe(c->net.ssl, out->tls);
    if (application)
        snprintf(out->application_name, sizeof out->application_name, "%s", application);
}

static void copy_server(const struct hub *h, const struct server *s, struct copyout_peer *out)
{
    const char *application = s->vars ? vars_get(s->vars, "application_name") : NULL;
    socklen_t bytes = sizeof out->local;
    memset(out, 0, sizeof *out);
    out->id = s->id;
    out->link_id = s->client ? s->client->id : 0;
    out->state = server_state_name(s->state);
    out->route = s->route;
    snprintf(out->user, sizeof out->user, "%s", s->route->user);
    out->worker = h->worker->index;
    /* what its lease says is the upstream's, under a lock */
    out->class_i = s->client ? s->client->waiter.class_i : UINT8_MAX;
    out->pid = s->pid;
    memcpy(&out->remote, &s->address, sizeof out->remote);
    if (s->net.fd < 0 || getsockname(s->net.fd, (struct sockaddr *)&out->local, &bytes) < 0)
        out->local.ss_family = AF_UNSPEC;
    out->connected_us = s->connected_us;
    out->request_us = s->client ? s->client->request_us : 0;
    out->opened_us = s->login ? 0 : s->lease.opened_us;
    out->prepared_n = prep_cache_n(s->prep);
    out->in_bytes = buf_used(&s->part);
    out->out_bytes = buf_used(&s->net.out);
    out->left_bytes = s->body_left;
    if (s->net.ssl)
        tls_describe(s->net.ssl, out->tls);
    if (application)
        snprintf(out->application_name, sizeof out->application_name, "%s", application);
}

static void copy_clients(const struct hub *h, struct part *p)
{
    for (; p->slot_i < h->slots_n && p->n < COPYOUT_CHUNK_N; p->slot_i++) {
        const struct client *c = h->slots[p->slot_i].client;
        if (c && c->logged_in && !c->gone)
            copy_client(h, c, &p->rows[p->n++]);
    }
    p->finished = p->slot_i >= h->slots_n;
}

/* Where to go on: behind the last one copied. Where that one has gone, the rest is left out: one in
 * a thousand SHOWs of hundreds of servers, and better than one row twice. */
static const struct server *next_server(const struct hub *h, const struct part *p)
{
    const struct server *s = h->servers;
    if (!p->last)
        return s;
    while (s && (s != p->last || s->id != p->last_id))
        s = s->next;
    return s ? s->next : NULL;
}

static void copy_servers(const struct hub *h, struct part *p)
{
    const struct server *s = next_server(h, p);
    for (; s && p->n < COPYOUT_CHUNK_N; s = s->next) {
        copy_server(h, s, &p->rows[p->n++]);
        p->last = s;
        p->last_id = s->id;
    }
    p->finished = !s;
}

static void open_at_home(struct worker *w, struct letter *l);

static void open_at_loop(struct worker *w, struct letter *l)
{
    struct part *p = OWNER_OF(struct part, letter, l);
    const struct hub *h = w->hub;
    p->n = 0;
    if (p->copyout->opts.what == COPYOUT_CLIENTS)
        copy_clients(h, p);
    else
        copy_servers(h, p);
    l->open = open_at_home;
    struct worker *home = h->proxy->hubs[0]->worker;
    if (w == home)
        worker_defer(w, l);
    else
        worker_post(home, l);
}

/* ---- in the control loop --------------------------------------------------------------------- */

static void send_off(struct part *p)
{
    struct worker *w = p->copyout->proxy->hubs[p->worker]->worker;
    p->letter.open = open_at_loop;
    if (p->worker == 0)
        worker_defer(w, &p->letter);
    else
        worker_post(w, &p->letter);
}

static void part_done(struct part *p)
{
    struct copyout *c = p->copyout;
    free(p);
    if (--c->parts_n > 0)
        return;
    the_copyouts_n--;
    if (!c->abandoned)
        c->opts.done(c->opts.arg);
    free(c);
}

static void open_at_home(struct worker *w, struct letter *l)
{
    struct part *p = OWNER_OF(struct part, letter, l);
    struct copyout *c = p->copyout;
    (void)w;
    if (!c->abandoned && p->n > 0)
        c->opts.rows(c->opts.arg, p->rows, p->n);
    if (p->finished || c->abandoned)
        part_done(p);
    else
        send_off(p);
}

struct copyout *copyout_start(struct proxy *proxy, const struct copyout_opts *opts)
{
    struct part *parts[WORKERS_MAX] = {NULL};
    struct copyout *c = calloc(1, sizeof *c);
    bool good = c != NULL;
    for (uint16_t i = 0; good && i < proxy->worker_n; i++)
        good = (parts[i] = malloc(sizeof *parts[i])) != NULL;
    if (!good) {
        for (uint16_t i = 0; i < proxy->worker_n; i++)
            free(parts[i]);
        free(c);
        return NULL;
    }
    *c = (struct copyout){.opts = *opts, .proxy = proxy, .parts_n = proxy->worker_n};
    the_copyouts_n++;
    for (uint16_t i = 0; i < proxy->worker_n; i++) {
        struct part *p = parts[i];
        must(p);
        memset(p, 0, offsetof(struct part, rows));
        p->copyout = c;
        p->worker = i;
        send_off(p);
    }
    return c;
}

void copyout_abandon(struct copyout **copyout)
{
    if (*copyout)
        (*copyout)->abandoned = true;
    *copyout = NULL;
}

uint32_t copyouts_n(void)
{
    return the_copyouts_n;
}
