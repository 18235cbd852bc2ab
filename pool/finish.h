/* Will it be done in time? Of a class that has to be (finish_by): a backup that is held back for
 * the users' sake every night is one that may not be there when it is needed.
 *
 * A run begins with the first lease of the class and ends when it has had none for a minute. How
 * much there is to do nobody tells us; but a night's backup is about as large as the last one. So a
 * run is late if, at the speed it has had so far, the rest of what the last run moved takes too
 * long; and one of which nothing is known, when its time has passed. Said once a run, with the
 * speed it would need: what to do about it is the operator's to decide. */
#ifndef POOL_FINISH_H
#define POOL_FINISH_H

#include "breaker/base.h"

enum {
    FINISH_GAP_US = 60 * US_PER_S,   /* without a lease: the run is over */
    FINISH_YOUNG_US = 60 * US_PER_S, /* its speed is not known before */
};

struct finish {
    bool runs, late;
    bool told; /* that it will be late: once a run, also where that is a close thing */
    uint64_t started_us, leased_us; /* when it had a lease last */
    uint64_t due_us;
    uint64_t bytes_from_n, bytes_n; /* counter at its start, moved since */
    uint64_t last_bytes_n;          /* moved by the run before; 0: not known */
    uint64_t needed_bytes_per_s;    /* to be done in time; 0: not known, or too late */
};
/* Once a tick. bytes_n: a counter that only grows; due_us: when the next run that starts now has to
 * be done. True: it has just become clear that it will not be. */
MUST_USE bool finish_tick(struct finish *f, uint32_t leased_n, uint64_t bytes_n, uint64_t now_us,
                          uint64_t due_us);
uint64_t finish_speed(const struct finish *f, uint64_t now_us);

#endif
