/* forward over a table of ops that compute nothing and write down what they are asked for. */
#include "engine/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 3, ROWS = 5 };

static struct {
    char text[2048]; /* stages in their order, each by its name and what it reads and writes */
    int left;        /* stages until one fails; negative: none does */
    bool raw, fuses;
} seen;

static struct engine e;
static struct kind side[LAYERS][2];
static struct layer_weights weight[LAYERS];
static char buffer[16];

/* Buffers are told by a letter: their place in `buffer`. */
static char letter(const void *p) { return p ? (char)('a' + ((const char *)p - buffer)) : '-'; }

static enum err stage(const char *name, const void *out, const void *in)
{
    const size_t n = strlen(seen.text);
    snprintf(seen.text + n, sizeof seen.text - n, "%s%s:%c%c", n ? " " : "", name, letter(out), letter(in));
    return seen.left-- == 0 ? ERR_DEVICE : OK;
}

static enum err embed(struct op_ctx *c, const struct embed_args *a)
{
    (void)c;
    return stage("embed", a->out, NULL);
}

static enum err rmsnorm(struct op_ctx *c, const struct rmsnorm_args *a)
{
    (void)c;
    assert_ptr_equal(a->res, NULL);
    return stage("norm", a->out, a->x);
}

static enum err gemm(struct op_ctx *c, const struct gemm_args *a)
{
    (void)c;
    char name[16];
    snprintf(name, sizeof name, "gemm%s%s%s", a->add ? "+" : "", a->coarse ? "~" : "", a->decode ? "d" : "");
    assert_int_equal(a->n_tok, ROWS);
    assert_int_equal(a->y_stride, a->w->n);
    assert_int_equal(a->x_stride, a->w->k);
    return stage(name, a->y, a->x);
}

static enum err qkrope(struct op_ctx *c, const struct qkrope_args *a)
{
    (void)c;
    assert_true((a->q_raw != NULL) == seen.raw);
    return stage("rope", a->q, a->qkv);
}

static enum err attn(struct op_ctx *c, const struct attn_args *a)
{
    (void)c;
    assert_int_equal(a->n_seg, 2);
    return stage("attn", a->out, a->q);
}

static enum err swiglu(struct op_ctx *c, const struct swiglu_args *a)
{
    (void)c;
    return stage("swiglu", a->out, a->gu);
}

static enum err gather(struct op_ctx *c, const struct gather_args *a)
{
    (void)c;
    return stage("gather", a->out, a->x);
}

static enum err enter(const struct call *c, int layer, struct layer_rows *rows)
{
    (void)c;
    (void)layer;
    rows->raw = seen.raw;
    return stage("enter", NULL, NULL);
}

static enum err decide(const struct call *c, int layer, struct layer_rows *rows)
{
    (void)rows;
    (void)c;
    (void)layer;
    return stage("decide", NULL, NULL);
}

static enum err runs(const struct call *c, int layer, const struct attn_seg **seg)
{
    static const struct attn_seg none[2];
    (void)c;
    (void)layer;
    *seg = none;
    return stage("runs", NULL, NULL);
}

static bool fuses(const struct call *c)
{
    (void)c;
    return seen.fuses;
}

static enum err fused(const struct call *c, int layer)
{
    char name[16];
    (void)c;
    snprintf(name, sizeof name, "fused%d", layer);
    return stage(name, NULL, NULL);
}

static int open_world(void **state)
{
    static const struct forward parts = {
        .enter = enter, .decide = decide, .runs = runs, .fuses = fuses, .fused = fused};
    static struct backend be;
    (void)state;
    memset(&seen, 0, sizeof seen);
    seen.left = -1;
    be = (struct backend){.op = {.embed = embed,
                                 .rmsnorm = rmsnorm,
                                 .gemm = gemm,
                                 .qkrope = qkrope,
                                 .attn = attn,
                                 .swiglu = swiglu,
                                 .gather = gather}};
    e = (struct engine){.forward = &parts, .be = &be};
    e.spec = (struct spec){.n_layer = LAYERS, .d = 8, .n_head = 1, .n_kv = 1, .head = 8, .f = 8};
    for (int l = 0; l < LAYERS; l++) {
        side[l][0].prefill = l == 1 ? ATTN_NONE : ATTN_FULL;
        for (int m = 0; m < MAT_COUNT; m++) weight[l].mat[m] = (struct weight){.n = 100 + m, .k = 200 + m};
    }
    e.kinds.side = side;
    e.w.layer = weight;
    e.w.head = (struct weight){.n = 300, .k = 400};
    void **const of[] = {&e.mem.x,  &e.mem.h,    &e.mem.qkv,    &e.mem.q,      &e.mem.att,  &e.mem.gu,
                         &e.mem.ff, &e.mem.last, &e.mem.last_h, &e.mem.logits, &e.mem.q_raw};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) *of[i] = buffer + i;
    return 0;
}

static struct call call_of(int layer0, int layer1)
{
    return (struct call){.e = &e, .n_span = 2, .n_tok = ROWS, .layer0 = layer0, .layer1 = layer1};
}

#define ATTENTION "enter:-- norm:ba gemm:cb rope:dc runs:-- attn:ed gemm+:ae"
#define MLP       "norm:ba gemm~:fb swiglu:gf gemm+~:ag"

static void a_layer_is_attention_then_mlp_each_added_to_the_rows(void **state)
{
    (void)state;
    const struct call c = call_of(0, 1);
    assert_int_equal(forward_layers(&c), OK);
    assert_string_equal(seen.text, ATTENTION " " MLP);
}

static void a_layer_of_kind_none_is_its_mlp_and_layers_follow_each_other(void **state)
{
    (void)state;
    const struct call c = call_of(1, 3);
    assert_int_equal(forward_layers(&c), OK);
    assert_string_equal(seen.text, "enter:-- " MLP " " ATTENTION " " MLP);
}

static void bits_are_decided_between_rope_and_the_choice_of_runs(void **state)
{
    (void)state;
    const struct call c = call_of(2, 3);
    seen.raw = true;
    assert_int_equal(forward_layers(&c), OK);
    assert_non_null(strstr(seen.text, "rope:dc decide:-- runs:--"));
}

static void a_device_that_fuses_has_its_layer_in_place_of_the_stages(void **state)
{
    (void)state;
    const struct call c = call_of(0, 3);
    seen.fuses = true;
    assert_int_equal(forward_layers(&c), OK);
    assert_string_equal(seen.text, "fused0:-- fused1:-- fused2:--");
}

static void a_stage_that_fails_is_the_last(void **state)
{
    const struct call c = call_of(0, 3);
    int n_stage = 1;
    assert_int_equal(forward_layers(&c), OK);
    for (const char *at = seen.text; (at = strchr(at, ' ')); at++) n_stage++;
    for (int i = 0; i < n_stage; i++) {
        open_world(state);
        seen.left = i;
        assert_int_equal(forward_layers(&c), ERR_DEVICE);
        assert_int_equal(seen.left, -1); /* nothing was asked for behind it */
    }
}

static void logits_are_of_the_rows_that_are_asked_for(void **state)
{
    (void)state;
    struct call c = call_of(0, 3);
    assert_int_equal(forward_logits(&c, ROWS, NULL), OK);
    assert_string_equal(seen.text, "norm:ia gemm:ji");
    seen.text[0] = 0;
    c.decode = true;
    assert_int_equal(forward_logits(&c, ROWS, &(int32_t){0}), OK);
    assert_string_equal(seen.text, "gather:ha norm:ih gemmd:ji");
}

#define CASE(f) cmocka_unit_test_setup(f, open_world)

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(a_layer_is_attention_then_mlp_each_added_to_the_rows),
                                       CASE(a_layer_of_kind_none_is_its_mlp_and_layers_follow_each_other),
                                       CASE(bits_are_decided_between_rope_and_the_choice_of_runs),
                                       CASE(a_device_that_fuses_has_its_layer_in_place_of_the_stages),
                                       CASE(a_stage_that_fails_is_the_last),
                                       CASE(logits_are_of_the_rows_that_are_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
