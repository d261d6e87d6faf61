/* format: see format.h. Schemas and choices are read from the body's own bytes, not from its tree, whose
 * numbers are doubles. */
#include "server/api/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/files/jdoc.h"

enum { NAME_MOST = 256, SCHEMA_STRING_MOST = 8 << 20 };

/* Members of the objects, as the tables below read them. */
struct response {
    int type;
    const cJSON *json_schema;
    struct json_any schema; /* beside "json_object": some clients put it there */
};
struct named_schema {
    struct json_any schema;
    struct json_str name, description;
    bool strict;
};
struct structured {
    struct json_any json;
    struct json_str regex, grammar;
    const cJSON *choice;
    bool json_object, no_any_space;
};

enum { TYPE_TEXT, TYPE_OBJECT, TYPE_SCHEMA };
static const char *const type_word[] = {"text", "json_object", "json_schema", NULL};

#define F(T, field, kind, member, ...)                                                                       \
    {                                                                                                        \
        .name = field, .type = kind, JSON_AT(struct T, member), __VA_ARGS__                                  \
    }

const struct json_row format_response_rows[] = {
    F(response, "type", JSON_WORD, type, .words = type_word, .flags = JSON_REQUIRED),
    F(response, "json_schema", JSON_OBJECT, json_schema),
    F(response, "schema", JSON_ANY, schema),
    {.name = NULL},
};
static const struct json_row named_schema_rows[] = {
    F(named_schema, "name", JSON_STRING, name, .max = NAME_MOST),
    F(named_schema, "description", JSON_STRING, description),
    F(named_schema, "schema", JSON_ANY, schema),
    F(named_schema, "strict", JSON_BOOL, strict), /* what is asked for is always held */
    {.name = NULL},
};
/* As vLLM names them. */
const struct json_row format_structured_rows[] = {
    F(structured, "json", JSON_ANY, json),
    F(structured, "regex", JSON_STRING, regex, .min = 1),
    F(structured, "choice", JSON_ARRAY, choice, .min_items = 1),
    F(structured, "grammar", JSON_STRING, grammar, .min = 1),
    F(structured, "json_object", JSON_BOOL, json_object),
    F(structured, "disable_any_whitespace", JSON_BOOL, no_any_space),
    {.name = "disable_fallback", .type = JSON_IGNORE}, /* there is one engine */
    {.name = "disable_additional_properties", .type = JSON_REJECT, .neutral = NAN},
    {.name = "whitespace_pattern", .type = JSON_REJECT, .neutral = NAN},
    {.name = "structural_tag", .type = JSON_REJECT, .neutral = NAN},
    {.name = NULL},
};

/* --- the bytes of a value */

static size_t place_of(const cJSON *obj, const cJSON *member)
{
    size_t i = 0;
    for (const cJSON *c = obj->child; c && c != member; c = c->next) i++;
    return i;
}

/* path: nodes from a field of the body down. The scan has checked the bytes, and the tree has what it saw, in
 * its order. */
static struct jval bytes_of(const struct json_in *in, const cJSON *const *path, size_t n_path)
{
    const size_t top = place_of(in->root, path[0]);
    CHECK(top < in->scan.n_field);
    const struct json_span *s = &in->scan.field[top].value;
    struct jval v = {in->body + s->begin, s->end - s->begin};
    for (size_t i = 1; i < n_path; i++) {
        struct jiter it = jval_iter(v);
        for (size_t k = place_of(path[i - 1], path[i]) + 1; k > 0; k--) CHECK(jiter_next(&it));
        v = it.value;
    }
    return v;
}

/* --- one constraint */

/* Of a place in the body: where it is told under, and the way to it. */
struct at {
    const char *name;
    const cJSON *path[3];
    size_t n_path;
};

static enum err put(struct format *f, struct json_in *in, enum constraint_kind kind, enum grammar_kind body,
                    const char *name, const char *text, size_t n)
{
    if (f->kind != CONSTRAINT_NONE)
        return json_in_fail(in, ERR_INVALID_VALUE, name, "excludes %s: one constraint is allowed", f->name);
    f->kind = kind;
    f->body = body;
    f->text = text;
    f->n = n;
    snprintf(f->name, sizeof f->name, "%s", name);
    return OK;
}

static enum err put_value(struct format *f, struct json_in *in, enum constraint_kind kind,
                          enum grammar_kind body, const struct at *at)
{
    const struct jval v = bytes_of(in, at->path, at->n_path);
    return put(f, in, kind, body, at->name, v.p, v.n);
}

/* A schema is an object or a boolean; where clients of vLLM send it, it may be the text of one. */
static enum err put_schema(struct format *f, struct json_in *in, const struct json_any *schema,
                           bool may_be_text, const struct at *at)
{
    if (schema->kind == JSON_KIND_STRING && may_be_text)
        return put(f, in, CONSTRAINT_SCHEMA, GRAMMAR_SCHEMA, at->name, schema->node->valuestring,
                   strlen(schema->node->valuestring));
    if (schema->kind != JSON_KIND_OBJECT && schema->kind != JSON_KIND_BOOL)
        return json_in_fail(in, ERR_INVALID_TYPE, at->name, "must be a JSON Schema: an object or a boolean");
    return put_value(f, in, CONSTRAINT_SCHEMA, GRAMMAR_SCHEMA, at);
}

static enum err put_object(struct format *f, struct json_in *in, const char *name)
{
    static const char any_object[] = "{\"type\":\"object\"}";
    return put(f, in, CONSTRAINT_OBJECT, GRAMMAR_SCHEMA, name, any_object, sizeof any_object - 1);
}

/* --- the fields */

static enum err read_rows(struct json_in *in, const cJSON *obj, const char *name, const struct json_row *rows,
                          void *target)
{
    const size_t mark = json_in_enter(in, "%s", name);
    const enum err e = json_in_read(in, obj, rows, target);
    json_in_leave(in, mark);
    return e;
}

static enum err read_named(struct format *f, struct json_in *in, const cJSON *format,
                           const struct response *r)
{
    struct named_schema s = {0};
    if (!r->json_schema)
        return json_in_fail(in, ERR_MISSING_FIELD, "response_format.json_schema",
                            "is needed with the type \"json_schema\"");
    enum err e = read_rows(in, r->json_schema, "response_format.json_schema", named_schema_rows, &s);
    if (e) return e;
    if (s.schema.kind == JSON_KIND_NULL)
        return json_in_fail(in, ERR_MISSING_FIELD, "response_format.json_schema.schema", "is needed");
    const struct at at = {"response_format.json_schema.schema", {format, r->json_schema, s.schema.node}, 3};
    return put_schema(f, in, &s.schema, false, &at);
}

static enum err read_response(struct format *f, struct json_in *in, const cJSON *format)
{
    struct response r = {0};
    enum err e = read_rows(in, format, "response_format", format_response_rows, &r);
    if (e || r.type == TYPE_TEXT) return e;
    if (r.type == TYPE_SCHEMA) return read_named(f, in, format, &r);
    if (r.schema.kind == JSON_KIND_NULL) return put_object(f, in, "response_format");
    const struct at at = {"response_format.schema", {format, r.schema.node}, 2};
    return put_schema(f, in, &r.schema, false, &at);
}

/* {"type": "json_schema", "schema": S}: Responses' text.format, and Messages' output_config.format. */
static enum err read_flat(struct format *f, struct json_in *in, const cJSON *parent, const char *parent_name)
{
    struct flat {
        struct response r;
        struct named_schema s;
    } got = {0};
    static const struct json_row rows[] = {
        F(flat, "type", JSON_WORD, r.type, .words = type_word, .flags = JSON_REQUIRED),
        F(flat, "name", JSON_STRING, s.name, .max = NAME_MOST),
        F(flat, "description", JSON_STRING, s.description),
        F(flat, "schema", JSON_ANY, r.schema),
        F(flat, "strict", JSON_BOOL, s.strict),
        {.name = NULL},
    };
    const cJSON *format = json_in_get(parent, "format");
    char name[32], schema[48];
    if (!format) return OK;
    snprintf(name, sizeof name, "%s.format", parent_name);
    snprintf(schema, sizeof schema, "%s.schema", name);
    if (!cJSON_IsObject(format)) return json_in_fail(in, ERR_INVALID_TYPE, name, "must be an object");
    enum err e = read_rows(in, format, name, rows, &got);
    if (e || got.r.type == TYPE_TEXT) return e;
    if (got.r.type == TYPE_OBJECT) return put_object(f, in, name);
    if (got.r.schema.kind == JSON_KIND_NULL) return json_in_fail(in, ERR_MISSING_FIELD, schema, "is needed");
    const struct at at = {schema, {parent, format, got.r.schema.node}, 3};
    return put_schema(f, in, &got.r.schema, false, &at);
}

static enum err read_structured(struct format *f, struct json_in *in, const cJSON *from)
{
    struct structured s = {0};
    enum err e = read_rows(in, from, "structured_outputs", format_structured_rows, &s);
    if (!e && s.json.kind != JSON_KIND_NULL)
        e = put_schema(f, in, &s.json, true, &(struct at){"structured_outputs.json", {from, s.json.node}, 2});
    if (!e && s.regex.p)
        e = put(f, in, CONSTRAINT_REGEX, GRAMMAR_REGEX, "structured_outputs.regex", s.regex.p, s.regex.n);
    if (!e && s.choice)
        e = put_value(f, in, CONSTRAINT_CHOICE, GRAMMAR_CHOICE,
                      &(struct at){"structured_outputs.choice", {from, s.choice}, 2});
    if (!e && s.grammar.p)
        e = put(f, in, CONSTRAINT_GRAMMAR, GRAMMAR_GBNF, "structured_outputs.grammar", s.grammar.p,
                s.grammar.n);
    if (!e && s.json_object) e = put_object(f, in, "structured_outputs.json_object");
    f->no_free_space = s.no_any_space;
    if (!e && f->kind == CONSTRAINT_NONE)
        e = json_in_fail(in, ERR_MISSING_FIELD, "structured_outputs",
                         "needs one of json, regex, choice, grammar and json_object");
    return e;
}

enum err format_read(struct format *f, const struct format_fields *from, struct json_in *in)
{
    enum err e = OK;
    *f = (struct format){.kind = CONSTRAINT_NONE};
    if (from->response_format) e = read_response(f, in, from->response_format);
    if (!e && from->text) e = read_flat(f, in, from->text, "text");
    if (!e && from->output) e = read_flat(f, in, from->output, "output_config");
    if (!e && from->structured) e = read_structured(f, in, from->structured);
    if (!e && from->json.kind != JSON_KIND_NULL)
        e = put_schema(f, in, &from->json, true, &(struct at){"guided_json", {from->json.node}, 1});
    if (!e && from->regex.p)
        e = put(f, in, CONSTRAINT_REGEX, GRAMMAR_REGEX, "guided_regex", from->regex.p, from->regex.n);
    if (!e && from->choice)
        e = put_value(f, in, CONSTRAINT_CHOICE, GRAMMAR_CHOICE,
                      &(struct at){"guided_choice", {from->choice}, 1});
    if (!e && from->grammar.p)
        e = put(f, in, CONSTRAINT_GRAMMAR, GRAMMAR_GBNF, "guided_grammar", from->grammar.p, from->grammar.n);
    return e;
}
