#include "proxy/console.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "proxy/console_state.h"
#include "proxy/log.h"
#include "proxy/session.h"
#include "proxy/version.h"

static struct console *console_of(const struct control *k, uint64_t client_id)
{
    struct console *s;
    DL_FOREACH(k->consoles, s)
    {
        if (s->client->id == client_id)
            return s;
    }
    return NULL;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void bury(struct worker *w, struct letter *l)
{
    (void)w;
    free(OWNER_OF(struct console, burial, l));
}

void console_end(struct console *s, enum end_reason why)
{
    if (s->gone)
        return;
    s->gone = true;
    s->busy = false;
    copyout_abandon(&s->copyout);
    DL_DELETE(s->control->consoles, s);
    console_forget_all(s);
    buf_free(&s->in);
    buf_free(&s->out);
    struct worker *w = s->client->hub->worker;
    session_end(s->client, why);
    s->client = NULL;
    s->burial.open = bury;
    worker_defer(w, &s->burial);
}

bool console_fits(struct console *s, bool fits)
{
    if (!fits && !s->gone) {
        log_warning("console of %s: an answer is larger than %d MiB, or memory is short",
                    s->client->login->user, CONSOLE_OUT_MAX >> 20);
        console_end(s, END_MEMORY);
    }
    return fits && !s->gone;
}

void console_put_error(struct console *s, const char *severity, const struct err *err)
{
    struct wire_error e = {.severity = severity, .sqlstate = err->sqlstate, .message = err->text};
    console_fits(s, wire_put_error(&s->out, 'E', &e));
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Sends what was put, as far as it goes. */
static void pump(struct console *s)
{
    while (!s->gone && buf_used(&s->out) > 0 && !net_stuck(&s->client->net)) {
        struct view v = buf_view(&s->out);
        size_t n = v.n < CONSOLE_SEND_MAX ? v.n : CONSOLE_SEND_MAX;
        if (net_send(&s->client->net, v.at, n) == NET_ERROR) {
            console_end(s, END_CLIENT_GONE);
            return;
        }
        s->control->samples.console.server_bytes += n;
        buf_take(&s->out, n);
    }
}

void console_go_on(struct console *s)
{
    do
        pump(s);
    while (!s->gone && buf_used(&s->out) == 0 && console_message(s));
    pump(s);
}

static void take_in(struct console *s)
{
    size_t n;
    struct worker *w = s->client->hub->worker;
    switch (net_read(&s->client->net, w->scratch, CONSOLE_IN_MAX, &n)) {
    case NET_AGAIN:
        return;
    case NET_EOF:
    case NET_ERROR:
        console_end(s, END_CLIENT_GONE);
        return;
    case NET_OK:
        break;
    }
    s->control->samples.console.client_bytes += n;
    if (!buf_put(&s->in, w->scratch, n))
        console_end(s, END_CLIENT_PROTOCOL); /* nobody pipelines that much to a console */
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct console *s = arg;
    (void)fd;
    if (s->gone)
        return;
    if (what & EV_WRITE && net_flush(&s->client->net) == NET_ERROR) {
        console_end(s, END_CLIENT_GONE);
        return;
    }
    if (what & EV_READ)
        take_in(s);
    if (!s->gone)
        console_go_on(s);
}

/* ---- login ----------------------------------------------------------------------------------- */

enum rights { RIGHTS_NONE, RIGHTS_STATS, RIGHTS_ADMIN };

static enum rights rights_of(const struct hub *h, const struct client *c)
{
    const struct config_globals *g = &h->config->globals;
    const char *user = c->login->user;
    bool owner = c->peer.is_unix && c->peer.uid == geteuid() &&
                 (!strcmp(user, "pgbouncer") || !strcmp(user, "pgweir"));
    if (owner || config_list_has(g->admin_users, user, true))
        return RIGHTS_ADMIN;
    return config_list_has(g->stats_users, user, true) ? RIGHTS_STATS : RIGHTS_NONE;
}

static void refuse(struct client *c, enum end_reason why, const char *sqlstate, const char *text)
{
    struct err err;
    err_set(&err, sqlstate, "%s", text);
    session_tell(c, true, &err);
    session_end(c, why);
}

static bool put_greeting(struct console *s)
{
    static const char *const parameters[][2] = {
        {"server_version", VERSION_PGBOUNCER "/bouncer"}, /* tools look for it */
        {"client_encoding", "UTF8"},
        {"server_encoding", "SQL_ASCII"},
        {"DateStyle", "ISO"},
        {"TimeZone", "GMT"},
        {"standard_conforming_strings", "on"},
        {"integer_datetimes", "on"},
        {"is_superuser", "on"}};
    const struct client *c = s->client;
    uint8_t key[CANCEL_KEY_BYTES_32];
    bool fits = true;
    for (size_t i = 0; fits && i < COUNT_OF(parameters); i++)
        fits = wire_put_parameter(&s->out, parameters[i][0], parameters[i][1]);
    hub_cancel_key(c->hub, c->pid, key, c->key_bytes);
    return console_fits(s, fits && wire_put_key(&s->out, c->pid, view_of(key, c->key_bytes)) &&
                               wire_put_ready(&s->out, 'I'));
}

/* From the ones who log in to those who have. */
static void admit(struct hub *h, struct client *c)
{
    DL_DELETE(h->logins, c);
    h->logins_n--;
    DL_APPEND(h->clients, c);
    h->clients_n++;
    c->logged_in = true;
    client_goto(c, CLIENT_IDLE);
}

void console_open(struct hub *h, struct client *c)
{
    enum rights rights = rights_of(h, c);
    if (rights == RIGHTS_NONE) {
        refuse(c, END_CLIENT_AUTH, "28000", "not allowed");
        return;
    }
    struct console *s = calloc(1, sizeof *s);
    if (!s || !net_attach(&c->net, h->worker, on_event, s)) {
        free(s);
        refuse(c, END_MEMORY, "53200", "out of memory");
        return;
    }
    s->control = h->proxy->control;
    s->client = c;
    s->is_admin = rights == RIGHTS_ADMIN;
    s->in.max = CONSOLE_IN_MAX;
    s->out.max = CONSOLE_OUT_MAX;
    s->control->samples.console.client_login_count++;
    DL_APPEND(s->control->consoles, s);
    if (h->config->globals.log_connections) {
        char name[CLIENT_NAME_BYTES];
        log_info("C-%#llx: %s login attempt: db=%s user=%s tls=%s", (unsigned long long)c->id,
                 client_name(c, name, sizeof name), c->login->database, c->login->user,
                 c->secure ? "yes" : "no");
    }
    admit(h, c);
    if (!put_greeting(s) || !console_fits(s, buf_put_view(&s->in, buf_view(&c->in))))
        return;
    buf_free(&c->in);
    console_go_on(s);
}

/* ---- for others ------------------------------------------------------------------------------ */

void console_cancel(struct client *c)
{
    struct console *s = console_of(c->hub->proxy->control, c->id);
    struct err err;
    if (!s || !s->busy)
        return;
    copyout_abandon(&s->copyout);
    if (s->command.verb != COMMAND_SHOW)
        admin_undo(s->control, &s->reply);
    err_set(&err, "57014", "canceling statement due to user request");
    console_put_error(s, "ERROR", &err);
    console_answered(s, false);
}

void console_tick(struct control *k)
{
    struct console *s, *next;
    DL_FOREACH_SAFE(k->consoles, s, next)
    {
        console_look_again(s);
    }
}

void console_close_all(struct control *k)
{
    struct console *s, *next;
    struct err err;
    err_set(&err, "57P01", "server shutting down");
    DL_FOREACH_SAFE(k->consoles, s, next)
    {
        console_put_error(s, "FATAL", &err);
        pump(s);
        console_end(s, END_SHUTDOWN);
    }
}

bool console_kill(struct control *k, uint64_t client_id)
{
    struct console *s = console_of(k, client_id);
    struct err err;
    if (!s)
        return false;
    err_set(&err, "57P01", "admin forced disconnect");
    console_put_error(s, "FATAL", &err);
    pump(s);
    console_end(s, END_KILLED);
    return true;
}
