/* What each class may lease. See rights.h. */
#include "pool/rights.h"

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* reserved: at least one place, never more than the class may have at all. */
static uint32_t floor_of(struct class_share reserved, uint32_t whole_n, uint32_t max_n)
{
    uint32_t n = whole_n == 0 ? 0 : least(class_share_of(reserved, whole_n), whole_n);

    return least(n == 0 ? 1 : n, max_n);
}

uint32_t rights_places(const struct upstream *u)
{
    return u->opts.budget_n > 0 ? u->opts.budget_n : u->facts.places_n;
}

uint32_t rights_shared(const struct upstream *u)
{
    uint32_t now_n = cap_max(&u->cap);

    if (u->opts.budget_n > 0 || u->facts.places_n == 0)
        return now_n;
    return least(now_n, u->facts.shared_n);
}

void rights_upstream(struct upstream *u, uint8_t class_i)
{
    must(lock_mine(&u->lock));
    must(class_i < u->class_n);
    const struct class_opts *o = &u->classes[class_i];
    const struct tier *tier = &u->tiers[class_i];
    uint32_t budget_n = rights_shared(u), max_n = CAPS_NO_LIMIT, reserved_n = 0;

    if (!o->max.percent)
        max_n = o->max.n;
    else if (o->max.n < 100 && budget_n > 0)
        max_n = class_share_of(o->max, budget_n);
    if (o->priority > 0 && budget_n > 0 && budget_n < cap_max(&u->cap))
        max_n = least(max_n, budget_n); /* the headroom is lent to the protected alone */
    if (tier->closed)
        max_n = least(max_n, 1);
    if (tier->clients_n > 0 || u->queues[class_i].waiting_n > 0)
        reserved_n = floor_of(o->reserved, budget_n, max_n);
    if (tier->limited)
        max_n = least(max_n, u->breaker.classes[tier->breaker_i].ask.limit_n);
    if ((o->priority > 0 && !u->passes_sheddable) || u->facts.stalled)
        max_n = 0;
    shares_set_class(&u->shares, class_i, reserved_n, max_n);
}

void rights_upstream_all(struct upstream *u)
{
    shares_set_whole(&u->shares, cap_max(&u->cap));
    for (uint32_t i = 0; i < u->class_n; i++)
        rights_upstream(u, (uint8_t)i);
}

/* The lower of what the operator allows at all times and what the breaker asks for now. */
void rights_rates(struct upstream *u)
{
    for (uint32_t i = 0; i < u->class_n; i++) {
        const struct class_opts *o = &u->classes[i];
        struct tier *tier = &u->tiers[i];
        uint64_t rate = o->byte_rate > 0 ? o->byte_rate : PACE_RATE_NONE;
        if (tier->breaker_i >= 0) {
            const struct breaker_class *b = &u->breaker.classes[tier->breaker_i];
            if (b->opts.paced && b->ask.rate_bytes_per_s < rate)
                rate = b->ask.rate_bytes_per_s;
        }
        pace_set_rate(&tier->pace, rate);
    }
}

uint32_t rights_pool_size(const struct pool *p)
{
    if (p->opts.size_n == 0)
        return UINT32_MAX;
    return p->opts.size_n + (p->reserve_open ? p->opts.reserve_n : 0);
}

void rights_pool(struct pool *p, uint8_t class_i)
{
    struct upstream *u = p->upstream;
    must(lock_mine(&u->lock));
    must(class_i < u->class_n);
    const struct class_opts *o = &u->classes[class_i];
    struct lane *l = p->lanes[class_i];
    uint32_t size_n = p->opts.size_n, max_n = CAPS_NO_LIMIT, reserved_n = 0;

    /* Replication pools are nobody's but backups' and subscribers': their places are the limit. */
    if (o->max.percent && o->max.n < 100 && size_n > 0 &&
        p->replication != POOL_REPLICATION_PHYSICAL)
        max_n = class_share_of(o->max, size_n);
    if (p->clients_n[class_i] > 0 || l->waiting_n > 0)
        reserved_n = floor_of(o->reserved, size_n, max_n);
    shares_set_class(&p->shares, class_i, reserved_n, max_n);
    shares_set_whole(&p->shares, size_n == 0 ? 0 : rights_pool_size(p));

    /* What g = 1 means to the breaker where the upstream's budget is not known. */
    uint32_t reference_n = 0;
    if (p->clients_n[class_i] > 0)
        reference_n = least(max_n, size_n);
    struct tier *tier = &u->tiers[class_i];
    must(tier->reference_n >= l->reference_n);
    tier->reference_n += reference_n - l->reference_n;
    l->reference_n = reference_n;
}

void rights_pool_all(struct pool *p)
{
    for (uint32_t i = 0; i < p->upstream->class_n; i++)
        rights_pool(p, (uint8_t)i);
}

uint32_t rights_connecting(const struct upstream *u)
{
    if (u->facts.stalled)
        return 0;
    return least(u->opts.connecting_n, error_breaker_connects_max(&u->error_breaker));
}
