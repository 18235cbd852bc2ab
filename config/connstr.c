/* PgBouncer's rules, not libpq's: '' is a quote inside quotes, a backslash is a backslash, blanks
 * may stand around `=`, and an empty value is an error even in quotes. */
#include "config/connstr.h"

#include <ctype.h>
#include <string.h>

static const char *skip_blanks(const char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    return p;
}

static size_t word_bytes(const char *p, char also)
{
    size_t n = 0;
    while (p[n] && p[n] != also && !isspace((unsigned char)p[n]))
        n++;
    return n;
}

/* Bytes of 'a''b' with its quotes, or 0 when it is not closed. */
static size_t quoted_bytes(const char *p)
{
    for (size_t n = 1; p[n]; n++) {
        if (p[n] == '\'' && p[++n] != '\'')
            return n;
    }
    return 0;
}

/* Copies 'a''b' as a'b. */
static char *unquote(const char *p, size_t bytes, struct arena *arena)
{
    char *value = arena_copy(arena, p + 1, bytes - 2);
    if (!value)
        return NULL;
    char *to = value;
    for (const char *from = value; *from; from++) {
        *to++ = *from;
        if (*from == '\'')
            from++; /* the second of two */
    }
    *to = '\0';
    return value;
}

bool connstr_next(const char **text, struct connstr_pair *pair, struct arena *arena,
                  struct err *err)
{
    const char *p = skip_blanks(*text);
    *pair = (struct connstr_pair){0};
    *text = p;
    if (!*p)
        return true;
    size_t bytes = word_bytes(p, '=');
    const char *key = arena_copy(arena, p, bytes);
    p = skip_blanks(p + bytes);
    if (!key || bytes == 0 || *p != '=')
        return err_set(err, "22023", "expected key=value key='value', near \"%.40s\"", *text);
    p = skip_blanks(p + 1);
    const char *value;
    if (*p == '\'') {
        bytes = quoted_bytes(p);
        if (bytes == 0)
            return err_set(err, "22023", "the value of %s has no closing quote", key);
        value = unquote(p, bytes, arena);
        p += bytes;
        if (*p && !isspace((unsigned char)*p))
            return err_set(err, "22023", "a blank is missing behind the value of %s", key);
    } else {
        bytes = word_bytes(p, '\0');
        value = arena_copy(arena, p, bytes);
        p += bytes;
    }
    if (!value || !*value)
        return err_set(err, "22023", "%s has no value; leave it out", key);
    *pair = (struct connstr_pair){.key = key, .value = value};
    *text = p;
    return true;
}
