#include "bench/mix.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 5 };

enum statement_id { POINT, RANGE, SUM, BEGIN, UPDATE, HISTORY, COMMIT, GIVEN, STATEMENTS_N };
static const struct {
    const char *text;
    uint8_t params_n; /* of (aid, delta) */
} statements[STATEMENTS_N] = {
    [POINT] = {"SELECT abalance FROM pgbench_accounts WHERE aid = $1", 1},
    [RANGE] = {"SELECT aid, abalance, filler FROM pgbench_accounts"
               " WHERE aid >= $1 ORDER BY aid LIMIT 50",
               1},
    [SUM] = {"SELECT count(*), sum(abalance) FROM pgbench_accounts"
             " WHERE aid BETWEEN $1 AND $1 + 9999",
             1},
    [BEGIN] = {"BEGIN", 0},
    [UPDATE] = {"UPDATE pgbench_accounts SET abalance = abalance + $2 WHERE aid = $1", 2},
    [HISTORY] = {"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)"
                 " VALUES (1, 1, $1, $2, now())",
                 2},
    [COMMIT] = {"COMMIT", 0},
};

static const struct {
    uint8_t steps_n;
    uint8_t steps[STEPS_MAX];
} kinds[MIX_KINDS_N] = {
    [MIX_POINT] = {1, {POINT}}, [MIX_RANGE] = {1, {RANGE}},
    [MIX_SUM] = {1, {SUM}},     [MIX_UPDATE] = {5, {BEGIN, UPDATE, POINT, HISTORY, COMMIT}},
    [MIX_GIVEN] = {1, {GIVEN}},
};

bool mix_parse_percent(struct mix *mix, const char *text)
{
    unsigned long sum = 0;
    for (uint32_t i = 0; i < MIX_CHOICES_N; i++) {
        char *end;
        unsigned long percent = strtoul(text, &end, 10);
        if (end == text || percent > 100 || *end != (i + 1 < MIX_CHOICES_N ? ',' : 0))
            return false;
        mix->percent[i] = (uint32_t)percent;
        sum += percent;
        text = end + 1;
    }
    return sum == 100;
}

bool mix_parse_protocol(struct mix *mix, const char *text)
{
    static const char *const names[] = {"simple", "extended", "prepared"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]))
            continue;
        mix->protocol = (enum mix_protocol)i;
        return true;
    }
    return false;
}

void mix_choose(const struct mix *mix, uint64_t random, struct mix_request *out)
{
    uint32_t at = (uint32_t)(random % 100);
    uint32_t kind = 0;
    while (kind + 1 < MIX_CHOICES_N && at >= mix->percent[kind])
        at -= mix->percent[kind++];
    out->kind = mix->given ? MIX_GIVEN : (enum mix_kind)kind;
    random /= 100; /* each use takes digits of its own */
    snprintf(out->aid, sizeof out->aid, "%" PRIu32, (uint32_t)(1 + random % mix->accounts_n));
    random /= mix->accounts_n;
    snprintf(out->delta, sizeof out->delta, "%d", (int)(random % 10000) - 5000);
}

uint32_t mix_steps_n(enum mix_kind kind)
{
    return kinds[kind].steps_n;
}

/* The statement with its parameters written into it: what the simple protocol sends. */
static void spell(char *out, size_t out_bytes, const char *text, const struct mix_request *r)
{
    size_t at = 0;
    while (*text && at + 1 < out_bytes) {
        if (*text != '$') {
            out[at++] = *text++;
            continue;
        }
        at += (size_t)snprintf(out + at, out_bytes - at, "%s", text[1] == '1' ? r->aid : r->delta);
        text += 2;
    }
    must(at < out_bytes);
    out[at] = 0;
}

bool mix_send(const struct mix *mix, const struct mix_request *request, uint32_t step_i,
              struct mix_prepared *prepared, PGconn *pg)
{
    must(step_i < kinds[request->kind].steps_n);
    uint8_t statement_i = kinds[request->kind].steps[step_i];
    const char *text = statement_i == GIVEN ? mix->given : statements[statement_i].text;
    int params_n = statements[statement_i].params_n;
    const char *params[] = {request->aid, request->delta};
    char name[8], spelt[256];

    prepared->preparing = false;
    if (statement_i == GIVEN && mix->protocol == MIX_SIMPLE)
        return PQsendQuery(pg, text);
    /* drivers begin and end transactions by simple queries, whatever they do in between */
    if (mix->protocol == MIX_SIMPLE || statement_i == BEGIN || statement_i == COMMIT) {
        spell(spelt, sizeof spelt, text, request);
        return PQsendQuery(pg, spelt);
    }
    if (mix->protocol == MIX_EXTENDED)
        return PQsendQueryParams(pg, text, params_n, NULL, params, NULL, NULL, 0);
    snprintf(name, sizeof name, "s%u", statement_i);
    if (prepared->statements & BIT(statement_i))
        return PQsendQueryPrepared(pg, name, params_n, params, NULL, NULL, 0);
    prepared->statements |= BIT(statement_i);
    prepared->preparing = true;
    return PQsendPrepare(pg, name, text, params_n, NULL);
}
