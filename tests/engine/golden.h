/* golden: reading goldens and comparing an engine's tokens and logprobs with them. */
#ifndef FLUXD_TESTS_ENGINE_GOLDEN_H
#define FLUXD_TESTS_ENGINE_GOLDEN_H

#include "tests/engine/drive.h"

#include <math.h>

#include <cjson/cJSON.h>

enum { CHUNK = 512 };

static inline cJSON *golden(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    assert_true(n > 0);
    cJSON *j = cJSON_Parse(text);
    free(text);
    assert_non_null(j);
    return j;
}

static inline int int_of(const cJSON *o, const char *key)
{
    return (int)cJSON_GetNumberValue(cJSON_GetObjectItem(o, key));
}

static inline int read_ids(const cJSON *a, int32_t *ids)
{
    int n = 0;
    const cJSON *x;
    cJSON_ArrayForEach(x, a) ids[n++] = x->valueint;
    assert_true(n > 0 && n < DRIVE_TOK);
    return n;
}

struct worst {
    double logprob; /* largest difference seen */
    int n;          /* tokens compared */
};

/* Top tokens in order, but for those closer to each other than the tolerance, whose order rounding decides.
 */
static inline void compare(const struct sample_out *got, const cJSON *want, int n_top, double tolerance,
                           struct worst *w)
{
    assert_false(got->bad);
    assert_int_equal(got->id, int_of(want, "id"));
    assert_true(got->n_top >= n_top);
    const cJSON *top = cJSON_GetObjectItem(want, "top");
    for (int i = 0; i < n_top; i++) {
        const cJSON *pair = cJSON_GetArrayItem(top, i);
        int id = cJSON_GetArrayItem(pair, 0)->valueint, k = 0;
        double lp = cJSON_GetArrayItem(pair, 1)->valuedouble;
        while (k < got->n_top && got->top_id[k] != id) k++;
        if (k == got->n_top) { /* only the last may have lost its place, to one as likely */
            assert_true(fabs((double)got->top_logprob[got->n_top - 1] - lp) < tolerance);
            continue;
        }
        double diff = fabs((double)got->top_logprob[k] - lp);
        if (diff > w->logprob) w->logprob = diff;
        assert_true(diff < tolerance);
    }
    w->n++;
}

static inline void replay(struct drive *d, const cJSON *out, int n_top, double tolerance, struct worst *w)
{
    for (int i = 0; i < cJSON_GetArraySize(out); i++) {
        struct sample_out got = i == 0 ? drive_prefill(d, CHUNK) : drive_decode(d);
        compare(&got, cJSON_GetArrayItem(out, i), n_top, tolerance, w);
    }
}

static inline void report(const char *what, const struct worst *w)
{
    printf("%s: %d tokens equal, logprobs within %.1e\n", what, w->n, w->logprob);
}

#endif
