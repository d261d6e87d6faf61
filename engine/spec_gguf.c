/* spec_gguf: GGUF metadata to struct spec, through one table of integer keys. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/files/gguf.h"
#include "engine/spec.h"

enum { LEN_MOST = 1 << 24, HEAD_MOST = 512, EPS_MOST_INV = 10 };

struct reader {
    const struct gguf *g;
    const char *path;
    char arch[32];
    char key[96]; /* the key last asked for, for messages */
    struct err_note *note;
};

static enum err key_bad(struct reader *r, const char *what)
{
    return err_set(r->note, ERR_MODEL_FILE, r->path, "%s: key %s: %s", r->path, r->key, what);
}

static const char *arch_key(struct reader *r, const char *tail)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, tail);
    return r->key;
}

/* Sizes that every file has, with their bounds. */
static const struct {
    const char *tail;
    size_t at;
    int64_t most;
} int_keys[] = {
    {"block_count", offsetof(struct spec, n_layer), SPEC_LAYER_MOST},
    {"embedding_length", offsetof(struct spec, d), 1 << 17},
    {"attention.head_count", offsetof(struct spec, n_head), 1 << 12},
    {"feed_forward_length", offsetof(struct spec, f), 1 << 20},
    {"context_length", offsetof(struct spec, max_len), LEN_MOST},
};

static enum err read_int(struct reader *r, const char *tail, int64_t most, int *out)
{
    int64_t v;
    if (!gguf_get_int(r->g, arch_key(r, tail), &v)) return key_bad(r, "is missing or no integer");
    if (v < 1 || v > most) return key_bad(r, "is out of range");
    *out = (int)v;
    return OK;
}

static enum err read_int_or(struct reader *r, const char *tail, int64_t most, int absent, int *out)
{
    *out = absent;
    return gguf_has(r->g, arch_key(r, tail)) ? read_int(r, tail, most, out) : OK;
}

static enum err read_sizes(struct reader *r, struct spec *s)
{
    enum err e;
    for (size_t i = 0; i < sizeof int_keys / sizeof *int_keys; i++)
        if ((e = read_int(r, int_keys[i].tail, int_keys[i].most, (int *)((char *)s + int_keys[i].at))) != OK)
            return e;
    if ((e = read_int_or(r, "attention.head_count_kv", s->n_head, s->n_head, &s->n_kv)) != OK) return e;
    if (s->n_head % s->n_kv) return key_bad(r, "does not divide the number of heads");

    int value_len, rope_dim;
    if ((e = read_int_or(r, "attention.key_length", HEAD_MOST, s->d / s->n_head, &s->head)) != OK) return e;
    if (s->head < 8 || s->head % 8) return key_bad(r, "the head size must be a multiple of 8");
    if ((e = read_int_or(r, "attention.value_length", HEAD_MOST, s->head, &value_len)) != OK) return e;
    if (value_len != s->head)
        return key_bad(r, "heads of different sizes for keys and values are not supported");
    if ((e = read_int_or(r, "rope.dimension_count", HEAD_MOST, s->head, &rope_dim)) != OK) return e;
    if (rope_dim != s->head) return key_bad(r, "RoPE over a part of the head is not supported");
    arch_key(r, "embedding_length");
    return s->d % 8 || s->f % 8 ? key_bad(r, "model and feed-forward width must be multiples of 8") : OK;
}

static enum err read_float(struct reader *r, const char *tail, double absent, double *out)
{
    *out = absent;
    if (gguf_has(r->g, arch_key(r, tail)) && !gguf_get_float(r->g, r->key, out))
        return key_bad(r, "is no number");
    return isfinite(*out) ? OK : key_bad(r, "is not finite");
}

/* The format's first reader takes a factor without a type for linear, and knows an older name of it. */
static enum err read_scaling(struct reader *r, struct spec *s)
{
    const char *factor =
        gguf_has(r->g, arch_key(r, "rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear";
    bool has_factor = gguf_has(r->g, arch_key(r, factor));
    struct gguf_str type = {"linear", 6};
    enum err e;
    s->rope = (struct rope_scaling){.factor = 1, .attention = 1};
    bool has_type = gguf_has(r->g, arch_key(r, "rope.scaling.type"));
    if (has_type && !gguf_get_str(r->g, r->key, &type)) return key_bad(r, "is no string");
    if ((!has_type && !has_factor) || (type.n == 4 && memcmp(type.p, "none", 4) == 0)) return OK;
    if (type.n != 6 || memcmp(type.p, "linear", 6) != 0)
        return key_bad(r, "this rope scaling is not supported");
    if ((e = read_float(r, factor, 1, &s->rope.factor)) != OK) return e;
    if (s->rope.factor >= 1)
        s->rope.kind = ROPE_LINEAR;
    else if (s->rope.factor > 0 || s->rope.factor < 0)
        return key_bad(r, "must be 1 or more");
    else
        s->rope.factor = 1; /* 0 says nothing */
    return OK;
}

static enum err read_numbers(struct reader *r, struct spec *s)
{
    double eps;
    enum err e = read_float(r, "attention.layer_norm_rms_epsilon", 0, &eps);
    if (e != OK) return e;
    if (!(eps > 0 && eps < 1.0 / EPS_MOST_INV)) return key_bad(r, "must be above 0 and below 0.1");
    s->eps = (float)eps;
    if ((e = read_float(r, "rope.freq_base", 10000, &s->rope_base)) != OK) return e;
    if (!(s->rope_base > 1)) return key_bad(r, "must be above 1");

    return read_scaling(r, s);
}

/* Tokens that end an answer: whatever the file gives under these keys, each once. */
static enum err read_eos(struct reader *r, struct spec *s)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t v;
        snprintf(r->key, sizeof r->key, "%s", keys[i]);
        if (!gguf_has(r->g, keys[i])) continue;
        if (!gguf_get_int(r->g, keys[i], &v) || v < 0 || v >= s->n_vocab)
            return key_bad(r, "is no token of the vocabulary");
        bool known = false;
        for (int j = 0; j < s->n_eos; j++) known |= s->eos[j] == v;
        if (!known) s->eos[s->n_eos++] = (int32_t)v;
    }
    return OK;
}

/* The vocabulary's size stands in up to three places, which must agree. */
static enum err read_vocab(struct reader *r, struct spec *s, struct source *src)
{
    struct source_tensor t;
    const char *name = top_names[TOP_EMBED][NAMING_GGUF];
    if (!source_find(src, name, &t) || t.n > 1 << 24)
        return err_set(r->note, ERR_MODEL_FILE, r->path, "%s: tensor %s: is missing or has a wrong shape",
                       r->path, name);
    enum err e = read_int_or(r, "vocab_size", 1 << 24, (int)t.n, &s->n_vocab);
    if (e != OK) return e;
    if (s->n_vocab != t.n) return key_bad(r, "differs from the rows of token_embd.weight");
    snprintf(r->key, sizeof r->key, "tokenizer.ggml.tokens");
    int64_t n = gguf_n_strs(r->g, r->key);
    if (n >= 0 && n != s->n_vocab) return key_bad(r, "differs from the rows of token_embd.weight");
    return read_eos(r, s);
}

/* No key tells of biases: a group of them is there where one of its tensors is. */
static void find_parts(struct spec *s, struct source *src)
{
    const char *name;
    struct source_tensor t;
    char full[96];
    s->parts = s->family->always;
    for (int i = 0; i < n_vector_part; i++) {
        const int group = vector_parts[i].flags & s->family->option;
        name = vector_parts[i].name[NAMING_GGUF];
        for (int l = 0; l < s->n_layer && group & ~s->parts; l++) {
            int n = snprintf(full, sizeof full, layer_prefix[NAMING_GGUF], l);
            snprintf(full + n, sizeof full - (size_t)n, "%s", name);
            if (source_find(src, full, &t)) s->parts |= group;
        }
    }
}

static void read_name(struct reader *r, struct spec *s)
{
    struct gguf_str name = {r->arch, strlen(r->arch)};
    gguf_get_str(r->g, "general.name", &name);
    size_t n = name.n < sizeof s->name - 1 ? name.n : sizeof s->name - 1, j = 0;
    for (size_t i = 0; i < n; i++) /* it goes to logs and labels */
        if (name.p[i] >= ' ' && name.p[i] <= '~') s->name[j++] = name.p[i];
    s->name[j] = 0;
}

enum err spec_load(struct spec *out, struct source *src, struct err_note *note)
{
    struct reader r = {.g = source_gguf(src), .path = source_path(src), .note = note};
    struct gguf_str arch;
    enum err e;
    if (source_hf(src)) return spec_load_config(out, src, note);
    *out = (struct spec){.tied = -1, .flux = {-1, -1, -1, -1, -1, -1}};
    snprintf(r.key, sizeof r.key, "general.architecture");
    if (!gguf_get_str(r.g, r.key, &arch)) return key_bad(&r, "is missing");
    out->family = family_by_arch(NAMING_GGUF, arch.p, arch.n);
    if (!out->family) return key_bad(&r, "this architecture is not supported");
    snprintf(r.arch, sizeof r.arch, "%s", out->family->gguf_arch);
    if ((e = read_sizes(&r, out)) != OK || (e = read_numbers(&r, out)) != OK) return e;
    if ((e = read_vocab(&r, out, src)) != OK) return e;
    find_parts(out, src);
    read_name(&r, out);
    return OK;
}

int spec_dim(const struct spec *s, enum dim d)
{
    const int v[DIM_COUNT] = {
        [DIM_D] = s->d,    [DIM_Q] = s->n_head * s->head, [DIM_KV] = s->n_kv * s->head, [DIM_F] = s->f,
        [DIM_K] = s->head, [DIM_V] = s->n_vocab};
    return v[d];
}
