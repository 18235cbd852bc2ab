/* Servers and the places they take: idle lists, eviction lists, what is being opened and closed;
 * and the moves of lanes between the places where they wait. Everything here needs the upstream's
 * lock, and does what it is told: who deserves what is decided in dispatch.c.
 */
#ifndef POOL_PLACES_H
#define POOL_PLACES_H

#include "pool/state.h"

static inline bool turn_has_room(struct turn *t)
{
    if (t->actions->n < POOL_ACTIONS_MAX)
        return true;
    t->actions->more = true;
    return false;
}
void places_act(struct turn *t, const struct pool_action *action);

/* ---- idle servers ---- */
void places_idle_add(struct pool *p, struct pool_server *s, uint64_t now_us);
void places_idle_remove(struct pool *p, struct pool_server *s);
/* The idle server this loop should get: its own if it has one. The pool has at least one. */
struct pool_server *places_idle_for(const struct pool *p, uint16_t worker);
/* After a cap was set or lifted: into the eviction lists, or out of them. */
void places_idle_relist(struct pool *p);

/* ---- opening and closing ---- */
/* The budget as configured, or as a full server has taught us: after a change of either. */
void places_set_budget(struct upstream *u);
/* Takes the places, or says which scope has none (POOL_SCOPES: taken). */
MUST_USE uint32_t places_take(struct turn *t, struct pool *p);
/* Room for us, not kept for another upstream. */
static inline bool places_has_room(const struct turn *t, const struct scope *scope)
{
    return cap_has_room(scope->cap) && !cap_kept(scope->cap, t->u, t->now_us);
}
/* The place is taken: asks the caller to open. class_i CLASSES_MAX: for min_pool_size. */
void places_open(struct turn *t, struct pool *p, uint8_t class_i, uint16_t worker);
/* An opening ended, one way or the other. */
void places_opening_ended(struct pool *p);
/* An idle or just unleased server (in no list): asks the caller to close it. scope_kind >= 0: to
 * make room there. */
void places_close(struct turn *t, struct pool_server *s, int scope_kind);
/* The closing it was asked for has happened. */
void places_closed(struct pool_server *s);
/* A server has gone that was in none of the lists any more. */
void places_give(struct pool *p);

/* ---- lanes ---- */
/* The one function that moves a lane; scope_i only for LANE_BLOCKED. */
void places_lane_goto(struct lane *l, enum lane_state next, uint8_t scope_i);
/* Something changed in the pool: its lanes may be served. */
void places_wake_pool(struct pool *p);
/* Where the scope has room, or can make some, one lane of each class that is blocked there may try.
 * True: some. */
MUST_USE bool places_wake_scope(struct turn *t, struct scope *scope);
/* Lanes whose class had too many openings: one of each class that has not any more. True: some. */
MUST_USE bool places_wake_stalled(struct upstream *u);
const char *places_lane_state_name(enum lane_state state);

#endif
