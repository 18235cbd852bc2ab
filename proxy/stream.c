#include "proxy/stream.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <utlist.h>

static void set_low_water(const struct server *s, int bytes)
{
    /* when it fails we are woken more often, and nothing else */
    if (setsockopt(s->net.fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) < 0)
        return;
}

static void tick(void *arg)
{
    struct hub *h = arg;
    struct server *s, *next;
    DL_FOREACH_SAFE2(h->streams, s, next, stream_next)
    {
        if (s->net.armed & EV_READ) /* else its client does not keep up */
            h->stream_fetch(s);
    }
}

void stream_note(struct server *s, void (*fetch)(struct server *s))
{
    struct hub *h = s->hub;
    uint64_t bytes_n = atomic_load_explicit(&s->lease.stmt_bytes, memory_order_relaxed);
    if (s->streams || bytes_n < STREAM_AFTER_BYTES || s->net.ssl)
        return;
    if (!h->streams) {
        h->stream_fetch = fetch;
        h->stream_ticker = (struct ticker){.tick = tick, .arg = h, .every_us = STREAM_TICK_US};
        if (!worker_tick_start(h->worker, &h->stream_ticker))
            return;
    }
    s->streams = true;
    DL_APPEND2(h->streams, s, stream_prev, stream_next);
    set_low_water(s, STREAM_LOW_WATER_BYTES);
    server_settle(s);
}

void stream_end(struct server *s)
{
    struct hub *h = s->hub;
    if (!s->streams)
        return;
    s->streams = false;
    DL_DELETE2(h->streams, s, stream_prev, stream_next);
    if (s->net.fd >= 0) {
        set_low_water(s, 1);
        server_settle(s);
    }
    if (!h->streams)
        worker_tick_stop(h->worker, &h->stream_ticker);
}
