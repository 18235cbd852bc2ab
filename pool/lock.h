/* The one lock of an upstream, and proof that it is held.
 *
 * An adaptive pthread mutex: it spins for a moment before it sleeps, which is right for sections of
 * 30 to 100 ns, and the tools that check programs know what it means. A spinlock of our own was a
 * few nanoseconds faster alone and far slower when its holder was preempted, which on a machine
 * with more loops than free cores is every few milliseconds.
 *
 * Ranks, from the outside in: registry, addresses of an upstream, upstream. None is taken while one
 * of the same or an inner rank is held. Inside the upstream's: no system call, no allocation, no
 * logging, no callback.
 */
#ifndef POOL_LOCK_H
#define POOL_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "breaker/base.h"

struct lock {
    pthread_mutex_t mutex;
    _Atomic(pthread_t) owner; /* only ever compared with oneself */
};

static inline void lock_init(struct lock *l)
{
    pthread_mutexattr_t attr;

    must(pthread_mutexattr_init(&attr) == 0);
    must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP) == 0);
    must(pthread_mutex_init(&l->mutex, &attr) == 0);
    must(pthread_mutexattr_destroy(&attr) == 0);
    atomic_store_explicit(&l->owner, 0, memory_order_relaxed);
}

static inline void lock_free(struct lock *l)
{
    must(pthread_mutex_destroy(&l->mutex) == 0);
}

static inline bool lock_mine(struct lock *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) == pthread_self();
}

static inline void lock_take(struct lock *l)
{
    must(pthread_mutex_lock(&l->mutex) == 0);
    atomic_store_explicit(&l->owner, pthread_self(), memory_order_relaxed);
}

static inline void lock_drop(struct lock *l)
{
    must(lock_mine(l));
    atomic_store_explicit(&l->owner, 0, memory_order_relaxed);
    must(pthread_mutex_unlock(&l->mutex) == 0);
}

#endif
