/* Copies of clients and servers: all of them, in pieces, and none after its owner has gone. */
#include "proxy/copyout.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <utlist.h>

#include "proxy/session.h"

enum { LOOPS = 3, CLIENTS = 300, SERVERS = 200 };

static struct proxy proxy;
static struct worker workers[LOOPS];
static struct hub hubs[LOOPS];
static struct client clients[LOOPS][CLIENTS];
static char user_name[] = "user";
static struct route route = {.user = user_name};
static struct server servers[LOOPS][SERVERS];

static void fill_loop(uint16_t loop)
{
    struct hub *h = &hubs[loop];
    struct err err;
    assert_true(worker_init(&workers[loop], loop, &err));
    h->worker = &workers[loop];
    h->proxy = &proxy;
    workers[loop].hub = h;
    proxy.hubs[loop] = h;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[loop][i];
        c->id = loop * 1000u + i + 1;
        c->state = i % 2 ? CLIENT_IDLE : CLIENT_QUEUED;
        c->logged_in = i % 10 != 0;
        assert_int_not_equal(hub_slot_take(h, c), UINT32_MAX);
    }
    for (uint32_t i = 0; i < SERVERS; i++) {
        struct server *s = &servers[loop][i];
        s->id = loop * 1000u + i + 1;
        s->net.fd = -1;
        s->route = &route;
        s->state = SERVER_IDLE;
        DL_APPEND(h->servers, s);
    }
}

static int set_up(void **state)
{
    (void)state;
    proxy.worker_n = LOOPS;
    for (uint16_t i = 0; i < LOOPS; i++)
        fill_loop(i);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (uint16_t i = 0; i < LOOPS; i++) {
        free(hubs[i].slots);
        worker_free(&workers[i]);
    }
    return 0;
}

/* One turn of every loop. */
static void turn(void)
{
    for (uint16_t i = 0; i < LOOPS; i++) {
        workers[i].turn_us = 0;
        event_base_loop(workers[i].base, EVLOOP_NONBLOCK);
    }
}

struct seen {
    bool ids[LOOPS * 1000];
    uint32_t rows_n, pieces_n, largest_n, done_n, waiting_n;
};

static void take(void *arg, const struct copyout_peer *rows, size_t n)
{
    struct seen *seen = arg;
    seen->pieces_n++;
    for (size_t i = 0; i < n; i++) {
        assert_false(seen->ids[rows[i].id]); /* none twice */
        seen->ids[rows[i].id] = true;
        assert_int_equal(rows[i].worker, rows[i].id / 1000);
        seen->waiting_n += !strcmp(rows[i].state, "waiting");
    }
    seen->rows_n += (uint32_t)n;
    seen->largest_n = n > seen->largest_n ? (uint32_t)n : seen->largest_n;
}

static void done(void *arg)
{
    struct seen *seen = arg;
    seen->done_n++;
}

static struct copyout *begin(enum copyout_what what, struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    return copyout_start(
        &proxy, &(struct copyout_opts){.what = what, .rows = take, .done = done, .arg = seen});
}

static void run_until_none(void)
{
    for (int i = 0; i < 100 && copyouts_n() > 0; i++)
        turn();
    assert_int_equal(copyouts_n(), 0);
}

static void all_clients_come_once(void **state)
{
    struct seen seen;
    (void)state;
    assert_non_null(begin(COPYOUT_CLIENTS, &seen));
    assert_int_equal(copyouts_n(), 1);
    assert_int_equal(seen.rows_n, 0); /* nothing within the call */
    run_until_none();
    assert_int_equal(seen.done_n, 1);
    assert_int_equal(seen.rows_n, LOOPS * CLIENTS * 9 / 10); /* those that have logged in */
    assert_int_equal(seen.waiting_n, LOOPS * CLIENTS * 4 / 10);
    assert_int_equal(seen.largest_n, COPYOUT_CHUNK_N);
}

static void all_servers_come_once(void **state)
{
    struct seen seen;
    (void)state;
    assert_non_null(begin(COPYOUT_SERVERS, &seen));
    run_until_none();
    assert_int_equal(seen.done_n, 1);
    assert_int_equal(seen.rows_n, LOOPS * SERVERS);
    assert_int_equal(seen.largest_n, COPYOUT_CHUNK_N);
}

/* The server the copy would go on behind is gone, another of the same address may be there. */
static void a_server_that_goes_meanwhile_repeats_none(void **state)
{
    struct seen seen;
    struct server *s = &servers[1][COPYOUT_CHUNK_N - 1];
    (void)state;
    assert_non_null(begin(COPYOUT_SERVERS, &seen));
    for (int i = 0; i < 100 && seen.rows_n < COPYOUT_CHUNK_N; i++)
        turn();
    uint64_t id = s->id;
    s->id = 999;
    run_until_none();
    s->id = id;
    assert_int_equal(seen.done_n, 1);
    assert_in_range(seen.rows_n, LOOPS * COPYOUT_CHUNK_N, LOOPS * SERVERS);
}

static void an_abandoned_copy_says_nothing(void **state)
{
    struct seen seen;
    (void)state;
    for (int turns = 0; turns < 4; turns++) {
        struct copyout *c = begin(COPYOUT_CLIENTS, &seen);
        for (int i = 0; i < turns && copyouts_n() > 0; i++)
            turn();
        uint32_t rows_n = seen.rows_n;
        if (copyouts_n() > 0)
            copyout_abandon(&c);
        run_until_none();
        assert_int_equal(seen.rows_n, rows_n);
    }
    struct copyout *none = NULL;
    copyout_abandon(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_clients_come_once),
        cmocka_unit_test(all_servers_come_once),
        cmocka_unit_test(a_server_that_goes_meanwhile_repeats_none),
        cmocka_unit_test(an_abandoned_copy_says_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
