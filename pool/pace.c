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
        atomic_store_explicit(&p->asked_us, 0, memory_order_relaxed);
        atomic_store_explicit(&p->serving, atomic_load_explicit(&p->tickets, memory_order_relaxed),
                              memory_order_relaxed);
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

uint32_t pace_portion_bytes(const struct pace *p)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);

    if (rate >= (uint64_t)PACE_PORTION_BYTES_MAX * US_PER_S / PACE_FILL_US)
        return PACE_PORTION_BYTES_MAX;
    uint32_t beat_bytes = (uint32_t)(rate * PACE_FILL_US / US_PER_S);
    return beat_bytes > PACE_PIECE_BYTES ? beat_bytes : PACE_PIECE_BYTES;
}

static void draw(struct pace *p, uint64_t *ticket)
{
    *ticket = 1 + atomic_fetch_add_explicit(&p->tickets, 1, memory_order_relaxed);
}

/* One behind the serving one asks. */
static void line_up(struct pace *p, uint64_t ticket, uint64_t serving)
{
    uint64_t next_up = atomic_load_explicit(&p->next_up, memory_order_relaxed);

    while ((next_up <= serving || ticket < next_up) &&
           !atomic_compare_exchange_weak_explicit(&p->next_up, &next_up, ticket,
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

/* The turn of the first who has asked, if it is still this one's: numbers of those who have left,
 * or do not ask, are passed over however many they are. */
static void next_turn(struct pace *p, uint64_t serving, uint64_t now_us)
{
    uint64_t next = atomic_exchange_explicit(&p->next_up, 0, memory_order_relaxed);

    if (next <= serving)
        return; /* nobody, or one that has had its turn meanwhile */
    if (!atomic_compare_exchange_strong_explicit(&p->serving, &serving, next, memory_order_relaxed,
                                                 memory_order_relaxed))
        return;
    atomic_store_explicit(&p->turn_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&p->asked_us, now_us, memory_order_relaxed);
}

/* Who has the turn does not use up what there is: one backend is not fast enough for this rate. */
static bool leaves_some(struct pace *p, uint64_t now_us)
{
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_acquire);

    if (rate == PACE_RATE_NONE)
        return true; /* lifted a moment ago */
    fill(p, rate, now_us);
    return atomic_load_explicit(&p->tokens, memory_order_relaxed) > burst_bytes(rate) / 2;
}

/* Between the stores of one loop another may see half of them: then a turn is shorter or longer
 * once, or two read for a beat. How much they read the bucket says. */
bool pace_turn(struct pace *p, uint64_t *ticket, uint64_t now_us)
{
    if (pace_portion_bytes(p) == PACE_PORTION_BYTES_MAX)
        return true; /* one backend alone is not that fast */
    uint64_t serving = atomic_load_explicit(&p->serving, memory_order_relaxed);
    uint64_t asked_us = atomic_load_explicit(&p->asked_us, memory_order_relaxed);
    uint64_t turn_us = atomic_load_explicit(&p->turn_us, memory_order_relaxed);
    bool idle = us_since(asked_us, now_us) > PACE_IDLE_US;

    if (*ticket < serving || *ticket == 0)
        draw(p, ticket); /* it had its turn */
    if (*ticket == serving) {
        bool others = atomic_load_explicit(&p->next_up, memory_order_relaxed) > serving;
        if (idle || !others) {
            atomic_store_explicit(&p->turn_us, now_us, memory_order_relaxed);
        } else if (us_since(turn_us, now_us) >= PACE_TURN_US) {
            next_turn(p, serving, now_us);
            draw(p, ticket);
            return false;
        }
        atomic_store_explicit(&p->asked_us, now_us, memory_order_relaxed);
        return true;
    }
    line_up(p, *ticket, serving);
    if (!idle && us_since(turn_us, now_us) < PACE_TURN_US + PACE_IDLE_US)
        return leaves_some(p, now_us);
    next_turn(p, serving, now_us);
    return *ticket == atomic_load_explicit(&p->serving, memory_order_relaxed);
}

void pace_turn_over(struct pace *p, uint64_t *ticket)
{
    if (*ticket != 0 && *ticket == atomic_load_explicit(&p->serving, memory_order_relaxed))
        atomic_store_explicit(&p->asked_us, 0, memory_order_relaxed);
    *ticket = 0;
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

bool pace_starves(struct pace *p, uint64_t unread_us, uint64_t now_us)
{
    uint64_t last_us = atomic_load_explicit(&p->starved_us, memory_order_relaxed);

    if (unread_us < PACE_HUNGRY_US || unread_us >= PACE_TRICKLE_US)
        return unread_us >= PACE_TRICKLE_US;
    uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);
    if (rate != PACE_RATE_NONE &&
        atomic_load_explicit(&p->tokens, memory_order_relaxed) < -burst_bytes(rate) / 2)
        return false; /* so much is owed already: only what must be */
    return us_since(last_us, now_us) >= PACE_FILL_US &&
           atomic_compare_exchange_strong_explicit(&p->starved_us, &last_us, now_us,
                                                   memory_order_relaxed, memory_order_relaxed);
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
