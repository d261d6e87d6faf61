/* sort: a stable merge sort, because Python's is stable and comparing can fail. */
#include "server/jinja/internal.h"

/* Merges v[0, mid) and v[mid, n) through tmp. Of equal items the left one comes first, in reverse order too.
 */
static void merge(struct run *r, struct sort_item *v, size_t mid, size_t n, struct sort_item *tmp,
                  bool (*less)(struct run *, struct tmpl_value, struct tmpl_value), bool reverse)
{
    size_t i = 0, j = mid, to = 0;
    while (i < mid && j < n && !r->err) {
        const bool right = reverse ? less(r, v[i].key, v[j].key) : less(r, v[j].key, v[i].key);
        tmp[to++] = right ? v[j++] : v[i++];
    }
    while (i < mid) tmp[to++] = v[i++];
    while (j < n) tmp[to++] = v[j++];
    memcpy(v, tmp, n * sizeof *v);
}

bool tmpl_sort(struct run *r, struct sort_item *v, size_t n,
               bool (*less)(struct run *r, struct tmpl_value a, struct tmpl_value b), bool reverse)
{
    struct sort_item *tmp = n > 1 ? tmpl_alloc(r, n * sizeof *tmp) : NULL;
    if (n > 1 && !tmp) return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at + width < n; at += 2 * width) {
            const size_t most = n - at < 2 * width ? n - at : 2 * width;
            merge(r, v + at, width, most, tmp, less, reverse);
            if (!tmpl_step(r, most / 8)) return false;
        }
    }
    return !r->err;
}
