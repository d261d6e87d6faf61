/* kinds: what attention each layer does, as a table made at open: by layer and route bit, for prompts and for
 * decode. --sparse-kind and
 * --retrieval-mode say what the two bits mean; --layer-plan gives layers a kind of their own, whatever their
 * bit. Constant after open. */
#ifndef FLUXD_ENGINE_KINDS_H
#define FLUXD_ENGINE_KINDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/ops.h"

#define KINDS_WORDS                                                                                          \
    "full, streaming, window, none, triangle, xattn, retrieval, flex, reuse(layer), split(kv heads)"

/* One side of a layer. */
struct kind {
    int prefill, decode; /* enum attn_kind */
    bool no_sink;        /* window: streaming without sink blocks */
    int rule; /* enum choose_rule by which a prompt's query blocks choose key blocks; -1: they do not */
    int hold; /* where the choice is put (rule), and where ATTN_LIST takes it from; -1 */
    const uint8_t *full_head; /* ATTN_SPLIT: [H] */
};

struct kinds {
    struct kind (*side)[2]; /* [L] by route bit */
    uint8_t *fixed; /* [L] enum route_bit that the plan gives the layer (its pages follow it); ROUTE_OPEN
                       where the plan is silent */
    uint8_t *head;  /* [L][H] */
    int n_hold;     /* choices of a prompt that live at once; 0: nothing chooses */
    bool streams;   /* every layer with bit 0 reads only sink and window while prompts run */
    bool alike;     /* the route does not matter while the context fits into sink and window
                     */
    bool reuses;    /* a layer takes a choice that another one made */
};

struct kinds_conf {
    int n_layer, n_head, n_kv;
    int sparse, full; /* enum attn_kind of prompts in layers with bit 0 and 1; ATTN_LIST: xattn */
    const char *plan; /* "0-3:full,8:none,9:flex,10:reuse(9),11:split(0-1)"; NULL or "": none */
};

/* ERR_CONFIG with the setting's name and what is wrong with it; nothing is left behind. Ends with kinds_free.
 */
enum err kinds_open(struct kinds *out, const struct kinds_conf *conf, struct err_note *note);
void kinds_free(struct kinds *k); /* also of a zeroed one */

#endif
