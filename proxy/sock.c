#include "proxy/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "config/config.h"
#include "proxy/log.h"
#include "proxy/worker.h"

enum {
    COMPLAIN_EVERY_US = 60 * US_PER_S,
    SOCK_BOUND_BYTES = 256 << 10, /* smaller does not hold back more: the rest is the sender's */
};

static void set_option(int fd, int level, int option, int value, const char *name)
{
    static _Atomic uint64_t said_us;
    uint64_t now_us, before_us;

    if (setsockopt(fd, level, option, &value, sizeof(value)) == 0)
        return;
    int why = errno;
    now_us = clock_us();
    before_us = atomic_load_explicit(&said_us, memory_order_relaxed);
    if (before_us && now_us - before_us < COMPLAIN_EVERY_US)
        return;
    if (atomic_compare_exchange_strong(&said_us, &before_us, now_us))
        log_warning("cannot set %s to %d: %s", name, value, strerror(why));
}

static void set_if(bool wanted, int fd, int option, int value, const char *name)
{
    if (wanted)
        set_option(fd, IPPROTO_TCP, option, value, name);
}

void sock_tune(int fd, const struct config_globals *g, bool is_unix)
{
    must(fd >= 0);
    if (g->tcp_socket_buffer > 0) {
        set_option(fd, SOL_SOCKET, SO_SNDBUF, g->tcp_socket_buffer, "tcp_socket_buffer");
        set_option(fd, SOL_SOCKET, SO_RCVBUF, g->tcp_socket_buffer, "tcp_socket_buffer");
    }
    if (is_unix)
        return;
    /* A message is written whole, so waiting for more to fill a segment only adds latency. */
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, g->tcp_keepalive, "tcp_keepalive");
    set_if(g->tcp_keepalive && g->tcp_keepcnt > 0, fd, TCP_KEEPCNT, g->tcp_keepcnt, "tcp_keepcnt");
    set_if(g->tcp_keepalive && g->tcp_keepidle > 0, fd, TCP_KEEPIDLE, g->tcp_keepidle,
           "tcp_keepidle");
    set_if(g->tcp_keepalive && g->tcp_keepintvl > 0, fd, TCP_KEEPINTVL, g->tcp_keepintvl,
           "tcp_keepintvl");
    uint64_t timeout_ms = g->tcp_user_timeout_us / US_PER_MS;
    set_if(timeout_ms > 0, fd, TCP_USER_TIMEOUT,
           timeout_ms < INT32_MAX ? (int)timeout_ms : INT32_MAX, "tcp_user_timeout");
}

void sock_bound(int fd)
{
    set_option(fd, SOL_SOCKET, SO_RCVBUF, SOCK_BOUND_BYTES, "SO_RCVBUF");
}

void sock_address_of(const struct sockaddr_storage *from, uint8_t address[16], uint16_t *port)
{
    memset(address, 0, 16);
    *port = 0;
    if (from->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, from, sizeof(v4));
        address[10] = address[11] = 0xff;
        memcpy(address + 12, &v4.sin_addr, 4);
        *port = ntohs(v4.sin_port);
    } else if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, from, sizeof(v6));
        memcpy(address, &v6.sin6_addr, 16);
        *port = ntohs(v6.sin6_port);
    }
}

const char *sock_address_text(const uint8_t address[16], char at[SOCK_ADDRESS_BYTES])
{
    static const uint8_t none[16], mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool is_v4 = memcmp(address, mapped, sizeof(mapped)) == 0;

    if (memcmp(address, none, sizeof(none)) == 0)
        snprintf(at, SOCK_ADDRESS_BYTES, "unix");
    else
        must(inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? address + 12 : address, at,
                       SOCK_ADDRESS_BYTES));
    return at;
}

uint64_t sock_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
        else
            log_warning("cannot raise the limit of descriptors to %llu: %s",
                        (unsigned long long)limit.rlim_max, strerror(errno));
    }
    return limit.rlim_cur;
}
