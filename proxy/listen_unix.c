#include "proxy/listen_unix.h"

#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/log.h"

struct address {
    struct sockaddr_un sun;
    socklen_t bytes;
    bool is_abstract;
};

static bool make_address(const struct config_globals *g, struct address *out)
{
    *out = (struct address){.sun.sun_family = AF_UNIX, .is_abstract = g->unix_socket_dir[0] == '@'};
    int n = snprintf(out->sun.sun_path, sizeof(out->sun.sun_path), "%s/.s.PGSQL.%d",
                     g->unix_socket_dir, g->listen_port);
    if (n < 0 || (size_t)n >= sizeof(out->sun.sun_path))
        return false;
    /* A path is bound with its NUL; an abstract name has one in front instead. */
    size_t nul_n = out->is_abstract ? 0 : 1;
    out->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + nul_n);
    if (out->is_abstract)
        out->sun.sun_path[0] = '\0';
    return true;
}

/* A socket nobody listens on any more is removed; anything else that is there is an error. */
static bool clear_path(const struct address *address, struct err *err)
{
    const char *path = address->sun.sun_path;
    struct stat st;

    if (address->is_abstract || lstat(path, &st) < 0)
        return true; /* bind() will say what is wrong, if anything */
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, "F0000", "%s is in the way: it is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(err, "F0000", "cannot look at %s: %s", path, strerror(errno));
    bool refused = connect(fd, (const struct sockaddr *)&address->sun, address->bytes) < 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    if (!refused) /* it answered, its backlog is full, or we may not even ask */
        return err_set(err, "F0000", "Unix socket %s is in use by another process", path);
    if (unlink(path) < 0)
        return err_set(err, "F0000", "cannot remove the former %s: %s", path, strerror(errno));
    log_info("removed Unix socket %s of a process that is gone", path);
    return true;
}

static bool group_id(const char *name, gid_t *out)
{
    struct group entry, *found = NULL;
    char buf[16384], *end; /* a group may have many members */

    if (getgrnam_r(name, &entry, buf, sizeof(buf), &found) == 0 && found) {
        *out = found->gr_gid;
        return true;
    }
    errno = 0;
    unsigned long id = strtoul(name, &end, 10);
    *out = (gid_t)id;
    return errno == 0 && end != name && *end == '\0' && id < UINT32_MAX;
}

/* Before listen(), so that nobody gets in before the rights are what they should be. */
static bool set_rights(const char *path, const struct config_globals *g, struct err *err)
{
    gid_t group;

    if (g->unix_socket_group[0]) {
        if (!group_id(g->unix_socket_group, &group))
            return err_set(err, "F0000", "unix_socket_group \"%s\" does not exist",
                           g->unix_socket_group);
        if (chown(path, (uid_t)-1, group) < 0)
            return err_set(err, "F0000", "cannot give %s to unix_socket_group \"%s\": %s", path,
                           g->unix_socket_group, strerror(errno));
    }
    if (chmod(path, (mode_t)g->unix_socket_mode) < 0)
        return err_set(err, "F0000", "cannot set unix_socket_mode of %s: %s", path,
                       strerror(errno));
    return true;
}

static bool remember(struct listen_file *file, const char *path, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_set(err, "F0000", "%s went away: %s", path, strerror(errno));
    memcpy(file->path, path, strlen(path) + 1);
    file->device = st.st_dev;
    file->inode = st.st_ino;
    return true;
}

enum listen_unix_verdict listen_unix_bind(const struct config_globals *g, int *fd,
                                          struct listen_file *file, struct err *err)
{
    struct address address;

    *fd = -1;
    *file = (struct listen_file){.path = ""};
    if (!make_address(g, &address)) {
        (void)err_set(err, "F0000", "unix_socket_dir \"%s\" is too long", g->unix_socket_dir);
        return LISTEN_UNIX_FAILED;
    }
    if (!clear_path(&address, err))
        return LISTEN_UNIX_WRONG;
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0 || bind(*fd, (const struct sockaddr *)&address.sun, address.bytes) < 0) {
        bool taken = errno == EADDRINUSE;
        (void)err_set(err, "F0000", "cannot listen on unix:%s/.s.PGSQL.%d: %s", g->unix_socket_dir,
                      g->listen_port, strerror(errno));
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        return taken ? LISTEN_UNIX_WRONG : LISTEN_UNIX_FAILED;
    }
    if (address.is_abstract)
        return LISTEN_UNIX_BOUND;
    if (remember(file, address.sun.sun_path, err) && set_rights(file->path, g, err))
        return LISTEN_UNIX_BOUND;
    listen_unix_remove(file);
    close(*fd);
    *fd = -1;
    return LISTEN_UNIX_WRONG;
}

void listen_unix_remove(struct listen_file *file)
{
    struct stat st;

    if (file->path[0] && lstat(file->path, &st) == 0 && st.st_dev == file->device &&
        st.st_ino == file->inode && unlink(file->path) < 0)
        log_warning("cannot remove %s: %s", file->path, strerror(errno));
    file->path[0] = '\0';
}
