/* The policies to beat: one pool without classes, class caps set by hand, a breaker on everything,
 * an adaptive limit on everything. All share one queue for users and one for bulk; what a user who
 * hangs up leaves in the database runs on there, as behind PgBouncer, and its place is free.
 *
 *   fifo      100 places for whoever comes, users first where both wait
 *   static    at most 70 users and 30 bulk statements: PgBouncer tuned by hand
 *   naive     the same, and users are refused for 5 s when of the last 10 s' calls (20 at least)
 *             more than 5 % took over 100 ms: as Hystrix would
 *   gradient  one adaptive limit of 20 to 100 from the gradient of latencies: as Gradient2 */
#include "bench/sim/policy.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "bench/sim/gradient.h"
#include "bench/sim/hystrix.h"

enum { PLACES = 100, USERS_MAX = 70, BULK_MAX = 30, QUEUE_MAX = 20000 };

enum simple_rule { RULE_FIFO, RULE_STATIC, RULE_NAIVE, RULE_GRADIENT };

struct simple {
    enum simple_rule rule;
    struct tx *users, *bulk; /* utlists */
    uint32_t users_waiting_n;
    uint32_t leased_n[SIM_CLASSES];
    struct hystrix hystrix;
    struct gradient gradient;
};

static uint32_t leased_n(const struct simple *s)
{
    return s->leased_n[SIM_USERS] + s->leased_n[SIM_BULK] + s->leased_n[SIM_BACKUP];
}

static bool has_place(const struct simple *s, enum sim_class class)
{
    switch (s->rule) {
    case RULE_FIFO:
        return leased_n(s) < PLACES;
    case RULE_GRADIENT:
        return leased_n(s) < (uint32_t)s->gradient.limit;
    case RULE_STATIC:
    case RULE_NAIVE:
        return class == SIM_USERS ? s->leased_n[SIM_USERS] < USERS_MAX
                                  : s->leased_n[SIM_BULK] + s->leased_n[SIM_BACKUP] < BULK_MAX;
    }
    must(!"a rule");
}

static void launch(struct simple *s, struct tx *tx)
{
    s->leased_n[tx->class]++;
    (void)proxy_launch(tx, s);
}

static void dispatch(struct proxy *p)
{
    struct simple *s = p->own;
    struct tx *tx, *next;

    if (!p->database->up)
        return;
    while (s->users != NULL && has_place(s, SIM_USERS)) {
        tx = s->users;
        DL_DELETE(s->users, tx);
        s->users_waiting_n--;
        launch(s, tx);
    }
    DL_FOREACH_SAFE(s->bulk, tx, next)
    {
        if (!has_place(s, tx->class))
            break;
        DL_DELETE(s->bulk, tx);
        launch(s, tx);
    }
}

static void ask(struct proxy *p, struct tx *tx)
{
    struct simple *s = p->own;
    uint64_t now_us = p->world->engine.now_us;

    if (tx->class == SIM_BULK && p->database->bulk_denied) {
        proxy_refuse(tx);
        return;
    } else if (tx->class != SIM_USERS) {
        DL_APPEND(s->bulk, tx);
    } else if (s->users_waiting_n >= QUEUE_MAX ||
               (s->rule == RULE_NAIVE && hystrix_refuses(&s->hystrix, now_us))) {
        proxy_refuse(tx);
        return;
    } else {
        DL_APPEND(s->users, tx);
        s->users_waiting_n++;
    }
    dispatch(p);
}

static void leave(struct proxy *p, struct tx *tx)
{
    struct simple *s = p->own;

    if (tx->class != SIM_USERS) {
        DL_DELETE(s->bulk, tx);
        return;
    }
    DL_DELETE(s->users, tx);
    s->users_waiting_n--;
    if (s->rule == RULE_NAIVE)
        hystrix_note(&s->hystrix, true, p->world->engine.now_us);
}

/* Its place is free at once; PostgreSQL works on for nobody. */
static void orphaned(struct proxy *p, struct call *c)
{
    struct simple *s = p->own;

    s->leased_n[c->class]--;
    c->server = NULL;
    if (s->rule == RULE_NAIVE && c->class == SIM_USERS)
        hystrix_note(&s->hystrix, true, p->world->engine.now_us);
    dispatch(p);
}

static void ended(struct proxy *p, struct call *c, enum statement_end how)
{
    struct simple *s = p->own;
    uint64_t now_us = p->world->engine.now_us, took_us = now_us - c->launched_us;

    if (c->server != NULL) {
        s->leased_n[c->class]--;
        if (how == STATEMENT_DONE && c->class == SIM_USERS && s->rule == RULE_GRADIENT)
            gradient_note(&s->gradient, took_us, leased_n(s) + 1, now_us);
        if (how == STATEMENT_DONE && c->class == SIM_USERS && s->rule == RULE_NAIVE)
            hystrix_note(&s->hystrix, took_us > HYSTRIX_SLOW_US, now_us);
    }
    dispatch(p);
}

static void produced(struct proxy *p, struct call *c)
{
    (void)p;
    proxy_read(c, c->st.buf_bytes);
}

static void nothing(struct proxy *p)
{
    (void)p;
}

static void open_as(struct proxy *p, enum simple_rule rule)
{
    struct simple *s = calloc(1, sizeof(*s));

    must(s != NULL);
    s->rule = rule;
    gradient_init(&s->gradient);
    p->own = s;
}

static void open_fifo(struct proxy *p)
{
    open_as(p, RULE_FIFO);
}

static void open_static(struct proxy *p)
{
    open_as(p, RULE_STATIC);
}

static void open_naive(struct proxy *p)
{
    open_as(p, RULE_NAIVE);
}

static void open_gradient(struct proxy *p)
{
    open_as(p, RULE_GRADIENT);
}

static void close_simple(struct proxy *p)
{
    struct simple *s = p->own;

    must(s->users == NULL && s->bulk == NULL);
    hystrix_free(&s->hystrix);
    free(s);
    p->own = NULL;
}

#define SIMPLE(rule)                                                                               \
    .open = open_##rule, .close = close_simple, .ask = ask, .leave = leave, .ended = ended,        \
    .orphaned = orphaned, .produced = produced, .tick = dispatch, .lost = nothing,                 \
    .restored = dispatch

const struct policy policy_fifo = {.name = "fifo", .title = "one pool, no classes", SIMPLE(fifo)};
const struct policy policy_static = {
    .name = "static", .title = "caps by hand (PgBouncer tuned)", SIMPLE(static)};
const struct policy policy_naive = {
    .name = "naive", .title = "breaker on everything (Hystrix)", SIMPLE(naive)};
const struct policy policy_gradient = {
    .name = "gradient", .title = "adaptive limit (Gradient2)", SIMPLE(gradient)};

const struct policy *const policies[POLICIES_N] = {&policy_weir,  &policy_weir_strict,
                                                   &policy_fifo,  &policy_static,
                                                   &policy_naive, &policy_gradient};

const struct policy *policy_find(const char *name)
{
    for (uint32_t i = 0; i < POLICIES_N; i++)
        if (strcmp(policies[i]->name, name) == 0)
            return policies[i];
    return NULL;
}
