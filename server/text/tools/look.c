/* look: see look.h. */
#include "server/text/tools/look.h"

#include <string.h>

enum look look_space(struct cursor *c)
{
    for (int i = 0; c->at < c->n && json_is_space(c->p[c->at]); i++, c->at++)
        if (i == LOOK_SPACE_MOST) return LOOK_NO;
    return LOOK_YES;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_name(char c)
{
    return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.' || c == '/' || c == ':' ||
           (unsigned char)c >= 0x80;
}

/* A run of one character at least. */
static enum look look_run(struct cursor *c, bool letters)
{
    const size_t from = c->at;
    while (c->at < c->n && c->at - from < TOOL_NAME_BYTES &&
           (is_digit(c->p[c->at]) || (letters && is_letter(c->p[c->at]))))
        c->at++;
    return c->at == c->n ? LOOK_MORE : c->at > from ? LOOK_YES : LOOK_NO;
}

enum look look_marker(struct cursor *c, const char *m)
{
    while (*m) {
        if (json_is_space(*m)) {
            while (json_is_space(*m)) m++;
            if (look_space(c) == LOOK_NO) return LOOK_NO;
            continue;
        }
        if (c->at == c->n) return LOOK_MORE;
        if (*m == '\1' || *m == '\2') {
            const enum look l = look_run(c, *m == '\2');
            if (l != LOOK_YES) return l;
        } else if (*m != c->p[c->at++]) {
            return LOOK_NO;
        }
        m++;
    }
    return LOOK_YES;
}

struct core look_core(const char *m)
{
    struct core k = {.p = m, .n = strlen(m)};
    while (k.n > 0 && json_is_space(k.p[k.n - 1])) k.n--;
    while (k.n > 0 && json_is_space(*k.p)) {
        k.p++;
        k.n--;
    }
    return k;
}

static enum look look_byte(struct cursor *c, char want)
{
    if (look_space(c) == LOOK_NO) return LOOK_NO;
    if (c->at == c->n) return LOOK_MORE;
    return c->p[c->at++] == want ? LOOK_YES : LOOK_NO;
}

/* A short string without escapes. */
static enum look look_string(struct cursor *c, const char **s, size_t *n)
{
    const enum look l = look_byte(c, '"');
    if (l != LOOK_YES) return l;
    *s = c->p + c->at;
    for (*n = 0; c->at < c->n && c->p[c->at] != '"'; c->at++, ++*n)
        if (*n == TOOL_NAME_BYTES || c->p[c->at] == '\\' || (unsigned char)c->p[c->at] < 0x20) return LOOK_NO;
    return c->at++ < c->n ? LOOK_YES : LOOK_MORE;
}

static bool is(const char *s, size_t n, const char *word) { return strlen(word) == n && !memcmp(s, word, n); }

/* {"name": "NAME"; other short members in front that say nothing are skipped. */
static enum look look_object(const struct tool_format *f, struct cursor *c, struct opening *o)
{
    const char *key, *value;
    size_t n_key, n_value;
    enum look l = look_byte(c, '{');
    while (l == LOOK_YES) {
        l = look_string(c, &key, &n_key);
        if (l == LOOK_YES && !is(key, n_key, f->name_key) && !is(key, n_key, "id") && !is(key, n_key, "type"))
            return LOOK_NO;
        if (l == LOOK_YES) l = look_byte(c, ':');
        if (l == LOOK_YES) l = look_string(c, &value, &n_value);
        if (l == LOOK_YES && is(key, n_key, f->name_key)) {
            o->name = value;
            o->n_name = n_value;
            return n_value ? LOOK_YES : LOOK_NO;
        }
        if (l == LOOK_YES) l = look_byte(c, ',');
    }
    return l;
}

/* A name up to what follows it; close may begin with a character of names. */
static enum look look_name(struct cursor *c, const char *close, struct opening *o)
{
    o->name = c->p + c->at;
    for (o->n_name = 0; o->n_name <= TOOL_NAME_BYTES; o->n_name++, c->at++) {
        if (c->at == c->n) return LOOK_MORE;
        struct cursor k = *c;
        const enum look l = o->n_name ? look_marker(&k, close) : LOOK_NO;
        if (l == LOOK_MORE) return LOOK_MORE;
        /* a close of white space alone is there when the name is over */
        if (l == LOOK_YES && (look_core(close).n > 0 || !is_name(c->p[c->at]))) {
            *c = k;
            return LOOK_YES;
        }
        if (!is_name(c->p[c->at])) return LOOK_NO;
    }
    return LOOK_NO;
}

/* Behind a tagged call's name stands a key, or its end: without that GLM's opening is any word. */
static enum look look_tag(const struct tool_format *f, const struct cursor *c)
{
    const char *const mark[] = {f->key_open, f->args_close, f->call_close};
    enum look best = LOOK_NO;
    for (size_t i = 0; i < sizeof mark / sizeof *mark; i++) {
        struct cursor k = *c;
        if (!*mark[i]) continue;
        if (look_space(&k) == LOOK_NO) return LOOK_NO;
        const enum look l = look_marker(&k, look_core(mark[i]).p);
        if (l > best) best = l;
    }
    return best;
}

static enum look look_body(const struct tool_format *f, struct cursor *c, struct opening *o)
{
    if (f->style == TOOL_OBJECT) return look_object(f, c, o);
    enum look l = look_space(c) == LOOK_NO ? LOOK_NO : look_marker(c, f->name_open);
    if (l != LOOK_YES) return l;
    l = look_name(c, f->style == TOOL_PYTHON ? "(" : f->name_close, o);
    return l == LOOK_YES && f->style == TOOL_TAGGED ? look_tag(f, c) : l;
}

/* One way to open a call: with the section's opening or without, with the call's or without. */
struct way {
    bool section, list, call;
};

static enum look look_way(const struct tool_parser *p, struct cursor c, struct way w, struct opening *o)
{
    const struct tool_format *f = p->f;
    enum look l = LOOK_YES;
    if (w.section) l = look_marker(&c, f->section_open);
    if (l == LOOK_YES && w.list) l = look_byte(&c, '[');
    if (l == LOOK_YES && look_space(&c) == LOOK_NO) l = LOOK_NO;
    if (l == LOOK_YES && w.call) l = look_marker(&c, f->call_open);
    if (l == LOOK_YES) l = look_body(f, &c, o);
    o->used = c.at;
    if (l == LOOK_YES && f->bare && !tool_set_find(p->set, o->name, o->n_name)) return LOOK_NO;
    return l;
}

enum look look_open(const struct tool_parser *p, const char *s, size_t n, struct opening *o)
{
    const struct tool_format *f = p->f;
    const bool head = f->bare && !p->said, call = *f->call_open != '\0';
    const struct {
        bool may;
        struct way way;
    } row[] = {
        {*f->section_open != '\0', {.section = true, .list = f->list, .call = call}},
        {head || (call && !f->list), {.list = f->list, .call = call}},
        {p->inside, {.call = call}},
        {call && f->style == TOOL_TAGGED && *f->name_open, {.call = false}},
    };
    enum look best = LOOK_NO;
    if (n > LOOK_HELD_MOST) return LOOK_NO;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct opening found;
        if (!row[i].may) continue;
        const enum look l = look_way(p, (struct cursor){.p = s, .n = n}, row[i].way, &found);
        if (l == LOOK_YES) *o = found;
        if (l > best) best = l;
        if (best == LOOK_YES) break;
    }
    return best;
}

enum look look_after(const struct tool_parser *p, const char *s, size_t n, size_t *used, bool *closes)
{
    const struct tool_format *f = p->f;
    const struct {
        const char *mark;
        bool closes;
    } row[] = {{f->call_close, false},
               {f->args_close, false},
               {f->between, false},
               {f->list ? "]" : "", true},
               {f->section_close, true}};
    enum look best = LOOK_NO;
    for (size_t i = 0; i < sizeof row / sizeof *row && best != LOOK_YES; i++) {
        struct cursor c = {.p = s, .n = n};
        const struct core k = look_core(row[i].mark);
        if (k.n == 0 || (!p->inside && !row[i].closes)) continue;
        const enum look l = look_marker(&c, k.p);
        if (l == LOOK_YES) {
            *used = c.at;
            *closes = row[i].closes;
        }
        if (l > best) best = l;
    }
    return best;
}
