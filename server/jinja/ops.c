/* ops: the operators, with Python's rules. Integers have 64 bits: what Python would carry on with beyond them
 * is an error here. */
#include <math.h>

#include "server/jinja/internal.h"

bool tmpl_truth(struct tmpl_value v)
{
    switch (v.kind) {
    case VAL_MISSING:
    case VAL_UNDEFINED:
    case VAL_NONE:
        return false;
    case VAL_BOOL:
        return v.b;
    case VAL_INT:
        return v.i != 0;
    case VAL_FLOAT:
        return v.f != 0;
    case VAL_STR:
        return v.s->n > 0;
    case VAL_LIST:
    case VAL_TUPLE:
    case VAL_VIEW:
        return v.list->n > 0;
    case VAL_DICT:
        return v.dict->n > 0;
    case VAL_RANGE:
        return v.range->n > 0;
    default:
        return true;
    }
}

/* --- comparing --- */

static bool equal(struct run *r, struct tmpl_value a, struct tmpl_value b, int depth);

static bool equal_items(struct run *r, const struct items *a, const struct items *b, int depth)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!equal(r, a->v[i], b->v[i], depth)) return false;
    }
    return true;
}

static bool equal_dicts(struct run *r, struct table *a, struct table *b, int depth)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct pair *p = tmpl_table_find(r, b, a->pair[i].key);
        if (!p || !equal(r, a->pair[i].val, p->val, depth)) return false;
    }
    return true;
}

static bool equal_ranges(const struct range *a, const struct range *b)
{
    return a->n == b->n && (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static bool equal(struct run *r, struct tmpl_value a, struct tmpl_value b, int depth)
{
    if (!tmpl_step(r, 1)) return false;
    if (depth >= TMPL_MAX_VALUE_DEPTH) return tmpl_fail_bound(r, "a value is nested too deeply");
    if (val_is_number(a) && val_is_number(b)) {
        if (val_is_integral(a) && val_is_integral(b)) return val_as_int(a) == val_as_int(b);
        return !(a.kind == VAL_FLOAT && isnan(a.f)) && !(b.kind == VAL_FLOAT && isnan(b.f)) &&
               tmpl_key_cmp(r, a, b) == 0;
    }
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case VAL_UNDEFINED:
    case VAL_NONE:
        return true;
    case VAL_STR:
        return text_equal(a.s, b.s) && tmpl_scan_cost(r, a.s->n);
    case VAL_LIST:
    case VAL_TUPLE:
        return a.list == b.list || equal_items(r, a.list, b.list, depth + 1);
    case VAL_DICT:
        return a.dict == b.dict || equal_dicts(r, a.dict, b.dict, depth + 1);
    case VAL_RANGE:
        return equal_ranges(a.range, b.range);
    default:
        return a.i == b.i; /* objects: the same one */
    }
}

bool tmpl_equal(struct run *r, struct tmpl_value a, struct tmpl_value b)
{
    return equal(r, a, b, 0) && !r->err;
}

static const char *const op_sign[] = {
    [OP_ADD] = "+",       [OP_SUB] = "-", [OP_MUL] = "*",           [OP_DIV] = "/",
    [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "** or pow()", [OP_EQ] = "==",
    [OP_NE] = "!=",       [OP_LT] = "<",  [OP_LE] = "<=",           [OP_GT] = ">",
    [OP_GE] = ">=",       [OP_IN] = "in", [OP_NOTIN] = "not in",
};

static bool fail_order(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b)
{
    if (a.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, a);
    if (b.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, b);
    return tmpl_fail(r, "'%s' not supported between instances of '%s' and '%s'", op_sign[op],
                     tmpl_type_name(a), tmpl_type_name(b));
}

/* a op b for <, <=, >, >=. */
static bool ordered(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b, int depth,
                    bool *out)
{
    int c = 0;
    if (!tmpl_step(r, 1)) return false;
    if (depth >= TMPL_MAX_VALUE_DEPTH) return tmpl_fail_bound(r, "a value is nested too deeply");
    if (val_is_number(a) && val_is_number(b)) {
        *out = false;
        if ((a.kind == VAL_FLOAT && isnan(a.f)) || (b.kind == VAL_FLOAT && isnan(b.f))) return true;
        c = tmpl_key_cmp(r, a, b);
    } else if (a.kind == VAL_STR && b.kind == VAL_STR) {
        c = tmpl_text_cmp(a.s, b.s);
        if (!tmpl_scan_cost(r, a.s->n)) return false;
    } else if (val_is_seq(a) && a.kind == b.kind) {
        const size_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
        for (size_t i = 0; i < n; i++) { /* the first pair that differs decides */
            const bool same = equal(r, a.list->v[i], b.list->v[i], depth + 1);
            if (r->err) return false;
            if (!same) return ordered(r, op, a.list->v[i], b.list->v[i], depth + 1, out);
        }
        c = (a.list->n > b.list->n) - (a.list->n < b.list->n);
    } else {
        return fail_order(r, op, a, b);
    }
    *out = op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
    return true;
}

bool tmpl_less_than(struct run *r, struct tmpl_value a, struct tmpl_value b)
{
    bool less = false;
    return ordered(r, OP_LT, a, b, 0, &less) && less;
}

bool tmpl_contains(struct run *r, struct tmpl_value box, struct tmpl_value v, bool *out)
{
    *out = false;
    if (box.kind == VAL_STR) {
        size_t at;
        if (v.kind != VAL_STR) {
            return tmpl_fail(r, "'in <string>' requires string as left operand, not %s", tmpl_type_name(v));
        }
        *out = tmpl_string_find(r, box.s, v.s, 0, &at);
        return !r->err;
    }
    if (box.kind == VAL_DICT) {
        if (!tmpl_hashable(r, v)) return false;
        *out = tmpl_table_find(r, box.dict, v) != NULL;
        return !r->err && tmpl_step(r, 1);
    }
    if (box.kind == VAL_NONE || !tmpl_is_iterable(box)) {
        return tmpl_fail(r, "argument of type '%s' is not iterable", tmpl_type_name(box));
    }
    struct iter it;
    struct tmpl_value item;
    if (!tmpl_iter_open(r, box, &it)) return false;
    while (!*out && tmpl_iter_next(r, &it, &item)) *out = equal(r, item, v, 0);
    return !r->err;
}

bool tmpl_compare(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b, bool *out)
{
    switch (op) {
    case OP_EQ:
    case OP_NE:
        *out = equal(r, a, b, 0) == (op == OP_EQ);
        return !r->err;
    case OP_IN:
    case OP_NOTIN:
        if (!tmpl_contains(r, b, a, out)) return false;
        *out = *out == (op == OP_IN);
        return true;
    default:
        return ordered(r, op, a, b, 0, out);
    }
}

/* --- arithmetic --- */

static bool fail_types(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b)
{
    if (a.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, a);
    if (b.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, b);
    if (op == OP_ADD && (a.kind == VAL_STR || val_is_seq(a))) {
        const char *name = tmpl_type_name(a);
        return tmpl_fail(r, "can only concatenate %s (not \"%s\") to %s", name, tmpl_type_name(b), name);
    }
    return tmpl_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_sign[op], tmpl_type_name(a),
                     tmpl_type_name(b));
}

static bool fail_overflow(struct run *r) { return tmpl_fail(r, "an integer is too large"); }

static bool int_power(struct run *r, int64_t a, int64_t b, struct tmpl_value *out)
{
    if (b < 0) {
        if (a == 0) return tmpl_fail(r, "0.0 cannot be raised to a negative power");
        *out = val_float(pow((double)a, (double)b));
        return true;
    }
    int64_t x = 1;
    for (; b > 0; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(x, a, &x)) return fail_overflow(r);
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) return fail_overflow(r);
    }
    *out = val_int(x);
    return true;
}

static bool int_binary(struct run *r, enum node_op op, int64_t a, int64_t b, struct tmpl_value *out)
{
    int64_t x = 0;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0) {
        return tmpl_fail(r, op == OP_DIV ? "division by zero" : "integer division or modulo by zero");
    }
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &x)) return fail_overflow(r);
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &x)) return fail_overflow(r);
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &x)) return fail_overflow(r);
        break;
    case OP_DIV:
        *out = val_float((double)a / (double)b);
        return true;
    case OP_FLOORDIV:
        if (b == -1) {
            if (__builtin_sub_overflow((int64_t)0, a, &x)) return fail_overflow(r);
        } else {
            x = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        }
        break;
    case OP_MOD: /* has the sign of b */
        x = b == -1 ? 0 : a % b;
        if (x != 0 && (x < 0) != (b < 0)) x += b;
        break;
    default:
        return int_power(r, a, b, out);
    }
    *out = val_int(x);
    return true;
}

static bool float_binary(struct run *r, enum node_op op, double a, double b, struct tmpl_value *out)
{
    double x;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0) {
        return tmpl_fail(r, op == OP_DIV   ? "float division by zero"
                            : op == OP_MOD ? "float modulo"
                                           : "float floor division by zero");
    }
    switch (op) {
    case OP_ADD:
        x = a + b;
        break;
    case OP_SUB:
        x = a - b;
        break;
    case OP_MUL:
        x = a * b;
        break;
    case OP_DIV:
        x = a / b;
        break;
    case OP_FLOORDIV:
    case OP_MOD: {
        double mod = fmod(a, b), div = (a - mod) / b;
        if (mod != 0 && (mod < 0) != (b < 0)) {
            mod += b;
            div -= 1;
        }
        const double whole = floor(div);
        x = op == OP_MOD ? (mod == 0 ? copysign(0, b) : mod) : div - whole > 0.5 ? whole + 1 : whole;
        break;
    }
    default:
        if (a == 0 && b < 0) return tmpl_fail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b) && isfinite(a) && isfinite(b))
            return tmpl_fail(r, "complex numbers are not supported");
        x = pow(a, b);
        if (isinf(x) && isfinite(a) && isfinite(b)) return tmpl_fail(r, "numerical result out of range");
    }
    *out = val_float(x);
    return true;
}

/* "+" of strings; a safe one escapes a plain partner. */
static bool add_texts(struct run *r, struct tmpl_value a, struct tmpl_value b, struct tmpl_value *out)
{
    const uint8_t safe = (a.flags | b.flags) & VAL_SAFE;
    struct text *s = safe && !(a.flags & VAL_SAFE) ? tmpl_string_escape(r, a.s) : a.s;
    struct text *t = safe && !(b.flags & VAL_SAFE) ? tmpl_string_escape(r, b.s) : b.s;
    if (!s || !t || !val_from_text(tmpl_text_concat(r, s, t), out)) return false;
    out->flags = safe;
    return true;
}

static bool repeat(struct run *r, struct tmpl_value v, int64_t times, struct tmpl_value *out)
{
    if (v.kind == VAL_STR) {
        if (!val_from_text(tmpl_text_repeat(r, v.s, times), out)) return false;
        out->flags = v.flags;
        return true;
    }
    struct items l = {0};
    for (int64_t i = 0; i < times && v.list->n; i++) {
        for (size_t k = 0; k < v.list->n; k++) {
            if (!tmpl_step(r, 1) || !tmpl_items_push(r, &l, v.list->v[k])) return false;
        }
    }
    return tmpl_items_value(r, &l, v.kind, out);
}

bool tmpl_binary(struct run *r, enum node_op op, struct tmpl_value a, struct tmpl_value b,
                 struct tmpl_value *out)
{
    if (val_is_number(a) && val_is_number(b)) {
        if (a.kind == VAL_FLOAT || b.kind == VAL_FLOAT)
            return float_binary(r, op, val_as_float(a), val_as_float(b), out);
        return int_binary(r, op, val_as_int(a), val_as_int(b), out);
    }
    if (op == OP_ADD && a.kind == VAL_STR && b.kind == VAL_STR) return add_texts(r, a, b, out);
    if (op == OP_ADD && val_is_seq(a) && a.kind == b.kind)
        return tmpl_items_concat(r, a.list, b.list, out, a.kind);
    if (op == OP_MUL && val_is_integral(b) && (a.kind == VAL_STR || val_is_seq(a)))
        return repeat(r, a, val_as_int(b), out);
    if (op == OP_MUL && val_is_integral(a) && (b.kind == VAL_STR || val_is_seq(b)))
        return repeat(r, b, val_as_int(a), out);
    if (op == OP_MOD && a.kind == VAL_STR) return tmpl_format_percent(r, a.s, b, out);
    return fail_types(r, op, a, b);
}

bool tmpl_negate(struct run *r, struct tmpl_value v, struct tmpl_value *out)
{
    if (v.kind == VAL_UNDEFINED) return tmpl_fail_undefined(r, v);
    if (v.kind == VAL_FLOAT) {
        *out = val_float(-v.f);
        return true;
    }
    if (!val_is_integral(v)) return tmpl_fail_type(r, "bad operand type for unary -", v);
    int64_t x;
    if (__builtin_sub_overflow((int64_t)0, val_as_int(v), &x)) return fail_overflow(r);
    *out = val_int(x);
    return true;
}
