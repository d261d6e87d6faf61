/* embed: rows of the token table, dequantised as they are read. gather: rows of an activation. */
#include <string.h>

#include "kernels/cpu/cpu.h"

void embed_cpu(struct op_ctx *c, const struct embed_args *a)
{
#pragma omp parallel for num_threads(c->n_thread) if (a->n_tok > 64) schedule(static)
    for (int t = 0; t < a->n_tok; t++)
        cpu_weight_row(a->table, a->id[t], (float *)a->out + (int64_t)t * a->d);
}

void gather_cpu(struct op_ctx *c, const struct gather_args *a)
{
    (void)c;
    for (int i = 0; i < a->n_row; i++)
        memcpy((float *)a->out + (int64_t)i * a->d, (const float *)a->x + a->row[i] * a->x_stride,
               (size_t)a->d * sizeof(float));
}
