/* What happens on the descriptors of clients and servers: reads, hands on, keeps what has to wait.
 *
 * Bytes are handled where they were received, in the loop's scratch. What cannot be handled yet
 * (the beginning of a message, a statement that waits for a server) is kept in client->in or
 * server->part, and handled from there later: flow_go_on(). `feeding` marks a client whose bytes
 * are being handled further up the stack, so that whatever happens below returns there instead of
 * beginning again. */
#include <string.h>

#include "proxy/brake.h"
#include "proxy/cull.h"
#include "proxy/log.h"
#include "proxy/pacer.h"
#include "proxy/session.h"
#include "proxy/stream.h"

enum {
    WAITING_BYTES_MAX = 64 << 10, /* read of a client that waits; then only its end is watched */
    WAITING_READ_BYTES = 4 << 10, /* receive size while it waits */
    READ_AGAIN_BYTES = 64 << 10,  /* receive size into a buffer that holds part of a message */
    KEPT_BYTES_MAX = PREP_PARSE_BYTES_MAX + SCRATCH_BYTES,
};

/* What ReadyForQuery says to a client that has no server. */
static uint8_t own_status(const struct client *c)
{
    return c->tx_lost ? 'E' : 'I';
}

/* ---- the end of an answer -----------------------------------------------------------------------
 */

/* A statement has been answered whole. */
static void observe(struct client *c, struct server *s, struct pool_observation *obs)
{
    struct route_cell *counters = route_counters(c->route, c->hub);
    uint64_t now_us = hub_now(c->hub);
    obs->fingerprint = 0;
    if (!c->stmt_started_us)
        return;
    uint64_t took_us = now_us - c->stmt_started_us;
    uint64_t unread_us = atomic_load_explicit(&s->lease.unread_us, memory_order_relaxed);
    *obs = (struct pool_observation){.fingerprint = c->stmt_fingerprint,
                                     .dispatched_us = c->stmt_started_us,
                                     .service_us = us_since(unread_us, took_us)};
    count_add(&counters->query_count, 1);
    count_add(&counters->query_time, took_us);
    stats_observe(&c->hub->classes[c->waiter.class_i].service, obs->service_us);
    c->stmt_started_us = 0;
    atomic_store_explicit(&s->lease.stmt_started_us, 0, memory_order_relaxed);
    cull_over(s);
}

/* The lease goes on, and what is known of this transaction says nothing of the next. */
static void transaction_over(struct client *c, struct server *s)
{
    s->sql_flags = 0;
    s->tx_bytes = s->tx_rows = 0;
    session_demotion_ends(c);
}

/* The server's answer is complete: perhaps the transaction is, too. */
static void answered(struct client *c, struct server *s)
{
    struct pool_observation obs;
    const struct route_cell *cell = route_cell(c->route, c->hub);
    enum config_pool_mode mode = cell->settings.pool_mode;
    bool loads = s->sql_flags & SQL_COPY_IN; /* its time is the client's */
    observe(c, s, &obs);
    if (s->brake.works)
        brake_owe(s, obs.fingerprint ? obs.service_us : 0);
    const struct pool_observation *seen = obs.fingerprint && !loads ? &obs : NULL;
    if (s->tx != 'I' && mode == POOL_MODE_STATEMENT) {
        session_end_with(c, END_STATEMENT_MODE, "08P01");
        return;
    }
    bool over = s->tx == 'I' && !s->unsynced && !s->skipping && !c->body_left && !s->copy_in;
    if (over) {
        count_add(&route_counters(c->route, c->hub)->xact_count, 1);
        count_add(&route_counters(c->route, c->hub)->xact_time, hub_now(c->hub) - c->tx_started_us);
        c->tx_started_us = hub_now(c->hub);
        atomic_store_explicit(&s->lease.tx_writes, false, memory_order_relaxed);
    }
    c->idle_since_us = hub_now(c->hub);
    c->late = s->tx == 'I' && !over;
    if (over && mode != POOL_MODE_SESSION && s->dirt & SERVER_DIRT_SETTINGS) {
        drain_settle(s, seen);
        return;
    }
    if (over && mode != POOL_MODE_SESSION) {
        c->server = NULL;
        s->client = NULL;
        client_goto(c, CLIENT_IDLE);
        drain_release(s, seen);
    } else if (seen) {
        pool_observe(&s->lease, seen);
    }
    if (over && mode == POOL_MODE_SESSION)
        transaction_over(c, s);
    if (buf_used(&c->in) || !(c->net.armed & EV_READ))
        flow_go_on(c);
}

/* ---- a client without a server
 * --------------------------------------------------------------------- */

static void answer_refused(struct client *c, uint8_t type)
{
    session_tell_refused(c);
    c->refusal = CLIENT_REFUSAL_NONE;
    if (type == 'Q' || type == 'F')
        session_tell_ready(c, own_status(c));
    else
        c->refusing = true;
}

enum idle_verdict { IDLE_TOOK, IDLE_BEGINS, IDLE_MORE, IDLE_ENDED };

/* The next message of a client that has no server. */
static enum idle_verdict idle_message(struct client *c, const struct wire_msg *m)
{
    switch (m->type) {
    case 'X':
        session_end(c, END_CLIENT_QUIT);
        return IDLE_ENDED;
    case 'S':
        c->refusing = false;
        session_tell_ready(c, own_status(c));
        return IDLE_TOOK;
    case 'd': /* of a COPY that has failed: PostgreSQL ignores them too */
    case 'c':
    case 'f':
    case 'H':
        return IDLE_TOOK;
    case 'p':
        session_end(c, END_CLIENT_PROTOCOL);
        return IDLE_ENDED;
    default:
        break;
    }
    if (c->refusing)
        return IDLE_TOOK;
    if (c->refusal == CLIENT_REFUSAL_NONE)
        return IDLE_BEGINS;
    answer_refused(c, m->type);
    return IDLE_TOOK;
}

static enum idle_verdict idle_step(struct client *c, struct view *in)
{
    struct wire_msg m = {.type = 0}; /* some compilers cannot see that WIRE_OK fills it */
    if (c->body_left) {
        c->body_left -=
            (uint32_t)view_take_bytes(in, c->body_left < in->n ? c->body_left : in->n).n;
        return IDLE_TOOK;
    }
    switch (wire_next(*in, wire_from_client, INT32_MAX, &m)) {
    case WIRE_MORE:
        return IDLE_MORE;
    case WIRE_BAD:
        session_end_with(c, END_CLIENT_PROTOCOL, "08P01");
        return IDLE_ENDED;
    case WIRE_OK:
        break;
    }
    enum idle_verdict verdict = idle_message(c, &m);
    if (verdict == IDLE_TOOK) {
        view_take_bytes(in, WIRE_HEADER_BYTES + m.body.n);
        c->body_left = m.body_n - (uint32_t)m.body.n;
    }
    return verdict;
}

/* ---- bytes of the client
 * ---------------------------------------------------------------------------- */

static void relay_fakes(struct server *s)
{
    const struct owed_entry *head = owed_head(&s->owed);
    struct view nothing = view_of("", 0);
    if (head && head->to == OWED_FAKE && relay_down(s, &nothing) == RELAY_LOST_CLIENT)
        session_end(s->client, END_CLIENT_GONE);
}

/* Its bytes have to wait. That it has gone is worth knowing meanwhile, unless what it has sent
 * changes something: then it counts although nobody hears the answer. */
static void read_less(struct client *c)
{
    const struct server *s = c->server;
    if (s && atomic_load_explicit(&s->lease.tx_writes, memory_order_relaxed))
        net_read_wanted(&c->net, false);
    else
        net_watch_end(&c->net);
}

static void linked_step(struct client *c, struct view *in)
{
    struct server *s = c->server;
    uint32_t flags = s->sql_flags;
    if (cull_holds(s) || brake_holds(c, *in))
        return; /* until the cancel is over, or its rest: flow_go_on() */
    enum relay_verdict verdict = relay_up(c, in);
    session_look_again(c, s->sql_flags & ~flags);
    switch (verdict) {
    case RELAY_SLOW:
        read_less(c);
        /* fall through */
    case RELAY_OK:
    case RELAY_WAIT:
        relay_fakes(s);
        if (c->late && !c->gone && !owed_n(&s->owed))
            answered(c, s);
        break;
    case RELAY_QUIT:
        session_end(c, END_CLIENT_QUIT);
        break;
    case RELAY_LOST_SERVER:
        session_server_lost(s, NULL);
        break;
    case RELAY_MEMORY:
        session_end_with(c, END_MEMORY, "53200");
        break;
    case RELAY_BAD_CLIENT:
        session_end_with(c, END_CLIENT_PROTOCOL, "08P01");
        break;
    case RELAY_DONE:
    case RELAY_BAD_SERVER:
    case RELAY_LOST_CLIENT:
        must(!"a verdict of the other direction");
    }
}

/* Handles what it can of `in`; the rest stays there. */
static void feed_all(struct client *c, struct view *in)
{
    /* One that does not take its answers gets no further ones. */
    while (in->n && !c->gone && !net_stuck(&c->net)) {
        size_t before_n = in->n;
        enum client_state state = c->state;
        if (state == CLIENT_LINKED) {
            linked_step(c, in);
        } else if (state == CLIENT_IDLE) {
            switch (idle_step(c, in)) {
            case IDLE_TOOK:
                break;
            case IDLE_MORE:
            case IDLE_ENDED:
                return;
            case IDLE_BEGINS:
                session_begin(c, *in); /* a grant at once goes on in this loop, by `feeding` */
                if (c->state == CLIENT_IDLE)
                    continue; /* refused at once, or its server died at once: it goes on here */
                break;
            }
        } else {
            return;
        }
        if (in->n == before_n && c->state == state)
            return;
    }
}

static void feed(struct client *c, struct view *in)
{
    struct hub *h = c->hub;
    c->feeding = true;
    feed_all(c, in);
    c->feeding = false;
    h->peeked_at = NULL; /* the bytes at `in` are about to go */
}

/* Keeps what was received and not handled. */
static void keep(struct client *c, struct view rest)
{
    c->in.max = KEPT_BYTES_MAX;
    if (c->gone)
        return;
    if (rest.n && !buf_put_view(&c->in, rest))
        session_end_with(c, END_MEMORY, "53200");
    else if (net_stuck(&c->net))
        read_less(c); /* until flush_client() */
}

void flow_go_on(struct client *c)
{
    if (c->feeding || c->gone)
        return;
    struct view in = buf_view(&c->in);
    size_t all_n = in.n;
    feed(c, &in);
    if (c->gone)
        return;
    if (all_n)
        buf_take(&c->in, all_n - in.n);
    bool waits = c->state != CLIENT_LINKED && c->state != CLIENT_IDLE;
    bool stuck = net_stuck(&c->net) || (c->server && net_stuck(&c->server->net));
    if (waits)
        return;
    if (stuck || buf_used(&c->in) >= KEPT_BYTES_MAX - READ_AGAIN_BYTES)
        read_less(c);
    else
        net_read_wanted(&c->net, true);
}

/* The client's socket has ended, or is of no use. */
static void client_over(struct client *c)
{
    session_end(c, END_CLIENT_GONE);
}

/* Adds to what is kept already: the rest of a message, or what comes while it waits. */
static void read_more(struct client *c)
{
    size_t room_n, n;
    bool waits = c->state != CLIENT_LINKED && c->state != CLIENT_IDLE;
    c->in.max = KEPT_BYTES_MAX;
    if (waits && buf_used(&c->in) >= WAITING_BYTES_MAX) {
        net_watch_end(&c->net);
        return;
    }
    if (!buf_reserve(&c->in, waits ? WAITING_READ_BYTES : READ_AGAIN_BYTES)) {
        session_end_with(c, END_MEMORY, "53200");
        return;
    }
    uint8_t *room = buf_room(&c->in, &room_n);
    enum net_verdict verdict = net_read(&c->net, room, room_n, &n);
    buf_filled(&c->in, n);
    if (verdict == NET_EOF || verdict == NET_ERROR)
        client_over(c);
    else if (n && !waits)
        flow_go_on(c);
}

static void read_client(struct client *c)
{
    size_t n;
    if (buf_used(&c->in) || c->state == CLIENT_QUEUED || c->state == CLIENT_PREPARING ||
        c->state == CLIENT_WELCOME || c->state == CLIENT_SETTLING) {
        read_more(c);
        return;
    }
    uint8_t *scratch = c->hub->worker->scratch;
    switch (net_read(&c->net, scratch, SCRATCH_BYTES, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        client_over(c);
        return;
    case NET_OK:
        break;
    }
    struct view in = view_of(scratch, n);
    feed(c, &in);
    keep(c, in);
}

/* The client takes bytes again. */
static void flush_client(struct client *c)
{
    struct server *s = c->server;
    switch (net_flush(&c->net)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        client_over(c);
        return;
    case NET_OK:
        break;
    }
    if (s && s->holds & SERVER_HOLD_CLIENT)
        server_unhold(s, SERVER_HOLD_CLIENT);
    flow_go_on(c);
}

void flow_on_client(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;
    (void)fd;
    if (c->login && c->state != CLIENT_WELCOME) {
        hello_on_client(c, what);
        return;
    }
    if (what & EV_WRITE)
        flush_client(c);
    if (what & EV_CLOSED && !c->gone)
        client_over(c);
    if (what & EV_READ && !c->gone)
        read_client(c);
}

/* ---- bytes of the server
 * ----------------------------------------------------------------------------- */

/* What a finished answer means depends on what the server was doing. */
static void relay_done(struct server *s)
{
    stream_end(s);
    pacer_end(s);
    struct client *c = s->client;
    switch (s->state) {
    case SERVER_LINKED:
        answered(c, s);
        return;
    case SERVER_PREPARING:
        session_prepared(c, s);
        return;
    case SERVER_DRAINING:
    case SERVER_CLEANING:
        drain_step(s);
        return;
    case SERVER_IDLE:
    case SERVER_RESOLVING:
    case SERVER_CONNECTING:
    case SERVER_ASKED_TLS:
    case SERVER_TLS:
    case SERVER_LOGIN:
    case SERVER_DEAD:
        break;
    }
    must(!"an answer of a server nobody asked");
}

static void read_server(struct server *s);

static void handle_server(struct server *s, struct view *in)
{
    struct err err;
    struct client *c = s->client;
    enum relay_verdict verdict = relay_down(s, in);
    /* Kept before anything is decided: a server with half a message is not clean. */
    if (in->n && !buf_put_view(&s->part, *in))
        verdict = RELAY_MEMORY;
    if (verdict != RELAY_LOST_CLIENT && c && net_stuck(&c->net))
        server_hold(s, SERVER_HOLD_CLIENT);
    switch (verdict) {
    case RELAY_OK:
    case RELAY_SLOW:
        stream_note(s, read_server);
        if (!c && s->copy_in && s->state == SERVER_DRAINING)
            drain_copy_in(s);
        /* answers make room for what had to wait */
        if (c && s->state == SERVER_LINKED && buf_used(&c->in) && owed_n(&s->owed) < OWED_MAX / 2)
            flow_go_on(c);
        break;
    case RELAY_DONE:
        relay_done(s);
        break;
    case RELAY_LOST_CLIENT:
        session_end(c, END_CLIENT_GONE);
        break;
    case RELAY_BAD_SERVER:
        log_warning("S-%#llx: %s/%s server broke the protocol, its connection is closed",
                    (unsigned long long)s->id, s->route->database, s->route->user);
        err_set(&err, "08P01", "server broke the protocol");
        session_server_lost(s, &err);
        break;
    case RELAY_MEMORY:
        err_set(&err, "53200", "out of memory");
        session_server_lost(s, &err);
        break;
    case RELAY_WAIT:
    case RELAY_QUIT:
    case RELAY_BAD_CLIENT:
    case RELAY_LOST_SERVER:
        must(!"a verdict of the other direction");
    }
}

static void read_server(struct server *s)
{
    uint8_t *scratch = s->hub->worker->scratch;
    struct view kept = buf_view(&s->part);
    size_t n;
    size_t room = SCRATCH_BYTES - kept.n;
    must(kept.n < SCRATCH_BYTES / 2); /* wire's table keeps what is collected small */
    if (s->holds)
        return; /* an event that was under way when it was held */
    if (pacer_limits(s) && (room = pacer_ask(s, room)) == 0)
        return;
    if (kept.n)
        memcpy(scratch, kept.at, kept.n);
    switch (net_read(&s->net, scratch + kept.n, room, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        session_server_lost(s, NULL);
        return;
    case NET_OK:
        break;
    }
    pacer_read(s, n);
    struct view in = view_of(scratch, kept.n + n);
    if (kept.n)
        buf_take(&s->part, kept.n);
    handle_server(s, &in);
}

void flow_on_server(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    (void)fd;
    if (s->login) {
        grant_login_goes_on(s, what);
        return;
    }
    if (what & EV_WRITE) {
        enum net_verdict flushed = net_flush(&s->net);
        if (flushed == NET_ERROR || flushed == NET_EOF) {
            session_server_lost(s, NULL);
            return;
        }
        if (flushed == NET_OK && s->client && s->state == SERVER_LINKED)
            flow_go_on(s->client);
    }
    if (what & EV_READ && s->state != SERVER_DEAD)
        read_server(s);
}
