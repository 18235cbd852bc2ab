#include "tests/sim/culls.h"

#include "pool/cull.h"
#include "pool/lease.h"
#include "pool/state.h"

/* Before: what runs, and what was marked already. */
struct before {
    const struct pool_server *s;
    bool was_marked, could;
    uint64_t since_us;
};

static bool is_marked(const struct pool_server *s)
{
    uint64_t started_us = atomic_load(&s->stmt_started_us);
    return started_us != 0 && atomic_load(&s->cancel_stmt_us) == started_us;
}

static void give_statements(struct world *w, struct upstream *u)
{
    struct pool_server *s = u->leased;

    do {
        if (world_chance(w, 30)) {
            atomic_store(&s->stmt_started_us,
                         world_chance(w, 80) ? w->now_us - world_random(w, 1000000) : 0);
            atomic_store(&s->stmt_copy_out, world_chance(w, 20));
            atomic_store(&s->tx_writes, world_chance(w, 20));
        }
        s = s->next;
    } while (s != u->leased);
}

static bool could_be(const struct world *w, const struct pool_server *s, uint8_t class_i)
{
    return s->class_i == class_i && atomic_load(&s->stmt_started_us) != 0 && !is_marked(s) &&
           !atomic_load(&s->tx_writes) && s->pool->replication == POOL_REPLICATION_NO &&
           !lease_streams(s, w->now_us);
}

/* Each new mark is allowed, there are at most n victims, and nobody on its own who was left alone
 * is younger than one who was not. */
static void check(struct world *w, const struct before *before, uint32_t before_n, uint32_t n)
{
    uint64_t oldest_us = UINT64_MAX, youngest_left_us = 0, groups[SIM_SERVERS_MAX];
    uint32_t victims_n = 0, groups_n = 0;

    for (uint32_t i = 0; i < before_n; i++) {
        const struct before *b = &before[i];
        const struct pool_server *s = b->s;
        uint32_t k = 0;
        if (b->was_marked || (!is_marked(s) && (s->group != 0 || !b->could)))
            continue;
        if (!is_marked(s)) {
            youngest_left_us = b->since_us > youngest_left_us ? b->since_us : youngest_left_us;
            continue;
        }
        if (!b->could)
            world_fail(w, "a statement was marked that must not be cancelled");
        if (s->group == 0) {
            victims_n++;
            oldest_us = b->since_us < oldest_us ? b->since_us : oldest_us;
            continue;
        }
        while (k < groups_n && groups[k] != s->group)
            k++;
        if (k == groups_n)
            groups[groups_n++] = s->group;
    }
    if (victims_n + groups_n > n)
        world_fail(w, "%u victims and %u groups where %u were asked for", victims_n, groups_n, n);
    if (victims_n > 0 && youngest_left_us > oldest_us)
        world_fail(w, "a younger statement was spared");
}

static void cull_by_breaker(struct world *w, struct upstream *u, uint8_t class_i)
{
    struct turn turn = {.u = u, .now_us = w->now_us};
    struct breaker_class *c = &u->breaker.classes[u->tiers[class_i].breaker_i];
    struct before before[SIM_SERVERS_MAX];
    struct pool_server *s = u->leased;
    uint32_t before_n = 0, n = 1 + world_random(w, 10), asked_n = c->ask.cancel_n;

    do {
        before[before_n++] = (struct before){
            .s = s,
            .was_marked = is_marked(s),
            .could = could_be(w, s, class_i),
            .since_us = atomic_load(&s->stmt_started_us),
        };
        s = s->next;
    } while (s != u->leased && before_n < SIM_SERVERS_MAX);
    for (uint32_t i = 0; i < u->breaker.classes_n; i++)
        u->breaker.classes[i].ask.cancel_n = 0;
    c->ask.cancel_n = n;
    lock_take(&u->lock);
    cull_tick(&turn);
    lock_drop(&u->lock);
    c->ask.cancel_n = asked_n;
    check(w, before, before_n, n);
}

/* The statements of all leases are put back as they were. */
static void put_back(struct upstream *u, const uint64_t *started_us)
{
    struct pool_server *s = u->leased;

    for (uint32_t i = 0; i < u->shares.leased_n; i++, s = s->next) {
        atomic_store(&s->stmt_started_us, started_us[i]);
        atomic_store(&s->stmt_copy_out, false);
        atomic_store(&s->tx_writes, false);
        atomic_store(&s->cancel_stmt_us, 0);
    }
}

/* Whatever happens here, the rest of the world's life is the same. */
void culls_act(struct world *w, struct upstream *u)
{
    uint64_t random = w->random, started_us[SIM_SERVERS_MAX];
    struct pool_server *s = u->leased;
    uint8_t class_i = (uint8_t)world_random(w, w->classes.class_n);

    if (u->leased == NULL)
        return;
    for (uint32_t i = 0; i < u->shares.leased_n; i++, s = s->next)
        started_us[i] = atomic_load(&s->stmt_started_us);
    give_statements(w, u);
    if (world_chance(w, 20))
        w->totals.culled_n += cull_all(u, class_i);
    else if (u->tiers[class_i].breaker_i >= 0) {
        uint64_t was_n = u->tiers[class_i].culled_n;
        cull_by_breaker(w, u, class_i);
        w->totals.culled_n += u->tiers[class_i].culled_n - was_n;
    }
    put_back(u, started_us);
    w->random = random;
}
