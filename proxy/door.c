/* Who may log in now. See door.h. */
#include "proxy/door.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "pool/queue.h"
#include "proxy/hash.h"
#include "proxy/session.h"

enum {
    INSIDE_US_MAX = US_PER_S,   /* then it is its client that takes so long */
    BUSY_US_MAX = US_PER_S / 4, /* ... where others wait; a round trip around the world */
    PREFIX_BYTES = 8,           /* of IPv6, which one site has to itself */
    BUCKET_US = 2 * US_PER_S,
};

struct door_key {
    uint8_t address[16];
    uint8_t class_i;
};

/* Made for the first who waits, gone with the last. */
struct door_queue {
    struct door_key key;
    struct client *waiting;         /* in the order of their coming */
    struct door_queue *prev, *next; /* of door.turns */
    UT_hash_handle hh;              /* of door.queues */
};

static uint32_t part_of(const struct hub *h, uint32_t n)
{
    uint32_t loops_n = h->proxy->worker_n - 1u;
    return (n + loops_n - 1) / loops_n;
}

static bool is_sheddable(const struct hub *h, uint8_t class_i)
{
    return class_i < CLASSES_MAX && h->config->classes->at[class_i].priority > 0;
}

static bool has_room(const struct hub *h, uint8_t class_i)
{
    uint32_t max_n = part_of(h, (uint32_t)h->config->globals.max_client_logins);
    if (h->door.inside_n >= max_n)
        return false;
    return !is_sheddable(h, class_i) || h->door.sheddable_n < (max_n + 1) / 2;
}

/* A bucket is kept as the time when it was last empty: nothing has to fill it. */
static uint64_t token_us(const struct hub *h, uint8_t class_i)
{
    uint32_t rate = class_i < CLASSES_MAX ? h->config->classes->at[class_i].login_rate : 0;
    return rate == 0 ? 0 : (uint64_t)US_PER_S * (h->proxy->worker_n - 1u) / rate;
}

static bool has_token(struct hub *h, uint8_t class_i, uint64_t now_us)
{
    uint64_t one_us = token_us(h, class_i);
    uint64_t full_us = one_us > BUCKET_US ? one_us : BUCKET_US;
    if (one_us == 0)
        return true;
    if (now_us > full_us && h->door.empty_us[class_i] < now_us - full_us)
        h->door.empty_us[class_i] = now_us - full_us;
    return h->door.empty_us[class_i] + one_us <= now_us;
}

static bool may(const struct client *c, uint64_t now_us)
{
    uint8_t class_i = c->login->door_class_i;
    return has_room(c->hub, class_i) && has_token(c->hub, class_i, now_us);
}

static void admit(struct client *c, uint64_t now_us)
{
    struct hub *h = c->hub;
    struct client_login *l = c->login;
    if (l->door_class_i < CLASSES_MAX)
        h->door.empty_us[l->door_class_i] += token_us(h, l->door_class_i);
    l->door = CLIENT_DOOR_INSIDE;
    l->door_us = now_us;
    l->door_sheddable = is_sheddable(h, l->door_class_i);
    h->door.inside_n++;
    h->door.sheddable_n += l->door_sheddable;
    DL_APPEND2(h->door.inside, c, door_prev, door_next);
}

/* ---- those who wait ----------------------------------------------------------------------------
 */

static struct door_key key_of(const struct client *c)
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    struct door_key key;
    bool is_v4 = !memcmp(c->peer.address, v4, sizeof v4);
    memset(&key, 0, sizeof key);
    memcpy(key.address, c->peer.address, is_v4 ? sizeof key.address : PREFIX_BYTES);
    key.class_i = c->login->door_class_i;
    return key;
}

/* False: no memory for a queue. */
static bool join(struct client *c)
{
    struct hub *h = c->hub;
    struct door_key key = key_of(c);
    struct door_queue *q;
    HASH_FIND(hh, h->door.queues, &key, sizeof key, q);
    if (!q) {
        q = calloc(1, sizeof *q);
        if (!q)
            return false;
        q->key = key;
        HASH_ADD(hh, h->door.queues, key, sizeof q->key, q);
        DL_APPEND(h->door.turns, q);
    }
    c->login->door = CLIENT_DOOR_WAITS;
    c->login->door_us = hub_now(h);
    c->login->door_queue = q;
    h->door.waiting_n[key.class_i]++;
    DL_APPEND2(q->waiting, c, door_prev, door_next);
    return true;
}

static void unjoin(struct client *c)
{
    struct hub *h = c->hub;
    struct door_queue *q = c->login->door_queue;
    must(c->login->door == CLIENT_DOOR_WAITS && h->door.waiting_n[q->key.class_i] > 0);
    h->door.waiting_n[q->key.class_i]--;
    DL_DELETE2(q->waiting, c, door_prev, door_next);
    c->login->door = CLIENT_DOOR_OUTSIDE;
    c->login->door_queue = NULL;
    if (q->waiting)
        return;
    HASH_DEL(h->door.queues, q);
    DL_DELETE(h->door.turns, q);
    free(q);
}

bool door_enter(struct client *c, uint8_t class_i)
{
    struct hub *h = c->hub;
    must(c->login->door == CLIENT_DOOR_OUTSIDE && class_i <= CLASSES_MAX);
    c->login->door_class_i = class_i;
    if (may(c, hub_now(h)) && h->door.waiting_n[class_i] == 0) {
        admit(c, hub_now(h));
        return true;
    }
    if (join(c))
        return false;
    admit(c, hub_now(h));
    return true;
}

/* A class that has no token keeps nobody of another. */
static struct client *next_in(struct hub *h, uint64_t now_us)
{
    struct door_queue *q;
    if (!has_room(h, CLASSES_MAX))
        return NULL; /* for nobody: thousands may wait, and need not be looked at */
    DL_FOREACH(h->door.turns, q)
    {
        struct client *first = q->waiting;
        if (!may(first, now_us))
            continue;
        DL_DELETE(h->door.turns, q);
        DL_APPEND(h->door.turns, q);
        bool stands = now_us > first->login->door_us + QUEUE_LIFO_US;
        return stands ? first->door_prev : first; /* utlist: before the first is the last */
    }
    return NULL;
}

static void let_in(struct hub *h)
{
    uint64_t now_us = hub_now(h);
    struct client *c;
    while ((c = next_in(h, now_us))) {
        unjoin(c);
        admit(c, now_us);
        hello_go_on(c);
    }
}

static void open_door(struct worker *w, struct letter *l)
{
    struct hub *h = w->hub;
    (void)l;
    h->door.called = false;
    let_in(h);
}

static void step_out(struct client *c)
{
    struct hub *h = c->hub;
    must(c->login->door == CLIENT_DOOR_INSIDE && h->door.inside_n > 0);
    c->login->door = CLIENT_DOOR_OUTSIDE;
    h->door.inside_n--;
    h->door.sheddable_n -= c->login->door_sheddable;
    DL_DELETE2(h->door.inside, c, door_prev, door_next);
    if (!h->door.turns || h->door.called)
        return;
    h->door.called = true; /* later in this turn: nothing recurses from one client into the next */
    h->door.letter.open = open_door;
    worker_defer(h->worker, &h->door.letter);
}

void door_leave(struct client *c)
{
    if (!c->login || c->login->door == CLIENT_DOOR_OUTSIDE)
        return;
    if (c->login->door == CLIENT_DOOR_INSIDE) {
        step_out(c);
        return;
    }
    unjoin(c);
}

void door_sweep(struct hub *h, uint64_t now_us)
{
    uint64_t max_us = h->door.turns ? BUSY_US_MAX : INSIDE_US_MAX;
    while (h->door.inside && now_us > h->door.inside->login->door_us + max_us)
        step_out(h->door.inside);
    let_in(h);
}
