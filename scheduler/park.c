/* park: sequences whose clients do not read, while others wait for a slot or for pages. Such a sequence
 * rests: its ring is full, and it holds what it has until its client reads on. That is well where nobody
 * wants it. Where somebody does, the one that has rested longest is preempted, and stands apart from the
 * queue until its ring has room; then it waits like any other that was preempted. */
#include "scheduler/internal.h"

enum { REST_MS = 1000 }; /* nobody is parked before: a client may be slow for a moment */

static bool rests(const struct seq *q)
{
    return q->req && q->phase == SEQ_DECODE && request_room(q->req) == 0;
}

static bool may_be_parked(const struct scheduler *s, const struct seq *q)
{
    return rests(q) && q->rest_ns > 0 && s->core.now_ns - q->rest_ns >= REST_MS * INT64_C(1000000);
}

void park_look(struct scheduler *s)
{
    for (int i = 0; i < s->info->max_seqs; i++) {
        struct seq *q = &s->seq[i];
        q->rest_ns = !rests(q) ? 0 : q->rest_ns ? q->rest_ns : s->core.now_ns;
    }
}

struct request *park_back(struct scheduler *s)
{
    LIST_EACH (it, &s->parked) {
        struct request *r = LIST_ITEM(it, struct request, queue.node);
        if (request_room(r) < EVENT_RING / 2) continue;
        park_leave(s, r);
        return r;
    }
    return NULL;
}

void park_leave(struct scheduler *s, struct request *r)
{
    list_remove(&r->queue.node);
    r->queue.parked = false;
    s->n_parked--;
}

struct seq *park_choose(const struct scheduler *s, int lack)
{
    struct seq *longest = NULL;
    int pages = 0;
    for (int i = 0; i < s->info->max_seqs; i++) {
        struct seq *q = &s->seq[i];
        if (!may_be_parked(s, q)) continue;
        pages += q->promised;
        if (!longest || q->rest_ns < longest->rest_ns) longest = q;
    }
    return pages < lack ? NULL : longest;
}

void park_add(struct scheduler *s, struct request *r)
{
    r->queue.parked = true;
    s->n_parked++;
    list_push_back(&s->parked, &r->queue.node);
}
