/* The simulator: `sim` prints the table of all scenarios under all policies, and the goals; then
 * what takes long, from one seed: a benign day, the best fixed byte rate beside the breaker's, a
 * fleet of a hundred.
 *
 *   sim [--scenario NAME,...] [--policy NAME,...] [--seed N] [--seeds K] [--trace]
 *   sim --list                 what there is
 *   sim --check                two seeds of the main scenarios under pgweir: exit status
 *   sim --fleet N [--rate R]   N proxies before one database, R users' requests a second each
 *   sim --knee NAME            the best fixed byte rate for a scenario, beside the breaker's
 *   sim --search N [--seed S]  N random scenarios, the worst five of them
 *   sim --bytes HEX [--seed S] one of those again, told
 *
 * A line of the table is the mean of K seeds from N on; the same seed is the same run again, and
 * --trace tells what the breakers did in it and when. The status is 0 when all goals are met. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/sim/fleet.h"
#include "bench/sim/goals.h"
#include "bench/sim/knee.h"
#include "bench/sim/policy.h"
#include "bench/sim/report.h"
#include "bench/sim/search.h"

enum { SEED = 11, SEEDS = 3, CHECK_SEEDS = 2, WANTED_MAX = 64, RATE = 10, FLEET = 100 };

struct wanted {
    const struct scenario *scenarios[WANTED_MAX];
    const struct policy *policies[WANTED_MAX];
    uint32_t scenarios_n, policies_n;
    uint64_t seed;
    uint32_t seeds_n;
    bool trace, table, whole; /* whole: nothing in particular */
    uint32_t fleet_n, search_n;
    const char *hex;
    const struct scenario *knee;
    double rate;
};

struct totals {
    uint32_t passed_n, failed_n;
    double virtual_s, cpu_s;
};

_Noreturn static void usage(void)
{
    fprintf(stderr, "usage: sim [--scenario NAME,...] [--policy NAME,...] [--seed N] [--seeds K]\n"
                    "           [--trace] | --list | --check | --fleet N [--rate R]\n"
                    "           | --knee NAME | --search N [--seed S] | --bytes HEX [--seed S]\n");
    exit(2);
}

static void one_seed(const struct wanted *w, const struct scenario *s, const struct policy *p,
                     uint64_t seed, struct result *out)
{
    run(&(struct world_opts){.scenario = s, .policy = p, .seed = seed, .trace = w->trace}, out);
}

static void one_policy(const struct wanted *w, const struct scenario *s, const struct policy *p,
                       struct goals *goals, struct totals *totals)
{
    struct report_row row = {.scenario = s, .policy = p};
    struct result result, capped;

    goals_init(goals, s, p);
    for (uint32_t i = 0; i < w->seeds_n; i++) {
        one_seed(w, s, p, w->seed + i, &result);
        report_add(&row, &result);
        if (!p->real)
            continue;
        one_seed(&(struct wanted){0}, s, &policy_static, w->seed + i, &capped);
        goals_add(goals, &result, &capped);
    }
    if (w->table)
        report_print(&row);
    totals->virtual_s += row.virtual_s;
    totals->cpu_s += row.cpu_s;
}

static int run_all(const struct wanted *w)
{
    struct goals *goals = calloc((size_t)w->scenarios_n * w->policies_n, sizeof(*goals));
    struct totals totals = {0};

    must(goals != NULL);
    for (uint32_t i = 0; i < w->scenarios_n; i++) {
        if (w->table)
            report_head(w->scenarios[i]);
        for (uint32_t k = 0; k < w->policies_n; k++)
            one_policy(w, w->scenarios[i], w->policies[k], &goals[i * w->policies_n + k], &totals);
    }
    putchar('\n');
    for (uint32_t i = 0; i < w->scenarios_n * w->policies_n; i++) {
        uint32_t failed_n = goals_print(&goals[i]);
        totals.failed_n += failed_n;
        totals.passed_n += goals[i].n + (goals[i].broken != NULL) - failed_n;
    }
    free(goals);
    printf("%.0f virtual minutes in %.1f s of CPU: %.0f a second\n", totals.virtual_s / 60,
           totals.cpu_s, totals.virtual_s / 60 / totals.cpu_s);
    printf("goals: %u met, %u not\n", totals.passed_n, totals.failed_n);
    return totals.failed_n > 0;
}

static int run_long(const struct wanted *w)
{
    struct wanted one = {.seed = w->seed, .seeds_n = 1, .table = true};

    for (uint32_t i = 0; i < scenarios_n; i++)
        if (scenarios[i]->on_demand)
            one.scenarios[one.scenarios_n++] = scenarios[i];
    for (uint32_t i = 0; i < POLICIES_N; i++)
        if (policies[i]->real)
            one.policies[one.policies_n++] = policies[i];
    int failed = run_all(&one);
    failed |= knee_run(scenario_find("S12"), w->seed, w->seeds_n) > 0;
    failed |= fleet_run(&(struct fleet_opts){.proxies_n = FLEET,
                                             .seed = w->seed,
                                             .policy = &policy_weir,
                                             .users_per_proxy = w->rate}) > 0;
    return failed;
}

/* ---- command line -------------------------------------------------------------------------- */

static void list(void)
{
    for (uint32_t i = 0; i < scenarios_n; i++)
        printf("%-10s %s\n", scenarios[i]->name, scenarios[i]->title);
    for (uint32_t i = 0; i < POLICIES_N; i++)
        printf("%-14s %s\n", policies[i]->name, policies[i]->title);
}

static void want_scenarios(struct wanted *w, char *names)
{
    char *at = NULL;

    w->whole = false;
    w->scenarios_n = 0;
    for (char *name = strtok_r(names, ",", &at); name != NULL; name = strtok_r(NULL, ",", &at)) {
        const struct scenario *s = scenario_find(name);
        if (s == NULL || w->scenarios_n == WANTED_MAX)
            usage();
        w->scenarios[w->scenarios_n++] = s;
    }
}

static void want_policies(struct wanted *w, char *names)
{
    char *at = NULL;

    w->whole = false;
    w->policies_n = 0;
    for (char *name = strtok_r(names, ",", &at); name != NULL; name = strtok_r(NULL, ",", &at)) {
        const struct policy *p = policy_find(name);
        if (p == NULL || w->policies_n == WANTED_MAX)
            usage();
        w->policies[w->policies_n++] = p;
    }
}

static void want_check(struct wanted *w)
{
    char main_scenarios[] = "S1,S2,S6,S7b,S8,S9,S10,S11,S13,S16,ddl,dumps,denied,patient,full";
    char real[] = "pgweir";

    want_scenarios(w, main_scenarios);
    want_policies(w, real);
    w->seeds_n = CHECK_SEEDS;
    w->table = true;
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || *end != '\0')
        usage();
    return n;
}

static int what_is_wanted(const struct wanted *w)
{
    uint32_t broken_n = 0;

    if (w->fleet_n > 0)
        return fleet_run(&(struct fleet_opts){.proxies_n = w->fleet_n,
                                              .seed = w->seed,
                                              .policy = w->policies[0],
                                              .users_per_proxy = w->rate,
                                              .trace = w->trace}) > 0;
    if (w->knee != NULL)
        return knee_run(w->knee, w->seed, w->seeds_n) > 0;
    if (w->search_n > 0)
        return search_run(&(struct search_opts){.tries_n = w->search_n, .seed = w->seed}) > 0;
    if (w->hex == NULL) {
        int failed = run_all(w);
        return w->whole ? failed | run_long(w) : failed;
    }
    if (!search_again(w->hex, w->seed, &broken_n))
        usage();
    return broken_n > 0;
}

int main(int argc, char **argv)
{
    struct wanted w = {.seed = SEED, .seeds_n = SEEDS, .table = true, .whole = true, .rate = RATE};

    for (uint32_t i = 0; i < scenarios_n; i++)
        if (!scenarios[i]->on_demand)
            w.scenarios[w.scenarios_n++] = scenarios[i];
    for (; w.policies_n < POLICIES_N; w.policies_n++)
        w.policies[w.policies_n] = policies[w.policies_n];
    for (int i = 1; i < argc; i++) {
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--list") == 0) {
            list();
            return 0;
        } else if (strcmp(argv[i], "--check") == 0) {
            want_check(&w);
        } else if (strcmp(argv[i], "--trace") == 0) {
            w.trace = true;
        } else if (value == NULL) {
            usage();
        } else if (strcmp(argv[i++], "--scenario") == 0) {
            want_scenarios(&w, value);
        } else if (strcmp(argv[i - 1], "--policy") == 0) {
            want_policies(&w, value);
        } else if (strcmp(argv[i - 1], "--seed") == 0) {
            w.seed = number(value);
        } else if (strcmp(argv[i - 1], "--fleet") == 0) {
            w.fleet_n = (uint32_t)number(value);
        } else if (strcmp(argv[i - 1], "--search") == 0) {
            w.search_n = (uint32_t)number(value);
        } else if (strcmp(argv[i - 1], "--knee") == 0) {
            w.knee = scenario_find(value);
            if (w.knee == NULL)
                usage();
        } else if (strcmp(argv[i - 1], "--bytes") == 0) {
            w.hex = value;
        } else if (strcmp(argv[i - 1], "--rate") == 0) {
            w.rate = (double)number(value);
        } else if (strcmp(argv[i - 1], "--seeds") == 0) {
            w.seeds_n = (uint32_t)number(value);
        } else {
            usage();
        }
    }
    return what_is_wanted(&w);
}
