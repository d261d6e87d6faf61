/* fp8_dir: a small model as a Hugging Face directory, its layers' matrices as numbers or as codes of 8 or 4
 * bits in one of the forms of files, for tests that compare how they are held. Sizes are such as devices
 * take: heads of 64, rows and columns in whole blocks. Codes are made by their definition: the nearest of all
 * values. */
#ifndef FLUXD_TESTS_ENGINE_FP8_DIR_H
#define FLUXD_TESTS_ENGINE_FP8_DIR_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "engine/families.h"

enum {
    FP8_L = 3,
    FP8_D = 256,
    FP8_H = 4,
    FP8_G = 2,
    FP8_K = 64,
    FP8_F = 384,
    FP8_V = 320,
    FP8_N = FP8_D * FP8_F /* numbers of the largest matrix */
};

enum fp8_form {
    FP8_NUMBERS,
    FP8_CHANNEL,
    FP8_TENSOR,
    FP8_BLOCKS,
    FP8_FBGEMM,
    FP8_FORMS,
    /* codes of 4 bits: tests/engine/int4_matrix.h */
    INT4_MADE = FP8_FORMS, /* as --quantization makes them */
    INT4_PACKED,
    INT4_PACKED_ZEROS,
    INT4_AWQ,
    INT4_GPTQ,
    INT4_GPTQ_ORDER,
    INT4_GPTQ_APART, /* parts of a matrix in different orders */
    INT4_FORMS
};

static const char *const fp8_config[INT4_FORMS] = {
    [FP8_CHANNEL] =
        "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",\"ignore\":[\"lm_head\"],"
        "\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,\"type\":\"float\","
        "\"strategy\":\"channel\"},\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"token\","
        "\"dynamic\":true}}}}",
    [FP8_TENSOR] =
        "{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\",\"ignored_layers\":[\"lm_head\"]}",
    [FP8_BLOCKS] =
        "{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\",\"weight_block_size\":[128,128],"
        "\"modules_to_not_convert\":[\"lm_head\"]}",
    [FP8_FBGEMM] =
        "{\"quant_method\":\"fbgemm_fp8\",\"activation_scale_ub\":1200.0,\"modules_to_not_convert\":[\"lm_head\"]}",
#define INT4_CONFIG(group, symmetric)                                                                        \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"ignore\":[\"lm_head\"],"       \
    "\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,\"type\":\"int\"," \
    "\"strategy\":\"group\",\"group_size\":" group ",\"symmetric\":" symmetric "}}}}"
    [INT4_MADE] = INT4_CONFIG("128", "true"),
    [INT4_PACKED] = INT4_CONFIG("32", "true"),
    [INT4_PACKED_ZEROS] = INT4_CONFIG("64", "false"),
    [INT4_AWQ] =
        "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":128,\"zero_point\":true,\"version\":\"gemm\"}",
    [INT4_GPTQ] = "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":64,\"sym\":true,\"desc_act\":false}",
    [INT4_GPTQ_ORDER] =
        "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"sym\":false,\"desc_act\":true,"
        "\"checkpoint_format\":\"gptq_v2\"}",
    [INT4_GPTQ_APART] =
        "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"sym\":false,\"desc_act\":true}",
};

/* The fixed scale of inputs: the largest of a matrix's parts, whose own ones differ. */
#define FP8_INPUT 0.0312f

struct fp8_dir {
    char path[48];
};

/* Codes of 4 bits are written as the numbers, rounded to bf16, that they stand for. */
static bool fp8_dir_as_numbers;

static inline double fp8_value(int code) /* 0 .. 126 */
{
    return code >> 3 ? ldexp(8 + (code & 7), (code >> 3) - 10) : ldexp(code & 7, -9);
}

/* Of all codes the nearest, ties to the even one. */
static inline uint8_t fp8_nearest(double x)
{
    const double mag = fabs(x);
    int low = 0, high = 126;
    while (high - low > 1) {
        const int mid = (low + high) / 2;
        *(fp8_value(mid) <= mag ? &low : &high) = mid;
    }
    const double down = mag - fp8_value(low), up = fp8_value(high) - mag;
    const int code = down < up || (down == up && low % 2 == 0) ? low : high;
    return (uint8_t)(code | (signbit(x) ? 0x80 : 0));
}

static inline uint16_t fp8_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float fp8_of_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Even in -1 .. 1. */
static inline float fp8_draw(uint32_t seed, uint32_t i)
{
    uint32_t x = (seed * 0x9E3779B1u ^ i) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return (float)(int32_t)(x ^ x >> 16) * 0x1p-31f;
}

struct fp8_file {
    struct strbuf head, data;
    uint32_t seed;
};

static inline void fp8_tensor(struct fp8_file *f, const char *name, const char *type, int n, int k,
                              const void *data, size_t bytes)
{
    char shape[32];
    snprintf(shape, sizeof shape, n ? k ? "%d,%d" : "%d" : "", n, k);
    strbuf_printf(&f->head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                  f->head.len > 1 ? "," : "", name, type, shape, f->data.len, f->data.len + bytes);
    strbuf_put(&f->data, data, bytes);
}

static inline void fp8_plain(struct fp8_file *f, const char *name, int n, int k, float mean, float spread)
{
    static uint16_t v[FP8_N];
    const int count = n * (k ? k : 1);
    for (int i = 0; i < count; i++) v[i] = fp8_bf16(mean + spread * fp8_draw(f->seed, (uint32_t)i));
    f->seed++;
    fp8_tensor(f, name, "BF16", n, k, v, (size_t)count * 2);
}

#include "tests/engine/int4_matrix.h"

/* A matrix of numbers of 16 bits, channels of different sizes, stored as form says. */
static inline void fp8_matrix(struct fp8_file *f, const char *module, int n, int k, enum fp8_form form)
{
    static uint16_t v[FP8_N];
    static uint8_t code[FP8_N];
    static float scale[FP8_F];
    char name[160];
    const int rows = form == FP8_TENSOR   ? n
                     : form == FP8_BLOCKS ? 128
                                          : 1,
              cols = form == FP8_BLOCKS ? 128 : k, groups = k / cols, n_scale = n / rows * groups;
    for (int i = 0; i < n * k; i++) {
        const float size = expf(0.5f * fp8_draw(f->seed + 1000, (uint32_t)(i / k))) * 1.7f / sqrtf((float)k);
        v[i] = fp8_bf16(size * fp8_draw(f->seed, (uint32_t)i));
    }
    f->seed++;
    if (form >= INT4_MADE) {
        int4_matrix(f, module, n, k, form, v);
        return;
    }
    if (form == FP8_NUMBERS) {
        snprintf(name, sizeof name, "%.90s.weight", module);
        fp8_tensor(f, name, "BF16", n, k, v, (size_t)(n * k) * 2);
        return;
    }
    memset(scale, 0, sizeof scale);
    for (int i = 0; i < n * k; i++) {
        float *s = &scale[i / k / rows * groups + i % k / cols];
        *s = fmaxf(*s, fabsf(fp8_of_bf16(v[i])));
    }
    for (int i = 0; i < n_scale; i++) scale[i] /= 448;
    for (int i = 0; i < n * k; i++) {
        const float s = scale[i / k / rows * groups + i % k / cols];
        code[i] = fp8_nearest((double)(fp8_of_bf16(v[i]) * (1 / s)));
    }
    snprintf(name, sizeof name, "%.90s.weight", module);
    fp8_tensor(f, name, "F8_E4M3", n, k, code, (size_t)(n * k));
    snprintf(name, sizeof name, "%.90s.weight_scale%s", module, form == FP8_BLOCKS ? "_inv" : "");
    fp8_tensor(f, name, "F32", form == FP8_TENSOR ? 0 : n / rows, form == FP8_TENSOR ? 0 : groups, scale,
               (size_t)n_scale * 4);
    if (form != FP8_TENSOR) return;
    const float input = strstr(module, "q_proj") || strstr(module, "gate") ? 0.01f : FP8_INPUT;
    snprintf(name, sizeof name, "%.90s.input_scale", module);
    fp8_tensor(f, name, "F32", 0, 0, &input, 4);
}

static inline void fp8_write(const char *dir, const char *name, const void *a, size_t n_a, const void *b,
                             size_t n_b)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(a, 1, n_a, f) != n_a || fwrite(b, 1, n_b, f) != n_b)
        fail_msg("%s: cannot be written", path);
    fclose(f);
}

/* fp8_dir_drop removes it. */
static inline void fp8_dir_make(struct fp8_dir *d, enum fp8_form form)
{
    struct fp8_file f = {.seed = 1};
    char name[160];
    struct strbuf config;
    snprintf(d->path, sizeof d->path, "/tmp/fluxd-fp8-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    strbuf_init(&f.head);
    strbuf_init(&f.data);
    strbuf_init(&config);
    strbuf_puts(&f.head, "{");
    fp8_plain(&f, "model.embed_tokens.weight", FP8_V, FP8_D, 0, 1);
    fp8_plain(&f, "model.norm.weight", FP8_D, 0, 1, 0.3f);
    for (int l = 0; l < FP8_L; l++) {
        static const struct {
            const char *name;
            int n, k;
        } part[] = {{"self_attn.q_proj", FP8_H * FP8_K, FP8_D},
                    {"self_attn.k_proj", FP8_G * FP8_K, FP8_D},
                    {"self_attn.v_proj", FP8_G * FP8_K, FP8_D},
                    {"self_attn.o_proj", FP8_D, FP8_H * FP8_K},
                    {"mlp.gate_proj", FP8_F, FP8_D},
                    {"mlp.up_proj", FP8_F, FP8_D},
                    {"mlp.down_proj", FP8_D, FP8_F}};
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%.40s", l, part[i].name);
            fp8_matrix(&f, name, part[i].n, part[i].k, form);
        }
        for (int i = 0; i < 4; i++) {
            static const char *const norm[] = {"input_layernorm", "post_attention_layernorm",
                                               "self_attn.q_norm", "self_attn.k_norm"};
            snprintf(name, sizeof name, "model.layers.%d.%.40s.weight", l, norm[i]);
            fp8_plain(&f, name, i < 2 ? FP8_D : FP8_K, 0, 1, 0.3f);
        }
    }
    strbuf_puts(&f.head, "}");
    while (f.head.len % 8) strbuf_puts(&f.head, " ");
    strbuf_printf(
        &config,
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"hidden_size\":%d,"
        "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,\"intermediate_size\":%d,"
        "\"vocab_size\":%d,\"num_hidden_layers\":%d,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-5,"
        "\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":2,\"tie_word_embeddings\":true,"
        "\"rope_theta\":10000.0%s%s}",
        FP8_D, FP8_H, FP8_G, FP8_K, FP8_F, FP8_V, FP8_L,
        form && !fp8_dir_as_numbers ? ",\"quantization_config\":" : "",
        form && !fp8_dir_as_numbers ? fp8_config[form] : "");
    assert_false(strbuf_failed(&f.head) || strbuf_failed(&f.data) || strbuf_failed(&config));
    const uint64_t n_head = f.head.len;
    char *whole = malloc(8 + f.head.len);
    assert_non_null(whole);
    memcpy(whole, &n_head, 8);
    memcpy(whole + 8, f.head.data, f.head.len);
    fp8_write(d->path, "model.safetensors", whole, 8 + f.head.len, f.data.data, f.data.len);
    fp8_write(d->path, "config.json", config.data, config.len, "", 0);
    free(whole);
    strbuf_fini(&f.head);
    strbuf_fini(&f.data);
    strbuf_fini(&config);
}

static inline void fp8_dir_drop(const struct fp8_dir *d)
{
    char path[96];
    static const char *const name[] = {"model.safetensors", "config.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", d->path, name[i]);
        remove(path);
    }
    assert_int_equal(rmdir(d->path), 0);
}

#endif
