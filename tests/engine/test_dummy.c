/* dummy: placeholder weights from a configuration alone (--load-format dummy) make a model that answers, the
 * same one each time. */
#include "tests/engine/drive.h"

#include <math.h>

#include "engine/source.h"
#include "engine/spec.h"

enum { N_PROMPT = 40, N_OUT = 4 };

static struct engine_conf dummy_conf(const char *model)
{
    struct engine_conf c = drive_conf(model, ENGINE_DTYPE_F32, 64);
    c.device = ENGINE_DEVICE_CPU;
    c.dummy = true;
    c.kv_pool_bytes = 64 << 20;
    return c;
}

static void answer(const char *model, struct sample_out *out)
{
    struct engine_conf c = dummy_conf(model);
    struct engine *e = drive_open(&c);
    int32_t ids[N_PROMPT];
    struct drive d;
    for (int i = 0; i < N_PROMPT; i++) ids[i] = i * 7 % engine_info(e)->n_vocab;
    drive_init(&d, e, 0, ids, N_PROMPT, engine_info(e)->has_router ? NULL : "111111", 0);
    for (int i = 0; i < N_OUT; i++) out[i] = i == 0 ? drive_prefill(&d, 64) : drive_decode(&d);
    drive_fini(&d);
    engine_close(e);
}

static void a_configuration_alone_answers_the_same_each_time(void **state)
{
    (void)state;
    static const char *const models[] = {"tests/goldens/tiny/llama", "tests/goldens/tiny/qwen2/config.json",
                                         "tests/goldens/tiny/paw_qwen3"};
    for (int m = 0; m < 3; m++) {
        struct sample_out a[N_OUT], b[N_OUT];
        answer(models[m], a);
        answer(models[m], b);
        for (int i = 0; i < N_OUT; i++) {
            assert_false(a[i].bad);
            assert_true(isfinite(a[i].logprob) && a[i].logprob < 0);
            assert_int_equal(a[i].id, b[i].id);
            assert_memory_equal(&a[i].logprob, &b[i].logprob, sizeof(float));
        }
    }
}

static void a_tensor_is_the_same_in_whatever_pieces_it_is_read(void **state)
{
    (void)state;
    struct source *src = NULL;
    struct source_tensor t;
    uint16_t all[192], part[192];
    double sum = 0, squares = 0;
    assert_int_equal(source_open_dummy(&src, "tests/goldens/tiny/llama", NULL), OK);
    assert_true(source_invent(src, "model.layers.0.mlp.up_proj.weight", 4, 48, &t));
    assert_int_equal(source_read(src, &t, 0, 384, all, NULL), OK);
    for (int at = 0; at < 192; at += 6)
        assert_int_equal(source_read(src, &t, at * 2, 12, part + at, NULL), OK);
    assert_memory_equal(all, part, sizeof all);
    for (int i = 0; i < 192; i++) {
        uint32_t bits = (uint32_t)all[i] << 16;
        float v;
        memcpy(&v, &bits, sizeof v);
        sum += (double)v;
        squares += (double)v * (double)v;
    }
    assert_true(fabs(sum / 192) < 0.05 && fabs(squares / 192 * 48 - 1) < 0.4); /* mean 0, variance 1/k */
    source_close(src);
}

static void shapes_of_the_configs_are_those_of_their_models(void **state)
{
    (void)state;
    static const struct {
        const char *path, *family;
        int n_layer, d, n_head, n_kv, head, f, n_vocab;
    } shapes[] = {{"configs/shapes/llama-3.1-8b.json", "llama", 32, 4096, 32, 8, 128, 14336, 128256},
                  {"configs/shapes/qwen3-8b.json", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936},
                  {"configs/shapes/qwen2.5-0.5b.json", "qwen2", 24, 896, 14, 2, 64, 4864, 151936}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct source *src = NULL;
        struct spec s;
        struct err_note note = {0};
        if (source_open_dummy(&src, shapes[i].path, &note) != OK || spec_load(&s, src, &note) != OK)
            fail_msg("%s", note.text);
        assert_string_equal(s.family->name, shapes[i].family);
        const int got[] = {s.n_layer, s.d, s.n_head, s.n_kv, s.head, s.f, s.n_vocab};
        assert_memory_equal(got, &shapes[i].n_layer, sizeof got);
        source_close(src);
    }
}

/* Placeholders are numbers whatever form the configuration's own weights have. */
static void the_configuration_of_a_quantised_model_is_a_shape_too(void **state)
{
    (void)state;
    struct engine *e = NULL;
    struct err_note note = {0};
    struct engine_conf c = dummy_conf("tests/goldens/tiny/mixed");
    if (engine_open(&e, &c, &note) != OK) fail_msg("%s", note.text);
    assert_int_equal(engine_info(e)->n_layer, 2);
    engine_close(e);
}

static void a_shape_without_a_configuration_is_refused(void **state)
{
    (void)state;
    struct engine *e = NULL;
    struct err_note note = {0};
    struct engine_conf c = dummy_conf("tests/goldens/tiny/nothing");
    assert_int_not_equal(engine_open(&e, &c, &note), OK);
    assert_non_null(strstr(note.text, "tests/goldens/tiny/nothing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_alone_answers_the_same_each_time),
        cmocka_unit_test(a_tensor_is_the_same_in_whatever_pieces_it_is_read),
        cmocka_unit_test(shapes_of_the_configs_are_those_of_their_models),
        cmocka_unit_test(the_configuration_of_a_quantised_model_is_a_shape_too),
        cmocka_unit_test(a_shape_without_a_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
