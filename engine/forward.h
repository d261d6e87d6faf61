/* forward: the transformer, written once over the table of ops, for the calls that step.c cuts a batch into.
 * What the host and a device do each in their own way is a table of parts: host.c and cuda/forward.c. A call
 * is a set of spans: runs of rows of sequences, all of one phase. Decode rows are spans of one row. The
 * result of a row does not depend on the other rows of the call. */
#ifndef FLUXD_ENGINE_FORWARD_H
#define FLUXD_ENGINE_FORWARD_H

#include <stdbool.h>

#include "engine/state.h"

struct span {
    struct batch_seq *seq;
    const struct batch_piece *piece; /* NULL: a decode row */
    int pos0, n;                     /* positions [pos0, pos0 + n) */
    int row0;                        /* its first row in the call's buffers */
};

/* One call: rows of the spans through layers [layer0, layer1). */
struct call {
    struct engine *e;
    const struct span *span;
    int n_span, n_tok;
    int layer0, layer1;
    bool decode;
};

/* What a layer's rows have beside memory.x: positions, pages to write, and whether the router will read q
 * before RoPE. */
struct layer_rows {
    const int32_t *pos, *page;
    bool raw;
    bool late; /* pages depend on bits that are decided here: page is there behind that, not before */
};

/* What stands around a product with codes (weights of DT_FP8) and is done by it. */
struct around {
    const void *norm; /* [K]: what is multiplied is x's norm with these weights; NULL: x */
    bool gates;       /* x: [T, 2 K], gates first; what is multiplied is silu(gate) * up */
    bool opens;       /* decode. w: gates, then what they open; y [T, N / 2] = silu(gate) * up */
};

/* The parts of a call, in the order in which step.c asks for them. A device may only queue them: what a call
 * left in memory.x is there for what is queued behind it, results are there when sample and take_bits return.
 */
struct forward {
    int decode_rows; /* most rows of one decode call */
    /* Residual rows into memory.x: embeddings, or what the layer below left in the streams. */
    enum err (*begin)(const struct call *c);
    /* memory.x through the call's layers: forward_layers, or what was captured of it. Decides OPEN route bits
     * where a span begins its prompt. */
    enum err (*layers)(const struct call *c);
    /* The decided bits are in the sequences afterwards, with margin, head_sum and strayed. */
    enum err (*take_bits)(const struct call *c);
    /* Logits of n rows of memory.x, and what sampling makes of them. Any n; in decode all rows in order. */
    enum err (*sample)(const struct call *c, int n, const int *row, const struct sample_row *sample,
                       struct sample_out *out);
    /* Ends a step that went as err says: nothing is queued afterwards, out->idle_ns is set, note says why it
     * failed. */
    enum err (*end)(struct engine *e, enum err err, struct step_out *out, struct err_note *note);

    /* The stages of a layer that are not ops, in their order. Before its norm: the bits of prompts whose rows
     * are not all in the call, in the buffers that the call itself needs next; what the other rows need. */
    enum err (*enter)(const struct call *c, int layer, struct layer_rows *rows);
    /* rows.raw: the bits of the other prompts, from memory.q_raw; rows.late: the pages. */
    enum err (*decide)(const struct call *c, int layer, struct layer_rows *rows);
    /* The runs that attention goes through, with the blocks that they chose. */
    enum err (*runs)(const struct call *c, int layer, const struct attn_seg **seg);
    /* A product whose weights are codes; NULL where none are held so. */
    enum err (*coded)(const struct call *c, const struct gemm_args *a, const struct around *around);
    /* One call's layer as a whole, where products do what stands between them; NULL: never. */
    bool (*fuses)(const struct call *c);
    enum err (*fused)(const struct call *c, int layer);
};

extern const struct forward forward_on_host;

/* --- over the table of ops */

/* memory.x through the call's layers. */
enum err forward_layers(const struct call *c);
/* Logits of n rows of memory.x: gathered where rows are given, else the first n. */
enum err forward_logits(const struct call *c, int n, const int32_t *row);

enum err forward_embed(const struct call *c, void *out, const int32_t *id, int n);
enum err forward_norm(const struct call *c, void *out, const void *x, const void *w, int n);
/* n rows of memory.qkv to q, to q_raw where rows.raw, and to the pages where there are any. */
enum err forward_rope(const struct call *c, int layer, int n, const struct layer_rows *rows);
/* The same rows' keys and values to the pages alone. */
enum err forward_pages(const struct call *c, int layer, int n, const struct layer_rows *rows);
enum err forward_attend(const struct call *c, const struct attn_seg *seg);
/* n normed rows of memory.h that are not the call's own to q_raw: what the router pools. Overwrites qkv and
 * q.
 */
enum err forward_queries(const struct call *c, int layer, int n, const int32_t *pos);

/* The product of a layer with one of its matrices, and that with the head, for n rows. */
struct gemm_args forward_product(const struct engine *e, int layer, enum layer_matrix mat, int n);
struct gemm_args forward_head(const struct engine *e, int n);

/* A plan's word, whatever the bit: for every sequence, for prompts and decode. */
static inline bool forward_skips_attention(const struct engine *e, int layer)
{
    return e->kinds.side[layer][0].prefill == ATTN_NONE;
}

/* All rows of the prompt that are computed at all are in this call. */
static inline bool forward_is_whole(const struct span *sp)
{
    return sp->pos0 == sp->seq->n_cached && sp->pos0 + sp->n == sp->seq->n_prompt;
}

/* Rows that a router pools at each end of the prompt: P, clipped to it. */
static inline int forward_pooled_rows(const struct engine *e, const struct batch_seq *seq)
{
    return e->info.router_pool_size < seq->n_prompt ? e->info.router_pool_size : seq->n_prompt;
}

/* First row that is dense in triangle layers: of the prompt's last, never its first. */
static inline int forward_dense_from(const struct engine *e, const struct batch_seq *seq)
{
    const int s = seq->n_prompt, n_last = e->flux.triangle_n_last;
    return s - (n_last < s - 1 ? n_last : s - 1);
}

/* Words of a choice of blocks: a bit for each block of the longest sequence. */
static inline int forward_keep_words(const struct engine *e)
{
    return ((e->info.max_len + PAGE_TOK - 1) / PAGE_TOK + 63) / 64;
}

/* The share of a query block's score that its chosen blocks reach (XAttention 2503.16428; FlexPrefill's
 * gamma). */
static inline float forward_threshold(int rule) { return rule == CHOOSE_FLEX ? 0.95f : 0.9f; }

#endif
