/* Authentication of one client, as a state machine over messages: no socket, no clock, no dice.
 *
 *   auth_begin --AUTH_MORE--> (send reply, wait for 'p') --> auth_answer --AUTH_MORE--> ...
 *        |                                                        |
 *        +-> AUTH_OK, AUTH_FAILED                                 +-> AUTH_OK, AUTH_FAILED
 *
 * A user nobody knows is asked and refused exactly as one with a wrong password: same messages,
 * same text. Keys derived from plain secrets are kept in a bounded cache of the process, so that a
 * storm of logins does not pay for 4,096 rounds each time. */
#ifndef PROXY_AUTH_H
#define PROXY_AUTH_H

#include "breaker/base.h"
#include "config/config.h"
#include "config/users.h"
#include "proxy/buf.h"
#include "proxy/scram.h"
#include "proxy/wire.h"

enum {
    AUTH_RANDOM_BYTES = SCRAM_NONCE_BYTES + 4, /* nonce and md5 salt */
};

enum auth_verdict {
    AUTH_MORE,   /* send the reply; the client's next message belongs to auth_answer() */
    AUTH_OK,     /* send the reply (perhaps empty); AuthenticationOk is the caller's to put */
    AUTH_FAILED, /* send err as FATAL and close */
};

/* auth.c's own: what the next message must be. */
enum auth_step {
    AUTH_STEP_DONE, /* none is expected any more */
    AUTH_STEP_PLAIN,
    AUTH_STEP_MD5,
    AUTH_STEP_SASL_FIRST, /* the mechanism and the client-first-message */
    AUTH_STEP_SASL_FINAL,
};

struct auth_opts {
    enum config_auth_type type; /* any, trust, plain, md5, scram-sha-256, cert */
    const char *user;
    const char *secret;    /* as auth_file has it; NULL: nobody knows this user */
    const char *cert_name; /* common name of the verified client certificate, or NULL; for cert */
    const struct scram_binding *binding; /* of our certificate, over TLS; else NULL */
    const uint8_t *process_key;          /* SCRAM_KEY_BYTES, the same for the process's life */
    uint32_t scram_iterations;           /* of secrets made here, real or mock */
    bool unknown_as_scram; /* with md5 and plain: a user nobody knows is treated as if his secret
                            * was SCRAM's. Set it where most secrets are, so that he does not stand
                            * out */
    const uint8_t *random; /* AUTH_RANDOM_BYTES fresh ones, from getrandom() */
};

/* The caller's, for as long as a login takes; about 8 KiB. */
struct auth {
    struct scram_keys keys; /* after AUTH_OK by SCRAM: to log in to a server with the same stored
                             * secret. Else iterations is 0 */
    /* its own */
    enum auth_step step;
    bool doomed;      /* no answer is right: unknown user, or a secret no answer can fit */
    bool check_scram; /* a password in clear is checked against scram.secret */
    bool plus_offered;
    char user[CONFIG_USER_NAME_MAX + 1];
    char secret[USERS_SECRET_MAX + 1];
    uint8_t md5_salt[4], nonce[SCRAM_NONCE_BYTES], process_key[SCRAM_KEY_BYTES];
    struct scram_server scram;
};

/* Starts over in *a, whatever it was. reply's max must leave room for SCRAM_MESSAGE_MAX + 64. */
MUST_USE enum auth_verdict auth_begin(struct auth *a, const struct auth_opts *opts,
                                      struct buf *reply, struct err *err);
/* msg: a whole message of the client; any type (anything but 'p' fails). */
MUST_USE enum auth_verdict auth_answer(struct auth *a, const struct wire_msg *msg,
                                       struct buf *reply, struct err *err);
/* Wipes it. The memory stays the caller's. */
void auth_end(struct auth *a);

#endif
