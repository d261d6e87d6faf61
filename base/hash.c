/* hash: SipHash-2-4 as in "SipHash: a fast short-input PRF" (Aumasson, Bernstein 2012), with the 128-bit form
 * of the authors' reference. strmap hashes under its own random key, so that no file can choose its
 * collisions. */
#include "base/hash.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned r) { return x << r | x >> (64 - r); }

static inline uint64_t load_le64(const unsigned char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

static inline void sip_rounds(struct sip *s, int n)
{
    for (int i = 0; i < n; i++) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 = rotl(s->v2, 32);
    }
}

static inline void sip_absorb(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_rounds(s, 2);
    s->v0 ^= word;
}

static inline uint64_t sip_fold(const struct sip *s) { return s->v0 ^ s->v1 ^ s->v2 ^ s->v3; }

/* The state after key and message, before finalisation. tweak is 0, or 0xee for the 128-bit form. */
static struct sip sip_begin(const uint8_t key[16], const unsigned char *p, size_t n, uint64_t tweak)
{
    uint64_t k0 = load_le64(key), k1 = load_le64(key + 8);
    struct sip s = {
        .v0 = k0 ^ UINT64_C(0x736f6d6570736575), /* "somepseudorandomlygeneratedbytes" */
        .v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ tweak,
        .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = k1 ^ UINT64_C(0x7465646279746573),
    };
    size_t whole = n / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) sip_absorb(&s, load_le64(p + i));

    uint64_t last = (uint64_t)n << 56;
    for (size_t i = whole; i < n; i++) last |= (uint64_t)p[i] << 8 * (i - whole);
    sip_absorb(&s, last);
    return s;
}

uint64_t hash64(const uint8_t key[16], const void *p, size_t n)
{
    struct sip s = sip_begin(key, p, n, 0);
    s.v2 ^= 0xff;
    sip_rounds(&s, 4);
    return sip_fold(&s);
}

struct hash128 hash128(const uint8_t key[16], const void *p, size_t n)
{
    struct sip s = sip_begin(key, p, n, 0xee);
    struct hash128 h;
    s.v2 ^= 0xee;
    sip_rounds(&s, 4);
    h.lo = sip_fold(&s);
    s.v1 ^= 0xdd;
    sip_rounds(&s, 4);
    h.hi = sip_fold(&s);
    return h;
}

void hash_random_key(uint8_t key[16])
{
    ssize_t n;
    do n = getrandom(key, 16, 0); /* up to 256 bytes come whole, or not at all when a signal comes first */
    while (n < 0 && errno == EINTR);
    CHECK(n == 16);
}

/* ---- strmap: linear probing, at most half full, so that a missing key is known after one or two slots ----
 */

struct slot {
    const char *key; /* NULL: free */
    size_t n;
    uint64_t hash;
    int32_t value;
};

struct strmap {
    uint8_t key[16];
    size_t n_used;
    size_t mask; /* slots - 1; slots is a power of two */
    struct slot *slot;
};

#define STRMAP_SLOTS_LEAST ((size_t)16)

struct strmap *strmap_new(size_t n_expected)
{
    if (n_expected > SIZE_MAX / 4 / sizeof(struct slot)) return NULL;
    size_t n_slots = STRMAP_SLOTS_LEAST;
    while (n_slots / 2 < n_expected) n_slots *= 2;

    struct strmap *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->slot = calloc(n_slots, sizeof *m->slot);
    if (!m->slot) {
        free(m);
        return NULL;
    }
    m->mask = n_slots - 1;
    hash_random_key(m->key);
    return m;
}

void strmap_free(struct strmap *m)
{
    if (!m) return;
    free(m->slot);
    free(m);
}

/* The slot that holds the key, or the free one where it belongs. */
static struct slot *slot_of(const struct strmap *m, const char *key, size_t n, uint64_t hash)
{
    for (size_t i = (size_t)hash & m->mask;; i = (i + 1) & m->mask) {
        struct slot *s = &m->slot[i];
        if (!s->key) return s;
        if (s->hash == hash && s->n == n && memcmp(s->key, key, n) == 0) return s;
    }
}

static bool strmap_grow(struct strmap *m)
{
    size_t n_old = m->mask + 1;
    struct slot *old = m->slot;
    if (n_old > SIZE_MAX / 2) return false;
    struct slot *bigger = calloc(n_old * 2, sizeof *bigger);
    if (!bigger) return false;
    m->slot = bigger;
    m->mask = n_old * 2 - 1;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].key) *slot_of(m, old[i].key, old[i].n, old[i].hash) = old[i];
    }
    free(old);
    return true;
}

bool strmap_put(struct strmap *m, const char *key, size_t n, int32_t value)
{
    CHECK(value >= 0);
    if (n == 0) key = ""; /* an empty key may come as NULL, which marks a free slot */
    uint64_t hash = hash64(m->key, key, n);
    struct slot *s = slot_of(m, key, n, hash);
    if (s->key) return false;
    if (m->n_used >= (m->mask + 1) / 2) {
        if (!strmap_grow(m)) return false;
        s = slot_of(m, key, n, hash);
    }
    *s = (struct slot){.key = key, .n = n, .hash = hash, .value = value};
    m->n_used++;
    return true;
}

int32_t strmap_get(const struct strmap *m, const char *key, size_t n)
{
    if (n == 0) key = "";
    const struct slot *s = slot_of(m, key, n, hash64(m->key, key, n));
    return s->key ? s->value : -1;
}
