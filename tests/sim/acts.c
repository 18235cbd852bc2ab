/* What the proxy would do: letters, servers, clients. See acts.h. */
#include "tests/sim/acts.h"

#include <string.h>

#include "tests/sim/check.h"

/* ---- mail and actions ---------------------------------------------------------------------- */

static void carry_out(struct world *w, struct pool_actions *actions, uint16_t acting);

/* After each call into the pool. */
void acts_finish(struct world *w, struct upstream *u, struct pool_actions *actions, uint16_t acting)
{
    check_after_call(w, actions);
    carry_out(w, actions, acting);
    for (uint32_t rounds = 0; actions->more; rounds++) {
        if (rounds > 1000)
            world_fail(w, "pool_dispatch() wants to be called for ever");
        w->totals.more_n++;
        check_before(w);
        pool_dispatch(u, w->now_us, actions);
        check_after_call(w, actions);
        carry_out(w, actions, acting);
    }
}

static void post(struct world *w, struct sim_letter letter, uint64_t delay_us)
{
    if (w->letter_n == SIM_LETTERS_MAX)
        world_fail(w, "the mail overflows");
    letter.due_us = w->now_us + delay_us;
    w->letters[w->letter_n++] = letter;
}

static struct sim_server *server_of(struct pool_server *s)
{
    return (struct sim_server *)(void *)((char *)s - offsetof(struct sim_server, s));
}

static struct sim_client *client_of(struct pool_waiter *waiter)
{
    return (struct sim_client *)(void *)((char *)waiter - offsetof(struct sim_client, w));
}

static void server_free(struct sim_server *s)
{
    s->used = false;
}

/* A lease, or an order to close, ends with the end of the connection. */
static void close_held(struct world *w, struct sim_server *s, uint16_t acting, bool died)
{
    struct pool_actions actions;
    struct upstream *u = s->s.pool->upstream;

    s->s.died = died;
    check_before(w);
    if (!pool_closed(&s->s, true, w->now_us, &actions))
        world_fail(w, "a server in our own hands may not be freed");
    server_free(s);
    w->totals.closed_n++;
    acts_finish(w, u, &actions, acting);
}

/* The server has come to the client's loop. */
static void granted(struct world *w, struct sim_client *c, struct sim_server *s)
{
    if (c->state != SIM_CLIENT_WAITING)
        world_fail(w, "a grant for a client that does not wait");
    if (s->holder != NULL)
        world_fail(w, "a server is granted twice");
    if (s->s.state != POOL_SERVER_LEASED || s->s.worker != c->worker || c->w.server != &s->s)
        world_fail(w, "a granted server is not what it should be");
    s->in_mail = false;
    if (s->dead) {
        /* Died on the way: the client asks again, unless it has gone. */
        acts_job_breaks(w, c);
        c->state = SIM_CLIENT_IDLE;
        c->gone = false;
        close_held(w, s, c->worker, true);
        return;
    }
    s->holder = c;
    c->server = s;
    c->state = SIM_CLIENT_HOLDING;
    w->lease_n++;
    w->totals.grants_n++;
    if (w->now_us - c->asked_us > w->totals.wait_us_max)
        w->totals.wait_us_max = w->now_us - c->asked_us;
    if (c->gone) {
        w->totals.late_mail_n++;
        c->gone = false;
        acts_release(w, c);
    }
}

/* In the loop where the server sits: it leaves for the client's. */
static void hand_over(struct world *w, struct sim_client *c, struct sim_server *s)
{
    if (s->dead) {
        if (s->s.state != POOL_SERVER_LEASED)
            world_fail(w, "a dead shell was given away");
        w->totals.shells_n++;
        acts_job_breaks(w, c);
        c->state = SIM_CLIENT_IDLE;
        c->gone = false;
        close_held(w, s, s->s.worker, false);
        return;
    }
    if (s->s.worker == c->worker) {
        granted(w, c, s);
        return;
    }
    s->s.worker = c->worker;
    s->in_mail = true;
    w->totals.moved_n++;
    post(w,
         (struct sim_letter){
             .kind = SIM_MAIL_GRANTED, .worker = c->worker, .client = c, .server = s},
         world_some_us(w, w->climate.mail_us));
}

static void refused(struct world *w, struct sim_client *c)
{
    if (c->state != SIM_CLIENT_WAITING || c->w.refusal == POOL_REFUSED_NOT)
        world_fail(w, "a refusal for a client that does not wait, or without a reason");
    w->totals.refused_n[c->w.refusal]++;
    acts_job_breaks(w, c);
    c->state = SIM_CLIENT_IDLE;
    c->gone = false;
}

static void opening_ends(struct world *w, const struct sim_letter *l);

static void open_letter(struct world *w, const struct sim_letter *l)
{
    switch (l->kind) {
    case SIM_MAIL_GRANT:
        hand_over(w, l->client, l->server);
        return;
    case SIM_MAIL_GRANTED:
        granted(w, l->client, l->server);
        return;
    case SIM_MAIL_REFUSE:
        refused(w, l->client);
        return;
    case SIM_MAIL_OPEN:
        opening_ends(w, l);
        return;
    case SIM_MAIL_CLOSE:
        if (l->server->s.state != POOL_SERVER_CLOSING)
            world_fail(w, "told to close a server that is not closing");
        close_held(w, l->server, l->worker, false);
        return;
    }
}

static struct sim_letter letter_of(struct world *w, const struct pool_action *a)
{
    struct sim_letter l = {.worker = a->worker, .pool = a->pool};

    if (a->worker >= w->worker_n)
        world_fail(w, "an action for loop %u", a->worker);
    switch (a->act) {
    case POOL_GRANT:
        l.kind = SIM_MAIL_GRANT;
        l.client = client_of(a->waiter);
        l.server = server_of(a->server);
        if (a->worker != a->server->worker)
            world_fail(w, "a grant goes to a loop where the server is not");
        break;
    case POOL_REFUSE:
        l.kind = SIM_MAIL_REFUSE;
        l.client = client_of(a->waiter);
        if (a->worker != a->waiter->worker)
            world_fail(w, "a refusal goes to another loop than the client's");
        break;
    case POOL_OPEN:
        l.kind = SIM_MAIL_OPEN;
        l.epoch_n = a->pool->epoch_n;
        if (a->worker < w->worker_first_i)
            world_fail(w, "the control loop is asked to open a server");
        break;
    case POOL_CLOSE:
        l.kind = SIM_MAIL_CLOSE;
        l.server = server_of(a->server);
        if (a->worker != a->server->worker)
            world_fail(w, "an order to close goes to the wrong loop");
        break;
    }
    return l;
}

static void carry_out(struct world *w, struct pool_actions *actions, uint16_t acting)
{
    struct sim_letter now[POOL_ACTIONS_MAX];
    uint32_t now_n = 0;

    if (actions->n > POOL_ACTIONS_MAX)
        world_fail(w, "%u actions", actions->n);
    for (uint32_t i = 0; i < actions->n; i++) {
        struct sim_letter l = letter_of(w, &actions->at[i]);
        if (l.kind == SIM_MAIL_OPEN)
            post(w, l, world_some_us(w, w->climate.login_us));
        else if (l.worker == acting)
            now[now_n++] = l;
        else
            post(w, l, world_some_us(w, w->climate.mail_us));
    }
    bool more = actions->more;
    for (uint32_t i = 0; i < now_n; i++)
        open_letter(w, &now[i]);
    actions->more = more;
}

void acts_deliver_due(struct world *w)
{
    for (;;) {
        uint32_t best_i = w->letter_n;
        for (uint32_t i = 0; i < w->letter_n; i++)
            if (w->letters[i].due_us <= w->now_us &&
                (best_i == w->letter_n || w->letters[i].due_us < w->letters[best_i].due_us))
                best_i = i;
        if (best_i == w->letter_n)
            return;
        struct sim_letter l = w->letters[best_i];
        w->letters[best_i] = w->letters[--w->letter_n];
        w->event = "mail";
        open_letter(w, &l);
        check_all(w);
    }
}

/* ---- servers ------------------------------------------------------------------------------- */

static struct sim_server *new_server(struct world *w)
{
    for (uint32_t i = 0; i < SIM_SERVERS_MAX; i++) {
        if (w->servers[i].used)
            continue;
        memset(&w->servers[i], 0, sizeof(w->servers[i]));
        w->servers[i].used = true;
        if (i >= w->servers_n)
            w->servers_n = i + 1;
        return &w->servers[i];
    }
    world_fail(w, "more servers than any limit allows");
}

static void opening_ends(struct world *w, const struct sim_letter *l)
{
    static const enum pool_failure reasons[] = {POOL_FAILED_CONNECT, POOL_FAILED_STARTING,
                                                POOL_FAILED_FULL, POOL_FAILED_LOGIN};
    struct pool_actions actions;
    struct upstream *u = l->pool->upstream;
    bool outage = w->outage[world_upstream_i(w, u)];

    check_before(w);
    if (outage || (!w->draining && world_chance(w, w->climate.fail_pct))) {
        struct err err;
        (void)err_set(&err, "57P03", "seed %llu", (unsigned long long)w->seed);
        enum pool_failure why = outage ? reasons[world_random(w, 2)] : reasons[world_random(w, 4)];
        w->totals.failed_n++;
        pool_open_failed(l->pool, why, &err, w->now_us, &actions);
    } else {
        struct sim_server *s = new_server(w);
        w->totals.opened_n++;
        s->s.backend_pid = 1 + world_random(w, 20); /* those who wait for locks: probe() */
        pool_opened(l->pool, &s->s, l->worker, w->now_us, &actions);
    }
    acts_finish(w, u, &actions, l->worker);
}

/* A server's connection ends, wherever it is just now. */
void acts_server_dies(struct world *w, struct sim_server *s)
{
    struct pool_actions actions;
    struct upstream *u = s->s.pool->upstream;

    if (s->dead)
        return;
    w->totals.deaths_n++;
    if (s->in_mail) {
        s->dead = true;
        return;
    }
    if (s->holder != NULL) {
        struct sim_client *c = s->holder;
        acts_job_breaks(w, c);
        c->state = SIM_CLIENT_IDLE;
        c->server = NULL;
        w->lease_n--;
        close_held(w, s, c->worker, true);
        return;
    }
    bool idle = s->s.state == POOL_SERVER_IDLE;
    uint16_t acting = s->s.worker;
    s->s.died = true;
    check_before(w);
    bool free_it = pool_closed(&s->s, false, w->now_us, &actions);
    if (free_it != idle)
        world_fail(w, "pool_closed() of an unheld server in state %d says %d", s->s.state, free_it);
    if (free_it)
        server_free(s);
    else
        s->dead = true;
    acts_finish(w, u, &actions, acting);
}

/* ---- clients ------------------------------------------------------------------------------- */

void acts_release(struct world *w, struct sim_client *c)
{
    struct pool_actions actions;
    struct sim_server *s = c->server;
    struct upstream *u = s->s.pool->upstream;
    struct pool_observation obs = {
        .fingerprint = 1 + world_random(w, 5),
        .dispatched_us = s->s.leased_us,
        .service_us = 1 + world_random(w, 20000),
    };

    c->server = NULL;
    c->state = SIM_CLIENT_IDLE;
    s->holder = NULL;
    atomic_store(&s->s.stmt_started_us, 0);
    w->lease_n--;
    check_before(w);
    pool_release(&s->s, world_chance(w, 70) ? &obs : NULL, w->now_us, &actions);
    acts_finish(w, u, &actions, c->worker);
}

void acts_ask(struct world *w, struct sim_client *c)
{
    struct pool_actions actions;
    struct pool *p = w->pools[c->pool_i];
    uint64_t patience_us = world_chance(w, 50) ? 0 : 1 + world_some_us(w, 3 * US_PER_S);

    memset(&c->w, 0, sizeof(c->w));
    c->w.worker = c->worker;
    c->w.class_i = world_chance(w, 90) ? c->class_i : w->classes.bulk_i;
    c->w.key_i = world_random(w, 6) * 1000003;
    c->w.addr = c->addr;
    c->w.deadline_us = w->climate.patient || patience_us == 0 ? 0 : w->now_us + patience_us;
    c->w.deadline_rules = world_chance(w, 30);
    if (c->job != NULL) {
        c->w.class_i = c->class_i;
        c->w.key_i = 77;
        c->w.group = 1 + (uint64_t)(c->job - w->jobs);
        c->w.deadline_us = 0;
    }
    c->asked_us = w->now_us;
    c->state = SIM_CLIENT_WAITING;
    check_before(w);
    enum pool_verdict verdict = pool_acquire(p, &c->w, w->now_us, &actions);
    if (c->w.parked)
        w->totals.parked_n++;
    switch (verdict) {
    case POOL_GRANTED:
        w->granting = true;
        check_grant(w, p, server_of(c->w.server));
        if (c->w.queued || c->w.server == NULL)
            world_fail(w, "granted without a server, or still queued");
        granted(w, c, server_of(c->w.server));
        break;
    case POOL_REFUSED:
        refused(w, c);
        break;
    case POOL_QUEUED:
        break;
    }
    acts_finish(w, p->upstream, &actions, c->worker);
    w->granting = false;
}

void acts_leave_queue(struct world *w, struct sim_client *c)
{
    struct pool_actions actions;

    if (c->gone)
        return;
    check_before(w);
    if (pool_cancel(&c->w, w->now_us, &actions)) {
        w->totals.left_n++;
        c->state = SIM_CLIENT_IDLE;
    } else {
        c->gone = true;
    }
    acts_finish(w, w->pools[c->pool_i]->upstream, &actions, c->worker);
}

void acts_login(struct world *w, struct sim_client *c)
{
    c->pool_i = world_random(w, w->pool_n);
    c->class_i = (uint8_t)world_random(w, w->classes.class_n);
    c->address_i = world_random(w, SIM_ADDRESSES);
    if (c->job != NULL) {
        c->pool_i = c->job->pool_i;
        c->class_i = w->classes.backup_i;
        c->address_i = 0;
    }
    struct pool *p = w->pools[c->pool_i];
    uint8_t address[4] = {10, 0, 0, (uint8_t)c->address_i};
    c->addr = pool_addr_get(p->upstream, address, sizeof(address));
    pool_hold(p);
    pool_client_add(p, c->class_i);
    c->state = SIM_CLIENT_IDLE;
}

void acts_logout(struct world *w, struct sim_client *c)
{
    struct pool_actions actions;
    struct pool *p = w->pools[c->pool_i];

    check_before(w);
    pool_addr_put(p->upstream, &c->addr);
    pool_client_remove(p, c->class_i, w->now_us, &actions);
    c->state = SIM_CLIENT_OUT;
    acts_finish(w, p->upstream, &actions, c->worker);
    pool_unhold(&p);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

void acts_job_breaks(struct world *w, const struct sim_client *c)
{
    if (c->job == NULL || c->job->state == SIM_JOB_ENDS)
        return;
    c->job->state = SIM_JOB_ENDS;
    w->totals.jobs_broken_n++;
}

/* How many of it are in this state. */
static uint32_t job_n(const struct world *w, const struct sim_job *j, enum sim_client_state state)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < j->client_n; i++)
        n += w->clients[j->first_i + i].state == state;
    return n;
}

static void job_forms(struct world *w, struct sim_client *c)
{
    struct sim_job *j = c->job;
    struct sim_client *leader = &w->clients[j->first_i];
    bool leads = leader->state == SIM_CLIENT_HOLDING;

    if (leads && j->forms_us == 0)
        j->forms_us = w->now_us;
    if (c->state == SIM_CLIENT_IDLE && (c == leader || leads))
        acts_ask(w, c);
    /* Workers work now and then, and then others of their class wait; a leader sits on its
     * snapshot.
     */
    if (c->state == SIM_CLIENT_HOLDING && c != leader && !w->climate.jobs)
        atomic_store(&c->server->s.stmt_started_us, world_chance(w, 30) ? w->now_us : 0);
    if (job_n(w, j, SIM_CLIENT_HOLDING) < j->client_n || j->state == SIM_JOB_ENDS)
        return;
    j->state = SIM_JOB_ENDS;
    w->totals.jobs_n++;
    if (w->now_us - j->forms_us > w->totals.job_us_max)
        w->totals.job_us_max = w->now_us - j->forms_us;
}

void acts_job(struct world *w, struct sim_client *c)
{
    struct sim_job *j = c->job;

    if (j->state == SIM_JOB_FORMS) {
        job_forms(w, c);
        return;
    }
    j->forms_us = 0;
    if (c->state == SIM_CLIENT_HOLDING)
        acts_release(w, c);
    else if (c->state == SIM_CLIENT_WAITING)
        acts_leave_queue(w, c);
    if (job_n(w, j, SIM_CLIENT_HOLDING) + job_n(w, j, SIM_CLIENT_WAITING) == 0)
        j->state = SIM_JOB_FORMS;
}

/* During a lease: statements, bytes, a lower class. */
void acts_work(struct world *w, struct sim_client *c)
{
    struct pool_actions actions;
    struct pool_server *s = &c->server->s;
    struct pool_observation obs = {
        .fingerprint = 2, .dispatched_us = w->now_us - 10, .service_us = 10};

    if (world_chance(w, 40)) {
        pool_observe(s, &obs);
        return;
    }
    if (world_chance(w, 50)) {
        atomic_store(&s->stmt_started_us, world_chance(w, 50) ? w->now_us : 0);
        pool_bytes(s, world_random(w, 100000));
        return;
    }
    uint8_t to_i = world_chance(w, 50) ? w->classes.bulk_i : w->classes.backup_i;
    w->totals.demoted_n++;
    w->demoting = true;
    check_before(w);
    pool_demote(s, to_i, w->now_us, &actions);
    acts_finish(w, s->pool->upstream, &actions, c->worker);
    w->demoting = false;
}
