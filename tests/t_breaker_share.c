/* Several instances before one database: breaker/breaker_share.c, as the breaker drives it. */
#include "breaker/breaker.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MB = 1 << 20 };

struct one {
    struct breaker b;
    struct estimator e;
    struct breaker_use use;
    uint64_t now_us;
};

static struct one *one_new(uint32_t instances_n, bool cancelled)
{
    struct one *o = calloc(1, sizeof(*o));
    struct breaker_opts opts;
    struct estimator_opts estimator;
    struct breaker_class_opts bulk = {.name = "bulk",
                                      .mode = BREAKER_ENFORCE,
                                      .paced = true,
                                      .cancelled = cancelled,
                                      .trickle_bytes_per_s = MB};

    assert_non_null(o);
    breaker_opts_defaults(&opts);
    opts.instances_n = instances_n;
    breaker_init(&o->b, &opts, &bulk, 1, 1);
    estimator_opts_defaults(&estimator);
    estimator_init(&o->e, &estimator, 0);
    o->use = (struct breaker_use){.active_n = 2, .cap_n = 10, .bytes_per_s = 50 * MB};
    o->now_us = 1000 * (uint64_t)US_PER_S;
    return o;
}

static void live(struct one *o, double p, double s)
{
    for (uint32_t i = 0; i < (uint32_t)(10 * s + 0.5); i++) {
        o->now_us += 100 * US_PER_MS;
        breaker_tick(&o->b, &o->e, &(struct pressure){.p = p, .n = 100}, &o->use, o->now_us);
    }
}

static double g_of(const struct one *o)
{
    return o->b.classes[0].limit.g;
}

static void test_nobody_is_tried(void **state)
{
    struct one *o = one_new(10, false);

    (void)state;
    live(o, 1.5, 1.2);
    assert_int_equal(o->b.state, BREAKER_THROTTLED);
    assert_int_equal(o->b.tests_n, 0);
    assert_true(o->b.classes[0].ask.limited);
    assert_false(o->b.classes[0].ask.held);
    free(o);
}

/* Two that had very different rates, and saw the trouble at different times. */
static void test_all_come_to_the_same(void **state)
{
    struct one *a = one_new(10, false), *b = one_new(10, false);

    (void)state;
    a->use.bytes_per_s = 5 * MB;
    b->use.bytes_per_s = 500ull * MB;
    live(a, 1.4, 60);
    live(b, 1.1, 5);
    live(a, 0.8, 300);
    live(b, 0.8, 300);
    assert_float_equal(g_of(a), g_of(b), 0.02 * g_of(a));
    assert_true(g_of(a) > a->b.classes[0].limit.floor * 1.5 && g_of(a) < 1);
    free(a);
    free(b);
}

static void test_more_instances_get_less_each(void **state)
{
    struct one *few = one_new(4, false), *many = one_new(40, false);

    (void)state;
    live(few, 1.2, 2);
    live(many, 1.2, 2);
    live(few, 0.9, 300);
    live(many, 0.9, 300);
    assert_float_equal(g_of(few), 10 * g_of(many), 0.1 * g_of(few));
    free(few);
    free(many);
}

/* It never saw pressure of 1; the others hold it below by what they go without. */
static void test_who_never_tripped_joins(void **state)
{
    struct one *o = one_new(10, false);

    (void)state;
    live(o, 0.85, 5);
    assert_int_equal(o->b.state, BREAKER_CLOSED);
    live(o, 0.85, 30);
    assert_int_equal(o->b.state, BREAKER_THROTTLED);
    free(o);
}

static void test_calm_is_left_alone(void **state)
{
    struct one *o = one_new(10, false);

    (void)state;
    live(o, 0.55, 600);
    assert_int_equal(o->b.state, BREAKER_CLOSED);
    free(o);
}

static void test_full_speed_within_a_minute(void **state)
{
    struct one *o = one_new(100, false);

    (void)state;
    live(o, 1.5, 60);
    assert_true(g_of(o) < 0.05);
    live(o, 0.2, 60);
    assert_int_equal(o->b.state, BREAKER_CLOSED);
    assert_false(o->b.classes[0].ask.limited);
    free(o);
}

static void test_what_only_a_cancel_ends_is_cancelled(void **state)
{
    struct one *o = one_new(10, true);

    (void)state;
    o->use.nonstreaming_n = o->use.active_n = 8;
    live(o, 2, 2);
    assert_int_equal(o->b.cancels_n, 0); /* not at once */
    live(o, 2, 5);
    assert_true(o->b.cancels_n > 0);
    free(o);
}

/* Whatever pressure does: never below the floor, and never a pause. */
static void test_random_pressure_keeps_the_floor(void **state)
{
    struct one *o = one_new(1000, false);
    uint64_t random = 7;

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        live(o, (double)(random >> 40) / (1 << 22), 0.1);
        assert_true(g_of(o) >= 1.0 / 256 && g_of(o) <= 1);
        assert_true(o->b.classes[0].ask.rate_bytes_per_s >= MB);
        assert_true(o->b.classes[0].ask.limit_n >= 1);
    }
    free(o);
}

static void test_other_instances_appear(void **state)
{
    struct one *o = one_new(1, false);

    (void)state;
    live(o, 1.5, 1.2);
    assert_int_equal(o->b.state, BREAKER_TEST);
    o->b.opts.instances_n = 2;
    live(o, 1.5, 0.1);
    assert_int_equal(o->b.state, BREAKER_CLOSED);
    live(o, 1.5, 2);
    assert_int_equal(o->b.state, BREAKER_THROTTLED);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_is_tried),
        cmocka_unit_test(test_all_come_to_the_same),
        cmocka_unit_test(test_more_instances_get_less_each),
        cmocka_unit_test(test_who_never_tripped_joins),
        cmocka_unit_test(test_calm_is_left_alone),
        cmocka_unit_test(test_full_speed_within_a_minute),
        cmocka_unit_test(test_what_only_a_cancel_ends_is_cancelled),
        cmocka_unit_test(test_random_pressure_keeps_the_floor),
        cmocka_unit_test(test_other_instances_appear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
