/* turn: see turn.h. */
#include "server/api/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void turn_init(struct turn *t, const struct turn_ear *ear, void *arg)
{
    *t = (struct turn){.ear = ear, .arg = arg};
}

void turn_fini(struct turn *t)
{
    for (int i = 0; i < t->n; i++) {
        strbuf_fini(&t->block[i].text);
        strbuf_fini(&t->block[i].id);
        strbuf_fini(&t->block[i].name);
    }
    free(t->block);
    *t = (struct turn){0};
}

static struct turn_block *open_block(const struct turn *t)
{
    return t->n > 0 && t->block[t->n - 1].open ? &t->block[t->n - 1] : NULL;
}

static struct turn_block *add(struct turn *t, enum turn_kind kind)
{
    t->more = true;
    turn_end(t);
    t->more = false;
    if (t->n == t->cap) {
        const int cap = t->cap ? 2 * t->cap : 4;
        struct turn_block *p = realloc(t->block, (size_t)cap * sizeof *p);
        if (!p) {
            t->failed = true;
            return NULL;
        }
        t->block = p;
        t->cap = cap;
    }
    struct turn_block *b = &t->block[t->n];
    *b = (struct turn_block){.kind = kind, .index = t->n++, .open = true};
    strbuf_init(&b->text);
    strbuf_init(&b->id);
    strbuf_init(&b->name);
    return b;
}

static void begun(struct turn *t, const struct turn_block *b)
{
    if (t->ear && t->ear->begin) t->ear->begin(t->arg, b);
}

static void grow(struct turn *t, struct turn_block *b, const char *p, size_t n)
{
    strbuf_put(&b->text, p, n);
    if (n > 0 && t->ear && t->ear->grow) t->ear->grow(t->arg, b, p, n);
}

void turn_open(struct turn *t, enum turn_kind kind)
{
    struct turn_block *b = add(t, kind);
    if (b) begun(t, b);
}

void turn_hush(struct turn *t)
{
    t->ear = NULL;
    t->cut = true;
    turn_end(t);
}

void turn_put(struct turn *t, enum turn_kind kind, const char *p, size_t n)
{
    CHECK(!turn_is_call(kind));
    if (n == 0) return;
    struct turn_block *b = open_block(t);
    if (!b || b->kind != kind) {
        turn_open(t, kind);
        b = open_block(t);
    }
    if (b) grow(t, b, p, n);
}

void turn_call(struct turn *t, enum turn_kind kind, const char *id, size_t n_id, const char *name,
               size_t n_name)
{
    struct turn_block *b = add(t, kind);
    if (!b) return;
    custom_input_init(&b->input);
    strbuf_put(&b->id, id, n_id);
    strbuf_put(&b->name, name, n_name);
    begun(t, b);
}

static void tell_input(struct turn *t, struct turn_block *b, struct strbuf *piece)
{
    if (strbuf_failed(piece)) t->failed = true;
    grow(t, b, piece->data ? piece->data : "", piece->len);
    strbuf_fini(piece);
}

void turn_arguments(struct turn *t, const char *p, size_t n)
{
    struct turn_block *b = open_block(t);
    struct strbuf piece;
    CHECK(t->failed || (b && turn_is_call(b->kind)));
    if (b && b->kind == TURN_CALL) grow(t, b, p, n);
    if (!b || b->kind == TURN_CALL) return;
    strbuf_init(&piece);
    custom_input_feed(&b->input, p, n, &piece);
    tell_input(t, b, &piece);
}

void turn_end(struct turn *t)
{
    struct turn_block *b = open_block(t);
    struct strbuf piece;
    if (!b) return;
    if (b->kind == TURN_CUSTOM) {
        strbuf_init(&piece);
        custom_input_end(&b->input, &piece);
        tell_input(t, b, &piece);
    }
    b->open = false;
    if (t->ear && t->ear->end) t->ear->end(t->arg, b);
}

void turn_call_end(struct turn *t)
{
    struct turn_block *b = open_block(t);
    CHECK(t->failed || (b && turn_is_call(b->kind)));
    if (b) b->whole = true;
    turn_end(t);
}

static void take_call(struct turn *t, const struct choice *c, const struct tool_part *p)
{
    const struct tool *tool = c->ask->tools ? tool_set_find(c->ask->tools, p->name.data, p->name.len) : NULL;
    char id[ANSWER_CALL_ID_BYTES];
    if (!p->told) {
        choice_call_id(c, p, id);
        turn_call(t, tool && tool->one_text ? TURN_CUSTOM : TURN_CALL, id, strlen(id), p->name.data,
                  p->name.len);
    }
    if (p->text.len > 0) turn_arguments(t, p->text.data, p->text.len);
    struct turn_block *b = open_block(t);
    if (b && !p->told) b->call = p->call;
    if (b && p->ended && turn_is_call(b->kind) && b->call == p->call) turn_call_end(t);
}

/* A text may come out of a call, and more of its arguments behind it: the text waits, for a block that ended
 * does not grow. */
static bool holds_back(const struct choice *c, const struct tool_part *p)
{
    return p->kind == TOOL_CALL && !p->ended && p->call == c->parts.n_call - 1 && !c->finish && !c->done;
}

void turn_take(struct turn *t, struct choice *c)
{
    int n = 0;
    for (bool held = false; n < c->parts.n && !held; n++) {
        const struct tool_part *p = &c->parts.v[n];
        if (p->kind == TOOL_CALL)
            take_call(t, c, p);
        else
            turn_put(t, p->kind == TOOL_TEXT ? TURN_TEXT : TURN_THOUGHT, p->text.data, p->text.len);
        held = holds_back(c, p);
    }
    choice_told(c, n);
}

bool turn_failed(const struct turn *t)
{
    bool failed = t->failed;
    for (int i = 0; i < t->n; i++)
        failed |= strbuf_failed(&t->block[i].text) || strbuf_failed(&t->block[i].id) ||
                  strbuf_failed(&t->block[i].name);
    return failed;
}
