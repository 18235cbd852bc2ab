#include "proxy/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/log.h"
#include "proxy/ring.h"

uint64_t clock_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000;
}

static void open_mail(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    eventfd_t ignored;
    (void)what;
    /* A ring's poll is told of each write, and needs no zero in between. */
    if (!w->ring && eventfd_read((int)fd, &ignored) < 0 && errno != EAGAIN)
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

static void open_due(struct worker *w)
{
    struct letter *l = w->due_first;
    w->due_first = w->due_last = NULL;
    while (l) {
        struct letter *next = l->next;
        l->next = NULL;
        l->open(w, l);
        l = next;
    }
}

static void due_rings(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    open_due(arg);
}

void worker_defer(struct worker *w, struct letter *l)
{
    must(l->open && !l->next && l != w->due_last);
    if (w->due_last) {
        w->due_last->next = l;
    } else {
        w->due_first = l;
        if (!w->ring)
            event_active(&w->due_event, EV_READ, 1);
    }
    w->due_last = l;
}

/* ---- ticks ----------------------------------------------------------------------------------- */

static void timer_rings(void *arg)
{
    struct worker *w = arg;
    if (w->on_timer)
        w->on_timer(w, worker_now(w));
}

static void ticker_rings(evutil_socket_t fd, short what, void *arg)
{
    struct ticker *t = arg;
    (void)fd, (void)what;
    t->tick(t->arg);
}

static bool ticker_event(struct worker *w, struct ticker *t)
{
    struct timeval every = {.tv_sec = (time_t)(t->every_us / US_PER_S),
                            .tv_usec = (suseconds_t)(t->every_us % US_PER_S)};
    event_assign(&t->event, w->base, -1, EV_PERSIST, ticker_rings, t);
    return event_add(&t->event, &every) == 0;
}

bool worker_tick_start(struct worker *w, struct ticker *t)
{
    must(!t->runs && t->every_us);
    if (!w->ring && !ticker_event(w, t))
        return false;
    t->next_us = worker_now(w) + t->every_us;
    t->runs = true;
    DL_APPEND(w->tickers, t);
    return true;
}

void worker_tick_stop(struct worker *w, struct ticker *t)
{
    if (!t->runs)
        return;
    t->runs = false;
    DL_DELETE(w->tickers, t);
    if (!w->ring)
        event_del(&t->event);
}

/* A tick may stop others, and itself: each is looked for anew. */
static void ring_ticks(struct worker *w)
{
    struct ticker *t = w->tickers;
    uint64_t now_us = worker_now(w);
    while (t) {
        if (t->next_us > now_us) {
            t = t->next;
            continue;
        }
        t->next_us = now_us + t->every_us;
        t->tick(t->arg);
        t = w->tickers;
    }
}

static uint64_t next_tick_us(const struct worker *w)
{
    const struct ticker *t;
    uint64_t next_us = w->timer.next_us; /* runs as long as the loop */
    DL_FOREACH(w->tickers, t)
    {
        if (t->next_us < next_us)
            next_us = t->next_us;
    }
    return next_us;
}

/* ---- a loop ---------------------------------------------------------------------------------- */

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
    event_assign(&w->due_event, w->base, -1, 0, due_rings, w);
    w->timer = (struct ticker){.tick = timer_rings, .arg = w, .every_us = WORKER_TIMER_US};
    if (event_add(&w->mail_event, NULL) < 0 || !worker_tick_start(w, &w->timer))
        return err_set(err, "53200", "cannot arm an event loop: %s", strerror(errno));
    return true;
}

void worker_free(struct worker *w)
{
    if (!w->base)
        return;
    event_del(&w->mail_event);
    worker_tick_stop(w, &w->timer);
    event_del(&w->due_event);
    event_base_free(w->base);
    ring_close(&w->ring);
    close(w->mail_fd);
    free(w->scratch);
    pthread_mutex_destroy(&w->mail_lock);
    w->base = NULL;
}

/* What stands in libevent's books so far is the mailbox and ticks: they change over. */
static void change_to_ring(struct worker *w)
{
    struct err err;
    struct ticker *t;
    struct ring *ring = ring_open(w->mail_fd, open_mail, w, &err);
    if (!ring) {
        if (w->index == 1) /* the others say the same */
            log_info("io_uring cannot be used: %s; loops wait by %s", err.text,
                     event_base_get_method(w->base));
        return;
    }
    DL_FOREACH(w->tickers, t)
    {
        event_del(&t->event);
    }
    event_del(&w->mail_event);
    w->ring = ring;
}

static void run_by_ring(struct worker *w)
{
    while (!w->stopping) {
        ring_wait(w->ring, w->due_first ? 0 : next_tick_us(w));
        w->turn_us = 0;
        ring_serve(w->ring);
        ring_ticks(w);
        while (w->due_first)
            open_due(w);
    }
}

void worker_run(struct worker *w)
{
    if (w->wants_ring)
        change_to_ring(w);
    if (w->ring) {
        run_by_ring(w);
        return;
    }
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
