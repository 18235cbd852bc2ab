/* The pieces of one send: runs of what was received, and bytes of our own between them.
 *
 * Neighbouring runs become one piece, so that a batch nobody had to touch is one send() of the
 * receive buffer. Our own bytes stand in `own`, by offset, because it may move while it grows. */
#ifndef PROXY_GATHER_H
#define PROXY_GATHER_H

#include "proxy/buf.h"
#include "proxy/net.h"

enum { GATHER_OWN_BYTES_MAX = 4 << 20 }; /* a Parse of the largest kept statement, and more */

struct gather {
    struct conn *to;          /* NULL: everything is dropped */
    enum net_verdict verdict; /* the worst so far: NET_OK, NET_AGAIN, NET_ERROR */
    uint64_t bytes_n;
    struct buf own;
    int n;
    struct {
        const uint8_t *at; /* NULL: in `own` */
        uint32_t own_at;
        size_t bytes;
    } pieces[NET_PIECES_MAX];
};

static inline void gather_begin(struct gather *g, struct conn *to)
{
    g->to = to;
    g->verdict = NET_OK;
    g->bytes_n = 0;
    g->own = (struct buf){.max = GATHER_OWN_BYTES_MAX};
    g->n = 0;
}
/* Adds received bytes, which must stay until gather_end(). */
void gather_pass(struct gather *g, const uint8_t *at, size_t n);
/* Adds what was put into g->own since it held `own_before` bytes. */
void gather_own(struct gather *g, uint32_t own_before);
/* Sends the rest and frees. */
enum net_verdict gather_end(struct gather *g);

#endif
