/* list: the readers of values that hold many (see value.h). Arrays of numbers at the top level are read from
 * the raw text, whose grammar and size the scan has settled: one pass, one allocation, no tree. */
#include "server/json/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { ITEM_NAME_BYTES = 96 }; /* as err_note.param */

/* "stop[2]", or "prompt[1][2]" when j >= 0 */
static const char *item_name(char *buf, const struct json_row *row, size_t i, int64_t j)
{
    int n = snprintf(buf, ITEM_NAME_BYTES, "%s[%zu]", row->name, i);
    if (j >= 0 && n > 0 && n < ITEM_NAME_BYTES) {
        snprintf(buf + n, (size_t)(ITEM_NAME_BYTES - n), "[%" PRId64 "]", j);
    }
    return buf;
}

static bool is_shaped(const struct json_value *v, enum json_shape shape)
{
    return v->field != NULL && v->field->shape == shape;
}

static size_t n_children(const cJSON *node) { return (size_t)cJSON_GetArraySize(node); }

static bool in_bounds(const struct json_row *row, enum json_int_fit fit, int64_t v)
{
    return fit == JSON_INT_FITS && v >= row->min && v <= row->max;
}

/* ---- numbers from the raw text ---- */

/* Skips white space and commas: between the elements of an array there is nothing else. */
static const char *skip_between(const char *p)
{
    while (*p == ',' || *p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') {
        p++;
    }
    return p;
}

/* Reads the array of numbers that starts at *p, at most n of them; *p goes behind its bracket. Returns how
 * many. i names the array when it is an element itself (< 0: it is the field). */
static enum err read_numbers(struct json_in *in, const struct json_row *row, const char **p, int64_t i,
                             int32_t *out, size_t n, size_t *n_read)
{
    char name[ITEM_NAME_BYTES];
    size_t k = 0;
    CHECK(**p == '[');
    for (*p = skip_between(*p + 1); **p != ']'; *p = skip_between(*p)) {
        size_t len = 1;
        while ((*p)[len] > ' ' && (*p)[len] != ',' && (*p)[len] != ']') {
            len++;
        }
        int64_t v = 0;
        const enum json_int_fit fit = json_int_parse(*p, len, &v);
        if (!in_bounds(row, fit, v)) {
            item_name(name, row, i < 0 ? k : (size_t)i, i < 0 ? -1 : (int64_t)k);
            return json_int_check(in, row, name, fit, v);
        }
        CHECK(k < n);
        out[k++] = (int32_t)v;
        *p += len;
    }
    ++*p;
    *n_read = k;
    return OK;
}

static enum err read_raw_ints(struct json_in *in, const struct json_row *row, const struct json_field *f,
                              struct json_ints *out)
{
    int32_t *id = arena_array(&in->mem, f->n_number, sizeof *id);
    if (id == NULL) {
        return json_nomem_fail(in);
    }
    const char *p = in->body + f->value.begin;
    size_t n = 0;
    const enum err e = read_numbers(in, row, &p, -1, id, f->n_number, &n);
    *out = (struct json_ints){.v = id, .n = n};
    return e;
}

/* ---- JSON_INTS ---- */

/* An array below the top level, or one that is not all numbers and so fails at its first other element. */
static enum err read_tree_ints(struct json_in *in, const struct json_row *row, const cJSON *node,
                               struct json_ints *out)
{
    char name[ITEM_NAME_BYTES];
    const size_t n = n_children(node);
    int32_t *id = arena_array(&in->mem, n + 1, sizeof *id);
    if (id == NULL) {
        return json_nomem_fail(in);
    }
    size_t i = 0;
    for (const cJSON *c = node->child; c != NULL; c = c->next, i++) {
        int64_t v = 0;
        if (!cJSON_IsNumber(c)) {
            return json_type_fail(in, item_name(name, row, i, -1), "an integer", c);
        }
        const enum json_int_fit fit = json_int_from_double(c->valuedouble, &v);
        if (!in_bounds(row, fit, v)) {
            return json_int_check(in, row, item_name(name, row, i, -1), fit, v);
        }
        id[i] = (int32_t)v;
    }
    *out = (struct json_ints){.v = id, .n = n};
    return OK;
}

enum err json_value_ints(struct json_in *in, const struct json_row *row, const struct json_value *v, void *to)
{
    if (!cJSON_IsArray(v->node)) {
        return json_type_fail(in, row->name, "an array of integers", v->node);
    }
    const bool raw = is_shaped(v, JSON_SHAPE_NUMBERS);
    struct json_ints got;
    enum err e = json_items_check(in, row, raw ? v->field->n_item : n_children(v->node));
    if (e == OK) {
        e = raw ? read_raw_ints(in, row, v->field, &got) : read_tree_ints(in, row, v->node, &got);
    }
    if (e == OK && to != NULL) {
        *(struct json_ints *)to = got;
    }
    return e;
}

/* ---- JSON_STRINGS ---- */

enum err json_value_strings(struct json_in *in, const struct json_row *row, const struct json_value *v,
                            void *to)
{
    char name[ITEM_NAME_BYTES];
    const bool list = cJSON_IsArray(v->node);
    if (!list && !cJSON_IsString(v->node)) {
        return json_type_fail(in, row->name, "a string or an array of strings", v->node);
    }
    const size_t n = list ? n_children(v->node) : 1;
    enum err e = json_items_check(in, row, n);
    if (e != OK) {
        return e;
    }
    struct json_str *s = arena_array(&in->mem, n + 1, sizeof *s);
    if (s == NULL) {
        return json_nomem_fail(in);
    }
    size_t i = 0;
    for (const cJSON *c = list ? v->node->child : v->node; c != NULL && i < n && e == OK; c = c->next, i++) {
        e = json_string_check(in, row, row->name, c, &s[i]);
        if (e != OK && list) { /* the same again, told under its index */
            e = json_string_check(in, row, item_name(name, row, i, -1), c, &s[i]);
        }
    }
    if (e == OK && to != NULL) {
        *(struct json_strs *)to = (struct json_strs){.v = s, .n = n};
    }
    return e;
}

/* ---- JSON_PAIRS ---- */

/* A key that is an integer as JSON writes one: no sign but '-', no leading zeros, so that equal keys are
 * equal strings.
 */
static bool parse_key(const char *s, enum json_int_fit *fit, int64_t *out)
{
    const size_t n = strlen(s), sign = s[0] == '-';
    if (n == sign || n > JSON_NUMBER_CHARS_MAX || strspn(s + sign, "0123456789") != n - sign ||
        (s[sign] == '0' && n > 1)) {
        return false;
    }
    *fit = json_int_parse(s, n, out);
    return true;
}

static enum err read_pair(struct json_in *in, const struct json_row *row, const cJSON *node,
                          struct json_pair *out)
{
    enum json_int_fit fit;
    int64_t key = 0;
    if (!parse_key(node->string, &fit, &key)) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "has a key that is not an integer");
    }
    if (!in_bounds(row, fit, key)) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "has a key outside %" PRId64 " to %" PRId64,
                            row->min, row->max);
    }
    if (!cJSON_IsNumber(node)) {
        return json_in_fail(in, ERR_INVALID_TYPE, row->name,
                            "has a value that is not a number (key %" PRId64 ")", key);
    }
    if (!(node->valuedouble >= row->fmin && node->valuedouble <= row->fmax)) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name,
                            "has a value outside %g to %g (key %" PRId64 ")", row->fmin, row->fmax, key);
    }
    *out = (struct json_pair){.key = (int32_t)key, .value = (float)node->valuedouble};
    return OK;
}

enum err json_value_pairs(struct json_in *in, const struct json_row *row, const struct json_value *v,
                          void *to)
{
    if (!cJSON_IsObject(v->node)) {
        return json_type_fail(in, row->name, "an object", v->node);
    }
    const size_t n = n_children(v->node);
    enum err e = json_items_check(in, row, n);
    if (e != OK) {
        return e;
    }
    struct json_pair *pair = arena_array(&in->mem, n + 1, sizeof *pair);
    if (pair == NULL) {
        return json_nomem_fail(in);
    }
    size_t i = 0;
    for (const cJSON *c = v->node->child; c != NULL && e == OK; c = c->next, i++) {
        e = read_pair(in, row, c, &pair[i]);
    }
    if (e == OK && to != NULL) {
        *(struct json_pairs *)to = (struct json_pairs){.v = pair, .n = n};
    }
    return e;
}

/* ---- JSON_PROMPTS ---- */

/* [[int]]: n lists out of one array of all numbers. */
static enum err read_id_lists(struct json_in *in, const struct json_row *row, const struct json_field *f,
                              struct json_prompt *out)
{
    int32_t *id = arena_array(&in->mem, f->n_number + 1, sizeof *id);
    if (id == NULL) {
        return json_nomem_fail(in);
    }
    const char *p = in->body + f->value.begin;
    size_t left = f->n_number, i = 0;
    for (p = skip_between(p + 1); *p != ']'; p = skip_between(p), i++) {
        size_t n = 0;
        const enum err e = read_numbers(in, row, &p, (int64_t)i, id, left, &n);
        if (e != OK) {
            return e;
        }
        out[i].ids = (struct json_ints){.v = id, .n = n};
        id += n;
        left -= n;
    }
    CHECK(i == f->n_item && left == 0);
    return OK;
}

/* An array of neither strings, integers nor arrays of integers: tells the first element that breaks the rule
 * that the first of all set. */
static enum err fail_mixed(struct json_in *in, const struct json_row *row, const cJSON *first)
{
    char name[ITEM_NAME_BYTES];
    const char *wanted = cJSON_IsString(first)   ? "a string"
                         : cJSON_IsNumber(first) ? "an integer"
                         : cJSON_IsArray(first)  ? "an array of integers"
                                                 : NULL;
    if (wanted == NULL) {
        return json_type_fail(in, item_name(name, row, 0, -1), "a string, an integer or an array of integers",
                              first);
    }
    size_t i = 0;
    for (const cJSON *c = first; c != NULL; c = c->next, i++) {
        if ((c->type & 0xFF) != (first->type & 0xFF)) {
            return json_type_fail(in, item_name(name, row, i, -1), wanted, c);
        }
        int64_t j = 0;
        for (const cJSON *id = c->child; id != NULL; id = id->next, j++) {
            if (!cJSON_IsNumber(id)) {
                return json_type_fail(in, item_name(name, row, i, j), "an integer", id);
            }
        }
    }
    return json_type_fail(in, row->name, "a string, or an array of strings, integers or arrays of integers",
                          first);
}

static const struct json_row any_length = {.min = 0, .max = 0}; /* the prompt row's bounds are those of ids */

static enum err read_texts(struct json_in *in, const struct json_row *row, const cJSON *first,
                           struct json_prompt *out)
{
    for (const cJSON *c = first; c != NULL; c = c->next) {
        if (!cJSON_IsString(c)) {
            return fail_mixed(in, row, first);
        }
        const enum err e = json_string_check(in, &any_length, row->name, c, &out++->text);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

enum err json_value_prompts(struct json_in *in, const struct json_row *row, const struct json_value *v,
                            void *to)
{
    const bool list = cJSON_IsArray(v->node);
    CHECK(v->field != NULL); /* raw text exists at the top level only */
    if (!list && !cJSON_IsString(v->node)) {
        return json_type_fail(in, row->name,
                              "a string, or an array of strings, integers or arrays of integers", v->node);
    }
    const bool one = !list || v->field->shape == JSON_SHAPE_NUMBERS;
    const size_t n = one                                          ? 1
                     : v->field->shape == JSON_SHAPE_NUMBER_LISTS ? v->field->n_item
                                                                  : n_children(v->node);
    enum err e = json_items_check(in, row, n);
    if (e != OK) {
        return e;
    }
    struct json_prompt *prompt = arena_array(&in->mem, n + 1, sizeof *prompt);
    if (prompt == NULL) {
        return json_nomem_fail(in);
    }
    switch (v->field->shape) {
    case JSON_SHAPE_NUMBERS:
        e = read_raw_ints(in, row, v->field, &prompt->ids);
        break;
    case JSON_SHAPE_NUMBER_LISTS:
        e = read_id_lists(in, row, v->field, prompt);
        break;
    case JSON_SHAPE_OTHER:
        e = list ? read_texts(in, row, v->node->child, prompt)
                 : json_string_check(in, &any_length, row->name, v->node, &prompt->text);
        break;
    }
    if (e == OK && to != NULL) {
        *(struct json_prompts *)to = (struct json_prompts){.v = prompt, .n = n};
    }
    return e;
}

/* ---- JSON_ANY ---- */

static enum json_kind kind_of(const cJSON *node)
{
    switch (node->type & 0xFF) {
    case cJSON_False:
    case cJSON_True:
        return JSON_KIND_BOOL;
    case cJSON_Number:
        return JSON_KIND_NUMBER;
    case cJSON_String:
        return JSON_KIND_STRING;
    case cJSON_Array:
        return JSON_KIND_ARRAY;
    case cJSON_Object:
        return JSON_KIND_OBJECT;
    default:
        return JSON_KIND_NULL;
    }
}

enum err json_value_any(struct json_in *in, const struct json_row *row, const struct json_value *v, void *to)
{
    struct json_any any = {.kind = kind_of(v->node), .node = v->node};
    const bool numbers = v->field != NULL ? v->field->shape != JSON_SHAPE_OTHER
                                          : cJSON_IsArray(v->node) && cJSON_IsNumber(v->node->child);
    if (numbers) { /* of the top level the tree has only the shape, so they must not get through as a node */
        char name[ITEM_NAME_BYTES];
        if (row->min >= row->max) {
            return json_in_fail(in, ERR_INVALID_TYPE, row->name, "must not be an array of numbers");
        }
        if (is_shaped(v, JSON_SHAPE_NUMBER_LISTS)) {
            return json_type_fail(in, item_name(name, row, 0, -1), "an integer", v->node->child);
        }
        const enum err e = json_value_ints(in, row, v, &any.ints);
        if (e != OK) {
            return e;
        }
        any.node = NULL;
    }
    if (to != NULL) {
        *(struct json_any *)to = any;
    }
    return OK;
}
