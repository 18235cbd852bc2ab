#include "proxy/brake.h"

#include <stdatomic.h>

#include "proxy/relay.h"
#include "proxy/route.h"
#include "proxy/session.h"

enum {
    BRAKE_TX_US = 2 * US_PER_S, /* as a stream moves a piece every 2 s (pace.h) */
    BRAKE_US = 10 * US_PER_S,   /* as the pool lets no class have nothing for longer */
    /* Rests are added up to this before one is taken: the sweep comes no oftener, and rounded up
     * each of them would be far too long for short statements. */
    BRAKE_REST_US_MIN = 100 * US_PER_MS,
};

void brake_set_class(struct server *s, uint8_t class_i)
{
    const struct class_opts *opts = &s->hub->config->classes->at[class_i];
    brake_end(s);
    s->brake.warned = false;
    s->brake.works = opts->priority > 0 && opts->on_overload & CLASS_HOLD &&
                     s->route->replication == POOL_REPLICATION_NO;
}

void brake_begin(struct server *s)
{
    s->brake = (struct server_brake){.passed = true}; /* the pool has let it in just now */
    brake_set_class(s, s->client->waiter.class_i);
}

void brake_end(struct server *s)
{
    struct server_brake *b = &s->brake;
    if (!b->since_us)
        return;
    struct brake *told = pool_brake(&s->lease);
    uint64_t rested_us = us_since(b->since_us, hub_now(s->hub));
    atomic_fetch_add_explicit(&told->rests_n, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&told->rested_us, rested_us, memory_order_relaxed);
    atomic_store_explicit(&s->lease.rests, false, memory_order_relaxed);
    b->owes_us = us_since(rested_us, b->owes_us);
    b->since_us = 0;
    b->passed = true;
}

void brake_warn(struct server *s)
{
    s->brake.works = s->brake.warned = true;
}

void brake_owe(struct server *s, uint64_t took_us)
{
    struct server_brake *b = &s->brake;
    const struct brake *told = pool_brake(&s->lease);
    b->passed = false;
    b->owes_us += brake_share_us(told, took_us);
    if (!brake_crowded(told))
        b->owes_us = 0;
    else if (b->owes_us > BRAKE_US)
        b->owes_us = BRAKE_US;
}

/* The reason to rest, with so much of it behind it. */
static bool is_asked(const struct server *s, uint64_t rested_us, uint64_t least_us)
{
    const struct brake *told = pool_brake(&s->lease);
    return brake_held(told) ||
           (brake_crowded(told) && us_since(rested_us, s->brake.owes_us) >= least_us);
}

/* What PostgreSQL has of it holds nobody up, and may stay as it is for a while. */
static bool is_harmless(const struct client *c, const struct server *s)
{
    const struct config_pool *set = &route_cell(c->route, c->hub)->settings;
    bool late =
        set->transaction_timeout_us &&
        us_since(c->tx_started_us, hub_now(c->hub)) + BRAKE_TX_US > set->transaction_timeout_us;
    return s->tx == 'I' || (s->tx == 'T' && !late &&
                            !atomic_load_explicit(&s->lease.tx_writes, memory_order_relaxed));
}

static bool is_free(const struct server *s)
{
    return s->brake.advisory || s->cancel_wanted ||
           atomic_load_explicit(&s->lease.unpaced, memory_order_relaxed);
}

static bool is_between(const struct client *c, const struct server *s)
{
    return !owed_n(&s->owed) && !s->unsynced && !s->skipping && !s->copy_in && !s->syncs_ahead &&
           !c->body_left;
}

static void look_ahead(struct client *c, struct view in)
{
    struct server *s = c->server;
    if (!is_between(c, s) || !relay_begins(c, in))
        return;
    s->brake.warned = false;
    session_look_again(c, relay_peek(c, in));
    brake_set_class(s, c->waiter.class_i);
}

bool brake_look(struct client *c, struct view in)
{
    struct server *s = c->server;
    struct server_brake *b = &s->brake;
    uint64_t now_us = hub_now(c->hub);
    if (b->since_us) {
        uint64_t rested_us = us_since(b->since_us, now_us);
        if (rested_us < (s->tx == 'I' ? BRAKE_US : BRAKE_TX_US) && !is_free(s) &&
            is_asked(s, rested_us, 1))
            return true;
        brake_end(s);
        return false;
    }
    if (b->warned)
        look_ahead(c, in);
    if (!b->works || b->passed || !is_asked(s, 0, BRAKE_REST_US_MIN) || is_free(s) ||
        !is_between(c, s) || !is_harmless(c, s) || !relay_can_wait(c, in))
        return false;
    b->since_us = now_us;
    atomic_store_explicit(&s->lease.rests, true, memory_order_relaxed);
    return true;
}
