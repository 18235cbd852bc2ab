/* Names of servers into addresses, without a loop ever waiting.
 *
 * A few threads call getaddrinfo() (so nsswitch.conf and /etc/hosts hold) and answer by letter to
 * the loop that asked; more than one, so that a name whose DNS servers are silent does not keep the
 * others waiting. Answers are kept for dns_max_ttl, failures for dns_nxdomain_ttl. Asks for the
 * same name share one look-up. Where the DNS itself fails for a while, the former answer serves on.
 * Numeric addresses and Unix sockets are answered at once.
 *
 * An ask is made by dns_ask_new(), and dropped by its owner, at any time, with dns_ask_drop(): one
 * that is still out is only marked, and frees itself when its letter is opened. */
#ifndef PROXY_DNS_H
#define PROXY_DNS_H

#include <sys/socket.h>

#include "breaker/base.h"
#include "proxy/worker.h"

enum {
    DNS_ADDRS_MAX = 8,    /* of one name; more are cut off */
    DNS_HOST_MAX = 255,   /* bytes of a name or path */
    DNS_NAMES_MAX = 256,  /* names known or being asked for; the least used makes room */
    DNS_ASKS_MAX = 65536, /* asks that wait for an answer */
};

struct dns; /* any thread; has its own lock */

struct dns_addr {
    struct sockaddr_storage sa; /* AF_INET, AF_INET6 or AF_UNIX, port set */
    socklen_t sa_bytes;
};

struct dns_ask {
    /* set by the asker */
    void (*done)(struct worker *w, struct dns_ask *ask); /* in w's loop; only after DNS_LATER */
    void *owner;
    /* the answer */
    uint32_t addrs_n;                     /* 0: err says why */
    struct dns_addr addrs[DNS_ADDRS_MAX]; /* in getaddrinfo()'s order: try one after the other */
    struct err err;
    /* dns's own */
    struct letter letter;
    struct dns_ask *next;
    struct worker *worker;
    uint16_t port;
    bool out, dropped, bad_host;
    char host[DNS_HOST_MAX + 1];
};

enum dns_verdict {
    DNS_READY, /* the answer is in the ask */
    DNS_LATER, /* done() will be called in w's loop */
};

struct dns_opts {
    uint64_t max_ttl_us, nxdomain_ttl_us;
};

MUST_USE bool dns_open(struct dns **out, const struct dns_opts *opts, struct err *err);
/* After a reload. */
void dns_set_ttl(struct dns *d, const struct dns_opts *opts);
/* host: a name, an address, "/dir" (the socket is /dir/.s.PGSQL.port), or "@abstract" (likewise).
 * NULL: out of memory. */
MUST_USE struct dns_ask *dns_ask_new(const char *host, uint16_t port);
/* From w's loop. An ask may be resolved again after its answer. */
MUST_USE enum dns_verdict dns_resolve(struct dns *d, struct worker *w, struct dns_ask *ask);
/* From the loop it was resolved in; clears the pointer. done() will not be called any more. */
void dns_ask_drop(struct dns_ask **ask);
/* When no loop runs any more. Asks that are out will not be answered; their owners drop them as
 * ever. A getaddrinfo() that hangs is not waited for: its thread tidies up behind itself. */
void dns_close(struct dns **d);

struct dns_counts { /* for SHOW LISTS */
    uint32_t names_n, pending_n;
    uint64_t lookups_n, failures_n;
};
void dns_counts(struct dns *d, struct dns_counts *out);
/* For SHOW DNS_HOSTS: calls row for each name known, with no lock held. ttl_us: what is left. */
typedef void (*dns_row)(void *arg, const char *host, uint64_t ttl_us, const struct dns_addr *addrs,
                        uint32_t addrs_n);
void dns_rows(struct dns *d, dns_row row, void *arg);

#endif
