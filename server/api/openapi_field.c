/* openapi_field: a table of fields as a JSON Schema (2020-12). What a row bounds stands in it; a bound in
 * bytes is told as x-max-bytes beside maxLength, which counts characters. Pure. */
#include "server/api/openapi_field.h"

#include <stdio.h>
#include <string.h>

#include "server/api/chat_prompt.h"

/* The type, or null beside it: null is absence. */
static void put_type(struct json_out *o, const struct json_row *row, const char *type)
{
    if (row->flags & (JSON_REQUIRED | JSON_NOT_NULL)) {
        json_out_text(o, "type", type);
        return;
    }
    json_out_array(o, "type");
    json_out_text(o, NULL, type);
    json_out_text(o, NULL, "null");
    json_out_end(o);
}

static void put_ints(struct json_out *o, const struct json_row *row)
{
    json_out_int(o, "minimum", row->min);
    json_out_int(o, "maximum", row->max);
}

static void put_reals(struct json_out *o, const struct json_row *row)
{
    json_out_double(o, row->flags & JSON_ABOVE_MIN ? "exclusiveMinimum" : "minimum", row->fmin);
    json_out_double(o, "maximum", row->fmax);
}

static void put_text_bounds(struct json_out *o, const struct json_row *row)
{
    if (row->min > 0) json_out_int(o, "minLength", row->min > 1 ? 1 : row->min);
    if (row->max <= 0) return;
    json_out_int(o, "maxLength", row->max);
    json_out_int(o, "x-max-bytes", row->max);
}

static void put_items_bounds(struct json_out *o, const struct json_row *row, const char *least,
                             const char *most)
{
    if (row->min_items) json_out_int(o, least, (int64_t)row->min_items);
    if (row->max_items) json_out_int(o, most, (int64_t)row->max_items);
}

static void begin_items(struct json_out *o, const char *type)
{
    json_out_object(o, "items");
    json_out_text(o, "type", type);
}

static void put_int_items(struct json_out *o, const struct json_row *row)
{
    begin_items(o, "integer");
    put_ints(o, row);
    json_out_end(o);
}

static void begin_choice(struct json_out *o, const char *type)
{
    json_out_object(o, NULL);
    json_out_text(o, "type", type);
}

static void put_null_choice(struct json_out *o, const struct json_row *row)
{
    if (row->flags & (JSON_REQUIRED | JSON_NOT_NULL)) return;
    begin_choice(o, "null");
    json_out_end(o);
}

static void put_strings(struct json_out *o, const struct json_row *row)
{
    json_out_array(o, "anyOf");
    begin_choice(o, "string");
    put_text_bounds(o, row);
    json_out_end(o);
    begin_choice(o, "array");
    put_items_bounds(o, row, "minItems", "maxItems");
    begin_items(o, "string");
    put_text_bounds(o, row);
    json_out_end(o);
    json_out_end(o);
    put_null_choice(o, row);
    json_out_end(o);
}

static void put_prompts(struct json_out *o, const struct json_row *row)
{
    json_out_array(o, "anyOf");
    begin_choice(o, "string");
    json_out_end(o);
    begin_choice(o, "array");
    put_int_items(o, row);
    json_out_end(o);
    begin_choice(o, "array");
    put_items_bounds(o, row, "minItems", "maxItems");
    begin_items(o, "string");
    json_out_end(o);
    json_out_end(o);
    begin_choice(o, "array");
    put_items_bounds(o, row, "minItems", "maxItems");
    begin_items(o, "array");
    put_int_items(o, row);
    json_out_end(o);
    json_out_end(o);
    put_null_choice(o, row);
    json_out_end(o);
}

static void put_pairs(struct json_out *o, const struct json_row *row)
{
    put_type(o, row, "object");
    put_items_bounds(o, row, "minProperties", "maxProperties");
    json_out_object(o, "propertyNames");
    json_out_text(o, "pattern", "^(0|[1-9][0-9]*)$");
    json_out_end(o);
    json_out_object(o, "additionalProperties");
    json_out_text(o, "type", "number");
    put_reals(o, row);
    json_out_end(o);
}

static void put_words(struct json_out *o, const struct json_row *row)
{
    json_out_array(o, "enum");
    for (const char *const *w = row->words; *w; w++) json_out_text(o, NULL, *w);
    if (!(row->flags & (JSON_REQUIRED | JSON_NOT_NULL))) json_out_null(o, NULL);
    json_out_end(o);
}

/* Fields whose inside is read by hand, or otherwise in one dialect: openapi.json has DIALECT_FIELD. */
static const struct shape {
    const char *dialect, *field;
} shape[] = {
    {"chat", "tools"},
    {"chat", "response_format"},
    {"messages", "messages"},
    {"messages", "tools"},
    {"messages", "tool_choice"},
    {"messages", "thinking"},
    {"messages", "output_config"},
    {"messages", "context_management"},
    {"responses", "tools"},
    {"responses", "tool_choice"},
    {"responses", "include"},
    {"responses", "reasoning"},
    {"responses", "text"},
};

static bool has_shape(const struct json_row *row, const char *dialect)
{
    for (size_t i = 0; dialect && i < sizeof shape / sizeof *shape; i++)
        if (!strcmp(shape[i].dialect, dialect) && !strcmp(shape[i].field, row->name)) return true;
    return false;
}

static void put_ref(struct json_out *o, const char *name)
{
    char at[128];
    snprintf(at, sizeof at, "#/components/schemas/%s", name);
    json_out_text(o, "$ref", at);
}

static void put_all_of(struct json_out *o, const char *name)
{
    json_out_array(o, "allOf");
    json_out_object(o, NULL);
    put_ref(o, name);
    json_out_end(o);
    json_out_end(o);
}

/* Tables of objects inside a body. */
static const struct json_row *rows_inside(const char *name)
{
    return !strcmp(name, "messages") ? chat_prompt_message_rows() : params_rows_inside(name);
}

static void put_nested(struct json_out *o, const struct json_row *row, bool shaped)
{
    const struct json_row *const inside = shaped ? NULL : rows_inside(row->name);
    const bool list = row->type == JSON_ARRAY;
    put_type(o, row, list ? "array" : "object");
    put_items_bounds(o, row, list ? "minItems" : "minProperties", list ? "maxItems" : "maxProperties");
    if (!inside) return;
    if (list) json_out_object(o, "items");
    if (list) json_out_text(o, "type", "object");
    openapi_fields(o, &inside, 1, NULL);
    openapi_required(o, &inside, 1);
    if (inside == chat_prompt_message_rows()) put_all_of(o, "chat_message");
    if (list) json_out_end(o);
}

static void put_row(struct json_out *o, const struct json_row *row, const char *dialect)
{
    const bool shaped = has_shape(row, dialect);
    char name[96];
    snprintf(name, sizeof name, "%s_%s", shaped ? dialect : "", row->name);
    json_out_object(o, row->name);
    switch (row->type) {
    case JSON_BOOL:
        put_type(o, row, "boolean");
        break;
    case JSON_INT:
    case JSON_INT32:
        put_type(o, row, "integer");
        put_ints(o, row);
        break;
    case JSON_FLOAT:
    case JSON_DOUBLE:
        put_type(o, row, "number");
        put_reals(o, row);
        break;
    case JSON_STRING:
        put_type(o, row, "string");
        put_text_bounds(o, row);
        break;
    case JSON_WORD:
        put_words(o, row);
        break;
    case JSON_STRINGS:
        put_strings(o, row);
        break;
    case JSON_INTS:
        put_type(o, row, "array");
        put_items_bounds(o, row, "minItems", "maxItems");
        put_int_items(o, row);
        break;
    case JSON_PAIRS:
        put_pairs(o, row);
        break;
    case JSON_PROMPTS:
        put_prompts(o, row);
        break;
    case JSON_OBJECT:
    case JSON_ARRAY:
        put_nested(o, row, shaped);
        break;
    case JSON_ANY:
        put_ref(o, shaped ? name : row->name);
        break;
    case JSON_IGNORE:
        json_out_text(o, "description", "accepted, without effect");
        break;
    case JSON_REJECT:
    case JSON_N_TYPE:
        break;
    }
    if (shaped && row->type != JSON_ANY) put_all_of(o, name);
    json_out_end(o);
}

/* A field may stand in two tables of one body: both hold, and the first is the one that is told. */
static bool told(const struct json_row *const *table, int i, const struct json_row *row)
{
    for (int k = 0; k <= i; k++)
        for (const struct json_row *r = table[k]; r->name && r != row; r++)
            if (!strcmp(r->name, row->name)) return true;
    return false;
}

void openapi_fields(struct json_out *o, const struct json_row *const *table, int n, const char *dialect)
{
    json_out_object(o, "properties");
    for (int i = 0; i < n; i++)
        for (const struct json_row *r = table[i]; r->name; r++)
            if (r->type != JSON_REJECT && !told(table, i, r)) put_row(o, r, dialect);
    json_out_end(o);
    json_out_array(o, "x-unsupported");
    for (int i = 0; i < n; i++)
        for (const struct json_row *r = table[i]; r->name; r++)
            if (r->type == JSON_REJECT && !told(table, i, r)) json_out_text(o, NULL, r->name);
    json_out_end(o);
}

void openapi_required(struct json_out *o, const struct json_row *const *table, int n)
{
    json_out_array(o, "required");
    for (int i = 0; i < n; i++)
        for (const struct json_row *r = table[i]; r->name; r++)
            if (r->flags & JSON_REQUIRED && !told(table, i, r)) json_out_text(o, NULL, r->name);
    json_out_end(o);
}
