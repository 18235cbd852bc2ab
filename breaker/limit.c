#include "breaker/limit.h"

#include <math.h>

#define AIM 0.9         /* a cut aims below pressure 1, not at it */
#define NEAR_SHARE 0.35 /* g within this of g_bad: the same level hurt again */
#define SLOW_FROM 0.85  /* of g_bad: creep from here on */
#define CREEP 0.30      /* of g_bad per period */
#define FORGET_FROM 1.3 /* times g_bad: so far beyond it unhurt, it is history */
#define PAUSED_TRICKLE 0.25
#define CONVICT_P 2.0 /* pressure at which a convict loses nearly all */
#define CONVICT_SHARE 0.04
#define PRESENT_P 1.5 /* no higher floors at such a pressure */
#define TICK_S 0.1
#define BACKOFF_MAX 32 /* 30 s doubled five times is more than PERIOD_MAX_S */
#define PERIOD_MAX_S 600.0

void limit_opts_defaults(struct limit_opts *opts)
{
    *opts = (struct limit_opts){
        .floor = 0.01,
        .floor_max = 0.05,
        .floor_grow_us = 600ull * US_PER_S,
        .cut_min = 0.25,
        .cut_max = 0.8,
        .ramp = 0.25,
        .probe_us = 30ull * US_PER_S,
        .jitter = 0.2,
    };
}

bool limit_opts_check(const struct limit_opts *o, struct err *err)
{
    if (!(o->floor > 0 && o->floor <= o->floor_max && o->floor_max < 1))
        return err_set(err, "22023", "the floor must be above 0, at most floor_max, and below 1");
    if (!(o->cut_min > 0 && o->cut_min <= o->cut_max && o->cut_max < 1))
        return err_set(err, "22023", "a cut must leave something and take something");
    if (!(o->ramp > 0) || o->probe_us == 0)
        return err_set(err, "22023", "ramp and probe period must be above 0");
    if (!(o->jitter >= 0 && o->jitter < 1))
        return err_set(err, "22023", "jitter must be at least 0 and below 1");
    return true;
}

void limit_init(struct limit *l, const struct limit_opts *opts)
{
    *l = (struct limit){.g = 1, .g_trip = 1, .floor = opts->floor};
}

uint32_t limit_statements(const struct limit *l, uint32_t cap_n)
{
    if (l->g >= 1)
        return cap_n;
    if (l->g == 0)
        return 0;
    double n = ceil(l->g * cap_n);
    return n > 1 ? (uint32_t)n : 1;
}

static double rate(const struct limit *l, double trickle_bytes_per_s)
{
    return fmax(trickle_bytes_per_s, l->g * l->rref_bytes_per_s);
}

uint64_t limit_rate(const struct limit *l, double trickle_bytes_per_s)
{
    if (l->g >= 1)
        return LIMIT_RATE_NONE;
    if (l->g == 0)
        return (uint64_t)(trickle_bytes_per_s * PAUSED_TRICKLE);
    return (uint64_t)rate(l, trickle_bytes_per_s);
}

void limit_note_rate(struct limit *l, double bytes_per_s, double trickle_bytes_per_s)
{
    if (l->g >= 1)
        l->rref_bytes_per_s = fmax(bytes_per_s, 2 * trickle_bytes_per_s);
}

void limit_pause(struct limit *l)
{
    must(l->g > 0);
    l->g_trip = l->g;
    l->g = 0;
}

void limit_give_back(struct limit *l, double share, uint32_t bad_n)
{
    l->g_bad = l->g_trip;
    l->bad_n = bad_n;
    l->g = fmax(l->floor, share * l->g_trip);
}

void limit_forget_bad(struct limit *l)
{
    l->g_bad = 0;
    l->bad_n = 0;
}

void limit_absolve(struct limit *l)
{
    l->g = fmax(l->floor, 0.5 * l->g_trip);
    limit_forget_bad(l);
}

static double cut(const struct limit *l, const struct limit_opts *opts, double p)
{
    double share = fmin(opts->cut_max, fmax(opts->cut_min, AIM / p));
    return fmax(l->floor, l->g * share);
}

void limit_cut(struct limit *l, const struct limit_opts *opts, double p)
{
    must(l->g >= l->floor);
    bool again = l->g_bad > 0 && fabs(l->g / l->g_bad - 1) < NEAR_SHARE;
    l->bad_n = again ? l->bad_n + 1 : 1;
    l->g_bad = l->g;
    l->g = cut(l, opts, p);
}

void limit_convict(struct limit *l, const struct limit_opts *opts, double p)
{
    must(l->g > 0);
    l->bad_n = 1;
    l->g_bad = l->g;
    l->g = p >= CONVICT_P ? fmax(l->floor, CONVICT_SHARE * l->g) : cut(l, opts, p);
}

static double creep_period_s(const struct limit *l, const struct limit_opts *opts)
{
    uint32_t doublings = l->bad_n > 1 ? l->bad_n - 1 : 0;
    double factor = doublings < BACKOFF_MAX ? ldexp(1, (int)doublings) : ldexp(1, BACKOFF_MAX);
    double period_s = fmin(PERIOD_MAX_S, (double)opts->probe_us / US_PER_S * factor);
    return period_s * (1 + opts->jitter * l->jitter);
}

void limit_raise(struct limit *l, const struct limit_opts *opts, const struct limit_use *use)
{
    must(l->g > 0 && l->g < 1);
    /* A level nobody uses hurts nobody, and proves nothing: no reason to creep past it. */
    bool idle = use->active_n < 0.8 * limit_statements(l, use->cap_n) &&
                use->bytes_per_s < 0.8 * rate(l, use->trickle_bytes_per_s) && use->queued_n == 0 &&
                l->g > 0.1;
    if (idle || l->g_bad == 0 || l->g < SLOW_FROM * l->g_bad) {
        l->g = fmin(1, l->g * (1 + opts->ramp * TICK_S));
        return;
    }
    l->g = fmin(1, l->g + CREEP * l->g_bad / creep_period_s(l, opts) * TICK_S);
    if (l->g > FORGET_FROM * l->g_bad)
        limit_forget_bad(l);
}

bool limit_at_floor(const struct limit *l)
{
    return l->g <= l->floor * 1.01;
}

void limit_age_floor(struct limit *l, const struct limit_opts *opts, double p, uint64_t now_us)
{
    if (l->g == 0)
        return; /* an experiment of a second or two */
    if (!limit_at_floor(l)) {
        l->floor_since_us = 0;
        if (l->g >= 1)
            l->floor = opts->floor;
        return;
    }
    if (l->floor_since_us == 0)
        l->floor_since_us = now_us;
    if (opts->floor_grow_us == 0 || now_us - l->floor_since_us < opts->floor_grow_us ||
        p >= PRESENT_P)
        return;
    l->floor = fmin(opts->floor_max, 2 * l->floor);
    l->g = fmax(l->g, l->floor);
    l->floor_since_us = now_us;
}
