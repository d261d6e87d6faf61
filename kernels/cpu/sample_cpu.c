/* sample: from logits to one token. Order as in the field's servers: mask, bias and bans, penalties,
 * temperature, min_p, top_k, top_p, draw. Sets are found by a search for a threshold over the floats' own
 * order, so nothing is sorted; ties go to the lower id. Rows are independent of each other. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/philox.h"
#include "kernels/quant.h"

static const float GREEDY_BELOW = 1e-5f; /* temperature */

/* log(sum e^l) over the row; NaN when a logit is NaN or +inf. */
CPU_CLONES static double log_sum_exp(const float *l, int n)
{
    float m[LANES], s[LANES] = {0};
    for (int j = 0; j < LANES; j++) m[j] = -INFINITY;
    float odd[LANES] = {0}; /* 0, or NaN when a logit is NaN or +inf: -inf times 0 is NaN too, so that it
                               counts as the least number */
    for (int i = 0; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            m[j] = l[i + j] > m[j] ? l[i + j] : m[j];
            odd[j] += (l[i + j] < -FLT_MAX ? -FLT_MAX : l[i + j]) * 0.0f;
        }
    for (int i = n / LANES * LANES; i < n; i++) {
        m[i % LANES] = l[i] > m[i % LANES] ? l[i] : m[i % LANES];
        odd[i % LANES] += (l[i] < -FLT_MAX ? -FLT_MAX : l[i]) * 0.0f;
    }
    float max = m[0], any = odd[0];
    for (int j = 1; j < LANES; j++) {
        max = m[j] > max ? m[j] : max;
        any += odd[j];
    }
    if (any != 0 || max == -INFINITY) /* NaN is not 0 */
        return NAN;
    for (int i = 0; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] += exp_f32(l[i + j] - max);
    for (int i = n / LANES * LANES; i < n; i++) s[i % LANES] += exp_f32(l[i] - max);
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += (double)s[j];
    return (double)max + log(sum);
}

static void take_top(struct sample_out *o, const float *l, int n, int want, double lse)
{
    o->n_top = 0;
    for (int i = 0; i < n && want > 0; i++) {
        if (o->n_top == want && !(l[i] > l[o->top_id[want - 1]])) continue;
        int k = o->n_top < want ? o->n_top++ : want - 1;
        while (k > 0 && l[i] > l[o->top_id[k - 1]]) {
            o->top_id[k] = o->top_id[k - 1];
            k--;
        }
        o->top_id[k] = i;
    }
    for (int k = 0; k < o->n_top; k++) o->top_logprob[k] = (float)((double)l[o->top_id[k]] - lse);
}

/* Logits with the penalties and biases that the client asked for. hist[V] counts come from `count`. */
static void apply_penalties(const struct sample_row *r, const float *l, float *x, int32_t *count, int V)
{
    if (r->n_allow > 0) {
        for (int i = 0; i < V; i++) x[i] = -INFINITY;
        for (int i = 0; i < r->n_allow; i++) x[r->allow_id[i]] = l[r->allow_id[i]];
    } else {
        memcpy(x, l, (size_t)V * sizeof *x);
    }
    if (r->mask)
        for (int i = 0; i < V; i++) x[i] = r->mask[i / 32] >> i % 32 & 1 ? x[i] : -INFINITY;
    for (int i = 0; i < r->n_bias; i++) x[r->bias_id[i]] += r->bias_value[i];
    for (int i = 0; i < r->n_ban; i++) x[r->ban_id[i]] = -INFINITY;
    if (r->repetition == 1.0f && r->presence == 0.0f && r->frequency == 0.0f) return;
    memset(count, 0, (size_t)V * sizeof *count);
    for (int i = 0; i < r->n_hist; i++) {
        int32_t id = r->hist[i];
        if (count[id]++ == 0) x[id] = x[id] > 0 ? x[id] / r->repetition : x[id] * r->repetition;
    }
    memset(count, 0, (size_t)V * sizeof *count); /* presence: the answer's tokens alone */
    for (int i = r->n_prompt; i < r->n_hist; i++)
        if (count[r->hist[i]]++ == 0) x[r->hist[i]] -= r->presence;
    for (int i = r->n_prompt; i < r->n_hist; i++) x[r->hist[i]] -= r->frequency;
}

CPU_CLONES static float max_of(const float *x, int n)
{
    float m[LANES], max = x[0];
    for (int j = 0; j < LANES; j++) m[j] = x[0];
    for (int i = 0; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (int i = n / LANES * LANES; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int j = 0; j < LANES; j++) max = m[j] > max ? m[j] : max;
    return max;
}

/* The first of the largest; no NaN among them. */
static int arg_max(const float *x, int n)
{
    float max = max_of(x, n);
    int best = 0;
    while (x[best] < max) best++;
    return best;
}

CPU_CLONES static int count_from(const float *p, int n, float bar)
{
    int c = 0;
    for (int i = 0; i < n; i++) c += p[i] >= bar;
    return c;
}

CPU_CLONES static double sum_from(const float *p, int n, float bar)
{
    float s[LANES] = {0};
    double d = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] += p[i + j] >= bar ? p[i + j] : 0.0f;
    for (; i < n; i++) d += p[i] >= bar ? (double)p[i] : 0;
    for (int j = 0; j < LANES; j++) d += (double)s[j];
    return d;
}

/* The largest bar whose set {p >= bar} still has enough (a count of k, or a sum of mass when k == 0). */
static float find_bar(const float *p, int n, int k, double mass)
{
    uint32_t lo = 0, hi = f32_bits(1.0f) + 1; /* p is in [0, 1]; floats >= 0 order as their bits */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        float bar = f32_from_bits(mid);
        if (k ? count_from(p, n, bar) >= k : sum_from(p, n, bar) >= mass)
            lo = mid;
        else
            hi = mid;
    }
    return f32_from_bits(lo);
}

/* Zeroes what lies under the bar, and of those on it all but the first few that are still needed. */
static void keep(float *p, int n, float bar, int k, double mass)
{
    float above = f32_from_bits(f32_bits(bar) + 1);
    int count = k ? count_from(p, n, above) : 0;
    double sum = k ? 0 : sum_from(p, n, above);
    for (int i = 0; i < n; i++) {
        if (p[i] > bar) continue;
        bool want = p[i] == bar && (k ? count < k : sum < mass);
        if (!want) {
            p[i] = 0;
            continue;
        }
        count++;
        sum += (double)p[i];
    }
}

CPU_CLONES static void to_weights(float *x, int n, float max, float inv_temperature)
{
    for (int i = 0; i < n; i++) x[i] = exp_f32((x[i] - max) * inv_temperature);
}

static int draw(const struct sample_row *r, float *p, int V)
{
    int best = arg_max(p, V);
    if (r->temperature < GREEDY_BELOW) return best;
    to_weights(p, V, p[best], 1.0f / r->temperature);
    if (r->min_p > 0)
        for (int i = 0; i < V; i++) p[i] = p[i] >= r->min_p ? p[i] : 0; /* the best has weight 1 */
    if (r->top_k > 0 && r->top_k < V) keep(p, V, find_bar(p, V, r->top_k, 0), r->top_k, 0);
    if (r->top_p < 1.0f) {
        double mass = (double)r->top_p * sum_from(p, V, 0);
        keep(p, V, find_bar(p, V, 0, mass), 0, mass);
    }
    double total = 0;
    for (int i = 0; i < V; i++) total += (double)p[i];
    double u = philox_uniform(r->seed, (uint64_t)r->pos) * total, at = 0;
    int last = best;
    for (int i = 0; i < V; i++) {
        if (p[i] <= 0) continue;
        at += (double)p[i];
        last = i;
        if (at > u) break;
    }
    return last;
}

static bool plain(const struct sample_row *r)
{
    return r->temperature < GREEDY_BELOW && !r->mask && r->n_allow == 0 && r->n_bias == 0 && r->n_ban == 0 &&
           r->repetition == 1.0f && r->presence == 0.0f && r->frequency == 0.0f;
}

static void sample_one(const struct sample_row *r, const float *l, float *work, int V, struct sample_out *o)
{
    double lse = log_sum_exp(l, V);
    o->id = 0;
    o->logprob = 0;
    o->n_top = 0;
    o->bad = !isfinite(lse);
    o->none = false;
    if (o->bad) return;
    if (r->force_id >= 0) {
        o->id = r->force_id;
    } else if (plain(r)) {
        o->id = arg_max(l, V);
    } else {
        apply_penalties(r, l, work, (int32_t *)(void *)(work + V), V);
        int best = arg_max(work, V);
        o->bad = o->none = !(work[best] > -INFINITY);
        o->id = o->bad ? 0 : draw(r, work, V);
    }
    o->logprob = (float)((double)l[o->id] - lse);
    take_top(o, l, V, r->n_top < SAMPLE_TOP_MAX ? r->n_top : SAMPLE_TOP_MAX, lse);
}

void sample_cpu(struct op_ctx *c, const struct sample_args *a)
{
#pragma omp parallel for num_threads(c->n_thread) if (a->n_row > 1) schedule(dynamic)
    for (int i = 0; i < a->n_row; i++)
        sample_one(&a->row[i], a->logits + i * a->logits_stride, a->work + (int64_t)i * 2 * a->vocab,
                   a->vocab, &a->out[i]);
}
