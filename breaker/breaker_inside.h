/* What breaker.c, breaker_trial.c and breaker_use.c share, and nobody else. */
#ifndef BREAKER_BREAKER_INSIDE_H
#define BREAKER_BREAKER_INSIDE_H

#include "breaker/breaker.h"

enum {
    BREAKER_TICK_US = 100 * US_PER_MS,
    BREAKER_EFFECT_US = 150 * US_PER_MS, /* from a cut or a pause to what it shows in latencies */
    BREAKER_JUDGE_ALL_US = 500 * US_PER_MS, /* after so long older statements count again */
    BREAKER_ROUND_US = US_PER_S,            /* between two rounds of cancels */
};

/* What one tick's helpers need; lives for that tick. */
struct tick {
    struct breaker *b;
    struct estimator *e;
    double p;
    uint64_t in_us; /* time in the state */
};

/* ---- breaker.c: records, and classes ---- */

/* A line of the log, without a reason yet. */
struct breaker_transition *breaker_record(struct breaker *b, enum breaker_state to, int class_i);
struct breaker_transition *breaker_last_transition(struct breaker *b);
/* The one way to change state. */
PRINTF_LIKE(4, 5)
void breaker_move(struct breaker *b, enum breaker_state to, int class_i, const char *fmt, ...);
/* A candidate for a test or a cut. */
bool breaker_has_demand(const struct breaker *b, uint32_t class_i);
/* The lowest class with demand from class_i on; classes_n if there is none. */
uint32_t breaker_next_candidate(const struct breaker *b, uint32_t class_i);
/* Asks for n cancels, or as many as there is to cancel; how many. */
uint32_t breaker_cancel(struct breaker *b, struct breaker_class *c, uint32_t n);
bool breaker_all_back(const struct breaker *b);
/* Highest class first; the lower ones wait until it is back. */
void breaker_raise_one(const struct tick *t);
void breaker_draw_jitter(struct breaker *b, struct limit *l);

/* ---- breaker_trial.c: the experiment ---- */

void breaker_tick_closed(const struct tick *t); /* and exonerated */
void breaker_tick_test(const struct tick *t);
void breaker_tick_probation(const struct tick *t);
/* Throttled without a verdict: true where it has come, and ended that. */
bool breaker_decide_late(const struct tick *t);
/* A trial that was broken off says nothing. */
void breaker_unjudge(struct breaker *b);

/* ---- breaker_use.c, breaker_share.c ---- */

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
