/*   RESOLVING --address--> CONNECTING --> [ASKED_TLS --> TLS -->] LOGIN --ReadyForQuery--> done
 *       ^                      |               |          |
 *       +----- next host, next address --------+----------+ (nothing was said yet)
 *
 * `allow` and `prefer` ask for TLS and go on without it where the server says no. Passwords: of the
 * database's line, else of auth_file; with neither, the proof a client gave us by SCRAM serves
 * where the server has the same secret. Keys derived from a password are kept with the route, so
 * that no second login pays for them. */
#include "proxy/server_login.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/users.h"
#include "proxy/log.h"
#include "proxy/route.h"
#include "proxy/scram.h"
#include "proxy/sock.h"
#include "proxy/tls.h"
#include "proxy/vars.h"

enum { LOGIN_IN_BYTES_MAX = 64 << 10, LOGIN_TEXT_BYTES = 256 };

struct server_login {
    const struct config *config; /* one reference: what this login was begun with */
    const struct config_database *db;
    struct dns_ask *ask; /* a question that is out */
    net_callback on_event;
    const char *host;
    int port;
    int host_i; /* the one host it is for, where its database's are told apart; or TARGET_NONE */
    uint32_t hosts_tried_n;
    struct server_scout *scout; /* it is only to look; NULL: it is to serve */
    bool scout_asked;
    enum upstream_role role; /* as told by parameters */
    bool read_only;
    uint32_t addrs_n, address_i;
    struct dns_addr addrs[DNS_ADDRS_MAX];
    bool is_unix, greeted;
    bool bounded; /* results read from it may have to be held back */
    bool connect_query_sent;
    bool sasl_begun, sasl_proved; /* our part of the exchange was sent: the first, the last */
    uint64_t deadline_us;
    struct buf in;
    struct buf reports; /* ParameterStatus messages for the welcome */
    struct scram_client scram;
    struct err last; /* why the last address did not do */
};

static enum server_login_verdict fail(enum pool_failure *failure, enum pool_failure why)
{
    *failure = why;
    return SERVER_LOGIN_FAILED;
}

/* ---- where to ----------------------------------------------------------------------------------
 */

static bool is_path(const char *host)
{
    return host[0] == '/' || host[0] == '@';
}

static uint32_t hosts_n(const struct server_login *l)
{
    return l->db->hosts_n && l->host_i == TARGET_NONE ? (uint32_t)l->db->hosts_n : 1;
}

static void next_host(struct server *s)
{
    struct server_login *l = s->login;
    uint32_t i = 0;
    if (l->host_i != TARGET_NONE)
        i = (uint32_t)l->host_i;
    else if (l->db->load_balance_hosts == LOAD_BALANCE_DISABLE)
        i = l->hosts_tried_n;
    else
        i = atomic_fetch_add_explicit(&s->route->host_next, 1, memory_order_relaxed) % hosts_n(l);
    l->host = l->db->hosts_n ? l->db->hosts[i] : l->config->globals.unix_socket_dir;
    l->port = l->db->ports[i];
}

static void take_answer(struct server_login *l, const struct dns_ask *ask)
{
    l->addrs_n = ask->addrs_n;
    memcpy(l->addrs, ask->addrs, sizeof l->addrs);
    if (!ask->addrs_n)
        l->last = ask->err;
}

static void answered(struct worker *w, struct dns_ask *ask)
{
    struct server *s = ask->owner;
    (void)w;
    take_answer(s->login, ask);
    dns_ask_drop(&s->login->ask);
    s->login->on_event(-1, 0, s);
}

/* Finds addresses of the next host. False: there is no further host. */
static bool resolve(struct server *s)
{
    struct server_login *l = s->login;
    if (l->hosts_tried_n >= hosts_n(l))
        return false;
    next_host(s);
    l->hosts_tried_n++;
    l->address_i = l->addrs_n = 0;
    l->is_unix = is_path(l->host);
    l->ask = dns_ask_new(l->host, (uint16_t)l->port);
    if (!l->ask)
        return err_set(&l->last, "53200", "out of memory");
    l->ask->done = answered;
    l->ask->owner = s;
    if (dns_resolve(s->hub->proxy->dns, s->hub->worker, l->ask) == DNS_LATER)
        return true;
    take_answer(l, l->ask);
    dns_ask_drop(&l->ask);
    return true;
}

/* connect() to the next address. */
static enum server_login_verdict connect_next(struct server *s, enum pool_failure *failure,
                                              struct err *err)
{
    struct server_login *l = s->login;
    for (;;) {
        if (l->ask)
            return SERVER_LOGIN_MORE;
        if (l->address_i == l->addrs_n) {
            if (resolve(s))
                continue;
            *err = l->last;
            return fail(failure, POOL_FAILED_CONNECT);
        }
        const struct sockaddr *to = (const struct sockaddr *)&l->addrs[l->address_i].sa;
        socklen_t bytes = l->addrs[l->address_i++].sa_bytes;
        int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            err_set(err, "53000", "cannot make a socket: %s", strerror(errno));
            return fail(failure, POOL_FAILED_LOGIN); /* our shortage, not the server's health */
        }
        sock_tune(fd, &l->config->globals, l->is_unix);
        s->bounded = l->is_unix || l->bounded || l->config->globals.tcp_socket_buffer > 0;
        if (l->bounded && !l->is_unix && !l->config->globals.tcp_socket_buffer)
            sock_bound(fd);
        if (connect(fd, to, bytes) < 0 && errno != EINPROGRESS) {
            err_set(&l->last, "08001", "connect to %s:%d failed: %s", l->host, l->port,
                    strerror(errno));
            close(fd);
            continue;
        }
        memcpy(&s->address, to, bytes);
        s->address_bytes = bytes;
        net_open(&s->net, fd);
        if (!net_attach(&s->net, s->hub->worker, l->on_event, s)) {
            err_set(err, "53200", "cannot watch a socket: %s", strerror(errno));
            return fail(failure, POOL_FAILED_LOGIN);
        }
        net_connect_wanted(&s->net, true);
        server_goto(s, SERVER_CONNECTING);
        return SERVER_LOGIN_MORE;
    }
}

/* This address did not do, and nothing was asked of it yet: the next one. */
static enum server_login_verdict elsewhere(struct server *s, enum pool_failure *failure,
                                           struct err *err)
{
    net_close(&s->net);
    buf_free(&s->login->in);
    return connect_next(s, failure, err);
}

/* ---- startup -----------------------------------------------------------------------------------
 */

static enum config_sslmode sslmode(const struct server_login *l)
{
    return l->is_unix ? SSLMODE_DISABLE : l->config->globals.server_tls_sslmode;
}

static bool send_startup(struct server *s)
{
    struct server_login *l = s->login;
    const struct config_database *db = l->db;
    struct wire_param params[8];
    size_t n = 0;
    params[n++] = (struct wire_param){"user", s->route->user};
    params[n++] = (struct wire_param){"database", db->dbname ? db->dbname : s->route->database};
    if (l->scout)
        l->scout_asked = false; /* an ordinary connection: a WAL sender answers no SQL */
    else if (s->route->replication == POOL_REPLICATION_DATABASE)
        params[n++] = (struct wire_param){"replication", "database"};
    else if (s->route->replication == POOL_REPLICATION_PHYSICAL)
        params[n++] = (struct wire_param){"replication", "true"};
    if (db->client_encoding)
        params[n++] = (struct wire_param){"client_encoding", db->client_encoding};
    if (db->datestyle)
        params[n++] = (struct wire_param){"DateStyle", db->datestyle};
    if (db->timezone)
        params[n++] = (struct wire_param){"TimeZone", db->timezone};
    if (db->application_name)
        params[n++] = (struct wire_param){"application_name", db->application_name};
    struct buf b = {.max = LOGIN_IN_BYTES_MAX};
    if (!wire_put_startup(&b, 0, params, n)) {
        buf_free(&b);
        return false;
    }
    if (net_send_buf(&s->net, &b) == NET_ERROR)
        return false; /* and another address may be tried: it was not a login yet */
    server_goto(s, SERVER_LOGIN);
    return true;
}

static enum server_login_verdict connected(struct server *s, enum pool_failure *failure,
                                           struct err *err)
{
    struct server_login *l = s->login;
    int why = 0;
    socklen_t n = sizeof why;
    if (getsockopt(s->net.fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
        why = errno;
    if (why) {
        err_set(&l->last, "08001", "connect to %s:%d failed: %s", l->host, l->port, strerror(why));
        return elsewhere(s, failure, err);
    }
    net_connect_wanted(&s->net, false);
    bool sent;
    if (sslmode(l) == SSLMODE_DISABLE) {
        sent = send_startup(s);
    } else {
        struct buf b = {.max = 64};
        server_goto(s, SERVER_ASKED_TLS);
        sent = wire_put_ssl_request(&b) && net_send_buf(&s->net, &b) == NET_OK;
    }
    if (sent)
        return SERVER_LOGIN_MORE;
    err_set(&l->last, "08006", "connection to %s:%d was lost", l->host, l->port);
    return elsewhere(s, failure, err);
}

/* ---- TLS ---------------------------------------------------------------------------------------
 */

static enum server_login_verdict handshake(struct server *s, enum pool_failure *failure,
                                           struct err *err)
{
    switch (net_handshake(&s->net)) {
    case NET_AGAIN:
        return SERVER_LOGIN_MORE;
    case NET_OK:
        if (send_startup(s))
            return SERVER_LOGIN_MORE;
        err_set(err, "08006", "connection was lost after the TLS handshake");
        return fail(failure, POOL_FAILED_CONNECT);
    case NET_EOF:
    case NET_ERROR:
        break;
    }
    tls_error(s->net.ssl, "TLS handshake with the server failed", err);
    return fail(failure, POOL_FAILED_CONNECT);
}

/* The one byte that answers SSLRequest. More than that in plain text is an attack. */
static enum server_login_verdict tls_answer(struct server *s, enum pool_failure *failure,
                                            struct err *err)
{
    struct server_login *l = s->login;
    uint8_t answer[2];
    size_t n;
    switch (net_read(&s->net, answer, sizeof answer, &n)) {
    case NET_AGAIN:
        return SERVER_LOGIN_MORE;
    case NET_OK:
        break;
    case NET_EOF:
    case NET_ERROR:
        err_set(&l->last, "08006", "%s:%d closed the connection", l->host, l->port);
        return elsewhere(s, failure, err);
    }
    if (n == 1 && answer[0] == 'S' && s->hub->server_tls) {
        SSL *ssl = tls_connect_new(s->hub->server_tls, l->host, (uint16_t)l->port, sslmode(l));
        if (ssl && net_secure(&s->net, ssl, false)) {
            server_goto(s, SERVER_TLS);
            return handshake(s, failure, err);
        }
        tls_error(ssl, "TLS setup failed", err);
        return fail(failure, POOL_FAILED_LOGIN);
    }
    if (n == 1 && answer[0] == 'N' && sslmode(l) <= SSLMODE_PREFER) {
        if (send_startup(s))
            return SERVER_LOGIN_MORE;
        err_set(err, "08006", "connection was lost");
        return fail(failure, POOL_FAILED_CONNECT);
    }
    err_set(err, "08001", "server refused TLS, and server_tls_sslmode asks for it");
    return fail(failure, POOL_FAILED_LOGIN);
}

/* ---- passwords
 * ----------------------------------------------------------------------------------- */

/* The secret we have for this user: plain, md5..., SCRAM-SHA-256$...; NULL: none. */
static const char *secret_of(const struct server *s)
{
    const struct server_login *l = s->login;
    if (l->db->password)
        return l->db->password;
    return users_secret(l->config->auth, s->route->user);
}

static bool answer_clear(struct server *s, struct buf *b, struct err *err)
{
    const char *secret = secret_of(s);
    if (!secret || users_kind_of(secret) != USERS_PLAIN)
        return err_set(err, "28P01",
                       "server wants a plain password, and there is none for user \"%s\"",
                       s->route->user);
    return wire_put_password(b, secret);
}

static bool answer_md5(struct server *s, struct view salt, struct buf *b, struct err *err)
{
    const char *secret = secret_of(s);
    char stored[SCRAM_MD5_TEXT_BYTES], answer[SCRAM_MD5_TEXT_BYTES];
    bool known = secret && salt.n == 4;
    if (known && users_kind_of(secret) == USERS_PLAIN) {
        known = scram_md5_secret(secret, s->route->user, stored);
        secret = stored;
    }
    if (!known || users_kind_of(secret) != USERS_MD5 || !scram_md5_answer(secret, salt.at, answer))
        return err_set(err, "28P01",
                       "server wants an md5 password, and there is none for user \"%s\"",
                       s->route->user);
    return wire_put_password(b, answer);
}

static bool answer_sasl(struct server *s, struct view names, struct buf *b, struct err *err)
{
    struct scram_client *scram = &s->login->scram;
    const char *mechanism, *secret = secret_of(s);
    bool offered = false;
    while (wire_mechanism_next(&names, &mechanism))
        offered |= !strcmp(mechanism, SCRAM_MECHANISM);
    route_get_keys(s->route, &scram->keys);
    scram->password = secret && users_kind_of(secret) == USERS_PLAIN ? secret : NULL;
    uint8_t nonce[SCRAM_NONCE_BYTES];
    if (!offered || (!scram->password && !scram->keys.iterations))
        return err_set(err, "28P01", "server wants SCRAM, and there is no password for user \"%s\"",
                       s->route->user);
    if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce ||
        scram_client_first(scram, nonce) != SCRAM_OK)
        return err_set(err, "28000", "SCRAM exchange with the server failed");
    s->login->sasl_begun = true;
    return wire_put_sasl_initial(b, SCRAM_MECHANISM, view_of(scram->message, scram->message_n));
}

static bool answer_authentication(struct server *s, const struct wire_msg *m, struct buf *b,
                                  struct err *err)
{
    struct wire_authentication a;
    struct scram_client *scram = &s->login->scram;
    if (!wire_read_authentication(m, &a))
        return err_set(err, "08P01", "server sent a broken authentication request");
    switch (a.code) {
    case WIRE_AUTH_OK:
        s->login->greeted = true;
        return true;
    case WIRE_AUTH_CLEARTEXT:
        return answer_clear(s, b, err);
    case WIRE_AUTH_MD5:
        return answer_md5(s, a.data, b, err);
    case WIRE_AUTH_SASL:
        return answer_sasl(s, a.data, b, err);
    case WIRE_AUTH_SASL_CONTINUE:
        if (!s->login->sasl_begun || s->login->sasl_proved ||
            scram_client_final(scram, a.data) != SCRAM_OK)
            return err_set(err, "28000", "SCRAM exchange with the server failed");
        s->login->sasl_proved = true;
        return wire_put_sasl_response(b, view_of(scram->message, scram->message_n));
    case WIRE_AUTH_SASL_FINAL:
        if (!s->login->sasl_proved || scram_client_verify(scram, a.data) != SCRAM_OK)
            return err_set(err, "28000",
                           "server does not know our password: it is not who it says");
        route_set_keys(s->route, &scram->keys);
        return true;
    default:
        return err_set(err, "28000",
                       "server wants authentication method %u, which is not supported",
                       (unsigned)a.code);
    }
}

/* ---- messages
 * ------------------------------------------------------------------------------------ */

static enum pool_failure failure_of(const char *sqlstate)
{
    if (!strcmp(sqlstate, "53300"))
        return POOL_FAILED_FULL;
    if (!strncmp(sqlstate, "57P0", 4) || !strncmp(sqlstate, "58", 2))
        return POOL_FAILED_STARTING;
    return POOL_FAILED_LOGIN;
}

static enum server_login_verdict refused(struct server *s, const struct wire_msg *m,
                                         enum pool_failure *failure, struct err *err)
{
    struct wire_error e;
    if (!wire_read_error(m, &e) || !e.sqlstate || strlen(e.sqlstate) != 5) {
        err_set(err, "08P01", "server sent a broken error at login");
        return fail(failure, POOL_FAILED_LOGIN);
    }
    err_set(err, e.sqlstate, "%s", e.message ? e.message : "no reason given");
    log_warning("S-%#llx: %s/%s server login failed: FATAL %s", (unsigned long long)s->id,
                s->route->database, s->route->user, err->text);
    return fail(failure, failure_of(e.sqlstate));
}

static bool note_parameter(struct server *s, const struct wire_msg *m)
{
    struct wire_pair p;
    if (!wire_read_parameter(m, &p))
        return false;
    if (!strcmp(p.name, "in_hot_standby"))
        s->login->role = strcmp(p.value, "on") != 0 ? UPSTREAM_PRIMARY : UPSTREAM_STANDBY;
    if (!strcmp(p.name, "default_transaction_read_only"))
        s->login->read_only = !strcmp(p.value, "on");
    if (vars_tracked(p.name))
        return vars_set(&s->vars, p.name, p.value);
    return wire_put_raw(&s->login->reports, 'S', m->body);
}

/* What clients of the route are greeted with from now on. */
static bool make_welcome(struct server *s)
{
    struct view reports = buf_view(&s->login->reports);
    struct welcome *w = calloc(1, sizeof *w + reports.n);
    if (!w)
        return false;
    w->tracked = vars_ref(s->vars);
    w->bytes_n = (uint32_t)reports.n;
    memcpy(w->bytes, reports.at, reports.n);
    route_set_welcome(s->route, &w);
    return true;
}

/* The operator's own words at the start of each connection. False: there are none, or they were
 * said. */
static bool ask_connect_query(struct server *s)
{
    struct server_login *l = s->login;
    struct buf b = {.max = LOGIN_IN_BYTES_MAX};
    if (l->connect_query_sent || !l->db->connect_query || !*l->db->connect_query)
        return false;
    l->connect_query_sent = true;
    if (wire_put_query(&b, l->db->connect_query) && net_send_buf(&s->net, &b) != NET_ERROR)
        return true;
    buf_free(&b);
    return false;
}

/* ---- scouts
 * ------------------------------------------------------------------------------------------- */

/* Of a standby that has replayed all it received, and receives, the lag is 0 however old the last
 * transaction is. One that receives nothing is as late as what it replayed last. */
static const char scout_question[] =
    "SELECT pg_catalog.pg_is_in_recovery(),"
    " pg_catalog.current_setting('default_transaction_read_only'),"
    " CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN 0"
    " WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()"
    " AND EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver) THEN 0"
    " ELSE greatest(0, 1000000 * extract(epoch FROM pg_catalog.clock_timestamp()"
    " - pg_catalog.pg_last_xact_replay_timestamp()))::bigint END";

static bool ask_as_scout(struct server *s)
{
    struct buf b = {.max = LOGIN_IN_BYTES_MAX};
    s->login->scout_asked = true;
    if (wire_put_query(&b, scout_question) && net_send_buf(&s->net, &b) != NET_ERROR)
        return true;
    buf_free(&b);
    return false;
}

/* The one row of the answer. */
static bool note_findings(struct server *s, const struct wire_msg *m)
{
    struct server_scout *out = s->login->scout;
    struct view row = m->body, field;
    char text[3][24] = {"", "", ""};
    if (!out || view_take_u16(&row) != 3)
        return false;
    for (int i = 0; i < 3; i++) {
        uint32_t n = view_take_u32(&row);
        if (n == UINT32_MAX)
            continue; /* NULL: nothing was replayed yet */
        field = view_take_bytes(&row, n);
        if (row.bad || n >= sizeof text[i])
            return false;
        memcpy(text[i], field.at, n);
    }
    out->role = text[0][0] == 't' ? UPSTREAM_STANDBY : UPSTREAM_PRIMARY;
    out->read_only = !strcmp(text[1], "on");
    out->lag_us = *text[2] ? strtoull(text[2], NULL, 10) : UINT64_MAX;
    return !row.bad;
}

/* The server is ready: what comes next. */
static enum server_login_verdict ready(struct server *s, enum pool_failure *failure,
                                       struct err *err)
{
    struct server_login *l = s->login;
    if (l->scout && l->scout_asked && l->scout->role != UPSTREAM_ROLE_UNKNOWN)
        return SERVER_LOGIN_DONE;
    if (l->scout ? !l->scout_asked && ask_as_scout(s) : ask_connect_query(s))
        return SERVER_LOGIN_MORE;
    if (!l->scout && make_welcome(s))
        return SERVER_LOGIN_DONE;
    err_set(err, "08P01",
            l->scout ? "server does not say whether it is a standby" : "out of memory");
    return fail(failure, POOL_FAILED_LOGIN);
}

static enum server_login_verdict message(struct server *s, const struct wire_msg *m,
                                         enum pool_failure *failure, struct err *err)
{
    struct buf b = {.max = LOGIN_IN_BYTES_MAX};
    struct wire_key key;
    bool good = true;
    switch (m->type) {
    case 'R':
        good = answer_authentication(s, m, &b, err);
        if (good && buf_used(&b) && net_send_buf(&s->net, &b) == NET_ERROR)
            good = err_set(err, "08006", "connection was lost during login");
        buf_free(&b);
        return good ? SERVER_LOGIN_MORE : fail(failure, POOL_FAILED_LOGIN);
    case 'E':
        return refused(s, m, failure, err);
    case 'S':
        good = note_parameter(s, m);
        break;
    case 'K':
        good = wire_read_key(m, &key);
        if (good) {
            s->pid = s->lease.backend_pid = key.pid;
            s->key_bytes = (uint16_t)key.key.n;
            memcpy(s->key, key.key.at, key.key.n);
        }
        break;
    case 'Z':
        good = s->login->greeted && wire_read_ready(m, &s->tx) && s->tx == 'I';
        if (good)
            return ready(s, failure, err);
        break;
    case 'N':
    case 'v':
        break;
    case 'D':
        good = s->login->connect_query_sent || (s->login->scout_asked && note_findings(s, m));
        break;
    case 'T':
    case 'C':
    case 'I':
        good = s->login->connect_query_sent || s->login->scout_asked;
        break;
    default:
        good = false;
    }
    if (good)
        return SERVER_LOGIN_MORE;
    err_set(err, "08P01", "server sent an unexpected message '%c' at login", m->type);
    return fail(failure, POOL_FAILED_LOGIN);
}

static enum server_login_verdict messages(struct server *s, enum pool_failure *failure,
                                          struct err *err)
{
    struct server_login *l = s->login;
    enum server_login_verdict verdict = SERVER_LOGIN_MORE;
    while (verdict == SERVER_LOGIN_MORE && buf_used(&l->in)) {
        struct wire_msg m;
        switch (wire_next(buf_view(&l->in), wire_from_server, LOGIN_IN_BYTES_MAX, &m)) {
        case WIRE_MORE:
            return verdict;
        case WIRE_BAD:
            err_set(err, "08P01", "server does not speak the PostgreSQL protocol");
            return fail(failure, POOL_FAILED_LOGIN);
        case WIRE_OK:
            break;
        }
        if (!wire_is_whole(&m))
            return verdict;
        verdict = message(s, &m, failure, err);
        buf_take(&l->in, WIRE_HEADER_BYTES + m.body_n);
    }
    if (verdict == SERVER_LOGIN_DONE && buf_used(&l->in)) {
        err_set(err, "08P01", "server went on talking after its greeting");
        return fail(failure, POOL_FAILED_LOGIN);
    }
    return verdict;
}

static enum server_login_verdict converse(struct server *s, enum pool_failure *failure,
                                          struct err *err)
{
    struct server_login *l = s->login;
    uint8_t *scratch = s->hub->worker->scratch;
    size_t n;
    switch (net_read(&s->net, scratch, LOGIN_IN_BYTES_MAX / 2, &n)) {
    case NET_AGAIN:
        return SERVER_LOGIN_MORE;
    case NET_OK:
        break;
    case NET_EOF:
    case NET_ERROR:
        err_set(err, "08006", "server %s:%d closed the connection during login", l->host, l->port);
        return fail(failure, POOL_FAILED_CONNECT);
    }
    if (!buf_put(&l->in, scratch, n)) {
        err_set(err, "08P01", "server says too much at login");
        return fail(failure, POOL_FAILED_LOGIN);
    }
    return messages(s, failure, err);
}

enum server_login_verdict server_login_step(struct server *s, short what,
                                            enum pool_failure *failure, struct err *err)
{
    must(s->login);
    if (what & EV_WRITE && s->state == SERVER_LOGIN && net_flush(&s->net) == NET_ERROR) {
        err_set(err, "08006", "connection was lost during login");
        return fail(failure, POOL_FAILED_CONNECT);
    }
    switch (s->state) {
    case SERVER_RESOLVING:
        return connect_next(s, failure, err);
    case SERVER_CONNECTING:
        return s->net.fd < 0 ? connect_next(s, failure, err) : connected(s, failure, err);
    case SERVER_ASKED_TLS:
        return tls_answer(s, failure, err);
    case SERVER_TLS:
        return handshake(s, failure, err);
    case SERVER_LOGIN:
        return what & EV_READ ? converse(s, failure, err) : SERVER_LOGIN_MORE;
    case SERVER_IDLE:
    case SERVER_PREPARING:
    case SERVER_LINKED:
    case SERVER_DRAINING:
    case SERVER_CLEANING:
    case SERVER_DEAD:
        break;
    }
    must(!"a server that has logged in has no login");
    return SERVER_LOGIN_FAILED;
}

void server_login_bound(struct server *s)
{
    must(s->login && s->state == SERVER_RESOLVING);
    s->login->bounded = true;
}

struct server *server_login_open(struct hub *h, struct route *r, net_callback on_event)
{
    return server_login_scout(h, r, NULL, on_event);
}

struct server *server_login_scout(struct hub *h, struct route *r, struct server_scout *scout,
                                  net_callback on_event)
{
    const struct config_database *db = route_database(r, h);
    const struct upstream *u = scout ? scout->upstream : pool_upstream(r->pool);
    bool steered = db && config_is_steered(h->config, db);
    int host_i = steered ? route_host_i(h->config, db, u) : TARGET_NONE;
    if (steered && host_i == TARGET_NONE)
        return NULL; /* its line has left this host: what another one says must not be its word */
    struct server_login *l = db ? calloc(1, sizeof *l) : NULL;
    struct server *s = l ? server_new(h, r) : NULL;
    if (!s) {
        free(l);
        return NULL;
    }
    l->config = config_ref(h->config);
    l->db = db;
    l->on_event = on_event;
    l->scout = scout;
    l->host_i = host_i;
    l->in.max = l->reports.max = LOGIN_IN_BYTES_MAX;
    l->deadline_us = hub_now(h) + h->config->globals.server_connect_timeout_us;
    err_set(&l->last, "08001", "no address of the server could be found");
    s->login = l;
    return s;
}

bool server_login_late(const struct server *s, uint64_t now_us)
{
    return s->login && !s->login->scout && now_us > s->login->deadline_us &&
           s->login->config->globals.server_connect_timeout_us;
}

enum upstream_role server_login_role(const struct server *s, bool *read_only)
{
    *read_only = s->login->read_only;
    return s->login->role;
}

void server_login_end(struct server *s)
{
    struct server_login *l = s->login;
    if (!l)
        return;
    if (l->ask)
        dns_ask_drop(&l->ask);
    buf_free(&l->in);
    buf_free(&l->reports);
    config_unref(&l->config);
    OPENSSL_cleanse(&l->scram, sizeof l->scram);
    free(l);
    s->login = NULL;
}
