/* pgweir FILE.ini [MORE.ini ...]: the command line, the boot in its order, and the end.
 *
 * Order matters: what can fail with a message a human should see comes before the terminal is given
 * up (-d), and what needs privileges before they are (user=). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proxy/control.h"
#include "proxy/dns.h"
#include "proxy/listen.h"
#include "proxy/log.h"
#include "proxy/reload.h"
#include "proxy/session.h"
#include "proxy/sock.h"
#include "proxy/tls.h"
#include "proxy/vars.h"
#include "proxy/version.h"

struct command {
    bool daemon, quiet, check;
    int verbose;
    const char *user;
    const char *const *files;
    size_t files_n;
};

static void usage(FILE *out)
{
    fputs("Usage: pgweir [OPTION]... FILE.ini [MORE.ini]...\n"
          "  -d, --daemon         run in the background (needs pidfile)\n"
          "  -q, --quiet          nothing to stderr but errors of the start\n"
          "  -v, --verbose        log more; repeat for more still\n"
          "  -u, --user=USERNAME  run as this user\n"
          "      --check          say what is wrong with the configuration, and exit\n"
          "      --help-config    every setting with its type, default and meaning\n"
          "  -V, --version        version, and exit\n"
          "  -h, --help           this\n"
          "Later files add to and override earlier ones.\n",
          out);
}

static void print_version(void)
{
    printf("%s\nlibevent %s\n%s\n", VERSION_TEXT, event_get_version(),
           OpenSSL_version(OPENSSL_VERSION));
}

/* Exits for what ends here: help, version, mistakes. */
static void parse_command(int argc, char **argv, struct command *cmd)
{
    enum { CHECK = 256, HELP_CONFIG };
    static const struct option options[] = {{"daemon", no_argument, NULL, 'd'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"user", required_argument, NULL, 'u'},
                                            {"reboot", no_argument, NULL, 'R'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"check", no_argument, NULL, CHECK},
                                            {"help-config", no_argument, NULL, HELP_CONFIG},
                                            {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "dqvu:RVh", options, NULL)) != -1;) {
        switch (o) {
        case 'd':
            cmd->daemon = true;
            break;
        case 'q':
            cmd->quiet = true;
            break;
        case 'v':
            cmd->verbose++;
            break;
        case 'u':
            cmd->user = optarg;
            break;
        case CHECK:
            cmd->check = true;
            break;
        case 'R':
            fputs("pgweir: online restart (-R) is not supported; use so_reuseport\n", stderr);
            exit(1);
        case 'V':
            print_version();
            exit(0);
        case HELP_CONFIG:
            config_help(stdout);
            exit(0);
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(1);
        }
    }
    cmd->files = (const char *const *)(argv + optind);
    cmd->files_n = (size_t)(argc - optind);
    if (!cmd->files_n) {
        usage(stderr);
        exit(1);
    }
}

/* ---- privileges, terminal, pidfile
 * -------------------------------------------------------------------- */

static bool become(const char *name, struct err *err)
{
    errno = 0;
    const struct passwd *pw = getpwnam(name);
    if (!pw)
        return err_set(err, "28000", "no such system user: \"%s\"", name);
    if (geteuid() == pw->pw_uid)
        return true;
    if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
        return err_set(err, "42501", "cannot become user \"%s\": %s", name, strerror(errno));
    return true;
}

/* Whether the process a pidfile names is alive. */
static bool pidfile_is_live(const char *path, long *pid)
{
    char text[32] = "";
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    const char *line = fgets(text, sizeof text, f);
    fclose(f);
    *pid = line ? strtol(line, NULL, 10) : 0;
    return *pid > 0 && *pid != getpid() && (kill((pid_t)*pid, 0) == 0 || errno == EPERM);
}

static bool write_pidfile(const char *path, struct err *err)
{
    FILE *f = fopen(path, "we");
    if (!f || fprintf(f, "%ld\n", (long)getpid()) < 0 || fclose(f) != 0)
        return err_set(err, "58030", "cannot write pidfile \"%s\": %s", path, strerror(errno));
    return true;
}

static bool detach_terminal(struct err *err)
{
    pid_t pid = fork();
    if (pid < 0)
        return err_set(err, "58000", "cannot fork: %s", strerror(errno));
    if (pid > 0)
        _exit(0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (setsid() < 0 || null < 0)
        return err_set(err, "58000", "cannot leave the terminal: %s", strerror(errno));
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
    return true;
}

/* ---- boot
 * -----------------------------------------------------------------------------------------------
 */

struct boot {
    struct proxy proxy;
    struct worker workers[WORKERS_MAX];
    const struct config *config;
    SSL_CTX *client_tls, *server_tls;
    struct listen *listen;
    struct control *control;
    uint16_t started_n; /* threads */
    bool owns_pidfile;
};

static bool load(const struct command *cmd, const struct config **out)
{
    static struct config_report report;
    struct config *cfg = NULL;
    bool good = config_load(cmd->files, cmd->files_n, NULL, &cfg, &report);
    *out = cfg;
    if (cmd->check || !good) {
        config_check_report(cfg, &report, cmd->check ? stdout : stderr);
        return good;
    }
    for (uint32_t i = 0; i < report.notes_n; i++)
        log_warning("%s", report.notes[i].text);
    return true;
}

static bool open_log(const struct command *cmd, const struct config_globals *g, struct err *err)
{
    struct log_opts opts = {.file = g->logfile,
                            .quiet = cmd->quiet || cmd->daemon,
                            .syslog = g->syslog,
                            .syslog_ident = g->syslog_ident,
                            .syslog_facility = g->syslog_facility,
                            .verbose = g->verbose > cmd->verbose ? g->verbose : cmd->verbose};
    return log_open(&opts, err);
}

/* What must be done as the user who started us. */
static bool prepare_process(struct boot *b, const struct command *cmd, struct err *err)
{
    const struct config_globals *g = &b->config->globals;
    const char *user = cmd->user ? cmd->user : *g->user ? g->user : NULL;
    long pid = 0;
    if (geteuid() == 0 && !user)
        return err_set(err, "42501",
                       "PgBouncer's rule is ours: it does not run as root; set user= or -u");
    if (*g->pidfile && pidfile_is_live(g->pidfile, &pid))
        return err_set(err, "55006", "pidfile \"%s\" names a running process (%ld)", g->pidfile,
                       pid);
    if (cmd->daemon && !*g->pidfile)
        return err_set(err, "22023", "daemon mode (-d) needs a pidfile");
    sock_raise_limit();
    if (user && !become(user, err))
        return false;
    if (!open_log(cmd, g, err) || !listen_open(&b->listen, g, err))
        return false;
    if (cmd->daemon && !detach_terminal(err))
        return false;
    b->owns_pidfile = *g->pidfile && write_pidfile(g->pidfile, err);
    return !*g->pidfile || b->owns_pidfile;
}

static uint16_t workers_wanted(const struct config_globals *g)
{
    long n = g->workers > 0 ? g->workers : sysconf(_SC_NPROCESSORS_ONLN);
    if (n < 1)
        n = 1;
    return (uint16_t)(n < WORKERS_MAX - 1 ? n : WORKERS_MAX - 1);
}

static bool make_shared(struct boot *b, struct err *err)
{
    const struct config_globals *g = &b->config->globals;
    struct proxy *p = &b->proxy;
    struct registry_opts opts;
    registry_opts_defaults(&opts);
    p->worker_n = (uint16_t)(workers_wanted(g) + 1);
    p->started_us = clock_us();
    opts.worker_n = p->worker_n;
    opts.worker_first_i = 1; /* the control loop has no servers */
    if (getrandom(p->secret, sizeof p->secret, 0) != sizeof p->secret ||
        getrandom(&opts.seed, sizeof opts.seed, 0) != sizeof opts.seed)
        return err_set(err, "58000", "no random bytes: %s", strerror(errno));
    p->registry = registry_new(&opts, b->config->classes, err);
    struct dns_opts dns = {g->dns_max_ttl_us, g->dns_nxdomain_ttl_us};
    return p->registry && dns_open(&p->dns, &dns, err) && tls_client_ctx(g, &b->client_tls, err) &&
           tls_server_ctx(g, &b->server_tls, err);
}

static void *worker_thread(void *arg)
{
    worker_run(arg);
    return NULL;
}

static bool make_loops(struct boot *b, struct err *err)
{
    struct session_setup setup = {b->config, b->client_tls, b->server_tls};
    for (uint16_t i = 0; i < b->proxy.worker_n; i++) {
        if (!worker_init(&b->workers[i], i, err))
            return false;
        b->workers[i].wants_ring = i > 0 && b->config->globals.io_uring;
        if (!session_hub_new(&b->proxy, &b->workers[i], &setup))
            return err_set(err, "53200", "out of memory");
    }
    return true;
}

static bool start_threads(struct boot *b, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the control loop's */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (uint16_t i = 1; i < b->proxy.worker_n; i++) {
        if (pthread_create(&b->workers[i].thread, NULL, worker_thread, &b->workers[i]) != 0) {
            pthread_sigmask(SIG_SETMASK, &before, NULL);
            return err_set(err, "58000", "cannot start a thread: %s", strerror(errno));
        }
        b->started_n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return true;
}

static void stop(struct boot *b)
{
    struct proxy *p = &b->proxy;
    if (b->started_n)
        session_shutdown(p);
    for (uint16_t i = 1; i <= b->started_n; i++)
        pthread_join(b->workers[i].thread, NULL);
    control_close(&b->control);
    if (b->listen)
        listen_close(&b->listen);
    if (p->dns)
        dns_close(&p->dns);
    if (b->owns_pidfile)
        unlink(b->config->globals.pidfile);
    log_flush();
    /* the rest goes with the process */
}

static void accepted(void *arg, int fd, const struct listen_peer *peer)
{
    hello_accept(arg, fd, peer);
}

static bool serve(struct boot *b, const struct command *cmd, struct err *err)
{
    struct control_opts opts = {.proxy = &b->proxy,
                                .listen = &b->listen,
                                .files = cmd->files,
                                .files_n = cmd->files_n,
                                .quiet = cmd->quiet || cmd->daemon,
                                .verbose = cmd->verbose};
    if (!make_shared(b, err) || !make_loops(b, err) || !control_open(&b->control, &opts, err) ||
        !listen_start(b->listen, &b->workers[0], accepted, &b->proxy) || !start_threads(b, err))
        return false;
    log_info("process up: %s, %u workers", VERSION_TEXT, b->proxy.worker_n - 1u);
    log_flush();
    worker_run(&b->workers[0]);
    return true;
}

int main(int argc, char **argv)
{
    static struct boot b;
    struct command cmd = {.user = NULL};
    struct err err = {.text = ""};
    parse_command(argc, argv, &cmd);
    signal(SIGPIPE, SIG_IGN);
    if (!load(&cmd, &b.config))
        return 1;
    if (cmd.check)
        return 0;
    vars_track(b.config->globals.track_extra_parameters);
    bool good = prepare_process(&b, &cmd, &err) && serve(&b, &cmd, &err);
    if (!good) {
        log_fatal("%s", err.text);
        log_flush();
    }
    stop(&b);
    return good ? 0 : 1;
}
