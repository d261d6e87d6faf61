/* world: the real scheduler in virtual time. This header takes the place of base/clock and of the engine in
 * the link: a step computes nothing, and moves the clock by what a machine of known prices would need. The
 * scheduler does not know those prices; it learns them as it does in life. One thread does everything, so a
 * run is a function of its conf.
 *
 * The machine is a model (an 8B shape on one large GPU, told in 16 layers): what is compared here is the
 * policy, not a card. */
#ifndef FLUXD_TESTS_SIM_WORLD_H
#define FLUXD_TESTS_SIM_WORLD_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "scheduler/internal.h"
#include "tests/scheduler/aging.h"

enum {
    SIM_L = 16,
    SIM_SEQS = 64,
    SIM_PAGES = 60000,
    SIM_MAX_LEN = 132096,
    SIM_QUEUE = 4000,
    ITL_BINS = 4000,
    WHOLE_EVERY = 1000,
    SIM_AGING_MS = 5000
};
static const double ITL_BIN_BASE = 1.005; /* ratio of neighbouring bins, from 0.01 ms */

static int64_t sim_now_ns = 1;
int64_t clock_ns(void) { return sim_now_ns; }
int64_t clock_wall_s(void) { return sim_now_ns / 1000000000; }

/* --- the machine */
struct engine {
    struct engine_info info;
    uint32_t seed;
    double busy_ms;
    const struct scheduler *s; /* whose laws are looked at */
};

static uint32_t sim_rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}
static double sim_u(uint32_t *s) { return (sim_rnd(s) + 0.5) / 16777216.0; }

const struct engine_info *engine_info(const struct engine *e) { return &e->info; }
void engine_drop(struct engine *e, int slot)
{
    (void)e;
    (void)slot;
}
void engine_close(struct engine *e) { (void)e; }
enum err engine_page_read(struct engine *e, int32_t page, void *to)
{
    (void)e, (void)page, (void)to;
    return OK;
}
enum err engine_page_write(struct engine *e, int32_t page, const void *from)
{
    (void)e, (void)page, (void)from;
    return OK;
}

/* Bytes of each layer at the memory's speed but never less than a launch, and a price for each border between
 * full and sparse rows. */
static double sim_decode_ms(const struct engine *e, const struct batch *b)
{
    const double PASS = 5, ROW = 0.02, PAGE = 0.00016, BORDER = 0.003, FLOOR = 0.02;
    int window = e->info.sink_blocks + e->info.local_blocks;
    double ms = PASS + ROW * b->n_row;
    for (int l = 0; l < SIM_L; l++) {
        int pages = 0, borders = 0;
        for (int i = 0; i < b->n_row; i++) {
            int bit = b->row[i].seq->route[l], all = b->row[i].pos / PAGE_TOK + 1;
            CHECK(bit != ROUTE_OPEN);
            pages += bit == ROUTE_FULL || all < window ? all : window;
            borders += i > 0 && bit != b->row[i - 1].seq->route[l];
        }
        ms += fmax(FLOOR, PAGE * pages + BORDER * borders);
    }
    return ms;
}

static double sim_piece_ms(const struct engine *e, const struct batch_piece *p)
{
    const double PASS = 0.05, TOK = 0.0031, KEY = 4e-8;
    double ms = 0, window = (e->info.sink_blocks + e->info.local_blocks) * PAGE_TOK, n = p->tok1 - p->tok0;
    for (int l = p->layer0; l < p->layer1; l++) {
        if (p->tok0 == 0 && p->seq->route[l] == ROUTE_OPEN) { /* a quarter of the layers is full */
            uint32_t h = (uint32_t)p->seq->tok[0] * 2654435761u + (uint32_t)l * 40503u;
            p->seq->route[l] = (h >> 13) % 4 == 0 ? ROUTE_FULL : ROUTE_SPARSE;
        }
        double keys = 0.5 * (p->tok0 + p->tok1);
        ms += PASS + n * (TOK + KEY * (p->seq->route[l] == ROUTE_FULL ? keys : fmin(keys, window)));
    }
    return ms;
}

static bool has_senior(const struct scheduler *s, const struct request *prompt)
{
    for (int i = 0; i < s->plan.n_row; i++) {
        const struct request *r = s->slot[s->plan.row[i].seq]->req;
        if (r->ask.priority < prompt->ask.priority ||
            (double)(prompt->queue.submit_ns - r->queue.first_tok_ns) >= s->core.lim.burst_ms * 1e6)
            return true;
    }
    return false;
}

/* A step with rows: to the target, else to the stretch, or to the burst's bound where a prompt has no senior
 * among them; as near as a smallest piece comes to it. By the prices it was planned with. */
static void check_step(const struct scheduler *s)
{
    const struct plan_limits *lim = &s->core.lim;
    bool burst = false;
    double decode_ms = cost_ms(&s->cost.decode, s->plan.decode_work);
    if (s->plan.n_row == 0 || s->plan.n_piece == 0) return;
    for (int i = 0; i < SIM_SEQS; i++)
        burst |= s->seq[i].req && s->seq[i].phase == SEQ_PREFILL && !has_senior(s, s->seq[i].req);
    double most_ms = lim->itl_target_ms > 0 ? lim->itl_target_ms
                                            : fmax(lim->stretch * decode_ms, burst ? lim->burst_ms : 0);
    CHECK(s->plan.prefill_ms <=
          fmax(most_ms - decode_ms, 0) + cost_ms(&s->cost.prefill, cost_piece(PAGE_TOK, 1, SIM_MAX_LEN)));
}

enum err engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    (void)note;
    check_step(e->s);
    double noise = (0.95 + 0.1 * sim_u(&e->seed)) * (sim_rnd(&e->seed) % 500 ? 1 : 4);
    double decode = b->n_row ? sim_decode_ms(e, b) * noise : 0, prefill = 0;
    for (int i = 0; i < b->n_row; i++) out->row[i] = (struct sample_out){.id = 1};
    for (int i = 0; i < b->n_piece; i++) {
        prefill += sim_piece_ms(e, &b->piece[i]) * noise;
        out->drew[i] = b->piece[i].layer1 == SIM_L && b->piece[i].tok1 == b->piece[i].seq->n_prompt;
        if (out->drew[i]) out->piece[i] = (struct sample_out){.id = 1};
    }
    out->decode_ns = (int64_t)(decode * 1e6);
    out->prefill_ns = (int64_t)(prefill * 1e6);
    sim_now_ns += out->decode_ns + out->prefill_ns + 50000;
    e->busy_ms += decode + prefill;
    return OK;
}

/* --- the traces */
enum trace {
    TRACE_POISSON,
    TRACE_BURSTS,
    TRACE_AGENTS,
    TRACE_DOCUMENTS,
    TRACE_ADVERSARY,
    TRACE_PRIORITIES,
    N_TRACES
};
static const char *const trace_name[N_TRACES] = {"poisson",   "bursts",    "agents",
                                                 "documents", "adversary", "priorities"};

struct arrival {
    double at_ms;
    int n_prompt, n_new, priority;
    const uint8_t *mask; /* NULL: the routers decide */
};

static int log_between(uint32_t *s, int low, int high)
{
    return (int)(low * exp(sim_u(s) * log((double)high / low)));
}

static struct arrival shape(enum trace t, int i, uint32_t *s)
{
    static const uint8_t half[2][SIM_L] = {{1, 1, 1, 1, 1, 1, 1, 1},
                                           {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}};
    switch (t) {
    case TRACE_AGENTS: /* turns of a session: the same 8,000 tokens before, and 600 more each turn */
        return (struct arrival){.n_prompt = 8000 + 600 * (i % 10), .n_new = log_between(s, 20, 150)};
    case TRACE_DOCUMENTS:
        return sim_rnd(s) % 500 ? (struct arrival){.n_prompt = 100 + (int)(sim_rnd(s) % 200),
                                                   .n_new = log_between(s, 20, 200)}
                                : (struct arrival){.n_prompt = 131000, .n_new = 100};
    case TRACE_ADVERSARY: /* a hundred of one half of the layers, then a hundred of the other */
        return (struct arrival){.n_prompt = log_between(s, 2000, 16000),
                                .n_new = log_between(s, 20, 200),
                                .mask = half[i / 100 % 2]};
    case TRACE_PRIORITIES: /* few of low priority in a crowd, some of them large */
        return i % 50
                   ? (struct arrival){.n_prompt = log_between(s, 100, 4000), .n_new = log_between(s, 20, 200)}
                   : (struct arrival){.n_prompt = i % 200 ? 500 : 20000, .n_new = 50, .priority = 2 + i % 3};
    default:
        return (struct arrival){.n_prompt = log_between(s, 100, 4000), .n_new = log_between(s, 20, 200)};
    }
}

/* Rough work of one, for the rate: its prefill, and its part of a pass of 32. */
static double work_ms(const struct arrival *a)
{
    double n = a->n_prompt, full = a->mask ? 0.5 : 0.25;
    double keys = full * n / 2 + (1 - full) * fmin(n / 2, 1152);
    double pages = SIM_L * (full * n / PAGE_TOK + (1 - full) * fmin(n / PAGE_TOK, 9));
    return SIM_L * n * (0.0031 + 4e-8 * keys) + a->n_new * (5.9 / 32 + 0.02 + 0.00016 * pages);
}

static struct arrival *new_trace(enum trace t, int n, double load, uint32_t seed)
{
    struct arrival *a = calloc((size_t)n, sizeof *a);
    double sum = 0, at = 0;
    CHECK(a);
    for (int i = 0; i < n; i++) {
        a[i] = shape(t, i, &seed);
        sum += work_ms(&a[i]);
    }
    double gap = sum / n / load;
    for (int i = 0; i < n; i++) {
        at +=
            t == TRACE_BURSTS ? (i % 200 == 0 ? gap * 200 * 2 * sim_u(&seed) : 0) : -gap * log(sim_u(&seed));
        a[i].at_ms = at;
    }
    return a;
}

/* --- a run */
struct sim_conf {
    enum trace trace;
    enum route_policy policy; /* --route-policy */
    bool age;
    double target_ms, burst_ms; /* --itl-target-ms (0: the stretch of a device), --itl-burst-ms */
    int n;
    double load;
    uint32_t seed;
};
struct sim_result {
    int n_sent, n_accepted, n_refused, n_done, n_tok;
    double ttft50_ms, ttft99_ms, ttft_most_ms, low_most_ms /* a first token of low priority */, itl99_ms,
        tok_per_s, error; /* error: of the cost model, mean relative */
    int passed_most;
    int64_t steps, preemptions, pages_peak;
};

struct visitor {
    struct request r;
    int n_got;
    int64_t last_ns;
};
struct sim {
    struct engine e;
    struct scheduler *s;
    struct sim_result res;
    float *ttft;
    int n_ttft;
    int64_t itl[ITL_BINS];
};

static struct visitor *new_visitor(const struct arrival *a, int i)
{
    struct visitor *v = calloc(1, sizeof *v);
    CHECK(v);
    v->r.ask.prompt = calloc((size_t)(a->n_prompt + a->n_new + 1), sizeof *v->r.ask.prompt);
    v->r.shared.use.route = calloc(SIM_L, 1);
    CHECK(v->r.ask.prompt && v->r.shared.use.route);
    v->r.ask.prompt[0] = i; /* what the router decides from */
    v->r.ask.n_prompt = a->n_prompt;
    v->r.ask.max_new = a->n_new;
    v->r.ask.max_new_given = true;
    v->r.ask.priority = a->priority;
    v->r.ask.key_id = (uint32_t)i % 3;
    v->r.ask.route_ask = a->mask ? ROUTE_ASK_MASK : ROUTE_ASK_AUTO;
    v->r.ask.route_mask = a->mask;
    return v;
}

static void free_visitor(struct visitor *v)
{
    free(v->r.ask.prompt);
    free(v->r.shared.use.route);
    free(v);
}

static void sim_arrive(struct sim *w, const struct arrival *a, int i)
{
    struct visitor *v = new_visitor(a, i);
    struct err_note note;
    enum err err = scheduler_submit(w->s, &v->r, &note);
    w->res.n_sent++;
    if (err) {
        CHECK(err == ERR_QUEUE_FULL);
        w->res.n_refused++;
        free_visitor(v);
        return;
    }
    w->res.n_accepted++;
}

static void sim_token(struct sim *w, struct visitor *v)
{
    if (v->n_got++ == 0) {
        double ms = (double)(sim_now_ns - v->r.queue.submit_ns) * 1e-6;
        w->ttft[w->n_ttft++] = (float)ms;
        w->res.low_most_ms = v->r.ask.priority > 0 && ms > w->res.low_most_ms ? ms : w->res.low_most_ms;
    } else {
        int bin = (int)(log((double)(sim_now_ns - v->last_ns) * 1e-6 / 0.01) / log(ITL_BIN_BASE));
        w->itl[bin < 0 ? 0 : bin < ITL_BINS ? bin : ITL_BINS - 1]++;
    }
    v->last_ns = sim_now_ns;
    w->res.n_tok++;
}

static void sim_read(struct sim *w)
{
    struct request *ready[256];
    for (size_t n; (n = scheduler_poll(w->s, ready, 256)) > 0;)
        for (size_t i = 0; i < n; i++) {
            struct visitor *v = (struct visitor *)ready[i];
            struct event e;
            bool done = false;
            while (!done && request_next_event(&v->r, &e)) {
                done = e.kind == EVENT_DONE;
                if (!done) sim_token(w, v);
            }
            if (!done) continue;
            CHECK(e.finish == FINISH_LENGTH && v->n_got == v->r.ask.max_new); /* each ends once, whole */
            CHECK(v->r.queue.passed <= w->s->core.lim.pass_most);             /* nobody starves */
            w->res.passed_most =
                v->r.queue.passed > w->res.passed_most ? v->r.queue.passed : w->res.passed_most;
            w->res.n_done++;
            free_visitor(v);
        }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double itl_quantile(const struct sim *w, double q)
{
    int64_t n = 0, seen = 0;
    for (int i = 0; i < ITL_BINS; i++) n += w->itl[i];
    for (int i = 0; i < ITL_BINS; i++)
        if ((double)(seen += w->itl[i]) >= q * (double)n) return 0.01 * pow(ITL_BIN_BASE, i + 1);
    return INFINITY;
}

static void sim_open(struct sim *w, const struct sim_conf *c)
{
    sim_now_ns = 1;
    w->e = (struct engine){.seed = c->seed};
    w->e.info = (struct engine_info){.name = "model",
                                     .n_layer = SIM_L,
                                     .n_vocab = 1000,
                                     .n_head = 32,
                                     .n_kv = 8,
                                     .head = 128,
                                     .d_model = 4096,
                                     .max_len = SIM_MAX_LEN,
                                     .max_seqs = SIM_SEQS,
                                     .max_prefill_tok = 2 * SIM_MAX_LEN,
                                     .chunk_tok = 2048,
                                     .n_page = SIM_PAGES,
                                     .page_bytes = 1 << 19,
                                     .has_router = true,
                                     .sink_blocks = 1,
                                     .local_blocks = 8,
                                     .sparse_streams = true};
    struct scheduler_conf sc = {.queue_len = SIM_QUEUE,
                                .chunk_tok = 2048,
                                .default_max_tok = 1024,
                                .itl_target_ms = c->target_ms,
                                .itl_burst_ms = c->burst_ms,
                                .priority_aging_ms = SIM_AGING_MS,
                                .route = "auto",
                                .route_policy = c->policy};
    struct err_note note;
    CHECK(scheduler_open(&w->s, &sc, &w->e, &note) == OK);
    w->e.s = w->s;
    if (!c->age) {
        w->s->core.lim.age = 0;
        w->s->core.lim.aging_ns = 0;
        w->s->core.lim.pass_most = INT32_MAX;
    }
    w->ttft = calloc((size_t)c->n, sizeof *w->ttft);
    CHECK(w->ttft);
}

static void sim_close(struct sim *w, const struct sim_conf *c)
{
    struct sim_result *r = &w->res;
    CHECK(r->n_done == r->n_accepted && r->n_sent == c->n && r->n_accepted + r->n_refused == r->n_sent);
    accounting_check(w->s);
    CHECK(kvpool_n_free(w->s->core.pool) == SIM_PAGES);
    qsort(w->ttft, (size_t)w->n_ttft, sizeof *w->ttft, by_value);
    r->ttft50_ms = (double)w->ttft[w->n_ttft / 2];
    r->ttft99_ms = (double)w->ttft[(int)(w->n_ttft * 0.99)];
    r->ttft_most_ms = (double)w->ttft[w->n_ttft - 1];
    r->itl99_ms = itl_quantile(w, 0.99);
    r->tok_per_s = r->n_tok / ((double)sim_now_ns * 1e-9);
    r->error = w->s->cost.decode.error;
    r->preemptions = (int64_t)atomic_load(&w->s->stats.preemptions);
    scheduler_close(w->s);
    free(w->ttft);
}

/* Aborts when a law is broken. */
static struct sim_result sim_run(const struct sim_conf *c)
{
    static struct sim w;
    struct arrival *a = new_trace(c->trace, c->n, c->load, c->seed);
    w = (struct sim){0};
    sim_open(&w, c);
    int idle = 0;
    for (int next = 0; next < c->n || w.res.n_done < w.res.n_accepted;) {
        for (; next < c->n && a[next].at_ms * 1e6 <= (double)sim_now_ns; next++)
            sim_arrive(&w, &a[next], next);
        enum err err = OK;
        enum turn t = scheduler_turn(w.s, NULL, &err);
        CHECK(t != TURN_OVER);
        sim_read(&w);
        accounting_check_quick(w.s);
        aging_check(w.s);
        if (++w.res.steps % WHOLE_EVERY == 0) accounting_check(w.s);
        int64_t used = SIM_PAGES - kvpool_n_free(w.s->core.pool);
        w.res.pages_peak = used > w.res.pages_peak ? used : w.res.pages_peak;
        idle = t == TURN_IDLE ? idle + 1 : 0;
        CHECK(idle < 10000); /* no livelock: without arrivals something always runs */
        if (t == TURN_IDLE && next < c->n)
            sim_now_ns =
                a[next].at_ms * 1e6 > (double)sim_now_ns ? (int64_t)(a[next].at_ms * 1e6) + 1 : sim_now_ns;
    }
    sim_close(&w, c);
    free(a);
    return w.res;
}

#endif
