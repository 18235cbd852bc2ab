/* The real pool and breakers in a modelled overload that the fuzzer makes up: how much bulk of what
 * kind, stalls, slow disks, locks, restarts (bench/sim/search.h). Whatever happens: a protected
 * class is never limited nor its statements cancelled, no class falls below its floor, places kept
 * for users are kept, and every waiter is answered before the end (else the end of the world finds
 * it in a queue, and aborts). */
#include "bench/sim/policy.h"
#include "bench/sim/run.h"
#include "bench/sim/search.h"

#include <stddef.h>

enum { FUZZ_SECONDS = 90 }; /* of virtual time: the event begins at 60, trips take a few seconds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scenario s;
    struct result result;

    search_decode(&s, data, size);
    s.length_s = FUZZ_SECONDS;
    s.event_to_s = FUZZ_SECONDS;
    run(&(struct world_opts){.scenario = &s, .policy = &policy_weir, .seed = 1}, &result);
    must(result.broken == NULL);
    return 0;
}
