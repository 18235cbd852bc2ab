/* The adversary: scenarios made of bytes, tried by the hundred for the worst that the controller
 * does, compared with caps set by hand from the same seed. What it finds becomes a named one. */
#ifndef SIM_SEARCH_H
#define SIM_SEARCH_H

#include "bench/sim/scenarios.h"

enum { SEARCH_BYTES = 32 };

/* Any bytes make a scenario, the same ones the same; short input counts as zeros. Bounded: no more
 * than a hundred bulk jobs, 200 s, a surge no larger than what users could be served. */
void search_decode(struct scenario *out, const uint8_t *bytes, size_t bytes_n);

struct search_opts {
    uint32_t tries_n;
    uint64_t seed;
};
/* Prints the worst ones, with their bytes; how many promises were broken. */
uint32_t search_run(const struct search_opts *opts);
/* "0a1b...": one of them again, with what the breakers did. False: no such bytes. */
MUST_USE bool search_again(const char *hex, uint64_t seed, uint32_t *broken_n);

#endif
