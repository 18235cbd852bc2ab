/* A bump allocator. A snapshot is thousands of short strings that live and die together: one header
 * each would cost more than the strings, and one missed free() would leak at every reload.
 * Blocks double up to a bound, so that a configuration of ten lines costs one page and a password
 * file of 20,000 lines few calls. Nothing is ever given back singly. */
#include "config/arena.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES_MIN = 4096,    /* a page: most configurations fit */
    BLOCK_BYTES_MAX = 1 << 18, /* beyond this doubling only wastes the tail */
    ALIGN_BYTES = 16,          /* alignof(max_align_t) of every target */
};
_Static_assert(ALIGN_BYTES >= _Alignof(max_align_t), "the arena serves any type");

struct arena_block {
    struct arena_block *older;
    size_t used_bytes, cap_bytes;
    _Alignas(ALIGN_BYTES) char bytes[];
};

static struct arena_block *block_open(struct arena *a, size_t bytes)
{
    size_t cap = a->newest ? a->newest->cap_bytes * 2 : BLOCK_BYTES_MIN;
    if (cap > BLOCK_BYTES_MAX)
        cap = BLOCK_BYTES_MAX;
    if (cap < bytes)
        cap = bytes;
    struct arena_block *block = malloc(sizeof *block + cap);
    if (!block)
        return NULL;
    block->older = a->newest;
    block->used_bytes = 0;
    block->cap_bytes = cap;
    a->newest = block;
    a->taken_bytes += sizeof *block + cap;
    return block;
}

/* Strings are packed, everything else is aligned. */
static char *take(struct arena *a, size_t bytes, size_t align)
{
    if (bytes > PTRDIFF_MAX / 2)
        return NULL;
    struct arena_block *block = a->newest;
    size_t at = block ? (block->used_bytes + align - 1) / align * align : 0;
    if (!block || at > block->cap_bytes || bytes > block->cap_bytes - at) {
        block = block_open(a, bytes);
        if (!block)
            return NULL;
        at = 0;
    }
    must(at + bytes <= block->cap_bytes);
    block->used_bytes = at + bytes;
    a->used_bytes += bytes;
    return block->bytes + at;
}

void *arena_take(struct arena *a, size_t bytes)
{
    char *p = take(a, bytes, ALIGN_BYTES);
    return p ? memset(p, 0, bytes) : NULL;
}

char *arena_copy(struct arena *a, const char *text, size_t bytes)
{
    char *p = take(a, bytes + 1, 1);
    if (!p)
        return NULL;
    memcpy(p, text, bytes);
    p[bytes] = '\0';
    return p;
}

char *arena_copy_text(struct arena *a, const char *text)
{
    return arena_copy(a, text, strlen(text));
}

void arena_drop(struct arena *a)
{
    while (a->newest) {
        struct arena_block *block = a->newest;
        a->newest = block->older;
        free(block);
    }
    *a = (struct arena){0};
}
