/* The scanner: bytes -> tokens -> hash and notices, in one pass.
 *
 *      word, "name"   hashed folded; looked up; the first ones of a statement are kept
 *      literal        numbers, strings of all kinds, $1, NULL, TRUE, FALSE: all hash the same
 *      ( ) , other    hashed as they are; a sign before a number belongs to the number
 *      ;              ends a statement, and is hashed only if another one follows
 *
 * Lists of literals are shortened to one by going back: the hash behind an item is remembered, and
 * when a comma and another item have been hashed on top of it, it is restored. An item is a
 * literal, or a row of literals in parentheses (VALUES lists). The automaton for it is `list_next`.
 *
 * Words are packed 8 folded bytes at a time into a 64-bit value, so a word of up to 8 bytes is its
 * own value; the keyword table is probed with that value, and nearly all words miss at the first
 * probe. The table is filled before main(), and read-only from then on.
 *
 * Multi-byte encodings that PostgreSQL allows only for clients (SJIS, BIG5, GBK ...) may hold a
 * backslash as a second byte; inside E'' that may mislead us about the end of the string.
 */
#include "proxy/sql.h"
#include "proxy/sql_words.h"

#include <string.h>

/* ---- tables ------------------------------------------------------------------------------ */

enum byte_class {
    BYTE_OTHER = 0,
    BYTE_SPACE,
    BYTE_WORD, /* begins a word */
    BYTE_DIGIT,
    BYTE_QUOTE,
    BYTE_NAME_QUOTE,
    BYTE_DOLLAR,
    BYTE_SIGN,
    BYTE_SLASH,
    BYTE_DOT,
    BYTE_OPEN,
    BYTE_CLOSE,
    BYTE_COMMA,
    BYTE_SEMICOLON,
};

static const uint8_t byte_class[256] = {
    [' '] = BYTE_SPACE,        ['\t'] = BYTE_SPACE,        ['\n'] = BYTE_SPACE,
    ['\v'] = BYTE_SPACE,       ['\f'] = BYTE_SPACE,        ['\r'] = BYTE_SPACE,
    ['A' ... 'Z'] = BYTE_WORD, ['a' ... 'z'] = BYTE_WORD,  ['_'] = BYTE_WORD,
    [128 ... 255] = BYTE_WORD, ['0' ... '9'] = BYTE_DIGIT, ['\''] = BYTE_QUOTE,
    ['"'] = BYTE_NAME_QUOTE,   ['$'] = BYTE_DOLLAR,        ['-'] = BYTE_SIGN,
    ['+'] = BYTE_SIGN,         ['/'] = BYTE_SLASH,         ['.'] = BYTE_DOT,
    ['('] = BYTE_OPEN,         [')'] = BYTE_CLOSE,         [','] = BYTE_COMMA,
    [';'] = BYTE_SEMICOLON,
};

static inline bool is_word_byte(uint8_t c)
{
    return byte_class[c] == BYTE_WORD || byte_class[c] == BYTE_DIGIT ||
           byte_class[c] == BYTE_DOLLAR;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15u) *
                                (b ^ 0xd6e8feb86659fd93u); /* odd, and far from zero */

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* ---- words, eight bytes at once ---------------------------------------------------------- */

#define LANES(byte) (0x0101010101010101u * (byte))

/* The high bit of each lane whose low seven bits are at least `low`. */
#define LANES_GE(lanes, low) ((lanes) + LANES(0x80 - (low)))

/* The next eight bytes, the first lowest; zeros behind the end. */
static inline uint64_t load8(const uint8_t *at, const uint8_t *end)
{
    uint64_t x = 0;

    if (end - at >= 8) {
        memcpy(&x, at, sizeof(x));
        return x;
    }
    for (uint32_t i = 0; at < end; i += 8)
        x |= (uint64_t)*at++ << i;
    return x;
}

/* How many of the eight bytes belong to a word: letters, digits, _, $, and all beyond ASCII. */
static inline uint32_t word_bytes(uint64_t x)
{
    uint64_t seven = x & LANES(0x7f), lower = seven | LANES(0x20);
    uint64_t letter = LANES_GE(lower, 'a') & ~LANES_GE(lower, 'z' + 1);
    uint64_t digit = LANES_GE(seven, '0') & ~LANES_GE(seven, '9' + 1);
    uint64_t not_underscore = LANES_GE(seven ^ LANES('_'), 1);
    uint64_t not_dollar = LANES_GE(seven ^ LANES('$'), 1);
    uint64_t end = ~(letter | digit | ~not_underscore | ~not_dollar | x) & LANES(0x80);

    return end ? (uint32_t)__builtin_ctzll(end) / 8 : 8;
}

static inline uint64_t fold8(uint64_t x)
{
    uint64_t seven = x & LANES(0x7f);
    uint64_t upper = LANES_GE(seven, 'A') & ~LANES_GE(seven, 'Z' + 1) & ~x & LANES(0x80);

    return x | upper >> 2; /* 0x80 >> 2 is what lies between A and a */
}

/* Takes the word at `at` and packs it; returns where it ends. */
static inline const uint8_t *take_word(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
    uint64_t x = load8(at, end), whole = 0;
    uint32_t n = word_bytes(x);

    while (n == 8 && end - at > 8 && is_word_byte(at[8])) {
        whole = mix(whole, fold8(x));
        at += 8;
        x = load8(at, end);
        n = word_bytes(x);
    }
    x = n == 8 ? x : x & ((1ull << 8 * n) - 1);
    *value = whole == 0 ? fold8(x) : mix(whole, fold8(x));
    return at + n;
}

/* ---- keywords ---------------------------------------------------------------------------- */

enum { SLOTS_N = 1024, SLOT_BITS = 10 }; /* some 110 keywords: nine of ten words miss at once */

static uint8_t slots[SLOTS_N]; /* 1 + index into sql_keywords, by slot_of() its value */
static uint64_t slot_value[SLOTS_N];

static inline uint32_t slot_of(uint64_t value)
{
    return (uint32_t)(value * 0x9e3779b97f4a7c15u >> (64 - SLOT_BITS));
}

__attribute__((constructor)) static void slots_fill(void)
{
    must(sql_keywords_n < 255);
    for (uint32_t i = 0; i < sql_keywords_n; i++) {
        const uint8_t *text = (const uint8_t *)sql_keywords[i].text;
        uint64_t value;
        (void)take_word(text, text + strlen(sql_keywords[i].text), &value);
        uint32_t slot = slot_of(value);
        while (slots[slot] != 0)
            slot = (slot + 1) % SLOTS_N;
        slots[slot] = (uint8_t)(i + 1);
        slot_value[slot] = value;
    }
}

static inline const struct sql_keyword *keyword_of(uint64_t value)
{
    static const struct sql_keyword plain = {"", WORD_PLAIN, SQL_WRITE};

    for (uint32_t slot = slot_of(value); slots[slot] != 0; slot = (slot + 1) % SLOTS_N) {
        if (slot_value[slot] == value)
            return &sql_keywords[slots[slot] - 1];
    }
    return &plain;
}

/* ---- the state of a scan ----------------------------------------------------------------- */

enum token {
    TOKEN_OTHER,
    TOKEN_WORD,
    TOKEN_LITERAL,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_COMMA,
    TOKENS_N
};

/* Where we are in a list; X1 X2 are items. `hash_item` is valid in *_ITEM and *_COMMA, `hash_row`
 * from LIST_ROW up to LIST_ROWS_COMMA. */
enum list {
    LIST_NONE,
    LIST_ITEM,       /* X1 */
    LIST_COMMA,      /* X1 ,            -> X2 goes back to X1 */
    LIST_OPEN,       /* ( */
    LIST_ROW_ITEM,   /* ( X1 */
    LIST_ROW_COMMA,  /* ( X1 , */
    LIST_ROW,        /* ( X1 ) */
    LIST_ROWS_NEXT,  /* ( X1 ) , */
    LIST_ROWS_OPEN,  /* ( X1 ) , ( */
    LIST_ROWS_ITEM,  /* ( X1 ) , ( X2   -> the closing parenthesis goes back to the first row */
    LIST_ROWS_COMMA, /* ( X1 ) , ( X2 , */
    LISTS_N,
};

#define ELSE(item, open)                                                                           \
    [TOKEN_OTHER] = LIST_NONE, [TOKEN_WORD] = LIST_NONE, [TOKEN_LITERAL] = (item),                 \
    [TOKEN_OPEN] = (open)

static const uint8_t list_next[LISTS_N][TOKENS_N] = {
    [LIST_NONE] = {ELSE(LIST_ITEM, LIST_OPEN)},
    [LIST_ITEM] = {ELSE(LIST_ITEM, LIST_OPEN), [TOKEN_COMMA] = LIST_COMMA},
    [LIST_COMMA] = {ELSE(LIST_ITEM, LIST_OPEN)},
    [LIST_OPEN] = {ELSE(LIST_ROW_ITEM, LIST_OPEN)},
    [LIST_ROW_ITEM] =
        {ELSE(LIST_ITEM, LIST_OPEN), [TOKEN_COMMA] = LIST_ROW_COMMA, [TOKEN_CLOSE] = LIST_ROW},
    [LIST_ROW_COMMA] = {ELSE(LIST_ROW_ITEM, LIST_OPEN)},
    [LIST_ROW] = {ELSE(LIST_ITEM, LIST_OPEN), [TOKEN_COMMA] = LIST_ROWS_NEXT},
    [LIST_ROWS_NEXT] = {ELSE(LIST_ITEM, LIST_ROWS_OPEN)},
    [LIST_ROWS_OPEN] = {ELSE(LIST_ROWS_ITEM, LIST_OPEN)},
    [LIST_ROWS_ITEM] =
        {ELSE(LIST_ITEM, LIST_OPEN), [TOKEN_COMMA] = LIST_ROWS_COMMA, [TOKEN_CLOSE] = LIST_ROW},
    [LIST_ROWS_COMMA] = {ELSE(LIST_ROWS_ITEM, LIST_OPEN)},
};

#undef ELSE

/* set_config(name, value, true) lasts for the transaction only, and is what PostgREST and row level
 * security setups send all day: the one call whose arguments are looked at. */
struct set_config {
    enum { SET_CONFIG_NONE, SET_CONFIG_NAME, SET_CONFIG_ARGS } state;
    uint32_t depth, commas_n, tokens_n;
    bool is_true;
};

struct scan {
    const uint8_t *at, *end;
    uint64_t hash, hash_item, hash_row;
    enum list list;
    enum token last;         /* the token before: is a sign unary? */
    enum sql_word last_word; /* WORD_PLAIN unless the token before was a word */
    bool semicolon;          /* seen, and not yet hashed */
    uint32_t depth;          /* of parentheses */
    uint32_t blocks;         /* of BEGIN ATOMIC and CASE in the body of a routine */
    struct set_config set_config;
    struct sql_info *out;
    struct sql_statement st; /* last: its words stay as they are */
};

/* ---- tokens ------------------------------------------------------------------------------ */

static void set_config_step(struct scan *s, enum token token, enum sql_word word)
{
    struct set_config *call = &s->set_config;

    if (word == WORD_SET_CONFIG)
        return; /* notice() has just begun the call */
    if (call->state == SET_CONFIG_NAME) {
        call->state = token == TOKEN_OPEN ? SET_CONFIG_ARGS : SET_CONFIG_NONE;
        call->depth = s->depth;
        if (token != TOKEN_OPEN)
            s->st.noticed |= SQL_SET_CONFIG;
    } else if (s->depth == call->depth && token == TOKEN_COMMA) {
        call->commas_n++;
        call->tokens_n = 0;
    } else if (s->depth < call->depth) {
        if (call->commas_n != 2 || call->tokens_n != 1 || !call->is_true)
            s->st.noticed |= SQL_SET_CONFIG;
        call->state = SET_CONFIG_NONE;
    } else {
        call->tokens_n++;
        call->is_true = word == WORD_TRUE;
    }
}

/* Hashes a token and steps all that watches tokens. s->depth already counts it. */
static inline void token(struct scan *s, enum token kind, enum sql_word word, uint64_t value)
{
    enum list before = s->list;

    if (s->semicolon) {
        s->hash = mix(s->hash, ';');
        s->semicolon = false;
    }
    s->hash = mix(s->hash + kind, value);
    s->list = list_next[before][kind];
    if (kind == TOKEN_LITERAL) {
        if (before == LIST_COMMA || before == LIST_ROW_COMMA || before == LIST_ROWS_COMMA)
            s->hash = s->hash_item;
        else
            s->hash_item = s->hash;
    } else if (s->list == LIST_ROW) {
        if (before == LIST_ROWS_ITEM)
            s->hash = s->hash_row;
        else
            s->hash_row = s->hash;
    }
    s->st.tokens_n++;
    s->last = word == WORD_OPERAND || word == WORD_SELECT ? TOKEN_OTHER : kind;
    s->last_word = word;
    if (s->set_config.state != SET_CONFIG_NONE)
        set_config_step(s, kind, word);
}

static inline void literal(struct scan *s, const uint8_t *next)
{
    s->at = next;
    token(s, TOKEN_LITERAL, WORD_PLAIN, 0);
}

static void statement_end(struct scan *s)
{
    uint32_t flags;

    s->depth = s->blocks = 0;
    if (s->st.tokens_n == 0)
        return;
    if (s->set_config.state != SET_CONFIG_NONE)
        s->st.noticed |= SQL_SET_CONFIG;
    flags = sql_statement_flags(&s->st, s->out->name);
    s->out->flags |= flags;
    if (s->out->statements_n++ == 0)
        s->out->first = flags;
    memset(&s->st, 0, offsetof(struct sql_statement, words));
    s->set_config = (struct set_config){.state = SET_CONFIG_NONE};
    s->last_word = WORD_PLAIN;
}

/* ---- words ------------------------------------------------------------------------------- */

/* BEGIN ATOMIC ... END and CASE ... END in a routine's body: semicolons inside end no statement. */
static void routine_step(struct scan *s, enum sql_word word)
{
    bool routine = false;

    if (s->st.words_n == 0 || s->st.words[0].word != WORD_CREATE)
        return;
    for (uint32_t i = 1; i < s->st.words_n && i < 4; i++)
        routine |= s->st.words[i].word == WORD_ROUTINE;
    if (!routine)
        return;
    if (word == WORD_BEGIN || (word == WORD_CASE && s->blocks > 0))
        s->blocks++;
    else if (word == WORD_END && s->blocks > 0)
        s->blocks--;
}

/* What a keyword means wherever it stands. */
static void notice(struct scan *s, enum sql_word word)
{
    switch (word) {
    case WORD_SET_CONFIG:
        if (s->set_config.state != SET_CONFIG_NONE)
            s->st.noticed |= SQL_SET_CONFIG; /* one inside the other */
        s->set_config = (struct set_config){.state = SET_CONFIG_NAME};
        break;
    case WORD_ADVISORY_LOCK:
        s->st.noticed |= SQL_ADVISORY_LOCK;
        break;
    case WORD_PG_TEMP:
        s->st.noticed |= SQL_TEMP;
        break;
    case WORD_SEQUENCE:
        s->st.noticed |= SQL_SEQUENCE;
        break;
    case WORD_CHANGE:
        s->st.access_share |= s->last_word == WORD_ACCESS; /* SHARE: the only one behind it */
        s->st.changes = true;
        break;
    case WORD_INTO:
        s->st.changes = true;
        break;
    case WORD_TEMP:
        /* INTO TEMP, INTO LOCAL TEMP, and CREATE TEMP behind an EXPLAIN */
        s->st.into_temp |=
            s->last_word == WORD_INTO || s->last_word == WORD_LOCAL || s->last_word == WORD_CREATE;
        break;
    case WORD_HOLD:
        s->st.holds |= s->last_word == WORD_WITH;
        break;
    case WORD_STANDARD_IO:
        s->st.copies_out |= s->depth == 0 && s->last_word == WORD_TO;
        s->st.copies_in |= s->depth == 0 && s->last_word == WORD_FROM;
        break;
    case WORD_BEGIN:
    case WORD_CASE:
    case WORD_END:
        routine_step(s, word);
        break;
    default: /* matters only among the first words */
        break;
    }
}

static inline void word_keep(struct scan *s, const uint8_t *text, size_t n, bool quoted,
                             const struct sql_keyword *keyword)
{
    if (s->st.words_n == SQL_WORDS_MAX)
        return;
    if (s->st.words_n == 0)
        s->st.as_verb = quoted ? SQL_WRITE : keyword->as_verb;
    s->st.words[s->st.words_n++] = (struct sql_first_word){
        .text = (const char *)text,
        .text_n = (uint32_t)n,
        .word = keyword->word,
        .quoted = quoted,
    };
}

/* The end of a quoted thing that began before `at`; the quote itself is written twice inside. */
static const uint8_t *quoted_end(const uint8_t *at, const uint8_t *end, uint8_t quote)
{
    while (at < end) {
        const uint8_t *found = memchr(at, quote, (size_t)(end - at));
        if (!found)
            return end;
        if (found + 1 == end || found[1] != quote)
            return found + 1;
        at = found + 2;
    }
    return end;
}

/* E'...': a backslash hides the next byte. */
static const uint8_t *escaped_end(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        if (*at == '\\') {
            at += end - at > 1 ? 2 : 1;
        } else if (*at == '\'') {
            if (end - at == 1 || at[1] != '\'')
                return at + 1;
            at += 2;
        } else {
            at++;
        }
    }
    return end;
}

/* "name": hashed like the word it would be unquoted, so that tools that quote everything and people
 * who quote nothing meet. What it is besides a name was decided by its quotes: only names count. */
static void scan_quoted_name(struct scan *s)
{
    const uint8_t *text = s->at + 1;
    const uint8_t *next = quoted_end(text, s->end, '"');
    const uint8_t *text_end = next > text && next[-1] == '"' ? next - 1 : next;
    const struct sql_keyword *keyword;
    static const struct sql_keyword name = {"", WORD_PLAIN, SQL_WRITE};
    uint64_t value;

    const uint8_t *word_end = take_word(text, text_end, &value);
    if (word_end != text_end) { /* a name that needs its quotes */
        value = mix(value, (uint64_t)(text_end - text));
        for (const uint8_t *at = word_end; at < text_end; at++)
            value = mix(value, *at);
    }
    keyword = word_end == text_end ? keyword_of(value) : &name;
    if (keyword->word < WORD_NAMES_FIRST)
        keyword = &name;
    notice(s, keyword->word);
    word_keep(s, text, (size_t)(text_end - text), true, keyword);
    s->at = next;
    token(s, TOKEN_WORD, keyword->word, value);
}

/* A letter that introduces a string: E'' B'' X'' N'', U&''. True when it was one. */
static bool scan_prefixed(struct scan *s, uint8_t letter, const uint8_t *next)
{
    switch (letter) {
    case 'e':
        if (*next != '\'')
            return false;
        literal(s, escaped_end(next + 1, s->end));
        return true;
    case 'b':
    case 'x':
    case 'n':
        if (*next != '\'')
            return false;
        literal(s, quoted_end(next + 1, s->end, '\''));
        return true;
    case 'u':
        if (*next != '&' || s->end - next < 2 || next[1] != '\'')
            return false; /* U&"name" is fine as a word, an operator and a name */
        literal(s, quoted_end(next + 2, s->end, '\''));
        return true;
    default:
        return false;
    }
}

static inline void scan_word(struct scan *s)
{
    const uint8_t *text = s->at;
    uint64_t value;
    const uint8_t *next = take_word(text, s->end, &value);

    if (next - text == 1 && next < s->end && (*next == '\'' || *next == '&') &&
        scan_prefixed(s, *text | 0x20, next))
        return;
    const struct sql_keyword *keyword = keyword_of(value);
    s->at = next;
    if (keyword->word == WORD_CONSTANT || keyword->word == WORD_TRUE) {
        token(s, TOKEN_LITERAL, keyword->word, 0);
        return;
    }
    if (keyword->word >= WORD_NOTICED_FIRST)
        notice(s, keyword->word);
    word_keep(s, text, (size_t)(next - text), false, keyword);
    token(s, TOKEN_WORD, keyword->word, value);
}

/* ---- all other tokens -------------------------------------------------------------------- */

static inline bool is_digit_at(const struct scan *s, const uint8_t *at)
{
    return at < s->end && byte_class[*at] == BYTE_DIGIT;
}

static void scan_number(struct scan *s)
{
    const uint8_t *at = s->at;
    bool radix = *at == '0' && s->end - at > 2 && strchr("xXoObB", at[1]) && at[1] != 0 &&
                 is_word_byte(at[2]);

    if (radix) {
        uint64_t digits;
        literal(s, take_word(at, s->end, &digits));
        return;
    }
    while (at < s->end && (byte_class[*at] == BYTE_DIGIT || *at == '.' || *at == '_'))
        at++;
    if (at < s->end && (*at == 'e' || *at == 'E')) {
        const uint8_t *exponent = at + 1;
        if (exponent < s->end && byte_class[*exponent] == BYTE_SIGN)
            exponent++;
        if (is_digit_at(s, exponent)) {
            at = exponent;
            while (is_digit_at(s, at))
                at++;
        }
    }
    literal(s, at);
}

/* $1, $$...$$, $tag$...$tag$, or a stray dollar. */
static void scan_dollar(struct scan *s)
{
    const uint8_t *at = s->at + 1;

    if (is_digit_at(s, at)) {
        while (is_digit_at(s, at))
            at++;
        literal(s, at);
        return;
    }
    while (at < s->end && is_word_byte(*at) && *at != '$')
        at++;
    if (at == s->end || *at != '$') {
        token(s, TOKEN_OTHER, WORD_PLAIN, *s->at);
        s->at++;
        return;
    }
    size_t tag_n = (size_t)(at + 1 - s->at);
    const uint8_t *close = memmem(at + 1, (size_t)(s->end - at - 1), s->at, tag_n);
    literal(s, close ? close + tag_n : s->end);
}

static const uint8_t *line_end(const struct scan *s)
{
    const uint8_t *at = s->at;

    while (at < s->end && *at != '\n' && *at != '\r')
        at++;
    return at;
}

/* Comments nest. */
static const uint8_t *comment_end(const struct scan *s)
{
    const uint8_t *at = s->at + 2;
    uint32_t open_n = 1;

    while (open_n > 0 && s->end - at > 1) {
        if (at[0] == '*' && at[1] == '/') {
            open_n--;
            at += 2;
        } else if (at[0] == '/' && at[1] == '*') {
            open_n++;
            at += 2;
        } else {
            at++;
        }
    }
    return open_n > 0 ? s->end : at;
}

static inline void scan_other(struct scan *s)
{
    token(s, TOKEN_OTHER, WORD_PLAIN, *s->at);
    s->at++;
}

static void scan_sign(struct scan *s)
{
    const uint8_t *next = s->at + 1;
    bool unary = s->last == TOKEN_OTHER || s->last == TOKEN_OPEN || s->last == TOKEN_COMMA;

    if (*s->at == '-' && next < s->end && *next == '-')
        s->at = line_end(s);
    else if (unary && (is_digit_at(s, next) || (next < s->end && *next == '.')))
        s->at = next;
    else
        scan_other(s);
}

static void scan_semicolon(struct scan *s)
{
    if (s->depth > 0 || s->blocks > 0) {
        scan_other(s); /* in a rule's or routine's body */
        return;
    }
    s->at++;
    s->semicolon = s->semicolon || s->st.tokens_n > 0;
    statement_end(s);
    s->list = LIST_NONE;
    s->last = TOKEN_OTHER;
}

static inline void scan_parenthesis(struct scan *s, enum token kind)
{
    if (kind == TOKEN_OPEN)
        s->depth++;
    else if (s->depth > 0)
        s->depth--;
    token(s, kind, WORD_PLAIN, *s->at);
    s->at++;
}

static inline void scan_token(struct scan *s)
{
    switch ((enum byte_class)byte_class[*s->at]) {
    case BYTE_SPACE:
        s->at++;
        break;
    case BYTE_WORD:
        scan_word(s);
        break;
    case BYTE_DIGIT:
        scan_number(s);
        break;
    case BYTE_QUOTE:
        literal(s, quoted_end(s->at + 1, s->end, '\''));
        break;
    case BYTE_NAME_QUOTE:
        scan_quoted_name(s);
        break;
    case BYTE_DOLLAR:
        scan_dollar(s);
        break;
    case BYTE_SIGN:
        scan_sign(s);
        break;
    case BYTE_SLASH:
        if (s->end - s->at > 1 && s->at[1] == '*')
            s->at = comment_end(s);
        else
            scan_other(s);
        break;
    case BYTE_DOT:
        if (is_digit_at(s, s->at + 1))
            scan_number(s);
        else
            scan_other(s);
        break;
    case BYTE_OPEN:
        scan_parenthesis(s, TOKEN_OPEN);
        break;
    case BYTE_CLOSE:
        scan_parenthesis(s, TOKEN_CLOSE);
        break;
    case BYTE_COMMA:
        token(s, TOKEN_COMMA, WORD_PLAIN, ',');
        s->at++;
        break;
    case BYTE_SEMICOLON:
        scan_semicolon(s);
        break;
    case BYTE_OTHER:
        scan_other(s);
        break;
    }
}

void sql_scan(const char *text, size_t n, bool truncated, struct sql_info *out)
{
    struct scan s;

    memset(&s, 0, offsetof(struct scan, st) + offsetof(struct sql_statement, words));
    s.out = out;
    *out = (struct sql_info){0};
    if (n > 0) {
        s.at = (const uint8_t *)text;
        s.end = s.at + n;
    }
    while (s.at < s.end) {
        scan_token(&s);
        if (s.at < s.end && *s.at == ' ') /* one space is what mostly follows */
            s.at++;
    }
    bool locks = out->statements_n == 0 && s.st.words_n > 0 && s.st.words[0].word == WORD_LOCK;
    statement_end(&s);
    if (out->statements_n == 0)
        out->flags |= SQL_EMPTY;
    if (out->statements_n > 1)
        out->flags |= SQL_MULTI;
    /* LOCK of so many tables that its mode is not to be seen is a dump's: ACCESS SHARE. */
    if (truncated && locks)
        out->flags = out->first = SQL_READ;
    else if (truncated)
        out->flags |= SQL_TRUNCATED;
    if (out->statements_n > 0)
        out->fingerprint = s.hash ? s.hash : 1;
}
