/* What a snapshot keeps beside what it shows, and how it is made. For config/ alone. */
#ifndef CONFIG_SNAPSHOT_H
#define CONFIG_SNAPSHOT_H

#include "config/table.h"

#include <stdatomic.h>

#include "config/config.h"
#include "config/ini.h"
#include "config/users.h"

struct config_own {
    struct arena arena; /* holds the snapshot, its strings, and this */
    _Atomic uint32_t refs;
    struct config *self;        /* not const: what the last reference frees */
    struct ini_list statements; /* what it was made from: SET makes the next one from them */
    const char *first_file;
    struct config_row *rows; /* of SHOW CONFIG, by key */
    size_t rows_n;
    struct users users;
    struct users_stamp users_stamp;
    /* The snapshot that holds the users, where an unchanged auth_file was not read again: one of
     * its references is ours. NULL: they are in `users`. */
    const struct config *users_from;
    struct class_table *classes; /* what everybody else sees as const */
};

struct snapshot_input {
    const struct ini_source *source; /* how auth_file is opened */
    const struct config *old;        /* running, or NULL */
    bool keep_users;                 /* take old's as they are, whatever the file is now */
    bool reread_users;               /* even if auth_file looks unchanged */
};

/* An empty snapshot with one reference, its list of statements ready to be filled. NULL: memory. */
struct config *snapshot_new(void);
/* Turns its statements into settings. False: the report says why, and the snapshot is only good to
 * be dropped. */
MUST_USE bool snapshot_build(struct config *cfg, const struct snapshot_input *input,
                             struct config_report *report);
/* Frees it whatever its references say. */
void snapshot_drop(struct config *cfg);

#endif
