/* kv_fp8: see kv_fp8.h. */
#include "kernels/kv_fp8.h"

#include <math.h>

#include "kernels/cpu/kv_codes.h"
#include "kernels/quant.h"
#include "kernels/quant_fp8.h"

void kv_fp8_row_ref(uint8_t *code, int8_t *exp, const float *x, int n)
{
    float most = 0;
    int e = -KV_FP8_EXP_MOST;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i])); /* a NaN is not the largest */
    while (e < KV_FP8_EXP_MOST && most > ldexpf(FP8_MOST, e)) e++;
    *exp = (int8_t)e;
    for (int i = 0; i < n; i++) code[i] = fp8_from_f32(isinf(x[i]) ? NAN : ldexpf(x[i], -e));
}

float kv_fp8_value(uint8_t code, int8_t exp) { return ldexpf(fp8_to_f32(code), exp); }

float kv_number(const struct op_ctx *c, const void *pool, int32_t entry, int n_kv, int g, int v, int K, int t,
                int i)
{
    if (page_has_codes(entry))
        return kv_fp8_value(kv_codes_at(pool, entry, n_kv, g, v, K)[t * K + i],
                            kv_exp_at(c, entry, n_kv, g, v)[t]);
    const int64_t at =
        kv_half(entry, n_kv, g, v, K) + (v ? kv_at_v(c->kv, K, t, i) : kv_at_k(c->kv, K, t, i));
    return c->kv == DT_F32 ? ((const float *)pool)[at] : f32_from_bf16(((const uint16_t *)pool)[at]);
}
