/* Which class a client, and each of its transactions, belongs to, and what a class may have.
 *
 * A class_table is a plain value: config fills it, the snapshot owns it, and everybody reads it
 * without a lock. Classes are spoken of by their index, which never changes while the process runs
 * (class_table_align() keeps it over a reload), because leases are counted under it.
 */
#ifndef POOL_CLASS_H
#define POOL_CLASS_H

#include "breaker/base.h"
#include "pool/schedule.h"

enum {
    CLASS_NAME_BYTES = 32,     /* with its NUL; it stands in error texts and metric labels */
    CLASS_PATTERN_BYTES = 256, /* comma separated globs of one condition, with the NUL */
    CLASS_NETS_MAX = 8,        /* address ranges of one rule */
    CLASS_RULES_MAX = 64,      /* the operator's and the built-in ones */
    CLASS_PRIORITY_MAX = 100,
    CLASS_ADDRESS_BYTES = 16, /* IPv6; IPv4 uses the first four */
};

/* ---- what a class may have ----------------------------------------------------------------- */

/* "30%" or "8". Percent is of the upstream's budget, where one is set, and of each pool's size. */
struct class_share {
    uint32_t n;
    bool percent;
};
enum class_breaker { CLASS_BREAKER_OFF, CLASS_BREAKER_OBSERVE, CLASS_BREAKER_ENFORCE };
enum class_protect { CLASS_PROTECT_STRICT, CLASS_PROTECT_BALANCED, CLASS_PROTECT_LENIENT };
enum class_overload { /* bits of class_opts.on_overload */
                      CLASS_HOLD = BIT(0),
                      CLASS_PACE = BIT(1),
                      CLASS_CANCEL = BIT(2),
                      CLASS_TERMINATE = BIT(3),
};
enum class_route {
    CLASS_ROUTE_DATABASE, /* wherever target_session_attrs of the database sends its clients */
    CLASS_ROUTE_REPLICA,  /* to a standby, where the database has several hosts */
};
enum class_route_fallback { CLASS_FALLBACK_NONE, CLASS_FALLBACK_PRIMARY };
/* What becomes of a statement whose client has gone. One that writes is finished in any case. */
enum class_orphan { CLASS_ORPHAN_CANCEL, CLASS_ORPHAN_FINISH };
enum class_inversion { CLASS_INVERSION_ALERT, CLASS_INVERSION_UNPACE, CLASS_INVERSION_CANCEL };

/* Outside its hours: one connection, for what cannot wait; or nobody new. */
enum class_outside { CLASS_OUTSIDE_ONE, CLASS_OUTSIDE_REFUSE };

struct class_opts {
    char name[CLASS_NAME_BYTES];
    bool builtin;
    bool retired;      /* gone from the configuration: no rule leads here any more */
    uint32_t priority; /* 0: protected; a higher number is shed earlier and served later */
    uint32_t weight;   /* share among classes of one rank; >= 1 */
    struct class_share reserved; /* never lent while the scope has clients of the class */
    struct class_share max;      /* 100%: no limit of its own */
    uint32_t queue_limit_n;      /* waiters per upstream; >= 1 */
    uint64_t queue_deadline_us;  /* 0: only the waiter's own deadline (query_wait_timeout) */
    uint64_t byte_rate;          /* static cap in bytes a second; 0: none */
    uint64_t min_rate;           /* bytes a second a shed class keeps (its trickle) */
    uint64_t slo_p99_us;         /* 0: relative signal only */
    enum class_breaker breaker;
    enum class_protect protect;
    uint32_t on_overload; /* bits of enum class_overload */
    enum class_inversion on_lock_inversion;
    enum class_orphan orphan;
    struct schedule schedule;    /* its hours */
    enum class_outside outside;  /* ... and what holds outside of them */
    bool has_finish;             /* its work should be done by ... */
    uint32_t finish_minute;      /* ... this time of the day ... */
    struct zone finish_zone;     /* ... here */
    uint32_t login_rate;         /* logins a second; 0: any number */
    char shed_sqlstate[6];       /* of a client refused at login; empty: 53300 */
    uint64_t demote_after_us;    /* a transaction longer than this; 0: never */
    uint64_t demote_after_bytes; /* ... or with a larger result; 0: never */
    uint32_t demote_after_rows;  /* ... or one of more rows; 0: never */
    bool demote_copy_out;        /* a transaction with COPY TO STDOUT */
    bool demote_cursor;          /* ... with DECLARE CURSOR */
    enum class_route route;      /* of its clients; a demoted transaction stays where it is */
    enum class_route_fallback route_fallback; /* where no replica will do */
    uint64_t max_lag_us;                      /* of a replica; 0: any */
    uint8_t demote_to_i; /* class it goes to for its rest; its own index: stays */
};

/* ---- who belongs where --------------------------------------------------------------------- */

struct class_net {
    uint8_t bytes[CLASS_ADDRESS_BYTES];
    uint8_t bytes_n; /* 4 or 16 */
    uint8_t prefix_bits;
};
enum class_yes_no { CLASS_ANY, CLASS_YES, CLASS_NO };

/* All conditions of a rule must hold; rules are tried in order and the first match decides.
 * A pattern is a comma separated list of globs (* and ?, letter case ignored) of which one must
 * match; "" asks for nothing. */
struct class_rule {
    uint8_t class_i;
    bool builtin;
    char application_name[CLASS_PATTERN_BYTES];
    char user[CLASS_PATTERN_BYTES];
    char database[CLASS_PATTERN_BYTES];
    struct class_net nets[CLASS_NETS_MAX]; /* one must hold the client; Unix sockets never match */
    uint32_t nets_n;                       /* 0: asks for nothing */
    enum class_yes_no unix_socket;
    bool peer_uid_set; /* Unix sockets only */
    uint32_t peer_uid;
    enum class_yes_no replication;
};

struct class_table {
    uint32_t class_n;
    struct class_opts at[CLASSES_MAX];
    uint32_t rule_n; /* the operator's before the built-in ones */
    struct class_rule rules[CLASS_RULES_MAX];
    uint8_t interactive_i, bulk_i, backup_i; /* the built-in classes; a client nobody claims is
                                              * interactive */
};

/* What is known of a client at login. Strings may be NULL. */
struct class_facts {
    const char *application_name, *user, *database;
    const uint8_t *address; /* bytes in network order; IPv4-mapped IPv6 counts as IPv4 */
    uint32_t address_bytes; /* 4, 16, or 0 on a Unix socket */
    bool is_unix;
    uint32_t peer_uid;
    bool replication;
};

/* The three built-in classes with the built-in rules. */
void class_table_init(struct class_table *table);
/* The index of the class of this name (letter case ignored), or -1. */
int class_find(const struct class_table *table, const char *name);
/* The class of this name, added with the defaults of a class below the protected ones if new. Its
 * fields are then the operator's to change. NULL with err: too many, or a bad name. */
struct class_opts *class_add(struct class_table *table, const char *name, struct err *err);
/* A rule of the operator's with no condition yet, after his earlier ones and before the built-in
 * ones. NULL with err: too many. */
struct class_rule *class_rule_add(struct class_table *table, uint8_t class_i, struct err *err);
/* "10.0.0.0/8", "::1", "192.168.1.7". */
MUST_USE bool class_net_parse(struct class_net *net, const char *text, struct err *err);
/* "30%" or "8". */
MUST_USE bool class_share_parse(struct class_share *share, const char *text, struct err *err);
/* Everything that must hold of a table before it is used. */
MUST_USE bool class_table_check(const struct class_table *table, struct err *err);
/* Gives the classes of `next` the indices they have in `prev`; classes that are gone stay as
 * retired. Before a reload takes effect. */
MUST_USE bool class_table_align(struct class_table *next, const struct class_table *prev,
                                struct err *err);

/* The class of a client. What it says of itself (application_name) only ever lowers it. */
uint8_t class_of(const struct class_table *table, const struct class_facts *facts);

/* The parallel job a client is one connection of, by the kind of tool, user, database and address:
 * the same number for all of them; 0: a client on its own (see pool/groups.h). */
uint64_t class_group_of(const struct class_facts *facts);

/* Why a transaction does not stay in its client's class. */
enum class_why {
    CLASS_WHY_COPY_OUT,
    CLASS_WHY_CURSOR,
    CLASS_WHY_TIME,
    CLASS_WHY_BYTES,
    CLASS_WHY_ROWS
};
/* The class a transaction of class_i goes to for this reason: class_i itself, or a lower one. */
uint8_t class_demoted(const struct class_table *table, uint8_t class_i, enum class_why why);
const char *class_why_name(enum class_why why);

/* n of `whole` places, at least one when the share is not zero; `whole` 0 means unlimited: then
 * a percentage has no meaning and UINT32_MAX comes back. */
uint32_t class_share_of(struct class_share share, uint32_t whole);

#endif
