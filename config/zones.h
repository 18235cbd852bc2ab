/* Time zones by name, from the system's zoneinfo database. */
#ifndef CONFIG_ZONES_H
#define CONFIG_ZONES_H

#include "pool/schedule.h"

/* "": the machine's own. */
MUST_USE bool zones_load(struct zone *zone, const char *name, struct err *err);

#endif
