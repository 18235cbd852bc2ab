/* What the operator said of databases: which are paused or disabled, and since when their servers
 * are to be replaced. Set by the control loop (PAUSE, DISABLE, KILL, RECONNECT), asked by any loop
 * at a login, so that a pool made after a PAUSE does not slip through it.
 *
 * route_join() makes a pool visible first and asks then; the control loop sets the gate first and
 * walks the pools then: one of the two always sees the other. */
#ifndef PROXY_GATES_H
#define PROXY_GATES_H

#include "breaker/base.h"

struct gates;

struct gate {
    bool paused;           /* the pool must be in POOL_PAUSED */
    bool disabled;         /* nobody logs in: `database "X" is disabled` (57P03) */
    uint64_t reconnect_us; /* servers opened before are closed as they become free; 0: none are */
};

/* NULL: out of memory. */
struct gates *gates_new(void);
void gates_free(struct gates **g);
/* Any thread. `paused` also when everything is. */
struct gate gates_of(struct gates *g, const char *database);
/* The control loop: what was said of this database alone. */
struct gate gates_own(struct gates *g, const char *database);
/* False: out of memory; nothing changed. */
MUST_USE bool gates_set(struct gates *g, const char *database, const struct gate *gate);
void gates_pause_all(struct gates *g, bool paused);
bool gates_all_paused(struct gates *g);

#endif
