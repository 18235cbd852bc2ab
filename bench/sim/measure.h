/* What is counted in a run, second by second: latencies of users as they see them (from the moment
 * they wanted something to the answer, retries included), what they lost, what bulk moved. */
#ifndef SIM_MEASURE_H
#define SIM_MEASURE_H

#include "bench/hist.h"
#include "breaker/base.h"

enum {
    MEASURE_BULK,
    MEASURE_BACKUP,
    MEASURE_STREAMS_N, /* kinds of bulk */
};

struct measure_second {
    uint32_t served_n, lost_n, refused_n;
    uint64_t p99_us;
    uint64_t bytes_n[MEASURE_STREAMS_N];
};

struct measure {
    uint64_t calm_from_us, calm_to_us, event_from_us, event_to_us;
    uint64_t settled_from_us; /* of the event: from here on p99_settled counts */
    struct hist calm, event, settled, second;
    struct measure_second *seconds;
    uint32_t seconds_n, second_i; /* the one that runs */
};

struct measure_times {
    uint64_t length_us, calm_from_us, calm_to_us, event_from_us, event_to_us, settled_us;
};

void measure_init(struct measure *m, const struct measure_times *times);
void measure_free(struct measure *m);
void measure_served(struct measure *m, uint64_t latency_us, uint64_t now_us);
void measure_lost(struct measure *m, uint64_t now_us);
void measure_refused(struct measure *m, uint64_t now_us);
void measure_bytes(struct measure *m, uint32_t stream, uint64_t bytes_n, uint64_t now_us);
/* Closes the last second. */
void measure_end(struct measure *m, uint64_t now_us);

/* ---- and what comes of it ---- */

struct outcome {
    double calm_p99_ms, p50_ms, p99_ms, settled_p99_ms;
    double lost_percent;
    uint64_t served_n, lost_n;
    uint32_t bad_s, event_s;               /* seconds with p99 above 3 calm ones and 50 ms; of */
    uint32_t recovery_s;                   /* last bad second after the event */
    double bytes_per_s[MEASURE_STREAMS_N]; /* in the event */
};
void measure_outcome(const struct measure *m, struct outcome *out);
double measure_rate(const struct measure *m, uint32_t stream, uint64_t from_us, uint64_t to_us);

#endif
