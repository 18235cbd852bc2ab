/* A world for the pool to live in: loops, clients, servers, mail between loops, and a clock, all
 * out of one seed. The pool is the real one; everything the proxy would do is done here, at random.
 *
 * Each loop carries out what concerns it at once and sends the rest by mail, which arrives after a
 * random delay and in any order. Servers are refused, die idle, leased, told to close, and on the
 * way between two loops. After each event check.c looks at everything.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdio.h>

#include "pool/state.h"

enum {
    SIM_WORKERS_MAX = 4,
    SIM_UPSTREAMS_MAX = 2,
    SIM_POOLS_MAX = 8,
    SIM_CLIENTS_MAX = 160,
    SIM_SERVERS_MAX = 2048,
    CULL_EVENTS = 23, /* running statements are cancelled after so many events */
    SIM_LETTERS_MAX = 2048,
    SIM_ADDRESSES = 4,
    SIM_JOBS_MAX = 3,
};

enum sim_client_state {
    SIM_CLIENT_OUT,     /* not logged in */
    SIM_CLIENT_IDLE,    /* between transactions */
    SIM_CLIENT_WAITING, /* in the queue, or its answer is in the mail */
    SIM_CLIENT_HOLDING, /* has a server */
};

/* A parallel dump: its leader first, then the others; each keeps its server until all have one. */
enum sim_job_state {
    SIM_JOB_FORMS,
    SIM_JOB_ENDS, /* complete, or one of it was lost: all give back what they have */
};
struct sim_job {
    enum sim_job_state state;
    uint32_t pool_i, first_i, client_n; /* its clients; the first one leads */
    uint64_t forms_us;                  /* since its leader has a server; 0: it has none */
    uint64_t waits_us; /* all of it have asked, and not all have one, since; 0: not so */
};

struct sim_server {
    struct pool_server s; /* first: the pool's pointer is ours */
    bool used, dead, in_mail;
    bool stale; /* was there at a RECONNECT: must not be given to anybody again */
    struct sim_client *holder;
};

struct sim_client {
    struct pool_waiter w;
    enum sim_client_state state;
    bool gone; /* has left while its answer was in the mail */
    uint16_t worker;
    uint8_t class_i;
    uint32_t pool_i, address_i;
    struct sim_job *job; /* or NULL */
    struct pool_addr *addr;
    struct sim_server *server;
    uint64_t asked_us;
};

enum sim_mail { SIM_MAIL_GRANT, SIM_MAIL_GRANTED, SIM_MAIL_REFUSE, SIM_MAIL_OPEN, SIM_MAIL_CLOSE };
struct sim_letter {
    enum sim_mail kind;
    uint64_t due_us;
    uint16_t worker;
    struct sim_client *client;
    struct sim_server *server;
    struct pool *pool;
    uint64_t epoch_n; /* OPEN: of the pool when it was asked for */
};

/* How rough this world is. */
struct sim_climate {
    uint32_t gap_us;     /* mean time between events */
    uint32_t mail_us;    /* mean delay of a letter */
    uint32_t login_us;   /* mean time of opening a server */
    uint32_t lease_us;   /* mean lease */
    uint32_t fail_pct;   /* openings that fail in good times */
    uint32_t death_pct;  /* of events: a server dies */
    uint32_t leave_pct;  /* a waiter leaves */
    uint32_t reload_pct; /* limits change, pools are paused, killed ... */
    uint32_t outage_pct; /* an outage begins or ends */
    bool patient;        /* nobody has a deadline of his own */
    bool jobs;           /* steady, parallel jobs, and room for them: each has to become whole */
    bool steady;         /* nothing fails and nobody leaves: then famine has a bound */
};

struct sim_totals {
    uint64_t events_n, grants_n, moved_n, opened_n, failed_n, closed_n, deaths_n, shells_n, left_n,
        late_mail_n, demoted_n, evicted_n, parked_n, more_n, reloads_n, outages_n, expired_n,
        floors_n, held_n, probes_n, steady_n, jobs_n, jobs_broken_n, culled_n;
    uint64_t job_us_max;
    uint64_t refused_n[POOL_REFUSALS_N];
    uint64_t wait_us_max;
};

struct world {
    uint64_t seed, random, now_us, event_n;
    const char *event; /* what is going on, for the message of a failure */
    bool verbose, draining, outage[SIM_UPSTREAMS_MAX];
    struct sim_climate climate;
    struct class_table classes;
    struct pool_registry *registry;
    uint16_t worker_n, worker_first_i;
    uint32_t upstream_n, pool_n, client_n, letter_n, lease_n, job_n;
    struct sim_job jobs[SIM_JOBS_MAX];
    uint32_t servers_n; /* slots ever used */
    struct upstream *upstreams[SIM_UPSTREAMS_MAX];
    uint64_t swept_us;
    const struct upstream *ticked; /* just now */
    bool stale[SIM_UPSTREAMS_MAX]; /* changed by a call that leaves the rest to the next tick */
    struct pool *pools[SIM_POOLS_MAX];
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_server servers[SIM_SERVERS_MAX];
    struct sim_letter letters[SIM_LETTERS_MAX];
    uint64_t famine_us[SIM_POOLS_MAX][CLASSES_MAX]; /* steady: waits with nothing since; 0: no */
    /* before the call, for check.c */
    uint32_t leased_before[SIM_UPSTREAMS_MAX][CLASSES_MAX];
    uint32_t pool_leased_before[SIM_POOLS_MAX][CLASSES_MAX];
    bool demoting, granting;
    uint32_t opened_in_call_n;
    struct sim_totals totals;
};

/* Builds a world, lives events_n events in it, lets it come to rest, and takes it down. A broken
 * promise ends the process with the seed on stderr. */
void world_run(struct world *w, uint64_t seed, uint32_t events_n);

uint32_t world_random(struct world *w, uint32_t below);
bool world_chance(struct world *w, uint32_t pct);
/* Mostly near the mean, sometimes far beyond it. */
uint64_t world_some_us(struct world *w, uint32_t mean_us);
_Noreturn void world_fail(const struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
uint32_t world_pool_i(const struct world *w, const struct pool *p);
int world_upstream_i(const struct world *w, const struct upstream *u);

#endif
