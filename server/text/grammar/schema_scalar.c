/* schema: what a schema says about null, true, false, numbers and strings, with all that it refers to. */
#include "server/text/grammar/schema.h"

enum { DEPTH_MOST = 300, OPEN = 1, DONE = 2 };

struct scalar scalar_all(struct schema *s)
{
    return (struct scalar){.words = WORDS, .num = number_any(s->x), .str = chars_free(s->x)};
}

struct scalar scalar_none(struct schema *s)
{
    return (struct scalar){.num = number_none(s->x), .str = RX_EMPTY};
}

static uint32_t and_str(struct schema *s, uint32_t a, uint32_t b)
{
    uint32_t free = chars_free(s->x);
    return a == free ? b : b == free ? a : rx_and(s->x, a, b);
}

static uint32_t or_str(struct schema *s, uint32_t a, uint32_t b)
{
    uint32_t free = chars_free(s->x);
    return a == free || b == free ? free : rx_alt(s->x, a, b);
}

static uint32_t not_str(struct schema *s, uint32_t a)
{
    if (a == chars_free(s->x)) return RX_EMPTY;
    return a == RX_EMPTY ? chars_free(s->x) : rx_minus(s->x, chars_many(s->x, CHARS_JSON), a);
}

struct scalar scalar_and(struct schema *s, struct scalar a, struct scalar b)
{
    return (struct scalar){
        .words = a.words & b.words, .num = number_and(s->x, a.num, b.num), .str = and_str(s, a.str, b.str)};
}

struct scalar scalar_or(struct schema *s, struct scalar a, struct scalar b)
{
    return (struct scalar){
        .words = a.words | b.words, .num = number_or(s->x, a.num, b.num), .str = or_str(s, a.str, b.str)};
}

struct scalar scalar_not(struct schema *s, struct scalar a)
{
    return (struct scalar){.words = WORDS & ~a.words, .num = number_not(a.num), .str = not_str(s, a.str)};
}

bool scalar_empty(struct schema *s, const struct scalar *a)
{
    return !a->words && !rx_live(s->x, a->num.in) && !rx_live(s->x, a->str);
}

uint32_t scalar_lexeme(struct schema *s, const struct scalar *a)
{
    static const char *const word[] = {"null", "true", "false"};
    struct rx *x = s->x;
    size_t base = x->n_tmp;
    for (unsigned i = 0; i < 3; i++)
        if (a->words >> i & 1) rx_push(x, rx_str(x, word[i]));
    if (rx_live(x, a->num.in)) rx_push(x, a->num.in);
    if (rx_live(x, a->str)) rx_push(x, rx_cat3(x, s->quote, a->str, s->quote));
    return rx_alt_of(x, base);
}

/* --- a schema's own keywords */

static struct scalar own(struct schema *s, const struct sch *t)
{
    struct scalar a = scalar_all(s);
    if (!(t->types & SCH_NULL)) a.words &= ~(unsigned)WORD_NULL;
    if (!(t->types & SCH_BOOL)) a.words &= (unsigned)WORD_NULL;
    if (!(t->types & SCH_NUMBER)) a.num = t->types & SCH_INTEGER ? number_integer(s->x) : number_none(s->x);
    if (!(t->types & SCH_STRING)) a.str = RX_EMPTY;
    if (t->has_num) a.num = number_and(s->x, a.num, t->num);
    if (t->has_str) a.str = and_str(s, a.str, t->str);
    return t->has_enum ? scalar_and(s, a, t->named) : a;
}

static struct scalar exactly_one(struct schema *s, const struct sch_list *l)
{
    struct scalar once = scalar_none(s), any = scalar_none(s);
    for (uint32_t i = 0; i < l->n && schema_ok(s); i++) {
        struct scalar a = schema_scalar(s, l->v[i]), twice = scalar_and(s, any, a);
        if (scalar_empty(s, &twice))
            once = scalar_or(s, once, a);
        else
            once = scalar_or(s, scalar_and(s, once, scalar_not(s, a)), scalar_and(s, a, scalar_not(s, any)));
        any = scalar_or(s, any, a);
    }
    return once;
}

static struct scalar any_of(struct schema *s, const struct sch_list *l)
{
    struct scalar any = scalar_none(s);
    for (uint32_t i = 0; i < l->n && schema_ok(s); i++) any = scalar_or(s, any, schema_scalar(s, l->v[i]));
    return any;
}

static struct scalar branch(struct schema *s, const struct sch *t)
{
    struct scalar c = schema_scalar(s, t->if_), all = scalar_all(s);
    struct scalar yes = t->then_ == SCH_NONE ? all : schema_scalar(s, t->then_),
                  no = t->else_ == SCH_NONE ? all : schema_scalar(s, t->else_);
    return scalar_or(s, scalar_and(s, c, yes), scalar_and(s, scalar_not(s, c), no));
}

static struct scalar combine(struct schema *s, const struct sch *t)
{
    struct scalar a = own(s, t);
    if (t->ref != SCH_NONE) a = scalar_and(s, a, schema_scalar(s, t->ref));
    if (t->dyn != SCH_NONE) a = scalar_and(s, a, schema_scalar(s, t->dyn));
    for (uint32_t i = 0; i < t->all.n && schema_ok(s); i++)
        a = scalar_and(s, a, schema_scalar(s, t->all.v[i]));
    if (t->any.v) a = scalar_and(s, a, any_of(s, &t->any));
    if (t->one.v) a = scalar_and(s, a, exactly_one(s, &t->one));
    if (t->not != SCH_NONE) a = scalar_and(s, a, scalar_not(s, schema_scalar(s, t->not )));
    if (t->if_ != SCH_NONE && (t->then_ != SCH_NONE || t->else_ != SCH_NONE))
        a = scalar_and(s, a, branch(s, t));
    return a;
}

struct scalar schema_scalar(struct schema *s, uint32_t id)
{
    if (!schema_ok(s)) return (struct scalar){0};
    struct sch *t = s->sch[id];
    if (t->is == SCH_IS_TRUE) return scalar_all(s);
    if (t->is == SCH_IS_FALSE) return scalar_none(s);
    if (t->scalar_state == DONE) return t->scalar;
    if (t->scalar_state == OPEN || ++s->depth > DEPTH_MOST) {
        schema_fail(s, ERR_UNSUPPORTED, t, t->ref != SCH_NONE ? "$ref" : NULL,
                    t->scalar_state == OPEN ? "refers to itself without an array or object between"
                                            : "a chain of references is too long");
        return (struct scalar){0};
    }
    t->scalar_state = OPEN;
    t->scalar = combine(s, t);
    t->scalar_state = DONE;
    s->depth--;
    return t->scalar;
}
