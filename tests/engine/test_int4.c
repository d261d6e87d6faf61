/* int4: weights as codes of 4 bits. What --quantization makes of numbers is what a checkpoint of such codes
 * holds. On a GPU (FLUXD_TEST_DEVICE=cuda) each form of checkpoint is as near to the host's exact forward
 * pass as its roundings allow: those of activations to bf16 where an op stores them and of weights of
 * prompts' products to bf16 are repeated on the host. Where one sum rounds the other way the rest of the pass
 * has other roundings, so the two are as far from each other as from the exact one. Products by themselves
 * are held to their sums in tests/kernels/cuda/gpu_int4.cu. */
#include "tests/engine/drive.h"

#include <math.h>

#include "tests/engine/emulate.h"
#include "tests/engine/given.h"

static struct engine *open_as(const char *path, enum engine_dtype dtype, enum engine_device device,
                              enum engine_quantization q)
{
    struct engine_conf c = conf_of(path, dtype, device);
    c.quantization = q;
    return drive_open(&c);
}

static double apart(float (*a)[FP8_V], float (*b)[FP8_V], int from, int n)
{
    double num = 0, den = 0;
    for (int i = from; i < n; i++)
        for (int v = 0; v < FP8_V; v++) {
            num += pow((double)a[i][v] - (double)b[i][v], 2);
            den += pow((double)b[i][v], 2);
        }
    return sqrt(num / den);
}

static void what_is_made_is_what_a_checkpoint_of_codes_holds(void **state)
{
    (void)state;
    static float made[N_OUT][FP8_V], read[N_OUT][FP8_V], plain[N_OUT][FP8_V];
    struct fp8_dir numbers, codes;
    fp8_dir_make(&numbers, FP8_NUMBERS);
    fp8_dir_make(&codes, INT4_MADE);
    struct engine *e = open_as(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_AS_STORED);
    logits_of(e, plain);
    engine_close(e);
    e = open_as(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_INT4);
    logits_of(e, made);
    engine_close(e);
    e = open_as(codes.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_AS_STORED);
    logits_of(e, read);
    engine_close(e);
    assert_memory_equal(made, read, sizeof made);
    const double far = apart(made, plain, 0, N_OUT);
    printf("logits of codes are %.1e of their size from those of numbers\n", far);
    assert_true(far > 0.01 && far < 0.5);
    fp8_dir_drop(&numbers);
    fp8_dir_drop(&codes);
}

/* Forms mean the same numbers to the host as they do when they are written as numbers. */
static void forms_mean_their_numbers(void **state)
{
    (void)state;
    static float read[N_OUT][FP8_V], want[N_OUT][FP8_V];
    static const enum fp8_form forms[] = {INT4_AWQ, INT4_GPTQ_APART};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const enum fp8_form form = forms[i];
        struct fp8_dir codes, numbers;
        fp8_dir_make(&codes, form);
        fp8_dir_as_numbers = true;
        fp8_dir_make(&numbers, form);
        fp8_dir_as_numbers = false;
        struct engine *e = open_as(codes.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_AS_STORED);
        logits_of(e, read);
        engine_close(e);
        e = open_as(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_AS_STORED);
        logits_of(e, want);
        engine_close(e);
        if (!(apart(read, want, 0, N_OUT) < 5e-3)) /* the numbers are rounded to 8 bits */
            fail_msg("form %d: %.1e apart", (int)form, apart(read, want, 0, N_OUT));
        fp8_dir_drop(&codes);
        fp8_dir_drop(&numbers);
    }
}

static const struct engine *rounded; /* the same model with weights rounded to bf16 */

static void prompts_have_rounded_weights(const struct engine *e, struct gemm_args *a, float *x)
{
    (void)x;
    for (int i = 0; i < FP8_L * MAT_COUNT && !a->decode; i++)
        if (a->w == &e->w.layer[i / MAT_COUNT].mat[i % MAT_COUNT])
            a->w = &rounded->w.layer[i / MAT_COUNT].mat[i % MAT_COUNT];
}

static void check_device(const char *what, enum fp8_form form, enum engine_quantization q, const char *held,
                         bool norms)
{
    static float host[N_OUT][FP8_V], device[N_OUT][FP8_V], exact[N_OUT][FP8_V];
    struct fp8_dir codes, numbers;
    fp8_dir_make(&codes, form);
    fp8_dir_as_numbers = true;
    fp8_dir_make(&numbers, form == FP8_NUMBERS ? INT4_MADE : form);
    fp8_dir_as_numbers = false;
    struct engine *e = open_as(codes.path, ENGINE_DTYPE_AUTO, ENGINE_DEVICE_CUDA, q);
    assert_string_equal(engine_info(e)->weights, held);
    logits_of(e, device);
    engine_close(e);
    e = open_as(codes.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, q);
    struct engine *r = open_as(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU, ENGINE_AS_STORED);
    rounded = r;
    logits_of(e, exact);
    emulate(e, prompts_have_rounded_weights);
    em.norms = norms;
    logits_of(e, host);
    engine_close(r);
    engine_close(e);
    for (int decode = 0; decode < 2; decode++) {
        const int from = decode, n = decode ? N_OUT : 1;
        const double own = apart(device, exact, from, n), roundings = apart(host, exact, from, n);
        printf("%s, %s: logits %.1e from the exact ones, the host's roundings %.1e, from each other %.1e\n",
               what, decode ? "decode" : "prefill", own, roundings, apart(device, host, from, n));
        assert_true(own < 2 * roundings && own < 0.02);
    }
    fp8_dir_drop(&codes);
    fp8_dir_drop(&numbers);
}

static bool has_device(void)
{
    const char *device = getenv("FLUXD_TEST_DEVICE");
    return device && strcmp(device, "cuda") == 0;
}

#define DEVICE_TEST(name, form, quantization, held, norms)                                                   \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        (void)state;                                                                                         \
        if (!has_device()) skip();                                                                           \
        check_device(#name, form, quantization, held, norms);                                                \
    }
DEVICE_TEST(made_of_numbers, FP8_NUMBERS, ENGINE_INT4, "u4", true)
DEVICE_TEST(packed_in_32, INT4_PACKED, ENGINE_AS_STORED, "u4", true)
DEVICE_TEST(packed_with_zero_points, INT4_PACKED_ZEROS, ENGINE_AS_STORED, "u4", true)
DEVICE_TEST(of_awq, INT4_AWQ, ENGINE_AS_STORED, "u4", true)
DEVICE_TEST(of_gptq, INT4_GPTQ, ENGINE_AS_STORED, "u4", true)
DEVICE_TEST(of_gptq_with_an_order, INT4_GPTQ_ORDER, ENGINE_AS_STORED, "u4", false)
DEVICE_TEST(of_gptq_with_orders_apart, INT4_GPTQ_APART, ENGINE_AS_STORED, "u4+bf16", false)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_is_what_a_checkpoint_of_codes_holds),
        cmocka_unit_test(forms_mean_their_numbers),
        cmocka_unit_test(made_of_numbers),
        cmocka_unit_test(packed_in_32),
        cmocka_unit_test(packed_with_zero_points),
        cmocka_unit_test(of_awq),
        cmocka_unit_test(of_gptq),
        cmocka_unit_test(of_gptq_with_an_order),
        cmocka_unit_test(of_gptq_with_orders_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
