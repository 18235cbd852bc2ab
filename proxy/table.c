#include "proxy/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE_BYTES_MAX = 1024, /* of table_putf(): label values, the one long thing, go another way */
    NUMBER_BYTES = 40,     /* any number as text */
    OID_INT8 = 20,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_FLOAT8 = 701,
    OID_NUMERIC = 1700,
    NUMERIC_BASE = 10000, /* of numeric's digits on the wire */
};

/* ---- rows --------------------------------------------------------------------------------------
 */

void *rows_add(struct rows *r, const struct table *t)
{
    static union {
        uint8_t bytes[4096];
        max_align_t aligned;
    } lost; /* of the control loop, like everything that renders tables */
    must(t->row_bytes <= sizeof lost.bytes);
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        uint8_t *at = reallocarray(r->at, cap, t->row_bytes);
        if (!at) {
            r->failed = true;
            memset(&lost, 0, sizeof lost);
            return lost.bytes;
        }
        r->at = at;
        r->cap = cap;
    }
    uint8_t *row = r->at + r->n++ * t->row_bytes;
    memset(row, 0, t->row_bytes);
    return row;
}

const void *rows_at(const struct rows *r, const struct table *t, size_t i)
{
    must(i < r->n);
    return r->at + i * t->row_bytes;
}

void rows_free(struct rows *r)
{
    free(r->at);
    *r = (struct rows){.at = NULL};
}

/* ---- one value ---------------------------------------------------------------------------------
 */

/* A field as one of three kinds; text == NULL and is_text: SQL's NULL. */
struct value {
    const char *text;
    uint64_t whole;
    double real;
    enum { VALUE_TEXT, VALUE_WHOLE, VALUE_REAL } kind;
};

static struct value value_of(const struct table_column *c, const void *row)
{
    const uint8_t *at = (const uint8_t *)row + c->offset;
    struct value v = {.kind = VALUE_WHOLE};
    uint32_t u32;
    bool yes;
    switch (c->type) {
    case TABLE_TEXT:
        v.kind = VALUE_TEXT;
        memcpy(&v.text, at, sizeof v.text);
        break;
    case TABLE_CHARS:
        v.kind = VALUE_TEXT;
        v.text = *at ? (const char *)at : NULL;
        break;
    case TABLE_BOOL:
        memcpy(&yes, at, sizeof yes);
        v.whole = yes;
        break;
    case TABLE_U32:
        memcpy(&u32, at, sizeof u32);
        v.whole = u32;
        break;
    case TABLE_U64:
    case TABLE_SUM:
        memcpy(&v.whole, at, sizeof v.whole);
        break;
    case TABLE_F64:
        v.kind = VALUE_REAL;
        memcpy(&v.real, at, sizeof v.real);
        break;
    }
    return v;
}

static bool is_null(const struct value *v)
{
    return (v->kind == VALUE_TEXT && !v->text) || (v->kind == VALUE_REAL && isnan(v->real));
}

/* As text: its own, or made in `made`. */
static const char *text_of(const struct value *v, char made[NUMBER_BYTES])
{
    switch (v->kind) {
    case VALUE_TEXT:
        return v->text;
    case VALUE_WHOLE:
        snprintf(made, NUMBER_BYTES, "%llu", (unsigned long long)v->whole);
        return made;
    case VALUE_REAL:
        snprintf(made, NUMBER_BYTES, "%.6g", v->real);
        return made;
    }
    return NULL;
}

/* ---- SHOW --------------------------------------------------------------------------------------
 */

static uint32_t oid_of(enum table_type type, uint16_t *bytes)
{
    *bytes = UINT16_MAX; /* -1: it varies */
    switch (type) {
    case TABLE_TEXT:
    case TABLE_CHARS:
        break;
    case TABLE_BOOL:
    case TABLE_U32:
        *bytes = 4;
        return OID_INT4;
    case TABLE_U64:
        *bytes = 8;
        return OID_INT8;
    case TABLE_SUM:
        return OID_NUMERIC;
    case TABLE_F64:
        *bytes = 8;
        return OID_FLOAT8;
    }
    return OID_TEXT;
}

/* A message's type byte and length; the length is patched by end_message(). */
static bool begin_message(struct buf *b, uint8_t type)
{
    return buf_put_u8(b, type) && buf_put_u32(b, 0);
}

/* The whole message or nothing. */
static bool end_message(struct buf *b, uint32_t start, bool whole)
{
    if (whole)
        buf_set_u32(b, start + 1, buf_used(b) - start - 1);
    else
        buf_truncate(b, start);
    return whole;
}

static bool put_column(struct buf *b, const struct table_column *c, bool binary)
{
    uint16_t bytes;
    uint32_t oid = oid_of(c->type, &bytes);
    return buf_put_cstr(b, c->name) && buf_put_u32(b, 0) && buf_put_u16(b, 0) &&
           buf_put_u32(b, oid) && buf_put_u16(b, bytes) && buf_put_u32(b, UINT32_MAX) &&
           buf_put_u16(b, binary);
}

bool table_put_columns(struct buf *b, const struct table *t, struct table_formats f)
{
    uint32_t start = buf_used(b);
    must(t->columns_n <= TABLE_COLUMNS_MAX);
    bool fits = begin_message(b, 'T') && buf_put_u16(b, t->columns_n);
    for (uint16_t i = 0; fits && i < t->columns_n; i++)
        fits = put_column(b, &t->columns[i], f.binary >> i & 1);
    return end_message(b, start, fits);
}

/* numeric on the wire: number of base 10,000 digits, weight of the first, sign, scale, digits. */
static bool put_numeric(struct buf *b, uint64_t whole)
{
    uint16_t digits[5]; /* 2^64 has 20 decimal ones */
    uint16_t n = 0;
    for (; whole > 0; whole /= NUMERIC_BASE)
        digits[n++] = (uint16_t)(whole % NUMERIC_BASE);
    bool fits = buf_put_u32(b, 8 + 2u * n) && buf_put_u16(b, n) &&
                buf_put_u16(b, n > 0 ? n - 1 : 0) && buf_put_u16(b, 0) && buf_put_u16(b, 0);
    while (fits && n > 0)
        fits = buf_put_u16(b, digits[--n]);
    return fits;
}

static bool put_u64(struct buf *b, uint64_t value)
{
    return buf_put_u32(b, 8) && buf_put_u32(b, (uint32_t)(value >> 32)) &&
           buf_put_u32(b, (uint32_t)value);
}

static bool put_binary(struct buf *b, enum table_type type, const struct value *v)
{
    uint64_t bits;
    switch (type) {
    case TABLE_BOOL:
    case TABLE_U32:
        return buf_put_u32(b, 4) && buf_put_u32(b, (uint32_t)v->whole);
    case TABLE_U64:
        return put_u64(b, v->whole);
    case TABLE_SUM:
        return put_numeric(b, v->whole);
    case TABLE_F64:
        memcpy(&bits, &v->real, sizeof bits);
        return put_u64(b, bits);
    case TABLE_TEXT:
    case TABLE_CHARS:
        break;
    }
    size_t n = strlen(v->text); /* text is the same either way */
    return buf_put_u32(b, (uint32_t)n) && buf_put(b, v->text, n);
}

static bool put_value(struct buf *b, const struct table_column *c, const void *row, bool binary)
{
    char made[NUMBER_BYTES];
    struct value v = value_of(c, row);
    if (is_null(&v))
        return buf_put_u32(b, UINT32_MAX);
    if (binary)
        return put_binary(b, c->type, &v);
    const char *text = text_of(&v, made);
    size_t n = strlen(text);
    return buf_put_u32(b, (uint32_t)n) && buf_put(b, text, n);
}

bool table_put_row(struct buf *b, const struct table *t, const void *row, struct table_formats f)
{
    uint32_t start = buf_used(b);
    bool fits = begin_message(b, 'D') && buf_put_u16(b, t->columns_n);
    for (uint16_t i = 0; fits && i < t->columns_n; i++)
        fits = put_value(b, &t->columns[i], row, f.binary >> i & 1);
    return end_message(b, start, fits);
}

/* ---- Prometheus ------------------------------------------------------------------------------ */

bool table_putf(struct buf *b, const char *fmt, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    return n >= 0 && (size_t)n < sizeof line && buf_put(b, line, (size_t)n);
}

/* Bytes of the UTF-8 sequence at `at`; 0: it is none. Names come from clients, and one wrong byte
 * would make the whole answer unreadable. */
static size_t utf8_bytes(const unsigned char *at)
{
    static const unsigned char least[] = {0, 0, 0xc2, 0xe0, 0xf0};
    size_t n = at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (n > 1 && (at[0] < least[n] || at[0] > 0xf4))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80) /* also the NUL of a cut sequence */
            return 0;
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : n;
}

/* The next character of *text, or '?' in place of a byte that is none. */
static bool put_character(struct buf *b, const char **text)
{
    size_t n = utf8_bytes((const unsigned char *)*text);
    bool fits = n > 0 ? buf_put(b, *text, n) : buf_put_u8(b, '?');
    *text += n > 0 ? n : 1;
    return fits;
}

bool table_put_label(struct buf *b, const char *text)
{
    bool fits = true;
    while (fits && *text) {
        char ch = *text;
        if (ch != '\n' && ch != '\\' && ch != '"') {
            fits = put_character(b, &text);
            continue;
        }
        fits = buf_put_u8(b, '\\') && buf_put_u8(b, ch == '\n' ? 'n' : (uint8_t)ch);
        text++;
    }
    return fits;
}

bool table_put_metric_head(struct buf *b, const char *name, const char *kind, const char *help)
{
    return table_putf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* The labels of a row in braces, or nothing. */
static bool put_labels(struct buf *b, const struct table *t, const void *row)
{
    char made[NUMBER_BYTES];
    bool fits = true, first = true;
    for (uint16_t i = 0; fits && i < t->columns_n; i++) {
        const struct table_column *c = &t->columns[i];
        if (c->role != TABLE_LABEL)
            continue;
        struct value v = value_of(c, row);
        fits = table_putf(b, "%s%s=\"", first ? "{" : ",", c->metric ? c->metric : c->name) &&
               table_put_label(b, is_null(&v) ? "" : text_of(&v, made)) && buf_put_u8(b, '"');
        first = false;
    }
    return fits && (first || buf_put_u8(b, '}'));
}

/* A value as the format has it; texts have none. */
static bool put_sample_value(struct buf *b, const struct table_column *c, const struct value *v)
{
    double scale = c->unit == TABLE_US ? 1.0 / US_PER_S : 1.0;
    if (v->kind == VALUE_REAL)
        return isinf(v->real) ? table_putf(b, " %sInf\n", v->real < 0 ? "-" : "+")
                              : table_putf(b, " %.9g\n", v->real * scale);
    if (c->unit == TABLE_US)
        return table_putf(b, " %llu.%06llu\n", (unsigned long long)(v->whole / US_PER_S),
                          (unsigned long long)(v->whole % US_PER_S));
    return table_putf(b, " %llu\n", (unsigned long long)v->whole);
}

static bool put_metric(struct buf *b, const struct table *t, const struct table_column *c,
                       const struct rows *rows)
{
    char name[128];
    int n = snprintf(name, sizeof name, "pgweir_%s%s%s%s%s", t->prefix, *t->prefix ? "_" : "",
                     c->metric ? c->metric : c->name, c->unit == TABLE_US ? "_seconds" : "",
                     c->role == TABLE_COUNTER ? "_total" : "");
    must(n > 0 && (size_t)n < sizeof name);
    must(c->help && c->type != TABLE_TEXT && c->type != TABLE_CHARS);
    bool fits =
        table_put_metric_head(b, name, c->role == TABLE_COUNTER ? "counter" : "gauge", c->help);
    for (size_t i = 0; fits && i < rows->n; i++) {
        const void *row = rows_at(rows, t, i);
        struct value v = value_of(c, row);
        if (!is_null(&v))
            fits = table_putf(b, "%s", name) && put_labels(b, t, row) && put_sample_value(b, c, &v);
    }
    return fits;
}

bool table_put_metrics(struct buf *b, const struct table *t, const struct rows *rows)
{
    uint32_t start = buf_used(b);
    bool fits = true;
    must(t->prefix);
    for (uint16_t i = 0; fits && i < t->columns_n; i++)
        if (t->columns[i].role == TABLE_GAUGE || t->columns[i].role == TABLE_COUNTER)
            fits = put_metric(b, t, &t->columns[i], rows);
    if (!fits)
        buf_truncate(b, start);
    return fits;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static bool put_json_text(struct buf *b, const char *text)
{
    bool fits = buf_put_u8(b, '"');
    while (fits && *text) {
        unsigned char ch = (unsigned char)*text;
        if (ch >= ' ' && ch != '\\' && ch != '"') {
            fits = put_character(b, &text);
            continue;
        }
        fits = ch < ' ' ? table_putf(b, "\\u%04x", ch) : buf_put_u8(b, '\\') && buf_put_u8(b, ch);
        text++;
    }
    return fits && buf_put_u8(b, '"');
}

static bool put_json_value(struct buf *b, const struct value *v)
{
    char made[NUMBER_BYTES];
    if (is_null(v) || (v->kind == VALUE_REAL && isinf(v->real)))
        return buf_put(b, "null", 4);
    if (v->kind == VALUE_TEXT)
        return put_json_text(b, v->text);
    return table_putf(b, "%s", text_of(v, made));
}

static bool put_json_row(struct buf *b, const struct table *t, const void *row)
{
    bool fits = buf_put_u8(b, '{');
    for (uint16_t i = 0; fits && i < t->columns_n; i++) {
        struct value v = value_of(&t->columns[i], row);
        fits = (i == 0 || buf_put_u8(b, ',')) && put_json_text(b, t->columns[i].name) &&
               buf_put_u8(b, ':') && put_json_value(b, &v);
    }
    return fits && buf_put_u8(b, '}');
}

bool table_put_json(struct buf *b, const struct table *t, const struct rows *rows)
{
    uint32_t start = buf_used(b);
    bool fits = buf_put_u8(b, '[');
    for (size_t i = 0; fits && i < rows->n; i++)
        fits = (i == 0 || buf_put(b, ",\n", 2)) && put_json_row(b, t, rows_at(rows, t, i));
    fits = fits && buf_put(b, "]\n", 2);
    if (!fits)
        buf_truncate(b, start);
    return fits;
}
