/* The messages of the PostgreSQL protocol, versions 3.0 and 3.2: framing, reading, writing.
 *
 * No I/O, no allocation while reading, no state, no direction: the caller says whose table applies.
 * A message is a type byte, a length that counts itself, and a body. Bodies are streamed, so a
 * message is "there" as soon as its table entry is satisfied:
 *
 *      WIRE_PASS   the header is enough; the body goes through unseen
 *      WIRE_PEEK   its first n bytes (or all, if it is shorter)
 *      WIRE_WHOLE  all of it; body_max is small
 *
 * Readers see msg.body, the part present, and never look past it. Strings they return lie in the
 * body and end with the NUL found there. Everything is strict: leftover bytes in a whole message
 * are bad.
 */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

#include "breaker/base.h"
#include "proxy/buf.h"
#include "proxy/view.h"

enum wire_verdict {
    WIRE_MORE, /* fine so far, bytes are missing */
    WIRE_OK,
    WIRE_BAD, /* not our protocol; nothing after this can be trusted */
};

enum {
    WIRE_HEADER_BYTES = 5,
    WIRE_STARTUP_BYTES_MAX = 10000, /* PostgreSQL's own limit */
    WIRE_SQL_PEEK = 8192, /* so much of a statement is looked at, always: a fingerprint must not
                           * depend on how the bytes were cut into segments */
    WIRE_NAME_MAX = 255,  /* statement and portal names; PostgreSQL cuts its own at 63 */
    WIRE_NAMES_PEEK = 2 * (WIRE_NAME_MAX + 1),
    WIRE_PASSWORD_MAX = 16384, /* a JWT or a cloud's IAM token; anybody may send one before login */
    WIRE_SMALL_MAX = 16384,    /* ParameterStatus and what else is kept whole: fits any scratch */
    WIRE_KEY_MAX = 256,        /* cancel key of protocol 3.2 */
    WIRE_OPTION_VALUE_MAX = 2047,
};

/* ---- framing ----------------------------------------------------------------------------- */

enum wire_how {
    WIRE_UNKNOWN = 0, /* no such message in this direction */
    WIRE_PASS,
    WIRE_PEEK,
    WIRE_WHOLE,
};

struct wire_rule {
    enum wire_how how;
    uint32_t need;               /* bytes of the body to have before it counts as there */
    uint32_t body_min, body_max; /* what a valid body may measure */
};

extern const struct wire_rule wire_from_client[256];
extern const struct wire_rule wire_from_server[256];

struct wire_msg {
    uint8_t type;
    enum wire_how how;
    uint32_t body_n;  /* of the whole message, wherever its bytes are */
    uint32_t need_n;  /* header and the bytes of the body WIRE_OK waits for; set once a header is
                       * there, 0 before: collect so many and ask again */
    struct view body; /* the part present; body.n <= body_n */
};

/* Looks at the first message in `in`. body_max caps it besides the table: the operator's limit. */
MUST_USE static inline enum wire_verdict wire_next(struct view in,
                                                   const struct wire_rule rules[256],
                                                   uint32_t body_max, struct wire_msg *msg)
{
    uint32_t length, need;

    if (in.n < WIRE_HEADER_BYTES) {
        msg->need_n = 0;
        return in.n > 0 && rules[in.at[0]].how == WIRE_UNKNOWN ? WIRE_BAD : WIRE_MORE;
    }
    const struct wire_rule *rule = &rules[in.at[0]];
    memcpy(&length, in.at + 1, sizeof(length));
    length = __builtin_bswap32(length);
    if (rule->how == WIRE_UNKNOWN || length < 4)
        return WIRE_BAD;
    length -= 4;
    if (length < rule->body_min || length > rule->body_max || length > body_max)
        return WIRE_BAD;
    need = length < rule->need ? length : rule->need;
    size_t present = in.n - WIRE_HEADER_BYTES;
    msg->type = in.at[0];
    msg->how = rule->how;
    msg->body_n = length;
    msg->need_n = WIRE_HEADER_BYTES + need;
    msg->body = view_of(in.at + WIRE_HEADER_BYTES, present < length ? present : length);
    return present < need ? WIRE_MORE : WIRE_OK;
}

/* All of the body is in msg->body. */
static inline bool wire_is_whole(const struct wire_msg *msg)
{
    return msg->body.n == msg->body_n;
}

/* ---- the first packet of a connection, which has no type --------------------------------- */

enum wire_hello {
    WIRE_HELLO_STARTUP, /* protocol 3.x; minor is set, params is the parameter list */
    WIRE_HELLO_SSL,
    WIRE_HELLO_GSS,
    WIRE_HELLO_CANCEL, /* pid and key are set */
    WIRE_HELLO_TLS,    /* a TLS handshake without asking first; packet_n is 0: nothing to take */
    WIRE_HELLO_ALIEN,  /* well framed, but another major version (2.0): deserves an ErrorResponse */
};

struct wire_startup {
    enum wire_hello hello;
    uint32_t packet_n; /* bytes the packet takes, its length word included; set with WIRE_MORE as
                        * well once known, else 0 */
    uint16_t major, minor;
    struct view params; /* for wire_param_next() */
    uint32_t pid;
    struct view key;
};

MUST_USE enum wire_verdict wire_startup(struct view in, struct wire_startup *out);

struct wire_param {
    const char *name, *value;
};
/* Takes the next parameter of a StartupMessage. False at the end; params->bad: a broken list. */
MUST_USE bool wire_param_next(struct view *params, struct wire_param *out);

/* One `-c name=value`, `-cname=value` or `--name=value` of the startup parameter `options`,
 * backslash escapes undone, dashes of the name turned into underscores as PostgreSQL does. */
struct wire_option {
    char name[64];
    char value[WIRE_OPTION_VALUE_MAX + 1];
};
/* False at the end; options->bad tells a switch that is neither, or one that is too long. */
MUST_USE bool wire_option_next(struct view *options, struct wire_option *out);

/* ---- readers: false means malformed ------------------------------------------------------ */

struct wire_pair { /* ParameterStatus */
    const char *name, *value;
};
struct wire_key { /* BackendKeyData */
    uint32_t pid;
    struct view key;
};
/* ErrorResponse and NoticeResponse. NULL: not there. A message that is not whole yields the fields
 * that are complete in the part present. */
struct wire_error {
    const char *severity; /* not localised (field V) where the server sends it, else field S */
    const char *sqlstate, *message, *detail, *hint;
};
enum wire_auth {
    WIRE_AUTH_OK = 0,
    WIRE_AUTH_KERBEROS = 2,
    WIRE_AUTH_CLEARTEXT = 3,
    WIRE_AUTH_MD5 = 5, /* data: 4 bytes of salt */
    WIRE_AUTH_GSS = 7,
    WIRE_AUTH_GSS_CONTINUE = 8,
    WIRE_AUTH_SSPI = 9,
    WIRE_AUTH_SASL = 10, /* data: mechanism names for wire_mechanism_next() */
    WIRE_AUTH_SASL_CONTINUE = 11,
    WIRE_AUTH_SASL_FINAL = 12,
};
struct wire_authentication {
    uint32_t code; /* enum wire_auth, or one we have not heard of */
    struct view data;
};
struct wire_parse {
    const char *name;
    size_t name_n;
    struct view rest; /* what follows the name, as far as present: text, NUL, types. Equal rests of
                       * whole messages are equal statements: key for interning, input for put */
    const char
        *text; /* at most WIRE_SQL_PEEK bytes of it, for sql_scan(); no NUL at text_n if cut */
    size_t text_n;
    bool text_cut;
    uint16_t types_n;  /* only when whole */
    struct view types; /* 4 bytes each; only when whole */
};
struct wire_bind {
    const char *portal, *statement;
    size_t statement_n;
    uint32_t tail_at; /* offset in the body of what follows the names: parameters, formats */
};
struct wire_target { /* Describe and Close */
    uint8_t kind;    /* 'S' statement, 'P' portal */
    const char *name;
    size_t name_n;
};
struct wire_execute {
    const char *portal;
    uint32_t rows_max;
};
struct wire_sasl { /* SASLInitialResponse */
    const char *mechanism;
    struct view data;
};
struct wire_negotiate { /* NegotiateProtocolVersion */
    uint32_t minor;
    uint32_t names_n;
    struct view names; /* for view_take_cstr() */
};
struct wire_text { /* of a Query */
    const char *text;
    size_t text_n; /* at most WIRE_SQL_PEEK; no NUL there if cut */
    bool cut;
};

MUST_USE bool wire_read_query(const struct wire_msg *m, struct wire_text *out);
MUST_USE bool wire_read_parse(const struct wire_msg *m, struct wire_parse *out);
MUST_USE bool wire_read_bind(const struct wire_msg *m, struct wire_bind *out);
MUST_USE bool wire_read_target(const struct wire_msg *m, struct wire_target *out);
MUST_USE bool wire_read_execute(const struct wire_msg *m, struct wire_execute *out);
/* PasswordMessage of the cleartext and md5 methods. */
MUST_USE bool wire_read_password(const struct wire_msg *m, const char **password);
/* A SASLResponse is its body; the first answer names the mechanism. */
MUST_USE bool wire_read_sasl_initial(const struct wire_msg *m, struct wire_sasl *out);

MUST_USE bool wire_read_authentication(const struct wire_msg *m, struct wire_authentication *out);
/* False at the end of the list; data->bad tells a broken one. */
MUST_USE bool wire_mechanism_next(struct view *data, const char **mechanism);
MUST_USE bool wire_read_parameter(const struct wire_msg *m, struct wire_pair *out);
MUST_USE bool wire_read_key(const struct wire_msg *m, struct wire_key *out);
MUST_USE bool wire_read_error(const struct wire_msg *m, struct wire_error *out);
/* 'I', 'T' or 'E'. */
MUST_USE bool wire_read_ready(const struct wire_msg *m, uint8_t *status);
MUST_USE bool wire_read_complete(const struct wire_msg *m, const char **tag);
MUST_USE bool wire_read_negotiate(const struct wire_msg *m, struct wire_negotiate *out);
/* DataRow and RowDescription are read column by column: their count, then wire_column_next(). */
MUST_USE bool wire_read_row(const struct wire_msg *m, uint16_t *columns_n, struct view *columns);
/* One value of a DataRow; *null for SQL's NULL. False: no more, or columns->bad. */
MUST_USE bool wire_value_next(struct view *columns, struct view *value, bool *null);
/* One column of a RowDescription. False: no more, or columns->bad. */
MUST_USE bool wire_column_next(struct view *columns, const char **name, uint32_t *type_oid);

/* ---- writers: the whole message or nothing; false means the buffer's limit --------------- */

/* Any message: type and finished body. */
MUST_USE bool wire_put_raw(struct buf *b, uint8_t type, struct view body);
/* Messages without a body: ParseComplete '1', BindComplete '2', CloseComplete '3', NoData 'n',
 * EmptyQueryResponse 'I', Sync 'S', Flush 'H', Terminate 'X', CopyDone 'c'. */
MUST_USE bool wire_put_empty(struct buf *b, uint8_t type);

/* to a client */
MUST_USE bool wire_put_auth(struct buf *b, enum wire_auth code, struct view data);
MUST_USE bool wire_put_auth_sasl(struct buf *b, const char *const *mechanisms, size_t n);
MUST_USE bool wire_put_parameter(struct buf *b, const char *name, const char *value);
MUST_USE bool wire_put_key(struct buf *b, uint32_t pid, struct view key);
MUST_USE bool wire_put_ready(struct buf *b, uint8_t status);
/* type is 'E' or 'N'; NULL fields are left out. */
MUST_USE bool wire_put_error(struct buf *b, uint8_t type, const struct wire_error *e);
MUST_USE bool wire_put_negotiate(struct buf *b, uint32_t minor, const char *const *names, size_t n);
MUST_USE bool wire_put_complete(struct buf *b, const char *tag);
enum { WIRE_OID_INT8 = 20, WIRE_OID_INT4 = 23, WIRE_OID_TEXT = 25 };
struct wire_column {
    const char *name;
    uint32_t type_oid;
};
MUST_USE bool wire_put_columns(struct buf *b, const struct wire_column *columns, uint16_t n);
/* NULL is SQL's NULL. */
MUST_USE bool wire_put_row(struct buf *b, const char *const *values, uint16_t n);

/* to a server */
MUST_USE bool wire_put_ssl_request(struct buf *b);
MUST_USE bool wire_put_cancel(struct buf *b, uint32_t pid, struct view key);
MUST_USE bool wire_put_startup(struct buf *b, uint16_t minor, const struct wire_param *params,
                               size_t n);
MUST_USE bool wire_put_password(struct buf *b, const char *password);
MUST_USE bool wire_put_sasl_initial(struct buf *b, const char *mechanism, struct view data);
MUST_USE bool wire_put_sasl_response(struct buf *b, struct view data);
MUST_USE bool wire_put_query(struct buf *b, const char *text);
/* rest is that of a whole wire_parse. */
MUST_USE bool wire_put_parse(struct buf *b, const char *name, struct view rest);
/* A statement whose types the server infers. */
MUST_USE bool wire_put_parse_text(struct buf *b, const char *name, const char *text);
/* Header and names of a Bind whose body is body_n bytes and was read as `bind`, under another
 * statement name: the bytes of its body from bind->tail_at on must follow, wherever they are by
 * then. */
MUST_USE bool wire_put_bind_head(struct buf *b, const struct wire_bind *bind, uint32_t body_n,
                                 const char *statement);
/* All parameters and results as text; NULL is SQL's NULL. */
MUST_USE bool wire_put_bind(struct buf *b, const char *portal, const char *statement,
                            const char *const *values, uint16_t n);
/* type is 'D' or 'C', kind 'S' or 'P'. */
MUST_USE bool wire_put_target(struct buf *b, uint8_t type, uint8_t kind, const char *name);
MUST_USE bool wire_put_execute(struct buf *b, const char *portal, uint32_t rows_max);

#endif
