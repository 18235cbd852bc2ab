/* What concerns all loops at once: their hubs, a new configuration, who is thrown out, the end. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "proxy/server_login.h"
#include "proxy/session.h"
#include "proxy/steer.h"

struct order {
    struct letter letter;
    struct session_setup setup;
    uint64_t client_id;
    struct route *route;
};

static void on_timer(struct worker *w, uint64_t now_us)
{
    sweep_hub(w->hub, now_us);
}

static void drop_setup(struct session_setup *setup)
{
    config_unref(&setup->config);
    SSL_CTX_free(setup->client_tls);
    SSL_CTX_free(setup->server_tls);
}

static void take_setup(struct hub *h, const struct session_setup *setup)
{
    struct session_setup before = {h->config, h->client_tls, h->server_tls};
    h->config = setup->config;
    h->client_tls = setup->client_tls;
    h->server_tls = setup->server_tls;
    h->config_version++;
    steer_changed(h->proxy); /* hosts, and what is wanted of them, may be others */
    drop_setup(&before);
}

static struct session_setup share(const struct session_setup *setup)
{
    if (setup->client_tls)
        SSL_CTX_up_ref(setup->client_tls);
    if (setup->server_tls)
        SSL_CTX_up_ref(setup->server_tls);
    return (struct session_setup){config_ref(setup->config), setup->client_tls, setup->server_tls};
}

struct hub *session_hub_new(struct proxy *p, struct worker *w, const struct session_setup *setup)
{
    struct hub *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->worker = w;
    h->proxy = p;
    w->hub = h;
    w->on_timer = on_timer;
    struct session_setup mine = share(setup);
    take_setup(h, &mine);
    p->hubs[w->index] = h;
    return h;
}

void session_hub_free(struct hub **hub)
{
    struct hub *h = *hub;
    *hub = NULL;
    struct session_setup mine = {h->config, h->client_tls, h->server_tls};
    drop_setup(&mine);
    free(h->slots);
    free(h);
}

static void open_setup(struct worker *w, struct letter *l)
{
    struct order *o = OWNER_OF(struct order, letter, l);
    take_setup(w->hub, &o->setup);
    free(o);
}

void session_reconfigure(struct proxy *p, const struct session_setup *next)
{
    struct session_setup mine = share(next);
    take_setup(p->hubs[0], &mine);
    for (uint16_t i = 1; i < p->worker_n; i++) {
        struct order *o = calloc(1, sizeof *o);
        if (!o)
            continue; /* this loop keeps the former settings until the next RELOAD */
        o->setup = share(next);
        o->letter.open = open_setup;
        worker_post(p->hubs[i]->worker, &o->letter);
    }
}

/* ---- throwing out
 * ------------------------------------------------------------------------------------ */

static void post_all(struct proxy *p, const struct order *what)
{
    for (uint16_t i = 1; i < p->worker_n; i++) {
        struct order *o = malloc(sizeof *o);
        if (!o)
            continue;
        *o = *what;
        worker_post(p->hubs[i]->worker, &o->letter);
    }
}

static void open_kill_client(struct worker *w, struct letter *l)
{
    struct order *o = OWNER_OF(struct order, letter, l);
    struct hub *h = w->hub;
    struct client *c, *next;
    DL_FOREACH_SAFE(h->clients, c, next)
    {
        if (c->id == o->client_id)
            session_end_with(c, END_KILLED, "57P01");
    }
    free(o);
}

void session_kill_client(struct proxy *p, uint64_t id)
{
    struct order o = {.letter = {.open = open_kill_client}, .client_id = id};
    post_all(p, &o);
}

static void open_kill_route(struct worker *w, struct letter *l)
{
    struct order *o = OWNER_OF(struct order, letter, l);
    struct hub *h = w->hub;
    struct client *c, *next;
    DL_FOREACH_SAFE(h->clients, c, next)
    {
        if (!o->route || c->route == o->route)
            session_end_with(c, o->route ? END_DATABASE_REMOVED : END_SHUTDOWN, "57P01");
    }
    DL_FOREACH_SAFE(h->logins, c, next)
    {
        if (!o->route || c->route == o->route)
            session_end_with(c, o->route ? END_DATABASE_REMOVED : END_SHUTDOWN, "57P01");
    }
    free(o);
}

void session_kill_route(struct proxy *p, struct route *r)
{
    struct order o = {.letter = {.open = open_kill_route}, .route = r};
    post_all(p, &o);
}

/* ---- the end
 * ------------------------------------------------------------------------------------------- */

static void open_stop(struct worker *w, struct letter *l)
{
    worker_stop(w);
    free(l);
}

static void open_last(struct worker *w, struct letter *l)
{
    struct hub *h = w->hub;
    struct server *s, *next;
    cancel_close_all(h);
    DL_FOREACH_SAFE(h->servers, s, next)
    {
        if (s->login)
            server_login_end(s);
        s->client = NULL;
        s->cancels_n = 0;
        server_shut(s); /* not freed: a grant may be on its way to it; it goes with the process */
    }
    l->open = open_stop; /* after what is due in this turn */
    worker_defer(w, l);
}

void session_shutdown(struct proxy *p)
{
    session_kill_route(p, NULL);
    for (uint16_t i = 1; i < p->worker_n; i++) {
        struct letter *l = calloc(1, sizeof *l);
        must(l); /* the process ends here either way */
        l->open = open_last;
        worker_post(p->hubs[i]->worker, l);
    }
}
