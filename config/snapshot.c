/* From statements to a snapshot, in an order that the sections' own order does not touch:
 *
 *     defaults -> [pgbouncer], [databases], [users], [peers] -> classes -> what only a restart
 *     changes -> auth_file -> checks between settings -> rows of SHOW CONFIG
 *
 * Nothing here stops at the first error: an operator wants to see all of them at once. What is
 * built is private until snapshot_build() has said true, so a wrong file costs nothing but its
 * arena.
 */
#include "config/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/check.h"
#include "config/classes.h"
#include "config/lines.h"

enum {
    WAITING_MAX = 64, /* keys that do not act yet, of which each is told once */
    VALUE_BYTES = 64, /* of a number, or of some words */
};

struct build {
    struct config *cfg;
    const struct snapshot_input *input;
    struct config_report *report;
    struct lines lines;
    const struct key *told[WAITING_MAX];
    size_t told_n;
    const char *bad_section; /* told already */
};

/* ---- life ----------------------------------------------------------------------------------- */

struct config *snapshot_new(void)
{
    struct arena arena = {0};
    struct config *cfg = arena_take(&arena, sizeof *cfg);
    struct config_own *own = arena_take(&arena, sizeof *own);
    struct class_table *classes = arena_take(&arena, sizeof *classes);
    if (!cfg || !own || !classes) {
        arena_drop(&arena);
        return NULL;
    }
    cfg->own = own;
    own->self = cfg;
    cfg->classes = own->classes = classes;
    cfg->auth = &own->users;
    ini_list_init(&own->statements);
    atomic_init(&own->refs, 1);
    own->arena = arena;
    return cfg;
}

void snapshot_drop(struct config *cfg)
{
    HASH_CLEAR(hh, cfg->databases);
    HASH_CLEAR(hh, cfg->users);
    HASH_CLEAR(hh, cfg->peers);
    config_unref(&cfg->own->users_from);
    struct arena arena = cfg->own->arena; /* which holds cfg and own */
    arena_drop(&arena);
}

/* ---- statements ----------------------------------------------------------------------------- */

enum section {
    SECTION_GLOBAL,
    SECTION_DATABASES,
    SECTION_USERS,
    SECTION_PEERS,
    SECTION_CLASS,
    SECTION_UNKNOWN,
};

static enum section section_of(const char *name)
{
    if (strcmp(name, "pgbouncer") == 0 || strcmp(name, "pgweir") == 0)
        return SECTION_GLOBAL;
    if (strcmp(name, "databases") == 0)
        return SECTION_DATABASES;
    if (strcmp(name, "users") == 0)
        return SECTION_USERS;
    if (strcmp(name, "peers") == 0)
        return SECTION_PEERS;
    return classes_name_of(name) ? SECTION_CLASS : SECTION_UNKNOWN;
}

/* Says once of each key that is set and does not act. */
static void tell_waiting(void *arg, const struct key *key, const char *text, struct report_place at)
{
    struct build *b = arg;
    if (!(key->flags & KEY_WAITS) || (key->default_text && strcmp(key->default_text, text) == 0))
        return;
    for (size_t i = 0; i < b->told_n; i++) {
        if (b->told[i] == key)
            return;
    }
    if (b->told_n < WAITING_MAX)
        b->told[b->told_n++] = key;
    report_warning(b->report, at, "%s is understood, but does not act yet", key->name);
}

static bool set_global(struct build *b, const struct ini_statement *s)
{
    struct err err;
    const struct key *key = keys_find(KEY_GLOBAL, s->key);
    if (!key) {
        keys_explain_unknown(KEY_GLOBAL, s->key, &err);
        return report_error(b->report, s->at, "%s", err.text);
    }
    if (!keys_parse(key, s->value, &b->cfg->globals, &err))
        return report_error(b->report, s->at, "%s = %.60s: %s", s->key, s->value, err.text);
    tell_waiting(b, key, s->value, s->at);
    return true;
}

static bool unknown_section(struct build *b, const struct ini_statement *s)
{
    static const char *const known[] = {"pgbouncer", "pgweir", "databases",
                                        "users",     "peers",  "class NAME"};
    if (!s->section)
        return report_error(b->report, s->at,
                            "a setting before the first [section]; put [pgbouncer] above it");
    if (b->bad_section && strcmp(b->bad_section, s->section) == 0)
        return false;
    b->bad_section = s->section;
    const char *near = strncmp(s->section, "class", 5) == 0
                           ? "class NAME"
                           : keys_nearest_word(known, COUNT_OF(known), s->section);
    return report_error(b->report, s->at, "there is no section [%s]%s%s%s", s->section,
                        near ? "; did you mean [" : "", near ? near : "", near ? "]?" : "");
}

static bool take_statement(struct build *b, const struct ini_statement *s)
{
    enum section section = s->section ? section_of(s->section) : SECTION_UNKNOWN;
    if (section == SECTION_UNKNOWN)
        return unknown_section(b, s);
    if (!s->key)
        return true; /* a header; those of classes have their turn later */
    switch (section) {
    case SECTION_GLOBAL:
        return set_global(b, s);
    case SECTION_DATABASES:
        return lines_database(&b->lines, s);
    case SECTION_USERS:
        return lines_user(&b->lines, s);
    case SECTION_PEERS:
        return lines_peer(&b->lines, s);
    case SECTION_CLASS: {
        const struct key *key = keys_find(KEY_CLASS, s->key);
        if (key)
            tell_waiting(b, key, s->value, s->at);
        return true;
    }
    case SECTION_UNKNOWN:
        break;
    }
    return false;
}

/* ---- classes -------------------------------------------------------------------------------- */

/* What [pgbouncer] says of all classes; their own sections have the last word. */
static void apply_globals(struct class_table *table, const struct config_globals *g)
{
    for (uint32_t i = 0; i < table->class_n; i++) {
        if (g->breaker != CONFIG_UNSET)
            table->at[i].breaker = (enum class_breaker)g->breaker;
        if (g->protect != CONFIG_UNSET)
            table->at[i].protect = (enum class_protect)g->protect;
    }
}

static bool build_classes(struct build *b)
{
    struct class_table *table = b->cfg->own->classes;
    struct err err;
    class_table_init(table);
    if (!classes_declare(table, &b->cfg->own->statements, b->report))
        return false;
    apply_globals(table, &b->cfg->globals);
    bool ok = classes_fill(table, &b->cfg->own->statements, b->report);
    if (ok && b->input->old && !class_table_align(table, b->input->old->classes, &err))
        return report_error(b->report, (struct report_place){0}, "classes: %s", err.text);
    return ok;
}

/* ---- what a reload keeps -------------------------------------------------------------------- */

static bool keep_one(struct build *b, const struct key *key)
{
    char now[VALUE_BYTES], before[VALUE_BYTES];
    const char *old = keys_format(key, &b->input->old->globals, before, sizeof before);
    const char *new = keys_format(key, &b->cfg->globals, now, sizeof now);
    if (strcmp(old, new) == 0)
        return true;
    report_warning(b->report, check_place_of(b->cfg, key->name),
                   "%s needs a restart to become \"%.60s\"; it stays \"%.60s\"", key->name, new,
                   old);
    const char *kept = arena_copy_text(&b->cfg->own->arena, old);
    struct err err;
    if (kept && keys_parse(key, kept, &b->cfg->globals, &err))
        return true;
    return report_error(b->report, (struct report_place){0}, "%s cannot be kept: %s", key->name,
                        kept ? err.text : "out of memory");
}

static bool keep_restart_keys(struct build *b)
{
    bool ok = true;
    for (size_t t = 0; b->input->old && t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; table->scope == KEY_GLOBAL && i < table->keys_n; i++) {
            const struct key *key = &table->keys[i];
            if ((key->flags & KEY_RESTART) && !(key->flags & KEY_ALIAS))
                ok = keep_one(b, key) && ok;
        }
    }
    return ok;
}

/* ---- auth_file ------------------------------------------------------------------------------ */

static void share_users(struct build *b)
{
    const struct config *old = b->input->old;
    struct config_own *own = b->cfg->own;
    own->users_from = config_ref(old->own->users_from ? old->own->users_from : old);
    own->users_stamp = old->own->users_stamp;
    b->cfg->auth = old->auth;
}

static bool same_users(const struct build *b, const struct users_stamp *stamp)
{
    const struct config *old = b->input->old;
    return old && !b->input->reread_users &&
           strcmp(old->globals.auth_file, b->cfg->globals.auth_file) == 0 &&
           users_stamp_same(&old->own->users_stamp, stamp);
}

static bool read_users(struct build *b, FILE *file, const char *path)
{
    struct config_own *own = b->cfg->own;
    struct stat found = {0};
    if (fileno(file) >= 0 && fstat(fileno(file), &found) != 0)
        return report_error(b->report, (struct report_place){.file = path}, "%s", strerror(errno));
    struct users_stamp stamp = users_stamp_of(&found);
    if (same_users(b, &stamp)) {
        share_users(b);
        return true;
    }
    own->users_stamp = stamp;
    return users_read(file, path, &own->arena, &own->users, b->report);
}

static bool load_users(struct build *b)
{
    const char *path = b->cfg->globals.auth_file;
    if (b->input->keep_users) {
        share_users(b);
        return true;
    }
    if (!*path)
        return true;
    FILE *file = ini_open(b->input->source, path);
    if (!file && errno == ENOENT && !b->input->old) {
        /* As PgBouncer: it starts and lets nobody in. At a reload it would throw everybody out. */
        report_warning(b->report, check_place_of(b->cfg, "auth_file"),
                       "auth_file \"%.200s\" does not exist", path);
        return true;
    }
    if (!file)
        return report_error(b->report, check_place_of(b->cfg, "auth_file"),
                            "cannot open auth_file \"%.200s\": %s", path, strerror(errno));
    bool ok = read_users(b, file, path);
    fclose(file);
    return ok;
}

/* ---- SHOW CONFIG ---------------------------------------------------------------------------- */

static int compare_rows(const void *a, const void *b)
{
    return strcmp(((const struct config_row *)a)->key, ((const struct config_row *)b)->key);
}

static bool add_row(struct build *b, const struct key *key)
{
    char buf[VALUE_BYTES];
    struct config_own *own = b->cfg->own;
    const char *value = keys_format(key, &b->cfg->globals, buf, sizeof buf);
    if (value == buf)
        value = arena_copy_text(&own->arena, buf);
    own->rows[own->rows_n++] = (struct config_row){
        .key = key->name,
        .value = value,
        .default_value = key->default_text ? key->default_text : "",
        .changeable = !(key->flags & KEY_RESTART),
    };
    return value;
}

static bool make_rows(struct build *b)
{
    struct config_own *own = b->cfg->own;
    own->rows = arena_take(&own->arena, config_rows_n() * sizeof *own->rows);
    bool ok = own->rows;
    for (size_t t = 0; ok && t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; ok && table->scope == KEY_GLOBAL && i < table->keys_n; i++)
            ok = table->keys[i].flags & KEY_ALIAS || add_row(b, &table->keys[i]);
    }
    if (!ok)
        return report_error(b->report, (struct report_place){0}, "out of memory");
    must(own->rows_n == config_rows_n());
    qsort(own->rows, own->rows_n, sizeof *own->rows, compare_rows);
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------ */

bool snapshot_build(struct config *cfg, const struct snapshot_input *input,
                    struct config_report *report)
{
    struct build b = {.cfg = cfg, .input = input, .report = report};
    b.lines = (struct lines){.cfg = cfg, .report = report, .seen = tell_waiting, .arg = &b};
    keys_defaults(KEY_GLOBAL, &cfg->globals);
    bool ok = true;
    for (const struct ini_statement *s = cfg->own->statements.first; s; s = s->next)
        ok = take_statement(&b, s) && ok;
    if (!*cfg->globals.conffile && cfg->own->first_file)
        cfg->globals.conffile = cfg->own->first_file;
    ok = build_classes(&b) && ok;
    ok = keep_restart_keys(&b) && ok;
    ok = load_users(&b) && ok;
    ok = ok && check_snapshot(cfg, report);
    return ok && make_rows(&b);
}
