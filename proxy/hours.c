/* The clock on the wall. See hours.h. */
#include "proxy/hours.h"

#include <time.h>

#include "pool/show.h"
#include "proxy/log.h"

enum { KB = 1000 };

void hours_look(const struct class_table *classes, uint64_t now_us, struct upstream_hours *hours)
{
    struct timespec ts;
    *hours = (struct upstream_hours){.closed_mask = 0};
    clock_gettime(CLOCK_REALTIME, &ts);
    for (uint32_t i = 0; i < classes->class_n; i++) {
        const struct class_opts *o = &classes->at[i];
        if (!schedule_holds(&o->schedule, ts.tv_sec))
            hours->closed_mask |= BIT(i);
        if (!o->has_finish)
            continue;
        int64_t due_s = schedule_next(&o->finish_zone, o->finish_minute, ts.tv_sec);
        hours->due_us[i] = now_us + (uint64_t)(due_s - ts.tv_sec) * US_PER_S;
    }
}

static void log_late(struct upstream *u, uint8_t class_i, uint64_t now_us)
{
    struct class_stats s;
    show_class(u, class_i, now_us, &s);
    const struct finish *f = &s.finish;
    log_warning("finish_by host=%s:%u class=%s late=yes running_s=%llu moved_kB=%llu "
                "moved_last_time_kB=%llu kB_per_s=%llu needed_kB_per_s=%llu",
                upstream_host(u), upstream_port(u), s.opts.name,
                (unsigned long long)(us_since(f->started_us, now_us) / US_PER_S),
                (unsigned long long)(f->bytes_n / KB), (unsigned long long)(f->last_bytes_n / KB),
                (unsigned long long)(finish_speed(f, now_us) / KB),
                (unsigned long long)(f->needed_bytes_per_s / KB));
}

void hours_tell(struct upstream *u, const struct upstream_hours *hours, uint64_t now_us)
{
    uint32_t late_mask = upstream_tell_hours(u, hours, now_us);
    for (; late_mask; late_mask &= late_mask - 1)
        log_late(u, (uint8_t)__builtin_ctz(late_mask), now_us);
}
