/* cpu_weight: how weights are held on the CPU, and the buffers of the kernels. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/internal.h"
#include "kernels/cpu/gemm_quant.h"
#include "kernels/quant.h"

static bool held_by_dnnl(enum dtype dt) { return dt == DT_F32 || dt == DT_BF16; }

static size_t round64(size_t n) { return (n + 63) / 64 * 64; }

enum err cpu_open(struct op_ctx *c, int n_thread, enum dtype kv, int max_tok, int max_k, int max_n,
                  struct err_note *note)
{
    *c = (struct op_ctx){.n_thread = n_thread, .kv = kv};
    omp_set_num_threads(n_thread);
    struct cpu_scratch *s = c->scratch = calloc(1, sizeof *s);
    if (!s) return err_set(note, ERR_NOMEM, NULL, "no memory for the kernels' buffers");
    s->max_tok = max_tok;
    s->max_k = max_k;
    s->max_n = max_n;
    s->x = aligned_alloc(64, round64((size_t)DNNL_TILE * (size_t)max_k * sizeof(float)));
    s->y = aligned_alloc(64, round64((size_t)DNNL_TILE * (size_t)max_n * sizeof(float)));
    s->xh = aligned_alloc(64, round64((size_t)max_tok * (size_t)max_k * sizeof(uint16_t)));
    s->part =
        malloc((size_t)max_tok * ATTN_PARTS * (size_t)max_k * 5 / 4 * sizeof(float)); /* touched as used */
    enum err err = s->x && s->y && s->xh && s->part
                       ? dnnl_box_new(&s->dnnl, note)
                       : err_set(note, ERR_NOMEM, NULL, "no memory for the kernels' buffers");
    if (!err) err = quant_acts_new(&s->quant, max_tok, max_k, note);
    if (err) cpu_close(c);
    return err;
}

void cpu_close(struct op_ctx *c)
{
    struct cpu_scratch *s = c->scratch;
    if (!s) return;
    dnnl_box_free(s->dnnl);
    quant_acts_free(s->quant);
    free(s->x);
    free(s->y);
    free(s->xh);
    free(s->part);
    free(s);
    c->scratch = NULL;
}

enum dtype cpu_hold_type(enum dtype src)
{
    if (src == DT_F32 || quant_can_pack(src, QUANT_GROUP, quant_type(src)->block)) return src;
    return dnnl_has_bf16() ? DT_BF16 : DT_F32;
}

enum err cpu_weight_new(struct weight *w, int n, int k, enum dtype hold, bool raw, struct err_note *note)
{
    if (!raw && !held_by_dnnl(hold) && !quant_can_pack(hold, n, k)) /* odd sizes */
        hold = dnnl_has_bf16() ? DT_BF16 : DT_F32;
    *w = (struct weight){.dt = hold, .n = n, .k = k};
    struct cpu_weight *h = w->impl = calloc(1, sizeof *h);
    size_t bytes = (size_t)quant_bytes(hold, (int64_t)n * k);
    if (h) h->rows = aligned_alloc(64, round64(bytes));
    if (!h || !h->rows) {
        cpu_weight_free(w);
        return err_set(note, ERR_NOMEM, NULL, "no memory for a weight of %zu bytes", bytes);
    }
    h->raw = raw;
    h->bytes = (int64_t)bytes;
    if (raw) w->data = h->rows;
    return OK;
}

static void convert_row(void *to, enum dtype hold, const void *from, enum dtype type, int k)
{
    if (hold == type) {
        memcpy(to, from, (size_t)quant_bytes(hold, k));
        return;
    }
    CHECK(held_by_dnnl(hold));
    float buf[256]; /* every block size divides it */
    for (int i = 0; i < k; i += 256) {
        int n = k - i < 256 ? k - i : 256;
        CHECK(quant_to_f32(type, (const char *)from + quant_bytes(type, i), buf, n));
        if (hold == DT_F32)
            memcpy((float *)to + i, buf, (size_t)n * sizeof(float));
        else
            for (int j = 0; j < n; j++) ((uint16_t *)to)[i + j] = f32_to_bf16(buf[j]);
    }
}

void cpu_weight_part(struct weight *w, int row0, int n_row, const void *src, enum dtype type,
                     const int32_t *rows)
{
    struct cpu_weight *h = w->impl;
    CHECK(row0 >= 0 && row0 + n_row <= w->n && h->rows);
    int64_t to = quant_bytes(w->dt, w->k), from = quant_bytes(type, w->k);
    for (int i = 0; i < n_row; i++)
        convert_row((char *)h->rows + (row0 + i) * to, w->dt, (const char *)src + (rows ? rows[i] : i) * from,
                    type, w->k);
}

static enum err pack_quant(struct weight *w, struct err_note *note)
{
    struct cpu_weight *h = w->impl;
    CHECK(quant_can_pack(w->dt, w->n, w->k));
    h->bytes = quant_pack_bytes(w->dt, w->n, w->k);
    h->packed = aligned_alloc(64, round64((size_t)h->bytes));
    if (!h->packed)
        return err_set(note, ERR_NOMEM, NULL, "no memory for a weight of %lld bytes", (long long)h->bytes);
    quant_pack(w->dt, w->n, w->k, h->rows, h->packed);
    return OK;
}

enum err cpu_weight_done(struct op_ctx *c, struct weight *w, struct err_note *note)
{
    struct cpu_weight *h = w->impl;
    if (h->raw) return OK;
    enum err err = held_by_dnnl(w->dt) ? dnnl_pack(c->scratch->dnnl, w, note) : pack_quant(w, note);
    free(h->rows);
    h->rows = NULL;
    return err;
}

void cpu_weight_free(struct weight *w)
{
    struct cpu_weight *h = w->impl;
    if (!h) return;
    free(h->rows);
    free(h->packed);
    free(h);
    w->impl = NULL;
    w->data = NULL;
}

int64_t cpu_weight_bytes(const struct weight *w)
{
    return w->impl ? ((const struct cpu_weight *)w->impl)->bytes : 0;
}

void cpu_weight_row(const struct weight *w, int row, float *out)
{
    const struct cpu_weight *h = w->impl;
    CHECK(row >= 0 && row < w->n);
    if (!h->raw) {
        CHECK(!held_by_dnnl(w->dt));
        quant_unpack_row(w, row, out);
        return;
    }
    CHECK(quant_to_f32(w->dt, (const char *)h->rows + row * quant_bytes(w->dt, w->k), out, w->k));
}
