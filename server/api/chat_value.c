/* chat_value: see chat_value.h. */
#include "server/api/chat_value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/json/string.h"

struct tmpl_value *chat_value(struct chat_values *v, const cJSON *node)
{
    struct arena *mem = v->mem;
    if (cJSON_IsString(node))
        return tmpl_str(mem, node->valuestring, strlen(node->valuestring), TMPL_OUTSIDE);
    if (cJSON_IsBool(node)) return tmpl_bool(mem, cJSON_IsTrue(node));
    if (cJSON_IsNumber(node)) {
        int64_t i = 0;
        const enum json_number kind = json_in_number(v->in, node, &i);
        v->too_wide |= kind == JSON_NUMBER_WIDE;
        return kind == JSON_NUMBER_INT ? tmpl_int(mem, i) : tmpl_float(mem, node->valuedouble);
    }
    if (!cJSON_IsArray(node) && !cJSON_IsObject(node)) return tmpl_none(mem);
    struct tmpl_value *all = cJSON_IsArray(node) ? tmpl_list(mem) : tmpl_dict(mem);
    for (const cJSON *c = node->child; all && c; c = c->next) {
        struct tmpl_value *item = chat_value(v, c);
        const bool ok =
            cJSON_IsArray(node)
                ? tmpl_list_add(mem, all, item)
                : tmpl_dict_put(mem, all, tmpl_str(mem, c->string, strlen(c->string), TMPL_OUTSIDE), item);
        if (!ok) return NULL;
    }
    return all;
}

/* --- from a text that json_scan accepted */

struct text {
    struct arena *mem;
    const char *p;
    size_t n, at;
};

static char next(struct text *t)
{
    while (t->at < t->n && strchr(" \n\r\t,:", t->p[t->at]) && t->p[t->at]) t->at++;
    return t->at < t->n ? t->p[t->at] : '\0';
}

static struct tmpl_value *string(struct text *t)
{
    const size_t from = t->at;
    bool escapes;
    const char *why;
    struct strbuf s;
    if (json_string_skip((const uint8_t *)t->p, t->n, &t->at, &escapes, &why)) return NULL;
    strbuf_init(&s);
    json_string_unescape(&s, (const uint8_t *)t->p + from + 1, t->at - from - 2);
    char *copy = strbuf_failed(&s) ? NULL : arena_strndup(t->mem, s.data ? s.data : "", s.len);
    struct tmpl_value *v = copy ? tmpl_str(t->mem, copy, s.len, TMPL_OUTSIDE) : NULL;
    strbuf_fini(&s);
    return v;
}

/* Digits alone are an integer, as Python reads them. */
static struct tmpl_value *number(struct text *t)
{
    char digits[JSON_NUMBER_CHARS_MAX + 1] = "";
    const size_t n = strspn(t->p + t->at, "+-.0123456789eE");
    if (n == 0 || n > JSON_NUMBER_CHARS_MAX) return NULL;
    memcpy(digits, t->p + t->at, n);
    t->at += n;
    errno = 0;
    const long long i = strtoll(digits, NULL, 10);
    return !strpbrk(digits, ".eE") && errno == 0 ? tmpl_int(t->mem, i)
                                                 : tmpl_float(t->mem, strtod(digits, NULL));
}

static struct tmpl_value *word(struct text *t)
{
    const char c = t->p[t->at];
    t->at += c == 'f' ? 5 : 4;
    return c == 'n' ? tmpl_none(t->mem) : tmpl_bool(t->mem, c == 't');
}

static struct tmpl_value *value(struct text *t)
{
    const char c = next(t);
    if (c == '"') return string(t);
    if (c == 't' || c == 'f' || c == 'n') return word(t);
    if (c != '{' && c != '[') return number(t);
    struct tmpl_value *all = c == '{' ? tmpl_dict(t->mem) : tmpl_list(t->mem);
    t->at++;
    while (all && next(t) != (c == '{' ? '}' : ']')) {
        struct tmpl_value *key = c == '{' ? value(t) : NULL, *v = value(t);
        if (c == '{' ? !tmpl_dict_put(t->mem, all, key, v) : !tmpl_list_add(t->mem, all, v)) return NULL;
    }
    t->at++;
    return all;
}

struct tmpl_value *chat_value_parse(struct arena *mem, const char *json, size_t n)
{
    struct json_scan scan;
    struct text t = {.mem = mem, .p = json, .n = n};
    if (json_scan(&scan, json, n, NULL, NULL)) return NULL;
    const bool object = scan.kind == JSON_KIND_OBJECT;
    json_scan_fini(&scan);
    return object ? value(&t) : NULL;
}
