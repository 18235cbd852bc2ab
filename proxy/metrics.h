/* /metrics: all tables that have metrics, latency histograms per class, and the process itself. */
#ifndef PROXY_METRICS_H
#define PROXY_METRICS_H

#include "breaker/base.h"
#include "proxy/buf.h"
#include "proxy/rows.h"

/* False: too large for b, or out of memory. */
MUST_USE bool metrics_put(struct buf *b, const struct rows_from *from);

#endif
