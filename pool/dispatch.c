/* Who gets the next server.
 *
 * One step: every class that may lease bids with the lane whose turn it is; the best bid is tried.
 * Trying a lane grants it a server, or asks for a new one, or moves the lane out of the ring to
 * where the event it needs will find it (queue.h). So a step costs O(classes), and as each lane
 * that is tried in vain leaves the ring, an event costs what it changes and nothing else.
 *
 * The order of bids:
 *   1. a class below what is reserved for it, by priority, then by how far below;
 *   2. rank: priority less a point for every 2 s of waiting (not for classes that the breaker
 *      limits: they would age past those it protects);
 *   3. among equals, weighted fair queueing by the time their leases took.
 *
 * Before all of them comes the floor: in the pool of the best bid, a class that holds nothing there
 * and has waited 10 s. So the longest a class can be kept out of a pool is 10 s and the time until
 * the next lease there ends.
 *
 * A place in a scope that is full moves to another pool in two ways: an idle server is evicted for
 * whoever is blocked there, longest idle first; and a server just released gives its place up when
 * the claim from elsewhere is more than a second stronger than any in its own pool. Without the
 * second, a pool that is never idle would starve the others.
 */
#include "pool/dispatch.h"

#include <utlist.h>

#include "pool/address.h"
#include "pool/places.h"
#include "pool/rights.h"

enum { EVICT_TRIES = 8 }; /* idle servers looked at for one of a pool where nobody waits */

/* ---- waiting ------------------------------------------------------------------------------- */

static void enter_lane(struct turn *t, struct pool_waiter *w)
{
    struct pool *p = w->pool;
    struct lane *l = p->lanes[w->class_i];

    queue_lane_add(l, w);
    p->waiting_n++;
    p->lanes_mask |= BIT(w->class_i);
    if (l->waiting_n == 1 && p->clients_n[w->class_i] == 0)
        rights_pool(p, w->class_i); /* a class that waits is present */
    groups_enter(t, w);
    if (l->state == LANE_EMPTY || l->state == LANE_HELD)
        places_lane_goto(l, LANE_READY, 0);
    if (p->opts.reserve_n > 0 && !p->spare) {
        p->spare = true;
        DL_APPEND2(t->u->spare, p, spare_prev, spare_next);
    }
    if (p->run == POOL_DISABLED || p->run == POOL_KILLED)
        dispatch_add_chore(p, POOL_CHORE_REFUSE);
}

static void leave_lane(struct pool_waiter *w)
{
    struct pool *p = w->pool;
    struct lane *l = p->lanes[w->class_i];

    must(p->waiting_n > 0);
    queue_lane_remove(l, w);
    p->waiting_n--;
    if (l->waiting_n > 0)
        return;
    p->lanes_mask &= ~BIT(w->class_i);
    places_lane_goto(l, LANE_EMPTY, 0);
    if (p->clients_n[w->class_i] == 0) {
        rights_pool(p, w->class_i);
        places_wake_pool(p); /* what was reserved for it is the others' again */
    }
}

/* An address may have more: those of its waiters that were parked go to their lanes. */
static void admit_next(struct turn *t, struct pool_addr *a)
{
    struct pool_waiter *w;

    address_release(a);
    while ((w = address_next(a)) != NULL) {
        address_unpark(a, w);
        must(address_admit(a));
        enter_lane(t, w);
    }
}

void dispatch_join(struct turn *t, struct pool_waiter *w, bool admitted)
{
    struct upstream *u = t->u;
    struct queue *q = &u->queues[w->class_i];
    struct tier *tier = &u->tiers[w->class_i];

    must(!w->queued);
    w->queued = true;
    if (q->waiting_n == 0 && q->leased_n == 0 && tier->vtime_us < u->vclock_us)
        tier->vtime_us = u->vclock_us;
    queue_join(q, w, t->now_us);
    due_add(&u->due, w);
    u->waiting_n++;
    if (q->waiting_n == 1 && tier->clients_n == 0)
        rights_upstream(u, w->class_i);
    if (admitted)
        enter_lane(t, w);
    else
        address_park(w->addr, w);
}

void dispatch_leave(struct turn *t, struct pool_waiter *w, bool served)
{
    struct upstream *u = t->u;
    struct queue *q = &u->queues[w->class_i];

    must(w->queued);
    w->queued = false;
    queue_leave(q, w, served, t->now_us);
    due_remove(&u->due, w);
    u->waiting_n--;
    if (q->waiting_n == 0 && u->tiers[w->class_i].clients_n == 0)
        rights_upstream(u, w->class_i);
    if (q->waiting_n == 0 && u->classes[w->class_i].priority == 0)
        estimator_queue_empty(&u->estimator);
    if (w->parked) {
        address_unpark(w->addr, w);
        return;
    }
    leave_lane(w);
    w->member = false;
    if (!served)
        admit_next(t, w->addr); /* a lease takes over what the waiter had */
}

void dispatch_refuse(struct turn *t, struct pool_waiter *w, enum pool_refusal why)
{
    struct upstream *u = t->u;

    dispatch_leave(t, w, false);
    w->refusal = why;
    u->tiers[w->class_i].refused_n[why]++;
    w->over_budget = u->tiers[w->class_i].retry.over;
    if (w == u->asking)
        return; /* the verdict says it */
    places_act(t, &(struct pool_action){
                      .act = POOL_REFUSE, .worker = w->worker, .waiter = w, .pool = w->pool});
}

/* ---- leases -------------------------------------------------------------------------------- */

static void lease_begin(struct turn *t, struct pool_server *s)
{
    struct upstream *u = t->u;
    uint8_t c = s->class_i;

    s->leased_us = t->now_us;
    shares_lease(&s->pool->shares, c);
    shares_lease(&u->shares, c);
    s->charged_us = queue_charge(&u->queues[c], s->pool->lanes[c], s->key_i);
}

static void lease_end(struct turn *t, struct pool_server *s)
{
    struct upstream *u = t->u;
    uint8_t c = s->class_i;
    uint64_t lease_us = us_since(s->leased_us, t->now_us);

    shares_unlease(&s->pool->shares, c);
    shares_unlease(&u->shares, c);
    s->pool->lanes[c]->left_us = t->now_us;
    queue_settle(&u->queues[c], s->pool->lanes[c], s->key_i, s->charged_us, lease_us);
    u->tiers[c].vtime_us += lease_us * 100 / u->classes[c].weight;
    u->tiers[c].lease_us += lease_us;
}

void dispatch_lease(struct turn *t, struct pool *p, struct pool_server *s, struct pool_waiter *w)
{
    struct upstream *u = t->u;

    must(s->pool == p);
    places_idle_remove(p, s);
    s->state = POOL_SERVER_LEASED;
    s->class_i = w->class_i;
    s->key_i = w->key_i;
    s->addr = w->addr;
    s->group = w->group;
    atomic_store_explicit(&s->cancel_stmt_us, 0, memory_order_relaxed);
    atomic_store_explicit(&s->unpaced, false, memory_order_relaxed);
    CDL_APPEND(u->leased, s);
    lease_begin(t, s);
    groups_lease(t, s);
    w->server = s;
    w->refusal = POOL_REFUSED_NOT;
}

void dispatch_unlease(struct turn *t, struct pool_server *s)
{
    struct pool_addr *a = s->addr;

    must(s->state == POOL_SERVER_LEASED);
    lease_end(t, s);
    groups_unlease(t, s);
    CDL_DELETE(t->u->leased, s);
    s->prev = s->next = NULL;
    s->addr = NULL;
    admit_next(t, a);
}

void dispatch_move_lease(struct turn *t, struct pool_server *s, uint8_t class_i)
{
    must(s->state == POOL_SERVER_LEASED);
    must(class_i < t->u->class_n);
    lease_end(t, s);
    if (s->group != 0) {
        shares_stir(&s->pool->shares, s->class_i);
        shares_stir(&t->u->shares, s->class_i);
    }
    s->class_i = class_i;
    lease_begin(t, s);
}

/* ---- trying a lane ------------------------------------------------------------------------- */

static void count_wait(struct turn *t, uint8_t class_i, uint64_t wait_us)
{
    struct tier *tier = &t->u->tiers[class_i];
    uint32_t bucket = wait_us == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(wait_us);

    tier->wait_n[bucket < SHOW_WAIT_BUCKETS ? bucket : SHOW_WAIT_BUCKETS - 1]++;
    tier->granted_n++;
    tier->wait_us += wait_us;
    if (wait_us > tier->wait_us_max)
        tier->wait_us_max = wait_us;
    if (t->u->classes[class_i].priority == 0)
        estimator_observe_wait(&t->u->estimator, wait_us);
}

static void grant(struct turn *t, struct lane *l, struct pool_waiter *w)
{
    struct upstream *u = t->u;
    struct pool_server *s = places_idle_for(l->pool, w->worker);

    if (u->tiers[l->class_i].vtime_us > u->vclock_us)
        u->vclock_us = u->tiers[l->class_i].vtime_us;
    l->served = true;
    dispatch_leave(t, w, true);
    dispatch_lease(t, l->pool, s, w);
    count_wait(t, l->class_i, us_since(w->since_us, t->now_us));
    if (w == u->asking && s->worker == w->worker) {
        u->asking_granted = true;
        return;
    }
    places_act(
        t, &(struct pool_action){
               .act = POOL_GRANT, .worker = s->worker, .waiter = w, .server = s, .pool = l->pool});
}

/* The longest idle server of another pool makes room: rather one of a pool where nobody waits.
 * Where somebody does, a server is idle for the moment between its release and his turn, and places
 * move by stronger claims than that; unless this lane was called, which is when all have had their
 * turn. */
static void evict(struct turn *t, struct scope *scope, bool any)
{
    struct pool_server *s = scope->idle_first;
    uint32_t tries = 0;

    if (scope->evicting_n >= scope->blocked_n || cap_kept(scope->cap, t->u, t->now_us))
        return;
    while (s != NULL && s->pool->waiting_n > 0 && tries++ < EVICT_TRIES)
        s = s->lru_next[scope->kind];
    if (any && (s == NULL || s->pool->waiting_n > 0))
        s = scope->idle_first;
    if (s == NULL || (!any && s->pool->waiting_n > 0))
        return;
    places_idle_remove(s->pool, s);
    places_close(t, s, scope->kind);
}

/* When all have had their turn, those who are blocked here are called, once. */
static void ask_again(struct turn *t, struct scope *scope)
{
    for (uint32_t i = 0; i < t->asked_n; i++)
        if (t->asked[i] == scope)
            return;
    if (t->asked_n < TURN_SCOPES_MAX)
        t->asked[t->asked_n++] = scope;
    else
        t->actions->more = true; /* pool_dispatch() looks at all of them */
}

/* The scope in which others wait for a place before this lane, or POOL_SCOPES. Else a place that
 * was made by an eviction would go to whoever asks next, mostly the pool it was taken from. */
static uint32_t queue_before(const struct lane *l)
{
    uint32_t k = 0;

    while (!l->called && k < POOL_SCOPES && l->pool->scopes[k]->blocked_n == 0)
        k++;
    return l->called ? POOL_SCOPES : k;
}

static void try_open(struct turn *t, struct lane *l, const struct pool_waiter *w)
{
    bool member = w->member && groups_may(t, w, true);
    struct upstream *u = t->u;
    struct pool *p = l->pool;
    uint8_t c = l->class_i;
    uint32_t coming_n = p->shares.at[c].opening_n;

    /* Enough on its way, or no use in more, or not now. */
    if (coming_n >= l->waiting_n || !(member || shares_allow(&p->shares, c, coming_n)) ||
        p->server_n >= rights_pool_size(p) || (p->down && t->now_us < p->retry_at_us)) {
        places_lane_goto(l, LANE_HELD, 0);
        return;
    }
    if (!member && !shares_allow(&u->shares, c, u->shares.at[c].opening_n)) {
        places_lane_goto(l, LANE_STALLED, 0);
        return;
    }
    if (u->connecting_n >= rights_connecting(u) && !u->probe_wanted) {
        places_lane_goto(l, LANE_BLOCKED, SCOPE_UPSTREAM);
        return;
    }
    uint32_t full = queue_before(l);
    if (full == POOL_SCOPES)
        full = places_take(t, p);
    if (full < POOL_SCOPES) {
        bool called = l->called;
        places_lane_goto(l, LANE_BLOCKED, (uint8_t)full);
        evict(t, p->scopes[full], called);
        if (!called)
            ask_again(t, p->scopes[full]);
        return;
    }
    l->served = true;
    places_open(t, p, c, w->worker);
}

static enum pool_refusal late_because(const struct upstream *u, const struct pool_waiter *w)
{
    if (w->parked)
        return POOL_REFUSED_ADDRESS;
    if (u->tiers[w->class_i].limited)
        return POOL_REFUSED_SHED;
    return w->pool->down ? POOL_REFUSED_DOWN : POOL_REFUSED_DEADLINE;
}

static void try_lane(struct turn *t, struct lane *l)
{
    struct pool *p = l->pool;

    struct pool_waiter *w = queue_next(&t->u->queues[l->class_i], l, p->idle_mask);
    if (p->run != POOL_RUNS ||
        !(shares_allow(&p->shares, l->class_i, 0) || (w->member && groups_may(t, w, false)))) {
        places_lane_goto(l, LANE_HELD, 0);
        return;
    }
    if (w->due_us != 0 && w->due_us <= t->now_us)
        dispatch_refuse(t, w, late_because(t->u, w));
    else if (p->idle_n > 0)
        grant(t, l, w);
    else
        try_open(t, l, w);
}

/* ---- members of groups --------------------------------------------------------------------- */

/* Beyond what the class may lease. True: it has its server. */
static bool serve_member(struct turn *t, struct lane *l)
{
    struct pool *p = l->pool;
    struct pool_waiter *w = l->members;

    if (p->idle_n > 0) {
        if (!groups_may(t, w, false))
            return false;
        groups_helped(t, w);
        grant(t, l, w);
        return true;
    }
    if (l->state == LANE_BLOCKED || !groups_may(t, w, true))
        return false; /* blocked: it is called when there is a place */
    if (l->state != LANE_READY)
        places_lane_goto(l, LANE_READY, 0);
    try_open(t, l, w);
    return false; /* not helped yet: the right has to be there when the server comes */
}

static void serve_members(struct turn *t, struct pool *p)
{
    for (uint32_t mask = p->lanes_mask; mask != 0 && p->run == POOL_RUNS; mask &= mask - 1) {
        struct lane *l = p->lanes[__builtin_ctz(mask)];
        while (l->members != NULL && turn_has_room(t) && serve_member(t, l))
            ;
    }
}

void dispatch_groups(struct turn *t)
{
    struct pool *p, *next;

    groups_tick(t);
    DL_FOREACH_SAFE2(t->u->grouped, p, next, grouped_next)
    {
        struct pool_waiter *w = turn_has_room(t) ? groups_victim(t, p) : NULL;
        if (w != NULL)
            dispatch_refuse(t, w, POOL_REFUSED_GROUP);
        serve_members(t, p);
    }
}

/* ---- whose turn ---------------------------------------------------------------------------- */

struct bid {
    struct lane *lane;
    bool below;
    uint32_t priority, filled; /* filled: thousandths of what is reserved */
    int64_t rank_us;
    uint64_t vtime_us;
};

static int64_t rank_of(const struct upstream *u, uint8_t class_i, uint64_t wait_us)
{
    int64_t rank_us = (int64_t)u->classes[class_i].priority * POOL_AGEING_US;

    return u->tiers[class_i].limited ? rank_us : rank_us - (int64_t)wait_us;
}

static uint32_t filled(const struct shares *s, uint8_t class_i)
{
    const struct shares_class *c = &s->at[class_i];

    return s->whole_n == 0 || c->leased_n >= c->reserved_n ? 1000
                                                           : c->leased_n * 1000 / c->reserved_n;
}

static struct bid bid_of(struct turn *t, struct lane *l)
{
    struct upstream *u = t->u;
    uint8_t c = l->class_i;
    uint64_t since_us = queue_lane_since(l);
    struct bid b = {.lane = l, .priority = u->classes[c].priority};

    uint32_t in_pool = filled(&l->pool->shares, c), in_all = filled(&u->shares, c);
    b.filled = in_pool < in_all ? in_pool : in_all;
    b.below = b.filled < 1000;
    b.rank_us = rank_of(u, c, us_since(since_us, t->now_us));
    b.vtime_us = u->tiers[c].vtime_us;
    return b;
}

static int64_t steps_of(int64_t rank_us)
{
    /* Rounded down, also below zero: within a step of ageing ranks are equal. */
    return rank_us >= 0 ? rank_us / POOL_AGEING_US
                        : -((POOL_AGEING_US - 1 - rank_us) / POOL_AGEING_US);
}

static bool bid_beats(const struct bid *a, const struct bid *b)
{
    if (a->below != b->below)
        return a->below;
    if (a->below && a->priority != b->priority)
        return a->priority < b->priority;
    if (a->below && a->filled != b->filled)
        return a->filled < b->filled;
    if (steps_of(a->rank_us) != steps_of(b->rank_us))
        return a->rank_us < b->rank_us;
    return a->vtime_us < b->vtime_us;
}

/* Since when the class has had nothing here, though it waits. After each lease it starts anew: the
 * floor is a lease now and then, not a way past everybody for a long queue. */
static uint64_t hungry_since(const struct lane *l)
{
    uint64_t since_us = queue_lane_since(l);

    return since_us > l->left_us ? since_us : l->left_us;
}

static bool at_floor(struct turn *t, const struct lane *l)
{
    return l->pool->shares.at[l->class_i].leased_n == 0 &&
           hungry_since(l) + POOL_FLOOR_WAIT_US <= t->now_us;
}

/* The lane of this pool that has waited longest for its floor, else the one given. */
static struct lane *floor_first(struct turn *t, struct lane *best)
{
    struct pool *p = best->pool;
    struct lane *first = NULL;

    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        struct lane *l = p->lanes[__builtin_ctz(mask)];
        if (l->state == LANE_READY && at_floor(t, l) &&
            shares_allow(&t->u->shares, l->class_i, 0) &&
            (first == NULL || hungry_since(l) < hungry_since(first)))
            first = l;
    }
    return first != NULL ? first : best;
}

static struct lane *next_lane(struct turn *t)
{
    struct upstream *u = t->u;
    struct bid best = {.lane = NULL};

    if ((u->ready_mask & (u->ready_mask - 1)) == 0) { /* one class, or none: no contest */
        uint8_t c = u->ready_mask == 0 ? 0 : (uint8_t)__builtin_ctz(u->ready_mask);
        bool may = u->ready_mask != 0 && shares_allow(&u->shares, c, 0);
        return may ? queue_next_lane(&u->queues[c]) : NULL;
    }
    for (uint32_t mask = u->ready_mask; mask != 0; mask &= mask - 1) {
        uint8_t c = (uint8_t)__builtin_ctz(mask);
        if (!shares_allow(&u->shares, c, 0))
            continue;
        struct bid b = bid_of(t, queue_next_lane(&u->queues[c]));
        if (best.lane == NULL || bid_beats(&b, &best))
            best = b;
    }
    return best.lane == NULL ? NULL : floor_first(t, best.lane);
}

static bool wake_more(struct turn *t, struct pool *p)
{
    bool woken = places_wake_scope(t, &t->u->scope);

    if (p != NULL) {
        woken |= places_wake_scope(t, p->scopes[SCOPE_DATABASE]);
        woken |= places_wake_scope(t, p->scopes[SCOPE_USER]);
    }
    for (; t->asked_n > 0; t->asked_n--)
        woken |= places_wake_scope(t, t->asked[t->asked_n - 1]);
    woken |= places_wake_stalled(t->u);
    return woken;
}

void dispatch_run(struct turn *t, struct pool *p)
{
    struct lane *l;
    uint32_t steps_n = 0;

    must(lock_mine(&t->u->lock));
    if (p != NULL && p->groups_n > 0)
        serve_members(t, p);
    do {
        while ((l = next_lane(t)) != NULL) {
            if (!turn_has_room(t))
                return;
            if (steps_n++ == POOL_STEPS_MAX) {
                t->actions->more = true;
                return;
            }
            try_lane(t, l);
        }
    } while (wake_more(t, p));
}

int dispatch_claimed(struct turn *t, const struct pool *p)
{
    struct upstream *u = t->u;
    int64_t own_us = INT64_MAX;

    if (u->blocked_scopes == NULL || p->waiting_n == 0)
        return -1;
    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        uint8_t c = (uint8_t)__builtin_ctz(mask);
        int64_t rank_us = rank_of(u, c, us_since(queue_lane_since(p->lanes[c]), t->now_us));
        if (shares_allow(&p->shares, c, 0) && shares_allow(&u->shares, c, 0) && rank_us < own_us)
            own_us = rank_us;
    }
    if (own_us == INT64_MAX)
        return -1; /* nobody here can use it: it becomes idle, and is evicted where needed */
    for (uint32_t k = 0; k < POOL_SCOPES; k++) {
        const struct scope *scope = p->scopes[k];
        if (scope->blocked_n <= scope->evicting_n || cap_has_room(scope->cap))
            continue;
        for (uint32_t mask = scope->blocked_mask; mask != 0; mask &= mask - 1) {
            const struct lane *l = scope->blocked[__builtin_ctz(mask)];
            uint64_t wait_us = us_since(queue_lane_since(l), t->now_us);
            bool stronger = rank_of(u, l->class_i, wait_us) + POOL_MOVE_US < own_us;
            if (l->pool != p && (stronger || at_floor(t, l)) &&
                shares_allow(&u->shares, l->class_i, u->shares.at[l->class_i].opening_n))
                return (int)k;
        }
    }
    return -1;
}

/* ---- chores -------------------------------------------------------------------------------- */

bool dispatch_worn(const struct pool *p, const struct pool_server *s, uint64_t now_us)
{
    if (p->run != POOL_RUNS || s->epoch_n != p->epoch_n || p->replication != POOL_REPLICATION_NO)
        return true;
    uint32_t stay_n = p->server_n - p->closing_n;
    if (p->opts.size_n > 0 && stay_n > p->opts.size_n + p->opts.reserve_n)
        return true; /* pool_size was lowered */
    for (uint32_t k = 0; k < POOL_SCOPES; k++) {
        uint32_t max_n = cap_max(p->caps[k]), closing_n = p->scopes[k]->closing_n;
        if (max_n > 0 && cap_used(p->caps[k]) > max_n + closing_n)
            return true; /* a cap was lowered */
    }
    if (p->opts.lifetime_us == 0)
        return s->leased_us != 0;
    if (now_us < s->opened_us + p->opts.lifetime_us)
        return false;
    /* Those opened together are not closed together: one every lifetime / pool_size. */
    uint64_t apart_us = p->opts.lifetime_us / (p->opts.size_n == 0 ? 1 : p->opts.size_n);
    return now_us >= p->lifetime_closed_us + apart_us || p->lifetime_closed_us == 0;
}

bool dispatch_hopeless(const struct pool *p, uint8_t class_i, uint64_t now_us)
{
    const struct upstream *u = p->upstream;
    uint64_t grace_us = u->classes[class_i].queue_deadline_us;

    if (error_breaker_refuses(&u->error_breaker, now_us))
        return true;
    if (!p->down || p->server_n > p->opening_n + p->closing_n)
        return false;
    /* A wrong password or a database that is not there is an answer: told at once, asked again
     * after the pause. */
    if (p->failed_why == POOL_FAILED_LOGIN)
        return now_us < p->retry_at_us;
    if (grace_us == 0 || grace_us > POOL_GRACE_US)
        grace_us = POOL_GRACE_US;
    return now_us >= p->failed_since_us + grace_us;
}

void dispatch_add_chore(struct pool *p, uint32_t chores)
{
    p->chores |= chores;
    if (p->choring)
        return;
    p->choring = true;
    DL_APPEND2(p->upstream->choring, p, chore_prev, chore_next);
}

static bool close_worn(struct turn *t, struct pool *p)
{
    for (uint64_t mask = p->idle_mask; mask != 0; mask &= mask - 1) {
        struct pool_server *s = p->idle[__builtin_ctzll(mask)].last, *newer;
        for (; s != NULL; s = newer) {
            newer = s->prev;
            if (!dispatch_worn(p, s, t->now_us))
                continue;
            if (!turn_has_room(t))
                return false;
            places_idle_remove(p, s);
            places_close(t, s, -1);
        }
    }
    return true;
}

static bool refuse_hopeless(struct turn *t, struct pool *p)
{
    bool closed = p->run == POOL_DISABLED || p->run == POOL_KILLED;

    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        struct lane *l = p->lanes[__builtin_ctz(mask)];
        while (l->waiting_n > 0 && (closed || dispatch_hopeless(p, l->class_i, t->now_us))) {
            if (!turn_has_room(t))
                return false;
            p->wanted |= !closed;
            dispatch_refuse(t, queue_next(&t->u->queues[l->class_i], l, 0),
                            closed ? POOL_REFUSED_SHUTDOWN : POOL_REFUSED_DOWN);
        }
    }
    return true;
}

static void pool_chores(struct turn *t)
{
    struct pool *p;

    while ((p = t->u->choring) != NULL) {
        if ((p->chores & POOL_CHORE_CLOSE) != 0 && !close_worn(t, p))
            return;
        if ((p->chores & POOL_CHORE_REFUSE) != 0 && !refuse_hopeless(t, p))
            return;
        p->chores = 0;
        p->choring = false;
        DL_DELETE2(t->u->choring, p, chore_prev, chore_next);
    }
}

void dispatch_chores(struct turn *t)
{
    struct upstream *u = t->u;
    struct pool_waiter *w;

    must(lock_mine(&u->lock));
    while ((w = due_first(&u->due, t->now_us)) != NULL) {
        if (!turn_has_room(t))
            return;
        dispatch_refuse(t, w, late_because(u, w));
    }
    bool refuses = error_breaker_refuses(&u->error_breaker, t->now_us);
    for (uint32_t i = 0; i < u->class_n; i++) {
        struct queue *q = &u->queues[i];
        while ((w = refuses ? queue_victim(q) : queue_expired(q, t->now_us)) != NULL) {
            if (!turn_has_room(t))
                return;
            dispatch_refuse(t, w, refuses ? POOL_REFUSED_DOWN : POOL_REFUSED_EXPIRED);
        }
    }
    pool_chores(t);
}

/* Other upstreams may hold the places of a database or a user, under locks that are not ours. A
 * lane may need both: it keeps the one it has claimed while it waits for the other. The user's
 * comes first for everybody, so no two upstreams wait for each other. */
static void claim_for(struct turn *t, const struct lane *l)
{
    static const enum scope_kind order[] = {SCOPE_USER, SCOPE_DATABASE};

    struct upstream *u = t->u;
    struct pool *p = l->pool;
    uint8_t c = l->class_i;

    if (queue_lane_since(l) + POOL_MOVE_US > t->now_us ||
        !shares_allow(&p->shares, c, p->shares.at[c].opening_n) ||
        !shares_allow(&u->shares, c, u->shares.at[c].opening_n))
        return; /* a place kept for him would be kept from all */
    for (uint32_t i = 0; i < COUNT_OF(order); i++) {
        struct scope *scope = p->scopes[order[i]];
        bool others = cap_used(scope->cap) > scope->server_n; /* or it is between our own pools */
        if (!cap_claimed_by(scope->cap, u) && (places_has_room(t, scope) || !others))
            continue;
        if (!cap_claim(scope->cap, u, t->now_us))
            return;
    }
}

void dispatch_wake_all(struct turn *t)
{
    struct upstream *u = t->u;
    uint32_t scopes_n = u->blocked_scopes_n;

    if (scopes_n > POOL_SCOPES_WOKEN)
        scopes_n = POOL_SCOPES_WOKEN;
    /* In turns, so that the bound hits somebody else each time. */
    for (; scopes_n > 0 && u->blocked_scopes != NULL && turn_has_room(t); scopes_n--) {
        struct scope *scope = u->blocked_scopes;
        DL_DELETE(u->blocked_scopes, scope);
        DL_APPEND(u->blocked_scopes, scope);
        while (turn_has_room(t) && places_wake_scope(t, scope))
            dispatch_run(t, NULL);
        for (uint32_t mask = scope->blocked_mask; mask != 0; mask &= mask - 1)
            claim_for(t, scope->blocked[__builtin_ctz(mask)]);
    }
}

bool dispatch_claimed_elsewhere(const struct turn *t, const struct pool *p)
{
    return cap_yield(p->caps[SCOPE_DATABASE], t->u, t->now_us) ||
           cap_yield(p->caps[SCOPE_USER], t->u, t->now_us);
}
