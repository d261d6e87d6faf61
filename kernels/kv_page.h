/* kv_page: where a number stands inside a CPU page. A page is [G][K|V] halves of PAGE_TOK x K numbers. fp32
 * halves are plain [token][K]; bf16 halves are laid out for pair products (dpbf16): K as [token / 16][K /
 * 2][token % 16][2], V as [token / 2][K][2]. Only the CPU's kernels see this. */
#ifndef FLUXD_KERNELS_KV_PAGE_H
#define FLUXD_KERNELS_KV_PAGE_H

#include "kernels/ops.h"

/* First number of a half; v: 0 for K, 1 for V. */
static inline int64_t kv_half(int64_t page, int n_kv, int g, int v, int head)
{
    return ((page * n_kv + g) * 2 + v) * PAGE_TOK * head;
}

/* Number i of token t (0..PAGE_TOK) inside the half. */
static inline int kv_at_k(enum dtype kv, int head, int t, int i)
{
    return kv == DT_F32 ? t * head + i : ((t / 16 * (head / 2) + i / 2) * 16 + t % 16) * 2 + i % 2;
}
static inline int kv_at_v(enum dtype kv, int head, int t, int i)
{
    return kv == DT_F32 ? t * head + i : (t / 2 * head + i) * 2 + t % 2;
}

#endif
