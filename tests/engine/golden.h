/* golden: reading goldens and comparing an engine's tokens and logprobs with them. */
#ifndef FLUXD_TESTS_ENGINE_GOLDEN_H
#define FLUXD_TESTS_ENGINE_GOLDEN_H

#include "tests/engine/drive.h"

#include <math.h>

#include <cjson/cJSON.h>

enum { CHUNK = 512 };

static const int whole_chunks[2] = {CHUNK, CHUNK};

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

enum { BRIEF_TOK = 1024 };

/* Longer prompts are for `make goldens`. */
static inline bool left_out(int n_prompt) { return n_prompt > BRIEF_TOK && !drive_all(); }

/* Sequences of one engine, each with what it has to say: prompts one by one, answers together. */
struct replay {
    struct drive *d[DRIVE_MANY];
    const cJSON *out[DRIVE_MANY]; /* all of one length */
    int n, page;                  /* page: the next free one */
};

/* The sequence starts with route (NULL: open) and is freed by replay_run. Lives as long as `out`. */
static inline struct drive *replay_add(struct replay *r, struct engine *e, const int32_t *ids, int n,
                                       const char *route, const cJSON *out)
{
    struct drive *d = calloc(1, sizeof *d);
    assert_non_null(d);
    assert_true(r->n < DRIVE_MANY);
    drive_init(d, e, r->n, ids, n, route, r->page);
    r->page += engine_info(e)->n_layer * ((n + 64 + PAGE_TOK - 1) / PAGE_TOK);
    r->out[r->n] = out;
    return r->d[r->n++] = d;
}

/* chunk[i % 2]: prompts that are longer go in pieces. seen (may be NULL) looks at each sequence at its end.
 */
static inline void replay_run(struct replay *r, const int chunk[2], double tolerance, struct worst *w,
                              void (*seen)(const struct drive *, int, void *), void *arg)
{
    struct sample_out got[DRIVE_MANY];
    for (int i = 0; i < r->n; i++) {
        got[i] = drive_prefill(r->d[i], chunk[i % 2]);
        assert_int_equal(cJSON_GetArraySize(r->out[i]), cJSON_GetArraySize(r->out[0]));
    }
    for (int k = 0; r->n && k < cJSON_GetArraySize(r->out[0]); k++) {
        if (k > 0) drive_decode_many(r->d, r->n, got);
        for (int i = 0; i < r->n; i++)
            compare(&got[i], cJSON_GetArrayItem(r->out[i], k), DRIVE_TOP, tolerance, w);
    }
    for (int i = 0; i < r->n; i++) {
        if (seen) seen(r->d[i], i, arg);
        drive_fini(r->d[i]);
        free(r->d[i]);
    }
    *r = (struct replay){0};
}

static inline void report(const char *what, const struct worst *w)
{
    printf("%s: %d tokens equal, logprobs within %.1e\n", what, w->n, w->logprob);
}

#endif
