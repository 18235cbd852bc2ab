/* What the proxy wants to know of a statement without parsing it: one pass over its text.
 *
 * Two answers. A fingerprint that ignores white space, comments, the case of identifiers, and all
 * literals (numbers, strings, $1, lists of them of any length), so that the estimator can tell
 * queries apart. And flags from the first words of each statement and from a few identifiers
 * anywhere in it, so that the proxy knows when a server would keep something of this client's.
 *
 * In doubt a flag that means "dirty" is set: the price is one cleaning of a server. What a text
 * cannot tell (a function that calls set_config() inside) is not seen here.
 * standard_conforming_strings is taken to be on: with it off, a backslash may hide a quote from us
 * and the rest of a text be misread.
 */
#ifndef PROXY_SQL_H
#define PROXY_SQL_H

#include "breaker/base.h"

enum sql_flag {
    SQL_EMPTY = BIT(0),     /* no statement at all */
    SQL_MULTI = BIT(1),     /* more than one */
    SQL_TRUNCATED = BIT(2), /* only the beginning was seen; whatever follows is unknown */
    SQL_BEGIN = BIT(3),
    SQL_COMMIT = BIT(4),   /* COMMIT, END, PREPARE TRANSACTION */
    SQL_ROLLBACK = BIT(5), /* ROLLBACK, ABORT; not ROLLBACK TO */
    SQL_SET = BIT(6), /* SET or RESET, for the session, of a setting no ParameterStatus reports */
    SQL_SET_TRACKED = BIT(7), /* SET or RESET, for the session, of a reported one */
    SQL_SET_ROLE = BIT(8),    /* SET/RESET ROLE, SESSION AUTHORIZATION */
    SQL_SET_CONFIG = BIT(9),  /* set_config( anywhere */
    SQL_TEMP = BIT(10),       /* CREATE TEMP, SELECT INTO TEMP, pg_temp anywhere */
    SQL_PREPARE = BIT(11),    /* PREPARE name; not PREPARE TRANSACTION */
    SQL_EXECUTE = BIT(12),    /* EXECUTE name, also in EXPLAIN and CREATE TABLE AS */
    SQL_DEALLOCATE = BIT(13), /* DEALLOCATE name; sql_info.name has it */
    SQL_DEALLOCATE_ALL = BIT(14),
    SQL_LISTEN = BIT(15),
    SQL_UNLISTEN = BIT(16),
    SQL_ADVISORY_LOCK = BIT(17), /* pg_advisory_lock and its kind, not the *_xact_* ones */
    SQL_DISCARD = BIT(18),       /* DISCARD PLANS, SEQUENCES, TEMP */
    SQL_DISCARD_ALL = BIT(19),
    SQL_LOAD = BIT(20),
    SQL_CURSOR = BIT(21),      /* DECLARE ... CURSOR */
    SQL_CURSOR_HOLD = BIT(22), /* ... WITH HOLD: outlives the transaction */
    SQL_COPY_OUT = BIT(23),
    SQL_COPY_IN = BIT(24),
    SQL_READ = BIT(25),
    SQL_WRITE = BIT(26), /* changes data or schema, WITH ... INSERT included; in doubt too */
    SQL_DDL = BIT(27),   /* CREATE, ALTER, DROP, ...: cached plans may change their result type */
    SQL_UTILITY_LONG = BIT(28), /* VACUUM, ANALYZE, REINDEX, CLUSTER, CREATE INDEX, REFRESH */
    SQL_DO = BIT(29),           /* DO, CALL: anything may happen inside */
    SQL_SEQUENCE = BIT(30), /* nextval, currval, lastval, setval: the session remembers values */

    /* A server that ran one of these may keep something of its client's after the transaction. */
    SQL_LEAVES_STATE = SQL_SET | SQL_SET_ROLE | SQL_SET_CONFIG | SQL_TEMP | SQL_PREPARE |
                       SQL_LISTEN | SQL_ADVISORY_LOCK | SQL_LOAD | SQL_CURSOR_HOLD | SQL_DO |
                       SQL_TRUNCATED,
    /* One that ran none of these has changed nothing, and can be run again. */
    SQL_MAY_WRITE = SQL_WRITE | SQL_DDL | SQL_UTILITY_LONG | SQL_DO | SQL_COPY_IN | SQL_TRUNCATED,
};

enum { SQL_NAME_MAX = 63 }; /* NAMEDATALEN - 1 */

struct sql_info {
    uint64_t fingerprint; /* 0 only for an empty text */
    uint32_t flags;       /* of all statements together */
    uint32_t first;       /* flags of the first statement alone */
    uint32_t statements_n;
    char name[SQL_NAME_MAX +
              1]; /* of the last PREPARE, EXECUTE or DEALLOCATE, as PostgreSQL folds it */
};

/* Looks at n bytes; `truncated` when the statement goes on behind them. Never reads past n. */
void sql_scan(const char *text, size_t n, bool truncated, struct sql_info *out);

/* What a CommandComplete tag proves: the same flags. "SET" cannot tell a reported setting, SET
 * LOCAL or SET ROLE, so it yields SQL_SET; who has seen the text of the statement knows better. */
uint32_t sql_tag_flags(const char *tag);

#endif
