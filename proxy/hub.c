#include "proxy/hub.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

const struct end_row end_rows[END_REASONS_N] = {
#define END(name, who, text) {#name, #who, text},
#include "proxy/ends.h"
#undef END
};

/* pid: 0 | loop (7 bits) | slot (24 bits). Positive, as clients print it. */
enum { PID_SLOT_BITS = 24, SLOTS_MAX = 1 << PID_SLOT_BITS, NO_SLOT = -1 };

_Static_assert(WORKERS_MAX <= 1 << 7, "a pid has seven bits for its loop");

static bool grow(struct hub *h)
{
    uint32_t n = h->slots_n ? h->slots_n * 2 : 64;
    if (n > SLOTS_MAX)
        return false;
    struct hub_slot *slots = realloc(h->slots, n * sizeof *slots);
    if (!slots)
        return false;
    for (uint32_t i = h->slots_n; i < n; i++)
        slots[i] = (struct hub_slot){.next_free = i + 1 < n ? i + 1 : (uint32_t)NO_SLOT};
    h->slot_free = h->slots_n;
    h->slots = slots;
    h->slots_n = n;
    return true;
}

uint32_t hub_slot_take(struct hub *h, struct client *c)
{
    if ((!h->slots_n || h->slot_free == (uint32_t)NO_SLOT) && !grow(h))
        return UINT32_MAX;
    uint32_t slot_i = h->slot_free;
    struct hub_slot *slot = &h->slots[slot_i];
    must(!slot->client);
    h->slot_free = slot->next_free;
    slot->client = c;
    slot->generation++;
    return (uint32_t)h->worker->index << PID_SLOT_BITS | slot_i;
}

uint16_t hub_pid_worker(uint32_t pid)
{
    uint32_t worker_i = pid >> PID_SLOT_BITS;
    return worker_i < WORKERS_MAX ? (uint16_t)worker_i : WORKERS_MAX;
}

static struct hub_slot *slot_of(const struct hub *h, uint32_t pid)
{
    uint32_t slot_i = pid & (SLOTS_MAX - 1);
    return hub_pid_worker(pid) == h->worker->index && slot_i < h->slots_n ? &h->slots[slot_i]
                                                                          : NULL;
}

void hub_slot_give(struct hub *h, uint32_t pid)
{
    struct hub_slot *slot = slot_of(h, pid);
    must(slot && slot->client);
    slot->client = NULL;
    slot->next_free = h->slot_free;
    h->slot_free = pid & (SLOTS_MAX - 1);
}

struct client *hub_slot_find(const struct hub *h, uint32_t pid)
{
    struct hub_slot *slot = slot_of(h, pid);
    return slot ? slot->client : NULL;
}

void hub_cancel_key(const struct hub *h, uint32_t pid, uint8_t *key, size_t key_n)
{
    struct hub_slot *slot = slot_of(h, pid);
    must(slot && key_n <= 32);
    uint32_t what[2] = {pid, slot->generation};
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_n = 0;
    must(HMAC(EVP_sha256(), h->proxy->secret, sizeof h->proxy->secret, (const uint8_t *)what,
              sizeof what, mac, &mac_n));
    memcpy(key, mac, key_n);
}
