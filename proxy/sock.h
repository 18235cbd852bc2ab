/* What sockets of both sides have in common: options from the configuration, and addresses as text.
 */
#ifndef PROXY_SOCK_H
#define PROXY_SOCK_H

#include <sys/socket.h>

#include "breaker/base.h"

struct config_globals;

enum { SOCK_ADDRESS_BYTES = 46 }; /* longest text of an address and its NUL */

/* TCP_NODELAY, keepalive, tcp_user_timeout, tcp_socket_buffer. Options the kernel refuses are
 * logged, once a minute at most: a connection without them is better than none. Of a listening
 * socket: what it accepts inherits all of them. */
void sock_tune(int fd, const struct config_globals *g, bool is_unix);
/* Before connect(): so much may wait to be read, and no more. Left alone, the kernel lets the
 * buffer of a fast stream grow to tens of megabytes, and a server that is not read any more goes on
 * until they are full. */
void sock_bound(int fd);
/* 16 bytes in network order, IPv4 mapped, and the port; zero for what is not IP. */
void sock_address_of(const struct sockaddr_storage *from, uint8_t address[16], uint16_t *port);
/* "10.0.0.1", "fe80::1"; "unix" for all zero, as SHOW CLIENTS has it. Returns at. */
const char *sock_address_text(const uint8_t address[16], char at[SOCK_ADDRESS_BYTES]);
/* Lifts RLIMIT_NOFILE to the hard limit; the number of descriptors we may have. */
uint64_t sock_raise_limit(void);

#endif
