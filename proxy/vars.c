#include "proxy/vars.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/buf.h"
#include "proxy/hash.h"

/* key\0value\0 ... in the order of strcasecmp(key): equal sets have equal bytes. */
struct vars {
    uint32_t refs_n; /* under table_lock */
    uint32_t bytes_n;
    UT_hash_handle hh;
    char bytes[];
};

struct draft {
    uint32_t n;
    char bytes[VARS_BYTES_MAX]; /* as far as n: to clear the rest would be most of a login */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vars *table; /* under table_lock */

static char tracked_names[VARS_TRACKED_MAX][64] = {
    "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name",
};
static size_t tracked_n = 5;

void vars_track(const char *extra_list)
{
    while (*extra_list) {
        size_t n = strcspn(extra_list, ", \t");
        char name[64];
        if (n && n < sizeof name && tracked_n < VARS_TRACKED_MAX) {
            memcpy(name, extra_list, n);
            name[n] = '\0';
            if (!vars_tracked(name))
                memcpy(tracked_names[tracked_n++], name, n + 1);
        }
        extra_list += n;
        extra_list += strspn(extra_list, ", \t");
    }
}

const char *vars_tracked(const char *key)
{
    for (size_t i = 0; i < tracked_n; i++)
        if (!strcasecmp(key, tracked_names[i]))
            return tracked_names[i];
    return NULL;
}

/* Takes the set with these bytes out of the table, or puts it there. NULL: out of memory. */
static const struct vars *intern(const char *bytes, uint32_t n)
{
    struct vars *v;
    pthread_mutex_lock(&table_lock);
    HASH_FIND(hh, table, bytes, n, v);
    if (!v) {
        v = malloc(sizeof *v + n);
        if (v) {
            v->refs_n = 0;
            v->bytes_n = n;
            memcpy(v->bytes, bytes, n);
            HASH_ADD_KEYPTR(hh, table, v->bytes, n, v);
        }
    }
    if (v)
        v->refs_n++;
    pthread_mutex_unlock(&table_lock);
    return v;
}

const struct vars *vars_none(void)
{
    const struct vars *v = intern("", 0);
    must(v); /* a few bytes, at boot or never */
    return v;
}

const struct vars *vars_ref(const struct vars *v)
{
    struct vars *mine = (struct vars *)(uintptr_t)v;
    pthread_mutex_lock(&table_lock);
    must(mine->refs_n > 0);
    mine->refs_n++;
    pthread_mutex_unlock(&table_lock);
    return v;
}

void vars_unref(const struct vars **v)
{
    struct vars *mine = (struct vars *)(uintptr_t)*v;
    *v = NULL;
    if (!mine)
        return;
    pthread_mutex_lock(&table_lock);
    must(mine->refs_n > 0);
    if (--mine->refs_n)
        mine = NULL;
    else
        HASH_DEL(table, mine);
    pthread_mutex_unlock(&table_lock);
    free(mine);
}

bool vars_next(const struct vars *v, uint32_t *at, const char **key, const char **value)
{
    if (*at >= v->bytes_n)
        return false;
    *key = v->bytes + *at;
    *value = *key + strlen(*key) + 1;
    *at = (uint32_t)(*value - v->bytes) + (uint32_t)strlen(*value) + 1;
    return true;
}

const char *vars_get(const struct vars *v, const char *key)
{
    const char *k, *value;
    for (uint32_t at = 0; vars_next(v, &at, &k, &value);)
        if (!strcasecmp(k, key))
            return value;
    return NULL;
}

static bool draft_put(struct draft *d, const char *key, const char *value)
{
    size_t key_n = strlen(key) + 1, value_n = strlen(value) + 1;
    if (key_n + value_n > sizeof d->bytes - d->n)
        return false;
    memcpy(d->bytes + d->n, key, key_n);
    memcpy(d->bytes + d->n + key_n, value, value_n);
    d->n += (uint32_t)(key_n + value_n);
    return true;
}

static bool replace(const struct vars **v, const struct draft *d)
{
    const struct vars *made = intern(d->bytes, d->n);
    if (!made)
        return false;
    vars_unref(v);
    *v = made;
    return true;
}

bool vars_set(const struct vars **v, const char *key, const char *value)
{
    const char *has = vars_get(*v, key);
    if (has == value || (has && value && !strcmp(has, value)))
        return true;
    const char *tracked = vars_tracked(key);
    if (tracked)
        key = tracked; /* one spelling, so that equal sets are equal */
    struct draft d;
    bool fits = true, placed = !value;
    const char *k, *old;
    d.n = 0;
    for (uint32_t at = 0; vars_next(*v, &at, &k, &old) && fits;) {
        int order = strcasecmp(k, key);
        if (!placed && order >= 0) {
            fits = draft_put(&d, key, value);
            placed = true;
        }
        if (order != 0)
            fits = fits && draft_put(&d, k, old);
    }
    if (!placed)
        fits = fits && draft_put(&d, key, value);
    return fits && replace(v, &d);
}

bool vars_keep_tracked(const struct vars **v)
{
    struct draft d;
    const char *k, *value;
    d.n = 0;
    for (uint32_t at = 0; vars_next(*v, &at, &k, &value);)
        if (vars_tracked(k) && !draft_put(&d, k, value))
            return false;
    return replace(v, &d);
}

bool vars_differ(const struct vars *has, const struct vars *wants)
{
    const char *k, *value, *other;
    if (has == wants)
        return false;
    for (uint32_t at = 0; vars_next(wants, &at, &k, &value);)
        if (!(other = vars_get(has, k)) || strcmp(other, value) != 0)
            return true;
    for (uint32_t at = 0; vars_next(has, &at, &k, &value);)
        if (!vars_tracked(k) && !vars_get(wants, k))
            return true;
    return false;
}

static bool put_text(struct buf *sql, const char *text)
{
    return buf_put(sql, text, strlen(text));
}

/* E'...' means the same whatever standard_conforming_strings is. */
static bool put_literal(struct buf *sql, const char *text)
{
    bool fits = put_text(sql, "E'");
    for (; *text && fits; text++) {
        if (*text == '\'' || *text == '\\')
            fits = buf_put(sql, text, 1);
        fits = fits && buf_put(sql, text, 1);
    }
    return fits && put_text(sql, "'");
}

/* A name for RESET: parts between dots each in quotes (custom settings are called a.b). */
static bool put_name(struct buf *sql, const char *name)
{
    bool fits = put_text(sql, "\"");
    for (; *name && fits; name++) {
        if (*name == '.')
            fits = put_text(sql, "\".\"");
        else if (*name == '"')
            fits = put_text(sql, "\"\"");
        else
            fits = buf_put(sql, name, 1);
    }
    return fits && put_text(sql, "\"");
}

/* set_config() takes a value as a startup packet does; SET would read "a, b" as one name. */
bool vars_put_sql(const struct vars *has, const struct vars *wants, struct buf *sql)
{
    const char *k, *value, *other;
    bool fits = true, any = false;
    for (uint32_t at = 0; vars_next(has, &at, &k, &value) && fits;)
        if (!vars_tracked(k) && !vars_get(wants, k))
            fits = put_text(sql, "RESET ") && put_name(sql, k) && put_text(sql, ";");
    for (uint32_t at = 0; vars_next(wants, &at, &k, &value) && fits;) {
        if ((other = vars_get(has, k)) && !strcmp(other, value))
            continue;
        fits = put_text(sql, any ? "," : "SELECT ") && put_text(sql, "pg_catalog.set_config(") &&
               put_literal(sql, k) && put_text(sql, ",") && put_literal(sql, value) &&
               put_text(sql, ",false)");
        any = true;
    }
    return fits && (!any || put_text(sql, ";"));
}
