/* Bytes the other side would not take yet, and messages being put together.
 *
 *      at          start            end              cap
 *      | taken     | used           | poisoned       |        used = end - start <= max
 *
 * The memory exists only while there are bytes in it: the first put allocates, the take of the last
 * byte frees. Capacities are powers of two (128 bytes up), never above the least power of two that
 * holds `max`. Bytes past `end` are poisoned under AddressSanitizer. Exceeding `max` and running
 * out of memory are the same answer, false, and leave the contents as they were: the owner ends a
 * session.
 */
#ifndef PROXY_BUF_H
#define PROXY_BUF_H

#include "breaker/base.h"
#include "proxy/view.h"

enum {
    BUF_BYTES_MIN = 128,     /* an error message or a row of the console fits */
    BUF_BYTES_MAX = 1 << 30, /* what `max` may be at most: doubling stays within 32 bits */
};

/* Zero is a valid empty buffer once `max` is set: struct buf b = {.max = 64 << 10}. */
struct buf {
    uint8_t *at;
    uint32_t start, end, cap;
    uint32_t max; /* most bytes it may hold, chosen by the owner */
};

static inline uint32_t buf_used(const struct buf *b)
{
    return b->end - b->start;
}

/* The bytes not taken yet; valid until the next call that changes b. */
static inline struct view buf_view(const struct buf *b)
{
    return b->at ? view_of(b->at + b->start, buf_used(b)) : view_of("", 0);
}

/* Makes room for n more bytes; may move what is there. */
MUST_USE bool buf_reserve(struct buf *b, size_t n);
/* The room behind the last byte, for recv(); *n_out is its size, 0 before a buf_reserve(). */
uint8_t *buf_room(struct buf *b, size_t *n_out);
/* n bytes were written into buf_room(). */
void buf_filled(struct buf *b, size_t n);

MUST_USE bool buf_put(struct buf *b, const void *bytes, size_t n);
MUST_USE bool buf_put_u8(struct buf *b, uint8_t value);
MUST_USE bool buf_put_u16(struct buf *b, uint16_t value);
MUST_USE bool buf_put_u32(struct buf *b, uint32_t value);
/* The text and its NUL. */
MUST_USE bool buf_put_cstr(struct buf *b, const char *text);
MUST_USE bool buf_put_view(struct buf *b, struct view v);

/* Overwrites four bytes that are there, counted from the first byte not taken: for lengths. */
void buf_set_u32(struct buf *b, uint32_t at, uint32_t value);
/* Drops what was put last, so that `used` bytes remain. */
void buf_truncate(struct buf *b, uint32_t used);
/* Forgets the first n bytes; the last one frees the memory. */
void buf_take(struct buf *b, size_t n);
/* Forgets all and frees; max stays. */
void buf_free(struct buf *b);

#endif
