/* kv_ref: one number of a token of a KV page by the format's definition (kernels/kv_page.h,
 * kernels/kv_fp8.h). */
#ifndef FLUXD_TESTS_KERNELS_KV_REF_H
#define FLUXD_TESTS_KERNELS_KV_REF_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/kv_fp8.h"
#include "kernels/kv_page.h"
#include "kernels/quant.h"
#include "kernels/quant_fp8.h"

static inline float kv_ref(const struct op_ctx *c, const void *pool, int32_t entry, int n_kv, int g, int v,
                           int K, int t, int i)
{
    const int64_t half = kv_half(page_has_codes(entry) ? page_half(entry) : entry, n_kv, g, v, K),
                  at = half + (v ? kv_at_v(c->kv, K, t, i) : kv_at_k(c->kv, K, t, i));
    if (page_has_codes(entry))
        return ldexpf(fp8_to_f32(((const uint8_t *)pool)[half + t * K + i]), c->kv_exp[half / K + t]);
    return c->kv == DT_F32 ? ((const float *)pool)[at] : f32_from_bf16(((const uint16_t *)pool)[at]);
}

#endif
