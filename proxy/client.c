#include "proxy/client.h"

#include <stdio.h>

#include "proxy/route.h"
#include "proxy/sock.h"

static const struct {
    const char *name;
    uint32_t next;
} client_states[] = {
#define X(state, name, next) {name, next},
    CLIENT_STATES(X)
#undef X
};

void client_goto(struct client *c, enum client_state next)
{
    must(client_states[c->state].next & BIT(next));
    c->state = next;
}

const char *client_state_name(enum client_state state)
{
    return client_states[state].name;
}

const char *client_name(const struct client *c, char *at, size_t n)
{
    char address[SOCK_ADDRESS_BYTES];
    const char *database = "(nodb)", *user = "(nouser)";
    if (c->login && *c->login->user) {
        database = c->login->database;
        user = c->login->user;
    } else if (c->route) {
        database = c->route->database;
        user = c->route->user;
    }
    if (c->peer.is_unix)
        snprintf(at, n, "%s/%s@unix(%d)", database, user, (int)c->peer.pid);
    else
        snprintf(at, n, "%s/%s@%s:%u", database, user, sock_address_text(c->peer.address, address),
                 c->peer.port);
    return at;
}
