/* Load of an application's users, as they behave when the database does not: they arrive when they
 * like (open loop), give up after a while, hang up, and try again.
 *
 * A request (bench/mix.h) waits for one of the application's connections, and
 * every attempt ends in an answer, an error, or the user's patience: so long for a connection, and
 * as long again for the answer, as connection pools and drivers count it. Latency counts from the
 * moment the request was meant to be made, so a stalled server cannot hide behind the requests
 * nobody sent ("coordinated omission").
 *
 *   arrival -> begin -> waiting -> slot (connects if need be) -> steps -> served
 *                 ^                     |
 *                 +-- retry <- error, or given up (the connection is closed, as real ones are)
 *
 * --profile=0:1,20:1,20:3 makes them more or fewer as time goes by (here: three times as many from
 * the 20th second on). --closed has every connection ask again as soon as it was answered:
 * capacity, or a crowd of impatient clients. One thread, one epoll set; requests, connections and
 * time are bounded.
 */
#include "bench/link.h"
#include "bench/load_opts.h"
#include "bench/random.h"
#include "bench/stop.h"
#include "proxy/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <utlist.h>

enum {
    REQUESTS_MAX = 1 << 16, /* outstanding; one that finds no place fails at once ("full") */
    EVENTS_MAX = 256,
};

enum slot_state {
    SLOT_CLOSED,
    SLOT_RESTING, /* closed, after a refusal: not tried again before rest_until_us */
    SLOT_CONNECTING,
    SLOT_IDLE,
    SLOT_BUSY,     /* a step of its request is on the way */
    SLOT_CLEANING, /* no request: ROLLBACK, or the answer nobody waits for any more */
};

struct slot {
    struct link link;
    enum slot_state state;
    struct request *req; /* CONNECTING (or NULL at the warm start), BUSY */
    uint64_t rest_until_us;
    struct mix_prepared prepared;
    bool failed;
    char sqlstate[8];
    struct slot *prev, *next; /* idle | closed | resting */
};

struct request {
    uint64_t intended_us, deadline_us, due_us;
    struct slot *slot;
    bool waiting;
    uint32_t step_i, attempt_n;
    struct mix_request ask;
    struct request *prev, *next;           /* live in order of deadline | retry in order of due */
    struct request *wait_prev, *wait_next; /* waiting for a slot, first come first served */
};

struct load {
    struct load_opts opts;
    struct tally tally;
    int epoll_fd;
    uint64_t rng, next_us, end_us;
    struct slot *slots, *idle, *closed, *resting;
    struct request *requests, *spare, *live, *retry, *waiting;
    uint32_t live_n, warming_n;
};

/* ---- slots: the application's connections ------------------------------------------------- */

static void slot_to_idle(struct load *load, struct slot *s)
{
    s->state = SLOT_IDLE;
    s->req = NULL;
    DL_PREPEND(load->idle, s); /* newest first, as pools do: a quiet application uses few */
}

static void slot_drop(struct load *load, struct slot *s)
{
    must(s->state >= SLOT_CONNECTING && s->state != SLOT_IDLE);
    if (s->state == SLOT_CONNECTING && !s->req && load->warming_n)
        load->warming_n--;
    link_close(&s->link);
    s->req = NULL;
    s->prepared = (struct mix_prepared){0};
    s->state = SLOT_CLOSED;
    DL_PREPEND(load->closed, s);
}

/* Nobody reconnects in a tight loop to a server that has just refused. */
static void slot_rest(struct load *load, struct slot *s, uint64_t now_us)
{
    must(s->state == SLOT_CLOSED);
    DL_DELETE(load->closed, s);
    s->state = SLOT_RESTING;
    s->rest_until_us = now_us + load->opts.backoff_us;
    DL_APPEND(load->resting, s);
}

static void slots_wake(struct load *load, uint64_t now_us)
{
    while (load->resting && load->resting->rest_until_us <= now_us) {
        struct slot *s = load->resting;
        DL_DELETE(load->resting, s);
        s->state = SLOT_CLOSED;
        DL_PREPEND(load->closed, s);
    }
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void request_begin(struct load *load, struct request *r, uint64_t now_us)
{
    r->attempt_n++;
    r->step_i = 0;
    r->slot = NULL;
    r->deadline_us = now_us + load->opts.timeout_us;
    DL_APPEND(load->live, r); /* one patience for all, so the list stays in order */
    r->waiting = true;
    DL_APPEND2(load->waiting, r, wait_prev, wait_next);
}

static void request_unwait(struct load *load, struct request *r)
{
    must(r->waiting);
    DL_DELETE2(load->waiting, r, wait_prev, wait_next);
    r->waiting = false;
}

static void request_free(struct load *load, struct request *r)
{
    must(load->live_n);
    load->live_n--;
    LL_PREPEND(load->spare, r);
}

static void request_served(struct load *load, struct request *r, uint64_t now_us)
{
    /* Who answers in a closed loop arrives then, too; else bins would show when it was asked. */
    uint64_t bin_us = load->opts.closed ? now_us : r->intended_us;
    struct tally_bin *bin = tally_bin_at(&load->tally, bin_us);
    DL_DELETE(load->live, r);
    bin->served++;
    if (load->opts.closed)
        bin->offered++;
    hist_add(&bin->latency, now_us - r->intended_us);
    request_free(load, r);
}

static void retry_insert(struct load *load, struct request *r)
{
    struct request *at = load->retry ? load->retry->prev : NULL;
    while (at && at->due_us > r->due_us)
        at = at == load->retry ? NULL : at->prev;
    if (at)
        DL_APPEND_ELEM(load->retry, at, r);
    else
        DL_PREPEND(load->retry, r);
}

/* An attempt came to nothing; r holds no slot any more. code "gaveup" is the user's patience. */
static void request_failed(struct load *load, struct request *r, const char *code, uint64_t now_us)
{
    bool gaveup = !strcmp(code, "gaveup");
    uint64_t bin_us = load->opts.closed ? now_us : r->intended_us;
    if (r->waiting)
        request_unwait(load, r);
    r->slot = NULL;
    DL_DELETE(load->live, r);
    tally_error(&load->tally, now_us, code);
    if (r->attempt_n < load->opts.attempts_n && !stop_asked) {
        /* a refusal is retried after a pause, half to one and a half; silence has cost enough */
        double jitter = 0.5 + random_share(&load->rng);
        r->due_us = now_us + (gaveup ? 0 : (uint64_t)(jitter * (double)load->opts.backoff_us));
        tally_bin_at(&load->tally, now_us)->retries++;
        retry_insert(load, r);
        return;
    }
    struct tally_bin *bin = tally_bin_at(&load->tally, bin_us);
    if (load->opts.closed)
        bin->offered++;
    if (gaveup)
        bin->gaveup++;
    else
        bin->failed++;
    request_free(load, r);
}

static void request_admit(struct load *load, uint64_t intended_us, uint64_t now_us)
{
    struct tally_bin *bin = tally_bin_at(&load->tally, intended_us);
    struct request *r = load->spare;
    if (!load->opts.closed)
        bin->offered++;
    if (!r) {
        tally_error(&load->tally, now_us, "full");
        bin->failed++;
        return;
    }
    LL_DELETE(load->spare, r);
    load->live_n++;
    *r = (struct request){.intended_us = intended_us};
    mix_choose(&load->opts.mix, random_next(&load->rng), &r->ask);
    request_begin(load, r, now_us);
}

/* ---- the conversation on one connection ------------------------------------------------------ */

/* The connection is gone, and with it the attempt it carried. */
static void slot_lost(struct load *load, struct slot *s, uint64_t now_us)
{
    struct request *r = s->req;
    bool refused = s->state == SLOT_CONNECTING;
    char sqlstate[8];
    if (s->failed)
        memcpy(sqlstate, s->sqlstate, sizeof sqlstate);
    else
        link_sqlstate(&s->link, NULL, sqlstate);
    slot_drop(load, s);
    if (refused)
        slot_rest(load, s, now_us);
    if (r)
        request_failed(load, r, sqlstate, now_us);
}

static void slot_step(struct load *load, struct slot *s, uint64_t now_us)
{
    s->state = SLOT_BUSY;
    s->failed = false;
    if (!mix_send(&load->opts.mix, &s->req->ask, s->req->step_i, &s->prepared, s->link.pg) ||
        link_flush(&s->link) == LINK_LOST)
        slot_lost(load, s, now_us);
}

static void slot_connect(struct load *load, struct slot *s, uint64_t now_us)
{
    must(s->state == SLOT_CLOSED);
    DL_DELETE(load->closed, s);
    s->state = SLOT_CONNECTING;
    s->failed = false;
    tally_bin_at(&load->tally, now_us)->connects++;
    if (link_open(&s->link, load->epoll_fd, s, load->opts.conninfo) == LINK_LOST)
        slot_lost(load, s, now_us);
}

static void load_pair(struct load *load, uint64_t now_us)
{
    while (load->waiting && (load->idle || load->closed)) {
        struct request *r = load->waiting;
        struct slot *s = load->idle ? load->idle : load->closed;
        request_unwait(load, r);
        r->deadline_us = now_us + load->opts.timeout_us;
        DL_DELETE(load->live, r);
        DL_APPEND(load->live, r);
        r->slot = s;
        s->req = r;
        if (s->state == SLOT_IDLE) {
            DL_DELETE(load->idle, s);
            slot_step(load, s, now_us);
        } else {
            slot_connect(load, s, now_us);
        }
    }
}

/* The user hangs up. A request that had a connection takes it down with it, as applications do;
 * with --keep the connection stays with its unwanted answer, unless a transaction is open. */
static void request_giveup(struct load *load, struct request *r, uint64_t now_us)
{
    struct slot *s = r->slot;
    bool keep = s && load->opts.keep && s->state == SLOT_BUSY && mix_steps_n(r->ask.kind) == 1;
    if (keep) {
        s->state = SLOT_CLEANING;
        s->req = NULL;
    } else if (s) {
        slot_drop(load, s);
    }
    request_failed(load, r, "gaveup", now_us);
}

/* The server refused a command; the connection lives on where nothing is left open on it. */
static void slot_command_failed(struct load *load, struct slot *s, uint64_t now_us)
{
    struct request *r = s->req;
    s->req = NULL;
    request_failed(load, r, s->sqlstate, now_us);
    if (s->prepared.preparing) {
        slot_drop(load, s); /* which names exist now is not known */
    } else if (PQtransactionStatus(s->link.pg) == PQTRANS_IDLE) {
        slot_to_idle(load, s);
    } else {
        s->state = SLOT_CLEANING;
        if (!PQsendQuery(s->link.pg, "ROLLBACK") || link_flush(&s->link) == LINK_LOST)
            slot_lost(load, s, now_us);
    }
}

/* All results of one command are in. */
static void slot_command_done(struct load *load, struct slot *s, uint64_t now_us)
{
    struct request *r = s->req;
    if (PQstatus(s->link.pg) == CONNECTION_BAD) {
        slot_lost(load, s, now_us);
        return;
    }
    if (s->state == SLOT_CLEANING) {
        slot_to_idle(load, s);
        return;
    }
    if (s->failed) {
        slot_command_failed(load, s, now_us);
        return;
    }
    if (!s->prepared.preparing)
        r->step_i++;
    if (r->step_i < mix_steps_n(r->ask.kind)) {
        slot_step(load, s, now_us);
        return;
    }
    slot_to_idle(load, s);
    request_served(load, r, now_us);
}

static void slot_results(struct load *load, struct slot *s, uint64_t now_us)
{
    for (;;) {
        enum link_verdict verdict = link_read(&s->link);
        if (verdict == LINK_LOST)
            slot_lost(load, s, now_us);
        if (verdict != LINK_READY)
            return;
        PGresult *res = PQgetResult(s->link.pg);
        if (!res)
            break;
        ExecStatusType status = PQresultStatus(res);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && !s->failed) {
            s->failed = true;
            link_sqlstate(&s->link, res, s->sqlstate);
        }
        PQclear(res);
    }
    slot_command_done(load, s, now_us);
}

static void slot_event(struct load *load, struct slot *s, uint64_t now_us)
{
    switch (s->state) {
    case SLOT_CLOSED:
    case SLOT_RESTING:
        return; /* closed earlier in this turn */
    case SLOT_IDLE:
        /* only the end of the connection, or a notice of it, comes unasked */
        if (!PQconsumeInput(s->link.pg) || PQstatus(s->link.pg) == CONNECTION_BAD) {
            DL_DELETE(load->idle, s);
            s->state = SLOT_CLEANING;
            slot_drop(load, s);
        }
        return;
    case SLOT_CONNECTING:
        switch (link_connecting(&s->link)) {
        case LINK_MORE:
            return;
        case LINK_LOST:
            slot_lost(load, s, now_us);
            return;
        case LINK_READY:
            break;
        }
        if (s->req) {
            slot_step(load, s, now_us);
        } else {
            load->warming_n -= load->warming_n > 0;
            slot_to_idle(load, s);
        }
        return;
    case SLOT_BUSY:
    case SLOT_CLEANING:
        slot_results(load, s, now_us);
        return;
    }
}

/* ---- the loop ---------------------------------------------------------------------------------
 */

static void load_arrivals(struct load *load, uint64_t now_us)
{
    if (stop_asked)
        return;
    if (load->opts.closed) {
        uint32_t free_n = 0;
        struct slot *s;
        DL_FOREACH(load->idle, s) free_n++;
        DL_FOREACH(load->closed, s) free_n++;
        while (free_n-- && now_us < load->end_us)
            request_admit(load, now_us, now_us);
        return;
    }
    while (load->next_us <= now_us && load->next_us < load->end_us) {
        request_admit(load, load->next_us, now_us);
        double at_s = (double)(load->next_us - load->tally.start_us) / US_PER_S;
        double gap = load->opts.fixed ? 1 : -log(random_share(&load->rng));
        load->next_us += (uint64_t)(gap * US_PER_S / load_opts_rate(&load->opts, at_s));
    }
}

static void load_timers(struct load *load, uint64_t now_us)
{
    slots_wake(load, now_us);
    while (load->live && load->live->deadline_us <= now_us)
        request_giveup(load, load->live, now_us);
    while (load->retry && load->retry->due_us <= now_us) {
        struct request *r = load->retry;
        DL_DELETE(load->retry, r);
        request_begin(load, r, now_us);
    }
}

static uint64_t load_next_timer(const struct load *load)
{
    uint64_t at_us = UINT64_MAX;
    if (!load->opts.closed && load->next_us < load->end_us)
        at_us = load->next_us;
    if (load->live && load->live->deadline_us < at_us)
        at_us = load->live->deadline_us;
    if (load->retry && load->retry->due_us < at_us)
        at_us = load->retry->due_us;
    if (load->resting && load->resting->rest_until_us < at_us)
        at_us = load->resting->rest_until_us;
    return at_us;
}

static void load_turn(struct load *load, uint64_t until_us)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t at_us = load_next_timer(load);
    uint64_t now_us = clock_us();
    if (at_us > until_us)
        at_us = until_us;
    uint64_t wait_us = at_us > now_us ? at_us - now_us : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_us / US_PER_S),
                            .tv_nsec = (long)(wait_us % US_PER_S) * 1000};
    int n = epoll_pwait2(load->epoll_fd, events, EVENTS_MAX, &wait, NULL);
    now_us = clock_us();
    for (int i = 0; i < n; i++)
        slot_event(load, events[i].data.ptr, now_us);
    load_timers(load, now_us);
}

/* Connects all slots before the clock starts, as an application's pool does; false: not all could.
 */
static bool load_warm(struct load *load)
{
    uint64_t until_us = clock_us() + 15 * (uint64_t)US_PER_S;
    while (load->closed) {
        load->warming_n++;
        slot_connect(load, load->closed, clock_us());
    }
    while (load->warming_n && clock_us() < until_us && !stop_asked)
        load_turn(load, until_us);
    uint32_t idle_n = 0;
    struct slot *s;
    DL_FOREACH(load->idle, s) idle_n++;
    return idle_n == load->opts.conns_n;
}

static void load_run(struct load *load)
{
    uint64_t start_us = clock_us();
    load->next_us = start_us;
    load->end_us = start_us + (uint64_t)(load->opts.seconds * US_PER_S);
    load->tally.start_us = start_us;
    while (!stop_asked && clock_us() < load->end_us) {
        uint64_t now_us = clock_us();
        load_arrivals(load, now_us);
        load_pair(load, now_us);
        load_turn(load, load->end_us);
    }
    /* Who came before the end is still served; his patience and his attempts bound the wait. */
    uint64_t until_us =
        clock_us() + load->opts.attempts_n * 2 * (load->opts.timeout_us + load->opts.backoff_us);
    while (!stop_asked && load->live_n && clock_us() < until_us) {
        load_turn(load, until_us);
        load_pair(load, clock_us());
    }
    stop_asked = 1;
    uint64_t now_us = clock_us();
    while (load->live)
        request_giveup(load, load->live, now_us);
}

static bool load_open(struct load *load)
{
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->slots = calloc(load->opts.conns_n, sizeof *load->slots);
    load->requests = calloc(REQUESTS_MAX, sizeof *load->requests);
    must(load->slots && load->requests && load->epoll_fd >= 0);
    load->rng = load->opts.seed;
    for (uint32_t i = 0; i < load->opts.conns_n; i++)
        DL_APPEND(load->closed, &load->slots[i]);
    for (uint32_t i = 0; i < REQUESTS_MAX; i++)
        LL_PREPEND(load->spare, &load->requests[i]);
    tally_open(&load->tally, clock_us(), (uint64_t)(load->opts.bin_s * US_PER_S),
               (uint64_t)(load->opts.seconds * US_PER_S));
    return load_warm(load);
}

static void load_close(struct load *load)
{
    for (uint32_t i = 0; i < load->opts.conns_n; i++)
        link_close(&load->slots[i].link);
    tally_close(&load->tally);
    free(load->slots);
    free(load->requests);
}

int main(int argc, char **argv)
{
    static struct load load;
    if (!load_opts_parse(&load.opts, argc, argv))
        return 2;
    stop_on_signals();
    int rc = 1;
    if (!load_open(&load)) {
        fprintf(stderr, "load: could not open all %u connections\n", load.opts.conns_n);
        goto closing;
    }
    fputs("ready\n", stderr); /* the clock starts here: whoever stages the storm counts from it */
    load_run(&load);
    tally_print_spans(&load.tally, &load.opts.marks, stdout);
    if (load.opts.csv && !tally_write_csv(&load.tally, load.opts.csv)) {
        perror(load.opts.csv);
        goto closing;
    }
    rc = 0;
closing:
    load_close(&load);
    return rc;
}
