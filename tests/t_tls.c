/* TLS with real certificates, made here, over socket pairs: who is let in by which sslmode, what is
 * resumed, what both ends bind SCRAM to, and what an operator reads when a file is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/tls.c"
#include "proxy/tls_ctx.c"
#include "proxy/tls_resume.c"
#include "tests/certificates.h"

/* ---- two ends ----------------------------------------------------------------------------- */

/* PgBouncer's defaults, TLS on. */
static struct config_globals settings(void)
{
    static char key[192], cert[192];

    (void)snprintf(key, sizeof(key), "%s", certificates_file("server.key"));
    (void)snprintf(cert, sizeof(cert), "%s", certificates_file("server.crt"));
    return (struct config_globals){
        .client_tls_sslmode = SSLMODE_REQUIRE,
        .client_tls_key_file = key,
        .client_tls_cert_file = cert,
        .client_tls_ca_file = "",
        .client_tls_protocols = "secure",
        .client_tls_ciphers = "default",
        .client_tls13_ciphers = "",
        .client_tls_ecdhcurve = "auto",
        .client_tls_dheparams = "auto",
        .server_tls_sslmode = SSLMODE_REQUIRE,
        .server_tls_ca_file = "",
        .server_tls_key_file = "",
        .server_tls_cert_file = "",
        .server_tls_protocols = "secure",
        .server_tls_ciphers = "default",
        .server_tls13_ciphers = "",
    };
}

static SSL_CTX *client_ctx(const struct config_globals *g)
{
    SSL_CTX *ctx;
    struct err err = {.text = ""};

    if (!tls_client_ctx(g, &ctx, &err))
        fail_msg("%s", err.text);
    return ctx;
}

static SSL_CTX *server_ctx(const struct config_globals *g)
{
    SSL_CTX *ctx;
    struct err err = {.text = ""};

    if (!tls_server_ctx(g, &ctx, &err))
        fail_msg("%s", err.text);
    return ctx;
}

/* `accept` is what our client sees of us, `connect` what we see of PostgreSQL: here they talk to
 * each other. */
struct pair {
    SSL *accept, *connect;
    bool accepted, connected;
    struct err accept_err, connect_err;
};

/* One try of one end. False: it is through, or has failed. */
static bool shake(SSL *ssl, bool *done, struct err *err)
{
    int n;

    if (*done || err->text[0])
        return false;
    ERR_clear_error();
    n = SSL_do_handshake(ssl);
    if (n == 1) {
        *done = true;
        return false;
    }
    int why = SSL_get_error(ssl, n);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return true;
    assert_false(tls_error(ssl, "TLS handshake failed", err));
    (void)shutdown(SSL_get_fd(ssl), SHUT_WR);
    return false;
}

static void pair_up(struct pair *p, SSL *accept, SSL *connect)
{
    int fds[2];
    uint8_t byte;

    *p = (struct pair){.accept = accept, .connect = connect};
    assert_non_null(accept);
    assert_non_null(connect);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    SSL_set_fd(accept, fds[0]);
    SSL_set_fd(connect, fds[1]);
    bool going = true;
    for (int i = 0; going; i++) {
        assert_true(i < 100);
        going = shake(connect, &p->connected, &p->connect_err);
        going |= shake(accept, &p->accepted, &p->accept_err);
    }
    /* In TLS 1.3 a refused client, and a ticket, come with the first read. */
    if (p->connected && SSL_read(connect, &byte, 1) <= 0 &&
        SSL_get_error(connect, -1) != SSL_ERROR_WANT_READ)
        p->connected = false;
}

static void pair_close(struct pair *p)
{
    int accept_fd = SSL_get_fd(p->accept), connect_fd = SSL_get_fd(p->connect);

    /* The accepting side forgets the session of a client that ends without a goodbye. Ours may
     * break off: a session we keep survives that. */
    ERR_clear_error();
    if (p->accepted)
        (void)SSL_shutdown(p->accept);
    SSL_free(p->accept);
    SSL_free(p->connect);
    close(accept_fd);
    close(connect_fd);
}

static void modes_that_disable_make_no_context(void **state)
{
    struct config_globals g = settings();
    SSL_CTX *ctx = (SSL_CTX *)1;
    struct err err;

    (void)state;
    g.client_tls_sslmode = g.server_tls_sslmode = SSLMODE_DISABLE;
    g.client_tls_key_file = g.server_tls_ca_file = "/nowhere"; /* not even looked at */
    assert_true(tls_client_ctx(&g, &ctx, &err));
    assert_null(ctx);
    ctx = (SSL_CTX *)1;
    assert_true(tls_server_ctx(&g, &ctx, &err));
    assert_null(ctx);
}

static void both_ends_agree(void **state)
{
    struct config_globals g = settings();
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
    struct pair p;
    char name[TLS_NAME_BYTES];

    (void)state;
    SSL *early = tls_accept_new(client);
    assert_string_equal(tls_describe(early, name), "");
    pair_up(&p, early, tls_connect_new(server, "db.example", 5432, SSLMODE_REQUIRE));
    assert_true(p.accepted && p.connected);
    assert_string_equal(tls_describe(p.accept, name), "TLSv1.3/TLS_AES_256_GCM_SHA384");
    assert_string_equal(tls_describe(p.connect, name), "TLSv1.3/TLS_AES_256_GCM_SHA384");
    assert_true(tls_has_alpn(p.accept));
    assert_string_equal(SSL_get_servername(p.accept, TLSEXT_NAMETYPE_host_name), "db.example");
    assert_false(tls_peer_name(p.accept, name, sizeof(name)));
    pair_close(&p);
    pair_up(&p, tls_accept_new(client),
            tls_connect_new(server, "127.0.0.1", 5432, SSLMODE_REQUIRE));
    assert_true(p.accepted && p.connected);
    assert_null(
        SSL_get_servername(p.accept, TLSEXT_NAMETYPE_host_name)); /* RFC 6066: no addresses */
    pair_close(&p);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

static void an_end_without_goodbye_is_an_end(void **state)
{
    struct config_globals g = settings();
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
    struct pair p;
    uint8_t byte;

    (void)state;
    pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
    (void)shutdown(SSL_get_fd(p.connect), SHUT_WR);
    int n = SSL_read(p.accept, &byte, 1);
    assert_int_equal(n, 0);
    assert_int_equal(SSL_get_error(p.accept, n), SSL_ERROR_ZERO_RETURN);
    pair_close(&p);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

static void protocols_are_those_that_are_named(void **state)
{
    static const struct {
        const char *accept, *connect, *agreed; /* NULL: not */
    } cases[] = {
        {"secure", "tlsv1.2", "TLSv1.2"},
        {"tlsv1.3", "secure", "TLSv1.3"},
        {"tlsv1.2, tlsv1.3", "TLSv1.3", "TLSv1.3"},
        {"tlsv1.3", "tlsv1.2", NULL},
        {"all", "tlsv1.1", "TLSv1.1"},
        {"legacy", "tlsv1.0", "TLSv1"},
        {"tlsv1.1,tlsv1.3", "tlsv1.1,tlsv1.2", "TLSv1.1"}, /* a hole */
        {"secure", "tlsv1.1", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_globals g = settings();
        struct pair p;
        g.client_tls_protocols = cases[i].accept;
        g.server_tls_protocols = cases[i].connect;
        SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
        pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
        assert_int_equal(p.accepted && p.connected, cases[i].agreed != NULL);
        if (cases[i].agreed)
            assert_string_equal(SSL_get_version(p.accept), cases[i].agreed);
        pair_close(&p);
        SSL_CTX_free(client);
        SSL_CTX_free(server);
    }
}

static void ciphers_and_curves_are_obeyed(void **state)
{
    struct config_globals g = settings();
    struct pair p;
    char name[TLS_NAME_BYTES];

    (void)state;
    g.client_tls13_ciphers = "TLS_CHACHA20_POLY1305_SHA256";
    g.client_tls_ecdhcurve = "P-384";
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
    pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
    assert_string_equal(tls_describe(p.connect, name), "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256");
    assert_int_equal(SSL_get_negotiated_group(p.accept), NID_secp384r1);
    pair_close(&p);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    g = settings();
    g.client_tls_protocols = "tlsv1.2";
    g.client_tls_ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    client = client_ctx(&g), server = server_ctx(&g);
    pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
    assert_string_equal(tls_describe(p.connect, name), "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256");
    pair_close(&p);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

/* ---- who is who --------------------------------------------------------------------------- */

static void servers_are_verified_as_sslmode_says(void **state)
{
    static const struct {
        enum config_sslmode mode;
        const char *ca, *host;
        const char *refused; /* NULL: let in */
    } cases[] = {
        {SSLMODE_PREFER, "other_ca.crt", "wrong.example", NULL},
        {SSLMODE_REQUIRE, "other_ca.crt", "wrong.example", NULL},
        {SSLMODE_VERIFY_CA, "ca.crt", "wrong.example", NULL},
        {SSLMODE_VERIFY_CA, "other_ca.crt", "db.example", "unable to get local issuer certificate"},
        {SSLMODE_VERIFY_CA, NULL, "db.example", "unable to get local issuer certificate"},
        {SSLMODE_VERIFY_FULL, "ca.crt", "db.example", NULL},
        {SSLMODE_VERIFY_FULL, "ca.crt", "DB.Example", NULL},
        {SSLMODE_VERIFY_FULL, "ca.crt", "a.wild.example", NULL},
        {SSLMODE_VERIFY_FULL, "ca.crt", "a.b.wild.example", "hostname mismatch"},
        {SSLMODE_VERIFY_FULL, "ca.crt", "wrong.example", "hostname mismatch"},
        {SSLMODE_VERIFY_FULL, "ca.crt", "server", "hostname mismatch"}, /* names count, not CN */
        {SSLMODE_VERIFY_FULL, "ca.crt", "127.0.0.1", NULL},
        {SSLMODE_VERIFY_FULL, "ca.crt", "::1", NULL},
        {SSLMODE_VERIFY_FULL, "ca.crt", "127.0.0.2", "IP address mismatch"},
    };
    struct config_globals g = settings();
    SSL_CTX *client = client_ctx(&g);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct pair p;
        g.server_tls_sslmode = cases[i].mode;
        g.server_tls_ca_file = cases[i].ca ? certificates_file(cases[i].ca) : "";
        SSL_CTX *server = server_ctx(&g);
        pair_up(&p, tls_accept_new(client),
                tls_connect_new(server, cases[i].host, 5432, cases[i].mode));
        assert_int_equal(p.connected, cases[i].refused == NULL);
        if (cases[i].refused) {
            assert_non_null(strstr(p.connect_err.text, "certificate verify failed"));
            assert_non_null(strstr(p.connect_err.text, cases[i].refused));
        }
        pair_close(&p);
        SSL_CTX_free(server);
    }
    SSL_CTX_free(client);
}

static void no_certificate_is_for_a_unix_socket(void **state)
{
    static const char *const hosts[] = {"", "/var/run/postgresql", "@abstract"};
    struct config_globals g = settings();
    char endless[400];

    (void)state;
    g.server_tls_sslmode = SSLMODE_VERIFY_FULL;
    g.server_tls_ca_file = certificates_file("ca.crt");
    SSL_CTX *server = server_ctx(&g);
    for (size_t i = 0; i < COUNT_OF(hosts); i++)
        assert_null(tls_connect_new(server, hosts[i], 5432, SSLMODE_VERIFY_FULL));
    memset(endless, 'x', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    assert_null(tls_connect_new(server, endless, 5432, SSLMODE_REQUIRE));
    SSL_CTX_free(server);
}

static void clients_are_verified_as_sslmode_says(void **state)
{
    static const struct {
        enum config_sslmode mode;
        bool ok;
        const char *cert;
        const char *name; /* as we know them afterwards */
    } cases[] = {
        {SSLMODE_REQUIRE, true, NULL, NULL},
        {SSLMODE_REQUIRE, true, "mallory", NULL}, /* not even asked for */
        {SSLMODE_VERIFY_CA, false, NULL, NULL},
        {SSLMODE_VERIFY_CA, false, "mallory", NULL},
        {SSLMODE_VERIFY_CA, true, "alice", "alice"},
        {SSLMODE_VERIFY_FULL, true, "alice", "alice"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_globals g = settings();
        struct pair p;
        char key[64], cert[64], name[64];
        g.client_tls_sslmode = cases[i].mode;
        g.client_tls_ca_file = certificates_file("ca.crt");
        if (cases[i].cert) {
            (void)snprintf(key, sizeof(key), "%s.key", cases[i].cert);
            (void)snprintf(cert, sizeof(cert), "%s.crt", cases[i].cert);
            g.server_tls_key_file = certificates_file(key);
            g.server_tls_cert_file = certificates_file(cert);
        }
        SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
        pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
        assert_int_equal(p.accepted && p.connected, cases[i].ok);
        if (p.accepted)
            assert_int_equal(tls_peer_name(p.accept, name, sizeof(name)), cases[i].name != NULL);
        if (cases[i].name) {
            assert_string_equal(name, cases[i].name);
            assert_false(tls_peer_name(p.accept, name, strlen(cases[i].name))); /* no room */
        }
        pair_close(&p);
        SSL_CTX_free(client);
        SSL_CTX_free(server);
    }
}

static void other_protocols_over_tls_are_refused(void **state)
{
    static const unsigned char h2[] = "\x02h2";
    struct config_globals g = settings();
    SSL_CTX *client = client_ctx(&g), *foreign = SSL_CTX_new(TLS_client_method());
    struct pair p;

    (void)state;
    SSL *silent = SSL_new(foreign), *http = SSL_new(foreign);
    SSL_set_connect_state(silent);
    SSL_set_connect_state(http);
    pair_up(&p, tls_accept_new(client), silent);
    assert_true(p.accepted && p.connected);
    assert_false(tls_has_alpn(p.accept));
    pair_close(&p);
    assert_int_equal(SSL_set_alpn_protos(http, h2, sizeof(h2) - 1), 0);
    pair_up(&p, tls_accept_new(client), http);
    assert_false(p.accepted || p.connected);
    pair_close(&p);
    SSL_CTX_free(client);
    SSL_CTX_free(foreign);
}

/* ---- sessions ----------------------------------------------------------------------------- */

/* Connects once; whether a session was resumed. */
static bool resumes(SSL_CTX *client, SSL_CTX *server, const char *host, uint16_t port)
{
    struct pair p;

    pair_up(&p, tls_accept_new(client), tls_connect_new(server, host, port, SSLMODE_REQUIRE));
    assert_true(p.accepted && p.connected);
    bool reused = SSL_session_reused(p.connect);
    assert_int_equal(SSL_session_reused(p.accept), reused);
    struct scram_binding ours, theirs; /* resumed or not, the certificate is known */
    assert_true(tls_end_point(p.accept, true, &ours));
    assert_true(tls_end_point(p.connect, false, &theirs));
    assert_memory_equal(&ours, &theirs, sizeof(ours));
    pair_close(&p);
    return reused;
}

static void a_server_is_resumed_and_no_other(void **state)
{
    static const char *const protocols[] = {"tlsv1.3", "tlsv1.2"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(protocols); i++) {
        struct config_globals g = settings();
        g.client_tls_protocols = protocols[i];
        SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g), *after_reload = server_ctx(&g);
        assert_false(resumes(client, server, "a", 1));
        assert_true(resumes(client, server, "a", 1));
        assert_true(resumes(client, server, "a", 1));
        assert_false(resumes(client, server, "b", 1));
        assert_false(resumes(client, server, "a", 2));
        assert_false(resumes(client, after_reload, "a", 1));
        SSL *stricter = tls_connect_new(server, "a", 1, SSLMODE_VERIFY_CA);
        assert_null(SSL_get0_session(stricter)); /* what nobody verified is not taken over */
        SSL_free(stricter);
        SSL_CTX_free(client);
        client = client_ctx(&g); /* the other side forgot its keys: a full handshake, no error */
        assert_false(resumes(client, server, "a", 1));
        assert_true(resumes(client, server, "a", 1));
        SSL_CTX_free(client);
        SSL_CTX_free(server);
        SSL_CTX_free(after_reload);
    }
}

static void sessions_are_resumed_without_tickets(void **state)
{
    struct config_globals g = settings();

    (void)state;
    g.client_tls_protocols = "tlsv1.2";
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET); /* a driver that has none: our cache serves */
    assert_false(resumes(client, server, "a", 1));
    assert_true(resumes(client, server, "a", 1));
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

static void the_server_unused_for_longest_is_forgotten(void **state)
{
    struct config_globals g = settings();
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);

    (void)state;
    for (int port = 1; port <= TLS_RESUME_MAX; port++)
        assert_false(resumes(client, server, "a", (uint16_t)port));
    assert_true(resumes(client, server, "a", 1)); /* 2 is the oldest now */
    assert_false(resumes(client, server, "a", TLS_RESUME_MAX + 1));
    assert_true(resumes(client, server, "a", 1));
    assert_false(resumes(client, server, "a", 2));
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

struct crowd {
    SSL_CTX *client, *server;
    unsigned seed;
};

static void *connect_often(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < 20; i++) {
        struct pair p;
        pair_up(&p, tls_accept_new(c->client),
                tls_connect_new(c->server, "a", (uint16_t)((c->seed + (unsigned)i) % 3),
                                SSLMODE_REQUIRE));
        must(p.accepted && p.connected);
        pair_close(&p);
    }
    return NULL;
}

static void loops_share_the_contexts(void **state)
{
    struct config_globals g = settings();
    struct crowd crowd[4];
    pthread_t threads[COUNT_OF(crowd)];

    (void)state;
    SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
    for (unsigned i = 0; i < COUNT_OF(crowd); i++) {
        crowd[i] = (struct crowd){.client = client, .server = server, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, connect_often, &crowd[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(crowd); i++)
        pthread_join(threads[i], NULL);
    assert_true(resumes(client, server, "a", 1));
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

/* ---- channel binding ---------------------------------------------------------------------- */

static void the_end_point_is_the_hash_of_the_certificate(void **state)
{
    static const struct {
        const char *name;
        uint32_t bytes_n; /* 0: no binding */
        const char *hash;
    } cases[] = {
        {"server", 32, "SHA256"},
        {"sha384", 48, "SHA384"},
        {"sha1", 32, "SHA256"}, /* too weak, RFC 5929 says */
        {"ed25519", 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_globals g = settings();
        struct scram_binding ours, theirs;
        struct pair p;
        char key[64], cert[64];
        uint8_t hash[EVP_MAX_MD_SIZE];
        (void)snprintf(key, sizeof(key), "%s.key", cases[i].name);
        (void)snprintf(cert, sizeof(cert), "%s.crt", cases[i].name);
        g.client_tls_key_file = certificates_file(key);
        g.client_tls_cert_file = certificates_file(cert);
        g.client_tls_protocols = g.server_tls_protocols = "all"; /* lets SHA-1 in */
        SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
        pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
        assert_true(p.accepted && p.connected);
        assert_int_equal(tls_end_point(p.accept, true, &ours), cases[i].bytes_n > 0);
        assert_int_equal(tls_end_point(p.connect, false, &theirs), cases[i].bytes_n > 0);
        assert_int_equal(ours.bytes_n, cases[i].bytes_n);
        assert_int_equal(theirs.bytes_n, cases[i].bytes_n);
        if (cases[i].bytes_n > 0) {
            const EVP_MD *md = EVP_get_digestbyname(cases[i].hash);
            assert_int_equal(X509_digest(SSL_get_certificate(p.accept), md, hash, NULL), 1);
            assert_memory_equal(ours.bytes, hash, cases[i].bytes_n);
            assert_memory_equal(theirs.bytes, hash, cases[i].bytes_n);
        }
        assert_false(tls_end_point(p.accept, false, &theirs)); /* the client sent none */
        pair_close(&p);
        SSL_CTX_free(client);
        SSL_CTX_free(server);
    }
}

/* ---- what operators read ------------------------------------------------------------------ */

static void assert_client_error(const struct config_globals *g, const char *part)
{
    SSL_CTX *ctx = (SSL_CTX *)1;
    struct err err = {.text = ""};

    assert_false(tls_client_ctx(g, &ctx, &err));
    assert_null(ctx);
    assert_int_equal(strncmp(err.text, "TLS setup failed: ", 18), 0);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" says nothing of \"%s\"", err.text, part);
    assert_int_equal(ERR_peek_error(), 0);
}

static void wrong_settings_are_named(void **state)
{
    static const struct {
        size_t setting;
        const char *value, *part;
    } cases[] = {
        {offsetof(struct config_globals, client_tls_key_file), "", "client_tls_key_file"},
        {offsetof(struct config_globals, client_tls_key_file), "/nowhere/a.key",
         "client_tls_key_file \"/nowhere/a.key\": No such file or directory"},
        {offsetof(struct config_globals, client_tls_cert_file), "/nowhere/a.crt",
         "client_tls_cert_file \"/nowhere/a.crt\": No such file or directory"},
        {offsetof(struct config_globals, client_tls_ca_file), "/nowhere/ca.crt",
         "client_tls_ca_file \"/nowhere/ca.crt\": No such file or directory"},
        {offsetof(struct config_globals, client_tls_ca_file), "", "need client_tls_ca_file"},
        {offsetof(struct config_globals, client_tls_protocols), "tlsv1.2,sslv3", "sslv3"},
        {offsetof(struct config_globals, client_tls_protocols), ",", "unknown protocol"},
        {offsetof(struct config_globals, client_tls_ciphers), "NONSENSE",
         "client_tls_ciphers \"NONSENSE\": no cipher match"},
        {offsetof(struct config_globals, client_tls13_ciphers), "NONSENSE",
         "failed to set the TLSv1.3 cipher suites"},
        {offsetof(struct config_globals, client_tls_ecdhcurve), "P-1", "client_tls_ecdhcurve"},
        {offsetof(struct config_globals, client_tls_dheparams), "P-1", "client_tls_dheparams"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_globals g = settings();
        g.client_tls_sslmode = SSLMODE_VERIFY_FULL;
        g.client_tls_ca_file = certificates_file("ca.crt");
        memcpy((char *)&g + cases[i].setting, &cases[i].value, sizeof(cases[i].value));
        assert_client_error(&g, cases[i].part);
    }
}

static void wrong_files_are_named(void **state)
{
    static const struct {
        const char *cert, *key, *part;
    } cases[] = {
        {"garbage", "server.key", "tls_cert_file"},
        {"server.crt", "garbage", "tls_key_file"},
        {"server.crt", "alice.key", "key values mismatch"},
        {"ca.crt", "locked.key", "tls_key_file"},
        {"", "server.key", "client_tls_cert_file"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_globals g = settings();
        g.client_tls_cert_file = cases[i].cert[0] ? certificates_file(cases[i].cert) : "";
        g.client_tls_key_file = certificates_file(cases[i].key);
        assert_client_error(&g, cases[i].part);
    }
}

static void wrong_settings_towards_servers_are_named(void **state)
{
    struct config_globals g = settings();
    SSL_CTX *ctx;
    struct err err;

    (void)state;
    g.server_tls_cert_file = certificates_file("alice.crt");
    assert_false(tls_server_ctx(&g, &ctx, &err));
    assert_non_null(strstr(err.text, "server_tls_key_file"));
    g = settings();
    g.server_tls_sslmode = SSLMODE_VERIFY_CA;
    g.server_tls_ca_file = "/nowhere/ca.crt";
    assert_false(tls_server_ctx(&g, &ctx, &err));
    assert_string_equal(err.text, "TLS setup failed: server_tls_ca_file \"/nowhere/ca.crt\": "
                                  "No such file or directory");
    assert_null(ctx);
}

static void key_exchanges_can_be_switched_off(void **state)
{
    static const char *const off[] = {"none", "auto"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(off); i++) {
        struct config_globals g = settings();
        struct pair p;
        g.client_tls_protocols = "tlsv1.2";
        g.client_tls_ecdhcurve = off[i];
        g.client_tls_dheparams = "legacy";
        SSL_CTX *client = client_ctx(&g), *server = server_ctx(&g);
        /* An ECDSA certificate can do nothing else than ECDHE. */
        pair_up(&p, tls_accept_new(client), tls_connect_new(server, "x", 1, SSLMODE_REQUIRE));
        assert_int_equal(p.accepted, i == 1);
        pair_close(&p);
        SSL_CTX_free(client);
        SSL_CTX_free(server);
    }
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write() */
    return certificates_make();
}

static int teardown(void **state)
{
    (void)state;
    return certificates_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes_that_disable_make_no_context),
        cmocka_unit_test(both_ends_agree),
        cmocka_unit_test(an_end_without_goodbye_is_an_end),
        cmocka_unit_test(protocols_are_those_that_are_named),
        cmocka_unit_test(ciphers_and_curves_are_obeyed),
        cmocka_unit_test(servers_are_verified_as_sslmode_says),
        cmocka_unit_test(no_certificate_is_for_a_unix_socket),
        cmocka_unit_test(clients_are_verified_as_sslmode_says),
        cmocka_unit_test(other_protocols_over_tls_are_refused),
        cmocka_unit_test(a_server_is_resumed_and_no_other),
        cmocka_unit_test(sessions_are_resumed_without_tickets),
        cmocka_unit_test(the_server_unused_for_longest_is_forgotten),
        cmocka_unit_test(loops_share_the_contexts),
        cmocka_unit_test(the_end_point_is_the_hash_of_the_certificate),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(wrong_settings_towards_servers_are_named),
        cmocka_unit_test(key_exchanges_can_be_switched_off),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
