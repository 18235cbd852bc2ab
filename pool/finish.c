/* Will it be done in time? See finish.h. */
#include "pool/finish.h"

static void begin(struct finish *f, uint64_t bytes_n, uint64_t now_us, uint64_t due_us)
{
    *f = (struct finish){.runs = true,
                         .started_us = now_us,
                         .leased_us = now_us,
                         .due_us = due_us,
                         .bytes_from_n = bytes_n,
                         .last_bytes_n = f->last_bytes_n};
}

static void end(struct finish *f)
{
    /* One that moved next to nothing was no run, or came to nothing. */
    uint64_t bytes_n = f->bytes_n > f->last_bytes_n / 4 ? f->bytes_n : f->last_bytes_n;

    *f = (struct finish){.last_bytes_n = bytes_n};
}

uint64_t finish_speed(const struct finish *f, uint64_t now_us)
{
    uint64_t ms = us_since(f->started_us, now_us) / US_PER_MS;

    return ms == 0 ? 0 : f->bytes_n * 1000 / ms;
}

/* When the rest will be moved; 0: not known. */
static uint64_t projected_us(const struct finish *f, uint64_t now_us)
{
    uint64_t speed = finish_speed(f, now_us);

    if (f->last_bytes_n <= f->bytes_n || now_us < f->started_us + FINISH_YOUNG_US)
        return 0;
    if (speed == 0)
        return UINT64_MAX;
    return now_us + (f->last_bytes_n - f->bytes_n) / speed * US_PER_S;
}

bool finish_tick(struct finish *f, uint32_t leased_n, uint64_t bytes_n, uint64_t now_us,
                 uint64_t due_us)
{
    if (!f->runs && leased_n > 0)
        begin(f, bytes_n, now_us, due_us);
    if (!f->runs)
        return false;
    must(bytes_n >= f->bytes_from_n);
    f->bytes_n = bytes_n - f->bytes_from_n;
    if (leased_n > 0)
        f->leased_us = now_us;
    else if (now_us >= f->leased_us + FINISH_GAP_US)
        end(f);
    if (!f->runs || f->due_us == 0 || leased_n == 0)
        return false;
    bool passed = now_us >= f->due_us;
    uint64_t left_s = passed ? 0 : (f->due_us - now_us) / US_PER_S;
    f->late = passed || projected_us(f, now_us) > f->due_us;
    f->needed_bytes_per_s = 0;
    if (f->late && left_s > 0 && f->last_bytes_n > f->bytes_n)
        f->needed_bytes_per_s = (f->last_bytes_n - f->bytes_n) / left_s;
    bool news = f->late && !f->told;
    f->told |= f->late;
    return news;
}
