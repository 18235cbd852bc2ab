/* What a lease tells of itself to the tick: whether bytes flow that could be held back. */
#ifndef POOL_LEASE_H
#define POOL_LEASE_H

#include <stdatomic.h>

#include "pool/pool.h"

enum {
    LEASE_STREAM_BYTES = 1 << 20,     /* a result this long ... */
    LEASE_STREAM_QUIET_US = US_PER_S, /* ... with a byte so recent streams */
};

/* Its result can be held back by not reading it: everything else only a cancel ends. */
static inline bool lease_streams(const struct pool_server *s, uint64_t now_us)
{
    if (atomic_load_explicit(&s->stmt_copy_out, memory_order_relaxed) ||
        atomic_load_explicit(&s->paced_tx_us, memory_order_relaxed) != 0)
        return true;
    return atomic_load_explicit(&s->stmt_bytes, memory_order_relaxed) >= LEASE_STREAM_BYTES &&
           atomic_load_explicit(&s->last_byte_us, memory_order_relaxed) + LEASE_STREAM_QUIET_US >=
               now_us;
}

#endif
