/* The wheel of deadlines. See due.h. */
#include "pool/due.h"

#include <utlist.h>

void due_add(struct due *d, struct pool_waiter *w)
{
    if (w->due_us == 0)
        return;
    uint64_t slot_n = w->due_us / DUE_SLOT_US;
    if (slot_n < d->next_n)
        slot_n = d->next_n;
    if (slot_n >= d->next_n + DUE_SLOTS)
        slot_n = d->next_n + DUE_SLOTS - 1;
    w->due_slot_i = (uint16_t)(slot_n % DUE_SLOTS);
    DL_APPEND2(d->slots[w->due_slot_i], w, due_prev, due_next);
    d->waiters_n++;
}

void due_remove(struct due *d, struct pool_waiter *w)
{
    if (w->due_us == 0)
        return;
    must(d->waiters_n > 0);
    must(w->due_slot_i < DUE_SLOTS);
    DL_DELETE2(d->slots[w->due_slot_i], w, due_prev, due_next);
    w->due_prev = w->due_next = NULL;
    d->waiters_n--;
}

struct pool_waiter *due_first(struct due *d, uint64_t now_us)
{
    uint64_t now_n = now_us / DUE_SLOT_US;

    if (d->waiters_n == 0 && d->next_n < now_n)
        d->next_n = now_n;
    while (d->next_n < now_n) {
        struct pool_waiter *w = d->slots[d->next_n % DUE_SLOTS];
        if (w == NULL) {
            d->next_n++;
            continue;
        }
        if (w->due_us <= now_us)
            return w;
        /* Beyond the horizon when it joined. The window moves first, or it would come right back
         * here; the others of the slot follow it, to this turn's next slot where they are late. */
        struct pool_waiter *rest = w;
        d->slots[d->next_n % DUE_SLOTS] = NULL;
        d->next_n++;
        while (rest != NULL) {
            struct pool_waiter *next = rest->due_next;
            d->waiters_n--;
            due_add(d, rest);
            rest = next;
        }
    }
    return NULL;
}
