/* What the proxy would do with the pool: carry out its actions, at once or by letter, open and lose
 * servers, and let clients ask, work, release and leave.
 */
#ifndef SIM_ACTS_H
#define SIM_ACTS_H

#include "tests/sim/world.h"

/* After each call into the pool: checks it, and carries out what it asks for, from this loop. */
void acts_finish(struct world *w, struct upstream *u, struct pool_actions *actions,
                 uint16_t acting);
/* Opens the letters whose time has come. */
void acts_deliver_due(struct world *w);
/* A server's connection ends, wherever it is just now. */
void acts_server_dies(struct world *w, struct sim_server *s);

void acts_login(struct world *w, struct sim_client *c);
void acts_logout(struct world *w, struct sim_client *c);
void acts_ask(struct world *w, struct sim_client *c);
/* What a client of a job does next. */
void acts_job(struct world *w, struct sim_client *c);
/* One of it was refused, or lost its server: all of it ends. */
void acts_job_breaks(struct world *w, const struct sim_client *c);
void acts_leave_queue(struct world *w, struct sim_client *c);
/* During a lease: a statement, bytes, a lower class. */
void acts_work(struct world *w, struct sim_client *c);
void acts_release(struct world *w, struct sim_client *c);

#endif
