/* The control plane: what the process as a whole is doing, and the ticks that keep it going.
 *
 * Lives in the control loop (hub 0) and is touched by nobody else. Every CONTROL_TICK_US: the pool
 * layer's tick and, every third time, its sweep, for each upstream; what they ask is carried out;
 * consoles that wait are looked after; breaker transitions, statistics and the log are written.
 * Signals, RELOAD, PAUSE and SHUTDOWN change its state; console, status port and signals are three
 * ways to ask for the same. */
#ifndef PROXY_CONTROL_H
#define PROXY_CONTROL_H

#include "breaker/base.h"

struct control;
struct listen;
struct proxy;

enum { CONTROL_TICK_US = 100 * US_PER_MS };

struct control_opts {
    struct proxy *proxy;      /* its hubs exist, none of them runs yet */
    struct listen **listen;   /* the caller's; SHUTDOWN WAIT_FOR_* closes it, and clears it */
    const char *const *files; /* of the command line, for RELOAD; they must live on */
    size_t files_n;
    bool quiet; /* of the command line: they outlive RELOAD */
    int verbose;
};

/* Opens the status port, takes over the signals, starts the tick in hub 0's loop, and becomes
 * proxy->control. When the process has to end it stops that loop (worker_stop()). */
MUST_USE bool control_open(struct control **out, const struct control_opts *opts, struct err *err);
/* When no loop runs any more. */
void control_close(struct control **k);

#endif
