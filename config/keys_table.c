/* The rows. A row's default and range are PgBouncer's where the key is; the order is the manual's.
 *
 * KEY_WAITS marks what is read and checked and does nothing yet: `--check` and the log say so for
 * each such key a file sets. Whoever makes a key act takes the flag away here, and nowhere else.
 *
 * A row's type must be its field's: the macros check that while compiling.
 */
#include "config/keys.h"

#include "config/config.h"
#include "pool/class.h"

enum {
    SECONDS_MAX = 1000000000, /* 31 years: a sum of a few such still fits into 64 bits of us */
    CONNECTIONS_MAX = 1000000,
    POOL_MAX = 100000, /* servers: far beyond any max_connections */
};

#define FIELD(tag, field, type)                                                                    \
    (offsetof(struct tag, field) + 0 * sizeof(char[_Generic(((struct tag *)0)->field, type : 1)]))
#define ENUM_FIELD(tag, field)                                                                     \
    (offsetof(struct tag, field) +                                                                 \
     0 * sizeof(char[sizeof(((struct tag *)0)->field) == sizeof(int) ? 1 : -1]))

#define ROW(name_, type_, flags_, min_, max_, default_, choices_, offset_, help_)                  \
    {                                                                                              \
        .name = name_, .type = type_, .flags = flags_, .min = min_, .max = max_,                   \
        .default_text = default_, .choices = choices_, .offset = offset_, .help = help_            \
    }

#define BOOL(tag, name, def, flags, help)                                                          \
    ROW(#name, KEY_BOOL, flags, 0, 1, def, NULL, FIELD(tag, name, bool), help)
#define INT(tag, name, min, max, def, flags, help)                                                 \
    ROW(#name, KEY_INT, flags, min, max, def, NULL, FIELD(tag, name, int), help)
#define TIME(tag, name, def, flags, help)                                                          \
    ROW(#name, KEY_TIME, flags, 0, SECONDS_MAX, def, NULL, FIELD(tag, name##_us, uint64_t), help)
#define TEXT(tag, name, def, flags, help)                                                          \
    ROW(#name, KEY_TEXT, flags, 0, 0, def, NULL, FIELD(tag, name, const char *), help)
#define LIST(tag, name, def, flags, help)                                                          \
    ROW(#name, KEY_LIST, flags, 0, 0, def, NULL, FIELD(tag, name, const char *), help)
#define CHOICE(tag, name, choices, def, flags, help)                                               \
    ROW(#name, KEY_CHOICE, flags, 0, 0, def, choices, ENUM_FIELD(tag, name), help)

/* ---- words ---------------------------------------------------------------------------------- */

const struct key_choice keys_pool_modes[] = {
    {.text = "session", .value = POOL_MODE_SESSION},
    {.text = "transaction", .value = POOL_MODE_TRANSACTION},
    {.text = "statement", .value = POOL_MODE_STATEMENT},
    {0},
};
static const struct key_choice sslmodes[] = {
    {.text = "disable", .value = SSLMODE_DISABLE},
    {.text = "allow", .value = SSLMODE_ALLOW},
    {.text = "prefer", .value = SSLMODE_PREFER},
    {.text = "require", .value = SSLMODE_REQUIRE},
    {.text = "verify-ca", .value = SSLMODE_VERIFY_CA},
    {.text = "verify-full", .value = SSLMODE_VERIFY_FULL},
    {0},
};
static const struct key_choice auth_types[] = {
    {.text = "any", .value = AUTH_TYPE_ANY},
    {.text = "trust", .value = AUTH_TYPE_TRUST},
    {.text = "plain", .value = AUTH_TYPE_PLAIN},
    {.text = "md5", .value = AUTH_TYPE_MD5},
    {.text = "scram-sha-256", .value = AUTH_TYPE_SCRAM},
    {.text = "cert", .value = AUTH_TYPE_CERT, .missing = true},
    {.text = "hba", .value = AUTH_TYPE_HBA, .missing = true},
    {.text = "ldap", .value = AUTH_TYPE_LDAP, .missing = true},
    {.text = "pam", .value = AUTH_TYPE_PAM, .missing = true},
    {0},
};
static const struct key_choice load_balances[] = {
    {.text = "round-robin", .value = LOAD_BALANCE_ROUND_ROBIN},
    {.text = "disable", .value = LOAD_BALANCE_DISABLE},
    {0},
};
static const struct key_choice targets[] = {
    {.text = "any", .value = TARGET_ANY},
    {.text = "read-write", .value = TARGET_READ_WRITE},
    {.text = "read-only", .value = TARGET_READ_ONLY},
    {.text = "primary", .value = TARGET_PRIMARY},
    {.text = "standby", .value = TARGET_STANDBY},
    {.text = "prefer-standby", .value = TARGET_PREFER_STANDBY},
    {0},
};
static const struct key_choice class_routes[] = {
    {.text = "database", .value = CLASS_ROUTE_DATABASE},
    {.text = "replica", .value = CLASS_ROUTE_REPLICA},
    {0},
};
static const struct key_choice route_fallbacks[] = {
    {.text = "none", .value = CLASS_FALLBACK_NONE},
    {.text = "primary", .value = CLASS_FALLBACK_PRIMARY},
    {0},
};
static const struct key_choice breakers[] = {
    {.text = "off", .value = CLASS_BREAKER_OFF},
    {.text = "observe", .value = CLASS_BREAKER_OBSERVE},
    {.text = "enforce", .value = CLASS_BREAKER_ENFORCE},
    {0},
};
static const struct key_choice protects[] = {
    {.text = "strict", .value = CLASS_PROTECT_STRICT},
    {.text = "balanced", .value = CLASS_PROTECT_BALANCED},
    {.text = "lenient", .value = CLASS_PROTECT_LENIENT},
    {0},
};
static const struct key_choice all_breakers[] = {
    {.text = "by-class", .value = CONFIG_UNSET},
    {.text = "off", .value = CLASS_BREAKER_OFF},
    {.text = "observe", .value = CLASS_BREAKER_OBSERVE},
    {.text = "enforce", .value = CLASS_BREAKER_ENFORCE},
    {0},
};
static const struct key_choice all_protects[] = {
    {.text = "by-class", .value = CONFIG_UNSET},
    {.text = "strict", .value = CLASS_PROTECT_STRICT},
    {.text = "balanced", .value = CLASS_PROTECT_BALANCED},
    {.text = "lenient", .value = CLASS_PROTECT_LENIENT},
    {0},
};
static const struct key_choice overloads[] = {
    {.text = "hold", .value = CLASS_HOLD},
    {.text = "pace", .value = CLASS_PACE},
    {.text = "cancel", .value = CLASS_CANCEL},
    {.text = "terminate", .value = CLASS_TERMINATE},
    {0},
};
static const struct key_choice orphans[] = {
    {.text = "cancel", .value = CLASS_ORPHAN_CANCEL},
    {.text = "finish", .value = CLASS_ORPHAN_FINISH},
    {0},
};
static const struct key_choice outsides[] = {
    {.text = "one", .value = CLASS_OUTSIDE_ONE},
    {.text = "refuse", .value = CLASS_OUTSIDE_REFUSE},
    {0},
};
static const struct key_choice inversions[] = {
    {.text = "alert", .value = CLASS_INVERSION_ALERT},
    {.text = "unpace", .value = CLASS_INVERSION_UNPACE},
    {.text = "cancel", .value = CLASS_INVERSION_CANCEL},
    {0},
};

/* ---- [pgbouncer] ---------------------------------------------------------------------------- */

static const struct key process_keys[] = {
    TEXT(config_globals, logfile, "", 0,
         "File to append the log to; opened again on RELOAD and SIGHUP. Empty: stderr only."),
    TEXT(config_globals, pidfile, "", KEY_RESTART,
         "File for the process id; needed for -d. A live process named in it stops the start."),
    LIST(config_globals, listen_addr, "", KEY_RESTART,
         "Addresses for TCP, or *. Empty: Unix socket only."),
    INT(config_globals, listen_port, 1, 65535, "6432", KEY_RESTART,
        "Port for TCP, and part of the Unix socket's name."),
    TEXT(
        config_globals, unix_socket_dir, "/tmp", KEY_RESTART,
        "Directory of the Unix socket, and of the servers' where a database has no host; a leading "
        "@ is Linux's abstract namespace. Empty: no Unix socket."),
    ROW("unix_socket_mode", KEY_OCTAL, KEY_RESTART, 0, 07777, "0777", NULL,
        FIELD(config_globals, unix_socket_mode, int),
        "Permissions of the Unix socket; write it with a leading 0."),
    TEXT(config_globals, unix_socket_group, "", KEY_RESTART, "Group the Unix socket is given to."),
    TEXT(config_globals, user, "", KEY_RESTART,
         "User to become after the start; required when started as root."),
    INT(config_globals, listen_backlog, 1, 65535, "128", KEY_RESTART,
        "Connections the kernel keeps for us until they are accepted."),
    BOOL(config_globals, so_reuseport, "0", KEY_RESTART,
         "Lets several processes listen on one port."),
    INT(config_globals, peer_id, 0, 16383, "0", KEY_WAITS,
        "Number of this process among [peers]; 0: none."),
    BOOL(config_globals, tcp_defer_accept, "1", 0,
         "Accept a TCP connection only when its first bytes are there."),
    INT(config_globals, tcp_socket_buffer, 0, 1 << 30, "0", 0,
        "Send and receive buffer of TCP sockets in bytes; 0: the system's."),
    BOOL(config_globals, tcp_keepalive, "1", 0, "TCP keepalive towards clients and servers."),
    INT(config_globals, tcp_keepcnt, 0, 127, "0", 0, "Lost probes that end it; 0: the system's."),
    INT(config_globals, tcp_keepidle, 0, 32767, "0", 0,
        "Idle seconds before the first probe; 0: the system's."),
    INT(config_globals, tcp_keepintvl, 0, 32767, "0", 0,
        "Seconds between probes; 0: the system's."),
    ROW("tcp_user_timeout", KEY_MS, 0, 0, INT32_MAX, "0", NULL,
        FIELD(config_globals, tcp_user_timeout_us, uint64_t),
        "How long sent bytes may stay unacknowledged; 0: the system's."),
    INT(config_globals, pkt_buf, 75, 1 << 24, "4096", KEY_RESTART | KEY_WAITS,
        "PgBouncer's I/O buffer. Each worker has one large buffer of its own instead."),
    INT(config_globals, sbuf_loopcnt, 0, 1000000, "5", KEY_WAITS,
        "Reads of one socket before others get their turn."),
    ROW("max_packet_size", KEY_BYTES, 0, 1024, INT32_MAX, "2147483647", NULL,
        FIELD(config_globals, max_packet_size, uint64_t),
        "Longer messages end the connection they come from."),
    TEXT(config_globals, resolv_conf, "", KEY_RESTART | KEY_WAITS,
         "resolv.conf for names of servers; empty: the system's."),
    TEXT(config_globals, job_name, "pgbouncer", KEY_RESTART | KEY_WAITS,
         "Name of the Windows service."),
    ROW("service_name", KEY_TEXT, KEY_RESTART | KEY_WAITS | KEY_ALIAS, 0, 0, NULL, NULL,
        FIELD(config_globals, job_name, const char *), "Another name of job_name."),
    TEXT(config_globals, conffile, "", KEY_WAITS,
         "The file being used; to switch, SET it and RELOAD."),
    BOOL(config_globals, disable_pqexec, "0", KEY_RESTART | KEY_WAITS,
         "Refuse the simple query protocol."),
    ROW("workers", KEY_INT, KEY_RESTART | KEY_OURS, 0, WORKERS_MAX - 1, "0", NULL,
        FIELD(config_globals, workers, int),
        "Threads that serve clients; 0: one per processor. All limits hold over all of them."),
    BOOL(config_globals, io_uring, "1", KEY_RESTART | KEY_OURS,
         "Wait by io_uring where the kernel has it (Linux 6.1); else, or with 0, by epoll."),
};

static const struct key pool_keys[] = {
    CHOICE(
        config_globals, pool_mode, keys_pool_modes, "session", 0,
        "When a client gives its server back: at its end, after each transaction, or statement."),
    INT(config_globals, max_client_conn, 0, CONNECTIONS_MAX, "100", 0, "Client connections."),
    INT(config_globals, default_pool_size, 0, POOL_MAX, "20", 0,
        "Servers per pair of database and user; 0: no limit."),
    INT(config_globals, min_pool_size, 0, POOL_MAX, "0", 0,
        "Servers kept while the pool is in use, so that a load after a pause finds them open."),
    INT(config_globals, reserve_pool_size, 0, POOL_MAX, "0", 0,
        "Servers beyond the pool's size when clients have waited for reserve_pool_timeout."),
    TIME(config_globals, reserve_pool_timeout, "5", 0, "See reserve_pool_size; 0: never."),
    INT(config_globals, max_db_connections, 0, POOL_MAX, "0", 0,
        "Servers per database over all users; 0: no limit."),
    INT(config_globals, max_db_client_connections, 0, CONNECTIONS_MAX, "0", 0,
        "Clients per database; 0: no limit."),
    INT(config_globals, max_user_connections, 0, POOL_MAX, "0", 0,
        "Servers per user over all databases; 0: no limit."),
    INT(config_globals, max_user_client_connections, 0, CONNECTIONS_MAX, "0", 0,
        "Clients per user; 0: no limit."),
    BOOL(config_globals, server_round_robin, "0", 0,
         "Use idle servers in turn rather than the last used first."),
    INT(config_globals, max_prepared_statements, 0, 100000, "200", 0,
        "Prepared statements kept per server in transaction and statement mode; 0: off."),
    TIME(config_globals, pool_idle_timeout, "0", KEY_WAITS,
         "Forget a pool unused for so long; 0: never."),
    TIME(config_globals, autodb_idle_timeout, "3600", KEY_WAITS,
         "Forget a database made from the * line when unused for so long."),
    ROW("max_upstream_connections", KEY_INT, KEY_OURS, 0, POOL_MAX, "0", NULL,
        FIELD(config_globals, max_upstream_connections, int),
        "Servers per PostgreSQL instance (host and port) over all databases, users and pools; set "
        "it "
        "below its max_connections. 0: as many as the server has room for, where the probe can "
        "ask it."),
    ROW("instances", KEY_INT, KEY_OURS, 1, 1000, "1", NULL, FIELD(config_globals, instances, int),
        "Processes like this one before the same servers: each takes its part of the connections "
        "that the probe finds a server has room for; and of what sheddable classes may read under "
        "pressure: with more than one they share it at once, and none is tried first."),
    ROW("max_address_connections", KEY_INT, KEY_OURS, 0, POOL_MAX, "0", NULL,
        FIELD(config_globals, max_address_connections, int),
        "Servers that the clients of one address may hold at once; 0: no limit."),
    ROW("max_server_logins", KEY_INT, KEY_OURS, 1, 1000, "16", NULL,
        FIELD(config_globals, max_server_logins, int),
        "Servers of one PostgreSQL instance that may be connecting at once."),
    ROW("max_client_logins", KEY_INT, KEY_OURS, 1, CONNECTIONS_MAX, "64", NULL,
        FIELD(config_globals, max_client_logins, int),
        "Clients that may be in their TLS handshake or password check at once."),
};

static const struct key timeout_keys[] = {
    TIME(config_globals, server_lifetime, "3600", 0,
         "Close an unused server older than this; 0: use each once."),
    TIME(config_globals, server_idle_timeout, "600", 0,
         "Close a server unused for so long; 0: never."),
    TIME(config_globals, server_connect_timeout, "15", 0, "Connecting and logging in to a server."),
    TIME(config_globals, server_login_retry, "15", 0,
         "No new attempt for so long after a failed one; clients get the former error."),
    TIME(config_globals, server_check_delay, "30", 0,
         "Test a server that was idle for longer before it is used again; 0: always."),
    TEXT(config_globals, server_check_query, "<empty>", 0,
         "What it is tested with. <empty>: an empty query. Nothing: no test."),
    BOOL(config_globals, server_fast_close, "0", KEY_WAITS,
         "In session mode, close servers marked for it between transactions."),
    TEXT(config_globals, server_reset_query, "DISCARD ALL", 0,
         "Sent to a server before its next client, in session mode."),
    BOOL(config_globals, server_reset_query_always, "0", 0, "... and in all other modes."),
    TIME(config_globals, client_login_timeout, "60", 0, "A client's login; 0: no limit."),
    TIME(config_globals, client_idle_timeout, "0", 0,
         "Disconnect clients idle for so long; 0: never."),
    TIME(config_globals, query_timeout, "0", 0,
         "Longest statement, after which client and server are disconnected; 0: no limit."),
    TIME(config_globals, query_wait_timeout, "120", 0,
         "Longest wait for a server, after which the client is disconnected; 0: no limit."),
    TIME(config_globals, query_wait_notify, "5", 0,
         "Tell a client that waits for so long, by a NOTICE; 0: do not."),
    TIME(config_globals, cancel_wait_timeout, "10", 0, "Longest wait of a cancel request."),
    TIME(config_globals, idle_transaction_timeout, "0", 0,
         "Longest idle time inside a transaction; 0: no limit."),
    TIME(config_globals, transaction_timeout, "0", 0, "Longest transaction; 0: no limit."),
    TIME(config_globals, suspend_timeout, "10", KEY_WAITS, "Longest SUSPEND and -R."),
    TIME(config_globals, dns_max_ttl, "15", 0, "How long a server's address is kept."),
    TIME(config_globals, dns_nxdomain_ttl, "15", 0, "How long a name's absence is kept."),
    TIME(config_globals, dns_zone_check_period, "0", KEY_WAITS,
         "How often zones are asked for news."),
};

static const struct key auth_keys[] = {
    CHOICE(
        config_globals, auth_type, auth_types, "md5", 0,
        "How clients prove who they are. md5 becomes scram-sha-256 for users with such a secret."),
    TEXT(config_globals, auth_file, "", 0,
         "Users and their secrets: lines of \"user\" \"secret\"."),
    TEXT(config_globals, auth_hba_file, "", KEY_WAITS, "Rules for auth_type = hba."),
    TEXT(config_globals, auth_ident_file, "", KEY_WAITS, "Maps of names for peer and cert."),
    TEXT(config_globals, auth_user, "", KEY_WAITS,
         "Looks up users that are not in auth_file, by auth_query."),
    TEXT(config_globals, auth_query,
         "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM "
         "pg_authid WHERE rolname=$1 AND rolcanlogin",
         KEY_WAITS, "See auth_user."),
    TEXT(config_globals, auth_dbname, "", KEY_WAITS,
         "Database for auth_query; empty: the client's."),
    TEXT(config_globals, auth_ldap_options, "", KEY_WAITS, "Options for auth_type = ldap."),
    INT(config_globals, scram_iterations, 1, 10000000, "4096", 0,
        "Rounds for SCRAM secrets made of plain passwords."),
    LIST(config_globals, admin_users, "", 0, "Users with every right on the console."),
    LIST(config_globals, stats_users, "", 0, "Users who may SHOW on the console."),
    LIST(config_globals, ignore_startup_parameters, "", 0,
         "Startup parameters to leave unheeded rather than to refuse or apply."),
    LIST(config_globals, track_extra_parameters, "IntervalStyle", KEY_RESTART,
         "Reported settings to keep per client, beside those that always are."),
    BOOL(config_globals, application_name_add_host, "0", 0,
         "Add the client's address to its application_name."),
    TEXT(config_globals, login_notify_message, "", 0, "A NOTICE for each client at login."),
};

static const struct key log_keys[] = {
    BOOL(config_globals, syslog, "0", 0, "Log to syslog too."),
    TEXT(config_globals, syslog_ident, "pgbouncer", 0, "Our name there."),
    TEXT(config_globals, syslog_facility, "daemon", 0, "The facility there."),
    BOOL(config_globals, log_connections, "1", 0, "Log successful logins."),
    BOOL(config_globals, log_disconnections, "1", 0, "Log ends of connections, with the reason."),
    BOOL(config_globals, log_pooler_errors, "1", 0, "Log errors the pooler sends to clients."),
    BOOL(config_globals, log_stats, "1", 0, "Log totals every stats_period."),
    TIME(config_globals, stats_period, "60", 0, "Period of averages in SHOW STATS and in the log."),
    INT(config_globals, verbose, 0, 3, "0", 0, "More log: 1, 2, 3."),
    ROW("status_listen_addr", KEY_TEXT, KEY_RESTART | KEY_OURS, 0, 0, "127.0.0.1", NULL,
        FIELD(config_globals, status_listen_addr, const char *),
        "Address for HTTP: /metrics, /healthz, /readyz."),
    ROW("status_port", KEY_INT, KEY_RESTART | KEY_OURS, 0, 65535, "9432", NULL,
        FIELD(config_globals, status_port, int), "Port for HTTP; 0: none."),
};

static const struct key tls_keys[] = {
    CHOICE(config_globals, client_tls_sslmode, sslmodes, "disable", 0,
           "TLS towards clients; anything but disable needs a key and a certificate."),
    TEXT(config_globals, client_tls_key_file, "", 0, "Our private key towards clients."),
    TEXT(config_globals, client_tls_cert_file, "", 0, "Our certificate towards clients."),
    TEXT(config_globals, client_tls_ca_file, "", 0, "Who may have signed clients' certificates."),
    LIST(config_globals, client_tls_protocols, "secure", 0,
         "Versions: secure (1.2 and 1.3), all, legacy, or a list of tlsv1.2, tlsv1.3."),
    TEXT(config_globals, client_tls_ciphers, "default", 0, "Ciphers up to TLS 1.2."),
    TEXT(config_globals, client_tls13_ciphers, "", 0, "Ciphers of TLS 1.3; empty: OpenSSL's."),
    TEXT(config_globals, client_tls_ecdhcurve, "auto", 0, "Curve for key exchange."),
    TEXT(config_globals, client_tls_dheparams, "auto", 0, "Parameters for key exchange."),
    CHOICE(config_globals, server_tls_sslmode, sslmodes, "prefer", 0, "TLS towards servers."),
    TEXT(config_globals, server_tls_ca_file, "", 0, "Who must have signed servers' certificates."),
    TEXT(config_globals, server_tls_key_file, "", 0, "Our private key towards servers."),
    TEXT(config_globals, server_tls_cert_file, "", 0, "Our certificate towards servers."),
    LIST(config_globals, server_tls_protocols, "secure", 0, "As client_tls_protocols."),
    TEXT(config_globals, server_tls_ciphers, "default", 0, "Ciphers up to TLS 1.2."),
    TEXT(config_globals, server_tls13_ciphers, "", 0, "Ciphers of TLS 1.3; empty: OpenSSL's."),
};

static const struct key protection_keys[] = {
    ROW("baseline_file", KEY_TEXT, KEY_OURS | KEY_RESTART, 0, 0, "", NULL,
        FIELD(config_globals, baseline_file, const char *),
        "Where what is normal for each statement is kept over a restart; none: nowhere. Empty: "
        "$STATE_DIRECTORY/baseline, or beside the pidfile, or nowhere."),
    ROW("clean_probe", KEY_TIME, KEY_OURS, 0, SECONDS_MAX, "0", NULL,
        FIELD(config_globals, clean_probe_us, uint64_t),
        "How often to hold the sheddable classes for half a second, and learn only then what is "
        "normal; for bulk work that never pauses. 0: never; never more often than every 10 s."),
    ROW("log_breaker_ticks", KEY_BOOL, KEY_OURS, 0, 1, "0", NULL,
        FIELD(config_globals, log_breaker_ticks, bool),
        "Log every tick of a breaker at work: ten lines a second, for tests/model/replay.py."),
    ROW("probe_interval", KEY_TIME, KEY_OURS, 0, SECONDS_MAX, "1", NULL,
        FIELD(config_globals, probe_interval_us, uint64_t),
        "How often a connection of our own asks each server for its role, its lag and who waits "
        "for locks; 0: never."),
    ROW("probe_user", KEY_TEXT, KEY_OURS, 0, 0, "", NULL,
        FIELD(config_globals, probe_user, const char *),
        "Who logs in for that; needs no rights. Empty: a user of the server's pools whose password "
        "is known or not needed."),
    ROW("probe_password", KEY_TEXT, KEY_OURS | KEY_SECRET, 0, 0, "", NULL,
        FIELD(config_globals, probe_password, const char *),
        "That user's password; empty: what auth_file has in plain text, or none."),
    ROW("probe_dbname", KEY_TEXT, KEY_OURS, 0, 0, "", NULL,
        FIELD(config_globals, probe_dbname, const char *),
        "Database for that; empty: postgres, else the pool's."),
    ROW("probe_query", KEY_TEXT, KEY_OURS, 0, 0, "", NULL,
        FIELD(config_globals, probe_query, const char *),
        "A short statement of the protected kind, like a lookup by primary key. It is run up to 10 "
        "times a second while fewer of the clients' own tell how fast the server is. Empty: none."),
    ROW("breaker", KEY_CHOICE, KEY_OURS, 0, 0, "by-class", all_breakers,
        ENUM_FIELD(config_globals, breaker),
        "For all classes that do not say it themselves: see [class NAME]."),
    ROW("protect", KEY_CHOICE, KEY_OURS, 0, 0, "by-class", all_protects,
        ENUM_FIELD(config_globals, protect),
        "For all classes that do not say it themselves: see [class NAME]."),
};

/* ---- lines of the other sections ------------------------------------------------------------ */

#define OPTIONAL_INT(tag, name, max, help)                                                         \
    ROW(#name, KEY_INT, KEY_UNSET_OK, 0, max, "-1", NULL, FIELD(tag, name, int), help)
#define OPTIONAL_TIME(tag, name, help)                                                             \
    ROW(#name, KEY_TIME, KEY_UNSET_OK, 0, SECONDS_MAX, "-1", NULL,                                 \
        FIELD(tag, name##_us, uint64_t), help)
#define OPTIONAL_TEXT(tag, name, flags, help) TEXT(tag, name, NULL, flags, help)

static const struct key database_keys[] = {
    OPTIONAL_TEXT(config_database, dbname, 0, "Name on the server; default: the one asked for."),
    OPTIONAL_TEXT(config_database, host, 0,
                  "Names or addresses, comma separated; /dir and @name are Unix sockets. Default: "
                  "unix_socket_dir."),
    ROW("port", KEY_LIST, 0, 0, 0, "5432", NULL, FIELD(config_database, port_list, const char *),
        "Port of the server; or, comma separated, one for each host."),
    ROW("target_session_attrs", KEY_CHOICE, KEY_OURS, 0, 0, NULL, targets,
        ENUM_FIELD(config_database, target_session_attrs),
        "Which of the hosts serve: any, read-write, read-only, primary, standby, prefer-standby, "
        "as in libpq. Other than any: each host has pools, limits and breakers of its own, and "
        "clients go to where the role is now, waiting as long as they may while nobody has it."),
    OPTIONAL_TEXT(config_database, user, 0, "Log in to the server as this user for all clients."),
    OPTIONAL_TEXT(config_database, password, KEY_SECRET, "That user's password."),
    OPTIONAL_TEXT(config_database, auth_user, KEY_WAITS, "As the global key."),
    OPTIONAL_TEXT(config_database, auth_query, KEY_WAITS, "As the global key."),
    OPTIONAL_TEXT(config_database, auth_dbname, KEY_WAITS, "As the global key."),
    OPTIONAL_TEXT(config_database, connect_query, 0, "Run on each new server before it is used."),
    CHOICE(config_database, pool_mode, keys_pool_modes, NULL, 0, "As the global key."),
    OPTIONAL_INT(config_database, pool_size, POOL_MAX, "Instead of default_pool_size."),
    OPTIONAL_INT(config_database, min_pool_size, POOL_MAX, "As the global key."),
    OPTIONAL_INT(config_database, reserve_pool_size, POOL_MAX, "As the global key."),
    ROW("reserve_pool", KEY_INT, KEY_UNSET_OK | KEY_ALIAS, 0, POOL_MAX, NULL, NULL,
        FIELD(config_database, reserve_pool_size, int), "Another name of reserve_pool_size."),
    OPTIONAL_INT(config_database, max_db_connections, POOL_MAX, "As the global key."),
    OPTIONAL_INT(config_database, max_db_client_connections, CONNECTIONS_MAX, "As the global key."),
    OPTIONAL_TIME(config_database, query_wait_timeout, "As the global key."),
    OPTIONAL_TIME(config_database, server_lifetime, "As the global key."),
    CHOICE(config_database, load_balance_hosts, load_balances, "round-robin", 0,
           "Whether new servers go to the hosts in turn, or to the first that answers."),
    OPTIONAL_TEXT(config_database, client_encoding, 0, "Set on the server at login."),
    OPTIONAL_TEXT(config_database, datestyle, 0, "Set on the server at login."),
    OPTIONAL_TEXT(config_database, timezone, 0, "Set on the server at login."),
    OPTIONAL_TEXT(config_database, application_name, 0, "Set on the server at login."),
};

static const struct key user_keys[] = {
    CHOICE(config_user, pool_mode, keys_pool_modes, NULL, 0, "As the global key."),
    OPTIONAL_INT(config_user, pool_size, POOL_MAX, "Instead of default_pool_size."),
    OPTIONAL_INT(config_user, reserve_pool_size, POOL_MAX, "As the global key."),
    OPTIONAL_INT(config_user, max_user_connections, POOL_MAX, "As the global key."),
    OPTIONAL_INT(config_user, max_user_client_connections, CONNECTIONS_MAX, "As the global key."),
    OPTIONAL_TIME(config_user, query_timeout, "As the global key."),
    OPTIONAL_TIME(config_user, query_wait_timeout, "As the global key."),
    OPTIONAL_TIME(config_user, idle_transaction_timeout, "As the global key."),
    OPTIONAL_TIME(config_user, transaction_timeout, "As the global key."),
    OPTIONAL_TIME(config_user, client_idle_timeout, "As the global key."),
};

static const struct key peer_keys[] = {
    OPTIONAL_TEXT(config_peer, host, KEY_WAITS, "Address, or directory of a Unix socket."),
    ROW("port", KEY_INT, KEY_WAITS, 1, 65535, "6432", NULL, FIELD(config_peer, port, int),
        "Port of the peer."),
    ROW("pool_size", KEY_INT, KEY_WAITS | KEY_UNSET_OK, 0, POOL_MAX, "-1", NULL,
        FIELD(config_peer, pool_size, int), "Connections to it for forwarded cancel requests."),
};

/* ---- [class NAME] --------------------------------------------------------------------------- */

/* The defaults are the class's own (pool/class), so none stand here. */
#define CLASS_TIME(text, field, flags, help)                                                       \
    ROW(text, KEY_TIME, KEY_OURS | (flags), 0, SECONDS_MAX, NULL, NULL,                            \
        FIELD(class_opts, field, uint64_t), help)
#define CLASS_BYTES(text, field, flags, help)                                                      \
    ROW(text, KEY_BYTES, KEY_OURS | (flags), 0, INT64_C(1) << 50, NULL, NULL,                      \
        FIELD(class_opts, field, uint64_t), help)
#define CLASS_INT(text, field, min, max, help)                                                     \
    ROW(text, KEY_INT, KEY_OURS, min, max, NULL, NULL, FIELD(class_opts, field, uint32_t), help)
#define CLASS_BOOL(text, field, help)                                                              \
    ROW(text, KEY_BOOL, KEY_OURS, 0, 1, NULL, NULL, FIELD(class_opts, field, bool), help)
#define CLASS_SHARE(text, field, help)                                                             \
    ROW(text, KEY_SHARE, KEY_OURS, 0, 0, NULL, NULL, FIELD(class_opts, field, struct class_share), \
        help)
#define CLASS_CHOICE(text, field, choices, flags, help)                                            \
    ROW(text, KEY_CHOICE, KEY_OURS | (flags), 0, 0, NULL, choices, ENUM_FIELD(class_opts, field),  \
        help)

static const struct key class_keys[] = {
    ROW("match", KEY_SPECIAL, KEY_OURS, 0, 0, NULL, NULL, 0,
        "Who belongs here: conditions separated by blanks, all of which must hold; the line may be "
        "repeated, and one of the lines must hold. application_name:GLOBS user:GLOBS "
        "database:GLOBS (comma separated, * and ?; in '' if there are blanks), address:CIDR,..., "
        "unix, unix:UID, tcp, replication, not-replication. Rules are tried in the order of the "
        "files, before the built-in ones."),
    CLASS_INT("priority", priority, 0, CLASS_PRIORITY_MAX,
              "0 is protected; higher numbers are served later and shed earlier."),
    CLASS_INT("weight", weight, 1, 1000, "Share among classes of the same priority."),
    CLASS_SHARE("reserved", reserved,
                "Servers never lent to others while the class has clients: a number, or % of the "
                "limit."),
    CLASS_SHARE("max", max, "Servers it may hold at once: a number, or % of the limit."),
    CLASS_INT("queue_limit", queue_limit_n, 1, CONNECTIONS_MAX,
              "Clients that may wait for a server of one PostgreSQL instance."),
    CLASS_TIME("queue_deadline", queue_deadline_us, 0,
               "Longest wait before the client gets an error; 0: query_wait_timeout alone."),
    CLASS_BYTES("byte_rate", byte_rate, 0, "Bytes a second it may read at most; 0: any."),
    CLASS_BYTES("min_rate", min_rate, 0, "Bytes a second it keeps while being shed."),
    ROW("schedule", KEY_SPECIAL, KEY_OURS, 0, 0, NULL, NULL, 0,
        "Hours in which it works as it likes: Mon-Fri 01:00-05:00 Europe/Berlin, Sat,Sun "
        "00:00-24:00. One time zone for all of them; none: the machine's. Unset: always. Not for "
        "protected classes."),
    CLASS_CHOICE("outside", outside, outsides, 0,
                 "Outside its schedule: one (a server at a time) or refuse (nobody new; what runs "
                 "goes on)."),
    ROW("finish_by", KEY_SPECIAL, KEY_OURS, 0, 0, NULL, NULL, 0,
        "Time of the day by which its work should be done: 06:00, perhaps with a time zone. Warns "
        "when it will not be, going by its speed and by how much there was the last time."),
    CLASS_INT("login_rate", login_rate, 0, CONNECTIONS_MAX,
              "Clients that may log in within a second, those of two seconds at once; further ones "
              "wait; 0: any number."),
    CLASS_TIME("slo_p99", slo_p99_us, 0,
               "99 of 100 statements should take less; 0: compare with calm times only."),
    CLASS_CHOICE("breaker", breaker, breakers, 0,
                 "Whether the class may be held back for classes above it: off, observe (say what "
                 "would be done), enforce."),
    CLASS_CHOICE("protect", protect, protects, 0,
                 "How much slower than in calm times a protected class may become."),
    ROW("on_overload", KEY_FLAGS, KEY_OURS, 0, 0, NULL, overloads,
        FIELD(class_opts, on_overload, uint32_t),
        "What may be done to it: hold new statements, pace running ones, cancel, terminate."),
    CLASS_CHOICE("orphan", orphan, orphans, 0,
                 "What becomes of a statement whose client has gone; one that writes is finished "
                 "in any case."),
    CLASS_CHOICE("on_lock_inversion", on_lock_inversion, inversions, 0,
                 "What to do when a protected class waits for a lock of this one: alert, unpace "
                 "(its result is not held back meanwhile), cancel (that, and its statement after 3 "
                 "seconds)."),
    ROW("shed_sqlstate", KEY_SQLSTATE, KEY_OURS, 0, 0, NULL, NULL,
        FIELD(class_opts, shed_sqlstate, char *),
        "SQLSTATE of a refusal at login: 53300, or 57P03 to send libpq to its next host."),
    CLASS_TIME("demote_after", demote_after_us, 0,
               "A longer transaction goes to demote_to for its rest; 0: never."),
    CLASS_BYTES("demote_bytes", demote_after_bytes, 0, "... one with a larger result; 0: never."),
    CLASS_INT("demote_rows", demote_after_rows, 0, INT32_MAX,
              "... one with a result of more rows; 0: never."),
    CLASS_BOOL("demote_copy_out", demote_copy_out, "... one with COPY ... TO STDOUT."),
    CLASS_BOOL("demote_cursor", demote_cursor, "... one with DECLARE ... CURSOR."),
    CLASS_CHOICE("route", route, class_routes, 0,
                 "Where its clients are served: database (by target_session_attrs), or replica: on "
                 "a standby, where the database has several hosts."),
    CLASS_CHOICE("route_fallback", route_fallback, route_fallbacks, 0,
                 "Where they go while no replica will do: none (they wait until their deadline), "
                 "or primary."),
    CLASS_TIME("max_lag", max_lag_us, 0,
               "A standby further behind is no replica for it; 0: however far."),
    ROW("demote_to", KEY_SPECIAL, KEY_OURS, 0, 0, NULL, NULL, 0, "The class they go to."),
};

#define TABLE(scope_, title_, keys_)                                                               \
    {                                                                                              \
        .scope = scope_, .title = title_, .keys = keys_, .keys_n = COUNT_OF(keys_)                 \
    }
const struct key_table keys_tables[] = {
    TABLE(KEY_GLOBAL, "process and sockets", process_keys),
    TABLE(KEY_GLOBAL, "pools and limits", pool_keys),
    TABLE(KEY_GLOBAL, "timeouts", timeout_keys),
    TABLE(KEY_GLOBAL, "authentication, startup, administration", auth_keys),
    TABLE(KEY_GLOBAL, "log and status", log_keys),
    TABLE(KEY_GLOBAL, "TLS", tls_keys),
    TABLE(KEY_GLOBAL, "overload protection", protection_keys),
    TABLE(KEY_DATABASE, NULL, database_keys),
    TABLE(KEY_USER, NULL, user_keys),
    TABLE(KEY_PEER, NULL, peer_keys),
    TABLE(KEY_CLASS, NULL, class_keys),
};
const size_t keys_tables_n = COUNT_OF(keys_tables);
