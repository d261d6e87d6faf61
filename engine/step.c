/* step: all decode rows in one call, or as few as the device takes; then the pieces of prompts, those of the
 * same layers together as long as they fit the workspace. */
#include "engine/step.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "engine/forward.h"

/* Those of the rows and of the prompts that end here, all at once. */
static void await_masks(const struct batch *b)
{
    if (b->masks) b->masks(b->masks_arg);
}

static enum err step_rows(struct engine *e, const struct batch *b, int at, int n, struct sample_out *out)
{
    const struct batch_row *row = b->row + at;
    for (int i = 0; i < n; i++) {
        e->span[i] = (struct span){.seq = row[i].seq, .pos0 = row[i].pos, .n = 1, .row0 = i};
        e->row[i] = i;
        e->sample[i] = row[i].sample;
    }
    const struct call c = {
        .e = e, .span = e->span, .n_span = n, .n_tok = n, .layer1 = e->spec.n_layer, .decode = true};
    TRY(e->forward->begin(&c));
    TRY(e->forward->layers(&c));
    await_masks(b);
    return e->forward->sample(&c, n, e->row, e->sample, out);
}

/* Logprobs of the prompt's own tokens: row t says what came at t + 1. */
static enum err score_prompt(const struct call *c, const struct span *sp)
{
    struct engine *e = c->e;
    const struct batch_seq *seq = sp->seq;
    int n = 0;
    for (int t = sp->pos0; t < sp->pos0 + sp->n && t + 1 < seq->n_prompt; t++, n++) {
        e->row[n] = sp->row0 + t - sp->pos0;
        e->sample[n] = (struct sample_row){.repetition = 1,
                                           .top_p = 1,
                                           .pos = t + 1,
                                           .n_top = sp->piece->prompt_top,
                                           .force_id = seq->tok[t + 1]};
    }
    return e->forward->sample(c, n, e->row, e->sample, sp->piece->prompt_out + sp->pos0 + 1);
}

static bool ends_prompt(const struct span *sp) { return sp->pos0 + sp->n >= sp->seq->n_prompt; }

/* What follows a prompt's last layer: its scores, and the first token if this was its last row. */
static enum err end_prompts(const struct call *c, const struct batch *b, int first, struct step_out *out)
{
    struct engine *e = c->e;
    int n = 0;
    for (int i = 0; i < c->n_span; i++)
        if (c->span[i].piece->prompt_out) TRY(score_prompt(c, &c->span[i]));
    for (int i = 0; i < c->n_span; i++) {
        const struct span *sp = &c->span[i];
        if (!ends_prompt(sp)) continue;
        e->row[n] = sp->row0 + sp->n - 1;
        e->sample[n++] = b->piece[first + i].sample;
        memory_stream_drop(&e->mem, sp->seq->slot);
    }
    if (n > 0) await_masks(b);
    TRY(e->forward->sample(c, n, e->row, e->sample, e->out));
    n = 0;
    for (int i = 0; i < c->n_span; i++) {
        if (!ends_prompt(&c->span[i])) continue;
        out->piece[first + i] = e->out[n++];
        out->drew[first + i] = 1;
    }
    return OK;
}

/* Pieces of the batch from `first` on that can share a call, into e->span: same layers, other sequences,
 * together no more rows than the workspace. Returns how many, at least one. */
static int group(struct engine *e, const struct batch *b, int first)
{
    const struct batch_piece *p = &b->piece[first];
    int rows = 0, blocks = 0, n = 0;
    for (; first + n < b->n_piece && n < e->max_tok; n++) {
        const struct batch_piece *q = &p[n];
        CHECK(q->tok0 >= 0 && q->tok0 < q->tok1 && q->tok1 <= q->seq->n_prompt);
        CHECK(q->layer0 >= 0 && q->layer0 < q->layer1 && q->layer1 <= e->spec.n_layer);
        CHECK(q->tok0 >= q->seq->n_cached &&
              (q->layer1 == q->layer0 + 1 || (q->tok0 == q->seq->n_cached && q->tok1 == q->seq->n_prompt)));
        bool same =
            q->layer0 == p->layer0 && q->layer1 == p->layer1 && rows + q->tok1 - q->tok0 <= e->max_tok;
        blocks += (q->tok1 + PAGE_TOK - 1) / PAGE_TOK;
        same = same && (e->mem.n_wide == 0 || blocks <= e->mem.n_wide || n == 0);
        for (int i = 0; i < n && same; i++) same = p[i].seq->slot != q->seq->slot;
        if (!same) break;
        e->span[n] =
            (struct span){.seq = q->seq, .piece = q, .pos0 = q->tok0, .n = q->tok1 - q->tok0, .row0 = rows};
        rows += q->tok1 - q->tok0;
    }
    CHECK(n > 0); /* a piece is never longer than chunk_tok */
    return n;
}

static enum err step_pieces(struct engine *e, const struct batch *b, struct step_out *out)
{
    for (int first = 0, n; first < b->n_piece; first += n) {
        const struct batch_piece *p = &b->piece[first];
        n = group(e, b, first);
        const struct span *last = &e->span[n - 1];
        const struct call c = {.e = e,
                               .span = e->span,
                               .n_span = n,
                               .n_tok = last->row0 + last->n,
                               .layer0 = p->layer0,
                               .layer1 = p->layer1};
        TRY(e->forward->begin(&c));
        TRY(e->forward->layers(&c));
        for (int i = 0; p->layer1 < e->spec.n_layer && i < n; i++) {
            const struct span *sp = &e->span[i];
            memory_stream_put(&e->mem, e->be, sp->seq->slot, sp->pos0, sp->pos0 + sp->n,
                              memory_row(&e->mem, e->mem.x, sp->row0));
        }
        TRY(e->forward->take_bits(&c));
        if (p->layer1 == e->spec.n_layer) TRY(end_prompts(&c, b, first, out));
    }
    return OK;
}

/* Rows of one sequence come in order: each reads what those before it write. */
static void check_order(const struct batch *b)
{
    for (int i = 1; i < b->n_row; i++)
        CHECK(b->row[i].seq != b->row[i - 1].seq || b->row[i].pos == b->row[i - 1].pos + 1);
}

enum err step_run(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    const int most = e->forward->decode_rows < e->max_tok ? e->forward->decode_rows : e->max_tok;
    const int64_t t0 = clock_ns();
    enum err err = OK;
    check_order(b);
    for (int at = 0; at < b->n_row && err == OK; at += most)
        err = step_rows(e, b, at, b->n_row - at < most ? b->n_row - at : most, out->row + at);
    const int64_t t1 = clock_ns();
    if (b->n_piece) memset(out->drew, 0, (size_t)b->n_piece);
    if (err == OK) err = step_pieces(e, b, out);
    err = e->forward->end(e, err, out, note);
    out->decode_ns = t1 - t0;
    out->prefill_ns = clock_ns() - t1;
    return err;
}
