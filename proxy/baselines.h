/* What estimators have learnt, kept in a file over a restart: baseline_file.
 *
 * The file is a line that names it, and one section for each upstream (host:port) with the bytes of
 * estimator_save(). It is read once, at start; an upstream gets its section when it is first seen.
 * It is written every five minutes and at the end, to a new file that is renamed over the old one:
 * by a thread of its own, since the control loop must not wait for a disk, and at the end in place.
 *
 * A file that is not ours, or damaged, is one line in the log and otherwise as good as none. What
 * is read is checked as if somebody hostile had written it; it is never larger than a limit.
 * Lives in the control loop.
 */
#ifndef PROXY_BASELINES_H
#define PROXY_BASELINES_H

#include "config/config.h"
#include "pool/registry.h"

enum {
    BASELINES_SECTIONS_MAX = 64, /* upstreams with norms worth keeping; 256 KiB each at most */
    BASELINES_HOST_MAX = 255,
    BASELINES_SAVE_S = 300,
};

struct baselines;

/* Reads the file, if there is one. NULL: out of memory. */
struct baselines *baselines_open(const struct config_globals *g);
/* A new upstream: gives it what the file has for it. */
void baselines_apply(struct baselines *b, struct upstream *u, uint64_t now_us);
/* About once a second. */
void baselines_tick(struct baselines *b, struct pool_registry *registry, uint64_t now_us);
/* As soon as it can be: after RESET BASELINE what the file has is not wanted any more. */
void baselines_save_soon(struct baselines *b);
/* Writes a last time, and clears the pointer. */
void baselines_close(struct baselines **baselines, struct pool_registry *registry, uint64_t now_us);

/* ---- the format; pure ---- */

struct baselines_section {
    char host[BASELINES_HOST_MAX + 1];
    uint16_t port;
    uint64_t saved_s;     /* by the wall clock */
    const uint8_t *bytes; /* points into what was parsed */
    uint32_t bytes_n;
};
/* Takes the file apart; false with err when it is none of ours, or is damaged. */
MUST_USE bool baselines_parse(const uint8_t *bytes, size_t n,
                              struct baselines_section out[BASELINES_SECTIONS_MAX],
                              uint32_t *sections_n, struct err *err);

#endif
