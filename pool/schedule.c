/* Hours of the week, and time zones. See schedule.h. */
#include "pool/schedule.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the calendar -------------------------------------------------------------------------- */

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1970-01-01 to the first day of a year: by the leap days before it. */
static int64_t days_before(int64_t year)
{
    int64_t y = year - 1;

    return 365 * (year - 1970) + (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
}

static int64_t year_of(int64_t day)
{
    int64_t year = 1970 + day / 366; /* too early by a few years in the worst case */

    while (days_before(year + 1) <= day)
        year++;
    return year;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* 0 is Sunday; 1970-01-01 was a Thursday. */
static int weekday_of(int64_t day)
{
    int64_t w = (day + 4) % 7;

    return (int)(w < 0 ? w + 7 : w);
}

static int64_t day_of_change(const struct zone_change *c, int64_t year)
{
    static const int32_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t day = days_before(year);

    if (c->kind == ZONE_DAY)
        return day + c->day;
    if (c->kind == ZONE_JULIAN)
        return day + c->day - 1 + (is_leap(year) && c->day >= 60);
    for (int32_t m = 1; m < c->month; m++)
        day += lengths[m - 1] + (m == 2 && is_leap(year));
    int32_t length = lengths[c->month - 1] + (c->month == 2 && is_leap(year));
    int32_t first = (c->day - weekday_of(day) + 7) % 7, at = first + 7 * (c->week - 1);
    return day + (at >= length ? at - 7 : at); /* week 5 is the last one */
}

/* ---- zones --------------------------------------------------------------------------------- */

static const char *skip_name(const char *p)
{
    const char *from = p;

    if (*p == '<') {
        p = strchr(p, '>');
        return p == NULL ? NULL : p + 1;
    }
    while (isalpha((unsigned char)*p))
        p++;
    return p - from >= 3 ? p : NULL;
}

/* Never past the end of the text. */
static bool take(const char **p, char c)
{
    bool is_there = **p == c;

    *p += is_there;
    return is_there;
}

static bool number(const char **p, int32_t max, int32_t *n)
{
    char *end;

    if (!isdigit((unsigned char)**p))
        return false;
    long value = strtol(*p, &end, 10);
    *p = end;
    *n = (int32_t)value;
    return value >= 0 && value <= max;
}

/* [+-]hh[:mm[:ss]] */
static bool clock_of(const char **p, int32_t *seconds)
{
    int32_t sign = **p == '-' ? -1 : 1, part = 0, unit = 3600;

    *p += **p == '-' || **p == '+';
    if (!number(p, 167, &part))
        return false;
    for (*seconds = part * unit; **p == ':' && unit > 1; *seconds += part * unit) {
        ++*p;
        unit /= 60;
        if (!number(p, 59, &part))
            return false;
    }
    *seconds *= sign;
    return true;
}

static bool change_of(const char **p, struct zone_change *c)
{
    bool ok;

    *c = (struct zone_change){.kind = ZONE_DAY, .time_s = 2 * 3600};
    if (!take(p, ','))
        return false;
    if (take(p, 'M')) {
        c->kind = ZONE_MONTH;
        ok = number(p, 12, &c->month) && take(p, '.') && number(p, 5, &c->week) && take(p, '.') &&
             number(p, 6, &c->day) && c->month > 0 && c->week > 0;
    } else if (take(p, 'J')) {
        c->kind = ZONE_JULIAN;
        ok = number(p, 365, &c->day) && c->day > 0;
    } else {
        ok = number(p, 365, &c->day);
    }
    if (!ok || !take(p, '/'))
        return ok;
    return clock_of(p, &c->time_s);
}

bool zone_parse(struct zone *z, const char *text)
{
    const char *p = skip_name(text);
    int32_t west_s;

    *z = (struct zone){0};
    if (p == NULL || !clock_of(&p, &west_s))
        return false;
    z->standard_s = -west_s;
    if (*p == '\0')
        return true;
    z->has_summer = true;
    z->summer_s = z->standard_s + 3600;
    p = skip_name(p);
    if (p == NULL)
        return false;
    if (*p != ',') {
        if (!clock_of(&p, &west_s))
            return false;
        z->summer_s = -west_s;
    }
    return change_of(&p, &z->starts) && change_of(&p, &z->ends) && *p == '\0';
}

int32_t zone_offset_s(const struct zone *z, int64_t utc_s)
{
    if (!z->has_summer)
        return z->standard_s;
    int64_t year = year_of(floor_div(utc_s + z->standard_s, DAY_S));
    int64_t starts_s = day_of_change(&z->starts, year) * DAY_S + z->starts.time_s - z->standard_s;
    int64_t ends_s = day_of_change(&z->ends, year) * DAY_S + z->ends.time_s - z->summer_s;
    bool in_summer = starts_s < ends_s ? utc_s >= starts_s && utc_s < ends_s
                                       : utc_s >= starts_s || utc_s < ends_s;
    return in_summer ? z->summer_s : z->standard_s;
}

/* ---- schedules ----------------------------------------------------------------------------- */

static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static int day_named(const char **p)
{
    for (int i = 0; i < 7; i++) {
        if (strncasecmp(*p, day_names[i], 3) != 0 || isalpha((unsigned char)(*p)[3]))
            continue;
        *p += 3;
        return i;
    }
    return -1;
}

/* "Mon-Fri" or "Sat". False: no day stands here. */
static bool take_days(const char **p, uint8_t *days)
{
    int from = day_named(p), till = from;

    if (from < 0)
        return false;
    if (**p == '-') {
        ++*p;
        till = day_named(p);
        if (till < 0)
            return false;
    }
    for (int i = from;; i = (i + 1) % 7) {
        *days |= (uint8_t)BIT(i);
        if (i == till)
            return true;
    }
}

static bool take_minute(const char **p, uint16_t *minute)
{
    int32_t hour, rest;

    if (!number(p, 24, &hour) || !take(p, ':') || !number(p, 59, &rest) || hour * 60 + rest > 1440)
        return false;
    *minute = (uint16_t)(hour * 60 + rest);
    return true;
}

static bool take_zone(const char **p, char zone_name[SCHEDULE_ZONE_BYTES])
{
    size_t n = strcspn(*p, ", \t");
    bool other = zone_name[0] != '\0' && (strlen(zone_name) != n || strncmp(zone_name, *p, n) != 0);

    if (n == 0 || n >= SCHEDULE_ZONE_BYTES || other)
        return false;
    memcpy(zone_name, *p, n);
    zone_name[n] = '\0';
    *p += n;
    return true;
}

static bool window(struct schedule *s, const char **p, uint8_t *days,
                   char zone_name[SCHEDULE_ZONE_BYTES])
{
    struct schedule_window *w = &s->at[s->windows_n];

    *p += strspn(*p, " \t");
    if (isalpha((unsigned char)**p)) {
        if (!take_days(p, days))
            return false;
        *p += strspn(*p, " \t");
        if (**p == ',' && (*p)[1] != '\0') /* "Sat,Sun 00:00-24:00" */
            return true;
    }
    if (s->windows_n == SCHEDULE_WINDOWS_MAX || !take_minute(p, &w->from_m) || !take(p, '-') ||
        !take_minute(p, &w->till_m))
        return false;
    w->days = *days == 0 ? 0x7f : *days;
    *days = 0;
    s->windows_n++;
    *p += strspn(*p, " \t");
    return **p == '\0' || **p == ',' || (take_zone(p, zone_name) && (*p += strspn(*p, " \t")));
}

bool schedule_parse(struct schedule *s, const char *text, char zone_name[SCHEDULE_ZONE_BYTES],
                    struct err *err)
{
    const char *p = text;
    uint8_t days = 0;

    *s = (struct schedule){0};
    zone_name[0] = '\0';
    if (text[strspn(text, " \t")] == '\0')
        return true; /* always */
    for (;;) {
        if (!window(s, &p, &days, zone_name) || (*p != '\0' && *p != ','))
            return err_set(err, "22023",
                           "expected up to %d windows such as \"Mon-Fri 01:00-05:00 Europe/Berlin, "
                           "Sat,Sun 00:00-24:00\", in one zone; not \"%.40s\"",
                           SCHEDULE_WINDOWS_MAX, p);
        if (*p == '\0')
            return true;
        p++;
    }
}

bool schedule_holds(const struct schedule *s, int64_t utc_s)
{
    int64_t local_s = utc_s + zone_offset_s(&s->zone, utc_s);
    int64_t day = floor_div(local_s, DAY_S), minute = (local_s - day * DAY_S) / 60;
    int today = weekday_of(day), yesterday = (today + 6) % 7;

    for (uint32_t i = 0; i < s->windows_n; i++) {
        const struct schedule_window *w = &s->at[i];
        bool overnight = w->till_m <= w->from_m;
        if ((w->days >> today & 1) != 0 && minute >= w->from_m && (overnight || minute < w->till_m))
            return true;
        if (overnight && (w->days >> yesterday & 1) != 0 && minute < w->till_m)
            return true;
    }
    return s->windows_n == 0;
}

bool schedule_parse_clock(uint32_t *minute, const char *text, char zone_name[SCHEDULE_ZONE_BYTES],
                          struct err *err)
{
    const char *p = text + strspn(text, " \t");
    uint16_t at;

    zone_name[0] = '\0';
    bool ok = take_minute(&p, &at) && at < 1440;
    p += ok ? strspn(p, " \t") : 0;
    if (!ok || (*p != '\0' && (!take_zone(&p, zone_name) || *p != '\0')))
        return err_set(err, "22023",
                       "expected a time of the day such as \"06:00\" or \"06:00 "
                       "Europe/Berlin\"");
    *minute = at;
    return true;
}

int64_t schedule_next(const struct zone *z, uint32_t minute, int64_t utc_s)
{
    int64_t day = floor_div(utc_s + zone_offset_s(z, utc_s), DAY_S);

    for (int64_t d = day - 1;; d++) {
        int64_t local_s = d * DAY_S + (int64_t)minute * 60;
        int64_t at_s = local_s - zone_offset_s(z, local_s - z->standard_s);
        if (at_s > utc_s)
            return at_s;
    }
}
