/* attn_blocks: which blocks of keys a query row visits. The one place that knows the attention kinds on the
 * CPU (docs/attention-routes.md, kinds). */
#ifndef FLUXD_KERNELS_ATTN_BLOCKS_H
#define FLUXD_KERNELS_ATTN_BLOCKS_H

#include "kernels/ops.h"

struct attn_walk {
    int next,
        last; /* arithmetic kinds: next block to visit, the diagonal block; bits: word at hand, last word */
    int gap_from, gap_to;           /* blocks in [gap_from, gap_to) are skipped */
    const int32_t *list, *list_end; /* ATTN_LIST as lists */
    const uint64_t *bits;           /* ATTN_LIST as bits */
    uint64_t left;                  /* bits of the word at hand that are still to visit */
};

/* For the query row at position pos (row index in its run: pos - s->pos0) of query head h. */
static inline struct attn_walk attn_walk_begin(const struct attn_seg *s, int pos, int h)
{
    int i = pos / PAGE_TOK, qblock = i - s->pos0 / PAGE_TOK;
    struct attn_walk w = {.next = 0, .last = i};
    bool dense = s->kind == ATTN_FULL || (s->kind == ATTN_TRIANGLE && pos >= s->dense_from) ||
                 (s->kind == ATTN_SPLIT && s->full_head[h]);
    if (s->kind == ATTN_NONE) {
        w.last = -1;
    } else if (s->kind == ATTN_LIST && s->keep) {
        w.bits = s->keep + h * s->keep_head_stride + qblock * s->keep_block_stride;
        w.left = w.bits[0];
        w.last = i / 64;
    } else if (s->kind == ATTN_LIST) {
        int n_qblock = (s->pos0 + s->n_row - 1) / PAGE_TOK - s->pos0 / PAGE_TOK + 1;
        const int32_t *off = s->list_off + (int64_t)h * (n_qblock + 1) + qblock;
        w.list = s->list + off[0];
        w.list_end = s->list + off[1];
    } else if (!dense && i - s->local_blocks + 1 > s->sink_blocks) {
        w.gap_from = s->sink_blocks;
        w.gap_to = i - s->local_blocks + 1;
    }
    return w;
}

/* Next block, ascending; -1 at the end. */
static inline int attn_walk_next(struct attn_walk *w)
{
    if (w->bits) {
        while (w->left == 0 && w->next < w->last) w->left = w->bits[++w->next];
        if (w->left == 0) return -1;
        int b = w->next * 64 + __builtin_ctzll(w->left);
        w->left &= w->left - 1;
        return b;
    }
    if (w->list) return w->list < w->list_end ? *w->list++ : -1;
    if (w->next == w->gap_from && w->gap_to > w->gap_from) w->next = w->gap_to;
    return w->next <= w->last ? w->next++ : -1;
}

#endif
