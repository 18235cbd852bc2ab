/* One PostgreSQL instance (host:port) as the pools below it share it: its lock, its budget of
 * connections, its classes' counts, its queue, its estimator and breakers. Made and found through
 * pool/registry.h; the data path is in pool/pool.h; the struct itself is in pool/state.h.
 */
#ifndef POOL_UPSTREAM_H
#define POOL_UPSTREAM_H

#include "breaker/base.h"
#include "pool/class.h"

struct upstream;
struct pool_addr;

struct upstream_opts {
    uint32_t budget_n;       /* servers over all pools (max_connections less what others need);
                              * 0: what the probe finds, else no limit */
    uint32_t instances_n;    /* of us, before this server: they share what the probe finds; >= 1 */
    uint32_t connecting_n;   /* servers connecting or logging in at once; >= 1 */
    uint32_t address_max_n;  /* leases of one client address at once; 0: no limit */
    bool can_pace;           /* the proxy obeys the breaker's byte rates ... */
    bool can_cancel;         /* ... and its wish to cancel */
    uint64_t clean_probe_us; /* breaker_opts.clean_us; 0: off */
};
void upstream_opts_defaults(struct upstream_opts *opts);
MUST_USE bool upstream_opts_check(const struct upstream_opts *opts, struct err *err);

const char *upstream_host(const struct upstream *u);
uint16_t upstream_port(const struct upstream *u);

/* New limits after a reload, or from the probe. What is over a lowered limit drains by itself. */
void upstream_set_opts(struct upstream *u, const struct upstream_opts *opts);

/* Why clients of this class are held back or refused here, in words, with what the breakers know;
 * and when they should try again. Returns buf. */
const char *upstream_explain(struct upstream *u, uint8_t class_i, uint64_t now_us, char *buf,
                             size_t buf_bytes);
uint64_t upstream_retry_after_us(struct upstream *u, uint64_t now_us);

/* The breaker is open, and new clients of this class are turned away at login. Any thread. */
bool upstream_sheds_logins(const struct upstream *u, uint8_t class_i);

/* Cancel requests under way, over all loops: each costs PostgreSQL a process, and comes when it
 * has none to spare. False: as many as there may be; ask again later. */
enum { UPSTREAM_CANCELS_MAX = 8 };
MUST_USE bool upstream_cancel_begin(struct upstream *u);
void upstream_cancel_end(struct upstream *u);
bool upstream_cancels_full(const struct upstream *u);

/* What the clock on the wall says of each class. */
struct upstream_hours {
    uint32_t closed_mask;         /* outside its schedule */
    uint64_t due_us[CLASSES_MAX]; /* what starts now has to be done by then, in our time; 0: ever */
};
/* Control loop, once a second. Returns the classes (bits) of which it has just become clear that
 * they will not be done in time. */
MUST_USE uint32_t upstream_tell_hours(struct upstream *u, const struct upstream_hours *hours,
                                      uint64_t now_us);

/* The operator's hand on the latency breaker (console). Who waits is served by the next tick. */
void upstream_trip(struct upstream *u, uint8_t class_i, uint64_t now_us);
void upstream_release(struct upstream *u, uint64_t now_us);
void upstream_reset_baseline(struct upstream *u, uint64_t now_us);

/* What the estimator has learnt, as bytes: see estimator_save() and estimator_load(). */
MUST_USE size_t upstream_save_baseline(struct upstream *u, uint64_t now_us, uint8_t *buf,
                                       size_t buf_bytes);
MUST_USE bool upstream_load_baseline(struct upstream *u, uint64_t now_us, uint64_t away_us,
                                     const uint8_t *bytes, size_t bytes_n, struct err *err);

/* The leases of one client address on this upstream, counted while any of its sessions lives: get
 * at login, put at the end (clears the pointer). NULL when out of memory: then it is not counted.
 */
struct pool_addr *pool_addr_get(struct upstream *u, const uint8_t *bytes, uint32_t bytes_n);
void pool_addr_put(struct upstream *u, struct pool_addr **addr);

#endif
