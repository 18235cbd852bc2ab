/* What the console's commands do. PAUSE and its like are also what signals ask for. */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

#include "proxy/command.h"
#include "proxy/control.h"
#include "proxy/rows.h"

enum admin_verdict {
    ADMIN_DONE,   /* answer with the command's tag */
    ADMIN_SHOWS,  /* rows of reply->show */
    ADMIN_FAKES,  /* one row, one column: name and text of reply->fake */
    ADMIN_WAITS,  /* for reply->wait; then the tag */
    ADMIN_FAILED, /* err */
};

enum admin_wait {
    ADMIN_WAIT_DRAINED, /* PAUSE, SUSPEND: no server of reply->database ("": of any) is in use */
    ADMIN_WAIT_CLOSED,  /* WAIT_CLOSE: none is left that RECONNECT wanted to go */
    ADMIN_WAIT_FOUND,   /* KILL_CLIENT: looks for reply->client_id */
};

struct admin_reply {
    const struct rows_show *show;
    const char *fake_name, *fake_text;
    enum admin_wait wait;
    char database[COMMAND_NAME_MAX + 1];
    uint64_t client_id;
};

/* What SHOW of this name shows: ADMIN_SHOWS, ADMIN_FAKES, ADMIN_FAILED. */
MUST_USE enum admin_verdict admin_show(const char *name, struct admin_reply *reply,
                                       struct err *err);
/* Carries out one command. */
MUST_USE enum admin_verdict admin_run(struct control *k, const struct command *cmd, bool is_admin,
                                      struct admin_reply *reply, struct err *err);
/* ADMIN_WAIT_DRAINED: whether it is so. */
MUST_USE bool admin_is_drained(struct control *k, const char *database);
/* ^C on a PAUSE that waits. */
void admin_undo(struct control *k, const struct admin_reply *reply);

/* database "": all. */
MUST_USE bool admin_pause(struct control *k, const char *database, struct err *err);
MUST_USE bool admin_resume(struct control *k, const char *database, struct err *err);
/* RELOAD, SIGHUP. */
MUST_USE bool admin_reload(struct control *k, struct err *err);
/* Puts the pools of a database ("": all) into the state its gate demands. */
void admin_reconcile(struct control *k, const char *database);

#endif
