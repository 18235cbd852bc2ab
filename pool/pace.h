/* How fast the running results of a class may be read from one upstream: a token bucket of bytes,
 * shared by all loops, filled by the clock of whoever asks.
 *
 * The tick sets the rate (the lower of the operator's byte_rate and what the breaker asks for); a
 * loop takes from the bucket before it reads from a server whose class is limited, and does not
 * read while it is empty. A stream that has had nothing for PACE_TRICKLE_US gets PACE_PIECE_BYTES
 * out of turn, in debt: a pause must not look like a dead client to PostgreSQL (tcp_user_timeout),
 * nor hold one buffer's pin for ever (VACUUM FREEZE waits for it).
 *
 * Whoever finds a token gets all the bytes it asks for, and the bucket goes below zero: no reads of
 * a few bytes, and the rate is right all the same, because nobody gets any before that is paid.
 *
 * No lock, and nothing at all for classes that are not limited but one relaxed load:
 * `pace_limited`. Time is an argument. All fields are atomic; the rate has one writer, who holds
 * the upstream's lock. */
#ifndef POOL_PACE_H
#define POOL_PACE_H

#include <stdatomic.h>

#include "breaker/base.h"

enum {
    PACE_PIECE_BYTES = 64 << 10, /* most that is read at one go from a limited stream */
    PACE_TURN_BYTES_MAX = 1 << 20,
    PACE_TRICKLE_US = 2 * US_PER_S,  /* each stream moves at least a piece in so long */
    PACE_FILL_US = 20 * US_PER_MS,   /* how often a loop asks again for those it does not read */
    PACE_BURST_US = 100 * US_PER_MS, /* the bucket holds so much of the rate, or two pieces */
};
#define PACE_RATE_NONE UINT64_MAX

struct pace {
    _Atomic uint64_t rate_bytes_per_s; /* PACE_RATE_NONE: not limited */
    _Atomic int64_t tokens;            /* bytes; below 0: owed */
    _Atomic uint64_t filled_us;        /* 0: the next asker starts the clock */
    /* for people */
    _Atomic uint64_t paced_bytes;  /* read while limited */
    _Atomic uint64_t held_us;      /* times streams were not read for want of tokens, added up */
    _Atomic uint32_t streams_n;    /* being paced now */
    _Atomic uint64_t oldest_tx_us; /* start of the oldest transaction among them; 0: none */
};

void pace_init(struct pace *p);
/* Takes effect at once. rate 0 means nothing but the trickle. */
void pace_set_rate(struct pace *p, uint64_t rate_bytes_per_s);
static inline bool pace_limited(const struct pace *p)
{
    return atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed) != PACE_RATE_NONE;
}
/* What one stream may read before the next has its turn: what the class may in one PACE_FILL_US,
 * within bounds. A few that read much keep few backends of PostgreSQL running at a time; if all of
 * them got a piece at once, they would all run at once, and users would wait for so many processes'
 * turns on the processor. */
MUST_USE uint32_t pace_turn_bytes(const struct pace *p);
/* Whether these bytes may be read now. What is not used goes back with pace_give(). */
MUST_USE bool pace_take(struct pace *p, uint32_t bytes, uint64_t now_us);
/* Bytes that were taken and not read. */
void pace_give(struct pace *p, uint32_t bytes);
/* Bytes out of turn: always granted, and owed. */
void pace_trickle(struct pace *p, uint32_t bytes);

/* A stream begins, or ends, to be paced. */
void pace_join(struct pace *p);
void pace_leave(struct pace *p);
/* One was not read for so long. */
void pace_note_held(struct pace *p, uint64_t held_us);

#endif
