/* kinds_golden: every kind of attention in the engine's exact mode against an independent fp32 reference
 * (tests/goldens/make_kinds.py). */
#include "tests/engine/golden.h"

static struct engine *open_kind(const cJSON *j, const char *plan, int sparse, int full)
{
    struct engine_conf c = drive_conf(DRIVE_SMOLLM2, ENGINE_DTYPE_F32, CHUNK);
    c.max_seqs = DRIVE_MANY;
    c.sink_size = int_of(j, "sink");
    c.local_window_size = int_of(j, "window");
    c.triangle_n_last = int_of(j, "triangle_n_last");
    c.sparse_kind = sparse;
    c.retrieval_kind = full;
    c.layer_plan = plan;
    return drive_open(&c);
}

static const cJSON *prompt_of(const cJSON *j, const cJSON *k)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(j, "prompts"), int_of(k, "prompt"));
}

/* Adds a case to those that run together. */
static void add_case(struct replay *r, struct engine *e, const cJSON *j, const cJSON *k)
{
    int32_t ids[DRIVE_TOK];
    int n = read_ids(prompt_of(j, k), ids);
    const cJSON *route = cJSON_GetObjectItem(k, "route");
    replay_add(r, e, ids, n, route ? route->valuestring : NULL, cJSON_GetObjectItem(k, "out"));
}

static void check_setting(const char *setting, int sparse, int full, double tolerance)
{
    cJSON *j = golden("tests/goldens/kinds.json");
    struct engine *e = open_kind(j, NULL, sparse, full);
    const cJSON *k;
    struct worst w = {0};
    struct replay r = {0};
    int n = 0;
    assert_int_equal(engine_info(e)->sparse_streams, sparse == ATTN_STREAMING);
    cJSON_ArrayForEach(k, cJSON_GetObjectItem(j, "kinds"))
    {
        if (strcmp(cJSON_GetObjectItem(k, "setting")->valuestring, setting) != 0) continue;
        if (left_out(cJSON_GetArraySize(prompt_of(j, k)))) continue;
        add_case(&r, e, j, k);
        n++;
    }
    replay_run(&r, (const int[2]){384, CHUNK}, tolerance, &w, NULL, NULL);
    assert_int_equal(n, drive_all() ? 10 : 9); /* lengths 1, 15, 16, 17, 127, 128, 129, 255, 1000, 1281 */
    assert_int_equal(w.n, n * 8);
    report(setting, &w);
    engine_close(e);
    cJSON_Delete(j);
}

static void triangle_equals_the_reference(void **state)
{
    (void)state;
    check_setting("triangle", ATTN_TRIANGLE, ATTN_FULL, 5e-3);
}

static void xattn_equals_the_reference(void **state)
{
    (void)state;
    check_setting("xattn", ATTN_LIST, ATTN_FULL, 2e-2);
}

static void retrieval_xattn_equals_the_reference(void **state)
{
    (void)state;
    check_setting("retrieval", ATTN_STREAMING, ATTN_LIST, 2e-2);
}

/* FlexPrefill, HyLRA, LayerBoost, split heads: each at 1,000 and 1,601 tokens. */
static void plans_equal_the_reference(void **state)
{
    (void)state;
    cJSON *j = golden("tests/goldens/kinds.json");
    const cJSON *k;
    int n = 0;
    cJSON_ArrayForEach(k, cJSON_GetObjectItem(j, "plans"))
    {
        if (left_out(cJSON_GetArraySize(prompt_of(j, k)))) continue;
        const char *plan = cJSON_GetObjectItem(k, "plan")->valuestring;
        struct worst w = {0};
        struct replay r = {0};
        struct engine *e = open_kind(j, plan, -1, -1);
        assert_non_null(engine_info(e)->fixed_route);
        add_case(&r, e, j, k);
        replay_run(&r, whole_chunks, strstr(plan, "flex") ? 2e-2 : 5e-3, &w, NULL, NULL);
        assert_int_equal(w.n, 8);
        report(plan, &w);
        n++;
        engine_close(e);
    }
    assert_int_equal(n, 4 * (drive_all() ? 2 : 1));
    cJSON_Delete(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(triangle_equals_the_reference),
        cmocka_unit_test(xattn_equals_the_reference),
        cmocka_unit_test(retrieval_xattn_equals_the_reference),
        cmocka_unit_test(plans_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
