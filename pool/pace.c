#include "pool/pace.h"

enum { FILL_US_MIN = US_PER_MS }; /* filled no oftener: what rounding loses stays below 0.1 % */

void pace_init(struct pace *p)
{
    *p = (struct pace){.rate_bytes_per_s = PACE_RATE_NONE};
}

/* What it holds at most, and what is owed at most. Without the first limit a class that rested for
 * a minute would read for a minute; without the second, one that was let through its trickle at a
 * rate below that would never get out of debt. */
static int64_t burst_bytes(uint64_t rate_bytes_per_s)
{
    int64_t least = 2 * (int64_t)PACE_PIECE_BYTES;
    int64_t burst = (int64_t)((double)rate_bytes_per_s * PACE_BURST_US / US_PER_S);

    return burst > least ? burst : least;
}

static int64_t within(int64_t tokens, int64_t burst)
{
    if (tokens > burst)
        return burst;
    return tokens < -burst ? -burst : tokens;
}

static void add(struct pace *p, int64_t bytes, int64_t burst)
{
    int64_t tokens = atomic_load_explicit(&p->tokens, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(&p->tokens, &tokens,
                                                  within(tokens + bytes, burst),
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

void pace_set_rate(struct pace *p, uint64_t rate_bytes_per_s)
{
    bool was_limited = pace_limited(p);
    bool limits = rate_bytes_per_s != PACE_RATE_NONE;

    if (limits && !was_limited) {
        /* It begins empty: a limit is set because it has been too much already. */
        atomic_store_explicit(&p->tokens, 0, memory_order_relaxed);
        atomic_store_explicit(&p->filled_us, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&p->rate_bytes_per_s, rate_bytes_per_s, memory_order_release);
    if (limits && was_limited)
        add(p, 0, burst_bytes(rate_bytes_per_s));
}

/* What time has brought. One of those who ask at the same moment adds it. */
static void fill(struct pace *p, uint64_t rate_bytes_per_s, uint64_t now_us)
{
    uint64_t filled_us = atomic_load_explicit(&p->filled_us, memory_order_relaxed);
    int64_t burst = burst_bytes(rate_bytes_per_s);

    if (filled_us == 0) {
        atomic_compare_exchange_strong_explicit(&p->filled_us, &filled_us, now_us,
                                                memory_order_relaxed, memory_order_relaxed);
        return;
    }
    /* Clocks of two loops, read a moment ago, may be in any order. */
    if (now_us < filled_us + FILL_US_MIN)
        return;
    double bytes = (double)(now_us - filled_us) * (double)rate_bytes_per_s / US_PER_S;
    if (bytes < 1)
        return;
    uint64_t next_us = now_us;
    if (bytes >= 2 * (double)burst) {
        bytes = 2 * (double)burst; /* from the deepest debt to the brim */
    } else {
        /* Only the time that whole bytes took: the rest of it counts the next time. */
        bytes = (double)(int64_t)bytes;
        next_us = filled_us + (uint64_t)(bytes * US_PER_S / (double)rate_bytes_per_s) + 1;
        next_us = next_us > now_us ? now_us : next_us;
    }
    if (atomic_compare_exchange_strong_explicit(&p->filled_us, &filled_us, next_us,
                                                memory_order_relaxed, memory_order_relaxed))
        add(p, (int64_t)bytes, burst);
}

uint32_t pace_turn_bytes(const struct pace *p)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);

    if (rate >= (uint64_t)PACE_TURN_BYTES_MAX * US_PER_S / PACE_FILL_US)
        return PACE_TURN_BYTES_MAX;
    uint32_t beat_bytes = (uint32_t)(rate * PACE_FILL_US / US_PER_S);
    return beat_bytes > PACE_PIECE_BYTES ? beat_bytes : PACE_PIECE_BYTES;
}

bool pace_take(struct pace *p, uint32_t bytes, uint64_t now_us)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_acquire);

    must(bytes > 0);
    if (rate != PACE_RATE_NONE)
        fill(p, rate, now_us);
    int64_t tokens = atomic_load_explicit(&p->tokens, memory_order_relaxed);
    do {
        if (rate == PACE_RATE_NONE)
            break; /* lifted a moment ago */
        if (tokens <= 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&p->tokens, &tokens, tokens - (int64_t)bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    atomic_fetch_add_explicit(&p->paced_bytes, bytes, memory_order_relaxed);
    return true;
}

void pace_give(struct pace *p, uint32_t bytes)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);

    atomic_fetch_sub_explicit(&p->paced_bytes, bytes, memory_order_relaxed);
    if (rate != PACE_RATE_NONE)
        add(p, (int64_t)bytes, burst_bytes(rate));
}

void pace_trickle(struct pace *p, uint32_t bytes)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);

    atomic_fetch_add_explicit(&p->paced_bytes, bytes, memory_order_relaxed);
    if (rate != PACE_RATE_NONE)
        add(p, -(int64_t)bytes, burst_bytes(rate));
}

void pace_join(struct pace *p)
{
    atomic_fetch_add_explicit(&p->streams_n, 1, memory_order_relaxed);
}

void pace_leave(struct pace *p)
{
    uint32_t before_n = atomic_fetch_sub_explicit(&p->streams_n, 1, memory_order_relaxed);

    must(before_n > 0);
}

void pace_note_held(struct pace *p, uint64_t held_us)
{
    atomic_fetch_add_explicit(&p->held_us, held_us, memory_order_relaxed);
}
