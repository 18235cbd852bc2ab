/* Hash of bytes that clients choose, under a secret of this process; and uthash with it.
 * Include this instead of <uthash.h>. */
#ifndef PROXY_HASH_H
#define PROXY_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

/* Polynomial over the prime 2^61 - 1 at a random point (Carter and Wegman, 1979): two texts of n
 * words collide with a chance of n in 2^61, whoever chose them. */
uint64_t hash_bytes(const void *at, size_t n);

#undef HASH_FUNCTION
#define HASH_FUNCTION(key, key_n, hash) ((hash) = (unsigned)hash_bytes(key, key_n))

#endif
