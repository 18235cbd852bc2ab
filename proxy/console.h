/* The console: the database `pgweir` (alias `pgbouncer`), served by the control loop itself, so
 * that it answers while pools are full and workers drown. It speaks the simple and the extended
 * protocol. What its commands mean is in admin.h. */
#ifndef PROXY_CONSOLE_H
#define PROXY_CONSOLE_H

#include "breaker/base.h"

struct client;
struct control;
struct hub;

/* The client has logged in (AuthenticationOk was sent), lies in h->logins of the control loop with
 * its struct client_login, and its connection is attached to no loop. The console admits it (moves
 * it to h->clients, state IDLE, no route, login kept) or refuses it; from then on its bytes are
 * the console's, and it ends by session_end(). */
void console_open(struct hub *h, struct client *c);
/* A cancel request for a client of the console: what it waits for is given up; a PAUSE is undone.
 * For clients without a route in the control loop. */
void console_cancel(struct client *c);

/* Every tick: consoles whose command waits for something that has come about. */
void console_tick(struct control *k);
/* The process ends. */
void console_close_all(struct control *k);
/* KILL_CLIENT of a client of the console. False: it is none. */
bool console_kill(struct control *k, uint64_t client_id);

#endif
