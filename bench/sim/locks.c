#include "bench/sim/locks.h"

#include <stdlib.h>
#include <utlist.h>

struct lock_of {
    struct statement *holders, *queue; /* both by lock_prev, lock_next */
};
struct lock_table {
    struct lock_of at[LOCKS_MAX];
    uint32_t waiting_n;
};

struct lock_table *locks_new(void)
{
    struct lock_table *t = calloc(1, sizeof(*t));

    must(t != NULL);
    return t;
}

void locks_free(struct lock_table **table)
{
    for (uint32_t i = 0; i < LOCKS_MAX; i++)
        must((*table)->at[i].holders == NULL && (*table)->at[i].queue == NULL);
    free(*table);
    *table = NULL;
}

static struct lock_of *lock_of(struct lock_table *t, const struct statement *st)
{
    must(st->lock_i > 0 && st->lock_i <= LOCKS_MAX);
    return &t->at[st->lock_i - 1];
}

/* All holders are shared, or there is one. */
static bool is_free_for(const struct lock_of *l, const struct statement *st)
{
    return l->holders == NULL || (!l->holders->lock_exclusive && !st->lock_exclusive);
}

static void hold(struct lock_of *l, struct statement *st)
{
    st->locked = true;
    DL_APPEND2(l->holders, st, lock_prev, lock_next);
}

bool locks_take(struct lock_table *t, struct statement *st)
{
    struct lock_of *l = lock_of(t, st);

    must(!st->locked && !st->waits_for_lock);
    if (l->queue == NULL && is_free_for(l, st)) {
        hold(l, st);
        return true;
    }
    st->waits_for_lock = true;
    t->waiting_n++;
    DL_APPEND2(l->queue, st, lock_prev, lock_next);
    return false;
}

static void serve_queue(struct lock_table *t, struct lock_of *l)
{
    while (l->queue != NULL && is_free_for(l, l->queue)) {
        struct statement *st = l->queue;
        DL_DELETE2(l->queue, st, lock_prev, lock_next);
        st->waits_for_lock = false;
        t->waiting_n--;
        hold(l, st);
        database_go_on(st);
    }
}

void locks_forget(struct lock_table *t, struct statement *st)
{
    struct lock_of *l = lock_of(t, st);

    must(st->waits_for_lock);
    DL_DELETE2(l->queue, st, lock_prev, lock_next);
    st->waits_for_lock = false;
    t->waiting_n--;
    serve_queue(t, l);
}

void locks_release(struct lock_table *t, struct statement *st)
{
    if (st->waits_for_lock) {
        locks_forget(t, st);
        return;
    }
    if (!st->locked)
        return;
    struct lock_of *l = lock_of(t, st);
    DL_DELETE2(l->holders, st, lock_prev, lock_next);
    st->locked = false;
    serve_queue(t, l);
}

void locks_each_edge(struct lock_table *t, locks_edge_fn fn, void *arg)
{
    struct statement *waiter, *other;

    for (uint32_t i = 0; i < LOCKS_MAX; i++)
        DL_FOREACH2(t->at[i].queue, waiter, lock_next)
        {
            DL_FOREACH2(t->at[i].holders, other, lock_next)
            {
                fn(waiter, other, arg);
            }
            if (waiter != t->at[i].queue)
                fn(waiter, waiter->lock_prev, arg);
        }
}

uint32_t locks_waiting_n(const struct lock_table *t)
{
    return t->waiting_n;
}
