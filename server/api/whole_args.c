/* whole_args: see whole_args.h. */
#include "server/api/whole_args.h"

#include <string.h>

void args_walk_init(struct args_walk *w)
{
    *w = (struct args_walk){0};
    json_walk_init(&w->walk);
}

static bool takes(struct args_walk *w, char c)
{
    if (w->over || (!w->begun && c != '{' && !json_is_space(c)) || !json_walk_fits(&w->walk, c)) return false;
    w->begun = w->begun || c == '{';
    const enum walk_step step = json_walk_step(&w->walk, c);
    w->over = step == WALK_LAST;
    return step != WALK_OVER;
}

size_t args_walk_feed(struct args_walk *w, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!takes(w, p[i])) {
            w->over = true;
            return i;
        }
    return n;
}

static bool is_of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

size_t args_walk_number(const struct args_walk *w, const char *p, size_t n)
{
    size_t k = 0;
    if (n == 0 || json_walk_in_string(&w->walk) || (p[n - 1] == 'e' && json_walk_fits(&w->walk, ',')))
        return 0;
    while (k < n && is_of_number(p[n - 1 - k])) k++;
    return k;
}

/* Behind c everything that began is whole, but for the containers that are open. A number may go on. */
static bool is_safe(const struct json_walk *w, char c)
{
    if (json_walk_in_string(w)) return false;
    if (c == '{' || c == '[') return true;
    return (!is_of_number(c) || c == 'e') && json_walk_fits(w, ',');
}

void whole_args(const char *p, size_t n, struct strbuf *out)
{
    struct args_walk w;
    struct json_walk at;
    size_t safe = 0;
    args_walk_init(&w);
    at = w.walk;
    for (size_t i = 0; i < n; i++) {
        const bool number_ends =
            w.begun && !is_of_number(p[i]) && !json_walk_in_string(&w.walk) && json_walk_fits(&w.walk, ',');
        const struct json_walk before = w.walk;
        if (!takes(&w, p[i])) break;
        if (number_ends) { /* the byte itself ends one */
            safe = i;
            at = before;
        }
        if (w.over || (w.begun && is_safe(&w.walk, p[i]))) {
            safe = i + 1;
            at = w.walk;
        }
    }
    if (safe == 0) {
        strbuf_puts(out, "{}");
        return;
    }
    strbuf_put(out, p, safe);
    for (int d = at.depth; d-- > 0;) strbuf_putc(out, at.is_object[d / 64] >> (d % 64) & 1 ? '}' : ']');
}
