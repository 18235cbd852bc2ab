/* Hours of the week, over changes of the clocks. What is right is asked of libc. */
#include "pool/schedule.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static const char *const zones[][2] = {
    {"Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"},
    {"America/New_York", "EST5EDT,M3.2.0,M11.1.0"},
    {"Australia/Sydney", "AEST-10AEDT,M10.1.0,M4.1.0/3"},
    {"Asia/Kolkata", "IST-5:30"},
    {"Asia/Kathmandu", "<+0545>-5:45"},
    {"America/Nuuk", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0"},
    {"Europe/Dublin", "IST-1GMT0,M10.5.0,M3.5.0/1"},
    {"Asia/Jerusalem", "IST-2IDT,M3.4.4/26,M10.5.0"},
    {"J", "AAA3BBB,J60/0,J300/12"},
    {"day", "AAA-12BBB,59/1:30,299"},
};

static void test_zones_as_libc_has_them(void **state)
{
    (void)state;
    struct zone z;

    for (uint32_t i = 0; i < COUNT_OF(zones); i++) {
        assert_true(zone_parse(&z, zones[i][1]));
        assert_int_equal(setenv("TZ", zones[i][1], 1), 0);
        tzset();
        /* Every quarter of an hour of five years, a leap year among them. */
        for (time_t at = 1704067200; at < 1704067200 + (time_t)5 * 366 * DAY_S; at += 900) {
            struct tm tm;
            localtime_r(&at, &tm);
            if (tm.tm_gmtoff != zone_offset_s(&z, at))
                fail_msg("%s at %lld: %ld, not %d", zones[i][0], (long long)at, tm.tm_gmtoff,
                         zone_offset_s(&z, at));
        }
    }
    static const char *const bad[] = {"",
                                      "CE",
                                      "CET",
                                      "CET-1CEST,M3.5.0",
                                      "CET-1CEST,M13.5.0,M1.1.1",
                                      "CET-1CEST,M3.6.0,M10.5.0",
                                      "CET-1CEST",
                                      "<CET-1",
                                      "CET-1x",
                                      "CET-1CEST,M3.5.0,M10.5.0/3x"};
    for (uint32_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(zone_parse(&z, bad[i]));
}

static struct schedule of(const char *text, const char *zone)
{
    struct schedule s;
    struct err err;
    char name[SCHEDULE_ZONE_BYTES];

    assert_true(schedule_parse(&s, text, name, &err));
    assert_true(zone_parse(&s.zone, zone));
    return s;
}

enum { MONDAY = 1767571200 }; /* 2026-01-05 00:00 UTC */

static void test_days_and_hours(void **state)
{
    (void)state;
    struct schedule s = of("Mon-Fri 01:00-05:00, Sat,Sun 00:00-24:00", "UTC0");

    for (int64_t m = 0; m < 7 * 1440; m++) {
        int64_t day = m / 1440, minute = m % 1440;
        bool should = day >= 5 || (minute >= 60 && minute < 300);
        assert_int_equal(schedule_holds(&s, MONDAY + m * 60 + 59), should);
    }
    s = of("22:00-05:00", "UTC0");
    for (int64_t m = 0; m < 7 * 1440; m++)
        assert_int_equal(schedule_holds(&s, MONDAY + m * 60), m % 1440 >= 1320 || m % 1440 < 300);
    s = of("fri-sun 22:00-05:00", "UTC0");
    assert_true(schedule_holds(&s, MONDAY + 4 * 3600)); /* Sunday's night */
    assert_false(schedule_holds(&s, MONDAY + 23 * 3600));
    assert_false(schedule_holds(&s, MONDAY + 4 * DAY_S + 4 * 3600));
    s = of("", "UTC0");
    assert_true(schedule_holds(&s, MONDAY));
}

/* 01:00-05:00 lasts three hours in the night when the clocks go forward, five when they go back. */
static void test_nights_when_the_clocks_change(void **state)
{
    (void)state;
    struct schedule s = of("01:00-05:00 Europe/Berlin", zones[0][1]);
    static const struct {
        int64_t from_s;
        int hours;
    } nights[] = {{1774699200, 3}, {1792843200, 5}, {1780747200, 4}}; /* noon of 28 Mar ..., UTC */

    for (uint32_t i = 0; i < COUNT_OF(nights); i++) {
        int minutes = 0;
        for (int64_t m = 0; m < 1440; m++)
            minutes += schedule_holds(&s, nights[i].from_s + m * 60);
        assert_int_equal(minutes, nights[i].hours * 60);
    }
}

static void test_what_is_no_schedule(void **state)
{
    (void)state;
    static const char *const bad[] = {"Mon",
                                      "25:00-26:00",
                                      "01:00",
                                      "01:00-",
                                      "Mon-Foo 01:00-02:00",
                                      "01:00-02:00 Europe/Berlin x",
                                      "01:00-02:00,",
                                      "24:01-24:02",
                                      "01:00-02:00 UTC, 03:00-04:00 Europe/Berlin",
                                      "Monday 1:00-2:00"};
    struct schedule s;
    struct err err;
    char name[SCHEDULE_ZONE_BYTES];

    for (uint32_t i = 0; i < COUNT_OF(bad); i++)
        if (schedule_parse(&s, bad[i], name, &err))
            fail_msg("\"%s\" is taken", bad[i]);
    /* What it says of one that is cut short comes from the text, not from what lies behind it. */
    static const char cut_short[][16] = {"01\0secret", "01:00\0secret", "Mon 01:00\0secret"};
    for (uint32_t i = 0; i < COUNT_OF(cut_short); i++) {
        assert_false(schedule_parse(&s, cut_short[i], name, &err));
        assert_null(strstr(err.text, "secret"));
    }
    assert_true(schedule_parse(&s, " Mon 1:00-2:00 Europe/Berlin , Tue 01:00-02:00 ", name, &err));
    assert_string_equal(name, "Europe/Berlin");
    assert_int_equal(s.windows_n, 2);
}

static void test_the_next_six_o_clock(void **state)
{
    (void)state;
    struct zone z;
    struct err err;
    char name[SCHEDULE_ZONE_BYTES];
    uint32_t minute;

    assert_true(schedule_parse_clock(&minute, "06:00 Europe/Berlin", name, &err));
    assert_int_equal(minute, 360);
    assert_string_equal(name, "Europe/Berlin");
    assert_false(schedule_parse_clock(&minute, "24:00", name, &err));
    assert_false(schedule_parse_clock(&minute, "6", name, &err));
    assert_false(schedule_parse_clock(&minute, "06:00 a b", name, &err));
    assert_true(zone_parse(&z, zones[0][1]));
    for (int64_t at = MONDAY; at < MONDAY + (int64_t)366 * DAY_S; at += 1777) {
        int64_t next = schedule_next(&z, 360, at);
        assert_true(next > at && next <= at + 25 * 3600);
        int64_t local_s = next + zone_offset_s(&z, next);
        assert_int_equal(local_s % DAY_S, 6 * 3600);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zones_as_libc_has_them),
        cmocka_unit_test(test_days_and_hours),
        cmocka_unit_test(test_nights_when_the_clocks_change),
        cmocka_unit_test(test_what_is_no_schedule),
        cmocka_unit_test(test_the_next_six_o_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
