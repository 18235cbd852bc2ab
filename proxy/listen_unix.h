/* The Unix socket's file: making it with the right owner and mode, clearing away a dead one. */
#ifndef PROXY_LISTEN_UNIX_H
#define PROXY_LISTEN_UNIX_H

#include <sys/un.h>

#include "config/config.h"

/* Which file it was, so that we do not remove another process's later. */
struct listen_file {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": none */
    dev_t device;
    ino_t inode;
};

enum listen_unix_verdict {
    LISTEN_UNIX_BOUND,
    LISTEN_UNIX_FAILED, /* it does not work here: others may do without */
    LISTEN_UNIX_WRONG,  /* somebody else listens there, or its rights cannot be as they should */
};

/* unix_socket_dir/.s.PGSQL.port, bound and not listening yet; err is set unless BOUND. */
MUST_USE enum listen_unix_verdict listen_unix_bind(const struct config_globals *g, int *fd,
                                                   struct listen_file *file, struct err *err);
/* Removes the file if it is still the one we made. */
void listen_unix_remove(struct listen_file *file);

#endif
