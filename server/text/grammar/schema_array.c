/* schema: an array's automaton. A state is how many items are there (as far as the number matters), how many
 * of them each `contains` has counted, and which of the things that must come up have: items that some
 * keyword's opposite asks for, or, where items are to be unique, values that are used. */
#include <stdlib.h>

#include "server/text/grammar/schema_array.h"

static void read_atoms(struct array *o)
{
    struct schema *s = o->s;
    for (const struct atom *a = o->alt; a && schema_ok(s); a = a->next) {
        uint32_t far = 0; /* items that are told apart */
        switch (a->kind) {
        case ATOM_MIN:
            o->least = a->n > o->least ? a->n : o->least;
            break;
        case ATOM_MAX:
            o->most = a->n < o->most ? a->n : o->most;
            break;
        case ATOM_ARRAY:
            far = s->sch[a->sch]->prefix.n;
            break;
        case ATOM_AT:
            far = a->n + 1;
            o->least = far > o->least ? far : o->least;
            break;
        case ATOM_FROM:
            far = a->n;
            if (o->n_from == ARRAY_FROMS)
                schema_fail(s, ERR_UNSUPPORTED, s->sch[0], "items",
                            "one array would have to break too many rules at once");
            else
                o->from[o->n_from++] = a;
            break;
        case ATOM_CONTAINS:
            if (o->n_contains == ARRAY_CONTAINS)
                schema_fail(s, ERR_UNSUPPORTED, s->sch[a->sch], "contains",
                            "too many of them hold for one array");
            else
                o->contains[o->n_contains++] =
                    (struct array_contains){.atom = a, .exact = a->most != SCH_NONE};
            break;
        case ATOM_UNIQUE:
            o->unique = a;
            break;
        case ATOM_LEFT_ITEMS:
            o->left = true;
            break;
        default:
            break;
        }
        o->cap = far > o->cap ? far : o->cap;
    }
    const struct sch_place *p = schema_place(s, o->place); /* items that have places of their own */
    for (uint32_t i = 0; p && i < p->sch.n; i++) {
        uint32_t far = s->sch[p->sch.v[i]]->prefix.n;
        o->cap = far > o->cap ? far : o->cap;
    }
    for (unsigned i = 0; i < o->n_contains; i++) o->contains[i].exact = o->contains[i].exact || o->left;
}

/* --- states */

static size_t index_of(const struct array *o, const struct array_at *a)
{
    size_t i = a->n;
    for (unsigned k = 0; k < o->n_contains; k++) i = i * o->contains[k].dim + a->count[k];
    return i << o->n_mark | a->marks;
}

static uint32_t state_of(struct array *o, const struct array_at *a)
{
    size_t i = index_of(o, a);
    if (!o->state[i]) {
        o->state[i] = rtn_state(o->s->net, o->rule) + 1;
        if (pool_grow(o->s->pool, &o->todo, &o->cap_todo, o->n_todo + 1, sizeof *o->todo))
            o->todo[o->n_todo++] = *a;
    }
    return o->state[i] - 1;
}

/* Adds what the choice (contains that match, froms that are met) asks of the item, and where it leads. False:
 * it cannot be chosen. */
static bool choose(struct array *o, const struct array_at *a, unsigned match, unsigned met,
                   struct array_at *to)
{
    struct rx *x = o->s->x;
    *to = *a;
    if (to->n < o->cap) to->n++;
    alt_item(o->s, o->alt, a->n, match);
    for (unsigned k = 0; k < o->n_contains; k++) {
        const struct array_contains *c = &o->contains[k];
        uint32_t lit = c->atom->lit;
        if (match >> k & 1) {
            if (c->atom->most != SCH_NONE && a->count[k] == c->atom->most) return false;
            if (!c->exact && a->count[k] == c->dim - 1)
                return false; /* counted enough: the item need not say so */
            if (to->count[k] < c->dim - 1) to->count[k]++;
            rx_push(x, lit);
        } else if (c->exact)
            rx_push(x, lit ^ 1);
    }
    for (unsigned k = 0; k < o->n_from; k++) {
        if (!(met >> k & 1)) continue;
        if (a->marks >> k & 1 || a->n < o->from[k]->n) return false;
        to->marks |= 1u << k;
        rx_push(x, o->from[k]->lit);
    }
    return true;
}

static void item(struct array *o, const struct array_at *a, uint32_t from)
{
    struct schema *s = o->s;
    for (unsigned match = 0; match < 1u << o->n_contains; match++)
        for (unsigned met = 0; met < 1u << o->n_from && schema_ok(s); met++) {
            struct array_at to;
            size_t base = s->x->n_tmp;
            bool may = choose(o, a, match, met, &to);
            uint32_t c = conj_of(s, base);
            if (!may || !schema_ok(s) || conj_unsat(s, c)) continue;
            if (!o->unique)
                schema_value(s, from, c, schema_place_item(s, o->place, a->n), state_of(o, &to));
            else
                for (unsigned v = 0; v < o->n_value; v++) {
                    unsigned mark = 1u << (o->n_from + v);
                    if (a->marks & mark) continue;
                    struct array_at used = to;
                    used.marks |= mark;
                    uint32_t lexeme = unique_lexeme(o, c, v);
                    if (lexeme != RX_EMPTY && rx_live(s->x, lexeme))
                        rtn_lexeme(s->net, from, lexeme, state_of(o, &used));
                }
        }
}

static void edges(struct array *o, const struct array_at *a)
{
    struct schema *s = o->s;
    uint32_t from = state_of(o, a);
    bool whole = a->n >= o->least && (a->marks & ((1u << o->n_from) - 1)) == (1u << o->n_from) - 1;
    for (unsigned k = 0; k < o->n_contains; k++) whole = whole && a->count[k] >= o->contains[k].atom->n;
    if (whole) {
        uint32_t end = rtn_state(s->net, o->rule);
        rtn_lexeme(s->net, from, s->close_arr, end);
        rtn_accept(s->net, end);
    }
    if (a->n >= o->most) return;
    if (a->n > 0) {
        uint32_t mid = rtn_state(s->net, o->rule);
        rtn_lexeme(s->net, from, s->comma, mid);
        from = mid;
    }
    item(o, a, from);
}

static bool sizes(struct array *o, size_t *n)
{
    if (o->cap < o->least) o->cap = o->least;
    if (o->most != SCH_NONE) o->cap = o->most;
    if (o->cap < 1) o->cap = 1;
    *n = (size_t)o->cap + 1;
    o->n_mark = o->n_from + o->n_value;
    for (unsigned k = 0; k < o->n_contains; k++) {
        struct array_contains *c = &o->contains[k];
        uint32_t counted = c->atom->most != SCH_NONE ? c->atom->most : c->atom->n;
        c->dim = counted + 1;
        if (counted == SCH_NONE || __builtin_mul_overflow(*n, (size_t)c->dim, n)) return false;
    }
    return !__builtin_mul_overflow(*n, (size_t)1 << o->n_mark, n) && *n <= o->s->lim->states;
}

void schema_array(struct schema *s, uint32_t rule, uint32_t place, const struct atom *alt)
{
    struct array o = {.s = s, .alt = alt, .rule = rule, .place = place, .most = SCH_NONE};
    size_t n;
    read_atoms(&o);
    if (o.most <= 1) o.unique = NULL;
    if (o.unique && schema_ok(s)) unique_values(&o);
    if (!schema_ok(s)) return;
    if (!sizes(&o, &n)) {
        schema_fail(s, ERR_UNSUPPORTED, s->sch[0], o.most != SCH_NONE ? "maxItems" : "minItems",
                    "more items than the limit on states allows are counted");
        return;
    }
    o.state = pool_alloc(s->pool, n, sizeof *o.state);
    if (!o.state) return;
    struct array_at first = {0};
    rtn_lexeme(s->net, rtn_start(s->net, rule), s->open_arr, state_of(&o, &first));
    while (o.n_todo > 0 && schema_ok(s)) {
        struct array_at a = o.todo[--o.n_todo];
        edges(&o, &a);
    }
    pool_forget(s->pool, n * sizeof *o.state + o.cap_todo * sizeof *o.todo);
    free(o.state);
    free(o.todo);
}
