/* What a server owes: one entry per request that will be answered, in order.
 *
 * The client's requests pass (their replies go to it), ours are skipped (Parse we inject, settings
 * we apply), and some are answered by us when their turn comes (a Parse of what the server has
 * already). A ring that starts inside its server and grows on demand; when it is full, its client
 * is not read. */
#ifndef PROXY_OWED_H
#define PROXY_OWED_H

#include "breaker/base.h"

enum owed_kind {
    OWED_QUERY, /* anything, up to ReadyForQuery */
    OWED_SYNC,  /* ReadyForQuery */
    OWED_PARSE,
    OWED_BIND,
    OWED_DESCRIBE, /* [ParameterDescription] RowDescription | NoData */
    OWED_EXECUTE,  /* ... CommandComplete | EmptyQueryResponse | PortalSuspended */
    OWED_CLOSE,
    OWED_CALL, /* FunctionCall: FunctionCallResponse, ReadyForQuery */
};
enum owed_to { OWED_PASS, OWED_SKIP, OWED_FAKE };

struct owed_entry {
    enum owed_kind kind;
    enum owed_to to;
    uint64_t stmt_number; /* of a PARSE or BIND by name: prep_stmt.number; 0: none */
    uint64_t name_serial; /* of a PARSE: the client's name it registered; 0: none */
};

enum { OWED_INLINE = 8, OWED_MAX = 1 << 12 };

struct owed {
    struct owed_entry *grown; /* NULL: inline */
    uint32_t head, tail, cap; /* free-running; cap 0 stands for OWED_INLINE */
    struct owed_entry first[OWED_INLINE];
};

static inline uint32_t owed_n(const struct owed *o)
{
    return o->tail - o->head;
}
/* False: OWED_MAX, or out of memory. */
MUST_USE bool owed_push(struct owed *o, struct owed_entry entry);
/* The one answered next; NULL when nothing is owed. Valid until the next push. */
struct owed_entry *owed_head(struct owed *o);
/* The i-th from the head. */
struct owed_entry *owed_at(struct owed *o, uint32_t i);
/* Takes the head off. */
struct owed_entry owed_pop(struct owed *o);
/* Takes out every SYNC, and counts them: a server in COPY IN swallows them. */
uint32_t owed_drop_syncs(struct owed *o);
/* Forgets all and gives back the memory. */
void owed_clear(struct owed *o);

#endif
