/* rule_args: see rule_args.h. Where arguments are one JSON object the schema says all. Where each stands by
 * itself they come in the schema's order, those that are required always. */
#include "server/api/rule_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum err no_memory(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static enum err refuse(struct json_in *in, const char *place, const char *key, const char *keyword)
{
    char at[256];
    snprintf(at, sizeof at, "%s%s%s/%s", place, key ? "/properties/" : "", key ? key : "", keyword);
    return json_in_fail(in, ERR_UNSUPPORTED, at,
                        "is not supported where a model writes arguments one by one");
}

/* The JSON text of node, with more members in front of its own. NULL: out of memory. */
static const char *text_of(struct arena *mem, const cJSON *node, const char *more)
{
    char *own = cJSON_PrintUnformatted(node), *out = NULL;
    if (own && *more && own[0] == '{') {
        const size_t n = strlen(own) + strlen(more) + 3;
        out = arena_alloc(mem, n);
        if (out) snprintf(out, n, "{%s%s%s", more, own[1] == '}' ? "" : ",", own + 1);
    } else if (own) {
        out = arena_strndup(mem, own, strlen(own));
    }
    free(own);
    return out;
}

static enum err whole_object(struct parts *p, const cJSON *schema, const char *place, struct json_in *in)
{
    const bool typed = schema && json_in_get(schema, "type") != NULL;
    const char *text =
        !schema ? "{\"type\":\"object\"}" : text_of(p->mem, schema, typed ? "" : "\"type\":\"object\"");
    if (!text) return no_memory(in);
    parts_body(p, GRAMMAR_SCHEMA, text, place);
    return OK;
}

/* --- arguments one by one */

struct one_by_one {
    struct parts *p;
    const struct tool_format *f;
    const cJSON *schema;
    const char *place, *defs; /* members of the schema that its properties may refer to */
    struct json_in *in;
};

static enum err check_keywords(const struct one_by_one *o, const cJSON *schema, const char *key,
                               const char *const *known)
{
    for (const cJSON *c = schema->child; c; c = c->next) {
        bool fine = false;
        for (int i = 0; known[i] && !fine; i++) fine = !strcmp(known[i], c->string);
        if (!fine) return refuse(o->in, o->place, key, c->string);
    }
    return OK;
}

static bool is_text(const cJSON *schema)
{
    const cJSON *type = json_in_get(schema, "type");
    return cJSON_IsString(type) && !strcmp(type->valuestring, "string");
}

/* A string as it stands, up to its close. */
static enum err plain_string(struct one_by_one *o, struct parts *to, const cJSON *property)
{
    static const char *const known[] = {"type", "description", "title", "default", "examples", "enum", NULL};
    const struct tool_format *f = o->f;
    const cJSON *list = json_in_get(property, "enum");
    const enum err e = check_keywords(o, property, property->string, known);
    if (e) return e;
    if (list) {
        const char *text = text_of(to->mem, list, "");
        if (!text) return no_memory(o->in);
        parts_body(to, GRAMMAR_CHOICE, text, o->place);
        parts_marks(to, f->value_close);
        return OK;
    }
    /* the close ends a value wherever it stands, so none may stand inside */
    size_t n = strlen(f->value_close), lead = 0;
    while (n > 0 && json_is_space(f->value_close[n - 1])) n--;
    while (lead < n && json_is_space(f->value_close[lead])) lead++;
    const char **avoid = arena_alloc(to->mem, sizeof *avoid);
    if (!avoid || !(*avoid = arena_strndup(to->mem, f->value_close + lead, n - lead)))
        return no_memory(o->in);
    parts_add(to, (struct grammar_part){
                      .kind = GRAMMAR_UNTIL, .text = f->value_close, .n = n, .avoid = avoid, .n_avoid = 1});
    parts_text(to, f->value_close + n);
    return OK;
}

static enum err add_property(struct one_by_one *o, struct parts *to, const cJSON *property)
{
    const struct tool_format *f = o->f;
    const bool python = f->style == TOOL_PYTHON;
    parts_marks(to, f->key_open);
    parts_text(to, property->string);
    parts_marks(to, python ? "=" : f->key_close);
    if (!python && is_text(property)) return plain_string(o, to, property);
    const char *text = text_of(to->mem, property, cJSON_IsObject(property) ? o->defs : "");
    if (!text) return no_memory(o->in);
    parts_body(to, GRAMMAR_SCHEMA, text, o->place);
    parts_marks(to, f->value_close);
    return OK;
}

static bool is_required(const cJSON *schema, const char *key)
{
    const cJSON *list = json_in_get(schema, "required");
    for (const cJSON *c = cJSON_IsArray(list) ? list->child : NULL; c; c = c->next)
        if (cJSON_IsString(c) && !strcmp(c->valuestring, key)) return true;
    return false;
}

/* "", or the schema's definitions as members. */
static const char *definitions(struct arena *mem, const cJSON *schema)
{
    static const char *const name[] = {"$defs", "definitions"};
    struct strbuf s;
    strbuf_init(&s);
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        const cJSON *node = json_in_get(schema, name[i]);
        char *text = node ? cJSON_PrintUnformatted(node) : NULL;
        if (node && !text) s.failed = true;
        if (text) strbuf_printf(&s, "%s\"%s\":", s.len ? "," : "", name[i]);
        strbuf_puts(&s, text ? text : "");
        free(text);
    }
    const char *out = strbuf_failed(&s) ? NULL : arena_strndup(mem, s.data ? s.data : "", s.len);
    strbuf_fini(&s);
    return out;
}

/* Every one but the first of a call has a separator in front; which one is first depends on those that are
 * left out, so each may be, up to the first that is required. */
static enum err with_separators(struct one_by_one *o, const cJSON *first)
{
    struct arena *mem = o->p->mem;
    struct parts ways = {.mem = mem};
    bool failed = false;
    for (const cJSON *c = first; c; c = c->next) { /* c is the first */
        struct parts way = {.mem = mem};
        enum err e = add_property(o, &way, c);
        for (const cJSON *d = c->next; d && !e; d = d->next) {
            struct parts more = {.mem = mem};
            parts_text(&more, ", ");
            e = add_property(o, &more, d);
            const struct grammar_part one = parts_as(&more, GRAMMAR_SEQ);
            parts_add(&way, is_required(o->schema, d->string) ? one : part_times(mem, one, 0, 1, &failed));
            failed = failed || more.failed;
        }
        if (e) return e;
        parts_add(&ways, parts_as(&way, GRAMMAR_SEQ));
        failed = failed || way.failed;
        if (is_required(o->schema, c->string)) {
            parts_add(o->p, parts_as(&ways, GRAMMAR_ALT));
            return failed || ways.failed ? no_memory(o->in) : OK;
        }
    }
    parts_add(&ways, (struct grammar_part){.kind = GRAMMAR_SEQ});
    parts_add(o->p, parts_as(&ways, GRAMMAR_ALT));
    return failed || ways.failed ? no_memory(o->in) : OK;
}

static enum err each_property(struct one_by_one *o, const cJSON *first)
{
    bool failed = false;
    for (const cJSON *c = first; c; c = c->next) {
        struct parts one = {.mem = o->p->mem};
        const enum err e = add_property(o, &one, c);
        if (e) return e;
        const struct grammar_part all = parts_as(&one, GRAMMAR_SEQ);
        parts_add(o->p, is_required(o->schema, c->string) ? all : part_times(o->p->mem, all, 0, 1, &failed));
        failed = failed || one.failed;
    }
    return failed ? no_memory(o->in) : OK;
}

enum err rule_args(struct parts *p, const struct tool_format *f, const cJSON *schema, const char *place,
                   struct json_in *in)
{
    static const char *const known[] = {"type",        "properties",  "required", "additionalProperties",
                                        "$schema",     "description", "title",    "$defs",
                                        "definitions", NULL};
    if (f->style != TOOL_TAGGED && f->style != TOOL_PYTHON) return whole_object(p, schema, place, in);
    if (!schema) return OK;
    struct one_by_one o = {.p = p, .f = f, .schema = schema, .place = place, .in = in};
    const cJSON *properties = json_in_get(schema, "properties"), *required = json_in_get(schema, "required");
    enum err e = check_keywords(&o, schema, NULL, known);
    for (const cJSON *c = cJSON_IsArray(required) ? required->child : NULL; c && !e; c = c->next)
        if (!cJSON_IsString(c) || !cJSON_GetObjectItemCaseSensitive(properties, c->valuestring))
            e = refuse(in, place, NULL, "required");
    if (e || !cJSON_IsObject(properties)) return e;
    o.defs = definitions(p->mem, schema);
    if (!o.defs) return no_memory(in);
    return f->style == TOOL_PYTHON ? with_separators(&o, properties->child)
                                   : each_property(&o, properties->child);
}
