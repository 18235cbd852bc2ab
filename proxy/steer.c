#include "proxy/steer.h"

#include <string.h>
#include <utlist.h>

#include "proxy/census.h"
#include "proxy/gates.h"
#include "proxy/log.h"
#include "proxy/session.h"

enum { STRAYS_AGAIN_US = US_PER_S / 2 }; /* a pool's own trouble ends without a change of hosts */

_Static_assert((int)STEER_REASONS_N <= (int)HUB_REASONS_MAX, "each reason has its counter");

const char *steer_reason_name(enum steer_reason reason)
{
    static const char *const names[] = {
#define X(reason, name) name,
        STEER_REASONS(X)
#undef X
    };
    must((size_t)reason < COUNT_OF(names));
    return names[reason];
}

void steer_changed(struct proxy *p)
{
    atomic_fetch_add_explicit(&p->standing_n, 1, memory_order_release);
}

/* ---- where it belongs --------------------------------------------------------------------------
 */

enum place { PLACE_HERE, PLACE_ELSEWHERE, PLACE_NOWHERE };

struct judged {
    const struct config_database *db;
    struct target_want want;
    struct route_hosts hosts;
    uint32_t host_i; /* elsewhere: there */
};

static uint32_t turn_of(struct hub *h, const struct config_database *db)
{
    return db->load_balance_hosts == LOAD_BALANCE_DISABLE ? 0 : h->steer_turn++;
}

struct job {
    const struct client *client;
    struct upstream *found;
};

static bool look_for_job(struct pool *p, void *arg)
{
    struct job *job = arg;
    const struct route *r = job->client->route;
    if (strcmp(pool_database(p), r->database) != 0 || strcmp(pool_user(p), r->user) != 0 ||
        !target_has_group(p, job->client->waiter.group))
        return true;
    job->found = pool_upstream(p);
    return false;
}

/* One parallel job is on one host: its connections share a snapshot. Where it is already, if it is;
 * at first its number decides, so that connections that come at once agree. */
static int choose_for_job(struct client *c, const struct judged *j)
{
    struct job job = {.client = c};
    uint64_t number = c->waiter.group;
    registry_each_pool(c->hub->proxy->registry, look_for_job, &job);
    for (uint32_t i = 0; job.found && i < j->hosts.n; i++) {
        const struct target_host *host = &j->hosts.at[i];
        if (j->hosts.upstreams[i] == job.found && !host->down && host->role != UPSTREAM_GONE)
            return (int)i;
    }
    return target_choose(&j->want, j->hosts.at, j->hosts.n, TARGET_NONE,
                         (uint32_t)(number ^ number >> 32));
}

static int choose(struct client *c, const struct judged *j)
{
    if (c->waiter.group)
        return choose_for_job(c, j);
    return target_choose(&j->want, j->hosts.at, j->hosts.n, j->hosts.present_i,
                         turn_of(c->hub, j->db));
}

static enum place judge(struct client *c, struct judged *j)
{
    struct hub *h = c->hub;
    struct upstream *here = pool_upstream(c->route->pool);
    struct err err;
    j->host_i = 0;
    j->hosts.n = 0;
    j->hosts.present_i = TARGET_NONE;
    j->db = route_database(c->route, h);
    if (!j->db)
        return PLACE_HERE; /* its database has gone from the configuration, and so will it */
    if (!config_is_steered(h->config, j->db))
        return route_leads_to(h->config, j->db, here) ? PLACE_HERE : PLACE_ELSEWHERE;
    if (!route_hosts(h, j->db, here, &j->hosts, &err)) {
        log_warning("C-%#llx: %s: %s", (unsigned long long)c->id, c->route->database, err.text);
        return PLACE_NOWHERE;
    }
    j->want = route_want(h->config, j->db, c->class_i);
    int choice = choose(c, j);
    if (choice == TARGET_NONE)
        return PLACE_NOWHERE;
    j->host_i = (uint32_t)choice;
    return choice == j->hosts.present_i ? PLACE_HERE : PLACE_ELSEWHERE;
}

uint32_t steer_first(struct hub *h, const struct config_database *db)
{
    struct route_hosts hosts;
    struct err err;
    struct target_want want = {.attrs = db->target_session_attrs};
    if (!config_is_steered(h->config, db) || !route_hosts(h, db, NULL, &hosts, &err))
        return 0;
    int choice = target_choose(&want, hosts.at, hosts.n, TARGET_NONE, turn_of(h, db));
    return choice == TARGET_NONE ? 0 : (uint32_t)choice;
}

/* ---- moving ------------------------------------------------------------------------------------
 */

static enum steer_reason reason_of(const struct judged *j)
{
    if (j->hosts.present_i < 0)
        return STEER_CONFIG;
    const struct target_host *here = &j->hosts.at[j->hosts.present_i];
    if (here->down || here->role == UPSTREAM_GONE)
        return STEER_DOWN;
    if (target_fit(&j->want, here) != TARGET_UNFIT)
        return STEER_BETTER;
    if (here->role == UPSTREAM_STANDBY && j->want.replica)
        return STEER_LAG;
    return STEER_ROLE;
}

/* What its former route knew of its password serves here as well. */
static void carry_keys(struct route *from, struct route *to)
{
    struct scram_keys known, mine;
    route_get_keys(to, &known);
    route_get_keys(from, &mine);
    if (!known.iterations && mine.iterations)
        route_set_keys(to, &mine);
}

/* PAUSE of the database holds for a pool that is new as well. */
static void keep_gate(struct hub *h, struct route *r)
{
    struct pool_actions actions;
    if (!gates_of(h->proxy->gates, r->database).paused)
        return;
    pool_set_run(r->pool, POOL_PAUSED, hub_now(h), &actions);
    session_carry_out(h, &actions);
}

/* To the route of another host, with all that is counted there. */
static bool move(struct client *c, const struct judged *j)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    struct err err;
    struct route *from = c->route;
    struct route_key key = {.database = from->database,
                            .user = census_name(c->of_user),
                            .replication = from->replication,
                            .host_i = j->host_i};
    must(!c->server && !c->waits);
    struct route *to = route_join(h, j->db, &key, &err);
    if (!to) {
        log_warning("C-%#llx: %s: %s", (unsigned long long)c->id, from->database, err.text);
        return false;
    }
    carry_keys(from, to);
    keep_gate(h, to);
    if (c->addr) {
        pool_addr_put(pool_upstream(from->pool), &c->addr);
        c->addr = pool_addr_get(pool_upstream(to->pool), c->peer.address, sizeof c->peer.address);
    }
    if (c->logged_in) {
        pool_client_remove(from->pool, c->class_i, hub_now(h), &actions);
        session_carry_out(h, &actions);
        pool_client_add(to->pool, c->class_i);
        count_add(&h->reroutes[reason_of(j)], 1);
    }
    c->route = to;
    c->rerouted = true;
    log_debug("C-%#llx: %s/%s goes to %s:%u why=%s", (unsigned long long)c->id, to->database,
              to->user, upstream_host(pool_upstream(to->pool)),
              upstream_port(pool_upstream(to->pool)), steer_reason_name(reason_of(j)));
    route_leave(&from);
    return true;
}

static void stray(struct client *c)
{
    struct hub *h = c->hub;
    c->placed_n = 0;
    if (c->strays)
        return;
    c->strays = true;
    count_add(&h->strays, 1);
    atomic_fetch_add_explicit(&h->strays_n, 1, memory_order_relaxed);
    if (c->state == CLIENT_IDLE)
        client_goto(c, CLIENT_QUEUED);
}

void steer_forget(struct client *c)
{
    if (!c->strays)
        return;
    c->strays = false;
    atomic_fetch_sub_explicit(&c->hub->strays_n, 1, memory_order_relaxed);
}

bool steer_place(struct client *c)
{
    uint32_t standing_n = steer_standing(c->hub->proxy); /* before the hosts are looked at */
    struct judged j;
    bool placed = false;
    switch (judge(c, &j)) {
    case PLACE_HERE:
        placed = true;
        break;
    case PLACE_ELSEWHERE:
        placed = move(c, &j);
        break;
    case PLACE_NOWHERE:
        break;
    }
    if (!placed) {
        stray(c);
        return false;
    }
    steer_forget(c);
    c->placed_n = standing_n;
    return true;
}

bool steer_stays(struct client *c)
{
    uint32_t standing_n = steer_standing(c->hub->proxy);
    struct judged j;
    if (judge(c, &j) != PLACE_HERE)
        return false;
    c->placed_n = standing_n;
    return true;
}

/* ---- waiting -----------------------------------------------------------------------------------
 */

uint64_t steer_deadline(struct client *c)
{
    const struct route_cell *cell = route_cell(c->route, c->hub);
    const struct class_opts *class = &c->hub->config->classes->at[c->waiter.class_i];
    uint64_t wait_us = cell->settings.query_wait_timeout_us;
    uint64_t own_us = wait_us ? c->request_us + wait_us : 0;
    if (!class->queue_deadline_us || (own_us && c->waiter.deadline_rules))
        return own_us;
    uint64_t class_us = c->request_us + class->queue_deadline_us;
    return own_us && own_us < class_us ? own_us : class_us;
}

static bool is_late(struct client *c, uint64_t now_us)
{
    uint64_t deadline_us = steer_deadline(c);
    return deadline_us && now_us >= deadline_us;
}

/* Somebody was there and said no to this database or user: no other host would do better. */
static bool was_turned_away(const struct client *c)
{
    struct err why;
    pool_down_reason(c->route->pool, &why);
    return *why.sqlstate && strncmp(why.sqlstate, "08", 2) != 0 &&
           strncmp(why.sqlstate, "57P0", 4) != 0 && strncmp(why.sqlstate, "58", 2) != 0;
}

bool steer_waits_on(struct client *c)
{
    struct hub *h = c->hub;
    const struct config_database *db = route_database(c->route, h);
    if (c->hostless || c->waiter.refusal != POOL_REFUSED_DOWN || !db ||
        !config_is_steered(h->config, db) || db->hosts_n < 2)
        return false;
    if (is_late(c, hub_now(h)) || was_turned_away(c))
        return false;
    stray(c);
    return true;
}

static void give_up(struct client *c)
{
    steer_forget(c);
    c->hostless = true;
    c->waiter.refusal = POOL_REFUSED_DOWN;
    session_refused(c);
}

/* It waits in the queue of a host that may not be its own any more. */
static void look_again(struct client *c)
{
    struct hub *h = c->hub;
    struct pool_actions actions;
    if (steer_stays(c))
        return;
    bool left = pool_cancel(&c->waiter, hub_now(h), &actions);
    session_carry_out(h, &actions);
    if (!left)
        return; /* the answer is in the mail, and is looked at when it comes */
    c->waits = false;
    session_ask(c);
}

static void sweep_client(struct client *c, bool again, bool changed, uint64_t now_us)
{
    if (c->gone || !c->route)
        return;
    if (c->strays && (again || changed) && steer_place(c))
        session_ask(c);
    else if (c->strays && is_late(c, now_us))
        give_up(c);
    else if (changed && c->waits && !steer_is_placed(c))
        look_again(c);
}

void steer_sweep(struct hub *h, uint64_t now_us)
{
    uint32_t standing_n = steer_standing(h->proxy);
    bool changed = h->steered_n != standing_n;
    bool again = now_us - h->strays_us >= STRAYS_AGAIN_US;
    struct client *c, *next;
    if (!changed && !atomic_load_explicit(&h->strays_n, memory_order_relaxed))
        return;
    h->steered_n = standing_n;
    if (again)
        h->strays_us = now_us;
    DL_FOREACH_SAFE(h->logins, c, next)
    {
        sweep_client(c, again, changed, now_us);
    }
    DL_FOREACH_SAFE(h->clients, c, next)
    {
        sweep_client(c, again, changed, now_us);
    }
}

/* ---- what servers say of themselves ------------------------------------------------------------
 */

void steer_note_role(struct hub *h, const struct route *r, enum upstream_role role, bool read_only)
{
    struct upstream *u = pool_upstream(r->pool);
    struct upstream_facts facts;
    const struct config_database *db = route_database(r, h);
    if (role == UPSTREAM_ROLE_UNKNOWN || !db || !config_is_steered(h->config, db))
        return;
    upstream_facts(u, &facts);
    if (facts.role == role && facts.read_only == read_only)
        return;
    if (facts.role != role)
        facts.lag_us = role == UPSTREAM_STANDBY ? UINT64_MAX : 0;
    facts.role = role;
    facts.read_only = read_only;
    facts.told_us = hub_now(h);
    upstream_tell_facts(u, &facts);
    if (target_publish(u, h->config->classes, hub_now(h)))
        steer_changed(h->proxy);
}
