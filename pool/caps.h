/* Counted limits, and nothing else: who is counted where is the caller's business.
 *
 *   cap     places for server connections: of an upstream, of a database, of a user. A database's
 *           and a user's span upstreams, that is, locks: so a cap is an atomic counter. caps_take()
 *           takes a place in each of a list, or in none. Who waits long for a place that another
 *           upstream holds makes a claim: the next place is then kept for him, and one holder who
 *           sees the claim gives his up.
 *   shares  who leases what within one scope (an upstream; a pool), class by class, under that
 *           upstream's lock. A class below what is reserved for it may always lease; beyond, it
 *           must leave alone what is reserved for the others. O(1): the sum of what is kept (leased
 *           or reserved, whichever is more) is maintained, not computed.
 */
#ifndef POOL_CAPS_H
#define POOL_CAPS_H

#include <stdatomic.h>

#include "breaker/base.h"

#define CAPS_NO_LIMIT UINT32_MAX

struct cap {
    _Atomic uint32_t used_n;
    _Atomic uint32_t max_n; /* 0: no limit. May be lowered below used_n: then nobody is let in */
    /* the claim; races on it cost a place's detour, never a count */
    _Atomic(const void *) claimant;
    _Atomic(const void *) rival; /* whose claim came second: the next one is his */
    _Atomic uint64_t claim_until_us;
    _Atomic bool owed; /* nobody has given a place up for it yet */
};
enum {
    CAP_CLAIM_US = 250 * US_PER_MS
}; /* two ticks and a half: whoever still wants it renews it */

static inline uint32_t cap_used(const struct cap *c)
{
    return atomic_load_explicit(&c->used_n, memory_order_relaxed);
}
static inline uint32_t cap_max(const struct cap *c)
{
    return atomic_load_explicit(&c->max_n, memory_order_relaxed);
}
static inline bool cap_has_room(const struct cap *c)
{
    return cap_max(c) == 0 || cap_used(c) < cap_max(c);
}
/* The next place is kept for somebody else than `who`. */
static inline bool cap_kept(const struct cap *c, const void *who, uint64_t now_us)
{
    const void *claimant = atomic_load_explicit(&c->claimant, memory_order_relaxed);

    return claimant != NULL && claimant != who && cap_max(c) > 0 && cap_used(c) + 1 >= cap_max(c) &&
           now_us < atomic_load_explicit(&c->claim_until_us, memory_order_relaxed);
}
/* Claims the next place, or renews the claim. False: somebody else has one. */
MUST_USE bool cap_claim(struct cap *c, const void *who, uint64_t now_us);
static inline bool cap_claimed_by(const struct cap *c, const void *who)
{
    return atomic_load_explicit(&c->claimant, memory_order_relaxed) == who;
}
/* The claim of `who` is met, or given up. */
void cap_unclaim(struct cap *c, const void *who);
/* True, to one holder: somebody else than `who` has a claim, a place is to be given up for it. */
MUST_USE bool cap_yield(struct cap *c, const void *who, uint64_t now_us);
MUST_USE bool cap_take(struct cap *c);
void cap_give(struct cap *c);

/* Takes a place in each of n caps, or in none. Returns n on success, else the index of the one that
 * is full. */
MUST_USE uint32_t caps_take(struct cap *const *caps, uint32_t n);
void caps_give(struct cap *const *caps, uint32_t n);

struct shares_class {
    uint32_t leased_n;
    uint32_t opening_n;  /* servers being opened for its waiters: leases to come */
    uint32_t still_n;    /* leases of groups that ran nothing at the last tick (pool/groups.h) */
    uint32_t reserved_n; /* kept free for it; 0 while it has no clients here */
    uint32_t max_n;      /* CAPS_NO_LIMIT: none */
};
struct shares {
    uint32_t whole_n;  /* places to share out; 0: no limit */
    uint32_t leased_n; /* sum over the classes */
    uint32_t kept_n;   /* sum of max(leased_n, reserved_n) */
    struct shares_class at[CLASSES_MAX];
};

void shares_set_whole(struct shares *s, uint32_t whole_n);
void shares_set_class(struct shares *s, uint8_t class_i, uint32_t reserved_n, uint32_t max_n);
/* May this class lease one more than it has, and than `coming_n` more it is going to have? */
MUST_USE bool shares_allow(const struct shares *s, uint8_t class_i, uint32_t coming_n);
/* The same for a member of an admitted group: leases that stand still do not count against max. */
MUST_USE bool shares_allow_member(const struct shares *s, uint8_t class_i, uint32_t coming_n);
MUST_USE bool shares_below_max(const struct shares *s, uint8_t class_i, uint32_t coming_n);
/* A place that nobody leases, whoever it is kept for. */
MUST_USE bool shares_room(const struct shares *s, uint32_t coming_n);
/* One that perhaps stood still does not any more: counted so until the next tick. */
void shares_stir(struct shares *s, uint8_t class_i);
/* shares_lease() obeys no limit: whoever asks has asked shares_allow(), or demotes. */
void shares_lease(struct shares *s, uint8_t class_i);
void shares_unlease(struct shares *s, uint8_t class_i);

#endif
