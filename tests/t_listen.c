/* Listening on real sockets of this machine: which of them open, what is known of who comes, and
 * what happens when there are no descriptors left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "proxy/listen.c"
#include "proxy/listen_sockets.c"
#include "proxy/listen_unix.c"
#include "proxy/sock.h"

/* ---- the other side ---------------------------------------------------------------------------
 */

struct accepted {
    int fd;
    struct listen_peer peer;
};

struct world {
    struct worker worker;
    struct listen *listen;
    struct accepted accepted[256];
    size_t accepted_n, expected_n;
    char dir[64];
};

static void take(void *arg, int fd, const struct listen_peer *peer)
{
    struct world *world = arg;

    must(world->accepted_n < COUNT_OF(world->accepted));
    world->accepted[world->accepted_n++] = (struct accepted){.fd = fd, .peer = *peer};
    if (world->accepted_n == world->expected_n)
        worker_stop(&world->worker);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    struct err err;

    assert_non_null(world);
    assert_true(worker_init(&world->worker, 0, &err));
    (void)snprintf(world->dir, sizeof(world->dir), "/tmp/t_listen.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    int gone;

    listen_close(&world->listen);
    for (size_t i = 0; i < world->accepted_n; i++)
        close(world->accepted[i].fd);
    worker_free(&world->worker);
    gone = rmdir(world->dir); /* fails if a socket was left behind */
    free(world);
    return gone;
}

/* PgBouncer's defaults but for what a test wants: nothing to listen on yet, any port. */
static struct config_globals settings(void)
{
    return (struct config_globals){.listen_addr = "",
                                   .unix_socket_dir = "",
                                   .unix_socket_mode = 0777,
                                   .unix_socket_group = "",
                                   .listen_backlog = 128,
                                   .tcp_keepalive = true};
}

static void open_or_fail(struct world *world, const struct config_globals *g)
{
    struct err err = {.text = ""};

    if (!listen_open(&world->listen, g, &err))
        fail_msg("%s", err.text);
    must(world->listen);
    assert_true(listen_start(world->listen, &world->worker, take, world));
}

static void assert_not_open(struct world *world, const struct config_globals *g, const char *why)
{
    struct err err = {.text = ""};

    assert_false(listen_open(&world->listen, g, &err));
    assert_null(world->listen);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" says nothing of \"%s\"", err.text, why);
}

static void run_until(struct world *world, size_t accepted_n)
{
    world->expected_n = accepted_n;
    world->worker.stopping = world->accepted_n >= accepted_n;
    worker_run(&world->worker);
}

static int connect_tcp(const char *address, uint16_t port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *a;
    char service[8];

    (void)snprintf(service, sizeof(service), "%u", port);
    assert_int_equal(getaddrinfo(address, service, &hints, &a), 0);
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, a->ai_addr, a->ai_addrlen), 0);
    freeaddrinfo(a);
    return fd;
}

static int connect_unix(const struct config_globals *g)
{
    struct address address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(make_address(g, &address));
    assert_int_equal(connect(fd, (struct sockaddr *)&address.sun, address.bytes), 0);
    return fd;
}

static uint16_t port_of(const struct world *world, size_t i)
{
    assert_true(i < listen_sockets_n(world->listen));
    return world->listen->set.sockets[i].local.local_port;
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t bytes = sizeof(value);

    assert_int_equal(getsockopt(fd, level, option, &value, &bytes), 0);
    return value;
}

/* ---- TCP --------------------------------------------------------------------------------------
 */

static void who_comes_by_tcp_is_known(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char text[SOCK_ADDRESS_BYTES], expected[64];
    struct sockaddr_in own = {.sin_port = 0};
    socklen_t own_bytes = sizeof(own);

    g.listen_addr = "127.0.0.1";
    open_or_fail(world, &g);
    assert_int_equal(listen_sockets_n(world->listen), 1);
    (void)snprintf(expected, sizeof(expected), "127.0.0.1:%u", port_of(world, 0));
    assert_string_equal(listen_name(world->listen, 0), expected);
    int fd = connect_tcp("127.0.0.1", port_of(world, 0));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &own_bytes), 0);
    run_until(world, 1);
    const struct accepted *a = &world->accepted[0];
    assert_string_equal(sock_address_text(a->peer.address, text), "127.0.0.1");
    assert_int_equal(a->peer.port, ntohs(own.sin_port));
    assert_string_equal(sock_address_text(a->peer.local_address, text), "127.0.0.1");
    assert_int_equal(a->peer.local_port, port_of(world, 0));
    assert_false(a->peer.is_unix);
    assert_true(fcntl(a->fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(a->fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

static void the_address_a_client_came_to_is_known(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char text[SOCK_ADDRESS_BYTES];

    g.listen_addr = "*";
    open_or_fail(world, &g);
    for (size_t i = 0; i < listen_sockets_n(world->listen); i++) {
        if (strncmp(listen_name(world->listen, i), "0.0.0.0:", 8) != 0)
            continue;
        int fd = connect_tcp("127.0.0.7", port_of(world, i));
        run_until(world, 1);
        assert_string_equal(sock_address_text(world->accepted[0].peer.local_address, text),
                            "127.0.0.7");
        close(fd);
    }
    assert_int_equal(world->accepted_n, 1);
}

static void accepted_sockets_have_the_options(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();

    g.listen_addr = "127.0.0.1";
    g.tcp_keepcnt = 3, g.tcp_keepidle = 77, g.tcp_keepintvl = 11;
    g.tcp_user_timeout_us = 12345ull * US_PER_MS;
    g.tcp_socket_buffer = 40000;
    open_or_fail(world, &g);
    int first = connect_tcp("127.0.0.1", port_of(world, 0));
    run_until(world, 1);
    int fd = world->accepted[0].fd;
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 11);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_SNDBUF), 2 * 40000); /* the kernel doubles it */
    g.tcp_keepalive = false;
    g.tcp_user_timeout_us = 999ull * US_PER_MS;
    g.tcp_defer_accept = true;
    listen_retune(world->listen, &g);
    assert_int_equal(option_of(world->listen->set.sockets[0].fd, IPPROTO_TCP, TCP_DEFER_ACCEPT), 1);
    int second = connect_tcp("127.0.0.1", port_of(world, 0));
    assert_int_equal(write(second, "x", 1), 1); /* a silent client is not handed over yet */
    run_until(world, 2);
    fd = world->accepted[1].fd;
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 999);
    close(first);
    close(second);
}

/* A port of 127.0.0.1 that somebody listens on already. */
static int taken_port(int *port)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t any_bytes = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &any_bytes), 0);
    *port = ntohs(any.sin_port);
    return fd;
}

static void one_address_that_fails_is_no_reason_to_stop(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char endless[NI_MAXHOST + 40];
    int fd = taken_port(&g.listen_port);

    memset(endless, 'x', sizeof(endless));
    (void)snprintf(endless + NI_MAXHOST, 40, ", 127.0.0.1,127.0.0.2 ,, 300.0.0.1");
    g.listen_addr = endless;
    open_or_fail(world, &g);
    assert_int_equal(listen_sockets_n(world->listen), 1);
    assert_memory_equal(listen_name(world->listen, 0), "127.0.0.2:", 10);
    close(fd);
}

static void no_address_at_all_is(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    int fd = taken_port(&g.listen_port);

    assert_not_open(world, &g, "nowhere to listen on");
    g.listen_addr = "127.0.0.1,300.0.0.1";
    assert_not_open(world, &g, "could not listen on any address");
    g.unix_socket_dir = "/nowhere";
    assert_not_open(world, &g, "could not listen on any address");
    close(fd);
}

static void a_port_is_shared_where_that_is_wanted(void **state)
{
    struct world *world = *state, other = {.listen = NULL};
    struct config_globals g = settings();

    g.listen_addr = "127.0.0.1";
    g.so_reuseport = true;
    open_or_fail(world, &g);
    g.listen_port = port_of(world, 0);
    struct err err;
    assert_true(listen_open(&other.listen, &g, &err));
    listen_close(&other.listen);
    g.so_reuseport = false;
    assert_not_open(&other, &g, "could not listen");
}

/* ---- the Unix socket --------------------------------------------------------------------------
 */

static void who_comes_by_unix_socket_is_known(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char path[128], text[SOCK_ADDRESS_BYTES];
    struct stat st;

    g.unix_socket_dir = world->dir;
    g.unix_socket_mode = 0710;
    g.listen_port = 6432;
    (void)snprintf(path, sizeof(path), "unix:%s/.s.PGSQL.6432", world->dir);
    open_or_fail(world, &g);
    assert_string_equal(listen_name(world->listen, 0), path);
    assert_int_equal(stat(path + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0710);
    int fd = connect_unix(&g);
    run_until(world, 1);
    const struct accepted *a = &world->accepted[0];
    assert_true(a->peer.is_unix);
    assert_int_equal(a->peer.uid, getuid());
    assert_int_equal(a->peer.pid, getpid());
    assert_string_equal(sock_address_text(a->peer.address, text), "unix");
    close(fd);
    listen_close(&world->listen);
    assert_int_equal(stat(path + 5, &st), -1);
}

static void abstract_names_work(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char dir[80], expected[160];

    (void)snprintf(dir, sizeof(dir), "@%s", world->dir); /* as good as random */
    (void)snprintf(expected, sizeof(expected), "unix:%s/.s.PGSQL.5", dir);
    g.unix_socket_dir = dir;
    g.listen_port = 5;
    open_or_fail(world, &g);
    assert_string_equal(listen_name(world->listen, 0), expected);
    int fd = connect_unix(&g);
    run_until(world, 1);
    assert_int_equal(world->accepted[0].peer.uid, getuid());
    close(fd);
    struct world other = {.listen = NULL};
    assert_not_open(&other, &g, "Address already in use");
}

static void a_dead_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    struct world *world = *state, other = {.listen = NULL};
    struct config_globals g = settings();
    struct listen_file file;
    struct err err;
    int fd;

    g.unix_socket_dir = world->dir;
    assert_int_equal(listen_unix_bind(&g, &fd, &file, &err), LISTEN_UNIX_BOUND);
    close(fd); /* as if killed: the file stays */
    open_or_fail(world, &g);
    assert_not_open(&other, &g, "is in use by another process");
    fd = connect_unix(&g); /* and the first one was not hurt by that */
    run_until(world, world->accepted_n + 1);
    close(fd);
}

static void what_is_not_ours_is_not_removed(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char path[128];
    struct stat st;

    g.unix_socket_dir = world->dir;
    (void)snprintf(path, sizeof(path), "%s/.s.PGSQL.0", world->dir);
    open_or_fail(world, &g);
    assert_int_equal(unlink(path), 0);
    FILE *f = fopen(path, "w"); /* somebody else's by now */
    assert_non_null(f);
    fclose(f);
    listen_close(&world->listen);
    assert_int_equal(stat(path, &st), 0);
    assert_not_open(world, &g, "it is no socket");
    assert_int_equal(unlink(path), 0);
}

static void rights_that_cannot_be_are_an_error(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char group[32];

    g.unix_socket_dir = world->dir;
    g.unix_socket_group = "no such group";
    assert_not_open(world, &g, "unix_socket_group \"no such group\" does not exist");
    (void)snprintf(group, sizeof(group), "%u", getgid());
    g.unix_socket_group = group;
    open_or_fail(world, &g);
}

static void a_path_too_long_is_an_error(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    char dir[120];

    memset(dir, 'd', sizeof(dir));
    dir[0] = '/', dir[sizeof(dir) - 1] = '\0';
    g.unix_socket_dir = dir;
    assert_not_open(world, &g, "could not listen on any address");
}

/* ---- systemd ----------------------------------------------------------------------------------
 */

static void sockets_of_systemd_are_used_alone(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    int port, saved = dup(SYSTEMD_FIRST_FD), fd = taken_port(&port);
    char pid[16];

    if (fd != SYSTEMD_FIRST_FD) {
        assert_int_equal(dup2(fd, SYSTEMD_FIRST_FD), SYSTEMD_FIRST_FD);
        close(fd);
    }
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    g.listen_addr = "300.0.0.1"; /* not looked at */
    g.unix_socket_dir = world->dir;
    open_or_fail(world, &g);
    assert_null(getenv("LISTEN_FDS"));
    assert_int_equal(listen_sockets_n(world->listen), 1);
    assert_true(fcntl(SYSTEMD_FIRST_FD, F_GETFD) & FD_CLOEXEC);
    fd = connect_tcp("127.0.0.1", port_of(world, 0));
    run_until(world, 1);
    close(fd);
    listen_close(&world->listen);
    setenv("LISTEN_PID", "1", 1); /* somebody else's */
    setenv("LISTEN_FDS", "1", 1);
    open_or_fail(world, &g);
    assert_true(world->listen->set.sockets[0].local.is_unix);
    listen_close(&world->listen);
    assert_int_equal(dup2(saved, SYSTEMD_FIRST_FD), SYSTEMD_FIRST_FD);
    close(saved);
}

/* ---- many clients -----------------------------------------------------------------------------
 */

static void a_turn_takes_a_bounded_number(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    int fds[LISTEN_BATCH + 10];

    g.unix_socket_dir = world->dir;
    open_or_fail(world, &g);
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        fds[i] = connect_unix(&g);
    event_base_loop(world->worker.base, EVLOOP_ONCE);
    assert_int_equal(world->accepted_n, 1); /* a crowd is not expected */
    event_base_loop(world->worker.base, EVLOOP_ONCE);
    assert_int_equal(world->accepted_n, 1 + LISTEN_BATCH);
    run_until(world, COUNT_OF(fds));
    assert_int_equal(world->accepted_n, COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        close(fds[i]);
}

static void suspended_sockets_let_clients_wait(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();

    g.unix_socket_dir = world->dir;
    open_or_fail(world, &g);
    listen_suspend(world->listen);
    listen_suspend(world->listen);
    int fd = connect_unix(&g);
    event_base_loop(world->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_int_equal(world->accepted_n, 0);
    listen_resume(world->listen);
    run_until(world, 1);
    assert_int_equal(world->accepted_n, 1);
    close(fd);
}

/* Takes every descriptor there is. Returns how many; they are fillers[0..n-1]. */
static size_t take_all_descriptors(int *fillers, size_t max)
{
    size_t n = 0;

    for (; n < max; n++) {
        fillers[n] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fillers[n] < 0)
            break;
    }
    assert_true(n < max);
    assert_int_equal(errno, EMFILE);
    return n;
}

static void assert_turned_away(int fd)
{
    uint8_t bytes[512];
    struct wire_msg msg;
    struct wire_error error;
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

    assert_true(n > 0);
    assert_int_equal(wire_next(view_of(bytes, (size_t)n), wire_from_server, 512, &msg), WIRE_OK);
    assert_true(wire_read_error(&msg, &error));
    assert_string_equal(error.severity, "FATAL");
    assert_string_equal(error.sqlstate, "53300");
    assert_string_equal(error.message, "sorry, too many clients already");
    assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), 0);
}

static void clients_without_a_descriptor_are_told(void **state)
{
    struct world *world = *state;
    struct config_globals g = settings();
    struct rlimit before, small;
    static int fillers[512];
    int fds[3];

    g.unix_socket_dir = world->dir;
    open_or_fail(world, &g);
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        fds[i] = connect_unix(&g);
    assert_int_equal(write(fds[0], "startup", 7), 7); /* must not reset our words away */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    small = (struct rlimit){.rlim_cur = (rlim_t)fds[2] + 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    size_t fillers_n = take_all_descriptors(fillers, COUNT_OF(fillers));
    event_base_loop(world->worker.base, EVLOOP_ONCE);
    assert_int_equal(world->accepted_n, 0);
    assert_int_equal(listen_refused_n(world->listen), 1); /* then it rests: */
    event_base_loop(world->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_int_equal(listen_refused_n(world->listen), 1);
    assert_turned_away(fds[0]);
    while (listen_refused_n(world->listen) < 2) /* and tries again by itself */
        event_base_loop(world->worker.base, EVLOOP_ONCE);
    assert_turned_away(fds[1]);
    for (size_t i = 0; i < fillers_n; i++)
        close(fillers[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_until(world, 1); /* valid again */
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        close(fds[i]);
}

static void the_limit_of_descriptors_is_raised(void **state)
{
    struct rlimit before, now;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = (struct rlimit){.rlim_cur = before.rlim_max / 2, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    assert_int_equal(sock_raise_limit(), before.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    assert_int_equal(now.rlim_cur, before.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void addresses_are_shown_as_people_write_them(void **state)
{
    static const struct {
        uint8_t address[16];
        const char *text;
    } cases[] = {
        {{0}, "unix"},
        {{[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 9}, "10.0.0.9"},
        {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, "2001:db8::1"},
        {{[15] = 1}, "::1"},
    };
    char text[SOCK_ADDRESS_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(sock_address_text(cases[i].address, text), cases[i].text);
}

/* Nothing of ours, an event loop for one, may sit where systemd's first socket goes. */
static int keep_first_fd(void **state)
{
    (void)state;
    return fcntl(SYSTEMD_FIRST_FD, F_GETFD) < 0 && dup2(STDERR_FILENO, SYSTEMD_FIRST_FD) < 0;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(who_comes_by_tcp_is_known),
        TEST(the_address_a_client_came_to_is_known),
        TEST(accepted_sockets_have_the_options),
        TEST(one_address_that_fails_is_no_reason_to_stop),
        TEST(no_address_at_all_is),
        TEST(a_port_is_shared_where_that_is_wanted),
        TEST(who_comes_by_unix_socket_is_known),
        TEST(abstract_names_work),
        TEST(a_dead_socket_is_replaced_and_a_live_one_is_not),
        TEST(what_is_not_ours_is_not_removed),
        TEST(rights_that_cannot_be_are_an_error),
        TEST(a_path_too_long_is_an_error),
        TEST(sockets_of_systemd_are_used_alone),
        TEST(a_turn_takes_a_bounded_number),
        TEST(suspended_sockets_let_clients_wait),
        TEST(clients_without_a_descriptor_are_told),
        cmocka_unit_test(the_limit_of_descriptors_is_raised),
        cmocka_unit_test(addresses_are_shown_as_people_write_them),
    };
#undef TEST

    return cmocka_run_group_tests(tests, keep_first_fd, NULL);
}
