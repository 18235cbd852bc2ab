/* Bytes as the first packet of a connection, its parameters, and as a value of `options`. */
#include "proxy/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void run_options(struct view options)
{
    struct wire_option option;

    while (wire_option_next(&options, &option)) {
        must(strlen(option.name) > 0 && strlen(option.name) < sizeof(option.name));
        must(strlen(option.value) < sizeof(option.value));
    }
}

/* The parameters, written anew, are the packet. */
static void run_params(struct view in, struct wire_startup *s)
{
    enum { PARAMS_MAX = 64 };
    struct wire_param params[PARAMS_MAX];
    struct buf b = {.max = 2 * WIRE_STARTUP_BYTES_MAX};
    size_t n = 0;

    while (n < PARAMS_MAX && wire_param_next(&s->params, &params[n])) {
        if (strcmp(params[n].name, "options") == 0)
            run_options(view_of_cstr(params[n].value));
        n++;
    }
    if (n == PARAMS_MAX || s->params.bad)
        return;
    must(wire_put_startup(&b, s->minor, params, n));
    must(buf_used(&b) == s->packet_n);
    must(memcmp(buf_view(&b).at, in.at, s->packet_n) == 0);
    buf_free(&b);
}

/* What is whole is not there a byte earlier. */
static void check_prefix(struct view in, const struct wire_startup *s)
{
    size_t cut = s->packet_n > 0 ? (size_t)(in.at[3] * 31u) % s->packet_n : 0;
    uint8_t *copy = malloc(cut ? cut : 1);
    struct wire_startup part;

    memcpy(copy, in.at, cut);
    must(wire_startup(view_of(copy, cut), &part) == WIRE_MORE);
    must(part.packet_n == 0 || part.packet_n == s->packet_n);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct view in = view_of(data, n);
    struct wire_startup s;

    run_options(in);
    if (wire_startup(in, &s) != WIRE_OK)
        return 0;
    must(s.packet_n <= n);
    must((s.packet_n == 0) == (s.hello == WIRE_HELLO_TLS));
    check_prefix(in, &s);
    if (s.hello == WIRE_HELLO_STARTUP)
        run_params(in, &s);
    if (s.hello == WIRE_HELLO_CANCEL)
        must(s.key.n >= 4 && s.key.n <= WIRE_KEY_MAX);
    return 0;
}
