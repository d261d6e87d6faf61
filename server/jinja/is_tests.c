/* is_tests: what may stand behind `is`. */
#include "server/jinja/internal.h"

#define TEST_OF_KIND(name, cond)                                                                             \
    static bool is_##name(struct run *r, const struct call *c, struct tmpl_value *out)                       \
    {                                                                                                        \
        const struct tmpl_value v = c->self;                                                                 \
        (void)r;                                                                                             \
        *out = val_bool(cond);                                                                               \
        return true;                                                                                         \
    }

TEST_OF_KIND(defined, v.kind != VAL_UNDEFINED)
TEST_OF_KIND(undefined, v.kind == VAL_UNDEFINED)
TEST_OF_KIND(none, v.kind == VAL_NONE)
TEST_OF_KIND(boolean, v.kind == VAL_BOOL)
TEST_OF_KIND(true, v.kind == VAL_BOOL && v.b)
TEST_OF_KIND(false, v.kind == VAL_BOOL && !v.b)
TEST_OF_KIND(integer, v.kind == VAL_INT)
TEST_OF_KIND(float, v.kind == VAL_FLOAT)
TEST_OF_KIND(number, val_is_number(v))
TEST_OF_KIND(string, v.kind == VAL_STR)
TEST_OF_KIND(mapping, v.kind == VAL_DICT)
TEST_OF_KIND(iterable, tmpl_is_iterable(v) || v.kind == VAL_LOOP)
TEST_OF_KIND(sequence, tmpl_is_iterable(v) && v.kind != VAL_VIEW && v.kind != VAL_ITER)
TEST_OF_KIND(callable, v.kind >= VAL_LOOP || v.kind == VAL_UNDEFINED)
TEST_OF_KIND(escaped, v.kind == VAL_STR && (v.flags & VAL_SAFE))

static bool is_case(struct run *r, const struct call *c, enum text_class what, struct tmpl_value *out)
{
    const struct text *t = tmpl_to_text(r, c->self);
    *out = val_bool(t && tmpl_string_is(t, what));
    return t && tmpl_scan_cost(r, t->n);
}

static bool is_lower(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_case(r, c, CLASS_LOWER, out);
}
static bool is_upper(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_case(r, c, CLASS_UPPER, out);
}

/* v % by == want */
static bool is_remainder(struct run *r, struct tmpl_value v, struct tmpl_value by, int64_t want,
                         struct tmpl_value *out)
{
    struct tmpl_value rest;
    if (!tmpl_binary(r, OP_MOD, v, by, &rest)) return false;
    *out = val_bool(tmpl_equal(r, rest, val_int(want)));
    return !r->err;
}

static bool is_odd(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_remainder(r, c->self, val_int(2), 1, out);
}
static bool is_even(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_remainder(r, c->self, val_int(2), 0, out);
}
static bool is_divisibleby(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_remainder(r, c->self, c->arg[0], 0, out);
}

static bool compare(struct run *r, const struct call *c, enum node_op op, struct tmpl_value *out)
{
    bool b;
    if (!tmpl_compare(r, op, c->self, c->arg[0], &b)) return false;
    *out = val_bool(b);
    return true;
}

static bool is_eq(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_EQ, out);
}
static bool is_ne(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_NE, out);
}
static bool is_lt(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_LT, out);
}
static bool is_le(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_LE, out);
}
static bool is_gt(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_GT, out);
}
static bool is_ge(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_GE, out);
}
static bool is_in(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return compare(r, c, OP_IN, out);
}

/* The same object: equal scalars of one type, or one container. */
static bool is_sameas(struct run *r, const struct call *c, struct tmpl_value *out)
{
    const struct tmpl_value a = c->self, b = c->arg[0];
    const bool by_value = a.kind <= VAL_STR;
    *out = val_bool(a.kind == b.kind && (by_value ? tmpl_equal(r, a, b) : a.i == b.i));
    return !r->err;
}

static bool is_name_of(struct run *r, const struct call *c,
                       const struct builtin *(*find)(const char *, size_t), struct tmpl_value *out)
{
    const struct tmpl_value v = c->self;
    const struct builtin *b = v.kind == VAL_STR ? find(v.s->p, v.s->n) : NULL;
    (void)r;
    *out = val_bool(b != NULL);
    return true;
}

static bool is_filter(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_name_of(r, c, tmpl_filter_find, out);
}
static bool is_test(struct run *r, const struct call *c, struct tmpl_value *out)
{
    return is_name_of(r, c, tmpl_test_find, out);
}

const struct builtin tmpl_tests[] = {
    {"!=", "other", is_ne},
    {"<", "other", is_lt},
    {"<=", "other", is_le},
    {"==", "other", is_eq},
    {">", "other", is_gt},
    {">=", "other", is_ge},
    {"boolean", "", is_boolean},
    {"callable", "", is_callable},
    {"defined", "", is_defined},
    {"divisibleby", "num", is_divisibleby},
    {"eq", "other", is_eq},
    {"equalto", "other", is_eq},
    {"escaped", "", is_escaped},
    {"even", "", is_even},
    {"false", "", is_false},
    {"filter", "", is_filter},
    {"float", "", is_float},
    {"ge", "other", is_ge},
    {"greaterthan", "other", is_gt},
    {"gt", "other", is_gt},
    {"in", "seq", is_in},
    {"integer", "", is_integer},
    {"iterable", "", is_iterable},
    {"le", "other", is_le},
    {"lessthan", "other", is_lt},
    {"lower", "", is_lower},
    {"lt", "other", is_lt},
    {"mapping", "", is_mapping},
    {"ne", "other", is_ne},
    {"none", "", is_none},
    {"number", "", is_number},
    {"odd", "", is_odd},
    {"sameas", "other", is_sameas},
    {"sequence", "", is_sequence},
    {"string", "", is_string},
    {"test", "", is_test},
    {"true", "", is_true},
    {"undefined", "", is_undefined},
    {"upper", "", is_upper},
    {0},
};
