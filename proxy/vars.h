/* The settings of a session, as one interned immutable value.
 *
 * Every client wants a set of settings (what PostgreSQL reports to it, and what its startup packet
 * asked for), every server has one. Equal sets are one object, so that "does this server suit this
 * client?" is one comparison of pointers on the data path, and 10,000 clients of one application
 * cost one set. Sets are found by content in a table under a lock of its own; that is touched at
 * login, at the end, and when a reported setting changes. References are counted because sets are
 * shared by loops and have no other owner. */
#ifndef PROXY_VARS_H
#define PROXY_VARS_H

#include "breaker/base.h"

struct buf;
struct vars;

enum {
    VARS_BYTES_MAX = 8192, /* of one set; a startup packet is at most 10,000 bytes */
    VARS_TRACKED_MAX = 16, /* settings PostgreSQL reports and we follow */
};

/* Names the settings followed by their reports besides the fixed five; comma separated, at boot. */
void vars_track(const char *extra_list);
/* The name as PostgreSQL spells it when the setting is tracked (letter case of `key` is free), or
 * NULL. */
const char *vars_tracked(const char *key);

/* The empty set. */
const struct vars *vars_none(void);
const struct vars *vars_ref(const struct vars *v);
/* Clears the pointer; NULL is fine. */
void vars_unref(const struct vars **v);
/* Replaces *v by the set in which key has this value; NULL takes key out. False: out of memory, or
 * too large a set; *v is as it was. */
MUST_USE bool vars_set(const struct vars **v, const char *key, const char *value);
/* Keeps the tracked settings only: what RESET ALL leaves of a server's. */
MUST_USE bool vars_keep_tracked(const struct vars **v);
/* Value, or NULL. It lives as long as the set. */
const char *vars_get(const struct vars *v, const char *key);
/* Appends the SQL that turns `has` into `wants`: one SELECT of set_config() calls, and RESETs.
 * Tracked settings that `wants` does not name stay as they are. False: does not fit. */
MUST_USE bool vars_put_sql(const struct vars *has, const struct vars *wants, struct buf *sql);
/* Whether vars_put_sql() would append anything. */
bool vars_differ(const struct vars *has, const struct vars *wants);
/* Walks the pairs: start with *at = 0. */
bool vars_next(const struct vars *v, uint32_t *at, const char **key, const char **value);

#endif
