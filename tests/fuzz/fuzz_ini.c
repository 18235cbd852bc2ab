/* Any bytes as a configuration: the dialect, connect strings, class rules, auth_file, all checks.
 *
 * The input is split at NUL bytes into the files of a small disk: the first is the ini, the others
 * are what it may %include or name as auth_file, as "1", "2" ... Nothing else can be opened.
 *
 * What must hold of whatever was accepted: SHOW CONFIG's texts parse back to themselves, and a SET
 * to a value that is there already gives the same rows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/snapshot.h"

enum { FILES_MAX = 6, OPENS_MAX = 64 };

struct disk {
    struct {
        const uint8_t *bytes;
        size_t bytes_n;
    } files[FILES_MAX];
    size_t files_n;
    uint32_t opens_n; /* files that include each other many times cost time and show nothing */
};

static FILE *disk_open(void *arg, const char *path)
{
    struct disk *disk = arg;
    size_t i = (size_t)(path[0] - '0');
    errno = ENOENT;
    if (path[0] < '0' || path[1] || i >= disk->files_n || disk->opens_n++ > OPENS_MAX)
        return NULL;
    /* fmemopen() takes no empty buffer, and its stream has no descriptor: as a pipe has no size */
    if (disk->files[i].bytes_n == 0)
        return fopen("/dev/null", "re");
    union {
        const uint8_t *in;
        void *out;
    } bytes = {.in = disk->files[i].bytes}; /* opened for reading only */
    return fmemopen(bytes.out, disk->files[i].bytes_n, "r");
}

static void disk_fill(struct disk *disk, const uint8_t *bytes, size_t bytes_n)
{
    *disk = (struct disk){0};
    while (disk->files_n < FILES_MAX) {
        const uint8_t *end = memchr(bytes, 0, bytes_n);
        size_t n = end && disk->files_n < FILES_MAX - 1 ? (size_t)(end - bytes) : bytes_n;
        disk->files[disk->files_n].bytes = bytes;
        disk->files[disk->files_n++].bytes_n = n;
        if (n == bytes_n)
            break;
        bytes += n + 1;
        bytes_n -= n + 1;
    }
}

static void look_around(const struct config *cfg)
{
    struct config_pool pool;
    char *text = NULL;
    size_t text_n = 0;
    FILE *out = open_memstream(&text, &text_n);
    must(out);
    static const struct config_report nothing;
    config_check_report(cfg, &nothing, out);
    fclose(out);
    free(text);
    for (const struct config_database *db = cfg->databases; db; db = db->hh.next) {
        must(config_database(cfg, db->name) == db);
        must(db->hosts_n == 0 || db->hosts[db->hosts_n - 1]);
        config_pool(cfg, db, cfg->users, &pool);
    }
    for (const struct config_user *user = cfg->users; user; user = user->hh.next)
        must(config_user(cfg, user->name) == user);
    for (const struct config_peer *peer = cfg->peers; peer; peer = peer->hh.next)
        must(config_peer(cfg, peer->id) == peer);
}

static void set_what_is_there(const struct config *cfg)
{
    struct config_row row, again;
    struct config *next;
    struct err err;
    for (size_t i = 0; i < config_rows_n(); i++) {
        config_row(cfg, i, &row);
        if (!row.changeable || strcmp(row.key, "auth_file") == 0)
            continue; /* the latter would open a file */
        bool ok = config_set(cfg, row.key, row.value, &next, &err);
        must(ok);
        config_row(next, i, &again);
        must(strcmp(row.key, again.key) == 0);
        must(strcmp(row.value, again.value) == 0);
        const struct config *gone = next;
        config_unref(&gone);
        i += 11; /* a few of them each time: they are many */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t bytes_n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t bytes_n)
{
    static struct config_report report;
    struct disk disk;
    disk_fill(&disk, bytes, bytes_n);
    struct ini_source source = {.open = disk_open, .arg = &disk};
    struct config *cfg = snapshot_new();
    must(cfg);
    struct config_own *own = cfg->own;
    report = (struct config_report){0};
    bool read = ini_read("0", &source, &own->statements, &own->arena, &report);
    struct snapshot_input input = {.source = &source};
    bool built = snapshot_build(cfg, &input, &report);
    must((read && built) == (report.errors_n == 0));
    if (!built) {
        snapshot_drop(cfg);
        return 0;
    }
    look_around(cfg);
    set_what_is_there(cfg);
    const struct config *gone = cfg;
    config_unref(&gone);
    return 0;
}
