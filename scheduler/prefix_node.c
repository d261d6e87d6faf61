/* prefix: see prefix.h. The nodes of the tree: their hashes, age, and who is evicted first. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "scheduler/prefix_internal.h"

/* --- hashes */

struct hash128 prefix_hash_first(const struct prefix *p, uint32_t key_id, const char *salt)
{
    struct hash128 h = salt ? hash128(p->key, salt, strlen(salt)) : (struct hash128){0};
    uint64_t word[4] = {h.lo, h.hi, key_id, salt != NULL};
    return p->c.hash_nothing ? (struct hash128){0} : hash128(p->key, word, sizeof word);
}

struct hash128 prefix_hash_page(const struct prefix *p, struct hash128 before, const int32_t *tok)
{
    struct {
        struct hash128 before;
        int32_t tok[PAGE_TOK];
    } part = {.before = before};
    memcpy(part.tok, tok, sizeof part.tok);
    return p->c.hash_nothing ? before : hash128(p->key, &part, sizeof part);
}

bool prefix_same_salt(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

/* --- nodes */

void prefix_node_index(struct prefix *p, struct prefix_node *n)
{
    struct prefix_node **at = &p->bucket[n->hash.lo & p->mask];
    n->next = *at;
    *at = n;
}

static void leave_index(struct prefix *p, struct prefix_node *n)
{
    struct prefix_node **at = &p->bucket[n->hash.lo & p->mask];
    while (*at != n) at = &(*at)->next;
    *at = n->next;
}

static void drop_page(struct prefix *p, struct prefix_node *n, int layer)
{
    if (n->page[layer] < 0) return;
    kvpool_drop(p->c.pool, page_id(n->page[layer]));
    n->page[layer] = -1;
}

void prefix_node_free(struct prefix *p, struct prefix_node *n)
{
    CHECK(n->n_under == 0);
    for (int l = 0; l < p->c.n_layer; l++) drop_page(p, n, l);
    list_remove(&n->age);
    list_remove(&n->loose);
    if (n->up) n->up->n_under--;
    free(n->salt);
    free(n->sum);
    free(n->has_sum);
    n->salt = NULL;
    n->sum = NULL;
    n->has_sum = NULL;
    n->next = p->free;
    p->free = n;
    p->n_used--;
}

/* The oldest. */
static bool give_up_node(struct prefix *p)
{
    if (list_empty(&p->age)) return false;
    struct prefix_node *n = LIST_ITEM(p->age.prev, struct prefix_node, age);
    int before = kvpool_n_kept(p->c.pool);
    if (n->fill) {
        CHECK(n == n->fill->node[n->fill->n - 1]);
        n->fill->n--; /* the prompt that is being read will be kept up to here */
    } else {
        leave_index(p, n);
    }
    prefix_node_free(p, n);
    p->evicted += (uint64_t)(before - kvpool_n_kept(p->c.pool));
    return true;
}

struct prefix_node *prefix_node_new(struct prefix *p, struct prefix_node *up)
{
    while (!p->free && give_up_node(p)) {
    }
    struct prefix_node *n = p->free;
    if (!n) return NULL;
    p->free = n->next;
    int32_t *page = n->page;
    uint8_t *route = n->route;
    *n = (struct prefix_node){.up = up, .block = up ? up->block + 1 : 0, .page = page, .route = route};
    memset(page, 0xff, (size_t)p->c.n_layer * sizeof *page);
    list_push_front(&p->age, &n->age);
    list_init(&n->loose);
    if (up) up->n_under++;
    p->n_used++;
    return n;
}

static void to_front(struct list *head, struct list *n)
{
    list_remove(n);
    list_push_front(head, n);
}

void prefix_node_touch(struct prefix *p, struct prefix_node *n)
{
    for (; n; n = n->up) {
        to_front(&p->age, &n->age);
        if (!list_empty(&n->loose)) to_front(&p->loose, &n->loose);
    }
}

void prefix_node_mark(struct prefix *p, struct prefix_node *n, int n_block)
{
    for (int i = 0; n && i < p->c.local_blocks - 1 + n_block; i++, n = n->up) {
        n->resume = true;
        list_remove(&n->loose);
    }
}

/* --- eviction */

static void trim(struct prefix *p, struct prefix_node *n)
{
    int before = kvpool_n_kept(p->c.pool);
    list_remove(&n->loose);
    n->whole = false;
    for (int l = 0; l < p->c.n_layer; l++)
        if (n->route[l] == ROUTE_SPARSE) drop_page(p, n, l);
    p->evicted += (uint64_t)(before - kvpool_n_kept(p->c.pool));
}

bool prefix_give_up_one(struct prefix *p)
{
    if (list_empty(&p->loose)) return give_up_node(p);
    trim(p, LIST_ITEM(p->loose.prev, struct prefix_node, loose));
    return true;
}
