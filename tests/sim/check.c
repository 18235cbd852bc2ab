/* The invariants. Each is worked out from the world's own objects, or by walking the pool's, never
 * by asking the function under test: what class may lease what is computed here a second time, in
 * the plainest way.
 *
 *   counts      servers, leases, places, waiters are what the world has, at every scope
 *   caps        an opening found room in each scope; a lease found room in its class, and left what
 *               is reserved for others alone
 *   lists       every server and waiter is on the lists of its state, and on no other
 *   no loss     nobody waits who could be served: a server idles for him, or may be opened, or may
 *               be evicted
 *   no famine   nobody waits past his deadline; a class with nothing that has waited for its floor
 *               is not passed over
 */
#include "tests/sim/check.h"

#include <string.h>

#include "pool/places.h"
#include "pool/rights.h"

/* ---- what a class is entitled to, once more ------------------------------------------------ */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* What the world has, counted in one pass. */
struct tally_scope {
    uint32_t by_state[POOL_SERVER_CLOSING + 1], opening_n, clients_n, waiting_n;
    uint32_t leased_n[CLASSES_MAX], queued_n[CLASSES_MAX], grouped_n[CLASSES_MAX];
    bool present[CLASSES_MAX];
};
struct tally {
    struct tally_scope pools[SIM_POOLS_MAX], upstreams[SIM_UPSTREAMS_MAX];
};

static void tally_client(struct tally *t, const struct world *w, const struct sim_client *c)
{
    struct tally_scope *in_pool = &t->pools[c->pool_i];
    struct tally_scope *in_all = &t->upstreams[world_upstream_i(w, w->pools[c->pool_i]->upstream)];

    in_pool->clients_n++;
    in_pool->present[c->class_i] = in_all->present[c->class_i] = true;
    if (c->state != SIM_CLIENT_WAITING || !c->w.queued)
        return;
    in_all->waiting_n++;
    in_all->queued_n[c->w.class_i]++;
    in_all->present[c->w.class_i] = true;
    if (c->w.parked)
        return;
    in_pool->waiting_n++;
    in_pool->present[c->w.class_i] = true;
}

static void tally(struct tally *t, const struct world *w)
{
    memset(t, 0, sizeof(*t));
    for (uint32_t i = 0; i < w->servers_n; i++) {
        const struct pool_server *s = &w->servers[i].s;
        if (!w->servers[i].used || s->pool == NULL)
            continue;
        struct tally_scope *in_pool = &t->pools[world_pool_i(w, s->pool)];
        struct tally_scope *in_all = &t->upstreams[world_upstream_i(w, s->pool->upstream)];
        in_pool->by_state[s->state]++;
        in_all->by_state[s->state]++;
        if (s->state == POOL_SERVER_LEASED) {
            in_pool->leased_n[s->class_i]++;
            in_all->leased_n[s->class_i]++;
            in_pool->grouped_n[s->class_i] += s->group != 0;
            in_all->grouped_n[s->class_i] += s->group != 0;
        }
    }
    for (uint32_t i = 0; i < w->client_n; i++)
        if (w->clients[i].state != SIM_CLIENT_OUT)
            tally_client(t, w, &w->clients[i]);
    for (uint32_t i = 0; i < w->letter_n; i++) {
        if (w->letters[i].kind != SIM_MAIL_OPEN)
            continue;
        t->pools[world_pool_i(w, w->letters[i].pool)].opening_n++;
        t->upstreams[world_upstream_i(w, w->letters[i].pool->upstream)].opening_n++;
    }
}

struct entitled {
    uint32_t max_n;
    uint32_t floor_n;    /* reserved for it while it has clients */
    uint32_t reserved_n; /* ... and now */
};

static struct entitled entitled_in_pool(const struct world *w, const struct tally *t,
                                        const struct pool *p, uint8_t class_i)
{
    const struct class_opts *o = &w->classes.at[class_i];
    uint32_t size_n = p->opts.size_n;
    struct entitled e = {.max_n = UINT32_MAX};

    if (o->max.percent && o->max.n < 100 && size_n > 0 &&
        p->replication != POOL_REPLICATION_PHYSICAL)
        e.max_n = (size_n * o->max.n + 99) / 100;
    uint32_t share_n = o->reserved.percent ? (size_n * o->reserved.n + 99) / 100 : o->reserved.n;
    e.floor_n = least(size_n == 0 ? 1 : most(1, least(share_n, size_n)), e.max_n);
    e.reserved_n = t->pools[world_pool_i(w, p)].present[class_i] ? e.floor_n : 0;
    return e;
}

static struct entitled entitled_in_all(const struct world *w, const struct tally *t,
                                       const struct upstream *u, uint8_t class_i)
{
    const struct class_opts *o = &w->classes.at[class_i];
    const struct tier *tier = &u->tiers[class_i];
    uint32_t budget_n = cap_max(&u->cap), told_n = u->facts.places_n;
    struct entitled e = {.max_n = UINT32_MAX};

    if (u->opts.budget_n == 0 && told_n > 0)
        budget_n = least(budget_n, told_n - told_n / 10);

    if (!o->max.percent)
        e.max_n = o->max.n;
    else if (o->max.n < 100 && budget_n > 0)
        e.max_n = (budget_n * o->max.n + 99) / 100;
    if (o->priority > 0 && budget_n < cap_max(&u->cap))
        e.max_n = least(e.max_n, budget_n);
    uint32_t share_n = o->reserved.percent ? (budget_n * o->reserved.n + 99) / 100 : o->reserved.n;
    e.floor_n = least(budget_n == 0 ? 1 : most(1, least(share_n, budget_n)), e.max_n);
    e.reserved_n = t->upstreams[world_upstream_i(w, u)].present[class_i] ? e.floor_n : 0;
    /* The breakers' word is taken from them: they have tests of their own. */
    if (tier->limited)
        e.max_n = least(e.max_n, u->breaker.classes[tier->breaker_i].ask.limit_n);
    if (o->priority > 0 && !u->passes_sheddable)
        e.max_n = 0;
    return e;
}

/* ---- a call -------------------------------------------------------------------------------- */

void check_before(struct world *w)
{
    for (uint32_t i = 0; i < w->upstream_n; i++)
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            w->leased_before[i][c] = w->upstreams[i]->shares.at[c].leased_n;
    for (uint32_t i = 0; i < w->pool_n; i++)
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            w->pool_leased_before[i][c] = w->pools[i]->shares.at[c].leased_n;
}

static void check_open(struct world *w, const struct pool *p)
{
    const struct upstream *u = p->upstream;
    uint32_t size_n = p->opts.size_n + p->opts.reserve_n;

    if (p->run != POOL_RUNS)
        world_fail(w, "a pool that is paused or closed opens servers");
    for (uint32_t k = 0; k < POOL_SCOPES; k++)
        if (cap_max(p->caps[k]) > 0 && cap_used(p->caps[k]) > cap_max(p->caps[k]))
            world_fail(w, "opened for %s/%s beyond the cap of scope %u: %u of %u", p->database,
                       p->user, k, cap_used(p->caps[k]), cap_max(p->caps[k]));
    if (p->opts.size_n > 0 && p->server_n > size_n)
        world_fail(w, "opened a pool's server number %u of %u", p->server_n, size_n);
    if (p->opts.size_n > 0 && p->server_n > p->opts.size_n && !p->reserve_open)
        world_fail(w, "opened from the reserve before its time");
    uint32_t connecting_n =
        least(u->opts.connecting_n, error_breaker_connects_max(&u->error_breaker));
    if (u->connecting_n > connecting_n && u->probing == NULL)
        world_fail(w, "%u servers connect at once", u->connecting_n);
}

/* grouped_n: leases of the class that belong to jobs. One that has a lease may get more than its
 * class may have (tests/t_groups.c says when); that there are places for them is checked with the
 * caps. */
static void check_scope_of_class(struct world *w, const struct shares *s, uint32_t class_i,
                                 uint32_t grouped_n, const struct entitled *all)
{
    uint32_t has_n = s->at[class_i].leased_n;
    uint64_t kept_n = 0;

    if (grouped_n > 1)
        return;

    if (has_n > all[class_i].max_n)
        world_fail(w, "class %u leases %u of at most %u", class_i, has_n, all[class_i].max_n);
    for (uint32_t i = 0; i < w->classes.class_n; i++)
        kept_n += most(s->at[i].leased_n, all[i].reserved_n);
    if (s->whole_n > 0 && has_n > all[class_i].floor_n && kept_n > s->whole_n)
        world_fail(w, "class %u leases %u, and others' reserves are gone: %llu kept of %u", class_i,
                   has_n, (unsigned long long)kept_n, s->whole_n);
}

/* Entitlements may fall in the very call that grants, when the last waiter of a class is served:
 * its one place was its own then. For the others, what is reserved afterwards can only be less. */
static void check_grants(struct world *w, const struct tally *t)
{
    struct entitled all[CLASSES_MAX];

    for (uint32_t i = 0; i < w->upstream_n; i++) {
        const struct upstream *u = w->upstreams[i];
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            all[c] = entitled_in_all(w, t, u, (uint8_t)c);
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            if (u->shares.at[c].leased_n > w->leased_before[i][c])
                check_scope_of_class(w, &u->shares, c, t->upstreams[i].grouped_n[c], all);
    }
    for (uint32_t i = 0; i < w->pool_n; i++) {
        const struct pool *p = w->pools[i];
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            all[c] = entitled_in_pool(w, t, p, (uint8_t)c);
        for (uint32_t c = 0; c < w->classes.class_n; c++)
            if (p->shares.at[c].leased_n > w->pool_leased_before[i][c])
                check_scope_of_class(w, &p->shares, c, t->pools[i].grouped_n[c], all);
    }
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A class that has had nothing in the pool for its floor's time, though it waited, is served before
 * any class that has something there, or has been without for less long. (Who of a class is served
 * is up to its keys.) */
static void check_floor(struct world *w, const struct pool_action *a)
{
    const struct pool *p = a->pool;
    const struct upstream *u = p->upstream;
    uint8_t granted_i = a->server->class_i;
    const struct lane *granted = p->lanes[granted_i];
    uint64_t granted_since_us = a->waiter->since_us;

    if (a->waiter->group != 0)
        return; /* a member goes before others */
    if (granted->waiting_n > 0 && queue_lane_since(granted) < granted_since_us)
        granted_since_us = queue_lane_since(granted);
    granted_since_us = later(granted_since_us, granted->left_us);
    if (p->shares.at[granted_i].leased_n > 1)
        granted_since_us = w->now_us;
    for (uint32_t c = 0; c < w->classes.class_n; c++) {
        const struct lane *l = p->lanes[c];
        if (c == granted_i || l->waiting_n == 0 || p->shares.at[c].leased_n > 0 ||
            !shares_allow(&u->shares, (uint8_t)c, 0))
            continue;
        uint64_t since_us = later(queue_lane_since(l), l->left_us);
        if (since_us + POOL_FLOOR_WAIT_US > w->now_us)
            continue;
        if (granted_since_us > since_us)
            world_fail(w, "class %u (lane %s) has waited %.1f s for its floor, class %u was served",
                       c, places_lane_state_name(l->state),
                       (double)(w->now_us - since_us) / US_PER_S, granted_i);
        w->totals.floors_n++;
    }
}

void check_grant(struct world *w, const struct pool *p, const struct sim_server *s)
{
    if (p->run != POOL_RUNS)
        world_fail(w, "a pool that is paused or closed grants");
    if (s->stale)
        world_fail(w, "a server of before a RECONNECT is granted");
    if (s->s.pool != p)
        world_fail(w, "a server of another pool is granted");
}

void check_after_call(struct world *w, const struct pool_actions *actions)
{
    bool grants = false;

    for (uint32_t i = 0; i < actions->n; i++) {
        const struct pool_action *a = &actions->at[i];
        if (a->act == POOL_OPEN)
            check_open(w, a->pool);
        if (a->act != POOL_GRANT)
            continue;
        check_grant(w, a->pool, (const struct sim_server *)(const void *)a->server);
        check_floor(w, a);
    }
    for (uint32_t i = 0; i < actions->n; i++)
        grants |= actions->at[i].act == POOL_GRANT;
    if (w->demoting || !(grants || w->granting))
        return;
    struct tally t;
    tally(&t, w);
    check_grants(w, &t);
}

/* ---- counts -------------------------------------------------------------------------------- */

static void check_pool_counts(struct world *w, const struct tally *t, const struct pool *p)
{
    const struct tally_scope *has = &t->pools[world_pool_i(w, p)];

    if (p->opening_n != has->opening_n || p->idle_n != has->by_state[POOL_SERVER_IDLE] ||
        p->shares.leased_n != has->by_state[POOL_SERVER_LEASED] ||
        p->closing_n != has->by_state[POOL_SERVER_CLOSING])
        world_fail(w,
                   "pool %s/%s counts %u opening, %u idle, %u leased, %u closing; has %u %u %u %u",
                   p->database, p->user, p->opening_n, p->idle_n, p->shares.leased_n, p->closing_n,
                   has->opening_n, has->by_state[POOL_SERVER_IDLE],
                   has->by_state[POOL_SERVER_LEASED], has->by_state[POOL_SERVER_CLOSING]);
    if (p->server_n != p->opening_n + p->idle_n + p->shares.leased_n + p->closing_n)
        world_fail(w, "a pool's %u servers do not add up", p->server_n);
    if (p->waiting_n != has->waiting_n || p->clients_all_n != has->clients_n)
        world_fail(w, "a pool counts %u waiters, %u clients; has %u, %u", p->waiting_n,
                   p->clients_all_n, has->waiting_n, has->clients_n);
    uint32_t coming_n = p->opening_min_n;
    for (uint32_t c = 0; c < w->classes.class_n; c++) {
        coming_n += p->shares.at[c].opening_n;
        if (p->shares.at[c].leased_n != has->leased_n[c])
            world_fail(w, "leases of class %u in a pool are miscounted", c);
        struct entitled e = entitled_in_pool(w, t, p, (uint8_t)c);
        if (p->shares.at[c].reserved_n != e.reserved_n || p->shares.at[c].max_n != e.max_n)
            world_fail(w, "class %u in pool %s/%s: reserved %u max %u, should be %u %u", c,
                       p->database, p->user, p->shares.at[c].reserved_n, p->shares.at[c].max_n,
                       e.reserved_n, e.max_n);
    }
    if (coming_n != p->opening_n)
        world_fail(w, "%u openings are somebody's, %u are under way", coming_n, p->opening_n);
}

static void check_upstream_counts(struct world *w, const struct tally *t, const struct upstream *u)
{
    const struct tally_scope *has = &t->upstreams[world_upstream_i(w, u)];
    uint32_t server_n = has->opening_n;

    for (uint32_t i = 0; i < COUNT_OF(has->by_state); i++)
        server_n += has->by_state[i];
    if (u->server_n != server_n || u->connecting_n != has->opening_n ||
        u->waiting_n != has->waiting_n || cap_used(&u->cap) != server_n)
        world_fail(w, "upstream counts %u servers, %u connecting, %u waiting; has %u %u %u",
                   u->server_n, u->connecting_n, u->waiting_n, server_n, has->opening_n,
                   has->waiting_n);
    for (uint32_t c = 0; c < w->classes.class_n; c++) {
        struct entitled e = entitled_in_all(w, t, u, (uint8_t)c);
        if (u->shares.at[c].leased_n != has->leased_n[c] ||
            u->queues[c].leased_n != has->leased_n[c] || u->queues[c].waiting_n != has->queued_n[c])
            world_fail(w, "class %u: %u and %u leases, %u waiting; has %u, %u", c,
                       u->shares.at[c].leased_n, u->queues[c].leased_n, u->queues[c].waiting_n,
                       has->leased_n[c], has->queued_n[c]);
        if (u->shares.at[c].reserved_n != e.reserved_n || u->shares.at[c].max_n != e.max_n)
            world_fail(w, "class %u of the upstream: reserved %u max %u, should be %u %u", c,
                       u->shares.at[c].reserved_n, u->shares.at[c].max_n, e.reserved_n, e.max_n);
    }
}

static void check_caps(struct world *w)
{
    for (uint32_t i = 0; i < w->pool_n; i++) {
        const struct pool *p = w->pools[i];
        uint32_t of_db_n = 0, of_user_n = 0;
        for (uint32_t j = 0; j < w->pool_n; j++) {
            of_db_n += strcmp(w->pools[j]->database, p->database) == 0 ? w->pools[j]->server_n : 0;
            of_user_n += strcmp(w->pools[j]->user, p->user) == 0 ? w->pools[j]->server_n : 0;
        }
        if (cap_used(p->caps[SCOPE_DATABASE]) != of_db_n ||
            cap_used(p->caps[SCOPE_USER]) != of_user_n)
            world_fail(w, "places of %s or %s leak", p->database, p->user);
    }
}

static void check_addresses(struct world *w)
{
    for (uint32_t u_i = 0; u_i < w->upstream_n; u_i++) {
        struct pool_addr *a, *next;
        HASH_ITER(hh, w->upstreams[u_i]->addresses, a, next)
        {
            uint32_t admitted_n = 0, parked_n = 0;
            for (uint32_t i = 0; i < w->servers_n; i++)
                admitted_n += w->servers[i].used && w->servers[i].s.addr == a;
            for (uint32_t i = 0; i < w->client_n; i++) {
                const struct sim_client *c = &w->clients[i];
                bool waits = c->state == SIM_CLIENT_WAITING && c->w.queued && c->w.addr == a;
                admitted_n += waits && !c->w.parked;
                parked_n += waits && c->w.parked;
            }
            if (a->admitted_n != admitted_n)
                world_fail(w, "an address counts %u, has %u", a->admitted_n, admitted_n);
            if ((a->parked == NULL) != (parked_n == 0) || (parked_n > 0 && admitted_n == 0))
                world_fail(w, "%u are parked at an address that has %u", parked_n, admitted_n);
        }
    }
}

/* ---- lists --------------------------------------------------------------------------------- */

static void check_idle_lists(struct world *w, const struct pool *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->worker_n; i++) {
        const struct idle_list *list = &p->idle[i];
        const struct pool_server *before = NULL;
        if ((list->first != NULL) != ((p->idle_mask >> i & 1) != 0))
            world_fail(w, "idle_mask is wrong");
        for (const struct pool_server *s = list->first; s != NULL; before = s, s = s->next) {
            if (s->state != POOL_SERVER_IDLE || s->worker != i || s->pool != p || s->prev != before)
                world_fail(w, "a server in the idle list does not belong there");
            for (uint32_t k = 0; k < POOL_SCOPES; k++)
                if ((s->lru_scopes >> k & 1) != (cap_max(p->caps[k]) > 0) &&
                    w->event[0] != 'a') /* a reload relists pool by pool */
                    world_fail(w, "an idle server misses scope %u, or should", k);
            n++;
        }
        if (list->last != before)
            world_fail(w, "an idle list has a wrong end");
    }
    if (n != p->idle_n)
        world_fail(w, "%u idle servers are listed, %u counted", n, p->idle_n);
}

static void check_lane(struct world *w, const struct lane *l)
{
    const struct upstream *u = l->pool->upstream;
    uint32_t n = 0;

    for (uint32_t i = 0; i < QUEUE_KEYS; i++) {
        if ((l->keys[i] != NULL) != ((l->keys_mask >> i & 1) != 0))
            world_fail(w, "a lane's mask of keys is wrong");
        for (const struct pool_waiter *at = l->keys[i]; at != NULL; at = at->next, n++)
            if (!at->queued || at->parked || at->member || at->pool != l->pool ||
                at->class_i != l->class_i || groups_find(l->pool, at->group) != NULL)
                world_fail(w, "a waiter in a lane does not belong there");
    }
    for (const struct pool_waiter *at = l->members; at != NULL; at = at->next, n++)
        if (!at->queued || at->parked || !at->member || at->pool != l->pool ||
            at->class_i != l->class_i || groups_find(l->pool, at->group) == NULL)
            world_fail(w, "a member in a lane does not belong there");
    if (n != l->waiting_n || (n == 0) != (l->state == LANE_EMPTY) ||
        (n > 0) != ((l->pool->lanes_mask >> l->class_i & 1) != 0))
        world_fail(w, "lane %s has %u waiters, counts %u", places_lane_state_name(l->state), n,
                   l->waiting_n);
    const struct queue *q = &u->queues[l->class_i];
    const struct lane *at = l->state == LANE_READY     ? q->ready
                            : l->state == LANE_STALLED ? q->stalled
                            : l->state == LANE_BLOCKED
                                ? l->pool->scopes[l->scope_i]->blocked[l->class_i]
                                : l;
    for (uint32_t steps = 0; at != l && at != NULL && steps < 100; steps++)
        at = at->next;
    if (at != l)
        world_fail(w, "lane %s is not where it says", places_lane_state_name(l->state));
}

static void check_leased_list(struct world *w, const struct upstream *u)
{
    uint32_t n = 0;
    const struct pool_server *s = u->leased;

    for (; s != NULL; s = s->next) {
        if (s->state != POOL_SERVER_LEASED || ++n > SIM_SERVERS_MAX)
            world_fail(w, "the list of leases is broken");
        if (s->next == u->leased)
            break;
    }
    if (n != u->shares.leased_n)
        world_fail(w, "%u leases are listed, %u counted", n, u->shares.leased_n);
}

static void check_due(struct world *w, const struct upstream *u)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < DUE_SLOTS; i++)
        for (const struct pool_waiter *at = u->due.slots[i]; at != NULL; at = at->due_next, n++)
            if (!at->queued || at->due_slot_i != i)
                world_fail(w, "the wheel of deadlines is broken");
    if (n != u->due.waiters_n)
        world_fail(w, "%u deadlines are listed, %u counted", n, u->due.waiters_n);
}

/* ---- no loss ------------------------------------------------------------------------------- */

static bool scope_could(const struct world *w, const struct upstream *u, const struct scope *scope)
{
    if (cap_kept(scope->cap, u, w->now_us))
        return false; /* for another upstream, which will not wait for ever */
    return cap_has_room(scope->cap) ||
           (scope->idle_first != NULL && scope->evicting_n < scope->blocked_n);
}

/* Could this lane have a server now, or ask for one? What only a tick finds out (pauses that end,
 * places freed by another upstream, reserves) counts only right after one. */
static void check_not_lost(struct world *w, const struct lane *l)
{
    const struct pool *p = l->pool;
    const struct upstream *u = p->upstream;
    uint8_t c = l->class_i;

    if (l->waiting_n == 0 || w->stale[world_upstream_i(w, u)] || p->run != POOL_RUNS ||
        !shares_allow(&p->shares, c, 0) || !shares_allow(&u->shares, c, 0))
        return;
    if (p->idle_n > 0)
        world_fail(w, "class %u waits in %s/%s (lane %s) while %u servers idle", c, p->database,
                   p->user, places_lane_state_name(l->state), p->idle_n);
    uint32_t coming_n = p->shares.at[c].opening_n;
    if (coming_n >= l->waiting_n || !shares_allow(&p->shares, c, coming_n) ||
        !shares_allow(&u->shares, c, u->shares.at[c].opening_n) ||
        p->server_n >= rights_pool_size(p) || u->connecting_n >= rights_connecting(u))
        return;
    if (p->down && (w->now_us < p->retry_at_us || w->ticked != u))
        return;
    for (uint32_t k = 0; k < POOL_SCOPES; k++)
        if (!scope_could(w, u, p->scopes[k]))
            return;
    if (w->upstream_n > 1 && w->ticked != u)
        return;
    world_fail(w, "class %u waits in %s/%s (lane %s) though a server may be opened", c, p->database,
               p->user, places_lane_state_name(l->state));
}

static void check_patience(struct world *w)
{
    for (uint32_t i = 0; i < w->client_n; i++) {
        const struct sim_client *c = &w->clients[i];
        if (c->state != SIM_CLIENT_WAITING || !c->w.queued || c->w.due_us == 0)
            continue;
        if (w->now_us > c->w.due_us + 2 * DUE_SLOT_US)
            world_fail(w, "client %u waits %.3f s past its deadline", i,
                       (double)(w->now_us - c->w.due_us) / US_PER_S);
    }
}

/* Where nothing fails, a class that has nothing in a pool and waits there gets something within its
 * floor, and a lease of each class that waits likewise, and the way there; times the pools it
 * shares its places with. A class
 * with a limit over all pools is promised no pool in particular: its bound is its deadline. */
static void check_famine(struct world *w, uint32_t pool_i, uint8_t class_i)
{
    const struct pool *p = w->pools[pool_i];
    uint64_t *since_us = &w->famine_us[pool_i][class_i];
    const struct sim_climate *k = &w->climate;
    /* Mail and logins are sometimes twenty times their mean; a place moves by a close and an open,
     * each by mail, and is noticed by a tick. */
    uint64_t way_us = 20ull * (2 * k->mail_us + k->login_us) + US_PER_S;
    uint64_t turn_us = 2ull * k->lease_us + way_us;
    uint64_t bound_us = w->pool_n * (POOL_FLOOR_WAIT_US + w->classes.class_n * turn_us);

    if (p->lanes[class_i]->waiting_n == 0 || p->shares.at[class_i].leased_n > 0 || p->down ||
        w->job_n > 0 || p->upstream->shares.at[class_i].max_n != CAPS_NO_LIMIT) {
        *since_us = 0;
        return;
    }
    if (*since_us == 0)
        *since_us = w->now_us;
    if (w->now_us - *since_us > bound_us)
        world_fail(w, "class %u has nothing in %s/%s (lane %s) and waits for %.1f s", class_i,
                   p->database, p->user, places_lane_state_name(p->lanes[class_i]->state),
                   (double)(w->now_us - *since_us) / US_PER_S);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void check_groups(struct world *w, const struct pool *p)
{
    uint32_t groups_n = 0;

    for (uint32_t i = 0; i < POOL_GROUPS_MAX; i++) {
        const struct pool_group *g = &p->groups[i];
        uint32_t n = 0;
        if (g->id == 0)
            continue;
        groups_n++;
        for (const struct pool_server *s = g->leases; s != NULL; s = s->group_next, n++)
            if (s->state != POOL_SERVER_LEASED || s->group != g->id || s->pool != p)
                world_fail(w, "a lease of a group does not belong there");
        if (n == 0 || n != g->leased_n)
            world_fail(w, "a group counts %u leases, has %u", g->leased_n, n);
    }
    if (groups_n != p->groups_n)
        world_fail(w, "a pool counts %u groups, has %u", p->groups_n, groups_n);
}

/* It is for the pool to act: its clients ask when it is their turn in this world, which may be
 * seconds after their leader has a server. */
static bool job_waits(const struct world *w, const struct sim_job *j)
{
    bool waits = false;

    for (uint32_t i = j->first_i; i < j->first_i + j->client_n; i++) {
        if (w->clients[i].state != SIM_CLIENT_WAITING && w->clients[i].state != SIM_CLIENT_HOLDING)
            return false;
        waits |= w->clients[i].state == SIM_CLIENT_WAITING;
    }
    return waits && j->state == SIM_JOB_FORMS && j->forms_us != 0;
}

/* Where nothing fails and nobody takes its places for good, a job whose leader is in becomes whole:
 * at worst one a second, and the way there. */
static void check_job(struct world *w, struct sim_job *j)
{
    const struct pool *p = w->pools[j->pool_i];
    const struct upstream *u = p->upstream;
    const struct sim_climate *k = &w->climate;
    uint64_t way_us = 20ull * (2 * k->mail_us + k->login_us) + 2 * US_PER_S;
    uint32_t needed_n = 0;

    for (uint32_t i = 0; i < w->job_n; i++)
        needed_n += w->jobs[i].pool_i == j->pool_i ? w->jobs[i].client_n : 0;
    needed_n += p->shares.at[w->classes.interactive_i].reserved_n > 0; /* theirs, while in use */
    bool capped = cap_max(p->caps[SCOPE_UPSTREAM]) > 0 || cap_max(p->caps[SCOPE_DATABASE]) > 0 ||
                  cap_max(p->caps[SCOPE_USER]) > 0 || u->opts.address_max_n > 0;
    if (!job_waits(w, j) || capped || u->tiers[w->classes.backup_i].limited || p->down ||
        (p->opts.size_n > 0 && p->opts.size_n < needed_n)) {
        j->waits_us = 0;
        return;
    }
    if (j->waits_us == 0)
        j->waits_us = w->now_us;
    uint64_t bound_us = needed_n * (2ull * k->lease_us + way_us);
    if (w->now_us > j->waits_us + bound_us)
        world_fail(w, "a job of %u in %s/%s is not whole after %.1f s", j->client_n, p->database,
                   p->user, (double)(w->now_us - j->waits_us) / US_PER_S);
}

/* ---- all ----------------------------------------------------------------------------------- */

void check_all(struct world *w)
{
    struct tally t;

    tally(&t, w);
    for (uint32_t i = 0; i < w->pool_n; i++) {
        const struct pool *p = w->pools[i];
        check_pool_counts(w, &t, p);
        check_groups(w, p);
        check_idle_lists(w, p);
        for (uint32_t c = 0; c < w->classes.class_n; c++) {
            check_lane(w, p->lanes[c]);
            check_not_lost(w, p->lanes[c]);
            if (w->climate.steady)
                check_famine(w, i, (uint8_t)c);
        }
    }
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        check_upstream_counts(w, &t, w->upstreams[i]);
        check_leased_list(w, w->upstreams[i]);
        if (w->event_n % 16 == 0)
            check_due(w, w->upstreams[i]);
    }
    for (uint32_t i = 0; i < w->job_n && w->climate.steady && !w->draining; i++)
        check_job(w, &w->jobs[i]);
    check_caps(w);
    check_addresses(w);
    check_patience(w);
}

void check_rest(struct world *w)
{
    check_all(w);
    for (uint32_t i = 0; i < w->upstream_n; i++) {
        const struct upstream *u = w->upstreams[i];
        if (u->server_n != 0 || u->waiting_n != 0 || u->shares.leased_n != 0 ||
            u->shares.kept_n != 0)
            world_fail(w, "at the end %u servers, %u waiters, %u leases are left", u->server_n,
                       u->waiting_n, u->shares.leased_n);
        if (u->scope.blocked_n != 0 || u->scope.evicting_n != 0 || u->scope.closing_n != 0)
            world_fail(w, "at the end the upstream's scope is not empty");
    }
    for (uint32_t i = 0; i < w->servers_n; i++)
        if (w->servers[i].used)
            world_fail(w, "at the end a server is left in state %d", w->servers[i].s.state);
}
