/* auth_file in memory: an array sorted by name, found by bisection.
 *
 * A file of 20,000 lines is common where an application has a role per tenant. Two pointers, a
 * line number and the packed strings make that 3.3 MB with SCRAM secrets; a hash table would add a
 * handle of 56 bytes to each. Nothing walks the array after loading: a login costs 15 comparisons.
 *
 * Stricter than PgBouncer in one point: a string ends on the line it began on. There a forgotten
 * quote swallows the next user's line without a word, here it is an error with its line.
 */
#include "config/users.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MD5_BYTES = 35,          /* md5 and 32 hex digits */
    ENTRIES_MIN = 64,        /* room at first; doubles */
    SCRAM_PREFIX_BYTES = 14, /* SCRAM-SHA-256$ */
};

struct loader {
    struct arena *arena;
    struct config_report *report;
    struct report_place at;
    struct users_entry *entries; /* of malloc while they grow */
    size_t entries_n, entries_cap;
};

/* ---- secrets -------------------------------------------------------------------------------- */

static size_t base64_bytes(const char *p)
{
    size_t n = 0;
    while (isalnum((unsigned char)p[n]) || p[n] == '+' || p[n] == '/' || p[n] == '=')
        n++;
    return n;
}

/* rounds:salt$stored:server */
static bool is_scram(const char *p)
{
    size_t n = strspn(p, "0123456789");
    if (n == 0 || p[n] != ':')
        return false;
    static const char ends[] = {'$', ':', '\0'};
    p += n;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        p++;
        n = base64_bytes(p);
        p += n;
        if (n == 0 || *p != ends[i])
            return false;
    }
    return true;
}

enum users_kind users_kind_of(const char *secret)
{
    if (!*secret)
        return USERS_NONE;
    if (strncmp(secret, "md5", 3) == 0 && strlen(secret) == MD5_BYTES &&
        strspn(secret + 3, "0123456789abcdefABCDEF") == MD5_BYTES - 3)
        return USERS_MD5;
    if (strncmp(secret, "SCRAM-SHA-256$", SCRAM_PREFIX_BYTES) == 0 &&
        is_scram(secret + SCRAM_PREFIX_BYTES))
        return USERS_SCRAM;
    return USERS_PLAIN; /* as PostgreSQL does: what only looks like a secret is a password */
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool broken(struct loader *l, const char *what)
{
    return report_error(l->report, l->at, "%s; expected \"user\" \"secret\"", what);
}

/* A quoted string with "" for one quote, taken out of its quotes in place. NULL: not closed. */
static char *take_string(char **p)
{
    must(**p == '"');
    char *from = *p + 1, *to = from, *text = from;
    while (*from && *from != '\n') {
        if (*from == '"' && *++from != '"') {
            *to = '\0';
            *p = from;
            return text;
        }
        *to++ = *from++;
    }
    return NULL;
}

static bool entry_add(struct loader *l, const char *name, const char *secret)
{
    if (l->entries_n == l->entries_cap) {
        size_t cap = l->entries_cap ? l->entries_cap * 2 : ENTRIES_MIN;
        struct users_entry *more = cap > USERS_MAX ? NULL : realloc(l->entries, cap * sizeof *more);
        if (!more)
            return report_error(l->report, l->at, "more than %d users, or out of memory",
                                (int)USERS_MAX);
        l->entries = more;
        l->entries_cap = cap;
    }
    struct users_entry entry = {.name = arena_copy_text(l->arena, name),
                                .secret = arena_copy_text(l->arena, secret),
                                .line = l->at.line};
    if (!entry.name || !entry.secret)
        return report_error(l->report, l->at, "out of memory");
    l->entries[l->entries_n++] = entry;
    return true;
}

/* PgBouncer looks for quotes and for nothing else: what stands between or behind them is free. */
static bool take_line(struct loader *l, char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    if (*p == '\0' || *p == ';')
        return true;
    if (*p != '"')
        return broken(l, "the line does not begin with a quote");
    char *name = take_string(&p);
    if (!name)
        return broken(l, "the user's closing quote is missing");
    if (strlen(name) > USERS_NAME_MAX || !*name)
        return broken(l, *name ? "the user's name is too long" : "the user's name is empty");
    p = strchr(p, '"');
    if (!p)
        return broken(l, "there is no secret");
    char *secret = take_string(&p);
    if (!secret)
        return broken(l, "the secret's closing quote is missing");
    if (strlen(secret) > USERS_SECRET_MAX)
        return broken(l, "the secret is too long");
    if (strncmp(secret, "SCRAM-SHA-256$", SCRAM_PREFIX_BYTES) == 0 &&
        users_kind_of(secret) != USERS_SCRAM)
        report_warning(l->report, l->at,
                       "the secret of \"%s\" begins like a SCRAM secret and is none; it is taken "
                       "for a plain password",
                       name);
    return entry_add(l, name, secret);
}

/* By name; the later line of one name first, so that it is the one that stays. */
static int compare_entries(const void *a, const void *b)
{
    const struct users_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->line < y->line ? 1 : -1;
}

static bool lines_read(struct loader *l, FILE *file)
{
    char *line = NULL;
    size_t cap = 0;
    bool ok = true;
    for (ssize_t bytes; (bytes = getline(&line, &cap, file)) >= 0;) {
        l->at.line++;
        if (memchr(line, '\0', (size_t)bytes))
            ok = broken(l, "a NUL byte");
        else
            ok &= take_line(l, line);
    }
    if (!feof(file)) /* a folder, a broken disk, no memory */
        ok = report_error(l->report, l->at, "cannot be read: %s", strerror(errno));
    free(line);
    return ok;
}

/* Sorts, drops overridden lines, and moves the array to its final place. */
static bool entries_settle(struct loader *l, struct users *users)
{
    size_t kept_n = 0;
    if (l->entries_n > 0)
        qsort(l->entries, l->entries_n, sizeof *l->entries, compare_entries);
    for (size_t i = 0; i < l->entries_n; i++) {
        if (kept_n == 0 || strcmp(l->entries[kept_n - 1].name, l->entries[i].name) != 0)
            l->entries[kept_n++] = l->entries[i];
    }
    users->entries_n = kept_n;
    users->entries = arena_take(l->arena, (kept_n + 1) * sizeof *users->entries);
    if (!users->entries)
        return report_error(l->report, l->at, "out of memory");
    if (kept_n > 0)
        memcpy(users->entries, l->entries, kept_n * sizeof *users->entries);
    return true;
}

bool users_read(FILE *file, const char *path, struct arena *arena, struct users *users,
                struct config_report *report)
{
    struct loader l = {.arena = arena, .report = report, .at = {.file = path}};
    *users = (struct users){0};
    bool ok = lines_read(&l, file) && entries_settle(&l, users);
    free(l.entries);
    return ok;
}

/* ---- asking --------------------------------------------------------------------------------- */

static int compare_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct users_entry *)entry)->name);
}

const char *users_secret(const struct users *users, const char *name)
{
    if (users->entries_n == 0)
        return NULL;
    const struct users_entry *entry =
        bsearch(name, users->entries, users->entries_n, sizeof *users->entries, compare_name);
    return entry ? entry->secret : NULL;
}

size_t users_n(const struct users *users)
{
    return users->entries_n;
}

struct users_stamp users_stamp_of(const struct stat *file)
{
    return (struct users_stamp){.device = file->st_dev,
                                .inode = file->st_ino,
                                .bytes = file->st_size,
                                .changed = file->st_mtim};
}

bool users_stamp_same(const struct users_stamp *a, const struct users_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}
