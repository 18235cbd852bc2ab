/* Answers to commands: rows made here, rows gathered from the loops, and waiting. */
#include "proxy/console_state.h"

#include <stdio.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/session.h"

static const char help[] = "\n\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION"
                           "\n\tSHOW PEERS|PEER_POOLS|LISTS|MEM|STATE|DNS_HOSTS|DNS_ZONES"
                           "\n\tSHOW SOCKETS|ACTIVE_SOCKETS"
                           "\n\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS"
                           "\n\tSHOW CLASSES|BREAKERS|VERDICTS|TRANSITIONS|FINGERPRINTS"
                           "\n\tSHOW UPSTREAMS|HOSTS|INVERSIONS|REROUTES|REFUSALS|ENDS"
                           "\n\tSET key = arg"
                           "\n\tSET BREAKER class off|observe|enforce"
                           "\n\tTRIP class"
                           "\n\tCANCEL class"
                           "\n\tRELEASE"
                           "\n\tRESET BASELINE"
                           "\n\tRELOAD"
                           "\n\tPAUSE [<db>]"
                           "\n\tRESUME [<db>]"
                           "\n\tDISABLE <db>"
                           "\n\tENABLE <db>"
                           "\n\tRECONNECT [<db>]"
                           "\n\tKILL [<db>]"
                           "\n\tKILL_CLIENT <client_id>"
                           "\n\tSUSPEND"
                           "\n\tSHUTDOWN"
                           "\n\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS"
                           "\n\tWAIT_CLOSE [<db>]";

/* ---- one row, one column --------------------------------------------------------------------- */

struct fake_row {
    const char *text;
};

/* The column is called like the setting: a table of its own for each. */
static const struct table *fake_table(const char *name, struct table *table,
                                      struct table_column *column)
{
    *column = (struct table_column){.name = name, .type = TABLE_TEXT};
    *table = (struct table){
        .name = name, .columns = column, .columns_n = 1, .row_bytes = sizeof(struct fake_row)};
    return table;
}

const struct table *console_table_of(const struct command *cmd)
{
    static struct table table; /* of the control loop; good until the next call */
    static struct table_column column;
    struct admin_reply reply;
    struct err err;
    if (cmd->verb != COMMAND_SHOW)
        return NULL;
    switch (admin_show(cmd->name, &reply, &err)) {
    case ADMIN_SHOWS:
        return reply.show->table;
    case ADMIN_FAKES:
        return fake_table(reply.fake_name, &table, &column);
    case ADMIN_DONE:
    case ADMIN_WAITS:
    case ADMIN_FAILED:
        break;
    }
    return NULL;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static struct rows_from rows_from(const struct console *s)
{
    struct control *k = s->control;
    return (struct rows_from){.proxy = k->proxy,
                              .samples = &k->samples,
                              .now_us = control_now(k),
                              .suspended = k->suspended};
}

static bool put_complete(struct console *s, enum command_verb verb)
{
    return console_fits(s, wire_put_complete(&s->out, command_tag(verb)));
}

static void fail(struct console *s, const char *sqlstate, const char *text)
{
    struct err err;
    err_set(&err, sqlstate, "%s", text);
    console_put_error(s, "ERROR", &err);
}

static bool put_rows(struct console *s, const struct table *t, const struct rows *rows)
{
    bool fits = true;
    for (size_t i = 0; fits && i < rows->n; i++)
        fits = table_put_row(&s->out, t, rows_at(rows, t, i), s->formats);
    return console_fits(s, fits);
}

static bool show_here(struct console *s, const struct rows_show *show)
{
    struct rows rows = {.at = NULL};
    struct rows_from from = rows_from(s);
    show->fill(&from, &rows);
    bool good = !rows.failed;
    if (!good)
        fail(s, "53200", "out of memory");
    else
        good = put_rows(s, show->table, &rows) && put_complete(s, COMMAND_SHOW);
    rows_free(&rows);
    return good;
}

static bool show_help(struct console *s)
{
    struct wire_error e = {
        .severity = "NOTICE", .sqlstate = "00000", .message = "Console usage", .detail = help};
    return console_fits(s, wire_put_error(&s->out, 'N', &e)) && put_complete(s, COMMAND_SHOW);
}

/* ---- rows from the loops --------------------------------------------------------------------- */

static void take_rows(void *arg, const struct copyout_peer *peers, size_t n)
{
    struct console *s = arg;
    const struct rows_show *show = s->reply.show;
    struct rows_from from = rows_from(s);
    struct rows rows = {.at = NULL};
    for (size_t i = 0; i < n; i++)
        rows_put_peer(&from, show, &peers[i], &rows);
    put_rows(s, show->table, &rows);
    rows_free(&rows);
}

static bool start_show(struct console *s, enum copyout_what what);

static void rows_done(void *arg)
{
    struct console *s = arg;
    enum rows_source source = s->reply.show->source;
    s->copyout = NULL;
    if (!s->second_half && (source == ROWS_SOCKETS || source == ROWS_ACTIVE_SOCKETS)) {
        s->second_half = true;
        if (!start_show(s, COPYOUT_SERVERS))
            console_answered(s, false);
        return;
    }
    if (put_complete(s, COMMAND_SHOW))
        console_answered(s, true);
}

static bool start(struct console *s, const struct copyout_opts *opts)
{
    must(!s->copyout);
    s->found_n = 0;
    s->copyout = copyout_start(s->control->proxy, opts);
    if (!s->copyout)
        fail(s, "53200", "out of memory");
    return s->copyout != NULL;
}

static bool start_show(struct console *s, enum copyout_what what)
{
    return start(
        s, &(struct copyout_opts){.what = what, .rows = take_rows, .done = rows_done, .arg = s});
}

static bool show(struct console *s, const struct rows_show *what)
{
    if (s->is_query && what->table &&
        !console_fits(s, table_put_columns(&s->out, what->table, s->formats)))
        return false;
    switch (what->source) {
    case ROWS_HELP:
        return show_help(s);
    case ROWS_HERE:
        return show_here(s, what);
    case ROWS_CLIENTS:
    case ROWS_SERVERS:
    case ROWS_SOCKETS:
    case ROWS_ACTIVE_SOCKETS:
        break;
    }
    s->second_half = false;
    s->busy = start_show(s, what->source == ROWS_SERVERS ? COPYOUT_SERVERS : COPYOUT_CLIENTS);
    return s->busy;
}

static bool show_fake(struct console *s)
{
    struct table table;
    struct table_column column;
    struct fake_row row = {s->reply.fake_text};
    const struct table *t = fake_table(s->reply.fake_name, &table, &column);
    bool fits = (!s->is_query || table_put_columns(&s->out, t, s->formats)) &&
                table_put_row(&s->out, t, &row, s->formats);
    return console_fits(s, fits) && put_complete(s, COMMAND_SHOW);
}

/* ---- KILL_CLIENT, WAIT_CLOSE, PAUSE ---------------------------------------------------------- */

static void look_for_client(void *arg, const struct copyout_peer *peers, size_t n)
{
    struct console *s = arg;
    for (size_t i = 0; i < n; i++)
        s->found_n += peers[i].id == s->reply.client_id;
}

static void client_looked_for(void *arg)
{
    struct console *s = arg;
    uint64_t id = s->reply.client_id;
    s->copyout = NULL;
    if (!s->found_n) {
        fail(s, "08P01", "client not found");
        console_answered(s, false);
        return;
    }
    log_info("KILL_CLIENT %llu command issued", (unsigned long long)id);
    if (put_complete(s, COMMAND_KILL_CLIENT))
        console_answered(s, true);
    if (!console_kill(s->control, id))
        session_kill_client(s->control->proxy, id);
}

static void count_old_servers(void *arg, const struct copyout_peer *peers, size_t n)
{
    struct console *s = arg;
    const char *database = s->reply.database;
    for (size_t i = 0; i < n; i++)
        if (!*database || (peers[i].route && !strcmp(peers[i].route->database, database)))
            s->found_n += rows_server_is_old(s->control->proxy, &peers[i]);
}

static void old_servers_counted(void *arg)
{
    struct console *s = arg;
    s->copyout = NULL;
    if (!s->found_n && put_complete(s, COMMAND_WAIT_CLOSE))
        console_answered(s, true);
}

static bool count_again(struct console *s)
{
    return start(s, &(struct copyout_opts){.what = COPYOUT_SERVERS,
                                           .rows = count_old_servers,
                                           .done = old_servers_counted,
                                           .arg = s});
}

static bool wait_for_it(struct console *s)
{
    switch (s->reply.wait) {
    case ADMIN_WAIT_DRAINED:
        if (admin_is_drained(s->control, s->reply.database))
            return put_complete(s, s->command.verb);
        s->busy = true;
        return true;
    case ADMIN_WAIT_CLOSED:
        s->busy = count_again(s);
        return s->busy;
    case ADMIN_WAIT_FOUND:
        s->busy = start(s, &(struct copyout_opts){.what = COPYOUT_CLIENTS,
                                                  .rows = look_for_client,
                                                  .done = client_looked_for,
                                                  .arg = s});
        return s->busy;
    }
    return false;
}

void console_look_again(struct console *s)
{
    if (!s->busy || s->copyout || s->command.verb == COMMAND_SHOW)
        return;
    if (s->reply.wait == ADMIN_WAIT_CLOSED && !count_again(s))
        console_answered(s, false);
    if (s->reply.wait == ADMIN_WAIT_DRAINED && admin_is_drained(s->control, s->reply.database) &&
        put_complete(s, s->command.verb))
        console_answered(s, true);
}

/* ---- all of them ----------------------------------------------------------------------------- */

bool console_answer(struct console *s, const struct command *cmd, bool is_query,
                    struct table_formats formats)
{
    struct err err;
    must(!s->busy && !s->copyout);
    s->command = *cmd;
    s->is_query = is_query;
    s->formats = formats;
    s->control->samples.console.query_count++;
    s->control->samples.console.xact_count++;
    switch (admin_run(s->control, cmd, s->is_admin, &s->reply, &err)) {
    case ADMIN_DONE:
        return put_complete(s, cmd->verb);
    case ADMIN_SHOWS:
        return show(s, s->reply.show);
    case ADMIN_FAKES:
        return show_fake(s);
    case ADMIN_WAITS:
        return wait_for_it(s);
    case ADMIN_FAILED:
        break;
    }
    console_put_error(s, "ERROR", &err);
    return false;
}
