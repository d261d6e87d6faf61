/* dtype: the types that the numbers of a tensor have, and the size of their blocks in a file. */
#ifndef FLUXD_BASE_DTYPE_H
#define FLUXD_BASE_DTYPE_H

#include <stdint.h>

enum dtype {
    DT_F32,
    DT_BF16,
    DT_F16,
    DT_I32,
    DT_Q8_0,
    DT_Q4_0,
    DT_Q4_1,
    DT_Q5_0,
    DT_Q5_1,
    DT_Q4_K,
    DT_Q5_K,
    DT_Q6_K,
    DT_FP8, /* codes with scales beside them (struct weight): e4m3 */
    DT_U4,  /* codes of 4 bits, the even column in the low half of a byte */
    DT_COUNT
};

struct quant_type {
    const char *name;
    int block; /* elements of one block; a row is a whole number of blocks */
    int block_bytes;
};
const struct quant_type *quant_type(enum dtype dt);

/* Bytes of n elements; n is a multiple of the block. */
static inline int64_t quant_bytes(enum dtype dt, int64_t n)
{
    const struct quant_type *t = quant_type(dt);
    return n / t->block * t->block_bytes;
}

#endif
