/* schema: the order of keys. An object's keys come in the order in which the schemas that apply to it declare
 * them: the schema's own properties, then those of $ref, $dynamicRef, allOf, anyOf, oneOf, if, then, else,
 * dependent schemas, not, and of objects in enum and const, whether they hold or not, so that the order is
 * one and the same on all ways. */
#include "server/text/grammar/schema.h"

enum { DEEP = 300 };

struct order {
    struct schema *s;
    struct sch_list key;
    uint32_t cap;
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
    if (t->walk == s->walk) return;
    t->walk = s->walk;
    o->deep++;
    for (uint32_t i = 0; i < t->n_prop; i++) sch_list_push(s, &o->key, &o->cap, t->prop[i].key);
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

size_t schema_order(struct schema *s, const uint32_t *lit, size_t n, uint32_t **out)
{
    struct order o = {.s = s};
    s->walk++;
    for (size_t i = 0; i < n; i++) walk(&o, lit[i] >> 1);
    uint8_t *seen = arena_alloc(&s->mem, s->n_key + 1);
    uint32_t w = 0;
    *out = o.key.v;
    if (!seen) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return 0;
    }
    for (uint32_t i = 0; i < o.key.n; i++) {
        if (seen[o.key.v[i]]) continue;
        seen[o.key.v[i]] = 1;
        o.key.v[w++] = o.key.v[i];
    }
    return w;
}
