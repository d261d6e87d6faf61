/* fake_engine: see fake_engine.h. */
#include "tests/fake_engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

struct cursor {
    const int32_t *tok;
    int            layer, at;
};

struct engine {
    struct fake_conf   c;
    struct engine_info info;
    struct cursor     *cur;  /* [max_seqs] */
    uint64_t          *content; /* [n_page] whose block of which layer was written there */
    int               *step_owner; /* [n_page] slot that used the page in this step, + 1 */
    int                steps;
};

struct engine *fake_open(const struct fake_conf *c)
{
    struct engine *e = calloc(1, sizeof *e);
    e->c = *c;
    e->cur = calloc((size_t)c->max_seqs, sizeof *e->cur);
    e->content = calloc((size_t)c->n_page, sizeof *e->content);
    e->step_owner = calloc((size_t)c->n_page, sizeof *e->step_owner);
    e->info = (struct engine_info){.name = "fake", .n_layer = c->n_layer, .n_vocab = 1000, .n_head = 4, .n_kv = 2, .head = 16,
                                   .d_model = 64, .max_len = c->max_len, .max_seqs = c->max_seqs, .max_prefill_tok = c->max_prefill_tok,
                                   .chunk_tok = c->chunk_tok, .n_page = c->n_page, .page_bytes = 1024, .has_router = c->has_router,
                                   .sink_blocks = c->sink_blocks, .local_blocks = c->local_blocks, .sparse_streams = c->sparse_streams};
    return e;
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    free(e->cur);
    free(e->step_owner);
    free(e->content);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e) { return &e->info; }
int                       fake_steps(const struct engine *e) { return e->steps; }

int32_t fake_token(const int32_t *tok, int n)
{
    uint64_t h = 1469598103934665603ull;
    for (int i = 0; i < n; i++)
        h = (h ^ (uint64_t)(uint32_t)tok[i]) * 1099511628211ull;
    return (int32_t)(h >> 20) & 511;
}

uint8_t fake_bit(const int32_t *tok, int n_prompt, int layer)
{
    return (fake_token(tok, n_prompt) + layer * 3) % 5 < 2 ? ROUTE_FULL : ROUTE_SPARSE;
}

uint8_t fake_bit_moved(const int32_t *tok, int n_prompt, int layer, float bias)
{
    float margin = fake_bit(tok, n_prompt, layer) == ROUTE_FULL ? 1 : -1;
    return margin + bias > 0 ? ROUTE_FULL : ROUTE_SPARSE;
}

static uint64_t content_of(const struct batch_seq *s, int layer, int block)
{
    return (uint64_t)(uintptr_t)s->tok * 1000003u + (uint64_t)layer * 65536u + (uint64_t)block;
}

static void write_page(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    int32_t p = s->page[(int64_t)layer * s->page_stride + block];
    CHECK(p >= 0 && p < e->c.n_page);
    e->content[p] = content_of(s, layer, block);
}

/* The page is there, in range, holds what was written for it, and no other sequence holds it in this step. */
static void use_page(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    int32_t p = s->page[(int64_t)layer * s->page_stride + block];
    CHECK(p >= 0 && p < e->c.n_page);
    CHECK(e->step_owner[p] == 0 || e->step_owner[p] == s->slot + 1);
    CHECK(e->content[p] == content_of(s, layer, block));
    e->step_owner[p] = s->slot + 1;
}

/* Everything the query block `i` of this layer may read. */
static void use_visible(struct engine *e, const struct batch_seq *s, int layer, int i, bool full)
{
    for (int b = 0; b <= i; b++)
        if (full || b < e->c.sink_blocks || b > i - e->c.local_blocks)
            use_page(e, s, layer, b);
}

static void run_piece(struct engine *e, struct batch_piece *p)
{
    struct batch_seq *s = p->seq;
    struct cursor    *c = &e->cur[s->slot];
    if (p->layer0 == 0 && p->tok0 == 0)
        *c = (struct cursor){.tok = s->tok};
    CHECK(c->tok == s->tok && c->layer == p->layer0 && c->at == p->tok0);
    CHECK(p->tok1 > p->tok0 && p->tok1 <= s->n_prompt && p->tok1 - p->tok0 <= e->c.chunk_tok);
    CHECK(p->layer1 > p->layer0 && p->layer1 <= e->c.n_layer);
    CHECK(p->layer1 == p->layer0 + 1 || (p->tok0 == 0 && p->tok1 == s->n_prompt));
    CHECK(p->tok1 == s->n_prompt || p->tok1 % PAGE_TOK == 0);
    for (int l = p->layer0; l < p->layer1; l++) {
        if (p->tok0 == 0 && s->route[l] == ROUTE_OPEN) {
            CHECK(e->c.has_router);
            s->route[l] = batch_must_be_full(s, NULL, l, e->c.n_layer) ? ROUTE_FULL : fake_bit_moved(s->tok, s->n_prompt, l, s->route_bias);
        }
        bool full = s->route[l] == ROUTE_FULL || !e->c.sparse_streams;
        for (int b = p->tok0 / PAGE_TOK; b <= (p->tok1 - 1) / PAGE_TOK; b++) {
            write_page(e, s, l, b);
            use_visible(e, s, l, b, full);
        }
    }
    bool done = p->tok1 == s->n_prompt;
    c->layer = done ? p->layer1 : p->layer0;
    c->at = done ? 0 : p->tok1;
}

static void draw(const struct engine *e, const struct sample_row *r, struct sample_out *o)
{
    memset(o, 0, sizeof *o);
    o->id = fake_token(r->hist, r->n_hist);
    o->bad = o->id == e->c.bad_token;
}

enum err engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    if (++e->steps == e->c.fail_at_step)
        return err_set(note, ERR_DEVICE, NULL, "the device broke");
    memset(e->step_owner, 0, (size_t)e->c.n_page * sizeof *e->step_owner);
    for (int i = 0; i < b->n_row; i++) {
        const struct batch_row *r = &b->row[i];
        CHECK(r->pos >= r->seq->n_prompt && r->pos < e->c.max_len && r->sample.pos == r->sample.n_hist);
        for (int l = 0; l < e->c.n_layer; l++) {
            CHECK(r->seq->route[l] != ROUTE_OPEN);
            if (r->pos % PAGE_TOK == 0) /* the block begins; else what stands there is kept */
                write_page(e, r->seq, l, r->pos / PAGE_TOK);
            use_visible(e, r->seq, l, r->pos / PAGE_TOK, r->seq->route[l] == ROUTE_FULL);
        }
        draw(e, &r->sample, &out->row[i]);
    }
    for (int i = 0; i < b->n_piece; i++) {
        run_piece(e, &b->piece[i]);
        out->drew[i] = b->piece[i].layer1 == e->c.n_layer && b->piece[i].tok1 == b->piece[i].seq->n_prompt;
        if (out->drew[i])
            draw(e, &b->piece[i].sample, &out->piece[i]);
    }
    if (e->c.step_us)
        usleep((unsigned)e->c.step_us);
    out->decode_ns = b->n_row ? 1000000 : 0;
    out->prefill_ns = b->n_piece ? 1000000 : 0;
    return OK;
}

enum err engine_page_read(struct engine *e, int32_t page, void *to)
{
    CHECK(page >= 0 && page < e->c.n_page);
    memcpy(to, &e->content[page], sizeof e->content[page]);
    return OK;
}

enum err engine_page_write(struct engine *e, int32_t page, const void *from)
{
    CHECK(page >= 0 && page < e->c.n_page);
    memcpy(&e->content[page], from, sizeof e->content[page]);
    return OK;
}

void engine_drop(struct engine *e, int slot) { e->cur[slot] = (struct cursor){0}; }
