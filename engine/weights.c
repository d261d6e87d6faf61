/* weights: loading. The work is a list of jobs (one matrix each, the largest first); threads take the next
 * job, read its parts in pieces of about a megabyte and hand them to the backend, so that no more than that
 * is held twice. */
#include "engine/weights.h"

#include <ctype.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/coder.h"
#include "engine/scaled.h"
#include "kernels/quant.h"

enum { PIECE_BYTES = 1 << 20, NAME_BYTES = 96 };

struct job {
    struct weight *w;
    int layer, slot; /* layer < 0: slot is enum top_tensor */
    int64_t bytes;   /* in the file, or as invented */
    int64_t n, k;
    uint64_t types; /* bit t: a part is stored as enum dtype t */
    bool done;
};

struct loader {
    const struct weights_load *l;
    struct weights *w;
    enum naming naming;
    struct job *job;
    int n_job;
    int64_t total, done; /* bytes; done under the critical section */
    atomic_int next, n_bad;
    enum err e; /* the first failure, with its note */
    struct err_note note;
};

static void part_name(const struct loader *ld, int layer, const char *name, const char *tail, char *out)
{
    int n = snprintf(out, NAME_BYTES, layer_prefix[ld->naming], layer);
    snprintf(out + n, (size_t)(NAME_BYTES - n), "%s%s", name, tail);
}

static enum err tensor_bad(const struct loader *ld, struct err_note *note, const char *name, const char *what)
{
    const char *path = source_path(ld->l->src);
    return err_set(note, ERR_MODEL_FILE, path, "%s: tensor %s: %s", path, name, what);
}

/* Looks a tensor up and checks its shape; n == 1 means a vector. */
static enum err find(const struct loader *ld, const char *name, int64_t n, int64_t k, struct source_tensor *t,
                     struct err_note *note)
{
    const char *path = source_path(ld->l->src);
    if (source_invent(ld->l->src, name, n, k, t)) return OK;
    if (!source_find(ld->l->src, name, t)) return tensor_bad(ld, note, name, "is missing");
    if (ld->naming == NAMING_HF && t->n_dim != (n == 1 ? 1 : 2))
        return err_set(note, ERR_MODEL_FILE, path, "%s: tensor %s: has %d dimensions, the model needs %d",
                       t->path, name, t->n_dim, n == 1 ? 1 : 2);
    if (t->n != n || t->k != k)
        return err_set(note, ERR_MODEL_FILE, path,
                       "%s: tensor %s: shape is [%lld, %lld], the model needs [%lld, %lld]", t->path, name,
                       (long long)t->n, (long long)t->k, (long long)n, (long long)k);
    if (t->dt == DT_COUNT)
        return err_set(note, ERR_MODEL_FILE, path, "%s: tensor %s: its dtype is not one of F32, F16, BF16",
                       t->path, name);
    return OK;
}

/* How row `part` of matrix_parts is stored in a layer; NULL: as plain numbers, as all that a source invents.
 */
static const struct stored_scheme *stored_as(const struct loader *ld, int layer, int part)
{
    const struct stored_spec *s = &ld->l->spec->stored;
    const int at = layer < 0 ? s->head : s->part[layer][part];
    struct source_tensor t;
    return at && !source_invent(ld->l->src, "", 1, 1, &t) ? &s->scheme[at - 1] : NULL;
}

/* A matrix of a file: numbers, or codes with scales. */
struct part {
    char name[NAME_BYTES];     /* of the tensor; of codes without ".weight" */
    struct scaled_conf scaled; /* no scheme: numbers */
    struct source_tensor t;    /* of numbers; dt and n_bytes of both: codes are held as a tensor of 16 bits */
    enum dtype makes;          /* what numbers become: codes of DT_FP8 or DT_U4; DT_COUNT: they stay */
};

/* layer < 0: the last product, `part` is a tensor of top_names. */
static enum err find_part(const struct loader *ld, int layer, int part, struct part *p, struct err_note *note)
{
    const struct spec *s = ld->l->spec;
    const struct part_row *row = layer < 0 ? NULL : &matrix_parts[part];
    const int n = row ? spec_dim(s, row->n) : s->n_vocab, k = row ? spec_dim(s, row->k) : s->d;
    const struct stored_scheme *stored = row || part == TOP_HEAD ? stored_as(ld, layer, part) : NULL;
    *p = (struct part){.scaled = {.src = ld->l->src, .scheme = stored, .module = p->name, .n = n, .k = k}};
    if (row)
        part_name(ld, layer, row->name[ld->naming], stored ? "" : ".weight", p->name);
    else
        snprintf(p->name, sizeof p->name, "%s", stored ? "lm_head" : top_names[part][ld->naming]);
    const bool made = ld->l->made == DT_FP8 || ld->l->made == DT_U4;
    p->makes = row && !stored && made ? ld->l->made : DT_COUNT;
    if (p->makes == DT_U4 && !int4_made_group(k)) p->makes = DT_COUNT;
    if (!stored) return find(ld, p->name, n, k, &p->t, note);
    p->t = (struct source_tensor){.dt = DT_BF16, .n = n, .k = k};
    return scaled_check(&p->scaled, &p->t.n_bytes, note);
}

/* Row i of a head in rotate-half order stands in which row of a GGUF head: pairs (i, i + K/2) stand side by
 * side there. */
static int permuted_row(int i, int head)
{
    int j = i % head, base = i - j;
    return base + (j < head / 2 ? 2 * j : 2 * (j - head / 2) + 1);
}

static bool is_permuted(const struct loader *ld, const struct part_row *p)
{
    return (p->flags & PART_ROPE) && ld->naming == NAMING_GGUF && ld->l->spec->family->gguf_permuted;
}

static bool is_stopped(const struct loader *ld) { return ld->l->stop && atomic_load(ld->l->stop); }

/* A thread's own, kept from tensor to tensor. */
struct buffer {
    struct backend *b;
    void *raw;
    int32_t *rows;
    int64_t raw_bytes, n_row;
    struct coder coder;
};

static void buffer_free(struct buffer *buf)
{
    if (buf->b->host_free)
        buf->b->host_free(buf->raw);
    else
        free(buf->raw);
    free(buf->rows);
    buf->raw = buf->rows = NULL;
    buf->raw_bytes = buf->n_row = 0;
}

static void buffer_close(struct buffer *buf)
{
    buffer_free(buf);
    coder_free(&buf->coder);
}

static bool buffer_fit(struct buffer *buf, int64_t raw_bytes, int64_t n_row)
{
    if (raw_bytes <= buf->raw_bytes && n_row <= buf->n_row) return true;
    raw_bytes = raw_bytes > buf->raw_bytes ? raw_bytes : buf->raw_bytes;
    n_row = n_row > buf->n_row ? n_row : buf->n_row;
    buffer_free(buf);
    buf->raw = buf->b->host_new ? buf->b->host_new(buf->b, raw_bytes) : malloc((size_t)raw_bytes);
    buf->rows = malloc((size_t)n_row * sizeof *buf->rows);
    if (!buf->raw || !buf->rows) return false;
    buf->raw_bytes = raw_bytes;
    buf->n_row = n_row;
    return true;
}

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
}

/* Codes go to the backend as they are where it holds such, else as the numbers that they stand for. */
static void give_codes(struct loader *ld, struct buffer *buf, struct weight *w, int row0,
                       const struct weight *rows, float input)
{
    struct backend *b = ld->l->backend;
    if (!coder_finite(rows)) atomic_fetch_add(&ld->n_bad, 1);
    if (w->dt == rows->dt)
        b->codes_part(b, w, row0, rows, input);
    else
        b->weight_part(b, w, row0, rows->n, coder_numbers(&buf->coder, rows), DT_F32, NULL);
}

/* The rows of a tensor into w at row0. group: rows that must stay together (a head, where rows are permuted).
 */
static enum err load_rows(struct loader *ld, struct buffer *buf, struct weight *w, int row0,
                          const struct part *p, int group, struct err_note *note)
{
    const struct source_tensor *t = &p->t;
    int64_t row_bytes = quant_bytes(t->dt, t->k), per = PIECE_BYTES / row_bytes / group * group;
    if (per < group) per = group;
    if (per > t->n) per = t->n;
    if (!buffer_fit(buf, per * row_bytes, per)) return no_memory(note);
    if (p->makes != DT_COUNT && !coder_fit(&buf->coder, (int)per, (int)t->k)) return no_memory(note);
    const int32_t *rows = group > 1 ? buf->rows : NULL;
    for (int64_t i = 0; i < per; i++) buf->rows[i] = permuted_row((int)i, group);
    for (int64_t at = 0; at < t->n; at += per) {
        int64_t n = at + per < t->n ? per : t->n - at;
        struct weight codes;
        if (is_stopped(ld)) return err_set(note, ERR_CANCELLED, NULL, "loading was stopped");
        TRY(source_read(ld->l->src, t, at * row_bytes, n * row_bytes, buf->raw, note));
        if (p->makes != DT_COUNT) {
            coder_make(&buf->coder, p->makes, buf->raw, t->dt, rows, (int)n, (int)t->k, &codes);
            give_codes(ld, buf, w, row0 + (int)at, &codes, 0);
            continue;
        }
        if (!quant_finite(t->dt, buf->raw, n * t->k)) atomic_fetch_add(&ld->n_bad, 1);
        ld->l->backend->weight_part(ld->l->backend, w, row0 + (int)at, (int)n, buf->raw, t->dt, rows);
    }
    return OK;
}

/* The same of codes with scales. */
static enum err load_scaled(struct loader *ld, struct buffer *buf, struct weight *w, int row0,
                            const struct part *p, struct err_note *note)
{
    const int n = p->scaled.n, k = p->scaled.k;
    const enum dtype dt = scaled_type(p->scaled.scheme);
    const int64_t row_bytes = quant_bytes(dt, k);
    struct scaled *in;
    TRY(scaled_open(&in, &p->scaled, note));
    const int step = scaled_step(in);
    int64_t per = (PIECE_BYTES / (w->dt == dt ? row_bytes : k * 4) / step + 1) * step;
    if (per > n) per = n;
    enum err e = buffer_fit(buf, per * row_bytes, per) && (w->dt == dt || coder_fit(&buf->coder, (int)per, k))
                     ? OK
                     : no_memory(note);
    for (int at = 0; e == OK && at < n; at += (int)per) {
        const int rows = n - at < per ? n - at : (int)per;
        struct weight piece;
        if (is_stopped(ld)) e = err_set(note, ERR_CANCELLED, NULL, "loading was stopped");
        if (e == OK) e = scaled_rows(in, at, rows, buf->raw, &piece, note);
        if (e == OK) give_codes(ld, buf, w, row0 + at, &piece, scaled_input(in));
    }
    scaled_close(in);
    return e;
}

static enum err load_part(struct loader *ld, struct buffer *buf, struct weight *w, int row0,
                          const struct part *p, int group, struct err_note *note)
{
    return p->scaled.scheme ? load_scaled(ld, buf, w, row0, p, note)
                            : load_rows(ld, buf, w, row0, p, group, note);
}

/* --- how a matrix is held */

/* A part's codes as a backend may hold them: of 8 bits with a scale for each row (of a tensor's one, each row
 * the same) or for each block, of 4 bits with one for each group of columns. s.zero: not NULL if there are
 * zero points. */
static bool codes_of(const struct part *p, struct weight *like)
{
    static const uint8_t some = 0;
    const struct stored_scheme *c = p->scaled.scheme;
    const int k = (int)p->t.k;
    *like = (struct weight){.dt = p->makes, .k = k, .s = {.rows = 1, .cols = k}};
    if (!c && p->makes == DT_U4) like->s.cols = int4_made_group(k);
    if (!c) return p->makes != DT_COUNT;
    like->dt = scaled_type(c);
    if (like->dt == DT_U4) {
        if (c->cols) like->s.cols = c->cols;
        like->s.zero = c->zeros ? &some : NULL;
        return c->rows == 1;
    }
    if (c->alone) return false;
    if (c->rows == FP8_BLOCK && c->cols == FP8_BLOCK) like->s.rows = like->s.cols = FP8_BLOCK;
    return like->s.rows == FP8_BLOCK || (c->rows <= 1 && c->cols == 0);
}

static bool same_codes(const struct weight *a, const struct weight *b)
{
    return a->dt == b->dt && a->s.rows == b->s.rows &&
           int4_group(a->k, a->s.cols) == int4_group(b->k, b->s.cols);
}

/* Parts one under the other whose codes are held as one matrix: no two share a block, columns of all stand in
 * one order. *group: that order, the caller's to free; NULL: as they stand. */
static enum err codes_of_all(const struct part *part, int n_part, struct weight *like, bool *one,
                             int32_t **group, struct err_note *note)
{
    enum err e = OK;
    *one = true;
    *group = NULL;
    for (int i = 0; i < n_part && e == OK; i++) {
        struct weight own;
        int32_t *order = NULL;
        *one = codes_of(&part[i], &own) && *one && (i == 0 || same_codes(&own, like)) &&
               (own.s.rows == 1 || i + 1 == n_part || part[i].t.n % own.s.rows == 0);
        if (i && like->s.zero) own.s.zero = like->s.zero;
        *like = own;
        if (*one && part[i].scaled.scheme) e = scaled_order(&part[i].scaled, &order, note);
        if (i == 0) {
            *group = order;
            continue;
        }
        *one = *one && !order == !*group &&
               (!order || memcmp(order, *group, (size_t)own.k * sizeof *order) == 0);
        free(order);
    }
    return e;
}

/* A matrix of n_part parts one under the other: as codes if the backend holds such. Else parts of different
 * types are held as a tensor of fp32 would be if one of them is, else as one of 16 bits. */
static enum err new_matrix(struct loader *ld, struct weight *w, const struct part *part, int n_part, int n,
                           int k, struct err_note *note)
{
    struct backend *b = ld->l->backend;
    enum dtype src = DT_COUNT;
    struct weight like = {0};
    int32_t *group = NULL;
    bool one = false;
    for (int i = 0; i < n_part; i++) {
        const enum dtype dt = part[i].makes != DT_COUNT ? DT_BF16 : part[i].t.dt;
        src = src == DT_COUNT || src == dt ? dt : src == DT_F32 || dt == DT_F32 ? DT_F32 : DT_F16;
    }
    enum err e = b->holds_codes ? codes_of_all(part, n_part, &like, &one, &group, note) : OK;
    like.n = n;
    like.s.group = group;
    if (e == OK)
        e = one && b->holds_codes(b, &like)
                ? b->codes_new(b, w, &like, note)
                : b->weight_new(b, w, n, k, b->hold_type(b, src), WEIGHT_GEMM, note);
    free(group);
    return e;
}

static enum err load_top(struct loader *ld, struct buffer *buf, const struct job *j, struct err_note *note)
{
    struct part p;
    const struct spec *s = ld->l->spec;
    struct backend *b = ld->l->backend;
    const bool table = j->w == &ld->w->embed;
    TRY(find_part(ld, -1, j->slot, &p, note));
    p.makes = ld->l->head_fp8 && !table && !p.scaled.scheme ? DT_FP8
                                                            : DT_COUNT; /* also of the embeddings' tensor */
    TRY(table ? b->weight_new(b, j->w, s->n_vocab, s->d, p.t.dt, WEIGHT_TABLE, note)
              : new_matrix(ld, j->w, &p, 1, s->n_vocab, s->d, note));
    TRY(load_part(ld, buf, j->w, 0, &p, 1, note));
    return b->weight_done(b, j->w, note);
}

static enum err load_matrix(struct loader *ld, struct buffer *buf, const struct job *j, struct err_note *note)
{
    const struct spec *s = ld->l->spec;
    struct part part[4] = {0};
    int n = 0, k = 0, n_part = 0;
    for (int i = 0; i < n_matrix_part; i++) {
        const struct part_row *p = &matrix_parts[i];
        if (p->slot != j->slot) continue;
        TRY(find_part(ld, j->layer, i, &part[n_part++], note));
        n += spec_dim(s, p->n);
        k = spec_dim(s, p->k);
    }
    TRY(new_matrix(ld, j->w, part, n_part, n, k, note));
    for (int i = 0, at = 0, row0 = 0; i < n_matrix_part; i++) {
        const struct part_row *p = &matrix_parts[i];
        if (p->slot != j->slot) continue;
        TRY(load_part(ld, buf, j->w, row0, &part[at++], is_permuted(ld, p) ? s->head : 1, note));
        row0 += spec_dim(s, p->n);
    }
    return ld->l->backend->weight_done(ld->l->backend, j->w, note);
}

/* A small tensor as fp32; *out is the caller's to free. */
static enum err read_f32(struct loader *ld, const char *name, int n, float **out, struct err_note *note)
{
    struct source_tensor t;
    enum err e = find(ld, name, 1, n, &t, note);
    if (e != OK) return e;
    void *raw = malloc((size_t)t.n_bytes);
    float *v = malloc((size_t)n * sizeof *v);
    e = raw && v ? source_read(ld->l->src, &t, 0, t.n_bytes, raw, note)
                 : err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
    if (e == OK && !quant_finite(t.dt, raw, n)) atomic_fetch_add(&ld->n_bad, 1);
    if (e == OK && !quant_to_f32(t.dt, raw, v, n))
        e = tensor_bad(ld, note, name, "has a type that cannot be read");
    free(raw);
    if (e == OK)
        *out = v;
    else
        free(v);
    return e;
}

static enum err keep_vector(struct loader *ld, const float *v, int n, void **out, int64_t *bytes,
                            struct err_note *note)
{
    struct backend *b = ld->l->backend;
    *bytes = (int64_t)n * 4;
    *out = b->vector_new(b, v, n);
    return *out ? OK : err_set(note, ERR_NOMEM, NULL, "no memory for weights");
}

static bool has_part(const struct spec *s, const struct part_row *p)
{
    return !(p->flags & ~(s->parts | PART_ROPE));
}

/* A GGUF says of no layer which biases it has: those that are not there are 0. */
static bool may_lack(const struct loader *ld, const struct part_row *p, const char *name)
{
    struct source_tensor t;
    return ld->naming == NAMING_GGUF && (p->flags & ld->l->spec->family->option) &&
           !source_find(ld->l->src, name, &t);
}

/* All parts of one vector, one after the other. */
static enum err load_vector(struct loader *ld, int layer, int slot, struct err_note *note)
{
    const struct spec *s = ld->l->spec;
    int n = 0;
    char name[NAME_BYTES];
    float *all = NULL;
    enum err e = OK;
    for (int i = 0; i < n_vector_part && e == OK; i++) {
        const struct part_row *p = &vector_parts[i];
        if (p->slot != slot || !has_part(s, p)) continue;
        int m = spec_dim(s, p->n);
        float *v = NULL, *grown = realloc(all, (size_t)(n + m) * sizeof *all);
        if (!grown) {
            e = err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
            break;
        }
        all = grown;
        part_name(ld, layer, p->name[ld->naming], "", name);
        const bool lacks = may_lack(ld, p, name);
        if (!lacks && (e = read_f32(ld, name, m, &v, note)) != OK) break;
        for (int r = 0; r < m; r++)
            all[n + r] = lacks ? 0 : v[is_permuted(ld, p) ? permuted_row(r, s->head) : r];
        n += m;
        free(v);
    }
    struct layer_weights *lw = &ld->w->layer[layer];
    if (e == OK && n) e = keep_vector(ld, all, n, &lw->vec[slot], &lw->vec_bytes[slot], note);
    free(all);
    return e;
}

static enum err load_vectors(struct loader *ld, struct err_note *note)
{
    const struct spec *s = ld->l->spec;
    enum err e = OK;
    for (int l = 0; l < s->n_layer && e == OK; l++) {
        e = scaled_check_kv(ld->l->src, &s->stored, l, true, note);
        for (int v = 0; v < VEC_COUNT && e == OK; v++) e = load_vector(ld, l, v, note);
    }
    float *norm = NULL;
    if (e == OK) e = read_f32(ld, top_names[TOP_NORM][ld->naming], s->d, &norm, note);
    if (e == OK) e = keep_vector(ld, norm, s->d, &ld->w->norm, &ld->w->norm_bytes, note);
    free(norm);

    struct source_tensor t;
    const char *factors = top_names[TOP_ROPE_FACTORS][ld->naming];
    if (e == OK && factors && source_find(ld->l->src, factors, &t)) {
        e = read_f32(ld, factors, s->head / 2, &ld->w->rope_factor, note);
        for (int i = 0; e == OK && i < s->head / 2; i++)
            if (!(ld->w->rope_factor[i] > 0))
                e = tensor_bad(ld, note, factors, "has a factor that is not above 0");
    }
    return e;
}

static int cmp_job(const void *a, const void *b)
{
    const struct job *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void add_part(struct job *j, const struct source_tensor *t)
{
    j->bytes += t->n_bytes;
    j->n += t->n;
    j->k = t->k;
    j->types |= UINT64_C(1) << t->dt;
}

static void add_job(struct loader *ld, struct weight *w, int layer, int slot)
{
    struct part p;
    struct job j = {.w = w, .layer = layer, .slot = slot};
    if (layer < 0 && find_part(ld, layer, slot, &p, NULL) == OK) add_part(&j, &p.t);
    for (int i = 0; layer >= 0 && i < n_matrix_part; i++)
        if (matrix_parts[i].slot == slot && find_part(ld, layer, i, &p, NULL) == OK) add_part(&j, &p.t);
    ld->job[ld->n_job++] = j;
    ld->total += j.bytes;
}

static enum err list_jobs(struct loader *ld, struct err_note *note)
{
    struct weights *w = ld->w;
    struct source_tensor t;
    ld->job = calloc((size_t)w->n_layer * MAT_COUNT + 2, sizeof *ld->job);
    if (!ld->job) return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
    add_job(ld, &w->embed, -1, TOP_EMBED);
    bool own = ld->l->spec->tied < 0 ? source_find(ld->l->src, top_names[TOP_HEAD][ld->naming], &t)
                                     : !ld->l->spec->tied;
    add_job(ld, &w->head, -1, own ? TOP_HEAD : TOP_EMBED); /* tied: the same tensor, packed for products */
    for (int l = 0; l < w->n_layer; l++)
        for (int m = 0; m < MAT_COUNT; m++) add_job(ld, &w->layer[l].mat[m], l, m);
    qsort(ld->job, (size_t)ld->n_job, sizeof *ld->job, cmp_job);
    return OK;
}

static void run_job(struct loader *ld, struct buffer *buf, struct job *j)
{
    struct err_note note = {0};
    enum err e = j->layer < 0 ? load_top(ld, buf, j, &note) : load_matrix(ld, buf, j, &note);
    j->done = true;
#pragma omp critical(weights_progress)
    {
        ld->done += j->bytes;
        if (e != OK && ld->e == OK) {
            ld->e = e;
            ld->note = note;
            atomic_store(&ld->next, ld->n_job);
        }
        if (e == OK && ld->l->progress)
            ld->l->progress(ld->l->progress_arg, "weights",
                            ld->total ? (double)ld->done / (double)ld->total : 1);
    }
}

/* A backend that tries its products when it first meets a shape must meet it outside a parallel region, since
 * the products will run outside one too. */
static void run_first_of_each_shape(struct loader *ld)
{
    struct buffer buf = {.b = ld->l->backend};
    for (int i = 0; i < ld->n_job && ld->e == OK; i++) {
        struct job *j = &ld->job[i];
        bool known = j->w == &ld->w->embed; /* a table of rows: no products */
        for (int k = 0; k < i && !known; k++)
            known = ld->job[k].done && ld->job[k].n == j->n && ld->job[k].k == j->k &&
                    ld->job[k].types == j->types;
        if (!known) run_job(ld, &buf, j);
    }
    buffer_close(&buf);
}

static void run_jobs(struct loader *ld)
{
    if (ld->l->backend->tries_shapes) run_first_of_each_shape(ld);
#pragma omp parallel num_threads(ld->l->backend->n_thread)
    for (struct buffer buf = {.b = ld->l->backend};;) {
        int i = atomic_fetch_add(&ld->next, 1);
        if (i >= ld->n_job) {
            buffer_close(&buf);
            break;
        }
        if (!ld->job[i].done) run_job(ld, &buf, &ld->job[i]);
    }
}

/* The types that the layers' matrices are held in, the one of most weights first: "q4_k", "q5_0+q8_0+bf16".
 */
static void name_held(struct weights *w)
{
    int64_t n_elem[DT_COUNT] = {0};
    size_t n = 0;
    for (int l = 0; l < w->n_layer; l++)
        for (int m = 0; m < MAT_COUNT; m++)
            n_elem[w->layer[l].mat[m].dt] += (int64_t)w->layer[l].mat[m].n * w->layer[l].mat[m].k;
    for (;;) {
        int most = 0;
        for (int t = 1; t < DT_COUNT; t++)
            if (n_elem[t] > n_elem[most]) most = t;
        const char *name = quant_type((enum dtype)most)->name;
        if (n_elem[most] == 0 || n + strlen(name) + 2 > sizeof w->held) break;
        n += (size_t)snprintf(w->held + n, sizeof w->held - n, "%s%s", n ? "+" : "", name);
        n_elem[most] = 0;
    }
    snprintf(w->held_head, sizeof w->held_head, "%s", quant_type(w->head.dt)->name);
    for (char *p = w->held; *p; p++) *p = (char)tolower((unsigned char)*p);
    for (char *p = w->held_head; *p; p++) *p = (char)tolower((unsigned char)*p);
}

static void sum_up(struct loader *ld)
{
    struct weights *w = ld->w;
    struct backend *b = ld->l->backend;
    w->bytes = b->weight_bytes(&w->embed) + b->weight_bytes(&w->head) + w->norm_bytes;
    for (int l = 0; l < w->n_layer; l++) {
        for (int m = 0; m < MAT_COUNT; m++) w->bytes += b->weight_bytes(&w->layer[l].mat[m]);
        for (int v = 0; v < VEC_COUNT; v++) w->bytes += w->layer[l].vec_bytes[v];
    }
    name_held(w);
    if (ld->n_bad)
        log_line(LOG_WARN, "weights that are not finite", "path=%s pieces=%d", source_path(ld->l->src),
                 ld->n_bad);
}

/* What spec says and what the source holds fit each other. Before anything is made of either. */
enum err weights_check(const struct weights_load *l, struct err_note *note)
{
    const struct spec *s = l->spec;
    struct loader ld = {.l = l, .naming = source_naming(l->src)};
    struct source_tensor t;
    struct part p;
    char name[NAME_BYTES];
    enum err e = find(&ld, top_names[TOP_EMBED][ld.naming], s->n_vocab, s->d, &t, note);
    if (e == OK) e = find(&ld, top_names[TOP_NORM][ld.naming], 1, s->d, &t, note);
    const char *head = top_names[TOP_HEAD][ld.naming], *factors = top_names[TOP_ROPE_FACTORS][ld.naming];
    if (e == OK && (s->tied == 0 || (s->tied < 0 && source_find(l->src, head, &t))))
        e = find_part(&ld, -1, TOP_HEAD, &p, note);
    if (e == OK && factors && source_find(l->src, factors, &t))
        e = find(&ld, factors, 1, s->head / 2, &t, note);
    for (int layer = 0; layer < s->n_layer; layer++) {
        for (int i = 0; i < n_vector_part && e == OK; i++) {
            if (!has_part(s, &vector_parts[i])) continue;
            part_name(&ld, layer, vector_parts[i].name[ld.naming], "", name);
            if (!may_lack(&ld, &vector_parts[i], name))
                e = find(&ld, name, 1, spec_dim(s, vector_parts[i].n), &t, note);
        }
        for (int i = 0; i < n_matrix_part && e == OK; i++) e = find_part(&ld, layer, i, &p, note);
        if (e == OK) e = scaled_check_kv(l->src, &s->stored, layer, false, note);
    }
    return e;
}

enum err weights_load(struct weights *out, const struct weights_load *l, struct err_note *note)
{
    struct loader ld = {.l = l, .w = out, .naming = source_naming(l->src)};
    *out = (struct weights){.n_layer = l->spec->n_layer};
    out->layer = calloc((size_t)out->n_layer, sizeof *out->layer);
    if (!out->layer) return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
    enum err e = load_vectors(&ld, note);
    if (e == OK) e = list_jobs(&ld, note);
    if (e == OK) {
        run_jobs(&ld);
        if ((e = ld.e) != OK) {
            if (note) *note = ld.note;
        } else
            sum_up(&ld);
    }
    free(ld.job);
    return e;
}

void weights_free(struct weights *w, struct backend *b)
{
    for (int l = 0; w->layer && l < w->n_layer; l++) {
        for (int m = 0; m < MAT_COUNT; m++) b->weight_free(&w->layer[l].mat[m]);
        for (int v = 0; v < VEC_COUNT; v++) b->mem_free(b, w->layer[l].vec[v], w->layer[l].vec_bytes[v]);
    }
    b->weight_free(&w->embed);
    b->weight_free(&w->head);
    b->mem_free(b, w->norm, w->norm_bytes);
    free(w->rope_factor);
    free(w->layer);
    *w = (struct weights){0};
}
