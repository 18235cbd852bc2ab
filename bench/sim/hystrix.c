#include "bench/sim/hystrix.h"

#include <stdlib.h>

enum {
    WINDOW_US = 10 * US_PER_S,
    OPEN_US = 5 * US_PER_S,
    CALLS_MIN = 20,
    BAD_ONE_IN = 20, /* 5 % */
};

static void grow(struct hystrix *h)
{
    uint32_t cap_n = h->cap_n > 0 ? 2 * h->cap_n : 1024;
    struct hystrix_call *calls = calloc(cap_n, sizeof(*calls));

    must(calls != NULL);
    for (uint32_t i = h->tail; i != h->head; i++)
        calls[i & (cap_n - 1)] = h->calls[i & (h->cap_n - 1)];
    free(h->calls);
    h->calls = calls;
    h->cap_n = cap_n;
}

static void forget_old(struct hystrix *h, uint64_t now_us)
{
    while (h->tail != h->head && h->calls[h->tail & (h->cap_n - 1)].at_us + WINDOW_US < now_us)
        h->bad_n -= h->calls[h->tail++ & (h->cap_n - 1)].bad;
}

void hystrix_note(struct hystrix *h, bool bad, uint64_t now_us)
{
    forget_old(h, now_us);
    if (h->head - h->tail == h->cap_n)
        grow(h);
    h->calls[h->head++ & (h->cap_n - 1)] = (struct hystrix_call){now_us, bad};
    h->bad_n += bad;
}

bool hystrix_refuses(struct hystrix *h, uint64_t now_us)
{
    if (h->open_until_us > now_us)
        return true;
    if (h->open_until_us > 0) { /* half open: judged anew */
        h->open_until_us = 0;
        h->tail = h->head;
        h->bad_n = 0;
        return false;
    }
    forget_old(h, now_us);
    uint32_t n = h->head - h->tail;
    if (n < CALLS_MIN || h->bad_n < (n + BAD_ONE_IN - 1) / BAD_ONE_IN)
        return false;
    h->open_until_us = now_us + OPEN_US;
    return true;
}

void hystrix_free(struct hystrix *h)
{
    free(h->calls);
    *h = (struct hystrix){0};
}
