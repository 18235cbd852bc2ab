/* Histograms, their errors, the ring of slices, and the table of norms. */
#include "breaker/baseline.c"
#include "breaker/window.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t random_state = 42;

static double uniform(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- histograms ---------------------------------------------------------------------------- */

static void test_empty_has_no_quantile(void **state)
{
    (void)state;
    struct window_hist h = {0};
    assert_true(window_hist_slowdown(&h, 0.5) == 0);
    assert_true(window_hist_latency_us(&h, 0.99) == 0);
}

/* Samples anywhere, of several shapes: no quantile is further from the true one than a bucket. */
static void test_quantiles_err_by_a_bucket_at_most(void **state)
{
    (void)state;
    static double xs[4000];
    for (int round = 0; round < 200; round++) {
        struct window_hist slowdown = {0}, latency = {0};
        size_t n = 1 + (size_t)(uniform() * (COUNT_OF(xs) - 1));
        double low = uniform() * 9, width = uniform() * uniform() * 6; /* inside both scales */
        for (size_t i = 0; i < n; i++) {
            xs[i] = low + uniform() * width;
            window_hist_add_slowdown(&slowdown, xs[i] - 3);
            window_hist_add_latency(&latency, xs[i]);
        }
        qsort(xs, n, sizeof xs[0], by_value);
        for (double q = 0.05; q < 1; q += 0.05) {
            size_t rank = (size_t)ceil(q * (double)n);
            double truth = xs[rank > 0 ? rank - 1 : 0];
            assert_true(fabs(window_hist_slowdown(&slowdown, q) + 3 - truth) <= 0.25 + 1e-9);
            assert_true(fabs(log2(window_hist_latency_us(&latency, q)) - truth) <= 0.4 + 1e-9);
        }
    }
}

static void test_quantiles_rise(void **state)
{
    (void)state;
    struct window_hist h = {0};
    for (int i = 0; i < 1000; i++)
        window_hist_add_latency(&h, uniform() * 25);
    for (double q = 0.02; q < 1; q += 0.01)
        assert_true(window_hist_latency_us(&h, q) >= window_hist_latency_us(&h, q - 0.01));
}

static void test_ends_hold_what_falls_off(void **state)
{
    (void)state;
    struct window_hist h = {0};
    window_hist_add_slowdown(&h, -1e9);
    window_hist_add_slowdown(&h, 1e9);
    assert_int_equal(h.at[0], 1);
    assert_int_equal(h.at[WINDOW_BUCKETS - 1], 1);
    window_hist_add_latency(&h, 64); /* 2^64 us */
    assert_int_equal(h.at[WINDOW_BUCKETS - 1], 2);
    assert_int_equal(h.n, 3);
    assert_true(window_hist_slowdown(&h, 1) == 12);
}

static void test_merge_adds(void **state)
{
    (void)state;
    struct window_hist a = {0}, b = {0}, both = {0};
    for (int i = 0; i < 500; i++) {
        double x = uniform() * 16 - 4;
        window_hist_add_slowdown(i % 3 ? &a : &b, x);
        window_hist_add_slowdown(&both, x);
    }
    window_hist_merge(&a, &b);
    assert_memory_equal(&a, &both, sizeof a);
}

/* ---- ring ---------------------------------------------------------------------------------- */

static void test_ring_forgets_the_oldest(void **state)
{
    (void)state;
    static struct window w;
    window_init(&w);
    for (uint32_t i = 0; i < 3 * WINDOW_SLICES; i++) {
        window_slice(&w, 0)->waits_n = i + 1;
        for (uint32_t age = 0; age < WINDOW_SLICES; age++)
            assert_int_equal(window_slice(&w, age)->waits_n, i >= age ? i + 1 - age : 0);
        window_turn(&w);
        assert_int_equal(window_slice(&w, 0)->waits_n, 0);
    }
}

static void test_forgetting_latencies_keeps_queues(void **state)
{
    (void)state;
    static struct window w;
    window_init(&w);
    window_slice(&w, 0)->queue_was_empty = true;
    window_hist_add_latency(&window_slice(&w, 0)->latency, 5);
    window_hist_add_slowdown(&window_slice(&w, 7)->slowdown, 5);
    window_forget_latencies(&w);
    assert_int_equal(window_slice(&w, 0)->latency.n, 0);
    assert_int_equal(window_slice(&w, 7)->slowdown.n, 0);
    assert_true(window_slice(&w, 0)->queue_was_empty);
}

/* ---- norms --------------------------------------------------------------------------------- */

static const struct baseline_pace slow = {.up = 0.01, .down = 0.1};

static struct baseline *new_baseline(void)
{
    struct baseline *b = malloc(sizeof *b);
    must(b);
    baseline_init(b);
    return b;
}

static void note_n(struct baseline *b, uint64_t fingerprint, double us_log2, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        assert_non_null(baseline_note(b, fingerprint, us_log2, 1));
}

static void test_norm_is_a_plain_mean_then_follows_slowly(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    note_n(b, 7, 10, 1000);
    assert_int_equal(baseline_fold(b, &slow), 1000);
    note_n(b, 7, 12, 1000);
    assert_int_equal(baseline_fold(b, &slow), 1000);
    assert_true(fabs(baseline_find(b, 7)->mean_log2 - 11) < 1e-12);
    note_n(b, 7, 12, 5);
    baseline_fold(b, &slow);
    assert_true(fabs(baseline_find(b, 7)->mean_log2 - 11.01) < 1e-12);
    note_n(b, 7, 10.01, 5);
    baseline_fold(b, &slow);
    assert_true(fabs(baseline_find(b, 7)->mean_log2 - 10.91) < 1e-12);
    free(b);
}

static void test_dropped_slices_teach_nothing(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    note_n(b, 7, 10, 100);
    assert_int_equal(baseline_drop(b), 100);
    assert_int_equal(baseline_find(b, 7)->n, 0);
    note_n(b, 7, 3, 50);
    assert_int_equal(baseline_fold(b, &slow), 50);
    assert_true(baseline_find(b, 7)->mean_log2 == 3);
    free(b);
}

static void test_anchor_bounds_the_creep(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    note_n(b, 7, 10, BASELINE_LEARNT_N);
    baseline_fold(b, &slow);
    baseline_anchor(b, 1, 0);
    struct baseline_pace capped = slow;
    capped.cap_log2 = 0.3;
    for (int i = 0; i < 100; i++) {
        note_n(b, 7, 14, 10);
        baseline_fold(b, &capped);
    }
    assert_true(baseline_find(b, 7)->mean_log2 == 10.3);
    assert_true(baseline_past_of(b, baseline_find(b, 7))->held);
    for (int i = 0; i < 100; i++) {
        note_n(b, 7, 9, 10);
        baseline_fold(b, &capped);
    }
    assert_true(baseline_find(b, 7)->mean_log2 < 9.1);
    assert_false(baseline_past_of(b, baseline_find(b, 7))->held);
    free(b);
}

static void test_norm_learnt_late_gets_its_own_anchor(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    baseline_anchor(b, 1, 0);
    note_n(b, 7, 10, BASELINE_LEARNT_N);
    baseline_fold(b, &slow);
    note_n(b, 7, 10, 1);
    baseline_fold(b, &slow);
    assert_false(baseline_find(b, 8));
    baseline_lighten(b, 100);
    assert_int_equal(baseline_find(b, 7)->n, 100);
    note_n(b, 7, 10, BASELINE_LEARNT_N);
    baseline_fold(b, &slow);
    assert_true(baseline_past_of(b, baseline_find(b, 7))->anchor.is_set);
    free(b);
}

static void test_a_flood_of_strangers_leaves_the_known(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    enum { KNOWN_N = 200 };
    for (int tick = 0; tick < 100; tick++) {
        for (uint64_t i = 0; i < KNOWN_N; i++)
            note_n(b, i * 0x123456789abcdef1u + 1, 10, 2);
        baseline_fold(b, &slow);
    }
    for (uint64_t i = 0; i < 200000; i++) {
        (void)baseline_note(b, (uint64_t)(uniform() * 0x1p62), 5, 1);
        if (i % 200 == 0)
            baseline_fold(b, &slow);
    }
    for (uint64_t i = 0; i < KNOWN_N; i++) {
        const struct baseline_entry *e = baseline_find(b, i * 0x123456789abcdef1u + 1);
        assert_non_null(e);
        assert_true(e->mean_log2 == 10);
    }
    assert_true(b->evicted_n > 100000);
    assert_true(b->used_n <= BASELINE_ENTRIES);
    free(b);
}

/* More strangers in one slice than there are places: those without one are counted, no sum is lost.
 */
static void test_full_slice_misses_and_says_so(void **state)
{
    (void)state;
    struct baseline *b = new_baseline();
    uint32_t got_n = 0;
    for (uint64_t i = 0; i < 20000; i++)
        got_n += baseline_note(b, i * 0x9e3779b97f4a7c15u, 5, 1) != NULL;
    assert_int_equal(got_n + b->missed_n, 20000);
    assert_true(got_n <= BASELINE_ENTRIES);
    assert_int_equal(baseline_fold(b, &slow), got_n);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_has_no_quantile),
        cmocka_unit_test(test_quantiles_err_by_a_bucket_at_most),
        cmocka_unit_test(test_quantiles_rise),
        cmocka_unit_test(test_ends_hold_what_falls_off),
        cmocka_unit_test(test_merge_adds),
        cmocka_unit_test(test_ring_forgets_the_oldest),
        cmocka_unit_test(test_forgetting_latencies_keeps_queues),
        cmocka_unit_test(test_norm_is_a_plain_mean_then_follows_slowly),
        cmocka_unit_test(test_dropped_slices_teach_nothing),
        cmocka_unit_test(test_anchor_bounds_the_creep),
        cmocka_unit_test(test_norm_learnt_late_gets_its_own_anchor),
        cmocka_unit_test(test_a_flood_of_strangers_leaves_the_known),
        cmocka_unit_test(test_full_slice_misses_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
