#include "bench/sim/engine.h"

#include "bench/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FANOUT = 4 }; /* of the heap: half as deep as a binary one, and children share a line */

void engine_init(struct engine *e, uint64_t seed)
{
    memset(e, 0, sizeof(*e));
    e->random = seed;
}

void engine_free(struct engine *e)
{
    free(e->heap);
    memset(e, 0, sizeof(*e));
}

/* ---- heap ---------------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order_n < b->order_n;
}

static void put(struct engine *e, uint32_t i, struct event *ev)
{
    e->heap[i] = ev;
    ev->heap_i = i + 1;
}

static void rise(struct engine *e, uint32_t i, struct event *ev)
{
    while (i > 0) {
        uint32_t parent_i = (i - 1) / FANOUT;
        if (!before(ev, e->heap[parent_i]))
            break;
        put(e, i, e->heap[parent_i]);
        i = parent_i;
    }
    put(e, i, ev);
}

static void sink(struct engine *e, uint32_t i, struct event *ev)
{
    for (;;) {
        uint32_t child_i = i * FANOUT + 1, end_i = child_i + FANOUT, least_i = child_i;
        if (child_i >= e->heap_n)
            break;
        if (end_i > e->heap_n)
            end_i = e->heap_n;
        for (uint32_t k = child_i + 1; k < end_i; k++)
            if (before(e->heap[k], e->heap[least_i]))
                least_i = k;
        if (!before(e->heap[least_i], ev))
            break;
        put(e, i, e->heap[least_i]);
        i = least_i;
    }
    put(e, i, ev);
}

static void take_out(struct engine *e, struct event *ev)
{
    uint32_t i = ev->heap_i - 1;
    must(i < e->heap_n && e->heap[i] == ev);
    struct event *last = e->heap[--e->heap_n];
    ev->heap_i = 0;
    if (last == ev)
        return;
    if (i > 0 && before(last, e->heap[(i - 1) / FANOUT]))
        rise(e, i, last);
    else
        sink(e, i, last);
}

void engine_at(struct engine *e, struct event *ev, uint64_t at_us, event_fn fn)
{
    must(!engine_is_set(ev));
    if (e->heap_n == e->heap_cap_n) {
        e->heap_cap_n = e->heap_cap_n ? 2 * e->heap_cap_n : 1024;
        e->heap = realloc(e->heap, e->heap_cap_n * sizeof(struct event *));
        must(e->heap != NULL);
    }
    ev->at_us = at_us > e->now_us ? at_us : e->now_us;
    ev->order_n = e->order_n++;
    ev->fn = fn;
    rise(e, e->heap_n++, ev);
}

void engine_off(struct engine *e, struct event *ev)
{
    if (engine_is_set(ev))
        take_out(e, ev);
}

void engine_run(struct engine *e, uint64_t until_us)
{
    while (e->heap_n > 0 && e->heap[0]->at_us <= until_us) {
        struct event *ev = e->heap[0];
        e->now_us = ev->at_us;
        e->events_n++;
        take_out(e, ev);
        ev->fn(e, ev);
    }
    e->now_us = until_us;
}

/* ---- chance -------------------------------------------------------------------------------- */

uint64_t engine_random(struct engine *e)
{
    return random_next(&e->random);
}

double engine_exponential(struct engine *e, double mean)
{
    return -mean * log(1 - engine_uniform(e));
}

uint32_t engine_poisson(struct engine *e, double mean)
{
    if (mean >= 30) { /* a normal distribution is near enough, and does not take mean steps */
        double u = engine_uniform(e), v = engine_uniform(e);
        double normal = sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
        double n = mean + normal * sqrt(mean);
        return n > 0 ? (uint32_t)n : 0;
    }
    double limit = exp(-mean), p = engine_uniform(e);
    uint32_t n = 0;
    while (p > limit) {
        n++;
        p *= engine_uniform(e);
    }
    return n;
}
