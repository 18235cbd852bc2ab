/* A byte ring of whole lines. `head` and `tail` run free; used = tail - head. */
#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum {
    RING_BYTES = 1 << 18, /* some 2,000 lines between two turns of the control loop */
    LINE_BYTES_MAX = 2048,
};

static struct {
    int file_fd, event_fd;
    bool quiet; /* control loop's */
    char ident[64];
    _Atomic bool syslog; /* set by a reload while workers write */
    _Atomic int level_max;
    /* lock guards all below */
    pthread_mutex_t lock;
    char ring[RING_BYTES];
    uint32_t head, tail;
    bool called; /* the control loop knows that there is something urgent */
    uint64_t dropped_n, dropped_told_n;
} the_log = {
    .file_fd = -1, .event_fd = -1, .level_max = LOG_LEVEL_LOG, .lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_names[] = {"FATAL", "ERROR", "WARNING", "LOG", "DEBUG", "NOISE"};
static const int syslog_levels[] = {LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_DEBUG};

static int facility_of(const char *name)
{
    static const struct {
        const char *name;
        int facility;
    } known[] = {{"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"daemon", LOG_DAEMON},
                 {"user", LOG_USER},     {"local0", LOG_LOCAL0},     {"local1", LOG_LOCAL1},
                 {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},     {"local4", LOG_LOCAL4},
                 {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6},     {"local7", LOG_LOCAL7}};
    for (size_t i = 0; name && i < COUNT_OF(known); i++)
        if (!strcmp(name, known[i].name))
            return known[i].facility;
    return LOG_DAEMON;
}

/* A thread's last second in words: calendars cost more than the rest of a line. */
struct second {
    time_t at;
    char text[32], zone[16];
    int pid; /* getpid() is a system call */
};
static _Thread_local struct second last;

/* The daemon, after its fork: it has another pid. */
static void forget_second(void)
{
    last.at = 0;
}

bool log_open(const struct log_opts *opts, struct err *err)
{
    int fd = -1;
    if (opts->file && *opts->file) {
        fd = open(opts->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0)
            return err_set(err, "58030", "cannot open logfile \"%s\": %s", opts->file,
                           strerror(errno));
    }
    if (the_log.event_fd < 0) {
        the_log.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        pthread_atfork(NULL, NULL, forget_second);
    }
    if (the_log.file_fd >= 0)
        close(the_log.file_fd);
    the_log.file_fd = fd;
    the_log.quiet = opts->quiet;
    the_log.syslog = opts->syslog;
    if (opts->syslog) {
        snprintf(the_log.ident, sizeof the_log.ident, "%s",
                 opts->syslog_ident ? opts->syslog_ident : "pgweir");
        openlog(the_log.ident, LOG_PID, facility_of(opts->syslog_facility));
    }
    atomic_store_explicit(&the_log.level_max,
                          LOG_LEVEL_LOG + (opts->verbose > 2 ? 2 : opts->verbose),
                          memory_order_relaxed);
    return true;
}

bool log_wants(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&the_log.level_max, memory_order_relaxed);
}

static const struct second *second_of(time_t now)
{
    struct tm tm;
    if (last.at == now)
        return &last;
    localtime_r(&now, &tm);
    strftime(last.text, sizeof last.text, "%Y-%m-%d %H:%M:%S", &tm);
    strftime(last.zone, sizeof last.zone, "%Z", &tm);
    last.pid = (int)getpid();
    last.at = now;
    return &last;
}

/* "2026-11-22 22:26:32.130 UTC [pid] LEVEL " */
static size_t put_prefix(char *at, size_t n, enum log_level level)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    const struct second *s = second_of(ts.tv_sec);
    return (size_t)snprintf(at, n, "%s.%03d %s [%d] %s ", s->text, (int)(ts.tv_nsec / 1000000),
                            s->zone, s->pid, level_names[level]);
}

static void ring_put(const char *line, uint32_t n)
{
    uint32_t at = the_log.tail & (RING_BYTES - 1);
    uint32_t first = n < RING_BYTES - at ? n : RING_BYTES - at;
    memcpy(the_log.ring + at, line, first);
    memcpy(the_log.ring, line + first, n - first);
    the_log.tail += n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    if (!log_wants(level))
        return;
    char line[LINE_BYTES_MAX];
    size_t n = put_prefix(line, sizeof line, level);
    va_list args;
    va_start(args, fmt);
    int body_n = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    va_end(args);
    size_t prefix_n = n;
    if (body_n > 0)
        n += (size_t)body_n < sizeof line - n - 1 ? (size_t)body_n : sizeof line - n - 2;
    for (size_t i = prefix_n; i < n; i++) /* a peer's text must not forge lines */
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    line[n++] = '\n';
    pthread_mutex_lock(&the_log.lock);
    if (RING_BYTES - (the_log.tail - the_log.head) >= n)
        ring_put(line, (uint32_t)n);
    else
        the_log.dropped_n++;
    /* What comes with each login can wait for the control loop's next tick. */
    bool calls = !the_log.called &&
                 (level <= LOG_LEVEL_WARNING || the_log.tail - the_log.head > RING_BYTES / 4);
    the_log.called |= calls;
    pthread_mutex_unlock(&the_log.lock);
    if (calls && the_log.event_fd >= 0 && eventfd_write(the_log.event_fd, 1) < 0)
        return; /* already signalled: the counter is as full as it gets */
}

static void write_out(const char *at, size_t n)
{
    int fds[] = {the_log.quiet ? -1 : STDERR_FILENO, the_log.file_fd};
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        for (size_t done = 0; fds[i] >= 0 && done < n;) {
            ssize_t k = write(fds[i], at + done, n - done);
            if (k < 0 && errno == EINTR)
                continue;
            if (k <= 0)
                break; /* a log that cannot be written must not stop the service */
            done += (size_t)k;
        }
}

/* One line to syslog, which has a clock of its own: what stands behind "] ". */
static void tell_syslog(const char *line, size_t n)
{
    const char *said = memmem(line, n, "] ", 2);
    if (!said)
        return;
    said += 2;
    n -= (size_t)(said - line);
    for (size_t i = 0; i < COUNT_OF(level_names); i++) {
        size_t name_n = strlen(level_names[i]);
        if (n > name_n && !memcmp(said, level_names[i], name_n) && said[name_n] == ' ') {
            syslog(syslog_levels[i], "%.*s", (int)(n - name_n - 1), said + name_n + 1);
            return;
        }
    }
}

static void tell_syslog_all(const char *at, size_t n)
{
    const char *end;
    while (n && (end = memchr(at, '\n', n))) {
        tell_syslog(at, (size_t)(end - at));
        n -= (size_t)(end + 1 - at);
        at = end + 1;
    }
}

void log_flush(void)
{
    static char out[RING_BYTES];
    eventfd_t ignored;
    /* Before the lines are taken: a call for one that comes behind them must stay. */
    if (the_log.event_fd >= 0 && eventfd_read(the_log.event_fd, &ignored) < 0)
        ignored = 0;
    pthread_mutex_lock(&the_log.lock);
    uint32_t n = the_log.tail - the_log.head;
    uint32_t at = the_log.head & (RING_BYTES - 1);
    uint32_t first = n < RING_BYTES - at ? n : RING_BYTES - at;
    memcpy(out, the_log.ring + at, first);
    memcpy(out + first, the_log.ring, n - first);
    the_log.head = the_log.tail;
    the_log.called = false;
    uint64_t lost_n = the_log.dropped_n - the_log.dropped_told_n;
    the_log.dropped_told_n = the_log.dropped_n;
    pthread_mutex_unlock(&the_log.lock);
    write_out(out, n);
    if (the_log.syslog)
        tell_syslog_all(out, n);
    if (lost_n)
        log_warning("log: %llu lines were dropped, they came faster than they could be written",
                    (unsigned long long)lost_n);
}

int log_fd(void)
{
    return the_log.event_fd;
}

uint64_t log_dropped_n(void)
{
    pthread_mutex_lock(&the_log.lock);
    uint64_t n = the_log.dropped_n;
    pthread_mutex_unlock(&the_log.lock);
    return n;
}
