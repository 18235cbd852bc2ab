/* Tells systemd how we are doing, where it started us (Type=notify): one datagram, no library. */
#ifndef PROXY_NOTIFY_H
#define PROXY_NOTIFY_H

/* Lines of sd_notify(3): "READY=1\nSTATUS=...". Nothing happens without NOTIFY_SOCKET. */
void notify_send(const char *state);
/* A reload begins; it ends with READY=1. */
void notify_reloading(void);

#endif
