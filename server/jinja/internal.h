/* internal: what the template_*.c files share. A value is 16 bytes and passed by value; what it points to
 * lives in the arena of the rendering (constants: in the template's) and is immutable for the template, as
 * the reference's sandbox has it. That is why lists and texts may share their backing: a copy is a view, and
 * `x = x + y` grows in place. */
#ifndef FLUXD_SERVER_JINJA_INTERNAL_H
#define FLUXD_SERVER_JINJA_INTERNAL_H

#include <string.h>

#include "base/utf8.h"
#include "server/jinja/jinja.h"

struct node;
struct call_args;
struct tmpl;
struct run;
struct scope;
struct builtin;

/* --- values --- */

enum val_kind {
    VAL_MISSING, /* no value: an argument not given, a variable not set */
    VAL_UNDEFINED,
    VAL_NONE,
    VAL_BOOL,
    VAL_INT,
    VAL_FLOAT,
    VAL_STR,
    VAL_LIST,
    VAL_TUPLE,
    VAL_DICT,
    VAL_VIEW, /* dict.items() and its like: has a length, cannot be indexed */
    VAL_ITER, /* a generator: one pass, no length */
    VAL_RANGE,
    VAL_NAMESPACE,
    VAL_LOOP,
    VAL_MACRO,
    VAL_METHOD,
    VAL_FUNC,
    VAL_KINDS
};

enum dict_part { DICT_ITEMS, DICT_KEYS, DICT_VALUES }; /* what a VAL_VIEW shows: in its flags */
enum { VAL_SAFE = 1 /* a str that |safe or |escape made: `+` escapes its partner, as markupsafe does */ };

struct tmpl_value {
    uint8_t kind;  /* enum val_kind */
    uint8_t flags; /* VAL_SAFE; of a view: enum dict_part */
    union {
        bool b;
        int64_t i;
        double f;
        struct text *s;
        struct items *list; /* LIST, TUPLE, VIEW */
        struct table *dict; /* DICT, NAMESPACE */
        struct stream *stream;
        struct range *range;
        struct loop *loop;
        struct macro *macro;
        struct method *method;
        const struct builtin *func;
        const struct undef *undef;
    };
};

/* A string. Either wholly of one origin (mark is NULL and `outside` tells), or with one mark byte per byte of
 * text. */
struct text {
    const char *p;
    size_t n;
    const uint8_t *mark;  /* 0 or 1 per byte; NULL: all bytes are as `outside` says */
    struct text_buf *buf; /* where p lies, if it may grow there; NULL for borrowed bytes */
    uint32_t *skip;       /* byte offset of every TEXT_SKIP-th code point; made at the first need */
    uint32_t n_char;      /* code points; TEXT_UNCOUNTED until needed */
    bool outside;
};
#define TEXT_SKIP      64u
#define TEXT_UNCOUNTED UINT32_MAX
#define TEXT_MAX_BYTES                                                                                       \
    ((size_t)INT32_MAX) /* what the 32-bit fields can hold; the arena's limit comes first */

/* Bytes that grow at the end. Texts made from it stay valid: growth beyond cap moves to new memory. */
struct text_buf {
    char *p;
    uint8_t *mark;
    size_t n, cap;
    bool outside; /* while mark is NULL */
};

struct items {
    struct tmpl_value *v;
    size_t n;
    struct items_buf *buf; /* backing of v, if it may grow there */
};
struct items_buf {
    struct tmpl_value *v;
    size_t n, cap;
};

struct pair {
    struct tmpl_value key, val;
};
struct table {
    struct pair *pair;
    size_t n, cap;
    uint32_t *order; /* pairs sorted by key; valid while n_order == n */
    size_t n_order;
};

/* A generator. It was run when it was made; an error that stopped it waits until someone comes to the place.
 */
struct stream {
    struct items *items;
    size_t at;
    const char *error; /* NULL: it ran to its end */
};
struct range {
    int64_t start, stop, step;
    size_t n;
};
struct method {
    struct tmpl_value self;
    const struct builtin *b;
};
struct macro {
    const struct node *node; /* NODE_MACRO or NODE_CALLBLOCK */
    struct scope *home;      /* where it was defined */
};

/* Why a value is undefined; it becomes a message only when it is used. */
enum undef_why { UNDEF_NAME, UNDEF_ATTR, UNDEF_ELEMENT, UNDEF_HINT, UNDEF_UNSAFE };
struct undef {
    enum undef_why why;
    const char *name; /* variable, attribute, or the whole hint */
    size_t n;
    const char *owner; /* type that has no such attribute */
    int64_t index;
};

static inline struct tmpl_value val_none(void) { return (struct tmpl_value){.kind = VAL_NONE}; }
static inline struct tmpl_value val_bool(bool b) { return (struct tmpl_value){.kind = VAL_BOOL, .b = b}; }
static inline struct tmpl_value val_int(int64_t i) { return (struct tmpl_value){.kind = VAL_INT, .i = i}; }
static inline struct tmpl_value val_size(size_t n) { return val_int((int64_t)n); }
static inline struct tmpl_value val_float(double f) { return (struct tmpl_value){.kind = VAL_FLOAT, .f = f}; }
static inline bool val_is(struct tmpl_value v, enum val_kind k) { return v.kind == k; }
static inline bool val_is_seq(struct tmpl_value v) { return v.kind == VAL_LIST || v.kind == VAL_TUPLE; }
static inline bool val_is_integral(struct tmpl_value v) { return v.kind == VAL_INT || v.kind == VAL_BOOL; }
static inline bool val_is_number(struct tmpl_value v) { return val_is_integral(v) || v.kind == VAL_FLOAT; }
static inline int64_t val_as_int(struct tmpl_value v) { return v.kind == VAL_BOOL ? (int64_t)v.b : v.i; }
static inline double val_as_float(struct tmpl_value v)
{
    return v.kind == VAL_FLOAT ? v.f : (double)val_as_int(v);
}

/* --- running --- */

struct var {
    int name;
    struct tmpl_value v;
};
struct scope {
    struct scope *parent; /* NULL: the root, whose variables are run.root_var */
    struct var *var;
    size_t n, cap;
    bool captured; /* a macro was defined in it and may outlive it */
};

struct run {
    const struct tmpl *t;
    struct arena *arena;
    struct tmpl_rendering *out;
    struct text_buf *sink; /* where output goes while a block is captured; NULL: out */
    struct scope *scope;
    struct tmpl_value *root_var;    /* [n_name] set at the top level */
    struct tmpl_value *context_var; /* [n_name] given by the caller, or a global function */
    struct tmpl_value
        *undef_var; /* [n_name] what stands for each name while it has no value; made when needed */
    struct text *byte_text[2][128]; /* one-character strings, by origin */
    int64_t steps;
    int depth, calls;
    enum err err; /* sticky; text and line of the first failure follow */
    int line;
    bool raised; /* by raise_exception: the text stands for itself */
    bool bound;  /* a bound was exceeded: nothing may put that off */
    char text[sizeof(((struct err_note *)0)->text)];
};

/* All return false / NULL when the run has failed (run.err is set). */
bool tmpl_fail(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));
bool tmpl_fail_undefined(struct run *r, struct tmpl_value v) __attribute__((cold));
bool tmpl_fail_type(struct run *r, const char *what, struct tmpl_value v)
    __attribute__((cold)); /* "what: 'type'" */
bool tmpl_fail_bound(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));
bool tmpl_fail_memory(struct run *r, size_t wanted) __attribute__((cold)); /* bytes that could not be had */
void *tmpl_alloc(struct run *r, size_t n);                                 /* zeroed */
bool tmpl_step(struct run *r, size_t n_unit); /* counts work; fails over TMPL_MAX_STEPS */
static inline bool tmpl_scan_cost(struct run *r, size_t n_bytes) { return tmpl_step(r, n_bytes / 1024); }

/* text.c */
struct text *tmpl_text_new(struct run *r, const char *p, size_t n, bool outside); /* borrows p */
struct text *tmpl_text_sub(struct run *r, struct text *t, size_t at, size_t n);   /* bytes */
struct text *tmpl_text_concat(struct run *r, struct text *a, struct text *b);
struct text *tmpl_text_repeat(struct run *r, struct text *t, int64_t times);
struct text *tmpl_text_char(struct run *r, struct text *t, size_t at,
                            size_t n);                                   /* the character at byte `at` */
size_t tmpl_text_len(struct run *r, struct text *t);                     /* code points; r may be NULL */
size_t tmpl_text_offset(struct run *r, struct text *t, size_t i_char);   /* byte offset of a code point */
size_t tmpl_text_chars_before(struct run *r, struct text *t, size_t at); /* the inverse */
bool tmpl_text_seal(struct arena *a, struct text *t); /* fills the caches: for shared constants */
static inline bool text_outside_at(const struct text *t, size_t at)
{
    return t->mark ? t->mark[at] : t->outside;
}
static inline bool text_equal(const struct text *a, const struct text *b)
{
    return a->n == b->n && (a->p == b->p || memcmp(a->p, b->p, a->n) == 0);
}
static inline bool text_is(const struct text *a, const char *s)
{
    return a->n == strlen(s) && memcmp(a->p, s, a->n) == 0;
}
int tmpl_text_cmp(const struct text *a,
                  const struct text *b); /* by code points, which is by bytes in UTF-8 */
bool tmpl_buf_reserve(struct run *r, struct text_buf *b, size_t more);
bool tmpl_buf_put(struct run *r, struct text_buf *b, const char *p, size_t n, bool outside);
bool tmpl_buf_puts(struct run *r, struct text_buf *b, const char *s); /* ours */
bool tmpl_buf_put_text(struct run *r, struct text_buf *b, const struct text *t);
bool tmpl_buf_put_sub(struct run *r, struct text_buf *b, const struct text *t, size_t at, size_t n);
struct text *tmpl_buf_text(struct run *r, const struct text_buf *b); /* ends the building */
bool tmpl_buf_value(struct run *r, const struct text_buf *b, struct tmpl_value *out);
static inline bool val_from_text(struct text *t, struct tmpl_value *out)
{
    *out = (struct tmpl_value){.kind = VAL_STR, .s = t};
    return t != NULL;
}

/* string.c: what Python's str does, on texts */
enum text_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_JINJA_TITLE };
enum text_side { SIDE_LEFT = 1, SIDE_RIGHT = 2, SIDE_BOTH = 3 };
bool tmpl_is_space(uint32_t cp);
bool tmpl_is_line_end(uint32_t cp);
bool tmpl_is_printable(uint32_t cp);
struct text *tmpl_string_case(struct run *r, struct text *t, enum text_case how);
struct text *tmpl_string_strip(struct run *r, struct text *t, const struct text *chars, enum text_side side);
struct text *tmpl_string_replace(struct run *r, struct text *t, const struct text *old,
                                 const struct text *with, int64_t most);
struct text *tmpl_string_escape(struct run *r, struct text *t); /* HTML */
bool tmpl_string_find(struct run *r, const struct text *t, const struct text *sub, size_t from, size_t *at);
bool tmpl_string_rfind(struct run *r, const struct text *t, const struct text *sub, size_t end, size_t *at);
int64_t tmpl_string_count(struct run *r, struct text *t, const struct text *sub);
bool tmpl_string_split(struct run *r, struct text *t, const struct text *sep, int64_t most,
                       enum text_side from, struct items *out);
bool tmpl_string_lines(struct run *r, struct text *t, bool keep_ends, struct items *out);
enum text_class {
    CLASS_ALPHA,
    CLASS_ALNUM,
    CLASS_DIGIT,
    CLASS_SPACE,
    CLASS_LOWER,
    CLASS_UPPER,
    CLASS_ASCII,
    CLASS_PRINTABLE
};
bool tmpl_string_is(const struct text *t, enum text_class what);
const char *tmpl_wide_case(uint32_t cp, bool title); /* case.c: more than one character, or NULL */

/* value.c */
const char *tmpl_type_name(struct tmpl_value v);
struct tmpl_value tmpl_undef_hint(struct run *r, const char *hint);
struct tmpl_value tmpl_undef_name(struct run *r, int name);
struct tmpl_value tmpl_undef_attr(struct run *r, struct tmpl_value owner, const char *name, size_t n,
                                  enum undef_why why);
struct tmpl_value tmpl_undef_element(struct run *r, struct tmpl_value owner, struct tmpl_value index);
bool tmpl_items_push(struct run *r, struct items *l, struct tmpl_value v);
bool tmpl_items_concat(struct run *r, const struct items *a, const struct items *b, struct tmpl_value *out,
                       uint8_t kind);
bool tmpl_items_value(struct run *r, const struct items *l, enum val_kind kind, struct tmpl_value *out);
bool tmpl_tuple2(struct run *r, struct tmpl_value a, struct tmpl_value b, struct tmpl_value *out);
bool tmpl_hashable(struct run *r, struct tmpl_value key);
int tmpl_key_cmp(struct run *r, struct tmpl_value a,
                 struct tmpl_value b); /* total order of hashable values */
struct pair *tmpl_table_find(struct run *r, struct table *t, struct tmpl_value key);
struct pair *tmpl_table_find_text(struct run *r, struct table *t, const struct text *key);
bool tmpl_table_set(struct run *r, struct table *t, struct tmpl_value key, struct tmpl_value v);
bool tmpl_table_value(struct run *r, enum val_kind kind, struct tmpl_value *out); /* a new empty one */
bool tmpl_length(struct run *r, struct tmpl_value v, size_t *n); /* len(); false: the type has none */

/* Iteration over anything iterable. */
struct iter {
    struct tmpl_value src;
    size_t i, n; /* n: items in all, where known without walking; strings count bytes */
};
bool tmpl_iter_open(struct run *r, struct tmpl_value v,
                    struct iter *it); /* false: not iterable, fails the run */
bool tmpl_iter_next(struct run *r, struct iter *it, struct tmpl_value *v); /* false: end, or the run failed */
bool tmpl_is_iterable(struct tmpl_value v);
bool tmpl_collect(struct run *r, struct tmpl_value v,
                  struct items *out); /* list(v); may share v's backing: append only */
bool tmpl_stream_value(struct run *r, const struct items *l,
                       struct tmpl_value *out); /* a generator of these, and of the
                                                    error that r is in, if any */

/* sort.c: stable, by less(); on failure the order is unspecified */
struct sort_item {
    struct tmpl_value key, v;
};
bool tmpl_sort(struct run *r, struct sort_item *v, size_t n,
               bool (*less)(struct run *r, struct tmpl_value a, struct tmpl_value b), bool reverse);

/* ops.c */
enum node_op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOTIN
};

bool tmpl_truth(struct tmpl_value v);
bool tmpl_equal(struct run *r, struct tmpl_value a, struct tmpl_value b); /* false also when the run fails */
bool tmpl_less_than(struct run *r, struct tmpl_value a, struct tmpl_value b);
bool tmpl_compare(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b, bool *out);
bool tmpl_binary(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b,
                 struct tmpl_value *out);
bool tmpl_negate(struct run *r, struct tmpl_value v, struct tmpl_value *out);
bool tmpl_contains(struct run *r, struct tmpl_value box, struct tmpl_value v, bool *out);

/* access.c */
bool tmpl_get_attr(struct run *r, struct tmpl_value v, const struct text *name, struct tmpl_value *out);
bool tmpl_get_item(struct run *r, struct tmpl_value v, struct tmpl_value key, struct tmpl_value *out);
bool tmpl_get_slice(struct run *r, struct tmpl_value v, const struct tmpl_value part[3],
                    struct tmpl_value *out);
bool tmpl_get_path(struct run *r, struct tmpl_value v, struct tmpl_value path, struct tmpl_value dflt,
                   struct tmpl_value *out);

/* repr.c */
size_t tmpl_float_repr(double f, char out[40]);
struct text *tmpl_to_text(struct run *r, struct tmpl_value v); /* str(v) */
bool tmpl_put_str(struct run *r, struct text_buf *b, struct tmpl_value v);
bool tmpl_put_repr(struct run *r, struct text_buf *b, struct tmpl_value v);

/* json.c */
struct json_style {
    bool ascii, sort;
    bool lines;                /* an indent was given */
    const struct text *indent; /* one level of it */
    const struct text *item_sep, *key_sep;
};
bool tmpl_put_json(struct run *r, struct text_buf *b, struct tmpl_value v, const struct json_style *style);

/* format.c: printf-style `%` and str.format */
struct args;
bool tmpl_format_percent(struct run *r, struct text *fmt, struct tmpl_value arg, struct tmpl_value *out);
bool tmpl_format_braces(struct run *r, struct text *fmt, const struct args *args, bool escape,
                        struct tmpl_value *out);

/* --- built-in functions: rows of tables --- */

#define TMPL_MAX_PARAM 6

struct named_value {
    const struct text *name;
    struct tmpl_value v;
};
struct args {
    struct tmpl_value *pos;
    struct named_value *kw;
    size_t n_pos, n_kw;
};
struct call {
    struct tmpl_value self;                /* filtered or tested value, the method's object */
    struct tmpl_value arg[TMPL_MAX_PARAM]; /* by the row's parameter list; VAL_MISSING where not given */
    const struct args *raw;
    const struct builtin *b;
};
struct builtin {
    const char *name;
    const char *params; /* "old,new,count?": ? may be missing; "*": as they come, in call.raw */
    bool (*fn)(struct run *r, const struct call *c,
               struct tmpl_value *out); /* NULL: the reference has it, we refuse it */
};

/* each ends with an empty row */
extern const struct builtin tmpl_filters[], tmpl_seq_filters[], tmpl_pick_filters[], tmpl_tests[],
    tmpl_str_methods[], tmpl_dict_methods[], tmpl_list_methods[], tmpl_tuple_methods[], tmpl_loop_methods[],
    tmpl_globals[];
const struct builtin *tmpl_builtin_find(const struct builtin *table, const char *name, size_t n);
const struct builtin *tmpl_filter_find(const char *name, size_t n);
const struct builtin *tmpl_test_find(const char *name, size_t n);
bool tmpl_builtin_call(struct run *r, const struct builtin *b, struct tmpl_value self,
                       const struct args *args, struct tmpl_value *out);
bool tmpl_arg_int(struct run *r, const struct call *c, int i, int64_t dflt,
                  int64_t *out); /* None and missing: dflt */
bool tmpl_arg_bool(const struct call *c, int i, bool dflt);
bool tmpl_arg_text(struct run *r, const struct call *c, int i,
                   struct text **out); /* a str; None and missing: NULL */
bool tmpl_center(struct run *r, struct tmpl_value v, int64_t width, const struct text *fill,
                 struct tmpl_value *out);
bool tmpl_lower_case(struct run *r, struct tmpl_value *v); /* strings only: for comparing without case */

/* eval.c */
bool tmpl_eval(struct run *r, const struct node *n, struct tmpl_value *out);
bool tmpl_eval_args(struct run *r, const struct call_args *a, struct args *out);
bool tmpl_eval_filters(struct run *r, const struct node *chain, struct tmpl_value input,
                       struct tmpl_value *out);
bool tmpl_call(struct run *r, struct tmpl_value fn, struct args *args, struct tmpl_value *out);

/* exec.c */
enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL };
bool tmpl_exec(struct run *r); /* the whole template */
enum flow tmpl_exec_node(struct run *r, const struct node *n);
enum flow tmpl_exec_inner(struct run *r, const struct node *body); /* in a scope of its own */
enum flow tmpl_capture(struct run *r, const struct node *body, struct text_buf *b); /* its output goes to b */
bool tmpl_emit(struct run *r, const struct text *t);
bool tmpl_scope_set(struct run *r, struct scope *s, int name, struct tmpl_value v);
bool tmpl_scope_begin(struct run *r, struct scope *s, const struct node *body);
struct scope *tmpl_scope_new(struct run *r, struct scope *parent,
                             const struct node *body); /* body: NULL or as for begin */
bool tmpl_set_var(struct run *r, int name, struct tmpl_value v);

/* loop.c, macro.c */
enum flow tmpl_exec_for(struct run *r, const struct node *n);
enum flow tmpl_exec_macro(struct run *r, const struct node *n);
enum flow tmpl_exec_callblock(struct run *r, const struct node *n);
bool tmpl_call_macro(struct run *r, struct macro *m, struct args *args, struct tmpl_value *out);
bool tmpl_assign(struct run *r, const struct node *target, struct tmpl_value v);
bool tmpl_loop_attr(struct run *r, struct loop *l, const struct text *name, struct tmpl_value *out);
bool tmpl_loop_length(struct run *r, struct loop *l, size_t *n);

struct loop {
    struct iter it;
    const struct node *node;              /* NODE_FOR */
    struct scope *outer;                  /* scope of the test */
    struct tmpl_value before, now, after; /* after: looked ahead, or VAL_MISSING */
    struct tmpl_value last_changed;       /* of loop.changed() */
    size_t index0;
    size_t length; /* SIZE_MAX until known */
    bool ended;    /* the iterator ran dry while looking ahead */
};

#endif
