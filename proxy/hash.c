#include "proxy/hash.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "breaker/base.h"

static uint64_t point;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose_point(void)
{
    must(getrandom(&point, sizeof point, 0) == sizeof point);
    point = (point >> 3) | 1;
}

uint64_t hash_bytes(const void *at, size_t n)
{
    const uint64_t prime = (UINT64_C(1) << 61) - 1;
    const uint8_t *bytes = at;
    uint64_t h = n;
    pthread_once(&once, choose_point);
    while (n) {
        uint64_t word = 0;
        size_t part = n < 7 ? n : 7; /* fits below the prime */
        memcpy(&word, bytes, part);
        unsigned __int128 product = (unsigned __int128)h * point + word;
        h = (uint64_t)(product & prime) + (uint64_t)(product >> 61);
        h = (h & prime) + (h >> 61);
        bytes += part;
        n -= part;
    }
    return h;
}
