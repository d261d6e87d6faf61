/* schema: the order of keys. An object's keys come in the order in which the schemas that apply to its place
 * declare them: the schema's own properties, then those of $ref, $dynamicRef, allOf, anyOf, oneOf, if, then,
 * else, dependent schemas, not, and of objects in enum and const. All of them count whether they hold or not,
 * so that the order is one and the same on all ways through a schema. A place is the set of schemas that
 * stand for it, as a conj. */
#include <stdlib.h>

#include "server/text/grammar/schema.h"

enum { DEEP = 300 };

struct order {
    struct schema *s;
    struct sch_list sch, key; /* all schemas that apply; their keys */
    uint32_t cap_sch, cap_key;
    int deep;
};

static void walk(struct order *o, uint32_t id);

static void walk_list(struct order *o, const struct sch_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) walk(o, l->v[i]);
}

static void walk(struct order *o, uint32_t id)
{
    struct schema *s = o->s;
    if (id == SCH_NONE || !schema_ok(s) || o->deep > DEEP || !pool_step(s->pool, 1)) return;
    struct sch *t = s->sch[id];
    if (t->walk == s->walk || t->is != SCH_IS_OBJECT) return;
    t->walk = s->walk;
    o->deep++;
    sch_list_push(s, &o->sch, &o->cap_sch, id);
    for (uint32_t i = 0; i < t->n_prop; i++) sch_list_push(s, &o->key, &o->cap_key, t->prop[i].key);
    walk(o, t->ref);
    walk(o, t->dyn);
    walk_list(o, &t->all);
    walk_list(o, &t->any);
    walk_list(o, &t->one);
    walk(o, t->if_);
    walk(o, t->then_);
    walk(o, t->else_);
    for (uint32_t i = 0; i < t->n_dep; i++) walk(o, t->dep[i].sch);
    walk(o, t->not );
    walk_list(o, &t->member);
    o->deep--;
}

/* Each key once, where it comes first. */
static void single(struct order *o)
{
    uint8_t *seen = arena_alloc(&o->s->mem, o->s->n_key + 1);
    uint32_t w = 0;
    if (!seen) pool_fail(o->s->pool, ERR_UNSUPPORTED, "bytes");
    for (uint32_t i = 0; i < o->key.n && seen; i++) {
        uint32_t key = o->key.v[i];
        if (!seen[key]) o->key.v[w++] = key;
        seen[key] = 1;
    }
    o->key.n = w;
}

const struct sch_place *schema_place(struct schema *s, uint32_t place)
{
    size_t old = s->cap_place;
    if (!pool_grow(s->pool, &s->place, &s->cap_place, (size_t)place + 1, sizeof *s->place)) return NULL;
    if (s->cap_place > old) memset(s->place + old, 0, (s->cap_place - old) * sizeof *s->place);
    if (!s->place[place].known) {
        struct order o = {.s = s};
        s->walk++;
        for (uint32_t i = 0; i < s->conj[place].n; i++) walk(&o, s->lits[s->conj[place].lit + i] >> 1);
        single(&o);
        s->place[place] = (struct sch_place){.known = true, .sch = o.sch, .key = o.key};
    }
    return schema_ok(s) ? &s->place[place] : NULL;
}

static void push(struct schema *s, uint32_t id)
{
    if (id != SCH_NONE && s->sch[id]->is == SCH_IS_OBJECT) rx_push(s->x, lit_of(id, false));
}

static uint32_t close_place(struct schema *s, size_t base)
{
    size_t n = s->x->n_tmp > base ? s->x->n_tmp - base : 0;
    uint32_t place = schema_conj(s, s->x->tmp + base, n);
    s->x->n_tmp = base;
    return place;
}

/* What the schemas of a place say about a key or, where key is SCH_NONE, about keys in rx. */
static uint32_t property_place(struct schema *s, uint32_t place, uint32_t key, uint32_t rx)
{
    const struct sch_place *p = schema_place(s, place);
    struct sch_list all = p ? p->sch : (struct sch_list){0};
    size_t base = s->x->n_tmp;
    for (uint32_t i = 0; i < all.n && pool_step(s->pool, 1); i++) {
        const struct sch *t = s->sch[all.v[i]];
        const struct sch_prop *own = key == SCH_NONE ? NULL : sch_find_prop(t, key);
        bool found = own != NULL;
        if (own) push(s, own->sch);
        for (uint32_t k = 0; k < t->n_pat; k++) {
            bool in = key == SCH_NONE
                          ? rx_live(s->x, rx_and(s->x, rx, t->pat[k].rx))
                          : rx_match(s->x, t->pat[k].rx, s->key[key].spelled, s->key[key].n_spelled);
            if (in) push(s, t->pat[k].sch);
            found = found || in;
        }
        if (found) continue;
        push(s, t->extra);
        push(s, t->left_props);
    }
    return close_place(s, base);
}

uint32_t schema_place_key(struct schema *s, uint32_t place, uint32_t key)
{
    return property_place(s, place, key, RX_EMPTY);
}

uint32_t schema_place_keys(struct schema *s, uint32_t place, uint32_t rx)
{
    return property_place(s, place, SCH_NONE, rx);
}

uint32_t schema_place_item(struct schema *s, uint32_t place, uint32_t n)
{
    const struct sch_place *p = schema_place(s, place);
    struct sch_list all = p ? p->sch : (struct sch_list){0};
    size_t base = s->x->n_tmp;
    for (uint32_t i = 0; i < all.n && pool_step(s->pool, 1); i++) {
        const struct sch *t = s->sch[all.v[i]];
        push(s, n < t->prefix.n ? t->prefix.v[n] : t->rest);
        push(s, t->contains);
        push(s, t->left_items);
    }
    return close_place(s, base);
}
