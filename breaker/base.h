/* The few words every layer speaks: assertions, outcomes with a text, and limits shared by all.
 * It stands in the lowest layer so that everything above may include it. */
#ifndef BREAKER_BASE_H
#define BREAKER_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_i, args_i) __attribute__((format(printf, fmt_i, args_i)))
#define BIT(n) (1u << (n))
/* The struct whose `field` lies at `at`: what is embedded finds what it is embedded in. */
#define OWNER_OF(type, field, at) ((type *)(void *)((char *)(at)-offsetof(type, field)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Our own invariants: always compiled in, and fatal. Bytes of a peer, configuration and exhausted
 * resources never reach must(): they have verdicts and errors. */
#define must(x) ((x) ? (void)0 : must_fail(__FILE__, __LINE__, #x))
_Noreturn void must_fail(const char *file, int line, const char *what);

enum {
    US_PER_MS = 1000,
    US_PER_S = 1000000,
    CLASSES_MAX =
        16, /* classes of one configuration: three built in and a dozen of the operator's */
    WORKERS_MAX = 64, /* loops, the control loop included; the cancel key has seven bits for it */
};

/* How long ago that was. Loops read the clock before they take a lock, so `then` may be another's
 * and a little later than our now: no time has passed, not 580,000 years. */
static inline uint64_t us_since(uint64_t then_us, uint64_t now_us)
{
    return now_us > then_us ? now_us - then_us : 0;
}

/* Outcome of boot, configuration and administration: a text for a human, a SQLSTATE for a client.
 */
struct err {
    char text[480];
    char sqlstate[6];
};

/* Fills err (which may be NULL) and returns false, so that `return err_set(...)` reads well. */
bool err_set(struct err *err, const char *sqlstate, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
