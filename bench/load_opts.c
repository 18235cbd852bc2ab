#include "bench/load_opts.h"

#include "bench/opt.h"

#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "load CONNINFO [--rate=N/s] [--profile=SECONDS:FACTOR,...] [--seconds=N] [--conns=N]\n"
    "     [--timeout-ms=N] [--attempts=N] [--backoff-ms=N] [--protocol=simple|extended|prepared]\n"
    "     [--mix=POINT,RANGE,SUM,UPDATE] [--accounts=N] [--sql=TEXT] [--bin=SECONDS]\n"
    "     [--marks=S,S] [--csv=FILE] [--seed=N] [--fixed] [--closed] [--keep]\n";

static bool parse_profile(void *profile, char *text)
{
    struct profile *p = profile;
    p->n = 0;
    while (*text && p->n < PROFILE_MAX) {
        char *end;
        double at_s = strtod(text, &end);
        if (end == text || *end != ':' || (p->n && at_s < p->points[p->n - 1].at_s))
            return false;
        p->points[p->n].at_s = at_s;
        p->points[p->n].factor = strtod(end + 1, &text);
        if (text == end + 1 || (*text && *text != ',') || !(p->points[p->n].factor > 0))
            return false;
        p->n++;
        text += *text == ',';
    }
    return p->n && !*text;
}

static bool parse_protocol(void *mix, char *text)
{
    return mix_parse_protocol(mix, text);
}

static bool parse_percent(void *mix, char *text)
{
    return mix_parse_percent(mix, text);
}

bool load_opts_parse(struct load_opts *o, int argc, char **argv)
{
    *o = (struct load_opts){
        .rate = 1000,
        .seconds = 10,
        .bin_s = 1,
        .conns_n = 20,
        .attempts_n = 3,
        .mix = {.percent = {40, 20, 30, 10}, .protocol = MIX_EXTENDED, .accounts_n = 100000},
        .timeout_us = US_PER_S,
        .backoff_us = 100 * US_PER_MS,
        .seed = 1};
    const struct opt table[] = {
        {"rate", OPT_REAL, &o->rate, .min = 0.001},
        {"profile", OPT_OWN, &o->profile, .parse = parse_profile},
        {"seconds", OPT_REAL, &o->seconds, .min = 0.01},
        {"conns", OPT_COUNT, &o->conns_n, .min = 1, .max = LOAD_CONNS_MAX},
        {"timeout-ms", OPT_MS, &o->timeout_us, .min = 0.001},
        {"attempts", OPT_COUNT, &o->attempts_n, .min = 1, .max = 100},
        {"backoff-ms", OPT_MS, &o->backoff_us, .min = 0.001},
        {"protocol", OPT_OWN, &o->mix, .parse = parse_protocol},
        {"mix", OPT_OWN, &o->mix, .parse = parse_percent},
        {"accounts", OPT_COUNT, &o->mix.accounts_n, .min = 1},
        {"sql", OPT_TEXT, .into = &o->mix.given},
        {"bin", OPT_REAL, &o->bin_s, .min = 0.01},
        {"marks", OPT_OWN, &o->marks, .parse = tally_parse_marks},
        {"csv", OPT_TEXT, .into = &o->csv},
        {"seed", OPT_SEED, .into = &o->seed},
        {"fixed", OPT_FLAG, .into = &o->fixed},
        {"closed", OPT_FLAG, .into = &o->closed},
        {"keep", OPT_FLAG, .into = &o->keep},
    };
    if (opt_parse(table, COUNT_OF(table), argc, argv, &o->conninfo) &&
        o->seconds / o->bin_s <= TALLY_BINS_MAX)
        return true;
    fputs(usage, stderr);
    return false;
}

static double profile_factor(const struct profile *p, double at_s)
{
    uint32_t i = 0;
    while (i < p->n && p->points[i].at_s <= at_s)
        i++;
    if (i == 0)
        return p->n ? p->points[0].factor : 1;
    if (i == p->n)
        return p->points[i - 1].factor;
    double from_s = p->points[i - 1].at_s, from = p->points[i - 1].factor;
    double share = (at_s - from_s) / (p->points[i].at_s - from_s);
    return from + share * (p->points[i].factor - from);
}

double load_opts_rate(const struct load_opts *o, double at_s)
{
    return o->rate * profile_factor(&o->profile, at_s);
}
