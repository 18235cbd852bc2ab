/* What is normal for each statement: the mean of log2(us) per fingerprint, learnt in calm.
 *
 * A table of 4096 places with open addressing and 8 probes, no deletion, no allocation. A newcomer
 * that finds its 8 places taken evicts the coldest: heat is a count of sightings that halves every
 * minute, so a flood of statements seen once (literals that defeat the fingerprint) evicts its own
 * kind and not the norms that matter. A statement that finds no place loses precision, nothing
 * else.
 *
 * Sums of the running slice are kept in the entry and chained, so that a tick visits only what was
 * touched in it: baseline_fold() takes them into the means, baseline_drop() forgets them. Either
 * way the entry remembers how it fared lately, for people: who is slowest against its norm, and who
 * keeps the database busy.
 *
 * An entry is two structs in two tables of equal index: a cache line with what an observation
 * touches, and its past, which only a tick touches, and only in calm.
 */
#ifndef BREAKER_BASELINE_H
#define BREAKER_BASELINE_H

#include "breaker/anchor.h"

enum {
    BASELINE_ENTRIES = 4096, /* distinct statements that matter at once; a power of two */
    BASELINE_PROBES = 8,
    BASELINE_TRUSTED_N = 30,  /* samples from which on a norm says anything */
    BASELINE_LEARNT_N = 2000, /* up to here a plain mean, from here on slow averages */
    BASELINE_NONE = 0xffff,
};

struct baseline_entry {
    uint64_t fingerprint;
    double mean_log2; /* valid when n > 0 */
    double slice_sum_log2;
    uint64_t slice_us;
    uint32_t n; /* samples learnt, saturating */
    uint32_t slice_n;
    uint32_t seen_tick_n; /* tick of the last sighting */
    uint16_t seen_n;      /* heat at that tick; 0: the place is free */
    uint16_t next_i;      /* chain of the touched */
    /* of the last seconds, calm or not; all fade from seen_tick_n on */
    float now_log2; /* mean */
    float now_n;    /* what it weighs: samples, halved every 2 s */
    float busy_us;  /* time spent in it, halved every minute */
};
_Static_assert(sizeof(struct baseline_entry) <= 64, "a cache line each");

struct baseline_past {
    struct anchor anchor;
    float free_log2; /* the mean as it would be without its cap; valid while held */
    bool held;       /* its anchor holds the mean back: a norm that drifts */
};

struct baseline {
    struct baseline_entry entries[BASELINE_ENTRIES];
    struct baseline_past pasts[BASELINE_ENTRIES];
    uint32_t tick_n;
    uint32_t used_n;
    uint32_t evicted_n;
    uint32_t missed_n; /* sightings that found no place */
    uint16_t touched_i;
    double busy_us; /* of all, halved every minute */
    /* norms held back by their anchors, of a walk that takes some seconds, and of the last one */
    uint32_t walk_i, walk_held_n, held_n;
    double walk_held_us, held_share; /* of the busy time */
};

struct baseline_pace {
    bool plain;      /* warm-up: means are plain averages whatever their n */
    double up, down; /* weights of one tick for a mean that rises, falls */
    double cap_log2; /* a mean may exceed its anchor by this much; 0: no cap */
    uint32_t hour_i; /* counts hours; of the anchors */
};

void baseline_init(struct baseline *b);
/* The norm of a statement, or NULL. */
const struct baseline_entry *baseline_find(const struct baseline *b, uint64_t fingerprint);
const struct baseline_past *baseline_past_of(const struct baseline *b,
                                             const struct baseline_entry *e);
/* Adds one sighting to the running slice; the entry, or NULL where no place was to be had. */
const struct baseline_entry *baseline_note(struct baseline *b, uint64_t fingerprint, double us_log2,
                                           uint64_t us);
/* Closes the slice: its sums become part of the means, or are forgotten. Both return its samples.
 */
uint32_t baseline_fold(struct baseline *b, const struct baseline_pace *pace);
uint32_t baseline_drop(struct baseline *b);
/* Takes the means of today as the anchors no creep may leave far behind, where they are of n_min
 * samples and more. */
void baseline_anchor(struct baseline *b, uint32_t n_min, uint32_t hour_i);
/* Keeps the means but lets new samples outvote them: at most n samples of weight each. */
void baseline_lighten(struct baseline *b, uint32_t n);
/* Once a tick: looks at a few entries for norms that are held back. */
void baseline_walk(struct baseline *b);

/* ---- for people, and for the file ---- */

/* How it fared lately, faded to this tick: samples that now_log2 is of; share of all busy time. */
double baseline_now_n(const struct baseline *b, const struct baseline_entry *e);
double baseline_share(const struct baseline *b, const struct baseline_entry *e);
/* A norm from elsewhere; false: no place. Keeps what is there already. */
MUST_USE bool baseline_put(struct baseline *b, uint64_t fingerprint, double mean_log2, uint32_t n,
                           const struct baseline_past *past);

#endif
