/* From an accepted socket to a client that has logged in.
 *
 * The control loop accepts and hands each socket to the loop with the fewest clients. There:
 * SSLRequest or GSSENCRequest, TLS, the startup packet, authentication, and then either a route and
 * a greeting, or the way to the console. Nobody costs more here than a struct, a bounded packet and
 * client_login_timeout; limits are charged after authentication. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "config/users.h"
#include "proxy/census.h"
#include "proxy/console.h"
#include "proxy/door.h"
#include "proxy/gates.h"
#include "proxy/log.h"
#include "proxy/session.h"
#include "proxy/sock.h"
#include "proxy/steer.h"
#include "proxy/tls.h"
#include "proxy/vars.h"

enum {
    HELLO_BYTES_MAX = 32 << 10, /* kept of what a client says before it has logged in */
    REPLY_BYTES_MAX = 4 << 10,
    OPTIONS_UNKNOWN_MAX = 16, /* protocol options named in NegotiateProtocolVersion */
    MINOR_MAX = 2,            /* the newest protocol we speak is 3.2 */
};

static void refuse(struct client *c, enum end_reason why, const char *sqlstate, const char *text)
{
    struct err err;
    err_set(&err, sqlstate, "%s", text);
    session_tell(c, true, &err);
    session_end(c, why);
}

void hello_free(struct client *c)
{
    struct client_login *l = c->login;
    if (!l)
        return;
    if (l->auth) {
        auth_end(l->auth);
        free(l->auth);
    }
    vars_unref(&l->asked);
    free(l);
    c->login = NULL;
}

/* ---- logged in
 * -------------------------------------------------------------------------------------- */

static uint32_t fairness_key(const struct client *c)
{
    uint32_t h = 2166136261u; /* FNV-1a: any value will do, it is only folded */
    for (size_t i = 0; i < sizeof c->peer.address; i++)
        h = (h ^ c->peer.address[i]) * 16777619u;
    for (const char *u = c->login->user; *u; u++)
        h = (h ^ (uint8_t)*u) * 16777619u;
    return h;
}

/* Takes a place under the limits of its database and user. False: refused, and the session is over.
 */
static bool counted(struct client *c, const struct config_database *db)
{
    const struct client_login *l = c->login;
    struct config_pool set;
    config_pool(c->hub->config, db, config_user(c->hub->config, l->user), &set);
    int db_max = set.max_db_client_connections, user_max = set.max_user_client_connections;
    c->of_database = census_enter(CENSUS_DATABASE, l->database, db_max > 0 ? (uint32_t)db_max : 0);
    if (!c->of_database) {
        session_end_with(c, END_TOO_MANY_OF_DATABASE, "53300");
        return false;
    }
    c->of_user = census_enter(CENSUS_USER, l->user, user_max > 0 ? (uint32_t)user_max : 0);
    if (!c->of_user) {
        session_end_with(c, END_TOO_MANY_OF_USER, "53300");
        return false;
    }
    return true;
}

/* application_name_add_host: "app - host:port" */
static void add_host(struct client *c)
{
    char address[SOCK_ADDRESS_BYTES], text[256];
    const char *app = vars_get(c->login->asked, "application_name");
    sock_address_text(c->peer.address, address);
    if (c->peer.is_unix)
        snprintf(text, sizeof text, "%s - unix(%d)", app ? app : "app", (int)c->peer.pid);
    else
        snprintf(text, sizeof text, "%s - %s:%u", app ? app : "app", address, c->peer.port);
    if (!vars_set(&c->login->asked, "application_name", text))
        log_debug("C-%#llx: application_name is too long to be changed", (unsigned long long)c->id);
}

/* What the operator said of this database (PAUSE, DISABLE) holds for a pool that is new as well. */
static bool let_through(struct client *c)
{
    struct gate gate = gates_of(c->hub->proxy->gates, c->route->database);
    struct pool_actions actions;
    struct err err;
    if (gate.disabled) {
        err_set(&err, "57P03", "database \"%s\" is disabled", c->route->database);
        session_tell(c, true, &err);
        session_end(c, END_REFUSED);
        return false;
    }
    if (gate.paused) {
        pool_set_run(c->route->pool, POOL_PAUSED, hub_now(c->hub), &actions);
        session_carry_out(c->hub, &actions);
    }
    return true;
}

/* What a client proved by SCRAM serves to log in to a server with the same secret. */
static void pass_keys_on(struct client *c, const struct config_database *db)
{
    const struct client_login *l = c->login;
    struct scram_keys known;
    if (!l->auth || !l->auth->keys.iterations || db->user || db->password)
        return;
    route_get_keys(c->route, &known);
    if (!known.iterations)
        route_set_keys(c->route, &l->auth->keys);
}

static void join_route(struct client *c)
{
    struct client_login *l = c->login;
    const struct config_database *db = config_database(c->hub->config, l->database);
    struct err err;
    if (!db) {
        err_set(&err, "3D000", "no such database: %s", l->database);
        session_tell(c, true, &err);
        session_end(c, END_CLIENT_DATABASE);
        return;
    }
    if (!counted(c, db))
        return;
    struct route_key key = {.database = l->database,
                            .user = l->user,
                            .replication = l->replication,
                            .host_i = steer_first(c->hub, db)};
    c->route = route_join(c->hub, db, &key, &err);
    if (!c->route) {
        session_tell(c, true, &err);
        session_end(c, END_REFUSED);
        return;
    }
    if (!let_through(c))
        return;
    pass_keys_on(c, db);
    c->class_i = session_classify(c, vars_get(l->asked, "application_name"));
    if (c->hub->config->globals.application_name_add_host)
        add_host(c);
    c->waiter.key_i = fairness_key(c);
    if (c->hub->config->globals.max_address_connections > 0 && !c->peer.is_unix)
        c->addr =
            pool_addr_get(pool_upstream(c->route->pool), c->peer.address, sizeof c->peer.address);
    if (c->hub->config->globals.log_connections) {
        char name[CLIENT_NAME_BYTES];
        log_info("C-%#llx: %s login attempt: db=%s user=%s tls=%s", (unsigned long long)c->id,
                 client_name(c, name, sizeof name), l->database, l->user, c->secure ? "yes" : "no");
    }
    session_open(c);
}

/* ---- to the console
 * ----------------------------------------------------------------------------------- */

static void open_console(struct worker *w, struct letter *l)
{
    struct client *c = OWNER_OF(struct client, letter, l);
    struct hub *h = w->hub;
    c->hub = h;
    c->pid = hub_slot_take(h, c);
    if (c->pid == UINT32_MAX) {
        net_close(&c->net);
        hello_free(c);
        free(c);
        return;
    }
    DL_APPEND(h->logins, c);
    h->logins_n++;
    console_open(h, c);
}

/* The console needs no worker: the client moves to the control loop. */
static void go_to_console(struct client *c)
{
    struct hub *h = c->hub;
    net_detach(&c->net);
    hub_slot_give(h, c->pid);
    DL_DELETE(h->logins, c);
    h->logins_n--;
    atomic_fetch_sub_explicit(&h->load, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&h->proxy->clients_n, 1, memory_order_relaxed); /* not counted */
    c->hub = NULL;
    c->letter.open = open_console;
    grant_send(h, 0, &c->letter);
}

/* Who is not for the console hears AuthenticationOk with its greeting: up to there a refusal with
 * 57P03 makes libpq go on to its next host, and none behind it does. */
static void logged_in(struct client *c)
{
    struct buf b = {.max = REPLY_BYTES_MAX};
    door_leave(c);
    if (!c->login->to_console) {
        join_route(c);
        return;
    }
    if (!wire_put_auth(&b, WIRE_AUTH_OK, view_of("", 0)) ||
        net_send_buf(&c->net, &b) == NET_ERROR) {
        buf_free(&b);
        session_end(c, END_CLIENT_GONE);
        return;
    }
    c->login->done = true; /* it moves when its bytes have been handled: hello_on_client() */
}

/* ---- authentication
 * ------------------------------------------------------------------------------------- */

static void auth_done(struct client *c, enum auth_verdict verdict, struct buf *reply,
                      const struct err *err)
{
    if (verdict == AUTH_FAILED) {
        buf_free(reply);
        session_tell(c, true, err);
        session_end(c, END_CLIENT_AUTH);
        return;
    }
    if (buf_used(reply) && net_send_buf(&c->net, reply) == NET_ERROR) {
        session_end(c, END_CLIENT_GONE);
        return;
    }
    if (verdict == AUTH_OK)
        logged_in(c);
}

/* Our own user on our own Unix socket rules the console without a password. */
static bool is_owner(const struct client *c)
{
    const struct client_login *l = c->login;
    return l->to_console && c->peer.is_unix && c->peer.uid == geteuid() &&
           (!strcmp(l->user, "pgbouncer") || !strcmp(l->user, "pgweir"));
}

static void authenticate(struct client *c)
{
    struct client_login *l = c->login;
    const struct config *cfg = c->hub->config;
    const struct config_globals *g = &cfg->globals;
    struct buf reply = {.max = REPLY_BYTES_MAX};
    struct scram_binding binding;
    uint8_t random[AUTH_RANDOM_BYTES];
    struct err err;
    l->auth = calloc(1, sizeof *l->auth);
    if (!l->auth || getrandom(random, sizeof random, 0) != sizeof random) {
        session_end(c, END_MEMORY);
        return;
    }
    char cert_name[CONFIG_USER_NAME_MAX + 1];
    bool certified = c->net.ssl && tls_peer_name(c->net.ssl, cert_name, sizeof cert_name);
    struct auth_opts opts = {
        .type = is_owner(c) ? AUTH_TYPE_TRUST : g->auth_type,
        .user = l->user,
        .secret = users_secret(cfg->auth, l->user),
        .cert_name = certified ? cert_name : NULL,
        .binding = c->net.ssl && tls_end_point(c->net.ssl, true, &binding) ? &binding : NULL,
        .process_key = c->hub->proxy->secret,
        .scram_iterations = (uint32_t)g->scram_iterations,
        .unknown_as_scram =
            cfg->auth->entries_n && users_kind_of(cfg->auth->entries[0].secret) == USERS_SCRAM,
        .random = random};
    if (is_owner(c) && !opts.secret)
        opts.secret = "";
    client_goto(c, CLIENT_AUTH);
    enum auth_verdict verdict = auth_begin(l->auth, &opts, &reply, &err);
    auth_done(c, verdict, &reply, &err);
}

/* ---- the startup packet
 * ----------------------------------------------------------------------------------- */

/* One setting the client asks for. False: refused, and the session is over. */
static bool want(struct client *c, const char *name, const char *value)
{
    const struct config_globals *g = &c->hub->config->globals;
    if (config_list_has(g->ignore_startup_parameters, name, false))
        return true;
    if (!vars_set(&c->login->asked, name, value)) {
        refuse(c, END_CLIENT_STARTUP, "08P01", "startup parameters are too long");
        return false;
    }
    return true;
}

static bool want_options(struct client *c, const char *text)
{
    struct view options = view_of_cstr(text);
    struct wire_option o;
    while (wire_option_next(&options, &o))
        if (!want(c, o.name, o.value))
            return false;
    if (!options.bad ||
        config_list_has(c->hub->config->globals.ignore_startup_parameters, "options", false))
        return true;
    refuse(c, END_CLIENT_STARTUP, "08P01",
           "unsupported options startup parameter: only '-c config=val' and '--config=val' are "
           "allowed");
    return false;
}

static bool want_replication(struct client *c, const char *value)
{
    static const char *const yes[] = {"true", "on", "yes", "1"};
    static const char *const no[] = {"false", "off", "no", "0"};
    struct client_login *l = c->login;
    if (!strcasecmp(value, "database")) {
        l->replication = POOL_REPLICATION_DATABASE;
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (!strcasecmp(value, yes[i]))
            l->replication = POOL_REPLICATION_PHYSICAL;
        if (!strcasecmp(value, yes[i]) || !strcasecmp(value, no[i]))
            return true;
    }
    refuse(c, END_CLIENT_STARTUP, "22023", "invalid value for parameter \"replication\"");
    return false;
}

static bool copy_name(struct client *c, char *at, size_t n, const char *name)
{
    if (snprintf(at, n, "%s", name) < (int)n)
        return true;
    refuse(c, END_CLIENT_STARTUP, "08P01", "name of the user or database is too long");
    return false;
}

/* One parameter of the packet; protocol options we do not know are collected. */
static bool parameter(struct client *c, const struct wire_param *p, const char **unknown,
                      size_t *unknown_n)
{
    struct client_login *l = c->login;
    if (!strcmp(p->name, "user"))
        return copy_name(c, l->user, sizeof l->user, p->value);
    if (!strcmp(p->name, "database"))
        return copy_name(c, l->database, sizeof l->database, p->value);
    if (!strcmp(p->name, "replication"))
        return want_replication(c, p->value);
    if (!strcmp(p->name, "options"))
        return want_options(c, p->value);
    if (strncmp(p->name, "_pq_.", 5) != 0)
        return want(c, p->name, p->value);
    if (*unknown_n < OPTIONS_UNKNOWN_MAX)
        unknown[(*unknown_n)++] = p->name;
    return true;
}

static bool negotiate(struct client *c, uint16_t asked, const char *const *unknown, size_t n)
{
    struct buf b = {.max = REPLY_BYTES_MAX};
    c->login->minor = asked > MINOR_MAX ? MINOR_MAX : asked;
    c->key_bytes = c->login->minor >= 2 ? CANCEL_KEY_BYTES_32 : CANCEL_KEY_BYTES_30;
    if (asked <= MINOR_MAX && !n)
        return true;
    if (wire_put_negotiate(&b, c->login->minor, unknown, n) &&
        net_send_buf(&c->net, &b) != NET_ERROR)
        return true;
    buf_free(&b);
    session_end(c, END_CLIENT_GONE);
    return false;
}

/* Whether it may try at all. */
static bool admitted(struct client *c)
{
    const struct config_globals *g = &c->hub->config->globals;
    struct proxy *p = c->hub->proxy;
    if (g->client_tls_sslmode >= SSLMODE_REQUIRE && !c->secure && !c->peer.is_unix) {
        refuse(c, END_CLIENT_STARTUP, "28000", "SSL required");
        return false;
    }
    if (c->login->to_console)
        return true;
    if (atomic_load_explicit(&p->draining, memory_order_relaxed)) {
        refuse(c, END_SHUTDOWN, "57P03", "pooler is shutting down");
        return false;
    }
    if (atomic_load_explicit(&p->clients_n, memory_order_relaxed) > (uint32_t)g->max_client_conn) {
        refuse(c, END_TOO_MANY_CLIENTS, "53300", "no more connections allowed (max_client_conn)");
        return false;
    }
    return true;
}

/* The class it will have, as far as it is known before its password. */
static uint8_t likely_class(const struct client *c)
{
    const struct client_login *l = c->login;
    struct class_facts facts = {.application_name = vars_get(l->asked, "application_name"),
                                .user = l->user,
                                .database = l->database,
                                .address = c->peer.is_unix ? NULL : c->peer.address,
                                .address_bytes = c->peer.is_unix ? 0 : sizeof c->peer.address,
                                .is_unix = c->peer.is_unix,
                                .peer_uid = c->peer.uid,
                                .replication = l->replication != POOL_REPLICATION_NO};
    return class_of(c->hub->config->classes, &facts);
}

static bool at_door(struct client *c)
{
    door_leave(c); /* with its handshake */
    return c->login->to_console || door_enter(c, likely_class(c));
}

static void startup(struct client *c, const struct wire_startup *st)
{
    struct client_login *l = c->login;
    const char *unknown[OPTIONS_UNKNOWN_MAX];
    size_t unknown_n = 0;
    struct view params = st->params;
    struct wire_param p;
    while (wire_param_next(&params, &p))
        if (!parameter(c, &p, unknown, &unknown_n))
            return;
    if (params.bad || !*l->user) {
        refuse(c, END_CLIENT_STARTUP, "08P01",
               params.bad ? "broken startup packet" : "no user name given in the startup packet");
        return;
    }
    if (!*l->database && !copy_name(c, l->database, sizeof l->database, l->user))
        return;
    l->to_console = !strcmp(l->database, "pgweir") || !strcmp(l->database, "pgbouncer");
    if (negotiate(c, st->minor, unknown, unknown_n) && admitted(c) && at_door(c))
        authenticate(c);
}

/* The packet leaves the buffer first: what the client sent behind it may be handled from in here.
 */
static void take_startup(struct client *c, struct wire_startup *st)
{
    uint8_t params[WIRE_STARTUP_BYTES_MAX];
    must(st->params.n <= sizeof params);
    memcpy(params, st->params.at, st->params.n);
    st->params = view_of(params, st->params.n);
    buf_take(&c->in, st->packet_n);
    startup(c, st);
}

/* ---- the first bytes
 * ---------------------------------------------------------------------------------------- */

static void start_tls(struct client *c)
{
    if (net_send(&c->net, "S", 1) != NET_OK) {
        session_end(c, END_CLIENT_GONE);
        return;
    }
    SSL *ssl = tls_accept_new(c->hub->client_tls);
    if (!ssl || !net_secure(&c->net, ssl, true))
        session_end(c, END_MEMORY);
    else
        client_goto(c, CLIENT_TLS);
}

/* Answers SSLRequest or GSSENCRequest. False: the session is over, or TLS begins. */
static bool answer_request(struct client *c, enum wire_hello hello, size_t packet_n)
{
    struct client_login *l = c->login;
    bool *answered = hello == WIRE_HELLO_SSL ? &l->ssl_answered : &l->gss_answered;
    bool begin_tls = hello == WIRE_HELLO_SSL && c->hub->client_tls && !c->peer.is_unix;
    /* Bytes sent behind the request, before our answer, would be taken for the encrypted session's.
     */
    if (*answered || c->secure || buf_used(&c->in) != packet_n) {
        session_end(c, END_CLIENT_STARTUP);
        return false;
    }
    *answered = true;
    buf_take(&c->in, packet_n);
    if (begin_tls && door_enter(c, CLASSES_MAX))
        start_tls(c);
    if (begin_tls)
        return false;
    if (net_send(&c->net, "N", 1) == NET_OK) /* one byte, or it is hopeless */
        return true;
    session_end(c, END_CLIENT_GONE);
    return false;
}

void hello_go_on(struct client *c)
{
    if (c->login->door_class_i < CLASSES_MAX)
        authenticate(c);
    else if (buf_used(&c->in)) /* it did not wait for our answer: as above */
        session_end(c, END_CLIENT_STARTUP);
    else
        start_tls(c);
}

static void first_packets(struct client *c)
{
    struct wire_startup st;
    while (!c->gone && c->state == CLIENT_HELLO && buf_used(&c->in) &&
           c->login->door != CLIENT_DOOR_WAITS) {
        switch (wire_startup(buf_view(&c->in), &st)) {
        case WIRE_MORE:
            return;
        case WIRE_BAD:
            session_end(c, END_CLIENT_STARTUP);
            return;
        case WIRE_OK:
            break;
        }
        switch (st.hello) {
        case WIRE_HELLO_SSL:
        case WIRE_HELLO_GSS:
            if (!answer_request(c, st.hello, st.packet_n))
                return;
            break;
        case WIRE_HELLO_CANCEL:
            cancel_serve(c, st.pid, st.key);
            return;
        case WIRE_HELLO_TLS:
            session_end(c, END_CLIENT_TLS);
            return;
        case WIRE_HELLO_ALIEN:
            refuse(c, END_CLIENT_STARTUP, "0A000", "unsupported frontend protocol");
            return;
        case WIRE_HELLO_STARTUP:
            take_startup(c, &st);
            break;
        }
    }
}

static void answers(struct client *c)
{
    struct buf reply = {.max = REPLY_BYTES_MAX};
    struct wire_msg m;
    struct err err;
    while (!c->gone && c->state == CLIENT_AUTH && !c->login->done && buf_used(&c->in)) {
        uint8_t type = buf_view(&c->in).at[0];
        if (type != 'p') { /* nothing else has a place here, and others may come in parts */
            if (type == 'X')
                session_end(c, END_CLIENT_QUIT);
            else
                session_end_with(c, END_CLIENT_PROTOCOL, "08P01");
            return;
        }
        switch (wire_next(buf_view(&c->in), wire_from_client, HELLO_BYTES_MAX, &m)) {
        case WIRE_MORE:
            return;
        case WIRE_BAD:
            session_end(c, END_CLIENT_PROTOCOL);
            return;
        case WIRE_OK:
            break;
        }
        enum auth_verdict verdict = auth_answer(c->login->auth, &m, &reply, &err);
        buf_take(&c->in, WIRE_HEADER_BYTES + m.body_n);
        auth_done(c, verdict, &reply, &err);
    }
}

static void handshake(struct client *c)
{
    struct err err;
    switch (net_handshake(&c->net)) {
    case NET_AGAIN:
        return;
    case NET_OK:
        c->secure = true;
        client_goto(c, CLIENT_HELLO);
        return;
    case NET_EOF:
    case NET_ERROR:
        tls_error(c->net.ssl, "TLS handshake failed", &err);
        log_debug("C-%#llx: %s", (unsigned long long)c->id, err.text);
        session_end(c, END_CLIENT_TLS);
        return;
    }
}

void hello_on_client(struct client *c, short what)
{
    size_t n;
    uint8_t *scratch = c->hub->worker->scratch;
    if (c->state == CLIENT_TLS) {
        handshake(c);
        return;
    }
    if (what & EV_WRITE && net_flush(&c->net) == NET_ERROR) {
        session_end(c, END_CLIENT_GONE);
        return;
    }
    if (!(what & EV_READ))
        return;
    switch (net_read(&c->net, scratch, HELLO_BYTES_MAX, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        session_end(c, END_CLIENT_GONE);
        return;
    case NET_OK:
        break;
    }
    if (c->state == CLIENT_CANCEL)
        return; /* nothing more is expected of it */
    c->in.max = HELLO_BYTES_MAX;
    if (!buf_put(&c->in, scratch, n)) {
        session_end(c, END_CLIENT_STARTUP);
        return;
    }
    if (c->state == CLIENT_HELLO)
        first_packets(c);
    if (!c->gone && c->state == CLIENT_AUTH)
        answers(c);
    if (!c->gone && c->login && c->login->done)
        go_to_console(c); /* from here on it is not ours to touch */
}

/* ---- accepting
 * ------------------------------------------------------------------------------------------------
 */

static void open_client(struct worker *w, struct letter *l)
{
    struct client *c = OWNER_OF(struct client, letter, l);
    struct hub *h = w->hub;
    c->hub = h;
    c->connected_us = hub_now(h);
    c->pid = hub_slot_take(h, c);
    if (c->pid != UINT32_MAX && net_attach(&c->net, w, flow_on_client, c)) {
        DL_APPEND(h->logins, c);
        h->logins_n++;
        return;
    }
    if (c->pid != UINT32_MAX)
        hub_slot_give(h, c->pid);
    atomic_fetch_sub_explicit(&h->proxy->clients_n, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&h->load, 1, memory_order_relaxed);
    net_close(&c->net);
    hello_free(c);
    free(c);
}

static struct hub *least_loaded(struct proxy *p)
{
    struct hub *best = p->hubs[1];
    for (uint16_t i = 2; i < p->worker_n; i++)
        if (atomic_load_explicit(&p->hubs[i]->load, memory_order_relaxed) <
            atomic_load_explicit(&best->load, memory_order_relaxed))
            best = p->hubs[i];
    return best;
}

void hello_accept(struct proxy *p, int fd, const struct listen_peer *peer)
{
    struct hub *h = least_loaded(p);
    struct client *c = calloc(1, sizeof *c);
    if (c)
        c->login = calloc(1, sizeof *c->login);
    if (!c || !c->login) {
        free(c);
        close(fd);
        return;
    }
    c->login->asked = vars_none();
    net_open(&c->net, fd);
    c->peer = *peer;
    c->id = atomic_fetch_add_explicit(&p->next_id, 1, memory_order_relaxed) + 1;
    c->key_bytes = CANCEL_KEY_BYTES_30;
    c->waiter.refusal = POOL_REFUSED_NOT;
    atomic_fetch_add_explicit(&p->clients_n, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->load, 1, memory_order_relaxed);
    c->letter.open = open_client;
    worker_post(h->worker, &c->letter);
}
