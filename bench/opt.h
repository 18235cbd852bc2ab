/* Numbers on the command lines of the load generators. */
#ifndef BENCH_OPT_H
#define BENCH_OPT_H

#include "breaker/base.h"

#include <stdlib.h>

/* The whole text as a number above 0 and up to a thousand million, which fits all they are kept in;
 * 0 where it is not one. */
static inline double opt_number(const char *text)
{
    char *end;
    double number = strtod(text, &end);
    return end == text || *end || !(number > 0 && number <= 1e9) ? 0 : number;
}

#endif
