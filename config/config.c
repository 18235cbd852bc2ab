/* The outside of config/: loading, references, look-ups, and what operators read.
 *
 *     config_load:  files -> ini_read -> statements -> snapshot_build -> *out
 *     config_set:   old's statements + one more     -> snapshot_build -> *out
 *
 * So SET obeys the same rules as a file, and a snapshot always is what its statements say.
 */
#include "config/config.h"

#include <string.h>
#include <strings.h>

#include "config/keys.h"
#include "config/snapshot.h"
#include "config/table.h"
#include "pool/class.h"

/* ---- making --------------------------------------------------------------------------------- */

static const struct ini_source files_plain; /* fopen() */

static bool out_of_memory(struct config_report *report)
{
    return report_error(report, (struct report_place){0}, "out of memory");
}

/* Hands out a finished snapshot, or drops it. */
static bool finish(struct config *cfg, bool ok, struct config **out)
{
    if (ok)
        *out = cfg;
    else
        snapshot_drop(cfg);
    return ok;
}

bool config_load(const char *const *files, size_t files_n, const struct config *old,
                 struct config **out, struct config_report *report)
{
    *out = NULL;
    *report = (struct config_report){0};
    struct config *cfg = snapshot_new();
    if (!cfg)
        return out_of_memory(report);
    struct config_own *own = cfg->own;
    bool ok = true;
    if (files_n > 0) {
        own->first_file = arena_copy_text(&own->arena, files[0]);
        ok = own->first_file || out_of_memory(report);
    }
    for (size_t i = 0; i < files_n; i++)
        ok = ini_read(files[i], &files_plain, &own->statements, &own->arena, report) && ok;
    /* Built even after errors in the files: the operator wants to see all of them at once. */
    struct snapshot_input input = {.source = &files_plain, .old = old};
    ok = snapshot_build(cfg, &input, report) && ok;
    return finish(cfg, ok, out);
}

/* NULL stays NULL. */
static bool copy_text(struct arena *arena, const char **text)
{
    const char *from = *text;
    if (from)
        *text = arena_copy_text(arena, from);
    return *text || !from;
}

/* old's statements in an arena of their own: old may be gone long before. */
static struct config *copy_statements(const struct config *old)
{
    struct config *cfg = snapshot_new();
    if (!cfg)
        return NULL;
    struct config_own *own = cfg->own;
    own->first_file = old->own->first_file;
    bool ok = copy_text(&own->arena, &own->first_file);
    const char *section = NULL, *file = NULL, *old_section = NULL, *old_file = NULL;
    for (const struct ini_statement *s = old->own->statements.first; ok && s; s = s->next) {
        struct ini_statement copy = *s;
        if (s->section != old_section) /* most lines share these two with the line above */
            ok = copy_text(&own->arena, &copy.section);
        else
            copy.section = section;
        if (s->at.file != old_file)
            ok = copy_text(&own->arena, &copy.at.file) && ok;
        else
            copy.at.file = file;
        old_section = s->section, section = copy.section;
        old_file = s->at.file, file = copy.at.file;
        ok = ok && copy_text(&own->arena, &copy.key) && copy_text(&own->arena, &copy.value) &&
             ini_list_add(&own->statements, &own->arena, &copy);
    }
    if (ok)
        return cfg;
    snapshot_drop(cfg);
    return NULL;
}

/* The next snapshot from old's statements and perhaps one more. */
static bool derive(const struct config *old, struct ini_statement *more,
                   const struct snapshot_input *input, struct config **out, struct err *err)
{
    struct config *cfg = copy_statements(old);
    if (!cfg)
        return err_set(err, "53200", "out of memory");
    struct arena *arena = &cfg->own->arena;
    bool ok = !more || (copy_text(arena, &more->key) && copy_text(arena, &more->value) &&
                        ini_list_add(&cfg->own->statements, arena, more));
    struct config_report *report = arena_take(arena, sizeof *report);
    if (!ok || !report) {
        snapshot_drop(cfg);
        return err_set(err, "53200", "out of memory");
    }
    ok = snapshot_build(cfg, input, report);
    if (!ok)
        report_first_error(report, err);
    return finish(cfg, ok, out);
}

bool config_set(const struct config *old, const char *key, const char *value, struct config **out,
                struct err *err)
{
    *out = NULL;
    const struct key *row = keys_find(KEY_GLOBAL, key);
    if (!row) {
        keys_explain_unknown(KEY_GLOBAL, key, err);
        return false;
    }
    if (row->flags & KEY_RESTART)
        return err_set(err, "55P02", "%s cannot be changed without a restart", key);
    struct ini_statement more = {.section = "pgweir", .key = key, .value = value};
    /* A SET of auth_file means the file; any other leaves secrets alone, even if it was touched. */
    struct snapshot_input input = {
        .source = &files_plain, .old = old, .keep_users = strcmp(key, "auth_file") != 0};
    return derive(old, &more, &input, out, err);
}

bool config_auth_file_changed(const struct config *cfg)
{
    struct stat found;
    const char *path = cfg->globals.auth_file;
    if (!*path || stat(path, &found) != 0)
        return false; /* gone for a moment while it is being replaced: keep what we have */
    struct users_stamp now = users_stamp_of(&found);
    return !users_stamp_same(&now, &cfg->own->users_stamp);
}

bool config_reread_auth_file(const struct config *old, struct config **out, struct err *err)
{
    *out = NULL;
    struct snapshot_input input = {.source = &files_plain, .old = old, .reread_users = true};
    return derive(old, NULL, &input, out, err);
}

const struct config *config_ref(const struct config *cfg)
{
    uint32_t before = atomic_fetch_add_explicit(&cfg->own->refs, 1, memory_order_relaxed);
    must(before > 0);
    return cfg;
}

void config_unref(const struct config **cfg)
{
    const struct config *gone = *cfg;
    *cfg = NULL;
    if (!gone)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&gone->own->refs, 1, memory_order_acq_rel);
    must(before > 0);
    if (before == 1)
        snapshot_drop(gone->own->self);
}

/* ---- look-ups ------------------------------------------------------------------------------- */

const struct config_database *config_database(const struct config *cfg, const char *name)
{
    const struct config_database *db;
    HASH_FIND_STR(cfg->databases, name, db);
    if (!db)
        HASH_FIND_STR(cfg->databases, "*", db);
    return db;
}

static bool replicas_asked(const struct config *cfg)
{
    for (uint32_t i = 0; i < cfg->classes->class_n; i++)
        if (!cfg->classes->at[i].retired && cfg->classes->at[i].route == CLASS_ROUTE_REPLICA)
            return true;
    return false;
}

bool config_is_steered(const struct config *cfg, const struct config_database *db)
{
    return db->target_session_attrs > TARGET_ANY || (db->hosts_n > 1 && replicas_asked(cfg));
}

const struct config_user *config_user(const struct config *cfg, const char *name)
{
    const struct config_user *user;
    HASH_FIND_STR(cfg->users, name, user);
    return user;
}

const struct config_peer *config_peer(const struct config *cfg, int id)
{
    const struct config_peer *peer;
    HASH_FIND_INT(cfg->peers, &id, peer);
    return peer;
}

static void take_int(int *to, int from)
{
    if (from != CONFIG_UNSET)
        *to = from;
}

static void take_us(uint64_t *to, uint64_t from)
{
    if (from != CONFIG_UNSET_US)
        *to = from;
}

static void take_mode(enum config_pool_mode *to, enum config_pool_mode from)
{
    if (from != POOL_MODE_UNSET)
        *to = from;
}

static void pool_of_database(const struct config_database *db, struct config_pool *out)
{
    take_mode(&out->pool_mode, db->pool_mode);
    take_int(&out->pool_size, db->pool_size);
    take_int(&out->min_pool_size, db->min_pool_size);
    take_int(&out->reserve_pool_size, db->reserve_pool_size);
    take_int(&out->max_db_connections, db->max_db_connections);
    take_int(&out->max_db_client_connections, db->max_db_client_connections);
    take_us(&out->server_lifetime_us, db->server_lifetime_us);
    take_us(&out->query_wait_timeout_us, db->query_wait_timeout_us);
}

static void pool_of_user(const struct config_user *user, struct config_pool *out)
{
    take_mode(&out->pool_mode, user->pool_mode);
    take_int(&out->pool_size, user->pool_size);
    take_int(&out->reserve_pool_size, user->reserve_pool_size);
    take_int(&out->max_user_connections, user->max_user_connections);
    take_int(&out->max_user_client_connections, user->max_user_client_connections);
    take_us(&out->query_wait_timeout_us, user->query_wait_timeout_us);
    take_us(&out->query_timeout_us, user->query_timeout_us);
    take_us(&out->idle_transaction_timeout_us, user->idle_transaction_timeout_us);
    take_us(&out->transaction_timeout_us, user->transaction_timeout_us);
    take_us(&out->client_idle_timeout_us, user->client_idle_timeout_us);
}

void config_pool(const struct config *cfg, const struct config_database *db,
                 const struct config_user *user, struct config_pool *out)
{
    const struct config_globals *g = &cfg->globals;
    *out = (struct config_pool){
        .pool_mode = g->pool_mode,
        .pool_size = g->default_pool_size,
        .min_pool_size = g->min_pool_size,
        .reserve_pool_size = g->reserve_pool_size,
        .reserve_pool_timeout_us = g->reserve_pool_timeout_us,
        .max_db_connections = g->max_db_connections,
        .max_db_client_connections = g->max_db_client_connections,
        .max_user_connections = g->max_user_connections,
        .max_user_client_connections = g->max_user_client_connections,
        .server_lifetime_us = g->server_lifetime_us,
        .query_wait_timeout_us = g->query_wait_timeout_us,
        .query_timeout_us = g->query_timeout_us,
        .idle_transaction_timeout_us = g->idle_transaction_timeout_us,
        .transaction_timeout_us = g->transaction_timeout_us,
        .client_idle_timeout_us = g->client_idle_timeout_us,
    };
    if (db)
        pool_of_database(db, out);
    if (user)
        pool_of_user(user, out);
    must(out->pool_mode != POOL_MODE_UNSET);
}

bool config_list_has(const char *list, const char *word, bool exact)
{
    size_t word_bytes = strlen(word);
    while (*list) {
        list += strspn(list, ", \t");
        size_t bytes = strcspn(list, ",");
        const char *next = list + bytes;
        while (bytes > 0 && strchr(" \t", list[bytes - 1]))
            bytes--;
        int differs = exact ? strncmp(list, word, bytes) : strncasecmp(list, word, bytes);
        if (bytes > 0 && bytes == word_bytes && !differs)
            return true;
        list = next;
    }
    return false;
}

const char *config_pool_mode_name(enum config_pool_mode mode)
{
    for (const struct key_choice *c = keys_pool_modes; c->text; c++) {
        if (c->value == (int)mode)
            return c->text;
    }
    return "";
}

/* ---- what operators read -------------------------------------------------------------------- */

size_t config_rows_n(void)
{
    size_t n = 0;
    for (size_t t = 0; t < keys_tables_n; t++) {
        const struct key_table *table = &keys_tables[t];
        for (size_t i = 0; table->scope == KEY_GLOBAL && i < table->keys_n; i++)
            n += !(table->keys[i].flags & KEY_ALIAS);
    }
    return n;
}

void config_row(const struct config *cfg, size_t row_i, struct config_row *out)
{
    must(row_i < cfg->own->rows_n);
    *out = cfg->own->rows[row_i];
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static size_t live_classes_n(const struct class_table *table)
{
    size_t n = 0;
    for (uint32_t i = 0; i < table->class_n; i++)
        n += !table->at[i].retired;
    return n;
}

void config_check_report(const struct config *cfg, const struct config_report *report, FILE *out)
{
    for (uint32_t i = 0; i < report->notes_n; i++) {
        const struct config_note *note = &report->notes[i];
        fprintf(out, "%s: %s\n", note->fatal ? "error" : "warning", note->text);
    }
    uint32_t lost_n = report->errors_n + report->warnings_n - report->notes_n;
    if (lost_n)
        fprintf(out, "... and %u more\n", lost_n);
    if (!cfg) {
        fprintf(out, "configuration is NOT usable: %u error%s, %u warning%s\n", report->errors_n,
                plural(report->errors_n), report->warnings_n, plural(report->warnings_n));
        return;
    }
    size_t databases_n = HASH_COUNT(cfg->databases), secrets_n = users_n(cfg->auth);
    size_t classes_n = live_classes_n(cfg->classes);
    fprintf(out,
            "configuration is good: %zu database%s, %zu class%s, %zu user%s in auth_file, %u "
            "warning%s\n",
            databases_n, plural(databases_n), classes_n, classes_n == 1 ? "" : "es", secrets_n,
            plural(secrets_n), report->warnings_n, plural(report->warnings_n));
}

void config_help(FILE *out)
{
    keys_help(out);
}
