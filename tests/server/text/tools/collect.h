/* collect: the events of one answer, put together, for the tests of the tools. */
#ifndef FLUXD_TESTS_SERVER_TEXT_TOOLS_COLLECT_H
#define FLUXD_TESTS_SERVER_TEXT_TOOLS_COLLECT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "server/text/tools/tools.h"
#include "tests/base/cm.h"

enum { CALLS_MOST = 64 };

struct collected {
    struct strbuf all; /* every event, neighbours of one kind joined: what two splits must have in common */
    struct strbuf text, thought, name[CALLS_MOST], args[CALLS_MOST];
    bool ended[CALLS_MOST];
    int n_call, last;
};

static inline void collect_open(struct collected *c)
{
    *c = (struct collected){.last = -1};
    strbuf_init(&c->all);
    strbuf_init(&c->text);
    strbuf_init(&c->thought);
}

static inline void collect_close(struct collected *c)
{
    strbuf_fini(&c->all);
    strbuf_fini(&c->text);
    strbuf_fini(&c->thought);
    for (int i = 0; i < c->n_call; i++) {
        strbuf_fini(&c->name[i]);
        strbuf_fini(&c->args[i]);
    }
}

static inline void collect(void *arg, const struct tool_event *e)
{
    struct collected *c = arg;
    assert_true(e->n > 0 || e->kind == TOOL_END);
    if ((int)e->kind != c->last || e->kind == TOOL_CALL || e->kind == TOOL_END)
        strbuf_putc(&c->all, (char)('\1' + e->kind));
    c->last = (int)e->kind;
    strbuf_put(&c->all, e->p, e->n);
    if (e->kind == TOOL_TEXT) strbuf_put(&c->text, e->p, e->n);
    if (e->kind == TOOL_THOUGHT) strbuf_put(&c->thought, e->p, e->n);
    if (e->kind < TOOL_CALL) return;
    assert_true(e->call < CALLS_MOST);
    if (e->kind == TOOL_CALL) {
        assert_int_equal(e->call, c->n_call++);
        strbuf_init(&c->name[e->call]);
        strbuf_init(&c->args[e->call]);
        strbuf_put(&c->name[e->call], e->p, e->n);
    }
    assert_int_equal(e->call, c->n_call - 1); /* one call at a time */
    assert_false(c->ended[e->call]);
    if (e->kind == TOOL_ARGS) strbuf_put(&c->args[e->call], e->p, e->n);
    if (e->kind == TOOL_END) c->ended[e->call] = true;
}

static inline const struct tool_format *format_named(const char *name)
{
    for (const struct tool_format *f = tool_formats; f->name; f++)
        if (!strcmp(f->name, name)) return f;
    return NULL;
}

static inline const char *str_of(const struct strbuf *s) { return s->len ? s->data : ""; }

/* part 0: parts of 1 to 7 bytes by chance. */
static inline void read_answer(struct collected *c, const struct tool_format *f, const struct tool_set *set,
                               const char *s, size_t n, size_t part)
{
    struct tool_parser p;
    collect_open(c);
    tool_parser_init(&p, f, set, false, collect, c);
    for (size_t i = 0, k; i < n; i += k) {
        k = part ? part : (size_t)(rand() % 7) + 1;
        if (k > n - i) k = n - i;
        tool_parser_feed(&p, s + i, k);
    }
    tool_parser_end(&p);
    assert_false(tool_parser_failed(&p));
    tool_parser_fini(&p);
}

#endif
