/* SCRAM-SHA-256 and md5: the vectors of RFC 7677, our client against our server, and everything a
 * peer may get wrong, each message with its end at a guard page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/scram.c"
#include "tests/guard.h"

/* RFC 7677, chapter 3: user "user", password "pencil". */
#define RFC_CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCE RFC_CLIENT_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define RFC_CLIENT_BARE "n=user,r=" RFC_CLIENT_NONCE
#define RFC_SERVER_FIRST "r=" RFC_NONCE ",s=" RFC_SALT ",i=4096"
#define RFC_CLIENT_FINAL "c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_SECRET                                                                                 \
    "SCRAM-SHA-256$4096:" RFC_SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="                 \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const uint8_t nonce_a[SCRAM_NONCE_BYTES] = "client's nonce 18";
static const uint8_t nonce_b[SCRAM_NONCE_BYTES] = "server's nonce 18";
static const uint8_t process_key[SCRAM_KEY_BYTES] = "a key of this process, 32 bytes";

static struct view guarded(const char *text)
{
    size_t n = strlen(text);

    return view_of(guard_copy(text, n), n);
}

static struct scram_secret rfc_secret(void)
{
    struct scram_secret secret;

    assert_true(scram_secret_parse(RFC_SECRET, &secret));
    return secret;
}

/* ---- vectors ----------------------------------------------------------------------------- */

static void secrets_are_made_as_postgresql_makes_them(void **state)
{
    struct scram_secret made, parsed = rfc_secret();

    (void)state;
    assert_true(scram_secret_make("pencil", view_of(parsed.salt, parsed.salt_n), 4096, &made));
    assert_int_equal(parsed.salt_n, 16);
    assert_memory_equal(&made, &parsed, sizeof(made));
}

/* A server that has sent the RFC's first message. */
static struct scram_server rfc_server(void)
{
    struct scram_server s = {.secret = rfc_secret()};

    assert_int_equal(scram_server_first(&s, guarded("n,," RFC_CLIENT_BARE), nonce_b), SCRAM_OK);
    memcpy(s.nonce, RFC_NONCE, sizeof(RFC_NONCE));
    memcpy(s.server_first, RFC_SERVER_FIRST, sizeof(RFC_SERVER_FIRST));
    return s;
}

static void server_agrees_with_the_rfc(void **state)
{
    struct scram_server s = rfc_server();

    (void)state;
    assert_int_equal(scram_server_final(&s, guarded(RFC_CLIENT_FINAL)), SCRAM_OK);
    assert_string_equal(s.message, RFC_SERVER_FINAL);
    assert_int_equal(s.message_n, strlen(RFC_SERVER_FINAL));
}

static struct scram_client rfc_client(const char *password)
{
    struct scram_client c = {.password = password};

    assert_int_equal(scram_client_first(&c, nonce_a), SCRAM_OK);
    memcpy(c.nonce, RFC_CLIENT_NONCE, sizeof(RFC_CLIENT_NONCE));
    memcpy(c.first_bare, RFC_CLIENT_BARE, sizeof(RFC_CLIENT_BARE));
    return c;
}

static void client_agrees_with_the_rfc(void **state)
{
    struct scram_client c = rfc_client("pencil");

    (void)state;
    assert_int_equal(scram_client_final(&c, guarded(RFC_SERVER_FIRST)), SCRAM_OK);
    assert_string_equal(c.message, RFC_CLIENT_FINAL);
    assert_int_equal(scram_client_verify(&c, guarded(RFC_SERVER_FINAL)), SCRAM_OK);
}

static void md5_agrees_with_md5sum(void **state)
{
    static const uint8_t salt[4] = {1, 2, 3, 4};
    char secret[SCRAM_MD5_TEXT_BYTES], answer[SCRAM_MD5_TEXT_BYTES];

    (void)state;
    assert_true(scram_md5_secret("pencil", "user", secret));
    assert_string_equal(secret, "md520c46e3762c864548e296b33c3406aa9");
    assert_true(scram_md5_answer(secret, salt, answer));
    assert_string_equal(answer, "md54376eb6913b38f9aaff38dc7cf19ca76");
    assert_true(scram_md5_matches(answer, "user", secret, salt));
    assert_true(scram_md5_matches(answer, "user", "pencil", salt));
    assert_false(scram_md5_matches(answer, "user", "pencils", salt));
    assert_false(scram_md5_matches(answer, "other", "pencil", salt));
    assert_false(scram_md5_matches(answer, "user", secret, (const uint8_t *)"\1\2\3\5"));
    assert_false(scram_md5_matches("", "user", secret, salt));
    assert_false(scram_md5_matches(answer, "user", "", salt));
    assert_false(scram_md5_matches(answer, "user", RFC_SECRET, salt));
    assert_false(scram_md5_answer("pencil", salt, answer));
    assert_false(scram_md5_answer("md5 of nothing, and as long as one.", salt, answer));
}

/* ---- both sides -------------------------------------------------------------------------- */

/* One whole login; `at` tells how far it came. */
static enum scram_verdict login(struct scram_client *c, struct scram_server *s, int *at)
{
    enum scram_verdict verdict;

    *at = 0;
    verdict = scram_client_first(c, nonce_a);
    if (verdict == SCRAM_OK && ++*at)
        verdict = scram_server_first(s, guarded(c->message), nonce_b);
    if (verdict == SCRAM_OK && ++*at)
        verdict = scram_client_final(c, guarded(s->message));
    if (verdict == SCRAM_OK && ++*at)
        verdict = scram_server_final(s, guarded(c->message));
    if (verdict == SCRAM_OK && ++*at)
        verdict = scram_client_verify(c, guarded(s->message));
    return verdict;
}

static void right_and_wrong_passwords(void **state)
{
    static const struct {
        const char *password;
        enum scram_verdict verdict;
        int at;
    } cases[] = {
        {"pencil", SCRAM_OK, 4},       {"Pencil", SCRAM_REFUSED, 3},
        {"pencil ", SCRAM_REFUSED, 3}, {"\303\244\303\266\303\274", SCRAM_REFUSED, 3},
        {"", SCRAM_REFUSED, 2},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_client c = {.password = cases[i].password};
        struct scram_server s = {.secret = rfc_secret()};
        int at;
        assert_int_equal(login(&c, &s, &at), cases[i].verdict);
        assert_int_equal(at, cases[i].at);
    }
}

static void passwords_beyond_ascii_are_bytes(void **state)
{
    const char *password = "gr\303\274\303\237e \360\237\220\230 \377\376";
    struct scram_server s = {0};
    struct scram_client c = {.password = password};
    int at;

    (void)state;
    assert_true(scram_secret_make(password, view_of_cstr("salt"), 10, &s.secret));
    assert_int_equal(login(&c, &s, &at), SCRAM_OK);
}

static void keys_of_a_proof_open_the_next_door(void **state)
{
    struct scram_client c = {.password = "pencil"};
    struct scram_server s = {.secret = rfc_secret()}, behind = {.secret = rfc_secret()};
    int at;

    (void)state;
    assert_int_equal(login(&c, &s, &at), SCRAM_OK);
    assert_int_equal(s.keys.iterations, 4096);
    struct scram_client through = {.keys = s.keys};
    assert_int_equal(login(&through, &behind, &at), SCRAM_OK);
    assert_memory_equal(&through.keys, &c.keys, sizeof(c.keys)); /* what the password derives */

    /* the same password under another salt is another secret: the keys are of no use */
    through = (struct scram_client){.keys = s.keys};
    assert_true(scram_secret_make("pencil", view_of_cstr("other"), 4096, &behind.secret));
    assert_int_equal(login(&through, &behind, &at), SCRAM_REFUSED);
    assert_int_equal(at, 2);
    through = (struct scram_client){.keys = s.keys, .password = "pencil"};
    assert_int_equal(login(&through, &behind, &at), SCRAM_OK);
}

static void a_server_that_does_not_know_the_secret_is_found_out(void **state)
{
    struct scram_client c = {.password = "pencil"};
    struct scram_server s = {.secret = rfc_secret()};
    int at;

    (void)state;
    s.secret.server_key[0] ^= 1;
    assert_int_equal(login(&c, &s, &at), SCRAM_REFUSED);
    assert_int_equal(at, 4);
}

static void mock_secrets_look_real_and_fit_nobody(void **state)
{
    struct scram_secret a, again, other, elsewhere;
    uint8_t other_key[SCRAM_KEY_BYTES] = {1};
    int at;

    (void)state;
    assert_true(scram_secret_mock(process_key, "ghost", 4096, &a));
    assert_true(scram_secret_mock(process_key, "ghost", 4096, &again));
    assert_true(scram_secret_mock(process_key, "spirit", 4096, &other));
    assert_true(scram_secret_mock(other_key, "ghost", 4096, &elsewhere));
    assert_memory_equal(&a, &again, sizeof(a));
    assert_int_equal(a.salt_n, SCRAM_SALT_BYTES);
    assert_memory_not_equal(a.salt, other.salt, SCRAM_SALT_BYTES);
    assert_memory_not_equal(a.salt, elsewhere.salt, SCRAM_SALT_BYTES);
    assert_memory_not_equal(a.stored_key, a.server_key, SCRAM_KEY_BYTES);
    struct scram_client c = {.password = "pencil"};
    struct scram_server s = {.secret = a};
    assert_int_equal(login(&c, &s, &at), SCRAM_REFUSED);
    assert_int_equal(at, 3);
}

static void the_channel_is_bound(void **state)
{
    struct scram_binding one = {.bytes_n = 32, .bytes = "the hash of a certificate......"};
    struct scram_binding two = {.bytes_n = 32, .bytes = "the hash of another certificate"};
    int at;

    (void)state;
    struct scram_client c = {.password = "pencil", .binding = one};
    struct scram_server s = {
        .secret = rfc_secret(), .binding = one, .plus = true, .binding_offered = true};
    assert_int_equal(login(&c, &s, &at), SCRAM_OK);
    assert_memory_equal(s.gs2, "p=tls-server-end-point,,", 25);

    s = (struct scram_server){
        .secret = rfc_secret(), .binding = two, .plus = true, .binding_offered = true};
    assert_int_equal(login(&c, &s, &at), SCRAM_BAD); /* somebody is in the middle */
    assert_int_equal(at, 3);
}

/* ---- what peers get wrong ---------------------------------------------------------------- */

static void first_messages_of_clients(void **state)
{
    static const struct {
        const char *text;
        bool plus, offered;
        enum scram_verdict verdict;
    } cases[] = {
        {"n,,n=,r=abc", false, false, SCRAM_OK},
        {"n,,n=,r=abc", false, true, SCRAM_OK},
        {"n,,n=user,r=abc", false, false, SCRAM_OK},
        {"n,,n=,r=abc,x=future", false, false, SCRAM_OK},
        {"y,,n=,r=abc", false, false, SCRAM_OK},
        {"y,,n=,r=abc", false, true, SCRAM_BAD}, /* our list was tampered with */
        {"y,,n=,r=abc", true, true, SCRAM_BAD},
        {"n,,n=,r=abc", true, true, SCRAM_BAD}, /* PLUS, and no binding */
        {"p=tls-server-end-point,,n=,r=abc", true, true, SCRAM_OK},
        {"p=tls-server-end-point,,n=,r=abc", false, true, SCRAM_BAD},
        {"p=tls-unique,,n=,r=abc", true, true, SCRAM_BAD},
        {"p=,,n=,r=abc", true, true, SCRAM_BAD},
        {"", false, false, SCRAM_BAD},
        {"n", false, false, SCRAM_BAD},
        {"n,", false, false, SCRAM_BAD},
        {"n,,", false, false, SCRAM_BAD},
        {"x,,n=,r=abc", false, false, SCRAM_BAD},
        {"nn,,n=,r=abc", false, false, SCRAM_BAD},
        {"yy,,n=,r=abc", false, false, SCRAM_BAD},
        {",,n=,r=abc", false, false, SCRAM_BAD},
        {"n,a=admin,n=,r=abc", false, false, SCRAM_BAD}, /* on behalf of another */
        {"n,,m=ext,n=,r=abc", false, false, SCRAM_BAD},  /* a mandatory extension */
        {"n,,n=,r=", false, false, SCRAM_BAD},
        {"n,,n=,r=a b", false, false, SCRAM_BAD},
        {"n,,n=,r=a\177b", false, false, SCRAM_BAD},
        {"n,,n=,r=\303\244", false, false, SCRAM_BAD},
        {"n,,r=abc,n=", false, false, SCRAM_BAD},
        {"n,,n=", false, false, SCRAM_BAD},
        {"n,,n=,r", false, false, SCRAM_BAD},
        {"n,,n", false, false, SCRAM_BAD},
        {"n=,r=abc", false, false, SCRAM_BAD},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_server s = {.secret = rfc_secret(),
                                 .plus = cases[i].plus,
                                 .binding_offered = cases[i].offered,
                                 .binding = {.bytes_n = cases[i].offered ? 32 : 0}};
        enum scram_verdict verdict = scram_server_first(&s, guarded(cases[i].text), nonce_b);
        if (verdict != cases[i].verdict)
            fail_msg("\"%s\": %d", cases[i].text, verdict);
        assert_int_equal(s.message_n > 0, verdict == SCRAM_OK);
    }
}

static void long_first_messages_are_refused(void **state)
{
    char text[SCRAM_MESSAGE_MAX + 100];
    struct scram_server s = {.secret = rfc_secret()};
    size_t accepted_max = 0;

    (void)state;
    for (size_t n = 900; n < sizeof(text); n++) {
        memset(text, 'r', n);
        memcpy(text, "n,,n=,r=", 8);
        enum scram_verdict verdict =
            scram_server_first(&s, view_of(guard_copy(text, n), n), nonce_b);
        if (verdict == SCRAM_OK)
            accepted_max = n;
        else
            assert_int_equal(verdict, SCRAM_BAD);
        assert_true(s.message_n <= SCRAM_MESSAGE_MAX);
    }
    assert_in_range(accepted_max, 950, SCRAM_MESSAGE_MAX);
    text[20] = 0; /* a NUL inside */
    assert_int_equal(scram_server_first(&s, view_of(guard_copy(text, 60), 60), nonce_b), SCRAM_BAD);
}

static void final_messages_of_clients(void **state)
{
    static const struct {
        const char *text;
        enum scram_verdict verdict;
    } cases[] = {
        {RFC_CLIENT_FINAL, SCRAM_OK},
        {"c=eSws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
         SCRAM_BAD}, /* "y,,": not what it said first */
        {"c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVU=", SCRAM_REFUSED},
        {"c=biws,r=" RFC_NONCE ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_REFUSED},
        {"c=biws,r=" RFC_NONCE ",x=1,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
         SCRAM_REFUSED}, /* an extension is part of what is signed */
        {"c=biws,r=" RFC_CLIENT_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE "x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_BAD},
        {RFC_CLIENT_FINAL ",x=1", SCRAM_BAD},
        {RFC_CLIENT_FINAL ",", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE, SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE ",", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE ",p=", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE ",p=AAAA", SCRAM_BAD},
        {"c=biws,r=" RFC_NONCE ",p= HzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_BAD},
        {"c=,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_BAD},
        {"r=" RFC_NONCE ",c=biws,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_BAD},
        {"", SCRAM_BAD},
        {"c", SCRAM_BAD},
        {"p=", SCRAM_BAD},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_server s = rfc_server();
        enum scram_verdict verdict = scram_server_final(&s, guarded(cases[i].text));
        if (verdict != cases[i].verdict)
            fail_msg("\"%s\": %d", cases[i].text, verdict);
        assert_int_equal(s.message_n > 0, verdict == SCRAM_OK);
        assert_int_equal(s.keys.iterations > 0, verdict == SCRAM_OK);
    }
}

static void first_messages_of_servers(void **state)
{
    static const struct {
        const char *text;
        enum scram_verdict verdict;
    } cases[] = {
        {RFC_SERVER_FIRST, SCRAM_OK},
        {"r=" RFC_CLIENT_NONCE ",s=" RFC_SALT ",i=4096", SCRAM_BAD}, /* adds nothing to our nonce */
        {"r=X" RFC_NONCE ",s=" RFC_SALT ",i=4096", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=,i=4096", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ=,i=4096", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gR==,i=4096", SCRAM_BAD}, /* not canonical */
        {"r=" RFC_NONCE ",s=W22Z aJ0SNY7soEsUEjb6gQ==,i=4096", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=====,i=4096", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=0", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=-1", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=4096x", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=600001", SCRAM_BAD}, /* would cost too much */
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=4294967297", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=99999999999999999999", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT ",i=4096,x=1", SCRAM_BAD},
        {RFC_SERVER_FIRST ",", SCRAM_BAD},
        {"r=" RFC_NONCE ",s=" RFC_SALT, SCRAM_BAD},
        {"m=ext,r=" RFC_NONCE ",s=" RFC_SALT ",i=4096", SCRAM_BAD},
        {"e=other-error", SCRAM_BAD},
        {"", SCRAM_BAD},
        {"r=", SCRAM_BAD},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_client c = rfc_client("pencil");
        enum scram_verdict verdict = scram_client_final(&c, guarded(cases[i].text));
        if (verdict != cases[i].verdict)
            fail_msg("\"%s\": %d", cases[i].text, verdict);
        assert_int_equal(c.message_n > 0, verdict == SCRAM_OK);
    }
}

static void final_messages_of_servers(void **state)
{
    static const struct {
        const char *text;
        enum scram_verdict verdict;
    } cases[] = {
        {RFC_SERVER_FINAL, SCRAM_OK},
        {"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", SCRAM_REFUSED},
        {"e=invalid-proof", SCRAM_REFUSED},
        {RFC_SERVER_FINAL ",", SCRAM_BAD},
        {"v=", SCRAM_BAD},
        {"v=AAAA", SCRAM_BAD},
        {"v", SCRAM_BAD},
        {"e", SCRAM_BAD},
        {"", SCRAM_BAD},
        {"x=1", SCRAM_BAD},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct scram_client c = rfc_client("pencil");
        assert_int_equal(scram_client_final(&c, guarded(RFC_SERVER_FIRST)), SCRAM_OK);
        enum scram_verdict verdict = scram_client_verify(&c, guarded(cases[i].text));
        if (verdict != cases[i].verdict)
            fail_msg("\"%s\": %d", cases[i].text, verdict);
    }
}

/* No message is good before its last byte. */
static void messages_are_refused_at_each_cut(void **state)
{
    char text[256];

    (void)state;
    for (size_t n = 0; n < strlen(RFC_CLIENT_FINAL); n++) {
        struct scram_server s = rfc_server();
        memcpy(text, RFC_CLIENT_FINAL, n);
        text[n] = 0;
        assert_int_equal(scram_server_final(&s, guarded(text)), SCRAM_BAD);
    }
    for (size_t n = 0; n < strlen(RFC_SERVER_FIRST) - strlen("096"); n++) {
        struct scram_client c = rfc_client("pencil");
        memcpy(text, RFC_SERVER_FIRST, n);
        text[n] = 0;
        assert_int_equal(scram_client_final(&c, guarded(text)), SCRAM_BAD);
    }
}

static void secrets_are_parsed_strictly(void **state)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {RFC_SECRET, true},
        {"", false},
        {"SCRAM-SHA-256", false},
        {"SCRAM-SHA-256$", false},
        {"SCRAM-SHA-1$4096:c2FsdA==$AAAA:AAAA", false},
        {"SCRAM-SHA-256$4096", false},
        {"SCRAM-SHA-256$4096:c2FsdA==", false},
        {"SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", false},
        {"SCRAM-SHA-256$0:" RFC_SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
         ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
         false},
        {"SCRAM-SHA-256$600001:" RFC_SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
         ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
         false},
        {RFC_SECRET "=", false},
        {RFC_SECRET ":", false},
        {" " RFC_SECRET, false},
    };
    struct scram_secret secret;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (scram_secret_parse(cases[i].text, &secret) != cases[i].ok)
            fail_msg("\"%s\"", cases[i].text);
        assert_int_equal(secret.iterations > 0, cases[i].ok);
    }
    for (size_t n = 0; n < strlen(RFC_SECRET); n++) {
        char text[256] = "";
        memcpy(text, RFC_SECRET, n);
        assert_false(scram_secret_parse(text, &secret));
    }
}

static void clear_passwords_against_any_secret(void **state)
{
    char md5[SCRAM_MD5_TEXT_BYTES];
    const char *secrets[] = {"pencil", RFC_SECRET, md5};

    (void)state;
    assert_true(scram_md5_secret("pencil", "user", md5));
    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        assert_true(scram_password_matches("pencil", "user", secrets[i]));
        assert_false(scram_password_matches("pencil2", "user", secrets[i]));
        assert_false(scram_password_matches("penci", "user", secrets[i]));
        assert_false(scram_password_matches("", "user", secrets[i]));
        /* who has read auth_file does not get in with what stands there */
        assert_int_equal(scram_password_matches(secrets[i], "user", secrets[i]), i == 0);
    }
    assert_false(scram_password_matches("pencil", "other", md5));
    assert_false(scram_password_matches("pencil", "user", ""));
    assert_false(scram_password_matches("", "user", ""));
}

static void limits_of_derivation(void **state)
{
    static char password[SCRAM_PASSWORD_MAX + 2];
    uint8_t salt[SCRAM_SALT_BYTES_MAX + 1] = {0};
    struct scram_secret secret;

    (void)state;
    memset(password, 'p', SCRAM_PASSWORD_MAX + 1);
    assert_false(scram_secret_make(password, view_of(salt, 16), 1, &secret));
    assert_int_equal(secret.iterations, 0);
    password[SCRAM_PASSWORD_MAX] = 0;
    assert_true(scram_secret_make(password, view_of(salt, 16), 1, &secret));
    assert_true(scram_secret_make("p", view_of(salt, SCRAM_SALT_BYTES_MAX), 1, &secret));
    assert_false(scram_secret_make("p", view_of(salt, sizeof(salt)), 1, &secret));
    assert_false(scram_secret_make("p", view_of(salt, 0), 1, &secret));
    assert_false(scram_secret_make("p", view_of(salt, 16), 0, &secret));
    assert_false(scram_secret_make("p", view_of(salt, 16), SCRAM_ITERATIONS_MAX + 1, &secret));
    assert_false(scram_secret_make("", view_of(salt, 16), 1, &secret));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_made_as_postgresql_makes_them),
        cmocka_unit_test(server_agrees_with_the_rfc),
        cmocka_unit_test(client_agrees_with_the_rfc),
        cmocka_unit_test(md5_agrees_with_md5sum),
        cmocka_unit_test(right_and_wrong_passwords),
        cmocka_unit_test(passwords_beyond_ascii_are_bytes),
        cmocka_unit_test(keys_of_a_proof_open_the_next_door),
        cmocka_unit_test(a_server_that_does_not_know_the_secret_is_found_out),
        cmocka_unit_test(mock_secrets_look_real_and_fit_nobody),
        cmocka_unit_test(the_channel_is_bound),
        cmocka_unit_test(first_messages_of_clients),
        cmocka_unit_test(long_first_messages_are_refused),
        cmocka_unit_test(final_messages_of_clients),
        cmocka_unit_test(first_messages_of_servers),
        cmocka_unit_test(final_messages_of_servers),
        cmocka_unit_test(messages_are_refused_at_each_cut),
        cmocka_unit_test(secrets_are_parsed_strictly),
        cmocka_unit_test(clear_passwords_against_any_secret),
        cmocka_unit_test(limits_of_derivation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
