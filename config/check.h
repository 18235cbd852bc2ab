/* What must hold between settings that are each fine by themselves. */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/snapshot.h"

/* Where a global key was set last; no place when it has its default. */
struct report_place check_place_of(const struct config *cfg, const char *key);
/* Errors make the snapshot unusable; warnings are about what works and is hardly meant. */
MUST_USE bool check_snapshot(const struct config *cfg, struct config_report *report);

#endif
