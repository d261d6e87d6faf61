/* kv_fp8: see kv_fp8.h. */
#include "kernels/kv_fp8.h"

#include <math.h>

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
