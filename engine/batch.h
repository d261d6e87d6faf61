/* batch and step_out: what the scheduler asks of one engine step, and what comes back. Token ids and page ids
 * only. Engine thread only. Everything pointed to is borrowed for the time of the step. */
#ifndef FLUXD_ENGINE_BATCH_H
#define FLUXD_ENGINE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kv_fp8.h" /* entries of page tables */
#include "kernels/ops.h"    /* struct sample_row, struct sample_out, PAGE_TOK */

/* A layer's bit for one request (docs/attention-routes.md, route). */
enum route_bit {
    ROUTE_SPARSE = 0,
    ROUTE_FULL = 1,
    ROUTE_OPEN = 2 /* the Layer Router decides when the prompt reaches it */
};

/* One sequence as a step sees it. */
struct batch_seq {
    int slot;           /* [0, max_seqs): names the engine's own state of the sequence (residual stream) */
    const int32_t *tok; /* prompt, then answer so far */
    int n_prompt;
    const int32_t *page; /* [L][page_stride]: page of each block of each layer; < 0: none. Where full layers
                            keep codes (engine_info.kv_codes), theirs name halves of pages; batch_code_page
                            says what the engine makes of plain pages there */
    int page_stride;
    uint64_t page_stamp; /* another one whenever a page came into the table (of this slot, ever); 0: not kept,
                            look for yourself */
    uint8_t *route;      /* [L] enum route_bit; the engine turns OPEN into a decision, in place */
    float *margin;       /* [L] router margin of each decided layer (0 for given bits); may be NULL */
    float route_bias;    /* added to the router's margin; 0 normally */
    int min_full; /* layers that must be full: an open layer is, whatever its router says, once those left are
                     just enough */

    /* A prompt that goes on behind pages which another prompt with the same beginning wrote
     * (engine_info.resumes). */
    int n_cached; /* leading tokens in such pages: every layer's pieces begin behind them. A multiple of
                     PAGE_TOK below n_prompt; while bits are open also P or more, and n_prompt - P or less */
    const uint8_t
        *due; /* [L] the bits under which those pages were written; OPEN: any would have written the same */
    float *head_sum; /* [L][head] what the router pools of the first P rows: read where an open bit is decided
                        and n_cached > 0, written where n_cached is 0; NULL: not wanted */
    bool strayed; /* out: a decided bit is not the due one. Later bits stay open, and nothing else that comes
                     of this prompt's pieces means anything */
};

/* Whether an open layer must be full: with it and all behind it that may be, there would be no more than
 * min_full. Bits below it are decided. fixed: [L] what a plan gives open layers, or NULL. */
static inline bool batch_must_be_full(const struct batch_seq *s, const uint8_t *fixed, int layer, int n_layer)
{
    int n = 0;
    for (int l = 0; l < n_layer; l++) {
        uint8_t bit = s->route[l] == ROUTE_OPEN && fixed ? fixed[l] : s->route[l];
        n += bit == ROUTE_FULL || (bit == ROUTE_OPEN && l >= layer);
    }
    return s->min_full > 0 && n <= s->min_full;
}

/* Whether the router must decide this layer's bit. What a plan gives (fixed; ROUTE_OPEN: nothing) is settled
 * here, as are the bits of models without routers. */
static inline bool batch_stays_open(struct batch_seq *s, int layer, uint8_t fixed, bool routers)
{
    if (s->route[layer] != ROUTE_OPEN) return false;
    if (fixed == ROUTE_OPEN && routers) return true;
    s->route[layer] = fixed == ROUTE_OPEN ? ROUTE_FULL : fixed;
    return false;
}

/* A block of a layer with bit 1, where such layers keep codes. Pages are plain while the bit is open, one for
 * each block: then two blocks that a sequence wrote itself (from block `own` on) share the first one's. */
static inline int32_t batch_code_page(const int32_t *page, int own, int block)
{
    const bool second = block % 2 == 1 && block - 1 >= own;
    if (page[block] < 0 || page_has_codes(page[block])) return page[block];
    return page_codes(page_id(page[block - second]), block);
}

/* The router's word on an open layer becomes its bit; tells when that is not the due one. */
static inline void batch_take_margin(struct batch_seq *s, const uint8_t *fixed, int layer, int n_layer,
                                     float margin)
{
    s->route[layer] = margin > 0 || batch_must_be_full(s, fixed, layer, n_layer) ? ROUTE_FULL : ROUTE_SPARSE;
    if (s->margin) s->margin[layer] = margin;
    s->strayed = s->n_cached > 0 && s->due[layer] != ROUTE_OPEN && s->route[layer] != s->due[layer];
}

/* One decode row: token tok[pos] goes through all layers at position pos, a new token is sampled for pos + 1.
 * The scheduler has put a page for block pos / PAGE_TOK into every layer.
 *
 * A sequence may have several rows in a step: they stand side by side, their positions follow each other, and
 * tok holds what each of them reads (drafts to be verified, tokens that a grammar forces). Each gives the
 * bits of a step of its own. What a row that turns out wrong left in the pages is overwritten when its
 * position comes again; pages that the first row sees must stay until its step is over. */
struct batch_row {
    struct batch_seq *seq;
    int pos;
    struct sample_row sample;
};

/* A piece of prefill: prompt tokens [tok0, tok1) through layers [layer0, layer1). Either one layer, or
 * several layers with the whole prompt (0, n_prompt) at once. Pieces of a prompt come in order: all tokens of
 * a layer, then the next layer. Pages of blocks tok0/P .. (tok1-1)/P stand in every layer of the piece. At
 * tok0 == 0 the engine decides an OPEN bit first. The piece that ends the last layer samples the first token
 * from the prompt's last row. */
struct batch_piece {
    struct batch_seq *seq;
    int layer0, layer1;
    int tok0, tok1;
    struct sample_row sample; /* used by the last piece */
    struct sample_out
        *prompt_out; /* [n_prompt] by position, or NULL: logprob of each prompt token given those before
                        (entry 0 is not written), filled as the last layer's pieces run */
    int prompt_top;  /* how many top logprobs with it */
};

struct batch {
    int n_row, n_piece;
    struct batch_row *row;
    struct batch_piece *piece;
    void (*masks)(void *arg); /* called before the mask of any row is read, when as much as can be done
                                 without them is done or queued: they may be made until it returns. More than
                                 once; NULL: no row has one */
    void *masks_arg;
};

struct step_out {
    struct sample_out *row;        /* [n_row] caller's memory */
    struct sample_out *piece;      /* [n_piece] caller's memory; written where drew[i] */
    uint8_t *drew;                 /* [n_piece] 1 where the piece ended its prompt */
    int64_t decode_ns, prefill_ns; /* time spent on each part, for the cost model */
    int64_t
        idle_ns; /* of a device: time since the step before in which it waited for its host; < 0: not known */
};

#endif
