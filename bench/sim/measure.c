#include "bench/sim/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BAD_US_MIN = 50 * US_PER_MS, /* slower than three calm ones and than this: a bad second */
    LATE_US = 4 * US_PER_S,      /* what is lost so long after it is still its */
};

void measure_init(struct measure *m, const struct measure_times *times)
{
    memset(m, 0, sizeof(*m));
    m->calm_from_us = times->calm_from_us;
    m->calm_to_us = times->calm_to_us;
    m->event_from_us = times->event_from_us;
    m->event_to_us = times->event_to_us;
    m->settled_from_us = times->event_from_us + times->settled_us;
    m->seconds_n = (uint32_t)(times->length_us / US_PER_S) + 2;
    m->seconds = calloc(m->seconds_n, sizeof(*m->seconds));
    must(m->seconds != NULL);
}

void measure_free(struct measure *m)
{
    free(m->seconds);
    memset(m, 0, sizeof(*m));
}

static struct measure_second *second_at(struct measure *m, uint64_t now_us)
{
    uint32_t i = (uint32_t)(now_us / US_PER_S);

    if (i >= m->seconds_n)
        i = m->seconds_n - 1;
    if (i > m->second_i) {
        m->seconds[m->second_i].p99_us = hist_quantile(&m->second, 0.99);
        memset(&m->second, 0, sizeof(m->second));
        m->second_i = i;
    }
    return &m->seconds[i];
}

void measure_served(struct measure *m, uint64_t latency_us, uint64_t now_us)
{
    second_at(m, now_us)->served_n++;
    hist_add(&m->second, latency_us);
    if (now_us >= m->calm_from_us && now_us < m->calm_to_us)
        hist_add(&m->calm, latency_us);
    if (now_us < m->event_from_us || now_us >= m->event_to_us)
        return;
    hist_add(&m->event, latency_us);
    if (now_us >= m->settled_from_us)
        hist_add(&m->settled, latency_us);
}

void measure_lost(struct measure *m, uint64_t now_us)
{
    second_at(m, now_us)->lost_n++;
}

void measure_refused(struct measure *m, uint64_t now_us)
{
    second_at(m, now_us)->refused_n++;
}

void measure_bytes(struct measure *m, uint32_t stream, uint64_t bytes_n, uint64_t now_us)
{
    must(stream < MEASURE_STREAMS_N);
    second_at(m, now_us)->bytes_n[stream] += bytes_n;
}

void measure_end(struct measure *m, uint64_t now_us)
{
    (void)second_at(m, now_us + US_PER_S);
}

static bool is_bad(const struct measure *m, uint32_t second_i, double calm_p99_us)
{
    const struct measure_second *s = &m->seconds[second_i];

    return s->served_n == 0 || (double)s->p99_us > fmax(3 * calm_p99_us, BAD_US_MIN);
}

double measure_rate(const struct measure *m, uint32_t stream, uint64_t from_us, uint64_t to_us)
{
    uint64_t bytes_n = 0;
    uint32_t from_i = (uint32_t)(from_us / US_PER_S), to_i = (uint32_t)(to_us / US_PER_S);

    for (uint32_t i = from_i; i < to_i && i < m->seconds_n; i++)
        bytes_n += m->seconds[i].bytes_n[stream];
    return to_i > from_i ? (double)bytes_n / (to_i - from_i) : 0;
}

void measure_outcome(const struct measure *m, struct outcome *out)
{
    uint32_t from_i = (uint32_t)(m->event_from_us / US_PER_S);
    uint32_t to_i = (uint32_t)(m->event_to_us / US_PER_S), last_i = m->seconds_n - 2;
    uint64_t calm_us = hist_quantile(&m->calm, 0.99);

    *out = (struct outcome){
        .calm_p99_ms = (double)calm_us / US_PER_MS,
        .p50_ms = (double)hist_quantile(&m->event, 0.5) / US_PER_MS,
        .p99_ms = (double)hist_quantile(&m->event, 0.99) / US_PER_MS,
        .settled_p99_ms = (double)hist_quantile(&m->settled, 0.99) / US_PER_MS,
        .served_n = m->event.n,
        .event_s = to_i - from_i,
    };
    for (uint32_t i = from_i; i < to_i + LATE_US / US_PER_S && i < last_i; i++)
        out->lost_n += m->seconds[i].lost_n;
    for (uint32_t i = from_i; i < to_i && i < last_i; i++)
        out->bad_s += is_bad(m, i, (double)calm_us);
    for (uint32_t i = to_i; i < last_i; i++)
        if (is_bad(m, i, (double)calm_us))
            out->recovery_s = i - to_i + 1;
    uint64_t asked_n = out->served_n + out->lost_n;
    out->lost_percent = asked_n == 0 ? 0 : 100.0 * (double)out->lost_n / (double)asked_n;
    for (uint32_t k = 0; k < MEASURE_STREAMS_N; k++)
        out->bytes_per_s[k] = measure_rate(m, k, m->event_from_us, m->event_to_us);
}
