/* Hugging Face directories that lie: in two good models (shards with an index; routers in the checkpoint)
 * every value of the configuration and of the index becomes something else, files are cut, exchanged, damaged
 * or taken away. */
#include "tests/engine/mutate_dir.h"

static const char *const wild[] = {"null",
                                   "true",
                                   "0",
                                   "1",
                                   "-1",
                                   "3",
                                   "1.5",
                                   "1e300",
                                   "65536",
                                   "16777216",
                                   "2147483648",
                                   "9223372036854775808",
                                   "1e999",
                                   "NaN",
                                   "\"\"",
                                   "\"linear\"",
                                   "\"../config.json\"",
                                   "\"/etc/passwd\"",
                                   "\"config.json\"",
                                   "\"x\\u0000\"",
                                   "\"\\ud800\"",
                                   "\"\xff\"",
                                   "[]",
                                   "[[]]",
                                   "{}",
                                   "[1,99999999]",
                                   ""};

/* Every value behind a colon (or in a list of strings) in turn. */
static void change_values(const struct file *f)
{
    char what[160];
    for (size_t i = 0; i < f->n; i++) {
        if (f->data[i] != ':') continue;
        size_t at = i + 1;
        while (f->data[at] == ' ' || f->data[at] == '\n') at++;
        size_t n = f->data[at] == '"' ? (size_t)(strchr(f->data + at + 1, '"') - f->data) - at + 1
                                      : strcspn(f->data + at, ",}\n");
        for (size_t k = 0; k < sizeof wild / sizeof *wild; k++) {
            snprintf(what, sizeof what, "%.60s: value at %zu becomes %s", f->path, at, wild[k]);
            try_with(f, at, n, wild[k], strlen(wild[k]), what);
        }
        if (f->n > 4096) i += f->n / 40; /* an index is more of the same */
    }
}

static void cut_text(const struct file *f)
{
    char what[160];
    for (size_t cut = 0; cut + 2 < f->n; cut += 1 + f->n / 60) {
        snprintf(what, sizeof what, "%.60s cut at %zu", f->path, cut);
        if (try_with(f, cut, f->n - cut, "", 0, what)) fail_msg("%s: was accepted", what);
    }
}

static void damage(const struct file *f, size_t first, size_t last, int times, uint32_t own)
{
    uint32_t seed = mutate_seed(own);
    for (int i = 0; i < times; i++) {
        char to = (char)(i % 2 ? mutate_next(&seed)
                               : (uint32_t) "0123456789,:[]{}\"aFZ.\\"[mutate_next(&seed) % 22]);
        try_with(f, first + mutate_next(&seed) % (last - first), 1, &to, 1, "a damaged byte");
    }
}

static void wreck_tensors(const struct file *f)
{
    uint64_t n_head;
    memcpy(&n_head, f->data, 8);
    const size_t cuts[] = {0,       7, 8, 9, 8 + n_head / 2, 8 + n_head, 9 + n_head, (8 + n_head + f->n) / 2,
                           f->n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        if (try_with(f, cuts[i], f->n - cuts[i], "", 0, "cut tensors"))
            fail_msg("%s cut at %zu was accepted", f->path, cuts[i]);
    if (try_with(f, f->n, 0, "x", 1, "a byte too many")) fail_msg("a byte too many was accepted");
    damage(f, 0, 8 + n_head, 120, (uint32_t)n_head);
    damage(f, 8 + n_head, f->n, 10, 5);
    remove(f->path);
    assert_false(try_dir("a missing file"));
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_false(try_dir("a directory in a file's place"));
    assert_int_equal(rmdir(f->path), 0);
    restore(f);
}

static void wreck(const char *name, const char *const *files)
{
    n_refused = n_loaded = 0;
    copy_model(name, files);
    assert_int_equal(load_dir(NULL), OK); /* what oneDNN makes at its first use stays out of the count */
    assert_true(try_dir("the good model"));
    for (int i = 0; i < n_file; i++) {
        if (strstr(file[i].path, ".json")) {
            change_values(&file[i]);
            cut_text(&file[i]);
            damage(&file[i], 0, file[i].n, 60, 77);
        } else
            wreck_tensors(&file[i]);
    }
    assert_true(try_dir("the good model again"));
    printf("%s: %d refused, %d loaded\n", name, n_refused, n_loaded);
    assert_true(n_refused > 200 && n_loaded > 10);
}

static void broken_shards_are_refused_or_load(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00003.safetensors",
                                        "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors",
                                        NULL};
    wreck("llama3", files);
    const struct file *a = &file[2], *b = &file[3];
    if (try_with(a, 0, a->n, b->data, b->n, "exchanged shards"))
        fail_msg("a shard in another's place was accepted");
    drop_model();
}

static void broken_routers_are_refused_or_load(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "model.safetensors", NULL};
    wreck("paw_llama", files);
    drop_model();
}

/* What must not be read as something else: key, value it becomes, word of the refusal. */
static void what_is_not_understood_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "model.safetensors", NULL};
    static const char *const cases[][2] = {
        {"\"rms_norm_eps\": 0,", "rms_norm_eps"},
        {"\"eos_token_id\": [2, 64],", "eos_token_id"},
        {"\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2},", "rope_type"},
        {"\"rope_scaling\": {\"type\": \"yarn\"},", "factor"},
        {"\"vocab_size\": 65,", "model.embed_tokens.weight"},
        {"\"hidden_act\": \"gelu\",", "hidden_act"},
        {"\"num_hidden_layers\": 4,", "model.layers.3."},
        {"\"attention_bias\": true,", "self_attn.q_proj.bias"},
        {"\"toggle_type\": \"other\",", "toggle_type"},
        {"\"use_softmax\": false,", "cls_router_head_agnostic.4"},
        {"\"pool_size\": 150.5,", "pool_size"},
        {"\"local_window_size\": 0,", "local_window_size"},
        {"\"layer_types\": [\"full_attention\", \"sliding_attention\"],", "layer_types"},
        {"\"layer_types\": \"sliding_attention\",", "layer_types"},
        {"\"quantization_config\": {},", "quant_method"},
        {"\"quantization_config\": 4,", "quantization_config"},
        {"\"use_sliding_window\": true, \"sliding_window\": 128, \"max_window_layers\": 1,",
         "use_sliding_window"},
        {"\"tie_word_embeddings\": 1,", "tie_word_embeddings"},
        {"\"num_key_value_heads\": 3,", "num_key_value_heads"},
        {"\"head_dim\": 12,", "head_dim"},
        {"\"architectures\": [\"OtherForCausalLM\"],", "architectures"},
    };
    copy_model("paw_llama", files);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err_note note = {0};
        char text[TEXT_MOST], key[64];
        size_t n = strcspn(cases[i][0] + 1, "\"") + 2, at = 1, len = 0;
        snprintf(key, sizeof key, "%.*s", (int)n, cases[i][0]);
        snprintf(text, sizeof text, "%.*s", (int)file[0].n, file[0].data);
        char *old = strstr(text, key);
        if (old) { /* the line that says it, which is not the last, goes */
            at = (size_t)(old - text);
            len = key[1] == 'a' && key[2] == 'r' ? (size_t)(strstr(old, "],") - old) + 2 : strcspn(old, "\n");
        }
        char *by = strdup(cases[i][0]);
        assert_non_null(by);
        if (old && old[len - 1] != ',') by[strlen(by) - 1] = 0;
        char changed[TEXT_MOST * 2];
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)at, text, by, text + at + len);
        write_bytes(file[0].path, changed, strlen(changed));
        assert_int_equal(load_dir(&note), ERR_MODEL_FILE);
        assert_refusal(&note, dir, cases[i][1], cases[i][0]);
        free(by);
        restore(&file[0]);
    }
    drop_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_shards_are_refused_or_load),
        cmocka_unit_test(broken_routers_are_refused_or_load),
        cmocka_unit_test(what_is_not_understood_is_refused_by_name),
    };
    return run_mutations(tests, sizeof tests / sizeof *tests);
}
