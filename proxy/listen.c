#include "proxy/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/config.h"
#include "proxy/buf.h"
#include "proxy/listen_sockets.h"
#include "proxy/log.h"
#include "proxy/sock.h"
#include "proxy/wire.h"
#include "proxy/worker.h"

enum { COMPLAIN_EVERY_US = 60 * US_PER_S };

struct listen {
    struct listen_set set;
    struct worker *control; /* NULL: not started */
    listen_accepted on_accept;
    void *arg;
    struct event resume; /* ends a pause */
    bool armed, suspended, paused;
    int reserve_fd; /* given up for a moment to be able to refuse; -1: lost, to be had again */
    uint64_t refused_n, complained_us;
};

/* Accepting is the one thing besides net.c that arms events: these sockets carry no bytes. */
static void arm(struct listen *l)
{
    bool wanted = l->control && !l->suspended && !l->paused;

    if (wanted == l->armed)
        return;
    l->armed = wanted;
    for (size_t i = 0; i < l->set.n; i++) {
        if (!wanted)
            event_del(&l->set.sockets[i].event);
        else if (event_add(&l->set.sockets[i].event, NULL) < 0)
            log_error("cannot wait for connections on %s", l->set.sockets[i].name);
    }
}

/* ---- out of descriptors ------------------------------------------------------------------------
 */

static int take_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Says why and closes. What the client has sent already is read first: closing over it would reset
 * the connection and take our words away. */
static void refuse(int fd)
{
    static const struct wire_error too_many = {
        .severity = "FATAL",
        .sqlstate = "53300",
        .message = "sorry, too many clients already",
        .detail = "The pooler has run out of file descriptors.",
    };
    struct buf words = {.max = 1024};
    uint8_t drain[4096];

    if (wire_put_error(&words, 'E', &too_many)) {
        struct view v = buf_view(&words);
        if (send(fd, v.at, v.n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)v.n)
            (void)shutdown(fd, SHUT_WR);
    }
    buf_free(&words);
    while (recv(fd, drain, sizeof(drain), MSG_DONTWAIT) == (ssize_t)sizeof(drain))
        continue;
    close(fd);
}

static void end_pause(evutil_socket_t fd, short what, void *arg)
{
    struct listen *l = arg;

    (void)fd, (void)what;
    l->paused = false;
    if (l->reserve_fd < 0)
        l->reserve_fd = take_reserve();
    arm(l);
}

/* The listeners rest, so that a queue of clients nobody can take does not turn the loop into a
 * spin; those who come meanwhile wait in the backlog. */
static void out_of_descriptors(struct listen *l, struct listen_socket *s, int why)
{
    const struct timeval pause = {.tv_usec = LISTEN_PAUSE_US};
    uint64_t now_us = worker_now(l->control);

    if (!l->complained_us || now_us - l->complained_us >= COMPLAIN_EVERY_US) {
        l->complained_us = now_us;
        log_warning("cannot accept on %s: %s; clients are turned away", s->name, strerror(why));
    }
    if (l->reserve_fd >= 0) {
        close(l->reserve_fd);
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            refuse(fd);
            l->refused_n++;
        }
        l->reserve_fd = take_reserve();
    }
    l->paused = true;
    arm(l);
    if (evtimer_add(&l->resume, &pause) < 0) { /* no memory: better a spin than silence */
        l->paused = false;
        arm(l);
    }
}

/* ---- accepting ---------------------------------------------------------------------------------
 */

static void describe(const struct listen_socket *s, int fd, const struct sockaddr_storage *from,
                     struct listen_peer *peer)
{
    struct sockaddr_storage local;
    socklen_t local_bytes = sizeof(local);
    struct ucred who;
    socklen_t who_bytes = sizeof(who);

    *peer = s->local;
    peer->uid = (uid_t)-1;
    if (s->local.is_unix) {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_bytes) == 0) {
            peer->uid = who.uid;
            peer->pid = who.pid;
        }
        return;
    }
    sock_address_of(from, peer->address, &peer->port);
    if (s->is_wild && getsockname(fd, (struct sockaddr *)&local, &local_bytes) == 0)
        sock_address_of(&local, peer->local_address, &peer->local_port);
}

static void accept_some(evutil_socket_t listener, short what, void *arg)
{
    struct listen_socket *s = arg;
    struct listen *l = s->listen;

    (void)listener, (void)what;
    /* One that comes alone is no reason to ask for another, which would not be there. */
    uint64_t now_us = worker_now(l->control);
    int batch = us_since(s->accepted_us, now_us) < LISTEN_CROWD_US ? LISTEN_BATCH : 1;
    s->accepted_us = now_us;
    for (int i = 0; i < batch && l->armed; i++) {
        struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
        socklen_t from_bytes = sizeof(from);
        struct listen_peer peer;
        int fd =
            accept4(s->fd, (struct sockaddr *)&from, &from_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                out_of_descriptors(l, s, errno);
                return;
            }
            continue; /* a client that died in the queue, or an error of its network */
        }
        describe(s, fd, &from, &peer);
        l->on_accept(l->arg, fd, &peer);
    }
}

/* ---- opening, closing --------------------------------------------------------------------------
 */

bool listen_open(struct listen **out, const struct config_globals *g, struct err *err)
{
    struct listen *l = calloc(1, sizeof(*l));

    *out = NULL;
    if (!l)
        return err_set(err, "53200", "out of memory");
    if (!listen_set_open(&l->set, g, err)) {
        free(l);
        return false;
    }
    l->reserve_fd = take_reserve();
    *out = l;
    return true;
}

bool listen_start(struct listen *l, struct worker *control, listen_accepted on_accept, void *arg)
{
    must(!l->control && control && on_accept);
    l->on_accept = on_accept;
    l->arg = arg;
    if (evtimer_assign(&l->resume, control->base, end_pause, l) < 0)
        return false;
    for (size_t i = 0; i < l->set.n; i++) {
        struct listen_socket *s = &l->set.sockets[i];
        s->listen = l;
        if (event_assign(&s->event, control->base, s->fd, EV_READ | EV_PERSIST, accept_some, s) < 0)
            return false;
    }
    l->control = control;
    arm(l);
    return true;
}

void listen_retune(struct listen *l, const struct config_globals *g)
{
    listen_set_tune(&l->set, g);
}

void listen_suspend(struct listen *l)
{
    l->suspended = true;
    arm(l);
}

void listen_resume(struct listen *l)
{
    l->suspended = false;
    arm(l);
}

void listen_close(struct listen **l)
{
    struct listen *closed = *l;

    *l = NULL;
    if (!closed)
        return;
    if (closed->control) {
        closed->suspended = true;
        arm(closed);
        event_del(&closed->resume);
    }
    listen_set_close(&closed->set);
    if (closed->reserve_fd >= 0)
        close(closed->reserve_fd);
    free(closed);
}

size_t listen_sockets_n(const struct listen *l)
{
    return l->set.n;
}

const char *listen_name(const struct listen *l, size_t i)
{
    must(i < l->set.n);
    return l->set.sockets[i].name;
}

uint64_t listen_refused_n(const struct listen *l)
{
    return l->refused_n;
}
