/* Every reader that fits a message, for tests that throw bytes at them: the unit tests, which cut
 * and mutate good messages, and the fuzz target. What a reader promises of its result is checked
 * here. */
#ifndef TESTS_WIRE_READERS_H
#define TESTS_WIRE_READERS_H

#include "proxy/wire.h"

/* A string lies in the body, with its NUL. */
static inline void readers_check_cstr(const struct wire_msg *m, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;

    must(at >= m->body.at && at < m->body.at + m->body.n);
    must(memchr(at, 0, (size_t)(m->body.at + m->body.n - at)));
}

static inline void readers_check_view(const struct wire_msg *m, struct view v)
{
    must(!v.bad);
    must(v.n == 0 || (v.at >= m->body.at && v.at + v.n <= m->body.at + m->body.n));
}

static inline bool readers_statement(const struct wire_msg *m)
{
    struct wire_text text;
    struct wire_parse parse;
    struct wire_bind bind;

    switch (m->type) {
    case 'Q':
        if (!wire_read_query(m, &text))
            return false;
        must(text.text_n <= WIRE_SQL_PEEK);
        must(text.cut || text.text[text.text_n] == 0);
        return true;
    case 'P':
        if (!wire_read_parse(m, &parse))
            return false;
        readers_check_cstr(m, parse.name);
        readers_check_view(m, parse.rest);
        must(parse.text_n <= WIRE_SQL_PEEK);
        must(parse.text_cut || parse.text[parse.text_n] == 0);
        must(parse.types.n == 4u * parse.types_n);
        return true;
    default:
        if (!wire_read_bind(m, &bind))
            return false;
        readers_check_cstr(m, bind.portal);
        readers_check_cstr(m, bind.statement);
        must(bind.tail_at <= m->body.n && bind.tail_at <= m->body_n - 6);
        return true;
    }
}

static inline bool readers_client(const struct wire_msg *m)
{
    struct wire_target target;
    struct wire_execute execute;
    struct wire_sasl sasl;
    const char *password;

    switch (m->type) {
    case 'Q':
    case 'P':
    case 'B':
        return readers_statement(m);
    case 'D':
    case 'C':
        if (!wire_read_target(m, &target))
            return false;
        readers_check_cstr(m, target.name);
        return true;
    case 'E':
        return wire_read_execute(m, &execute);
    case 'p':
        if (wire_read_password(m, &password))
            readers_check_cstr(m, password);
        if (wire_read_sasl_initial(m, &sasl))
            readers_check_view(m, sasl.data);
        return true;
    default:
        return true;
    }
}

static inline bool readers_rows(const struct wire_msg *m)
{
    struct view columns, value, again;
    uint16_t columns_n;
    const char *name;
    uint32_t oid;
    bool null;

    if (!wire_read_row(m, &columns_n, &columns))
        return false;
    again = columns;
    while (m->type == 'D' && wire_value_next(&columns, &value, &null))
        readers_check_view(m, value);
    while (m->type == 'T' && wire_column_next(&again, &name, &oid))
        readers_check_cstr(m, name);
    return m->type == 'D' ? !columns.bad : !again.bad;
}

static inline bool readers_login(const struct wire_msg *m)
{
    struct wire_authentication auth;
    struct wire_negotiate negotiate;
    const char *mechanism;

    if (m->type == 'v')
        return wire_read_negotiate(m, &negotiate);
    if (!wire_read_authentication(m, &auth))
        return false;
    readers_check_view(m, auth.data);
    while (auth.code == WIRE_AUTH_SASL && wire_mechanism_next(&auth.data, &mechanism))
        readers_check_cstr(m, mechanism);
    return auth.code != WIRE_AUTH_SASL || !auth.data.bad;
}

static inline bool readers_server(const struct wire_msg *m)
{
    struct wire_pair pair;
    struct wire_key key;
    struct wire_error error;
    const char *tag;
    uint8_t status;

    switch (m->type) {
    case 'R':
    case 'v':
        return readers_login(m);
    case 'S':
        return wire_read_parameter(m, &pair);
    case 'K':
        return wire_read_key(m, &key);
    case 'E':
    case 'N':
        if (!wire_read_error(m, &error))
            return false;
        if (error.message)
            readers_check_cstr(m, error.message);
        if (error.sqlstate)
            readers_check_cstr(m, error.sqlstate);
        return true;
    case 'Z':
        return wire_read_ready(m, &status);
    case 'C':
        return wire_read_complete(m, &tag);
    case 'D':
    case 'T':
        return readers_rows(m);
    default:
        return true;
    }
}

/* False when the reader called the message malformed; types without a reader are never that. */
static inline bool readers_run(const struct wire_rule *rules, const struct wire_msg *m)
{
    return rules == wire_from_client ? readers_client(m) : readers_server(m);
}

#endif
