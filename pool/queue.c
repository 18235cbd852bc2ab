/* Lanes, keys, turns. See queue.h. Nothing here knows limits: whether a lane can be served is the
 * dispatcher's question (pool/dispatch.c). */
#include "pool/queue.h"

#include <utlist.h>

static inline uint32_t key_of(const struct pool_waiter *w)
{
    return w->key_i % QUEUE_KEYS;
}

/* ---- joining and leaving ------------------------------------------------------------------- */

static void key_add(struct queue *q, struct pool_waiter *w)
{
    uint32_t key_i = key_of(w);
    struct queue_key *key = &q->keys[key_i];

    if (key->waiting_n++ == 0) {
        q->keys_mask |= 1ull << key_i;
        /* Whoever was away has saved up nothing. */
        if (key->leased_n == 0 && key->served_us < q->key_clock_us)
            key->served_us = q->key_clock_us;
    }
    DL_APPEND2(key->all, w, all_prev, all_next);
}

static void key_remove(struct queue *q, struct pool_waiter *w)
{
    uint32_t key_i = key_of(w);
    struct queue_key *key = &q->keys[key_i];

    must(key->waiting_n > 0);
    DL_DELETE2(key->all, w, all_prev, all_next);
    if (--key->waiting_n == 0)
        q->keys_mask &= ~(1ull << key_i);
}

void queue_join(struct queue *q, struct pool_waiter *w, uint64_t now_us)
{
    must(!w->member);
    if (q->waiting_n++ == 0)
        q->standing_since_us = now_us;
    key_add(q, w);
}

void queue_leave(struct queue *q, struct pool_waiter *w, bool served, uint64_t now_us)
{
    must(q->waiting_n > 0);
    if (w->member)
        DL_DELETE2(q->members, w, all_prev, all_next);
    else
        key_remove(q, w);
    w->all_prev = w->all_next = NULL;
    if (--q->waiting_n == 0)
        q->standing_since_us = now_us;
    if (served)
        q->served_n++;
    else
        q->gone_n++;
}

static void lane_key_add(struct lane *l, struct pool_waiter *w)
{
    uint32_t key_i = key_of(w);

    must((l->keys[key_i] == NULL) == ((l->keys_mask >> key_i & 1) == 0));
    DL_APPEND(l->keys[key_i], w);
    l->keys_mask |= 1ull << key_i;
}

static void lane_key_remove(struct lane *l, struct pool_waiter *w)
{
    uint32_t key_i = key_of(w);

    must(l->keys[key_i] != NULL);
    DL_DELETE(l->keys[key_i], w);
    if (l->keys[key_i] == NULL)
        l->keys_mask &= ~(1ull << key_i);
}

void queue_lane_add(struct lane *l, struct pool_waiter *w)
{
    lane_key_add(l, w);
    l->waiting_n++;
}

void queue_lane_remove(struct lane *l, struct pool_waiter *w)
{
    must(l->waiting_n > 0);
    if (w->member)
        DL_DELETE(l->members, w);
    else
        lane_key_remove(l, w);
    w->prev = w->next = NULL;
    l->waiting_n--;
}

void queue_promote(struct queue *q, struct lane *l, struct pool_waiter *w)
{
    must(!w->member);
    lane_key_remove(l, w);
    key_remove(q, w);
    w->member = true;
    DL_APPEND(l->members, w);
    DL_APPEND2(q->members, w, all_prev, all_next);
}

void queue_demote(struct queue *q, struct lane *l, struct pool_waiter *w)
{
    must(w->member);
    DL_DELETE(l->members, w);
    DL_DELETE2(q->members, w, all_prev, all_next);
    w->member = false;
    lane_key_add(l, w);
    key_add(q, w);
}

uint64_t queue_due(const struct class_opts *o, const struct pool_waiter *w, uint64_t now_us)
{
    if (o->queue_deadline_us == 0 || (w->deadline_us != 0 && w->deadline_rules))
        return w->deadline_us;
    uint64_t due_us = now_us + o->queue_deadline_us;
    return w->deadline_us != 0 && w->deadline_us < due_us ? w->deadline_us : due_us;
}

/* ---- places of lanes ----------------------------------------------------------------------- */

void queue_ready_add(struct queue *q, struct lane *l)
{
    int64_t most = (int64_t)q->lease_us;

    if (l->credit_us > most)
        l->credit_us = most;
    if (q->ready == NULL) {
        l->prev = l->next = l;
        q->ready = l;
        return;
    }
    l->prev = q->ready->prev;
    l->next = q->ready;
    l->prev->next = l->next->prev = l;
}

void queue_ready_remove(struct queue *q, struct lane *l)
{
    must(q->ready != NULL && l->prev != NULL);
    l->prev->next = l->next;
    l->next->prev = l->prev;
    if (q->ready == l)
        q->ready = l->next == l ? NULL : l->next;
    l->prev = l->next = NULL;
}

void queue_stalled_add(struct queue *q, struct lane *l)
{
    DL_APPEND(q->stalled, l);
}

void queue_stalled_remove(struct queue *q, struct lane *l)
{
    DL_DELETE(q->stalled, l);
    l->prev = l->next = NULL;
}

/* ---- turns --------------------------------------------------------------------------------- */

struct lane *queue_next_lane(struct queue *q)
{
    struct lane *l = q->ready;

    for (uint32_t tries = 0; l != NULL && l->credit_us < 0; tries++) {
        l->credit_us += (int64_t)q->lease_us + 1;
        q->ready = l->next;
        if (tries == QUEUE_LANE_TRIES || l->next == l)
            break;
        l = q->ready;
    }
    return q->ready;
}

/* More than half of what the class has leased. */
static bool key_hogs(const struct queue *q, const struct queue_key *key)
{
    return q->leased_n > 0 && (key->leased_n + 1) * 2 > q->leased_n + 1;
}

static uint32_t next_key(const struct queue *q, const struct lane *l)
{
    uint32_t best_i = QUEUE_KEYS;
    bool best_hogs = false;

    for (uint64_t mask = l->keys_mask; mask != 0; mask &= mask - 1) {
        uint32_t key_i = (uint32_t)__builtin_ctzll(mask);
        const struct queue_key *key = &q->keys[key_i];
        bool hogs = key_hogs(q, key);
        if (best_i == QUEUE_KEYS || (best_hogs && !hogs) ||
            (best_hogs == hogs && key->served_us < q->keys[best_i].served_us)) {
            best_i = key_i;
            best_hogs = hogs;
        }
    }
    must(best_i < QUEUE_KEYS);
    return best_i;
}

static uint64_t newcomers_since(const struct lane *l)
{
    uint64_t since_us = UINT64_MAX - QUEUE_MEMBER_US;

    for (uint64_t mask = l->keys_mask; mask != 0; mask &= mask - 1) {
        const struct pool_waiter *w = l->keys[__builtin_ctzll(mask)];
        if (w->since_us < since_us)
            since_us = w->since_us;
    }
    return since_us;
}

struct pool_waiter *queue_next(const struct queue *q, const struct lane *l, uint64_t workers)
{
    must(l->waiting_n > 0);
    if (l->members != NULL && l->members->since_us <= newcomers_since(l) + QUEUE_MEMBER_US)
        return l->members;
    struct pool_waiter *oldest = l->keys[next_key(q, l)];

    if (q->lifo)
        return oldest->prev; /* of the head of a utlist: the tail */
    struct pool_waiter *w = oldest;
    for (uint32_t tries = 0; tries < QUEUE_LOCAL_TRIES && w != NULL; tries++, w = w->next) {
        if (w->since_us > oldest->since_us + QUEUE_LOCAL_US)
            break;
        if ((workers >> w->worker & 1) != 0)
            return w;
    }
    return oldest;
}

uint64_t queue_lane_since(const struct lane *l)
{
    uint64_t since_us = newcomers_since(l);

    must(l->waiting_n > 0);
    return l->members != NULL && l->members->since_us < since_us ? l->members->since_us : since_us;
}

uint64_t queue_since(const struct queue *q)
{
    uint64_t since_us = q->members != NULL ? q->members->since_us : UINT64_MAX;

    for (uint64_t mask = q->keys_mask; mask != 0; mask &= mask - 1) {
        const struct pool_waiter *w = q->keys[__builtin_ctzll(mask)].all;
        if (w->since_us < since_us)
            since_us = w->since_us;
    }
    return since_us;
}

struct pool_waiter *queue_victim(const struct queue *q)
{
    const struct queue_key *longest = NULL;

    for (uint64_t mask = q->keys_mask; mask != 0; mask &= mask - 1) {
        const struct queue_key *key = &q->keys[__builtin_ctzll(mask)];
        if (longest == NULL || key->waiting_n > longest->waiting_n)
            longest = key;
    }
    if (longest != NULL)
        return longest->all->all_prev;
    return q->members != NULL ? q->members->all_prev : NULL;
}

struct pool_waiter *queue_expired(const struct queue *q, uint64_t now_us)
{
    uint64_t age_us = q->lease_us * QUEUE_EXPIRE_LEASES;

    if (!q->lifo || now_us < q->standing_since_us + QUEUE_EXPIRE_US)
        return NULL;
    if (age_us < QUEUE_EXPIRE_AGE_US_MIN)
        age_us = QUEUE_EXPIRE_AGE_US_MIN;
    for (uint64_t mask = q->keys_mask; mask != 0; mask &= mask - 1) {
        struct pool_waiter *w = q->keys[__builtin_ctzll(mask)].all;
        if (w->since_us + age_us < now_us)
            return w;
    }
    return NULL;
}

/* ---- what it costs ------------------------------------------------------------------------- */

uint32_t queue_charge(struct queue *q, struct lane *l, uint32_t key_i)
{
    struct queue_key *key = &q->keys[key_i % QUEUE_KEYS];
    uint32_t charge_us = q->lease_us > UINT32_MAX ? UINT32_MAX : (uint32_t)q->lease_us;

    if (key->served_us > q->key_clock_us)
        q->key_clock_us = key->served_us;
    key->served_us += charge_us;
    key->leased_n++;
    q->leased_n++;
    l->credit_us -= charge_us;
    return charge_us;
}

void queue_settle(struct queue *q, struct lane *l, uint32_t key_i, uint32_t charged_us,
                  uint64_t lease_us)
{
    struct queue_key *key = &q->keys[key_i % QUEUE_KEYS];

    must(key->leased_n > 0 && q->leased_n >= key->leased_n);
    key->leased_n--;
    q->leased_n--;
    if (lease_us > q->lease_us)
        q->lease_us += q->lease_us / 16 + 1;
    else
        q->lease_us -= q->lease_us / 16;
    key->served_us += lease_us;
    key->served_us -= charged_us < key->served_us ? charged_us : key->served_us;
    if (key->served_us > q->key_clock_us + QUEUE_KEY_DEBT_US)
        key->served_us = q->key_clock_us + QUEUE_KEY_DEBT_US;
    if (l == NULL)
        return;
    l->credit_us += (int64_t)charged_us - (int64_t)lease_us;
    int64_t least = -(int64_t)(q->lease_us + 1) * QUEUE_LANE_DEBT;
    if (l->credit_us < least)
        l->credit_us = least;
}

void queue_tick(struct queue *q, uint64_t serving_since_us, uint64_t now_us)
{
    uint64_t since_us = q->standing_since_us;

    if (since_us < serving_since_us)
        q->standing_since_us = since_us = serving_since_us;
    q->lifo = q->waiting_n > 0 && now_us >= since_us + QUEUE_LIFO_US &&
              q->gone_n >= QUEUE_GONE_MIN && q->gone_n >= q->served_n / QUEUE_GONE_SHARE;
    /* Half-life of about two seconds at ten ticks a second; whole numbers would stop above 0. */
    q->gone_n -= q->gone_n / 29;
    q->served_n -= q->served_n / 29;
}
