/* fake_engine: see fake_engine.h. */
#include "tests/fake_engine.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum { POOL = 50, HEAD = 16, BLOCKS_MOST = 64, MANY = -1 };

struct cursor {
    const int32_t *tok;
    int layer, at;
    int n_hash;                     /* of hash, made so far */
    uint64_t hash[BLOCKS_MOST + 1]; /* of the tokens before a block */
};

struct engine {
    struct fake_conf c;
    struct engine_info info;
    struct cursor *cur;   /* [max_seqs] */
    uint64_t *content;    /* [n_page][2 halves] whose block of which layer was written there; a whole page's
                             stands in the lower one */
    int *writer, *reader; /* likewise: slot that did so in this step, + 1; MANY; 0: none */
    atomic_int steps;     /* others than the engine thread look at it */
};

struct engine *fake_open(const struct fake_conf *c)
{
    struct engine *e = calloc(1, sizeof *e);
    e->c = *c;
    e->cur = calloc((size_t)c->max_seqs, sizeof *e->cur);
    e->content = calloc(2 * (size_t)c->n_page, sizeof *e->content);
    e->writer = calloc(2 * (size_t)c->n_page, sizeof *e->writer);
    e->reader = calloc(2 * (size_t)c->n_page, sizeof *e->reader);
    CHECK(c->max_len <= BLOCKS_MOST * PAGE_TOK && !(c->codes && c->common_blocks));
    e->info = (struct engine_info){.name = "fake",
                                   .n_layer = c->n_layer,
                                   .n_vocab = 1000,
                                   .n_head = 4,
                                   .n_kv = 2,
                                   .head = HEAD,
                                   .router_pool_size = POOL,
                                   .resumes = c->resumes,
                                   .common_blocks = c->common_blocks,
                                   .kv_codes = c->codes,
                                   .tail_tok = c->tail_tok,
                                   .d_model = 64,
                                   .max_len = c->max_len,
                                   .max_seqs = c->max_seqs,
                                   .max_prefill_tok = c->max_prefill_tok,
                                   .chunk_tok = c->chunk_tok,
                                   .n_page = c->n_page,
                                   .page_bytes = 1024,
                                   .has_router = c->has_router,
                                   .sink_blocks = c->sink_blocks,
                                   .local_blocks = c->local_blocks,
                                   .sparse_streams = c->sparse_streams};
    return e;
}

void engine_close(struct engine *e)
{
    if (!e) return;
    free(e->cur);
    free(e->writer);
    free(e->reader);
    free(e->content);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e) { return &e->info; }
int fake_steps(const struct engine *e) { return atomic_load(&e->steps); }

int32_t fake_token(const int32_t *tok, int n)
{
    uint64_t h = 1469598103934665603ull;
    for (int i = 0; i < n; i++) h = (h ^ (uint64_t)(uint32_t)tok[i]) * 1099511628211ull;
    return (int32_t)(h >> 20) & 511;
}

static int head_of(int n_prompt) { return n_prompt < POOL ? n_prompt : POOL; }

static uint8_t bit_of(int first, const int32_t *tok, int n_prompt, int layer)
{
    int n = head_of(n_prompt);
    return (first + (fake_token(tok + n_prompt - n, n) % 4 == 0) + layer * 3) % 5 < 2 ? ROUTE_FULL
                                                                                      : ROUTE_SPARSE;
}

uint8_t fake_bit(const int32_t *tok, int n_prompt, int layer)
{
    return bit_of(fake_token(tok, head_of(n_prompt)), tok, n_prompt, layer);
}

uint8_t fake_bit_moved(const int32_t *tok, int n_prompt, int layer, float bias)
{
    float margin = fake_bit(tok, n_prompt, layer) == ROUTE_FULL ? 1 : -1;
    return margin + bias > 0 ? ROUTE_FULL : ROUTE_SPARSE;
}

/* --- what stands in a page */

static uint64_t mix(uint64_t h, uint64_t x) { return (h ^ x) * 1099511628211ull; }

static uint64_t hash_tok(uint64_t h, const int32_t *tok, int from, int to)
{
    for (int i = from; i < to; i++) h = mix(h, (uint64_t)(uint32_t)tok[i] + 1);
    return h;
}

static uint64_t hash_before(struct cursor *c, const struct batch_seq *s, int block)
{
    c->hash[0] = 14695981039346656037ull;
    for (; c->n_hash < block; c->n_hash++)
        c->hash[c->n_hash + 1] =
            hash_tok(c->hash[c->n_hash], s->tok, c->n_hash * PAGE_TOK, (c->n_hash + 1) * PAGE_TOK);
    return c->hash[block];
}

/* All prompt tokens up to its end, or that a generated one opened it; the bits of the layers below; where the
 * kind looks at the prompt's end, that. */
static uint64_t content_of(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    struct cursor *c = &e->cur[s->slot];
    int from = block * PAGE_TOK, to = from + PAGE_TOK < s->n_prompt ? from + PAGE_TOK : s->n_prompt;
    uint64_t h = hash_before(c, s, block);
    if (to == from + PAGE_TOK)
        h = hash_before(c, s, block + 1);
    else
        h = mix(hash_tok(h, s->tok, from, to), from < to ? 1 : 2);
    if (from < to && to > s->n_prompt - e->c.tail_tok) h = mix(h, (uint64_t)s->n_prompt);
    for (int l = 0; l < layer && block >= e->c.common_blocks; l++) h = mix(h, s->route[l]);
    return mix(h, (uint64_t)layer * BLOCKS_MOST + (uint64_t)block);
}

/* A block's place in content, and how many it takes. */
struct place {
    int at, n;
};

static struct place place_of(const struct engine *e, const struct batch_seq *s, int layer, int block)
{
    const int32_t *page = s->page + (int64_t)layer * s->page_stride;
    const bool codes = e->c.codes && s->route[layer] == ROUTE_FULL;
    const int32_t p = codes ? batch_code_page(page, s->n_cached / PAGE_TOK, block) : page[block];
    CHECK(p >= 0 && page_id(p) < e->c.n_page && page_has_codes(p) == codes);
    CHECK(!codes || page_half(p) % 2 == block % 2);
    return codes ? (struct place){page_half(p), 1} : (struct place){2 * p, 2};
}

static uint64_t held(uint64_t content, const struct place *p) { return mix(content, (uint64_t)p->n); }

/* Nobody else has it in this step. */
static void append_page(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    const struct place p = place_of(e, s, layer, block);
    CHECK(block >= s->n_cached / PAGE_TOK);
    for (int i = p.at; i < p.at + p.n; i++) {
        CHECK((e->writer[i] == 0 || e->writer[i] == s->slot + 1) &&
              (e->reader[i] == 0 || e->reader[i] == s->slot + 1));
        e->writer[i] = s->slot + 1;
    }
}

static void write_page(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    const struct place p = place_of(e, s, layer, block);
    append_page(e, s, layer, block);
    for (int i = p.at; i < p.at + p.n; i++) e->content[i] = 0;
    e->content[p.at] = held(content_of(e, s, layer, block), &p);
}

/* The page is there, in range, holds what was written for it, and nobody else writes it in this step. */
static void use_page(struct engine *e, const struct batch_seq *s, int layer, int block)
{
    const struct place p = place_of(e, s, layer, block);
    CHECK(e->content[p.at] == held(content_of(e, s, layer, block), &p));
    for (int i = p.at; i < p.at + p.n; i++) {
        CHECK(e->writer[i] == 0 || e->writer[i] == s->slot + 1);
        CHECK(e->c.resumes || e->reader[i] == 0 || e->reader[i] == s->slot + 1);
        e->reader[i] = e->reader[i] == 0 || e->reader[i] == s->slot + 1 ? s->slot + 1 : MANY;
    }
}

/* Everything the query block `i` of this layer may read. */
static void use_visible(struct engine *e, const struct batch_seq *s, int layer, int i, bool full)
{
    for (int b = 0; b <= i; b++)
        if (full || b < e->c.sink_blocks || b > i - e->c.local_blocks) use_page(e, s, layer, b);
}

/* What the router of a layer sums of the first rows: those depend on the bits below, unless all routes have
 * them in common. */
static float sum_of(const struct engine *e, const struct batch_seq *s, int layer)
{
    int n = head_of(s->n_prompt), first = fake_token(s->tok, n);
    for (int l = 0; l < layer && e->c.common_blocks == 0; l++) first += s->route[l] << (9 + l);
    return (float)first;
}

static void decide(const struct engine *e, struct batch_seq *s, int layer)
{
    float *kept = s->head_sum ? s->head_sum + (int64_t)layer * HEAD : NULL;
    CHECK(e->c.has_router);
    CHECK(s->n_cached == 0 || (kept && s->n_cached >= POOL && s->n_cached <= s->n_prompt - POOL &&
                               kept[0] == sum_of(e, s, layer)));
    if (kept) kept[0] = sum_of(e, s, layer);
    s->route[layer] = batch_must_be_full(s, NULL, layer, e->c.n_layer)
                          ? ROUTE_FULL
                          : fake_bit_moved(s->tok, s->n_prompt, layer, s->route_bias);
    s->strayed = s->n_cached > 0 && s->due[layer] != ROUTE_OPEN && s->route[layer] != s->due[layer];
}

/* Rows of blocks that every route has in common say the same under each; a kind that looks at the prompt's
 * end knows it there. */
float fake_score(const struct fake_conf *c, const int32_t *tok, int n_prompt, const uint8_t *route, int t)
{
    uint64_t h = hash_tok(1469598103934665603ull, tok, 0, t + 2);
    for (int l = 0; l < c->n_layer && t / PAGE_TOK >= c->common_blocks; l++) h = mix(h, route[l]);
    if (t >= n_prompt - c->tail_tok) h = mix(h, (uint64_t)n_prompt);
    return (float)(h >> 44);
}

static void score_piece(const struct engine *e, const struct batch_piece *p)
{
    for (int t = p->tok0; t < p->tok1 && t + 1 < p->seq->n_prompt; t++)
        p->prompt_out[t + 1] = (struct sample_out){
            .id = p->seq->tok[t + 1],
            .logprob = fake_score(&e->c, p->seq->tok, p->seq->n_prompt, p->seq->route, t)};
}

static void run_piece(struct engine *e, struct batch_piece *p)
{
    struct batch_seq *s = p->seq;
    struct cursor *c = &e->cur[s->slot];
    int from = s->n_cached;
    CHECK(!s->strayed && from % PAGE_TOK == 0 && from < s->n_prompt && (from == 0 || e->c.resumes));
    if (p->layer0 == 0 && p->tok0 == from) *c = (struct cursor){.tok = s->tok, .at = from};
    CHECK(c->tok == s->tok && c->layer == p->layer0 && c->at == p->tok0);
    CHECK(p->tok1 > p->tok0 && p->tok1 <= s->n_prompt && p->tok1 - p->tok0 <= e->c.chunk_tok);
    CHECK(p->layer1 > p->layer0 && p->layer1 <= e->c.n_layer);
    CHECK(p->layer1 == p->layer0 + 1 || (p->tok0 == from && p->tok1 == s->n_prompt));
    CHECK(p->tok1 == s->n_prompt || p->tok1 % PAGE_TOK == 0);
    for (int l = p->layer0; l < p->layer1; l++) {
        if (p->tok0 == from && s->route[l] == ROUTE_OPEN) decide(e, s, l);
        if (s->strayed) return;
        CHECK(from == 0 || s->due[l] == ROUTE_OPEN || s->route[l] == s->due[l]);
        bool full = s->route[l] == ROUTE_FULL || !e->c.sparse_streams;
        for (int b = p->tok0 / PAGE_TOK; b <= (p->tok1 - 1) / PAGE_TOK; b++) {
            write_page(e, s, l, b);
            use_visible(e, s, l, b, full);
        }
    }
    if (p->prompt_out && p->layer1 == e->c.n_layer) score_piece(e, p);
    bool done = p->tok1 == s->n_prompt;
    c->layer = done ? p->layer1 : p->layer0;
    c->at = done ? from : p->tok1;
}

static bool may_come(const struct sample_row *r, int32_t id)
{
    for (int i = 0; i < r->n_ban; i++)
        if (r->ban_id[i] == id) return false;
    return r->mask[id / 32] >> id % 32 & 1;
}

/* Under a mask, the next token up from its own that may come. */
static void draw(const struct engine *e, const struct sample_row *r, struct sample_out *o)
{
    const int V = e->info.n_vocab;
    memset(o, 0, sizeof *o);
    o->id = r->force_id >= 0 ? r->force_id : fake_token(r->hist, r->n_hist);
    for (int i = 0; r->mask && !may_come(r, o->id) && !o->none; i++) {
        o->id = (o->id + 1) % V;
        o->bad = o->none = i == V;
    }
    if (o->none) return;
    o->bad = o->id == e->c.bad_token;
}

enum err engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    if (atomic_fetch_add(&e->steps, 1) + 1 == e->c.fail_at_step)
        return err_set(note, ERR_DEVICE, NULL, "the device broke");
    memset(e->writer, 0, 2 * (size_t)e->c.n_page * sizeof *e->writer);
    memset(e->reader, 0, 2 * (size_t)e->c.n_page * sizeof *e->reader);
    if (b->masks) b->masks(b->masks_arg);
    for (int i = 0; i < b->n_row; i++) {
        const struct batch_row *r = &b->row[i];
        CHECK(r->pos >= r->seq->n_prompt && r->pos < e->c.max_len && r->sample.pos == r->sample.n_hist);
        for (int l = 0; l < e->c.n_layer; l++) {
            CHECK(r->seq->route[l] != ROUTE_OPEN);
            if (r->pos % PAGE_TOK == 0) /* the block begins; else what stands there is kept */
                write_page(e, r->seq, l, r->pos / PAGE_TOK);
            else
                append_page(e, r->seq, l, r->pos / PAGE_TOK);
            use_visible(e, r->seq, l, r->pos / PAGE_TOK, r->seq->route[l] == ROUTE_FULL);
        }
        draw(e, &r->sample, &out->row[i]);
    }
    for (int i = 0; i < b->n_piece; i++) {
        run_piece(e, &b->piece[i]);
        out->drew[i] = b->piece[i].layer1 == e->c.n_layer && b->piece[i].tok1 == b->piece[i].seq->n_prompt;
        if (out->drew[i]) draw(e, &b->piece[i].sample, &out->piece[i]);
    }
    if (e->c.step_us) usleep((unsigned)e->c.step_us);
    out->decode_ns = b->n_row ? 1000000 : 0;
    out->prefill_ns = b->n_piece ? 1000000 : 0;
    return OK;
}

/* The first bytes of page_bytes, or of half of them, stand for all. */
static uint64_t *named_by(struct engine *e, int32_t entry)
{
    CHECK(page_id(entry) >= 0 && page_id(entry) < e->c.n_page);
    return &e->content[page_has_codes(entry) ? page_half(entry) : 2 * entry];
}

enum err engine_page_read(struct engine *e, int32_t page, void *to)
{
    memcpy(to, named_by(e, page), sizeof *e->content);
    return OK;
}

enum err engine_page_write(struct engine *e, int32_t page, const void *from)
{
    memcpy(named_by(e, page), from, sizeof *e->content);
    return OK;
}

void engine_drop(struct engine *e, int slot) { e->cur[slot] = (struct cursor){0}; }
