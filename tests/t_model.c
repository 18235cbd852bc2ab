/* The estimator and the latency breaker against the reference model, tick by tick.
 *
 * A trace holds the inputs of every tick and what the model answered: pressure, state, g of each
 * class, cancels asked for. Without arguments the committed traces of tests/model/golden are
 * played; with arguments those files (tests/model/compare.py makes fresh ones where the model is at
 * hand). States and cancels must be equal, P and g within 1e-6: both sides compute in doubles, in
 * the same order, so what differs is an error in one of them.
 *
 *     opt KEY VALUE                          before all else
 *     class NAME TRICKLE CANCELLED           lowest first
 *     O a3512 ...                            observations: fingerprint letter, tens of ms ago (one
 *                                            digit) that it ended, microseconds it took
 *     V a90000 ...                           in flight: fingerprint letter, age in microseconds
 *     W MIN_US                               least wait of those who got a server
 *     U CLASS ACTIVE NONSTREAMING QUEUED CAP BYTES     use, where it changed
 *     T SINCE_US HEAD_WAIT_US FLAGS          the tick, so long after the last one: q queue empty, b
 *                                            breaker ticks too, s stalled
 *     = P [STATE g,g... cancel,cancel...]    the answer; the rest where it changed
 */
#include "breaker/breaker.h"

#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INFLIGHT_MAX = 4096, OFFSET_US = 10 * US_PER_MS };

struct observation {
    uint64_t fingerprint, ago_us, service_us;
};

/* One trace being played. */
struct play {
    const char *path;
    uint32_t line_n, ticks_n;
    struct estimator_opts estimator_opts;
    struct breaker_opts breaker_opts;
    struct breaker_class_opts classes[CLASSES_MAX];
    uint32_t classes_n;
    bool begun;
    struct estimator estimator;
    struct breaker breaker;
    struct breaker_use use[CLASSES_MAX];
    /* of the tick being collected */
    struct observation observed[INFLIGHT_MAX];
    size_t observed_n;
    struct estimator_inflight
        inflight[INFLIGHT_MAX]; /* dispatched_us holds the age until the tick */
    size_t inflight_n;
    bool waited;
    uint64_t wait_us;
    /* what the model said last */
    char state[16];
    double g[CLASSES_MAX];
    unsigned cancels[CLASSES_MAX];
    struct pressure pressure;
};

static uint32_t covered[8][8]; /* transitions seen in all traces */

static void set_opt(struct play *play, const char *key, double value)
{
    if (strcmp(key, "warmup_us") == 0)
        play->estimator_opts.warmup_us = (uint64_t)value;
    else if (strcmp(key, "slow50") == 0)
        play->estimator_opts.slow50 = value;
    else if (strcmp(key, "slow90") == 0)
        play->estimator_opts.slow90 = value;
    else if (strcmp(key, "slo_p99_us") == 0)
        play->estimator_opts.slo_p99_us = (uint64_t)value;
    else if (strcmp(key, "anchor_cap") == 0)
        play->estimator_opts.anchor_cap = value;
    else
        fail_msg("%s:%u: no option %s", play->path, play->line_n, key);
}

/* Everything the model lacks is switched off. */
static void model_opts(struct play *play)
{
    estimator_opts_defaults(&play->estimator_opts);
    play->estimator_opts.learn_blind = true;
    play->estimator_opts.quick_us = 0;
    play->estimator_opts.anchor_cap = 0;
    play->estimator_opts.slo_waits = false;
    breaker_opts_defaults(&play->breaker_opts);
    play->breaker_opts.early_retest = false;
    play->breaker_opts.drain_unpaced = false;
    play->breaker_opts.minor_share = 0;
    play->breaker_opts.forget_share = 0;
    play->breaker_opts.absolve_tried = false;
    play->breaker_opts.pending_us = 0;
    play->breaker_opts.rise_n = 0;
    play->breaker_opts.fall = 0;
    play->breaker_opts.limit.jitter = 0;
    play->breaker_opts.limit.floor_grow_us = 0;
}

static void begin(struct play *play)
{
    if (play->begun)
        return;
    play->begun = true;
    estimator_init(&play->estimator, &play->estimator_opts, 0);
    breaker_init(&play->breaker, &play->breaker_opts, play->classes, play->classes_n, 1);
    for (uint32_t i = 0; i < play->classes_n; i++)
        play->g[i] = 1;
    memcpy(play->state, "closed", sizeof "closed");
}

static void read_observations(struct play *play, const char *at)
{
    while (*at == ' ') {
        must(play->observed_n < INFLIGHT_MAX);
        struct observation *o = &play->observed[play->observed_n++];
        o->fingerprint = (uint64_t)(at[1] - 'a' + 1) * 1000003;
        uint64_t since_us = (uint64_t)(at[2] - '0') * OFFSET_US;
        char *end;
        o->service_us = strtoull(at + 3, &end, 10);
        o->ago_us = since_us + o->service_us;
        at = end;
    }
}

static void read_inflight(struct play *play, const char *at)
{
    while (*at == ' ') {
        must(play->inflight_n < INFLIGHT_MAX);
        struct estimator_inflight *f = &play->inflight[play->inflight_n++];
        f->fingerprint = (uint64_t)(at[1] - 'a' + 1) * 1000003;
        char *end;
        f->dispatched_us = strtoull(at + 2, &end, 10);
        at = end;
    }
}

static void read_class(struct play *play, const char *line)
{
    struct breaker_class_opts *c = &play->classes[play->classes_n++];
    unsigned cancelled;
    unsigned long trickle;
    assert_int_equal(sscanf(line, "class %31s %lu %u", c->name, &trickle, &cancelled), 3);
    c->mode = BREAKER_ENFORCE;
    c->paced = true;
    c->cancelled = cancelled;
    c->trickle_bytes_per_s = trickle;
}

static void read_use(struct play *play, const char *line)
{
    unsigned i, active, nonstreaming, queued, cap;
    unsigned long bytes;
    assert_int_equal(
        sscanf(line, "U %u %u %u %u %u %lu", &i, &active, &nonstreaming, &queued, &cap, &bytes), 6);
    play->use[i] = (struct breaker_use){.active_n = active,
                                        .nonstreaming_n = nonstreaming,
                                        .queued_n = queued,
                                        .cap_n = cap,
                                        .bytes_per_s = bytes};
}

static void tick(struct play *play, const char *line)
{
    unsigned long since_us, head_wait_us;
    char flags[8] = "";
    assert_true(sscanf(line, "T %lu %lu %7s", &since_us, &head_wait_us, flags) >= 2);
    uint64_t now_us = play->estimator.last_tick_us + since_us;
    struct estimator *e = &play->estimator;
    for (size_t i = 0; i < play->observed_n; i++) {
        const struct observation *o = &play->observed[i];
        estimator_observe(e, o->fingerprint, now_us - o->ago_us, o->service_us);
    }
    for (size_t i = 0; i < play->inflight_n; i++)
        play->inflight[i].dispatched_us = now_us - play->inflight[i].dispatched_us;
    if (play->waited)
        estimator_observe_wait(e, play->wait_us);
    if (strchr(flags, 'q'))
        estimator_queue_empty(e);
    struct pressure p =
        estimator_pressure(e, now_us, play->inflight, play->inflight_n, head_wait_us);
    p.lagging |= strchr(flags, 's') != NULL;
    if (strchr(flags, 'b'))
        breaker_tick(&play->breaker, e, &p, play->use, now_us);
    estimator_tick_end(e, now_us, breaker_calm(&play->breaker, &p));
    play->pressure = p;
    play->observed_n = 0;
    play->inflight_n = 0;
    play->waited = false;
    play->ticks_n++;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(1, fmax(fabs(a), fabs(b)));
}

static void read_answer(struct play *play, const char *line, double *p)
{
    char *at;
    *p = strtod(line + 1, &at);
    memset(play->cancels, 0, sizeof play->cancels);
    int used = 0;
    if (sscanf(at, " %15s%n", play->state, &used) != 1)
        return;
    at += used;
    for (uint32_t i = 0; i < play->classes_n; i++)
        play->g[i] = strtod(at + 1, &at);
    for (uint32_t i = 0; i < play->classes_n; i++)
        play->cancels[i] = (unsigned)strtoul(at + 1, &at, 10);
}

static void check_answer(struct play *play, const char *line)
{
    double p;
    read_answer(play, line, &p);
    const struct breaker *b = &play->breaker;
    if (!near(p, play->pressure.p))
        fail_msg("%s:%u: P is %.9g, the model says %.9g (lat %g q %g slo %g n %u)", play->path,
                 play->line_n, play->pressure.p, p, play->pressure.p_lat, play->pressure.p_q,
                 play->pressure.p_slo, play->pressure.n);
    if (strcmp(breaker_state_name(b->state), play->state) != 0)
        fail_msg("%s:%u: state is %s (%s), the model says %s", play->path, play->line_n,
                 breaker_state_name(b->state), breaker_last_reason(b), play->state);
    for (uint32_t i = 0; i < play->classes_n; i++) {
        const struct breaker_class *c = &b->classes[i];
        if (!near(c->limit.g, play->g[i]))
            fail_msg("%s:%u: g of %s is %.9g (%s), the model says %.9g", play->path, play->line_n,
                     c->opts.name, c->limit.g, breaker_last_reason(b), play->g[i]);
        if (c->ask.cancel_n != play->cancels[i])
            fail_msg("%s:%u: %u cancels of %s, the model says %u", play->path, play->line_n,
                     c->ask.cancel_n, c->opts.name, play->cancels[i]);
    }
}

static void play_line(struct play *play, char *line)
{
    char key[32];
    double value;
    uint32_t before_n = play->breaker.transitions_n;
    switch (line[0]) {
    case '#':
        return;
    case 'o':
        assert_int_equal(sscanf(line, "opt %31s %lf", key, &value), 2);
        set_opt(play, key, value);
        return;
    case 'c':
        read_class(play, line);
        return;
    case 'O':
        read_observations(play, line + 1);
        return;
    case 'V':
        read_inflight(play, line + 1);
        return;
    case 'W':
        play->waited = true;
        play->wait_us = strtoull(line + 2, NULL, 10);
        return;
    case 'U':
        read_use(play, line);
        return;
    case 'T':
        begin(play);
        tick(play, line);
        for (uint32_t i = before_n; i != play->breaker.transitions_n; i++) {
            const struct breaker_transition *t =
                &play->breaker.transitions[i % BREAKER_TRANSITIONS];
            covered[t->from][t->to]++;
        }
        return;
    case '=':
        check_answer(play, line);
        return;
    default:
        fail_msg("%s:%u: not a line of a trace", play->path, play->line_n);
    }
}

static void play_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s: cannot be read", path);
    struct play *play = calloc(1, sizeof *play);
    must(play);
    play->path = path;
    model_opts(play);
    char *line = NULL;
    size_t line_bytes = 0;
    while (getline(&line, &line_bytes, file) > 0) {
        play->line_n++;
        line[strcspn(line, "\n")] = '\0';
        play_line(play, line);
    }
    assert_true(play->ticks_n > 0);
    free(line);
    free(play);
    fclose(file);
}

static int files_n;
static char **files;

static void test_files(void **state)
{
    (void)state;
    for (int i = 0; i < files_n; i++)
        play_file(files[i]);
}

static void test_golden(void **state)
{
    (void)state;
    glob_t found;
    if (glob("tests/model/golden/*.trace", 0, NULL, &found) != 0)
        fail_msg("no golden traces: run from the top of the tree");
    for (size_t i = 0; i < found.gl_pathc; i++)
        play_file(found.gl_pathv[i]);
    printf("%zu golden traces\n", found.gl_pathc);
    globfree(&found);
}

/* A comparison that never leaves the beaten path proves little: each of these moves must occur. */
static void test_golden_cover_the_state_table(void **state)
{
    (void)state;
    static const struct {
        enum breaker_state from, to;
    } moves[] = {
        {BREAKER_CLOSED, BREAKER_TEST},      {BREAKER_TEST, BREAKER_TEST},
        {BREAKER_TEST, BREAKER_PROBATION},   {BREAKER_TEST, BREAKER_THROTTLED},
        {BREAKER_TEST, BREAKER_EXONERATED},  {BREAKER_PROBATION, BREAKER_THROTTLED},
        {BREAKER_PROBATION, BREAKER_CLOSED}, {BREAKER_THROTTLED, BREAKER_THROTTLED},
        {BREAKER_THROTTLED, BREAKER_OPEN},   {BREAKER_THROTTLED, BREAKER_CLOSED},
        {BREAKER_OPEN, BREAKER_THROTTLED},   {BREAKER_EXONERATED, BREAKER_CLOSED},
        {BREAKER_EXONERATED, BREAKER_TEST},
    };
    for (size_t i = 0; i < COUNT_OF(moves); i++)
        if (covered[moves[i].from][moves[i].to] == 0)
            fail_msg("no golden trace goes from %s to %s", breaker_state_name(moves[i].from),
                     breaker_state_name(moves[i].to));
}

int main(int argc, char **argv)
{
    files_n = argc - 1;
    files = argv + 1;
    const struct CMUnitTest given[] = {cmocka_unit_test(test_files)};
    const struct CMUnitTest golden[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_cover_the_state_table),
    };
    return files_n > 0 ? cmocka_run_group_tests(given, NULL, NULL)
                       : cmocka_run_group_tests(golden, NULL, NULL);
}
