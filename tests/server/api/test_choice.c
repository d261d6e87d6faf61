/* choice: from token events to text: whole characters only, nothing lost, stops inside and at the end. */
#include <stdio.h>

#include "server/api/choice.h"
#include "base/utf8.h"
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

struct grown {
    char text[256];
    const char *finish;
    int n_token, cancels;
};

/* Feeds ids (ended by -1) and DONE; streamed: what is certain is taken away after each event. last: the final
 * id ends it. */
static struct grown grow(const char *fields, const int32_t *id, enum finish finish, bool last, bool streamed)
{
    char body[512];
    struct ask *a;
    struct err_note note = {0};
    struct choice c;
    struct grown g = {0};
    snprintf(body, sizeof body, "{\"prompt\":\"p\"%s}", fields);
    if (prep_run(&a, &mini.env, API_COMPLETIONS, body, strlen(body), &note))
        fail_msg("%s: %s", note.param, note.text);
    choice_init(&c, a, mini.tokenizer, 0);
    size_t n = 0;
    for (int i = 0;; i++) {
        struct event e = {.kind = id[i] < 0 ? EVENT_DONE : EVENT_TOKEN,
                          .finish = finish,
                          .token = {.id = id[i] < 0 ? 0 : id[i]},
                          .last = id[i] >= 0 && last && id[i + 1] < 0};
        g.cancels += choice_take(&c, &e);
        if (streamed || e.kind == EVENT_DONE) {
            assert_true(choice_say(&c));
            const struct strbuf *out = &c.said.text;
            assert_true(n + out->len < sizeof g.text);
            if (out->len) memcpy(g.text + n, out->data, out->len);
            n += out->len;
            choice_was_told(&c);
            assert_true(utf8_valid(g.text, n));
        }
        if (e.kind == EVENT_DONE) break;
    }
    assert_int_equal(c.failed, OK);
    g.finish = c.finish;
    assert_int_equal(c.end, strcmp(c.finish, "stop") == 0
                                ? FINISH_STOP
                                : FINISH_LENGTH); /* what is counted is what was told */
    g.n_token = c.n_token;
    choice_fini(&c);
    ask_free(a);
    return g;
}

static const struct {
    const char *fields, *bytes; /* bytes below MINI_BYTE are the special ids themselves */
    enum finish finish;
    bool last;
    const char *want, *want_finish;
    int n_token, cancels;
} cases[] = {
    {"", "hello", FINISH_LENGTH, false, "hello", "length", 5, 0},
    {"", "hello\x02", FINISH_STOP, true, "hello", "stop", 6, 0},
    {"", "gr\xc3\xbc\xc3\x9f", FINISH_LENGTH, false, "gr\xc3\xbc\xc3\x9f", "length", 6, 0},
    {"", "a\xf0\x9f\x98\x80z", FINISH_LENGTH, false, "a\xf0\x9f\x98\x80z", "length", 6, 0},
    {"", "a\xf0\x9f\x98", FINISH_LENGTH, false, "a\xef\xbf\xbd", "length", 4,
     0}, /* the end cuts a character */
    {"",
     "a\xff"
     "b",
     FINISH_LENGTH, false,
     "a\xef\xbf\xbd"
     "b",
     "length", 3, 0},
    {"",
     "a\xe2\x82"
     "b",
     FINISH_LENGTH, false,
     "a\xef\xbf\xbd"
     "b",
     "length", 4, 0},
    {",\"stop\":\"lo\"", "hello you", FINISH_CANCELLED, false, "hel", "stop", 5, 1},
    {",\"stop\":\"lo\",\"include_stop_str_in_output\":true", "hello you", FINISH_CANCELLED, false, "hello",
     "stop", 5, 1},
    {",\"stop\":[\"xyz\",\"hello\"]", "hello", FINISH_LENGTH, false, "", "stop", 5,
     1},                                                                            /* stop at max_tokens */
    {",\"stop\":\"lost\"", "hello", FINISH_LENGTH, false, "hello", "length", 5, 0}, /* held back, then text */
    {",\"stop\":\"lost\"", "hello\x02", FINISH_STOP, true, "hello", "stop", 6, 0},
    {",\"stop\":\"\xc3\xbc\"", "gr\xc3\xbcn", FINISH_CANCELLED, false, "gr", "stop", 4, 1},
    {",\"stop\":\"l\",\"min_tokens\":3", "hello", FINISH_CANCELLED, false, "hel", "stop", 4, 1},
    {",\"skip_special_tokens\":false",
     "a\x01"
     "b",
     FINISH_LENGTH, false, "a<|im_start|>b", "length", 3, 0},
    {"",
     "a\x01"
     "b",
     FINISH_LENGTH, false, "ab", "length", 3, 0},
    {",\"stop_token_ids\":[104]", "dde", FINISH_STOP, true, "dd", "stop", 3, 0},
    {",\"stop_token_ids\":[104],\"include_stop_str_in_output\":true", "dde", FINISH_STOP, true, "dde", "stop",
     3, 0},
};

static void streamed_and_whole_text_are_the_same(void **st)
{
    (void)st;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int streamed = 0; streamed < 2; streamed++) {
            int32_t id[32];
            int n = 0;
            for (const char *p = cases[i].bytes; *p; p++)
                id[n++] = (uint8_t)*p < MINI_BYTE ? (uint8_t)*p : MINI_BYTE + (uint8_t)*p;
            id[n] = -1;
            const struct grown g = grow(cases[i].fields, id, cases[i].finish, cases[i].last, streamed);
            if (strcmp(g.text, cases[i].want))
                fail_msg("case %zu gives \"%s\", not \"%s\"", i, g.text, cases[i].want);
            assert_string_equal(g.finish, cases[i].want_finish);
            assert_int_equal(g.n_token, cases[i].n_token);
            assert_int_equal(g.cancels, cases[i].cancels);
        }
}

static const struct {
    const char *text;
    bool open; /* the prompt ends inside <think> */
    const char *reason, *said;
} thoughts[] = {
    {"hello", false, "", "hello"},
    {"", false, "", ""},
    {"<think>\nwhy\n</think>\n\nbecause", false, "why\n", "because"},
    {"<think>why</think>because</think>", false, "why", "because</think>"},
    {"<think></think>x", false, "", "x"},
    {"<think>\n\n</think>\n\nx <think>y</think>", false, "", "x <think>y</think>"},
    {"<think>cut of", false, "cut of", ""},
    {"<think>cut </thi", false, "cut </thi", ""},
    {"<thinking>", false, "", "<thinking>"},
    {"<thi", false, "", "<thi"},
    {"<<think>x</think>", false, "", "<<think>x</think>"},
    {"a<think>x</think>", false, "", "a<think>x</think>"},
    {"<think>a<</think>b", false, "a<", "b"},
    {"<think>a</</think>b", false, "a</", "b"},
    {"\nwhy</think> so", true, "why", "so"},
    {"why", true, "why", ""},
    {"<think>why</think>so", true, "<think>why", "so"},
};

static void reasoning_is_told_from_the_answer_however_it_is_cut(void **st)
{
    (void)st;
    for (size_t i = 0; i < sizeof thoughts / sizeof *thoughts; i++)
        for (size_t part = 1; part < 12; part++) {
            struct tool_parser t;
            struct choice c = {0};
            struct strbuf reason, said;
            strbuf_init(&reason);
            strbuf_init(&said);
            tool_parser_init(&t, tool_formats, NULL, thoughts[i].open, tool_parts_take, &c.parts);
            const size_t n = strlen(thoughts[i].text);
            for (size_t at = 0; at < n; at += part)
                tool_parser_feed(&t, thoughts[i].text + at, at + part < n ? part : n - at);
            tool_parser_end(&t);
            for (int k = 0; k < c.parts.n; k++)
                strbuf_put(c.parts.v[k].kind == TOOL_TEXT ? &said : &reason, c.parts.v[k].text.data,
                           c.parts.v[k].text.len);
            tool_parser_fini(&t);
            tool_parts_fini(&c.parts);
            strbuf_putc(&reason, '\0');
            strbuf_putc(&said, '\0');
            if (strcmp(reason.data, thoughts[i].reason) || strcmp(said.data, thoughts[i].said))
                fail_msg("case %zu in parts of %zu: \"%s\" and \"%s\"", i, part, reason.data, said.data);
            strbuf_fini(&reason);
            strbuf_fini(&said);
        }
}

static void a_prompt_may_end_inside_a_thought(void **st)
{
    (void)st;
    static const struct {
        const char *text;
        bool tail, open;
    } prompt[] = {{"<think>", true, true},
                  {"a<think>\n", true, true},
                  {"<think>a", true, false},
                  {"", true, false},
                  {"<think>a", false, true},
                  {"<think>a</think>", false, false},
                  {"<think>a</think>b<think>", false, true},
                  {"<thin", false, false},
                  {"a", false, false}};
    for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++)
        assert_int_equal(
            tool_think_is_open(tool_formats, prompt[i].text, strlen(prompt[i].text), prompt[i].tail),
            prompt[i].open);
}

static void a_failed_request_has_no_finish(void **st)
{
    (void)st;
    struct ask *a;
    struct err_note note;
    struct choice c;
    assert_int_equal(prep_run(&a, &mini.env, API_COMPLETIONS, "{\"prompt\":\"p\"}", 14, &note), OK);
    choice_init(&c, a, mini.tokenizer, 0);
    c.r->shared.note.code = ERR_NAN;
    assert_false(choice_take(&c, &(struct event){.kind = EVENT_DONE, .finish = FINISH_ERROR}));
    assert_int_equal(c.failed, ERR_NAN);
    assert_null(c.finish);
    choice_fini(&c);
    ask_free(a);
}

/* Code points of the text that end before each token; what is not told has none. */
static void offsets_count_code_points_of_the_text(void **st)
{
    (void)st;
    static const char bytes[] = {'a', '\xf0', '\x9f', '\x98', '\x80', 'z', 1, 'b', '\xff', 'c', '\xe2', 'd'};
    static const int want[] = {0, 1, 1, 1, 1, 2, 3, 3, 4, 5, 6, 7};
    struct ask *a;
    struct err_note note;
    struct choice c;
    const char *body = "{\"prompt\":\"p\",\"logprobs\":0}";
    assert_int_equal(prep_run(&a, &mini.env, API_COMPLETIONS, body, strlen(body), &note), OK);
    choice_init(&c, a, mini.tokenizer, 0);
    for (size_t i = 0; i < sizeof bytes; i++) {
        const uint8_t b = (uint8_t)bytes[i];
        struct event e = {.kind = EVENT_TOKEN, .token = {.id = b < MINI_BYTE ? b : MINI_BYTE + b}};
        assert_false(choice_take(&c, &e));
        assert_int_equal(c.offset[i], want[i]);
    }
    choice_take(&c, &(struct event){.kind = EVENT_DONE, .finish = FINISH_LENGTH});
    choice_fini(&c);
    ask_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_and_whole_text_are_the_same),
        cmocka_unit_test(reasoning_is_told_from_the_answer_however_it_is_cut),
        cmocka_unit_test(a_prompt_may_end_inside_a_thought),
        cmocka_unit_test(offsets_count_code_points_of_the_text),
        cmocka_unit_test(a_failed_request_has_no_finish),
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
