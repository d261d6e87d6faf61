/* Laws of reading a directory's tokenizer: what is taken over, what is refused, and by which name. */
#include "tests/engine/tiny_tokenizer.h"

#include <math.h>
#include <sys/stat.h>

#include "server/text/assets.h"

enum { SPECIAL = 1, ADDED = 2, UNUSED = 3 }; /* server/text/tokenizer.h, enum token_kind */

static char dir[32];

static struct text_assets *open_dir(void)
{
    struct text_assets *t;
    struct err_note note = {0};
    if (text_assets_open(&t, dir, &note) != OK) fail_msg("%s", note.text);
    return t;
}

/* File with every `from` replaced by `to`. */
static void put_with(int file, const char *from, const char *to)
{
    static const char *const whole[] = {TINY_TOKENIZER, TINY_CONFIG, TINY_GENERATION};
    static char text[8192];
    size_t n = 0, len = strlen(from);
    int times = 0;
    for (const char *p = whole[file]; *p;) {
        bool here = len && strncmp(p, from, len) == 0;
        n += (size_t)snprintf(text + n, sizeof text - n, "%.*s", here ? (int)strlen(to) : 1, here ? to : p);
        p += here ? len : 1;
        times += here;
    }
    if (len && times == 0) fail_msg("the file has no %s", from);
    tiny_put(dir, file, text, n);
}

static void assert_refused(int file, const char *from, const char *to, const char *says)
{
    struct text_assets *t = NULL;
    struct err_note note = {0};
    char path[128];
    tiny_path(path, dir, file);
    put_with(file, from, to);
    if (text_assets_open(&t, dir, &note) != ERR_MODEL_FILE)
        fail_msg("%s for %s was not refused: %s", to, from, note.text);
    if (!strstr(note.text, path) || !strstr(note.text, says))
        fail_msg("\"%s\" does not name %s and %s", note.text, path, says);
    put_with(file, "", "");
}

static struct text_assets *open_with(int file, const char *from, const char *to)
{
    put_with(file, from, to);
    struct text_assets *t = open_dir();
    put_with(file, "", "");
    return t;
}

static void everything_is_taken_over(void **state)
{
    (void)state;
    struct text_assets *t = open_dir();
    assert_int_equal(t->n_piece, 22);
    assert_string_equal(t->piece[4], "\xC4\xA0");
    assert_string_equal(t->piece[9], "\"");
    assert_string_equal(t->piece[21], "<t\xC3\xA9>");
    assert_int_equal(t->piece_len[21], 5);
    assert_int_equal(t->kind[0], SPECIAL);
    assert_int_equal(t->kind[1], 0);
    assert_int_equal(t->kind[18], UNUSED);
    assert_int_equal(t->piece_len[18], 0);
    assert_int_equal(t->kind[20], SPECIAL);
    assert_int_equal(t->trait[20], 3);
    assert_int_equal(t->kind[21], ADDED);
    assert_int_equal(t->trait[21], 4);
    assert_int_equal(t->n_merge, 4);
    assert_string_equal(t->merge[0], "a b");
    assert_string_equal(t->merge[1], "ab c");
    assert_int_equal(t->merge_at[0], 1);
    assert_int_equal(t->merge_at[1], 2);
    assert_int_equal(t->n_pattern, 2);
    assert_string_equal(t->pattern[0], "[a-z ]+|\\s+");
    assert_int_equal(t->split[0], 0);
    assert_int_equal(t->split[1], 2);
    assert_true(t->nfc && t->ignore_merges && t->add_bos && !t->add_eos && !t->pre);
    assert_int_equal(t->bos_id, 0);
    assert_int_equal(t->eos_id, 20);
    assert_int_equal(t->unk_id, -1);
    assert_string_equal(t->chat_template, "D\xC3\xA9\n");
    assert_int_equal(t->chat_template_len, 4);
    assert_true(t->temperature == 0.6 && t->top_p == 0.9 && t->top_k == 20 && t->repetition_penalty == 1.05);
    text_assets_close(t);
}

static void the_files_beside_it_are_optional(void **state)
{
    (void)state;
    tiny_put(dir, 1, NULL, 0);
    struct text_assets *t = open_dir();
    assert_true(!t->chat_template && t->bos_id == 0 && t->add_bos);
    assert_int_equal(t->eos_id, 20); /* generation_config.json's first */
    text_assets_close(t);
    tiny_put(dir, 2, NULL, 0);
    t = open_dir();
    assert_int_equal(t->eos_id, -1);
    assert_true(isnan(t->temperature) && isnan(t->top_p) && isnan(t->repetition_penalty) && t->top_k == -1);
    text_assets_close(t);
    tiny_put(dir, 0, NULL, 0);
    struct err_note note = {0};
    assert_int_equal(text_assets_open(&t, dir, &note), ERR_IO);
    assert_non_null(strstr(note.text, "/tokenizer.json"));
    for (int i = 0; i < 3; i++) put_with(i, "", "");
}

static void a_template_comes_from_its_own_file_first(void **state)
{
    (void)state;
    struct text_assets *t = open_with(
        1, "[{\"name\":\"tool_use\",\"template\":\"T\"},{\"name\":\"default\",\"template\":\"D\\u00e9\\n\"}]",
        "\"S\"");
    assert_string_equal(t->chat_template, "S");
    text_assets_close(t);
    t = open_with(1, "\"default\"", "\"other\"");
    assert_null(t->chat_template);
    text_assets_close(t);
    tiny_put(dir, 3, "J\n", 2);
    t = open_dir();
    assert_string_equal(t->chat_template, "J\n");
    text_assets_close(t);
    tiny_put(dir, 3, NULL, 0);
}

static void what_stands_before_a_text_is_what_tokenizer_json_says(void **state)
{
    (void)state;
    struct text_assets *t =
        open_with(0, "\"TemplateProcessing\"", "\"ByteLevel\""); /* then the flags count */
    assert_true(t->add_bos && !t->add_eos && t->bos_id == 0);
    text_assets_close(t);
    t = open_with(1, "\"add_bos_token\":true,\"add_eos_token\":false",
                  "\"add_bos_token\":false,\"add_eos_token\":true");
    assert_true(t->add_bos && !t->add_eos);
    text_assets_close(t);
    tiny_put(dir, 1, NULL, 0);
    t = open_with(0, "\"ids\":[0]", "\"ids\":[21]"); /* a bos of its own, where no other is named */
    assert_true(t->add_bos && t->bos_id == 21);
    text_assets_close(t);
    put_with(1, "", "");
    assert_refused(0, "\"single\":[", "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},", "post_processor");
}

static void steps_of_every_kind_are_known(void **state)
{
    (void)state;
    struct text_assets *t = open_with(0, "\"use_regex\":false", "\"use_regex\":true");
    assert_int_equal(t->n_pattern, 3);
    assert_int_equal(t->split[2], 4);
    text_assets_close(t);
    t = open_with(0, "\"individual_digits\":true", "\"individual_digits\":false");
    assert_int_equal(t->split[1], 3);
    text_assets_close(t);
    t = open_with(0, "{\"Regex\":", "{\"String\":");
    assert_int_equal(t->split[0], 1);
    text_assets_close(t);
    t = open_with(0, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", "null");
    assert_false(t->nfc);
    text_assets_close(t);
}

static void what_is_not_supported_or_wrong_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        int file;
        const char *from, *to, *says;
    } row[] = {
        {0, "\"BPE\"", "\"Unigram\"", "model"},
        {0, "\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback"},
        {0, "\"dropout\":null", "\"dropout\":0.1", "dropout"},
        {0, "\"dropout\":null", "\"dropout\":\"0\"", "dropout"},
        {0, "\"ignore_merges\":true", "\"ignore_merges\":1", "ignore_merges"},
        {0, "\"byte_fallback\":false", "\"byte_fallback\":\"true\"", "byte_fallback"},
        {0, "\"lstrip\":true", "\"lstrip\":\"yes\"", "lstrip"},
        {0, "\"individual_digits\":true", "\"individual_digits\":[]", "individual_digits"},
        {0, "\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
         "continuing_subword_prefix"},
        {0, "\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix"},
        {0, "\"unk_token\":null", "\"unk_token\":\"none\"", "unk_token"},
        {0, "\"b\":2", "\"b\":1", "same id"},
        {0, "\"b\":2", "\"a\":2", "duplicate"},
        {0, "\"b\":2", "\"b\":-1", "model.vocab"},
        {0, "\"b\":2", "\"b\":2.5", "model.vocab"},
        {0, "\"b\":2", "\"b\":2000000000", "model.vocab"},
        {0, "\"id\":21", "\"id\":\"21\"", "added_tokens"},
        {0, "\"id\":21", "\"id\":20", "added_tokens"},
        {0, "\"id\":21", "\"id\":3", "added_tokens"},
        {0, "\"content\":\"<t\\u00e9>\"", "\"content\":\"ab\"", "added_tokens"},
        {0, "\"content\":\"</s>\",\"single_word\":false", "\"content\":\"</s>\",\"single_word\":true",
         "single_word"},
        {0, "\"a b\"", "\"ab\"", "model.merges"},
        {0, "\"a b\"", "\"a b c\"", "model.merges"},
        {0, "[\"ab\",\"c\"]", "[\"ab\"]", "model.merges"},
        {0, "[\"ab\",\"c\"]", "[\"ab\",\"c\",\"a\"]", "model.merges"},
        {0, "[\"ab\",\"c\"]", "{\"ab\":\"c\"}", "model.merges"},
        {0, "[\"ab\",\"c\"]", "7", "model.merges"},
        {0, "\"NFC\"", "\"Lowercase\"", "normalizer"},
        {0, "\"Isolated\"", "\"Removed\"", "behavior"},
        {0, "\"Digits\"", "\"Whitespace\"", "pre_tokenizer"},
        {0, "\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space"},
        {0, "\"Regex\":\"[a", "\"Regex\":\"\\u0000[a", "NUL"},
        {0, "\"TemplateProcessing\"", "\"BertProcessing\"", "post_processor"},
        {0, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}",
         "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}", "post_processor"},
        {0, "\"ids\":[0]", "\"ids\":[0,1]", "post_processor"},
        {0, "\"ids\":[0]", "\"ids\":[22]", "post_processor"},
        {0, "\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Metaspace\"", "decoder"},
        {1, "\"content\":\"<s>\"", "\"content\":\"</s>\"", "bos_token"},
        {1, "\"eos_token\":\"</s>\"", "\"eos_token\":\"<end>\"", "eos_token"},
        {1, "\"eos_token\":\"</s>\"", "\"eos_token\":7", "eos_token"},
        {1, "[{\"name\":\"tool_use\"", "7,\"x\":[{\"name\":\"tool_use\"", "chat_template"},
        {1, "{\"name\":\"tool_use\",\"template\":\"T\"}", "5", "chat_template"},
        {1, "\"add_bos_token\":true", "\"add_bos_token\":\"yes\"", "add_bos_token"},
        {1, "\"add_eos_token\":false", "\"add_eos_token\":0", "add_eos_token"},
        {2, "[20,0]", "[20,22]", "eos_token_id"},
        {2, "[20,0]", "[]", "eos_token_id"},
        {2, "[20,0]", "-1", "eos_token_id"},
        {2, "0.6", "-0.6", "temperature"},
        {2, "0.9", "1.1", "top_p"},
        {2, "\"top_k\":20", "\"top_k\":\"20\"", "top_k"},
        {2, "\"top_k\":20", "\"top_k\":20.5", "top_k"},
        {2, "1.05", "0", "repetition_penalty"},
        {2, "1.05", "1e999", "repetition_penalty"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_refused(row[i].file, row[i].from, row[i].to, row[i].says);
}

/* Each file in turn is a pipe that nobody writes to. */
static void pipes_are_refused_and_not_waited_for(void **state)
{
    (void)state;
    for (int file = 0; file < TINY_FILES; file++) {
        struct text_assets *t = NULL;
        struct err_note note = {0};
        char path[128];
        tiny_path(path, dir, file);
        tiny_put(dir, file, NULL, 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(text_assets_open(&t, dir, &note), ERR_MODEL_FILE);
        assert_non_null(strstr(note.text, path));
        assert_int_equal(remove(path), 0);
        if (file < 3) put_with(file, "", "");
    }
}

static int make_dir(void **state)
{
    (void)state;
    tiny_make(dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    tiny_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_taken_over),
        cmocka_unit_test(the_files_beside_it_are_optional),
        cmocka_unit_test(a_template_comes_from_its_own_file_first),
        cmocka_unit_test(what_stands_before_a_text_is_what_tokenizer_json_says),
        cmocka_unit_test(steps_of_every_kind_are_known),
        cmocka_unit_test(what_is_not_supported_or_wrong_is_refused_by_name),
        cmocka_unit_test(pipes_are_refused_and_not_waited_for),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
