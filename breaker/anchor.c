#include "breaker/anchor.h"

#include <math.h>

enum { HOURS_DAY = 24 };

#define GAIN 2.0 /* octaves the median may move in the first step; the n-th is 1/n of it */
_Static_assert(ANCHOR_DAYS <= 8, "days_mask has a bit for each");

static uint32_t slot_of(uint32_t day_i)
{
    return day_i % ANCHOR_DAYS;
}

static void lower_day(struct anchor *a, uint32_t day_i, double log2)
{
    uint32_t slot = slot_of(day_i);
    if (!(a->days_mask & BIT(slot)) || log2 < a->day_log2[slot])
        a->day_log2[slot] = (float)log2;
    a->days_mask |= (uint8_t)BIT(slot);
}

/* A week without a good hour leaves the anchor where it was. */
static void find_low(struct anchor *a)
{
    bool found = false;
    for (uint32_t i = 0; i < ANCHOR_DAYS; i++) {
        if (!(a->days_mask & BIT(i)))
            continue;
        a->low_log2 = found ? fmin(a->low_log2, (double)a->day_log2[i]) : (double)a->day_log2[i];
        found = true;
    }
    a->is_set |= found;
}

static void turn_hour(struct anchor *a, uint32_t hour_i)
{
    uint32_t day_i = a->hour_i / HOURS_DAY, now_i = hour_i / HOURS_DAY;
    if (a->hour_n >= ANCHOR_HOUR_N)
        lower_day(a, day_i, (double)a->hour_log2);
    for (uint32_t n = 0; n < ANCHOR_DAYS && day_i < now_i; n++)
        a->days_mask &= (uint8_t)~BIT(slot_of(++day_i));
    find_low(a);
    a->hour_i = hour_i;
    a->hour_n = 0;
}

void anchor_set(struct anchor *a, double log2, uint32_t hour_i)
{
    must(isfinite(log2));
    *a = (struct anchor){.low_log2 = log2, .hour_i = hour_i, .is_set = true};
    lower_day(a, hour_i / HOURS_DAY, log2);
}

void anchor_note(struct anchor *a, double log2, uint32_t hour_i)
{
    must(isfinite(log2));
    if (hour_i > a->hour_i)
        turn_hour(a, hour_i);
    if (a->hour_n == 0)
        a->hour_log2 = (float)log2;
    if (a->hour_n < UINT16_MAX)
        a->hour_n++;
    double step = GAIN / a->hour_n;
    a->hour_log2 += (float)fmax(-step, fmin(step, log2 - (double)a->hour_log2));
}
