/* From the rows of keys_table.c: text to field, field to text, and the manual.
 *
 * Numbers are read as PgBouncer reads them (strtol with base 0, strtod for seconds), because a file
 * must mean the same to both. Only keys that PgBouncer does not have may carry a unit: a unit on
 * one of its own keys would keep the file from starting it again.
 */
#include "config/keys.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pool/class.h"

enum {
    HELP_COLUMNS = 96,
    HELP_INDENT = 6,
    NEAR_NAME_BYTES = 64, /* longer names are nobody's typing error */
};

static const struct {
    const char *title, *elsewhere;
} scopes[KEY_SCOPES] = {
    [KEY_GLOBAL] = {"[pgbouncer], or [pgweir]", "the [pgbouncer] section"},
    [KEY_DATABASE] = {"[databases]: name = key=value ...", "a [databases] line"},
    [KEY_USER] = {"[users]: name = key=value ...", "a [users] line"},
    [KEY_PEER] = {"[peers]: id = key=value ...", "a [peers] line"},
    [KEY_CLASS] = {"[class NAME]", "a [class NAME] section"},
};

/* ---- finding -------------------------------------------------------------------------------- */

const struct key *keys_find(enum key_scope scope, const char *name)
{
    for (size_t t = 0; t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; table->scope == scope && i < table->keys_n; i++) {
            if (strcmp(table->keys[i].name, name) == 0)
                return &table->keys[i];
        }
    }
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, letter case ignored; both below NEAR_NAME_BYTES. */
static uint32_t distance(const char *a, const char *b)
{
    uint32_t row[NEAR_NAME_BYTES];
    size_t b_n = strlen(b);
    must(b_n < NEAR_NAME_BYTES);
    for (uint32_t j = 0; j <= b_n; j++)
        row[j] = j;
    for (uint32_t i = 1; a[i - 1]; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_n; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            uint32_t replaced = diagonal + !same;
            diagonal = row[j];
            row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_n];
}

/* Keeps the nearer of best and word. A third of the letters wrong is still a typing error. */
static void consider(const char *word, const char *name, const char **best, uint32_t *best_n)
{
    size_t bytes = strlen(name);
    if (bytes >= NEAR_NAME_BYTES || strlen(word) >= NEAR_NAME_BYTES)
        return;
    uint32_t n = distance(name, word);
    if (n < *best_n && n <= 1 + bytes / 3) {
        *best = word;
        *best_n = n;
    }
}

const char *keys_nearest_word(const char *const *words, size_t words_n, const char *name)
{
    const char *best = NULL;
    uint32_t best_n = UINT32_MAX;
    for (size_t i = 0; i < words_n; i++)
        consider(words[i], name, &best, &best_n);
    return best;
}

static const char *nearest(enum key_scope scope, const char *name)
{
    const char *best = NULL;
    uint32_t best_n = UINT32_MAX;
    for (size_t t = 0; t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; table->scope == scope && i < table->keys_n; i++)
            consider(table->keys[i].name, name, &best, &best_n);
    }
    return best;
}

static const char *whose(enum key_scope not_here, const char *name)
{
    for (enum key_scope scope = 0; scope < KEY_SCOPES; scope++) {
        if (scope != not_here && keys_find(scope, name))
            return scopes[scope].elsewhere;
    }
    return NULL;
}

void keys_explain_unknown(enum key_scope scope, const char *name, struct err *err)
{
    const char *near = nearest(scope, name), *elsewhere = whose(scope, name);
    if (elsewhere && !(near && strcasecmp(near, name) == 0))
        err_set(err, "22023", "\"%.60s\" cannot stand here; it is a key of %s", name, elsewhere);
    else if (near)
        err_set(err, "22023", "unknown setting \"%.60s\"; did you mean \"%s\"?", name, near);
    else
        err_set(err, "22023", "unknown setting \"%.60s\"; --help-config lists them all", name);
}

/* ---- text to field -------------------------------------------------------------------------- */

static void *field_of(const struct key *key, void *base)
{
    return (char *)base + key->offset;
}

static const void *const_field_of(const struct key *key, const void *base)
{
    return (const char *)base + key->offset;
}

static bool bad(struct err *err, const char *want, const char *text)
{
    if (strstr(text, " ;") || strstr(text, " #"))
        return err_set(err, "22023", "expected %s; a comment needs a line of its own", want);
    return err_set(err, "22023", "expected %s", want);
}

static bool in_range(const struct key *key, int64_t n, struct err *err)
{
    if ((n >= key->min && n <= key->max) || (n == -1 && key->flags & KEY_UNSET_OK))
        return true;
    return err_set(err, "22023", "must be %lld to %lld%s", (long long)key->min, (long long)key->max,
                   key->flags & KEY_UNSET_OK ? ", or -1 for unset" : "");
}

static bool parse_whole(const char *text, int64_t *n, const char **end)
{
    char *stop;
    errno = 0;
    *n = strtoll(text, &stop, 0);
    *end = stop;
    return stop != text && errno == 0;
}

static bool parse_int(const struct key *key, const char *text, void *field, struct err *err)
{
    int64_t n;
    const char *end;
    if (!parse_whole(text, &n, &end) || *end)
        return bad(err, "a whole number", text);
    if (!in_range(key, n, err))
        return false;
    must(n >= INT32_MIN && n <= INT32_MAX);
    *(int *)field = (int)n;
    return true;
}

struct unit {
    const char *text;
    double of; /* the base unit */
};

/* The factor of a unit, or 0 where there is no such unit. Blanks before it are fine. */
static double unit_of(const struct unit *units, const char *text)
{
    while (*text == ' ')
        text++;
    for (; units->text; units++) {
        if (strcmp(units->text, text) == 0)
            return units->of;
    }
    return 0;
}

static bool parse_bytes(const struct key *key, const char *text, void *field, struct err *err)
{
    /* As in postgresql.conf all of them are powers of 1024. */
    static const struct unit units[] = {
        {"", 1},        {"B", 1},        {"kB", 0x1p10}, {"KiB", 0x1p10},
        {"MB", 0x1p20}, {"MiB", 0x1p20}, {"GB", 0x1p30}, {"GiB", 0x1p30},
        {"TB", 0x1p40}, {"TiB", 0x1p40}, {NULL, 0},
    };
    bool ours = key->flags & KEY_OURS;
    int64_t n;
    const char *end;
    if (!parse_whole(text, &n, &end))
        return bad(err, "a number of bytes", text);
    double of = ours ? unit_of(units, end) : *end ? 0 : 1;
    if (of == 0)
        return bad(err,
                   ours ? "bytes, or a number with kB, MB, GB (KiB, MiB, GiB mean the same)"
                        : "a number of bytes without unit",
                   text);
    if (fabs((double)n) * of > 0x1p62)
        return bad(err, "fewer bytes", text);
    n *= (int64_t)of;
    if (!in_range(key, n, err))
        return false;
    *(uint64_t *)field = n < 0 ? UINT64_MAX : (uint64_t)n;
    return true;
}

static bool parse_time(const struct key *key, const char *text, void *field, struct err *err)
{
    static const struct unit units[] = {
        {"", 1},     {"s", 1},    {"ms", 1e-3}, {"us", 1e-6},
        {"min", 60}, {"h", 3600}, {"d", 86400}, {NULL, 0},
    };
    bool ours = key->flags & KEY_OURS;
    char *end;
    double n = strtod(text, &end);
    double of = ours ? unit_of(units, end) : *end ? 0 : 1;
    if (end == text || of == 0 || !isfinite(n))
        return bad(err,
                   ours ? "seconds, or a number with us, ms, s, min, h, d"
                        : "seconds without unit, such as 0.5",
                   text);
    if (n == -1 && *end == '\0' && key->flags & KEY_UNSET_OK) {
        *(uint64_t *)field = UINT64_MAX;
        return true;
    }
    if (!(n * of >= (double)key->min && n * of <= (double)key->max))
        return in_range(key, n < 0 ? INT64_MIN : INT64_MAX, err);
    *(uint64_t *)field = (uint64_t)(n * of * US_PER_S + 0.5);
    return true;
}

static bool parse_ms(const struct key *key, const char *text, void *field, struct err *err)
{
    int64_t n;
    const char *end;
    if (!parse_whole(text, &n, &end) || *end)
        return bad(err, "milliseconds", text);
    if (!in_range(key, n, err))
        return false;
    *(uint64_t *)field = (uint64_t)n * US_PER_MS;
    return true;
}

static bool parse_bool(const char *text, void *field, struct err *err)
{
    int64_t n;
    const char *end;
    if (!parse_whole(text, &n, &end) || *end || n < 0 || n > 1)
        return bad(err, "0 or 1", text);
    *(bool *)field = n;
    return true;
}

static void list_choices(const struct key *key, char *to, size_t bytes)
{
    size_t used = 0;
    for (const struct key_choice *c = key->choices; c->text && used < bytes; c++) {
        if (c > key->choices && c->value == c[-1].value)
            continue;
        used += (size_t)snprintf(to + used, bytes - used, "%s%s", used ? ", " : "", c->text);
    }
}

static const struct key_choice *find_choice(const struct key *key, const char *text, size_t bytes)
{
    for (const struct key_choice *c = key->choices; c->text; c++) {
        if (strlen(c->text) == bytes && strncasecmp(c->text, text, bytes) == 0)
            return c;
    }
    return NULL;
}

static bool bad_choice(const struct key *key, const char *kind, const char *text, struct err *err)
{
    char want[200], list[160] = "";
    list_choices(key, list, sizeof list);
    snprintf(want, sizeof want, "%s of: %s", kind, list);
    return bad(err, want, text);
}

static bool parse_choice(const struct key *key, const char *text, void *field, struct err *err)
{
    const struct key_choice *choice = find_choice(key, text, strlen(text));
    if (!choice)
        return bad_choice(key, "one", text, err);
    if (choice->missing)
        return err_set(err, "0A000", "pgweir does not have it yet, and will not guess another");
    *(int *)field = choice->value;
    return true;
}

static bool parse_flags(const struct key *key, const char *text, void *field, struct err *err)
{
    uint32_t flags = 0;
    for (const char *p = text; *p;) {
        size_t bytes = strcspn(p, ", ");
        const struct key_choice *choice = find_choice(key, p, bytes);
        if (bytes && !choice)
            return bad_choice(key, "some", text, err);
        if (choice)
            flags |= (uint32_t)choice->value;
        p += bytes;
        p += strspn(p, ", ");
    }
    *(uint32_t *)field = flags;
    return true;
}

static bool parse_sqlstate(const char *text, void *field, struct err *err)
{
    size_t n = 0;
    while (isdigit((unsigned char)text[n]) || (text[n] >= 'A' && text[n] <= 'Z'))
        n++;
    if (n != 5 || text[n])
        return bad(err, "a SQLSTATE: five digits or capital letters, such as 53300", text);
    memcpy(field, text, 6);
    return true;
}

bool keys_parse(const struct key *key, const char *text, void *base, struct err *err)
{
    void *field = field_of(key, base);
    switch (key->type) {
    case KEY_BOOL:
        return parse_bool(text, field, err);
    case KEY_INT:
    case KEY_OCTAL:
        return parse_int(key, text, field, err);
    case KEY_BYTES:
        return parse_bytes(key, text, field, err);
    case KEY_TIME:
        return parse_time(key, text, field, err);
    case KEY_MS:
        return parse_ms(key, text, field, err);
    case KEY_TEXT:
    case KEY_LIST:
        *(const char **)field = text;
        return true;
    case KEY_CHOICE:
        return parse_choice(key, text, field, err);
    case KEY_FLAGS:
        return parse_flags(key, text, field, err);
    case KEY_SHARE:
        return class_share_parse(field, text, err);
    case KEY_SQLSTATE:
        return parse_sqlstate(text, field, err);
    case KEY_SPECIAL:
        break;
    }
    return err_set(err, "22023", "cannot be set here");
}

void keys_defaults(enum key_scope scope, void *base)
{
    for (size_t t = 0; t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; table->scope == scope && i < table->keys_n; i++) {
            const struct key *key = &table->keys[i];
            bool ok = !key->default_text || key->type == KEY_SPECIAL ||
                      keys_parse(key, key->default_text, base, NULL);
            must(ok);
        }
    }
}

/* ---- field to text -------------------------------------------------------------------------- */

/* Seconds with no more decimals than needed. */
static void format_time(uint64_t us, char *buf, size_t bytes)
{
    if (us == UINT64_MAX) {
        snprintf(buf, bytes, "-1");
        return;
    }
    int n = snprintf(buf, bytes, "%llu.%06llu", (unsigned long long)(us / US_PER_S),
                     (unsigned long long)(us % US_PER_S));
    must(n > 0 && (size_t)n < bytes);
    while (buf[n - 1] == '0')
        n--;
    buf[buf[n - 1] == '.' ? n - 1 : n] = '\0';
}

static const char *format_choice(const struct key *key, int value)
{
    for (const struct key_choice *c = key->choices; c->text; c++) {
        if (c->value == value)
            return c->text;
    }
    return "";
}

static void format_flags(const struct key *key, uint32_t flags, char *buf, size_t bytes)
{
    size_t used = 0;
    buf[0] = '\0';
    for (const struct key_choice *c = key->choices; c->text && used < bytes; c++) {
        if (flags & (uint32_t)c->value)
            used += (size_t)snprintf(buf + used, bytes - used, "%s%s", used ? "," : "", c->text);
    }
}

const char *keys_format(const struct key *key, const void *base, char *buf, size_t buf_bytes)
{
    const void *field = const_field_of(key, base);
    if (key->flags & KEY_SECRET) {
        const char *const *text = field;
        return *text && !**text ? "" : "****";
    }
    switch (key->type) {
    case KEY_BOOL:
        return *(const bool *)field ? "1" : "0";
    case KEY_INT:
        snprintf(buf, buf_bytes, "%d", *(const int *)field);
        return buf;
    case KEY_OCTAL:
        snprintf(buf, buf_bytes, "%#o", (unsigned)*(const int *)field);
        return buf;
    case KEY_BYTES:
        snprintf(buf, buf_bytes, "%llu", (unsigned long long)*(const uint64_t *)field);
        return buf;
    case KEY_TIME:
        format_time(*(const uint64_t *)field, buf, buf_bytes);
        return buf;
    case KEY_MS:
        snprintf(buf, buf_bytes, "%llu",
                 (unsigned long long)(*(const uint64_t *)field / US_PER_MS));
        return buf;
    case KEY_TEXT:
    case KEY_LIST:
        return *(const char *const *)field ? *(const char *const *)field : "";
    case KEY_CHOICE:
        return format_choice(key, *(const int *)field);
    case KEY_FLAGS:
        format_flags(key, *(const uint32_t *)field, buf, buf_bytes);
        return buf;
    case KEY_SHARE:
        snprintf(buf, buf_bytes, "%u%s", ((const struct class_share *)field)->n,
                 ((const struct class_share *)field)->percent ? "%" : "");
        return buf;
    case KEY_SQLSTATE:
        return field;
    case KEY_SPECIAL:
        break;
    }
    return "";
}

/* ---- the manual ----------------------------------------------------------------------------- */

static const char *type_text(const struct key *key, char *buf, size_t bytes)
{
    bool ours = key->flags & KEY_OURS;
    switch (key->type) {
    case KEY_BOOL:
        return "0 or 1";
    case KEY_INT:
        snprintf(buf, bytes, "number, %lld to %lld%s", (long long)key->min, (long long)key->max,
                 key->flags & KEY_UNSET_OK ? ", -1 for unset" : "");
        return buf;
    case KEY_OCTAL:
        return "octal number";
    case KEY_BYTES:
        return ours ? "bytes, or with kB, MB, GB" : "bytes";
    case KEY_TIME:
        return ours ? "seconds, or with us, ms, s, min, h, d" : "seconds";
    case KEY_MS:
        return "milliseconds";
    case KEY_TEXT:
        return "text";
    case KEY_LIST:
        return "comma separated list";
    case KEY_CHOICE:
    case KEY_FLAGS:
        list_choices(key, buf, bytes);
        return buf;
    case KEY_SHARE:
        return "number, or with %";
    case KEY_SQLSTATE:
        return "SQLSTATE";
    case KEY_SPECIAL:
        break;
    }
    return "text";
}

/* Words of a sentence, indented, broken before HELP_COLUMNS. */
static void print_wrapped(const char *text, FILE *out)
{
    size_t column = 0;
    while (*text) {
        size_t bytes = strcspn(text, " ");
        if (column > 0 && column + 1 + bytes > HELP_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        column += (size_t)fprintf(out, "%*s%.*s", column ? 1 : HELP_INDENT, "", (int)bytes, text);
        text += bytes + (text[bytes] == ' ');
    }
    fputc('\n', out);
}

static void help_row(const struct key *key, FILE *out)
{
    char type[200], facts[300];
    snprintf(facts, sizeof facts, "[%s%s%s%s]", type_text(key, type, sizeof type),
             key->flags & KEY_RESTART ? "; needs a restart" : "",
             key->flags & KEY_OURS ? "; not in PgBouncer" : "",
             key->flags & KEY_WAITS ? "; understood, DOES NOT ACT YET" : "");
    fprintf(out, "  %s", key->name);
    if (key->default_text)
        fprintf(out, " = %s", *key->default_text ? key->default_text : "(empty)");
    fputc('\n', out);
    print_wrapped(key->help, out);
    print_wrapped(facts, out);
}

void keys_help(FILE *out)
{
    enum key_scope scope = KEY_SCOPES;
    for (size_t t = 0; t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        if (table->scope != scope)
            fprintf(out, "%s%s\n", t ? "\n" : "", scopes[table->scope].title);
        scope = table->scope;
        if (table->title)
            fprintf(out, "\n  -- %s\n", table->title);
        for (size_t i = 0; i < table->keys_n; i++)
            help_row(&table->keys[i], out);
    }
}
