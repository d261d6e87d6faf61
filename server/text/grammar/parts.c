/* parts: see parts.h. Parts without a body between bodies are lexemes of their own; free ones are the bytes
 * that do not hold what ends them, which complement says at once. */
#include "server/text/grammar/parts.h"

#include <stdio.h>
#include <string.h>

struct build {
    struct grammar *g;
    const struct grammar_opts *opts;
    struct err_note *note;
    enum err err;
    int deep;
    size_t text_bytes;
};

static bool fine(const struct build *b) { return b->err == OK && b->g->pool.fail == OK; }

/* --- lexemes */

static uint32_t any_byte(struct rx *x)
{
    return rx_class(x, &(struct rx_set){{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}});
}

/* The texts to avoid, and this one where it is not NULL. */
static uint32_t one_of(struct rx *x, const struct grammar_part *p, const char *text, size_t n)
{
    size_t base = x->n_tmp;
    if (text) rx_push(x, rx_text(x, text, n));
    for (size_t i = 0; i < p->n_avoid; i++) rx_push(x, rx_str(x, p->avoid[i]));
    return rx_alt_of(x, base);
}

static uint32_t until(struct rx *x, const struct grammar_part *p)
{
    uint32_t ends = rx_cat(x, RX_ALL, rx_text(x, p->text, p->n)), word = one_of(x, p, p->text, p->n);
    return rx_minus(x, ends, rx_cat3(x, rx_cat(x, RX_ALL, word), any_byte(x), RX_ALL));
}

static uint32_t without(struct rx *x, const struct grammar_part *p)
{
    return p->n_avoid ? rx_not(x, rx_cat3(x, RX_ALL, one_of(x, p, NULL, 0), RX_ALL)) : RX_ALL;
}

static uint32_t mark(struct rx *x, const struct grammar_part *p)
{
    uint32_t plain = rx_text(x, p->text, p->n);
    return rx_alt(x, plain, rx_cat(x, rx_byte(x, (uint8_t)GRAMMAR_SPECIAL), plain));
}

/* --- edges */

static void part(struct build *b, const struct grammar_part *p, uint32_t rule, uint32_t from, uint32_t to);

/* A refusal names the part it is about before its own place (a JSON pointer; others are told in the text
 * alone).
 */
static void refuse(struct build *b, const struct grammar_part *p, enum err e)
{
    struct err_note *note = b->note;
    char at[sizeof note->param];
    b->err = e;
    if (!note || !p->name) return;
    memcpy(at, note->param, sizeof at);
    snprintf(note->param, sizeof note->param, "%.48s%.46s", p->name, at[0] == '/' ? at : "");
}

static void body(struct build *b, const struct grammar_part *p, uint32_t from, uint32_t to)
{
    uint32_t inner;
    const size_t most = b->g->lim.text_bytes;
    b->text_bytes += p->n;
    const enum err e =
        b->text_bytes > most
            ? err_set(b->note, ERR_TOO_LARGE, NULL, "the grammar has more than %zu bytes", most)
            : body_build(b->g, p->body, p->text, p->n, b->opts, &inner, b->note);
    if (e)
        refuse(b, p, e);
    else if (fine(b))
        rtn_call(&b->g->net, from, inner, to);
}

static void sequence(struct build *b, const struct grammar_part *p, uint32_t rule, uint32_t from, uint32_t to)
{
    uint32_t at = from;
    for (size_t i = 0; i < p->n_part && fine(b); i++) {
        const uint32_t next = i + 1 < p->n_part ? rtn_state(&b->g->net, rule) : to;
        part(b, &p->part[i], rule, at, next);
        at = next;
    }
    if (p->n_part == 0) rtn_free(&b->g->net, from, to);
}

/* One copy of the part for each time, or a rule of its own that is called so many times. */
static void repeat(struct build *b, const struct grammar_part *p, uint32_t rule, uint32_t from, uint32_t to)
{
    struct rtn *net = &b->g->net;
    const uint32_t inner = rtn_rule(net), end = rtn_state(net, inner);
    uint32_t at = from;
    rtn_accept(net, end);
    part(b, p->part, inner, rtn_start(net, inner), end);
    for (uint32_t i = 0; i < p->min && fine(b); i++) {
        const uint32_t next = rtn_state(net, rule);
        rtn_call(net, at, inner, next);
        at = next;
    }
    if (p->max == 0) {
        const uint32_t loop = rtn_state(net, rule);
        rtn_free(net, at, loop);
        rtn_call(net, loop, inner, loop);
        at = loop;
    }
    for (uint32_t i = p->min; i < p->max && fine(b); i++) {
        const uint32_t next = rtn_state(net, rule);
        rtn_free(net, at, to);
        rtn_call(net, at, inner, next);
        at = next;
    }
    rtn_free(net, at, to);
}

static void part(struct build *b, const struct grammar_part *p, uint32_t rule, uint32_t from, uint32_t to)
{
    struct rtn *net = &b->g->net;
    struct rx *x = &b->g->x;
    if (++b->deep > GRAMMAR_PARTS_DEEP) pool_fail(&b->g->pool, ERR_UNSUPPORTED, "depth");
    if (!fine(b)) return;
    switch (p->kind) {
    case GRAMMAR_BODY:
        body(b, p, from, to);
        break;
    case GRAMMAR_TEXT:
        rtn_lexeme(net, from, rx_text(x, p->text, p->n), to);
        break;
    case GRAMMAR_MARK:
        rtn_lexeme(net, from, mark(x, p), to);
        break;
    case GRAMMAR_UNTIL:
        rtn_lexeme(net, from, until(x, p), to);
        break;
    case GRAMMAR_FREE:
        rtn_lexeme(net, from, without(x, p), to);
        break;
    case GRAMMAR_SEQ:
        sequence(b, p, rule, from, to);
        break;
    case GRAMMAR_ALT:
        for (size_t i = 0; i < p->n_part && fine(b); i++) part(b, &p->part[i], rule, from, to);
        break;
    case GRAMMAR_REP:
        repeat(b, p, rule, from, to);
        break;
    }
    b->deep--;
}

enum err parts_build(struct grammar *g, const struct grammar_part *root, const struct grammar_opts *opts,
                     struct err_note *note)
{
    struct build b = {.g = g, .opts = opts, .note = note};
    const uint32_t rule = rtn_rule(&g->net), end = rtn_state(&g->net, rule);
    rtn_accept(&g->net, end);
    part(&b, root, rule, rtn_start(&g->net, rule), end);
    return b.err;
}

/* --- keys */

static void put_number(struct strbuf *out, size_t v) { strbuf_put(out, &v, sizeof v); }

static void put_text(struct strbuf *out, const char *p, size_t n)
{
    put_number(out, n);
    if (n) strbuf_put(out, p, n);
}

/* Every part says how many bytes and parts follow, so no two ways of reading fit one key. A name is part of
 * refusals alone. */
void grammar_part_key(const struct grammar_part *p, struct strbuf *out)
{
    put_number(out, p->kind);
    put_number(out, p->body);
    put_text(out, p->text, p->n);
    put_number(out, p->n_avoid);
    for (size_t i = 0; i < p->n_avoid; i++) put_text(out, p->avoid[i], strlen(p->avoid[i]));
    put_number(out, p->min);
    put_number(out, p->max);
    const size_t n = p->kind == GRAMMAR_REP ? 1 : p->n_part;
    put_number(out, n);
    for (size_t i = 0; i < n; i++) grammar_part_key(&p->part[i], out);
}
