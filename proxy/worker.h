/* One event loop on one thread, and its mailbox: the only way another loop reaches what it owns.
 *
 * Worker 0 is the control loop (accept, console, status port, ticks, log); 1..N relay. A letter is
 * embedded in what it is about (or allocated with it), carries the function that opens it, and is
 * owned by the mailbox from worker_post() until that function is called in the receiving loop. */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>

#include "breaker/base.h"

struct ring;
struct worker;
struct letter {
    struct letter *next;
    void (*open)(struct worker *w, struct letter *l);
};

/* Something a loop does again and again while it runs. Its owner's until worker_tick_stop(). */
struct ticker {
    void (*tick)(void *arg);
    void *arg;
    uint64_t every_us;
    /* the loop's */
    struct event event;
    uint64_t next_us;
    struct ticker *prev, *next;
    bool runs;
};

enum {
    SCRATCH_BYTES = 1 << 18, /* one receive; large enough that COPY moves 256 KiB a system call */
    EDIT_BYTES = 1 << 12,    /* headers rewritten in one batch */
};

struct worker {
    /* read-only after boot */
    uint16_t index;
    struct event_base *base;
    pthread_t thread;
    bool wants_ring; /* set before worker_run(): wait by io_uring where it is to be had */
    /* the loop's own */
    uint64_t turn_us;  /* the clock as read in this turn; 0: not read yet */
    uint8_t *scratch;  /* what is being received; nobody keeps it beyond one callback */
    struct ring *ring; /* NULL: it waits by libevent */
    struct event mail_event;
    struct ticker timer, *tickers;
    void (*on_timer)(struct worker *w, uint64_t now_us);
    void *hub; /* what the planes keep per loop (struct hub, proxy/session.h) */
    struct letter *due_first, *due_last; /* deferred */
    struct event due_event;
    bool stopping;
    /* mail_lock guards all below */
    pthread_mutex_t mail_lock;
    struct letter *mail_first, *mail_last;
    int mail_fd;
};

enum { WORKER_TIMER_US = 100 * US_PER_MS }; /* coarse clock of a loop: sweeps of its own lists */

bool worker_init(struct worker *w, uint16_t index, struct err *err);
void worker_free(struct worker *w);
/* Runs until worker_stop(); on the calling thread. */
void worker_run(struct worker *w);
/* Asks the loop to end after its present turn. From the loop itself. */
void worker_stop(struct worker *w);
/* Any thread. One system call when the mailbox was empty, none otherwise. */
void worker_post(struct worker *to, struct letter *l);
/* From the loop itself: opened within this turn, after the present callback. No system call, and no
 * recursion: what a letter's function causes comes after it. */
void worker_defer(struct worker *w, struct letter *l);
/* Calls t->tick(t->arg) every t->every_us until it is stopped. False: out of memory. From the loop
 * itself. */
MUST_USE bool worker_tick_start(struct worker *w, struct ticker *t);
void worker_tick_stop(struct worker *w, struct ticker *t);
uint64_t clock_us(void);
/* Monotonic microseconds, read once a turn. */
static inline uint64_t worker_now(struct worker *w)
{
    if (!w->turn_us)
        w->turn_us = clock_us();
    return w->turn_us;
}

#endif
