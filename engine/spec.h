/* spec: everything a model file says about a model's shape, checked. Plain data, read once at open. */
#ifndef FLUXD_ENGINE_SPEC_H
#define FLUXD_ENGINE_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/families.h"
#include "engine/source.h"

enum { SPEC_EOS_MOST = 16, SPEC_LAYER_MOST = 512 };

/* What routes and sparse layers need; -1 where the file does not say. Tokens. */
struct flux_spec {
    int sparse_kind; /* enum attn_kind */
    int sink_size, local_window_size, pool_size, triangle_n_last;
    int retrieval_kind; /* enum attn_kind of full layers in prefill */
};

/* How angles are stretched beyond the context that a model was trained on. Tokens where not said otherwise.
 */
struct rope_scaling {
    int kind;         /* enum rope_kind */
    double factor;    /* 1 or more */
    double low, high; /* llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast (turns in the
                         original context) */
    double original_len; /* context before scaling */
    double attention;    /* yarn: cos and sin are multiplied by it */
    bool whole;          /* yarn: the ramp's ends are whole dimensions */
};
enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

/* Angle of dimension pair i for one step of position, before any factors of the file: base^(-2i/K), scaled.
 */
float rope_frequency(const struct rope_scaling *r, double base, int head, int i);

/* How a file stores a matrix. All but the first keep codes with scales beside them (engine/scaled.h). */
enum stored_form {
    STORED_PLAIN,
    STORED_FLOAT,  /* weight in F8_E4M3, weight_scale or weight_scale_inv */
    STORED_PACKED, /* compressed-tensors: weight_packed, 8 columns a word */
    STORED_AWQ,    /* qweight [k, n / 8], 8 rows a word in an order of its own */
    STORED_GPTQ,   /* qweight [k / 8, n], 8 columns a word */
};

struct stored_scheme {
    enum stored_form form;
    int rows, cols;  /* that share a scale; 0: all of them */
    bool zeros;      /* 4 bits: zero points beside the scales */
    bool zero_less1; /* GPTQ's first form: stored less 1 */
    bool ordered;    /* columns say which group they belong to */
    bool input;      /* a scale for the inputs must be there */
    bool alone;      /* inputs stay numbers */
};

enum { STORED_MOST = 16, STORED_PART_MOST = 8 };

/* By layer and row of matrix_parts: index + 1 into scheme; 0: plain. */
struct stored_spec {
    struct stored_scheme scheme[STORED_MOST];
    int n_scheme;
    uint8_t part[SPEC_LAYER_MOST][STORED_PART_MOST], head;
    bool kv_codes;  /* keys and values are meant to be kept as e4m3 */
    bool kv_scales; /* the file has scales for them */
};

struct spec {
    char name[96];
    const struct family *family;
    int parts; /* enum part_flag: the vectors that this model has beside those of every model */
    int n_layer, d, n_head, n_kv, head, f, n_vocab;
    int max_len; /* context the model was made for */
    float eps;
    double rope_base;
    struct rope_scaling rope;
    int tied; /* the embeddings are the last product's weights too: 1, 0; -1: where the file has no others */
    int router_out; /* of a checkpoint with routers: 2 softmax form, 1 sigmoid form */
    int n_eos;
    int32_t eos[SPEC_EOS_MOST];
    struct flux_spec flux;
    struct stored_spec stored;
};

/* Refuses what is missing, out of range or inconsistent, naming the key. */
enum err spec_load(struct spec *out, struct source *src, struct err_note *note);

/* The same of a Hugging Face directory's config.json and generation_config.json. */
enum err spec_load_config(struct spec *out, struct source *src, struct err_note *note);

int spec_dim(const struct spec *s, enum dim d);

#endif
