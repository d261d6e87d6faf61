/* memory: sizes from one list of buffers; residual streams in blocks, so that any mix of prompt lengths fits.
 */
#include "engine/memory.h"

#include <stdlib.h>

#include "base/check.h"
#include "kernels/quant.h"

static const int64_t POOL_LEAVES = 2LL << 30; /* of a device, to work lists, graphs and the libraries */

int64_t memory_page_bytes(const struct backend *b, const struct spec *s)
{
    return (int64_t)s->n_kv * 2 * PAGE_TOK * s->head * quant_type(b->kv)->block_bytes;
}

int64_t memory_exp_bytes(const struct spec *s) { return (int64_t)s->n_kv * 2 * PAGE_TOK * 2; }

int64_t memory_pages_most(const struct spec *s, int max_seqs, int max_len)
{
    return (int64_t)max_seqs * s->n_layer * ((max_len + PAGE_TOK - 1) / PAGE_TOK);
}

static enum err stream_open(struct memory *m, struct backend *b, const struct memory_conf *c)
{
    m->max_seqs = c->max_seqs;
    m->blocks_per_seq = (c->max_len + PAGE_TOK - 1) / PAGE_TOK;
    m->n_block = m->n_free =
        c->stream_tok / PAGE_TOK + c->max_seqs; /* every prompt may leave one block part empty */
    m->stream_bytes = (int64_t)m->n_block * PAGE_TOK * m->row_bytes;
    m->stream = b->mem_new(b, m->stream_bytes);
    m->block = malloc((size_t)m->max_seqs * (size_t)m->blocks_per_seq * sizeof *m->block);
    m->free_block = malloc((size_t)m->n_block * sizeof *m->free_block);
    if (!m->stream || !m->block || !m->free_block) return ERR_NOMEM;
    for (int64_t i = 0; i < (int64_t)m->max_seqs * m->blocks_per_seq; i++) m->block[i] = -1;
    for (int i = 0; i < m->n_block; i++) m->free_block[i] = m->n_block - 1 - i;
    m->workspace_bytes += m->stream_bytes;
    return OK;
}

static enum err open_workspaces(struct memory *m, struct backend *b, const struct spec *s,
                                const struct memory_conf *c, struct err_note *note)
{
    int64_t act = quant_type(b->act)->block_bytes, left = b->mem_left(b);
    bool ok = true;
#define MEMORY_NEW(name, rows, cols, elem)                                                                   \
    m->name##_bytes = (int64_t)(rows) * (cols) * (elem);                                                     \
    m->workspace_bytes += m->name##_bytes;                                                                   \
    ok = (m->name = b->mem_new(b, m->name##_bytes)) && ok;
    MEMORY_BUFFERS(MEMORY_NEW)
#undef MEMORY_NEW
    ok = stream_open(m, b, c) == OK && ok;
    if (ok) return OK;
    if (backend_on_host(b)) return err_set(note, ERR_NOMEM, NULL, "no memory for workspaces");
    return err_set(
        note, ERR_CONFIG, "--prefill-chunk-tokens",
        "workspaces of %lld MiB do not fit the %lld MiB of the device that are free beside the weights: lower --prefill-chunk-tokens, --max-model-len or "
        "--max-num-seqs",
        (long long)m->workspace_bytes >> 20, (long long)left >> 20);
}

static enum err open_pool(struct memory *m, struct backend *b, const struct spec *s,
                          const struct memory_conf *c, struct err_note *note)
{
    const bool on_host = backend_on_host(b);
    int64_t left = b->mem_left(b), want = c->pool_bytes || on_host ? c->pool_bytes : left - POOL_LEAVES;
    int64_t most = memory_pages_most(s, c->max_seqs, c->max_len);
    const int64_t wide = c->n_wide * m->page_bytes, each = m->page_bytes + m->exp_bytes;
    if (!c->pool_bytes && !on_host) want -= wide;
    int64_t n = (want > 0 ? want : 0) / each;
    if (!c->pool_bytes && !on_host && n < s->n_layer)
        return err_set(
            note, ERR_CONFIG, "--gpu-memory-utilization",
            "of the part of the device's memory that may be taken %lld MiB are left beside weights and workspaces, of which %lld are kept for graphs and libraries: "
            "no room for KV pages; raise it, lower --prefill-chunk-tokens or --max-model-len, or end what else holds the device's memory",
            (long long)left >> 20, (long long)POOL_LEAVES >> 20);
    m->n_page = (int)(n < most ? n : most < INT32_MAX ? most : INT32_MAX);
    m->n_wide = c->n_wide;
    m->workspace_bytes += wide;
    m->pool = b->mem_new(b, (m->n_page + m->n_wide) * m->page_bytes);
    if (c->codes) m->exp = b->mem_new(b, m->n_page * m->exp_bytes);
    if (m->pool && (m->exp || !c->codes)) return OK;
    if (on_host)
        return err_set(note, ERR_CONFIG, "--kv-pool-bytes", "no memory for a KV pool of %lld bytes: lower it",
                       (long long)c->pool_bytes);
    return err_set(
        note, ERR_CONFIG, "--kv-pool-bytes",
        "a KV pool of %lld MiB does not fit the %lld MiB of the device that are free beside weights and workspaces: lower it",
        (long long)(m->n_page * each + wide) >> 20, (long long)left >> 20);
}

enum err memory_open(struct memory *m, struct backend *b, const struct spec *s, const struct memory_conf *c,
                     struct err_note *note)
{
    *m = (struct memory){.row_bytes = s->d * (int64_t)quant_type(b->act)->block_bytes};
    m->page_bytes = memory_page_bytes(b, s);
    m->exp_bytes = c->codes ? memory_exp_bytes(s) : 0;
    enum err err = open_workspaces(m, b, s, c, note);
    return err == OK ? open_pool(m, b, s, c, note) : err;
}

void memory_close(struct memory *m, struct backend *b)
{
#define MEMORY_FREE(name, rows, cols, elem) b->mem_free(b, m->name, m->name##_bytes);
    MEMORY_BUFFERS(MEMORY_FREE)
#undef MEMORY_FREE
    b->mem_free(b, m->pool, (m->n_page + m->n_wide) * m->page_bytes);
    b->mem_free(b, m->exp, m->n_page * m->exp_bytes);
    b->mem_free(b, m->stream, m->stream_bytes);
    free(m->block);
    free(m->free_block);
    *m = (struct memory){0};
}

static int32_t *block_of(const struct memory *m, int slot, int tok)
{
    CHECK(slot >= 0 && slot < m->max_seqs && tok >= 0 && tok / PAGE_TOK < m->blocks_per_seq);
    return &m->block[(int64_t)slot * m->blocks_per_seq + tok / PAGE_TOK];
}

static int block_end(int tok, int tok1)
{
    int end = (tok / PAGE_TOK + 1) * PAGE_TOK;
    return end < tok1 ? end : tok1;
}

static char *row_at(const struct memory *m, int32_t block, int tok)
{
    return (char *)m->stream + ((int64_t)block * PAGE_TOK + tok % PAGE_TOK) * m->row_bytes;
}

/* Rows from t on that lie side by side in the stream as they do in the sequence: one move carries them. */
static int run_end(const struct memory *m, int slot, int t, int tok1)
{
    int32_t block = *block_of(m, slot, t);
    int end = block_end(t, tok1);
    while (end < tok1 && *block_of(m, slot, end) == ++block) end = block_end(end, tok1);
    return end;
}

void memory_stream_put(struct memory *m, struct backend *b, int slot, int tok0, int tok1, const void *rows)
{
    const char *from = rows;
    for (int t = tok0; t < tok1; t = block_end(t, tok1)) {
        int32_t *block = block_of(m, slot, t);
        if (*block >= 0) continue;
        CHECK(m->n_free > 0); /* the caller keeps to max_prefill_tok */
        *block = m->free_block[--m->n_free];
    }
    for (int t = tok0, end; t < tok1; t = end) {
        end = run_end(m, slot, t, tok1);
        b->move(b, row_at(m, *block_of(m, slot, t), t), from, (end - t) * m->row_bytes);
        from += (end - t) * m->row_bytes;
    }
}

void memory_stream_get(const struct memory *m, struct backend *b, int slot, int tok0, int tok1, void *rows)
{
    char *to = rows;
    for (int t = tok0, end; t < tok1; t = end) {
        int32_t block = *block_of(m, slot, t);
        CHECK(block >= 0); /* pieces come in order */
        end = run_end(m, slot, t, tok1);
        b->move(b, to, row_at(m, block, t), (end - t) * m->row_bytes);
        to += (end - t) * m->row_bytes;
    }
}

void memory_stream_drop(struct memory *m, int slot)
{
    for (int i = m->blocks_per_seq - 1; i >= 0; i--) { /* so that the next prompt takes them in their order */
        int32_t *block = block_of(m, slot, i * PAGE_TOK);
        if (*block >= 0) m->free_block[m->n_free++] = *block;
        *block = -1;
    }
}
