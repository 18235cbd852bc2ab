/* What operators see, described once: a table is a list of columns over a plain struct (its row),
 * and SHOW, /metrics and the JSON of the status port are three renderings of the same rows.
 *
 * Rows are copies: plain values, and names that live at least until they are rendered. Nothing here
 * knows where they come from. Tables are static and read-only. */
#ifndef PROXY_TABLE_H
#define PROXY_TABLE_H

#include "breaker/base.h"
#include "proxy/buf.h"

/* How the row holds a value, and as what SHOW announces it. */
enum table_type {
    TABLE_TEXT,  /* const char *, NULL is SQL's NULL: text */
    TABLE_CHARS, /* char[], empty is SQL's NULL: text */
    TABLE_BOOL,  /* bool: int4, 0 or 1 */
    TABLE_U32,   /* uint32_t: int4 */
    TABLE_U64,   /* uint64_t: int8 */
    TABLE_SUM,   /* uint64_t: numeric, as PgBouncer has its sums */
    TABLE_F64,   /* double, NaN is SQL's NULL: float8 */
};

/* What a column is in /metrics. */
enum table_role { TABLE_HIDDEN, TABLE_LABEL, TABLE_GAUGE, TABLE_COUNTER };
/* TABLE_US: microseconds in SHOW, seconds in /metrics, whose base unit they are. */
enum table_unit { TABLE_PLAIN, TABLE_US };

struct table_column {
    const char *name;
    enum table_type type;
    uint32_t offset; /* in the row */
    enum table_role role;
    enum table_unit unit;
    const char *metric; /* its name between the table's prefix and the suffixes; NULL: `name` */
    const char *help;   /* of the metric; for people */
};

enum { TABLE_COLUMNS_MAX = 64 }; /* bits of table_formats */

struct table {
    const char *name;   /* as in SHOW */
    const char *prefix; /* of its metrics; NULL: it has none */
    const struct table_column *columns;
    uint16_t columns_n;
    uint32_t row_bytes;
    const char *help;
};

/* Rows of one table, in the heap. */
struct rows {
    uint8_t *at;
    size_t n, cap;
    bool failed; /* out of memory: some are missing */
};
/* A new row, zeroed; valid until the next one. Out of memory: a row that is lost, and `failed`. */
void *rows_add(struct rows *r, const struct table *t);
const void *rows_at(const struct rows *r, const struct table *t, size_t i);
void rows_free(struct rows *r);

/* Result formats of a Bind: bit i set means that column i is sent in binary. */
struct table_formats {
    uint64_t binary;
};

/* ---- SHOW. All: false when the buffer's limit is reached; nothing was put then. -------------- */

/* RowDescription. */
MUST_USE bool table_put_columns(struct buf *b, const struct table *t, struct table_formats f);
/* DataRow. */
MUST_USE bool table_put_row(struct buf *b, const struct table *t, const void *row,
                            struct table_formats f);

/* ---- Prometheus' text format, 0.0.4 ---------------------------------------------------------- */

/* HELP, TYPE and a sample of each row, for each gauge and counter of the table. */
MUST_USE bool table_put_metrics(struct buf *b, const struct table *t, const struct rows *rows);
/* HELP and TYPE of one metric; kind is "gauge", "counter", "histogram". */
MUST_USE bool table_put_metric_head(struct buf *b, const char *name, const char *kind,
                                    const char *help);
/* text without its NUL, `\`, `"` and newlines escaped: the inside of a label's quotes. */
MUST_USE bool table_put_label(struct buf *b, const char *text);
/* Text like printf's, no NUL. False also when it is longer than a line of ours may be. */
MUST_USE bool table_putf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- JSON: an array of objects --------------------------------------------------------------- */

MUST_USE bool table_put_json(struct buf *b, const struct table *t, const struct rows *rows);

#endif
