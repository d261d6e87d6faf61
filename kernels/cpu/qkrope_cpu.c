/* qkrope: q and k through their norms (where the model has them) and RoPE, k and v into the KV pages.
 * RoPE rotates pairs (i, i + K/2) by the table's angle of the row's position (Su et al., 2104.09864; "rotate
 * half" form). */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"

enum { HEAD_MAX = 512 };

static inline __attribute__((always_inline)) void norm_head(float *out, const float *x, const float *w, int n,
                                                            float eps)
{
    float scale = w ? 1.0f / sqrtf(dot_f32(x, x, n) / (float)n + eps) : 1.0f;
    for (int i = 0; i < n; i++) out[i] = w ? w[i] * (x[i] * scale) : x[i];
}

static inline __attribute__((always_inline)) void rotate(float *x, const float *cs, int n)
{
    int h = n / 2;
    for (int i = 0; i < h; i++) {
        float c = cs[2 * i], s = cs[2 * i + 1], a = x[i], b = x[i + h];
        x[i] = a * c - b * s;
        x[i + h] = b * c + a * s;
    }
}

/* One token's key (v = 0) or value into its page. */
static inline __attribute__((always_inline)) void
write_page(const struct op_ctx *c, const struct qkrope_args *a, int t, int g, int v, const float *x)
{
    const int K = a->head, row = a->pos[t] % PAGE_TOK;
    if (page_has_codes(a->page[t])) {
        float y[HEAD_MAX];
        for (int i = 0; i < K; i++) y[i] = f32_from_bf16(f32_to_bf16(x[i]));
        kv_fp8_row_cpu(kv_codes_at(a->pool, a->page[t], a->n_kv, g, v, K) + row * K,
                       kv_exp_at(c, a->page[t], a->n_kv, g, v) + row, y, K);
        return;
    }
    int64_t half = kv_half(a->page[t], a->n_kv, g, v, K);
    for (int i = 0; i < K; i++) {
        int64_t at = half + (v ? kv_at_v(c->kv, K, row, i) : kv_at_k(c->kv, K, row, i));
        if (c->kv == DT_F32)
            ((float *)a->pool)[at] = x[i];
        else
            ((uint16_t *)a->pool)[at] = f32_to_bf16(x[i]);
    }
}

CPU_CLONES static void qkrope_row(const struct op_ctx *c, const struct qkrope_args *a, int t)
{
    const int K = a->head, H = a->n_head, G = a->n_kv;
    const float *row = (const float *)a->qkv + t * a->qkv_stride;
    const float *cs = a->rope + (int64_t)a->pos[t] * K;
    float x[HEAD_MAX];
    for (int h = 0; (a->q || a->q_raw) && h < H; h++) {
        int64_t at = ((int64_t)t * H + h) * K;
        norm_head(x, row + h * K, a->q_norm, K, a->eps);
        if (a->q_raw) memcpy((float *)a->q_raw + at, x, (size_t)K * sizeof *x);
        if (a->q) {
            rotate(x, cs, K);
            memcpy((float *)a->q + at, x, (size_t)K * sizeof *x);
        }
    }
    if (!a->pool || a->page[t] < 0) return;
    for (int g = 0; g < G; g++) {
        norm_head(x, row + (H + g) * K, a->k_norm, K, a->eps);
        rotate(x, cs, K);
        write_page(c, a, t, g, 0, x);
        write_page(c, a, t, g, 1, row + (H + G + g) * K);
    }
}

void qkrope_cpu(struct op_ctx *c, const struct qkrope_args *a)
{
#pragma omp parallel for num_threads(c->n_thread) if (a->n_tok > 3) schedule(static)
    for (int t = 0; t < a->n_tok; t++) qkrope_row(c, a, t);
}
