/* Counted limits. See caps.h for what is counted, and by whom. */
#include "pool/caps.h"

bool cap_take(struct cap *c)
{
    uint32_t used = atomic_load_explicit(&c->used_n, memory_order_relaxed);

    do {
        uint32_t max = cap_max(c);
        if (max != 0 && used >= max)
            return false;
        must(used < UINT32_MAX);
    } while (!atomic_compare_exchange_weak_explicit(&c->used_n, &used, used + 1,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return true;
}

void cap_give(struct cap *c)
{
    uint32_t before = atomic_fetch_sub_explicit(&c->used_n, 1, memory_order_acq_rel);

    must(before > 0);
}

uint32_t caps_take(struct cap *const *caps, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!cap_take(caps[i])) {
            caps_give(caps, i);
            return i;
        }
    }
    return n;
}

void caps_give(struct cap *const *caps, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        cap_give(caps[i]);
}

bool cap_claim(struct cap *c, const void *who, uint64_t now_us)
{
    const void *claimant = atomic_load_explicit(&c->claimant, memory_order_relaxed);

    if (claimant != NULL && claimant != who &&
        now_us < atomic_load_explicit(&c->claim_until_us, memory_order_relaxed)) {
        atomic_store_explicit(&c->rival, who, memory_order_relaxed);
        return false;
    }
    atomic_store_explicit(&c->claimant, who, memory_order_relaxed);
    atomic_store_explicit(&c->claim_until_us, now_us + CAP_CLAIM_US, memory_order_relaxed);
    /* A place that is free and kept needs nobody to give one up. */
    atomic_store_explicit(&c->owed, !cap_has_room(c), memory_order_relaxed);
    return true;
}

void cap_unclaim(struct cap *c, const void *who)
{
    if (atomic_load_explicit(&c->claimant, memory_order_relaxed) != who)
        return;
    const void *rival = atomic_exchange_explicit(&c->rival, NULL, memory_order_relaxed);
    atomic_store_explicit(&c->claimant, rival, memory_order_relaxed);
}

bool cap_yield(struct cap *c, const void *who, uint64_t now_us)
{
    return cap_max(c) > 0 && cap_used(c) >= cap_max(c) && cap_kept(c, who, now_us) &&
           atomic_load_explicit(&c->owed, memory_order_relaxed) &&
           atomic_exchange_explicit(&c->owed, false, memory_order_relaxed);
}

static inline uint32_t kept(const struct shares_class *c)
{
    return c->leased_n > c->reserved_n ? c->leased_n : c->reserved_n;
}

void shares_set_whole(struct shares *s, uint32_t whole_n)
{
    s->whole_n = whole_n;
}

void shares_set_class(struct shares *s, uint8_t class_i, uint32_t reserved_n, uint32_t max_n)
{
    must(class_i < CLASSES_MAX);
    struct shares_class *c = &s->at[class_i];

    must(s->kept_n >= kept(c));
    s->kept_n -= kept(c);
    c->reserved_n = reserved_n;
    c->max_n = max_n;
    s->kept_n += kept(c);
}

bool shares_allow(const struct shares *s, uint8_t class_i, uint32_t coming_n)
{
    must(class_i < CLASSES_MAX);
    const struct shares_class *c = &s->at[class_i];
    uint64_t has = (uint64_t)c->leased_n + coming_n;

    if (has >= c->max_n)
        return false;
    if (s->whole_n == 0 || has < c->reserved_n)
        return true;
    return has + (s->kept_n - kept(c)) < s->whole_n;
}

bool shares_below_max(const struct shares *s, uint8_t class_i, uint32_t coming_n)
{
    must(class_i < CLASSES_MAX);
    const struct shares_class *c = &s->at[class_i];
    uint32_t still_n = c->still_n < c->leased_n ? c->still_n : c->leased_n;

    return (uint64_t)c->leased_n - still_n + coming_n < c->max_n;
}

bool shares_room(const struct shares *s, uint32_t coming_n)
{
    return s->whole_n == 0 || (uint64_t)s->leased_n + coming_n < s->whole_n;
}

bool shares_allow_member(const struct shares *s, uint8_t class_i, uint32_t coming_n)
{
    const struct shares_class *c = &s->at[class_i];
    uint64_t has = (uint64_t)c->leased_n + coming_n;

    if (!shares_below_max(s, class_i, coming_n) || !shares_room(s, coming_n))
        return false;
    return s->whole_n == 0 || has < c->reserved_n || has + (s->kept_n - kept(c)) < s->whole_n;
}

void shares_stir(struct shares *s, uint8_t class_i)
{
    must(class_i < CLASSES_MAX);
    s->at[class_i].still_n -= s->at[class_i].still_n > 0;
}

void shares_lease(struct shares *s, uint8_t class_i)
{
    must(class_i < CLASSES_MAX);
    struct shares_class *c = &s->at[class_i];

    s->kept_n -= kept(c);
    c->leased_n++;
    s->leased_n++;
    s->kept_n += kept(c);
}

void shares_unlease(struct shares *s, uint8_t class_i)
{
    must(class_i < CLASSES_MAX);
    struct shares_class *c = &s->at[class_i];

    must(c->leased_n > 0 && s->leased_n >= c->leased_n);
    s->kept_n -= kept(c);
    c->leased_n--;
    s->leased_n--;
    s->kept_n += kept(c);
}
