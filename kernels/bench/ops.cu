/* The small operations at the shapes of Qwen3-8B: microseconds, and the bytes that must move. Buffers rotate
 * through more than L2 holds; each figure is the median over replays of a graph that runs every copy once,
 * divided by their number. usage: bench_ops */
#include "kernels/cuda/gpu_ops.h"
#include "kernels/bench/bench.cuh"

#include <cuda_bf16.h>
#include <math.h>

enum { D = 4096, H = 32, G = 8, K = 128, F = 12288, V = 151936, POOL = 100, COPIES_MOST = 48 };
static const size_t ROTATE_BYTES = (size_t)400 << 20;
static gpu_ctx ctx;

/* Roughly normal, with a few high ones: what logits look like. */
__global__ static void fill_f32(float *p, int64_t n, float spread, bool peaks)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15ull;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        float sum = 0;
        for (int j = 0; j < 4; j++) sum += (float)(x >> 16 * j & 0xffff) * 1.5258789e-5f - 0.5f;
        p[i] = spread * sum + (peaks && i % 9973 == 7 ? 14.0f + (float)(i % 7) : 0);
    }
}

static void *room(size_t bytes)
{
    void *p;
    CUDA(cudaMalloc(&p, bytes));
    fill_random(p, (int64_t)(bytes / 2), 1, 0, 0.5f);
    return p;
}
static float *floats(size_t n, float spread, bool peaks)
{
    float *p;
    CUDA(cudaMalloc(&p, n * 4));
    fill_f32<<<2048, 256>>>(p, (int64_t)n, spread, peaks);
    return p;
}
template <typename T> static T *copy_of(const std::vector<T> &v)
{
    T *p;
    CUDA(cudaMalloc(&p, v.size() * sizeof(T)));
    CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

/* bytes: what one run must move; launch(i) works on copy i. */
static void row(const char *op, int n_tok, double bytes, int n_copy,
                const std::function<enum err(int)> &launch)
{
    double us = graph_us(ctx.stream, n_copy, [&](int i) {
        if (launch(i) != OK) {
            fprintf(stderr, "launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
            exit(2);
        }
    });
    fprintf(stderr, "%-16s T %6d  %9.2f us   %5.2f TB/s\n", op, n_tok, us, bytes / us * 1e-6);
    printf("{\"bench\":\"op\",\"op\":\"%s\",\"n_tok\":%d,\"us\":%.3f,\"bytes\":%.0f}\n", op, n_tok, us,
           bytes);
    fflush(stdout);
}
static int copies(double bytes)
{
    return (int)fmax(1, fmin((double)COPIES_MOST, ceil((double)ROTATE_BYTES / bytes)));
}

static void layer_ops(int T)
{
    const int64_t qkv_w = (H + 2 * G) * K, n = T;
    const int c = copies((double)n * D * 2), page_n = (T + PAGE_TOK - 1) / PAGE_TOK;
    char *x = (char *)room((size_t)(c * n * D * 2)), *res = (char *)room((size_t)(c * n * D * 2)),
         *out = (char *)room((size_t)(c * n * D * 2));
    char *w = (char *)room(D * 2), *qkv = (char *)room((size_t)(c * n * qkv_w * 2));
    char *pool = (char *)room((size_t)((int64_t)c * page_n * G * 2 * PAGE_TOK * K * 2));
    std::vector<int32_t> id((size_t)n), pos((size_t)n), page((size_t)n);
    for (int t = 0; t < T; t++) {
        id[(size_t)t] = (int32_t)((uint32_t)t * 2654435761u % V);
        pos[(size_t)t] = t;
        page[(size_t)t] = t / PAGE_TOK;
    }
    int32_t *id_g = copy_of(id), *pos_g = copy_of(pos), *page_g = copy_of(page);
    float *rope = floats((size_t)(n * K), 1, false);
    auto at = [&](char *p, int i, int64_t width) { return p + (int64_t)i * n * width * 2; };
    row("rmsnorm", T, (double)n * D * 4, c, [&](int i) {
        rmsnorm_args a = {at(out, i, D), NULL, at(x, i, D), w, D, 0, T, D, 1e-6f};
        return rmsnorm_gpu(&a, &ctx);
    });
    row("rmsnorm+residual", T, (double)n * D * 8, c, [&](int i) {
        rmsnorm_args a = {at(out, i, D), at(res, i, D), at(x, i, D), w, D, D, T, D, 1e-6f};
        return rmsnorm_gpu(&a, &ctx);
    });
    for (int raw = 0; raw < 2; raw++)
        row(raw ? "qkrope+raw" : "qkrope", T, (double)n * (double)(qkv_w * 4 + raw * H * K * 2), c,
            [&](int i) {
                qkrope_args a = {at(qkv, i, qkv_w),
                                 qkv_w,
                                 at(x, i, D),
                                 raw ? at(out, i, D) : NULL,
                                 pool + (int64_t)i * page_n * G * 2 * PAGE_TOK * K * 2,
                                 page_g,
                                 pos_g,
                                 rope,
                                 w,
                                 w,
                                 1e-6f,
                                 T,
                                 H,
                                 G,
                                 K};
                return qkrope_gpu(&a, &ctx);
            });
    row("gather", T, (double)n * D * 4, c, [&](int i) {
        gather_args a = {at(out, i, D), at(x, i, D), pos_g, D, T, D};
        return gather_gpu(&a, &ctx);
    });
    for (void *p : {(void *)x, (void *)res, (void *)out, (void *)qkv, (void *)pool, (void *)rope})
        CUDA(cudaFree(p));
    const int cf = copies((double)n * F * 4);
    char *gu = (char *)room((size_t)(cf * n * 2 * F * 2)), *ff = (char *)room((size_t)(cf * n * F * 2)),
         *table = (char *)room((size_t)V * D * 2);
    row("swiglu", T, (double)n * F * 6, cf, [&](int i) {
        swiglu_args a = {at(ff, i, F), at(gu, i, 2 * F), 2 * F, F, T, F};
        return swiglu_gpu(&a, &ctx);
    });
    weight wt = {DT_BF16, V, D, table, NULL};
    row("embed", T, (double)n * D * 4, cf, [&](int) {
        embed_args a = {ff, &wt, id_g, T, D};
        return embed_gpu(&a, &ctx);
    });
    for (void *p :
         {(void *)gu, (void *)ff, (void *)table, (void *)w, (void *)id_g, (void *)pos_g, (void *)page_g})
        CUDA(cudaFree(p));
}

/* Layers take turns, as in a prompt: each has its own weights. The floor is the pooled rows and the weights.
 */
static void router(int n_prompt, int len)
{
    const int n[5] = {8 * K, 2 * K, 4 * K, K, 2}, k[5] = {K, 8 * K, 2 * K, 4 * K, K}, n_layer = 36;
    size_t one = 0;
    for (int i = 0; i < 5; i++) one += (size_t)(n[i] * k[i] + n[i]);
    float *w = floats(one * n_layer, 0.2f, false), *margin = floats((size_t)n_prompt, 1, false);
    char *q = (char *)room((size_t)n_prompt * (size_t)len * H * K * 2);
    std::vector<router_gpu_prompt> prompt;
    std::vector<attn_seg> seg((size_t)n_prompt);
    for (int i = 0; i < n_prompt; i++) prompt.push_back({i * len, len, i, 0});
    router_gpu_prompt *p = copy_of(prompt);
    attn_seg *s = copy_of(seg);
    char name[32];
    snprintf(name, sizeof name, "router x%d", n_prompt);
    row(name, len, (double)one * 4 + (double)n_prompt * 2 * POOL * H * K * 2, n_layer, [&](int layer) {
        router_gpu_args a = {q, H * K, p, n_prompt, POOL, H, K, {}, s, margin, ATTN_FULL, ATTN_STREAMING};
        const float *at = w + one * (size_t)layer;
        a.w.n_out = 2;
        for (int i = 0; i < 5; i++) {
            a.w.w[i] = at;
            a.w.b[i] = at + n[i] * k[i];
            at += n[i] * k[i] + n[i];
        }
        return router_gpu(&a, &ctx);
    });
    for (void *x : {(void *)w, (void *)margin, (void *)q, (void *)p, (void *)s}) CUDA(cudaFree(x));
}

static void sample(const char *name, int n_row, bool peaks, const sample_gpu_row &like)
{
    float *l = floats((size_t)n_row * V, 4, peaks), *work = floats((size_t)n_row * 2 * V, 1, false);
    std::vector<sample_gpu_row> rows((size_t)n_row, like);
    for (int i = 0; i < n_row; i++) rows[(size_t)i].pos = i;
    sample_gpu_row *r = copy_of(rows);
    sample_out *out;
    CUDA(cudaMalloc(&out, sizeof *out * (size_t)n_row));
    row(name, n_row, (double)n_row * V * 4, 4, [&](int) {
        sample_gpu_args a = {l, V, r, NULL, NULL, out, work, n_row, V};
        return sample_gpu(&a, &ctx);
    });
    for (void *x : {(void *)l, (void *)work, (void *)r, (void *)out}) CUDA(cudaFree(x));
}

int main(void)
{
    ctx.n_sm = n_sm_here();
    ctx.act = ctx.kv = DT_BF16;
    CUDA(cudaStreamCreate(&ctx.stream));
    for (int T : {1, 32, 8192}) layer_ops(T);
    router(1, 32768);
    router(16, 2048);
    for (int n_row : {1, 32}) {
        sample_gpu_row greedy = {}, nucleus = {}, pure = {};
        greedy.on = 1, greedy.force_id = -1, greedy.top_p = 1, greedy.repetition = 1;
        nucleus = pure = greedy;
        nucleus.temperature = 0.7f, nucleus.top_p = 0.9f, nucleus.top_k = 50;
        pure.temperature = 1;
        sample("greedy", n_row, true, greedy);
        sample("top_k+top_p", n_row, true, nucleus);
        sample("temperature", n_row, true, pure);
        nucleus.top_k = 0;
        sample("top_p flat", n_row, false, nucleus);
        greedy.n_top = 20;
        sample("greedy top 20", n_row, true, greedy);
    }
    return 0;
}
