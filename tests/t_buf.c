/* The buffer against a plain array as its model, and the edges: limit, no memory, poison. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int mallocs_left = -1; /* -1: memory never ends */

static void *scarce_malloc(size_t n)
{
    if (mallocs_left == 0)
        return NULL;
    if (mallocs_left > 0)
        mallocs_left--;
    return malloc(n);
}

#define malloc(n) scarce_malloc(n)
#include "proxy/buf.c"
#undef malloc

static void check_view(const struct buf *b, const void *bytes, size_t n)
{
    struct view v = buf_view(b);

    assert_int_equal(v.n, n);
    assert_false(v.bad);
    if (n > 0)
        assert_memory_equal(v.at, bytes, n);
}

static void memory_exists_only_while_needed(void **state)
{
    struct buf b = {.max = 1000};

    (void)state;
    check_view(&b, NULL, 0);
    assert_true(buf_put(&b, "", 0));
    assert_null(b.at);
    assert_true(buf_put(&b, "abc", 3));
    assert_non_null(b.at);
    assert_int_equal(b.cap, BUF_BYTES_MIN);
    check_view(&b, "abc", 3);
    buf_take(&b, 2);
    check_view(&b, "c", 1);
    buf_take(&b, 1);
    assert_null(b.at);
    assert_int_equal(b.cap, 0);
    assert_true(buf_put_u32(&b, 0x01020304));
    check_view(&b, "\1\2\3\4", 4);
    buf_free(&b);
    assert_null(b.at);
    assert_int_equal(b.max, 1000);
}

static void capacities_are_powers_of_two(void **state)
{
    static const struct {
        uint32_t bytes, cap;
    } cases[] = {{1, 128},   {128, 128},   {129, 256},     {256, 256},
                 {257, 512}, {1000, 1024}, {65536, 65536}, {65537, 131072}};
    uint8_t *bytes = calloc(1, 65537);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = {.max = 1 << 20};
        assert_true(buf_put(&b, bytes, cases[i].bytes));
        assert_int_equal(b.cap, cases[i].cap);
        buf_free(&b);
    }
    free(bytes);
}

static void the_limit_is_exact_and_leaves_contents_alone(void **state)
{
    struct buf b = {.max = 10};

    (void)state;
    assert_true(buf_put(&b, "12345678", 8));
    assert_false(buf_put(&b, "abc", 3));
    check_view(&b, "12345678", 8);
    assert_true(buf_put(&b, "ab", 2));
    assert_false(buf_put_u8(&b, 'x'));
    assert_false(buf_reserve(&b, SIZE_MAX));
    check_view(&b, "12345678ab", 10);
    buf_take(&b, 5);
    assert_true(buf_put(&b, "vwxyz", 5));
    assert_false(buf_put_u8(&b, '!'));
    check_view(&b, "678abvwxyz", 10);
    buf_free(&b);
    struct buf none = {.max = 0};
    assert_false(buf_put_u8(&none, 1));
    assert_null(none.at);
}

static void no_memory_is_false_and_leaves_contents_alone(void **state)
{
    struct buf b = {.max = 1 << 20};
    uint8_t bytes[500] = {7};

    (void)state;
    mallocs_left = 0;
    assert_false(buf_put(&b, "x", 1));
    assert_null(b.at);
    mallocs_left = 1;
    assert_true(buf_put(&b, "abc", 3));
    assert_false(buf_put(&b, bytes, sizeof(bytes)));
    check_view(&b, "abc", 3);
    mallocs_left = -1;
    assert_true(buf_put(&b, bytes, sizeof(bytes)));
    assert_int_equal(buf_used(&b), 503);
    buf_free(&b);
}

static void room_respects_limit_and_capacity(void **state)
{
    struct buf b = {.max = 200};
    size_t n = 99;

    (void)state;
    (void)buf_room(&b, &n);
    assert_int_equal(n, 0);
    assert_true(buf_reserve(&b, 129));
    uint8_t *at = buf_room(&b, &n);
    assert_int_equal(b.cap, 256);
    assert_int_equal(n, 200);
    memset(at, 'r', 200);
    buf_filled(&b, 150);
    assert_int_equal(buf_used(&b), 150);
    (void)buf_room(&b, &n);
    assert_int_equal(n, 50);
    buf_filled(&b, 0);
    buf_take(&b, 150);
    assert_null(b.at);
    assert_true(buf_reserve(&b, 1));
    (void)buf_room(&b, &n);
    buf_filled(&b, 0); /* nothing came: nothing is kept */
    assert_null(b.at);
}

static void lengths_are_set_and_messages_taken_back(void **state)
{
    struct buf b = {.max = 1000};

    (void)state;
    assert_true(buf_put(&b, "xxABCDEF", 8));
    buf_take(&b, 2);
    buf_set_u32(&b, 1, 0x31323334);
    check_view(&b, "A1234F", 6);
    buf_truncate(&b, 5);
    check_view(&b, "A1234", 5);
    buf_truncate(&b, 0);
    assert_null(b.at);
}

static void bytes_behind_the_end_are_poisoned(void **state)
{
    struct buf b = {.max = 1000};
    size_t n;

    (void)state;
    assert_true(buf_put(&b, "0123456789", 10));
#if defined(__SANITIZE_ADDRESS__)
    assert_int_equal(__asan_address_is_poisoned(b.at + 9), 0);
    assert_int_equal(__asan_address_is_poisoned(b.at + 10), 1);
    (void)buf_room(&b, &n);
    assert_int_equal(__asan_address_is_poisoned(b.at + 10), 0);
    buf_filled(&b, 3);
    assert_int_equal(__asan_address_is_poisoned(b.at + 12), 0);
    assert_int_equal(__asan_address_is_poisoned(b.at + 13), 1);
    buf_truncate(&b, 4);
    assert_int_equal(__asan_address_is_poisoned(b.at + 4), 1);
#else
    (void)buf_room(&b, &n);
    assert_int_equal(n, BUF_BYTES_MIN - 10);
#endif
    buf_free(&b);
}

/* A seeded walk of puts and takes beside an array that can do no wrong. */
static void behaves_like_an_array(void **state)
{
    enum { MODEL_MAX = 3000 };
    uint8_t model[MODEL_MAX], piece[700];
    size_t model_n = 0;
    uint32_t seed = 12345;
    uint8_t next = 0;
    struct buf b = {.max = MODEL_MAX};

    (void)state;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525 + 1013904223;
        size_t n = (seed >> 8) % sizeof(piece);
        if (seed >> 31) {
            for (size_t i = 0; i < n; i++)
                piece[i] = next++;
            bool fits = model_n + n <= MODEL_MAX;
            assert_int_equal(buf_put(&b, piece, n), fits);
            if (fits)
                memcpy(model + model_n, piece, n);
            model_n += fits ? n : 0;
        } else {
            n = n < model_n ? n : model_n;
            buf_take(&b, n);
            memmove(model, model + n, model_n - n);
            model_n -= n;
        }
        check_view(&b, model, model_n);
        assert_true(b.cap <= 4096);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_exists_only_while_needed),
        cmocka_unit_test(capacities_are_powers_of_two),
        cmocka_unit_test(the_limit_is_exact_and_leaves_contents_alone),
        cmocka_unit_test(no_memory_is_false_and_leaves_contents_alone),
        cmocka_unit_test(room_respects_limit_and_capacity),
        cmocka_unit_test(lengths_are_set_and_messages_taken_back),
        cmocka_unit_test(bytes_behind_the_end_are_poisoned),
        cmocka_unit_test(behaves_like_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
