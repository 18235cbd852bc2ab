#include "proxy/listen_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/sock.h"

enum {
    SYSTEMD_FIRST_FD = 3, /* sd_listen_fds(3): they follow the standard three */
    DEFER_ACCEPT_S = 1,   /* what PgBouncer's code sets, though its manual says 45 */
};

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

static void tune_one(const struct listen_socket *s, const struct config_globals *g)
{
    sock_tune(s->fd, g, s->local.is_unix);
    /* Clients speak first, so the kernel may keep a silent one to itself for a while. */
    if (!s->local.is_unix &&
        !set_option(s->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, g->tcp_defer_accept ? DEFER_ACCEPT_S : 0))
        log_warning("cannot set tcp_defer_accept on %s: %s", s->name, strerror(errno));
}

void listen_set_tune(struct listen_set *set, const struct config_globals *g)
{
    for (size_t i = 0; i < set->n; i++)
        tune_one(&set->sockets[i], g);
}

void listen_set_close(struct listen_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        listen_unix_remove(&set->sockets[i].file);
        close(set->sockets[i].fd);
    }
    set->n = 0;
}

/* ---- adding one that is bound ------------------------------------------------------------------
 */

static void name_unix(struct listen_socket *s, const struct sockaddr_storage *sa, socklen_t bytes)
{
    const char *path = ((const struct sockaddr_un *)sa)->sun_path;
    size_t path_n = bytes - offsetof(struct sockaddr_un, sun_path);
    bool is_abstract = path_n > 0 && path[0] == '\0';
    size_t skip = is_abstract ? 1 : 0;

    (void)snprintf(s->name, sizeof(s->name), "unix:%s%.*s", is_abstract ? "@" : "",
                   (int)(path_n - skip), path + skip);
}

static void name_tcp(struct listen_socket *s, const struct sockaddr_storage *sa)
{
    static const uint8_t any_v4[16] = {[10] = 0xff, [11] = 0xff}, any_v6[16];
    const uint8_t *address = s->local.local_address;
    char text[SOCK_ADDRESS_BYTES];

    sock_address_of(sa, s->local.local_address, &s->local.local_port);
    bool is_any_v6 = memcmp(address, any_v6, sizeof(any_v6)) == 0;
    s->is_wild = is_any_v6 || memcmp(address, any_v4, sizeof(any_v4)) == 0;
    (void)snprintf(s->name, sizeof(s->name), sa->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                   is_any_v6 ? "::" : sock_address_text(address, text), s->local.local_port);
}

static bool add_socket(struct listen_set *set, int fd, const struct config_globals *g)
{
    struct listen_socket *s = &set->sockets[set->n];
    struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
    socklen_t sa_bytes = sizeof(sa);

    must(set->n < LISTEN_SOCKETS_MAX);
    if (getsockname(fd, (struct sockaddr *)&sa, &sa_bytes) < 0)
        return false;
    *s = (struct listen_socket){.fd = fd, .local.is_unix = sa.ss_family == AF_UNIX};
    if (s->local.is_unix)
        name_unix(s, &sa, sa_bytes);
    else
        name_tcp(s, &sa);
    tune_one(s, g); /* before listen(): buffers decide the window scale that is announced */
    if (listen(fd, g->listen_backlog) < 0)
        return false;
    set->n++;
    log_info("listening on %s", s->name);
    return true;
}

/* ---- TCP ---------------------------------------------------------------------------------------
 */

static bool bind_tcp(int fd, const struct addrinfo *a, const struct config_globals *g)
{
    /* Connections of a former process may still be in TIME_WAIT. */
    if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1))
        return false;
    if (g->so_reuseport && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1))
        return false;
    /* IPv4 has a socket of its own. */
    if (a->ai_family == AF_INET6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1))
        return false;
    return bind(fd, a->ai_addr, a->ai_addrlen) == 0;
}

static void open_tcp(struct listen_set *set, const struct addrinfo *a, const char *host,
                     const struct config_globals *g)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind_tcp(fd, a, g) && add_socket(set, fd, g))
        return;
    int why = errno;
    if (fd >= 0)
        close(fd);
    const char *family = a->ai_family == AF_INET6 ? "IPv6" : "IPv4";
    /* With `*` a family this machine does not have is no surprise. */
    if (strcmp(host, "*") == 0 && (why == EAFNOSUPPORT || why == EADDRNOTAVAIL))
        log_debug("not listening on %s: %s", family, strerror(why));
    else
        log_warning("cannot listen on %s:%d (%s): %s", host, g->listen_port, family, strerror(why));
}

/* All addresses of one entry of listen_addr. */
static void open_host(struct listen_set *set, const char *host, const struct config_globals *g)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[16];

    (void)snprintf(port, sizeof(port), "%d", g->listen_port);
    int failed = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &found);
    if (failed) {
        log_warning("cannot listen on %s: %s", host, gai_strerror(failed));
        return;
    }
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        if (set->n == LISTEN_SOCKETS_MAX - 1) { /* one is the Unix socket's */
            log_warning("cannot listen on %s: too many sockets", host);
            break;
        }
        open_tcp(set, a, host, g);
    }
    freeaddrinfo(found);
}

static void open_hosts(struct listen_set *set, const struct config_globals *g)
{
    char host[NI_MAXHOST];

    for (const char *rest = g->listen_addr; *rest; rest += strspn(rest, ", \t")) {
        size_t n = strcspn(rest, ", \t");
        if (n > 0 && n < sizeof(host)) {
            memcpy(host, rest, n);
            host[n] = '\0';
            open_host(set, host, g);
        } else if (n > 0) {
            log_warning("cannot listen on %.40s...: the name is too long", rest);
        }
        rest += n;
    }
}

/* ---- the others --------------------------------------------------------------------------------
 */

static bool open_unix(struct listen_set *set, const struct config_globals *g, struct err *err)
{
    struct listen_file file;
    struct err why;
    int fd;

    switch (listen_unix_bind(g, &fd, &file, &why)) {
    case LISTEN_UNIX_WRONG:
        return err_set(err, why.sqlstate, "%s", why.text);
    case LISTEN_UNIX_FAILED:
        log_warning("%s", why.text);
        return true;
    case LISTEN_UNIX_BOUND:
        break;
    }
    if (add_socket(set, fd, g)) {
        set->sockets[set->n - 1].file = file;
        return true;
    }
    (void)err_set(err, "F0000", "cannot listen on %s/.s.PGSQL.%d: %s", g->unix_socket_dir,
                  g->listen_port, strerror(errno));
    listen_unix_remove(&file);
    close(fd);
    return false;
}

/* Sockets systemd opened for this process, and for none it starts. */
static int systemd_sockets_n(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    long n = 0;

    if (pid && count && strtol(pid, NULL, 10) == (long)getpid())
        n = strtol(count, NULL, 10);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n < 0 ? 0 : n > LISTEN_SOCKETS_MAX ? LISTEN_SOCKETS_MAX : (int)n;
}

static bool adopt(struct listen_set *set, int fd, const struct config_globals *g, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || !add_socket(set, fd, g))
        return err_set(err, "F0000", "cannot use socket %d that systemd opened: %s", fd,
                       strerror(errno));
    return true;
}

bool listen_set_open(struct listen_set *set, const struct config_globals *g, struct err *err)
{
    int systemd_n = systemd_sockets_n();

    set->n = 0;
    for (int i = 0; i < systemd_n; i++)
        if (!adopt(set, SYSTEMD_FIRST_FD + i, g, err))
            goto failed;
    if (systemd_n > 0)
        return true; /* systemd's unit says where to listen, not the configuration */
    open_hosts(set, g);
    if (g->unix_socket_dir[0] && !open_unix(set, g, err))
        goto failed;
    if (set->n > 0)
        return true;
    (void)err_set(err, "F0000",
                  g->listen_addr[0] || g->unix_socket_dir[0]
                      ? "could not listen on any address"
                      : "nowhere to listen on: set listen_addr or unix_socket_dir");
failed:
    listen_set_close(set);
    return false;
}
