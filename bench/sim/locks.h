/* Row and table locks of the modelled database: shared or exclusive, granted strictly in order, so
 * that who waits for an exclusive lock stands before all who come later, as in PostgreSQL. Held
 * until the statement (and what follows it in its transaction) ends. */
#ifndef SIM_LOCKS_H
#define SIM_LOCKS_H

#include "bench/sim/database.h"

enum { LOCKS_MAX = 16 };

struct lock_table *locks_new(void);
/* Nobody may hold one. */
void locks_free(struct lock_table **table);

/* The lock of st->lock_i. False: st waits; database_go_on() is called when it has it. */
MUST_USE bool locks_take(struct lock_table *t, struct statement *st);
/* Gives back what st holds; nothing if it holds none, or leaves the queue. */
void locks_release(struct lock_table *t, struct statement *st);
/* Leaves the queue. */
void locks_forget(struct lock_table *t, struct statement *st);

/* Calls back for each that waits with each that stands in its way. */
typedef void (*locks_edge_fn)(struct statement *waiter, struct statement *blocker, void *arg);
void locks_each_edge(struct lock_table *t, locks_edge_fn fn, void *arg);
uint32_t locks_waiting_n(const struct lock_table *t);

#endif
