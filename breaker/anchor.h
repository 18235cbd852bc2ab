/* What a figure was at its best lately: the least of the hourly medians of seven days.
 *
 * A norm that follows what it sees, however slowly and however carefully gated, can be led anywhere
 * by a creep. An anchor cannot be led up faster than a week forgets, and it goes down with the
 * first better hour. Figures are logarithms (octaves), so a cap above the anchor is a sum.
 *
 * An hour's median is approximated in one number that moves towards each figure by less and less:
 * of some thousand ticks it is right within a few hundredths of an octave. An hour that saw little
 * says nothing: the least of 168 noisy medians would be far below all of them. Hours are numbers
 * the caller counts; nothing happens while there is nothing to note.
 */
#ifndef BREAKER_ANCHOR_H
#define BREAKER_ANCHOR_H

#include "breaker/base.h"

enum {
    ANCHOR_DAYS = 7,
    ANCHOR_HOUR_N = 300, /* ticks of an hour that make a median of it */
};

struct anchor {
    double low_log2;             /* the anchor; valid where is_set */
    float day_log2[ANCHOR_DAYS]; /* least of the day; where days_mask has the slot's bit */
    float hour_log2;             /* median of the running hour so far */
    uint32_t hour_i;
    uint16_t hour_n; /* figures in it, saturating */
    uint8_t days_mask;
    bool is_set;
};

/* Begins with what is known now, until hours have been seen. */
void anchor_set(struct anchor *a, double log2, uint32_t hour_i);
/* One figure, at most one a tick. */
void anchor_note(struct anchor *a, double log2, uint32_t hour_i);

#endif
