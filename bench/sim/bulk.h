/* Bulk: jobs that read everything, again and again. Streams (COPY, dumps) and scans (aggregates).
 */
#ifndef SIM_BULK_H
#define SIM_BULK_H

#include "bench/sim/world.h"

struct bulk_opts {
    enum sim_class class;
    uint32_t n; /* jobs */
    double from_s, to_s;
    double apart_s;  /* between the starts of two jobs; 0: 50 ms */
    uint32_t mb;     /* of one statement; 0: 2000 */
    bool scans;      /* else streams */
    double retry_s;  /* after a refusal, cancel, loss; 0: 2 s */
    uint32_t lock_i; /* as of struct statement: held from beginning to end */
    bool lock_exclusive;
    uint32_t group_n; /* jobs are sessions of dumps of so many; 0: each on its own */
    bool writes;      /* and changes something */
    bool disguised;   /* they come as users, by an application that nobody knows */
    uint32_t proxy_first_i, proxies_n; /* one after the other; 0: the first proxy's */
    bool once;                         /* each job does one statement */
};
void bulk_start(struct world *w, const struct bulk_opts *opts);
void bulk_stop(struct world *w);
void bulk_free(struct world *w);
/* Bytes each proxy's bulk jobs moved are in proxy.bytes_n; jobs that ended their one statement: */
uint32_t bulk_done_n(const struct world *w);

#endif
