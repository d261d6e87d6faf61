/* crowd: see the header. The addresses with members that wait stand in a heap, those with any in a table. */
#include "server/http/crowd.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

enum { BUCKETS_LEAST = 16, BUCKETS_MOST = 1 << 16 };

struct crowd_group {
    struct crowd_group *next; /* in its bucket */
    struct peer_who who;
    bool alone; /* in no bucket */
    int n_member, n_wait, n_served;
    int at;                  /* in the heap, while n_wait > 0 */
    struct list of[N_CROWD]; /* by what they wait for, each in the order of the ends of their graces */
};

bool crowd_init(struct crowd *w, int n_most)
{
    *w = (struct crowd){.n_bucket = BUCKETS_LEAST};
    while (w->n_bucket < BUCKETS_MOST && w->n_bucket < (unsigned)n_most) w->n_bucket *= 2;
    w->bucket = calloc(w->n_bucket, sizeof(struct crowd_group *));
    hash_random_key(w->key);
    return w->bucket;
}

void crowd_fini(struct crowd *w)
{
    CHECK(w->n_group == 0);
    free(w->bucket);
    free(w->heap);
    *w = (struct crowd){.n_bucket = 0};
}

/* --- the heap */

static int64_t first_end(const struct crowd_group *g, struct crowd_member **who)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < N_CROWD; i++) {
        if (list_empty(&g->of[i])) continue;
        struct crowd_member *m = LIST_ITEM(g->of[i].next, struct crowd_member, node);
        if (*who && m->until_ns >= first) continue;
        first = m->until_ns;
        *who = m;
    }
    return first;
}

static bool goes_before(const struct crowd_group *a, const struct crowd_group *b)
{
    struct crowd_member *of_a = NULL, *of_b = NULL;
    if (a->n_wait != b->n_wait) return a->n_wait > b->n_wait;
    return first_end(a, &of_a) < first_end(b, &of_b);
}

static void put(struct crowd *w, int at, struct crowd_group *g)
{
    w->heap[at] = g;
    g->at = at;
}

static void set_right(struct crowd *w, struct crowd_group *g)
{
    int at = g->at;
    for (; at > 0 && goes_before(g, w->heap[(at - 1) / 2]); at = (at - 1) / 2)
        put(w, at, w->heap[(at - 1) / 2]);
    for (int child; (child = 2 * at + 1) < w->n_heap; at = child) {
        if (child + 1 < w->n_heap && goes_before(w->heap[child + 1], w->heap[child])) child++;
        if (!goes_before(w->heap[child], g)) break;
        put(w, at, w->heap[child]);
    }
    put(w, at, g);
}

static void take_out(struct crowd *w, const struct crowd_group *g)
{
    struct crowd_group *last = w->heap[--w->n_heap];
    if (last == g) return;
    put(w, g->at, last);
    set_right(w, last);
}

/* --- groups */

static struct crowd_group **bucket_of(const struct crowd *w, const struct peer_who *who)
{
    return &w->bucket[hash64(w->key, who, sizeof *who) & (w->n_bucket - 1)];
}

static bool make_room(struct crowd *w)
{
    if (w->n_group < w->room) return true;
    const int room = w->room ? 2 * w->room : BUCKETS_LEAST;
    struct crowd_group **p = realloc(w->heap, (size_t)room * sizeof *p);
    if (!p) return false;
    w->heap = p;
    w->room = room;
    return true;
}

static struct crowd_group *group_of(struct crowd *w, const struct peer_who *who)
{
    struct crowd_group **b = who ? bucket_of(w, who) : NULL;
    for (struct crowd_group *g = b ? *b : NULL; g; g = g->next)
        if (g->who.hi == who->hi && g->who.lo == who->lo) return g;
    struct crowd_group *g = make_room(w) ? calloc(1, sizeof *g) : NULL;
    if (!g) return NULL;
    for (int i = 0; i < N_CROWD; i++) list_init(&g->of[i]);
    g->alone = !who;
    w->n_group++;
    if (!who) return g;
    g->who = *who;
    g->next = *b;
    *b = g;
    return g;
}

static void drop_group(struct crowd *w, struct crowd_group *g)
{
    struct crowd_group **p = g->alone ? NULL : bucket_of(w, &g->who);
    while (p && *p != g) p = &(*p)->next;
    if (p) *p = g->next;
    free(g);
    w->n_group--;
}

/* --- members */

bool crowd_enter(struct crowd *w, struct crowd_member *m, const struct peer_who *who)
{
    struct crowd_group *g = group_of(w, who);
    if (!g) return false;
    *m = (struct crowd_member){.group = g};
    list_init(&m->node);
    g->n_member++;
    return true;
}

void crowd_go_on(struct crowd *w, struct crowd_member *m)
{
    struct crowd_group *g = m->group;
    g->n_served -= m->served;
    w->n_served -= m->served;
    m->served = false;
    if (!m->waits) return;
    list_remove(&m->node);
    m->waits = false;
    if (--g->n_wait > 0)
        set_right(w, g);
    else
        take_out(w, g);
}

static void stand(struct crowd *w, struct crowd_member *m)
{
    struct crowd_group *g = m->group;
    struct list *before = g->of[m->what].prev; /* who moves to another address may be older than the last */
    while (before != &g->of[m->what] && LIST_ITEM(before, struct crowd_member, node)->until_ns > m->until_ns)
        before = before->prev;
    list_push_front(before, &m->node);
    m->waits = true;
    if (g->n_wait++ == 0) put(w, w->n_heap++, g);
    set_right(w, g);
}

void crowd_wait(struct crowd *w, struct crowd_member *m, enum crowd_for what, int64_t now_ns)
{
    crowd_go_on(w, m);
    m->what = what;
    m->until_ns = now_ns + (what == CROWD_NEXT ? 0 : CROWD_GRACE_MS * INT64_C(1000000));
    stand(w, m);
}

void crowd_serve(struct crowd *w, struct crowd_member *m)
{
    crowd_go_on(w, m);
    m->served = true;
    m->group->n_served++;
    w->n_served++;
}

void crowd_leave(struct crowd *w, struct crowd_member *m)
{
    struct crowd_group *g = m->group;
    if (!g) return;
    crowd_go_on(w, m);
    m->group = NULL;
    if (--g->n_member == 0) drop_group(w, g);
}

bool crowd_move(struct crowd *w, struct crowd_member *m, const struct peer_who *who)
{
    struct crowd_group *to = m->group ? group_of(w, who) : NULL;
    if (!to || to == m->group) return to;
    const struct crowd_member was = *m;
    to->n_member++;
    crowd_leave(w, m);
    m->group = to;
    if (was.waits) stand(w, m);
    if (was.served) crowd_serve(w, m);
    return true;
}

struct crowd_member *crowd_first(const struct crowd *w, int64_t now_ns)
{
    struct crowd_member *m = NULL;
    if (w->n_heap == 0) return NULL;
    const struct crowd_group *g = w->heap[0];
    for (int i = CROWD_NEXT; i <= CROWD_FIRST; i++) {
        if (list_empty(&g->of[i])) continue;
        struct crowd_member *silent = LIST_ITEM(g->of[i].next, struct crowd_member, node);
        if ((i == CROWD_NEXT || silent->until_ns <= now_ns) && (!m || silent->until_ns < m->until_ns))
            m = silent;
    }
    if (!m) first_end(g, &m);
    return m;
}

int crowd_served(const struct crowd_member *m) { return m->group->n_served; }
