#include "proxy/auth.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "proxy/auth_cache.h"

/* How a stored secret can be asked for. */
enum kind { KIND_NONE, KIND_PLAIN, KIND_MD5, KIND_SCRAM };

static enum kind kind_of(const char *secret, struct scram_secret *scram)
{
    if (!secret || strlen(secret) > USERS_SECRET_MAX)
        return KIND_NONE;
    if (scram_secret_parse(secret, scram))
        return KIND_SCRAM;
    switch (users_kind_of(secret)) {
    case USERS_PLAIN:
        return KIND_PLAIN;
    case USERS_MD5:
        return KIND_MD5;
    case USERS_NONE:
    case USERS_SCRAM: /* by its form, but beyond our limits */
        break;
    }
    return KIND_NONE;
}

/* The texts are PgBouncer's; log watchers know them. */
static enum auth_verdict refuse(struct auth *a, struct err *err, const char *sqlstate,
                                const char *text)
{
    a->step = AUTH_STEP_DONE;
    (void)err_set(err, sqlstate, "%s", text);
    return AUTH_FAILED;
}

static enum auth_verdict wrong_password(struct auth *a, struct err *err)
{
    return refuse(a, err, "28P01", "password authentication failed");
}

static enum auth_verdict no_memory(struct auth *a, struct err *err)
{
    return refuse(a, err, "53200", "out of memory");
}

static enum auth_verdict more(struct auth *a, enum auth_step next, bool put, struct err *err)
{
    if (!put)
        return no_memory(a, err);
    a->step = next;
    return AUTH_MORE;
}

/* ---- beginning ---------------------------------------------------------------------------------
 */

static uint32_t iterations_of(const struct auth_opts *opts)
{
    if (opts->scram_iterations == 0)
        return SCRAM_ITERATIONS_DEFAULT;
    return opts->scram_iterations < SCRAM_ITERATIONS_MAX ? opts->scram_iterations
                                                         : SCRAM_ITERATIONS_MAX;
}

static enum auth_verdict begin_sasl(struct auth *a, const struct auth_opts *opts, enum kind kind,
                                    struct buf *reply, struct err *err)
{
    static const char *const mechanisms[] = {SCRAM_MECHANISM_PLUS, SCRAM_MECHANISM};
    const struct auth_cache_ask ask = {.process_key = opts->process_key,
                                       .user = a->user,
                                       .password = a->secret,
                                       .iterations = iterations_of(opts)};
    bool made = true;

    if (kind == KIND_PLAIN) {
        made = auth_cache_secret(&ask, &a->scram.secret);
    } else if (kind != KIND_SCRAM) {
        a->doomed = true;
        made = scram_secret_mock(ask.process_key, ask.user, ask.iterations, &a->scram.secret);
    }
    OPENSSL_cleanse(a->secret, sizeof(a->secret));
    if (!made)
        return no_memory(a, err);
    a->plus_offered = opts->binding && opts->binding->bytes_n > 0;
    a->scram.binding_offered = a->plus_offered;
    if (a->plus_offered)
        a->scram.binding = *opts->binding;
    size_t first_i = a->plus_offered ? 0 : 1;
    return more(a, AUTH_STEP_SASL_FIRST,
                wire_put_auth_sasl(reply, mechanisms + first_i, 2 - first_i), err);
}

static enum auth_verdict begin_plain(struct auth *a, const struct auth_opts *opts, enum kind kind,
                                     struct buf *reply, struct err *err)
{
    a->doomed = kind == KIND_NONE;
    a->check_scram = kind == KIND_SCRAM || (a->doomed && opts->unknown_as_scram);
    if (a->check_scram && a->doomed &&
        !scram_secret_mock(opts->process_key, a->user, iterations_of(opts), &a->scram.secret))
        return no_memory(a, err);
    return more(a, AUTH_STEP_PLAIN, wire_put_auth(reply, WIRE_AUTH_CLEARTEXT, view_of("", 0)), err);
}

static enum auth_verdict begin_md5(struct auth *a, const struct auth_opts *opts, enum kind kind,
                                   struct buf *reply, struct err *err)
{
    if (kind == KIND_SCRAM || (kind == KIND_NONE && opts->unknown_as_scram))
        return begin_sasl(a, opts, kind, reply, err);
    a->doomed = kind == KIND_NONE;
    return more(a, AUTH_STEP_MD5, wire_put_auth(reply, WIRE_AUTH_MD5, view_of(a->md5_salt, 4)),
                err);
}

static enum auth_verdict check_certificate(struct auth *a, const struct auth_opts *opts,
                                           struct err *err)
{
    if (!opts->cert_name)
        return refuse(a, err, "28000", "TLS certificate required");
    if (strcmp(opts->cert_name, opts->user) != 0)
        return refuse(a, err, "28000", "TLS certificate name mismatch");
    return AUTH_OK;
}

enum auth_verdict auth_begin(struct auth *a, const struct auth_opts *opts, struct buf *reply,
                             struct err *err)
{
    enum kind kind;

    memset(a, 0, sizeof(*a));
    memcpy(a->nonce, opts->random, sizeof(a->nonce));
    memcpy(a->md5_salt, opts->random + sizeof(a->nonce), sizeof(a->md5_salt));
    memcpy(a->process_key, opts->process_key, sizeof(a->process_key));
    kind = kind_of(opts->secret, &a->scram.secret);
    size_t user_n = strlen(opts->user);
    if (user_n >= sizeof(a->user))
        kind = KIND_NONE; /* longer than any user there can be */
    memcpy(a->user, opts->user, user_n < sizeof(a->user) ? user_n : sizeof(a->user) - 1);
    if (kind != KIND_NONE)
        memcpy(a->secret, opts->secret, strlen(opts->secret) + 1);
    switch (opts->type) {
    case AUTH_TYPE_ANY:
        return AUTH_OK;
    case AUTH_TYPE_TRUST:
        return opts->secret ? AUTH_OK : refuse(a, err, "28000", "\"trust\" authentication failed");
    case AUTH_TYPE_CERT:
        return check_certificate(a, opts, err);
    case AUTH_TYPE_PLAIN:
        return begin_plain(a, opts, kind, reply, err);
    case AUTH_TYPE_MD5:
        return begin_md5(a, opts, kind, reply, err);
    case AUTH_TYPE_SCRAM:
        return begin_sasl(a, opts, kind, reply, err);
    case AUTH_TYPE_HBA:
    case AUTH_TYPE_LDAP:
    case AUTH_TYPE_PAM:
        break;
    }
    return refuse(a, err, "0A000", "this authentication method is not supported");
}

/* ---- answers -----------------------------------------------------------------------------------
 */

static enum auth_verdict answer_plain(struct auth *a, const struct wire_msg *msg, struct err *err)
{
    const char *password;
    bool fits;

    if (!wire_read_password(msg, &password))
        return refuse(a, err, "08P01", "malformed password message");
    /* Checked for users nobody knows as well: the time it takes must not tell. */
    if (a->check_scram) {
        const struct auth_cache_ask ask = {.process_key = a->process_key,
                                           .user = a->user,
                                           .password = password,
                                           .iterations = a->scram.secret.iterations};
        fits = password[0] && auth_cache_fits(&ask, &a->scram.secret);
    } else {
        fits = scram_password_matches(password, a->user, a->secret);
    }
    a->step = AUTH_STEP_DONE;
    return fits && !a->doomed ? AUTH_OK : wrong_password(a, err);
}

static enum auth_verdict answer_md5(struct auth *a, const struct wire_msg *msg, struct err *err)
{
    const char *answer;

    if (!wire_read_password(msg, &answer))
        return refuse(a, err, "08P01", "malformed password message");
    a->step = AUTH_STEP_DONE;
    if (!scram_md5_matches(answer, a->user, a->secret, a->md5_salt) || a->doomed)
        return wrong_password(a, err);
    return AUTH_OK;
}

static enum auth_verdict sasl_failed(struct auth *a, enum scram_verdict verdict, struct err *err)
{
    return refuse(a, err, verdict == SCRAM_REFUSED ? "28P01" : "08P01",
                  "SASL authentication failed");
}

static enum auth_verdict answer_sasl_first(struct auth *a, const struct wire_msg *msg,
                                           struct buf *reply, struct err *err)
{
    struct wire_sasl initial;
    enum scram_verdict verdict;

    if (!wire_read_sasl_initial(msg, &initial))
        return refuse(a, err, "08P01", "malformed SASLInitialResponse message");
    a->scram.plus = strcmp(initial.mechanism, SCRAM_MECHANISM_PLUS) == 0;
    if (a->scram.plus ? !a->plus_offered : strcmp(initial.mechanism, SCRAM_MECHANISM) != 0)
        return refuse(a, err, "08P01", "client selected an invalid SASL authentication mechanism");
    verdict = scram_server_first(&a->scram, initial.data, a->nonce);
    if (verdict != SCRAM_OK)
        return sasl_failed(a, verdict, err);
    return more(a, AUTH_STEP_SASL_FINAL,
                wire_put_auth(reply, WIRE_AUTH_SASL_CONTINUE,
                              view_of(a->scram.message, a->scram.message_n)),
                err);
}

static enum auth_verdict answer_sasl_final(struct auth *a, const struct wire_msg *msg,
                                           struct buf *reply, struct err *err)
{
    enum scram_verdict verdict = scram_server_final(&a->scram, msg->body);

    a->step = AUTH_STEP_DONE;
    if (verdict == SCRAM_OK && a->doomed)
        verdict = SCRAM_REFUSED;
    if (verdict != SCRAM_OK)
        return sasl_failed(a, verdict, err);
    if (!wire_put_auth(reply, WIRE_AUTH_SASL_FINAL, view_of(a->scram.message, a->scram.message_n)))
        return no_memory(a, err);
    a->keys = a->scram.keys;
    return AUTH_OK;
}

enum auth_verdict auth_answer(struct auth *a, const struct wire_msg *msg, struct buf *reply,
                              struct err *err)
{
    must(wire_is_whole(msg));
    if (msg->type != 'p') {
        a->step = AUTH_STEP_DONE;
        (void)err_set(err, "08P01", "expected password response, got message type %u", msg->type);
        return AUTH_FAILED;
    }
    switch (a->step) {
    case AUTH_STEP_PLAIN:
        return answer_plain(a, msg, err);
    case AUTH_STEP_MD5:
        return answer_md5(a, msg, err);
    case AUTH_STEP_SASL_FIRST:
        return answer_sasl_first(a, msg, reply, err);
    case AUTH_STEP_SASL_FINAL:
        return answer_sasl_final(a, msg, reply, err);
    case AUTH_STEP_DONE:
        break;
    }
    return refuse(a, err, "08P01", "unexpected password message");
}

void auth_end(struct auth *a)
{
    OPENSSL_cleanse(a, sizeof(*a));
}
