/* Servers, places, and lanes on the move. See places.h. */
#include "pool/places.h"

#include <utlist.h>

#include "pool/rights.h"

void places_act(struct turn *t, const struct pool_action *action)
{
    must(t->actions->n < POOL_ACTIONS_MAX);
    t->actions->at[t->actions->n++] = *action;
}

/* ---- idle servers -------------------------------------------------------------------------- */

static void scope_idle_add(struct scope *scope, struct pool_server *s)
{
    enum scope_kind k = scope->kind;

    must((s->lru_scopes & BIT(k)) == 0);
    s->lru_prev[k] = scope->idle_last;
    s->lru_next[k] = NULL;
    if (scope->idle_last != NULL)
        scope->idle_last->lru_next[k] = s;
    else
        scope->idle_first = s;
    scope->idle_last = s;
    s->lru_scopes |= BIT(k);
}

static void scope_idle_remove(struct scope *scope, struct pool_server *s)
{
    enum scope_kind k = scope->kind;

    must((s->lru_scopes & BIT(k)) != 0);
    if (s->lru_prev[k] != NULL)
        s->lru_prev[k]->lru_next[k] = s->lru_next[k];
    else
        scope->idle_first = s->lru_next[k];
    if (s->lru_next[k] != NULL)
        s->lru_next[k]->lru_prev[k] = s->lru_prev[k];
    else
        scope->idle_last = s->lru_prev[k];
    s->lru_prev[k] = s->lru_next[k] = NULL;
    s->lru_scopes &= (uint8_t)~BIT(k);
}

static void relist(struct pool *p, struct pool_server *s, bool idle)
{
    for (uint32_t k = 0; k < POOL_SCOPES; k++) {
        bool wanted = idle && cap_max(p->caps[k]) > 0, is = (s->lru_scopes & BIT(k)) != 0;
        if (wanted && !is)
            scope_idle_add(p->scopes[k], s);
        else if (!wanted && is)
            scope_idle_remove(p->scopes[k], s);
    }
}

void places_idle_add(struct pool *p, struct pool_server *s, uint64_t now_us)
{
    must(s->worker < p->worker_n);
    struct idle_list *list = &p->idle[s->worker];

    s->state = POOL_SERVER_IDLE;
    s->idle_since_us = now_us;
    s->prev = NULL;
    s->next = list->first;
    if (list->first != NULL)
        list->first->prev = s;
    else
        list->last = s;
    list->first = s;
    p->idle_mask |= 1ull << s->worker;
    p->idle_n++;
    relist(p, s, true);
}

void places_idle_remove(struct pool *p, struct pool_server *s)
{
    must(s->state == POOL_SERVER_IDLE);
    must(p->idle_n > 0);
    struct idle_list *list = &p->idle[s->worker];

    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        list->first = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    else
        list->last = s->prev;
    s->prev = s->next = NULL;
    if (list->first == NULL)
        p->idle_mask &= ~(1ull << s->worker);
    p->idle_n--;
    if (s->lru_scopes != 0)
        relist(p, s, false);
}

struct pool_server *places_idle_for(const struct pool *p, uint16_t worker)
{
    must(p->idle_mask != 0);
    /* Its own loop, else the next one that has any: the lowest would always pay for the others. */
    uint64_t from = p->idle_mask >> worker << worker;
    uint32_t at = (uint32_t)__builtin_ctzll(from != 0 ? from : p->idle_mask);

    return p->opts.round_robin ? p->idle[at].last : p->idle[at].first;
}

void places_idle_relist(struct pool *p)
{
    for (uint64_t mask = p->idle_mask; mask != 0; mask &= mask - 1) {
        struct pool_server *s = p->idle[__builtin_ctzll(mask)].last;
        for (; s != NULL; s = s->prev)
            relist(p, s, true);
    }
}

/* ---- opening and closing ------------------------------------------------------------------- */

void places_set_budget(struct upstream *u)
{
    uint32_t n = rights_places(u), before_n = cap_max(&u->cap);

    if (u->full_n > 0 && (n == 0 || u->full_n < n))
        n = u->full_n;
    atomic_store_explicit(&u->cap.max_n, n, memory_order_relaxed);
    rights_upstream_all(u);
    if ((before_n > 0) == (n > 0))
        return;
    struct pool *p;
    DL_FOREACH(u->pools, p)
    {
        places_idle_relist(p);
    }
}

uint32_t places_take(struct turn *t, struct pool *p)
{
    /* Innermost last: the upstream's is the one that is contended. */
    static const enum scope_kind order[POOL_SCOPES] = {SCOPE_USER, SCOPE_DATABASE, SCOPE_UPSTREAM};
    struct cap *caps[POOL_SCOPES];

    for (uint32_t i = 0; i < POOL_SCOPES; i++) {
        caps[i] = p->caps[order[i]];
        if (cap_kept(caps[i], t->u, t->now_us))
            return order[i];
    }
    uint32_t full_i = caps_take(caps, POOL_SCOPES);
    if (full_i < POOL_SCOPES)
        return order[full_i];
    for (uint32_t i = 0; i < POOL_SCOPES; i++) {
        cap_unclaim(caps[i], t->u);
        p->scopes[i]->server_n++;
    }
    return POOL_SCOPES;
}

void places_open(struct turn *t, struct pool *p, uint8_t class_i, uint16_t worker)
{
    p->server_n++;
    p->opening_n++;
    t->u->server_n++;
    t->u->connecting_n++;
    if (class_i < CLASSES_MAX) {
        p->shares.at[class_i].opening_n++;
        t->u->shares.at[class_i].opening_n++;
    } else {
        p->opening_min_n++;
    }
    t->u->opening_last = p;
    if (t->u->probe_wanted) {
        t->u->probe_wanted = false;
        t->u->probing = p;
    }
    places_act(t, &(struct pool_action){
                      .act = POOL_OPEN, .worker = worker, .pool = p, .class_i = class_i});
}

void places_opening_ended(struct pool *p)
{
    struct upstream *u = p->upstream;

    must(p->opening_n > 0 && u->connecting_n > 0);
    p->opening_n--;
    u->connecting_n--;
    if (p->opening_old_n > 0)
        p->opening_old_n--;
    /* Openings have no names: one that was wanted by the first class that wants any has come. */
    for (uint32_t i = 0; i < u->class_n; i++) {
        if (p->shares.at[i].opening_n == 0)
            continue;
        must(u->shares.at[i].opening_n > 0);
        p->shares.at[i].opening_n--;
        u->shares.at[i].opening_n--;
        return;
    }
    must(p->opening_min_n > 0);
    p->opening_min_n--;
}

void places_close(struct turn *t, struct pool_server *s, int scope_kind)
{
    struct pool *p = s->pool;

    must(s->lru_scopes == 0 && s->prev == NULL && s->next == NULL);
    s->state = POOL_SERVER_CLOSING;
    p->closing_n++;
    for (uint32_t k = 0; k < POOL_SCOPES; k++)
        p->scopes[k]->closing_n++;
    if (p->opts.lifetime_us > 0 && t->now_us >= s->opened_us + p->opts.lifetime_us)
        p->lifetime_closed_us = t->now_us;
    s->evicted_for = 0;
    if (scope_kind >= 0) {
        s->evicted_for = (uint8_t)(scope_kind + 1);
        p->scopes[scope_kind]->evicting_n++;
        t->u->evicted_n++;
    }
    places_act(
        t, &(struct pool_action){.act = POOL_CLOSE, .worker = s->worker, .server = s, .pool = p});
}

void places_closed(struct pool_server *s)
{
    struct pool *p = s->pool;

    must(s->state == POOL_SERVER_CLOSING && p->closing_n > 0);
    p->closing_n--;
    for (uint32_t k = 0; k < POOL_SCOPES; k++) {
        must(p->scopes[k]->closing_n > 0);
        p->scopes[k]->closing_n--;
    }
    if (s->evicted_for > 0) {
        struct scope *scope = p->scopes[s->evicted_for - 1];
        must(scope->evicting_n > 0);
        scope->evicting_n--;
        s->evicted_for = 0;
    }
}

void places_give(struct pool *p)
{
    must(p->server_n > 0 && p->upstream->server_n > 0);
    caps_give(p->caps, POOL_SCOPES);
    for (uint32_t k = 0; k < POOL_SCOPES; k++) {
        must(p->scopes[k]->server_n > 0);
        p->scopes[k]->server_n--;
    }
    p->server_n--;
    p->upstream->server_n--;
}

/* ---- lanes --------------------------------------------------------------------------------- */

static void scope_block(struct upstream *u, struct scope *scope, struct lane *l)
{
    struct lane **list = &scope->blocked[l->class_i];

    /* Woken for a place that another class took: it has not had its turn. */
    if (l->served)
        DL_APPEND(*list, l);
    else
        DL_PREPEND(*list, l);
    l->served = false;
    scope->blocked_mask |= BIT(l->class_i);
    if (scope->blocked_n++ == 0) {
        DL_APPEND(u->blocked_scopes, scope);
        u->blocked_scopes_n++;
    }
}

static void scope_unblock(struct upstream *u, struct scope *scope, struct lane *l)
{
    must(scope->blocked_n > 0);
    DL_DELETE(scope->blocked[l->class_i], l);
    l->prev = l->next = NULL;
    if (scope->blocked[l->class_i] == NULL)
        scope->blocked_mask &= ~BIT(l->class_i);
    if (--scope->blocked_n == 0) {
        DL_DELETE(u->blocked_scopes, scope);
        u->blocked_scopes_n--;
        scope->prev = scope->next = NULL;
    }
}

void places_lane_goto(struct lane *l, enum lane_state next, uint8_t scope_i)
{
    struct upstream *u = l->pool->upstream;
    struct queue *q = &u->queues[l->class_i];

    must(lock_mine(&u->lock));
    must((next == LANE_EMPTY) == (l->waiting_n == 0));
    switch (l->state) {
    case LANE_READY:
        queue_ready_remove(q, l);
        break;
    case LANE_STALLED:
        queue_stalled_remove(q, l);
        break;
    case LANE_BLOCKED:
        scope_unblock(u, l->pool->scopes[l->scope_i], l);
        break;
    case LANE_EMPTY:
        l->served = true;
        break;
    case LANE_HELD:
        break;
    }
    l->called = false;
    l->state = next;
    switch (next) {
    case LANE_READY:
        queue_ready_add(q, l);
        break;
    case LANE_STALLED:
        queue_stalled_add(q, l);
        break;
    case LANE_BLOCKED:
        must(scope_i < POOL_SCOPES);
        l->scope_i = scope_i;
        scope_block(u, l->pool->scopes[scope_i], l);
        break;
    case LANE_EMPTY:
    case LANE_HELD:
        break;
    }
    u->ready_mask = (u->ready_mask & ~BIT(l->class_i)) | (uint32_t)(q->ready != NULL) << l->class_i;
    u->stalled_mask = (u->stalled_mask & ~BIT(l->class_i)) | (uint32_t)(q->stalled != NULL)
                                                                 << l->class_i;
}

void places_wake_pool(struct pool *p)
{
    for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
        struct lane *l = p->lanes[__builtin_ctz(mask)];
        /* Those that need a new server keep their place in the line for it, unless there is an old
         * one. */
        bool needs_new = l->state == LANE_STALLED || l->state == LANE_BLOCKED;
        if (l->state == LANE_HELD || (needs_new && p->idle_n > 0))
            places_lane_goto(l, LANE_READY, 0);
    }
}

bool places_wake_scope(struct turn *t, struct scope *scope)
{
    struct upstream *u = t->u;
    bool evictable = scope->idle_first != NULL && scope->evicting_n < scope->blocked_n &&
                     !cap_kept(scope->cap, u, t->now_us);

    if (scope->blocked_mask == 0 || !(places_has_room(t, scope) || evictable))
        return false;
    if (scope->kind == SCOPE_UPSTREAM && u->connecting_n >= rights_connecting(u) &&
        !u->probe_wanted)
        return false;
    for (uint32_t mask = scope->blocked_mask; mask != 0; mask &= mask - 1) {
        struct lane *l = scope->blocked[__builtin_ctz(mask)];
        places_lane_goto(l, LANE_READY, 0);
        l->called = true;
    }
    return true;
}

bool places_wake_stalled(struct upstream *u)
{
    bool woken = false;

    for (uint32_t mask = u->stalled_mask; mask != 0; mask &= mask - 1) {
        uint32_t class_i = (uint32_t)__builtin_ctz(mask);
        if (!shares_allow(&u->shares, (uint8_t)class_i, u->shares.at[class_i].opening_n))
            continue;
        places_lane_goto(u->queues[class_i].stalled, LANE_READY, 0);
        woken = true;
    }
    return woken;
}

const char *places_lane_state_name(enum lane_state state)
{
    static const char *const names[] = {
#define X(name) #name,
        LANE_STATES(X)
#undef X
    };
    must(state < COUNT_OF(names));
    return names[state];
}
