/* request: the event ring between the engine thread (push) and the loop thread (next). Indexes only grow; the
 * ring is read and written without a lock because each index has one writer. */
#include "scheduler/request.h"

#include "base/check.h"
#include "scheduler/seq.h"

uint32_t request_room(const struct request *r)
{
    uint32_t used = atomic_load_explicit(&r->shared.ring_head, memory_order_relaxed) -
                    atomic_load_explicit(&r->shared.ring_tail, memory_order_acquire);
    return used < EVENT_RING - 1 ? EVENT_RING - 1 - used : 0;
}

void request_push(struct request *r, const struct event *e)
{
    uint32_t head = atomic_load_explicit(&r->shared.ring_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&r->shared.ring_tail, memory_order_acquire);
    CHECK(head - tail < (e->kind == EVENT_DONE ? EVENT_RING : EVENT_RING - 1));
    r->shared.ring[head % EVENT_RING] = *e;
    atomic_store_explicit(&r->shared.ring_head, head + 1, memory_order_release);
}

bool request_next_event(struct request *r, struct event *out)
{
    uint32_t tail = atomic_load_explicit(&r->shared.ring_tail, memory_order_relaxed);
    if (tail == atomic_load_explicit(&r->shared.ring_head, memory_order_acquire)) return false;
    if (r->shared.ring[tail % EVENT_RING].kind == EVENT_DONE && r->shared.n_taken != r->shared.n_put)
        return false;
    *out = r->shared.ring[tail % EVENT_RING];
    atomic_store_explicit(&r->shared.ring_tail, tail + 1, memory_order_release);
    if (out->kind == EVENT_DONE && r->shared.in_flight) atomic_fetch_sub(r->shared.in_flight, 1);
    return true;
}
