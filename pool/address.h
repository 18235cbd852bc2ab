/* How many leases one client address may have on an upstream at once. A waiter is admitted to its
 * pool's lane only while its address has fewer leases and admitted waiters than it may; the others
 * are parked here, so that nobody else ever waits behind them.
 */
#ifndef POOL_ADDRESS_H
#define POOL_ADDRESS_H

#include "pool/state.h"

/* Under the upstream's lock. a may be NULL: not counted, always admitted. */
MUST_USE bool address_admit(struct pool_addr *a);
void address_park(struct pool_addr *a, struct pool_waiter *w);
void address_unpark(struct pool_addr *a, struct pool_waiter *w);
/* One lease or admitted waiter less. */
void address_release(struct pool_addr *a);
/* A parked waiter that may be admitted now, or NULL. */
struct pool_waiter *address_next(const struct pool_addr *a);

/* Without it: frees addresses whose sessions are gone and whose leases have ended since. */
void address_sweep(struct upstream *u);
void address_free_all(struct upstream *u);

#endif
