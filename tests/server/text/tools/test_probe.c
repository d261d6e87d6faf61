/* probe: a family is found by its template alone. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"
#include "server/text/tools/probe.h"
#include "tests/base/cm.h"

static struct tool_template probe(const char *source)
{
    struct tool_template got;
    struct tmpl *t;
    struct err_note note;
    if (tmpl_compile(&t, source, strlen(source), &note)) fail_msg("%s", note.text);
    assert_int_equal(tool_probe(&got, t), OK);
    tmpl_free(t);
    return got;
}

static void a_family_is_found_by_its_template(void **state)
{
    (void)state;
    static char text[1 << 20];
    FILE *f = fopen("tests/goldens/tool_calls.json", "rb");
    assert_non_null(f);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    cJSON *golden = cJSON_ParseWithLength(text, n);
    assert_non_null(golden);
    int n_family = 0;
    for (const cJSON *c = cJSON_GetObjectItem(golden, "templates")->child; c; c = c->next, n_family++) {
        const struct tool_template got = probe(c->valuestring);
        if (strcmp(got.format->name, c->string)) fail_msg("%s is taken for %s", c->string, got.format->name);
        assert_true(got.calls);
        assert_true(got.system);
        assert_false(got.args_as_text);
    }
    int n_row = 0;
    while (tool_formats[n_row].name) n_row++;
    assert_int_equal(n_family, n_row);
    cJSON_Delete(golden);
}

static const struct {
    const char *source, *format;
    bool tools, calls, system, as_text;
} cases[] = {
    /* knows nothing of tools */
    {"{% for m in messages %}{{ m.role + m.content }}{% endfor %}", "hermes", false, false, true, false},
    {"{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}",
     "hermes", false, false, false, false},
    /* takes arguments as a string */
    {"{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ '<tool_call>{\"name\": \"' + c.function.name + '\", \"arguments\": ' + c.function.arguments + '}</tool_call>' }}{% endfor %}{% endfor %}",
     "hermes", false, true, true, true},
    /* prints them: as a string they are what the model wrote */
    {"{{ tools }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ '[TOOL_CALLS]' ~ c.function.name ~ '[ARGS]' ~ c.function.arguments }}{% endfor %}{% endfor %}",
     "mistral_args", true, true, true, true},
    /* fails whatever it gets */
    {"{{ raise_exception('never') }}{{ messages }}", "hermes", false, false, false, false},
};

static void what_a_template_knows_is_found_by_rendering_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tool_template got = probe(cases[i].source);
        assert_string_equal(got.format->name, cases[i].format);
        assert_int_equal(got.tools, cases[i].tools);
        assert_int_equal(got.calls, cases[i].calls);
        assert_int_equal(got.system, cases[i].system);
        assert_int_equal(got.args_as_text, cases[i].as_text);
    }
    struct tool_template none;
    assert_int_equal(tool_probe(&none, NULL), OK);
    assert_string_equal(none.format->name, "hermes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_is_found_by_its_template),
        cmocka_unit_test(what_a_template_knows_is_found_by_rendering_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
