/* PgBouncer's ini dialect, carried through libinih.
 *
 * The two differ in everything that decides what a line means:
 *
 *                          PgBouncer                       libinih
 *     blanks before a key  ignored                         the line continues the former value
 *     ` ;` in a value      part of the value               begins a comment
 *     `a:b`                an error                        key a, value b
 *     length of a line     any                             200 bytes, the rest is another line
 *     length of a key      any                             50 bytes when the value continues
 *     %include FILE        reads it here                   an error
 *     'any name' = v       a key of any bytes              part of the key
 *     [a] b = c            section and key                 section, the rest is lost
 *
 * So inih is never shown the file. Our reader callback takes physical lines, decides what each of
 * them is by PgBouncer's rules, and feeds inih short lines that mean the same in inih's dialect:
 *
 *     [section]             each header on a line of its own
 *     key=first chunk       the value in pieces of CHUNK_BYTES,
 *      next chunk           continued by inih's own rule;
 *     %=first chunk         a quoted key stays with us, its bytes may be anything
 *
 * Within chunks, whatever inih would act upon (`;` `#` `%`, blanks at an edge, control bytes) is
 * written %XX, and put back when the handler gets it. inih calls the handler for a line before it
 * asks for the next one; that is how the handler knows the file and the line it came from.
 *
 * Limits: depth of %include, length of names, number of statements. A value may have any length.
 * What was rejected: parsing with inih's run-time switches (Debian's build has them, others do
 * not).
 */
#include "config/ini.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES = 48, /* of the value, before encoding: at most 144 after it, and inih takes 197 */
};

struct ini_file {
    FILE *stream;
    const char *path;
    unsigned line;
};

struct reader {
    const struct ini_source *source;
    struct ini_list *list;
    struct arena *arena;
    struct config_report *report;
    struct ini_file files[INI_INCLUDES_MAX + 1];
    uint32_t files_n;
    char *line; /* the physical line, from getline() */
    size_t line_cap;
    char *rest; /* what of it is not looked at yet; NULL: nothing */
    /* the statement on its way through inih */
    struct ini_statement now;
    bool quoted;             /* its key does not travel */
    bool fed;                /* a chunk was given to inih and has not come back */
    size_t value_bytes;      /* of the whole value */
    size_t sent_bytes;       /* given to inih */
    size_t got_bytes;        /* come back */
    const char *source_text; /* the value as it stands in `line` */
    char *value;             /* where it is put together again: value_bytes + NUL, of the arena */
    bool ok;
};

/* ---- files ---------------------------------------------------------------------------------- */

FILE *ini_open(const struct ini_source *source, const char *path)
{
    return source->open ? source->open(source->arg, path) : fopen(path, "re");
}

static struct report_place place(const struct reader *r)
{
    if (r->files_n == 0)
        return (struct report_place){0};
    const struct ini_file *file = &r->files[r->files_n - 1];
    return (struct report_place){.file = file->path, .line = file->line};
}

static void file_close(struct reader *r)
{
    must(r->files_n > 0);
    struct ini_file *file = &r->files[r->files_n - 1];
    fclose(file->stream);
    r->files_n--;
}

static void give_up(struct reader *r)
{
    r->rest = NULL;
    while (r->files_n > 0)
        file_close(r);
}

static void file_open(struct reader *r, const char *path)
{
    if (r->files_n > INI_INCLUDES_MAX) {
        r->ok = report_error(r->report, place(r),
                             "more than %d levels of %%include; does a file include itself?",
                             (int)INI_INCLUDES_MAX);
        give_up(r); /* a circle with two includes in it has 1,024 ends, not one */
        return;
    }
    const char *kept = arena_copy_text(r->arena, path);
    FILE *stream = NULL;
    errno = ENOMEM;
    if (kept)
        stream = ini_open(r->source, kept);
    if (!stream) {
        r->ok =
            report_error(r->report, place(r), "cannot open \"%.200s\": %s%s", path, strerror(errno),
                         r->files_n ? "; %include is relative to the working directory" : "");
        return;
    }
    r->files[r->files_n++] = (struct ini_file){.stream = stream, .path = kept};
}

/* The next physical line, of whatever file it is in. False at the end of all. */
static bool line_next(struct reader *r)
{
    while (r->files_n > 0) {
        struct ini_file *file = &r->files[r->files_n - 1];
        ssize_t bytes = getline(&r->line, &r->line_cap, file->stream);
        if (bytes < 0) {
            if (!feof(file->stream)) /* a folder, a broken disk, no memory */
                r->ok = report_error(r->report, place(r), "cannot be read: %s", strerror(errno));
            file_close(r);
            continue;
        }
        file->line++;
        if (memchr(r->line, '\0', (size_t)bytes)) {
            r->ok = report_error(r->report, place(r), "a NUL byte; is this a text file?");
            continue;
        }
        r->rest = r->line;
        if (file->line == 1 && strncmp(r->line, "\xEF\xBB\xBF", 3) == 0)
            r->rest += 3; /* the mark some editors put before UTF-8 */
        return true;
    }
    return false;
}

/* ---- what a line is ---------------------------------------------------------------------------
 */

static char *skip_blanks(char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    return p;
}

static void trim_end(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        text[--n] = '\0';
}

static bool syntax_error(struct reader *r, const char *what)
{
    r->rest = NULL;
    r->ok = report_error(r->report, place(r), "%s", what);
    return false;
}

static void statement_add(struct reader *r)
{
    if (ini_list_add(r->list, r->arena, &r->now))
        return;
    r->ok = report_error(r->report, r->now.at, "more than %d statements, or out of memory",
                         (int)INI_STATEMENTS_MAX);
    give_up(r);
}

/* `[name]`; what stands behind it on the line is looked at next. */
static bool take_section(struct reader *r, char *p)
{
    char *end = strchr(++p, ']');
    if (!end)
        return syntax_error(r, "a section without its closing ]");
    size_t bytes = (size_t)(end - p);
    if (bytes == 0 || bytes > INI_SECTION_MAX)
        return syntax_error(r, bytes ? "the section's name is too long" : "a section without name");
    for (char *c = p; c < end; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("_.- ", *c))
            return syntax_error(r, "a section's name has letters, digits, blanks, _ . and - only");
    }
    r->rest = end + 1;
    const char *name = arena_copy(r->arena, p, bytes);
    if (!name)
        return syntax_error(r, "out of memory");
    r->now = (struct ini_statement){.section = name, .at = place(r)};
    statement_add(r);
    return true;
}

/* 'name' or "name" with the quote doubled inside; taken out of its quotes in place. */
static char *unquote(char *p, char **behind)
{
    char quote = *p;
    char *to = p, *name = p;
    for (p++; *p; p++) {
        if (*p == quote && *++p != quote) {
            *to = '\0';
            *behind = p;
            return name;
        }
        *to++ = *p;
    }
    return NULL;
}

static bool is_key_byte(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("_.*-", c));
}

/* key = value */
static bool take_statement(struct reader *r, char *p)
{
    char *key = p, *equals;
    r->quoted = *p == '\'' || *p == '"';
    if (r->quoted) {
        key = unquote(p, &equals);
        if (!key)
            return syntax_error(r, "a quoted name without its closing quote");
    } else {
        for (equals = p; is_key_byte(*equals);)
            equals++;
    }
    char *key_end = equals;
    equals = skip_blanks(equals);
    if (*equals != '=')
        return syntax_error(r, "expected name = value; put a name with other bytes than letters, "
                               "digits and _ . * - in quotes");
    *equals = '\0';
    if (!r->quoted)
        *key_end = '\0';
    size_t key_bytes = strlen(key);
    if (key_bytes == 0 || key_bytes > INI_NAME_MAX)
        return syntax_error(r, key_bytes ? "the name is too long" : "a value without a name");
    char *value = skip_blanks(equals + 1);
    trim_end(value);
    r->value_bytes = strlen(value);
    r->source_text = value;
    r->sent_bytes = r->got_bytes = 0;
    r->value = arena_copy(r->arena, value, r->value_bytes);
    r->now.key = arena_copy(r->arena, key, key_bytes);
    r->now.value = r->value;
    r->now.at = place(r);
    r->rest = NULL;
    if (!r->value || !r->now.key)
        return syntax_error(r, "out of memory");
    memset(r->value, 0, r->value_bytes);
    return true;
}

enum found { FOUND_END, FOUND_SECTION, FOUND_STATEMENT };

/* Goes on to the next thing inih has to see. */
static enum found find(struct reader *r)
{
    for (;;) {
        if (!r->rest && !line_next(r))
            return FOUND_END;
        char *p = skip_blanks(r->rest);
        if (*p == '\0' || *p == ';' || *p == '#') {
            r->rest = NULL;
        } else if (strncmp(p, "%include", 8) == 0 && isblank((unsigned char)p[8])) {
            p = skip_blanks(p + 8);
            trim_end(p);
            r->rest = NULL;
            file_open(r, p);
        } else if (*p == '[') {
            if (take_section(r, p))
                return FOUND_SECTION;
        } else if (take_statement(r, p)) {
            return FOUND_STATEMENT;
        }
    }
}

/* ---- to inih and back -------------------------------------------------------------------------
 */

static bool is_harmless(char c, bool at_edge)
{
    if (c == ' ')
        return !at_edge;
    return (unsigned char)c > 0x20 && c != 0x7f && !strchr(";#%[", c);
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Writes the next chunk of the value to `to`, which has room for three times CHUNK_BYTES and NUL.
 */
static void send_chunk(struct reader *r, char *to)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = r->value_bytes - r->sent_bytes;
    if (n > CHUNK_BYTES)
        n = CHUNK_BYTES;
    const char *from = r->source_text + r->sent_bytes;
    for (size_t i = 0; i < n; i++) {
        if (is_harmless(from[i], i == 0 || i == n - 1)) {
            *to++ = from[i];
        } else {
            *to++ = '%';
            *to++ = hex[(unsigned char)from[i] >> 4];
            *to++ = hex[(unsigned char)from[i] & 15];
        }
    }
    *to = '\0';
    r->sent_bytes += n;
    r->fed = true;
}

/* A line went into inih and no handler call came out of it: say so rather than lose a setting. */
static void check_fed(struct reader *r)
{
    if (!r->fed)
        return;
    r->fed = false;
    r->sent_bytes = r->value_bytes;
    r->ok = report_error(r->report, r->now.at, "libinih did not understand this line");
}

/* inih's reader, in the manner of fgets(). */
static char *feed(char *to, int cap, void *arg)
{
    struct reader *r = arg;
    char chunk[3 * CHUNK_BYTES + 1];
    int n = 0;
    check_fed(r);
    if (r->sent_bytes < r->value_bytes) {
        send_chunk(r, chunk);
        n = snprintf(to, (size_t)cap, " %s\n", chunk);
    } else {
        switch (find(r)) {
        case FOUND_END:
            return NULL;
        case FOUND_SECTION:
            n = snprintf(to, (size_t)cap, "[%s]\n", r->now.section);
            break;
        case FOUND_STATEMENT:
            /* The value follows on lines of its own: beside a long key it might not fit. */
            n = snprintf(to, (size_t)cap, "%s=\n", r->quoted ? "%" : r->now.key);
            r->fed = true;
            break;
        }
    }
    must(n > 0 && n < cap);
    return to;
}

static bool take_chunk(struct reader *r, const char *chunk)
{
    for (; *chunk; chunk++) {
        if (r->got_bytes == r->value_bytes)
            return false;
        int byte = (unsigned char)*chunk;
        if (*chunk == '%') {
            int high = hex_value(chunk[1]), low = high < 0 ? -1 : hex_value(chunk[2]);
            if (low < 0)
                return false;
            byte = high << 4 | low;
            chunk += 2;
        }
        r->value[r->got_bytes++] = (char)byte;
    }
    return r->got_bytes == r->sent_bytes;
}

/* inih's handler: first for `key=`, then for each chunk. */
static int handle(void *arg, const char *section, const char *name, const char *chunk)
{
    struct reader *r = arg;
    r->fed = false;
    (void)name; /* cut to 49 bytes in continuations; now.key is whole */
    if (strcmp(section, r->now.section ? r->now.section : "") != 0 || !take_chunk(r, chunk)) {
        r->sent_bytes = r->value_bytes;
        r->ok = report_error(r->report, r->now.at, "libinih changed this line");
    } else if (r->got_bytes == r->value_bytes) {
        statement_add(r);
    }
    return 1;
}

/* ---- outside ----------------------------------------------------------------------------------
 */

void ini_list_init(struct ini_list *list)
{
    *list = (struct ini_list){.end = &list->first};
}

struct ini_statement *ini_list_add(struct ini_list *list, struct arena *arena,
                                   const struct ini_statement *like)
{
    if (list->n == INI_STATEMENTS_MAX)
        return NULL;
    struct ini_statement *statement = arena_take(arena, sizeof *statement);
    if (!statement)
        return NULL;
    *statement = *like;
    statement->next = NULL;
    *list->end = statement;
    list->end = &statement->next;
    list->n++;
    return statement;
}

bool ini_read(const char *path, const struct ini_source *source, struct ini_list *list,
              struct arena *arena, struct config_report *report)
{
    struct reader r = {
        .source = source, .list = list, .arena = arena, .report = report, .ok = true};
    file_open(&r, path);
    if (r.files_n > 0 && ini_parse_stream(feed, &r, handle, &r) != 0 && r.ok)
        r.ok = report_error(report, (struct report_place){.file = path}, "libinih failed");
    check_fed(&r);
    give_up(&r);
    free(r.line);
    return r.ok;
}
