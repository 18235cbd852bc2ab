#include "bench/opt.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 32 };

bool opt_parse_list(void *list, char *text)
{
    struct opt_list *l = list;
    l->n = 0;
    while (text && l->n < OPT_LIST_MAX)
        l->at[l->n++] = strsep(&text, ",");
    return !text;
}

bool opt_parse_more(void *list, char *text)
{
    struct opt_list *l = list;
    if (l->n == OPT_LIST_MAX)
        return false;
    l->at[l->n++] = text;
    return true;
}

/* The whole text as a number within the option's bounds. */
static bool parse_number(const struct opt *o, const char *text, double *out)
{
    char *end;
    double max = o->max > 0 ? o->max : 1e9;
    *out = strtod(text, &end);
    return end != text && !*end && *out >= o->min && *out <= max;
}

static bool opt_take(const struct opt *o, char *text)
{
    double number = 0;
    switch (o->kind) {
    case OPT_REAL:
        return parse_number(o, text, o->into);
    case OPT_COUNT:
        if (!parse_number(o, text, &number))
            return false;
        *(uint32_t *)o->into = (uint32_t)number;
        return true;
    case OPT_SEED:
        if (!parse_number(o, text, &number) || number < 1)
            return false;
        *(uint64_t *)o->into = (uint64_t)number;
        return true;
    case OPT_MS:
        if (!parse_number(o, text, &number))
            return false;
        *(uint64_t *)o->into = (uint64_t)(number * US_PER_MS);
        return true;
    case OPT_TEXT:
        *(const char **)o->into = text;
        return true;
    case OPT_FLAG:
        return *(bool *)o->into = true;
    case OPT_OWN:
        return o->parse(o->into, text);
    }
    return false;
}

bool opt_parse(const struct opt *table, uint32_t table_n, int argc, char **argv,
               const char **conninfo)
{
    struct option names[OPTIONS_MAX + 1] = {{0}};
    int got, at = 0;
    must(table_n <= OPTIONS_MAX);
    for (uint32_t i = 0; i < table_n; i++)
        names[i] = (struct option){.name = table[i].name, .has_arg = table[i].kind != OPT_FLAG};
    while ((got = getopt_long(argc, argv, "", names, &at)) != -1)
        if (got != 0 || !opt_take(&table[at], optarg))
            return false;
    if (optind + 1 != argc)
        return false;
    *conninfo = argv[optind];
    return true;
}
