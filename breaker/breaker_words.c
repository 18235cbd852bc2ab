/* What the breaker says to people, and the options it takes from them. */
#include "breaker/breaker.h"

#include <stdio.h>

enum {
    RETRY_US_MIN = 5 * US_PER_S,
    RETRY_US_MAX = 300 * US_PER_S,
};

static const char *const state_names[] = {
#define X(state, name, next) [BREAKER_##state] = name,
    BREAKER_STATES(X)
#undef X
};

static const char *const verdict_names[] = {
#define X(verdict, name) [BREAKER_IS_##verdict] = name,
    BREAKER_VERDICTS(X)
#undef X
};

void breaker_opts_defaults(struct breaker_opts *opts)
{
    *opts = (struct breaker_opts){
        .instances_n = 1,
        .p_high = 1.0,
        .p_low = 0.7,
        .p_severe = 3.0,
        .minor_share = 0.2,
        .forget_share = 0.5,
        .forget_us = 3ull * US_PER_S,
        .absolve_tried = true,
        .pending_us = 3ull * US_PER_S,
        .rise_n = 30,
        .p_thin = 0.55,
        .rise_wait_us = 5ull * US_PER_S,
        .p_cancel = 1.5,
        .improve = 0.6,
        .fall = 0.7,
        .trip_ticks_n = 10,
        .retrip_ticks_n = 5,
        .verdict_n = 12,
        .test_us_min = 500ull * US_PER_MS,
        .test_us = 1500ull * US_PER_MS,
        .test_us_max = 4ull * US_PER_S,
        .test_slow_us = 8ull * US_PER_S,
        .probation_us = 5ull * US_PER_S,
        .settle_us = US_PER_S,
        .close_us = 10ull * US_PER_S,
        .open_cancel_us = 2ull * US_PER_S,
        .cancel_after_us = 3ull * US_PER_S,
        .cancel_patience_us = 12ull * US_PER_S,
        .exonerated_us = 30ull * US_PER_S,
        .early_retest = true,
        .drain_unpaced = true,
        .start_n = 1,
        .start_rest_us = 10ull * US_PER_S,
        .p_ease = 0.4,
        .clean_hold_us = 500ull * US_PER_MS,
        .clean_eager_us = 10ull * US_PER_S,
    };
    limit_opts_defaults(&opts->limit);
}

bool breaker_opts_check(const struct breaker_opts *o, struct err *err)
{
    if (!limit_opts_check(&o->limit, err))
        return false;
    if (!(o->minor_share >= 0 && o->minor_share < 1))
        return err_set(err, "22023", "minor_share must be at least 0 and below 1");
    if (!(o->forget_share >= 0 && o->forget_share < 1))
        return err_set(err, "22023", "forget_share must be at least 0 and below 1");
    if (!(o->p_low > 0 && o->p_low < o->p_high && o->p_high <= o->p_severe))
        return err_set(err, "22023", "pressures must rise: 0 < p_low < p_high <= p_severe");
    if (!(o->p_ease > 0 && o->p_ease <= o->p_low))
        return err_set(err, "22023", "p_ease must lie above 0 and not above p_low");
    if (!(o->improve > 0 && o->improve < 1))
        return err_set(err, "22023", "improve is an exponent between 0 and 1");
    if (!(o->fall >= 0 && o->fall < 1))
        return err_set(err, "22023", "fall is a share of at least 0 and below 1");
    if (o->instances_n == 0)
        return err_set(err, "22023", "there is at least one instance");
    if (o->trip_ticks_n == 0 || o->retrip_ticks_n == 0)
        return err_set(err, "22023", "a trip needs at least one tick");
    if (!(o->test_us_min <= o->test_us && o->test_us <= o->test_us_max))
        return err_set(err, "22023", "times of a test must rise");
    if (o->clean_us > 0 && (o->clean_us < 4 * o->clean_hold_us || o->clean_eager_us == 0))
        return err_set(err, "22023", "a clean probe must leave most of the time to those it holds");
    return true;
}

const char *breaker_state_name(enum breaker_state state)
{
    must(state < COUNT_OF(state_names));
    return state_names[state];
}

const char *breaker_verdict_name(enum breaker_verdict verdict)
{
    must(verdict < COUNT_OF(verdict_names));
    return verdict_names[verdict];
}

const char *breaker_mode_name(enum breaker_mode mode)
{
    switch (mode) {
    case BREAKER_OFF:
        return "off";
    case BREAKER_OBSERVE:
        return "observe";
    case BREAKER_ENFORCE:
        return "enforce";
    }
    must(!"a mode");
}

const char *breaker_last_reason(const struct breaker *b)
{
    if (b->transitions_n == 0)
        return "";
    return b->transitions[(b->transitions_n - 1) % BREAKER_TRANSITIONS].why;
}

const char *breaker_explain(const struct breaker *b, uint32_t class_i, uint64_t now_us, char *buf,
                            size_t buf_bytes)
{
    must(class_i < b->classes_n);
    const struct breaker_class *c = &b->classes[class_i];
    const struct pressure *p = &b->pressure;
    if (b->state == BREAKER_CLOSED && c->ask.limited) {
        snprintf(buf, buf_bytes, "%s is let in little by little: %u at once so far (P=%.1f)",
                 c->opts.name, c->ask.limit_n, p->p);
        return buf;
    }
    char signal[64];
    if (p->p_lat >= p->p_q && p->p_lat >= p->p_slo)
        snprintf(signal, sizeof signal, "protected p90 is %.1fx its norm", p->s90);
    else if (p->p_q >= p->p_slo)
        snprintf(signal, sizeof signal, "protected clients stand in a queue");
    else
        snprintf(signal, sizeof signal, "protected p99 is %.0f ms", p->p99_us / US_PER_MS);
    snprintf(buf, buf_bytes, "latency breaker %s for %.0f s: %s (P=%.1f); %s at %.0f%%",
             breaker_state_name(b->state), (double)us_since(b->state_us, now_us) / US_PER_S, signal,
             p->p, c->opts.name, 100 * c->limit.g);
    return buf;
}

uint64_t breaker_retry_after_us(const struct breaker *b, uint64_t now_us, uint32_t random)
{
    bool sheds = b->state != BREAKER_CLOSED && b->state != BREAKER_EXONERATED;
    uint64_t us = sheds ? 2 * us_since(b->state_us, now_us) : 0;
    us = us < RETRY_US_MIN ? RETRY_US_MIN : us > RETRY_US_MAX ? RETRY_US_MAX : us;
    return us * 4 / 5 + us * 2 / 5 * random / UINT32_MAX;
}
