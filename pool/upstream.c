/* The upstream as a whole: its options, its tick, its breakers.
 *
 * The tick (every 100 ms, control loop) is where time passes for those who wait: what the data path
 * decides, it decides from what the last tick left here. It looks at a bounded number of things:
 * leases (for overdue statements), pools that failed, pools that may need their reserve, scopes
 * with blocked lanes; never at all pools, clients or waiters.
 *
 *     leased servers -> statements in flight -> pressure -> breakers -> rights of the classes
 *     deadlines, old waiters, hopeless pools -> refusals
 *     pauses that are over, reserves, budget  -> lanes awake -> dispatch
 */
#include "pool/upstream.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "pool/cull.h"
#include "pool/dispatch.h"
#include "pool/lease.h"
#include "pool/places.h"
#include "pool/rights.h"
#include "pool/state.h"

#define WANTED_SHARE 0.2 /* of a tick in the mean of statements that run or rest */

enum {
    TICK_LEASES_MAX = 1024,      /* looked at in one tick, in turns where there are more */
    PROBE_POOLS_MAX = 8,         /* pools tried for a place to probe from */
    EXCUSED_MAX = 16,            /* of a key, passed over for one whose wait says something */
    FULL_STEP_US = 5 * US_PER_S, /* after 53300 the budget grows by one so often */
    FULL_FORGET_N = 16,          /* an unknown budget: forgotten when so far above what is used */
};

void upstream_opts_defaults(struct upstream_opts *opts)
{
    *opts = (struct upstream_opts){.instances_n = 1, .connecting_n = 16};
}

bool upstream_opts_check(const struct upstream_opts *opts, struct err *err)
{
    if (opts->connecting_n == 0)
        return err_set(err, "F0000", "at least one server must be allowed to connect at a time");
    return true;
}

const char *upstream_host(const struct upstream *u)
{
    return u->host;
}

uint16_t upstream_port(const struct upstream *u)
{
    return u->port;
}

void upstream_set_opts(struct upstream *u, const struct upstream_opts *opts)
{
    must(opts->connecting_n > 0);
    lock_take(&u->lock);
    u->opts = *opts;
    u->breaker.opts.instances_n = opts->instances_n > 0 ? opts->instances_n : 1;
    u->breaker.opts.clean_us = opts->clean_probe_us;
    facts_learn(u);
    places_set_budget(u);
    lock_drop(&u->lock);
}

/* ---- what runs ----------------------------------------------------------------------------- */

struct look {
    uint32_t inflight_n;
    uint32_t running_n; /* statements, of whatever class */
    uint64_t byte_us;   /* the last one of any lease */
    uint32_t streaming_n[CLASSES_MAX];
    uint32_t busy_n[CLASSES_MAX], resting_n[CLASSES_MAX]; /* sheddable ones */
    uint64_t oldest_paced_us[CLASSES_MAX];
};

/* How long its result has not been read, for the sake of a slow client. */
static uint64_t unread_us(const struct pool_server *s, uint64_t now_us)
{
    uint64_t since_us = atomic_load_explicit(&s->unread_since_us, memory_order_relaxed);

    return atomic_load_explicit(&s->unread_us, memory_order_relaxed) +
           (since_us != 0 ? us_since(since_us, now_us) : 0);
}

static void look_at_sheddable(const struct turn *t, struct look *look, const struct pool_server *s,
                              bool runs)
{
    bool rests = atomic_load_explicit(&s->rests, memory_order_relaxed);

    look->busy_n[s->class_i] += runs;
    look->resting_n[s->class_i] += rests;
    look->streaming_n[s->class_i] += !rests && lease_streams(s, t->now_us);
}

static void look_at_lease(struct turn *t, struct look *look, const struct pool_server *s)
{
    struct upstream *u = t->u;
    uint64_t started_us = atomic_load_explicit(&s->stmt_started_us, memory_order_relaxed);
    uint64_t byte_us = atomic_load_explicit(&s->last_byte_us, memory_order_relaxed);

    look->running_n += started_us != 0;
    look->byte_us = byte_us > look->byte_us ? byte_us : look->byte_us;
    uint64_t paced_us = atomic_load_explicit(&s->paced_tx_us, memory_order_relaxed);
    uint64_t *oldest_us = &look->oldest_paced_us[s->class_i];
    if (paced_us != 0 && (*oldest_us == 0 || paced_us < *oldest_us))
        *oldest_us = paced_us;
    if (u->classes[s->class_i].priority > 0)
        look_at_sheddable(t, look, s, started_us != 0);
    else if (started_us > s->lock_wait_us && look->inflight_n < POOL_INFLIGHT_MAX)
        u->inflight[look->inflight_n++] = (struct estimator_inflight){
            .fingerprint = atomic_load_explicit(&s->stmt_fingerprint, memory_order_relaxed),
            .dispatched_us = started_us,
            .unread_us = unread_us(s, t->now_us),
        };
}

static void look_at_leases(struct turn *t, struct look *look)
{
    struct pool_server *s = t->u->leased, *first = s;
    uint32_t n = 0;

    *look = (struct look){0};
    if (s == NULL)
        return;
    do {
        look_at_lease(t, look, s);
        s = s->next;
    } while (s != first && ++n < TICK_LEASES_MAX);
    t->u->leased = s;
}

static void note_paced(struct upstream *u, const struct look *look)
{
    for (uint32_t i = 0; i < u->class_n; i++)
        atomic_store_explicit(&u->tiers[i].pace.oldest_tx_us, look->oldest_paced_us[i],
                              memory_order_relaxed);
}

static void note_wanted(struct upstream *u, const struct look *look)
{
    for (uint32_t i = 0; i < u->class_n; i++) {
        struct tier *tier = &u->tiers[i];
        uint32_t n = look->busy_n[i] + look->resting_n[i];
        tier->resting_n = look->resting_n[i];
        tier->wanted += (n - tier->wanted) * WANTED_SHARE;
    }
}

/* Paused, down or parked clients wait for something else than the database's speed. */
static bool is_excused(const struct pool_waiter *w)
{
    return w->parked || w->pool->run != POOL_RUNS || w->pool->down;
}

/* When the first of a list that is not excused joined; UINT64_MAX: there is none. */
static uint64_t first_since(const struct pool_waiter *w)
{
    for (uint32_t n = 0; w != NULL && n < EXCUSED_MAX; n++, w = w->all_next)
        if (!is_excused(w))
            return w->since_us;
    return UINT64_MAX;
}

/* The longest wait of a protected client that the database could have shortened. */
static uint64_t protected_wait(const struct upstream *u, uint64_t now_us)
{
    uint64_t since_us = UINT64_MAX;

    for (uint32_t i = 0; i < u->class_n; i++) {
        const struct queue *q = &u->queues[i];
        if (u->classes[i].priority > 0 || q->waiting_n == 0)
            continue;
        uint64_t first_us = first_since(q->members);
        since_us = first_us < since_us ? first_us : since_us;
        for (uint64_t mask = q->keys_mask; mask != 0; mask &= mask - 1) {
            first_us = first_since(q->keys[__builtin_ctzll(mask)].all);
            since_us = first_us < since_us ? first_us : since_us;
        }
    }
    return us_since(since_us, now_us);
}

/* ---- breakers ------------------------------------------------------------------------------ */

static void note_rates(struct upstream *u)
{
    for (uint32_t i = 0; i < u->class_n; i++) {
        struct tier *tier = &u->tiers[i];
        uint64_t bytes_n = atomic_load_explicit(&tier->bytes_n, memory_order_relaxed);
        uint64_t *slot = &tier->rate_ring[u->ticks_n % POOL_RATE_TICKS];
        tier->bytes_per_s -= *slot;
        *slot = bytes_n - tier->bytes_seen_n;
        tier->bytes_per_s += *slot;
        tier->bytes_seen_n = bytes_n;
    }
}

/* What the class may lease of its own right: what the breaker's g = 1 stands for. */
static uint32_t own_cap(const struct upstream *u, uint8_t class_i)
{
    const struct class_opts *o = &u->classes[class_i];
    const struct tier *tier = &u->tiers[class_i];
    uint32_t budget_n = u->opts.budget_n, cap_n = tier->reference_n;

    if (!o->max.percent)
        return o->max.n;
    if (budget_n > 0)
        return class_share_of(o->max, budget_n);
    if (cap_n < u->queues[class_i].leased_n)
        cap_n = u->queues[class_i].leased_n;
    if (u->facts.places_n > 0 && cap_n > class_share_of(o->max, rights_shared(u)))
        cap_n = class_share_of(o->max, rights_shared(u));
    return cap_n == 0 ? 1 : cap_n;
}

/* Its leases that go on are told as well. */
static void brake(struct upstream *u, uint8_t class_i)
{
    struct tier *tier = &u->tiers[class_i];
    uint32_t limit_n = u->breaker.classes[tier->breaker_i].ask.limit_n;

    atomic_store_explicit(&tier->brake.held, tier->held, memory_order_relaxed);
    brake_set_crowd(&tier->brake, tier->wanted, tier->limited ? limit_n : 0);
}

/* What the breaker asks for from now on. */
static void obey_breaker(struct upstream *u)
{
    uint32_t shed_mask = 0;

    for (uint32_t i = 0; i < u->breaker.classes_n; i++) {
        struct tier *tier = &u->tiers[u->breaker_order[i]];
        const struct breaker_ask *ask = &u->breaker.classes[i].ask;
        bool holds = (u->classes[u->breaker_order[i]].on_overload & CLASS_HOLD) != 0;
        tier->held = holds && ask->held;
        tier->limited = holds && (ask->limited || ask->held);
        if (u->breaker.state == BREAKER_OPEN && tier->limited)
            shed_mask |= BIT(u->breaker_order[i]);
        brake(u, (uint8_t)u->breaker_order[i]);
    }
    atomic_store_explicit(&u->shed_mask, shed_mask, memory_order_relaxed);
    rights_rates(u);
    rights_upstream_all(u);
}

static void tick_breaker(struct turn *t, const struct look *look)
{
    struct upstream *u = t->u;
    struct breaker_use use[CLASSES_MAX] = {{0}};
    uint64_t wait_us = protected_wait(u, t->now_us);

    if (wait_us == 0 || facts_locked(u)) {
        wait_us = 0;
        estimator_queue_empty(&u->estimator);
    }
    for (uint32_t i = 0; i < u->breaker.classes_n; i++) {
        uint8_t c = (uint8_t)u->breaker_order[i];
        uint32_t active_n = u->queues[c].leased_n, streaming_n = look->streaming_n[c];
        uint32_t still_n = u->shares.at[c].still_n; /* the leader of a dump hurts nobody */
        active_n -= still_n < active_n ? still_n : active_n;
        /* Who rests between two statements waits, and hurts nobody. */
        uint32_t resting_n = u->tiers[c].resting_n;
        active_n -= resting_n < active_n ? resting_n : active_n;
        use[i] = (struct breaker_use){
            .active_n = active_n,
            .nonstreaming_n = active_n > streaming_n ? active_n - streaming_n : 0,
            .queued_n = u->queues[c].waiting_n + resting_n,
            .cap_n = own_cap(u, c),
            .bytes_per_s = u->tiers[c].bytes_per_s,
            .granted_n = u->tiers[c].granted_n,
        };
    }
    struct pressure pressure =
        estimator_pressure(&u->estimator, t->now_us, u->inflight, look->inflight_n, wait_us);
    u->tick_late_n += pressure.lagging;
    bool forgiven = facts_forgives(u, t->now_us);
    if (!u->serving || u->facts.frozen || forgiven)
        pressure.lagging = true; /* nobody there, or not for bulk's sake: latency blames nobody */
    breaker_tick(&u->breaker, &u->estimator, &pressure, use, t->now_us);
    estimator_tick_end(&u->estimator, t->now_us, breaker_calm(&u->breaker, &pressure));
    obey_breaker(u);
}

/* Of those who asked and have their answer. */
static void tick_retries(struct turn *t)
{
    for (uint32_t i = 0; i < t->u->class_n; i++) {
        struct tier *tier = &t->u->tiers[i];
        uint64_t refused_n = 0;
        for (uint32_t why = 0; why < POOL_REFUSALS_N; why++)
            refused_n += tier->refused_n[why];
        retry_tick(&tier->retry, tier->granted_n + tier->left_n + refused_n, refused_n, t->now_us);
    }
}

static void tick_error_breaker(struct turn *t)
{
    struct upstream *u = t->u;
    bool served = u->serving;

    if (error_breaker_tick(&u->error_breaker, t->now_us))
        *(u->facts.prober ? &u->facts.login_asked : &u->probe_wanted) = true;
    u->serving = u->error_breaker.state != ERROR_BREAKER_OPEN &&
                 u->error_breaker.state != ERROR_BREAKER_HALF_OPEN;
    u->passes_sheddable = error_breaker_passes(&u->error_breaker, false, t->now_us);
    if (u->serving && !served) {
        u->serving_since_us = t->now_us;
        estimator_settle(&u->estimator, t->now_us);
    }
    if (u->error_breaker.state == ERROR_BREAKER_CLOSED ||
        u->error_breaker.state == ERROR_BREAKER_RAMP)
        u->probe_wanted = u->facts.login_asked = false; /* answered by other means */
}

/* ---- what comes back with time ------------------------------------------------------------- */

static void tick_budget(struct upstream *u, uint64_t now_us)
{
    if (u->full_n == 0 || now_us < u->full_until_us)
        return;
    u->full_until_us = now_us + FULL_STEP_US;
    u->full_n++;
    uint32_t places_n = rights_places(u);
    bool forget = places_n > 0 ? u->full_n >= places_n : u->full_n >= u->server_n + FULL_FORGET_N;
    if (forget)
        u->full_n = 0;
    places_set_budget(u);
}

/* An attempt of our own where no lane asks for one: somebody was refused meanwhile, or the error
 * breaker wants to know. */
static void open_unasked(struct turn *t, struct pool *p)
{
    struct upstream *u = t->u;

    if (p->run != POOL_RUNS || p->opening_n > 0 || p->server_n >= rights_pool_size(p) ||
        !turn_has_room(t) || places_take(t, p) != POOL_SCOPES)
        return;
    if (++u->open_worker >= u->worker_n || u->open_worker < u->worker_first_i)
        u->open_worker = u->worker_first_i;
    p->wanted = false;
    places_open(t, p, CLASSES_MAX, u->open_worker);
}

static void tick_down(struct turn *t)
{
    struct upstream *u = t->u;
    uint32_t n = 0;

    for (struct pool *p = u->down; p != NULL && n < POOL_SWEEP_MAX; n++) {
        struct pool *next = p->down_next;
        DL_DELETE2(u->down, p, down_prev, down_next);
        DL_APPEND2(u->down, p, down_prev, down_next);
        dispatch_add_chore(p, POOL_CHORE_REFUSE);
        bool due = t->now_us >= p->retry_at_us;
        if (due && p->waiting_n > 0)
            places_wake_pool(p);
        else if (due && p->wanted && p->clients_all_n > 0 && u->connecting_n < rights_connecting(u))
            open_unasked(t, p);
        p = next;
    }
}

/* The error breaker's question, where no waiting lane has asked it on the way. */
static void tick_probe(struct turn *t)
{
    struct upstream *u = t->u;
    uint32_t n = 0;

    if (!u->probe_wanted)
        return;
    if (u->opening_last != NULL && u->opening_last->opening_n > 0) {
        u->probing = u->opening_last; /* an attempt is under way: its answer is as good */
        u->probe_wanted = false;
        return;
    }
    for (struct pool *p = u->down; p != NULL && u->probe_wanted && n < PROBE_POOLS_MAX; n++) {
        open_unasked(t, p);
        p = p->down_next;
    }
    for (struct pool *p = u->pools; p != NULL && u->probe_wanted && n < 2 * PROBE_POOLS_MAX; n++) {
        open_unasked(t, p);
        p = p->next;
    }
    /* No place to ask from, because all are taken; and one of those has just worked. */
    if (u->probe_wanted && u->error_breaker.alive_us + US_PER_S > t->now_us) {
        u->probe_wanted = false;
        error_breaker_probe_done(&u->error_breaker, true, t->now_us);
    }
    /* All are taken and nobody ends: a question that was never put has no answer. */
    if (u->probe_wanted)
        error_breaker_probe_waits(&u->error_breaker, t->now_us);
}

static void tick_reserves(struct turn *t)
{
    struct upstream *u = t->u;
    struct pool *p, *next;
    uint32_t n = 0;

    DL_FOREACH_SAFE2(u->spare, p, next, spare_next)
    {
        uint64_t oldest_us = UINT64_MAX;
        if (n++ == POOL_SWEEP_MAX)
            break;
        for (uint32_t mask = p->lanes_mask; mask != 0; mask &= mask - 1) {
            uint64_t since_us = queue_lane_since(p->lanes[__builtin_ctz(mask)]);
            oldest_us = since_us < oldest_us ? since_us : oldest_us;
        }
        bool open = oldest_us != UINT64_MAX && t->now_us >= oldest_us + p->opts.reserve_after_us;
        bool used = p->opts.size_n > 0 && p->server_n > p->opts.size_n;
        if (open != p->reserve_open && (open || !used)) {
            p->reserve_open = open;
            rights_pool_all(p);
            places_wake_pool(p);
        }
        if (p->waiting_n == 0 && !p->reserve_open) {
            p->spare = false;
            DL_DELETE2(u->spare, p, spare_prev, spare_next);
        }
    }
}

void pool_tick(struct upstream *u, uint64_t now_us, struct pool_actions *actions)
{
    struct turn t = {.u = u, .now_us = now_us, .actions = actions};
    struct look look;

    actions->n = 0;
    actions->more = false;
    actions->upstream = u;
    lock_take(&u->lock);
    u->ticks_n++;
    look_at_leases(&t, &look);
    note_paced(u, &look);
    note_wanted(u, &look);
    note_rates(u);
    tick_error_breaker(&t);
    facts_tick(u, look.running_n, look.byte_us, now_us);
    tick_breaker(&t, &look);
    cull_tick(&t);
    tick_budget(u, now_us);
    for (uint32_t i = 0; i < u->class_n; i++)
        queue_tick(&u->queues[i], u->facts.stalled ? now_us : u->serving_since_us, now_us);
    tick_retries(&t);
    tick_down(&t);
    tick_reserves(&t);
    dispatch_chores(&t);
    dispatch_groups(&t);
    dispatch_run(&t, NULL);
    dispatch_wake_all(&t);
    tick_probe(&t);
    lock_drop(&u->lock);
}

/* ---- for people ---------------------------------------------------------------------------- */

const char *upstream_explain(struct upstream *u, uint8_t class_i, uint64_t now_us, char *buf,
                             size_t buf_bytes)
{
    must(buf_bytes > 0);
    lock_take(&u->lock);
    must(class_i < u->class_n);
    struct breaker *b = &u->breaker;
    int breaker_i = u->tiers[class_i].breaker_i;
    buf[0] = '\0';
    if (u->facts.stalled)
        snprintf(buf, buf_bytes, "stalled: connects are accepted, and nothing is answered");
    else if (!u->serving)
        snprintf(buf, buf_bytes, "error breaker %s: %s",
                 error_breaker_state_name(u->error_breaker.state), u->error_breaker.why);
    else if (breaker_i >= 0)
        (void)breaker_explain(b, (uint32_t)breaker_i, now_us, buf, buf_bytes);
    lock_drop(&u->lock);
    return buf;
}

uint64_t upstream_retry_after_us(struct upstream *u, uint64_t now_us)
{
    lock_take(&u->lock);
    /* Those refused together must not come back together: any spread will do. */
    uint32_t random = ++u->retries_n * 2654435769u;
    uint64_t us = breaker_retry_after_us(&u->breaker, now_us, random);
    lock_drop(&u->lock);
    return us;
}

bool upstream_sheds_logins(const struct upstream *u, uint8_t class_i)
{
    must(class_i < CLASSES_MAX);
    return atomic_load_explicit(&u->shed_mask, memory_order_relaxed) & BIT(class_i);
}

bool upstream_cancel_begin(struct upstream *u)
{
    uint32_t n = atomic_fetch_add_explicit(&u->cancelling_n, 1, memory_order_relaxed);
    if (n < UPSTREAM_CANCELS_MAX)
        return true;
    atomic_fetch_sub_explicit(&u->cancelling_n, 1, memory_order_relaxed);
    return false;
}

bool upstream_cancels_full(const struct upstream *u)
{
    return atomic_load_explicit(&u->cancelling_n, memory_order_relaxed) >= UPSTREAM_CANCELS_MAX;
}

void upstream_cancel_end(struct upstream *u)
{
    uint32_t n = atomic_fetch_sub_explicit(&u->cancelling_n, 1, memory_order_relaxed);
    must(n > 0);
}

uint32_t upstream_tell_hours(struct upstream *u, const struct upstream_hours *hours,
                             uint64_t now_us)
{
    uint32_t late_mask = 0;
    bool changed = false;

    lock_take(&u->lock);
    for (uint32_t i = 0; i < u->class_n; i++) {
        struct tier *tier = &u->tiers[i];
        bool closed = (hours->closed_mask & BIT(i)) != 0;
        uint64_t bytes_n = atomic_load_explicit(&tier->bytes_n, memory_order_relaxed);
        changed |= closed != tier->closed;
        tier->closed = closed;
        if (finish_tick(&tier->finish, u->queues[i].leased_n, bytes_n, now_us, hours->due_us[i]))
            late_mask |= BIT(i);
    }
    if (changed)
        rights_upstream_all(u);
    lock_drop(&u->lock);
    return late_mask;
}

void upstream_trip(struct upstream *u, uint8_t class_i, uint64_t now_us)
{
    lock_take(&u->lock);
    if (class_i < u->class_n && u->tiers[class_i].breaker_i >= 0)
        breaker_trip(&u->breaker, (uint32_t)u->tiers[class_i].breaker_i, now_us);
    obey_breaker(u);
    lock_drop(&u->lock);
}

void upstream_release(struct upstream *u, uint64_t now_us)
{
    lock_take(&u->lock);
    breaker_release(&u->breaker, &u->estimator, now_us);
    obey_breaker(u);
    lock_drop(&u->lock);
}

void upstream_reset_baseline(struct upstream *u, uint64_t now_us)
{
    lock_take(&u->lock);
    estimator_reset_baseline(&u->estimator, now_us);
    lock_drop(&u->lock);
}

size_t upstream_save_baseline(struct upstream *u, uint64_t now_us, uint8_t *buf, size_t buf_bytes)
{
    lock_take(&u->lock);
    size_t n = estimator_save(&u->estimator, now_us, buf, buf_bytes);
    lock_drop(&u->lock);
    return n;
}

bool upstream_load_baseline(struct upstream *u, uint64_t now_us, uint64_t away_us,
                            const uint8_t *bytes, size_t bytes_n, struct err *err)
{
    lock_take(&u->lock);
    bool loaded = estimator_load(&u->estimator, now_us, away_us, bytes, bytes_n, err);
    lock_drop(&u->lock);
    return loaded;
}
