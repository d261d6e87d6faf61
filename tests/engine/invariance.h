/* invariance: laws that hold for any model - results do not depend on company, pieces or what pages held
 * before. Included by a test with a tiny model (quick, under the sanitizers) and by one with the real one.
 * model_path says which. */
#ifndef FLUXD_TESTS_ENGINE_INVARIANCE_H
#define FLUXD_TESTS_ENGINE_INVARIANCE_H

#include "tests/engine/drive.h"

#include <math.h>

#include "tests/engine/hash_router.h"

enum { CHUNK = 160, N_SEQ = 8, N_OUT = 4, PROMPT_MOST = 420, LONG = 7, BATCH_MOST = 64 };

static const char *model_path;

/* The real model runs fewer combinations of the same laws (all with FLUXD_TEST_ALL): it is there for its
 * sizes and types, the tiny one for the combinations. */
static bool brief;

static int32_t prompt_tok(const struct engine *e, int seq, int i)
{
    return (int32_t)((uint32_t)(seq * 7919 + i * 104729 + i * i * 31) %
                         (uint32_t)(engine_info(e)->n_vocab - 20) +
                     20u);
}

static const int lengths[N_SEQ] = {150, 1,   17,  128,
                                   129, 200, 255, PROMPT_MOST}; /* in and out of pages, one piece and many */

static char *route_of(const struct engine *e, int seq, char *route)
{
    int L = engine_info(e)->n_layer;
    for (int l = 0; l < L; l++)
        route[l] = (char)('0' + (seq == 0 ? 1 : seq == 1 ? 0 : (l * 7 + seq) % 3 == 0));
    route[L] = 0;
    return route;
}

static int pages_of(const struct engine *e, int n)
{
    return engine_info(e)->n_layer * ((n + 64 + PAGE_TOK - 1) / PAGE_TOK);
}

static void start(struct drive *d, struct engine *e, int seq, int slot, int first_page, bool open)
{
    int32_t tok[PROMPT_MOST];
    char route[DRIVE_LAYER + 1];
    for (int i = 0; i < lengths[seq]; i++) tok[i] = prompt_tok(e, seq, i);
    drive_init(d, e, slot, tok, lengths[seq], open ? NULL : route_of(e, seq, route), first_page);
}

struct outcome {
    struct sample_out out[N_OUT];
    uint8_t route[DRIVE_LAYER];
    float margin[DRIVE_LAYER];
};

static void keep(struct outcome *o, const struct drive *d)
{
    memcpy(o->route, d->route, sizeof o->route);
    memcpy(o->margin, d->margin, sizeof o->margin);
}

/* Bits, not values: a difference of one ulp is a failure. */
static void assert_same(const struct sample_out *a, const struct sample_out *b)
{
    assert_int_equal(a->bad, b->bad);
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->n_top, b->n_top);
    assert_memory_equal(&a->logprob, &b->logprob, sizeof a->logprob);
    assert_memory_equal(a->top_id, b->top_id, (size_t)a->n_top * sizeof *a->top_id);
    assert_memory_equal(a->top_logprob, b->top_logprob, (size_t)a->n_top * sizeof *a->top_logprob);
}

static void assert_same_outcome(const struct outcome *a, const struct outcome *b)
{
    for (int i = 0; i < N_OUT; i++) assert_same(&a->out[i], &b->out[i]);
    assert_memory_equal(a->route, b->route, sizeof a->route);
    assert_memory_equal(a->margin, b->margin, sizeof a->margin);
}

static void run_alone(struct engine *e, int seq, int slot, int first_page, int chunk, bool open,
                      struct outcome *o)
{
    struct drive d;
    start(&d, e, seq, slot, first_page, open);
    o->out[0] = drive_prefill(&d, chunk);
    for (int i = 1; i < N_OUT; i++) o->out[i] = drive_decode(&d);
    keep(o, &d);
    drive_fini(&d);
}

/* All sequences at once: the first decodes from the start, the others' pieces join step by step, short
 * prompts share a call, and every step carries all rows that decode. */
struct crowd {
    struct engine *e;
    struct drive d[N_SEQ];
    int layer[N_SEQ], tok[N_SEQ], n_out[N_SEQ]; /* prefill cursor; tokens drawn */
    struct outcome o[N_SEQ];
};

static bool crowd_step(struct crowd *c, int chunk)
{
    struct batch_row row[N_SEQ];
    struct batch_piece piece[N_SEQ];
    struct sample_out row_out[N_SEQ], piece_out[N_SEQ];
    uint8_t drew[N_SEQ];
    int row_seq[N_SEQ], piece_seq[N_SEQ], n_row = 0, n_piece = 0;
    for (int s = N_SEQ - 1; s >= 0; s--) {
        int n = lengths[s], L = engine_info(c->e)->n_layer;
        if (c->n_out[s] == N_OUT) continue;
        if (c->n_out[s] > 0) {
            row_seq[n_row] = s;
            row[n_row++] = drive_row(&c->d[s]);
            continue;
        }
        bool whole = n <= chunk;
        int end = c->tok[s] + chunk < n ? c->tok[s] + chunk : n;
        piece_seq[n_piece] = s;
        piece[n_piece++] = drive_piece(&c->d[s], c->layer[s], whole ? L : c->layer[s] + 1, c->tok[s], end);
        c->tok[s] = end == n ? 0 : end;
        c->layer[s] += end == n ? 1 : 0;
    }
    struct batch b = {.n_row = n_row, .n_piece = n_piece, .row = row, .piece = piece};
    struct step_out out = {.row = row_out, .piece = piece_out, .drew = drew};
    if (!n_row && !n_piece) return false;
    assert_int_equal(engine_step(c->e, &b, &out, NULL), OK);
    for (int i = 0; i < n_row + n_piece; i++) {
        int s = i < n_row ? row_seq[i] : piece_seq[i - n_row];
        if (i >= n_row && !drew[i - n_row]) continue;
        struct sample_out got = i < n_row ? row_out[i] : piece_out[i - n_row];
        c->o[s].out[c->n_out[s]++] = got;
        c->d[s].tok[c->d[s].n_tok++] = got.id;
    }
    return true;
}

static void run_crowd(struct crowd *c, struct engine *e, int chunk, bool open)
{
    int first_page = 0;
    memset(c, 0, sizeof *c);
    c->e = e;
    for (int s = 0; s < N_SEQ; s++) {
        start(&c->d[s], e, s, s, first_page, open);
        first_page += pages_of(e, lengths[s]);
    }
    while (crowd_step(c, chunk)) {
    }
    for (int s = 0; s < N_SEQ; s++) {
        keep(&c->o[s], &c->d[s]);
        drive_fini(&c->d[s]);
    }
}

static void poison_pages(struct engine *e, int n)
{
    int64_t bytes = engine_info(e)->page_bytes;
    void *nan = malloc((size_t)bytes);
    memset(nan, 0xff, (size_t)bytes); /* a NaN in fp32 and in bf16 */
    for (int p = 0; p < n; p++) assert_int_equal(engine_page_write(e, p, nan), OK);
    free(nan);
}

static void check_invariance(struct engine *e, bool open)
{
    static struct outcome alone, again;
    static struct crowd crowd;
    int n_page = 0;
    for (int s = 0; s < N_SEQ; s++) n_page += pages_of(e, lengths[s]);
    poison_pages(e, n_page);
    run_crowd(&crowd, e, CHUNK, open);
    for (int s = 0; s < N_SEQ; s++) {
        run_alone(e, s, 3, 100, CHUNK, open, &alone);
        assert_same_outcome(&alone, &crowd.o[s]);
    }
    run_alone(e, LONG, 0, 0, 96, open, &again); /* pieces that end inside pages */
    assert_same_outcome(&crowd.o[LONG], &again);
    if (brief) return;
    run_crowd(&crowd, e, 128, open);
    assert_same_outcome(&crowd.o[LONG], &again);
}

static void check_dtype(enum engine_dtype dtype)
{
    struct engine_conf c = drive_conf(model_path, dtype, CHUNK);
    c.local_window_size = 128;
    struct engine *e = drive_open(&c);
    check_invariance(e, false);
    engine_close(e);
}

static void alone_in_company_and_in_pieces_are_bit_equal_f32(void **state)
{
    (void)state;
    check_dtype(ENGINE_DTYPE_F32);
}

static void alone_in_company_and_in_pieces_are_bit_equal_auto(void **state)
{
    (void)state;
    check_dtype(ENGINE_DTYPE_AUTO);
}

enum { SEVERAL = 9 }; /* rows that one sequence has in a step */

/* n rows of d from position `pos` on, behind a row of another sequence. */
static void decode_several(struct drive *d, struct drive *other, int pos, int n, struct sample_out *out)
{
    struct batch_row row[SEVERAL + 1] = {drive_row(other)};
    struct sample_out got[SEVERAL + 1];
    for (int i = 0; i < n; i++)
        row[1 + i] = (struct batch_row){.seq = &d->seq, .pos = pos + i, .sample = d->sample};
    assert_int_equal(
        engine_step(d->e, &(struct batch){.n_row = n + 1, .row = row}, &(struct step_out){.row = got}, NULL),
        OK);
    memcpy(out, got + 1, (size_t)n * sizeof *out);
}

/* Rows of one step, over the edge of a page where the prompt ends at one; then a draft that is wrong from
 * some row on, and the right rows once more over what it left. */
static void check_several(struct engine *e, int seq, bool open)
{
    struct drive d, other;
    struct sample_out want[SEVERAL], got[SEVERAL], again[SEVERAL];
    int32_t right[SEVERAL + 1];
    const int n = lengths[seq];
    start(&d, e, seq, 3, 100, open);
    drive_prefill(&d, CHUNK);
    for (int i = 0; i < SEVERAL; i++) want[i] = drive_decode(&d);
    memcpy(right, d.tok + n, sizeof right);
    drive_fini(&d);

    start(&other, e, 1, 0, 0, open);
    drive_prefill(&other, CHUNK);
    start(&d, e, seq, 2, 100, open);
    drive_prefill(&d, CHUNK);
    assert_int_equal(d.tok[n], right[0]);
    d.seq.page_stamp = (uint64_t)seq + 1;               /* all of its pages are there from now on */
    for (int wrong = 1; wrong <= SEVERAL; wrong += 4) { /* the first `wrong` tokens are right */
        for (int i = 0; i < SEVERAL; i++) d.tok[n + i] = i < wrong ? right[i] : right[i] ^ 1;
        decode_several(&d, &other, n, SEVERAL, got);
        for (int i = 0; i < wrong; i++) assert_same(&got[i], &want[i]);
        memcpy(d.tok + n, right, sizeof right);
        decode_several(&d, &other, n + wrong - 1, SEVERAL - wrong + 1, again);
        for (int i = wrong - 1; i < SEVERAL; i++) assert_same(&again[i - wrong + 1], &want[i]);
    }
    drive_fini(&other);
    drive_fini(&d);
}

static void several_rows_of_one_sequence_are_those_of_steps_of_their_own(void **state)
{
    (void)state;
    static const int seqs[] = {6, 0, LONG}; /* 255 tokens: the first row behind a page's edge is the second */
    for (int dtype = 0; dtype < 2 - brief; dtype++) {
        struct engine_conf c = drive_conf(model_path, dtype ? ENGINE_DTYPE_F32 : ENGINE_DTYPE_AUTO, CHUNK);
        c.local_window_size = 128;
        struct engine *e = drive_open(&c);
        poison_pages(e, 200);
        for (int i = 0; i < 3 - 2 * brief; i++) check_several(e, seqs[i], false);
        engine_close(e);
    }
}

/* Request 0 as row n / 2 of n, among requests of other lengths and routes. */
static void run_among(struct engine *e, int n, struct outcome *o)
{
    static struct drive d[BATCH_MOST];
    struct batch_row row[BATCH_MOST];
    struct batch_piece piece[BATCH_MOST];
    struct sample_out out[BATCH_MOST];
    uint8_t drew[BATCH_MOST];
    const int L = engine_info(e)->n_layer;
    for (int i = 0, first_page = 0; i < n; i++) {
        int32_t tok[PROMPT_MOST];
        char route[DRIVE_LAYER + 1];
        int seq = i == n / 2 ? 0 : N_SEQ + i, len = seq ? 1 + i * 11 % 40 : lengths[0];
        for (int t = 0; t < len; t++) tok[t] = prompt_tok(e, seq, t);
        drive_init(&d[i], e, i, tok, len, route_of(e, seq, route), first_page);
        first_page += pages_of(e, len);
        piece[i] = drive_piece(&d[i], 0, L, 0, len);
    }
    for (int k = 0; k < N_OUT; k++) {
        struct batch b = {.n_row = k ? n : 0, .n_piece = k ? 0 : n, .row = row, .piece = piece};
        struct step_out to = {.row = out, .piece = out, .drew = drew};
        for (int i = 0; i < n; i++) row[i] = drive_row(&d[i]);
        assert_int_equal(engine_step(e, &b, &to, NULL), OK);
        for (int i = 0; i < n; i++) d[i].tok[d[i].n_tok++] = out[i].id;
        o->out[k] = out[n / 2];
    }
    keep(o, &d[n / 2]);
    for (int i = 0; i < n; i++) drive_fini(&d[i]);
}

static void a_request_is_alike_alone_again_and_in_batches_of_2_17_and_64(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct engine_conf c = drive_conf(model_path, dtype ? ENGINE_DTYPE_F32 : ENGINE_DTYPE_AUTO, CHUNK);
        c.max_seqs = BATCH_MOST;
        c.local_window_size = 128;
        struct engine *e = drive_open(&c);
        struct outcome alone, other;
        run_alone(e, 0, 5, 300, CHUNK, false, &alone);
        run_alone(e, 0, 5, 300, CHUNK, false, &other);
        assert_same_outcome(&alone, &other);
        for (int n = brief ? 17 : 2; n <= BATCH_MOST; n = n == 2 ? 17 : n == 17 && !brief ? 64 : 65) {
            run_among(e, n, &other);
            assert_same_outcome(&alone, &other);
        }
        run_alone(e, 0, 9, 20, 64, false, &other);
        assert_same_outcome(&alone, &other);
        engine_close(e);
    }
}

static struct engine *open_routed(int sparse_kind, int retrieval_kind)
{
    char path[] = "/tmp/fluxd-router-XXXXXX";
    int fd = mkstemp(path);
    float bias[DRIVE_LAYER] = {0};
    assert_true(fd >= 0);
    close(fd);
    struct engine_conf c = drive_conf(model_path, ENGINE_DTYPE_AUTO,
                                      sparse_kind < 0 && retrieval_kind < 0 ? CHUNK : PROMPT_MOST);
    struct engine *e = drive_open(&c);
    const int L = engine_info(e)->n_layer;
    hash_router_write(path, 5, L, 2, engine_info(e)->head, bias,
                      "{\"pool_size\":\"150.0\",\"local_window_size\":\"128\"}");
    engine_close(e);
    c.router = path;
    c.sparse_kind = sparse_kind;
    c.retrieval_kind = retrieval_kind;
    e = drive_open(&c);
    remove(path);
    assert_int_equal(engine_info(e)->router_pool_size, 150);
    assert_int_equal(engine_info(e)->local_blocks, 1);
    return e;
}

static void routers_decide_alike_in_company_and_in_pieces(void **state)
{
    (void)state;
    struct engine *e = open_routed(-1, -1);
    const int L = engine_info(e)->n_layer;
    int mixed = 0;
    check_invariance(e, true);
    struct outcome o;
    run_alone(e, LONG, 0, 0, CHUNK, true, &o);
    for (int l = 0; l < L; l++) mixed += o.route[l] == ROUTE_FULL;
    assert_true(mixed > 0 && mixed < L);
    engine_close(e);
}

/* As check_invariance, in pieces that end on page edges: there a choice of blocks is its query block's alone.
 */
static void check_choices(struct engine *e, bool open)
{
    static struct outcome alone;
    static struct crowd crowd, other;
    int n_page = 0;
    for (int s = 0; s < N_SEQ; s++) n_page += pages_of(e, lengths[s]);
    poison_pages(e, n_page);
    run_crowd(&crowd, e, 256, open);
    if (brief)
        other = crowd;
    else
        run_crowd(&other, e, 128, open);
    for (int s = 0; s < N_SEQ; s++) {
        run_alone(e, s, 5, 100, PROMPT_MOST, open, &alone);
        assert_same_outcome(&alone, &crowd.o[s]);
        assert_same_outcome(&alone, &other.o[s]);
    }
}

static void chosen_blocks_are_alike_in_company_and_in_pieces(void **state)
{
    (void)state;
    static const struct {
        int sparse, full;
    } kinds[] = {{ATTN_LIST, ATTN_FULL}, {ATTN_STREAMING, ATTN_LIST}, {ATTN_LIST, ATTN_LIST}};
    for (size_t i = brief || drive_kv == ENGINE_KV_FP8 ? 2 : 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct engine *e = open_routed(kinds[i].sparse, kinds[i].full);
        check_choices(e, true);
        engine_close(e);
    }
    for (int dtype = 0; dtype < 2 - (brief || drive_kv == ENGINE_KV_FP8); dtype++) {
        /* a choice that lives on in another layer, and kinds that no router decides */
        struct engine_conf c =
            drive_conf(model_path, dtype ? ENGINE_DTYPE_F32 : ENGINE_DTYPE_AUTO, PROMPT_MOST);
        c.layer_plan = "0:flex,1:reuse(0)";
        struct engine *e = drive_open(&c);
        check_choices(e, true);
        engine_close(e);
    }
}

/* A sequence whose routers' words are moved; its route by the rule, from the margins it tells; and its tokens
 * by that route given. */
static void check_moved(struct engine *e, int seq, int chunk, int min_full, float route_bias,
                        struct outcome *o)
{
    struct drive d;
    struct outcome given;
    const int L = engine_info(e)->n_layer;
    int full = 0;
    start(&d, e, seq, 0, 0, true);
    d.seq.min_full = min_full;
    d.seq.route_bias = route_bias;
    o->out[0] = drive_prefill(&d, chunk);
    for (int i = 1; i < N_OUT; i++) o->out[i] = drive_decode(&d);
    keep(o, &d);
    for (int l = 0; l < L; l++) {
        assert_int_equal(o->route[l],
                         full + L - l <= min_full || o->margin[l] > 0 ? ROUTE_FULL : ROUTE_SPARSE);
        full += o->route[l] == ROUTE_FULL;
    }
    assert_true(full >= min_full);
    drive_fini(&d);
    start(&d, e, seq, 1, 50, false);
    memcpy(d.route, o->route, sizeof d.route);
    given.out[0] = drive_prefill(&d, chunk);
    for (int i = 1; i < N_OUT; i++) given.out[i] = drive_decode(&d);
    for (int i = 0; i < N_OUT; i++) assert_same(&o->out[i], &given.out[i]);
    drive_fini(&d);
}

static void a_floor_makes_the_layers_left_full_and_a_bias_moves_the_margins(void **state)
{
    (void)state;
    struct engine *e = open_routed(-1, -1);
    const int L = engine_info(e)->n_layer, floors[] = {L / 4, L / 2, L - 1}, seqs[] = {0, LONG};
    int forced = 0, kept = 0;
    for (int i = brief; i < 2; i++) {
        struct outcome own, moved, again;
        check_moved(e, seqs[i], CHUNK, 0, 0, &own);
        for (size_t k = 0; k < sizeof floors / sizeof *floors; k += 1 + brief) {
            check_moved(e, seqs[i], CHUNK, floors[k], 0, &moved);
            if (k == 1) {
                check_moved(e, seqs[i], 128, floors[k], 0, &again);
                assert_same_outcome(&moved, &again);
            }
            bool reached = false; /* the floor, by the routers' own route */
            for (int l = 0, full = 0; l < L; full += own.route[l++] == ROUTE_FULL)
                reached |= full + L - l <= floors[k];
            if (!reached) assert_same_outcome(&own, &moved);
            *(memcmp(own.route, moved.route, (size_t)L) ? &forced : &kept) += 1;
        }
        if (brief) continue;
        check_moved(e, seqs[i], CHUNK, 0, -0.25f, &moved);
        assert_true(moved.margin[0] == own.margin[0] + -0.25f);
        check_moved(e, seqs[i], 128, 1, -1e6f, &moved);
        for (int l = 0; l < L; l++) assert_int_equal(moved.route[l], l == L - 1 ? ROUTE_FULL : ROUTE_SPARSE);
    }
    assert_true(forced > 0 && kept > 0);
    engine_close(e);
}

static void sparse_layers_never_read_pages_outside_sink_and_window(void **state)
{
    (void)state;
    struct engine_conf c = drive_conf(model_path, ENGINE_DTYPE_AUTO, CHUNK);
    c.local_window_size = 128;
    struct engine *e = drive_open(&c);
    struct drive d;
    struct outcome want, got;
    run_alone(e, LONG, 0, 0, CHUNK, false, &want);
    start(&d, e, LONG, 0, 0, false);
    got.out[0] = drive_prefill(&d, CHUNK);
    for (int l = 0; l < engine_info(e)->n_layer; l++) /* 420 tokens: blocks 0..3, a window of one */
        for (int b = 1; b < 3 && d.route[l] == ROUTE_SPARSE; b++) d.page[l * d.seq.page_stride + b] = -1;
    for (int i = 1; i < N_OUT; i++) got.out[i] = drive_decode(&d);
    keep(&got, &d);
    assert_same_outcome(&want, &got);
    drive_fini(&d);
    engine_close(e);
}

static void a_row_without_finite_logits_is_bad_alone(void **state)
{
    (void)state;
    struct engine_conf c = drive_conf(model_path, ENGINE_DTYPE_AUTO, CHUNK);
    struct engine *e = drive_open(&c);
    struct drive sick, well;
    struct outcome want;
    run_alone(e, 0, 5, 0, CHUNK, false, &want);
    start(&sick, e, 3, 0, 0, false);
    start(&well, e, 0, 1, 200, false);
    drive_prefill(&sick, CHUNK);
    struct sample_out first = drive_prefill(&well, CHUNK), out[2];
    assert_same(&first, &want.out[0]);

    void *nan = malloc((size_t)engine_info(e)->page_bytes);
    memset(nan, 0xff, (size_t)engine_info(e)->page_bytes);
    assert_int_equal(engine_page_write(e, sick.page[0], nan), OK); /* its own K and V of layer 0 */
    struct batch_row row[2] = {drive_row(&sick), drive_row(&well)};
    assert_int_equal(
        engine_step(e, &(struct batch){.n_row = 2, .row = row}, &(struct step_out){.row = out}, NULL), OK);
    assert_true(out[0].bad);
    assert_same(&out[1], &want.out[1]);
    free(nan);
    drive_fini(&sick);
    drive_fini(&well);
    engine_close(e);
}

/* Scoring a prompt gives the logprobs that sampling its tokens would have given, whatever the pieces. */
static void prompt_scores_do_not_depend_on_pieces(void **state)
{
    (void)state;
    static struct sample_out a[PROMPT_MOST], b[PROMPT_MOST];
    struct engine_conf c = drive_conf(model_path, ENGINE_DTYPE_AUTO, CHUNK);
    struct engine *e = drive_open(&c);
    struct sample_out end;
    uint8_t drew;
    const int L = engine_info(e)->n_layer;
    struct step_out out = {.piece = &end, .drew = &drew};
    struct drive d;
    start(&d, e, 0, 0, 0, false);
    struct batch_piece p = drive_piece(&d, 0, L, 0, 150);
    p.prompt_out = a;
    p.prompt_top = 3;
    assert_int_equal(engine_step(e, &(struct batch){.n_piece = 1, .piece = &p}, &out, NULL), OK);
    for (int l = 0; l < L; l++)
        for (int t = 0; t < 150; t += 50) {
            p = drive_piece(&d, l, l + 1, t, t + 50);
            p.prompt_out = b;
            p.prompt_top = 3;
            assert_int_equal(engine_step(e, &(struct batch){.n_piece = 1, .piece = &p}, &out, NULL), OK);
        }
    assert_int_equal(drew, 1);
    for (int t = 1; t < 150; t++) {
        assert_int_equal(a[t].id, d.tok[t]);
        assert_int_equal(a[t].n_top, 3);
        assert_true(isfinite(a[t].logprob) && a[t].logprob <= a[t].top_logprob[0]);
        assert_same(&a[t], &b[t]);
    }
    drive_fini(&d);
    engine_close(e);
}

#define INVARIANCE_TESTS                                                                                     \
    cmocka_unit_test(several_rows_of_one_sequence_are_those_of_steps_of_their_own),                          \
        cmocka_unit_test(alone_in_company_and_in_pieces_are_bit_equal_auto),                                 \
        cmocka_unit_test(alone_in_company_and_in_pieces_are_bit_equal_f32),                                  \
        cmocka_unit_test(a_request_is_alike_alone_again_and_in_batches_of_2_17_and_64),                      \
        cmocka_unit_test(routers_decide_alike_in_company_and_in_pieces),                                     \
        cmocka_unit_test(chosen_blocks_are_alike_in_company_and_in_pieces),                                  \
        cmocka_unit_test(a_floor_makes_the_layers_left_full_and_a_bias_moves_the_margins),                   \
        cmocka_unit_test(sparse_layers_never_read_pages_outside_sink_and_window),                            \
        cmocka_unit_test(a_row_without_finite_logits_is_bad_alone),                                          \
        cmocka_unit_test(prompt_scores_do_not_depend_on_pieces),                                             \
        WITH_CODES(alone_in_company_and_in_pieces_are_bit_equal_auto),                                       \
        WITH_CODES(routers_decide_alike_in_company_and_in_pieces),                                           \
        WITH_CODES(chosen_blocks_are_alike_in_company_and_in_pieces),                                        \
        WITH_CODES(a_row_without_finite_logits_is_bad_alone)

#endif
