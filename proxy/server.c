#include "proxy/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/log.h"
#include "proxy/pacer.h"
#include "proxy/route.h"
#include "proxy/stream.h"
#include "proxy/vars.h"

static const struct {
    const char *name;
    uint32_t next;
} server_states[] = {
#define X(state, name, next) {name, next},
    SERVER_STATES(X)
#undef X
};

void server_goto(struct server *s, enum server_state next)
{
    must(next == SERVER_DEAD || server_states[s->state].next & BIT(next));
    must(s->state != SERVER_DEAD);
    s->state = next;
}

const char *server_state_name(enum server_state state)
{
    return server_states[state].name;
}

struct server *server_new(struct hub *h, struct route *r)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->net.fd = -1;
    s->part.max = SERVER_PART_BYTES_MAX;
    s->vars = vars_none();
    s->id = atomic_fetch_add_explicit(&h->proxy->next_id, 1, memory_order_relaxed) + 1;
    s->hub = h;
    s->route = r;
    s->connected_us = hub_now(h);
    s->tx = 'I';
    DL_APPEND(h->servers, s);
    h->servers_n++;
    return s;
}

void server_detach(struct server *s)
{
    must(s->state == SERVER_IDLE && s->hub);
    net_detach(&s->net);
    DL_DELETE(s->hub->servers, s);
    s->hub->servers_n--;
    s->hub = NULL;
}

bool server_attach(struct server *s, struct hub *h, net_callback on_event)
{
    must(!s->hub);
    s->hub = h;
    DL_APPEND(h->servers, s);
    h->servers_n++;
    return net_attach(&s->net, h->worker, on_event, s);
}

void server_hold(struct server *s, enum server_hold why)
{
    must(s->hub);
    if (!atomic_load_explicit(&s->lease.unread_since_us, memory_order_relaxed))
        atomic_store_explicit(&s->lease.unread_since_us, hub_now(s->hub), memory_order_relaxed);
    s->holds |= (uint8_t)why;
    net_read_wanted(&s->net, false);
}

/* The tick may see the time twice for a moment, and takes the statement for younger than it is. */
static void count_unread(struct server *s)
{
    struct pool_server *l = &s->lease;
    uint64_t since_us = atomic_load_explicit(&l->unread_since_us, memory_order_relaxed);
    if (!since_us)
        return;
    atomic_fetch_add_explicit(&l->unread_us, us_since(since_us, hub_now(s->hub)),
                              memory_order_relaxed);
    atomic_store_explicit(&l->unread_since_us, 0, memory_order_relaxed);
}

void server_unhold(struct server *s, uint8_t whys)
{
    must(s->hub);
    s->holds &= (uint8_t)~whys;
    if (s->holds)
        return;
    count_unread(s);
    net_read_wanted(&s->net, true);
}

void server_settle(struct server *s)
{
    net_settle(&s->net, !s->streams && !s->pacing.pace);
}

void server_shut(struct server *s)
{
    if (s->state == SERVER_DEAD)
        return;
    if (s->state == SERVER_IDLE && !net_stuck(&s->net) && !s->fatal) {
        static const uint8_t terminate[] = {'X', 0, 0, 0, 4};
        if (net_send(&s->net, terminate, sizeof terminate) == NET_ERROR)
            s->fatal = true; /* it is gone already: nobody to be polite to */
    }
    if (s->hub) {
        pacer_end(s);
        stream_end(s);
    }
    net_close(&s->net);
    if (s->hub) {
        DL_DELETE(s->hub->servers, s);
        s->hub->servers_n--;
        s->hub = NULL;
    }
    server_goto(s, SERVER_DEAD);
}

void server_free(struct server **server)
{
    struct server *s = *server;
    *server = NULL;
    must(s->state == SERVER_DEAD && !s->client && !s->login && !s->cancels_n);
    prep_cache_free(&s->prep);
    owed_clear(&s->owed);
    buf_free(&s->part);
    vars_unref(&s->vars);
    vars_unref(&s->captured);
    free(s);
}

bool server_is_clean(const struct server *s)
{
    return s->tx == 'I' && !owed_n(&s->owed) && !s->body_left && !buf_used(&s->part) &&
           !s->skipping && !s->copy_in && !s->unsynced && !s->up_cut && !s->fatal &&
           !s->cancels_n && !net_stuck(&s->net) && !s->tainted && !s->syncs_ahead;
}

enum net_verdict server_ask(struct server *s, const char *sql)
{
    struct buf b = {.max = SERVER_PART_BYTES_MAX};
    s->failed = false;
    if (!wire_put_query(&b, sql) ||
        !owed_push(&s->owed, (struct owed_entry){.kind = OWED_QUERY, .to = OWED_SKIP})) {
        buf_free(&b);
        return NET_ERROR;
    }
    s->unnamed_of = 0;
    return net_send_buf(&s->net, &b);
}
