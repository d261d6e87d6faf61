/* schema: reading. Each keyword has a row; what is not in the table says nothing about values, as JSON Schema
 * has it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/text/grammar/ecma.h"
#include "server/text/grammar/format.h"
#include "server/text/grammar/schema.h"

enum { LENGTH_MOST = 1 << 24 /* characters that a string may be asked to have at least */ };

static enum err bad(struct schema *s, const struct sch *t, const char *keyword, const char *why)
{
    return schema_fail(s, ERR_INVALID_VALUE, t, keyword, why);
}

static size_t count(struct jval v)
{
    size_t n = 0;
    for (struct jiter it = jval_iter(v); jiter_next(&it);) n++;
    return n;
}

/* --- one function for each shape of a keyword's value; at: the field's offset in struct sch */

struct keyword;
typedef void read_fn(struct schema *s, struct sch *t, const struct keyword *k, struct jval v);
struct keyword {
    const char *name;
    read_fn *read;
    size_t at;
};

static void *field(struct sch *t, const struct keyword *k) { return (char *)t + k->at; }

static void read_schema(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    *(uint32_t *)field(t, k) = schema_read(s, v, t->base);
}

static void read_schemas(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    struct sch_list l = {0};
    uint32_t cap = 0;
    if (jval_kind(v) != JKIND_ARRAY) {
        bad(s, t, k->name, "must be an array of schemas");
        return;
    }
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it);)
        sch_list_push(s, &l, &cap, schema_read(s, it.value, t->base));
    if (l.n == 0 && strcmp(k->name, "prefixItems") != 0 && strcmp(k->name, "items") != 0)
        bad(s, t, k->name, "must not be empty");
    *(struct sch_list *)field(t, k) = l;
}

static bool whole_number(struct jval v, uint32_t *out)
{
    double d;
    if (!jval_double(v, &d) || d < 0 || d != floor(d)) return false;
    *out = d >= (double)SCH_NONE ? SCH_NONE - 1 : (uint32_t)d;
    return true;
}

static void read_count(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (!whole_number(v, field(t, k))) bad(s, t, k->name, "must be a whole number, 0 or more");
}

static void read_unique(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (!jval_bool(v, &t->unique)) bad(s, t, k->name, "must be true or false");
}

static unsigned type_bit(struct jval v)
{
    static const struct {
        const char *name;
        unsigned bit;
    } type[] = {{"null", SCH_NULL},       {"boolean", SCH_BOOL},  {"number", SCH_NUMBER},
                {"integer", SCH_INTEGER}, {"string", SCH_STRING}, {"array", SCH_ARRAY},
                {"object", SCH_OBJECT}};
    for (size_t i = 0; i < sizeof type / sizeof *type; i++)
        if (jval_is(v, type[i].name)) return type[i].bit;
    return 0;
}

static void read_type(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    unsigned bits = type_bit(v);
    bool known = bits != 0;
    if (jval_kind(v) == JKIND_ARRAY) {
        known = true;
        for (struct jiter it = jval_iter(v); jiter_next(&it);) {
            unsigned one = type_bit(it.value);
            known = known && one;
            bits |= one;
        }
    }
    if (!known)
        bad(s, t, k->name,
            "must be null, boolean, number, integer, string, array, object, or an array of these");
    t->types &= bits | (bits & SCH_NUMBER ? SCH_INTEGER : 0);
}

/* --- numbers */

static void read_bound(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    bool above = k->name[0] == 'm' ? k->name[1] == 'i' : k->name[10] == 'i'; /* min..., exclusiveMin... */
    bool strict = k->name[0] == 'e', flag;
    struct decimal d;
    if (strict && jval_bool(v, &flag)) return; /* draft 4: read beside minimum or maximum */
    if (!strict && jval_bool(jval_get(t->v, above ? "exclusiveMinimum" : "exclusiveMaximum"), &flag))
        strict = flag;
    if (jval_kind(v) != JKIND_NUMBER) {
        bad(s, t, k->name, "must be a number");
        return;
    }
    if (!decimal_read(&d, v.p, v.n)) {
        schema_fail(s, ERR_UNSUPPORTED, t, k->name, "this number is out of the range of doubles");
        return;
    }
    struct number_set in = number_above(s->x, &d, above != strict);
    if (!above) in = number_not(in);
    t->num = t->has_num ? number_and(s->x, t->num, in) : in;
    t->has_num = true;
}

static void read_multiple(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    struct decimal d;
    struct number_set in;
    if (jval_kind(v) != JKIND_NUMBER || !decimal_read(&d, v.p, v.n) || d.n == 0 || d.minus) {
        bad(s, t, k->name, "must be a number above 0");
        return;
    }
    if (!number_multiple(s->x, &d, &in)) {
        schema_fail(s, ERR_UNSUPPORTED, t, k->name,
                    "more than five digits, or more than 18 places, are not supported");
        return;
    }
    t->num = t->has_num ? number_and(s->x, t->num, in) : in;
    t->has_num = true;
}

/* --- strings */

static void and_string(struct schema *s, struct sch *t, uint32_t rx)
{
    t->str = t->has_str ? rx_and(s->x, t->str, rx) : rx;
    t->has_str = true;
}

static void read_length(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    bool least = k->name[1] == 'i';
    uint32_t n;
    if (!whole_number(v, &n)) {
        bad(s, t, k->name, "must be a whole number, 0 or more");
        return;
    }
    if (least && n > LENGTH_MOST)
        schema_fail(s, ERR_UNSUPPORTED, t, k->name, "a string of so many characters is not supported");
    if (!least && n >= SCH_NONE - 1) return;
    and_string(s, t, rx_rep(s->x, chars_any(s->x, CHARS_JSON), least ? n : 0, least ? RX_MORE : n));
}

static uint32_t read_regex(struct schema *s, struct sch *t, const char *keyword, struct jval v)
{
    const char *text, *why;
    size_t n, at;
    uint32_t rx = RX_EMPTY;
    if (!jval_string(v, &s->mem, &text, &n)) {
        bad(s, t, keyword, "must be a string");
        return rx;
    }
    if (!text)
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    else if (!ecma_compile(s->x, CHARS_JSON, ECMA_SEARCH, text, n, &rx, &why, &at))
        schema_fail(s, ERR_UNSUPPORTED, t, keyword, why);
    return rx;
}

static void read_pattern(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    and_string(s, t, read_regex(s, t, k->name, v));
}

static void read_format(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    uint32_t rx;
    if (jval_kind(v) != JKIND_STRING) {
        bad(s, t, k->name, "must be a string");
        return;
    }
    if (s->opts.format == GRAMMAR_ANNOTATE) return;
    switch (format_find(s->x, v, &rx)) {
    case FORMAT_SAYS_NOTHING:
        return;
    case FORMAT_KNOWN:
        and_string(s, t, rx);
        return;
    default:
        schema_fail(s, ERR_UNSUPPORTED, t, k->name, "this format is not supported");
        return;
    }
}

/* --- objects and arrays */

static void read_props(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (jval_kind(v) != JKIND_OBJECT) {
        bad(s, t, k->name, "must be an object of schemas");
        return;
    }
    t->prop = arena_array(&s->mem, count(v), sizeof *t->prop);
    if (!t->prop) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it); t->n_prop++) {
        uint32_t key = schema_key_of(s, it.key);
        t->prop[t->n_prop] = (struct sch_prop){key, schema_read(s, it.value, t->base)};
    }
    if (schema_ok(s)) sch_sort_props(s, t);
}

static void read_patterns(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (jval_kind(v) != JKIND_OBJECT) {
        bad(s, t, k->name, "must be an object of schemas");
        return;
    }
    t->pat = arena_array(&s->mem, count(v), sizeof *t->pat);
    if (!t->pat) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it); t->n_pat++) {
        uint32_t rx = read_regex(s, t, k->name, it.key);
        t->pat[t->n_pat] = (struct sch_pattern){rx, schema_read(s, it.value, t->base)};
    }
}

static void read_need(struct schema *s, struct sch *t, struct sch_list *l, const char *keyword, struct jval v)
{
    uint32_t cap = 0;
    if (jval_kind(v) != JKIND_ARRAY) bad(s, t, keyword, "must be an array of strings");
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it);) {
        if (jval_kind(it.value) != JKIND_STRING)
            bad(s, t, keyword, "must be an array of strings");
        else
            sch_list_push(s, l, &cap, schema_key_of(s, it.value));
    }
}

static void read_required(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    bool flag;
    if (!jval_bool(v, &flag))
        read_need(s, t, field(t, k), k->name, v); /* draft 3 had true and false: they say nothing now */
}

/* dependentRequired, dependentSchemas and, for both, dependencies of draft 7. */
static void read_deps(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    struct sch_dep *old = t->dep;
    if (jval_kind(v) != JKIND_OBJECT) {
        bad(s, t, k->name, "must be an object");
        return;
    }
    t->dep = arena_array(&s->mem, t->n_dep + count(v), sizeof *t->dep);
    if (!t->dep) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    if (t->dep && t->n_dep) memcpy(t->dep, old, t->n_dep * sizeof *old);
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it); t->n_dep++) {
        struct sch_dep d = {.key = schema_key_of(s, it.key), .sch = SCH_NONE};
        if (jval_kind(it.value) == JKIND_ARRAY) {
            struct sch_list l = {0};
            read_need(s, t, &l, k->name, it.value);
            d.need = l.v;
            d.n_need = l.n;
        } else
            d.sch = schema_read(s, it.value, t->base);
        t->dep[t->n_dep] = d;
    }
}

static void read_items(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    struct keyword prefix = {.name = k->name, .at = offsetof(struct sch, prefix)};
    if (jval_kind(v) != JKIND_ARRAY)
        t->rest = schema_read(s, v, t->base);
    else
        read_schemas(s, t, &prefix, v);
}

static void read_extra_items(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    (void)k;
    if (jval_kind(jval_get(t->v, "items")) == JKIND_ARRAY) t->rest = schema_read(s, v, t->base);
}

static void read_enum(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (jval_kind(v) != JKIND_ARRAY)
        bad(s, t, k->name, "must be an array");
    else
        schema_read_enum(s, t, v);
}

static void read_const(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    (void)k;
    schema_read_const(s, t, v);
}

static void keep_value(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    if (jval_kind(v) != JKIND_STRING) bad(s, t, k->name, "must be a string");
    *(struct jval *)field(t, k) = v;
}

static void refuse(struct schema *s, struct sch *t, const struct keyword *k, struct jval v)
{
    (void)v;
    schema_fail(s, ERR_UNSUPPORTED, t, k->name, "this keyword is not supported");
}

#define AT(name) offsetof(struct sch, name)
static const struct keyword keywords[] = {
    {"type", read_type, 0},
    {"enum", read_enum, 0},
    {"const", read_const, 0},
    {"minimum", read_bound, 0},
    {"maximum", read_bound, 0},
    {"exclusiveMinimum", read_bound, 0},
    {"exclusiveMaximum", read_bound, 0},
    {"multipleOf", read_multiple, 0},
    {"minLength", read_length, 0},
    {"maxLength", read_length, 0},
    {"pattern", read_pattern, 0},
    {"format", read_format, 0},
    {"allOf", read_schemas, AT(all)},
    {"anyOf", read_schemas, AT(any)},
    {"oneOf", read_schemas, AT(one)},
    {"not", read_schema, AT(not )},
    {"if", read_schema, AT(if_)},
    {"then", read_schema, AT(then_)},
    {"else", read_schema, AT(else_)},
    {"properties", read_props, 0},
    {"patternProperties", read_patterns, 0},
    {"additionalProperties", read_schema, AT(extra)},
    {"propertyNames", read_schema, AT(names)},
    {"required", read_required, AT(need)},
    {"minProperties", read_count, AT(min_props)},
    {"maxProperties", read_count, AT(max_props)},
    {"dependentRequired", read_deps, 0},
    {"dependentSchemas", read_deps, 0},
    {"dependencies", read_deps, 0},
    {"items", read_items, 0},
    {"prefixItems", read_schemas, AT(prefix)},
    {"additionalItems", read_extra_items, 0},
    {"minItems", read_count, AT(min_items)},
    {"maxItems", read_count, AT(max_items)},
    {"contains", read_schema, AT(contains)},
    {"minContains", read_count, AT(min_contains)},
    {"maxContains", read_count, AT(max_contains)},
    {"uniqueItems", read_unique, 0},
    {"unevaluatedProperties", read_schema, AT(left_props)},
    {"unevaluatedItems", read_schema, AT(left_items)},
    {"$ref", keep_value, AT(ref_text)},
    {"$dynamicRef", keep_value, AT(dyn_text)},
    {"$recursiveRef", refuse, 0},
};

/* --- a schema */

uint32_t schema_new(struct schema *s, struct jval v, const char *base)
{
    struct sch *t = arena_alloc(&s->mem, sizeof *t);
    if (!t) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    if (!pool_grow(s->pool, &s->sch, &s->cap_sch, s->n_sch + 1, sizeof *s->sch)) return SCH_NONE;
    *t = (struct sch){.v = v, .base = base, .is = SCH_IS_OBJECT, .types = SCH_TYPES | SCH_INTEGER};
    uint32_t *none[] = {&t->ref,        &t->dyn,        &t->not,       &t->if_,       &t->then_,
                        &t->else_,      &t->extra,      &t->names,     &t->rest,      &t->contains,
                        &t->left_props, &t->left_items, &t->max_props, &t->max_items, &t->max_contains};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) *none[i] = SCH_NONE;
    t->min_contains = 1;
    s->sch[s->n_sch] = t;
    return (uint32_t)s->n_sch++;
}

static size_t place_slot(const struct schema *s, const char *p)
{
    size_t off = (size_t)(p - s->root.p), at = pool_hash(&off, sizeof off, 9) % s->cap_by_place;
    while (s->by_place[at] && s->sch[s->by_place[at] - 1]->v.p != p) at = (at + 1) % s->cap_by_place;
    return at;
}

static bool places_grow(struct schema *s)
{
    if (!pool_grow(s->pool, &s->by_place, &s->cap_by_place, s->cap_by_place ? s->cap_by_place * 2 : 256,
                   sizeof *s->by_place))
        return false;
    memset(s->by_place, 0, s->cap_by_place * sizeof *s->by_place);
    for (size_t i = 0; i < s->n_sch; i++)
        if (s->sch[i]->v.p) s->by_place[place_slot(s, s->sch[i]->v.p)] = (uint32_t)i + 1;
    return true;
}

static void read_keywords(struct schema *s, struct sch *t)
{
    struct jval ref = s->old ? jval_get(t->v, "$ref") : (struct jval){0};
    if (s->old && jval_kind(ref) == JKIND_STRING) {
        t->ref_text = ref;
        return;
    }
    for (struct jiter it = jval_iter(t->v); schema_ok(s) && jiter_next(&it);)
        for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
            if (jval_is(it.key, keywords[i].name)) {
                keywords[i].read(s, t, &keywords[i], it.value);
                break;
            }
}

uint32_t schema_read(struct schema *s, struct jval v, const char *base)
{
    bool flag;
    if (!schema_ok(s) || !pool_step(s->pool, 4 + v.n / 16))
        return SCH_NONE; /* its keywords are looked for in all of v */
    if ((s->n_sch + 1) * 2 > s->cap_by_place && !places_grow(s)) return SCH_NONE;
    size_t at = place_slot(s, v.p);
    if (s->by_place[at]) return s->by_place[at] - 1;
    uint32_t id = schema_new(s, v, base);
    if (id == SCH_NONE) return id;
    s->by_place[at] = id + 1;
    struct sch *t = s->sch[id];
    if (jval_bool(v, &flag)) {
        t->is = flag ? SCH_IS_TRUE : SCH_IS_FALSE;
        return id;
    }
    if (jval_kind(v) != JKIND_OBJECT) {
        schema_fail(s, ERR_INVALID_VALUE, t, NULL, "a schema must be an object, true or false");
        return SCH_NONE;
    }
    struct jval own = jval_get(v, "$id");
    if (jval_kind(own) == JKIND_STRING && own.n > 2 && own.p[1] != '#' &&
        !(s->old && jval_kind(jval_get(v, "$ref")) == JKIND_STRING)) {
        const char *uri;
        size_t n;
        if (jval_string(own, &s->mem, &uri, &n) && uri) t->base = uri_resolve(&s->mem, base, uri, n);
        if (!t->base) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    }
    read_keywords(s, t);
    return id;
}
