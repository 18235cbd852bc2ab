/* Copies for SHOW and metrics. See show.h. */
#include "pool/show.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pool/state.h"

void show_pool(struct pool *p, uint64_t now_us, struct pool_stats *out)
{
    struct upstream *u = p->upstream;

    *out = (struct pool_stats){.database = p->database,
                               .user = p->user,
                               .upstream = u,
                               .replication = p->replication,
                               .db_used_n = cap_used(p->caps[SCOPE_DATABASE]),
                               .user_used_n = cap_used(p->caps[SCOPE_USER])};
    lock_take(&u->lock);
    out->run = p->run;
    out->opts = p->opts;
    out->clients_n = p->clients_all_n;
    out->waiting_n = p->waiting_n;
    out->leased_n = p->shares.leased_n;
    out->idle_n = p->idle_n;
    out->opening_n = p->opening_n;
    out->closing_n = p->closing_n;
    out->down = p->down;
    out->retry_at_us = p->retry_at_us;
    out->reserve_open = p->reserve_open;
    for (uint32_t i = 0; i < u->class_n; i++) {
        const struct lane *l = p->lanes[i];
        out->classes[i].clients_n = p->clients_n[i];
        out->classes[i].waiting_n = l->waiting_n;
        out->classes[i].leased_n = p->shares.at[i].leased_n;
        out->classes[i].reserved_n = p->shares.at[i].reserved_n;
        out->classes[i].max_n = p->shares.at[i].max_n;
        if (l->waiting_n == 0)
            continue;
        uint64_t since_us = queue_lane_since(l);
        if (since_us < now_us && now_us - since_us > out->maxwait_us)
            out->maxwait_us = now_us - since_us;
    }
    lock_drop(&u->lock);
}

static void copy_pace(const struct pace *p, uint64_t now_us, struct class_stats *out)
{
    uint64_t oldest_us = atomic_load_explicit(&p->oldest_tx_us, memory_order_relaxed);

    out->rate_bytes_per_s = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);
    out->paced_n = atomic_load_explicit(&p->streams_n, memory_order_relaxed);
    out->paced_bytes = atomic_load_explicit(&p->paced_bytes, memory_order_relaxed);
    out->paced_held_us = atomic_load_explicit(&p->held_us, memory_order_relaxed);
    out->paced_age_us = oldest_us != 0 ? us_since(oldest_us, now_us) : 0;
}

void show_class(struct upstream *u, uint8_t class_i, uint64_t now_us, struct class_stats *out)
{
    *out = (struct class_stats){.g = 1, .rate_bytes_per_s = PACE_RATE_NONE};
    lock_take(&u->lock);
    must(class_i < u->class_n);
    const struct tier *tier = &u->tiers[class_i];
    const struct queue *q = &u->queues[class_i];
    out->opts = u->classes[class_i];
    out->clients_n = tier->clients_n;
    out->queued_n = q->waiting_n;
    out->active_n = u->shares.at[class_i].leased_n;
    out->opening_n = u->shares.at[class_i].opening_n;
    out->reserved_n = u->shares.whole_n == 0 ? 0 : u->shares.at[class_i].reserved_n;
    out->max_n = out->limit_n = u->shares.at[class_i].max_n;
    out->held = tier->held;
    out->closed = tier->closed;
    out->finish = tier->finish;
    out->limited = tier->limited;
    if (tier->breaker_i >= 0) {
        const struct breaker_class *b = &u->breaker.classes[tier->breaker_i];
        out->g = b->limit.g;
        out->g_bad = b->limit.g_bad;
        out->verdict = b->verdict;
        out->held_us = b->held_us;
        out->limited_us = b->limited_us;
        out->cuts_n = b->cuts_n;
        out->cancels_n = b->asked_cancels_n;
        out->would_wait_n = b->would_wait_n;
        out->would_refuse_n = b->would_refuse_n;
        if (tier->limited)
            out->max_n = b->use.cap_n;
    }
    copy_pace(&tier->pace, now_us, out);
    out->resting_n = tier->resting_n;
    out->rests_n = atomic_load_explicit(&tier->brake.rests_n, memory_order_relaxed);
    out->rested_us = atomic_load_explicit(&tier->brake.rested_us, memory_order_relaxed);
    out->bytes_per_s = tier->bytes_per_s;
    uint64_t since_us = queue_since(q);
    out->oldest_wait_us = since_us < now_us ? now_us - since_us : 0;
    out->lifo = q->lifo;
    out->granted_n = tier->granted_n;
    out->granted_at_once_n = tier->granted_at_once_n;
    out->left_n = tier->left_n;
    out->bytes_n = atomic_load_explicit(&tier->bytes_n, memory_order_relaxed);
    out->lease_us = tier->lease_us;
    out->wait_us = tier->wait_us;
    out->wait_us_max = tier->wait_us_max;
    memcpy(out->refused_n, tier->refused_n, sizeof(out->refused_n));
    memcpy(out->wait_n, tier->wait_n, sizeof(out->wait_n));
    out->wait_n[0] += tier->granted_at_once_n;
    lock_drop(&u->lock);
}

void show_upstream(struct upstream *u, struct upstream_stats *out)
{
    *out = (struct upstream_stats){.host = u->host, .port = u->port};
    lock_take(&u->lock);
    const struct breaker *b = &u->breaker;
    const struct error_breaker *eb = &u->error_breaker;
    out->opts = u->opts;
    out->pools_n = u->pools_n;
    out->servers_n = u->server_n;
    out->leased_n = u->shares.leased_n;
    out->opening_n = u->connecting_n;
    out->waiting_n = u->waiting_n;
    out->budget_now_n = cap_max(&u->cap);
    out->pressure = b->pressure;
    out->breaker = b->state;
    out->breaker_since_us = b->state_us;
    memcpy(out->breaker_why, breaker_last_reason(b), strlen(breaker_last_reason(b)) + 1);
    out->tests_n = b->tests_n;
    out->confirmed_n = b->confirmed_n;
    out->exonerated_n = b->exonerated_n;
    out->cuts_n = b->cuts_n;
    out->cancels_n = b->cancels_n;
    out->cleans_n = b->cleans_n;
    memcpy(out->verdicts_n, b->verdicts_n, sizeof(out->verdicts_n));
    out->drift = estimator_drift(&u->estimator);
    out->norms_n = u->estimator.baseline.used_n;
    out->error_breaker = eb->state;
    out->error_since_us = eb->since_us;
    out->down_since_us = eb->down_since_us;
    memcpy(out->error_why, eb->why, sizeof(out->error_why));
    out->opened_n = u->opened_n;
    out->open_failed_n = u->open_failed_n;
    out->died_n = u->died_n;
    out->evicted_n = u->evicted_n;
    out->ticks_n = u->ticks_n;
    out->tick_late_n = u->tick_late_n;
    lock_drop(&u->lock);
}

bool show_transition(struct upstream *u, uint32_t *cursor, struct breaker_transition *out)
{
    lock_take(&u->lock);
    const struct breaker *b = &u->breaker;
    uint32_t behind_n = b->transitions_n - *cursor;
    if (behind_n > BREAKER_TRANSITIONS)
        *cursor = b->transitions_n - BREAKER_TRANSITIONS;
    if (behind_n > 0)
        *out = b->transitions[(*cursor)++ % BREAKER_TRANSITIONS];
    lock_drop(&u->lock);
    return behind_n > 0;
}

uint32_t show_transitions(struct upstream *u, struct breaker_transition out[BREAKER_TRANSITIONS])
{
    lock_take(&u->lock);
    const struct breaker *b = &u->breaker;
    uint32_t n = b->transitions_n < BREAKER_TRANSITIONS ? b->transitions_n : BREAKER_TRANSITIONS;
    for (uint32_t i = 0; i < n; i++)
        out[i] = b->transitions[(b->transitions_n - n + i) % BREAKER_TRANSITIONS];
    lock_drop(&u->lock);
    return n;
}

static void fill_fingerprint(const struct baseline *b, const struct baseline_entry *e,
                             struct fingerprint_stats *out)
{
    const struct baseline_past *past = baseline_past_of(b, e);

    *out = (struct fingerprint_stats){
        .fingerprint = e->fingerprint,
        .learnt_n = e->n,
        .now_n = baseline_now_n(b, e),
        .norm_us = e->n > 0 ? exp2(e->mean_log2) : 0,
        .now_us = exp2((double)e->now_log2),
        .share = baseline_share(b, e),
        .anchor_us = past->anchor.is_set ? exp2(past->anchor.low_log2) : 0,
        .held = past->held,
        .free_us = past->held ? exp2((double)past->free_log2) : 0,
    };
    if (out->now_n < 0.5) /* what it was then is not now */
        out->now_us = 0;
}

bool show_fingerprints(struct upstream *u, uint32_t *cursor,
                       struct fingerprint_stats out[SHOW_FINGERPRINTS_CHUNK], uint32_t *n)
{
    *n = 0;
    if (*cursor >= BASELINE_ENTRIES)
        return false;
    lock_take(&u->lock);
    const struct baseline *b = &u->estimator.baseline;
    for (uint32_t i = 0; i < SHOW_FINGERPRINTS_CHUNK && *cursor < BASELINE_ENTRIES; i++) {
        const struct baseline_entry *e = &b->entries[(*cursor)++];
        if (e->seen_n > 0)
            fill_fingerprint(b, e, &out[(*n)++]);
    }
    lock_drop(&u->lock);
    return true;
}

static void fill_tick_class(const struct breaker_class *c, struct tick_stats *out, uint32_t i)
{
    out->limited |= c->limit.g < 1;
    out->classes[i].mode = c->opts.mode;
    out->classes[i].paced = c->opts.paced;
    out->classes[i].cancelled = c->opts.cancelled;
    out->classes[i].trickle_bytes_per_s = c->opts.trickle_bytes_per_s;
    out->classes[i].use = c->use;
    out->classes[i].g = c->limit.g;
    out->classes[i].g_bad = c->limit.g_bad;
    out->classes[i].floor = c->limit.floor;
    out->classes[i].jitter = c->limit.jitter;
    out->classes[i].cancel_n = c->would.cancel_n;
}

void show_tick_of(const struct breaker *b, struct tick_stats *out)
{
    *out = (struct tick_stats){
        .at_us = b->now_us,
        .state = b->state,
        .pressure = b->pressure,
        .p_smooth = b->p_smooth,
        .p_before = b->p_before,
        .high_ticks_n = b->high_ticks_n,
        .classes_n = b->classes_n,
    };
    for (uint32_t i = 0; i < b->classes_n; i++)
        fill_tick_class(&b->classes[i], out, i);
}

void show_tick(struct upstream *u, struct tick_stats *out)
{
    lock_take(&u->lock);
    show_tick_of(&u->breaker, out);
    lock_drop(&u->lock);
}

void show_breaker_class(struct upstream *u, uint32_t breaker_i, char name[CLASS_NAME_BYTES])
{
    name[0] = '\0';
    lock_take(&u->lock);
    if (breaker_i < u->breaker.classes_n) /* a reload may have taken it away meanwhile */
        snprintf(name, CLASS_NAME_BYTES, "%s", u->classes[u->breaker_order[breaker_i]].name);
    lock_drop(&u->lock);
}

const char *show_refusal_name(enum pool_refusal refusal)
{
    switch (refusal) {
    case POOL_REFUSED_NOT:
        return "none";
    case POOL_REFUSED_QUEUE_FULL:
        return "queue_full";
    case POOL_REFUSED_DEADLINE:
        return "deadline";
    case POOL_REFUSED_SHED:
        return "shed";
    case POOL_REFUSED_EXPIRED:
        return "expired";
    case POOL_REFUSED_DOWN:
        return "down";
    case POOL_REFUSED_ADDRESS:
        return "address";
    case POOL_REFUSED_GROUP:
        return "group";
    case POOL_REFUSED_CLOSED:
        return "closed";
    case POOL_REFUSED_SHUTDOWN:
        return "shutdown";
    }
    must(!"a reason of enum pool_refusal");
    return "";
}
