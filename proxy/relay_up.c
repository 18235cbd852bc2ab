/* From client to server: see relay.h. What each message will have the server answer goes into
 * server->owed; what it may leave behind there is noted as it passes. */
#include "proxy/relay.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pool/pool.h"
#include "proxy/gather.h"
#include "proxy/pacer.h"
#include "proxy/route.h"
#include "proxy/texts.h"

/* One call's working state. */
struct up {
    struct client *c;
    struct server *s;
    struct gather g;
    bool renames; /* statements get names of ours: transaction and statement mode */
    bool failed;  /* out of memory, or a limit */
};

/* A name no statement of ours or of a client has: makes the server answer 26000. */
#define LOST_STATEMENT "unnamed statement of an earlier transaction"
/* One that is deallocated at once, see query_renamed(). */
#define SPARE_STATEMENT "pgweir_spare"

enum { UNNAMED_BYTES_MAX = 256 << 10 }; /* kept per client across a Sync */

/* The first statement of a transaction has been looked at for its class already: relay_peek(). */
static const struct sql_info *scan(const struct hub *h, const char *text, size_t n, bool cut,
                                   struct sql_info *room)
{
    if (h->peeked_at == text && h->peeked_bytes == n)
        return &h->peeked;
    sql_scan(text, n, cut, room);
    return room;
}

static void owe(struct up *u, enum owed_kind kind, enum owed_to to, uint64_t number,
                uint64_t serial)
{
    if (!owed_push(&u->s->owed, (struct owed_entry){kind, to, number, serial}))
        u->failed = true;
}

/* EXECUTE of a statement that was prepared by SQL: what it does is known when it is done. */
static void may_write(struct server *s, uint32_t flags)
{
    bool wrote = atomic_load_explicit(&s->lease.tx_writes, memory_order_relaxed);
    s->in_doubt = flags == (SQL_EXECUTE | SQL_WRITE) && (!wrote || s->in_doubt);
    atomic_store_explicit(&s->lease.tx_writes, true, memory_order_relaxed);
}

/* Whatever the client sends runs as this statement until ReadyForQuery. */
static void statement_begins(struct up *u, uint64_t fingerprint, uint32_t flags)
{
    struct client *c = u->c;
    u->s->sql_flags |= flags;
    if (flags & SQL_MAY_WRITE)
        may_write(u->s, flags);
    if (flags & SQL_ADVISORY_LOCK)
        u->s->brake.advisory = true;
    c->stmt_fingerprint = fingerprint;
    atomic_store_explicit(&u->s->lease.stmt_fingerprint, fingerprint, memory_order_relaxed);
    if (c->stmt_started_us)
        return;
    c->stmt_started_us = hub_now(c->hub);
    atomic_store_explicit(&u->s->lease.unread_us, 0, memory_order_relaxed);
    atomic_store_explicit(&u->s->lease.stmt_copy_out, false, memory_order_relaxed);
    atomic_store_explicit(&u->s->lease.stmt_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&u->s->lease.stmt_started_us, c->stmt_started_us, memory_order_relaxed);
}

static bool begins_with(const char *sql, size_t n, const char *word)
{
    size_t word_n = strlen(word);
    while (n && strchr(" \t\r\n", *sql))
        sql++, n--;
    return n >= word_n && strncasecmp(sql, word, word_n) == 0;
}

/* What decides whether the result may be held back. */
static void note_text(struct up *u, const char *sql, size_t n, uint32_t flags)
{
    if (u->s->route->replication != POOL_REPLICATION_NO)
        u->s->base_backup = begins_with(sql, n, "BASE_BACKUP");
    else if (flags & (SQL_SET | SQL_SET_CONFIG | SQL_DISCARD_ALL | SQL_MULTI) ||
             begins_with(sql, n, "SET"))
        pacer_note_set(u->s, view_of(sql, n));
}

static void note_flags(struct up *u, uint32_t flags)
{
    struct server *s = u->s;
    if (flags & (SQL_SET | SQL_SET_CONFIG))
        s->dirt |= SERVER_DIRT_SETTINGS;
    if (flags & (SQL_LEAVES_STATE & ~(SQL_SET | SQL_SET_CONFIG)))
        s->dirt |= SERVER_DIRT_SESSION;
    if (flags & (SQL_DISCARD_ALL | SQL_DEALLOCATE_ALL))
        s->barrier = true;
}

static void pass(struct up *u, const struct wire_msg *m)
{
    gather_pass(&u->g, m->body.at - WIRE_HEADER_BYTES, WIRE_HEADER_BYTES + m->body.n);
}

/* ---- statements by name ---------------------------------------------------------------------- */

/* Makes sure that the server will have the statement when what is sent next arrives. */
static void ensure(struct up *u, struct prep_stmt *stmt)
{
    uint32_t before = buf_used(&u->g.own);
    bool fits = true;
    switch (prep_cache_find(u->s->prep, stmt)) {
    case PREP_PRESENT:
        return;
    case PREP_OUTDATED:
        fits = wire_put_target(&u->g.own, 'C', 'S', stmt->name);
        owe(u, OWED_CLOSE, OWED_SKIP, 0, 0);
        prep_cache_remove(&u->s->prep, stmt->number);
        break;
    case PREP_ABSENT:
        break;
    }
    if (!fits || !prep_cache_add(&u->s->prep, stmt) ||
        !wire_put_parse(&u->g.own, stmt->name, view_of(stmt->rest, stmt->rest_bytes)))
        u->failed = true;
    owe(u, OWED_PARSE, OWED_SKIP, stmt->number, 0);
    gather_own(&u->g, before);
    count_add(&route_counters(u->c->route, u->c->hub)->ps_server_parse_count, 1);
}

/* A Parse by name. The whole message is there. */
static void parse_named(struct up *u, const struct wire_parse *parse)
{
    struct client *c = u->c;
    struct prep_stmt *taken = prep_names_find(c->names, parse->name, parse->name_n);
    if (taken) { /* let the server say 42P05 */
        uint32_t before;
        ensure(u, taken);
        before = buf_used(&u->g.own);
        u->failed |= !wire_put_parse(&u->g.own, taken->name, parse->rest);
        gather_own(&u->g, before);
        owe(u, OWED_PARSE, OWED_PASS, 0, 0);
        return;
    }
    struct sql_info scanned;
    const struct sql_info *info =
        scan(c->hub, parse->text, parse->text_n, parse->text_cut, &scanned);
    texts_note(info->fingerprint, parse->text, parse->text_n);
    struct prep_stmt *stmt = prep_intern(parse->rest, info);
    uint64_t serial = stmt ? prep_names_add(&c->names, parse->name, parse->name_n, stmt) : 0;
    if (!serial) {
        u->failed = true;
        prep_unref(&stmt);
        return;
    }
    note_flags(u, info->flags & (SQL_DISCARD_ALL | SQL_DEALLOCATE_ALL));
    if (prep_cache_find(u->s->prep, stmt) == PREP_PRESENT) {
        owe(u, OWED_PARSE, OWED_FAKE, 0, serial);
    } else {
        ensure(u, stmt);
        struct owed_entry *last = owed_at(&u->s->owed, owed_n(&u->s->owed) - 1);
        last->to = OWED_PASS;
        last->name_serial = serial;
    }
    prep_unref(&stmt);
}

static void parse_one(struct up *u, const struct wire_msg *m, const struct wire_parse *p)
{
    struct client *c = u->c;
    count_add(&route_counters(c->route, c->hub)->ps_client_parse_count, 1);
    if (p->name_n && u->renames && wire_is_whole(m) && p->rest.n <= PREP_PARSE_BYTES_MAX) {
        parse_named(u, p);
        return;
    }
    struct sql_info scanned;
    const struct sql_info *info = scan(c->hub, p->text, p->text_n, p->text_cut, &scanned);
    texts_note(info->fingerprint, p->text, p->text_n);
    statement_begins(u, info->fingerprint, info->flags);
    note_text(u, p->text, p->text_n, info->flags);
    note_flags(u, info->flags);
    if (p->name_n) {
        u->s->dirt |= SERVER_DIRT_SESSION; /* its name is known to the server alone */
    } else {
        u->s->unnamed_of = c->id;
        buf_free(&c->unnamed);
        c->unnamed_at = view_of(NULL, 0);
        c->unnamed_flags = info->flags;
        c->unnamed_fingerprint = info->fingerprint;
        if (u->renames && wire_is_whole(m) && p->rest.n <= UNNAMED_BYTES_MAX)
            c->unnamed_at = p->rest; /* kept if a Sync comes before its Bind */
    }
    owe(u, OWED_PARSE, OWED_PASS, 0, 0);
    pass(u, m);
}

/* The unnamed statement this client parsed in an earlier transaction, on whatever server. */
static const char *unnamed_for(struct up *u)
{
    struct client *c = u->c;
    statement_begins(u, c->unnamed_fingerprint, c->unnamed_flags);
    note_flags(u, c->unnamed_flags);
    if (u->s->unnamed_of == c->id)
        return NULL;
    if (!buf_used(&c->unnamed))
        return LOST_STATEMENT;
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_parse(&u->g.own, "", buf_view(&c->unnamed));
    gather_own(&u->g, before);
    owe(u, OWED_PARSE, OWED_SKIP, 0, 0);
    u->s->unnamed_of = c->id;
    return NULL;
}

/* The server's name for the client's; NULL: the same. */
static const char *server_name(struct up *u, const char *name, size_t name_n, uint64_t *number)
{
    if (!u->renames)
        return NULL;
    if (!name_n)
        return unnamed_for(u);
    struct prep_stmt *stmt = prep_names_find(u->c->names, name, name_n);
    if (!stmt)
        return NULL; /* made by SQL PREPARE in this transaction, or the server says 26000 */
    ensure(u, stmt);
    statement_begins(u, stmt->fingerprint, stmt->flags);
    const char *text = (const char *)stmt->rest;
    note_text(u, text, strnlen(text, stmt->rest_bytes), stmt->flags);
    note_flags(u, stmt->flags);
    *number = stmt->number;
    return stmt->name;
}

static void bind_one(struct up *u, const struct wire_msg *m, const struct wire_bind *b)
{
    uint64_t number = 0;
    count_add(&route_counters(u->c->route, u->c->hub)->ps_bind_count, 1);
    const char *name = server_name(u, b->statement, b->statement_n, &number);
    if (!b->statement_n)
        u->c->unnamed_at = view_of(NULL, 0); /* a later Sync need not keep it */
    owe(u, OWED_BIND, OWED_PASS, number, 0);
    if (!name) {
        pass(u, m);
        return;
    }
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_bind_head(&u->g.own, b, m->body_n, name);
    gather_own(&u->g, before);
    gather_pass(&u->g, m->body.at + b->tail_at, m->body.n - b->tail_at);
}

static void describe(struct up *u, const struct wire_msg *m, const struct wire_target *t)
{
    uint64_t number = 0;
    const char *name = t->kind == 'S' ? server_name(u, t->name, t->name_n, &number) : NULL;
    owe(u, OWED_DESCRIBE, OWED_PASS, number, 0);
    if (!name) {
        pass(u, m);
        return;
    }
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_target(&u->g.own, 'D', 'S', name);
    gather_own(&u->g, before);
}

/* A statement's name is the client's alone: the server keeps the statement for others. */
static void close_target(struct up *u, const struct wire_msg *m, const struct wire_target *t)
{
    if (t->kind == 'S' && t->name_n && u->renames &&
        prep_names_find(u->c->names, t->name, t->name_n)) {
        prep_names_remove(&u->c->names, t->name, t->name_n);
        owe(u, OWED_CLOSE, OWED_FAKE, 0, 0);
        return;
    }
    owe(u, OWED_CLOSE, OWED_PASS, 0, 0);
    pass(u, m);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

/* DEALLOCATE in SQL, of a name given by the protocol: the name is the client's alone, and the
 * server keeps the statement for others. So that the answer is the server's own, it deallocates one
 * made for the purpose; a Sync in between, as what goes wrong with that one must not swallow the
 * query. */
static void deallocate(struct up *u, const char *name)
{
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_parse_text(&u->g.own, SPARE_STATEMENT, "SELECT 1") ||
                 !wire_put_empty(&u->g.own, 'S') ||
                 !wire_put_query(&u->g.own, "DEALLOCATE " SPARE_STATEMENT);
    gather_own(&u->g, before);
    owe(u, OWED_PARSE, OWED_SKIP, 0, 0);
    owe(u, OWED_SYNC, OWED_SKIP, 0, 0);
    prep_names_remove(&u->c->names, name, strlen(name));
}

/* What follows the name in `EXECUTE name ...`; NULL where the statement does not begin so. */
static const char *behind_name(const char *sql)
{
    static const char verb[] = "execute";
    sql += strspn(sql, " \t\r\n");
    if (strncasecmp(sql, verb, sizeof verb - 1) != 0)
        return NULL;
    sql += sizeof verb - 1;
    size_t blanks_n = strspn(sql, " \t\r\n");
    sql += blanks_n;
    if (*sql == '"') {
        const char *end = strchr(sql + 1, '"');
        return end ? end + 1 : NULL;
    }
    return blanks_n ? sql + strcspn(sql, " \t\r\n(;") : NULL;
}

/* EXECUTE in SQL of such a name means the server's name for it. */
static bool execute(struct up *u, const char *sql, struct prep_stmt *stmt)
{
    char text[WIRE_SQL_PEEK + PREP_NAME_BYTES + 16];
    const char *rest = behind_name(sql);
    if (!rest)
        return false;
    ensure(u, stmt);
    note_flags(u, stmt->flags);
    u->s->sql_flags |= stmt->flags;
    snprintf(text, sizeof text, "EXECUTE %s%s", stmt->name, rest);
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_empty(&u->g.own, 'S') || !wire_put_query(&u->g.own, text);
    gather_own(&u->g, before);
    owe(u, OWED_SYNC, OWED_SKIP, 0, 0);
    return true;
}

/* A statement in SQL about a name given by the protocol. */
static bool query_renamed(struct up *u, const struct wire_text *q, const struct sql_info *info)
{
    if (!u->renames || !(info->first & (SQL_DEALLOCATE | SQL_EXECUTE)) || info->statements_n != 1 ||
        q->cut)
        return false;
    struct prep_stmt *stmt = prep_names_find(u->c->names, info->name, strlen(info->name));
    if (!stmt)
        return false;
    if (info->first & SQL_EXECUTE)
        return execute(u, q->text, stmt);
    deallocate(u, info->name);
    return true;
}

static void query(struct up *u, const struct wire_msg *m, const struct wire_text *q)
{
    struct sql_info scanned;
    const struct sql_info *info = scan(u->c->hub, q->text, q->text_n, q->cut, &scanned);
    texts_note(info->fingerprint, q->text, q->text_n);
    statement_begins(u, info->fingerprint, info->flags);
    note_text(u, q->text, q->text_n, info->flags);
    note_flags(u, info->flags);
    u->s->unnamed_of = 0;   /* a simple query destroys it */
    u->s->unsynced = false; /* and its ReadyForQuery answers for what came before */
    bool renamed = query_renamed(u, q, info);
    owe(u, OWED_QUERY, OWED_PASS, 0, 0);
    if (!renamed)
        pass(u, m);
    u->c->body_passes = !renamed;
}

/* Copies an unnamed statement that waits for its Bind, as the bytes it lies in are about to go. */
static void keep_unnamed(struct client *c)
{
    if (!c->unnamed_at.n)
        return;
    c->unnamed.max = UNNAMED_BYTES_MAX;
    buf_free(&c->unnamed);
    if (!buf_put_view(&c->unnamed, c->unnamed_at))
        buf_free(&c->unnamed); /* its Bind will be answered 26000 */
    c->unnamed_at = view_of(NULL, 0);
}

static void sync_one(struct up *u, const struct wire_msg *m)
{
    keep_unnamed(u->c);
    pass(u, m);
    if (u->s->copy_in)
        return; /* the server ignores it while it takes CopyData */
    owe(u, OWED_SYNC, OWED_PASS, 0, 0);
    u->s->skipping = false;
    u->s->unsynced = false;
}

/* What the server skips needs no entry and no names: it is sent as it came. */
static bool is_skipped(const struct up *u, const struct wire_msg *m)
{
    return u->s->skipping && m->type != 'S';
}

static bool extended(struct up *u, const struct wire_msg *m)
{
    struct wire_parse p;
    struct wire_bind b;
    struct wire_target t;
    u->s->unsynced = true;
    switch (m->type) {
    case 'P':
        if (!wire_read_parse(m, &p))
            return false;
        parse_one(u, m, &p);
        return true;
    case 'B':
        if (!wire_read_bind(m, &b))
            return false;
        bind_one(u, m, &b);
        return true;
    case 'D':
        if (!wire_read_target(m, &t))
            return false;
        describe(u, m, &t);
        return true;
    case 'C':
        if (!wire_read_target(m, &t))
            return false;
        close_target(u, m, &t);
        return true;
    default: /* Execute */
        if (!u->c->stmt_started_us)
            statement_begins(u, u->c->stmt_fingerprint, 0);
        owe(u, OWED_EXECUTE, OWED_PASS, 0, 0);
        pass(u, m);
        return true;
    }
}

/* False: the message is malformed. */
static bool handle(struct up *u, const struct wire_msg *m)
{
    struct wire_text q;
    u->c->body_passes = true;
    if (is_skipped(u, m)) {
        pass(u, m);
        return true;
    }
    switch (m->type) {
    case 'Q':
        if (!wire_read_query(m, &q))
            return false;
        query(u, m, &q);
        return true;
    case 'P':
    case 'B':
    case 'D':
    case 'C':
    case 'E':
        return extended(u, m);
    case 'S':
        sync_one(u, m);
        return true;
    case 'F':
        statement_begins(u, 0, SQL_WRITE | SQL_DO);
        u->s->unsynced = false;
        note_flags(u, SQL_DO); /* any function may have been called */
        owe(u, OWED_CALL, OWED_PASS, 0, 0);
        pass(u, m);
        return true;
    case 'c':
    case 'f':
        u->s->copy_in = false;
        pass(u, m);
        return true;
    case 'H':
    case 'd':
        pass(u, m);
        return true;
    default:
        return false;
    }
}

/* A named Parse is needed whole, as it is kept; an unnamed one as well, if it may have to be. */
static bool wants_more(const struct up *u, const struct wire_msg *m)
{
    if (m->type != 'P' || !u->renames || wire_is_whole(m))
        return false;
    return m->body_n <= (m->body.at[0] ? PREP_PARSE_BYTES_MAX : UNNAMED_BYTES_MAX);
}

/* Flush: what the server has not answered yet, it answers now. */
static void ask_for_answers(struct up *u)
{
    uint32_t before = buf_used(&u->g.own);
    u->failed |= !wire_put_empty(&u->g.own, 'H');
    gather_own(&u->g, before);
}

/* A Parse of a name that is taken is answered by the server itself, if what took the name is there.
 * So that has to be known first: a failed Parse gives its name back. */
static bool name_in_doubt(struct up *u, const struct wire_msg *m)
{
    struct wire_parse p;
    if (m->type != 'P' || !u->renames || !owed_n(&u->s->owed) || u->s->skipping ||
        !wire_read_parse(m, &p) || !p.name_n || !prep_names_find(u->c->names, p.name, p.name_n))
        return false;
    ask_for_answers(u);
    return true;
}

static enum relay_verdict verdict_of(struct up *u, enum relay_verdict so_far)
{
    switch (gather_end(&u->g)) {
    case NET_ERROR:
    case NET_EOF:
        return RELAY_LOST_SERVER;
    case NET_AGAIN:
        return so_far == RELAY_OK ? RELAY_SLOW : so_far;
    case NET_OK:
        break;
    }
    return u->failed ? RELAY_MEMORY : so_far;
}

/* DISCARD ALL and DEALLOCATE ALL change what every later message means once they have run: those
 * wait. And a server that owes very many answers is asked for them first. */
static bool must_wait(struct up *u)
{
    struct server *s = u->s;
    if (s->barrier && !s->unsynced) {
        s->barrier = owed_n(&s->owed) > 0;
        return s->barrier;
    }
    if (owed_n(&s->owed) <= OWED_MAX - 8) /* what one message can add at most, with room */
        return false;
    ask_for_answers(u);
    return true;
}

enum relay_verdict relay_up(struct client *c, struct view *in)
{
    struct up u; /* not its pieces: most batches have one, and there is room for many */
    enum relay_verdict verdict = RELAY_OK;
    const struct config_globals *globals = &c->hub->config->globals;
    uint32_t body_max =
        (uint32_t)(globals->max_packet_size > INT32_MAX ? INT32_MAX : globals->max_packet_size);
    u.c = c;
    u.s = c->server;
    u.renames = c->renames;
    u.failed = false;
    gather_begin(&u.g, &u.s->net);
    while (in->n && verdict == RELAY_OK && !u.failed) {
        struct wire_msg m;
        if (c->body_left) {
            struct view body = view_take_bytes(in, c->body_left < in->n ? c->body_left : in->n);
            c->body_left -= (uint32_t)body.n;
            if (c->body_passes)
                gather_pass(&u.g, body.at, body.n);
            continue;
        }
        if (must_wait(&u)) {
            verdict = RELAY_WAIT;
            break;
        }
        enum wire_verdict framed = wire_next(*in, wire_from_client, body_max, &m);
        if (framed == WIRE_BAD) {
            verdict = RELAY_BAD_CLIENT;
        } else if (framed == WIRE_MORE || wants_more(&u, &m)) {
            break;
        } else if (name_in_doubt(&u, &m)) {
            verdict = RELAY_WAIT;
        } else if (m.type == 'X') {
            verdict = RELAY_QUIT;
        } else if (!handle(&u, &m)) {
            verdict = RELAY_BAD_CLIENT;
        } else {
            view_take_bytes(in, WIRE_HEADER_BYTES + m.body.n);
            c->body_left = m.body_n - (uint32_t)m.body.n;
        }
    }
    keep_unnamed(c);
    u.s->up_cut = c->body_left > 0;
    count_add(&route_counters(c->route, c->hub)->client_bytes, u.g.bytes_n);
    return verdict_of(&u, verdict);
}

static uint32_t peek_text(const struct client *c, const char *text, size_t n, bool cut)
{
    struct hub *h = c->hub;
    sql_scan(text, n, cut, &h->peeked);
    h->peeked_at = c->feeding ? text : NULL; /* who feeds it forgets it before the text moves */
    h->peeked_bytes = n;
    return h->peeked.flags;
}

uint32_t relay_peek(const struct client *c, struct view in)
{
    struct wire_msg m;
    struct wire_text q;
    struct wire_parse p;
    struct wire_bind b;
    const struct prep_stmt *stmt = NULL;
    if (wire_next(in, wire_from_client, INT32_MAX, &m) != WIRE_OK)
        return 0;
    if (m.type == 'Q' && wire_read_query(&m, &q))
        return peek_text(c, q.text, q.text_n, q.cut);
    if (m.type == 'P' && wire_read_parse(&m, &p))
        return peek_text(c, p.text, p.text_n, p.text_cut);
    if (m.type == 'B' && wire_read_bind(&m, &b))
        stmt = prep_names_find(c->names, b.statement, b.statement_n);
    return stmt ? stmt->flags : 0;
}

bool relay_begins(const struct client *c, struct view in)
{
    struct wire_msg m;
    return !c->body_left && wire_next(in, wire_from_client, INT32_MAX, &m) == WIRE_OK && m.type &&
           strchr("QPBDCEF", m.type);
}

bool relay_can_wait(const struct client *c, struct view in)
{
    struct wire_msg m;
    struct wire_bind b;
    uint32_t flags = 0;
    if (c->body_left || wire_next(in, wire_from_client, INT32_MAX, &m) != WIRE_OK)
        return false;
    switch (m.type) {
    case 'Q':
    case 'P':
        flags = relay_peek(c, in);
        break;
    case 'B':
        if (!wire_read_bind(&m, &b))
            return false;
        if (c->renames && !b.statement_n)
            flags = c->unnamed_flags;
        else if (c->renames && prep_names_find(c->names, b.statement, b.statement_n))
            flags = relay_peek(c, in);
        else if (c->server->tx != 'I')
            return false;
        break;
    case 'E': /* more of a portal: what it was bound to has begun already */
        break;
    default:
        return false;
    }
    return !(flags & (SQL_COMMIT | SQL_ROLLBACK));
}
