/* bpe: the symbols of a piece are a linked list in an array. Of a short piece, a heap holds every pair that
 * may merge as rank << 32 | position, so that the lowest rank comes first and, among equals, the leftmost.
 * Entries are never removed: one whose symbol has got another rank since is stale and skipped. Pairs of a
 * long piece wait in a bpe_queue. */
#include "server/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

#define NONE UINT32_MAX

struct pair_slot {
    uint64_t pair; /* left << 32 | right; PAIR_FREE: free, as ids are not negative */
    uint32_t rank;
    int32_t to; /* what the merge makes */
};
#define PAIR_FREE UINT64_MAX

struct bpe {
    int32_t byte_id[256];
    uint64_t seed; /* so that no file can choose its collisions */
    uint32_t n_merge;
    unsigned shift; /* 64 - log2(slots) */
    size_t mask;    /* slots - 1 */
    struct pair_slot *slot;
};

struct bpe_symbol {
    int32_t id;
    uint32_t prev, next; /* NONE at the ends */
    uint32_t rank;       /* of the pair (this, next); NONE: it does not merge, or this symbol is gone */
    int32_t to;          /* what that pair makes */
};

struct bpe *bpe_new(size_t n_merge)
{
    if (n_merge >= NONE / 4) return NULL;
    struct bpe *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    size_t n_slot = 16;
    b->shift = 60;
    while (n_slot < n_merge * 2) {
        n_slot *= 2;
        b->shift--;
    }
    b->n_merge = (uint32_t)n_merge;
    b->mask = n_slot - 1;
    b->slot = malloc(n_slot * sizeof *b->slot);
    if (!b->slot) {
        bpe_free(b);
        return NULL;
    }
    for (size_t i = 0; i < n_slot; i++) b->slot[i] = (struct pair_slot){.pair = PAIR_FREE};
    for (int i = 0; i < 256; i++) b->byte_id[i] = -1;
    uint8_t key[16];
    hash_random_key(key);
    memcpy(&b->seed, key, sizeof b->seed);
    b->seed |= 1;
    return b;
}

void bpe_free(struct bpe *b)
{
    if (!b) return;
    free(b->slot);
    free(b);
}

/* The slot that holds the pair, or the free one where it belongs. */
static struct pair_slot *slot_of(const struct bpe *b, uint64_t pair)
{
    uint64_t h = (pair ^ pair >> 29) * b->seed;
    h = (h ^ h >> 32) * b->seed;
    for (size_t i = (size_t)(h >> b->shift);; i = (i + 1) & b->mask) {
        struct pair_slot *s = &b->slot[i];
        if (s->pair == pair || s->pair == PAIR_FREE) return s;
    }
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void bpe_set_byte(struct bpe *b, uint8_t byte, int32_t id) { b->byte_id[byte] = id; }

void bpe_set_merge(struct bpe *b, uint32_t rank, int32_t left, int32_t right, int32_t to)
{
    CHECK(rank < b->n_merge && left >= 0 && right >= 0 && to >= 0);
    struct pair_slot *s = slot_of(b, pair_of(left, right));
    *s = (struct pair_slot){.pair = pair_of(left, right), .rank = rank, .to = to};
}

static uint32_t look_up(const struct bpe *b, int32_t left, int32_t right, int32_t *to)
{
    const struct pair_slot *s = slot_of(b, pair_of(left, right));
    *to = s->to;
    return s->pair == PAIR_FREE ? NONE : s->rank;
}

/* ---- heap of uint64, the least on top ---- */

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t v = heap[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (v <= heap[child]) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = v;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t v)
{
    size_t i = (*n)++;
    while (i > 0 && v < heap[(i - 1) / 2]) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = v;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) sift_down(heap, *n, 0);
    return top;
}

/* ---- one piece ---- */

void bpe_scratch_fini(struct bpe_scratch *s)
{
    free(s->symbol);
    free(s->heap);
    bpe_queue_fini(&s->queue);
    *s = (struct bpe_scratch){0};
}

#define HEAP_PER_SYMBOL 3   /* n - 1 pairs at the start and two new ones for each of n - 1 merges */
#define SHORT_BYTES     512 /* up to here the heap stays in a core's first cache; words are shorter by far */

static bool scratch_reserve(const struct bpe *b, struct bpe_scratch *s, size_t n)
{
    if (!s->heap && !(s->heap = malloc(SHORT_BYTES * HEAP_PER_SYMBOL * sizeof *s->heap))) return false;
    if (n > SHORT_BYTES && !bpe_queue_reserve(&s->queue, n, b->n_merge)) return false;
    if (n <= s->cap) return true;
    const size_t cap = n < SHORT_BYTES ? SHORT_BYTES : n;
    free(s->symbol);
    s->symbol = malloc(cap * sizeof *s->symbol);
    s->cap = s->symbol ? cap : 0;
    return s->symbol != NULL;
}

static uint32_t add_symbol(struct bpe_scratch *s, uint32_t k, int32_t id)
{
    s->symbol[k] =
        (struct bpe_symbol){.id = id, .prev = k - 1, .next = k + 1, .rank = NONE}; /* 0 - 1 is NONE */
    return k + 1;
}

/* The symbol at `at` takes the right one into itself. */
static struct bpe_symbol *merge(struct bpe_scratch *s, uint32_t at)
{
    struct bpe_symbol *c = &s->symbol[at], *right = &s->symbol[c->next];
    c->id = c->to;
    c->next = right->next;
    right->rank = NONE;
    if (c->next != NONE) s->symbol[c->next].prev = at;
    return c;
}

static uint32_t look_up_pair(const struct bpe *b, struct bpe_scratch *s, uint32_t at)
{
    struct bpe_symbol *c = &s->symbol[at];
    c->rank = c->next == NONE ? NONE : look_up(b, c->id, s->symbol[c->next].id, &c->to);
    return c->rank;
}

/* The pair at `at` is new. */
static void push_pair(const struct bpe *b, struct bpe_scratch *s, uint32_t at, size_t *n_heap)
{
    const uint32_t rank = look_up_pair(b, s, at);
    if (rank != NONE) heap_push(s->heap, n_heap, (uint64_t)rank << 32 | at);
}

static void merge_short(const struct bpe *b, struct bpe_scratch *s, uint32_t k)
{
    size_t n_heap = 0;
    for (uint32_t i = 0; i + 1 < k; i++)
        if (s->symbol[i].rank != NONE) s->heap[n_heap++] = (uint64_t)s->symbol[i].rank << 32 | i;
    for (size_t i = n_heap / 2; i-- > 0;) sift_down(s->heap, n_heap, i);
    while (n_heap > 0) {
        uint64_t top = heap_pop(s->heap, &n_heap);
        uint32_t at = (uint32_t)top, rank = (uint32_t)(top >> 32);
        if (s->symbol[at].rank != rank) continue;
        const struct bpe_symbol *c = merge(s, at);
        push_pair(b, s, at, &n_heap);
        if (c->prev != NONE) push_pair(b, s, c->prev, &n_heap);
    }
}

static void leave_queue(struct bpe_scratch *s, uint32_t at)
{
    if (s->symbol[at].rank != NONE) bpe_queue_remove(&s->queue, s->symbol[at].rank, at);
}

static void queue_pair(const struct bpe *b, struct bpe_scratch *s, uint32_t at)
{
    const uint32_t rank = look_up_pair(b, s, at);
    if (rank != NONE) bpe_queue_add(&s->queue, rank, at);
}

static void merge_long(const struct bpe *b, struct bpe_scratch *s, uint32_t k)
{
    uint32_t rank, at;
    for (uint32_t i = 0; i + 1 < k; i++)
        if (s->symbol[i].rank != NONE) bpe_queue_add(&s->queue, s->symbol[i].rank, i);
    while (bpe_queue_take(&s->queue, &rank, &at)) {
        leave_queue(s, s->symbol[at].next);
        const struct bpe_symbol *c = merge(s, at);
        if (c->prev != NONE) {
            leave_queue(s, c->prev);
            queue_pair(b, s, c->prev);
        }
        queue_pair(b, s, at);
    }
}

/* The k symbols that are there, which were made of n bytes or ids. */
static bool merge_all(const struct bpe *b, struct bpe_scratch *s, uint32_t k, size_t n, struct token_vec *out)
{
    if (k == 0) return true;
    s->symbol[k - 1].next = NONE;
    for (uint32_t i = 0; i + 1 < k; i++) look_up_pair(b, s, i);
    if (n > SHORT_BYTES)
        merge_long(b, s, k);
    else
        merge_short(b, s, k);
    for (uint32_t i = 0; i != NONE; i = s->symbol[i].next) {
        if (!token_vec_push(out, s->symbol[i].id)) return false;
    }
    return true;
}

bool bpe_encode_ids(const struct bpe *b, struct bpe_scratch *s, const int32_t *id, size_t n,
                    struct token_vec *out)
{
    uint32_t k = 0;
    CHECK(n <= BPE_PIECE_BYTES_MAX);
    if (!scratch_reserve(b, s, n)) return false;
    for (size_t i = 0; i < n; i++) k = add_symbol(s, k, id[i]);
    return merge_all(b, s, k, n, out);
}

/* One symbol for each byte that has a piece. */
bool bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *p, size_t n, struct token_vec *out)
{
    if (n == 1) {
        int32_t id = b->byte_id[(uint8_t)p[0]];
        return id < 0 || token_vec_push(out, id);
    }
    uint32_t k = 0;
    CHECK(n <= BPE_PIECE_BYTES_MAX);
    if (!scratch_reserve(b, s, n)) return false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[(uint8_t)p[i]];
        if (id >= 0) k = add_symbol(s, k, id);
    }
    return merge_all(b, s, k, n, out);
}
