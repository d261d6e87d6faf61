/* rope: frequencies are those of the models' own code to the last bits (the transformers package: head size
 * 104, base 500,000). */
#include "tests/base/cm.h"

#include <math.h>

#include "engine/spec.h"

enum { HEAD = 104, N_DIM = 9 };

static const int dim[N_DIM] = {0, 1, 7, 13, 20, 27, 33, 40, 51};

static const struct {
    struct rope_scaling scaling;
    float f[N_DIM];
} known[] = {
    {{.kind = ROPE_LINEAR, .factor = 3},
     {0x1.555556p-2F, 0x1.0934b4p-2F, 0x1.d2c436p-5F, 0x1.9ac216p-7F, 0x1.18da0cp-9F, 0x1.800f1ep-12F,
      0x1.51f9a2p-14F, 0x1.ce2c8ap-17F, 0x1.cca742p-21F}},
    {{.kind = ROPE_LLAMA3, .factor = 32, .low = 1, .high = 4, .original_len = 1024},
     {0x1p+0F, 0x1.8dcf0ep-1F, 0x1.5e1328p-3F, 0x1.341190p-5F, 0x1.3a5036p-12F, 0x1.200b56p-15F,
      0x1.faf674p-18F, 0x1.5aa168p-20F, 0x1.597d72p-24F}},
    {{.kind = ROPE_YARN, .factor = 4, .low = 1, .high = 32, .original_len = 64, .whole = true},
     {0x1p+0F, 0x1.6ff920p-1F, 0x1.4c9234p-4F, 0x1.341190p-7F, 0x1.a54712p-10F, 0x1.200b56p-12F,
      0x1.faf674p-15F, 0x1.5aa168p-17F, 0x1.597d72p-21F}},
    {{.kind = ROPE_YARN, .factor = 8, .low = 2, .high = 16, .original_len = 1024},
     {0x1p+0F, 0x1.8dcf0ep-1F, 0x1.5e1328p-3F, 0x1.6f5a78p-6F, 0x1.a54712p-11F, 0x1.200b56p-13F,
      0x1.faf674p-16F, 0x1.5aa168p-18F, 0x1.597d72p-22F}},
};

/* The package's own power is good to one unit of the last place; each scaling's steps are the same as here.
 */
static void frequencies_are_the_models_own(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        for (int i = 0; i < N_DIM; i++) {
            const float got = rope_frequency(&known[k].scaling, 500000, HEAD, dim[i]), want = known[k].f[i];
            if (!(fabsf(got - want) <= 2 * 0x1p-24F * want * 2))
                fail_msg("case %zu, dimension %d: %a for %a", k, dim[i], (double)got, (double)want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frequencies_are_the_models_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
