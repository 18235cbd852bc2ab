/* What must hold of the pool after every event, worked out anew from what the world knows. */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "tests/sim/world.h"

/* Remembers what is needed to judge the call that follows. */
void check_before(struct world *w);
/* A call has returned: its opens and grants were within the limits. */
void check_after_call(struct world *w, const struct pool_actions *actions);
/* A server is given to somebody, at once or by letter. */
void check_grant(struct world *w, const struct pool *p, const struct sim_server *s);
/* All actions are carried out or in the mail, and nothing is left to dispatch. */
void check_all(struct world *w);
/* Nobody waits, nothing is leased, opened or closed any more. */
void check_rest(struct world *w);

#endif
