#include "bench/tally.h"

#include <stdlib.h>
#include <string.h>

void tally_open(struct tally *t, uint64_t start_us, uint64_t bin_us, uint64_t length_us)
{
    uint64_t bins_n = (length_us + bin_us - 1) / bin_us + 1;
    *t = (struct tally){.start_us = start_us, .bin_us = bin_us};
    t->bins_n = bins_n < TALLY_BINS_MAX ? (uint32_t)bins_n : TALLY_BINS_MAX;
    t->bins = calloc(t->bins_n, sizeof *t->bins);
    must(t->bins);
}

void tally_close(struct tally *t)
{
    free(t->bins);
    t->bins = NULL;
}

struct tally_bin *tally_bin_at(struct tally *t, uint64_t at_us)
{
    uint64_t bin_i = at_us < t->start_us ? 0 : (at_us - t->start_us) / t->bin_us;
    return &t->bins[bin_i < t->bins_n ? bin_i : t->bins_n - 1];
}

void tally_error(struct tally *t, uint64_t at_us, const char *sqlstate)
{
    uint32_t code_i = 0;
    while (code_i < t->codes_n && strncmp(t->codes[code_i], sqlstate, sizeof t->codes[0] - 1))
        code_i++;
    if (code_i == t->codes_n) {
        if (code_i == TALLY_CODES_MAX - 1)
            sqlstate = "other"; /* the last column takes all that come after it */
        if (t->codes_n < TALLY_CODES_MAX)
            snprintf(t->codes[t->codes_n++], sizeof t->codes[0], "%s", sqlstate);
        else
            code_i = TALLY_CODES_MAX - 1;
    }
    tally_bin_at(t, at_us)->errors[code_i]++;
}

/* code:count;code:count of one bin, or nothing */
static void tally_print_errors(const struct tally *t, const struct tally_bin *bin, FILE *out)
{
    const char *between = "";
    for (uint32_t i = 0; i < t->codes_n; i++) {
        if (!bin->errors[i])
            continue;
        fprintf(out, "%s%s:%u", between, t->codes[i], bin->errors[i]);
        between = ";";
    }
}

bool tally_write_csv(const struct tally *t, const char *path)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return false;
    fprintf(out, "t,offered,served,failed,gaveup,retries,connects,bytes,"
                 "p50_ms,p99_ms,max_ms,errors\n");
    for (uint32_t i = 0; i + 1 < t->bins_n; i++) {
        const struct tally_bin *bin = &t->bins[i];
        fprintf(out, "%.3f,%u,%u,%u,%u,%u,%u,%llu,%.3f,%.3f,%.3f,", (double)(i * t->bin_us) / 1e6,
                bin->offered, bin->served, bin->failed, bin->gaveup, bin->retries, bin->connects,
                (unsigned long long)bin->bytes, (double)hist_quantile(&bin->latency, 0.5) / 1e3,
                (double)hist_quantile(&bin->latency, 0.99) / 1e3,
                (double)bin->latency.us_max / 1e3);
        tally_print_errors(t, bin, out);
        fputc('\n', out);
    }
    return fclose(out) == 0;
}

static void tally_sum(struct tally_bin *sum, const struct tally_bin *bin)
{
    sum->offered += bin->offered;
    sum->served += bin->served;
    sum->failed += bin->failed;
    sum->gaveup += bin->gaveup;
    sum->retries += bin->retries;
    sum->connects += bin->connects;
    sum->bytes += bin->bytes;
    for (uint32_t i = 0; i < TALLY_CODES_MAX; i++)
        sum->errors[i] += bin->errors[i];
    hist_merge(&sum->latency, &bin->latency);
}

/* One JSON object for the bins [from_i, to_i). */
static void tally_print_span(const struct tally *t, uint32_t from_i, uint32_t to_i, FILE *out)
{
    struct tally_bin *sum = calloc(1, sizeof *sum);
    must(sum);
    for (uint32_t i = from_i; i < to_i && i < t->bins_n; i++)
        tally_sum(sum, &t->bins[i]);
    fprintf(out,
            "{\"from_s\": %.3f, \"to_s\": %.3f, \"offered\": %u, \"served\": %u, "
            "\"failed\": %u, \"gaveup\": %u, \"retries\": %u, \"connects\": %u, \"bytes\": %llu",
            (double)(from_i * t->bin_us) / 1e6, (double)(to_i * t->bin_us) / 1e6, sum->offered,
            sum->served, sum->failed, sum->gaveup, sum->retries, sum->connects,
            (unsigned long long)sum->bytes);
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    for (uint32_t i = 0; i < COUNT_OF(quantiles); i++)
        fprintf(out, ", \"%s_ms\": %.3f", quantiles[i].name,
                (double)hist_quantile(&sum->latency, quantiles[i].q) / 1e3);
    fprintf(out, ", \"errors\": {");
    const char *between = "";
    for (uint32_t i = 0; i < t->codes_n; i++) {
        if (!sum->errors[i])
            continue;
        fprintf(out, "%s\"%s\": %u", between, t->codes[i], sum->errors[i]);
        between = ", ";
    }
    fprintf(out, "}}");
    free(sum);
}

void tally_print_spans(const struct tally *t, const struct tally_marks *marks, FILE *out)
{
    uint32_t from_i = 0;
    uint32_t end_i = t->bins_n - 1; /* the last bin holds what came after the end */
    fprintf(out, "[");
    for (uint32_t i = 0; i < marks->n; i++) {
        uint32_t to_i = (uint32_t)(marks->at_s[i] * 1e6 / (double)t->bin_us + 0.5);
        if (to_i > end_i)
            to_i = end_i;
        tally_print_span(t, from_i, to_i, out);
        fprintf(out, ",\n ");
        from_i = to_i;
    }
    if (marks->n) {
        tally_print_span(t, from_i, end_i, out);
        fprintf(out, ",\n ");
    }
    tally_print_span(t, 0, end_i, out);
    fprintf(out, "]\n");
}

bool tally_parse_marks(void *marks, char *text)
{
    struct tally_marks *m = marks;
    m->n = 0;
    while (*text) {
        char *end;
        double mark_s = strtod(text, &end);
        bool ascending = !m->n || mark_s > m->at_s[m->n - 1];
        if (end == text || (*end && *end != ',') || !ascending || m->n == TALLY_MARKS_MAX)
            return false;
        m->at_s[m->n++] = mark_s;
        text = *end ? end + 1 : end;
    }
    return true;
}
