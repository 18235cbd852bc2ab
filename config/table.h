/* uthash as this folder uses it.
 *
 * Every file that looks into a snapshot's tables must hash alike, so they all include this.
 * uthash's own function falls through its cases by comments, which clang does not accept. Whoever
 * adds to a table includes this before uthash.h: then out of memory leaves hh.tbl NULL instead of
 * ending the process, and is checked behind each HASH_ADD. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#ifndef UTHASH_H
#define HASH_NONFATAL_OOM 1
#endif
#include <uthash.h>

#undef HASH_FUNCTION
#define HASH_FUNCTION(key, bytes, hash) HASH_FNV(key, bytes, hash)

#endif
