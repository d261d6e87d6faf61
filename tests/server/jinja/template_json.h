/* template_json: contexts from JSON, for the tests and the driver of the chat templates. Strings at the top
 * level (bos_token and its like) are ours; everything below, keys too, came from outside. */
#ifndef FLUXD_TESTS_SERVER_JINJA_TEMPLATE_JSON_H
#define FLUXD_TESTS_SERVER_JINJA_TEMPLATE_JSON_H

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "server/jinja/jinja.h"

static struct tmpl_value *value_from_json(struct arena *a, const cJSON *j, int depth)
{
    const enum tmpl_origin origin = depth > 1 ? TMPL_OUTSIDE : TMPL_OURS;
    if (depth > 300) return NULL;
    if (cJSON_IsNull(j)) return tmpl_none(a);
    if (cJSON_IsBool(j)) return tmpl_bool(a, cJSON_IsTrue(j));
    if (cJSON_IsString(j)) return tmpl_str(a, j->valuestring, strlen(j->valuestring), origin);
    if (cJSON_IsNumber(j)) {
        const double d = j->valuedouble;
        return d == floor(d) && fabs(d) < 9e15 ? tmpl_int(a, (int64_t)d) : tmpl_float(a, d);
    }
    struct tmpl_value *v = cJSON_IsArray(j) ? tmpl_list(a) : tmpl_dict(a);
    for (const cJSON *k = j->child; k; k = k->next) {
        struct tmpl_value *item = value_from_json(a, k, depth + 1);
        struct tmpl_value *key = cJSON_IsArray(j) ? NULL
                                                  : tmpl_str(a, k->string, strlen(k->string),
                                                             depth > 0 ? TMPL_OUTSIDE : TMPL_OURS);
        if (!(cJSON_IsArray(j) ? tmpl_list_add(a, v, item) : tmpl_dict_put(a, v, key, item))) return NULL;
    }
    return v;
}

#endif
