/* schema: unique items. Their values must be few, so that a state can say which are used: null, true, false,
 * and the strings and numbers of finite sets. */
#include "server/text/grammar/schema_array.h"

enum { TEXT_MOST = 256 /* bytes of a value */ };

static void refuse(struct array *o, const char *why)
{
    schema_fail(o->s, ERR_UNSUPPORTED, o->s->sch[o->unique->sch], "uniqueItems", why);
}

static void add_value(struct array *o, const char *p, size_t n)
{
    struct schema *s = o->s;
    struct decimal d;
    bool number = p[0] == '-' || (p[0] >= '0' && p[0] <= '9');
    if (n == 2 && p[0] == '-' && p[1] == '0') p++, n--;
    for (unsigned i = 0; i < o->n_value; i++)
        if (o->value[i].n == n && memcmp(o->value[i].text, p, n) == 0) return;
    if (o->n_value == ARRAY_VALUES) {
        refuse(o, "items that can have more than 8 values are not supported");
        return;
    }
    char *copy = arena_strndup(&s->mem, p, n);
    if (!copy) {
        pool_fail(s->pool, ERR_UNSUPPORTED, "bytes");
        return;
    }
    struct array_value *v = &o->value[o->n_value++];
    *v = (struct array_value){.text = copy, .n = n, .lexeme = rx_text(s->x, p, n)};
    if (number && decimal_read(&d, p, n)) v->lexeme = number_equal(s->x, &d).in;
}

struct listing {
    struct array *o;
    char text[TEXT_MOST];
    size_t n;
};

/* All strings of rx behind those in l->text. A string is bounded in length, their number by the room for
 * values. */
static void list(struct listing *l, uint32_t rx)
{
    struct rx *x = l->o->s->x;
    if (!schema_ok(l->o->s) || !pool_step(l->o->s->pool, 1)) return;
    if (rx_nullable(x, rx)) add_value(l->o, l->text, l->n);
    for (unsigned b = 0; b < 256 && schema_ok(l->o->s); b++) {
        uint32_t to = rx_step(x, rx, (uint8_t)b);
        if (to == RX_EMPTY) continue;
        if (l->n == TEXT_MOST) {
            refuse(l->o, "items of so many or such long values are not supported");
            return;
        }
        l->text[l->n++] = (char)b;
        list(l, to);
        l->n--;
    }
}

/* Plain numbers without zeros that say nothing. */
static uint32_t shortest_numbers(struct rx *x)
{
    uint32_t digit = rx_range(x, '0', '9'), first = rx_range(x, '1', '9'),
             many = rx_rep(x, digit, 0, RX_MORE);
    uint32_t whole = rx_alt(x, rx_byte(x, '0'), rx_cat(x, first, many));
    uint32_t part = rx_opt(x, rx_cat3(x, rx_byte(x, '.'), many, first));
    return rx_cat3(x, rx_opt(x, rx_byte(x, '-')), whole, part);
}

static void list_conj(struct array *o, uint32_t conj)
{
    static const char *const word[] = {"null", "true", "false"};
    struct schema *s = o->s;
    struct listing l = {.o = o};
    const struct scalar *a = conj_scalar(s, conj);
    if (!schema_ok(s) || conj_unsat(s, conj)) return;
    struct scalar all = *a;
    for (unsigned i = 0; i < 3; i++)
        if (all.words >> i & 1) add_value(o, word[i], strlen(word[i]));
    if (all.num.in == number_any(s->x).in || all.str == chars_free(s->x)) {
        refuse(o, "items that can have any value of a type are not supported");
        return;
    }
    uint32_t num = rx_and(s->x, all.num.in, shortest_numbers(s->x));
    if (rx_live(s->x, num)) list(&l, num);
    uint32_t str = rx_cat3(s->x, s->quote, all.str, s->quote);
    if (rx_live(s->x, str)) list(&l, str);
}

void unique_values(struct array *o)
{
    struct schema *s = o->s;
    uint32_t last = o->cap;
    for (uint32_t i = 0; i <= last && i < o->most && schema_ok(s); i++) {
        size_t base = s->x->n_tmp;
        alt_item(s, o->alt, i, ~0u);
        uint32_t c = conj_of(s, base);
        if (!schema_ok(s) || conj_unsat(s, c)) continue;
        bool compound = true;
        for (uint32_t k = 0; k < s->conj[c].n; k++) {
            uint32_t lit = s->lits[s->conj[c].lit + k];
            const struct sch *t = s->sch[lit >> 1];
            if (!(lit & 1) && (!(t->types & (SCH_ARRAY | SCH_OBJECT)) || (t->has_enum && !t->member.n)))
                compound = false;
        }
        if (compound)
            refuse(o, "items that can be arrays or objects are not supported");
        else
            list_conj(o, c);
    }
}

uint32_t unique_lexeme(struct array *o, uint32_t conj, unsigned v)
{
    const struct scalar *a = conj_scalar(o->s, conj);
    return schema_ok(o->s) ? rx_and(o->s->x, scalar_lexeme(o->s, a), o->value[v].lexeme) : RX_EMPTY;
}
