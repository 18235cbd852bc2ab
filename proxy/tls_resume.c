#include "proxy/tls_resume.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    char name[TLS_RESUME_NAME_BYTES]; /* "": free */
    uint8_t *der;                     /* the session; the slot owns it */
    size_t der_n;
    uint64_t used_at; /* of the store's clock */
};

/* Belongs to its context. */
struct store {
    pthread_mutex_t lock;
    /* lock guards all below */
    uint64_t clock; /* counts uses */
    struct slot slots[TLS_RESUME_MAX];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int store_index = -1, name_index = -1; /* read-only once made */

static void free_name(void *parent, void *at, CRYPTO_EX_DATA *all, int index, long argl, void *argp)
{
    (void)parent, (void)all, (void)index, (void)argl, (void)argp;
    free(at);
}

static void free_store(void *parent, void *at, CRYPTO_EX_DATA *all, int index, long argl,
                       void *argp)
{
    struct store *store = at;

    (void)parent, (void)all, (void)index, (void)argl, (void)argp;
    if (!store)
        return;
    for (size_t i = 0; i < TLS_RESUME_MAX; i++)
        OPENSSL_clear_free(store->slots[i].der, store->slots[i].der_n);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static void make_indexes(void)
{
    store_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_store);
    name_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_name);
}

/* The slot of this name, or the one to be given to it. */
static struct slot *slot_for_locked(struct store *store, const char *name, bool *found)
{
    struct slot *oldest = &store->slots[0];

    *found = true;
    for (size_t i = 0; i < TLS_RESUME_MAX; i++) {
        struct slot *slot = &store->slots[i];
        if (strcmp(slot->name, name) == 0)
            return slot;
        if (slot->used_at < oldest->used_at)
            oldest = slot;
    }
    *found = false;
    return oldest;
}

/* OpenSSL's callback, on the thread of the connection. 0: we took no reference. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct store *store = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), store_index);
    const char *name = SSL_get_ex_data(ssl, name_index);
    uint8_t *der = NULL, *former;
    size_t former_n;
    bool found;

    if (!store || !name || !SSL_SESSION_is_resumable(session))
        return 0;
    int der_n = i2d_SSL_SESSION(session, &der);
    if (der_n <= 0 || der_n > TLS_RESUME_BYTES_MAX) {
        OPENSSL_free(der);
        return 0;
    }
    pthread_mutex_lock(&store->lock);
    struct slot *slot = slot_for_locked(store, name, &found);
    former = slot->der;
    former_n = slot->der_n;
    slot->der = der;
    slot->der_n = (size_t)der_n;
    slot->used_at = ++store->clock;
    if (!found)
        memcpy(slot->name, name, strlen(name) + 1);
    pthread_mutex_unlock(&store->lock);
    OPENSSL_clear_free(former, former_n);
    return 0;
}

bool tls_resume_init(SSL_CTX *ctx)
{
    struct store *store = calloc(1, sizeof(*store));

    pthread_once(&once, make_indexes);
    if (!store || store_index < 0 || name_index < 0)
        goto no_store;
    pthread_mutex_init(&store->lock, NULL);
    if (SSL_CTX_set_ex_data(ctx, store_index, store) != 1)
        goto no_data;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    return true;
no_data:
    pthread_mutex_destroy(&store->lock);
no_store:
    free(store);
    return false;
}

/* Copies the session of this name to der, which has room for any; its length, 0: none. */
static size_t copy_session(struct store *store, const char *name, uint8_t *der)
{
    size_t n = 0;
    bool found;

    pthread_mutex_lock(&store->lock);
    struct slot *slot = slot_for_locked(store, name, &found);
    if (found) {
        slot->used_at = ++store->clock;
        n = slot->der_n;
        memcpy(der, slot->der, n);
    }
    pthread_mutex_unlock(&store->lock);
    return n;
}

bool tls_resume_set(SSL *ssl, const char *name)
{
    struct store *store = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), store_index);
    char *own_name = strdup(name);
    uint8_t der[TLS_RESUME_BYTES_MAX];
    const uint8_t *at = der;

    must(store);
    must(name[0] && strlen(name) < TLS_RESUME_NAME_BYTES);
    if (!own_name || SSL_set_ex_data(ssl, name_index, own_name) != 1) {
        free(own_name);
        return false;
    }
    size_t n = copy_session(store, name, der);
    SSL_SESSION *session = n > 0 ? d2i_SSL_SESSION(NULL, &at, (long)n) : NULL;
    /* A session that does not fit any more only means a full handshake. */
    if (session)
        (void)SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
    OPENSSL_cleanse(der, n);
    return true;
}
