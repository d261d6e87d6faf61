/* prefix_internal: the tree of the prefix cache, as its files see it: prefix.c finds and shares,
 * prefix_fill.c fills, prefix_node.c keeps the nodes and evicts. */
#ifndef FLUXD_SCHEDULER_PREFIX_INTERNAL_H
#define FLUXD_SCHEDULER_PREFIX_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "engine/batch.h"
#include "scheduler/prefix.h"

struct prefix_node {
    struct prefix_node *up;   /* the page before; NULL: this is a prompt's first */
    struct prefix_node *next; /* of the same bucket, or free */
    struct prefix_fill *fill; /* it is being written for this one, and not in the index */
    struct list age;          /* in prefix.age: oldest last */
    struct list loose;        /* in prefix.loose, oldest last, or alone */
    struct hash128 hash;
    int block, n_under; /* its children */
    bool whole;         /* has the pages of all layers */
    bool resume;        /* prompts end, branch or go on so near behind it that they need all its pages */
    uint32_t key_id;    /* of a first page: whose */
    char *salt;         /* of a first page: NULL: none */
    float *sum;         /* [L][n_sum] where block is the last that the router's sum needs; NULL: none */
    uint8_t *has_sum;   /* [L], with sum */
    int32_t *page;      /* [L] -1: none */
    uint8_t *route;     /* [L] all OPEN: the page is the same under every route */
    int32_t tok[PAGE_TOK];
};

/* What a prompt in prefill adds: nodes of blocks [from, from + n). */
struct prefix_fill {
    bool on;
    int from, n;
    struct prefix_node **node; /* [max_blocks] */
    float *sum;                /* [L][n_sum] */
    uint8_t *has_sum;          /* [L] */
    uint8_t *due; /* [L] route of the hit it goes on from: a node may be gone before its pages are */
    uint32_t key_id;
    char *salt;
};

struct prefix {
    struct prefix_conf c;
    int n_node, n_used;       /* nodes in all, nodes taken */
    int sum_block;            /* node whose prefix holds the router's first P rows */
    struct prefix_node *node; /* [n_node] */
    int32_t *page;            /* [n_node][L], likewise: the nodes' */
    uint8_t *route;
    struct prefix_node *free;
    struct prefix_node **bucket; /* [mask + 1] */
    uint64_t mask;
    struct list age, loose;
    struct prefix_fill *fill; /* [max_seqs] */
    struct hash128 *hash;     /* [max_blocks] scratch */
    uint8_t key[16];
    uint64_t evicted;
};

/* Blocks that pages could be kept of, if all were of one prompt. */
static inline int prefix_blocks_most(const struct prefix_conf *c)
{
    return c->max_pages / c->n_layer * (c->codes ? 2 : 1);
}

struct hash128 prefix_hash_first(const struct prefix *p, uint32_t key_id,
                                 const char *salt);  /* what the first page's hash follows */
bool prefix_same_salt(const char *a, const char *b); /* NULL equals only NULL */
struct hash128 prefix_hash_page(const struct prefix *p, struct hash128 before, const int32_t *tok);

struct prefix_node *
prefix_node_new(struct prefix *p,
                struct prefix_node *up); /* youngest; oldest ones may go for it; NULL: none to be had */
void prefix_node_free(struct prefix *p, struct prefix_node *n);  /* it has no children */
void prefix_node_touch(struct prefix *p, struct prefix_node *n); /* it and all before it are the youngest */
void prefix_node_index(struct prefix *p, struct prefix_node *n);
void prefix_node_mark(struct prefix *p, struct prefix_node *n,
                      int n_block);        /* prompts go on behind it, or up to n_block blocks before */
bool prefix_give_up_one(struct prefix *p); /* false: nothing is left */

#endif
