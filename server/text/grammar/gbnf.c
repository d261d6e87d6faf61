/* gbnf: the parser. */
#include "server/text/grammar/gbnf.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/text/grammar/ecma_internal.h"
#include "base/utf8.h"

enum { DEPTH_MOST = 100, RANGES_MOST = 1024 };

bool gbnf_ok(const struct gbnf *g) { return !g->why && g->net->pool->fail == OK; }

void gbnf_bad(struct gbnf *g, const char *at, const char *why)
{
    if (g->why) return;
    g->why = why;
    g->why_at = at;
}

static struct gbnf_node *node(struct gbnf *g, enum gbnf_kind kind, const char *at)
{
    struct gbnf_node *n = arena_alloc(&g->mem, sizeof *n);
    if (!n) {
        pool_fail(g->net->pool, ERR_UNSUPPORTED, "bytes");
        return NULL;
    }
    n->kind = kind;
    n->at = at;
    return n;
}

/* --- words and white space */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static void skip(struct gbnf *g, bool lines)
{
    for (; g->p < g->end; g->p++) {
        char c = *g->p;
        if (c == '#')
            while (g->p + 1 < g->end && g->p[1] != '\n' && g->p[1] != '\r') g->p++;
        else if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r')))
            return;
    }
}

static bool names_grow(struct gbnf *g)
{
    if ((g->n_rule + 1) * 2 <= g->cap_by_name) return true;
    if (!pool_grow(g->net->pool, &g->by_name, &g->cap_by_name, g->cap_by_name ? g->cap_by_name * 2 : 64,
                   sizeof *g->by_name))
        return false;
    memset(g->by_name, 0, g->cap_by_name * sizeof *g->by_name);
    for (size_t i = 0; i < g->n_rule; i++) {
        size_t at = pool_hash(g->rule[i].name, g->rule[i].n, 21) % g->cap_by_name;
        while (g->by_name[at]) at = (at + 1) % g->cap_by_name;
        g->by_name[at] = (uint32_t)i + 1;
    }
    return true;
}

static uint32_t rule_named(struct gbnf *g, const char *name, size_t n)
{
    if (!names_grow(g)) return 0;
    size_t at = pool_hash(name, n, 21) % g->cap_by_name;
    for (; g->by_name[at]; at = (at + 1) % g->cap_by_name) {
        const struct gbnf_rule *r = &g->rule[g->by_name[at] - 1];
        if (r->n == n && memcmp(r->name, name, n) == 0) return g->by_name[at] - 1;
    }
    if (!pool_grow(g->net->pool, &g->rule, &g->cap_rule, g->n_rule + 1, sizeof *g->rule)) return 0;
    g->rule[g->n_rule] = (struct gbnf_rule){.name = name, .n = n, .at = name};
    g->by_name[at] = (uint32_t)g->n_rule + 1;
    return (uint32_t)g->n_rule++;
}

static size_t word(struct gbnf *g)
{
    size_t n = 0;
    while (g->p + n < g->end && is_word(g->p[n])) n++;
    return n;
}

/* --- characters */

static uint32_t take_hex(struct gbnf *g, int digits)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++, g->p++) {
        char c = g->p < g->end ? *g->p : '\0';
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) {
            gbnf_bad(g, g->p, "a hexadecimal digit is missing");
            return 0;
        }
        v = v * 16 + (uint32_t)d;
    }
    return v;
}

static uint32_t take_char(struct gbnf *g)
{
    const char *at = g->p;
    int n = utf8_step((const uint8_t *)g->p, (size_t)(g->end - g->p));
    if (n <= 0) {
        gbnf_bad(g, at, "not valid UTF-8");
        return 0;
    }
    uint32_t c;
    g->p += utf8_get(g->p, g->end, &c);
    if (c != '\\') return c;
    char e = g->p < g->end ? *g->p++ : '\0';
    switch (e) {
    case 'x':
        c = take_hex(g, 2);
        break;
    case 'u':
        c = take_hex(g, 4);
        break;
    case 'U':
        c = take_hex(g, 8);
        break;
    case 't':
        c = '\t';
        break;
    case 'r':
        c = '\r';
        break;
    case 'n':
        c = '\n';
        break;
    case '\\':
    case '"':
    case '[':
    case ']':
        c = (uint32_t)e;
        break;
    default:
        gbnf_bad(g, at, "this escape is not known");
        break;
    }
    if (c > CHARS_LAST || (c >= 0xd800 && c <= 0xdfff)) gbnf_bad(g, at, "this is no character");
    return c;
}

static struct gbnf_node *leaf(struct gbnf *g, const char *at, uint32_t rx)
{
    struct gbnf_node *n = node(g, GBNF_LEAF, at);
    if (n) n->rx = rx;
    return n;
}

static struct gbnf_node *literal(struct gbnf *g)
{
    const char *at = g->p++;
    char *text = arena_alloc(&g->mem, (size_t)(g->end - at));
    size_t n = 0;
    const char *last = memchr(g->p, '"', (size_t)(g->end - g->p));
    if (!text) pool_fail(g->net->pool, ERR_UNSUPPORTED, "bytes");
    if (!last) gbnf_bad(g, at, "a literal is not closed");
    while (gbnf_ok(g) && g->p < g->end && *g->p != '"') n += (size_t)utf8_put(text + n, take_char(g));
    if (g->p >= g->end) gbnf_bad(g, at, "a literal is not closed");
    g->p++;
    return gbnf_ok(g) ? leaf(g, at, rx_text(g->x, text, n)) : NULL;
}

static struct gbnf_node *class(struct gbnf *g)
{
    const char *at = g->p++;
    struct chars_range r[RANGES_MOST + 2], inverse[RANGES_MOST + 2];
    size_t n = 0, m = 0;
    uint32_t from = 0;
    bool not = g->p < g->end && *g->p == '^';
    if (not ) g->p++;
    while (gbnf_ok(g) && g->p < g->end && *g->p != ']') {
        const char *here = g->p;
        uint32_t lo = take_char(g), hi = lo;
        if (g->end - g->p >= 2 && g->p[0] == '-' && g->p[1] != ']') {
            g->p++;
            hi = take_char(g);
        }
        if (lo > hi) gbnf_bad(g, here, "a range runs backwards");
        if (n == RANGES_MOST)
            gbnf_bad(g, here, "a class has too many ranges");
        else
            r[n++] = (struct chars_range){lo, hi};
    }
    if (g->p >= g->end) gbnf_bad(g, at, "a class is not closed");
    g->p++;
    n = ecma_normal(r, n);
    for (size_t i = 0; i < n && not ; i++) {
        if (r[i].lo > from) inverse[m++] = (struct chars_range){from, r[i].lo - 1};
        from = r[i].hi + 1;
    }
    if (not &&from <= CHARS_LAST) inverse[m++] = (struct chars_range){from, CHARS_LAST};
    return gbnf_ok(g) ? leaf(g, at, chars_class(g->x, CHARS_RAW, not ? inverse : r, not ? m : n)) : NULL;
}

/* --- expressions */

static struct gbnf_node *alternatives(struct gbnf *g, bool nested);

static struct gbnf_node *group(struct gbnf *g)
{
    const char *at = g->p++;
    if (++g->depth > DEPTH_MOST) gbnf_bad(g, at, "groups are nested too deeply");
    skip(g, true);
    struct gbnf_node *n = gbnf_ok(g) ? alternatives(g, true) : NULL;
    g->depth--;
    if (gbnf_ok(g) && (g->p >= g->end || *g->p != ')')) gbnf_bad(g, at, "a group is not closed");
    g->p++;
    return n;
}

/* NULL without a fault: nothing of an expression begins here. */
static struct gbnf_node *atom(struct gbnf *g)
{
    char c = g->p < g->end ? *g->p : '\0';
    if (c == '"') return literal(g);
    if (c == '[') return class(g);
    if (c == '(') return group(g);
    if (c == '.') return leaf(g, g->p++, chars_any(g->x, CHARS_RAW));
    if (c == '<' || c == '!') gbnf_bad(g, g->p, "tokens in a grammar are not supported");
    size_t n = word(g);
    if (n == 0 || !gbnf_ok(g)) return NULL;
    struct gbnf_node *r = node(g, GBNF_NAME, g->p);
    if (r) r->rule = rule_named(g, g->p, n);
    g->p += n;
    return r;
}

static uint32_t number(struct gbnf *g)
{
    uint64_t v = 0;
    if (g->p >= g->end || *g->p < '0' || *g->p > '9') gbnf_bad(g, g->p, "a number is missing");
    for (; g->p < g->end && *g->p >= '0' && *g->p <= '9'; g->p++)
        if ((v = v * 10 + (uint64_t)(*g->p - '0')) > 1u << 24) {
            gbnf_bad(g, g->p, "a repetition is too long");
            break;
        }
    return (uint32_t)v;
}

static void braces(struct gbnf *g, uint32_t *min, uint32_t *max, bool lines)
{
    const char *at = g->p++;
    skip(g, lines);
    *min = g->p < g->end && *g->p == ',' ? 0 : number(g);
    *max = *min;
    skip(g, lines);
    if (g->p < g->end && *g->p == ',') {
        g->p++;
        skip(g, lines);
        *max = g->p < g->end && *g->p == '}' ? RX_MORE : number(g);
        skip(g, lines);
    }
    if (g->p >= g->end || *g->p != '}') gbnf_bad(g, g->p, "a repetition is not closed");
    if (*max < *min) gbnf_bad(g, at, "a repetition's bounds run backwards");
    g->p++;
}

static struct gbnf_node *repeated(struct gbnf *g, struct gbnf_node *a, bool lines)
{
    int more = 0;
    for (skip(g, lines); a && gbnf_ok(g) && g->p < g->end; skip(g, lines)) {
        uint32_t min = 0, max = RX_MORE;
        char c = *g->p;
        const char *at = g->p;
        if (c != '*' && c != '+' && c != '?' && c != '{') break;
        if (++more > DEPTH_MOST) gbnf_bad(g, at, "too many repetitions in a row");
        if (c == '{')
            braces(g, &min, &max, lines);
        else
            g->p++;
        if (c == '+') min = 1;
        if (c == '?') max = 1;
        struct gbnf_node *r = node(g, GBNF_REP, at);
        if (!r) return NULL;
        r->first = a;
        r->min = min;
        r->max = max;
        a = r;
    }
    return a;
}

static struct gbnf_node *sequence(struct gbnf *g, bool nested)
{
    struct gbnf_node *seq = node(g, GBNF_SEQ, g->p), **tail = seq ? &seq->first : NULL;
    while (seq && gbnf_ok(g)) {
        struct gbnf_node *a = repeated(g, atom(g), nested);
        if (!a) break;
        *tail = a;
        tail = &a->next;
    }
    return seq;
}

static struct gbnf_node *alternatives(struct gbnf *g, bool nested)
{
    struct gbnf_node *alt = node(g, GBNF_ALT, g->p), **tail = alt ? &alt->first : NULL;
    while (alt && gbnf_ok(g)) {
        struct gbnf_node *s = sequence(g, nested);
        if (!s) break;
        *tail = s;
        tail = &s->next;
        if (g->p >= g->end || *g->p != '|') break;
        g->p++;
        skip(g, true);
    }
    return alt;
}

static void definition(struct gbnf *g)
{
    const char *at = g->p;
    size_t n = word(g);
    if (n == 0) gbnf_bad(g, at, "a rule's name is missing");
    uint32_t id = gbnf_ok(g) ? rule_named(g, at, n) : 0;
    g->p += n;
    skip(g, false);
    if (g->end - g->p < 3 || memcmp(g->p, "::=", 3) != 0) gbnf_bad(g, g->p, "::= is missing");
    if (!gbnf_ok(g)) return;
    g->p += 3;
    skip(g, true);
    struct gbnf_node *body = alternatives(g, false);
    if (!gbnf_ok(g)) return;
    if (g->p < g->end && *g->p != '\n' && *g->p != '\r')
        gbnf_bad(g, g->p, "a rule ends here, but its line goes on");
    if (g->rule[id].body) gbnf_bad(g, at, "this rule is defined twice");
    g->rule[id].body = body;
}

void gbnf_parse(struct gbnf *g)
{
    rule_named(g, "root", 4);
    for (skip(g, true); gbnf_ok(g) && g->p < g->end; skip(g, true)) definition(g);
    if (gbnf_ok(g) && !g->rule[0].body) gbnf_bad(g, g->end, "there is no rule named root");
    for (size_t i = 0; i < g->n_rule && gbnf_ok(g); i++)
        if (!g->rule[i].body) gbnf_bad(g, g->rule[i].at, "this rule is not defined");
}

enum err gbnf_compile(struct rtn *net, const char *text, size_t n, size_t mem_bytes, uint32_t *rule,
                      struct err_note *note)
{
    struct gbnf g = {.net = net, .x = net->x, .text = text, .p = text, .end = text + n};
    enum err e = OK;
    arena_init(&g.mem, mem_bytes);
    gbnf_parse(&g);
    if (gbnf_ok(&g)) gbnf_build(&g);
    *rule = g.n_rule > 0 ? g.rule[0].net_rule : 0;
    if (g.why) {
        char where[48];
        int line = 1, column = 1;
        for (const char *p = text; p < g.why_at && p < g.end; p++) {
            if (*p == '\n')
                line++, column = 1;
            else
                column += ((unsigned char)*p & 0xc0) != 0x80;
        }
        snprintf(where, sizeof where, "%d:%d", line, column);
        e = err_set(note, ERR_INVALID_VALUE, where, "the grammar, line %d, column %d: %s", line, column,
                    g.why);
    }
    free(g.rule);
    free(g.by_name);
    arena_fini(&g.mem);
    return e;
}
