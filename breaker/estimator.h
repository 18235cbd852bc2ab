/* How much slower than normal the protected statements of one upstream are: one number, pressure.
 *
 *     observe(statement) ───────────────> slice ─┐  every 100 ms
 *     observe_wait(), queue_empty() ────> slice ─┼─> pressure() ─> breaker ─> tick_end()
 *     statements in flight (overdue) ────────────┘
 *
 * P >= 1 is overloaded, P < 0.7 healthy; P = max of
 *   P_lat  median and p90 of latency over each statement's own norm, over the preset's thresholds,
 *          bounded by the absolute p90 over lat_floor (0.1 -> 0.4 ms is noise, not an outage);
 *   P_q    least wait in the queue of the last second over q_target: a standing queue;
 *   P_slo  p99 over slo_p99, where the operator set one.
 * A statement in flight for 8 times its norm counts as an observation of its age: a stall that lets
 * nothing complete is seen at once.
 *
 * The norm is learnt in calm only (breaker_calm() says when), upwards slowly, downwards fast, and
 * never far above its anchor, the best hour of the last week: otherwise a creeping overload becomes
 * the norm. Norms that would go further and may not are counted (struct estimator_drift): somebody
 * has to look, and say RESET BASELINE if this is how it shall be.
 *
 * Norms and anchors outlive the process (estimator_save(), estimator_load()): one that is started
 * in the midst of an overload would take it for the norm.
 *
 * Warm-up. The reference model is blind to latency for its first 40 s, which is fine for a process
 * that runs for weeks, and is an outage for one that was started 15 s before the storm. So P_lat
 * acts as soon as 8 s and 1000 samples of *clean* calm have been learnt: no pressure from queue or
 * SLO, and no sheddable class with work, so it cannot have been the storm that was learnt. Where
 * sheddable work never pauses, the 40 s and 1000 samples of the model apply; such a norm is kept on
 * probation: the first 8 s of clean calm outvote it. Either way norms are plain means until 40 s
 * have passed. `learn_blind` and zeros in quick_* and warmup_n give the model's rule, for
 * comparison with it.
 *
 * Ownership: embedded in its upstream, under the upstream's lock; no allocation ever; 600 KiB, so
 * never on a stack. Times are microseconds of a monotonic clock, and arguments.
 */
#ifndef BREAKER_ESTIMATOR_H
#define BREAKER_ESTIMATOR_H

#include "breaker/baseline.h"
#include "breaker/window.h"

enum estimator_preset { ESTIMATOR_STRICT, ESTIMATOR_BALANCED, ESTIMATOR_LENIENT };

struct estimator_opts {
    double slow50, slow90;     /* slowdown of median, p90 that is pressure 1 */
    uint64_t lat_floor_us;     /* p90 below this is never pressure 1 */
    uint64_t q_target_us;      /* standing wait that is pressure 1 */
    uint64_t slo_p99_us;       /* 0: none */
    bool slo_waits;            /* a p99 has a window of its own, that holds its 100 samples. The
                                * model's is the window of P_lat: below 250 statements a second that
                                * never holds as many, and the SLO is silent */
    uint32_t slices_n_min;     /* shortest window */
    uint32_t n_min;            /* samples a window must hold */
    uint32_t n_min_test;       /* ... while the breaker waits for the verdict of an experiment */
    uint64_t warmup_us;        /* plain means until then */
    uint32_t warmup_n;         /* P_lat acts after warmup_us of calm with so many samples */
    uint64_t quick_us;         /* ... or after so long of clean calm; 0: no quick way */
    uint32_t quick_n;          /*     with so many samples */
    bool learn_blind;          /* the model's: learn in warm-up whatever happens */
    uint64_t rise_us, fall_us; /* time constants of a norm going up, down */
    double anchor_cap;         /* a norm may exceed its anchor by this factor; 0: no cap */
    double anchor_cap_log2;    /* the calm quantiles may exceed theirs by this many octaves */
    uint64_t lag_us;           /* a tick later than this was our own pause: its slice is void */
    uint64_t settle_us;        /* after a restart or failover nothing is learnt for so long */
};
/* The balanced preset. */
void estimator_opts_defaults(struct estimator_opts *opts);
void estimator_opts_preset(struct estimator_opts *opts, enum estimator_preset preset);
MUST_USE bool estimator_opts_check(const struct estimator_opts *opts, struct err *err);

struct pressure {
    double p, p_lat, p_q, p_slo;
    double s50, s90;       /* slowdown of median and p90; 1 where unknown */
    double p90_us, p99_us; /* absolute; 0 where unknown */
    uint32_t n;            /* samples with a norm in the window, overdue ones included; 0 where a
                            * test is about an SLO, and there are too few for a p99 yet */
    bool blind;            /* no usable norm yet: p_lat cannot speak */
    bool learning; /* ... while statements pass: low pressure means little. At most 2 minutes */
    bool lagging;  /* the tick came late: everything above is worthless */
};

/* What the slice just ended is worth for learning. */
enum estimator_calm {
    ESTIMATOR_DISTURBED, /* learn nothing */
    ESTIMATOR_BUSY,      /* healthy, though sheddable work runs */
    ESTIMATOR_CALM,      /* healthy, and nothing sheddable runs */
};

/* One statement of the protected classes that is running now. */
struct estimator_inflight {
    uint64_t fingerprint;
    uint64_t dispatched_us;
    uint64_t unread_us; /* since then, while the proxy did not read: no part of its age */
};

/* A statement that is slower than its norm. */
struct estimator_slow {
    uint64_t fingerprint; /* 0: none */
    double slowdown;      /* times its norm */
    uint32_t n;           /* samples of the last seconds; 0: none ended, it is still running */
};
enum { ESTIMATOR_SLOWEST = 3 };

/* Norms held back by their anchors. */
struct estimator_drift {
    uint32_t held_n;   /* of how many statements */
    double held_share; /* of the time spent in all statements: these */
    bool quantiles;    /* the distribution of slowdowns itself is held back */
    bool alert;        /* that is a tenth of the time and more, or the distribution */
};

struct estimator {
    struct estimator_opts opts;
    struct window window;
    struct baseline baseline;
    uint64_t started_us, last_tick_us, settled_us;
    uint64_t cut_us; /* statements dispatched before are not judged; set by an intervention */
    bool testing;    /* set by the breaker: n_min_test applies */
    bool slo_tested; /* ... it was the SLO alone that led to the test: its word is needed */
    /* With a clean probe only what was dispatched from here on is learnt; 0: everything is. */
    uint64_t learn_from_us;
    struct estimator_slow overdue[ESTIMATOR_SLOWEST]; /* of this tick's statements in flight */
    /* the norm of the slowdown's own distribution */
    double calm50_log2, calm90_log2;
    struct anchor anchor50, anchor90;
    uint32_t quantiles_held_n; /* calm ticks in a row that the anchor held it back */
    uint32_t calm_ticks_n;     /* ticks in it; 0: none yet */
    bool anchored;
    /* how much was learnt */
    uint64_t busy_us, clean_us;
    uint32_t busy_n, clean_n;
    bool usable, clean;    /* P_lat may act; and was learnt without sheddable work around */
    uint32_t hours_before; /* anchors count hours; so many were counted before started_us */
};

void estimator_init(struct estimator *e, const struct estimator_opts *opts, uint64_t now_us);
/* At reload: thresholds change, what was learnt stays. */
void estimator_set_opts(struct estimator *e, const struct estimator_opts *opts);

/* A protected statement ended. dispatched: its first byte went to the server; service: until
 * ReadyForQuery, less the time the proxy itself was not reading. */
void estimator_observe(struct estimator *e, uint64_t fingerprint, uint64_t dispatched_us,
                       uint64_t service_us);
/* A protected client got its server after this wait; 0 if it did not queue. */
void estimator_observe_wait(struct estimator *e, uint64_t wait_us);
/* No protected client waits: call whenever seen, at least at each tick where it is so. */
void estimator_queue_empty(struct estimator *e);

/* Once a tick, before the breaker's. inflight: protected statements running now (any order, any
 * part of them); head_wait_us: of the protected client that waits longest, 0 if none does. */
struct pressure estimator_pressure(struct estimator *e, uint64_t now_us,
                                   const struct estimator_inflight *inflight, size_t inflight_n,
                                   uint64_t head_wait_us);
/* Once a tick, after the breaker's, with what breaker_calm() says. */
void estimator_tick_end(struct estimator *e, uint64_t now_us, enum estimator_calm calm);

/* An actuator moved: from now on judge only what is dispatched effect_us later. */
void estimator_intervene(struct estimator *e, uint64_t now_us, uint64_t effect_us);
/* Judge everything again. */
void estimator_resume(struct estimator *e);
/* The upstream restarted or was replaced: learn nothing for settle_us. */
void estimator_settle(struct estimator *e, uint64_t now_us);
/* The statements that are slowest against their norms now, slowest first; those in flight for long
 * included. Unused places have fingerprint 0. */
void estimator_slowest(const struct estimator *e, struct estimator_slow out[ESTIMATOR_SLOWEST]);
struct estimator_drift estimator_drift(const struct estimator *e);
/* Forgets all norms, anchors included: the operator says that today's latency is the new normal. */
void estimator_reset_baseline(struct estimator *e, uint64_t now_us);

/* ---- norms and anchors as bytes (estimator_bytes.c) ---- */

enum { ESTIMATOR_BYTES_MAX = 256 << 10 };
/* Writes what was learnt; the bytes used. buf_bytes must be ESTIMATOR_BYTES_MAX. */
MUST_USE size_t estimator_save(const struct estimator *e, uint64_t now_us, uint8_t *buf,
                               size_t buf_bytes);
/* Takes over what a former process learnt, away_us ago: P_lat may act at once. Bytes that are not
 * exactly what estimator_save() writes are refused, and change nothing. Only for an estimator that
 * has learnt nothing yet: what it has is replaced. */
MUST_USE bool estimator_load(struct estimator *e, uint64_t now_us, uint64_t away_us,
                             const uint8_t *bytes, size_t bytes_n, struct err *err);

#endif
