/* What users ask for: the statements of the load, their mix, and how each protocol sends them.
 *
 * All are on pgbench's tables: a point read, a read of fifty rows, a sum over ten thousand (the
 * page that works for its answer), a small transaction that updates one row. Or one statement the
 * caller gives. */
#ifndef BENCH_MIX_H
#define BENCH_MIX_H

#include "breaker/base.h"

#include <libpq-fe.h>

enum mix_protocol { MIX_SIMPLE, MIX_EXTENDED, MIX_PREPARED };

enum mix_kind { MIX_POINT, MIX_RANGE, MIX_SUM, MIX_UPDATE, MIX_GIVEN, MIX_KINDS_N };
enum { MIX_CHOICES_N = MIX_GIVEN }; /* the kinds a share can be set for */

struct mix {
    uint32_t percent[MIX_CHOICES_N];
    const char *given; /* not NULL: every request is this statement */
    enum mix_protocol protocol;
    uint32_t accounts_n;
};

struct mix_request {
    enum mix_kind kind;
    char aid[12], delta[12];
};

/* Its names on one connection. */
struct mix_prepared {
    uint32_t statements; /* BIT(statement) of those that exist */
    bool preparing;      /* what was sent last was a Parse: the same step has to be sent again */
};

/* "40,20,30,10": point, range, sum, update. False: not that, or not 100 together. */
MUST_USE bool mix_parse_percent(struct mix *mix, const char *text);
MUST_USE bool mix_parse_protocol(struct mix *mix, const char *text);
void mix_choose(const struct mix *mix, uint64_t random, struct mix_request *out);
/* Commands, one after the other, that make up a request. */
uint32_t mix_steps_n(enum mix_kind kind);
/* Hands one step to libpq; false when the connection is of no use any more. */
MUST_USE bool mix_send(const struct mix *mix, const struct mix_request *request, uint32_t step_i,
                       struct mix_prepared *prepared, PGconn *pg);

#endif
