/* Grammars of requests and the guides of their answers: kept, evicted, shared, and what they let through. */
#include <string.h>

#include "server/api/constraint.h"
#include "tests/server/mini_model.h"

static struct mini mini;
enum { WORDS = (MINI_VOCAB + 31) / 32 };

static int open_mini(void **st)
{
    (void)st;
    mini_open(&mini);
    return 0;
}

static int close_mini(void **st)
{
    (void)st;
    mini_close(&mini);
    return 0;
}

static struct constraints *open_with(size_t bytes_most)
{
    struct constraints *c = constraints_new(&(struct constraint_conf){.tokenizer = mini.tokenizer,
                                                                      .eos = mini.info.eos,
                                                                      .n_eos = 1,
                                                                      .n_vocab = MINI_VOCAB,
                                                                      .bytes_most = bytes_most});
    assert_non_null(c);
    return c;
}

static enum err get(struct constraints *c, const char *pattern, struct constraint **out)
{
    struct err_note note = {0};
    const struct grammar_part p = {
        .kind = GRAMMAR_BODY, .body = GRAMMAR_REGEX, .text = pattern, .n = strlen(pattern), .name = "x"};
    return constraints_get(c, CONSTRAINT_REGEX, &p, NULL, out, &note);
}

static bool may(struct guide *g, int32_t id)
{
    uint32_t bits[WORDS];
    struct err_note note = {0};
    assert_int_equal(g->op->mask(g, bits, &note), OK);
    return bits[id / 32] >> id % 32 & 1;
}

/* Takes the text's bytes as far as they may come; returns how many. */
static size_t say(struct guide *g, const char *text)
{
    struct err_note note = {0};
    for (size_t i = 0; i < strlen(text); i++) {
        if (!may(g, MINI_BYTE + (uint8_t)text[i])) return i;
        assert_int_equal(g->op->take(g, MINI_BYTE + (uint8_t)text[i], &note), OK);
    }
    return strlen(text);
}

static void guides_of_one_grammar_go_their_own_ways(void **st)
{
    (void)st;
    struct constraints *c = open_with(64 << 20);
    struct constraint *k;
    struct arena mem;
    struct err_note note = {0};
    arena_init(&mem, 0);
    assert_int_equal(get(c, "ab+", &k), OK);
    struct guide *a = constraint_guide(k, mini.tokenizer, &mem),
                 *b = constraint_guide(k, mini.tokenizer, &mem);
    assert_int_equal(say(a, "abb"), 3);
    assert_true(a->op->whole(a) && may(a, MINI_IM_END) && !may(a, MINI_BYTE + 'a') && !may(a, MINI_END));
    assert_int_equal(say(b, "ba"), 0);
    assert_false(b->op->whole(b) || may(b, MINI_IM_END));
    assert_int_equal(a->op->take(a, MINI_IM_END, &note), OK);
    for (int32_t i = 0; i < MINI_VOCAB; i++) assert_false(may(a, i)); /* an ended text goes on with nothing */
    assert_true(a->op->whole(a));
    assert_int_equal(b->op->take(b, MINI_BYTE + 'b', &note), ERR_INTERNAL); /* the mask did not allow it */
    a->op->end(a);
    b->op->end(b);
    constraint_give(k);
    arena_fini(&mem);
    constraints_free(c);
}

/* Each token is a byte here, so that nothing could be joined: what one text alone can follow is named, and
 * only that. */
static void what_has_no_choice_is_named(void **st)
{
    static const char pattern[] = "\\{\"name\": \"[a-c]+\", \"kind\": (tall|tiny)\\}";
    static const char text[] = "{\"name\": \"ab\", \"kind\": tall}";
    (void)st;
    struct constraint *k;
    struct arena mem;
    struct err_note note = {0};
    arena_init(&mem, 0);
    assert_int_equal(get(mini.constraints, pattern, &k), OK);
    struct guide *g = constraint_guide(k, mini.tokenizer, &mem);
    int named = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        const int32_t id = MINI_BYTE + (uint8_t)text[i];
        uint32_t bits[WORDS];
        int n = 0;
        const int32_t only = g->op->only(g);
        assert_int_equal(g->op->mask(g, bits, &note), OK);
        for (int32_t t = 0; t < MINI_VOCAB; t++) n += (bits[t / 32] >> t % 32 & 1) != 0;
        if (i > 0) assert_int_equal(only, n == 1 ? id : GUIDE_MASK);
        named += only >= 0;
        assert_int_equal(g->op->take(g, id, &note), OK);
        assert_int_equal(only >= 0 && i == sizeof text - 2, g->op->whole(g));
    }
    assert_int_equal(named, sizeof text - 1 - 1 - 3 - 1); /* the first, those of [a-c]+ and behind "t" */
    assert_int_equal(g->op->only(g), GUIDE_MASK);         /* it may end, and must be asked */
    g->op->end(g);
    constraint_give(k);
    arena_fini(&mem);
}

static void the_same_grammar_is_compiled_once(void **st)
{
    (void)st;
    struct constraints *c = open_with(64 << 20);
    const struct constraint_stats *s = constraints_stats(c);
    struct constraint *k[3];
    assert_int_equal(get(c, "a+", &k[0]), OK);
    assert_int_equal(get(c, "a+", &k[1]), OK);
    assert_int_equal(get(c, "b+", &k[2]), OK);
    assert_true(k[0] == k[1] && k[1] != k[2]);
    assert_int_equal(atomic_load(&s->compiled), 2);
    assert_int_equal(atomic_load(&s->hits), 1);
    assert_int_equal(atomic_load(&s->asked[CONSTRAINT_REGEX]), 3);
    assert_int_equal(get(c, "(", &k[0]), ERR_UNSUPPORTED);
    assert_null(k[0]);
    assert_int_equal(atomic_load(&s->refused), 1);
    for (int i = 1; i < 3; i++) constraint_give(k[i]);
    constraint_give(k[1]);
    constraints_free(c);
}

/* What nobody uses makes room, the one used longest ago first; what is in use stays, and beyond it is
 * refused. */
static void bytes_of_all_grammars_are_bounded(void **st)
{
    (void)st;
    struct constraint *k;
    struct constraints *c = open_with(64 << 20);
    const struct constraint_stats *s = constraints_stats(c);
    char pattern[32];
    assert_int_equal(get(c, "x0", &k), OK);
    const size_t one = (size_t)atomic_load(&s->bytes);
    constraint_give(k);
    constraints_free(c);

    c = open_with(4 * one + one / 2);
    s = constraints_stats(c);
    for (int i = 0; i < 12; i++) {
        snprintf(pattern, sizeof pattern, "x%x", i);
        assert_int_equal(get(c, pattern, &k), OK);
        constraint_give(k);
        assert_int_equal(get(c, "x0", &k), OK); /* used again and again: it stays */
        constraint_give(k);
        assert_true((size_t)atomic_load(&s->bytes) <= 4 * one + one / 2);
    }
    assert_int_equal(atomic_load(&s->compiled), 12);
    assert_int_equal(atomic_load(&s->evicted), 12 - (uint64_t)atomic_load(&s->n));
    struct constraint *held[16];
    int n = 0;
    enum err e = OK;
    while (n < 16 && !e) {
        snprintf(pattern, sizeof pattern, "y%x", n);
        e = get(c, pattern, &held[n]);
        n += !e;
    }
    assert_int_equal(e, ERR_OVERLOAD);
    assert_true(n >= 3 && n <= 5);
    while (n > 0) constraint_give(held[--n]);
    assert_int_equal(get(c, "z", &k), OK);
    constraint_give(k);
    constraints_free(c);
}

static struct guide *behind(struct constraints *c, bool open, struct constraint **k, struct arena *mem)
{
    static const char pattern[] = "[0-9]";
    const struct grammar_part body = {
        .kind = GRAMMAR_BODY, .body = GRAMMAR_REGEX, .text = pattern, .n = sizeof pattern - 1};
    const struct constraint_thought t = {"<think>", 7, "</think>", 8, open};
    struct err_note note = {0};
    assert_int_equal(constraints_behind(c, CONSTRAINT_REGEX, &body, &t, NULL, k, &note), OK);
    return constraint_guide(*k, mini.tokenizer, mem);
}

static void the_thought_comes_first(void **st)
{
    (void)st;
    struct constraints *c = open_with(64 << 20);
    struct constraint *k[4];
    struct guide *g[4];
    struct arena mem;
    struct err_note note = {0};
    arena_init(&mem, 0);
    for (int i = 0; i < 4; i++) g[i] = behind(c, i < 2, &k[i], &mem);
    assert_int_equal(say(g[0], "any \xff </thin </think>\n\n7"), 24);
    assert_true(g[0]->op->whole(g[0]));
    assert_true(may(g[1], MINI_IM_START) && !may(g[1], MINI_IM_END)); /* free but for the end */
    assert_int_equal(g[1]->op->take(g[1], MINI_IM_START, &note), OK);
    assert_int_equal(say(g[1], "</think>x"), 8);
    assert_int_equal(say(g[2], "7"), 1);
    assert_true(g[2]->op->whole(g[2]));
    assert_int_equal(say(g[3], "<think>7</think>8"), 17);
    for (int i = 0; i < 4; i++) {
        g[i]->op->end(g[i]);
        constraint_give(k[i]);
    }
    arena_fini(&mem);
    constraints_free(c);
}

static void every_answer_of_a_call_has_its_guide(void **st)
{
    (void)st;
    static const char body[] = "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"max_tokens\":9,\"structured_outputs\":"
                               "{\"choice\":[\"yes\",\"no\"]}}";
    struct ask *a;
    struct err_note note = {0};
    assert_int_equal(prep_run(&a, &mini.env, API_COMPLETIONS, body, sizeof body - 1, &note), OK);
    for (int i = 0; i < 4; i++) {
        struct guide *g = a->request[i]->ask.guide;
        assert_non_null(g);
        assert_int_equal(say(g, i % 2 ? "yes" : "no"), i % 2 ? 3 : 2);
        for (int j = 0; j < i; j++) assert_ptr_not_equal(a->request[j]->ask.guide, g);
        g->op->end(g);
    }
    ask_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guides_of_one_grammar_go_their_own_ways),
        cmocka_unit_test(what_has_no_choice_is_named),
        cmocka_unit_test(the_same_grammar_is_compiled_once),
        cmocka_unit_test(bytes_of_all_grammars_are_bounded),
        cmocka_unit_test(the_thought_comes_first),
        cmocka_unit_test(every_answer_of_a_call_has_its_guide),
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
