/* families: the tables. A new family is a new row here. */
#include "engine/families.h"

#include <string.h>

enum { BIASES_ATTN = PART_QKV_BIAS | PART_O_BIAS, BIASES_ALL = BIASES_ATTN | PART_MLP_BIAS };

static const struct family families[] = {
    {.name = "llama",
     .gguf_arch = "llama",
     .hf_arch = "LlamaForCausalLM",
     .option = BIASES_ALL,
     .gguf_permuted = true},
    {.name = "mistral", .hf_arch = "MistralForCausalLM", .window = true},
    {.name = "qwen2", .hf_arch = "Qwen2ForCausalLM", .always = PART_QKV_BIAS},
    {.name = "qwen3", .hf_arch = "Qwen3ForCausalLM", .always = PART_NORM, .option = BIASES_ATTN, .head = 128},
    {.name = "llama", .hf_arch = "PawLlamaForCausalLM", .option = BIASES_ALL, .router = true},
    {.name = "qwen3",
     .hf_arch = "PawQwen3ForCausalLM",
     .always = PART_NORM,
     .option = BIASES_ATTN,
     .head = 128,
     .router = true},
};

const struct family *family_by_arch(enum naming naming, const char *arch, size_t n)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const char *a = naming == NAMING_GGUF ? families[i].gguf_arch : families[i].hf_arch;
        if (a && strlen(a) == n && memcmp(a, arch, n) == 0) return &families[i];
    }
    return NULL;
}

const struct part_row matrix_parts[] = {
    {{"attn_q", "self_attn.q_proj"}, MAT_QKV, DIM_Q, DIM_D, PART_ROPE, SHARD_OUT},
    {{"attn_k", "self_attn.k_proj"}, MAT_QKV, DIM_KV, DIM_D, PART_ROPE, SHARD_KV},
    {{"attn_v", "self_attn.v_proj"}, MAT_QKV, DIM_KV, DIM_D, 0, SHARD_KV},
    {{"attn_output", "self_attn.o_proj"}, MAT_O, DIM_D, DIM_Q, 0, SHARD_IN},
    {{"ffn_gate", "mlp.gate_proj"}, MAT_GATE_UP, DIM_F, DIM_D, 0, SHARD_OUT},
    {{"ffn_up", "mlp.up_proj"}, MAT_GATE_UP, DIM_F, DIM_D, 0, SHARD_OUT},
    {{"ffn_down", "mlp.down_proj"}, MAT_DOWN, DIM_D, DIM_F, 0, SHARD_IN},
};
const int n_matrix_part = sizeof matrix_parts / sizeof *matrix_parts;

const struct part_row vector_parts[] = {
    {{"attn_norm.weight", "input_layernorm.weight"}, VEC_ATTN_NORM, DIM_D, DIM_D, 0, SHARD_ALL},
    {{"ffn_norm.weight", "post_attention_layernorm.weight"}, VEC_FFN_NORM, DIM_D, DIM_D, 0, SHARD_ALL},
    {{"attn_q_norm.weight", "self_attn.q_norm.weight"}, VEC_Q_NORM, DIM_K, DIM_K, PART_NORM, SHARD_ALL},
    {{"attn_k_norm.weight", "self_attn.k_norm.weight"}, VEC_K_NORM, DIM_K, DIM_K, PART_NORM, SHARD_ALL},
    {{"attn_q.bias", "self_attn.q_proj.bias"},
     VEC_QKV_BIAS,
     DIM_Q,
     DIM_Q,
     PART_QKV_BIAS | PART_ROPE,
     SHARD_OUT},
    {{"attn_k.bias", "self_attn.k_proj.bias"},
     VEC_QKV_BIAS,
     DIM_KV,
     DIM_KV,
     PART_QKV_BIAS | PART_ROPE,
     SHARD_KV},
    {{"attn_v.bias", "self_attn.v_proj.bias"}, VEC_QKV_BIAS, DIM_KV, DIM_KV, PART_QKV_BIAS, SHARD_KV},
    {{"attn_output.bias", "self_attn.o_proj.bias"}, VEC_O_BIAS, DIM_D, DIM_D, PART_O_BIAS, SHARD_FIRST},
    {{"ffn_gate.bias", "mlp.gate_proj.bias"}, VEC_GATE_UP_BIAS, DIM_F, DIM_F, PART_MLP_BIAS, SHARD_OUT},
    {{"ffn_up.bias", "mlp.up_proj.bias"}, VEC_GATE_UP_BIAS, DIM_F, DIM_F, PART_MLP_BIAS, SHARD_OUT},
    {{"ffn_down.bias", "mlp.down_proj.bias"}, VEC_DOWN_BIAS, DIM_D, DIM_D, PART_MLP_BIAS, SHARD_FIRST},
};
const int n_vector_part = sizeof vector_parts / sizeof *vector_parts;

const char *const top_names[TOP_COUNT][NAMING_COUNT] = {
    [TOP_EMBED] = {"token_embd.weight", "model.embed_tokens.weight"},
    [TOP_NORM] = {"output_norm.weight", "model.norm.weight"},
    [TOP_HEAD] = {"output.weight", "lm_head.weight"},
    [TOP_ROPE_FACTORS] = {"rope_freqs.weight", NULL},
};
const enum shard top_shards[TOP_COUNT] = {[TOP_HEAD] = SHARD_OUT};
const char *const layer_prefix[NAMING_COUNT] = {"blk.%d.", "model.layers.%d."};
