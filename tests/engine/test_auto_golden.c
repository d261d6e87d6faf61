/* auto: the engine as it is served beside its exact mode, on the same teacher-forced tokens: prompts of the
 * goldens (chats with their answers, texts and the beginning of a long prompt). The best token is the same
 * nearly everywhere, and its logprob moves little. */
#include "tests/engine/golden.h"

enum { FORCED_MOST = 4096, LONG_TOK = 300 };

struct best {
    int32_t id;
    float logprob;
};

/* How often the best token of the exact engine is best, and how far its logprob moved, summed. */
struct tally {
    int n, same;
    double moved;
};

static struct sample_out *force(struct engine *e, const int32_t *ids, int n)
{
    struct drive d;
    struct sample_out *out = calloc((size_t)n, sizeof *out), last;
    struct step_out step = {.piece = &last, .drew = &(uint8_t){0}};
    int L = engine_info(e)->n_layer;
    char full[DRIVE_LAYER + 1] = {0};
    memset(full, '1', (size_t)L);
    assert_non_null(out);
    drive_init(&d, e, 0, ids, n, full, 0);
    struct batch_piece p = drive_piece(&d, 0, L, 0, n);
    p.prompt_out = out;
    p.prompt_top = SAMPLE_TOP_MAX;
    assert_int_equal(engine_step(e, &(struct batch){.n_piece = 1, .piece = &p}, &step, NULL), OK);
    drive_fini(&d);
    return out;
}

static void take(struct tally *t, const struct sample_out *o, const struct best *want)
{
    int k = 0;
    while (k < o->n_top && o->top_id[k] != want->id) k++;
    assert_true(k < o->n_top); /* among the twenty best, or it moved far beyond the limit */
    t->n++;
    t->same += k == 0;
    t->moved += fabs((double)o->top_logprob[k] - (double)want->logprob);
}

/* Runs all prompts: the exact engine fills want, the other one is compared with it. Returns how many
 * positions there are. */
static int run(enum engine_dtype dtype, struct best *want, struct tally *t)
{
    struct engine_conf c = drive_conf(DRIVE_SMOLLM2, dtype, CHUNK);
    struct engine *e = drive_open(&c);
    cJSON *greedy = golden("tests/goldens/greedy.json"), *routes = golden("tests/goldens/routes.json");
    const cJSON *k, *o;
    int32_t ids[DRIVE_TOK];
    int at = 0, n_case = cJSON_GetArraySize(cJSON_GetObjectItem(greedy, "cases"));
    for (int i = 0; i <= n_case; i++) {
        int n;
        if (i < n_case) {
            k = cJSON_GetArrayItem(cJSON_GetObjectItem(greedy, "cases"), i);
            n = read_ids(cJSON_GetObjectItem(k, "prompt"), ids);
            cJSON_ArrayForEach(o, cJSON_GetObjectItem(k, "out")) ids[n++] = int_of(o, "id");
        } else {
            read_ids(cJSON_GetArrayItem(cJSON_GetObjectItem(routes, "prompts"), 0), ids);
            n = LONG_TOK;
        }
        struct sample_out *out = force(e, ids, n);
        for (int p = 1; p < n; p++, at++) {
            assert_true(at < FORCED_MOST && !out[p].bad);
            if (dtype == ENGINE_DTYPE_F32)
                want[at] = (struct best){out[p].top_id[0], out[p].top_logprob[0]};
            else
                take(t, &out[p], &want[at]);
        }
        free(out);
    }
    cJSON_Delete(greedy);
    cJSON_Delete(routes);
    engine_close(e);
    return at;
}

static void auto_picks_what_f32_picks(void **state)
{
    (void)state;
    static struct best want[FORCED_MOST];
    struct tally t = {0};
    int n = run(ENGINE_DTYPE_F32, want, NULL);
    assert_int_equal(run(ENGINE_DTYPE_AUTO, want, &t), n);
    printf(
        "auto beside f32: %d teacher-forced tokens, %.2f%% the same best one, its logprob moved by %.4f in the mean\n",
        t.n, 100.0 * t.same / t.n, t.moved / t.n);
    assert_true(t.n >= 500);
    assert_true(t.same >= 0.97 * t.n);
    assert_true(t.moved < 0.02 * t.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(auto_picks_what_f32_picks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
