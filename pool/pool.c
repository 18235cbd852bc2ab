/* The data path: acquire, cancel, observe, demote, release; and the life of a server.
 *
 * Each call takes the upstream's lock once and costs a few list moves when nobody waits: nothing on
 * the way of a lease or a release depends on the number of pools, servers, clients or waiters.
 *
 * One server goes through
 *
 *     POOL_OPEN -> pool_opened -> IDLE <-> LEASED -> pool_closed
 *              \-> pool_open_failed   \-> CLOSING --^
 *
 * and takes a place (upstream, database, user, pool) from POOL_OPEN to the end. The race of two
 * loops is decided here: a server granted or told to close by another loop's call is not freed by
 * its own before the letter has come (pool_closed).
 */
#include "pool/pool.h"

#include <string.h>
#include <utlist.h>

#include "pool/address.h"
#include "pool/dispatch.h"
#include "pool/places.h"
#include "pool/rights.h"
#include "pool/state.h"

static struct turn turn_begin(struct upstream *u, uint64_t now_us, struct pool_actions *actions)
{
    actions->n = 0;
    actions->more = false;
    actions->upstream = u;
    lock_take(&u->lock);
    return (struct turn){.u = u, .now_us = now_us, .actions = actions};
}

static void turn_end(struct turn *t)
{
    lock_drop(&t->u->lock);
}

/* ---- clients ------------------------------------------------------------------------------- */

/* An idle server here, nobody waits before us, and nothing forbids it: most calls end here. */
static bool grant_at_once(struct turn *t, struct pool *p, struct pool_waiter *w)
{
    struct upstream *u = t->u;
    uint8_t c = w->class_i;

    if (((p->idle_mask >> w->worker) & 1) == 0 || p->lanes[c]->waiting_n > 0 ||
        p->run != POOL_RUNS || !shares_allow(&p->shares, c, 0) || !shares_allow(&u->shares, c, 0))
        return false;
    if (!address_admit(w->addr))
        return false;
    dispatch_lease(t, p, places_idle_for(p, w->worker), w);
    u->tiers[c].granted_n++;
    u->tiers[c].granted_at_once_n++;
    if (u->classes[c].priority == 0)
        estimator_observe_wait(&u->estimator, 0);
    return true;
}

static enum pool_verdict refuse_at_once(struct turn *t, struct pool_waiter *w,
                                        enum pool_refusal why)
{
    w->refusal = why;
    t->u->tiers[w->class_i].refused_n[why]++;
    w->over_budget = t->u->tiers[w->class_i].retry.over;
    return POOL_REFUSED;
}

static enum pool_verdict queue_up(struct turn *t, struct pool *p, struct pool_waiter *w)
{
    struct upstream *u = t->u;
    const struct class_opts *o = &u->classes[w->class_i];
    struct queue *q = &u->queues[w->class_i];

    w->due_us = queue_due(o, w, t->now_us);
    u->asking = w;
    u->asking_granted = false;
    dispatch_join(t, w, address_admit(w->addr));
    dispatch_run(t, p);
    /* Counted after the attempt: a place in the queue is only needed by who has to wait. */
    if (w->queued && q->waiting_n > o->queue_limit_n && turn_has_room(t)) {
        struct pool_waiter *victim = queue_victim(q);
        if (!victim->member) {
            dispatch_refuse(t, victim, POOL_REFUSED_QUEUE_FULL);
            dispatch_run(t, p);
        }
    }
    u->asking = NULL;
    if (w->refusal != POOL_REFUSED_NOT)
        return POOL_REFUSED;
    return u->asking_granted ? POOL_GRANTED : POOL_QUEUED;
}

enum pool_verdict pool_acquire(struct pool *p, struct pool_waiter *w, uint64_t now_us,
                               struct pool_actions *actions)
{
    struct upstream *u = p->upstream;
    struct turn t = turn_begin(u, now_us, actions);
    enum pool_verdict verdict;

    must(!w->queued);
    must(w->class_i < u->class_n);
    must(w->worker < p->worker_n);
    w->pool = p;
    w->server = NULL;
    w->refusal = POOL_REFUSED_NOT;
    w->group_n = 0;
    w->since_us = now_us;
    p->used_us = now_us;
    bool closed = u->tiers[w->class_i].closed &&
                  u->classes[w->class_i].outside == CLASS_OUTSIDE_REFUSE &&
                  groups_find(p, w->group) == NULL; /* a job that has begun goes on */
    if (!closed && grant_at_once(&t, p, w)) {
        verdict = POOL_GRANTED;
    } else if (p->run == POOL_DISABLED || p->run == POOL_KILLED) {
        verdict = refuse_at_once(&t, w, POOL_REFUSED_SHUTDOWN);
    } else if (closed) {
        verdict = refuse_at_once(&t, w, POOL_REFUSED_CLOSED);
    } else if (dispatch_hopeless(p, w->class_i, now_us)) {
        p->wanted = true;
        verdict = refuse_at_once(&t, w, POOL_REFUSED_DOWN);
    } else {
        verdict = queue_up(&t, p, w);
    }
    turn_end(&t);
    return verdict;
}

bool pool_cancel(struct pool_waiter *w, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(w->pool->upstream, now_us, actions);
    bool was_queued = w->queued;

    if (was_queued) {
        t.u->tiers[w->class_i].left_n++;
        dispatch_leave(&t, w, false);
        dispatch_run(&t, w->pool);
    }
    turn_end(&t);
    return was_queued;
}

static void observe(struct upstream *u, const struct pool_server *s,
                    const struct pool_observation *obs)
{
    if (obs == NULL || u->classes[s->class_i].priority > 0)
        return;
    u->facts.protected_n++;
    if (obs->dispatched_us > s->lock_wait_us) /* waiting for a lock says nothing about load */
        estimator_observe(&u->estimator, obs->fingerprint, obs->dispatched_us, obs->service_us);
}

void pool_observe(struct pool_server *s, const struct pool_observation *obs)
{
    struct upstream *u = s->pool->upstream;

    if (obs == NULL)
        return;
    lock_take(&u->lock);
    must(s->state == POOL_SERVER_LEASED);
    observe(u, s, obs);
    error_breaker_report(&u->error_breaker, ERROR_BREAKER_READY, u->server_n,
                         obs->dispatched_us + obs->service_us);
    lock_drop(&u->lock);
}

void pool_demote(struct pool_server *s, uint8_t class_i, uint64_t now_us,
                 struct pool_actions *actions)
{
    struct turn t = turn_begin(s->pool->upstream, now_us, actions);

    if (s->class_i != class_i) {
        dispatch_move_lease(&t, s, class_i);
        places_wake_pool(s->pool);
        dispatch_run(&t, s->pool);
        dispatch_wake_all(&t); /* its former class may have room in any scope now */
    }
    turn_end(&t);
}

void pool_bytes(struct pool_server *s, uint64_t bytes_n)
{
    struct tier *tier = &s->pool->upstream->tiers[s->class_i];

    atomic_fetch_add_explicit(&tier->bytes_n, bytes_n, memory_order_relaxed);
}

struct pace *pool_pace(const struct pool_server *s)
{
    return &s->pool->upstream->tiers[s->class_i].pace;
}

struct brake *pool_brake(const struct pool_server *s)
{
    return &s->pool->upstream->tiers[s->class_i].brake;
}

void pool_release(struct pool_server *s, const struct pool_observation *obs, uint64_t now_us,
                  struct pool_actions *actions)
{
    struct pool *p = s->pool;
    struct turn t = turn_begin(p->upstream, now_us, actions);

    observe(t.u, s, obs);
    error_breaker_report(&t.u->error_breaker, ERROR_BREAKER_READY, t.u->server_n, now_us);
    dispatch_unlease(&t, s);
    p->used_us = now_us;
    if (dispatch_worn(p, s, now_us) || dispatch_claimed_elsewhere(&t, p))
        places_close(&t, s, -1);
    else if (t.u->waiting_n == 0)
        places_idle_add(p, s, now_us);
    else {
        int scope_kind = dispatch_claimed(&t, p);
        if (scope_kind >= 0)
            places_close(&t, s, scope_kind);
        else
            places_idle_add(p, s, now_us);
    }
    if (t.u->waiting_n > 0) {
        places_wake_pool(p);
        dispatch_run(&t, p);
    }
    turn_end(&t);
}

/* ---- servers ------------------------------------------------------------------------------- */

static void forget_failure(struct pool *p)
{
    p->failed_n = 0;
    p->wanted = false;
    p->failed.text[0] = '\0';
    if (!p->down)
        return;
    p->down = false;
    DL_DELETE2(p->upstream->down, p, down_prev, down_next);
}

static void probe_ended(struct upstream *u, const struct pool *p, bool alive, uint64_t now_us)
{
    if (u->probing != p)
        return;
    u->probing = NULL;
    error_breaker_probe_done(&u->error_breaker, alive, now_us);
}

void pool_opened(struct pool *p, struct pool_server *s, uint16_t worker, uint64_t now_us,
                 struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    must(s->state == POOL_SERVER_NONE);
    must(worker < p->worker_n);
    bool old = p->opening_old_n > 0;
    places_opening_ended(p);
    forget_failure(p);
    error_breaker_report(&t.u->error_breaker, ERROR_BREAKER_LOGIN_OK, t.u->server_n, now_us);
    probe_ended(t.u, p, true, now_us);
    t.u->opened_n++;
    s->pool = p;
    s->worker = worker;
    s->opened_us = now_us;
    s->leased_us = 0;
    s->epoch_n = old ? p->epoch_n - 1 : p->epoch_n;
    s->lru_scopes = 0;
    s->died = false;
    s->addr = NULL;
    s->prev = s->next = NULL;
    if (p->run != POOL_RUNS || old)
        places_close(&t, s, -1);
    else
        places_idle_add(p, s, now_us);
    places_wake_pool(p);
    dispatch_run(&t, p);
    turn_end(&t);
}

static void report_failure(struct upstream *u, const struct pool *p, enum pool_failure why,
                           uint64_t now_us)
{
    enum error_breaker_event event = ERROR_BREAKER_LOGIN_REFUSED;

    switch (why) {
    case POOL_FAILED_CONNECT:
        event = ERROR_BREAKER_CONNECT_REFUSED;
        break;
    case POOL_FAILED_STARTING:
        event = ERROR_BREAKER_STARTING_UP;
        break;
    case POOL_FAILED_FULL:
        event = ERROR_BREAKER_SERVER_FULL;
        break;
    case POOL_FAILED_LOGIN:
        break;
    }
    error_breaker_report(&u->error_breaker, event, u->server_n, now_us);
    probe_ended(u, p, why == POOL_FAILED_FULL || why == POOL_FAILED_LOGIN, now_us);
}

/* The server is full: it has less room than we were told. Not below what is reserved for protected
 * classes: those go on trying. */
static void lower_budget(struct upstream *u, uint64_t now_us)
{
    uint32_t open_n = u->server_n - u->connecting_n, full_n = open_n - open_n / 10;
    uint32_t reserved_n = 0;

    for (uint32_t i = 0; i < u->class_n; i++)
        reserved_n += u->classes[i].priority == 0 ? u->shares.at[i].reserved_n : 0;
    if (full_n < reserved_n)
        full_n = reserved_n;
    if (full_n == 0)
        full_n = 1;
    u->full_n = u->full_n > 0 && u->full_n < full_n ? u->full_n : full_n;
    u->full_until_us = now_us + 30ull * US_PER_S;
    places_set_budget(u);
}

static void note_failure(struct pool *p, enum pool_failure why, const struct err *text,
                         uint64_t now_us)
{
    uint64_t longest_us = p->opts.login_retry_us, pause_us = POOL_RETRY_US_MIN;

    if (p->failed_n == 0)
        p->failed_since_us = now_us;
    /* Sixteen attempts at once that come to nothing are one failure. */
    if (p->failed_n == 0 || now_us >= p->retry_at_us)
        p->failed_n++;
    p->failed_why = why;
    if (text != NULL)
        p->failed = *text;
    if (why != POOL_FAILED_LOGIN && longest_us > POOL_RETRY_US_DOWN)
        longest_us = POOL_RETRY_US_DOWN;
    for (uint32_t i = 1; i < p->failed_n && pause_us < longest_us; i++)
        pause_us *= 2;
    p->retry_at_us = now_us + (pause_us < longest_us ? pause_us : longest_us);
    if (!p->down) {
        p->down = true;
        DL_APPEND2(p->upstream->down, p, down_prev, down_next);
    }
    p->wanted |= p->waiting_n > 0;
    dispatch_add_chore(p, POOL_CHORE_REFUSE);
}

void pool_open_failed(struct pool *p, enum pool_failure why, const struct err *text,
                      uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = turn_begin(p->upstream, now_us, actions);

    places_opening_ended(p);
    places_give(p);
    report_failure(t.u, p, why, now_us);
    t.u->open_failed_n++;
    if (why == POOL_FAILED_FULL)
        lower_budget(t.u, now_us);
    note_failure(p, why, text, now_us);
    dispatch_chores(&t);
    places_wake_pool(p);
    dispatch_run(&t, p);
    turn_end(&t);
}

/* True when s is in nobody's hands any more, and its place free. */
static bool take_out(struct turn *t, struct pool_server *s, bool leased_here)
{
    switch (s->state) {
    case POOL_SERVER_IDLE:
        places_idle_remove(s->pool, s);
        return true;
    case POOL_SERVER_LEASED:
        if (!leased_here)
            return false;
        dispatch_unlease(t, s);
        return true;
    case POOL_SERVER_CLOSING:
        if (!leased_here)
            return false;
        places_closed(s);
        return true;
    case POOL_SERVER_NONE:
    case POOL_SERVER_OPENING:
        break;
    }
    must(!"a server that a pool knows");
    return false;
}

bool pool_closed(struct pool_server *s, bool leased_here, uint64_t now_us,
                 struct pool_actions *actions)
{
    struct pool *p = s->pool;
    struct turn t = turn_begin(p->upstream, now_us, actions);

    if (s->died && s->state != POOL_SERVER_CLOSING) {
        t.u->died_n++;
        error_breaker_report(&t.u->error_breaker, ERROR_BREAKER_SESSION_DIED,
                             t.u->server_n - t.u->connecting_n, now_us);
    }
    s->died = false; /* said once */
    bool out = take_out(&t, s, leased_here);
    if (out) {
        s->state = POOL_SERVER_NONE;
        places_give(p);
        p->used_us = now_us;
        places_wake_pool(p);
        dispatch_run(&t, p);
    }
    turn_end(&t);
    return out;
}
