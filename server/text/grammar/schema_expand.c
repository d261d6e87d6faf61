/* schema: multiplying out. Work is a list of literals and branch points; where a branch point has several
 * ways each is followed with a copy of what has been gathered (lists share their tails, so a copy is a
 * pointer). */
#include "server/text/grammar/schema_alt.h"

enum { BRANCHES_DEEP = 200, PATH_LONG = 20000 };

enum work_kind { WORK_LIT, WORK_ANY, WORK_ONE, WORK_IF, WORK_DEP };
struct work {
    const struct work *next;
    const struct scope *scope;
    enum work_kind kind;
    uint32_t a, i; /* a: literal, or schema of a branch point; i: of a dependency */
};

struct path { /* what is gathered on one way */
    const struct work *work;
    const struct atom *atoms;
    uint32_t steps;
};

struct expand {
    struct schema *s;
    unsigned type;
    size_t base; /* of the alternatives in s->alt */
    int deep;
};

static void run(struct expand *e, struct path p);

static void *get(struct expand *e, size_t n)
{
    void *at = arena_alloc(&e->s->mem, n);
    if (!at) pool_fail(e->s->pool, ERR_UNSUPPORTED, "bytes");
    return at;
}

static void add_work(struct expand *e, struct path *p, enum work_kind kind, uint32_t a, uint32_t i,
                     const struct scope *scope)
{
    struct work *w = pool_step(e->s->pool, 2) ? get(e, sizeof *w) : NULL;
    if (!w) return;
    *w = (struct work){.next = p->work, .scope = scope, .kind = kind, .a = a, .i = i};
    p->work = w;
}

static void add_lit(struct expand *e, struct path *p, uint32_t sch, bool neg, const struct scope *scope)
{
    if (sch != SCH_NONE) add_work(e, p, WORK_LIT, lit_of(sch, neg), 0, scope);
}

static void add_atom(struct expand *e, struct path *p, struct atom a)
{
    struct atom *at = pool_step(e->s->pool, 2) ? get(e, sizeof *at) : NULL;
    if (!at) return;
    *at = a;
    at->next = p->atoms;
    p->atoms = at;
}

/* --- a schema that holds */

static void own_object(struct expand *e, struct path *p, uint32_t id, const struct scope *scope)
{
    const struct sch *t = e->s->sch[id];
    if (t->n_prop || t->n_pat || t->extra != SCH_NONE || t->names != SCH_NONE)
        add_atom(e, p, (struct atom){.kind = ATOM_OBJECT, .sch = id, .scope = scope});
    for (uint32_t i = 0; i < t->need.n; i++)
        add_atom(e, p, (struct atom){.kind = ATOM_NEED, .key = t->need.v[i]});
    if (t->min_props) add_atom(e, p, (struct atom){.kind = ATOM_MIN, .n = t->min_props});
    if (t->max_props != SCH_NONE) add_atom(e, p, (struct atom){.kind = ATOM_MAX, .n = t->max_props});
    if (t->left_props != SCH_NONE)
        add_atom(
            e, p,
            (struct atom){
                .kind = ATOM_LEFT_PROPS, .sch = id, .lit = lit_of(t->left_props, false), .scope = scope});
    for (uint32_t i = 0; i < t->n_dep; i++) add_work(e, p, WORK_DEP, id, i, scope);
}

static void own_array(struct expand *e, struct path *p, uint32_t id, const struct scope *scope)
{
    const struct sch *t = e->s->sch[id];
    if (t->prefix.n || t->rest != SCH_NONE)
        add_atom(e, p, (struct atom){.kind = ATOM_ARRAY, .sch = id, .scope = scope});
    if (t->min_items) add_atom(e, p, (struct atom){.kind = ATOM_MIN, .n = t->min_items});
    if (t->max_items != SCH_NONE) add_atom(e, p, (struct atom){.kind = ATOM_MAX, .n = t->max_items});
    if (t->unique) add_atom(e, p, (struct atom){.kind = ATOM_UNIQUE, .sch = id});
    if (t->left_items != SCH_NONE)
        add_atom(
            e, p,
            (struct atom){
                .kind = ATOM_LEFT_ITEMS, .sch = id, .lit = lit_of(t->left_items, false), .scope = scope});
    if (t->contains != SCH_NONE && (t->min_contains || t->max_contains != SCH_NONE || scope))
        add_atom(e, p,
                 (struct atom){.kind = ATOM_CONTAINS,
                               .sch = id,
                               .lit = lit_of(t->contains, false),
                               .n = t->min_contains,
                               .most = t->max_contains,
                               .scope = scope});
}

/* False: no value of the type satisfies it. */
static bool hold(struct expand *e, struct path *p, uint32_t id, const struct scope *scope)
{
    const struct sch *t = e->s->sch[id];
    if (t->is != SCH_IS_OBJECT) return t->is == SCH_IS_TRUE;
    if (!(t->types & e->type)) return false;
    if (t->has_enum && !t->member.n) return false;
    if (t->left_props != SCH_NONE || t->left_items != SCH_NONE) {
        struct scope *in = get(e, sizeof *in);
        if (!in) return false;
        in->up = scope;
        scope = in;
    }
    if (e->type == SCH_OBJECT)
        own_object(e, p, id, scope);
    else
        own_array(e, p, id, scope);
    if (t->has_enum) add_work(e, p, WORK_ANY, id, 1, scope);
    if (t->if_ != SCH_NONE && (scope || t->then_ != SCH_NONE || t->else_ != SCH_NONE))
        add_work(e, p, WORK_IF, id, 0, scope);
    if (t->one.n) add_work(e, p, WORK_ONE, id, 0, scope);
    if (t->any.n) add_work(e, p, WORK_ANY, id, 0, scope);
    add_lit(e, p, t->not, true, NULL);
    for (uint32_t i = t->all.n; i > 0; i--) add_lit(e, p, t->all.v[i - 1], false, scope);
    add_lit(e, p, t->dyn, false, scope);
    add_lit(e, p, t->ref, false, scope);
    return true;
}

/* --- a schema that does not hold: one of its keywords does not */

static void way(struct expand *e, struct path p, struct atom a)
{
    add_atom(e, &p, a);
    run(e, p);
}

static void way_lit(struct expand *e, struct path p, uint32_t sch, bool neg)
{
    if (sch == SCH_NONE) return;
    add_lit(e, &p, sch, neg, NULL);
    run(e, p);
}

/* Keys that a schema leaves to additionalProperties. */
static uint32_t other_keys(struct schema *s, const struct sch *t)
{
    uint32_t rx = chars_many(s->x, CHARS_JSON);
    struct rx_lit *lit = arena_array(&s->mem, t->n_prop + 1, sizeof *lit);
    if (!lit) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return RX_EMPTY;
    }
    for (uint32_t i = 0; i < t->n_prop; i++)
        lit[i] = (struct rx_lit){s->key[t->prop[i].key].spelled, s->key[t->prop[i].key].n_spelled};
    rx = rx_minus(s->x, rx, rx_lits(s->x, lit, t->n_prop));
    for (uint32_t i = 0; i < t->n_pat; i++) rx = rx_minus(s->x, rx, t->pat[i].rx);
    return rx;
}

static void break_object(struct expand *e, struct path p, uint32_t id)
{
    struct schema *s = e->s;
    const struct sch *t = s->sch[id];
    for (uint32_t i = 0; i < t->n_prop && schema_ok(s); i++)
        way(e, p,
            (struct atom){.kind = ATOM_HAS, .key = t->prop[i].key, .lit = lit_of(t->prop[i].sch, true)});
    for (uint32_t i = 0; i < t->n_pat && schema_ok(s); i++)
        way(e, p, (struct atom){.kind = ATOM_SOME, .rx = t->pat[i].rx, .lit = lit_of(t->pat[i].sch, true)});
    if (t->extra != SCH_NONE)
        way(e, p, (struct atom){.kind = ATOM_SOME, .rx = other_keys(s, t), .lit = lit_of(t->extra, true)});
    if (t->names != SCH_NONE) {
        struct scalar names = scalar_not(s, schema_scalar(s, t->names));
        uint32_t rx = names.str == chars_free(s->x) ? chars_many(s->x, CHARS_JSON) : names.str;
        way(e, p, (struct atom){.kind = ATOM_SOME, .rx = rx, .lit = LIT_NONE});
    }
    for (uint32_t i = 0; i < t->need.n && schema_ok(s); i++)
        way(e, p, (struct atom){.kind = ATOM_FORBID, .key = t->need.v[i]});
    if (t->min_props) way(e, p, (struct atom){.kind = ATOM_MAX, .n = t->min_props - 1});
    if (t->max_props != SCH_NONE) way(e, p, (struct atom){.kind = ATOM_MIN, .n = t->max_props + 1});
    for (uint32_t i = 0; i < t->n_dep && schema_ok(s); i++) {
        const struct sch_dep *d = &t->dep[i];
        struct path q = p;
        add_atom(e, &q, (struct atom){.kind = ATOM_NEED, .key = d->key});
        if (d->sch != SCH_NONE) way_lit(e, q, d->sch, true);
        for (uint32_t k = 0; k < d->n_need; k++)
            way(e, q, (struct atom){.kind = ATOM_FORBID, .key = d->need[k]});
    }
}

static void break_array(struct expand *e, struct path p, uint32_t id)
{
    struct schema *s = e->s;
    const struct sch *t = s->sch[id];
    for (uint32_t i = 0; i < t->prefix.n && schema_ok(s); i++)
        way(e, p, (struct atom){.kind = ATOM_AT, .n = i, .lit = lit_of(t->prefix.v[i], true)});
    if (t->rest != SCH_NONE)
        way(e, p, (struct atom){.kind = ATOM_FROM, .n = t->prefix.n, .lit = lit_of(t->rest, true)});
    if (t->min_items) way(e, p, (struct atom){.kind = ATOM_MAX, .n = t->min_items - 1});
    if (t->max_items != SCH_NONE) way(e, p, (struct atom){.kind = ATOM_MIN, .n = t->max_items + 1});
    if (t->contains != SCH_NONE && t->min_contains)
        way(e, p,
            (struct atom){.kind = ATOM_CONTAINS,
                          .sch = id,
                          .lit = lit_of(t->contains, false),
                          .n = 0,
                          .most = t->min_contains - 1});
    if (t->contains != SCH_NONE && t->max_contains != SCH_NONE)
        way(e, p,
            (struct atom){.kind = ATOM_CONTAINS,
                          .sch = id,
                          .lit = lit_of(t->contains, false),
                          .n = t->max_contains + 1,
                          .most = SCH_NONE});
    if (t->unique)
        schema_fail(s, ERR_UNSUPPORTED, t, "uniqueItems",
                    "its opposite (under not, oneOf or if) is not supported");
}

static void break_one(struct expand *e, struct path p, const struct sch *t)
{
    struct path none = p;
    for (uint32_t i = 0; i < t->one.n; i++) add_lit(e, &none, t->one.v[i], true, NULL);
    run(e, none);
    for (uint32_t i = 0; i < t->one.n && schema_ok(e->s); i++)
        for (uint32_t k = i + 1; k < t->one.n && schema_ok(e->s); k++) {
            struct path two = p;
            add_lit(e, &two, t->one.v[i], false, NULL);
            add_lit(e, &two, t->one.v[k], false, NULL);
            run(e, two);
        }
}

/* True: the schema does not hold whatever comes, and p goes on as it is. Else all ways have been followed. */
static bool fails(struct expand *e, struct path p, uint32_t id)
{
    struct schema *s = e->s;
    const struct sch *t = s->sch[id];
    if (t->is != SCH_IS_OBJECT) return t->is == SCH_IS_FALSE;
    if (!(t->types & e->type) || (t->has_enum && !t->member.n)) return true;
    if (t->left_props != SCH_NONE || t->left_items != SCH_NONE)
        schema_fail(s, ERR_UNSUPPORTED, t,
                    t->left_props != SCH_NONE ? "unevaluatedProperties" : "unevaluatedItems",
                    "its opposite (under not, oneOf or if) is not supported");
    if (e->type == SCH_OBJECT)
        break_object(e, p, id);
    else
        break_array(e, p, id);
    way_lit(e, p, t->ref, true);
    way_lit(e, p, t->dyn, true);
    way_lit(e, p, t->not, false);
    for (uint32_t i = 0; i < t->all.n && schema_ok(s); i++) way_lit(e, p, t->all.v[i], true);
    const struct sch_list *lists[] = {&t->any, &t->member};
    for (size_t k = 0; k < 2; k++) {
        struct path q = p;
        if (!lists[k]->n) continue;
        for (uint32_t i = 0; i < lists[k]->n; i++) add_lit(e, &q, lists[k]->v[i], true, NULL);
        run(e, q);
    }
    if (t->one.n) break_one(e, p, t);
    if (t->if_ == SCH_NONE) return false;
    for (int k = 0; k < 2; k++) {
        struct path q = p;
        add_lit(e, &q, t->if_, k == 1, NULL);
        way_lit(e, q, k ? t->else_ : t->then_, true);
    }
    return false;
}

/* --- branch points */

/* anyOf, or the members of an enum (which evaluate nothing). Where it matters which ones hold, each holds or
 * does not. */
static void branch_any(struct expand *e, struct path p, const struct work *w, uint32_t from, bool some)
{
    const struct sch *t = e->s->sch[w->a];
    const struct sch_list *l = w->i ? &t->member : &t->any;
    if (!w->scope || w->i) {
        for (uint32_t i = 0; i < l->n && schema_ok(e->s); i++) {
            struct path q = p;
            add_lit(e, &q, l->v[i], false, NULL);
            run(e, q);
        }
        return;
    }
    if (from == l->n) {
        if (some) run(e, p);
        return;
    }
    for (int k = 0; k < 2 && schema_ok(e->s); k++) {
        struct path q = p;
        add_lit(e, &q, l->v[from], k == 1, k == 1 ? NULL : w->scope);
        branch_any(e, q, w, from + 1, some || k == 0);
    }
}

/* No value satisfies both. */
static bool disjoint(struct expand *e, uint32_t a, uint32_t b)
{
    struct schema *s = e->s;
    uint32_t lit[2] = {lit_of(a, false), lit_of(b, false)};
    uint32_t c = schema_conj(s, lit, 2);
    if (!schema_ok(s)) return true;
    size_t base = s->n_alt;
    if (++s->depth < 16)
        schema_expand(s, c, e->type);
    else
        s->n_alt++;
    s->depth--;
    bool none = s->n_alt == base;
    s->n_alt = base;
    return none;
}

static void branch_one(struct expand *e, struct path p, const struct work *w)
{
    const struct sch_list *l = &e->s->sch[w->a]->one;
    for (uint32_t i = 0; i < l->n && schema_ok(e->s); i++) {
        struct path q = p;
        for (uint32_t k = 0; k < l->n && schema_ok(e->s); k++)
            if (k != i && !disjoint(e, l->v[i], l->v[k])) add_lit(e, &q, l->v[k], true, NULL);
        add_lit(e, &q, l->v[i], false, w->scope);
        run(e, q);
    }
}

static void branch_if(struct expand *e, struct path p, const struct work *w)
{
    const struct sch *t = e->s->sch[w->a];
    for (int k = 0; k < 2; k++) {
        struct path q = p;
        add_lit(e, &q, k ? t->else_ : t->then_, false, w->scope);
        add_lit(e, &q, t->if_, k == 1, k ? NULL : w->scope);
        run(e, q);
    }
}

static void branch_dep(struct expand *e, struct path p, const struct work *w)
{
    const struct sch_dep *d = &e->s->sch[w->a]->dep[w->i];
    way(e, p, (struct atom){.kind = ATOM_FORBID, .key = d->key});
    add_atom(e, &p, (struct atom){.kind = ATOM_NEED, .key = d->key});
    for (uint32_t i = 0; i < d->n_need; i++)
        add_atom(e, &p, (struct atom){.kind = ATOM_NEED, .key = d->need[i]});
    add_lit(e, &p, d->sch, false, w->scope);
    run(e, p);
}

static void emit(struct expand *e, struct path p)
{
    struct schema *s = e->s;
    if (alt_impossible(s, p.atoms, e->type)) return;
    if (s->n_alt - e->base >= s->lim->alternatives) pool_fail(s->pool, ERR_UNSUPPORTED, "alternatives");
    if (pool_grow(s->pool, &s->alt, &s->cap_alt, s->n_alt + 1, sizeof *s->alt)) s->alt[s->n_alt++] = p.atoms;
}

/* True: p was followed to its ends. */
static bool follow(struct expand *e, struct path *p, const struct work *w)
{
    switch (w->kind) {
    case WORK_LIT:
        if (w->a & 1) return !fails(e, *p, w->a >> 1);
        return !hold(e, p, w->a >> 1, w->scope);
    case WORK_ANY:
        branch_any(e, *p, w, 0, false);
        return true;
    case WORK_ONE:
        branch_one(e, *p, w);
        return true;
    case WORK_IF:
        branch_if(e, *p, w);
        return true;
    default:
        branch_dep(e, *p, w);
        return true;
    }
}

static void run(struct expand *e, struct path p)
{
    struct schema *s = e->s;
    if (++e->deep > BRANCHES_DEEP)
        schema_fail(s, ERR_UNSUPPORTED, s->sch[0], NULL,
                    "alternatives are nested too deeply, or a schema refers to itself");
    while (p.work && schema_ok(s) && pool_step(s->pool, 8)) {
        const struct work *w = p.work;
        p.work = w->next;
        if (++p.steps > PATH_LONG) {
            schema_fail(s, ERR_UNSUPPORTED, s->sch[w->a >> (w->kind == WORK_LIT)], NULL,
                        "refers to itself without an array or object between");
            break;
        }
        if (follow(e, &p, w)) {
            e->deep--;
            return;
        }
    }
    if (schema_ok(s)) emit(e, p);
    e->deep--;
}

void schema_expand(struct schema *s, uint32_t conj, unsigned type)
{
    struct expand e = {.s = s, .type = type, .base = s->n_alt};
    struct path p = {0};
    for (uint32_t i = s->conj[conj].n; i > 0; i--) {
        uint32_t lit = s->lits[s->conj[conj].lit + i - 1];
        add_lit(&e, &p, lit >> 1, lit & 1, NULL);
    }
    if (schema_ok(s)) run(&e, p);
}
