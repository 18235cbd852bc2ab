/* A new configuration for a process that runs: RELOAD, SIGHUP and SET.
 *
 * All of it is made ready first (files, passwords, TLS contexts, the log's file); only then
 * anything changes. A file with a mistake in it leaves everything as it was; the log tells each
 * one. Control loop. */
#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include "breaker/base.h"
#include "pool/class.h"

struct listen;
struct proxy;

struct reload {
    struct proxy *proxy;
    struct listen **listen;   /* *listen may be NULL: closed */
    const char *const *files; /* of the command line */
    size_t files_n;
    bool quiet; /* of the command line, like the least verbosity */
    int verbose;
    /* SET BREAKER, until the next RELOAD; by class */
    bool breaker_is_set[CLASSES_MAX];
    enum class_breaker breaker[CLASSES_MAX];
};

/* Reads the files again. False: err is what the console says. */
MUST_USE bool reload_files(struct reload *r, struct err *err);
/* auth_file is another than it was: only that is read again. To be asked now and then, as PgBouncer
 * does. False: it cannot be read; nothing changed. */
MUST_USE bool reload_users(struct reload *r, struct err *err);
/* SET key = value. */
MUST_USE bool reload_set(struct reload *r, const char *key, const char *value, struct err *err);
/* SET BREAKER class mode. */
MUST_USE bool reload_set_breaker(struct reload *r, const char *class_name, const char *mode,
                                 struct err *err);

#endif
