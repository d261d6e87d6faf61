/* tiny_gguf: a whole small Llama in memory as a GGUF file - 6 layers, 320 tokens, weights from a hash - for
 * tests that must be quick or that break the file on purpose. */
#ifndef FLUXD_TESTS_ENGINE_TINY_GGUF_H
#define FLUXD_TESTS_ENGINE_TINY_GGUF_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/strbuf.h"

enum {
    TINY_L = 6,
    TINY_D = 64,
    TINY_H = 4,
    TINY_G = 2,
    TINY_K = 64,
    TINY_F = 96,
    TINY_V = 320,
    TINY_LEN = 4096,
    TINY_TENSORS = 2 + 9 * TINY_L,
    TINY_KEYS = 18
};
enum { TINY_F32 = 0, TINY_Q4_1 = 3, TINY_Q8_0 = 8 }; /* the format's type numbers */
enum {
    TINY_KIND_U32 = 4,
    TINY_KIND_I32 = 5,
    TINY_KIND_F32 = 6,
    TINY_KIND_BOOL = 7,
    TINY_KIND_STR = 8,
    TINY_KIND_ARR = 9
};

static inline void tiny_u32(struct strbuf *b, uint32_t v) { strbuf_put(b, &v, 4); }
static inline void tiny_u64(struct strbuf *b, uint64_t v) { strbuf_put(b, &v, 8); }
static inline void tiny_str(struct strbuf *b, const char *s)
{
    tiny_u64(b, strlen(s));
    strbuf_puts(b, s);
}

static inline void tiny_key(struct strbuf *b, const char *key, uint32_t kind)
{
    tiny_str(b, key);
    tiny_u32(b, kind);
}

static inline void tiny_key_u32(struct strbuf *b, const char *key, uint32_t v)
{
    tiny_key(b, key, TINY_KIND_U32);
    tiny_u32(b, v);
}

static inline void tiny_key_f32(struct strbuf *b, const char *key, float v)
{
    tiny_key(b, key, TINY_KIND_F32);
    strbuf_put(b, &v, 4);
}

static inline void tiny_key_str(struct strbuf *b, const char *key, const char *v)
{
    tiny_key(b, key, TINY_KIND_STR);
    tiny_str(b, v);
}

static inline void tiny_key_array(struct strbuf *b, const char *key, uint32_t kind, uint64_t n)
{
    tiny_key(b, key, TINY_KIND_ARR);
    tiny_u32(b, kind);
    tiny_u64(b, n);
}

static inline uint32_t tiny_hash(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

struct tiny_tensor {
    char name[96];
    int n, k; /* rows (0: a vector), row length */
    uint32_t type;
};

static inline int tiny_tensors(struct tiny_tensor *t)
{
    static const struct tiny_tensor layer[] = {{"attn_norm", 0, TINY_D, TINY_F32},
                                               {"attn_q", TINY_H * TINY_K, TINY_D, TINY_Q4_1},
                                               {"attn_k", TINY_G * TINY_K, TINY_D, TINY_Q4_1},
                                               {"attn_v", TINY_G * TINY_K, TINY_D, TINY_Q4_1},
                                               {"attn_output", TINY_D, TINY_H * TINY_K, TINY_Q8_0},
                                               {"ffn_norm", 0, TINY_D, TINY_F32},
                                               {"ffn_gate", TINY_F, TINY_D, TINY_Q4_1},
                                               {"ffn_up", TINY_F, TINY_D, TINY_Q4_1},
                                               {"ffn_down", TINY_D, TINY_F, TINY_F32}};
    int n = 0;
    t[n++] = (struct tiny_tensor){"token_embd.weight", TINY_V, TINY_D, TINY_Q8_0};
    for (int l = 0; l < TINY_L; l++)
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            t[n] = layer[i];
            snprintf(t[n++].name, sizeof t->name, "blk.%d.%.30s.weight", l, layer[i].name);
        }
    t[n++] = (struct tiny_tensor){"output_norm.weight", 0, TINY_D, TINY_F32};
    return n;
}

static inline uint64_t tiny_bytes(const struct tiny_tensor *t)
{
    uint64_t n = (uint64_t)(t->n ? t->n : 1) * (uint64_t)t->k;
    return t->type == TINY_F32 ? n * 4 : n / 32 * (t->type == TINY_Q8_0 ? 34 : 20);
}

/* What stands in front of the tensors' data, whose rows are in t. */
static inline void tiny_entries(struct strbuf *b, const struct tiny_tensor *t, int n)
{
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        tiny_str(b, t[i].name);
        tiny_u32(b, t[i].n ? 2 : 1);
        tiny_u64(b, (uint64_t)t[i].k);
        if (t[i].n) tiny_u64(b, (uint64_t)t[i].n);
        tiny_u32(b, t[i].type);
        tiny_u64(b, at);
        at += (tiny_bytes(&t[i]) + 31) / 32 * 32;
    }
}

static inline void tiny_pad(struct strbuf *b)
{
    while (b->len % 32) strbuf_putc(b, 0);
}

static inline void tiny_data(struct strbuf *b, const struct tiny_tensor *t, uint32_t seed)
{
    uint64_t n = (uint64_t)(t->n ? t->n : 1) * (uint64_t)t->k;
    if (t->type == TINY_F32)
        for (uint64_t i = 0; i < n; i++) {
            float r = (float)(tiny_hash(seed ^ (uint32_t)i) >> 8) * 0x1p-23f - 1,
                  v = t->n ? r * 0.2f : 1 + r * 0.1f;
            strbuf_put(b, &v, 4);
        }
    for (uint64_t i = 0; t->type != TINY_F32 && i < n / 32; i++) {
        uint16_t scale[2] = {t->type == TINY_Q8_0 ? 0x1400 : 0x2800, 0xb400}; /* 2^-10; 1/32 and -1/4 */
        uint8_t q[32];
        for (uint32_t j = 0; j < 32; j++) q[j] = (uint8_t)tiny_hash(seed ^ (uint32_t)(i * 32 + j));
        strbuf_put(b, scale, t->type == TINY_Q8_0 ? 2 : 4);
        strbuf_put(b, q, t->type == TINY_Q8_0 ? 32 : 16);
    }
    tiny_pad(b);
}

/* The file into b (strbuf_init'ed), with n_more tensors behind its own. */
static inline void tiny_gguf_build_more(struct strbuf *b, const struct tiny_tensor *more, int n_more)
{
    struct tiny_tensor t[TINY_TENSORS + 16];
    int n = tiny_tensors(t);
    for (int i = 0; i < n_more && i < 16; i++) t[n++] = more[i];
    char piece[16];
    strbuf_puts(b, "GGUF");
    tiny_u32(b, 3);
    tiny_u64(b, (uint64_t)n);
    tiny_u64(b, TINY_KEYS);
    tiny_key_str(b, "general.architecture", "llama");
    tiny_key_str(b, "general.name", "tiny");
    tiny_key_u32(b, "llama.block_count", TINY_L);
    tiny_key_u32(b, "llama.context_length", TINY_LEN);
    tiny_key_u32(b, "llama.embedding_length", TINY_D);
    tiny_key_u32(b, "llama.feed_forward_length", TINY_F);
    tiny_key_u32(b, "llama.attention.head_count", TINY_H);
    tiny_key_u32(b, "llama.attention.head_count_kv", TINY_G);
    tiny_key_u32(b, "llama.attention.key_length", TINY_K); /* as devices take them */
    tiny_key_f32(b, "llama.rope.freq_base", 10000);
    tiny_key_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_key_str(b, "tokenizer.ggml.model", "gpt2");
    tiny_key_str(b, "tokenizer.ggml.pre", "smollm");
    tiny_key_array(b, "tokenizer.ggml.tokens", TINY_KIND_STR, TINY_V);
    for (int i = 0; i < TINY_V; i++) {
        snprintf(piece, sizeof piece, "p%d", i);
        tiny_str(b, piece);
    }
    tiny_key_array(b, "tokenizer.ggml.token_type", TINY_KIND_I32, TINY_V);
    for (uint32_t i = 0; i < TINY_V; i++) tiny_u32(b, i < 3 ? 3 : i == 3 ? 4 : i == 4 ? 5 : 1);
    tiny_key_array(b, "tokenizer.ggml.merges", TINY_KIND_STR, 2);
    tiny_str(b, "p 1");
    tiny_str(b, "p 2");
    tiny_key_u32(b, "tokenizer.ggml.eos_token_id", 2);
    tiny_key(b, "tokenizer.ggml.add_bos_token", TINY_KIND_BOOL);
    strbuf_putc(b, 1);
    tiny_entries(b, t, n);
    tiny_pad(b);
    for (int i = 0; i < n; i++) tiny_data(b, &t[i], (uint32_t)i * 0x9E3779B1u);
}

static inline void tiny_gguf_build(struct strbuf *b) { tiny_gguf_build_more(b, NULL, 0); }

/* n bytes to a new file under /tmp; path (a mkstemp template) gets its name. */
static inline void tiny_write(char *path, const void *p, size_t n)
{
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n) abort();
    close(fd);
}

#endif
