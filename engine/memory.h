/* memory: everything that a step writes, allocated once at open and taken from the system as it is touched:
 * the KV pool, the workspaces of one call, and the residual streams of prompts between their pieces. Engine
 * thread only. */
#ifndef FLUXD_ENGINE_MEMORY_H
#define FLUXD_ENGINE_MEMORY_H

#include <stdint.h>

#include "base/err.h"
#include "engine/backend.h"
#include "engine/spec.h"
#include "kernels/quant.h"

/* Buffers of the backend, one row per token of a call; X(name, rows, columns, bytes of an element). */
#define MEMORY_BUFFERS(X)                                                                                    \
    X(x, c->max_tok, s->d, act) /* residual stream */                                                        \
    X(h, c->max_tok, s->d, act) /* normed */                                                                 \
    X(qkv, c->max_tok, (s->n_head + 2 * s->n_kv) * s->head, act)                                             \
    X(q, c->max_tok, s->n_head * s->head, act)                                                               \
    X(q_raw, c->max_tok, s->n_head * s->head, act) /* before RoPE */                                         \
    X(att, c->max_tok, s->n_head * s->head, act)                                                             \
    X(gu, c->max_tok, 2 * s->f, act)                                                                         \
    X(ff, c->max_tok, s->f, act)                                                                             \
    X(code, c->code_k ? c->max_tok : 0, c->code_k, 1) /* rows that products with codes read */               \
    X(code_scale, c->code_k ? c->max_tok : 0, (c->code_k - 1) / FP8_BLOCK + 1, 4)                            \
    X(numbers, c->number_elems ? 1 : 0, c->number_elems, 2) /* a weight of 4 bits, for prompts */            \
    X(sorted, c->sort_k ? c->max_tok : 0, c->sort_k, act)   /* rows in such a weight's order */              \
    X(rx, c->router_tok, s->d, act)                         /* rows the router asks for */                   \
    X(last, c->logit_tok, s->d, act)                        /* rows that get logits */                       \
    X(last_h, c->logit_tok, s->d, act)                                                                       \
    X(logits, c->logit_tok, s->n_vocab, 4)                                                                   \
    X(work, c->logit_tok, 2 * s->n_vocab, 4) /* of sampling */                                               \
    X(id, c->max_tok, 1, 4)                                                                                  \
    X(pos, c->max_tok, 1, 4)                                                                                 \
    X(tok_page, c->max_tok, 1, 4)                                                                            \
    X(codes_page, c->codes ? c->max_seqs : 0, memory_blocks(c), 4) /* the host's: a layer's, by slot */      \
    X(rpos, c->router_tok, 1, 4)                                                                             \
    X(tok_row, c->logit_tok, 1, 4)                                                                           \
    X(pooled, 1, s->head, 4)                                                                                 \
    X(rope, c->max_len, s->head, 4)                                /* cos, sin */                            \
    X(keep, c->n_hold * c->hold_block, memory_keep_words(s, c), 8) /* blocks chosen, as bits */              \
    X(choose, c->n_hold ? 1 : 0, c->choose_work, 4)                                                          \
    X(mean, c->n_hold ? s->n_kv : 0, (int64_t)memory_blocks(c) * s->head, 4)

struct memory_conf {
    int max_tok;    /* rows of one call */
    int router_tok; /* rows of one router pass: P */
    int logit_tok;  /* rows of one product with the head */
    int max_len, max_seqs;
    int n_hold;           /* choices of blocks that a prompt has at once */
    int64_t hold_block;   /* query blocks that each of them has room for */
    int64_t choose_work;  /* floats */
    int code_k;           /* widest row of a product with codes; 0: there are none */
    int64_t number_elems; /* of the largest weight of 4 bits on a device; 0: there are none */
    int sort_k;           /* widest of them whose columns stand in another order than x */
    int stream_tok;       /* prompt tokens whose residual stream is held at once */
    int64_t pool_bytes;   /* 0: what is left of the device's memory */
    bool codes;           /* pages may hold codes (kernels/kv_fp8.h) */
    int n_wide;           /* pages behind the pool's, into which a call's pages of codes are widened */
};

static inline int memory_blocks(const struct memory_conf *c)
{
    return (c->max_len + PAGE_TOK - 1) / PAGE_TOK;
}
static inline int64_t memory_keep_words(const struct spec *s, const struct memory_conf *c)
{
    return (int64_t)s->n_head * ((memory_blocks(c) + 63) / 64);
}

struct memory {
#define MEMORY_FIELD(name, rows, cols, elem)                                                                 \
    void *name;                                                                                              \
    int64_t name##_bytes;
    MEMORY_BUFFERS(MEMORY_FIELD)
#undef MEMORY_FIELD
    void *pool; /* [n_page] KV pages, [G][K|V][PAGE_TOK][K] each, and n_wide more */
    void *exp;  /* [n_page][2 halves][G][K|V][PAGE_TOK] exponents of pages that hold codes; NULL: none may */
    int n_page, n_wide;
    int64_t page_bytes, exp_bytes; /* of a page: in pool, in exp */

    /* Residual streams: blocks of PAGE_TOK rows, taken as a prompt's first layer runs and freed by
     * engine_drop or the last piece. */
    void *stream;
    int64_t stream_bytes, row_bytes;
    int32_t *block; /* [max_seqs][blocks_per_seq], -1: none */
    int blocks_per_seq, n_block, n_free, max_seqs;
    int32_t *free_block; /* [n_block], the first n_free are free */

    int64_t workspace_bytes; /* all of the above but the pool */
};

int64_t memory_page_bytes(const struct backend *b, const struct spec *s); /* in the pool */
int64_t memory_exp_bytes(const struct spec *s); /* beside it, where it holds codes */
int64_t memory_pages_most(const struct spec *s, int max_seqs, int max_len); /* more can never be used */
enum err memory_open(struct memory *out, struct backend *b, const struct spec *s, const struct memory_conf *c,
                     struct err_note *note);
void memory_close(struct memory *m, struct backend *b);

/* Row of a buffer that is d wide in type act. */
static inline void *memory_row(const struct memory *m, void *buffer, int64_t row)
{
    return (char *)buffer + row * m->row_bytes;
}

/* Rows [tok0, tok1) of a slot's residual stream from or to `rows` (contiguous). put takes blocks as needed.
 */
void memory_stream_put(struct memory *m, struct backend *b, int slot, int tok0, int tok1, const void *rows);
void memory_stream_get(const struct memory *m, struct backend *b, int slot, int tok0, int tok1, void *rows);
void memory_stream_drop(struct memory *m, int slot);

#endif
