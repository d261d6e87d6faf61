/* sample on CUDA: from logits to one token, as sample_cpu does it. One block of threads a row, so a row's
 * result knows nothing of the others; nothing is sorted: sets are found by bisection over the floats' own
 * order, ties go to the lower id.
 *
 * Weights e^((x - max) / T) are those of the CPU bit for bit (no fused multiply-add). Sums of weights are in
 * double here and partly in float there, so a set can differ where a token's weight ends within a float's
 * rounding of top_p. Most rows put nearly all weight on few tokens: about a thousand of the heaviest are
 * gathered into shared memory, and if they are sure to hold the set, only they are walked. */
#include "kernels/cuda/gpu_ops.cuh"
#include "kernels/philox.h"

#include <float.h>

enum { THREADS = 1024, WARPS = THREADS / 32, LIST = 4096, LIST_MAXIMA = 768, UNROLL = 8 };
#define GREEDY_BELOW 1e-5f /* temperature */

struct sample_smem {
    double d[WARPS];
    float f[WARPS];
    int32_t i[WARPS];
    int32_t n_list, pick;
    float p[LIST]; /* weights, or logits, of the list's ids */
    int32_t id[LIST];
};

/* The CPU's e^x (kernels/cpu/cpu_math.h), bit for bit. */
static __device__ float exp_f32(float x)
{
    float t = x < -87.3f ? -87.3f : x;
    float k = __fadd_rn(__fmul_rn(t, 1.44269504f), 12582912.0f);
    int n = __float_as_int(k);
    k = __fsub_rn(k, 12582912.0f);
    float r = __fsub_rn(__fsub_rn(t, __fmul_rn(k, 0.693359375f)), __fmul_rn(k, -2.12194440e-4f));
    float p = 1.9875691500e-4f;
    p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3f);
    p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
    p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
    p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
    p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
    p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(p, r), r), r), 1.0f);
    float s = __uint_as_float((uint32_t)(n - 0x4b400000 + 127) << 23);
    return x < -87.3f ? 0.0f : __fmul_rn(p, s);
}

/* 2^x to 2 units in the last place. */
static __device__ __forceinline__ float exp2_near(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#define LOG2_E 1.44269504f

/* --- over the block; every thread gets the result */

static __device__ double block_sum(sample_smem &s, double x)
{
    for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(~0u, x, m);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.d[threadIdx.x / 32] = x;
    __syncthreads();
    x = s.d[threadIdx.x % 32];
    for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(~0u, x, m);
    return x;
}
static __device__ int block_count(sample_smem &s, int x)
{
    x = __reduce_add_sync(~0u, x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s.i[threadIdx.x / 32] = x;
    __syncthreads();
    return __reduce_add_sync(~0u, s.i[threadIdx.x % 32]);
}
struct best {
    float v;
    int i;
};
static __device__ __forceinline__ best better(best a, best b)
{
    return b.v > a.v || (b.v == a.v && b.i < a.i) ? b : a;
}
static __device__ best warp_best(best b)
{
    for (int m = 16; m > 0; m /= 2)
        b = better(b, {__shfl_xor_sync(~0u, b.v, m), __shfl_xor_sync(~0u, b.i, m)});
    return b;
}
static __device__ best block_best(sample_smem &s, best b)
{
    b = warp_best(b);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        s.f[threadIdx.x / 32] = b.v;
        s.i[threadIdx.x / 32] = b.i;
    }
    __syncthreads();
    return warp_best({s.f[threadIdx.x % 32], s.i[threadIdx.x % 32]});
}

/* The k-th highest of the threads' numbers, k <= THREADS. */
static __device__ float kth_of_threads(float v, int k)
{
    const uint32_t bits = __float_as_uint(v),
                   key = bits & 0x80000000u ? ~bits : bits | 0x80000000u; /* orders as the floats */
    uint32_t bar = 0;
    for (int bit = 31; bit >= 0; bit--)
        if (__syncthreads_count(key >= (bar | 1u << bit)) >= k) bar |= 1u << bit;
    return __uint_as_float(bar & 0x80000000u ? bar & 0x7fffffffu : ~bar);
}

/* f(i, x[i]) for this thread's share, in rising order, several loads on their way at once. */
template <typename F> static __device__ __forceinline__ void each(const float *x, int n, F f)
{
    int i = threadIdx.x;
    for (; i + (UNROLL - 1) * THREADS < n; i += UNROLL * THREADS) {
        float v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) v[j] = x[i + j * THREADS];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) f(i + j * THREADS, v[j]);
    }
    for (; i < n; i += THREADS) f(i, x[i]);
}

static __device__ best arg_max(sample_smem &s, const float *x, int n)
{
    best b = {-INFINITY, 0x7fffffff};
    each(x, n, [&](int i, float v) { b = v > b.v || b.i == 0x7fffffff ? best{v, i} : b; });
    return block_best(s, b);
}

/* log(sum e^l), NaN when a logit is NaN or +inf or all are -inf; top: the highest logit. */
static __device__ double log_sum_exp(sample_smem &s, const float *l, int n, best *top)
{
    best b = {-INFINITY, 0x7fffffff};
    float sum = 0;
    int bad = 0;
    each(l, n, [&](int i, float v) {
        bad |= !(v < INFINITY);
        if (v > b.v) {
            sum = sum * exp2_near((b.v - v) * LOG2_E); /* the first: 0 * e^-inf */
            b = {v, i};
        }
        sum += v > -INFINITY ? exp2_near((v - b.v) * LOG2_E) : 0;
    });
    *top = block_best(s, b);
    if (block_count(s, bad) || top->v == -INFINITY) return NAN;
    return (double)top->v + log(block_sum(s, sum > 0 ? (double)sum * exp((double)b.v - (double)top->v) : 0));
}

/* --- the likeliest tokens */

/* The n-th highest of the threads' maxima is a bar that at least n logits reach; those are gathered and
 * ranked. */
static __device__ void take_top(sample_smem &s, const float *l, int V, int want, double lse, sample_out *o)
{
    want = min(min(want, (int)SAMPLE_TOP_MAX), V);
    if (threadIdx.x == 0) o->n_top = max(want, 0);
    if (want <= 0) return;
    float mine = -INFINITY, bar = -INFINITY; /* a short row is listed whole */
    each(l, V, [&](int, float v) { mine = v > mine ? v : mine; });
    if (V >= 2 * THREADS) bar = kth_of_threads(mine, want);
    __syncthreads();
    if (threadIdx.x == 0) s.n_list = 0;
    __syncthreads();
    each(l, V, [&](int i, float v) {
        if (v >= bar) {
            int at = atomicAdd(&s.n_list, 1);
            if (at < LIST) {
                s.p[at] = v;
                s.id[at] = i;
            }
        }
    });
    __syncthreads();
    const int n = s.n_list;
    if (n <= LIST) {
        for (int i = threadIdx.x; i < n; i += THREADS) {
            const best me = {s.p[i], s.id[i]};
            int rank = 0;
            for (int j = 0; j < n; j++) rank += s.p[j] > me.v || (s.p[j] == me.v && s.id[j] < me.i);
            if (rank < want) {
                o->top_id[rank] = me.i;
                o->top_logprob[rank] = (float)((double)me.v - lse);
            }
        }
        __syncthreads();
        return;
    }
    best last = {INFINITY, -1}; /* thousands of equal logits: one walk for each */
    for (int k = 0; k < want; k++) {
        best b = {-INFINITY, 0x7fffffff};
        each(l, V, [&](int i, float v) {
            if (v < last.v || (v == last.v && i > last.i)) b = better(b, {v, i});
        });
        last = block_best(s, b);
        if (threadIdx.x == 0) {
            o->top_id[k] = last.i;
            o->top_logprob[k] = (float)((double)last.v - lse);
        }
    }
}

/* --- penalties and biases */

static __device__ bool has_penalty(const sample_gpu_row &r)
{
    return r.repetition != 1.0f || r.presence != 0.0f || r.frequency != 0.0f;
}
static __device__ bool has_penalties(const sample_gpu_row &r)
{
    return r.n_mask > 0 || r.n_allow > 0 || r.n_bias > 0 || r.n_ban > 0 || has_penalty(r);
}

/* change(x[id], times) once for every id of the list; count is zero before and after. */
template <typename F>
static __device__ void each_id(const int32_t *id, int n, float *x, int32_t *count, F change)
{
    for (int i = threadIdx.x; i < n; i += THREADS) atomicAdd(&count[id[i]], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += THREADS) {
        int times = atomicExch(&count[id[i]], 0);
        if (times > 0) x[id[i]] = change(x[id[i]], times);
    }
    __syncthreads();
}

/* Logits with penalties and biases, into x. */
static __device__ void apply_penalties(const sample_gpu_args &a, const sample_gpu_row &r, const float *l,
                                       float *x, int32_t *count)
{
    const int32_t *allow = a.id + r.allow_id, *bias = a.id + r.bias_id, *ban = a.id + r.ban_id,
                  *hist = a.id + r.hist;
    const float *value = a.value + r.bias_value;
    const bool penalty = has_penalty(r);
    each(l, a.vocab, [&](int i, float v) {
        x[i] = r.n_allow > 0 ? -INFINITY : v;
        if (penalty) count[i] = 0;
    });
    __syncthreads();
    for (int i = threadIdx.x; i < r.n_allow; i += THREADS) x[allow[i]] = l[allow[i]];
    __syncthreads();
    if (r.n_mask > 0) {
        const uint32_t *mask = (const uint32_t *)a.id + r.mask;
        for (int i = threadIdx.x; i < a.vocab; i += THREADS)
            if (!(mask[i / 32] >> i % 32 & 1)) x[i] = -INFINITY;
        __syncthreads();
    }
    for (int i = threadIdx.x; i < r.n_bias;
         i += THREADS) { /* the first of equal ids adds them all, in their order */
        bool first = true;
        for (int j = 0; j < i && first; j++) first = bias[j] != bias[i];
        for (int j = i; j < r.n_bias && first; j++)
            if (bias[j] == bias[i]) x[bias[i]] += value[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < r.n_ban; i += THREADS) x[ban[i]] = -INFINITY;
    __syncthreads();
    if (!penalty) return;
    each_id(hist, r.n_hist, x, count,
            [&](float v, int) { return v > 0 ? __fdiv_rn(v, r.repetition) : __fmul_rn(v, r.repetition); });
    each_id(hist + r.n_prompt, r.n_hist - r.n_prompt, x, count, [&](float v, int times) {
        v = __fsub_rn(v, r.presence);
        for (int k = 0; k < times; k++) v = __fsub_rn(v, r.frequency);
        return v;
    });
}

/* act(i, p[i], on, before) for all i; before: how many of its row of THREADS numbers are on (test) and stand
 * before it. Rows come in order; after each with any on, more(how many) says whether to go on. */
template <typename Test, typename Act, typename More>
static __device__ __forceinline__ void in_order(sample_smem &s, const float *p, int n, Test test, Act act,
                                                More more)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int row0 = 0; row0 < n; row0 += UNROLL * THREADS) {
        float v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++)
            v[j] = row0 + j * THREADS + (int)threadIdx.x < n ? p[row0 + j * THREADS + threadIdx.x] : 0;
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            const int i = row0 + j * THREADS + threadIdx.x;
            const bool on = i < n && test(v[j]);
            const unsigned m = __ballot_sync(~0u, on);
            const int here = __syncthreads_count(on);
            int before = __popc(m & ((1u << lane) - 1));
            if (here) {
                if (lane == 0) s.i[warp] = __popc(m);
                __syncthreads();
                for (int w = 0; w < warp; w++) before += s.i[w];
            }
            if (i < n) act(i, v[j], on, before);
            if (here && !more(here)) return;
        }
    }
    __syncthreads();
}

/* --- drawing; p[n] are weights in rising order of their ids, in shared or in global memory */

static __device__ int count_from(sample_smem &s, const float *p, int n, float bar)
{
    int c = 0;
    each(p, n, [&](int, float v) { c += v >= bar; });
    return block_count(s, c);
}
static __device__ double sum_from(sample_smem &s, const float *p, int n, float bar)
{
    double d = 0;
    each(p, n, [&](int, float v) { d += v >= bar ? (double)v : 0; });
    return block_sum(s, d);
}

/* Keeps the set {p >= bar} of the largest bar that still has k numbers (or a sum of mass when k is 0); of
 * those on the bar itself only the first that are needed. */
static __device__ void truncate(sample_smem &s, float *p, int n, int k, double mass)
{
    uint32_t lo = 0, hi = 0x3f800001u; /* p is in [0, 1]; floats >= 0 order as their bits */
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const float bar = __uint_as_float(mid);
        const bool enough = k ? count_from(s, p, n, bar) >= k : sum_from(s, p, n, bar) >= mass;
        lo = enough ? mid : lo;
        hi = enough ? hi : mid;
    }
    const float bar = __uint_as_float(lo), above = __uint_as_float(lo + 1);
    if (bar <= 0) return; /* all that have weight are needed */
    int need;             /* of those on the bar */
    if (k)
        need = k - count_from(s, p, n, above);
    else
        need = (int)fmin(ceil((mass - sum_from(s, p, n, above)) / (double)bar), 1e9);
    int seen = 0;
    in_order(
        s, p, n, [&](float v) { return v == bar; },
        [&](int i, float v, bool on, int before) {
            if (v < bar ? v != 0 : on && seen + before >= need) p[i] = 0;
        },
        [&](int here) {
            seen += here;
            return true;
        });
}

/* One warp: the first place in [begin, end) where at + the running sum passes u, into s.pick. */
static __device__ void find_place(sample_smem &s, const float *p, int begin, int end, double at, double u)
{
    const int lane = threadIdx.x % 32;
    for (int i0 = begin; i0 < end; i0 += 32 * UNROLL) {
        float v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) v[j] = i0 + j * 32 + lane < end ? p[i0 + j * 32 + lane] : 0;
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            double run = (double)v[j];
            for (int m = 1; m < 32; m *= 2) {
                double other = __shfl_up_sync(~0u, run, m);
                run += lane >= m ? other : 0;
            }
            const unsigned passed = __ballot_sync(~0u, v[j] > 0 && at + run > u);
            if (passed) {
                if (lane == 0) s.pick = i0 + j * 32 + __ffs((int)passed) - 1;
                return;
            }
            at += __shfl_sync(~0u, run, 31);
        }
    }
}

/* Place at which the running sum of weights passes u. A warp owns a stretch of p; the stretch is found first,
 * then the place in it. */
static __device__ int draw(sample_smem &s, const float *p, int n, double u01)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32,
              per_warp = ((n + WARPS - 1) / WARPS + 31) / 32 * 32;
    const int begin = min(n, warp * per_warp), end = min(n, begin + per_warp);
    double sum = 0;
    int last = -1;
#pragma unroll 8
    for (int i = begin + lane; i < end; i += 32) {
        sum += (double)p[i];
        last = p[i] > 0 ? i : last;
    }
    for (int m = 16; m > 0; m /= 2) sum += __shfl_xor_sync(~0u, sum, m);
    last = __reduce_max_sync(~0u, last);
    __syncthreads();
    if (lane == 0) {
        s.d[warp] = sum;
        s.i[warp] = last;
    }
    if (threadIdx.x == 0) s.pick = -1;
    __syncthreads();
    double total = 0, at = 0;
    int final = -1, owner = -1;
    for (int w = 0; w < WARPS; w++) {
        total += s.d[w];
        final = max(final, s.i[w]);
    }
    const double u = u01 * total;
    for (int w = 0; w < WARPS && owner < 0; w++) {
        if (at + s.d[w] > u && s.d[w] > 0)
            owner = w;
        else
            at += s.d[w];
    }
    if (warp == owner) find_place(s, p, begin, end, at, u);
    __syncthreads();
    return s.pick >= 0 ? s.pick : owner >= 0 ? s.i[owner] : final;
}

/* The ids of weight `from` or more, in rising order, into shared memory. False when they are too many. */
static __device__ bool gather_list(sample_smem &s, const float *p, int V, float from)
{
    int n = 0;
    in_order(
        s, p, V, [&](float v) { return v >= from; },
        [&](int i, float v, bool on, int before) {
            if (on && n + before < LIST) {
                s.p[n + before] = v;
                s.id[n + before] = i;
            }
        },
        [&](int here) {
            n += here;
            return n <= LIST;
        });
    if (threadIdx.x == 0) s.n_list = n;
    __syncthreads();
    return n <= LIST;
}

/* Samples from logits l, with penalties or not, whose highest is max. x becomes weights (l may be x). */
static __device__ int draw_token(sample_smem &s, const sample_gpu_row &r, const float *l, float *x, int V,
                                 float max)
{
    const float inv = __fdiv_rn(1.0f, r.temperature);
    double all = 0;
    float most = 0;
    each(l, V, [&](int i, float v) {
        v = exp_f32(__fmul_rn(__fsub_rn(v, max), inv));
        v = r.min_p > 0 && !(v >= r.min_p) ? 0.0f : v;
        x[i] = v;
        most = v > most ? v : most;
        all += (double)v;
    });
    all = block_sum(s, all); /* its barriers also publish x */
    const bool k_on = r.top_k > 0 && r.top_k < V, p_on = r.top_p < 1.0f;
    double mass = (double)r.top_p * all;
    float *p = x;
    int n = V;
    bool listed = (k_on || p_on) && gather_list(s, x, V, fmaxf(kth_of_threads(most, LIST_MAXIMA), FLT_MIN));
    listed = listed && (k_on ? s.n_list >= r.top_k : sum_from(s, s.p, s.n_list, 0) >= mass);
    if (listed) {
        p = s.p;
        n = s.n_list;
    }
    if (k_on) {
        truncate(s, p, n, r.top_k, 0);
        mass = (double)r.top_p * sum_from(s, p, n, 0);
    }
    if (p_on) truncate(s, p, n, 0, mass);
    const int at = draw(s, p, n, philox_uniform(r.seed, (uint64_t)r.pos));
    return listed ? s.id[at] : at;
}

static __global__ void __launch_bounds__(THREADS) sample_kernel(const sample_gpu_args a)
{
    __shared__ sample_smem s;
    begin_kernel();
    const sample_gpu_row r = a.row[blockIdx.x];
    if (!r.on) return;
    const int V = a.vocab;
    const float *l = a.logits + blockIdx.x * a.logits_stride;
    float *x = a.work + (int64_t)blockIdx.x * 2 * V;
    sample_out *o = a.out + blockIdx.x;
    best top;
    const double lse = log_sum_exp(s, l, V, &top);
    bool bad = !isfinite(lse);
    int id = 0;
    if (!bad && r.force_id >= 0) {
        id = r.force_id;
    } else if (!bad) {
        best b = top;
        if (has_penalties(r)) {
            apply_penalties(a, r, l, x, (int32_t *)(x + V));
            b = arg_max(s, x, V);
        }
        bad = !(b.v > -INFINITY);
        id = bad                            ? 0
             : r.temperature < GREEDY_BELOW ? b.i
                                            : draw_token(s, r, has_penalties(r) ? x : l, x, V, b.v);
    }
    if (threadIdx.x == 0) {
        o->id = id;
        o->bad = bad;
        o->none = bad && isfinite(lse);
        o->logprob = isfinite(lse) ? (float)((double)l[id] - lse) : 0;
        o->n_top = 0;
    }
    __syncthreads();
    if (isfinite(lse)) take_top(s, l, V, r.n_top, lse, o);
}

enum err sample_gpu(const struct sample_gpu_args *a, const struct gpu_ctx *g)
{
    if (a->n_row == 0) return OK;
    if (a->n_row < 0 || a->vocab < 1) return ERR_INVALID_VALUE;
    return gpu_launch(g, sample_kernel, dim3((unsigned)a->n_row), THREADS, 1, *a);
}
