/* fuzz_template: chat templates, compiled and rendered over one conversation. */
#include "tests/fuzz/fuzz.h"

#include "tests/server/jinja/template_json.h"

static const char context_json[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\\u00e9\"},{\"role\":\"user\",\"content\":\" hi <|x|> \\ud83c\\udf0d\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"abcdefghi\",\"function\":{\"name\":\"f\",\"arguments\":"
    "{\"a\":1,\"b\":[true,null,2.5,{\"c\":\"d\"}]}}}]},{\"role\":\"tool\",\"content\":\"42\",\"name\":\"f\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]}],\"tools\":[{\"type\":\"function\",\"function\":"
    "{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}}}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"n\":3,\"x\":1.5,\"s\":\"abc\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static cJSON *context;
    struct tmpl *t;
    struct err_note note = {0};
    if (!context) context = cJSON_Parse(context_json);
    enum err e = tmpl_compile(&t, (const char *)data, n, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    struct arena a;
    struct tmpl_rendering out = {.max_bytes = 1 << 16};
    arena_init(&a, 1 << 22);
    strbuf_init(&out.text);
    e = tmpl_render(t, &a, value_from_json(&a, context, 0), &out, &note);
    if (e != OK) fuzz_refused(e, &note);
    for (size_t i = 0; e == OK && i < out.n_span; i++) /* sorted, apart, inside */
        FUZZ_CHECK(out.span[i].start < out.span[i].end && out.span[i].end <= out.text.len &&
                   (i == 0 || out.span[i - 1].end <= out.span[i].start));
    strbuf_fini(&out.text);
    arena_fini(&a);
    tmpl_free(t);
    return 0;
}
