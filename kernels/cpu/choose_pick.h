/* choose_pick: from the scores of one query block to its set of key blocks. */
#ifndef FLUXD_KERNELS_CPU_CHOOSE_PICK_H
#define FLUXD_KERNELS_CPU_CHOOSE_PICK_H

#include "kernels/cpu/cpu.h"

enum { CHOOSE_GROUP = 16, CHOOSE_GROUPS = PAGE_TOK / CHOOSE_GROUP }; /* stride of xattn; groups of a block */

/* score[n] of key blocks 0 .. n-1, the last one the diagonal; order: room for n indexes. Writes ceil(n / 64)
 * words. */
void choose_pick(uint64_t *keep, const float *score, int n, float threshold, int32_t *order);

#endif
