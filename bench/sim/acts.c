#include "bench/sim/acts.h"

#include <math.h>
#include <stdlib.h>
#include <utlist.h>

enum {
    LUNCH_N = 30,
    LUNCH_US = 60 * US_PER_S,
    DDL_US = 50 * US_PER_MS,
    FEW_PLACES = 30,
};
#define COLD 0.35 /* share missed on top, right after a restart */

static struct database *first(struct world *w)
{
    return &w->databases[0];
}

/* ---- the database -------------------------------------------------------------------------- */

void act_stall(struct world *w)
{
    database_stall(first(w), 300 * US_PER_MS);
}

void act_freeze(struct world *w)
{
    database_stall(first(w), 20 * US_PER_S);
}

static void set_disk(struct world *w, double slower)
{
    for (uint32_t i = 0; i < w->databases_n; i++)
        w->databases[i].disk.slower = slower;
}

void act_disk_3x(struct world *w)
{
    set_disk(w, 3);
}

void act_disk_2x(struct world *w)
{
    set_disk(w, 2);
}

void act_disk_12x(struct world *w)
{
    set_disk(w, 12);
}

void act_disk_well(struct world *w)
{
    set_disk(w, 1);
}

void act_kill(struct world *w)
{
    if (first(w)->up)
        world_kill(w, first(w));
}

void act_restore(struct world *w)
{
    world_restore(w, first(w), COLD);
}

void act_few_places(struct world *w)
{
    first(w)->connections_max = FEW_PLACES;
}

void act_deny_bulk(struct world *w)
{
    first(w)->bulk_denied = true;
}

/* ---- the proxy ----------------------------------------------------------------------------- */

void act_sleep_800ms(struct world *w)
{
    proxy_freeze(&w->proxies[0], 800 * US_PER_MS);
}

void act_sleep_500ms(struct world *w)
{
    proxy_freeze(&w->proxies[0], 500 * US_PER_MS);
}

/* ---- others -------------------------------------------------------------------------------- */

static void ddl_ended(struct statement *st, enum statement_end how)
{
    struct world *w = st->owner;

    world_trace(w, "the ALTER TABLE ended after %.1f s, %s",
                (double)(w->engine.now_us - st->started_us) / US_PER_S,
                how == STATEMENT_DONE ? "done" : "not done");
    free(st);
}

void act_ddl(struct world *w)
{
    if (!first(w)->up)
        return;
    struct statement *st = calloc(1, sizeof(*st));
    must(st != NULL);
    *st = (struct statement){.kind = STATEMENT_USER,
                             .cpu_us = DDL_US,
                             .lock_i = 1,
                             .lock_exclusive = true,
                             .ended = ddl_ended,
                             .owner = w,
                             .pid = ++w->pids_n};
    database_run(first(w), st);
}

struct sleeper {
    struct tx tx;
    struct sleeper *prev, *next;
};

static void sleeper_ended(struct tx *tx, enum tx_end how)
{
    struct sleeper *s = OWNER_OF(struct sleeper, tx, tx);

    (void)how;
    DL_DELETE(tx->proxy->world->sleepers, s);
    free(s);
}

void act_idle_sessions(struct world *w)
{
    for (uint32_t i = 0; i < LUNCH_N; i++) {
        struct sleeper *s = calloc(1, sizeof(*s));
        must(s != NULL);
        s->tx = (struct tx){
            .proxy = &w->proxies[0],
            .class = SIM_USERS,
            .type_i = WORLD_FINGERPRINTS,
            .key_i = i,
            .client_reads_us = LUNCH_US,
            .request = {.kind = STATEMENT_USER, .cpu_us = 300, .pages_n = 4},
            .ended = sleeper_ended,
        };
        DL_APPEND(w->sleepers, s);
        tx_ask(&s->tx);
    }
}

void acts_end(struct world *w)
{
    struct sleeper *s, *next;

    DL_FOREACH_SAFE(w->sleepers, s, next)
    {
        if (s->tx.state != TX_WAITING)
            continue;
        tx_abandon(&s->tx);
        DL_DELETE(w->sleepers, s);
        free(s);
    }
}

const char *act_name(void (*fn)(struct world *w))
{
    static const struct {
        void (*fn)(struct world *w);
        const char *name;
    } names[] = {
        {act_stall, "a stall of 300 ms"},
        {act_freeze, "a stall of 20 s"},
        {act_disk_2x, "disk twice as slow"},
        {act_disk_3x, "disk three times slower"},
        {act_disk_12x, "disk twelve times slower"},
        {act_disk_well, "disk well again"},
        {act_kill, "the server dies"},
        {act_restore, "the server is back, cold"},
        {act_sleep_800ms, "the proxy sleeps 800 ms"},
        {act_sleep_500ms, "the proxy sleeps 500 ms"},
        {act_ddl, "an ALTER TABLE"},
        {act_idle_sessions, "30 sessions idle in transaction"},
        {act_few_places, "30 places only"},
        {act_deny_bulk, "bulk's password is wrong"},
    };

    for (uint32_t i = 0; i < COUNT_OF(names); i++)
        if (names[i].fn == fn)
            return names[i].name;
    return "something";
}

/* ---- rates --------------------------------------------------------------------------------- */

double rate_800(double t_s)
{
    (void)t_s;
    return 800;
}

double rate_8(double t_s)
{
    (void)t_s;
    return 8;
}

double rate_ramp(double t_s)
{
    return 400 + 1200 * fmin(1, fmax(0, (t_s - 50) / 200));
}

double rate_surge(double t_s)
{
    return t_s < 100 || t_s >= 160 ? 800 : 6000;
}

double rate_day(double t_s)
{
    return 700 + 400 * sin(t_s / 150);
}

/* ---- mixes --------------------------------------------------------------------------------- */

/* The usual statements with a share of a new one. */
static const struct mix *mix_with(struct mix *out, double share, uint32_t cpu_us, uint32_t pages_n)
{
    *out = users_mix;
    for (uint32_t i = 0; i < out->n; i++)
        out->at[i].share *= 1 - share;
    out->at[out->n++] = (struct kind){share, cpu_us, pages_n};
    return out;
}

const struct mix *mix_deploy(double t_s)
{
    static struct mix deployed;

    return t_s < 100 ? &users_mix : mix_with(&deployed, 0.15, 8000, 150);
}

const struct mix *mix_soak(double t_s)
{
    static struct mix deployed;

    return t_s < 500 ? &users_mix : mix_with(&deployed, 0.10, 6000, 100);
}

/* ---- shapes -------------------------------------------------------------------------------- */

/* One kind of statement meets a row that somebody holds until then. */
static void held_until(struct world *w, struct tx *tx, double until_s, double share)
{
    if (tx->type_i == 1 && engine_uniform(&w->engine) < share)
        tx->request.wait_until_us = (uint64_t)(until_s * US_PER_S);
}

void shape_hot_row(struct world *w, struct tx *tx)
{
    if (world_s(w) >= 100 && world_s(w) < 105)
        held_until(w, tx, 105, 0.04);
}

void shape_hot_row_half(struct world *w, struct tx *tx)
{
    if (world_s(w) >= 100 && world_s(w) < 105)
        held_until(w, tx, 105, 0.5);
}

void shape_pile_ups(struct world *w, struct tx *tx)
{
    double round_s = floor(world_s(w) / 200) * 200;

    if (world_s(w) >= round_s + 100 && world_s(w) < round_s + 102)
        held_until(w, tx, round_s + 102, 0.02);
}

void shape_slow_readers(struct world *w, struct tx *tx)
{
    if (world_s(w) >= 100 && world_s(w) < 160 && engine_uniform(&w->engine) < 0.005)
        tx->client_reads_us = 5 * US_PER_S;
}

/* One in two hundred hangs; its client has long gone when the server would time it out. */
void shape_timeouts(struct world *w, struct tx *tx)
{
    if (world_s(w) >= 100 && world_s(w) < 160 && engine_uniform(&w->engine) < 0.005)
        tx->request.wait_until_us = w->engine.now_us + 30 * US_PER_S;
}

/* A twentieth of the second kind updates a row that a bulk writer may hold. */
void shape_row_locks(struct world *w, struct tx *tx)
{
    if (tx->type_i != 1 || engine_uniform(&w->engine) >= 0.05)
        return;
    tx->request.lock_i = 1;
    tx->request.lock_exclusive = true;
    tx->writes = true;
}

/* The second kind reads a table that dumps and migrations want, too. */
void shape_table(struct world *w, struct tx *tx)
{
    (void)w;
    if (tx->type_i == 1)
        tx->request.lock_i = 1;
}
