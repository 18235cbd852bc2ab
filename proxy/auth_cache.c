#include "proxy/auth_cache.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

enum {
    BUCKETS_N = 512, /* a power of two; with the places 2,048 users and 370 kB, touched as used */
    PLACES_N = 4,
};

struct entry {
    uint8_t key[SCRAM_KEY_BYTES]; /* all zero: free */
    struct scram_secret secret;
};

static struct {
    pthread_mutex_t lock;
    /* lock guards all below */
    struct bucket {
        struct entry entries[PLACES_N];
        uint8_t next_i; /* the place to be overwritten next */
    } buckets[BUCKETS_N];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool add(EVP_MD_CTX *hash, const void *at, size_t n)
{
    uint32_t length = (uint32_t)n; /* so that no two questions have the same bytes */

    return EVP_DigestUpdate(hash, &length, sizeof(length)) == 1 &&
           EVP_DigestUpdate(hash, at, n) == 1;
}

static bool make_key(const struct auth_cache_ask *ask, const struct scram_secret *stored,
                     uint8_t key[SCRAM_KEY_BYTES])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok;

    if (!hash)
        return false;
    ok = EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
         add(hash, ask->process_key, SCRAM_KEY_BYTES) &&
         add(hash, &ask->iterations, sizeof(ask->iterations)) &&
         add(hash, ask->user, strlen(ask->user)) &&
         add(hash, ask->password, strlen(ask->password)) &&
         (!stored || (add(hash, stored->salt, stored->salt_n) &&
                      add(hash, stored->stored_key, SCRAM_KEY_BYTES))) &&
         EVP_DigestFinal_ex(hash, key, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return ok;
}

static struct bucket *bucket_of(const uint8_t key[SCRAM_KEY_BYTES])
{
    uint32_t i;

    memcpy(&i, key, sizeof(i));
    return &cache.buckets[i & (BUCKETS_N - 1)];
}

static bool find(const uint8_t key[SCRAM_KEY_BYTES], struct scram_secret *out)
{
    struct bucket *bucket = bucket_of(key);
    bool found = false;

    pthread_mutex_lock(&cache.lock);
    for (size_t i = 0; i < PLACES_N && !found; i++) {
        found = memcmp(bucket->entries[i].key, key, SCRAM_KEY_BYTES) == 0;
        if (found)
            *out = bucket->entries[i].secret;
    }
    pthread_mutex_unlock(&cache.lock);
    return found;
}

static void keep(const uint8_t key[SCRAM_KEY_BYTES], const struct scram_secret *secret)
{
    struct bucket *bucket = bucket_of(key);

    pthread_mutex_lock(&cache.lock);
    struct entry *entry = &bucket->entries[bucket->next_i];
    bucket->next_i = (uint8_t)((bucket->next_i + 1) % PLACES_N);
    memcpy(entry->key, key, SCRAM_KEY_BYTES);
    entry->secret = *secret;
    pthread_mutex_unlock(&cache.lock);
}

bool auth_cache_secret(const struct auth_cache_ask *ask, struct scram_secret *out)
{
    uint8_t key[SCRAM_KEY_BYTES];
    struct scram_secret mock;

    if (!make_key(ask, NULL, key))
        return false;
    if (find(key, out))
        return true;
    if (!scram_secret_mock(ask->process_key, ask->user, ask->iterations, &mock) ||
        !scram_secret_make(ask->password, view_of(mock.salt, mock.salt_n), ask->iterations, out))
        return false;
    keep(key, out);
    return true;
}

bool auth_cache_fits(const struct auth_cache_ask *ask, const struct scram_secret *stored)
{
    uint8_t key[SCRAM_KEY_BYTES];
    struct scram_secret made;

    must(stored->iterations == ask->iterations);
    if (!make_key(ask, stored, key))
        return false;
    if (find(key, &made))
        return true;
    if (!scram_secret_make(ask->password, view_of(stored->salt, stored->salt_n), stored->iterations,
                           &made) ||
        CRYPTO_memcmp(made.stored_key, stored->stored_key, SCRAM_KEY_BYTES) != 0)
        return false;
    keep(key, &made);
    return true;
}
