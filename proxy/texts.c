#include "proxy/texts.h"

#include <pthread.h>
#include <string.h>

_Atomic uint64_t texts_known[TEXTS_N];
static _Atomic int allowed_n = TEXTS_A_TICK;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* lock guards all below */
static struct {
    uint64_t fingerprint;
    char text[TEXTS_BYTES];
} slots[TEXTS_N];

/* ---- blanking -------------------------------------------------------------------------------- */

struct blank {
    const char *at, *end;
    char *out;
    size_t n, cap; /* cap leaves room for the NUL */
    bool space;    /* one is due before what comes next */
};

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static void put(struct blank *b, char c)
{
    if (b->space && b->n > 0 && b->n < b->cap)
        b->out[b->n++] = ' ';
    b->space = false;
    if (b->n < b->cap)
        b->out[b->n++] = (unsigned char)c < 0x20 || (unsigned char)c >= 0x7f ? '.' : c;
}

/* Behind a string's opening quote. */
static void skip_string(struct blank *b)
{
    for (; b->at < b->end; b->at++) {
        if (*b->at == '\\' && b->end - b->at > 1 && b->at[1] == '\'') {
            b->at = b->end; /* an escaped quote, or the end? */
            return;
        }
        if (*b->at != '\'')
            continue;
        if (b->end - b->at > 1 && b->at[1] == '\'') {
            b->at++;
            continue;
        }
        b->at++;
        return;
    }
}

static void skip_comment(struct blank *b)
{
    uint32_t open_n = 1;
    for (b->at += 2; b->at < b->end && open_n > 0; b->at++) {
        bool two = b->end - b->at > 1;
        if (two && b->at[0] == '*' && b->at[1] == '/')
            open_n--, b->at++;
        else if (two && b->at[0] == '/' && b->at[1] == '*')
            open_n++, b->at++;
    }
}

/* $1 stays, $tag$ ... $tag$ goes. */
static void take_dollar(struct blank *b)
{
    const char *tag = b->at++;
    while (b->at < b->end && is_name_byte(*b->at))
        b->at++;
    if (b->at == b->end || *b->at != '$' || (b->at > tag + 1 && tag[1] >= '0' && tag[1] <= '9')) {
        for (const char *c = tag; c < b->at; c++)
            put(b, *c);
        return;
    }
    size_t tag_n = (size_t)(++b->at - tag);
    const char *close = memmem(b->at, (size_t)(b->end - b->at), tag, tag_n);
    b->at = close ? close + tag_n : b->end;
    put(b, '?');
}

static void take_name(struct blank *b)
{
    while (b->at < b->end && (is_name_byte(*b->at) || *b->at == '$'))
        put(b, *b->at++);
}

static void take_number(struct blank *b)
{
    while (b->at < b->end && (is_name_byte(*b->at) || *b->at == '.'))
        b->at++;
    put(b, '?');
}

static void take_quoted_name(struct blank *b)
{
    do
        put(b, *b->at++);
    while (b->at < b->end && *b->at != '"');
    if (b->at < b->end)
        put(b, *b->at++);
}

static void take(struct blank *b)
{
    char c = *b->at, next = b->end - b->at > 1 ? b->at[1] : '\0';
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v') {
        b->at++;
        b->space = true;
    } else if (c == '-' && next == '-') {
        while (b->at < b->end && *b->at != '\n' && *b->at != '\r')
            b->at++;
    } else if (c == '/' && next == '*') {
        skip_comment(b);
    } else if (c == '\'') {
        b->at++;
        skip_string(b);
        put(b, '?');
    } else if (c == '"') {
        take_quoted_name(b);
    } else if (c == '$') {
        take_dollar(b);
    } else if ((c >= '0' && c <= '9') || (c == '.' && next >= '0' && next <= '9')) {
        take_number(b);
    } else if (is_name_byte(c)) {
        take_name(b);
    } else {
        put(b, c);
        b->at++;
    }
}

static void blank(const char *text, size_t n, char out[TEXTS_BYTES])
{
    struct blank b = {.at = text, .end = text + n, .out = out, .cap = TEXTS_BYTES - 1};
    while (b.at < b.end && b.n < b.cap)
        take(&b);
    out[b.n] = '\0';
}

/* ---- the table ------------------------------------------------------------------------------- */

void texts_add(uint64_t fingerprint, const char *text, size_t n)
{
    size_t i = fingerprint % TEXTS_N;
    if (fingerprint == 0 || atomic_load_explicit(&allowed_n, memory_order_relaxed) <= 0)
        return;
    atomic_fetch_sub_explicit(&allowed_n, 1, memory_order_relaxed);
    if (pthread_mutex_trylock(&lock) != 0)
        return; /* the next one of it will do */
    blank(text, n, slots[i].text);
    slots[i].fingerprint = fingerprint;
    atomic_store_explicit(&texts_known[i], fingerprint, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

void texts_tick(void)
{
    atomic_store_explicit(&allowed_n, TEXTS_A_TICK, memory_order_relaxed);
}

void texts_get(uint64_t fingerprint, char out[TEXTS_BYTES])
{
    size_t i = fingerprint % TEXTS_N;
    pthread_mutex_lock(&lock);
    bool known = slots[i].fingerprint == fingerprint && fingerprint != 0;
    memcpy(out, known ? slots[i].text : "", known ? TEXTS_BYTES : 1);
    pthread_mutex_unlock(&lock);
}
