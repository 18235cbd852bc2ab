/* What an estimator has learnt, as bytes: norms and anchors that outlive the process.
 *
 *     head      "PGWN", version, what is known, how much was learnt, the calm quantiles
 *     anchors   of the two quantiles
 *     entries   fingerprint, norm, weight, anchor; those that are trusted, at most 4096
 *     checksum  FNV-1a of all before it
 *
 * Little-endian, fixed widths, no padding; 40 bytes an entry, so that all of it fits in 256 KiB.
 * Numbers are checked as if an enemy had written them: what is read is a file.
 */
#include "breaker/estimator.h"

#include <math.h>
#include <string.h>

enum {
    VERSION = 1,
    MAGIC_BYTES = 4,
    HEAD_BYTES = MAGIC_BYTES + 2 + 2 + 4 + 3 * 4 + 2 * 8 + 2 * 8,
    ANCHOR_BYTES = 8 + 1 + 1 + ANCHOR_DAYS * 4 + 4,
    ENTRY_BYTES = 8 + 4 + 4 + 1 + 1 + 4 + ANCHOR_DAYS * 2 + 4,
    SUM_BYTES = 8,
    COUNT_BYTES = 4,
    KNOWS_USABLE = BIT(0),
    KNOWS_CLEAN = BIT(1),
    KNOWS_ANCHORS = BIT(2),
    LOADED_N_MAX = 1 << 20, /* weight of a norm; it only matters below BASELINE_LEARNT_N */
};
#define MAGIC "PGWN"
#define LOG2_MAX 64.0    /* octaves: no time in microseconds is beyond */
#define DAY_SCALE 1000.0 /* of an octave: days' minima in 16 bits, above 0 for a time */
#define HOURS_MAX (1u << 30)
#define HOUR_US (3600ull * US_PER_S)
_Static_assert(HEAD_BYTES + 2 * ANCHOR_BYTES + COUNT_BYTES + BASELINE_ENTRIES * ENTRY_BYTES +
                       SUM_BYTES <=
                   ESTIMATOR_BYTES_MAX,
               "the fullest table fits");

static uint64_t checksum(const uint8_t *bytes, size_t n)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return sum;
}

/* ---- writing ------------------------------------------------------------------------------- */

struct out {
    uint8_t *at;
    size_t n;
};

static void put(struct out *o, uint64_t value, uint32_t bytes_n)
{
    must(o->n + bytes_n <= ESTIMATOR_BYTES_MAX);
    for (uint32_t i = 0; i < bytes_n; i++)
        o->at[o->n++] = (uint8_t)(value >> 8 * i);
}

static void put_float(struct out *o, double value)
{
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    put(o, bits, 4);
}

static void put_double(struct out *o, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(o, bits, 8);
}

static void put_anchor(struct out *o, const struct anchor *a)
{
    put_double(o, a->low_log2);
    put(o, a->is_set, 1);
    put(o, a->days_mask, 1);
    for (uint32_t i = 0; i < ANCHOR_DAYS; i++)
        put_float(o, (double)a->day_log2[i]);
    put(o, a->hour_i, 4);
}

/* A statement's anchor is a time: 0.001 octaves are exact enough for its days. */
static void put_entry(struct out *o, const struct baseline_entry *e,
                      const struct baseline_past *past)
{
    const struct anchor *a = &past->anchor;
    put(o, e->fingerprint, 8);
    put_float(o, e->mean_log2);
    put(o, e->n < LOADED_N_MAX ? e->n : LOADED_N_MAX, 4);
    put(o, a->is_set, 1);
    put(o, a->days_mask, 1);
    put_float(o, a->low_log2);
    for (uint32_t i = 0; i < ANCHOR_DAYS; i++) {
        bool known = a->days_mask & BIT(i);
        double scaled = known ? fmax(0, (double)a->day_log2[i]) * DAY_SCALE : 0;
        put(o, (uint64_t)fmin(UINT16_MAX, scaled), 2);
    }
    put(o, a->hour_i, 4);
}

size_t estimator_save(const struct estimator *e, uint64_t now_us, uint8_t *buf, size_t buf_bytes)
{
    must(buf_bytes == ESTIMATOR_BYTES_MAX);
    struct out o = {.at = buf};
    uint32_t entries_n = 0;
    for (const char *c = MAGIC; *c; c++)
        put(&o, (uint8_t)*c, 1);
    put(&o, VERSION, 2);
    put(&o,
        (e->usable ? KNOWS_USABLE : 0) | (e->clean ? KNOWS_CLEAN : 0) |
            (e->anchored ? KNOWS_ANCHORS : 0),
        2);
    put(&o, e->hours_before + (uint32_t)(us_since(e->started_us, now_us) / HOUR_US), 4);
    put(&o, e->busy_n, 4);
    put(&o, e->clean_n, 4);
    put(&o, e->calm_ticks_n, 4);
    put(&o, e->busy_us, 8);
    put(&o, e->clean_us, 8);
    put_double(&o, e->calm50_log2);
    put_double(&o, e->calm90_log2);
    must(o.n == HEAD_BYTES);
    put_anchor(&o, &e->anchor50);
    put_anchor(&o, &e->anchor90);
    struct out count_at = o;
    put(&o, 0, COUNT_BYTES);
    for (uint32_t i = 0; i < BASELINE_ENTRIES; i++) {
        const struct baseline_entry *entry = &e->baseline.entries[i];
        if (entry->n < BASELINE_TRUSTED_N)
            continue;
        put_entry(&o, entry, &e->baseline.pasts[i]);
        entries_n++;
    }
    put(&count_at, entries_n, COUNT_BYTES);
    put(&o, checksum(buf, o.n), SUM_BYTES);
    return o.n;
}

/* ---- reading ------------------------------------------------------------------------------- */

/* The length has been checked: nothing is taken from behind the end. */
struct in {
    const uint8_t *at;
    size_t n;
    bool good; /* every number so far was a sane one */
};

static uint64_t take(struct in *in, uint32_t bytes_n)
{
    uint64_t value = 0;
    must(in->n >= bytes_n);
    for (uint32_t i = 0; i < bytes_n; i++)
        value |= (uint64_t)in->at[i] << 8 * i;
    in->at += bytes_n;
    in->n -= bytes_n;
    return value;
}

static uint32_t take_below(struct in *in, uint32_t bytes_n, uint32_t limit)
{
    uint64_t value = take(in, bytes_n);
    in->good &= value < limit;
    return value < limit ? (uint32_t)value : 0;
}

static double sane(struct in *in, double value)
{
    bool good = fabs(value) <= LOG2_MAX; /* false for what is no number */
    in->good &= good;
    return good ? value : 0;
}

static double take_float(struct in *in)
{
    uint32_t bits = (uint32_t)take(in, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return sane(in, (double)value);
}

static double take_double(struct in *in)
{
    uint64_t bits = take(in, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return sane(in, value);
}

static void take_anchor(struct in *in, struct anchor *a)
{
    *a = (struct anchor){.low_log2 = take_double(in)};
    a->is_set = take_below(in, 1, 2);
    a->days_mask = (uint8_t)take_below(in, 1, BIT(ANCHOR_DAYS));
    for (uint32_t i = 0; i < ANCHOR_DAYS; i++)
        a->day_log2[i] = (float)take_float(in);
    a->hour_i = take_below(in, 4, HOURS_MAX);
}

struct loaded_entry {
    uint64_t fingerprint;
    double mean_log2;
    uint32_t n;
    struct baseline_past past;
};

static struct loaded_entry take_entry(struct in *in)
{
    struct loaded_entry e = {.fingerprint = take(in, 8), .mean_log2 = take_float(in)};
    struct anchor *a = &e.past.anchor;
    e.n = take_below(in, 4, LOADED_N_MAX + 1);
    a->is_set = take_below(in, 1, 2);
    a->days_mask = (uint8_t)take_below(in, 1, BIT(ANCHOR_DAYS));
    a->low_log2 = take_float(in);
    for (uint32_t i = 0; i < ANCHOR_DAYS; i++)
        a->day_log2[i] = (float)(take_below(in, 2, UINT16_MAX + 1u) / DAY_SCALE);
    a->hour_i = take_below(in, 4, HOURS_MAX);
    in->good &= e.n >= BASELINE_TRUSTED_N;
    return e;
}

/* The fields of an estimator that stand in the head. */
struct head {
    uint32_t knows, hours, busy_n, clean_n, calm_ticks_n;
    uint64_t busy_us, clean_us;
    double calm50_log2, calm90_log2;
    struct anchor anchor50, anchor90;
};

static struct head take_head(struct in *in)
{
    struct head h = {.knows = take_below(in, 2, KNOWS_ANCHORS << 1)};
    h.hours = take_below(in, 4, HOURS_MAX);
    h.busy_n = (uint32_t)take(in, 4);
    h.clean_n = (uint32_t)take(in, 4);
    h.calm_ticks_n = take_below(in, 4, UINT32_MAX);
    h.busy_us = take(in, 8);
    h.clean_us = take(in, 8);
    h.calm50_log2 = take_double(in);
    h.calm90_log2 = take_double(in);
    take_anchor(in, &h.anchor50);
    take_anchor(in, &h.anchor90);
    in->good &= h.clean_us <= h.busy_us && h.busy_us < UINT64_MAX / 2;
    in->good &= !(h.knows & KNOWS_USABLE) || h.calm_ticks_n > 0;
    in->good &= !(h.knows & KNOWS_ANCHORS) || (h.anchor50.is_set && h.anchor90.is_set);
    return h;
}

/* Length, version and checksum: from here on nothing is read past the end. */
static bool check_frame(const uint8_t *bytes, size_t n, struct err *err)
{
    size_t least_n = HEAD_BYTES + 2 * ANCHOR_BYTES + COUNT_BYTES + SUM_BYTES;
    if (n < least_n || n > ESTIMATOR_BYTES_MAX || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0)
        return err_set(err, "22023", "these are no norms");
    struct in in = {.at = bytes + MAGIC_BYTES, .n = n - MAGIC_BYTES};
    if (take(&in, 2) != VERSION)
        return err_set(err, "22023", "norms of another version");
    in = (struct in){.at = bytes + n - SUM_BYTES, .n = SUM_BYTES};
    if (take(&in, SUM_BYTES) != checksum(bytes, n - SUM_BYTES))
        return err_set(err, "22023", "norms with a wrong checksum");
    in = (struct in){.at = bytes + HEAD_BYTES + 2 * ANCHOR_BYTES, .n = COUNT_BYTES};
    uint64_t entries_n = take(&in, COUNT_BYTES);
    if (entries_n > BASELINE_ENTRIES || n != least_n + entries_n * ENTRY_BYTES)
        return err_set(err, "22023", "norms of a wrong length");
    return true;
}

static void apply(struct estimator *e, const struct head *h)
{
    e->usable = h->knows & KNOWS_USABLE;
    e->clean = h->knows & KNOWS_CLEAN;
    e->anchored = h->knows & KNOWS_ANCHORS;
    e->busy_n = h->busy_n;
    e->clean_n = h->clean_n;
    e->busy_us = h->busy_us;
    e->clean_us = h->clean_us;
    e->calm_ticks_n = h->calm_ticks_n;
    e->calm50_log2 = h->calm50_log2;
    e->calm90_log2 = h->calm90_log2;
    e->anchor50 = h->anchor50;
    e->anchor90 = h->anchor90;
}

bool estimator_load(struct estimator *e, uint64_t now_us, uint64_t away_us, const uint8_t *bytes,
                    size_t bytes_n, struct err *err)
{
    if (!check_frame(bytes, bytes_n, err))
        return false;
    struct in in = {.at = bytes + MAGIC_BYTES + 2, .n = bytes_n - MAGIC_BYTES - 2, .good = true};
    struct head h = take_head(&in);
    uint32_t entries_n = (uint32_t)take(&in, COUNT_BYTES);
    struct in entries = in;
    for (uint32_t i = 0; i < entries_n; i++)
        (void)take_entry(&in);
    if (!in.good)
        return err_set(err, "22023", "norms that are none");
    estimator_reset_baseline(e, now_us);
    apply(e, &h);
    uint64_t hours = h.hours + (uint64_t)(away_us / HOUR_US);
    e->hours_before = hours < HOURS_MAX ? (uint32_t)hours : HOURS_MAX;
    for (uint32_t i = 0; i < entries_n; i++) {
        struct loaded_entry entry = take_entry(&entries);
        if (!baseline_put(&e->baseline, entry.fingerprint, entry.mean_log2, entry.n, &entry.past))
            e->baseline.missed_n++;
    }
    estimator_settle(e, now_us);
    return true;
}
