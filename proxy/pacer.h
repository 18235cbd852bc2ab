/* Running results of a limited class, held back by not reading them: who is, and who may read next.
 *
 *              its turn, or 2 s unread
 *     held -------------------------------> reads
 *      |  <------------------------------- its portion is used up
 *      +--> not paced any more: its class is not limited, its result is over, its client is gone,
 *           it is being cancelled, others wait for its locks, its statement_timeout comes near
 *
 * A statement comes here when its result has passed PACER_AFTER_BYTES (or is a COPY) and the bucket
 * of its lease's class (pool/pace.h) is limited: for all others it is a load or two in
 * pacer_limits(). From then on each read needs bytes granted before. A server that gets none is
 * held (server_hold): its socket fills, and PostgreSQL waits in ClientWrite, where it can be held
 * for hours. A timer of the loop, which runs only while it has such servers, deals portions to the
 * one whose turn it is for as long as there are tokens, and finds out who need not be paced any
 * more.
 *
 * Two loops whose timers beat alike would come to the bucket always in the same order, and the
 * second find it empty: so each loop's timer has a period of its own.
 *
 * Never paced: writers, because they hold locks; replication, because it must keep up; whatever is
 * being cancelled, because PostgreSQL looks for a cancel only where it does not wait for a socket.
 * BASE_BACKUP is paced: it holds no snapshot and no lock. */
#ifndef PROXY_PACER_H
#define PROXY_PACER_H

#include <stdatomic.h>

#include "proxy/server.h"

enum {
    PACER_AFTER_BYTES = 64 << 10, /* a result up to here is none worth holding back */
    PACER_PORTIONS_MAX = 16,      /* of one stream in one beat: 800 MB a second */
    PACER_STAGGER_US = 700,       /* between the periods of two loops' timers ... */
    PACER_BEATS_N = 8,            /* ... of which there are so many */
    PACER_TIMEOUT_SHARE = 75,     /* percent of a statement_timeout that may be spent on waiting */
};

/* Whether the server's result is to be paced as far as its class and size say; cheap. */
static inline bool pacer_limits(const struct server *s)
{
    const struct pool_server *lease = &s->lease;
    return s->pacing.pace ||
           ((atomic_load_explicit(&lease->stmt_bytes, memory_order_relaxed) >= PACER_AFTER_BYTES ||
             atomic_load_explicit(&lease->stmt_copy_out, memory_order_relaxed)) &&
            pace_limited(pool_pace(lease)));
}
/* How many of `room` bytes may be read now. 0: it is held from now on. Only for servers that
 * pacer_limits(). */
MUST_USE size_t pacer_ask(struct server *s, size_t room);
/* So many were. */
void pacer_read(struct server *s, size_t bytes_n);
/* Not paced from now on, until it asks again. */
void pacer_leave(struct server *s);
/* Its result is over, or its client gone: read at once. */
static inline void pacer_end(struct server *s)
{
    if (s->pacing.pace)
        pacer_leave(s);
    s->pacing.freed = false;
    if (s->tx == 'I')
        s->pacing.local_set = false;
}
/* This statement is not paced any more: it is being cancelled. */
void pacer_free(struct server *s);
/* Its statement has run for all of the statement_timeout it is known to have. */
bool pacer_out_of_time(const struct server *s);
/* A text that may set statement_timeout passes by on its way to the server. That a ROLLBACK takes
 * back what its transaction has set for the session is not followed. */
void pacer_note_set(struct server *s, struct view sql);

#endif
