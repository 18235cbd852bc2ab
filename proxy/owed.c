#include "proxy/owed.h"

#include <stdlib.h>
#include <string.h>

static struct owed_entry *slots(struct owed *o)
{
    return o->grown ? o->grown : o->first;
}

static uint32_t capacity(const struct owed *o)
{
    return o->grown ? o->cap : OWED_INLINE;
}

static struct owed_entry *slot(struct owed *o, uint32_t i)
{
    return &slots(o)[i & (capacity(o) - 1)];
}

static bool grow(struct owed *o)
{
    uint32_t cap = capacity(o) * 2;
    if (cap > OWED_MAX)
        return false;
    struct owed_entry *grown = malloc(cap * sizeof *grown);
    if (!grown)
        return false;
    uint32_t n = owed_n(o);
    for (uint32_t i = 0; i < n; i++)
        grown[i] = *slot(o, o->head + i);
    free(o->grown);
    o->grown = grown;
    o->cap = cap;
    o->head = 0;
    o->tail = n;
    return true;
}

bool owed_push(struct owed *o, struct owed_entry entry)
{
    if (owed_n(o) == capacity(o) && !grow(o))
        return false;
    *slot(o, o->tail++) = entry;
    return true;
}

struct owed_entry *owed_head(struct owed *o)
{
    return o->head == o->tail ? NULL : slot(o, o->head);
}

struct owed_entry *owed_at(struct owed *o, uint32_t i)
{
    must(i < owed_n(o));
    return slot(o, o->head + i);
}

struct owed_entry owed_pop(struct owed *o)
{
    must(o->head != o->tail);
    return *slot(o, o->head++);
}

uint32_t owed_drop_syncs(struct owed *o)
{
    uint32_t kept = o->head;
    for (uint32_t i = o->head; i != o->tail; i++)
        if (slot(o, i)->kind != OWED_SYNC)
            *slot(o, kept++) = *slot(o, i);
    uint32_t dropped_n = o->tail - kept;
    o->tail = kept;
    return dropped_n;
}

void owed_clear(struct owed *o)
{
    free(o->grown);
    memset(o, 0, sizeof *o);
}
