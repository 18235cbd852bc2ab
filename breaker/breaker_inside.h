/* What breaker.c and breaker_use.c share, and nobody else. */
#ifndef BREAKER_BREAKER_INSIDE_H
#define BREAKER_BREAKER_INSIDE_H

#include "breaker/breaker.h"

enum {
    BREAKER_TICK_US = 100 * US_PER_MS,
    BREAKER_EFFECT_US = 150 * US_PER_MS, /* from a cut or a pause to what it shows in latencies */
};

bool breaker_has_work(const struct breaker_class *c);
/* What it runs can be held back only before it starts. */
bool breaker_is_unpaced(const struct breaker_class *c);
/* Such a class is let in little by little. */
bool breaker_eases_in(const struct breaker *b, const struct breaker_class *c);
/* The beginning of a tick: what runs, and what observing would have done. */
void breaker_note_use(struct breaker *b, const struct breaker_use *use);
/* The end of it: what the class may do from now on. */
void breaker_ask(const struct breaker *b, struct breaker_class *c);
/* Begins and ends clean probes. */
void breaker_tick_clean(struct breaker *b, struct estimator *e);
/* The hold has taken effect, and reaches all there is. */
bool breaker_in_clean_window(const struct breaker *b);
/* Any sheddable class has work, or clients that wait. */
bool breaker_is_busy(const struct breaker *b);
/* Norms may be learnt beside such work: there is no clean probe, or it has had no window for long.
 */
bool breaker_learns_busy(const struct breaker *b);

/* One tick where several proxies stand before the same database (breaker_share.c). */
enum breaker_share {
    BREAKER_SHARE_GOES_ON,
    BREAKER_SHARE_BEGINS, /* from now on classes are limited */
    BREAKER_SHARE_HALVED, /* an emergency: as one cut */
    BREAKER_SHARE_ENDS,   /* nothing is limited any more */
};
MUST_USE enum breaker_share breaker_tick_share(struct breaker *b, double p);

#endif
