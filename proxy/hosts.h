/* What is known of the hosts of databases that name several, and told to the loops when it changes.
 *
 * The control loop's. Each tick: the standing of each such host (pool/target) is made anew from
 * what was told of it (by the probe, by servers at their login, by scouts) and from its error
 * breaker; a change is logged, and counted for the loops (steer.h). A host that was the primary and
 * is a standby now keeps none of the servers that logged in to it before.
 *
 * Scouts. Where nobody has told lately what a host is (the probe has no password, or comes round
 * once a second while everybody waits for a new primary), a login of our own finds out, with the
 * user and the password of one of the routes that want to know. It serves nobody and is in no pool:
 * it asks its one question and leaves. */
#ifndef PROXY_HOSTS_H
#define PROXY_HOSTS_H

#include "proxy/control.h"

void hosts_tick(struct control *k, uint64_t now_us);
/* At the end, when no loop runs any more. */
void hosts_close(struct control *k);

#endif
