/* The seeded simulator of the pool: `sim --seeds FIRST..LAST [--events N] [--verbose]`.
 *
 * One seed is one world (world.h): the real pool and breakers under virtual time. What must hold is
 * checked after every event (check.h); a failure prints the seed and aborts, and the same seed
 * fails the same way again.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

static void usage(void)
{
    fprintf(stderr, "usage: sim [--seeds FIRST..LAST] [--events N] [--verbose]\n");
    exit(2);
}

static void print_totals(const struct sim_totals *t)
{
    printf("%llu events: %llu grants (%llu moved, %llu too late), %llu left, %llu demoted, "
           "%llu parked, longest wait %.1f s\n",
           (unsigned long long)t->events_n, (unsigned long long)t->grants_n,
           (unsigned long long)t->moved_n, (unsigned long long)t->late_mail_n,
           (unsigned long long)t->left_n, (unsigned long long)t->demoted_n,
           (unsigned long long)t->parked_n, (double)t->wait_us_max / US_PER_S);
    printf("servers: %llu opened, %llu failed, %llu closed, %llu died, %llu dead in the mail, "
           "%llu evicted\n",
           (unsigned long long)t->opened_n, (unsigned long long)t->failed_n,
           (unsigned long long)t->closed_n, (unsigned long long)t->deaths_n,
           (unsigned long long)t->shells_n, (unsigned long long)t->evicted_n);
    printf("refused:");
    for (uint32_t i = 1; i < POOL_REFUSALS_N; i++)
        printf(" %s %llu", show_refusal_name((enum pool_refusal)i),
               (unsigned long long)t->refused_n[i]);
    printf(
        "\n%llu administered, %llu outages, %llu probes, %llu calls with more to do, "
        "%llu floors, %llu tripped, %llu steady\n%llu jobs whole, %llu broken, longest to become "
        "whole %.1f s\n%llu statements marked to be cancelled\n",
        (unsigned long long)t->reloads_n, (unsigned long long)t->outages_n,
        (unsigned long long)t->probes_n, (unsigned long long)t->more_n,
        (unsigned long long)t->floors_n, (unsigned long long)t->held_n,
        (unsigned long long)t->steady_n, (unsigned long long)t->jobs_n,
        (unsigned long long)t->jobs_broken_n, (double)t->job_us_max / US_PER_S,
        (unsigned long long)t->culled_n);
}

int main(int argc, char **argv)
{
    unsigned long long first = 1, last = 1000;
    uint32_t events_n = 400;
    static struct world w;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            int n = sscanf(argv[++i], "%llu..%llu", &first, &last);
            if (n == 1)
                last = first;
            if (n < 1 || last < first)
                usage();
        } else if (strcmp(argv[i], "--events") == 0 && i + 1 < argc) {
            events_n = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--verbose") == 0) {
            w.verbose = true;
        } else {
            usage();
        }
    }
    for (unsigned long long seed = first; seed <= last; seed++)
        world_run(&w, seed, events_n);
    printf("seeds %llu..%llu ok\n", first, last);
    if (w.verbose)
        print_totals(&w.totals);
    return 0;
}
