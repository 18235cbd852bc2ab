/* Servers whose client is done with them, or gone: brought into a state that is provably clean and
 * given back to the pool, or closed.
 *
 *    transaction over --[settings changed: read back, RESET ALL]--> [CLEANING: DISCARD ALL] -->
 * pool client gone --> DRAINING: cancel, end COPY, sync, ROLLBACK -----^
 *
 * What SET and set_config() changed for the session belongs to the client, not to the server: it is
 * read from pg_settings (which tells what was set in this session, by whatever means), becomes part
 * of the client's settings, and is applied to each server it gets. So pg_dump's own search_path
 * neither gets lost between its statements nor meets another client. Settings with a dot in their
 * name are not listed there: they are undone, and do not follow.
 *
 * A statement of a client that vanished is cancelled, as nobody waits for its answer; one that
 * writes is left to finish, because without us PostgreSQL would have finished it too. A server that
 * does not get there in time is closed. */
#include <stdatomic.h>
#include <string.h>

#include "proxy/brake.h"
#include "proxy/log.h"
#include "proxy/pacer.h"
#include "proxy/session.h"
#include "proxy/vars.h"

enum {
    DRAIN_US_MAX = 10 * US_PER_S
}; /* from a cancel to ReadyForQuery; then the server is closed */

static void give_up(struct server *s, const char *why)
{
    struct err err;
    err_set(&err, "XX000", "%s", why);
    session_server_lost(s, &err);
}

/* Whatever held it back, it was for its client's or its class's sake. */
static void read_on(struct server *s)
{
    pacer_end(s);
    brake_end(s);
    server_unhold(s, SERVER_HOLD_CLIENT | SERVER_HOLD_PACE);
}

static void ask(struct server *s, const char *sql)
{
    if (server_ask(s, sql) == NET_ERROR)
        session_server_lost(s, NULL);
}

/* What has to be run before another client may have it; NULL: nothing. */
static const char *cleaning(const struct server *s)
{
    const struct config_globals *g = &s->hub->config->globals;
    const struct route_cell *cell = route_cell(s->route, s->hub);
    if (s->route->replication != POOL_REPLICATION_NO)
        return NULL; /* never used twice: the pool has it closed */
    bool always = g->server_reset_query_always || cell->settings.pool_mode == POOL_MODE_SESSION;
    if (always && *g->server_reset_query)
        return g->server_reset_query;
    if (s->dirt & SERVER_DIRT_SESSION)
        return "DISCARD ALL";
    return s->dirt & SERVER_DIRT_SETTINGS ? "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"
                                          : NULL;
}

static void give_back(struct server *s, const struct pool_observation *obs)
{
    struct hub *h = s->hub;
    struct pool_actions actions;
    if (s->bytes_untold)
        pool_bytes(&s->lease, s->bytes_untold);
    s->bytes_untold = 0;
    atomic_store_explicit(&s->lease.unread_since_us, 0, memory_order_relaxed);
    s->pacing.timeout_set = s->pacing.local_set = false;
    atomic_store_explicit(&s->lease.stmt_started_us, 0, memory_order_relaxed);
    must(server_is_clean(s) && (!s->dirt || s->route->replication != POOL_REPLICATION_NO));
    server_goto(s, SERVER_IDLE);
    pool_release(&s->lease, obs, hub_now(h), &actions);
    session_carry_out(h, &actions);
}

void drain_release(struct server *s, const struct pool_observation *obs)
{
    must(!s->client);
    read_on(s);
    if (s->cancels_n) { /* it must not hit whoever comes next */
        if (obs)
            pool_observe(&s->lease, obs);
        if (s->state != SERVER_DRAINING)
            server_goto(s, SERVER_DRAINING);
        s->drain_until_us = hub_now(s->hub) + DRAIN_US_MAX;
        return;
    }
    if (!server_is_clean(s)) {
        give_up(s, "client left it in the middle of a message");
        return;
    }
    const char *sql = cleaning(s);
    if (!sql) {
        give_back(s, obs);
        return;
    }
    if (obs)
        pool_observe(&s->lease, obs);
    server_goto(s, SERVER_CLEANING);
    s->drain_until_us = hub_now(s->hub) + DRAIN_US_MAX;
    ask(s, sql);
}

#define READ_BACK                                                                                  \
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) "        \
    "'session';RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"

static void read_back(struct server *s)
{
    server_goto(s, SERVER_CLEANING);
    s->captured = vars_none();
    s->drain_until_us = hub_now(s->hub) + DRAIN_US_MAX;
    ask(s, READ_BACK);
}

void drain_settle(struct server *s, const struct pool_observation *obs)
{
    must(s->client && s->client->state == CLIENT_LINKED);
    if (obs)
        pool_observe(&s->lease, obs);
    client_goto(s->client, CLIENT_SETTLING);
    read_on(s);
    if (!s->cancels_n) {
        read_back(s);
        return;
    }
    server_goto(s, SERVER_DRAINING); /* a late cancel must not hit our question */
    s->drain_until_us = hub_now(s->hub) + DRAIN_US_MAX;
}

/* The client goes its way with the settings it made. */
static void settled(struct server *s)
{
    struct client *c = s->client;
    const char *k, *value;
    bool fits = vars_keep_tracked(&s->vars);
    if (c) {
        fits = fits && vars_keep_tracked(&c->vars);
        for (uint32_t at = 0; fits && vars_next(s->captured, &at, &k, &value);)
            fits = vars_set(&c->vars, k, value);
    }
    vars_unref(&s->captured);
    if (!fits || s->failed || s->tx != 'I') {
        give_up(s, "settings of the session could not be read back");
        return;
    }
    s->dirt &= (uint8_t)~SERVER_DIRT_SETTINGS;
    s->client = NULL;
    if (c) {
        c->server = NULL;
        client_goto(c, CLIENT_IDLE);
    }
    drain_release(s, NULL);
    if (c)
        flow_go_on(c);
}

static void cleaned(struct server *s)
{
    if (s->captured) {
        settled(s);
        return;
    }
    if (s->failed || s->tx != 'I' || !vars_keep_tracked(&s->vars)) {
        give_up(s, "reset query failed");
        return;
    }
    s->dirt = 0;
    if (s->cancels_n) { /* came in between */
        server_goto(s, SERVER_DRAINING);
        return;
    }
    if (server_is_clean(s))
        give_back(s, NULL);
    else
        give_up(s, "server is not idle after its reset query");
}

void drain_step(struct server *s)
{
    if (owed_n(&s->owed))
        return;
    if (s->state == SERVER_CLEANING)
        cleaned(s);
    else if (s->cancels_n)
        return;         /* comes again when that has ended */
    else if (s->client) /* it waits for its settings */
        read_back(s);
    else if (s->tx != 'I')
        ask(s, "ROLLBACK");
    else
        drain_release(s, NULL);
}

/* Ends what the client had begun, in the protocol's own words. */
static bool finish_batch(struct server *s)
{
    struct buf b = {.max = 256};
    bool fits = true;
    if (s->copy_in) {
        fits = wire_put_raw(&b, 'f', view_of("client is gone", sizeof "client is gone"));
        s->copy_in = false;
    }
    const struct owed_entry *head = owed_head(&s->owed);
    bool extended = s->unsynced || s->skipping || (head && head->kind == OWED_EXECUTE);
    /* A batch nobody has said Sync for must not be committed by ours: it fails first. */
    if (fits && s->unsynced && !s->skipping && s->tx == 'I')
        fits = wire_put_bind(&b, "", "client is gone", NULL, 0) &&
               owed_push(&s->owed, (struct owed_entry){.kind = OWED_BIND, .to = OWED_SKIP});
    if (fits && extended) {
        fits = wire_put_empty(&b, 'S') &&
               owed_push(&s->owed, (struct owed_entry){.kind = OWED_SYNC, .to = OWED_SKIP});
        s->unsynced = s->skipping = false;
    }
    if (fits && buf_used(&b))
        return net_send_buf(&s->net, &b) != NET_ERROR;
    buf_free(&b);
    return fits;
}

/* Nobody hears the answers any more; those of our own making are not given at all. */
static void silence(struct server *s)
{
    s->body_passes = false;
    for (uint32_t i = 0; i < owed_n(&s->owed); i++) {
        struct owed_entry *e = owed_at(&s->owed, i);
        e->name_serial = 0;
    }
}

void drain_abandon(struct server *s)
{
    const struct class_table *classes = s->hub->config->classes;
    bool prepares = s->state == SERVER_PREPARING; /* what runs is ours */
    must(!s->client);
    read_on(s);
    if (s->state == SERVER_CLEANING || s->state == SERVER_DRAINING)
        return;   /* that goes on without its client */
    if (prepares) /* it may have the client's settings, or get them yet: nobody has noted which */
        s->dirt |= SERVER_DIRT_SETTINGS;
    if (s->up_cut || net_stuck(&s->net)) {
        give_up(s, "client left it in the middle of a message");
        return;
    }
    if (server_is_clean(s)) {
        drain_release(s, NULL);
        return;
    }
    server_goto(s, SERVER_DRAINING);
    silence(s);
    bool busy = owed_n(&s->owed) > 0;
    bool writes =
        s->sql_flags & SQL_WRITE && atomic_load_explicit(&s->lease.tx_writes, memory_order_relaxed);
    bool finishes =
        !prepares && (writes || classes->at[s->lease.class_i].orphan == CLASS_ORPHAN_FINISH);
    if (!finish_batch(s)) {
        session_server_lost(s, NULL);
        return;
    }
    s->drain_until_us = busy && finishes ? 0 : hub_now(s->hub) + DRAIN_US_MAX;
    if (busy && !finishes) {
        count_add(&s->hub->classes[s->lease.class_i].orphans, !prepares);
        cancel_send(s, NULL);
    }
    drain_step(s);
}

void drain_copy_in(struct server *s)
{
    must(s->state == SERVER_DRAINING && s->copy_in);
    s->drain_until_us = hub_now(s->hub) + DRAIN_US_MAX;
    if (!finish_batch(s))
        session_server_lost(s, NULL);
}

bool drain_late(const struct server *s, uint64_t now_us)
{
    bool drains =
        s->state == SERVER_DRAINING || s->state == SERVER_CLEANING || s->state == SERVER_PREPARING;
    return drains && s->drain_until_us && now_us > s->drain_until_us;
}
