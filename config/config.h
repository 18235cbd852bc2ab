/* The configuration as everybody above this folder sees it: an immutable snapshot, swapped whole.
 *
 *      files --ini--> statements --keys--> struct config --config_ref--> one per loop, per session
 *
 * A snapshot is read-only once config_load() or config_set() has handed it out, so any thread may
 * read it without a lock for as long as it holds a reference. It is the one refcounted thing in the
 * program. All strings belong to the snapshot. Fields carry the names of their keys; times end in
 * _us, and 0 keeps PgBouncer's meaning (mostly "off"). Global strings are never NULL: unset is "".
 *
 * A wrong file never replaces a good snapshot: config_load() hands out all of a new one or nothing.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdio.h>
#include <uthash.h>

#include "config/report.h"
#include "pool/target.h"

struct class_table; /* pool/class.h */
struct users;       /* config/users.h */
struct config_own;  /* the part that is config's own business */

enum {
    CONFIG_UNSET = -1,         /* an int of a database or user that leaves it to the next scope */
    CONFIG_HOSTS_MAX = 32,     /* of a database whose hosts are told apart */
    CONFIG_DB_NAME_MAX = 63,   /* bytes; NAMEDATALEN - 1 */
    CONFIG_USER_NAME_MAX = 127 /* bytes */
};
#define CONFIG_UNSET_US UINT64_MAX

enum config_pool_mode {
    POOL_MODE_UNSET, /* databases and users only */
    POOL_MODE_SESSION,
    POOL_MODE_TRANSACTION,
    POOL_MODE_STATEMENT,
};
enum config_sslmode {
    SSLMODE_DISABLE,
    SSLMODE_ALLOW,
    SSLMODE_PREFER,
    SSLMODE_REQUIRE,
    SSLMODE_VERIFY_CA,
    SSLMODE_VERIFY_FULL,
};
enum config_auth_type {
    AUTH_TYPE_ANY, /* no check, and the user's name is not used to log in to the server */
    AUTH_TYPE_TRUST,
    AUTH_TYPE_PLAIN,
    AUTH_TYPE_MD5,
    AUTH_TYPE_SCRAM,
    AUTH_TYPE_CERT,
    AUTH_TYPE_HBA,
    AUTH_TYPE_LDAP,
    AUTH_TYPE_PAM,
};
enum config_load_balance { LOAD_BALANCE_ROUND_ROBIN, LOAD_BALANCE_DISABLE };

/* [pgbouncer], alias [pgweir]. */
struct config_globals {
    /* process and sockets */
    const char *logfile, *pidfile, *listen_addr;
    int listen_port;
    const char *unix_socket_dir;
    int unix_socket_mode;
    const char *unix_socket_group, *user;
    int listen_backlog;
    bool so_reuseport;
    int peer_id;
    bool tcp_defer_accept;
    int tcp_socket_buffer;
    bool tcp_keepalive;
    int tcp_keepcnt, tcp_keepidle, tcp_keepintvl;
    uint64_t tcp_user_timeout_us;
    int pkt_buf, sbuf_loopcnt;
    uint64_t max_packet_size; /* bytes */
    const char *resolv_conf, *job_name, *conffile;
    bool disable_pqexec;
    /* pools and limits */
    enum config_pool_mode pool_mode;
    int max_client_conn, default_pool_size, min_pool_size, reserve_pool_size;
    uint64_t reserve_pool_timeout_us;
    int max_db_connections, max_db_client_connections;
    int max_user_connections, max_user_client_connections;
    bool server_round_robin;
    int max_prepared_statements;
    uint64_t pool_idle_timeout_us, autodb_idle_timeout_us;
    /* timeouts */
    uint64_t server_lifetime_us, server_idle_timeout_us, server_connect_timeout_us;
    uint64_t server_login_retry_us, server_check_delay_us;
    const char *server_check_query; /* "<empty>": an empty query; "": no check */
    bool server_fast_close;
    const char *server_reset_query;
    bool server_reset_query_always;
    uint64_t client_login_timeout_us, client_idle_timeout_us, query_timeout_us;
    uint64_t query_wait_timeout_us, query_wait_notify_us, cancel_wait_timeout_us;
    uint64_t idle_transaction_timeout_us, transaction_timeout_us, suspend_timeout_us;
    uint64_t dns_max_ttl_us, dns_nxdomain_ttl_us, dns_zone_check_period_us;
    /* authentication, startup, administration */
    enum config_auth_type auth_type;
    const char *auth_file, *auth_hba_file, *auth_ident_file;
    const char *auth_user, *auth_query, *auth_dbname, *auth_ldap_options;
    int scram_iterations;
    const char *admin_users, *stats_users;                          /* config_list_has() */
    const char *ignore_startup_parameters, *track_extra_parameters; /* config_list_has() */
    bool application_name_add_host;
    const char *login_notify_message;
    /* logging */
    bool syslog;
    const char *syslog_ident, *syslog_facility;
    bool log_connections, log_disconnections, log_pooler_errors, log_stats;
    uint64_t stats_period_us;
    int verbose;
    /* TLS */
    enum config_sslmode client_tls_sslmode;
    const char *client_tls_key_file, *client_tls_cert_file, *client_tls_ca_file;
    const char *client_tls_protocols, *client_tls_ciphers, *client_tls13_ciphers;
    const char *client_tls_ecdhcurve, *client_tls_dheparams;
    enum config_sslmode server_tls_sslmode;
    const char *server_tls_ca_file, *server_tls_key_file, *server_tls_cert_file;
    const char *server_tls_protocols, *server_tls_ciphers, *server_tls13_ciphers;
    /* ours */
    int workers;                    /* data loops; 0: one per processor */
    bool io_uring;                  /* they wait by it where it is to be had */
    const char *status_listen_addr; /* HTTP: metrics, health */
    int status_port;                /* 0: off */
    int max_upstream_connections;   /* servers per host:port over all pools; 0: no own limit */
    int max_address_connections;    /* servers leased at once by one client address; 0: no limit */
    int max_server_logins;          /* servers being opened at once per host:port */
    int max_client_logins;          /* clients in TLS and authentication at once */
    int instances;                  /* of us before one server: they share what it has room for */
    const char *probe_user, *probe_password, *probe_dbname; /* "": as the pools do */
    uint64_t probe_interval_us;                             /* 0: no probe */
    const char *probe_query;                                /* "": none */
    const char *baseline_file; /* "": where systemd or the pidfile say; "none": nowhere */
    uint64_t clean_probe_us;   /* 0: off */
    bool log_breaker_ticks;
    int breaker, protect; /* for classes that do not say; config has applied them */
};

/* One line of [databases]. Unset: NULL, CONFIG_UNSET, CONFIG_UNSET_US, POOL_MODE_UNSET. */
struct config_database {
    const char *name;         /* "*": the template for names that stand nowhere */
    const char *dbname;       /* NULL: the name the client asked for */
    const char *host;         /* as written, for SHOW; NULL: Unix socket in unix_socket_dir */
    const char *const *hosts; /* the same taken apart: names, addresses, /dir, @abstract */
    size_t hosts_n;
    const char *port_list; /* as written */
    const int *ports;      /* one for each host; one where there is no host */
    int port;              /* the first */
    enum target_attrs target_session_attrs;
    const char *user, *password; /* user: forced for all clients */
    const char *auth_user, *auth_query, *auth_dbname, *connect_query;
    enum config_pool_mode pool_mode;
    int pool_size, min_pool_size, reserve_pool_size;
    int max_db_connections, max_db_client_connections;
    uint64_t query_wait_timeout_us, server_lifetime_us;
    enum config_load_balance load_balance_hosts;
    const char *client_encoding, *datestyle, *timezone, *application_name; /* set on the servers */
    UT_hash_handle hh;
};

/* One line of [users]. Unset as above. */
struct config_user {
    const char *name;
    enum config_pool_mode pool_mode;
    int pool_size, reserve_pool_size;
    int max_user_connections, max_user_client_connections;
    uint64_t query_timeout_us, query_wait_timeout_us, idle_transaction_timeout_us;
    uint64_t transaction_timeout_us, client_idle_timeout_us;
    UT_hash_handle hh;
};

/* One line of [peers]. */
struct config_peer {
    int id;
    const char *host;
    int port, pool_size;
    UT_hash_handle hh;
};

struct config {
    struct config_globals globals;
    struct config_database *databases; /* uthash by name, in the order of the file */
    struct config_user *users;         /* settings; secrets are in auth */
    struct config_peer *peers;
    const struct users *auth;          /* auth_file; never NULL, perhaps empty */
    const struct class_table *classes; /* built-in and the operator's */
    struct config_own *own;
};

/* Reads the files in order, later ones add to and override earlier ones. `old` is the running
 * snapshot or NULL at start: keys that need a restart keep its values (with a warning), and an
 * unchanged auth_file is not read again. On true *out holds one reference; on false it is NULL and
 * the report has every error found. */
MUST_USE bool config_load(const char *const *files, size_t files_n, const struct config *old,
                          struct config **out, struct config_report *report);
/* SET key = value: a new snapshot that differs from old in this. Files are not read again, and the
 * next config_load() forgets it, as PgBouncer's RELOAD does. */
MUST_USE bool config_set(const struct config *old, const char *key, const char *value,
                         struct config **out, struct err *err);
/* True when auth_file is another file, or another content, than the snapshot was made from. Asks
 * the file system: for the control loop only. */
MUST_USE bool config_auth_file_changed(const struct config *cfg);
/* The same settings with auth_file read again. */
MUST_USE bool config_reread_auth_file(const struct config *old, struct config **out,
                                      struct err *err);

const struct config *config_ref(const struct config *cfg);
/* Gives one reference back and clears the pointer; NULL is fine. */
void config_unref(const struct config **cfg);

/* ---- look-ups ------------------------------------------------------------------------------- */

/* The line for this name, else the `*` line, else NULL. */
const struct config_database *config_database(const struct config *cfg, const char *name);
/* Each of its hosts is an upstream of its own, and each client is sent to one that is what it
 * wants. False: its hosts are one upstream, and any will do. */
MUST_USE bool config_is_steered(const struct config *cfg, const struct config_database *db);
/* The [users] line of this name, or NULL. */
const struct config_user *config_user(const struct config *cfg, const char *name);
const struct config_peer *config_peer(const struct config *cfg, int id);

/* What holds for this pool: user > database > global, nothing unset any more. */
struct config_pool {
    enum config_pool_mode pool_mode;
    int pool_size, min_pool_size, reserve_pool_size; /* pool_size 0: no limit */
    uint64_t reserve_pool_timeout_us;
    int max_db_connections, max_db_client_connections;
    int max_user_connections, max_user_client_connections;
    uint64_t server_lifetime_us, query_wait_timeout_us, query_timeout_us;
    uint64_t idle_transaction_timeout_us, transaction_timeout_us, client_idle_timeout_us;
};
/* db and user may be NULL: then the next scope decides. */
void config_pool(const struct config *cfg, const struct config_database *db,
                 const struct config_user *user, struct config_pool *out);

/* Whether a comma separated list holds this word; letter case counts only where `exact`. */
MUST_USE bool config_list_has(const char *list, const char *word, bool exact);
const char *config_pool_mode_name(enum config_pool_mode mode);

/* ---- what operators read -------------------------------------------------------------------- */

/* One row of SHOW CONFIG, in PgBouncer's order of columns. The texts live in the snapshot or are
 * static. */
struct config_row {
    const char *key, *value, *default_value;
    bool changeable;
};
size_t config_rows_n(void);
void config_row(const struct config *cfg, size_t row_i, struct config_row *out);

/* The text of `pgweir --check FILE...`: every note, and one line of what was understood. cfg may be
 * NULL after errors. */
void config_check_report(const struct config *cfg, const struct config_report *report, FILE *out);
/* The text of `pgweir --help-config`: every setting with type, default, scope and meaning. */
void config_help(FILE *out);

#endif
