/* The console's language: one statement of it, taken apart. Pure; what it means is in admin.h.
 *
 *   SHOW what; SELECT what; SET key = value; SET key TO 'value'; SET BREAKER class
 * off|observe|enforce; PAUSE [db]; RESUME [db]; DISABLE db; ENABLE db; RECONNECT [db]; KILL [db];
 * KILL_CLIENT id; WAIT_CLOSE [db]; SUSPEND; RELOAD; SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS];
 *   TRIP class; RELEASE; CANCEL class; RESET BASELINE
 *
 * Words are bare, 'quoted' or "quoted", a quote doubled stands for itself; letter case of commands
 * does not matter; `--` and slash-star comments are blanks. Limits are PgBouncer's. */
#ifndef PROXY_COMMAND_H
#define PROXY_COMMAND_H

#include "breaker/base.h"

/* verb, its word, the tag of its answer, least and most arguments, usable without admin rights */
#define COMMAND_VERBS(X)                                                                           \
    X(SHOW, "show", "SHOW", 1, 1, true)                                                            \
    X(SET, "set", "SET", 2, 2, false)                                                              \
    X(SET_BREAKER, "set breaker", "SET", 2, 2, false)                                              \
    X(RELOAD, "reload", "RELOAD", 0, 0, false)                                                     \
    X(PAUSE, "pause", "PAUSE", 0, 1, false)                                                        \
    X(SUSPEND, "suspend", "SUSPEND", 0, 0, false)                                                  \
    X(RESUME, "resume", "RESUME", 0, 1, false)                                                     \
    X(DISABLE, "disable", "DISABLE", 1, 1, false)                                                  \
    X(ENABLE, "enable", "ENABLE", 1, 1, false)                                                     \
    X(RECONNECT, "reconnect", "RECONNECT", 0, 1, false)                                            \
    X(KILL, "kill", "KILL", 0, 1, false)                                                           \
    X(KILL_CLIENT, "kill_client", "KILL_CLIENT", 1, 1, false)                                      \
    X(WAIT_CLOSE, "wait_close", "WAIT_CLOSE", 0, 1, false)                                         \
    X(SHUTDOWN, "shutdown", "SHUTDOWN", 0, 1, false)                                               \
    X(TRIP, "trip", "TRIP", 1, 1, false)                                                           \
    X(RELEASE, "release", "RELEASE", 0, 0, false)                                                  \
    X(CANCEL, "cancel", "CANCEL", 1, 1, false)                                                     \
    X(RESET_BASELINE, "reset baseline", "RESET", 0, 0, false)
enum command_verb {
#define X(verb, word, tag, least, most, anybody) COMMAND_##verb,
    COMMAND_VERBS(X)
#undef X
        COMMAND_VERBS_N
};

enum {
    COMMAND_NAME_MAX = 63,   /* bytes of the first argument */
    COMMAND_VALUE_MAX = 255, /* bytes of the second */
};

struct command {
    enum command_verb verb;
    char name[COMMAND_NAME_MAX + 1]; /* what to show, key, database, class; "": none given */
    char value[COMMAND_VALUE_MAX + 1];
    size_t used_bytes; /* of the text: up to and with the `;` */
};

enum command_verdict {
    COMMAND_OK,
    COMMAND_EMPTY, /* nothing but blanks (used_bytes is set) */
    COMMAND_BAD,   /* err says what; nothing behind it should be carried out */
};

/* The first statement in n bytes of text. */
MUST_USE enum command_verdict command_next(const char *text, size_t n, struct command *out,
                                           struct err *err);
/* "SHOW", "KILL_CLIENT": the tag of its answer. */
const char *command_tag(enum command_verb verb);
/* Whether it takes no admin rights. */
bool command_for_anybody(enum command_verb verb);

#endif
