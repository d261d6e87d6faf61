/* spec_quant: config.json's quantization_config to struct stored_spec: which matrix is stored in which form.
 * Each writer has its own keys; those that change no weight are in a list, all others are refused by name. */
#include <stdio.h>
#include <string.h>

#include "engine/names.h"
#include "engine/spec_read.h"

enum { MODULE_BYTES = 96, BITS_INT = 4, BITS_FLOAT = 8, BLOCK = 128, CONFIG_GROUP_MOST = STORED_MOST };

static const char top_key[] = "quantization_config";

/* --- keys */

static bool is_one_of(struct jval key, const char *const *names)
{
    for (; *names; names++)
        if (jval_is(key, *names)) return true;
    return false;
}

/* Of an object, what neither list has and is not null. */
static enum err refuse_others(const struct reader *r, const char *const *known, const char *const *idle)
{
    char name[64];
    for (struct jiter it = jval_iter(r->at); jiter_next(&it);) {
        if (jval_kind(it.value) == JKIND_NULL || is_one_of(it.key, known) || is_one_of(it.key, idle))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(it.key.n < 50 ? it.key.n - 2 : 48),
                 it.key.p + 1); /* between its quotes */
        return key_bad(r, name, "is not known in a quantization_config");
    }
    return OK;
}

/* Empty lists and objects say nothing. */
static bool says_something(struct jval v)
{
    bool on;
    if (jval_kind(v) == JKIND_NONE) return false;
    if (jval_bool(v, &on)) return on;
    struct jiter it = jval_iter(v);
    return (jval_kind(v) != JKIND_ARRAY && jval_kind(v) != JKIND_OBJECT) || jiter_next(&it);
}

static enum err refuse_said(const struct reader *r, const char *const *keys)
{
    for (; *keys; keys++)
        if (says_something(get(r, *keys))) return key_bad(r, *keys, "is not supported");
    return OK;
}

static enum err read_exactly(const struct reader *r, const char *key, int64_t want, const char *what)
{
    int64_t v;
    return jval_int(get(r, key), &v) && v == want ? OK : key_bad(r, key, what);
}

/* 32, 64, 128, or -1: all columns. *cols 0: all. */
static enum err read_group(const struct reader *r, const char *key, int *cols)
{
    int64_t v;
    if (!jval_int(get(r, key), &v) || (v != -1 && v != 32 && v != 64 && v != 128))
        return key_bad(r, key, "must be 32, 64, 128 or -1");
    *cols = v < 0 ? 0 : (int)v;
    return OK;
}

/* --- which matrices */

static void module_name(char *out, int layer, int part)
{
    const int n = snprintf(out, MODULE_BYTES, layer_prefix[NAMING_HF], layer);
    snprintf(out + n, (size_t)(MODULE_BYTES - n), "%s", matrix_parts[part].name[NAMING_HF]);
}

/* One scheme for all matrices of the layers but those of a list. */
static enum err fill_parts(const struct reader *r, struct spec *s, const char *key, enum names_rule rule)
{
    struct names *but;
    char module[MODULE_BYTES];
    TRY(names_new(&but, get(r, key), rule, key, r->path, r->note));
    enum err e = OK;
    for (int l = 0; l < s->n_layer; l++)
        for (int i = 0; i < n_matrix_part && e == OK; i++) {
            enum names_fit fit = NAMES_NOT;
            module_name(module, l, i);
            e = names_find(but, module, &fit, NULL, r->note);
            s->stored.part[l][i] = fit == NAMES_NOT;
        }
    names_free(but);
    return e;
}

static void add_scheme(struct spec *s, struct stored_scheme scheme)
{
    s->stored.scheme[s->stored.n_scheme++] = scheme;
}

/* --- GPTQ */

static enum err read_gptq(const struct reader *r, struct spec *s)
{
    static const char *const known[] = {"quant_method",      "bits",   "group_size",
                                        "desc_act",          "sym",    "lm_head",
                                        "checkpoint_format", "format", NULL};
    static const char *const idle[] = {"damp_percent",
                                       "damp_auto_increment",
                                       "static_groups",
                                       "true_sequential",
                                       "model_name_or_path",
                                       "model_file_base_name",
                                       "meta",
                                       "pack_dtype",
                                       "batch_size",
                                       "block_name_to_quantize",
                                       "cache_block_outputs",
                                       "dataset",
                                       "exllama_config",
                                       "max_input_length",
                                       "model_seqlen",
                                       "module_name_preceding_first_block",
                                       "pad_token_id",
                                       "tokenizer",
                                       "use_cuda_fp16",
                                       "use_exllama",
                                       "disable_exllama",
                                       "version",
                                       "backend",
                                       "mse",
                                       "quantizer",
                                       "is_marlin_format",
                                       "dynamic",
                                       "modules_in_block_to_quantize",
                                       "offload_to_disk",
                                       "offload_to_disk_path",
                                       NULL};
    static const char *const unsaid[] = {"is_marlin_format", "dynamic", "modules_in_block_to_quantize", NULL};
    struct stored_scheme q = {.form = STORED_GPTQ, .rows = 1, .zero_less1 = true};
    bool sym, head;
    TRY(refuse_others(r, known, idle));
    TRY(refuse_said(r, unsaid));
    TRY(read_exactly(r, "bits", BITS_INT, "only 4 bits are supported"));
    TRY(read_group(r, "group_size", &q.cols));
    TRY(read_bool_or(r, "desc_act", false, &q.ordered));
    TRY(read_bool_or(r, "sym", true, &sym));
    TRY(read_bool_or(r, "lm_head", false, &head));
    q.zeros = !sym;
    const char *key = has(r, "checkpoint_format") ? "checkpoint_format" : "format";
    if (jval_is(get(r, key), "gptq_v2"))
        q.zero_less1 = false;
    else if (has(r, key) && !jval_is(get(r, key), "gptq"))
        return key_bad(r, key, "must be gptq or gptq_v2");
    add_scheme(s, q);
    s->stored.head = head;
    return fill_parts(r, s, "modules_to_not_convert", NAMES_MODULES);
}

/* --- AWQ */

static enum err read_awq(const struct reader *r, struct spec *s)
{
    static const char *const known[] = {"quant_method",           "bits",       "w_bit",   "group_size",
                                        "q_group_size",           "zero_point", "version", "format",
                                        "modules_to_not_convert", NULL};
    static const char *const idle[] = {"backend",          "do_fuse",         "exllama_config",
                                       "fuse_max_seq_len", "modules_to_fuse", NULL};
    struct stored_scheme q = {.form = STORED_AWQ, .rows = 1};
    TRY(refuse_others(r, known, idle));
    TRY(read_exactly(r, has(r, "w_bit") ? "w_bit" : "bits", BITS_INT, "only 4 bits are supported"));
    TRY(read_group(r, has(r, "q_group_size") ? "q_group_size" : "group_size", &q.cols));
    TRY(read_bool_or(r, "zero_point", true, &q.zeros));
    if (!q.zeros) return key_bad(r, "zero_point", "AWQ without zero points is not supported");
    const char *key = has(r, "version") ? "version" : "format";
    if (has(r, key) && !jval_is(get(r, key), "gemm") && !jval_is(get(r, key), "GEMM"))
        return key_bad(r, key, "only gemm is supported");
    add_scheme(s, q);
    return fill_parts(r, s, "modules_to_not_convert", NAMES_PART);
}

/* --- fp8 and fbgemm_fp8 */

static enum err read_block_size(const struct reader *r, struct stored_scheme *q)
{
    int64_t v;
    int n = 0;
    if (!has(r, "weight_block_size")) return OK;
    for (struct jiter it = jval_iter(get(r, "weight_block_size")); jiter_next(&it); n++)
        if (!jval_int(it.value, &v) || v != BLOCK || n == 2) n = 2;
    if (n != 2 || jval_kind(get(r, "weight_block_size")) != JKIND_ARRAY)
        return key_bad(r, "weight_block_size", "only [128, 128] is supported");
    q->rows = q->cols = BLOCK;
    return OK;
}

static enum err read_fp8(const struct reader *r, struct spec *s)
{
    static const char *const known[] = {
        "quant_method",           "activation_scheme", "weight_block_size",  "fmt", "scale_fmt",
        "modules_to_not_convert", "ignored_layers",    "modules_to_convert", NULL};
    static const char *const idle[] = {"dequantize", "expert_dtype", NULL};
    static const char *const unsaid[] = {"modules_to_convert", NULL};
    struct stored_scheme q = {.form = STORED_FLOAT};
    TRY(refuse_others(r, known, idle));
    TRY(refuse_said(r, unsaid));
    if (has(r, "fmt") && !jval_is(get(r, "fmt"), "e4m3")) return key_bad(r, "fmt", "only e4m3 is supported");
    if (has(r, "scale_fmt") && !jval_is(get(r, "scale_fmt"), "float") &&
        !jval_is(get(r, "scale_fmt"), "ue8m0"))
        return key_bad(r, "scale_fmt", "must be float or ue8m0");
    TRY(read_block_size(r, &q));
    q.input = jval_is(get(r, "activation_scheme"), "static");
    if (!q.input && has(r, "activation_scheme") && !jval_is(get(r, "activation_scheme"), "dynamic"))
        return key_bad(r, "activation_scheme", "must be dynamic or static");
    if (has(r, "modules_to_not_convert") && has(r, "ignored_layers"))
        return key_bad(r, "ignored_layers", "stands beside modules_to_not_convert");
    add_scheme(s, q);
    return fill_parts(r, s, has(r, "ignored_layers") ? "ignored_layers" : "modules_to_not_convert",
                      NAMES_MODULES);
}

static enum err read_fbgemm(const struct reader *r, struct spec *s)
{
    static const char *const known[] = {"quant_method", "modules_to_not_convert", NULL};
    static const char *const idle[] = {"activation_scale_ub", NULL};
    TRY(refuse_others(r, known, idle));
    add_scheme(s, (struct stored_scheme){.form = STORED_FLOAT, .rows = 1});
    return fill_parts(r, s, "modules_to_not_convert", NAMES_MODULES);
}

/* --- compressed-tensors */

static const char *const args_idle[] = {"observer", "observer_kwargs", "scale_dtype", "zp_dtype", NULL};
static const char *const args_known[] = {"num_bits",        "type",    "symmetric", "strategy", "group_size",
                                         "block_structure", "dynamic", "actorder",  NULL};

static enum err enter(const struct reader *r, const char *key, struct reader *in)
{
    *in = *r;
    in->at = get(r, key);
    return jval_kind(in->at) == JKIND_OBJECT ? OK : key_bad(r, key, "is no object");
}

static enum err read_blocks(const struct reader *r, struct stored_scheme *q)
{
    const struct jval v = get(r, "block_structure");
    struct jiter it = jval_iter(v);
    int64_t n[2];
    if (!jval_is(v, "128x128") &&
        !(jval_kind(v) == JKIND_ARRAY && jiter_next(&it) && jval_int(it.value, &n[0]) && n[0] == BLOCK &&
          jiter_next(&it) && jval_int(it.value, &n[1]) && n[1] == BLOCK && !jiter_next(&it)))
        return key_bad(r, "block_structure", "only [128, 128] is supported");
    q->rows = q->cols = BLOCK;
    return OK;
}

static enum err read_strategy(const struct reader *r, struct stored_scheme *q)
{
    const struct jval v = get(r, "strategy");
    const bool codes4 = q->form == STORED_PACKED;
    if (codes4 && (jval_is(v, "group") || (!has(r, "strategy") && has(r, "group_size")))) {
        q->rows = 1;
        TRY(read_group(r, "group_size", &q->cols));
        return q->cols ? OK : key_bad(r, "group_size", "must be 32, 64 or 128 for groups");
    }
    if (jval_is(v, "channel")) {
        q->rows = 1;
        return OK;
    }
    if (!codes4 && jval_is(v, "block")) return read_blocks(r, q);
    if (jval_is(v, "tensor") && !q->zeros) return OK;
    return key_bad(r, "strategy", "this strategy is not supported for weights of this type");
}

static enum err read_weight_args(const struct reader *r, struct stored_scheme *q)
{
    bool symmetric, dynamic;
    int64_t bits;
    TRY(refuse_others(r, args_known, args_idle));
    const bool real = jval_is(get(r, "type"), "float");
    if (!real && !jval_is(get(r, "type"), "int")) return key_bad(r, "type", "must be float or int");
    if (!jval_int(get(r, "num_bits"), &bits) || bits != (real ? BITS_FLOAT : BITS_INT))
        return key_bad(r, "num_bits", "only 8 bits of type float and 4 of type int are supported");
    TRY(read_bool_or(r, "dynamic", false, &dynamic));
    if (dynamic) return key_bad(r, "dynamic", "weights cannot be dynamic");
    TRY(read_bool_or(r, "symmetric", true, &symmetric));
    if (real && !symmetric) return key_bad(r, "symmetric", "type float has no zero points");
    q->form = real ? STORED_FLOAT : STORED_PACKED;
    q->zeros = !symmetric;
    TRY(read_strategy(r, q));
    const struct jval order = get(r, "actorder");
    q->ordered = jval_is(order, "group") || jval_is(order, "dynamic");
    if (!q->ordered && says_something(order) && !jval_is(order, "weight") && !jval_is(order, "static"))
        return key_bad(r, "actorder", "must be group, weight or null");
    if (q->ordered && (real || !q->cols)) return key_bad(r, "actorder", "an order needs groups");
    return OK;
}

/* Rounded inputs are the business of products in 8 bits; here they must be such, and have their scale. */
static enum err read_input_args(const struct reader *r, struct stored_scheme *q)
{
    bool symmetric, dynamic;
    struct reader in;
    q->alone = !has(r, "input_activations");
    if (q->alone) return OK;
    TRY(enter(r, "input_activations", &in));
    if (q->form != STORED_FLOAT)
        return key_bad(r, "input_activations", "is not supported beside weights of 4 bits");
    TRY(refuse_others(&in, args_known, args_idle));
    TRY(read_exactly(&in, "num_bits", BITS_FLOAT, "only 8 bits are supported"));
    if (!jval_is(get(&in, "type"), "float")) return key_bad(&in, "type", "only float is supported");
    TRY(read_bool_or(&in, "symmetric", true, &symmetric));
    if (!symmetric) return key_bad(&in, "symmetric", "type float has no zero points");
    TRY(read_bool_or(&in, "dynamic", false, &dynamic));
    const struct jval v = get(&in, "strategy");
    if (!jval_is(v, "tensor") && !(dynamic && (jval_is(v, "token") || jval_is(v, "group"))))
        return key_bad(&in, "strategy", "must be tensor, or token or group where dynamic");
    if (jval_is(v, "group")) TRY(read_exactly(&in, "group_size", BLOCK, "only 128 is supported"));
    q->input = !dynamic;
    return OK;
}

static enum err read_kv_scheme(const struct reader *r, struct spec *s)
{
    bool symmetric, dynamic;
    struct reader in;
    if (!has(r, "kv_cache_scheme")) return OK;
    TRY(enter(r, "kv_cache_scheme", &in));
    TRY(refuse_others(&in, args_known, args_idle));
    TRY(read_exactly(&in, "num_bits", BITS_FLOAT, "keys and values: only 8 bits are supported"));
    if (!jval_is(get(&in, "type"), "float"))
        return key_bad(&in, "type", "keys and values: only float is supported");
    if (!jval_is(get(&in, "strategy"), "tensor"))
        return key_bad(&in, "strategy", "keys and values: only tensor is supported");
    TRY(read_bool_or(&in, "symmetric", true, &symmetric));
    if (!symmetric) return key_bad(&in, "symmetric", "keys and values: type float has no zero points");
    TRY(read_bool_or(&in, "dynamic", false, &dynamic));
    s->stored.kv_codes = true;
    s->stored.kv_scales = !dynamic;
    return OK;
}

/* A format, of the whole or of a group, must be the one that its weights' type has. */
static enum err check_format(const struct reader *r, const struct stored_scheme *q)
{
    const struct jval v = get(r, "format");
    if (jval_kind(v) == JKIND_NONE || jval_is(v, "mixed-precision")) return OK;
    const bool fits = q->form == STORED_PACKED
                          ? jval_is(v, "pack-quantized")
                          : jval_is(v, "float-quantized") || jval_is(v, "naive-quantized");
    return fits ? OK : key_bad(r, "format", "is not the format of weights of this type that can be read");
}

static enum err read_config_group(const struct reader *top, const struct reader *r, struct spec *s,
                                  struct names **targets)
{
    static const char *const known[] = {"targets", "weights", "input_activations", "output_activations",
                                        "format",  NULL};
    static const char *const idle[] = {NULL}, *const unsaid[] = {"output_activations", NULL};
    struct stored_scheme q = {0};
    struct reader in;
    TRY(refuse_others(r, known, idle));
    TRY(refuse_said(r, unsaid));
    TRY(enter(r, "weights", &in));
    TRY(read_weight_args(&in, &q));
    TRY(read_input_args(r, &q));
    TRY(check_format(r, &q));
    if (!has(r, "format")) TRY(check_format(top, &q));
    if (jval_kind(get(r, "targets")) != JKIND_ARRAY) return key_bad(r, "targets", "is missing or no list");
    TRY(names_new(targets, get(r, "targets"), NAMES_TARGETS, "targets", r->path, r->note));
    if (names_other_class(*targets)) return key_bad(r, "targets", "names a class that is not Linear");
    add_scheme(s, q);
    return OK;
}

/* The closest target of all groups decides; of equal ones the last. */
static enum err choose(const struct reader *r, struct names *const *target, int n, const struct names *ignore,
                       const char *module, uint8_t *out)
{
    enum names_fit fit, best = NAMES_NOT;
    const char *text, *best_text = NULL;
    TRY(names_find(ignore, module, &fit, NULL, r->note));
    *out = 0;
    for (int g = 0; g < n && fit == NAMES_NOT; g++) {
        enum names_fit at;
        TRY(names_find(target[g], module, &at, &text, r->note));
        if (at == NAMES_NOT || at > best || (at == best && best_text && strcmp(text, best_text) > 0))
            continue;
        best = at;
        best_text = text;
        *out = (uint8_t)(g + 1);
    }
    return OK;
}

static enum err fill_chosen(const struct reader *r, struct spec *s, struct names *const *target, int n)
{
    struct names *ignore;
    char module[MODULE_BYTES];
    TRY(names_new(&ignore, get(r, "ignore"), NAMES_TARGETS, "ignore", r->path, r->note));
    enum err e = OK;
    for (int l = 0; l < s->n_layer; l++)
        for (int i = 0; i < n_matrix_part && e == OK; i++) {
            module_name(module, l, i);
            e = choose(r, target, n, ignore, module, &s->stored.part[l][i]);
        }
    if (e == OK && s->tied != 1) e = choose(r, target, n, ignore, "lm_head", &s->stored.head);
    names_free(ignore);
    return e;
}

static enum err read_compressed(const struct reader *r, struct spec *s)
{
    static const char *const known[] = {"quant_method",
                                        "config_groups",
                                        "format",
                                        "ignore",
                                        "kv_cache_scheme",
                                        "quantization_status",
                                        "sparsity_config",
                                        "transform_config",
                                        "moe_sparsity_config",
                                        NULL};
    static const char *const idle[] = {"global_compression_ratio", "version", NULL};
    static const char *const unsaid[] = {"transform_config", "moe_sparsity_config", NULL};
    static const char *const formats[] = {"float-quantized", "naive-quantized", "pack-quantized",
                                          "mixed-precision", NULL};
    struct names *target[CONFIG_GROUP_MOST] = {0};
    struct reader groups, in;
    int n = 0;
    TRY(refuse_others(r, known, idle));
    TRY(refuse_said(r, unsaid));
    if (says_something(get(r, "sparsity_config")) &&
        !jval_is(jval_get(get(r, "sparsity_config"), "format"), "dense"))
        return key_bad(r, "sparsity_config", "only the format dense is supported");
    if (has(r, "quantization_status") && !jval_is(get(r, "quantization_status"), "compressed"))
        return key_bad(r, "quantization_status", "must be compressed");
    if (has(r, "format") && !is_one_of(get(r, "format"), formats))
        return key_bad(r, "format",
                       "must be float-quantized, naive-quantized, pack-quantized or mixed-precision");
    TRY(enter(r, "config_groups", &groups));
    TRY(read_kv_scheme(r, s));
    enum err e = OK;
    for (struct jiter it = jval_iter(groups.at); e == OK && jiter_next(&it);) {
        in = groups;
        in.at = it.value;
        if (n == CONFIG_GROUP_MOST)
            e = key_bad(r, "config_groups", "has too many groups");
        else if (jval_kind(in.at) != JKIND_OBJECT)
            e = key_bad(r, "config_groups", "has a group that is no object");
        else
            e = read_config_group(r, &in, s, &target[n++]);
    }
    if (e == OK && n == 0) e = key_bad(r, "config_groups", "has no group");
    if (e == OK) e = fill_chosen(r, s, target, n);
    while (n) names_free(target[--n]);
    return e;
}

enum err spec_load_stored(const struct reader *r, struct spec *s)
{
    static const struct {
        const char *method;
        enum err (*read)(const struct reader *, struct spec *);
    } methods[] = {{"compressed-tensors", read_compressed},
                   {"fp8", read_fp8},
                   {"fbgemm_fp8", read_fbgemm},
                   {"awq", read_awq},
                   {"gptq", read_gptq}};
    const char *key = has(r, top_key) ? top_key : "compression_config";
    struct reader in;
    if (!has(r, key)) return OK;
    TRY(enter(r, key, &in));
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (jval_is(get(&in, "quant_method"), methods[i].method)) return methods[i].read(&in, s);
    return key_bad(&in, "quant_method", "must be compressed-tensors, fp8, fbgemm_fp8, awq or gptq");
}
