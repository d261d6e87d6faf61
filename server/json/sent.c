/* sent: numbers as they were sent. The tree has them as doubles alone, so the first question walks through
 * the tree and its text side by side, once, and leaves in each number's valueint, which nobody else reads,
 * where its text begins. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/json/value.h"

static bool is_of_number(char c) { return (c >= '0' && c <= '9') || (c && strchr("+-.eE", c)); }

/* The first number at or behind p; there is one. */
static const char *next_number(const char *p)
{
    while (*p != '-' && (*p < '0' || *p > '9'))
        if (*p++ == '"') {
            while (*p != '"') p += *p == '\\' ? 2 : 1;
            p++;
        }
    return p;
}

static size_t number_bytes(const char *p)
{
    size_t n = 0;
    while (is_of_number(p[n])) n++;
    return n;
}

/* The scan bounds the depth, so recursion is bounded. */
static void locate(cJSON *node, const char *text, const char **p)
{
    for (cJSON *c = node->child; c != NULL; c = c->next) {
        if (cJSON_IsNumber(c)) {
            *p = next_number(*p);
            c->valueint = (int)(*p - text);
            *p += number_bytes(*p);
        } else {
            locate(c, text, p);
        }
    }
}

void json_in_locate(struct json_in *in)
{
    const char *text = in->slim.data != NULL ? in->slim.data : in->body, *p = text;
    if ((in->slim.data != NULL ? in->slim.len : in->n_body) <= INT_MAX) locate(in->root, text, &p);
}

enum json_number json_in_number(struct json_in *in, const cJSON *node, int64_t *out)
{
    CHECK(cJSON_IsNumber(node));
    const char *text = in->slim.data != NULL ? in->slim.data : in->body;
    const size_t len = in->slim.data != NULL ? in->slim.len : in->n_body, from = (size_t)node->valueint;
    char copy[JSON_NUMBER_CHARS_MAX + 1];
    size_t n = 0;
    for (; node->valueint >= 0 && from + n < len && n < JSON_NUMBER_CHARS_MAX && is_of_number(text[from + n]);
         n++)
        copy[n] = text[from + n];
    copy[n] = '\0';
    const double v = n > 0 ? strtod(copy, NULL) : 0;
    if (n == 0 || v < node->valuedouble || v > node->valuedouble) { /* of a tree that somebody made */
        const double whole = node->valuedouble;
        return json_int_from_double(whole, out) == JSON_INT_FITS ? JSON_NUMBER_INT : JSON_NUMBER_FLOAT;
    }
    if (strpbrk(copy, ".eE") != NULL) return JSON_NUMBER_FLOAT;
    int64_t whole;
    if (json_int_parse(copy, n, &whole) != JSON_INT_FITS) return JSON_NUMBER_WIDE;
    *out = whole;
    return JSON_NUMBER_INT;
}
