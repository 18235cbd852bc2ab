/* How long a refusal is held back before it is told.
 *
 * A client that is refused at once asks again at once: a thousand of them keep a proxy busy with
 * saying no. One that waits for its answer cannot hammer, and a held socket costs neither a server
 * nor a turn of the loop. The first refusal is held for a random time between 0.1 and 1 s, so that
 * clients that were refused together do not come back together; each further one within a minute
 * twice as long, up to 10 s.
 *
 * Further ones of whom? At login, of the client's address: a client has no other name there. Later,
 * of the connection: an application server has hundreds of them behind one address, and they did
 * nothing but work at the same time. For the same reason a client of a protected class is only held
 * once its class is over its budget: a connection of an application that is held back is one less
 * that works.
 *
 * The budget of a class: more than a tenth of its requests were refused, in ten seconds on end.
 * Then every delay is doubled.
 *
 * Who owns what: a table belongs to one loop, a budget to an upstream's class. No clock, no random
 * numbers of their own. */
#ifndef POOL_RETRY_H
#define POOL_RETRY_H

#include "breaker/base.h"

enum {
    RETRY_ADDRESSES = 512,           /* of one loop; the one refused longest ago is forgotten */
    RETRY_PROBES = 8,                /* places looked at for an address */
    RETRY_WINDOW_US = 60 * US_PER_S, /* without a refusal: forgiven */
    RETRY_US_MIN = 100 * US_PER_MS,  /* of the first one */
    RETRY_US_SPREAD = 900 * US_PER_MS,
    RETRY_US_MAX = 10 * US_PER_S,
    RETRY_HELD_MAX = 1000, /* refusals held in one process; further ones are told at once */
    RETRY_SHARE = 10,      /* one request in so many refused is too many ... */
    RETRY_BUDGET_US = 10 * US_PER_S, /* ... for so long */
};

struct retry_entry {
    uint64_t address; /* hash; 0: free */
    uint64_t last_us;
    uint32_t refused_n;
};
struct retry_table {
    struct retry_entry at[RETRY_ADDRESSES];
};
/* An address is refused now: how often that happened before, without a pause of a minute. */
uint32_t retry_note(struct retry_table *t, uint64_t address, uint64_t now_us);

/* How long to hold the next refusal of somebody who was refused refused_n times before. */
uint64_t retry_delay_us(uint32_t refused_n, bool over_budget, uint64_t random);

/* Of one class, once a tick: totals so far. */
struct retry_budget {
    uint64_t arrived_n, refused_n; /* at the last look */
    uint64_t arriving, refusing;   /* of about the last second, in 1/16 */
    uint64_t over_since_us;        /* 0: within its budget */
    bool over;
};
void retry_tick(struct retry_budget *b, uint64_t arrived_n, uint64_t refused_n, uint64_t now_us);

#endif
