/* The value of a [databases], [users] or [peers] line: key=value key='quoted ''value''' ... */
#ifndef CONFIG_CONNSTR_H
#define CONFIG_CONNSTR_H

#include "config/arena.h"

struct connstr_pair {
    const char *key, *value; /* of the arena; key NULL: the end was reached */
};
/* Takes the next pair and moves *text behind it. */
MUST_USE bool connstr_next(const char **text, struct connstr_pair *pair, struct arena *arena,
                           struct err *err);

#endif
