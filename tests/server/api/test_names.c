/* names: what the model may be called. */
#include "server/api/names.h"

#include <string.h>

#include "tests/base/cm.h"

static void a_model_is_called_as_its_file_is(void **state)
{
    (void)state;
    static const struct {
        const char *served, *path, *inside, *id, *alias[MODEL_ALIASES_MOST];
    } t[] = {
        {"",
         "models/SmolLM2-135M-Instruct.Q4_1.gguf",
         "Smollm2 135M 8k",
         "SmolLM2-135M-Instruct.Q4_1",
         {"SmolLM2-135M-Instruct", "Smollm2 135M 8k"}},
        {"", "/m/llama-7b-Q4_K_M-00001-of-00003.gguf", "llama", "llama-7b-Q4_K_M", {"llama-7b", "llama"}},
        {"", "x-IQ2_XXS.GGUF", "", "x-IQ2_XXS", {"x"}},
        {"", "x.bf16.gguf", "x", "x.bf16", {"x"}},
        {"", "/models/Qwen3-8B//", "Qwen3-8B", "Qwen3-8B", {0}},
        {"", "./qwen-of-2.5", "qwen", "qwen-of-2.5", {"qwen"}},
        {"", ".", "tiny", "tiny", {0}},
        {"", "/", "tiny", "tiny", {0}},
        {"", "\xff.gguf", "tiny", "tiny", {0}},
        {"mine", "x.Q8_0.gguf", "y", "mine", {0}},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct model_names n;
        int k = 0;
        model_names_init(&n, t[i].served, t[i].path, t[i].inside);
        assert_string_equal(n.id, t[i].id);
        assert_true(model_names_has(&n, t[i].id));
        for (; k < MODEL_ALIASES_MOST && t[i].alias[k]; k++) assert_string_equal(n.alias[k], t[i].alias[k]);
        assert_int_equal(n.n_alias, k);
        for (int j = 0; j < k; j++) assert_true(model_names_has(&n, t[i].alias[j]));
        assert_false(model_names_has(&n, "gpt-4"));
        assert_false(model_names_has(&n, ""));
    }
}

static void a_refusal_says_which_names_there_are(void **state)
{
    (void)state;
    struct model_names n;
    struct err_note note;
    char path[400];
    model_names_init(&n, "", "a.Q8_0.gguf", "inside");
    assert_int_equal(model_names_refuse(&n, "gpt-4", &note), ERR_MODEL_NOT_FOUND);
    assert_non_null(strstr(note.text, "\"gpt-4\""));
    assert_non_null(strstr(note.text, "\"a.Q8_0\", \"a\", \"inside\""));
    memset(path, 'x', sizeof path - 1); /* too long for a name */
    path[sizeof path - 1] = '\0';
    model_names_init(&n, "", path, "inside");
    assert_string_equal(n.id, "inside");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_called_as_its_file_is),
        cmocka_unit_test(a_refusal_says_which_names_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
