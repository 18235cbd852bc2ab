#include "proxy/cull.h"

#include <stdatomic.h>

#include "proxy/log.h"
#include "proxy/session.h"

enum {
    TERMINATE_US = 10 * US_PER_S, /* from our decision, where it has no effect */
    AGAIN_US = US_PER_S / 2,      /* after a request that could not be sent */
};

const char *cull_name(enum pool_cull why)
{
    switch (why) {
    case POOL_CULL_NOT:
        break;
    case POOL_CULL_OVERLOAD:
        return "overload";
    case POOL_CULL_LOCKS:
        return "lock_inversion";
    case POOL_CULL_OPERATOR:
        return "operator";
    }
    must(!"a reason to cancel");
    return "";
}

static void cull(struct server *s, uint64_t now_us)
{
    struct hub *h = s->hub;
    struct client *c = s->client;
    uint8_t why = atomic_load_explicit(&s->lease.cancel_why, memory_order_relaxed);
    must(why > POOL_CULL_NOT && why < POOL_CULLS_N);
    s->culled = (enum pool_cull)why;
    s->culled_us = s->cull_tried_us = now_us;
    count_add(&h->classes[c->waiter.class_i].cancelled[why], 1);
    log_info("C-%#llx: %s/%s statement cancelled class=%s why=%s age=%.1fs server=S-%#llx",
             (unsigned long long)c->id, c->route->database, c->route->user,
             h->config->classes->at[c->waiter.class_i].name, cull_name(s->culled),
             (double)us_since(c->stmt_started_us, now_us) / US_PER_S, (unsigned long long)s->id);
    cancel_cull(s);
}

/* The server's place is free again whatever PostgreSQL does; it notices with its next write. */
static void terminate(struct server *s)
{
    struct client *c = s->client;
    struct hub *h = s->hub;
    struct err err;
    count_add(&h->classes[c->waiter.class_i].terminated, 1);
    err_set(&err, "57P01", "statement did not end %d s after it was cancelled",
            (int)(TERMINATE_US / US_PER_S));
    session_terminate(c);
    session_server_lost(s, &err);
}

void cull_look(struct server *s, uint64_t now_us)
{
    const struct client *c = s->client;
    uint64_t stmt_us = atomic_load_explicit(&s->lease.cancel_stmt_us, memory_order_acquire);
    if (!stmt_us || stmt_us != c->stmt_started_us || !owed_n(&s->owed))
        return;
    if (s->culled == POOL_CULL_NOT) {
        cull(s, now_us);
        return;
    }
    if (!s->cull_sent && !cull_holds(s) && us_since(s->cull_tried_us, now_us) > AGAIN_US) {
        s->cull_tried_us = now_us;
        cancel_cull(s);
    }
    const struct class_opts *opts = &s->hub->config->classes->at[c->waiter.class_i];
    if (opts->on_overload & CLASS_TERMINATE && us_since(s->culled_us, now_us) > TERMINATE_US)
        terminate(s);
}
