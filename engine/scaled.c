/* scaled: see scaled.h. Layouts as their writers define them: compressed-tensors packs columns 8 to a word,
 * the first in the lowest bits, and zero points likewise along the rows; GPTQ packs columns of codes and rows
 * of zero points, both transposed; AWQ packs rows of both in the order 0 2 4 6 1 3 5 7. */
#include "engine/scaled.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quant.h"

enum { NAME_BYTES = 128, ZERO_MID = 8 };
enum role { ROLE_CODE, ROLE_SCALE, ROLE_ZERO, ROLE_GROUP, ROLE_SHAPE, ROLE_INPUT, ROLE_COUNT };

static const struct {
    const char *tail[3]; /* after the first: other names for it */
    const char *type[2]; /* NULL: any of F32, F16, BF16 */
} tensors[][ROLE_COUNT] = {
    [STORED_FLOAT] = {[ROLE_CODE] = {{".weight"}, {"F8_E4M3"}},
                      [ROLE_SCALE] = {{".weight_scale", ".weight_scale_inv"}, {NULL}},
                      [ROLE_INPUT] = {{".input_scale", ".activation_scale", ".input_scale_ub"}, {NULL}}},
    [STORED_PACKED] = {[ROLE_CODE] = {{".weight_packed"}, {"I32"}},
                       [ROLE_SCALE] = {{".weight_scale"}, {NULL}},
                       [ROLE_ZERO] = {{".weight_zero_point"}, {"I32"}},
                       [ROLE_GROUP] = {{".weight_g_idx"}, {"I32"}},
                       [ROLE_SHAPE] = {{".weight_shape"}, {"I64", "I32"}}},
    [STORED_AWQ] = {[ROLE_CODE] = {{".qweight"}, {"I32"}},
                    [ROLE_SCALE] = {{".scales"}, {NULL}},
                    [ROLE_ZERO] = {{".qzeros"}, {"I32"}}},
    [STORED_GPTQ] = {[ROLE_CODE] = {{".qweight"}, {"I32"}},
                     [ROLE_SCALE] = {{".scales"}, {NULL}},
                     [ROLE_ZERO] = {{".qzeros"}, {"I32"}},
                     [ROLE_GROUP] = {{".g_idx"}, {"I32"}}},
};

struct found {
    const char *tail; /* of its name; NULL: it is not there and need not be */
    struct source_tensor t;
};

struct scaled {
    struct scaled_conf c;
    struct found f[ROLE_COUNT];
    struct weight w; /* no data */
    float *scale;
    uint8_t *zero;
    int32_t *group;
    uint32_t *words; /* AWQ, GPTQ: all codes */
    float input;
};

static enum err tensor_bad(const struct scaled_conf *c, const char *tail, const char *what,
                           struct err_note *note)
{
    const char *path = source_path(c->src);
    return err_set(note, ERR_MODEL_FILE, path, "%s: tensor %s%s: %s", path, c->module, tail, what);
}

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "no memory to load weights");
}

static bool is_awq_or_gptq(const struct scaled_conf *c)
{
    return c->scheme->form == STORED_AWQ || c->scheme->form == STORED_GPTQ;
}

enum dtype scaled_type(const struct stored_scheme *s) { return s->form == STORED_FLOAT ? DT_FP8 : DT_U4; }

static int per_scale_rows(const struct scaled_conf *c) { return c->scheme->rows ? c->scheme->rows : c->n; }
static int per_scale_cols(const struct scaled_conf *c) { return c->scheme->cols ? c->scheme->cols : c->k; }
static int n_group(const struct scaled_conf *c) { return (c->k - 1) / per_scale_cols(c) + 1; }
static int n_scale_row(const struct scaled_conf *c) { return (c->n - 1) / per_scale_rows(c) + 1; }

/* What a tensor's shape must be. */
static void shape_of(const struct scaled_conf *c, enum role role, int64_t *n, int64_t *k)
{
    const bool across = is_awq_or_gptq(c);
    const int groups = n_group(c);
    const int64_t shapes[ROLE_COUNT][2] = {
        [ROLE_CODE] = {c->n, c->scheme->form == STORED_FLOAT ? c->k : c->k / 8},
        [ROLE_SCALE] = {across ? groups : n_scale_row(c), across ? c->n : groups},
        [ROLE_ZERO] = {across ? groups : (c->n + 7) / 8, across ? c->n / 8 : groups},
        [ROLE_GROUP] = {c->k, 1},
        [ROLE_SHAPE] = {2, 1},
        [ROLE_INPUT] = {1, 1},
    };
    *n = shapes[role][0];
    *k = shapes[role][1];
    if (role != ROLE_CODE || !across) return;
    *n = c->scheme->form == STORED_AWQ ? c->k : c->k / 8;
    *k = c->scheme->form == STORED_AWQ ? c->n / 8 : c->n;
}

/* One column, or one number, may stand as a vector, one number also without a dimension. */
static bool has_shape(const struct source_tensor *t, int64_t n, int64_t k)
{
    if (t->n_dim == 2) return t->n == n && t->k == k;
    if (t->n_dim == 1) return k == 1 && t->k == n;
    return t->n_dim == 0 && n == 1 && k == 1;
}

static bool has_type(const struct source_tensor *t, const char *const type[2])
{
    if (!type[0]) return t->dt == DT_F32 || t->dt == DT_F16 || t->dt == DT_BF16;
    return t->type && (strcmp(t->type, type[0]) == 0 || (type[1] && strcmp(t->type, type[1]) == 0));
}

/* Must it be there (1), may it (0), or not be looked for (-1). */
static int is_needed(const struct scaled_conf *c, enum role role)
{
    const struct stored_scheme *s = c->scheme;
    switch (role) {
    case ROLE_ZERO:
        return s->zeros || is_awq_or_gptq(c) ? 1 : -1;
    case ROLE_GROUP:
        return s->ordered ? 1 : s->form == STORED_GPTQ ? 0 : -1;
    case ROLE_INPUT:
        return s->input ? 1 : 0;
    default:
        return 1;
    }
}

static enum err find(const struct scaled_conf *c, enum role role, struct found *f, struct err_note *note)
{
    char name[NAME_BYTES], what[96];
    const char *const *tail = tensors[c->scheme->form][role].tail;
    const char *const *type = tensors[c->scheme->form][role].type;
    *f = (struct found){0};
    if (!tail[0] || is_needed(c, role) < 0) return OK;
    for (int i = 0; i < 3 && tail[i]; i++) {
        struct source_tensor t;
        snprintf(name, sizeof name, "%s%s", c->module, tail[i]);
        if (!source_find(c->src, name, &t)) continue;
        if (f->tail) return tensor_bad(c, tail[i], "stands beside another of its meaning", note);
        *f = (struct found){tail[i], t};
    }
    if (!f->tail) return is_needed(c, role) ? tensor_bad(c, tail[0], "is missing", note) : OK;
    if (!has_type(&f->t, type)) {
        snprintf(what, sizeof what, "its dtype is %s, it must be %s", f->t.type ? f->t.type : "unknown",
                 type[0] ? type[0] : "F32, F16 or BF16");
        return tensor_bad(c, f->tail, what, note);
    }
    int64_t n, k;
    shape_of(c, role, &n, &k);
    if (has_shape(&f->t, n, k)) return OK;
    snprintf(what, sizeof what, "its shape is not [%lld, %lld], which the configuration asks for",
             (long long)n, (long long)k);
    return tensor_bad(c, f->tail, what, note);
}

static enum err find_all(const struct scaled_conf *c, struct found *f, struct err_note *note)
{
    if (c->scheme->form != STORED_FLOAT && c->k % per_scale_cols(c))
        return tensor_bad(c, "", "its columns are no whole number of groups", note);
    if (c->scheme->form != STORED_FLOAT && (c->k % 8 || (is_awq_or_gptq(c) && c->n % 8)))
        return tensor_bad(c, "", "its rows and columns fill no whole words", note);
    for (enum role r = 0; r < ROLE_COUNT; r++) TRY(find(c, r, &f[r], note));
    return OK;
}

enum err scaled_check(const struct scaled_conf *c, int64_t *n_bytes, struct err_note *note)
{
    struct found f[ROLE_COUNT];
    TRY(find_all(c, f, note));
    for (enum role r = 0; n_bytes && r < ROLE_COUNT; r++) *n_bytes += f[r].tail ? f[r].t.n_bytes : 0;
    return OK;
}

/* A whole tensor; *out is the caller's to free. */
static enum err read_all(const struct source *src, const struct source_tensor *t, void **out,
                         struct err_note *note)
{
    void *p = malloc((size_t)t->n_bytes + 1);
    if (!p) return no_memory(note);
    enum err e = source_read(src, t, 0, t->n_bytes, p, note);
    if (e == OK)
        *out = p;
    else
        free(p);
    return e;
}

/* Finite and not below 0 (a channel of zeros may have 0). */
static bool are_scales(const float *v, int64_t n)
{
    bool ok = true;
    for (int64_t i = 0; i < n; i++) ok = ok && isfinite(v[i]) && v[i] >= 0;
    return ok;
}

static enum err read_floats(const struct source *src, const struct source_tensor *t, int64_t n, float *out,
                            struct err_note *note)
{
    void *raw;
    TRY(read_all(src, t, &raw, note));
    quant_to_f32(t->dt, raw, out, n); /* has_type saw its type */
    free(raw);
    return OK;
}

static enum err read_scales(struct scaled *s, struct err_note *note)
{
    const struct scaled_conf *c = &s->c;
    const int groups = n_group(c), rows = n_scale_row(c);
    const int64_t n = (int64_t)rows * groups;
    s->scale = malloc((size_t)n * sizeof *s->scale);
    float *raw = malloc((size_t)n * sizeof *raw);
    enum err e = s->scale && raw ? read_floats(c->src, &s->f[ROLE_SCALE].t, n, raw, note) : no_memory(note);
    if (e == OK && !are_scales(raw, n))
        e = tensor_bad(c, s->f[ROLE_SCALE].tail, "has a scale that is below 0 or not finite", note);
    const bool across = is_awq_or_gptq(c);
    for (int i = 0; e == OK && i < rows; i++)
        for (int g = 0; g < groups; g++)
            s->scale[(int64_t)i * groups + g] = raw[across ? (int64_t)g * rows + i : (int64_t)i * groups + g];
    free(raw);
    return e;
}

static const int awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

/* As stored: of row i, column g. */
static int zero_at(const struct scaled_conf *c, const uint32_t *word, int i, int g)
{
    if (c->scheme->form == STORED_PACKED)
        return (int)(word[(int64_t)(i / 8) * n_group(c) + g] >> i % 8 * 4 & 15);
    const uint32_t w = word[(int64_t)g * (c->n / 8) + i / 8];
    if (c->scheme->form == STORED_GPTQ) return (int)(w >> i % 8 * 4 & 15) + c->scheme->zero_less1;
    int slot = 0;
    while (awq_order[slot] != i % 8) slot++;
    return (int)(w >> slot * 4 & 15);
}

static enum err read_zeros(struct scaled *s, struct err_note *note)
{
    const struct scaled_conf *c = &s->c;
    const char *tail = s->f[ROLE_ZERO].tail;
    const int groups = n_group(c);
    void *word;
    if (!s->f[ROLE_ZERO].tail) return OK;
    TRY(read_all(c->src, &s->f[ROLE_ZERO].t, &word, note));
    s->zero = malloc((size_t)c->n * (size_t)groups);
    enum err e = s->zero ? OK : no_memory(note);
    for (int i = 0; e == OK && i < c->n; i++)
        for (int g = 0; g < groups && e == OK; g++) {
            const int z = zero_at(c, word, i, g);
            if (z > 15) e = tensor_bad(c, tail, "has a zero point beyond 4 bits", note);
            if (!c->scheme->zeros && z != ZERO_MID)
                e = tensor_bad(c, tail, "has a zero point that is not 8, which a symmetric matrix has", note);
            s->zero[(int64_t)i * groups + g] = (uint8_t)z;
        }
    free(word);
    return e;
}

/* Each group has as many columns as another: columns stand in any order, but none is lost. */
static bool is_order(const int32_t *group, int k, int groups, int *count)
{
    for (int i = 0; i < k; i++) {
        if (group[i] < 0 || group[i] >= groups || ++count[group[i]] > k / groups) return false;
    }
    return true;
}

/* NULL: columns stand as their groups do. */
static enum err read_order(const struct scaled_conf *c, const struct found *f, int32_t **out,
                           struct err_note *note)
{
    const int groups = n_group(c);
    void *raw;
    *out = NULL;
    if (!f->tail) return OK;
    TRY(read_all(c->src, &f->t, &raw, note));
    int32_t *group = raw;
    int *count = calloc((size_t)groups, sizeof *count);
    const bool ok = count && is_order(group, c->k, groups, count);
    bool rises = true;
    for (int i = 0; i < c->k; i++) rises = rises && group[i] == i / per_scale_cols(c);
    enum err e = OK;
    if (!count)
        e = no_memory(note);
    else if (!ok)
        e = tensor_bad(c, f->tail, "is no order of the groups: each must have as many columns", note);
    else if (!rises && !c->scheme->ordered)
        e = tensor_bad(c, f->tail, "has an order, but the configuration says there is none", note);
    free(count);
    if (e == OK && !rises)
        *out = group;
    else
        free(group);
    return e;
}

enum err scaled_order(const struct scaled_conf *c, int32_t **group, struct err_note *note)
{
    struct found f;
    *group = NULL;
    TRY(find(c, ROLE_GROUP, &f, note));
    return read_order(c, &f, group, note);
}

static enum err check_shape(const struct scaled *s, struct err_note *note)
{
    const struct source_tensor *t = &s->f[ROLE_SHAPE].t;
    void *raw;
    if (!s->f[ROLE_SHAPE].tail) return OK;
    TRY(read_all(s->c.src, t, &raw, note));
    int64_t v[2];
    int32_t v4[2];
    if (t->n_bytes == sizeof v4) {
        memcpy(v4, raw, sizeof v4);
        v[0] = v4[0];
        v[1] = v4[1];
    } else
        memcpy(v, raw, sizeof v);
    free(raw);
    if (v[0] == s->c.n && v[1] == s->c.k) return OK;
    return tensor_bad(&s->c, ".weight_shape", "does not say the shape that the model needs", note);
}

static enum err read_one(struct source *src, const struct source_tensor *t, const char *module,
                         const char *tail, float *v, struct err_note *note)
{
    const struct scaled_conf c = {.src = src, .module = module};
    TRY(read_floats(src, t, 1, v, note));
    return isfinite(*v) && *v > 0 ? OK
                                  : tensor_bad(&c, tail, "is no scale: it must be finite and above 0", note);
}

enum err scaled_open(struct scaled **out, const struct scaled_conf *c, struct err_note *note)
{
    struct scaled *s = calloc(1, sizeof *s);
    if (!s) return no_memory(note);
    s->c = *c;
    enum err e = find_all(c, s->f, note);
    if (e == OK) e = read_scales(s, note);
    if (e == OK) e = read_zeros(s, note);
    if (e == OK) e = read_order(c, &s->f[ROLE_GROUP], &s->group, note);
    if (e == OK) e = check_shape(s, note);
    if (e == OK && s->f[ROLE_INPUT].tail)
        e = read_one(c->src, &s->f[ROLE_INPUT].t, c->module, s->f[ROLE_INPUT].tail, &s->input, note);
    void *words = NULL;
    if (e == OK && is_awq_or_gptq(c)) e = read_all(c->src, &s->f[ROLE_CODE].t, &words, note);
    s->words = words;
    if (e != OK) {
        scaled_close(s);
        return e;
    }
    s->w = (struct weight){.dt = scaled_type(c->scheme),
                           .n = c->n,
                           .k = c->k,
                           .s = {.rows = per_scale_rows(c),
                                 .cols = per_scale_cols(c),
                                 .scale = s->scale,
                                 .zero = s->zero,
                                 .group = s->group}};
    *out = s;
    return OK;
}

void scaled_close(struct scaled *s)
{
    if (!s) return;
    free(s->scale);
    free(s->zero);
    free(s->group);
    free(s->words);
    free(s);
}

float scaled_input(const struct scaled *s) { return s->c.scheme->input ? s->input : 0; }

int scaled_step(const struct scaled *s) { return s->c.scheme->rows ? s->c.scheme->rows : 1; }

/* Row i of words that go across rows, two columns a byte. */
static void gather_row(const struct scaled *s, int i, uint8_t *to)
{
    const struct scaled_conf *c = &s->c;
    if (c->scheme->form == STORED_GPTQ) {
        for (int j = 0; j < c->k / 8; j++) memcpy(to + 4 * j, &s->words[(int64_t)j * c->n + i], 4);
        return;
    }
    int slot = 0;
    while (awq_order[slot] != i % 8) slot++;
    const uint32_t *word = s->words + i / 8;
    const int64_t stride = c->n / 8;
    for (int j = 0; j < c->k; j += 2)
        to[j / 2] =
            (uint8_t)((word[j * stride] >> 4 * slot & 15) | (word[(j + 1) * stride] >> 4 * slot & 15) << 4);
}

enum err scaled_rows(const struct scaled *s, int row, int n, void *codes, struct weight *out,
                     struct err_note *note)
{
    const int64_t row_bytes = quant_bytes(s->w.dt, s->c.k);
    if (s->words)
        for (int i = 0; i < n; i++) gather_row(s, row + i, (uint8_t *)codes + i * row_bytes);
    else
        TRY(source_read(s->c.src, &s->f[ROLE_CODE].t, row * row_bytes, n * row_bytes, codes, note));
    const int64_t at = (int64_t)(row / s->w.s.rows) * n_group(&s->c);
    *out = s->w;
    out->n = n;
    out->data = codes;
    out->s.scale += at;
    if (out->s.zero) out->s.zero += at;
    return OK;
}

/* Names that writers have given the scales of keys and of values. */
static const char *const kv_names[2][3] = {
    {".k_scale", ".k_proj.k_scale", ".k_proj.output_scale"},
    {".v_scale", ".v_proj.v_scale", ".v_proj.output_scale"},
};

enum err scaled_check_kv(struct source *src, const struct stored_spec *s, int layer, bool read,
                         struct err_note *note)
{
    char module[NAME_BYTES], name[NAME_BYTES];
    struct source_tensor t;
    const struct scaled_conf c = {.src = src, .module = module};
    if (!s->n_scheme) return OK;
    snprintf(module, sizeof module, "model.layers.%d.self_attn", layer);
    for (int kv = 0; kv < 2; kv++) {
        bool found = false;
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%s%s", module, kv_names[kv][i]);
            if (!source_find(src, name, &t)) continue;
            found = true;
            if (!has_shape(&t, 1, 1) || !has_type(&t, (const char *const[2]){NULL, NULL}))
                return tensor_bad(&c, kv_names[kv][i], "is not one number of F32, F16 or BF16", note);
            float v;
            if (read) TRY(read_one(src, &t, module, kv_names[kv][i], &v, note));
        }
        if (!found && s->kv_scales)
            return tensor_bad(&c, kv_names[kv][0], "is missing, but kv_cache_scheme asks for it", note);
    }
    return OK;
}
