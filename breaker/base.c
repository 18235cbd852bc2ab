#include "breaker/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void must_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: must hold, and does not: %s\n", file, line, what);
    abort();
}

bool err_set(struct err *err, const char *sqlstate, const char *fmt, ...)
{
    if (!err)
        return false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    memset(err->sqlstate, 0, sizeof err->sqlstate);
    memcpy(err->sqlstate, sqlstate, 5);
    return false;
}
