/* How a proxy decides who gets a server: the real pool and breakers (policy_weir.c), or one of
 * those it has to beat (policy_queue.c). */
#ifndef SIM_POLICY_H
#define SIM_POLICY_H

#include "bench/sim/world.h"

struct policy {
    const char *name;
    const char *title;
    bool real;   /* the tree's own pool and breakers: goals are for it */
    bool strict; /* protect = strict; else balanced, the default */
    void (*open)(struct proxy *p);
    void (*close)(struct proxy *p);
    void (*ask)(struct proxy *p, struct tx *tx);
    void (*leave)(struct proxy *p, struct tx *tx); /* gave up waiting */
    /* The statement has ended; tx is NULL where its client has gone. */
    void (*ended)(struct proxy *p, struct call *c, enum statement_end how);
    /* A client gave up while its statement runs. */
    void (*orphaned)(struct proxy *p, struct call *c);
    void (*produced)(struct proxy *p, struct call *c);
    void (*tick)(struct proxy *p);
    void (*lost)(struct proxy *p);     /* the database has died */
    void (*restored)(struct proxy *p); /* ... and is back */
};

extern const struct policy policy_weir, policy_weir_strict, policy_fifo, policy_static,
    policy_naive, policy_gradient;
extern const struct policy *const policies[];
enum { POLICIES_N = 6 };

const struct policy *policy_find(const char *name);

#endif
