/* engine: one model on one device. TENSORS. The public door of the floor.
 * One thread calls it: engine_open, engine_step and engine_close come from the engine thread. engine_info is
 * constant after open and may be read by any thread. */
#ifndef FLUXD_ENGINE_ENGINE_H
#define FLUXD_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/batch.h"

enum engine_dtype { ENGINE_DTYPE_AUTO, ENGINE_DTYPE_BF16, ENGINE_DTYPE_F32 };
enum engine_kv { ENGINE_KV_AUTO, ENGINE_KV_BF16, ENGINE_KV_FP8 }; /* of full layers */
enum engine_device { ENGINE_DEVICE_AUTO, ENGINE_DEVICE_CUDA, ENGINE_DEVICE_CPU };
/* What is made of numbers while loading: ENGINE_FP8, codes of 8 bits with a scale for each row; ENGINE_INT4,
 * codes of 4 bits with a scale for 128 columns, for 64 or 32 where the width is no multiple of that. */
enum engine_quantization { ENGINE_AS_STORED, ENGINE_FP8, ENGINE_INT4 };

struct engine_info;
/* Settings; -1 or NULL means "the checkpoint's own, else the default" (docs/settings.md). */
struct engine_conf {
    const char *model;  /* directory or .gguf */
    const char *router; /* safetensors with the mask_allocator tensors, or NULL */
    enum engine_dtype dtype;
    enum engine_kv kv;
    enum engine_device device;
    int device_index;                      /* which of several GPUs */
    enum engine_quantization quantization; /* of the layers' matrices that the file has as numbers */
    bool head_fp8;                         /* the same of the last product's */
    bool dummy;                            /* random weights from the configuration alone */
    int n_thread;                          /* 0: one per core */
    int max_model_len;                     /* tokens of prompt and answer; 0: the model's */
    int max_seqs;                          /* sequences at once = slots */
    int max_prefill_tok;   /* prompt tokens whose residual stream may be held at once; >= max_model_len */
    int chunk_tok;         /* most tokens of one piece (workspace size) */
    int64_t kv_pool_bytes; /* 0: default */
    double gpu_memory_utilization; /* of a device's memory that weights, KV pool and what others hold may
                                      take; 0: all */
    int sparse_kind;               /* enum attn_kind of bit 0 in prefill (ATTN_LIST: xattn); -1 */
    int retrieval_kind;     /* enum attn_kind of bit 1 in prefill: ATTN_FULL or ATTN_LIST (xattn); -1 */
    const char *layer_plan; /* kinds of single layers (engine/kinds.h); NULL or "": none */
    int sink_size, local_window_size, triangle_n_last, router_pool_size; /* tokens; -1 */
    /* Called now and then while loading, from the loading thread(s), one at a time. */
    void (*progress)(void *arg, const char *what, double share);
    void *progress_arg;
    const atomic_bool *stop; /* set by anyone: loading ends with ERR_CANCELLED; may be NULL */
    /* Called before weights are read, with all of the info but device, pages and bytes of weights: what it
     * refuses, opening refuses. May be NULL. */
    enum err (*check)(void *arg, const struct engine_info *shape, struct err_note *note);
    void *check_arg;
};

struct engine_info {
    char name[96];                            /* the model's own name */
    char family[32], device[64], weights[32]; /* "llama", "cpu avx512", "f32" ... for logs and metrics */
    char head_type[16];                       /* how the last product's weights are held: "bf16" */
    int n_layer, n_vocab, n_head, n_kv, head, d_model;
    int max_len; /* tokens a sequence may have */
    int max_seqs, max_prefill_tok, chunk_tok;
    char kv[16];   /* how full layers keep keys and values: "fp8_e4m3", or as all do, "bf16" or "f32" */
    bool kv_codes; /* it is fp8_e4m3: a page holds two blocks of a full layer; sparse layers' hold one */
    int n_page;    /* pages of the pool */
    int64_t page_bytes, weight_bytes, workspace_bytes;
    bool has_router;
    int router_pool_size;          /* P */
    int sink_blocks, local_blocks; /* what decode of sparse layers reads */
    bool sparse_streams; /* sparse layers read only sink and window during prefill too: their dead pages go at
                            once */
    bool on_host;        /* computes on the host's cores */
    bool resumes;        /* prompts may go on behind pages of another prompt (batch_seq.n_cached) */
    int common_blocks; /* leading blocks of a prompt whose keys and values are the same bits under every route
                        */
    int tail_tok; /* what a prompt's last tokens, so many, leave in pages depends on where it ends (triangle)
                   */
    const uint8_t *fixed_route; /* [n_layer] enum route_bit that the layer plan gives a layer, ROUTE_OPEN
                                   where requests may decide; NULL: no plan */
    int n_eos;
    int32_t eos[32];
};

struct engine;
/* On failure nothing is left behind and note names file and tensor, or the setting. */
enum err engine_open(struct engine **out, const struct engine_conf *conf, struct err_note *note);
void engine_close(struct engine *e); /* NULL is fine */

const struct engine_info *engine_info(const struct engine *e);

/* Runs one batch. ERR_DEVICE: the engine is lost. A row or piece whose logits are not finite has bad set in
 * its sample_out and no other is affected. */
enum err engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note);

/* The sequence of this slot is gone: forget its state. Pages belong to the caller. */
void engine_drop(struct engine *e, int slot);

/* KV pages to and from host memory (preemption by swap), as entries of page tables name them: page_bytes
 * each, half of that where it is a half of codes. */
enum err engine_page_read(struct engine *e, int32_t page, void *to);
enum err engine_page_write(struct engine *e, int32_t page, const void *from);

#endif
