#include "breaker/baseline.h"

#include <math.h>
#include <string.h>

enum {
    HEAT_HALVES_TICKS = 600, /* a minute of ticks of 100 ms */
    NOW_HALVES_TICKS = 20,   /* what a person means by "now" */
    ENTRY_BITS = 12,
    LOADED_HEAT = 16, /* gives a loaded norm four minutes to be seen again */
    WALK_N = 64,      /* entries a tick: all of them in 6 s */
};
_Static_assert(BASELINE_ENTRIES == 1 << ENTRY_BITS, "the index is the top bits of a product");
_Static_assert(BASELINE_ENTRIES % WALK_N == 0, "the walk ends with the table");
_Static_assert(BASELINE_ENTRIES <= BASELINE_NONE, "an index must fit the chain");

void baseline_init(struct baseline *b)
{
    memset(b, 0, sizeof *b);
    b->touched_i = BASELINE_NONE;
}

/* Fibonacci hashing: the fingerprint is a hash already, but nobody promises of which quality. */
static uint32_t place(uint64_t fingerprint, uint32_t probe_i)
{
    uint32_t home = (uint32_t)(fingerprint * 0x9e3779b97f4a7c15u >> (64 - ENTRY_BITS));
    return (home + probe_i) % BASELINE_ENTRIES;
}

const struct baseline_entry *baseline_find(const struct baseline *b, uint64_t fingerprint)
{
    for (uint32_t i = 0; i < BASELINE_PROBES; i++) {
        const struct baseline_entry *e = &b->entries[place(fingerprint, i)];
        if (e->seen_n == 0)
            return NULL;
        if (e->fingerprint == fingerprint)
            return e;
    }
    return NULL;
}

static uint32_t heat(const struct baseline *b, const struct baseline_entry *e)
{
    uint32_t halvings = (b->tick_n - e->seen_tick_n) / HEAT_HALVES_TICKS;
    return halvings < 16 ? (uint32_t)e->seen_n >> halvings : 0;
}

static float fade(const struct baseline *b, const struct baseline_entry *e, uint32_t halves_ticks)
{
    return exp2f(-(float)(b->tick_n - e->seen_tick_n) / (float)halves_ticks);
}

const struct baseline_past *baseline_past_of(const struct baseline *b,
                                             const struct baseline_entry *e)
{
    return &b->pasts[e - b->entries];
}

/* The entry of this fingerprint, a free place, or the coldest that may go; NULL if none may: what
 * was seen in the running slice has sums in the chain and stays. */
static struct baseline_entry *find_or_claim(struct baseline *b, uint64_t fingerprint)
{
    struct baseline_entry *coldest = NULL;
    for (uint32_t i = 0; i < BASELINE_PROBES; i++) {
        struct baseline_entry *e = &b->entries[place(fingerprint, i)];
        if (e->seen_n == 0) {
            b->used_n++;
            coldest = e;
            break;
        }
        if (e->fingerprint == fingerprint)
            return e;
        if (e->slice_n == 0 && (!coldest || heat(b, e) < heat(b, coldest)))
            coldest = e;
    }
    if (!coldest)
        return NULL;
    b->evicted_n += coldest->seen_n > 0;
    *coldest = (struct baseline_entry){.fingerprint = fingerprint, .seen_tick_n = b->tick_n};
    b->pasts[coldest - b->entries] = (struct baseline_past){.held = false};
    return coldest;
}

const struct baseline_entry *baseline_note(struct baseline *b, uint64_t fingerprint, double us_log2,
                                           uint64_t us)
{
    struct baseline_entry *e = find_or_claim(b, fingerprint);
    if (!e) {
        b->missed_n++;
        return NULL;
    }
    if (e->slice_n == 0) {
        uint32_t seen_n = heat(b, e) + 1;
        e->now_n *= fade(b, e, NOW_HALVES_TICKS);
        e->busy_us *= fade(b, e, HEAT_HALVES_TICKS);
        e->seen_n = seen_n < UINT16_MAX ? (uint16_t)seen_n : UINT16_MAX;
        e->seen_tick_n = b->tick_n;
        e->next_i = b->touched_i;
        b->touched_i = (uint16_t)(e - b->entries);
    }
    e->slice_sum_log2 += us_log2;
    e->slice_us += us;
    e->slice_n++;
    return e;
}

/* The slow average, and how far it would be if its anchor did not hold it. */
static void follow(struct baseline_entry *e, struct baseline_past *past, double mean,
                   const struct baseline_pace *pace)
{
    double free_log2 = past->held ? (double)past->free_log2 : e->mean_log2;
    free_log2 += (mean - free_log2) * (mean > free_log2 ? pace->up : pace->down);
    e->mean_log2 += (mean - e->mean_log2) * (mean > e->mean_log2 ? pace->up : pace->down);
    double highest = past->anchor.low_log2 + pace->cap_log2;
    past->held = past->anchor.is_set && pace->cap_log2 > 0 && free_log2 > highest;
    past->free_log2 = (float)free_log2;
    if (past->anchor.is_set && pace->cap_log2 > 0)
        e->mean_log2 = fmin(e->mean_log2, highest);
}

static void learn(struct baseline *b, struct baseline_entry *e, const struct baseline_pace *pace)
{
    struct baseline_past *past = &b->pasts[e - b->entries];
    double mean = e->slice_sum_log2 / e->slice_n;
    if (e->n == 0) {
        e->n = e->slice_n;
        e->mean_log2 = mean;
        return;
    }
    if (past->anchor.is_set)
        anchor_note(&past->anchor, mean, pace->hour_i);
    if (!pace->plain && e->n >= BASELINE_LEARNT_N) {
        follow(e, past, mean, pace);
        return;
    }
    e->n = e->n < UINT32_MAX - e->slice_n ? e->n + e->slice_n : UINT32_MAX;
    e->mean_log2 += (mean - e->mean_log2) * e->slice_n / e->n;
    if (e->n >= BASELINE_LEARNT_N && !pace->plain && !past->anchor.is_set)
        anchor_set(&past->anchor, e->mean_log2,
                   pace->hour_i); /* came after baseline_anchor(): its first full norm */
}

static void note_now(struct baseline *b, struct baseline_entry *e)
{
    double mean = e->slice_sum_log2 / e->slice_n;
    e->now_n += (float)e->slice_n;
    e->now_log2 += (float)((mean - (double)e->now_log2) * e->slice_n / (double)e->now_n);
    e->busy_us += (float)e->slice_us;
    b->busy_us += (double)e->slice_us;
}

/* Empties the chain of the running slice, learning from it where pace is given. */
static uint32_t close_slice(struct baseline *b, const struct baseline_pace *pace)
{
    uint32_t samples_n = 0;
    b->busy_us *= exp2(-1.0 / HEAT_HALVES_TICKS);
    while (b->touched_i != BASELINE_NONE) {
        must(b->touched_i < BASELINE_ENTRIES);
        struct baseline_entry *e = &b->entries[b->touched_i];
        must(e->slice_n > 0);
        samples_n += e->slice_n;
        note_now(b, e);
        if (pace)
            learn(b, e, pace);
        b->touched_i = e->next_i;
        e->slice_sum_log2 = 0;
        e->slice_us = 0;
        e->slice_n = 0;
    }
    b->tick_n++;
    return samples_n;
}

uint32_t baseline_fold(struct baseline *b, const struct baseline_pace *pace)
{
    return close_slice(b, pace);
}

uint32_t baseline_drop(struct baseline *b)
{
    return close_slice(b, NULL);
}

void baseline_anchor(struct baseline *b, uint32_t n_min, uint32_t hour_i)
{
    must(n_min > 0);
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++)
        if (b->entries[i].n >= n_min)
            anchor_set(&b->pasts[i].anchor, b->entries[i].mean_log2, hour_i);
}

void baseline_lighten(struct baseline *b, uint32_t n)
{
    must(n >= BASELINE_TRUSTED_N);
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++) {
        if (b->entries[i].n > n)
            b->entries[i].n = n;
        b->pasts[i] = (struct baseline_past){.held = false};
    }
}

void baseline_walk(struct baseline *b)
{
    for (uint32_t n = 0; n < WALK_N; n++, b->walk_i++) {
        const struct baseline_entry *e = &b->entries[b->walk_i];
        if (!b->pasts[b->walk_i].held || heat(b, e) == 0)
            continue;
        b->walk_held_n++;
        b->walk_held_us += (double)(e->busy_us * fade(b, e, HEAT_HALVES_TICKS));
    }
    if (b->walk_i < BASELINE_ENTRIES)
        return;
    b->held_n = b->walk_held_n;
    b->held_share = b->busy_us > 0 ? fmin(1, b->walk_held_us / b->busy_us) : 0;
    b->walk_i = b->walk_held_n = 0;
    b->walk_held_us = 0;
}

double baseline_now_n(const struct baseline *b, const struct baseline_entry *e)
{
    return (double)(e->now_n * fade(b, e, NOW_HALVES_TICKS));
}

double baseline_share(const struct baseline *b, const struct baseline_entry *e)
{
    if (b->busy_us <= 0)
        return 0;
    return fmin(1, (double)(e->busy_us * fade(b, e, HEAT_HALVES_TICKS)) / b->busy_us);
}

bool baseline_put(struct baseline *b, uint64_t fingerprint, double mean_log2, uint32_t n,
                  const struct baseline_past *past)
{
    must(n > 0);
    struct baseline_entry *free_place = NULL;
    for (uint32_t i = 0; i < BASELINE_PROBES && !free_place; i++) {
        struct baseline_entry *e = &b->entries[place(fingerprint, i)];
        if (e->seen_n > 0 && e->fingerprint == fingerprint)
            return true;
        if (e->seen_n == 0)
            free_place = e;
    }
    if (!free_place)
        return false;
    b->used_n++;
    *free_place = (struct baseline_entry){.fingerprint = fingerprint,
                                          .mean_log2 = mean_log2,
                                          .n = n,
                                          .seen_n = LOADED_HEAT,
                                          .seen_tick_n = b->tick_n};
    b->pasts[free_place - b->entries] = *past;
    return true;
}
