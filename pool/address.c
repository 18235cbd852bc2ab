/* Client addresses of an upstream. See address.h. The table has a lock of its own, outside the
 * upstream's, because it allocates; the counts are under the upstream's. */
#include "pool/address.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

bool address_admit(struct pool_addr *a)
{
    if (a == NULL)
        return true;
    uint32_t max_n = a->upstream->opts.address_max_n;
    if (max_n > 0 && a->admitted_n >= max_n)
        return false;
    a->admitted_n++;
    return true;
}

void address_park(struct pool_addr *a, struct pool_waiter *w)
{
    must(!w->parked);
    w->parked = true;
    DL_APPEND(a->parked, w);
}

void address_unpark(struct pool_addr *a, struct pool_waiter *w)
{
    must(w->parked);
    DL_DELETE(a->parked, w);
    w->prev = w->next = NULL;
    w->parked = false;
}

void address_release(struct pool_addr *a)
{
    if (a == NULL)
        return;
    must(a->admitted_n > 0);
    a->admitted_n--;
}

struct pool_waiter *address_next(const struct pool_addr *a)
{
    if (a == NULL || a->parked == NULL)
        return NULL;
    uint32_t max_n = a->upstream->opts.address_max_n;
    return max_n == 0 || a->admitted_n < max_n ? a->parked : NULL;
}

static bool address_unused(struct upstream *u, const struct pool_addr *a)
{
    lock_take(&u->lock);
    bool unused = a->admitted_n == 0;
    must(!unused || a->parked == NULL);
    lock_drop(&u->lock);
    return unused;
}

struct pool_addr *pool_addr_get(struct upstream *u, const uint8_t *bytes, uint32_t bytes_n)
{
    struct pool_addr *a = NULL;
    uint8_t key[sizeof(a->bytes)] = {0};

    must(bytes_n <= sizeof(key));
    memcpy(key, bytes, bytes_n);
    lock_take(&u->addresses_lock);
    HASH_FIND(hh, u->addresses, key, sizeof(key), a);
    if (a == NULL && (a = calloc(1, sizeof(*a))) != NULL) {
        a->upstream = u;
        a->bytes_n = bytes_n;
        memcpy(a->bytes, key, sizeof(key));
        HASH_ADD(hh, u->addresses, bytes, sizeof(a->bytes), a);
    } else if (a != NULL && a->refs_n == 0) {
        DL_DELETE(u->addresses_left, a); /* back before its last lease ended */
    }
    if (a != NULL)
        a->refs_n++;
    lock_drop(&u->addresses_lock);
    return a;
}

void pool_addr_put(struct upstream *u, struct pool_addr **addr)
{
    struct pool_addr *a = *addr;

    *addr = NULL;
    if (a == NULL)
        return;
    must(a->upstream == u);
    lock_take(&u->addresses_lock);
    must(a->refs_n > 0);
    if (--a->refs_n > 0) {
        a = NULL;
    } else if (address_unused(u, a)) {
        HASH_DEL(u->addresses, a);
    } else {
        DL_APPEND(u->addresses_left, a);
        a = NULL;
    }
    lock_drop(&u->addresses_lock);
    free(a);
}

void address_sweep(struct upstream *u)
{
    struct pool_addr *a, *next, *unused = NULL;

    lock_take(&u->addresses_lock);
    DL_FOREACH_SAFE(u->addresses_left, a, next)
    {
        if (!address_unused(u, a))
            continue;
        DL_DELETE(u->addresses_left, a);
        HASH_DEL(u->addresses, a);
        DL_APPEND(unused, a);
    }
    lock_drop(&u->addresses_lock);
    DL_FOREACH_SAFE(unused, a, next)
    free(a);
}

void address_free_all(struct upstream *u)
{
    struct pool_addr *a, *next;

    HASH_ITER(hh, u->addresses, a, next)
    {
        HASH_DEL(u->addresses, a);
        free(a);
    }
    u->addresses_left = NULL;
}
