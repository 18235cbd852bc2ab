/* Every setting there is, one row each. The parser, SHOW CONFIG, `--help-config` and the hints for
 * misspelt names are made from these rows, so that they cannot disagree. */
#ifndef CONFIG_KEYS_H
#define CONFIG_KEYS_H

#include <stdio.h>

#include "breaker/base.h"

enum key_scope { KEY_GLOBAL, KEY_DATABASE, KEY_USER, KEY_PEER, KEY_CLASS, KEY_SCOPES };

/* What the text means, and what it is kept as. */
enum key_type {
    KEY_BOOL,     /* 0 or 1: bool */
    KEY_INT,      /* int or uint32_t; 0x and leading 0 as in C */
    KEY_OCTAL,    /* the same, shown in octal */
    KEY_BYTES,    /* uint64_t; ours may have a unit */
    KEY_TIME,     /* seconds, fractions allowed: uint64_t microseconds; ours may have a unit */
    KEY_MS,       /* milliseconds: uint64_t microseconds */
    KEY_TEXT,     /* const char *, not copied */
    KEY_LIST,     /* the same, comma separated */
    KEY_CHOICE,   /* one of a few words: an enum */
    KEY_FLAGS,    /* some of a few words, comma separated: uint32_t of BIT()s */
    KEY_SHARE,    /* "30%" or "8": struct class_share */
    KEY_SQLSTATE, /* five letters or digits: char[6] */
    KEY_SPECIAL,  /* read by the section's own code */
};

enum key_flag {
    KEY_RESTART = BIT(0),  /* a reload does not change it */
    KEY_SECRET = BIT(1),   /* never shown */
    KEY_WAITS = BIT(2),    /* known and checked, does not act yet */
    KEY_OURS = BIT(3),     /* PgBouncer does not know it; units are allowed */
    KEY_UNSET_OK = BIT(4), /* -1: leave it to the next scope */
    KEY_ALIAS = BIT(5),    /* another name of the row before it: not shown */
};

/* Ends with text NULL; of two words for one value the first is shown. */
struct key_choice {
    const char *text;
    int value;
    bool missing; /* PgBouncer has it, we do not yet: refused, because anything else would be wrong
                   */
};

struct key {
    const char *name;
    enum key_type type;
    uint32_t flags;           /* of enum key_flag */
    int64_t min, max;         /* KEY_INT, KEY_OCTAL, KEY_BYTES; seconds for KEY_TIME */
    const char *default_text; /* NULL: unset */
    const struct key_choice *choices;
    size_t offset; /* in the scope's struct */
    const char *help;
};

/* A run of rows that belong together; in keys_table.c. */
struct key_table {
    enum key_scope scope;
    const char *title;
    const struct key *keys;
    size_t keys_n;
};
extern const struct key_table keys_tables[];
extern const size_t keys_tables_n;
/* As SHOW POOLS and errors name them. */
extern const struct key_choice keys_pool_modes[];

/* The row of this name, or NULL. */
const struct key *keys_find(enum key_scope scope, const char *name);
/* The nearest of some words, or NULL when none is near. */
const char *keys_nearest_word(const char *const *words, size_t words_n, const char *name);
/* What to tell whoever wrote a name the scope has not: the nearest one, or where it belongs. */
void keys_explain_unknown(enum key_scope scope, const char *name, struct err *err);

/* Sets every field of the scope's struct to its default. */
void keys_defaults(enum key_scope scope, void *base);
/* Parses text into its field of the scope's struct. KEY_TEXT keeps the pointer. The err has no
 * place and does not name the key. */
MUST_USE bool keys_parse(const struct key *key, const char *text, void *base, struct err *err);
/* The value in canonical form: static, base's own, or in buf. Secrets are not spelt out. */
const char *keys_format(const struct key *key, const void *base, char *buf, size_t buf_bytes);

/* The settings' reference, for people. */
void keys_help(FILE *out);

#endif
