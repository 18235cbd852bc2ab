/* The probe of each upstream: one connection of our own, beside all pools, that asks how the server
 * is while clients are on it. What it finds goes to pool/facts.h, which draws the conclusions.
 *
 * Lives in the control loop, speaks through libpq, and never waits: names are resolved by dns.h,
 * sockets are watched by the loop, time-outs are ours (libpq has none without blocking).
 *
 *     OFF <-----------------------+-------- no clients for a minute, PAUSE, no way to log in
 *      | clients                  |
 *      v                          |
 *    WAITS --due--> RESOLVES --> LOGS_IN --> ASKS <--> IDLES
 *      ^               |            |          |         |
 *      +---------------+------------+----------+---------+  failed, lost, late: back-off with
 * jitter
 *
 * Who it logs in as: probe_user, or else whoever the pools of the server log in as, where his
 * password is known in plain text or none is asked for. It asks nothing that needs rights. A login
 * that is refused is said once, tried with the next user and database, and then left alone for five
 * minutes: it must never fill the server's log or lock an account. A borrowed user whose
 * connections are counted (CONNECTION LIMIT) is not used: his pools need them all.
 *
 * It has no place of a pool, so a full pool cannot starve it; the budget it finds is less by the
 * one connection it is. While the error breaker is open the probe's login is its question. */
#ifndef PROXY_PROBE_H
#define PROXY_PROBE_H

#include "pool/facts.h"
#include "proxy/hub.h"

struct probes;

/* NULL: out of memory. */
struct probes *probe_open(struct hub *control);
/* Says goodbye to the servers. */
void probe_close(struct probes **probes);
/* Every tick of the control loop, for each upstream: begins what is due, ends what is late. */
void probe_tick(struct probes *all, struct upstream *u, uint64_t now_us);
/* The process ends, or waits for servers to be free: no further connection. */
void probe_stop(struct probes *all);

struct probe_show {
    const char *state; /* one word */
    bool up;           /* logged in */
    const char *error; /* why it is off, or what failed last; "": all is well */
    const char *user, *database;
    uint64_t since_us;
    uint64_t asked_n, failed_n;
    uint32_t version; /* of the server, as in PQserverVersion(); 0: not known */
};
/* For SHOW; the texts live until the loop's next turn. False: nobody has looked yet. */
bool probe_show(const struct probes *all, const struct upstream *u, struct probe_show *out);

#endif
