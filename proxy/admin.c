#include "proxy/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pool/cull.h"
#include "proxy/baselines.h"
#include "proxy/gates.h"
#include "proxy/listen.h"
#include "proxy/log.h"
#include "proxy/notify.h"
#include "proxy/session.h"

/* ---- databases and their pools --------------------------------------------------------------- */

static bool is_console(const char *database)
{
    return !strcmp(database, "pgbouncer") || !strcmp(database, "pgweir");
}

/* A name that clients could log in to, or did. */
static bool check_database(struct control *k, const char *database, struct err *err)
{
    bool found = config_database(k->hub->config, database) != NULL;
    if (is_console(database))
        return err_set(err, "08P01", "the console cannot be paused, disabled or killed");
    size_t n;
    struct pool **pools = control_pools(k, &n);
    for (size_t i = 0; !found && i < n; i++)
        found = !strcmp(pool_database(pools[i]), database);
    free(pools);
    return found || err_set(err, "08P01", "no such database: %s", database);
}

/* Calls fn for each pool of the database ("": of all), and carries out what it asks for. */
typedef void (*pool_fn)(struct control *k, struct pool *p, struct pool_actions *actions);
static void each_pool(struct control *k, const char *database, pool_fn fn)
{
    size_t n;
    struct pool **pools = control_pools(k, &n);
    for (size_t i = 0; i < n; i++) {
        struct pool_actions actions = {.n = 0};
        if (*database && strcmp(pool_database(pools[i]), database) != 0)
            continue;
        fn(k, pools[i], &actions);
        session_carry_out(k->hub, &actions);
    }
    free(pools);
}

static void set_run(struct control *k, struct pool *p, struct pool_actions *actions)
{
    struct pool_stats now;
    bool known = config_database(k->hub->config, pool_database(p)) != NULL;
    bool paused = gates_of(k->proxy->gates, pool_database(p)).paused;
    enum pool_run run = !known ? POOL_KILLED : paused ? POOL_PAUSED : POOL_RUNS;
    if (k->state == CONTROL_WAITS_FOR_SERVERS && run != POOL_KILLED)
        run = POOL_DISABLED;
    show_pool(p, control_now(k), &now);
    if (now.run != run)
        pool_set_run(p, run, control_now(k), actions);
}

void admin_reconcile(struct control *k, const char *database)
{
    each_pool(k, database, set_run);
}

/* Sets one database's gate, or fails for want of memory. */
static bool set_gate(struct control *k, const char *database, const struct gate *gate,
                     struct err *err)
{
    if (!gates_set(k->proxy->gates, database, gate))
        return err_set(err, "53200", "out of memory");
    k->reconcile_n = 20; /* for 2 s: a login that asked the gate just before may act late */
    admin_reconcile(k, database);
    return true;
}

/* ---- PAUSE, RESUME --------------------------------------------------------------------------- */

static void pause_all(struct control *k, bool paused)
{
    gates_pause_all(k->proxy->gates, paused);
    atomic_store_explicit(&k->proxy->paused, paused, memory_order_relaxed);
    k->reconcile_n = 20;
    admin_reconcile(k, "");
}

static bool check_running(const struct control *k, struct err *err)
{
    return k->state == CONTROL_RUNS || err_set(err, "08P01", "pooler is shutting down");
}

bool admin_pause(struct control *k, const char *database, struct err *err)
{
    if (!check_running(k, err))
        return false;
    if (*database) {
        struct gate gate = gates_own(k->proxy->gates, database);
        gate.paused = true;
        if (!check_database(k, database, err) || !set_gate(k, database, &gate, err))
            return false;
        log_info("PAUSE '%s' command issued", database);
        return true;
    }
    if (gates_all_paused(k->proxy->gates))
        return err_set(err, "08P01", "already suspended/paused");
    log_info("PAUSE command issued");
    pause_all(k, true);
    return true;
}

static bool suspend(struct control *k, struct err *err)
{
    if (!admin_pause(k, "", err))
        return false;
    k->suspended = true;
    if (*k->reload.listen)
        listen_suspend(*k->reload.listen);
    return true;
}

static bool resume_database(struct control *k, const char *database, struct err *err)
{
    struct gate gate = gates_own(k->proxy->gates, database);
    if (!check_database(k, database, err))
        return false;
    if (!gate.paused)
        return err_set(err, "08P01", "database %s is not paused", database);
    gate.paused = false;
    log_info("RESUME '%s' command issued", database);
    return set_gate(k, database, &gate, err);
}

bool admin_resume(struct control *k, const char *database, struct err *err)
{
    if (!check_running(k, err))
        return false;
    if (*database)
        return resume_database(k, database, err);
    if (!gates_all_paused(k->proxy->gates))
        return err_set(err, "08P01", "pooler is not paused/suspended");
    log_info("RESUME command issued");
    if (k->suspended && *k->reload.listen)
        listen_resume(*k->reload.listen);
    k->suspended = false;
    pause_all(k, false);
    return true;
}

bool admin_is_drained(struct control *k, const char *database)
{
    bool drained = true;
    size_t n;
    struct pool **pools = control_pools(k, &n);
    for (size_t i = 0; drained && i < n; i++)
        if (!*database || !strcmp(pool_database(pools[i]), database))
            drained = pool_drained(pools[i]);
    free(pools);
    return drained;
}

void admin_undo(struct control *k, const struct admin_reply *reply)
{
    struct err err;
    if (reply->wait == ADMIN_WAIT_DRAINED && !admin_resume(k, reply->database, &err))
        log_debug("nothing to resume: %s", err.text);
}

/* ---- DISABLE, ENABLE, RECONNECT, KILL -------------------------------------------------------- */

static bool disable(struct control *k, const char *database, bool disabled, struct err *err)
{
    struct gate gate = gates_own(k->proxy->gates, database);
    gate.disabled = disabled;
    if (!check_database(k, database, err) || !set_gate(k, database, &gate, err))
        return false;
    log_info("%s '%s' command issued", disabled ? "DISABLE" : "ENABLE", database);
    return true;
}

static void mark_dirty(struct control *k, struct pool *p, struct pool_actions *actions)
{
    struct gate gate = gates_own(k->proxy->gates, pool_database(p));
    gate.reconnect_us = control_now(k);
    if (!gates_set(k->proxy->gates, pool_database(p), &gate))
        log_warning("%s: out of memory, WAIT_CLOSE will not wait for it", pool_database(p));
    pool_mark_dirty(p, control_now(k), actions);
}

static bool reconnect(struct control *k, const char *database, struct err *err)
{
    if (*database && !check_database(k, database, err))
        return false;
    log_info("RECONNECT%s%s command issued", *database ? " " : "", database);
    each_pool(k, database, mark_dirty);
    return true;
}

static void kill_pool(struct control *k, struct pool *p, struct pool_actions *actions)
{
    (void)actions;
    if (pool_owner(p))
        session_kill_route(k->proxy, route_of(p));
}

/* Everybody out; newcomers wait for a RESUME. */
static bool kill_database(struct control *k, const char *database, struct err *err)
{
    struct gate gate = gates_own(k->proxy->gates, database);
    gate.paused = true;
    if (*database && (!check_database(k, database, err) || !set_gate(k, database, &gate, err)))
        return false;
    if (!*database)
        pause_all(k, true);
    log_info("KILL%s%s command issued", *database ? " " : "", database);
    each_pool(k, database, kill_pool);
    return true;
}

/* Decimal, or as SHOW's ptr has it. */
static bool client_id_of(const char *text, uint64_t *id, struct err *err)
{
    char *end;
    errno = 0;
    *id = strtoull(text, &end, 0);
    if (errno != 0 || *end || *text < '0' || *text > '9' || *id == 0)
        return err_set(err, "08P01", "invalid client pointer supplied");
    return true;
}

/* ---- SHUTDOWN, breakers ---------------------------------------------------------------------- */

static bool shut_down(struct control *k, const char *how, struct err *err)
{
    enum control_state state = CONTROL_ENDS;
    if (*how && strcasecmp(how, "wait_for_servers") != 0 &&
        strcasecmp(how, "wait_for_clients") != 0)
        return err_set(err, "08P01", "SHUTDOWN takes WAIT_FOR_SERVERS or WAIT_FOR_CLIENTS, not %s",
                       how);
    if (*how)
        state = !strcasecmp(how, "wait_for_servers") ? CONTROL_WAITS_FOR_SERVERS
                                                     : CONTROL_WAITS_FOR_CLIENTS;
    control_shut_down(k, state);
    return true;
}

struct breaker_order {
    enum command_verb verb;
    uint8_t class_i;
    uint64_t now_us;
    uint32_t culled_n;
};

static bool tell_breaker(struct upstream *u, void *arg)
{
    struct breaker_order *o = arg;
    if (o->verb == COMMAND_TRIP)
        upstream_trip(u, o->class_i, o->now_us);
    else if (o->verb == COMMAND_CANCEL)
        o->culled_n += cull_all(u, o->class_i);
    else if (o->verb == COMMAND_RELEASE)
        upstream_release(u, o->now_us);
    else
        upstream_reset_baseline(u, o->now_us);
    return true;
}

static bool tell_breakers(struct control *k, const struct command *cmd, struct err *err)
{
    const struct class_table *classes = k->hub->config->classes;
    struct breaker_order o = {.verb = cmd->verb, .now_us = control_now(k)};
    if (cmd->verb == COMMAND_TRIP || cmd->verb == COMMAND_CANCEL) {
        int class_i = class_find(classes, cmd->name);
        if (class_i < 0)
            return err_set(err, "08P01", "no such class: %s", cmd->name);
        if (classes->at[class_i].priority == 0)
            return err_set(err, "08P01", "class %s is protected, it cannot be shed", cmd->name);
        o.class_i = (uint8_t)class_i;
    }
    log_info("%s%s%s command issued", command_tag(cmd->verb), *cmd->name ? " " : "", cmd->name);
    registry_each_upstream(k->proxy->registry, tell_breaker, &o);
    if (cmd->verb == COMMAND_RESET_BASELINE && k->baselines)
        baselines_save_soon(k->baselines);
    if (cmd->verb == COMMAND_CANCEL)
        log_info("CANCEL %s: %u statements", cmd->name, o.culled_n);
    return true;
}

/* ---- SHOW, SET ------------------------------------------------------------------------------- */

/* Settings drivers ask for or set as soon as they are connected. */
static const struct fake {
    const char *name, *text;
} fakes[] = {{"client_encoding", "UTF8"},
             {"default_transaction_isolation", "read committed"},
             {"standard_conforming_strings", "on"},
             {"datestyle", "ISO"},
             {"timezone", "GMT"}};

static const struct fake *find_fake(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(fakes); i++)
        if (!strcasecmp(fakes[i].name, name))
            return &fakes[i];
    return NULL;
}

enum admin_verdict admin_show(const char *name, struct admin_reply *reply, struct err *err)
{
    const struct fake *fake = find_fake(name);
    memset(reply, 0, sizeof *reply);
    if (fake) {
        reply->fake_name = fake->name;
        reply->fake_text = fake->text;
        return ADMIN_FAKES;
    }
    reply->show = rows_find(name);
    if (reply->show)
        return ADMIN_SHOWS;
    err_set(err, "08P01", "bad SHOW arg, use SHOW HELP;");
    return ADMIN_FAILED;
}

static bool set(struct control *k, const struct command *cmd, struct err *err)
{
    if (!reload_set(&k->reload, cmd->name, cmd->value, err))
        return false;
    log_info("SET %s issued", cmd->name); /* not the value: it may be a secret */
    return true;
}

bool admin_reload(struct control *k, struct err *err)
{
    notify_reloading();
    bool good = check_running(k, err) && reload_files(&k->reload, err);
    if (good)
        k->reconcile_n = 20; /* a worker may still log somebody in by the former files */
    admin_reconcile(k, "");  /* a database may have come back */
    notify_send("READY=1\n");
    return good;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Commands that are done, or not, when they return. */
static bool run_now(struct control *k, const struct command *cmd, struct err *err)
{
    switch (cmd->verb) {
    case COMMAND_SET:
        return set(k, cmd, err);
    case COMMAND_SET_BREAKER:
        return reload_set_breaker(&k->reload, cmd->name, cmd->value, err);
    case COMMAND_RELOAD:
        return admin_reload(k, err);
    case COMMAND_RESUME:
        return admin_resume(k, cmd->name, err);
    case COMMAND_DISABLE:
    case COMMAND_ENABLE:
        return disable(k, cmd->name, cmd->verb == COMMAND_DISABLE, err);
    case COMMAND_RECONNECT:
        return reconnect(k, cmd->name, err);
    case COMMAND_KILL:
        return check_running(k, err) && kill_database(k, cmd->name, err);
    case COMMAND_SHUTDOWN:
        return shut_down(k, cmd->name, err);
    case COMMAND_TRIP:
    case COMMAND_CANCEL:
    case COMMAND_RELEASE:
    case COMMAND_RESET_BASELINE:
        return tell_breakers(k, cmd, err);
    case COMMAND_SHOW:
    case COMMAND_PAUSE:
    case COMMAND_SUSPEND:
    case COMMAND_KILL_CLIENT:
    case COMMAND_WAIT_CLOSE:
    case COMMAND_VERBS_N:
        break;
    }
    must(!"a command that is done at once");
    return false;
}

/* Commands whose answer comes later. */
static bool run_and_wait(struct control *k, const struct command *cmd, struct admin_reply *reply,
                         struct err *err)
{
    memcpy(reply->database, cmd->name, sizeof reply->database);
    if (cmd->verb == COMMAND_PAUSE || cmd->verb == COMMAND_SUSPEND) {
        reply->wait = ADMIN_WAIT_DRAINED;
        return cmd->verb == COMMAND_PAUSE ? admin_pause(k, cmd->name, err) : suspend(k, err);
    }
    if (cmd->verb == COMMAND_WAIT_CLOSE) {
        reply->wait = ADMIN_WAIT_CLOSED;
        return !*cmd->name || check_database(k, cmd->name, err);
    }
    must(cmd->verb == COMMAND_KILL_CLIENT);
    reply->wait = ADMIN_WAIT_FOUND;
    return client_id_of(cmd->name, &reply->client_id, err);
}

enum admin_verdict admin_run(struct control *k, const struct command *cmd, bool is_admin,
                             struct admin_reply *reply, struct err *err)
{
    memset(reply, 0, sizeof *reply);
    if (cmd->verb == COMMAND_SHOW)
        return admin_show(cmd->name, reply, err);
    if (cmd->verb == COMMAND_SET && find_fake(cmd->name))
        return ADMIN_DONE;
    if (!is_admin && !command_for_anybody(cmd->verb)) {
        err_set(err, "42501", "admin access needed");
        return ADMIN_FAILED;
    }
    switch (cmd->verb) {
    case COMMAND_PAUSE:
    case COMMAND_SUSPEND:
    case COMMAND_KILL_CLIENT:
    case COMMAND_WAIT_CLOSE:
        return run_and_wait(k, cmd, reply, err) ? ADMIN_WAITS : ADMIN_FAILED;
    default:
        return run_now(k, cmd, err) ? ADMIN_DONE : ADMIN_FAILED;
    }
}
