/* A client's way through a transaction: the one place that knows clients, servers and pools
 * together.
 *
 *   read -> next message -> class_of -> pool_acquire -> relay -> pool_note -> pool_release
 *
 * A session is its client; a server joins it for a transaction (pool_mode transaction), a
 * statement, or for good (session). What is done for others while one client is served (a grant to
 * another waiter, a server to open) goes through letters, so that nothing here recurses from one
 * client into the next.
 *
 * The life of a session: hello.c (until it is logged in), session.c (transactions), flow.c (its
 * bytes), grant.c (what the pool hands out), drain.c (servers whose client is done with them),
 * sweep.c (time), cancel.c. */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include "proxy/client.h"
#include "proxy/relay.h"
#include "proxy/route.h"
#include "proxy/server.h"

/* ---- session.c ----------------------------------------------------------------------------------
 */

/* The client has been authenticated and has its route: greets it, once its pool has had a server.
 */
void session_open(struct client *c);
/* The first message of a transaction is at the head of `in`: asks the pool for a server. */
void session_begin(struct client *c, struct view in);
/* Asks the pool of its route for a server; in state IDLE or WELCOME, or QUEUED and in no queue. */
void session_ask(struct client *c);
/* The pool's answer to a client that waited. s == NULL: it has to ask again. */
void session_granted(struct client *c, struct server *s);
void session_refused(struct client *c);
/* It is told now. */
void session_turn_away(struct client *c);
/* The server has taken (or refused) the settings of the client it prepares for. */
void session_prepared(struct client *c, struct server *s);
/* The server went away, or must: its client gets an error and stays, where that is possible. why
 * may be NULL. */
void session_server_lost(struct server *s, const struct err *why);
/* A cancel request for this client. True: one to its server is under way, and `done` (may be NULL)
 * will be opened when it is over. */
bool session_cancel(struct client *c, struct letter *done);
/* Ends a session; its server is drained or closed. The struct lives until the turn is over. */
void session_end(struct client *c, enum end_reason why);
/* The same, with the reason's text as a FATAL error. */
void session_end_with(struct client *c, enum end_reason why, const char *sqlstate);
/* The same for a client whose server has to be closed by our own decision, and is not its own any
 * more afterwards: told why where its stream stands between two messages. */
void session_terminate(struct client *c);
void session_tell(struct client *c, bool fatal, const struct err *err);
void session_notice(struct client *c, const char *text);
/* The class of a client of a route that calls itself this (may be NULL); and whose parallel job it
 * is of (waiter.group). */
uint8_t session_classify(struct client *c, const char *application_name);
/* Its transaction leaves its class for its rest, if the class says so. */
void session_demote(struct client *c, enum class_why why);
/* What was, or is about to be, sent to its server may demote it: flags of enum sql_flag that it has
 * not been looked at with. BEGIN has told nothing of what its transaction is for, and in session
 * mode no transaction but the first was looked at before it had its server. */
void session_look_again(struct client *c, uint32_t news);
/* In session mode, where the lease goes on: the transaction it was demoted for is over. */
void session_demotion_ends(struct client *c);
void session_tell_ready(struct client *c, uint8_t status);
void session_tell_refused(struct client *c);

/* ---- flow.c
 * --------------------------------------------------------------------------------------- */

/* What libevent calls: for a client that has logged in (or waits for a greeting), and for a server.
 */
void flow_on_client(evutil_socket_t fd, short what, void *arg);
void flow_on_server(evutil_socket_t fd, short what, void *arg);
/* Handles what was kept of the client's bytes; after a change of its state. */
void flow_go_on(struct client *c);

/* ---- grant.c
 * -------------------------------------------------------------------------------------- */

/* Carries out what a pool call handed back. */
void session_carry_out(struct hub *h, struct pool_actions *actions);
/* A server that is logging in can go on. */
void grant_login_goes_on(struct server *s, short what);
/* Its login takes too long. */
void grant_login_late(struct server *s);
/* A dead server's place is given back. Frees it at the end of the turn, or when the letter that is
 * on its way to it has come. */
void grant_closed(struct server *s, struct hub *h, bool leased_here);
/* Opens l in that loop: by mail, or later in this turn when it is h's own. */
void grant_send(struct hub *h, uint16_t worker, struct letter *l);
struct server *grant_server_of(struct pool_server *lease);
/* A client of that class gets it: what the kernel takes in of its result is bounded, if it may have
 * to be held back and was opened for one that may not. */
void grant_bound(struct server *s, uint8_t class_i);

/* ---- drain.c
 * -------------------------------------------------------------------------------------- */

/* The transaction is over, and settings of the session were changed in it: they are read back, so
 * that they follow their client to whatever server it gets next, and then undone. s stays with its
 * client meanwhile. */
void drain_settle(struct server *s, const struct pool_observation *obs);
/* A transaction is over: s is cleaned where its client left something behind, and given back. obs:
 * of its last statement, or NULL. */
void drain_release(struct server *s, const struct pool_observation *obs);
/* Its client went away, whatever it was doing. */
void drain_abandon(struct server *s);
/* All that was owed has been answered, or a cancel request has ended. */
void drain_step(struct server *s);
/* It waits for the data of a client that has gone. */
void drain_copy_in(struct server *s);
/* For the sweep: a server that should have been done by now. */
bool drain_late(const struct server *s, uint64_t now_us);

/* ---- cancel.c
 * ------------------------------------------------------------------------------------- */

/* Sends a cancel request for what runs on s. `done` (may be NULL) is opened in this loop when the
 * server has taken it, or it failed. */
void cancel_send(struct server *s, struct letter *done);
/* The same by our own decision: the next statement of its client waits until it is over. */
void cancel_cull(struct server *s);
/* A client came with a cancel key: finds whose it is, wherever that lives. c answers nothing and
 * ends when it is done. */
void cancel_serve(struct client *c, uint32_t pid, struct view key);
/* s is dead: requests under way for it end by themselves. */
void cancel_forget(struct hub *h, struct server *s);
void cancel_sweep(struct hub *h, uint64_t now_us);
void cancel_close_all(struct hub *h);

/* ---- hello.c
 * -------------------------------------------------------------------------------------- */

/* A new connection, from the control loop: chooses a loop and hands it over. */
void hello_accept(struct proxy *p, int fd, const struct listen_peer *peer);
/* What libevent says of a client that has not logged in. It may have moved to another loop
 * afterwards. */
void hello_on_client(struct client *c, short what);
/* A client that waited at the door may go on. */
void hello_go_on(struct client *c);
/* Frees what only the login needed. */
void hello_free(struct client *c);

/* ---- sweep.c
 * -------------------------------------------------------------------------------------- */

/* Every WORKER_TIMER_US in each loop: time-outs of its clients and servers. */
void sweep_hub(struct hub *h, uint64_t now_us);

/* ---- hubs.c
 * --------------------------------------------------------------------------------------- */

struct session_setup {
    const struct config *config;
    SSL_CTX *client_tls, *server_tls;
};
/* The hub of this loop, which takes its own references. NULL: out of memory. */
struct hub *session_hub_new(struct proxy *p, struct worker *w, const struct session_setup *setup);
void session_hub_free(struct hub **hub);
/* Hands each loop a new snapshot; takes its own references. Control loop. */
void session_reconfigure(struct proxy *p, const struct session_setup *next);
void session_kill_client(struct proxy *p, uint64_t id);
void session_kill_route(struct proxy *p, struct route *r);
/* Every loop ends its clients and servers and stops. */
void session_shutdown(struct proxy *p);

#endif
