/* TLS of both sides: one shared context for clients, one for PostgreSQL, and what is made of them.
 *
 * A context is immutable once made and shared by all loops (OpenSSL counts references and locks
 * what it keeps in it). RELOAD makes new ones from the files as they are then; connections keep the
 * one they began with. Clients resume by ticket (stateless) or from the context's own cache; for
 * connections to PostgreSQL a context keeps the last session of each host and port.
 *
 * sslmode means what PgBouncer's documentation says: only verify-ca and verify-full look at the
 * other side's certificate; disable, allow, prefer and require never do, whatever ca_file says. */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include <openssl/ssl.h>

#include "breaker/base.h"
#include "config/config.h"
#include "proxy/scram.h"

enum {
    TLS_NAME_BYTES = 80,      /* of tls_describe() */
    TLS_CLIENT_CACHE_N = 4096 /* sessions of clients that cannot do tickets */
};

/* The one protocol we speak over TLS, in ALPN's form: length, name. */
#define TLS_ALPN "\012postgresql"

/* For clients. *out is NULL when client_tls_sslmode is disable. */
MUST_USE bool tls_client_ctx(const struct config_globals *g, SSL_CTX **out, struct err *err);
/* For PostgreSQL. *out is NULL when server_tls_sslmode is disable. */
MUST_USE bool tls_server_ctx(const struct config_globals *g, SSL_CTX **out, struct err *err);

/* One connection of a client; for net_secure(). NULL: out of memory. */
MUST_USE SSL *tls_accept_new(SSL_CTX *ctx);
/* One connection to a server whose host is as the configuration has it: a name (sent as SNI, and
 * checked with verify-full), or an address (not sent, but checked). Resumes the last session of
 * this host and port if there is one. NULL: out of memory, or a host no certificate can have. */
MUST_USE SSL *tls_connect_new(SSL_CTX *ctx, const char *host, uint16_t port,
                              enum config_sslmode mode);

/* Why a handshake or any other call of OpenSSL failed: "what: reason", with the reason a
 * certificate was refused where that was it (ssl may be NULL). Empties the thread's queue of
 * errors. Returns false. */
bool tls_error(SSL *ssl, const char *what, struct err *err);
/* "TLSv1.3/TLS_AES_256_GCM_SHA384"; "" before the handshake is done. Returns at. */
const char *tls_describe(SSL *ssl, char at[TLS_NAME_BYTES]);
/* The client named our protocol in its handshake: a must when it did not ask with SSLRequest. */
MUST_USE bool tls_has_alpn(SSL *ssl);
/* Common name of the peer's verified certificate. False: none, or one with a NUL in it. */
MUST_USE bool tls_peer_name(SSL *ssl, char *at, size_t n);
/* tls-server-end-point (RFC 5929) of our certificate, when we are the TLS server, or the peer's.
 * False: no certificate, or one whose signature has no hash (Ed25519); then there is no
 * SCRAM-SHA-256-PLUS. */
MUST_USE bool tls_end_point(SSL *ssl, bool own_cert, struct scram_binding *out);

#endif
