/* kvmap: see kvmap.h. A dense table: a 128k sequence of 36 layers is 147 KB of ids, and the engine reads it
 * as it is. */
#include "scheduler/kvmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

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

int kvmap_lack(const struct kvmap *m, int layer, int block0, int block1)
{
    const int32_t *p = row(m, layer);
    int n = 0;
    for (int i = block0; i < block1; i++) n += p[i] < 0;
    return n;
}

bool kvmap_take(struct kvmap *m, struct kvpool *pool, int layer, int block0, int block1)
{
    CHECK(layer >= 0 && layer < m->n_layer && block0 >= 0 && block1 <= m->stride);
    int n = kvmap_lack(m, layer, block0, block1);
    if (n > kvpool_n_free(pool)) return false;
    int32_t *p = row(m, layer);
    for (int i = block0; i < block1; i++)
        if (p[i] < 0) CHECK(kvpool_take(pool, 1, &p[i]));
    m->held[layer] += n;
    m->n_held += n;
    m->stamp += n > 0;
    return true;
}

void kvmap_share(struct kvmap *m, struct kvpool *pool, int layer, int block, int32_t page)
{
    CHECK(layer >= 0 && layer < m->n_layer && block >= 0 && block < m->stride && row(m, layer)[block] < 0);
    kvpool_share(pool, page);
    row(m, layer)[block] = page;
    m->held[layer]++;
    m->n_held++;
    m->stamp++;
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
        kvpool_give(pool, 1, &p[i]);
        p[i] = -1;
        given++;
    }
    if (to > m->low[layer]) m->low[layer] = to;
    m->held[layer] -= given;
    m->n_held -= given;
    return given;
}

int kvmap_give_all(struct kvmap *m, struct kvpool *pool)
{
    int given = 0;
    for (int l = 0; l < m->n_layer; l++) {
        int32_t *p = row(m, l);
        for (int i = 0; i < m->stride; i++) {
            if (p[i] < 0) continue;
            kvpool_give(pool, 1, &p[i]);
            p[i] = -1;
            given++;
        }
        m->low[l] = m->held[l] = 0;
    }
    CHECK(given == m->n_held);
    m->n_held = 0;
    return given;
}
