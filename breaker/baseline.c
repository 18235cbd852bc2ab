#include "breaker/baseline.h"

#include <string.h>

enum {
    HEAT_HALVES_TICKS = 600, /* a minute of ticks of 100 ms */
    ENTRY_BITS = 12,
};
_Static_assert(BASELINE_ENTRIES == 1 << ENTRY_BITS, "the index is the top bits of a product");
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
    return coldest;
}

const struct baseline_entry *baseline_note(struct baseline *b, uint64_t fingerprint, double us_log2)
{
    struct baseline_entry *e = find_or_claim(b, fingerprint);
    if (!e) {
        b->missed_n++;
        return NULL;
    }
    if (e->slice_n == 0) {
        uint32_t seen_n = heat(b, e) + 1;
        e->seen_n = seen_n < UINT16_MAX ? (uint16_t)seen_n : UINT16_MAX;
        e->seen_tick_n = b->tick_n;
        e->next_i = b->touched_i;
        b->touched_i = (uint16_t)(e - b->entries);
    }
    e->slice_sum_log2 += us_log2;
    e->slice_n++;
    return e;
}

static void anchor(struct baseline_entry *e)
{
    must(e->n > 0);
    e->anchor_log2 = e->mean_log2;
    e->anchored = true;
}

static void learn(struct baseline_entry *e, const struct baseline_pace *pace)
{
    double mean = e->slice_sum_log2 / e->slice_n;
    if (e->n == 0) {
        e->n = e->slice_n;
        e->mean_log2 = mean;
        return;
    }
    if (pace->plain || e->n < BASELINE_LEARNT_N) {
        e->n = e->n < UINT32_MAX - e->slice_n ? e->n + e->slice_n : UINT32_MAX;
        e->mean_log2 += (mean - e->mean_log2) * e->slice_n / e->n;
        if (e->n >= BASELINE_LEARNT_N && !pace->plain && !e->anchored)
            anchor(e); /* came after baseline_anchor(): its first full norm is its anchor */
        return;
    }
    e->mean_log2 += (mean - e->mean_log2) * (mean > e->mean_log2 ? pace->up : pace->down);
    double highest = e->anchor_log2 + pace->cap_log2;
    if (e->anchored && pace->cap_log2 > 0 && e->mean_log2 > highest) {
        e->mean_log2 = highest;
        ++*pace->capped_n;
    }
}

/* Empties the chain of the running slice, learning from it where pace is given. */
static uint32_t close_slice(struct baseline *b, const struct baseline_pace *pace)
{
    uint32_t samples_n = 0;
    while (b->touched_i != BASELINE_NONE) {
        must(b->touched_i < BASELINE_ENTRIES);
        struct baseline_entry *e = &b->entries[b->touched_i];
        must(e->slice_n > 0);
        samples_n += e->slice_n;
        if (pace)
            learn(e, pace);
        b->touched_i = e->next_i;
        e->slice_sum_log2 = 0;
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

void baseline_anchor(struct baseline *b)
{
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++)
        if (b->entries[i].n > 0)
            anchor(&b->entries[i]);
}

void baseline_lighten(struct baseline *b, uint32_t n)
{
    must(n >= BASELINE_TRUSTED_N);
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++)
        if (b->entries[i].n > n)
            b->entries[i].n = n;
}
