/* Bytes as each message of a SCRAM login and as stored secrets. The nonces are fixed, so that the
 * fuzzer can learn them; the client has its keys already, so that no run derives any. */
#include "proxy/scram.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t nonce_a[SCRAM_NONCE_BYTES] = "client's nonce 18";
static const uint8_t nonce_b[SCRAM_NONCE_BYTES] = "server's nonce 18";

/* Keys whose stored form is never met: a login that succeeds would be a forgery. */
static const struct scram_secret secret = {
    .iterations = 4096, .salt_n = 4, .salt = "salt", .stored_key = {1}, .server_key = {2}};

static void run_server(struct view in, bool plus)
{
    struct scram_server s = {.secret = secret, .plus = plus, .binding_offered = plus};
    size_t first_n = in.n;

    s.binding.bytes_n = plus ? 32 : 0;
    /* a NUL parts the two messages */
    const uint8_t *nul = in.n > 0 ? memchr(in.at, 0, in.n) : NULL;
    if (nul)
        first_n = (size_t)(nul - in.at);
    if (scram_server_first(&s, view_take_bytes(&in, first_n), nonce_b) != SCRAM_OK)
        return;
    must(s.message_n > 0 && s.message_n <= SCRAM_MESSAGE_MAX);
    must(strlen(s.message) == s.message_n);
    if (nul)
        (void)view_take_u8(&in);
    must(scram_server_final(&s, in) != SCRAM_OK);
    must(s.message_n == 0 && s.keys.iterations == 0);
}

static void run_client(struct view in)
{
    struct scram_client c = {.keys = {.iterations = 4096, .salt_n = 4, .salt = "salt"}};
    static const char good[] = "r=Y2xpZW50J3Mgbm9uY2UgMTgAxyz,s=c2FsdA==,i=4096";

    must(scram_client_first(&c, nonce_a) == SCRAM_OK);
    if (scram_client_final(&c, in) == SCRAM_OK)
        must(strlen(c.message) == c.message_n && c.message_n <= SCRAM_MESSAGE_MAX);
    struct scram_client late = {.keys = c.keys};
    must(scram_client_first(&late, nonce_a) == SCRAM_OK);
    must(scram_client_final(&late, view_of_cstr(good)) == SCRAM_OK);
    (void)scram_client_verify(&late, in);
}

static void run_secrets(struct view in)
{
    char *text = malloc(in.n + 1);
    struct scram_secret parsed;
    uint8_t salt[4] = {1, 2, 3, 4};
    char md5[SCRAM_MD5_TEXT_BYTES];

    memcpy(text, in.at, in.n);
    text[in.n] = 0;
    if (scram_secret_parse(text, &parsed))
        must(parsed.iterations > 0 && parsed.iterations <= SCRAM_ITERATIONS_MAX &&
             parsed.salt_n > 0 && parsed.salt_n <= SCRAM_SALT_BYTES_MAX);
    (void)scram_md5_answer(text, salt, md5);
    (void)scram_md5_matches(text, "user", "secret", salt);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct view in = view_of(data + 1, n - 1);
    switch (data[0] % 4) {
    case 0:
        run_server(in, false);
        break;
    case 1:
        run_server(in, true);
        break;
    case 2:
        run_client(in);
        break;
    default:
        run_secrets(in);
        break;
    }
    return 0;
}
