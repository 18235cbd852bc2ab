/* Counted limits, alone and together. */
#include "pool/caps.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_a_cap_is_a_cap(void **state)
{
    (void)state;
    struct cap c = {.max_n = 2};

    assert_true(cap_take(&c));
    assert_true(cap_take(&c));
    assert_false(cap_take(&c));
    c.max_n = 1; /* lowered: nobody in until two have left */
    cap_give(&c);
    assert_false(cap_take(&c));
    cap_give(&c);
    assert_true(cap_take(&c));
    c.max_n = 0;
    for (int i = 0; i < 1000; i++)
        assert_true(cap_take(&c));
    assert_int_equal(cap_used(&c), 1001);
}

static void test_all_or_none(void **state)
{
    (void)state;
    struct cap a = {.max_n = 5}, b = {.max_n = 1}, c = {.max_n = 0};
    struct cap *const all[] = {&a, &b, &c};

    assert_int_equal(caps_take(all, 3), 3);
    assert_int_equal(caps_take(all, 3), 1); /* b is full */
    assert_int_equal(cap_used(&a), 1);
    assert_int_equal(cap_used(&b), 1);
    assert_int_equal(cap_used(&c), 1);
    caps_give(all, 3);
    assert_int_equal(cap_used(&a) + cap_used(&b) + cap_used(&c), 0);
}

enum { ROUNDS = 200000 };
static struct cap shared = {.max_n = 3};
static _Atomic uint32_t inside, most_inside;

static void *take_and_give(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (!cap_take(&shared))
            continue;
        uint32_t n = atomic_fetch_add(&inside, 1) + 1;
        if (n > atomic_load(&most_inside))
            atomic_store(&most_inside, n);
        atomic_fetch_sub(&inside, 1);
        cap_give(&shared);
    }
    return NULL;
}

static void test_threads_share_it(void **state)
{
    (void)state;
    pthread_t threads[4];

    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(most_inside <= 3);
    assert_int_equal(cap_used(&shared), 0);
}

static void test_claims_keep_the_next_place(void **state)
{
    (void)state;
    struct cap c = {.max_n = 2};
    int here, there;
    uint64_t now_us = 1000;

    assert_true(cap_take(&c));
    assert_true(cap_take(&c));
    assert_false(cap_yield(&c, &here, now_us)); /* nobody claims */
    assert_true(cap_claim(&c, &there, now_us));
    assert_true(cap_yield(&c, &here, now_us));
    assert_false(cap_yield(&c, &here, now_us)); /* one is enough */
    assert_false(cap_yield(&c, &there, now_us));
    cap_give(&c);
    assert_true(cap_kept(&c, &here, now_us));
    assert_false(cap_kept(&c, &there, now_us));
    assert_false(cap_claim(&c, &here, now_us)); /* comes second: waits its turn */
    assert_false(cap_kept(&c, &there, now_us));
    assert_true(cap_claim(&c, &there, now_us)); /* renewed; but the place is there: */
    cap_give(&c);
    assert_true(cap_take(&c));
    assert_false(cap_yield(&c, &here, now_us)); /* nobody owes one */
    assert_true(cap_take(&c));
    cap_unclaim(&c, &there); /* met: now it is the other's turn */
    assert_true(cap_kept(&c, &there, now_us));
    cap_unclaim(&c, &here);
    assert_false(cap_kept(&c, &here, now_us));
    assert_true(cap_claim(&c, &there, now_us));
    now_us += CAP_CLAIM_US; /* whoever does not renew it has lost interest */
    assert_false(cap_kept(&c, &here, now_us));
    assert_true(cap_claim(&c, &here, now_us));
    assert_true(cap_kept(&c, &there, now_us));
}

static void test_reserves_are_left_alone(void **state)
{
    (void)state;
    struct shares s = {0};

    shares_set_whole(&s, 10);
    shares_set_class(&s, 0, 6, CAPS_NO_LIMIT);
    shares_set_class(&s, 1, 1, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(shares_allow(&s, 1, 0));
        shares_lease(&s, 1);
    }
    assert_false(shares_allow(&s, 1, 0)); /* its max */
    for (int i = 0; i < 7; i++) {
        assert_true(shares_allow(&s, 0, 0));
        shares_lease(&s, 0);
    }
    assert_false(shares_allow(&s, 0, 0)); /* all of it */
    shares_unlease(&s, 1);
    shares_unlease(&s, 1);
    assert_true(shares_allow(&s, 0, 0));
    shares_lease(&s, 0);
    shares_lease(&s, 0);
    assert_false(shares_allow(&s, 0, 0)); /* the last one is bulk's own, and in use */
    shares_unlease(&s, 1);
    assert_false(shares_allow(&s, 0, 0)); /* ... and kept for it when it is not */
    shares_set_class(&s, 1, 0, 3);        /* until it has no clients */
    assert_true(shares_allow(&s, 0, 0));
}

/* The sum kept on the side is what plain addition says, whatever happened. */
static void test_sums_hold(void **state)
{
    (void)state;
    struct shares s = {0};
    uint64_t random = 7;

    for (int i = 0; i < CLASSES_MAX; i++)
        shares_set_class(&s, (uint8_t)i, 0, CAPS_NO_LIMIT);
    for (int round = 0; round < 200000; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint8_t c = (uint8_t)((random >> 33) % CLASSES_MAX);
        uint32_t what = (uint32_t)(random >> 40) % 8, n = (uint32_t)(random >> 50) % 9;
        if (what == 0)
            shares_set_class(&s, c, n, n + 3);
        else if (what == 1)
            shares_set_whole(&s, n * 10);
        else if (what < 5)
            shares_lease(&s, c);
        else if (s.at[c].leased_n > 0)
            shares_unlease(&s, c);
        uint32_t kept_n = 0, leased_n = 0;
        for (int i = 0; i < CLASSES_MAX; i++) {
            kept_n += kept(&s.at[i]);
            leased_n += s.at[i].leased_n;
        }
        assert_int_equal(s.kept_n, kept_n);
        assert_int_equal(s.leased_n, leased_n);
        uint32_t others_n = kept_n - kept(&s.at[c]);
        bool may = s.at[c].leased_n < s.at[c].max_n &&
                   (s.whole_n == 0 || s.at[c].leased_n < s.at[c].reserved_n ||
                    s.at[c].leased_n + others_n < s.whole_n);
        assert_true(may == shares_allow(&s, c, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cap_is_a_cap),
        cmocka_unit_test(test_all_or_none),
        cmocka_unit_test(test_threads_share_it),
        cmocka_unit_test(test_claims_keep_the_next_place),
        cmocka_unit_test(test_reserves_are_left_alone),
        cmocka_unit_test(test_sums_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
