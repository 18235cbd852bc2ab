#include "proxy/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "proxy/tls_resume.h"

SSL *tls_accept_new(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}

static bool is_address(const char *host)
{
    uint8_t address[16];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* Whom the certificate must name. */
static bool check_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    return host[0] && host[0] != '/' && host[0] != '@' && SSL_set1_host(ssl, host) == 1;
}

SSL *tls_connect_new(SSL_CTX *ctx, const char *host, uint16_t port, enum config_sslmode mode)
{
    SSL *ssl = SSL_new(ctx);
    char name[TLS_RESUME_NAME_BYTES];

    if (!ssl)
        return NULL;
    SSL_set_connect_state(ssl);
    int n = snprintf(name, sizeof(name), "%s:%u/%d", host, port, (int)mode);
    if (n < 0 || (size_t)n >= sizeof(name))
        goto broken;
    if (mode >= SSLMODE_VERIFY_CA)
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    if (mode == SSLMODE_VERIFY_FULL && !check_host(ssl, host))
        goto broken;
    if (host[0] && host[0] != '/' && host[0] != '@' && !is_address(host) &&
        SSL_set_tlsext_host_name(ssl, (void *)(uintptr_t)host) != 1)
        goto broken;
    if (!tls_resume_set(ssl, name))
        goto broken;
    return ssl;
broken:
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

/* ---- what went wrong, what was agreed on -------------------------------------------------------
 */

/* The earliest entry is the cause; later ones say who passed it on. */
static const char *first_reason(char *at, size_t n)
{
    unsigned long code = ERR_get_error();
    const char *reason;

    if (code == 0)
        return "the other side closed the connection";
    if (ERR_SYSTEM_ERROR(code))
        return strerror_r(ERR_GET_REASON(code), at, n);
    reason = ERR_reason_error_string(code);
    if (reason)
        return reason;
    ERR_error_string_n(code, at, n);
    return at;
}

bool tls_error(SSL *ssl, const char *what, struct err *err)
{
    char text[256];
    const char *reason = first_reason(text, sizeof(text));
    bool verified = ssl && SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER;
    long refused = verified ? SSL_get_verify_result(ssl) : X509_V_OK;

    ERR_clear_error();
    if (refused != X509_V_OK)
        return err_set(err, "08006", "%s: %s (%s)", what, reason,
                       X509_verify_cert_error_string(refused));
    return err_set(err, "08006", "%s: %s", what, reason);
}

const char *tls_describe(SSL *ssl, char at[TLS_NAME_BYTES])
{
    at[0] = '\0';
    if (ssl && SSL_is_init_finished(ssl))
        (void)snprintf(at, TLS_NAME_BYTES, "%s/%s", SSL_get_version(ssl), SSL_get_cipher_name(ssl));
    return at;
}

bool tls_has_alpn(SSL *ssl)
{
    static const unsigned char ours[] = TLS_ALPN;
    const unsigned char *chosen;
    unsigned n;

    SSL_get0_alpn_selected(ssl, &chosen, &n);
    return n == ours[0] && memcmp(chosen, ours + 1, n) == 0;
}

/* ---- certificates ------------------------------------------------------------------------------
 */

static bool copy_common_name(X509 *cert, char *at, size_t n)
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    unsigned char *utf8 = NULL;
    int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    if (i < 0)
        return false;
    int bytes =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
    bool fits = bytes > 0 && (size_t)bytes < n && !memchr(utf8, 0, (size_t)bytes);
    if (fits) {
        memcpy(at, utf8, (size_t)bytes);
        at[bytes] = '\0';
    }
    OPENSSL_free(utf8);
    return fits;
}

bool tls_peer_name(SSL *ssl, char *at, size_t n)
{
    must(n > 0);
    at[0] = '\0';
    if (!(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) || SSL_get_verify_result(ssl) != X509_V_OK)
        return false;
    X509 *cert = SSL_get1_peer_certificate(ssl);
    if (!cert)
        return false;
    bool found = copy_common_name(cert, at, n);
    X509_free(cert);
    return found;
}

/* RFC 5929, 4.1: the hash the certificate is signed with, but SHA-256 in place of MD5 and SHA-1. */
static const EVP_MD *end_point_hash(X509 *cert)
{
    int hash_nid = NID_undef;

    if (X509_get_signature_info(cert, &hash_nid, NULL, NULL, NULL) != 1)
        return NULL;
    if (hash_nid == NID_md5 || hash_nid == NID_sha1)
        return EVP_sha256();
    return hash_nid == NID_undef ? NULL : EVP_get_digestbynid(hash_nid);
}

bool tls_end_point(SSL *ssl, bool own_cert, struct scram_binding *out)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    X509 *cert = own_cert ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl);
    const EVP_MD *md = cert ? end_point_hash(cert) : NULL;

    *out = (struct scram_binding){.bytes_n = 0};
    bool made = md && X509_digest(cert, md, hash, &n) == 1 && n <= sizeof(out->bytes);
    if (made) {
        memcpy(out->bytes, hash, n);
        out->bytes_n = n;
    }
    ERR_clear_error();
    return made;
}
