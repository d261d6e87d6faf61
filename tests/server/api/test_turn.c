/* turn: blocks come out the same however their text is cut; each begins once, grows, and ends once. */
#include <stdio.h>
#include <string.h>

#include "server/api/turn.h"
#include "tests/base/cm.h"

struct heard {
    char text[512];
    int open, wrong;
};

static void on_begin(void *arg, const struct turn_block *b)
{
    struct heard *h = arg;
    h->wrong += h->open++ != 0 || !b->open;
    const size_t n = strlen(h->text);
    snprintf(h->text + n, sizeof h->text - n, "%s%d%c(", b->index ? " " : "", b->index, "htcC"[b->kind]);
    if (turn_is_call(b->kind)) strncat(h->text, b->name.data, sizeof h->text - strlen(h->text) - 1);
}

static void on_grow(void *arg, const struct turn_block *b, const char *p, size_t n)
{
    struct heard *h = arg;
    h->wrong +=
        n == 0 || h->open != 1 || b->text.len < n || memcmp(b->text.data + b->text.len - n, p, n) != 0;
    strncat(h->text, p, n);
}

static void on_end(void *arg, const struct turn_block *b)
{
    struct heard *h = arg;
    h->wrong += --h->open != 0 || b->open;
    strcat(h->text, ")");
}

static const struct turn_ear ear = {.begin = on_begin, .grow = on_grow, .end = on_end};

static void blocks_are_the_same_for_every_cut(void **st)
{
    static const struct {
        enum turn_kind kind;
        const char *text;
    } part[] = {{TURN_THOUGHT, "let me see"}, {TURN_TEXT, "It is so."},
                {TURN_CALL, "{\"a\":1}"},     {TURN_CALL, "{}"},
                {TURN_TEXT, "Done."},         {TURN_THOUGHT, "hm"}};
    (void)st;
    for (size_t step = 1; step < 12; step++) {
        struct turn t;
        struct heard h = {0};
        turn_init(&t, &ear, &h);
        turn_end(&t); /* of nothing */
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            const char *p = part[i].text;
            if (part[i].kind == TURN_CALL) turn_call(&t, TURN_CALL, "id", 2, "f:", 2);
            for (size_t n = strlen(p), k; n > 0; n -= k, p += k) {
                k = n < step ? n : step;
                if (part[i].kind == TURN_CALL)
                    turn_arguments(&t, p, k);
                else
                    turn_put(&t, part[i].kind, p, k);
            }
            if (part[i].kind != TURN_CALL)
                turn_put(&t, part[i].kind == TURN_TEXT ? TURN_THOUGHT : TURN_TEXT, "", 0);
        }
        turn_end(&t);
        turn_end(&t);
        assert_string_equal(h.text, "0h(let me see) 1t(It is so.) 2c(f:{\"a\":1}) 3c(f:{}) 4t(Done.) 5h(hm)");
        assert_int_equal(h.wrong, 0);
        assert_int_equal(t.n, 6);
        assert_string_equal(t.block[2].id.data, "id");
        assert_string_equal(t.block[2].text.data, "{\"a\":1}");
        assert_false(turn_failed(&t));
        turn_fini(&t);
    }
}

/* A text may come out of a call, between its name and its arguments; a call of a custom tool is its text. */
static void answers_with_calls_are_the_same_for_every_cut(void **st)
{
    static const char answer[] =
        "Well.<tool_call>\n{\"name\": \"f\", \"note\": 1, \"arguments\": {\"a\": 2}}\n</tool_call>\n"
        "<tool_call>\n{\"name\": \"c\", \"arguments\": {\"input\": \"x\\n\\u00e9\"}}\n</tool_call>"
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\"";
    static const char want[] = "0t(Well.) 1c(f{\"a\": 2}) 2t(\"note\": 1) 3C(cx\n\xc3\xa9) 4c(f{\"b\")";
    const struct tool tool[] = {{.name = "f", .n_name = 1}, {.name = "c", .n_name = 1, .one_text = true}};
    const struct tool_set set = {.tool = tool, .n = 2};
    const struct ask ask = {.thinks = true, .format = &tool_formats[0], .tools = &set};
    (void)st;
    for (size_t step = 1; step <= sizeof answer; step++) {
        struct choice c = {.ask = &ask};
        struct turn t;
        struct heard h = {0};
        turn_init(&t, &ear, &h);
        tool_parts_init(&c.parts);
        tool_parser_init(&c.parser, ask.format, &set, false, tool_parts_take, &c.parts);
        for (size_t i = 0, k; i < sizeof answer - 1; i += k, turn_take(&t, &c)) {
            k = sizeof answer - 1 - i < step ? sizeof answer - 1 - i : step;
            tool_parser_feed(&c.parser, answer + i, k);
        }
        tool_parser_end(&c.parser);
        c.done = true;
        turn_take(&t, &c);
        turn_end(&t);
        assert_string_equal(h.text, want);
        assert_int_equal(h.wrong, 0);
        assert_true(t.block[1].whole && t.block[3].whole && !t.block[4].whole);
        assert_false(turn_failed(&t));
        turn_fini(&t);
        tool_parser_fini(&c.parser);
        tool_parts_fini(&c.parts);
    }
}

static void without_an_ear_the_text_is_kept(void **st)
{
    (void)st;
    struct turn t;
    turn_init(&t, NULL, NULL);
    turn_put(&t, TURN_TEXT, "a", 1);
    turn_put(&t, TURN_TEXT, "b", 1);
    turn_put(&t, TURN_THOUGHT, "c", 1);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.block[0].text.data, "ab");
    assert_true(!t.block[0].open && t.block[1].open);
    turn_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_the_same_for_every_cut),
        cmocka_unit_test(answers_with_calls_are_the_same_for_every_cut),
        cmocka_unit_test(without_an_ear_the_text_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
