/* The last TLS session of each server we connect to, so that the next connection takes a ticket
 * instead of a signature. It hangs on the context: a reloaded configuration starts from nothing,
 * and a session never outlives the rules it was verified under. Sessions are kept as bytes, so that
 * connections on different threads share no object, and one that breaks off spoils none. */
#ifndef PROXY_TLS_RESUME_H
#define PROXY_TLS_RESUME_H

#include <openssl/ssl.h>

#include "breaker/base.h"

enum {
    TLS_RESUME_BYTES_MAX = 8192, /* of a session: the server's certificate and a ticket */
    TLS_RESUME_MAX = 64,         /* servers; the one not used for longest makes room */
    TLS_RESUME_NAME_BYTES = 288, /* host, port and sslmode as text */
};

/* From now on connections of this context leave their sessions here. */
MUST_USE bool tls_resume_init(SSL_CTX *ctx);
/* Says whose connection this will be, and offers its last session. False: out of memory. */
MUST_USE bool tls_resume_set(SSL *ssl, const char *name);

#endif
