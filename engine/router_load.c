/* router_load: shapes from one table; the last layer's rows (2 or 1) tell the softmax form from the sigmoid
 * form. */
#include "engine/router_load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/files/hf.h"
#include "kernels/quant.h"

enum { N_LINEAR = 5, SIZE_MOST = 1 << 24 };

static const struct {
    const char *name;
    int out, in; /* in units of K; out 0: the logits */
} linear[N_LINEAR] = {{"cls_feat_extractor.0", 8, 1},
                      {"cls_feat_extractor.2", 2, 8},
                      {"cls_router_head_agnostic.0", 4, 2},
                      {"cls_router_head_agnostic.2", 1, 4},
                      {"cls_router_head_agnostic.4", 0, 1}};

static enum err tensor_bad(struct err_note *note, const char *path, const char *name, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, path, "%s: tensor %s: %s", path, name, what);
}

static void tensor_name(char *out, size_t n, int layer, int i, const char *tail)
{
    snprintf(out, n, "model.layers.%d.self_attn.mask_allocator.%s.%s", layer, linear[i].name, tail);
}

struct loader {
    struct source *src;
    const char *path;
    int head, n_out;
    float *mem; /* next free place; NULL: nothing is read yet */
    void *raw;  /* room for the largest tensor */
    struct err_note *note;
};

/* A tensor as it stands in the file, with the shape that the model needs. */
static enum err find_one(struct loader *ld, const char *name, int64_t rows, int64_t cols,
                         struct source_tensor *t)
{
    const int64_t n = cols ? rows : 1, k = cols ? cols : rows;
    if (!source_invent(ld->src, name, n, k, t)) {
        if (!source_find(ld->src, name, t)) return tensor_bad(ld->note, ld->path, name, "is missing");
        if (t->n_dim != (cols ? 2 : 1) || t->n != n || t->k != k)
            return tensor_bad(ld->note, t->path, name, "its shape does not fit this model");
    }
    return t->dt == DT_COUNT ? tensor_bad(ld->note, t->path, name, "its dtype is not one of F32, F16, BF16")
                             : OK;
}

static enum err read_one(struct loader *ld, const char *name, int64_t rows, int64_t cols, const float **out)
{
    struct source_tensor t;
    const int64_t n = rows * (cols ? cols : 1);
    enum err e = find_one(ld, name, rows, cols, &t);
    if (e != OK || !ld->mem) return e; /* without memory it is a look at the file alone */
    if ((e = source_read(ld->src, &t, 0, t.n_bytes, ld->raw, ld->note)) != OK) return e;
    if (!quant_finite(t.dt, ld->raw, n))
        return tensor_bad(ld->note, t.path, name, "has values that are not finite");
    quant_to_f32(t.dt, ld->raw, ld->mem, n);
    *out = ld->mem;
    ld->mem += n;
    return OK;
}

static enum err read_layer(struct loader *ld, int layer, struct router_weights *w)
{
    char name[160];
    w->n_out = ld->n_out;
    for (int i = 0; i < N_LINEAR; i++) {
        int64_t rows = linear[i].out ? (int64_t)linear[i].out * ld->head : ld->n_out,
                cols = (int64_t)linear[i].in * ld->head;
        enum err e;
        tensor_name(name, sizeof name, layer, i, "weight");
        if ((e = read_one(ld, name, rows, cols, &w->w[i])) != OK) return e;
        tensor_name(name, sizeof name, layer, i, "bias");
        if ((e = read_one(ld, name, rows, 0, &w->b[i])) != OK) return e;
    }
    return OK;
}

/* 2 outputs: softmax form; 1: sigmoid form. */
static enum err find_form(struct loader *ld)
{
    char name[160];
    tensor_name(name, sizeof name, 0, N_LINEAR - 1, "bias");
    struct source_tensor t;
    if (!source_find(ld->src, name, &t)) return tensor_bad(ld->note, ld->path, name, "is missing");
    if (t.n_dim != 1 || t.k < 1 || t.k > 2)
        return tensor_bad(ld->note, ld->path, name, "must have 1 or 2 values");
    ld->n_out = (int)t.k;

    const char *form = hf_metadata(source_hf(ld->src), "use_softmax");
    bool softmax = form && (strcmp(form, "true") == 0 || strcmp(form, "True") == 0 || strcmp(form, "1") == 0);
    if (form && softmax != (ld->n_out == 2))
        return err_set(ld->note, ERR_MODEL_FILE, ld->path,
                       "%s: use_softmax contradicts the %d outputs of its routers", ld->path, ld->n_out);
    return OK;
}

/* A size in tokens; some files write 150.0. */
static enum err read_size(struct loader *ld, const char *key, int least, int *out)
{
    const char *text = hf_metadata(source_hf(ld->src), key);
    if (!text) return OK;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= least && v <= SIZE_MOST) || floor(v) < v)
        return err_set(ld->note, ERR_MODEL_FILE, ld->path,
                       "%s: metadata %s: not a whole number of tokens in %d..%d", ld->path, key, least,
                       SIZE_MOST);
    *out = (int)v;
    return OK;
}

static enum err read_sizes(struct loader *ld, struct flux_spec *f)
{
    static const struct {
        const char *word;
        int kind;
    } kinds[] = {{"streaming", ATTN_STREAMING}, {"triangle", ATTN_TRIANGLE}, {"xattn", ATTN_LIST}};
    enum err e;
    if ((e = read_size(ld, "sink_size", 0, &f->sink_size)) != OK) return e;
    if ((e = read_size(ld, "local_window_size", 1, &f->local_window_size)) != OK) return e;
    if ((e = read_size(ld, "pool_size", 1, &f->pool_size)) != OK) return e;
    if ((e = read_size(ld, "triangle_n_last", 1, &f->triangle_n_last)) != OK) return e;
    const char *word = hf_metadata(source_hf(ld->src), "toggle_type");
    for (size_t i = 0; word && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(word, kinds[i].word) == 0) f->sparse_kind = kinds[i].kind;
    if (word && f->sparse_kind < 0)
        return err_set(ld->note, ERR_MODEL_FILE, ld->path,
                       "%s: metadata toggle_type: this kind is not supported", ld->path);
    const char *mode = hf_metadata(source_hf(ld->src), "retrieval_mode");
    if (mode)
        f->retrieval_kind = strcmp(mode, "full") == 0    ? ATTN_FULL
                            : strcmp(mode, "xattn") == 0 ? ATTN_LIST
                                                         : -1;
    if (mode && f->retrieval_kind < 0)
        return err_set(ld->note, ERR_MODEL_FILE, ld->path,
                       "%s: metadata retrieval_mode: neither full nor xattn", ld->path);
    return OK;
}

static int64_t n_float(int head, int n_out)
{
    int64_t n = 0;
    for (int i = 0; i < N_LINEAR; i++) {
        int64_t rows = linear[i].out ? (int64_t)linear[i].out * head : n_out;
        n += rows * linear[i].in * head + rows;
    }
    return n;
}

static enum err load(struct routers *out, struct loader *ld, const struct spec *spec)
{
    struct router_weights none;
    enum err e = OK;
    for (int l = 0; l < spec->n_layer && e == OK; l++)
        e = read_layer(ld, l, &none); /* before anything is made of what they say */
    if (e != OK) return e;
    out->bytes = n_float(ld->head, ld->n_out) * 4 * spec->n_layer;
    if (out->bytes > INT32_MAX) return err_set(ld->note, ERR_MODEL_FILE, ld->path, "%s: too large", ld->path);
    out->layer = calloc((size_t)spec->n_layer, sizeof *out->layer);
    out->mem = ld->mem = malloc((size_t)out->bytes);
    ld->raw = malloc((size_t)ld->head * (size_t)ld->head * 16 * 4); /* the second matrix, [2K, 8K], in fp32 */
    if (!out->layer || !out->mem || !ld->raw)
        e = err_set(ld->note, ERR_NOMEM, ld->path, "%s: no memory for routers", ld->path);
    for (int l = 0; l < spec->n_layer && e == OK; l++) e = read_layer(ld, l, &out->layer[l]);
    free(ld->raw);
    if (e != OK) routers_free(out);
    return e;
}

enum err routers_load(struct routers *out, const char *path, const struct spec *spec, struct err_note *note)
{
    struct source *src;
    struct source_name extra;
    *out = (struct routers){.flux = {-1, -1, -1, -1, -1, -1}};
    enum err e = source_open_file(&src, path, note);
    if (e != OK) return e;
    struct loader ld = {.src = src, .path = path, .head = spec->head, .note = note};
    if ((e = find_form(&ld)) == OK) e = read_sizes(&ld, &out->flux);
    if (e == OK) e = load(out, &ld, spec);
    int at = 0;
    if (e == OK && source_unused(src, &at, &extra))
        log_line(LOG_WARN, "tensors not used", "path=%s first=%s", path, extra.name);
    source_close(src);
    return e;
}

enum err routers_take(struct routers *out, struct source *src, const struct spec *spec, struct err_note *note)
{
    *out = (struct routers){.flux = {-1, -1, -1, -1, -1, -1}};
    if (!spec->router_out) return OK;
    struct loader ld = {
        .src = src, .path = source_path(src), .head = spec->head, .n_out = spec->router_out, .note = note};
    return load(out, &ld, spec);
}

void routers_free(struct routers *r)
{
    free(r->layer);
    free(r->mem);
    r->layer = NULL;
    r->mem = NULL;
}
