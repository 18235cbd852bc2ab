/* Who may log in now. See door.h. */
#include "proxy/door.h"

#include <utlist.h>

#include "proxy/session.h"

_Static_assert(CLASSES_MAX < 32, "a bit for each class, and one for those of none yet");

enum {
    INSIDE_US_MAX = US_PER_S, /* then it is its client that takes so long */
    BUCKET_US = 2 * US_PER_S,
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

/* Whether somebody of the same kind has waited longer. */
static bool is_taken(const struct hub *h, uint8_t class_i)
{
    const struct client *c;
    DL_FOREACH2(h->door.waiting, c, door_next)
    {
        if (c->login->door_class_i == class_i)
            return true;
    }
    return false;
}

bool door_enter(struct client *c, uint8_t class_i)
{
    struct hub *h = c->hub;
    must(c->login->door == CLIENT_DOOR_OUTSIDE);
    c->login->door_class_i = class_i;
    if (may(c, hub_now(h)) && !is_taken(h, class_i)) {
        admit(c, hub_now(h));
        return true;
    }
    c->login->door = CLIENT_DOOR_WAITS;
    DL_APPEND2(h->door.waiting, c, door_prev, door_next);
    return false;
}

/* In the order of their coming, each class for itself: one that has no token keeps nobody else. */
static struct client *next_in(struct hub *h, uint64_t now_us)
{
    uint32_t kept_mask = 0;
    struct client *c;
    if (!has_room(h, CLASSES_MAX))
        return NULL; /* for nobody: thousands may wait, and need not be looked at */
    DL_FOREACH2(h->door.waiting, c, door_next)
    {
        uint32_t bit = BIT(c->login->door_class_i);
        if (!(kept_mask & bit) && may(c, now_us))
            return c;
        kept_mask |= bit;
    }
    return NULL;
}

static void let_in(struct hub *h)
{
    uint64_t now_us = hub_now(h);
    struct client *c;
    while ((c = next_in(h, now_us))) {
        DL_DELETE2(h->door.waiting, c, door_prev, door_next);
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
    if (!h->door.waiting || h->door.called)
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
    c->login->door = CLIENT_DOOR_OUTSIDE;
    DL_DELETE2(c->hub->door.waiting, c, door_prev, door_next);
}

void door_sweep(struct hub *h, uint64_t now_us)
{
    while (h->door.inside && now_us > h->door.inside->login->door_us + INSIDE_US_MAX)
        step_out(h->door.inside);
    let_in(h);
}
