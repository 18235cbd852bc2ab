#include "bench/sim/report.h"

#include <math.h>
#include <stdio.h>

#include "bench/sim/policy.h"

#define MB ((double)(1 << 20))

void report_add(struct report_row *row, const struct result *r)
{
    const struct outcome *o = &r->outcome;
    double weight = 1.0 / ++row->seeds_n;
    double backup_mb = o->bytes_per_s[MEASURE_BACKUP] / MB;

#define MEAN(field, value) (row->field += ((double)(value)-row->field) * weight)
    MEAN(calm_p99_ms, o->calm_p99_ms);
    MEAN(p50_ms, o->p50_ms);
    MEAN(p99_ms, o->p99_ms);
    MEAN(settled_p99_ms, o->settled_p99_ms);
    MEAN(lost_percent, o->lost_percent);
    MEAN(bad_s, o->bad_s);
    MEAN(recovery_s, o->recovery_s);
    MEAN(mb_per_s, o->bytes_per_s[MEASURE_BULK] / MB + backup_mb);
    MEAN(backup_mb_per_s, backup_mb);
    MEAN(tests_n, r->tests_n);
    MEAN(confirmed_n, r->confirmed_n);
    MEAN(exonerated_n, r->exonerated_n);
    MEAN(cuts_n, r->cuts_n);
    MEAN(cancels_n, r->cancels_n);
    MEAN(cuts_per_minute, r->cuts_per_minute);
#undef MEAN
    if (r->first_action_s >= 0) {
        row->acted_n++;
        row->first_action_s += (r->first_action_s - row->first_action_s) / row->acted_n;
    }
    row->virtual_s += r->virtual_s;
    row->cpu_s += r->cpu_s;
    if (r->broken != NULL)
        row->broken = r->broken;
}

void report_head(const struct scenario *s)
{
    printf("\n%s: %s (%.0f to %.0f s)\n", s->name, s->title, s->event_from_s, s->event_to_s);
    printf("  %-13s %7s %8s %8s %7s %9s %6s %15s %14s %6s %7s %6s %6s\n", "policy", "p50 ms",
           "p99 ms", "calm p99", "lost %", "bad s", "rec. s", "bulk(dump) MB/s", "test/conv/exon",
           "cuts", "cancels", "1st s", "c/min");
}

void report_print(const struct report_row *row)
{
    const struct scenario *s = row->scenario;

    printf("  %-13s %7.1f %8.1f %8.1f %7.2f %5.0f/%-3.0f %6.0f %8.0f (%4.0f)", row->policy->name,
           row->p50_ms, row->p99_ms, row->calm_p99_ms, row->lost_percent, row->bad_s,
           s->event_to_s - s->event_from_s, row->recovery_s, row->mb_per_s, row->backup_mb_per_s);
    if (row->policy->real) {
        printf(" %4.1f/%4.1f/%4.1f %6.1f %7.1f", row->tests_n, row->confirmed_n, row->exonerated_n,
               row->cuts_n, row->cancels_n);
        if (row->acted_n > 0)
            printf(" %6.1f", row->first_action_s);
        else
            printf(" %6s", "-");
        printf(" %6.2f", row->cuts_per_minute);
    }
    printf("%s%s\n", row->broken != NULL ? "  BROKEN: " : "",
           row->broken != NULL ? row->broken : "");
    fflush(stdout);
}
