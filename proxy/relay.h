/* Bytes both ways between a client and the server it is linked to, and what each of them owes.
 *
 * Messages are looked at where they were received and sent on from there. Every request of the
 * client that will be answered adds an entry to server->owed; every answer takes one off. So it is
 * known at each moment whether the server is in sync, whose answer comes next, and where an answer
 * of our own (to a Parse the server has seen already) has its place.
 *
 * Errors in the extended protocol make the server ignore everything up to the next Sync: the owed
 * entries in between go, and what those requests had registered is undone. Statements that cannot
 * work (an unknown name, a name taken twice) are sent on so that the server itself refuses them:
 * its error is right under pipelining and inside a transaction, which one of ours would not be. */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include "proxy/client.h"
#include "proxy/server.h"

enum relay_verdict {
    RELAY_OK,         /* go on when there is more to read */
    RELAY_SLOW,       /* the other side does not take it: do not read until it has flushed */
    RELAY_DONE,       /* down: ReadyForQuery came, and nothing more is owed */
    RELAY_WAIT,       /* up: what follows must wait until the server owes nothing */
    RELAY_QUIT,       /* up: the client says goodbye */
    RELAY_BAD_CLIENT, /* it does not speak the protocol */
    RELAY_BAD_SERVER,
    RELAY_LOST_CLIENT,
    RELAY_LOST_SERVER,
    RELAY_MEMORY,
};

/* Handles what can be handled of `in` (the client's bytes), which then holds the rest: the
 * beginning of a message, or what has to wait. */
MUST_USE enum relay_verdict relay_up(struct client *c, struct view *in);
/* The same for bytes of the server; its client may be NULL (DRAINING, CLEANING). */
MUST_USE enum relay_verdict relay_down(struct server *s, struct view *in);

/* What the first message of a transaction tells of it, for its class: flags of enum sql_flag. */
uint32_t relay_peek(const struct client *c, struct view in);
/* The next message asks for something to be done: a statement begins, or a batch. */
bool relay_begins(const struct client *c, struct view in);
/* ... that may as well begin later: it ends no transaction. */
bool relay_can_wait(const struct client *c, struct view in);

#endif
