/* schema: the whole way from text to network. */
#include "server/text/grammar/schema.h"

#include <stdio.h>
#include <stdlib.h>

bool schema_ok(const struct schema *s) { return s->err == OK && s->pool->fail == OK; }

/* --- where */

static size_t put(char *out, size_t cap, size_t n, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++, n++)
        if (n + 1 < cap) out[n] = p[i];
    return n;
}

static size_t put_token(char *out, size_t cap, size_t n, const char *p, size_t len)
{
    n = put(out, cap, n, "/", 1);
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '~')
            n = put(out, cap, n, "~0", 2);
        else if (p[i] == '/')
            n = put(out, cap, n, "~1", 2);
        else
            n = put(out, cap, n, p + i, 1);
    }
    return n;
}

size_t schema_pointer(const struct schema *s, const char *place, char *out, size_t cap)
{
    struct jval v = s->root;
    size_t n = 0;
    while (v.p && v.p != place) {
        struct jval in = {0};
        size_t i = 0;
        char index[24];
        for (struct jiter it = jval_iter(v); jiter_next(&it); i++) {
            if (place < it.value.p || place >= it.value.p + it.value.n) continue;
            in = it.value;
            snprintf(index, sizeof index, "%zu", i);
            n = it.object ? put_token(out, cap, n, it.key.p + 1, it.key.n - 2)
                          : put_token(out, cap, n, index, strlen(index));
            break;
        }
        v = in;
    }
    out[n < cap ? n : cap - 1] = '\0';
    return n;
}

enum err schema_fail(struct schema *s, enum err e, const struct sch *at, const char *keyword, const char *why)
{
    char where[96] = "";
    size_t n = 0;
    if (s->err != OK) return s->err;
    if (at && at->v.p) n = schema_pointer(s, at->v.p, where, sizeof where);
    if (keyword) {
        if (n >= sizeof where) n = 0; /* the keyword itself matters most */
        n = put_token(where, sizeof where, n, keyword, strlen(keyword));
        where[n < sizeof where ? n : sizeof where - 1] = '\0';
    }
    s->err = e;
    return err_set(s->note, e, where, "%s: %s", where[0] ? where : "the schema", why);
}

/* --- the whole */

static void lexemes(struct schema *s)
{
    static const char *const spaced[] = {"{", "}", "[", "]", ", ", ": "}, *const compact[] = {"{", "}", "[",
                                                                                              "]", ",", ":"};
    const char *const *text = s->opts.space == GRAMMAR_SPACED ? spaced : compact;
    uint32_t *out[] = {&s->open_obj, &s->close_obj, &s->open_arr, &s->close_arr, &s->comma, &s->colon};
    struct rx_set space = {0};
    for (const char *p = " \t\r\n"; *p; p++) rx_set_add(&space, (unsigned char)*p);
    uint32_t any =
        s->opts.space == GRAMMAR_ANY ? rx_rep(s->x, rx_class(s->x, &space), 0, GRAMMAR_SPACE_MOST) : RX_EPS;
    for (size_t i = 0; i < 6; i++) {
        uint32_t before = i == 0 || i == 2 ? RX_EPS : any, behind = i == 1 || i == 3 ? RX_EPS : any;
        *out[i] = rx_cat3(s->x, before, rx_str(s->x, text[i]), behind);
    }
    s->quote = rx_byte(s->x, '"');
}

static bool holds(struct jval v, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= v.n; i++)
        if (memcmp(v.p + i, part, n) == 0) return true;
    return false;
}

/* Other dialects may give keywords another meaning. */
static void read_dialect(struct schema *s)
{
    struct jval v = jval_get(s->root, "$schema");
    if (!v.p) return;
    if (jval_kind(v) != JKIND_STRING || !holds(v, "://json-schema.org/"))
        s->err = err_set(s->note, ERR_UNSUPPORTED, "/$schema",
                         "/$schema: only the dialects of json-schema.org are supported");
    s->old = holds(v, "/draft-0");
}

enum err schema_open(struct schema *s, struct rtn *net, const char *text, size_t n,
                     const struct grammar_opts *opts, const struct grammar_limits *lim, struct err_note *note)
{
    *s = (struct schema){.pool = net->pool, .x = net->x, .net = net, .opts = *opts, .lim = lim, .note = note};
    arena_init(&s->mem, lim->compile_bytes);
    enum err e = jdoc_check(&s->root, text, n, "the schema", note);
    if (e != OK) {
        s->err = e == ERR_MODEL_FILE ? ERR_INVALID_JSON : e;
        if (note) note->code = s->err;
        return s->err;
    }
    lexemes(s);
    read_dialect(s);
    schema_scan(s, s->root, "");
    schema_read(s, s->root, "");
    for (; s->n_linked < s->n_sch && schema_ok(s); s->n_linked++) schema_link(s, (uint32_t)s->n_linked);
    return s->err;
}

void schema_fini(struct schema *s)
{
    void *all[] = {s->sch,  s->by_place, s->key,   s->by_key, s->anchor, s->conj,    s->by_conj,
                   s->lits, s->alt,      s->child, s->place,  s->value,  s->by_value};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    arena_fini(&s->mem);
}

enum err schema_compile(struct rtn *net, const char *text, size_t n, const struct grammar_opts *opts,
                        const struct grammar_limits *lim, uint32_t *rule, struct err_note *note)
{
    struct schema s = {0};
    *rule = rtn_rule(net);
    schema_open(&s, net, text, n, opts, lim, note);
    if (schema_ok(&s)) {
        uint32_t lit = lit_of(0, false), c = schema_conj(&s, &lit, 1);
        if (schema_ok(&s)) {
            uint32_t end = rtn_state(net, *rule);
            schema_value(&s, rtn_start(net, *rule), c, c, end);
            rtn_accept(net, end);
            schema_build(&s);
        }
    }
    enum err e = s.err;
    schema_fini(&s);
    return e;
}
