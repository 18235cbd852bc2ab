/* The status port: HTTP for machines that watch.
 *
 *   GET /metrics       everything, as Prometheus text 0.0.4
 *   GET /healthz       200 while every loop opens its mail, else 503
 *   GET /readyz        200 while new clients are taken and served, else 503 (paused, draining)
 *   GET /show/NAME     a table of /metrics as JSON
 *   GET /              what there is
 *
 * A dozen lines of HTTP over net.h rather than libevent's evhttp: that one cannot bound its
 * connections, nor tell when one that never sent a request has ended. Every connection serves one
 * request, has STATUS_TIME_US for all of it, and STATUS_CONNECTIONS_MAX of them are kept: a new one
 * takes the place of the oldest. Control loop only; needs no worker and no pool. */
#ifndef PROXY_STATUS_H
#define PROXY_STATUS_H

#include "breaker/base.h"

struct control;
struct status;

enum {
    STATUS_CONNECTIONS_MAX = 32,
    STATUS_REQUEST_MAX = 8 << 10, /* bytes of request line and headers */
    STATUS_ANSWER_MAX = 64 << 20,
    STATUS_TIME_US = 10 * US_PER_S,
};

/* Listens as the configuration says; *out stays NULL where status_port is 0. */
MUST_USE bool status_open(struct status **out, struct control *k, struct err *err);
/* Every second or so: connections that take too long. */
void status_tick(struct status *s, uint64_t now_us);
void status_close(struct status **s);

#endif
