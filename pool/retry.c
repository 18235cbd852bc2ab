/* How long a refusal is held back. See retry.h. */
#include "pool/retry.h"

uint32_t retry_note(struct retry_table *t, uint64_t address, uint64_t now_us)
{
    uint64_t id = address == 0 ? 1 : address;
    struct retry_entry *e = NULL;

    for (uint32_t i = 0; i < RETRY_PROBES; i++) {
        struct retry_entry *at = &t->at[(id + i) % RETRY_ADDRESSES];
        if (at->address == id) {
            e = at;
            break;
        }
        if (e == NULL || at->last_us < e->last_us)
            e = at;
    }
    if (e->address != id || now_us >= e->last_us + RETRY_WINDOW_US)
        *e = (struct retry_entry){.address = id};
    e->last_us = now_us;
    return e->refused_n++;
}

uint64_t retry_delay_us(uint32_t refused_n, bool over_budget, uint64_t random)
{
    uint64_t us = RETRY_US_MIN + random % (RETRY_US_SPREAD + 1);
    uint32_t doublings_n = refused_n + over_budget;

    for (uint32_t i = 0; i < doublings_n && us < RETRY_US_MAX; i++)
        us *= 2;
    /* Also those at the limit come back one by one. */
    return us < RETRY_US_MAX ? us : RETRY_US_MAX - random % US_PER_S;
}

void retry_tick(struct retry_budget *b, uint64_t arrived_n, uint64_t refused_n, uint64_t now_us)
{
    must(arrived_n >= b->arrived_n && refused_n >= b->refused_n);
    /* A decaying sum: a tick's share is gone after a second or two. */
    b->arriving += (arrived_n - b->arrived_n) * 16 - b->arriving / 10;
    b->refusing += (refused_n - b->refused_n) * 16 - b->refusing / 10;
    b->arrived_n = arrived_n;
    b->refused_n = refused_n;
    if (b->refusing < 16 || b->refusing * RETRY_SHARE <= b->arriving)
        b->over_since_us = 0;
    else if (b->over_since_us == 0)
        b->over_since_us = now_us;
    b->over = b->over_since_us != 0 && now_us >= b->over_since_us + RETRY_BUDGET_US;
}
