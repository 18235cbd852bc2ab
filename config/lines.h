/* The lines of [databases], [users] and [peers], each a name with key=value pairs. */
#ifndef CONFIG_LINES_H
#define CONFIG_LINES_H

#include "config/keys.h"
#include "config/snapshot.h"

/* Called for each pair that was understood. */
typedef void (*lines_seen_fn)(void *arg, const struct key *key, const char *text,
                              struct report_place at);
struct lines {
    struct config *cfg;
    struct config_report *report;
    lines_seen_fn seen;
    void *arg;
};

/* A later line of the same name replaces the whole former one. False: the report says why. */
MUST_USE bool lines_database(struct lines *l, const struct ini_statement *s);
MUST_USE bool lines_user(struct lines *l, const struct ini_statement *s);
MUST_USE bool lines_peer(struct lines *l, const struct ini_statement *s);

#endif
