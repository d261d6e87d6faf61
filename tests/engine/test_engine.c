/* engine: the laws of invariance.h on a tiny model, and refusals at open. */
#include "tests/engine/invariance.h"

#include "tests/engine/tiny_gguf.h"

static void bad_settings_are_refused_by_name(void **state)
{
    (void)state;
    struct engine_conf good = drive_conf(model_path, ENGINE_DTYPE_AUTO, CHUNK);
    struct {
        struct engine_conf c;
        const char *names;
    } bad[] = {{good, "nowhere.gguf"},      {good, "--local-window-size"}, {good, "--max-model-len"},
               {good, "--kv-pool-bytes"},   {good, "--sparse-kind"},       {good, "nowhere.safetensors"},
               {good, "--router-pool-size"}};
    bad[0].c.model = "nowhere.gguf";
    bad[1].c.local_window_size = 0;
    bad[2].c.max_model_len = 1 << 20;
    bad[3].c.kv_pool_bytes = 4096;
    bad[4].c.sparse_kind = ATTN_NONE;
    bad[5].c.router = "nowhere.safetensors";
    bad[6].c.router_pool_size = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct engine *e = NULL;
        struct err_note note = {0};
        assert_int_not_equal(engine_open(&e, &bad[i].c, &note), OK);
        assert_null(e);
        assert_string_equal(note.param, bad[i].names);
        assert_true(note.text[0]);
    }
    atomic_bool stop = true;
    good.stop = &stop;
    struct engine *e = NULL;
    assert_int_equal(engine_open(&e, &good, NULL), ERR_CANCELLED);
}

int main(void)
{
    char path[] = "/tmp/fluxd-tiny-XXXXXX";
    struct strbuf b;
    strbuf_init(&b);
    tiny_gguf_build(&b);
    tiny_write(path, b.data, b.len);
    strbuf_fini(&b);
    model_path = path;
    const struct CMUnitTest tests[] = {INVARIANCE_TESTS, cmocka_unit_test(bad_settings_are_refused_by_name)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove(path);
    return failed;
}
