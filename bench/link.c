#include "bench/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

static void link_watch(struct link *l, uint32_t events)
{
    int fd = PQsocket(l->pg);
    if (fd == l->fd && events == l->events)
        return;
    struct epoll_event want = {.events = events, .data.ptr = l->owner};
    int op = fd == l->fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(l->epoll_fd, op, fd, &want) != 0) {
        /* libpq closed one socket and was given the same number for the next */
        must(op == EPOLL_CTL_MOD && errno == ENOENT);
        must(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &want) == 0);
    }
    l->fd = fd;
    l->events = events;
}

/* What a server says goes into the tally; the terminal would drown in it. */
static void link_mute(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

enum link_verdict link_open(struct link *l, int epoll_fd, void *owner, const char *conninfo)
{
    *l = (struct link){.owner = owner, .epoll_fd = epoll_fd, .fd = -1};
    l->pg = PQconnectStart(conninfo);
    must(l->pg);
    if (PQstatus(l->pg) == CONNECTION_BAD)
        return LINK_LOST;
    PQsetNoticeReceiver(l->pg, link_mute, NULL);
    PQsetErrorVerbosity(l->pg, PQERRORS_VERBOSE); /* with the SQLSTATE, see link_sqlstate() */
    link_watch(l, EPOLLOUT);
    return LINK_MORE;
}

enum link_verdict link_connecting(struct link *l)
{
    switch (PQconnectPoll(l->pg)) {
    case PGRES_POLLING_READING:
        link_watch(l, EPOLLIN);
        return LINK_MORE;
    case PGRES_POLLING_WRITING:
        link_watch(l, EPOLLOUT);
        return LINK_MORE;
    case PGRES_POLLING_OK:
        must(PQsetnonblocking(l->pg, 1) == 0);
        link_watch(l, EPOLLIN);
        return LINK_READY;
    case PGRES_POLLING_ACTIVE:
    case PGRES_POLLING_FAILED:
        break;
    }
    return LINK_LOST;
}

enum link_verdict link_flush(struct link *l)
{
    int left = PQflush(l->pg);
    if (left < 0)
        return LINK_LOST;
    link_watch(l, left ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return LINK_MORE;
}

enum link_verdict link_read(struct link *l)
{
    /* A server that ended the session has often said why: take the result before the loss. */
    bool alive = PQconsumeInput(l->pg);
    if (alive && link_flush(l) == LINK_LOST)
        alive = false;
    if (!PQisBusy(l->pg))
        return LINK_READY;
    return alive ? LINK_MORE : LINK_LOST;
}

void link_sqlstate(const struct link *l, const PGresult *res, char sqlstate[8])
{
    const char *code = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    if (!code) {
        /* libpq keeps no SQLSTATE of a failed login, but puts it into the verbose text */
        const char *text = PQerrorMessage(l->pg);
        const char *fatal = strstr(text, "FATAL:  ");
        code = fatal ? fatal + strlen("FATAL:  ") : "lost";
    }
    snprintf(sqlstate, 8, "%.5s", code);
}

void link_close(struct link *l)
{
    if (l->pg)
        PQfinish(l->pg);
    l->pg = NULL;
    l->fd = -1;
}
