/* fp8: weights as codes of 8 bits. What --quantization makes of numbers is what a checkpoint of such codes
 * holds, on every device. On a GPU (FLUXD_TEST_DEVICE=cuda) each form of checkpoint is held against the
 * host's forward pass with the same roundings: activations to bf16 where an op stores them, a product's
 * inputs to codes. */
#include "tests/engine/drive.h"

#include <math.h>

#include "engine/state.h"
#include "kernels/quant.h"
#include "kernels/quant_fp8.h"
#include "tests/engine/emulate.h"
#include "tests/engine/given.h"

/* Codes are made as the test makes them: the nearest of all values. */
static void what_is_made_is_what_a_checkpoint_of_codes_holds(void **state)
{
    (void)state;
    static float made[N_OUT][FP8_V], read[N_OUT][FP8_V], plain[N_OUT][FP8_V];
    struct fp8_dir numbers, codes;
    fp8_dir_make(&numbers, FP8_NUMBERS);
    fp8_dir_make(&codes, FP8_CHANNEL);
    struct engine_conf c = conf_of(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU);
    struct engine *e = drive_open(&c);
    logits_of(e, plain);
    engine_close(e);
    c.quantization = ENGINE_FP8;
    e = drive_open(&c);
    logits_of(e, made);
    engine_close(e);
    c = conf_of(codes.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU);
    e = drive_open(&c);
    logits_of(e, read);
    engine_close(e);
    assert_memory_equal(made, read, sizeof made);
    double apart = 0, size = 0;
    for (int i = 0; i < N_OUT * FP8_V; i++) {
        apart += pow((double)(made[i / FP8_V][i % FP8_V] - plain[i / FP8_V][i % FP8_V]), 2);
        size += pow((double)plain[i / FP8_V][i % FP8_V], 2);
    }
    printf("logits of codes are %.1e of their size from those of numbers\n", sqrt(apart / size));
    assert_true(apart > 0 && apart < 0.1 * 0.1 * size);
    fp8_dir_drop(&numbers);
    fp8_dir_drop(&codes);
}

static void the_head_becomes_codes_by_itself(void **state)
{
    (void)state;
    struct fp8_dir numbers;
    fp8_dir_make(&numbers, FP8_NUMBERS);
    struct engine_conf c = conf_of(numbers.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU);
    static float made[N_OUT][FP8_V], plain[N_OUT][FP8_V];
    struct engine *e = drive_open(&c);
    logits_of(e, plain);
    engine_close(e);
    c.head_fp8 = true;
    e = drive_open(&c);
    logits_of(e, made);
    engine_close(e);
    int n_equal = 0;
    for (int i = 0; i < N_OUT * FP8_V; i++) {
        const double d = fabs((double)(made[i / FP8_V][i % FP8_V] - plain[i / FP8_V][i % FP8_V]));
        n_equal += d == 0;
        assert_true(d < 2); /* of numbers of the size of 10 */
    }
    assert_true(n_equal < N_OUT * FP8_V / 10);
    fp8_dir_drop(&numbers);
}

/* --- a GPU's inputs of products */

static struct {
    bool block, head;
    float input; /* the scale that is fixed for all inputs; 0: each row its own */
} coding;

/* A row as its codes say. */
static void round_to_codes(float *to, const float *x, int k)
{
    uint8_t code[FP8_F];
    float scale[FP8_F / FP8_BLOCK];
    if (coding.input > 0)
        for (int i = 0; i < k; i++)
            to[i] = fp8_to_f32(fp8_from_f32(x[i] * (1 / coding.input))) * coding.input;
    if (coding.input > 0) return;
    fp8_row_ref(code, scale, x, k, coding.block);
    for (int i = 0; i < k; i++) to[i] = fp8_to_f32(code[i]) * scale[coding.block ? i / FP8_BLOCK : 0];
}

static void inputs_to_codes(const struct engine *e, struct gemm_args *a, float *x)
{
    if (a->w == &e->w.head && !coding.head) return;
    for (int t = 0; t < a->n_tok; t++)
        round_to_codes(x + t * a->w->k, (const float *)a->x + t * a->x_stride, a->w->k);
    a->x = x;
    a->x_stride = a->w->k;
}

static bool has_device(void)
{
    const char *device = getenv("FLUXD_TEST_DEVICE");
    return device && strcmp(device, "cuda") == 0;
}

/* How far a's logits are from b's, in b's size. */
static double distance(float (*a)[FP8_V], float (*b)[FP8_V], int from, int to)
{
    double apart = 0, size = 0;
    for (int i = from; i < to; i++)
        for (int v = 0; v < FP8_V; v++) {
            apart += pow((double)a[i][v] - (double)b[i][v], 2);
            size += pow((double)b[i][v], 2);
        }
    return sqrt(apart / size);
}

struct run {
    float host[N_OUT][FP8_V], device[N_OUT][FP8_V], plain[N_OUT][FP8_V];
};

/* The device's, the host's with its roundings, and the host's without. */
static void run_all(struct run *r, enum fp8_form form, enum engine_quantization q, bool head_fp8)
{
    struct fp8_dir dir;
    fp8_dir_make(&dir, form);
    struct engine_conf c = conf_of(dir.path, ENGINE_DTYPE_F32, ENGINE_DEVICE_CPU);
    c.quantization = q;
    c.head_fp8 = head_fp8;
    struct engine *e = drive_open(&c);
    logits_of(e, r->plain);
    coding.block = form == FP8_BLOCKS;
    coding.head = head_fp8;
    coding.input = form == FP8_TENSOR ? FP8_INPUT : 0;
    emulate(e, inputs_to_codes);
    logits_of(e, r->host);
    engine_close(e);
    if (has_device()) {
        c.device = ENGINE_DEVICE_CUDA;
        c.dtype = ENGINE_DTYPE_AUTO;
        e = drive_open(&c);
        assert_string_equal(engine_info(e)->weights, "fp8");
        assert_string_equal(engine_info(e)->head_type, head_fp8 ? "fp8" : "bf16");
        logits_of(e, r->device);
        engine_close(e);
    }
    fp8_dir_drop(&dir);
}

/* A last bit of a sum may move an activation to the next code, 6% away: over a chain of products what was
 * apart by d is apart by about sqrt(0.06 d) behind the next rounding, so that two orders of sums end as far
 * from each other as roundings are from none. What holds is that the device's logits are as far from those
 * without roundings as the host's with the same roundings, and not farther from these. (One product of codes
 * is held to its sums by tests/kernels/cuda/gpu_fp8.cu.) */
static void check_device(const char *what, enum fp8_form form, enum engine_quantization q, bool head_fp8)
{
    static struct run r;
    run_all(&r, form, q, head_fp8);
    const double device = distance(r.device, r.plain, 0, N_OUT), host = distance(r.host, r.plain, 0, N_OUT),
                 between = distance(r.device, r.host, 0, N_OUT);
    printf("%s: logits %.1e from those without roundings, the host's %.1e, from each other %.1e\n", what,
           device, host, between);
    assert_true(host > 2e-2 && device < 1.25 * host && device > host / 1.25 && between < 1.25 * host);
}

#define DEVICE_TEST(name, form, quantization, head)                                                          \
    static void name(void **state)                                                                           \
    {                                                                                                        \
        (void)state;                                                                                         \
        if (!has_device()) skip();                                                                           \
        check_device(#name, form, quantization, head);                                                       \
    }
DEVICE_TEST(made_of_numbers, FP8_NUMBERS, ENGINE_FP8, false)
DEVICE_TEST(made_of_numbers_the_head_too, FP8_NUMBERS, ENGINE_FP8, true)
DEVICE_TEST(by_channel, FP8_CHANNEL, ENGINE_AS_STORED, false)
DEVICE_TEST(by_tensor_with_static_inputs, FP8_TENSOR, ENGINE_AS_STORED, false)
DEVICE_TEST(in_blocks, FP8_BLOCKS, ENGINE_AS_STORED, false)
DEVICE_TEST(of_fbgemm, FP8_FBGEMM, ENGINE_AS_STORED, false)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_is_what_a_checkpoint_of_codes_holds),
        cmocka_unit_test(the_head_becomes_codes_by_itself),
        cmocka_unit_test(made_of_numbers),
        cmocka_unit_test(made_of_numbers_the_head_too),
        cmocka_unit_test(by_channel),
        cmocka_unit_test(by_tensor_with_static_inputs),
        cmocka_unit_test(in_blocks),
        cmocka_unit_test(of_fbgemm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
