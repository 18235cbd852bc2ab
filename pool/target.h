/* Which of a database's hosts a client belongs on: by what the database line asks for
 * (target_session_attrs), what the client's class asks for (route = replica), and what is known of
 * each host.
 *
 * The choice is pure. What is known of a host (its standing) is published with its upstream, so
 * that any loop reads it without a lock; who learns something new publishes it, and tells the loops
 * where it differs from what stood there. */
#ifndef POOL_TARGET_H
#define POOL_TARGET_H

#include "pool/class.h"
#include "pool/facts.h"
#include "pool/pool.h"

/* As in libpq. */
enum target_attrs {
    TARGET_UNSET, /* any; and several hosts of the line stay one pool, as in PgBouncer */
    TARGET_ANY,
    TARGET_READ_WRITE,
    TARGET_READ_ONLY,
    TARGET_PRIMARY,
    TARGET_STANDBY,
    TARGET_PREFER_STANDBY,
};
const char *target_attrs_name(enum target_attrs attrs);

struct target_host {
    enum upstream_role role;
    bool read_only;     /* a primary whose default_transaction_read_only is on */
    bool rival;         /* a primary beside another one that was there before, or not yet known not
                         * to be */
    bool down;          /* its error breaker is open, and nobody has reached it since */
    uint32_t late_mask; /* BIT(class_i): a standby that lags more than this class's max_lag */
};

struct target_want {
    enum target_attrs attrs;
    bool replica;  /* the class has route = replica */
    bool fallback; /* ... and route_fallback = primary */
    uint8_t class_i;
};

/* In the order of preference. */
enum target_fit { TARGET_UNFIT, TARGET_SECOND_CHOICE, TARGET_FIT };
enum target_fit target_fit(const struct target_want *want, const struct target_host *host);
/* Why a host is not what is wanted, in a few words; NULL: it is. */
const char *target_unfit_why(const struct target_want *want, const struct target_host *host);

enum { TARGET_NONE = -1 };
/* The best of the hosts: the present one where no other is better (TARGET_NONE: there is none),
 * else the first of the best from the turn_i-th on, round and round. TARGET_NONE: nobody fits. */
int target_choose(const struct target_want *want, const struct target_host *hosts, uint32_t hosts_n,
                  int present_i, uint32_t turn_i);

/* Whether a lag is too much, given that it was before: it is forgiven a fifth below the bound, so
 * that a standby at the bound is not chosen and dropped in turns. A bound of 0 is none, and a lag
 * that nobody could measure (UINT64_MAX) is not held against the host. */
bool target_late(bool was_late, uint64_t lag_us, uint64_t lag_max_us);

/* Whether connections of this parallel job (pool_waiter.group) hold servers of p. */
bool target_has_group(struct pool *p, uint64_t group);

/* The standing of an upstream: any thread. All that is known at first is nothing. */
void target_standing(const struct upstream *u, struct target_host *out);
/* What facts, breakers and the classes' bounds make of it now, published. True: it is other than it
 * was. Any thread. */
MUST_USE bool target_publish(struct upstream *u, const struct class_table *classes,
                             uint64_t now_us);
/* Whoever becomes a primary is a rival at first, until the control loop, which sees all hosts, has
 * said which of them is to be written to. True: it is other than it was. */
MUST_USE bool target_judge_rival(struct upstream *u, bool rival);

#endif
