/* Messages, as RFC 5802 names them (libpq leaves the user name empty):
 *
 *      client-first   n,,n=,r=CNONCE                 gs2 header "n,," and client-first-bare
 *      server-first   r=CNONCE SNONCE,s=SALT,i=N
 *      client-final   c=biws,r=CNONCE SNONCE,p=PROOF
 *      server-final   v=SIGNATURE, or e=error
 *
 *      SaltedPassword  = PBKDF2(password, SALT, N)
 *      ClientKey       = HMAC(SaltedPassword, "Client Key")    StoredKey = SHA256(ClientKey)
 *      ServerKey       = HMAC(SaltedPassword, "Server Key")
 *      AuthMessage     = client-first-bare , server-first , client-final without its proof
 *      PROOF           = ClientKey xor HMAC(StoredKey, AuthMessage)
 *      SIGNATURE       = HMAC(ServerKey, AuthMessage)
 *
 * Who has seen one valid proof has the ClientKey, and may log in wherever the same secret is
 * stored.
 */
#include "proxy/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#define END_POINT "tls-server-end-point"
#define SECRET_PREFIX "SCRAM-SHA-256$"

enum { KEY_TEXT_BYTES = 44 }; /* base64 of 32 bytes */

/* ---- text -------------------------------------------------------------------------------- */

/* Text put together in a caller's array; always ends with a NUL that n does not count. */
struct text {
    char *at;
    size_t n, cap;
    bool bad; /* did not fit */
};

static struct text text_in(char *at, size_t cap)
{
    must(cap > 0);
    at[0] = 0;
    return (struct text){.at = at, .n = 0, .cap = cap, .bad = false};
}

static void text_put(struct text *t, struct view v)
{
    if (t->bad || v.bad || v.n >= t->cap - t->n) {
        t->bad = true;
        return;
    }
    if (v.n > 0)
        memcpy(t->at + t->n, v.at, v.n);
    t->n += v.n;
    t->at[t->n] = 0;
}

static void text_put_cstr(struct text *t, const char *text)
{
    text_put(t, view_of_cstr(text));
}

static void text_put_base64(struct text *t, struct view v)
{
    char encoded[(SCRAM_MESSAGE_MAX + SCRAM_BINDING_BYTES_MAX) / 3 * 4 + 8];

    if (v.bad || v.n > SCRAM_MESSAGE_MAX + SCRAM_BINDING_BYTES_MAX) {
        t->bad = true;
        return;
    }
    int n = EVP_EncodeBlock((unsigned char *)encoded, v.at, (int)v.n);
    text_put(t, view_of(encoded, (size_t)n));
}

static bool view_is(struct view v, const char *text, size_t text_n)
{
    return !v.bad && v.n == text_n && CRYPTO_memcmp(v.at, text, text_n) == 0;
}

/* Canonical base64 only: what comes out must encode to what came in, so no spaces, no stray
 * padding. */
static bool base64_decode(struct view text, uint8_t *out, size_t cap, size_t *n_out)
{
    uint8_t raw[SCRAM_SALT_BYTES_MAX + 3];
    char again[(SCRAM_SALT_BYTES_MAX + 3) / 3 * 4 + 1];
    size_t padding = 0;

    must(cap <= SCRAM_SALT_BYTES_MAX);
    if (text.bad || text.n == 0 || text.n % 4 != 0 || text.n >= sizeof(again))
        return false;
    int raw_n = EVP_DecodeBlock(raw, text.at, (int)text.n);
    if (raw_n < 0)
        return false;
    while (padding < 2 && text.at[text.n - 1 - padding] == '=')
        padding++;
    *n_out = (size_t)raw_n - padding;
    if (*n_out == 0 || *n_out > cap)
        return false;
    int again_n = EVP_EncodeBlock((unsigned char *)again, raw, (int)*n_out);
    if (!view_is(text, again, (size_t)again_n))
        return false;
    memcpy(out, raw, *n_out);
    return true;
}

static bool base64_key(struct view text, uint8_t key[SCRAM_KEY_BYTES])
{
    size_t n;

    return base64_decode(text, key, SCRAM_KEY_BYTES, &n) && n == SCRAM_KEY_BYTES;
}

static bool decimal(struct view text, uint32_t max, uint32_t *out)
{
    uint32_t value = 0;

    if (text.bad || text.n == 0 || text.n > 9) /* nine digits fit */
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text.at[i] - '0');
    }
    *out = value;
    return value >= 1 && value <= max;
}

/* What stands before the next `delimiter`, which is dropped, or before the end. */
static struct view view_take_until(struct view *v, char delimiter)
{
    const uint8_t *found = v->bad || v->n == 0 ? NULL : memchr(v->at, delimiter, v->n);

    if (!found)
        return view_take_bytes(v, v->n);
    struct view taken = view_take_bytes(v, (size_t)(found - v->at));
    (void)view_take_u8(v);
    return taken;
}

/* The attribute that must come next: LETTER=VALUE up to a comma. */
static struct view view_take_attribute(struct view *v, char letter)
{
    if (view_take_u8(v) != (uint8_t)letter || view_take_u8(v) != '=')
        v->bad = true;
    if (v->bad)
        return (struct view){.at = v->at, .n = 0, .bad = true};
    return view_take_until(v, ',');
}

/* Printable, and no comma: the nonces' alphabet. */
static bool is_nonce(struct view v)
{
    if (v.bad || v.n == 0)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (v.at[i] < 0x21 || v.at[i] > 0x7e || v.at[i] == ',')
            return false;
    }
    return true;
}

/* No message is empty, holds a NUL, or announces one more attribute and ends. */
static bool is_message(struct view v)
{
    return !v.bad && v.n > 0 && v.n <= SCRAM_MESSAGE_MAX && !memchr(v.at, 0, v.n) &&
           v.at[v.n - 1] != ',';
}

/* ---- keys -------------------------------------------------------------------------------- */

static bool hmac(const uint8_t key[SCRAM_KEY_BYTES], struct view data, uint8_t out[SCRAM_KEY_BYTES])
{
    unsigned n = 0;

    return HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, data.at, data.n, out, &n) &&
           n == SCRAM_KEY_BYTES;
}

static bool sha256(struct view data, uint8_t out[SCRAM_KEY_BYTES])
{
    unsigned n = 0;

    return EVP_Digest(data.at, data.n, out, &n, EVP_sha256(), NULL) && n == SCRAM_KEY_BYTES;
}

static bool keys_derive(const char *password, struct view salt, uint32_t iterations,
                        struct scram_keys *out)
{
    uint8_t salted[SCRAM_KEY_BYTES];
    size_t password_n = strlen(password);
    bool ok;

    if (password_n == 0 || password_n > SCRAM_PASSWORD_MAX || salt.bad || salt.n == 0 ||
        salt.n > SCRAM_SALT_BYTES_MAX || iterations == 0 || iterations > SCRAM_ITERATIONS_MAX)
        return false;
    ok = PKCS5_PBKDF2_HMAC(password, (int)password_n, salt.at, (int)salt.n, (int)iterations,
                           EVP_sha256(), SCRAM_KEY_BYTES, salted) &&
         hmac(salted, view_of_cstr("Client Key"), out->client_key) &&
         hmac(salted, view_of_cstr("Server Key"), out->server_key);
    out->iterations = ok ? iterations : 0;
    out->salt_n = (uint32_t)salt.n;
    memcpy(out->salt, salt.at, salt.n);
    OPENSSL_cleanse(salted, sizeof(salted));
    return ok;
}

bool scram_secret_make(const char *password, struct view salt, uint32_t iterations,
                       struct scram_secret *out)
{
    struct scram_keys keys = {0};
    bool ok;

    *out = (struct scram_secret){0};
    ok = keys_derive(password, salt, iterations, &keys) &&
         sha256(view_of(keys.client_key, SCRAM_KEY_BYTES), out->stored_key);
    if (ok) {
        out->iterations = iterations;
        out->salt_n = keys.salt_n;
        memcpy(out->salt, keys.salt, keys.salt_n);
        memcpy(out->server_key, keys.server_key, SCRAM_KEY_BYTES);
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    return ok;
}

bool scram_secret_parse(const char *text, struct scram_secret *out)
{
    struct view v = view_of_cstr(text);
    size_t salt_n = 0;

    *out = (struct scram_secret){0};
    if (strncmp(text, SECRET_PREFIX, strlen(SECRET_PREFIX)) != 0)
        return false;
    (void)view_take_bytes(&v, strlen(SECRET_PREFIX));
    if (!decimal(view_take_until(&v, ':'), SCRAM_ITERATIONS_MAX, &out->iterations) ||
        !base64_decode(view_take_until(&v, '$'), out->salt, sizeof(out->salt), &salt_n) ||
        !base64_key(view_take_until(&v, ':'), out->stored_key) || !base64_key(v, out->server_key)) {
        *out = (struct scram_secret){0};
        return false;
    }
    out->salt_n = (uint32_t)salt_n;
    return true;
}

bool scram_secret_mock(const uint8_t process_key[SCRAM_KEY_BYTES], const char *user,
                       uint32_t iterations, struct scram_secret *out)
{
    uint8_t user_key[SCRAM_KEY_BYTES], salt[SCRAM_KEY_BYTES];
    bool ok;

    must(iterations > 0 && iterations <= SCRAM_ITERATIONS_MAX);
    *out = (struct scram_secret){.iterations = iterations, .salt_n = SCRAM_SALT_BYTES};
    ok = hmac(process_key, view_of_cstr(user), user_key) &&
         hmac(user_key, view_of_cstr("salt"), salt) &&
         hmac(user_key, view_of_cstr("stored"), out->stored_key) &&
         hmac(user_key, view_of_cstr("server"), out->server_key);
    memcpy(out->salt, salt, SCRAM_SALT_BYTES);
    OPENSSL_cleanse(user_key, sizeof(user_key));
    return ok;
}

/* ---- we are the server ------------------------------------------------------------------- */

/* The gs2 header: does the client bind the channel, and as we expect? */
static bool server_gs2(struct scram_server *s, struct view *in)
{
    struct text gs2 = text_in(s->gs2, sizeof(s->gs2));
    const uint8_t *begin = in->at;
    struct view flag = view_take_until(in, ',');
    struct view authzid = view_take_until(in, ',');

    if (flag.bad || flag.n == 0 || authzid.bad || authzid.n > 0)
        return false; /* acting for somebody else is nothing PostgreSQL offers */
    text_put(&gs2, view_of(begin, (size_t)(in->at - begin)));
    switch (flag.at[0]) {
    case 'n':
        return flag.n == 1 && !s->plus && !gs2.bad;
    case 'y': /* "you do not offer binding": if we do, someone took it out of our list */
        return flag.n == 1 && !s->plus && !s->binding_offered && !gs2.bad;
    case 'p':
        return view_is(flag, "p=" END_POINT, strlen("p=" END_POINT)) && s->plus &&
               s->binding.bytes_n > 0 && !gs2.bad;
    default:
        return false;
    }
}

enum scram_verdict scram_server_first(struct scram_server *s, struct view in,
                                      const uint8_t nonce[SCRAM_NONCE_BYTES])
{
    struct text bare = text_in(s->first_bare, sizeof(s->first_bare));
    struct text both = text_in(s->nonce, sizeof(s->nonce));
    struct text reply = text_in(s->server_first, sizeof(s->server_first));
    struct view user, client_nonce;
    char iterations[16];

    must(s->secret.iterations > 0 && s->secret.salt_n > 0);
    must(s->binding.bytes_n <= SCRAM_BINDING_BYTES_MAX);
    s->message_n = 0;
    if (!is_message(in) || !server_gs2(s, &in))
        return SCRAM_BAD;
    text_put(&bare, in);
    user = view_take_attribute(&in, 'n'); /* "m=", a mandatory extension, ends here as well */
    client_nonce = view_take_attribute(&in, 'r');
    if (user.bad || !is_nonce(client_nonce) || bare.bad)
        return SCRAM_BAD;
    text_put(&both, client_nonce);
    text_put_base64(&both, view_of(nonce, SCRAM_NONCE_BYTES));
    (void)snprintf(iterations, sizeof(iterations), ",i=%u", s->secret.iterations);
    text_put_cstr(&reply, "r=");
    text_put(&reply, view_of(both.at, both.n));
    text_put_cstr(&reply, ",s=");
    text_put_base64(&reply, view_of(s->secret.salt, s->secret.salt_n));
    text_put_cstr(&reply, iterations);
    if (both.bad || reply.bad)
        return SCRAM_BAD;
    memcpy(s->message, reply.at, reply.n + 1);
    s->message_n = reply.n;
    return SCRAM_OK;
}

/* c= must hold the gs2 header of the first message, and the channel's data if it promised so. */
static bool server_binding_matches(const struct scram_server *s, struct view got)
{
    uint8_t raw[sizeof(s->gs2) + SCRAM_BINDING_BYTES_MAX];
    char encoded[sizeof(raw) / 3 * 4 + 8];
    struct text expected = text_in(encoded, sizeof(encoded));
    size_t gs2_n = strlen(s->gs2);

    memcpy(raw, s->gs2, gs2_n);
    if (s->plus) {
        memcpy(raw + gs2_n, s->binding.bytes, s->binding.bytes_n);
        gs2_n += s->binding.bytes_n;
    }
    text_put_base64(&expected, view_of(raw, gs2_n));
    return !expected.bad && view_is(got, expected.at, expected.n);
}

static struct view auth_message(char *at, size_t cap, const char *first_bare,
                                const char *server_first, struct view final_bare)
{
    struct text t = text_in(at, cap);

    text_put_cstr(&t, first_bare);
    text_put_cstr(&t, ",");
    text_put_cstr(&t, server_first);
    text_put_cstr(&t, ",");
    text_put(&t, final_bare);
    return (struct view){.at = (uint8_t *)t.at, .n = t.n, .bad = t.bad};
}

static enum scram_verdict server_check(struct scram_server *s, struct view message,
                                       const uint8_t proof[SCRAM_KEY_BYTES])
{
    uint8_t signature[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES];
    struct text reply = text_in(s->message, sizeof(s->message));

    if (message.bad || !hmac(s->secret.stored_key, message, signature))
        return SCRAM_BAD;
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        client_key[i] = proof[i] ^ signature[i];
    if (!sha256(view_of(client_key, SCRAM_KEY_BYTES), stored_key) ||
        !hmac(s->secret.server_key, message, signature))
        return SCRAM_BAD;
    if (CRYPTO_memcmp(stored_key, s->secret.stored_key, SCRAM_KEY_BYTES) != 0)
        return SCRAM_REFUSED;
    text_put_cstr(&reply, "v=");
    text_put_base64(&reply, view_of(signature, SCRAM_KEY_BYTES));
    must(!reply.bad);
    s->message_n = reply.n;
    s->keys = (struct scram_keys){.iterations = s->secret.iterations, .salt_n = s->secret.salt_n};
    memcpy(s->keys.salt, s->secret.salt, s->secret.salt_n);
    memcpy(s->keys.client_key, client_key, SCRAM_KEY_BYTES);
    memcpy(s->keys.server_key, s->secret.server_key, SCRAM_KEY_BYTES);
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return SCRAM_OK;
}

enum scram_verdict scram_server_final(struct scram_server *s, struct view in)
{
    char message[3 * SCRAM_MESSAGE_MAX + 3];
    uint8_t proof[SCRAM_KEY_BYTES];
    const uint8_t *begin = in.at;
    const uint8_t *bare_end;
    struct view binding, nonce;

    must(s->server_first[0] != 0);
    s->message_n = 0;
    s->message[0] = 0;
    if (!is_message(in))
        return SCRAM_BAD;
    binding = view_take_attribute(&in, 'c');
    nonce = view_take_attribute(&in, 'r');
    if (!server_binding_matches(s, binding) || !view_is(nonce, s->nonce, strlen(s->nonce)))
        return SCRAM_BAD;
    while (in.n > 0 && in.at[0] != 'p') /* extensions we do not know, and may ignore */
        (void)view_take_until(&in, ',');
    if (in.bad || in.n == 0)
        return SCRAM_BAD;
    bare_end = in.at - 1; /* the comma before the proof */
    if (!base64_key(view_take_attribute(&in, 'p'), proof) || in.n > 0)
        return SCRAM_BAD; /* the proof comes last */
    struct view final_bare = view_of(begin, (size_t)(bare_end - begin));
    return server_check(
        s, auth_message(message, sizeof(message), s->first_bare, s->server_first, final_bare),
        proof);
}

/* ---- we are the client ------------------------------------------------------------------- */

static void client_gs2(const struct scram_client *c, struct text *out)
{
    text_put_cstr(out, c->binding.bytes_n > 0 ? "p=" END_POINT ",," : "n,,");
}

enum scram_verdict scram_client_first(struct scram_client *c,
                                      const uint8_t nonce[SCRAM_NONCE_BYTES])
{
    struct text first = text_in(c->message, sizeof(c->message));
    struct text own = text_in(c->nonce, sizeof(c->nonce));
    struct text bare = text_in(c->first_bare, sizeof(c->first_bare));

    must(c->password || c->keys.iterations > 0);
    must(c->binding.bytes_n <= SCRAM_BINDING_BYTES_MAX);
    text_put_base64(&own, view_of(nonce, SCRAM_NONCE_BYTES));
    text_put_cstr(&bare, "n=,r=");
    text_put(&bare, view_of(own.at, own.n));
    client_gs2(c, &first);
    text_put(&first, view_of(bare.at, bare.n));
    must(!own.bad && !bare.bad && !first.bad);
    c->message_n = first.n;
    return SCRAM_OK;
}

/* The keys for this salt and count: known already, or derived from the password. */
static bool client_keys(struct scram_client *c, struct view salt, uint32_t iterations)
{
    struct scram_keys *k = &c->keys;

    must(salt.n <= SCRAM_SALT_BYTES_MAX);
    if (k->iterations == iterations && k->salt_n == salt.n && memcmp(k->salt, salt.at, salt.n) == 0)
        return true;
    return c->password && keys_derive(c->password, salt, iterations, k);
}

static bool client_proof(struct scram_client *c, struct view final_bare, const char *server_first,
                         uint8_t proof[SCRAM_KEY_BYTES])
{
    char at[3 * SCRAM_MESSAGE_MAX + 3];
    uint8_t stored_key[SCRAM_KEY_BYTES], signature[SCRAM_KEY_BYTES];
    struct view message = auth_message(at, sizeof(at), c->first_bare, server_first, final_bare);

    if (message.bad || !sha256(view_of(c->keys.client_key, SCRAM_KEY_BYTES), stored_key) ||
        !hmac(stored_key, message, signature) ||
        !hmac(c->keys.server_key, message, c->server_signature))
        return false;
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        proof[i] = c->keys.client_key[i] ^ signature[i];
    return true;
}

enum scram_verdict scram_client_final(struct scram_client *c, struct view in)
{
    uint8_t salt[SCRAM_SALT_BYTES_MAX], proof[SCRAM_KEY_BYTES];
    uint8_t bound[64 + SCRAM_BINDING_BYTES_MAX];
    char server_first[SCRAM_MESSAGE_MAX + 1];
    struct text kept = text_in(server_first, sizeof(server_first));
    struct text final = text_in(c->message, sizeof(c->message));
    struct text gs2 = text_in((char *)bound, 64);
    size_t nonce_n = strlen(c->nonce), salt_n;
    uint32_t iterations;

    must(nonce_n > 0);
    c->message_n = 0;
    if (!is_message(in))
        return SCRAM_BAD;
    text_put(&kept, in);
    struct view nonce = view_take_attribute(&in, 'r');
    struct view salt_text = view_take_attribute(&in, 's');
    struct view count = view_take_attribute(&in, 'i');
    if (!is_nonce(nonce) || nonce.n <= nonce_n || memcmp(nonce.at, c->nonce, nonce_n) != 0 ||
        !base64_decode(salt_text, salt, sizeof(salt), &salt_n) ||
        !decimal(count, SCRAM_ITERATIONS_MAX, &iterations) || in.n > 0)
        return SCRAM_BAD;
    if (!client_keys(c, view_of(salt, salt_n), iterations))
        return SCRAM_REFUSED;
    client_gs2(c, &gs2);
    if (c->binding.bytes_n > 0)
        memcpy(bound + gs2.n, c->binding.bytes, c->binding.bytes_n);
    text_put_cstr(&final, "c=");
    text_put_base64(&final, view_of(bound, gs2.n + c->binding.bytes_n));
    text_put_cstr(&final, ",r=");
    text_put(&final, nonce);
    if (final.bad || !client_proof(c, view_of(final.at, final.n), server_first, proof))
        return SCRAM_BAD;
    text_put_cstr(&final, ",p=");
    text_put_base64(&final, view_of(proof, SCRAM_KEY_BYTES));
    c->message_n = final.bad ? 0 : final.n;
    return final.bad ? SCRAM_BAD : SCRAM_OK;
}

enum scram_verdict scram_client_verify(struct scram_client *c, struct view in)
{
    uint8_t signature[SCRAM_KEY_BYTES];

    must(c->message_n > 0);
    if (!is_message(in))
        return SCRAM_BAD;
    if (in.n >= 2 && in.at[0] == 'e' && in.at[1] == '=')
        return SCRAM_REFUSED;
    if (!base64_key(view_take_attribute(&in, 'v'), signature))
        return SCRAM_BAD;
    return CRYPTO_memcmp(signature, c->server_signature, SCRAM_KEY_BYTES) == 0 ? SCRAM_OK
                                                                               : SCRAM_REFUSED;
}

/* ---- md5 and plain ----------------------------------------------------------------------- */

enum { MD5_BYTES = 16, MD5_HEX = 2 * MD5_BYTES };

/* "md5" and the hash of two texts in a row. */
static bool md5_text(struct view a, struct view b, char out[SCRAM_MD5_TEXT_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t digest[MD5_BYTES];
    unsigned n = 0;
    bool ok;

    /* OpenSSL in FIPS mode has no MD5: then nobody gets in by it. */
    ok = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) && EVP_DigestUpdate(ctx, a.at, a.n) &&
         EVP_DigestUpdate(ctx, b.at, b.n) && EVP_DigestFinal_ex(ctx, digest, &n) && n == MD5_BYTES;
    EVP_MD_CTX_free(ctx);
    out[0] = 0;
    if (!ok)
        return false;
    memcpy(out, "md5", 3);
    for (size_t i = 0; i < MD5_BYTES; i++) {
        out[3 + 2 * i] = hex[digest[i] >> 4];
        out[4 + 2 * i] = hex[digest[i] & 15];
    }
    out[3 + MD5_HEX] = 0;
    return true;
}

static bool is_md5_secret(const char *secret)
{
    return strncmp(secret, "md5", 3) == 0 && strlen(secret) == 3 + MD5_HEX &&
           strspn(secret + 3, "0123456789abcdef") == MD5_HEX;
}

/* Time depends on neither the place of the first difference nor the lengths. */
static bool texts_equal(const char *a, const char *b)
{
    uint8_t hash_a[SCRAM_KEY_BYTES], hash_b[SCRAM_KEY_BYTES];

    return sha256(view_of_cstr(a), hash_a) && sha256(view_of_cstr(b), hash_b) &&
           CRYPTO_memcmp(hash_a, hash_b, SCRAM_KEY_BYTES) == 0;
}

bool scram_md5_secret(const char *password, const char *user, char out[SCRAM_MD5_TEXT_BYTES])
{
    return md5_text(view_of_cstr(password), view_of_cstr(user), out);
}

bool scram_md5_answer(const char *secret, const uint8_t salt[4], char out[SCRAM_MD5_TEXT_BYTES])
{
    out[0] = 0;
    return is_md5_secret(secret) && md5_text(view_of(secret + 3, MD5_HEX), view_of(salt, 4), out);
}

bool scram_md5_matches(const char *answer, const char *user, const char *secret,
                       const uint8_t salt[4])
{
    char own[SCRAM_MD5_TEXT_BYTES], expected[SCRAM_MD5_TEXT_BYTES];
    struct scram_secret stored;

    if (secret[0] == 0 || scram_secret_parse(secret, &stored))
        return false; /* nothing stored, or nothing an md5 answer can be checked against */
    if (!is_md5_secret(secret)) {
        if (!scram_md5_secret(secret, user, own))
            return false;
        secret = own;
    }
    return scram_md5_answer(secret, salt, expected) && texts_equal(answer, expected);
}

bool scram_password_matches(const char *password, const char *user, const char *secret)
{
    struct scram_secret stored, made;
    char own[SCRAM_MD5_TEXT_BYTES];

    if (secret[0] == 0 || password[0] == 0)
        return false;
    if (scram_secret_parse(secret, &stored))
        return scram_secret_make(password, view_of(stored.salt, stored.salt_n), stored.iterations,
                                 &made) &&
               CRYPTO_memcmp(made.stored_key, stored.stored_key, SCRAM_KEY_BYTES) == 0;
    if (is_md5_secret(secret))
        return scram_md5_secret(password, user, own) && texts_equal(own, secret);
    return texts_equal(password, secret);
}
