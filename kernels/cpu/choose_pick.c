/* choose_pick: see choose_pick.h. */
#include <string.h>

#include "kernels/cpu/choose_pick.h"

static bool before(const float *score, int32_t a, int32_t b)
{
    return score[a] > score[b] || (score[a] == score[b] && a < b);
}

/* Heap of indexes with the best first. */
static void sift(int32_t *heap, int n, int at, const float *score)
{
    for (int kid; (kid = 2 * at + 1) < n; at = kid) {
        if (kid + 1 < n && before(score, heap[kid + 1], heap[kid])) kid++;
        if (!before(score, heap[kid], heap[at])) return;
        int32_t t = heap[at];
        heap[at] = heap[kid];
        heap[kid] = t;
    }
}

void choose_pick(uint64_t *keep, const float *score, int n, float threshold, int32_t *order)
{
    float all = 0, have = score[0] + (n > 1 ? score[n - 1] : 0.0f);
    int left = n > 2 ? n - 2 : 0;
    memset(keep, 0, (size_t)(n + 63) / 64 * sizeof *keep);
    keep[0] |= 1;
    keep[(n - 1) / 64] |= 1ull << ((n - 1) % 64);
    for (int b = 0; b < n; b++) all += score[b];
    for (int i = 0; i < left; i++) order[i] = i + 1;
    for (int i = left / 2 - 1; i >= 0; i--) sift(order, left, i, score);
    while (left > 0 && have < threshold * all) {
        int b = order[0];
        keep[b / 64] |= 1ull << (b % 64);
        have += score[b];
        order[0] = order[--left];
        sift(order, left, 0, score);
    }
}
