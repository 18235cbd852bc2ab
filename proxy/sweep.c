/* Time-outs of a loop's clients and servers: one coarse timer per loop, no timer per connection. */
#include <utlist.h>

#include "proxy/cull.h"
#include "proxy/door.h"
#include "proxy/hold.h"
#include "proxy/log.h"
#include "proxy/server_login.h"
#include "proxy/session.h"
#include "proxy/steer.h"

enum {
    LATE_US = 50 * US_PER_MS, /* from a statement's way to a cancel that has waited for it */
    IDLE_EVERY_US =
        US_PER_S, /* how often all clients are looked at, where idle ones may time out */
};

static void sweep_logins(struct hub *h, uint64_t now_us)
{
    uint64_t limit_us = h->config->globals.client_login_timeout_us;
    struct client *c, *next;
    DL_FOREACH_SAFE(h->logins, c, next)
    {
        /* one that waits for its pool's first server is under query_wait_timeout */
        if (limit_us && c->state != CLIENT_WELCOME && now_us - c->connected_us > limit_us)
            session_end_with(c, END_LOGIN_TIMEOUT, "57P05");
    }
}

static bool over(uint64_t limit_us, uint64_t since_us, uint64_t now_us)
{
    return limit_us && since_us && now_us > since_us && now_us - since_us > limit_us;
}

/* A transaction that runs on and on leaves its class for its rest. */
static void demote(struct client *c, const struct server *s, uint64_t now_us)
{
    const struct class_opts *opts = &c->hub->config->classes->at[c->waiter.class_i];
    if (opts->demote_after_bytes && s->tx_bytes > opts->demote_after_bytes)
        session_demote(c, CLASS_WHY_BYTES);
    else if (opts->demote_after_rows && s->tx_rows > opts->demote_after_rows)
        session_demote(c, CLASS_WHY_ROWS);
    else if (over(opts->demote_after_us, c->tx_started_us, now_us))
        session_demote(c, CLASS_WHY_TIME);
}

/* A cancel request came for what had to wait, and has been sent since. In a transaction we may not
 * answer in PostgreSQL's stead, so it does; but a backend that has not begun forgets a cancel. */
static void cancel_late(const struct client *c, struct server *s, uint64_t now_us)
{
    if (!s->cancel_wanted || !owed_n(&s->owed) || !over(LATE_US, c->stmt_started_us, now_us))
        return;
    s->cancel_wanted = false;
    s->cancel_asked = true;
    cancel_send(s, NULL);
}

static void sweep_linked(struct server *s, uint64_t now_us)
{
    struct client *c = s->client;
    const struct config_pool *set = &route_cell(c->route, c->hub)->settings;
    bool in_tx = s->tx != 'I';
    if (over(set->query_timeout_us, c->stmt_started_us, now_us))
        session_end_with(c, END_QUERY_TIMEOUT, "57014");
    else if (in_tx && !c->stmt_started_us && !s->brake.since_us &&
             over(set->idle_transaction_timeout_us, c->idle_since_us, now_us))
        session_end_with(c, END_IDLE_TRANSACTION, "25P03");
    else if (in_tx && over(set->transaction_timeout_us, c->tx_started_us, now_us))
        session_end_with(c, END_TRANSACTION_TIMEOUT, "25P04");
    else if (s->brake.since_us)
        flow_go_on(c); /* perhaps it has rested */
    else if (in_tx || c->stmt_started_us) {
        cancel_late(c, s, now_us);
        demote(c, s, now_us);
        cull_look(s, now_us);
    }
}

static void sweep_servers(struct hub *h, uint64_t now_us)
{
    struct server *s, *next;
    struct err err;
    DL_FOREACH_SAFE(h->servers, s, next)
    {
        if (s->state == SERVER_LINKED) {
            sweep_linked(s, now_us);
        } else if (server_login_late(s, now_us)) {
            grant_login_late(s);
        } else if (drain_late(s, now_us)) {
            if (owed_n(&s->owed)) /* its client has gone, and a cancel did not end it */
                count_add(&h->classes[s->lease.class_i].terminated, 1);
            err_set(&err, "57014", "cancel_wait_timeout");
            session_server_lost(s, &err);
        }
    }
}

/* All clients, once a second. */
static void sweep_clients(struct hub *h, uint64_t now_us)
{
    struct client *c, *next;
    uint64_t notify_us = h->config->globals.query_wait_notify_us;
    if (now_us - h->swept_us < IDLE_EVERY_US)
        return;
    h->swept_us = now_us;
    DL_FOREACH_SAFE(h->clients, c, next)
    {
        if (!c->route)
            continue; /* of the console */
        const struct config_pool *set = &route_cell(c->route, h)->settings;
        if (c->state == CLIENT_IDLE &&
            over(set->client_idle_timeout_us, c->idle_since_us, now_us)) {
            session_end_with(c, END_CLIENT_IDLE, "57P05");
        } else if (c->state == CLIENT_QUEUED && !c->notified &&
                   over(notify_us, c->request_us, now_us)) {
            c->notified = true;
            session_notice(c, "No server connection available in the pool yet; "
                              "your query has to wait.");
        }
    }
}

void sweep_hub(struct hub *h, uint64_t now_us)
{
    sweep_logins(h, now_us);
    sweep_servers(h, now_us);
    sweep_clients(h, now_us);
    steer_sweep(h, now_us);
    hold_sweep(h, now_us);
    door_sweep(h, now_us);
    cancel_sweep(h, now_us);
}
