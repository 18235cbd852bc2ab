/* What the pool decides, carried out: grants and refusals delivered, servers opened, moved and
 * closed.
 *
 * Everything for a session or a server goes by letter to the loop it lives in, also when that is
 * this one: then later in the same turn, so that one client's luck is never another one's stack. */
#include <stdlib.h>

#include "proxy/log.h"
#include "proxy/server_login.h"
#include "proxy/session.h"
#include "proxy/sock.h"
#include "proxy/steer.h"

struct server *grant_server_of(struct pool_server *lease)
{
    return lease ? OWNER_OF(struct server, lease, lease) : NULL;
}

void grant_send(struct hub *h, uint16_t worker, struct letter *l)
{
    if (worker == h->worker->index)
        worker_defer(h->worker, l);
    else
        worker_post(h->proxy->hubs[worker]->worker, l);
}

/* ---- dead servers
 * ---------------------------------------------------------------------------------- */

static void bury(struct worker *w, struct letter *l)
{
    struct server *s = OWNER_OF(struct server, burial, l);
    (void)w;
    server_free(&s);
}

void grant_closed(struct server *s, struct hub *h, bool leased_here)
{
    struct pool_actions actions;
    must(s->state == SERVER_DEAD && !s->client);
    bool mine = pool_closed(&s->lease, leased_here, hub_now(h), &actions);
    session_carry_out(h, &actions);
    if (!mine)
        return; /* a letter is on its way, and finds it dead */
    s->burial.open = bury;
    worker_defer(h->worker, &s->burial);
}

/* ---- grants
 * ----------------------------------------------------------------------------------------- */

static void open_answer(struct worker *w, struct letter *l)
{
    struct client *c = OWNER_OF(struct client, letter, l);
    struct server *s = grant_server_of(c->waiter.server);
    struct hub *h = w->hub;
    must(c->hub == h);
    if (c->waiter.refusal != POOL_REFUSED_NOT) {
        session_refused(c);
        return;
    }
    if (s && s->state == SERVER_IDLE && !s->hub && !server_attach(s, h, flow_on_server)) {
        server_shut(s); /* out of descriptors to watch with: the client asks again */
        log_error("S-%#llx: cannot be watched, its connection is closed",
                  (unsigned long long)s->id);
    }
    session_granted(c, s);
}

static void answer(struct hub *h, struct client *c)
{
    c->letter.open = open_answer;
    grant_send(h, c->waiter.worker, &c->letter);
}

/* In the loop a granted server sits in: sends it over to its new client's. */
static void open_hand_over(struct worker *w, struct letter *l)
{
    struct server *s = OWNER_OF(struct server, letter, l);
    struct hub *h = w->hub;
    struct pool_waiter *waiter = s->moves_to;
    s->moves_to = NULL;
    if (s->state == SERVER_DEAD) {
        waiter->server = NULL;
        grant_closed(s, h, true);
    } else {
        count_add(&route_counters(s->route, h)->server_move_count, 1);
        server_detach(s);
        s->lease.worker = waiter->worker;
    }
    answer(h, OWNER_OF(struct client, waiter, waiter));
}

static void open_close(struct worker *w, struct letter *l)
{
    struct server *s = OWNER_OF(struct server, letter, l);
    struct hub *h = w->hub;
    server_shut(s);
    grant_closed(s, h, true);
}

/* ---- opening
 * ---------------------------------------------------------------------------------------- */

struct order {
    struct letter letter;
    struct pool *pool;
    uint8_t class_i;
};

static void open_failed(struct hub *h, struct pool *p, enum pool_failure why, const struct err *err)
{
    struct pool_actions actions;
    pool_open_failed(p, why, err, hub_now(h), &actions);
    session_carry_out(h, &actions);
}

static void login_failed(struct server *s, enum pool_failure why, const struct err *err)
{
    struct hub *h = s->hub;
    struct pool *p = s->route->pool;
    log_warning("S-%#llx: %s/%s closing because: %s (age=%.0fs)", (unsigned long long)s->id,
                s->route->database, s->route->user, err->text,
                (double)(hub_now(h) - s->connected_us) / US_PER_S);
    server_login_end(s);
    server_shut(s);
    s->burial.open = bury;
    worker_defer(h->worker, &s->burial);
    open_failed(h, p, why, err);
}

static void login_done(struct server *s)
{
    struct hub *h = s->hub;
    struct pool_actions actions;
    bool read_only;
    enum upstream_role role = server_login_role(s, &read_only);
    steer_note_role(h, s->route, role, read_only); /* whoever is granted it looks at it */
    server_login_end(s);
    server_goto(s, SERVER_IDLE);
    server_settle(s);
    if (h->config->globals.log_connections)
        log_info("S-%#llx: %s/%s new connection to server", (unsigned long long)s->id,
                 s->route->database, s->route->user);
    s->lease.worker = h->worker->index;
    pool_opened(s->route->pool, &s->lease, h->worker->index, hub_now(h), &actions);
    session_carry_out(h, &actions);
}

void grant_login_goes_on(struct server *s, short what)
{
    enum pool_failure failure = POOL_FAILED_LOGIN;
    struct err err = {.text = ""};
    switch (server_login_step(s, what, &failure, &err)) {
    case SERVER_LOGIN_MORE:
        return;
    case SERVER_LOGIN_DONE:
        login_done(s);
        return;
    case SERVER_LOGIN_FAILED:
        login_failed(s, failure, &err);
        return;
    }
}

void grant_login_late(struct server *s)
{
    struct err err;
    err_set(&err, "08001", "connect timeout");
    login_failed(s, POOL_FAILED_CONNECT, &err);
}

/* Whether results of the class may have to be held back. */
static bool is_paced(const struct hub *h, uint8_t class_i)
{
    const struct class_table *classes = h->config->classes;
    if (class_i >= classes->class_n)
        return false;
    const struct class_opts *opts = &classes->at[class_i];
    return opts->byte_rate > 0 || (opts->priority > 0 && opts->on_overload & CLASS_PACE);
}

void grant_bound(struct server *s, uint8_t class_i)
{
    if (s->bounded || !is_paced(s->hub, class_i))
        return;
    sock_bound(s->net.fd);
    s->bounded = true;
}

static void open_order(struct worker *w, struct letter *l)
{
    struct order *o = OWNER_OF(struct order, letter, l);
    struct hub *h = w->hub;
    struct pool *p = o->pool;
    struct err err;
    bool bounded = is_paced(h, o->class_i);
    free(o);
    struct route *r = pool_owner(p); /* NULL: its first login is not through yet */
    struct server *s = r ? server_login_open(h, r, flow_on_server) : NULL;
    if (s) {
        if (bounded)
            server_login_bound(s);
        grant_login_goes_on(s, 0);
        return;
    }
    err_set(&err, "08003", "the database is not configured any more, or memory is short");
    open_failed(h, p, POOL_FAILED_LOGIN, &err);
}

static void order(struct hub *h, const struct pool_action *a)
{
    struct err err;
    struct order *o = calloc(1, sizeof *o);
    if (!o) {
        err_set(&err, "53200", "out of memory");
        open_failed(h, a->pool, POOL_FAILED_LOGIN, &err);
        return;
    }
    o->pool = a->pool;
    o->class_i = a->class_i;
    o->letter.open = open_order;
    grant_send(h, a->worker, &o->letter);
}

/* ---- actions
 * ---------------------------------------------------------------------------------------- */

static void carry_out_one(struct hub *h, const struct pool_action *a)
{
    struct server *s = grant_server_of(a->server);
    switch (a->act) {
    case POOL_GRANT:
        if (s->lease.worker == a->waiter->worker) {
            answer(h, OWNER_OF(struct client, waiter, a->waiter));
            return;
        }
        s->moves_to = a->waiter;
        s->letter.open = open_hand_over;
        grant_send(h, s->lease.worker, &s->letter);
        return;
    case POOL_REFUSE:
        answer(h, OWNER_OF(struct client, waiter, a->waiter));
        return;
    case POOL_OPEN:
        order(h, a);
        return;
    case POOL_CLOSE:
        s->letter.open = open_close;
        grant_send(h, s->lease.worker, &s->letter);
        return;
    }
}

void session_carry_out(struct hub *h, struct pool_actions *actions)
{
    struct pool_actions next;
    for (;;) {
        for (uint32_t i = 0; i < actions->n; i++)
            carry_out_one(h, &actions->at[i]);
        if (!actions->more)
            return;
        pool_dispatch(actions->upstream, hub_now(h), &next);
        actions = &next;
    }
}
