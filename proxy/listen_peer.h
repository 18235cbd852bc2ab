/* Who is at the other end of an accepted connection, as far as the kernel knows. */
#ifndef PROXY_LISTEN_PEER_H
#define PROXY_LISTEN_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d; all zero on a Unix socket. */
struct listen_peer {
    uint8_t address[16], local_address[16];
    uint16_t port, local_port;
    bool is_unix;
    uid_t uid; /* Unix sockets only */
    pid_t pid; /* Unix sockets only */
};

#endif
