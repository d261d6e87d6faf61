/* think_budget: a thought has as many tokens as its budget; then its end is put, and the answer's own
 * constraint holds behind it. */
#include <stdio.h>
#include <stdlib.h>

#include "server/api/prep.h"
#include "tests/server/mini_model.h"

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

enum { WORDS = (MINI_VOCAB + 31) / 32 };

static bool allows(const uint32_t *bits, int32_t id) { return bits[id / 32] >> (id % 32) & 1; }

/* A model that wants `say`, then anything; what its guide names or forbids goes first. */
static void answer(const char *fields, const char *say, char *out, size_t cap)
{
    char body[512];
    struct ask *a;
    struct err_note note = {0};
    uint32_t bits[WORDS];
    size_t n = 0, at = 0;
    bool put = false;
    snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"p\"}]%s}", fields);
    if (prep_run(&a, &mini.env, API_CHAT, body, strlen(body), &note))
        fail_msg("%s: %s", note.param, note.text);
    struct guide *g = a->request[0]->ask.guide;
    assert_non_null(g);
    for (int i = 0; i < 100 && n + 1 < cap; i++) {
        int32_t id = g->op->only ? g->op->only(g) : GUIDE_MASK;
        assert_int_equal(g->op->only ? g->op->only(g) : GUIDE_MASK, id);
        const bool named = id >= 0;
        if (!named) {
            const bool masked = id == GUIDE_MASK;
            if (masked) assert_int_equal(g->op->mask(g, bits, &note), OK);
            id = say[at] ? MINI_BYTE + (uint8_t)say[at] : MINI_IM_END;
            for (int k = 0; masked && k < MINI_VOCAB && !allows(bits, id); k++) id = (id + 1) % MINI_VOCAB;
            if (masked && !allows(bits, id)) break;
        } else { /* a mask would say the same */
            assert_int_equal(g->op->mask(g, bits, &note), OK);
            for (int32_t k = 0; k < MINI_VOCAB; k++) assert_int_equal(allows(bits, k), k == id);
        }
        assert_int_equal(g->op->take(g, id, &note), OK);
        if (id == MINI_IM_END) break;
        out[n++] = (char)(id - MINI_BYTE);
        put = named &&
              (put || id == MINI_BYTE + '\n'); /* the end of the thought, which the model does not want */
        at += say[at] && !put;
    }
    out[n] = '\0';
    g->op->end(g);
    ask_free(a);
}

static void the_end_comes_when_the_budget_is_used_up(void **st)
{
    static const struct {
        const char *fields, *say, *want;
    } cases[] = {
        {",\"thinking_token_budget\":10", "<think>abcdef</think>yes",
         "<think>abc\n</think>\n\ndef</think>yes"},
        {",\"thinking_token_budget\":0", "<think>abc</think>yes", "<think>\n</think>\n\nabc</think>yes"},
        {",\"thinking_token_budget\":7", "<think>abc", "<think>\n</think>\n\nabc"},
        {",\"thinking_token_budget\":40", "<think>abc</think>yes", "<think>abc</think>yes"},
        {",\"thinking_token_budget\":13", "<think>abc</think>yes", "<think>abc</t\n</think>\n\nhink>yes"},
        {",\"thinking_token_budget\":5", "no thought <think>abc", "no thought <think>abc"},
        {",\"thinking_token_budget\":9,\"structured_outputs\":{\"regex\":\"[xy]{2}\"}", "<think>abcdxyz",
         "<think>ab\n</think>\n\nxx"},
        {",\"thinking_token_budget\":9,\"structured_outputs\":{\"choice\":[\"xy\"]}", "xy", "xy"},
    };
    (void)st;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[256];
        answer(cases[i].fields, cases[i].say, got, sizeof got);
        assert_string_equal(got, cases[i].want);
    }
}

static void a_thought_that_the_prompt_opens_has_all_of_it(void **st)
{
    (void)st;
    for (int budget = 0; budget < 5; budget++) {
        char fields[160], got[256], want[256];
        snprintf(
            fields, sizeof fields,
            ",\"thinking_token_budget\":%d,\"continue_final_message\":true,\"add_generation_prompt\":false,"
            "\"messages\":[{\"role\":\"assistant\",\"content\":\"<think>hm\"}]",
            budget);
        char body[256];
        snprintf(body, sizeof body, "{%s}", fields + 1);
        struct ask *a;
        struct err_note note = {0};
        assert_int_equal(prep_run(&a, &mini.env, API_CHAT, body, strlen(body), &note), OK);
        assert_true(a->think_open);
        struct guide *g = a->request[0]->ask.guide;
        size_t n = 0;
        for (int i = 0; i < 20; i++) {
            const int32_t id = g->op->only(g) >= 0 ? g->op->only(g) : MINI_BYTE + 'z';
            assert_int_equal(g->op->take(g, id, &note), OK);
            got[n++] = (char)(id - MINI_BYTE);
        }
        got[n] = '\0';
        snprintf(want, sizeof want, "%.*s\n</think>\n\n", budget, "zzzzz");
        assert_memory_equal(got, want, strlen(want));
        assert_int_equal(got[strlen(want)], 'z');
        g->op->end(g);
        ask_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(the_end_comes_when_the_budget_is_used_up),
        cmocka_unit_test(a_thought_that_the_prompt_opens_has_all_of_it),
    };
    return cmocka_run_group_tests(t, open_mini, close_mini);
}
