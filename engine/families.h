/* families: a model family as a row of data, and the tensors of a transformer as rows of data. forward.c has
 * no branch on a family's name. Constant tables, any thread. */
#ifndef FLUXD_ENGINE_FAMILIES_H
#define FLUXD_ENGINE_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

/* How a file names its tensors. */
enum naming { NAMING_GGUF, NAMING_HF, NAMING_COUNT };

struct family {
    const char *name;      /* "llama" */
    const char *gguf_arch; /* general.architecture, or NULL */
    const char *hf_arch;   /* architectures[0] */
    int always, option;    /* enum part_flag: vectors that each model has, and that one may have */
    bool router;           /* Layer Routers inside the checkpoint */
    bool window;           /* every layer has config.json's sliding_window, where it is a number */
    int head;              /* K where config.json does not say; 0: D / H */
    bool gguf_permuted;    /* GGUF stores q and k rows in pairs (i, i + K/2) side by side */
};
const struct family *family_by_arch(enum naming naming, const char *arch, size_t n); /* NULL: unknown */

/* What a layer holds. Matrices first; each is made of the parts below, one under the other. */
enum layer_matrix { MAT_QKV, MAT_O, MAT_GATE_UP, MAT_DOWN, MAT_COUNT };
enum layer_vector {
    VEC_ATTN_NORM,
    VEC_FFN_NORM,
    VEC_Q_NORM, /* of each head */
    VEC_K_NORM,
    VEC_QKV_BIAS,
    VEC_O_BIAS,
    VEC_GATE_UP_BIAS,
    VEC_DOWN_BIAS,
    VEC_COUNT
};

/* Sizes by name; spec_dim gives their values. */
enum dim { DIM_D, DIM_Q, DIM_KV, DIM_F, DIM_K, DIM_V, DIM_COUNT };

enum part_flag {
    PART_ROPE = 1, /* its rows are heads that RoPE turns: permuted where the family's GGUF is */
    /* Only where the model has them (spec.parts): */
    PART_QKV_BIAS = 2,
    PART_O_BIAS = 4,
    PART_MLP_BIAS = 8,
    PART_NORM = 16,
};

/* What each of several ranks has of a tensor (engine/rank.h). */
enum shard {
    SHARD_ALL,   /* all of it */
    SHARD_OUT,   /* rows: outputs of a product, elements of a vector */
    SHARD_KV,    /* rows, by kv heads: ranks beyond their number share one */
    SHARD_IN,    /* columns: a product's results are added up over the ranks */
    SHARD_FIRST, /* all of it on rank 0, nothing on others: what is added behind such a sum */
};

struct part_row {
    const char *name[NAMING_COUNT]; /* inside a layer; of a matrix without ".weight" */
    int slot;                       /* enum layer_matrix or layer_vector */
    enum dim n, k;                  /* rows, columns; vectors have n alone */
    int flags;
    enum shard shard;
};
extern const struct part_row matrix_parts[], vector_parts[];
extern const int n_matrix_part, n_vector_part;

/* Tensors outside the layers. */
enum top_tensor { TOP_EMBED, TOP_NORM, TOP_HEAD, TOP_ROPE_FACTORS, TOP_COUNT };
extern const char *const top_names[TOP_COUNT][NAMING_COUNT];
extern const enum shard top_shards[TOP_COUNT];
extern const char *const layer_prefix[NAMING_COUNT]; /* printf format with the layer's number */

#endif
