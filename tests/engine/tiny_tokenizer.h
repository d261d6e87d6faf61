/* tiny_tokenizer: a directory with a small tokenizer.json and what stands beside it, for tests that read and
 * break it. */
#ifndef FLUXD_TESTS_ENGINE_TINY_TOKENIZER_H
#define FLUXD_TESTS_ENGINE_TINY_TOKENIZER_H

#include "tests/base/cm.h"

#include <stdio.h>

/* Every part that is read stands in it once. */
#define TINY_TOKENIZER                                                                                                   \
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n"                                                       \
    "\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"           \
    "\"normalized\":false,\"special\":true},\n"                                                                          \
    "{\"id\":20,\"content\":\"</s>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":false,"        \
    "\"special\":true},\n"                                                                                               \
    "{\"id\":21,\"content\":\"<t\\u00e9>\",\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":false}],\n" \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]},\n"                                     \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"            \
    "\"[a-z ]+|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Digits\",\"individual_digits\":true},"  \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]},\n"                 \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}," \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],"  \
    "\"tokens\":[\"<s>\"]}}},\n"                                                                                         \
    "\"decoder\":{\"type\":\"ByteLevel\"},\n"                                                                            \
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"                \
    "\"end_of_word_suffix\":\"\",\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":true,\n"                   \
    "\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"c\":3,\"\\u0120\":4,\"1\":5,\"2\":6,\"\\u00c3\":7,\"\\u00a9\":8,\"\\\"\":9," \
    "\"ab\":10,\"abc\":11,\"\\u0120a\":12,\"\\u00c3\\u00a9\":13,\"ca\":14,\"<\":15,\"s\":16,\">\":17},\n"                \
    "\"merges\":[\"a b\",[\"ab\",\"c\"],\"\\u0120 a\",[\"\\u00c3\",\"\\u00a9\"]]}}\n"

#define TINY_CONFIG                                                                                                     \
    "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":{\"__type\":\"AddedToken\",\"content\":\"<s>\"},\n" \
    "\"eos_token\":\"</s>\",\"add_bos_token\":true,\"add_eos_token\":false,\"pad_token\":null,\n"                       \
    "\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},{\"name\":\"default\",\"template\":\"D\\u00e9\\n\"}]}\n"

#define TINY_GENERATION                                                                                              \
    "{\"eos_token_id\":[20,0],\"bos_token_id\":0,\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":20," \
    "\"repetition_penalty\":1.05}\n"

enum { TINY_FILES = 4 };
static const char *const tiny_name[TINY_FILES] = {"tokenizer.json", "tokenizer_config.json",
                                                  "generation_config.json", "chat_template.jinja"};

static inline void tiny_path(char path[128], const char *dir, int file)
{
    snprintf(path, 128, "%s/%s", dir, tiny_name[file]);
}

/* text NULL: the file is not there. */
static inline void tiny_put(const char *dir, int file, const void *text, size_t n)
{
    char path[128];
    tiny_path(path, dir, file);
    remove(path);
    if (!text) return;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void tiny_make(char dir[32])
{
    static const char *const text[TINY_FILES] = {TINY_TOKENIZER, TINY_CONFIG, TINY_GENERATION, NULL};
    strcpy(dir, "/tmp/fluxd-tiny-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < TINY_FILES; i++) tiny_put(dir, i, text[i], text[i] ? strlen(text[i]) : 0);
}

static inline void tiny_remove(const char *dir)
{
    for (int i = 0; i < TINY_FILES; i++) tiny_put(dir, i, NULL, 0);
    remove(dir);
}

#endif
