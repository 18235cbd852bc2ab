/* The error breaker of one upstream: is it there at all?
 *
 *                 >= 3 and half of the sessions died          probe ok
 *        CLOSED ───────────────────────────────────> SUSPECT ─────────> CLOSED
 *          │  connects fail, and no sign of life         │ probe failed
 *          └──────────────> OPEN <───────────────────────┘
 *                  due  │    ^ probe failed, late
 *                       v    │            login + SELECT 1 ok
 *                    HALF_OPEN ──────────────────────────────> RAMP ──> CLOSED
 *                                                   2, 4, 8, 16 connects at once
 *
 * Saturated is not dead. Only what shows that nobody answers counts: ERROR_BREAKER_EVENTS is the
 * one list of what does. A server that refuses a password, a database or one connection too many
 * has answered, and is alive; statement errors, timeouts in our queue, statement timeouts and what
 * clients do to themselves never count at all.
 *
 * While OPEN sessions that work are left alone; the probe is a connection of our own, never a
 * client's. Clients wait for `grace`, then are refused at once: error_breaker_refuses().
 */
#ifndef BREAKER_ERROR_BREAKER_H
#define BREAKER_ERROR_BREAKER_H

#include "breaker/base.h"

/* event, what it says of the upstream, in words */
#define ERROR_BREAKER_EVENTS(X)                                                                    \
    X(READY, ALIVE, "ReadyForQuery")                                                               \
    X(LOGIN_OK, LOGIN, "login ok")                                                                 \
    X(CONNECT_REFUSED, DEAD, "connection refused")                                                 \
    X(CONNECT_TIMEOUT, DEAD, "connect timed out")                                                  \
    X(UNREACHABLE, DEAD, "host or network unreachable")                                            \
    X(DNS_FAILED, DEAD, "name not resolved")                                                       \
    X(TLS_FAILED, DEAD, "TLS handshake failed")                                                    \
    X(STARTUP_EOF, DEAD, "closed during startup")                                                  \
    X(STARTING_UP, DEAD, "57P01, 57P02, 57P03 or 58xxx at login")                                  \
    X(SESSION_DIED, DIED, "a session ended without being asked to")                                \
    X(SERVER_FULL, ANSWERED, "53300 at login: full, not dead")                                     \
    X(LOGIN_REFUSED, ANSWERED, "28xxx, 3D000 or 42501 at login: this user or database only")       \
    X(STATEMENT_ERROR, NOTHING, "an error of a statement")                                         \
    X(STATEMENT_TIMEOUT, NOTHING, "statement, lock or idle timeout")                               \
    X(QUEUE_TIMEOUT, NOTHING, "waited too long in our own queue")                                  \
    X(SHED, NOTHING, "refused by ourselves")                                                       \
    X(CLIENT_GONE, NOTHING, "a client left, cancelled or was too slow")
enum error_breaker_event {
#define X(event, says, text) ERROR_BREAKER_##event,
    ERROR_BREAKER_EVENTS(X)
#undef X
};

/* state, name, what may follow */
#define ERROR_BREAKER_STATES(X)                                                                    \
    X(CLOSED, "closed", BIT(ERROR_BREAKER_SUSPECT) | BIT(ERROR_BREAKER_OPEN))                      \
    X(SUSPECT, "suspect", BIT(ERROR_BREAKER_CLOSED) | BIT(ERROR_BREAKER_OPEN))                     \
    X(OPEN, "open", BIT(ERROR_BREAKER_HALF_OPEN))                                                  \
    X(HALF_OPEN, "half_open", BIT(ERROR_BREAKER_OPEN) | BIT(ERROR_BREAKER_RAMP))                   \
    X(RAMP, "ramp", BIT(ERROR_BREAKER_OPEN) | BIT(ERROR_BREAKER_CLOSED))
enum error_breaker_state {
#define X(state, name, next) ERROR_BREAKER_##state,
    ERROR_BREAKER_STATES(X)
#undef X
};

struct error_breaker_opts {
    uint64_t alive_us;                   /* a sign of life so recent: not down */
    uint32_t consecutive_n;              /* failed connects in a row that open it */
    uint64_t apart_us;                   /* ... counted only when so far apart */
    uint64_t window_us;                  /* for the share of failures */
    uint32_t window_n_min;               /* failures in it */
    double window_share;                 /* of failures among all attempts */
    uint32_t died_n;                     /* sessions lost ... */
    double died_share;                   /* ... and this share of all ... */
    uint64_t died_us;                    /* ... within so long: suspect */
    uint64_t probe_us_min, probe_us_max; /* delay doubles from the one to the other */
    uint64_t probe_timeout_us;
    uint32_t ramp_n_min, ramp_n_max; /* connects at once */
    uint32_t ramp_logins_n;          /* logins that close it ... */
    uint64_t ramp_clean_us;          /* ... without a failure for so long */
    uint64_t ramp_us_max;    /* or this long without a failure: a small pool logs in rarely */
    uint64_t bulk_settle_us; /* sheddable classes wait so long into the ramp */
    uint64_t grace_us;       /* clients wait so long before they are refused */
};
void error_breaker_opts_defaults(struct error_breaker_opts *opts);
MUST_USE bool error_breaker_opts_check(const struct error_breaker_opts *opts, struct err *err);

enum {
    ERROR_BREAKER_SLICES = 10,
    ERROR_BREAKER_DEATHS_MAX = 256, /* remembered within died_us; more than enough for a verdict */
};

struct error_breaker {
    struct error_breaker_opts opts;
    enum error_breaker_state state;
    uint64_t since_us;      /* of the state */
    uint64_t down_since_us; /* 0: not down; survives OPEN <-> HALF_OPEN */
    uint64_t alive_us;      /* last sign of life; 0: none ever */
    uint32_t failed_in_row_n;
    uint64_t last_failed_us;
    struct {
        uint64_t id; /* now / slice; 0: empty */
        uint32_t failed_n, ok_n;
    } slices[ERROR_BREAKER_SLICES];
    uint64_t deaths_us[ERROR_BREAKER_DEATHS_MAX]; /* ring */
    uint32_t deaths_n;                            /* free-running */
    bool probing;
    uint64_t probe_at_us; /* when due; while probing, when it started */
    uint64_t probed_us;   /* start of the last one; 0: none so far */
    uint32_t probe_failed_n;
    uint32_t ramp_n; /* connects at once in RAMP */
    uint32_t ramp_batch_ok_n, ramp_ok_n;
    uint64_t ramp_failed_us; /* last failure in RAMP, or its start */
    uint64_t ramped_us;      /* start of the last ramp; 0: never down so far */
    uint64_t random;
    uint64_t opened_n, probes_n; /* totals */
    enum error_breaker_event last_failure;
    char why[96]; /* of the last transition */
};

void error_breaker_init(struct error_breaker *eb, const struct error_breaker_opts *opts,
                        uint64_t seed, uint64_t now_us);
/* Something happened. sessions_n: server sessions open just before (used for SESSION_DIED). Only
 * READY is frequent, and it is an assignment; report it once per release, not per message. */
void error_breaker_report(struct error_breaker *eb, enum error_breaker_event event,
                          uint32_t sessions_n, uint64_t now_us);
/* Once a tick: makes time-driven moves. True: start one probe now (login and SELECT 1 on a
 * connection of our own), then tell its outcome. */
MUST_USE bool error_breaker_tick(struct error_breaker *eb, uint64_t now_us);
/* ok: it answered. A refused password, an unknown database and a full server are answers; a
 * starting server (57P03) is not. */
void error_breaker_probe_done(struct error_breaker *eb, bool ok, uint64_t now_us);
/* It could not be tried yet, as there is no place to try it from: its time begins now. */
void error_breaker_probe_waits(struct error_breaker *eb, uint64_t now_us);

/* Server connects that may be in progress at once; 0 while down. UINT32_MAX: no limit of ours. */
uint32_t error_breaker_connects_max(const struct error_breaker *eb);
/* Whether statements of a class go to it at all: protected ones first after an outage. */
bool error_breaker_passes(const struct error_breaker *eb, bool protected_class, uint64_t now_us);
/* Down for longer than the grace, and no session works either: refuse at once. */
bool error_breaker_refuses(const struct error_breaker *eb, uint64_t now_us);
const char *error_breaker_state_name(enum error_breaker_state state);
const char *error_breaker_event_text(enum error_breaker_event event);

#endif
