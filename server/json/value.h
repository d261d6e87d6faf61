/* value: one field's value turned into its row's C type. The inner floor of json_in, for in.c alone; the
 * rules that clients see are in in.h. */
#ifndef FLUXD_SERVER_JSON_VALUE_H
#define FLUXD_SERVER_JSON_VALUE_H

#include "server/json/in.h"

struct json_value {
    const cJSON *node;
    const struct json_field *field; /* of the top level, where the raw text is known; NULL below it */
};

/* Checks v against the row and stores it at `to`, which is NULL when the value is only checked. Never for
 * null. */
typedef enum err json_value_reader(struct json_in *in, const struct json_row *row, const struct json_value *v,
                                   void *to);

#define JSON_VALUE_READER(type, target, name) json_value_reader json_value_##name;
JSON_TYPE_LIST(JSON_VALUE_READER)
#undef JSON_VALUE_READER

/* What the readers share. */
enum json_int_fit { JSON_INT_FITS, JSON_INT_NOT_WHOLE, JSON_INT_TOO_WIDE };
/* The number of n characters at s (JSON's grammar is known to hold). Digits alone are exact in 64 bits; with
 * a fraction or an exponent the value must be whole and within +-(2^53 - 1), where doubles are exact. */
enum json_int_fit json_int_parse(const char *s, size_t n, int64_t *out);
enum json_int_fit json_int_from_double(double v, int64_t *out);

/* The error for a number that is no integer or stands outside [row->min, row->max]; OK otherwise. */
enum err json_int_check(struct json_in *in, const struct json_row *row, const char *name,
                        enum json_int_fit fit, int64_t v);
enum err json_items_check(struct json_in *in, const struct json_row *row, size_t n);
enum err json_string_check(struct json_in *in, const struct json_row *row, const char *name,
                           const cJSON *node, struct json_str *out);
/* ERR_INVALID_TYPE: "<name> must be <wanted>, not <what node is>". */
enum err json_type_fail(struct json_in *in, const char *name, const char *wanted, const cJSON *node);
enum err json_nomem_fail(struct json_in *in);
void json_in_locate(struct json_in *in); /* once, when the tree is made: for json_in_number */

#endif
