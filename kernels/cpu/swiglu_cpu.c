/* swiglu: out = silu(gate) * up, silu(x) = x / (1 + e^-x). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_math.h"

CPU_CLONES static void swiglu_rows(const struct swiglu_args *a, int t0, int t1)
{
    for (int t = t0; t < t1; t++) {
        const float *restrict gate = (const float *)a->gu + t * a->gu_stride;
        const float *restrict up = gate + a->f;
        float *restrict out = (float *)a->out + t * a->out_stride;
        for (int i = 0; i < a->f; i++) {
            float x = gate[i] < -80.0f ? -80.0f : gate[i]; /* e^-x stays finite; silu there is 0 anyway */
            out[i] = gate[i] / (1.0f + exp_f32(-x)) * up[i];
        }
    }
}

void swiglu_cpu(struct op_ctx *c, const struct swiglu_args *a)
{
#pragma omp parallel for num_threads(c->n_thread) if (a->n_tok > 8) schedule(static)
    for (int t = 0; t < a->n_tok; t++) swiglu_rows(a, t, t + 1);
}
