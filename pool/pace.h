/* How fast the running results of a class may be read from one upstream: a token bucket of bytes,
 * shared by all loops, filled by the clock of whoever asks.
 *
 * The tick sets the rate (the lower of the operator's byte_rate and what the breaker asks for); a
 * loop takes from the bucket before it reads from a server whose class is limited, and does not
 * read while it is empty. A stream that has had nothing for PACE_TRICKLE_US gets PACE_PIECE_BYTES
 * out of turn, in debt: a pause must not look like a dead client to PostgreSQL (tcp_user_timeout),
 * nor hold one buffer's pin for ever (VACUUM FREEZE waits for it).
 *
 * No lock, and nothing at all for classes that are not limited but one relaxed load:
 * `pace_limited`. Time is an argument. */
#ifndef POOL_PACE_H
#define POOL_PACE_H

#include <stdatomic.h>

#include "breaker/base.h"

enum {
    PACE_PIECE_BYTES = 64 << 10,     /* most that is read at one go from a limited stream */
    PACE_TRICKLE_US = 2 * US_PER_S,  /* each stream moves at least a piece in so long */
    PACE_FILL_US = 20 * US_PER_MS,   /* how often a loop asks again for those it does not read */
    PACE_BURST_US = 100 * US_PER_MS, /* the bucket holds so much of the rate, and two pieces */
};
#define PACE_RATE_NONE UINT64_MAX

struct pace {
    _Atomic uint64_t rate_bytes_per_s; /* PACE_RATE_NONE: not limited */
    _Atomic int64_t tokens;            /* bytes; below 0 after what was read out of turn */
    _Atomic uint64_t filled_us;
    /* for people */
    _Atomic uint64_t paced_bytes;  /* read while limited */
    _Atomic uint64_t held_us;      /* times streams were not read for want of tokens, added up */
    _Atomic uint32_t streams_n;    /* of them, now */
    _Atomic uint64_t oldest_tx_us; /* start of the oldest transaction being held back; 0: none */
};

void pace_init(struct pace *p);
/* Takes effect at once. rate 0 means nothing but the trickle. */
void pace_set_rate(struct pace *p, uint64_t rate_bytes_per_s);
static inline bool pace_limited(const struct pace *p)
{
    return atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed) != PACE_RATE_NONE;
}
/* How many of `want` bytes may be read now; 0: none. What is not used goes back with pace_give().
 */
MUST_USE uint32_t pace_take(struct pace *p, uint32_t want_bytes, uint64_t now_us);
/* Bytes that were taken and not read. */
void pace_give(struct pace *p, uint32_t bytes);
/* A piece out of turn: always granted, and owed. */
void pace_trickle(struct pace *p, uint32_t bytes);

#endif
