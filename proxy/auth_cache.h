/* What checking a password costs milliseconds to find out, kept for the next login of the process.
 *
 * Two questions are answered from it: which SCRAM secret belongs to this plain password, and
 * whether this password, sent in clear, fits that SCRAM secret. Only the second answer "yes" is
 * kept, so guessing cannot push out what is of use. Entries are found by a hash under the process's
 * key of all that went in, so a changed password is simply another entry. Bounded, four places a
 * bucket; the mutex covers the look-up only, never the 4,096 rounds. */
#ifndef PROXY_AUTH_CACHE_H
#define PROXY_AUTH_CACHE_H

#include "proxy/scram.h"

struct auth_cache_ask {
    const uint8_t *process_key; /* SCRAM_KEY_BYTES */
    const char *user, *password;
    uint32_t iterations;
};

/* The secret of a user whose plain password we have. Its salt is the one scram_secret_mock() makes
 * for this name: nobody can tell by it whether the user exists, and it stays for the process's
 * life. False: OpenSSL refuses. */
MUST_USE bool auth_cache_secret(const struct auth_cache_ask *ask, struct scram_secret *out);
/* Whether a password that came in clear fits this stored SCRAM secret. */
MUST_USE bool auth_cache_fits(const struct auth_cache_ask *ask, const struct scram_secret *stored);

#endif
