/* Which running statements are cancelled. See cull.h.
 *
 * The youngest first: least work is lost, and what began last before the trouble did is most
 * likely its cause. Leases of one group (the workers of a parallel dump) share a snapshot, so that
 * none of them is worth anything without the others: they are one victim, cancelled whole or not
 * at all, and as old as the oldest of them, because that is the work a cancel would lose; by its
 * youngest statement a dump of six hours would look as if it had begun a second ago. A group in
 * which one member streams, or writes, is spared: what streams is paced, and its work is real.
 *
 * All leases are looked at, where the tick otherwise looks at a bounded number: the youngest of a
 * part would be the wrong ones. The breaker asks at most once a second, and only in an emergency.
 */
#include "pool/cull.h"

#include "pool/lease.h"
#include "pool/state.h"

enum {
    VICTIMS_MAX = 256, /* of one class in one tick; the breaker asks again in a second */
    GROUPS_MAX = 64,   /* groups beyond that are spared */
};

struct victim {
    uint64_t since_us;     /* what would be lost began then */
    struct pool_server *s; /* NULL: a group */
    uint64_t group;
};

struct group {
    uint64_t id, since_us;
    bool runs;   /* there is something to cancel */
    bool spared; /* one of them must not be cancelled */
};

struct choice {
    struct upstream *u;
    uint64_t now_us;
    uint8_t class_i;
    uint32_t wanted_n;
    uint32_t victims_n, groups_n;
    struct victim victims[VICTIMS_MAX]; /* youngest first */
    struct group groups[GROUPS_MAX];
};

bool cull_mark(struct pool_server *s, enum pool_cull why)
{
    uint64_t started_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed);

    must(why != POOL_CULL_NOT && s->state == POOL_SERVER_LEASED);
    if (started_us == 0 ||
        atomic_load_explicit(&s->cancel_stmt_us, memory_order_relaxed) == started_us)
        return false;
    atomic_store_explicit(&s->cancel_why, (uint8_t)why, memory_order_relaxed);
    atomic_store_explicit(&s->cancel_stmt_us, started_us, memory_order_release);
    return true;
}

static bool runs(const struct pool_server *s)
{
    uint64_t started_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed);

    return started_us != 0 &&
           atomic_load_explicit(&s->cancel_stmt_us, memory_order_relaxed) != started_us;
}

/* Cancelling it would undo changes, or be of no use. */
static bool is_spared(const struct pool_server *s)
{
    return s->pool->replication != POOL_REPLICATION_NO ||
           atomic_load_explicit(&s->tx_writes, memory_order_relaxed);
}

/* ---- the breaker's wish -------------------------------------------------------------------- */

static void add(struct choice *c, const struct victim *v)
{
    uint32_t i = c->victims_n;

    if (c->victims_n == c->wanted_n) {
        if (i == 0 || c->victims[i - 1].since_us >= v->since_us)
            return;
        i--;
    } else {
        c->victims_n++;
    }
    for (; i > 0 && c->victims[i - 1].since_us < v->since_us; i--)
        c->victims[i] = c->victims[i - 1];
    c->victims[i] = *v;
}

static void add_to_group(struct choice *c, const struct pool_server *s)
{
    struct group *g = c->groups;

    while (g < c->groups + c->groups_n && g->id != s->group)
        g++;
    if (g == c->groups + GROUPS_MAX)
        return;
    if (g == c->groups + c->groups_n) {
        *g = (struct group){.id = s->group, .since_us = UINT64_MAX};
        c->groups_n++;
    }
    if (s->leased_us < g->since_us)
        g->since_us = s->leased_us;
    g->runs |= runs(s);
    g->spared |= is_spared(s) || lease_streams(s, c->now_us) || s->class_i != c->class_i;
}

static void look_at(struct choice *c, struct pool_server *s)
{
    if (s->group != 0)
        add_to_group(c, s);
    else if (s->class_i == c->class_i && runs(s) && !is_spared(s) && !lease_streams(s, c->now_us))
        add(c, &(struct victim){
                   .since_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed),
                   .s = s,
               });
}

static uint32_t mark_group(struct choice *c, uint64_t group)
{
    struct pool_server *s = c->u->leased;
    uint32_t n = 0;

    do {
        if (s->group == group)
            n += cull_mark(s, POOL_CULL_OVERLOAD);
        s = s->next;
    } while (s != c->u->leased);
    return n;
}

/* Marks the n youngest; returns how many statements that were. */
static uint32_t cull_class(struct upstream *u, uint8_t class_i, uint32_t n, uint64_t now_us)
{
    struct choice c = {
        .u = u,
        .now_us = now_us,
        .class_i = class_i,
        .wanted_n = n < VICTIMS_MAX ? n : VICTIMS_MAX,
    };
    struct pool_server *s = u->leased;
    uint32_t marked_n = 0;

    must(u->classes[class_i].priority > 0);
    if (s == NULL)
        return 0;
    do {
        look_at(&c, s);
        s = s->next;
    } while (s != u->leased);
    for (uint32_t i = 0; i < c.groups_n; i++) {
        const struct group *g = &c.groups[i];
        if (g->runs && !g->spared)
            add(&c, &(struct victim){.since_us = g->since_us, .group = g->id});
    }
    for (uint32_t i = 0; i < c.victims_n; i++) {
        const struct victim *v = &c.victims[i];
        marked_n += v->s != NULL ? cull_mark(v->s, POOL_CULL_OVERLOAD) : mark_group(&c, v->group);
    }
    return marked_n;
}

void cull_tick(struct turn *t)
{
    struct upstream *u = t->u;

    for (uint32_t i = 0; i < u->breaker.classes_n; i++) {
        uint8_t class_i = (uint8_t)u->breaker_order[i];
        uint32_t n = u->breaker.classes[i].ask.cancel_n;
        if (n > 0)
            u->tiers[class_i].culled_n += cull_class(u, class_i, n, t->now_us);
    }
}

/* ---- the operator's ------------------------------------------------------------------------ */

uint32_t cull_all(struct upstream *u, uint8_t class_i)
{
    uint32_t n = 0;

    lock_take(&u->lock);
    must(class_i < u->class_n);
    struct pool_server *s = u->leased;
    if (s != NULL && u->classes[class_i].priority > 0)
        do {
            if (s->class_i == class_i && !is_spared(s))
                n += cull_mark(s, POOL_CULL_OPERATOR);
            s = s->next;
        } while (s != u->leased);
    u->tiers[class_i].culled_n += n;
    lock_drop(&u->lock);
    return n;
}
