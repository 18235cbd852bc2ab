/* Which host a client is sent to: target_session_attrs, route = replica, lag; and what an upstream
 * publishes of itself. */
#include "pool/target.c"

#include "tests/pool_world.h"

static const struct target_host unknown = {.role = UPSTREAM_ROLE_UNKNOWN};
static const struct target_host primary = {.role = UPSTREAM_PRIMARY};
static const struct target_host frozen = {.role = UPSTREAM_PRIMARY, .read_only = true};
static const struct target_host rival = {.role = UPSTREAM_PRIMARY, .rival = true};
static const struct target_host standby = {.role = UPSTREAM_STANDBY};
static const struct target_host late = {.role = UPSTREAM_STANDBY, .late_mask = BIT(BULK)};
static const struct target_host gone = {.role = UPSTREAM_GONE};
static const struct target_host down = {.role = UPSTREAM_PRIMARY, .down = true};

/* libpq's table, and ours for classes. */
static void each_target_takes_what_libpq_would(void **state)
{
    (void)state;
    enum { U, P, F, S, G, D, R, HOSTS };
    const struct target_host *const hosts[HOSTS] = {&unknown, &primary, &frozen, &standby,
                                                    &gone,    &down,    &rival};
    static const struct {
        enum target_attrs attrs;
        enum target_fit fit[HOSTS];
    } rows[] = {
        /* unknown, primary, read-only primary, standby, gone, down, second primary */
        {TARGET_UNSET, {2, 2, 2, 2, 0, 0, 2}},          {TARGET_ANY, {2, 2, 2, 2, 0, 0, 2}},
        {TARGET_READ_WRITE, {0, 2, 0, 0, 0, 0, 0}},     {TARGET_READ_ONLY, {0, 0, 2, 2, 0, 0, 0}},
        {TARGET_PRIMARY, {0, 2, 2, 0, 0, 0, 0}},        {TARGET_STANDBY, {0, 0, 0, 2, 0, 0, 0}},
        {TARGET_PREFER_STANDBY, {1, 1, 1, 2, 0, 0, 1}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct target_want want = {.attrs = rows[i].attrs};
        for (size_t k = 0; k < HOSTS; k++) {
            assert_int_equal(target_fit(&want, hosts[k]), rows[i].fit[k]);
            assert_int_equal(target_unfit_why(&want, hosts[k]) == NULL, rows[i].fit[k] != 0);
        }
    }
}

static void a_replica_is_a_standby_that_is_near(void **state)
{
    (void)state;
    struct target_want want = {.attrs = TARGET_READ_WRITE, .replica = true, .class_i = BULK};
    assert_int_equal(target_fit(&want, &standby), TARGET_FIT);
    assert_int_equal(target_fit(&want, &late), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &primary), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &unknown), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &gone), TARGET_UNFIT);
    want.class_i = BACKUP; /* another class bears it */
    assert_int_equal(target_fit(&want, &late), TARGET_FIT);
    want.fallback = true;
    assert_int_equal(target_fit(&want, &primary), TARGET_SECOND_CHOICE);
    assert_int_equal(target_fit(&want, &down), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &rival), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &unknown), TARGET_UNFIT);
    assert_int_equal(target_fit(&want, &standby), TARGET_FIT);
}

static void the_best_is_chosen_and_kept(void **state)
{
    (void)state;
    struct target_want rw = {.attrs = TARGET_READ_WRITE};
    struct target_host hosts[] = {standby, primary, standby};
    for (uint32_t turn = 0; turn < 5; turn++)
        for (int present = TARGET_NONE; present < 3; present++)
            assert_int_equal(target_choose(&rw, hosts, 3, present, turn), 1);
    hosts[1] = gone;
    assert_int_equal(target_choose(&rw, hosts, 3, 1, 0), TARGET_NONE);
    hosts[2] = primary;
    assert_int_equal(target_choose(&rw, hosts, 3, 1, 0), 2);

    /* of equals, the present one; else by turns */
    struct target_want ro = {.attrs = TARGET_STANDBY};
    struct target_host equals[] = {standby, primary, standby, standby};
    assert_int_equal(target_choose(&ro, equals, 4, 2, 0), 2);
    assert_int_equal(target_choose(&ro, equals, 4, TARGET_NONE, 0), 0);
    assert_int_equal(target_choose(&ro, equals, 4, TARGET_NONE, 1), 2);
    assert_int_equal(target_choose(&ro, equals, 4, TARGET_NONE, 3), 3);
    assert_int_equal(target_choose(&ro, equals, 4, TARGET_NONE, UINT32_MAX), 3);
    assert_int_equal(target_choose(&ro, equals, 4, 1, 1), 2);

    /* a second choice is left as soon as there is a first */
    struct target_want prefer = {.attrs = TARGET_PREFER_STANDBY};
    struct target_host two[] = {primary, gone};
    assert_int_equal(target_choose(&prefer, two, 2, 0, 1), 0);
    two[1] = standby;
    assert_int_equal(target_choose(&prefer, two, 2, 0, 0), 1);
}

/* Whatever the hosts are: never one that is unfit, and never a worse one than there is. */
static void no_choice_is_ever_unfit(void **state)
{
    (void)state;
    const struct target_host *const kinds[] = {&unknown, &primary, &frozen, &standby,
                                               &late,    &gone,    &down,   &rival};
    uint32_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        struct target_host hosts[4];
        uint32_t draw[8];
        for (size_t i = 0; i < COUNT_OF(draw); i++)
            draw[i] = seed = seed * 1664525u + 1013904223u;
        for (size_t i = 0; i < 4; i++)
            hosts[i] = *kinds[(draw[i] >> 16) % COUNT_OF(kinds)];
        struct target_want want = {.attrs = (draw[4] >> 16) % (TARGET_PREFER_STANDBY + 1),
                                   .replica = draw[5] >> 31,
                                   .fallback = draw[5] >> 30 & 1,
                                   .class_i = (uint8_t)(BULK + (draw[5] >> 29 & 1))};
        int present = (int)((draw[6] >> 16) % 5) - 1;
        int choice = target_choose(&want, hosts, 4, present, draw[7]);
        enum target_fit chosen =
            choice == TARGET_NONE ? TARGET_UNFIT : target_fit(&want, &hosts[choice]);
        assert_int_equal(chosen == TARGET_UNFIT, choice == TARGET_NONE);
        for (size_t i = 0; i < 4; i++)
            assert_true(target_fit(&want, &hosts[i]) <= chosen);
        if (present >= 0 && chosen != TARGET_UNFIT && target_fit(&want, &hosts[present]) == chosen)
            assert_int_equal(choice, present);
        if (want.replica && !want.fallback && choice != TARGET_NONE)
            assert_int_equal(hosts[choice].role, UPSTREAM_STANDBY);
    }
}

static void a_lag_at_the_bound_does_not_flap(void **state)
{
    (void)state;
    const uint64_t max_us = 30ull * US_PER_S;
    assert_false(target_late(false, max_us, max_us));
    assert_true(target_late(false, max_us + 1, max_us));
    assert_true(target_late(true, max_us, max_us));
    assert_true(target_late(true, 25ull * US_PER_S, max_us));
    assert_false(target_late(true, 24ull * US_PER_S, max_us));
    assert_false(target_late(true, UINT64_MAX - 1, 0));
    assert_false(target_late(true, UINT64_MAX, max_us));
}

static struct target_host standing(void)
{
    struct target_host host;
    target_standing(t.upstream, &host);
    return host;
}

static void an_upstream_publishes_what_it_is(void **state)
{
    (void)state;
    struct upstream_facts facts = {.role = UPSTREAM_STANDBY, .told_us = t.now_us};
    t.classes.at[BULK].route = CLASS_ROUTE_REPLICA;
    t.classes.at[BULK].max_lag_us = US_PER_S;
    assert_false(target_publish(t.upstream, &t.classes, t.now_us));
    assert_int_equal(standing().role, UPSTREAM_ROLE_UNKNOWN);
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_false(target_publish(t.upstream, &t.classes, t.now_us)); /* once is enough */
    assert_int_equal(standing().role, UPSTREAM_STANDBY);
    assert_int_equal(standing().late_mask, 0);
    facts.lag_us = 2 * US_PER_S;
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_int_equal(standing().late_mask, BIT(BULK)); /* not of classes that ask for no replica */
    facts =
        (struct upstream_facts){.role = UPSTREAM_PRIMARY, .read_only = true, .told_us = t.now_us};
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_int_equal(standing().role, UPSTREAM_PRIMARY);
    assert_true(standing().read_only);
    assert_int_equal(standing().late_mask, 0);
}

/* Nobody writes to a new primary before it is known whether there is another one. */
static void a_new_primary_is_a_rival_until_it_is_judged(void **state)
{
    (void)state;
    struct upstream_facts facts = {.role = UPSTREAM_PRIMARY, .told_us = t.now_us};
    assert_false(target_judge_rival(t.upstream, true)); /* it is no primary at all */
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_true(standing().rival);
    assert_false(target_judge_rival(t.upstream, true));
    assert_true(target_judge_rival(t.upstream, false));
    assert_false(target_publish(t.upstream, &t.classes, t.now_us));
    assert_false(standing().rival);
    facts.role = UPSTREAM_GONE;
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_false(standing().rival);
    facts.role = UPSTREAM_PRIMARY;
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_true(standing().rival); /* others may have taken over meanwhile */
}

/* Down is what its error breaker says, until somebody gets through again. */
static void an_open_error_breaker_is_down(void **state)
{
    (void)state;
    struct upstream_facts facts = {.role = UPSTREAM_PRIMARY, .told_us = t.now_us};
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    t.reachable = false;
    for (int i = 0; i < 20; i++) {
        upstream_tell_unreachable(t.upstream, t.now_us);
        pass(200 * US_PER_MS);
    }
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_true(standing().down);
    facts.told_us = t.now_us;
    upstream_tell_facts(t.upstream, &facts);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us));
    assert_false(standing().down);
    assert_true(target_publish(t.upstream, &t.classes, t.now_us + 3ull * US_PER_S));
    assert_true(standing().down); /* that was long ago */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_target_takes_what_libpq_would),
        cmocka_unit_test(a_replica_is_a_standby_that_is_near),
        cmocka_unit_test(the_best_is_chosen_and_kept),
        cmocka_unit_test(no_choice_is_ever_unfit),
        cmocka_unit_test(a_lag_at_the_bound_does_not_flap),
        SCENE(an_upstream_publishes_what_it_is),
        SCENE(a_new_primary_is_a_rival_until_it_is_judged),
        SCENE(an_open_error_breaker_is_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
