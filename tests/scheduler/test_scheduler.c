/* scheduler: the laws, over the fake engine: one DONE each, the same tokens whatever happens around, no page
 * lost. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "scheduler/apply.h"
#include "scheduler/scheduler.h"
#include "tests/base/cm.h"
#include "tests/fake_engine.h"

static const struct fake_conf SMALL = {FAKE_SMALL, .max_seqs = 6};

struct house {
    struct engine *e;
    struct scheduler *s;
    pthread_t thread;
    enum err ended;
};

static void *engine_thread(void *arg)
{
    struct house *h = arg;
    h->ended = scheduler_run(h->s);
    return NULL;
}

static void start_engine(struct house *h)
{
    assert_int_equal(pthread_create(&h->thread, NULL, engine_thread, h), 0);
}

static struct house *open_house_as(struct fake_conf fc, struct scheduler_conf c, bool start)
{
    struct house *h = calloc(1, sizeof *h);
    h->e = fake_open(&fc);
    c.chunk_tok = 256;
    c.default_max_tok = 64;
    c.route = "auto";
    struct err_note note;
    assert_int_equal(scheduler_open(&h->s, &c, h->e, &note), OK);
    if (start) start_engine(h);
    return h;
}

static struct house *open_house(struct fake_conf fc, int queue_len, bool start)
{
    return open_house_as(fc, (struct scheduler_conf){.queue_len = queue_len}, start);
}

static void close_house(struct house *h)
{
    scheduler_stop(h->s, ERR_DRAINING);
    pthread_join(h->thread, NULL);
    assert_int_equal(atomic_load(&scheduler_stats(h->s)->pages_used), 0);
    scheduler_close(h->s);
    engine_close(h->e);
    free(h);
}

/* A request and what became of it. */
struct ask {
    struct request r;
    int32_t got[2048];
    int n_got, n_done;
    enum finish finish;
    int cancel_after; /* tokens; -1: never */
    int64_t told_ns;  /* first_tok_ns when the first token was read */
};

static uint32_t rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static struct ask *new_ask(uint32_t *seed, int n_prompt, int max_new)
{
    struct ask *a = calloc(1, sizeof *a);
    a->r.ask.prompt = calloc((size_t)(n_prompt + max_new + 1), sizeof(int32_t));
    for (int i = 0; i < n_prompt; i++) a->r.ask.prompt[i] = (int32_t)(rnd(seed) % 1000);
    a->r.ask.n_prompt = n_prompt;
    a->r.ask.max_new = max_new;
    a->r.ask.max_new_given = true;
    a->r.shared.use.route = calloc(5, 1);
    a->cancel_after = -1;
    return a;
}

static void free_ask(struct ask *a)
{
    free(a->r.ask.prompt);
    free(a->r.shared.use.route);
    free(a);
}

static void serve(struct house *h, int n_want)
{
    enum { IDLE_MOST = 3000000 };
    int done = 0, n_idle = 0;
    while (done < n_want) {
        struct request *ready[64];
        size_t n = scheduler_poll(h->s, ready, 64);
        for (size_t i = 0; i < n; i++) {
            struct ask *a = (struct ask *)ready[i];
            struct event e;
            while (request_next_event(&a->r, &e)) {
                assert_int_equal(a->n_done, 0); /* nothing after DONE */
                if (e.kind == EVENT_TOKEN) {
                    a->told_ns = a->n_got == 0 ? a->r.queue.first_tok_ns : a->told_ns;
                    a->got[a->n_got++] = e.token.id;
                } else {
                    a->n_done++;
                    a->finish = e.finish;
                    done++;
                }
                if (a->n_got == a->cancel_after) scheduler_cancel(h->s, &a->r);
            }
        }
        if (n == 0) {
            scheduler_resume(h->s);
            usleep(200);
            assert_true(++n_idle < IDLE_MOST); /* it hangs */
        }
    }
}

static void check_tokens(const struct ask *a)
{
    for (int i = 0; i < a->n_got; i++)
        assert_int_equal(a->got[i], fake_token(a->r.ask.prompt, a->r.ask.n_prompt + i));
    assert_true(a->n_got == 0 || (a->told_ns >= a->r.queue.submit_ns &&
                                  a->told_ns == a->r.queue.first_tok_ns)); /* preempted or not */
    if (a->finish == FINISH_LENGTH) assert_int_equal(a->n_got, a->r.ask.max_new);
}

static void every_request_ends_once_with_its_own_tokens(void **st)
{
    (void)st;
    uint32_t seed = 1;
    for (int streams = 0; streams < 2; streams++) {
        struct fake_conf c = SMALL;
        c.sparse_streams = streams;
        c.n_page = streams ? 200 : 120;
        struct house *h = open_house(c, 1000, true);
        struct ask *a[200];
        int accepted = 0;
        for (int i = 0; i < 200; i++) {
            struct ask *x = new_ask(&seed, 1 + (int)(rnd(&seed) % (i % 7 == 0 ? 1500 : 200)),
                                    1 + (int)(rnd(&seed) % 300));
            x->r.ask.route_ask = (enum route_ask)(rnd(&seed) % 4);
            x->r.ask.max_new_given = rnd(&seed) % 2;
            x->cancel_after = rnd(&seed) % 5 == 0 ? (int)(rnd(&seed) % 40) : -1;
            struct err_note note;
            enum err err = scheduler_submit(h->s, &x->r, &note);
            if (err) {
                assert_int_equal(err, ERR_KV_CAPACITY);
                free_ask(x);
                continue;
            }
            a[accepted++] = x;
        }
        assert_true(accepted > 150);
        serve(h, accepted);
        for (int i = 0; i < accepted; i++) {
            assert_int_equal(a[i]->n_done, 1);
            assert_true(a[i]->finish == FINISH_LENGTH || a[i]->finish == FINISH_CANCELLED);
            check_tokens(a[i]);
        }
        close_house(h);
        for (int i = 0; i < accepted; i++) free_ask(a[i]);
    }
}

static void outgrown_promises_preempt_and_tokens_stay(void **st)
{
    (void)st;
    uint32_t seed = 3;
    struct fake_conf c = SMALL;
    c.n_page = 70; /* two or three long answers at most */
    struct house *h = open_house(c, 100, true);
    struct ask *a[8];
    for (int i = 0; i < 8; i++) {
        a[i] = new_ask(&seed, 100, 1200);
        a[i]->r.ask.max_new_given = false;
        a[i]->r.ask.route_ask = ROUTE_ASK_FULL;
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    serve(h, 8);
    assert_true(atomic_load(&scheduler_stats(h->s)->preemptions) > 0);
    close_house(h);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(a[i]->finish, FINISH_LENGTH);
        check_tokens(a[i]);
        free_ask(a[i]);
    }
}

static void swapped_requests_come_back_with_their_pages(void **st)
{
    (void)st;
    uint32_t seed = 3;
    struct fake_conf c = SMALL;
    c.n_page = 70;
    struct house *h = open_house_as(c, (struct scheduler_conf){.queue_len = 100, .swap_bytes = 50 * 1024},
                                    true); /* 50 pages */
    struct ask *a[8];
    for (int i = 0; i < 8; i++) {
        a[i] = new_ask(&seed, 100, 1200);
        a[i]->r.ask.max_new_given = false;
        a[i]->r.ask.route_ask = i % 2 ? ROUTE_ASK_FULL : ROUTE_ASK_AUTO;
        a[i]->cancel_after = i == 5 ? 700 : -1;
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    serve(h, 8);
    assert_true(atomic_load(&scheduler_stats(h->s)->swaps) > 0);
    close_house(h);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(a[i]->finish, i == 5 ? FINISH_CANCELLED : FINISH_LENGTH);
        check_tokens(a[i]);
        free_ask(a[i]);
    }
}

/* The routers' words, moved by the bias that the request tells, and the floor where it comes to bear. */
static void check_route(const struct ask *a, const struct fake_conf *c)
{
    const int need = a->r.ask.route_ask == ROUTE_ASK_MIN_FULL ? a->r.ask.route_min_full : 0;
    int full = 0;
    for (int l = 0; l < c->n_layer; l++) {
        uint8_t own = fake_bit_moved(a->r.ask.prompt, a->r.ask.n_prompt, l, a->r.ask.bias->value);
        assert_int_equal(a->r.shared.use.route[l], full + c->n_layer - l <= need ? ROUTE_FULL : own);
        full += a->r.shared.use.route[l] == ROUTE_FULL;
    }
    assert_true(full >= need && full == a->r.shared.use.full_layers);
}

static void routes_move_under_load_and_keep_their_floor_through_preemption(void **st)
{
    (void)st;
    enum { N = 60 };
    uint32_t seed = 31;
    struct fake_conf c = SMALL;
    struct request_bias bias[N / 2] = {0};
    struct ask *a[N];
    int moved = 0, most = 0;
    c.n_page = 70;
    struct house *h = open_house_as(c, (struct scheduler_conf){.queue_len = N, .route_bias_max = 2}, false);
    for (int i = 0; i < N; i++) {
        a[i] = new_ask(&seed, 100 + (int)(rnd(&seed) % 400), 700);
        a[i]->r.ask.max_new_given = false;
        a[i]->r.ask.route_ask = i % 3 ? ROUTE_ASK_AUTO : ROUTE_ASK_MIN_FULL;
        a[i]->r.ask.route_min_full = i % (c.n_layer + 1);
        a[i]->r.ask.bias = &bias[i / 2]; /* choices of one prompt share it */
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    assert_int_equal(pthread_create(&h->thread, NULL, engine_thread, h), 0);
    serve(h, N);
    const struct scheduler_stats *s = scheduler_stats(h->s);
    assert_true(atomic_load(&s->preemptions) > 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(a[i]->finish, FINISH_LENGTH);
        check_tokens(a[i]);
        check_route(a[i], &c);
        assert_true(a[i]->r.ask.bias->on && a[i]->r.ask.bias->value <= 0 && a[i]->r.ask.bias->value >= -2);
        moved += i % 2 && a[i]->r.ask.bias->value < 0;
        most += a[i]->r.ask.bias->value == -2;
    }
    assert_true(moved > 0 && most > 0 && most < N); /* all of it, and parts */
    assert_int_equal(atomic_load(&s->biased), moved);
    struct request_bias none = {0};
    struct ask *last = new_ask(&seed, 200, 10);
    struct err_note note;
    last->r.ask.bias = &none;
    assert_int_equal(scheduler_submit(h->s, &last->r, &note), OK);
    serve(h, 1);
    assert_true(none.on && none.value == 0); /* alone */
    check_route(last, &c);
    free_ask(last);
    close_house(h);
    for (int i = 0; i < N; i++) free_ask(a[i]);
}

static void a_reader_that_stops_rests_and_goes_on(void **st)
{
    (void)st;
    uint32_t seed = 4;
    struct house *h = open_house(SMALL, 10, true);
    struct ask *a = new_ask(&seed, 20, 500);
    struct err_note note;
    assert_int_equal(scheduler_submit(h->s, &a->r, &note), OK);
    for (int i = 0; i < 1000 && atomic_load(&scheduler_stats(h->s)->resting) == 0; i++) usleep(1000);
    assert_int_equal(atomic_load(&scheduler_stats(h->s)->resting), 1);
    int steps = fake_steps(h->e);
    usleep(20000);
    assert_int_equal(fake_steps(h->e), steps); /* nothing to do: no spinning */
    serve(h, 1);
    assert_int_equal(a->finish, FINISH_LENGTH);
    check_tokens(a);
    close_house(h);
    free_ask(a);
}

static void what_never_fits_is_refused_at_once(void **st)
{
    (void)st;
    uint32_t seed = 5;
    struct fake_conf c = SMALL;
    c.n_page = 40;
    struct house *h = open_house(c, 10, true);
    struct ask *a = new_ask(&seed, 1500, 10);
    struct err_note note;
    a->r.ask.route_ask = ROUTE_ASK_FULL;
    assert_int_equal(scheduler_submit(h->s, &a->r, &note), ERR_KV_CAPACITY);
    a->r.ask.route_ask = ROUTE_ASK_SPARSE; /* 5 layers of 3 pages */
    assert_int_equal(scheduler_submit(h->s, &a->r, &note), OK);
    serve(h, 1);
    assert_int_equal(a->finish, FINISH_LENGTH);
    struct ask *b = new_ask(&seed, 2040, 9);
    assert_int_equal(scheduler_submit(h->s, &b->r, &note), ERR_CONTEXT_LENGTH);
    close_house(h);
    free_ask(a);
    free_ask(b);
}

static void a_full_queue_refuses_and_counts(void **st)
{
    (void)st;
    uint32_t seed = 6;
    struct house *h = open_house(SMALL, 5, false); /* the engine is held */
    struct ask *a[50];
    int ok = 0, full = 0;
    for (int i = 0; i < 50; i++) {
        a[i] = new_ask(&seed, 10, 5);
        struct err_note note;
        enum err err = scheduler_submit(h->s, &a[i]->r, &note);
        ok += err == OK;
        full += err == ERR_QUEUE_FULL;
    }
    assert_int_equal(ok, 5);
    assert_int_equal(full, 45);
    start_engine(h);
    serve(h, 5);
    close_house(h);
    for (int i = 0; i < 50; i++) free_ask(a[i]);
}

static void a_lost_device_ends_all_with_an_error(void **st)
{
    (void)st;
    uint32_t seed = 7;
    struct fake_conf c = SMALL;
    c.fail_at_step = 30;
    struct house *h = open_house(c, 100, false); /* all are accepted before it breaks */
    struct ask *a[20];
    for (int i = 0; i < 20; i++) {
        a[i] = new_ask(&seed, 300, 200);
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    start_engine(h);
    serve(h, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(a[i]->finish, FINISH_ERROR);
        assert_int_equal(a[i]->r.shared.note.code, ERR_DEVICE);
    }
    close_house(h);
    for (int i = 0; i < 20; i++) free_ask(a[i]);
}

static void a_row_that_is_not_finite_ends_alone(void **st)
{
    (void)st;
    uint32_t seed = 8;
    struct fake_conf c = SMALL;
    c.bad_token = 77;
    struct house *h = open_house(c, 100, true);
    struct ask *a[12];
    int bad = 0;
    for (int i = 0; i < 12; i++) {
        a[i] = new_ask(&seed, 30, 300);
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    serve(h, 12);
    for (int i = 0; i < 12; i++) {
        check_tokens(a[i]);
        bool meets = false;
        for (int k = 0; k < a[i]->n_got; k++) assert_int_not_equal(a[i]->got[k], 77);
        meets = a[i]->n_got < 300;
        bad += meets;
        assert_int_equal(a[i]->finish, meets ? FINISH_ERROR : FINISH_LENGTH);
    }
    assert_true(bad > 0 && bad < 12);
    close_house(h);
    for (int i = 0; i < 12; i++) free_ask(a[i]);
}

static void stop_ids_end_and_min_tokens_ban(void **st)
{
    (void)st;
    uint32_t seed = 9;
    struct house *h = open_house(SMALL, 10, true);
    struct ask *a = new_ask(&seed, 30, 100);
    int32_t stop[3];
    for (int i = 0; i < 100; i++) /* the fake draws on; tokens after 5 are computed here as it will */
        a->r.ask.prompt[30 + i] = fake_token(a->r.ask.prompt, 30 + i);
    stop[0] = a->r.ask.prompt[35];
    a->r.ask.stop_id = stop;
    a->r.ask.n_stop_id = 1;
    struct err_note note;
    assert_int_equal(scheduler_submit(h->s, &a->r, &note), OK);
    serve(h, 1);
    assert_int_equal(a->finish, FINISH_STOP);
    assert_true(a->n_got <= 6 && a->got[a->n_got - 1] == stop[0]);
    close_house(h);
    free_ask(a);
}

static void the_time_to_come_back_follows_the_queue(void **st)
{
    (void)st;
    uint32_t seed = 13;
    struct fake_conf c = SMALL;
    c.max_seqs = 1;
    c.step_us = 2000;
    struct house *h = open_house(c, 300, true);
    struct ask *a[300];
    assert_int_equal(scheduler_retry_after_s(h->s), 1);
    for (int i = 0; i < 300; i++) {
        a[i] = new_ask(&seed, 500, 2);
        a[i]->r.ask.max_new = 2;
        struct err_note note;
        assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
    }
    int most = 0;
    for (int i = 0; i < 100; i++) {
        int n = scheduler_retry_after_s(h->s);
        most = n > most ? n : most;
        usleep(1000);
    }
    assert_true(most > 1 && most <= 600);
    serve(h, 300);
    assert_int_equal(scheduler_retry_after_s(h->s), 1);
    close_house(h);
    for (int i = 0; i < 300; i++) free_ask(a[i]);
}

/* Prompts of one call in which many share a prefix, with all that may hinder their sharing: routes of their
 * own, pages that fall out of the cache, a first one that is cancelled. */
static struct ask *scoring_ask(uint32_t *seed, struct ask *const *before, int n_before)
{
    struct ask *from = n_before && rnd(seed) % 4 ? before[rnd(seed) % (uint32_t)n_before] : NULL;
    const int n_own = 1 + (int)(rnd(seed) % 500);
    const int n_shared = from ? 1 + (int)(rnd(seed) % (uint32_t)from->r.ask.n_prompt) : 0;
    struct ask *a = new_ask(seed, n_shared + n_own > 1800 ? 1800 : n_shared + n_own, (int)(rnd(seed) % 3));
    if (from) memcpy(a->r.ask.prompt, from->r.ask.prompt, (size_t)n_shared * sizeof *a->r.ask.prompt);
    a->r.ask.prompt_out = calloc((size_t)a->r.ask.n_prompt, sizeof *a->r.ask.prompt_out);
    for (int i = 0; i < n_before; i++) {
        const struct request *d = &before[i]->r;
        int n = 0;
        while (n < a->r.ask.n_prompt && n < d->ask.n_prompt && a->r.ask.prompt[n] == d->ask.prompt[n]) n++;
        if (n <= a->r.ask.n_donor) continue;
        a->r.ask.donor = d;
        a->r.ask.n_donor = n;
    }
    return a;
}

static void prompts_with_a_prefix_in_common_have_the_scores_of_each_alone(void **st)
{
    enum { MANY = 40, ROUNDS = 24 };
    (void)st;
    uint32_t seed = 12;
    uint64_t cached = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct fake_conf c = {FAKE_SMALL, .max_seqs = 6, .resumes = true};
        c.common_blocks = round % 3;
        c.tail_tok = round % 2 ? PAGE_TOK : 0;
        c.n_page = round % 4 == 3 ? 120 : 400;
        struct house *h = open_house_as(
            c, (struct scheduler_conf){.queue_len = 100, .prefix_bytes = (round % 5 ? 300 : 30) * 1024},
            true);
        struct ask *a[MANY];
        for (int i = 0; i < MANY; i++) {
            struct err_note note;
            a[i] = scoring_ask(&seed, a, i);
            assert_int_equal(scheduler_submit(h->s, &a[i]->r, &note), OK);
            if (rnd(&seed) % 16 == 0) scheduler_cancel(h->s, &a[i]->r);
        }
        serve(h, MANY);
        for (int i = 0; i < MANY; i++) {
            const struct request *r = &a[i]->r;
            check_tokens(a[i]);
            for (int t = 0; a[i]->finish == FINISH_LENGTH && t + 1 < r->ask.n_prompt; t++) {
                assert_int_equal(r->ask.prompt_out[t + 1].id, r->ask.prompt[t + 1]);
                assert_true(r->ask.prompt_out[t + 1].logprob ==
                            fake_score(&c, r->ask.prompt, r->ask.n_prompt, r->shared.use.route, t));
            }
        }
        cached += atomic_load(&scheduler_stats(h->s)->cached_tok);
        close_house(h);
        for (int i = 0; i < MANY; i++) {
            free(a[i]->r.ask.prompt_out);
            free_ask(a[i]);
        }
    }
    assert_true(cached > 10000); /* it is what happens, not what is avoided */
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(every_request_ends_once_with_its_own_tokens),
        cmocka_unit_test(outgrown_promises_preempt_and_tokens_stay),
        cmocka_unit_test(a_reader_that_stops_rests_and_goes_on),
        cmocka_unit_test(what_never_fits_is_refused_at_once),
        cmocka_unit_test(a_full_queue_refuses_and_counts),
        cmocka_unit_test(a_lost_device_ends_all_with_an_error),
        cmocka_unit_test(a_row_that_is_not_finite_ends_alone),
        cmocka_unit_test(stop_ids_end_and_min_tokens_ban),
        cmocka_unit_test(swapped_requests_come_back_with_their_pages),
        cmocka_unit_test(routes_move_under_load_and_keep_their_floor_through_preemption),
        cmocka_unit_test(prompts_with_a_prefix_in_common_have_the_scores_of_each_alone),
        cmocka_unit_test(the_time_to_come_back_follows_the_queue)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
