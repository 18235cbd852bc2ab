/* A short list under a lock: only databases the operator spoke of are in it. */
#include "proxy/gates.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct entry {
    struct gate gate;
    struct entry *next;
    char database[];
};

struct gates {
    pthread_mutex_t lock;
    /* lock guards all below */
    struct entry *entries;
    bool all_paused;
};

struct gates *gates_new(void)
{
    struct gates *g = calloc(1, sizeof *g);
    if (g)
        pthread_mutex_init(&g->lock, NULL);
    return g;
}

void gates_free(struct gates **gates)
{
    struct gates *g = *gates;
    struct entry *e, *next;
    *gates = NULL;
    if (!g)
        return;
    LL_FOREACH_SAFE(g->entries, e, next)
    {
        free(e);
    }
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static struct entry *find_locked(const struct gates *g, const char *database)
{
    struct entry *e;
    LL_FOREACH(g->entries, e)
    {
        if (!strcmp(e->database, database))
            return e;
    }
    return NULL;
}

struct gate gates_own(struct gates *g, const char *database)
{
    pthread_mutex_lock(&g->lock);
    const struct entry *e = find_locked(g, database);
    struct gate gate = e ? e->gate : (struct gate){.paused = false};
    pthread_mutex_unlock(&g->lock);
    return gate;
}

struct gate gates_of(struct gates *g, const char *database)
{
    struct gate gate = gates_own(g, database);
    gate.paused |= gates_all_paused(g);
    return gate;
}

bool gates_set(struct gates *g, const char *database, const struct gate *gate)
{
    size_t name_bytes = strlen(database) + 1;
    struct entry *spare = calloc(1, sizeof *spare + name_bytes);
    if (!spare)
        return false;
    pthread_mutex_lock(&g->lock);
    struct entry *e = find_locked(g, database);
    if (!e) {
        e = spare;
        spare = NULL;
        memcpy(e->database, database, name_bytes);
        LL_PREPEND(g->entries, e);
    }
    e->gate = *gate;
    if (!gate->paused && !gate->disabled && !gate->reconnect_us) {
        LL_DELETE(g->entries, e);
        free(e);
    }
    pthread_mutex_unlock(&g->lock);
    free(spare);
    return true;
}

void gates_pause_all(struct gates *g, bool paused)
{
    pthread_mutex_lock(&g->lock);
    g->all_paused = paused;
    pthread_mutex_unlock(&g->lock);
}

bool gates_all_paused(struct gates *g)
{
    pthread_mutex_lock(&g->lock);
    bool paused = g->all_paused;
    pthread_mutex_unlock(&g->lock);
    return paused;
}
