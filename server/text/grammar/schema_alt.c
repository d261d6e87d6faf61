/* schema: what one alternative asks of one key or item, and whether anything satisfies it. */
#include "server/text/grammar/schema_alt.h"

enum { UNSAT_DEEP = 24 /* values inside values that are looked into */, ITEMS_LOOKED_AT = 16 };

bool scope_within(const struct scope *inner, const struct scope *outer)
{
    while (inner && inner != outer) inner = inner->up;
    return inner != NULL;
}

/* --- keys */

static bool key_matches(struct schema *s, uint32_t key, uint32_t rx)
{
    return rx_match(s->x, rx, s->key[key].spelled, s->key[key].n_spelled);
}

/* Whether the schema of an atom says something about the value of key. push: and what. */
static bool object_says(struct schema *s, const struct sch *t, uint32_t key, bool push)
{
    bool found = false;
    const struct sch_prop *p = sch_find_prop(t, key);
    if (p) {
        found = true;
        if (push) rx_push(s->x, lit_of(p->sch, false));
    }
    for (uint32_t i = 0; i < t->n_pat; i++) {
        if (!key_matches(s, key, t->pat[i].rx)) continue;
        found = true;
        if (push) rx_push(s->x, lit_of(t->pat[i].sch, false));
    }
    if (found || t->extra == SCH_NONE) return found;
    if (push) rx_push(s->x, lit_of(t->extra, false));
    return true;
}

static bool key_evaluated(struct schema *s, const struct atom *alt, const struct atom *left, uint32_t key)
{
    for (const struct atom *a = alt; a; a = a->next) {
        if (!scope_within(a->scope, left->scope)) continue;
        if (a->kind == ATOM_OBJECT && object_says(s, s->sch[a->sch], key, false)) return true;
        if (a->kind == ATOM_LEFT_PROPS && a->scope != left->scope) return true;
    }
    return false;
}

bool alt_key(struct schema *s, const struct atom *alt, uint32_t key)
{
    size_t base = s->x->n_tmp;
    bool may = true;
    for (const struct atom *a = alt; a && may; a = a->next) {
        if (a->kind == ATOM_FORBID)
            may = a->key != key;
        else if (a->kind == ATOM_HAS && a->key == key)
            rx_push(s->x, a->lit);
        else if (a->kind == ATOM_LEFT_PROPS && !key_evaluated(s, alt, a, key))
            rx_push(s->x, a->lit);
        if (a->kind != ATOM_OBJECT) continue;
        const struct sch *t = s->sch[a->sch];
        object_says(s, t, key, true);
        if (t->names == SCH_NONE) continue;
        struct scalar names = schema_scalar(s, t->names);
        may = schema_ok(s) && key_matches(s, key, names.str);
    }
    if (!may) s->x->n_tmp = base;
    return may;
}

/* --- items */

static bool item_evaluated(const struct schema *s, const struct atom *alt, const struct atom *left,
                           uint32_t i, unsigned matched)
{
    unsigned nth = 0;
    for (const struct atom *a = alt; a; a = a->next) {
        unsigned bit = a->kind == ATOM_CONTAINS ? 1u << (nth++ & 31) : 0;
        if (!scope_within(a->scope, left->scope)) continue;
        if (a->kind == ATOM_ARRAY && (i < s->sch[a->sch]->prefix.n || s->sch[a->sch]->rest != SCH_NONE))
            return true;
        if (a->kind == ATOM_LEFT_ITEMS && a->scope != left->scope) return true;
        if (matched & bit) return true;
    }
    return false;
}

void alt_item(struct schema *s, const struct atom *alt, uint32_t i, unsigned matched)
{
    for (const struct atom *a = alt; a; a = a->next) {
        if (a->kind == ATOM_AT && a->n == i) rx_push(s->x, a->lit);
        if (a->kind == ATOM_LEFT_ITEMS && !item_evaluated(s, alt, a, i, matched)) rx_push(s->x, a->lit);
        if (a->kind != ATOM_ARRAY) continue;
        const struct sch *t = s->sch[a->sch];
        if (i < t->prefix.n)
            rx_push(s->x, lit_of(t->prefix.v[i], false));
        else if (t->rest != SCH_NONE)
            rx_push(s->x, lit_of(t->rest, false));
    }
}

/* --- whether anything satisfies it */

static bool value_impossible(struct schema *s, size_t base)
{
    uint32_t c = conj_of(s, base);
    return schema_ok(s) && conj_unsat(s, c);
}

static bool object_impossible(struct schema *s, const struct atom *alt)
{
    uint32_t least = 0, most = SCH_NONE;
    for (const struct atom *a = alt; a && schema_ok(s); a = a->next) {
        if (a->kind == ATOM_MIN && a->n > least) least = a->n;
        if (a->kind == ATOM_MAX && a->n < most) most = a->n;
        if (a->kind == ATOM_SOME && !rx_live(s->x, a->rx)) return true;
        if (a->kind != ATOM_NEED && a->kind != ATOM_HAS) continue;
        size_t base = s->x->n_tmp;
        if (!alt_key(s, alt, a->key) || value_impossible(s, base)) return schema_ok(s);
    }
    return least > most;
}

static bool array_impossible(struct schema *s, const struct atom *alt)
{
    uint32_t least = 0, most = SCH_NONE;
    for (const struct atom *a = alt; a; a = a->next) {
        if (a->kind == ATOM_MIN && a->n > least) least = a->n;
        if (a->kind == ATOM_AT && a->n >= least) least = a->n + 1;
        if (a->kind == ATOM_MAX && a->n < most) most = a->n;
    }
    if (least > most) return true;
    for (uint32_t i = 0; i < least && i < ITEMS_LOOKED_AT && schema_ok(s); i++) {
        size_t base = s->x->n_tmp;
        alt_item(s, alt, i, ~0u);
        if (value_impossible(s, base)) return schema_ok(s);
    }
    return false;
}

bool alt_impossible(struct schema *s, const struct atom *alt, unsigned type)
{
    if (s->depth > UNSAT_DEEP) return false;
    s->depth++;
    bool no = type == SCH_OBJECT ? object_impossible(s, alt) : array_impossible(s, alt);
    s->depth--;
    return no && schema_ok(s);
}
