/* masks: see masks.h. Two mailboxes: sequences go to the helper in one and come back in the other. What the
 * helper has not begun when the engine thread needs it (other programs may have the cores) that thread makes
 * itself; a third mailbox with one item in it is the turn to make one. The helper starts with the first
 * guided request; where the machine refuses a thread there is none. */
#include "scheduler/masks.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/mailbox.h"
#include "base/threads.h"

struct masks {
    struct mailbox *asked, *made, *turn;
    struct thread *helper;
    struct scheduler_stats *stats;
    bool tried;   /* to start it */
    int n_out;    /* asked and not yet back */
    char no_more; /* its address ends the helper */
};

/* One at a time: guides may share what they learn. */
static void make(struct masks *m, struct seq *q)
{
    struct request *r = q->req;
    void *turn = mailbox_wait(m->turn, -1);
    const int64_t t0 = clock_ns();
    q->mask_err = r->ask.guide->op->mask(r->ask.guide, q->mask, &r->shared.note);
    q->mask_ns = clock_ns() - t0;
    CHECK(mailbox_put(m->turn, turn));
}

static void help(void *arg)
{
    struct masks *m = arg;
    for (void *q; (q = mailbox_wait(m->asked, -1)) != &m->no_more;) {
        if (!q) continue;
        make(m, q);
        CHECK(mailbox_put(m->made, q)); /* room for every sequence */
    }
}

struct masks *masks_open(int max_seqs, struct scheduler_stats *stats)
{
    struct masks *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->stats = stats;
    m->asked = mailbox_new((size_t)max_seqs + 1, NULL, NULL);
    m->made = mailbox_new((size_t)max_seqs, NULL, NULL);
    m->turn = mailbox_new(1, NULL, NULL);
    if (m->asked && m->made && m->turn && mailbox_put(m->turn, m)) return m;
    masks_close(m);
    return NULL;
}

void masks_close(struct masks *m)
{
    if (!m) return;
    if (m->helper) CHECK(mailbox_put(m->asked, &m->no_more));
    thread_join(m->helper);
    if (m->asked) mailbox_free(m->asked);
    if (m->made) mailbox_free(m->made);
    if (m->turn) {
        mailbox_take(m->turn);
        mailbox_free(m->turn);
    }
    free(m);
}

void masks_ask(struct masks *m, struct seq *q)
{
    if (!m->tried) m->helper = thread_start(help, m);
    m->tried = true;
    m->n_out++;
    CHECK(mailbox_put(m->asked, q));
}

void masks_wait(void *arg)
{
    struct masks *m = arg;
    const int64_t t0 = clock_ns();
    bool waited = m->n_out > 0;
    for (struct seq *q; m->n_out > 0; m->n_out--) {
        if ((q = mailbox_take(m->asked)))
            make(m, q);
        else
            q = mailbox_wait(m->made, -1);
        sched_hist_count(&m->stats->mask, q->mask_ns / 1000);
    }
    if (waited)
        atomic_fetch_add_explicit(&m->stats->mask_wait_ns, (uint64_t)(clock_ns() - t0), memory_order_relaxed);
}
