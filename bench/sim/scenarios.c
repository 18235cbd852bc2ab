/* The scenarios of the design (S1 to S17), the cases a naive breaker gets wrong, and the ones that
 * the search found. Times in seconds; where nothing is said, 800 requests a second keep four cores
 * at 45 %, and seconds 45 to 60 are the calm to compare with. */
#include "bench/sim/scenarios.h"

#include <string.h>

#include "bench/sim/acts.h"

/* One dump of one stream beside everything else: innocent. */
#define DUMP(from, to)                                                                             \
    {                                                                                              \
        .class = SIM_BACKUP, .n = 1, .from_s = from, .to_s = to                                    \
    }
#define STREAMS(k, from, to)                                                                       \
    {                                                                                              \
        .class = SIM_BULK, .n = k, .from_s = from, .to_s = to                                      \
    }

/* ---- bulk is the cause --------------------------------------------------------------------- */

static const struct scenario s1 = {
    .name = "S1",
    .title = "postmortem: a job with 48 streams",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {STREAMS(48, 100, 220)},
};
static const struct scenario s2 = {
    .name = "S2",
    .title = "boiling frog: one more stream every 8 s",
    .kind = SCENARIO_STREAMS,
    .length_s = 300,
    .event_from_s = 60,
    .event_to_s = 290,
    .bulk = {{.class = SIM_BULK, .n = 24, .from_s = 60, .to_s = 290, .apart_s = 8}},
};
static const struct scenario s10 = {
    .name = "S10",
    .title = "24 scans that send nothing",
    .kind = SCENARIO_SCANS,
    .sudden = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {{.class = SIM_BULK, .n = 24, .from_s = 100, .to_s = 220, .mb = 3000, .scans = true}},
};
static const struct scenario s11 = {
    .name = "S11",
    .title = "8 requests a second, 40 streams",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 400,
    .event_from_s = 200, /* a thousand statements teach what is normal */
    .event_to_s = 320,
    .slow_sample = true,
    .rate = rate_8,
    .bulk = {STREAMS(40, 200, 320)},
};
static const struct scenario s12 = {
    .name = "S12",
    .title = "30 streams for good: the knee",
    .kind = SCENARIO_STREAMS,
    .length_s = 600,
    .event_from_s = 300,
    .event_to_s = 600,
    .bulk = {STREAMS(30, 60, 600)},
};
static const struct scenario s13 = {
    .name = "S13",
    .title = "two classes: 6 dumps and 24 streams",
    .kind = SCENARIO_STREAMS,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {{.class = SIM_BACKUP, .n = 6, .from_s = 60, .to_s = 290}, STREAMS(24, 100, 220)},
};
static const struct scenario s17 = {
    .name = "S17",
    .title = "creep: one more stream every 25 s",
    .kind = SCENARIO_STREAMS,
    .length_s = 900,
    .event_from_s = 660,
    .event_to_s = 890,
    .bulk = {{.class = SIM_BULK, .n = 24, .from_s = 60, .to_s = 890, .apart_s = 25}},
};
static const struct scenario mixed = {
    .name = "mixed",
    .title = "24 streams and 12 scans",
    .kind = SCENARIO_SCANS,
    .sudden = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {STREAMS(24, 100, 220),
             {.class = SIM_BULK, .n = 12, .from_s = 100, .to_s = 220, .mb = 3000, .scans = true}},
};

/* ---- benign -------------------------------------------------------------------------------- */

static const struct scenario s3 = {
    .name = "S3",
    .title = "morning: users times four, one dump",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 60,
    .event_to_s = 290,
    .rate = rate_ramp,
    .bulk = {DUMP(60, 290)},
};
static const struct scenario s4 = {
    .name = "S4",
    .title = "stalls of 300 ms, one dump",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 60,
    .event_to_s = 290,
    .bulk = {DUMP(20, 290)},
    .acts = {{70, 25, 8, act_stall}},
};
static const struct scenario s5 = {
    .name = "S5",
    .title = "checkpoints: disk three times slower for 8 s",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 60,
    .event_to_s = 290,
    .bulk = {DUMP(20, 290)},
    .acts = {{70, 55, 4, act_disk_3x}, {78, 55, 4, act_disk_well}},
};
static const struct scenario s7 = {
    .name = "S7",
    .title = "a short hot row, two dumps",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 95,
    .event_to_s = 115,
    .shape = shape_hot_row,
    .bulk = {{.class = SIM_BACKUP, .n = 2, .from_s = 20, .to_s = 290}},
};
static const struct scenario s8 = {
    .name = "S8",
    .title = "deploy: 15 % of a heavy new query",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 290,
    .mix = mix_deploy,
    .bulk = {DUMP(20, 290)},
};
static const struct scenario s14 = {
    .name = "S14",
    .title = "the proxy itself sleeps for 0.8 s",
    .kind = SCENARIO_BENIGN,
    .length_s = 300,
    .event_from_s = 60,
    .event_to_s = 290,
    .bulk = {DUMP(20, 290)},
    .acts = {{70, 30, 6, act_sleep_800ms}},
};
static const struct scenario s15 = {
    .name = "S15",
    .title = "soak: all that is benign, for 19 minutes",
    .kind = SCENARIO_BENIGN,
    .length_s = 1200,
    .event_from_s = 60,
    .event_to_s = 1190,
    .rate = rate_day,
    .mix = mix_soak,
    .shape = shape_pile_ups,
    .bulk = {DUMP(20, 1190)},
    .acts = {{60, 60, 19, act_disk_2x},
             {68, 60, 19, act_disk_well},
             {75, 47, 24, act_stall},
             {100, 170, 6, act_sleep_500ms}},
};
static const struct scenario day = {
    .name = "day",
    .title = "the soak for a whole day",
    .kind = SCENARIO_BENIGN,
    .on_demand = true,
    .length_s = 86400,
    .event_from_s = 60,
    .event_to_s = 86390,
    .rate = rate_day,
    .mix = mix_soak,
    .shape = shape_pile_ups,
    .bulk = {DUMP(20, 86390)},
    .acts = {{60, 60, 1430, act_disk_2x},
             {68, 60, 1430, act_disk_well},
             {75, 47, 1830, act_stall},
             {100, 170, 500, act_sleep_500ms}},
};
static const struct scenario readers = {
    .name = "readers",
    .title = "some clients read their result slowly",
    .kind = SCENARIO_BENIGN,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .shape = shape_slow_readers,
    .bulk = {DUMP(20, 230)},
};

/* ---- something else is the cause ----------------------------------------------------------- */

static const struct scenario s6 = {
    .name = "S6",
    .title = "restart: 5 s away, then a cold cache",
    .kind = SCENARIO_INNOCENT,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 160,
    .bulk = {DUMP(20, 290)},
    .acts = {{100, 0, 0, act_kill}, {105, 0, 0, act_restore}},
};
/* The same with users who wait for longer than the server is away: nothing may be lost. */
static const struct scenario patient = {
    .name = "patient",
    .title = "S6, and users wait for 8 s",
    .kind = SCENARIO_INNOCENT,
    .lossless = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 160,
    .patience_s = 8,
    .bulk = {DUMP(20, 290)},
    .acts = {{100, 0, 0, act_kill}, {105, 0, 0, act_restore}},
};
/* Whoever cannot log in is nobody's trouble but his own. */
static const struct scenario denied = {
    .name = "denied",
    .title = "wrong password: 50 clients try every 10 ms",
    .kind = SCENARIO_INNOCENT,
    .lossless = true,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .bulk = {{.class = SIM_BULK, .n = 50, .from_s = 100, .to_s = 160, .retry_s = 0.01},
             DUMP(20, 230)},
    .acts = {{90, 0, 0, act_deny_bulk}},
};
static const struct scenario s7b = {
    .name = "S7b",
    .title = "a hot row fills the pool, two dumps",
    .kind = SCENARIO_INNOCENT,
    .length_s = 300,
    .event_from_s = 95,
    .event_to_s = 115,
    .shape = shape_hot_row_half,
    .bulk = {{.class = SIM_BACKUP, .n = 2, .from_s = 20, .to_s = 290}},
};
static const struct scenario s16 = {
    .name = "S16",
    .title = "disk 12 times slower, one dump",
    .kind = SCENARIO_SICK,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 200,
    .bulk = {DUMP(20, 290)},
    .acts = {{100, 0, 0, act_disk_12x}, {200, 0, 0, act_disk_well}},
};
static const struct scenario freeze = {
    .name = "freeze",
    .title = "nothing moves for 20 s",
    .kind = SCENARIO_INNOCENT,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 130,
    .bulk = {DUMP(20, 230)},
    .acts = {{100, 0, 0, act_freeze}},
};
static const struct scenario timeouts = {
    .name = "timeouts",
    .title = "one statement in 200 hangs",
    .kind = SCENARIO_INNOCENT,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .shape = shape_timeouts,
    .bulk = {DUMP(20, 230)},
};
static const struct scenario lunch = {
    .name = "lunch",
    .title = "30 sessions idle in transaction",
    .kind = SCENARIO_INNOCENT,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .bulk = {DUMP(20, 230)},
    .acts = {{100, 0, 0, act_idle_sessions}},
};
static const struct scenario full = {
    .name = "full",
    .title = "53300: 30 places where 100 were promised",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {STREAMS(48, 100, 220)},
    .acts = {{1, 0, 0, act_few_places}},
};
static const struct scenario s9 = {
    .name = "S9",
    .title = "surge: 6000 a second, about 4500 fit",
    .kind = SCENARIO_SURGE,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 165,
    .rate = rate_surge,
};

/* ---- hard ones ----------------------------------------------------------------------------- */

static const struct scenario cold = {
    .name = "cold",
    .title = "started in the middle of the storm",
    .kind = SCENARIO_OPEN,
    .length_s = 240,
    .event_from_s = 0,
    .event_to_s = 120,
    .calm_from_s = 180,
    .bulk = {STREAMS(48, 0, 120)},
};
static const struct scenario disguise = {
    .name = "disguise",
    .title = "24 streams that look like users",
    .kind = SCENARIO_OPEN,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .bulk = {{.class = SIM_BULK, .n = 24, .from_s = 100, .to_s = 160, .disguised = true}},
};
static const struct scenario writer = {
    .name = "writer",
    .title = "bulk writers hold rows users want",
    .kind = SCENARIO_OPEN,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .shape = shape_row_locks,
    .bulk = {{.class = SIM_BULK,
              .n = 4,
              .from_s = 100,
              .to_s = 160,
              .mb = 200,
              .scans = true,
              .lock_i = 1,
              .lock_exclusive = true,
              .writes = true}},
};
static const struct scenario ddl = {
    .name = "ddl",
    .title = "ALTER TABLE behind a dump that is paced",
    .kind = SCENARIO_INVERSION,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .shape = shape_table,
    .bulk = {{.class = SIM_BACKUP, .n = 4, .from_s = 80, .to_s = 290, .mb = 300, .lock_i = 1},
             STREAMS(24, 100, 220)},
    .acts = {{130, 0, 0, act_ddl}},
};
/* Found by the search: as users wait for their locks, none of them is paced, so that holding the
 * class shows no effect, and it is exonerated. */
static const struct scenario unpaced = {
    .name = "unpaced",
    .title = "23 dumps whose locks users wait for",
    .kind = SCENARIO_OPEN,
    .length_s = 240,
    .event_from_s = 88,
    .event_to_s = 188,
    .shape = shape_row_locks,
    .bulk = {{.class = SIM_BACKUP, .n = 23, .from_s = 88, .to_s = 188, .mb = 2300, .lock_i = 1}},
};
static const struct scenario apart = {
    .name = "apart",
    .title = "bulk by one proxy, users by another",
    .kind = SCENARIO_OPEN,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .proxies_n = 2,
    .users_on = 1,
    .bulk = {{.class = SIM_BULK,
              .n = 48,
              .from_s = 100,
              .to_s = 220,
              .proxy_first_i = 1,
              .proxies_n = 1}},
};
static const struct scenario hammer = {
    .name = "hammer",
    .title = "400 shed clients retry at 1 kHz",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 300,
    .event_from_s = 100,
    .event_to_s = 220,
    .bulk = {{.class = SIM_BULK,
              .n = 400,
              .from_s = 100,
              .to_s = 220,
              .apart_s = 0.001,
              .retry_s = 0.001}},
};
static const struct scenario dumps = {
    .name = "dumps",
    .title = "three pg_dump -j 4 in the storm",
    .kind = SCENARIO_STREAMS,
    .jobs_n = 15,
    .length_s = 400,
    .event_from_s = 100,
    .event_to_s = 160,
    .bulk = {{.class = SIM_BACKUP,
              .n = 15,
              .from_s = 95,
              .to_s = 390,
              .mb = 400,
              .group_n = 5,
              .once = true},
             STREAMS(24, 100, 160)},
};

/* ---- at scale ------------------------------------------------------------------------------ */

static const struct scenario crowd = {
    .name = "crowd",
    .title = "100,000 clients, a storm, a restart",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 240,
    .event_from_s = 100,
    .event_to_s = 160,
    .crowd_n = 100000,
    .bulk = {STREAMS(48, 100, 160)},
    .acts = {{180, 0, 0, act_kill}, {185, 0, 0, act_restore}},
};
static const struct scenario many = {
    .name = "many",
    .title = "64 servers behind one proxy, 16 of them stormed",
    .kind = SCENARIO_STREAMS,
    .sudden = true,
    .length_s = 160,
    .event_from_s = 100,
    .event_to_s = 150,
    .databases_n = 64,
    .bulk = {{.class = SIM_BULK, .n = 16 * 30, .from_s = 100, .to_s = 150, .proxies_n = 16}},
};

const struct scenario *const scenarios[] = {
    &s1,       &s2,     &s10, &s11,     &s12,    &s13,      &s17,   &mixed,   &hammer, &dumps,
    &s3,       &s4,     &s5,  &s7,      &s8,     &s14,      &s15,   &readers, &day,    &s6,
    &patient,  &denied, &s7b, &s16,     &freeze, &timeouts, &lunch, &full,    &s9,     &cold,
    &disguise, &writer, &ddl, &unpaced, &apart,  &crowd,    &many,
};
const uint32_t scenarios_n = COUNT_OF(scenarios);

const struct scenario *scenario_find(const char *name)
{
    for (uint32_t i = 0; i < scenarios_n; i++)
        if (strcasecmp(scenarios[i]->name, name) == 0)
            return scenarios[i];
    return NULL;
}
