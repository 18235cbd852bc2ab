/* Who gets the next server. Everything here needs the upstream's lock.
 */
#ifndef POOL_DISPATCH_H
#define POOL_DISPATCH_H

#include "pool/state.h"

/* Leases an idle server of p to w, who is in no queue (any more). */
void dispatch_lease(struct turn *t, struct pool *p, struct pool_server *s, struct pool_waiter *w);
/* Ends a lease: s is in no list afterwards, and still LEASED. */
void dispatch_unlease(struct turn *t, struct pool_server *s);
/* The lease goes on under another class. */
void dispatch_move_lease(struct turn *t, struct pool_server *s, uint8_t class_i);

/* Puts w, not admitted by its address if parked, into its queue. */
void dispatch_join(struct turn *t, struct pool_waiter *w, bool admitted);
/* Takes it out again, wherever it waits. */
void dispatch_leave(struct turn *t, struct pool_waiter *w, bool served);
/* Takes it out and tells it why. Needs room for an action. */
void dispatch_refuse(struct turn *t, struct pool_waiter *w, enum pool_refusal why);

/* Grants and opens whatever can be, after something changed in p (NULL: anywhere). */
void dispatch_run(struct turn *t, struct pool *p);
/* Lets members of groups in, and refuses one that waits in vain. For the tick. */
void dispatch_groups(struct turn *t);
/* Refuses whoever is late, too old, or in vain here; closes what must be closed. For the tick, and
 * to go on after `more`. */
void dispatch_chores(struct turn *t);
void dispatch_add_chore(struct pool *p, uint32_t chores);
/* Lanes that wait for a place anywhere. */
void dispatch_wake_all(struct turn *t);

/* Whether an idle or released server of p must be closed rather than used again. */
MUST_USE bool dispatch_worn(const struct pool *p, const struct pool_server *s, uint64_t now_us);
/* The scope (enum scope_kind) for which the just released server should give its place to another
 * pool, or -1. */
int dispatch_claimed(struct turn *t, const struct pool *p);
/* Whether another upstream's pool has waited long for a place of this one's database or user: one
 * server is to be closed for it. */
MUST_USE bool dispatch_claimed_elsewhere(const struct turn *t, const struct pool *p);
/* Whether waiting for this pool is in vain. */
MUST_USE bool dispatch_hopeless(const struct pool *p, uint8_t class_i, uint64_t now_us);

#endif
