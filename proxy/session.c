#include "proxy/session.h"

#include <string.h>
#include <utlist.h>

#include "pool/target.h"
#include "proxy/brake.h"
#include "proxy/census.h"
#include "proxy/console.h"
#include "proxy/cull.h"
#include "proxy/door.h"
#include "proxy/hold.h"
#include "proxy/log.h"
#include "proxy/refusal.h"
#include "proxy/relay.h"
#include "proxy/steer.h"
#include "proxy/vars.h"

enum {
    TELL_BYTES_MAX = 8 << 10, /* an error with all its fields */
    PREPARE_US_MAX =
        10 * US_PER_S, /* for settings to be applied; then another server is asked for */
};

/* ---- what clients are told ----------------------------------------------------------------------
 */

/* Sends what was put; a client that cannot be told is noticed as gone by its next read. */
static void send_buf(struct client *c, struct buf *b, bool fits)
{
    if (!fits || c->gone || net_send_buf(&c->net, b) == NET_ERROR)
        buf_free(b);
}

void session_tell(struct client *c, bool fatal, const struct err *err)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    struct wire_error e = {
        .severity = fatal ? "FATAL" : "ERROR", .sqlstate = err->sqlstate, .message = err->text};
    send_buf(c, &b, wire_put_error(&b, 'E', &e));
}

void session_notice(struct client *c, const char *text)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    struct wire_error e = {.severity = "NOTICE", .sqlstate = "00000", .message = text};
    send_buf(c, &b, wire_put_error(&b, 'N', &e));
}

void session_tell_ready(struct client *c, uint8_t status)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    send_buf(c, &b, wire_put_ready(&b, status));
}

static void tell_refusal(struct client *c, bool at_login)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    send_buf(c, &b, refusal_put(c, at_login, &b));
}

/* ---- the end
 * ------------------------------------------------------------------------------------- */

static void bury(struct worker *w, struct letter *l)
{
    struct client *c = OWNER_OF(struct client, burial, l);
    (void)w;
    buf_free(&c->in);
    buf_free(&c->unnamed);
    prep_names_free(&c->names);
    vars_unref(&c->vars);
    hello_free(c);
    free(c);
}

/* Nothing leads to the client any more: freed when this turn is over. */
static void leave(struct client *c)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    must(c->gone && !c->server);
    steer_forget(c);
    hold_forget(c);
    door_leave(c);
    hub_slot_give(h, c->pid);
    if (c->logged_in) {
        DL_DELETE(h->clients, c);
        h->clients_n--;
    } else {
        DL_DELETE(h->logins, c);
        h->logins_n--;
    }
    if (c->addr)
        pool_addr_put(pool_upstream(c->route->pool), &c->addr);
    if (c->logged_in && c->route) {
        pool_client_remove(c->route->pool, c->class_i, hub_now(h), &actions);
        session_carry_out(h, &actions);
    }
    if (c->route)
        route_leave(&c->route);
    census_leave(&c->of_database);
    census_leave(&c->of_user);
    if (h->worker->index > 0) { /* the console's were counted out when they went there */
        atomic_fetch_sub_explicit(&h->proxy->clients_n, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&h->load, 1, memory_order_relaxed);
    }
    c->burial.open = bury;
    worker_defer(h->worker, &c->burial);
}

static void log_end(const struct client *c, enum end_reason why)
{
    const struct config_globals *g = &c->hub->config->globals;
    bool calm = why == END_CLIENT_QUIT || why == END_CLIENT_GONE || why == END_CLIENT_CANCEL;
    if (calm ? !g->log_disconnections : !g->log_pooler_errors)
        return;
    char name[CLIENT_NAME_BYTES];
    double age_s = (double)(hub_now(c->hub) - c->connected_us) / US_PER_S;
    log_info("C-%#llx: %s closing because: %s (age=%.0fs)", (unsigned long long)c->id,
             client_name(c, name, sizeof name), end_rows[why].text, age_s);
}

void session_end(struct client *c, enum end_reason why)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    if (c->gone)
        return;
    log_end(c, why);
    count_add(&h->classes[c->class_i].ended[why], 1);
    c->gone = true;
    net_close(&c->net);
    struct server *s = c->server;
    c->server = NULL;
    if (s) {
        s->client = NULL;
        drain_abandon(s);
    }
    if (c->waits) {
        bool left = pool_cancel(&c->waiter, hub_now(h), &actions);
        session_carry_out(h, &actions);
        if (!left)
            return; /* a letter is on its way, and will find us gone */
        c->waits = false;
    }
    leave(c);
}

/* What it has been sent ends in the middle of a message: more would be taken for the rest of it. */
static bool is_cut(const struct client *c)
{
    return c->server && c->server->body_left && c->server->body_passes;
}

void session_end_with(struct client *c, enum end_reason why, const char *sqlstate)
{
    struct err err;
    err_set(&err, sqlstate, "%s", end_rows[why].text);
    if (!is_cut(c))
        session_tell(c, true, &err);
    session_end(c, why);
}

void session_terminate(struct client *c)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    if (!is_cut(c))
        send_buf(c, &b, refusal_put_terminated(c, c->server->culled, &b));
    c->server->client = NULL;
    c->server = NULL;
    session_end(c, END_TERMINATED);
}

/* ---- its class
 * -------------------------------------------------------------------------------------- */

uint8_t session_classify(struct client *c, const char *application_name)
{
    struct class_facts facts = {.application_name = application_name,
                                .user = census_name(c->of_user),
                                .database = c->route->database,
                                .address = c->peer.is_unix ? NULL : c->peer.address,
                                .address_bytes = c->peer.is_unix ? 0 : sizeof c->peer.address,
                                .is_unix = c->peer.is_unix,
                                .peer_uid = c->peer.uid,
                                .replication = c->route->replication != POOL_REPLICATION_NO};
    c->waiter.group = class_group_of(&facts);
    return class_of(c->hub->config->classes, &facts);
}

/* Its settings have changed since its last transaction: perhaps it calls itself something else. */
static void classify_again(struct client *c)
{
    struct pool_actions actions;
    uint8_t class_i = session_classify(c, vars_get(c->vars, "application_name"));
    c->classed = c->vars;
    if (class_i == c->class_i)
        return;
    pool_client_moved(c->route->pool, c->class_i, class_i, hub_now(c->hub), &actions);
    c->class_i = class_i;
    c->placed_n = 0; /* it may belong on another host now */
    session_carry_out(c->hub, &actions);
}

/* ---- getting a server
 * ---------------------------------------------------------------------------- */

static uint8_t class_of_transaction(const struct client *c, uint32_t sql_flags)
{
    const struct class_table *classes = c->hub->config->classes;
    uint8_t class_i = c->class_i;
    if (sql_flags & SQL_COPY_OUT)
        class_i = class_demoted(classes, class_i, CLASS_WHY_COPY_OUT);
    if (sql_flags & SQL_CURSOR)
        class_i = class_demoted(classes, class_i, CLASS_WHY_CURSOR);
    return class_i;
}

static void log_demoted(const struct client *c, uint8_t from_i, enum class_why why)
{
    const struct class_opts *classes = c->hub->config->classes->at;
    log_info("C-%#llx: %s/%s transaction demoted from=%s to=%s why=%s", (unsigned long long)c->id,
             c->route->database, c->route->user, classes[from_i].name,
             classes[c->waiter.class_i].name, class_why_name(why));
}

/* Its lease counts for that class from now on. */
static void move_to(struct client *c, uint8_t class_i)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    must(c->server);
    c->waiter.class_i = class_i;
    grant_bound(c->server, class_i);
    brake_end(c->server); /* its time is the former class's */
    pool_demote(&c->server->lease, class_i, hub_now(h), &actions);
    brake_set_class(c->server, class_i);
    session_carry_out(h, &actions);
}

void session_demote(struct client *c, enum class_why why)
{
    struct hub *h = c->hub;
    uint8_t from_i = c->waiter.class_i, to_i = class_demoted(h->config->classes, from_i, why);
    if (to_i == from_i)
        return;
    move_to(c, to_i);
    count_add(&h->classes[from_i].demoted, 1);
    if (why != CLASS_WHY_COPY_OUT && why != CLASS_WHY_CURSOR) /* those may be every transaction */
        log_demoted(c, from_i, why);
}

void session_look_again(struct client *c, uint32_t news)
{
    if (!(news & (SQL_COPY_OUT | SQL_CURSOR)) || c->waiter.class_i != c->class_i)
        return;
    if (news & SQL_COPY_OUT)
        session_demote(c, CLASS_WHY_COPY_OUT);
    if (news & SQL_CURSOR && c->waiter.class_i == c->class_i)
        session_demote(c, CLASS_WHY_CURSOR);
}

void session_demotion_ends(struct client *c)
{
    if (c->waiter.class_i == c->class_i)
        return;
    move_to(c, c->class_i);
    brake_warn(c->server);
}

/* Asks the pool. Afterwards the client may be in any state. */
void session_ask(struct client *c)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    if (!steer_is_placed(c) && !steer_place(c))
        return; /* it is asked for again when a host is what it wants, or its patience ends */
    const struct route_cell *cell = route_cell(c->route, h);
    uint64_t now_us = hub_now(h);
    uint64_t wait_us = cell->settings.query_wait_timeout_us;
    c->waiter.deadline_us = wait_us ? c->request_us + wait_us : 0;
    if (c->rerouted)
        c->waiter.deadline_us = steer_deadline(c);
    c->waiter.worker = h->worker->index;
    c->waiter.addr = c->addr;
    c->waiter.server = NULL;
    c->waiter.refusal = POOL_REFUSED_NOT;
    if (c->state == CLIENT_IDLE)
        client_goto(c, CLIENT_QUEUED);
    enum pool_verdict verdict = pool_acquire(c->route->pool, &c->waiter, now_us, &actions);
    c->waits = verdict == POOL_QUEUED;
    session_carry_out(h, &actions);
    switch (verdict) {
    case POOL_GRANTED:
        session_granted(c, grant_server_of(c->waiter.server));
        break;
    case POOL_REFUSED:
        session_refused(c);
        break;
    case POOL_QUEUED:
        break;
    }
}

void session_begin(struct client *c, struct view in)
{
    if (c->vars != c->classed)
        classify_again(c);
    c->waiter.class_i = class_of_transaction(c, relay_peek(c, in));
    c->request_us = hub_now(c->hub);
    c->notified = c->rerouted = c->hostless = false;
    session_ask(c);
}

/* ---- linking
 * ------------------------------------------------------------------------------------- */

/* SQL that gives the server what this client wants, and proves that it is alive: "" when it may be
 * used as it is. False: too much of it. */
static bool preparation(struct client *c, struct server *s, struct buf *sql)
{
    const struct config_globals *g = &c->hub->config->globals;
    const char *check = g->server_check_query;
    if (c->tx_lost) /* its settings; then an error in a transaction: only ROLLBACK will work */
        return vars_put_sql(s->vars, c->vars, sql) &&
               buf_put_cstr(sql, "COMMIT;BEGIN;"
                                 "SELECT 1/0 AS \"transaction was lost with its server\"");
    if (c->route->replication == POOL_REPLICATION_PHYSICAL)
        return true; /* a WAL sender takes no SQL, and the server is nobody else's before or after
                      */
    if (s->vars != c->vars && vars_differ(s->vars, c->vars))
        return vars_put_sql(s->vars, c->vars, sql) && buf_put_u8(sql, '\0');
    uint64_t idle_us = us_since(s->lease.idle_since_us, hub_now(c->hub));
    if (*check && s->lease.idle_since_us && idle_us > g->server_check_delay_us)
        return buf_put_cstr(sql, strcmp(check, "<empty>") ? check : ";");
    return true;
}

/* Statements beyond max_prepared_statements leave the server between two transactions, when no
 * portal can depend on them. False: the server is lost. */
static bool evict(struct client *c, struct server *s)
{
    uint32_t max_n = (uint32_t)c->hub->config->globals.max_prepared_statements;
    struct buf b = {.max = SERVER_PART_BYTES_MAX};
    char name[PREP_NAME_BYTES];
    while (prep_cache_evict(&s->prep, max_n, name)) {
        struct owed_entry e = {.kind = OWED_CLOSE, .to = OWED_SKIP};
        if (!wire_put_target(&b, 'C', 'S', name) || !owed_push(&s->owed, e)) {
            buf_free(&b);
            return false;
        }
        s->unsynced = true;
    }
    return !buf_used(&b) || net_send_buf(&s->net, &b) != NET_ERROR;
}

static void linked(struct client *c, struct server *s)
{
    server_goto(s, SERVER_LINKED);
    client_goto(c, CLIENT_LINKED);
    if (c->renames && !evict(c, s)) {
        s->unsynced = false; /* nothing of the client's was sent */
        owed_clear(&s->owed);
        session_server_lost(s, NULL);
    } else {
        flow_go_on(c);
    }
}

void session_prepared(struct client *c, struct server *s)
{
    struct buf b = {.max = TELL_BYTES_MAX};
    const char *k, *value, *told;
    bool as_it_should = c->tx_lost ? s->tx == 'E' : !s->failed && s->tx == 'I';
    c->tx_lost = false;
    if (!as_it_should) {
        /* the server does not take the client's settings: its own words, and no transaction */
        session_tell(c, true, &s->last_words);
        session_end(c, END_CLIENT_STARTUP);
        return;
    }
    /* Settings as the server spells them; those not reported are as we set them. */
    bool fits = vars_keep_tracked(&s->vars);
    for (uint32_t at = 0; fits && vars_next(c->vars, &at, &k, &value);)
        if (!vars_tracked(k))
            fits = vars_set(&s->vars, k, value);
    for (uint32_t at = 0; fits && vars_next(s->vars, &at, &k, &value);)
        if (vars_tracked(k) && (told = vars_get(c->vars, k)) && strcmp(told, value) != 0)
            fits = wire_put_parameter(&b, k, value);
    if (!fits) {
        buf_free(&b);
        session_end(c, END_MEMORY);
        return;
    }
    const struct vars *now = vars_ref(s->vars);
    vars_unref(&c->vars);
    c->vars = now;
    if (buf_used(&b))
        send_buf(c, &b, true);
    linked(c, s);
}

static void link_to(struct client *c, struct server *s)
{
    struct route_cell *counters = route_counters(c->route, c->hub);
    const struct route_cell *cell = route_cell(c->route, c->hub);
    struct buf sql = {.max = SERVER_PART_BYTES_MAX};
    uint64_t waited_us = hub_now(c->hub) - c->request_us;
    count_add(&counters->server_assignment_count, 1);
    count_add(&counters->wait_time, waited_us);
    stats_observe(&c->hub->classes[c->waiter.class_i].wait, waited_us);
    must(!s->client && s->state == SERVER_IDLE);
    grant_bound(s, c->waiter.class_i);
    c->server = s;
    s->client = c;
    s->sql_flags = 0;
    s->tx_bytes = 0;
    s->tx_rows = 0;
    cull_over(s);
    brake_begin(s);
    atomic_store_explicit(&s->lease.tx_writes, false, memory_order_relaxed);
    c->tx_started_us = hub_now(c->hub);
    c->stmt_started_us = 0;
    c->renames = cell->settings.pool_mode != POOL_MODE_SESSION &&
                 c->hub->config->globals.max_prepared_statements > 0;
    if (!preparation(c, s, &sql)) {
        buf_free(&sql);
        server_goto(s, SERVER_LINKED);
        session_end(c, END_MEMORY);
        return;
    }
    if (!buf_used(&sql)) {
        linked(c, s);
        return;
    }
    server_goto(s, SERVER_PREPARING);
    client_goto(c, CLIENT_PREPARING);
    s->drain_until_us = hub_now(c->hub) + PREPARE_US_MAX;
    enum net_verdict sent = server_ask(s, (const char *)buf_view(&sql).at);
    buf_free(&sql);
    if (sent == NET_ERROR)
        session_server_lost(s, NULL);
}

/* Gives back a server nothing was sent to. */
static void give_back(struct hub *h, struct server *s)
{
    struct pool_actions actions;
    pool_release(&s->lease, NULL, hub_now(h), &actions);
    session_carry_out(h, &actions);
}

/* Back to IDLE, where the first message kept is answered with the refusal. */
static void refuse(struct client *c, enum client_refusal how)
{
    c->refusal = how;
    client_goto(c, CLIENT_IDLE);
    flow_go_on(c);
}

void session_granted(struct client *c, struct server *s)
{
    struct hub *h = c->hub;
    c->waits = false;
    if (s && s->state == SERVER_DEAD) { /* it died while the grant was in the mail */
        grant_closed(s, h, true);
        s = NULL;
    }
    if (c->gone) {
        if (s)
            give_back(h, s);
        leave(c);
    } else if (!s) {
        session_ask(c);
    } else if (c->state == CLIENT_WELCOME) { /* it has brought its greeting along */
        give_back(h, s);
        session_open(c);
    } else if (c->cancelled) {
        c->cancelled = false;
        give_back(h, s);
        refuse(c, CLIENT_REFUSAL_CANCELLED);
    } else if (!steer_is_placed(c) && !steer_stays(c)) { /* the host has changed meanwhile */
        give_back(h, s);
        session_ask(c);
    } else {
        link_to(c, s);
    }
}

static void refuse_login(struct client *c)
{
    tell_refusal(c, true);
    session_end(c, c->waiter.refusal == POOL_REFUSED_DOWN ? END_SERVER_LOGIN : END_REFUSED);
}

void session_refused(struct client *c)
{
    bool cancelled = c->cancelled;
    c->waits = c->cancelled = false;
    if (c->gone) {
        leave(c);
        return;
    }
    if (!cancelled && steer_waits_on(c))
        return;
    if (!cancelled && hold_refusal(c))
        return;
    session_turn_away(c);
}

void session_turn_away(struct client *c)
{
    if (c->waiter.refusal == POOL_REFUSED_SHED)
        count_add(&c->hub->classes[c->waiter.class_i].shed, 1);
    if (c->state != CLIENT_WELCOME) {
        refuse(c, CLIENT_REFUSAL_POOL);
        return;
    }
    refuse_login(c);
}

/* Nothing of its statement has been sent: it has no server any more. */
static void cancel_unsent(struct client *c)
{
    struct server *s = c->server;
    c->server = NULL;
    s->client = NULL;
    drain_abandon(s);
    refuse(c, CLIENT_REFUSAL_CANCELLED);
}

bool session_cancel(struct client *c, struct letter *done)
{
    struct pool_actions actions;
    if (c->gone)
        return false;
    if (c->hub->worker->index == 0) {
        console_cancel(c);
        return false;
    }
    if (c->state == CLIENT_LINKED && owed_n(&c->server->owed)) {
        c->server->cancel_asked = true;
        cancel_send(c->server, done);
        return true;
    }
    if (c->state == CLIENT_LINKED && (c->server->brake.since_us || cull_holds(c->server))) {
        c->server->cancel_wanted = relay_begins(c, buf_view(&c->in));
        flow_go_on(c); /* it rests no longer */
        return false;
    }
    if (c->state == CLIENT_SETTLING) { /* what it has sent meanwhile is refused, and never sent */
        if (relay_begins(c, buf_view(&c->in)))
            c->refusal = CLIENT_REFUSAL_CANCELLED;
        return false;
    }
    if (c->state == CLIENT_PREPARING && !c->tx_lost) {
        cancel_unsent(c);
        return false;
    }
    if (c->state != CLIENT_QUEUED)
        return false;
    if (c->strays || c->held_until_us) {
        steer_forget(c);
        hold_forget(c);
        refuse(c, CLIENT_REFUSAL_CANCELLED);
        return false;
    }
    if (!pool_cancel(&c->waiter, hub_now(c->hub), &actions))
        c->cancelled = true; /* the grant is in the mail */
    session_carry_out(c->hub, &actions);
    if (!c->cancelled) {
        c->waits = false;
        refuse(c, CLIENT_REFUSAL_CANCELLED);
    }
    return false;
}

void session_tell_refused(struct client *c)
{
    struct err err;
    if (c->refusal == CLIENT_REFUSAL_POOL) {
        tell_refusal(c, false);
        return;
    }
    err_set(&err, "57014", "canceling statement due to user request");
    session_tell(c, false, &err);
}

/* ---- greeting
 * -------------------------------------------------------------------------------------- */

static bool put_welcome(struct client *c, const struct welcome *w, struct buf *b)
{
    uint8_t key[WIRE_KEY_MAX];
    const char *k, *value;
    size_t key_n = c->login->minor >= 2 ? CANCEL_KEY_BYTES_32 : CANCEL_KEY_BYTES_30;
    bool fits = wire_put_auth(b, WIRE_AUTH_OK, view_of("", 0));
    hub_cancel_key(c->hub, c->pid, key, key_n);
    for (uint32_t at = 0; fits && vars_next(c->vars, &at, &k, &value);)
        if (vars_tracked(k))
            fits = wire_put_parameter(b, k, value);
    const char *notice = c->hub->config->globals.login_notify_message;
    struct wire_error e = {.severity = "NOTICE", .sqlstate = "00000", .message = notice};
    if (fits && *notice)
        fits = wire_put_error(b, 'N', &e);
    return fits && buf_put(b, w->bytes, w->bytes_n) &&
           wire_put_key(b, c->pid, view_of(key, key_n)) && wire_put_ready(b, 'I');
}

/* A worker of a parallel job that is in already is not: all of the job would be lost. */
static bool is_turned_away(const struct client *c)
{
    struct pool *p = c->route->pool;
    return upstream_sheds_logins(pool_upstream(p), c->class_i) &&
           !(c->waiter.group && target_has_group(p, c->waiter.group));
}

void session_open(struct client *c)
{
    struct hub *h = c->hub;
    struct buf b = {.max = 64 << 10};
    c->waiter.class_i = c->class_i;
    if (!steer_is_placed(c) && !steer_place(c))
        steer_forget(c); /* the greeting of a host that will not serve it is as good */
    const struct welcome *w = route_welcome(c->route);
    if (c->state != CLIENT_WELCOME && is_turned_away(c)) {
        c->waiter.refusal = POOL_REFUSED_SHED;
        refuse_login(c);
        return;
    }
    if (!w) { /* its pool has never had a server: wait for one */
        if (c->state != CLIENT_WELCOME)
            client_goto(c, CLIENT_WELCOME);
        c->request_us = hub_now(h);
        session_ask(c);
        return;
    }
    const char *k, *value;
    bool fits = true;
    vars_unref(&c->vars);
    c->vars = vars_ref(w->tracked);
    for (uint32_t at = 0; fits && vars_next(c->login->asked, &at, &k, &value);)
        fits = vars_set(&c->vars, k, value);
    if (!fits || !put_welcome(c, w, &b)) {
        buf_free(&b);
        session_end(c, END_MEMORY);
        return;
    }
    DL_DELETE(h->logins, c);
    h->logins_n--;
    DL_APPEND(h->clients, c);
    h->clients_n++;
    c->logged_in = true;
    c->idle_since_us = hub_now(h);
    client_goto(c, CLIENT_IDLE);
    pool_client_add(c->route->pool, c->class_i);
    count_add(&route_counters(c->route, h)->client_login_count, 1);
    hello_free(c);
    net_settle(&c->net, true);
    send_buf(c, &b, true);
    flow_go_on(c);
}

/* ---- the loss of a server
 * ----------------------------------------------------------------------------- */

/* Answers everything the lost server owed with an error, so that the client is in sync again. */
static void answer_owed(struct client *c, struct server *s, const struct err *why, uint8_t status)
{
    bool told = s->skipping; /* the error of this batch was told: only its Sync is missing */
    for (uint32_t i = 0; i < owed_n(&s->owed); i++) {
        const struct owed_entry *e = owed_at(&s->owed, i);
        if (e->to == OWED_SKIP)
            continue;
        if (e->kind == OWED_PARSE && e->name_serial)
            prep_names_forget(&c->names, e->name_serial);
        if (!told) /* also for a lone Sync: what it was to commit is lost */
            session_tell(c, false, why);
        told = true;
        if (e->kind == OWED_QUERY || e->kind == OWED_CALL || e->kind == OWED_SYNC) {
            session_tell_ready(c, status);
            told = false;
        }
    }
    if (s->unsynced && !told && !owed_n(&s->owed))
        session_tell(c, false, why);
    c->refusing = s->unsynced || s->skipping;
}

/* The client stays, if what it has been sent ends between two messages. */
static void client_survives(struct client *c, struct server *s, const struct err *why)
{
    const struct route_cell *cell = route_cell(c->route, c->hub);
    bool cut = s->body_left && s->body_passes;
    if (cut || cell->settings.pool_mode == POOL_MODE_SESSION) {
        c->server = NULL;
        s->client = NULL;
        if (!cut)
            session_tell(c, true, why);
        session_end(c, END_SERVER_LOST);
        return;
    }
    bool in_tx = s->tx != 'I' || (s->sql_flags & SQL_BEGIN);
    answer_owed(c, s, why, in_tx ? 'E' : 'I');
    c->tx_lost = in_tx;
    c->body_passes = false;
    c->stmt_started_us = 0;
    c->server = NULL;
    s->client = NULL;
    client_goto(c, CLIENT_IDLE);
}

void session_server_lost(struct server *s, const struct err *why)
{
    struct hub *h = s->hub;
    struct client *c = s->client;
    struct err said;
    if (s->fatal)
        said = s->last_words;
    else if (why)
        said = *why;
    else
        err_set(&said, "08006", "server connection was closed unexpectedly");
    if (s->state != SERVER_IDLE || !s->fatal)
        log_info("S-%#llx: %s/%s closing because: %s", (unsigned long long)s->id,
                 s->route->database, s->route->user, said.text);
    /* nothing of the client was sent, or all of it was answered: it does not notice */
    bool unnoticed =
        s->state == SERVER_PREPARING || s->state == SERVER_CLEANING || s->state == SERVER_DRAINING;
    bool leased_here = s->state != SERVER_IDLE;
    if (c && unnoticed) {
        bool settling = c->state == CLIENT_SETTLING;
        c->server = NULL;
        s->client = NULL;
        client_goto(c, CLIENT_IDLE);
        if (settling) /* it would go on with settings that are not those it was told it has */
            session_end_with(c, END_SETTINGS_LOST, "08006");
    } else if (c) {
        client_survives(c, s, &said);
    }
    s->lease.died = s->fatal || !why; /* else it was us who closed it: no sign of its health */
    server_shut(s);
    cancel_forget(h, s);
    grant_closed(s, h, leased_here);
    if (c && !c->gone)
        flow_go_on(c);
}
