#include "proxy/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

uint64_t clock_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t worker_now(struct worker *w)
{
    if (!w->turn_us)
        w->turn_us = clock_us();
    return w->turn_us;
}

static void open_mail(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    eventfd_t ignored;
    (void)what;
    if (eventfd_read((int)fd, &ignored) < 0 && errno != EAGAIN)
        must(errno == EINTR);
    pthread_mutex_lock(&w->mail_lock);
    struct letter *l = w->mail_first;
    w->mail_first = w->mail_last = NULL;
    pthread_mutex_unlock(&w->mail_lock);
    while (l) {
        struct letter *next = l->next; /* l may be freed, or posted again, by its own function */
        l->next = NULL;
        l->open(w, l);
        l = next;
    }
}

static void open_due(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    (void)fd, (void)what;
    struct letter *l = w->due_first;
    w->due_first = w->due_last = NULL;
    while (l) {
        struct letter *next = l->next;
        l->next = NULL;
        l->open(w, l);
        l = next;
    }
}

void worker_defer(struct worker *w, struct letter *l)
{
    must(l->open && !l->next && l != w->due_last);
    if (w->due_last) {
        w->due_last->next = l;
    } else {
        w->due_first = l;
        event_active(&w->due_event, EV_READ, 1);
    }
    w->due_last = l;
}

static void timer_rings(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    (void)fd, (void)what;
    if (w->on_timer)
        w->on_timer(w, worker_now(w));
}

bool worker_init(struct worker *w, uint16_t index, struct err *err)
{
    must(index < WORKERS_MAX);
    memset(w, 0, sizeof *w);
    w->index = index;
    pthread_mutex_init(&w->mail_lock, NULL);
    /* Our events never change in the kernel within a turn, and only the loop's own thread touches
     * its base: no changelist, no locks. */
    struct event_config *cfg = event_config_new();
    if (!cfg)
        return err_set(err, "53200", "out of memory");
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    w->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    w->scratch = malloc(SCRATCH_BYTES);
    w->mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!w->base || !w->scratch || w->mail_fd < 0)
        return err_set(err, "53200", "cannot make an event loop: %s", strerror(errno));
    event_assign(&w->mail_event, w->base, w->mail_fd, EV_READ | EV_PERSIST, open_mail, w);
    event_assign(&w->due_event, w->base, -1, 0, open_due, w);
    event_assign(&w->timer_event, w->base, -1, EV_PERSIST, timer_rings, w);
    struct timeval every = {.tv_usec = WORKER_TIMER_US};
    if (event_add(&w->mail_event, NULL) < 0 || event_add(&w->timer_event, &every) < 0)
        return err_set(err, "53200", "cannot arm an event loop: %s", strerror(errno));
    return true;
}

void worker_free(struct worker *w)
{
    if (!w->base)
        return;
    event_del(&w->mail_event);
    event_del(&w->timer_event);
    event_del(&w->due_event);
    event_base_free(w->base);
    close(w->mail_fd);
    free(w->scratch);
    pthread_mutex_destroy(&w->mail_lock);
    w->base = NULL;
}

void worker_run(struct worker *w)
{
    while (!w->stopping) {
        w->turn_us = 0;
        event_base_loop(w->base, EVLOOP_ONCE);
    }
}

void worker_stop(struct worker *w)
{
    w->stopping = true;
}

void worker_post(struct worker *to, struct letter *l)
{
    must(l->open && !l->next);
    pthread_mutex_lock(&to->mail_lock);
    bool was_empty = !to->mail_first;
    if (was_empty)
        to->mail_first = l;
    else
        to->mail_last->next = l;
    to->mail_last = l;
    pthread_mutex_unlock(&to->mail_lock);
    if (was_empty && eventfd_write(to->mail_fd, 1) < 0)
        must(errno == EAGAIN); /* the counter is full: certainly readable */
}
