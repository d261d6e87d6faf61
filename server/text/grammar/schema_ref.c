/* schema: references. All resources and anchors of the text are found first; nothing is ever fetched. */
#include <stdio.h>
#include <stdlib.h>

#include "server/text/grammar/schema.h"

enum { LARGE = 512 /* bytes of an object whose members are found once and for all */ };

/* Keywords under which schemas stand. */
enum where { ONE, LIST, MAP };
static const struct {
    const char *name;
    enum where where;
} places[] = {
    {"$defs", MAP},
    {"definitions", MAP},
    {"properties", MAP},
    {"patternProperties", MAP},
    {"dependentSchemas", MAP},
    {"dependencies", MAP},
    {"allOf", LIST},
    {"anyOf", LIST},
    {"oneOf", LIST},
    {"prefixItems", LIST},
    {"items", ONE},
    {"not", ONE},
    {"if", ONE},
    {"then", ONE},
    {"else", ONE},
    {"additionalProperties", ONE},
    {"propertyNames", ONE},
    {"contains", ONE},
    {"additionalItems", ONE},
    {"unevaluatedItems", ONE},
    {"unevaluatedProperties", ONE},
    {"contentSchema", ONE},
};

static const char *text_of(struct schema *s, struct jval v, size_t *n)
{
    const char *text = NULL;
    if (jval_string(v, &s->mem, &text, n) && !text) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    return text;
}

static void keep_anchor(struct schema *s, const char *base, const char *name, struct jval v, bool dynamic)
{
    if (!base || !pool_grow(s->pool, &s->anchor, &s->cap_anchor, s->n_anchor + 1, sizeof *s->anchor)) return;
    s->anchor[s->n_anchor++] = (struct sch_anchor){base, name, v, dynamic};
}

/* The base of what stands in v. */
static const char *own_base(struct schema *s, struct jval v, const char *base)
{
    size_t n;
    struct jval id = jval_get(v, "$id");
    if (jval_kind(id) != JKIND_STRING || (s->old && jval_kind(jval_get(v, "$ref")) == JKIND_STRING))
        return base;
    const char *text = text_of(s, id, &n);
    if (!text || text[0] == '#' || n == 0) return base;
    const char *uri = uri_resolve(&s->mem, base, text, n);
    if (!uri) pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
    return uri ? uri : base;
}

void schema_scan(struct schema *s, struct jval v, const char *base)
{
    static const char *const names[] = {"$id", "$ref", "$anchor", "$dynamicAnchor"};
    struct jval said[4] = {{0}};
    size_t n;
    if (!schema_ok(s) || jval_kind(v) != JKIND_OBJECT || !pool_step(s->pool, 4 + v.n / 16)) return;
    for (struct jiter it = jval_iter(v); jiter_next(&it);)
        for (size_t i = 0; i < 4 && it.key.p[1] == '$'; i++)
            if (jval_is(it.key, names[i])) said[i] = it.value;
    const char *own =
        jval_kind(said[0]) == JKIND_STRING && !(s->old && said[1].p) ? own_base(s, v, base) : base;
    if (own != base) keep_anchor(s, own, NULL, v, false);
    for (size_t i = 2; i < 4; i++) {
        const char *name = text_of(s, said[i], &n);
        if (name) keep_anchor(s, own, name, v, i == 3);
    }
    const char *id =
        s->old ? text_of(s, said[0], &n) : NULL; /* draft 7: an $id that begins with # is an anchor */
    if (id && id[0] == '#') keep_anchor(s, own, id + 1, v, false);
    for (struct jiter it = jval_iter(v); schema_ok(s) && jiter_next(&it);)
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            if (!jval_is(it.key, places[i].name)) continue;
            bool inside = places[i].where != ONE || jval_kind(it.value) == JKIND_ARRAY;
            if (!inside)
                schema_scan(s, it.value, own);
            else
                for (struct jiter in = jval_iter(it.value); schema_ok(s) && jiter_next(&in);)
                    schema_scan(s, in.value, own);
            break;
        }
}

/* --- finding */

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent signs of a fragment taken out, in place. */
static void decode(char *p)
{
    char *w = p;
    for (; *p; p++) {
        int hi = *p == '%' ? hex(p[1]) : -1, lo = hi >= 0 ? hex(p[2]) : -1;
        *w++ = lo < 0 ? *p : (char)(hi * 16 + lo);
        if (lo >= 0) p += 2;
    }
    *w = '\0';
}

static size_t child_slot(const struct schema *s, const char *in, uint32_t key)
{
    uint64_t w[2] = {(uint64_t)(in - s->root.p), key};
    size_t at = pool_hash(w, sizeof w, 13) % s->cap_child;
    while (s->child[at].in && (s->child[at].in != in || s->child[at].key != key))
        at = (at + 1) % s->cap_child;
    return at;
}

static void keep_child(struct schema *s, const char *in, uint32_t key, struct jval v)
{
    if ((s->n_child + 1) * 2 > s->cap_child) {
        size_t old = s->cap_child, cap = old ? old * 2 : 256;
        struct sch_child *from = s->child, *to = pool_alloc(s->pool, cap, sizeof *to);
        if (!to) return;
        s->child = to;
        s->cap_child = cap;
        for (size_t i = 0; i < old; i++)
            if (from[i].in) to[child_slot(s, from[i].in, from[i].key)] = from[i];
        pool_forget(s->pool, old * sizeof *from);
        free(from);
    }
    s->child[child_slot(s, in, key)] = (struct sch_child){in, key, v};
    s->n_child++;
}

/* A member of an object, whose members are all found at its first time, so that many references cost no more
 * than the text. */
static struct jval member(struct schema *s, struct jval v, const char *name)
{
    uint32_t key = schema_key(s, name, strlen(name));
    bool known = s->cap_child && s->child[child_slot(s, v.p, SCH_NONE)].in;
    if (!known) {
        keep_child(s, v.p, SCH_NONE, v);
        for (struct jiter it = jval_iter(v); schema_ok(s) && pool_step(s->pool, 4) && jiter_next(&it);)
            keep_child(s, v.p, schema_key_of(s, it.key), it.value);
    }
    return schema_ok(s) ? s->child[child_slot(s, v.p, key)].v : (struct jval){0};
}

static struct jval child(struct schema *s, struct jval v, char *token)
{
    char *w = token;
    for (char *p = token; *p; p++) {
        bool tilde = *p == '~' && (p[1] == '0' || p[1] == '1');
        *w++ = !tilde ? *p : p[1] == '0' ? '~' : '/';
        p += tilde;
    }
    *w = '\0';
    if (jval_kind(v) == JKIND_OBJECT) return member(s, v, token);
    size_t at = 0;
    for (char *p = token; *p; p++) {
        if (*p < '0' || *p > '9' || at > 1000000) return (struct jval){0};
        at = at * 10 + (size_t)(*p - '0');
    }
    if (jval_kind(v) != JKIND_ARRAY || !*token) return (struct jval){0};
    for (struct jiter it = jval_iter(v); pool_step(s->pool, 1) && jiter_next(&it);)
        if (at-- == 0) return it.value;
    return (struct jval){0};
}

static struct jval by_pointer(struct schema *s, struct jval v, char *pointer, const char **base)
{
    while (v.p && *pointer == '/') {
        char *token = pointer + 1, *end = strchr(token, '/');
        char cut = end ? '/' : '\0';
        if (!end) end = token + strlen(token);
        *end = '\0';
        v = child(s, v, token);
        bool large =
            v.n > LARGE && jval_kind(v) == JKIND_OBJECT; /* the search for $id goes through all of it */
        if (v.p && !(large && !member(s, v, "$id").p)) *base = own_base(s, v, *base);
        pointer = end;
        *end = cut;
        if (!pool_step(s->pool, 1 + (large ? 0 : v.n / 64))) break;
    }
    return v;
}

static bool is_root(const char *uri) { return !*uri; }

/* What a reference leads to. *dynamic: it is a dynamic anchor. */
static struct jval find(struct schema *s, const char *base, const char *ref, size_t n, const char **at,
                        bool *dynamic, const char **name)
{
    size_t cut = 0;
    while (cut < n && ref[cut] != '#') cut++;
    const char *uri = uri_resolve(&s->mem, base, ref, n);
    char *frag = cut < n ? arena_strndup(&s->mem, ref + cut + 1, n - cut - 1) : arena_strndup(&s->mem, "", 0);
    struct jval v = {0};
    if (!uri || !frag) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return v;
    }
    decode(frag);
    if (is_root(uri)) v = s->root;
    bool plain = *frag && *frag != '/';
    pool_step(s->pool, s->n_anchor / 4);
    for (size_t i = 0; i < s->n_anchor; i++) {
        const struct sch_anchor *a = &s->anchor[i];
        if (strcmp(a->base, uri) != 0 || (plain ? !a->name || strcmp(a->name, frag) != 0 : a->name != NULL))
            continue;
        *dynamic = *dynamic || a->dynamic;
        *name = a->name;
        *at = uri;
        if (plain) return a->v;
        v = a->v;
    }
    *at = uri;
    return plain ? (struct jval){0} : by_pointer(s, v, frag, at);
}

static uint32_t link_one(struct schema *s, uint32_t id, const char *keyword)
{
    struct jval v = keyword[1] == 'd' ? s->sch[id]->dyn_text : s->sch[id]->ref_text;
    const char *base = NULL, *name = NULL;
    bool dynamic = false, is_dynamic = keyword[1] == 'd';
    size_t n, alike = 0;
    if (!v.p) return SCH_NONE;
    const char *text = text_of(s, v, &n);
    struct jval to = text ? find(s, s->sch[id]->base, text, n, &base, &dynamic, &name) : (struct jval){0};
    if (is_dynamic && dynamic)
        for (size_t i = 0; i < s->n_anchor; i++)
            alike += s->anchor[i].dynamic && strcmp(s->anchor[i].name, name) == 0;
    if (alike > 1) {
        schema_fail(s, ERR_UNSUPPORTED, s->sch[id], keyword,
                    "more than one schema has this $dynamicAnchor; which one is meant is not decided here");
        return SCH_NONE;
    }
    if (!to.p) {
        schema_fail(s, ERR_UNSUPPORTED, s->sch[id], keyword,
                    "leads to nothing in this schema, and nothing is fetched");
        return SCH_NONE;
    }
    return schema_read(s, to, base);
}

void schema_link(struct schema *s, uint32_t id)
{
    if (!schema_ok(s) || jval_kind(s->sch[id]->v) != JKIND_OBJECT) return;
    uint32_t ref = link_one(s, id, "$ref"), dyn = s->old ? SCH_NONE : link_one(s, id, "$dynamicRef");
    s->sch[id]->ref = ref;
    s->sch[id]->dyn = dyn;
}
