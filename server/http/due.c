/* due: everything that waits for a moment, in lists of one length of time each, under one timer. Loop thread
 * only. */
#include "base/clock.h"
#include "server/http/internal.h"

void http_due_clear(struct due_node *n) { list_remove(&n->node); }

static void on_due(uv_timer_t *t);

static void arm_due_timer(struct http *h)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < N_DUE; i++)
        if (!list_empty(&h->due[i])) {
            int64_t at = LIST_ITEM(h->due[i].next, struct due_node, node)->at_ns;
            if (at < first) first = at;
        }
    if (first == INT64_MAX || h->stopped) {
        uv_timer_stop(&h->due_timer);
        return;
    }
    int64_t wait_ms = (first - clock_ns() + 999999) / 1000000;
    uv_update_time(h->loop);
    uv_timer_start(&h->due_timer, on_due, (uint64_t)(wait_ms > 0 ? wait_ms : 0), 0);
}

void http_due_set(struct http *h, struct due_node *n, enum due which)
{
    list_remove(&n->node);
    n->at_ns = clock_ns() + h->due_len_ns[which];
    list_push_back(&h->due[which], &n->node);
    /* Only a list that was empty can bring the next moment nearer. A timer that fires too early looks again.
     */
    if (h->due[which].next == &n->node) arm_due_timer(h);
}

static void on_due(uv_timer_t *t)
{
    struct http *h = t->data;
    int64_t now = clock_ns();
    for (int i = 0; i < N_DUE; i++) {
        while (!list_empty(&h->due[i])) {
            struct due_node *n = LIST_ITEM(h->due[i].next, struct due_node, node);
            if (n->at_ns > now) break;
            list_remove(&n->node);
            n->expire(n, (enum due)i);
        }
    }
    arm_due_timer(h);
}

void http_due_open(struct http *h)
{
    const int ms[N_DUE] = {
        [DUE_FRESH] = h->conf.idle_ms,
        [DUE_IDLE] = h->conf.idle_ms,
        [DUE_HEADER] = h->conf.header_ms,
        [DUE_BODY] = h->conf.body_ms,
        [DUE_STALL] = h->conf.write_stall_ms / 4 + 1,
        [DUE_LINGER] = 1000,
        [DUE_PING] = h->conf.ping_ms,
    };
    for (int i = 0; i < N_DUE; i++) {
        list_init(&h->due[i]);
        h->due_len_ns[i] = (int64_t)ms[i] * 1000000;
    }
    uv_timer_init(h->loop, &h->due_timer);
    h->due_timer.data = h;
    h->n_handle++;
}

void http_due_close(struct http *h) { uv_close((uv_handle_t *)&h->due_timer, http_handle_closed); }
