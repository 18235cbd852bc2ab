#include "proxy/gather.h"

static void send_all(struct gather *g)
{
    struct iovec pieces[NET_PIECES_MAX];
    struct view own = buf_view(&g->own);
    for (int i = 0; i < g->n; i++) {
        const uint8_t *at = g->pieces[i].at ? g->pieces[i].at : own.at + g->pieces[i].own_at;
        pieces[i] =
            (struct iovec){.iov_base = (void *)(uintptr_t)at, .iov_len = g->pieces[i].bytes};
    }
    if (g->n && g->verdict != NET_ERROR) {
        enum net_verdict v = net_write(g->to, pieces, g->n);
        if (v != NET_OK)
            g->verdict = v;
    }
    g->n = 0;
    if (buf_used(&g->own))
        buf_free(&g->own);
}

static void add(struct gather *g, const uint8_t *at, uint32_t own_at, size_t n)
{
    must(g->n < NET_PIECES_MAX);
    g->pieces[g->n].at = at;
    g->pieces[g->n].own_at = own_at;
    g->pieces[g->n++].bytes = n;
    g->bytes_n += n;
    /* Now, not before the next one: that may be own bytes, which sending would free. */
    if (g->n == NET_PIECES_MAX)
        send_all(g);
}

void gather_pass(struct gather *g, const uint8_t *at, size_t n)
{
    if (!g->to || !n)
        return;
    if (g->n && g->pieces[g->n - 1].at &&
        g->pieces[g->n - 1].at + g->pieces[g->n - 1].bytes == at) {
        g->pieces[g->n - 1].bytes += n;
        g->bytes_n += n;
        return;
    }
    add(g, at, 0, n);
}

void gather_own(struct gather *g, uint32_t own_before)
{
    uint32_t n = buf_used(&g->own) - own_before;
    if (!g->to || !n)
        return;
    add(g, NULL, own_before, n);
}

enum net_verdict gather_end(struct gather *g)
{
    send_all(g);
    return g->verdict;
}
