/* ecma: a pattern's tree, and the regular expression made of it. */
#include "server/text/grammar/ecma.h"

#include "server/text/grammar/ecma_internal.h"

enum { DEPTH_MOST = 100, TREE_BYTES = 8 << 20, REPEAT_MOST = 1 << 24 };

struct ecma_node *ecma_bad(struct ecma_parser *p, const char *why)
{
    if (!p->why) {
        p->why = why;
        p->why_at = (size_t)(p->p - p->text);
    }
    return NULL;
}

/* --- parser */

static struct ecma_node *node(struct ecma_parser *p, enum ecma_kind kind, struct ecma_node *first)
{
    struct ecma_node *n = arena_alloc(p->mem, sizeof *n);
    if (!n) return ecma_bad(p, "takes too much memory");
    n->kind = kind;
    n->first = first;
    n->at = (size_t)(p->p - p->text);
    return n;
}

static struct ecma_node *parse_alt(struct ecma_parser *p);

static struct ecma_node *parse_group(struct ecma_parser *p)
{
    enum ecma_kind kind = ECMA_SEQ;
    size_t left = (size_t)(p->end - p->p);
    if (left >= 2 && p->p[0] == '?') {
        if (p->p[1] == ':')
            p->p += 2;
        else if (p->p[1] == '=' || p->p[1] == '!') {
            kind = p->p[1] == '=' ? ECMA_LOOK : ECMA_LOOK_NOT;
            p->p += 2;
        } else if (left >= 3 && p->p[1] == '<' && p->p[2] != '=' && p->p[2] != '!') {
            const char *close = memchr(p->p, '>', left);
            if (!close) return ecma_bad(p, "a group's name is not closed");
            p->p = close + 1;
        } else
            return ecma_bad(p, "this kind of group is not supported");
    }
    if (++p->depth > DEPTH_MOST) return ecma_bad(p, "groups are nested too deeply");
    struct ecma_node *alt = parse_alt(p);
    p->depth--;
    if (!alt) return NULL;
    if (p->p >= p->end) return ecma_bad(p, "a group is not closed");
    p->p++;
    return kind == ECMA_SEQ ? alt : node(p, kind, alt);
}

static struct ecma_node *parse_atom(struct ecma_parser *p)
{
    static const struct chars_range dot[] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202a, CHARS_LAST}};
    char c = *p->p;
    switch (c) {
    case '^':
    case '$':
        p->p++;
        return node(p, c == '^' ? ECMA_BEGIN : ECMA_END, NULL);
    case '(':
        p->p++;
        return parse_group(p);
    case '[':
        p->p++;
        return ecma_class(p);
    case '.':
        p->p++;
        return ecma_set(p, dot, 4);
    case '\\':
        p->p++;
        return ecma_escape(p);
    case '*':
    case '+':
    case '?':
        return ecma_bad(p, "nothing to repeat");
    default:
        break;
    }
    uint32_t ch = ecma_char(p);
    return p->why ? NULL : ecma_set(p, &(struct chars_range){ch, ch}, 1);
}

static bool take_number(const char **at, const char *end, uint32_t *out)
{
    const char *p = *at;
    uint64_t v = 0;
    while (p < end && *p >= '0' && *p <= '9' && v < RX_MORE) v = v * 10 + (uint64_t)(*p++ - '0');
    if (p == *at || v >= RX_MORE) return false;
    *at = p;
    *out = (uint32_t)v;
    return true;
}

/* {n}, {n,} or {n,m} at p; what is none of them is text. */
static bool take_braces(struct ecma_parser *p, uint32_t *min, uint32_t *max)
{
    const char *q = p->p + 1;
    if (!take_number(&q, p->end, min)) return false;
    *max = *min;
    if (q < p->end && *q == ',') {
        q++;
        *max = RX_MORE;
        if (q < p->end && *q != '}' && !take_number(&q, p->end, max)) return false;
    }
    if (q >= p->end || *q != '}') return false;
    p->p = q + 1;
    return true;
}

static struct ecma_node *parse_repeat(struct ecma_parser *p, struct ecma_node *a)
{
    while (a && p->p < p->end) {
        uint32_t min = 0, max = RX_MORE;
        char c = *p->p;
        if (c == '{' && !take_braces(p, &min, &max)) return a;
        if (c != '{' && c != '*' && c != '+' && c != '?') return a;
        if (c != '{') p->p++;
        if (c == '+') min = 1;
        if (c == '?') max = 1;
        if (p->p < p->end && *p->p == '?') p->p++; /* lazy: the same language */
        if (max < min) return ecma_bad(p, "a repetition's bounds run backwards");
        if (min > REPEAT_MOST) return ecma_bad(p, "a repetition is too long");
        if (a->kind == ECMA_BEGIN || a->kind == ECMA_END || a->kind == ECMA_LOOK || a->kind == ECMA_LOOK_NOT)
            return ecma_bad(p, "nothing to repeat");
        if (++p->depth > DEPTH_MOST) return ecma_bad(p, "repetitions are nested too deeply");
        a = node(p, ECMA_REP, a);
        if (a) {
            a->min = min;
            a->max = max;
        }
    }
    return a;
}

static struct ecma_node *parse_seq(struct ecma_parser *p)
{
    struct ecma_node *seq = node(p, ECMA_SEQ, NULL), **tail = seq ? &seq->first : NULL;
    int depth = p->depth;
    while (seq && p->p < p->end && *p->p != '|' && *p->p != ')') {
        struct ecma_node *a = parse_repeat(p, parse_atom(p));
        p->depth = depth;
        if (!a) return NULL;
        *tail = a;
        tail = &a->next;
    }
    return seq;
}

static struct ecma_node *parse_alt(struct ecma_parser *p)
{
    struct ecma_node *alt = node(p, ECMA_ALT, NULL), **tail = alt ? &alt->first : NULL;
    while (alt) {
        struct ecma_node *s = parse_seq(p);
        if (!s) return NULL;
        *tail = s;
        tail = &s->next;
        if (p->p >= p->end || *p->p != '|') break;
        p->p++;
    }
    return alt;
}

struct ecma_node *ecma_parse(struct ecma_parser *p)
{
    struct ecma_node *alt = parse_alt(p);
    if (alt && p->p < p->end) return ecma_bad(p, "a group is closed that is not open");
    return alt;
}

/* --- builder */

struct builder {
    struct rx *x;
    enum chars_mode mode;
    struct ecma_parser *p; /* for messages and memory */
};

static uint32_t refuse(struct builder *b, const struct ecma_node *n, const char *why)
{
    if (!b->p->why) {
        b->p->why = why;
        b->p->why_at = n->at;
    }
    return RX_EMPTY;
}

/* A tree without anchors and lookaheads. */
static uint32_t build(struct builder *b, const struct ecma_node *n)
{
    struct rx *x = b->x;
    size_t base = x->n_tmp;
    uint32_t r = RX_EPS;
    if (b->p->why || x->pool->fail != OK) return RX_EMPTY;
    switch (n->kind) {
    case ECMA_SET:
        return chars_class(x, b->mode, n->range, n->n_range);
    case ECMA_REP:
        return rx_rep(x, build(b, n->first), n->min, n->max);
    case ECMA_ALT:
        for (const struct ecma_node *c = n->first; c; c = c->next) rx_push(x, build(b, c));
        return rx_alt_of(x, base);
    case ECMA_SEQ:
        for (const struct ecma_node *c = n->first; c; c = c->next) rx_push(x, build(b, c));
        for (size_t i = x->n_tmp; i > base; i--) r = rx_cat(x, x->tmp[i - 1], r);
        x->n_tmp = base;
        return r;
    case ECMA_BEGIN:
    case ECMA_END:
        return refuse(b, n, "an anchor in this place is not supported");
    default:
        return refuse(b, n, "a lookahead in this place is not supported");
    }
}

static bool has(const struct ecma_node *n, enum ecma_kind kind)
{
    if (n->kind == kind) return true;
    for (const struct ecma_node *c = n->first; c; c = c->next)
        if (has(c, kind)) return true;
    return false;
}

static uint32_t build_ends(struct builder *b, const struct ecma_node *n, uint32_t before, uint32_t behind);

/* What is left of a sequence, with `behind` after it unless it ends with $. */
static uint32_t build_rest(struct builder *b, const struct ecma_node *n, uint32_t behind)
{
    struct rx *x = b->x;
    if (!n) return behind;
    if (x->pool->fail != OK || b->p->why) return RX_EMPTY;
    if (n->kind == ECMA_END) {
        while (n && n->kind == ECMA_END) n = n->next;
        return n ? refuse(b, n, "nothing may follow $") : RX_EPS;
    }
    if (n->kind == ECMA_LOOK || n->kind == ECMA_LOOK_NOT) {
        uint32_t seen = build_ends(b, n->first, RX_EPS, chars_many(x, b->mode)),
                 rest = build_rest(b, n->next, behind);
        return n->kind == ECMA_LOOK ? rx_and(x, rest, seen) : rx_minus(x, rest, seen);
    }
    if (!n->next && n->kind == ECMA_ALT && (has(n, ECMA_END) || has(n, ECMA_LOOK) || has(n, ECMA_LOOK_NOT)))
        return build_ends(b, n, RX_EPS, behind);
    uint32_t head = build(b, n);
    return rx_cat(x, head, build_rest(b, n->next, behind));
}

/* A sequence with `before` ahead unless it begins with ^. A group at its head may hold ^: it is taken apart.
 */
static uint32_t build_seq(struct builder *b, const struct ecma_node *n, uint32_t before, uint32_t behind)
{
    struct rx *x = b->x;
    bool begin = n && n->kind == ECMA_BEGIN;
    if (n && !n->next && n->kind == ECMA_ALT) return build_ends(b, n, before, behind);
    if (n && n->kind == ECMA_ALT && has(n, ECMA_BEGIN)) {
        size_t base = x->n_tmp;
        for (const struct ecma_node *seq = n->first; seq; seq = seq->next) {
            const struct ecma_node *c = seq->first;
            bool own = c && c->kind == ECMA_BEGIN;
            while (c && c->kind == ECMA_BEGIN) c = c->next;
            size_t inner = x->n_tmp;
            for (; c; c = c->next) rx_push(x, build(b, c));
            uint32_t r = build_rest(b, n->next, behind);
            for (size_t i = x->n_tmp; i > inner; i--) r = rx_cat(x, x->tmp[i - 1], r);
            x->n_tmp = inner;
            rx_push(x, own ? r : rx_cat(x, before, r));
        }
        return rx_alt_of(x, base);
    }
    while (n && n->kind == ECMA_BEGIN) n = n->next;
    uint32_t rest = build_rest(b, n, behind);
    return begin ? rest : rx_cat(x, before, rest);
}

static uint32_t build_ends(struct builder *b, const struct ecma_node *n, uint32_t before, uint32_t behind)
{
    struct rx *x = b->x;
    size_t base = x->n_tmp;
    for (const struct ecma_node *seq = n->first; seq; seq = seq->next)
        rx_push(x, build_seq(b, seq->first, before, behind));
    return rx_alt_of(x, base);
}

bool ecma_compile(struct rx *x, enum chars_mode mode, enum ecma_how how, const char *pattern, size_t n,
                  uint32_t *out, const char **why, size_t *at)
{
    struct arena mem;
    arena_init(&mem, TREE_BYTES);
    struct ecma_parser p = {.text = pattern, .p = pattern, .end = pattern + n, .mem = &mem};
    struct builder b = {.x = x, .mode = mode, .p = &p};
    struct ecma_node *tree = ecma_parse(&p);
    uint32_t around = how == ECMA_SEARCH ? chars_many(x, mode) : RX_EPS;
    size_t base = x->n_tmp;
    *out = tree ? build_ends(&b, tree, around, around) : RX_EMPTY;
    x->n_tmp = base;
    arena_fini(&mem);
    *why = p.why;
    *at = p.why_at;
    return !p.why;
}
