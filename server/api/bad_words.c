/* bad_words: see bad_words.h. */
#include "server/api/bad_words.h"

#include <string.h>

struct word {
    int32_t *id;
    size_t n; /* at least 1 */
};

struct bad_words {
    struct word word[2 * BAD_WORDS_MOST];
    size_t n, n_tail; /* n_tail: ids that the longest word has before its last */
    int n_vocab;
};

struct words_guide {
    struct guide guide; /* first */
    const struct bad_words *words;
    struct guide *inner;
    int32_t *tail; /* the last ids of the answer, as many as matter */
    size_t n_tail;
};

static enum err add(struct bad_words *w, struct arena *mem, const struct token_vec *ids)
{
    int32_t *id = arena_array(mem, ids->n, sizeof *id);
    if (!id) return ERR_NOMEM;
    memcpy(id, ids->id, ids->n * sizeof *id);
    w->word[w->n++] = (struct word){.id = id, .n = ids->n};
    if (ids->n - 1 > w->n_tail) w->n_tail = ids->n - 1;
    return OK;
}

/* A word behind a space is another word only where the space becomes part of its first token. */
static bool is_other(const struct token_vec *plain, const struct token_vec *spaced)
{
    return spaced->n == plain->n && spaced->n > 0 && spaced->id[0] != plain->id[0];
}

static enum err add_word(struct bad_words *w, struct arena *mem, const struct tokenizer *t,
                         const struct json_str *s, struct err_note *note)
{
    const size_t blank = strspn(s->p, " \t\n\v\f\r"), from = blank < s->n ? blank : 0;
    struct token_vec plain = {0}, spaced = {0};
    struct strbuf text;
    strbuf_init(&text);
    strbuf_putc(&text, ' ');
    strbuf_put(&text, s->p + from, s->n - from);
    enum err e = strbuf_failed(&text) ? ERR_NOMEM : OK;
    if (!e) e = tokenizer_encode(t, text.data + 1, text.len - 1, TOKENIZE_SPECIAL, &plain, note);
    if (!e) e = tokenizer_encode(t, text.data, text.len, TOKENIZE_SPECIAL, &spaced, note);
    if (!e && plain.n > 0) e = add(w, mem, &plain);
    if (!e && blank < s->n && is_other(&plain, &spaced)) e = add(w, mem, &spaced);
    if (e == ERR_NOMEM) err_set(note, e, NULL, "%s", err_text(e));
    strbuf_fini(&text);
    token_vec_fini(&plain);
    token_vec_fini(&spaced);
    return e;
}

enum err bad_words_new(struct bad_words **out, struct arena *mem, const struct tokenizer *t, int n_vocab,
                       const struct json_strs *words, struct err_note *note)
{
    struct bad_words *w = *out = arena_alloc(mem, sizeof *w);
    if (!w) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    w->n_vocab = n_vocab;
    enum err e = OK;
    for (size_t i = 0; i < words->n && !e; i++) e = add_word(w, mem, t, &words->v[i], note);
    return e;
}

/* --- guides */

/* Whether the answer ends with all of the word but its last token. */
static bool ends_with(const struct words_guide *g, const struct word *w)
{
    const size_t n = w->n - 1;
    return n <= g->n_tail && memcmp(g->tail + g->n_tail - n, w->id, n * sizeof *w->id) == 0;
}

static enum err guide_mask(struct guide *guide, uint32_t *bits, struct err_note *note)
{
    const struct words_guide *g = (const struct words_guide *)guide;
    const struct bad_words *w = g->words;
    if (g->inner) {
        const enum err e = g->inner->op->mask(g->inner, bits, note);
        if (e) return e;
    } else {
        memset(bits, 0xff, ((size_t)w->n_vocab + 31) / 32 * sizeof *bits);
    }
    for (size_t i = 0; i < w->n; i++) {
        const int32_t last = w->word[i].id[w->word[i].n - 1];
        if (last < w->n_vocab && ends_with(g, &w->word[i])) bits[last / 32] &= ~(1u << last % 32);
    }
    return OK;
}

static enum err guide_take(struct guide *guide, int32_t token, struct err_note *note)
{
    struct words_guide *g = (struct words_guide *)guide;
    const size_t most = g->words->n_tail;
    if (most > 0 && g->n_tail == most) memmove(g->tail, g->tail + 1, --g->n_tail * sizeof *g->tail);
    if (most > 0) g->tail[g->n_tail++] = token;
    return g->inner ? g->inner->op->take(g->inner, token, note) : OK;
}

static bool guide_whole(struct guide *guide)
{
    const struct words_guide *g = (const struct words_guide *)guide;
    return !g->inner || g->inner->op->whole(g->inner);
}

static void guide_end(struct guide *guide)
{
    const struct words_guide *g = (const struct words_guide *)guide;
    if (g->inner) g->inner->op->end(g->inner);
}

static bool is_bad(const struct words_guide *g, const struct word *w, int32_t id)
{
    return (id < 0 || w->id[w->n - 1] == id) && ends_with(g, w);
}

static int32_t words_only(struct guide *guide)
{
    const struct words_guide *g = (const struct words_guide *)guide;
    const int32_t id = g->inner ? guide_only(g->inner) : GUIDE_FREE;
    for (size_t i = 0; i < g->words->n && id != GUIDE_MASK; i++)
        if (is_bad(g, &g->words->word[i], id)) return GUIDE_MASK;
    return id;
}

struct guide *bad_words_guide(const struct bad_words *w, struct guide *inner, struct arena *mem)
{
    static const struct guide_ops ops = {
        .mask = guide_mask, .take = guide_take, .whole = guide_whole, .only = words_only, .end = guide_end};
    struct words_guide *g = arena_alloc(mem, sizeof *g);
    int32_t *tail = arena_array(mem, w->n_tail + 1, sizeof *tail);
    if (!g || !tail) return NULL;
    *g = (struct words_guide){.guide.op = &ops, .words = w, .inner = inner, .tail = tail};
    return &g->guide;
}
