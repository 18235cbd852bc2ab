/* The writing half of wire.h. A message is put together in place: type, a length to be filled in,
 * fields; closing it fills the length in, or takes everything back when one field did not fit. */
#include "proxy/wire.h"

struct out {
    struct buf *b;
    uint32_t mark;      /* where in the buffer the message began */
    uint32_t length_at; /* where its length goes */
    bool ok;
};

static void out_u8(struct out *o, uint8_t value)
{
    o->ok = o->ok && buf_put_u8(o->b, value);
}

static void out_u16(struct out *o, uint16_t value)
{
    o->ok = o->ok && buf_put_u16(o->b, value);
}

static void out_u32(struct out *o, uint32_t value)
{
    o->ok = o->ok && buf_put_u32(o->b, value);
}

static void out_cstr(struct out *o, const char *text)
{
    o->ok = o->ok && buf_put_cstr(o->b, text);
}

static void out_view(struct out *o, struct view v)
{
    o->ok = o->ok && buf_put_view(o->b, v);
}

/* A counted value, as in DataRow and Bind. */
static void out_value(struct out *o, const char *text)
{
    if (!text) {
        out_u32(o, UINT32_MAX);
        return;
    }
    out_u32(o, (uint32_t)strlen(text));
    out_view(o, view_of_cstr(text));
}

/* The first packets have no type: 0 stands for that. */
static struct out out_open(struct buf *b, uint8_t type)
{
    struct out o = {.b = b, .mark = buf_used(b), .ok = true};

    o.length_at = o.mark + (type != 0);
    if (type != 0)
        out_u8(&o, type);
    out_u32(&o, 0);
    return o;
}

/* extra_n: bytes of the body that will follow from elsewhere. */
static bool out_close(struct out *o, uint32_t extra_n)
{
    if (o->ok && extra_n <= UINT32_MAX - buf_used(o->b)) {
        buf_set_u32(o->b, o->length_at, buf_used(o->b) - o->length_at + extra_n);
        return true;
    }
    buf_truncate(o->b, o->mark);
    return false;
}

bool wire_put_raw(struct buf *b, uint8_t type, struct view body)
{
    struct out o = out_open(b, type);

    must(type != 0);
    out_view(&o, body);
    return out_close(&o, 0);
}

bool wire_put_empty(struct buf *b, uint8_t type)
{
    return wire_put_raw(b, type, view_of("", 0));
}

/* One string is the whole body. */
static bool wire_put_cstr(struct buf *b, uint8_t type, const char *text)
{
    return wire_put_raw(b, type, view_of(text, strlen(text) + 1));
}

/* ---- to a client ------------------------------------------------------------------------- */

bool wire_put_auth(struct buf *b, enum wire_auth code, struct view data)
{
    struct out o = out_open(b, 'R');

    must(code != WIRE_AUTH_MD5 || data.n == 4);
    out_u32(&o, (uint32_t)code);
    out_view(&o, data);
    return out_close(&o, 0);
}

bool wire_put_auth_sasl(struct buf *b, const char *const *mechanisms, size_t n)
{
    struct out o = out_open(b, 'R');

    out_u32(&o, WIRE_AUTH_SASL);
    for (size_t i = 0; i < n; i++)
        out_cstr(&o, mechanisms[i]);
    out_u8(&o, 0);
    return out_close(&o, 0);
}

bool wire_put_parameter(struct buf *b, const char *name, const char *value)
{
    struct out o = out_open(b, 'S');

    out_cstr(&o, name);
    out_cstr(&o, value);
    return out_close(&o, 0);
}

bool wire_put_key(struct buf *b, uint32_t pid, struct view key)
{
    struct out o = out_open(b, 'K');

    must(key.n >= 4 && key.n <= WIRE_KEY_MAX);
    out_u32(&o, pid);
    out_view(&o, key);
    return out_close(&o, 0);
}

bool wire_put_ready(struct buf *b, uint8_t status)
{
    must(status == 'I' || status == 'T' || status == 'E');
    return wire_put_raw(b, 'Z', view_of(&status, 1));
}

static void out_error_field(struct out *o, uint8_t field, const char *value)
{
    if (!value)
        return;
    out_u8(o, field);
    out_cstr(o, value);
}

bool wire_put_error(struct buf *b, uint8_t type, const struct wire_error *e)
{
    struct out o = out_open(b, type);

    must(type == 'E' || type == 'N');
    out_error_field(&o, 'S', e->severity);
    out_error_field(&o, 'V', e->severity);
    out_error_field(&o, 'C', e->sqlstate);
    out_error_field(&o, 'M', e->message);
    out_error_field(&o, 'D', e->detail);
    out_error_field(&o, 'H', e->hint);
    out_u8(&o, 0);
    return out_close(&o, 0);
}

bool wire_put_negotiate(struct buf *b, uint32_t minor, const char *const *names, size_t n)
{
    struct out o = out_open(b, 'v');

    must(n <= WIRE_STARTUP_BYTES_MAX);
    out_u32(&o, minor);
    out_u32(&o, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        out_cstr(&o, names[i]);
    return out_close(&o, 0);
}

bool wire_put_complete(struct buf *b, const char *tag)
{
    return wire_put_cstr(b, 'C', tag);
}

/* pg_type.typlen of the types we describe. */
static uint16_t type_width(uint32_t type_oid)
{
    switch (type_oid) {
    case WIRE_OID_INT8:
        return 8;
    case WIRE_OID_INT4:
        return 4;
    default:
        return UINT16_MAX; /* varies */
    }
}

bool wire_put_columns(struct buf *b, const struct wire_column *columns, uint16_t n)
{
    struct out o = out_open(b, 'T');

    out_u16(&o, n);
    for (uint16_t i = 0; i < n; i++) {
        out_cstr(&o, columns[i].name);
        out_u32(&o, 0); /* of no table */
        out_u16(&o, 0);
        out_u32(&o, columns[i].type_oid);
        out_u16(&o, type_width(columns[i].type_oid));
        out_u32(&o, UINT32_MAX); /* no modifier */
        out_u16(&o, 0);          /* as text */
    }
    return out_close(&o, 0);
}

bool wire_put_row(struct buf *b, const char *const *values, uint16_t n)
{
    struct out o = out_open(b, 'D');

    out_u16(&o, n);
    for (uint16_t i = 0; i < n; i++)
        out_value(&o, values[i]);
    return out_close(&o, 0);
}

/* ---- to a server ------------------------------------------------------------------------- */

bool wire_put_ssl_request(struct buf *b)
{
    struct out o = out_open(b, 0);

    out_u32(&o, 80877103);
    return out_close(&o, 0);
}

bool wire_put_cancel(struct buf *b, uint32_t pid, struct view key)
{
    struct out o = out_open(b, 0);

    must(key.n >= 4 && key.n <= WIRE_KEY_MAX);
    out_u32(&o, 80877102);
    out_u32(&o, pid);
    out_view(&o, key);
    return out_close(&o, 0);
}

bool wire_put_startup(struct buf *b, uint16_t minor, const struct wire_param *params, size_t n)
{
    struct out o = out_open(b, 0);

    out_u16(&o, 3);
    out_u16(&o, minor);
    for (size_t i = 0; i < n; i++) {
        out_cstr(&o, params[i].name);
        out_cstr(&o, params[i].value);
    }
    out_u8(&o, 0);
    return out_close(&o, 0);
}

bool wire_put_password(struct buf *b, const char *password)
{
    return wire_put_cstr(b, 'p', password);
}

bool wire_put_sasl_initial(struct buf *b, const char *mechanism, struct view data)
{
    struct out o = out_open(b, 'p');

    out_cstr(&o, mechanism);
    out_u32(&o, (uint32_t)data.n);
    out_view(&o, data);
    return out_close(&o, 0);
}

bool wire_put_sasl_response(struct buf *b, struct view data)
{
    return wire_put_raw(b, 'p', data);
}

bool wire_put_query(struct buf *b, const char *text)
{
    return wire_put_cstr(b, 'Q', text);
}

bool wire_put_parse(struct buf *b, const char *name, struct view rest)
{
    struct out o = out_open(b, 'P');

    out_cstr(&o, name);
    out_view(&o, rest);
    return out_close(&o, 0);
}

bool wire_put_parse_text(struct buf *b, const char *name, const char *text)
{
    struct out o = out_open(b, 'P');

    out_cstr(&o, name);
    out_cstr(&o, text);
    out_u16(&o, 0);
    return out_close(&o, 0);
}

bool wire_put_bind_head(struct buf *b, const struct wire_bind *bind, uint32_t body_n,
                        const char *statement)
{
    struct out o = out_open(b, 'B');

    must(bind->tail_at <= body_n);
    out_cstr(&o, bind->portal);
    out_cstr(&o, statement);
    return out_close(&o, body_n - bind->tail_at);
}

bool wire_put_bind(struct buf *b, const char *portal, const char *statement,
                   const char *const *values, uint16_t n)
{
    struct out o = out_open(b, 'B');

    out_cstr(&o, portal);
    out_cstr(&o, statement);
    out_u16(&o, 0); /* every parameter as text */
    out_u16(&o, n);
    for (uint16_t i = 0; i < n; i++)
        out_value(&o, values[i]);
    out_u16(&o, 0); /* every result as text */
    return out_close(&o, 0);
}

bool wire_put_target(struct buf *b, uint8_t type, uint8_t kind, const char *name)
{
    struct out o = out_open(b, type);

    must(type == 'D' || type == 'C');
    must(kind == 'S' || kind == 'P');
    out_u8(&o, kind);
    out_cstr(&o, name);
    return out_close(&o, 0);
}

bool wire_put_execute(struct buf *b, const char *portal, uint32_t rows_max)
{
    struct out o = out_open(b, 'E');

    out_cstr(&o, portal);
    out_u32(&o, rows_max);
    return out_close(&o, 0);
}
