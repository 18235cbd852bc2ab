/* Reads ini files in PgBouncer's dialect into a list of statements, in the order they stand. */
#ifndef CONFIG_INI_H
#define CONFIG_INI_H

#include <stdio.h>

#include "config/arena.h"
#include "config/report.h"

enum {
    INI_INCLUDES_MAX = 10, /* PgBouncer's: depth of %include */
    INI_NAME_MAX = 127,    /* bytes of a key: the longest name is a user's */
    INI_SECTION_MAX = 49,  /* bytes: inih cuts longer ones */
    INI_STATEMENTS_MAX =
        1 << 20, /* of all files: an %include in a circle ends here at the latest */
};

/* One `key = value`, or one `[section]` (then key is NULL). Belongs to the arena. */
struct ini_statement {
    const char *section, *key, *value;
    struct report_place at;
    struct ini_statement *next;
};
struct ini_list {
    struct ini_statement *first, **end; /* end: where the next one goes */
    size_t n;
};
void ini_list_init(struct ini_list *list);
/* One more statement at the end; the strings are not copied. NULL when out of memory. */
struct ini_statement *ini_list_add(struct ini_list *list, struct arena *arena,
                                   const struct ini_statement *like);

/* How a file of this name is opened, for the first one and for each %include. NULL with errno. */
typedef FILE *(*ini_open_fn)(void *arg, const char *path);
struct ini_source {
    ini_open_fn open; /* NULL: fopen(), relative to the working directory */
    void *arg;
};
FILE *ini_open(const struct ini_source *source, const char *path);

/* Appends what stands in this file. Goes on after an error, so that the report has all of them;
 * false when there was one. */
MUST_USE bool ini_read(const char *path, const struct ini_source *source, struct ini_list *list,
                       struct arena *arena, struct config_report *report);

#endif
