#include "proxy/buf.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>

/* The least capacity that holds n bytes. */
static uint32_t buf_cap_for(uint32_t n)
{
    must(n <= BUF_BYTES_MAX);
    return n <= BUF_BYTES_MIN ? BUF_BYTES_MIN : 1u << (32 - __builtin_clz(n - 1));
}

/* Everything up to `end` may be touched, nothing behind it. */
static void buf_poison(const struct buf *b)
{
    ASAN_UNPOISON_MEMORY_REGION(b->at, b->end);
    ASAN_POISON_MEMORY_REGION(b->at + b->end, b->cap - b->end);
}

static bool buf_move(struct buf *b, uint32_t cap)
{
    uint32_t used = buf_used(b);
    uint8_t *at = malloc(cap);

    if (!at)
        return false;
    if (used > 0)
        memcpy(at, b->at + b->start, used);
    free(b->at);
    b->at = at;
    b->start = 0;
    b->end = used;
    b->cap = cap;
    buf_poison(b);
    return true;
}

bool buf_reserve(struct buf *b, size_t n)
{
    uint32_t used = buf_used(b);
    uint32_t cap;

    must(b->max <= BUF_BYTES_MAX);
    must(b->start <= b->end && b->end <= b->cap);
    if (used > b->max || n > b->max - used)
        return false;
    if (n <= b->cap - b->end)
        return true;
    cap = buf_cap_for(used + (uint32_t)n);
    if (cap > b->cap)
        return buf_move(b, cap);
    /* Enough in all, but not in one piece: what was taken becomes room. */
    ASAN_UNPOISON_MEMORY_REGION(b->at, b->cap);
    memmove(b->at, b->at + b->start, used);
    b->start = 0;
    b->end = used;
    buf_poison(b);
    return true;
}

uint8_t *buf_room(struct buf *b, size_t *n_out)
{
    uint32_t used = buf_used(b);
    uint32_t allowed = used < b->max ? b->max - used : 0;
    uint32_t free_n = b->cap - b->end;

    *n_out = free_n < allowed ? free_n : allowed;
    if (*n_out == 0)
        return b->at;
    /* Opened for the caller; buf_filled() closes what was not used. */
    ASAN_UNPOISON_MEMORY_REGION(b->at + b->end, *n_out);
    return b->at + b->end;
}

void buf_filled(struct buf *b, size_t n)
{
    must(n <= b->cap - b->end);
    if (!b->at)
        return;
    b->end += (uint32_t)n;
    if (b->start == b->end)
        buf_free(b);
    else
        buf_poison(b);
}

bool buf_put(struct buf *b, const void *bytes, size_t n)
{
    if (!buf_reserve(b, n))
        return false;
    if (n == 0)
        return true;
    ASAN_UNPOISON_MEMORY_REGION(b->at + b->end, n);
    memcpy(b->at + b->end, bytes, n);
    b->end += (uint32_t)n;
    return true;
}

bool buf_put_u8(struct buf *b, uint8_t value)
{
    return buf_put(b, &value, sizeof(value));
}

bool buf_put_u16(struct buf *b, uint16_t value)
{
    value = __builtin_bswap16(value);
    return buf_put(b, &value, sizeof(value));
}

bool buf_put_u32(struct buf *b, uint32_t value)
{
    value = __builtin_bswap32(value);
    return buf_put(b, &value, sizeof(value));
}

bool buf_put_cstr(struct buf *b, const char *text)
{
    return buf_put(b, text, strlen(text) + 1);
}

bool buf_put_view(struct buf *b, struct view v)
{
    must(!v.bad);
    return buf_put(b, v.at, v.n);
}

void buf_set_u32(struct buf *b, uint32_t at, uint32_t value)
{
    must(at <= buf_used(b) && buf_used(b) - at >= sizeof(value));
    value = __builtin_bswap32(value);
    memcpy(b->at + b->start + at, &value, sizeof(value));
}

void buf_truncate(struct buf *b, uint32_t used)
{
    must(used <= buf_used(b));
    if (used == 0) {
        buf_free(b);
        return;
    }
    b->end = b->start + used;
    buf_poison(b);
}

void buf_take(struct buf *b, size_t n)
{
    must(n <= buf_used(b));
    b->start += (uint32_t)n;
    if (b->start == b->end)
        buf_free(b);
}

void buf_free(struct buf *b)
{
    free(b->at);
    b->at = NULL;
    b->start = b->end = b->cap = 0;
}
