/* schema: an object's automaton. Declared keys come in their order, then all others in any order. A state is
 * how many declared keys are passed, how many properties are there (as far as anything counts them), and
 * which of the things that must come up have: keys that are required without being declared, and properties
 * that some keyword's opposite asks for. */
#include <stdlib.h>

#include "server/text/grammar/schema_alt.h"

enum { MARKS_MOST = 12 /* things that must come up: 2^n states */, SOMES_AT_ONCE = 4, CLASSES_MOST = 256 };

struct slot { /* one property: its key inside the quotes, and its value */
    uint32_t key, conj, place;
    unsigned somes; /* bits of the somes that it can be */
};

struct named_key {
    uint32_t key;
    bool may, must;
    unsigned mark; /* bit of a key that is required without being declared; 0: none */
    struct slot slot;
};

struct object {
    struct schema *s;
    const struct atom *alt;
    uint32_t rule, place;
    struct named_key *chain, *loose; /* declared keys; others that are named */
    uint32_t n_chain, n_loose;
    struct slot cls[CLASSES_MOST]; /* keys that are not named, by the patterns that they satisfy */
    uint32_t n_cls;
    const struct atom *some[MARKS_MOST];
    unsigned n_some, n_mark, all; /* all: bits of all marks */
    uint32_t least, most, counts; /* counts: numbers of properties that are told apart */
    uint32_t *state;              /* [(n_chain + 1) * counts << n_mark] + 1 */
};

/* --- what is named */

static bool must_have(const struct atom *alt, uint32_t key)
{
    for (const struct atom *a = alt; a; a = a->next)
        if ((a->kind == ATOM_NEED || a->kind == ATOM_HAS) && a->key == key) return true;
    return false;
}

static void fill_key(struct object *o, struct named_key *k, uint32_t key)
{
    struct schema *s = o->s;
    size_t base = s->x->n_tmp;
    *k = (struct named_key){.key = key, .must = must_have(o->alt, key)};
    k->may = alt_key(s, o->alt, key);
    k->slot = (struct slot){.key = rx_text(s->x, s->key[key].spelled, s->key[key].n_spelled),
                            .conj = conj_of(s, base)};
    if (k->may && schema_ok(s) && s->conj[k->slot.conj].sat) k->may = !conj_unsat(s, k->slot.conj);
    if (k->may) k->slot.place = schema_place_key(s, o->place, key);
    for (unsigned i = 0; i < o->n_some && k->may; i++)
        if (rx_match(s->x, o->some[i]->rx, s->key[key].spelled, s->key[key].n_spelled))
            k->slot.somes |= 1u << i;
}

static bool name_keys(struct object *o)
{
    struct schema *s = o->s;
    const struct sch_place *place = schema_place(s, o->place);
    if (!place) return false;
    const struct sch_list order = place->key;
    size_t n = order.n, loose = 0;
    for (const struct atom *a = o->alt; a; a = a->next)
        loose += a->kind == ATOM_NEED || a->kind == ATOM_HAS || a->kind == ATOM_FORBID;
    o->chain = arena_array(&s->mem, n + loose + 1, sizeof *o->chain);
    if (!o->chain) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return false;
    }
    for (size_t i = 0; i < n && schema_ok(s); i++) fill_key(o, &o->chain[o->n_chain++], order.v[i]);
    o->loose = o->chain + n;
    uint8_t *seen = arena_alloc(&s->mem, s->n_key + 1);
    if (!seen) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    for (uint32_t i = 0; i < o->n_chain && seen; i++) seen[o->chain[i].key] = 1;
    for (const struct atom *a = o->alt; a && schema_ok(s); a = a->next) {
        if ((a->kind != ATOM_NEED && a->kind != ATOM_HAS && a->kind != ATOM_FORBID) || seen[a->key]) continue;
        seen[a->key] = 1;
        struct named_key *k = &o->loose[o->n_loose++];
        fill_key(o, k, a->key);
        if (!k->must) continue;
        if (o->n_mark == MARKS_MOST)
            schema_fail(s, ERR_UNSUPPORTED, s->sch[0], "required",
                        "too many keys of one object are required that `properties` does not declare");
        else
            k->mark = 1u << o->n_mark++;
    }
    return schema_ok(s);
}

/* --- classes of the other keys: split by each pattern that some schema asks about, empty ones left out */

static uint32_t name_pattern(struct object *o, const struct atom *a)
{
    const struct sch *t = o->s->sch[a->sch];
    if (a->kind != ATOM_OBJECT || t->names == SCH_NONE) return UINT32_MAX;
    return schema_scalar(o->s, t->names).str;
}

static void add_class(struct object *o, uint32_t rx)
{
    struct schema *s = o->s;
    if (o->n_cls == CLASSES_MOST) {
        schema_fail(s, ERR_UNSUPPORTED, s->sch[0], "patternProperties",
                    "the patterns of one object overlap in too many ways");
        return;
    }
    struct slot *c = &o->cls[o->n_cls];
    *c = (struct slot){.key = rx};
    size_t base = s->x->n_tmp;
    bool exact = rx == chars_free(s->x);
    for (const struct atom *a = o->alt; a && schema_ok(s); a = a->next) {
        const struct sch *t = s->sch[a->sch];
        bool found = false;
        if (a->kind != ATOM_OBJECT && a->kind != ATOM_LEFT_PROPS) continue;
        if (a->kind == ATOM_LEFT_PROPS) { /* evaluated by a pattern or by additionalProperties of the scope */
            for (const struct atom *b = o->alt; b && !found; b = b->next) {
                if (!scope_within(b->scope, a->scope)) continue;
                found = b->kind == ATOM_LEFT_PROPS && b->scope != a->scope;
                if (b->kind != ATOM_OBJECT) continue;
                const struct sch *u = s->sch[b->sch];
                found = found || u->extra != SCH_NONE;
                for (uint32_t i = 0; i < u->n_pat && !found; i++)
                    found = !exact && !rx_live(s->x, rx_minus(s->x, rx, u->pat[i].rx));
            }
            if (!found) rx_push(s->x, a->lit);
            continue;
        }
        for (uint32_t i = 0; i < t->n_pat; i++)
            if (!rx_live(s->x, rx_minus(s->x, rx, t->pat[i].rx))) {
                found = true;
                rx_push(s->x, lit_of(t->pat[i].sch, false));
            }
        if (!found && t->extra != SCH_NONE) rx_push(s->x, lit_of(t->extra, false));
    }
    c->conj = conj_of(s, base);
    for (unsigned i = 0; i < o->n_some; i++)
        if (!rx_live(s->x, rx_minus(s->x, rx, o->some[i]->rx))) c->somes |= 1u << i;
    if (!schema_ok(s) || conj_unsat(s, c->conj)) return;
    c->place = schema_place_keys(s, o->place, rx);
    o->n_cls++;
}

/* split[at..n): patterns still to be decided for the keys in rx. */
static void split_classes(struct object *o, uint32_t rx, const uint32_t *split, size_t at, size_t n)
{
    struct rx *x = o->s->x;
    if (!schema_ok(o->s) || !pool_step(o->s->pool, 16)) return;
    if (rx != chars_free(x) && !rx_live(x, rx)) return;
    if (at == n) {
        add_class(o, rx);
        return;
    }
    split_classes(o, rx_and(x, rx, split[at]), split, at + 1, n);
    split_classes(o, rx_minus(x, rx, split[at]), split, at + 1, n);
}

/* Patterns of schemas that may not hold here still say where a value stands, and so in which order its keys
 * come. */
static void push_place_patterns(struct object *o)
{
    const struct sch_place *p = schema_place(o->s, o->place);
    for (uint32_t i = 0; p && i < p->sch.n; i++) {
        const struct sch *t = o->s->sch[p->sch.v[i]];
        for (uint32_t k = 0; k < t->n_pat; k++) rx_push(o->s->x, t->pat[k].rx);
    }
}

static void name_classes(struct object *o)
{
    struct schema *s = o->s;
    struct rx *x = s->x;
    size_t base = x->n_tmp, n_lit = 0;
    uint32_t rx = o->n_chain + o->n_loose ? chars_many(x, CHARS_JSON) : chars_free(x);
    struct rx_lit *lit = arena_array(&s->mem, o->n_chain + o->n_loose + 1, sizeof *lit);
    if (!lit) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return;
    }
    for (uint32_t i = 0; i < o->n_chain + o->n_loose; i++) {
        const struct named_key *k = i < o->n_chain ? &o->chain[i] : &o->loose[i - o->n_chain];
        lit[n_lit++] = (struct rx_lit){s->key[k->key].spelled, s->key[k->key].n_spelled};
    }
    for (const struct atom *a = o->alt; a && schema_ok(s); a = a->next) {
        uint32_t names = name_pattern(o, a);
        if (names != UINT32_MAX)
            rx = rx == chars_free(x) ? names : names == chars_free(x) ? rx : rx_and(x, rx, names);
        if (a->kind == ATOM_SOME) rx_push(x, a->rx);
        if (a->kind != ATOM_OBJECT) continue;
        for (uint32_t i = 0; i < s->sch[a->sch]->n_pat; i++) rx_push(x, s->sch[a->sch]->pat[i].rx);
    }
    push_place_patterns(o);
    size_t n = x->n_tmp - base, w = 0;
    if (n && rx == chars_free(x)) rx = chars_many(x, CHARS_JSON);
    if (n_lit) rx = rx_minus(x, rx, rx_lits(x, lit, n_lit));
    uint32_t *split = arena_array(&s->mem, n + 1, sizeof *split);
    if (!split) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    for (size_t i = 0; i < n && split; i++) {
        size_t k = 0;
        while (k < w && split[k] != x->tmp[base + i]) k++;
        if (k == w) split[w++] = x->tmp[base + i];
    }
    x->n_tmp = base;
    if (schema_ok(s)) split_classes(o, rx, split, 0, w);
}

/* --- states */

struct at { /* a state's three coordinates */
    uint32_t passed, count;
    unsigned marks;
};

static uint32_t state_of(struct object *o, struct at a)
{
    size_t i = ((size_t)a.passed * o->counts + a.count) << o->n_mark | a.marks;
    if (!o->state[i]) o->state[i] = rtn_state(o->s->net, o->rule) + 1;
    return o->state[i] - 1;
}

static uint32_t next_count(const struct object *o, uint32_t count)
{
    return count + 1 < o->counts ? count + 1 : count;
}

/* The property p from a to b; for each set of somes that it can be, one more way. */
static void property(struct object *o, struct at a, struct at b, const struct slot *p)
{
    struct schema *s = o->s;
    struct rx *x = s->x;
    uint32_t key = rx_cat3(x, s->quote, p->key, rx_cat(x, s->quote, s->colon)),
             mid = rtn_state(s->net, o->rule);
    unsigned shift = o->n_mark - o->n_some, somes = p->somes & ~(a.marks >> shift);
    if (__builtin_popcount(somes) > SOMES_AT_ONCE) {
        schema_fail(s, ERR_UNSUPPORTED, s->sch[0], NULL,
                    "one property would have to break too many rules at once");
        return;
    }
    rtn_lexeme(s->net, state_of(o, a), a.count == 0 ? key : rx_cat(x, s->comma, key), mid);
    for (unsigned set = somes;; set = (set - 1) & somes) {
        size_t base = x->n_tmp;
        for (uint32_t i = 0; i < s->conj[p->conj].n; i++) rx_push(x, s->lits[s->conj[p->conj].lit + i]);
        for (unsigned i = 0; i < o->n_some; i++)
            if (set >> i & 1 && o->some[i]->lit != LIT_NONE) rx_push(x, o->some[i]->lit);
        struct at to = b;
        to.marks |= set << shift;
        uint32_t c = conj_of(s, base), end = state_of(o, to);
        if (!schema_ok(s)) return;
        if (set == 0 || !conj_unsat(s, c)) schema_value(s, mid, c, p->place, end);
        if (set == 0) return;
    }
}

static void edges(struct object *o, struct at a)
{
    struct schema *s = o->s;
    bool full = a.count >= o->most;
    struct at b = {a.passed, next_count(o, a.count), a.marks};
    if (a.passed < o->n_chain) {
        const struct named_key *k = &o->chain[a.passed];
        b.passed++;
        if (k->may && !full) property(o, a, b, &k->slot);
        if (!k->must)
            rtn_free(s->net, state_of(o, a), state_of(o, (struct at){a.passed + 1, a.count, a.marks}));
        return;
    }
    for (uint32_t i = 0; i < o->n_loose && !full; i++) {
        const struct named_key *k = &o->loose[i];
        if (!k->may || !k->must || a.marks & k->mark) continue;
        property(o, a, (struct at){b.passed, b.count, b.marks | k->mark}, &k->slot);
    }
    for (uint32_t i = 0; i < o->n_cls && !full; i++) property(o, a, b, &o->cls[i]);
    if (a.marks != o->all || a.count < o->least) return;
    uint32_t end = rtn_state(s->net, o->rule);
    rtn_lexeme(s->net, state_of(o, a), s->close_obj, end);
    rtn_accept(s->net, end);
}

static void build_states(struct object *o)
{
    struct schema *s = o->s;
    size_t n;
    if (__builtin_mul_overflow((size_t)(o->n_chain + 1) * o->counts, (size_t)1 << o->n_mark, &n) ||
        n > s->lim->states) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "states");
        return;
    }
    o->state = pool_alloc(s->pool, n, sizeof *o->state);
    if (!o->state) return;
    rtn_lexeme(s->net, rtn_start(s->net, o->rule), s->open_obj, state_of(o, (struct at){0, 0, 0}));
    for (uint32_t p = 0; p <= o->n_chain && schema_ok(s); p++)
        for (uint32_t c = 0; c < o->counts && schema_ok(s); c++)
            for (unsigned m = 0; m <= o->all && schema_ok(s);
                 m++) /* marks only grow, so one pass meets every state that is reached */
                if (o->state[((size_t)p * o->counts + c) << o->n_mark | m]) edges(o, (struct at){p, c, m});
    pool_forget(s->pool, n * sizeof *o->state);
    free(o->state);
}

void schema_object(struct schema *s, uint32_t rule, uint32_t place, const struct atom *alt)
{
    struct object *o = arena_alloc(&s->mem, sizeof *o);
    if (!o) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return;
    }
    *o = (struct object){.s = s, .alt = alt, .rule = rule, .place = place, .most = SCH_NONE};
    for (const struct atom *a = alt; a; a = a->next) {
        if (a->kind == ATOM_MIN && a->n > o->least) o->least = a->n;
        if (a->kind == ATOM_MAX && a->n < o->most) o->most = a->n;
        if (a->kind != ATOM_SOME) continue;
        if (o->n_some == MARKS_MOST)
            schema_fail(s, ERR_UNSUPPORTED, s->sch[0], NULL,
                        "one object would have to break too many rules at once");
        else
            o->some[o->n_some++] = a;
    }
    if (!schema_ok(s) || !name_keys(o)) return;
    o->n_mark += o->n_some;
    if (o->n_mark > MARKS_MOST)
        schema_fail(s, ERR_UNSUPPORTED, s->sch[0], "required",
                    "too many keys of one object are required that `properties` does not declare");
    o->all = (1u << o->n_mark) - 1;
    name_classes(o);
    uint32_t counted = o->most == SCH_NONE ? o->least : o->most;
    o->counts = (counted > 1 ? counted : 1) + 1;
    if (o->n_cls == 0 && counted > o->n_chain + o->n_loose) o->counts = o->n_chain + o->n_loose + 2;
    if (schema_ok(s)) build_states(o);
}
