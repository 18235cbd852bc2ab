/* Pools as logins, reloads and the console see them; and the sweep. Not the data path: pool.c. */
#include <string.h>
#include <utlist.h>

#include "pool/address.h"
#include "pool/dispatch.h"
#include "pool/places.h"
#include "pool/pool.h"
#include "pool/rights.h"
#include "pool/state.h"

static struct turn turn_begin(struct upstream *u, uint64_t now_us, struct pool_actions *actions)
{
    actions->n = 0;
    actions->more = false;
    actions->upstream = u;
    lock_take(&u->lock);
    return (struct turn){.u = u, .now_us = now_us, .actions = actions};
}

/* Something about p has changed: chores first, then whoever may be served now. */
static void turn_end_changed(struct turn *t, struct pool *p)
{
    dispatch_chores(t);
    places_wake_pool(p);
    dispatch_run(t, p);
    lock_drop(&t->u->lock);
}

void pool_opts_defaults(struct pool_opts *opts)
{
    *opts = (struct pool_opts){
        .size_n = 20,
        .reserve_after_us = 5ull * US_PER_S,
        .lifetime_us = 3600ull * US_PER_S,
        .idle_us = 600ull * US_PER_S,
        .login_retry_us = 15ull * US_PER_S,
    };
}

bool pool_opts_check(const struct pool_opts *opts, struct err *err)
{
    if (opts->size_n > 0 && opts->min_n > opts->size_n)
        return err_set(err, "F0000", "min_pool_size is %u, more than pool_size %u", opts->min_n,
                       opts->size_n);
    return true;
}

/* ---- clients ------------------------------------------------------------------------------- */

static void count_client(struct pool *p, uint8_t class_i, int by)
{
    struct upstream *u = p->upstream;
    uint32_t *here_n = &p->clients_n[class_i], *all_n = &u->tiers[class_i].clients_n;

    must(class_i < u->class_n);
    must(by > 0 || (*here_n > 0 && *all_n > 0 && p->clients_all_n > 0));
    *here_n += (uint32_t)by;
    *all_n += (uint32_t)by;
    p->clients_all_n += (uint32_t)by;
    /* Only the first and the last of a class change what it is entitled to. */
    if (*here_n == (by > 0 ? 1 : 0))
        rights_pool(p, class_i);
    if (*all_n == (by > 0 ? 1 : 0))
        rights_upstream(u, class_i);
}

void pool_client_add(struct pool *p, uint8_t class_i)
{
    lock_take(&p->upstream->lock);
    count_client(p, class_i, 1);
    lock_drop(&p->upstream->lock);
}

void pool_client_remove(struct pool *p, uint8_t class_i, uint64_t now_us,
                        struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    count_client(p, class_i, -1);
    p->used_us = now_us;
    places_wake_pool(p);
    dispatch_run(&t, p);
    lock_drop(&t.u->lock);
}

void pool_client_moved(struct pool *p, uint8_t from_i, uint8_t to_i, uint64_t now_us,
                       struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    if (from_i != to_i) {
        count_client(p, to_i, 1);
        count_client(p, from_i, -1);
        places_wake_pool(p);
        dispatch_run(&t, p);
    }
    lock_drop(&t.u->lock);
}

/* ---- reload, console ----------------------------------------------------------------------- */

void pool_set_opts(struct pool *p, const struct pool_opts *opts, uint64_t now_us,
                   struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    p->opts = *opts;
    atomic_store_explicit(&p->caps[SCOPE_DATABASE]->max_n, opts->max_db_n, memory_order_relaxed);
    atomic_store_explicit(&p->caps[SCOPE_USER]->max_n, opts->max_user_n, memory_order_relaxed);
    if (opts->reserve_n == 0)
        p->reserve_open = false;
    places_idle_relist(p);
    rights_pool_all(p);
    dispatch_add_chore(p, POOL_CHORE_CLOSE);
    turn_end_changed(&t, p);
}

void pool_set_run(struct pool *p, enum pool_run run, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    p->run = run;
    if (run != POOL_RUNS)
        dispatch_add_chore(p, POOL_CHORE_CLOSE);
    if (run == POOL_DISABLED || run == POOL_KILLED)
        dispatch_add_chore(p, POOL_CHORE_REFUSE);
    turn_end_changed(&t, p);
}

bool pool_drained(struct pool *p)
{
    lock_take(&p->upstream->lock);
    bool drained = p->shares.leased_n == 0 && p->opening_n == 0;
    lock_drop(&p->upstream->lock);
    return drained;
}

void pool_mark_dirty(struct pool *p, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    p->epoch_n++;
    p->opening_old_n = p->opening_n;
    dispatch_add_chore(p, POOL_CHORE_CLOSE);
    turn_end_changed(&t, p);
}

struct upstream *pool_upstream(const struct pool *p)
{
    return p->upstream;
}

const char *pool_database(const struct pool *p)
{
    return p->database;
}

const char *pool_user(const struct pool *p)
{
    return p->user;
}

void *pool_owner(struct pool *p)
{
    return atomic_load_explicit(&p->owner, memory_order_acquire);
}

void *pool_set_owner(struct pool *p, void *owner)
{
    void *before = NULL;
    bool set = atomic_compare_exchange_strong_explicit(&p->owner, &before, owner,
                                                       memory_order_acq_rel, memory_order_acquire);

    return set ? owner : before;
}

bool pool_is_down(struct pool *p)
{
    lock_take(&p->upstream->lock);
    bool is_down = p->down || !p->upstream->serving;
    lock_drop(&p->upstream->lock);
    return is_down;
}

void pool_down_reason(struct pool *p, struct err *out)
{
    lock_take(&p->upstream->lock);
    *out = p->failed;
    lock_drop(&p->upstream->lock);
}

/* ---- control loop -------------------------------------------------------------------------- */

void pool_dispatch(struct upstream *u, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(u, now_us, actions);

    dispatch_chores(&t);
    dispatch_run(&t, NULL);
    dispatch_wake_all(&t);
    lock_drop(&u->lock);
}

/* The longest idle of each loop stand last. */
static void close_idle(struct turn *t, struct pool *p)
{
    for (uint64_t mask = p->idle_mask; mask != 0; mask &= mask - 1) {
        struct idle_list *list = &p->idle[__builtin_ctzll(mask)];
        while (list->last != NULL && p->server_n - p->closing_n > p->opts.min_n &&
               t->now_us >= list->last->idle_since_us + p->opts.idle_us && turn_has_room(t)) {
            struct pool_server *s = list->last;
            places_idle_remove(p, s);
            places_close(t, s, -1);
        }
    }
}

static void open_least(struct turn *t, struct pool *p)
{
    struct upstream *u = t->u;
    uint32_t least_n = p->opts.min_n;

    if (p->opts.size_n > 0 && least_n > p->opts.size_n)
        least_n = p->opts.size_n;
    if (p->run != POOL_RUNS || (p->clients_all_n == 0 && !p->opts.min_always) ||
        (p->down && t->now_us < p->retry_at_us))
        return;
    while (p->server_n - p->closing_n < least_n && p->server_n < rights_pool_size(p) &&
           u->connecting_n < rights_connecting(u) && turn_has_room(t) &&
           places_take(t, p) == POOL_SCOPES) {
        if (++u->open_worker >= u->worker_n || u->open_worker < u->worker_first_i)
            u->open_worker = u->worker_first_i;
        places_open(t, p, CLASSES_MAX, u->open_worker);
    }
}

/* The one that is longest idle among the first loop's. */
static void yield_idle(struct turn *t, struct pool *p)
{
    if (!turn_has_room(t) || !dispatch_claimed_elsewhere(t, p))
        return;
    struct pool_server *s = p->idle[__builtin_ctzll(p->idle_mask)].last;
    places_idle_remove(p, s);
    places_close(t, s, -1);
}

static bool worn_out(const struct pool *p)
{
    return p->idle_n > 0 && (p->opts.lifetime_us > 0 || p->run != POOL_RUNS);
}

void pool_sweep(struct upstream *u, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(u, now_us, actions);
    struct pool *p = u->sweep_at != NULL ? u->sweep_at : u->pools;
    uint32_t looked_n = 0;

    for (; p != NULL && looked_n < POOL_SWEEP_MAX && turn_has_room(&t); looked_n++) {
        if (p->opts.idle_us > 0 && p->idle_n > 0)
            close_idle(&t, p);
        if (p->idle_n > 0)
            yield_idle(&t, p);
        if (worn_out(p))
            dispatch_add_chore(p, POOL_CHORE_CLOSE);
        if (p->opts.min_n > 0)
            open_least(&t, p);
        p = p->next;
    }
    u->sweep_at = p;
    dispatch_chores(&t);
    dispatch_run(&t, NULL);
    lock_drop(&u->lock);
    address_sweep(u);
}
