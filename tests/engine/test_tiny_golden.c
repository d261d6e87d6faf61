/* tiny_golden: a random checkpoint of each family (tests/goldens/make_tiny.py) in the engine's exact mode:
 * every logit of the prompt and of the answer equals the reference's. Covers one file and shards, F32, F16
 * and BF16, tied and untied, biases, q/k norm, every scaling of RoPE, both spellings of it, routers inside
 * the checkpoint, and codes with scales in every form of them (make_scaled.py). */
#include "tests/engine/drive.h"

#include <math.h>

#include "engine/state.h"

enum { ROW_MOST = 512, VOCAB = 64, FILE_MOST = 1 << 18 };

static const double TOLERANCE = 1e-4;

static float seen[ROW_MOST][VOCAB]; /* logits by the position they were computed at */
static enum err (*sample)(struct op_ctx *, const struct sample_args *);

/* The engine's own, but it keeps what it was given. */
static enum err keep_logits(struct op_ctx *ctx, const struct sample_args *a)
{
    assert_int_equal(a->vocab, VOCAB);
    for (int i = 0; i < a->n_row; i++) {
        int at = a->row[i].pos - 1;
        assert_true(at >= 0 && at < ROW_MOST);
        memcpy(seen[at], a->logits + i * a->logits_stride, sizeof seen[at]);
    }
    return sample(ctx, a);
}

struct golden_file {
    int32_t n_prompt, n_out, vocab, n_layer, router;
    const int32_t *route, *tok;
    const float *logits;
    char raw[FILE_MOST];
};

static void read_golden(struct golden_file *g, const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/golden.bin", dir);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(g->raw, 1, sizeof g->raw, f);
    fclose(f);
    assert_true(n > 20);
    memcpy(g, g->raw, 20);
    g->route = (const int32_t *)(const void *)g->raw + 5;
    g->tok = g->route + g->n_layer;
    g->logits = (const float *)(const void *)(g->tok + g->n_prompt + g->n_out);
    assert_int_equal(g->vocab, VOCAB);
    assert_int_equal(n, 4 * (5 + g->n_layer + g->n_prompt + g->n_out + (g->n_prompt + g->n_out - 1) * VOCAB));
}

/* The whole prompt with a score for each of its tokens, so that each row gets its logits; then the answer,
 * one row a step. */
static void run(struct drive *d, const struct golden_file *g)
{
    static struct sample_out scores[ROW_MOST];
    struct sample_out got = {0};
    uint8_t drew = 0;
    d->sample.pos = g->n_prompt;
    struct batch_piece p = drive_piece(d, 0, g->n_layer, 0, g->n_prompt);
    p.prompt_out = scores;
    assert_int_equal(engine_step(d->e, &(struct batch){.n_piece = 1, .piece = &p},
                                 &(struct step_out){.piece = &got, .drew = &drew}, NULL),
                     OK);
    assert_int_equal(drew, 1);
    for (int i = 0;; i++) {
        assert_false(got.bad);
        assert_int_equal(got.id, g->tok[g->n_prompt + i]);
        if (i + 1 == g->n_out) break;
        if (i == 0) d->tok[d->n_tok++] = got.id;
        d->sample.pos = d->n_tok;
        got = drive_decode(d);
    }
}

static void check(const char *name, const char *family, int n_eos)
{
    static struct golden_file g;
    char dir[96];
    double worst = 0;
    snprintf(dir, sizeof dir, "tests/goldens/tiny/%s", name);
    read_golden(&g, dir);
    struct engine_conf c = drive_conf(dir, ENGINE_DTYPE_F32, 512);
    c.device = ENGINE_DEVICE_CPU;
    struct engine *e = drive_open(&c);
    assert_string_equal(engine_info(e)->family, family);
    assert_string_equal(engine_info(e)->name, name);
    assert_int_equal(engine_info(e)->has_router, g.router);
    assert_int_equal(engine_info(e)->n_eos, n_eos);
    sample = e->be->op.sample;
    e->be->op.sample = keep_logits;
    memset(seen, 0xff, sizeof seen); /* NaN */

    struct drive d;
    drive_init(&d, e, 1, g.tok, g.n_prompt, g.router ? NULL : "111111", 3);
    run(&d, &g);
    for (int l = 0; l < g.n_layer; l++) assert_int_equal(d.route[l], g.route[l]);
    for (int i = 0; i < (g.n_prompt + g.n_out - 1) * VOCAB; i++) {
        double diff = fabs((double)seen[i / VOCAB][i % VOCAB] - (double)g.logits[i]);
        if (!(diff <= TOLERANCE))
            fail_msg("%s: position %d, token %d: off by %g", name, i / VOCAB, i % VOCAB, diff);
        if (diff > worst) worst = diff;
    }
    printf("%s: %d positions, logits within %.1e\n", name, g.n_prompt + g.n_out - 1, worst);
    drive_fini(&d);
    engine_close(e);
}

static void llama_in_one_file_equals_the_reference(void **state)
{
    (void)state;
    check("llama", "llama", 2);
}

static void llama_with_a_bias_on_every_product_equals_the_reference(void **state)
{
    (void)state;
    check("llama_bias", "llama", 1);
}

static void mistral_within_its_window_equals_the_reference(void **state)
{
    (void)state;
    check("mistral", "mistral", 1);
}

static void llama_with_llama3_rope_in_shards_equals_the_reference(void **state)
{
    (void)state;
    check("llama3", "llama", 1);
}

static void qwen2_with_biases_and_linear_rope_equals_the_reference(void **state)
{
    (void)state;
    check("qwen2", "qwen2", 1);
}

static void qwen3_with_norms_and_yarn_equals_the_reference(void **state)
{
    (void)state;
    check("qwen3", "qwen3", 1);
}

static void routers_in_a_llama_decide_as_the_reference(void **state)
{
    (void)state;
    check("paw_llama", "llama", 1); /* softmax form */
}

static void routers_in_a_qwen3_decide_as_the_reference(void **state)
{
    (void)state;
    check("paw_qwen3", "qwen3", 1); /* sigmoid form */
}

static void fp8_by_channel_equals_the_reference(void **state)
{
    (void)state;
    check("fp8_channel", "llama", 1);
}

static void fp8_by_tensor_with_static_inputs_equals_the_reference(void **state)
{
    (void)state;
    check("fp8_tensor", "qwen2", 1);
}

static void fp8_in_blocks_equals_the_reference(void **state)
{
    (void)state;
    check("fp8_block", "qwen3", 1);
}

static void fp8_of_the_method_fp8_without_blocks_equals_the_reference(void **state)
{
    (void)state;
    check("fp8_static", "llama", 1);
}

static void fp8_of_fbgemm_equals_the_reference(void **state)
{
    (void)state;
    check("fbgemm", "llama", 1);
}

static void awq_equals_the_reference(void **state)
{
    (void)state;
    check("awq", "llama", 1);
}

static void gptq_equals_the_reference(void **state)
{
    (void)state;
    check("gptq", "llama", 1);
}

static void gptq_with_an_order_and_zero_points_equals_the_reference(void **state)
{
    (void)state;
    check("gptq_order", "qwen2", 1);
}

static void packed_codes_equal_the_reference(void **state)
{
    (void)state;
    check("packed", "qwen3", 1);
}

static void packed_codes_with_zero_points_equal_the_reference(void **state)
{
    (void)state;
    check("packed_zeros", "llama", 1);
}

static void layers_of_several_forms_equal_the_reference(void **state)
{
    (void)state;
    check("mixed", "llama", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_in_one_file_equals_the_reference),
        cmocka_unit_test(llama_with_a_bias_on_every_product_equals_the_reference),
        cmocka_unit_test(mistral_within_its_window_equals_the_reference),
        cmocka_unit_test(llama_with_llama3_rope_in_shards_equals_the_reference),
        cmocka_unit_test(qwen2_with_biases_and_linear_rope_equals_the_reference),
        cmocka_unit_test(qwen3_with_norms_and_yarn_equals_the_reference),
        cmocka_unit_test(routers_in_a_llama_decide_as_the_reference),
        cmocka_unit_test(routers_in_a_qwen3_decide_as_the_reference),
        cmocka_unit_test(fp8_by_channel_equals_the_reference),
        cmocka_unit_test(fp8_by_tensor_with_static_inputs_equals_the_reference),
        cmocka_unit_test(fp8_in_blocks_equals_the_reference),
        cmocka_unit_test(fp8_of_the_method_fp8_without_blocks_equals_the_reference),
        cmocka_unit_test(fp8_of_fbgemm_equals_the_reference),
        cmocka_unit_test(awq_equals_the_reference),
        cmocka_unit_test(gptq_equals_the_reference),
        cmocka_unit_test(gptq_with_an_order_and_zero_points_equals_the_reference),
        cmocka_unit_test(packed_codes_equal_the_reference),
        cmocka_unit_test(packed_codes_with_zero_points_equal_the_reference),
        cmocka_unit_test(layers_of_several_forms_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
