#include "proxy/sql_words.h"

#include <string.h>

enum {
    READ = SQL_READ,
    WRITE = SQL_WRITE, /* also of what we do not know as a verb at all */
    DDL = SQL_WRITE | SQL_DDL,
    LONG = SQL_WRITE | SQL_UTILITY_LONG,
};

/* ANALYSE, ABORT, FETCH ...: PostgreSQL 17's statements; what is missing counts as a write. */
const struct sql_keyword sql_keywords[] = {
    {"abort", WORD_VERB, SQL_ROLLBACK},
    {"access", WORD_ACCESS, WRITE},
    {"all", WORD_ALL, WRITE},
    {"alter", WORD_VERB, DDL},
    {"analyse", WORD_VERB, LONG},
    {"analyze", WORD_VERB, LONG},
    {"and", WORD_OPERAND, WRITE},
    {"application_name", WORD_REPORTED, WRITE},
    {"authorization", WORD_AUTHORIZATION, WRITE},
    {"begin", WORD_BEGIN, SQL_BEGIN},
    {"between", WORD_OPERAND, WRITE},
    {"by", WORD_OPERAND, WRITE},
    {"call", WORD_VERB, WRITE | SQL_DO},
    {"case", WORD_CASE, WRITE},
    {"characteristics", WORD_CHARACTERISTICS, WRITE},
    {"checkpoint", WORD_VERB, LONG},
    {"client_encoding", WORD_REPORTED, WRITE},
    {"close", WORD_VERB, 0},
    {"cluster", WORD_VERB, LONG},
    {"comment", WORD_VERB, DDL},
    {"commit", WORD_COMMIT, SQL_COMMIT},
    {"constraints", WORD_CONSTRAINTS, WRITE},
    {"copy", WORD_COPY, 0},
    {"create", WORD_CREATE, DDL},
    {"currval", WORD_SEQUENCE, WRITE},
    {"datestyle", WORD_REPORTED, WRITE},
    {"deallocate", WORD_DEALLOCATE, 0},
    {"declare", WORD_DECLARE, READ | SQL_CURSOR},
    {"delete", WORD_CHANGE, WRITE},
    {"discard", WORD_DISCARD, 0},
    {"do", WORD_VERB, WRITE | SQL_DO},
    {"drop", WORD_VERB, DDL},
    {"else", WORD_OPERAND, WRITE},
    {"end", WORD_END, SQL_COMMIT},
    {"execute", WORD_EXECUTE, WRITE | SQL_EXECUTE},
    {"explain", WORD_EXPLAIN, READ},
    {"false", WORD_CONSTANT, WRITE},
    {"fetch", WORD_VERB, READ},
    {"from", WORD_FROM, WRITE},
    {"function", WORD_ROUTINE, WRITE},
    {"global", WORD_LOCAL, WRITE}, /* before TEMP it means as little as LOCAL */
    {"grant", WORD_VERB, DDL},
    {"hold", WORD_HOLD, WRITE},
    {"import", WORD_VERB, DDL},
    {"index", WORD_INDEX, WRITE},
    {"insert", WORD_CHANGE, WRITE},
    {"intervalstyle", WORD_REPORTED, WRITE},
    {"into", WORD_INTO, WRITE},
    {"lastval", WORD_SEQUENCE, WRITE},
    {"limit", WORD_OPERAND, WRITE},
    {"listen", WORD_VERB, SQL_LISTEN},
    {"load", WORD_VERB, SQL_LOAD},
    {"local", WORD_LOCAL, WRITE},
    {"lock", WORD_LOCK, WRITE},
    {"merge", WORD_CHANGE, WRITE},
    {"move", WORD_VERB, READ},
    {"names", WORD_NAMES, WRITE},
    {"nextval", WORD_SEQUENCE, WRITE},
    {"not", WORD_OPERAND, WRITE},
    {"notify", WORD_VERB, WRITE},
    {"null", WORD_CONSTANT, WRITE},
    {"offset", WORD_OPERAND, WRITE},
    {"or", WORD_OPERAND, WRITE},
    {"pg_advisory_lock", WORD_ADVISORY_LOCK, WRITE},
    {"pg_advisory_lock_shared", WORD_ADVISORY_LOCK, WRITE},
    {"pg_temp", WORD_PG_TEMP, WRITE},
    {"pg_try_advisory_lock", WORD_ADVISORY_LOCK, WRITE},
    {"pg_try_advisory_lock_shared", WORD_ADVISORY_LOCK, WRITE},
    {"prepare", WORD_PREPARE, 0},
    {"prepared", WORD_PREPARED, WRITE},
    {"procedure", WORD_ROUTINE, WRITE},
    {"reassign", WORD_VERB, DDL},
    {"refresh", WORD_VERB, LONG},
    {"reindex", WORD_VERB, LONG},
    {"release", WORD_VERB, 0},
    {"reset", WORD_RESET, 0},
    {"return", WORD_OPERAND, WRITE},
    {"returning", WORD_OPERAND, WRITE},
    {"revoke", WORD_VERB, DDL},
    {"role", WORD_ROLE, WRITE},
    {"rollback", WORD_ROLLBACK, SQL_ROLLBACK},
    {"savepoint", WORD_VERB, 0},
    {"security", WORD_VERB, DDL},
    {"select", WORD_SELECT, READ},
    {"session", WORD_SESSION, WRITE},
    {"set", WORD_SET, 0},
    {"set_config", WORD_SET_CONFIG, WRITE},
    {"setval", WORD_SEQUENCE, WRITE},
    {"share", WORD_CHANGE, WRITE},
    {"show", WORD_VERB, READ},
    {"standard_conforming_strings", WORD_REPORTED, WRITE},
    {"start", WORD_VERB, SQL_BEGIN},
    {"stdin", WORD_STANDARD_IO, WRITE},
    {"stdout", WORD_STANDARD_IO, WRITE},
    {"table", WORD_TABLE, READ},
    {"temp", WORD_TEMP, WRITE},
    {"temporary", WORD_TEMP, WRITE},
    {"then", WORD_OPERAND, WRITE},
    {"time", WORD_TIME, WRITE},
    {"timezone", WORD_REPORTED, WRITE},
    {"to", WORD_TO, WRITE},
    {"transaction", WORD_TRANSACTION, WRITE},
    {"true", WORD_TRUE, WRITE},
    {"truncate", WORD_VERB, WRITE},
    {"unlisten", WORD_VERB, SQL_UNLISTEN},
    {"update", WORD_CHANGE, WRITE},
    {"vacuum", WORD_VERB, LONG},
    {"values", WORD_SELECT, READ},
    {"when", WORD_OPERAND, WRITE},
    {"where", WORD_OPERAND, WRITE},
    {"with", WORD_WITH, READ},
    {"zone", WORD_ZONE, WRITE},
};

const uint32_t sql_keywords_n = COUNT_OF(sql_keywords);

/* ---- the first words --------------------------------------------------------------------- */

static enum sql_word word_at(const struct sql_statement *st, uint32_t i)
{
    return i < st->words_n ? st->words[i].word : WORD_PLAIN;
}

/* The index of the first such word among words [1, to), or 0. */
static uint32_t word_find(const struct sql_statement *st, enum sql_word word, uint32_t to)
{
    for (uint32_t i = 1; i < st->words_n && i < to; i++) {
        if (st->words[i].word == word)
            return i;
    }
    return 0;
}

/* Word i as a name: folded unless quoted, and cut, as PostgreSQL would. */
static void word_name(const struct sql_statement *st, uint32_t i, char *name)
{
    size_t n = 0;

    name[0] = 0;
    if (i >= st->words_n)
        return;
    const struct sql_first_word *w = &st->words[i];
    for (uint32_t at = 0; at < w->text_n && n < SQL_NAME_MAX; at++) {
        char c = w->text[at];
        if (w->quoted && c == '"')
            at++; /* a quote in a quoted name is written twice */
        if (!w->quoted && c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        name[n++] = c;
    }
    name[n] = 0;
}

/* What SET and RESET touch, the name standing at word i. */
static uint32_t setting_flags(const struct sql_statement *st, uint32_t i)
{
    switch (word_at(st, i)) {
    case WORD_ROLE:
        return SQL_SET_ROLE;
    case WORD_REPORTED:
    case WORD_NAMES:
        return SQL_SET_TRACKED;
    case WORD_TIME:
        return word_at(st, i + 1) == WORD_ZONE ? SQL_SET_TRACKED : SQL_SET;
    case WORD_TRANSACTION: /* of this transaction only */
    case WORD_CONSTRAINTS:
        return 0;
    case WORD_SESSION:
        if (word_at(st, i + 1) == WORD_AUTHORIZATION)
            return SQL_SET_ROLE;
        if (word_at(st, i + 1) == WORD_CHARACTERISTICS)
            return SQL_SET;
        return i == 1 ? setting_flags(st, i + 1) : SQL_SET;
    case WORD_ALL:
        return SQL_SET | SQL_SET_TRACKED;
    default:
        return SQL_SET;
    }
}

static uint32_t create_flags(const struct sql_statement *st)
{
    uint32_t flags = st->as_verb;

    if (word_find(st, WORD_TEMP, SQL_WORDS_MAX))
        flags |= SQL_TEMP;
    if (word_find(st, WORD_INDEX, 3)) /* CREATE [UNIQUE] INDEX */
        flags |= SQL_UTILITY_LONG;
    if (word_find(st, WORD_TABLE, 4) && word_find(st, WORD_EXECUTE, SQL_WORDS_MAX))
        flags |= SQL_EXECUTE;
    return flags;
}

static uint32_t deallocate_flags(const struct sql_statement *st, char *name)
{
    uint32_t i = word_at(st, 1) == WORD_PREPARE && st->words_n > 2 ? 2 : 1;

    if (word_at(st, i) == WORD_ALL)
        return SQL_DEALLOCATE_ALL;
    word_name(st, i, name);
    return SQL_DEALLOCATE;
}

static uint32_t copy_flags(const struct sql_statement *st)
{
    uint32_t flags = 0;

    if (st->copies_out)
        flags |= SQL_COPY_OUT | SQL_READ;
    if (st->copies_in)
        flags |= SQL_COPY_IN | SQL_WRITE;
    /* From or to a file of the server's: not our stream. Which of the two is not worth finding out.
     */
    return flags ? flags : SQL_READ | SQL_WRITE;
}

/* Statements that only read, unless something inside does not. */
static uint32_t read_flags(const struct sql_statement *st, char *name)
{
    uint32_t flags = st->as_verb | (st->changes ? SQL_WRITE : 0);
    uint32_t execute_i = word_find(st, WORD_EXECUTE, SQL_WORDS_MAX);

    if (st->into_temp)
        flags |= SQL_TEMP;
    if (st->words[0].word == WORD_DECLARE && st->holds)
        flags |= SQL_CURSOR_HOLD;
    if (st->words[0].word == WORD_EXPLAIN && execute_i) {
        word_name(st, execute_i + 1, name);
        flags |= SQL_EXECUTE;
    }
    return flags;
}

static uint32_t verb_flags(const struct sql_statement *st, char *name)
{
    switch (word_at(st, 0)) {
    case WORD_SET:
        return word_at(st, 1) == WORD_LOCAL ? 0 : setting_flags(st, 1);
    case WORD_RESET:
        return setting_flags(st, 1);
    case WORD_CREATE:
        return create_flags(st);
    case WORD_PREPARE:
        if (word_at(st, 1) == WORD_TRANSACTION)
            return SQL_COMMIT;
        word_name(st, 1, name);
        return SQL_PREPARE;
    case WORD_COMMIT:
        return word_at(st, 1) == WORD_PREPARED ? SQL_WRITE : st->as_verb;
    case WORD_ROLLBACK:
        if (word_at(st, 1) == WORD_PREPARED)
            return SQL_WRITE;
        return word_find(st, WORD_TO, 3) ? 0 : st->as_verb; /* to a savepoint */
    case WORD_DEALLOCATE:
        return deallocate_flags(st, name);
    case WORD_DISCARD:
        return word_at(st, 1) == WORD_ALL ? SQL_DISCARD_ALL : SQL_DISCARD;
    case WORD_COPY:
        return copy_flags(st) | (st->changes ? SQL_WRITE : 0);
    case WORD_EXECUTE:
        word_name(st, 1, name);
        return st->as_verb;
    case WORD_LOCK: /* the lock of every SELECT, taken beforehand: so a dump begins */
        return st->access_share ? READ : st->as_verb;
    case WORD_DECLARE:
    case WORD_EXPLAIN:
    case WORD_SELECT:
    case WORD_TABLE:
    case WORD_WITH:
        return read_flags(st, name);
    default:
        return st->as_verb;
    }
}

uint32_t sql_statement_flags(const struct sql_statement *st, char *name)
{
    must(st->words_n <= SQL_WORDS_MAX);
    if (st->words_n == 0)
        return SQL_WRITE | st->noticed; /* no SQL of PostgreSQL's begins so */
    return verb_flags(st, name) | st->noticed;
}

/* ---- command tags ------------------------------------------------------------------------ */

static const struct {
    const char *text;
    uint32_t flags;
} tags[] = {
    /* Longer ones before those they begin with. Those before the blank line carry counts. */
    {"SELECT", READ},
    {"INSERT", WRITE},
    {"UPDATE", WRITE},
    {"DELETE", WRITE},
    {"MERGE", WRITE},
    {"FETCH", READ},
    {"MOVE", READ},
    {"COPY", 0}, /* which way, the messages have shown */

    {"BEGIN", SQL_BEGIN},
    {"START TRANSACTION", SQL_BEGIN},
    {"COMMIT PREPARED", WRITE},
    {"COMMIT", SQL_COMMIT},
    {"PREPARE TRANSACTION", SQL_COMMIT},
    {"ROLLBACK PREPARED", WRITE},
    {"ROLLBACK", SQL_ROLLBACK}, /* also of ROLLBACK TO: ReadyForQuery tells */
    {"SAVEPOINT", 0},
    {"RELEASE", 0},
    {"SET CONSTRAINTS", 0},
    {"SET", SQL_SET},
    {"RESET", SQL_SET},
    {"SHOW", READ},
    {"EXPLAIN", READ},
    {"PREPARE", SQL_PREPARE},
    {"DEALLOCATE ALL", SQL_DEALLOCATE_ALL},
    {"DEALLOCATE", SQL_DEALLOCATE},
    {"DISCARD ALL", SQL_DISCARD_ALL},
    {"DISCARD", SQL_DISCARD},
    {"LISTEN", SQL_LISTEN},
    {"UNLISTEN", SQL_UNLISTEN},
    {"NOTIFY", WRITE},
    {"LOAD", SQL_LOAD},
    {"LOCK TABLE", 0}, /* which lock, the text has shown */
    {"DO", WRITE | SQL_DO},
    {"CALL", WRITE | SQL_DO},
    {"DECLARE CURSOR", READ | SQL_CURSOR},
    {"CLOSE CURSOR", 0},
    {"CREATE INDEX", DDL | SQL_UTILITY_LONG},
    {"CREATE", DDL},
    {"ALTER", DDL},
    {"DROP", DDL},
    {"GRANT", DDL},
    {"REVOKE", DDL},
    {"COMMENT", DDL},
    {"SECURITY LABEL", DDL},
    {"IMPORT FOREIGN SCHEMA", DDL},
    {"REASSIGN OWNED", DDL},
    {"REFRESH MATERIALIZED VIEW", LONG},
    {"VACUUM", LONG},
    {"ANALYZE", LONG},
    {"CLUSTER", LONG},
    {"REINDEX", LONG},
    {"CHECKPOINT", LONG},
};

uint32_t sql_tag_flags(const char *tag)
{
    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        size_t n = strlen(tags[i].text);
        if (strncmp(tag, tags[i].text, n) == 0 && (tag[n] == 0 || tag[n] == ' '))
            return tags[i].flags;
    }
    return SQL_WRITE; /* in doubt */
}
