/* The clock on the wall, for those whom it concerns: hours in which a class may work, and the time
 * by which its work should be done. Control loop, once a second. */
#ifndef PROXY_HOURS_H
#define PROXY_HOURS_H

#include "config/config.h"
#include "pool/upstream.h"

/* What the clock says to these classes now. */
void hours_look(const struct class_table *classes, uint64_t now_us, struct upstream_hours *hours);
/* Tells an upstream, and the log when a class will not be done in time. */
void hours_tell(struct upstream *u, const struct upstream_hours *hours, uint64_t now_us);

#endif
