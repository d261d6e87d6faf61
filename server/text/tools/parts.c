/* parts: see parts.h. */
#include "server/text/tools/parts.h"

#include <stdlib.h>

void tool_parts_init(struct tool_parts *t) { *t = (struct tool_parts){0}; }

void tool_parts_fini(struct tool_parts *t)
{
    for (int i = 0; i < t->n; i++) {
        strbuf_fini(&t->v[i].text);
        strbuf_fini(&t->v[i].name);
    }
    free(t->v);
    *t = (struct tool_parts){0};
}

size_t tool_parts_bytes(const struct tool_parts *t)
{
    size_t n = (size_t)t->cap * sizeof *t->v;
    for (int i = 0; i < t->n; i++) n += t->v[i].text.cap + t->v[i].name.cap;
    return n;
}

static struct tool_part *add(struct tool_parts *t, enum tool_event_kind kind)
{
    if (t->n == t->cap) {
        const int cap = t->cap ? 2 * t->cap : 4;
        struct tool_part *v = realloc(t->v, (size_t)cap * sizeof *v);
        if (!v) {
            t->failed = true;
            return NULL;
        }
        t->v = v;
        t->cap = cap;
    }
    struct tool_part *p = &t->v[t->n++];
    *p = (struct tool_part){.kind = kind};
    strbuf_init(&p->text);
    strbuf_init(&p->name);
    return p;
}

void tool_parts_take(void *arg, const struct tool_event *e)
{
    struct tool_parts *t = arg;
    const bool of_call = e->kind == TOOL_ARGS || e->kind == TOOL_END;
    struct tool_part *p = t->n ? &t->v[t->n - 1] : NULL;
    if (t->failed) return;
    /* a text may come out of a call, between its name and its end */
    for (int i = t->n - 1; of_call && i >= 0 && p->kind != TOOL_CALL; i--) p = &t->v[i];
    if (!of_call && (!p || p->kind != e->kind || e->kind == TOOL_CALL)) p = add(t, e->kind);
    if (!p) return;
    if (e->kind == TOOL_CALL) {
        p->call = t->n_call++;
        strbuf_put(&p->name, e->p, e->n);
    } else if (e->kind == TOOL_END) {
        p->ended = true;
    } else {
        strbuf_put(&p->text, e->p, e->n);
    }
    t->failed = strbuf_failed(&p->name) || strbuf_failed(&p->text);
}

bool tool_parts_called(const struct tool_parts *t)
{
    for (int i = 0; i < t->n; i++)
        if (t->v[i].kind == TOOL_CALL && !t->v[i].ended) return false;
    return t->n_call > 0;
}
