/* codes: keys and values of 8 bits move logprobs by little, and by as much on every device: what is computed
 * from them on the GPU (FLUXD_TEST_DEVICE=cuda) is as near to the CPU's as what is computed from bf16 pages.
 * usage: test_codes [model] (a tiny one) */
#include "tests/engine/drive.h"

#include <math.h>

#include "tests/engine/tiny_gguf.h"

enum { LONGEST = 700, N_OUT = 6, N_PROMPT = 4 };
static const int lengths[N_PROMPT] = {90, 257, 400, LONGEST};

static const char *model_path;

/* Logprobs of all tokens of prompts, and of answers that are given. */
struct scores {
    float of[N_PROMPT][LONGEST + N_OUT];
};

static struct engine *open_kv(enum engine_kv kv, enum engine_device device)
{
    struct engine_conf c = drive_conf(model_path, ENGINE_DTYPE_AUTO, LONGEST);
    c.kv = kv;
    c.device = device;
    c.local_window_size = 128;
    return drive_open(&c);
}

static void score(struct engine *e, struct scores *s)
{
    static struct sample_out prompt[LONGEST];
    static struct drive d;
    const int L = engine_info(e)->n_layer;
    memset(s, 0, sizeof *s);
    for (int p = 0; p < N_PROMPT; p++) {
        int32_t tok[LONGEST];
        char route[DRIVE_LAYER];
        struct sample_out first;
        uint8_t drew;
        const int n = lengths[p];
        for (int i = 0; i < n; i++)
            tok[i] =
                (int32_t)(tiny_hash((uint32_t)(i + 1000 * p)) % (uint32_t)(engine_info(e)->n_vocab - 20)) +
                20;
        for (int l = 0; l < L; l++) route[l] = p == 3 || (l + p) % 3 ? '1' : '0';
        drive_init(&d, e, p, tok, n, route, 0);
        struct batch_piece piece = drive_piece(&d, 0, L, 0, n);
        piece.prompt_out = prompt;
        assert_int_equal(engine_step(e, &(struct batch){.n_piece = 1, .piece = &piece},
                                     &(struct step_out){.piece = &first, .drew = &drew}, NULL),
                         OK);
        for (int i = 1; i < n; i++) s->of[p][i] = prompt[i].logprob;
        for (int i = 0; i < N_OUT; i++) { /* decode of the same tokens everywhere */
            d.tok[d.n_tok++] = 20 + i * 7 + p;
            d.sample.force_id = 30 + i;
            struct batch_row row = drive_row(&d);
            struct sample_out got;
            assert_int_equal(engine_step(e, &(struct batch){.n_row = 1, .row = &row},
                                         &(struct step_out){.row = &got}, NULL),
                             OK);
            s->of[p][n + i] = got.logprob;
        }
        drive_fini(&d);
    }
    engine_close(e);
}

/* Root of the mean square of the difference; the most. */
static double distance(const struct scores *a, const struct scores *b, double *most)
{
    double sum = 0;
    int n = 0;
    *most = 0;
    for (int p = 0; p < N_PROMPT; p++)
        for (int i = 1; i < lengths[p] + N_OUT; i++, n++) {
            const double x = fabs((double)a->of[p][i] - (double)b->of[p][i]);
            assert_true(isfinite(x));
            sum += x * x;
            *most = x > *most ? x : *most;
        }
    return sqrt(sum / n);
}

static void codes_move_logprobs_by_little(void **state)
{
    (void)state;
    static struct scores plain, codes;
    const enum engine_device device = drive_conf(model_path, ENGINE_DTYPE_AUTO, 1).device;
    double most, mean;
    score(open_kv(ENGINE_KV_BF16, device), &plain);
    score(open_kv(ENGINE_KV_FP8, device), &codes);
    mean = distance(&plain, &codes, &most);
    print_message("logprobs with codes against bf16: %.2e, at most %.2e\n", mean, most);
    assert_true(mean > 0 && mean < 0.1 && most < 0.8); /* of random weights, whose attention is flat */
}

/* Device and host round in another order. Where that turns a code it costs one of its steps, so what codes
 * cost at all, beside what the order costs without them, is the most that they may differ by. */
static void the_device_computes_from_codes_what_the_host_does(void **state)
{
    (void)state;
    static struct scores s[2][2];
    const enum engine_device device = drive_conf(model_path, ENGINE_DTYPE_AUTO, 1).device;
    double most[2], mean[2];
    if (device != ENGINE_DEVICE_CUDA) skip();
    for (int kv = 0; kv < 2; kv++) {
        for (int on = 0; on < 2; on++)
            score(open_kv(kv ? ENGINE_KV_FP8 : ENGINE_KV_BF16, on ? device : ENGINE_DEVICE_CPU), &s[kv][on]);
        mean[kv] = distance(&s[kv][0], &s[kv][1], &most[kv]);
        print_message("device against host, %s: %.2e, at most %.2e\n", kv ? "codes" : "bf16", mean[kv],
                      most[kv]);
    }
    double most_cost;
    const double cost = distance(&s[0][0], &s[1][0], &most_cost);
    print_message("codes against bf16 on the host: %.2e, at most %.2e\n", cost, most_cost);
    assert_true(mean[1] < sqrt(mean[0] * mean[0] + cost * cost) && most[1] < most[0] + most_cost);
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/fluxd-tiny-XXXXXX";
    struct strbuf b;
    if (argc < 2) {
        strbuf_init(&b);
        tiny_gguf_build(&b);
        tiny_write(path, b.data, b.len);
        strbuf_fini(&b);
    }
    model_path = argc < 2 ? path : argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(codes_move_logprobs_by_little),
                                       cmocka_unit_test(the_device_computes_from_codes_what_the_host_does)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (argc < 2) remove(path);
    return failed;
}
