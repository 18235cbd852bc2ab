/* Who may log in now: the others wait before their password is asked for, and cost a struct.
 *
 * Two things are bounded, each loop having its part of them:
 *
 *   - logins in progress (TLS and authentication, which take a processor milliseconds each):
 *     max_client_logins, half of them for protected classes alone. One that has made no end in a
 *     second is not counted any more, nor in a quarter of it where others wait: it waits for its
 *     client, not for us, and clients that say nothing must not lock out all others.
 *   - logins a second of a class (login_rate of [class]), in a bucket of two seconds' worth.
 *
 * A client's class is known from its startup packet. Under TLS that comes after the handshake, so a
 * client passes twice: for its handshake, of no class, and for its password.
 *
 * Those who wait are let in by turns, one of each address (/64) and class: thousands from one place
 * keep nobody who comes from another. Within these it is first come, first served, until the first
 * has stood for five seconds: then the last is first, whose client is the likeliest to be there.
 *
 * Whoever waits is not read from; client_login_timeout counts for him as for others. The console is
 * always let in. */
#ifndef PROXY_DOOR_H
#define PROXY_DOOR_H

#include "proxy/client.h"

/* True: c, which is of class_i (CLASSES_MAX: not known yet), goes on at once. False: hello_go_on()
 * is called when it may. */
MUST_USE bool door_enter(struct client *c, uint8_t class_i);
/* It is through, or gone, or has to ask for the next step; may be called at any time. Lets the next
 * in. */
void door_leave(struct client *c);
void door_sweep(struct hub *h, uint64_t now_us);

#endif
