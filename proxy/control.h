/* The control plane: what the process as a whole is doing, and the ticks that keep it going.
 *
 * Lives in the control loop (hub 0) and is touched by nobody else. Every CONTROL_TICK_US: the pool
 * layer's tick and, every third time, its sweep, for each upstream; what they ask is carried out;
 * consoles that wait are looked after; breaker transitions, statistics and the log are written.
 * Console (admin.c), signals and the tick's own progress change its state:
 *
 *      RUNS --SHUTDOWN WAIT_FOR_CLIENTS, TERM--> WAITS_FOR_CLIENTS --the last one left--+
 *        |----SHUTDOWN WAIT_FOR_SERVERS, INT --> WAITS_FOR_SERVERS --all are free-------+--> ENDS
 *        +----SHUTDOWN, QUIT; or TERM, INT a second time -------------------------------+ */
#ifndef PROXY_CONTROL_H
#define PROXY_CONTROL_H

#include "config/table.h" /* before all that includes uthash */

#include "proxy/reload.h"
#include "proxy/samples.h"

struct baselines;
struct console;
struct control;
struct hosts;
struct listen;
struct status;

enum {
    CONTROL_TICK_US = 100 * US_PER_MS,
    CONTROL_ANSWER_US = 5 * US_PER_S, /* a loop that takes longer to open a letter is not healthy */
};

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
void control_close(struct control **control);

/* ---- for console and status port ------------------------------------------------------------- */

enum control_state {
    CONTROL_RUNS,
    CONTROL_WAITS_FOR_CLIENTS,
    CONTROL_WAITS_FOR_SERVERS,
    CONTROL_ENDS,
};

/* A letter to each loop, to see whether it still opens its mail. */
struct control_ping;
/* What was last logged of one upstream's breakers. */
struct control_watch;
/* proxy/probe.h */
struct probes;

struct control {
    struct proxy *proxy;
    struct hub *hub;
    struct reload reload;
    struct samples samples;
    struct console *consoles; /* list */
    struct status *status;
    enum control_state state;
    bool users_unread;    /* auth_file has changed, and cannot be read */
    bool suspended;       /* SUSPEND: paused, and nobody is accepted */
    uint32_t reconcile_n; /* ticks for which pools are compared with the gates again */
    uint64_t sampled_us;  /* start of the present stats_period */
    uint64_t ticks_n;
    struct event *tick;
    struct event *signals[6];
    struct control_ping *pings; /* one a loop */
    struct probes *probes;
    struct hosts *hosts;         /* hosts.h */
    struct baselines *baselines; /* NULL: out of memory at the start */
    struct control_watch *watches;
    size_t watches_n;
};

/* Begins the end, in one of the ways; a further call can only hasten it. */
void control_shut_down(struct control *k, enum control_state how);
/* All loops have opened their mail lately. */
bool control_is_alive(const struct control *k);
/* It takes clients: accepting, not paused, not on its way out. */
bool control_is_ready(const struct control *k);
/* All pools at this moment. The array is the caller's to free; NULL when there are none, or out of
 * memory. They stay until the next tick. */
struct pool **control_pools(struct control *k, size_t *n);
static inline uint64_t control_now(const struct control *k)
{
    return hub_now(k->hub);
}

#endif
