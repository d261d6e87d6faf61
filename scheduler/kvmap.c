/* kvmap: see kvmap.h. A dense table: a 128k sequence of 36 layers is 147 KB of ids, and the engine reads it
 * as it is. */
#include "scheduler/kvmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/batch.h"

bool kvmap_init(struct kvmap *m, int n_layer, int stride)
{
    *m = (struct kvmap){.n_layer = n_layer, .stride = stride, .stamp = 1};
    size_t n = (size_t)n_layer * (size_t)stride;
    m->page = malloc(n * sizeof *m->page);
    m->low = calloc((size_t)n_layer, sizeof *m->low);
    m->held = calloc((size_t)n_layer, sizeof *m->held);
    if (!m->page || !m->low || !m->held) {
        free(m->page);
        free(m->low);
        free(m->held);
        *m = (struct kvmap){0};
        return false;
    }
    memset(m->page, 0xff, n * sizeof *m->page);
    return true;
}

void kvmap_fini(struct kvmap *m)
{
    CHECK(m->n_held == 0);
    free(m->page);
    free(m->low);
    free(m->held);
    *m = (struct kvmap){0};
}

static int32_t *row(const struct kvmap *m, int layer) { return m->page + (int64_t)layer * m->stride; }

/* The other half of this entry's page stands at the block beside it. */
static bool has_twin(const struct kvmap *m, int layer, int block)
{
    const int32_t *p = row(m, layer);
    return page_has_codes(p[block]) && (block ^ 1) < m->stride && p[block ^ 1] == (p[block] ^ 1);
}

/* An odd block goes where the one before it is, if that is the sequence's own. */
static bool joins(const struct kvmap *m, int block, bool codes)
{
    return codes && block % 2 == 1 && block - 1 >= m->own;
}

int kvmap_lack(const struct kvmap *m, int layer, int block0, int block1, bool codes)
{
    const int32_t *p = row(m, layer);
    int n = 0;
    for (int i = block0; i < block1; i++)
        n += p[i] < 0 && !(joins(m, i, codes) && (i > block0 || page_has_codes(p[i - 1])));
    return n;
}

static void count(struct kvmap *m, int layer, int n)
{
    m->held[layer] += n;
    m->n_held += n;
}

bool kvmap_take(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1, bool codes)
{
    CHECK(layer >= 0 && layer < m->n_layer && block0 >= 0 && block1 <= m->stride);
    int n = kvmap_lack(m, layer, block0, block1, codes);
    if (n > kvpool_n_free(pool)) return false;
    int32_t *p = row(m, layer);
    for (int i = block0; i < block1; i++) {
        if (p[i] >= 0) continue;
        m->stamp++;
        if (joins(m, i, codes) && page_has_codes(p[i - 1])) {
            p[i] = p[i - 1] ^ 1;
            kvpool_share(pool, page_id(p[i]));
        } else {
            CHECK(kvpool_take(pool, 1, &p[i]));
            if (codes) p[i] = page_codes(p[i], i);
        }
    }
    count(m, layer, n);
    return true;
}

void kvmap_share(struct kvmap *m, struct kvpool *pool, int layer, int block, int32_t entry)
{
    CHECK(layer >= 0 && layer < m->n_layer && block >= 0 && block < m->stride && row(m, layer)[block] < 0);
    kvpool_share(pool, page_id(entry));
    row(m, layer)[block] = entry;
    count(m, layer, !has_twin(m, layer, block));
    if (block >= m->own) m->own = block + 1;
    m->stamp++;
}

int kvmap_settle(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1)
{
    int32_t *p = row(m, layer);
    int given = 0;
    for (int i = block0 > m->own ? block0 : m->own; i < block1; i++) {
        if (p[i] < 0 || page_has_codes(p[i])) continue;
        m->stamp++;
        if (joins(m, i, true)) {
            kvpool_give(pool, 1, &p[i]);
            p[i] = p[i - 1] ^ 1;
            kvpool_share(pool, page_id(p[i]));
            given++;
        } else {
            p[i] = page_codes(p[i], i);
        }
    }
    count(m, layer, -given);
    return given;
}

void kvmap_shared(struct kvmap *m)
{
    m->odd = 0;
    for (int l = 0; l < m->n_layer; l++) {
        const int32_t *p = row(m, l);
        if (m->own == 0 || !page_has_codes(p[0])) continue;
        for (int i = 0; i < m->own; i++) m->odd += i % 2 == 0 || !has_twin(m, l, i);
        m->odd -= m->own / 2;
    }
}

int kvmap_give_dead(struct kvmap *m, struct kvpool *pool, int layer, int sink_blocks, int local_blocks,
                    int next)
{
    int32_t *p = row(m, layer);
    int from = m->low[layer] > sink_blocks ? m->low[layer] : sink_blocks;
    int to = next - local_blocks + 1;
    int given = 0;
    for (int i = from; i < to && i < m->stride; i++) {
        if (p[i] < 0) continue;
        CHECK(!page_has_codes(p[i]));
        kvpool_give(pool, 1, &p[i]);
        p[i] = -1;
        given++;
    }
    if (to > m->low[layer]) m->low[layer] = to;
    count(m, layer, -given);
    return given;
}

int kvmap_give_all(struct kvmap *m, struct kvpool *pool)
{
    int given = 0;
    for (int l = 0; l < m->n_layer; l++) {
        int32_t *p = row(m, l);
        for (int i = 0; i < m->stride; i++) {
            if (p[i] < 0) continue;
            const int32_t id = page_id(p[i]);
            given += !has_twin(m, l, i);
            kvpool_give(pool, 1, &id);
            p[i] = -1;
        }
        m->low[l] = m->held[l] = 0;
    }
    CHECK(given == m->n_held);
    m->n_held = m->own = m->odd = 0;
    return given;
}
