/* trace: see the header. */
#include "server/http/trace.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static bool is_id(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        const bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!plain && (c == '\0' || !strchr("-._:/+=@~", c))) return false;
    }
    return n > 0 && n < TRACE_ID_BYTES;
}

/* n lower-case hexadecimal digits; some is set where one of them is not 0. */
static bool is_hex(const char *p, size_t n, bool *some)
{
    *some = false;
    for (size_t i = 0; i < n; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f'))) return false;
        *some |= p[i] != '0';
    }
    return true;
}

/* version-trace-parent-flags; a later version may have more behind it, but is read as 00. */
static bool is_parent(const char *p, size_t n)
{
    bool version, trace, parent, flags;
    if (n < TRACE_PARENT_BYTES - 1 || p[2] != '-' || p[35] != '-' || p[52] != '-') return false;
    if (!is_hex(p, 2, &version) || !memcmp(p, "ff", 2)) return false;
    if (n > TRACE_PARENT_BYTES - 1 && (!version || p[TRACE_PARENT_BYTES - 1] != '-')) return false;
    return is_hex(p + 3, 32, &trace) && trace && is_hex(p + 36, 16, &parent) && parent &&
           is_hex(p + 53, 2, &flags);
}

static void take(char *to, size_t most, int *n_seen, bool right, const char *p, size_t n)
{
    const size_t len = right && *n_seen == 0 ? (n < most - 1 ? n : most - 1) : 0;
    if (len > 0) memcpy(to, p, len);
    to[len] = '\0';
    (*n_seen)++;
}

static bool equals(const char *p, size_t n, const char *word)
{
    return n == strlen(word) && !strncasecmp(p, word, n);
}

void trace_header(struct trace *t, const char *name, size_t n_name, const char *value, size_t n_value)
{
    const char *p = value ? value : "";
    size_t n = value ? n_value : 0;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    if (equals(name, n_name, "X-Request-Id"))
        take(t->id, sizeof t->id, &t->n_id, is_id(p, n), p, n);
    else if (equals(name, n_name, "traceparent"))
        take(t->parent, sizeof t->parent, &t->n_parent, is_parent(p, n), p, n);
}
