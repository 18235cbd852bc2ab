/* How much of a sheddable class runs: one knob g in [floor, 1] gives both the number of statements
 * and the bytes per second. Multiplicative cut, gradual rise, and memory of the level that hurt.
 *
 *   g = 1        no limit but the class's own cap
 *   0 < g < 1    max(1, ceil(g * cap)) statements, max(trickle, g * rref) bytes/s
 *   g = 0        paused for an experiment: no statement; a quarter of the trickle, so that pins in
 *                PostgreSQL's buffers move and TCP stays alive
 *
 * After a cut g_bad is the level that hurt. The rise is fast (25 % a second) up to 0.85 g_bad, then
 * creeps: 0.30 g_bad per 30 s, and half as fast each time the same level hurt again, up to 600 s.
 * Whoever gets 30 % beyond g_bad unhurt forgets it.
 */
#ifndef BREAKER_LIMIT_H
#define BREAKER_LIMIT_H

#include "breaker/base.h"

#define LIMIT_RATE_NONE UINT64_MAX

struct limit_opts {
    double floor;            /* least g outside of an experiment */
    double floor_max;        /* what the floor may grow to for a class that starves */
    uint64_t floor_grow_us;  /* at its floor for so long, it doubles; 0: never */
    double cut_min, cut_max; /* a cut is g * clamp(0.9 / P, cut_min, cut_max) */
    double ramp;             /* rise per second */
    uint64_t probe_us;       /* period of the creep near g_bad */
    double jitter;           /* of that period, either way; 0: none */
};

struct limit {
    double g;
    double g_bad;            /* the level that hurt; 0: unknown */
    double g_trip;           /* the level before the pause */
    uint32_t bad_n;          /* times it hurt near the same level */
    double rref_bytes_per_s; /* what g = 1 means in bytes: the rate just before the trip */
    double floor;            /* the floor now */
    uint64_t floor_since_us; /* at the floor since; 0: is not */
    double jitter;           /* of the creep after the last cut, in [-1, 1]; the breaker draws it */
};

/* The class as it is now. */
struct limit_use {
    uint32_t cap_n;
    uint32_t active_n;
    uint32_t queued_n;
    double bytes_per_s;
    double trickle_bytes_per_s;
};

void limit_opts_defaults(struct limit_opts *opts);
MUST_USE bool limit_opts_check(const struct limit_opts *opts, struct err *err);

void limit_init(struct limit *l, const struct limit_opts *opts);
/* Statements that may run at once; 0 only while paused. */
uint32_t limit_statements(const struct limit *l, uint32_t cap_n);
/* Bytes per second all its streams may read together; LIMIT_RATE_NONE where unlimited. */
uint64_t limit_rate(const struct limit *l, double trickle_bytes_per_s);

/* Stays the reference of the byte rate as long as nothing is limited. */
void limit_note_rate(struct limit *l, double bytes_per_s, double trickle_bytes_per_s);
void limit_pause(struct limit *l);
/* After a pause: a share of the level there was, which is remembered as having hurt bad_n times. */
void limit_give_back(struct limit *l, double share, uint32_t bad_n);
/* After a pause that proved nothing: half of what there was, and no grudge. */
void limit_absolve(struct limit *l);
void limit_forget_bad(struct limit *l);
/* One cut for pressure p. */
void limit_cut(struct limit *l, const struct limit_opts *opts, double p);
/* The cut of a class just proven guilty: at P >= 2 nearly all the way down. */
void limit_convict(struct limit *l, const struct limit_opts *opts, double p);
/* One tick of rise. */
void limit_raise(struct limit *l, const struct limit_opts *opts, const struct limit_use *use);
bool limit_at_floor(const struct limit *l);
/* Once a tick: a class that starves at its floor gets a higher one, unless the pressure is too high
 * for presents. */
void limit_age_floor(struct limit *l, const struct limit_opts *opts, double p, uint64_t now_us);

#endif
