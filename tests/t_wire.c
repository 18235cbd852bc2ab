/* Framing, readers and writers of the protocol.
 *
 * Every message a proxy sends is written, then read back: whole, cut at each byte, and with every
 * byte replaced, each time with the end of the bytes at a guard page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/wire.c"
#include "proxy/wire_put.c"

#include "tests/guard.h"
#include "tests/wire_readers.h"

static const struct wire_rule *const client = wire_from_client;
static const struct wire_rule *const server = wire_from_server;

static struct buf *fresh(void)
{
    static struct buf b;

    buf_free(&b);
    b.max = 1 << 20;
    return &b;
}

/* The one message in b, which must be whole and alone. */
static struct wire_msg one(const struct buf *b, const struct wire_rule *rules, uint8_t type)
{
    struct wire_msg m = {0};

    assert_int_equal(wire_next(buf_view(b), rules, UINT32_MAX, &m), WIRE_OK);
    assert_int_equal(m.type, type);
    assert_true(wire_is_whole(&m));
    assert_int_equal(buf_used(b), WIRE_HEADER_BYTES + m.body_n);
    return m;
}

static void assert_view(struct view v, const void *bytes, size_t n)
{
    assert_false(v.bad);
    assert_int_equal(v.n, n);
    if (n > 0)
        assert_memory_equal(v.at, bytes, n);
}

/* ---- read(put(x)) == x ------------------------------------------------------------------- */

static void statements_come_back(void **state)
{
    struct buf *b = fresh();
    struct wire_text text;
    struct wire_parse parse;
    struct wire_msg m = {0};

    (void)state;
    assert_true(wire_put_query(b, "SELECT 1"));
    m = one(b, client, 'Q');
    assert_true(wire_read_query(&m, &text));
    assert_string_equal(text.text, "SELECT 1");
    assert_int_equal(text.text_n, 8);
    assert_false(text.cut);

    b = fresh();
    assert_true(wire_put_parse_text(b, "s1", "SELECT $1"));
    m = one(b, client, 'P');
    assert_true(wire_read_parse(&m, &parse));
    assert_string_equal(parse.name, "s1");
    assert_int_equal(parse.name_n, 2);
    assert_string_equal(parse.text, "SELECT $1");
    assert_int_equal(parse.text_n, 9);
    assert_false(parse.text_cut);
    assert_int_equal(parse.types_n, 0);
    assert_view(parse.rest, "SELECT $1\0\0", 12);

    b = fresh();
    struct view typed = view_of("SELECT $1\0\0\1\0\0\0\27", 16);
    assert_true(wire_put_parse(b, "longer_name", typed));
    m = one(b, client, 'P');
    assert_true(wire_read_parse(&m, &parse));
    assert_string_equal(parse.name, "longer_name");
    assert_view(parse.rest, typed.at, typed.n);
    assert_int_equal(parse.types_n, 1);
    assert_view(parse.types, "\0\0\0\27", 4);
}

static void binds_come_back_and_change_their_statement(void **state)
{
    const char *const values[] = {"one", NULL, ""};
    struct buf *b = fresh();
    struct buf again = {.max = 1 << 20};
    struct wire_bind bind, renamed;
    struct wire_msg m = {0};

    (void)state;
    assert_true(wire_put_bind(b, "p", "stmt", values, 3));
    m = one(b, client, 'B');
    assert_true(wire_read_bind(&m, &bind));
    assert_string_equal(bind.portal, "p");
    assert_string_equal(bind.statement, "stmt");
    assert_int_equal(bind.statement_n, 4);
    assert_int_equal(bind.tail_at, 7);

    /* head and tail under the same name are the message itself */
    struct view tail = view_of(m.body.at + bind.tail_at, m.body_n - bind.tail_at);
    assert_true(wire_put_bind_head(&again, &bind, m.body_n, "stmt"));
    assert_true(buf_put_view(&again, tail));
    assert_view(buf_view(&again), buf_view(b).at, buf_used(b));
    buf_free(&again);

    assert_true(wire_put_bind_head(&again, &bind, m.body_n, "other_statement"));
    assert_true(buf_put_view(&again, tail));
    m = one(&again, client, 'B');
    assert_true(wire_read_bind(&m, &renamed));
    assert_string_equal(renamed.portal, "p");
    assert_string_equal(renamed.statement, "other_statement");
    assert_view(view_of(m.body.at + renamed.tail_at, m.body_n - renamed.tail_at), tail.at, tail.n);
    buf_free(&again);
}

static void targets_and_executes_come_back(void **state)
{
    static const uint8_t types[] = {'D', 'C'}, kinds[] = {'S', 'P'};
    struct wire_target target;
    struct wire_execute execute;
    struct wire_msg m = {0};
    struct buf *b;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        b = fresh();
        assert_true(wire_put_target(b, types[i / 2], kinds[i % 2], "name"));
        m = one(b, client, types[i / 2]);
        assert_true(wire_read_target(&m, &target));
        assert_int_equal(target.kind, kinds[i % 2]);
        assert_string_equal(target.name, "name");
        assert_int_equal(target.name_n, 4);
    }
    b = fresh();
    assert_true(wire_put_execute(b, "portal", 500));
    m = one(b, client, 'E');
    assert_true(wire_read_execute(&m, &execute));
    assert_string_equal(execute.portal, "portal");
    assert_int_equal(execute.rows_max, 500);
}

static void answers_to_auth_come_back(void **state)
{
    struct buf *b = fresh();
    const char *password;
    struct wire_sasl sasl;
    struct wire_msg m = {0};

    (void)state;
    assert_true(wire_put_password(b, "s3cret"));
    m = one(b, client, 'p');
    assert_true(wire_read_password(&m, &password));
    assert_string_equal(password, "s3cret");

    b = fresh();
    assert_true(wire_put_sasl_initial(b, "SCRAM-SHA-256", view_of_cstr("n,,n=,r=abc")));
    m = one(b, client, 'p');
    assert_true(wire_read_sasl_initial(&m, &sasl));
    assert_string_equal(sasl.mechanism, "SCRAM-SHA-256");
    assert_view(sasl.data, "n,,n=,r=abc", 11);

    b = fresh();
    assert_true(wire_put_raw(b, 'p', view_of("M\0\377\377\377\377", 6)));
    m = one(b, client, 'p');
    assert_true(wire_read_sasl_initial(&m, &sasl));
    assert_view(sasl.data, "", 0);

    b = fresh();
    assert_true(wire_put_sasl_response(b, view_of_cstr("c=biws,r=x")));
    m = one(b, client, 'p');
    assert_view(m.body, "c=biws,r=x", 10);
}

static void requests_for_auth_come_back(void **state)
{
    static const struct {
        enum wire_auth code;
        const char *data;
        size_t data_n;
    } cases[] = {
        {WIRE_AUTH_OK, "", 0},
        {WIRE_AUTH_CLEARTEXT, "", 0},
        {WIRE_AUTH_MD5, "\1\0\2\3", 4},
        {WIRE_AUTH_SASL_CONTINUE, "r=1,s=2,i=3", 11},
        {WIRE_AUTH_SASL_FINAL, "v=abc", 5},
        {WIRE_AUTH_GSS, "", 0},
    };
    const char *const mechanisms[] = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"};
    struct wire_authentication auth;
    struct wire_msg m = {0};
    const char *mechanism;
    struct buf *b;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        b = fresh();
        assert_true(wire_put_auth(b, cases[i].code, view_of(cases[i].data, cases[i].data_n)));
        m = one(b, server, 'R');
        assert_true(wire_read_authentication(&m, &auth));
        assert_int_equal(auth.code, cases[i].code);
        assert_view(auth.data, cases[i].data, cases[i].data_n);
    }
    b = fresh();
    assert_true(wire_put_auth_sasl(b, mechanisms, 2));
    m = one(b, server, 'R');
    assert_true(wire_read_authentication(&m, &auth));
    assert_int_equal(auth.code, WIRE_AUTH_SASL);
    for (size_t i = 0; i < 2; i++) {
        assert_true(wire_mechanism_next(&auth.data, &mechanism));
        assert_string_equal(mechanism, mechanisms[i]);
    }
    assert_false(wire_mechanism_next(&auth.data, &mechanism));
    assert_false(auth.data.bad);
}

static void session_messages_come_back(void **state)
{
    struct buf *b = fresh();
    struct wire_pair pair;
    struct wire_key key;
    struct wire_msg m = {0};
    const char *tag;
    uint8_t bytes[WIRE_KEY_MAX], status;

    (void)state;
    assert_true(wire_put_parameter(b, "TimeZone", "Europe/Berlin"));
    m = one(b, server, 'S');
    assert_true(wire_read_parameter(&m, &pair));
    assert_string_equal(pair.name, "TimeZone");
    assert_string_equal(pair.value, "Europe/Berlin");

    for (size_t n = 4; n <= WIRE_KEY_MAX; n += 28) {
        memset(bytes, (int)n, n);
        b = fresh();
        assert_true(wire_put_key(b, 0x80000001, view_of(bytes, n)));
        m = one(b, server, 'K');
        assert_true(wire_read_key(&m, &key));
        assert_int_equal(key.pid, 0x80000001);
        assert_view(key.key, bytes, n);
    }
    for (const char *s = "ITE"; *s; s++) {
        b = fresh();
        assert_true(wire_put_ready(b, (uint8_t)*s));
        m = one(b, server, 'Z');
        assert_true(wire_read_ready(&m, &status));
        assert_int_equal(status, *s);
    }
    b = fresh();
    assert_true(wire_put_complete(b, "SELECT 5"));
    m = one(b, server, 'C');
    assert_true(wire_read_complete(&m, &tag));
    assert_string_equal(tag, "SELECT 5");
}

static void assert_text(const char *got, const char *expected)
{
    if (!expected)
        assert_null(got);
    else
        assert_string_equal(got, expected);
}

static void errors_come_back(void **state)
{
    static const struct wire_error cases[] = {
        {"ERROR", "53000", "no", "because", "try again"},
        {"FATAL", "28P01", "password authentication failed", NULL, NULL},
        {.severity = "WARNING"},
        {0},
    };

    (void)state;
    for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
        const struct wire_error *e = &cases[i / 2];
        uint8_t type = i % 2 ? 'E' : 'N';
        struct buf *b = fresh();
        struct wire_error back;
        assert_true(wire_put_error(b, type, e));
        struct wire_msg m = one(b, server, type);
        assert_true(wire_read_error(&m, &back));
        assert_text(back.severity, e->severity);
        assert_text(back.sqlstate, e->sqlstate);
        assert_text(back.message, e->message);
        assert_text(back.detail, e->detail);
        assert_text(back.hint, e->hint);
    }
}

static void the_untranslated_severity_counts(void **state)
{
    static const char body[] = "SFEHLER\0VERROR\0C22012\0MDivision durch Null\0Fint.c\0L824\0";
    struct buf *b = fresh();
    struct wire_error e;

    (void)state;
    assert_true(wire_put_raw(b, 'E', view_of(body, sizeof(body))));
    struct wire_msg m = one(b, server, 'E');
    assert_true(wire_read_error(&m, &e));
    assert_string_equal(e.severity, "ERROR");
    assert_string_equal(e.sqlstate, "22012");
    assert_string_equal(e.message, "Division durch Null");
    assert_null(e.detail);
}

static void negotiation_comes_back(void **state)
{
    const char *const names[] = {"_pq_.one", "_pq_.two"};
    struct wire_negotiate negotiate;

    (void)state;
    for (uint32_t n = 0; n <= 2; n++) {
        struct buf *b = fresh();
        assert_true(wire_put_negotiate(b, 2, names, n));
        struct wire_msg m = one(b, server, 'v');
        assert_true(wire_read_negotiate(&m, &negotiate));
        assert_int_equal(negotiate.minor, 2);
        assert_int_equal(negotiate.names_n, n);
        for (uint32_t i = 0; i < n; i++)
            assert_string_equal(view_take_cstr(&negotiate.names, NULL), names[i]);
        assert_true(view_done(&negotiate.names));
    }
}

static void rows_come_back(void **state)
{
    static const struct wire_column columns[] = {
        {"database", WIRE_OID_TEXT}, {"cl_active", WIRE_OID_INT8}, {"port", WIRE_OID_INT4}};
    const char *const values[] = {"shop", NULL, ""};
    struct buf *b = fresh();
    struct view v, value;
    uint16_t n;
    const char *name;
    uint32_t oid;
    bool null;

    (void)state;
    assert_true(wire_put_columns(b, columns, 3));
    struct wire_msg m = one(b, server, 'T');
    assert_true(wire_read_row(&m, &n, &v));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(wire_column_next(&v, &name, &oid));
        assert_string_equal(name, columns[i].name);
        assert_int_equal(oid, columns[i].type_oid);
    }
    assert_false(wire_column_next(&v, &name, &oid));
    assert_true(view_done(&v));

    b = fresh();
    assert_true(wire_put_row(b, values, 3));
    m = one(b, server, 'D');
    assert_true(wire_read_row(&m, &n, &v));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(wire_value_next(&v, &value, &null));
        assert_int_equal(null, values[i] == NULL);
        assert_view(value, values[i], values[i] ? strlen(values[i]) : 0);
    }
    assert_false(wire_value_next(&v, &value, &null));
    assert_true(view_done(&v));
}

static void messages_without_a_body_come_back(void **state)
{
    (void)state;
    for (const char *s = "123nIcs"; *s; s++) {
        struct buf *b = fresh();
        assert_true(wire_put_empty(b, (uint8_t)*s));
        assert_int_equal(one(b, server, (uint8_t)*s).body_n, 0);
    }
    for (const char *s = "SHXc"; *s; s++) {
        struct buf *b = fresh();
        assert_true(wire_put_empty(b, (uint8_t)*s));
        assert_int_equal(one(b, client, (uint8_t)*s).body_n, 0);
    }
}

static void writers_put_all_or_nothing(void **state)
{
    const char *const values[] = {"alpha", "beta"};
    struct wire_error e = {"ERROR", "53000", "message", "detail", "hint"};

    (void)state;
    for (uint32_t max = 4; max < 120; max++) {
        struct buf b = {.max = max};
        assert_true(buf_put(&b, "kept", 4));
        bool row = wire_put_row(&b, values, 2);
        assert_int_equal(row, max >= 4 + 5 + 2 + 4 + 5 + 4 + 4);
        uint32_t used = buf_used(&b);
        bool error = wire_put_error(&b, 'E', &e);
        if (!error)
            assert_int_equal(buf_used(&b), used);
        assert_true(buf_used(&b) <= max);
        assert_memory_equal(buf_view(&b).at, "kept", 4);
        buf_free(&b);
    }
    struct buf full = {.max = 3};
    assert_false(wire_put_empty(&full, 'S'));
    assert_null(full.at);
}

/* ---- framing ----------------------------------------------------------------------------- */

static void put_samples_of_client(struct buf *b)
{
    const char *const values[] = {"1", NULL};

    assert_true(wire_put_query(b, "BEGIN; SELECT 1"));
    assert_true(wire_put_parse(b, "s", view_of("SELECT $1\0\0\1\0\0\0\27", 16)));
    assert_true(wire_put_bind(b, "", "s", values, 2));
    assert_true(wire_put_target(b, 'D', 'S', "s"));
    assert_true(wire_put_target(b, 'C', 'P', ""));
    assert_true(wire_put_execute(b, "", 0));
    assert_true(wire_put_empty(b, 'S'));
    assert_true(wire_put_empty(b, 'H'));
    assert_true(wire_put_empty(b, 'X'));
    assert_true(wire_put_raw(b, 'F', view_of("\0\0\0\1\0\0\0\0\0\0", 10)));
    assert_true(wire_put_raw(b, 'd', view_of_cstr("1\t2\n")));
    assert_true(wire_put_empty(b, 'c'));
    assert_true(wire_put_raw(b, 'f', view_of("why", 4)));
    assert_true(wire_put_password(b, "pw"));
    assert_true(wire_put_sasl_initial(b, "SCRAM-SHA-256", view_of_cstr("n,,n=,r=a")));
}

static void put_samples_of_server(struct buf *b)
{
    static const struct wire_column columns[] = {{"a", WIRE_OID_TEXT}, {"b", WIRE_OID_INT8}};
    static const struct wire_error error = {"ERROR", "42P01", "no relation", "d", "h"};
    const char *const names[] = {"_pq_.x"}, *const mechanisms[] = {"SCRAM-SHA-256"};
    const char *const values[] = {"1", NULL};

    assert_true(wire_put_auth(b, WIRE_AUTH_MD5, view_of("salt", 4)));
    assert_true(wire_put_auth_sasl(b, mechanisms, 1));
    assert_true(wire_put_auth(b, WIRE_AUTH_OK, view_of("", 0)));
    assert_true(wire_put_negotiate(b, 0, names, 1));
    assert_true(wire_put_parameter(b, "server_version", "15.4"));
    assert_true(wire_put_key(b, 1, view_of("1234", 4)));
    assert_true(wire_put_ready(b, 'I'));
    assert_true(wire_put_columns(b, columns, 2));
    assert_true(wire_put_row(b, values, 2));
    assert_true(wire_put_complete(b, "SELECT 1"));
    assert_true(wire_put_error(b, 'E', &error));
    assert_true(wire_put_error(b, 'N', &error));
    assert_true(wire_put_raw(b, 'A', view_of("\0\0\0\7ch\0pay", 11)));
    assert_true(wire_put_raw(b, 't', view_of("\0\1\0\0\0\27", 6)));
    for (const char *s = "G H W"; *s; s++) {
        if (*s != ' ')
            assert_true(wire_put_raw(b, (uint8_t)*s, view_of("\0\0\1\0\0", 5)));
    }
    assert_true(wire_put_raw(b, 'V', view_of("\377\377\377\377", 4)));
    assert_true(wire_put_raw(b, 'd', view_of_cstr("row\n")));
    for (const char *s = "nI123sc"; *s; s++)
        assert_true(wire_put_empty(b, (uint8_t)*s));
}

/* One good message: at each cut, at a guard page. */
static void check_cuts(const struct wire_rule *rules, const uint8_t *bytes, size_t n)
{
    struct wire_msg whole = {0}, m = {0};

    assert_int_equal(wire_next(view_of(bytes, n), rules, UINT32_MAX, &whole), WIRE_OK);
    assert_true(readers_run(rules, &whole));
    for (size_t cut = 0; cut <= n; cut++) {
        const uint8_t *at = guard_copy(bytes, cut);
        enum wire_verdict verdict = wire_next(view_of(at, cut), rules, UINT32_MAX, &m);
        if (cut < WIRE_HEADER_BYTES) {
            assert_int_equal(verdict, WIRE_MORE);
            assert_int_equal(m.need_n, 0);
            continue;
        }
        assert_int_equal(verdict, cut < whole.need_n ? WIRE_MORE : WIRE_OK);
        assert_int_equal(m.type, whole.type);
        assert_int_equal(m.body_n, whole.body_n);
        assert_int_equal(m.need_n, whole.need_n);
        assert_int_equal(m.body.n, cut - WIRE_HEADER_BYTES);
        (void)readers_run(rules, &m); /* whatever it says, it stays before the guard */
        if (verdict == WIRE_OK && rules[m.type].how != WIRE_PASS)
            assert_true(readers_run(rules, &m));
    }
}

/* One good message turned bad in every byte: no verdict is wrong here, going past the end is. */
static void check_mutations(const struct wire_rule *rules, const uint8_t *bytes, size_t n)
{
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 'S', '=', ','};
    uint8_t *changed = malloc(n);
    struct wire_msg m = {0};

    for (size_t i = 0; i < n * COUNT_OF(values); i++) {
        memcpy(changed, bytes, n);
        changed[i / COUNT_OF(values)] = values[i % COUNT_OF(values)];
        const uint8_t *at = guard_copy(changed, n);
        if (wire_next(view_of(at, n), rules, UINT32_MAX, &m) == WIRE_OK)
            (void)readers_run(rules, &m);
    }
    free(changed);
}

static size_t check_samples(const struct wire_rule *rules, const struct buf *b)
{
    struct view v = buf_view(b);
    struct wire_msg m = {0};
    size_t seen = 0;

    while (v.n > 0) {
        assert_int_equal(wire_next(v, rules, UINT32_MAX, &m), WIRE_OK);
        size_t n = WIRE_HEADER_BYTES + m.body_n;
        check_cuts(rules, v.at, n);
        check_mutations(rules, v.at, n);
        (void)view_take_bytes(&v, n);
        seen++;
    }
    return seen;
}

static void messages_are_found_at_every_cut(void **state)
{
    struct buf *b = fresh();

    (void)state;
    put_samples_of_client(b);
    assert_int_equal(check_samples(client, b), 15);
    b = fresh();
    put_samples_of_server(b);
    assert_int_equal(check_samples(server, b), 26);
}

static void framing_refuses(void **state)
{
    static const struct {
        const struct wire_rule *rules;
        const char *bytes;
        size_t n;
        enum wire_verdict verdict;
    } cases[] = {
        {wire_from_client, "Q\0\0\0\3x", 6, WIRE_BAD}, /* the length counts itself */
        {wire_from_client, "Q\0\0\0\0", 5, WIRE_BAD},
        {wire_from_client, "Q\0\0\0\4", 5, WIRE_BAD}, /* a text has at least its NUL */
        {wire_from_client, "Q\0\0\0\5", 5, WIRE_MORE},
        {wire_from_client, "S\0\0\0\5x", 6, WIRE_BAD}, /* a Sync with something in it */
        {wire_from_client, "X\0\0\0\4", 5, WIRE_OK},
        {wire_from_client, "B\0\0\0\13\0\0\0\0\0\0\0", 12, WIRE_BAD}, /* 7 bytes of Bind */
        {wire_from_client, "Z\0\0\0\5I", 6, WIRE_BAD},                /* not a client's */
        {wire_from_client, "\0", 1, WIRE_BAD},
        {wire_from_client, "\0\0\0\10\4\322\26\57", 8, WIRE_BAD}, /* SSLRequest, too late */
        {wire_from_client, "GET / HTTP/1.1\r\n", 16, WIRE_BAD},
        {wire_from_client, "p\0\0\100\5", 5, WIRE_BAD}, /* a password of 16385 bytes */
        {wire_from_client, "p\0\0\100\4", 5, WIRE_MORE},
        {wire_from_client, "d\377\377\377\377", 5, WIRE_BAD}, /* beyond the limit given below */
        {wire_from_client, "d\0\20\0\4", 5, WIRE_OK},         /* streamed: the header is enough */
        {wire_from_client, "d\0\20\0\5", 5, WIRE_BAD},
        {wire_from_server, "Z\0\0\0\6II", 7, WIRE_BAD},
        {wire_from_server, "Z\0\0\0\4", 5, WIRE_BAD},
        {wire_from_server, "K\0\0\1\11", 5, WIRE_BAD}, /* a key of 257 bytes */
        {wire_from_server, "K\0\0\1\10", 5, WIRE_MORE},
        {wire_from_server, "K\0\0\0\13\0\0\0\1abc", 12, WIRE_BAD}, /* a key of 3 */
        {wire_from_server, "Q\0\0\0\5", 5, WIRE_BAD},
        {wire_from_server, "D\0\0\0\5\0", 6, WIRE_BAD},
        {wire_from_server, "D\0\0\0\6", 5, WIRE_OK},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct view v = view_of(guard_copy(cases[i].bytes, cases[i].n), cases[i].n);
        struct wire_msg m = {0};
        enum wire_verdict verdict = wire_next(v, cases[i].rules, 1 << 20, &m);
        if (verdict != cases[i].verdict)
            fail_msg("case %zu: %d", i, verdict);
    }
}

static void tables_agree_with_the_readers(void **state)
{
    (void)state;
    for (int type = 0; type < 256; type++) {
        for (int side = 0; side < 2; side++) {
            const struct wire_rule *r = side ? &server[type] : &client[type];
            if (r->how == WIRE_UNKNOWN)
                continue;
            assert_true(r->body_min <= r->body_max);
            assert_true(r->how != WIRE_PASS || r->need == 0);
            assert_true(r->how != WIRE_WHOLE || r->need == r->body_max);
            assert_true(r->need <= WIRE_SMALL_MAX); /* a worker's scratch holds it */
        }
    }
}

/* ---- malformed bodies -------------------------------------------------------------------- */

static void readers_refuse(void **state)
{
    static const struct {
        const struct wire_rule *rules;
        uint8_t type;
        const char *body;
        size_t n;
    } cases[] = {
        {wire_from_client, 'Q', "SELECT 1", 8}, /* no NUL */
        {wire_from_client, 'Q', "SELECT\0001", 8},
        {wire_from_client, 'Q', "a\0b\0", 4}, /* something behind the NUL */
        {wire_from_client, 'P', "name", 4},
        {wire_from_client, 'P', "n\0SELECT 1", 10},
        {wire_from_client, 'P', "n\0SELECT 1\0", 11},         /* no count of types */
        {wire_from_client, 'P', "n\0SELECT 1\0\0\1\0\0", 15}, /* half a type */
        {wire_from_client, 'P', "n\0S\0\0\0x", 7},
        {wire_from_client, 'B', "portals!", 8},
        {wire_from_client, 'B', "p\0stmtxx", 8},
        {wire_from_client, 'B', "p\0st\0\0\0\0", 8}, /* counts are missing */
        {wire_from_client, 'D', "X\0", 2},           /* neither statement nor portal */
        {wire_from_client, 'D', "Sab", 3},
        {wire_from_client, 'C', "S\0\0", 3},
        {wire_from_client, 'E', "abcde", 5},
        {wire_from_client, 'E', "\0\0\0\0\0\0", 6},
        {wire_from_server, 'R', "\0\0\0\0x", 5},
        {wire_from_server, 'R', "\0\0\0\5abc", 7},
        {wire_from_server, 'R', "\0\0\0\12SCRAM", 9}, /* a list without an end */
        {wire_from_server, 'R', "\0\0\0\12A\0\0B\0\0", 10},
        {wire_from_server, 'S', "name\0value", 10},
        {wire_from_server, 'S', "n\0v\0x", 5},
        {wire_from_server, 'v', "\0\0\0\0\377\377\377\377", 8},
        {wire_from_server, 'v', "\0\0\0\0\0\0\0\1\0\0", 10},
        {wire_from_server, 'Z', "X", 1},
        {wire_from_server, 'C', "SELECT", 6},
        {wire_from_server, 'E', "MSG", 3},
        {wire_from_server, 'E', "Mtext\0", 6}, /* no end of fields */
        {wire_from_server, 'E', "Mtext\0\0x", 8},
        {wire_from_server, 'D', "\0\1\0\0\0\5abcd", 10}, /* a value beyond the row */
        {wire_from_server, 'D', "\0\1\377\377\377\376", 6},
        {wire_from_server, 'T', "\0\1name\0\0\0", 9},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct wire_msg m = {0};
        struct buf *b = fresh();
        assert_true(wire_put_raw(b, cases[i].type, view_of(cases[i].body, cases[i].n)));
        const uint8_t *at = guard_copy(buf_view(b).at, buf_used(b));
        assert_int_equal(wire_next(view_of(at, buf_used(b)), cases[i].rules, UINT32_MAX, &m),
                         WIRE_OK);
        if (readers_run(cases[i].rules, &m))
            fail_msg("case %zu was taken for well-formed", i);
    }
}

static void names_have_a_limit(void **state)
{
    char name[WIRE_NAME_MAX + 2];

    (void)state;
    for (size_t n = WIRE_NAME_MAX - 1; n <= WIRE_NAME_MAX + 1; n++) {
        struct wire_bind bind;
        struct wire_msg m = {0};
        struct buf *b = fresh();
        memset(name, 'n', n);
        name[n] = 0;
        assert_true(wire_put_bind(b, name, name, NULL, 0));
        assert_int_equal(wire_next(buf_view(b), client, UINT32_MAX, &m), WIRE_OK);
        assert_int_equal(wire_read_bind(&m, &bind), n <= WIRE_NAME_MAX);
        b = fresh();
        assert_true(wire_put_target(b, 'D', 'S', name));
        assert_int_equal(wire_next(buf_view(b), client, UINT32_MAX, &m) == WIRE_OK,
                         n <= WIRE_NAME_MAX);
    }
}

/* However a long statement is cut into segments, the same bytes of it are looked at. */
static void long_statements_are_seen_alike_in_any_cut(void **state)
{
    enum { TEXT = 3 * WIRE_SQL_PEEK };
    char *text = malloc(TEXT + 1);
    struct wire_text query;
    struct wire_parse parse;
    struct wire_msg m = {0};

    (void)state;
    memset(text, 'x', TEXT);
    text[TEXT] = 0;
    struct buf *b = fresh();
    assert_true(wire_put_query(b, text));
    for (size_t n = WIRE_SQL_PEEK; n <= buf_used(b); n += n < WIRE_SQL_PEEK + 99 ? 1 : 999) {
        struct view v = view_of(guard_copy(buf_view(b).at, n), n);
        bool enough = n >= WIRE_HEADER_BYTES + WIRE_SQL_PEEK;
        assert_int_equal(wire_next(v, client, UINT32_MAX, &m), enough ? WIRE_OK : WIRE_MORE);
        if (!enough)
            continue;
        assert_true(wire_read_query(&m, &query));
        assert_int_equal(query.text_n, WIRE_SQL_PEEK);
        assert_true(query.cut);
    }
    b = fresh();
    assert_true(wire_put_parse_text(b, "n", text));
    for (size_t n = 5 + WIRE_NAME_MAX + 1 + WIRE_SQL_PEEK; n <= buf_used(b); n += 997) {
        struct view v = view_of(guard_copy(buf_view(b).at, n), n);
        assert_int_equal(wire_next(v, client, UINT32_MAX, &m), WIRE_OK);
        assert_true(wire_read_parse(&m, &parse));
        assert_int_equal(parse.text_n, WIRE_SQL_PEEK);
        assert_true(parse.text_cut);
        assert_int_equal(parse.rest.n, n - 5 - 2);
    }
    free(text);
}

static void a_long_error_yields_its_first_fields(void **state)
{
    static char detail[4000];
    struct wire_error e = {"ERROR", "22000", "short", detail, NULL}, back;
    struct wire_msg m = {0};

    (void)state;
    memset(detail, 'd', sizeof(detail) - 1);
    struct buf *b = fresh();
    assert_true(wire_put_error(b, 'E', &e));
    assert_int_equal(wire_next(view_of(buf_view(b).at, 2000), server, UINT32_MAX, &m), WIRE_OK);
    assert_false(wire_is_whole(&m));
    assert_true(wire_read_error(&m, &back));
    assert_string_equal(back.sqlstate, "22000");
    assert_string_equal(back.message, "short");
    assert_null(back.detail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_come_back),
        cmocka_unit_test(binds_come_back_and_change_their_statement),
        cmocka_unit_test(targets_and_executes_come_back),
        cmocka_unit_test(answers_to_auth_come_back),
        cmocka_unit_test(requests_for_auth_come_back),
        cmocka_unit_test(session_messages_come_back),
        cmocka_unit_test(errors_come_back),
        cmocka_unit_test(the_untranslated_severity_counts),
        cmocka_unit_test(negotiation_comes_back),
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(messages_without_a_body_come_back),
        cmocka_unit_test(writers_put_all_or_nothing),
        cmocka_unit_test(messages_are_found_at_every_cut),
        cmocka_unit_test(framing_refuses),
        cmocka_unit_test(tables_agree_with_the_readers),
        cmocka_unit_test(readers_refuse),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(long_statements_are_seen_alike_in_any_cut),
        cmocka_unit_test(a_long_error_yields_its_first_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
