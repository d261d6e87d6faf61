/* ast: tokens, the syntax tree and the state of one compilation. */
#ifndef FLUXD_SERVER_JINJA_AST_H
#define FLUXD_SERVER_JINJA_AST_H

#include "server/jinja/internal.h"

/* --- the syntax tree: one node type with fields by kind --- */

enum node_kind {
    /* expressions */
    NODE_CONST,   /* value */
    NODE_NAME,    /* name */
    NODE_LIST,    /* kid[] */
    NODE_TUPLE,   /* kid[] */
    NODE_DICT,    /* kid[]: key, value, key, value ... */
    NODE_CONCAT,  /* kid[] */
    NODE_COMPARE, /* a; kid[] with op: operands */
    NODE_BINARY,  /* op, a, b */
    NODE_AND,     /* a, b */
    NODE_OR,      /* a, b */
    NODE_NOT,     /* a */
    NODE_NEG,     /* a */
    NODE_POS,     /* a */
    NODE_COND,    /* a if b else c; c may be NULL */
    NODE_ATTR,    /* a . text */
    NODE_ITEM,    /* a [ b ] */
    NODE_SLICE,   /* a [ kid[0] : kid[1] : kid[2] ]; kids may be NULL */
    NODE_CALL,    /* a ( args ) */
    NODE_FILTER,  /* a | text ( args ); a NULL: the captured body; builtin NULL: fails when reached */
    NODE_TEST,    /* a is text ( args ); builtin as above */
    NODE_NSREF,   /* target only: name . text */
    /* statements */
    NODE_DATA,      /* value */
    NODE_OUTPUT,    /* kid[]: expressions */
    NODE_BODY,      /* kid[]: statements; hide, where a scope begins */
    NODE_IF,        /* kid[]: test, body, test, body ...; c: else body */
    NODE_FOR,       /* target, a: iterable, b: test, body, c: else body */
    NODE_SET,       /* target, a */
    NODE_SETBLOCK,  /* target, a: filter chain or NULL, body */
    NODE_MACRO,     /* name, kid[]: NODE_NAME parameters, a: NODE_LIST of the last parameters' defaults, body,
                       uses */
    NODE_CALLBLOCK, /* as NODE_MACRO, and b: the NODE_CALL it is passed to */
    NODE_FILTERBLOCK, /* a: filter chain, body */
    NODE_WITH,        /* kid[]: target, value, target, value ...; body */
    NODE_SCOPE,       /* body: a generation block */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_KINDS
};

enum {
    USES_CALLER = 1,
    USES_KWARGS = 2,
    USES_VARARGS = 4
}; /* the special names that a macro's body mentions */

struct named_node {
    const struct text *name;
    struct node *value;
};
struct call_args {
    struct node **pos;
    struct named_node *kw;
    size_t n_pos, n_kw;
    struct node *star, *star_star; /* *args and **kwargs, or NULL */
};

struct node {
    uint8_t kind, op, uses;
    int line;
    int name; /* index into tmpl.name */
    size_t n_kid;
    struct node **kid;
    struct node *a, *b, *c, *body, *target;
    struct text *text;
    const struct call_args *args;
    const struct builtin *builtin;
    struct tmpl_value value;
    const int *hide; /* [n_hide] names that are undefined when the scope of this body begins */
    size_t n_hide;
};

struct tmpl {
    struct arena arena; /* everything below */
    const char *source;
    const struct node *root;  /* NODE_BODY */
    const struct text **name; /* [n_name] every variable's name once */
    size_t n_name;
    int loop_name, special_name[3]; /* "loop"; "caller", "kwargs", "varargs" */
};
#define TMPL_OWN_NAMES 4u /* those come first in name[] */

/* --- tokens --- */

enum tok_kind {
    TOK_EOF,
    TOK_DATA,
    TOK_VAR_BEGIN,
    TOK_VAR_END,
    TOK_BLOCK_BEGIN,
    TOK_BLOCK_END,
    TOK_NAME,
    TOK_STRING,
    TOK_INT,
    TOK_FLOAT,
    TOK_ADD,
    TOK_SUB,
    TOK_MUL,
    TOK_DIV,
    TOK_FLOORDIV,
    TOK_MOD,
    TOK_POW,
    TOK_TILDE,
    TOK_LBRACKET,
    TOK_RBRACKET,
    TOK_LPAREN,
    TOK_RPAREN,
    TOK_LBRACE,
    TOK_RBRACE,
    TOK_EQ,
    TOK_NE,
    TOK_GT,
    TOK_GE,
    TOK_LT,
    TOK_LE,
    TOK_ASSIGN,
    TOK_DOT,
    TOK_COLON,
    TOK_PIPE,
    TOK_COMMA,
    TOK_SEMICOLON
};
struct token {
    enum tok_kind kind;
    int line;
    const char *p; /* name, text of the string after unescaping, data */
    size_t n;
    int64_t i;
    double f;
};

/* One compilation. Errors are sticky as in struct run. */
struct parser {
    struct tmpl *t;
    struct arena scratch; /* tokens */
    struct token *tok;    /* [n_tok], the last one is TOK_EOF */
    size_t n_tok, cap_tok, at;
    int nesting;
    bool soft;     /* inside an if: unknown filters and tests fail only when reached */
    int n_loop;    /* for bodies around, back to the next macro: where break may stand */
    uint8_t *uses; /* of each macro around, innermost last */
    size_t n_uses;
    size_t cap_name;
    struct err_note *note;
    enum err err;
};

bool tmpl_lex(struct parser *p, const char *src, size_t n);
bool tmpl_parse(struct parser *p);
bool tmpl_resolve_scopes(struct parser *p, struct node *root); /* fills node.hide */

/* shared by parse.c (statements), expr.c (operators) and primary.c (what they work on) */
bool tmpl_syntax_error(struct parser *p, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct node *tmpl_node_new(struct parser *p, enum node_kind kind, int line);
struct node *tmpl_node_unary(struct parser *p, enum node_kind kind, struct node *a, int line);
struct node *tmpl_node_binary(struct parser *p, enum node_kind kind, enum node_op op, struct node *a,
                              struct node *b, int line);
bool tmpl_node_add(struct parser *p, struct node *parent, struct node *kid);
int tmpl_name_id(struct parser *p, const char *s, size_t n);
bool tmpl_enter(struct parser *p); /* one bracket or block deeper; pairs with --p->nesting */
const char *tmpl_token_text(const struct token *t, char buf[48]);
bool tmpl_expect(struct parser *p, enum tok_kind kind, const char *what);
struct node *tmpl_parse_expr(struct parser *p);         /* one expression */
struct node *tmpl_parse_expr_no_cond(struct parser *p); /* without `x if y` at the top */
struct node *tmpl_parse_tuple(struct parser *p, bool cond, bool brackets);
struct node *tmpl_parse_primary(struct parser *p, bool target);
struct node *tmpl_parse_postfix(struct parser *p, struct node *n); /* .x [x] (x) behind n */
struct node *tmpl_parse_applied(struct parser *p, struct node *n); /* filters and tests behind n */
struct node *tmpl_parse_filters(struct parser *p, struct node *on, bool start_inline);
static inline const struct token *tok_now(const struct parser *p) { return &p->tok[p->at]; }
static inline const struct token *tok_look(const struct parser *p)
{
    return &p->tok[p->at + 1 < p->n_tok ? p->at + 1 : p->at];
}
static inline void tok_step(struct parser *p)
{
    if (p->at + 1 < p->n_tok) p->at++;
}
static inline bool tok_is_word(const struct token *t, const char *word)
{
    return t->kind == TOK_NAME && t->n == strlen(word) && memcmp(t->p, word, t->n) == 0;
}

#endif
