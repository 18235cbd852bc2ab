#include "proxy/wire.h"

/* ---- the tables -------------------------------------------------------------------------- */

enum { ANY = UINT32_MAX - 4 }; /* no limit but that of the length word */

#define PASS(min, max)                                                                             \
    {                                                                                              \
        WIRE_PASS, 0, min, max                                                                     \
    }
#define PEEK(n, min)                                                                               \
    {                                                                                              \
        WIRE_PEEK, n, min, ANY                                                                     \
    }
#define WHOLE(min, max)                                                                            \
    {                                                                                              \
        WIRE_WHOLE, max, min, max                                                                  \
    }

const struct wire_rule wire_from_client[256] = {
    ['Q'] = PEEK(WIRE_SQL_PEEK, 1),                     /* Query */
    ['P'] = PEEK(WIRE_NAME_MAX + 1 + WIRE_SQL_PEEK, 4), /* Parse */
    ['B'] = PEEK(WIRE_NAMES_PEEK, 8),                   /* Bind */
    ['D'] = WHOLE(2, 2 + WIRE_NAME_MAX),                /* Describe */
    ['C'] = WHOLE(2, 2 + WIRE_NAME_MAX),                /* Close */
    ['E'] = PASS(5, ANY),                               /* Execute */
    ['S'] = PASS(0, 0),                                 /* Sync */
    ['H'] = PASS(0, 0),                                 /* Flush */
    ['X'] = PASS(0, 0),                                 /* Terminate */
    ['F'] = PASS(10, ANY),                              /* FunctionCall */
    ['d'] = PASS(0, ANY),                               /* CopyData */
    ['c'] = PASS(0, 0),                                 /* CopyDone */
    ['f'] = PASS(1, ANY),                               /* CopyFail */
    ['p'] = WHOLE(0, WIRE_PASSWORD_MAX),                /* password and SASL answers */
};

/* An error may carry a whole statement in its detail: its first fields are the ones we act upon. */
enum { ERROR_PEEK = 1024 };

const struct wire_rule wire_from_server[256] = {
    ['R'] = WHOLE(4, WIRE_SMALL_MAX),   /* Authentication... */
    ['K'] = WHOLE(8, 4 + WIRE_KEY_MAX), /* BackendKeyData */
    ['S'] = WHOLE(2, WIRE_SMALL_MAX),   /* ParameterStatus */
    ['v'] = WHOLE(8, WIRE_SMALL_MAX),   /* NegotiateProtocolVersion */
    ['Z'] = WHOLE(1, 1),                /* ReadyForQuery */
    ['C'] = WHOLE(1, 1024),             /* CommandComplete: PostgreSQL's tags stay below 64 */
    ['E'] = PEEK(ERROR_PEEK, 1),        /* ErrorResponse */
    ['N'] = PASS(1, ANY),               /* NoticeResponse */
    ['A'] = PASS(6, ANY),               /* NotificationResponse */
    ['T'] = PASS(2, ANY),               /* RowDescription */
    ['D'] = PASS(2, ANY),               /* DataRow */
    ['t'] = PASS(2, ANY),               /* ParameterDescription */
    ['n'] = PASS(0, 0),                 /* NoData */
    ['I'] = PASS(0, 0),                 /* EmptyQueryResponse */
    ['1'] = PASS(0, 0),                 /* ParseComplete */
    ['2'] = PASS(0, 0),                 /* BindComplete */
    ['3'] = PASS(0, 0),                 /* CloseComplete */
    ['s'] = PASS(0, 0),                 /* PortalSuspended */
    ['G'] = PASS(3, ANY),               /* CopyInResponse */
    ['H'] = PASS(3, ANY),               /* CopyOutResponse */
    ['W'] = PASS(3, ANY),               /* CopyBothResponse */
    ['d'] = PASS(0, ANY),               /* CopyData */
    ['c'] = PASS(0, 0),                 /* CopyDone */
    ['V'] = PASS(4, ANY),               /* FunctionCallResponse */
};

#undef PASS
#undef PEEK
#undef WHOLE

/* ---- the first packet -------------------------------------------------------------------- */

enum {
    STARTUP_HEADER_BYTES = 8, /* length and code */
    CODE_CANCEL = 80877102,   /* majors above 1000 are requests, not versions */
    CODE_SSL = 80877103,
    CODE_GSS = 80877104,
    TLS_HANDSHAKE = 0x16, /* content type of a TLS record; no packet of ours is so long */
};

static enum wire_verdict wire_startup_code(uint32_t code, struct view body,
                                           struct wire_startup *out)
{
    out->major = (uint16_t)(code >> 16);
    out->minor = (uint16_t)code;
    switch (code) {
    case CODE_SSL:
    case CODE_GSS:
        out->hello = code == CODE_SSL ? WIRE_HELLO_SSL : WIRE_HELLO_GSS;
        return body.n == 0 ? WIRE_OK : WIRE_BAD;
    case CODE_CANCEL:
        out->hello = WIRE_HELLO_CANCEL;
        out->pid = view_take_u32(&body);
        out->key = body;
        return !body.bad && body.n >= 4 && body.n <= WIRE_KEY_MAX ? WIRE_OK : WIRE_BAD;
    default:
        break;
    }
    if (out->major != 3) {
        out->hello = WIRE_HELLO_ALIEN;
        return WIRE_OK;
    }
    out->hello = WIRE_HELLO_STARTUP;
    out->params = body;
    return body.n >= 1 && body.at[body.n - 1] == 0 ? WIRE_OK : WIRE_BAD;
}

enum wire_verdict wire_startup(struct view in, struct wire_startup *out)
{
    uint32_t length, code;

    *out = (struct wire_startup){.hello = WIRE_HELLO_ALIEN};
    if (in.n == 0)
        return WIRE_MORE;
    if (in.at[0] == TLS_HANDSHAKE) {
        out->hello = WIRE_HELLO_TLS;
        return WIRE_OK;
    }
    if (in.at[0] != 0 || (in.n > 1 && in.at[1] != 0))
        return WIRE_BAD; /* longer than any startup packet: an HTTP client, say */
    if (in.n < sizeof(length))
        return WIRE_MORE;
    struct view packet = in;
    length = view_take_u32(&packet);
    if (length < STARTUP_HEADER_BYTES || length > WIRE_STARTUP_BYTES_MAX)
        return WIRE_BAD;
    out->packet_n = length;
    if (in.n < length)
        return WIRE_MORE;
    packet.n = length - sizeof(length);
    code = view_take_u32(&packet);
    must(!packet.bad);
    return wire_startup_code(code, packet, out);
}

bool wire_param_next(struct view *params, struct wire_param *out)
{
    size_t name_n;

    if (params->n == 1 && params->at[0] == 0)
        return false; /* the terminator stays, so that asking again gives the same answer */
    out->name = view_take_cstr(params, &name_n);
    out->value = view_take_cstr(params, NULL);
    if (name_n == 0)
        params->bad = true; /* a terminator with something behind it */
    return !params->bad;
}

/* ---- `options` of a startup packet ------------------------------------------------------- */

static bool option_is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next word, its escapes undone, as PostgreSQL's pg_split_opts() would. False at the end. */
static bool option_word(struct view *options, char *word, size_t word_cap)
{
    size_t n = 0;

    while (options->n > 0 && option_is_space(options->at[0]))
        (void)view_take_u8(options);
    if (options->bad || options->n == 0)
        return false;
    while (options->n > 0 && !option_is_space(options->at[0])) {
        uint8_t c = view_take_u8(options);
        if (c == '\\' && options->n > 0)
            c = view_take_u8(options);
        else if (c == '\\')
            break; /* a lone backslash at the end escapes nothing */
        if (n + 1 == word_cap || c == 0) {
            options->bad = true;
            return false;
        }
        word[n++] = (char)c;
    }
    word[n] = 0;
    return true;
}

bool wire_option_next(struct view *options, struct wire_option *out)
{
    char word[sizeof(out->name) + sizeof(out->value) + 2];
    const char *setting = word + 2;
    const char *equals;
    size_t name_n;

    if (!option_word(options, word, sizeof(word)))
        return false;
    if (word[0] != '-' || (word[1] != 'c' && word[1] != '-'))
        goto bad;
    if (strcmp(word, "-c") == 0) {
        setting = word;
        if (!option_word(options, word, sizeof(word)))
            goto bad;
    }
    equals = strchr(setting, '=');
    name_n = equals ? (size_t)(equals - setting) : 0;
    if (name_n == 0 || name_n >= sizeof(out->name) || strlen(equals + 1) > WIRE_OPTION_VALUE_MAX)
        goto bad;
    memcpy(out->name, setting, name_n);
    out->name[name_n] = 0;
    for (char *dash = strchr(out->name, '-'); dash; dash = strchr(dash, '-'))
        *dash = '_';
    memcpy(out->value, equals + 1, strlen(equals + 1) + 1);
    return true;
bad:
    options->bad = true;
    return false;
}

/* ---- readers ----------------------------------------------------------------------------- */

/* The body, or a broken view where some of it is missing: for readers that need all of it. */
static struct view wire_body(const struct wire_msg *m)
{
    struct view v = m->body;

    must(m->body.n <= m->body_n);
    v.bad = v.bad || !wire_is_whole(m);
    return v;
}

/* The statement text at the front of `rest`, of which `missing` bytes have not come: never more
 * than WIRE_SQL_PEEK of it. False when it should have ended by now. */
static bool wire_clip_sql(struct view rest, bool missing, struct wire_text *out)
{
    size_t clip = rest.n < WIRE_SQL_PEEK ? rest.n : WIRE_SQL_PEEK;
    const uint8_t *nul = clip > 0 ? memchr(rest.at, 0, clip) : NULL;

    out->text = (const char *)rest.at;
    out->text_n = nul ? (size_t)(nul - rest.at) : clip;
    out->cut = !nul;
    return nul || missing || clip < rest.n;
}

bool wire_read_query(const struct wire_msg *m, struct wire_text *out)
{
    if (m->body.bad || !wire_clip_sql(m->body, !wire_is_whole(m), out))
        return false;
    return out->cut || out->text_n + 1 == m->body_n;
}

bool wire_read_parse(const struct wire_msg *m, struct wire_parse *out)
{
    struct view v = m->body;
    struct wire_text text;

    *out = (struct wire_parse){0};
    out->name = view_take_cstr(&v, &out->name_n);
    out->rest = v;
    if (v.bad || out->name_n > WIRE_NAME_MAX || !wire_clip_sql(v, !wire_is_whole(m), &text))
        return false;
    out->text = text.text;
    out->text_n = text.text_n;
    out->text_cut = text.cut;
    if (!wire_is_whole(m))
        return true;
    (void)view_take_cstr(&v, NULL);
    out->types_n = view_take_u16(&v);
    out->types = view_take_bytes(&v, 4 * (size_t)out->types_n);
    return view_done(&v);
}

bool wire_read_bind(const struct wire_msg *m, struct wire_bind *out)
{
    struct view v = m->body;
    size_t portal_n;

    out->portal = view_take_cstr(&v, &portal_n);
    out->statement = view_take_cstr(&v, &out->statement_n);
    if (v.bad || portal_n > WIRE_NAME_MAX || out->statement_n > WIRE_NAME_MAX)
        return false;
    out->tail_at = (uint32_t)(portal_n + 1 + out->statement_n + 1);
    return m->body_n - out->tail_at >= 6; /* three counts at least */
}

bool wire_read_target(const struct wire_msg *m, struct wire_target *out)
{
    struct view v = wire_body(m);

    out->kind = view_take_u8(&v);
    out->name = view_take_cstr(&v, &out->name_n);
    return view_done(&v) && (out->kind == 'S' || out->kind == 'P');
}

bool wire_read_execute(const struct wire_msg *m, struct wire_execute *out)
{
    struct view v = wire_body(m);

    out->portal = view_take_cstr(&v, NULL);
    out->rows_max = view_take_u32(&v);
    return view_done(&v);
}

bool wire_read_password(const struct wire_msg *m, const char **password)
{
    struct view v = wire_body(m);

    *password = view_take_cstr(&v, NULL);
    return view_done(&v);
}

bool wire_read_sasl_initial(const struct wire_msg *m, struct wire_sasl *out)
{
    struct view v = wire_body(m);
    uint32_t data_n;

    out->mechanism = view_take_cstr(&v, NULL);
    data_n = view_take_u32(&v);
    /* -1 stands for "no data at all", which no mechanism of ours begins with: the same as none. */
    out->data = view_take_bytes(&v, data_n == UINT32_MAX ? 0 : data_n);
    return view_done(&v);
}

bool wire_read_authentication(const struct wire_msg *m, struct wire_authentication *out)
{
    struct view v = wire_body(m);

    out->code = view_take_u32(&v);
    out->data = v;
    switch (out->code) {
    case WIRE_AUTH_OK:
    case WIRE_AUTH_CLEARTEXT:
        return view_done(&v);
    case WIRE_AUTH_MD5:
        return !v.bad && v.n == 4;
    default:
        return !v.bad;
    }
}

bool wire_mechanism_next(struct view *data, const char **mechanism)
{
    if (data->n == 1 && data->at[0] == 0)
        return false;
    *mechanism = view_take_cstr(data, NULL);
    if (**mechanism == 0)
        data->bad = true;
    return !data->bad;
}

bool wire_read_parameter(const struct wire_msg *m, struct wire_pair *out)
{
    struct view v = wire_body(m);

    out->name = view_take_cstr(&v, NULL);
    out->value = view_take_cstr(&v, NULL);
    return view_done(&v);
}

bool wire_read_key(const struct wire_msg *m, struct wire_key *out)
{
    struct view v = wire_body(m);

    out->pid = view_take_u32(&v);
    out->key = v;
    return !v.bad && v.n >= 4 && v.n <= WIRE_KEY_MAX;
}

static void wire_error_field(struct wire_error *e, uint8_t field, const char *value)
{
    switch (field) {
    case 'S': /* comes before V, which is the same untranslated */
    case 'V':
        e->severity = value;
        break;
    case 'C':
        e->sqlstate = value;
        break;
    case 'M':
        e->message = value;
        break;
    case 'D':
        e->detail = value;
        break;
    case 'H':
        e->hint = value;
        break;
    default: /* position, place in the source, constraint ...: nothing we act upon */
        break;
    }
}

bool wire_read_error(const struct wire_msg *m, struct wire_error *out)
{
    struct view v = m->body;

    *out = (struct wire_error){0};
    for (;;) {
        uint8_t field = view_take_u8(&v);
        if (field == 0)
            break;
        const char *value = view_take_cstr(&v, NULL);
        if (v.bad)
            break;
        wire_error_field(out, field, value);
    }
    return wire_is_whole(m) ? view_done(&v) : v.bad;
}

bool wire_read_ready(const struct wire_msg *m, uint8_t *status)
{
    struct view v = wire_body(m);

    *status = view_take_u8(&v);
    return view_done(&v) && (*status == 'I' || *status == 'T' || *status == 'E');
}

bool wire_read_complete(const struct wire_msg *m, const char **tag)
{
    struct view v = wire_body(m);

    *tag = view_take_cstr(&v, NULL);
    return view_done(&v);
}

bool wire_read_negotiate(const struct wire_msg *m, struct wire_negotiate *out)
{
    struct view v = wire_body(m);

    out->minor = view_take_u32(&v);
    out->names_n = view_take_u32(&v);
    out->names = v;
    for (uint32_t i = 0; i < out->names_n && !v.bad; i++)
        (void)view_take_cstr(&v, NULL);
    return view_done(&v);
}

bool wire_read_row(const struct wire_msg *m, uint16_t *columns_n, struct view *columns)
{
    struct view v = wire_body(m);

    *columns_n = view_take_u16(&v);
    *columns = v;
    return !v.bad;
}

bool wire_value_next(struct view *columns, struct view *value, bool *null)
{
    uint32_t value_n;

    if (columns->n == 0)
        return false;
    value_n = view_take_u32(columns);
    *null = value_n == UINT32_MAX;
    *value = view_take_bytes(columns, *null ? 0 : value_n);
    return !columns->bad;
}

bool wire_column_next(struct view *columns, const char **name, uint32_t *type_oid)
{
    if (columns->n == 0)
        return false;
    *name = view_take_cstr(columns, NULL);
    (void)view_take_bytes(columns, 4 + 2); /* table and its column */
    *type_oid = view_take_u32(columns);
    (void)view_take_bytes(columns, 2 + 4 + 2); /* width, modifier, format */
    return !columns->bad;
}
