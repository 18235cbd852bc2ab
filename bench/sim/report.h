/* The table, for people. */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include "bench/sim/run.h"

/* Means over seeds, of one scenario under one policy. */
struct report_row {
    const struct scenario *scenario;
    const struct policy *policy;
    uint32_t seeds_n;
    double calm_p99_ms, p50_ms, p99_ms, settled_p99_ms, lost_percent, bad_s, recovery_s;
    double mb_per_s, backup_mb_per_s, tests_n, confirmed_n, exonerated_n, cuts_n, cancels_n;
    double first_action_s, cuts_per_minute;
    uint32_t acted_n; /* seeds that had a first action */
    double virtual_s, cpu_s;
    const char *broken;
};
void report_add(struct report_row *row, const struct result *r);
void report_head(const struct scenario *s);
void report_print(const struct report_row *row);

#endif
