/* kv_codes: pages of 8 bits (kernels/kv_fp8.h) as the CPU's kernels meet them. Any thread. */
#ifndef FLUXD_KERNELS_CPU_KV_CODES_H
#define FLUXD_KERNELS_CPU_KV_CODES_H

#include "kernels/cpu/cpu.h"
#include "kernels/kv_fp8.h"
#include "kernels/kv_page.h"

/* Codes and exponents of a kv head's keys (v 0) or values (v 1) in the half that an entry names. */
static inline uint8_t *kv_codes_at(const void *pool, int32_t entry, int n_kv, int g, int v, int K)
{
    return (uint8_t *)pool + kv_half(page_half(entry), n_kv, g, v, K);
}
static inline int8_t *kv_exp_at(const struct op_ctx *c, int32_t entry, int n_kv, int g, int v)
{
    return c->kv_exp + (((int64_t)page_half(entry) * n_kv + g) * 2 + v) * PAGE_TOK;
}

/* One number of a token of a page of either kind: for references. */
float kv_number(const struct op_ctx *c, const void *pool, int32_t entry, int n_kv, int g, int v, int K, int t,
                int i);

/* The first n_tok rows in a bf16 page's order: what the codes stand for. Keys: n_tok % 16 == 0 where all of
 * their vectors are read. */
void kv_codes_keys(uint16_t *to, const uint8_t *code, const int8_t *exp, int K, int n_tok);
void kv_codes_values(uint16_t *to, const uint8_t *code, const int8_t *exp, int K, int n_tok);

#endif
