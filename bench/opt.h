/* Command lines of the load generators: a table of what is understood, and one loop that reads it.
 *
 * Every option is --name=value or, where it takes none, --name. A number has bounds; a time is
 * given in milliseconds and kept in microseconds. One argument stands without a name: the conninfo.
 */
#ifndef BENCH_OPT_H
#define BENCH_OPT_H

#include "breaker/base.h"

enum opt_kind {
    OPT_REAL,  /* double */
    OPT_COUNT, /* uint32_t */
    OPT_SEED,  /* uint64_t, not 0 */
    OPT_MS,    /* uint64_t of microseconds */
    OPT_TEXT,  /* const char *, of the command line */
    OPT_FLAG,  /* bool, set to true */
    OPT_OWN,   /* parse(into, text) says whether it understood */
};

struct opt {
    const char *name;
    enum opt_kind kind;
    void *into;
    double min, max; /* REAL, COUNT, MS; max 0: a thousand million */
    bool (*parse)(void *into, char *text);
};

enum { OPT_LIST_MAX = 16 };
struct opt_list {
    uint32_t n;
    char *at[OPT_LIST_MAX];
};

/* Fills what the table points to; false: the usage has to be shown. */
MUST_USE bool opt_parse(const struct opt *table, uint32_t table_n, int argc, char **argv,
                        const char **conninfo);
/* Splits the text at commas, in place; empty elements count. A parse() of struct opt. */
bool opt_parse_list(void *list, char *text);
/* Adds the whole text as one element: an option that may be given several times. */
bool opt_parse_more(void *list, char *text);

#endif
