#include "pool/target.h"

#include "pool/groups.h"
#include "pool/state.h"

enum {
    REACHED_US = 2 * US_PER_S, /* facts no older outweigh the error breaker: somebody got through */
    /* the standing in one word */
    ROLE_BITS = 2,
    READ_ONLY = BIT(ROLE_BITS),
    DOWN = BIT(ROLE_BITS + 1),
    RIVAL = BIT(ROLE_BITS + 2),
    LATE_SHIFT = 32,
};
_Static_assert(UPSTREAM_GONE < 1 << ROLE_BITS, "a role has its bits");
_Static_assert(CLASSES_MAX <= 32, "a class has a bit");

const char *target_attrs_name(enum target_attrs attrs)
{
    static const char *const names[] = {"any",     "any",     "read-write",    "read-only",
                                        "primary", "standby", "prefer-standby"};
    must((size_t)attrs < COUNT_OF(names));
    return names[attrs];
}

/* ---- the choice ------------------------------------------------------------------------------ */

static enum target_fit fit_if(bool fits)
{
    return fits ? TARGET_FIT : TARGET_UNFIT;
}

static bool is_late(const struct target_want *want, const struct target_host *host)
{
    return host->late_mask & BIT(want->class_i);
}

static enum target_fit fit_attrs(enum target_attrs attrs, const struct target_host *host)
{
    bool primary = host->role == UPSTREAM_PRIMARY && !host->rival;
    bool standby = host->role == UPSTREAM_STANDBY;
    switch (attrs) {
    case TARGET_UNSET:
    case TARGET_ANY:
        return TARGET_FIT;
    case TARGET_READ_WRITE:
        return fit_if(primary && !host->read_only);
    case TARGET_READ_ONLY:
        return fit_if(standby || (primary && host->read_only));
    case TARGET_PRIMARY:
        return fit_if(primary);
    case TARGET_STANDBY:
        return fit_if(standby);
    case TARGET_PREFER_STANDBY:
        return standby ? TARGET_FIT : TARGET_SECOND_CHOICE;
    }
    must(!"one of enum target_attrs");
    return TARGET_UNFIT;
}

enum target_fit target_fit(const struct target_want *want, const struct target_host *host)
{
    if (host->down || host->role == UPSTREAM_GONE)
        return TARGET_UNFIT;
    if (!want->replica)
        return fit_attrs(want->attrs, host);
    if (host->role == UPSTREAM_STANDBY && !is_late(want, host))
        return TARGET_FIT;
    return want->fallback && host->role == UPSTREAM_PRIMARY && !host->rival ? TARGET_SECOND_CHOICE
                                                                            : TARGET_UNFIT;
}

const char *target_unfit_why(const struct target_want *want, const struct target_host *host)
{
    if (target_fit(want, host) != TARGET_UNFIT)
        return NULL;
    if (host->role == UPSTREAM_GONE || host->down)
        return "does not answer";
    if (host->role == UPSTREAM_ROLE_UNKNOWN)
        return "its role is not known yet";
    if (host->role == UPSTREAM_STANDBY)
        return want->replica ? "a standby that lags too much" : "a standby";
    if (host->rival)
        return "a second primary";
    return host->read_only ? "a primary that is read-only" : "the primary";
}

int target_choose(const struct target_want *want, const struct target_host *hosts, uint32_t hosts_n,
                  int present_i, uint32_t turn_i)
{
    must(hosts_n > 0 && present_i < (int)hosts_n);
    int best_i = present_i;
    enum target_fit best = present_i < 0 ? TARGET_UNFIT : target_fit(want, &hosts[present_i]);
    for (uint32_t n = 0; n < hosts_n; n++) {
        uint32_t i = (turn_i + n) % hosts_n;
        enum target_fit fit = target_fit(want, &hosts[i]);
        if (fit > best) {
            best = fit;
            best_i = (int)i;
        }
    }
    return best == TARGET_UNFIT ? TARGET_NONE : best_i;
}

bool target_late(bool was_late, uint64_t lag_us, uint64_t lag_max_us)
{
    if (lag_max_us == 0 || lag_us == UINT64_MAX)
        return false;
    return was_late ? lag_us > lag_max_us - lag_max_us / 5 : lag_us > lag_max_us;
}

bool target_has_group(struct pool *p, uint64_t group)
{
    lock_take(&p->upstream->lock);
    bool has = groups_find(p, group) != NULL;
    lock_drop(&p->upstream->lock);
    return has;
}

/* ---- the standing ---------------------------------------------------------------------------- */

static uint64_t pack(const struct target_host *host)
{
    return (uint64_t)host->role | (host->read_only ? READ_ONLY : 0) | (host->down ? DOWN : 0) |
           (host->rival ? RIVAL : 0) | (uint64_t)host->late_mask << LATE_SHIFT;
}

static struct target_host unpack(uint64_t word)
{
    return (struct target_host){.role = (enum upstream_role)(word & (BIT(ROLE_BITS) - 1)),
                                .read_only = word & READ_ONLY,
                                .down = word & DOWN,
                                .rival = word & RIVAL,
                                .late_mask = (uint32_t)(word >> LATE_SHIFT)};
}

void target_standing(const struct upstream *u, struct target_host *out)
{
    *out = unpack(atomic_load_explicit(&u->standing, memory_order_relaxed));
}

static struct target_host now_of(const struct target_host *before,
                                 const struct upstream_facts *facts,
                                 const struct class_table *classes)
{
    struct target_host host = {.role = facts->role,
                               .read_only = facts->role == UPSTREAM_PRIMARY && facts->read_only};
    if (host.role == UPSTREAM_PRIMARY)
        host.rival = before->role != UPSTREAM_PRIMARY || before->rival;
    for (uint32_t i = 0; i < classes->class_n; i++) {
        const struct class_opts *class = &classes->at[i];
        bool was = before->late_mask & BIT(i);
        if (host.role == UPSTREAM_STANDBY && class->route == CLASS_ROUTE_REPLICA &&
            target_late(was, facts->lag_us, class->max_lag_us))
            host.late_mask |= BIT(i);
    }
    return host;
}

bool target_publish(struct upstream *u, const struct class_table *classes, uint64_t now_us)
{
    struct upstream_facts facts;
    upstream_facts(u, &facts);
    lock_take(&u->lock);
    bool open = u->error_breaker.state == ERROR_BREAKER_OPEN ||
                u->error_breaker.state == ERROR_BREAKER_HALF_OPEN;
    uint64_t since_us = u->error_breaker.down_since_us;
    lock_drop(&u->lock);
    bool reached = facts.role != UPSTREAM_GONE && facts.told_us > since_us &&
                   us_since(facts.told_us, now_us) < REACHED_US;
    uint64_t next, word = atomic_load_explicit(&u->standing, memory_order_relaxed);
    /* Two loops may publish at once: whoever read the older facts is corrected by the next tick.
     * Who is a rival is not in the facts, and must not be lost that long. */
    do {
        struct target_host before = unpack(word), host = now_of(&before, &facts, classes);
        host.down = open && !reached;
        next = pack(&host);
        if (next == word)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&u->standing, &word, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool target_judge_rival(struct upstream *u, bool rival)
{
    uint64_t word = atomic_load_explicit(&u->standing, memory_order_relaxed);
    struct target_host host;
    do {
        host = unpack(word);
        if (host.role != UPSTREAM_PRIMARY || host.rival == rival)
            return false;
        host.rival = rival;
    } while (!atomic_compare_exchange_weak_explicit(&u->standing, &word, pack(&host),
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}
