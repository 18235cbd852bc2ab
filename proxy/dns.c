#include "proxy/dns.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

#include "proxy/log.h"

enum {
    THREADS_N = 3,
    STACK_BYTES = 512 << 10, /* nsswitch modules are not modest, but 8 MiB is more than they need */
    CLOSE_WAIT_MS = 500,     /* how long dns_close() waits for threads to end */
};

/* One name. FREE -> QUEUED -> LOOKING -> KNOWN -> QUEUED ... ; only FREE and KNOWN ones are given
 * to another name. */
enum slot_state { SLOT_FREE, SLOT_QUEUED, SLOT_LOOKING, SLOT_KNOWN };
struct answer {
    struct dns_addr addrs[DNS_ADDRS_MAX]; /* ports are 0 */
    uint32_t addrs_n;
    int gai_error; /* of getaddrinfo(); 0: it was found */
    int gai_errno; /* with EAI_SYSTEM */
};
struct slot {
    enum slot_state state;
    char host[DNS_HOST_MAX + 1];
    struct answer answer; /* KNOWN; or the former one, while the next is looked up */
    uint64_t expires_us, used_us;
    struct dns_ask *waiting, *waiting_last; /* QUEUED, LOOKING */
    struct slot *next;                      /* QUEUED */
};

struct dns {
    pthread_mutex_t lock;
    pthread_cond_t work, gone;
    /* lock guards all below */
    struct dns_opts opts;
    bool stopping, abandoned;
    uint32_t threads_n; /* alive */
    uint32_t asks_n;
    uint64_t lookups_n, failures_n;
    struct slot *first, *last; /* to be looked up */
    struct slot slots[DNS_NAMES_MAX];
};

/* ---- answering ---------------------------------------------------------------------------------
 */

static void answer_error(struct dns_ask *ask, const char *why)
{
    ask->addrs_n = 0;
    (void)err_set(&ask->err, "08001", "server DNS lookup failed: \"%s\": %s", ask->host, why);
}

static void set_port(struct dns_addr *addr, uint16_t port)
{
    if (addr->sa.ss_family == AF_INET)
        ((struct sockaddr_in *)&addr->sa)->sin_port = htons(port);
    else if (addr->sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&addr->sa)->sin6_port = htons(port);
}

static void fill(struct dns_ask *ask, const struct answer *answer)
{
    ask->addrs_n = answer->addrs_n;
    for (uint32_t i = 0; i < answer->addrs_n; i++) {
        ask->addrs[i] = answer->addrs[i];
        set_port(&ask->addrs[i], ask->port);
    }
    if (answer->addrs_n == 0)
        answer_error(ask, answer->gai_error == EAI_SYSTEM ? strerror(answer->gai_errno)
                                                          : gai_strerror(answer->gai_error));
}

static void look_up(const char *host, int flags, struct answer *out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *found = NULL;

    out->addrs_n = 0;
    out->gai_error = getaddrinfo(host, NULL, &hints, &found);
    out->gai_errno = errno;
    for (struct addrinfo *a = found; a && out->addrs_n < DNS_ADDRS_MAX; a = a->ai_next) {
        struct dns_addr *addr = &out->addrs[out->addrs_n];
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
            continue;
        memset(addr, 0, sizeof(*addr));
        memcpy(&addr->sa, a->ai_addr, a->ai_addrlen);
        addr->sa_bytes = a->ai_addrlen;
        out->addrs_n++;
    }
    if (out->gai_error == 0 && out->addrs_n == 0)
        out->gai_error = EAI_NONAME;
    if (found)
        freeaddrinfo(found);
}

static void fill_unix(struct dns_ask *ask)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&ask->addrs[0].sa;
    bool is_abstract = ask->host[0] == '@';

    memset(&ask->addrs[0], 0, sizeof(ask->addrs[0]));
    sun->sun_family = AF_UNIX;
    int n = snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/.s.PGSQL.%u", ask->host, ask->port);
    if (n < 0 || (size_t)n >= sizeof(sun->sun_path)) {
        answer_error(ask, "path of the Unix socket is too long");
        return;
    }
    ask->addrs_n = 1;
    ask->addrs[0].sa_bytes =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + !is_abstract);
    if (is_abstract)
        sun->sun_path[0] = '\0';
}

/* What needs no look-up. */
static bool fill_at_once(struct dns_ask *ask)
{
    struct answer answer;

    if (ask->host[0] == '/' || ask->host[0] == '@') {
        fill_unix(ask);
        return true;
    }
    look_up(ask->host, AI_NUMERICHOST, &answer);
    if (answer.gai_error != 0)
        return false;
    fill(ask, &answer);
    return true;
}

/* ---- the threads -------------------------------------------------------------------------------
 */

/* In the loop that asked. */
static void open_answer(struct worker *w, struct letter *l)
{
    struct dns_ask *ask = OWNER_OF(struct dns_ask, letter, l);

    must(ask->out);
    ask->out = false;
    if (ask->dropped)
        free(ask);
    else
        ask->done(w, ask);
}

/* Sends the answer to all who wait for it. The addresses are the thread's own copy. */
static void post_all(struct dns_ask *waiting, const struct answer *answer)
{
    while (waiting) {
        struct dns_ask *ask = waiting;
        waiting = ask->next;
        ask->next = NULL;
        fill(ask, answer);
        ask->letter = (struct letter){.open = open_answer};
        worker_post(ask->worker, &ask->letter);
    }
}

/* The name is known to be unknown; anything else says something of the DNS, not of the name. */
static bool is_final(int gai_error)
{
    return gai_error == 0 || gai_error == EAI_NONAME || gai_error == EAI_NODATA;
}

/* Keeps what was found, or the former answer; hands out who waits for it. */
static struct dns_ask *settle_locked(struct dns *d, struct slot *slot, struct answer *answer)
{
    struct dns_ask *waiting = slot->waiting;
    bool found = answer->gai_error == 0;

    slot->waiting = NULL;
    slot->state = SLOT_KNOWN;
    slot->expires_us = clock_us() + (found ? d->opts.max_ttl_us : d->opts.nxdomain_ttl_us);
    d->lookups_n++;
    d->failures_n += !found;
    if (!is_final(answer->gai_error) && slot->answer.addrs_n > 0)
        *answer = slot->answer;
    else
        slot->answer = *answer;
    for (struct dns_ask *ask = waiting; ask; ask = ask->next)
        d->asks_n--;
    return waiting;
}

static void serve_locked(struct dns *d, struct slot *slot)
{
    struct answer answer;
    struct dns_ask *waiting;
    char host[DNS_HOST_MAX + 1];

    slot->state = SLOT_LOOKING;
    memcpy(host, slot->host, sizeof(host));
    pthread_mutex_unlock(&d->lock);
    look_up(host, 0, &answer);
    int gai_error = answer.gai_error;
    pthread_mutex_lock(&d->lock);
    if (d->stopping)
        return; /* dns_close() has taken the asks */
    waiting = settle_locked(d, slot, &answer);
    pthread_mutex_unlock(&d->lock);
    if (gai_error != 0)
        log_warning("DNS lookup of \"%s\" failed: %s%s", host, gai_strerror(gai_error),
                    answer.addrs_n ? "; its former addresses serve on" : "");
    post_all(waiting, &answer);
    pthread_mutex_lock(&d->lock);
}

static void dns_free(struct dns *d)
{
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->gone);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void *run(void *arg)
{
    struct dns *d = arg;

    pthread_mutex_lock(&d->lock);
    while (!d->stopping) {
        struct slot *slot = d->first;
        if (!slot) {
            pthread_cond_wait(&d->work, &d->lock);
            continue;
        }
        d->first = slot->next;
        slot->next = NULL;
        must(slot->state == SLOT_QUEUED);
        serve_locked(d, slot);
    }
    d->threads_n--;
    bool is_mine = d->abandoned && d->threads_n == 0;
    pthread_cond_signal(&d->gone);
    pthread_mutex_unlock(&d->lock);
    if (is_mine)
        dns_free(d);
    return NULL;
}

static bool start_threads(struct dns *d, struct err *err)
{
    pthread_attr_t attr;
    sigset_t all, former;
    int failed = 0;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all); /* signals are the control loop's */
    pthread_sigmask(SIG_SETMASK, &all, &former);
    for (int i = 0; i < THREADS_N && !failed; i++) {
        pthread_t thread;
        failed = pthread_create(&thread, &attr, run, d);
        if (!failed) {
            pthread_mutex_lock(&d->lock);
            d->threads_n++;
            pthread_mutex_unlock(&d->lock);
        }
    }
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    pthread_attr_destroy(&attr);
    return !failed ||
           err_set(err, "53200", "cannot start a thread for the DNS: %s", strerror(failed));
}

/* ---- asking ------------------------------------------------------------------------------------
 */

struct dns_ask *dns_ask_new(const char *host, uint16_t port)
{
    struct dns_ask *ask = calloc(1, sizeof(*ask));
    size_t n = strnlen(host, DNS_HOST_MAX);

    if (!ask)
        return NULL;
    memcpy(ask->host, host, n); /* the rest is zero */
    ask->bad_host = n == 0 || host[n] != '\0';
    ask->port = port;
    return ask;
}

void dns_ask_drop(struct dns_ask **ask)
{
    struct dns_ask *dropped = *ask;

    *ask = NULL;
    if (!dropped)
        return;
    must(!dropped->dropped);
    if (dropped->out)
        dropped->dropped = true;
    else
        free(dropped);
}

static struct slot *find_locked(struct dns *d, const char *host)
{
    for (size_t i = 0; i < DNS_NAMES_MAX; i++)
        if (d->slots[i].state != SLOT_FREE && strcmp(d->slots[i].host, host) == 0)
            return &d->slots[i];
    return NULL;
}

/* A slot for a name we have not heard of; NULL: all of them are being looked up. */
static struct slot *new_slot_locked(struct dns *d, const char *host)
{
    struct slot *oldest = NULL;

    for (size_t i = 0; i < DNS_NAMES_MAX; i++) {
        struct slot *slot = &d->slots[i];
        if (slot->state != SLOT_FREE && slot->state != SLOT_KNOWN)
            continue;
        if (!oldest || slot->used_us < oldest->used_us)
            oldest = slot;
    }
    if (!oldest)
        return NULL;
    must(!oldest->waiting && !oldest->next);
    *oldest = (struct slot){.state = SLOT_FREE};
    memcpy(oldest->host, host, strlen(host) + 1);
    return oldest;
}

static void enqueue_locked(struct dns *d, struct slot *slot)
{
    slot->state = SLOT_QUEUED;
    slot->next = NULL;
    if (d->first)
        d->last->next = slot;
    else
        d->first = slot;
    d->last = slot;
    pthread_cond_signal(&d->work);
}

enum asked { ASKED_KNOWN, ASKED_WAITS, ASKED_FULL };
static enum asked ask_locked(struct dns *d, struct dns_ask *ask, struct answer *out)
{
    struct slot *slot = find_locked(d, ask->host);
    uint64_t now_us = clock_us();

    if (!slot)
        slot = new_slot_locked(d, ask->host);
    if (!slot || d->asks_n >= DNS_ASKS_MAX || d->stopping)
        return ASKED_FULL;
    slot->used_us = now_us;
    if (slot->state == SLOT_KNOWN && now_us < slot->expires_us) {
        *out = slot->answer;
        return ASKED_KNOWN;
    }
    if (slot->state == SLOT_FREE || slot->state == SLOT_KNOWN)
        enqueue_locked(d, slot);
    ask->out = true;
    ask->next = NULL;
    if (slot->waiting)
        slot->waiting_last->next = ask;
    else
        slot->waiting = ask;
    slot->waiting_last = ask;
    d->asks_n++;
    return ASKED_WAITS;
}

enum dns_verdict dns_resolve(struct dns *d, struct worker *w, struct dns_ask *ask)
{
    struct answer answer;
    enum asked asked;

    must(!ask->out && !ask->dropped);
    ask->addrs_n = 0;
    ask->err = (struct err){.text = ""};
    if (ask->bad_host) {
        answer_error(ask, "empty or too long");
        return DNS_READY;
    }
    if (fill_at_once(ask))
        return DNS_READY;
    ask->worker = w;
    pthread_mutex_lock(&d->lock);
    asked = ask_locked(d, ask, &answer);
    pthread_mutex_unlock(&d->lock);
    switch (asked) {
    case ASKED_WAITS:
        return DNS_LATER; /* the ask is not ours any more */
    case ASKED_KNOWN:
        fill(ask, &answer);
        return DNS_READY;
    case ASKED_FULL:
        break;
    }
    answer_error(ask, "too many names are being looked up");
    return DNS_READY;
}

/* ---- opening, closing, showing -----------------------------------------------------------------
 */

bool dns_open(struct dns **out, const struct dns_opts *opts, struct err *err)
{
    pthread_condattr_t attr;
    struct dns *d = calloc(1, sizeof(*d));

    *out = NULL;
    if (!d)
        return err_set(err, "53200", "out of memory");
    d->opts = *opts;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->gone, &attr);
    pthread_condattr_destroy(&attr);
    if (!start_threads(d, err)) {
        dns_close(&d);
        return false;
    }
    *out = d;
    return true;
}

void dns_set_ttl(struct dns *d, const struct dns_opts *opts)
{
    pthread_mutex_lock(&d->lock);
    d->opts = *opts;
    pthread_mutex_unlock(&d->lock);
}

/* Gives the asks that are out back to their owners. No loop runs: nobody else touches them. */
static void return_asks_locked(struct dns *d)
{
    for (size_t i = 0; i < DNS_NAMES_MAX; i++) {
        while (d->slots[i].waiting) {
            struct dns_ask *ask = d->slots[i].waiting;
            d->slots[i].waiting = ask->next;
            ask->next = NULL;
            ask->out = false;
            if (ask->dropped)
                free(ask);
        }
    }
    d->asks_n = 0;
}

void dns_close(struct dns **d)
{
    struct dns *closed = *d;
    struct timespec until;
    int waited = 0;

    *d = NULL;
    if (!closed)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)CLOSE_WAIT_MS * 1000 * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&closed->lock);
    closed->stopping = true;
    return_asks_locked(closed);
    pthread_cond_broadcast(&closed->work);
    while (closed->threads_n > 0 && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&closed->gone, &closed->lock, &until);
    bool is_mine = closed->threads_n == 0;
    closed->abandoned = !is_mine;
    pthread_mutex_unlock(&closed->lock);
    if (is_mine)
        dns_free(closed);
}

void dns_counts(struct dns *d, struct dns_counts *out)
{
    *out = (struct dns_counts){0};
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < DNS_NAMES_MAX; i++) {
        out->names_n += d->slots[i].state == SLOT_KNOWN;
        out->pending_n += d->slots[i].state == SLOT_QUEUED || d->slots[i].state == SLOT_LOOKING;
    }
    out->lookups_n = d->lookups_n;
    out->failures_n = d->failures_n;
    pthread_mutex_unlock(&d->lock);
}

void dns_rows(struct dns *d, dns_row row, void *arg)
{
    uint64_t now_us = clock_us();

    for (size_t i = 0; i < DNS_NAMES_MAX; i++) {
        pthread_mutex_lock(&d->lock);
        struct slot copy = d->slots[i];
        pthread_mutex_unlock(&d->lock);
        if (copy.state != SLOT_KNOWN)
            continue;
        uint64_t ttl_us = copy.expires_us > now_us ? copy.expires_us - now_us : 0;
        row(arg, copy.host, ttl_us, copy.answer.addrs, copy.answer.addrs_n);
    }
}
