/* What the files of the probe share: probe.c (when), probe_login.c (how to get in), probe_ask.c
 * (what to ask). */
#ifndef PROXY_PROBE_STATE_H
#define PROXY_PROBE_STATE_H

#include "config/table.h" /* before all that includes uthash */

#include <event2/event_struct.h>
#include <libpq-fe.h>

#include "proxy/dns.h"
#include "proxy/probe.h"

enum {
    PROBE_TEXT_BYTES = 256,
    PROBE_NAME_BYTES = 128,
    PROBE_REFUSED_MAX = 16,          /* logins remembered as refused */
    PROBE_CONNECT_US = 3 * US_PER_S, /* until a connect must be accepted */
    PROBE_SLOW_US = 300 * US_PER_MS, /* an answer that takes so long is worth telling */
    PROBE_HANGS_US = 5 * US_PER_S,   /* until a question must be answered ... */
    PROBE_LOGIN_US = 15 * US_PER_S,  /* ... and a login */
    PROBE_RETRY_US_MIN = 100 * US_PER_MS,
    PROBE_RETRY_US_MAX = 5 * US_PER_S,
    PROBE_REFUSED_US = 300 * US_PER_S, /* a refused login is not tried again before */
    PROBE_UNASKED_US = 60 * US_PER_S,  /* kept so long after the last client; a question the server
                                        * does not understand is not repeated before */
};

#define PROBE_STATES(X)                                                                            \
    X(OFF, "off", BIT(PROBE_WAITS))                                                                \
    X(WAITS, "waits", BIT(PROBE_RESOLVES) | BIT(PROBE_LOGS_IN) | BIT(PROBE_OFF))                   \
    X(RESOLVES, "resolves", BIT(PROBE_LOGS_IN) | BIT(PROBE_WAITS) | BIT(PROBE_OFF))                \
    X(LOGS_IN, "logs_in", BIT(PROBE_ASKS) | BIT(PROBE_WAITS) | BIT(PROBE_OFF))                     \
    X(ASKS, "asks", BIT(PROBE_IDLES) | BIT(PROBE_ASKS) | BIT(PROBE_WAITS) | BIT(PROBE_OFF))        \
    X(IDLES, "idles", BIT(PROBE_ASKS) | BIT(PROBE_WAITS) | BIT(PROBE_OFF))
enum probe_state {
#define X(state, name, next) PROBE_##state,
    PROBE_STATES(X)
#undef X
};

enum probe_question {
    PROBE_ASK_LIMITS, /* right after the login: what does not change */
    PROBE_ASK_FACTS,
    PROBE_ASK_BLOCKS,
    PROBE_ASK_QUERY, /* probe_query */
    PROBE_QUESTIONS_N,
};

/* One way to log in. Strings of the configuration, or of routes: good for one turn of the loop. */
struct probe_login {
    const char *user, *password, *database; /* password NULL: none is known */
    bool borrowed;                          /* a pool's, not probe_user's */
};

struct probe {
    struct probes *all;
    struct upstream *upstream; /* key */
    UT_hash_handle hh;
    enum probe_state state;
    uint64_t state_us;  /* since */
    uint64_t due_us;    /* WAITS: the next attempt */
    uint64_t wanted_us; /* last time there was somebody to look for */
    uint64_t random;
    /* logging in */
    struct dns_ask *ask;
    char host[DNS_HOST_MAX + 1];
    uint32_t attempts_n; /* in a row that failed; the next one begins with another host, address */
    bool fresh;          /* the error breaker has asked for a login since this one began */
    char user[PROBE_NAME_BYTES], database[PROBE_NAME_BYTES];
    uint64_t login_hash, user_hash; /* of the login being tried; of its user and password alone */
    bool borrowed;
    uint64_t refused[PROBE_REFUSED_MAX]; /* hashes of logins */
    uint32_t refused_n;
    uint64_t refused_us;
    /* connection */
    PGconn *conn;
    struct event io; /* one-shot; not pending while libpq is at work */
    bool io_made, accepted;
    enum probe_question asking;
    bool answered_well;
    uint64_t asked_us, hanging_us; /* hanging: since when, over connections; 0: not */
    uint64_t due_at_us[PROBE_QUESTIONS_N];
    uint64_t protected_n, organic_us; /* clients' own observations, when that was looked at */
    bool organic_few;
    struct upstream_facts facts;
    /* said */
    bool able;        /* has logged in with this configuration */
    bool said_failed; /* once is enough until it works again */
    bool said_stalled, said_piled_up;
    uint64_t piled_up_us; /* since; 0: it is not */
    uint32_t inversions_said;
    char error[PROBE_TEXT_BYTES];
    uint64_t asked_n, failed_n;
};

struct probes {
    struct hub *hub;
    struct probe *probes; /* uthash by upstream */
    uint32_t config_version;
    uint64_t spread_us; /* last time databases of several hosts were looked at */
    bool stopped;
};

/* ---- probe.c ---- */
void probe_goto(struct probe *p, enum probe_state state);
/* Ends the connection, if any, and tries again later. */
void probe_retry(struct probe *p, uint64_t delay_us);
void probe_off(struct probe *p, const char *why);
void probe_note_error(struct probe *p, const char *text);
/* Has the loop wait for the connection's socket. */
void probe_watch(struct probe *p, short what);
void probe_unwatch(struct probe *p);

/* ---- probe_login.c ---- */
void probe_login_begin(struct probe *p);
void probe_login_step(struct probe *p);
void probe_login_late(struct probe *p, uint64_t now_us);

/* ---- probe_ask.c ---- */
/* Sends what is due; nothing, if nothing is. */
void probe_ask_next(struct probe *p, const struct upstream_probe_view *view, uint64_t now_us);
void probe_ask(struct probe *p, enum probe_question question);
void probe_ask_step(struct probe *p);

#endif
