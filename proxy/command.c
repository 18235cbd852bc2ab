#include "proxy/command.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- words ----------------------------------------------------------------------------------- */

enum kind { WORD, QUOTED, SIGN, SEMICOLON, END, BROKEN };

struct token {
    enum kind kind;
    char text[COMMAND_VALUE_MAX + 1];
};

/* What is left of the text. */
struct rest {
    const char *at;
    size_t n;
};

static void skip(struct rest *r, size_t n)
{
    r->at += n;
    r->n -= n;
}

static bool starts(const struct rest *r, const char *with)
{
    size_t n = strlen(with);
    return r->n >= n && !memcmp(r->at, with, n);
}

static void skip_until_behind(struct rest *r, const char *end)
{
    while (r->n > 0 && !starts(r, end))
        skip(r, 1);
    if (r->n > 0)
        skip(r, strlen(end));
}

static bool is_blank(char ch)
{
    return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

static void skip_blanks(struct rest *r)
{
    for (;;) {
        if (starts(r, "--"))
            skip_until_behind(r, "\n");
        else if (starts(r, "/*"))
            skip_until_behind(r, "*/");
        else if (r->n > 0 && is_blank(*r->at))
            skip(r, 1);
        else
            return;
    }
}

static bool is_bare(char ch)
{
    return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
           (unsigned char)ch >= 0x80 || (ch && strchr("_.*-+/:@%", ch));
}

static bool append(struct token *t, size_t *n, char ch)
{
    if (*n >= COMMAND_VALUE_MAX || ch == '\0')
        return false;
    t->text[(*n)++] = ch;
    return true;
}

static void quoted(struct rest *r, struct token *t)
{
    char quote = *r->at;
    size_t n = 0;
    t->kind = QUOTED;
    skip(r, 1);
    while (r->n > 0) {
        char ch = *r->at;
        if (ch == quote && !(r->n > 1 && r->at[1] == quote)) {
            skip(r, 1);
            return;
        }
        skip(r, ch == quote ? 2 : 1);
        if (!append(t, &n, ch))
            break;
    }
    t->kind = BROKEN;
}

static struct token next_token(struct rest *r)
{
    struct token t = {.kind = END};
    size_t n = 0;
    skip_blanks(r);
    if (r->n == 0)
        return t;
    if (*r->at == '\'' || *r->at == '"') {
        quoted(r, &t);
        return t;
    }
    if (*r->at == '=' || *r->at == ';') {
        t.kind = *r->at == '=' ? SIGN : SEMICOLON;
        skip(r, 1);
        return t;
    }
    t.kind = is_bare(*r->at) ? WORD : BROKEN;
    while (t.kind == WORD && r->n > 0 && is_bare(*r->at) && !starts(r, "--") && !starts(r, "/*")) {
        if (!append(&t, &n, *r->at))
            t.kind = BROKEN;
        skip(r, 1);
    }
    return t;
}

/* ---- statements ------------------------------------------------------------------------------ */

static const struct verb {
    const char *word, *tag;
    uint8_t least_n, most_n;
    bool anybody;
} verbs[COMMAND_VERBS_N] = {
#define X(verb, word, tag, least, most, anybody) {word, tag, least, most, anybody},
    COMMAND_VERBS(X)
#undef X
};

enum { ARGUMENTS_MAX = 3 };

/* A statement as words: the first, and what follows without `=` and TO. */
struct words {
    struct token first, at[ARGUMENTS_MAX];
    size_t n;
    bool sign; /* `=` or TO stood behind the first argument */
    bool broken;
};

static bool is_word(const struct token *t, const char *word)
{
    return t->kind == WORD && !strcasecmp(t->text, word);
}

static void take_words(struct rest *r, struct words *w)
{
    for (;;) {
        struct token t = next_token(r);
        if (t.kind == END || t.kind == SEMICOLON)
            return;
        bool sign = w->n == 1 && !w->sign && (t.kind == SIGN || is_word(&t, "to"));
        if (sign) {
            w->sign = true;
            continue;
        }
        if (t.kind == BROKEN || t.kind == SIGN || w->n == ARGUMENTS_MAX) {
            w->broken = true;
            return;
        }
        w->at[w->n++] = t;
    }
}

/* Two words that are one verb: SET BREAKER, RESET BASELINE. */
static bool take_second_word(struct words *w, const char *first, const char *second)
{
    if (!is_word(&w->first, first) || w->n == 0 || w->sign || !is_word(&w->at[0], second))
        return false;
    memmove(&w->at[0], &w->at[1], --w->n * sizeof w->at[0]);
    return true;
}

static enum command_verb verb_of(struct words *w)
{
    if (take_second_word(w, "set", "breaker"))
        return COMMAND_SET_BREAKER;
    if (take_second_word(w, "reset", "baseline"))
        return COMMAND_RESET_BASELINE;
    if (is_word(&w->first, "select"))
        return COMMAND_SHOW;
    for (size_t i = 0; i < COMMAND_VERBS_N; i++)
        if (is_word(&w->first, verbs[i].word))
            return (enum command_verb)i;
    return COMMAND_VERBS_N;
}

static bool copy_arguments(const struct words *w, struct command *out)
{
    if (w->n > 0 && snprintf(out->name, sizeof out->name, "%s", w->at[0].text) > COMMAND_NAME_MAX)
        return false;
    if (w->n > 1)
        memcpy(out->value, w->at[1].text, sizeof out->value);
    return true;
}

/* Names the statement, not what stands around it. */
static enum command_verdict bad(const char *text, size_t n, struct err *err)
{
    struct rest r = {text, n};
    skip_blanks(&r);
    if (r.n > 0 && r.at[r.n - 1] == ';')
        r.n--;
    err_set(err, "08P01", "invalid command '%.*s', use SHOW HELP;", (int)(r.n < 40 ? r.n : 40),
            r.at);
    return COMMAND_BAD;
}

enum command_verdict command_next(const char *text, size_t n, struct command *out, struct err *err)
{
    struct rest r = {text, n};
    struct words w = {.n = 0};
    memset(out, 0, sizeof *out);
    w.first = next_token(&r);
    if (w.first.kind == END || w.first.kind == SEMICOLON) {
        out->used_bytes = n - r.n;
        return COMMAND_EMPTY;
    }
    take_words(&r, &w);
    out->used_bytes = n - r.n;
    if (w.broken || w.first.kind != WORD) {
        out->used_bytes = n; /* where the next one begins nobody can tell */
        return bad(text, n, err);
    }
    out->verb = verb_of(&w);
    if (out->verb == COMMAND_VERBS_N)
        return bad(text, out->used_bytes, err);
    const struct verb *v = &verbs[out->verb];
    bool fits = w.n >= v->least_n && w.n <= v->most_n && w.sign == (out->verb == COMMAND_SET) &&
                copy_arguments(&w, out);
    if (fits)
        return COMMAND_OK;
    if (out->verb != COMMAND_SHOW)
        return bad(text, out->used_bytes, err);
    err_set(err, "08P01", "bad SHOW arg, use SHOW HELP;");
    return COMMAND_BAD;
}

const char *command_tag(enum command_verb verb)
{
    must(verb < COMMAND_VERBS_N);
    return verbs[verb].tag;
}

bool command_for_anybody(enum command_verb verb)
{
    must(verb < COMMAND_VERBS_N);
    return verbs[verb].anybody;
}
