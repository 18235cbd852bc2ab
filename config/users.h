/* The passwords of auth_file: lines of "user" "secret", in PgBouncer's format. */
#ifndef CONFIG_USERS_H
#define CONFIG_USERS_H

#include <stdio.h>
#include <sys/stat.h>

#include "config/arena.h"
#include "config/report.h"

enum {
    USERS_NAME_MAX = 127,    /* bytes, PgBouncer's */
    USERS_SECRET_MAX = 2047, /* bytes, PgBouncer's: tokens of cloud services are long */
    USERS_MAX = 1 << 22,
};

enum users_kind {
    USERS_NONE, /* "": matches no password whatever */
    USERS_PLAIN,
    USERS_MD5,   /* md5 and 32 hex digits */
    USERS_SCRAM, /* SCRAM-SHA-256$rounds:salt$stored key:server key */
};

/* One line, as two strings of the arena. */
struct users_entry {
    const char *name, *secret;
    uint32_t line;
};

/* Read-only once loaded. Belongs to the arena it was loaded into. */
struct users {
    struct users_entry *entries; /* sorted by name */
    size_t entries_n;
};

/* Reads a whole file; path is for the notes only. Of two lines for one user the later holds. */
MUST_USE bool users_read(FILE *file, const char *path, struct arena *arena, struct users *users,
                         struct config_report *report);
/* The secret of this user, or NULL when he is not there. */
const char *users_secret(const struct users *users, const char *name);
size_t users_n(const struct users *users);
/* What a secret is, by its form. */
enum users_kind users_kind_of(const char *secret);

/* Tells one state of a file from another without reading it. All zero: no file. */
struct users_stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};
struct users_stamp users_stamp_of(const struct stat *file);
bool users_stamp_same(const struct users_stamp *a, const struct users_stamp *b);

#endif
