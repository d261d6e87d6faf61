/* Texts made of parts: what stands around a constrained body. Over a vocabulary of all bytes, some longer
 * tokens that cross the ends of parts, and tokens that are not text. */
#include <stdlib.h>
#include <string.h>

#include "server/text/grammar/grammar.h"
#include "tests/base/cm.h"

enum {
    EOS = 256,
    CALL,
    END_THINK,
    OTHER_SPECIAL,
    UNUSED,
    LONG0,
    N_TOKEN = LONG0 + 8,
    BITS = (N_TOKEN + 31) / 32
};

static char byte[256];
static struct grammar_vocab *vocab;

static int make_vocab(void **state)
{
    (void)state;
    static const char *const longer[N_TOKEN - LONG0] = {">{\"",    "k>\n\n",   "k>x",  "</think>{\"a\": 1}",
                                                        "<think>", "}<call>{", "\n\n", "ab"};
    static const char *const special[] = {"\xff<call>", "\xff</think>", "\xff<|im_start|>"};
    struct grammar_token token[N_TOKEN] = {{0}};
    int32_t eos = EOS;
    for (int i = 0; i < 256; i++) {
        byte[i] = (char)i;
        token[i] = (struct grammar_token){&byte[i], 1};
    }
    for (int i = 0; i < 3; i++) token[CALL + i] = (struct grammar_token){special[i], strlen(special[i])};
    for (int i = LONG0; i < N_TOKEN; i++)
        token[i] = (struct grammar_token){longer[i - LONG0], strlen(longer[i - LONG0])};
    return grammar_vocab_new(&vocab, token, N_TOKEN, &eos, 1, NULL) == OK ? 0 : -1;
}

static int drop_vocab(void **state)
{
    (void)state;
    grammar_vocab_give(vocab);
    return 0;
}

#define TEXT(s)                                                                                              \
    {                                                                                                        \
        .kind = GRAMMAR_TEXT, .text = (s), .n = sizeof(s) - 1                                                \
    }
#define MARK(s)                                                                                              \
    {                                                                                                        \
        .kind = GRAMMAR_MARK, .text = (s), .n = sizeof(s) - 1                                                \
    }
#define UNTIL(s, ...)                                                                                        \
    {                                                                                                        \
        .kind = GRAMMAR_UNTIL, .text = (s), .n = sizeof(s) - 1, __VA_ARGS__                                  \
    }
#define SCHEMA(s)                                                                                            \
    {                                                                                                        \
        .kind = GRAMMAR_BODY, .body = GRAMMAR_SCHEMA, .text = (s), .n = sizeof(s) - 1                        \
    }
#define REGEX(s)                                                                                             \
    {                                                                                                        \
        .kind = GRAMMAR_BODY, .body = GRAMMAR_REGEX, .text = (s), .n = sizeof(s) - 1                         \
    }
#define OF(how, list, ...)                                                                                   \
    {                                                                                                        \
        .kind = GRAMMAR_##how, .part = (list), .n_part = sizeof(list) / sizeof *(list), __VA_ARGS__          \
    }

static struct grammar *compile(const struct grammar_part *root)
{
    struct grammar *g;
    struct err_note note = {0};
    if (grammar_compile_parts(&g, vocab, root, NULL, NULL, &note) != OK) fail_msg("%s", note.text);
    return g;
}

static bool has(const uint32_t *bits, int i) { return bits[i >> 5] >> (i & 31) & 1; }

/* The mask says of every token what accepting it says. */
static void check_mask(struct grammar_matcher *m)
{
    uint32_t bits[BITS];
    assert_int_equal(grammar_matcher_mask(m, bits), OK);
    for (int32_t i = 0; i < N_TOKEN; i++) {
        const bool in = grammar_matcher_accept(m, i) == OK;
        if (in != has(bits, i)) fail_msg("token %d: mask %d, accept %d", i, has(bits, i), in);
        if (in) grammar_matcher_rollback(m, 1);
    }
}

/* Reads tokens; a text is its bytes. True when all came in and the text may end there. */
static bool whole(struct grammar *g, const char *text, const int32_t *token, size_t n)
{
    struct grammar_matcher *m;
    bool ok = true;
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    n = text ? strlen(text) : n;
    for (size_t i = 0; i < n && ok; i++) {
        check_mask(m);
        ok = grammar_matcher_accept(m, text ? (unsigned char)text[i] : token[i]) == OK;
    }
    ok = ok && grammar_matcher_done(m);
    grammar_matcher_free(m);
    return ok;
}
#define TOKENS(...)                                                                                          \
    NULL, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

/* --- thoughts */

static void a_thought_ends_at_its_first_mark_and_the_body_follows(void **state)
{
    (void)state;
    const struct grammar_part list[] = {UNTIL("</think>"), REGEX("\\n{0,2}"),
                                        SCHEMA("{\"type\":\"integer\"}")};
    const struct grammar_part root = OF(SEQ, list);
    struct grammar *g = compile(&root);
    assert_true(whole(g, "</think>7", NULL, 0));
    assert_true(whole(g, "so </thin <</think>\n\n-12", NULL, 0));
    assert_true(whole(g, "\xff\x80 any byte</think>3", NULL, 0));
    assert_false(whole(g, "7", NULL, 0));
    assert_false(whole(g, "</think>", NULL, 0));
    assert_false(whole(g, "</think> 7", NULL, 0));
    assert_false(whole(g, "a</think>b</think>7", NULL, 0));
    assert_true(whole(g, TOKENS('a', OTHER_SPECIAL, END_THINK, '7')));
    assert_true(whole(g, TOKENS('<', '/', 't', 'h', 'i', 'n', LONG0 + 1, '7'))); /* "k>\n\n" */
    assert_false(whole(g, TOKENS('<', '/', 't', 'h', 'i', 'n', LONG0 + 2)));     /* "k>x" */
    assert_true(whole(g, TOKENS('<', '/', 't', 'h', 'i', 'x', LONG0 + 2, END_THINK, '1')));
    grammar_give(g);
}

static void a_thought_may_be_left_out_where_the_model_chooses(void **state)
{
    (void)state;
    const struct grammar_part body = SCHEMA("{\"const\":{\"a\":1}}");
    const struct grammar_part thought[] = {MARK("<think>"), UNTIL("</think>"), body};
    const struct grammar_part ways[] = {OF(SEQ, thought), body};
    const struct grammar_part root = OF(ALT, ways);
    struct grammar *g = compile(&root);
    assert_true(whole(g, "{\"a\": 1}", NULL, 0));
    assert_true(whole(g, "<think>{\"a\": 2}</think>{\"a\": 1}", NULL, 0));
    assert_true(whole(g, TOKENS(LONG0 + 4, 'x', LONG0 + 3))); /* <think> x </think>{"a": 1} */
    assert_false(whole(g, "x</think>{\"a\": 1}", NULL, 0));
    assert_false(whole(g, "<think>{\"a\": 1}", NULL, 0));
    grammar_give(g);
}

/* --- calls */

static const char *const call_mark[] = {"<call>"};

static struct grammar *calls(void)
{
    const struct grammar_part one[] = {UNTIL("<call>"),
                                       SCHEMA("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"
                                              "\"integer\"}},\"required\":[\"a\"],"
                                              "\"additionalProperties\":false}"),
                                       TEXT("</call>")};
    const struct grammar_part seq = OF(SEQ, one);
    const struct grammar_part list[] = {{.kind = GRAMMAR_REP, .part = &seq},
                                        {.kind = GRAMMAR_FREE, .avoid = call_mark, .n_avoid = 1}};
    const struct grammar_part root = OF(SEQ, list);
    return compile(&root);
}

static void text_is_free_until_a_call_opens_and_behind_its_end(void **state)
{
    (void)state;
    struct grammar *g = calls();
    assert_true(whole(g, "", NULL, 0));
    assert_true(whole(g, "hello <cal", NULL, 0));
    assert_true(whole(g, "x<call>{\"a\": 5}</call>", NULL, 0));
    assert_true(whole(g, "<call>{\"a\": 5}</call> and <call>{\"a\": 6}</call>.", NULL, 0));
    assert_false(whole(g, "x<call>{\"a\": 5}", NULL, 0));
    assert_false(whole(g, "x<call>hello", NULL, 0));
    assert_false(whole(g, "x<call>{\"a\": \"5\"}</call>", NULL, 0));
    assert_true(whole(g, TOKENS('h', OTHER_SPECIAL, CALL, '{', '"', 'a', '"', ':', ' ', '1', '}', '<', '/',
                                'c', 'a', 'l', 'l', '>')));
    assert_false(whole(g, TOKENS(LONG0 + 5, '"'))); /* "}<call>{" opens a call, which has no end yet */
    grammar_give(g);
}

/* Text that opens no call is never held back: outside of one every token may come. */
static void free_text_lets_every_token_through_that_does_not_open_a_wrong_call(void **state)
{
    (void)state;
    struct grammar *g = calls();
    struct grammar_matcher *m;
    uint32_t bits[BITS];
    static const char text[] = "any <call text < <cal";
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    for (size_t i = 0; i < sizeof text; i++) {
        assert_int_equal(grammar_matcher_mask(m, bits), OK);
        for (int32_t t = 0; t < N_TOKEN; t++) {
            const bool silent = t == UNUSED,
                       closes = i >= 21 && t == LONG0 + 2; /* "<cal" + "k>x" opens none */
            if (has(bits, t) == silent && !closes) fail_msg("byte %zu, token %d", i, t);
        }
        assert_int_equal(grammar_matcher_accept(m, (unsigned char)text[i]), OK);
    }
    grammar_matcher_free(m);
    grammar_give(g);
}

static void a_part_is_repeated_as_often_as_it_says(void **state)
{
    (void)state;
    const struct grammar_part ab[] = {TEXT("a"), TEXT("b")}, seq = OF(SEQ, ab);
    for (uint32_t min = 0; min < 3; min++)
        for (uint32_t max = min ? min : 1; max < 4; max++) {
            const struct grammar_part root = {.kind = GRAMMAR_REP, .part = &seq, .min = min, .max = max};
            struct grammar *g = compile(&root);
            char text[16] = "";
            for (uint32_t n = 0; n < 6; n++, strcat(text, "ab"))
                assert_int_equal(whole(g, text, NULL, 0), n >= min && n <= max);
            grammar_give(g);
        }
    const struct grammar_part root = {.kind = GRAMMAR_REP, .part = &seq, .min = 2};
    struct grammar *g = compile(&root);
    assert_false(whole(g, "ab", NULL, 0));
    assert_true(whole(g, "abababab", NULL, 0));
    grammar_give(g);
}

/* Until one of two marks, each with its own body: neither may hide the other. */
static void of_two_marks_the_first_decides(void **state)
{
    (void)state;
    static const char *const b[] = {"<b>"}, *const a[] = {"<a>"};
    const struct grammar_part to_a[] = {UNTIL("<a>", .avoid = b, .n_avoid = 1), TEXT("1")};
    const struct grammar_part to_b[] = {UNTIL("<b>", .avoid = a, .n_avoid = 1), TEXT("2")};
    const struct grammar_part ways[] = {OF(SEQ, to_a), OF(SEQ, to_b)};
    const struct grammar_part root = OF(ALT, ways);
    struct grammar *g = compile(&root);
    assert_true(whole(g, "x<a>1", NULL, 0));
    assert_true(whole(g, "x<b>2", NULL, 0));
    assert_false(whole(g, "x<a>2", NULL, 0));
    assert_false(whole(g, "<a><b>2", NULL, 0));
    assert_false(whole(g, "<b><a>1", NULL, 0));
    grammar_give(g);
}

/* The longest run of any characters, and what goes on behind it, in one token. */
static void tokens_go_on_behind_a_lexeme_of_bounded_length(void **state)
{
    (void)state;
    const struct grammar_part list[] = {REGEX(".{0,1}"), TEXT(">x")}, root = OF(SEQ, list);
    struct grammar *g = compile(&root);
    assert_true(whole(g, TOKENS(LONG0 + 2))); /* "k>x" */
    assert_true(whole(g, ">x", NULL, 0));
    assert_false(whole(g, TOKENS('k', LONG0 + 2)));
    grammar_give(g);
}

/* --- refusals and keys */

static void a_refusal_names_its_part(void **state)
{
    (void)state;
    struct grammar *g;
    struct err_note note = {0};
    struct grammar_part list[] = {TEXT("x"), SCHEMA("{\"properties\":{\"a\":{\"format\":\"no-such\"}}}")};
    list[1].name = "tools[3].function.parameters";
    const struct grammar_part root = OF(SEQ, list);
    assert_int_equal(grammar_compile_parts(&g, vocab, &root, NULL, NULL, &note), ERR_UNSUPPORTED);
    assert_null(g);
    assert_string_equal(note.param, "tools[3].function.parameters/properties/a/format");
}

static void parts_too_deep_are_refused(void **state)
{
    (void)state;
    struct grammar_part nest[GRAMMAR_PARTS_DEEP + 1];
    struct grammar *g;
    struct err_note note = {0};
    nest[GRAMMAR_PARTS_DEEP] = (struct grammar_part)TEXT("a");
    for (int i = GRAMMAR_PARTS_DEEP; i-- > 0;)
        nest[i] = (struct grammar_part){.kind = GRAMMAR_SEQ, .part = &nest[i + 1], .n_part = 1};
    assert_int_equal(grammar_compile_parts(&g, vocab, &nest[0], NULL, NULL, &note), ERR_UNSUPPORTED);
    assert_int_equal(grammar_compile_parts(&g, vocab, &nest[1], NULL, NULL, &note), OK);
    grammar_give(g);
}

static void keys_are_equal_for_equal_parts_alone(void **state)
{
    (void)state;
    static const char *const avoid[] = {"ab"};
    const struct grammar_part ab[] = {TEXT("a"), TEXT("b")}, abc[] = {TEXT("ab"), TEXT("")};
    const struct grammar_part same[] = {TEXT("a"), TEXT("b")};
    const struct grammar_part all[] = {OF(SEQ, ab),
                                       OF(ALT, ab),
                                       OF(SEQ, abc),
                                       TEXT("ab"),
                                       MARK("ab"),
                                       UNTIL("ab"),
                                       SCHEMA("ab"),
                                       REGEX("ab"),
                                       {.kind = GRAMMAR_FREE},
                                       {.kind = GRAMMAR_FREE, .avoid = avoid, .n_avoid = 1},
                                       {.kind = GRAMMAR_REP, .part = ab, .min = 1},
                                       {.kind = GRAMMAR_REP, .part = ab, .max = 1}};
    enum { N = sizeof all / sizeof *all };
    struct strbuf key[N], again;
    for (int i = 0; i < N; i++) {
        strbuf_init(&key[i]);
        grammar_part_key(&all[i], &key[i]);
        for (int k = 0; k < i; k++)
            assert_false(key[k].len == key[i].len && !memcmp(key[k].data, key[i].data, key[i].len));
    }
    const struct grammar_part twin = OF(SEQ, same);
    strbuf_init(&again);
    grammar_part_key(&twin, &again);
    assert_int_equal(again.len, key[0].len);
    assert_memory_equal(again.data, key[0].data, again.len);
    strbuf_fini(&again);
    for (int i = 0; i < N; i++) strbuf_fini(&key[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thought_ends_at_its_first_mark_and_the_body_follows),
        cmocka_unit_test(a_thought_may_be_left_out_where_the_model_chooses),
        cmocka_unit_test(text_is_free_until_a_call_opens_and_behind_its_end),
        cmocka_unit_test(free_text_lets_every_token_through_that_does_not_open_a_wrong_call),
        cmocka_unit_test(a_part_is_repeated_as_often_as_it_says),
        cmocka_unit_test(of_two_marks_the_first_decides),
        cmocka_unit_test(tokens_go_on_behind_a_lexeme_of_bounded_length),
        cmocka_unit_test(a_refusal_names_its_part),
        cmocka_unit_test(parts_too_deep_are_refused),
        cmocka_unit_test(keys_are_equal_for_equal_parts_alone),
    };
    return cmocka_run_group_tests(tests, make_vocab, drop_vocab);
}
