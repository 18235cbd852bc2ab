/* Bulk readers: a backup tool, or many of them, as PostgreSQL sees it. Each reader copies a whole
 * table to itself over and over, as fast as it is given, under the application_name of its choice.
 *
 * A reader that is refused does what cron and wrapper scripts do: it waits a little and tries
 * again. Counted per bin of time: bytes, finished copies (served), refusals by SQLSTATE (failed).
 */
#include "bench/link.h"
#include "bench/opt.h"
#include "bench/tally.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum {
    READERS_MAX = 1024,
    LIST_MAX = 16, /* names, tables */
    EVENTS_MAX = 64,
    ROWS_PER_TURN = 2000, /* then the others get their turn, and the clock is read */
};

struct list {
    uint32_t n;
    char *at[LIST_MAX];
};

struct opts {
    const char *conninfo, *csv;
    struct list names, tables;
    double seconds, bin_s;
    double marks_s[TALLY_MARKS_MAX];
    uint32_t marks_n, readers_n;
    uint64_t pause_us;
};

enum reader_state { READER_PAUSED, READER_CONNECTING, READER_COPYING };

struct reader {
    struct link link;
    enum reader_state state;
    uint32_t reader_i;
    uint64_t resume_us;
    bool failed;
};

struct bulk {
    struct opts opts;
    struct tally tally;
    int epoll_fd;
    uint64_t end_us;
    struct reader *readers;
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

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

static void reader_copy(struct bulk *b, struct reader *r, uint64_t now_us)
{
    char text[160];
    snprintf(text, sizeof text, "COPY %s TO STDOUT",
             b->opts.tables.at[r->reader_i % b->opts.tables.n]);
    r->state = READER_COPYING;
    r->failed = false;
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
        if (status == PGRES_COMMAND_OK) {
            tally_bin_at(&b->tally, now_us)->served++;
        } else if (status != PGRES_COPY_OUT && !r->failed) {
            r->failed = true;
            reader_refused(b, r, res, now_us);
        }
        PQclear(res);
        if (status == PGRES_COPY_OUT && reader_rows(b, r, now_us))
            return;
        if (status != PGRES_COPY_OUT && PQisBusy(r->link.pg))
            return;
    }
    if (r->failed || PQstatus(r->link.pg) == CONNECTION_BAD)
        reader_lost(b, r, now_us);
    else
        reader_copy(b, r, now_us);
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
            reader_copy(b, r, now_us);
            return;
        }
        return;
    case READER_COPYING:
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
    while (!stopped && now_us < b->end_us) {
        for (uint32_t i = 0; i < b->opts.readers_n; i++)
            if (b->readers[i].state == READER_PAUSED && b->readers[i].resume_us <= now_us)
                reader_connect(b, &b->readers[i], now_us);
        int n = epoll_wait(b->epoll_fd, events, EVENTS_MAX, 20);
        now_us = clock_us();
        for (int i = 0; i < n; i++)
            reader_event(b, events[i].data.ptr, now_us);
    }
}

static const char usage[] =
    "bulk CONNINFO --tables=A,B [--readers=N] [--names=A,B] [--seconds=N] [--pause-ms=N]\n"
    "     [--bin=SECONDS] [--marks=S,S] [--csv=FILE]\n";

/* Splits text in place; an empty element is a reader without application_name. */
static bool parse_list(struct list *list, char *text)
{
    list->n = 0;
    while (text && list->n < LIST_MAX)
        list->at[list->n++] = strsep(&text, ",");
    return !text;
}

static bool parse_opt(struct opts *opts, int opt, char *value)
{
    double number = opt_number(value);
    switch (opt) {
    case 'T':
        return parse_list(&opts->tables, value);
    case 'N':
        return parse_list(&opts->names, value);
    case 'c':
        opts->readers_n = (uint32_t)number;
        return number >= 1 && number <= READERS_MAX;
    case 's':
        return (opts->seconds = number) > 0;
    case 'b':
        opts->pause_us = (uint64_t)(number * US_PER_MS);
        return number > 0;
    case 'B':
        return (opts->bin_s = number) >= 0.01;
    case 'M':
        return tally_parse_marks(value, opts->marks_s, &opts->marks_n);
    case 'o':
        opts->csv = value;
        return true;
    default:
        return false;
    }
}

static bool parse_opts(struct opts *opts, int argc, char **argv)
{
    static const struct option names[] = {
        {"tables", 1, NULL, 'T'},  {"names", 1, NULL, 'N'},    {"readers", 1, NULL, 'c'},
        {"seconds", 1, NULL, 's'}, {"pause-ms", 1, NULL, 'b'}, {"bin", 1, NULL, 'B'},
        {"marks", 1, NULL, 'M'},   {"csv", 1, NULL, 'o'},      {NULL, 0, NULL, 0},
    };
    int opt;
    while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1)
        if (opt == '?' || !parse_opt(opts, opt, optarg))
            return false;
    if (optind + 1 != argc || !opts->tables.n || opts->seconds / opts->bin_s > TALLY_BINS_MAX)
        return false;
    opts->conninfo = argv[optind];
    return true;
}

int main(int argc, char **argv)
{
    static struct bulk bulk;
    bulk.opts = (struct opts){.seconds = 10, .bin_s = 1, .readers_n = 1, .pause_us = US_PER_S};
    if (!parse_opts(&bulk.opts, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    bulk.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    bulk.readers = calloc(bulk.opts.readers_n, sizeof *bulk.readers);
    must(bulk.epoll_fd >= 0 && bulk.readers);
    for (uint32_t i = 0; i < bulk.opts.readers_n; i++)
        bulk.readers[i].reader_i = i;
    tally_open(&bulk.tally, clock_us(), (uint64_t)(bulk.opts.bin_s * US_PER_S),
               (uint64_t)(bulk.opts.seconds * US_PER_S));
    bulk_run(&bulk);
    tally_print_spans(&bulk.tally, bulk.opts.marks_s, bulk.opts.marks_n, stdout);
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
