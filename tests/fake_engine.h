/* fake_engine: an engine behind engine.h that computes nothing and checks everything: order of pieces, pages
 * where they must be, no page of two owners, in each page what a run of this prompt alone would have written
 * there. Its tokens are a function of the sequence's tokens alone, so any schedule must give the same. */
#ifndef FLUXD_TESTS_FAKE_ENGINE_H
#define FLUXD_TESTS_FAKE_ENGINE_H

#include "engine/engine.h"

struct fake_conf {
    int n_layer, n_page, max_seqs, max_len, sink_blocks, local_blocks, max_prefill_tok, chunk_tok;
    bool sparse_streams, has_router;
    bool resumes;      /* prompts may go on behind pages of others: pages may have several readers */
    int common_blocks; /* engine_info.common_blocks: what they hold depends on no bit */
    bool codes;        /* engine_info.kv_codes; then common_blocks is 0 */
    int tail_tok;      /* engine_info.tail_tok */
    int step_us;       /* time a step takes */
    int fail_at_step;  /* > 0: ERR_DEVICE at this step */
    int bad_token;     /* a drawn token equal to this one is reported as not finite; -1: never */
};
/* A small engine with routers, for tests of the scheduler: the members of a fake_conf, but for max_seqs. */
#define FAKE_SMALL                                                                                           \
    .n_layer = 5, .n_page = 200, .max_len = 2048, .sink_blocks = 1, .local_blocks = 2,                       \
    .max_prefill_tok = 2048, .chunk_tok = 512, .sparse_streams = true, .has_router = true, .bad_token = -1

struct engine *fake_open(const struct fake_conf *c);
int32_t fake_token(const int32_t *tok, int n); /* what it draws after tok[0..n) */
uint8_t fake_bit(const int32_t *tok, int n_prompt,
                 int layer); /* what its router decides, of both ends of a prompt */
uint8_t fake_bit_moved(const int32_t *tok, int n_prompt, int layer,
                       float bias); /* margins of 1 and -1, and a bias */
float fake_score(const struct fake_conf *c, const int32_t *tok, int n_prompt, const uint8_t *route,
                 int t); /* what row t of a prompt says of the token behind it */
int fake_steps(const struct engine *e);

#endif
