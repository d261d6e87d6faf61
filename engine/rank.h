/* rank: what one of several engines that share a model holds of each tensor. Every layer is cut by heads and
 * by the width of its feed-forward, so ranks meet twice a layer: in the sums behind the products with O and
 * down. The cut is a word in the tables of families.c; this is its meaning. Plain data, any thread. */
#ifndef FLUXD_ENGINE_RANK_H
#define FLUXD_ENGINE_RANK_H

#include "base/err.h"
#include "engine/spec.h"

struct rank {
    int rank, n_rank; /* 0 of 1: all of the model */
};

/* Rows [n0, n0 + n) and columns [k0, k0 + k) of a tensor. */
struct rank_cut {
    int n0, n, k0, k;
};

/* Whether the model can be cut so; note says what stands against it. */
enum err rank_check(const struct spec *s, int n_rank, struct err_note *note);
/* Of a tensor of n rows and k columns (a vector: n elements, k 1). n_rank as rank_check allows it. */
struct rank_cut rank_cut(const struct spec *s, struct rank r, enum shard shard, int n, int k);

#endif
