/* Memory of one configuration snapshot: taken piece by piece while it is built, given back at once.
 */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include "breaker/base.h"

struct arena_block;
struct arena {
    struct arena_block *newest;
    size_t used_bytes, taken_bytes; /* of all blocks: handed out, and asked of the system */
};

/* Zeroed memory for any type, or NULL when the system has none. */
MUST_USE void *arena_take(struct arena *a, size_t bytes);
/* A copy with a NUL behind it; text need not have one. */
MUST_USE char *arena_copy(struct arena *a, const char *text, size_t bytes);
MUST_USE char *arena_copy_text(struct arena *a, const char *text);
/* Gives everything back; a is empty afterwards and may be used again. */
void arena_drop(struct arena *a);

#endif
