/* Which running statements are cancelled, when the breaker or the operator asks for it.
 *
 * Nothing is cancelled here: a victim is marked (pool_server.cancel_stmt_us), and the loop that
 * leases it sends the request, if that very statement still runs when it looks. A mark is never
 * taken back, and a statement is marked once.
 *
 * A statement is a victim if it does not stream (what streams is paced: that can be undone), if
 * its transaction has changed nothing, and if it belongs to no replication pool: a base backup does
 * not obey, and a stream of WAL is somebody's standby. */
#ifndef POOL_CULL_H
#define POOL_CULL_H

#include "pool/pool.h"

struct turn;

/* Marks the statement that runs on s. False: none runs, or it is marked already. Any thread that
 * holds the upstream's lock. */
bool cull_mark(struct pool_server *s, enum pool_cull why);
/* Obeys the breaker's cancel_n of this tick. */
void cull_tick(struct turn *t);
/* The operator's order: marks all that run of the class, streaming ones too. Returns how many. Any
 * thread; takes the upstream's lock. */
uint32_t cull_all(struct upstream *u, uint8_t class_i);

#endif
