#include "breaker/error_breaker.h"

#include <stdio.h>
#include <string.h>

enum { HURRY_SHARE = 4 }; /* of the longest delay: least time between two probes */

enum says { NOTHING, ALIVE, LOGIN, ANSWERED, DEAD, DIED };

static const struct {
    enum says says;
    const char *text;
} events[] = {
#define X(event, says, text) [ERROR_BREAKER_##event] = {says, text},
    ERROR_BREAKER_EVENTS(X)
#undef X
};

static const struct {
    const char *name;
    uint32_t next;
} states[] = {
#define X(state, name, next) [ERROR_BREAKER_##state] = {name, next},
    ERROR_BREAKER_STATES(X)
#undef X
};

void error_breaker_opts_defaults(struct error_breaker_opts *opts)
{
    *opts = (struct error_breaker_opts){
        .alive_us = US_PER_S,
        .consecutive_n = 5,
        .apart_us = 50ull * US_PER_MS,
        .window_us = 5ull * US_PER_S,
        .window_n_min = 10,
        .window_share = 0.5,
        .died_n = 3,
        .died_share = 0.5,
        .died_us = 500ull * US_PER_MS,
        .probe_us_min = 100ull * US_PER_MS,
        /* One connection a second disturbs nobody, and a longer wait is an outage we make: 90 % of
         * the users shall be served within 2 s of the database's return. */
        .probe_us_max = US_PER_S,
        .probe_timeout_us = 3ull * US_PER_S,
        .ramp_n_min = 2,
        .ramp_n_max = 16,
        .ramp_logins_n = 20,
        .ramp_clean_us = 2ull * US_PER_S,
        .ramp_us_max = 30ull * US_PER_S,
        .bulk_settle_us = 10ull * US_PER_S,
        .grace_us = 8ull * US_PER_S,
    };
}

bool error_breaker_opts_check(const struct error_breaker_opts *o, struct err *err)
{
    if (o->consecutive_n == 0 || o->window_n_min == 0 || o->died_n == 0)
        return err_set(err, "22023", "the error breaker needs at least one failure to open");
    if (o->died_n > ERROR_BREAKER_DEATHS_MAX)
        return err_set(err, "22023", "at most %d lost sessions are remembered",
                       ERROR_BREAKER_DEATHS_MAX);
    if (!(o->window_share > 0 && o->window_share <= 1 && o->died_share > 0 && o->died_share <= 1))
        return err_set(err, "22023", "shares are above 0 and at most 1");
    if (o->window_us < ERROR_BREAKER_SLICES)
        return err_set(err, "22023", "the window of failures is too short");
    if (o->probe_us_min == 0 || o->probe_us_min > o->probe_us_max || o->probe_timeout_us == 0)
        return err_set(err, "22023", "probe delays must rise from above 0");
    if (o->ramp_n_min == 0 || o->ramp_n_min > o->ramp_n_max)
        return err_set(err, "22023", "the ramp must rise from at least one connect");
    return true;
}

void error_breaker_init(struct error_breaker *eb, const struct error_breaker_opts *opts,
                        uint64_t seed, uint64_t now_us)
{
    must(error_breaker_opts_check(opts, NULL));
    memset(eb, 0, sizeof *eb);
    eb->opts = *opts;
    eb->since_us = now_us;
    eb->random = seed;
}

const char *error_breaker_state_name(enum error_breaker_state state)
{
    must(state < COUNT_OF(states));
    return states[state].name;
}

const char *error_breaker_event_text(enum error_breaker_event event)
{
    must(event < COUNT_OF(events));
    return events[event].text;
}

/* ---- what happened lately -------------------------------------------------------------------- */

/* The slice of now; one left over from an earlier round is emptied first. */
static uint64_t slice_id(const struct error_breaker *eb, uint64_t now_us)
{
    return now_us / (eb->opts.window_us / ERROR_BREAKER_SLICES) + 1; /* 0 is "empty" */
}

static void count(struct error_breaker *eb, uint32_t failed_n, uint32_t ok_n, uint64_t now_us)
{
    uint64_t id = slice_id(eb, now_us);
    uint32_t i = id % ERROR_BREAKER_SLICES;
    if (eb->slices[i].id != id) {
        eb->slices[i].id = id;
        eb->slices[i].failed_n = 0;
        eb->slices[i].ok_n = 0;
    }
    eb->slices[i].failed_n += failed_n;
    eb->slices[i].ok_n += ok_n;
}

static bool mostly_failing(const struct error_breaker *eb, uint64_t now_us)
{
    uint64_t id = slice_id(eb, now_us);
    uint32_t failed_n = 0;
    uint32_t ok_n = 0;
    for (uint32_t i = 0; i < ERROR_BREAKER_SLICES; i++) {
        if (eb->slices[i].id + ERROR_BREAKER_SLICES <= id)
            continue;
        failed_n += eb->slices[i].failed_n;
        ok_n += eb->slices[i].ok_n;
    }
    return failed_n >= eb->opts.window_n_min &&
           failed_n >= eb->opts.window_share * ((double)failed_n + ok_n);
}

static bool alive(const struct error_breaker *eb, uint64_t now_us)
{
    return eb->alive_us > 0 && us_since(eb->alive_us, now_us) <= eb->opts.alive_us;
}

static uint32_t deaths_lately(const struct error_breaker *eb, uint64_t now_us)
{
    uint32_t n = 0;
    while (n < eb->deaths_n && n < ERROR_BREAKER_DEATHS_MAX) {
        uint64_t at_us = eb->deaths_us[(eb->deaths_n - 1 - n) % ERROR_BREAKER_DEATHS_MAX];
        if (us_since(at_us, now_us) > eb->opts.died_us)
            break;
        n++;
    }
    return n;
}

static void forget_failures(struct error_breaker *eb)
{
    eb->failed_in_row_n = 0;
    eb->deaths_n = 0;
    memset(eb->slices, 0, sizeof eb->slices);
}

/* ---- moves ----------------------------------------------------------------------------------- */

static void move(struct error_breaker *eb, enum error_breaker_state to, uint64_t now_us,
                 const char *why)
{
    must(states[eb->state].next & BIT(to));
    snprintf(eb->why, sizeof eb->why, "%s", why);
    eb->state = to;
    eb->since_us = now_us;
}

/* Exponential and jittered, so that many proxies do not knock at the same moments. */
static void schedule_probe(struct error_breaker *eb, uint64_t now_us)
{
    uint64_t delay_us = eb->opts.probe_us_min;
    for (uint32_t i = 0; i < eb->probe_failed_n && delay_us < eb->opts.probe_us_max; i++)
        delay_us *= 2;
    if (delay_us > eb->opts.probe_us_max)
        delay_us = eb->opts.probe_us_max;
    eb->random = eb->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t half_us = delay_us / 2;
    eb->probe_at_us = now_us + half_us + (eb->random >> 33) * half_us / (UINT32_MAX >> 1);
}

static void go_down(struct error_breaker *eb, uint64_t now_us, const char *why)
{
    if (eb->down_since_us == 0) {
        eb->down_since_us = now_us;
        eb->probe_failed_n = 0;
        eb->opened_n++;
    }
    eb->probing = false;
    schedule_probe(eb, now_us);
    move(eb, ERROR_BREAKER_OPEN, now_us, why);
}

static void failed(struct error_breaker *eb, enum error_breaker_event event, uint64_t now_us)
{
    eb->last_failure = event;
    count(eb, 1, 0, now_us);
    /* A burst of attempts that fail together is one piece of evidence, not five. */
    if (eb->failed_in_row_n == 0 || us_since(eb->last_failed_us, now_us) >= eb->opts.apart_us) {
        eb->failed_in_row_n++;
        eb->last_failed_us = now_us;
    }
    if (eb->state == ERROR_BREAKER_RAMP) {
        eb->ramp_failed_us = now_us;
        eb->ramp_batch_ok_n = 0;
        eb->ramp_n = eb->ramp_n / 2 > eb->opts.ramp_n_min ? eb->ramp_n / 2 : eb->opts.ramp_n_min;
    }
    if (eb->state == ERROR_BREAKER_OPEN || eb->state == ERROR_BREAKER_HALF_OPEN ||
        alive(eb, now_us))
        return;
    if (eb->failed_in_row_n >= eb->opts.consecutive_n || mostly_failing(eb, now_us))
        go_down(eb, now_us, events[event].text);
}

static void logged_in(struct error_breaker *eb, uint64_t now_us)
{
    count(eb, 0, 1, now_us);
    if (eb->state != ERROR_BREAKER_RAMP)
        return;
    eb->ramp_ok_n++;
    eb->ramp_batch_ok_n++;
    if (eb->ramp_batch_ok_n < eb->ramp_n)
        return;
    eb->ramp_batch_ok_n = 0;
    eb->ramp_n = 2 * eb->ramp_n < eb->opts.ramp_n_max ? 2 * eb->ramp_n : eb->opts.ramp_n_max;
}

/* Somebody is there: look at once. But old sessions may work on while no new one gets in, and each
 * of their answers is one more of this: four probes in the longest delay are enough. */
static void hurry(struct error_breaker *eb, uint64_t now_us)
{
    if (eb->state != ERROR_BREAKER_OPEN)
        return;
    uint64_t at_us = eb->probed_us + eb->opts.probe_us_max / HURRY_SHARE;
    if (at_us < now_us)
        at_us = now_us;
    if (eb->probe_at_us > at_us)
        eb->probe_at_us = at_us;
}

static void answered(struct error_breaker *eb, uint64_t now_us)
{
    eb->failed_in_row_n = 0;
    eb->alive_us = now_us;
    hurry(eb, now_us);
}

static void session_died(struct error_breaker *eb, uint32_t sessions_n, uint64_t now_us)
{
    eb->deaths_us[eb->deaths_n++ % ERROR_BREAKER_DEATHS_MAX] = now_us;
    if (eb->state != ERROR_BREAKER_CLOSED)
        return;
    uint32_t died_n = deaths_lately(eb, now_us);
    /* sessions_n was counted just before this one died; those that died before are gone from it. */
    double all_n = (double)sessions_n + died_n - 1;
    if (died_n >= eb->opts.died_n && died_n >= eb->opts.died_share * all_n)
        move(eb, ERROR_BREAKER_SUSPECT, now_us, "sessions die in numbers");
}

void error_breaker_report(struct error_breaker *eb, enum error_breaker_event event,
                          uint32_t sessions_n, uint64_t now_us)
{
    must(event < COUNT_OF(events));
    switch (events[event].says) {
    case NOTHING:
        return;
    case ALIVE:
        /* An old session that works does not prove that new ones get in: the row of failed
         * connects stands, only it cannot open the breaker for now. */
        eb->alive_us = now_us;
        hurry(eb, now_us);
        return;
    case LOGIN:
        answered(eb, now_us);
        logged_in(eb, now_us);
        return;
    case ANSWERED:
        answered(eb, now_us);
        return;
    case DEAD:
        failed(eb, event, now_us);
        return;
    case DIED:
        session_died(eb, sessions_n, now_us);
        return;
    }
    must(!"an event");
}

/* ---- probes, time ---------------------------------------------------------------------------- */

void error_breaker_probe_done(struct error_breaker *eb, bool ok, uint64_t now_us)
{
    if (!eb->probing)
        return; /* came after its timeout, or after the question was settled otherwise */
    eb->probing = false;
    if (!ok) {
        if (eb->state == ERROR_BREAKER_HALF_OPEN)
            eb->probe_failed_n++;
        go_down(eb, now_us, "the probe failed");
        return;
    }
    forget_failures(eb);
    eb->alive_us = now_us;
    if (eb->state == ERROR_BREAKER_SUSPECT) {
        move(eb, ERROR_BREAKER_CLOSED, now_us, "the probe got through");
        return;
    }
    eb->down_since_us = 0;
    eb->ramped_us = now_us;
    eb->ramp_failed_us = now_us;
    eb->ramp_n = eb->opts.ramp_n_min;
    eb->ramp_ok_n = 0;
    eb->ramp_batch_ok_n = 0;
    move(eb, ERROR_BREAKER_RAMP, now_us, "the probe got through");
}

void error_breaker_probe_waits(struct error_breaker *eb, uint64_t now_us)
{
    if (eb->probing)
        eb->probe_at_us = now_us;
}

static bool start_probe(struct error_breaker *eb, uint64_t now_us)
{
    must(!eb->probing);
    eb->probing = true;
    eb->probe_at_us = now_us;
    eb->probed_us = now_us;
    eb->probes_n++;
    return true;
}

bool error_breaker_tick(struct error_breaker *eb, uint64_t now_us)
{
    const struct error_breaker_opts *o = &eb->opts;
    if (eb->probing && us_since(eb->probe_at_us, now_us) > o->probe_timeout_us)
        error_breaker_probe_done(eb, false, now_us);
    switch (eb->state) {
    case ERROR_BREAKER_CLOSED:
    case ERROR_BREAKER_HALF_OPEN:
        return false;
    case ERROR_BREAKER_SUSPECT:
        return !eb->probing && start_probe(eb, now_us);
    case ERROR_BREAKER_OPEN:
        if (now_us < eb->probe_at_us)
            return false;
        move(eb, ERROR_BREAKER_HALF_OPEN, now_us, "probing");
        return start_probe(eb, now_us);
    case ERROR_BREAKER_RAMP:
        break;
    }
    uint64_t clean_us = us_since(eb->ramp_failed_us, now_us);
    if ((eb->ramp_ok_n >= o->ramp_logins_n && clean_us >= o->ramp_clean_us) ||
        clean_us >= o->ramp_us_max)
        move(eb, ERROR_BREAKER_CLOSED, now_us, "logins succeed");
    return false;
}

/* ---- verdicts -------------------------------------------------------------------------------- */

uint32_t error_breaker_connects_max(const struct error_breaker *eb)
{
    switch (eb->state) {
    case ERROR_BREAKER_CLOSED:
    case ERROR_BREAKER_SUSPECT:
        return UINT32_MAX;
    case ERROR_BREAKER_OPEN:
    case ERROR_BREAKER_HALF_OPEN:
        return 0;
    case ERROR_BREAKER_RAMP:
        return eb->ramp_n;
    }
    must(!"a state");
}

bool error_breaker_passes(const struct error_breaker *eb, bool protected_class, uint64_t now_us)
{
    if (eb->state == ERROR_BREAKER_OPEN || eb->state == ERROR_BREAKER_HALF_OPEN)
        return false;
    if (protected_class || eb->ramped_us == 0)
        return true;
    return us_since(eb->ramped_us, now_us) >= eb->opts.bulk_settle_us; /* outlasts a quick ramp */
}

bool error_breaker_refuses(const struct error_breaker *eb, uint64_t now_us)
{
    /* Sessions that still work keep working, also for those who wait for one of them. */
    return eb->down_since_us > 0 && us_since(eb->down_since_us, now_us) > eb->opts.grace_us &&
           !alive(eb, now_us);
}
