/* What the statements behind fingerprints look like, for SHOW FINGERPRINTS and the log: the first
 * bytes of one of each, without its literals.
 *
 * A worker that has just computed a fingerprint from a text notes both. Mostly that is one load and
 * one comparison: it is known. Otherwise the text is copied, literals replaced by `?`, under a
 * mutex nobody waits for; not more than TEXTS_A_TICK in a tenth of a second over all loops, so a
 * flood of texts that are all different costs nothing worth naming.
 *
 * Strings, dollar quotes, numbers and comments never get in; where it cannot be told where a string
 * ends (a backslash before its quote means two things), the text ends. Names stay.
 */
#ifndef PROXY_TEXTS_H
#define PROXY_TEXTS_H

#include <stdatomic.h>

#include "breaker/base.h"

enum {
    TEXTS_N = 8192, /* one place for each fingerprint; the later one takes it */
    TEXTS_BYTES = 88,
    TEXTS_A_TICK = 20,
};

extern _Atomic uint64_t texts_known[TEXTS_N];

void texts_add(uint64_t fingerprint, const char *text, size_t n);
/* Any thread. */
static inline void texts_note(uint64_t fingerprint, const char *text, size_t n)
{
    if (atomic_load_explicit(&texts_known[fingerprint % TEXTS_N], memory_order_relaxed) !=
        fingerprint)
        texts_add(fingerprint, text, n);
}
/* The control loop, once a tick. */
void texts_tick(void);
/* "" where none is known. */
void texts_get(uint64_t fingerprint, char out[TEXTS_BYTES]);

#endif
