#include "proxy/prep.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "proxy/hash.h"

/* ---- the process's statements -------------------------------------------------------------- */

enum { TABLE_BUCKETS = 1 << 14 }; /* applications have hundreds of statements, not millions */

static struct {
    pthread_mutex_t lock;
    /* lock guards all below */
    struct prep_stmt *buckets[TABLE_BUCKETS];
    uint64_t number_last, n;
} the_table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct prep_stmt *find_locked(uint64_t hash, struct view rest)
{
    struct prep_stmt *s = the_table.buckets[hash % TABLE_BUCKETS];
    while (s && (s->hash != hash || s->rest_bytes != rest.n || memcmp(s->rest, rest.at, rest.n)))
        s = s->chain;
    return s;
}

static struct prep_stmt *make_locked(uint64_t hash, struct view rest, const struct sql_info *info)
{
    struct prep_stmt *s = calloc(1, sizeof *s + rest.n);
    if (!s)
        return NULL;
    s->number = ++the_table.number_last;
    snprintf(s->name, sizeof s->name, "pgweir_%llu", (unsigned long long)s->number);
    s->fingerprint = info->fingerprint;
    s->flags = info->flags;
    s->rest_bytes = (uint32_t)rest.n;
    memcpy(s->rest, rest.at, rest.n);
    s->hash = hash;
    s->chain = the_table.buckets[hash % TABLE_BUCKETS];
    the_table.buckets[hash % TABLE_BUCKETS] = s;
    the_table.n++;
    return s;
}

struct prep_stmt *prep_intern(struct view rest, const struct sql_info *info)
{
    must(rest.n <= PREP_PARSE_BYTES_MAX);
    uint64_t hash = hash_bytes(rest.at, rest.n);
    pthread_mutex_lock(&the_table.lock);
    struct prep_stmt *s = find_locked(hash, rest);
    if (!s)
        s = make_locked(hash, rest, info);
    if (s)
        s->refs_n++;
    pthread_mutex_unlock(&the_table.lock);
    return s;
}

struct prep_stmt *prep_ref(struct prep_stmt *s)
{
    pthread_mutex_lock(&the_table.lock);
    must(s->refs_n > 0);
    s->refs_n++;
    pthread_mutex_unlock(&the_table.lock);
    return s;
}

void prep_unref(struct prep_stmt **stmt)
{
    struct prep_stmt *s = *stmt;
    *stmt = NULL;
    if (!s)
        return;
    pthread_mutex_lock(&the_table.lock);
    must(s->refs_n > 0);
    if (--s->refs_n) {
        s = NULL;
    } else {
        struct prep_stmt **at = &the_table.buckets[s->hash % TABLE_BUCKETS];
        while (*at != s)
            at = &(*at)->chain;
        *at = s->chain;
        the_table.n--;
    }
    pthread_mutex_unlock(&the_table.lock);
    free(s);
}

void prep_outdate(struct prep_stmt *s)
{
    atomic_fetch_add_explicit(&s->generation, 1, memory_order_relaxed);
}

uint64_t prep_statements_n(void)
{
    pthread_mutex_lock(&the_table.lock);
    uint64_t n = the_table.n;
    pthread_mutex_unlock(&the_table.lock);
    return n;
}

/* ---- a client's names ----------------------------------------------------------------------- */

struct name_entry {
    struct prep_stmt *stmt;
    uint64_t serial;
    UT_hash_handle hh;
    char name[];
};
struct prep_names {
    struct name_entry *by_name;
};

static struct name_entry *entry_of(const struct prep_names *names, const char *name, size_t name_n)
{
    struct name_entry *e = NULL;
    if (names)
        HASH_FIND(hh, names->by_name, name, name_n, e);
    return e;
}

struct prep_stmt *prep_names_find(const struct prep_names *names, const char *name, size_t name_n)
{
    struct name_entry *e = entry_of(names, name, name_n);
    return e ? e->stmt : NULL;
}

uint64_t prep_names_add(struct prep_names **names, const char *name, size_t name_n,
                        struct prep_stmt *s)
{
    static _Thread_local uint64_t serial_last; /* a client's names never leave its loop */
    must(!entry_of(*names, name, name_n));
    if (!*names)
        *names = calloc(1, sizeof **names);
    if (!*names || HASH_COUNT((*names)->by_name) >= PREP_NAMES_MAX)
        return 0;
    struct name_entry *e = calloc(1, sizeof *e + name_n);
    if (!e)
        return 0;
    memcpy(e->name, name, name_n);
    e->stmt = prep_ref(s);
    e->serial = ++serial_last;
    HASH_ADD_KEYPTR(hh, (*names)->by_name, e->name, name_n, e);
    return e->serial;
}

static void drop_entry(struct prep_names **names, struct name_entry *e)
{
    HASH_DEL((*names)->by_name, e);
    prep_unref(&e->stmt);
    free(e);
}

void prep_names_remove(struct prep_names **names, const char *name, size_t name_n)
{
    struct name_entry *e = entry_of(*names, name, name_n);
    if (e)
        drop_entry(names, e);
}

void prep_names_forget(struct prep_names **names, uint64_t serial)
{
    struct name_entry *e, *next;
    if (!*names)
        return;
    HASH_ITER(hh, (*names)->by_name, e, next)
    {
        if (e->serial == serial) {
            drop_entry(names, e);
            return;
        }
    }
}

void prep_names_free(struct prep_names **names)
{
    while (*names && (*names)->by_name)
        drop_entry(names, (*names)->by_name);
    free(*names);
    *names = NULL;
}

uint32_t prep_names_n(const struct prep_names *names)
{
    return names ? HASH_COUNT(names->by_name) : 0;
}

/* ---- what a server has ---------------------------------------------------------------------- */

struct cache_entry {
    struct prep_stmt *stmt;
    uint32_t generation;
    struct cache_entry *prev, *next; /* most recently used first */
    UT_hash_handle hh;               /* by stmt->number */
};
struct prep_cache {
    struct cache_entry *by_number, *recent;
};

static struct cache_entry *cached(struct prep_cache *cache, uint64_t number)
{
    struct cache_entry *e = NULL;
    if (cache)
        HASH_FIND(hh, cache->by_number, &number, sizeof number, e);
    return e;
}

enum prep_found prep_cache_find(struct prep_cache *cache, const struct prep_stmt *s)
{
    struct cache_entry *e = cached(cache, s->number);
    if (!e)
        return PREP_ABSENT;
    if (e != cache->recent) {
        DL_DELETE(cache->recent, e);
        DL_PREPEND(cache->recent, e);
    }
    bool old = e->generation != atomic_load_explicit(&s->generation, memory_order_relaxed);
    return old ? PREP_OUTDATED : PREP_PRESENT;
}

bool prep_cache_add(struct prep_cache **cache, struct prep_stmt *s)
{
    must(!cached(*cache, s->number));
    if (!*cache)
        *cache = calloc(1, sizeof **cache);
    if (!*cache)
        return false;
    struct cache_entry *e = calloc(1, sizeof *e);
    if (!e)
        return false;
    e->stmt = prep_ref(s);
    e->generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
    HASH_ADD_KEYPTR(hh, (*cache)->by_number, &e->stmt->number, sizeof e->stmt->number, e);
    DL_PREPEND((*cache)->recent, e);
    return true;
}

static void drop_cached(struct prep_cache **cache, struct cache_entry *e)
{
    HASH_DEL((*cache)->by_number, e);
    DL_DELETE((*cache)->recent, e);
    prep_unref(&e->stmt);
    free(e);
}

struct prep_stmt *prep_cache_stmt(struct prep_cache *cache, uint64_t number)
{
    struct cache_entry *e = cached(cache, number);
    return e ? e->stmt : NULL;
}

void prep_cache_remove(struct prep_cache **cache, uint64_t number)
{
    struct cache_entry *e = cached(*cache, number);
    if (e)
        drop_cached(cache, e);
}

bool prep_cache_evict(struct prep_cache **cache, uint32_t max_n, char name[PREP_NAME_BYTES])
{
    if (prep_cache_n(*cache) <= max_n)
        return false;
    struct cache_entry *oldest = (*cache)->recent->prev;
    memcpy(name, oldest->stmt->name, PREP_NAME_BYTES);
    drop_cached(cache, oldest);
    return true;
}

void prep_cache_free(struct prep_cache **cache)
{
    while (*cache && (*cache)->recent)
        drop_cached(cache, (*cache)->recent);
    free(*cache);
    *cache = NULL;
}

uint32_t prep_cache_n(const struct prep_cache *cache)
{
    return cache ? HASH_COUNT(cache->by_number) : 0;
}
