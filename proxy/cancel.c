/* Cancel requests: taken from clients, sent to servers.
 *
 * A request names a key of ours; the key's pid leads to a loop and a slot there, its secret is
 * checked by the loop that owns the slot. A client that waits leaves the queue with an error; for
 * one that runs, a request with the server's own key goes to PostgreSQL on a connection of its own.
 * The server counts requests in flight (cancels_n) and is not given to anybody else before
 * PostgreSQL has closed that connection: it does so after it has sent the signal, so a late cancel
 * never hits the next statement. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/log.h"
#include "proxy/session.h"

enum { CANCELS_MAX = 64 }; /* on their way at once, per loop; each costs PostgreSQL a process */

/* One request on its way to PostgreSQL. */
struct cancel {
    struct conn net;
    struct hub *hub;
    struct server *server; /* NULL: it has died meanwhile */
    struct letter *done;   /* opened at the end; may be NULL */
    struct cancel *prev, *next;
    uint64_t until_us;
    bool sent;
    struct letter burial;
};

static void bury(struct worker *w, struct letter *l)
{
    (void)w;
    free(OWNER_OF(struct cancel, burial, l));
}

static void cancel_end(struct cancel *k)
{
    struct hub *h = k->hub;
    struct server *s = k->server;
    net_close(&k->net);
    DL_DELETE(h->cancels, k);
    h->cancels_n--;
    if (k->done)
        worker_defer(h->worker, k->done);
    k->burial.open = bury;
    worker_defer(h->worker, &k->burial);
    if (!s)
        return;
    must(s->cancels_n > 0);
    s->cancels_n--;
    if (s->state == SERVER_DRAINING && !s->cancels_n)
        drain_step(s);
}

/* It was sent, and whether the signal has been given cannot be known: the server is not used again.
 */
static void taint(struct cancel *k)
{
    if (k->sent && k->server)
        k->server->tainted = true;
}

static void send_request(struct cancel *k)
{
    struct buf b = {.max = 16 + WIRE_KEY_MAX};
    net_connect_wanted(&k->net, false);
    k->sent = true;
    if (!wire_put_cancel(&b, k->server->pid, view_of(k->server->key, k->server->key_bytes)) ||
        net_send_buf(&k->net, &b) == NET_ERROR) {
        buf_free(&b);
        cancel_end(k);
    }
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct cancel *k = arg;
    uint8_t ignored[64];
    size_t n;
    (void)fd;
    if (!k->sent && k->server && what & EV_WRITE) {
        send_request(k);
        return;
    }
    if (k->sent && !(what & EV_READ))
        return;
    enum net_verdict verdict = k->server ? net_read(&k->net, ignored, sizeof ignored, &n) : NET_EOF;
    if (verdict == NET_AGAIN)
        return;
    if (verdict != NET_EOF)
        taint(k);
    cancel_end(k);
}

void cancel_send(struct server *s, struct letter *done)
{
    struct hub *h = s->hub;
    struct cancel *k = h->cancels_n < CANCELS_MAX ? calloc(1, sizeof *k) : NULL;
    const struct sockaddr *to = (const struct sockaddr *)&s->address;
    int fd = k ? socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    bool connects = fd >= 0 && (connect(fd, to, s->address_bytes) == 0 || errno == EINPROGRESS);
    if (connects) {
        net_open(&k->net, fd);
        connects = net_attach(&k->net, h->worker, on_event, k);
    }
    if (!connects) {
        log_warning("S-%#llx: no cancel request could be sent: %s", (unsigned long long)s->id,
                    k ? strerror(errno) : "too many are under way");
        if (fd >= 0)
            close(fd);
        free(k);
        if (done)
            worker_defer(h->worker, done);
        return;
    }
    k->hub = h;
    k->server = s;
    k->done = done;
    uint64_t patience_us = h->config->globals.cancel_wait_timeout_us;
    k->until_us = patience_us ? hub_now(h) + patience_us : 0;
    DL_APPEND(h->cancels, k);
    h->cancels_n++;
    s->cancels_n++;
    net_connect_wanted(&k->net, true);
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
    s->cancels_n = 0;
}

void cancel_sweep(struct hub *h, uint64_t now_us)
{
    struct cancel *k, *next;
    DL_FOREACH_SAFE(h->cancels, k, next)
    {
        if (k->until_us && now_us > k->until_us) {
            taint(k);
            cancel_end(k);
        }
    }
}

void cancel_close_all(struct hub *h)
{
    struct cancel *k, *next;
    DL_FOREACH_SAFE(h->cancels, k, next)
    {
        cancel_end(k);
    }
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
