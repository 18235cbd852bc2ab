/* Bytes as a stream of messages in one direction: framing and every reader. A prefix of the stream
 * must be judged like the stream itself, and what can be written back must come out as it came in.
 */
#include "tests/wire_readers.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A shorter view of the same message: never BAD where the longer was OK, never another message. */
static void check_prefix(struct view in, const struct wire_rule *rules, const struct wire_msg *m)
{
    struct wire_msg part = {0};
    size_t cut = (m->body_n * 7 + m->type) % (in.n + 1);
    uint8_t *copy = malloc(cut ? cut : 1); /* of its own, so that its end is guarded */

    memcpy(copy, in.at, cut);
    enum wire_verdict verdict = wire_next(view_of(copy, cut), rules, 1 << 20, &part);
    must(verdict != WIRE_BAD);
    if (cut >= WIRE_HEADER_BYTES) {
        must(part.type == m->type && part.body_n == m->body_n && part.need_n == m->need_n);
        must((verdict == WIRE_OK) == (cut >= part.need_n));
        (void)readers_run(rules, &part);
    }
    free(copy);
}

static void check_same(const struct buf *b, const struct wire_msg *m)
{
    must(buf_used(b) == WIRE_HEADER_BYTES + m->body_n);
    must(memcmp(buf_view(b).at, m->body.at - WIRE_HEADER_BYTES, buf_used(b)) == 0);
}

/* put(read(x)) == x */
static void check_way_back(const struct wire_rule *rules, const struct wire_msg *m)
{
    struct buf b = {.max = 1 << 21};
    struct wire_parse parse;
    struct wire_bind bind;
    struct wire_target target;
    struct wire_pair pair;

    if (rules == wire_from_server && m->type == 'S' && wire_read_parameter(m, &pair)) {
        must(wire_put_parameter(&b, pair.name, pair.value));
        check_same(&b, m);
    } else if (rules == wire_from_server || !wire_is_whole(m)) {
        return;
    } else if (m->type == 'P' && wire_read_parse(m, &parse)) {
        must(wire_put_parse(&b, parse.name, parse.rest));
        check_same(&b, m);
    } else if (m->type == 'B' && wire_read_bind(m, &bind)) {
        must(wire_put_bind_head(&b, &bind, m->body_n, bind.statement));
        must(buf_put(&b, m->body.at + bind.tail_at, m->body_n - bind.tail_at));
        check_same(&b, m);
    } else if ((m->type == 'D' || m->type == 'C') && wire_read_target(m, &target)) {
        must(wire_put_target(&b, m->type, target.kind, target.name));
        check_same(&b, m);
    }
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct wire_rule *rules = n > 0 && data[0] % 2 ? wire_from_client : wire_from_server;
    struct view in = n > 0 ? view_of(data + 1, n - 1) : view_of(data, 0);
    struct wire_msg m = {0};

    while (wire_next(in, rules, 1 << 20, &m) == WIRE_OK) {
        must(m.body_n <= 1 << 20 && m.body.n <= m.body_n);
        check_prefix(in, rules, &m);
        if (readers_run(rules, &m))
            check_way_back(rules, &m);
        if (!wire_is_whole(&m))
            break;
        (void)view_take_bytes(&in, WIRE_HEADER_BYTES + m.body_n);
    }
    return 0;
}
