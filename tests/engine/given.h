/* given: what a small model (fp8_dir.h) makes of tokens that are given to it, prompt and answer alike: two
 * ways to hold its weights are compared by the logits of the same tokens. */
#ifndef FLUXD_TESTS_ENGINE_GIVEN_H
#define FLUXD_TESTS_ENGINE_GIVEN_H

#include "engine/state.h"
#include "tests/engine/drive.h"
#include "tests/engine/fp8_dir.h"

enum { N_PROMPT = 150, N_OUT = 12, ROWS = 256 };

static inline int32_t token(int i) { return (int32_t)((uint32_t)(i * 7919 + i * i * 31) % FP8_V); }

static inline struct engine_conf conf_of(const char *path, enum engine_dtype dtype, enum engine_device device)
{
    struct engine_conf c = drive_conf(path, dtype, ROWS);
    c.device = device;
    c.kv_pool_bytes = 64 << 20;
    c.local_window_size = 128;
    return c;
}

/* Logits of the prompt's last token and of tokens that are given behind it. */
static inline void logits_of(struct engine *e, float (*out)[FP8_V])
{
    static struct drive d;
    int32_t tok[N_PROMPT];
    for (int i = 0; i < N_PROMPT; i++) tok[i] = token(i);
    drive_init(&d, e, 2, tok, N_PROMPT, "101", 0);
    for (int i = 0; i < N_OUT; i++) {
        const struct sample_out got = i == 0 ? drive_prefill(&d, ROWS) : drive_decode(&d);
        assert_false(got.bad);
        assert_int_equal(e->be->copy_out(e->be, out[i], e->mem.logits, sizeof out[i]), OK);
        d.tok[d.n_tok - 1] = token(1000 + i);
    }
    drive_fini(&d);
}

#endif
