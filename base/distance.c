/* distance: one row of the table at a time. */
#include "base/distance.h"

int distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int row[DISTANCE_BYTES + 1];
    if (n_a > DISTANCE_BYTES || n_b > DISTANCE_BYTES) return DISTANCE_FAR;
    for (size_t j = 0; j <= n_b; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n_a; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n_b; j++) {
            int other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1,
                same = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            row[j] = other < same ? other : same;
        }
    }
    return row[n_b];
}
