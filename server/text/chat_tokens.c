/* chat_tokens: see chat_tokens.h. */
#include "server/text/chat_tokens.h"

#include <stdlib.h>

#include "server/text/special.h"

struct chat_tokens {
    const struct tokenizer *tokenizer;
    struct special *special;
};

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static enum err collect(struct chat_tokens *c, struct err_note *note)
{
    const int n_piece = tokenizer_n_piece(c->tokenizer);
    const char **text = calloc((size_t)n_piece, sizeof *text);
    size_t *len = calloc((size_t)n_piece, sizeof *len), n = 0;
    int32_t *id = calloc((size_t)n_piece, sizeof *id);
    enum err e = text && len && id ? OK : no_memory(note);
    for (int32_t i = 0; !e && i < n_piece; i++) {
        if (!tokenizer_is_special(c->tokenizer, i)) continue;
        text[n] = tokenizer_bytes(c->tokenizer, i, &len[n]);
        id[n++] = i;
    }
    if (!e) e = special_new(&c->special, n, text, len, id, note);
    free(text);
    free(len);
    free(id);
    return e;
}

enum err chat_tokens_new(struct chat_tokens **out, const struct tokenizer *t, struct err_note *note)
{
    *out = NULL;
    struct chat_tokens *c = calloc(1, sizeof *c);
    if (!c) return no_memory(note);
    c->tokenizer = t;
    enum err e = collect(c, note);
    if (e) {
        chat_tokens_free(c);
        return e;
    }
    *out = c;
    return OK;
}

void chat_tokens_free(struct chat_tokens *c)
{
    if (!c) return;
    special_free(c->special);
    free(c);
}

/* Spans are sorted, so *i only grows as the questions move to the right. */
static bool touches_outside(const struct tmpl_rendering *r, size_t *i, size_t start, size_t end)
{
    while (*i < r->n_span && r->span[*i].end <= start) ++*i;
    return *i < r->n_span && r->span[*i].start < end;
}

enum err chat_tokens_encode(const struct chat_tokens *c, const struct tmpl_rendering *r, size_t n, int flags,
                            struct token_vec *out, struct err_note *note)
{
    const char *text = r->text.data ? r->text.data : "";
    size_t done = 0, from = 0, span = 0;
    struct special_hit hit;
    struct token_vec frame = {0}; /* what is added around a text: as around the empty one */
    enum err e =
        flags & TOKENIZE_ADD ? tokenizer_encode(c->tokenizer, "", 0, TOKENIZE_ADD, &frame, note) : OK;
    if (!e && frame.n > 0 && !token_vec_push(out, frame.id[0])) e = no_memory(note);
    while (!e && special_next(c->special, text, n, from, &hit)) {
        if (touches_outside(r, &span, hit.at, hit.at + hit.len)) {
            from = hit.at + 1; /* one of the template's own may begin inside it */
            continue;
        }
        e = tokenizer_encode(c->tokenizer, text + done, hit.at - done, done > 0 ? TOKENIZE_INSIDE : 0, out,
                             note);
        if (!e && !token_vec_push(out, hit.id)) e = no_memory(note);
        done = from = hit.at + hit.len;
    }
    if (!e)
        e = tokenizer_encode(c->tokenizer, text + done, n - done, done > 0 ? TOKENIZE_INSIDE : 0, out, note);
    if (!e && frame.n > 1 && !token_vec_push(out, frame.id[1])) e = no_memory(note);
    token_vec_fini(&frame);
    return e;
}
