/* Refusals that are told later: how long is pool/retry.h's, here they wait.
 *
 * A held client stays in the state it was refused in (QUEUED, or WELCOME at login), its statement
 * kept, in a list of its loop, which the loop's coarse timer walks. It costs no server, no place in
 * a queue and no event. If its database is back before its time is up, it asks again instead: it
 * never hears of the refusal, and recovery does not wait for ten seconds of politeness.
 *
 * Not held: whoever has waited already (a deadline, no host that would do), whoever is told for
 * good (a shutdown, a job that cannot be), clients of protected classes within their budget, errors
 * of the client's own at login, and more than RETRY_HELD_MAX in the process. */
#ifndef PROXY_HOLD_H
#define PROXY_HOLD_H

#include "proxy/client.h"

/* c was refused (c->waiter.refusal). True: it is told later. */
MUST_USE bool hold_refusal(struct client *c);
/* It is held no more: it leaves, or has cancelled. Does nothing to one that is not held. */
void hold_forget(struct client *c);
void hold_sweep(struct hub *h, uint64_t now_us);

#endif
