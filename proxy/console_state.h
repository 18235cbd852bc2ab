/* A session of the console from the inside: for console*.c alone.
 *
 *   console.c            the connection: login, bytes in and out, the end
 *   console_messages.c   one message after another: simple and extended protocol
 *   console_answer.c     one command's answer, at once or later
 *
 * While `busy` a command waits for its answer and no further message is looked at; the Query it
 * came in stays at the head of `in`, script_at behind what was carried out of it. */
#ifndef PROXY_CONSOLE_STATE_H
#define PROXY_CONSOLE_STATE_H

#include "config/table.h" /* before all that includes uthash */

#include "proxy/admin.h"
#include "proxy/client.h"
#include "proxy/console.h"

enum {
    CONSOLE_MESSAGE_MAX = 64 << 10, /* bytes of one message */
    CONSOLE_IN_MAX = 256 << 10,     /* read and not handled; a driver pipelines less */
    CONSOLE_OUT_MAX = 64 << 20,     /* an answer: some 200,000 clients */
    CONSOLE_SEND_MAX = 256 << 10,   /* in one go */
    CONSOLE_NAMED_MAX = 64,         /* prepared statements and portals of one session */
};

/* A prepared statement or a portal. */
struct console_named {
    bool is_portal, empty; /* empty: no command in it */
    char name[COMMAND_NAME_MAX + 1];
    struct command command;
    struct table_formats formats; /* portals */
    struct console_named *next;
};

struct console {
    struct console *prev, *next; /* control's list */
    struct control *control;
    struct client *client; /* ends with the console, not before; keeps its struct client_login */
    bool is_admin;
    bool gone;
    struct letter burial;
    struct buf in, out;
    uint32_t script_at; /* in the Query at the head of `in` */
    bool skipping;      /* after an error of the extended protocol, until Sync */
    struct console_named *named;
    /* the command being answered */
    bool busy;
    bool is_query; /* of a Query: with RowDescription, and the script goes on after it */
    struct table_formats formats;
    struct command command;
    struct admin_reply reply;
    struct copyout *copyout; /* NULL: none under way */
    bool second_half;        /* SOCKETS: clients are done, servers follow */
    uint32_t found_n;        /* by what it looks for */
};

/* ---- console.c ------------------------------------------------------------------------------- */

/* Ends the session; the struct lives until the turn is over. */
void console_end(struct console *s, enum end_reason why);
/* A put into `out` that did not fit ends the session. Returns fits. */
bool console_fits(struct console *s, bool fits);
void console_put_error(struct console *s, const char *severity, const struct err *err);
/* The answer is complete: goes on with what was read meanwhile. */
void console_go_on(struct console *s);

/* ---- console_messages.c ---------------------------------------------------------------------- */

/* Handles the first message in `in`. False: it is not complete yet, or the session is busy. */
MUST_USE bool console_message(struct console *s);
/* The command that kept the session busy has been answered. */
void console_answered(struct console *s, bool good);
void console_forget_all(struct console *s);

/* ---- console_answer.c ------------------------------------------------------------------------ */

/* What the answer to a command will look like; NULL: it has no rows. */
const struct table *console_table_of(const struct command *cmd);
/* Carries out and answers a command. False: it failed, and the error has been put. When the answer
 * has to wait, `busy` is set, and console_answered() is called later. */
MUST_USE bool console_answer(struct console *s, const struct command *cmd, bool is_query,
                             struct table_formats formats);
/* For the tick: whether what it waits for has come about. */
void console_look_again(struct console *s);

#endif
