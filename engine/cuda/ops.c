/* ops: see ops.h. */
#include "engine/cuda/ops.h"

#include "engine/cuda/codes4.h"
#include "kernels/cuda/int4_gpu.h"

enum err ops_gemm_small(struct op_ctx *c, const struct gemm_args *a, const struct gemm_more *more)
{
    for (int at = 0; at < a->n_tok; at += GEMM_SMALL_MAX_TOK) {
        const struct gemm_args part = ops_rows(a, at, GEMM_SMALL_MAX_TOK);
        struct gemm_more m = more ? *more : (struct gemm_more){0};
        if (m.sum_in) m.sum_in += at * c->n_sum;
        if (m.sum_out) {
            m.sum_out += at * c->n_sum;
            m.normed = (uint16_t *)m.normed + at * a->y_stride;
        }
        m.second ^= at / GEMM_SMALL_MAX_TOK % 2;
        TRY(a->w->dt == DT_U4 ? gemm_int4_small_sm90(&part, &m, &c->small)
                              : gemm_small_sm90(&part, &m, &c->small));
    }
    return OK;
}

static enum err codes4_op(struct op_ctx *c, const struct gemm_args *a)
{
    struct gemm_args sorted;
    TRY(codes4_sort(c, a, &sorted));
    if (!a->decode) return codes4_many(c, &sorted);
    return c->own_products ? ops_gemm_small(c, &sorted, NULL) : codes4_few(c, &sorted);
}

static enum err gemm_op(struct op_ctx *c, const struct gemm_args *a)
{
    if (a->w->dt == DT_U4) return codes4_op(c, a);
    return a->decode && c->own_products ? ops_gemm_small(c, a, NULL) : gemm_lt(c->lt, a);
}

/* Each of decode's two takes its own runs. */
static enum err attn_op(struct op_ctx *c, const struct attn_args *a)
{
    struct attn_gpu halves = c->attn;
    halves.n_page *= 2;
    if (!a->decode) return attn_prefill_gpu(a, &c->attn);
    TRY(attn_decode_gpu(a, &c->attn));
    return c->codes.exp ? attn_decode_fp8_sm90(a, &c->codes, &halves) : OK;
}

static enum err qkrope_op(struct op_ctx *c, const struct qkrope_args *a)
{
    return c->codes.exp ? qkrope_fp8_gpu(a, &c->codes, &c->gpu) : qkrope_gpu(a, &c->gpu);
}

#define SMALL_OP(name)                                                                                       \
    static enum err name##_op(struct op_ctx *c, const struct name##_args *a)                                 \
    {                                                                                                        \
        return name##_gpu(a, &c->gpu);                                                                       \
    }
SMALL_OP(embed)
SMALL_OP(rmsnorm)
SMALL_OP(swiglu)
SMALL_OP(gather)
#undef SMALL_OP

const struct backend_ops ops_cuda = {
#define CUDA_ROW(name) .name = name##_op,
    LAYER_OPS(CUDA_ROW)
#undef CUDA_ROW
};
