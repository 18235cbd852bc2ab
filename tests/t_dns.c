/* The resolver with a DNS of our own behind it, that can be told to fail, to hang, and to change
 * its mind; and real loops that open its letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netdb.h>

static int fake_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out);
#define getaddrinfo fake_getaddrinfo
#include "proxy/dns.c"
#undef getaddrinfo

/* ---- the DNS ------------------------------------------------------------------------------ */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* lock guards all below */
    int failure; /* what every look-up but "other" says */
    bool hangs;  /* names that begin with "silent" get no answer */
    int asked_n; /* look-ups begun */
    int hung_n;  /* ... that hang now */
    const char *addrs[DNS_ADDRS_MAX + 2];
} fake = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .addrs = {"10.0.0.1"}};

static int fake_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out)
{
    struct addrinfo numeric = *hints;
    int failure;

    numeric.ai_flags |= AI_NUMERICHOST;
    if (hints->ai_flags & AI_NUMERICHOST)
        return getaddrinfo(host, service, hints, out);
    pthread_mutex_lock(&fake.lock);
    fake.asked_n++;
    if (strncmp(host, "silent", 6) == 0) {
        fake.hung_n++;
        pthread_cond_broadcast(&fake.changed);
        while (fake.hangs)
            pthread_cond_wait(&fake.changed, &fake.lock);
        fake.hung_n--;
    }
    failure = fake.failure;
    for (size_t i = 0; !failure && i < COUNT_OF(fake.addrs) && fake.addrs[i]; i++) {
        must(getaddrinfo(fake.addrs[i], service, &numeric, out) == 0);
        while (*out)
            out = &(*out)->ai_next;
    }
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    return failure;
}

static void fake_says(int failure, const char *address)
{
    pthread_mutex_lock(&fake.lock);
    fake.failure = failure;
    memset(fake.addrs, 0, sizeof(fake.addrs));
    fake.addrs[0] = address;
    pthread_mutex_unlock(&fake.lock);
}

static void fake_hangs(bool hangs)
{
    pthread_mutex_lock(&fake.lock);
    fake.hangs = hangs;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static void wait_until_hung(int hung_n)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.hung_n != hung_n)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

static int asked_n(void)
{
    pthread_mutex_lock(&fake.lock);
    int n = fake.asked_n;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

/* ---- a loop that asks ----------------------------------------------------------------------- */

struct world {
    struct dns *dns;
    struct worker worker;
    int expected_n; /* answers the loop runs for */
};

static int open_world(void **state)
{
    static const struct dns_opts opts = {.max_ttl_us = 3600ull * US_PER_S,
                                         .nxdomain_ttl_us = 3600ull * US_PER_S};
    struct world *world = calloc(1, sizeof(*world));
    struct err err;

    assert_non_null(world);
    assert_true(worker_init(&world->worker, 1, &err));
    assert_true(dns_open(&world->dns, &opts, &err));
    fake_says(0, "10.0.0.1");
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;

    dns_close(&world->dns);
    worker_free(&world->worker);
    free(world);
    return 0;
}

static void answered(struct worker *w, struct dns_ask *ask)
{
    struct world *world = ask->owner;

    must(w == &world->worker);
    if (--world->expected_n == 0)
        worker_stop(w);
}

static struct dns_ask *ask_for(struct world *world, const char *host)
{
    struct dns_ask *ask = dns_ask_new(host, 5432);

    assert_non_null(ask);
    ask->done = answered;
    ask->owner = world;
    return ask;
}

/* Runs the loop until n answers have come. */
static void run_for(struct world *world, int n)
{
    world->expected_n = n;
    world->worker.stopping = false;
    worker_run(&world->worker);
    assert_int_equal(world->expected_n, 0);
}

/* Asks and waits; whether the answer was there at once. */
static bool resolve(struct world *world, struct dns_ask *ask)
{
    if (dns_resolve(world->dns, &world->worker, ask) == DNS_READY)
        return true;
    run_for(world, 1);
    return false;
}

static void assert_address(const struct dns_ask *ask, uint32_t i, const char *text, uint16_t port)
{
    char shown[INET6_ADDRSTRLEN], service[8];

    assert_true(i < ask->addrs_n);
    assert_int_equal(getnameinfo((const struct sockaddr *)&ask->addrs[i].sa, ask->addrs[i].sa_bytes,
                                 shown, sizeof(shown), service, sizeof(service),
                                 NI_NUMERICHOST | NI_NUMERICSERV),
                     0);
    assert_string_equal(shown, text);
    assert_int_equal(strtol(service, NULL, 10), port);
}

/* ---- without the threads -------------------------------------------------------------------- */

static void addresses_are_answered_at_once(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "2001:db8::1"};
    struct world *world = *state;
    int before_n = asked_n();

    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        struct dns_ask *ask = ask_for(world, hosts[i]);
        assert_int_equal(dns_resolve(world->dns, &world->worker, ask), DNS_READY);
        assert_int_equal(ask->addrs_n, 1);
        assert_address(ask, 0, hosts[i], 5432);
        dns_ask_drop(&ask);
        assert_null(ask);
    }
    assert_int_equal(asked_n(), before_n);
}

static void unix_sockets_are_answered_at_once(void **state)
{
    static const char path[] = "/run/pg/.s.PGSQL.5432", name[] = "\0pg/.s.PGSQL.5432";
    struct world *world = *state;
    struct dns_ask *ask = ask_for(world, "/run/pg");
    const struct sockaddr_un *sun = (const struct sockaddr_un *)&ask->addrs[0].sa;
    size_t head_bytes = offsetof(struct sockaddr_un, sun_path);

    assert_int_equal(dns_resolve(world->dns, &world->worker, ask), DNS_READY);
    assert_int_equal(ask->addrs_n, 1);
    assert_int_equal(sun->sun_family, AF_UNIX);
    assert_string_equal(sun->sun_path, path);
    assert_int_equal(ask->addrs[0].sa_bytes, head_bytes + sizeof(path));
    dns_ask_drop(&ask);
    ask = ask_for(world, "@pg");
    sun = (const struct sockaddr_un *)&ask->addrs[0].sa;
    assert_int_equal(dns_resolve(world->dns, &world->worker, ask), DNS_READY);
    assert_memory_equal(sun->sun_path, name, sizeof(name) - 1);
    assert_int_equal(ask->addrs[0].sa_bytes, head_bytes + sizeof(name) - 1);
    dns_ask_drop(&ask);
}

static void names_beyond_the_limits_are_errors(void **state)
{
    struct world *world = *state;
    char host[DNS_HOST_MAX + 2];

    memset(host, 'h', sizeof(host));
    host[sizeof(host) - 1] = '\0';
    struct dns_ask *longest = ask_for(world, host + 1), *longer = ask_for(world, host);
    struct dns_ask *empty = ask_for(world, "");
    host[0] = '/';
    struct dns_ask *path =
        ask_for(world, "/a/path/that/is/longer/than/what/the/kernel/takes/for/an/"
                       "address/of/a/unix/socket/which/is/108/bytes/all/told");
    assert_false(resolve(world, longest));
    assert_int_equal(longest->addrs_n, 1);
    assert_true(resolve(world, longer) && resolve(world, empty) && resolve(world, path));
    assert_int_equal(longer->addrs_n + empty->addrs_n + path->addrs_n, 0);
    assert_true(longer->err.text[0] && empty->err.text[0] && path->err.text[0]);
    assert_true(resolve(world, longer)); /* and again */
    assert_int_equal(longer->addrs_n, 0);
    dns_ask_drop(&longest);
    dns_ask_drop(&longer);
    dns_ask_drop(&empty);
    dns_ask_drop(&path);
}

/* ---- names ------------------------------------------------------------------------------------
 */

static void an_answer_comes_by_letter_and_stays(void **state)
{
    struct world *world = *state;
    struct dns_ask *ask = ask_for(world, "db"), *again;
    int before_n = asked_n();

    assert_false(resolve(world, ask));
    assert_address(ask, 0, "10.0.0.1", 5432);
    assert_int_equal(ask->addrs_n, 1);
    fake_says(0, "10.0.0.2");
    again = dns_ask_new("db", 6432);
    assert_true(resolve(world, again));
    assert_address(again, 0, "10.0.0.1", 6432);
    assert_int_equal(asked_n(), before_n + 1);
    dns_ask_drop(&ask);
    dns_ask_drop(&again);
}

static void asks_for_one_name_share_a_look_up(void **state)
{
    struct world *world = *state;
    struct dns_ask *asks[50];
    int before_n = asked_n();

    fake_hangs(true);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        asks[i] = ask_for(world, "silent");
        assert_int_equal(dns_resolve(world->dns, &world->worker, asks[i]), DNS_LATER);
    }
    wait_until_hung(1);
    fake_hangs(false);
    run_for(world, COUNT_OF(asks));
    assert_int_equal(asked_n(), before_n + 1);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        assert_address(asks[i], 0, "10.0.0.1", 5432);
        dns_ask_drop(&asks[i]);
    }
}

static void all_addresses_are_handed_out_up_to_the_limit(void **state)
{
    struct world *world = *state;
    struct dns_ask *ask = ask_for(world, "many");

    pthread_mutex_lock(&fake.lock);
    for (size_t i = 0; i < COUNT_OF(fake.addrs); i++)
        fake.addrs[i] = i == 1 ? "2001:db8::7" : "10.1.1.1";
    pthread_mutex_unlock(&fake.lock);
    assert_false(resolve(world, ask));
    assert_int_equal(ask->addrs_n, DNS_ADDRS_MAX);
    assert_address(ask, 0, "10.1.1.1", 5432);
    assert_address(ask, 1, "2001:db8::7", 5432);
    dns_ask_drop(&ask);
}

static void a_dropped_ask_is_not_called(void **state)
{
    struct world *world = *state;
    struct dns_ask *dropped = ask_for(world, "silent"), *kept = ask_for(world, "silent");

    fake_hangs(true);
    dropped->owner = NULL; /* would crash */
    assert_int_equal(dns_resolve(world->dns, &world->worker, dropped), DNS_LATER);
    assert_int_equal(dns_resolve(world->dns, &world->worker, kept), DNS_LATER);
    dns_ask_drop(&dropped);
    assert_null(dropped);
    fake_hangs(false);
    run_for(world, 1);
    assert_address(kept, 0, "10.0.0.1", 5432);
    dns_ask_drop(&kept);
    dns_ask_drop(&kept); /* nothing is fine */
}

static void answers_are_forgotten_after_their_time(void **state)
{
    static const struct dns_opts none = {.max_ttl_us = 0, .nxdomain_ttl_us = 0};
    struct world *world = *state;
    struct dns_ask *ask = ask_for(world, "db");

    dns_set_ttl(world->dns, &none);
    assert_false(resolve(world, ask));
    fake_says(0, "10.0.0.2");
    assert_false(resolve(world, ask));
    assert_address(ask, 0, "10.0.0.2", 5432);
    fake_says(EAI_NONAME, NULL);
    assert_false(resolve(world, ask));
    assert_int_equal(ask->addrs_n, 0);
    dns_ask_drop(&ask);
}

static void a_failure_says_why_and_stays_as_well(void **state)
{
    struct world *world = *state;
    struct dns_ask *ask = ask_for(world, "missing");

    fake_says(EAI_NONAME, NULL);
    assert_false(resolve(world, ask));
    assert_int_equal(ask->addrs_n, 0);
    assert_string_equal(ask->err.text,
                        "server DNS lookup failed: \"missing\": Name or service not known");
    fake_says(0, "10.0.0.1");
    assert_true(resolve(world, ask));
    assert_int_equal(ask->addrs_n, 0);
    dns_ask_drop(&ask);
}

static void a_dns_that_fails_does_not_take_servers_away(void **state)
{
    static const struct dns_opts none = {.max_ttl_us = 0, .nxdomain_ttl_us = 0};
    struct world *world = *state;
    struct dns_ask *known = ask_for(world, "known"), *unknown = ask_for(world, "unknown");

    dns_set_ttl(world->dns, &none);
    assert_false(resolve(world, known));
    fake_says(EAI_AGAIN, NULL);
    assert_false(resolve(world, known));
    assert_address(known, 0, "10.0.0.1", 5432);
    assert_false(resolve(world, known)); /* for as long as it takes */
    assert_address(known, 0, "10.0.0.1", 5432);
    assert_false(resolve(world, unknown));
    assert_int_equal(unknown->addrs_n, 0);
    fake_says(0, "10.0.0.9");
    assert_false(resolve(world, known));
    assert_address(known, 0, "10.0.0.9", 5432);
    dns_ask_drop(&known);
    dns_ask_drop(&unknown);
}

static void a_silent_name_does_not_hold_up_others(void **state)
{
    struct world *world = *state;
    struct dns_ask *silent = ask_for(world, "silent"), *db = ask_for(world, "db");

    fake_hangs(true);
    assert_int_equal(dns_resolve(world->dns, &world->worker, silent), DNS_LATER);
    wait_until_hung(1);
    assert_false(resolve(world, db));
    assert_address(db, 0, "10.0.0.1", 5432);
    fake_hangs(false);
    run_for(world, 1);
    assert_address(silent, 0, "10.0.0.1", 5432);
    dns_ask_drop(&silent);
    dns_ask_drop(&db);
}

/* ---- limits, and the end ----------------------------------------------------------------------
 */

static void names_in_work_are_bounded(void **state)
{
    struct world *world = *state;
    struct dns_ask *asks[DNS_NAMES_MAX], *extra = ask_for(world, "extra");
    struct dns_counts counts;
    char host[32];

    fake_hangs(true);
    for (int i = 0; i < DNS_NAMES_MAX; i++) {
        (void)snprintf(host, sizeof(host), "silent%d", i);
        asks[i] = ask_for(world, host);
        assert_int_equal(dns_resolve(world->dns, &world->worker, asks[i]), DNS_LATER);
    }
    dns_counts(world->dns, &counts);
    assert_int_equal(counts.pending_n, DNS_NAMES_MAX);
    assert_true(resolve(world, extra));
    assert_int_equal(extra->addrs_n, 0);
    assert_non_null(strstr(extra->err.text, "too many names"));
    fake_hangs(false);
    run_for(world, DNS_NAMES_MAX);
    assert_false(resolve(world, extra)); /* in the place of silent0 */
    assert_int_equal(extra->addrs_n, 1);
    assert_false(resolve(world, asks[0]));
    assert_true(resolve(world, asks[DNS_NAMES_MAX - 1]));
    dns_counts(world->dns, &counts);
    assert_int_equal(counts.names_n, DNS_NAMES_MAX);
    assert_int_equal(counts.pending_n, 0);
    assert_int_equal(counts.lookups_n, DNS_NAMES_MAX + 2);
    assert_int_equal(counts.failures_n, 0);
    for (int i = 0; i < DNS_NAMES_MAX; i++)
        dns_ask_drop(&asks[i]);
    dns_ask_drop(&extra);
}

static void see_row(void *arg, const char *host, uint64_t ttl_us, const struct dns_addr *addrs,
                    uint32_t addrs_n)
{
    unsigned *seen = arg;

    if (strcmp(host, "db") == 0 && addrs_n == 1 && addrs[0].sa.ss_family == AF_INET && ttl_us > 0)
        *seen |= 1;
    if (strcmp(host, "missing") == 0 && addrs_n == 0)
        *seen |= 2;
}

static void names_can_be_shown(void **state)
{
    struct world *world = *state;
    struct dns_ask *db = ask_for(world, "db"), *missing = ask_for(world, "missing");
    unsigned seen = 0;

    assert_false(resolve(world, db));
    fake_says(EAI_NONAME, NULL);
    assert_false(resolve(world, missing));
    dns_rows(world->dns, see_row, &seen);
    assert_int_equal(seen, 3);
    dns_ask_drop(&db);
    dns_ask_drop(&missing);
}

static void closing_does_not_wait_for_a_dns_that_hangs(void **state)
{
    struct world *world = *state;
    struct dns_ask *kept = ask_for(world, "silent"), *dropped = ask_for(world, "silent");
    struct dns_ask *queued = NULL;
    uint64_t before_us = clock_us();

    fake_hangs(true);
    assert_int_equal(dns_resolve(world->dns, &world->worker, kept), DNS_LATER);
    assert_int_equal(dns_resolve(world->dns, &world->worker, dropped), DNS_LATER);
    dns_ask_drop(&dropped);
    wait_until_hung(1);
    dns_close(&world->dns);
    assert_null(world->dns);
    assert_true(clock_us() - before_us < 5ull * US_PER_S);
    dns_ask_drop(&kept); /* its owner need not know */
    dns_ask_drop(&queued);
    fake_hangs(false); /* the thread finds nobody, and frees what is left */
    wait_until_hung(0);
}

/* Two loops ask for the same few names, with no time to keep an answer: for the thread sanitizer.
 */
static void *ask_often(void *arg)
{
    struct world *world = arg;
    char host[8];

    for (int i = 0; i < 200; i++) {
        (void)snprintf(host, sizeof(host), "n%d", i % 5);
        struct dns_ask *ask = dns_ask_new(host, 1), *other = dns_ask_new(host, 2);
        must(ask && other);
        ask->done = other->done = answered;
        ask->owner = other->owner = world;
        bool there = dns_resolve(world->dns, &world->worker, ask) == DNS_READY;
        if (dns_resolve(world->dns, &world->worker, other) == DNS_LATER && i % 2)
            dns_ask_drop(&other);
        world->expected_n = !there + (other && other->out);
        world->worker.stopping = world->expected_n == 0;
        worker_run(&world->worker);
        must(ask->addrs_n == 1);
        dns_ask_drop(&ask);
        dns_ask_drop(&other);
    }
    return NULL;
}

static void loops_ask_at_the_same_time(void **state)
{
    static const struct dns_opts none = {.max_ttl_us = 0, .nxdomain_ttl_us = 0};
    struct world *world = *state, worlds[2] = {{.dns = world->dns}, {.dns = world->dns}};
    pthread_t threads[2];
    struct err err;

    dns_set_ttl(world->dns, &none);
    for (uint16_t i = 0; i < 2; i++) {
        assert_true(worker_init(&worlds[i].worker, i, &err));
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &worlds[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        /* what was dropped last may still be in the mail */
        struct dns_ask *last = ask_for(&worlds[i], "n4");
        assert_false(resolve(&worlds[i], last));
        dns_ask_drop(&last);
        worker_free(&worlds[i].worker);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(addresses_are_answered_at_once),
        TEST(unix_sockets_are_answered_at_once),
        TEST(names_beyond_the_limits_are_errors),
        TEST(an_answer_comes_by_letter_and_stays),
        TEST(asks_for_one_name_share_a_look_up),
        TEST(all_addresses_are_handed_out_up_to_the_limit),
        TEST(a_dropped_ask_is_not_called),
        TEST(answers_are_forgotten_after_their_time),
        TEST(a_failure_says_why_and_stays_as_well),
        TEST(a_dns_that_fails_does_not_take_servers_away),
        TEST(a_silent_name_does_not_hold_up_others),
        TEST(names_in_work_are_bounded),
        TEST(names_can_be_shown),
        TEST(closing_does_not_wait_for_a_dns_that_hangs),
        TEST(loops_ask_at_the_same_time),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
