/* gguf types: a small model whose matrices are of any one type, or of several in one fused matrix, gives in
 * the exact mode the bits of the same model in F32, and in the fast mode nearly its logprobs. */
#include "tests/engine/drive.h"

#include <math.h>

#include "kernels/quant.h"
#include "tests/engine/tiny_gguf.h"

enum {
    L = 2,
    D = 256,
    H = 4,
    G = 2,
    K = 64,
    F = 512,
    V = 320,
    PROMPT = 140,
    N_OUT = 6,
    N_MAT = 7,
    N_TENSOR = 2 + 9 * L
};

/* The format's numbers of types, and what blocks of random bytes need for weights of about 0.1: 16-bit floats
 * at places. */
static const struct type {
    enum dtype dt;
    uint32_t number;
    struct {
        int at; /* -1: none */
        uint16_t half;
    } fix[2];
    const char *held; /* by the fast mode; "" where that depends on the processor */
} types[] = {
    {DT_F32, 0, {{-1, 0}, {-1, 0}}, "f32"},
    {DT_F16, 1, {{-1, 0}, {-1, 0}}, ""},
    {DT_BF16, 30, {{-1, 0}, {-1, 0}}, ""},
    {DT_Q8_0, 8, {{0, 0x1400}, {-1, 0}}, "q8_0"},      /* 2^-10 */
    {DT_Q4_0, 2, {{0, 0x2400}, {-1, 0}}, "q4_0"},      /* 2^-6 */
    {DT_Q4_1, 3, {{0, 0x2400}, {2, 0xb000}}, "q4_1"},  /* 2^-6, -2^-3 */
    {DT_Q5_0, 6, {{0, 0x2000}, {-1, 0}}, "q5_0"},      /* 2^-7 */
    {DT_Q5_1, 7, {{0, 0x2000}, {2, 0xb000}}, "q5_1"},  /* 2^-7, -2^-3 */
    {DT_Q4_K, 12, {{0, 0x0c00}, {2, 0x1800}}, "q4_k"}, /* 2^-12, 2^-9 */
    {DT_Q5_K, 13, {{0, 0x0800}, {2, 0x1800}}, "q5_k"}, /* 2^-13, 2^-9 */
    {DT_Q6_K, 14, {{208, 0x0400}, {-1, 0}}, ""},       /* 2^-14 */
};
enum { N_TYPE = sizeof types / sizeof *types };

static const struct mat {
    const char *name;
    int n, k;
} mats[N_MAT] = {{"attn_q", H *K, D}, {"attn_k", G *K, D}, {"attn_v", G *K, D}, {"attn_output", D, H *K},
                 {"ffn_gate", F, D},  {"ffn_up", F, D},    {"ffn_down", D, F}};

struct tensor {
    char name[48];
    int n, k;
    const struct type *type;
};

static const struct type *type_of(enum dtype dt)
{
    for (int i = 0; i < N_TYPE; i++)
        if (types[i].dt == dt) return &types[i];
    return NULL;
}

/* mat[i]: type of the matrices mats[i] in every layer. */
static int list_tensors(struct tensor *t, enum dtype table, const enum dtype *mat)
{
    const struct type *f32 = type_of(DT_F32);
    int n = 0;
    t[n++] = (struct tensor){"token_embd.weight", V, D, type_of(table)};
    t[n++] = (struct tensor){"output_norm.weight", 1, D, f32};
    for (int l = 0; l < L; l++) {
        for (int i = 0; i < 2; i++) {
            t[n] = (struct tensor){.n = 1, .k = D, .type = f32};
            snprintf(t[n++].name, sizeof t->name, "blk.%d.%s_norm.weight", l, i ? "ffn" : "attn");
        }
        for (int i = 0; i < N_MAT; i++) {
            t[n] = (struct tensor){.n = mats[i].n, .k = mats[i].k, .type = type_of(mat[i])};
            snprintf(t[n++].name, sizeof t->name, "blk.%d.%s.weight", l, mats[i].name);
        }
    }
    return n;
}

static float number_at(uint32_t seed, int64_t i)
{
    return (float)(tiny_hash(seed ^ (uint32_t)i) >> 8) * 0x1p-23f - 1;
}

/* The tensor's bytes in its own type. */
static uint8_t *make_bytes(const struct tensor *t, uint32_t seed)
{
    int64_t n = (int64_t)t->n * t->k, bytes = quant_bytes(t->type->dt, n);
    const struct quant_type *q = quant_type(t->type->dt);
    uint8_t *p = malloc((size_t)bytes);
    assert_non_null(p);
    for (int64_t i = 0; i < bytes; i++) p[i] = (uint8_t)tiny_hash(seed ^ (uint32_t)i);
    for (int64_t i = 0; i < n && q->block == 1; i++) {
        float v = t->n == 1 ? 1 + 0.1f * number_at(seed, i) : 0.15f * number_at(seed, i);
        uint16_t bf = f32_to_bf16(v), half = (uint16_t)((tiny_hash(seed ^ (uint32_t)i) & 0x83ff) |
                                                        (8 + i % 4) << 10); /* 2^-7..2^-4 */
        memcpy(p + i * q->block_bytes,
               t->type->dt == DT_F32   ? (void *)&v
               : t->type->dt == DT_F16 ? (void *)&half
                                       : (void *)&bf,
               (size_t)q->block_bytes);
    }
    for (int64_t b = 0; b < n / q->block; b++)
        for (int k = 0; k < 2 && q->block > 1; k++)
            if (t->type->fix[k].at >= 0)
                memcpy(p + b * q->block_bytes + t->type->fix[k].at, &t->type->fix[k].half, 2);
    return p;
}

static void put_keys(struct strbuf *b, uint64_t n_tensor)
{
    char piece[16];
    strbuf_puts(b, "GGUF");
    tiny_u32(b, 3);
    tiny_u64(b, n_tensor);
    tiny_u64(b, 10);
    tiny_key_str(b, "general.architecture", "llama");
    tiny_key_u32(b, "llama.block_count", L);
    tiny_key_u32(b, "llama.context_length", 4096);
    tiny_key_u32(b, "llama.embedding_length", D);
    tiny_key_u32(b, "llama.feed_forward_length", F);
    tiny_key_u32(b, "llama.attention.head_count", H);
    tiny_key_u32(b, "llama.attention.head_count_kv", G);
    tiny_key_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_key_str(b, "tokenizer.ggml.model", "gpt2");
    tiny_key_array(b, "tokenizer.ggml.tokens", TINY_KIND_STR, V);
    for (int i = 0; i < V; i++) {
        snprintf(piece, sizeof piece, "p%d", i);
        tiny_str(b, piece);
    }
}

/* The model as a file. plain: every tensor's values as F32 instead. */
static void write_model(char *path, const struct tensor *t, int n, bool plain)
{
    struct strbuf b;
    uint64_t at = 0;
    strbuf_init(&b);
    put_keys(&b, (uint64_t)n);
    for (int i = 0; i < n; i++) {
        tiny_str(&b, t[i].name);
        tiny_u32(&b, t[i].n > 1 ? 2 : 1);
        tiny_u64(&b, (uint64_t)t[i].k);
        if (t[i].n > 1) tiny_u64(&b, (uint64_t)t[i].n);
        tiny_u32(&b, plain ? 0 : t[i].type->number);
        tiny_u64(&b, at);
        at +=
            ((uint64_t)quant_bytes(plain ? DT_F32 : t[i].type->dt, (int64_t)t[i].n * t[i].k) + 31) / 32 * 32;
    }
    tiny_pad(&b);
    for (int i = 0; i < n; i++) {
        int64_t elems = (int64_t)t[i].n * t[i].k;
        uint8_t *p = make_bytes(&t[i], (uint32_t)i * 0x9E3779B1u);
        float *v = malloc((size_t)elems * sizeof *v);
        assert_non_null(v);
        assert_true(quant_to_f32(t[i].type->dt, p, v, elems));
        if (plain)
            strbuf_put(&b, v, (size_t)elems * sizeof *v);
        else
            strbuf_put(&b, p, (size_t)quant_bytes(t[i].type->dt, elems));
        tiny_pad(&b);
        free(v);
        free(p);
    }
    strcpy(path, "/tmp/fluxd-types-XXXXXX");
    tiny_write(path, b.data, b.len);
    strbuf_fini(&b);
}

struct answer {
    struct sample_out out[N_OUT];
    char held[32];
};

/* Prefill of the prompt and steps after it; every token is forced, so that two models see the same ones. */
static void run(const char *path, enum engine_dtype dtype, struct answer *a)
{
    struct engine_conf c = drive_conf(path, dtype, PROMPT);
    int32_t tok[PROMPT];
    struct drive d;
    c.max_seqs = 1;
    c.kv_pool_bytes = 1 << 24;
    struct engine *e = drive_open(&c);
    snprintf(a->held, sizeof a->held, "%s", engine_info(e)->weights);
    for (int i = 0; i < PROMPT; i++) tok[i] = (int32_t)(tiny_hash((uint32_t)i + 77) % V);
    drive_init(&d, e, 0, tok, PROMPT, "11", 0);
    for (int i = 0; i < N_OUT; i++) {
        d.sample.force_id = (i * 37 + 5) % V;
        a->out[i] = i ? drive_decode(&d) : drive_prefill(&d, PROMPT);
        assert_false(a->out[i].bad);
    }
    drive_fini(&d);
    engine_close(e);
}

/* Exact mode: bits. Fast mode: the forced token's and the best one's logprobs. */
static void compare(const struct tensor *t, int n, const char *name, const char *held)
{
    char typed[32], plain[32];
    static struct answer want, exact, fast;
    double far = 0;
    write_model(typed, t, n, false);
    write_model(plain, t, n, true);
    run(plain, ENGINE_DTYPE_F32, &want);
    run(typed, ENGINE_DTYPE_F32, &exact);
    run(typed, ENGINE_DTYPE_AUTO, &fast);
    remove(typed);
    remove(plain);
    for (int i = 0; i < N_OUT; i++) {
        if (memcmp(&want.out[i].logprob, &exact.out[i].logprob, sizeof(float)) != 0 ||
            memcmp(want.out[i].top_id, exact.out[i].top_id, sizeof(int32_t) * DRIVE_TOP) != 0 ||
            memcmp(want.out[i].top_logprob, exact.out[i].top_logprob, sizeof(float) * DRIVE_TOP) != 0)
            fail_msg("%s: the exact mode differs from F32: %g, %g", name, (double)exact.out[i].logprob,
                     (double)want.out[i].logprob);
        far = fmax(far, fabs((double)(fast.out[i].logprob - want.out[i].logprob)));
        far = fmax(far, fabs((double)(fast.out[i].top_logprob[0] - want.out[i].top_logprob[0])));
    }
    printf("%-6s held as %-5s largest difference of a logprob %.5f\n", name, fast.held, far);
    if (far > 0.05) fail_msg("%s: the fast mode is %g away", name, far);
    if (!strstr(fast.held, held)) fail_msg("%s: held as %s, not %s", name, fast.held, held);
    assert_string_equal(exact.held, "f32");
}

static void every_type_gives_the_values_it_stands_for(void **state)
{
    (void)state;
    for (int i = 0; i < N_TYPE; i++) {
        struct tensor t[N_TENSOR];
        enum dtype mat[N_MAT];
        for (int m = 0; m < N_MAT; m++) mat[m] = types[i].dt;
        compare(t, list_tensors(t, types[i].dt, mat), quant_type(types[i].dt)->name, types[i].held);
    }
}

/* As files with "K_M" in their name are: values (and now and then others) in a finer type than their
 * neighbours. */
static void types_may_be_mixed_in_one_fused_matrix(void **state)
{
    (void)state;
    static const enum dtype mixes[][N_MAT] = {
        {DT_Q4_K, DT_Q4_K, DT_Q6_K, DT_Q4_K, DT_Q4_K, DT_Q4_K, DT_Q6_K},
        {DT_Q5_0, DT_Q8_0, DT_F16, DT_Q5_1, DT_Q4_0, DT_Q5_K, DT_Q4_1},
        {DT_F32, DT_BF16, DT_Q4_1, DT_F32, DT_Q8_0, DT_BF16, DT_Q8_0},
    };
    static const char *const held[] = {"", "q4_1+q5_1", "f32+q8_0"}; /* the label tells of each type */
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        struct tensor t[N_TENSOR];
        compare(t, list_tensors(t, i ? DT_Q8_0 : DT_Q6_K, mixes[i]), "mixed", held[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type_gives_the_values_it_stands_for),
                                       cmocka_unit_test(types_may_be_mixed_in_one_fused_matrix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
