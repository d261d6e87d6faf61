/* Guided requests, over the fake engine: what is sampled follows the guide, whatever happens around; each
 * guide is told of each token once, of its end once, and no two are asked at one time. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/internal.h"
#include "tests/base/cm.h"
#include "tests/fake_engine.h"

enum { VOCAB = 1000, WORDS = (VOCAB + 31) / 32, END = 999, LEAP = 7, STEPS_MOST = 200000 };

static const struct fake_conf SMALL = {FAKE_SMALL, .max_seqs = 6, .resumes = true};

/* --- a guide: the sum of the answer so far says which of LEAP classes of tokens comes next; END comes when
 * it is whole, and then it alone */

static atomic_int at_work; /* calls of any guide that have not returned */

struct rule {
    struct guide guide;                       /* first */
    int whole_at;                             /* tokens */
    int fail_mask_at, fail_take_at, empty_at; /* tokens taken when that happens; -1: never */
    bool skips;                               /* in each four tokens one is named, and one is free */
    int n_taken, n_mask, n_ended;
    int32_t taken[2048];
    int64_t sum;
};

static int32_t only(const struct rule *r)
{
    if (!r->skips || r->n_taken == r->empty_at) return GUIDE_MASK;
    if (r->n_taken >= r->whole_at) return END;
    return r->n_taken % 4 == 1 ? (int32_t)(r->sum * 13 % END) : r->n_taken % 4 == 2 ? GUIDE_FREE : GUIDE_MASK;
}

static bool may_come(const struct rule *r, int32_t id)
{
    if (only(r) != GUIDE_MASK) return only(r) == GUIDE_FREE || only(r) == id;
    if (r->n_taken == r->empty_at) return false;
    return r->n_taken >= r->whole_at ? id == END : id != END && id % LEAP == r->sum % LEAP;
}

static void enter(const struct rule *r)
{
    assert_int_equal(atomic_fetch_add(&at_work, 1), 0);
    assert_int_equal(r->n_ended, 0);
}
static void go_out(void) { atomic_fetch_sub(&at_work, 1); }

static enum err rule_mask(struct guide *g, uint32_t *bits, struct err_note *note)
{
    struct rule *r = (struct rule *)g;
    enter(r);
    r->n_mask++;
    memset(bits, 0, WORDS * sizeof *bits);
    for (int32_t i = 0; i < VOCAB; i++) bits[i / 32] |= (uint32_t)may_come(r, i) << i % 32;
    go_out();
    return r->n_taken == r->fail_mask_at ? err_set(note, ERR_UNSUPPORTED, "rule", "too much for a mask") : OK;
}

static enum err rule_take(struct guide *g, int32_t token, struct err_note *note)
{
    struct rule *r = (struct rule *)g;
    enter(r);
    assert_true(may_come(r, token));
    r->taken[r->n_taken] = token;
    r->sum += token;
    go_out();
    if (r->n_taken++ == r->fail_take_at) return err_set(note, ERR_NOMEM, NULL, "no memory to take it");
    return OK;
}

static bool rule_whole(struct guide *g)
{
    struct rule *r = (struct rule *)g;
    enter(r);
    go_out();
    return r->n_taken >= r->whole_at;
}

static void rule_end(struct guide *g)
{
    struct rule *r = (struct rule *)g;
    enter(r);
    r->n_ended++;
    go_out();
}

static int32_t rule_only(struct guide *g)
{
    struct rule *r = (struct rule *)g;
    enter(r);
    go_out();
    return only(r);
}

static const struct guide_ops rule_ops = {
    .mask = rule_mask, .take = rule_take, .whole = rule_whole, .only = rule_only, .end = rule_end};

/* --- requests */

struct ask {
    struct request r; /* first */
    struct rule rule;
    int32_t got[2048];
    int n_got, n_done, cancel_after;
    enum finish finish;
};

static const int32_t stops[] = {END};

static uint32_t rnd(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static struct ask *new_ask(uint32_t seed, int n_prompt, int max_new, int whole_at)
{
    struct ask *a = calloc(1, sizeof *a);
    a->r.ask.prompt = calloc((size_t)(n_prompt + max_new + 1), sizeof(int32_t));
    for (int i = 0; i < n_prompt; i++) a->r.ask.prompt[i] = (int32_t)(rnd(&seed) % VOCAB);
    a->r.ask.n_prompt = n_prompt;
    a->r.ask.max_new = max_new;
    a->r.ask.max_new_given = true;
    a->r.shared.use.route = calloc(5, 1);
    a->r.ask.stop_id = stops;
    a->r.ask.n_stop_id = 1;
    a->cancel_after = -1;
    if (whole_at >= 0) a->r.ask.guide = &a->rule.guide;
    a->rule = (struct rule){
        .guide.op = &rule_ops, .whole_at = whole_at, .fail_mask_at = -1, .fail_take_at = -1, .empty_at = -1};
    a->rule.skips = seed % 2;
    return a;
}

static void free_ask(struct ask *a)
{
    free(a->r.ask.prompt);
    free(a->r.shared.use.route);
    free(a);
}

struct house {
    struct engine *e;
    struct scheduler *s;
};

static struct house open_house(struct fake_conf fc, struct scheduler_conf c)
{
    struct house h = {.e = fake_open(&fc)};
    struct err_note note;
    c.chunk_tok = 256;
    c.queue_len = 100;
    c.default_max_tok = 64;
    c.route = "auto";
    assert_int_equal(scheduler_open(&h.s, &c, h.e, &note), OK);
    return h;
}

static void close_house(struct house *h)
{
    accounting_check(h->s);
    scheduler_close(h->s);
    engine_close(h->e);
}

static void submit(struct house *h, struct ask *a)
{
    struct err_note note;
    assert_int_equal(scheduler_submit(h->s, &a->r, &note), OK);
}

static int read_events(struct house *h)
{
    struct request *ready[64];
    int done = 0;
    size_t n = scheduler_poll(h->s, ready, 64);
    for (size_t i = 0; i < n; i++) {
        struct ask *a = (struct ask *)ready[i];
        struct event e;
        while (request_next_event(&a->r, &e)) {
            assert_int_equal(a->n_done, 0);
            if (e.kind == EVENT_TOKEN)
                a->got[a->n_got++] = e.token.id;
            else {
                a->n_done++;
                a->finish = e.finish;
                done++;
            }
            if (a->n_got == a->cancel_after) scheduler_cancel(h->s, &a->r);
        }
    }
    return done;
}

static enum err serve(struct house *h, int n_want)
{
    enum err err = OK;
    for (int i = 0, over = 0; n_want > 0; i++) {
        assert_true(i < STEPS_MOST);
        over = over || scheduler_turn(h->s, NULL, &err) == TURN_OVER;
        n_want -= read_events(h);
        assert_true(n_want == 0 || !over);
    }
    return err;
}

/* What the fake engine says under the rule, told by the rule's own words. */
static void check_tokens(const struct ask *a, int *n_masked, int *n_forced)
{
    struct rule r = a->rule;
    r.n_taken = 0;
    r.sum = 0;
    for (int i = 0; i < a->n_got; i++) {
        int32_t want = fake_token(a->r.ask.prompt, a->r.ask.n_prompt + i);
        *n_masked += a->r.ask.guide && only(&r) == GUIDE_MASK;
        *n_forced += a->r.ask.guide && only(&r) >= 0;
        while (a->r.ask.guide && !may_come(&r, want)) want = (want + 1) % VOCAB;
        assert_int_equal(a->got[i], want);
        r.n_taken++;
        r.sum += want;
    }
    if (!a->r.ask.guide) return;
    assert_int_equal(a->rule.n_ended, 1);
    assert_true(a->rule.n_taken >= a->n_got); /* a cancel may come between */
    assert_memory_equal(a->rule.taken, a->got, (size_t)a->n_got * sizeof *a->got);
}

/* --- the laws */

static void answers_follow_their_guides_whatever_else_runs(void **st)
{
    (void)st;
    struct house h = open_house(SMALL, (struct scheduler_conf){.prefix_bytes = 1 << 20});
    struct ask *a[60];
    for (int i = 0; i < 60; i++) { /* prompts come up again: cached ones too */
        a[i] = new_ask((uint32_t)(i % 9), 20 + i % 9 * 60, 40 + i % 5, i % 3 == 2 ? -1 : i % 45);
        submit(&h, a[i]);
    }
    assert_int_equal(serve(&h, 60), OK);
    assert_true(atomic_load(&scheduler_stats(h.s)->prefix_hits) > 0);
    uint64_t asked = 0;
    int masks = 0, forced = 0;
    for (int i = 0; i < 60; i++) {
        const bool stops_itself = a[i]->r.ask.guide && a[i]->rule.whole_at < a[i]->r.ask.max_new;
        assert_int_equal(a[i]->n_done, 1);
        assert_int_equal(a[i]->finish, stops_itself ? FINISH_STOP : FINISH_LENGTH);
        assert_int_equal(a[i]->n_got, stops_itself ? a[i]->rule.whole_at + 1 : a[i]->r.ask.max_new);
        check_tokens(a[i], &masks, &forced);
        asked += (uint64_t)a[i]->rule.n_mask;
    }
    assert_int_equal(atomic_load(&scheduler_stats(h.s)->mask.count), asked);
    assert_true(asked >= (uint64_t)masks); /* a prompt begun again has its first mask made again */
    assert_true(forced > 100 && atomic_load(&scheduler_stats(h.s)->forced_tok) >= (uint64_t)forced);
    close_house(&h);
    for (int i = 0; i < 60; i++) free_ask(a[i]);
}

static void replayed_tokens_are_not_taken_twice(void **st)
{
    (void)st;
    for (int swaps = 0; swaps < 2; swaps++) {
        int forced = 0;
        struct fake_conf c = SMALL;
        c.n_page = 70;
        struct house h = open_house(c, (struct scheduler_conf){.swap_bytes = swaps ? 50 * 1024 : 0});
        struct ask *a[8];
        for (int i = 0; i < 8; i++) {
            a[i] = new_ask((uint32_t)i, 100, 1200, i % 2 ? 1100 : 2000);
            a[i]->r.ask.max_new_given = false;
            a[i]->r.ask.route_ask = ROUTE_ASK_FULL;
            submit(&h, a[i]);
        }
        assert_int_equal(serve(&h, 8), OK);
        assert_true(atomic_load(swaps ? &scheduler_stats(h.s)->swaps : &scheduler_stats(h.s)->preemptions) >
                    0);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(a[i]->finish, i % 2 ? FINISH_STOP : FINISH_LENGTH);
            assert_int_equal(a[i]->rule.n_taken, a[i]->n_got);
            int masks = 0;
            check_tokens(a[i], &masks, &forced);
            assert_int_equal(a[i]->rule.n_mask, masks); /* nor are their masks made */
        }
        assert_int_equal(atomic_load(&scheduler_stats(h.s)->forced_tok), forced);
        close_house(&h);
        for (int i = 0; i < 8; i++) free_ask(a[i]);
    }
}

static void where_nothing_may_come_the_answer_ends(void **st)
{
    (void)st;
    struct house h = open_house(SMALL, (struct scheduler_conf){0});
    struct ask *cut = new_ask(1, 30, 50, 20), *whole = new_ask(2, 30, 50, 5), *first = new_ask(3, 30, 50, 9),
               *least = new_ask(4, 30, 50, 6);
    cut->rule.empty_at = 7;
    whole->rule.empty_at = 5;
    first->rule.empty_at = 0;
    least->r.ask.min_new = 20; /* END is banned, and nothing else may come */
    struct ask *all[] = {cut, whole, first, least};
    for (int i = 0; i < 4; i++) submit(&h, all[i]);
    assert_int_equal(serve(&h, 4), OK);
    static const struct {
        enum finish finish;
        int n;
    } want[] = {{FINISH_LENGTH, 7}, {FINISH_STOP, 5}, {FINISH_LENGTH, 0}, {FINISH_STOP, 6}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(all[i]->finish, want[i].finish);
        assert_int_equal(all[i]->n_got, want[i].n);
        assert_int_equal(all[i]->rule.n_ended, 1);
    }
    close_house(&h);
    for (int i = 0; i < 4; i++) free_ask(all[i]);
}

static void a_guide_that_fails_ends_its_own_request_alone(void **st)
{
    (void)st;
    struct house h = open_house(SMALL, (struct scheduler_conf){0});
    struct ask *mask = new_ask(1, 30, 50, 60), *take = new_ask(2, 30, 50, 60),
               *first = new_ask(3, 30, 50, 60), *good = new_ask(4, 30, 50, 30),
               *plain = new_ask(5, 30, 50, -1);
    mask->rule.fail_mask_at = 8;
    take->rule.fail_take_at = 12;
    first->rule.fail_mask_at = 0;
    struct ask *all[] = {mask, take, first, good, plain};
    for (int i = 0; i < 5; i++) submit(&h, all[i]);
    assert_int_equal(serve(&h, 5), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(all[i]->finish, FINISH_ERROR);
        assert_int_equal(all[i]->rule.n_ended, 1);
    }
    assert_int_equal(mask->n_got, 8);
    assert_int_equal(mask->r.shared.note.code, ERR_UNSUPPORTED);
    assert_string_equal(mask->r.shared.note.param, "rule");
    assert_int_equal(take->n_got, 12);
    assert_int_equal(take->r.shared.note.code, ERR_NOMEM);
    assert_string_equal(take->r.shared.note.text, "no memory to take it");
    assert_int_equal(first->n_got, 0);
    assert_int_equal(good->finish, FINISH_STOP);
    assert_int_equal(plain->finish, FINISH_LENGTH);
    int masks = 0, forced = 0;
    check_tokens(good, &masks, &forced);
    check_tokens(plain, &masks, &forced);
    close_house(&h);
    for (int i = 0; i < 5; i++) free_ask(all[i]);
}

static void every_end_is_told_once(void **st)
{
    (void)st;
    struct fake_conf c = SMALL;
    c.max_seqs = 2;
    for (int broken = 0; broken < 2; broken++) {
        c.fail_at_step = broken ? 30 : 0;
        struct house h = open_house(c, (struct scheduler_conf){0});
        struct ask *a[8];
        enum err err = OK;
        for (int i = 0; i < 8; i++) {
            a[i] = new_ask((uint32_t)i, 30, 1000, 900);
            a[i]->cancel_after = i == 0 ? 10 : -1;
            submit(&h, a[i]);
        }
        scheduler_cancel(h.s, &a[7]->r); /* waits */
        for (int i = 0; i < 20; i++) {
            scheduler_turn(h.s, NULL, &err);
            read_events(&h);
        }
        assert_int_equal(a[0]->finish, FINISH_CANCELLED);
        assert_int_equal(a[7]->finish, FINISH_CANCELLED);
        assert_int_equal(a[7]->rule.n_mask, 0);
        if (!broken) scheduler_stop(h.s, ERR_DRAINING);
        assert_int_equal(serve(&h, 6), broken ? ERR_DEVICE : OK);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(a[i]->n_done, 1);
            int masks = 0, forced = 0;
            check_tokens(a[i], &masks, &forced);
            free_ask(a[i]);
        }
        scheduler_close(h.s);
        engine_close(h.e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_follow_their_guides_whatever_else_runs),
        cmocka_unit_test(replayed_tokens_are_not_taken_twice),
        cmocka_unit_test(where_nothing_may_come_the_answer_ends),
        cmocka_unit_test(a_guide_that_fails_ends_its_own_request_alone),
        cmocka_unit_test(every_end_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
