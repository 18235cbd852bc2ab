/* A new configuration for a process that runs: RELOAD, SIGHUP and SET.
 *
 * All of it is made ready first (files, passwords, TLS contexts, classes); only then anything
 * changes. A file with a mistake in it leaves everything as it was, the log tells each one. */
#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include "breaker/base.h"
#include "pool/class.h"

struct proxy;

struct reload_opts {
    const char *const *files;
    size_t files_n;
    bool quiet; /* of the command line */
    int verbose;
};

/* Reads the files again, and the log's file is opened anew. False: err is what the console says. */
MUST_USE bool reload_files(struct proxy *p, const struct reload_opts *opts, struct err *err);
/* SET key = value. The next reload_files() forgets it. */
MUST_USE bool reload_set(struct proxy *p, const struct reload_opts *opts, const char *key,
                         const char *value, struct err *err);
/* SET BREAKER class mode, likewise. */
MUST_USE bool reload_set_breaker(struct proxy *p, const char *class_name, enum class_breaker mode,
                                 struct err *err);

#endif
