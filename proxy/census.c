#include "proxy/census.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/hash.h"

struct census_entry {
    enum census_scope scope;
    uint32_t n;
    UT_hash_handle hh;
    char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct census_entry *counted[2]; /* by scope; under lock */

static struct census_entry *find_locked(enum census_scope scope, const char *name)
{
    struct census_entry *e;
    HASH_FIND_STR(counted[scope], name, e);
    return e;
}

static struct census_entry *make_locked(enum census_scope scope, const char *name)
{
    size_t name_n = strlen(name);
    struct census_entry *e = calloc(1, sizeof *e + name_n + 1);
    if (!e)
        return NULL;
    e->scope = scope;
    memcpy(e->name, name, name_n + 1);
    HASH_ADD_KEYPTR(hh, counted[scope], e->name, name_n, e);
    return e;
}

struct census_entry *census_enter(enum census_scope scope, const char *name, uint32_t limit_n)
{
    pthread_mutex_lock(&lock);
    struct census_entry *e = find_locked(scope, name);
    if (!e)
        e = make_locked(scope, name);
    if (e && limit_n && e->n >= limit_n)
        e = NULL;
    if (e)
        e->n++;
    pthread_mutex_unlock(&lock);
    return e;
}

void census_leave(struct census_entry **entry)
{
    struct census_entry *e = *entry;
    *entry = NULL;
    if (!e)
        return;
    pthread_mutex_lock(&lock);
    must(e->n > 0);
    if (--e->n)
        e = NULL;
    else
        HASH_DEL(counted[e->scope], e);
    pthread_mutex_unlock(&lock);
    free(e);
}

const char *census_name(const struct census_entry *e)
{
    return e->name;
}

uint32_t census_n(enum census_scope scope, const char *name)
{
    pthread_mutex_lock(&lock);
    const struct census_entry *e = find_locked(scope, name);
    uint32_t n = e ? e->n : 0;
    pthread_mutex_unlock(&lock);
    return n;
}
