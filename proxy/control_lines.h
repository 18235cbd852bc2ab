/* What the log says of a latency breaker, one line each. tests/model/replay.py reads these lines
 * and plays them through the reference model: a change here is a change there. */
#ifndef PROXY_CONTROL_LINES_H
#define PROXY_CONTROL_LINES_H

#include "pool/show.h"

enum { CONTROL_LINE_BYTES = 1800 }; /* the log cuts at 2,048 */

struct control_place {
    const char *host;
    uint16_t port;
    char classes[CLASSES_MAX][CLASS_NAME_BYTES]; /* by the breaker's index */
};

/* A move, with all that led to it. */
void control_line_transition(const struct control_place *place, const struct breaker_transition *t,
                             char out[CONTROL_LINE_BYTES]);
/* A tick, with all that a replay needs. */
void control_line_tick(const struct control_place *place, const struct tick_stats *t,
                       char out[CONTROL_LINE_BYTES]);

#endif
