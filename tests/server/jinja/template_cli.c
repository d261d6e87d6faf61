/* template_cli: renders chat templates for comparison with the reference. Every line of standard input is an
 * object:
 * {"template": text} compiles one and keeps it, {"context": object} renders it. Every line of output answers
 * one line:
 * {"text": ..., "spans": [[start, end], ...]} or {"error": ..., "at": "compile" | "render"}. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/server/jinja/template_json.h"

static cJSON *answer_error(const char *at, const struct err_note *note)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "error", note->text);
    cJSON_AddStringToObject(o, "at", at);
    return o;
}

static cJSON *render(const struct tmpl *t, const cJSON *context)
{
    struct arena a;
    struct err_note note = {0};
    struct tmpl_rendering out = {.max_bytes = TMPL_MAX_OUTPUT_BYTES};
    cJSON *o;
    arena_init(&a, TMPL_MAX_ARENA_BYTES);
    strbuf_init(&out.text);
    if (tmpl_render(t, &a, value_from_json(&a, context, 0), &out, &note) == OK) {
        o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "text", out.text.len ? out.text.data : "");
        cJSON *spans = cJSON_AddArrayToObject(o, "spans");
        for (size_t i = 0; i < out.n_span; i++) {
            const double pair[2] = {(double)out.span[i].start, (double)out.span[i].end};
            cJSON_AddItemToArray(spans, cJSON_CreateDoubleArray(pair, 2));
        }
    } else {
        o = answer_error("render", &note);
    }
    strbuf_fini(&out.text);
    arena_fini(&a);
    return o;
}

int main(void)
{
    struct tmpl *t = NULL;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        cJSON *j = cJSON_Parse(line), *o;
        struct err_note note = {.text = "nothing to do"};
        const cJSON *source = cJSON_GetObjectItemCaseSensitive(j, "template");
        const cJSON *context = cJSON_GetObjectItemCaseSensitive(j, "context");
        if (cJSON_IsString(source)) {
            tmpl_free(t);
            t = NULL;
            const enum err e = tmpl_compile(&t, source->valuestring, strlen(source->valuestring), &note);
            o = e == OK ? cJSON_CreateObject() : answer_error("compile", &note);
        } else if (t && context) {
            o = render(t, context);
        } else {
            o = answer_error("compile", &note);
        }
        char *s = cJSON_PrintUnformatted(o);
        puts(s);
        fflush(stdout);
        free(s);
        cJSON_Delete(o);
        cJSON_Delete(j);
    }
    free(line);
    tmpl_free(t);
    return 0;
}
