/* rule_parts: see rule_parts.h. */
#include "server/api/rule_parts.h"

#include <string.h>

void parts_add(struct parts *p, struct grammar_part part)
{
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 8;
        struct grammar_part *v = arena_array(p->mem, cap, sizeof *v);
        if (!v) {
            p->failed = true;
            return;
        }
        if (p->n) memcpy(v, p->v, p->n * sizeof *v);
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = part;
}

static void add(struct parts *p, enum grammar_part_kind kind, const char *text, size_t n)
{
    char *copy = n ? arena_strndup(p->mem, text, n) : NULL;
    if (n && !copy) p->failed = true;
    if (copy) parts_add(p, (struct grammar_part){.kind = kind, .text = copy, .n = n});
}

void parts_text(struct parts *p, const char *text) { add(p, GRAMMAR_TEXT, text, strlen(text)); }

/* Bytes at s that have the look of a special token: <...> without white space, or [WORD]. 0: none. */
static size_t mark_at(const char *s)
{
    if (*s == '<') {
        const size_t n = strcspn(s, "> \n\t");
        return s[n] == '>' ? n + 1 : 0;
    }
    if (*s != '[') return 0;
    const size_t n = 1 + strspn(s + 1, "/ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    return n > 1 && s[n] == ']' ? n + 1 : 0;
}

void parts_marks(struct parts *p, const char *text)
{
    const char *from = text;
    while (*text) {
        const size_t n = mark_at(text);
        const char *hole = *text == '\1' ? "[0-9]{1,3}" : *text == '\2' ? "[a-zA-Z0-9]{9}" : NULL;
        if (n == 0 && !hole) {
            text++;
            continue;
        }
        add(p, GRAMMAR_TEXT, from, (size_t)(text - from));
        if (hole)
            parts_body(p, GRAMMAR_REGEX, hole, NULL);
        else
            add(p, GRAMMAR_MARK, text, n);
        text += hole ? 1 : n;
        from = text;
    }
    add(p, GRAMMAR_TEXT, from, (size_t)(text - from));
}

void parts_body(struct parts *p, enum grammar_kind kind, const char *text, const char *name)
{
    parts_add(p, (struct grammar_part){
                     .kind = GRAMMAR_BODY, .body = kind, .text = text, .n = strlen(text), .name = name});
}

struct grammar_part parts_as(const struct parts *p, enum grammar_part_kind kind)
{
    return p->n == 1 ? p->v[0]
                     : (struct grammar_part){.kind = p->n ? kind : GRAMMAR_SEQ, .part = p->v, .n_part = p->n};
}

struct grammar_part part_times(struct arena *mem, struct grammar_part what, uint32_t min, uint32_t max,
                               bool *failed)
{
    struct grammar_part *copy = arena_alloc(mem, sizeof *copy);
    if (copy)
        *copy = what;
    else
        *failed = true;
    return (struct grammar_part){
        .kind = GRAMMAR_REP, .part = copy, .n_part = copy != NULL, .min = min, .max = max};
}
