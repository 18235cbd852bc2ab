/* Large results by large reads.
 *
 * PostgreSQL sends in pieces of 8 KiB, and a loop that is quicker than that is woken for each of
 * them. Once a statement's result has passed STREAM_AFTER_BYTES, the kernel is asked to wake us for
 * STREAM_LOW_WATER_BYTES and more (SO_RCVLOWAT), and a timer, which runs only while there is such a
 * server in the loop, fetches what is less: the end of a result comes at most STREAM_TICK_US late.
 * Only for TCP without TLS. */
#ifndef PROXY_STREAM_H
#define PROXY_STREAM_H

#include "proxy/server.h"

enum {
    STREAM_AFTER_BYTES = 1 << 20,
    STREAM_LOW_WATER_BYTES = 128 << 10, /* half a scratch: the other half arrives meanwhile */
    STREAM_TICK_US = 2 * US_PER_MS,
};

/* Asks for large reads from now on, if it is worth it; cheap to repeat. `fetch` is called with the
 * server at each tick. */
void stream_note(struct server *s, void (*fetch)(struct server *s));
/* The result is over, or the server leaves its loop. */
void stream_end(struct server *s);

#endif
