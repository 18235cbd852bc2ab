/* Refusals that are told later. See hold.h. */
#include "proxy/hold.h"

#include <utlist.h>

#include "proxy/session.h"

/* Of a stream of refusals, one number each: good enough to spread them. */
static uint64_t some_random(const struct client *c, uint64_t now_us)
{
    uint64_t z = c->id * 0x9e3779b97f4a7c15ull ^ now_us;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t address_hash(const struct client *c)
{
    uint64_t h = 14695981039346656037ull; /* FNV-1a; all of a Unix socket's are one address */
    for (size_t i = 0; i < sizeof c->peer.address && !c->peer.is_unix; i++)
        h = (h ^ c->peer.address[i]) * 1099511628211ull;
    return h;
}

static bool is_held_back(const struct client *c)
{
    const struct class_table *classes = c->hub->config->classes;
    bool is_protected = classes->at[c->waiter.class_i].priority == 0;
    if (c->hostless) /* it has waited; and that its pool is up is no news to it */
        return false;
    if (is_protected && c->logged_in && !c->waiter.over_budget)
        return false;
    switch (c->waiter.refusal) {
    case POOL_REFUSED_QUEUE_FULL:
    case POOL_REFUSED_SHED:
    case POOL_REFUSED_EXPIRED:
    case POOL_REFUSED_DOWN:
    case POOL_REFUSED_ADDRESS:
        return true;
    case POOL_REFUSED_NOT:
    case POOL_REFUSED_DEADLINE:
    case POOL_REFUSED_GROUP:
    case POOL_REFUSED_CLOSED:
    case POOL_REFUSED_SHUTDOWN:
        break;
    }
    return false;
}

/* How often it was refused within a minute before. */
static uint32_t refused_before(struct client *c, uint64_t now_us)
{
    if (!c->logged_in)
        return retry_note(&c->hub->retries, address_hash(c), now_us);
    if (c->refused_n > 0 && now_us >= c->refused_us + RETRY_WINDOW_US)
        c->refused_n = 0;
    c->refused_us = now_us;
    return c->refused_n++;
}

bool hold_refusal(struct client *c)
{
    struct hub *h = c->hub;
    uint64_t now_us = hub_now(h);
    must(!c->held_until_us && !c->waits);
    if (!is_held_back(c) || h->held_n >= RETRY_HELD_MAX / (uint32_t)(h->proxy->worker_n - 1))
        return false;
    uint64_t us =
        retry_delay_us(refused_before(c, now_us), c->waiter.over_budget, some_random(c, now_us));
    c->held_until_us = now_us + us;
    DL_APPEND2(h->held, c, held_prev, held_next);
    h->held_n++;
    return true;
}

void hold_forget(struct client *c)
{
    if (!c->held_until_us)
        return;
    must(c->hub->held_n > 0);
    c->held_until_us = 0;
    c->hub->held_n--;
    DL_DELETE2(c->hub->held, c, held_prev, held_next);
}

void hold_sweep(struct hub *h, uint64_t now_us)
{
    struct client *c, *next;
    DL_FOREACH_SAFE2(h->held, c, next, held_next)
    {
        bool is_back = c->waiter.refusal == POOL_REFUSED_DOWN && !pool_is_down(c->route->pool);
        if (!is_back && now_us < c->held_until_us)
            continue;
        hold_forget(c);
        if (is_back)
            session_granted(c, NULL); /* it asks again */
        else
            session_turn_away(c);
    }
}
