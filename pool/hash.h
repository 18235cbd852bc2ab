/* uthash with a hash whose text every compiler accepts under our warnings: its default falls
 * through a switch in a way clang cannot be told to allow. Keys here are short names. */
#ifndef POOL_HASH_H
#define POOL_HASH_H

#define HASH_FUNCTION(key, key_bytes, hash) HASH_FNV(key, key_bytes, hash)
#include <uthash.h>

#endif
