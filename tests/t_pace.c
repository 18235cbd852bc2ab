/* The bucket of a class: rate, burst, debt, many takers, clocks that stand still or run backward.
 */
#include "pool/pace.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { KIB = 1024, MIB = 1024 * 1024, START_US = 1000000 };

static struct pace pace;

static void limited(uint64_t rate)
{
    pace_init(&pace);
    pace_set_rate(&pace, rate);
}

/* What one greedy taker gets in these microseconds, asking so often. */
static uint64_t drain(uint64_t from_us, uint64_t us, uint64_t step_us, uint32_t piece_bytes)
{
    uint64_t got = 0;
    for (uint64_t now_us = from_us; now_us <= from_us + us; now_us += step_us)
        while (pace_take(&pace, piece_bytes, now_us))
            got += piece_bytes;
    return got;
}

static void test_no_rate_limits_nothing(void **state)
{
    (void)state;
    pace_init(&pace);
    assert_false(pace_limited(&pace));
    for (int i = 0; i < 1000; i++)
        assert_true(pace_take(&pace, MIB, START_US));
    pace_set_rate(&pace, 0);
    assert_true(pace_limited(&pace)); /* 0 is a rate */
}

static void test_a_limit_begins_empty(void **state)
{
    (void)state;
    limited(MIB);
    assert_false(pace_take(&pace, 1, START_US));
    assert_false(pace_take(&pace, 1, START_US)); /* the clock has not moved */
    assert_true(pace_take(&pace, 1, START_US + 20 * US_PER_MS));
}

static void test_rate_holds_however_often_one_asks(void **state)
{
    (void)state;
    static const uint64_t rates[] = {10 * KIB, MIB, 100 * MIB, 2048ull * MIB};
    static const uint64_t steps_us[] = {1, 100, 1000, 20000};
    static const uint32_t pieces[] = {1000, PACE_PIECE_BYTES};
    for (size_t i = 0; i < COUNT_OF(rates); i++)
        for (size_t j = 0; j < COUNT_OF(steps_us); j++)
            for (size_t k = 0; k < COUNT_OF(pieces); k++) {
                uint64_t seconds = rates[i] < MIB ? 100 : 1;
                if (steps_us[j] < 1000 && seconds > 1)
                    continue;
                limited(rates[i]);
                (void)drain(START_US, 0, 1, pieces[k]); /* starts the clock */
                uint64_t got = drain(START_US, seconds * US_PER_S, steps_us[j], pieces[k]);
                uint64_t due = rates[i] * seconds;
                assert_true(got <= due + pieces[k]); /* the last piece is in debt */
                assert_true(got + due / 100 + pieces[k] >= due);
            }
}

static void test_rest_earns_a_burst_and_no_more(void **state)
{
    (void)state;
    limited(100 * MIB);
    assert_false(pace_take(&pace, 1, START_US));
    uint64_t got = drain(START_US + 3600ull * US_PER_S, 0, 1, PACE_PIECE_BYTES);
    assert_true(got >= 10 * MIB && got <= 10 * MIB + PACE_PIECE_BYTES);
    limited(10 * KIB); /* two pieces where the rate is low */
    assert_false(pace_take(&pace, 1, START_US));
    got = drain(START_US + 3600ull * US_PER_S, 0, 1, PACE_PIECE_BYTES);
    assert_int_equal(got, 2 * PACE_PIECE_BYTES);
}

static void test_what_is_given_back_can_be_taken_again(void **state)
{
    (void)state;
    limited(MIB);
    assert_false(pace_take(&pace, 1, START_US));
    uint64_t now_us = START_US + 10 * US_PER_MS;
    assert_true(pace_take(&pace, PACE_PIECE_BYTES, now_us));
    assert_false(pace_take(&pace, 1, now_us));
    pace_give(&pace, PACE_PIECE_BYTES);
    assert_true(pace_take(&pace, 1, now_us));
    assert_int_equal(pace.paced_bytes, 1);
}

static void test_trickle_is_owed_up_to_a_limit(void **state)
{
    (void)state;
    limited(MIB);
    assert_false(pace_take(&pace, 1, START_US));
    pace_trickle(&pace, PACE_PIECE_BYTES);
    /* 64 KiB of a MiB a second are paid for in 62.5 ms. */
    assert_false(pace_take(&pace, 1, START_US + 62 * US_PER_MS));
    assert_true(pace_take(&pace, 1, START_US + 64 * US_PER_MS));
    for (int i = 0; i < 1000; i++)
        pace_trickle(&pace, PACE_PIECE_BYTES); /* a thousand streams at a rate far below that */
    assert_int_equal(pace.tokens, -2 * PACE_PIECE_BYTES);
    assert_true(pace_take(&pace, 1, START_US + US_PER_S));
}

static void test_rate_nothing_lets_only_the_trickle_through(void **state)
{
    (void)state;
    limited(0);
    assert_int_equal(drain(START_US, 3600ull * US_PER_S, US_PER_S, 1), 0);
    pace_trickle(&pace, PACE_PIECE_BYTES);
    assert_int_equal(pace.paced_bytes, PACE_PIECE_BYTES);
}

/* Many that wait since the same moment do not get their pieces in one. */
static void test_the_starved_are_fed_one_by_one(void **state)
{
    (void)state;
    enum { HUNGRY_N = 60 };
    uint64_t read_us[HUNGRY_N];
    uint32_t first_n = 0, most_n = 0;
    limited(0);
    for (uint32_t i = 0; i < HUNGRY_N; i++)
        read_us[i] = START_US;
    for (uint64_t now_us = START_US; now_us < START_US + 60ull * US_PER_S; now_us += PACE_FILL_US) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < HUNGRY_N; i++) {
            if (!pace_starves(&pace, us_since(read_us[i], now_us), now_us))
                continue;
            assert_true(now_us - read_us[i] >= PACE_HUNGRY_US);
            assert_true(now_us - read_us[i] <= PACE_TRICKLE_US);
            read_us[i] = now_us;
            n++;
        }
        if (now_us < START_US + 30ull * US_PER_S)
            first_n = n > first_n ? n : first_n;
        else
            most_n = n > most_n ? n : most_n;
    }
    assert_true(first_n > 30); /* at first the rest has to be fed at once */
    assert_true(most_n <= 2);
}

static void test_a_new_rate_takes_effect_at_once(void **state)
{
    (void)state;
    limited(100 * MIB);
    assert_false(pace_take(&pace, 1, START_US));
    uint64_t now_us = START_US + US_PER_S;
    assert_true(pace_take(&pace, 1, now_us)); /* nearly 10 MiB are left */
    pace_set_rate(&pace, MIB);
    assert_true(drain(now_us, 0, 1, PACE_PIECE_BYTES) <= 2 * PACE_PIECE_BYTES);
    pace_set_rate(&pace, PACE_RATE_NONE);
    assert_true(pace_take(&pace, 100 * MIB, now_us));
    pace_set_rate(&pace, MIB); /* and what was taken in freedom is not owed, nor is time earned */
    assert_false(pace_take(&pace, 1, now_us + 10ull * US_PER_S));
    assert_true(pace_take(&pace, 1, now_us + 10ull * US_PER_S + 20 * US_PER_MS));
}

static void test_clock_that_stands_or_goes_back_earns_nothing(void **state)
{
    (void)state;
    limited(100 * MIB);
    assert_false(pace_take(&pace, 1, START_US));
    for (int i = 0; i < 100; i++)
        assert_false(pace_take(&pace, 1, START_US));
    for (uint64_t i = 0; i < 100; i++)
        assert_false(pace_take(&pace, 1, START_US - i));
    assert_true(pace_take(&pace, 1, START_US + 2 * US_PER_MS));
}

/* ---- many takers --------------------------------------------------------------------------- */

enum { TAKERS_N = 4, TURNS_N = 20000 };
static _Atomic uint64_t clock_now_us;

static void *taker(void *arg)
{
    uint64_t *got = arg;
    for (int i = 0; i < TURNS_N; i++) {
        uint64_t now_us = atomic_fetch_add(&clock_now_us, 25);
        if (!pace_take(&pace, 4096, now_us))
            continue;
        uint32_t back = i % 3 == 0 ? 4096 : 0;
        *got += 4096 - back;
        if (back > 0)
            pace_give(&pace, back);
    }
    return NULL;
}

static void test_many_takers_get_no_more_than_one(void **state)
{
    (void)state;
    pthread_t threads[TAKERS_N];
    uint64_t got[TAKERS_N] = {0}, all = 0;
    limited(10 * MIB);
    assert_false(pace_take(&pace, 1, START_US));
    atomic_store(&clock_now_us, START_US);
    for (int i = 0; i < TAKERS_N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, taker, &got[i]), 0);
    for (int i = 0; i < TAKERS_N; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        all += got[i];
    }
    uint64_t due = 10ull * MIB * TAKERS_N * TURNS_N * 25 / US_PER_S;
    assert_true(all <= due + TAKERS_N * 4096);
    assert_true(all >= due / 2); /* whoever the scheduler kept from asking lost some */
    assert_int_equal(pace.paced_bytes, all);
}

static void test_streams_are_counted(void **state)
{
    (void)state;
    pace_init(&pace);
    pace_join(&pace);
    pace_join(&pace);
    pace_leave(&pace);
    assert_int_equal(pace.streams_n, 1);
    pace_note_held(&pace, 5);
    pace_note_held(&pace, 7);
    assert_int_equal(pace.held_us, 12);
}

/* What the class may read in one beat, never less than a piece nor more than the most. */
static void test_a_portion_is_one_beat_of_the_class(void **state)
{
    (void)state;
    limited(0);
    assert_int_equal(pace_portion_bytes(&pace), PACE_PIECE_BYTES);
    pace_set_rate(&pace, MIB);
    assert_int_equal(pace_portion_bytes(&pace), PACE_PIECE_BYTES);
    pace_set_rate(&pace, 10 * MIB);
    assert_int_equal(pace_portion_bytes(&pace), 10 * MIB / 50);
    pace_set_rate(&pace, 200ull * MIB);
    assert_int_equal(pace_portion_bytes(&pace), PACE_PORTION_BYTES_MAX);
    pace_set_rate(&pace, PACE_RATE_NONE);
    assert_int_equal(pace_portion_bytes(&pace), PACE_PORTION_BYTES_MAX);
}

/* Beats of a few loops, in each of which all streams ask that are there. */
enum { STREAMS_N = 5 };
struct beats {
    uint64_t now_us, tickets[STREAMS_N];
    uint64_t had_us[STREAMS_N], last_us[STREAMS_N];
    uint32_t there;  /* bits */
    uint32_t both_n; /* beats with more than one */
};

static void beat(struct beats *b, uint64_t us)
{
    for (uint64_t end_us = b->now_us + us; b->now_us < end_us; b->now_us += PACE_FILL_US) {
        uint32_t had_n = 0;
        for (uint32_t i = 0; i < STREAMS_N; i++) {
            if (!(b->there & BIT(i)) || !pace_turn(&pace, &b->tickets[i], b->now_us))
                continue;
            b->had_us[i] += PACE_FILL_US;
            b->last_us[i] = b->now_us;
            had_n++;
        }
        b->both_n += had_n > 1;
    }
}

static void test_streams_read_one_by_one(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(STREAMS_N) - 1};
    limited(0);
    beat(&b, 10 * STREAMS_N * PACE_TURN_US);
    assert_int_equal(b.both_n, 0);
    for (uint32_t i = 0; i < STREAMS_N; i++) {
        assert_true(b.had_us[i] >= 9 * PACE_TURN_US && b.had_us[i] <= 11 * PACE_TURN_US);
        assert_true(b.now_us - b.last_us[i] < (STREAMS_N + 1) * PACE_TURN_US);
    }
}

static void test_one_alone_always_reads(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(2)};
    limited(0);
    beat(&b, 20 * PACE_TURN_US);
    assert_true(b.had_us[2] >= 20 * PACE_TURN_US - PACE_FILL_US);
}

static void test_who_does_not_ask_loses_its_turn(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(STREAMS_N) - 1};
    limited(0);
    beat(&b, PACE_TURN_US / 2);
    b.there = BIT(4); /* the others, one of them in its turn, neither ask nor say goodbye */
    beat(&b, 2 * PACE_TURN_US);
    assert_true(b.had_us[4] >= 2 * PACE_TURN_US - 5 * (PACE_IDLE_US + PACE_FILL_US));
    b.there = BIT(STREAMS_N) - 1;
    memset(b.had_us, 0, sizeof b.had_us);
    beat(&b, 2 * STREAMS_N * PACE_TURN_US);
    for (uint32_t i = 0; i < STREAMS_N; i++)
        assert_true(b.had_us[i] >= PACE_TURN_US);
}

static void test_who_leaves_hands_on(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(0) | BIT(1)};
    limited(0);
    beat(&b, PACE_TURN_US / 2);
    assert_int_equal(b.had_us[1], 0);
    pace_turn_over(&pace, &b.tickets[0]);
    assert_int_equal(b.tickets[0], 0);
    b.there = BIT(1);
    beat(&b, PACE_FILL_US);
    assert_int_equal(b.had_us[1], PACE_FILL_US);
}

/* Streams that end while they wait, by what they get out of turn, leave their numbers behind. */
static void test_numbers_of_the_gone_hold_up_nobody(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(0)};
    limited(0);
    beat(&b, PACE_FILL_US);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t gone = 0;
        assert_false(pace_turn(&pace, &gone, b.now_us));
        pace_turn_over(&pace, &gone);
    }
    b.there = BIT(0) | BIT(1);
    beat(&b, 3 * PACE_TURN_US);
    assert_true(b.had_us[1] >= PACE_TURN_US - PACE_FILL_US);
    assert_int_equal(b.both_n, 0);
}

/* Tickets of an earlier limit, of streams that have gone, hold up nobody under the next one. */
static void test_a_new_limit_begins_a_new_queue(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(STREAMS_N) - 1};
    limited(0);
    beat(&b, PACE_FILL_US);
    pace_set_rate(&pace, PACE_RATE_NONE);
    pace_set_rate(&pace, 0);
    b = (struct beats){.now_us = b.now_us, .there = BIT(3)};
    beat(&b, PACE_FILL_US);
    assert_int_equal(b.had_us[3], PACE_FILL_US);
}

/* One backend may be slower than the rate: then others read as well, so that it is used. */
static void test_what_is_left_over_goes_to_others(void **state)
{
    (void)state;
    struct beats b = {.now_us = START_US, .there = BIT(0) | BIT(1)};
    limited(MIB);
    beat(&b, 10 * PACE_FILL_US); /* the bucket is full */
    assert_true(b.both_n > 0);
    uint32_t both_n = b.both_n;
    while (pace_take(&pace, PACE_PIECE_BYTES, b.now_us))
        continue;
    beat(&b, PACE_FILL_US);
    assert_int_equal(b.both_n, both_n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rate_limits_nothing),
        cmocka_unit_test(test_a_limit_begins_empty),
        cmocka_unit_test(test_rate_holds_however_often_one_asks),
        cmocka_unit_test(test_rest_earns_a_burst_and_no_more),
        cmocka_unit_test(test_what_is_given_back_can_be_taken_again),
        cmocka_unit_test(test_trickle_is_owed_up_to_a_limit),
        cmocka_unit_test(test_rate_nothing_lets_only_the_trickle_through),
        cmocka_unit_test(test_the_starved_are_fed_one_by_one),
        cmocka_unit_test(test_a_new_rate_takes_effect_at_once),
        cmocka_unit_test(test_clock_that_stands_or_goes_back_earns_nothing),
        cmocka_unit_test(test_many_takers_get_no_more_than_one),
        cmocka_unit_test(test_streams_are_counted),
        cmocka_unit_test(test_a_portion_is_one_beat_of_the_class),
        cmocka_unit_test(test_streams_read_one_by_one),
        cmocka_unit_test(test_one_alone_always_reads),
        cmocka_unit_test(test_who_does_not_ask_loses_its_turn),
        cmocka_unit_test(test_who_leaves_hands_on),
        cmocka_unit_test(test_numbers_of_the_gone_hold_up_nobody),
        cmocka_unit_test(test_a_new_limit_begins_a_new_queue),
        cmocka_unit_test(test_what_is_left_over_goes_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
