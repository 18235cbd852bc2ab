/* Hours of the week in which a class may work as it likes, and the time zone they are told in.
 *
 *     Mon-Fri 01:00-05:00 Europe/Berlin, Sat,Sun 00:00-24:00
 *
 * Days stand before their hours; without days it is every day; 22:00-05:00 runs into the next day.
 * One zone for all of a schedule. libc's zones belong to the whole process, so a zone is a value
 * here: the rule at the end of its file in the zoneinfo database ("CET-1CEST,M3.5.0,M10.5.0/3"),
 * which holds for all the future that is known. (Not for Morocco, whose clocks follow the moon.)
 * Time is an argument. */
#ifndef POOL_SCHEDULE_H
#define POOL_SCHEDULE_H

#include "breaker/base.h"

enum {
    SCHEDULE_WINDOWS_MAX = 8,
    SCHEDULE_ZONE_BYTES = 64, /* of a zone's name, with its NUL */
    DAY_S = 24 * 3600,
};

/* When the clocks change, in local time before the change. */
struct zone_change {
    enum { ZONE_MONTH, ZONE_JULIAN, ZONE_DAY } kind; /* M3.5.0, J59 (no leap day), 59 (from 0) */
    int32_t month, week, day;
    int32_t time_s;
};
struct zone {
    int32_t standard_s, summer_s; /* east of Greenwich */
    bool has_summer;
    struct zone_change starts, ends;
};
/* A zone as POSIX writes it in TZ. */
MUST_USE bool zone_parse(struct zone *z, const char *text);
int32_t zone_offset_s(const struct zone *z, int64_t utc_s);

struct schedule_window {
    uint8_t days;            /* bits: 0 is Sunday */
    uint16_t from_m, till_m; /* minutes of the day; till <= from: of the next one */
};
struct schedule {
    uint32_t windows_n; /* 0: always */
    struct schedule_window at[SCHEDULE_WINDOWS_MAX];
    struct zone zone;
};
/* zone_name is what the text says, or "": the caller knows what that means, and sets s->zone. */
MUST_USE bool schedule_parse(struct schedule *s, const char *text,
                             char zone_name[SCHEDULE_ZONE_BYTES], struct err *err);
MUST_USE bool schedule_holds(const struct schedule *s, int64_t utc_s);

/* "06:00", in minutes of the day, perhaps with a zone behind it. */
MUST_USE bool schedule_parse_clock(uint32_t *minute, const char *text,
                                   char zone_name[SCHEDULE_ZONE_BYTES], struct err *err);
/* When it is that time of the day next, after utc_s. */
int64_t schedule_next(const struct zone *z, uint32_t minute, int64_t utc_s);

#endif
