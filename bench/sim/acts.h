/* What scenarios do to the world: stalls, slow disks, restarts, locks, shapes of load. */
#ifndef SIM_ACTS_H
#define SIM_ACTS_H

#include "bench/sim/scenarios.h"

/* ---- acts ---- */
void act_stall(struct world *w);  /* 300 ms nothing moves */
void act_freeze(struct world *w); /* 20 s nothing moves */
void act_disk_3x(struct world *w);
void act_disk_2x(struct world *w);
void act_disk_12x(struct world *w);
void act_disk_well(struct world *w);
void act_kill(struct world *w);
void act_restore(struct world *w);     /* with a cold cache */
void act_sleep_800ms(struct world *w); /* the proxy itself */
void act_sleep_500ms(struct world *w);
void act_ddl(struct world *w); /* an ALTER TABLE by hand wants the first table for itself */
void act_idle_sessions(struct world *w); /* 30 users open a transaction and go for lunch */
void act_deny_bulk(struct world *w);     /* a password that is wrong from now on */
void act_few_places(struct world *w);    /* the server has fewer connections than it said */
/* Sends those home who still wait. */
void acts_end(struct world *w);
const char *act_name(void (*fn)(struct world *w));

/* ---- rates ---- */
double rate_800(double t_s);
double rate_8(double t_s);
double rate_ramp(double t_s);
double rate_surge(double t_s);
double rate_day(double t_s);

/* ---- mixes ---- */
const struct mix *mix_deploy(double t_s);
const struct mix *mix_soak(double t_s);

/* ---- shapes ---- */
void shape_hot_row(struct world *w, struct tx *tx);
void shape_hot_row_half(struct world *w, struct tx *tx);
void shape_pile_ups(struct world *w, struct tx *tx);
void shape_slow_readers(struct world *w, struct tx *tx);
void shape_timeouts(struct world *w, struct tx *tx);
void shape_row_locks(struct world *w, struct tx *tx);
void shape_table(struct world *w, struct tx *tx);

#endif
