#include "proxy/pacer.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "proxy/client.h"
#include "proxy/route.h"
#include "proxy/vars.h"

#define STATEMENT_TIMEOUT "statement_timeout"
#define BLANKS " \t\r\n\f\v"

/* ---- statement_timeout --------------------------------------------------------------------------
 */

/* A text and how far it has been read; ASCII, as all it looks for is. */
struct words {
    const char *at, *end;
};

static void skip(struct words *w, const char *what)
{
    while (w->at < w->end && strchr(what, *w->at) && *w->at)
        w->at++;
}

/* Takes the word if it comes next; as a whole word only. */
static bool take_word(struct words *w, const char *word)
{
    size_t n = strlen(word), left = (size_t)(w->end - w->at);
    if (left < n || strncasecmp(w->at, word, n) != 0 || (left > n && isalnum((uint8_t)w->at[n])))
        return false;
    w->at += n;
    return true;
}

/* A number with or without unit, as PostgreSQL reads a setting in milliseconds: 300000, 1.5s, 1e3,
 * 0x10, "2 min". To whole milliseconds, also as there. False: it would not take it. */
static bool take_duration(struct words *w, uint64_t *us)
{
    static const struct {
        char name[4];
        uint64_t us;
    } units[] = {
        {"us", 1},       {"ms", US_PER_MS},         {"min", 60ull * US_PER_S},
        {"s", US_PER_S}, {"h", 3600ull * US_PER_S}, {"d", 86400ull * US_PER_S},
    };
    char digits[64], *behind;
    size_t n = (size_t)(w->end - w->at);
    n = n < sizeof digits - 1 ? n : sizeof digits - 1;
    memcpy(digits, w->at, n);
    digits[n] = '\0';
    if (!isdigit((uint8_t)digits[0]) && digits[0] != '.')
        return false;
    double value = strtod(digits, &behind);
    if (behind == digits)
        return false;
    w->at += behind - digits;
    skip(w, BLANKS);
    uint64_t unit_us = US_PER_MS;
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        size_t name_n = strlen(units[i].name), left = (size_t)(w->end - w->at);
        if (left < name_n || memcmp(w->at, units[i].name, name_n) != 0 ||
            (left > name_n && isalnum((uint8_t)w->at[name_n])))
            continue;
        unit_us = units[i].us;
        w->at += name_n;
        break;
    }
    if (w->at < w->end && isalpha((uint8_t)*w->at))
        return false; /* a unit that it does not know */
    double ms = rint(value * (double)unit_us / US_PER_MS);
    if (!(ms >= 0 && ms <= INT32_MAX))
        return false;
    *us = (uint64_t)ms * US_PER_MS;
    return true;
}

static uint64_t duration_us(const char *text)
{
    struct words w = {text, text + strlen(text)};
    uint64_t us;
    skip(&w, BLANKS);
    return take_duration(&w, &us) ? us : 0;
}

/* For the session; whatever was set for the transaction is gone as well. */
static void set_session(struct server_pacing *p, uint64_t us)
{
    p->timeout_set = true;
    p->timeout_us = us;
    p->local_set = false;
}

static void set_local(struct server_pacing *p, uint64_t us)
{
    p->local_set = true;
    p->local_us = us;
}

/* Whether the word before `at` is that one; quotes in between are the name's. */
static bool follows(const char *text, const char *at, const char *word)
{
    size_t n = strlen(word);
    while (at > text && strchr(BLANKS "'\"", at[-1]))
        at--;
    return (size_t)(at - text) >= n && strncasecmp(at - n, word, n) == 0 &&
           ((size_t)(at - text) == n || !isalnum((uint8_t)at[-(ptrdiff_t)n - 1]));
}

/* The name stands at `at`: SET [SESSION | LOCAL] name {TO | =} {value | DEFAULT}, RESET name, or
 * set_config('name', value, is_local). */
static void note_name(struct server_pacing *p, const char *text, const char *at, const char *end)
{
    struct words w = {at + sizeof STATEMENT_TIMEOUT - 1, end};
    uint64_t us = 0;
    bool local = follows(text, at, "local");
    if (follows(text, at, "reset")) {
        set_session(p, 0);
        return;
    }
    skip(&w, "'\"");
    skip(&w, BLANKS);
    bool is_call = w.at < w.end && *w.at == ',';
    if (!is_call && !take_word(&w, "to") && !(w.at < w.end && *w.at == '='))
        return;
    skip(&w, BLANKS ",='");
    if (!take_word(&w, "default") && !take_duration(&w, &us))
        return;
    if (is_call) {
        skip(&w, BLANKS "',");
        local = w.at < w.end && strchr("tT1yY", *w.at);
    }
    if (local)
        set_local(p, us);
    else
        set_session(p, us);
}

void pacer_note_set(struct server *s, struct view sql)
{
    const size_t name_n = sizeof STATEMENT_TIMEOUT - 1;
    const char *text = (const char *)sql.at, *end = text + sql.n;
    for (const char *at = text; at < end; at++) {
        struct words w = {at, end};
        if ((size_t)(end - at) >= name_n && strncasecmp(at, STATEMENT_TIMEOUT, name_n) == 0) {
            note_name(&s->pacing, text, at, end);
        } else if ((at == text || !isalnum((uint8_t)at[-1])) &&
                   (take_word(&w, "reset") || take_word(&w, "discard"))) {
            skip(&w, BLANKS);
            if (take_word(&w, "all"))
                set_session(&s->pacing, 0);
        }
    }
}

/* What PostgreSQL will give the running statement, as far as it is known here: not what stands in
 * its configuration or with the user. */
static uint64_t timeout_of(const struct server *s)
{
    const char *value;
    if (s->pacing.local_set)
        return s->pacing.local_us;
    if (s->pacing.timeout_set)
        return s->pacing.timeout_us;
    value = vars_get(s->client->vars, STATEMENT_TIMEOUT);
    return value ? duration_us(value) : 0;
}

bool pacer_out_of_time(const struct server *s)
{
    uint64_t limit_us = timeout_of(s), since_us = s->client->stmt_started_us;
    return limit_us && since_us && us_since(since_us, hub_now(s->hub)) >= limit_us;
}

static bool is_short_of(uint64_t limit_us, uint64_t since_us, uint64_t now_us)
{
    return limit_us && since_us &&
           us_since(since_us, now_us) > limit_us / 100 * PACER_TIMEOUT_SHARE;
}

/* Held back any longer it would not end in the time it is given, by PostgreSQL or by us. */
static bool time_is_short(const struct server *s, uint64_t now_us)
{
    const struct client *c = s->client;
    const struct config_pool *set = &route_cell(c->route, s->hub)->settings;
    return is_short_of(timeout_of(s), c->stmt_started_us, now_us) ||
           is_short_of(set->query_timeout_us, c->stmt_started_us, now_us) ||
           is_short_of(set->transaction_timeout_us, c->tx_started_us, now_us);
}

/* ---- who is paced -------------------------------------------------------------------------------
 */

static bool is_exempt(const struct server *s, uint64_t now_us)
{
    if (s->state != SERVER_LINKED || !s->client || s->pacing.freed || s->cancels_n ||
        s->culled != POOL_CULL_NOT || /* a cancel may have no effect before the socket is empty */
        atomic_load_explicit(&s->lease.unpaced, memory_order_relaxed))
        return true;
    if (s->route->replication != POOL_REPLICATION_NO)
        return !s->base_backup;
    return atomic_load_explicit(&s->lease.tx_writes, memory_order_relaxed) ||
           time_is_short(s, now_us);
}

static void hold(struct server *s)
{
    if (s->holds & SERVER_HOLD_PACE)
        return;
    s->pacing.held_since_us = hub_now(s->hub);
    server_hold(s, SERVER_HOLD_PACE);
}

static void unhold(struct server *s)
{
    if (!(s->holds & SERVER_HOLD_PACE))
        return;
    pace_note_held(s->pacing.pace, us_since(s->pacing.held_since_us, hub_now(s->hub)));
    server_unhold(s, SERVER_HOLD_PACE);
}

void pacer_leave(struct server *s)
{
    struct server_pacing *p = &s->pacing;
    struct hub *h = s->hub;
    if (!p->pace)
        return;
    unhold(s);
    pace_give(p->pace, p->granted_bytes);
    pace_turn_over(p->pace, &p->ticket);
    pace_leave(p->pace);
    atomic_store_explicit(&s->lease.paced_tx_us, 0, memory_order_relaxed);
    p->granted_bytes = 0;
    p->pace = NULL;
    server_settle(s);
    DL_DELETE2(h->paced, s, pacing.prev, pacing.next);
    if (!h->paced)
        worker_tick_stop(h->worker, &h->paced_ticker);
}

static void tick(void *arg);

/* False: there is no timer to be had; then it is not paced. */
static bool join(struct server *s, struct pace *pace)
{
    struct server_pacing *p = &s->pacing;
    struct hub *h = s->hub;
    if (p->pace == pace)
        return true;
    pacer_leave(s);
    if (!h->paced) {
        uint64_t every_us = PACE_FILL_US + h->worker->index % PACER_BEATS_N * PACER_STAGGER_US;
        h->paced_ticker = (struct ticker){.tick = tick, .arg = h, .every_us = every_us};
        if (!worker_tick_start(h->worker, &h->paced_ticker))
            return false;
    }
    p->pace = pace;
    p->read_us = hub_now(h);
    server_settle(s);
    DL_APPEND2(h->paced, s, pacing.prev, pacing.next);
    pace_join(pace);
    atomic_store_explicit(&s->lease.paced_tx_us, s->client->tx_started_us, memory_order_relaxed);
    return true;
}

/* ---- tokens -------------------------------------------------------------------------------------
 */

/* A portion for it, if it is its turn and there are tokens, or if it has had none for very long. */
static bool grant(struct server *s, uint64_t now_us)
{
    struct server_pacing *p = &s->pacing;
    uint32_t bytes = pace_portion_bytes(p->pace);
    if (!pace_turn(p->pace, &p->ticket, now_us) || !pace_take(p->pace, bytes, now_us)) {
        if (!pace_starves(p->pace, us_since(p->read_us, now_us), now_us))
            return false;
        bytes = PACE_PIECE_BYTES;
        pace_trickle(p->pace, bytes);
    }
    p->granted_bytes += bytes;
    p->read_us = now_us;
    return true;
}

/* Those that are not paced any more leave; the others know their bucket. */
static void tell_apart(struct hub *h, uint64_t now_us)
{
    struct server *s, *next;
    DL_FOREACH_SAFE2(h->paced, s, next, pacing.next)
    {
        struct pace *pace = pool_pace(&s->lease);
        if (is_exempt(s, now_us) || !pace_limited(pace) || !join(s, pace))
            pacer_leave(s);
    }
}

/* One portion for each that is held, or has had one in this beat and could use another. False:
 * there was none to be had. */
static bool deal(struct hub *h, uint64_t now_us)
{
    struct server *s, *next, *last = h->paced ? h->paced->pacing.prev : NULL;
    bool any = false;
    for (s = h->paced; s; s = next) {
        struct server_pacing *p = &s->pacing;
        next = s == last ? NULL : p->next;
        if ((!(s->holds & SERVER_HOLD_PACE) && p->read_us != now_us) || !grant(s, now_us))
            continue;
        any = true;
        DL_DELETE2(h->paced, s, pacing.prev, pacing.next);
        DL_APPEND2(h->paced, s, pacing.prev, pacing.next);
        unhold(s);
    }
    return any;
}

/* The one that has waited longest is first in the list. */
static void tick(void *arg)
{
    struct hub *h = arg;
    uint64_t now_us = hub_now(h);
    tell_apart(h, now_us);
    for (uint32_t n = 0; n < PACER_PORTIONS_MAX && deal(h, now_us);)
        n++;
}

size_t pacer_ask(struct server *s, size_t room)
{
    uint64_t now_us = hub_now(s->hub);
    struct pace *pace = pool_pace(&s->lease);
    if (is_exempt(s, now_us) || !pace_limited(pace)) {
        pacer_leave(s);
        return room;
    }
    if (!join(s, pace))
        return room;
    if (!s->pacing.granted_bytes) {
        hold(s); /* until its turn comes */
        return 0;
    }
    return room < s->pacing.granted_bytes ? room : s->pacing.granted_bytes;
}

void pacer_read(struct server *s, size_t bytes_n)
{
    struct server_pacing *p = &s->pacing;
    if (!p->pace)
        return;
    must(bytes_n <= p->granted_bytes);
    p->granted_bytes -= (uint32_t)bytes_n;
}

void pacer_free(struct server *s)
{
    pacer_leave(s);
    s->pacing.freed = true;
}
