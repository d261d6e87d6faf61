/* drive: runs one sequence through engine_step the way a scheduler does, for the tests of the engine. With
 * FLUXD_TEST_DEVICE=cuda in the environment they run on the GPU, with FLUXD_TEST_QUANTIZATION=fp8 or int4
 * over weights as codes: laws that hold for each. */
#ifndef FLUXD_TESTS_ENGINE_DRIVE_H
#define FLUXD_TESTS_ENGINE_DRIVE_H

#include "tests/base/cm.h"

#include <stdio.h>

#include "engine/engine.h"

#define DRIVE_SMOLLM2 "models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum { DRIVE_TOK = 4096, DRIVE_LAYER = 64, DRIVE_TOP = 5, DRIVE_MANY = 16 };

/* `make goldens` asks for all cases. `make test` leaves out those of the real model that say the same at a
 * greater length or in another combination. */
static inline bool drive_all(void) { return getenv("FLUXD_TEST_ALL") != NULL; }

/* What laws with WITH_CODES run with: full layers keep codes of 8 bits. */
static enum engine_kv drive_kv;
static inline int drive_codes(void **state)
{
    (void)state;
    drive_kv = ENGINE_KV_FP8;
    return 0;
}
static inline int drive_numbers(void **state)
{
    (void)state;
    drive_kv = ENGINE_KV_AUTO;
    return 0;
}
#define WITH_CODES(law)                                                                                      \
    {                                                                                                        \
        "with codes: " #law, law, drive_codes, drive_numbers, NULL                                           \
    }

static inline struct engine_conf drive_conf(const char *model, enum engine_dtype dtype, int chunk_tok)
{
    const char *device = getenv("FLUXD_TEST_DEVICE");
    const char *quantization = getenv("FLUXD_TEST_QUANTIZATION");
    return (struct engine_conf){.model = model,
                                .dtype = dtype,
                                .kv = dtype == ENGINE_DTYPE_F32 ? ENGINE_KV_AUTO : drive_kv,
                                .device = device && strcmp(device, "cuda") == 0 ? ENGINE_DEVICE_CUDA
                                                                                : ENGINE_DEVICE_CPU,
                                .quantization = !quantization                       ? ENGINE_AS_STORED
                                                : strcmp(quantization, "fp8") == 0  ? ENGINE_FP8
                                                : strcmp(quantization, "int4") == 0 ? ENGINE_INT4
                                                                                    : ENGINE_AS_STORED,
                                .max_seqs = 8,
                                .max_model_len = DRIVE_TOK,
                                .chunk_tok = chunk_tok,
                                .kv_pool_bytes = 3LL << 30,
                                .sparse_kind = -1,
                                .sink_size = -1,
                                .local_window_size = -1,
                                .triangle_n_last = -1,
                                .router_pool_size = -1,
                                .retrieval_kind = -1};
}

static inline struct engine *drive_open(const struct engine_conf *c)
{
    struct engine *e = NULL;
    struct err_note note = {0};
    if (engine_open(&e, c, &note) != OK) fail_msg("%s", note.text);
    return e;
}

/* A sequence with pages of its own. */
struct drive {
    struct engine *e;
    struct batch_seq seq;
    int32_t tok[DRIVE_TOK];
    int32_t *page;
    uint8_t route[DRIVE_LAYER];
    float margin[DRIVE_LAYER];
    struct sample_row sample;
    int n_tok; /* prompt and answer */
};

/* route: "0101..", NULL: open (the routers decide). Pages first_page, first_page + 1, ... */
static inline void drive_init(struct drive *d, struct engine *e, int slot, const int32_t *prompt, int n,
                              const char *route, int first_page)
{
    int L = engine_info(e)->n_layer, blocks = DRIVE_TOK / PAGE_TOK;
    assert_true(n < DRIVE_TOK - 64 && L <= DRIVE_LAYER);
    *d = (struct drive){
        .e = e, .n_tok = n, .sample = {.repetition = 1, .top_p = 1, .force_id = -1, .n_top = DRIVE_TOP}};
    memcpy(d->tok, prompt, (size_t)n * sizeof *prompt);
    d->page = malloc((size_t)(L * blocks) * sizeof *d->page);
    assert_non_null(d->page);
    int used = (n + 64 + PAGE_TOK - 1) / PAGE_TOK; /* blocks of this sequence; the rest has no page */
    assert_true(first_page + L * used <= engine_info(e)->n_page);
    for (int l = 0; l < L; l++) {
        d->route[l] = (uint8_t)(route ? route[l] - '0' : ROUTE_OPEN);
        for (int b = 0; b < blocks; b++) d->page[l * blocks + b] = b < used ? first_page + l * used + b : -1;
    }
    d->seq = (struct batch_seq){.slot = slot,
                                .tok = d->tok,
                                .n_prompt = n,
                                .page = d->page,
                                .page_stride = blocks,
                                .route = d->route,
                                .margin = d->margin};
}

static inline void drive_fini(struct drive *d)
{
    engine_drop(d->e, d->seq.slot);
    free(d->page);
}

static inline struct batch_piece drive_piece(struct drive *d, int layer0, int layer1, int tok0, int tok1)
{
    return (struct batch_piece){
        .seq = &d->seq, .layer0 = layer0, .layer1 = layer1, .tok0 = tok0, .tok1 = tok1, .sample = d->sample};
}

/* The whole prompt, or what comes behind its cached tokens: at once if it fits the workspace, else layer by
 * layer in pieces of at most `chunk` tokens. Nothing is drawn where it strays. */
static inline struct sample_out drive_prefill(struct drive *d, int chunk)
{
    int n = d->seq.n_prompt, from = d->seq.n_cached, L = engine_info(d->e)->n_layer;
    struct sample_out got = {0};
    uint8_t drew = 0;
    struct step_out out = {.piece = &got, .drew = &drew};
    bool whole = n - from <= chunk;
    for (int l = 0; l < L; l += whole ? L : 1)
        for (int t = from; t < n; t += chunk) {
            assert_int_equal(drew, 0);
            struct batch_piece p = drive_piece(d, l, whole ? L : l + 1, t, t + chunk < n ? t + chunk : n);
            assert_int_equal(engine_step(d->e, &(struct batch){.n_piece = 1, .piece = &p}, &out, NULL), OK);
            if (d->seq.strayed) return got;
        }
    assert_int_equal(drew, 1);
    d->tok[d->n_tok++] = got.id;
    return got;
}

static inline struct batch_row drive_row(struct drive *d)
{
    return (struct batch_row){.seq = &d->seq, .pos = d->n_tok - 1, .sample = d->sample};
}

/* One decode step of all of them. */
static inline void drive_decode_many(struct drive **d, int n, struct sample_out *out)
{
    struct batch_row row[DRIVE_MANY];
    assert_true(n <= DRIVE_MANY);
    for (int i = 0; i < n; i++) row[i] = drive_row(d[i]);
    struct batch b = {.n_row = n, .row = row};
    assert_int_equal(engine_step(d[0]->e, &b, &(struct step_out){.row = out}, NULL), OK);
    for (int i = 0; i < n; i++) d[i]->tok[d[i]->n_tok++] = out[i].id;
}

/* One decode step of this sequence alone. */
static inline struct sample_out drive_decode(struct drive *d)
{
    struct sample_out got = {0};
    drive_decode_many(&d, 1, &got);
    return got;
}

#endif
