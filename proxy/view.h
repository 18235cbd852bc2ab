/* A window of bytes somebody else owns, and the only way to read from it.
 *
 * Every take is checked; the first one that asks for more than there is sets `bad`, and from then
 * on every take yields zero, "" or an empty window. So a reader takes all fields in a row and asks
 * once at the end. `bad` says "broken": whether more bytes may still come is for wire_next() to
 * know.
 */
#ifndef PROXY_VIEW_H
#define PROXY_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct view {
    const uint8_t *at;
    size_t n;
    bool bad; /* sticky: a take went past the end */
};

static inline struct view view_of(const void *at, size_t n)
{
    return (struct view){.at = at, .n = n, .bad = false};
}

static inline struct view view_of_cstr(const char *text)
{
    return view_of(text, strlen(text));
}

/* The next n bytes, as a window of their own. */
static inline struct view view_take_bytes(struct view *v, size_t n)
{
    struct view taken = {.at = v->at, .n = n, .bad = false};

    if (v->bad || n > v->n) {
        v->bad = true;
        return (struct view){.at = v->at, .n = 0, .bad = true};
    }
    if (n > 0) /* an empty window may stand nowhere, and NULL + 0 is not defined */
        v->at += n;
    v->n -= n;
    return taken;
}

static inline uint8_t view_take_u8(struct view *v)
{
    struct view b = view_take_bytes(v, 1);

    return b.bad ? 0 : b.at[0];
}

static inline uint16_t view_take_u16(struct view *v)
{
    struct view b = view_take_bytes(v, 2);

    return b.bad ? 0 : (uint16_t)(b.at[0] << 8 | b.at[1]);
}

static inline uint32_t view_take_u32(struct view *v)
{
    struct view b = view_take_bytes(v, 4);
    uint32_t big;

    if (b.bad)
        return 0;
    memcpy(&big, b.at, sizeof(big));
    return __builtin_bswap32(big);
}

/* A string and its terminating NUL; text_n (may be NULL) is its length without the NUL. */
static inline const char *view_take_cstr(struct view *v, size_t *text_n)
{
    const uint8_t *nul = v->bad || v->n == 0 ? NULL : memchr(v->at, 0, v->n);
    const char *text = "";
    size_t n = 0;

    if (nul) {
        text = (const char *)v->at;
        n = (size_t)(nul - v->at);
        v->at = nul + 1;
        v->n -= n + 1;
    } else {
        v->bad = true;
    }
    if (text_n)
        *text_n = n;
    return text;
}

/* All was there, and nothing is left over. */
static inline bool view_done(const struct view *v)
{
    return !v->bad && v->n == 0;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "network order is made by a byte swap");

#endif
