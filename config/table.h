/* uthash as this folder uses it: included before anything that includes uthash.h.
 *
 * Every file that looks into a snapshot's tables must hash alike, so they all include this.
 * uthash's own function falls through its cases by comments, which clang does not accept. Out of
 * memory leaves hh.tbl NULL instead of ending the process: check it behind each HASH_ADD. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, bytes, hash) HASH_FNV(key, bytes, hash)
#include <uthash.h>

#endif
