/* primary: literals, names, attributes, elements, calls, filters and tests. */
#include <stdio.h>

#include "server/jinja/ast.h"

static struct node *constant(struct parser *p, struct tmpl_value v, int line)
{
    struct node *n = tmpl_node_new(p, NODE_CONST, line);
    if (n) n->value = v;
    return n;
}

/* A text of the template's own: read by many threads, so its caches are filled now. */
static struct text *own_text(struct parser *p, const char *s, size_t n)
{
    struct text *t = arena_alloc(&p->t->arena, sizeof *t);
    if (t) *t = (struct text){.p = s, .n = n, .n_char = TEXT_UNCOUNTED};
    if (!t || !tmpl_text_seal(&p->t->arena, t)) {
        p->err = err_set(p->note, ERR_NOMEM, "chat_template", "out of memory");
        return NULL;
    }
    return t;
}

static struct node *text_constant(struct parser *p, const char *s, size_t n, int line)
{
    struct tmpl_value v;
    return val_from_text(own_text(p, s, n), &v) ? constant(p, v, line) : NULL;
}

/* --- arguments --- */

static bool parse_arg(struct parser *p, struct call_args *a, size_t cap)
{
    const struct token *t = tok_now(p);
    if (t->kind == TOK_MUL || t->kind == TOK_POW) {
        struct node **to = t->kind == TOK_MUL ? &a->star : &a->star_star;
        if (a->star_star || *to)
            return tmpl_syntax_error(p, t->line, "invalid syntax for function call expression");
        tok_step(p);
        *to = tmpl_parse_expr(p);
        return *to != NULL;
    }
    if (a->n_pos + a->n_kw >= cap) return tmpl_syntax_error(p, t->line, "too many arguments");
    if (t->kind == TOK_NAME && tok_look(p)->kind == TOK_ASSIGN) {
        if (a->star_star) return tmpl_syntax_error(p, t->line, "invalid syntax for function call expression");
        struct named_node *kw = &a->kw[a->n_kw];
        kw->name = own_text(p, t->p, t->n);
        tok_step(p);
        tok_step(p);
        kw->value = kw->name ? tmpl_parse_expr(p) : NULL;
        a->n_kw++;
        return kw->value != NULL;
    }
    if (a->star || a->star_star || a->n_kw)
        return tmpl_syntax_error(p, t->line, "invalid syntax for function call expression");
    a->pos[a->n_pos] = tmpl_parse_expr(p);
    return a->pos[a->n_pos++] != NULL;
}

/* An upper bound of the arguments between the bracket here and its partner: commas at that level, and one. */
static size_t count_args(const struct parser *p)
{
    size_t n = 1;
    int level = 0;
    for (size_t i = p->at; i < p->n_tok; i++) {
        const enum tok_kind k = p->tok[i].kind;
        level += (k == TOK_LPAREN || k == TOK_LBRACKET || k == TOK_LBRACE) -
                 (k == TOK_RPAREN || k == TOK_RBRACKET || k == TOK_RBRACE);
        if (level == 0 || k == TOK_BLOCK_END || k == TOK_VAR_END) break;
        n += level == 1 && k == TOK_COMMA;
    }
    return n;
}

static struct call_args *parse_args(struct parser *p)
{
    const size_t cap = count_args(p);
    struct call_args *a = arena_alloc(&p->t->arena, sizeof *a);
    if (a) a->pos = arena_array(&p->t->arena, cap, sizeof(struct node *));
    if (a) a->kw = arena_array(&p->t->arena, cap, sizeof *a->kw);
    if (!a || !a->pos || !a->kw) {
        p->err = err_set(p->note, ERR_NOMEM, "chat_template", "out of memory");
        return NULL;
    }
    if (!tmpl_expect(p, TOK_LPAREN, "(") || !tmpl_enter(p)) return NULL;
    for (bool first = true; tok_now(p)->kind != TOK_RPAREN; first = false) {
        if (!first && !tmpl_expect(p, TOK_COMMA, ",")) return NULL;
        if (tok_now(p)->kind == TOK_RPAREN) break;
        if (!parse_arg(p, a, cap)) return NULL;
    }
    p->nesting--;
    return tmpl_expect(p, TOK_RPAREN, ")") ? a : NULL;
}

static struct node *parse_call(struct parser *p, struct node *fn)
{
    struct node *n = tmpl_node_unary(p, NODE_CALL, fn, tok_now(p)->line);
    if (n) n->args = parse_args(p);
    return n && n->args ? n : NULL;
}

/* --- attributes and elements --- */

/* What stands in brackets: an expression, or up to three of a slice into part[]. */
static struct node *parse_subscript_part(struct parser *p, struct node *part[3], bool *slice)
{
    *slice = false;
    for (int i = 0; i < 3; i++) {
        const enum tok_kind k = tok_now(p)->kind;
        if (k != TOK_COLON && k != TOK_RBRACKET && k != TOK_COMMA) {
            part[i] = tmpl_parse_expr(p);
            if (!part[i]) return NULL;
        } else if (k != TOK_COLON && i == 0) {
            return tmpl_parse_expr(p); /* reports what is there instead */
        }
        if (tok_now(p)->kind != TOK_COLON || i == 2) break;
        *slice = true;
        tok_step(p);
    }
    return part[0];
}

static struct node *parse_brackets(struct parser *p, struct node *of)
{
    const int line = tok_now(p)->line;
    struct node *part[3] = {NULL, NULL, NULL}, *tuple = NULL;
    bool slice;
    tok_step(p);
    if (!tmpl_enter(p)) return NULL;
    struct node *key = parse_subscript_part(p, part, &slice);
    if (p->err) return NULL;
    while (tok_now(p)->kind == TOK_COMMA) { /* x[1, 2]: a tuple as key */
        if (slice) {
            tmpl_syntax_error(p, line, "slices in a tuple are not supported");
            return NULL;
        }
        if (!tuple && (!(tuple = tmpl_node_new(p, NODE_TUPLE, line)) || !tmpl_node_add(p, tuple, key)))
            return NULL;
        tok_step(p);
        if (!tmpl_node_add(p, tuple, tmpl_parse_expr(p))) return NULL;
    }
    p->nesting--;
    if (!tmpl_expect(p, TOK_RBRACKET, "]")) return NULL;
    if (!slice) return tmpl_node_binary(p, NODE_ITEM, 0, of, tuple ? tuple : key, line);
    struct node *n = tmpl_node_unary(p, NODE_SLICE, of, line);
    if (n) n->kid = arena_array(&p->t->arena, 3, sizeof *n->kid);
    if (!n || !n->kid) return NULL;
    memcpy(n->kid, part, sizeof part);
    n->n_kid = 3;
    return n;
}

static struct node *parse_dot(struct parser *p, struct node *of)
{
    const int line = tok_now(p)->line;
    tok_step(p);
    const struct token *t = tok_now(p);
    tok_step(p);
    if (t->kind == TOK_INT)
        return tmpl_node_binary(p, NODE_ITEM, 0, of, constant(p, val_int(t->i), t->line), line);
    if (t->kind != TOK_NAME) {
        tmpl_syntax_error(p, t->line, "expected name or number");
        return NULL;
    }
    struct node *n = tmpl_node_unary(p, NODE_ATTR, of, line);
    if (n) n->text = own_text(p, t->p, t->n);
    return n && n->text ? n : NULL;
}

struct node *tmpl_parse_postfix(struct parser *p, struct node *n)
{
    while (n) {
        const enum tok_kind k = tok_now(p)->kind;
        if (k == TOK_DOT) {
            n = parse_dot(p, n);
        } else if (k == TOK_LBRACKET) {
            n = parse_brackets(p, n);
        } else if (k == TOK_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* --- filters and tests --- */

/* A name with dots, as the reference allows. */
static struct text *parse_dotted(struct parser *p)
{
    const struct token *t = tok_now(p);
    if (!tmpl_expect(p, TOK_NAME, "name")) return NULL;
    const char *end = t->p + t->n;
    while (tok_now(p)->kind == TOK_DOT) {
        tok_step(p);
        const struct token *next = tok_now(p);
        if (!tmpl_expect(p, TOK_NAME, "name")) return NULL;
        end = next->p + next->n;
    }
    return own_text(p, t->p, (size_t)(end - t->p));
}

/* Binds n to its function now. Inside an if an unknown one fails only when it is reached, as in the
 * reference. */
static struct node *resolve(struct parser *p, struct node *n)
{
    const bool filter = n->kind == NODE_FILTER;
    n->builtin = (filter ? tmpl_filter_find : tmpl_test_find)(n->text->p, n->text->n);
    if ((n->builtin && n->builtin->fn) || p->soft) return n;
    tmpl_syntax_error(p, n->line, n->builtin ? "the %s '%.*s' is not supported" : "No %s named '%.*s'.",
                      filter ? "filter" : "test", (int)n->text->n, n->text->p);
    return NULL;
}

static const struct call_args no_args;

struct node *tmpl_parse_filters(struct parser *p, struct node *on, bool start_inline)
{
    struct node *n = on;
    while (start_inline || tok_now(p)->kind == TOK_PIPE) {
        const int line = tok_now(p)->line;
        if (!start_inline) tok_step(p);
        start_inline = false;
        struct node *f = tmpl_node_new(p, NODE_FILTER, line);
        if (f) f->text = parse_dotted(p);
        if (!f || !f->text) return NULL;
        f->a = n;
        f->args = tok_now(p)->kind == TOK_LPAREN ? parse_args(p) : &no_args;
        n = f->args ? resolve(p, f) : NULL;
        if (!n) return NULL;
    }
    return n;
}

/* May the token begin the argument of a test that has no brackets ("x is divisibleby 3")? */
static bool is_test_arg(const struct token *t)
{
    if (t->kind == TOK_NAME)
        return !tok_is_word(t, "else") && !tok_is_word(t, "or") && !tok_is_word(t, "and");
    return t->kind == TOK_STRING || t->kind == TOK_INT || t->kind == TOK_FLOAT || t->kind == TOK_LBRACKET ||
           t->kind == TOK_LBRACE;
}

static struct node *parse_test(struct parser *p, struct node *on)
{
    const int line = tok_now(p)->line;
    tok_step(p);
    const bool negated = tok_is_word(tok_now(p), "not");
    if (negated) tok_step(p);
    struct node *n = tmpl_node_unary(p, NODE_TEST, on, line);
    if (n) n->text = parse_dotted(p);
    if (!n || !n->text) return NULL;
    n->args = &no_args;
    if (tok_now(p)->kind == TOK_LPAREN) {
        n->args = parse_args(p);
    } else if (is_test_arg(tok_now(p))) {
        if (tok_is_word(tok_now(p), "is")) {
            tmpl_syntax_error(p, line, "You cannot chain multiple tests with is");
            return NULL;
        }
        struct call_args *a = arena_alloc(&p->t->arena, sizeof *a);
        if (a) a->pos = arena_alloc(&p->t->arena, sizeof *a->pos);
        if (!a || !a->pos) return NULL;
        a->pos[0] = tmpl_parse_postfix(p, tmpl_parse_primary(p, false));
        a->n_pos = 1;
        n->args = a->pos[0] ? a : NULL;
    }
    if (!n->args || !resolve(p, n)) return NULL;
    return negated ? tmpl_node_unary(p, NODE_NOT, n, line) : n;
}

struct node *tmpl_parse_applied(struct parser *p, struct node *n)
{
    while (n) {
        if (tok_now(p)->kind == TOK_PIPE) {
            n = tmpl_parse_filters(p, n, false);
        } else if (tok_is_word(tok_now(p), "is")) {
            n = parse_test(p, n);
        } else if (tok_now(p)->kind == TOK_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* --- literals and names --- */

static struct node *parse_string(struct parser *p)
{
    const struct token *t = tok_now(p);
    size_t n = 0, k = 0, at = 0;
    while (p->tok[p->at + k].kind == TOK_STRING) n += p->tok[p->at + k++].n;
    if (k == 1) {
        tok_step(p);
        return text_constant(p, t->p, t->n, t->line);
    }
    char *s = arena_alloc(&p->t->arena, n + 1); /* adjacent strings are one */
    if (!s) return NULL;
    for (; k > 0; k--) {
        memcpy(s + at, tok_now(p)->p, tok_now(p)->n);
        at += tok_now(p)->n;
        tok_step(p);
    }
    return text_constant(p, s, n, t->line);
}

static struct node *parse_name(struct parser *p, bool target)
{
    static const struct {
        const char *word;
        enum val_kind kind;
        bool b;
    } constants[] = {
        {"true", VAL_BOOL, true},   {"True", VAL_BOOL, true},  {"false", VAL_BOOL, false},
        {"False", VAL_BOOL, false}, {"none", VAL_NONE, false}, {"None", VAL_NONE, false},
    };
    const struct token *t = tok_now(p);
    tok_step(p);
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (tok_is_word(t, constants[i].word)) {
            return constant(p, constants[i].kind == VAL_NONE ? val_none() : val_bool(constants[i].b),
                            t->line);
        }
    }
    const bool attr = target && tok_now(p)->kind == TOK_DOT;
    struct node *n = tmpl_node_new(p, attr ? NODE_NSREF : NODE_NAME, t->line);
    if (!n || (n->name = tmpl_name_id(p, t->p, t->n)) < 0) return NULL;
    static const struct {
        const char *word;
        uint8_t use;
    } specials[] = {{"caller", USES_CALLER}, {"kwargs", USES_KWARGS}, {"varargs", USES_VARARGS}};
    for (size_t i = 0; !target && i < 3; i++) {
        for (size_t m = 0; m < p->n_uses && tok_is_word(t, specials[i].word); m++)
            p->uses[m] |= specials[i].use;
    }
    if (!attr) return n;
    tok_step(p);
    const struct token *name = tok_now(p);
    n->text = tmpl_expect(p, TOK_NAME, "name") ? own_text(p, name->p, name->n) : NULL;
    return n->text ? n : NULL;
}

/* The items of [ ] and { }; in { } key and value alternate. */
static struct node *parse_items(struct parser *p, enum node_kind kind, enum tok_kind close,
                                const char *close_text)
{
    struct node *n = tmpl_node_new(p, kind, tok_now(p)->line);
    tok_step(p);
    if (!n || !tmpl_enter(p)) return NULL;
    while (tok_now(p)->kind != close) {
        if (n->n_kid && !tmpl_expect(p, TOK_COMMA, ",")) return NULL;
        if (tok_now(p)->kind == close) break;
        if (!tmpl_node_add(p, n, tmpl_parse_expr(p))) return NULL;
        if (kind != NODE_DICT) continue;
        if (!tmpl_expect(p, TOK_COLON, ":") || !tmpl_node_add(p, n, tmpl_parse_expr(p))) return NULL;
    }
    p->nesting--;
    return tmpl_expect(p, close, close_text) ? n : NULL;
}

struct node *tmpl_parse_primary(struct parser *p, bool target)
{
    const struct token *t = tok_now(p);
    char buf[48];
    struct node *n;
    switch (t->kind) {
    case TOK_NAME:
        return parse_name(p, target);
    case TOK_STRING:
        return parse_string(p);
    case TOK_INT:
    case TOK_FLOAT:
        tok_step(p);
        return constant(p, t->kind == TOK_INT ? val_int(t->i) : val_float(t->f), t->line);
    case TOK_LPAREN:
        tok_step(p);
        if (!tmpl_enter(p)) return NULL;
        n = tmpl_parse_tuple(p, true, true);
        p->nesting--;
        return n && tmpl_expect(p, TOK_RPAREN, ")") ? n : NULL;
    case TOK_LBRACKET:
        return parse_items(p, NODE_LIST, TOK_RBRACKET, "]");
    case TOK_LBRACE:
        return parse_items(p, NODE_DICT, TOK_RBRACE, "}");
    default:
        tmpl_syntax_error(p, t->line, "unexpected '%s'", tmpl_token_text(t, buf));
        return NULL;
    }
}
