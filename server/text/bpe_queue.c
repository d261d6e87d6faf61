/* bpe_queue: a list of positions for each rank, ascending, and a tree of bits over the ranks whose lists are
 * not empty. The merges of one rank go through the text from left to right, so what they add to a list comes
 * in ascending order: the place of a position is looked for from where the last one went in. A list is passed
 * as often as different merges add to it, which the vocabulary bounds, whatever the text. */
#include "server/text/bpe_queue.h"

#include <stdlib.h>
#include <string.h>

/* Positions are held as position + 1; 0: none. */
struct bpe_bucket {
    uint32_t head, tail, last; /* last: where the last one went in */
};

struct bpe_link {
    uint32_t prev, next;
};

/* ---- the ranks that have pairs ---- */

static void rank_add(struct bpe_queue *q, size_t i)
{
    for (int k = 0; k < q->n_level; k++, i /= 64) {
        const uint64_t before = q->level[k][i / 64];
        q->level[k][i / 64] = before | UINT64_C(1) << i % 64;
        if (before) return;
    }
}

static void rank_remove(struct bpe_queue *q, size_t i)
{
    for (int k = 0; k < q->n_level; k++, i /= 64) {
        if (q->level[k][i / 64] &= ~(UINT64_C(1) << i % 64)) return;
    }
}

static size_t rank_least(const struct bpe_queue *q)
{
    size_t i = 0;
    for (int k = q->n_level; k-- > 0;) i = i * 64 + (size_t)__builtin_ctzll(q->level[k][i]);
    return i;
}

/* ---- the lists ---- */

/* Behind which of the list the position belongs; 0: it is the first. */
static uint32_t place_of(struct bpe_queue *q, const struct bpe_bucket *b, uint32_t me)
{
    if (me > b->tail) return b->tail;
    if (me < b->head) return 0;
    const uint32_t far = me > b->last ? me - b->last : b->last - me;
    uint32_t i = me - b->head < far ? b->head : b->last;
    for (; i > me; i = q->link[i - 1].prev) q->steps++;
    for (uint32_t next; (next = q->link[i - 1].next) < me; i = next) q->steps++; /* the tail is behind it */
    return i;
}

void bpe_queue_add(struct bpe_queue *q, uint32_t rank, uint32_t at)
{
    struct bpe_bucket *b = &q->bucket[rank];
    const uint32_t me = at + 1;
    q->steps++;
    if (!b->head) rank_add(q, rank);
    const uint32_t prev = b->head ? place_of(q, b, me) : 0, next = prev ? q->link[prev - 1].next : b->head;
    q->link[at] = (struct bpe_link){.prev = prev, .next = next};
    if (prev)
        q->link[prev - 1].next = me;
    else
        b->head = me;
    if (next)
        q->link[next - 1].prev = me;
    else
        b->tail = me;
    b->last = me;
}

void bpe_queue_remove(struct bpe_queue *q, uint32_t rank, uint32_t at)
{
    struct bpe_bucket *b = &q->bucket[rank];
    const struct bpe_link l = q->link[at];
    q->steps++;
    if (l.prev)
        q->link[l.prev - 1].next = l.next;
    else
        b->head = l.next;
    if (l.next)
        q->link[l.next - 1].prev = l.prev;
    else
        b->tail = l.prev;
    if (b->last == at + 1) b->last = l.prev ? l.prev : l.next;
    if (!b->head) rank_remove(q, rank);
}

bool bpe_queue_take(struct bpe_queue *q, uint32_t *rank, uint32_t *at)
{
    if (q->level[q->n_level - 1][0] == 0) return false;
    *rank = (uint32_t)rank_least(q);
    *at = q->bucket[*rank].head - 1;
    bpe_queue_remove(q, *rank, *at);
    return true;
}

/* ---- memory ---- */

/* Zeroed by calloc: of a large vocabulary only the pages that a text needs are touched. */
static bool open_ranks(struct bpe_queue *q, size_t n_rank)
{
    q->bucket = calloc(n_rank ? n_rank : 1, sizeof *q->bucket);
    bool ok = q->bucket != NULL;
    for (size_t n = n_rank; ok && (q->n_level == 0 || n > 1);) {
        n = n / 64 + 1;
        uint64_t *words = calloc(n, sizeof *words);
        if (!(ok = words != NULL)) break;
        q->level[q->n_level++] = words;
    }
    return ok;
}

bool bpe_queue_reserve(struct bpe_queue *q, size_t n, uint32_t n_rank)
{
    bool ok = q->bucket || open_ranks(q, n_rank);
    if (ok && n > q->cap) {
        free(q->link);
        q->link = malloc(n * sizeof *q->link);
        q->cap = q->link ? n : 0;
        ok = q->link != NULL;
    }
    if (!ok) bpe_queue_fini(q);
    return ok;
}

void bpe_queue_fini(struct bpe_queue *q)
{
    for (int k = 0; k < q->n_level; k++) free(q->level[k]);
    free(q->bucket);
    free(q->link);
    *q = (struct bpe_queue){.steps = q->steps};
}
