/* What each class may lease, in the upstream and in each pool: the operator's shares turned into
 * numbers, whenever something changes that they depend on. Everything here needs the upstream's
 * lock.
 *
 * In a pool, a percentage is of pool_size; an absolute `reserved` is kept in every pool that has
 * clients of the class, an absolute `max` counts over all pools only. A class whose clients are
 * there, or wait, keeps at least one place: so with a server there is always a way in, and who goes
 * first is the dispatcher's business.
 */
#ifndef POOL_RIGHTS_H
#define POOL_RIGHTS_H

#include "pool/state.h"

/* A class's rights in the upstream: after a change of budget, opts, breaker, presence. */
void rights_upstream(struct upstream *u, uint8_t class_i);
void rights_upstream_all(struct upstream *u);
/* What each class may read a second, told to its pace. */
void rights_rates(struct upstream *u);
/* In a pool: after a change of size, opts, presence. */
void rights_pool(struct pool *p, uint8_t class_i);
void rights_pool_all(struct pool *p);
/* Servers PostgreSQL has room for, as the operator or the probe says; 0: not known. */
uint32_t rights_places(const struct upstream *u);
/* What percentages of the upstream are of, and what a sheddable class may have at most; 0: not
 * known. */
uint32_t rights_shared(const struct upstream *u);
/* Servers the pool may have now; UINT32_MAX: no limit. */
uint32_t rights_pool_size(const struct pool *p);
/* Servers that may be in the course of being opened now. */
uint32_t rights_connecting(const struct upstream *u);

#endif
