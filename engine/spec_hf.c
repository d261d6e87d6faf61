/* spec_hf: config.json to struct spec. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/files/hf.h"
#include "engine/spec.h"
#include "engine/spec_read.h"

enum { LEN_MOST = 1 << 24, HEAD_MOST = 512, TOK_MOST = 1 << 24 };

/* --- sizes */

static const struct {
    const char *key;
    size_t at;
    int64_t most;
} int_keys[] = {
    {"num_hidden_layers", offsetof(struct spec, n_layer), SPEC_LAYER_MOST},
    {"hidden_size", offsetof(struct spec, d), 1 << 17},
    {"num_attention_heads", offsetof(struct spec, n_head), 1 << 12},
    {"intermediate_size", offsetof(struct spec, f), 1 << 20},
    {"vocab_size", offsetof(struct spec, n_vocab), 1 << 24},
    {"max_position_embeddings", offsetof(struct spec, max_len), LEN_MOST},
};

static enum err read_sizes(const struct reader *r, struct spec *s)
{
    enum err e;
    for (size_t i = 0; i < sizeof int_keys / sizeof *int_keys; i++)
        if ((e = read_int(r, int_keys[i].key, int_keys[i].most, (int *)((char *)s + int_keys[i].at))) != OK)
            return e;
    if ((e = read_int_or(r, "num_key_value_heads", s->n_head, s->n_head, &s->n_kv)) != OK) return e;
    if (s->n_head % s->n_kv) return key_bad(r, "num_key_value_heads", "does not divide the number of heads");
    if ((e = read_int_or(r, "head_dim", HEAD_MOST, s->family->head ? s->family->head : s->d / s->n_head,
                         &s->head)) != OK)
        return e;
    if (s->head < 8 || s->head > HEAD_MOST || s->head % 8)
        return key_bad(r, "head_dim", "the head size must be a multiple of 8 and at most 512");
    if (s->d % 8) return key_bad(r, "hidden_size", "must be a multiple of 8");
    if (s->f % 8) return key_bad(r, "intermediate_size", "must be a multiple of 8");
    double eps;
    if ((e = read_double_or(r, "rms_norm_eps", 1e-6, &eps)) != OK) return e;
    if (!(eps > 0 && eps < 0.1)) return key_bad(r, "rms_norm_eps", "must be above 0 and below 0.1");
    s->eps = (float)eps;
    bool tied;
    if ((e = read_bool_or(r, "tie_word_embeddings", false, &tied)) != OK) return e;
    s->tied = tied;
    return OK;
}

static enum err read_parts(const struct reader *r, struct spec *s)
{
    static const struct {
        const char *key;
        int parts;
    } flags[] = {{"attention_bias", PART_QKV_BIAS | PART_O_BIAS}, {"mlp_bias", PART_MLP_BIAS}};
    s->parts = s->family->always;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool on;
        enum err e = read_bool_or(r, flags[i].key, false, &on);
        if (e != OK) return e;
        if (!on) continue;
        s->parts |= flags[i].parts & s->family->option;
        if (!(flags[i].parts & s->parts)) return key_bad(r, flags[i].key, "this family has no such biases");
    }
    return OK;
}

/* What these families can say and this engine does not do. */
static enum err refuse_unsupported(const struct reader *r, struct spec *s)
{
    enum err e;
    bool on;
    if (has(r, "hidden_act") && !jval_is(get(r, "hidden_act"), "silu"))
        return key_bad(r, "hidden_act", "only silu is supported");
    if (has(r, "layer_types") && jval_kind(get(r, "layer_types")) != JKIND_ARRAY)
        return key_bad(r, "layer_types", "is no list");
    for (struct jiter it = jval_iter(get(r, "layer_types")); jiter_next(&it);)
        if (!jval_is(it.value, "full_attention"))
            return key_bad(r, "layer_types", "only full_attention is supported");
    if (s->family->window && has(r, "sliding_window")) {
        int window = s->max_len; /* within it attention is full: longer contexts are not taken */
        if ((e = read_int(r, "sliding_window", LEN_MOST, &window)) != OK) return e;
        if (window < s->max_len) s->max_len = window;
    }
    int first = 0; /* layers from here on have a sliding window */
    if ((e = read_bool_or(r, "use_sliding_window", false, &on)) != OK) return e;
    if (on && ((e = read_int_or(r, "max_window_layers", SPEC_LAYER_MOST, 28, &first)) != OK ||
               (first < s->n_layer && has(r, "sliding_window"))))
        return e != OK ? e : key_bad(r, "use_sliding_window", "sliding windows are not supported");
    double part;
    if ((e = read_double_or(r, "partial_rotary_factor", 1, &part)) != OK) return e;
    return part < 1 || part > 1
               ? key_bad(r, "partial_rotary_factor", "RoPE over a part of the head is not supported")
               : OK;
}

/* --- RoPE */

static enum err read_stretch(const struct reader *r, double *out)
{
    enum err e = has(r, "factor") ? read_double_or(r, "factor", 1, out) : key_bad(r, "factor", "is missing");
    if (e != OK) return e;
    return *out >= 1 && *out <= 1e6 ? OK : key_bad(r, "factor", "must be 1 or more");
}

/* Numbers of turns: 0 < low < high. */
static enum err read_turns(const struct reader *r, const char *low, const char *high, struct rope_scaling *s)
{
    enum err e;
    if ((e = read_double_or(r, low, 1, &s->low)) != OK) return e;
    if ((e = read_double_or(r, high, s->kind == ROPE_YARN ? 32 : 4, &s->high)) != OK) return e;
    if (!(s->low > 0 && s->low <= 1e6)) return key_bad(r, low, "must be above 0");
    return s->high > s->low && s->high <= 1e6 ? OK : key_bad(r, high, "must be above the lower one");
}

static double mscale(double factor, double by) { return factor <= 1 ? 1 : 0.1 * by * log(factor) + 1; }

/* YaRN's temperature (2309.00071, eq. 22), or what the file says. */
static enum err read_attention(const struct reader *r, struct rope_scaling *s)
{
    double one, all;
    enum err e;
    if ((e = read_double_or(r, "mscale", 0, &one)) != OK ||
        (e = read_double_or(r, "mscale_all_dim", 0, &all)) != OK)
        return e;
    double paper =
        one > 0 && all > 0 ? mscale(s->factor, one) / mscale(s->factor, all) : mscale(s->factor, 1);
    if ((e = read_double_or(r, "attention_factor", paper, &s->attention)) != OK) return e;
    return s->attention > 0 && s->attention < 100
               ? OK
               : key_bad(r, "attention_factor", "must be above 0 and below 100");
}

static enum err read_scaling(const struct reader *r, struct rope_scaling *s, int max_len)
{
    static const char *const names[] = {
        [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn"};
    const char *key = has(r, "rope_type") ? "rope_type" : "type";
    enum err e;
    s->kind = has(r, key) ? -1 : ROPE_DEFAULT;
    for (int i = 0; i < 4; i++)
        if (jval_is(get(r, key), names[i])) s->kind = i;
    if (s->kind < 0) return key_bad(r, key, "this rope scaling is none of default, linear, llama3, yarn");
    if (s->kind == ROPE_DEFAULT) return OK;
    if ((e = read_stretch(r, &s->factor)) != OK || s->kind == ROPE_LINEAR) return e;
    if ((e = read_double_or(r, "original_max_position_embeddings", max_len, &s->original_len)) != OK)
        return e;
    if (!(s->original_len >= 1 && s->original_len <= LEN_MOST))
        return key_bad(r, "original_max_position_embeddings", "is out of range");
    if (s->kind == ROPE_LLAMA3) return read_turns(r, "low_freq_factor", "high_freq_factor", s);
    if ((e = read_turns(r, "beta_slow", "beta_fast", s)) != OK) return e;
    if ((e = read_bool_or(r, "truncate", true, &s->whole)) != OK) return e;
    return read_attention(r, s);
}

/* Both spellings: rope_parameters with everything, or rope_scaling beside rope_theta. */
static enum err read_rope(const struct reader *r, struct spec *s)
{
    const char *key = has(r, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    struct reader in = *r;
    enum err e;
    s->rope = (struct rope_scaling){.factor = 1, .attention = 1};
    if ((e = read_double_or(r, "rope_theta", 10000, &s->rope_base)) != OK) return e;
    if (has(r, key)) {
        if (jval_kind(in.at = get(r, key)) != JKIND_OBJECT) return key_bad(r, key, "is no object");
        double part;
        if ((e = read_double_or(&in, "rope_theta", s->rope_base, &s->rope_base)) != OK) return e;
        if ((e = read_double_or(&in, "partial_rotary_factor", 1, &part)) != OK) return e;
        if (part < 1 || part > 1)
            return key_bad(&in, "partial_rotary_factor", "RoPE over a part of the head is not supported");
        if ((e = read_scaling(&in, &s->rope, s->max_len)) != OK) return e;
    }
    return s->rope_base > 1 && s->rope_base < 1e15 ? OK : key_bad(r, "rope_theta", "must be above 1");
}

/* --- ends of an answer */

static enum err add_eos(const struct reader *r, struct jval v, struct spec *s)
{
    int64_t id;
    if (!jval_int(v, &id) || id < 0 || id >= s->n_vocab)
        return key_bad(r, "eos_token_id", "is no token of the vocabulary");
    for (int i = 0; i < s->n_eos; i++)
        if (s->eos[i] == id) return OK;
    if (s->n_eos == SPEC_EOS_MOST) return key_bad(r, "eos_token_id", "names too many tokens");
    s->eos[s->n_eos++] = (int32_t)id;
    return OK;
}

/* A number or a list; what both files name ends an answer. */
static enum err read_eos(const struct reader *r, struct spec *s)
{
    struct jval v = get(r, "eos_token_id");
    enum err e = OK;
    if (jval_kind(v) == JKIND_NONE) return OK;
    if (jval_kind(v) != JKIND_ARRAY) return add_eos(r, v, s);
    for (struct jiter it = jval_iter(v); e == OK && jiter_next(&it);) e = add_eos(r, it.value, s);
    return e;
}

/* --- routes (docs/attention-routes.md, checkpoints) */

/* Tokens; some files write 150.0. */
static enum err read_tokens(const struct reader *r, const char *key, int least, int absent, int *out)
{
    double v;
    enum err e = read_double_or(r, key, absent, &v);
    if (e != OK) return e;
    if (!(v >= least && v <= TOK_MOST) || floor(v) < v)
        return key_bad(r, key, "is no whole number of tokens in range");
    *out = (int)v;
    return OK;
}

static enum err read_word(const struct reader *r, const char *key, const char *const *words, const int *kinds,
                          int *out)
{
    *out = kinds[0];
    if (!has(r, key)) return OK;
    for (int i = 0; words[i]; i++) {
        if (!jval_is(get(r, key), words[i])) continue;
        *out = kinds[i];
        return OK;
    }
    return key_bad(r, key, "this kind is not supported");
}

static enum err read_flux(const struct reader *r, struct spec *s)
{
    static const char *const toggle[] = {"streaming", "triangle", "xattn", NULL}, *const mode[] = {
                                                                                      "full", "xattn", NULL};
    static const int toggle_kind[] = {ATTN_STREAMING, ATTN_TRIANGLE, ATTN_LIST},
                     mode_kind[] = {ATTN_FULL, ATTN_LIST};
    struct flux_spec *f = &s->flux;
    enum err e;
    bool softmax;
    if (!s->family->router) return OK;
    const bool off = jval_is(get(r, "toggle_type"), "none") ||
                     jval_is(get(r, "toggle_type"), "full"); /* no layer is sparse */
    if (!off && (e = read_word(r, "toggle_type", toggle, toggle_kind, &f->sparse_kind)) != OK) return e;
    if ((e = read_word(r, "retrieval_mode", mode, mode_kind, &f->retrieval_kind)) != OK) return e;
    if ((e = read_tokens(r, "sink_size", 0, 128, &f->sink_size)) != OK) return e;
    if ((e = read_tokens(r, "local_window_size", 1, 1024, &f->local_window_size)) != OK) return e;
    if ((e = read_tokens(r, "pool_size", 1, 100, &f->pool_size)) != OK) return e;
    if ((e = read_tokens(r, "triangle_n_last", 1, 128, &f->triangle_n_last)) != OK) return e;
    if (has(r, "pooling_mode") && !jval_is(get(r, "pooling_mode"), "ctx_q"))
        return key_bad(r, "pooling_mode", "only ctx_q is supported");
    if ((e = read_bool_or(r, "use_softmax", false, &softmax)) != OK) return e;
    s->router_out = off ? 0 : softmax ? 2 : 1;
    return OK;
}

/* The directory's own name: it goes to logs and labels. */
static void read_name(const char *path, struct spec *s)
{
    size_t end = strlen(path), j = 0;
    while (end > 1 && path[end - 1] == '/') end--;
    size_t at = end;
    while (at > 0 && path[at - 1] != '/') at--;
    for (size_t i = at; i < end && j < sizeof s->name - 1; i++)
        if (path[i] >= ' ' && path[i] <= '~') s->name[j++] = path[i];
    s->name[j] = 0;
}

enum err spec_load_config(struct spec *out, struct source *src, struct err_note *note)
{
    const struct hf *h = source_hf(src);
    struct reader r = {.at = hf_config(h), .path = hf_config_path(h), .note = note};
    struct reader g = {.at = hf_generation(h), .path = hf_generation_path(h), .note = note};
    enum err e;
    *out = (struct spec){.flux = {-1, -1, -1, -1, -1, -1}};

    struct jiter it = jval_iter(get(&r, "architectures"));
    if (!jiter_next(&it) || jval_kind(it.value) != JKIND_STRING)
        return key_bad(&r, "architectures", "is missing or no list of names");
    out->family = family_by_arch(NAMING_HF, it.value.p + 1,
                                 it.value.n - 2); /* between its quotes; known names have no escapes */
    if (!out->family) return key_bad(&r, "architectures", "this architecture is not supported");
    if ((e = read_sizes(&r, out)) != OK || (e = read_parts(&r, out)) != OK) return e;
    if ((e = refuse_unsupported(&r, out)) != OK || (e = spec_load_stored(&r, out)) != OK) return e;
    if ((e = read_rope(&r, out)) != OK || (e = read_flux(&r, out)) != OK) return e;
    if ((e = read_eos(&r, out)) != OK || (e = read_eos(&g, out)) != OK) return e;
    read_name(source_path(src), out);
    return OK;
}
