/* Bytes whose end is the end of the world: right behind them lies a page that may not be touched,
 * so a parser that reads one byte too far dies there, with or without a sanitizer. */
#ifndef TESTS_GUARD_H
#define TESTS_GUARD_H

#include "breaker/base.h"

#include <string.h>
#include <sys/mman.h>

enum { GUARD_PAGE = 4096, GUARD_BYTES = 64 * GUARD_PAGE };

/* A copy of n bytes, valid until the next call. */
static inline uint8_t *guard_copy(const void *bytes, size_t n)
{
    static uint8_t *map;

    must(n <= GUARD_BYTES);
    if (!map) {
        map = mmap(NULL, GUARD_BYTES + GUARD_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(map != MAP_FAILED);
        must(mprotect(map + GUARD_BYTES, GUARD_PAGE, PROT_NONE) == 0);
    }
    uint8_t *at = map + GUARD_BYTES - n;
    if (n > 0)
        memcpy(at, bytes, n);
    return at;
}

#endif
