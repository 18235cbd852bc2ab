/* Deadlines of waiters: a wheel of slots of 100 ms, so that neither joining nor leaving nor looking
 * for who is late ever walks the queue. A deadline is noticed when its slot has passed, that is, at
 * most 100 ms late plus the tick; one beyond the horizon sits in the last slot and is put off again
 * when that comes round.
 */
#ifndef POOL_DUE_H
#define POOL_DUE_H

#include "pool/pool.h"

enum {
    DUE_SLOT_US = 100 * US_PER_MS,
    DUE_SLOTS = 2048, /* 204 s: beyond query_wait_timeout's 120 s */
};

struct due {
    uint64_t next_n; /* slots below this number have been emptied */
    uint32_t waiters_n;
    struct pool_waiter *slots[DUE_SLOTS];
};

/* w->due_us says when; 0 is never, and nothing is done then. */
void due_add(struct due *d, struct pool_waiter *w);
void due_remove(struct due *d, struct pool_waiter *w);
/* Somebody whose time is up, or NULL. He stays in the wheel: due_remove() him. */
struct pool_waiter *due_first(struct due *d, uint64_t now_us);

#endif
