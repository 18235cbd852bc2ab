/* What a run of the load is: its command line. */
#ifndef BENCH_LOAD_OPTS_H
#define BENCH_LOAD_OPTS_H

#include "bench/mix.h"
#include "bench/tally.h"

enum { LOAD_CONNS_MAX = 4096 };

/* The rate over time: factors of --rate at moments, straight lines between them. */
enum { PROFILE_MAX = 16 };
struct profile {
    uint32_t n;
    struct {
        double at_s, factor;
    } points[PROFILE_MAX];
};

struct load_opts {
    const char *conninfo, *csv;
    double rate, seconds, bin_s;
    struct tally_marks marks;
    struct profile profile;
    uint32_t conns_n, attempts_n;
    uint64_t timeout_us, backoff_us, seed;
    struct mix mix;
    bool fixed, closed, keep;
};

/* Fills *o, defaults first; false: the usage was printed. */
MUST_USE bool load_opts_parse(struct load_opts *o, int argc, char **argv);
/* Arrivals a second at this moment. */
double load_opts_rate(const struct load_opts *o, double at_s);

#endif
