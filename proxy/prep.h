/* Prepared statements in transaction mode.
 *
 * A client's name for a statement is its own; a server's name for it is ours (pgweir_<number>).
 * Statements of equal text and types are one `struct prep_stmt`, known to the whole process, so
 * that a thousand clients of one application share one plan per server.
 *
 *      client --name--> prep_stmt <--number-- server (which of them it has; least recently used go)
 *
 * The table of statements has a lock of its own, touched by Parse and by the end of a client only;
 * Bind, Describe and Execute of the data path look at what their client and server have.
 * Limits: names per client, statements per server (max_prepared_statements), bytes per statement.
 */
#ifndef PROXY_PREP_H
#define PROXY_PREP_H

#include "breaker/base.h"
#include "proxy/sql.h"
#include "proxy/view.h"

enum {
    PREP_NAMES_MAX = 10000,         /* per client; more and its Parse is an error */
    PREP_PARSE_BYTES_MAX = 1 << 20, /* text and types of a named statement */
    PREP_NAME_BYTES = 32,           /* "pgweir_" and a number */
};

struct prep_stmt {
    /* read-only after it was made */
    uint64_t number;
    char name[PREP_NAME_BYTES]; /* on servers */
    uint64_t fingerprint;
    uint32_t flags; /* enum sql_flag */
    uint32_t rest_bytes;
    /* atomic */
    _Atomic uint32_t generation; /* servers that have an older one parse it anew */
    /* under the table's lock */
    uint32_t refs_n;
    struct prep_stmt *chain;
    uint64_t hash;
    uint8_t rest[]; /* text, NUL, types: the end of a Parse */
};

/* The statement of this text and types, made if new, with one reference. NULL: out of memory. */
struct prep_stmt *prep_intern(struct view rest, const struct sql_info *info);
struct prep_stmt *prep_ref(struct prep_stmt *s);
void prep_unref(struct prep_stmt **s);
/* What it was planned against has changed: every server parses it again before its next use. */
void prep_outdate(struct prep_stmt *s);
uint64_t prep_statements_n(void);

/* ---- a client's names: NULL until it has one ------------------------------------------------- */

struct prep_names;
/* NULL: no such name. */
struct prep_stmt *prep_names_find(const struct prep_names *names, const char *name, size_t name_n);
/* Takes its own reference. The serial of this registration; 0: too many, or out of memory. */
MUST_USE uint64_t prep_names_add(struct prep_names **names, const char *name, size_t name_n,
                                 struct prep_stmt *s);
void prep_names_remove(struct prep_names **names, const char *name, size_t name_n);
/* Undoes one registration: its Parse failed. */
void prep_names_forget(struct prep_names **names, uint64_t serial);
void prep_names_free(struct prep_names **names);
uint32_t prep_names_n(const struct prep_names *names);

/* ---- what a server has: NULL until it has one ------------------------------------------------ */

struct prep_cache;
enum prep_found { PREP_ABSENT, PREP_PRESENT, PREP_OUTDATED };
/* Also makes it the most recently used. */
enum prep_found prep_cache_find(struct prep_cache *cache, const struct prep_stmt *s);
/* s is on its way to the server, in its present generation. Takes its own reference. */
MUST_USE bool prep_cache_add(struct prep_cache **cache, struct prep_stmt *s);
/* By number, as the statement itself may be gone. Absent is fine. */
void prep_cache_remove(struct prep_cache **cache, uint64_t number);
/* The statement of this number if the server has it, else NULL. */
struct prep_stmt *prep_cache_stmt(struct prep_cache *cache, uint64_t number);
/* While the server has more than max_n: takes out the least recently used and writes its name. */
MUST_USE bool prep_cache_evict(struct prep_cache **cache, uint32_t max_n,
                               char name[PREP_NAME_BYTES]);
void prep_cache_free(struct prep_cache **cache);
uint32_t prep_cache_n(const struct prep_cache *cache);

#endif
