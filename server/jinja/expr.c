/* expr: operators, by recursive descent with the reference's precedences: `x if y else z`, or, and, not,
 * comparisons, + -, ~, * / // %, **, unary. What they work on is in primary.c. */
#include "server/jinja/ast.h"

static struct node *parse_unary(struct parser *p, bool with_filter);
static struct node *parse_cond(struct parser *p);

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    const struct token *t = tok_now(p);
    struct node *n;
    if (t->kind == TOK_SUB || t->kind == TOK_ADD) {
        tok_step(p);
        if (!tmpl_enter(p)) return NULL;
        n = tmpl_node_unary(p, t->kind == TOK_SUB ? NODE_NEG : NODE_POS, parse_unary(p, false), t->line);
        p->nesting--;
    } else {
        n = tmpl_parse_primary(p, false);
    }
    n = tmpl_parse_postfix(p, n);
    return with_filter ? tmpl_parse_applied(p, n) : n;
}

static struct node *parse_pow(struct parser *p)
{
    struct node *n = parse_unary(p, true);
    while (n && tok_now(p)->kind == TOK_POW) {
        const int line = tok_now(p)->line;
        tok_step(p);
        n = tmpl_node_binary(p, NODE_BINARY, OP_POW, n, parse_unary(p, true), line);
    }
    return n;
}

static struct node *parse_product(struct parser *p)
{
    struct node *n = parse_pow(p);
    while (n) {
        const struct token *t = tok_now(p);
        if (t->kind != TOK_MUL && t->kind != TOK_DIV && t->kind != TOK_FLOORDIV && t->kind != TOK_MOD) break;
        const enum node_op op = t->kind == TOK_MUL        ? OP_MUL
                                : t->kind == TOK_DIV      ? OP_DIV
                                : t->kind == TOK_FLOORDIV ? OP_FLOORDIV
                                                          : OP_MOD;
        tok_step(p);
        n = tmpl_node_binary(p, NODE_BINARY, op, n, parse_pow(p), t->line);
    }
    return n;
}

static struct node *parse_concat(struct parser *p)
{
    struct node *first = parse_product(p);
    if (!first || tok_now(p)->kind != TOK_TILDE) return first;
    struct node *n = tmpl_node_new(p, NODE_CONCAT, tok_now(p)->line);
    if (!tmpl_node_add(p, n, first)) return NULL;
    while (tok_now(p)->kind == TOK_TILDE) {
        tok_step(p);
        if (!tmpl_node_add(p, n, parse_product(p))) return NULL;
    }
    return n;
}

static struct node *parse_sum(struct parser *p)
{
    struct node *n = parse_concat(p);
    while (n && (tok_now(p)->kind == TOK_ADD || tok_now(p)->kind == TOK_SUB)) {
        const struct token *t = tok_now(p);
        tok_step(p);
        n = tmpl_node_binary(p, NODE_BINARY, t->kind == TOK_ADD ? OP_ADD : OP_SUB, n, parse_concat(p),
                             t->line);
    }
    return n;
}

/* The comparison at the current token, consumed; -1: there is none. */
static int comparison(struct parser *p)
{
    static const struct {
        enum tok_kind tok;
        enum node_op op;
    } ops[] = {{TOK_EQ, OP_EQ}, {TOK_NE, OP_NE}, {TOK_LT, OP_LT},
               {TOK_LE, OP_LE}, {TOK_GT, OP_GT}, {TOK_GE, OP_GE}};
    const struct token *t = tok_now(p);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (t->kind != ops[i].tok) continue;
        tok_step(p);
        return ops[i].op;
    }
    const bool in = tok_is_word(t, "in"), not_in = tok_is_word(t, "not") && tok_is_word(tok_look(p), "in");
    if (!in && !not_in) return -1;
    tok_step(p);
    if (not_in) tok_step(p);
    return in ? OP_IN : OP_NOTIN;
}

static struct node *parse_compare(struct parser *p)
{
    const int line = tok_now(p)->line;
    struct node *a = parse_sum(p), *n = NULL;
    for (int op; a && (op = comparison(p)) >= 0;) {
        if (!n && !(n = tmpl_node_unary(p, NODE_COMPARE, a, line))) return NULL;
        struct node *operand =
            tmpl_node_unary(p, NODE_COMPARE, parse_sum(p), line); /* a carrier for op and operand */
        if (!operand) return NULL;
        operand->op = (uint8_t)op;
        if (!tmpl_node_add(p, n, operand)) return NULL;
    }
    return n ? n : a;
}

static struct node *parse_not(struct parser *p)
{
    const struct token *t = tok_now(p);
    if (!tok_is_word(t, "not")) return parse_compare(p);
    tok_step(p);
    if (!tmpl_enter(p)) return NULL;
    struct node *n = tmpl_node_unary(p, NODE_NOT, parse_not(p), t->line);
    p->nesting--;
    return n;
}

static struct node *parse_and(struct parser *p)
{
    struct node *n = parse_not(p);
    while (n && tok_is_word(tok_now(p), "and")) {
        const int line = tok_now(p)->line;
        tok_step(p);
        n = tmpl_node_binary(p, NODE_AND, 0, n, parse_not(p), line);
    }
    return n;
}

static struct node *parse_or(struct parser *p)
{
    struct node *n = parse_and(p);
    while (n && tok_is_word(tok_now(p), "or")) {
        const int line = tok_now(p)->line;
        tok_step(p);
        n = tmpl_node_binary(p, NODE_OR, 0, n, parse_and(p), line);
    }
    return n;
}

/* Is there an `if` that belongs to the expression before it? Then its filters and tests are bound softly, and
 * they were parsed before it was seen. So look ahead, over brackets, to the end of the expression. */
static bool has_cond(const struct parser *p)
{
    int level = 0;
    for (size_t i = p->at; i < p->n_tok; i++) {
        const struct token *t = &p->tok[i];
        const enum tok_kind k = t->kind;
        if (k == TOK_LPAREN || k == TOK_LBRACKET || k == TOK_LBRACE) level++;
        if (k == TOK_RPAREN || k == TOK_RBRACKET || k == TOK_RBRACE) level--;
        if (level < 0 || k == TOK_BLOCK_END || k == TOK_VAR_END || k == TOK_EOF) return false;
        if (level == 0 && (k == TOK_COMMA || k == TOK_COLON)) return false;
        if (level == 0 && tok_is_word(t, "if")) return true;
    }
    return false;
}

static struct node *parse_cond(struct parser *p)
{
    const bool soft = p->soft;
    if (!soft && has_cond(p)) p->soft = true;
    struct node *n = parse_or(p);
    while (n && tok_is_word(tok_now(p), "if")) {
        struct node *cond = tmpl_node_new(p, NODE_COND, tok_now(p)->line);
        tok_step(p);
        if (!cond || !(cond->b = parse_or(p))) return NULL;
        cond->a = n;
        if (tok_is_word(tok_now(p), "else")) {
            tok_step(p);
            if (!tmpl_enter(p)) return NULL;
            cond->c = parse_cond(p);
            p->nesting--;
            if (!cond->c) return NULL;
        }
        n = cond;
    }
    p->soft = soft;
    return n;
}

struct node *tmpl_parse_expr(struct parser *p) { return p->err ? NULL : parse_cond(p); }
struct node *tmpl_parse_expr_no_cond(struct parser *p) { return p->err ? NULL : parse_or(p); }

/* A tuple without brackets, or one expression. With brackets around it, it may be empty. */
struct node *tmpl_parse_tuple(struct parser *p, bool cond, bool brackets)
{
    struct node *tuple = tmpl_node_new(p, NODE_TUPLE, tok_now(p)->line);
    const struct token *t = tok_now(p);
    char buf[48];
    bool comma = false;
    while (tuple) {
        t = tok_now(p);
        if (t->kind == TOK_VAR_END || t->kind == TOK_BLOCK_END || t->kind == TOK_RPAREN) break;
        if (!tmpl_node_add(p, tuple, cond ? tmpl_parse_expr(p) : tmpl_parse_expr_no_cond(p))) return NULL;
        if (tok_now(p)->kind != TOK_COMMA) break;
        comma = true;
        tok_step(p);
    }
    if (!tuple || comma) return tuple;
    if (tuple->n_kid == 1) return tuple->kid[0];
    if (brackets) return tuple;
    tmpl_syntax_error(p, t->line, "Expected an expression, got '%s'", tmpl_token_text(t, buf));
    return NULL;
}
