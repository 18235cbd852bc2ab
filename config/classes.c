/* [class NAME] in two passes: first every section is made a class, so that demote_to may name one
 * that stands further down, then the keys are read.
 *
 * match = user:etl,loader database:sales address:10.0.0.0/8
 *
 * One line is one rule of pool/class: the words are separated by blanks and all must hold; within a
 * word a comma separates what may hold instead. Several lines are several rules. A section of a
 * built-in class changes the fields it names; its rules come before the built-in ones.
 */
#include "config/classes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/keys.h"
#include "config/zones.h"

#define BLANKS " \t"

struct filler {
    struct class_table *table;
    struct config_report *report;
    const struct ini_statement *at;
    struct class_opts *class;
};

const char *classes_name_of(const char *section)
{
    if (strncmp(section, "class", 5) != 0 || section[5] != ' ')
        return NULL;
    section += 5;
    while (*section == ' ')
        section++;
    return *section ? section : NULL;
}

/* ---- match ---------------------------------------------------------------------------------- */

/* One word of a match line: name, or name:value. */
struct word {
    char name[24];
    char value[CLASS_PATTERN_BYTES];
    bool has_value;
};

/* The value up to a blank outside of 'quotes', without the quotes. */
static const char *take_value(const char *p, struct word *word, struct err *err)
{
    size_t n = 0;
    bool quoted = false;
    for (; *p && (quoted || !strchr(BLANKS, *p)); p++) {
        if (*p == '\'') {
            quoted = !quoted;
            continue;
        }
        if (n + 1 == sizeof word->value) {
            err_set(err, "22023", "%s: longer than %zu bytes; use another match line", word->name,
                    sizeof word->value - 1);
            return NULL;
        }
        word->value[n++] = *p;
    }
    word->value[n] = '\0';
    if (quoted)
        err_set(err, "22023", "%s: a quote is not closed", word->name);
    else if (n == 0 || word->value[0] == ',' || word->value[n - 1] == ',')
        err_set(err, "22023",
                "%s: a comma separates values of one condition, a blank separates conditions, and "
                "neither may be empty",
                word->name);
    else
        return p;
    return NULL;
}

static const char *take_word(const char *p, struct word *word, struct err *err)
{
    size_t n = strcspn(p, ":" BLANKS);
    *word = (struct word){.has_value = p[n] == ':'};
    if (n >= sizeof word->name) {
        err_set(err, "22023", "no condition is called \"%.40s\"", p);
        return NULL;
    }
    memcpy(word->name, p, n);
    return word->has_value ? take_value(p + n + 1, word, err) : p + n;
}

static bool take_nets(struct class_rule *rule, const char *list, struct err *err)
{
    for (const char *p = list; *p;) {
        char text[64];
        size_t n = strcspn(p, ",");
        if (rule->nets_n == CLASS_NETS_MAX)
            return err_set(err, "22023", "address: more than %d; use another match line",
                           (int)CLASS_NETS_MAX);
        if (n >= sizeof text)
            return err_set(err, "22023", "address: \"%.60s\" is none", p);
        memcpy(text, p, n);
        text[n] = '\0';
        if (!class_net_parse(&rule->nets[rule->nets_n++], text, err))
            return false;
        p += n + (p[n] == ',');
    }
    return true;
}

static bool take_uid(struct class_rule *rule, const char *text, struct err *err)
{
    char *end;
    errno = 0;
    unsigned long uid = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || uid > UINT32_MAX)
        return err_set(err, "22023", "unix: expected the number of a user id, not \"%.40s\"", text);
    rule->peer_uid_set = true;
    rule->peer_uid = (uint32_t)uid;
    return true;
}

enum condition {
    COND_APPLICATION,
    COND_USER,
    COND_DATABASE,
    COND_ADDRESS,
    COND_UNIX,
    COND_TCP,
    COND_REPLICATION,
    COND_NOT_REPLICATION,
    CONDITIONS,
};
enum { VALUE_NONE, VALUE_OPTIONAL, VALUE_NEEDED };
static const char *const condition_names[CONDITIONS] = {
    "application_name", "user", "database", "address", "unix", "tcp", "replication",
    "not-replication",
};
static const uint8_t condition_values[CONDITIONS] = {
    VALUE_NEEDED,   VALUE_NEEDED, VALUE_NEEDED, VALUE_NEEDED,
    VALUE_OPTIONAL, VALUE_NONE,   VALUE_NONE,   VALUE_NONE,
};

static bool apply(struct class_rule *rule, enum condition c, const struct word *word,
                  struct err *err)
{
    switch (c) {
    case COND_APPLICATION:
        memcpy(rule->application_name, word->value, sizeof word->value);
        return true;
    case COND_USER:
        memcpy(rule->user, word->value, sizeof word->value);
        return true;
    case COND_DATABASE:
        memcpy(rule->database, word->value, sizeof word->value);
        return true;
    case COND_ADDRESS:
        return take_nets(rule, word->value, err);
    case COND_UNIX:
        rule->unix_socket = CLASS_YES;
        return !word->has_value || take_uid(rule, word->value, err);
    case COND_TCP:
        rule->unix_socket = CLASS_NO;
        return true;
    case COND_REPLICATION:
        rule->replication = CLASS_YES;
        return true;
    case COND_NOT_REPLICATION:
        rule->replication = CLASS_NO;
        return true;
    case CONDITIONS:
        break;
    }
    return false;
}

static bool take_condition(struct class_rule *rule, const struct word *word, uint32_t *seen,
                           struct err *err)
{
    enum condition c = 0;
    while (c < CONDITIONS && strcmp(condition_names[c], word->name) != 0)
        c++;
    if (c == CONDITIONS) {
        const char *near = keys_nearest_word(condition_names, CONDITIONS, word->name);
        return err_set(err, "22023", "no condition is called \"%s\"%s%s%s", word->name,
                       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    if (*seen & BIT(c))
        return err_set(err, "22023", "%s stands twice; all conditions of a line must hold",
                       word->name);
    *seen |= BIT(c);
    if (condition_values[c] == VALUE_NEEDED && !word->has_value)
        return err_set(err, "22023", "%s needs a value: %s:VALUE", word->name, word->name);
    if (condition_values[c] == VALUE_NONE && word->has_value)
        return err_set(err, "22023", "%s takes no value", word->name);
    return apply(rule, c, word, err);
}

static bool rule_check(uint32_t seen, struct err *err)
{
    if (seen == 0)
        return err_set(err, "22023", "expected conditions, such as user:etl");
    if (seen & BIT(COND_TCP) && seen & BIT(COND_UNIX))
        return err_set(err, "22023", "tcp and unix cannot both hold");
    if (seen & BIT(COND_ADDRESS) && seen & BIT(COND_UNIX))
        return err_set(err, "22023", "address and unix cannot both hold");
    if (seen & BIT(COND_REPLICATION) && seen & BIT(COND_NOT_REPLICATION))
        return err_set(err, "22023", "replication and not-replication cannot both hold");
    return true;
}

static bool fill_match(struct filler *f, const char *text, struct err *err)
{
    struct class_rule rule = {0};
    struct word word;
    uint32_t seen = 0;
    for (const char *p = text + strspn(text, BLANKS); *p; p += strspn(p, BLANKS)) {
        p = take_word(p, &word, err);
        if (!p || !take_condition(&rule, &word, &seen, err))
            return false;
    }
    if (!rule_check(seen, err))
        return false;
    struct class_rule *added = class_rule_add(f->table, (uint8_t)(f->class - f->table->at), err);
    if (!added)
        return false;
    rule.class_i = added->class_i;
    rule.builtin = added->builtin;
    *added = rule;
    return true;
}

/* ---- the other keys ------------------------------------------------------------------------- */

static bool fill_demote_to(struct filler *f, const char *name, struct err *err)
{
    int i = class_find(f->table, name);
    if (i < 0)
        return err_set(err, "22023", "there is no class \"%.40s\"", name);
    f->class->demote_to_i = (uint8_t)i;
    return true;
}

static bool fill_schedule(struct filler *f, const char *text, struct err *err)
{
    char zone[SCHEDULE_ZONE_BYTES];
    return schedule_parse(&f->class->schedule, text, zone, err) &&
           zones_load(&f->class->schedule.zone, zone, err);
}

static bool fill_finish_by(struct filler *f, const char *text, struct err *err)
{
    char zone[SCHEDULE_ZONE_BYTES];
    f->class->has_finish = *text != '\0';
    return !*text || (schedule_parse_clock(&f->class->finish_minute, text, zone, err) &&
                      zones_load(&f->class->finish_zone, zone, err));
}

static bool fill_key(struct filler *f)
{
    struct err err;
    const struct key *key = keys_find(KEY_CLASS, f->at->key);
    if (!key) {
        keys_explain_unknown(KEY_CLASS, f->at->key, &err);
        return report_error(f->report, f->at->at, "[%s] %s", f->at->section, err.text);
    }
    bool ok;
    if (strcmp(key->name, "match") == 0)
        ok = fill_match(f, f->at->value, &err);
    else if (strcmp(key->name, "demote_to") == 0)
        ok = fill_demote_to(f, f->at->value, &err);
    else if (strcmp(key->name, "schedule") == 0)
        ok = fill_schedule(f, f->at->value, &err);
    else if (strcmp(key->name, "finish_by") == 0)
        ok = fill_finish_by(f, f->at->value, &err);
    else
        ok = keys_parse(key, f->at->value, f->class, &err);
    return ok ||
           report_error(f->report, f->at->at, "%s = %.60s: %s", f->at->key, f->at->value, err.text);
}

bool classes_declare(struct class_table *table, const struct ini_list *statements,
                     struct config_report *report)
{
    struct err err;
    bool ok = true;
    for (const struct ini_statement *s = statements->first; s; s = s->next) {
        const char *name = s->key || !s->section ? NULL : classes_name_of(s->section);
        if (name && !class_add(table, name, &err))
            ok = report_error(report, s->at, "[%s]: %s", s->section, err.text);
    }
    return ok;
}

bool classes_fill(struct class_table *table, const struct ini_list *statements,
                  struct config_report *report)
{
    struct filler f = {.table = table, .report = report};
    bool ok = true;
    for (const struct ini_statement *s = statements->first; s; s = s->next) {
        const char *name = !s->key || !s->section ? NULL : classes_name_of(s->section);
        int i = name ? class_find(table, name) : -1;
        if (i < 0)
            continue;
        f.at = s;
        f.class = &table->at[i];
        ok = fill_key(&f) && ok;
    }
    return ok;
}
