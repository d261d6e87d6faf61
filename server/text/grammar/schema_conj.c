/* schema: sets of literals, and the rules made of them. */
#include <stdlib.h>

#include "server/text/grammar/schema_alt.h"

enum { SAT_UNKNOWN, SAT_OPEN, SAT_NO, SAT_MAYBE };

static int compare_ids(const void *a, const void *b)
{
    uint32_t p = *(const uint32_t *)a, q = *(const uint32_t *)b;
    return (p > q) - (p < q);
}

static bool says_nothing(const struct schema *s, uint32_t lit)
{
    const struct sch *t = s->sch[lit >> 1];
    return t->is == (lit & 1 ? SCH_IS_FALSE : SCH_IS_TRUE);
}

static bool table_grow(struct schema *s)
{
    if (!pool_grow(s->pool, &s->by_conj, &s->cap_by_conj, s->cap_by_conj ? s->cap_by_conj * 2 : 256,
                   sizeof *s->by_conj))
        return false;
    memset(s->by_conj, 0, s->cap_by_conj * sizeof *s->by_conj);
    for (size_t i = 0; i < s->n_conj; i++) {
        size_t at = s->conj[i].hash % s->cap_by_conj;
        while (s->by_conj[at]) at = (at + 1) % s->cap_by_conj;
        s->by_conj[at] = (uint32_t)i + 1;
    }
    return true;
}

uint32_t schema_conj(struct schema *s, const uint32_t *lit, size_t n)
{
    size_t w = 0, at;
    uint32_t *v = NULL;
    if (!schema_ok(s) || !pool_grow(s->pool, &s->lits, &s->cap_lits, s->n_lits + n + 1, sizeof *lit))
        return 0;
    v = s->lits + s->n_lits;
    for (size_t i = 0; i < n; i++)
        if (!says_nothing(s, lit[i])) v[w++] = lit[i];
    if (w > 1) qsort(v, w, sizeof *v, compare_ids);
    n = w;
    w = 0;
    for (size_t i = 0; i < n; i++)
        if (w == 0 || v[w - 1] != v[i]) v[w++] = v[i];
    uint64_t hash = pool_hash(v, w * sizeof *v, 7);
    if ((s->n_conj + 1) * 2 > s->cap_by_conj && !table_grow(s)) return 0;
    for (at = hash % s->cap_by_conj; s->by_conj[at]; at = (at + 1) % s->cap_by_conj) {
        const struct conj *c = &s->conj[s->by_conj[at] - 1];
        if (c->n == w && memcmp(s->lits + c->lit, v, w * sizeof *v) == 0) return s->by_conj[at] - 1;
    }
    if (s->n_conj >= s->lim->states) pool_fail(s->pool, ERR_UNSUPPORTED, "states");
    if (!pool_grow(s->pool, &s->conj, &s->cap_conj, s->n_conj + 1, sizeof *s->conj)) return 0;
    s->conj[s->n_conj] = (struct conj){.hash = hash, .lit = (uint32_t)s->n_lits, .n = (uint32_t)w};
    s->n_lits += w;
    s->by_conj[at] = (uint32_t)s->n_conj + 1;
    return (uint32_t)s->n_conj++;
}

uint32_t conj_of(struct schema *s, size_t base)
{
    size_t n = s->x->n_tmp > base ? s->x->n_tmp - base : 0;
    uint32_t c = schema_conj(s, s->x->tmp + base, n);
    s->x->n_tmp = base;
    return c;
}

const struct scalar *conj_scalar(struct schema *s, uint32_t conj)
{
    if (!s->conj[conj].has_scalar) {
        struct scalar a = scalar_all(s);
        for (uint32_t i = 0; i < s->conj[conj].n && schema_ok(s); i++) {
            uint32_t lit = s->lits[s->conj[conj].lit + i];
            struct scalar b = schema_scalar(s, lit >> 1);
            if (schema_ok(s)) a = scalar_and(s, a, lit & 1 ? scalar_not(s, b) : b);
        }
        s->conj[conj].scalar = a;
        s->conj[conj].has_scalar = true;
    }
    return &s->conj[conj].scalar;
}

/* Some array or object may be in it, as far as its own literals say. */
static bool may_be(const struct schema *s, uint32_t conj, unsigned type)
{
    for (uint32_t i = 0; i < s->conj[conj].n; i++) {
        uint32_t lit = s->lits[s->conj[conj].lit + i];
        const struct sch *t = s->sch[lit >> 1];
        if (t->is != SCH_IS_OBJECT && t->is == (lit & 1 ? SCH_IS_TRUE : SCH_IS_FALSE)) return false;
        if (!(lit & 1) && t->is == SCH_IS_OBJECT && (!(t->types & type) || (t->has_enum && !t->member.n)))
            return false;
    }
    return true;
}

bool conj_unsat(struct schema *s, uint32_t conj)
{
    static const unsigned type[] = {SCH_OBJECT, SCH_ARRAY};
    if (s->conj[conj].sat != SAT_UNKNOWN) return s->conj[conj].sat == SAT_NO;
    if (s->conj[conj].n == 0) return false;
    s->conj[conj].sat = SAT_OPEN; /* a value inside itself: not certain */
    const struct scalar *a = conj_scalar(s, conj);
    bool none = schema_ok(s) && scalar_empty(s, a);
    size_t base = s->n_alt;
    for (size_t i = 0; i < 2 && none; i++) {
        if (may_be(s, conj, type[i])) schema_expand(s, conj, type[i]);
        none = schema_ok(s) && s->n_alt == base;
        s->n_alt = base;
    }
    s->conj[conj].sat = none ? SAT_NO : SAT_MAYBE;
    return none;
}

/* --- rules */

static bool values_grow(struct schema *s)
{
    if ((s->n_value + 1) * 2 <= s->cap_by_value) return true;
    size_t cap = s->cap_by_value ? s->cap_by_value * 2 : 256;
    if (!pool_grow(s->pool, &s->by_value, &s->cap_by_value, cap, sizeof *s->by_value)) return false;
    memset(s->by_value, 0, s->cap_by_value * sizeof *s->by_value);
    for (size_t i = 0; i < s->n_value; i++) {
        size_t at = pool_hash(&s->value[i], 2 * sizeof(uint32_t), 19) % s->cap_by_value;
        while (s->by_value[at]) at = (at + 1) % s->cap_by_value;
        s->by_value[at] = (uint32_t)i + 1;
    }
    return true;
}

/* The rule of a conj's arrays and objects at a place; its automaton is made later. */
static uint32_t rule_of(struct schema *s, uint32_t conj, uint32_t place)
{
    struct sch_value v = {.conj = conj, .place = place};
    if (!values_grow(s)) return 0;
    size_t at = pool_hash(&v, 2 * sizeof(uint32_t), 19) % s->cap_by_value;
    for (; s->by_value[at]; at = (at + 1) % s->cap_by_value) {
        const struct sch_value *old = &s->value[s->by_value[at] - 1];
        if (old->conj == conj && old->place == place) return old->rule;
    }
    v.rule = rtn_rule(s->net);
    if (!pool_grow(s->pool, &s->value, &s->cap_value, s->n_value + 1, sizeof v)) return 0;
    s->value[s->n_value] = v;
    s->by_value[at] = (uint32_t)++s->n_value;
    return v.rule;
}

void schema_value(struct schema *s, uint32_t from, uint32_t conj, uint32_t place, uint32_t to)
{
    const struct scalar *a = conj_scalar(s, conj);
    if (!schema_ok(s)) return;
    rtn_lexeme(s->net, from, scalar_lexeme(s, a), to);
    if (may_be(s, conj, SCH_OBJECT) || may_be(s, conj, SCH_ARRAY))
        rtn_call(s->net, from, rule_of(s, conj, place), to);
}

static void build(struct schema *s, struct sch_value v)
{
    size_t base = s->n_alt;
    if (may_be(s, v.conj, SCH_OBJECT)) {
        schema_expand(s, v.conj, SCH_OBJECT);
        for (size_t i = base; i < s->n_alt && schema_ok(s); i++) schema_object(s, v.rule, v.place, s->alt[i]);
        s->n_alt = base;
    }
    if (may_be(s, v.conj, SCH_ARRAY) && schema_ok(s)) {
        schema_expand(s, v.conj, SCH_ARRAY);
        for (size_t i = base; i < s->n_alt && schema_ok(s); i++) schema_array(s, v.rule, v.place, s->alt[i]);
        s->n_alt = base;
    }
}

void schema_build(struct schema *s)
{
    for (; s->n_built < s->n_value && schema_ok(s); s->n_built++) build(s, s->value[s->n_built]);
}
