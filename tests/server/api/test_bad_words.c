/* Words that an answer must not have: what a guide lets through is what is left when all that the words
 * forbid is taken away, whatever came before. */
#include <string.h>

#include "server/api/bad_words.h"
#include "tests/server/mini_model.h"

enum { WORDS = (MINI_VOCAB + 31) / 32 };
static struct mini mini;

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

static struct ask *ask_of(const char *fields)
{
    char body[512];
    struct ask *a;
    struct err_note note = {0};
    snprintf(body, sizeof body, "{\"prompt\":\"a\",\"n\":2,\"max_tokens\":9,%s}", fields);
    if (prep_run(&a, &mini.env, API_COMPLETIONS, body, strlen(body), &note))
        fail_msg("%s: %s", note.param, note.text);
    return a;
}

static void look(struct guide *g, uint32_t *bits)
{
    struct err_note note = {0};
    memset(bits, 0xa5, WORDS * sizeof *bits); /* what stands there says nothing */
    assert_int_equal(g->op->mask(g, bits, &note), OK);
    int n = 0;
    for (int i = 0; i < MINI_VOCAB; i++) n += (bits[i / 32] >> i % 32 & 1) != 0;
    if (g->op->only(g) == GUIDE_FREE) assert_int_equal(n, MINI_VOCAB); /* then nobody needs to ask */
    if (g->op->only(g) >= 0) assert_true(n == 1 && bits[g->op->only(g) / 32] >> g->op->only(g) % 32 & 1);
}

static bool may(struct guide *g, char c)
{
    uint32_t bits[WORDS];
    look(g, bits);
    return bits[(MINI_BYTE + c) / 32] >> (MINI_BYTE + c) % 32 & 1;
}

static void say(struct guide *g, const char *text)
{
    struct err_note note = {0};
    for (; *text; text++) assert_int_equal(g->op->take(g, MINI_BYTE + *text, &note), OK);
}

/* The oracle looks at the whole text for each letter of a small alphabet. */
static void no_answer_ends_with_a_word(void **st)
{
    (void)st;
    static const char *const word[] = {"ab", "bab", "c", "aaa", "ac"};
    unsigned seed = 28;
    for (int turn = 0; turn < 200; turn++) {
        struct ask *a = ask_of("\"bad_words\":[\"ab\",\"bab\",\"c\",\"aaa\",\"ac\"]");
        struct guide *g = a->request[turn % 2]->ask.guide;
        char text[40] = "";
        for (size_t n = 0; n < 30; n++) {
            for (char c = 'a'; c <= 'd'; c++) {
                bool bad = false;
                text[n] = c;
                for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
                    const size_t m = strlen(word[i]);
                    bad |= m <= n + 1 && memcmp(text + n + 1 - m, word[i], m) == 0;
                }
                assert_int_equal(may(g, c), !bad);
            }
            seed = seed * 1103515245 + 12345;
            text[n] = (char)('a' + (seed >> 16) % 4); /* what came before is not asked whether it might */
            text[n + 1] = '\0';
            say(g, text + n);
        }
        g->op->end(g);
        ask_free(a);
    }
}

static void a_word_takes_one_token_away_and_no_other(void **st)
{
    (void)st;
    struct ask *a = ask_of("\"bad_words\":\"xy\"");
    struct guide *g = a->request[0]->ask.guide;
    assert_int_equal(g->op->only(g), GUIDE_FREE);
    uint32_t bits[WORDS];
    look(g, bits);
    for (int i = 0; i < MINI_VOCAB; i++) assert_true(bits[i / 32] >> i % 32 & 1);
    say(g, "x");
    look(g, bits);
    for (int i = 0; i < MINI_VOCAB; i++) assert_int_equal(bits[i / 32] >> i % 32 & 1, i != MINI_BYTE + 'y');
    assert_true(may(a->request[1]->ask.guide, 'y')); /* each answer has its own past */
    assert_true(g->op->whole(g));
    ask_free(a);
}

static void blanks_alone_are_a_word_too(void **st)
{
    (void)st;
    struct ask *a = ask_of("\"bad_words\":[\"\\n\"]");
    assert_false(may(a->request[0]->ask.guide, '\n'));
    assert_true(may(a->request[0]->ask.guide, ' '));
    ask_free(a);
}

static void what_else_an_answer_is_held_to_stays(void **st)
{
    (void)st;
    struct ask *a = ask_of("\"bad_words\":[\"no\"],\"structured_outputs\":{\"choice\":[\"not\",\"nil\"]}");
    struct guide *g = a->request[0]->ask.guide;
    assert_true(may(g, 'n') && !may(g, 'o'));
    say(g, "n");
    assert_true(may(g, 'i') && !may(g, 'o') && !may(g, 'x'));
    assert_false(g->op->whole(g));
    say(g, "il");
    look(g, (uint32_t[WORDS]){0});
    assert_true(g->op->whole(g));
    for (int i = 0; i < 2; i++) a->request[i]->ask.guide->op->end(a->request[i]->ask.guide);
    ask_free(a);
}

static void without_words_there_is_no_guide(void **st)
{
    (void)st;
    struct ask *a = ask_of("\"bad_words\":[]");
    assert_null(a->request[0]->ask.guide);
    ask_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_answer_ends_with_a_word),
        cmocka_unit_test(a_word_takes_one_token_away_and_no_other),
        cmocka_unit_test(blanks_alone_are_a_word_too),
        cmocka_unit_test(what_else_an_answer_is_held_to_stays),
        cmocka_unit_test(without_words_there_is_no_guide),
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
