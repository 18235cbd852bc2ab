/* From server to client: see relay.h. An answer belongs to the head of server->owed; what it means
 * for the server (settings, errors, the end of a transaction) is noted as it passes. */
#include "proxy/relay.h"

#include <stdio.h>
#include <string.h>

#include "pool/pool.h"
#include "proxy/gather.h"
#include "proxy/pacer.h"
#include "proxy/refusal.h"
#include "proxy/route.h"
#include "proxy/vars.h"

enum { SETTING_BYTES_MAX = 4096 }; /* of a setting read back; longer ones end the server */

/* One call's working state. */
struct down {
    struct server *s;
    struct client *c; /* NULL: nobody listens */
    struct gather g;
    bool done;   /* ReadyForQuery came */
    bool broken; /* it answered something nobody asked */
    bool failed; /* out of memory */
};

/* ---- who gets it ------------------------------------------------------------------------------
 */

/* The client, if the answer that comes now is one to a request of its own. */
static bool passes(struct down *d)
{
    const struct owed_entry *head = owed_head(&d->s->owed);
    return d->c && d->s->state == SERVER_LINKED && (!head || head->to == OWED_PASS);
}

static void pass(struct down *d, const struct wire_msg *m)
{
    d->s->body_passes = passes(d);
    if (d->s->body_passes)
        gather_pass(&d->g, m->body.at - WIRE_HEADER_BYTES, WIRE_HEADER_BYTES + m->body.n);
}

/* Answers of our own whose turn has come. */
static void answer_fakes(struct down *d)
{
    struct owed_entry *head;
    while ((head = owed_head(&d->s->owed)) && head->to == OWED_FAKE) {
        uint32_t before = buf_used(&d->g.own);
        d->failed |= !wire_put_empty(&d->g.own, head->kind == OWED_PARSE ? '1' : '3');
        gather_own(&d->g, before);
        owed_pop(&d->s->owed);
    }
}

/* Passes the last message of an answer, and takes the request off. */
static void answered(struct down *d, const struct wire_msg *m, enum owed_kind kind)
{
    const struct owed_entry *head = owed_head(&d->s->owed);
    if (!head || head->kind != kind) {
        d->broken = true;
        return;
    }
    pass(d, m);
    owed_pop(&d->s->owed);
    answer_fakes(d);
}

/* Part of an answer: somebody must have asked. */
static void within(struct down *d, const struct wire_msg *m)
{
    if (!owed_head(&d->s->owed))
        d->broken = true;
    pass(d, m);
}

/* Ends the answer to an Execute; in the answer to a Query, it is one of several. */
static void result_ends(struct down *d, const struct wire_msg *m)
{
    const struct owed_entry *head = owed_head(&d->s->owed);
    if (head && head->kind == OWED_EXECUTE)
        answered(d, m, OWED_EXECUTE);
    else
        within(d, m);
}

static void described(struct down *d, const struct wire_msg *m)
{
    const struct owed_entry *head = owed_head(&d->s->owed);
    if (head && head->kind == OWED_DESCRIBE)
        answered(d, m, OWED_DESCRIBE);
    else
        within(d, m);
}

/* ---- errors -------------------------------------------------------------------------------------
 */

/* A request the server will not carry out: what it had registered was never there. */
static void undo(struct down *d, const struct owed_entry *e)
{
    if (e->kind != OWED_PARSE)
        return;
    if (e->stmt_number && e->to != OWED_FAKE)
        prep_cache_remove(&d->s->prep, e->stmt_number);
    if (e->name_serial && d->c)
        prep_names_forget(&d->c->names, e->name_serial);
}

/* After an error in the extended protocol the server ignores everything up to a Sync. */
static void skip_to_sync(struct down *d)
{
    struct owed *o = &d->s->owed;
    struct owed_entry *head;
    while ((head = owed_head(o)) && head->kind != OWED_SYNC) {
        struct owed_entry e = owed_pop(o);
        undo(d, &e);
        if (e.kind == OWED_PARSE && !e.stmt_number)
            d->s->unnamed_of = 0; /* it may be another's still */
        if (e.kind == OWED_CLOSE && e.to == OWED_SKIP)
            d->s->dirt |= SERVER_DIRT_SESSION; /* it has what our list says it has not */
    }
    if (!owed_n(o))
        d->s->skipping = true;
}

/* A plan that no longer fits its table fails on every server and for ever, unless it is made anew.
 */
static void outdate(struct down *d, const char *sqlstate, const struct owed_entry *head)
{
    bool stale = !strcmp(sqlstate, "0A000") || !strcmp(sqlstate, "26000");
    struct prep_stmt *stmt =
        stale && head->stmt_number ? prep_cache_stmt(d->s->prep, head->stmt_number) : NULL;
    if (stmt)
        prep_outdate(stmt);
}

/* Kept for the client, who shall stay when its server goes. */
static void note_fatal(struct down *d, const struct wire_error *e)
{
    struct server *s = d->s;
    s->fatal = true;
    err_set(&s->last_words, e->sqlstate && strlen(e->sqlstate) == 5 ? e->sqlstate : "08006", "%s",
            e->message ? e->message : "server connection ended");
}

/* The answer to a cancel of ours, in our words: why, and when to come again. A statement_timeout
 * looks the same but for its text, which is in whatever language lc_messages says: what comes
 * before our request has gone out is not ours, nor what comes after the time the statement was
 * known to have, while PostgreSQL has not done with our request. Behind that both have a part in
 * it, and our words are true as well. A client that has asked for it itself knows why. */
static bool is_ours(const struct down *d, const struct wire_error *e)
{
    const struct server *s = d->s;
    return s->cull_sent && !s->cancel_asked && d->c && !(s->culls_n && pacer_out_of_time(s)) &&
           e->sqlstate && !strcmp(e->sqlstate, "57014");
}

static void pass_error(struct down *d, const struct wire_msg *m, const struct wire_error *e)
{
    if (!passes(d) || !is_ours(d, e)) {
        pass(d, m);
        return;
    }
    uint32_t before = buf_used(&d->g.own);
    d->failed |= !refusal_put_cancelled(d->c, d->s->culled, &d->g.own);
    gather_own(&d->g, before);
    d->s->body_passes = false; /* the rest of theirs, if it has not come yet */
}

static void error(struct down *d, const struct wire_msg *m)
{
    struct server *s = d->s;
    struct wire_error e;
    if (!wire_read_error(m, &e)) {
        d->broken = true;
        return;
    }
    bool fatal = e.severity && (!strcmp(e.severity, "FATAL") || !strcmp(e.severity, "PANIC"));
    s->failed = true;
    s->copy_in = false;
    if (s->syncs_ahead) /* whether it answers them or has swallowed them cannot be known */
        s->tainted = true;
    if (fatal) {
        note_fatal(d, &e);
        s->body_passes = false;
        return;
    }
    const struct owed_entry *head = owed_head(&s->owed);
    if (!head) {
        d->broken = !s->skipping; /* an error of a message that needs no answer, such as CopyData */
        pass(d, m);
        return;
    }
    if (!passes(d) && s->state != SERVER_LINKED)
        err_set(&s->last_words, e.sqlstate && strlen(e.sqlstate) == 5 ? e.sqlstate : "XX000", "%s",
                e.message ? e.message : "");
    bool ours_for_client = head->to == OWED_SKIP && head->stmt_number;
    if (ours_for_client && d->c && s->state == SERVER_LINKED) {
        /* A Parse of ours for the client's Bind: the error is the client's to hear. */
        s->body_passes = true;
        gather_pass(&d->g, m->body.at - WIRE_HEADER_BYTES, WIRE_HEADER_BYTES + m->body.n);
    } else {
        pass_error(d, m, &e);
    }
    if (head->kind == OWED_QUERY || head->kind == OWED_CALL || head->kind == OWED_SYNC)
        return; /* ReadyForQuery follows by itself */
    outdate(d, e.sqlstate ? e.sqlstate : "", head);
    if (head->stmt_number && e.sqlstate && !strcmp(e.sqlstate, "42P05"))
        s->dirt |= SERVER_DIRT_SESSION; /* likewise */
    skip_to_sync(d);
}

/* ---- the rest -----------------------------------------------------------------------------------
 */

static void complete(struct down *d, const struct wire_msg *m)
{
    struct server *s = d->s;
    const char *tag;
    if (!wire_read_complete(m, &tag)) {
        d->broken = true;
        return;
    }
    uint32_t flags = sql_tag_flags(tag);
    s->copy_in = false;
    s->syncs_ahead = 0;
    if (flags & SQL_WRITE || s->in_doubt)
        atomic_store_explicit(&s->lease.tx_writes, flags & SQL_WRITE, memory_order_relaxed);
    s->in_doubt = false;
    /* "SET" may be SET LOCAL, or a setting that is reported: the text has been seen, and told. */
    if (flags & SQL_LEAVES_STATE & ~(uint32_t)SQL_SET)
        s->dirt |= SERVER_DIRT_SESSION;
    if (flags & (SQL_DISCARD_ALL | SQL_DEALLOCATE_ALL)) {
        prep_cache_free(&s->prep);
        s->unnamed_of = 0;
        if (d->c)
            prep_names_free(&d->c->names);
    }
    if (flags & SQL_DISCARD_ALL) {
        d->failed |= !vars_keep_tracked(&s->vars);
        if (d->c)
            d->failed |= !vars_keep_tracked(&d->c->vars);
    }
    result_ends(d, m);
}

static void parameter(struct down *d, const struct wire_msg *m)
{
    struct wire_pair p;
    if (!wire_read_parameter(m, &p)) {
        d->broken = true;
        return;
    }
    if (vars_tracked(p.name)) {
        d->failed |= !vars_set(&d->s->vars, p.name, p.value);
        if (passes(d))
            d->failed |= !vars_set(&d->c->vars, p.name, p.value);
    }
    pass(d, m);
}

/* In statement mode a transaction ends the session. Its client must hear why before it is told that
 * it may go on, or it sees only a closed connection. */
static bool ends_session(const struct down *d)
{
    if (d->s->tx == 'I' || !d->c)
        return false;
    const struct route_cell *cell = route_cell(d->c->route, d->c->hub);
    return cell->settings.pool_mode == POOL_MODE_STATEMENT;
}

static void ready(struct down *d, const struct wire_msg *m)
{
    struct server *s = d->s;
    const struct owed_entry *head = owed_head(&s->owed);
    if (!head && s->syncs_ahead && wire_read_ready(m, &s->tx)) {
        s->syncs_ahead--; /* a Sync sent ahead of a COPY that failed before it took data */
        s->skipping = false;
        pass(d, m);
        d->done = true;
        return;
    }
    if (!wire_read_ready(m, &s->tx) || !head ||
        (head->kind != OWED_QUERY && head->kind != OWED_SYNC && head->kind != OWED_CALL)) {
        d->broken = true;
        return;
    }
    s->copy_in = false;
    if (!ends_session(d))
        pass(d, m);
    owed_pop(&s->owed);
    answer_fakes(d);
    d->done = true;
}

static void copy_in_begins(struct down *d, const struct wire_msg *m)
{
    const struct owed_entry *head = owed_head(&d->s->owed);
    d->s->copy_in = true;
    if (head && (head->kind == OWED_EXECUTE || head->kind == OWED_QUERY))
        d->s->syncs_ahead += owed_drop_syncs(&d->s->owed); /* ignored while it takes data */
    within(d, m);
}

/* A row of name and value, of the settings its client made in this session. */
static void capture(struct down *d, const struct wire_msg *m)
{
    struct view columns, name, value;
    uint16_t columns_n;
    bool name_null, value_null;
    char pair[2][SETTING_BYTES_MAX];
    bool good = wire_read_row(m, &columns_n, &columns) && columns_n == 2 &&
                wire_value_next(&columns, &name, &name_null) &&
                wire_value_next(&columns, &value, &value_null) && !name_null && !value_null &&
                name.n < SETTING_BYTES_MAX && value.n < SETTING_BYTES_MAX;
    d->failed |= !good;
    if (!good)
        return;
    snprintf(pair[0], sizeof pair[0], "%.*s", (int)name.n, (const char *)name.at);
    snprintf(pair[1], sizeof pair[1], "%.*s", (int)value.n, (const char *)value.at);
    if (!vars_tracked(pair[0])) /* those are reported as they change */
        d->failed |= !vars_set(&d->s->captured, pair[0], pair[1]);
}

static void handle(struct down *d, const struct wire_msg *m)
{
    switch (m->type) {
    case 'D':
        if (d->s->captured)
            capture(d, m);
        within(d, m);
        return;
    case 'd':
    case 't':
    case 'V':
    case 'c':
        within(d, m);
        return;
    case 'H':
        atomic_store_explicit(&d->s->lease.stmt_copy_out, true, memory_order_relaxed);
        within(d, m);
        return;
    case 'G':
    case 'W':
        copy_in_begins(d, m);
        return;
    case 'T':
    case 'n':
        described(d, m);
        return;
    case 'C':
        complete(d, m);
        return;
    case 'I':
    case 's':
        result_ends(d, m);
        return;
    case '1':
        answered(d, m, OWED_PARSE);
        return;
    case '2':
        answered(d, m, OWED_BIND);
        return;
    case '3':
        answered(d, m, OWED_CLOSE);
        return;
    case 'Z':
        ready(d, m);
        return;
    case 'E':
        error(d, m);
        return;
    case 'S':
        parameter(d, m);
        return;
    case 'N':
    case 'A':
        pass(d, m);
        return;
    default: /* Authentication and its kind have no place here */
        d->broken = true;
        return;
    }
}

static enum relay_verdict verdict_of(struct down *d)
{
    struct server *s = d->s;
    enum net_verdict sent = gather_end(&d->g);
    if (d->broken)
        return RELAY_BAD_SERVER;
    if (d->failed)
        return RELAY_MEMORY;
    if (sent == NET_ERROR || sent == NET_EOF)
        return RELAY_LOST_CLIENT;
    if (d->done && !owed_n(&s->owed) && !s->body_left)
        return RELAY_DONE;
    return sent == NET_AGAIN ? RELAY_SLOW : RELAY_OK;
}

static void count(struct down *d)
{
    struct server *s = d->s;
    if (!d->g.bytes_n)
        return;
    struct pool_server *lease = &s->lease;
    count_add(&route_counters(s->route, s->hub)->server_bytes, d->g.bytes_n);
    uint64_t bytes_n =
        atomic_load_explicit(&lease->stmt_bytes, memory_order_relaxed) + d->g.bytes_n;
    atomic_store_explicit(&lease->stmt_bytes, bytes_n, memory_order_relaxed);
    atomic_store_explicit(&lease->last_byte_us, hub_now(s->hub), memory_order_relaxed);
    s->bytes_untold += d->g.bytes_n;
    s->tx_bytes += d->g.bytes_n;
    if (s->bytes_untold >= 64 << 10) {
        pool_bytes(lease, s->bytes_untold);
        s->bytes_untold = 0;
    }
}

/* Bytes of the messages of one type that stand in a row at the head of `in`: a result is nearly all
 * rows, and each of them is worth a look at its length and no more. *left: bytes of the last one
 * still to come; *rows_n: how many. 0: look closer. */
static size_t run_of(uint8_t type, struct view in, uint32_t *left, uint64_t *rows_n)
{
    size_t at = 0;
    *left = 0;
    *rows_n = 0;
    while (in.n - at >= WIRE_HEADER_BYTES && in.at[at] == type) {
        uint32_t length;
        memcpy(&length, in.at + at + 1, sizeof length);
        length = __builtin_bswap32(length);
        if (length < 4 || length > INT32_MAX)
            break;
        ++*rows_n;
        if (length >= in.n - at) {
            *left = (uint32_t)(length + 1 - (in.n - at));
            return in.n;
        }
        at += length + 1;
    }
    return at;
}

/* Rows of a result, as many as there are. False: something else comes. */
static bool rows(struct down *d, struct view *in)
{
    struct server *s = d->s;
    uint32_t left;
    if ((in->at[0] != 'D' && in->at[0] != 'd') || s->captured || !owed_head(&s->owed))
        return false;
    uint64_t rows_n;
    size_t n = run_of(in->at[0], *in, &left, &rows_n);
    if (!n)
        return false;
    s->tx_rows += rows_n;
    s->body_passes = passes(d);
    if (s->body_passes)
        gather_pass(&d->g, in->at, n);
    view_take_bytes(in, n);
    s->body_left = left;
    return true;
}

enum relay_verdict relay_down(struct server *s, struct view *in)
{
    struct down d; /* not its pieces: most batches have one, and there is room for many */
    d.s = s;
    d.c = s->client;
    d.done = d.broken = d.failed = false;
    gather_begin(&d.g, d.c ? &d.c->net : NULL);
    if (!s->body_left)
        answer_fakes(&d); /* a request answered by us alone may be all there is */
    while (in->n && !d.broken && !d.failed) {
        struct wire_msg m;
        if (s->body_left) {
            struct view body = view_take_bytes(in, s->body_left < in->n ? s->body_left : in->n);
            s->body_left -= (uint32_t)body.n;
            if (s->body_passes)
                gather_pass(&d.g, body.at, body.n);
            continue;
        }
        if (rows(&d, in))
            continue;
        enum wire_verdict framed = wire_next(*in, wire_from_server, INT32_MAX, &m);
        if (framed == WIRE_MORE)
            break;
        if (framed == WIRE_BAD) {
            d.broken = true;
            break;
        }
        if (s->captured && m.type == 'D' && !wire_is_whole(&m)) {
            d.failed = m.body_n > 2 * SETTING_BYTES_MAX;
            break;
        }
        handle(&d, &m);
        view_take_bytes(in, WIRE_HEADER_BYTES + m.body.n);
        s->body_left = m.body_n - (uint32_t)m.body.n;
    }
    count(&d);
    return verdict_of(&d);
}
