/* Tables: one description, rendered as SHOW rows (text and binary), as metrics, as JSON. */
#include "proxy/table.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/wire.h"

struct row {
    const char *name;
    char tag[8];
    bool on;
    uint32_t small;
    uint64_t big, sum, took_us;
    double real;
};

#define FIELD(field, kind)                                                                         \
    .name = #field, .type = TABLE_##kind, .offset = offsetof(struct row, field)
static const struct table_column columns[] = {
    {FIELD(name, TEXT), .role = TABLE_LABEL},
    {FIELD(tag, CHARS), .role = TABLE_LABEL, .metric = "kind"},
    {FIELD(on, BOOL), .role = TABLE_GAUGE, .help = "On."},
    {FIELD(small, U32)},
    {FIELD(big, U64), .role = TABLE_COUNTER, .metric = "things", .help = "Things."},
    {FIELD(sum, SUM)},
    {FIELD(took_us, U64), .role = TABLE_COUNTER, .unit = TABLE_US, .metric = "took",
     .help = "Time."},
    {FIELD(real, F64), .role = TABLE_GAUGE, .help = "Real."},
};
static const struct table table = {.name = "THINGS",
                                   .prefix = "thing",
                                   .columns = columns,
                                   .columns_n = COUNT_OF(columns),
                                   .row_bytes = sizeof(struct row)};
static const struct table bare = {.name = "BARE",
                                  .prefix = "",
                                  .columns = columns,
                                  .columns_n = 3,
                                  .row_bytes = sizeof(struct row)};

static const struct row full = {.name = "a",
                                .tag = "x",
                                .on = true,
                                .small = 4000000000u,
                                .big = UINT64_MAX,
                                .sum = 12345678901234567890u,
                                .took_us = 1500000,
                                .real = 0.25};

static struct wire_msg only_message(const struct buf *b)
{
    struct wire_msg m;
    assert_int_equal(wire_next(buf_view(b), wire_from_server, 1 << 20, &m), WIRE_OK);
    assert_true(wire_is_whole(&m));
    assert_int_equal(buf_used(b), WIRE_HEADER_BYTES + m.body_n);
    return m;
}

static void columns_have_names_and_types(void **state)
{
    static const uint32_t oids[] = {25, 25, 23, 23, 20, 1700, 20, 701};
    struct buf b = {.max = 4096};
    uint16_t n;
    struct view v;
    (void)state;
    assert_true(table_put_columns(&b, &table, (struct table_formats){0}));
    struct wire_msg m = only_message(&b);
    assert_int_equal(m.type, 'T');
    assert_true(wire_read_row(&m, &n, &v));
    assert_int_equal(n, COUNT_OF(columns));
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        const char *name;
        uint32_t oid;
        assert_true(wire_column_next(&v, &name, &oid));
        assert_string_equal(name, columns[i].name);
        assert_int_equal(oid, oids[i]);
    }
    buf_free(&b);
}

/* Of a DataRow: its values, one after the other. */
static void check_value(struct view *v, const void *bytes, int n)
{
    struct view value;
    bool null;
    assert_true(wire_value_next(v, &value, &null));
    assert_int_equal(null, n < 0);
    if (n < 0)
        return;
    assert_int_equal(value.n, n);
    assert_memory_equal(value.at, bytes, (size_t)n);
}

static struct view row_values(struct buf *b, const struct row *row, uint64_t binary)
{
    uint16_t n;
    struct view v;
    assert_true(table_put_row(b, &table, row, (struct table_formats){binary}));
    struct wire_msg m = only_message(b);
    assert_int_equal(m.type, 'D');
    assert_true(wire_read_row(&m, &n, &v));
    assert_int_equal(n, COUNT_OF(columns));
    return v;
}

static void rows_as_text(void **state)
{
    struct buf b = {.max = 4096};
    (void)state;
    struct view v = row_values(&b, &full, 0);
    check_value(&v, "a", 1);
    check_value(&v, "x", 1);
    check_value(&v, "1", 1);
    check_value(&v, "4000000000", 10);
    check_value(&v, "18446744073709551615", 20);
    check_value(&v, "12345678901234567890", 20);
    check_value(&v, "1500000", 7);
    check_value(&v, "0.25", 4);
    assert_true(view_done(&v));
    buf_free(&b);
}

static void rows_in_binary(void **state)
{
    struct buf b = {.max = 4096};
    /* 1234 5678 9012 3456 7890: five digits of base 10,000, weight 4 */
    static const uint8_t sum[] = {0,    5,    0,    4,    0,    0,    0,    0,    0x04,
                                  0xd2, 0x16, 0x2e, 0x23, 0x34, 0x0d, 0x80, 0x1e, 0xd2};
    (void)state;
    struct view v = row_values(&b, &full, UINT64_MAX);
    check_value(&v, "a", 1);
    check_value(&v, "x", 1);
    check_value(&v, "\0\0\0\1", 4);
    check_value(&v, "\xee\x6b\x28\x00", 4);
    check_value(&v, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    check_value(&v, sum, sizeof sum);
    check_value(&v, "\0\0\0\0\0\x16\xe3\x60", 8);
    check_value(&v, "\x3f\xd0\0\0\0\0\0\0", 8);
    assert_true(view_done(&v));
    buf_free(&b);
}

static void zero_as_numeric_has_no_digits(void **state)
{
    struct buf b = {.max = 4096};
    struct row zero = {.name = "z"};
    (void)state;
    struct view v = row_values(&b, &zero, 1u << 5);
    for (int i = 0; i < 5; i++) {
        struct view value;
        bool null;
        assert_true(wire_value_next(&v, &value, &null));
        assert_int_equal(null, i == 1); /* an empty tag */
    }
    check_value(&v, "\0\0\0\0\0\0\0\0", 8);
    buf_free(&b);
}

static void nothing_is_null(void **state)
{
    struct buf b = {.max = 4096};
    struct row none = {.real = NAN};
    (void)state;
    for (int binary = 0; binary < 2; binary++) {
        struct view v = row_values(&b, &none, binary ? UINT64_MAX : 0);
        check_value(&v, NULL, -1);
        check_value(&v, NULL, -1);
        for (int i = 0; i < 5; i++) {
            struct view value;
            bool null;
            assert_true(wire_value_next(&v, &value, &null));
            assert_false(null);
        }
        check_value(&v, NULL, -1);
        buf_free(&b);
    }
}

static bool put_either(struct buf *b, bool row)
{
    return row ? table_put_row(b, &table, &full, (struct table_formats){0})
               : table_put_columns(b, &table, (struct table_formats){0});
}

static void a_full_buffer_holds_whole_messages_only(void **state)
{
    (void)state;
    for (int row = 0; row < 2; row++) {
        struct buf roomy = {.max = 4096};
        assert_true(put_either(&roomy, row));
        uint32_t message_n = buf_used(&roomy);
        buf_free(&roomy);
        for (uint32_t max = 1; max < 3 * message_n; max++) {
            struct buf b = {.max = max};
            while (put_either(&b, row))
                continue;
            assert_int_equal(buf_used(&b), max / message_n * message_n);
            buf_free(&b);
        }
    }
}

static void expect_text(struct buf *b, const char *text)
{
    struct view v = buf_view(b);
    assert_int_equal(v.n, strlen(text));
    assert_memory_equal(v.at, text, v.n);
    buf_free(b);
}

static void metrics(void **state)
{
    struct buf b = {.max = 4096};
    struct rows rows = {.at = NULL};
    (void)state;
    struct row *r = rows_add(&rows, &table);
    *r = full;
    r = rows_add(&rows, &table);
    *r = (struct row){.name = "q\"\\\n\xff\xc3\xa4", .took_us = 7, .real = NAN};
    assert_true(table_put_metrics(&b, &table, &rows));
    expect_text(&b, "# HELP pgweir_thing_on On.\n# TYPE pgweir_thing_on gauge\n"
                    "pgweir_thing_on{name=\"a\",kind=\"x\"} 1\n"
                    "pgweir_thing_on{name=\"q\\\"\\\\\\n?\xc3\xa4\",kind=\"\"} 0\n"
                    "# HELP pgweir_thing_things_total Things.\n"
                    "# TYPE pgweir_thing_things_total counter\n"
                    "pgweir_thing_things_total{name=\"a\",kind=\"x\"} 18446744073709551615\n"
                    "pgweir_thing_things_total{name=\"q\\\"\\\\\\n?\xc3\xa4\",kind=\"\"} 0\n"
                    "# HELP pgweir_thing_took_seconds_total Time.\n"
                    "# TYPE pgweir_thing_took_seconds_total counter\n"
                    "pgweir_thing_took_seconds_total{name=\"a\",kind=\"x\"} 1.500000\n"
                    "pgweir_thing_took_seconds_total{name=\"q\\\"\\\\\\n?\xc3\xa4\",kind=\"\"} "
                    "0.000007\n"
                    "# HELP pgweir_thing_real Real.\n# TYPE pgweir_thing_real gauge\n"
                    "pgweir_thing_real{name=\"a\",kind=\"x\"} 0.25\n");
    rows_free(&rows);
}

static void metrics_without_rows_or_room(void **state)
{
    struct buf b = {.max = 4096}, small = {.max = 40};
    struct rows rows = {.at = NULL};
    (void)state;
    assert_true(table_put_metrics(&b, &bare, &rows));
    expect_text(&b, "# HELP pgweir_on On.\n# TYPE pgweir_on gauge\n");
    struct row *r = rows_add(&rows, &bare);
    *r = full;
    assert_true(buf_put(&small, "before", 6));
    assert_false(table_put_metrics(&small, &bare, &rows));
    expect_text(&small, "before");
    rows_free(&rows);
}

static void json(void **state)
{
    struct buf b = {.max = 4096};
    struct rows rows = {.at = NULL};
    (void)state;
    assert_true(table_put_json(&b, &table, &rows));
    expect_text(&b, "[]\n");
    struct row *r = rows_add(&rows, &table);
    *r = (struct row){.name = "a\"\\\x01\xe2\x82", .tag = "t", .big = 5, .real = INFINITY};
    r = rows_add(&rows, &table);
    *r = (struct row){.real = 1.5, .on = true};
    assert_true(table_put_json(&b, &table, &rows));
    expect_text(&b,
                "[{\"name\":\"a\\\"\\\\\\u0001??\",\"tag\":\"t\",\"on\":0,\"small\":0,\"big\":5,"
                "\"sum\":0,\"took_us\":0,\"real\":null},\n"
                "{\"name\":null,\"tag\":null,\"on\":1,\"small\":0,\"big\":0,\"sum\":0,"
                "\"took_us\":0,\"real\":1.5}]\n");
    rows_free(&rows);
}

/* Every sequence of up to four bytes out of the interesting ones, against the definition. */
static bool is_utf8(const unsigned char *at, size_t n)
{
    uint32_t point;
    if (n == 1)
        return at[0] < 0x80 && at[0] > 0;
    uint32_t lead = n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0;
    uint32_t lead_bits = n == 2 ? 0x1f : n == 3 ? 0x0f : 0x07;
    if ((at[0] & ~lead_bits & 0xff) != lead)
        return false;
    point = at[0] & lead_bits;
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return false;
        point = point << 6 | (at[i] & 0x3f);
    }
    uint32_t least = n == 2 ? 0x80 : n == 3 ? 0x800 : 0x10000;
    return point >= least && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
}

static void utf8_is_told_from_other_bytes(void **state)
{
    static const unsigned char bytes[] = {0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
                                          0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xee, 0xef, 0xf0,
                                          0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff, 0x00};
    enum { N = COUNT_OF(bytes) };
    (void)state;
    for (size_t i = 0; i < (size_t)N * N * N * N; i++) {
        unsigned char at[5] = {bytes[i % N], bytes[i / N % N], bytes[i / N / N % N],
                               bytes[i / N / N / N], 0};
        size_t valid = 0;
        for (size_t n = 1; n <= 4 && !valid; n++)
            valid = is_utf8(at, n) ? n : 0;
        if (at[0])
            assert_int_equal(utf8_bytes(at), valid);
    }
}

static void rows_grow_and_start_zeroed(void **state)
{
    struct rows rows = {.at = NULL};
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        struct row *r = rows_add(&rows, &table);
        assert_null(r->name);
        assert_int_equal(r->small, 0);
        r->small = i;
        r->name = "x";
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(((const struct row *)rows_at(&rows, &table, i))->small, i);
    assert_int_equal(rows.n, 1000);
    assert_false(rows.failed);
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_have_names_and_types),
        cmocka_unit_test(rows_as_text),
        cmocka_unit_test(rows_in_binary),
        cmocka_unit_test(zero_as_numeric_has_no_digits),
        cmocka_unit_test(nothing_is_null),
        cmocka_unit_test(a_full_buffer_holds_whole_messages_only),
        cmocka_unit_test(metrics),
        cmocka_unit_test(metrics_without_rows_or_room),
        cmocka_unit_test(json),
        cmocka_unit_test(utf8_is_told_from_other_bytes),
        cmocka_unit_test(rows_grow_and_start_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
