/* What the breakers did, into the log: one line a transition, with all that led to it, so that a
 * night can be read back, or replayed, from the log alone. */
#ifndef PROXY_CONTROL_WATCH_H
#define PROXY_CONTROL_WATCH_H

#include "proxy/control.h"

struct upstream;

/* After the upstream's tick. */
void control_watch_upstream(struct control *k, struct upstream *u);
void control_watch_free(struct control *k);

#endif
