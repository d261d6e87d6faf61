/* schema: keys, each with a number, and lists of what they belong to. */
#include <stdlib.h>

#include "server/text/grammar/schema.h"

uint32_t schema_key(struct schema *s, const char *text, size_t n)
{
    if ((s->n_key + 1) * 2 > s->cap_by_key) {
        if (!pool_grow(s->pool, &s->by_key, &s->cap_by_key, s->cap_by_key ? s->cap_by_key * 2 : 256,
                       sizeof *s->by_key))
            return SCH_NONE;
        memset(s->by_key, 0, s->cap_by_key * sizeof *s->by_key);
        for (size_t i = 0; i < s->n_key; i++) {
            size_t at = pool_hash(s->key[i].text, s->key[i].n, 5) % s->cap_by_key;
            while (s->by_key[at]) at = (at + 1) % s->cap_by_key;
            s->by_key[at] = (uint32_t)i + 1;
        }
    }
    size_t at = pool_hash(text, n, 5) % s->cap_by_key;
    for (; s->by_key[at]; at = (at + 1) % s->cap_by_key) {
        const struct sch_key *k = &s->key[s->by_key[at] - 1];
        if (k->n == n && memcmp(k->text, text, n) == 0) return s->by_key[at] - 1;
    }
    char *copy = arena_strndup(&s->mem, text, n), *spelled = arena_array(&s->mem, 6, n + 1);
    if (!copy || !spelled) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    if (!pool_grow(s->pool, &s->key, &s->cap_key, s->n_key + 1, sizeof *s->key)) return SCH_NONE;
    s->key[s->n_key] = (struct sch_key){
        .text = copy, .n = n, .spelled = spelled, .n_spelled = chars_spell(text, n, spelled)};
    s->by_key[at] = (uint32_t)s->n_key + 1;
    return (uint32_t)s->n_key++;
}

uint32_t schema_key_of(struct schema *s, struct jval string)
{
    const char *text;
    size_t n;
    if (!jval_string(string, &s->mem, &text, &n) || !text) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return SCH_NONE;
    }
    return schema_key(s, text, n);
}

void sch_list_push(struct schema *s, struct sch_list *l, uint32_t *cap, uint32_t id)
{
    if (l->n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 4;
        uint32_t *v = arena_array(&s->mem, more, sizeof *v);
        if (!v) {
            pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
            return;
        }
        if (l->n) memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        *cap = more;
    }
    l->v[l->n++] = id;
}

static int compare_props(const void *a, const void *b)
{
    const struct sch_prop *p = a, *q = b;
    return (p->key > q->key) - (p->key < q->key);
}

const struct sch_prop *sch_find_prop(const struct sch *t, uint32_t key)
{
    struct sch_prop want = {.key = key};
    return t->n_prop ? bsearch(&want, t->prop_by_key, t->n_prop, sizeof want, compare_props) : NULL;
}

void sch_sort_props(struct schema *s, struct sch *t)
{
    t->prop_by_key = arena_array(&s->mem, t->n_prop, sizeof *t->prop);
    if (!t->prop_by_key)
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    else if (t->n_prop) {
        memcpy(t->prop_by_key, t->prop, t->n_prop * sizeof *t->prop);
        qsort(t->prop_by_key, t->n_prop, sizeof *t->prop, compare_props);
    }
}
