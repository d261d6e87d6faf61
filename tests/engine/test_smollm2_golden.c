/* smollm2_golden: the laws of invariance.h on the real model's sizes and types. */
#include "tests/engine/invariance.h"

int main(void)
{
    model_path = DRIVE_SMOLLM2;
    brief = !drive_all();
    const struct CMUnitTest tests[] = {INVARIANCE_TESTS};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
