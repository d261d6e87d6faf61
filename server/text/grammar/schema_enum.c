/* schema: enum and const. Scalars become one set; an array or object becomes a schema that only it satisfies.
 */
#include <stdlib.h>

#include "server/text/grammar/schema.h"

struct named { /* what a list names, by kind */
    struct rx_lit *str, *num;
    size_t n_str, n_num;
    struct number_set other;
    unsigned words;
};

static void name_number(struct schema *s, struct sch *t, struct named *m, struct jval v)
{
    struct decimal d;
    if (!decimal_read(&d, v.p, v.n)) {
        schema_fail(s, ERR_UNSUPPORTED, t, "enum", "a number is out of the range of doubles");
        return;
    }
    if (!number_is_short(&d)) {
        m->other = number_or(s->x, m->other, number_equal(s->x, &d));
        return;
    }
    size_t n = 0, whole = d.n == 0 ? 1 : (size_t)d.point;
    char *text = arena_alloc(&s->mem, whole + 2);
    if (!text) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return;
    }
    if (d.minus || d.n == 0) text[n++] = '-';
    for (size_t i = 0; i < whole; i++) text[n++] = (char)('0' + (i < (size_t)d.n ? d.digit[i] : 0));
    m->num[m->n_num++] = (struct rx_lit){text, n};
    if (d.n == 0) m->num[m->n_num++] = (struct rx_lit){text + 1, n - 1};
}

static void name_string(struct schema *s, struct named *m, struct jval v)
{
    uint32_t key = schema_key_of(s, v);
    if (key != SCH_NONE) m->str[m->n_str++] = (struct rx_lit){s->key[key].spelled, s->key[key].n_spelled};
}

static uint32_t exactly(struct schema *s, struct jval v);

static void exactly_array(struct schema *s, struct sch *t, struct jval v)
{
    uint32_t cap = 0, none = schema_new(s, (struct jval){0}, t->base);
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it);)
        sch_list_push(s, &t->prefix, &cap, exactly(s, it.value));
    if (none == SCH_NONE) return;
    s->sch[none]->is = SCH_IS_FALSE;
    t->types = SCH_ARRAY;
    t->rest = none;
    t->min_items = t->prefix.n;
}

static void exactly_object(struct schema *s, struct sch *t, struct jval v)
{
    uint32_t cap = 0, none = schema_new(s, (struct jval){0}, t->base);
    size_t n = 0;
    for (struct jiter it = jval_iter(v); jiter_next(&it);) n++;
    t->prop = arena_array(&s->mem, n, sizeof *t->prop);
    if (!t->prop) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it); t->n_prop++) {
        uint32_t key = schema_key_of(s, it.key);
        t->prop[t->n_prop] = (struct sch_prop){key, exactly(s, it.value)};
        sch_list_push(s, &t->need, &cap, key);
    }
    if (!schema_ok(s)) return;
    sch_sort_props(s, t);
    s->sch[none]->is = SCH_IS_FALSE;
    t->types = SCH_OBJECT;
    t->extra = none;
}

/* A schema that v alone satisfies. Depth is that of the text, which its reader bounds. */
static uint32_t exactly(struct schema *s, struct jval v)
{
    uint32_t id = schema_new(s, (struct jval){0}, "");
    if (id == SCH_NONE) return id;
    struct sch *t = s->sch[id];
    if (jval_kind(v) == JKIND_ARRAY)
        exactly_array(s, t, v);
    else if (jval_kind(v) == JKIND_OBJECT)
        exactly_object(s, t, v);
    else
        schema_read_const(s, t, v);
    return id;
}

static void name(struct schema *s, struct sch *t, struct named *m, uint32_t *cap, struct jval v)
{
    if (!pool_step(s->pool, 4)) return;
    switch (jval_kind(v)) {
    case JKIND_NULL:
        m->words |= WORD_NULL;
        break;
    case JKIND_BOOL:
        m->words |= *v.p == 't' ? WORD_TRUE : WORD_FALSE;
        break;
    case JKIND_NUMBER:
        name_number(s, t, m, v);
        break;
    case JKIND_STRING:
        name_string(s, m, v);
        break;
    default:
        sch_list_push(s, &t->member, cap, exactly(s, v));
        break;
    }
}

static void keep(struct schema *s, struct sch *t, struct named *m)
{
    struct scalar named = {.words = m->words, .num = m->other, .str = rx_lits(s->x, m->str, m->n_str)};
    if (m->n_num) named.num = number_or(s->x, named.num, number_short(s->x, m->num, m->n_num));
    t->named = named;
    t->has_enum = true;
}

/* enum and const beside each other: both hold. */
static void both(struct schema *s, struct sch *t, const struct sch *first)
{
    uint32_t id = schema_new(s, (struct jval){0}, t->base), cap = t->all.n;
    if (id == SCH_NONE) return;
    s->sch[id]->has_enum = true;
    s->sch[id]->named = first->named;
    s->sch[id]->member = first->member;
    sch_list_push(s, &t->all, &cap, id);
}

void schema_read_enum(struct schema *s, struct sch *t, struct jval list)
{
    struct sch before = *t;
    size_t n = 0;
    uint32_t cap = 0;
    for (struct jiter it = jval_iter(list); jiter_next(&it);) n++;
    struct named m = {.str = arena_array(&s->mem, n, sizeof *m.str),
                      .num = arena_array(&s->mem, 2 * n, sizeof *m.num),
                      .other = number_none(s->x)};
    if (!m.str || !m.num) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    t->member = (struct sch_list){0};
    for (struct jiter it = jval_iter(list); schema_ok(s) && jiter_next(&it);) name(s, t, &m, &cap, it.value);
    if (!schema_ok(s)) return;
    keep(s, t, &m);
    if (before.has_enum) both(s, t, &before);
}

void schema_read_const(struct schema *s, struct sch *t, struct jval v)
{
    struct sch before = *t;
    struct rx_lit str[1], num[2];
    struct named m = {.str = str, .num = num, .other = number_none(s->x)};
    uint32_t cap = 0;
    t->member = (struct sch_list){0};
    if (!schema_ok(s)) return;
    name(s, t, &m, &cap, v);
    if (!schema_ok(s)) return;
    keep(s, t, &m);
    if (before.has_enum) both(s, t, &before);
}
