/* The messages of a console's client. In the extended protocol a statement is one command, without
 * parameters; what was parsed is kept, not its text. */
#include "proxy/console_state.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* The message at the head of `in` has been dealt with. */
static void done_with(struct console *s, const struct wire_msg *m)
{
    buf_take(&s->in, WIRE_HEADER_BYTES + m->body_n);
}

static void fail(struct console *s, const char *sqlstate, const char *text)
{
    struct err err;
    err_set(&err, sqlstate, "%s", text);
    console_put_error(s, "ERROR", &err);
}

/* ---- simple protocol ------------------------------------------------------------------------- */

static void put_ready(struct console *s)
{
    console_fits(s, wire_put_ready(&s->out, 'I'));
}

/* One command of the script. False: it is over, one way or the other. */
static bool next_of_script(struct console *s, const struct wire_text *t)
{
    struct command cmd;
    struct err err;
    bool first = s->script_at == 0;
    switch (command_next(t->text + s->script_at, t->text_n - s->script_at, &cmd, &err)) {
    case COMMAND_EMPTY:
        s->script_at += (uint32_t)cmd.used_bytes;
        if (s->script_at < t->text_n)
            return true;
        if (first)
            console_fits(s, wire_put_empty(&s->out, 'I'));
        return false;
    case COMMAND_BAD:
        console_put_error(s, "ERROR", &err);
        return false;
    case COMMAND_OK:
        break;
    }
    s->script_at += (uint32_t)cmd.used_bytes;
    return console_answer(s, &cmd, true, (struct table_formats){0}) && s->script_at < t->text_n;
}

static void query(struct console *s, const struct wire_msg *m)
{
    struct wire_text t;
    bool more = false;
    if (!wire_read_query(m, &t)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return;
    }
    if (t.cut)
        fail(s, "54000", "the command is too long");
    else
        do
            more = next_of_script(s, &t);
        while (more && !s->busy && !s->gone);
    if (s->busy || s->gone)
        return; /* console_answered() goes on */
    s->script_at = 0;
    put_ready(s);
    done_with(s, m);
}

/* ---- extended protocol ----------------------------------------------------------------------- */

static struct console_named **find(struct console *s, bool is_portal, const char *name)
{
    struct console_named **at = &s->named;
    while (*at && ((*at)->is_portal != is_portal || strcmp((*at)->name, name) != 0))
        at = &(*at)->next;
    return at;
}

static void forget(struct console *s, bool is_portal, const char *name)
{
    struct console_named **at = find(s, is_portal, name);
    struct console_named *gone = *at;
    if (!gone)
        return;
    *at = gone->next;
    free(gone);
}

void console_forget_all(struct console *s)
{
    struct console_named *n, *next;
    LL_FOREACH_SAFE(s->named, n, next)
    {
        free(n);
    }
    s->named = NULL;
}

/* A place for a statement or portal of this name; the former one is gone. NULL: refused, and said.
 */
static struct console_named *name_it(struct console *s, bool is_portal, const char *name)
{
    struct console_named *n;
    int all_n = 0;
    LL_COUNT(s->named, n, all_n);
    if (strlen(name) > COMMAND_NAME_MAX || all_n >= CONSOLE_NAMED_MAX) {
        fail(s, "54000", "too many prepared statements for a console, or too long a name");
        return NULL;
    }
    if (*name && *find(s, is_portal, name)) {
        fail(s, is_portal ? "42P03" : "42P05", "a statement or portal of this name exists");
        return NULL;
    }
    forget(s, is_portal, name);
    n = calloc(1, sizeof *n);
    if (!n) {
        fail(s, "53200", "out of memory");
        return NULL;
    }
    n->is_portal = is_portal;
    memcpy(n->name, name, strlen(name) + 1);
    LL_PREPEND(s->named, n);
    return n;
}

/* The one command of a text. False: refused, and said. */
static bool one_command(struct console *s, const char *text, size_t n, struct command *cmd,
                        bool *empty)
{
    struct command rest;
    struct err err;
    enum command_verdict v = command_next(text, n, cmd, &err);
    *empty = v == COMMAND_EMPTY;
    if (v == COMMAND_BAD) {
        console_put_error(s, "ERROR", &err);
        return false;
    }
    if (cmd->used_bytes < n &&
        command_next(text + cmd->used_bytes, n - cmd->used_bytes, &rest, &err) != COMMAND_EMPTY) {
        fail(s, "42601", "cannot insert multiple commands into a prepared statement");
        return false;
    }
    return true;
}

static bool parse(struct console *s, const struct wire_msg *m)
{
    struct wire_parse p;
    struct command cmd;
    bool empty;
    if (!wire_read_parse(m, &p)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return false;
    }
    if (p.text_cut) {
        fail(s, "54000", "the command is too long");
        return false;
    }
    if (!one_command(s, p.text, p.text_n, &cmd, &empty))
        return false;
    struct console_named *n = name_it(s, false, p.name);
    if (!n)
        return false;
    n->command = cmd;
    n->empty = empty;
    return console_fits(s, wire_put_empty(&s->out, '1'));
}

/* What follows the names in a Bind: format codes of parameters, parameters, format codes of
 * results. False: broken. */
static bool read_formats(struct view tail, uint16_t *parameters_n, struct table_formats *f)
{
    uint16_t codes_n = view_take_u16(&tail);
    view_take_bytes(&tail, 2u * codes_n);
    *parameters_n = view_take_u16(&tail);
    for (uint16_t i = 0; i < *parameters_n && !tail.bad; i++) {
        uint32_t bytes = view_take_u32(&tail);
        if (bytes != UINT32_MAX) /* NULL */
            view_take_bytes(&tail, bytes);
    }
    codes_n = view_take_u16(&tail);
    f->binary = 0;
    for (uint16_t i = 0; i < codes_n && !tail.bad; i++)
        if (view_take_u16(&tail) == 1 && i < TABLE_COLUMNS_MAX)
            f->binary |= codes_n == 1 ? UINT64_MAX : 1ull << i;
    return view_done(&tail);
}

static bool bind_portal(struct console *s, const struct wire_msg *m)
{
    struct wire_bind b;
    uint16_t parameters_n = 0;
    struct table_formats formats;
    if (!wire_read_bind(m, &b) ||
        !read_formats(view_of(m->body.at + b.tail_at, m->body.n - b.tail_at), &parameters_n,
                      &formats)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return false;
    }
    const struct console_named *statement = *find(s, false, b.statement);
    if (!statement || parameters_n > 0) {
        fail(s, statement ? "08P01" : "26000",
             statement ? "commands of the console take no parameters"
                       : "prepared statement does not exist");
        return false;
    }
    struct command cmd = statement->command;
    bool empty = statement->empty;
    struct console_named *portal = name_it(s, true, b.portal);
    if (!portal)
        return false;
    portal->command = cmd;
    portal->empty = empty;
    portal->formats = formats;
    return console_fits(s, wire_put_empty(&s->out, '2'));
}

static bool describe(struct console *s, const struct wire_msg *m)
{
    struct wire_target t;
    static const uint8_t no_parameters[2] = {0, 0};
    if (!wire_read_target(m, &t)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return false;
    }
    const struct console_named *n = *find(s, t.kind == 'P', t.name);
    if (!n) {
        fail(s, t.kind == 'P' ? "34000" : "26000", "prepared statement or portal does not exist");
        return false;
    }
    if (t.kind == 'S' && !console_fits(s, wire_put_raw(&s->out, 't', view_of(no_parameters, 2))))
        return false;
    const struct table *table = n->empty ? NULL : console_table_of(&n->command);
    return console_fits(s, table ? table_put_columns(&s->out, table, n->formats)
                                 : wire_put_empty(&s->out, 'n'));
}

static bool execute(struct console *s, const struct wire_msg *m)
{
    struct wire_execute e;
    if (!wire_read_execute(m, &e)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return false;
    }
    const struct console_named *portal = *find(s, true, e.portal);
    if (!portal) {
        fail(s, "34000", "portal does not exist");
        return false;
    }
    if (portal->empty)
        return console_fits(s, wire_put_empty(&s->out, 'I'));
    struct command cmd = portal->command;
    return console_answer(s, &cmd, false, portal->formats);
}

static bool close_named(struct console *s, const struct wire_msg *m)
{
    struct wire_target t;
    if (!wire_read_target(m, &t)) {
        console_end(s, END_CLIENT_PROTOCOL);
        return false;
    }
    forget(s, t.kind == 'P', t.name);
    return console_fits(s, wire_put_empty(&s->out, '3'));
}

static void sync(struct console *s)
{
    struct console_named *n, *next;
    s->skipping = false;
    LL_FOREACH_SAFE(s->named, n, next)
    {
        if (n->is_portal) /* they end with their transaction */
            forget(s, true, n->name);
    }
    put_ready(s);
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* A message of the extended protocol. False: it failed. */
static bool extended(struct console *s, const struct wire_msg *m)
{
    switch (m->type) {
    case 'P':
        return parse(s, m);
    case 'B':
        return bind_portal(s, m);
    case 'D':
        return describe(s, m);
    case 'E':
        return execute(s, m);
    case 'C':
        return close_named(s, m);
    case 'H':
        return true;
    case 'F':
        fail(s, "0A000", "the console has no functions");
        put_ready(s);
        return true;
    case 'd':
    case 'c':
    case 'f':
        return true; /* the end of a COPY that failed: ignored, as PostgreSQL does */
    default:
        fail(s, "08P01", "unexpected message");
        return false;
    }
}

static void handle(struct console *s, const struct wire_msg *m)
{
    if (m->type == 'X') {
        console_end(s, END_CLIENT_QUIT);
        return;
    }
    if (m->type == 'Q' && !s->skipping) {
        query(s, m);
        return;
    }
    if (m->type == 'S')
        sync(s);
    else if (!s->skipping)
        s->skipping = !extended(s, m);
    if (!s->gone && !s->busy)
        done_with(s, m);
}

static void end_broken(struct console *s)
{
    struct err err;
    err_set(&err, "08P01", "invalid message, or one too long for a console");
    console_put_error(s, "FATAL", &err);
    console_end(s, END_CLIENT_PROTOCOL);
}

bool console_message(struct console *s)
{
    struct wire_msg m;
    if (s->gone || s->busy || buf_used(&s->in) == 0)
        return false;
    switch (wire_next(buf_view(&s->in), wire_from_client, CONSOLE_MESSAGE_MAX, &m)) {
    case WIRE_MORE:
        return false;
    case WIRE_BAD:
        end_broken(s);
        return false;
    case WIRE_OK:
        break;
    }
    if (!wire_is_whole(&m))
        return false;
    handle(s, &m);
    return !s->gone && !s->busy;
}

void console_answered(struct console *s, bool good)
{
    struct wire_msg m;
    if (s->gone)
        return;
    must(s->busy && !s->copyout);
    s->busy = false;
    /* it is still there, whole, at the head */
    must(wire_next(buf_view(&s->in), wire_from_client, CONSOLE_MESSAGE_MAX, &m) == WIRE_OK);
    if (m.type == 'Q') {
        if (good) {
            query(s, &m);
        } else {
            s->script_at = 0;
            put_ready(s);
            done_with(s, &m);
        }
    } else {
        s->skipping = !good;
        done_with(s, &m);
    }
    console_go_on(s);
}
