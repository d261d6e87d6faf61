/* openapi: the description says of every field what its row says, and of every path what its route says. */
#include "tests/base/cm.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "server/api/chat_prompt.h"
#include "server/api/openapi.h"
#include "server/api/routes.h"

static cJSON *description(bool keys)
{
    struct strbuf out;
    strbuf_init(&out);
    openapi_write(&out, keys);
    assert_false(strbuf_failed(&out));
    cJSON *all = cJSON_ParseWithLength(out.data, out.len);
    assert_non_null(all);
    strbuf_fini(&out);
    return all;
}

static const cJSON *at(const cJSON *o, const char *path)
{
    char part[64];
    while (o && *path) {
        const size_t n = strcspn(path, "|");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        o = cJSON_GetObjectItemCaseSensitive(o, part);
        path += n + (path[n] == '|');
    }
    return o;
}

static bool lists(const cJSON *list, const char *word)
{
    const cJSON *c;
    bool found = false;
    cJSON_ArrayForEach(c, list) found |= cJSON_IsString(c) && !strcmp(c->valuestring, word);
    return found;
}

static bool equals(const cJSON *o, const char *path, double v)
{
    const cJSON *n = at(o, path);
    return n && n->valuedouble == v;
}

/* The one of anyOf that is this type, with items of that type, or without items. */
static const cJSON *choice(const cJSON *field, const char *type, const char *items)
{
    const cJSON *c;
    cJSON_ArrayForEach(c, at(field, "anyOf"))
    {
        const cJSON *inside = at(c, "items|type");
        if (strcmp(at(c, "type")->valuestring, type)) continue;
        if (items ? inside && !strcmp(inside->valuestring, items) : !inside) return c;
    }
    return NULL;
}

static bool is_type(const cJSON *field, const struct json_row *r, const char *type)
{
    const bool never_null = r->flags & (JSON_REQUIRED | JSON_NOT_NULL);
    const cJSON *t = at(field, "type");
    if (never_null) return cJSON_IsString(t) && !strcmp(t->valuestring, type);
    return cJSON_GetArraySize(t) == 2 && lists(t, type) && lists(t, "null");
}

static bool has_ints(const cJSON *o, const struct json_row *r)
{
    return equals(o, "minimum", (double)r->min) && equals(o, "maximum", (double)r->max);
}

static bool has_reals(const cJSON *o, const struct json_row *r)
{
    return equals(o, r->flags & JSON_ABOVE_MIN ? "exclusiveMinimum" : "minimum", r->fmin) &&
           equals(o, "maximum", r->fmax);
}

static bool has_bytes(const cJSON *o, const struct json_row *r)
{
    if (r->max > 0 && !(equals(o, "maxLength", (double)r->max) && equals(o, "x-max-bytes", (double)r->max)))
        return false;
    return r->max > 0 || !at(o, "maxLength");
}

static bool has_count(const cJSON *o, const struct json_row *r, const char *least, const char *most)
{
    const bool lo = r->min_items ? equals(o, least, (double)r->min_items) : !at(o, least);
    return lo && (r->max_items ? equals(o, most, (double)r->max_items) : !at(o, most));
}

static bool has_words(const cJSON *field, const struct json_row *r)
{
    int n = 0;
    for (; r->words[n]; n++)
        if (!lists(at(field, "enum"), r->words[n])) return false;
    return cJSON_GetArraySize(at(field, "enum")) == n + !(r->flags & (JSON_REQUIRED | JSON_NOT_NULL));
}

static bool is_prompts(const cJSON *f, const struct json_row *r)
{
    const cJSON *ids = choice(f, "array", "integer"), *texts = choice(f, "array", "string"),
                *lists_of = choice(f, "array", "array");
    return choice(f, "string", NULL) && ids && texts && lists_of && has_ints(at(ids, "items"), r) &&
           has_ints(at(lists_of, "items|items"), r) && has_count(texts, r, "minItems", "maxItems") &&
           has_count(lists_of, r, "minItems", "maxItems");
}

static bool describes(const cJSON *all, const cJSON *f, const struct json_row *r)
{
    switch (r->type) {
    case JSON_BOOL:
        return is_type(f, r, "boolean");
    case JSON_INT:
    case JSON_INT32:
        return is_type(f, r, "integer") && has_ints(f, r);
    case JSON_FLOAT:
    case JSON_DOUBLE:
        return is_type(f, r, "number") && has_reals(f, r);
    case JSON_STRING:
        return is_type(f, r, "string") && has_bytes(f, r);
    case JSON_WORD:
        return has_words(f, r);
    case JSON_STRINGS:
        return has_bytes(choice(f, "string", NULL), r) &&
               has_bytes(at(choice(f, "array", "string"), "items"), r) &&
               has_count(choice(f, "array", "string"), r, "minItems", "maxItems");
    case JSON_INTS:
        return is_type(f, r, "array") && has_ints(at(f, "items"), r) &&
               has_count(f, r, "minItems", "maxItems");
    case JSON_PAIRS:
        return is_type(f, r, "object") && has_reals(at(f, "additionalProperties"), r) &&
               has_count(f, r, "minProperties", "maxProperties");
    case JSON_PROMPTS:
        return is_prompts(f, r);
    case JSON_OBJECT:
        return is_type(f, r, "object") && has_count(f, r, "minProperties", "maxProperties");
    case JSON_ARRAY:
        return is_type(f, r, "array") && has_count(f, r, "minItems", "maxItems");
    case JSON_ANY:
        return at(at(all, "components|schemas"), r->name) && strstr(at(f, "$ref")->valuestring, r->name);
    case JSON_IGNORE:
        return cJSON_GetArraySize(f) == 1 && at(f, "description");
    case JSON_REJECT:
    case JSON_N_TYPE:
        return false;
    }
    return false;
}

/* Every row stands there as it is, and nothing stands there without a row. */
static void check_fields(const cJSON *all, const cJSON *schema, const struct json_row *const *table, int n,
                         bool needs)
{
    int n_known = 0, n_refused = 0, n_required = 0;
    for (int i = 0; i < n; i++) {
        for (const struct json_row *r = table[i]; r->name; r++) {
            bool again = false;
            for (int k = 0; k < i; k++)
                for (const struct json_row *o = table[k]; o->name; o++) again |= !strcmp(o->name, r->name);
            if (again) continue;
            const cJSON *f = at(at(schema, "properties"), r->name);
            n_refused += r->type == JSON_REJECT;
            n_known += r->type != JSON_REJECT;
            n_required += needs && r->flags & JSON_REQUIRED;
            if (r->type == JSON_REJECT ? f || !lists(at(schema, "x-unsupported"), r->name)
                                       : !f || !describes(all, f, r))
                fail_msg("%s is not described as its row has it", r->name);
            if (needs)
                assert_int_equal(lists(at(schema, "required"), r->name), (r->flags & JSON_REQUIRED) != 0);
        }
    }
    assert_int_equal(cJSON_GetArraySize(at(schema, "properties")), n_known);
    assert_int_equal(cJSON_GetArraySize(at(schema, "x-unsupported")), n_refused);
    assert_int_equal(cJSON_GetArraySize(at(schema, "required")), n_required);
}

static void every_field_and_limit_is_its_rows(void **st)
{
    (void)st;
    static const char *const path[API_N_ENDPOINT] = {
#define ENDPOINT(id, at, ...) [API_##id] = at,
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    };
    cJSON *all = description(false);
    for (int e = 0; e < API_N_ENDPOINT; e++) {
        if (!path[e]) continue;
        struct params_tables t;
        params_tables((enum api_endpoint)e, &t);
        const cJSON *schema =
            at(at(at(all, "paths"), path[e]), "post|requestBody|content|application/json|schema");
        assert_non_null(schema);
        check_fields(all, schema, t.table, t.n, !t.either);
        assert_int_equal(at(schema, "anyOf") != NULL, t.either);
        const struct json_row *const message = chat_prompt_message_rows(), *const options =
                                                                               params_rows_inside(
                                                                                   "stream_options");
        if (at(schema, "properties|messages|items"))
            check_fields(all, at(schema, "properties|messages|items"), &message, 1, true);
        if (at(schema, "properties|stream_options"))
            check_fields(all, at(schema, "properties|stream_options"), &options, 1, true);
    }
    cJSON_Delete(all);
}

/* Method, path, and whether a key is needed. */
static void every_route_stands_there_and_nothing_else(void **st)
{
    (void)st;
    for (int keys = 0; keys < 2; keys++) {
        cJSON *all = description(keys);
        const cJSON *paths = at(all, "paths"), *open;
        int n = 0;
        for (int i = 0; i < n_routes; i++) {
            const struct http_route *r = &routes[i];
            char path[64];
            const char *star = strchr(r->path, '*');
            snprintf(path, sizeof path, "%.*s%s%s", (int)strcspn(r->path, "*"), r->path, star ? "{id}" : "",
                     star ? star + 1 : "");
            const cJSON *op = at(at(paths, path), r->method == HTTP_POST     ? "post"
                                                  : r->method == HTTP_DELETE ? "delete"
                                                                             : "get");
            if (!op) fail_msg("%s is not described", r->path);
            open = at(op, "security");
            assert_int_equal(open != NULL, keys && r->open);
            assert_true(!open || cJSON_GetArraySize(open) == 0);
            n++;
        }
        for (const cJSON *p = paths->child; p; p = p->next) n -= cJSON_GetArraySize(p); /* methods */
        assert_int_equal(n, 0);
        assert_int_equal(at(all, "security") != NULL, keys);
        cJSON_Delete(all);
    }
}

/* Every $ref of the document leads somewhere. */
static void check_refs(const cJSON *all, const cJSON *o)
{
    for (const cJSON *c = o->child; c; c = c->next) {
        if (c->string && !strcmp(c->string, "$ref")) {
            char path[96];
            snprintf(path, sizeof path, "%s", c->valuestring + 2);
            for (char *p = path; *p; p++)
                if (*p == '/') *p = '|';
            if (!at(all, path)) fail_msg("%s leads nowhere", c->valuestring);
        }
        check_refs(all, c);
    }
}

static void no_reference_leads_nowhere(void **st)
{
    (void)st;
    cJSON *all = description(true);
    check_refs(all, all);
    cJSON_Delete(all);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(every_field_and_limit_is_its_rows),
        cmocka_unit_test(every_route_stands_there_and_nothing_else),
        cmocka_unit_test(no_reference_leads_nowhere),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
