#include "proxy/baselines.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "breaker/estimator.h"
#include "proxy/log.h"

enum {
    PATH_BYTES = 4096,
    FORGET_S = 30 * 24 * 3600, /* of an upstream nobody used: its norms are history */
    FRAME_BYTES = 2 + 2 + 8 + 4,
};
static const char magic[] = "pgweir norms 1\n";
enum { MAGIC_BYTES = sizeof magic - 1 };
#define FILE_BYTES_MAX                                                                             \
    (MAGIC_BYTES +                                                                                 \
     BASELINES_SECTIONS_MAX * (FRAME_BYTES + BASELINES_HOST_MAX + (size_t)ESTIMATOR_BYTES_MAX))

/* One writing of the file; the thread's while it runs. */
struct writing {
    char path[PATH_BYTES];
    uint8_t *bytes;
    size_t n;
    struct err err;
    bool good;
    atomic_bool done;
};

struct baselines {
    char path[PATH_BYTES]; /* "": nowhere */
    uint8_t *file;         /* as read; sections point into it */
    struct baselines_section sections[BASELINES_SECTIONS_MAX];
    bool taken[BASELINES_SECTIONS_MAX]; /* its upstream is in use: it says what is known now */
    uint32_t sections_n;
    uint64_t due_us;
    bool complained; /* that it cannot be written: once is enough */
    bool runs;       /* the thread */
    pthread_t thread;
    struct writing writing;
};

/* ---- the format ------------------------------------------------------------------------------ */

/* Little-endian. */
static void put(uint8_t **at, uint64_t value, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        *(*at)++ = (uint8_t)(value >> 8 * i);
}

static uint64_t take(const uint8_t **at, uint32_t n)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < n; i++)
        value |= (uint64_t) * (*at)++ << 8 * i;
    return value;
}

static bool parse_section(const uint8_t **at, const uint8_t *end, struct baselines_section *out)
{
    if (end - *at < FRAME_BYTES)
        return false;
    size_t host_n = take(at, 2);
    out->port = (uint16_t)take(at, 2);
    out->saved_s = take(at, 8);
    out->bytes_n = (uint32_t)take(at, 4);
    if (host_n == 0 || host_n > BASELINES_HOST_MAX || out->bytes_n > ESTIMATOR_BYTES_MAX ||
        (size_t)(end - *at) < host_n + out->bytes_n || memchr(*at, 0, host_n))
        return false;
    memcpy(out->host, *at, host_n);
    out->host[host_n] = '\0';
    out->bytes = *at + host_n;
    *at = out->bytes + out->bytes_n;
    return true;
}

bool baselines_parse(const uint8_t *bytes, size_t n,
                     struct baselines_section out[BASELINES_SECTIONS_MAX], uint32_t *sections_n,
                     struct err *err)
{
    *sections_n = 0;
    if (n < MAGIC_BYTES || memcmp(bytes, magic, MAGIC_BYTES) != 0)
        return err_set(err, "22023", "it is not a file of norms, or of another version");
    const uint8_t *at = bytes + MAGIC_BYTES, *end = bytes + n;
    while (at < end) {
        if (*sections_n == BASELINES_SECTIONS_MAX || !parse_section(&at, end, &out[*sections_n])) {
            *sections_n = 0;
            return err_set(err, "22023", "it is damaged");
        }
        ++*sections_n;
    }
    return true;
}

static void put_section(uint8_t **at, const struct baselines_section *s)
{
    size_t host_n = strlen(s->host);
    put(at, host_n, 2);
    put(at, s->port, 2);
    put(at, s->saved_s, 8);
    put(at, s->bytes_n, 4);
    memcpy(*at, s->host, host_n);
    *at += host_n;
    memmove(*at, s->bytes, s->bytes_n);
    *at += s->bytes_n;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void find_path(const struct config_globals *g, char *path)
{
    const char *state = getenv("STATE_DIRECTORY");
    path[0] = '\0';
    if (!strcmp(g->baseline_file, "none"))
        return;
    if (*g->baseline_file)
        snprintf(path, PATH_BYTES, "%s", g->baseline_file);
    else if (state && *state == '/')
        snprintf(path, PATH_BYTES, "%.*s/baseline", (int)strcspn(state, ":"), state);
    else if (*g->pidfile)
        snprintf(path, PATH_BYTES, "%s.baseline", g->pidfile);
}

static uint8_t *read_all(int fd, size_t n, struct err *err)
{
    uint8_t *bytes = malloc(n + 1);
    size_t got = 0;
    while (bytes && got < n) {
        ssize_t more = read(fd, bytes + got, n - got);
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    if (bytes && got == n)
        return bytes;
    (void)err_set(err, "58030", "%s", bytes ? "it cannot be read" : "out of memory");
    free(bytes);
    return NULL;
}

/* False: there is a file, and it cannot be used. */
static bool read_file(struct baselines *b, struct err *err)
{
    struct stat st;
    int fd = open(b->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || err_set(err, "58030", "%s", strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > FILE_BYTES_MAX)
        (void)err_set(err, "58030", "it is not a file of ours");
    else
        b->file = read_all(fd, (size_t)st.st_size, err);
    close(fd);
    return b->file &&
           baselines_parse(b->file, (size_t)st.st_size, b->sections, &b->sections_n, err);
}

struct baselines *baselines_open(const struct config_globals *g)
{
    struct baselines *b = calloc(1, sizeof *b);
    struct err err;
    if (!b)
        return NULL;
    find_path(g, b->path);
    if (*b->path && !read_file(b, &err))
        log_warning("baseline_file \"%s\" is ignored: %s", b->path, err.text);
    return b;
}

static struct baselines_section *section_of(struct baselines *b, const struct upstream *u)
{
    for (uint32_t i = 0; i < b->sections_n; i++)
        if (b->sections[i].port == upstream_port(u) &&
            !strcmp(b->sections[i].host, upstream_host(u)))
            return &b->sections[i];
    return NULL;
}

void baselines_apply(struct baselines *b, struct upstream *u, uint64_t now_us)
{
    struct baselines_section *s = section_of(b, u);
    struct err err;
    if (!s || b->taken[s - b->sections])
        return;
    b->taken[s - b->sections] = true;
    uint64_t now_s = (uint64_t)time(NULL);
    uint64_t away_s = now_s > s->saved_s ? now_s - s->saved_s : 0;
    if (away_s > FORGET_S)
        return;
    if (upstream_load_baseline(u, now_us, away_s * US_PER_S, s->bytes, s->bytes_n, &err))
        log_info("upstream=%s:%u norms of %llu s ago are taken over", s->host, s->port,
                 (unsigned long long)away_s);
    else
        log_warning("upstream=%s:%u norms in baseline_file are ignored: %s", s->host, s->port,
                    err.text);
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool write_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

/* All or nothing: a crash leaves the old file. */
static void write_file(struct writing *w)
{
    char next[PATH_BYTES + 8];
    snprintf(next, sizeof next, "%s.new", w->path);
    int fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    w->good = fd >= 0 && write_all(fd, w->bytes, w->n) && fsync(fd) == 0;
    if (fd >= 0)
        w->good &= close(fd) == 0;
    w->good = w->good && rename(next, w->path) == 0;
    if (!w->good)
        (void)err_set(&w->err, "58030", "%s", strerror(errno));
}

static void *run_writing(void *arg)
{
    struct writing *w = arg;
    write_file(w);
    atomic_store_explicit(&w->done, true, memory_order_release);
    return NULL;
}

static void finish_writing(struct baselines *b)
{
    struct writing *w = &b->writing;
    free(w->bytes);
    w->bytes = NULL;
    if (!w->good && !b->complained)
        log_warning("baseline_file \"%s\" cannot be written: %s", w->path, w->err.text);
    b->complained = !w->good;
}

struct walk {
    struct upstream *at[BASELINES_SECTIONS_MAX];
    uint32_t n;
};

static bool keep_upstream(struct upstream *u, void *arg)
{
    struct walk *walk = arg;
    if (strlen(upstream_host(u)) <= BASELINES_HOST_MAX && *upstream_host(u))
        walk->at[walk->n++] = u;
    return walk->n < BASELINES_SECTIONS_MAX;
}

/* What is known of those in use now, and what was read of those that are not. False: no memory. */
static bool collect(struct baselines *b, struct pool_registry *registry, uint64_t now_us)
{
    struct walk walk = {.n = 0};
    uint64_t now_s = (uint64_t)time(NULL);
    struct writing *w = &b->writing;
    registry_each_upstream(registry, keep_upstream, &walk);
    w->bytes = malloc(FILE_BYTES_MAX); /* untouched pages cost nothing */
    if (!w->bytes)
        return false;
    uint8_t *at = w->bytes;
    memcpy(at, magic, MAGIC_BYTES);
    at += MAGIC_BYTES;
    for (uint32_t i = 0; i < walk.n; i++) {
        const struct baselines_section *read = section_of(b, walk.at[i]);
        if (read && !b->taken[read - b->sections])
            continue; /* it came a moment ago, and has not been given what was read */
        struct baselines_section s = {.port = upstream_port(walk.at[i]), .saved_s = now_s};
        uint8_t *blob = at + FRAME_BYTES + strlen(upstream_host(walk.at[i]));
        snprintf(s.host, sizeof s.host, "%s", upstream_host(walk.at[i]));
        s.bytes = blob;
        s.bytes_n = (uint32_t)upstream_save_baseline(walk.at[i], now_us, blob, ESTIMATOR_BYTES_MAX);
        put_section(&at, &s);
    }
    for (uint32_t i = 0; i < b->sections_n && walk.n < BASELINES_SECTIONS_MAX; i++) {
        if (b->taken[i] || b->sections[i].saved_s + FORGET_S < now_s)
            continue;
        put_section(&at, &b->sections[i]);
        walk.n++;
    }
    w->n = (size_t)(at - w->bytes);
    memcpy(w->path, b->path, sizeof w->path);
    return true;
}

static bool start_thread(struct baselines *b)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the control loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    b->runs = pthread_create(&b->thread, NULL, run_writing, &b->writing) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return b->runs;
}

static void join(struct baselines *b)
{
    must(b->runs);
    pthread_join(b->thread, NULL);
    b->runs = false;
    finish_writing(b);
}

void baselines_tick(struct baselines *b, struct pool_registry *registry, uint64_t now_us)
{
    if (!*b->path)
        return;
    if (b->runs) {
        if (atomic_load_explicit(&b->writing.done, memory_order_acquire))
            join(b);
        return;
    }
    if (b->due_us == 0)
        b->due_us = now_us + BASELINES_SAVE_S * (uint64_t)US_PER_S;
    if (now_us < b->due_us)
        return;
    b->due_us = now_us + BASELINES_SAVE_S * (uint64_t)US_PER_S;
    atomic_store_explicit(&b->writing.done, false, memory_order_relaxed);
    if (collect(b, registry, now_us) && !start_thread(b)) {
        free(b->writing.bytes);
        b->writing.bytes = NULL;
    }
}

void baselines_save_soon(struct baselines *b)
{
    b->due_us = 1;
}

void baselines_close(struct baselines **baselines, struct pool_registry *registry, uint64_t now_us)
{
    struct baselines *b = *baselines;
    *baselines = NULL;
    if (!b)
        return;
    if (b->runs)
        join(b);
    if (*b->path && collect(b, registry, now_us)) {
        write_file(&b->writing);
        finish_writing(b);
    }
    free(b->file);
    free(b);
}
