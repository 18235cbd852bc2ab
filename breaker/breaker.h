/* The latency breaker of one upstream: which sheddable class hurts the protected ones, and how much
 * of it may run. It never touches the protected class (that one is not even in its list).
 *
 *            P >= 1 for 1 s                     helped            it comes back
 *   CLOSED ──────────────────> TEST(k): hold k ───────> PROBATION ────────────> THROTTLED <──> OPEN
 *     ^  ^                      │  │  at half  │  │                   │  ^      at floor
 *     │  │          next class ─┘  │ no effect, all tried  │ it does not    │  │ cut, ramp
 *     │  └────────── EXONERATED <──┘                       v                └──┘
 *     └──────────────────────────────────────────────── CLOSED <── all of it back for 10 s
 *
 * A trip is an experiment: pause the lowest class with work, see whether pressure falls, give back
 * half, see whether it returns. Only then is the class the culprit. Otherwise it gets back what it
 * had, and the reason says so. All decisions need only P, the clock and four figures per class; all
 * actions are asked of the caller (`ask`), none is taken here.
 *
 * The caller, once a tick of 100 ms and under its lock:
 *     p = estimator_pressure(&u->estimator, now, inflight, n, head_wait);
 *     breaker_tick(&u->breaker, &u->estimator, &p, use, now);
 *     estimator_tick_end(&u->estimator, now, breaker_calm(&u->breaker, &p));
 * and reads breaker.classes[i].ask at each dispatch.
 */
#ifndef BREAKER_BREAKER_H
#define BREAKER_BREAKER_H

#include "breaker/estimator.h"
#include "breaker/limit.h"

enum breaker_mode {
    BREAKER_OFF,     /* the class is no candidate */
    BREAKER_OBSERVE, /* everything but act: `would` says what it would ask */
    BREAKER_ENFORCE,
};

/* state, name, what may follow */
#define BREAKER_STATES(X)                                                                          \
    X(CLOSED, "closed", BIT(BREAKER_TEST) | BIT(BREAKER_THROTTLED))                                \
    X(TEST, "test",                                                                                \
      BIT(BREAKER_TEST) | BIT(BREAKER_PROBATION) | BIT(BREAKER_THROTTLED) |                        \
          BIT(BREAKER_EXONERATED) | BIT(BREAKER_CLOSED))                                           \
    X(PROBATION, "probation", BIT(BREAKER_THROTTLED) | BIT(BREAKER_CLOSED))                        \
    X(THROTTLED, "throttled",                                                                      \
      BIT(BREAKER_THROTTLED) | BIT(BREAKER_OPEN) | BIT(BREAKER_EXONERATED) | BIT(BREAKER_CLOSED))  \
    X(OPEN, "open", BIT(BREAKER_THROTTLED) | BIT(BREAKER_EXONERATED) | BIT(BREAKER_CLOSED))        \
    X(EXONERATED, "exonerated", BIT(BREAKER_TEST) | BIT(BREAKER_THROTTLED) | BIT(BREAKER_CLOSED))
enum breaker_state {
#define X(state, name, next) BREAKER_##state,
    BREAKER_STATES(X)
#undef X
};

/* What the last experiment said of a class. */
#define BREAKER_VERDICTS(X)                                                                        \
    X(NONE, "none") /* none yet, or it was broken off */                                           \
    X(TESTING, "testing")                                                                          \
    X(SUSPECT, "suspect") /* holding it helped; will it come back? */                              \
    X(CULPRIT, "culprit")                                                                          \
    X(PARTIAL, "partial")     /* holding it helped, and not enough */                              \
    X(UNDECIDED, "undecided") /* held together with others, or its work outlasted the test */      \
    X(EXONERATED, "exonerated")                                                                    \
    X(FALSE_ALARM, "false_alarm") /* it came back, and nothing happened */                         \
    X(BY_HAND, "by_hand")
enum breaker_verdict {
#define X(verdict, name) BREAKER_IS_##verdict,
    BREAKER_VERDICTS(X)
#undef X
        BREAKER_VERDICTS_N
};

enum {
    BREAKER_TRANSITIONS = 16, /* kept for SHOW and for the log; a tick makes at most a few */
    BREAKER_NAME_BYTES = 64,
    BREAKER_WHY_BYTES = 192,
};

struct breaker_opts {
    struct limit_opts limit;
    /* Proxies before the same database, this one included. Where there are more than one, classes
     * are priced (breaker_share.c) and never tried. */
    uint32_t instances_n;
    double p_high, p_low; /* overloaded; healthy. Between them: wait */
    double p_severe;      /* cut every class at once */
    double minor_share;   /* of all sheddable bytes: what moves less is not cut alone; the model has
                           * it not. 0: no */
    /* The level that hurt, hurt under the load of then. Of a class whose load has been below this
     * share of it for forget_us the level is forgotten: after a storm of 24 readers the one that is
     * left would creep for ten minutes. The model has it not. 0: no */
    double forget_share;
    uint64_t forget_us;
    /* A class that was held before the culprit was, and to no effect, gets back what an exonerated
     * one gets, not the floor; had it a part in it, it is the next to be cut. The model leaves it
     * at the floor until the culprit is back. */
    bool absolve_tried;
    /* No class is cut before the last cut of it has arrived, nor any above it. But work that
     * nothing ends may outlast every patience, and must not shield the classes above while the
     * protected ones suffer: it is passed over when nothing has moved for so long. The model waits.
     * 0: so do we */
    uint64_t pending_us;
    /* What nobody has looked at yet is not well: after an actuator moved, a class rises only once
     * rise_n samples have been judged, or none came for rise_wait_us. With eight statements a
     * second a class let go 2.4 times what it had before the first of them spoke. The model rises
     * at once. 0: so do we */
    uint32_t rise_n;
    double p_thin; /* ... and where the longest window holds less than twice as many, only below
                    * this: such a pressure is late, and low by chance */
    uint64_t rise_wait_us;
    double p_cancel; /* least pressure that justifies a cancel */
    double improve;  /* pressure fell to P^improve: it helped */
    /* ... and on the mean of about a second, to this share of what it was, or at once below p_low:
     * near 1, pressure does as much by itself. While a cache warms it drifts from 1.2 to 0.97 in
     * the time of a test, and single windows are off by a sixth. The model: 0, it does not ask */
    double fall;
    uint32_t trip_ticks_n, retrip_ticks_n;
    uint32_t verdict_n; /* samples a verdict needs */
    uint64_t test_us_min, test_us, test_us_max, test_slow_us;
    uint64_t probation_us;
    uint64_t settle_us; /* between two cuts */
    uint64_t close_us;  /* all back for so long: closed */
    uint64_t open_cancel_us;
    uint64_t cancel_after_us;
    uint64_t
        cancel_patience_us; /* beyond cancel_after: how long a test waits for cancels to end it */
    uint64_t exonerated_us; /* no new test for so long, the fifth time in a row for 16 times that */
    bool early_retest;      /* ... unless pressure doubled since; the model has it not */
    /* Of a class that is not paced, what runs runs on, and a pause shows only as it drains. So a
     * test of the last candidate waits for that (up to the patience for cancels); having helped, it
     * gives back little by little, not half at once, since that could not be taken back either; and
     * if the work outlasts it, the class is throttled undecided, and judged once it has drained.
     * The model paces all that streams, and has no such rule. */
    bool drain_unpaced;
    /* For the same reason such a class eases in: it begins with start_n statements and gets more
     * (the ramp of the limit) only while it asks for more and the protected ones are well; each
     * rest of start_rest_us halves what it may come back with. What is let in late is late by
     * seconds; what was let in too much hurts until it ends. Simulated, 24 readers at once, held
     * but not paced: 60 bad seconds of 60 without, none with it, at two thirds of the bytes. 0: no.
     */
    uint32_t start_n;
    uint64_t start_rest_us;
    /* Such a class gets more only below this pressure: while the protected ones hardly notice it.
     * At p_low it would be let in until they are twice as slow, and hold them there for as long as
     * its statements last. */
    double p_ease;
    /* The clean probe, for sheddable work that never pauses: every clean_us of calm all classes we
     * may act on are held for clean_hold_us, and norms are learnt from what is dispatched in that
     * window alone. Until enough has been learnt so, the windows come every clean_eager_us, and the
     * way without them stays open; so it does where no window was had for five times clean_us, as
     * what runs cannot be paused. 0: off. */
    uint64_t clean_us, clean_hold_us, clean_eager_us;
};
void breaker_opts_defaults(struct breaker_opts *opts);
MUST_USE bool breaker_opts_check(const struct breaker_opts *opts, struct err *err);

struct breaker_class_opts {
    char name[BREAKER_NAME_BYTES];
    enum breaker_mode mode;
    bool paced;                   /* the caller obeys ask.rate_bytes_per_s on running streams */
    bool cancelled;               /* the caller obeys ask.cancel_n */
    uint64_t trickle_bytes_per_s; /* guaranteed even at the floor */
    uint64_t deadline_us;         /* who waits longer is refused; 0: nobody is */
};

/* A class's load as the caller sees it at this tick. */
struct breaker_use {
    uint32_t active_n;       /* statements (or leases) running */
    uint32_t nonstreaming_n; /* of them: no bytes to hold back */
    uint32_t queued_n;
    uint32_t cap_n; /* the class's own cap now: what g = 1 means */
    uint64_t bytes_per_s;
    uint64_t granted_n; /* leases so far, a total */
};

/* What the caller has to do about a class until the next tick. */
struct breaker_ask {
    uint32_t limit_n; /* statements that may run at once; its cap where nothing is limited */
    uint64_t rate_bytes_per_s; /* LIMIT_RATE_NONE where unlimited */
    bool held;                 /* paused for an experiment: limit_n is 0 */
    bool limited;              /* any of the above below the class's own cap */
    uint32_t cancel_n;         /* non-streaming statements to cancel now, youngest first */
};

struct breaker_class {
    struct breaker_class_opts opts;
    struct limit limit;
    struct breaker_use use;   /* of the last tick */
    struct breaker_ask ask;   /* to be obeyed; unlimited unless the mode is ENFORCE */
    struct breaker_ask would; /* the same, whatever the mode */
    enum breaker_verdict verdict;
    /* totals: what is asked, and in observe mode what would be */
    uint64_t asked_cancels_n, cuts_n;
    uint64_t held_us, limited_us; /* time paused; time with any limit */
    /* ... and what only enforcing would do: leases that would have waited, and those that would
     * have been refused, because the limit had been full for longer than their deadline */
    uint64_t would_wait_n, would_refuse_n;
    uint64_t full_since_us;  /* observed: more runs than would be let in, since; 0: not so */
    uint64_t rested_us;      /* easing in: last tick with work, or last halving; 0: not begun */
    double hurt_level;       /* limit.g_bad when last looked at ... */
    uint32_t hurt_load_n;    /* ... and what ran and waited when it came to that */
    uint64_t light_since_us; /* much less than that since; 0: it is not */
};

/* One line of the log with all that led to it; from == to is a cut. */
struct breaker_transition {
    uint64_t at_us;
    enum breaker_state from, to;
    int class_i; /* -1: none in particular */
    struct pressure pressure;
    double p_before, p_smooth;
    uint32_t high_ticks_n;
    struct estimator_slow slowest[ESTIMATOR_SLOWEST]; /* of a trip, and of an exoneration */
    uint32_t classes_n;
    struct {
        double g, g_bad;
        struct breaker_use use;
    } classes[CLASSES_MAX];
    char why[BREAKER_WHY_BYTES];
};

struct breaker {
    struct breaker_opts opts;
    uint32_t classes_n;
    struct breaker_class classes[CLASSES_MAX]; /* lowest first: shed in this order */
    uint64_t now_us;                           /* of the call that is running, or the last one */
    enum breaker_state state;
    uint64_t since_us;        /* of the state, and of the last cut in it */
    uint64_t state_us;        /* of the state alone: for people */
    struct pressure pressure; /* of the last tick */
    double p_smooth;          /* over about a second */
    double p_before;          /* of a test: the pressure it has to beat */
    double p_steady;          /* p_smooth when the series of tests began */
    double p_trial;           /* of a test: the mean of its last half second; 0: too early */
    double p_exonerated;
    double p_long;         /* over ten seconds; of a fleet */
    uint32_t high_ticks_n; /* consecutive ticks of p >= p_high */
    uint32_t suspect_i;    /* TEST, PROBATION: the class */
    uint64_t first_test_us;
    uint64_t no_test_until_us;
    uint32_t exonerated_in_row_n;
    uint64_t all_back_since_us; /* 0: not all back */
    uint32_t cancel_quarters_n; /* of the next round */
    uint64_t next_cancel_us, last_cancel_us;
    uint32_t test_cancelled_n; /* in this series of tests */
    bool test_drained;         /* this series of tests met running work that no pause could reach */
    bool undecided;            /* throttled without a verdict: such work outlasted our patience */
    uint64_t drained_us;       /* undecided: last tick at which such work ran */
    uint64_t clean_since_us;   /* of the clean probe that runs; 0: none */
    uint64_t clean_due_us;
    uint64_t clean_seen_us;  /* last tick when learning was clean; 0: never ticked */
    uint64_t clean_flows_us; /* until then byte rates are those of the probe */
    bool mistrial;    /* the mode of a class on trial was changed: close with the next tick */
    uint64_t lost_us; /* of the trial: nobody was there to be judged */
    uint64_t random;
    /* totals for metrics */
    uint64_t tests_n, confirmed_n, exonerated_n, cuts_n, cancels_n, cleans_n;
    uint64_t verdicts_n[BREAKER_VERDICTS_N];
    uint32_t transitions_n; /* free-running; slot = n % BREAKER_TRANSITIONS */
    struct breaker_transition transitions[BREAKER_TRANSITIONS];
};

/* classes: lowest priority (shed first) first, the protected ones left out. */
void breaker_init(struct breaker *b, const struct breaker_opts *opts,
                  const struct breaker_class_opts *classes, uint32_t classes_n, uint64_t seed);
/* At reload, or SET BREAKER: takes effect with the next tick. */
void breaker_set_class(struct breaker *b, uint32_t class_i, const struct breaker_class_opts *opts);

/* One tick. use: one per class, in the order of classes. Where the error breaker says that nobody
 * is there, set p->lagging first: latency then blames nobody, and nothing is learnt. */
void breaker_tick(struct breaker *b, struct estimator *e, const struct pressure *p,
                  const struct breaker_use *use, uint64_t now_us);
/* What the slice that ends with this tick is worth for learning. */
MUST_USE enum estimator_calm breaker_calm(const struct breaker *b, const struct pressure *p);

/* The operator's hand: throttle to the floor now; give everything back now. */
void breaker_trip(struct breaker *b, uint32_t class_i, uint64_t now_us);
void breaker_release(struct breaker *b, struct estimator *e, uint64_t now_us);

const char *breaker_state_name(enum breaker_state state);
const char *breaker_mode_name(enum breaker_mode mode);
const char *breaker_verdict_name(enum breaker_verdict verdict);
/* The state in words, for SHOW BREAKERS and for the detail of a refusal. Returns buf. */
const char *breaker_explain(const struct breaker *b, uint32_t class_i, uint64_t now_us, char *buf,
                            size_t buf_bytes);
/* The reason of the last transition; "" if there was none. */
const char *breaker_last_reason(const struct breaker *b);
/* When a refused client should try again; random: any bits. */
uint64_t breaker_retry_after_us(const struct breaker *b, uint64_t now_us, uint32_t random);

#endif
