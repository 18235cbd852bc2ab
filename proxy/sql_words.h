/* The words sql.c knows, and what the first words of a statement mean. Inside of sql.h, no one
 * else's. */
#ifndef PROXY_SQL_WORDS_H
#define PROXY_SQL_WORDS_H

#include "proxy/sql.h"

enum sql_word {
    WORD_PLAIN = 0, /* a name, or a keyword nothing depends on */
    WORD_VERB,      /* a first word whose meaning needs no second */
    /* verbs whose meaning depends on more words */
    WORD_COMMIT,
    WORD_COPY,
    WORD_CREATE,
    WORD_DEALLOCATE,
    WORD_DECLARE,
    WORD_DISCARD,
    WORD_EXECUTE,
    WORD_EXPLAIN,
    WORD_LOCK,
    WORD_PREPARE,
    WORD_RESET,
    WORD_ROLLBACK,
    WORD_SELECT,
    WORD_SET,
    WORD_TABLE,
    WORD_WITH,
    /* words that follow them */
    WORD_ACCESS,
    WORD_ALL,
    WORD_AUTHORIZATION,
    WORD_CHARACTERISTICS,
    WORD_CONSTRAINTS,
    WORD_FROM,
    WORD_INDEX,
    WORD_LOCAL,
    WORD_NAMES,
    WORD_PREPARED,
    WORD_ROLE,
    WORD_ROUTINE, /* FUNCTION, PROCEDURE */
    WORD_SESSION,
    WORD_TIME,
    WORD_TO,
    WORD_TRANSACTION,
    WORD_ZONE,
    WORD_OPERAND,  /* a sign behind it belongs to a number: AND, THEN, LIMIT ... */
    WORD_CONSTANT, /* NULL, FALSE */
    WORD_TRUE,
    /* words that mean something wherever they stand */
    WORD_NOTICED_FIRST,
    WORD_BEGIN = WORD_NOTICED_FIRST,
    WORD_CASE,
    WORD_CHANGE, /* INSERT, UPDATE (also FOR UPDATE), DELETE, MERGE, FOR SHARE */
    WORD_END,
    WORD_HOLD,
    WORD_INTO,
    WORD_STANDARD_IO, /* STDIN, STDOUT */
    WORD_TEMP,        /* TEMP, TEMPORARY */
    /* names that count quoted as well */
    WORD_NAMES_FIRST,
    WORD_REPORTED = WORD_NAMES_FIRST, /* a setting reported by ParameterStatus */
    WORD_SET_CONFIG,
    WORD_ADVISORY_LOCK,
    WORD_PG_TEMP,
    WORD_SEQUENCE, /* nextval() and its kind */
};

struct sql_keyword {
    const char *text;
    enum sql_word word;
    uint32_t as_verb; /* flags of a statement that begins with it */
};

extern const struct sql_keyword sql_keywords[];
extern const uint32_t sql_keywords_n;

enum { SQL_WORDS_MAX = 6 }; /* CREATE OR REPLACE LOCAL TEMPORARY VIEW */

struct sql_first_word {
    const char *text;
    uint32_t text_n;
    enum sql_word word;
    bool quoted;
};

/* What has been noticed of one statement. */
struct sql_statement {
    uint32_t words_n;
    uint32_t as_verb; /* of words[0] */
    uint32_t noticed; /* flags that words anywhere in it stand for */
    uint32_t tokens_n;
    bool changes;                               /* a WORD_CHANGE or WORD_INTO somewhere */
    bool copies_out, copies_in;                 /* TO/FROM STDOUT/STDIN outside parentheses */
    bool holds;                                 /* WITH HOLD */
    bool into_temp;                             /* INTO TEMP */
    bool access_share;                          /* ACCESS SHARE */
    struct sql_first_word words[SQL_WORDS_MAX]; /* last: a reset leaves them alone */
};

/* The flags of a statement that has ended; fills name (SQL_NAME_MAX + 1) where it has one. */
uint32_t sql_statement_flags(const struct sql_statement *st, char *name);

#endif
