/* step over a device that computes nothing and writes down what it is asked for. */
#include "engine/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/forward.h"

enum { LAYERS = 3, MAX_TOK = 8, MAX_LEN = 512, SEQS = 4 };

static struct {
    char text[2048]; /* what was asked for, in order */
    char fails;      /* the part that fails: its first letter */
} seen;

static enum err part(char letter, const char *more)
{
    const size_t n = strlen(seen.text);
    snprintf(seen.text + n, sizeof seen.text - n, "%s%c%s", n ? " " : "", letter, more);
    return letter == seen.fails ? ERR_DEVICE : OK;
}

static enum err begin(const struct call *c)
{
    char more[64];
    snprintf(more, sizeof more, "%s%d/%d@%d-%d", c->decode ? "d" : "", c->n_span, c->n_tok, c->layer0,
             c->layer1);
    for (int i = 0; i < c->n_span; i++) /* rows are told by position, so that streams can be looked at */
        for (int r = 0; r < c->span[i].n; r++)
            ((float *)c->e->mem.x)[c->span[i].row0 + r] = (float)(c->span[i].pos0 + r);
    return part('b', more);
}

static enum err layers(const struct call *c)
{
    (void)c;
    return part('l', "");
}

static enum err take_bits(const struct call *c)
{
    (void)c;
    return part('t', "");
}

static enum err sample(const struct call *c, int n, const int *row, const struct sample_row *s,
                       struct sample_out *out)
{
    char more[256] = "";
    (void)c;
    for (int i = 0; i < n; i++) {
        const size_t at = strlen(more);
        snprintf(more + at, sizeof more - at, ",%d>%d", row[i], s[i].force_id);
        out[i].id = 100 * s[i].pos + row[i];
    }
    return part('s', more);
}

static enum err end(struct engine *e, enum err err, struct step_out *out, struct err_note *note)
{
    (void)e;
    (void)note;
    out->idle_ns = 7;
    const enum err own = part('e', err == OK ? "" : "!");
    return err == OK ? own : err;
}

static const struct forward fake = {
    .decode_rows = 3, .begin = begin, .layers = layers, .take_bits = take_bits, .sample = sample, .end = end};

struct world {
    struct engine e;
    int32_t tok[MAX_LEN];
    uint8_t route[LAYERS];
    struct batch_seq seq[SEQS];
    struct span span[MAX_TOK];
    int row[MAX_TOK];
    struct sample_row sample[MAX_TOK];
    struct sample_out out[MAX_TOK];
};

static int open_world(void **state)
{
    static struct world w;
    struct err_note note = {0};
    w = (struct world){.e = {.forward = &fake, .max_tok = MAX_TOK, .logit_tok = MAX_TOK}};
    w.e.spec = (struct spec){
        .n_layer = LAYERS, .d = 1, .n_head = 1, .n_kv = 1, .head = 8, .f = 8, .n_vocab = 16, .eps = 1e-5f};
    const struct backend_conf conf = {
        .dtype = ENGINE_DTYPE_F32, .n_thread = 1, .max_tok = MAX_TOK, .max_k = 8, .max_n = 16};
    assert_int_equal(backend_cpu_open(&w.e.be, &conf, &note), OK);
    const struct memory_conf m = {.max_tok = MAX_TOK,
                                  .router_tok = 1,
                                  .logit_tok = MAX_TOK,
                                  .max_len = MAX_LEN,
                                  .max_seqs = SEQS,
                                  .stream_tok = MAX_LEN,
                                  .pool_bytes = 1 << 20};
    assert_int_equal(memory_open(&w.e.mem, w.e.be, &w.e.spec, &m, &note), OK);
    w.e.span = w.span;
    w.e.row = w.row;
    w.e.sample = w.sample;
    w.e.out = w.out;
    for (int i = 0; i < MAX_LEN; i++) w.tok[i] = i % 10;
    for (int i = 0; i < SEQS; i++)
        w.seq[i] = (struct batch_seq){.slot = i, .tok = w.tok, .n_prompt = 6, .route = w.route};
    memset(&seen, 0, sizeof seen);
    *state = &w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    memory_close(&w->e.mem, w->e.be);
    w->e.be->close(w->e.be);
    return 0;
}

static struct batch_piece piece_of(struct world *w, int seq, int layer0, int layer1, int tok0, int tok1)
{
    return (struct batch_piece){
        .seq = &w->seq[seq], .layer0 = layer0, .layer1 = layer1, .tok0 = tok0, .tok1 = tok1, .sample.pos = 6};
}

static enum err run(struct world *w, const struct batch *b, struct step_out *out)
{
    seen.text[0] = 0;
    return step_run(&w->e, b, out, NULL);
}

static void decode_rows_go_in_calls_of_at_most_what_the_device_takes(void **state)
{
    struct world *w = *state;
    struct batch_row row[7];
    struct sample_out got[7];
    struct step_out out = {.row = got};
    for (int i = 0; i < 7; i++)
        row[i] = (struct batch_row){.seq = &w->seq[i % SEQS], .pos = 10 + i, .sample.pos = 11 + i};
    assert_int_equal(run(w, &(struct batch){.n_row = 7, .row = row}, &out), OK);
    assert_string_equal(seen.text, "bd3/3@0-3 l s,0>0,1>0,2>0 bd3/3@0-3 l s,0>0,1>0,2>0 bd1/1@0-3 l s,0>0 e");
    for (int i = 0; i < 7; i++) assert_int_equal(got[i].id, 100 * (11 + i) + i % 3);
    assert_int_equal(out.idle_ns, 7);
}

static void rows_of_one_sequence_stay_in_order_over_calls(void **state)
{
    struct world *w = *state;
    struct batch_row row[6];
    struct sample_out got[6];
    static const int seq[] = {0, 1, 1, 1, 1, 2};
    for (int i = 0; i < 6; i++)
        row[i] = (struct batch_row){.seq = &w->seq[seq[i]], .pos = 20 + i, .sample.pos = 21 + i};
    assert_int_equal(run(w, &(struct batch){.n_row = 6, .row = row}, &(struct step_out){.row = got}), OK);
    assert_string_equal(seen.text, "bd3/3@0-3 l s,0>0,1>0,2>0 bd3/3@0-3 l s,0>0,1>0,2>0 e");
    for (int i = 0; i < 6; i++) assert_int_equal(got[i].id, 100 * (21 + i) + i % 3);
}

static void pieces_share_a_call_while_layers_are_the_same_and_rows_fit(void **state)
{
    struct world *w = *state;
    struct batch_piece p[] = {piece_of(w, 0, 0, 1, 0, 3), piece_of(w, 1, 0, 1, 0, 5),
                              piece_of(w, 2, 0, 1, 0, 1), piece_of(w, 3, 1, 2, 0, 2),
                              piece_of(w, 3, 1, 2, 2, 4)};
    struct sample_out got[5];
    uint8_t drew[5];
    struct step_out out = {.piece = got, .drew = drew};
    for (int i = 0; i < 4; i++) /* what the pieces of layer 1 find there */
        memory_stream_put(&w->e.mem, w->e.be, 3, i, i + 1, &(float){9});
    assert_int_equal(run(w, &(struct batch){.n_piece = 5, .piece = p}, &out), OK);
    assert_string_equal(seen.text, "b2/8@0-1 l t b1/1@0-1 l t b1/2@1-2 l t b1/2@1-2 l t e");
    for (int i = 0; i < 5; i++) assert_int_equal(drew[i], 0);
}

static void rows_wait_in_the_streams_between_layers_and_the_last_row_draws(void **state)
{
    struct world *w = *state;
    struct batch_piece low = piece_of(w, 1, 1, 2, 0, 6),
                       top[] = {piece_of(w, 0, 2, 3, 0, 2), piece_of(w, 1, 2, 3, 0, 6)};
    struct sample_out got[2] = {{.id = -1}, {.id = -1}};
    uint8_t drew[2];
    float rows[6];
    struct step_out out = {.piece = got, .drew = drew};
    const int n_free = w->e.mem.n_free;
    assert_int_equal(run(w, &(struct batch){.n_piece = 1, .piece = &low}, &out), OK);
    assert_int_equal(w->e.mem.n_free, n_free - 1);
    memory_stream_get(&w->e.mem, w->e.be, 1, 0, 6, rows);
    for (int i = 0; i < 6; i++) assert_true(rows[i] == (float)i);
    assert_int_equal(run(w, &(struct batch){.n_piece = 2, .piece = top}, &out), OK);
    assert_string_equal(seen.text, "b2/8@2-3 l t s,7>0 e");
    assert_int_equal(w->e.mem.n_free, n_free);
    assert_int_equal(drew[0], 0);
    assert_int_equal(drew[1], 1);
    assert_int_equal(got[0].id, -1);
    assert_int_equal(got[1].id, 607);
}

static void a_prompt_is_scored_row_by_row_by_the_token_that_follows(void **state)
{
    struct world *w = *state;
    struct sample_out scores[6], got;
    uint8_t drew;
    struct batch_piece p = piece_of(w, 0, 2, 3, 3, 6);
    struct step_out out = {.piece = &got, .drew = &drew};
    memset(scores, 0, sizeof scores);
    p.prompt_out = scores;
    assert_int_equal(run(w, &(struct batch){.n_piece = 1, .piece = &p}, &out), OK);
    assert_string_equal(seen.text, "b1/3@2-3 l t s,0>4,1>5 s,2>0 e");
    const int32_t want[] = {0, 0, 0, 0, 400, 501};
    for (int i = 0; i < 6; i++) assert_int_equal(scores[i].id, want[i]);
    assert_int_equal(got.id, 602);
}

static void a_part_that_fails_is_the_last_but_the_end(void **state)
{
    struct world *w = *state;
    struct batch_row row = {.seq = &w->seq[0], .pos = 10};
    struct batch_piece p = piece_of(w, 1, 2, 3, 0, 6);
    struct sample_out got[2];
    uint8_t drew;
    static const struct {
        char fails;
        int rows;
        const char *want;
    } of[] = {{'b', 1, "bd1/1@0-3 e!"},          {'l', 1, "bd1/1@0-3 l e!"},
              {'s', 1, "bd1/1@0-3 l s,0>0 e!"},  {'b', 0, "b1/6@2-3 e!"},
              {'l', 0, "b1/6@2-3 l e!"},         {'t', 0, "b1/6@2-3 l t e!"},
              {'s', 0, "b1/6@2-3 l t s,5>0 e!"}, {'e', 0, "b1/6@2-3 l t s,5>0 e"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct step_out out = {.row = got, .piece = got + 1, .drew = &drew};
        seen.fails = of[i].fails;
        const struct batch b = {.n_row = of[i].rows, .row = &row, .n_piece = 1, .piece = &p};
        assert_int_equal(run(w, &b, &out), ERR_DEVICE);
        assert_string_equal(seen.text, of[i].want);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(decode_rows_go_in_calls_of_at_most_what_the_device_takes),
                                       CASE(rows_of_one_sequence_stay_in_order_over_calls),
                                       CASE(pieces_share_a_call_while_layers_are_the_same_and_rows_fit),
                                       CASE(rows_wait_in_the_streams_between_layers_and_the_last_row_draws),
                                       CASE(a_prompt_is_scored_row_by_row_by_the_token_that_follows),
                                       CASE(a_part_that_fails_is_the_last_but_the_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
