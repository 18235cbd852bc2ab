/* Bytes as a file of norms, and as the norms of one upstream: whatever stands there, nothing is
 * read past its end, what is refused changes nothing, and what is accepted leaves an estimator that
 * works. The checksum is made to fit, since no fuzzer would find one. */
#include "breaker/estimator.h"
#include "proxy/baselines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SUM_BYTES = 8 };

static void fit_checksum(uint8_t *bytes, size_t n)
{
    uint64_t sum = 0xcbf29ce484222325u;
    if (n < SUM_BYTES)
        return;
    for (size_t i = 0; i < n - SUM_BYTES; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    for (size_t i = 0; i < SUM_BYTES; i++)
        bytes[n - SUM_BYTES + i] = (uint8_t)(sum >> 8 * i);
}

static void live(struct estimator *e)
{
    struct estimator_slow slowest[ESTIMATOR_SLOWEST];
    uint64_t now_us = 1000000;
    for (int i = 0; i < 20; i++) {
        now_us += 100 * US_PER_MS;
        for (uint64_t k = 0; k < 40; k++)
            estimator_observe(e, 1 + k % 5, now_us - 900, 800 + k);
        estimator_queue_empty(e);
        struct pressure p = estimator_pressure(e, now_us, NULL, 0, 0);
        must(isfinite(p.p) && p.p >= 0);
        estimator_tick_end(e, now_us, ESTIMATOR_CALM);
    }
    estimator_slowest(e, slowest);
    (void)estimator_drift(e);
}

static void load(const uint8_t *data, size_t n)
{
    static struct estimator e;
    static uint8_t again[ESTIMATOR_BYTES_MAX];
    struct estimator_opts opts;
    struct err err;
    uint8_t *bytes = malloc(n ? n : 1); /* exact, so that reading on is seen */
    if (!bytes)
        return;
    memcpy(bytes, data, n);
    fit_checksum(bytes, n);
    estimator_opts_defaults(&opts);
    estimator_init(&e, &opts, 0);
    if (estimator_load(&e, 0, 3600ull * US_PER_S, bytes, n, &err)) {
        must(estimator_save(&e, 0, again, sizeof again) <= n);
        live(&e);
    } else {
        must(!e.usable && e.baseline.used_n == 0);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct baselines_section sections[BASELINES_SECTIONS_MAX];
    uint32_t sections_n;
    struct err err;
    load(data, n);
    if (!baselines_parse(data, n, sections, &sections_n, &err))
        return 0;
    for (uint32_t i = 0; i < sections_n; i++) {
        must(sections[i].bytes >= data && sections[i].bytes + sections[i].bytes_n <= data + n);
        load(sections[i].bytes, sections[i].bytes_n);
    }
    return 0;
}
