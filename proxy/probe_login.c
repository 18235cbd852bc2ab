/* How the probe gets in: candidates, names into addresses, libpq's steps, and what a failure says.
 *
 * libpq gives no SQLSTATE of a failed login but in the text, so the text is asked to be verbose:
 * "FATAL:  28P01: password authentication failed ...". */
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/users.h"
#include "pool/hash.h"
#include "pool/pool.h"
#include "proxy/log.h"
#include "proxy/probe_state.h"
#include "proxy/route.h"

enum { LOGINS_MAX = 16, HOSTS_MAX = 16, LIST_BYTES = DNS_ADDRS_MAX * (DNS_HOST_MAX + 1) };

#define NO_FILE                                                                                    \
    "/dev/null/none" /* where there is no file, and never will be: libpq looks nowhere else */

/* ---- as whom --------------------------------------------------------------------------------- */

struct logins {
    struct probe *probe;
    const struct config *config;
    struct probe_login at[LOGINS_MAX];
    size_t n;
};

static uint64_t mix(uint64_t hash, const char *text)
{
    for (; text && *text; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    return (hash ^ (text ? 1 : 2)) * 1099511628211u;
}

/* The same whatever the database: a wrong password is wrong everywhere. */
static uint64_t hash_of_user(const struct probe_login *l)
{
    return mix(mix(14695981039346656037u, l->user), l->password);
}

static uint64_t hash_of(const struct probe_login *l)
{
    return mix(hash_of_user(l), l->database);
}

static bool is_refused(const struct probe *p, uint64_t hash)
{
    for (uint32_t i = 0; i < p->refused_n; i++)
        if (p->refused[i] == hash)
            return true;
    return false;
}

static const char *plain_secret(const struct config *cfg, const char *user)
{
    const char *secret = users_secret(cfg->auth, user);
    return secret && users_kind_of(secret) == USERS_PLAIN ? secret : NULL;
}

static void add(struct logins *l, const struct probe_login *login)
{
    for (size_t i = 0; i < l->n; i++)
        if (hash_of(&l->at[i]) == hash_of(login))
            return;
    if (l->n < LOGINS_MAX && login->user && *login->user)
        l->at[l->n++] = *login;
}

/* The database everybody may use and nobody drops, rather than one of theirs. */
static void add_with_databases(struct logins *l, const char *user, const char *password,
                               const char *database)
{
    const struct config_globals *g = &l->config->globals;
    struct probe_login login = {.user = user,
                                .password = password,
                                .database = *g->probe_dbname ? g->probe_dbname : "postgres",
                                .borrowed = !*g->probe_user};
    add(l, &login);
    login.database = database;
    if (!*g->probe_dbname && database)
        add(l, &login);
}

static bool is_for(const struct logins *l, struct pool *p, const struct config_database *db)
{
    return pool_upstream(p) == l->probe->upstream ||
           (config_is_steered(l->config, db) &&
            route_host_i(l->config, db, l->probe->upstream) != TARGET_NONE);
}

static bool add_pool(struct pool *p, void *arg)
{
    struct logins *l = arg;
    struct route *r = pool_owner(p);
    const struct config_database *db = r ? config_database(l->config, r->database) : NULL;
    const struct config_globals *g = &l->config->globals;
    if (!db || r->replication != POOL_REPLICATION_NO || !is_for(l, p, db))
        return true;
    const char *database = db->dbname ? db->dbname : r->database;
    const char *password = db->password ? db->password : plain_secret(l->config, r->user);
    if (*g->probe_user)
        add_with_databases(l, g->probe_user,
                           *g->probe_password ? g->probe_password
                                              : plain_secret(l->config, g->probe_user),
                           database);
    else if (!db->password || users_kind_of(db->password) == USERS_PLAIN)
        add_with_databases(l, r->user, password, database);
    return l->n < LOGINS_MAX;
}

/* The first that was not refused; those with a password before those without. */
static const struct probe_login *choose(struct probe *p, struct logins *l)
{
    const struct probe_login *without = NULL;
    l->probe = p;
    l->config = p->all->hub->config;
    l->n = 0;
    registry_each_pool(p->all->hub->proxy->registry, add_pool, l);
    if (us_since(p->refused_us, clock_us()) > PROBE_REFUSED_US)
        p->refused_n = 0;
    if (p->refused_n == PROBE_REFUSED_MAX)
        return NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (is_refused(p, hash_of(&l->at[i])) || is_refused(p, hash_of_user(&l->at[i])))
            continue;
        if (l->at[i].password)
            return &l->at[i];
        if (!without)
            without = &l->at[i];
    }
    return without;
}

/* ---- failures -------------------------------------------------------------------------------- */

/* Of libpq's text: its first line, and the SQLSTATE where there is one. */
static void read_error(const char *said, char text[PROBE_TEXT_BYTES], char sqlstate[6])
{
    size_t n = strcspn(said, "\n");
    snprintf(text, PROBE_TEXT_BYTES, "%.*s", (int)n, said);
    sqlstate[0] = '\0';
    for (const char *at = strstr(text, ":  "); at; at = strstr(at + 1, ":  ")) {
        size_t code_n = 0;
        while (code_n < 5 &&
               (isdigit((unsigned char)at[3 + code_n]) || isupper((unsigned char)at[3 + code_n])))
            code_n++;
        if (code_n == 5 && at[8] == ':') {
            memcpy(sqlstate, at + 3, 5);
            sqlstate[5] = '\0';
            return;
        }
    }
}

static void answers(struct probe *p)
{
    p->hanging_us = 0;
    upstream_tell_hanging(p->upstream, 0, false);
}

/* Somebody is there, and does not let this user in: the next one, then none for long. */
static void refused(struct probe *p, const char *text, bool everywhere)
{
    struct logins l;
    answers(p);
    upstream_probe_done(p->upstream, true, clock_us());
    p->refused_us = clock_us();
    if (p->refused_n < PROBE_REFUSED_MAX)
        p->refused[p->refused_n++] = everywhere ? p->user_hash : p->login_hash;
    bool more = choose(p, &l);
    if (more) {
        log_debug("probe upstream=%s:%u user=%s database=%s was refused: %s",
                  upstream_host(p->upstream), upstream_port(p->upstream), p->user, p->database,
                  text);
        probe_retry(p, PROBE_RETRY_US_MIN);
        return;
    }
    p->able = false;
    upstream_tell_prober(p->upstream, false);
    probe_note_error(p, text);
    probe_retry(p, US_PER_S); /* pools of other users may come; these ones are remembered */
}

static void gone(struct probe *p)
{
    if (p->facts.role == UPSTREAM_GONE)
        return;
    if (p->facts.role != UPSTREAM_ROLE_UNKNOWN)
        log_warning("upstream=%s:%u role from=%s to=gone", upstream_host(p->upstream),
                    upstream_port(p->upstream), upstream_role_name(p->facts.role));
    p->facts.role = UPSTREAM_GONE;
    p->facts.told_us = clock_us();
    upstream_tell_facts(p->upstream, &p->facts);
}

static void failed(struct probe *p, const char *text)
{
    uint64_t delay_us = PROBE_RETRY_US_MIN;
    for (uint32_t i = 0; i < p->attempts_n && delay_us < PROBE_RETRY_US_MAX; i++)
        delay_us *= 2;
    p->attempts_n++;
    probe_note_error(p, text);
    probe_retry(p, delay_us < PROBE_RETRY_US_MAX ? delay_us : PROBE_RETRY_US_MAX);
}

/* Nobody is there, or nobody who can serve. */
static void dead(struct probe *p, const char *text)
{
    answers(p);
    gone(p);
    upstream_probe_done(p->upstream, false, clock_us());
    failed(p, text);
}

/* Our own trouble, or one nobody can tell from it: it says nothing of the server. */
static void unable(struct probe *p, const char *text)
{
    answers(p);
    p->able = false;
    upstream_tell_prober(p->upstream, false);
    failed(p, text);
}

static bool has_one_host(const struct probe *p)
{
    return !strchr(upstream_host(p->upstream), ',');
}

enum where { AT_CONNECT, AT_TLS, AT_LOGIN };

static void login_failed(struct probe *p, enum where where)
{
    char text[PROBE_TEXT_BYTES], sqlstate[6];
    read_error(PQerrorMessage(p->conn), text, sqlstate);
    if (!strncmp(sqlstate, "57P0", 4) || !strncmp(sqlstate, "58", 2)) {
        dead(p, text);
    } else if (!strcmp(sqlstate, "53300")) { /* it is full, so it is alive */
        answers(p);
        upstream_probe_done(p->upstream, true, clock_us());
        failed(p, text);
    } else if (*sqlstate || PQconnectionNeedsPassword(p->conn)) {
        refused(p, text, !strcmp(sqlstate, "28P01") || !*sqlstate);
    } else if (where == AT_CONNECT) {
        if (has_one_host(p))
            upstream_tell_unreachable(p->upstream, clock_us());
        dead(p, text);
    } else if (where == AT_TLS) {
        unable(p, text);
    } else {
        dead(p, text);
    }
}

/* ---- libpq ----------------------------------------------------------------------------------- */

static const char *sslmode_of(const struct config_globals *g)
{
    static const char *const names[] = {
        [SSLMODE_DISABLE] = "disable",     [SSLMODE_ALLOW] = "allow",
        [SSLMODE_PREFER] = "prefer",       [SSLMODE_REQUIRE] = "require",
        [SSLMODE_VERIFY_CA] = "verify-ca", [SSLMODE_VERIFY_FULL] = "verify-full",
    };
    must((size_t)g->server_tls_sslmode < COUNT_OF(names));
    return names[g->server_tls_sslmode];
}

static const char *file_or_none(const char *file)
{
    return *file ? file : NO_FILE;
}

static void ignore_notice(void *arg, const char *text)
{
    (void)arg, (void)text;
}

/* host and hostaddr are lists of the same length, in libpq's way; hostaddr NULL: Unix socket. */
static void start(struct probe *p, const struct probe_login *login, const char *host,
                  const char *hostaddr)
{
    const struct config_globals *g = &p->all->hub->config->globals;
    bool verifies = g->server_tls_sslmode >= SSLMODE_VERIFY_CA;
    char port[8];
    snprintf(port, sizeof port, "%u", upstream_port(p->upstream));
    const char *const keys[] = {"host",       "hostaddr",
                                "port",       "user",
                                "password",   "dbname",
                                "passfile",   "application_name",
                                "sslmode",    "sslrootcert",
                                "sslcert",    "sslkey",
                                "gssencmode", "target_session_attrs",
                                "keepalives", "fallback_application_name",
                                NULL};
    const char *const values[] = {host,
                                  hostaddr,
                                  port,
                                  login->user,
                                  login->password,
                                  login->database,
                                  NO_FILE,
                                  "pgweir probe",
                                  sslmode_of(g),
                                  verifies ? file_or_none(g->server_tls_ca_file) : NO_FILE,
                                  file_or_none(g->server_tls_cert_file),
                                  file_or_none(g->server_tls_key_file),
                                  "disable", /* Kerberos would wait for its servers */
                                  "any",
                                  "1",
                                  "pgweir probe",
                                  NULL};
    _Static_assert(COUNT_OF(keys) == COUNT_OF(values), "each key has its value");
    p->conn = PQconnectStartParams(keys, values, 0);
    probe_goto(p, PROBE_LOGS_IN);
    if (!p->conn) {
        unable(p, "out of memory");
        return;
    }
    PQsetErrorVerbosity(p->conn, PQERRORS_VERBOSE);
    PQsetNoticeProcessor(p->conn, ignore_notice, NULL);
    if (PQstatus(p->conn) == CONNECTION_BAD) /* a Unix socket, or something it was told */
        login_failed(p, hostaddr ? AT_TLS : AT_CONNECT);
    else
        probe_watch(p, EV_WRITE);
}

void probe_login_step(struct probe *p)
{
    ConnStatusType before = PQstatus(p->conn);
    probe_unwatch(p);
    PostgresPollingStatusType poll = PQconnectPoll(p->conn);
    ConnStatusType now = PQstatus(p->conn);
    if (before != CONNECTION_STARTED || (now != CONNECTION_STARTED && now != CONNECTION_BAD))
        p->accepted = true;
    switch (poll) {
    case PGRES_POLLING_READING:
        probe_watch(p, EV_READ);
        return;
    case PGRES_POLLING_WRITING:
        probe_watch(p, EV_WRITE);
        return;
    case PGRES_POLLING_OK:
        break;
    case PGRES_POLLING_FAILED:
    default:
        login_failed(p, !p->accepted                       ? AT_CONNECT
                        : before == CONNECTION_SSL_STARTUP ? AT_TLS
                                                           : AT_LOGIN);
        return;
    }
    if (PQsetnonblocking(p->conn, 1) != 0) {
        unable(p, PQerrorMessage(p->conn));
        return;
    }
    answers(p);
    probe_ask(p, PROBE_ASK_LIMITS);
}

void probe_login_late(struct probe *p, uint64_t now_us)
{
    uint64_t taken_us = us_since(p->state_us, now_us);
    if (p->state == PROBE_RESOLVES) {
        if (taken_us > PROBE_HANGS_US)
            failed(p, "the name of the server is not resolved");
    } else if (!p->accepted) {
        if (taken_us > PROBE_CONNECT_US)
            dead(p, "connect timed out");
    } else if (taken_us > PROBE_LOGIN_US) {
        probe_note_error(p, "the server accepts and does not answer");
        probe_retry(p, PROBE_RETRY_US_MAX);
    } else if (taken_us > US_PER_S || p->hanging_us) {
        p->hanging_us = p->hanging_us ? p->hanging_us : p->state_us;
        upstream_tell_hanging(p->upstream, p->hanging_us, true);
    }
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void login(struct probe *p, const char *host, const char *hostaddr)
{
    struct logins l;
    const struct probe_login *found = choose(p, &l);
    if (!found) {
        probe_off(p, "no user to log in as: set probe_user");
        return;
    }
    p->login_hash = hash_of(found);
    p->user_hash = hash_of_user(found);
    p->borrowed = found->borrowed;
    snprintf(p->user, sizeof p->user, "%s", found->user);
    snprintf(p->database, sizeof p->database, "%s", found->database);
    start(p, found, host, hostaddr);
}

/* All addresses of the name, each attempt beginning with another one. */
static void connect_to(struct probe *p, const struct dns_ask *ask)
{
    char hosts[LIST_BYTES] = "", addrs[LIST_BYTES] = "";
    size_t hosts_n = 0, addrs_n = 0;
    if (ask->addrs_n == 0) {
        failed(p, ask->err.text);
        return;
    }
    for (uint32_t i = 0; i < ask->addrs_n; i++) {
        const struct dns_addr *a = &ask->addrs[(i + p->attempts_n) % ask->addrs_n];
        char text[NI_MAXHOST];
        if (getnameinfo((const struct sockaddr *)&a->sa, a->sa_bytes, text, sizeof text, NULL, 0,
                        NI_NUMERICHOST) != 0)
            continue;
        const char *comma = addrs_n > 0 ? "," : "";
        addrs_n += (size_t)snprintf(addrs + addrs_n, sizeof addrs - addrs_n, "%s%s", comma, text);
        hosts_n +=
            (size_t)snprintf(hosts + hosts_n, sizeof hosts - hosts_n, "%s%s", comma, p->host);
        must(addrs_n < sizeof addrs && hosts_n < sizeof hosts);
    }
    login(p, hosts, addrs);
}

static void resolved(struct worker *w, struct dns_ask *ask)
{
    struct probe *p = ask->owner;
    struct dns_ask answer = *ask;
    (void)w;
    must(p->state == PROBE_RESOLVES);
    dns_ask_drop(&p->ask);
    connect_to(p, &answer);
}

/* The hosts of an upstream take turns, where it is a list. */
static void pick_host(struct probe *p)
{
    const char *list = upstream_host(p->upstream);
    uint32_t n = 1;
    for (const char *at = list; (at = strchr(at, ',')); at++)
        n++;
    for (uint32_t i = p->attempts_n % n; i > 0; i--)
        list = strchr(list, ',') + 1;
    list += strspn(list, " ");
    snprintf(p->host, sizeof p->host, "%.*s", (int)strcspn(list, ", "), list);
}

void probe_login_begin(struct probe *p)
{
    const struct hub *h = p->all->hub;
    struct logins l;
    if (!choose(p, &l)) { /* refused ones are forgotten in time */
        const char *why = p->refused_n ? p->error : "no user to log in as: set probe_user";
        if (!p->refused_n)
            snprintf(p->error, sizeof p->error, "%s", why);
        p->due_us = clock_us() + US_PER_S;
        return;
    }
    pick_host(p);
    if (p->host[0] == '/' || p->host[0] == '@') {
        login(p, p->host, NULL);
        return;
    }
    p->ask = dns_ask_new(p->host, upstream_port(p->upstream));
    if (!p->ask) {
        failed(p, "out of memory");
        return;
    }
    p->ask->done = resolved;
    p->ask->owner = p;
    probe_goto(p, PROBE_RESOLVES);
    if (dns_resolve(h->proxy->dns, h->worker, p->ask) == DNS_LATER)
        return;
    struct dns_ask answer = *p->ask;
    dns_ask_drop(&p->ask);
    connect_to(p, &answer);
}
