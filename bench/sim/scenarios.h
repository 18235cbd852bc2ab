/* What happens to the modelled database, by name: one table. */
#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include "bench/sim/bulk.h"
#include "bench/sim/users.h"
#include "bench/sim/world.h"

/* Something that happens once, or every so often. */
struct act {
    double at_s;
    double every_s;
    uint32_t times; /* 0: once */
    void (*fn)(struct world *w);
};
enum { SCENARIO_ACTS_MAX = 6, SCENARIO_BULK_MAX = 3 };

/* What is promised in it, besides what always is. */
enum scenario_kind {
    SCENARIO_STREAMS,  /* bulk that can be slowed hurts users */
    SCENARIO_SCANS,    /* bulk that only a cancel ends hurts users */
    SCENARIO_BENIGN,   /* nothing that bulk could be blamed for */
    SCENARIO_INNOCENT, /* users suffer, by something else than bulk */
    SCENARIO_SICK,     /* the database is ill: bulk may be held back, and nothing more */
    SCENARIO_SURGE,
    SCENARIO_INVERSION, /* users wait for locks behind bulk that is slowed */
    SCENARIO_OPEN, /* what happens is to be seen: no worse than caps by hand is all that is promised
                    */
};

struct scenario {
    const char *name, *title;
    enum scenario_kind kind;
    double length_s, event_from_s, event_to_s;
    double calm_from_s; /* for 15 s; 0: 45 */
    uint32_t proxies_n; /* before each database; 0: 1 */
    uint32_t databases_n;
    uint32_t places_n;  /* of each database; 0: 100 for each size */
    double size;        /* of each database and its users; 0: 1 */
    bool on_demand;     /* only where it is asked for: it takes long */
    bool sudden;        /* the event begins at once, and not before */
    uint32_t jobs_n;    /* must have ended well at the end */
    bool lossless;      /* not one request may be lost */
    double patience_s;  /* of users; 0: a second */
    bool slow_sample;   /* so few users that everything takes longer to see */
    users_rate_fn rate; /* NULL: 800 a second */
    users_mix_fn mix;
    users_shape_fn shape;
    uint32_t crowd_n;
    uint32_t users_on; /* only the first so many proxies have users; 0: all */
    struct bulk_opts bulk[SCENARIO_BULK_MAX];
    struct act acts[SCENARIO_ACTS_MAX];
};

extern const struct scenario *const scenarios[];
extern const uint32_t scenarios_n;

const struct scenario *scenario_find(const char *name);

#endif
