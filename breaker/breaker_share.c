/* One of several proxies before the same database, each with breakers that know nothing of the
 * others: the class is priced, not tried.
 *
 * An experiment proves nothing here. A fleet's hundredth part of the load, held for a second, moves
 * no pressure; whoever happens to look just then is exonerated, and who looks a moment later is
 * convicted for what the others do. Cuts and ramps relative to what one had keep such differences
 * for ever: simulated, a hundred proxies with the same demand, one had ten times the mean, and all
 * together a thousand cuts in five minutes.
 *
 * What all have in common is the pressure, each with its own error, and the number of instances. So
 * a class may read what both give: the rate at which what it is granted in a second (a fixed amount
 * over the number of instances) is what pressure takes away (in proportion to rate and price):
 *
 *     price = (P - 0.3) / 0.7, not below 0     rate * price -> max(256 MiB/s / instances, 4 MiB/s)
 *
 * Whatever somebody had before, he comes to the same; nobody oscillates, as nothing is cut, except
 * in an emergency. Simulated: proxies that have learnt their norms for twenty minutes stay within
 * 12 % of the mean where there are a hundred, 19 % where a thousand; what remains are the errors of
 * their norms. A price that rises more steeply gives bulk more, and multiplies those errors.
 *
 * Who never saw P >= 1 joins as well, once pressure has been high for long: the others pay for it.
 */
#include "breaker/breaker_inside.h"

#include <math.h>

#define PRICE_FROM 0.3 /* about what calm is with the balanced preset */
#define SPEED 0.05     /* a second: 40 s to come near; single windows of pressure are noise */
#define SPEED_CALM 0.25
#define CALM_P 0.5
#define JOIN_P 0.7
#define EMERGENCY_P 2.0
#define LONG_WEIGHT 0.01 /* of a tick: ten seconds */
#define WHOLE 256        /* trickles: beyond that a class is not limited */
#define LEAST 4 /* trickles granted to each, however many: a database of so many is large */
#define TICK_S 0.1

static bool is_candidate(const struct breaker_class *c)
{
    return c->opts.mode != BREAKER_OFF && breaker_has_work(c);
}

/* All begin alike, at the floor. */
static void begin(struct breaker_class *c)
{
    struct limit *l = &c->limit;

    limit_forget_bad(l);
    l->rref_bytes_per_s = WHOLE * fmax(1, (double)c->opts.trickle_bytes_per_s);
    l->floor = 1.0 / WHOLE;
    l->g = l->floor;
}

static void settle(const struct breaker *b, struct limit *l, double p)
{
    double grant = fmax(1.0 / b->opts.instances_n, (double)LEAST / WHOLE);
    double price = fmax(0, (p - PRICE_FROM) / (1 - PRICE_FROM));
    double pull = (grant - l->g * price) / (grant + l->g * price);
    double speed = b->p_long < CALM_P ? SPEED_CALM : SPEED;

    l->g = fmin(1, fmax(l->floor, l->g * exp(speed * pull * TICK_S)));
}

static bool begin_all(struct breaker *b)
{
    bool any = false;

    for (uint32_t i = 0; i < b->classes_n; i++) {
        if (!is_candidate(&b->classes[i]))
            continue;
        begin(&b->classes[i]);
        any = true;
    }
    return any;
}

static bool is_emergency(const struct breaker *b)
{
    return b->high_ticks_n >= b->opts.retrip_ticks_n && b->p_smooth >= EMERGENCY_P &&
           b->now_us - b->since_us >= b->opts.settle_us;
}

enum breaker_share breaker_tick_share(struct breaker *b, double p)
{
    bool all_back = true, halved = false;

    must(b->opts.instances_n > 1);
    b->p_long += (p - b->p_long) * LONG_WEIGHT;
    if (b->state == BREAKER_CLOSED) {
        if (b->high_ticks_n < b->opts.trip_ticks_n && b->p_long < JOIN_P)
            return BREAKER_SHARE_GOES_ON;
        return begin_all(b) ? BREAKER_SHARE_BEGINS : BREAKER_SHARE_GOES_ON;
    }
    bool emergency = is_emergency(b);
    for (uint32_t i = 0; i < b->classes_n; i++) {
        struct breaker_class *c = &b->classes[i];
        if (c->limit.g >= 1 && is_candidate(c) && p >= b->opts.p_high)
            begin(c); /* it came later */
        if (c->limit.g >= 1)
            continue;
        if (emergency && c->limit.g > c->limit.floor) {
            c->limit.g = fmax(c->limit.floor, c->limit.g / 2);
            c->cuts_n++;
            halved = true;
        }
        settle(b, &c->limit, p);
        all_back &= c->limit.g >= 1;
    }
    if (halved)
        return BREAKER_SHARE_HALVED;
    return all_back ? BREAKER_SHARE_ENDS : BREAKER_SHARE_GOES_ON;
}
