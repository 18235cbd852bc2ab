/* What a load generator saw, in bins of time: counts, a latency histogram and errors by SQLSTATE;
 * written as one CSV line a bin, and summed between marks (calm | storm | calm) as JSON.
 *
 * Latency is the requester's: from the moment the request was meant to be made, not from the moment
 * a connection was free for it. A bin therefore holds what became of the requests that *arrived* in
 * it, however late their answer; errors are counted when they happen. */
#ifndef BENCH_TALLY_H
#define BENCH_TALLY_H

#include "bench/hist.h"
#include "breaker/base.h"

#include <stdio.h>

enum {
    TALLY_BINS_MAX = 4000, /* an hour in seconds; 28 MB of histograms */
    TALLY_CODES_MAX = 24,  /* different SQLSTATEs told apart in one run; the rest are "other" */
    TALLY_MARKS_MAX = 8,
};

struct tally_marks {
    uint32_t n;
    double at_s[TALLY_MARKS_MAX]; /* from the start, ascending */
};

struct tally_bin {
    uint32_t offered, served, failed, gaveup, retries, connects;
    uint64_t bytes;
    uint32_t errors[TALLY_CODES_MAX];
    struct hist latency;
};

struct tally {
    uint64_t start_us, bin_us;
    uint32_t bins_n;
    uint32_t codes_n;
    char codes[TALLY_CODES_MAX][8];
    struct tally_bin *bins;
};

/* bins_n follows from length_us, and one more bin takes what comes after the end. */
void tally_open(struct tally *t, uint64_t start_us, uint64_t bin_us, uint64_t length_us);
/* The bin of a moment; what comes after the end is put into the last bin. */
struct tally_bin *tally_bin_at(struct tally *t, uint64_t at_us);
void tally_error(struct tally *t, uint64_t at_us, const char *sqlstate);
MUST_USE bool tally_write_csv(const struct tally *t, const char *path);
/* "45,75" into a struct tally_marks; false where it is not that. A parse() of struct opt. */
bool tally_parse_marks(void *marks, char *text);
/* A JSON array: the spans between the marks, then the whole. */
void tally_print_spans(const struct tally *t, const struct tally_marks *marks, FILE *out);
void tally_close(struct tally *t);

#endif
