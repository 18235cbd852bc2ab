/* Bulk readers: a backup tool or a report, or many of them, as PostgreSQL sees it. Each reader runs
 * one statement over and over, as fast as it is given, under the application_name of its choice:
 * the copy of a whole table to itself, or any other that returns rows.
 *
 * A reader that is refused does what cron and wrapper scripts do: it waits a little and tries
 * again. Counted per bin of time: bytes, finished statements with their duration (served), refusals
 * by SQLSTATE (failed).
 */
#include "bench/link.h"
#include "bench/opt.h"
#include "bench/stop.h"
#include "bench/tally.h"
#include "proxy/worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    READERS_MAX = 1024,
    EVENTS_MAX = 64,
    ROWS_PER_TURN = 2000, /* then the others get their turn, and the clock is read */
};

struct opts {
    const char *conninfo, *csv;
    struct opt_list names, tables, statements; /* a reader's own is its index modulo their number */
    double seconds, bin_s;
    struct tally_marks marks;
    uint32_t readers_n;
    uint64_t pause_us;
};

enum reader_state { READER_PAUSED, READER_CONNECTING, READER_READING };

struct reader {
    struct link link;
    enum reader_state state;
    uint32_t reader_i;
    uint64_t resume_us, asked_us;
    bool failed;
};

struct bulk {
    struct opts opts;
    struct tally tally;
    int epoll_fd;
    uint64_t end_us;
    struct reader *readers;
};

static void reader_pause(struct bulk *b, struct reader *r, uint64_t now_us)
{
    link_close(&r->link);
    r->state = READER_PAUSED;
    /* spread: readers refused together do not come back together */
    r->resume_us = now_us + b->opts.pause_us / 2 + b->opts.pause_us * (r->reader_i % 16) / 16;
}

static void reader_refused(struct bulk *b, struct reader *r, const PGresult *res, uint64_t now_us)
{
    char sqlstate[8];
    link_sqlstate(&r->link, res, sqlstate);
    tally_error(&b->tally, now_us, sqlstate);
    tally_bin_at(&b->tally, now_us)->failed++;
}

static void reader_lost(struct bulk *b, struct reader *r, uint64_t now_us)
{
    if (!r->failed)
        reader_refused(b, r, NULL, now_us);
    reader_pause(b, r, now_us);
}

static void reader_ask(struct bulk *b, struct reader *r, uint64_t now_us)
{
    char copy[160];
    const char *text = copy;
    if (b->opts.statements.n)
        text = b->opts.statements.at[r->reader_i % b->opts.statements.n];
    else
        snprintf(copy, sizeof copy, "COPY %s TO STDOUT",
                 b->opts.tables.at[r->reader_i % b->opts.tables.n]);
    r->state = READER_READING;
    r->failed = false;
    r->asked_us = now_us;
    tally_bin_at(&b->tally, now_us)->offered++;
    if (!PQsendQuery(r->link.pg, text) || link_flush(&r->link) == LINK_LOST)
        reader_lost(b, r, now_us);
}

static void reader_connect(struct bulk *b, struct reader *r, uint64_t now_us)
{
    char conninfo[640];
    const char *name = b->opts.names.n ? b->opts.names.at[r->reader_i % b->opts.names.n] : "";
    snprintf(conninfo, sizeof conninfo, "%s application_name='%s'", b->opts.conninfo, name);
    r->state = READER_CONNECTING;
    r->failed = false;
    tally_bin_at(&b->tally, now_us)->connects++;
    if (link_open(&r->link, b->epoll_fd, r, conninfo) == LINK_LOST)
        reader_lost(b, r, now_us);
}

/* Takes the rows that are there; true: it would wait for more. */
static bool reader_rows(struct bulk *b, struct reader *r, uint64_t now_us)
{
    uint64_t bytes = 0;
    char *row = NULL;
    int n = 1;
    for (uint32_t i = 0; i < ROWS_PER_TURN && n > 0; i++) {
        n = PQgetCopyData(r->link.pg, &row, 1);
        if (n > 0)
            bytes += (uint64_t)n;
        PQfreemem(row);
        row = NULL;
    }
    tally_bin_at(&b->tally, now_us)->bytes += bytes;
    return n == 0 || n > 0; /* -1: the copy is over, -2: it failed; the results say which */
}

/* Counts a result; bytes are those of the values. */
static void reader_result(struct bulk *b, struct reader *r, const PGresult *res, uint64_t now_us)
{
    ExecStatusType status = PQresultStatus(res);
    struct tally_bin *bin = tally_bin_at(&b->tally, now_us);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        for (int row = 0; row < PQntuples(res); row++)
            for (int column = 0; column < PQnfields(res); column++)
                bin->bytes += (uint64_t)PQgetlength(res, row, column);
        bin->served++;
        hist_add(&bin->latency, now_us - r->asked_us);
    } else if (status != PGRES_COPY_OUT && !r->failed) {
        r->failed = true;
        reader_refused(b, r, res, now_us);
    }
}

static void reader_results(struct bulk *b, struct reader *r, uint64_t now_us)
{
    enum link_verdict verdict = link_read(&r->link);
    if (verdict == LINK_LOST)
        reader_lost(b, r, now_us);
    if (verdict != LINK_READY)
        return;
    for (;;) {
        PGresult *res = PQgetResult(r->link.pg);
        if (!res)
            break;
        ExecStatusType status = PQresultStatus(res);
        reader_result(b, r, res, now_us);
        PQclear(res);
        if (status == PGRES_COPY_OUT && reader_rows(b, r, now_us))
            return;
        if (status != PGRES_COPY_OUT && PQisBusy(r->link.pg))
            return;
    }
    if (r->failed || PQstatus(r->link.pg) == CONNECTION_BAD)
        reader_lost(b, r, now_us);
    else
        reader_ask(b, r, now_us);
}

static void reader_event(struct bulk *b, struct reader *r, uint64_t now_us)
{
    switch (r->state) {
    case READER_PAUSED:
        return; /* closed earlier in this turn */
    case READER_CONNECTING:
        switch (link_connecting(&r->link)) {
        case LINK_MORE:
            return;
        case LINK_LOST:
            reader_lost(b, r, now_us);
            return;
        case LINK_READY:
            reader_ask(b, r, now_us);
            return;
        }
        return;
    case READER_READING:
        reader_results(b, r, now_us);
        return;
    }
}

static void bulk_run(struct bulk *b)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_us = clock_us();
    b->end_us = now_us + (uint64_t)(b->opts.seconds * US_PER_S);
    b->tally.start_us = now_us;
    while (!stop_asked && now_us < b->end_us) {
        for (uint32_t i = 0; i < b->opts.readers_n; i++)
            if (b->readers[i].state == READER_PAUSED && b->readers[i].resume_us <= now_us)
                reader_connect(b, &b->readers[i], now_us);
        int n = epoll_wait(b->epoll_fd, events, EVENTS_MAX, 20);
        now_us = clock_us();
        for (int i = 0; i < n; i++)
            reader_event(b, events[i].data.ptr, now_us);
    }
}

static const char usage[] = "bulk CONNINFO --tables=A,B | --sql=TEXT [--sql=TEXT ...]\n"
                            "     [--readers=N] [--names=A,B] [--seconds=N] [--pause-ms=N]\n"
                            "     [--bin=SECONDS] [--marks=S,S] [--csv=FILE]\n";

static bool parse_opts(struct opts *o, int argc, char **argv)
{
    const struct opt table[] = {
        {"tables", OPT_OWN, &o->tables, .parse = opt_parse_list},
        {"sql", OPT_OWN, &o->statements, .parse = opt_parse_more},
        /* an empty name is a reader that says nothing */
        {"names", OPT_OWN, &o->names, .parse = opt_parse_list},
        {"readers", OPT_COUNT, &o->readers_n, .min = 1, .max = READERS_MAX},
        {"seconds", OPT_REAL, &o->seconds, .min = 0.01},
        {"pause-ms", OPT_MS, &o->pause_us, .min = 1},
        {"bin", OPT_REAL, &o->bin_s, .min = 0.01},
        {"marks", OPT_OWN, &o->marks, .parse = tally_parse_marks},
        {"csv", OPT_TEXT, .into = &o->csv},
    };
    return opt_parse(table, COUNT_OF(table), argc, argv, &o->conninfo) &&
           (o->tables.n || o->statements.n) && o->seconds / o->bin_s <= TALLY_BINS_MAX;
}

int main(int argc, char **argv)
{
    static struct bulk bulk;
    bulk.opts = (struct opts){.seconds = 10, .bin_s = 1, .readers_n = 1, .pause_us = US_PER_S};
    if (!parse_opts(&bulk.opts, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    stop_on_signals();
    bulk.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    bulk.readers = calloc(bulk.opts.readers_n, sizeof *bulk.readers);
    must(bulk.epoll_fd >= 0 && bulk.readers);
    for (uint32_t i = 0; i < bulk.opts.readers_n; i++)
        bulk.readers[i].reader_i = i;
    tally_open(&bulk.tally, clock_us(), (uint64_t)(bulk.opts.bin_s * US_PER_S),
               (uint64_t)(bulk.opts.seconds * US_PER_S));
    bulk_run(&bulk);
    tally_print_spans(&bulk.tally, &bulk.opts.marks, stdout);
    int rc = 0;
    if (bulk.opts.csv && !tally_write_csv(&bulk.tally, bulk.opts.csv)) {
        perror(bulk.opts.csv);
        rc = 1;
    }
    for (uint32_t i = 0; i < bulk.opts.readers_n; i++)
        link_close(&bulk.readers[i].link);
    tally_close(&bulk.tally);
    free(bulk.readers);
    return rc;
}
