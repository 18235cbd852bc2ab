/* Contexts out of the configuration. Every failure names the setting, the file and the cause. */
#include <errno.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <string.h>
#include <strings.h>

#include "proxy/tls.h"
#include "proxy/tls_resume.h"

/* One side's settings, so that both go through the same code. */
struct side {
    const char *prefix; /* of the settings' names, for messages: "client" or "server" */
    const char *key_file, *cert_file, *ca_file;
    const char *protocols, *ciphers, *tls13_ciphers, *ecdhcurve, *dheparams;
};

/* The strongest first does not matter here: OpenSSL sorts HIGH and MEDIUM by strength. 3DES goes
 * last, and what does not authenticate goes out. PgBouncer's older names for lists stay. */
#define CIPHERS_SECURE "HIGH:MEDIUM:+3DES:!aNULL"
#define CIPHERS_ALL "ALL:!aNULL:!eNULL"
static const struct {
    const char *name, *ciphers;
} cipher_lists[] = {
    {"", CIPHERS_SECURE},     {"default", CIPHERS_SECURE}, {"secure", CIPHERS_SECURE},
    {"fast", CIPHERS_SECURE}, {"normal", CIPHERS_SECURE},  {"compat", CIPHERS_ALL},
    {"legacy", CIPHERS_ALL},  {"insecure", CIPHERS_ALL},   {"all", CIPHERS_ALL},
};

enum { VERSION_1_2 = 2, VERSIONS_N = 4 }; /* index of 1.2 in the table; rows of it */
static const struct {
    const char *name;
    int version;
    uint64_t off;
} versions[VERSIONS_N] = {
    {"tlsv1.0", TLS1_VERSION, SSL_OP_NO_TLSv1},
    {"tlsv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {"tlsv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {"tlsv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

static bool is_any(const char *text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(text, words[i]) == 0)
            return true;
    return false;
}

/* "TLS setup failed: client_tls_key_file "/etc/x.key": No such file or directory" */
static bool setup_error(const struct side *side, const char *setting, const char *value,
                        struct err *err)
{
    struct err why;
    char what[320];

    (void)snprintf(what, sizeof(what), "%s_%s \"%s\"", side->prefix, setting, value);
    (void)tls_error(NULL, what, &why);
    return err_set(err, "F0000", "TLS setup failed: %s", why.text);
}

/* ---- protocols and ciphers --------------------------------------------------------------------
 */

/* One bit for each row of `versions` named in a comma separated list; false at an unknown word. */
static bool versions_named(const char *list, unsigned *out)
{
    *out = 0;
    while (*list) {
        size_t n = strcspn(list, ", \t"), i;
        if (n > 0) {
            for (i = 0; i < VERSIONS_N; i++)
                if (strlen(versions[i].name) == n && strncasecmp(list, versions[i].name, n) == 0)
                    break;
            if (i == VERSIONS_N)
                return false;
            *out |= BIT(i);
        }
        list += n;
        list += strspn(list, ", \t");
    }
    return *out != 0;
}

static bool set_protocols(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    static const char *const secure[] = {"", "default", "secure"}, *const all[] = {"all", "legacy"};
    unsigned wanted = 0;
    size_t lowest = 0, highest = VERSIONS_N - 1;

    if (is_any(side->protocols, secure, COUNT_OF(secure)))
        wanted = BIT(2) | BIT(3);
    else if (is_any(side->protocols, all, COUNT_OF(all)))
        wanted = BIT(VERSIONS_N) - 1;
    else if (!versions_named(side->protocols, &wanted))
        return err_set(err, "F0000",
                       "TLS setup failed: %s_tls_protocols: unknown protocol in \"%s\"",
                       side->prefix, side->protocols);
    while (!(wanted & BIT(lowest)))
        lowest++;
    while (!(wanted & BIT(highest)))
        highest--;
    for (size_t i = lowest; i < highest; i++)
        if (!(wanted & BIT(i)))
            SSL_CTX_set_options(ctx, versions[i].off);
    /* OpenSSL 3 allows what 1.0 and 1.1 sign with at level 0 only; who asks for them wants that. */
    if (lowest < VERSION_1_2)
        SSL_CTX_set_security_level(ctx, 0);
    if (SSL_CTX_set_min_proto_version(ctx, versions[lowest].version) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, versions[highest].version) != 1)
        return setup_error(side, "tls_protocols", side->protocols, err);
    return true;
}

static bool set_ciphers(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    const char *ciphers = side->ciphers;
    char list[1024];

    for (size_t i = 0; i < COUNT_OF(cipher_lists); i++)
        if (strcasecmp(side->ciphers, cipher_lists[i].name) == 0)
            ciphers = cipher_lists[i].ciphers;
    int n = snprintf(list, sizeof(list), "%s%s%s", ciphers,
                     strcasecmp(side->ecdhcurve, "none") == 0 ? ":!kECDHE" : "",
                     strcasecmp(side->dheparams, "none") == 0 ? ":!kDHE" : "");
    if (n < 0 || (size_t)n >= sizeof(list))
        return err_set(err, "F0000", "TLS setup failed: %s_tls_ciphers is too long", side->prefix);
    if (SSL_CTX_set_cipher_list(ctx, list) != 1)
        return setup_error(side, "tls_ciphers", side->ciphers, err);
    if (side->tls13_ciphers[0] && SSL_CTX_set_ciphersuites(ctx, side->tls13_ciphers) != 1) {
        ERR_clear_error();
        return err_set(
            err, "F0000",
            "TLS setup failed: %s_tls13_ciphers \"%s\": failed to set the TLSv1.3 cipher "
            "suites",
            side->prefix, side->tls13_ciphers);
    }
    return true;
}

/* Only whoever accepts chooses them. */
static bool set_key_exchange(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    static const char *const no_curve[] = {"", "auto", "none"}, *const adapted[] = {"", "auto"};

    if (!is_any(side->ecdhcurve, no_curve, COUNT_OF(no_curve)) &&
        SSL_CTX_set1_groups_list(ctx, (void *)(uintptr_t)side->ecdhcurve) != 1)
        return setup_error(side, "tls_ecdhcurve", side->ecdhcurve, err);
    if (is_any(side->dheparams, adapted, COUNT_OF(adapted)))
        SSL_CTX_set_dh_auto(ctx, 1); /* as strong as the key of the certificate */
    else if (strcasecmp(side->dheparams, "legacy") == 0)
        SSL_CTX_set_dh_auto(ctx, 2); /* 1024 bits */
    else if (strcasecmp(side->dheparams, "none") != 0)
        return err_set(err, "F0000",
                       "TLS setup failed: %s_tls_dheparams \"%s\" is none of auto, none, legacy",
                       side->prefix, side->dheparams);
    return true;
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* A key with a passphrase is an error, not a question on the terminal of a daemon. */
static int no_passphrase(char *at, int n, int writing, void *arg)
{
    (void)at, (void)n, (void)writing, (void)arg;
    return -1;
}

static bool load_identity(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ctx, side->cert_file) != 1)
        return setup_error(side, "tls_cert_file", side->cert_file, err);
    if (SSL_CTX_use_PrivateKey_file(ctx, side->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return setup_error(side, "tls_key_file", side->key_file, err);
    return true;
}

static bool load_ca(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    if (SSL_CTX_load_verify_file(ctx, side->ca_file) != 1)
        return setup_error(side, "tls_ca_file", side->ca_file, err);
    return true;
}

static SSL_CTX *make_context(const struct side *side, const SSL_METHOD *method, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx) {
        (void)tls_error(NULL, "TLS setup failed", err);
        return NULL;
    }
    /* PostgreSQL's messages carry their lengths, so a stream cut short is noticed without
     * close_notify, which many drivers do not send. */
    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_read_ahead(ctx, 1); /* one receive instead of two for each record */
    if (!set_protocols(ctx, side, err) || !set_ciphers(ctx, side, err)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* ---- the two contexts --------------------------------------------------------------------------
 */

/* A client that speaks of protocols must speak of ours; one that says nothing is an older libpq. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                       const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char ours[] = TLS_ALPN;
    unsigned char *chosen = NULL;

    (void)ssl, (void)arg;
    if (SSL_select_next_proto(&chosen, out_n, ours, sizeof(ours) - 1, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool verify_clients(SSL_CTX *ctx, const struct side *side, struct err *err)
{
    if (!side->ca_file[0])
        return err_set(err, "F0000",
                       "TLS setup failed: client_tls_sslmode verify-ca and verify-full need "
                       "client_tls_ca_file");
    if (!load_ca(ctx, side, err))
        return false;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(side->ca_file);
    if (!names)
        return setup_error(side, "tls_ca_file", side->ca_file, err);
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return true;
}

bool tls_client_ctx(const struct config_globals *g, SSL_CTX **out, struct err *err)
{
    const struct side side = {
        .prefix = "client",
        .key_file = g->client_tls_key_file,
        .cert_file = g->client_tls_cert_file,
        .ca_file = g->client_tls_ca_file,
        .protocols = g->client_tls_protocols,
        .ciphers = g->client_tls_ciphers,
        .tls13_ciphers = g->client_tls13_ciphers,
        .ecdhcurve = g->client_tls_ecdhcurve,
        .dheparams = g->client_tls_dheparams,
    };
    static const unsigned char session_context[] = "pgweir";

    *out = NULL;
    if (g->client_tls_sslmode == SSLMODE_DISABLE)
        return true;
    if (!side.key_file[0] || !side.cert_file[0])
        return err_set(err, "F0000",
                       "TLS setup failed: client_tls_sslmode needs client_tls_key_file and "
                       "client_tls_cert_file");
    SSL_CTX *ctx = make_context(&side, TLS_server_method(), err);
    if (!ctx)
        return false;
    if (!set_key_exchange(ctx, &side, err) || !load_identity(ctx, &side, err))
        goto broken;
    if (g->client_tls_sslmode >= SSLMODE_VERIFY_CA && !verify_clients(ctx, &side, err))
        goto broken;
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_cache_size(ctx, TLS_CLIENT_CACHE_N);
    SSL_CTX_set_num_tickets(ctx, 1); /* a driver that resumes at all resumes from the last one */
    *out = ctx;
    return true;
broken:
    SSL_CTX_free(ctx);
    return false;
}

/* Without a file of our own the system's store decides, as for servers of cloud providers. */
static bool load_server_ca(SSL_CTX *ctx, const struct side *side, enum config_sslmode mode,
                           struct err *err)
{
    if (mode < SSLMODE_VERIFY_CA)
        return true;
    if (side->ca_file[0])
        return load_ca(ctx, side, err);
    if (SSL_CTX_set_default_verify_paths(ctx) != 1)
        return setup_error(side, "tls_ca_file", "", err);
    return true;
}

bool tls_server_ctx(const struct config_globals *g, SSL_CTX **out, struct err *err)
{
    static const unsigned char alpn[] = TLS_ALPN;
    const struct side side = {
        .prefix = "server",
        .key_file = g->server_tls_key_file,
        .cert_file = g->server_tls_cert_file,
        .ca_file = g->server_tls_ca_file,
        .protocols = g->server_tls_protocols,
        .ciphers = g->server_tls_ciphers,
        .tls13_ciphers = g->server_tls13_ciphers,
        .ecdhcurve = "auto",
        .dheparams = "auto",
    };

    *out = NULL;
    if (g->server_tls_sslmode == SSLMODE_DISABLE)
        return true;
    if (!side.key_file[0] != !side.cert_file[0])
        return err_set(
            err, "F0000",
            "TLS setup failed: server_tls_key_file and server_tls_cert_file must both be "
            "set, or neither");
    SSL_CTX *ctx = make_context(&side, TLS_client_method(), err);
    if (!ctx)
        return false;
    if (!load_server_ca(ctx, &side, g->server_tls_sslmode, err))
        goto broken;
    if (side.cert_file[0] && !load_identity(ctx, &side, err))
        goto broken;
    /* 0 means success here, unlike everywhere else in OpenSSL */
    if (!tls_resume_init(ctx) || SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn) - 1) != 0) {
        (void)tls_error(NULL, "TLS setup failed", err);
        goto broken;
    }
    *out = ctx;
    return true;
broken:
    SSL_CTX_free(ctx);
    return false;
}
