/* parse: statements of the template language. */
#include <stdarg.h>
#include <stdio.h>

#include "server/jinja/ast.h"

static struct node *parse_body(struct parser *p, const char *const *end_words);

/* --- shared with expr.c --- */

bool tmpl_syntax_error(struct parser *p, int line, const char *fmt, ...)
{
    char text[sizeof p->note->text];
    va_list ap;
    if (p->err) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->err = err_set(p->note, ERR_MODEL_FILE, "chat_template", "line %d: %s", line, text);
    return false;
}

static bool no_memory(struct parser *p)
{
    if (!p->err) p->err = err_set(p->note, ERR_NOMEM, "chat_template", "the template needs too much memory");
    return false;
}

struct node *tmpl_node_new(struct parser *p, enum node_kind kind, int line)
{
    struct node *n = p->err ? NULL : arena_alloc(&p->t->arena, sizeof *n);
    if (!n) {
        no_memory(p);
        return NULL;
    }
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

struct node *tmpl_node_binary(struct parser *p, enum node_kind kind, enum node_op op, struct node *a,
                              struct node *b, int line)
{
    struct node *n = a && b ? tmpl_node_new(p, kind, line) : NULL;
    if (!n) return NULL;
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    return n;
}

struct node *tmpl_node_unary(struct parser *p, enum node_kind kind, struct node *a, int line)
{
    struct node *n = a ? tmpl_node_new(p, kind, line) : NULL;
    if (n) n->a = a;
    return n;
}

bool tmpl_node_add(struct parser *p, struct node *parent, struct node *kid)
{
    if (!parent || !kid) return false;
    const size_t n = parent->n_kid;
    if ((n & (n - 1)) == 0) { /* the capacity is the next power of two */
        struct node **k = arena_array(&p->t->arena, n ? n * 2 : 1, sizeof *k);
        if (!k) return no_memory(p);
        if (n) memcpy(k, parent->kid, n * sizeof *k);
        parent->kid = k;
    }
    parent->kid[parent->n_kid++] = kid;
    return true;
}

int tmpl_name_id(struct parser *p, const char *s, size_t n)
{
    struct tmpl *t = p->t;
    for (size_t i = 0; i < t->n_name; i++) {
        if (t->name[i]->n == n && memcmp(t->name[i]->p, s, n) == 0) return (int)i;
    }
    if (t->n_name == TMPL_MAX_NAMES) {
        tmpl_syntax_error(p, tok_now(p)->line, "more than %d different names", TMPL_MAX_NAMES);
        return -1;
    }
    if (t->n_name == p->cap_name) {
        const size_t cap = p->cap_name ? p->cap_name * 2 : 64;
        const struct text **name = arena_array(&t->arena, cap, sizeof *name);
        if (!name) return no_memory(p) - 1;
        if (t->n_name) memcpy(name, t->name, t->n_name * sizeof *name);
        t->name = name;
        p->cap_name = cap;
    }
    struct text *own = arena_alloc(&t->arena, sizeof *own);
    if (!own) return no_memory(p) - 1;
    *own = (struct text){.p = s, .n = n, .n_char = TEXT_UNCOUNTED};
    if (!tmpl_text_seal(&t->arena, own)) return no_memory(p) - 1;
    t->name[t->n_name] = own;
    return (int)t->n_name++;
}

bool tmpl_enter(struct parser *p)
{
    if (p->nesting >= TMPL_MAX_NESTING) {
        return tmpl_syntax_error(p, tok_now(p)->line, "nested more than %d levels deep", TMPL_MAX_NESTING);
    }
    p->nesting++;
    return true;
}

const char *tmpl_token_text(const struct token *t, char buf[48])
{
    static const char *const name[] = {[TOK_EOF] = "end of template",
                                       [TOK_VAR_BEGIN] = "begin of print statement",
                                       [TOK_VAR_END] = "end of print statement",
                                       [TOK_BLOCK_BEGIN] = "begin of statement block",
                                       [TOK_BLOCK_END] = "end of statement block",
                                       [TOK_DATA] = "template data / text"};
    if (t->kind <= TOK_BLOCK_END && name[t->kind]) return name[t->kind];
    size_t n = t->n < 44 ? t->n : 44;
    while (n > 0 && n < t->n && ((uint8_t)t->p[n] & 0xC0) == 0x80) n--; /* do not cut a character */
    snprintf(buf, 48, "%.*s", (int)n, t->p);
    return buf;
}

bool tmpl_expect(struct parser *p, enum tok_kind kind, const char *what)
{
    const struct token *t = tok_now(p);
    char buf[48];
    if (p->err) return false;
    if (t->kind == TOK_EOF)
        return tmpl_syntax_error(p, t->line, "unexpected end of template, expected '%s'", what);
    if (t->kind != kind)
        return tmpl_syntax_error(p, t->line, "expected token '%s', got '%s'", what, tmpl_token_text(t, buf));
    tok_step(p);
    return true;
}

static bool skip_word(struct parser *p, const char *word)
{
    const bool is = tok_is_word(tok_now(p), word);
    if (is) tok_step(p);
    return is;
}

static bool expect_word(struct parser *p, const char *word)
{
    const struct token *t = tok_now(p);
    char buf[48];
    return skip_word(p, word) ||
           tmpl_syntax_error(p, t->line, "expected token '%s', got '%s'", word, tmpl_token_text(t, buf));
}

/* --- targets of assignments --- */

static bool check_target(struct parser *p, const struct node *n)
{
    if (n->kind == NODE_NAME || n->kind == NODE_NSREF) return true;
    if (n->kind != NODE_TUPLE) return tmpl_syntax_error(p, n->line, "can't assign to this expression");
    for (size_t i = 0; i < n->n_kid; i++) {
        if (!check_target(p, n->kid[i])) return false;
    }
    return true;
}

/* a, b or (a, b) */
static struct node *parse_target(struct parser *p, bool with_namespace)
{
    struct node *tuple = tmpl_node_new(p, NODE_TUPLE, tok_now(p)->line);
    bool comma = false;
    while (tuple) {
        const struct token *t = tok_now(p);
        if (t->kind == TOK_VAR_END || t->kind == TOK_BLOCK_END || t->kind == TOK_RPAREN) break;
        if (!tmpl_node_add(p, tuple, tmpl_parse_primary(p, with_namespace))) return NULL;
        if (tok_now(p)->kind != TOK_COMMA) break;
        comma = true;
        tok_step(p);
    }
    if (!tuple) return NULL;
    if (!comma && tuple->n_kid == 0) {
        tmpl_syntax_error(p, tuple->line, "expected the name to assign to");
        return NULL;
    }
    struct node *n = comma ? tuple : tuple->kid[0];
    return check_target(p, n) ? n : NULL;
}

/* --- bodies --- */

static const char *const end_if[] = {"elif", "else", "endif", NULL}, *const end_else_if[] = {"endif", NULL},
                         *const end_for[] = {"else", "endfor", NULL},
                         *const end_else_for[] = {"endfor", NULL}, *const end_set[] = {"endset", NULL},
                         *const end_macro[] = {"endmacro", NULL}, *const end_call[] = {"endcall", NULL},
                         *const end_filter[] = {"endfilter", NULL}, *const end_with[] = {"endwith", NULL},
                         *const end_generation[] = {"endgeneration", NULL};

static bool is_end(const struct token *t, const char *const *end_words)
{
    for (; end_words && *end_words; end_words++) {
        if (tok_is_word(t, *end_words)) return true;
    }
    return false;
}

/* From the end of a tag to the end word of the block, which becomes the current token. */
static struct node *parse_block(struct parser *p, const char *const *end_words)
{
    if (tok_now(p)->kind == TOK_COLON) tok_step(p); /* tolerated as in the reference */
    if (!tmpl_expect(p, TOK_BLOCK_END, "end of statement block") || !tmpl_enter(p)) return NULL;
    struct node *n = parse_body(p, end_words);
    p->nesting--;
    return n;
}

/* As parse_block, and takes the one end word. */
static struct node *parse_whole_block(struct parser *p, const char *const *end_words)
{
    struct node *n = parse_block(p, end_words);
    if (n) tok_step(p);
    return n;
}

/* A block whose variables and loops are its own: what is around it does not count inside. */
static struct node *parse_inner_block(struct parser *p, const char *const *end_words, bool own_loops)
{
    const bool soft = p->soft;
    const int n_loop = p->n_loop;
    p->soft = false;
    if (own_loops) p->n_loop = 0;
    struct node *n = parse_whole_block(p, end_words);
    p->soft = soft;
    p->n_loop = n_loop;
    return n;
}

/* --- statements; each begins behind its word --- */

static struct node *parse_if(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_IF, line);
    const bool soft = p->soft;
    p->soft = true;
    for (;;) {
        if (!tmpl_node_add(p, n, tmpl_parse_tuple(p, false, false)) ||
            !tmpl_node_add(p, n, parse_block(p, end_if)))
            return NULL;
        if (!skip_word(p, "elif")) break;
    }
    if (skip_word(p, "else")) {
        n->c = parse_whole_block(p, end_else_if);
        if (!n->c) return NULL;
    } else {
        tok_step(p); /* endif */
    }
    p->soft = soft;
    return n;
}

static struct node *parse_for(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_FOR, line);
    if (!n || !(n->target = parse_target(p, false)) || !expect_word(p, "in")) return NULL;
    n->a = tmpl_parse_tuple(p, false, false);
    if (!n->a) return NULL;
    const bool soft = p->soft;
    p->soft = false;
    if (skip_word(p, "if") && !(n->b = tmpl_parse_expr(p))) return NULL;
    if (tok_is_word(tok_now(p), "recursive")) {
        tmpl_syntax_error(p, line, "recursive loops are not supported");
        return NULL;
    }
    p->n_loop++;
    n->body = parse_block(p, end_for);
    p->n_loop--;
    if (!n->body) return NULL;
    if (skip_word(p, "else")) {
        n->c = parse_whole_block(p, end_else_for);
        if (!n->c) return NULL;
    } else {
        tok_step(p); /* endfor */
    }
    p->soft = soft;
    return n;
}

static struct node *parse_set(struct parser *p, int line)
{
    struct node *target = parse_target(p, true);
    if (!target) return NULL;
    const bool assign = tok_now(p)->kind == TOK_ASSIGN;
    struct node *n = tmpl_node_new(p, assign ? NODE_SET : NODE_SETBLOCK, line);
    if (!n) return NULL;
    n->target = target;
    if (assign) {
        tok_step(p);
        n->a = tmpl_parse_tuple(p, true, false);
        return n->a ? n : NULL;
    }
    const bool soft = p->soft;
    p->soft = false;
    n->a = tok_now(p)->kind == TOK_PIPE ? tmpl_parse_filters(p, NULL, false) : NULL;
    p->soft = soft;
    n->body = p->err ? NULL : parse_inner_block(p, end_set, false);
    return n->body ? n : NULL;
}

static bool parse_signature(struct parser *p, struct node *n)
{
    n->a = tmpl_node_new(p, NODE_LIST, n->line);
    if (!n->a || !tmpl_expect(p, TOK_LPAREN, "(")) return false;
    while (tok_now(p)->kind != TOK_RPAREN) {
        if (n->n_kid && !tmpl_expect(p, TOK_COMMA, ",")) return false;
        const struct token *t = tok_now(p);
        struct node *param = tmpl_node_new(p, NODE_NAME, t->line);
        if (!tmpl_expect(p, TOK_NAME, "name") || !tmpl_node_add(p, n, param)) return false;
        param->name = tmpl_name_id(p, t->p, t->n);
        if (param->name < 0) return false;
        if (tok_now(p)->kind == TOK_ASSIGN) {
            tok_step(p);
            if (!tmpl_node_add(p, n->a, tmpl_parse_expr(p))) return false;
        } else if (n->a->n_kid) {
            return tmpl_syntax_error(p, t->line, "non-default argument follows default argument");
        }
    }
    return tmpl_expect(p, TOK_RPAREN, ")");
}

/* The body of a macro or call block; notes which special names it mentions. */
static bool parse_macro_body(struct parser *p, struct node *n, const char *const *end_words)
{
    if (p->n_uses == TMPL_MAX_NESTING)
        return tmpl_syntax_error(p, n->line, "too many macros inside each other");
    p->uses[p->n_uses++] = 0;
    n->body = parse_inner_block(p, end_words, true);
    n->uses = p->uses[--p->n_uses];
    return n->body != NULL;
}

static struct node *parse_macro(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_MACRO, line);
    const struct token *t = tok_now(p);
    if (!n || !tmpl_expect(p, TOK_NAME, "name") || (n->name = tmpl_name_id(p, t->p, t->n)) < 0) return NULL;
    const bool soft = p->soft;
    p->soft = false;
    const bool ok = parse_signature(p, n) && parse_macro_body(p, n, end_macro);
    p->soft = soft;
    return ok ? n : NULL;
}

static struct node *parse_call_block(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_CALLBLOCK, line);
    if (!n) return NULL;
    if (tok_now(p)->kind == TOK_LPAREN) {
        if (!parse_signature(p, n)) return NULL;
    } else if (!(n->a = tmpl_node_new(p, NODE_LIST, line))) {
        return NULL;
    }
    n->b = tmpl_parse_expr(p);
    if (!n->b) return NULL;
    if (n->b->kind != NODE_CALL) {
        tmpl_syntax_error(p, line, "expected call");
        return NULL;
    }
    return parse_macro_body(p, n, end_call) ? n : NULL;
}

static struct node *parse_filter_block(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_FILTERBLOCK, line);
    const bool soft = p->soft;
    p->soft = false;
    if (n) n->a = tmpl_parse_filters(p, NULL, true);
    p->soft = soft;
    if (!n || !n->a) return NULL;
    n->body = parse_inner_block(p, end_filter, false);
    return n->body ? n : NULL;
}

static struct node *parse_with(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_WITH, line);
    while (n && tok_now(p)->kind != TOK_BLOCK_END) {
        if (n->n_kid && !tmpl_expect(p, TOK_COMMA, ",")) return NULL;
        struct node *target = tmpl_parse_primary(p, false);
        if (!target || !check_target(p, target) || !tmpl_node_add(p, n, target)) return NULL;
        if (!tmpl_expect(p, TOK_ASSIGN, "=") || !tmpl_node_add(p, n, tmpl_parse_expr(p))) return NULL;
    }
    if (n) n->body = parse_inner_block(p, end_with, false);
    return n && n->body ? n : NULL;
}

static struct node *parse_generation(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_SCOPE, line);
    if (n) n->body = parse_inner_block(p, end_generation, true);
    return n && n->body ? n : NULL;
}

static struct node *parse_print(struct parser *p, int line)
{
    struct node *n = tmpl_node_new(p, NODE_OUTPUT, line);
    while (n && tok_now(p)->kind != TOK_BLOCK_END) {
        if (n->n_kid && !tmpl_expect(p, TOK_COMMA, ",")) return NULL;
        if (!tmpl_node_add(p, n, tmpl_parse_expr(p))) return NULL;
    }
    return n;
}

static struct node *parse_jump(struct parser *p, int line, enum node_kind kind, const char *word)
{
    if (p->n_loop) return tmpl_node_new(p, kind, line);
    tmpl_syntax_error(p, line, "'%s' outside loop", word);
    return NULL;
}

static struct node *parse_break(struct parser *p, int line)
{
    return parse_jump(p, line, NODE_BREAK, "break");
}
static struct node *parse_continue(struct parser *p, int line)
{
    return parse_jump(p, line, NODE_CONTINUE, "continue");
}

static struct node *parse_unsupported(struct parser *p, int line)
{
    tmpl_syntax_error(p, line, "this statement is not supported");
    return NULL;
}

static const struct {
    const char *word;
    struct node *(*parse)(struct parser *p, int line);
} statements[] = {
    {"autoescape", parse_unsupported},
    {"block", parse_unsupported},
    {"break", parse_break},
    {"call", parse_call_block},
    {"continue", parse_continue},
    {"extends", parse_unsupported},
    {"filter", parse_filter_block},
    {"for", parse_for},
    {"from", parse_unsupported},
    {"generation", parse_generation},
    {"if", parse_if},
    {"import", parse_unsupported},
    {"include", parse_unsupported},
    {"macro", parse_macro},
    {"print", parse_print},
    {"set", parse_set},
    {"with", parse_with},
};

static struct node *parse_statement(struct parser *p, const char *const *end_words)
{
    const struct token *t = tok_now(p);
    if (t->kind != TOK_NAME) {
        tmpl_syntax_error(p, t->line, "tag name expected");
        return NULL;
    }
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (!tok_is_word(t, statements[i].word)) continue;
        tok_step(p);
        return statements[i].parse(p, t->line);
    }
    char buf[48];
    const char *want = end_words ? end_words[0] : NULL;
    tmpl_syntax_error(p, t->line, "Encountered unknown tag '%s'.%s%s%s", tmpl_token_text(t, buf),
                      want ? " Looking for '" : "", want ? want : "", want ? "'." : "");
    return NULL;
}

/* Template text up to an end word (current when it returns), or to the end of the template when there is
 * none. */
static struct node *parse_body(struct parser *p, const char *const *end_words)
{
    const int line = p->tok[p->at ? p->at - 1 : 0].line; /* of the tag before */
    struct node *body = tmpl_node_new(p, NODE_BODY, line), *n;
    while (body && tok_now(p)->kind != TOK_EOF) {
        const struct token *t = tok_now(p);
        tok_step(p);
        if (t->kind == TOK_DATA) {
            struct text *text = arena_alloc(&p->t->arena, sizeof *text);
            n = text ? tmpl_node_new(p, NODE_DATA, t->line) : NULL;
            if (!n) {
                no_memory(p);
                return NULL;
            }
            *text = (struct text){.p = t->p, .n = t->n, .n_char = TEXT_UNCOUNTED};
            n->value = (struct tmpl_value){.kind = VAL_STR, .s = text};
        } else if (t->kind == TOK_VAR_BEGIN) {
            n = tmpl_node_new(p, NODE_OUTPUT, t->line);
            if (!tmpl_node_add(p, n, tmpl_parse_tuple(p, true, false))) return NULL;
            if (!tmpl_expect(p, TOK_VAR_END, "end of print statement")) return NULL;
        } else {
            if (end_words && is_end(tok_now(p), end_words)) return body;
            n = parse_statement(p, end_words);
            if (!n || !tmpl_expect(p, TOK_BLOCK_END, "end of statement block")) return NULL;
        }
        if (!tmpl_node_add(p, body, n)) return NULL;
    }
    if (body && end_words) {
        tmpl_syntax_error(p, tok_now(p)->line,
                          "Unexpected end of template. Looking for '%s' of the block from line %d.",
                          end_words[0], line);
        return NULL;
    }
    return body;
}

bool tmpl_parse(struct parser *p)
{
    uint8_t uses[TMPL_MAX_NESTING];
    p->uses = uses;
    struct node *root = parse_body(p, NULL);
    p->uses = NULL;
    p->t->root = root;
    return root && tmpl_resolve_scopes(p, root);
}
