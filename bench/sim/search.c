#include "bench/sim/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/sim/acts.h"
#include "bench/sim/policy.h"
#include "bench/sim/run.h"

enum { LENGTH_S = 200, FROM_S = 60, TO_S = 180, WORST = 5, BULK_N = 2, ACTS_N = 4 };

/* ---- bytes ----------------------------------------------------------------------------------- */

struct bytes {
    const uint8_t *at;
    size_t n;
};

static uint32_t take(struct bytes *b, uint32_t below)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < 1 + (below > 256); i++) {
        value = value << 8 | (b->n > 0 ? *b->at : 0);
        b->at += b->n > 0;
        b->n -= b->n > 0;
    }
    return value % below;
}

static struct bulk_opts some_bulk(struct bytes *b)
{
    static const double aparts[] = {0.001, 0.05, 1, 8}, retries[] = {0.01, 0.1, 2, 10};
    struct bulk_opts o = {.class = take(b, 3) == 0 ? SIM_BACKUP : SIM_BULK};

    o.n = 1 + take(b, take(b, 2) == 0 ? 8 : 64);
    o.from_s = FROM_S + take(b, 100); /* before it, calm is measured */
    o.to_s = o.from_s + 5 + take(b, 120);
    o.apart_s = aparts[take(b, COUNT_OF(aparts))];
    o.retry_s = retries[take(b, COUNT_OF(retries))];
    o.mb = 1 + take(b, 3000);
    o.scans = o.class == SIM_BULK && take(b, 2) == 1;
    o.lock_i = take(b, 8) == 0;
    o.group_n = o.class == SIM_BACKUP && take(b, 4) == 0 ? 5 : 0;
    return o;
}

/* One thing, and what ends it where it would not end by itself. */
static uint32_t some_act(struct bytes *b, struct act *out, bool killed)
{
    static void (*const alone[])(struct world *) = {act_stall, act_sleep_800ms,   act_sleep_500ms,
                                                    act_ddl,   act_idle_sessions, act_few_places};
    static void (*const ended[])(struct world *) = {act_disk_2x, act_disk_3x, act_disk_12x};
    double at_s = FROM_S + take(b, 80), every_s = 5 + take(b, 40);
    uint32_t times = 1 + take(b, 6), what = take(b, COUNT_OF(alone) + COUNT_OF(ended) + 1);

    if (what < COUNT_OF(alone)) {
        out[0] =
            (struct act){at_s, every_s, alone[what] == act_few_places ? 1 : times, alone[what]};
        return 1;
    }
    what -= COUNT_OF(alone);
    if (what < COUNT_OF(ended)) {
        out[0] = (struct act){at_s, every_s, times, ended[what]};
        out[1] = (struct act){at_s + every_s / 2, every_s, times, act_disk_well};
        return 2;
    }
    if (killed)
        return 0; /* once is enough */
    out[0] = (struct act){at_s, 0, 1, act_kill};
    out[1] = (struct act){at_s + 1 + take(b, 10), 0, 1, act_restore};
    return 2;
}

void search_decode(struct scenario *out, const uint8_t *bytes, size_t bytes_n)
{
    static const users_rate_fn rates[] = {rate_800, rate_800, rate_ramp, rate_day, rate_8};
    static const users_shape_fn shapes[] = {NULL,           NULL,
                                            shape_hot_row,  shape_row_locks,
                                            shape_table,    shape_slow_readers,
                                            shape_timeouts, shape_pile_ups};
    struct bytes b = {bytes, bytes_n};
    uint32_t acts_n = 0;
    bool killed = false;

    *out = (struct scenario){.name = "found",
                             .title = "made of bytes",
                             .kind = SCENARIO_OPEN,
                             .length_s = LENGTH_S,
                             .event_from_s = FROM_S,
                             .event_to_s = TO_S};
    out->rate = rates[take(&b, COUNT_OF(rates))];
    out->shape = shapes[take(&b, COUNT_OF(shapes))];
    out->mix = take(&b, 4) == 0 ? mix_deploy : NULL;
    for (uint32_t i = 0; i < BULK_N; i++)
        out->bulk[i] = some_bulk(&b);
    for (uint32_t i = take(&b, ACTS_N); i > 0 && acts_n + 2 <= SCENARIO_ACTS_MAX; i--) {
        acts_n += some_act(&b, &out->acts[acts_n], killed);
        killed |= acts_n > 0 && out->acts[acts_n - 1].fn == act_restore;
    }
}

/* ---- the search ------------------------------------------------------------------------------ */

struct found {
    uint8_t bytes[SEARCH_BYTES];
    double regret;
    struct result own, capped;
};

/* What users have less of than with caps by hand; and where those did not let them suffer, what
 * bulk has less of. */
static double regret_of(const struct result *own, const struct result *capped)
{
    const struct outcome *o = &own->outcome, *c = &capped->outcome;
    double had = c->bytes_per_s[0] + c->bytes_per_s[1], has = o->bytes_per_s[0] + o->bytes_per_s[1];
    double regret = 2 * fmax(0, o->lost_percent - c->lost_percent) +
                    fmax(0, (double)o->bad_s - (double)c->bad_s);

    if (c->bad_s == 0 && had > 0)
        regret += fmax(0, 100 * (1 - has / had) - 2) / 2;
    return regret + (own->broken != NULL ? 1e6 : 0);
}

static void try_one(struct found *f, uint64_t seed, bool trace)
{
    struct scenario s;

    search_decode(&s, f->bytes, sizeof(f->bytes));
    run(&(struct world_opts){.scenario = &s, .policy = &policy_weir, .seed = seed, .trace = trace},
        &f->own);
    run(&(struct world_opts){.scenario = &s, .policy = &policy_static, .seed = seed}, &f->capped);
    f->regret = regret_of(&f->own, &f->capped);
}

static void print_bulk(const struct bulk_opts *o)
{
    printf("    %u %s %s of %u MB, %.0f to %.0f s, one each %.3f s%s%s\n", o->n,
           o->class == SIM_BACKUP ? "backup" : "bulk", o->scans ? "scans" : "streams", o->mb,
           o->from_s, o->to_s, o->apart_s, o->lock_i > 0 ? ", under a lock" : "",
           o->group_n > 0 ? ", in groups" : "");
}

static void print_found(const struct found *f)
{
    struct scenario s;
    const struct outcome *o = &f->own.outcome, *c = &f->capped.outcome;

    printf("regret %7.1f  ", f->regret);
    for (uint32_t i = 0; i < SEARCH_BYTES; i++)
        printf("%02x", f->bytes[i]);
    printf("\n    lost %.2f %% (caps %.2f), bad %u s (%u), bulk %.0f MB/s (%.0f), %llu tests, %llu "
           "confirmed, %llu exonerated, %llu cancels%s%s\n",
           o->lost_percent, c->lost_percent, o->bad_s, c->bad_s,
           (o->bytes_per_s[0] + o->bytes_per_s[1]) / (1 << 20),
           (c->bytes_per_s[0] + c->bytes_per_s[1]) / (1 << 20), (unsigned long long)f->own.tests_n,
           (unsigned long long)f->own.confirmed_n, (unsigned long long)f->own.exonerated_n,
           (unsigned long long)f->own.cancels_n, f->own.broken != NULL ? "; BROKEN: " : "",
           f->own.broken != NULL ? f->own.broken : "");
    search_decode(&s, f->bytes, sizeof(f->bytes));
    for (uint32_t i = 0; i < BULK_N; i++)
        print_bulk(&s.bulk[i]);
    for (uint32_t i = 0; i < SCENARIO_ACTS_MAX && s.acts[i].fn != NULL; i++)
        printf("    at %.0f s, %u times each %.0f s: %s\n", s.acts[i].at_s, s.acts[i].times,
               s.acts[i].every_s, act_name(s.acts[i].fn));
}

/* Half of the tries are all chance, the others a worst one with a few bytes changed. */
static void next_bytes(struct engine *e, const struct found worst[WORST], uint32_t known_n,
                       uint8_t bytes[SEARCH_BYTES])
{
    if (known_n > 0 && engine_random(e) % 2 == 0) {
        memcpy(bytes, worst[engine_random(e) % known_n].bytes, SEARCH_BYTES);
        for (uint32_t i = 0; i < 3; i++)
            bytes[engine_random(e) % SEARCH_BYTES] = (uint8_t)engine_random(e);
        return;
    }
    for (uint32_t i = 0; i < SEARCH_BYTES; i++)
        bytes[i] = (uint8_t)engine_random(e);
}

uint32_t search_run(const struct search_opts *opts)
{
    static struct found worst[WORST + 1];
    struct engine chance;
    uint32_t known_n = 0, broken_n = 0;

    engine_init(&chance, opts->seed);
    for (uint32_t i = 0; i < opts->tries_n; i++) {
        struct found *f = &worst[known_n];
        next_bytes(&chance, worst, known_n, f->bytes);
        try_one(f, opts->seed, false);
        broken_n += f->own.broken != NULL;
        uint32_t at = known_n;
        for (; at > 0 && worst[at - 1].regret < worst[at].regret; at--) {
            struct found other = worst[at - 1];
            worst[at - 1] = worst[at];
            worst[at] = other;
        }
        known_n += known_n < WORST;
    }
    for (uint32_t i = 0; i < known_n; i++)
        print_found(&worst[i]);
    printf("%u tried from seed %llu, %u broken promises\n", opts->tries_n,
           (unsigned long long)opts->seed, broken_n);
    engine_free(&chance);
    return broken_n;
}

bool search_again(const char *hex, uint64_t seed, uint32_t *broken_n)
{
    static struct found f;

    if (strlen(hex) != 2 * (size_t)SEARCH_BYTES)
        return false;
    for (uint32_t i = 0; i < SEARCH_BYTES; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'}, *end;
        f.bytes[i] = (uint8_t)strtoul(two, &end, 16);
        if (*end != '\0')
            return false;
    }
    try_one(&f, seed, true);
    print_found(&f);
    *broken_n = f.own.broken != NULL;
    return true;
}
