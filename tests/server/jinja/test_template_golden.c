/* Replays tests/goldens/templates.json: what the reference renders from a template and a context is what we
 * render, and what it refuses we refuse, in the same words when the template itself raised them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/server/jinja/template_json.h"

#define GOLDENS "tests/goldens/templates.json"

static cJSON *load(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const size_t n = (size_t)ftell(f);
    rewind(f);
    char *s = malloc(n + 1);
    assert_int_equal(fread(s, 1, n, f), n);
    s[n] = '\0';
    fclose(f);
    cJSON *j = cJSON_Parse(s);
    free(s);
    assert_non_null(j);
    return j;
}

/* The output in *text (empty when it was refused). */
static enum err render(const struct tmpl *t, const cJSON *context, struct strbuf *text, struct err_note *note)
{
    struct arena a;
    struct tmpl_rendering out = {.max_bytes = TMPL_MAX_OUTPUT_BYTES};
    arena_init(&a, TMPL_MAX_ARENA_BYTES);
    strbuf_init(&out.text);
    const enum err e = tmpl_render(t, &a, value_from_json(&a, context, 0), &out, note);
    *text = out.text;
    arena_fini(&a);
    return e;
}

static const char *word(const cJSON *c, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, key));
}

/* True when the case went as the reference says. */
static bool replay(const struct tmpl *t, const cJSON *c, const cJSON *context)
{
    const char *text = word(c, "text"), *raises = word(c, "raises");
    struct strbuf got;
    struct err_note note = {0};
    const enum err e = t ? render(t, context, &got, &note) : ERR_MODEL_FILE;
    if (!t) strbuf_init(&got);
    bool same = text ? e == OK && strcmp(got.len ? got.data : "", text) == 0 : e != OK;
    if (raises && t) same = e == ERR_TEMPLATE && strncmp(note.text, raises, sizeof note.text - 8) == 0;
    if (!same) {
        print_error("context %s\n  want %s\n  got  %s %s\n", word(c, "context"),
                    text     ? text
                    : raises ? raises
                             : "a refusal",
                    e == OK && got.len ? got.data : "", note.text);
    }
    strbuf_fini(&got);
    return same;
}

static void templates_render_as_the_reference_does(void **state)
{
    (void)state;
    cJSON *all = load(GOLDENS);
    const cJSON *templates = cJSON_GetObjectItem(all, "templates"),
                *contexts = cJSON_GetObjectItem(all, "contexts"), *c;
    int n = 0, n_wrong = 0, current = -1;
    struct tmpl *t = NULL;
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(all, "cases"))
    {
        const int i = cJSON_GetObjectItem(c, "template")->valueint;
        if (i != current) {
            const char *source = cJSON_GetArrayItem(templates, i)->valuestring;
            tmpl_free(t);
            if (tmpl_compile(&t, source, strlen(source), NULL) != OK) t = NULL;
            current = i;
        }
        n++;
        if (replay(t, c, cJSON_GetObjectItemCaseSensitive(contexts, word(c, "context")))) continue;
        print_error("  of the template %.300s\n", cJSON_GetArrayItem(templates, i)->valuestring);
        n_wrong++;
    }
    tmpl_free(t);
    cJSON_Delete(all);
    assert_true(n > 1000);
    assert_int_equal(n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(templates_render_as_the_reference_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
