/* SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS. */
#include "proxy/rows.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proxy/gates.h"
#include "proxy/route.h"
#include "proxy/sock.h"

enum { TIME_BYTES = 40, PTR_BYTES = 24, UPSTREAM_BYTES = 128 };

struct peer_row {
    const char *type;
    char user[CONFIG_USER_NAME_MAX + 1];
    const char *database, *replication;
    char state[24];
    char addr[SOCK_ADDRESS_BYTES];
    uint32_t port;
    char local_addr[SOCK_ADDRESS_BYTES];
    uint32_t local_port;
    char connect_time[TIME_BYTES], request_time[TIME_BYTES];
    uint32_t wait, wait_us;
    bool close_needed;
    char ptr[PTR_BYTES], link[PTR_BYTES];
    uint32_t remote_pid;
    char tls[TLS_NAME_BYTES];
    char application_name[COPYOUT_APPLICATION_BYTES];
    uint32_t prepared_statements;
    uint64_t id;
    uint32_t recv_pos, pkt_pos, pkt_remain, send_pos, send_remain, pkt_avail, send_avail;
    const char *class;
    uint32_t worker;
    char upstream[UPSTREAM_BYTES]; /* host:port of its pool */
};

#define ROW struct peer_row
#define PEER_COLUMNS                                                                               \
    {COL(type, TEXT)}, {COL(user, CHARS)}, {COL(database, TEXT)}, {COL(replication, TEXT)},        \
        {COL(state, CHARS)}, {COL(addr, CHARS)}, {COL(port, U32)}, {COL(local_addr, CHARS)},       \
        {COL(local_port, U32)}, {COL(connect_time, CHARS)}, {COL(request_time, CHARS)},            \
        {COL(wait, U32)}, {COL(wait_us, U32)}, {COL(close_needed, BOOL)}, {COL(ptr, CHARS)},       \
        {COL(link, CHARS)}, {COL(remote_pid, U32)}, {COL(tls, CHARS)},                             \
        {COL(application_name, CHARS)}, {COL(prepared_statements, U32)},                           \
    {                                                                                              \
        COL(id, U64)                                                                               \
    }
static const struct table_column peers_columns[] = {
    PEER_COLUMNS, {COL(class, TEXT)}, {COL(worker, U32)}, {COL(upstream, CHARS)}};
const struct table rows_peers_table = {.name = "CLIENTS", TABLE_OF(peers_columns)};

static const struct table_column sockets_columns[] = {
    PEER_COLUMNS,         {COL(recv_pos, U32)},    {COL(pkt_pos, U32)},   {COL(pkt_remain, U32)},
    {COL(send_pos, U32)}, {COL(send_remain, U32)}, {COL(pkt_avail, U32)}, {COL(send_avail, U32)},
    {COL(class, TEXT)},   {COL(worker, U32)}};
const struct table rows_sockets_table = {.name = "SOCKETS", TABLE_OF(sockets_columns)};
#undef ROW

/* A monotonic moment as PgBouncer writes times; "" for never. */
static void put_time(char at[TIME_BYTES], uint64_t moment_us, uint64_t now_us)
{
    if (!moment_us)
        return;
    time_t t = time(NULL) - (time_t)((now_us - moment_us + US_PER_S / 2) / US_PER_S);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(at, TIME_BYTES, "%Y-%m-%d %H:%M:%S %Z", &tm);
}

static void put_ptr(char at[PTR_BYTES], uint64_t id)
{
    if (id)
        snprintf(at, PTR_BYTES, "0x%llx", (unsigned long long)id);
}

static void put_address(const struct sockaddr_storage *from, char text[SOCK_ADDRESS_BYTES],
                        uint32_t *port)
{
    uint8_t address[16];
    uint16_t number;
    if (from->ss_family == AF_UNSPEC)
        return; /* not connected yet */
    sock_address_of(from, address, &number);
    sock_address_text(address, text);
    *port = number;
}

bool rows_server_is_old(struct proxy *p, const struct copyout_peer *server)
{
    uint64_t since_us =
        server->route ? gates_own(p->gates, server->route->database).reconnect_us : 0;
    return server->opened_us && server->opened_us < since_us;
}

static void put_client(const struct rows_from *from, const struct copyout_peer *c,
                       struct peer_row *row)
{
    const struct config *cfg = from->proxy->hubs[0]->config;
    sock_address_text(c->peer.address, row->addr);
    sock_address_text(c->peer.local_address, row->local_addr);
    row->port = c->peer.port;
    row->local_port = c->peer.local_port;
    if (c->peer.is_unix)
        row->port = row->local_port = (uint32_t)cfg->globals.listen_port;
    row->wait = (uint32_t)(c->wait_us / US_PER_S);
    row->wait_us = (uint32_t)(c->wait_us % US_PER_S);
}

static void put_server(const struct rows_from *from, const struct copyout_peer *s,
                       struct peer_row *row)
{
    put_address(&s->remote, row->addr, &row->port);
    put_address(&s->local, row->local_addr, &row->local_port);
    if (s->remote.ss_family == AF_UNIX && s->route)
        row->port = row->local_port = upstream_port(pool_upstream(s->route->pool));
    row->close_needed = rows_server_is_old(from->proxy, s);
}

static const char *replication_name(const struct route *r)
{
    if (!r || r->replication == POOL_REPLICATION_NO)
        return "none";
    return r->replication == POOL_REPLICATION_DATABASE ? "logical" : "physical";
}

/* SOCKETS has a state more or less: login for new, active for a client without a server. */
static void put_state(const struct copyout_peer *p, bool of_socket, char at[24])
{
    const char *state = p->state;
    if (of_socket && p->is_client && !strcmp(state, "idle"))
        state = "active";
    else if (of_socket && !strcmp(state, "new"))
        state = "login";
    snprintf(at, 24, "%s%s", !of_socket ? "" : p->is_client ? "cl_" : "sv_", state);
}

static bool is_at_work(const struct copyout_peer *p)
{
    return strcmp(p->state, "idle") != 0;
}

void rows_put_peer(const struct rows_from *from, const struct rows_show *show,
                   const struct copyout_peer *peer, struct rows *out)
{
    const struct class_table *classes = from->proxy->hubs[0]->config->classes;
    if (show->source == ROWS_ACTIVE_SOCKETS && !is_at_work(peer))
        return;
    struct peer_row *row = rows_add(out, show->table);
    row->type = peer->is_client ? "C" : "S";
    memcpy(row->user, peer->user, sizeof row->user);
    row->database = peer->route ? peer->route->database : "pgbouncer";
    row->replication = replication_name(peer->route);
    put_state(peer, show->table == &rows_sockets_table, row->state);
    if (peer->is_client)
        put_client(from, peer, row);
    else
        put_server(from, peer, row);
    put_time(row->connect_time, peer->connected_us, from->now_us);
    put_time(row->request_time, peer->request_us ? peer->request_us : peer->connected_us,
             from->now_us);
    put_ptr(row->ptr, peer->id);
    put_ptr(row->link, peer->link_id);
    row->remote_pid = peer->pid;
    memcpy(row->tls, peer->tls, sizeof row->tls);
    memcpy(row->application_name, peer->application_name, sizeof row->application_name);
    row->prepared_statements = peer->prepared_n;
    row->id = peer->id;
    row->recv_pos = row->pkt_avail = peer->in_bytes;
    row->pkt_remain = peer->left_bytes;
    row->send_remain = row->send_avail = peer->out_bytes;
    row->class =
        peer->route && peer->class_i < classes->class_n ? classes->at[peer->class_i].name : NULL;
    row->worker = peer->worker;
    if (peer->route)
        snprintf(row->upstream, sizeof row->upstream, "%.100s:%u",
                 upstream_host(pool_upstream(peer->route->pool)),
                 upstream_port(pool_upstream(peer->route->pool)));
}
