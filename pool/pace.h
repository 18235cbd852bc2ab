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
    PACE_PORTION_BYTES_MAX = 1 << 20,
    PACE_TRICKLE_US = 2 * US_PER_S, /* each stream moves at least a piece in so long ... */
    PACE_HUNGRY_US = 3 * PACE_TRICKLE_US / 4, /* ... and may from here on, one in each beat */
    PACE_FILL_US = 20 * US_PER_MS,   /* how often a loop asks again for those it does not read */
    PACE_BURST_US = 100 * US_PER_MS, /* the bucket holds so much of the rate, or two pieces */
    PACE_TURN_US = 250 * US_PER_MS,
    PACE_IDLE_US = 3 * PACE_FILL_US,
};
#define PACE_RATE_NONE UINT64_MAX

struct pace {
    _Atomic uint64_t rate_bytes_per_s; /* PACE_RATE_NONE: not limited */
    _Atomic int64_t tokens;            /* bytes; below 0: owed */
    _Atomic uint64_t filled_us;        /* 0: the next asker starts the clock */
    _Atomic uint64_t tickets;          /* drawn so far */
    _Atomic uint64_t serving;          /* the one whose turn it is */
    _Atomic uint64_t next_up;    /* the first of those who have asked behind it; 0: nobody has */
    _Atomic uint64_t turn_us;    /* when that began ... */
    _Atomic uint64_t asked_us;   /* ... and when it last asked */
    _Atomic uint64_t starved_us; /* when somebody got a piece before it had to be */
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
/* What the stream whose turn it is may read at a time: what the class may in one PACE_FILL_US,
 * within bounds. */
MUST_USE uint32_t pace_portion_bytes(const struct pace *p);
/* Whether it is this stream's turn, whose *ticket is 0 to begin with; to be asked in each beat in
 * which it could read. One stream of a class reads at a time, in the order in which they asked,
 * each for PACE_TURN_US if others wait: so one backend of PostgreSQL runs for them, not all. Each
 * that is woken runs a while before users get the processor back: ten streams that shared 16 MB/s
 * had users wait 250 ms at the 99th percentile, where one at full speed, 67 MB/s, cost them 20. At
 * 50 MiB/s and more, and where the one does not use what there is, the others read as well.
 * Whoever has not asked for PACE_IDLE_US loses its turn. */
MUST_USE bool pace_turn(struct pace *p, uint64_t *ticket, uint64_t now_us);
/* It needs no more turns. */
void pace_turn_over(struct pace *p, uint64_t *ticket);
/* Whether these bytes may be read now. What is not used goes back with pace_give(). */
MUST_USE bool pace_take(struct pace *p, uint32_t bytes, uint64_t now_us);
/* Bytes that were taken and not read. */
void pace_give(struct pace *p, uint32_t bytes);
/* Whether a stream that has not been read for so long gets a piece out of turn: after
 * PACE_TRICKLE_US in any case, and one in each beat some time before that; or all that wait since
 * the same moment would wake their backends in one. */
MUST_USE bool pace_starves(struct pace *p, uint64_t unread_us, uint64_t now_us);
/* Bytes out of turn: always granted, and owed. */
void pace_trickle(struct pace *p, uint32_t bytes);

/* A stream begins, or ends, to be paced. */
void pace_join(struct pace *p);
void pace_leave(struct pace *p);
/* One was not read for so long. */
void pace_note_held(struct pace *p, uint64_t held_us);

#endif
