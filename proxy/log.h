/* The log: one line, one fact, in PgBouncer's format, so that what watches its log watches ours.
 *
 * Any thread may write; a line is formatted by the writer and copied into one ring under a short
 * lock. The control loop alone writes the ring to stderr, file and syslog (log_flush), so that no
 * worker ever waits for a disk. A full ring drops lines and counts them; the count is a line
 * itself. */
#ifndef PROXY_LOG_H
#define PROXY_LOG_H

#include "breaker/base.h"

enum log_level {
    LOG_LEVEL_FATAL,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_LOG,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_NOISE
};

struct log_opts {
    const char *file; /* "" or NULL: none */
    bool quiet;       /* nothing to stderr */
    bool syslog;
    const char *syslog_ident;
    const char *syslog_facility;
    int verbose; /* 1: DEBUG, 2 and more: NOISE */
};

/* Opens or reopens (after rotation) the targets. The strings are copied. */
bool log_open(const struct log_opts *opts, struct err *err);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Whether lines of this level are kept, so that costly arguments need not be made. */
bool log_wants(enum log_level level);
/* Writes out what has been logged. Control loop, and everybody before there are loops. */
void log_flush(void);
/* Readable while there is something that should not wait for a tick; for the control loop. */
int log_fd(void);
uint64_t log_dropped_n(void);

#define log_fatal(...) log_write(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_LOG, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_wants(LOG_LEVEL_DEBUG))                                                            \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                               \
    } while (0)

#endif
