/* account: a file's tensors are used, of no use by their name, or refused by it, in GGUF and safetensors
 * alike; a family's biases are loaded from both. */
#include "tests/base/cm.h"

#include <sys/stat.h>

#include "engine/account.h"
#include "engine/backend.h"
#include "engine/router_load.h"
#include "engine/weights.h"
#include "kernels/quant.h"
#include "tests/engine/tiny_gguf.h"

enum { FILE_MOST = 1 << 19, TENSOR_MOST = 64 };

struct model {
    struct source *src;
    struct spec spec;
    struct routers routers;
    struct weights w;
};

static struct backend *backend;
static char root[] = "/tmp/fluxd-account-XXXXXX";
static char file[64], safe[64], conf[64];

static enum err load(struct model *m, const char *path, struct err_note *note)
{
    *m = (struct model){0};
    enum err e = source_open(&m->src, path, note);
    if (e == OK) e = spec_load(&m->spec, m->src, note);
    struct weights_load l = {.src = m->src, .spec = &m->spec, .backend = backend};
    if (e == OK) e = weights_check(&l, note);
    if (e == OK) e = routers_take(&m->routers, m->src, &m->spec, note);
    if (e == OK) e = account_check(m->src, &m->spec, note);
    if (e == OK) e = weights_load(&m->w, &l, note);
    return e;
}

static void drop(struct model *m)
{
    weights_free(&m->w, backend);
    routers_free(&m->routers);
    source_close(m->src);
}

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static size_t read_file(const char *path, char *to)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t n = fread(to, 1, FILE_MOST, f);
    fclose(f);
    return n;
}

/* Refused with the tensor's name, or loaded. */
static void expect(const char *path, const char *name, bool loads)
{
    struct model m;
    struct err_note note = {0};
    enum err e = load(&m, path, &note);
    if (loads && e != OK) fail_msg("%s: %s", name, note.text);
    if (!loads && e != ERR_MODEL_FILE) fail_msg("%s: was not refused", name);
    if (!loads && !strstr(note.text, name)) fail_msg("\"%s\" does not name %s", note.text, name);
    drop(&m);
}

static void a_gguf_tensor_that_nobody_reads_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool loads;
    } cases[] = {{"blk.0.attn_q_norm.weight", false}, {"blk.5.attn_k_norm.weight", false},
                 {"blk.0.attn_qkv.weight", false},    {"blk.6.attn_norm.weight", false},
                 {"blk.0.attn_norm.bias", false},     {"output_norm.bias", false},
                 {"blk.2.attn_q.scale", false},       {"blk.1.ffn_gate_inp.weight", false},
                 {"blk.0.attn_sinks.weight", false},  {"output.bias", false},
                 {"token_types.weight", false},       {"x", false},
                 {"blk.3.attn_rot_embd.weight", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_tensor t = {"", 0, TINY_K, TINY_F32};
        struct strbuf b;
        snprintf(t.name, sizeof t.name, "%s", cases[i].name);
        strbuf_init(&b);
        tiny_gguf_build_more(&b, &t, 1);
        write_file(file, b.data, b.len);
        strbuf_fini(&b);
        expect(file, cases[i].name, cases[i].loads);
    }
}

/* tests/goldens/tiny/<model> with one tensor more, [4] of F32. */
static void add_to_safetensors(const char *model, const char *name)
{
    static char in[FILE_MOST], out[FILE_MOST + 256];
    char path[96];
    snprintf(path, sizeof path, "tests/goldens/tiny/%s/config.json", model);
    write_file(conf, in, read_file(path, in));
    snprintf(path, sizeof path, "tests/goldens/tiny/%s/model.safetensors", model);
    const size_t n = read_file(path, in);
    uint64_t head;
    assert_true(n > 16);
    memcpy(&head, in, 8);
    const uint64_t data = n - 8 - head;
    int len =
        snprintf(out + 8, 256, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%llu,%llu]},",
                 name, (unsigned long long)data, (unsigned long long)data + 16);
    memcpy(out + 8 + len, in + 9, n - 9); /* without the first brace */
    memset(out + len + n - 1, 0, 16);
    memcpy(out, &(uint64_t){head + (uint64_t)len - 1}, 8);
    write_file(safe, out, n - 1 + (size_t)len + 16);
}

static void a_safetensors_tensor_that_nobody_reads_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *model, *name;
        bool loads;
    } cases[] = {
        {"llama", "model.layers.0.self_attn.q_proj.bias", false}, /* config.json: no biases */
        {"llama", "model.layers.0.self_attn.q_norm.weight", false},
        {"llama", "model.layers.2.input_layernorm.weight", false},
        {"llama", "model.layers.0.mlp.gate_proj.weight_scale", false},
        {"llama", "lm_head.bias", false},
        {"llama", "score.weight", false},
        {"llama", "model.layers.0.self_attn.mask_allocator.x.weight", false},
        {"llama", "model.layers.0.self_attn.rotary_emb.inv_freq", true},
        {"llama", "model.rotary_emb.inv_freq", true},
        {"llama", "lm_head.weight", true}, /* tied */
        {"paw_llama", "model.layers.0.self_attn.mask_allocator.task_embedding", true},
        {"paw_llama", "model.sparsity_lambda1", true},
        {"qwen2", "model.layers.0.self_attn.o_proj.bias", false},
        {"qwen2", "model.layers.1.mlp.up_proj.bias", false},
        {"paw_qwen3", "model.layers.1.self_attn.k_proj.bias", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        add_to_safetensors(cases[i].model, cases[i].name);
        expect(root, cases[i].name, cases[i].loads);
    }
}

/* --- the same tensors in the other format */

struct pairs {
    struct tiny_tensor t[TENSOR_MOST];
    struct strbuf data;
    int n;
};

/* A tensor of the directory as fp32, heads' rows in the order of GGUF: (i, i + K/2) side by side. */
static void carry(struct pairs *p, struct source *src, int head, const char *hf, const char *gguf)
{
    struct source_tensor t;
    if (!source_find(src, hf, &t)) return;
    static char raw[FILE_MOST];
    static float v[FILE_MOST / 4];
    const int64_t n = t.n * t.k;
    assert_int_equal(source_read(src, &t, 0, t.n_bytes, raw, NULL), OK);
    assert_true(quant_to_f32(t.dt, raw, v, n));
    const bool vector = t.n_dim == 1;
    const int64_t rows = vector ? t.k : t.n, k = vector ? 1 : t.k;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t j = i % head, from = head ? i - j + (j % 2 ? head / 2 + j / 2 : j / 2) : i;
        strbuf_put(&p->data, v + from * k, (size_t)k * 4);
    }
    tiny_pad(&p->data);
    struct tiny_tensor *to = &p->t[p->n++];
    snprintf(to->name, sizeof to->name, "%s", gguf);
    to->n = vector ? 0 : (int)t.n;
    to->k = (int)t.k;
    to->type = TINY_F32;
}

static void carry_layer(struct pairs *p, struct source *src, int head, int l)
{
    for (int i = 0; i < n_matrix_part + n_vector_part; i++) {
        const struct part_row *r = i < n_matrix_part ? &matrix_parts[i] : &vector_parts[i - n_matrix_part];
        const char *tail = i < n_matrix_part ? ".weight" : "";
        char name[NAMING_COUNT][96];
        for (int f = 0; f < NAMING_COUNT; f++) {
            int n = snprintf(name[f], sizeof *name, layer_prefix[f], l);
            snprintf(name[f] + n, sizeof *name - (size_t)n, "%s%s", r->name[f], tail);
        }
        carry(p, src, r->flags & PART_ROPE ? head : 1, name[NAMING_HF], name[NAMING_GGUF]);
    }
}

static void write_gguf(const struct pairs *p, const struct spec *s)
{
    struct strbuf b;
    strbuf_init(&b);
    strbuf_puts(&b, "GGUF");
    tiny_u32(&b, 3);
    tiny_u64(&b, (uint64_t)p->n);
    tiny_u64(&b, 9);
    tiny_key_str(&b, "general.architecture", "llama");
    tiny_key_u32(&b, "llama.block_count", (uint32_t)s->n_layer);
    tiny_key_u32(&b, "llama.context_length", (uint32_t)s->max_len);
    tiny_key_u32(&b, "llama.embedding_length", (uint32_t)s->d);
    tiny_key_u32(&b, "llama.feed_forward_length", (uint32_t)s->f);
    tiny_key_u32(&b, "llama.attention.head_count", (uint32_t)s->n_head);
    tiny_key_u32(&b, "llama.attention.head_count_kv", (uint32_t)s->n_kv);
    tiny_key_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_key_u32(&b, "llama.attention.key_length", (uint32_t)s->head);
    tiny_entries(&b, p->t, p->n);
    tiny_pad(&b);
    strbuf_put(&b, p->data.data, p->data.len);
    write_file(file, b.data, b.len);
    strbuf_fini(&b);
}

static void a_gguf_and_a_directory_of_the_same_tensors_are_the_same_weights(void **state)
{
    (void)state;
    struct model a, b;
    struct err_note note = {0};
    static struct pairs p;
    assert_int_equal(load(&a, "tests/goldens/tiny/llama_bias", &note), OK);
    strbuf_init(&p.data);
    for (int i = 0; i < TOP_COUNT; i++)
        if (top_names[i][NAMING_HF]) carry(&p, a.src, 1, top_names[i][NAMING_HF], top_names[i][NAMING_GGUF]);
    for (int l = 0; l < a.spec.n_layer; l++) carry_layer(&p, a.src, a.spec.head, l);
    write_gguf(&p, &a.spec);
    strbuf_fini(&p.data);
    if (load(&b, file, &note) != OK) fail_msg("%s", note.text);

    int n_same = 0;
    assert_int_equal(a.spec.parts, b.spec.parts);
    for (int l = 0; l < a.spec.n_layer; l++)
        for (int v = 0; v < VEC_COUNT; v++) {
            const struct layer_weights *x = &a.w.layer[l], *y = &b.w.layer[l];
            assert_int_equal(x->vec_bytes[v], y->vec_bytes[v]);
            if (!x->vec[v]) continue;
            assert_memory_equal(x->vec[v], y->vec[v], (size_t)x->vec_bytes[v]);
            n_same++;
        }
    assert_int_equal(n_same, 2 * (2 + 4)); /* two norms, four biases */
    drop(&a);
    drop(&b);
}

/* A group of biases of which a file has one part: the others are 0, in every layer. */
static void biases_that_a_gguf_lacks_are_zero(void **state)
{
    (void)state;
    const struct tiny_tensor k = {"blk.1.attn_k.bias", 0, TINY_G * TINY_K, TINY_F32};
    struct model m;
    struct err_note note = {0};
    struct strbuf b;
    strbuf_init(&b);
    tiny_gguf_build_more(&b, &k, 1);
    write_file(file, b.data, b.len);
    strbuf_fini(&b);
    if (load(&m, file, &note) != OK) fail_msg("%s", note.text);
    for (int l = 0; l < TINY_L; l++) {
        const float *v = m.w.layer[l].vec[VEC_QKV_BIAS];
        assert_non_null(v);
        for (int i = 0; i < (TINY_H + 2 * TINY_G) * TINY_K; i++) {
            const int row = i - TINY_H * TINY_K;
            const bool has = l == 1 && row >= 0 && row < TINY_G * TINY_K;
            assert_int_equal(v[i] > 0 || v[i] < 0, has);
        }
        assert_null(m.w.layer[l].vec[VEC_O_BIAS]);
    }
    drop(&m);
}

/* Within a window every key is seen; beyond it the model was not made for full attention. */
static void a_sliding_window_bounds_the_context(void **state)
{
    (void)state;
    struct model m;
    struct err_note note = {0};
    if (load(&m, "tests/goldens/tiny/mistral", &note) != OK) fail_msg("%s", note.text);
    assert_int_equal(m.spec.max_len, 4096); /* of 8192 positions */
    drop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gguf_tensor_that_nobody_reads_is_refused_by_name),
        cmocka_unit_test(a_safetensors_tensor_that_nobody_reads_is_refused_by_name),
        cmocka_unit_test(a_gguf_and_a_directory_of_the_same_tensors_are_the_same_weights),
        cmocka_unit_test(biases_that_a_gguf_lacks_are_zero),
        cmocka_unit_test(a_sliding_window_bounds_the_context),
    };
    struct backend_conf b = {
        .dtype = ENGINE_DTYPE_F32, .n_thread = 1, .max_tok = 16, .max_k = 256, .max_n = 512};
    if (!mkdtemp(root) || backend_cpu_open(&backend, &b, NULL) != OK) return 1;
    snprintf(file, sizeof file, "%s/model.gguf", root);
    snprintf(safe, sizeof safe, "%s/model.safetensors", root);
    snprintf(conf, sizeof conf, "%s/config.json", root);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend->close(backend);
    remove(file);
    remove(safe);
    remove(conf);
    rmdir(root);
    return failed;
}
