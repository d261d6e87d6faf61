/* prefix: the prefix cache. Which KV pages hold which tokens under which route, beyond the life of the
 * request that wrote them. Engine thread only; allocates everything at open but the routers' sums.
 *
 * A node is one full page of prompt tokens in all layers, under one route, or under all while those cannot
 * differ yet; its parent is the node of the page before it. Nodes are found by a chained keyed hash and
 * believed only after key, salt and tokens were compared. A page kept here has no owner: it is
 * evicted when a request needs it, oldest nodes first, and before them the pages of sparse layers behind
 * which no prompt ended or branched yet. A node is at least as recent as its children, so only leaves are
 * evicted. */
#ifndef FLUXD_SCHEDULER_PREFIX_H
#define FLUXD_SCHEDULER_PREFIX_H

#include <stddef.h>

#include "base/err.h"
#include "scheduler/kvmap.h"

struct prefix;
struct prefix_conf {
    int n_layer, max_seqs, max_blocks; /* blocks: of the longest sequence */
    int sink_blocks, local_blocks;
    int common_blocks; /* leading blocks whose pages are the same under every route */
    bool streams;      /* sparse layers read only sink and window in prefill; else they need every page too */
    int n_sum;         /* floats of a router's sum; 0: no routers */
    int sum_tok;       /* tokens it is made of: the first P */
    int max_pages;     /* pages kept at most */
    bool codes;        /* a page holds two blocks of a full layer */
    bool hash_nothing; /* for tests: every hash is the same */
    struct kvpool *pool; /* borrowed */
};
enum err prefix_open(struct prefix **out, const struct prefix_conf *conf);
void prefix_close(struct prefix *p); /* frees its pages; NULL is fine */

/* A prompt as the cache sees it. */
struct prefix_ask {
    uint32_t key_id;  /* entries of other keys and salts are not seen */
    const char *salt; /* may be NULL: none */
    const int32_t *tok;
    int n_tok;            /* leading tokens that count here */
    const uint8_t *route; /* [L] enum route_bit; OPEN: any, where the sum that decides it is there */
};

struct prefix_node;
struct prefix_hit {
    struct prefix_node *node;
    int n_block; /* 0: nothing found */
};
/* The longest prefix after which a prompt can go on. Borrowed until the next call that may evict pages. */
struct prefix_hit prefix_find(struct prefix *p, const struct prefix_ask *ask);
const uint8_t *prefix_route(const struct prefix_hit *h); /* [L] under which its pages were written; all OPEN:
                                                            any would have written the same */

/* The pages that a prompt of this route which goes on behind the hit will read: into an empty map, which
 * becomes an owner of each. */
void prefix_share(struct prefix *p, const struct prefix_hit *h, const uint8_t *route, struct kvmap *map);

/* A prompt of this slot begins: what it computes behind the hit (node NULL: all) shall be kept. sum_layers:
 * of the sums of this slot's last run, those of so many layers still hold. */
void prefix_begin(struct prefix *p, int slot, const struct prefix_ask *ask, const struct prefix_hit *h,
                  int sum_layers);
const uint8_t *prefix_due(const struct prefix *p, int slot); /* [L] the hit's route, or nothing meant */
float *
prefix_sums(struct prefix *p,
            int slot); /* [L][n_sum] the hit's, or room for the engine to write them; NULL: no routers */
void prefix_note(struct prefix *p, int slot, int layer, int block0, int block1,
                 const struct kvmap *map); /* these are written */
void prefix_commit(struct prefix *p, int slot,
                   const uint8_t *route);     /* all of its prompt is: others may find it */
void prefix_drop(struct prefix *p, int slot); /* it was aborted; harmless where nothing was begun */

void prefix_make_room(struct prefix *p,
                      int n); /* evicts pages until n are free, or none is left; p NULL is fine */

struct prefix_count {
    int n_node, n_page; /* kept now */
    uint64_t evicted;   /* pages, ever: to make room; not copies or what was aborted */
};
struct prefix_count prefix_count(const struct prefix *p);
void prefix_check(const struct prefix *p); /* aborts unless lists, tree and pool agree */

#endif
