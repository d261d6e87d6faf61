/* resume: a prompt that goes on behind pages which another prompt with the same beginning wrote has the bits
 * of one computed from its first token: tokens, logprobs, route, margins, and the sums that it keeps for the
 * next. usage: test_resume [model] (a tiny one) */
#include "tests/engine/drive.h"

#include "tests/engine/hash_router.h"
#include "tests/engine/tiny_gguf.h"

enum {
    ROOM = 1024,
    N_OUT = 3,
    WRITTEN = 704,
    SHARED_MOST = 512,
    POOLED = 100,
    BLOCKS = DRIVE_TOK / PAGE_TOK,
    SUMS = DRIVE_LAYER * 256
};
enum { SLOT_WRITER, SLOT_OTHER, SLOT_MORE, SLOT_ROW };

static const char *model_path;

static const struct setup {
    int sparse, full;
    const char *plan;
    bool on_edges; /* something chooses blocks: pieces end on page edges */
} setups[] = {{ATTN_STREAMING, ATTN_FULL, NULL, false},
              {ATTN_TRIANGLE, ATTN_FULL, NULL, false},
              {ATTN_LIST, ATTN_FULL, NULL, true},
              {ATTN_STREAMING, ATTN_LIST, NULL, true},
              {ATTN_STREAMING, ATTN_FULL, "0:flex,1:reuse(0),2:window,4:split(0)", true}};
enum { N_SETUP = sizeof setups / sizeof *setups };

static struct engine *open_setup(const struct setup *s, enum engine_dtype dtype)
{
    char path[] = "/tmp/fluxd-router-XXXXXX";
    int fd = mkstemp(path);
    float bias[DRIVE_LAYER] = {0};
    struct engine_conf c = drive_conf(model_path, dtype, ROOM);
    assert_true(fd >= 0);
    close(fd);
    struct engine *e = drive_open(&c);
    hash_router_write(path, 5, engine_info(e)->n_layer, 2, engine_info(e)->head, bias,
                      "{\"pool_size\":\"100.0\",\"local_window_size\":\"256\"}");
    engine_close(e);
    c.router = path;
    c.sparse_kind = s->sparse;
    c.retrieval_kind = s->full;
    c.layer_plan = s->plan;
    e = drive_open(&c);
    remove(path);
    assert_int_equal(engine_info(e)->router_pool_size, POOLED);
    assert_int_equal(engine_info(e)->local_blocks, 2);
    assert_true(engine_info(e)->resumes);
    return e;
}

struct outcome {
    struct sample_out out[N_OUT];
    uint8_t route[DRIVE_LAYER];
    float margin[DRIVE_LAYER], sum[SUMS];
};

static void assert_same(const struct outcome *a, const struct outcome *b)
{
    for (int i = 0; i < N_OUT; i++) {
        const struct sample_out *x = &a->out[i], *y = &b->out[i];
        assert_false(x->bad);
        assert_false(y->bad);
        assert_int_equal(x->id, y->id);
        assert_int_equal(x->n_top, y->n_top);
        assert_memory_equal(&x->logprob, &y->logprob, sizeof x->logprob);
        assert_memory_equal(x->top_id, y->top_id, (size_t)x->n_top * sizeof *x->top_id);
        assert_memory_equal(x->top_logprob, y->top_logprob, (size_t)x->n_top * sizeof *x->top_logprob);
    }
    assert_memory_equal(a->route, b->route, sizeof a->route);
    assert_memory_equal(a->margin, b->margin, sizeof a->margin);
    assert_memory_equal(a->sum, b->sum, sizeof a->sum);
}

/* A prompt of n tokens: the writer's first n_shared, then others of its own seed. route: NULL, or what layers
 * get. */
struct ask {
    int n, n_shared, seed;
    const char *route;
    float bias;
    int min_full;
};

static int used_pages(const struct engine *e, int n)
{
    return engine_info(e)->n_layer * ((n + 64 + PAGE_TOK - 1) / PAGE_TOK);
}

static void start(struct drive *d, struct engine *e, int slot, int first_page, const struct ask *a)
{
    int32_t tok[WRITTEN];
    assert_true(a->n <= WRITTEN);
    for (int i = 0; i < a->n; i++)
        tok[i] = (int32_t)(tiny_hash((uint32_t)(i + (i < a->n_shared ? 0 : 1000 * a->seed))) %
                           (uint32_t)(engine_info(e)->n_vocab - 20)) +
                 20;
    drive_init(d, e, slot, tok, a->n, a->route, first_page);
    d->seq.route_bias = a->bias;
    d->seq.min_full = a->min_full;
}

static void answer(struct drive *d, struct outcome *o, const struct sample_out *first)
{
    o->out[0] = *first;
    for (int i = 1; i < N_OUT; i++) o->out[i] = drive_decode(d);
    memcpy(o->route, d->route, sizeof o->route);
    memcpy(o->margin, d->margin, sizeof o->margin);
}

static void poison(struct engine *e, int first, int n)
{
    int64_t bytes = engine_info(e)->page_bytes;
    void *nan = malloc((size_t)bytes);
    memset(nan, 0xff, (size_t)bytes);
    for (int p = first; p < first + n; p++) assert_int_equal(engine_page_write(e, p, nan), OK);
    free(nan);
}

/* The writer: its prompt is done, its pages stand. */
struct writer {
    struct drive d;
    struct outcome o;
    char route[DRIVE_LAYER + 1]; /* of its request; empty: open */
    char *bytes;                 /* of its first pages, as it left them */
    int n_page;
};

static void write_pages(struct writer *w, struct engine *e, const char *route)
{
    const size_t bytes = (size_t)engine_info(e)->page_bytes;
    *w = (struct writer){.n_page = used_pages(e, WRITTEN)};
    if (route) memcpy(w->route, route, strlen(route) + 1);
    start(&w->d, e, SLOT_WRITER, 0, &(struct ask){.n = WRITTEN, .n_shared = WRITTEN, .route = route});
    w->d.seq.head_sum = w->o.sum;
    struct sample_out first = drive_prefill(&w->d, ROOM);
    answer(&w->d, &w->o, &first);
    w->bytes = malloc((size_t)w->n_page * bytes);
    for (int p = 0; p < w->n_page; p++)
        assert_int_equal(engine_page_read(e, p, w->bytes + (size_t)p * bytes), OK);
}

static void end_writer(struct writer *w)
{
    const size_t bytes = (size_t)engine_info(w->d.e)->page_bytes;
    char *now = malloc(bytes);
    for (int p = 0; p < w->n_page; p++) { /* nobody wrote to them */
        assert_int_equal(engine_page_read(w->d.e, p, now), OK);
        assert_memory_equal(now, w->bytes + (size_t)p * bytes, bytes);
    }
    drive_fini(&w->d);
    free(now);
    free(w->bytes);
}

/* d, not begun yet, goes on behind n_cached tokens of the writer: as the scheduler shares them, without the
 * pages that it may not read. */
static void go_on(struct drive *d, struct writer *w, int n_cached, float *sum, const uint8_t *due)
{
    const struct engine_info *m = engine_info(d->e);
    const int n = n_cached / PAGE_TOK;
    for (int l = 0; l < m->n_layer; l++)
        for (int b = 0; b < n; b++) {
            const uint8_t bit = w->d.route[l];
            const bool seen =
                !m->sparse_streams || bit != ROUTE_SPARSE || b < m->sink_blocks || b > n - m->local_blocks;
            const int32_t *page = w->d.page + l * BLOCKS;
            d->page[l * BLOCKS + b] = !seen                              ? -1
                                      : m->kv_codes && bit == ROUTE_FULL ? batch_code_page(page, 0, b)
                                                                         : page[b];
        }
    memcpy(sum, w->o.sum, sizeof w->o.sum);
    d->seq.n_cached = n_cached;
    d->seq.head_sum = sum;
    d->seq.due = due;
}

static void run_cold(struct engine *e, int slot, int first_page, const struct ask *a, struct outcome *o)
{
    static struct drive d;
    memset(o, 0, sizeof *o);
    start(&d, e, slot, first_page, a);
    d.seq.head_sum = o->sum;
    struct sample_out first = drive_prefill(&d, ROOM);
    answer(&d, o, &first);
    drive_fini(&d);
}

static int first_other(const struct engine *e, const uint8_t *a, const uint8_t *b)
{
    int l = 0;
    while (l < engine_info(e)->n_layer && a[l] == b[l]) l++;
    return l;
}

static int n_hit, n_mismatch;

/* Begins again as the scheduler does: with what it has learned of the route, and the sums up to there. */
static void begin_again(struct drive *d, int first_page, int mismatch, int chunk, const struct outcome *want)
{
    static struct outcome got;
    const uint8_t *fixed = engine_info(d->e)->fixed_route;
    const int L = engine_info(d->e)->n_layer, used = used_pages(d->e, d->seq.n_prompt) / L;
    assert_memory_equal(d->route, want->route, (size_t)mismatch + 1);
    assert_memory_equal(d->margin, want->margin, ((size_t)mismatch + 1) * sizeof *d->margin);
    for (int l = mismatch + 1; l < L; l++)
        assert_true(d->route[l] == ROUTE_OPEN || (fixed && d->route[l] == fixed[l]));
    engine_drop(d->e, d->seq.slot);
    d->seq.strayed = false;
    d->seq.n_cached = 0;
    for (int l = 0; l < L; l++)
        for (int b = 0; b < used; b++) d->page[l * BLOCKS + b] = first_page + l * used + b;
    struct sample_out first = drive_prefill(d, chunk);
    answer(d, &got, &first);
    memcpy(got.sum, d->seq.head_sum, sizeof got.sum);
    assert_same(want, &got);
    n_mismatch++;
}

/* Behind pages, in pieces of chunk tokens; what the slot's pages held before is poison. due: the writer's
 * route, or any. */
static void check_behind(struct writer *w, const struct ask *a, int n_cached, int chunk, bool any,
                         const struct outcome *want)
{
    static struct outcome got;
    static struct drive d;
    struct engine *e = w->d.e;
    const int mismatch = first_other(e, want->route, w->d.route);
    uint8_t open[DRIVE_LAYER];
    memset(open, ROUTE_OPEN, sizeof open);
    memset(&got, 0, sizeof got);
    poison(e, w->n_page, used_pages(e, a->n));
    start(&d, e, SLOT_OTHER, w->n_page, a);
    go_on(&d, w, n_cached, got.sum, any ? open : w->d.route);
    struct sample_out first = drive_prefill(&d, chunk);
    assert_int_equal(d.seq.strayed, !any && mismatch < engine_info(e)->n_layer);
    assert_memory_equal(got.sum, w->o.sum, sizeof got.sum); /* only read */
    if (d.seq.strayed)
        begin_again(&d, w->n_page, mismatch, chunk, want);
    else {
        answer(&d, &got, &first);
        assert_same(want, &got);
        n_hit++;
    }
    drive_fini(&d);
}

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { FIRST_CHUNK = 2 }; /* pieces of one size show what sanitizers look for */
#else
enum { FIRST_CHUNK = 0 };
#endif

static void check(struct writer *w, const struct setup *s, const struct ask *a, int n_cached)
{
    static struct outcome want;
    const int chunks[] = {ROOM, 128, s->on_edges ? 256 : 96};
    run_cold(w->d.e, SLOT_OTHER, w->n_page, a, &want);
    for (int i = drive_kv == ENGINE_KV_FP8 ? 1 : FIRST_CHUNK; i < 3; i++) {
        check_behind(w, a, n_cached, chunks[i], false, &want);
        if (n_cached / PAGE_TOK <= engine_info(w->d.e)->common_blocks)
            check_behind(w, a, n_cached, chunks[i], true, &want);
    }
}

static void check_setup(const struct setup *s, enum engine_dtype dtype)
{
    static struct writer w;
    char given[DRIVE_LAYER + 1] = {0};
    struct engine *e = open_setup(s, dtype);
    const int L = engine_info(e)->n_layer;
    static const int cached[] = {128, 256, SHARED_MOST}, more[] = {POOLED, 163, 192}, few[] = {1, 17, 130};
    write_pages(&w, e, NULL);
    for (int i = 0; i < 3; i++) {
        const int n = cached[i] + more[i], l = (i + 1) * L / 4;
        check(&w, s, &(struct ask){.n = n, .n_shared = n}, cached[i]);
        check(&w, s, &(struct ask){.n = n, .n_shared = cached[i], .seed = i + 1}, cached[i]);
        check(&w, s,
              &(struct ask){.n = n, .n_shared = cached[i] + 1, .seed = i + 7, .bias = -1.5f * w.o.margin[l]},
              cached[i]); /* layer l's bit is another, if its router decides */
        if (i == 1) check(&w, s, &(struct ask){.n = n, .n_shared = n, .min_full = L - 2}, cached[i]);
    }
    end_writer(&w);
    for (int l = 0; l < L; l++)
        given[l] = (char)('0' + (engine_info(e)->fixed_route && engine_info(e)->fixed_route[l] != ROUTE_OPEN
                                     ? engine_info(e)->fixed_route[l]
                                     : (l * 7 + 3) % 3 == 0));
    write_pages(&w, e, given);
    for (int i = 0; i < 3; i++)
        check(&w, s,
              &(struct ask){.n = cached[i] + few[i], .n_shared = cached[i], .seed = i + 1, .route = given},
              cached[i]);
    end_writer(&w);
    engine_close(e);
}

static void behind_pages_a_prompt_has_the_bits_of_one_without(void **state)
{
    (void)state;
    n_hit = n_mismatch = 0;
    for (int i = 0; i < N_SETUP; i += drive_kv == ENGINE_KV_FP8 ? 3 : 1)
        check_setup(&setups[i], ENGINE_DTYPE_AUTO);
    assert_true(n_hit > 0 && n_mismatch > 0);
    printf("%d behind pages, %d began again\n", n_hit, n_mismatch);
}

static void it_has_them_in_f32(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) check_setup(&setups[i], ENGINE_DTYPE_F32);
}

/* Two behind pages and one from its beginning in one call, beside a row that decodes. */
static void it_has_them_in_company(void **state)
{
    (void)state;
    static struct writer w;
    static struct outcome want[4];
    static struct drive d[4];
    static float sum[4][SUMS];
    struct engine *e = open_setup(&setups[0], ENGINE_DTYPE_AUTO);
    const int L = engine_info(e)->n_layer;
    char given[DRIVE_LAYER + 1] = {0};
    for (int l = 0; l < L; l++) given[l] = (char)('0' + (l * 7 + 3) % 3 % 2);
    /* with codes the routers of this model never decide for two prompts alike */
    const char *route = drive_kv == ENGINE_KV_FP8 ? given : NULL;
    write_pages(&w, e, route);
    struct ask ask[4] = {{.n = 256 + 163, .n_shared = WRITTEN},
                         {.n = 200, .seed = 3},
                         {.n = SHARED_MOST + 120, .n_shared = WRITTEN},
                         {.n = 150, .seed = 4}};
    const int behind[4] = {256, 0, SHARED_MOST, 0},
              slot[4] = {SLOT_OTHER, SLOT_MORE, SLOT_MORE + 2, SLOT_ROW};
    int at = w.n_page;
    memset(sum, 0, sizeof sum);
    for (int i = 0; i < 4; i++) ask[i].route = route;
    for (int i = 0; i < 4; at += used_pages(e, ask[i].n), i++) {
        run_cold(e, slot[i], at, &ask[i], &want[i]);
        start(&d[i], e, slot[i], at, &ask[i]);
        d[i].seq.head_sum = sum[i];
        if (behind[i]) go_on(&d[i], &w, behind[i], sum[i], w.d.route);
    }
    struct sample_out out[3], row_out, first = drive_prefill(&d[3], ROOM);
    uint8_t drew[3] = {0};
    struct batch_piece p[3];
    struct batch_row row = drive_row(&d[3]);
    assert_int_equal(first.id, want[3].out[0].id);
    for (int i = 0; i < 3; i++) p[i] = drive_piece(&d[i], 0, L, behind[i], ask[i].n);
    assert_int_equal(engine_step(e, &(struct batch){.n_piece = 3, .piece = p, .n_row = 1, .row = &row},
                                 &(struct step_out){.piece = out, .row = &row_out, .drew = drew}, NULL),
                     OK);
    assert_int_equal(row_out.id, want[3].out[1].id);
    assert_memory_equal(&row_out.logprob, &want[3].out[1].logprob, sizeof row_out.logprob);
    int hits = 0;
    for (int i = 0; i < 3; i++) {
        static struct outcome got;
        memset(&got, 0, sizeof got);
        if (behind[i] && first_other(e, want[i].route, w.d.route) < L) {
            assert_true(d[i].seq.strayed);
            continue;
        }
        assert_int_equal(drew[i], 1);
        d[i].tok[d[i].n_tok++] = out[i].id;
        answer(&d[i], &got, &out[i]);
        memcpy(got.sum, sum[i], sizeof got.sum);
        assert_same(&want[i], &got);
        hits += behind[i] > 0;
    }
    assert_true(hits > 0);
    for (int i = 0; i < 4; i++) drive_fini(&d[i]);
    end_writer(&w);
    engine_close(e);
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/fluxd-tiny-XXXXXX";
    struct strbuf b;
    if (argc < 2) {
        strbuf_init(&b);
        tiny_gguf_build(&b);
        tiny_write(path, b.data, b.len);
        strbuf_fini(&b);
    }
    model_path = argc < 2 ? path : argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behind_pages_a_prompt_has_the_bits_of_one_without),
        cmocka_unit_test(it_has_them_in_f32), cmocka_unit_test(it_has_them_in_company),
        WITH_CODES(behind_pages_a_prompt_has_the_bits_of_one_without), WITH_CODES(it_has_them_in_company)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (argc < 2) remove(path);
    return failed;
}
