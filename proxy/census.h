/* How many clients there are of each database and of each user, over all loops.
 *
 * For max_db_client_connections and max_user_client_connections, and for SHOW. Counted from login
 * to end; one lock, touched at those two moments only. */
#ifndef PROXY_CENSUS_H
#define PROXY_CENSUS_H

#include "breaker/base.h"

enum census_scope { CENSUS_DATABASE, CENSUS_USER };

struct census_entry; /* lives while somebody is counted under it */

/* One more. limit_n 0: none. NULL: the limit is reached (or memory is short). */
MUST_USE struct census_entry *census_enter(enum census_scope scope, const char *name,
                                           uint32_t limit_n);
/* One less; clears the pointer. NULL is fine. */
void census_leave(struct census_entry **e);
const char *census_name(const struct census_entry *e);
uint32_t census_n(enum census_scope scope, const char *name);

#endif
