/* A directory of certificates and keys, made when a test begins and removed when it ends: for TLS
 * with real files and no tools.
 *
 *   ca, other_ca       two authorities
 *   server             by ca: db.example, *.wild.example, 127.0.0.1, ::1
 *   sha384, sha1       by ca, signed with these
 *   alice, mallory     clients, by ca and by other_ca
 *   ed25519            by itself, with a signature that has no hash
 *   locked.key         behind a passphrase
 *   garbage            no PEM at all
 */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

#include "breaker/base.h"

#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

static char certificates_dir[64];

/* The name of a file in our directory; a few may be in use at once. */
static const char *certificates_file(const char *name)
{
    static char paths[8][192];
    static unsigned next;
    char *path = paths[next++ % COUNT_OF(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", certificates_dir, name);
    return path;
}

struct identity {
    X509 *cert;
    EVP_PKEY *key;
};

struct recipe {
    const char *name; /* of the files, and the common name */
    const char *alt_names;
    const EVP_MD *hash; /* NULL: the key brings its own */
    bool is_ed25519, is_ca;
};

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static void save(const struct identity *id, const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s.crt", name);
    FILE *f = fopen(certificates_file(path), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, id->cert), 1);
    fclose(f);
    (void)snprintf(path, sizeof(path), "%s.key", name);
    f = fopen(certificates_file(path), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

/* A certificate and its key, signed by ca (NULL: by itself), in NAME.crt and NAME.key. */
static struct identity make(const struct recipe *r, const struct identity *ca)
{
    static long serial;
    struct identity id = {.cert = X509_new()};

    id.key = r->is_ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
    assert_non_null(id.key);
    X509_set_version(id.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), 3600);
    X509_set_pubkey(id.cert, id.key);
    X509_NAME *name = X509_get_subject_name(id.cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)r->name, -1, -1,
                               0);
    X509_set_issuer_name(id.cert, ca ? X509_get_subject_name(ca->cert) : name);
    if (r->is_ca)
        add_extension(id.cert, NID_basic_constraints, "critical,CA:TRUE");
    if (r->alt_names)
        add_extension(id.cert, NID_subject_alt_name, r->alt_names);
    assert_true(X509_sign(id.cert, ca ? ca->key : id.key, r->hash) > 0);
    save(&id, r->name);
    return id;
}

static void drop(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(certificates_file(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int certificates_make(void)
{
    (void)snprintf(certificates_dir, sizeof(certificates_dir), "/tmp/t_tls.XXXXXX");
    assert_non_null(mkdtemp(certificates_dir));
    struct identity ca =
        make(&(struct recipe){.name = "ca", .hash = EVP_sha256(), .is_ca = true}, NULL);
    struct identity other =
        make(&(struct recipe){.name = "other_ca", .hash = EVP_sha256(), .is_ca = true}, NULL);
    const struct recipe signed_by_ca[] = {
        {.name = "server",
         .hash = EVP_sha256(),
         .alt_names = "DNS:db.example,DNS:*.wild.example,IP:127.0.0.1,IP:::1"},
        {.name = "sha384", .hash = EVP_sha384()},
        {.name = "sha1", .hash = EVP_sha1()},
        {.name = "alice", .hash = EVP_sha256()},
    };
    for (size_t i = 0; i < COUNT_OF(signed_by_ca); i++) {
        struct identity id = make(&signed_by_ca[i], &ca);
        drop(&id);
    }
    struct identity mallory =
        make(&(struct recipe){.name = "mallory", .hash = EVP_sha256()}, &other);
    struct identity ed = make(&(struct recipe){.name = "ed25519", .is_ed25519 = true}, NULL);
    write_file("garbage", "this is no PEM file\n");
    FILE *f = fopen(certificates_file("locked.key"), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, ca.key, EVP_aes_128_cbc(),
                                          (const unsigned char *)"secret", 6, NULL, NULL),
                     1);
    fclose(f);
    drop(&ca);
    drop(&other);
    drop(&mallory);
    drop(&ed);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    return remove(path);
}

static int certificates_remove(void)
{
    return nftw(certificates_dir, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

#endif
