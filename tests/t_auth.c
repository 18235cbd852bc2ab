/* Logins, with our own SCRAM client at the other end: every method against every kind of secret,
 * what an attacker can tell apart, and what clients get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/auth.c"
#include "proxy/auth_cache.c"

static const uint8_t process_key[SCRAM_KEY_BYTES] = "a key of this process, 32 bytes";
static const uint8_t random_bytes[AUTH_RANDOM_BYTES] = "server's nonce 18salt";
static const uint8_t client_nonce[SCRAM_NONCE_BYTES] = "client's nonce 18";
static const struct scram_binding binding = {.bytes_n = 32, .bytes = "hash of a certificate"};

/* What the client is like. */
struct client {
    const char *password;
    bool plus, drops_plus; /* binds the channel; believes the server cannot */
};

/* How a login went, as the client saw it. */
struct outcome {
    enum auth_verdict verdict;
    struct err err;
    struct scram_keys keys;
    uint32_t asked_for[4]; /* authentication codes in order */
    size_t asked_n;
    bool plus_offered;
    char server_first[SCRAM_MESSAGE_MAX + 1];
};

static struct wire_msg message_in(const struct buf *b, const struct wire_rule rules[256])
{
    struct wire_msg msg = {.type = 0};

    assert_int_equal(wire_next(buf_view(b), rules, 1 << 20, &msg), WIRE_OK);
    assert_true(wire_is_whole(&msg));
    return msg;
}

/* One login, seen from the client. */
struct dialogue {
    const struct client *client;
    const char *user;
    struct scram_client scram;
    struct outcome o;
};

static void put_first(struct dialogue *d, struct buf *out)
{
    struct scram_client *scram = &d->scram;

    scram->password = d->client->password;
    if (d->client->plus)
        scram->binding = binding;
    assert_int_equal(scram_client_first(scram, client_nonce), SCRAM_OK);
    if (d->client->drops_plus)
        scram->message[0] = 'y';
    assert_true(wire_put_sasl_initial(out, d->client->plus ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM,
                                      view_of(scram->message, scram->message_n)));
}

/* The client's answer to one authentication request. */
static void put_answer(struct dialogue *d, const struct wire_authentication *asked, struct buf *out)
{
    char secret[SCRAM_MD5_TEXT_BYTES], answer[SCRAM_MD5_TEXT_BYTES];
    struct view mechanisms = asked->data;
    const char *mechanism;

    switch (asked->code) {
    case WIRE_AUTH_CLEARTEXT:
        assert_true(wire_put_password(out, d->client->password));
        break;
    case WIRE_AUTH_MD5:
        assert_true(scram_md5_secret(d->client->password, d->user, secret));
        assert_true(scram_md5_answer(secret, asked->data.at, answer));
        assert_true(wire_put_password(out, answer));
        break;
    case WIRE_AUTH_SASL:
        while (wire_mechanism_next(&mechanisms, &mechanism))
            d->o.plus_offered |= strcmp(mechanism, SCRAM_MECHANISM_PLUS) == 0;
        put_first(d, out);
        break;
    case WIRE_AUTH_SASL_CONTINUE:
        assert_true(asked->data.n < sizeof(d->o.server_first));
        memcpy(d->o.server_first, asked->data.at, asked->data.n);
        assert_int_equal(scram_client_final(&d->scram, asked->data), SCRAM_OK);
        assert_true(wire_put_sasl_response(out, view_of(d->scram.message, d->scram.message_n)));
        break;
    default:
        fail_msg("asked for %u", asked->code);
    }
}

static struct outcome login(const struct auth_opts *given, const struct client *client)
{
    struct dialogue d = {.client = client, .user = given->user};
    struct auth_opts opts = *given;
    struct auth *a = malloc(sizeof(*a));
    struct buf reply = {.max = 4096}, answer = {.max = 1 << 16};
    struct wire_authentication asked;

    assert_non_null(a);
    opts.process_key = process_key;
    opts.random = random_bytes;
    d.o.verdict = auth_begin(a, &opts, &reply, &d.o.err);
    while (d.o.verdict == AUTH_MORE) {
        struct wire_msg msg = message_in(&reply, wire_from_server);
        assert_true(wire_read_authentication(&msg, &asked));
        assert_true(d.o.asked_n < COUNT_OF(d.o.asked_for));
        d.o.asked_for[d.o.asked_n++] = asked.code;
        put_answer(&d, &asked, &answer);
        buf_free(&reply);
        msg = message_in(&answer, wire_from_client);
        d.o.verdict = auth_answer(a, &msg, &reply, &d.o.err);
        buf_free(&answer);
    }
    if (d.o.verdict == AUTH_OK && buf_used(&reply) > 0) {
        struct wire_msg msg = message_in(&reply, wire_from_server);
        assert_true(wire_read_authentication(&msg, &asked));
        assert_int_equal(asked.code, WIRE_AUTH_SASL_FINAL);
        assert_int_equal(scram_client_verify(&d.scram, asked.data), SCRAM_OK);
    }
    d.o.keys = a->keys;
    auth_end(a);
    assert_int_equal(a->keys.iterations, 0);
    free(a);
    buf_free(&reply);
    return d.o;
}

/* "pencil" in the three forms auth_file may have it. */
static const char *secret_of(enum kind kind)
{
    static char md5[SCRAM_MD5_TEXT_BYTES];

    switch (kind) {
    case KIND_NONE:
        return NULL;
    case KIND_PLAIN:
        return "pencil";
    case KIND_MD5:
        assert_true(scram_md5_secret("pencil", "user", md5));
        return md5;
    case KIND_SCRAM: /* RFC 7677's */
        return "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
               "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT"
               "4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    }
    return NULL;
}

static void methods_accept_the_secrets_they_can(void **state)
{
    static const struct {
        enum config_auth_type type;
        enum kind kind;
        uint32_t asked; /* first request; 0: none */
        bool ok;
    } cases[] = {
        {AUTH_TYPE_ANY, KIND_NONE, 0, true},
        {AUTH_TYPE_TRUST, KIND_PLAIN, 0, true},
        {AUTH_TYPE_PLAIN, KIND_PLAIN, WIRE_AUTH_CLEARTEXT, true},
        {AUTH_TYPE_PLAIN, KIND_MD5, WIRE_AUTH_CLEARTEXT, true},
        {AUTH_TYPE_PLAIN, KIND_SCRAM, WIRE_AUTH_CLEARTEXT, true},
        {AUTH_TYPE_PLAIN, KIND_NONE, WIRE_AUTH_CLEARTEXT, false},
        {AUTH_TYPE_MD5, KIND_PLAIN, WIRE_AUTH_MD5, true},
        {AUTH_TYPE_MD5, KIND_MD5, WIRE_AUTH_MD5, true},
        {AUTH_TYPE_MD5, KIND_SCRAM, WIRE_AUTH_SASL, true},
        {AUTH_TYPE_MD5, KIND_NONE, WIRE_AUTH_MD5, false},
        {AUTH_TYPE_SCRAM, KIND_PLAIN, WIRE_AUTH_SASL, true},
        {AUTH_TYPE_SCRAM, KIND_MD5, WIRE_AUTH_SASL, false},
        {AUTH_TYPE_SCRAM, KIND_SCRAM, WIRE_AUTH_SASL, true},
        {AUTH_TYPE_SCRAM, KIND_NONE, WIRE_AUTH_SASL, false},
    };
    const struct client right = {.password = "pencil"}, wrong = {.password = "Pencil"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct auth_opts opts = {
            .type = cases[i].type, .user = "user", .secret = secret_of(cases[i].kind)};
        struct outcome o = login(&opts, &right);
        assert_int_equal(o.verdict, cases[i].ok ? AUTH_OK : AUTH_FAILED);
        assert_int_equal(o.asked_n > 0 ? o.asked_for[0] : 0, cases[i].asked);
        assert_int_equal(o.keys.iterations,
                         cases[i].ok && cases[i].asked == WIRE_AUTH_SASL ? 4096 : 0);
        if (cases[i].asked == 0)
            continue;
        o = login(&opts, &wrong);
        assert_int_equal(o.verdict, AUTH_FAILED);
        assert_string_equal(o.err.sqlstate, "28P01");
        assert_int_equal(o.keys.iterations, 0);
    }
}

static void an_empty_secret_fits_no_password(void **state)
{
    static const struct {
        enum config_auth_type type;
        const char *password; /* no SCRAM client proves an empty one */
    } cases[] = {{AUTH_TYPE_PLAIN, ""}, {AUTH_TYPE_MD5, ""}, {AUTH_TYPE_SCRAM, "x"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct auth_opts opts = {.type = cases[i].type, .user = "user", .secret = ""};
        const struct client c = {.password = cases[i].password};
        assert_int_equal(login(&opts, &c).verdict, AUTH_FAILED);
    }
}

static void trust_wants_a_known_user(void **state)
{
    const struct auth_opts opts = {.type = AUTH_TYPE_TRUST, .user = "nobody"};
    struct outcome o = login(&opts, &(struct client){.password = ""});

    (void)state;
    assert_int_equal(o.verdict, AUTH_FAILED);
    assert_string_equal(o.err.text, "\"trust\" authentication failed");
}

static void a_certificate_must_name_the_user(void **state)
{
    static const struct {
        const char *cert_name;
        enum auth_verdict verdict;
    } cases[] = {{NULL, AUTH_FAILED}, {"User", AUTH_FAILED}, {"user", AUTH_OK}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct auth_opts opts = {
            .type = AUTH_TYPE_CERT, .user = "user", .cert_name = cases[i].cert_name};
        assert_int_equal(login(&opts, &(struct client){.password = ""}).verdict, cases[i].verdict);
    }
}

/* ---- what can be told apart --------------------------------------------------------------- */

static void assert_same_to_the_client(const struct outcome *a, const struct outcome *b)
{
    assert_int_equal(a->verdict, AUTH_FAILED);
    assert_int_equal(b->verdict, AUTH_FAILED);
    assert_string_equal(a->err.text, b->err.text);
    assert_string_equal(a->err.sqlstate, b->err.sqlstate);
    assert_int_equal(a->asked_n, b->asked_n);
    assert_memory_equal(a->asked_for, b->asked_for, sizeof(a->asked_for));
    assert_int_equal(strlen(a->server_first), strlen(b->server_first));
}

static void an_unknown_user_looks_like_a_wrong_password(void **state)
{
    static const struct {
        enum config_auth_type type;
        enum kind kind;
        bool unknown_as_scram;
    } cases[] = {
        {AUTH_TYPE_PLAIN, KIND_PLAIN, false}, {AUTH_TYPE_PLAIN, KIND_SCRAM, true},
        {AUTH_TYPE_MD5, KIND_PLAIN, false},   {AUTH_TYPE_MD5, KIND_MD5, false},
        {AUTH_TYPE_MD5, KIND_SCRAM, true},    {AUTH_TYPE_SCRAM, KIND_PLAIN, false},
        {AUTH_TYPE_SCRAM, KIND_SCRAM, false}, {AUTH_TYPE_SCRAM, KIND_MD5, false},
    };
    const struct client wrong = {.password = "Pencil"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct auth_opts opts = {.type = cases[i].type,
                                 .user = "user",
                                 .secret = secret_of(cases[i].kind),
                                 .unknown_as_scram = cases[i].unknown_as_scram};
        struct outcome known = login(&opts, &wrong);
        opts.secret = NULL;
        struct outcome unknown = login(&opts, &wrong), again = login(&opts, &wrong);
        assert_same_to_the_client(&known, &unknown);
        assert_string_equal(unknown.server_first, again.server_first);
        /* A user with a plain secret even has the salt he would have if he did not exist. */
        if (cases[i].kind == KIND_PLAIN)
            assert_string_equal(known.server_first, unknown.server_first);
    }
}

static void unknown_users_have_salts_of_their_own(void **state)
{
    const struct client wrong = {.password = "x"};
    struct outcome a = login(&(struct auth_opts){.type = AUTH_TYPE_SCRAM, .user = "a"}, &wrong);
    struct outcome b = login(&(struct auth_opts){.type = AUTH_TYPE_SCRAM, .user = "b"}, &wrong);

    (void)state;
    assert_string_not_equal(a.server_first, b.server_first);
}

static void names_and_secrets_beyond_the_limits_are_unknown(void **state)
{
    const struct client right = {.password = "pencil"};
    char name[CONFIG_USER_NAME_MAX + 2], secret[USERS_SECRET_MAX + 2];

    (void)state;
    memset(name, 'n', sizeof(name));
    memset(secret, 's', sizeof(secret));
    name[sizeof(name) - 1] = secret[sizeof(secret) - 1] = '\0';
    struct auth_opts opts = {.type = AUTH_TYPE_SCRAM, .user = name, .secret = "pencil"};
    assert_int_equal(login(&opts, &right).verdict, AUTH_FAILED);
    opts.user = name + 1;
    assert_int_equal(login(&opts, &right).verdict, AUTH_OK);
    opts.secret = secret;
    assert_int_equal(login(&opts, &(struct client){.password = secret}).verdict, AUTH_FAILED);
    opts.secret = secret + 1;
    assert_int_equal(login(&opts, &(struct client){.password = secret + 1}).verdict, AUTH_OK);
}

/* ---- channel binding ---------------------------------------------------------------------- */

static void channels_are_bound_where_both_can(void **state)
{
    static const struct {
        struct client client;
        enum auth_verdict verdict;
        bool has_binding;
    } cases[] = {
        {{"pencil", false, false}, AUTH_OK, false},    {{"pencil", false, false}, AUTH_OK, true},
        {{"pencil", true, false}, AUTH_OK, true},      {{"pencil", false, true}, AUTH_FAILED, true},
        {{"pencil", true, false}, AUTH_FAILED, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct auth_opts opts = {.type = AUTH_TYPE_SCRAM,
                                       .user = "user",
                                       .secret = secret_of(KIND_SCRAM),
                                       .binding = cases[i].has_binding ? &binding : NULL};
        struct outcome o = login(&opts, &cases[i].client);
        assert_int_equal(o.verdict, cases[i].verdict);
        assert_int_equal(o.plus_offered, cases[i].has_binding);
    }
}

static void another_channel_is_refused(void **state)
{
    struct scram_binding other = binding;
    const struct auth_opts opts = {.type = AUTH_TYPE_SCRAM,
                                   .user = "user",
                                   .secret = secret_of(KIND_SCRAM),
                                   .binding = &other};

    (void)state;
    other.bytes[5] ^= 1;
    assert_int_equal(login(&opts, &(struct client){"pencil", true, false}).verdict, AUTH_FAILED);
}

/* ---- keys and the cache ------------------------------------------------------------------- */

static void keys_log_in_to_a_server_with_the_same_secret(void **state)
{
    const struct auth_opts opts = {
        .type = AUTH_TYPE_SCRAM, .user = "user", .secret = secret_of(KIND_SCRAM)};
    struct outcome o = login(&opts, &(struct client){.password = "pencil"});
    struct scram_server server = {0};
    struct scram_client client = {.keys = o.keys};

    (void)state;
    assert_true(scram_secret_parse(secret_of(KIND_SCRAM), &server.secret));
    assert_int_equal(scram_client_first(&client, client_nonce), SCRAM_OK);
    assert_int_equal(
        scram_server_first(&server, view_of(client.message, client.message_n), random_bytes),
        SCRAM_OK);
    assert_int_equal(scram_client_final(&client, view_of(server.message, server.message_n)),
                     SCRAM_OK);
    assert_int_equal(scram_server_final(&server, view_of(client.message, client.message_n)),
                     SCRAM_OK);
}

static size_t entries_n(void)
{
    static const uint8_t none[SCRAM_KEY_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < BUCKETS_N; i++)
        for (size_t j = 0; j < PLACES_N; j++)
            n += memcmp(cache.buckets[i].entries[j].key, none, sizeof(none)) != 0;
    return n;
}

static void what_was_derived_is_kept_and_guesses_are_not(void **state)
{
    const struct auth_opts plain = {.type = AUTH_TYPE_SCRAM, .user = "kept", .secret = "pencil"};
    const struct auth_opts clear = {
        .type = AUTH_TYPE_PLAIN, .user = "user2", .secret = secret_of(KIND_SCRAM)};
    size_t before_n = entries_n();

    (void)state;
    assert_int_equal(login(&clear, &(struct client){.password = "guess"}).verdict, AUTH_FAILED);
    assert_int_equal(entries_n(), before_n);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(login(&plain, &(struct client){.password = "pencil"}).verdict, AUTH_OK);
        assert_int_equal(login(&clear, &(struct client){.password = "pencil"}).verdict, AUTH_OK);
        assert_int_equal(login(&clear, &(struct client){.password = "guess"}).verdict, AUTH_FAILED);
        assert_int_equal(entries_n(), before_n + 2);
    }
}

static void a_changed_password_counts_at_once(void **state)
{
    struct auth_opts opts = {.type = AUTH_TYPE_SCRAM, .user = "changer", .secret = "old"};

    (void)state;
    assert_int_equal(login(&opts, &(struct client){.password = "old"}).verdict, AUTH_OK);
    opts.secret = "new";
    assert_int_equal(login(&opts, &(struct client){.password = "old"}).verdict, AUTH_FAILED);
    assert_int_equal(login(&opts, &(struct client){.password = "new"}).verdict, AUTH_OK);
}

static void the_cache_stays_within_its_bounds(void **state)
{
    struct auth_cache_ask ask = {.process_key = process_key, .password = "p", .iterations = 1};
    struct scram_secret first, again;
    char user[16];

    (void)state;
    ask.user = "0";
    assert_true(auth_cache_secret(&ask, &first));
    for (int i = 0; i < 2 * BUCKETS_N * PLACES_N; i++) {
        (void)snprintf(user, sizeof(user), "%d", i);
        ask.user = user;
        assert_true(auth_cache_secret(&ask, &again));
    }
    assert_true(entries_n() <= (size_t)BUCKETS_N * PLACES_N);
    ask.user = "0"; /* pushed out or not, it is the same secret */
    assert_true(auth_cache_secret(&ask, &again));
    assert_memory_equal(&first, &again, sizeof(first));
}

/* ---- what clients get wrong --------------------------------------------------------------- */

static void *a_login_begun(enum config_auth_type type, struct buf *reply)
{
    struct auth *a = malloc(sizeof(*a));
    struct err err;
    const struct auth_opts opts = {.type = type,
                                   .user = "user",
                                   .secret = "pencil",
                                   .process_key = process_key,
                                   .random = random_bytes};

    assert_non_null(a);
    assert_int_equal(auth_begin(a, &opts, reply, &err), AUTH_MORE);
    return a;
}

static void broken_answers_fail_and_end_it(void **state)
{
    static const struct {
        enum config_auth_type type;
        uint8_t msg_type;
        const char *body;
        size_t body_n;
    } cases[] = {
        {AUTH_TYPE_PLAIN, 'Q', "pencil", 7},
        {AUTH_TYPE_PLAIN, 'p', "pencil", 6}, /* no NUL */
        {AUTH_TYPE_PLAIN, 'p', "", 0},
        {AUTH_TYPE_PLAIN, 'p', "pencil\0x", 9},
        {AUTH_TYPE_MD5, 'p', "md5", 3},
        {AUTH_TYPE_MD5, 'p', "pencil", 7},
        {AUTH_TYPE_SCRAM, 'p', "", 0},
        {AUTH_TYPE_SCRAM, 'p', "SCRAM-SHA-1\0\0\0\0\0", 16},
        {AUTH_TYPE_SCRAM, 'p', "SCRAM-SHA-256\0\xff\xff\xff\xff", 18}, /* no data at all */
        {AUTH_TYPE_SCRAM, 'p', "SCRAM-SHA-256\0\0\0\0\x05n,,n=", 23},
        {AUTH_TYPE_SCRAM, 'p', "SCRAM-SHA-256\0\0\0\1\0n,,n=", 23}, /* length lies */
        {AUTH_TYPE_SCRAM, 'p', "SCRAM-SHA-256-PLUS\0\0\0\0\0", 23}, /* not offered */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf reply = {.max = 4096};
        struct auth *a = a_login_begun(cases[i].type, &reply);
        struct err err = {.text = ""};
        const struct wire_msg msg = {.type = cases[i].msg_type,
                                     .how = WIRE_WHOLE,
                                     .body_n = (uint32_t)cases[i].body_n,
                                     .body = view_of(cases[i].body, cases[i].body_n)};
        assert_int_equal(auth_answer(a, &msg, &reply, &err), AUTH_FAILED);
        assert_true(err.text[0]);
        assert_int_equal(auth_answer(a, &msg, &reply, &err), AUTH_FAILED); /* it is over */
        auth_end(a);
        free(a);
        buf_free(&reply);
    }
}

static void an_answer_after_success_fails(void **state)
{
    struct buf reply = {.max = 4096};
    struct auth *a = a_login_begun(AUTH_TYPE_PLAIN, &reply);
    const struct wire_msg msg = {
        .type = 'p', .how = WIRE_WHOLE, .body_n = 7, .body = view_of("pencil", 7)};
    struct err err;

    (void)state;
    assert_int_equal(auth_answer(a, &msg, &reply, &err), AUTH_OK);
    assert_int_equal(auth_answer(a, &msg, &reply, &err), AUTH_FAILED);
    free(a);
    buf_free(&reply);
}

static void a_full_buffer_is_an_error_not_a_crash(void **state)
{
    static const enum config_auth_type types[] = {AUTH_TYPE_PLAIN, AUTH_TYPE_MD5, AUTH_TYPE_SCRAM};
    struct auth *a = malloc(sizeof(*a));

    (void)state;
    assert_non_null(a);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct buf reply = {.max = 4};
        struct err err;
        const struct auth_opts opts = {.type = types[i],
                                       .user = "user",
                                       .secret = "pencil",
                                       .process_key = process_key,
                                       .random = random_bytes};
        assert_int_equal(auth_begin(a, &opts, &reply, &err), AUTH_FAILED);
        assert_string_equal(err.sqlstate, "53200");
        buf_free(&reply);
    }
    free(a);
}

static void methods_decided_elsewhere_are_refused(void **state)
{
    static const enum config_auth_type types[] = {AUTH_TYPE_HBA, AUTH_TYPE_LDAP, AUTH_TYPE_PAM};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        const struct auth_opts opts = {.type = types[i], .user = "user", .secret = "pencil"};
        struct outcome o = login(&opts, &(struct client){.password = "pencil"});
        assert_int_equal(o.verdict, AUTH_FAILED);
        assert_string_equal(o.err.sqlstate, "0A000");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_accept_the_secrets_they_can),
        cmocka_unit_test(an_empty_secret_fits_no_password),
        cmocka_unit_test(trust_wants_a_known_user),
        cmocka_unit_test(a_certificate_must_name_the_user),
        cmocka_unit_test(an_unknown_user_looks_like_a_wrong_password),
        cmocka_unit_test(unknown_users_have_salts_of_their_own),
        cmocka_unit_test(names_and_secrets_beyond_the_limits_are_unknown),
        cmocka_unit_test(channels_are_bound_where_both_can),
        cmocka_unit_test(another_channel_is_refused),
        cmocka_unit_test(keys_log_in_to_a_server_with_the_same_secret),
        cmocka_unit_test(what_was_derived_is_kept_and_guesses_are_not),
        cmocka_unit_test(a_changed_password_counts_at_once),
        cmocka_unit_test(the_cache_stays_within_its_bounds),
        cmocka_unit_test(broken_answers_fail_and_end_it),
        cmocka_unit_test(an_answer_after_success_fails),
        cmocka_unit_test(a_full_buffer_is_an_error_not_a_crash),
        cmocka_unit_test(methods_decided_elsewhere_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
