/* golden: the engine in its exact mode against what an fp32 PyTorch reference computed
 * (tests/goldens/make_reference.py). */
#include "tests/engine/golden.h"
#include "tests/engine/hash_router.h"

static void greedy_tokens_equal_the_reference(void **state)
{
    (void)state;
    struct engine_conf c = drive_conf(DRIVE_SMOLLM2, ENGINE_DTYPE_F32, CHUNK);
    c.max_seqs = DRIVE_MANY;
    struct engine *e = drive_open(&c);
    cJSON *j = golden("tests/goldens/greedy.json");
    const cJSON *k;
    struct worst w = {0};
    struct replay r = {0};
    char full[DRIVE_LAYER + 1] = {0};
    memset(full, '1', (size_t)engine_info(e)->n_layer);
    cJSON_ArrayForEach(k, cJSON_GetObjectItem(j, "cases"))
    {
        int32_t ids[DRIVE_TOK];
        int n = read_ids(cJSON_GetObjectItem(k, "prompt"), ids);
        replay_add(&r, e, ids, n, full, cJSON_GetObjectItem(k, "out"));
    }
    replay_run(&r, whole_chunks, 2e-3, &w, NULL, NULL);
    assert_int_equal(w.n, 12 * 32);
    report("greedy", &w);
    cJSON_Delete(j);
    engine_close(e);
}

/* Three prompts, windows and routes, each with each of the others once. */
static void static_routes_equal_the_reference(void **state)
{
    (void)state;
    cJSON *j = golden("tests/goldens/routes.json");
    struct worst w = {0};
    for (int window = 128; window <= 512; window *= 2) { /* one engine for each window: it is a setting */
        struct engine_conf c = drive_conf(DRIVE_SMOLLM2, ENGINE_DTYPE_F32, CHUNK);
        c.sink_size = 128;
        c.local_window_size = window;
        struct engine *e = drive_open(&c);
        struct replay r = {0};
        const cJSON *k;
        cJSON_ArrayForEach(k, cJSON_GetObjectItem(j, "cases"))
        {
            int32_t ids[DRIVE_TOK];
            if (int_of(k, "window") != window) continue;
            assert_int_equal(int_of(k, "sink"), 128);
            int n = read_ids(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "prompts"), int_of(k, "prompt")), ids);
            if (left_out(n)) continue;
            replay_add(&r, e, ids, n, cJSON_GetObjectItem(k, "route")->valuestring,
                       cJSON_GetObjectItem(k, "out"));
        }
        replay_run(&r, whole_chunks, 5e-3, &w, NULL, NULL);
        engine_close(e);
    }
    assert_int_equal(w.n, (drive_all() ? 9 : 3) * 16);
    report("routes", &w);
    cJSON_Delete(j);
}

/* What the routers of a form should have decided, and how far their margins were off. */
struct decided {
    const cJSON *want[DRIVE_MANY];
    double margin_diff;
};

static void see_route(const struct drive *d, int i, void *arg)
{
    struct decided *r = arg;
    for (int l = 0; l < engine_info(d->e)->n_layer; l++) {
        assert_int_equal(d->route[l], cJSON_GetObjectItem(r->want[i], "route")->valuestring[l] - '0');
        double diff = fabs((double)d->margin[l] -
                           cJSON_GetArrayItem(cJSON_GetObjectItem(r->want[i], "margin"), l)->valuedouble);
        if (diff > r->margin_diff) r->margin_diff = diff;
    }
}

static void replay_form(const cJSON *j, const cJSON *form, struct worst *w, struct decided *decided)
{
    char path[] = "/tmp/fluxd-router-XXXXXX", meta[160];
    int fd = mkstemp(path), n_layer = 0;
    float bias[DRIVE_LAYER];
    const cJSON *x;
    assert_true(fd >= 0);
    close(fd);
    cJSON_ArrayForEach(x, cJSON_GetObjectItem(form, "last_bias")) bias[n_layer++] = (float)x->valuedouble;
    snprintf(
        meta, sizeof meta,
        "{\"pool_size\":\"%d.0\",\"sink_size\":\"%d\",\"local_window_size\":\"%d\",\"toggle_type\":\"streaming\"}",
        int_of(form, "pool"), int_of(form, "sink"), int_of(form, "window"));
    hash_router_write(path, (uint32_t)int_of(form, "seed"), n_layer, int_of(form, "n_out"), 64, bias, meta);
    struct engine_conf c = drive_conf(DRIVE_SMOLLM2, ENGINE_DTYPE_F32, CHUNK);
    c.router = path;
    struct engine *e = drive_open(&c);
    remove(path);
    assert_true(engine_info(e)->has_router);
    assert_int_equal(engine_info(e)->router_pool_size, int_of(form, "pool"));
    assert_int_equal(engine_info(e)->n_layer, n_layer);

    struct replay r = {0};
    const cJSON *k;
    cJSON_ArrayForEach(k, cJSON_GetObjectItem(form, "cases"))
    {
        int32_t ids[DRIVE_TOK];
        int n = read_ids(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "prompts"), int_of(k, "prompt")), ids);
        if (left_out(n)) continue;
        decided->want[r.n] = k;
        replay_add(&r, e, ids, n, NULL, cJSON_GetObjectItem(k, "out"));
    }
    replay_run(&r, whole_chunks, 5e-3, w, see_route, decided);
    engine_close(e);
}

static void route_bits_equal_the_reference(void **state)
{
    (void)state;
    cJSON *j = golden("tests/goldens/routers.json");
    const cJSON *form;
    struct worst w = {0};
    struct decided decided = {0};
    cJSON_ArrayForEach(form, cJSON_GetObjectItem(j, "forms")) replay_form(j, form, &w, &decided);
    assert_int_equal(w.n, 2 * (drive_all() ? 5 : 3) * 4);
    assert_true(decided.margin_diff < 1e-4);
    report("routers", &w);
    printf("margins within %.1e\n", decided.margin_diff);
    cJSON_Delete(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_tokens_equal_the_reference),
        cmocka_unit_test(static_routes_equal_the_reference),
        cmocka_unit_test(route_bits_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
