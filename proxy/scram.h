/* Proof of passwords: SCRAM-SHA-256 (RFC 5802, 7677) as server and as client, and md5.
 *
 * Pure: nonces and salts are arguments. Every message is text; replies lie in `message` of the
 * exchange they belong to. Passwords that are not ASCII are used as the bytes they are: that is
 * what PostgreSQL and libpq do where SASLprep cannot be applied; a password SASLprep would change
 * (a full-width digit, say) must be given in its prepared form.
 *
 * Work is bounded: iteration counts of both sides are capped by SCRAM_ITERATIONS_MAX, messages by
 * SCRAM_MESSAGE_MAX. Deriving a key from a password costs 4,096 iterations (a millisecond or two)
 * as a rule: keep the struct scram_secret or scram_keys that comes out and no login pays twice.
 */
#ifndef PROXY_SCRAM_H
#define PROXY_SCRAM_H

#include "breaker/base.h"
#include "proxy/view.h"

enum {
    SCRAM_KEY_BYTES = 32,
    SCRAM_NONCE_BYTES = 18,    /* PostgreSQL's; a multiple of 3, so base64 of it has no padding */
    SCRAM_SALT_BYTES = 16,     /* of the salts we make */
    SCRAM_SALT_BYTES_MAX = 64, /* of the salts we accept */
    SCRAM_ITERATIONS_DEFAULT = 4096,
    SCRAM_ITERATIONS_MAX = 600000, /* what OWASP recommends for PBKDF2; 0.12 s of one core with SHA
                                    * instructions, so the most a peer can cost a worker at once */
    SCRAM_MESSAGE_MAX = 1024,      /* PostgreSQL's limit for SASL messages as well */
    SCRAM_BINDING_BYTES_MAX = 64,  /* tls-server-end-point: a hash up to SHA-512 */
    SCRAM_PASSWORD_MAX = 16384,    /* wire.h lets no longer one in */
    SCRAM_MD5_TEXT_BYTES = 36,     /* "md5", 32 hex digits, NUL */
};

#define SCRAM_MECHANISM "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"

enum scram_verdict {
    SCRAM_OK,
    SCRAM_BAD,     /* not SCRAM, or not for us: malformed, wrong nonce, limits, channel binding */
    SCRAM_REFUSED, /* well-formed, but the proof (or the server's signature) is wrong */
};

/* What a server stores: SCRAM-SHA-256$iterations:salt$stored_key:server_key */
struct scram_secret {
    uint32_t iterations;
    uint32_t salt_n;
    uint8_t salt[SCRAM_SALT_BYTES_MAX];
    uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

/* What a client needs of a password, for one salt and count. Zero `iterations`: nothing known. */
struct scram_keys {
    uint32_t iterations;
    uint32_t salt_n;
    uint8_t salt[SCRAM_SALT_BYTES_MAX];
    uint8_t client_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

/* The connection's tls-server-end-point data; bytes_n 0 where there is none. */
struct scram_binding {
    uint32_t bytes_n;
    uint8_t bytes[SCRAM_BINDING_BYTES_MAX];
};

/* ---- secrets ----------------------------------------------------------------------------- */

MUST_USE bool scram_secret_parse(const char *text, struct scram_secret *out);
/* From a plain password; false when a limit is exceeded or OpenSSL refuses. */
MUST_USE bool scram_secret_make(const char *password, struct view salt, uint32_t iterations,
                                struct scram_secret *out);
/* For a user we do not know: looks real, stays the same for the life of the process key, and no
 * proof fits it. */
MUST_USE bool scram_secret_mock(const uint8_t process_key[SCRAM_KEY_BYTES], const char *user,
                                uint32_t iterations, struct scram_secret *out);
/* A password that came in clear against a stored secret of any kind: plain, md5...,
 * SCRAM-SHA-256$... */
MUST_USE bool scram_password_matches(const char *password, const char *user, const char *secret);

/* ---- we are the server ------------------------------------------------------------------- */

/* Lives from the first to the last message of one login. */
struct scram_server {
    struct scram_secret secret;   /* set by the caller */
    struct scram_binding binding; /* set by the caller */
    bool plus;                    /* set by the caller: the client chose SCRAM_MECHANISM_PLUS */
    bool binding_offered; /* set by the caller: we listed SCRAM_MECHANISM_PLUS; a client that says
                           * we did not ('y') is being attacked */
    char message[SCRAM_MESSAGE_MAX + 1]; /* reply of the last step */
    size_t message_n;
    struct scram_keys keys; /* after SCRAM_OK of the last step: for logging in to a server whose
                             * stored secret is the same */
    /* its own */
    char first_bare[SCRAM_MESSAGE_MAX + 1]; /* client-first-message-bare */
    char server_first[SCRAM_MESSAGE_MAX + 1];
    char nonce[SCRAM_MESSAGE_MAX + 1]; /* client's and ours */
    char gs2[8 + SCRAM_MESSAGE_MAX];   /* gs2-header */
};

/* Takes the client-first-message, makes the server-first-message. */
MUST_USE enum scram_verdict scram_server_first(struct scram_server *s, struct view in,
                                               const uint8_t nonce[SCRAM_NONCE_BYTES]);
/* Takes the client-final-message, checks the proof, makes the server-final-message. */
MUST_USE enum scram_verdict scram_server_final(struct scram_server *s, struct view in);

/* ---- we are the client ------------------------------------------------------------------- */

struct scram_client {
    const char *password; /* set by the caller; may be NULL when keys are known */
    struct scram_keys
        keys; /* set by the caller where known, else zero; afterwards what was derived */
    struct scram_binding
        binding; /* set by the caller; with bytes the PLUS mechanism must be named */
    char message[SCRAM_MESSAGE_MAX + 1]; /* what to send */
    size_t message_n;
    /* its own */
    char nonce[SCRAM_NONCE_BYTES / 3 * 4 + 1];
    char first_bare[SCRAM_NONCE_BYTES / 3 * 4 + 8];
    uint8_t server_signature[SCRAM_KEY_BYTES];
};

/* Makes the client-first-message. PostgreSQL ignores the user name in it: that of the startup
 * counts. */
MUST_USE enum scram_verdict scram_client_first(struct scram_client *c,
                                               const uint8_t nonce[SCRAM_NONCE_BYTES]);
/* Takes the server-first-message, makes the client-final-message. */
MUST_USE enum scram_verdict scram_client_final(struct scram_client *c, struct view in);
/* Takes the server-final-message: SCRAM_REFUSED when the server does not know our secret either. */
MUST_USE enum scram_verdict scram_client_verify(struct scram_client *c, struct view in);

/* ---- md5 --------------------------------------------------------------------------------- */

/* "md5" and the hash of password and user: what auth_file stores. */
MUST_USE bool scram_md5_secret(const char *password, const char *user,
                               char out[SCRAM_MD5_TEXT_BYTES]);
/* The answer to an md5 request, from a stored secret "md5...". */
MUST_USE bool scram_md5_answer(const char *secret, const uint8_t salt[4],
                               char out[SCRAM_MD5_TEXT_BYTES]);
/* A client's answer against a secret that is plain or md5. */
MUST_USE bool scram_md5_matches(const char *answer, const char *user, const char *secret,
                                const uint8_t salt[4]);

#endif
