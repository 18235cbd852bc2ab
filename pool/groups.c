/* Sessions that need servers together. See groups.h. */
#include "pool/groups.h"

#include <utlist.h>

#include "pool/state.h"

enum { PROMOTE_MAX = 64 }; /* waiters of its key looked at for fellows when a group is admitted */

struct pool_group *groups_find(struct pool *p, uint64_t id)
{
    for (uint32_t i = 0; id != 0 && p->groups_n > 0 && i < POOL_GROUPS_MAX; i++)
        if (p->groups[i].id == id)
            return &p->groups[i];
    return NULL;
}

/* ---- members ------------------------------------------------------------------------------- */

static void set_due(struct turn *t, struct pool_waiter *w, uint64_t due_us)
{
    due_remove(&t->u->due, w);
    w->due_us = due_us;
    due_add(&t->u->due, w);
}

static void promote(struct turn *t, struct pool_waiter *w)
{
    must(!w->member && !w->parked);
    queue_promote(&t->u->queues[w->class_i], w->pool->lanes[w->class_i], w);
    set_due(t, w, w->deadline_rules ? w->deadline_us : 0);
}

static void demote(struct turn *t, struct pool_waiter *w)
{
    must(w->member);
    queue_demote(&t->u->queues[w->class_i], w->pool->lanes[w->class_i], w);
    set_due(t, w, queue_due(&t->u->classes[w->class_i], w, t->now_us));
}

void groups_enter(struct turn *t, struct pool_waiter *w)
{
    if (groups_find(w->pool, w->group) != NULL)
        promote(t, w);
}

/* Those of the group that came before its first lease; they have its key, being of one user and
 * one address. */
static void promote_fellows(struct turn *t, struct pool_server *s)
{
    struct lane *l = s->pool->lanes[s->class_i];
    struct pool_waiter *w = l->keys[s->key_i % QUEUE_KEYS], *next;

    for (uint32_t n = 0; w != NULL && n < PROMOTE_MAX; n++, w = next) {
        next = w->next;
        if (w->group == s->group)
            promote(t, w);
    }
}

static void demote_fellows(struct turn *t, struct pool *p, uint64_t id)
{
    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        struct pool_waiter *w = p->lanes[__builtin_ctz(mask)]->members, *next;
        for (; w != NULL; w = next) {
            next = w->next;
            if (w->group == id)
                demote(t, w);
        }
    }
}

/* ---- leases -------------------------------------------------------------------------------- */

static struct pool_group *admit(struct turn *t, struct pool *p, uint64_t id)
{
    struct pool_group *g = p->groups;

    while (g < p->groups + POOL_GROUPS_MAX && g->id != 0)
        g++;
    if (g == p->groups + POOL_GROUPS_MAX)
        return NULL;
    *g = (struct pool_group){.id = id, .since_us = t->now_us};
    if (p->groups_n++ == 0)
        DL_APPEND2(t->u->grouped, p, grouped_prev, grouped_next);
    return g;
}

void groups_lease(struct turn *t, struct pool_server *s)
{
    struct pool *p = s->pool;
    struct pool_group *g = groups_find(p, s->group);
    bool is_new = g == NULL && s->group != 0;

    if (is_new)
        g = admit(t, p, s->group);
    if (g == NULL) {
        s->group = 0;
        return;
    }
    g->leased_n++;
    DL_APPEND2(g->leases, s, group_prev, group_next);
    if (is_new)
        promote_fellows(t, s);
}

void groups_unlease(struct turn *t, struct pool_server *s)
{
    struct pool *p = s->pool;
    uint64_t id = s->group;
    struct pool_group *g = groups_find(p, id);

    s->group = 0;
    if (g == NULL)
        return;
    must(g->leased_n > 0);
    DL_DELETE2(g->leases, s, group_prev, group_next);
    s->group_prev = s->group_next = NULL;
    shares_stir(&p->shares, s->class_i);
    shares_stir(&t->u->shares, s->class_i);
    if (--g->leased_n > 0)
        return;
    g->id = 0;
    if (--p->groups_n == 0)
        DL_DELETE2(t->u->grouped, p, grouped_prev, grouped_next);
    demote_fellows(t, p, id);
}

/* ---- what runs ----------------------------------------------------------------------------- */

static void look_at(struct turn *t, struct pool *p, struct pool_group *g)
{
    uint32_t running_n = 0;
    struct pool_server *s;

    DL_FOREACH2(g->leases, s, group_next)
    {
        if (atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed) != 0) {
            running_n++;
            continue;
        }
        p->shares.at[s->class_i].still_n++;
        t->u->shares.at[s->class_i].still_n++;
    }
    if (running_n > 0)
        g->still_since_us = 0;
    else if (g->still_since_us == 0)
        g->still_since_us = t->now_us;
}

void groups_tick(struct turn *t)
{
    struct upstream *u = t->u;
    struct pool *p;

    for (uint32_t i = 0; i < u->class_n; i++)
        u->shares.at[i].still_n = 0;
    DL_FOREACH2(u->grouped, p, grouped_next)
    {
        for (uint32_t i = 0; i < u->class_n; i++)
            p->shares.at[i].still_n = 0;
        for (uint32_t i = 0; i < POOL_GROUPS_MAX; i++)
            if (p->groups[i].id != 0)
                look_at(t, p, &p->groups[i]);
    }
}

/* ---- rights -------------------------------------------------------------------------------- */

/* Whether protected clients use the pool, be it that none of them has a server at this moment. */
static bool is_used(const struct turn *t, const struct pool *p, uint8_t class_i)
{
    const struct lane *l = p->lanes[class_i];

    return l->waiting_n > 0 || (l->left_us != 0 && t->now_us < l->left_us + GROUPS_USED_US);
}

/* One place stays theirs, where it would be all they have: what a job is given comes back when the
 * job ends, in hours, and until then nobody else would be served. */
static bool has_room(const struct turn *t, const struct pool *p, uint32_t coming_n)
{
    uint32_t leased_n = 0, kept_n = 0;

    for (uint32_t i = 0; i < t->u->class_n; i++) {
        if (t->u->classes[i].priority > 0)
            continue;
        leased_n += p->shares.at[i].leased_n;
        kept_n |= is_used(t, p, (uint8_t)i);
    }
    return shares_room(&p->shares, coming_n + (leased_n == 0 ? kept_n : 0));
}

bool groups_may(const struct turn *t, const struct pool_waiter *w, bool opening)
{
    struct upstream *u = t->u;
    struct pool *p = w->pool;
    uint8_t c = w->class_i;
    const struct tier *tier = &u->tiers[c];
    uint32_t here_n = opening ? p->shares.at[c].opening_n : 0;
    uint32_t all_n = opening ? u->shares.at[c].opening_n : 0;
    const struct pool_group *g = groups_find(p, w->group);

    must(w->member);
    if (p->replication == POOL_REPLICATION_PHYSICAL)
        return has_room(t, p, here_n) && shares_room(&u->shares, all_n);
    if (tier->held || u->shares.at[c].max_n == 0)
        return false; /* a breaker's word of this moment, not a matter of numbers */
    bool still =
        g != NULL && g->still_since_us != 0 && t->now_us >= g->still_since_us + GROUPS_STILL_US;
    if (!still)
        return shares_allow_member(&p->shares, c, here_n) &&
               shares_allow_member(&u->shares, c, all_n);
    return has_room(t, p, here_n) && shares_room(&u->shares, all_n) &&
           (!tier->limited || shares_below_max(&u->shares, c, all_n));
}

void groups_helped(struct turn *t, const struct pool_waiter *w)
{
    struct pool_group *g = groups_find(w->pool, w->group);

    if (g != NULL && g->still_since_us != 0)
        g->still_since_us = t->now_us;
}

/* ---- in vain ------------------------------------------------------------------------------- */

/* Nothing here can end by itself: every lease is a group's, and none runs anything. */
static bool stands_still(const struct turn *t, const struct pool *p)
{
    uint32_t still_n = 0;

    if (has_room(t, p, 0))
        return false;
    for (uint32_t i = 0; i < t->u->class_n; i++)
        still_n += p->shares.at[i].still_n;
    return still_n == p->shares.leased_n && p->opening_n == 0 && p->closing_n == 0;
}

static bool in_vain(const struct turn *t, const struct pool_waiter *w, const struct pool_group *g,
                    bool no_way)
{
    uint64_t patience_us = no_way ? GROUPS_STUCK_US : GROUPS_PATIENCE_US;
    uint64_t since_us = w->since_us > g->still_since_us ? w->since_us : g->still_since_us;

    return g->still_since_us != 0 && t->now_us >= since_us + patience_us;
}

static uint32_t wanted_n(const struct lane *l, const struct pool_group *g)
{
    uint32_t n = g->leased_n;
    const struct pool_waiter *w;

    DL_FOREACH(l->members, w)
    {
        n += w->group == g->id;
    }
    return n;
}

/* Nobody waits in vain whose job has not stood for a while: so waiters are seldom looked at. */
static bool any_stands(const struct turn *t, const struct pool *p)
{
    for (uint32_t i = 0; i < POOL_GROUPS_MAX; i++) {
        const struct pool_group *g = &p->groups[i];
        if (g->id != 0 && g->still_since_us != 0 &&
            t->now_us >= g->still_since_us + GROUPS_STUCK_US)
            return true;
    }
    return false;
}

struct pool_waiter *groups_victim(struct turn *t, struct pool *p)
{
    struct pool_waiter *victim = NULL;
    uint64_t youngest_us = 0;
    bool no_way = stands_still(t, p), vain = false;

    if (!any_stands(t, p))
        return NULL;
    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        struct lane *l = p->lanes[__builtin_ctz(mask)];
        struct pool_waiter *w;
        DL_FOREACH(l->members, w)
        {
            const struct pool_group *g = groups_find(p, w->group);
            bool is_vain = g != NULL && in_vain(t, w, g, no_way);
            vain |= is_vain;
            if (g == NULL || g->since_us < youngest_us || !(no_way || is_vain))
                continue;
            youngest_us = g->since_us;
            victim = w;
        }
    }
    if (!vain)
        return NULL;
    victim->group_n = wanted_n(p->lanes[victim->class_i], groups_find(p, victim->group));
    /* The others are given time to make use of what its job gives back. */
    for (uint32_t i = 0; i < POOL_GROUPS_MAX; i++)
        if (p->groups[i].still_since_us != 0)
            p->groups[i].still_since_us = t->now_us;
    return victim;
}
