/* value: see value.h. Single values and what all readers share. */
#include "server/json/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static const double SAFE_INTEGER =
    9007199254740991.0; /* 2^53 - 1: up to here no two integers share a double */

/* ---- shared ---- */

static const char *kind_name(const cJSON *node)
{
    static const struct {
        int type;
        const char *name;
    } kind[] = {
        {.type = cJSON_NULL, .name = "null"},        {.type = cJSON_False, .name = "a boolean"},
        {.type = cJSON_True, .name = "a boolean"},   {.type = cJSON_Number, .name = "a number"},
        {.type = cJSON_String, .name = "a string"},  {.type = cJSON_Array, .name = "an array"},
        {.type = cJSON_Object, .name = "an object"},
    };
    for (size_t i = 0; node != NULL && i < sizeof kind / sizeof kind[0]; i++) {
        if ((node->type & 0xFF) == kind[i].type) {
            return kind[i].name;
        }
    }
    return "absent";
}

enum err json_type_fail(struct json_in *in, const char *name, const char *wanted, const cJSON *node)
{
    return json_in_fail(in, ERR_INVALID_TYPE, name, "must be %s, not %s", wanted, kind_name(node));
}

enum err json_nomem_fail(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "out of memory for a JSON body");
}

enum json_int_fit json_int_from_double(double v, int64_t *out)
{
    if (trunc(v) != v) {
        return JSON_INT_NOT_WHOLE;
    }
    if (fabs(v) > SAFE_INTEGER) {
        return JSON_INT_TOO_WIDE;
    }
    *out = (int64_t)v;
    return JSON_INT_FITS;
}

enum json_int_fit json_int_parse(const char *s, size_t n, int64_t *out)
{
    const bool negative = s[0] == '-';
    int64_t v = 0;
    bool wide = false;
    CHECK(n >= 1 && n <= JSON_NUMBER_CHARS_MAX);
    for (size_t i = negative; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') { /* a fraction or an exponent */
            char text[JSON_NUMBER_CHARS_MAX + 1];
            memcpy(text, s, n);
            text[n] = '\0';
            return json_int_from_double(strtod(text, NULL), out);
        }
        const int64_t digit = s[i] - '0';
        wide = wide || __builtin_mul_overflow(v, 10, &v) ||
               __builtin_add_overflow(v, negative ? -digit : digit, &v);
    }
    *out = v;
    return wide ? JSON_INT_TOO_WIDE : JSON_INT_FITS;
}

enum err json_int_check(struct json_in *in, const struct json_row *row, const char *name,
                        enum json_int_fit fit, int64_t v)
{
    if (fit == JSON_INT_NOT_WHOLE) {
        return json_in_fail(in, ERR_INVALID_TYPE, name, "must be an integer, not a fraction");
    }
    if (fit == JSON_INT_TOO_WIDE || v < row->min || v > row->max) {
        return json_in_fail(in, ERR_INVALID_VALUE, name, "must be between %" PRId64 " and %" PRId64, row->min,
                            row->max);
    }
    return OK;
}

enum err json_items_check(struct json_in *in, const struct json_row *row, size_t n)
{
    if (n < row->min_items) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "must have at least %zu elements, not %zu",
                            row->min_items, n);
    }
    if (row->max_items != 0 && n > row->max_items) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "must have at most %zu elements, not %zu",
                            row->max_items, n);
    }
    return OK;
}

enum err json_string_check(struct json_in *in, const struct json_row *row, const char *name,
                           const cJSON *node, struct json_str *out)
{
    if (!cJSON_IsString(node)) {
        return json_type_fail(in, name, "a string", node);
    }
    const struct json_str s = {.p = node->valuestring,
                               .n = strlen(node->valuestring)}; /* no NUL inside: scan.h */
    if (row->min > 0 && s.n < (size_t)row->min) {
        return json_in_fail(in, ERR_INVALID_VALUE, name, "must have at least %" PRId64 " bytes, not %zu",
                            row->min, s.n);
    }
    if (row->max > 0 && s.n > (size_t)row->max) {
        return json_in_fail(in, ERR_INVALID_VALUE, name, "must have at most %" PRId64 " bytes, not %zu",
                            row->max, s.n);
    }
    *out = s;
    return OK;
}

/* ---- numbers ---- */

static enum err read_int(struct json_in *in, const struct json_row *row, const struct json_value *v,
                         int64_t *out)
{
    if (!cJSON_IsNumber(v->node)) {
        return json_type_fail(in, row->name, "an integer", v->node);
    }
    enum json_int_fit fit;
    if (v->field != NULL) {
        const struct json_span at = v->field->value;
        fit = json_int_parse(in->body + at.begin, at.end - at.begin, out);
    } else {
        fit = json_int_from_double(v->node->valuedouble, out);
    }
    return json_int_check(in, row, row->name, fit, *out);
}

enum err json_value_int(struct json_in *in, const struct json_row *row, const struct json_value *v, void *to)
{
    int64_t value = 0;
    const enum err e = read_int(in, row, v, &value);
    if (e == OK && to != NULL) {
        *(int64_t *)to = value;
    }
    return e;
}

enum err json_value_int32(struct json_in *in, const struct json_row *row, const struct json_value *v,
                          void *to)
{
    int64_t value = 0;
    const enum err e = read_int(in, row, v, &value);
    if (e == OK && to != NULL) {
        *(int32_t *)to = (int32_t)value; /* the row's bounds are int32's at most */
    }
    return e;
}

enum err json_value_double(struct json_in *in, const struct json_row *row, const struct json_value *v,
                           void *to)
{
    if (!cJSON_IsNumber(v->node)) {
        return json_type_fail(in, row->name, "a number", v->node);
    }
    const double value = v->node->valuedouble;
    const bool open = (row->flags & JSON_ABOVE_MIN) != 0;
    if (!(value <= row->fmax) || !(open ? value > row->fmin : value >= row->fmin)) {
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "must be %s %g and at most %g",
                            open ? "above" : "at least", row->fmin, row->fmax);
    }
    if (to != NULL) {
        *(double *)to = value;
    }
    return OK;
}

enum err json_value_float(struct json_in *in, const struct json_row *row, const struct json_value *v,
                          void *to)
{
    double value = 0;
    const enum err e = json_value_double(in, row, v, &value);
    if (e == OK && to != NULL) {
        *(float *)to = (float)value;
    }
    return e;
}

/* ---- the others ---- */

enum err json_value_bool(struct json_in *in, const struct json_row *row, const struct json_value *v, void *to)
{
    if (!cJSON_IsBool(v->node)) {
        return json_type_fail(in, row->name, "a boolean", v->node);
    }
    if (to != NULL) {
        *(bool *)to = cJSON_IsTrue(v->node) != 0;
    }
    return OK;
}

enum err json_value_string(struct json_in *in, const struct json_row *row, const struct json_value *v,
                           void *to)
{
    struct json_str s;
    const enum err e = json_string_check(in, row, row->name, v->node, &s);
    if (e == OK && to != NULL) {
        *(struct json_str *)to = s;
    }
    return e;
}

/* Index of the word, or -1. */
static int find_word(const struct json_row *row, const char *s)
{
    for (int i = 0; row->words != NULL && row->words[i] != NULL; i++) {
        if (strcmp(row->words[i], s) == 0) {
            return i;
        }
    }
    return -1;
}

enum err json_value_word(struct json_in *in, const struct json_row *row, const struct json_value *v, void *to)
{
    if (!cJSON_IsString(v->node)) {
        return json_type_fail(in, row->name, "a string", v->node);
    }
    const int i = find_word(row, v->node->valuestring);
    if (i < 0) {
        char known[160] = "";
        for (int k = 0; row->words[k] != NULL; k++) {
            const size_t at = strlen(known);
            snprintf(known + at, sizeof known - at, "%s\"%s\"", k == 0 ? "" : ", ", row->words[k]);
        }
        return json_in_fail(in, ERR_INVALID_VALUE, row->name, "must be one of %s", known);
    }
    if (to != NULL) {
        *(int *)to = i;
    }
    return OK;
}

static enum err read_container(struct json_in *in, const struct json_row *row, const struct json_value *v,
                               const cJSON **to)
{
    size_t n = (size_t)cJSON_GetArraySize(v->node);                /* members, of an object */
    if (v->field != NULL && v->field->shape != JSON_SHAPE_OTHER) { /* the tree has only one element of it */
        n = v->field->n_item;
    }
    const enum err e = json_items_check(in, row, n);
    if (e == OK && to != NULL) {
        *to = v->node;
    }
    return e;
}

enum err json_value_object(struct json_in *in, const struct json_row *row, const struct json_value *v,
                           void *to)
{
    return cJSON_IsObject(v->node) ? read_container(in, row, v, to)
                                   : json_type_fail(in, row->name, "an object", v->node);
}

enum err json_value_array(struct json_in *in, const struct json_row *row, const struct json_value *v,
                          void *to)
{
    return cJSON_IsArray(v->node) ? read_container(in, row, v, to)
                                  : json_type_fail(in, row->name, "an array", v->node);
}

enum err json_value_ignore(struct json_in *in, const struct json_row *row, const struct json_value *v,
                           void *to)
{
    (void)in, (void)row, (void)v, (void)to;
    return OK;
}

/* Whether a value asks for nothing. */
static bool is_neutral(const struct json_row *row, const cJSON *node)
{
    if (cJSON_IsNumber(node)) {
        return node->valuedouble == row->neutral;
    }
    if (cJSON_IsString(node)) {
        return node->valuestring[0] == '\0' || find_word(row, node->valuestring) >= 0;
    }
    if (cJSON_IsArray(node)) {
        for (const cJSON *c = node->child; c != NULL; c = c->next) {
            if (!cJSON_IsString(c) || find_word(row, c->valuestring) < 0) {
                return false;
            }
        }
        return true;
    }
    if (cJSON_IsObject(node)) {
        return node->child == NULL && !(row->flags & JSON_EMPTY_ASKS);
    }
    return cJSON_IsBool(node) && !cJSON_IsTrue(node) == !(row->flags & JSON_TRUE_NEUTRAL);
}

/* Whether another value of the field, beside null and nothing at all, would be taken. */
static bool has_neutral(const struct json_row *row, const cJSON *node)
{
    return row->neutral == row->neutral || row->words != NULL || cJSON_IsBool(node) ||
           (row->flags & JSON_TRUE_NEUTRAL);
}

enum err json_value_reject(struct json_in *in, const struct json_row *row, const struct json_value *v,
                           void *to)
{
    (void)to;
    return is_neutral(row, v->node)
               ? OK
               : json_in_fail(in, ERR_UNSUPPORTED, row->name,
                              has_neutral(row, v->node) ? "is not supported with this value"
                                                        : "is not supported");
}
