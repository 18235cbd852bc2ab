/* Cancel requests: taken from clients, sent to servers.
 *
 * A request names a key of ours; the key's pid leads to a loop and a slot there, its secret is
 * checked by the loop that owns the slot. A client that waits leaves the queue with an error; for
 * one that runs, a request with the server's own key goes to PostgreSQL on a connection of its own.
 * The server counts requests in flight (cancels_n) and is not given to anybody else before
 * PostgreSQL has closed that connection: it does so after it has sent the signal, so a late cancel
 * never hits the next statement. A request of our own making (a cull) must not hit the next
 * statement of the same client either: that one waits as well (culls_n).
 *
 *   waits its turn --> connects --> sent --> EOF: done
 *        \-- what it was for has ended, or its server: done without a word
 *
 * Each costs PostgreSQL a process, so that few are on their way to one server at a time, over all
 * loops (upstream_cancel_begin()); who has to wait begins when one of its own loop ends, or with
 * the next sweep. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/log.h"
#include "proxy/pacer.h"
#include "proxy/session.h"

enum {
    CANCELS_MAX = 4096, /* per loop, those that wait for their turn included */
    /* With cancel_wait_timeout = 0 a request that nobody answers may stay, but for no longer than
     * this where it keeps others from being sent. */
    CROWDED_US = 10 * US_PER_S,
};

/* One request on its way to PostgreSQL. */
struct cancel {
    struct conn net; /* of no use before it has begun */
    struct hub *hub;
    struct upstream *upstream;
    struct server *server; /* NULL: it has died meanwhile */
    struct letter *done;   /* opened at the end; may be NULL */
    struct cancel *prev, *next;
    uint64_t stmt_us; /* start of what it is for */
    uint64_t begun_us, until_us;
    bool begun, sent;
    bool over; /* to be ended with the next look */
    bool cull; /* ours, not a client's */
    struct letter burial;
};

static void bury(struct worker *w, struct letter *l)
{
    (void)w;
    free(OWNER_OF(struct cancel, burial, l));
}

/* What it was for has ended. */
static bool is_moot(const struct cancel *k)
{
    const struct server *s = k->server;
    return !s || !owed_n(&s->owed) ||
           atomic_load_explicit(&s->lease.stmt_started_us, memory_order_relaxed) != k->stmt_us;
}

/* The server is free of it. Returns the client whose next statement has waited for that, or NULL.
 */
static struct client *let_go(struct cancel *k)
{
    struct server *s = k->server;
    if (!s)
        return NULL;
    must(s->cancels_n > 0 && s->culls_n >= k->cull);
    s->cancels_n--;
    s->culls_n = (uint16_t)(s->culls_n - k->cull);
    if (s->state == SERVER_DRAINING && !s->cancels_n)
        drain_step(s);
    else if (s->state == SERVER_LINKED && k->cull && !s->culls_n)
        return s->client;
    return NULL;
}

static void cancel_end(struct cancel *k)
{
    struct hub *h = k->hub;
    DL_DELETE(h->cancels, k);
    h->cancels_n--;
    if (k->begun) {
        net_close(&k->net);
        upstream_cancel_end(k->upstream);
    }
    if (k->done)
        worker_defer(h->worker, k->done);
    k->burial.open = bury;
    worker_defer(h->worker, &k->burial);
    struct client *c = let_go(k);
    if (c)
        flow_go_on(c);
}

/* It was sent, and whether the signal has been given cannot be known: the server is not used again.
 */
static void taint(struct cancel *k)
{
    if (k->sent && k->server)
        k->server->tainted = true;
}

static bool send_request(struct cancel *k)
{
    struct buf b = {.max = 16 + WIRE_KEY_MAX};
    net_connect_wanted(&k->net, false);
    k->sent = true;
    if (wire_put_cancel(&b, k->server->pid, view_of(k->server->key, k->server->key_bytes)) &&
        net_send_buf(&k->net, &b) != NET_ERROR) {
        k->server->cull_sent |= k->cull;
        return true;
    }
    buf_free(&b);
    return false;
}

/* Goes one step. False: it is over. */
static bool step(struct cancel *k, short what)
{
    uint8_t ignored[64];
    size_t n;
    if (!k->server)
        return false;
    if (!k->sent && what & EV_WRITE)
        return !is_moot(k) && send_request(k);
    if (k->sent && !(what & EV_READ))
        return true;
    enum net_verdict verdict = net_read(&k->net, ignored, sizeof ignored, &n);
    if (verdict == NET_OK || verdict == NET_ERROR)
        taint(k);
    return verdict == NET_AGAIN;
}

static void begin_waiting(struct hub *h);

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct cancel *k = arg;
    struct hub *h = k->hub;
    (void)fd;
    if (step(k, what))
        return;
    cancel_end(k);
    begin_waiting(h);
}

/* Opens its connection. False: it could not, or the server is gone. */
static bool connect_to(struct cancel *k)
{
    const struct server *s = k->server;
    const struct sockaddr *to = (const struct sockaddr *)&s->address;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool connects = fd >= 0 && (connect(fd, to, s->address_bytes) == 0 || errno == EINPROGRESS);
    if (connects) {
        net_open(&k->net, fd);
        connects = net_attach(&k->net, k->hub->worker, on_event, k);
    }
    if (connects)
        return true;
    log_warning("S-%#llx: no cancel request could be sent: %s", (unsigned long long)s->id,
                strerror(errno));
    if (fd >= 0)
        close(fd);
    return false;
}

enum begin_verdict {
    BEGIN_DONE,
    BEGIN_FULL, /* not its turn yet */
    BEGIN_FAILED,
};

static enum begin_verdict begin(struct cancel *k)
{
    uint64_t patience_us = k->hub->config->globals.cancel_wait_timeout_us;
    if (!upstream_cancel_begin(k->upstream))
        return BEGIN_FULL;
    if (!connect_to(k)) {
        upstream_cancel_end(k->upstream);
        return BEGIN_FAILED;
    }
    k->begun = true;
    k->begun_us = hub_now(k->hub);
    k->until_us = patience_us ? k->begun_us + patience_us : 0;
    net_connect_wanted(&k->net, true);
    return BEGIN_DONE;
}

/* Those that wait and are not wanted any more end; of the others as many begin as may. */
static void begin_waiting(struct hub *h)
{
    const struct upstream *full = NULL; /* asking once is enough */
    struct cancel *k, *over;
    DL_FOREACH(h->cancels, k)
    {
        if (k->begun || k->over)
            continue;
        k->over = is_moot(k);
        if (k->over || k->upstream == full)
            continue;
        switch (begin(k)) {
        case BEGIN_DONE:
            break;
        case BEGIN_FULL:
            full = k->upstream;
            break;
        case BEGIN_FAILED:
            k->over = true;
            break;
        }
    }
    do { /* each end may change the list */
        over = NULL;
        DL_FOREACH(h->cancels, k)
        {
            if (k->over)
                over = k;
        }
        if (over)
            cancel_end(over);
    } while (over);
}

static void request(struct server *s, bool cull, struct letter *done)
{
    struct hub *h = s->hub;
    struct cancel *k = h->cancels_n < CANCELS_MAX ? calloc(1, sizeof *k) : NULL;
    if (k) {
        k->hub = h;
        k->upstream = pool_upstream(s->route->pool);
        k->server = s;
        k->done = done;
        k->cull = cull;
        k->stmt_us = atomic_load_explicit(&s->lease.stmt_started_us, memory_order_relaxed);
    } else {
        log_warning("S-%#llx: no cancel request could be sent: too many are under way",
                    (unsigned long long)s->id);
    }
    if (!k || begin(k) == BEGIN_FAILED) {
        free(k);
        if (done)
            worker_defer(h->worker, done);
        return;
    }
    DL_APPEND(h->cancels, k);
    h->cancels_n++;
    s->cancels_n++;
    pacer_free(s);
    s->culls_n = (uint16_t)(s->culls_n + cull);
}

void cancel_send(struct server *s, struct letter *done)
{
    request(s, false, done);
}

void cancel_cull(struct server *s)
{
    request(s, true, NULL);
}

void cancel_forget(struct hub *h, struct server *s)
{
    struct cancel *k;
    if (!s->cancels_n)
        return;
    DL_FOREACH(h->cancels, k)
    {
        if (k->server == s)
            k->server = NULL;
    }
    s->cancels_n = s->culls_n = 0;
}

static bool is_late(const struct cancel *k, uint64_t now_us)
{
    if (!k->begun || k->until_us)
        return k->begun && now_us > k->until_us;
    return us_since(k->begun_us, now_us) > CROWDED_US && upstream_cancels_full(k->upstream);
}

void cancel_sweep(struct hub *h, uint64_t now_us)
{
    struct cancel *k;
    DL_FOREACH(h->cancels, k)
    {
        if (is_late(k, now_us)) {
            taint(k);
            k->over = true;
        }
    }
    if (h->cancels)
        begin_waiting(h);
}

void cancel_close_all(struct hub *h)
{
    while (h->cancels)
        cancel_end(h->cancels);
}

/* ---- requests of clients
 * ------------------------------------------------------------------------- */

/* Travels from the loop that read the request to the one whose client it names, and back. */
struct wish {
    struct letter letter;
    uint16_t home;  /* the loop of who asks */
    uint32_t asker; /* pid of the slot of who asks, and his id: he may leave meanwhile */
    uint64_t asker_id;
    uint32_t pid;
    uint8_t key[WIRE_KEY_MAX];
    uint32_t key_n;
};

static void open_back(struct worker *w, struct letter *l)
{
    struct wish *wish = OWNER_OF(struct wish, letter, l);
    struct client *c = hub_slot_find(w->hub, wish->asker);
    if (c && c->id == wish->asker_id)
        session_end(c, END_CLIENT_CANCEL);
    free(wish);
}

static void send_back(struct worker *w, struct letter *l)
{
    struct wish *wish = OWNER_OF(struct wish, letter, l);
    wish->letter.open = open_back;
    grant_send(w->hub, wish->home, &wish->letter);
}

static bool knows_key(const struct client *c, const struct wish *wish)
{
    uint8_t key[CANCEL_KEY_BYTES_32];
    hub_cancel_key(c->hub, c->pid, key, c->key_bytes);
    return c->logged_in && wish->key_n == c->key_bytes &&
           CRYPTO_memcmp(key, wish->key, c->key_bytes) == 0;
}

static void open_wish(struct worker *w, struct letter *l)
{
    struct wish *wish = OWNER_OF(struct wish, letter, l);
    struct client *c = hub_slot_find(w->hub, wish->pid);
    wish->letter.open = send_back;
    if (!c || !knows_key(c, wish) || !session_cancel(c, &wish->letter))
        send_back(w, &wish->letter);
}

void cancel_serve(struct client *c, uint32_t pid, struct view key)
{
    struct hub *h = c->hub;
    uint16_t worker = hub_pid_worker(pid);
    struct wish *wish =
        worker < h->proxy->worker_n && key.n <= WIRE_KEY_MAX ? calloc(1, sizeof *wish) : NULL;
    if (!wish) {
        session_end(c, END_CLIENT_CANCEL);
        return;
    }
    client_goto(c, CLIENT_CANCEL);
    wish->letter.open = open_wish;
    wish->home = h->worker->index;
    wish->asker = c->pid;
    wish->asker_id = c->id;
    wish->pid = pid;
    wish->key_n = (uint32_t)key.n;
    memcpy(wish->key, key.at, key.n);
    grant_send(h, worker, &wish->letter);
}
