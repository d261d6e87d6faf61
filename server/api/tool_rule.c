/* tool_rule: see tool_rule.h. */
#include "server/api/tool_rule.h"

#include <stdio.h>
#include <string.h>

#include "server/api/chat_calls.h"
#include "server/api/rule_args.h"

static enum err no_memory(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* What a rule is made of. */
struct rule {
    struct arena *mem;
    const struct tool_format *f;
    const struct chat_tools *t;
    struct json_in *in;
    enum tool_strict strict;
    bool failed;
};

/* Calls that must be are held to their schema in any case, but for --tool-strict never. */
static bool is_strict(const struct rule *r, const struct chat_tool *tool)
{
    return r->strict != TOOL_STRICT_NEVER &&
           (r->strict == TOOL_STRICT_ALWAYS || tool->strict || r->t->mode == TOOLS_REQUIRED);
}

/* The first message goes on behind the prompt's own mark and speaker. */
static const char *call_open(const struct tool_format *f)
{
    static const char start[] = "<|start|>assistant";
    const bool skip = f->style == TOOL_CHANNEL && !strncmp(f->call_open, start, sizeof start - 1);
    return f->call_open + (skip ? sizeof start - 1 : 0);
}

static enum err one_call(struct rule *r, int i, struct grammar_part *out)
{
    const struct tool_format *f = r->f;
    const struct chat_tool *tool = &r->t->tool[i];
    struct parts p = {.mem = r->mem};
    char head[2 * TOOL_NAME_BYTES];
    parts_marks(&p, call_open(f));
    if (f->style == TOOL_OBJECT) {
        snprintf(head, sizeof head, "{\"%s\": \"%s\", \"%s\": ", f->name_key, tool->name, f->args_key);
        parts_text(&p, head);
    } else {
        parts_marks(&p, f->name_open);
        parts_text(&p, tool->name);
        parts_marks(&p, f->style == TOOL_PYTHON ? "(" : f->name_close);
    }
    const enum err e = rule_args(&p, f, is_strict(r, tool) ? tool->parameters : NULL, tool->place, r->in);
    if (f->style == TOOL_OBJECT) parts_text(&p, "}");
    if (f->style == TOOL_PYTHON) parts_text(&p, ")");
    parts_marks(&p, f->args_close);
    parts_marks(&p, f->call_close);
    *out = parts_as(&p, GRAMMAR_SEQ);
    return e ? e : p.failed ? no_memory(r->in) : OK;
}

/* All calls of an answer, one at least. */
static enum err calls(struct rule *r, struct grammar_part *out)
{
    const struct tool_format *f = r->f;
    struct parts ways = {.mem = r->mem}, more = {.mem = r->mem}, all = {.mem = r->mem};
    for (int i = 0; i < r->t->n; i++) {
        struct grammar_part way;
        if (!r->t->tool[i].allowed) continue;
        const enum err e = one_call(r, i, &way);
        if (e) return e;
        parts_add(&ways, way);
    }
    const struct grammar_part one = parts_as(&ways, GRAMMAR_ALT);
    if (!f->bare) parts_marks(&all, f->section_open);
    if (f->list) parts_text(&all, "[");
    parts_add(&all, one);
    if (r->t->parallel && f->style != TOOL_CHANNEL) {
        parts_text(&more, f->between);
        parts_add(&more, one);
        parts_add(&all,
                  part_times(r->mem, parts_as(&more, GRAMMAR_SEQ), 0, MESSAGE_CALLS_MOST - 1, &r->failed));
    }
    if (f->list) parts_text(&all, "]");
    if (!f->bare) parts_marks(&all, f->section_close);
    *out = parts_as(&all, GRAMMAR_SEQ);
    return ways.failed || more.failed || all.failed || r->failed ? no_memory(r->in) : OK;
}

/* --- where the model decides */

static const char *core(struct rule *r, const char *mark)
{
    size_t n = strlen(mark);
    while (n > 0 && json_is_space(mark[n - 1])) n--;
    while (n > 0 && json_is_space(*mark)) mark++, n--;
    const char *own = arena_strndup(r->mem, mark, n);
    r->failed = r->failed || !own;
    return own;
}

/* What opens a call; free text has none of it. */
static struct grammar_part free_text(struct rule *r)
{
    const struct tool_format *f = r->f;
    const char **avoid = arena_array(r->mem, (size_t)(2 * r->t->n) + 4, sizeof *avoid);
    size_t n = 0;
    r->failed = r->failed || !avoid;
    if (!avoid) return (struct grammar_part){.kind = GRAMMAR_FREE};
    const char *const mark[] = {f->section_open, f->style == TOOL_CHANNEL ? "to=functions." : f->call_open,
                                f->style == TOOL_TAGGED ? f->name_open : ""};
    for (size_t i = 0; i < sizeof mark / sizeof *mark; i++)
        if (*mark[i]) avoid[n++] = core(r, mark[i]);
    for (int i = 0; f->bare && i < r->t->n; i++) {
        char text[TOOL_NAME_BYTES + 16];
        snprintf(text, sizeof text, f->style == TOOL_PYTHON ? "[%s(" : "\"%s\"", r->t->tool[i].name);
        avoid[n++] = core(r, text);
    }
    return (struct grammar_part){.kind = GRAMMAR_FREE, .avoid = avoid, .n_avoid = n};
}

/* Text, and calls once in it; without a mark of their own they are the whole answer or none of it. */
static enum err maybe(struct rule *r, struct grammar_part *out)
{
    struct grammar_part all;
    struct parts seq = {.mem = r->mem}, tail = {.mem = r->mem};
    const enum err e = calls(r, &all);
    if (e) return e;
    const struct grammar_part text = free_text(r);
    if (r->f->bare) {
        parts_add(&seq, all);
        parts_add(&seq, text);
    } else {
        parts_add(&tail, all);
        parts_add(&tail, text);
        parts_add(&seq, text);
        parts_add(&seq, part_times(r->mem, parts_as(&tail, GRAMMAR_SEQ), 0, 1, &r->failed));
    }
    *out = parts_as(&seq, r->f->bare ? GRAMMAR_ALT : GRAMMAR_SEQ);
    return seq.failed || tail.failed || r->failed ? no_memory(r->in) : OK;
}

enum err tool_rule(const struct grammar_part **out, struct arena *mem, const struct tool_format *f,
                   const struct chat_tools *t, enum tool_strict strict, const struct grammar_part *said,
                   struct json_in *in)
{
    struct rule r = {.mem = mem, .f = f, .t = t, .in = in, .strict = strict};
    bool held =
        t->mode == TOOLS_REQUIRED || said || (t->mode == TOOLS_AUTO && (!t->all_allowed || !t->parallel));
    *out = NULL;
    for (int i = 0; i < t->n && t->mode == TOOLS_AUTO; i++) held = held || is_strict(&r, &t->tool[i]);
    if (!held) return OK;
    struct grammar_part *root = arena_alloc(mem, sizeof *root);
    if (!root) return no_memory(in);
    const bool either = said && t->mode == TOOLS_AUTO;
    const enum err e = t->mode == TOOLS_REQUIRED || either ? calls(&r, root) : maybe(&r, root);
    struct parts ways = {.mem = mem};
    if (either && !e) {
        parts_add(&ways, *root);
        parts_add(&ways, *said);
        *root = parts_as(&ways, GRAMMAR_ALT);
    }
    *out = root;
    return e ? e : ways.failed ? no_memory(in) : OK;
}
